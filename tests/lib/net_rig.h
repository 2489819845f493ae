/* net_rig.h - real loop, real sockets on 127.0.0.1: two nets with keys, and
 * waits that end.
 *
 * Depends on: net, mem; libuv.  Thread: the test's, which is the loop's.
 *
 *     struct net_rig rig;
 *     net_rig_begin(&rig);
 *     struct net_inbox in = {.want = 1};
 *     struct net_socket *s = net_rig_listen(&rig, rig.server, &in);
 *     struct net_socket *c = net_rig_connect(&rig, rig.client, &out);
 *     ... net_send(c, net_rig_text("hello"), net_rig_none) ...
 *     assert_true(net_rig_until(&rig, net_inbox_full, &in));
 *     net_inbox_fini(&in);
 *     net_rig_end(&rig); */
#ifndef TESTS_LIB_NET_RIG_H
#define TESTS_LIB_NET_RIG_H

#include <uv.h>

#include "proto/net.h"

/* No wait is longer; only what hangs takes so long. */
#define NET_RIG_DEADLINE_MS 60000

struct net_rig {
    uv_loop_t loop;
    uv_timer_t timer;
    uint64_t end_ms; /* of the present wait */
    bool late;
    struct net_key server_key, client_key;
    struct net *server, *client;
    uint32_t port; /* of net_rig_listen, which binds it again if not 0 */
};

/* What a socket received, and whom it admits. */
struct net_inbox {
    struct net_message {
        uint8_t key[KEY_BYTES];
        char host[LIMIT_ADDRESS + 1];
        char *header, *tensor; /* copies; a NUL follows */
        size_t header_bytes, tensor_bytes;
    } * message;
    size_t n, room;
    size_t want;              /* for net_inbox_full */
    bool refuse, count_only;  /* admit nobody; keep no copies */
    const uint8_t *only_key;  /* NULL: anybody */
    size_t n_asked, n_let_in; /* admit: calls, and those that said yes */
    /* Called after the message is in; may be NULL. */
    void (*then)(struct net_inbox *in, struct net_socket *s);
    void *arg;
};

void net_rig_begin(struct net_rig *rig);
/* Ends with every handle closed; false if something kept the loop busy. */
NODISCARD bool net_rig_end(struct net_rig *rig);

/* Runs the loop until done(arg), which is asked after every turn and at least
 * every 10 ms, or the deadline; false: it was that. */
NODISCARD bool net_rig_until(struct net_rig *rig, bool (*done)(void *arg),
                             void *arg);
/* Runs the loop for so long. */
void net_rig_run(struct net_rig *rig, unsigned ms);

/* Options that fill an inbox: 64 KiB frames, 1000 messages. */
struct net_options net_rig_options(struct net_inbox *in);
/* NULL on failure, with the sentence on standard error. */
struct net_socket *net_rig_listen(struct net_rig *rig, struct net *n,
                                  struct net_inbox *in);
struct net_socket *net_rig_connect(struct net_rig *rig, struct net *n,
                                   struct net_inbox *in);
/* Another net on the rig's loop; the caller's to net_free. */
struct net *net_rig_net(struct net_rig *rig, const struct net_key *key);

struct net_frame net_rig_text(const char *text);
extern const struct net_frame net_rig_none;

bool net_inbox_full(void *in); /* n >= want */
/* Message i is this text without a tensor. */
bool net_inbox_is(const struct net_inbox *in, size_t i, const char *text);
void net_inbox_fini(struct net_inbox *in);

#endif

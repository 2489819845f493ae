#include "tests/lib/net_rig.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define TICK_MS 10

const struct net_frame net_rig_none = {NULL, 0};

struct net_frame net_rig_text(const char *text)
{
    return (struct net_frame){text, strlen(text)};
}

/* A test cannot go on without these. */
static void must(bool ok, const char *what, const struct error *err)
{
    if (ok) return;
    fprintf(stderr, "net_rig: %s: %s\n", what, err->text);
    fflush(stderr);
    __builtin_trap();
}

struct net *net_rig_net(struct net_rig *rig, const struct net_key *key)
{
    struct error err = {0};
    struct net *n = NULL;
    const enum status st = net_create(&n, &rig->loop, key, &err);
    must(st == ST_OK, "net_create", &err);
    return n;
}

void net_rig_begin(struct net_rig *rig)
{
    struct error err = {0};
    memset(rig, 0, sizeof *rig);
    must(uv_loop_init(&rig->loop) == 0, "uv_loop_init", &err);
    must(uv_timer_init(&rig->loop, &rig->timer) == 0, "uv_timer", &err);
    must(net_key_make(&rig->server_key, &err) == ST_OK, "key", &err);
    must(net_key_make(&rig->client_key, &err) == ST_OK, "key", &err);
    rig->server = net_rig_net(rig, &rig->server_key);
    rig->client = net_rig_net(rig, &rig->client_key);
}

/* Ticks, so that done() is asked even when no socket has news. */
static void on_tick(uv_timer_t *timer)
{
    struct net_rig *rig = timer->data;
    rig->late = uv_now(&rig->loop) >= rig->end_ms;
}

static void start_timer(struct net_rig *rig, unsigned ms)
{
    rig->late = false;
    rig->timer.data = rig;
    uv_update_time(&rig->loop);
    rig->end_ms = uv_now(&rig->loop) + ms;
    uv_timer_start(&rig->timer, on_tick, TICK_MS, TICK_MS);
}

bool net_rig_until(struct net_rig *rig, bool (*done)(void *arg), void *arg)
{
    start_timer(rig, NET_RIG_DEADLINE_MS);
    bool is_done;
    while (!(is_done = done(arg)) && !rig->late) {
        uv_run(&rig->loop, UV_RUN_ONCE);
    }
    uv_timer_stop(&rig->timer);
    return is_done;
}

void net_rig_run(struct net_rig *rig, unsigned ms)
{
    start_timer(rig, ms);
    while (!rig->late) uv_run(&rig->loop, UV_RUN_ONCE);
    uv_timer_stop(&rig->timer);
}

bool net_rig_end(struct net_rig *rig)
{
    net_free(rig->client, 0);
    net_free(rig->server, 0);
    uv_close((uv_handle_t *)&rig->timer, NULL);
    /* Only closing handles are left, unless a test failed half-way: that must
     * not hang. */
    for (int i = 0; i < 100; i++) {
        if (uv_run(&rig->loop, UV_RUN_NOWAIT) == 0) break;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return uv_loop_close(&rig->loop) == 0;
}

static char *copy_of(struct net_frame f)
{
    char *p = mem_alloc(f.bytes + 1);
    if (p && f.bytes > 0) memcpy(p, f.data, f.bytes);
    if (p) p[f.bytes] = '\0';
    return p;
}

static void on_receive(void *arg, struct net_socket *s,
                       const uint8_t key[KEY_BYTES], const char *host,
                       struct net_frame header, struct net_frame tensor)
{
    struct net_inbox *in = arg;
    if (!in->count_only) {
        if (in->n == in->room) {
            in->room = in->room ? 2 * in->room : 64;
            in->message =
                mem_realloc(in->message, in->room * sizeof *in->message);
            must(in->message != NULL, "memory", &(struct error){0});
        }
        struct net_message *m = &in->message[in->n];
        *m = (struct net_message){0};
        memcpy(m->key, key, KEY_BYTES);
        (void)snprintf(m->host, sizeof m->host, "%s", host);
        m->header = copy_of(header);
        m->tensor = copy_of(tensor);
        must(m->header && m->tensor, "memory", &(struct error){0});
        m->header_bytes = header.bytes;
        m->tensor_bytes = tensor.bytes;
    }
    in->n++;
    if (in->then) in->then(in, s);
}

static bool on_admit(void *arg, struct net_socket *s,
                     const uint8_t key[KEY_BYTES])
{
    (void)s;
    struct net_inbox *in = arg;
    in->n_asked++;
    if (in->refuse) return false;
    if (in->only_key && memcmp(in->only_key, key, KEY_BYTES) != 0) {
        return false;
    }
    in->n_let_in++;
    return true;
}

struct net_options net_rig_options(struct net_inbox *in)
{
    return (struct net_options){.name = "control",
                                .message_max = 64u << 10,
                                .queue_max = 1000,
                                .receive = on_receive,
                                .admit = on_admit,
                                .arg = in};
}

struct net_socket *net_rig_listen(struct net_rig *rig, struct net *n,
                                  struct net_inbox *in)
{
    const struct net_options o = net_rig_options(in);
    struct error err = {0};
    struct net_socket *s = NULL;
    if (net_listen(&s, n, "127.0.0.1", &rig->port, &o, &err) != ST_OK) {
        fprintf(stderr, "net_rig: %s\n", err.text);
        return NULL;
    }
    return s;
}

struct net_socket *net_rig_connect(struct net_rig *rig, struct net *n,
                                   struct net_inbox *in)
{
    const struct net_options o = net_rig_options(in);
    struct error err = {0};
    struct net_socket *s = NULL;
    if (net_connect(&s, n, "127.0.0.1", rig->port, rig->server_key.pub, &o,
                    &err) != ST_OK) {
        fprintf(stderr, "net_rig: %s\n", err.text);
        return NULL;
    }
    return s;
}

bool net_inbox_full(void *arg)
{
    const struct net_inbox *in = arg;
    return in->n >= in->want;
}

bool net_inbox_is(const struct net_inbox *in, size_t i, const char *text)
{
    return i < in->n && strcmp(in->message[i].header, text) == 0 &&
           in->message[i].tensor_bytes == 0;
}

void net_inbox_fini(struct net_inbox *in)
{
    if (!in->count_only) {
        for (size_t i = 0; i < in->n; i++) {
            mem_free(in->message[i].header);
            mem_free(in->message[i].tensor);
        }
    }
    mem_free(in->message);
    *in = (struct net_inbox){0};
}

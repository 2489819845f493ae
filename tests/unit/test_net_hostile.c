/* Encrypted sockets and peers that are strange, greedy, lying or broken:
 * each costs itself its connection and nobody else anything. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zmq.h>

#include "common/rng.h"
#include "proto/net_peers.h"
#include "tests/lib/net_rig.h"

static struct net_rig rig;
static struct net_inbox at_server, at_client;
static struct net_key other_key; /* of the hostile peer */
static void *context;            /* of raw sockets */

static int setup(void **state)
{
    (void)state;
    net_rig_begin(&rig);
    context = zmq_ctx_new();
    return net_key_make(&other_key, NULL) == ST_OK && context ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    zmq_ctx_term(context);
    const bool ended = net_rig_end(&rig);
    net_inbox_fini(&at_server);
    net_inbox_fini(&at_client);
    return ended && mem_in_use() == 0 ? 0 : -1;
}

static void expect(struct net_inbox *in, size_t n)
{
    in->want = n;
    assert_true(net_rig_until(&rig, net_inbox_full, in));
}

static void say(struct net_socket *s, const char *text)
{
    assert_int_equal(net_send(s, net_rig_text(text), net_rig_none), ST_OK);
}

/* n messages of the good client come through, one after the other. */
static void good_client_works(struct net_socket *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        say(c, "good");
        expect(&at_server, at_server.n + 1);
        const struct net_message *m = &at_server.message[at_server.n - 1];
        assert_memory_equal(m->key, rig.client_key.pub, KEY_BYTES);
        assert_string_equal(m->header, "good");
    }
}

static bool let_in(void *arg)
{
    return at_server.n_let_in >= *(size_t *)arg;
}

/* n handshakes in all have been admitted. */
static void expect_let_in(size_t n)
{
    assert_true(net_rig_until(&rig, let_in, &n));
}

/* --------------------------------------- other uses of ZeroMQ itself */

/* A DEALER of our own making.  route: the routing id it claims, or NULL. */
static void *raw_dealer(const struct net_key *key, const char *route)
{
    void *z = zmq_socket(context, ZMQ_DEALER);
    char endpoint[64];
    const int linger = 0, queue = 10;
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", rig.port);
    assert_non_null(z);
    zmq_setsockopt(z, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(z, ZMQ_RCVHWM, &queue, sizeof queue);
    if (route) zmq_setsockopt(z, ZMQ_ROUTING_ID, route, strlen(route));
    zmq_setsockopt(z, ZMQ_CURVE_SERVERKEY, rig.server_key.pub, KEY_BYTES);
    zmq_setsockopt(z, ZMQ_CURVE_PUBLICKEY, key->pub, KEY_BYTES);
    zmq_setsockopt(z, ZMQ_CURVE_SECRETKEY, key->secret, KEY_BYTES);
    assert_int_equal(zmq_connect(z, endpoint), 0);
    return z;
}

static void raw_send(void *z, int n_frames, const char *text)
{
    for (int i = 1; i <= n_frames; i++) {
        assert_int_equal(
            zmq_send(z, text, strlen(text), i < n_frames ? ZMQ_SNDMORE : 0),
            strlen(text));
    }
}

struct raw {
    void *z;
    const char *want;
};

/* The next message is there, and is this. */
static bool raw_got(void *arg)
{
    const struct raw *r = arg;
    char text[64];
    const int n = zmq_recv(r->z, text, sizeof text, ZMQ_DONTWAIT);
    if (n < 0) return false;
    assert_int_equal(n, strlen(r->want));
    assert_memory_equal(text, r->want, n);
    return true;
}

static void raw_expect(void *z, const char *want)
{
    struct raw r = {z, want};
    assert_true(net_rig_until(&rig, raw_got, &r));
}

static void test_a_routing_id_steals_nothing(void **state)
{
    (void)state;
    struct net_socket *s = net_rig_listen(&rig, rig.server, &at_server);
    void *a = raw_dealer(&rig.client_key, "same");
    raw_send(a, 1, "I am a");
    expect(&at_server, 1);
    void *b = raw_dealer(&other_key, "same");
    expect_let_in(2);
    net_rig_run(&rig, 100); /* b listens, and has said nothing */
    for (int round = 0; round < 2; round++) {
        assert_int_equal(net_send_to(s, rig.client_key.pub,
                                     net_rig_text("for a"), net_rig_none),
                         ST_OK);
        raw_expect(a, "for a");
        if (round == 0) raw_send(b, 1, "I am b");
        expect(&at_server, 2);
    }
    assert_memory_equal(at_server.message[1].key, other_key.pub, KEY_BYTES);
    assert_int_equal(
        net_send_to(s, other_key.pub, net_rig_text("for b"), net_rig_none),
        ST_OK);
    raw_expect(b, "for b"); /* and nothing before it */
    zmq_close(a);
    /* Nor does it come into what was a's. */
    net_rig_run(&rig, 100);
    raw_send(b, 1, "same");
    expect(&at_server, 3);
    const enum status st =
        net_send_to(s, rig.client_key.pub, net_rig_text("for a"), net_rig_none);
    assert_true(st == ST_OK || st == ST_NOT_FOUND);
    assert_int_equal(
        net_send_to(s, other_key.pub, net_rig_text("to b"), net_rig_none),
        ST_OK);
    raw_expect(b, "to b");
    zmq_close(b);
}

static void test_malformed_messages_drop_their_sender(void **state)
{
    (void)state;
    struct net_socket *s = net_rig_listen(&rig, rig.server, &at_server);
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    static const struct {
        int frames;
        const char *text;
    } bad[] = {{3, "x"}, {1000, "y"}, {1, ""}, {2, ""}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        void *z = raw_dealer(&other_key, NULL);
        raw_send(z, 2, "fine");
        expect(&at_server, at_server.n + 1);
        raw_send(z, bad[i].frames, bad[i].text);
        raw_send(z, 1, "too late");
        good_client_works(c, 5);
        net_rig_run(&rig, 100);
        good_client_works(c, 1); /* looks at the last message: not z's */
        assert_int_equal(at_server.n, (i + 1) * 7);
        assert_int_equal(
            net_send_to(s, other_key.pub, net_rig_text("?"), net_rig_none),
            ST_NOT_FOUND);
        zmq_close(z); /* a new handshake makes it good again */
    }
}

static void test_a_dropped_peer_must_shake_hands_again(void **state)
{
    (void)state;
    struct net_socket *s = net_rig_listen(&rig, rig.server, &at_server);
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    void *z = raw_dealer(&other_key, NULL);
    raw_send(z, 1, "first");
    expect(&at_server, 1);
    net_drop(s, other_key.pub);
    raw_send(z, 1, "dropped");
    net_rig_run(&rig, 100);
    good_client_works(c, 3);
    assert_int_equal(at_server.n, 4);
    zmq_close(z);
    z = raw_dealer(&other_key, NULL);
    raw_send(z, 1, "new");
    expect(&at_server, 5);
    assert_true(net_inbox_is(&at_server, 4, "new"));
    zmq_close(z);
    net_drop(s, rig.server_key.pub); /* a key that never was here */
    net_drop(c, rig.server_key.pub); /* a client has nobody to drop */
    good_client_works(c, 1);
}

static void test_a_frame_over_the_limit_costs_the_connection(void **state)
{
    (void)state;
    static char big[(64 << 10) + 1];
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    good_client_works(c, 1);
    void *z = raw_dealer(&other_key, NULL);
    raw_send(z, 1, "fine");
    expect(&at_server, 2);
    assert_int_equal(at_server.n_let_in, 2);
    assert_int_equal(zmq_send(z, big, sizeof big, 0), sizeof big);
    raw_send(z, 1, "after it"); /* its ZeroMQ connects again by itself */
    good_client_works(c, 5);
    expect_let_in(3);
    net_rig_run(&rig, 100);
    for (size_t i = 0; i < at_server.n; i++) {
        assert_true(at_server.message[i].header_bytes < 10);
    }
    good_client_works(c, 5);
    assert_int_equal(at_server.n_let_in, 3); /* c stayed connected */
    zmq_close(z);
}

struct slow_reader {
    struct net_socket *s;
    void *z;
    size_t sent, got;
    bool full;
};

static bool fill(void *arg)
{
    static char block[60 << 10];
    struct slow_reader *r = arg;
    while (!r->full) {
        memcpy(block, &r->sent, sizeof r->sent);
        const enum status st =
            net_send_to(r->s, other_key.pub,
                        (struct net_frame){block, sizeof block}, net_rig_none);
        r->full = st == ST_FULL;
        if (st == ST_OK) r->sent++;
        assert_true(st == ST_OK || st == ST_FULL);
    }
    return true;
}

static bool drain(void *arg)
{
    static char block[60 << 10];
    struct slow_reader *r = arg;
    while (zmq_recv(r->z, block, sizeof block, ZMQ_DONTWAIT) > 0) {
        assert_memory_equal(block, &r->got, sizeof r->got);
        r->got++;
    }
    return r->got == r->sent;
}

static void test_a_peer_that_does_not_read_fills_its_queue_alone(void **state)
{
    (void)state;
    struct net_options o = net_rig_options(&at_server);
    o.queue_max = 10;
    struct slow_reader r = {0};
    assert_int_equal(
        net_listen(&r.s, rig.server, "127.0.0.1", &rig.port, &o, NULL), ST_OK);
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    r.z = raw_dealer(&other_key, NULL);
    raw_send(r.z, 1, "hi");
    expect(&at_server, 1);
    for (int round = 0; round < 3; round++) {
        r.full = false;
        assert_true(net_rig_until(&rig, fill, &r));
        good_client_works(c, 3);
        assert_int_equal(net_send_to(r.s, rig.client_key.pub, net_rig_text("x"),
                                     net_rig_none),
                         ST_OK);
    }
    const uint64_t sent = net_counters(r.s).sent_messages;
    assert_int_equal(sent, r.sent + 3); /* what was refused is not counted */
    assert_true(net_rig_until(&rig, drain, &r)); /* in order, none lost */
    r.full = false;
    const size_t before = r.sent;
    assert_true(net_rig_until(&rig, fill, &r));
    assert_true(r.sent > before); /* there is room again */
    zmq_close(r.z);
}

/* -------------------------------------------------------------- keys */

static void test_a_wrong_server_key_never_connects(void **state)
{
    (void)state;
    struct net_inbox wrong = {0};
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    const struct net_options o = net_rig_options(&wrong);
    struct net_socket *w;
    assert_int_equal(net_connect(&w, rig.client, "127.0.0.1", rig.port,
                                 other_key.pub, &o, NULL),
                     ST_OK);
    say(w, "secret");
    net_rig_run(&rig, 500); /* several attempts */
    assert_int_equal(at_server.n_asked, 0);
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    good_client_works(c, 20);
    assert_int_equal(at_server.n, 20);
    assert_int_equal(at_server.n_let_in, 1);
    net_inbox_fini(&wrong);
}

static bool asked_twice(void *arg)
{
    return ((struct net_inbox *)arg)->n_asked >= 2;
}

static void test_a_key_admitted_later_connects_by_itself(void **state)
{
    (void)state;
    at_server.refuse = true;
    struct net_socket *s = net_rig_listen(&rig, rig.server, &at_server);
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    say(c, "let me in");
    assert_true(net_rig_until(&rig, asked_twice, &at_server));
    assert_int_equal(at_server.n, 0);
    assert_int_equal(at_server.n_let_in, 0);
    assert_int_equal(
        net_send_to(s, rig.client_key.pub, net_rig_text("x"), net_rig_none),
        ST_NOT_FOUND);
    at_server.refuse = false;
    expect(&at_server, 1);
    assert_true(net_inbox_is(&at_server, 0, "let me in"));
    assert_int_equal(at_server.n_let_in, 1);
}

static void test_admission_is_per_key_and_per_socket(void **state)
{
    (void)state;
    struct net_inbox door = {.only_key = rig.client_key.pub};
    at_server.only_key = other_key.pub;
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    const uint32_t first = rig.port;
    rig.port = 0;
    assert_non_null(net_rig_listen(&rig, rig.server, &door));
    struct net_socket *right = net_rig_connect(&rig, rig.client, &at_client);
    say(right, "right door");
    rig.port = first;
    struct net_socket *wrong = net_rig_connect(&rig, rig.client, &at_client);
    say(wrong, "wrong door");
    assert_true(net_rig_until(&rig, asked_twice, &at_server));
    door.want = 1;
    assert_true(net_rig_until(&rig, net_inbox_full, &door));
    assert_true(net_inbox_is(&door, 0, "right door"));
    assert_int_equal(at_server.n, 0);
    net_inbox_fini(&door);
}

/* ---------------------------------------------------------- raw TCP */

static int tcp_connect(void)
{
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)rig.port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void tcp_send(int fd, const void *data, size_t n)
{
    /* The other side may have closed already. */
    (void)!send(fd, data, n, MSG_NOSIGNAL);
}

/* Everything it sends has been read, and then it closed. */
static bool tcp_closed(void *arg)
{
    char text[512];
    for (;;) {
        const ssize_t n = recv(*(int *)arg, text, sizeof text, 0);
        if (n > 0) continue;
        return n == 0 || (errno != EAGAIN && errno != EINTR);
    }
}

static const char greeting[64] = "\xff\0\0\0\0\0\0\0\1\x7f\3\1CURVE";

static void test_garbage_on_the_port_hurts_nobody(void **state)
{
    (void)state;
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    good_client_works(c, 3);
    struct rng r = {.state = 7};
    int noise[20];
    for (size_t i = 0; i < COUNT_OF(noise); i++) {
        char bytes[2000];
        for (size_t k = 0; k < sizeof bytes; k++) bytes[k] = (char)rng_u64(&r);
        if (i % 2) memcpy(bytes, greeting, i % 4 == 1 ? 64 : 12);
        noise[i] = tcp_connect();
        tcp_send(noise[i], bytes, sizeof bytes);
    }
    const int web = tcp_connect(), null = tcp_connect(), huge = tcp_connect();
    tcp_send(web, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
    char hello[80] = {0};
    memcpy(hello, greeting, 64);
    memcpy(hello + 12, "NULL\0", 5);
    tcp_send(null, hello, 64);
    memcpy(hello, greeting, 64); /* then a command of 2^56 bytes */
    memcpy(hello + 64, "\x06\x01\0\0\0\0\0\0\0HELLO", 14);
    tcp_send(huge, hello, 78);
    good_client_works(c, 20);
    int closed[] = {web, null, huge, noise[0], noise[1]};
    for (size_t i = 0; i < COUNT_OF(closed); i++) {
        assert_true(net_rig_until(&rig, tcp_closed, &closed[i]));
    }
    good_client_works(c, 20);
    for (size_t i = 0; i < COUNT_OF(noise); i++) close(noise[i]);
    close(web), close(null), close(huge);
    good_client_works(c, 20);
    assert_int_equal(at_server.n, 63);
    assert_int_equal(at_server.n_asked, 1);
}

static void test_silent_connections_hurt_nobody_and_end(void **state)
{
    (void)state;
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    int idle[50];
    for (size_t i = 0; i < COUNT_OF(idle); i++) {
        idle[i] = tcp_connect();
        if (i % 2) tcp_send(idle[i], greeting, i % 4 == 1 ? 10 : 64);
    }
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    good_client_works(c, 50);
    for (size_t i = 0; i < COUNT_OF(idle); i++) {
        assert_true(net_rig_until(&rig, tcp_closed, &idle[i]));
        close(idle[i]);
    }
    good_client_works(c, 10);
    assert_int_equal(at_server.n_asked, 1);
}

/* A program that is not ours has the port for a while. */
struct impostor {
    int listener;
    int served;
};

static bool impostor_answered(void *arg)
{
    struct impostor *p = arg;
    const int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) return false;
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\nServer: x\r\n"
                                 "Content-Length: 0\r\n\r\n0123456789";
    tcp_send(fd, answer, sizeof answer - 1);
    net_rig_run(&rig, 200);
    close(fd);
    p->served++;
    return true;
}

struct until_said {
    struct net_socket *s;
    size_t n;
};

static bool heard(void *arg)
{
    const struct until_said *u = arg;
    const enum status st = net_send(u->s, net_rig_text("?"), net_rig_none);
    assert_true(st == ST_OK || st == ST_FULL);
    return at_server.n > u->n;
}

static void test_a_client_outlives_another_protocol_on_the_port(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    struct impostor p = {0};
    p.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    setsockopt(p.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_int_equal(bind(p.listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(p.listener, 5), 0);
    assert_int_equal(getsockname(p.listener, (struct sockaddr *)&at, &n), 0);
    rig.port = ntohs(at.sin_port);
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    assert_true(net_rig_until(&rig, impostor_answered, &p));
    close(p.listener);
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    struct until_said u = {c, 0};
    assert_true(net_rig_until(&rig, heard, &u));
}

/* ------------------------------------------------- the table of peers */

static void test_a_full_table_gives_up_silent_keys_first(void **state)
{
    (void)state;
    struct net_peers *t = mem_zalloc(sizeof *t);
    uint8_t key[KEY_BYTES] = {0}, good[KEY_BYTES] = {0xff};
    uint8_t route[NET_ROUTE_BYTES], good_route[NET_ROUTE_BYTES];
    uint8_t dropped[KEY_BYTES] = {0xfe}, dropped_route[NET_ROUTE_BYTES];
    assert_non_null(t);
    assert_false(net_peers_heard(t, good, "x", 1)); /* never admitted */
    net_peers_issue(t, good, good_route);
    net_peers_issue(t, dropped, dropped_route);
    net_peers_drop(t, dropped);
    assert_null(net_peers_route(t, good)); /* not heard yet */
    assert_true(net_peers_heard(t, good, good_route, sizeof good_route));
    for (uint32_t i = 0; i < 3 * NET_PEERS_MAX; i++) {
        memcpy(key, &i, sizeof i);
        net_peers_issue(t, key, route);
    }
    assert_int_equal(t->n, NET_PEERS_MAX);
    const struct net_peer *p = net_peers_route(t, good);
    assert_non_null(p);
    assert_memory_equal(p->route, good_route, sizeof good_route);
    assert_false(
        net_peers_heard(t, dropped, dropped_route, sizeof dropped_route));
    assert_true(net_peers_heard(t, key, route, sizeof route)); /* the latest */
    /* A route that is none of ours counts as the key's latest... */
    assert_true(net_peers_heard(t, key, "\0abcd", 5));
    assert_int_equal(net_peers_route(t, key)->route_bytes, 5);
    /* ...but not past a drop, nor if it could not be kept. */
    static const uint8_t longest[NET_ROUTE_MAX + 1];
    assert_false(net_peers_heard(t, key, longest, sizeof longest));
    assert_false(net_peers_heard(t, key, longest, 0));
    net_peers_drop(t, key);
    assert_false(net_peers_heard(t, key, "\0abcd", 5));
    mem_free(t);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_routing_id_steals_nothing),
        TEST(test_malformed_messages_drop_their_sender),
        TEST(test_a_dropped_peer_must_shake_hands_again),
        TEST(test_a_frame_over_the_limit_costs_the_connection),
        TEST(test_a_peer_that_does_not_read_fills_its_queue_alone),
        TEST(test_a_wrong_server_key_never_connects),
        TEST(test_a_key_admitted_later_connects_by_itself),
        TEST(test_admission_is_per_key_and_per_socket),
        TEST(test_garbage_on_the_port_hurts_nobody),
        TEST(test_silent_connections_hurt_nobody_and_end),
        TEST(test_a_client_outlives_another_protocol_on_the_port),
        TEST(test_a_full_table_gives_up_silent_keys_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

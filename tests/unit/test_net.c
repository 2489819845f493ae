/* Encrypted sockets on a real loop: exchange, order, size, reconnection,
 * closing, errors.  What hostile peers do is in test_net_hostile.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/net_rig.h"

static struct net_rig rig;
static struct net_inbox at_server, at_client;

static int setup(void **state)
{
    (void)state;
    net_rig_begin(&rig);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
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

static void tell(struct net_socket *s, const uint8_t *key, const char *text)
{
    assert_int_equal(net_send_to(s, key, net_rig_text(text), net_rig_none),
                     ST_OK);
}

static void test_two_frames_there_and_one_back(void **state)
{
    (void)state;
    struct net_socket *s = net_rig_listen(&rig, rig.server, &at_server);
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    assert_int_equal(
        net_send_to(s, rig.client_key.pub, net_rig_text("early"), net_rig_none),
        ST_NOT_FOUND);
    assert_int_equal(net_send(c, net_rig_text("hello"), net_rig_text("1234")),
                     ST_OK);
    expect(&at_server, 1);
    const struct net_message *m = &at_server.message[0];
    assert_memory_equal(m->key, rig.client_key.pub, KEY_BYTES);
    assert_string_equal(m->host, "127.0.0.1");
    assert_string_equal(m->header, "hello");
    assert_int_equal(m->tensor_bytes, 4);
    assert_string_equal(m->tensor, "1234");

    tell(s, m->key, "welcome");
    expect(&at_client, 1);
    m = &at_client.message[0];
    assert_memory_equal(m->key, rig.server_key.pub, KEY_BYTES);
    assert_string_equal(m->host, "127.0.0.1");
    assert_true(net_inbox_is(&at_client, 0, "welcome"));

    const struct net_counters cs = net_counters(s), cc = net_counters(c);
    assert_int_equal(cs.received_messages, 1);
    assert_int_equal(cs.received_bytes, 9);
    assert_int_equal(cs.sent_messages, 1);
    assert_int_equal(cs.sent_bytes, 7);
    assert_int_equal(cc.sent_messages, 1);
    assert_int_equal(cc.sent_bytes, 9);
    assert_int_equal(cc.received_messages, 1);
    assert_int_equal(cc.received_bytes, 7);
}

static void test_what_is_too_large_or_empty_does_not_leave(void **state)
{
    (void)state;
    static char big[(64 << 10) + 1];
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    const struct net_frame over = {big, sizeof big};
    assert_int_equal(net_send(c, over, net_rig_none), ST_TOO_LARGE);
    assert_int_equal(net_send(c, net_rig_text("x"), over), ST_TOO_LARGE);
    assert_int_equal(net_send(c, net_rig_none, net_rig_text("x")), ST_INVALID);
    const struct net_frame most = {big, sizeof big - 1};
    assert_int_equal(net_send(c, most, most), ST_OK);
    expect(&at_server, 1);
    assert_int_equal(at_server.message[0].header_bytes, sizeof big - 1);
    assert_int_equal(at_server.message[0].tensor_bytes, sizeof big - 1);
    assert_int_equal(net_counters(c).sent_messages, 1);
}

/* --------------------------------------------------------- streams */

/* One direction: message i has i as its header and a tensor whose size and
 * bytes follow from i. */
struct stream {
    struct net_socket *s;
    const uint8_t *to; /* NULL: a client socket */
    struct net_inbox *in;
    size_t n, sent, full;
    size_t (*size)(size_t i);
    char *bytes;
};

static size_t mixed_size(size_t i)
{
    return i % 5 == 0 ? 0 : i * 7919 % (i % 97 == 1 ? 65536 : 3000);
}

static size_t large_size(size_t i)
{
    return (8u << 20) - i;
}

static void stream_push(struct stream *t)
{
    for (; t->sent < t->n; t->sent++) {
        const struct net_frame header = {&t->sent, sizeof t->sent};
        const struct net_frame tensor = {t->bytes + t->sent, t->size(t->sent)};
        const enum status st = t->to ? net_send_to(t->s, t->to, header, tensor)
                                     : net_send(t->s, header, tensor);
        if (st == ST_FULL) {
            t->full++;
            return;
        }
        assert_int_equal(st, ST_OK);
    }
}

static bool streams_done(void *arg)
{
    struct stream *t = arg; /* two of them */
    bool done = true;
    for (int i = 0; i < 2; i++) {
        stream_push(&t[i]);
        done = done && t[i].in->n >= t[i].n;
    }
    return done;
}

static void check_stream(const struct stream *t)
{
    assert_int_equal(t->in->n, t->n);
    for (size_t i = 0; i < t->n; i++) {
        const struct net_message *m = &t->in->message[i];
        size_t serial;
        assert_int_equal(m->header_bytes, sizeof serial);
        memcpy(&serial, m->header, sizeof serial);
        assert_int_equal(serial, i);
        assert_int_equal(m->tensor_bytes, t->size(i));
        assert_memory_equal(m->tensor, t->bytes + i, m->tensor_bytes);
    }
}

/* Both ways at once, with a queue so short that it fills. */
static void run_streams(size_t n, size_t (*size)(size_t i), int queue)
{
    const size_t room = (8u << 20) + n;
    char *bytes = mem_alloc(room);
    assert_non_null(bytes);
    for (size_t i = 0; i < room; i++) bytes[i] = (char)(i * 2654435761u >> 24);
    struct net_options o = net_rig_options(&at_server);
    o.message_max = 8u << 20;
    o.queue_max = queue;
    struct net_socket *s, *c;
    assert_int_equal(
        net_listen(&s, rig.server, "127.0.0.1", &rig.port, &o, NULL), ST_OK);
    o.arg = &at_client;
    assert_int_equal(net_connect(&c, rig.client, "127.0.0.1", rig.port,
                                 rig.server_key.pub, &o, NULL),
                     ST_OK);
    struct stream t[2] = {
        {c, NULL, &at_server, n, 0, 0, size, bytes},
        {s, rig.client_key.pub, &at_client, n, 0, 0, size, bytes},
    };
    stream_push(&t[0]); /* the server must have heard us before it can talk */
    expect(&at_server, 1);
    assert_true(net_rig_until(&rig, streams_done, t));
    check_stream(&t[0]);
    check_stream(&t[1]);
    assert_true(t[0].full > 0);
    mem_free(bytes);
}

static void test_2000_messages_each_way_arrive_in_order(void **state)
{
    (void)state;
    run_streams(2000, mixed_size, 50);
}

static void test_tensors_of_8_mib_arrive_whole(void **state)
{
    (void)state;
    run_streams(6, large_size, 3);
}

/* Nothing but receive callbacks sends: a wake that gets lost stops a ball. */
static void volley_client(struct net_inbox *in, struct net_socket *s)
{
    if (in->n < in->want) say(s, "ping");
}

static void volley_server(struct net_inbox *in, struct net_socket *s)
{
    (void)in;
    tell(s, rig.client_key.pub, "pong");
}

static void test_replies_from_callbacks_never_stall(void **state)
{
    (void)state;
    at_server.then = volley_server;
    at_client.then = volley_client;
    at_server.count_only = at_client.count_only = true;
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    for (int i = 0; i < 8; i++) say(c, "ping");
    expect(&at_client, 4000);
    assert_true(at_server.n >= 4000);
}

/* Turns of the loop, and the most messages that one of them brought. */
struct turns {
    size_t turn, last, now, most;
};

static void on_turn(uv_check_t *handle)
{
    ((struct turns *)handle->data)->turn++;
}

static void count_turn(struct net_inbox *in, struct net_socket *s)
{
    (void)s;
    struct turns *t = in->arg;
    t->now = t->turn == t->last ? t->now + 1 : 1;
    t->last = t->turn;
    if (t->now > t->most) t->most = t->now;
}

static void test_a_turn_takes_a_limited_burst(void **state)
{
    (void)state;
    struct turns t = {0};
    static uv_check_t check; /* lives until the loop has closed it */
    check.data = &t;
    uv_check_init(&rig.loop, &check);
    uv_check_start(&check, on_turn);
    at_server.then = count_turn;
    at_server.arg = &t;
    at_server.count_only = true;
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    for (int i = 0; i < 1000; i++) say(c, "x");
    expect(&at_server, 1000);
    assert_true(t.most <= 64);
    assert_true(t.most > 1); /* or the limit was never near */
    uv_close((uv_handle_t *)&check, NULL);
}

/* ---------------------------------------------------- reconnection */

struct until_said {
    struct net_socket *s;
    struct net_inbox *in;
    size_t from;
};

/* Says it again and again until it is heard. */
static bool heard(void *arg)
{
    struct until_said *u = arg;
    const enum status st = net_send(u->s, net_rig_text("again"), net_rig_none);
    assert_true(st == ST_OK || st == ST_FULL);
    return u->in->n > u->from;
}

static void test_a_restarted_server_is_found_again(void **state)
{
    (void)state;
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    say(c, "one");
    expect(&at_server, 1);
    for (int round = 0; round < 2; round++) {
        net_free(rig.server, 0);
        rig.server = net_rig_net(&rig, &rig.server_key);
        struct net_socket *s = net_rig_listen(&rig, rig.server, &at_server);
        assert_non_null(s);
        struct until_said u = {c, &at_server, at_server.n};
        assert_true(net_rig_until(&rig, heard, &u));
        const size_t n = at_client.n;
        tell(s, rig.client_key.pub, "back");
        expect(&at_client, n + 1);
    }
}

static void test_a_client_may_be_there_first_and_queues(void **state)
{
    (void)state;
    /* A port that is free, as nobody else binds it so soon. */
    struct net_socket *s = net_rig_listen(&rig, rig.server, &at_server);
    assert_non_null(s);
    net_free(rig.server, 0);
    rig.server = net_rig_net(&rig, &rig.server_key);

    struct net_options o = net_rig_options(&at_client);
    o.queue_max = 4;
    struct net_socket *c;
    assert_int_equal(net_connect(&c, rig.client, "127.0.0.1", rig.port,
                                 rig.server_key.pub, &o, NULL),
                     ST_OK);
    const char *const text[] = {"0", "1", "2", "3"};
    for (int i = 0; i < 4; i++) say(c, text[i]);
    assert_int_equal(net_send(c, net_rig_text("4"), net_rig_none), ST_FULL);
    net_rig_run(&rig, 300); /* some attempts fail */
    assert_int_equal(net_send(c, net_rig_text("4"), net_rig_none), ST_FULL);
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    expect(&at_server, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_true(net_inbox_is(&at_server, i, text[i]));
    }
    struct until_said u = {c, &at_server, 4};
    assert_true(net_rig_until(&rig, heard, &u));
}

static void test_a_key_that_comes_again_takes_over(void **state)
{
    (void)state;
    struct net_inbox second = {0};
    struct net_socket *s = net_rig_listen(&rig, rig.server, &at_server);
    struct net_socket *old = net_rig_connect(&rig, rig.client, &at_client);
    say(old, "old");
    expect(&at_server, 1);
    struct net *n = net_rig_net(&rig, &rig.client_key);
    struct net_socket *fresh = net_rig_connect(&rig, n, &second);
    say(fresh, "fresh");
    expect(&at_server, 2);
    tell(s, rig.client_key.pub, "for fresh");
    second.want = 1;
    assert_true(net_rig_until(&rig, net_inbox_full, &second));
    /* The earlier connection has had its day; what it says now is lost, or,
     * if it was quick, comes in front. */
    say(old, "late");
    net_rig_run(&rig, 200);
    say(fresh, "still here");
    expect(&at_server, 3);
    if (net_inbox_is(&at_server, 2, "late")) expect(&at_server, 4);
    assert_true(net_inbox_is(&at_server, at_server.n - 1, "still here"));
    tell(s, rig.client_key.pub, "for fresh");
    second.want = 2;
    assert_true(net_rig_until(&rig, net_inbox_full, &second));
    assert_int_equal(at_client.n, 0);
    net_free(n, 0);
    net_inbox_fini(&second);
}

struct until_gone {
    struct net_socket *s;
    const uint8_t *key;
};

static bool gone(void *arg)
{
    struct until_gone *u = arg;
    const enum status st =
        net_send_to(u->s, u->key, net_rig_text("?"), net_rig_none);
    assert_true(st == ST_OK || st == ST_FULL || st == ST_NOT_FOUND);
    return st == ST_NOT_FOUND;
}

static void test_a_peer_that_left_is_not_found(void **state)
{
    (void)state;
    struct net_socket *s = net_rig_listen(&rig, rig.server, &at_server);
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    say(c, "bye");
    expect(&at_server, 1);
    net_close(c);
    struct until_gone u = {s, rig.client_key.pub};
    assert_true(net_rig_until(&rig, gone, &u));
    c = net_rig_connect(&rig, rig.client, &at_client);
    say(c, "again");
    expect(&at_server, 2);
    tell(s, rig.client_key.pub, "again");
    expect(&at_client, 1);
}

/* --------------------------------------------------------- closing */

static void close_it(struct net_inbox *in, struct net_socket *s)
{
    (void)in;
    net_close(s);
}

static void free_net(struct net_inbox *in, struct net_socket *s)
{
    (void)s;
    struct net **n = in->arg;
    net_free(*n, 0);
    *n = NULL;
}

static void test_closing_inside_a_callback(void **state)
{
    (void)state;
    at_server.then = close_it;
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    for (int i = 0; i < 20; i++) say(c, "x");
    expect(&at_server, 1);
    net_rig_run(&rig, 50);
    assert_int_equal(at_server.n, 1); /* the rest had no one to go to */

    rig.port = 0;
    at_server.then = free_net; /* and the whole net */
    at_server.arg = &rig.server;
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    c = net_rig_connect(&rig, rig.client, &at_client);
    for (int i = 0; i < 20; i++) say(c, "x");
    expect(&at_server, 2);
    net_rig_run(&rig, 50);
    assert_int_equal(at_server.n, 2);
    assert_null(rig.server);
    net_close(c);
    net_close(NULL);
    net_free(NULL, 0);
}

static bool close_at_admission(void *arg, struct net_socket *s,
                               const uint8_t key[KEY_BYTES])
{
    (void)key;
    struct net_inbox *in = arg;
    in->n_asked++;
    if (in->arg) {
        free_net(in, s);
    } else {
        net_close(s);
    }
    return true;
}

static bool asked(void *arg)
{
    return ((struct net_inbox *)arg)->n_asked > 0;
}

static void test_closing_inside_admit(void **state)
{
    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        struct net_options o = net_rig_options(&at_server);
        o.admit = close_at_admission;
        at_server.n_asked = 0;
        at_server.arg = whole ? &rig.server : NULL;
        struct net_socket *s;
        rig.port = 0;
        assert_int_equal(
            net_listen(&s, rig.server, "127.0.0.1", &rig.port, &o, NULL),
            ST_OK);
        struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
        say(c, "x");
        assert_true(net_rig_until(&rig, asked, &at_server));
        net_rig_run(&rig, 50);
        net_close(c);
    }
    assert_int_equal(at_server.n, 0);
}

static void test_queued_messages_leave_within_the_linger_time(void **state)
{
    (void)state;
    at_server.count_only = true;
    assert_non_null(net_rig_listen(&rig, rig.server, &at_server));
    struct net_socket *c = net_rig_connect(&rig, rig.client, &at_client);
    say(c, "first"); /* so that it is connected */
    expect(&at_server, 1);
    for (int i = 0; i < 500; i++) say(c, "x");
    net_free(rig.client, 10000);
    rig.client = NULL;
    expect(&at_server, 501);
}

/* ---------------------------------------------------------- errors */

static void test_addresses_that_cannot_be(void **state)
{
    (void)state;
    struct net_socket *s = net_rig_listen(&rig, rig.server, &at_server), *t;
    assert_non_null(s);
    static const struct {
        const char *host;
        bool same_port;
        uint32_t port;
        enum status want;
        const char *say;
    } bad[] = {
        {"127.0.0.1", true, 0, ST_IO, "is in use"},
        {"127.0.0.1", true, 0, ST_IO, "choose another port"},
        {"203.0.113.7", false, 0, ST_IO, "not an address of this machine"},
        {"no such host", false, 0, ST_INVALID, "\"no such host\" is no host"},
        {"", false, 0, ST_INVALID, "is no host"},
        {"127.0.0.1;ipc", false, 0, ST_INVALID, "is no host"},
        {"127.0.0.1", false, 65536, ST_INVALID, "65536 is no port"},
    };
    const struct net_options o = net_rig_options(&at_server);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        uint32_t port = bad[i].same_port ? rig.port : bad[i].port;
        const uint32_t before = port;
        struct error err = {0};
        assert_int_equal(
            net_listen(&t, rig.client, bad[i].host, &port, &o, &err),
            bad[i].want);
        if (!strstr(err.text, bad[i].say)) fail_msg("says: %s", err.text);
        assert_int_equal(port, before);
        assert_non_null(strstr(err.text, "control: "));
    }
    struct error err;
    assert_int_equal(net_connect(&t, rig.client, "127.0.0.1", 0,
                                 rig.server_key.pub, &o, &err),
                     ST_INVALID);
    assert_int_equal(
        net_connect(&t, rig.client, "a b", 1, rig.server_key.pub, &o, &err),
        ST_INVALID);
}

static void test_every_failed_allocation_is_survived(void **state)
{
    (void)state;
    for (int what = 0; what < 3; what++) {
        long n = 0;
        for (enum status st = ST_NO_MEMORY; st != ST_OK; n++) {
            uv_run(&rig.loop, UV_RUN_NOWAIT); /* what is closed is freed */
            const size_t before = mem_in_use();
            const struct net_options o = net_rig_options(&at_server);
            struct net_socket *s = NULL;
            struct net *net = NULL;
            rig.port = 0;
            mem_fail_after(n);
            switch (what) {
            case 0:
                st = net_create(&net, &rig.loop, &rig.client_key, NULL);
                break;
            case 1:
                st = net_listen(&s, rig.server, "127.0.0.1", &rig.port, &o,
                                NULL);
                break;
            default:
                st = net_connect(&s, rig.client, "127.0.0.1", 9,
                                 rig.server_key.pub, &o, NULL);
            }
            mem_fail_after(-1);
            if (st == ST_OK) {
                net_free(net, 0);
                break;
            }
            assert_int_equal(st, ST_NO_MEMORY);
            assert_true(s == NULL && net == NULL);
            uv_run(&rig.loop, UV_RUN_NOWAIT);
            assert_int_equal(mem_in_use(), before);
        }
        assert_true(n > 0);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_two_frames_there_and_one_back),
        TEST(test_what_is_too_large_or_empty_does_not_leave),
        TEST(test_2000_messages_each_way_arrive_in_order),
        TEST(test_tensors_of_8_mib_arrive_whole),
        TEST(test_replies_from_callbacks_never_stall),
        TEST(test_a_turn_takes_a_limited_burst),
        TEST(test_a_restarted_server_is_found_again),
        TEST(test_a_client_may_be_there_first_and_queues),
        TEST(test_a_key_that_comes_again_takes_over),
        TEST(test_a_peer_that_left_is_not_found),
        TEST(test_closing_inside_a_callback),
        TEST(test_closing_inside_admit),
        TEST(test_queued_messages_leave_within_the_linger_time),
        TEST(test_addresses_that_cannot_be),
        TEST(test_every_failed_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

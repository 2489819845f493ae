/* The HTTP server over loopback: answers at once and later, streams, who is
 * noticed to be gone, limits, hostile requests. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/resource.h>
#include <sys/socket.h>

#include "common/rng.h"
#include "coordinator/http.h"
#include "tests/lib/http_client.h"

#define N_STREAMS 200

static struct http_rig rig;
static struct http *server;

/* What the handler was asked, by path; and calls that are not over. */
static struct open_call {
    struct http_call *call; /* NULL: over */
    bool gone;
} calls[2 * N_STREAMS];
static size_t n_calls, n_gone, n_asked, n_ticks;
static char last_body[64], last_method[16], last_peer[64], last_path[256];
static size_t last_bytes;

static void on_gone(void *arg)
{
    struct open_call *o = arg;
    assert_non_null(o->call);
    o->call = NULL;
    o->gone = true;
    n_gone++;
}

static void on_tick(void *arg)
{
    (void)arg;
    n_ticks++;
}

static struct http_answer text_answer(const char *text)
{
    return (struct http_answer){.status = 200,
                                .type = "text/plain",
                                .body = text,
                                .body_bytes = strlen(text)};
}

/* /now answers, /later waits, /stream begins a stream, /big is 4 MB. */
static void on_request(void *arg, struct http_call *call,
                       const struct http_request *r)
{
    (void)arg;
    n_asked++;
    snprintf(last_body, sizeof last_body, "%s", r->body);
    snprintf(last_method, sizeof last_method, "%s", r->method);
    snprintf(last_peer, sizeof last_peer, "%s", r->peer);
    snprintf(last_path, sizeof last_path, "%s", r->path);
    last_bytes = r->body_bytes;
    if (strcmp(r->path, "/big") == 0) {
        char *big = mem_zalloc(4000000);
        const struct http_answer a = {.status = 200,
                                      .type = "text/plain",
                                      .body = big,
                                      .body_bytes = 4000000};
        http_answer(call, &a);
        mem_free(big);
        return;
    }
    if (strcmp(r->path, "/later") != 0 && strcmp(r->path, "/stream") != 0) {
        struct http_answer a = text_answer(r->path);
        a.fields[0] = (struct http_field){"X-Said", http_header(call, "X-Say")};
        if (!a.fields[0].value) a.fields[0].name = NULL;
        http_answer(call, &a);
        return;
    }
    struct open_call *o = &calls[n_calls++];
    *o = (struct open_call){.call = call};
    http_on_gone(call, on_gone, o);
    if (strcmp(r->path, "/stream") == 0) {
        struct http_answer a = text_answer(": hello\n\n");
        a.type = "text/event-stream";
        assert_true(http_stream(call, &a));
    }
}

static void begin(struct http_options o)
{
    struct error err = {.text = ""};
    n_calls = n_gone = n_asked = n_ticks = 0;
    memset(calls, 0, sizeof calls);
    http_rig_begin(&rig);
    o.address = "127.0.0.1:0";
    o.handler = on_request;
    o.tick = on_tick;
    if (!o.tick_ms) o.tick_ms = 20;
    if (http_create(&server, &rig.loop, &o, &err) != ST_OK)
        fail_msg("%s", err.text);
}

static void end(void)
{
    http_close(server);
    server = NULL;
    assert_true(http_rig_end(&rig));
    assert_int_equal(mem_in_use(), 0);
}

static struct http_client open_client(void)
{
    struct http_client c;
    assert_true(http_client_open(&c, http_port(server)));
    uv_run(&rig.loop, UV_RUN_NOWAIT); /* connect() waits for a backlog */
    return c;
}

static bool is_whole(void *arg)
{
    struct http_client *c = arg;
    size_t n;
    bool whole;
    http_client_read(c);
    mem_free(http_client_body(c, &n, &whole));
    return whole || c->eof;
}

static bool is_eof(void *arg)
{
    struct http_client *c = arg;
    http_client_read(c);
    return c->eof;
}

struct count {
    const size_t *n;
    size_t want;
};
static bool reached(void *arg)
{
    const struct count *c = arg;
    return *c->n >= c->want;
}
static void wait_for(const size_t *n, size_t want)
{
    struct count c = {n, want};
    if (!http_rig_until(&rig, reached, &c)) fail_msg("%zu of %zu", *n, want);
}

static void expect(struct http_client *c, int status, const char *body)
{
    assert_true(http_rig_until(&rig, is_whole, c));
    size_t n;
    bool whole;
    char *got = http_client_body(c, &n, &whole);
    if (http_client_status(c) != status || !whole || !strstr(got, body)) {
        fail_msg("status %d, want %d; body \"%s\", want \"%s\"; all: %s",
                 http_client_status(c), status, got ? got : "(none)", body,
                 c->in.data);
    }
    mem_free(got);
}

/* ----------------------------------------------------------- answers */

static void test_request_and_answer(void **state)
{
    (void)state;
    begin((struct http_options){0});
    struct http_client c = open_client();
    assert_true(http_client_say(&c, "POST /a%20b?x=1 HTTP/1.1\r\nHost: x\r\n"
                                    "X-Say: abc\r\nContent-Length: 4\r\n\r\n"
                                    "body"));
    expect(&c, 200, "/a b");
    assert_string_equal(last_body, "body");
    assert_string_equal(last_method, "POST");
    assert_string_equal(last_peer, "127.0.0.1");
    assert_true(http_client_has(&c, "X-Said: abc"));
    assert_true(http_client_has(&c, "Content-Type: text/plain"));
    assert_true(http_client_has(&c, "Access-Control-Allow-Origin: *"));
    http_client_next(&c); /* the connection is kept */
    assert_true(http_client_ask(&c, "GET", "/now", NULL));
    expect(&c, 200, "/now");
    http_client_next(&c);
    assert_true(http_client_say(&c, "HEAD /now HTTP/1.1\r\nHost: x\r\n\r\n"
                                    "GET /n2 HTTP/1.1\r\nHost: x\r\n\r\n"));
    wait_for(&n_asked, 4);
    http_rig_run(&rig, 20);
    http_client_read(&c);
    assert_true(http_client_has(&c, "Content-Length: 4"));
    assert_non_null(strstr(c.in.data, "\r\n\r\nHTTP/1.1 200")); /* no body */
    http_client_close(&c);
    end();
}

static void test_preflight_echoes_what_is_asked(void **state)
{
    (void)state;
    begin((struct http_options){0});
    struct http_client c = open_client();
    assert_true(http_client_say(
        &c, "OPTIONS /v1/anything HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\n"
            "Access-Control-Request-Method: POST\r\n"
            "Access-Control-Request-Headers: authorization,x-stainless-os\r\n"
            "\r\n"));
    assert_true(http_rig_until(&rig, is_whole, &c));
    assert_int_equal(http_client_status(&c), 204);
    assert_true(http_client_has(&c, "Access-Control-Allow-Origin: *"));
    assert_true(http_client_has(
        &c, "Access-Control-Allow-Headers: authorization,x-stainless-os"));
    assert_true(http_client_has(&c, "Access-Control-Allow-Methods: GET, POST"));
    assert_int_equal(n_asked, 0);
    http_client_close(&c);
    end();
}

static void test_answer_later_and_a_large_one(void **state)
{
    (void)state;
    begin((struct http_options){0});
    struct http_client c = open_client();
    assert_true(http_client_ask(&c, "GET", "/later", NULL));
    wait_for(&n_calls, 1);
    http_rig_run(&rig, 30);
    const struct http_answer a = text_answer("at last");
    http_answer(calls[0].call, &a);
    expect(&c, 200, "at last");
    http_client_next(&c);
    assert_true(http_client_ask(&c, "GET", "/big", NULL));
    expect(&c, 200, "");
    assert_true(c.in.len > 4000000);
    http_client_close(&c);
    http_rig_run(&rig, 20);
    assert_int_equal(n_gone, 0);
    assert_int_equal(http_counters(server).connections, 0);
    end();
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    begin((struct http_options){0});
    struct http_client c = open_client();
    assert_true(http_client_say(&c, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n"
                                    "POST /2 HTTP/1.1\r\nHost: x\r\n"
                                    "Content-Length: 2\r\n\r\nhi"
                                    "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
                                    "GET /4 HTTP/1.1\r\nHost: x\r\n\r\n"));
    wait_for(&n_calls, 1);
    const struct http_answer a = text_answer("first");
    http_answer(calls[0].call, &a);
    wait_for(&n_calls, 2);
    http_end(calls[1].call);
    expect(&c, 200, "first");
    http_client_next(&c);
    expect(&c, 200, "/2");
    http_client_next(&c);
    expect(&c, 200, ": hello");
    http_client_next(&c);
    expect(&c, 200, "/4");
    http_client_close(&c);
    end();
}

/* ----------------------------------------------------------- streams */

static void test_200_suspended_streams_all_finish(void **state)
{
    (void)state;
    /* shorter than the wait: what is suspended must not time out */
    begin((struct http_options){.request_ms = 300});
    static struct http_client c[N_STREAMS];
    for (size_t i = 0; i < N_STREAMS; i++) {
        c[i] = open_client();
        assert_true(http_client_ask(&c[i], "GET", "/stream", NULL));
    }
    wait_for(&n_calls, N_STREAMS);
    http_rig_run(&rig, 300);
    const uint64_t turns = http_counters(server).turns;
    http_rig_run(&rig, 2500);
    /* nobody spins while nothing happens */
    assert_true(http_counters(server).turns - turns < 100);
    assert_int_equal(http_counters(server).calls, N_STREAMS);
    for (size_t i = 0; i < N_STREAMS; i++) {
        http_client_read(&c[i]);
        assert_non_null(strstr(c[i].in.data, ": hello")); /* not held back */
        assert_true(http_client_has(&c[i], "Content-Type: text/event-stream"));
        char text[32];
        const int n = snprintf(text, sizeof text, "stream %zu;", i);
        for (int k = 0; k < 3; k++) http_send(calls[i].call, text, (size_t)n);
        if (i % 2) http_end(calls[i].call);
    }
    http_rig_run(&rig, 50);
    for (size_t i = 0; i < N_STREAMS; i += 2) {
        http_send(calls[i].call, "end", 3);
        http_end(calls[i].call);
    }
    size_t order = 0; /* calls came in the order of connections, or not */
    for (size_t i = 0; i < N_STREAMS; i++) {
        expect(&c[i], 200, "stream ");
        order += strstr(c[i].in.data, "end") != NULL;
        http_client_close(&c[i]);
    }
    assert_int_equal(order, N_STREAMS / 2);
    assert_int_equal(n_gone, 0);
    end();
}

static void test_200_leave_while_suspended_and_are_noticed(void **state)
{
    (void)state;
    begin((struct http_options){0});
    static struct http_client c[2 * N_STREAMS];
    for (size_t i = 0; i < 2 * N_STREAMS; i++) {
        c[i] = open_client();
        assert_true(
            http_client_ask(&c[i], "GET", i % 2 ? "/stream" : "/later", NULL));
    }
    wait_for(&n_calls, 2 * N_STREAMS);
    http_rig_run(&rig, 50);
    for (size_t i = 0; i < N_STREAMS; i++) {
        const struct linger reset = {1, 0};
        if (i % 3 == 0)
            setsockopt(c[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        if (i % 3 == 1)
            shutdown(c[i].fd, SHUT_WR);
        else
            http_client_close(&c[i]);
    }
    wait_for(&n_gone, N_STREAMS);
    http_rig_run(&rig, 50);
    assert_int_equal(n_gone, N_STREAMS);
    assert_int_equal(http_counters(server).calls, N_STREAMS);
    for (size_t i = 0; i < N_STREAMS; i++) {
        if (i % 3 == 1) http_client_close(&c[i]);
    }
    http_close(server); /* the others are told so as well */
    server = NULL;
    assert_int_equal(n_gone, 2 * N_STREAMS);
    for (size_t i = N_STREAMS; i < 2 * N_STREAMS; i++) http_client_close(&c[i]);
    end();
}

static void test_a_reader_that_does_not_read_is_gone(void **state)
{
    (void)state;
    begin((struct http_options){.stream_max = 1 << 20});
    struct http_client c = open_client(), good = open_client();
    assert_true(http_client_ask(&c, "GET", "/stream", NULL));
    wait_for(&n_calls, 1);
    assert_true(http_client_ask(&good, "GET", "/stream", NULL));
    wait_for(&n_calls, 2);
    static char part[65536];
    size_t sent = 0;
    while (n_gone == 0 && sent < (size_t)256 << 20) {
        http_send(calls[0].call, part, sizeof part);
        sent += sizeof part;
        http_send(calls[1].call, part, 1000);
        http_rig_run(&rig, 1);
        http_client_read(&good);
        assert_true(mem_in_use() < (size_t)16 << 20);
    }
    assert_int_equal(n_gone, 1);
    assert_true(calls[0].gone);
    http_end(calls[1].call);
    expect(&good, 200, ": hello");
    http_client_close(&c);
    http_client_close(&good);
    end();
}

/* ------------------------------------------------------------ limits */

static void test_body_over_the_limit(void **state)
{
    (void)state;
    begin((struct http_options){.body_max = 1000, .bodies_max = 1500});
    struct http_client c = open_client();
    char head[128], body[2000];
    memset(body, 'x', sizeof body);
    snprintf(head, sizeof head,
             "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
             sizeof body);
    assert_true(http_client_say(&c, head));
    assert_int_equal(http_client_write(&c, body, sizeof body), sizeof body);
    expect(&c, 413, "\"code\":\"request_too_large\"");
    http_client_next(&c); /* was read to its end, so the next one is found */
    snprintf(head, sizeof head,
             "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    assert_true(http_client_say(&c, head));
    assert_int_equal(http_client_write(&c, body, 1000), 1000);
    expect(&c, 200, "/a");
    assert_int_equal(last_bytes, 1000);
    http_client_close(&c);
    c = open_client(); /* asks first */
    assert_true(http_client_say(&c, "POST /a HTTP/1.1\r\nHost: x\r\n"
                                    "Expect: 100-continue\r\n"
                                    "Content-Length: 9999999\r\n\r\n"));
    expect(&c, 413, "request_too_large");
    http_client_close(&c);
    /* a second one beside one that is half there */
    c = open_client();
    struct http_client d = open_client();
    assert_true(http_client_say(&c, head));
    assert_int_equal(http_client_write(&c, body, 999), 999);
    http_rig_run(&rig, 30);
    assert_true(http_client_say(&d, head));
    assert_int_equal(http_client_write(&d, body, 1000), 1000);
    expect(&d, 503, "busy");
    assert_true(http_client_has(&d, "Retry-After: "));
    http_client_close(&c);
    http_client_close(&d);
    end();
}

static void test_silent_and_trickling_connections_are_closed(void **state)
{
    (void)state;
    begin((struct http_options){.request_ms = 200});
    struct http_client silent = open_client(), head = open_client(),
                       body = open_client(), kept = open_client();
    assert_true(http_client_ask(&kept, "GET", "/now", NULL));
    expect(&kept, 200, "/now");
    assert_true(http_client_say(&body, "POST /a HTTP/1.1\r\nHost: x\r\n"
                                       "Content-Length: 100000\r\n\r\n"));
    assert_true(http_client_say(&head, "GET /a HTTP/1.1\r\nHost: x\r\nX: "));
    for (int i = 0; i < 100 && !(is_eof(&silent) && is_eof(&head) &&
                                 is_eof(&body) && is_eof(&kept));
         i++) {
        http_client_write(&head, "a", 1);
        http_client_write(&body, "a", 1);
        http_rig_run(&rig, 20);
    }
    assert_true(silent.eof && head.eof && body.eof && kept.eof);
    assert_int_equal(n_asked, 1);
    assert_true(n_ticks > 5);
    http_client_close(&silent);
    http_client_close(&head);
    http_client_close(&body);
    http_client_close(&kept);
    end();
}

static void test_more_connections_wait_their_turn(void **state)
{
    (void)state;
    begin((struct http_options){.connections_max = 4});
    struct http_client c[8];
    for (size_t i = 0; i < 8; i++) {
        c[i] = open_client();
        assert_true(http_client_ask(&c[i], "GET", "/now", NULL));
    }
    http_rig_run(&rig, 50);
    assert_true(http_counters(server).connections <= 4);
    for (size_t i = 0; i < 8; i++) {
        expect(&c[i], 200, "/now");
        http_client_close(&c[i]);
    }
    end();
}

/* ----------------------------------------------------------- hostile */

static void test_what_is_not_http(void **state)
{
    (void)state;
    begin((struct http_options){.header_max = 8192, .request_ms = 500});
    struct rng rng;
    rng.state = 7;
    for (int i = 0; i < 300; i++) {
        struct http_client c = open_client();
        char bytes[600];
        const size_t n = rng_u64(&rng) % sizeof bytes;
        for (size_t k = 0; k < n; k++) bytes[k] = (char)rng_u64(&rng);
        if (i % 3 == 0) memcpy(bytes, "POST / HTTP/1.1\r\n", 17);
        if (i % 5 == 0) memcpy(bytes, "GET ", 4);
        http_client_write(&c, bytes, n);
        if (i % 2) shutdown(c.fd, SHUT_WR);
        if (i % 7 == 0) http_rig_run(&rig, 5);
        http_client_close(&c);
    }
    struct http_client c = open_client();
    char *huge = mem_alloc(20000);
    memset(huge, 'h', 20000);
    assert_true(http_client_say(&c, "GET / HTTP/1.1\r\nHost: x\r\nX: "));
    http_client_write(&c, huge, 20000);
    mem_free(huge);
    assert_true(http_rig_until(&rig, is_eof, &c));
    assert_true(c.in.len == 0 || http_client_status(&c) >= 400);
    http_client_close(&c);
    /* two lengths, a chunk that is too long, a method nobody knows */
    static const char *const odd[] = {
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "ffffffffffffffffff\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n"
        "\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /\r\n\r\n",
        "\r\n\r\n\r\n\r\n"};
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        c = open_client();
        assert_true(http_client_say(&c, odd[i]));
        shutdown(c.fd, SHUT_WR);
        if (!http_rig_until(&rig, is_eof, &c)) fail_msg("case %zu", i);
        http_client_close(&c);
    }
    c = open_client(); /* and goes on */
    assert_true(http_client_ask(&c, "BREW", "/pot", NULL));
    expect(&c, 200, "/pot");
    assert_string_equal(last_method, "BREW");
    http_client_close(&c);
    end();
}

static void test_out_of_memory_costs_one_connection(void **state)
{
    (void)state;
    begin((struct http_options){0});
    for (long fail = 0; fail < 12; fail++) {
        struct http_client c = open_client();
        assert_true(http_client_say(&c, "POST /stream HTTP/1.1\r\nHost: x\r\n"
                                        "Content-Length: 2\r\n\r\nhi"));
        const size_t before = n_calls;
        mem_fail_after(fail);
        for (int i = 0; i < 10; i++) uv_run(&rig.loop, UV_RUN_NOWAIT);
        if (n_calls > before && calls[before].call) {
            http_send(calls[before].call, "x", 1);
            uv_run(&rig.loop, UV_RUN_NOWAIT);
        }
        mem_fail_after(-1);
        http_client_close(&c);
        http_rig_run(&rig, 10);
    }
    struct http_client c = open_client();
    assert_true(http_client_ask(&c, "GET", "/now", NULL));
    expect(&c, 200, "/now");
    http_client_close(&c);
    end();
}

static void test_addresses(void **state)
{
    (void)state;
    begin((struct http_options){0});
    static const char *const bad[] = {
        "",          "localhost",     ":80",   "1.2.3.4:", "::1:80",
        "1.2.3.4:x", "1.2.3.4:65536", "[::1]", "a:-1"};
    struct http *other = NULL;
    struct error err;
    struct http_options o = {.handler = on_request};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        o.address = bad[i];
        assert_int_equal(http_create(&other, &rig.loop, &o, &err), ST_USAGE);
        assert_non_null(strstr(err.text, "HOST:PORT"));
    }
    char taken[32];
    snprintf(taken, sizeof taken, "127.0.0.1:%u", http_port(server));
    o.address = taken;
    assert_int_equal(http_create(&other, &rig.loop, &o, &err), ST_IO);
    assert_non_null(strstr(err.text, taken));
    assert_non_null(strstr(err.text, "another program listens"));
    assert_null(other);
    for (long fail = 0; fail < 1; fail++) {
        mem_fail_after(fail);
        o.address = "127.0.0.1:0";
        assert_int_equal(http_create(&other, &rig.loop, &o, &err),
                         ST_NO_MEMORY);
        mem_fail_after(-1);
    }
    end();
}

int main(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 2048) {
        files.rlim_cur = files.rlim_max < 2048 ? files.rlim_max : 2048;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_and_answer),
        cmocka_unit_test(test_preflight_echoes_what_is_asked),
        cmocka_unit_test(test_answer_later_and_a_large_one),
        cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(test_200_suspended_streams_all_finish),
        cmocka_unit_test(test_200_leave_while_suspended_and_are_noticed),
        cmocka_unit_test(test_a_reader_that_does_not_read_is_gone),
        cmocka_unit_test(test_body_over_the_limit),
        cmocka_unit_test(test_silent_and_trickling_connections_are_closed),
        cmocka_unit_test(test_more_connections_wait_their_turn),
        cmocka_unit_test(test_what_is_not_http),
        cmocka_unit_test(test_out_of_memory_costs_one_connection),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

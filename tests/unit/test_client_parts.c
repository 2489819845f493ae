/* The client's parts that need no process: events out of bytes cut anywhere,
 * the table, URLs. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include "client/http.h" /* before cmocka.h: both have a `fail` */
#include "client/sse.h"
#include "client/table.h"

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------- events */

static struct buf seen;

static int on_data(void *arg, const char *text, size_t n)
{
    (void)arg;
    assert_int_equal(text[n], '\0');
    assert_int_equal(buf_printf(&seen, "[%.*s]", (int)n, text), ST_OK);
    return 0;
}

static int on_comment(void *arg, const char *text, size_t n)
{
    (void)arg;
    assert_int_equal(buf_printf(&seen, "(%.*s)", (int)n, text), ST_OK);
    return 0;
}

static const struct {
    const char *bytes, *want;
} streams[] = {
    {"data: a\n\n", "[a]"},
    {"data:a\n\ndata:  b\n\n", "[a][ b]"},
    {"data: a\r\n\r\ndata: b\r\n\r\n", "[a][b]"},
    {"data: a\r\rdata: b\r\r", "[a][b]"},
    {"data: a\ndata: b\ndata\n\n", "[a\nb\n]"},
    {": waiting, 3 in front\n\ndata: x\n\n", "(waiting, 3 in front)[x]"},
    {":\n:none\n\n\n\n", "()(none)"},
    {"event: y\nid: 7\ndatax: no\ndata: a\nretry: 1\n\n", "[a]"},
    {"data:\n\n", "[]"},
    {"data: not ended\n", ""},
    {"data: a\n\ndata: not ended", "[a]"},
};

static void events_do_not_depend_on_where_bytes_are_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(streams); i++) {
        const char *bytes = streams[i].bytes;
        const size_t n = strlen(bytes);
        for (size_t a = 0; a <= n; a++) {
            for (size_t b = a; b <= n; b++) {
                struct sse s;
                sse_init(&s);
                s.data = on_data;
                s.comment = on_comment;
                buf_init(&seen, 1000);
                assert_int_equal(buf_append(&seen, "", 0), ST_OK);
                assert_int_equal(sse_push(&s, bytes, a), 0);
                assert_int_equal(sse_push(&s, bytes + a, b - a), 0);
                assert_int_equal(sse_push(&s, bytes + b, n - b), 0);
                assert_string_equal(seen.data, streams[i].want);
                buf_fini(&seen);
                sse_fini(&s);
            }
        }
    }
}

static void events_have_a_limit(void **state)
{
    (void)state;
    static char waste[1u << 20];
    memset(waste, 'x', sizeof waste);
    struct sse s;
    sse_init(&s);
    s.data = on_data;
    s.comment = on_comment;
    int got = 0;
    size_t n = 0;
    while (got == 0 && n < 2 * (size_t)SSE_EVENT_MAX) {
        got = sse_push(&s, waste, sizeof waste);
        n += sizeof waste;
    }
    assert_int_equal(got, -1);
    assert_true(n <= SSE_EVENT_MAX + sizeof waste);
    sse_fini(&s);
    /* and so has an event of many lines */
    sse_init(&s);
    s.data = on_data;
    s.comment = on_comment;
    got = 0;
    for (n = 0; got == 0 && n < 2 * (size_t)SSE_EVENT_MAX; n += 1000000) {
        assert_int_equal(sse_push(&s, "data:", 5), 0);
        assert_int_equal(sse_push(&s, waste, 1000000), 0);
        got = sse_push(&s, "\n", 1);
    }
    assert_int_equal(got, -1);
    sse_fini(&s);
}

static void no_memory_ends_the_stream(void **state)
{
    (void)state;
    const size_t before = mem_in_use();
    for (long left = 0;; left++) {
        struct sse s;
        sse_init(&s);
        s.data = on_data;
        s.comment = on_comment;
        buf_init(&seen, 1000);
        assert_int_equal(buf_append(&seen, "0123456789", 10), ST_OK);
        mem_fail_after(left);
        const int got = sse_push(&s, "data: ab\n\n", 10);
        mem_fail_after(-1);
        buf_fini(&seen);
        sse_fini(&s);
        assert_int_equal(mem_in_use(), before);
        if (got == 0) break;
        assert_int_equal(got, -1);
        assert_true(left < 10);
    }
}

/* ----------------------------------------------------------------- URLs */

static void urls(void **state)
{
    (void)state;
    struct http_pool p;
    struct error err;
    unsetenv("POTLUCK_HOST");
    unsetenv("POTLUCK_API_KEY");
    assert_int_equal(http_pool_find(&p, NULL, &err), ST_OK);
    assert_string_equal(p.url, "http://127.0.0.1:7421");
    assert_null(p.key);
    setenv("POTLUCK_HOST", "pc-1:99/", 1);
    setenv("POTLUCK_API_KEY", "secret", 1);
    assert_int_equal(http_pool_find(&p, NULL, &err), ST_OK);
    assert_string_equal(p.url, "http://pc-1:99");
    assert_string_equal(p.key, "secret");
    assert_int_equal(http_pool_find(&p, "https://x/", &err), ST_OK);
    assert_string_equal(p.url, "https://x");
    assert_int_equal(http_pool_find(&p, "http://[::1]:7421", &err), ST_OK);
    static const char *const bad[] = {"ftp://x", "http://a b",         "/",
                                      "a?b",     "file:///etc/passwd", "a\nb"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(http_pool_find(&p, bad[i], &err), ST_USAGE);
    }
    unsetenv("POTLUCK_HOST");
    unsetenv("POTLUCK_API_KEY");
}

/* ---------------------------------------------------------------- table */

static struct buf table(const char *json)
{
    struct buf b;
    buf_init(&b, TABLE_MAX);
    json_t *o = json_loads(json, 0, NULL);
    assert_non_null(o);
    assert_int_equal(table_write(&b, o), ST_OK);
    json_decref(o);
    return b;
}

static void the_table_has_what_a_teacher_wants(void **state)
{
    (void)state;
    struct buf b = table(
        "{\"state\":\"loading\",\"why\":\"fetching\",\"epoch\":3,\"model\":"
        "\"m\",\"n_ctx\":2048,\"nodes\":[{\"id\":\"00ff\",\"name\":\"pc-1\","
        "\"state\":\"loading\",\"isa\":\"avx2\",\"threads\":4,"
        "\"memory_bytes\":4294967296,\"planned_bytes\":1073741824,"
        "\"read_bytes_per_s\":10737418240,\"link_bytes_per_s\":125000000,"
        "\"link_latency_s\":0.0002,\"layers\":\"0-11\",\"embed\":true,"
        "\"done_bytes\":50,\"total_bytes\":200,\"loading_s\":10,\"what\":"
        "\"fetching\"},"
        "{\"name\":\"pc-zwei-\\u00fc\",\"state\":\"ready\",\"head\":true,"
        "\"experts\":8,\"layers\":\"\",\"busy\":true}],\"plan\":{\"stages\":"
        "[{\"node\":\"pc-1\",\"decode_ms\":12.5}],\"decode_tokens_per_s\":9.5,"
        "\"bottleneck\":\"pc-1 computes\"},\"queue\":{\"waiting\":2,"
        "\"running\":3},\"totals\":{\"prompts\":7,\"tokens\":99}}");
    static const char *const want[] = {
        "pool: loading (fetching); model m; context 2048\n",
        "0-11 + embedding",
        "1.00 GiB of 4.00 GiB",
        "4 x avx2",
        "10.00 GiB/s",
        "1000 Mbit/s, 0.2 ms",
        "12.5 ms",
        "fetching 25 %, 5 B/s, 0:30 left\n",
        "head + 8 experts",
        "computing\n",
        "predicted: 9.5 tokens/s for one\n",
        "bottleneck: pc-1 computes\n",
        "queue: 3 running, 2 waiting\n",
        "answered: 7 prompts, 99 tokens\n"};
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        if (!strstr(b.data, want[i])) {
            fail_msg("\"%s\" is not in:\n%s", want[i], b.data);
        }
    }
    buf_fini(&b);
}

static void the_table_takes_anything(void **state)
{
    (void)state;
    static const char hostile[] =
        "{\"nodes\":[{\"name\":\"\\u001b[2J\\u009b1m\\n\",\"state\":{},"
        "\"memory_bytes\":-1,\"planned_bytes\":1e300,\"threads\":\"four\"}],"
        "\"why\":\"\\u001b]0;x\\u0007\",\"state\":\"a\\nb\"}";
    static const char *const odd[] = {
        "{}", "{\"nodes\":7,\"plan\":[],\"queue\":\"x\",\"state\":null}",
        "{\"nodes\":[1,null,\"x\",[],{}]}", hostile,
        /* cut at 40 bytes, within a character */
        "{\"nodes\":[{\"name\":\"€€€€€€€€€€€€€€€€€€€€\"}]}"};
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        struct buf b = table(odd[i]);
        assert_null(memchr(b.data, '\033', b.len));
        assert_null(strstr(b.data, "\xc2\x9b"));
        json_t *utf8 = json_stringn(b.data, b.len);
        assert_non_null(utf8);
        json_decref(utf8);
        buf_fini(&b);
    }
    struct buf empty = table("{\"state\":\"waiting\",\"nodes\":[]}");
    assert_string_equal(empty.data, "pool: waiting\nno PC has joined\n");
    buf_fini(&empty);
}

static void the_table_survives_every_failed_allocation(void **state)
{
    (void)state;
    json_t *o = json_loads("{\"nodes\":[{\"name\":\"a\"}]}", 0, NULL);
    const size_t before = mem_in_use();
    for (long left = 0;; left++) {
        struct buf b;
        buf_init(&b, TABLE_MAX);
        mem_fail_after(left);
        const enum status st = table_write(&b, o);
        mem_fail_after(-1);
        buf_fini(&b);
        assert_int_equal(mem_in_use(), before);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
    }
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_do_not_depend_on_where_bytes_are_cut),
        cmocka_unit_test(events_have_a_limit),
        cmocka_unit_test(no_memory_ends_the_stream),
        cmocka_unit_test(urls),
        cmocka_unit_test(the_table_has_what_a_teacher_wants),
        cmocka_unit_test(the_table_takes_anything),
        cmocka_unit_test(the_table_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

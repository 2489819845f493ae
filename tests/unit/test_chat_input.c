/* Messages as clients send them: shapes that are taken, shapes that are not,
 * and the system message of a template that has no room for one. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "engine/chat_input.h"
#include "tests/lib/vocab.h"

static struct error err;

static json_t *parse(const char *text)
{
    json_t *o = json_loads(text, JSON_ALLOW_NUL, NULL);
    if (!o) fail_msg("not JSON: %s", text);
    return o;
}

static void expect_read(const char *text, const char *want)
{
    json_t *in = parse(text), *out = NULL, *w = parse(want);
    if (chat_messages_read(&out, in, &err) != ST_OK)
        fail_msg("%s: %s", text, err.text);
    if (!json_equal(out, w)) {
        char *got = json_dumps(out, 0);
        fail_msg("%s became %s", text, got);
    }
    json_decref(in);
    json_decref(out);
    json_decref(w);
}

static void expect_refused(const char *text, const char *said)
{
    json_t *in = parse(text), *out = NULL;
    assert_int_equal(chat_messages_read(&out, in, &err), ST_INVALID);
    if (!strstr(err.text, said)) fail_msg("%s: %s", text, err.text);
    json_decref(in);
}

static void test_shapes(void **state)
{
    (void)state;
    expect_read("[{\"role\":\"user\",\"content\":\"Hi\"}]",
                "[{\"role\":\"user\",\"content\":\"Hi\"}]");
    expect_read("[{\"role\":\"developer\",\"content\":[{\"type\":\"text\","
                "\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\","
                "\"cache_control\":{}},\"c\"]}]",
                "[{\"role\":\"system\",\"content\":\"abc\"}]");
    expect_read("[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":"
                "[1]},{\"role\":\"tool\",\"tool_call_id\":\"x\"}]",
                "[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":"
                "[1]},{\"role\":\"tool\",\"content\":\"\","
                "\"tool_call_id\":\"x\"}]");
    expect_read("[{\"role\":\"user\",\"content\":\"a\\u0000b\",\"name\":"
                "\"n\",\"metadata\":{}}]",
                "[{\"role\":\"user\",\"content\":\"a\\u0000b\",\"name\":"
                "\"n\"}]");
}

static void test_refused(void **state)
{
    (void)state;
    expect_refused("[]", "array of 1 to");
    expect_refused("{\"role\":\"user\"}", "array of 1 to");
    expect_refused("[{\"role\":\"user\"},7]", "messages[1] must be an object");
    expect_refused("[{\"content\":\"x\"}]", "messages[0] must be an object");
    expect_refused("[{\"role\":\"\",\"content\":\"x\"}]", "messages[0]");
    expect_refused("[{\"role\":\"user\",\"content\":5}]",
                   "messages[0].content must be a string");
    expect_refused("[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
                   "\"image_url\":{}}]}]",
                   "no text");
    expect_refused("[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]",
                   "no text");
}

static void test_made(void **state)
{
    (void)state;
    json_t *out = NULL;
    json_t *want = parse("[{\"role\":\"system\",\"content\":\"s\"},"
                         "{\"role\":\"user\",\"content\":\"u\"}]");
    assert_int_equal(chat_messages_make(&out, "s", "uv", 1, &err), ST_OK);
    assert_true(json_equal(out, want));
    json_decref(out);
    json_decref(want);
    assert_int_equal(chat_messages_make(&out, NULL, "\xff", 1, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "UTF-8"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The body of a completion, field by field; JSON strings, base64, stop
 * strings. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/api_request.h"
#include "tests/lib/corpus.h"

#define N_VOCAB 1000

static struct api_request r;
static const char *param;
static struct error err;

static enum status parse(const char *body)
{
    param = NULL;
    err = (struct error){.text = ""};
    r = (struct api_request){0};
    return api_request_parse(&r, body, strlen(body), false, N_VOCAB, &param,
                             &err);
}

static void accept_it(const char *body)
{
    if (parse(body) != ST_OK) fail_msg("%s: %s", body, err.text);
}

static void done(void)
{
    api_request_fini(&r);
    assert_int_equal(mem_in_use(), 0);
}

static void test_everything_said(void **state)
{
    (void)state;
    const char *body =
        "{\"prompt\":\"Hi \\u0000\\u20ac\",\"max_tokens\":7,\"temperature\":"
        "0.5,"
        "\"top_p\":0.9,\"top_k\":-1,\"min_p\":0.1,\"typical_p\":0.8,"
        "\"repeat_penalty\":1.1,\"frequency_penalty\":0.25,"
        "\"presence_penalty\":-0.5,\"repeat_last_n\":64,\"logit_bias\":"
        "{\"5\":-100,\"0\":1.5},\"seed\":42,\"stop\":[\"a\",\"bc\"],"
        "\"stream\":true,\"stream_options\":{\"include_usage\":true},"
        "\"return_token_ids\":true,\"return_logits\":true,\"user\":\"u\","
        "\"model\":\"m\",\"n\":1,\"best_of\":1,\"echo\":false,\"logprobs\":"
        "null,\"suffix\":\"\",\"response_format\":{\"type\":\"text\"},"
        "\"metadata\":{\"x\":[1]},\"whatever\":1}";
    accept_it(body);
    assert_true(corpus_seed("everything", body, strlen(body)));
    assert_int_equal(r.text_bytes, 7);
    assert_memory_equal(r.text, "Hi \0\xe2\x82\xac", 7);
    assert_int_equal(r.max_tokens, 7);
    assert_true(r.sample.temperature == 0.5f && r.sample.top_p == 0.9f);
    assert_int_equal(r.sample.top_k, 0);
    assert_true(r.sample.min_p == 0.1f && r.sample.typical_p == 0.8f);
    assert_true(r.sample.repeat == 1.1f && r.sample.frequency == 0.25f);
    assert_true(r.sample.presence == -0.5f);
    assert_int_equal(r.sample.repeat_last_n, 64);
    assert_int_equal(r.sample.seed, 42);
    assert_int_equal(r.sample.n_bias, 2);
    assert_ptr_equal(r.sample.bias, r.bias);
    float sum = 0;
    for (int i = 0; i < 2; i++) sum += (float)r.bias[i].id + r.bias[i].delta;
    assert_true(sum == 5 - 100 + 1.5f);
    assert_int_equal(r.stops.n_stops, 2);
    assert_true(r.stream && r.include_usage && r.return_token_ids &&
                r.return_logits);
    assert_string_equal(r.model, "m");
    done();
}

static void test_defaults_and_prompts(void **state)
{
    (void)state;
    const struct sample_params usual = sample_defaults();
    accept_it("{\"prompt\":\"\"}");
    assert_int_equal(r.text_bytes, 0);
    assert_int_equal(r.max_tokens, 16);
    assert_true(r.sample.temperature == usual.temperature);
    assert_int_equal(r.sample.top_k, usual.top_k);
    assert_true(r.sample.seed < UINT64_C(1) << 53);
    const uint64_t seed = r.sample.seed;
    assert_false(r.stream || r.include_usage || r.return_token_ids);
    done();
    accept_it("{\"prompt\":[\"x\"],\"temperature\":null,\"seed\":-1,"
              "\"max_completion_tokens\":3.0,\"stop\":\"\"}");
    assert_string_equal(r.text, "x");
    assert_int_equal(r.max_tokens, 3);
    assert_int_not_equal(r.sample.seed, seed); /* drawn anew */
    assert_int_equal(r.stops.n_stops, 0);
    done();
    static const char *const ids[] = {"{\"prompt\":[1,999,0]}",
                                      "{\"prompt\":[[1,999,0]]}"};
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        accept_it(ids[i]);
        assert_null(r.text);
        assert_int_equal(r.ids.n, 3);
        assert_int_equal(r.ids.id[1], 999);
        done();
    }
}

/* A field with a value that is refused, and whose fault it is. */
static const struct {
    const char *field, *value;
} bad[] = {
    {"prompt", "null"},
    {"prompt", "5"},
    {"prompt", "{}"},
    {"prompt", "[]"},
    {"prompt", "[[]]"},
    {"prompt", "[\"a\",\"b\"]"},
    {"prompt", "[[1],[2]]"},
    {"prompt", "[1,\"a\"]"},
    {"prompt", "[1000]"},
    {"prompt", "[-1]"},
    {"prompt", "[1.5]"},
    {"prompt", "[true]"},
    {"max_tokens", "0"},
    {"max_tokens", "-1"},
    {"max_tokens", "1.5"},
    {"max_tokens", "\"5\""},
    {"max_tokens", "1e300"},
    {"max_tokens", "99999999999"},
    {"max_completion_tokens", "[]"},
    {"temperature", "-0.1"},
    {"temperature", "101"},
    {"temperature", "0.0001"},
    {"temperature", "\"hot\""},
    {"temperature", "true"},
    {"top_p", "1.5"},
    {"top_p", "{}"},
    {"top_k", "-2"},
    {"top_k", "0.5"},
    {"min_p", "2"},
    {"typical_p", "-1"},
    {"repeat_penalty", "0"},
    {"repetition_penalty", "\"\""},
    {"repeat_last_n", "513"},
    {"frequency_penalty", "1e9"},
    {"presence_penalty", "[]"},
    {"logit_bias", "[]"},
    {"logit_bias", "{\"1000\":1}"},
    {"logit_bias", "{\"-1\":1}"},
    {"logit_bias", "{\"x\":1}"},
    {"logit_bias", "{\"\":1}"},
    {"logit_bias", "{\"01\":1}"},
    {"logit_bias", "{\"1 \":1}"},
    {"logit_bias", "{\"1\":101}"},
    {"logit_bias", "{\"1\":\"1\"}"},
    {"seed", "1.5"},
    {"seed", "\"1\""},
    {"stop", "5"},
    {"stop", "[5]"},
    {"stop", "[null]"},
    {"stop", "{}"},
    {"stream", "1"},
    {"stream", "\"true\""},
    {"stream_options", "true"},
    {"include_usage", "1"}, /* inside stream_options */
    {"return_token_ids", "\"\""},
    {"return_logits", "true"}, /* without stream */
    {"user", "5"},
    {"model", "[]"},
    {"n", "2"},
    {"n", "\"2\""},
    {"best_of", "3"},
    {"logprobs", "0"},
    {"logprobs", "5"},
    {"logprobs", "true"},
    {"echo", "true"},
    {"suffix", "\"x\""},
    {"response_format", "{\"type\":\"json_object\"}"},
    {"response_format", "\"text\""},
    {"grammar", "\"root ::= x\""},
    {"json_schema", "{\"type\":\"string\"}"},
    {"min_tokens", "5"},
    {"ignore_eos", "true"},
    {"mirostat", "2"},
};

static void test_wrong_values_are_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        char body[256], name[64];
        const bool inside = strcmp(bad[i].field, "include_usage") == 0;
        const bool prompt = strcmp(bad[i].field, "prompt") == 0;
        snprintf(body, sizeof body, "{%s%s\"%s\":%s%s}",
                 prompt ? "" : "\"prompt\":\"x\",",
                 inside ? "\"stream_options\":{" : "", bad[i].field,
                 bad[i].value, inside ? "}" : "");
        snprintf(name, sizeof name, "bad-%zu-%s", i, bad[i].field);
        assert_true(corpus_seed(name, body, strlen(body)));
        const enum status st = parse(body);
        if (st == ST_OK || !param || strcmp(param, bad[i].field) != 0 ||
            !strstr(err.text, bad[i].field)) {
            fail_msg("%s: %s, param %s, \"%s\"", body, status_name(st),
                     param ? param : "none", err.text);
        }
        assert_int_equal(mem_in_use(), 0);
    }
}

static void test_what_is_no_request(void **state)
{
    (void)state;
    static const char *const bodies[] = {"",
                                         "{",
                                         "[]",
                                         "\"prompt\"",
                                         "null",
                                         "{\"a\":}",
                                         "{\"a\":NaN}",
                                         "{\"a\":1e999}",
                                         "{} x",
                                         "\xff\xfe",
                                         "{\"a\":99999999999999999999}",
                                         "{\"prompt\":\"\xff\"}",
                                         "{\"prompt\":\"\\ud800\"}"};
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        if (parse(bodies[i]) != ST_INVALID) fail_msg("case %zu", i);
        assert_null(param);
        char name[32];
        snprintf(name, sizeof name, "none-%zu", i);
        assert_true(corpus_seed(name, bodies[i], strlen(bodies[i])));
    }
    /* what the client wrote may be a prompt: errors do not repeat it */
    assert_int_equal(parse("{\"prompt\":\"geheim"), ST_INVALID);
    assert_null(strstr(err.text, "geheim"));
    accept_it("{\"prompt\":\"a\",\"prompt\":\"b\"}"); /* the last one counts */
    assert_string_equal(r.text, "b");
    done();
    char *deep = mem_alloc(200001);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    assert_int_equal(parse(deep), ST_INVALID);
    for (size_t i = 0; i < 200000; i += 2) memcpy(deep + i, "1,", 2);
    memcpy(deep, "{\"prompt\":[", 11);
    assert_int_equal(parse(deep), ST_INVALID);
    mem_free(deep);
    assert_int_equal(mem_in_use(), 0);
}

static void test_every_failed_allocation(void **state)
{
    (void)state;
    const char *body = "{\"prompt\":\"abc\",\"stop\":[\"a\",\"b\"],\"model\":"
                       "\"m\",\"logit_bias\":{\"1\":1}}";
    long n = 0;
    for (;; n++) {
        mem_fail_after(n);
        const enum status st = parse(body);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_int_equal(mem_in_use(), 0);
    }
    assert_true(n >= 5);
    done();
}

/* -------------------------------------------------------------- text */

static void expect_quoted(const char *s, size_t n, const char *want)
{
    struct buf b;
    buf_init(&b, 1000);
    assert_int_equal(api_quote(&b, s, n), ST_OK);
    assert_string_equal(b.data, want);
    buf_fini(&b);
}

static void test_strings_and_base64(void **state)
{
    (void)state;
    expect_quoted("", 0, "\"\"");
    expect_quoted("a\"\\\n\r\t\x01\x7f\0b", 10,
                  "\"a\\\"\\\\\\n\\r\\t\\u0001\\u007f\\u0000b\"");
    expect_quoted("\xc3\xa4\xe2\x82\xac", 5, "\"\xc3\xa4\xe2\x82\xac\"");
    expect_quoted("x\xff\xe2\x82", 4,
                  "\"x\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    static const char *const want[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="};
    for (size_t n = 0; n < COUNT_OF(want); n++) { /* RFC 4648, section 10 */
        struct buf b;
        buf_init(&b, 100);
        assert_int_equal(api_base64(&b, "foobar", n), ST_OK);
        assert_string_equal(b.data, want[n]);
        buf_fini(&b);
    }
}

static void test_stop_strings_in_pieces(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
        const char *stop[4];
        bool hit;
    } cases[] = {
        {"one two three", "one ", {"two"}, true},
        {"one two three", "one two three", {"four"}, false},
        {"aaab", "a", {"aab"}, true},
        {"abcabcabd", "abc", {"abcabd"}, true},
        {"xabcy", "xa", {"abcd", "bc"}, true}, /* the one that ends first */
        {"xabcy", "x", {"bc", "abc"}, true},   /* of these, that begins first */
        {"xabc", "xabc", {"abcd", "c!"}, false},
        {"\n\nHuman", "", {"\n\n"}, true},
        {"pr\xc3\xa4zise", "pr", {"\xc3\xa4"}, true},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (size_t piece = 1; piece < 16; piece++) {
            struct stops s = {0};
            struct buf out;
            buf_init(&out, 100);
            for (size_t k = 0; k < 4 && cases[i].stop[k]; k++) {
                assert_int_equal(
                    stops_add(&s, cases[i].stop[k], strlen(cases[i].stop[k])),
                    ST_OK);
            }
            const char *t = cases[i].text;
            for (size_t n = strlen(t), at = 0; at < n; at += piece) {
                const size_t m = n - at < piece ? n - at : piece;
                assert_int_equal(stops_push(&s, t + at, m, &out), ST_OK);
            }
            assert_int_equal(stops_finish(&s, &out), ST_OK);
            assert_string_equal(out.len ? out.data : "", cases[i].want);
            assert_int_equal(s.hit, cases[i].hit);
            stops_fini(&s);
            buf_fini(&out);
        }
    }
    assert_int_equal(mem_in_use(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_said),
        cmocka_unit_test(test_defaults_and_prompts),
        cmocka_unit_test(test_wrong_values_are_refused_by_name),
        cmocka_unit_test(test_what_is_no_request),
        cmocka_unit_test(test_every_failed_allocation),
        cmocka_unit_test(test_strings_and_base64),
        cmocka_unit_test(test_stop_strings_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

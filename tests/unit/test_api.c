/* The pool over HTTP, with a pool and an admission made of answers that the
 * test decides: shapes of answers, streams, errors, cancelling, keys. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <sys/resource.h>

#include "tests/unit/api_rig.h"

/* -------------------------------------------------------- completions */

static void test_json_answer(void **state)
{
    (void)state;
    struct http_client c;
    const size_t j = begin(&c, "{\"prompt\":\"ab\",\"max_tokens\":9,"
                               "\"return_token_ids\":true,\"seed\":5,"
                               "\"model\":\"org/tiny\",\"temperature\":0}");
    const struct pool_job *job = &pool.job[j];
    assert_int_equal(job->request.max_tokens, 9);
    assert_int_equal(job->request.sample.seed, 5);
    assert_true(job->request.sample.temperature == 0);
    assert_false(job->request.whole_rows);
    assert_int_equal(job->prompt[0], tokenizer_bos(pool.tokenizer));
    token(j, 100, "He");
    token(j, 101, "y \xff\"");
    token(j, 2, "");
    end_job(j, "stop", ST_OK, "");
    json_t *o = finish_json(&c, 200);
    assert_string_equal(S(o, "object"), "text_completion");
    assert_string_equal(S(o, "model"), "org/tiny");
    assert_memory_equal(S(o, "id"), "cmpl-", 5);
    assert_string_equal(S(o, "choices.0.text"), "Hey \xef\xbf\xbd\"");
    assert_string_equal(S(o, "choices.0.finish_reason"), "stop");
    assert_true(json_is_null(at(o, "choices.0.logprobs")));
    assert_int_equal(json_array_size(at(o, "choices.0.token_ids")), 3);
    assert_int_equal(I(o, "choices.0.token_ids.2"), 2);
    assert_int_equal(I(o, "usage.prompt_tokens"), job->request.n_prompt);
    assert_int_equal(I(o, "usage.completion_tokens"), 3);
    assert_int_equal(I(o, "usage.total_tokens"), job->request.n_prompt + 3);
    assert_int_equal(I(o, "usage.prompt_tokens_details.cached_tokens"), 0);
    assert_int_equal(I(o, "seed"), 5);
    assert_int_equal(I(o, "timings.predicted_n"), 3);
    assert_true(json_real_value(at(o, "timings.queued_ms")) == 5);
    assert_true(json_real_value(at(o, "timings.prompt_ms")) == 10);
    assert_true(json_real_value(at(o, "timings.predicted_ms")) == 4);
    /* two tokens in 4 ms: the first came out of the prompt's steps */
    assert_true(json_real_value(at(o, "timings.predicted_per_second")) == 500);
    json_decref(o);
    assert_int_equal(pool.n_cancelled, 0);
}

static void test_stream(void **state)
{
    (void)state;
    struct http_client c;
    const size_t j =
        begin(&c, "{\"prompt\":[5,6,7],\"stream\":true,\"seed\":1}");
    assert_int_equal(pool.job[j].request.n_prompt, 3); /* as given: no BOS */
    http_rig_run(&rig, 20);
    http_client_read(&c);
    assert_int_equal(http_client_status(&c), 200); /* before any token */
    assert_true(http_client_has(&c, "Content-Type: text/event-stream"));
    assert_true(http_client_has(&c, "Cache-Control: no-store"));
    assert_true(http_client_has(&c, "X-Accel-Buffering: no"));
    assert_non_null(strstr(c.in.data, ": "));
    token(j, 100, "a\n");
    token(j, 101, ""); /* in the middle of a UTF-8 sequence */
    token(j, 102, "\xe2\x82\xac");
    end_job(j, "length", ST_OK, "");
    struct events e = events_of(finish(&c, 200));
    http_client_close(&c);
    assert_true(e.is_done && e.n_comments >= 1);
    assert_int_equal(json_array_size(e.list), 3);
    assert_string_equal(S(e.list, "0.choices.0.text"), "a\n");
    assert_string_equal(S(e.list, "1.choices.0.text"), "\xe2\x82\xac");
    for (size_t i = 0; i < 2; i++) {
        json_t *o = json_array_get(e.list, i);
        assert_true(json_is_null(at(o, "choices.0.finish_reason")));
        assert_string_equal(S(o, "id"), S(e.list, "2.id"));
        assert_null(json_object_get(o, "usage"));
        assert_null(json_object_get(at(o, "choices.0"), "token_ids"));
    }
    assert_string_equal(S(e.list, "2.choices.0.finish_reason"), "length");
    assert_string_equal(S(e.list, "2.choices.0.text"), "");
    assert_int_equal(I(e.list, "2.usage.completion_tokens"), 3);
    assert_int_equal(I(e.list, "2.timings.prompt_n"), 3);
    assert_int_equal(I(e.list, "2.seed"), 1);
    json_decref(e.list);
}

static void test_stream_with_usage_ids_and_logits(void **state)
{
    (void)state;
    struct http_client c;
    const size_t j =
        begin(&c, "{\"prompt\":\"x\",\"stream\":true,\"return_token_ids\":true,"
                  "\"return_logits\":true,\"stream_options\":"
                  "{\"include_usage\":true}}");
    assert_true(pool.job[j].request.whole_rows);
    token(j, 100, "");
    token(j, 2, "x");
    end_job(j, "stop", ST_OK, "");
    struct events e = events_of(finish(&c, 200));
    http_client_close(&c);
    assert_true(e.is_done);
    assert_int_equal(json_array_size(e.list), 4); /* one a token, and two */
    assert_int_equal(I(e.list, "0.choices.0.token_ids.0"), 100);
    assert_int_equal(I(e.list, "1.choices.0.token_ids.0"), 2);
    const size_t bytes = 4 * tokenizer_n_vocab(pool.tokenizer);
    assert_int_equal(strlen(S(e.list, "0.choices.0.logits")),
                     (bytes + 2) / 3 * 4);
    /* 100.0f and 101.0f, little-endian: 00 00 c8 42, 00 00 ca 42 */
    assert_memory_equal(S(e.list, "0.choices.0.logits"), "AADIQgAAykI", 10);
    assert_true(json_is_null(at(e.list, "0.usage")));
    assert_true(json_is_null(at(e.list, "2.usage")));
    assert_int_equal(I(e.list, "2.timings.predicted_n"), 3);
    assert_int_equal(json_array_size(at(e.list, "3.choices")), 0);
    assert_int_equal(I(e.list, "3.usage.completion_tokens"), 3);
    assert_int_equal(I(e.list, "3.timings.predicted_n"), 3);
    json_decref(e.list);
}

static void test_stop_string_over_tokens(void **state)
{
    (void)state;
    for (int stream = 0; stream < 2; stream++) {
        struct http_client c;
        char body[128];
        snprintf(body, sizeof body,
                 "{\"prompt\":\"x\",\"stop\":[\"END\",\"\\n\\n\"],"
                 "\"stream\":%s}",
                 stream ? "true" : "false");
        const size_t before = pool.n_cancelled;
        const size_t j = begin(&c, body);
        token(j, 100, "one E");
        token(j, 101, "N");
        http_rig_run(&rig, 10);
        http_client_read(&c); /* withheld, as it may be the beginning of END */
        assert_null(c.in.len ? strstr(c.in.data, "one E") : NULL);
        token(j, 102, "O two\n");
        token(j, 103, "\nthree");
        assert_int_equal(pool.n_cancelled, before + 1); /* at once */
        char *all = finish(&c, 200);
        assert_null(strstr(all, "three"));
        if (stream) {
            struct events e = events_of(all);
            const size_t n = json_array_size(e.list);
            char text[100] = "";
            for (size_t i = 0; i < n; i++) {
                const char *part = json_string_value(
                    at(json_array_get(e.list, i), "choices.0.text"));
                snprintf(text + strlen(text), sizeof text - strlen(text), "%s",
                         part);
            }
            assert_string_equal(text, "one ENO two");
            json_t *last = json_array_get(e.list, n - 1);
            assert_string_equal(S(last, "choices.0.finish_reason"), "stop");
            assert_int_equal(I(last, "usage.completion_tokens"), 4);
            assert_true(e.is_done);
            json_decref(e.list);
        } else {
            json_t *o = json_loads(all, 0, NULL);
            assert_string_equal(S(o, "choices.0.text"), "one ENO two");
            assert_string_equal(S(o, "choices.0.finish_reason"), "stop");
            json_decref(o);
            mem_free(all);
        }
        http_client_close(&c);
    }
}

static void test_what_was_withheld_comes_at_the_end(void **state)
{
    (void)state;
    struct http_client c;
    const size_t j =
        begin(&c, "{\"prompt\":\"x\",\"stop\":\"END\",\"stream\":true}");
    token(j, 100, "E");
    end_job(j, "length", ST_OK, "");
    struct events e = events_of(finish(&c, 200));
    assert_string_equal(S(e.list, "0.choices.0.text"), "E");
    assert_string_equal(S(e.list, "0.choices.0.finish_reason"), "length");
    json_decref(e.list);
    http_client_close(&c);
}

static bool has_waiting(void *arg)
{
    struct http_client *c = arg;
    http_client_read(c);
    return c->in.len && strstr(c->in.data, ": waiting, 3 in front\n\n");
}
static bool has_why(void *arg)
{
    struct http_client *c = arg;
    http_client_read(c);
    return strstr(c->in.data, ": pc-3 is lost; a plan is made\n\n");
}
static bool has_working(void *arg)
{
    struct http_client *c = arg;
    http_client_read(c);
    return strstr(c->in.data, ": working\n\n");
}

static void test_comments_while_waiting(void **state)
{
    (void)state;
    struct http_client c;
    pool.position = 3;
    const size_t j = begin(&c, "{\"prompt\":\"x\",\"stream\":true}");
    assert_true(http_rig_until(&rig, has_waiting, &c)); /* at once */
    pool.ready = false;
    pool.why = "pc-3 is lost;\na plan is made";
    assert_true(http_rig_until(&rig, has_why, &c));
    pool.ready = true;
    pool.job[j].position = 0;
    assert_true(http_rig_until(&rig, has_working, &c));
    token(j, 100, "x");
    end_job(j, "stop", ST_OK, "");
    mem_free(finish(&c, 200));
    http_client_close(&c);
}

static void test_errors_of_the_pool(void **state)
{
    (void)state;
    static const struct {
        enum status st;
        int status;
        const char *code, *param;
    } cases[] = {
        {ST_TOO_LARGE, 400, "context_length_exceeded", "prompt"},
        {ST_FULL, 429, "queue_full", NULL},
        {ST_USAGE, 400, "invalid", NULL},
        {ST_INVALID, 400, "invalid", NULL},
        {ST_NO_MEMORY, 503, "out_of_memory", NULL},
        {ST_IO, 503, "broken_off", NULL},
        {ST_NUMERIC, 500, "internal_error", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (int stream = 0; stream < 2; stream++) {
            pool.submit = cases[i].st;
            struct http_client c =
                ask("POST", "/v1/completions",
                    stream ? "{\"prompt\":\"x\",\"stream\":true}"
                           : "{\"prompt\":\"x\"}");
            mem_free(finish(&c, cases[i].status));
            assert_int_equal(http_client_has(&c, "Retry-After: "),
                             cases[i].status == 429 || cases[i].status == 503);
            expect_error(c, cases[i].status, cases[i].code, cases[i].param);
        }
    }
    pool.submit = ST_TOO_LARGE;
    struct http_client c = ask("POST", "/v1/completions", "{\"prompt\":\"x\"}");
    json_t *o = finish_json(&c, 400);
    assert_string_equal(S(o, "error.type"), "exceed_context_size_error");
    assert_int_equal(I(o, "error.n_ctx"), 64);
    assert_true(I(o, "error.n_prompt_tokens") > 0);
    json_decref(o);
}

static void test_breaks_off_in_the_middle(void **state)
{
    (void)state;
    struct http_client c;
    size_t j = begin(&c, "{\"prompt\":\"x\",\"stream\":true}");
    token(j, 100, "so far");
    end_job(j, NULL, ST_IO, "worker pc-7 is lost");
    struct events e = events_of(finish(&c, 200));
    http_client_close(&c);
    assert_false(e.is_done);
    assert_int_equal(json_array_size(e.list), 2);
    assert_string_equal(S(e.list, "1.error.message"), "worker pc-7 is lost");
    assert_string_equal(S(e.list, "1.error.type"), "server_error");
    json_decref(e.list);
    j = begin(&c, "{\"prompt\":\"x\"}");
    token(j, 100, "so far");
    end_job(j, NULL, ST_INTERRUPTED, "the coordinator stops");
    mem_free(finish(&c, 503));
    assert_true(http_client_has(&c, "X-Should-Retry: false"));
    expect_error(c, 503, "broken_off", NULL);
}

static bool all_cancelled(void *arg)
{
    return pool.n_cancelled >= *(size_t *)arg;
}

static void test_200_clients_leave_and_their_jobs_are_cancelled(void **state)
{
    (void)state;
    static struct http_client c[200];
    for (size_t i = 0; i < COUNT_OF(c); i++) {
        const size_t j =
            begin(&c[i], i % 2 ? "{\"prompt\":\"x\",\"stream\":true}"
                               : "{\"prompt\":\"x\"}");
        if (i % 3 == 0) token(j, 100, "x");
    }
    http_rig_run(&rig, 30);
    assert_int_equal(pool.n_cancelled, 0);
    for (size_t i = 0; i < 150; i++) http_client_close(&c[i]);
    size_t want = 150;
    assert_true(http_rig_until(&rig, all_cancelled, &want));
    for (size_t i = 150; i < COUNT_OF(c); i++) {
        assert_true(pool.job[i].live);
        if (i < 190) {
            end_job(i, "stop", ST_OK, "");
            mem_free(finish(&c[i], 200));
        }
    }
    api_close(api); /* and the last ten with it */
    api = NULL;
    assert_int_equal(pool.n_cancelled, 160);
    for (size_t i = 150; i < COUNT_OF(c); i++) http_client_close(&c[i]);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    size_t answered = 0;
    for (long fail = 0; fail < 60; fail++) {
        const size_t before = pool.n_jobs;
        struct http_client c;
        assert_true(http_client_open(&c, api_port(api)));
        assert_true(http_client_ask(
            &c, "POST", "/v1/completions",
            fail % 2 ? "{\"prompt\":\"x\",\"stream\":true,\"stop\":\"z\","
                       "\"return_token_ids\":true}"
                     : "{\"prompt\":\"x\",\"stop\":\"z\"}"));
        mem_fail_after(fail / 2);
        for (int i = 0; i < 20; i++) uv_run(&rig.loop, UV_RUN_NOWAIT);
        if (pool.n_jobs > before && pool.job[before].live)
            token(before, 100, "text");
        if (pool.n_jobs > before && pool.job[before].live)
            end_job(before, "stop", ST_OK, "");
        for (int i = 0; i < 20; i++) uv_run(&rig.loop, UV_RUN_NOWAIT);
        mem_fail_after(-1);
        assert_true(http_rig_until(&rig, is_whole, &c)); /* nothing hangs */
        answered += http_client_status(&c) == 200;
        http_client_close(&c);
    }
    assert_true(answered > 10);
    http_rig_run(&rig, 20);
}

/* -------------------------------------------------------------- rest */

static void test_refusals(void **state)
{
    (void)state;
    const char *path = "/v1/completions";
    expect_error(ask("POST", path, "{"), 400, "invalid", NULL);
    expect_error(ask("POST", path, "{\"prompt\":\"x\",\"n\":2}"), 400,
                 "unsupported_parameter", "n");
    expect_error(ask("POST", path, "{\"prompt\":\"x\",\"top_p\":2}"), 400,
                 "invalid", "top_p");
    expect_error(ask("POST", path, "{\"prompt\":\"x\",\"model\":\"gpt\"}"), 404,
                 "model_not_found", "model");
    expect_error(ask("POST", "/v1/nothing", "{}"), 404, "not_found", NULL);
    expect_error(ask("GET", "/healthy", NULL), 404, "not_found", NULL);
    struct http_client c = ask("GET", path, NULL);
    mem_free(finish(&c, 405));
    assert_true(http_client_has(&c, "Allow: POST"));
    expect_error(c, 405, "method_not_allowed", NULL);
    expect_error(ask("DELETE", "/v1/models", NULL), 405, "method_not_allowed",
                 NULL);
    assert_true(http_client_open(&c, api_port(api)));
    assert_true(http_client_say(&c, "POST /v1/completions HTTP/1.1\r\n"
                                    "Host: x\r\nContent-Type: text/plain\r\n"
                                    "Content-Length: 2\r\n\r\n{}"));
    expect_error(c, 415, "unsupported_media_type", NULL);
    pool.ready = false;
    pool.why = "2 of 3 workers are here";
    c = ask("POST", path, "{\"prompt\":\"x\"}");
    mem_free(finish(&c, 503));
    assert_true(http_client_has(&c, "Retry-After: "));
    assert_non_null(strstr(c.in.data, "2 of 3 workers are here"));
    expect_error(c, 503, "not_ready", NULL);
    expect_error(ask("GET", "/health", NULL), 503, "not_ready", NULL);
    assert_int_equal(pool.n_jobs, 0);
}

static void test_models_health_cluster_root(void **state)
{
    (void)state;
    static const char *const lists[] = {"/v1/models", "/models"};
    for (size_t i = 0; i < 2; i++) {
        struct http_client c = ask("GET", lists[i], NULL);
        json_t *o = finish_json(&c, 200);
        assert_string_equal(S(o, "object"), "list");
        assert_string_equal(S(o, "data.0.id"), "org/tiny");
        assert_string_equal(S(o, "data.0.object"), "model");
        assert_int_equal(I(o, "data.0.created"), 1234);
        assert_string_equal(S(o, "data.0.owned_by"), "potluck");
        json_decref(o);
    }
    struct http_client c = ask("GET", "/v1/models/org%2Ftiny", NULL);
    json_t *o = finish_json(&c, 200);
    assert_string_equal(S(o, "id"), "org/tiny");
    json_decref(o);
    expect_error(ask("GET", "/v1/models/org", NULL), 404, "model_not_found",
                 NULL);
    c = ask("GET", "/health", NULL);
    o = finish_json(&c, 200);
    assert_string_equal(S(o, "status"), "ok");
    json_decref(o);
    c = ask("GET", "/v1/cluster", NULL);
    o = finish_json(&c, 200);
    assert_true(json_is_true(at(o, "ready")));
    json_decref(o);
    c = ask("GET", "/", NULL);
    char *text = finish(&c, 200);
    assert_non_null(strstr(text, "potluck"));
    mem_free(text);
    http_client_close(&c);
}

/* As the operator, with this header in place of the right one. */
static struct http_client operate(const char *method, const char *path,
                                  const char *body, const char *header)
{
    struct http_client c;
    char text[512];
    assert_true(http_client_open(&c, api_port(api)));
    snprintf(text, sizeof text,
             "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %zu\r\n\r\n%s",
             method, path, header ? header : "Authorization: Bearer " TOKEN,
             strlen(body), body);
    assert_true(http_client_say(&c, text));
    return c;
}

static void test_operator_only(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path;
    } all[] = {{"GET", "/v1/keys"},
               {"POST", "/v1/keys/invite"},
               {"POST", "/v1/keys/approve"},
               {"POST", "/v1/keys/revoke"},
               {"POST", "/v1/keys/add"}};
    const char *body = "{\"who\":\"pc\",\"key\":\"00\",\"name\":\"x\"}";
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        const char *m = all[i].method, *p = all[i].path;
        expect_error(operate(m, p, body, "X-A: b"), 401, "no_token", NULL);
        expect_error(operate(m, p, body, "Authorization: Basic " TOKEN), 401,
                     "no_token", NULL);
        static const char *const wrong[] = {
            "0", "0123456789abcdee", "0123456789abcdef0", "0123456789ABCDEF"};
        for (size_t k = 0; k < COUNT_OF(wrong); k++) {
            char header[64];
            snprintf(header, sizeof header, "Authorization: Bearer %s",
                     wrong[k]);
            expect_error(operate(m, p, body, header), 403, "wrong_token", NULL);
        }
    }
    assert_int_equal(admit.n_invited, 0);
    assert_string_equal(admit.who, "");
    assert_string_equal(admit.name, "");
}

static void test_keys(void **state)
{
    (void)state;
    struct http_client c = operate("GET", "/v1/keys", "", NULL);
    json_t *o = finish_json(&c, 200);
    assert_string_equal(S(o, "keys.0.name"), "pc\xef\xbf\xbd");
    assert_string_equal(S(o, "keys.0.state"), "pending");
    assert_memory_equal(S(o, "keys.0.key"), "ab00", 4);
    json_decref(o);
    static const char *const bodies[] = {"", "{}"};
    for (size_t i = 0; i < 2; i++) {
        c = operate("POST", "/v1/keys/invite", bodies[i], NULL);
        o = finish_json(&c, 200);
        assert_string_equal(S(o, "join"), "potluck://h:1/k?token=tok");
        assert_int_equal(I(o, "minutes"), 60);
        json_decref(o);
    }
    c = operate("POST", "/v1/keys/approve", "{\"who\":\"pc-1\"}", NULL);
    json_decref(finish_json(&c, 200));
    assert_string_equal(admit.who, "pc-1");
    assert_int_equal(n_revoked, 0);
    c = operate("POST", "/v1/keys/revoke", "{\"who\":\"pc-2\"}", NULL);
    o = finish_json(&c, 200);
    assert_memory_equal(S(o, "key"), "1f1f", 4);
    assert_string_equal(S(o, "name"), "pc-2");
    json_decref(o);
    assert_string_equal(admit.who, "pc-2");
    assert_int_equal(n_revoked, 1);
    c = operate("POST", "/v1/keys/add",
                "{\"key\":\"00112233445566778899aabbccddeeff"
                "00112233445566778899AABBCCDDEEFF\",\"name\":\"pc-3\"}",
                NULL);
    json_decref(finish_json(&c, 200));
    assert_string_equal(admit.name, "pc-3");
    assert_int_equal(admit.key[31], 0xff);
    expect_error(operate("POST", "/v1/keys/add",
                         "{\"key\":\"0011\",\"name\":\"x\"}", NULL),
                 400, "invalid", "key");
    expect_error(operate("POST", "/v1/keys/add", "{\"name\":\"x\"}", NULL), 400,
                 "invalid", "key");
    expect_error(operate("POST", "/v1/keys/revoke", "{\"who\":5}", NULL), 400,
                 "invalid", "who");
    admit.says = ST_NOT_FOUND;
    expect_error(operate("POST", "/v1/keys/revoke", "{\"who\":\"x\"}", NULL),
                 404, "not_found", "who");
    assert_int_equal(n_revoked, 1);
}

int main(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 2048) {
        files.rlim_cur = files.rlim_max < 2048 ? files.rlim_max : 2048;
        setrlimit(RLIMIT_NOFILE, &files);
    }
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_json_answer),
        TEST(test_stream),
        TEST(test_stream_with_usage_ids_and_logits),
        TEST(test_stop_string_over_tokens),
        TEST(test_what_was_withheld_comes_at_the_end),
        TEST(test_comments_while_waiting),
        TEST(test_errors_of_the_pool),
        TEST(test_breaks_off_in_the_middle),
        TEST(test_200_clients_leave_and_their_jobs_are_cancelled),
        TEST(test_out_of_memory),
        TEST(test_refusals),
        TEST(test_models_health_cluster_root),
        TEST(test_operator_only),
        TEST(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

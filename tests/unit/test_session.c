/* test_session.c - from the head's candidates to tokens and text, and when an
 * answer ends. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "coordinator/session.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/vocab.h"

#define CTX 16

static struct tokenizer *tokenizer;
static uint32_t n_vocab;
static const int32_t prompt[] = {1, 40, 41};

static int open_all(void **state)
{
    (void)state;
    const struct vocab_spec spec = {.entry = small_vocab, .n = small_vocab_n};
    assert_ok(vocab_create(&tokenizer, &spec, &rig_err));
    n_vocab = tokenizer_n_vocab(tokenizer);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    tokenizer_free(tokenizer);
    return mem_in_use() == 0 ? 0 : -1;
}

static struct pool_request request(uint32_t max_tokens)
{
    struct pool_request r = {.prompt = prompt,
                             .n_prompt = COUNT_OF(prompt),
                             .max_tokens = max_tokens,
                             .sample = sample_defaults()};
    r.sample.temperature = 0;
    return r;
}

static struct session *open_session(const struct pool_request *r)
{
    struct session *s = NULL;
    assert_ok(session_create(&s, r, tokenizer, n_vocab, &rig_err));
    return s;
}

/* A result whose likeliest token is id. */
static struct head_result likely(int32_t id)
{
    struct head_result h = {.n_best = 2, .plain_id = -1, .lse_tempered = 9};
    h.best[0] = (struct head_candidate){.id = id, .logit = 9, .raw = 9};
    h.best[1] = (struct head_candidate){.id = 0, .logit = 1, .raw = 1};
    return h;
}

struct taken {
    enum session_next next;
    int32_t id;
    char text[64];
};
static struct taken take(struct session *s, int32_t likeliest)
{
    struct taken t = {.id = -1};
    const char *text;
    size_t n;
    const struct head_result h = likely(likeliest);
    t.next = session_take(s, &h, NULL, CTX, &t.id, &text, &n, &rig_err);
    assert_in_range(n, 0, sizeof t.text - 1);
    memcpy(t.text, text, n);
    return t;
}

static void test_text_comes_in_whole_characters(void **state)
{
    (void)state;
    const struct pool_request r = request(10);
    struct session *s = open_session(&r);
    struct taken t = take(s, SMALL_BYTE('a'));
    assert_int_equal(t.next, SESSION_GOES_ON);
    assert_int_equal(t.id, SMALL_BYTE('a'));
    assert_string_equal(t.text, "a");
    assert_string_equal(take(s, SMALL_BYTE(0xc3)).text, "");
    assert_string_equal(take(s, SMALL_BYTE(0xa9)).text, "\xc3\xa9");
    assert_string_equal(take(s, SMALL_BYTE(0xc3)).text, "");
    t = take(s, tokenizer_eos(tokenizer)); /* what is held comes out */
    assert_int_equal(t.next, SESSION_STOP);
    assert_string_equal(t.text, "\xc3");
    assert_int_equal(session_n_generated(s), 5);
    session_free(s);
}

static void test_ends_by_length_and_by_context(void **state)
{
    (void)state;
    struct pool_request r = request(2);
    struct session *s = open_session(&r);
    assert_int_equal(take(s, 50).next, SESSION_GOES_ON);
    assert_int_equal(take(s, 50).next, SESSION_LENGTH);
    session_free(s);
    r = request(1000);
    s = open_session(&r); /* 13 rows fit, and a token after the last */
    for (uint32_t i = COUNT_OF(prompt); i < CTX; i++) {
        assert_int_equal(take(s, 50).next, SESSION_GOES_ON);
    }
    assert_int_equal(take(s, 50).next, SESSION_LENGTH);
    session_free(s);
}

static void test_undecided_candidates_ask_for_the_row(void **state)
{
    (void)state;
    struct pool_request r = request(10);
    r.sample.temperature = 1;
    r.sample.top_k = 0;
    r.sample.top_p = 0.99f;
    struct session *s = open_session(&r);
    struct wire_sample sample;
    session_sample(s, &sample);
    assert_false(sample.whole_row);
    /* two candidates of a flat row: most of the mass is elsewhere */
    struct head_result h = {.n_best = 2, .plain_id = -1, .lse_tempered = 9};
    h.best[0].id = 50;
    h.best[1].id = 51;
    const char *text;
    size_t n;
    int32_t id;
    assert_int_equal(session_take(s, &h, NULL, CTX, &id, &text, &n, &rig_err),
                     SESSION_AGAIN);
    assert_int_equal(session_n_generated(s), 0);
    session_sample(s, &sample);
    assert_true(sample.whole_row);
    float *row = mem_zalloc_array(n_vocab, sizeof *row);
    assert_int_equal(session_take(s, &h, row, CTX, &id, &text, &n, &rig_err),
                     SESSION_GOES_ON);
    session_sample(s, &sample);
    assert_false(sample.whole_row);
    mem_free(row);
    session_free(s);
}

static void test_tokens_that_do_not_exist(void **state)
{
    (void)state;
    const struct pool_request r = request(10);
    struct session *s = open_session(&r);
    assert_int_equal(take(s, (int32_t)n_vocab).next, SESSION_BROKEN);
    assert_int_equal(take(s, -1).next, SESSION_BROKEN);
    session_free(s);
}

static void test_bad_requests(void **state)
{
    (void)state;
    struct session *s = NULL;
    struct pool_request r = request(10);
    const int32_t bad[] = {1, (int32_t)n_vocab};
    r.prompt = bad;
    r.n_prompt = 2;
    assert_fails(session_create(&s, &r, tokenizer, n_vocab, &rig_err), ST_USAGE,
                 "token");
    r.n_prompt = 0;
    assert_fails(session_create(&s, &r, tokenizer, n_vocab, &rig_err), ST_USAGE,
                 "empty");
    r = request(10);
    const struct head_adjust bias = {.id = -5, .delta = 1};
    r.sample.bias = &bias;
    r.sample.n_bias = 1;
    assert_fails(session_create(&s, &r, tokenizer, n_vocab, &rig_err), ST_USAGE,
                 "logit_bias");
    r.sample.n_bias = LIMIT_ADJUST + 1;
    assert_fails(session_create(&s, &r, tokenizer, n_vocab, &rig_err), ST_USAGE,
                 "logit_bias");
    r = request(10);
    r.sample.top_p = 2;
    assert_fails(session_create(&s, &r, tokenizer, n_vocab, &rig_err), ST_USAGE,
                 "top-p");
    assert_null(s);
}

static void test_every_allocation_failed(void **state)
{
    (void)state;
    const struct pool_request r = request(4);
    enum status st = ST_NO_MEMORY;
    for (uint64_t k = 0; st != ST_OK; k++) {
        struct session *s = NULL;
        mem_fail_after((long)k);
        st = session_create(&s, &r, tokenizer, n_vocab, &rig_err);
        mem_fail_after(-1);
        if (st != ST_OK) assert_int_equal(st, ST_NO_MEMORY);
        session_free(s);
        assert_in_range(k, 0, 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_comes_in_whole_characters),
        cmocka_unit_test(test_ends_by_length_and_by_context),
        cmocka_unit_test(test_undecided_candidates_ask_for_the_row),
        cmocka_unit_test(test_tokens_that_do_not_exist),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_every_allocation_failed),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

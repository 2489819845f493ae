/* The tokenizer on vocabularies that are wrong, and short of memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "tests/lib/vocab.h"

#define KEY(name) "tokenizer.ggml." name

static struct vocab_spec small_spec(void)
{
    return (struct vocab_spec){.entry = small_vocab, .n = small_vocab_n};
}

static struct tokenizer *create(const struct vocab_spec *spec)
{
    struct tokenizer *t = NULL;
    struct error err;
    if (vocab_create(&t, spec, &err) != ST_OK) fail_msg("%s", err.text);
    return t;
}

static char long_text[1026]; /* filled when the test starts */

static const struct {
    const char *why;
    struct vocab_spec change;
    int32_t at; /* this entry becomes this */
    struct vocab_entry entry;
    enum status want;
    const char *says;
} malformed[] = {
    {"no model", {.skip = KEY("model")}, -1, {0}, ST_NOT_FOUND, "model"},
    {"no tokens", {.skip = KEY("tokens")}, -1, {0}, ST_NOT_FOUND, "tokens"},
    {"no scores", {.skip = KEY("scores")}, -1, {0}, ST_NOT_FOUND, "scores"},
    {"no types",
     {.skip = KEY("token_type")},
     -1,
     {0},
     ST_NOT_FOUND,
     "token_type"},
    {"tokens of a wrong type",
     {.wrong = KEY("tokens")},
     -1,
     {0},
     ST_INVALID,
     "tokens"},
    {"scores of a wrong type",
     {.wrong = KEY("scores")},
     -1,
     {0},
     ST_INVALID,
     "scores"},
    {"types of a wrong type",
     {.wrong = KEY("token_type")},
     -1,
     {0},
     ST_INVALID,
     "token_type"},
    {"model of a wrong type",
     {.wrong = KEY("model")},
     -1,
     {0},
     ST_INVALID,
     "model"},
    {"id of a wrong type",
     {.wrong = KEY("eot_token_id")},
     -1,
     {0},
     ST_INVALID,
     "eot_token_id"},
    {"flag of a wrong type",
     {.wrong = KEY("add_space_prefix")},
     -1,
     {0},
     ST_INVALID,
     "add_space_prefix"},
    {"too few scores", {.n_scores_less = 1}, -1, {0}, ST_INVALID, "scores"},
    {"too few types", {.n_kinds_less = 9}, -1, {0}, ST_INVALID, "types"},
    {"bos outside",
     {.id_key = KEY("bos_token_id"), .id = 50000},
     -1,
     {0},
     ST_INVALID,
     "bos_token_id is 50000"},
    {"eos outside",
     {.id_key = KEY("eos_token_id"), .id = UINT32_MAX},
     -1,
     {0},
     ST_INVALID,
     "eos_token_id"},
    {"unknown outside",
     {.id_key = KEY("unknown_token_id"), .id = 999},
     -1,
     {0},
     ST_INVALID,
     "unknown_token_id"},
    {"eom outside",
     {.id_key = KEY("eom_token_id"), .id = 999},
     -1,
     {0},
     ST_INVALID,
     "eom_token_id"},
    {"score NaN", {0}, 270, {"q", NAN, TOKEN_NORMAL}, ST_INVALID, "token 270"},
    {"type 7", {0}, 270, {"q", 0, 7}, ST_INVALID, "type 7"},
    {"type -1", {0}, 270, {"q", 0, -1}, ST_INVALID, "type -1"},
    {"byte misspelt", {0}, 5, {"<0xG0>", 0, TOKEN_BYTE}, ST_INVALID, "<0xG0>"},
    {"byte too long",
     {0},
     5,
     {"<0x010>", 0, TOKEN_BYTE},
     ST_INVALID,
     "token 5"},
    {"no unknown, but every byte", {0}, 0, {"u", 0, TOKEN_NORMAL}, ST_OK, NULL},
    {"piece too long",
     {0},
     270,
     {long_text, 0, TOKEN_NORMAL},
     ST_TOO_LARGE,
     "1025"},
    {"byte-level BPE",
     {.model = "gpt2", .pre = "llama-bpe"},
     -1,
     {0},
     ST_UNSUPPORTED,
     "\"gpt2\" with pre-tokenizer \"llama-bpe\""},
    {"no pre-tokenizer",
     {.model = "bert"},
     -1,
     {0},
     ST_UNSUPPORTED,
     "\"bert\" is"},
    {"hostile name",
     {.model = "a\033[2Jb"},
     -1,
     {0},
     ST_UNSUPPORTED,
     "\"a?[2Jb\""},
    {"long name",
     {.model = "0123456789012345678901234567890123456789012345678901"},
     -1,
     {0},
     ST_UNSUPPORTED,
     "...\" is"},
};

static void test_malformed(void **state)
{
    (void)state;
    static struct vocab_entry changed[512];
    assert_in_range(small_vocab_n, 271, COUNT_OF(changed));
    memset(long_text, 'x', sizeof long_text - 1);
    for (size_t i = 0; i < COUNT_OF(malformed); i++) {
        struct vocab_spec spec = malformed[i].change;
        memcpy(changed, small_vocab, small_vocab_n * sizeof *changed);
        if (malformed[i].at >= 0) changed[malformed[i].at] = malformed[i].entry;
        spec.entry = changed;
        spec.n = small_vocab_n;
        const size_t before = mem_in_use();
        struct tokenizer *t = NULL;
        struct error err = {0};
        const enum status st = vocab_create(&t, &spec, &err);
        if (st != malformed[i].want) {
            fail_msg("%s: %s (%s)", malformed[i].why, status_name(st),
                     err.text);
        }
        if (st != ST_OK) {
            assert_null(t);
            if (!strstr(err.text, malformed[i].says)) {
                fail_msg("%s: \"%s\"", malformed[i].why, err.text);
            }
        }
        tokenizer_free(t);
        assert_int_equal(mem_in_use(), before);
    }
}

static void test_malformed_sets(void **state)
{
    (void)state;
    struct tokenizer *t = NULL;
    struct error err;
    struct vocab_spec spec = {.entry = small_vocab, .n = 0};
    assert_int_equal(vocab_create(&t, &spec, &err), ST_INVALID);
    /* neither every byte nor an unknown token */
    spec = (struct vocab_spec){.entry = small_vocab + 1, .n = 200};
    assert_int_equal(vocab_create(&t, &spec, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "198 of 256"));
    /* one token more than the limit */
    struct vocab_entry *many =
        mem_zalloc_array(TOKENIZER_VOCAB_MAX + 1, sizeof *many);
    assert_non_null(many);
    for (uint32_t i = 0; i <= TOKENIZER_VOCAB_MAX; i++) {
        many[i] = (struct vocab_entry){"x", 0, TOKEN_NORMAL};
    }
    many[0].kind = TOKEN_UNKNOWN;
    spec = (struct vocab_spec){.entry = many, .n = TOKENIZER_VOCAB_MAX + 1};
    assert_int_equal(vocab_create(&t, &spec, &err), ST_TOO_LARGE);
    spec.n--;
    assert_int_equal(vocab_create(&t, &spec, &err), ST_OK);
    tokenizer_free(t);
    mem_free(many);
}

static void test_text_limit(void **state)
{
    (void)state;
    const struct vocab_spec spec = small_spec();
    struct tokenizer *t = create(&spec);
    struct tokens out = {0};
    struct error err;
    const struct tokenize_options plain = {0};
    /* refused before it is read */
    assert_int_equal(tokenizer_encode(t, "a", TOKENIZER_TEXT_MAX + (size_t)1,
                                      plain, &out, &err),
                     ST_TOO_LARGE);
    assert_int_equal(out.n, 0);
    tokens_fini(&out);
    tokenizer_free(t);
}

static void test_create_survives_failed_allocations(void **state)
{
    (void)state;
    const struct vocab_spec spec = small_spec();
    struct buf file;
    buf_init(&file, 1 << 20);
    struct gguf *g;
    struct error err;
    assert_int_equal(vocab_write(&spec, &file, &err), ST_OK);
    assert_int_equal(gguf_open_mem(&g, file.data, file.len, &err), ST_OK);
    const size_t before = mem_in_use();
    struct tokenizer *t = NULL;
    long n = 0;
    for (;; n++) {
        mem_fail_after(n);
        const enum status st = tokenizer_create(&t, g, &err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_null(t);
        assert_int_equal(mem_in_use(), before);
    }
    assert_in_range(n, 8, 100);
    tokenizer_free(t);
    gguf_close(g);
    buf_fini(&file);
    assert_int_not_equal(before, mem_in_use());
}

static void test_encode_survives_failed_allocations(void **state)
{
    (void)state;
    const struct vocab_spec spec = small_spec();
    struct tokenizer *t = create(&spec);
    char text[512];
    memset(text, 'a', sizeof text);
    memcpy(text + 200, "<|x|>gh\xff[ud]xxxxxxxxxxxxxxxxxx", 30);
    const struct tokenize_options options = {.bos = true, .special = true};
    struct error err;
    long n = 0;
    for (;; n++) {
        struct tokens out = {0};
        assert_int_equal(tokens_push(&out, 77), ST_OK);
        const size_t before = mem_in_use() - out.cap * sizeof *out.id;
        mem_fail_after(n);
        const enum status st =
            tokenizer_encode(t, text, sizeof text, options, &out, &err);
        mem_fail_after(-1);
        assert_int_equal(mem_in_use() - out.cap * sizeof *out.id, before);
        const size_t n_out = out.n;
        assert_int_equal(out.id[0], 77);
        tokens_fini(&out);
        if (st == ST_OK) {
            assert_in_range(n_out, 50, 500);
            break;
        }
        assert_int_equal(st, ST_NO_MEMORY);
        assert_int_equal(n_out, 1);
    }
    assert_in_range(n, 8, 100);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_malformed_sets),
        cmocka_unit_test(test_text_limit),
        cmocka_unit_test(test_create_survives_failed_allocations),
        cmocka_unit_test(test_encode_survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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
    {"another tokenizer",
     {.model = "bert"},
     -1,
     {0},
     ST_UNSUPPORTED,
     "\"bert\" is not supported"},
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

/* ---- byte-level BPE ---------------------------------------------------- */

static char long_merge[2100]; /* filled when the test starts */

static const struct {
    const char *why;
    struct vocab_spec change; /* model, pre, skip, wrong as they are here */
    const char *merge;        /* in place of the third, if not NULL */
    enum status want;
    const char *says;
} malformed_bpe[] = {
    {"unknown pre-tokenizer",
     {.pre = "llama-next"},
     NULL,
     ST_UNSUPPORTED,
     "\"gpt2\" with pre-tokenizer \"llama-next\""},
    {"hostile pre-tokenizer",
     {.pre = "\033[2J"},
     NULL,
     ST_UNSUPPORTED,
     "\"?[2J\""},
    {"no merges", {.skip = KEY("merges")}, NULL, ST_NOT_FOUND, "merges"},
    {"merges of a wrong type",
     {.wrong = KEY("merges")},
     NULL,
     ST_INVALID,
     "merges"},
    {"no types", {.skip = KEY("token_type")}, NULL, ST_NOT_FOUND, "token_type"},
    {"too few types", {.n_kinds_less = 1}, NULL, ST_INVALID, "types"},
    {"bos outside",
     {.id_key = KEY("bos_token_id"), .id = 50000},
     NULL,
     ST_INVALID,
     "bos_token_id"},
    {"no space", {0}, "ab", ST_INVALID, "entry 2 is not two"},
    {"empty", {0}, "", ST_INVALID, "entry 2 is not two"},
    {"nothing on the left", {0}, " a", ST_INVALID, "entry 2 joins"},
    {"nothing on the right", {0}, "a ", ST_INVALID, "entry 2 joins"},
    {"two spaces", {0}, "a b c", ST_INVALID, "entry 2 joins"},
    {"unknown left", {0}, "zq a", ST_INVALID, "entry 2 joins"},
    {"unknown right", {0}, "a zq", ST_INVALID, "entry 2 joins"},
    {"unknown result", {0}, "z q", ST_INVALID, "entry 2 joins"},
    {"no character for a byte", {0}, "\xe6\x97\xa5 a", ST_INVALID, "entry 2"},
    {"half a character", {0}, "a \xc3", ST_INVALID, "entry 2 joins"},
    {"too long", {0}, long_merge, ST_INVALID, "entry 2"},
    {"the same twice", {0}, "h e", ST_OK, NULL},
    {"one of a control token", {0}, "<s> a", ST_OK, NULL},
};

static void test_malformed_bpe(void **state)
{
    (void)state;
    memset(long_merge, 'x', sizeof long_merge - 1);
    long_merge[1000] = ' ';
    for (size_t i = 0; i < COUNT_OF(malformed_bpe); i++) {
        struct vocab_spec spec = bpe_vocab_spec();
        const struct vocab_spec *change = &malformed_bpe[i].change;
        if (change->pre) spec.pre = change->pre;
        spec.skip = change->skip;
        spec.wrong = change->wrong;
        spec.n_kinds_less = change->n_kinds_less;
        spec.id_key = change->id_key;
        spec.id = change->id;
        const char *merge[64];
        assert_in_range(spec.n_merges, 3, COUNT_OF(merge));
        memcpy(merge, spec.merge, spec.n_merges * sizeof *merge);
        if (malformed_bpe[i].merge) merge[2] = malformed_bpe[i].merge;
        spec.merge = merge;
        const size_t before = mem_in_use();
        struct tokenizer *t = NULL;
        struct error err = {0};
        const enum status st = vocab_create(&t, &spec, &err);
        if (st != malformed_bpe[i].want) {
            fail_msg("%s: %s (%s)", malformed_bpe[i].why, status_name(st),
                     err.text);
        }
        if (st != ST_OK) {
            assert_null(t);
            if (!strstr(err.text, malformed_bpe[i].says)) {
                fail_msg("%s: \"%s\"", malformed_bpe[i].why, err.text);
            }
        }
        tokenizer_free(t);
        assert_int_equal(mem_in_use(), before);
    }
}

static void test_malformed_bpe_sets(void **state)
{
    (void)state;
    struct tokenizer *t = NULL;
    struct error err;
    /* bytes that the vocabulary lacks, and nothing to put for them */
    struct vocab_spec spec = bpe_vocab_spec();
    const char *const one[] = {"h e"};
    struct vocab_entry few[300];
    assert_in_range(spec.n, 257, COUNT_OF(few));
    memcpy(few, spec.entry, spec.n * sizeof *few);
    few['q'].kind = TOKEN_CONTROL;
    spec.entry = few;
    spec.merge = one;
    spec.n_merges = 1;
    assert_int_equal(vocab_create(&t, &spec, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "255 of 256"));
    /* something: an unknown token */
    few[0] = (struct vocab_entry){"<unk>", 0, TOKEN_UNKNOWN};
    spec.id_key = KEY("unknown_token_id");
    spec.id = 0;
    assert_int_equal(vocab_create(&t, &spec, &err), ST_OK);
    struct tokens got = {0};
    const struct tokenize_options plain = {0};
    assert_int_equal(tokenizer_encode(t, "heqhe", 5, plain, &got, &err), ST_OK);
    assert_int_equal(got.n, 3);
    assert_int_equal(got.id[1], 0);
    tokens_fini(&got);
    tokenizer_free(t);
    /* no merges at all are fine; one more than the limit is not */
    spec = bpe_vocab_spec();
    spec.n_merges = 0;
    assert_int_equal(vocab_create(&t, &spec, &err), ST_OK);
    tokenizer_free(t);
    t = NULL;
    const uint32_t limit = (1u << 22) - 2;
    const char **many = mem_zalloc_array(limit + 1, sizeof *many);
    assert_non_null(many);
    for (uint32_t i = 0; i <= limit; i++) many[i] = "h e";
    spec.merge = many;
    spec.n_merges = limit + 1;
    assert_int_equal(vocab_create(&t, &spec, &err), ST_TOO_LARGE);
    assert_null(t);
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

static void check_create_survives(struct vocab_spec spec)
{
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

static void test_create_survives_failed_allocations(void **state)
{
    (void)state;
    check_create_survives(small_spec());
    struct vocab_spec spec = bpe_vocab_spec();
    check_create_survives(spec);
    spec.pre = "default"; /* several expressions */
    check_create_survives(spec);
}

static void check_encode_survives(struct vocab_spec spec)
{
    struct tokenizer *t = create(&spec);
    char text[512];
    memset(text, 'a', sizeof text);
    memcpy(text + 200, "<|x|>gh\xff[ud]xe\xcc\x81xxxxxxxxxxxxxx", 30);
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
            assert_in_range(n_out, 50, 600);
            break;
        }
        assert_int_equal(st, ST_NO_MEMORY);
        assert_int_equal(n_out, 1);
    }
    assert_in_range(n, 8, 100);
    tokenizer_free(t);
}

static void test_encode_survives_failed_allocations(void **state)
{
    (void)state;
    check_encode_survives(small_spec());
    struct vocab_spec spec = bpe_vocab_spec();
    spec.pre = "qwen2"; /* normalizes */
    spec.flag_key = KEY("add_space_prefix");
    spec.flag = true;
    check_encode_survives(spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_malformed_sets),
        cmocka_unit_test(test_malformed_bpe),
        cmocka_unit_test(test_malformed_bpe_sets),
        cmocka_unit_test(test_text_limit),
        cmocka_unit_test(test_create_survives_failed_allocations),
        cmocka_unit_test(test_encode_survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

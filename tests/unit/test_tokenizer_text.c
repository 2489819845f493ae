/* Text to ids and back: what comes out is what went in, and no stream of it
 * ever cuts a character. With POTLUCK_TESTDATA on real vocabularies too. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>
#include <utf8proc.h>

#include "common/clock.h"
#include "common/rng.h"
#include "common/utf8.h"
#include "tests/lib/testdata.h"
#include "tests/lib/vocab.h"

#define S "\xe2\x96\x81" /* U+2581 */

static struct tokenizer *create_small(void)
{
    const struct vocab_spec spec = {.entry = small_vocab, .n = small_vocab_n};
    struct tokenizer *t = NULL;
    struct error err;
    if (vocab_create(&t, &spec, &err) != ST_OK) fail_msg("%s", err.text);
    return t;
}

static struct tokens encode(const struct tokenizer *t, const char *text,
                            size_t n, bool special)
{
    struct tokens out = {0};
    struct error err;
    const struct tokenize_options options = {.special = special};
    if (tokenizer_encode(t, text, n, options, &out, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
    return out;
}

static int32_t id_of(const char *piece)
{
    const struct vocab_spec spec = {.entry = small_vocab, .n = small_vocab_n};
    const int32_t id = vocab_id(&spec, piece);
    if (id < 0) fail_msg("no piece %s", piece);
    return id;
}

/* ---- utf8_sequence ----------------------------------------------------- */

static int sequence(const char *s)
{
    return utf8_sequence((const unsigned char *)s, strlen(s));
}

/* The lengths of all code points, by the definition of the encoding form. */
static void test_utf8(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x120000; c++) {
        unsigned char b[4] = {(unsigned char)c};
        size_t n = 1;
        if (c >= 0x80) {
            n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
            uint32_t rest = c;
            for (size_t i = n - 1; i > 0; i--, rest >>= 6) {
                b[i] = (unsigned char)(0x80 | (rest & 0x3f));
            }
            b[0] = (unsigned char)((0xf00u >> n & 0xff) | rest);
        }
        const bool is_scalar = c < 0xd800 || (c > 0xdfff && c <= 0x10ffff);
        assert_int_equal(utf8_sequence(b, n), is_scalar ? (int)n : 0);
        if (is_scalar) {
            for (size_t i = 1; i < n; i++) {
                assert_int_equal(utf8_sequence(b, i), -1);
            }
        }
    }
    assert_int_equal(sequence("\x80"), 0);
    assert_int_equal(sequence("\xc0\x80"), 0);
    assert_int_equal(sequence("\xc1\xbf"), 0);
    assert_int_equal(sequence("\xe0\x9f\xbf"), 0);
    assert_int_equal(sequence("\xf0\x8f\xbf\xbf"), 0);
    assert_int_equal(sequence("\xf5\x80"), 0);
    assert_int_equal(sequence("\xff"), 0);
    assert_int_equal(sequence("\xc3("), 0);
    assert_int_equal(sequence("\xe6\x97("), 0);
}

/* ---- detokenizer ------------------------------------------------------- */

static void push(struct detokenizer *d, int32_t id, struct buf *out)
{
    assert_int_equal(detokenizer_push(d, id, out), ST_OK);
}

/* What is out after each byte token, until "" ends the row; then the rest. */
static void test_stream_of_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        uint8_t out[8]; /* length after each byte */
    } row[] = {
        {"ab", {1, 2}},
        {"\xc3\xa9", {0, 2}},
        {"\xe6\x97\xa5", {0, 0, 3}},
        {"\xf0\x9f\xa6\x99", {0, 0, 0, 4}},
        /* never UTF-8: out at once */
        {"\xff\xc0\x80", {1, 2, 3}},
        {"\xed\xa0\x80", {0, 2, 3}},
        {"\xf4\x90", {0, 2}},
        /* out as soon as it is known */
        {"\xe6\x97"
         "a",
         {0, 0, 3}},
        {"\xe6\xe6\x97\xa5", {0, 1, 1, 4}},
        {"\xf0\x9f\xf0\x9f\xa6\x99", {0, 0, 2, 2, 2, 6}},
        {"\xf0\x9f\xa6\xc3\xa9", {0, 0, 0, 3, 5}},
    };
    struct tokenizer *t = create_small();
    for (size_t i = 0; i < COUNT_OF(row); i++) {
        struct detokenizer d;
        struct buf out;
        buf_init(&out, 64);
        detokenizer_init(&d, t, false);
        const size_t n = strlen(row[i].bytes);
        for (size_t k = 0; k < n; k++) {
            push(&d, SMALL_BYTE((unsigned char)row[i].bytes[k]), &out);
            if (out.len != row[i].out[k]) {
                fail_msg("row %zu, byte %zu: %zu bytes", i, k, out.len);
            }
        }
        assert_int_equal(detokenizer_finish(&d, &out), ST_OK);
        assert_int_equal(out.len, n);
        assert_memory_equal(out.data, row[i].bytes, n);
        buf_fini(&out);
    }
    tokenizer_free(t);
}

/* A character whose bytes end at any place: the rest is held, and given out
 * at the end or when something else follows. */
static void test_every_split(void **state)
{
    (void)state;
    static const char text[] = "a\xc3\xa9\xe6\x97\xa5\xf0\x9f\xa6\x99z";
    static const char *const next[] = {"abc", "\xe6\x97\xa5", "[ud]", ""};
    struct tokenizer *t = create_small();
    for (size_t cut = 0; cut < sizeof text; cut++) {
        for (size_t k = 0; k < COUNT_OF(next); k++) {
            struct detokenizer d;
            struct buf out;
            buf_init(&out, 64);
            detokenizer_init(&d, t, false);
            size_t whole = 0; /* of text[0..cut) in whole characters */
            for (size_t i = 0; i < cut; i++) {
                push(&d, SMALL_BYTE((unsigned char)text[i]), &out);
                const int len = utf8_sequence(
                    (const unsigned char *)text + whole, i + 1 - whole);
                if (len > 0) whole += (size_t)len;
                assert_int_equal(out.len, whole);
            }
            push(&d, id_of(next[k]), &out);
            const size_t n = strlen(next[k]);
            if (n > 0) assert_int_equal(out.len, cut + n);
            assert_int_equal(detokenizer_finish(&d, &out), ST_OK);
            assert_int_equal(detokenizer_finish(&d, &out), ST_OK);
            assert_int_equal(out.len, cut + n);
            if (out.len > 0) {
                assert_memory_equal(out.data, text, cut);
                assert_memory_equal(out.data + cut, next[k], n);
            }
            buf_fini(&out);
        }
    }
    tokenizer_free(t);
}

static void test_detokenize(void **state)
{
    (void)state;
    static const struct {
        const char *pieces[6];
        const char *plain, *special;
    } row[] = {
        {{S "abc", S "a"}, "abc a", "abc a"},
        {{S S, "a"}, " a", " a"},
        {{S, S, "a"}, " a", " a"},
        {{"a", S}, "a ", "a "},
        {{"<s>", S "a"}, "a", "<s>a"},
        {{"<s>", S S, "<|x|>", S "a"}, "  a", "<s> <|x|>a"},
        {{"a", "</s>", S "a"}, "a a", "a</s>a"},
        {{"<unk>", S "a"}, " a", "<unk> a"},
        {{"[u d]", S "a"}, "[u d] a", "[u d] a"},
        {{"gh", "zz zz"}, "ghzz zz", "ghzz zz"},
        {{"<0x20>", "a"}, "a", "a"},
        {{"<0xE2>", "<0x96>", "<0x81>"}, S, S},
    };
    struct tokenizer *t = create_small();
    for (size_t i = 0; i < COUNT_OF(row); i++) {
        for (int special = 0; special < 2; special++) {
            struct detokenizer d;
            struct buf out;
            buf_init(&out, 64);
            detokenizer_init(&d, t, special);
            for (size_t k = 0; k < 6 && row[i].pieces[k]; k++) {
                push(&d, id_of(row[i].pieces[k]), &out);
            }
            assert_int_equal(detokenizer_finish(&d, &out), ST_OK);
            const char *want = special ? row[i].special : row[i].plain;
            if (strcmp(out.data, want) != 0) {
                fail_msg("row %zu, special %d: \"%s\"", i, special, out.data);
            }
            buf_fini(&out);
        }
    }
    tokenizer_free(t);
}

static void test_push_changes_nothing_on_failure(void **state)
{
    (void)state;
    struct tokenizer *t = create_small();
    struct detokenizer d;
    struct buf out;
    buf_init(&out, 3);
    detokenizer_init(&d, t, false);
    push(&d, SMALL_BYTE(0xe6), &out);
    const struct detokenizer before = d;
    assert_int_equal(detokenizer_push(&d, -1, &out), ST_INVALID);
    assert_int_equal(detokenizer_push(&d, (int32_t)small_vocab_n, &out),
                     ST_INVALID);
    assert_int_equal(detokenizer_push(&d, id_of("abc"), &out), ST_TOO_LARGE);
    mem_fail_after(0);
    assert_int_equal(detokenizer_push(&d, id_of("ab"), &out), ST_OK);
    mem_fail_after(-1);
    buf_fini(&out);

    d = before;
    mem_fail_after(0);
    assert_int_equal(detokenizer_push(&d, id_of("ab"), &out), ST_NO_MEMORY);
    assert_int_equal(detokenizer_finish(&d, &out), ST_NO_MEMORY);
    mem_fail_after(-1);
    assert_int_equal(out.len, 0);
    assert_memory_equal(d.held, before.held, sizeof d.held);
    assert_int_equal(d.n_held, before.n_held);
    assert_int_equal(d.first, before.first);
    push(&d, SMALL_BYTE(0x97), &out);
    push(&d, SMALL_BYTE(0xa5), &out);
    assert_string_equal(out.data, "\xe6\x97\xa5");
    buf_fini(&out);
    tokenizer_free(t);
}

/* ---- there and back ---------------------------------------------------- */

/* What a vocabulary itself changes in a text. */
enum change {
    CHANGES_NOTHING,
    CHANGES_MARKS, /* SentencePiece: U+2581 comes back as a space */
    CHANGES_TO_NFC /* Qwen */
};

/* Spaces marked as such in the text are spaces when they come back. */
static size_t unmark(const char *text, size_t n, char *plain)
{
    size_t len = 0;
    for (size_t i = 0; i < n; len++) {
        if (n - i >= 3 && memcmp(text + i, S, 3) == 0) {
            plain[len] = ' ';
            i += 3;
        } else {
            plain[len] = text[i++];
        }
    }
    return len;
}

/* Each stretch of UTF-8 in form C, as a whole. */
static size_t to_nfc(const char *text, size_t n, char *plain)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t len = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n) {
            const int k = utf8_sequence(p + end, n - end);
            if (k <= 0) break;
            end += (size_t)k;
        }
        utf8proc_int32_t code[2048];
        const utf8proc_option_t form = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
        utf8proc_ssize_t k = utf8proc_decompose(
            p + i, (utf8proc_ssize_t)(end - i), code, COUNT_OF(code) - 1, form);
        assert_in_range(k, 0, COUNT_OF(code) - 1);
        k = utf8proc_reencode(code, k, form);
        assert_true(k >= 0);
        memcpy(plain + len, code, (size_t)k);
        len += (size_t)k;
        for (i = end; i < n && utf8_sequence(p + i, n - i) <= 0; i++) {
            plain[len++] = text[i];
        }
    }
    return len;
}

static void check_round_trip(const struct tokenizer *t, const char *text,
                             size_t n, bool special, enum change change)
{
    char want[4096];
    assert_in_range(n, 0, sizeof want / 3);
    size_t n_want = n;
    memcpy(want, text, n);
    if (change == CHANGES_MARKS) n_want = unmark(text, n, want);
    if (change == CHANGES_TO_NFC) n_want = to_nfc(text, n, want);
    struct tokens ids = encode(t, text, n, special);
    struct detokenizer d;
    struct buf out;
    buf_init(&out, sizeof want);
    detokenizer_init(&d, t, special);
    for (size_t i = 0; i < ids.n; i++) push(&d, ids.id[i], &out);
    assert_int_equal(detokenizer_finish(&d, &out), ST_OK);
    if (out.len != n_want ||
        (n_want > 0 && memcmp(out.data, want, n_want) != 0)) {
        fail_msg("special %d: \"%.*s\" came back as \"%s\"", special, (int)n,
                 text, out.len > 0 ? out.data : "");
    }
    buf_fini(&out);
    tokens_fini(&ids);
}

static size_t random_utf8(struct rng *r, char *text)
{
    static const char *const part[] = {
        " ",
        "  ",
        S,
        "a",
        "b",
        "abc",
        "ab",
        "gh",
        "\n",
        "\t",
        "<s>",
        "</s>",
        "<|x|>",
        "<unk>",
        "<0x41>",
        "[ud]",
        "[INST]",
        "[REFERENCE_DOC_7]",
        "<|im_end|>",
        "<|eot_id|>",
        "<think>",
        "e\xcc\x81",
        "'LL",
        "<start_of_turn>",
        "\xef\xbf\xbd",
        "the",
        "ing ",
        "1",
        "\r\n",
    };
    size_t n = 0;
    for (uint64_t k = rng_below(r, 40); k > 0; k--) {
        if (rng_below(r, 2) == 0) {
            const char *p = part[rng_below(r, COUNT_OF(part))];
            memcpy(text + n, p, strlen(p));
            n += strlen(p);
            continue;
        }
        static const uint32_t top[] = {0x80, 0x800, 0x10000, 0x110000};
        uint32_t c = (uint32_t)rng_below(r, top[rng_below(r, 4)]);
        if (c >= 0xd800 && c <= 0xdfff) c = 0x1f999;
        unsigned char *b = (unsigned char *)text + n;
        if (c < 0x80) {
            b[0] = (unsigned char)c;
        } else if (c < 0x800) {
            b[0] = (unsigned char)(0xc0 | c >> 6);
        } else if (c < 0x10000) {
            b[0] = (unsigned char)(0xe0 | c >> 12);
            b[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        } else {
            b[0] = (unsigned char)(0xf0 | c >> 18);
            b[1] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
            b[2] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        }
        const size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        if (len > 1) b[len - 1] = (unsigned char)(0x80 | (c & 0x3f));
        n += len;
    }
    return n;
}

static void check_many(const struct tokenizer *t, enum change change)
{
    char text[1024];
    struct rng r = {42};
    size_t total = 0;
    for (int i = 0; i < 10000; i++) {
        const size_t n = random_utf8(&r, text);
        total += n;
        check_round_trip(t, text, n, i % 2, change);
    }
    assert_in_range(total, 500000, 5000000);
    for (int i = 0; i < 1000; i++) {
        const size_t n = (size_t)rng_below(&r, 100);
        for (size_t k = 0; k < n; k++) text[k] = (char)rng_u64(&r);
        check_round_trip(t, text, n, i % 2, change);
    }
    check_round_trip(t, "", 0, false, change);
    for (size_t n = 1; n < 40; n++) { /* only spaces */
        memset(text, ' ', n);
        check_round_trip(t, text, n, false, change);
    }
}

static void test_round_trip_small(void **state)
{
    (void)state;
    struct tokenizer *t = create_small();
    check_many(t, CHANGES_MARKS);
    tokenizer_free(t);
}

static void test_round_trip_bpe(void **state)
{
    (void)state;
    static const struct {
        const char *pre;
        enum change change;
        const char *flag_key;
    } row[] = {
        {"llama-bpe", CHANGES_NOTHING, NULL},
        {"gpt-2", CHANGES_NOTHING, "tokenizer.ggml.add_space_prefix"},
        {"qwen2", CHANGES_TO_NFC, NULL},
        {"deepseek-llm", CHANGES_NOTHING, NULL},
        {"tekken", CHANGES_NOTHING, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(row); i++) {
        struct vocab_spec spec = bpe_vocab_spec();
        spec.pre = row[i].pre;
        spec.flag_key = row[i].flag_key;
        spec.flag = true;
        struct tokenizer *t = NULL;
        struct error err;
        if (vocab_create(&t, &spec, &err) != ST_OK) fail_msg("%s", err.text);
        check_many(t, row[i].change);
        tokenizer_free(t);
    }
}

/* A megabyte each: of text with words, of other scripts, and of one
 * character, which is the longest chain of merges there can be. Times are
 * printed, not judged. */
static void check_megabyte(const struct tokenizer *t, const char *name,
                           size_t n_rows)
{
    static const char words[] =
        "The quick brown fox jumps over the lazy dog, and says: \"caf\xc3\xa9 "
        "\xe6\x97\xa5\xe6\x9c\xac 12345\"\n";
    static const char scripts[] =
        "\xd0\xa1\xd1\x8a\xd0\xb5\xd1\x88\xd1\x8c "
        "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x81\xa7"
        "xe\xcc\x81\xed\x95\x9c\xea\xb5\xad "
        "\xe0\xa4\xa8\xe0\xa4\xae\xe0\xa4\xb8\xe0\xa5\x8d ";
    static const struct {
        const char *what, *pattern;
    } row[] = {
        {"words", words}, {"scripts", scripts},  {"\"a\"", "a"},
        {"spaces", " "},  {"\"ab\"", "ab"},      {"ff", "\xff"},
        {"digits", "7"},  {"marks", "\xcc\x81"},
    };
    const size_t n = 1 << 20;
    char *text = mem_alloc(n);
    assert_non_null(text);
    print_message("%s, ms for 1 MiB of", name);
    for (size_t k = 0; k < n_rows && k < COUNT_OF(row); k++) {
        const size_t len = strlen(row[k].pattern);
        for (size_t i = 0; i < n; i++) text[i] = row[k].pattern[i % len];
        const uint64_t start = clock_now_ns();
        struct tokens ids = encode(t, text, n, true);
        print_message(" %s: %.0f", row[k].what,
                      (double)(clock_now_ns() - start) / 1e6);
        assert_in_range(ids.n, n / 512, n + 1);
        tokens_fini(&ids);
    }
    print_message("\n");
    mem_free(text);
}

static void test_megabyte_small(void **state)
{
    (void)state;
    struct tokenizer *t = create_small();
    check_megabyte(t, "small", SIZE_MAX);
    tokenizer_free(t);
}

static const struct real {
    const char *name;
    enum change change;
    bool all_chains;
} real[] = {
    {"llama2", CHANGES_MARKS, true},      {"mistral-v1", CHANGES_MARKS, false},
    {"mistral-v3", CHANGES_MARKS, false}, {"gemma2", CHANGES_MARKS, false},
    {"gpt-2", CHANGES_NOTHING, false},    {"llama3.1", CHANGES_NOTHING, false},
    {"qwen3", CHANGES_TO_NFC, true},
};

static void test_real(void **state)
{
    const struct real *r = *state;
    testdata_require();
    char path[TESTDATA_PATH_MAX];
    testdata_path(path, "vocab", r->name, ".gguf");
    struct gguf *g;
    struct tokenizer *t;
    struct error err;
    if (gguf_open(&g, path, &err) != ST_OK) fail_msg("%s", err.text);
    const size_t before = mem_in_use();
    uint64_t start = clock_now_ns();
    if (tokenizer_create(&t, g, &err) != ST_OK) fail_msg("%s", err.text);
    print_message("%s: created in %.0f ms, %.1f MiB", r->name,
                  (double)(clock_now_ns() - start) / 1e6,
                  (double)(mem_in_use() - before) / 1048576.0);
    gguf_close(g);
    start = clock_now_ns();
    check_many(t, r->change);
    print_message("; round trips in %.0f ms\n",
                  (double)(clock_now_ns() - start) / 1e6);
    check_megabyte(t, r->name, r->all_chains ? SIZE_MAX : 2);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_stream_of_bytes),
        cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_detokenize),
        cmocka_unit_test(test_push_changes_nothing_on_failure),
        cmocka_unit_test(test_round_trip_small),
        cmocka_unit_test(test_round_trip_bpe),
        cmocka_unit_test(test_megabyte_small),
        cmocka_unit_test_prestate(test_real, (void *)&real[0]),
        cmocka_unit_test_prestate(test_real, (void *)&real[1]),
        cmocka_unit_test_prestate(test_real, (void *)&real[2]),
        cmocka_unit_test_prestate(test_real, (void *)&real[3]),
        cmocka_unit_test_prestate(test_real, (void *)&real[4]),
        cmocka_unit_test_prestate(test_real, (void *)&real[5]),
        cmocka_unit_test_prestate(test_real, (void *)&real[6]),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The SentencePiece tokenizer on a vocabulary small enough to work out by
 * hand. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "common/rng.h"
#include "common/utf8.h"
#include "tests/lib/vocab.h"

#define KEY(name) "tokenizer.ggml." name
#define S         "\xe2\x96\x81" /* U+2581 */

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

static struct tokens encode(const struct tokenizer *t, const char *text,
                            size_t n, bool bos, bool special)
{
    struct tokens out = {0};
    struct error err;
    const struct tokenize_options options = {.bos = bos, .special = special};
    if (tokenizer_encode(t, text, n, options, &out, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
    return out;
}

/* The pieces of the ids, each followed by '|'. */
static void expect_pieces(const struct tokenizer *t, const char *text, bool bos,
                          bool special, const char *want)
{
    struct tokens got = encode(t, text, strlen(text), bos, special);
    char line[512];
    size_t n = 0;
    for (size_t i = 0; i < got.n; i++) {
        const struct gguf_str s = tokenizer_piece(t, got.id[i]);
        n += (size_t)snprintf(line + n, sizeof line - n, "%.*s|", (int)s.len,
                              s.data);
        assert_in_range(n, 0, sizeof line - 1);
    }
    line[n] = '\0';
    if (strcmp(line, want) != 0) {
        fail_msg("\"%s\": got %s, want %s", text, line, want);
    }
    tokens_fini(&got);
}

static void test_known_answers(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } row[] = {
        {"", ""},
        {"a", S "a|"},
        {"abc", S "abc|"},
        {"xabc", S "|<0x78>|abc|"},
        {"cab", S "|cab|"},
        /* best score first: bc before ab, though ab comes first in both */
        {"fabcf", S "|f|abc|f|"},
        {"cabc", S "|c|abc|"},
        /* a tie goes to the left */
        {"def", S "|de|f|"},
        {"aaaaa", S "|aaaa|a|"},
        {"aaaaaaaaaaa", S "|aaaa|aaaa|aa|a|"},
        /* spaces and U+2581 are the same */
        {" ", S S "|"},
        {"  ", S S "|" S "|"},
        {"   ", S S S S "|"},
        {" a", S S "|a|"},
        {S "a", S S "|a|"},
        {"b b", S "|b" S "|b|"},
        /* bytes: characters that are no piece, and no characters at all */
        {"\xc3\xa9", S "|\xc3\xa9|"},
        {"\xc3\xbc", S "|<0xC3>|<0xBC>|"},
        {"\xe6\x97\xa5\xe6\x9c\xac", S "|\xe6\x97\xa5\xe6\x9c\xac|"},
        {"\xe6\x9c\xac", S "|<0xE6>|<0x9C>|<0xAC>|"},
        {"\xff", S "|<0xFF>|"},
        {"\xe6\x97", S "|<0xE6>|<0x97>|"},
        {"a\xed\xa0\x80"
         "a",
         S "a|<0xED>|<0xA0>|<0x80>|a|"},
        {"\n", S "|<0x0A>|"},
        /* an unused piece falls apart unless it becomes a larger one */
        {"gh", S "|g|h|"},
        {"ghh", S "|ghh|"},
        {"ghgh", S "|g|h|g|h|"},
        /* the spelling of other tokens is only text */
        {"<s>s", S "|<s|>|s|"},
        {"<unk>", S "|<|<0x75>|<0x6E>|<0x6B>|>|"},
        {"<0x41>", S "|<|<0x30>|<0x78>|<0x34>|<0x31>|>|"},
        {"<|x|>", S "|<|<0x7C>|<0x78>|<0x7C>|>|"},
        /* user-defined tokens: always, the longest first */
        {"[ud]", S "|[ud]|"},
        {"[ud]da", S "|[ud]d|a|"},
        {"b[ud]b", S "|b|[ud]|b|"},
        {"[u d]", S "|[u d]|"},
        {"[u" S "d]", S "|[u d]|"},
        {"[ud", S "|<0x5B>|<0x75>|d|"},
    };
    const struct vocab_spec spec = small_spec();
    struct tokenizer *t = create(&spec);
    for (size_t i = 0; i < COUNT_OF(row); i++) {
        expect_pieces(t, row[i].text, false, false, row[i].want);
    }
    /* NUL is a byte like others */
    struct tokens got = encode(t, "a\0a", 3, false, false);
    assert_int_equal(got.n, 3);
    assert_int_equal(got.id[1], SMALL_BYTE(0));
    tokens_fini(&got);
    tokenizer_free(t);
}

static void test_special(void **state)
{
    (void)state;
    const struct vocab_spec spec = small_spec();
    struct tokenizer *t = create(&spec);
    expect_pieces(t, "<s>", false, true, "<s>|");
    expect_pieces(t, "<s>", true, true, "<s>|<s>|");
    /* the space prefix: at the start and after each control token */
    expect_pieces(t, "a<|x|>a</s> a", false, true,
                  S "a|<|x|>|" S "a|</s>|" S S "|a|");
    expect_pieces(t, "<|x|>y<|x|><|x|", false, true,
                  "<|x|>y|<|x|>|" S "|<|<0x7C>|<0x78>|<0x7C>|");
    /* but not after a user-defined one */
    expect_pieces(t, "a[ud]a", false, true, S "a|[ud]|a|");
    expect_pieces(t, "<unk>", false, true, S "|<|<0x75>|<0x6E>|<0x6B>|>|");
    /* an end token is a control token, whatever the file calls it */
    expect_pieces(t, "<|im_end|>", false, true, "<|im_end|>|");
    const int32_t end = vocab_id(&spec, "<|im_end|>");
    assert_int_equal(tokenizer_kind(t, end), TOKEN_CONTROL);
    struct tokens got = encode(t, "<|im_end|>", 10, false, false);
    for (size_t i = 0; i < got.n; i++) assert_int_not_equal(got.id[i], end);
    tokens_fini(&got);
    tokenizer_free(t);
}

/* Text typed by users (between { and }) is not read as control tokens, and
 * else is text like any other. */
static void test_plain_spans(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } row[] = {
        {"{<s>}", S "|<s|>|"},
        {"{}<s>", "<s>|"},
        {"<s>{}", "<s>|"},
        {"{a}<s>{a}", S "a|<s>|" S "a|"},
        /* touched at its beginning, middle, end, or by an empty span */
        {"{<}s>", S "|<s|>|"},
        {"<{s}>", S "|<s|>|"},
        {"<s{>}", S "|<s|>|"},
        {"<{}s>", "<s>|"},
        {"{}<{}s{}>{}", "<s>|"},
        /* the longest that does not touch */
        {"<|x|>{y}", "<|x|>|" S "|<0x79>|"},
        {"<|x|>y{y}", "<|x|>y|" S "|<0x79>|"},
        {"{<|x|>}y", S "|<|<0x7C>|<0x78>|<0x7C>|>|<0x79>|"},
        {"{<|x|>}<|x|>", S "|<|<0x7C>|<0x78>|<0x7C>|>|<|x|>|"},
        {"<|x|>{a<s>a}</s>{</s>}<s>",
         "<|x|>|" S "a|<s|>|a|</s>|" S "|<|<0x2F>|s|>|<s>|"},
        /* words over borders, user-defined tokens everywhere */
        {"{a}bc", S "abc|"},
        {"a{b}{}{c}", S "abc|"},
        {"{[u}d]", S "|[ud]|"},
        {"{[ud]d}<s>", S "|[ud]d|<s>|"},
    };
    const struct vocab_spec spec = small_spec();
    struct tokenizer *t = create(&spec);
    for (size_t i = 0; i < COUNT_OF(row); i++) {
        struct tokenize_span span[8];
        char text[64], line[256] = "";
        size_t n = 0, n_span = 0, len = 0;
        for (const char *p = row[i].text; *p; p++) {
            if (*p == '{') {
                span[n_span].begin = n;
            } else if (*p == '}') {
                span[n_span++].end = n;
            } else {
                text[n++] = *p;
            }
        }
        const struct tokenize_options options = {
            .special = true, .plain = span, .n_plain = n_span};
        struct tokens got = {0};
        struct error err;
        assert_int_equal(tokenizer_encode(t, text, n, options, &got, &err),
                         ST_OK);
        for (size_t k = 0; k < got.n; k++) {
            const struct gguf_str s = tokenizer_piece(t, got.id[k]);
            len += (size_t)snprintf(line + len, sizeof line - len, "%.*s|",
                                    (int)s.len, s.data);
        }
        if (strcmp(line, row[i].want) != 0) {
            fail_msg("%s: got %s, want %s", row[i].text, line, row[i].want);
        }
        tokens_fini(&got);
    }
    tokenizer_free(t);
}

static void test_facts(void **state)
{
    (void)state;
    struct vocab_spec spec = small_spec();
    struct tokenizer *t = create(&spec);
    const int32_t x = vocab_id(&spec, "<|x|>");
    assert_int_equal(tokenizer_n_vocab(t), small_vocab_n);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_true(tokenizer_add_bos(t));
    assert_false(tokenizer_add_eos(t));
    assert_true(tokenizer_is_end(t, 2));
    assert_true(tokenizer_is_end(t, vocab_id(&spec, "<|im_end|>")));
    assert_false(tokenizer_is_end(t, 1));
    assert_false(tokenizer_is_end(t, x));
    assert_false(tokenizer_is_end(t, -1));
    assert_int_equal(tokenizer_kind(t, 0), TOKEN_UNKNOWN);
    assert_int_equal(tokenizer_kind(t, SMALL_BYTE('a')), TOKEN_BYTE);
    assert_int_equal(tokenizer_kind(t, -1), TOKEN_UNDEFINED);
    assert_int_equal(tokenizer_kind(t, INT32_MAX), TOKEN_UNDEFINED);
    assert_int_equal(tokenizer_piece(t, -1).len, 0);
    assert_int_equal(tokenizer_piece(t, (int32_t)small_vocab_n).len, 0);
    tokenizer_free(t);

    spec.id_key = KEY("eot_token_id");
    spec.id = (uint32_t)x;
    spec.flag_key = KEY("add_eos_token");
    spec.flag = true;
    t = create(&spec);
    assert_true(tokenizer_is_end(t, x));
    assert_true(tokenizer_add_eos(t));
    expect_pieces(t, "a", true, false, "<s>|" S "a|</s>|");
    expect_pieces(t, "a", false, false, S "a|");
    expect_pieces(t, "", true, false, "<s>|</s>|");
    tokenizer_free(t);

    spec.id_key = KEY("bos_token_id");
    spec.flag_key = KEY("add_space_prefix");
    spec.flag = false;
    t = create(&spec);
    assert_int_equal(tokenizer_bos(t), x);
    expect_pieces(t, "abc", true, false, "<|x|>|abc|");
    expect_pieces(t, " abc", false, false, S "abc|");
    tokenizer_free(t);

    spec.flag_key = KEY("add_bos_token");
    t = create(&spec);
    assert_false(tokenizer_add_bos(t));
    tokenizer_free(t);
}

/* Without byte tokens a run of strange characters is one unknown token. */
static void test_unknown(void **state)
{
    (void)state;
    static const struct vocab_entry entry[] = {
        {"<unk>", 0, TOKEN_UNKNOWN},
        {S, -1, TOKEN_NORMAL},
        {"a", -2, TOKEN_NORMAL},
    };
    const struct vocab_spec spec = {.entry = entry, .n = COUNT_OF(entry)};
    struct tokenizer *t = create(&spec);
    assert_int_equal(tokenizer_bos(t), -1);
    assert_int_equal(tokenizer_eos(t), -1);
    assert_false(tokenizer_add_bos(t));
    expect_pieces(t,
                  "axya\xff"
                  "x",
                  true, false, S "|a|<unk>|a|<unk>|");
    tokenizer_free(t);
}

/* The definition, word by word: join the best pair until there is none. */
static size_t encode_slowly(const struct tokenizer *t, const char *text,
                            size_t n, int32_t *id)
{
    size_t start[256], count = 0;
    for (size_t i = 0; i < n; count++) {
        start[count] = i;
        i += (size_t)utf8_sequence((const unsigned char *)text + i, n - i);
    }
    start[count] = n;
    for (;;) {
        size_t best = SIZE_MAX;
        float best_score = -INFINITY;
        for (size_t i = 0; i + 1 < count; i++) {
            for (uint32_t k = 0; k < small_vocab_n; k++) {
                const struct vocab_entry *e = &small_vocab[k];
                if (e->kind != TOKEN_NORMAL || !(e->score > best_score) ||
                    strlen(e->text) != start[i + 2] - start[i] ||
                    memcmp(e->text, text + start[i], strlen(e->text)) != 0) {
                    continue;
                }
                best = i;
                best_score = e->score;
            }
        }
        if (best == SIZE_MAX) break;
        memmove(&start[best + 1], &start[best + 2],
                (count - best - 1) * sizeof *start);
        count--;
    }
    for (size_t i = 0; i < count; i++) {
        id[i] = -1;
        for (uint32_t k = 0; id[i] < 0 && k < small_vocab_n; k++) {
            const struct gguf_str s = tokenizer_piece(t, (int32_t)k);
            if (s.len == start[i + 1] - start[i] &&
                memcmp(s.data, text + start[i], s.len) == 0) {
                id[i] = (int32_t)k;
            }
        }
        assert_true(id[i] >= 0);
    }
    return count;
}

static void test_against_definition(void **state)
{
    (void)state;
    static const char *const part[] = {
        "a", "b", "c", "d", "e", "f", "<", "s", S, "\xc3\xa9", "\xe6\x97\xa5"};
    const struct vocab_spec spec = small_spec();
    struct tokenizer *t = create(&spec);
    struct rng r = {7};
    size_t longest = 0;
    for (int round = 0; round < 3000; round++) {
        char text[256] = S; /* the prefix, then what encode is given */
        const uint64_t n_kinds = 1 + rng_below(&r, COUNT_OF(part));
        size_t n = strlen(text);
        for (uint64_t k = rng_below(&r, 60); k > 0; k--) {
            const char *p = part[rng_below(&r, n_kinds)];
            memcpy(text + n, p, strlen(p) + 1);
            n += strlen(p);
        }
        if (n == 3) continue; /* no text, no prefix */
        int32_t want[256];
        const size_t n_want = encode_slowly(t, text, n, want);
        struct tokens got = encode(t, text + 3, n - 3, false, false);
        if (got.n != n_want ||
            memcmp(got.id, want, n_want * sizeof *want) != 0) {
            fail_msg("round %d: \"%s\" differs", round, text);
        }
        if (n > longest) longest = n;
        tokens_fini(&got);
    }
    assert_in_range(longest, 80, 255);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_special),
        cmocka_unit_test(test_plain_spans),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_against_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

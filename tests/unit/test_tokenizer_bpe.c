/* Byte-level BPE on a vocabulary small enough to work out by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/rng.h"
#include "tests/lib/vocab.h"

#define KEY(name) "tokenizer.ggml." name
#define G         "\xc4\xa0" /* a space, as stored */

static struct tokenizer *create(const struct vocab_spec *spec)
{
    struct tokenizer *t = NULL;
    struct error err;
    if (vocab_create(&t, spec, &err) != ST_OK) fail_msg("%s", err.text);
    return t;
}

static struct tokenizer *create_pre(const char *pre)
{
    struct vocab_spec spec = bpe_vocab_spec();
    spec.pre = pre;
    return create(&spec);
}

static int32_t id_of(const char *piece)
{
    const struct vocab_spec spec = bpe_vocab_spec();
    const int32_t id = vocab_id(&spec, piece);
    if (id < 0) fail_msg("no piece %s", piece);
    return id;
}

/* The pieces of the ids, each followed by '|'; { and } enclose plain spans
 * where the text is marked. */
static void expect(const struct tokenizer *t, const char *marked_text,
                   struct tokenize_options options, bool marked,
                   const char *want)
{
    struct tokenize_span span[8];
    char text[256], line[1024] = "";
    size_t n = 0, n_span = 0, len = 0;
    for (const char *p = marked_text; *p; p++) {
        if (marked && *p == '{') {
            span[n_span].begin = n;
        } else if (marked && *p == '}') {
            span[n_span++].end = n;
        } else {
            text[n++] = *p;
        }
    }
    options.plain = span;
    options.n_plain = n_span;
    struct tokens got = {0};
    struct error err;
    if (tokenizer_encode(t, text, n, options, &got, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
    for (size_t i = 0; i < got.n; i++) {
        const struct gguf_str s = tokenizer_piece(t, got.id[i]);
        len += (size_t)snprintf(line + len, sizeof line - len, "%.*s|",
                                (int)s.len, s.data);
        assert_in_range(len, 0, sizeof line - 1);
    }
    if (strcmp(line, want) != 0) {
        fail_msg("\"%s\": got %s, want %s", marked_text, line, want);
    }
    tokens_fini(&got);
}

static const struct tokenize_options text_only = {0};
static const struct tokenize_options with_special = {.special = true};

static void test_known_answers(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } row[] = {
        {"", ""},
        {"a", "a|"},
        {"hello", "hell|o|"},
        {"HELLO", "H|E|L|L|O|"},
        /* best merge first, not longest or leftmost */
        {"xabc", "x|abc|"},
        {"abab", "ab|ab|"},
        {"cabc", "c|abc|"},
        {"bcab", "bc|ab|"},
        /* a tie goes to the left */
        {"aaa", "aa|a|"},
        {"aaaaaaa", "aaaa|aa|a|"},
        /* one space stays with the word, the others make a piece */
        {" a", G "a|"},
        {" abc", G "abc|"},
        {"hello hello", "hell|o|" G "|hell|o|"},
        {"he\n\nhe", "he|\xc4\x8a\xc4\x8a|he|"},
        {"he \nhe", "he|" G "|\xc4\x8a|he|"},
        /* digits by three */
        {"12312", "123|12|"},
        {"1123", "1|12|3|"},
        /* bytes of a character merge like others */
        {"\xc3\xa9", "\xc3\x83\xc2\xa9|"},
        {"\xe6\x97\xa5", "\xc3\xa6\xc4\xb9\xc2\xa5|"},
        {"\xe6\x97\xa6", "\xc3\xa6\xc4\xb9|\xc2\xa6|"},
        /* and those of none: a piece of their own, up to the next character */
        {"a\xff"
         "a",
         "a|\xc3\xbf|a|"},
        {"\xe6\x97"
         "a",
         "\xc3\xa6\xc4\xb9|a|"},
        {"\xe6\x97\xff\xa5", "\xc3\xa6\xc4\xb9|\xc3\xbf|\xc2\xa5|"},
        /* a whole piece that is a token, merges or not */
        {"whole", "whole|"},
        {"wholes", "w|h|o|l|e|s|"},
        {"think", "think|"},
        {"thinks", "thi|n|k|s|"},
        /* but not an unused one */
        {"PAD", "P|A|D|"},
        /* the spelling of control tokens is only text */
        {"<s>", "<s|>|"},
        {"<|x|>", "<|||x|||>|"},
        {"<|im_end|>", "<|||i|m|_|e|n|d|||>|"},
        {"<0x41>", "<|0|x|4|1|>|"},
        /* user-defined tokens: always, the longest first */
        {"<t>", "<t>|"},
        {"a<t>xa", "a|<t>x|a|"},
        {"aa bc", "a|a b|c|"},
        {"he  he", "he|  |he|"},
        {"he   he", "he|  |" G "|he|"},
        {"he    he", "he|  |  |he|"},
    };
    struct tokenizer *t = create_pre("llama-bpe");
    for (size_t i = 0; i < COUNT_OF(row); i++) {
        expect(t, row[i].text, text_only, false, row[i].want);
    }
    struct tokens got = {0};
    struct error err;
    assert_int_equal(tokenizer_encode(t, "a\0a", 3, text_only, &got, &err),
                     ST_OK);
    assert_int_equal(got.n, 3);
    assert_int_equal(got.id[1], 0);
    tokens_fini(&got);
    tokenizer_free(t);
}

/* Without ignore_merges only merges make tokens. */
static void test_merges_only(void **state)
{
    (void)state;
    struct tokenizer *t = create_pre("gpt-2");
    expect(t, "whole", text_only, false, "w|h|o|l|e|");
    expect(t, "think", text_only, false, "thi|n|k|");
    expect(t, "12312", text_only, false, "123|12|");
    expect(t, "1123", text_only, false, "1|123|");
    tokenizer_free(t);
}

/* Qwen's text is brought to form C, and nothing else is changed. */
static void test_normalization(void **state)
{
    (void)state;
    struct tokenizer *t = create_pre("qwen2");
    expect(t, "e\xcc\x81", text_only, false, "\xc3\x83\xc2\xa9|");
    expect(t, "he\xcc\x81", text_only, false, "h|\xc3\x83\xc2\xa9|");
    expect(t, "hee\xcc\x81 he", text_only, false,
           "he|\xc3\x83\xc2\xa9|" G "|he|");
    /* U+212A is a K; U+0301 alone stays; a bad byte splits */
    expect(t, "\xe2\x84\xaa", text_only, false, "K|");
    expect(t, "\xcc\x81", text_only, false, "\xc3\x8c|\xc4\xa3|");
    expect(t, "e\xff\xcc\x81", text_only, false,
           "e|\xc3\xbf|\xc3\x8c|\xc4\xa3|");
    tokenizer_free(t);
    t = create_pre("llama-bpe");
    expect(t, "e\xcc\x81", text_only, false, "e|\xc3\x8c|\xc4\xa3|");
    tokenizer_free(t);
}

static void test_special(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } row[] = {
        {"<s>", "<s>|"},
        {"a<|x|>a<s> a", "a|<|x|>|a|<s>|" G "a|"},
        {"<|x|>y<|x|><|x|", "<|x|>y|<|x|>|<|||x|||"},
        {"<|im_end|>", "<|im_end|>|"},
        {"{<s>}", "<s|>|"},
        {"{a}<s>{a}", "a|<s>|a|"},
        {"<{s}>", "<s|>|"},
        {"<|x|>{y}", "<|x|>|y|"},
        {"{<|x|>}<|x|>", "<|||x|||>|<|x|>|"},
        {"{he}llo", "hell|o|"},
        {"{<}t>", "<t>|"},
        {"<|x|>{ <|im_end|>}<|im_end|>",
         "<|x|>|" G "|<|||i|m|_|e|n|d|||>|<|im_end|>|"},
    };
    struct tokenizer *t = create_pre("llama-bpe");
    for (size_t i = 0; i < COUNT_OF(row); i++) {
        expect(t, row[i].text, with_special, true, row[i].want);
    }
    tokenizer_free(t);
}

static void test_facts(void **state)
{
    (void)state;
    struct vocab_spec spec = bpe_vocab_spec();
    struct tokenizer *t = create(&spec);
    const int32_t x = id_of("<|x|>");
    assert_int_equal(tokenizer_bos(t), -1); /* none unless the file says */
    assert_int_equal(tokenizer_eos(t), -1);
    assert_false(tokenizer_add_bos(t));
    assert_true(tokenizer_is_end(t, id_of("<|im_end|>")));
    assert_true(tokenizer_is_end(t, id_of("<|eot_id|>")));
    assert_false(tokenizer_is_end(t, id_of("<s>")));
    assert_int_equal(tokenizer_kind(t, id_of("<|im_end|>")), TOKEN_CONTROL);
    tokenizer_free(t);

    spec.id_key = KEY("bos_token_id");
    spec.id = (uint32_t)x;
    t = create(&spec);
    assert_true(tokenizer_add_bos(t)); /* Llama 3 does */
    assert_false(tokenizer_add_eos(t));
    expect(t, "he", (struct tokenize_options){.bos = true}, false, "<|x|>|he|");
    tokenizer_free(t);
    spec.pre = "gpt-2";
    t = create(&spec);
    assert_false(tokenizer_add_bos(t)); /* GPT-2 does not */
    tokenizer_free(t);
    spec.flag_key = KEY("add_bos_token");
    spec.flag = true;
    t = create(&spec);
    assert_true(tokenizer_add_bos(t));
    tokenizer_free(t);

    spec.flag_key = KEY("add_space_prefix");
    t = create(&spec);
    expect(t, "abc", text_only, false, G "|abc|"); /* no merge joins them */
    expect(t, "a<s>he", with_special, false, G "a|<s>|" G "|he|");
    tokenizer_free(t);

    spec.id_key = KEY("eom_token_id");
    spec.pre = NULL; /* as "default" */
    t = create(&spec);
    assert_true(tokenizer_is_end(t, x));
    tokenizer_free(t);
}

static void test_detokenize(void **state)
{
    (void)state;
    static const struct {
        const char *pieces[5];
        const char *plain, *special;
    } row[] = {
        {{G "abc", G "a"}, " abc a", " abc a"},
        {{"<s>", G "a", "<|x|>"}, " a", "<s> a<|x|>"},
        {{"  ", "a b", "<t>"}, "  a b<t>", "  a b<t>"},
        {{"\xc3\xa6\xc4\xb9", "a"},
         "\xe6\x97"
         "a",
         "\xe6\x97"
         "a"},
        {{"\xc3\xa6\xc4\xb9\xc2\xa5"}, "\xe6\x97\xa5", "\xe6\x97\xa5"},
        {{"\xe6\x97\xa5"}, "\xe6\x97\xa5", "\xe6\x97\xa5"},
        {{"<0x41>", "[PAD]"}, "A[PAD]", "A[PAD]"},
        {{"\xc4\x8a\xc4\x8a", ""}, "\n\n", "\n\n"},
    };
    struct tokenizer *t = create_pre("llama-bpe");
    for (size_t i = 0; i < COUNT_OF(row); i++) {
        for (int special = 0; special < 2; special++) {
            struct detokenizer d;
            struct buf out;
            buf_init(&out, 64);
            detokenizer_init(&d, t, special);
            for (size_t k = 0; k < 5 && row[i].pieces[k]; k++) {
                assert_int_equal(
                    detokenizer_push(&d, id_of(row[i].pieces[k]), &out), ST_OK);
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

/* Whether text begins with what stands in a merge before (after) its space. */
static bool is_side(const char *merge, bool right, const char *text, size_t n)
{
    const size_t left_len = strcspn(merge, " ");
    const char *side = right ? merge + left_len + 1 : merge;
    const size_t len = right ? strlen(side) : left_len;
    return len == n && memcmp(side, text, n) == 0;
}

/* The definition, word by word: of all merges that fit somewhere, the first
 * in the list, at its first place, until none fits. The pieces of an ASCII
 * text, each followed by '|'. */
static void encode_slowly(const char *text, size_t n, char *line)
{
    const struct vocab_spec spec = bpe_vocab_spec();
    size_t start[80], count = n;
    for (size_t i = 0; i <= n; i++) start[i] = i;
    for (bool again = true; again;) {
        again = false;
        for (uint32_t m = 0; m < spec.n_merges && !again; m++) {
            for (size_t i = 0; i + 1 < count && !again; i++) {
                again = is_side(spec.merge[m], false, text + start[i],
                                start[i + 1] - start[i]) &&
                        is_side(spec.merge[m], true, text + start[i + 1],
                                start[i + 2] - start[i + 1]);
                if (!again) continue;
                memmove(&start[i + 1], &start[i + 2],
                        (count - i - 1) * sizeof *start);
                count--;
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(line, text + start[i], start[i + 1] - start[i]);
        line += start[i + 1] - start[i];
        *line++ = '|';
    }
    *line = '\0';
}

static void test_against_definition(void **state)
{
    (void)state;
    struct tokenizer *t = create_pre("gpt-2");
    struct rng r = {11};
    size_t merged = 0;
    for (int round = 0; round < 3000; round++) {
        static const char letters[] = "abchelothi";
        char text[64], want[160];
        const uint64_t n_kinds = 1 + rng_below(&r, sizeof letters - 1);
        const size_t n = (size_t)rng_below(&r, 60);
        for (size_t i = 0; i < n; i++) {
            text[i] = letters[rng_below(&r, n_kinds)];
        }
        text[n] = '\0';
        encode_slowly(text, n, want);
        expect(t, text, text_only, false, want);
        merged += 2 * n - strlen(want);
    }
    assert_in_range(merged, 15000, 90000);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_merges_only),
        cmocka_unit_test(test_normalization),
        cmocka_unit_test(test_special),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_detokenize),
        cmocka_unit_test(test_against_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

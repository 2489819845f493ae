/* fuzz_tokenizer.c - any bytes as text, any numbers as ids.
 *
 * The first byte chooses: bit 0 special, bit 1 BOS, bit 2 no space prefix
 * (SentencePiece only), bit 3 ids instead of text, bits 4 to 6 SentencePiece
 * (0) or byte-level BPE with a pre-tokenizer, bit 7 user text in the second
 * quarter. The rest is the text, which must come back as it was, or ids of 16
 * bits for the detokenizer. All bits: the rest is a GGUF file with the
 * vocabulary. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "tests/lib/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SPACE_MARK "\xe2\x96\x81"

static void must(bool ok)
{
    if (!ok) abort();
}

static const char *const pre_names[] = {"llama-bpe",  "gpt-2",        "qwen2",
                                        "default",    "deepseek-llm", "tekken",
                                        "deepseek-v3"};

/* Made once and kept: SentencePiece with the space prefix and without, then
 * BPE with each pre-tokenizer. */
static const struct tokenizer *tokenizer(uint8_t flags)
{
    static struct tokenizer *t[2 + COUNT_OF(pre_names)];
    const size_t bpe = flags >> 4 & 7;
    const size_t i = bpe > 0 ? bpe + 1 : (flags & 4) == 0;
    if (!t[i]) {
        struct vocab_spec spec = {.entry = small_vocab,
                                  .n = small_vocab_n,
                                  .flag_key = "tokenizer.ggml.add_space_prefix",
                                  .flag = i == 1};
        if (bpe > 0) {
            spec = bpe_vocab_spec();
            spec.pre = pre_names[bpe - 1];
            spec.id_key = "tokenizer.ggml.bos_token_id";
            spec.id = (uint32_t)vocab_id(&spec, "<s>");
        }
        must(vocab_create(&t[i], &spec, NULL) == ST_OK);
    }
    return t[i];
}

/* U+2581 in text is a space to SentencePiece, and comes back as one. */
static size_t unmark(const char *text, size_t n, char *plain)
{
    size_t len = 0;
    for (size_t i = 0; i < n; len++) {
        if (n - i >= 3 && memcmp(text + i, SPACE_MARK, 3) == 0) {
            plain[len] = ' ';
            i += 3;
        } else {
            plain[len] = text[i++];
        }
    }
    return len;
}

/* User text as a whole: no control token comes of it. */
static void encode_plain(const struct tokenizer *t, const char *text, size_t n)
{
    const struct tokenize_span all = {0, n};
    const struct tokenize_options options = {
        .special = true, .plain = &all, .n_plain = 1};
    struct tokens ids = {0}, want = {0};
    must(tokenizer_encode(t, text, n, options, &ids, NULL) == ST_OK);
    must(tokenizer_encode(t, text, n, (struct tokenize_options){0}, &want,
                          NULL) == ST_OK);
    must(ids.n == want.n);
    must(ids.n == 0 || memcmp(ids.id, want.id, ids.n * sizeof *ids.id) == 0);
    tokens_fini(&ids);
    tokens_fini(&want);
}

static void round_trip(const struct tokenizer *t, const char *text, size_t n,
                       struct tokenize_options options, uint8_t flags)
{
    const struct tokenize_span part = {n / 4, n / 2};
    if (flags & 0x80) {
        options.plain = &part;
        options.n_plain = 1;
    }
    struct tokens ids = {0};
    must(tokenizer_encode(t, text, n, options, &ids, NULL) == ST_OK);
    must(!options.bos || (ids.n > 0 && ids.id[0] == tokenizer_bos(t)));

    struct detokenizer d;
    struct buf out;
    buf_init(&out, 3 * n); /* form C may be longer */
    detokenizer_init(&d, t, options.special);
    for (size_t i = options.bos; i < ids.n; i++) {
        const enum token_kind kind = tokenizer_kind(t, ids.id[i]);
        must(kind != TOKEN_UNUSED && kind != TOKEN_UNKNOWN);
        must(options.special || kind != TOKEN_CONTROL);
        must(detokenizer_push(&d, ids.id[i], &out) == ST_OK);
    }
    must(detokenizer_finish(&d, &out) == ST_OK);

    char *want = mem_alloc(n);
    must(want != NULL);
    size_t n_want = n;
    memcpy(want, text, n);
    if ((flags & 0x70) == 0) n_want = unmark(text, n, want);
    if ((flags & 0x70) != 0x30) { /* which changes more than spaces */
        must(out.len == n_want);
        must(n_want == 0 || memcmp(out.data, want, n_want) == 0);
    }
    mem_free(want);
    buf_fini(&out);
    tokens_fini(&ids);
}

/* What is out is whole, and what is held is the start of a character. */
static void check_held(const struct detokenizer *d, const struct buf *out)
{
    struct buf all;
    buf_init(&all, out->len + sizeof d->held);
    must(buf_append(&all, out->data, out->len) == ST_OK);
    must(buf_append(&all, d->held, d->n_held) == ST_OK);
    size_t at = 0;
    while (at < all.len) {
        const int len =
            utf8_sequence((unsigned char *)all.data + at, all.len - at);
        if (len < 0) break;
        at += len > 0 ? (size_t)len : 1;
    }
    must(at == out->len);
    buf_fini(&all);
}

static void push_ids(const struct tokenizer *t, const uint8_t *data,
                     size_t size, bool special)
{
    struct detokenizer stream, single;
    struct buf out, want;
    buf_init(&out, 16 * size);
    buf_init(&want, 16 * size);
    detokenizer_init(&stream, t, special);
    detokenizer_init(&single, t, special);
    for (size_t i = 0; i + 2 <= size; i += 2) {
        int16_t id;
        memcpy(&id, data + i, sizeof id);
        const bool valid = id >= 0 && (uint32_t)id < tokenizer_n_vocab(t);
        const enum status st = valid ? ST_OK : ST_INVALID;
        must(detokenizer_push(&stream, id, &out) == st);
        must(detokenizer_push(&single, id, &want) == st);
        must(detokenizer_finish(&single, &want) == ST_OK);
        must(out.len + stream.n_held == want.len);
    }
    check_held(&stream, &out);
    must(detokenizer_finish(&stream, &out) == ST_OK);
    must(out.len == want.len);
    must(out.len == 0 || memcmp(out.data, want.data, out.len) == 0);
    buf_fini(&out);
    buf_fini(&want);
}

/* A vocabulary that was tampered with is refused, or does its work. */
static void use_file(const uint8_t *data, size_t size)
{
    static const char text[] = "<s>hello  abc 12345\n\xc3\xa9\xff";
    struct gguf *g;
    struct tokenizer *t;
    if (gguf_open_mem(&g, data, size, NULL) != ST_OK) return;
    if (tokenizer_create(&t, g, NULL) == ST_OK) {
        struct tokens ids = {0};
        const struct tokenize_options options = {.bos = true, .special = true};
        must(tokenizer_encode(t, text, sizeof text, options, &ids, NULL) ==
             ST_OK);
        struct detokenizer d;
        struct buf out;
        buf_init(&out, 1 << 20);
        detokenizer_init(&d, t, true);
        for (size_t i = 0; i < ids.n; i++) {
            must(detokenizer_push(&d, ids.id[i], &out) == ST_OK);
        }
        buf_fini(&out);
        tokens_fini(&ids);
        tokenizer_free(t);
    }
    gguf_close(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    const uint8_t flags = data[0];
    if (flags == 0xff) {
        use_file(data + 1, size - 1);
        return 0;
    }
    const struct tokenizer *t = tokenizer(flags);
    const size_t before = mem_in_use();
    if (flags & 8) {
        push_ids(t, data + 1, size - 1, flags & 1);
    } else {
        const struct tokenize_options options = {.bos = flags & 2,
                                                 .special = flags & 1};
        const char *text = (const char *)data + 1;
        round_trip(t, text, size - 1, options, flags);
        if (flags & 0x80) encode_plain(t, text, size - 1);
    }
    must(mem_in_use() == before);
    return 0;
}

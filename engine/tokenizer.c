/* tokenizer.c - the vocabulary of a GGUF file, read and checked.
 *
 * Depends on: common, gguf.  Thread: as tokenizer.h says.
 *
 * Everything is copied out of the file into four flat arrays, so a vocabulary
 * of 32,000 takes about a megabyte with its indexes. */
#include "engine/tokenizer.h"
#include "engine/tokenizer_internal.h"

#include <math.h>
#include <string.h>

#define KEY(name) "tokenizer.ggml." name

/* Tokens that end a model's turn but that many files mark by nothing except
 * their text: the ends of ChatML, Gemma, Llama 3, Phi 3, DeepSeek and the
 * GPT family. */
static const char *const end_names[] = {
    "<end_of_turn>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|return|>",
    "<|call|>",
    "<EOT>",
    "_<EOT>",
    "<|end_of_text|>",
    /* with U+FF5C and U+2581 */
    "<\xef\xbd\x9c\x65nd\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
    "<|END_OF_TURN_TOKEN|>",
};
_Static_assert(COUNT_OF(end_names) + 3 <= END_IDS_MAX,
               "with EOS, EOT and EOM there is room");

/* ---- the caller's list of ids ------------------------------------------ */

void tokens_fini(struct tokens *t)
{
    mem_free(t->id);
    *t = (struct tokens){0};
}

enum status tokens_push(struct tokens *t, int32_t id)
{
    if (t->n == t->cap) {
        const size_t cap = t->cap == 0 ? 16 : t->cap * 2;
        size_t bytes;
        if (!size_mul(cap, sizeof *t->id, &bytes)) return ST_NO_MEMORY;
        int32_t *grown = mem_realloc(t->id, bytes);
        if (!grown) return ST_NO_MEMORY;
        t->id = grown;
        t->cap = cap;
    }
    t->id[t->n++] = id;
    return ST_OK;
}

/* ---- reading ----------------------------------------------------------- */

struct quoted {
    char text[48];
};

/* A file's string made fit for a message: short, and nothing unprintable. */
static struct quoted quote(struct gguf_str s)
{
    struct quoted q = {.text = "\""};
    size_t n = 1;
    for (size_t i = 0; i < s.len && n < sizeof q.text - 5; i++) {
        const char c = s.data[i];
        q.text[n++] = c;
        if (c < 0x20 || c > 0x7e) q.text[n - 1] = '?';
    }
    if (n - 1 < s.len) {
        memcpy(q.text + n, "...", 3);
        n += 3;
    }
    memcpy(q.text + n, "\"", 2);
    return q;
}

static bool str_is(struct gguf_str s, const char *want)
{
    return s.len == strlen(want) && memcmp(s.data, want, s.len) == 0;
}

/* Which of the two tokenizers it is, and how BPE cuts its text. */
static enum status read_model(struct tokenizer *t, const struct gguf *g,
                              struct error *err)
{
    struct gguf_str model, pre = {"default", strlen("default")};
    enum status st = gguf_get_str(g, KEY("model"), &model, err);
    if (st != ST_OK || str_is(model, "llama")) return st;
    if (!str_is(model, "gpt2")) {
        return error_set(err, ST_UNSUPPORTED,
                         "tokenizer %s is not supported; use a model with a "
                         "SentencePiece (\"llama\") or byte-level BPE "
                         "(\"gpt2\") tokenizer",
                         quote(model).text);
    }
    t->is_bpe = true;
    st = gguf_get_str(g, KEY("pre"), &pre, err);
    if (st != ST_OK && st != ST_NOT_FOUND) return st;
    st = pre_create(&t->pre, pre.data, pre.len, err);
    if (st != ST_NOT_FOUND) return st;
    return error_set(err, ST_UNSUPPORTED,
                     "tokenizer %s with pre-tokenizer %s is not supported; "
                     "use a model with the one of Llama 3 (llama-bpe), Qwen "
                     "(qwen2), GPT-2 or Mistral (tekken)",
                     quote(model).text, quote(pre).text);
}

static enum status read_flag(const struct gguf *g, const char *key,
                             bool fallback, bool *out, struct error *err)
{
    bool value = fallback;
    const enum status st = gguf_get_bool(g, key, &value, err);
    if (st != ST_OK && st != ST_NOT_FOUND) return st;
    *out = value;
    return ST_OK;
}

/* An id that the file may leave out; then it is `usual` if that token is of
 * the kind it should be, else none. */
static enum status read_id(const struct tokenizer *t, const struct gguf *g,
                           const char *key, int32_t usual, enum token_kind kind,
                           int32_t *out, struct error *err)
{
    uint32_t id;
    const enum status st = gguf_get_u32(g, key, &id, err);
    if (st == ST_NOT_FOUND) {
        const bool fits = usual >= 0 && (uint32_t)usual < t->n_vocab &&
                          t->kind[usual] == kind;
        *out = fits ? usual : -1;
        return ST_OK;
    }
    if (st != ST_OK) return st;
    if (id >= t->n_vocab) {
        return error_set(err, ST_INVALID,
                         "%s is %u, but the vocabulary has %u tokens", key, id,
                         t->n_vocab);
    }
    *out = (int32_t)id;
    return ST_OK;
}

static enum status read_pieces(struct tokenizer *t,
                               const struct gguf_array *tokens,
                               struct error *err)
{
    size_t total = 0;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        const size_t len = gguf_array_str(tokens, id).len;
        if (len > PIECE_BYTES_MAX) {
            return error_set(err, ST_TOO_LARGE,
                             KEY("tokens") ": token %u has %zu bytes, the "
                                           "limit is %d",
                             id, len, PIECE_BYTES_MAX);
        }
        total += len;
    }
    t->arena = mem_alloc(total);
    t->offset = mem_zalloc_array((size_t)t->n_vocab + 1, sizeof *t->offset);
    if (!t->arena || !t->offset) {
        return error_set(err, ST_NO_MEMORY, "vocabulary text of %zu bytes",
                         total);
    }
    uint32_t at = 0;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        const struct gguf_str s = gguf_array_str(tokens, id);
        if (s.len > 0) memcpy(t->arena + at, s.data, s.len);
        at += (uint32_t)s.len;
        t->offset[id + 1] = at;
    }
    return ST_OK;
}

static enum status read_scores(struct tokenizer *t,
                               const struct gguf_array *scores,
                               struct error *err)
{
    t->score = mem_zalloc_array(t->n_vocab, sizeof *t->score);
    if (!t->score) {
        return error_set(err, ST_NO_MEMORY, "scores of %u tokens", t->n_vocab);
    }
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        t->score[id] = gguf_array_f32(scores, id);
        if (isnan(t->score[id])) {
            return error_set(err, ST_INVALID,
                             KEY("scores") ": the score of token %u is not "
                                           "a number",
                             id);
        }
    }
    return ST_OK;
}

static enum status read_kinds(struct tokenizer *t,
                              const struct gguf_array *kinds, struct error *err)
{
    t->kind = mem_zalloc(t->n_vocab);
    if (!t->kind) {
        return error_set(err, ST_NO_MEMORY, "types of %u tokens", t->n_vocab);
    }
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        const int32_t kind = gguf_array_i32(kinds, id);
        if (kind < TOKEN_UNDEFINED || kind > TOKEN_BYTE) {
            return error_set(err, ST_INVALID,
                             KEY("token_type") ": token %u has type %d, the "
                                               "known types are 0 to 6",
                             id, (int)kind);
        }
        t->kind[id] = (uint8_t)kind;
        t->has_unused |= kind == TOKEN_UNUSED;
    }
    return ST_OK;
}

static enum status read_vocab(struct tokenizer *t, const struct gguf *g,
                              struct error *err)
{
    const struct gguf_array *tokens, *scores = NULL, *kinds;
    enum status st =
        gguf_get_array(g, KEY("tokens"), GGUF_STRING, &tokens, err);
    if (st != ST_OK) return st;
    if (!t->is_bpe) { /* it has merges instead */
        st = gguf_get_array(g, KEY("scores"), GGUF_F32, &scores, err);
        if (st != ST_OK) return st;
    }
    st = gguf_get_array(g, KEY("token_type"), GGUF_I32, &kinds, err);
    if (st != ST_OK) return st;

    const uint64_t n = gguf_array_len(tokens);
    if (n == 0) {
        return error_set(err, ST_INVALID, KEY("tokens") " is empty");
    }
    if (n > TOKENIZER_VOCAB_MAX) {
        return error_set(err, ST_TOO_LARGE,
                         KEY("tokens") " has %llu tokens, the limit is %u",
                         (unsigned long long)n, TOKENIZER_VOCAB_MAX);
    }
    const uint64_t n_scores = scores ? gguf_array_len(scores) : n;
    if (n_scores != n || gguf_array_len(kinds) != n) {
        return error_set(
            err, ST_INVALID,
            "the file has %llu tokens, but %llu scores and %llu token types",
            (unsigned long long)n, (unsigned long long)n_scores,
            (unsigned long long)gguf_array_len(kinds));
    }
    t->n_vocab = (uint32_t)n;
    st = read_pieces(t, tokens, err);
    if (st == ST_OK && scores) st = read_scores(t, scores, err);
    return st == ST_OK ? read_kinds(t, kinds, err) : st;
}

/* ---- what single tokens mean ------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

int token_byte(struct gguf_str piece)
{
    if (piece.len != 6 || memcmp(piece.data, "<0x", 3) != 0 ||
        piece.data[5] != '>') {
        return -1;
    }
    const int high = hex_digit(piece.data[3]), low = hex_digit(piece.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static enum status find_bytes(struct tokenizer *t, struct error *err)
{
    int n = 0;
    for (int b = 0; b < 256; b++) {
        const char byte = (char)b;
        t->byte_id[b] = t->is_bpe ? vocab_find(t, &byte, 1) : -1;
        if (t->byte_id[b] >= 0) n++;
    }
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        if (t->kind[id] != TOKEN_BYTE) continue;
        const struct gguf_str s = tokenizer_piece(t, (int32_t)id);
        const int byte = token_byte(s);
        if (byte < 0) {
            return error_set(err, ST_INVALID,
                             KEY("tokens") ": byte token %u is spelt %s, "
                                           "not like \"<0x0A>\"",
                             id, quote(s).text);
        }
        if (t->byte_id[byte] >= 0) continue;
        t->byte_id[byte] = (int32_t)id;
        n++;
    }
    if (n < 256 && t->unknown < 0) {
        return error_set(err, ST_INVALID,
                         "the vocabulary has %d of 256 byte tokens and no "
                         "unknown token, so it cannot write every text",
                         n);
    }
    return ST_OK;
}

/* A token that begins or ends a text is a control token whatever the file
 * calls it: text that a person types must not become one. */
static void make_control(struct tokenizer *t, int32_t id)
{
    if (id < 0) return;
    if (t->kind[id] == TOKEN_USER_DEFINED || t->kind[id] == TOKEN_NORMAL) {
        t->kind[id] = TOKEN_CONTROL;
    }
}

static void add_end(struct tokenizer *t, int32_t id)
{
    if (id < 0 || tokenizer_is_end(t, id)) return;
    make_control(t, id);
    t->end[t->n_end++] = id;
}

static void add_named_ends(struct tokenizer *t)
{
    bool seen[COUNT_OF(end_names)] = {false};
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        const struct gguf_str s = tokenizer_piece(t, (int32_t)id);
        if (s.len == 0 || (s.data[0] != '<' && s.data[0] != '_')) continue;
        for (size_t i = 0; i < COUNT_OF(end_names); i++) {
            if (seen[i] || !str_is(s, end_names[i])) continue;
            seen[i] = true;
            add_end(t, (int32_t)id);
        }
    }
}

static enum status read_ids(struct tokenizer *t, const struct gguf *g,
                            struct error *err)
{
    /* SentencePiece's own ids where the file names none; BPE has no such. */
    const struct {
        const char *key;
        int32_t usual;
        enum token_kind kind;
        int32_t *out;
    } named[] = {
        {KEY("unknown_token_id"), 0, TOKEN_UNKNOWN, &t->unknown},
        {KEY("bos_token_id"), 1, TOKEN_CONTROL, &t->bos},
        {KEY("eos_token_id"), 2, TOKEN_CONTROL, &t->eos},
    };
    for (size_t i = 0; i < COUNT_OF(named); i++) {
        const enum status st =
            read_id(t, g, named[i].key, t->is_bpe ? -1 : named[i].usual,
                    named[i].kind, named[i].out, err);
        if (st != ST_OK) return st;
    }
    make_control(t, t->bos);
    add_end(t, t->eos);

    const char *const ends[] = {KEY("eot_token_id"), KEY("eom_token_id")};
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        int32_t id = -1;
        const enum status st =
            read_id(t, g, ends[i], -1, TOKEN_CONTROL, &id, err);
        if (st != ST_OK) return st;
        add_end(t, id);
    }
    add_named_ends(t);
    return ST_OK;
}

static enum status read_flags(struct tokenizer *t, const struct gguf *g,
                              struct error *err)
{
    const bool usual_bos = !t->is_bpe || pre_facts(t->pre).add_bos;
    enum status st =
        read_flag(g, KEY("add_bos_token"), usual_bos, &t->add_bos, err);
    if (st != ST_OK) return st;
    st = read_flag(g, KEY("add_eos_token"), false, &t->add_eos, err);
    if (st != ST_OK) return st;
    st = read_flag(g, KEY("add_space_prefix"), !t->is_bpe, &t->add_space_prefix,
                   err);
    t->add_bos &= t->bos >= 0;
    t->add_eos &= t->eos >= 0;
    return st;
}

/* ---- public ------------------------------------------------------------ */

enum status tokenizer_create(struct tokenizer **out, const struct gguf *g,
                             struct error *err)
{
    struct tokenizer *t = mem_zalloc(sizeof *t);
    if (!t) {
        return error_set(err, ST_NO_MEMORY, "tokenizer: %zu bytes", sizeof *t);
    }
    enum status st = read_model(t, g, err);
    if (st == ST_OK) st = read_vocab(t, g, err);
    if (st == ST_OK) st = read_ids(t, g, err);
    if (st == ST_OK) st = read_flags(t, g, err);
    if (st == ST_OK) st = vocab_index(t, err);
    if (st == ST_OK) st = find_bytes(t, err);
    if (st == ST_OK && t->is_bpe) st = bpe_read_merges(t, g, err);
    if (st != ST_OK) {
        tokenizer_free(t);
        return st;
    }
    *out = t;
    return ST_OK;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t) return;
    vocab_fini(t);
    bpe_fini(t);
    mem_free(t->arena);
    mem_free(t->offset);
    mem_free(t->score);
    mem_free(t->kind);
    mem_free(t);
}

uint32_t tokenizer_n_vocab(const struct tokenizer *t)
{
    return t->n_vocab;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}

bool tokenizer_add_bos(const struct tokenizer *t)
{
    return t->add_bos;
}

bool tokenizer_add_eos(const struct tokenizer *t)
{
    return t->add_eos;
}

bool tokenizer_is_end(const struct tokenizer *t, int32_t id)
{
    for (uint32_t i = 0; i < t->n_end; i++) {
        if (t->end[i] == id) return true;
    }
    return false;
}

static bool in_vocab(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->n_vocab;
}

enum token_kind tokenizer_kind(const struct tokenizer *t, int32_t id)
{
    return in_vocab(t, id) ? (enum token_kind)t->kind[id] : TOKEN_UNDEFINED;
}

struct gguf_str tokenizer_piece(const struct tokenizer *t, int32_t id)
{
    if (!in_vocab(t, id)) return (struct gguf_str){"", 0};
    return (struct gguf_str){t->arena + t->offset[id],
                             t->offset[id + 1] - t->offset[id]};
}

/* The end of the stretch from `at` on that control tokens may be looked for
 * in; `at` itself if it lies in a plain span. *next is a cursor into the
 * spans, for calls with ascending `at`. */
static size_t special_end(const struct tokenize_options *o, size_t *next,
                          size_t at, size_t n)
{
    /* An empty span has no byte that could be touched. */
    while (*next < o->n_plain && (o->plain[*next].end <= at ||
                                  o->plain[*next].end <= o->plain[*next].begin))
        ++*next;
    if (*next == o->n_plain || o->plain[*next].begin >= n) return n;
    return o->plain[*next].begin > at ? o->plain[*next].begin : at;
}

static enum status encode_text(const struct tokenizer *t, const char *text,
                               size_t n, struct tokens *out)
{
    if (n == 0) return ST_OK;
    return t->is_bpe ? bpe_encode(t, text, n, out)
                     : spm_encode(t, text, n, out);
}

/* Text between control tokens becomes ids part by part. */
static enum status encode_parts(const struct tokenizer *t, const char *text,
                                size_t n,
                                const struct tokenize_options *options,
                                struct tokens *out)
{
    size_t start = 0, next_span = 0;
    for (size_t at = 0; options->special && at < n;) {
        const size_t end = special_end(options, &next_span, at, n);
        int32_t id;
        const size_t len =
            end > at ? matcher_longest(&t->control, text + at, end - at, &id)
                     : 0;
        if (len == 0) {
            at++;
            continue;
        }
        enum status st = encode_text(t, text + start, at - start, out);
        if (st == ST_OK) st = tokens_push(out, id);
        if (st != ST_OK) return st;
        at += len;
        start = at;
    }
    return encode_text(t, text + start, n - start, out);
}

enum status tokenizer_encode(const struct tokenizer *t, const char *text,
                             size_t n, struct tokenize_options options,
                             struct tokens *out, struct error *err)
{
    if (n > TOKENIZER_TEXT_MAX) {
        return error_set(err, ST_TOO_LARGE,
                         "the text has %zu bytes, the limit is %u", n,
                         TOKENIZER_TEXT_MAX);
    }
    const size_t n_before = out->n;
    enum status st = ST_OK;
    if (options.bos && t->bos >= 0) st = tokens_push(out, t->bos);
    if (st == ST_OK) st = encode_parts(t, text, n, &options, out);
    if (st == ST_OK && options.bos && t->add_eos) {
        st = tokens_push(out, t->eos);
    }
    if (st != ST_OK) {
        out->n = n_before;
        return error_set(err, st, "ids of a text of %zu bytes", n);
    }
    return ST_OK;
}

#include "tests/lib/vocab.h"

#include <string.h>

#define KEY(name) "tokenizer.ggml." name
#define S         "\xe2\x96\x81" /* U+2581 */

#define B(x)                                                                   \
    {                                                                          \
        "<0x" #x ">", 0, TOKEN_BYTE                                            \
    }
#define ROW(h)                                                                 \
    B(h##0), B(h##1), B(h##2), B(h##3), B(h##4), B(h##5), B(h##6), B(h##7),    \
        B(h##8), B(h##9), B(h##A), B(h##B), B(h##C), B(h##D), B(h##E), B(h##F)

/* Scores are such that the best pair is often not the first one. */
const struct vocab_entry small_vocab[] = {
    {"<unk>", 0, TOKEN_UNKNOWN},
    {"<s>", 0, TOKEN_CONTROL},
    {"</s>", 0, TOKEN_CONTROL},
    ROW(0),
    ROW(1),
    ROW(2),
    ROW(3),
    ROW(4),
    ROW(5),
    ROW(6),
    ROW(7),
    ROW(8),
    ROW(9),
    ROW(A),
    ROW(B),
    ROW(C),
    ROW(D),
    ROW(E),
    ROW(F),
    {S, -90, TOKEN_NORMAL},
    {"a", -91, TOKEN_NORMAL},
    {"b", -92, TOKEN_NORMAL},
    {"c", -93, TOKEN_NORMAL},
    {"d", -94, TOKEN_NORMAL},
    {"e", -95, TOKEN_NORMAL},
    {"f", -96, TOKEN_NORMAL},
    {"g", -97, TOKEN_NORMAL},
    {"h", -98, TOKEN_NORMAL},
    {"<", -99, TOKEN_NORMAL},
    {"s", -100, TOKEN_NORMAL},
    {">", -101, TOKEN_NORMAL},
    {"\xc3\xa9", -102, TOKEN_NORMAL},     /* e acute       */
    {"\xe6\x97\xa5", -103, TOKEN_NORMAL}, /* sun           */
    {"ab", -9, TOKEN_NORMAL},
    {"bc", -3, TOKEN_NORMAL}, /* better than ab, later in the list */
    {"abc", -20, TOKEN_NORMAL},
    {"cab", -2.5f, TOKEN_NORMAL},
    {"de", -4, TOKEN_NORMAL}, /* a tie with ef */
    {"ef", -4, TOKEN_NORMAL},
    {"aa", -5, TOKEN_NORMAL},
    {"aaaa", -4.5f, TOKEN_NORMAL},
    {S S, -6, TOKEN_NORMAL},
    {S S S S, -5.5f, TOKEN_NORMAL},
    {S "a", -7, TOKEN_NORMAL},
    {S "abc", -1, TOKEN_NORMAL},
    {"b" S, -8, TOKEN_NORMAL},
    {"\xe6\x97\xa5\xe6\x9c\xac", -2, TOKEN_NORMAL}, /* second char only here */
    {"gh", -1, TOKEN_UNUSED},
    {"ghh", -2, TOKEN_NORMAL},
    {"<s", -3, TOKEN_NORMAL},
    {"<s>s", -3, TOKEN_NORMAL},
    {"[ud]", 0, TOKEN_USER_DEFINED},
    {"[ud]d", 0, TOKEN_USER_DEFINED},
    {"[u d]", 0, TOKEN_USER_DEFINED}, /* stored with an ordinary space */
    {"<|x|>", 0, TOKEN_CONTROL},
    {"<|x|>y", 0, TOKEN_CONTROL},
    {"<|im_end|>", 0, TOKEN_USER_DEFINED},
    {"", 0, TOKEN_NORMAL},
    {"a", -1, TOKEN_NORMAL}, /* a second one, never found */
    {"zz zz", 0, TOKEN_UNDEFINED},
};
const uint32_t small_vocab_n = COUNT_OF(small_vocab);

int32_t vocab_id(const struct vocab_spec *spec, const char *text)
{
    for (uint32_t i = 0; i < spec->n; i++) {
        if (strcmp(spec->entry[i].text, text) == 0) return (int32_t)i;
    }
    return -1;
}

/* False after the key was left out or spoilt as the spec wants. */
static bool wanted(struct gguf_writer *w, const struct vocab_spec *spec,
                   const char *key)
{
    if (spec->skip && strcmp(spec->skip, key) == 0) return false;
    if (spec->wrong && strcmp(spec->wrong, key) == 0) {
        gguf_writer_scalar(w, key, GGUF_U8, &(uint8_t){1});
        return false;
    }
    return true;
}

static void put_arrays(struct gguf_writer *w, const struct vocab_spec *spec,
                       const char **text, float *score, int32_t *kind)
{
    for (uint32_t i = 0; i < spec->n; i++) {
        text[i] = spec->entry[i].text;
        score[i] = spec->entry[i].score;
        kind[i] = spec->entry[i].kind;
    }
    if (wanted(w, spec, KEY("tokens"))) {
        gguf_writer_cstrs(w, KEY("tokens"), text, spec->n);
    }
    if (!spec->merge && wanted(w, spec, KEY("scores"))) {
        gguf_writer_array(w, KEY("scores"), GGUF_F32, score,
                          spec->n - spec->n_scores_less);
    }
    if (wanted(w, spec, KEY("token_type"))) {
        gguf_writer_array(w, KEY("token_type"), GGUF_I32, kind,
                          spec->n - spec->n_kinds_less);
    }
}

enum status vocab_write(const struct vocab_spec *spec, struct buf *out,
                        struct error *err)
{
    struct gguf_writer *w;
    enum status st = gguf_writer_create(&w, 3, err);
    if (st != ST_OK) return st;
    if (wanted(w, spec, KEY("model"))) {
        gguf_writer_str(w, KEY("model"), spec->model ? spec->model : "llama");
    }
    if (spec->pre) gguf_writer_str(w, KEY("pre"), spec->pre);
    if (spec->chat_template) {
        gguf_writer_str(w, "tokenizer.chat_template", spec->chat_template);
    }
    if (spec->id_key) gguf_writer_u32(w, spec->id_key, spec->id);
    if (spec->flag_key) gguf_writer_bool(w, spec->flag_key, spec->flag);
    if (spec->wrong && strstr(spec->wrong, "_token_id")) {
        gguf_writer_str(w, spec->wrong, "one");
    }
    if (spec->wrong && strstr(spec->wrong, "add_")) {
        gguf_writer_str(w, spec->wrong, "yes");
    }

    if (spec->merge && wanted(w, spec, KEY("merges"))) {
        gguf_writer_cstrs(w, KEY("merges"), spec->merge, spec->n_merges);
    }
    const char **text = mem_zalloc_array(spec->n + 1, sizeof *text);
    float *score = mem_zalloc_array(spec->n + 1, sizeof *score);
    int32_t *kind = mem_zalloc_array(spec->n + 1, sizeof *kind);
    if (text && score && kind) {
        put_arrays(w, spec, text, score, kind);
        st = gguf_writer_save_mem(w, out, err);
    } else {
        st = error_set(err, ST_NO_MEMORY, "small vocabulary");
    }
    mem_free(text);
    mem_free(score);
    mem_free(kind);
    gguf_writer_free(w);
    return st;
}

enum status vocab_create(struct tokenizer **out, const struct vocab_spec *spec,
                         struct error *err)
{
    struct buf file;
    buf_init(&file, 256u << 20);
    struct gguf *g = NULL;
    enum status st = vocab_write(spec, &file, err);
    if (st == ST_OK) st = gguf_open_mem(&g, file.data, file.len, err);
    buf_fini(&file);
    if (st != ST_OK) return st;
    st = tokenizer_create(out, g, err);
    gguf_close(g);
    return st;
}

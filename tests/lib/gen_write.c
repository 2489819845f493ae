/* gen_write.c - a generated model's metadata and data, as GGUF v3 files. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "engine/gguf.h"
#include "tests/lib/gen_model.h"
#include "tests/lib/gen_vocab.h"
#include "tests/lib/gen_weights.h"

#define ALIGN       32u /* general.alignment's default */
#define CHUNK_BYTES (1u << 20)

/* Metadata under construction; the first failure sticks. */
struct head {
    struct buf b;
    uint64_t n_keys;
    enum status st;
};

static void put(struct head *h, const void *p, size_t n)
{
    if (h->st == ST_OK) h->st = buf_append(&h->b, p, n);
}

static void put_u32(struct head *h, uint32_t v)
{
    put(h, &v, sizeof v);
}

static void put_u64(struct head *h, uint64_t v)
{
    put(h, &v, sizeof v);
}

static void put_str(struct head *h, const char *s)
{
    put_u64(h, strlen(s));
    put(h, s, strlen(s));
}

static void key(struct head *h, const char *name, enum gguf_type type)
{
    put_str(h, name);
    put_u32(h, type);
    h->n_keys++;
}

static void key_u32(struct head *h, const char *name, uint32_t v)
{
    key(h, name, GGUF_U32);
    put_u32(h, v);
}

static void key_u16(struct head *h, const char *name, uint16_t v)
{
    key(h, name, GGUF_U16);
    put(h, &v, sizeof v);
}

static void key_f32(struct head *h, const char *name, float v)
{
    key(h, name, GGUF_F32);
    put(h, &v, sizeof v);
}

static void key_bool(struct head *h, const char *name, uint8_t v)
{
    key(h, name, GGUF_BOOL);
    put(h, &v, 1);
}

static void key_str(struct head *h, const char *name, const char *v)
{
    key(h, name, GGUF_STRING);
    put_str(h, v);
}

static void key_array(struct head *h, const char *name, enum gguf_type type,
                      uint64_t n)
{
    key(h, name, GGUF_ARRAY);
    put_u32(h, type);
    put_u64(h, n);
}

/* --------------------------------------------------------- metadata */

/* llama.cpp's llama_ftype of the commonest matrix type. */
static uint32_t file_type(const struct gen_model *m)
{
    if (m->more_bits) return 15; /* Q4_K_M */
    switch (m->type[GEN_FFN]) {
    case QUANT_F16:
        return 1;
    case QUANT_Q4_0:
        return 2;
    case QUANT_Q4_1:
        return 3;
    case QUANT_Q8_0:
        return 7;
    case QUANT_Q4_K:
        return 14;
    case QUANT_Q6_K:
        return 18;
    case QUANT_BF16:
        return 32;
    case QUANT_F32:
    case QUANT_TYPE_END:
    default:
        return 0;
    }
}

static void put_model_keys(struct head *h, const struct gen_model *m)
{
    char name[64];
    snprintf(name, sizeof name, "potluck random model, seed %" PRIu64, m->seed);
    key_str(h, "general.architecture", "llama");
    key_str(h, "general.name", name);
    key_u32(h, "general.file_type", file_type(m));
    key_u32(h, "general.quantization_version", 2);
    key_u32(h, "llama.vocab_size", m->n_vocab);
    key_u32(h, "llama.context_length", m->n_ctx);
    key_u32(h, "llama.embedding_length", m->n_embd);
    key_u32(h, "llama.block_count", m->n_layer);
    key_u32(h, "llama.feed_forward_length", m->n_ff);
    key_u32(h, "llama.attention.head_count", m->n_head);
    key_u32(h, "llama.attention.head_count_kv", m->n_head_kv);
    key_f32(h, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    /* Real files carry the head's size only where it does not follow. */
    if (m->head_dim * m->n_head != m->n_embd) {
        key_u32(h, "llama.attention.key_length", m->head_dim);
        key_u32(h, "llama.attention.value_length", m->head_dim);
    }
    key_u32(h, "llama.rope.dimension_count", m->head_dim);
    key_f32(h, "llama.rope.freq_base", m->rope_base);
    if (m->n_expert) {
        key_u32(h, "llama.expert_count", m->n_expert);
        key_u32(h, "llama.expert_used_count", m->n_expert_used);
    }
}

static void put_vocabulary(struct head *h, const struct gen_model *m)
{
    struct gen_piece p;
    key_str(h, "tokenizer.ggml.model", "llama");
    key_str(h, "tokenizer.ggml.pre", "default");
    key_array(h, "tokenizer.ggml.tokens", GGUF_STRING, m->n_vocab);
    for (uint32_t i = 0; i < m->n_vocab; i++) {
        gen_vocab_piece(i, &p);
        put_str(h, p.text);
    }
    key_array(h, "tokenizer.ggml.scores", GGUF_F32, m->n_vocab);
    for (uint32_t i = 0; i < m->n_vocab; i++) {
        gen_vocab_piece(i, &p);
        put(h, &p.score, sizeof p.score);
    }
    key_array(h, "tokenizer.ggml.token_type", GGUF_I32, m->n_vocab);
    for (uint32_t i = 0; i < m->n_vocab; i++) {
        gen_vocab_piece(i, &p);
        put(h, &p.kind, sizeof p.kind);
    }
    key_u32(h, "tokenizer.ggml.bos_token_id", 1);
    key_u32(h, "tokenizer.ggml.eos_token_id", 2);
    key_u32(h, "tokenizer.ggml.unknown_token_id", 0);
    key_bool(h, "tokenizer.ggml.add_bos_token", 1);
    key_bool(h, "tokenizer.ggml.add_eos_token", 0);
}

static uint64_t aligned(uint64_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* A file holds tensors [first, end) of the model. */
struct part_file {
    uint32_t no, first, end;
};

/* The whole header, padded to where the data begins. */
static enum status make_header(struct head *h, const struct gen_model *m,
                               const struct part_file *f)
{
    const uint32_t n_all = gen_model_n_tensors(m);
    put(h, "GGUF", 4);
    put_u32(h, 3);
    put_u64(h, f->end - f->first);
    const size_t at_n_keys = h->b.len;
    put_u64(h, 0);
    if (f->no == 0) {
        put_model_keys(h, m);
        put_vocabulary(h, m);
    }
    if (m->n_splits > 1) {
        key_u16(h, "split.no", (uint16_t)f->no);
        key_u16(h, "split.count", (uint16_t)m->n_splits);
        key(h, "split.tensors.count", GGUF_I32);
        put_u32(h, n_all);
    }
    uint64_t offset = 0;
    for (uint32_t i = f->first; i < f->end; i++) {
        struct gen_tensor t;
        gen_model_tensor(m, i, &t);
        put_str(h, t.name);
        put_u32(h, t.n_dims);
        for (uint32_t d = 0; d < t.n_dims; d++) put_u64(h, t.ne[d]);
        put_u32(h, t.type);
        put_u64(h, offset);
        offset += aligned(gen_tensor_bytes(&t));
    }
    static const char zeros[ALIGN];
    put(h, zeros, aligned(h->b.len) - h->b.len);
    if (h->st == ST_OK) memcpy(h->b.data + at_n_keys, &h->n_keys, 8);
    return h->st;
}

/* ------------------------------------------------------------- data */

static enum status write_bytes(FILE *f, const void *p, uint64_t n,
                               const char *path, struct error *err)
{
    if (fwrite(p, 1, n, f) == n) return ST_OK;
    return error_set(err, ST_IO, "%s: cannot write (disk full?)", path);
}

static enum status write_tensor(FILE *f, struct gen_weights *w,
                                const struct gen_tensor *t, uint8_t *chunk,
                                const char *path, struct error *err)
{
    static const char zeros[ALIGN];
    const uint64_t row_bytes = quant_row_bytes(t->type, t->ne[0]);
    const uint64_t n_rows = gen_tensor_rows(t),
                   at_once =
                       row_bytes < CHUNK_BYTES ? CHUNK_BYTES / row_bytes : 1;
    for (uint64_t i = 0; i < n_rows; i += at_once) {
        const uint64_t n = n_rows - i < at_once ? n_rows - i : at_once;
        enum status st = gen_weights_rows(w, t, i, n, chunk, err);
        if (st != ST_OK) return st;
        st = write_bytes(f, chunk, n * row_bytes, path, err);
        if (st != ST_OK) return st;
    }
    const uint64_t n = gen_tensor_bytes(t);
    return write_bytes(f, zeros, aligned(n) - n, path, err);
}

/* A hole as long as the data: the header is real, the weights are zeros. */
static enum status write_hole(FILE *f, const struct gen_model *m,
                              const struct part_file *part, uint64_t from,
                              const char *path, struct error *err)
{
    uint64_t end = from;
    for (uint32_t i = part->first; i < part->end; i++) {
        struct gen_tensor t;
        gen_model_tensor(m, i, &t);
        end += aligned(gen_tensor_bytes(&t));
    }
    if (fflush(f) == 0 && ftruncate(fileno(f), (off_t)end) == 0) return ST_OK;
    return error_set(err, ST_IO, "%s: cannot be made %" PRIu64 " bytes long",
                     path, end);
}

/* A row may be longer than a chunk: GEN_LIMIT * 4 bytes at most. */
static uint64_t chunk_bytes(const struct gen_model *m)
{
    uint64_t n = CHUNK_BYTES;
    for (uint32_t i = 0; i < gen_model_n_tensors(m); i++) {
        struct gen_tensor t;
        gen_model_tensor(m, i, &t);
        const uint64_t row = quant_row_bytes(t.type, t.ne[0]);
        if (row > n) n = row;
    }
    return n;
}

static enum status write_data(FILE *f, struct gen_weights *w,
                              const struct gen_model *m,
                              const struct part_file *part, const char *path,
                              struct error *err)
{
    uint8_t *chunk = mem_alloc(chunk_bytes(m));
    if (!chunk) return error_set(err, ST_NO_MEMORY, "a chunk of rows");
    enum status st = ST_OK;
    for (uint32_t i = part->first; i < part->end && st == ST_OK; i++) {
        struct gen_tensor t;
        gen_model_tensor(m, i, &t);
        st = write_tensor(f, w, &t, chunk, path, err);
    }
    mem_free(chunk);
    return st;
}

static enum status write_file(struct gen_weights *w, const struct gen_model *m,
                              const struct part_file *part, const char *path,
                              struct error *err)
{
    struct head h = {.st = ST_OK};
    buf_init(&h.b, GGUF_HEADER_MAX);
    FILE *f = NULL;
    enum status st = make_header(&h, m, part);
    if (st != ST_OK) {
        error_set(err, st, "%s: header of over %zu bytes", path, h.b.len);
        goto done;
    }
    f = fopen(path, "wb");
    if (!f) {
        st = error_set(err, ST_IO, "%s: cannot be created", path);
        goto done;
    }
    st = write_bytes(f, h.b.data, h.b.len, path, err);
    if (st != ST_OK) goto done;
    st = m->sparse ? write_hole(f, m, part, h.b.len, path, err)
                   : write_data(f, w, m, part, path, err);
done:
    if (f && fclose(f) != 0 && st == ST_OK) {
        st = error_set(err, ST_IO, "%s: cannot write (disk full?)", path);
    }
    if (f && st != ST_OK) remove(path);
    buf_fini(&h.b);
    return st;
}

/* ------------------------------------------------------------ files */

/* path with -00001- replaced by the number of the part. */
static enum status part_path(const struct gen_model *m, const char *path,
                             uint32_t no, char *out, size_t n,
                             struct error *err)
{
    char tail[40];
    const int tail_len =
        snprintf(tail, sizeof tail, "-00001-of-%05u.gguf", m->n_splits);
    const size_t len = strlen(path);
    if (m->n_splits == 1) {
        snprintf(out, n, "%s", path);
    } else if (len < (size_t)tail_len ||
               strcmp(path + len - (size_t)tail_len, tail) != 0) {
        return error_set(err, ST_INVALID,
                         "%s: the first of %u files must end "
                         "in %s",
                         path, m->n_splits, tail);
    } else {
        snprintf(out, n, "%.*s-%05u-of-%05u.gguf",
                 (int)(len - (size_t)tail_len), path, no + 1, m->n_splits);
    }
    return len < n ? ST_OK
                   : error_set(err, ST_TOO_LARGE, "path of over %zu bytes", n);
}

enum status gen_model_write(const struct gen_model *m, const char *path,
                            struct error *err)
{
    enum status st = gen_model_check(m, err);
    if (st != ST_OK) return st;
    struct gen_weights *w;
    st = gen_weights_create(&w, m, err);
    if (st != ST_OK) return st;
    const uint32_t n = gen_model_n_tensors(m), n_files = m->n_splits;
    for (uint32_t i = 0; i < n_files && st == ST_OK; i++) {
        const struct part_file part = {
            .no = i,
            .first = (uint32_t)((uint64_t)n * i / n_files),
            .end = (uint32_t)((uint64_t)n * (i + 1) / n_files),
        };
        char name[4096];
        st = part_path(m, path, i, name, sizeof name, err);
        if (st == ST_OK) st = write_file(w, m, &part, name, err);
    }
    gen_weights_free(w);
    return st;
}

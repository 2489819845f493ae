/* gen_write.c - a generated model's metadata and data, as GGUF v3 files. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/gen_model.h"
#include "tests/lib/gen_vocab.h"
#include "tests/lib/gen_weights.h"
#include "tests/lib/gguf_writer.h"

/* --------------------------------------------------------- metadata */

/* llama.cpp's llama_ftype of the commonest matrix type. */
static uint32_t file_type(const struct gen_model *m)
{
    static const uint32_t ftype[QUANT_TYPE_END] = {
        [QUANT_F32] = 0,     [QUANT_F16] = 1,     [QUANT_Q4_0] = 2,
        [QUANT_Q4_1] = 3,    [QUANT_Q8_0] = 7,    [QUANT_Q5_0] = 8,
        [QUANT_Q5_1] = 9,    [QUANT_Q2_K] = 10,   [QUANT_Q3_K] = 11,
        [QUANT_Q4_K] = 14,   [QUANT_Q5_K] = 16,   [QUANT_Q6_K] = 18,
        [QUANT_IQ4_NL] = 25, [QUANT_IQ4_XS] = 30, [QUANT_BF16] = 32,
    };
    return m->more_bits ? 15 : ftype[m->type[GEN_FFN]]; /* 15: Q4_K_M */
}

static const char *key_of(char key[96], const struct gen_model *m,
                          const char *rest)
{
    snprintf(key, 96, "%s.%s", gen_arch_name(m->arch), rest);
    return key;
}

static void put_u32(struct gguf_writer *w, const struct gen_model *m,
                    const char *rest, uint32_t v)
{
    char key[96];
    gguf_writer_u32(w, key_of(key, m, rest), v);
}

static void put_f32(struct gguf_writer *w, const struct gen_model *m,
                    const char *rest, float v)
{
    char key[96];
    gguf_writer_f32(w, key_of(key, m, rest), v);
}

/* Keys that only some files have. */
static void put_options(struct gguf_writer *w, const struct gen_model *m)
{
    char key[96];
    if (m->rope_scaling != GEN_ROPE_PLAIN) {
        gguf_writer_str(w, key_of(key, m, "rope.scaling.type"),
                        m->rope_scaling == GEN_ROPE_YARN ? "yarn" : "linear");
        put_f32(w, m, "rope.scaling.factor", m->rope_scale);
    }
    if (m->n_ctx_orig) {
        put_u32(w, m, "rope.scaling.original_context_length", m->n_ctx_orig);
    }
    if (m->window) put_u32(w, m, "attention.sliding_window", m->window);
    if (m->attn_cap > 0) put_f32(w, m, "attn_logit_softcapping", m->attn_cap);
    if (m->final_cap > 0) {
        put_f32(w, m, "final_logit_softcapping", m->final_cap);
    }
}

static void put_model_keys(struct gguf_writer *w, const struct gen_model *m)
{
    char name[64];
    snprintf(name, sizeof name, "potluck random model, seed %" PRIu64, m->seed);
    gguf_writer_str(w, "general.architecture", gen_arch_name(m->arch));
    gguf_writer_str(w, "general.name", name);
    gguf_writer_u32(w, "general.file_type", file_type(m));
    gguf_writer_u32(w, "general.quantization_version", 2);
    put_u32(w, m, "vocab_size", m->n_vocab);
    put_u32(w, m, "context_length", m->n_ctx);
    put_u32(w, m, "embedding_length", m->n_embd);
    put_u32(w, m, "block_count", m->n_layer);
    put_u32(w, m, "feed_forward_length", m->n_ff);
    put_u32(w, m, "attention.head_count", m->n_head);
    put_u32(w, m, "attention.head_count_kv", m->n_head_kv);
    put_f32(w, m, "attention.layer_norm_rms_epsilon",
            m->eps > 0 ? m->eps : 1e-5f);
    /* Real files carry the head's size only where it does not follow. */
    if (m->head_dim * m->n_head != m->n_embd) {
        put_u32(w, m, "attention.key_length", m->head_dim);
        put_u32(w, m, "attention.value_length", m->head_dim);
    }
    put_u32(w, m, "rope.dimension_count", m->n_rot ? m->n_rot : m->head_dim);
    put_f32(w, m, "rope.freq_base", m->rope_base);
    if (m->n_expert) {
        put_u32(w, m, "expert_count", m->n_expert);
        put_u32(w, m, "expert_used_count", m->n_expert_used);
    }
    if (m->arch == GEN_QWEN3MOE) {
        put_u32(w, m, "expert_feed_forward_length", m->n_ff);
    }
    put_options(w, m);
}

struct vocabulary {
    char (*text)[GEN_VOCAB_PIECE];
    struct gguf_str *str;
    float *score;
    int32_t *kind;
};

static void vocabulary_fini(struct vocabulary *v)
{
    mem_free(v->text);
    mem_free(v->str);
    mem_free(v->score);
    mem_free(v->kind);
}

static enum status vocabulary_init(struct vocabulary *v, uint32_t n,
                                   struct error *err)
{
    v->text = mem_zalloc_array(n, sizeof *v->text);
    v->str = mem_zalloc_array(n, sizeof *v->str);
    v->score = mem_zalloc_array(n, sizeof *v->score);
    v->kind = mem_zalloc_array(n, sizeof *v->kind);
    if (!v->text || !v->str || !v->score || !v->kind) {
        vocabulary_fini(v);
        return error_set(err, ST_NO_MEMORY, "a vocabulary of %u", n);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct gen_piece p;
        gen_vocab_piece(i, &p);
        memcpy(v->text[i], p.text, sizeof p.text);
        v->str[i] = (struct gguf_str){v->text[i], strlen(v->text[i])};
        v->score[i] = p.score;
        v->kind[i] = p.kind;
    }
    return ST_OK;
}

static enum status put_vocabulary(struct gguf_writer *w, uint32_t n,
                                  struct error *err)
{
    struct vocabulary v = {0};
    enum status st = vocabulary_init(&v, n, err);
    if (st != ST_OK) return st;
    gguf_writer_str(w, "tokenizer.ggml.model", "llama");
    gguf_writer_str(w, "tokenizer.ggml.pre", "default");
    gguf_writer_strs(w, "tokenizer.ggml.tokens", v.str, n);
    gguf_writer_array(w, "tokenizer.ggml.scores", GGUF_F32, v.score, n);
    gguf_writer_array(w, "tokenizer.ggml.token_type", GGUF_I32, v.kind, n);
    gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 2);
    gguf_writer_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", true);
    gguf_writer_bool(w, "tokenizer.ggml.add_eos_token", false);
    vocabulary_fini(&v);
    return ST_OK;
}

/* What gguf-split writes; only the first file carries the model's keys. */
static void put_split_keys(struct gguf_writer *w, const struct gen_model *m,
                           uint32_t no)
{
    const uint16_t index = (uint16_t)no, count = (uint16_t)m->n_splits;
    gguf_writer_scalar(w, "split.no", GGUF_U16, &index);
    gguf_writer_scalar(w, "split.count", GGUF_U16, &count);
    gguf_writer_i32(w, "split.tensors.count", (int32_t)gen_model_n_tensors(m));
}

/* ------------------------------------------------------------- data */

/* What a tensor's rows come from; borrowed by the writer until the save. */
struct filler {
    struct gen_weights *weights;
    struct gen_tensor tensor;
};

static enum status fill(void *ctx, const char *name, uint64_t first, uint64_t n,
                        void *dst, struct error *err)
{
    (void)name;
    const struct filler *f = ctx;
    return gen_weights_rows(f->weights, &f->tensor, first, n, dst, err);
}

/* Ends the writing after the header. */
static enum status fill_nothing(void *ctx, const char *name, uint64_t first,
                                uint64_t n, void *dst, struct error *err)
{
    (void)ctx, (void)first, (void)n, (void)dst;
    return error_set(err, ST_INTERRUPTED, "%s: left out", name);
}

/* The header, then a hole as long as the data. */
static enum status save_sparse(struct gguf_writer *w, const char *path,
                               struct error *err)
{
    FILE *f = fopen(path, "wb");
    if (!f) return error_set(err, ST_IO, "%s: cannot be created", path);
    enum status st = gguf_writer_write(w, f, err);
    if (st == ST_INTERRUPTED) st = ST_OK;
    const uint64_t n = gguf_writer_bytes(w);
    if (st == ST_OK &&
        (fflush(f) != 0 || ftruncate(fileno(f), (off_t)n) != 0)) {
        st = error_set(err, ST_IO, "%s: cannot be made %" PRIu64 " bytes long",
                       path, n);
    }
    if (fclose(f) != 0 && st == ST_OK) {
        st = error_set(err, ST_IO, "%s: cannot be written", path);
    }
    if (st != ST_OK) remove(path);
    return st;
}

/* ------------------------------------------------------------ files */

/* path with -00001- replaced by the number of the part. */
static enum status part_path(const struct gen_model *m, const char *path,
                             uint32_t no, char *out, size_t n,
                             struct error *err)
{
    char tail[40];
    const size_t len = strlen(path),
                 tail_len = (size_t)snprintf(
                     tail, sizeof tail, "-00001-of-%05u.gguf", m->n_splits);
    if (len >= n) {
        return error_set(err, ST_TOO_LARGE, "path of over %zu bytes", n);
    }
    if (m->n_splits == 1) {
        snprintf(out, n, "%s", path);
    } else if (len < tail_len || strcmp(path + len - tail_len, tail) != 0) {
        return error_set(err, ST_INVALID,
                         "%s: the first of %u files must end in %s", path,
                         m->n_splits, tail);
    } else {
        snprintf(out, n, "%.*s-%05u-of-%05u.gguf", (int)(len - tail_len), path,
                 no + 1, m->n_splits);
    }
    return ST_OK;
}

/* A file holds tensors [first, end) of the model. */
struct part {
    uint32_t no, first, end;
};

static enum status fill_writer(struct gguf_writer *w, const struct gen_model *m,
                               const struct part *part, struct filler *fillers,
                               struct error *err)
{
    if (part->no == 0) {
        put_model_keys(w, m);
        enum status st = put_vocabulary(w, m->n_vocab, err);
        if (st != ST_OK) return st;
    }
    if (m->n_splits > 1) put_split_keys(w, m, part->no);
    for (uint32_t i = part->first; i < part->end; i++) {
        struct filler *f = &fillers[i];
        gen_model_tensor(m, i, &f->tensor);
        gguf_writer_tensor_fn(w, f->tensor.name, f->tensor.type,
                              f->tensor.n_dims, f->tensor.ne,
                              m->sparse ? fill_nothing : fill, f);
    }
    return ST_OK;
}

static enum status write_part(const struct gen_model *m,
                              const struct part *part, const char *path,
                              struct filler *fillers, struct error *err)
{
    char name[4096];
    enum status st = part_path(m, path, part->no, name, sizeof name, err);
    if (st != ST_OK) return st;
    struct gguf_writer *w;
    st = gguf_writer_create(&w, 3, err);
    if (st != ST_OK) return st;
    st = fill_writer(w, m, part, fillers, err);
    if (st == ST_OK) {
        st = m->sparse ? save_sparse(w, name, err)
                       : gguf_writer_save(w, name, err);
    }
    gguf_writer_free(w);
    return st;
}

enum status gen_model_write(const struct gen_model *m, const char *path,
                            struct error *err)
{
    enum status st = gen_model_check(m, err);
    if (st != ST_OK) return st;
    const uint32_t n = gen_model_n_tensors(m), n_files = m->n_splits;
    struct gen_weights *weights = NULL;
    struct filler *fillers = mem_zalloc_array(n, sizeof *fillers);
    if (!fillers) return error_set(err, ST_NO_MEMORY, "%u tensors", n);
    st = gen_weights_create(&weights, m, err);
    if (st != ST_OK) goto done;
    for (uint32_t i = 0; i < n; i++) fillers[i].weights = weights;
    for (uint32_t i = 0; i < n_files && st == ST_OK; i++) {
        const struct part part = {
            .no = i,
            .first = (uint32_t)((uint64_t)n * i / n_files),
            .end = (uint32_t)((uint64_t)n * (i + 1) / n_files),
        };
        st = write_part(m, &part, path, fillers, err);
    }
done:
    gen_weights_free(weights);
    mem_free(fillers);
    return st;
}

enum status gen_file_hash(const char *path, uint64_t *out, struct error *err)
{
    FILE *f = fopen(path, "rb");
    if (!f) return error_set(err, ST_IO, "%s: cannot be opened", path);
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    uint8_t bytes[16384];
    size_t n;
    while ((n = fread(bytes, 1, sizeof bytes, f)) > 0) {
        for (size_t i = 0; i < n; i++) {
            h = (h ^ bytes[i]) * UINT64_C(0x100000001b3);
        }
    }
    const bool failed = ferror(f) != 0;
    fclose(f);
    if (failed) return error_set(err, ST_IO, "%s: cannot be read", path);
    *out = h;
    return ST_OK;
}

/* shard.h - the part of a model that this process holds, ready to compute.
 *
 * Depends on: model, matrix, kv, pool, vec.  Thread: create and free one;
 * between them the weights are read-only and the KV cache belongs to the
 * compute thread.
 *
 * Any part may be held: blocks (norms, attention, router or dense
 * feed-forward) of any layers, any experts of any layers, the embedding, any
 * range of the head's vocabulary rows.  The bytes are computed by the same
 * walk that loads them, so a plan that fits on paper fits in memory. */
#ifndef ENGINE_SHARD_H
#define ENGINE_SHARD_H

#include "engine/cpu.h"
#include "engine/kv.h"
#include "engine/matrix.h"
#include "engine/model.h"
#include "engine/vec.h"

struct shard_layer_spec {
    bool block;
    uint64_t experts[MODEL_EXPERTS_MAX / 64]; /* bit e: expert e is here */
};

struct shard_spec {
    bool embed;
    uint32_t vocab_first, vocab_end; /* head rows; multiples of 256 but for
                                        the end; empty: no head */
    struct shard_layer_spec *layers; /* [model's n_layer] */
};

/* Everything of the model; spec->layers is the caller's (mem_free). */
NODISCARD enum status shard_spec_whole(struct shard_spec *out,
                                       const struct model *m,
                                       struct error *err);

struct shard_options {
    enum isa isa;
    enum blas_use blas;
    bool fast; /* --numerics fast: not the bits of docs/NUMERICS.md */
    enum kv_type kv_type;
    uint32_t n_threads;
    bool affinity;        /* pool_pin: threads stay on cores */
    uint32_t n_ctx;       /* the longest sequence */
    uint32_t n_seq_max;   /* sequences alive at once */
    uint32_t n_pages;     /* of the KV pool; 0: n_seq_max whole contexts */
    uint32_t rows_max;    /* rows of a step */
    uint32_t outputs_max; /* of them, rows that want logits */
    uint64_t memory_max;  /* bytes for all below; 0: no limit */
    /* called while loading, after each matrix, from the loading thread; false
     * gives up (ST_INTERRUPTED). May be NULL */
    bool (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_arg;
};

struct shard_bytes {
    uint64_t weights, kv, scratch; /* scratch: of one step */
    uint64_t tables;               /* what finds the weights, threads */
    uint64_t total;
};

/* What shard_create and one step_create will take, to the byte. */
struct shard_bytes shard_plan(const struct model *m,
                              const struct shard_spec *spec,
                              const struct shard_options *o);

/* Bytes [from, from + n) of a tensor. */
struct shard_range {
    const struct gguf_tensor *tensor;
    uint64_t from, n;
};
typedef enum status shard_range_fn(void *arg, const struct shard_range *r,
                                   struct error *err);
/* What shard_create reads of the file, in the order that it reads it; a range
 * may come twice.  ST_INVALID: head rows that the model does not have; else
 * what fn returns, whose first failure ends the walk. */
NODISCARD enum status shard_walk(const struct model *m,
                                 const struct shard_spec *spec,
                                 shard_range_fn *fn, void *arg,
                                 struct error *err);

struct shard_expert {
    struct matrix gate, up, down;
};

struct shard_layer {
    bool block;
    uint32_t kv_layer;   /* index in this shard's KV cache */
    uint32_t window;     /* of model_layer */
    float *vec[VEC_END]; /* NULL: the model has none */
    struct matrix q, k, v, o;
    struct matrix gate, up, down; /* dense */
    struct matrix router;
    struct shard_expert *experts; /* [n_expert], kernel NULL where not held */
};

struct shard {
    struct model model; /* tensors and gguf are NULL: only the numbers */
    struct shard_options options;
    struct pool *pool;
    const struct vec_ops *vec;
    struct kv *kv;              /* NULL: no blocks here */
    struct shard_layer *layers; /* [n_layer] */
    struct matrix embed;        /* kernel NULL: not here, or it is the head */
    struct matrix head;
    bool has_embed;
    uint32_t vocab_first, vocab_end;
    float *output_norm;
    double *rope_freq; /* [n_rot / 2] angle per position, NUMERICS 7 */
    uint8_t *slab;     /* of all matrices, one behind the other; NULL: none */
    uint64_t weight_bytes;
};

/* The gguf may be closed afterwards.  ST_NO_MEMORY says by how much memory_max
 * (or the machine) is short, before anything is read. */
NODISCARD enum status shard_create(struct shard **out, const struct model *m,
                                   const struct shard_spec *spec,
                                   const struct shard_options *options,
                                   struct error *err);
void shard_free(struct shard *s); /* NULL allowed */

static inline bool shard_has_expert(const struct shard *s, uint32_t layer,
                                    uint32_t expert)
{
    const struct shard_expert *e = s->layers[layer].experts;
    return e && e[expert].gate.kernel != NULL;
}

#endif

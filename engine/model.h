/* model.h - what a GGUF file says the model is, every shape checked.
 *
 * Depends on: gguf, quant.  Thread: any; a struct model is read-only once
 * made, and borrows its tensors from the struct gguf.
 *
 * One transformer block, driven by this description; no copy of the forward
 * pass per architecture.  Shapes below are [rows][k], k contiguous. */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include "engine/gguf.h"

#define MODEL_LAYERS_MAX       1024
#define MODEL_EMBD_MAX         65536
#define MODEL_FF_MAX           131072 /* = NM_LEAF * NM_LEAVES_MAX */
#define MODEL_HEADS_MAX        1024
#define MODEL_HEAD_DIM_MAX     256 /* one leaf of a dot product */
#define MODEL_EXPERTS_MAX      256
#define MODEL_EXPERTS_USED_MAX 32
#define MODEL_VOCAB_MAX        1048576
#define MODEL_CTX_MAX          1048576 /* RoPE angles stay exact to here */

/* A matrix in the file: n_rows canonical rows of k weights, from byte
 * `offset` of the tensor on.  tensor NULL: the model has none. */
struct model_matrix {
    const struct gguf_tensor *tensor;
    uint64_t offset;
    uint32_t n_rows, k;
};

struct model_layer {
    const struct gguf_tensor *attn_norm, *ffn_norm; /* [n_embd], f32 */
    struct model_matrix q;    /* [n_head * head_dim][n_embd]    */
    struct model_matrix k, v; /* [n_head_kv * head_dim][n_embd] */
    struct model_matrix o;    /* [n_embd][n_head * head_dim]    */
    /* dense */
    struct model_matrix gate, up; /* [n_ff][n_embd] */
    struct model_matrix down;     /* [n_embd][n_ff] */
    /* mixture of experts */
    struct model_matrix router; /* [n_expert][n_embd] */
};

struct model {
    const struct gguf *gguf;
    char arch[32];
    char name[96]; /* general.name, or "" */
    uint32_t n_layer, n_embd, n_head, n_head_kv, head_dim;
    uint32_t n_ff; /* of an expert, where there are experts */
    uint32_t n_expert, n_expert_used; /* 0: dense */
    uint32_t n_vocab;
    uint32_t n_ctx; /* the longest context that the file allows */
    uint32_t n_rot; /* rotated elements of a head */
    float rms_eps;
    double rope_base, rope_scale; /* angle = position * f * rope_scale */
    bool expert_norm; /* weights renormalised over the chosen experts */
    bool tied;        /* the head is the embedding matrix */
    const struct gguf_tensor *rope_freqs; /* [n_rot / 2] factors, or NULL */
    const struct gguf_tensor *output_norm;
    struct model_matrix embed; /* [n_vocab][n_embd] */
    struct model_matrix head;  /* [n_vocab][n_embd]; = embed when tied */
    struct model_layer *layers;
};

/* ST_UNSUPPORTED names the architecture, weight type, rope scaling or tensor
 * that is not built; ST_INVALID names the key or shape that is wrong. */
NODISCARD enum status model_describe(struct model *out, const struct gguf *g,
                                     struct error *err);
void model_fini(struct model *m);

enum model_expert_part { EXPERT_GATE, EXPERT_UP, EXPERT_DOWN };
/* One expert's matrix, from the 3-D tensors or the older one tensor per
 * expert. */
struct model_matrix model_expert(const struct model *m, uint32_t layer,
                                 uint32_t expert, enum model_expert_part part);

/* Bytes of the weights that a token reads: everything, but only n_expert_used
 * of the experts and one row of an untied embedding. */
uint64_t model_active_bytes(const struct model *m);

#endif

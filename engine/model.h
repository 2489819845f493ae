/* model.h - what a GGUF file says the model is, every shape checked.
 *
 * Depends on: gguf, quant.  Thread: any; a struct model is read-only once
 * made, and borrows its tensors from the struct gguf.
 *
 * One transformer block, driven by this description; no copy of the forward
 * pass per architecture: what an architecture says is settled here, and
 * nobody else asks for its name.  Shapes below are [rows][k], k contiguous. */
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

/* Vectors of a layer, f32.  Norms are as files have them: the weight itself,
 * Gemma's 1 + w included. */
enum model_vector {
    VEC_ATTN_NORM,      /* [n_embd] before attention; always there */
    VEC_FFN_NORM,       /* [n_embd] before the feed-forward; always there */
    VEC_ATTN_POST_NORM, /* [n_embd] after attention, before the residual */
    VEC_FFN_POST_NORM,  /* [n_embd] */
    VEC_Q_NORM,
    VEC_K_NORM, /* [head_dim] of each head, before RoPE */
    VEC_Q_BIAS, /* [n_head * head_dim] */
    VEC_K_BIAS,
    VEC_V_BIAS, /* [n_head_kv * head_dim] */
    VEC_O_BIAS, /* [n_embd] */
    VEC_GATE_BIAS,
    VEC_UP_BIAS,   /* [n_ff], dense only */
    VEC_DOWN_BIAS, /* [n_embd] */
    VEC_END
};

struct model_layer {
    const struct gguf_tensor *vec[VEC_END]; /* NULL: the model has none */
    uint32_t window;       /* positions a row sees, its own included; 0: all */
    struct model_matrix q; /* [n_head * head_dim][n_embd]    */
    struct model_matrix k, v; /* [n_head_kv * head_dim][n_embd] */
    struct model_matrix o;    /* [n_embd][n_head * head_dim]    */
    /* dense */
    struct model_matrix gate, up; /* [n_ff][n_embd] */
    struct model_matrix down;     /* [n_embd][n_ff] */
    /* mixture of experts */
    struct model_matrix router; /* [n_expert][n_embd] */
};

enum model_activation { ACTIVATION_SILU, ACTIVATION_GELU };

/* RoPE (NUMERICS 7): which elements pair up, and by what angle they turn. */
struct model_rope {
    bool halves; /* pairs (i, i + n_rot / 2), else (2i, 2i + 1) */
    double base;
    double scale; /* 1 / factor of linear scaling and of YaRN */
    /* YaRN: 0 is none; 1 leaves the frequencies before `low` alone, scales
     * those after `high`, and mixes between */
    double extend;
    double low, high;
    double magnitude; /* cos and sin times this */
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
    struct model_rope rope;
    enum model_activation activation;
    float embed_scale;   /* rows of the embedding times this; 1: as they are */
    float query_scale;   /* of q . k */
    float attn_softcap;  /* of the scaled q . k; 0: none */
    float final_softcap; /* of the logits; 0: none */
    uint32_t window;     /* the least of any layer's; 0: none has one */
    bool expert_norm;    /* weights renormalised over the chosen experts */
    bool tied;           /* the head is the embedding matrix */
    const struct gguf_tensor *rope_freqs; /* [n_rot / 2] factors, or NULL */
    const struct gguf_tensor *output_norm;
    struct model_matrix embed; /* [n_vocab][n_embd] */
    struct model_matrix head;  /* [n_vocab][n_embd]; = embed when tied */
    struct model_layer *layers;
};

/* f of pair i without the file's factors: base^(-2 i / n_rot). */
double model_rope_freq(const struct model *m, uint32_t i);
/* What a position is multiplied with to be pair i's angle, f being that of
 * model_rope_freq divided by the file's factor (NUMERICS 7). */
double model_rope_turn(const struct model *m, uint32_t i, double f);

/* Elements of a vector of any layer. */
uint32_t model_vector_length(const struct model *m, enum model_vector v);

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

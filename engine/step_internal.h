/* step_internal.h - a step's state, and the operations that its executor
 * (step.c) goes through; they are in step_layers.c.
 *
 * Depends on: step, attention.  Thread: compute. */
#ifndef ENGINE_STEP_INTERNAL_H
#define ENGINE_STEP_INTERNAL_H

#include "engine/attention.h"
#include "engine/step.h"

enum phase {
    PHASE_IDLE,
    PHASE_EMBED,
    PHASE_ATTENTION,
    PHASE_FFN,
    PHASE_EXPERTS, /* the local ones */
    PHASE_COMBINE, /* when all parts are there */
    PHASE_HEAD,
};

/* Rows of one expert in the gathered arrays. */
struct group {
    uint32_t expert, first, n;
};

/* What attention or feed-forward has left. */
struct branch {
    bool there;
    const float *bias, *norm; /* first, NULL: none */
};

struct step {
    struct shard *s;
    char *slab;
    /* the input */
    struct step_row *rows;           /* [rows_max] */
    struct attention_row *attention; /* [rows_max] */
    uint32_t n_rows, n_want;
    bool head;
    uint32_t layer, layer_end;
    enum phase phase;
    /* activations */
    float *x;      /* [rows][n_embd]: the residual stream */
    float *normed; /* [rows][n_embd] */
    /* in `normed`, to be added to x by the next that reads x */
    struct branch branch;
    float *q;     /* [rows][n_head * head_dim], then the attention's output */
    float *mixed; /* [rows][n_head * head_dim] */
    float *k, *v; /* [rows][n_head_kv * head_dim] */
    float *gate, *up;                /* [rows][n_ff] */
    float *rope;                     /* [rows][n_rot] */
    float *logits;                   /* [outputs][n_vocab] */
    char *act[ACT_KIND_END];         /* [rows][act_stride[kind]] */
    size_t act_stride[ACT_KIND_END]; /* of the widest k */
    char *scratch;                   /* [threads][KERNEL_SCRATCH] */
    char *attention_space;           /* attention_bytes */
    /* mixture of experts */
    float *router;    /* [rows][n_expert] */
    uint32_t *chosen; /* [rows][n_expert_used], ascending */
    uint32_t *slot;   /* [rows][n_expert_used]: row in the gathered arrays */
    float *weight;    /* [rows][n_expert_used] */
    float *gathered, *expert_out; /* [rows * n_expert_used][n_embd] */
    struct group *groups;         /* [n_expert] */
    struct step_part *parts;      /* [n_expert] */
    uint32_t n_groups, n_parts;
    uint64_t expert_bytes; /* of all steps so far */
};

void step_embed(struct step *st);
/* What a block leaves stays in `branch`; the next operation that reads x adds
 * it, or step_add_branch. */
void step_attention(struct step *st, const struct shard_layer *l);
void step_dense(struct step *st, const struct shard_layer *l);
void step_add_branch(struct step *st);
/* Experts: choose and gather; those that are here; all put together. */
void step_route(struct step *st, const struct shard_layer *l);
void step_local_experts(struct step *st);
void step_combine(struct step *st, const struct shard_layer *l);
/* y = E(x) of n rows. */
void step_one_expert(struct step *st, const struct shard_expert *e,
                     const float *x, float *y, uint32_t n_rows);
void step_head(struct step *st);

#endif

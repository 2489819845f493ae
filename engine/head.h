/* head.h - from a row of logits to what a sampler needs of it.
 *
 * Depends on: numerics, vec.  Thread: compute.
 *
 * A holder of a range of the vocabulary scans its part of the row and sends
 * on a few hundred bytes: the best 64, the log-sum-exp with and without
 * temperature (as leaves of the tree of NUMERICS 10), and the winner of plain
 * sampling.  head_finish puts the parts together; the result does not depend
 * on how the vocabulary is cut. */
#ifndef ENGINE_HEAD_H
#define ENGINE_HEAD_H

#include <stdint.h>

#include "engine/vec.h"

#define HEAD_BEST       64
#define HEAD_ADJUST_MAX 1024
#define HEAD_LEAVES_MAX 4096 /* MODEL_VOCAB_MAX / NM_LEAF */

struct head_adjust { /* logit += delta; -INFINITY bans a token */
    int32_t id;
    float delta;
};
struct head_recent { /* a token among the last ones, and how often */
    int32_t id;
    uint32_t count;
};

/* logit' = penalties and adjustments of logit, then times 1 / temperature.
 * Penalties as in llama.cpp: repeat divides positive and multiplies negative
 * logits of recent tokens, frequency * count and presence are subtracted. */
struct head_params {
    float inv_temp;                    /* 1 / T; 1 for greedy */
    float repeat, frequency, presence; /* 1, 0, 0: none */
    const struct head_recent *recent;
    uint32_t n_recent;
    const struct head_adjust *adjust;
    uint32_t n_adjust; /* with n_recent at most HEAD_ADJUST_MAX in all */
    bool plain;        /* find argmax(logit' + Gumbel(seed, n, id)) */
    uint64_t seed, n;
};

struct head_candidate {
    int32_t id;
    float logit; /* after penalties, adjustments and temperature */
    float raw;   /* the model's */
};
struct head_sum { /* m + log(s) */
    float m, s;
};

struct head_part {
    uint32_t first, n_rows; /* of the vocabulary */
    uint32_t n_best;
    struct head_candidate best[HEAD_BEST]; /* logit descending, id ascending */
    int32_t plain_id;                      /* -1: none */
    double plain_value;
    uint32_t n_leaves;
    struct head_sum raw[HEAD_LEAVES_MAX], tempered[HEAD_LEAVES_MAX];
};

struct head_result {
    uint32_t n_best;
    struct head_candidate best[HEAD_BEST];
    float lse_raw;      /* log-sum-exp of the model's logits */
    float lse_tempered; /* of logit' */
    int32_t plain_id;
};

/* row: n_rows logits of vocabulary rows from `first` on (a multiple of 256);
 * changed while scanning, restored on return.  ST_NUMERIC: a logit is not
 * finite.  ST_TOO_LARGE: too many adjustments. */
NODISCARD enum status head_scan(const struct head_params *p,
                                const struct vec_ops *vec, float *row,
                                uint32_t first, uint32_t n_rows,
                                struct head_part *out, struct error *err);

/* parts in ascending `first`, together the whole vocabulary. */
void head_finish(const struct head_part *const *parts, uint32_t n_parts,
                 struct head_result *out);

/* Log-sum-exp of a whole row (NUMERICS 10), for perplexity and tests. */
float head_log_sum_exp(const struct vec_ops *vec, const float *row, uint32_t n);

#endif

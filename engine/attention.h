/* attention.h - grouped-query attention over the paged cache.
 *
 * Depends on: shard.  Thread: compute.  Formula: docs/NUMERICS.md 8 (online
 * softmax: Milakov and Gimelshein 2018, arXiv 1805.02867, algorithm 3).
 *
 * A work item is a tile: some rows of one sequence and the query heads of one
 * key/value head.  Keys and values are unpacked once a tile, from the cache's
 * type.  Where there are few tiles, each is cut into its partials of 256
 * positions, so that one long sequence occupies every thread. */
#ifndef ENGINE_ATTENTION_H
#define ENGINE_ATTENTION_H

#include "engine/shard.h"

struct attention_row {
    uint32_t handle; /* kv_find of its sequence; UINT32_MAX: gives zeros */
    uint32_t pos;    /* attends to positions 0..pos, or the window's last */
};

struct attention_job {
    uint32_t kv_layer;
    uint32_t window; /* positions that a row sees, its own included; 0: all;
                        the work grows with it, not with the position */
    const struct attention_row *rows;
    uint32_t n_rows;
    const float *q; /* [n_rows][n_head][head_dim] */
    float *out;     /* the same */
    void *scratch;  /* [threads] x KERNEL_SCRATCH */
    void *space;    /* attention_bytes, 64-byte aligned */
};

/* Working memory for steps of up to rows_max rows. */
uint64_t attention_bytes(const struct model *m, const struct shard_options *o);

/* The keys and values of all rows are in the cache already. */
void attention_run(const struct shard *s, const struct attention_job *job);

/* Rotate n_head heads of one row in place (NUMERICS 7). table: [n_rot / 2]
 * pairs (cos, sin) of the row's position. */
void rope_apply(const struct model *m, const struct vec_ops *vec, float *x,
                uint32_t n_head, const float *table);
/* That table for a position; freq: [n_rot / 2] of the shard. */
void rope_table(const struct model *m, const double *freq, uint32_t pos,
                float *table);

#endif

/* attention.h - grouped-query attention over the paged cache.
 *
 * Depends on: shard.  Thread: compute.  Formula: docs/NUMERICS.md 8 (online
 * softmax: Milakov and Gimelshein 2018, arXiv 1805.02867, algorithm 3). */
#ifndef ENGINE_ATTENTION_H
#define ENGINE_ATTENTION_H

#include "engine/shard.h"

struct attention_row {
    uint32_t handle; /* kv_find of its sequence; UINT32_MAX: gives zeros */
    uint32_t pos;    /* attends to positions 0..pos */
};

/* q, out: [n_rows][n_head][head_dim].  The keys and values of all rows are in
 * the cache already.  scratch: [threads] x KERNEL_SCRATCH. */
void attention_run(const struct shard *s, uint32_t kv_layer,
                   const struct attention_row *rows, uint32_t n_rows,
                   const float *q, float *out, void *scratch);

/* Rotate n_head heads of one row in place (NUMERICS 7). table: [n_rot / 2]
 * pairs (cos, sin) of the row's position. */
void rope_apply(float *x, uint32_t n_head, uint32_t head_dim, uint32_t n_rot,
                const float *table);
/* That table for a position; freq: [n_rot / 2] of the shard. */
void rope_table(float *table, const double *freq, uint32_t n_rot, uint32_t pos);

#endif

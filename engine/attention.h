/* attention.h - grouped-query attention over the paged cache.
 *
 * Depends on: shard.  Thread: compute.  Formula: docs/NUMERICS.md 8 (online
 * softmax: Milakov and Gimelshein 2018, arXiv 1805.02867, algorithm 3). */
#ifndef ENGINE_ATTENTION_H
#define ENGINE_ATTENTION_H

#include "engine/shard.h"

struct attention_row {
    uint32_t handle; /* kv_find of its sequence; UINT32_MAX: gives zeros */
    uint32_t pos;    /* attends to positions 0..pos, or the window's last */
};

/* q, out: [n_rows][n_head][head_dim].  The keys and values of all rows are in
 * the cache already.  window: positions that a row sees, its own included; 0:
 * all; the work grows with it, not with the position.  scratch: [threads] x
 * KERNEL_SCRATCH. */
void attention_run(const struct shard *s, uint32_t kv_layer, uint32_t window,
                   const struct attention_row *rows, uint32_t n_rows,
                   const float *q, float *out, void *scratch);

/* Rotate n_head heads of one row in place (NUMERICS 7). table: [n_rot / 2]
 * pairs (cos, sin) of the row's position. */
void rope_apply(const struct model *m, float *x, uint32_t n_head,
                const float *table);
/* That table for a position; freq: [n_rot / 2] of the shard. */
void rope_table(const struct model *m, const double *freq, uint32_t pos,
                float *table);

#endif

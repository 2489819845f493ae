/* panels.h - which matrices of a shard may go through OpenBLAS, and why.
 *
 * Depends on: shard, kernels_tune.  Thread: main. */
#ifndef CLIENT_PANELS_H
#define CLIENT_PANELS_H

#include "engine/shard.h"

/* The matrices of one kernel. */
struct panel {
    const struct kernel *kernel;
    uint32_t n_matrices;
    uint64_t bytes;
    uint32_t from;   /* columns from which the panel is used; UINT32_MAX: no */
    const char *why; /* a clause */
};
#define PANELS_MAX QUANT_TYPE_END

/* Most bytes first; returns how many. */
uint32_t panels_of(const struct shard *s, struct panel out[PANELS_MAX]);

#endif

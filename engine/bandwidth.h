/* bandwidth.h - how fast all threads together read memory.
 *
 * Depends on: pool.  Thread: the pool's caller. */
#ifndef ENGINE_BANDWIDTH_H
#define ENGINE_BANDWIDTH_H

#include <stddef.h>

#include "engine/pool.h"

/* Bytes a second of the best of so many passes over data, which must have been
 * written to (pages that were not are all the same one) and be larger than
 * the caches; 8-byte aligned. */
double bandwidth_read(struct pool *pool, const void *data, size_t bytes,
                      unsigned times);

#endif

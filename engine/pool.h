/* pool.h - the compute threads of a process.
 *
 * Depends on: common, cpu.  Thread: pool_run from one thread at a time.
 *
 * n_threads counts the caller, which works too.  Items are claimed one by one
 * from a shared counter, so the results must not depend on who runs what: in
 * this engine they do not (docs/NUMERICS.md).  Idle threads spin for about
 * 50 us, giving way to whoever wants the core, then sleep. */
#ifndef ENGINE_POOL_H
#define ENGINE_POOL_H

#include <stdint.h>

#include "common/status.h"

#define POOL_THREADS_MAX 256

struct pool;

/* item in [0, n_items), thread in [0, n_threads): index for scratch. */
typedef void pool_fn(void *arg, uint32_t item, uint32_t thread);

/* Bytes that pool_create takes, stacks of the threads apart. */
uint64_t pool_bytes(void);

/* 1 <= n_threads <= POOL_THREADS_MAX.  ST_NO_MEMORY also when the system
 * gives no more threads. */
NODISCARD enum status pool_create(struct pool **out, uint32_t n_threads,
                                  struct error *err);
void pool_free(struct pool *p); /* NULL allowed */
uint32_t pool_n_threads(const struct pool *p);
/* Runs so far that went to several threads. */
uint64_t pool_n_runs(const struct pool *p);

/* Keeps each thread, the caller's too and for good, on a physical core of its
 * own, as far as there are enough.  ST_UNSUPPORTED: the system refuses. */
NODISCARD enum status pool_pin(struct pool *p, struct error *err);

/* Runs fn for every item and returns when all are done. */
void pool_run(struct pool *p, pool_fn *fn, void *arg, uint32_t n_items);

#endif

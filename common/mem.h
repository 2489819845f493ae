/* mem.h - the only malloc: counted, budgeted, made to fail in tests.
 *
 * Depends on: status.  Thread: any (counters are atomic); the no-allocation
 * guard belongs to the thread that set it.
 *
 * Every allocation of potluck's own code goes through here, so that
 * mem_in_use() shows leaks, mem_fail_after() fails each allocation of a path
 * in turn, and a compute thread can assert that a step allocates nothing. */
#ifndef COMMON_MEM_H
#define COMMON_MEM_H

#include <stdatomic.h>

#include "common/status.h"

/* Every block is aligned to this many bytes: a cache line, and the widest
 * vector register. */
#define MEM_ALIGN 64

/* NULL when memory is short; content undefined; n == 0 gives a block too. */
NODISCARD void *mem_alloc(size_t n);
/* The same for a large block that stays and is used up to its end: the system
 * is asked for huge pages, which come with fewer faults and misses. */
NODISCARD void *mem_alloc_huge(size_t n);
/* Like mem_alloc, zeroed. */
NODISCARD void *mem_zalloc(size_t n);
/* n_items * item_bytes, NULL on overflow too; zeroed. */
NODISCARD void *mem_zalloc_array(size_t n_items, size_t item_bytes);
/* Grows or shrinks; the old block stays valid on NULL. p may be NULL. */
NODISCARD void *mem_realloc(void *p, size_t n);
/* n bytes of s and a NUL. */
NODISCARD char *mem_strndup(const char *s, size_t n);
void mem_free(void *p); /* NULL allowed */

/* Bytes asked for and not yet freed, by the whole process. */
size_t mem_in_use(void);

/* Let n more allocations pass, then fail every one; n < 0: never (default). */
void mem_fail_after(long n);

/* Between begin and end an allocation by this thread is our own mistake and
 * ends the program, naming the phase.  Does not nest. */
void mem_guard_begin(const char *phase);
void mem_guard_end(void);

/* A limit that several allocations share.  limit 0: none. */
struct mem_budget {
    const char *name; /* for the error text, e.g. "weights" */
    size_t limit_bytes;
    atomic_size_t used_bytes;
};

/* Take bytes from the budget, or ST_NO_MEMORY with the exact shortfall. */
NODISCARD enum status mem_charge(struct mem_budget *budget, size_t bytes,
                                 const char *what, struct error *err);
void mem_refund(struct mem_budget *budget, size_t bytes);

/* *out = a * b (or a + b); false on overflow, *out untouched. */
NODISCARD bool size_mul(size_t a, size_t b, size_t *out);
NODISCARD bool size_add(size_t a, size_t b, size_t *out);

#endif

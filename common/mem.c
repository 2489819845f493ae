#include "common/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* In front of each block; one alignment unit, so the block stays aligned. */
struct head {
    size_t n; /* bytes asked for */
};
_Static_assert(sizeof(struct head) <= MEM_ALIGN, "head fits its slot");

static atomic_size_t in_use;
static atomic_long fail_after = -1;
static _Thread_local const char *guard_phase;

static struct head *head_of(void *p)
{
    return (struct head *)(void *)((char *)p - MEM_ALIGN);
}

/* True if this allocation is to fail because a test asked for it. */
static bool fault_injected(void)
{
    long n = atomic_load_explicit(&fail_after, memory_order_relaxed);
    if (LIKELY(n < 0)) return false;
    while (n > 0) {
        if (atomic_compare_exchange_weak(&fail_after, &n, n - 1)) return false;
    }
    return true;
}

void *mem_alloc(size_t n)
{
    if (UNLIKELY(guard_phase != NULL)) {
        fprintf(stderr, "potluck: bug: %zu bytes allocated during %s\n", n,
                guard_phase);
        abort();
    }
    if (fault_injected()) return NULL;
    size_t whole;
    void *base; /* not rounded up, so that ASan sees the very first overrun */
    if (!size_add(n, MEM_ALIGN, &whole) ||
        posix_memalign(&base, MEM_ALIGN, whole) != 0) {
        return NULL;
    }
    void *p = (char *)base + MEM_ALIGN;
    head_of(p)->n = n;
    atomic_fetch_add_explicit(&in_use, n, memory_order_relaxed);
    return p;
}

/* Whole pages only, so nothing beside the block is asked for; where there are
 * no huge pages the block is an ordinary one. */
void *mem_alloc_huge(size_t n)
{
    char *p = mem_alloc(n);
#ifdef MADV_HUGEPAGE
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t front = (page - (uintptr_t)p % page) % page;
    if (p && n > front) {
        (void)madvise(p + front, (n - front) / page * page, MADV_HUGEPAGE);
    }
#endif
    return p;
}

void *mem_zalloc(size_t n)
{
    void *p = mem_alloc(n);
    if (p) memset(p, 0, n);
    return p;
}

void *mem_zalloc_array(size_t n_items, size_t item_bytes)
{
    size_t n;
    if (!size_mul(n_items, item_bytes, &n)) return NULL;
    return mem_zalloc(n);
}

void *mem_realloc(void *p, size_t n)
{
    void *q = mem_alloc(n);
    if (!q || !p) return q;
    const size_t old = head_of(p)->n;
    memcpy(q, p, old < n ? old : n);
    mem_free(p);
    return q;
}

char *mem_strndup(const char *s, size_t n)
{
    size_t whole;
    if (!size_add(n, 1, &whole)) return NULL;
    char *p = mem_alloc(whole);
    if (!p) return NULL;
    memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

void mem_free(void *p)
{
    if (!p) return;
    struct head *h = head_of(p);
    atomic_fetch_sub_explicit(&in_use, h->n, memory_order_relaxed);
#ifdef POTLUCK_DEBUG
    memset(p, 0xaa, h->n);
#endif
    free(h);
}

size_t mem_in_use(void)
{
    return atomic_load_explicit(&in_use, memory_order_relaxed);
}

void mem_fail_after(long n)
{
    atomic_store(&fail_after, n);
}

void mem_guard_begin(const char *phase)
{
    guard_phase = phase;
}

void mem_guard_end(void)
{
    guard_phase = NULL;
}

enum status mem_charge(struct mem_budget *budget, size_t bytes,
                       const char *what, struct error *err)
{
    size_t used = atomic_load(&budget->used_bytes);
    for (;;) {
        const size_t limit = budget->limit_bytes;
        if (limit != 0 && (used > limit || bytes > limit - used)) {
            return error_set(err, ST_NO_MEMORY,
                             "%s needs %zu bytes, but of the %s limit of %zu "
                             "bytes only %zu are free",
                             what, bytes, budget->name, limit,
                             used > limit ? (size_t)0 : limit - used);
        }
        if (atomic_compare_exchange_weak(&budget->used_bytes, &used,
                                         used + bytes)) {
            return ST_OK;
        }
    }
}

void mem_refund(struct mem_budget *budget, size_t bytes)
{
    atomic_fetch_sub(&budget->used_bytes, bytes);
}

bool size_mul(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

bool size_add(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

/* pool.c - see pool.h.
 *
 * A run is announced by adding one to `generation` (release) after fn, arg
 * and n_items are in place; it is over when every helper has reported itself
 * out of it (`busy` zero), so the next run can overwrite them.  A sleeping
 * helper waits on `wake` under `lock`; `sleepers` tells the caller whether
 * signalling is needed at all.  The store of generation and the load of
 * sleepers are sequentially consistent, as are their mirror images in the
 * helper, so one of the two always sees the other. */
#include "engine/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "common/clock.h"
#include "common/mem.h"
#include "engine/numerics.h"

#define SPIN_NS 50000

struct helper {
    struct pool *pool;
    uint32_t index;
    pthread_t thread;
};

struct pool {
    pool_fn *fn;
    void *arg;
    uint32_t n_items;
    uint32_t n_threads;
    uint32_t n_started;
    _Alignas(64) atomic_uint generation;
    _Alignas(64) atomic_uint next_item;
    _Alignas(64) atomic_uint busy;
    _Alignas(64) atomic_uint sleepers;
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct helper helpers[POOL_THREADS_MAX];
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void work(struct pool *p, uint32_t thread)
{
    for (;;) {
        const uint32_t i =
            atomic_fetch_add_explicit(&p->next_item, 1, memory_order_relaxed);
        if (i >= p->n_items) return;
        p->fn(p->arg, i, thread);
    }
}

/* Returns when generation differs from `seen`. */
static void await_run(struct pool *p, unsigned seen)
{
    const uint64_t until = clock_now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(&p->generation, memory_order_acquire) !=
                seen) {
                return;
            }
            cpu_relax();
        }
    } while (clock_now_ns() < until);
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(&p->generation) == seen) {
        pthread_cond_wait(&p->wake, &p->lock);
    }
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    struct pool *p = h->pool;
    unsigned seen = 0;
    nm_assert_environment();
    for (;;) {
        await_run(p, seen);
        seen++;
        if (atomic_load(&p->stop)) return NULL;
        work(p, h->index);
        atomic_fetch_sub_explicit(&p->busy, 1, memory_order_release);
    }
}

static void announce(struct pool *p)
{
    atomic_fetch_add(&p->generation, 1);
    if (atomic_load(&p->sleepers) == 0) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void pool_run(struct pool *p, pool_fn *fn, void *arg, uint32_t n_items)
{
    if (p->n_threads == 1 || n_items <= 1) {
        for (uint32_t i = 0; i < n_items; i++) fn(arg, i, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->n_items = n_items;
    atomic_store_explicit(&p->next_item, 0, memory_order_relaxed);
    atomic_store_explicit(&p->busy, p->n_threads - 1, memory_order_relaxed);
    announce(p);
    work(p, 0);
    for (unsigned spins = 0;
         atomic_load_explicit(&p->busy, memory_order_acquire) != 0; spins++) {
        cpu_relax();
        /* more threads than cores: let the other one finish */
        if (spins > 20000) sched_yield();
    }
}

uint64_t pool_bytes(void)
{
    return sizeof(struct pool);
}

enum status pool_create(struct pool **out, uint32_t n_threads,
                        struct error *err)
{
    if (n_threads < 1 || n_threads > POOL_THREADS_MAX) {
        return error_set(err, ST_USAGE, "%u threads: must be 1 to %d",
                         n_threads, POOL_THREADS_MAX);
    }
    struct pool *p = mem_zalloc(sizeof *p);
    if (!p) return error_set(err, ST_NO_MEMORY, "thread pool");
    nm_assert_environment();
    p->n_threads = n_threads;
    p->n_started = 1;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (uint32_t i = 1; i < n_threads; i++) {
        p->helpers[i] = (struct helper){.pool = p, .index = i};
        if (pthread_create(&p->helpers[i].thread, NULL, helper_main,
                           &p->helpers[i]) != 0) {
            pool_free(p);
            return error_set(err, ST_NO_MEMORY,
                             "the system gives only %u of %u threads", i,
                             n_threads);
        }
        p->n_started++;
    }
    *out = p;
    return ST_OK;
}

void pool_free(struct pool *p)
{
    if (!p) return;
    atomic_store(&p->stop, true);
    announce(p);
    for (uint32_t i = 1; i < p->n_started; i++) {
        pthread_join(p->helpers[i].thread, NULL);
    }
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

uint32_t pool_n_threads(const struct pool *p)
{
    return p->n_threads;
}

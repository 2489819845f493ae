/* pool.c - see pool.h.
 *
 * `left` counts the items that nobody has claimed, `undone` those that are not
 * finished. A run is published by storing left (release) after fn, arg and
 * n_items; whoever lowers it has an item, and the run cannot end before that
 * is done, so what it reads of the run is the run's own. Nobody waits for a
 * helper that has claimed nothing: one that sleeps, or that the system does
 * not schedule, costs its share of the work and no more.
 *
 * A helper without work spins, soon with sched_yield between, so that on a
 * shared core others run instead of it, then sleeps on `wake`. The caller
 * waits for the last items in the same way and sleeps on `finished`. Both
 * sleepers announce themselves (`sleepers`, `caller_sleeps`) before they look
 * a last time, and whoever has news looks for sleepers after telling it; all
 * four are sequentially consistent, so one of the two sees the other. */
#include "engine/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "common/clock.h"
#include "common/mem.h"
#include "engine/cpu.h"
#include "engine/numerics.h"

/* Between the regions of a step lie a few microseconds, between steps of one
 * answer less than this. */
#define SPIN_NS  50000
#define YIELD_NS 2000 /* of them until the first sched_yield */

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
    uint64_t spin_ns;
    uint64_t n_runs;
    _Alignas(64) atomic_uint left;
    _Alignas(64) atomic_uint undone;
    _Alignas(64) atomic_uint sleepers;
    atomic_bool caller_sleeps;
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake, finished;
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

static bool claim(struct pool *p, uint32_t *item)
{
    unsigned left = atomic_load_explicit(&p->left, memory_order_relaxed);
    while (left != 0) {
        if (atomic_compare_exchange_weak_explicit(&p->left, &left, left - 1,
                                                  memory_order_acquire,
                                                  memory_order_relaxed)) {
            *item = p->n_items - left;
            return true;
        }
    }
    return false;
}

/* Returns how many items it did. */
static uint32_t work(struct pool *p, uint32_t thread)
{
    uint32_t item, n = 0;
    for (; claim(p, &item); n++) p->fn(p->arg, item, thread);
    return n;
}

static bool has_work(struct pool *p)
{
    return atomic_load(&p->left) != 0 || atomic_load(&p->stop);
}

static bool is_done(struct pool *p)
{
    return atomic_load(&p->undone) == 0;
}

/* False if the time for spinning is over before done says true. */
static bool spin(struct pool *p, bool (*done)(struct pool *))
{
    const uint64_t start = clock_now_ns();
    for (;;) {
        for (int i = 0; i < 32; i++) {
            if (done(p)) return true;
            cpu_relax();
        }
        const uint64_t spent = clock_now_ns() - start;
        if (spent >= p->spin_ns) return false;
        if (spent >= YIELD_NS) sched_yield();
    }
}

static void await_work(struct pool *p)
{
    if (spin(p, has_work)) return;
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (!has_work(p)) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    struct pool *p = h->pool;
    nm_assert_environment();
    for (;;) {
        await_work(p);
        if (atomic_load(&p->stop)) return NULL;
        const uint32_t n = work(p, h->index);
        if (n == 0 || atomic_fetch_sub(&p->undone, n) != n ||
            !atomic_load(&p->caller_sleeps)) {
            continue;
        }
        pthread_mutex_lock(&p->lock);
        pthread_cond_signal(&p->finished);
        pthread_mutex_unlock(&p->lock);
    }
}

static void wake_sleepers(struct pool *p)
{
    if (atomic_load(&p->sleepers) == 0) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

static void await_end(struct pool *p)
{
    if (spin(p, is_done)) return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->caller_sleeps, true);
    while (!is_done(p)) pthread_cond_wait(&p->finished, &p->lock);
    atomic_store(&p->caller_sleeps, false);
    pthread_mutex_unlock(&p->lock);
}

void pool_run(struct pool *p, pool_fn *fn, void *arg, uint32_t n_items)
{
    if (p->n_threads == 1 || n_items <= 1) {
        for (uint32_t i = 0; i < n_items; i++) fn(arg, i, 0);
        return;
    }
    p->n_runs++;
    p->fn = fn;
    p->arg = arg;
    p->n_items = n_items;
    atomic_store_explicit(&p->undone, n_items, memory_order_relaxed);
    atomic_store(&p->left, n_items);
    wake_sleepers(p);
    const uint32_t n = work(p, 0);
    if (n != 0 && atomic_fetch_sub(&p->undone, n) == n) return;
    await_end(p);
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
    /* threads that share a processor would spin in each other's way */
    p->spin_ns = n_threads <= cpu_threads() ? SPIN_NS : 0;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->finished, NULL);
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
    wake_sleepers(p);
    for (uint32_t i = 1; i < p->n_started; i++) {
        pthread_join(p->helpers[i].thread, NULL);
    }
    pthread_cond_destroy(&p->finished);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

enum status pool_pin(struct pool *p, struct error *err)
{
    unsigned cpus[POOL_THREADS_MAX];
    const unsigned n_cpus = cpu_core_list(cpus, POOL_THREADS_MAX);
    for (uint32_t i = 0; i < p->n_threads; i++) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpus[i % n_cpus], &set);
        const pthread_t t = i == 0 ? pthread_self() : p->helpers[i].thread;
        if (pthread_setaffinity_np(t, sizeof set, &set) != 0) {
            return error_set(err, ST_UNSUPPORTED,
                             "the system does not let a thread stay on "
                             "processor %u; start without --affinity",
                             cpus[i % n_cpus]);
        }
    }
    return ST_OK;
}

uint32_t pool_n_threads(const struct pool *p)
{
    return p->n_threads;
}

uint64_t pool_n_runs(const struct pool *p)
{
    return p->n_runs;
}

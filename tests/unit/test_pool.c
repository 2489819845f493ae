/* test_pool.c - every item exactly once, whatever the threads do. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "engine/cpu.h"
#include "engine/pool.h"
#include "tests/lib/engine_rig.h"

#define ITEMS 512

struct counts {
    atomic_uint items[ITEMS];
    /* plain on purpose: ThreadSanitizer sees a slot or an item shared */
    uint32_t result[ITEMS];
    uint32_t scratch[64][16];
    uint32_t n_threads, run;
    atomic_uint outside;
};

static void count_item(void *arg, uint32_t item, uint32_t thread)
{
    struct counts *c = arg;
    if (item >= ITEMS || thread >= c->n_threads) {
        atomic_fetch_add(&c->outside, 1);
        return;
    }
    atomic_fetch_add_explicit(&c->items[item], 1, memory_order_relaxed);
    for (uint32_t i = 0; i < 16; i++) c->scratch[thread][i] = item + i;
    uint32_t sum = c->run;
    for (uint32_t i = 0; i < 16; i++) sum += c->scratch[thread][i];
    c->result[item] = sum;
}

static void run_once(struct pool *p, struct counts *c, uint32_t n)
{
    memset(c->result, 0xff, sizeof c->result);
    c->run++;
    pool_run(p, count_item, c, n);
    for (uint32_t i = 0; i < ITEMS; i++) {
        assert_int_equal(atomic_exchange(&c->items[i], 0), i < n);
        assert_int_equal(c->result[i],
                         i < n ? c->run + 16 * i + 120 : UINT32_MAX);
    }
    assert_int_equal(atomic_load(&c->outside), 0);
}

static void many_runs(uint32_t n_threads, uint32_t n_runs, uint32_t sleep_us)
{
    static struct counts c;
    struct rng rng = {n_threads};
    struct pool *p = NULL;
    assert_ok(pool_create(&p, n_threads, &rig_err));
    assert_int_equal(pool_n_threads(p), n_threads);
    c.n_threads = n_threads;
    for (uint32_t i = 0; i < n_runs; i++) {
        const uint32_t n = (uint32_t)rng_below(&rng, i % 4 ? 12 : ITEMS + 1);
        run_once(p, &c, n);
        if (sleep_us) usleep((unsigned)rng_below(&rng, sleep_us));
    }
    run_once(p, &c, 0);
    run_once(p, &c, ITEMS);
    pool_free(p);
}

static void test_back_to_back(void **state)
{
    (void)state;
    for (uint32_t t = 1; t <= 8; t++) many_runs(t, 1500, 0);
}

/* Around the 50 us after which a helper sleeps. */
static void test_sleep_and_wake(void **state)
{
    (void)state;
    for (uint32_t t = 2; t <= 8; t += 3) {
        many_runs(t, 300, 150);
        many_runs(t, 10, 5000);
    }
}

static void test_more_threads_than_cores(void **state)
{
    (void)state;
    many_runs(40, 60, 0);
    many_runs(64, 20, 300);
}

/* Freed while its threads spin, sleep, or have not started yet. */
static void test_create_and_free(void **state)
{
    (void)state;
    const size_t before = mem_in_use();
    for (uint32_t i = 0; i < 60; i++) {
        struct pool *p = NULL;
        assert_ok(pool_create(&p, 1 + i % 6, &rig_err));
        if (i % 3 == 1) usleep(200);
        assert_int_equal(mem_in_use() - before, pool_bytes());
        pool_free(p);
    }
    pool_free(NULL);
    assert_int_equal(mem_in_use(), before);
}

static void test_refusals(void **state)
{
    (void)state;
    const size_t before = mem_in_use();
    struct pool *p = NULL;
    assert_fails(pool_create(&p, 0, &rig_err), ST_USAGE, "0 threads");
    assert_fails(pool_create(&p, POOL_THREADS_MAX + 1, &rig_err), ST_USAGE,
                 "257 threads");
    mem_fail_after(0);
    const enum status st = pool_create(&p, 2, &rig_err);
    mem_fail_after(-1);
    assert_fails(st, ST_NO_MEMORY, "pool");
    assert_null(p);
    assert_int_equal(mem_in_use(), before);
}

/* The caller sleeps while a helper has the last item. */
static void slow_item(void *arg, uint32_t item, uint32_t thread)
{
    atomic_uint *done = arg;
    (void)item;
    if (thread != 0) usleep(2000);
    atomic_fetch_add(done, 1);
}

static void test_slow_items(void **state)
{
    (void)state;
    for (uint32_t t = 2; t <= 5; t += 3) {
        struct pool *p = NULL;
        assert_ok(pool_create(&p, t, &rig_err));
        for (uint32_t i = 1; i <= 60; i++) {
            atomic_uint done = 0;
            pool_run(p, slow_item, &done, i % 7);
            assert_int_equal(atomic_load(&done), i % 7);
        }
        pool_free(p);
    }
}

/* Which processors each thread may use. */
struct masks {
    cpu_set_t of[4];
    atomic_uint seen;
};

static void mask_item(void *arg, uint32_t item, uint32_t thread)
{
    struct masks *m = arg;
    (void)item;
    sched_getaffinity(0, sizeof m->of[0], &m->of[thread]);
    atomic_fetch_or(&m->seen, 1u << thread);
    usleep(500);
}

static void *pinned(void *arg)
{
    struct masks *m = arg;
    struct pool *p = NULL;
    assert_ok(pool_create(&p, 4, &rig_err));
    assert_ok(pool_pin(p, &rig_err));
    for (int i = 0; i < 1000 && atomic_load(&m->seen) != 15; i++) {
        pool_run(p, mask_item, m, 64);
    }
    pool_free(p);
    return NULL;
}

/* Each thread keeps to one core; as many as possible to one of their own. The
 * caller stays there, so it is another thread. */
static void test_pin(void **state)
{
    (void)state;
    static struct masks m;
    unsigned cpus[4];
    const unsigned n = cpu_core_list(cpus, 4);
    assert_true(n >= 1 && n <= cpu_threads());
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, pinned, &m), 0);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&m.seen), 15);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(CPU_COUNT(&m.of[i]), 1);
        assert_true(CPU_ISSET(cpus[i % n], &m.of[i]));
    }
}

static void test_quota(void **state)
{
    (void)state;
    assert_true(cpu_quota("max 100000\n") == 0);
    assert_true(cpu_quota("150000 100000\n") == 1.5);
    assert_true(cpu_quota("100000 0") == 0);
    assert_true(cpu_quota("100000") == 0);
    assert_true(cpu_quota("-1 100000") == 0);
    assert_true(cpu_quota("") == 0);
    assert_true(cpu_cores() >= 1 && cpu_cores() <= cpu_threads());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_items),
        cmocka_unit_test(test_pin),
        cmocka_unit_test(test_quota),
        cmocka_unit_test(test_back_to_back),
        cmocka_unit_test(test_sleep_and_wake),
        cmocka_unit_test(test_more_threads_than_cores),
        cmocka_unit_test(test_create_and_free),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

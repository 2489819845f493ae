/* bench_threads.c - what the thread pool itself costs.
 *
 *   bench_threads [MODEL.gguf [THREADS]]
 *
 * The time of a region whose 16 items do nothing, for one to THREADS threads;
 * then the regions of a decode step of the model and the share of the step's
 * time that so many empty regions would take. */
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "engine/cpu.h"
#include "engine/runner.h"

#define REGIONS 20000
#define ROUNDS  9
#define STEPS   32

static void nothing(void *arg, uint32_t item, uint32_t thread)
{
    (void)arg;
    (void)item;
    (void)thread;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median, in microseconds. */
static double region_us(struct pool *pool)
{
    double us[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        const uint64_t start = clock_now_ns();
        for (int n = 0; n < REGIONS; n++) pool_run(pool, nothing, NULL, 16);
        us[i] = 1e-3 * (double)(clock_now_ns() - start) / REGIONS;
    }
    qsort(us, ROUNDS, sizeof *us, by_value);
    return us[ROUNDS / 2];
}

static enum status no_row(void *arg, size_t index, float *logits,
                          struct error *err)
{
    (void)arg;
    (void)index;
    (void)logits;
    (void)err;
    return ST_OK;
}

static enum status steps(struct runner *r, struct error *err)
{
    double us[STEPS];
    uint64_t regions = 0;
    for (int i = 0; i < STEPS; i++) {
        const int32_t token = i + 1;
        const uint64_t before = pool_n_runs(r->shard->pool);
        const uint64_t start = clock_now_ns();
        const enum status st =
            runner_feed(r, 1, &token, 1, false, no_row, NULL, err);
        if (st != ST_OK) return st;
        us[i] = 1e-3 * (double)(clock_now_ns() - start);
        regions = pool_n_runs(r->shard->pool) - before;
    }
    qsort(us, STEPS, sizeof *us, by_value);
    const double step = us[STEPS / 2], empty = region_us(r->shard->pool);
    printf("decode: %.0f us a step of %llu regions; as many empty ones take "
           "%.2f %%\n",
           step, (unsigned long long)regions,
           100 * empty * (double)regions / step);
    return ST_OK;
}

int main(int argc, char **argv)
{
    struct shard_options o;
    struct error err;
    if (argc > 3 || runner_defaults(&o, &err) != ST_OK) {
        fprintf(stderr, "bench_threads [MODEL.gguf [THREADS]]\n");
        return 2;
    }
    if (argc > 2) o.n_threads = (uint32_t)strtoul(argv[2], NULL, 10);
    o.n_ctx = 64;
    printf("%u threads of %u cores\n", o.n_threads, cpu_cores());
    for (uint32_t n = 1; n <= o.n_threads; n *= 2) {
        struct pool *pool = NULL;
        if (pool_create(&pool, n, &err) != ST_OK) break;
        printf("empty region, %u threads: %.2f us\n", n, region_us(pool));
        pool_free(pool);
    }
    if (argc == 1) return 0;
    struct runner r;
    enum status st = runner_open(&r, argv[1], &o, false, &err);
    if (st == ST_OK) {
        st = steps(&r, &err);
        runner_close(&r);
    }
    if (st != ST_OK) fprintf(stderr, "bench_threads: %s\n", err.text);
    return st == ST_OK ? 0 : 1;
}

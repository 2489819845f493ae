#include "engine/bandwidth.h"

#include "common/clock.h"

#define ITEMS_PER_THREAD 8

struct reading {
    const uint64_t *data;
    size_t n; /* words */
    uint32_t n_items;
    uint64_t sums[POOL_THREADS_MAX]; /* so that reading has a use */
};

static void read_item(void *arg, uint32_t item, uint32_t thread)
{
    struct reading *r = arg;
    const size_t each = r->n / r->n_items;
    const uint64_t *p = r->data + item * each;
    /* independent sums, so that the adds do not bound it */
    uint64_t s[16] = {0};
    for (size_t i = 0; i + 16 <= each; i += 16) {
        __builtin_prefetch(p + i + 512);
        for (size_t j = 0; j < 16; j++) s[j] += p[i + j];
    }
    for (size_t j = 0; j < 16; j++) r->sums[thread] += s[j];
}

double bandwidth_read(struct pool *pool, const void *data, size_t bytes,
                      unsigned times)
{
    struct reading r = {.data = data,
                        .n = bytes / sizeof *r.data,
                        .n_items = ITEMS_PER_THREAD * pool_n_threads(pool)};
    double best = 0;
    for (unsigned i = 0; i < times; i++) {
        const uint64_t start = clock_now_ns();
        pool_run(pool, read_item, &r, r.n_items);
        const uint64_t ns = clock_now_ns() - start;
        const double rate = (double)bytes * 1e9 / (double)(ns ? ns : 1);
        if (rate > best) best = rate;
    }
    return best;
}

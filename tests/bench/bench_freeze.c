/* bench_freeze.c - what the definition of docs/NUMERICS.md costs: prototypes
 * in the defined and in free order, run in alternating pairs, one thread.
 *
 * Batch 1 streams more weights than the caches hold; batch 16 goes over a few
 * rows that stay in them.  The figure is the median of the pairs' ratios. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/compiler.h"
#include "common/mem.h"
#include "common/rng.h"
#include "tests/bench/freeze.h"

#define PAIRS      61
#define COLS       16
#define CACHE_ROWS 64
#define DRAM_BYTES ((size_t)96 << 20)

/* CPU time: other work on the machine does not count. */
static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

static void *get(size_t n)
{
    void *p = mem_zalloc(n);
    if (!p) {
        fprintf(stderr, "bench: %zu bytes do not fit in memory\n", n);
        exit(1);
    }
    return p;
}

/* Random canonical rows with sane scales. */
static void fill_rows(enum quant_type type, uint8_t *rows, uint32_t n,
                      uint32_t k)
{
    struct rng rng = {.state = 7};
    float *x = get(k * sizeof *x);
    const size_t bytes = (size_t)quant_row_bytes(type, k);
    for (uint32_t r = 0; r < n; r++) {
        for (uint32_t i = 0; i < k; i++) {
            x[i] = (float)(rng_unit(rng_u64(&rng)) - 0.5);
        }
        quant_quantize_row(type, x, rows + r * bytes, k);
    }
    mem_free(x);
}

struct set {
    uint8_t *packed;
    uint8_t *act;
    float *y, *want;
    struct nm_tree tree;
    struct matmul_job job;
};

static void set_init(struct set *s, const struct freeze_proto *p, uint32_t k,
                     uint32_t n_rows)
{
    const size_t row_bytes = (size_t)quant_row_bytes(p->type, k);
    const size_t group = row_bytes * p->rows;
    const enum act_kind kind = act_kind_of(p->type);
    const size_t stride = act_row_bytes(kind, k);

    uint8_t *rows = get(CACHE_ROWS * row_bytes);
    fill_rows(p->type, rows, CACHE_ROWS, k);
    s->packed = get(n_rows * row_bytes);
    for (uint32_t g = 0; g < n_rows / p->rows; g++) {
        if (g < CACHE_ROWS / p->rows) {
            pack_rows(p->type, p->rows, s->packed + g * group, rows + g * group,
                      row_bytes, p->rows, k);
        } else {
            memcpy(s->packed + g * group,
                   s->packed + g % (CACHE_ROWS / p->rows) * group, group);
        }
    }
    s->act = get(COLS * stride);
    struct rng rng = {.state = 11};
    float *x = get(k * sizeof *x);
    for (uint32_t c = 0; c < COLS; c++) {
        for (uint32_t i = 0; i < k; i++) {
            x[i] = (float)(rng_unit(rng_u64(&rng)) - 0.5);
        }
        act_quantize(kind, x, k, s->act + c * stride);
    }
    mem_free(x);
    s->y = get((size_t)COLS * n_rows * sizeof(float));
    s->want = get((size_t)COLS * n_rows * sizeof(float));
    nm_tree_init(&s->tree, k);
    s->job = (struct matmul_job){.w = rows,
                                 .act = s->act,
                                 .y = s->want,
                                 .tree = &s->tree,
                                 .act_stride = stride,
                                 .y_stride = n_rows,
                                 .k = k,
                                 .n_rows = CACHE_ROWS,
                                 .group_end = CACHE_ROWS,
                                 .n_cols = COLS};
    /* the reference wants each row at a multiple of 64 bytes */
    const size_t ref_bytes = kernel_group_bytes(kernel_ref(p->type), k);
    uint8_t *ref = get(CACHE_ROWS * ref_bytes);
    for (uint32_t r = 0; r < CACHE_ROWS; r++) {
        memcpy(ref + r * ref_bytes, rows + r * row_bytes, row_bytes);
    }
    s->job.w = ref;
    kernel_ref(p->type)->matmul(&s->job);
    mem_free(ref);
    mem_free(rows);
    s->job.w = s->packed;
    s->job.y = s->y;
    s->job.n_rows = n_rows;
    s->job.group_end = n_rows / p->rows;
}

static void set_fini(struct set *s)
{
    mem_free(s->packed);
    mem_free(s->act);
    mem_free(s->y);
    mem_free(s->want);
}

static double run(const struct set *s,
                  void (*matmul)(const struct matmul_job *), uint32_t repeat)
{
    const double start = now_s();
    for (uint32_t i = 0; i < repeat; i++) matmul(&s->job);
    return now_s() - start;
}

static bool check(const struct set *s, const struct freeze_proto *p)
{
    p->defined(&s->job);
    for (uint32_t c = 0; c < s->job.n_cols; c++) {
        const size_t at = c * s->job.y_stride;
        const void *got = s->y + at, *want = s->want + at; /* bits matter */
        if (memcmp(got, want, CACHE_ROWS * sizeof(float)) != 0) {
            fprintf(stderr, "%s: differs from the reference in column %u\n",
                    p->name, c);
            return false;
        }
    }
    return true;
}

static bool measure(const struct freeze_proto *p, uint32_t k, uint32_t batch)
{
    uint32_t n_rows = CACHE_ROWS, repeat = 64;
    if (batch == 1) {
        n_rows = (uint32_t)(DRAM_BYTES / (size_t)quant_row_bytes(p->type, k));
        n_rows = n_rows / CACHE_ROWS * CACHE_ROWS;
        repeat = 1;
    }
    struct set s;
    set_init(&s, p, k, n_rows);
    s.job.n_cols = batch;
    const bool same = check(&s, p);
    double ratio[PAIRS], defined[PAIRS], free_order[PAIRS];
    for (size_t i = 0; same && i < PAIRS; i++) {
        if (i % 2) defined[i] = run(&s, p->defined, repeat);
        free_order[i] = run(&s, p->free_order, repeat);
        if (!(i % 2)) defined[i] = run(&s, p->defined, repeat);
        ratio[i] = defined[i] / free_order[i];
    }
    if (same) {
        const double macs = 1e-9 * (double)k * n_rows * batch * repeat;
        const double bytes =
            1e-9 * (double)quant_row_bytes(p->type, k) * n_rows * repeat;
        const double t = median(defined, PAIRS);
        printf("| %-11s | %5u | %5u | %6.1f | %6.1f | %.3f |\n", p->name, batch,
               k, bytes / t, macs / t, median(ratio, PAIRS));
        fflush(stdout);
    }
    set_fini(&s);
    return same;
}

int main(void)
{
    nm_assert_environment();
    const struct freeze_proto *protos[] = {NULL, NULL, NULL, NULL};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.1")) {
        protos[0] = freeze_q4k_sse41();
        protos[1] = freeze_q8_sse41();
    }
    if (__builtin_cpu_supports("avx512vnni") &&
        __builtin_cpu_supports("avx512bw")) {
        protos[2] = freeze_q4k_vnni();
        protos[3] = freeze_q8_vnni();
    }
#endif
    printf(
        "| prototype   | batch |     k |   GB/s | GMAC/s | defined/free |\n"
        "|-------------|-------|-------|--------|--------|--------------|\n");
    bool ok = true;
    for (size_t i = 0; i < COUNT_OF(protos); i++) {
        static const uint32_t batches[] = {1, 16}, ks[] = {4096, 11008};
        for (size_t b = 0; protos[i] && b < COUNT_OF(batches); b++) {
            for (size_t j = 0; j < COUNT_OF(ks); j++) {
                ok = measure(protos[i], ks[j], batches[b]) && ok;
            }
        }
    }
    return ok ? 0 : 1;
}

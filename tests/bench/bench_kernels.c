/* bench_kernels.c - one thread: GB/s of weights at batch 1, beside what
 * reading memory gives, and GMAC/s at batch 16 and 512.
 *
 * Batch 1 goes over 96 MB of weights; the others over rows that make about
 * 4 MB.  Median of several runs of CPU time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/compiler.h"
#include "common/mem.h"
#include "common/rng.h"
#include "engine/cpu.h"

#define RUNS       7
#define COLS_MAX   512u
#define K          4096u
#define DRAM_BYTES ((size_t)96 << 20)
#define SOME_BYTES ((size_t)4 << 20)

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

static void *get(size_t n)
{
    void *p = mem_zalloc(n);
    if (!p) {
        fprintf(stderr, "bench: %zu bytes do not fit in memory\n", n);
        exit(1);
    }
    return p;
}

/* GB/s of summing 64-bit words of a block that no cache holds. */
static double read_rate(void)
{
    const size_t n = DRAM_BYTES / sizeof(uint64_t);
    uint64_t *p = get(DRAM_BYTES);
    for (size_t i = 0; i < n; i += 64) p[i] = i;
    double rate[RUNS];
    uint64_t sum[16] = {0};
    for (int run = 0; run < RUNS; run++) {
        const double start = now_s();
        for (size_t i = 0; i < n; i += 16) {
            UNROLL
            for (size_t j = 0; j < 16; j++) sum[j] += p[i + j];
        }
        rate[run] = 1e-9 * (double)DRAM_BYTES / (now_s() - start);
    }
    volatile uint64_t sink = 0;
    for (size_t j = 0; j < 16; j++) sink += sum[j];
    (void)sink; /* read: the sums are not to be optimised away */
    mem_free(p);
    qsort(rate, RUNS, sizeof *rate, by_value);
    return rate[RUNS / 2];
}

/* Rows repeat after the first sixteen groups. */
static uint8_t *make_weights(const struct kernel *kernel, uint32_t n_groups)
{
    struct rng rng = {.state = 7};
    float *x = get(K * sizeof *x);
    const size_t row = (size_t)quant_row_bytes(kernel->type, K);
    const size_t group = kernel_group_bytes(kernel, K);
    uint8_t *rows = get(row * kernel->rows);
    uint8_t *packed = get(group * n_groups);
    for (uint32_t g = 0; g < n_groups; g++) {
        if (g >= 16) {
            memcpy(packed + g * group, packed + g % 16 * group, group);
            continue;
        }
        for (uint32_t r = 0; r < kernel->rows; r++) {
            for (uint32_t i = 0; i < K; i++) {
                x[i] = (float)(rng_unit(rng_u64(&rng)) - 0.5);
            }
            quant_quantize_row(kernel->type, x, rows + r * row, K);
        }
        kernel->pack(packed + g * group, rows, row, kernel->rows, K);
    }
    mem_free(rows);
    mem_free(x);
    return packed;
}

static uint8_t *make_act(enum act_kind kind)
{
    struct rng rng = {.state = 11};
    const size_t stride = act_row_bytes(kind, K);
    float *x = get(K * sizeof *x);
    uint8_t *act = get(COLS_MAX * stride);
    for (uint32_t c = 0; c < COLS_MAX; c++) {
        for (uint32_t i = 0; i < K; i++) {
            x[i] = (float)(rng_unit(rng_u64(&rng)) - 0.5);
        }
        act_quantize(kind, x, K, act + c * stride);
    }
    mem_free(x);
    return act;
}

/* Seconds of one product. */
static double time_s(const struct kernel *kernel,
                     void (*matmul)(const struct matmul_job *),
                     size_t weight_bytes, uint32_t n_cols, uint32_t *n_rows)
{
    const size_t group = kernel_group_bytes(kernel, K);
    const uint32_t n_groups = (uint32_t)(weight_bytes / group);
    struct nm_tree tree;
    nm_tree_init(&tree, K);
    struct matmul_job job = {
        .act_stride = act_row_bytes(kernel->act, K),
        .tree = &tree,
        .k = K,
        .n_rows = n_groups * kernel->rows,
        .group_end = n_groups,
        .n_cols = n_cols,
        .y_stride = (size_t)n_groups * kernel->rows,
    };
    uint8_t *w = make_weights(kernel, n_groups), *act = make_act(kernel->act);
    job.w = w;
    job.act = act;
    job.y = get(sizeof(float) * job.y_stride * n_cols);
    job.scratch = get(KERNEL_SCRATCH);
    matmul(&job);
    double t[RUNS];
    for (int run = 0; run < RUNS; run++) {
        const double start = now_s();
        matmul(&job);
        t[run] = now_s() - start;
    }
    mem_free(job.scratch);
    mem_free(job.y);
    mem_free(act);
    mem_free(w);
    *n_rows = job.n_rows;
    qsort(t, RUNS, sizeof *t, by_value);
    return t[RUNS / 2];
}

static void measure(const struct kernel *kernel, const char *how,
                    void (*matmul)(const struct matmul_job *), double read)
{
    uint32_t rows;
    const bool slow = kernel->isa == ISA_REF; /* less of it will do */
    const double one =
        time_s(kernel, matmul, slow ? SOME_BYTES : DRAM_BYTES, 1, &rows);
    const double rate =
        1e-9 * (double)quant_row_bytes(kernel->type, K) * rows / one;
    const double t16 =
        time_s(kernel, matmul, SOME_BYTES / (slow ? 8 : 1), 16, &rows);
    const double m16 = 16e-9 * K * rows / t16;
    const double t512 =
        time_s(kernel, matmul, SOME_BYTES / (slow ? 64 : 4), COLS_MAX, &rows);
    const double m512 = 1e-9 * COLS_MAX * K * rows / t512;
    printf("| %-17s %-4s | %6.2f | %3.0f %% | %7.2f | %7.2f |\n", kernel->name,
           how, rate, 100 * rate / read, m16, m512);
    fflush(stdout);
}

/* Arguments: pieces of names ("q4_k", "avx2"); all of them must be there. */
static bool wanted(const struct kernel *kernel, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strstr(kernel->name, argv[i])) return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    nm_assert_environment();
    const double read = read_rate();
    printf("reading memory: %.1f GB/s, one thread\n\n"
           "| kernel                 | GB/s   | read  | GMAC/s  | GMAC/s  |\n"
           "|                        | 1 col  |       | 16 cols | 512     |\n"
           "|------------------------|--------|-------|---------|---------|\n",
           read);
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        if (!quant_info(t)) continue;
        const struct kernel *last = NULL;
        for (int isa = 0; isa <= (int)cpu_isa(); isa++) {
            if (!cpu_runs((enum isa)isa)) continue;
            const struct kernel *k =
                kernel_select((enum quant_type)t, (enum isa)isa);
            if (k == last) continue;
            last = k;
            if (!wanted(k, argc, argv)) continue;
            measure(k, "", k->matmul, read);
            if (k->matmul_blas) measure(k, "blas", k->matmul_blas, read);
        }
    }
    return 0;
}

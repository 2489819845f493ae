/* bench_kernels.c - every kernel against the two limits of one thread.
 *
 * At 1 and 4 columns GB/s of weights (96 MB of them, past the caches), beside
 * what a plain loop reads; at 16 and 512 columns, over rows that make some
 * MB, GMAC/s, beside the most multiply-adds of bytes that the level has
 * (peak.h).  Median of several runs of CPU time.
 *
 *   bench_kernels [--isa NAME] [PIECE...]
 *
 * PIECE: of a kernel's name ("q4_k"); all must be there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/compiler.h"
#include "common/mem.h"
#include "common/rng.h"
#include "engine/cpu.h"
#include "tests/bench/peak.h"

#define RUNS       5
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

/* GMAC/s of a level with everything in registers; 0: not known. */
static double peak_rate(enum isa isa)
{
    static peak_fn *const of[ISA_END] = {
        [ISA_SSE4] = peak_sse4,
        [ISA_AVX] = peak_avx,
        [ISA_AVX2] = peak_avx2,
        [ISA_AVX512VNNI] = peak_avx512vnni,
    };
    peak_fn *fn = of[isa];
    if (isa == ISA_AVXVNNI) {
        fn = cpu_has_vex_vnni() ? peak_avxvnni : peak_avx512vl;
    }
    double best = 0;
    for (int run = 0; fn && run < RUNS; run++) {
        const double start = now_s();
        const double macs = (double)fn(2000000);
        const double rate = 1e-9 * macs / (now_s() - start);
        if (rate > best) best = rate;
    }
    return best;
}

static void print_share(double rate, double peak)
{
    if (peak > 0) {
        printf(" %7.1f %3.0f %% |", rate, 100 * rate / peak);
    } else {
        printf(" %7.1f       |", rate);
    }
}

static void measure(const struct kernel *kernel, const char *how,
                    void (*matmul)(const struct matmul_job *), double read,
                    double peak)
{
    uint32_t rows;
    const bool slow = kernel->isa == ISA_REF; /* less of it will do */
    const double row = (double)quant_row_bytes(kernel->type, K);
    const size_t many = slow ? SOME_BYTES : DRAM_BYTES;
    printf("| %s%s |", kernel->name, how);
    for (uint32_t cols = 1; cols <= 4; cols += 3) {
        const double t = time_s(kernel, matmul, many, cols, &rows);
        printf(" %5.1f %3.0f %% |", 1e-9 * row * rows / t,
               100e-9 * row * rows / t / read);
    }
    const double t16 =
        time_s(kernel, matmul, SOME_BYTES / (slow ? 8 : 1), 16, &rows);
    print_share(16e-9 * K * rows / t16, peak);
    const double t512 =
        time_s(kernel, matmul, SOME_BYTES / (slow ? 64 : 4), COLS_MAX, &rows);
    print_share(1e-9 * COLS_MAX * K * rows / t512, peak);
    putchar('\n');
    fflush(stdout);
}

/* Float types do no multiply-adds of bytes. */
static double peak_for(const struct kernel *kernel, double peak)
{
    return kernel->act == ACT_F32 ? 0 : peak;
}

static void measure_level(enum isa isa, char **pieces, double read)
{
    const double peak = peak_rate(isa);
    printf("\n%s: %.0f GMAC/s of bytes at most, reading memory %.1f GB/s, one "
           "thread\n\n"
           "| kernel | 1 column, GB/s, of reading | 4 columns, GB/s, of "
           "reading | 16 columns, GMAC/s, of the peak | 512 columns, GMAC/s, "
           "of the peak |\n|---|---|---|---|---|\n",
           isa_name(isa), peak, read);
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        if (!quant_info(t)) continue;
        const struct kernel *k = kernel_select((enum quant_type)t, isa);
        bool wanted = k->isa == isa;
        for (char **p = pieces; *p; p++) wanted &= strstr(k->name, *p) != NULL;
        if (!wanted) continue;
        const double limit = peak_for(k, peak);
        measure(k, "", k->matmul, read, limit);
        if (k->matmul_blas) {
            measure(k, ", OpenBLAS", k->matmul_blas, read, limit);
        }
    }
}

int main(int argc, char **argv)
{
    enum isa first = ISA_REF, last = cpu_isa();
    char **pieces = argv + 1;
    if (argc > 2 && strcmp(argv[1], "--isa") == 0) {
        if (!isa_by_name(argv[2], &first) || first > last) {
            fprintf(stderr, "bench_kernels: no level %s here\n", argv[2]);
            return 2;
        }
        last = first;
        pieces += 2;
    }
    nm_assert_environment();
    const double read = read_rate();
    for (int isa = (int)first; isa <= (int)last; isa++) {
        if (!cpu_runs((enum isa)isa)) continue;
        measure_level((enum isa)isa, pieces, read);
    }
    return 0;
}

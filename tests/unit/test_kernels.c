/* test_kernels.c - every kernel of this machine equals the reference kernel
 * bit for bit: each type, K, row and column count, cut, and extreme value. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/compiler.h"
#include "common/mem.h"
#include "common/rng.h"
#include "engine/cpu.h"
#include "engine/kernels.h"
#include "engine/kernels_blas.h"
#include "engine/kernels_tune.h"

#define ROWS_MAX 33 /* two groups of sixteen and one row */
#define COLS_MAX 33
#define K_MAX    4096
#define CANARY   0x7fc0deadu

enum weights {
    W_RANDOM,
    W_ALL_ONES, /* quants, six-bit scales: every bit set */
    W_LOWEST,   /* bytes 0x80: w = -128, nibbles 0 and 8 */
    W_NEGATIVE, /* scales below zero */
    W_DENORMAL, /* f16 scales below 2^-14 */
    W_ZERO,     /* blocks of zeros */
    W_MIXED,    /* one of the above per block */
    W_INFINITE, /* some f16 scales are infinite or NaN */
    W_REAL,     /* as the quantizer makes them of a bell curve with outliers */
    W_END
};
enum acts {
    A_RANDOM,
    A_TOP,
    A_BOTTOM,
    A_SIGNS,
    A_SPARSE,
    A_ZERO,
    A_NAN,
    A_END
};

static struct rng rng;
static uint64_t seed;

static uint16_t random_scale(enum weights w)
{
    const uint16_t r = (uint16_t)rng_u64(&rng);
    switch (w) {
    case W_NEGATIVE:
        return 0x8000u | (r % 0x3c00u);
    case W_DENORMAL:
        return (r & 0x8000u) | (r % 0x400u);
    case W_ZERO:
        return 0;
    case W_INFINITE:
        return r % 3 == 0 ? (r & 0x8000u) | 0x7c00u | (r % 2) : r % 0x7c00u;
    case W_RANDOM:
    case W_ALL_ONES:
    case W_LOWEST:
    case W_MIXED:
    case W_REAL:
    case W_END:
        break;
    }
    return (uint16_t)(0x2000u + r % 0x1000u);
}

static void fill_bytes(uint8_t *p, size_t n, enum weights w)
{
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)rng_u64(&rng);
    if (w == W_ALL_ONES) memset(p, 0xff, n);
    if (w == W_LOWEST) memset(p, 0x80, n);
    if (w == W_ZERO) memset(p, 0, n);
}

/* Where the f16 scales of a block stand. */
static size_t scales_of(enum quant_type type, size_t at[2])
{
    at[0] = type == QUANT_Q6_K   ? offsetof(struct block_q6_k, d)
            : type == QUANT_Q3_K ? offsetof(struct block_q3_k, d)
            : type == QUANT_Q2_K ? offsetof(struct block_q2_k, d)
                                 : 0;
    at[1] = at[0] + 2;
    return quant_info(type)->with_min ? 2 : 1;
}

static void fill_float_row(enum quant_type type, enum weights w, uint8_t *row,
                           uint32_t k)
{
    for (uint32_t i = 0; i < k; i++) {
        float x = (float)(rng_unit(rng_u64(&rng)) - 0.5);
        if (w == W_ZERO) x = 0;
        if (w == W_NEGATIVE) x = -fabsf(x);
        if (w == W_DENORMAL) x *= type == QUANT_F16 ? 0x1p-15f : 0x1p-127f;
        if (w == W_ALL_ONES) x = 65504.0f;
        if (w == W_INFINITE && i == k / 2) x = INFINITY;
        const uint16_t half =
            type == QUANT_F16 ? f32_to_f16(x) : f32_to_bf16(x);
        if (type == QUANT_F32) {
            memcpy(row + 4 * (size_t)i, &x, 4);
        } else {
            memcpy(row + 2 * (size_t)i, &half, 2);
        }
    }
}

static void fill_real_row(enum quant_type type, uint8_t *row, uint32_t k)
{
    static float x[K_MAX];
    for (uint32_t i = 0; i < k; i++) {
        x[i] = 0;
        for (int n = 0; n < 4; n++) {
            x[i] += 0.02f * (float)(rng_unit(rng_u64(&rng)) - 0.5);
        }
        if (rng_below(&rng, 64) == 0) x[i] *= 9;
    }
    quant_quantize_row(type, x, row, k);
}

static void fill_row(enum quant_type type, enum weights w, uint8_t *row,
                     uint32_t k)
{
    const struct quant_info *info = quant_info(type);
    if (info->block == 1) {
        fill_float_row(type, w, row, k);
        return;
    }
    if (w == W_REAL) {
        fill_real_row(type, row, k);
        return;
    }
    for (uint32_t b = 0; b < k / info->block; b++, row += info->block_bytes) {
        const enum weights one =
            w == W_MIXED ? (enum weights)rng_below(&rng, W_MIXED) : w;
        fill_bytes(row, info->block_bytes, one);
        size_t at[2];
        const size_t n = scales_of(type, at);
        for (size_t i = 0; i < n; i++) {
            const uint16_t d = random_scale(one);
            memcpy(row + at[i], &d, 2);
        }
    }
}

static void fill_act(enum acts a, float *x, uint32_t k)
{
    for (uint32_t i = 0; i < k; i++) {
        x[i] = (float)(4 * rng_unit(rng_u64(&rng)) - 2);
        if (a == A_TOP) x[i] = 3;
        if (a == A_BOTTOM) x[i] = -3;
        if (a == A_SIGNS) x[i] = x[i] < 0 ? -1 : 1;
        if (a == A_ZERO) x[i] = 0; /* with scales below zero: -0 */
        if (a == A_SPARSE) x[i] = i / 32 % 3 ? 0 : x[i] * 0x1p-90f;
    }
    if (a == A_NAN) x[rng_below(&rng, k)] = NAN;
}

/* ------------------------------------------------------------ problem */

/* Canonical rows, activations, and the reference's products of all. */
struct problem {
    enum quant_type type;
    uint32_t k;
    size_t row_bytes, act_stride;
    uint8_t *rows, *act;
    float *want; /* [COLS_MAX][ROWS_MAX] */
    struct nm_tree tree;
};

static void *get(size_t n)
{
    void *p = mem_zalloc(n);
    assert_non_null(p);
    return p;
}

static uint8_t *pack_all(const struct problem *p, const struct kernel *kernel,
                         uint32_t n_rows)
{
    const size_t bytes = kernel_group_bytes(kernel, p->k);
    const uint32_t groups = (n_rows + kernel->rows - 1) / kernel->rows;
    uint8_t *packed = get(groups * bytes);
    memset(packed, 0xff, groups * bytes); /* NaN, if any stays */
    for (uint32_t g = 0; g < groups; g++) {
        const uint32_t first = g * kernel->rows, left = n_rows - first;
        kernel->pack(packed + g * bytes, p->rows + first * p->row_bytes,
                     p->row_bytes, left < kernel->rows ? left : kernel->rows,
                     p->k);
    }
    return packed;
}

static struct matmul_job job_of(const struct problem *p, const uint8_t *packed,
                                uint32_t n_rows, uint32_t n_cols)
{
    return (struct matmul_job){.w = packed,
                               .act = p->act,
                               .tree = &p->tree,
                               .act_stride = p->act_stride,
                               .k = p->k,
                               .n_rows = n_rows,
                               .n_cols = n_cols};
}

static void problem_init(struct problem *p, enum quant_type type, uint32_t k,
                         enum weights w, enum acts a)
{
    rng.state = seed = 1000003u * (uint64_t)type + 101u * k + 11u * w + a;
    *p = (struct problem){.type = type, .k = k};
    p->row_bytes = (size_t)quant_row_bytes(type, k);
    p->act_stride = act_row_bytes(act_kind_of(type), k);
    p->rows = get(ROWS_MAX * p->row_bytes);
    p->act = get(COLS_MAX * p->act_stride);
    p->want = get(sizeof(float) * COLS_MAX * ROWS_MAX);
    nm_tree_init(&p->tree, k);
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        fill_row(type, w, p->rows + r * p->row_bytes, k);
    }
    static float x[K_MAX];
    for (uint32_t c = 0; c < COLS_MAX; c++) {
        fill_act(c % 5 == 4 ? A_RANDOM : a, x, k);
        act_quantize(act_kind_of(type), x, k, p->act + c * p->act_stride);
    }
    uint8_t *packed = pack_all(p, kernel_ref(type), ROWS_MAX);
    struct matmul_job job = job_of(p, packed, ROWS_MAX, COLS_MAX);
    job.y = p->want;
    job.y_stride = ROWS_MAX;
    job.group_end = ROWS_MAX;
    kernel_ref(type)->matmul(&job);
    mem_free(packed);
}

static void problem_fini(struct problem *p)
{
    mem_free(p->rows);
    mem_free(p->act);
    mem_free(p->want);
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static bool same(float a, float b)
{
    if (a != a || b != b) return a != a && b != b; /* NaN: payload free */
    return bits_of(a) == bits_of(b);
}

/* One product in random pieces of groups, into a buffer of canaries. */
static void check_product(const struct problem *p, const struct kernel *kernel,
                          void (*matmul)(const struct matmul_job *),
                          const uint8_t *packed, uint32_t n_rows,
                          uint32_t n_cols)
{
    static float y[COLS_MAX * (ROWS_MAX + 3) + 5];
    _Alignas(64) static char scratch[KERNEL_SCRATCH];
    const uint32_t canary = CANARY;
    for (size_t i = 0; i < COUNT_OF(y); i++) memcpy(y + i, &canary, 4);

    struct matmul_job job = job_of(p, packed, n_rows, n_cols);
    job.y = y + 2;
    job.y_stride = n_rows + 3;
    job.scratch = scratch;
    const uint32_t groups = (n_rows + kernel->rows - 1) / kernel->rows;
    while (job.group_first < groups) {
        job.group_end = job.group_first + 1 +
                        (uint32_t)rng_below(&rng, groups - job.group_first);
        matmul(&job);
        job.group_first = job.group_end;
    }
    for (size_t i = 0; i < COUNT_OF(y); i++) {
        const size_t c = (i - 2) / job.y_stride, r = (i - 2) % job.y_stride;
        if (i >= 2 && c < n_cols && r < n_rows) {
            const float want = p->want[c * ROWS_MAX + r];
            if (same(y[i], want)) continue;
            fail_msg("%s, k %u, %u rows, %u columns, seed %llu: row %zu column "
                     "%zu is %a, not %a",
                     kernel->name, p->k, n_rows, n_cols,
                     (unsigned long long)seed, r, c, (double)y[i],
                     (double)want);
        } else if (bits_of(y[i]) != CANARY) {
            fail_msg("%s, k %u, %u rows, %u columns, seed %llu: wrote at %zu",
                     kernel->name, p->k, n_rows, n_cols,
                     (unsigned long long)seed, i);
        }
    }
}

static void check_unpack(const struct problem *p, const struct kernel *kernel,
                         const uint8_t *packed)
{
    static float got[K_MAX], want[K_MAX];
    const size_t bytes = kernel_group_bytes(kernel, p->k);
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        kernel->unpack_row(packed + r / kernel->rows * bytes, r % kernel->rows,
                           p->k, got);
        quant_dequantize_row(p->type, p->rows + r * p->row_bytes, want, p->k);
        for (uint32_t i = 0; i < p->k; i++) {
            if (!same(got[i], want[i])) {
                fail_msg("%s, k %u, seed %llu: weight %u of row %u is %a, not "
                         "%a",
                         kernel->name, p->k, (unsigned long long)seed, i, r,
                         (double)got[i], (double)want[i]);
            }
        }
    }
}

/* -------------------------------------------------------------- tests */

static const enum quant_type types[] = {
    QUANT_F32,  QUANT_F16,  QUANT_BF16,   QUANT_Q8_0,   QUANT_Q4_0,
    QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1,   QUANT_Q2_K,   QUANT_Q3_K,
    QUANT_Q4_K, QUANT_Q5_K, QUANT_IQ4_NL, QUANT_IQ4_XS, QUANT_Q6_K};

/* The kernels of a type that this machine can run: reference first. */
static size_t kernels_of(enum quant_type type, const struct kernel *out[])
{
    size_t n = 0;
    for (enum isa isa = ISA_REF; isa <= cpu_isa(); isa++) {
        if (!cpu_runs(isa)) continue;
        const struct kernel *k = kernel_select(type, isa);
        if (n == 0 || out[n - 1] != k) out[n++] = k;
    }
    return n;
}

static size_t ks_of(enum quant_type type, uint32_t out[])
{
    static const uint32_t all[] = {64,  172, 32,  96,   384,
                                   256, 512, 768, 1280, K_MAX};
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (all[i] % quant_info(type)->block == 0) out[n++] = all[i];
    }
    return n;
}

static void check_problem(const struct problem *p, bool every_size)
{
    const struct kernel *kernels[ISA_END];
    const size_t n = kernels_of(p->type, kernels);
    for (size_t i = 0; i < n; i++) {
        for (uint32_t rows = 1; rows <= ROWS_MAX; rows++) {
            if (!every_size && rows % 8 != 1) continue;
            uint8_t *packed = pack_all(p, kernels[i], rows);
            if (rows == ROWS_MAX) check_unpack(p, kernels[i], packed);
            for (uint32_t cols = 1; cols <= COLS_MAX; cols++) {
                if (cols > 3 && (every_size ? cols % 5 : cols % 30)) continue;
                if (i > 0) {
                    check_product(p, kernels[i], kernels[i]->matmul, packed,
                                  rows, cols);
                }
                if (!kernels[i]->matmul_blas) continue;
                check_product(p, kernels[i], kernels[i]->matmul_blas, packed,
                              rows, cols);
            }
            mem_free(packed);
        }
    }
}

/* Each level that this machine has brings kernels of its own for every
 * quantized type, so that the tests below compare what they say. */
static void test_table(void **state)
{
    (void)state;
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        const bool quantized = quant_info(types[t])->block > 1;
        for (enum isa isa = ISA_REF; isa <= cpu_isa(); isa++) {
            if (!cpu_runs(isa)) continue;
            const struct kernel *k = kernel_select(types[t], isa);
            const enum isa want = quantized         ? isa
                                  : isa >= ISA_NEON ? ISA_NEON
                                  : isa >= ISA_AVX2 ? ISA_AVX2
                                                    : isa;
            assert_int_equal(k->type, types[t]);
            assert_int_equal(k->isa, want);
            assert_non_null(strstr(k->name, isa_name(want)));
            assert_int_equal(k->act, act_kind_of(types[t]));
        }
    }
}

/* A coordinator plans with the sizes of another architecture's levels. */
static void test_other_architectures(void **state)
{
    (void)state;
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        const uint32_t rows = quant_info(types[t])->block > 1 ? 4 : 1;
        assert_int_equal(kernel_select(types[t], ISA_SSE4)->rows, rows);
        assert_int_equal(kernel_select(types[t], ISA_NEON)->rows, rows);
        assert_int_equal(kernel_select(types[t], ISA_NEONDOTPROD)->rows, rows);
    }
    assert_true(cpu_runs(ISA_REF));
    assert_true(cpu_runs(cpu_isa()));
    assert_true(!cpu_runs(ISA_NEON) || !cpu_runs(ISA_SSE4));
    assert_true(!cpu_runs(ISA_END));
}

static void test_sizes(void **state)
{
    (void)state;
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        uint32_t ks[16];
        const size_t n = ks_of(types[t], ks);
        for (size_t i = 0; i < n; i++) {
            struct problem p;
            problem_init(&p, types[t], ks[i], W_RANDOM, A_RANDOM);
            check_problem(&p, ks[i] <= 512);
            problem_fini(&p);
        }
    }
}

static void test_extremes(void **state)
{
    (void)state;
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        for (int w = 0; w < W_END; w++) {
            for (int a = 0; a < A_END; a++) {
                struct problem p;
                problem_init(&p, types[t], 768, (enum weights)w, (enum acts)a);
                check_problem(&p, false);
                problem_fini(&p);
            }
        }
    }
}

/* More rows and columns than a BLAS panel takes, and not multiples of it. */
static void test_blas_panels(void **state)
{
    (void)state;
    enum { ROWS = 141, COLS = 203, K = 1280 };
    static float x[K], want[COLS][ROWS], got[COLS][ROWS];
    _Alignas(64) static char scratch[KERNEL_SCRATCH];
    uint32_t n_checked = 0;
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        const struct kernel *kernels[ISA_END];
        const size_t n = kernels_of(types[t], kernels);
        rng.state = seed = t;
        struct problem p = {.type = types[t], .k = K};
        p.row_bytes = (size_t)quant_row_bytes(p.type, K);
        p.act_stride = act_row_bytes(act_kind_of(p.type), K);
        p.rows = get((ROWS + 7) * p.row_bytes);
        p.act = get(COLS * p.act_stride);
        nm_tree_init(&p.tree, K);
        for (uint32_t r = 0; r < ROWS; r++) {
            fill_row(p.type, W_MIXED, p.rows + r * p.row_bytes, K);
        }
        for (uint32_t c = 0; c < COLS; c++) {
            fill_act((enum acts)(c % A_END), x, K);
            act_quantize(act_kind_of(p.type), x, K, p.act + c * p.act_stride);
        }
        for (size_t i = 0; i < n; i++) {
            if (!kernels[i]->matmul_blas) continue;
            uint8_t *packed = pack_all(&p, kernels[i], ROWS);
            struct matmul_job job = job_of(&p, packed, ROWS, COLS);
            job.scratch = scratch;
            job.y_stride = ROWS;
            job.group_end = (ROWS + kernels[i]->rows - 1) / kernels[i]->rows;
            job.y = want[0];
            kernels[i]->matmul(&job);
            job.y = got[0];
            kernels[i]->matmul_blas(&job);
            for (uint32_t j = 0; j < COLS * ROWS; j++) {
                assert_true(
                    same(got[j / ROWS][j % ROWS], want[j / ROWS][j % ROWS]));
            }
            n_checked++;
            mem_free(packed);
        }
        mem_free(p.rows);
        mem_free(p.act);
    }
    assert_true(n_checked >= 2);
}

/* The decision is remembered, and is "never" where there is no panel. */
static void test_tune(void **state)
{
    (void)state;
    const struct kernel *k = kernel_select(QUANT_Q4_K, cpu_isa());
    const uint32_t from = kernels_tune(k, false);
    assert_true(from >= 8);
    assert_int_equal(kernels_tune(k, false), from);
    assert_int_equal(kernels_tune(kernel_ref(QUANT_F32), false), UINT32_MAX);
}

/* A NaN among the activations reaches every row, and that column alone. */
static void test_nan_surfaces(void **state)
{
    (void)state;
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        struct problem p;
        problem_init(&p, types[t], 512, W_RANDOM, A_NAN);
        for (uint32_t c = 0; c < COLS_MAX; c++) {
            for (uint32_t r = 0; r < ROWS_MAX; r++) {
                const float y = p.want[c * ROWS_MAX + r];
                assert_int_equal(y != y, c % 5 != 4);
            }
        }
        problem_fini(&p);
    }
}

/* ------------------------------------------------------------ accuracy */

/* The activations as the kernel saw them. */
static void dequantize_act(enum act_kind kind, const void *row, uint32_t k,
                           double *x)
{
    for (uint32_t i = 0; i < k; i++) {
        if (kind == ACT_F32) {
            x[i] = (double)((const float *)row)[i];
        } else if (kind == ACT_Q8_0) {
            const struct act_q8_0 *b = (const struct act_q8_0 *)row + i / 32;
            x[i] = (double)b->d * b->q[i % 32];
        } else {
            const struct act_q8_k *b = (const struct act_q8_k *)row + i / 256;
            x[i] = (double)b->d * b->q[i % 256];
        }
    }
}

/* No value of the sum passes through more than 64 roundings: F32 has most,
 * one product, 32 additions of a lane, 3 of lanes, at most 9 of the tree.  So
 * the error is below gamma_64 = 64u / (1 - 64u) times the sum of magnitudes
 * (Higham 2002, 3.1).  Offsets and minima are terms of their own: the weight
 * with all quants zero shows them. */
static void test_error_bound(void **state)
{
    (void)state;
    static float w[K_MAX], w0[K_MAX];
    static double x[K_MAX];
    double worst = 0;
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        const enum quant_type type = types[t];
        struct problem p;
        problem_init(&p, type, K_MAX, W_RANDOM, A_RANDOM);
        for (uint32_t r = 0; r < ROWS_MAX; r++) {
            uint8_t *row = p.rows + r * p.row_bytes;
            quant_dequantize_row(type, row, w, p.k);
            memset(w0, 0, sizeof w0);
            const struct quant_info *info = quant_info(type);
            for (uint32_t b = 0; info->block > 1 && b < p.k / info->block;
                 b++) {
                uint8_t block[256];
                memcpy(block, row + b * info->block_bytes, info->block_bytes);
                if (type == QUANT_Q4_K) memset(block + 16, 0, 128);
                if (type == QUANT_Q4_1) memset(block + 4, 0, 16);
                if (type == QUANT_Q4_0) memset(block + 2, 0, 16);
                if (type == QUANT_Q6_K) memset(block, 0, 192);
                if (type == QUANT_Q8_0) memset(block + 2, 0, 32);
                if (type == QUANT_Q5_0) memset(block + 2, 0, 20);
                if (type == QUANT_Q5_1) memset(block + 4, 0, 20);
                if (type == QUANT_Q2_K) memset(block + 16, 0, 64);
                if (type == QUANT_Q3_K) memset(block, 0, 96);
                if (type == QUANT_Q5_K) memset(block + 16, 0, 160);
                quant_dequantize_row(type, block, w0 + b * info->block,
                                     info->block);
            }
            for (uint32_t c = 0; c < COLS_MAX; c += 8) {
                dequantize_act(act_kind_of(type), p.act + c * p.act_stride, p.k,
                               x);
                double want = 0, mass = 0;
                for (uint32_t i = 0; i < p.k; i++) {
                    want += (double)w[i] * x[i];
                    mass += (fabs((double)w[i] - (double)w0[i]) +
                             fabs((double)w0[i])) *
                            fabs(x[i]);
                }
                const double got = (double)p.want[c * ROWS_MAX + r];
                const double error = fabs(got - want) / (mass * 0x1p-24);
                if (!(error <= 64)) {
                    fail_msg("%s: %a, not %a: %.1f units", info->name, got,
                             want, error);
                }
                worst = error > worst ? error : worst;
                assert_true(want != 0);
            }
        }
        problem_fini(&p);
    }
    print_message("largest error %.2f of 64 units\n", worst);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_other_architectures),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_blas_panels),
        cmocka_unit_test(test_tune),
        cmocka_unit_test(test_nan_surfaces),
        cmocka_unit_test(test_error_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

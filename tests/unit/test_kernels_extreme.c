/* test_kernels_extreme.c - every kernel of every level that this machine has,
 * and every OpenBLAS panel, where numbers are at their limits: sums as large
 * as they get (what saturates int16 if anything does), every special f16 scale
 * times every special activation scale, and the blocks of real models. One to
 * 33 columns, last leaves that are short, groups with missing rows; the
 * reference's bits each time. Random numbers, sizes and cuts are test_kernels'.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/compiler.h"
#include "engine/cpu.h"
#include "engine/gguf.h"
#include "engine/kernels_blas.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/testdata.h"

#define ROWS  19 /* a group of sixteen, and three rows of the next */
#define COLS  33
#define K_MAX 4096

static uint8_t rows[ROWS * K_MAX * 4];
static _Alignas(64) uint8_t packed[(ROWS + 16) * (K_MAX * 4 + 64)];
static _Alignas(64) uint8_t act[COLS * (K_MAX * 4 + 1024)];
static _Alignas(64) char scratch[KERNEL_SCRATCH];

static const enum quant_type types[] = {
    QUANT_F32,  QUANT_F16,  QUANT_BF16,   QUANT_Q8_0,   QUANT_Q4_0,
    QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1,   QUANT_Q2_K,   QUANT_Q3_K,
    QUANT_Q4_K, QUANT_Q5_K, QUANT_IQ4_NL, QUANT_IQ4_XS, QUANT_Q6_K};

/* --------------------------------------------------------- comparison */

static void product(const struct kernel *kernel, bool blas, uint32_t k,
                    uint32_t n_cols, float *y)
{
    const size_t row_bytes = (size_t)quant_row_bytes(kernel->type, k);
    const size_t bytes = kernel_group_bytes(kernel, k);
    const uint32_t groups = (ROWS + kernel->rows - 1) / kernel->rows;
    struct nm_tree tree;
    nm_tree_init(&tree, k);
    for (uint32_t g = 0; g < groups; g++) {
        const uint32_t first = g * kernel->rows, left = ROWS - first;
        kernel->pack(packed + g * bytes, rows + first * row_bytes, row_bytes,
                     left < kernel->rows ? left : kernel->rows, k);
    }
    const struct matmul_job job = {.w = packed,
                                   .act = act,
                                   .y = y,
                                   .tree = &tree,
                                   .scratch = scratch,
                                   .act_stride = act_row_bytes(kernel->act, k),
                                   .y_stride = ROWS,
                                   .k = k,
                                   .n_rows = ROWS,
                                   .group_end = groups,
                                   .n_cols = n_cols};
    if (blas) {
        kernel->matmul_blas(&job);
    } else {
        kernel->matmul(&job);
    }
}

/* NaN: the payload is free. */
static bool same(float a, float b)
{
    return a != a ? b != b : memcmp(&a, &b, sizeof a) == 0;
}

static void compare(const struct kernel *kernel, bool blas, uint32_t k,
                    uint32_t n_cols, const float *want, const char *what)
{
    static float got[COLS * ROWS];
    product(kernel, blas, k, n_cols, got);
    for (uint32_t i = 0; i < n_cols * ROWS; i++) {
        if (same(got[i], want[i])) continue;
        fail_msg("%s%s, %s, k %u, %u columns: row %u column %u is %a, not %a",
                 kernel->name, blas ? " panel" : "", what, k, n_cols, i % ROWS,
                 i / ROWS, (double)got[i], (double)want[i]);
    }
}

/* rows and act are filled. all: each number of columns, or some. Returns the
 * largest of what came out, to show that the case is what it says. */
static float check(enum quant_type type, uint32_t k, bool all, const char *what)
{
    static float want[COLS * ROWS];
    const struct kernel *last = NULL;
    product(kernel_ref(type), false, k, COLS, want);
    for (int isa = 0; isa <= (int)cpu_isa(); isa++) {
        const struct kernel *kernel = kernel_select(type, (enum isa)isa);
        if (kernel == last) continue;
        last = kernel;
        for (uint32_t n = 1; n <= COLS; n++) {
            if (!all && n > 3 && n != 8 && n != 9 && n != 17 && n != COLS) {
                continue;
            }
            if (isa > 0) compare(kernel, false, k, n, want, what);
            if (kernel->matmul_blas) compare(kernel, true, k, n, want, what);
        }
    }
    float top = 0;
    for (uint32_t i = 0; i < COLS * ROWS; i++) {
        if (fabsf(want[i]) > top) top = fabsf(want[i]);
    }
    return top;
}

/* -------------------------------------------------------------- blocks */

/* Where the f16 scales of a block are; how many. */
static size_t scales_of(enum quant_type type, size_t at[2])
{
    at[0] = type == QUANT_Q6_K   ? offsetof(struct block_q6_k, d)
            : type == QUANT_Q3_K ? offsetof(struct block_q3_k, d)
            : type == QUANT_Q2_K ? offsetof(struct block_q2_k, d)
                                 : 0;
    at[1] = at[0] + 2;
    return quant_info(type)->with_min ? 2 : 1;
}

static void set_scales(enum quant_type type, uint8_t *block, uint16_t d,
                       uint16_t dmin)
{
    size_t at[2];
    const size_t n = scales_of(type, at);
    memcpy(block + at[0], &d, 2);
    if (n == 2) memcpy(block + at[1], &dmin, 2);
}

/* The scale of an activation block. */
static void set_act_scales(enum quant_type type, uint32_t c, uint32_t k,
                           float d)
{
    const enum act_kind kind = act_kind_of(type);
    uint8_t *row = act + c * act_row_bytes(kind, k);
    for (uint32_t b = 0; kind == ACT_Q8_0 && b < k / 32; b++) {
        ((struct act_q8_0 *)(void *)row)[b].d = d;
    }
    for (uint32_t b = 0; kind == ACT_Q8_K && b < k / 256; b++) {
        ((struct act_q8_k *)(void *)row)[b].d = d;
    }
}

static uint32_t short_k(enum quant_type type)
{
    const uint32_t block = quant_info(type)->block;
    return block == 256 ? 768 : block == 32 ? 256 + 224 : 256 + 44;
}

/* ------------------------------------------------------------ largest */

/* Signs of the activations: all alike, alternating in each of the steps in
 * which kernels add, or those of the weights. */
static void fill_acts(enum quant_type type, uint32_t k)
{
    static float x[K_MAX];
    for (uint32_t c = 0; c < COLS; c++) {
        const uint32_t period = 1u << c % 10;
        for (uint32_t i = 0; i < k; i++) {
            const bool minus = c % 3 == 0   ? false
                               : c % 3 == 1 ? true
                                            : i / period % 2;
            x[i] = minus ? -3.0f : 3.0f; /* -127 or 127 */
        }
        act_quantize(act_kind_of(type), x, k,
                     act + c * act_row_bytes(act_kind_of(type), k));
    }
}

static void test_largest_sums(void **state)
{
    (void)state;
    /* nibbles, bits and scales at either end, or a mix of both */
    static const uint8_t bytes[] = {0x00, 0xff, 0x80, 0x7f, 0xf0,
                                    0x0f, 0xaa, 0x55, 0x88, 0x77};
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        const struct quant_info *info = quant_info(types[t]);
        if (info->block == 1) continue;
        const uint32_t k = short_k(types[t]);
        const size_t row_bytes = (size_t)quant_row_bytes(types[t], k);
        fill_acts(types[t], k);
        for (size_t p = 0; p < COUNT_OF(bytes); p++) {
            for (uint32_t r = 0; r < ROWS; r++) {
                uint8_t *row = rows + r * row_bytes;
                const uint8_t other = bytes[(p + r) % COUNT_OF(bytes)];
                for (size_t i = 0; i < row_bytes; i++) {
                    row[i] = r % 2 && i % 2 ? other : bytes[p];
                }
                for (uint32_t b = 0; b < k / info->block; b++) {
                    set_scales(types[t], row + b * info->block_bytes, 0x3c00,
                               r % 3 ? 0x3c00 : 0xbc00); /* 1, -1 */
                }
            }
            const float top = check(types[t], k, true, "largest sums");
            assert_true(top > 127 * 32);
        }
    }
}

/* ------------------------------------------------------------- scales */

static void test_special_scales(void **state)
{
    (void)state;
    static const uint16_t f16[] = {0x0000, 0x8000, 0x0001, 0x8001, 0x03ff,
                                   0x83ff, 0x0400, 0x3c00, 0x7bff, 0xfbff,
                                   0x7c00, 0xfc00, 0x7e00, 0xfe00, 0x7c01};
    static const float act_d[] = {0.0f,   1.0f,      0x1p-149f, 0x1p-127f,
                                  1e-30f, FLT_MAX,   0x1p100f,  INFINITY,
                                  NAN,    0x1p-126f, 3.0f};
    struct rng rng = {7};
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        const struct quant_info *info = quant_info(types[t]);
        if (info->block == 1) continue;
        const uint32_t k = short_k(types[t]);
        const size_t row_bytes = (size_t)quant_row_bytes(types[t], k);
        for (uint32_t round = 0; round < 4; round++) {
            for (size_t i = 0; i < ROWS * row_bytes; i++) {
                rows[i] = (uint8_t)rng_u64(&rng);
            }
            for (uint32_t r = 0; r < ROWS; r++) {
                for (uint32_t b = 0; b < k / info->block; b++) {
                    /* rounds 0, 1: one kind a row; then anything anywhere */
                    const uint64_t any = rng_u64(&rng);
                    const size_t d = round < 2 ? r : any, m = any >> 32;
                    set_scales(types[t],
                               rows + r * row_bytes + b * info->block_bytes,
                               f16[d % COUNT_OF(f16)], f16[m % COUNT_OF(f16)]);
                }
            }
            fill_acts(types[t], k);
            for (uint32_t c = 0; c < COLS; c++) {
                const size_t d = round % 2 ? rng_u64(&rng) : c;
                set_act_scales(types[t], c, k, act_d[d % COUNT_OF(act_d)]);
            }
            check(types[t], k, round == 0, "special scales");
        }
    }
}

/* Floats have no scales; their own special values. */
static void test_special_floats(void **state)
{
    (void)state;
    static const float values[] = {0.0f,      -0.0f,    0x1p-149f, -0x1p-149f,
                                   0x1p-127f, FLT_MAX,  -FLT_MAX,  1.0f,
                                   -65504.0f, 0x1p-24f, INFINITY,  NAN};
    struct rng rng = {9};
    static float x[K_MAX];
    for (size_t t = 0; t < 3; t++) {
        const uint32_t k = short_k(types[t]);
        const size_t row_bytes = (size_t)quant_row_bytes(types[t], k);
        for (uint32_t round = 0; round < 6; round++) {
            /* without infinities and NaN, that sums may show something */
            const size_t n = COUNT_OF(values) - (round % 3 ? 2 : 0);
            for (uint32_t r = 0; r < ROWS + COLS; r++) {
                for (uint32_t i = 0; i < k; i++) {
                    const uint64_t any = rng_u64(&rng);
                    x[i] = any % 4 ? rig_uniform(&rng) : values[any / 4 % n];
                    if (round % 3 == 2 && r % 5 == 0) x[i] = -0.0f;
                }
                if (r < ROWS) {
                    quant_quantize_row(types[t], x, rows + r * row_bytes, k);
                } else {
                    act_quantize(ACT_F32, x, k,
                                 act + (r - ROWS) * act_row_bytes(ACT_F32, k));
                }
            }
            check(types[t], k, round == 0, "special floats");
        }
    }
}

/* --------------------------------------------------------------- real */

/* The first and the last rows of each matrix. Returns how many matrices. */
static uint32_t check_model(const char *path, uint32_t every)
{
    struct gguf *g;
    struct rng rng = {11};
    static float x[K_MAX];
    uint32_t n = 0;
    assert_ok(gguf_open(&g, path, &rig_err));
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor(g, i);
        const enum quant_type type = (enum quant_type)t->type;
        if (t->ne[1] < ROWS || t->ne[0] > K_MAX || i % every != 0) continue;
        const uint32_t k = (uint32_t)t->ne[0];
        const size_t bytes = ROWS * (size_t)quant_row_bytes(type, k);
        for (uint32_t c = 0; c < COLS; c++) {
            for (uint32_t j = 0; j < k; j++) x[j] = rig_normal(&rng);
            act_quantize(act_kind_of(type), x, k,
                         act + c * act_row_bytes(act_kind_of(type), k));
        }
        for (int end = 0; end < 2; end++) {
            const uint64_t from = end ? t->n_bytes - bytes : 0;
            assert_ok(gguf_read(g, t, from, rows, bytes, &rig_err));
            assert_true(check(type, k, false, t->name) > 0);
        }
        n++;
    }
    gguf_close(g);
    return n;
}

static void test_bundled_model(void **state)
{
    (void)state;
    assert_true(check_model("deploy/demo/potluck-demo.gguf", 2) > 10);
}

static void test_outside_models(void **state)
{
    (void)state;
    static const char *const names[] = {
        "stories260K",           "stories260K-moe",
        "stories260K-tied-f16",  "tinystories-656k-Q4_0",
        "tinystories-656k-Q4_1", "tinystories-656k-Q8_0",
        "tinystories-656k-f32"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char path[4096];
        testdata_path(path, "models", names[i], ".gguf");
        assert_true(check_model(path, 1) > 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_largest_sums),
        cmocka_unit_test(test_special_scales),
        cmocka_unit_test(test_special_floats),
        cmocka_unit_test(test_bundled_model),
        cmocka_unit_test(test_outside_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

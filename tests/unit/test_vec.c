/* test_vec.c - the vector tables and activation quantizers of this machine
 * equal the reference bit for bit. */
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
#include "engine/vec.h"

#define N_MAX    300
#define ROWS_MAX 9

static struct rng rng = {.state = 42};

static float random_float(void)
{
    return (float)(8 * rng_unit(rng_u64(&rng)) - 4);
}

/* Any bits: infinities, NaNs, denormals. */
static float random_bits(void)
{
    const uint32_t bits = (uint32_t)rng_u64(&rng);
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
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

static void check(const char *what, const float *got, const float *want,
                  size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!same(got[i], want[i])) {
            fail_msg("%s: element %zu of %zu is %a, not %a", what, i, n,
                     (double)got[i], (double)want[i]);
        }
    }
}

static const struct vec_ops *ref(void)
{
    return vec_ops_select(ISA_REF);
}

/* Every table above the reference, through `one`. */
static void each(void (*one)(const struct vec_ops *ops, uint32_t n))
{
    for (int isa = 1; isa <= (int)cpu_isa(); isa++) {
        if (!cpu_runs((enum isa)isa)) continue;
        for (uint32_t n = 0; n <= N_MAX; n += n < 70 ? 1 : 23) {
            one(vec_ops_select((enum isa)isa), n);
        }
    }
}

/* ---------------------------------------------------------- attention */

static float q[N_MAX + 1], rows32[ROWS_MAX * (N_MAX + 3) + 1];
static uint16_t rows16[ROWS_MAX * (N_MAX + 3) + 1];

static void fill_rows(void)
{
    for (size_t i = 0; i < COUNT_OF(q); i++) q[i] = random_float();
    for (size_t i = 0; i < COUNT_OF(rows32); i++) {
        rows32[i] = random_float();
        rows16[i] = f32_to_f16(rows32[i] * (i % 7 ? 1.0f : 0x1p-17f));
    }
}

static void one_dots(const struct vec_ops *ops, uint32_t n)
{
    fill_rows();
    for (uint32_t rows = 0; rows <= ROWS_MAX; rows++) {
        float got[ROWS_MAX + 1] = {0}, want[ROWS_MAX + 1] = {0};
        const size_t stride = n + rows % 4;
        /* one past the start: no alignment is promised */
        ops->dot_rows_f32(got, q + 1, rows32 + 1, stride, rows, n);
        ref()->dot_rows_f32(want, q + 1, rows32 + 1, stride, rows, n);
        check("dot_rows_f32", got, want, COUNT_OF(got));
        for (uint32_t t = 0; t < rows && n <= NM_LEAF; t++) {
            const float dot = nm_leaf_f32(q + 1, rows32 + 1 + t * stride, n);
            assert_true(same(want[t], dot));
        }
        ops->dot_rows_f16(got, q + 1, rows16 + 1, stride, rows, n);
        ref()->dot_rows_f16(want, q + 1, rows16 + 1, stride, rows, n);
        check("dot_rows_f16", got, want, COUNT_OF(got));
    }
}

static void one_axpys(const struct vec_ops *ops, uint32_t n)
{
    fill_rows();
    for (uint32_t rows = 0; rows <= ROWS_MAX; rows++) {
        float got[N_MAX + 2], want[N_MAX + 2];
        const size_t stride = n + rows % 4;
        for (int f16 = 0; f16 < 2; f16++) {
            for (size_t i = 0; i < COUNT_OF(got); i++) {
                got[i] = want[i] = random_float();
            }
            if (f16) {
                ops->axpy_rows_f16(got + 1, q, rows16 + 1, stride, rows, n);
                ref()->axpy_rows_f16(want + 1, q, rows16 + 1, stride, rows, n);
            } else {
                ops->axpy_rows_f32(got + 1, q, rows32 + 1, stride, rows, n);
                ref()->axpy_rows_f32(want + 1, q, rows32 + 1, stride, rows, n);
            }
            check(f16 ? "axpy_rows_f16" : "axpy_rows_f32", got, want,
                  COUNT_OF(got));
        }
    }
}

static void test_dots(void **state)
{
    (void)state;
    each(one_dots);
}

static void test_axpys(void **state)
{
    (void)state;
    each(one_axpys);
}

/* ----------------------------------------------------------- functions */

static void one_functions(const struct vec_ops *ops, uint32_t n)
{
    static const float edges[] = {0,      -0.0f,     88.7f,  88.8f,  -87.3f,
                                  -87.4f, -INFINITY, NAN,    1e-40f, 10,
                                  -10,    0.625f,    18.75f, -9.99f, 1e30f};
    float x[N_MAX + 2], u[N_MAX + 2], got[N_MAX + 2], want[N_MAX + 2];
    for (int kind = 0; kind < 4; kind++) {
        for (size_t i = 0; i < COUNT_OF(x); i++) {
            x[i] = kind == 0   ? random_float()
                   : kind == 1 ? random_float() * 25
                   : kind == 2 ? random_bits()
                               : edges[rng_below(&rng, COUNT_OF(edges))];
            u[i] = random_float();
        }
        memset(got, 0, sizeof got);
        memset(want, 0, sizeof want);
        ops->silu_mul(got + 1, x + 1, u + 1, n);
        ref()->silu_mul(want + 1, x + 1, u + 1, n);
        check("silu_mul", got, want, COUNT_OF(got));
        ops->gelu_mul(got + 1, x + 1, u + 1, n);
        ref()->gelu_mul(want + 1, x + 1, u + 1, n);
        check("gelu_mul", got, want, COUNT_OF(got));
        memcpy(got, x, sizeof got);
        memcpy(want, x, sizeof want);
        const float cap = kind == 0 ? 1 : 30;
        ops->soft_cap(got + 1, cap, n);
        ref()->soft_cap(want + 1, cap, n);
        check("soft_cap", got, want, COUNT_OF(got));
        const float m = kind == 3 ? 0 : x[0];
        ops->exp_row(got + 1, x + 1, m, n);
        ref()->exp_row(want + 1, x + 1, m, n);
        check("exp_row", got, want, COUNT_OF(got));
        ops->scale(got + 1, 1.7f, n);
        ref()->scale(want + 1, 1.7f, n);
        check("scale", got, want, COUNT_OF(got));
        memcpy(got, x, sizeof got);
        ops->exp_row(got + 1, got + 1, m, n); /* in place */
        ref()->exp_row(want + 1, x + 1, m, n);
        check("exp_row in place", got + 1, want + 1, n);
    }
}

static void test_functions(void **state)
{
    (void)state;
    each(one_functions);
}

/* --------------------------------------------------------- activations */

#define K 1280

static void check_quantize(const struct vec_ops *ops, enum act_kind kind,
                           const float *x)
{
    _Alignas(64) static uint8_t got[K * 4 + 64], want[K * 4 + 64];
    memset(got, 0x5a, sizeof got);
    memset(want, 0x5a, sizeof want);
    ops->act_quantize(kind, x, K, got);
    act_quantize(kind, x, K, want);
    /* compare d apart: a NaN's payload is free */
    const size_t step = kind == ACT_Q8_0 ? 40 : kind == ACT_Q8_K ? 292 : 4;
    for (size_t at = 0; at + step <= act_row_bytes(kind, K); at += step) {
        float a, b;
        memcpy(&a, got + at, sizeof a);
        memcpy(&b, want + at, sizeof b);
        if (!same(a, b)) {
            fail_msg("%s kind %d: d is %a, not %a", ops->name, (int)kind,
                     (double)a, (double)b);
        }
        memcpy(got + at, want + at, 4);
    }
    assert_memory_equal(got, want, sizeof got);
}

static void test_act_quantize(void **state)
{
    (void)state;
    static float x[K + 1];
    for (int isa = 1; isa <= (int)cpu_isa(); isa++) {
        if (!cpu_runs((enum isa)isa)) continue;
        const struct vec_ops *ops = vec_ops_select((enum isa)isa);
        for (int round = 0; round < 400; round++) {
            for (size_t i = 0; i < COUNT_OF(x); i++) {
                const uint64_t dice = rng_below(&rng, 64);
                x[i] = random_float();
                if (round % 8 == 1) x[i] = random_bits();
                if (round % 8 == 2) x[i] *= 0x1p-104f; /* around 2^-100 */
                if (round % 8 == 3) x[i] = i / 32 % 2 ? 0 : x[i];
                if (round % 8 == 4 && dice == 0) x[i] = NAN;
                if (round % 8 == 5 && dice == 0) x[i] = -INFINITY;
                if (round % 8 == 6) x[i] = (float)(int)(x[i] * 32) * 0.5f;
                if (round % 8 == 7) x[i] = x[i] < 0 ? -0x1p127f : 0x1p127f;
            }
            for (int kind = 0; kind < (int)ACT_KIND_END; kind++) {
                check_quantize(ops, (enum act_kind)kind, x + round % 2);
            }
        }
    }
}

/* Halves round to even, the extremes are +-127, sums are sums. */
static void test_act_values(void **state)
{
    (void)state;
    float x[256] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -127};
    static const int8_t want[] = {127, 0, 2, 2, 0, -2, -127};
    _Alignas(64) uint8_t row[320];
    act_quantize(ACT_Q8_K, x, 256, row);
    const struct act_q8_k *k = (const void *)row;
    assert_true(same(k->d, 1));
    assert_memory_equal(k->q, want, sizeof want);
    assert_int_equal(k->sum[0], 2);
    assert_int_equal(k->sum[1], 0);
    act_quantize(ACT_Q8_0, x, 32, row);
    const struct act_q8_0 *b = (const void *)row;
    assert_memory_equal(b->q, want, sizeof want);
    assert_int_equal(b->sum, 2);

    for (size_t i = 0; i < 256; i++) x[i] = 0x1p-101f;
    act_quantize(ACT_Q8_K, x, 256, row);
    assert_true(same(k->d, 0));
    x[200] = INFINITY;
    act_quantize(ACT_Q8_K, x, 256, row);
    assert_true(k->d != k->d);
    for (int i = 0; i < 256; i++) assert_int_equal(k->q[i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dots),       cmocka_unit_test(test_axpys),
        cmocka_unit_test(test_functions),  cmocka_unit_test(test_act_quantize),
        cmocka_unit_test(test_act_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

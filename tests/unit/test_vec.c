/* test_vec.c - every vector table that this machine can run equals the
 * reference bit for bit. */
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
#include "engine/quant_f16.h"
#include "engine/vec.h"

#define N_MAX 300

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
    return vec_ops_ref();
}

/* The tables that this machine can run, the reference apart. */
static size_t tables(const struct vec_ops *out[])
{
    const struct vec_ops *const all[] = {
        cpu_runs(ISA_SSE4) ? vec_ops_sse4() : NULL,
        cpu_runs(ISA_AVX) ? vec_ops_avx() : NULL,
        cpu_has_f16c() ? vec_ops_f16c() : NULL,
        cpu_runs(ISA_AVX2) ? vec_ops_avx2() : NULL,
        cpu_runs(ISA_AVX512VNNI) ? vec_ops_avx512vnni() : NULL,
        cpu_runs(ISA_NEON) ? vec_ops_neon() : NULL,
    };
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (all[i]) out[n++] = all[i];
    }
    return n;
}

/* Every table, through `one`. */
static void each(void (*one)(const struct vec_ops *ops, uint32_t n))
{
    const struct vec_ops *ops[ISA_END];
    const size_t n_tables = tables(ops);
    for (size_t i = 0; i < n_tables; i++) {
        for (uint32_t n = 0; n <= N_MAX; n += n < 70 ? 1 : 23) one(ops[i], n);
    }
}

/* Each level has the table of its own. */
static void test_select(void **state)
{
    (void)state;
    static const char *const names[ISA_END] = {
        "ref", "sse4", NULL, "avx2", "avx2", "avx512vnni", "neon", "neon"};
    for (enum isa isa = ISA_REF; isa <= cpu_isa(); isa++) {
        if (!cpu_runs(isa)) continue;
        const char *want = names[isa];
        if (isa == ISA_AVX) want = cpu_has_f16c() ? "f16c" : "avx";
        assert_string_equal(vec_ops_select(isa)->name, want);
    }
}

/* ---------------------------------------------------------- attention */

#define DIM_MAX     256
#define QUERIES_MAX 11
#define WIDE        (VEC_BLOCK * DIM_MAX)

enum kind { K_RANDOM, K_DENORMAL, K_ZERO, K_ODD, K_END };

static float some_float(enum kind kind)
{
    static const float odd[] = {0, -0.0f, INFINITY, -INFINITY, NAN, 1e-40f};
    const float x = random_float();
    if (kind == K_DENORMAL) return x * 0x1p-127f;
    if (kind == K_ZERO) return x < 0 ? -0.0f : 0;
    if (kind == K_ODD && rng_below(&rng, 40) == 0) {
        return odd[rng_below(&rng, COUNT_OF(odd))];
    }
    return x;
}

/* Rows of the cache in each of its types. */
static struct {
    float f32[WIDE + 1];
    uint16_t f16[WIDE + 1];
    struct block_q8_0 q8_0[WIDE / 32];
} rows;

static void fill_rows(enum kind kind)
{
    for (size_t i = 0; i < WIDE; i++) {
        rows.f32[i + 1] = some_float(kind);
        const float h =
            kind == K_DENORMAL ? random_float() * 0x1p-17f : rows.f32[i + 1];
        rows.f16[i + 1] = f32_to_f16_inline(h);
    }
    for (size_t i = 0; i < COUNT_OF(rows.q8_0); i++) {
        rows.q8_0[i].d = rows.f16[i + 1];
        for (int j = 0; j < 32; j++) {
            const int q = (int)rng_below(&rng, 255) - 127;
            rows.q8_0[i].qs[j] = (int8_t)(kind == K_ZERO ? 127 : q);
        }
    }
}

/* As the cache has them: not aligned, but for q8_0. */
static const void *rows_of(int type)
{
    if (type == 0) return rows.f32 + 1;
    return type == 1 ? (const void *)(rows.f16 + 1) : rows.q8_0;
}

struct block {
    _Alignas(64) float keys[WIDE], values[WIDE], s[QUERIES_MAX * VEC_BLOCK];
    float m[QUERIES_MAX], l[QUERIES_MAX], c[QUERIES_MAX];
    float o[QUERIES_MAX * DIM_MAX];
};

static void run_block(const struct vec_ops *ops, struct block *b, int type,
                      const float *q, const struct act_q8_0 *acts, uint32_t nq,
                      uint32_t n_rows, uint32_t dim, float cap)
{
    ops->keys[type](b->keys, rows_of(type), n_rows, dim);
    if (type == 2)
        ops->dots_q8_0(b->s, acts, nq, b->keys, n_rows, dim);
    else
        ops->dots(b->s, q, nq, b->keys, n_rows, dim);
    ops->values[type](b->values, rows_of(type), n_rows, dim);
    /* from some position on, as a window wants it */
    const uint32_t from = n_rows > 3 ? n_rows % 3 : 0;
    float scores[QUERIES_MAX * VEC_BLOCK];
    memcpy(scores, b->s, sizeof scores);
    ops->softmax(b->s + from, nq, n_rows - from, 0.125f, cap, b->m, b->l, b->c);
    ops->add_values(b->o, b->c, b->s + from, nq,
                    b->values + from * vec_width(dim), n_rows - from, dim);
    for (uint32_t i = 0; i < nq * VEC_BLOCK; i++) {
        if (i % VEC_BLOCK < from) b->s[i] = scores[i];
    }
}

static void check_block(const struct vec_ops *ops, enum kind kind, uint32_t nq,
                        uint32_t n_rows, uint32_t dim, float cap)
{
    static struct block got, want;
    static float q[QUERIES_MAX * DIM_MAX];
    static struct act_q8_0 acts[QUERIES_MAX * DIM_MAX / 32];
    const uint32_t width = vec_width(dim);
    fill_rows(kind);
    for (uint32_t i = 0; i < nq * width; i++) {
        q[i] = i % width < dim ? some_float(kind) : 0;
    }
    for (int type = 0; type < VEC_ROW_TYPES; type++) {
        if (type == 2 && dim % 32 != 0) continue;
        for (uint32_t i = 0; type == 2 && i < nq; i++) {
            act_quantize(ACT_Q8_0, q + i * width, dim, acts + i * (dim / 32));
        }
        memset(&got, 0, sizeof got);
        for (uint32_t i = 0; i < nq; i++) {
            got.m[i] = i % 3 ? random_float() : -INFINITY;
            got.l[i] = i % 3 ? 1 + random_float() : 0;
            for (uint32_t d = 0; d < dim && i % 3; d++) {
                got.o[i * width + d] = some_float(kind);
            }
        }
        want = got;
        run_block(ops, &got, type, q, acts, nq, n_rows, dim, cap);
        run_block(ref(), &want, type, q, acts, nq, n_rows, dim, cap);
        for (uint32_t i = 0; i < nq; i++) {
            check("weights", got.s + i * VEC_BLOCK, want.s + i * VEC_BLOCK,
                  n_rows);
            check("outputs", got.o + i * width, want.o + i * width, dim);
        }
        for (uint32_t i = 0; i < nq; i++) assert_true(got.m[i] == want.m[i]);
        check("sums", got.l, want.l, nq);
        check("factors", got.c, want.c, nq);
        for (uint32_t t = 0; t < n_rows; t++) {
            check("values", got.values + t * width, want.values + t * width,
                  dim);
        }
    }
}

static void test_attention(void **state)
{
    (void)state;
    static const uint32_t dims[] = {1, 8, 20, 32, 64, 96, 112, 128, 256};
    const struct vec_ops *ops[ISA_END];
    const size_t n = tables(ops);
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < COUNT_OF(dims); d++) {
            for (uint32_t n_rows = 1; n_rows <= VEC_BLOCK; n_rows++) {
                const uint32_t nq = 1 + n_rows % QUERIES_MAX;
                const enum kind kind = (enum kind)(n_rows % K_END);
                check_block(ops[i], kind, nq, n_rows, dims[d],
                            n_rows % 5 ? 0 : 3);
            }
            for (int kind = 0; kind < K_END; kind++) {
                check_block(ops[i], (enum kind)kind, QUERIES_MAX, VEC_BLOCK,
                            dims[d], 0);
            }
        }
    }
}

/* The reference's own scores are the leaves of the definition. */
static void test_scores(void **state)
{
    (void)state;
    fill_rows(K_RANDOM);
    float q[96], s[VEC_BLOCK];
    static float keys[WIDE];
    for (size_t i = 0; i < COUNT_OF(q); i++) q[i] = random_float();
    ref()->keys[0](keys, rows_of(0), 7, 96);
    ref()->dots(s, q, 1, keys, 7, 96);
    for (uint32_t t = 0; t < 7; t++) {
        assert_true(same(s[t], nm_leaf_f32(q, rows.f32 + 1 + t * 96, 96)));
    }
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
        ops->scale(got + 1, x + 1, 1.7f, n);
        ref()->scale(want + 1, x + 1, 1.7f, n);
        check("scale", got, want, COUNT_OF(got));
        ops->add(got + 1, u + 1, n);
        ref()->add(want + 1, u + 1, n);
        check("add", got, want, COUNT_OF(got));
        ops->merge(got + 1, x + 1, 0.3f, 1.9f, n);
        ref()->merge(want + 1, x + 1, 0.3f, 1.9f, n);
        check("merge", got, want, COUNT_OF(got));
        memcpy(got, x, sizeof got);
        ops->exp_row(got + 1, got + 1, m, n); /* in place */
        ref()->exp_row(want + 1, x + 1, m, n);
        check("exp_row in place", got + 1, want + 1, n);
    }
}

/* Those that give one number, and f16. */
static void one_sums(const struct vec_ops *ops, uint32_t n)
{
    float x[N_MAX + 1];
    uint16_t got[N_MAX + 2] = {0}, want[N_MAX + 2] = {0};
    for (int kind = 0; kind < 4; kind++) {
        for (size_t i = 0; i < COUNT_OF(x); i++) {
            x[i] = kind == 0 ? random_bits() : some_float((enum kind)kind);
            if (kind == 2) x[i] = random_float();
        }
        const float m = kind == 1 ? -INFINITY : 0.5f;
        assert_true(ops->largest(x + 1, n, m) == ref()->largest(x + 1, n, m));
        assert_true(same(ops->sum_lanes(x + 1, n), ref()->sum_lanes(x + 1, n)));
        assert_int_equal(ops->all_finite(x + 1, n),
                         ref()->all_finite(x + 1, n));
        if (n > 0 && kind == 2) { /* one of many */
            static const float bad[] = {NAN, INFINITY, -INFINITY};
            x[1 + rng_below(&rng, n)] = bad[n % 3];
            assert_false(ops->all_finite(x + 1, n));
        }
        ops->to_f16(got + 1, x + 1, n);
        ref()->to_f16(want + 1, x + 1, n);
        for (uint32_t i = 0; i < N_MAX + 2; i++) {
            assert_true(same(f16_to_f32(got[i]), f16_to_f32(want[i])));
        }
    }
}

/* Whole rows of several leaves; heads of pairs. */
static void one_rows(const struct vec_ops *ops, uint32_t n)
{
    enum { BIG = 9 * NM_LEAF };
    static float x[BIG + 1], w[BIG + 1], got[BIG + 1], want[BIG + 1];
    const uint32_t len = n == 0 ? BIG : n < 10 ? n * NM_LEAF : n * 7 % BIG + 1;
    for (size_t i = 0; i < COUNT_OF(x); i++) {
        x[i] = n % 9 == 8 ? some_float(K_ODD) : random_float();
        w[i] = random_float();
    }
    ops->rmsnorm(x + 1, w + 1, 1e-5f, len, got);
    ref()->rmsnorm(x + 1, w + 1, 1e-5f, len, want);
    check("rmsnorm", got, want, len);
    memcpy(got, x, sizeof got);
    memcpy(want, x, sizeof want);
    ops->rope_halves(got + 1, w + 1, n);
    ref()->rope_halves(want + 1, w + 1, n);
    check("rope_halves", got, want, COUNT_OF(got));
    ops->rope_pairs(got + 1, w + 1, n);
    ref()->rope_pairs(want + 1, w + 1, n);
    check("rope_pairs", got, want, COUNT_OF(got));
}

static void test_functions(void **state)
{
    (void)state;
    each(one_functions);
}

static void test_sums(void **state)
{
    (void)state;
    each(one_sums);
}

static void test_rows(void **state)
{
    (void)state;
    each(one_rows);
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
    const struct vec_ops *all[ISA_END];
    const size_t n = tables(all);
    for (size_t t = 0; t < n; t++) {
        const struct vec_ops *ops = all[t];
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
        cmocka_unit_test(test_select),       cmocka_unit_test(test_attention),
        cmocka_unit_test(test_scores),       cmocka_unit_test(test_functions),
        cmocka_unit_test(test_sums),         cmocka_unit_test(test_rows),
        cmocka_unit_test(test_act_quantize), cmocka_unit_test(test_act_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

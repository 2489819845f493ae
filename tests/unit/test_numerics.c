/* test_numerics.c - the tree, the lanes, and the error of our functions
 * against the C library's in higher precision. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/compiler.h"
#include "common/rng.h"
#include "engine/numerics.h"
#include "engine/quant.h"

static struct rng rng = {.state = 5};

static double uniform(double low, double high)
{
    return low + (high - low) * rng_unit(rng_u64(&rng));
}

/* ---------------------------------------------------------------- tree */

/* NUMERICS 1, in words of its own. */
static float tree_by_definition(const float *leaf, uint32_t a, uint32_t b)
{
    if (b == a + 1) return leaf[a];
    const uint32_t m = a + (b - a + 1) / 2;
    return tree_by_definition(leaf, a, m) + tree_by_definition(leaf, m, b);
}

/* The program over leaves [first, end) of a stack; the deepest stack. */
static float run_program(const struct nm_tree *tree, const float *leaf,
                         uint32_t *deepest)
{
    float stack[NM_DEPTH_MAX];
    uint32_t top = 0;
    for (uint32_t i = 0; i < tree->n_leaves; i++) {
        float v = leaf[i];
        for (uint32_t m = 0; m < tree->merges[i]; m++) v = stack[--top] + v;
        assert_true(top < NM_DEPTH_MAX);
        stack[top++] = v;
        if (top > *deepest) *deepest = top;
    }
    assert_int_equal(top, 1);
    return stack[0];
}

static void fill_leaves(float *leaf, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        leaf[i] = (float)uniform(-1, 1) * (i % 3 ? 1.0f : 1e4f);
    }
}

static void test_tree_program(void **state)
{
    (void)state;
    static float leaf[NM_LEAVES_MAX];
    uint32_t deepest = 0;
    for (uint32_t n = 1; n <= NM_LEAVES_MAX; n += n < 130 ? 1 : 191) {
        fill_leaves(leaf, n);
        struct nm_tree tree;
        nm_tree_init(&tree, (n - 1) * NM_LEAF + 1 + (n * 37) % NM_LEAF);
        assert_int_equal(tree.n_leaves, n);
        const float want = tree_by_definition(leaf, 0, n);
        assert_true(run_program(&tree, leaf, &deepest) == want);
        assert_true(nm_tree_sum(leaf, n) == want);
    }
    assert_true(deepest <= NM_DEPTH_MAX);
    assert_true(deepest >= 9);
}

/* The value of node [a, b) from the partials of the holders [0, cut) and
 * [cut, n): each gives the maximal subtrees inside its range. */
static float combine(const float *leaf, uint32_t a, uint32_t b, uint32_t cut,
                     uint32_t *n_partials)
{
    if (b <= cut || a >= cut) {
        ++*n_partials;
        return nm_tree_sum(leaf + a, b - a);
    }
    const uint32_t m = a + (b - a + 1) / 2;
    const float low = combine(leaf, a, m, cut, n_partials);
    return low + combine(leaf, m, b, cut, n_partials);
}

static void test_partial_subtrees(void **state)
{
    (void)state;
    float leaf[64];
    bool order_matters = false;
    for (uint32_t n = 2; n <= 64; n++) {
        fill_leaves(leaf, n);
        const float want = nm_tree_sum(leaf, n);
        for (uint32_t cut = 1; cut < n; cut++) {
            uint32_t n_partials = 0;
            assert_true(combine(leaf, 0, n, cut, &n_partials) == want);
            assert_true(n_partials <= 12); /* two a level at most */
        }
        float sequential = 0;
        for (uint32_t i = 0; i < n; i++) sequential += leaf[i];
        order_matters = order_matters || sequential != want;
    }
    assert_true(order_matters); /* else this test would prove nothing */
}

static void test_lanes(void **state)
{
    (void)state;
    float a[NM_LEAF], b[NM_LEAF];
    for (uint32_t n = 0; n <= NM_LEAF; n++) {
        float lane[8] = {0};
        for (uint32_t i = 0; i < n; i++) {
            a[i] = (float)uniform(-1, 1);
            b[i] = (float)uniform(-1, 1);
            lane[i % 8] += a[i] * b[i];
        }
        const float want = ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
                           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
        assert_true(nm_leaf_f32(a, b, n) == want);
    }
}

/* ----------------------------------------------------------- functions */

/* |got - want| in units of the last place of want as an f32. */
static double ulp32(float got, double want)
{
    int e;
    frexp(want, &e);
    return fabs((double)got - want) / ldexp(1, (e < -125 ? -125 : e) - 24);
}

static void test_exp32(void **state)
{
    (void)state;
    double worst = 0;
    for (int i = 0; i < 400000; i++) {
        const float x = (float)uniform(-87.3, 88.7);
        const double u = ulp32(nm_exp(x), exp((double)x));
        worst = u > worst ? u : worst;
    }
    print_message("exp: %.3f ulp\n", worst);
    assert_true(worst <= 2);
    assert_true(nm_exp(0) == 1 && nm_exp(-0.0f) == 1);
    assert_true(nm_exp(-87.4f) == 0 && nm_exp(-INFINITY) == 0);
    assert_true(nm_exp(88.8f) == INFINITY && nm_exp(INFINITY) == INFINITY);
    assert_true(isfinite(nm_exp(88.7f)) && nm_exp(-87.3f) > 0);
    assert_true(isnan(nm_exp(NAN)));
}

static void test_log32_and_silu(void **state)
{
    (void)state;
    double worst = 0, silu = 0;
    for (int i = 0; i < 100000; i++) {
        const float x = (float)exp(uniform(-87, 88));
        const double u = ulp32(nm_log(x), log((double)x));
        worst = u > worst ? u : worst;
        const float g = (float)uniform(-80, 80);
        const double s = ulp32(nm_silu(g), g / (1 + exp(-(double)g)));
        silu = s > silu ? s : silu;
    }
    print_message("log: %.3f ulp, silu: %.3f ulp\n", worst, silu);
    assert_true(worst <= 0.51); /* f64, rounded once */
    assert_true(silu <= 4);     /* exp 2, sum and quotient 1 each */
    assert_true(nm_log(0) == -INFINITY && isnan(nm_log(-1)));
    assert_true(nm_log(1) == 0 && isnan(nm_log(NAN)));
    assert_true(nm_log(INFINITY) == INFINITY);
    assert_true(nm_silu(0) == 0 && isnan(nm_silu(NAN)));
}

static void test_tanh32_and_gelu(void **state)
{
    (void)state;
    double worst = 0, cap = 0;
    for (int i = 0; i < 200000; i++) {
        const float x = (float)(uniform(-1, 1) * exp(uniform(-20, 3)));
        worst = fmax(worst, ulp32(nm_tanh(x), tanh((double)x)));
        const double want = 30 * tanh((double)x / 30);
        cap = fmax(cap, fabs((double)nm_soft_cap(x, 30) / want - 1));
        const float g = (float)uniform(-12, 12);
        const double r = (double)f16_to_f32(f32_to_f16(g));
        const double inner = sqrt(2 / acos(-1)) * (r + 0.044715 * r * r * r);
        const double gelu = 0.5 * r * (1 + tanh(inner));
        /* half an ulp of f16, and what f32 lost before it */
        assert_true(fabs((double)nm_gelu(g) - gelu) <=
                    fabs(gelu) * 0x1p-11 + 3e-6);
    }
    print_message("tanh: %.3f ulp, soft-cap: 2^%.1f\n", worst, log2(cap));
    assert_true(worst <= 2);
    assert_true(cap <= 0x1p-21);
    assert_true(nm_tanh(0) == 0 && nm_tanh(-0.0f) == 0);
    assert_true(nm_tanh(INFINITY) == 1 && nm_tanh(-INFINITY) == -1);
    assert_true(isnan(nm_tanh(NAN)) && isnan(nm_gelu(NAN)));
    assert_true(nm_gelu(10.001f) == 10.001f && nm_gelu(-10) == 0);
    assert_true(nm_gelu(INFINITY) == INFINITY && nm_gelu(-INFINITY) == 0);
    assert_true(nm_soft_cap(INFINITY, 50) == 50);
}

static void test_f64(void **state)
{
    (void)state;
    double e = 0, l = 0, p = 0, s = 0;
    for (int i = 0; i < 200000; i++) {
        const double x = uniform(-700, 700), y = exp(uniform(-300, 300));
        /* libm's own error is below 2^-52 */
        e = fmax(e, fabs(nm_exp64(x) / exp(x) - 1));
        if (fabs(log(y)) > 1e-3) l = fmax(l, fabs(nm_log64(y) / log(y) - 1));
        const double base = uniform(2, 1e7), power = uniform(-1, 1);
        p = fmax(p, fabs(nm_pow64(base, power) / pow(base, power) - 1));
        const double a = uniform(-1, 1) * (i % 2 ? 0x1p20 : 100);
        double sine, cosine;
        nm_sincos64(a, &sine, &cosine);
        s = fmax(s, fmax(fabs(sine - sin(a)), fabs(cosine - cos(a))));
    }
    print_message("2^%.1f exp, 2^%.1f log, 2^%.1f pow, 2^%.1f sin, cos\n",
                  log2(e), log2(l), log2(p), log2(s));
    assert_true(e <= 0x1p-50);
    assert_true(l <= 0x1p-50);
    assert_true(p <= 0x1p-47);
    assert_true(s <= 0x1p-50);
    double sine, cosine;
    nm_sincos64(0x1.1p20, &sine, &cosine);
    assert_true(isnan(sine) && isnan(cosine));
    nm_sincos64(0, &sine, &cosine);
    assert_true(sine == 0 && cosine == 1);
}

static void test_rmsnorm(void **state)
{
    (void)state;
    float x[1000], w[1000], y[1000];
    for (uint32_t n = 1; n <= 1000; n += 37) {
        double ss = 0;
        for (uint32_t i = 0; i < n; i++) {
            x[i] = (float)uniform(-2, 2);
            w[i] = (float)uniform(0.5, 1.5);
            ss += (double)x[i] * (double)x[i];
        }
        nm_rmsnorm(x, w, 1e-5f, n, y);
        for (uint32_t i = 0; i < n; i++) {
            const double want =
                (double)x[i] / sqrt(ss / n + 1e-5) * (double)w[i];
            assert_true(fabs((double)y[i] - want) <= 64 * 0x1p-24 * fabs(want));
        }
    }
}

static void test_environment(void **state)
{
    (void)state;
    nm_assert_environment(); /* ends the program if it is not as it must be */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_program),
        cmocka_unit_test(test_partial_subtrees),
        cmocka_unit_test(test_lanes),
        cmocka_unit_test(test_exp32),
        cmocka_unit_test(test_log32_and_silu),
        cmocka_unit_test(test_tanh32_and_gelu),
        cmocka_unit_test(test_f64),
        cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

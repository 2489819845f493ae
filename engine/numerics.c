#include "engine/numerics.h"

#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/quant_f16.h"

/* -------------------------------------------------------------- tree */

/* Leaves [a, b) of the tree, appended to the program; returns b. */
static uint32_t program(struct nm_tree *tree, uint32_t a, uint32_t b)
{
    if (b - a == 1) {
        tree->merges[a] = 0;
        return b;
    }
    const uint32_t mid = a + (b - a + 1) / 2;
    program(tree, a, mid);
    program(tree, mid, b);
    tree->merges[b - 1]++; /* once the last leaf of the right half is in */
    return b;
}

void nm_tree_init(struct nm_tree *tree, uint32_t k)
{
    tree->n_leaves = (k + NM_LEAF - 1) / NM_LEAF;
    program(tree, 0, tree->n_leaves);
}

float nm_tree_sum(const float *leaves, uint32_t n)
{
    if (n == 1) return leaves[0];
    const uint32_t mid = (n + 1) / 2;
    const float low = nm_tree_sum(leaves, mid);
    return low + nm_tree_sum(leaves + mid, n - mid);
}

float nm_leaf_f32(const float *a, const float *b, uint32_t n)
{
    float lane[8] = {0};
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (uint32_t l = 0; l < 8; l++) lane[l] += a[i + l] * b[i + l];
    }
    for (uint32_t l = 0; i + l < n; l++) lane[l] += a[i + l] * b[i + l];
    return nm_lanes_sum(lane);
}

float nm_dot_f32(const float *a, const float *b, uint32_t k)
{
    float leaves[NM_LEAVES_MAX];
    uint32_t n = 0;
    for (uint32_t at = 0; at < k; at += NM_LEAF) {
        const uint32_t len = k - at < NM_LEAF ? k - at : NM_LEAF;
        leaves[n++] = nm_leaf_f32(a + at, b + at, len);
    }
    return nm_tree_sum(leaves, n);
}

/* --------------------------------------------------------- functions */

static float bits_f32(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static double bits_f64(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

/* Coefficients: the minimax fit of (e^r - 1 - r) / r^2 on |r| <= ln2 / 2 that
 * the Cephes library (S. Moshier) publishes for single precision. */
float nm_exp(float x)
{
    if (!(x >= -87.3f)) return x == x ? 0.0f : x;
    if (x > 88.7f) return INFINITY;
    /* Adding 1.5 * 2^23 rounds to an integer, ties to even. */
    const float n = (x * 0x1.715476p+0f + 0x1.8p23f) - 0x1.8p23f;
    const float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const float y = (p * (r * r) + r) + 1.0f;
    const int32_t e = (int32_t)n, half = e >> 1;
    return y * bits_f32((uint32_t)(half + 127) << 23) *
           bits_f32((uint32_t)(e - half + 127) << 23);
}

float nm_log(float x)
{
    if (x == 0) return -INFINITY;
    if (!(x > 0) || x == INFINITY) return x > 0 ? x : NAN;
    return (float)nm_log64((double)x);
}

float nm_silu(float x)
{
    return x / (1.0f + nm_exp(-x));
}

/* Coefficients for |x| < 0.625: the fit of (tanh x - x) / x^3 that Cephes
 * publishes for single precision. */
float nm_tanh(float x)
{
    const float a = fabsf(x);
    if (a < 0.625f) {
        const float z = x * x;
        float p = -5.70498872745e-3f;
        p = p * z + 2.06390887954e-2f;
        p = p * z - 5.37397155531e-2f;
        p = p * z + 1.33314422036e-1f;
        p = p * z - 3.33332819422e-1f;
        return (p * z) * x + x;
    }
    return copysignf(1.0f - 2.0f / (nm_exp(a + a) + 1.0f), x);
}

float nm_gelu(float x)
{
    if (!(x < 10.0f)) return x;
    if (x <= -10.0f) return 0.0f;
    const float r = f16_to_f32_inline(f32_to_f16_inline(x));
    const float t = (r * 0.7978845608f) * (1.0f + (r * 0.044715f) * r);
    const float y = (0.5f * r) * (1.0f + nm_tanh(t));
    return f16_to_f32_inline(f32_to_f16_inline(y));
}

float nm_soft_cap(float x, float cap)
{
    return nm_tanh(x * (1.0f / cap)) * cap;
}

static const double ln2_hi = 0x1.62e42feep-1; /* 33 bits: n * ln2_hi exact */
static const double ln2_lo = 0x1.a39ef35793c76p-33;

/* Taylor to degree 13: the next term is below 2^-57 for |r| <= ln2 / 2. */
double nm_exp64(double x)
{
    const double n = rint(x * 0x1.71547652b82fep+0);
    const double r = (x - n * ln2_hi) - n * ln2_lo;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    const double y = (p * (r * r) + r) + 1.0;
    return y * bits_f64((uint64_t)((int64_t)n + 1023) << 52);
}

/* log m = 2 artanh(s), s = (m - 1) / (m + 1), m in [sqrt 1/2, sqrt 2):
 * s^2 <= 0.0295, so twelve terms of the series leave less than 2^-60. */
double nm_log64(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int64_t e = (int64_t)(bits >> 52) - 1023;
    double m = bits_f64((bits & 0xfffffffffffffu) | UINT64_C(1023) << 52);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        e++;
    }
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 25.0;
    for (int k = 23; k >= 3; k -= 2) p = p * z + 1.0 / (double)k;
    const double n = (double)e;
    return n * ln2_hi + ((2.0 * s) + ((2.0 * s) * (z * p) + n * ln2_lo));
}

double nm_pow64(double base, double e)
{
    return nm_exp64(e * nm_log64(base));
}

/* pi / 2 in three parts of 33, 33 and 53 bits: n times each of the first two
 * is exact for |n| < 2^20. */
void nm_sincos64(double x, double *s, double *c)
{
    if (!(fabs(x) <= 0x1p20)) {
        *s = *c = (double)NAN;
        return;
    }
    const double n = rint(x * 0x1.45f306dc9c883p-1);
    const double r = ((x - n * 0x1.921fb544p+0) - n * 0x1.0b4611a6p-34) -
                     n * 0x1.3198a2e037073p-69;
    const double z = r * r;
    double ps = 1.0 / 355687428096000.0; /* 17! */
    ps = ps * z - 1.0 / 1307674368000.0;
    ps = ps * z + 1.0 / 6227020800.0;
    ps = ps * z - 1.0 / 39916800.0;
    ps = ps * z + 1.0 / 362880.0;
    ps = ps * z - 1.0 / 5040.0;
    ps = ps * z + 1.0 / 120.0;
    ps = ps * z - 1.0 / 6.0;
    const double sine = r + r * (z * ps);
    double pc = -1.0 / 6402373705728000.0; /* 18! */
    pc = pc * z + 1.0 / 20922789888000.0;
    pc = pc * z - 1.0 / 87178291200.0;
    pc = pc * z + 1.0 / 479001600.0;
    pc = pc * z - 1.0 / 3628800.0;
    pc = pc * z + 1.0 / 40320.0;
    pc = pc * z - 1.0 / 720.0;
    pc = pc * z + 1.0 / 24.0;
    const double cosine = (1.0 - 0.5 * z) + (z * z) * pc;
    switch ((int64_t)n & 3) {
    case 0:
        *s = sine, *c = cosine;
        break;
    case 1:
        *s = cosine, *c = -sine;
        break;
    case 2:
        *s = -sine, *c = -cosine;
        break;
    default:
        *s = -cosine, *c = sine;
        break;
    }
}

void nm_rmsnorm(const float *x, const float *w, float eps, uint32_t n, float *y)
{
    const float ss = nm_dot_f32(x, x, n);
    const float r = 1.0f / sqrtf(ss / (float)n + eps);
    for (uint32_t i = 0; i < n; i++) y[i] = (x[i] * r) * w[i];
}

void nm_assert_environment(void)
{
    volatile float tiny = 0x1p-126f;
    volatile float half = tiny * 0.5f;
    if (fegetround() != FE_TONEAREST || half == 0.0f) {
        fprintf(stderr, "potluck: a library changed the floating-point mode "
                        "of this thread (rounding or denormals)\n");
        abort();
    }
}

/* vec_functions.h - rows of floats, V_FLOATS at a time; for vec_LEVEL.c.
 *
 * Depends on: vec, vec_width.  Thread: any.  What is left of a row at its end
 * goes the reference's way, one element after the other. */
#ifndef ENGINE_VEC_FUNCTIONS_H
#define ENGINE_VEC_FUNCTIONS_H

#include "engine/vec.h"
#include "engine/vec_width.h"

#ifdef V_FLOATS
#include <math.h>

static void scale(float *y, const float *x, float c, uint32_t n)
{
    uint32_t i = 0;
    for (; i + V_FLOATS <= n; i += V_FLOATS) {
        vw_store(y + i, vw_mul(vw_load(x + i), vw_set(c)));
    }
    for (; i < n; i++) y[i] = x[i] * c;
}

static void add(float *x, const float *y, uint32_t n)
{
    uint32_t i = 0;
    for (; i + V_FLOATS <= n; i += V_FLOATS) {
        vw_store(x + i, vw_add(vw_load(x + i), vw_load(y + i)));
    }
    for (; i < n; i++) x[i] += y[i];
}

static void merge(float *x, const float *y, float cx, float cy, uint32_t n)
{
    uint32_t i = 0;
    for (; i + V_FLOATS <= n; i += V_FLOATS) {
        const vw a = vw_mul(vw_load(x + i), vw_set(cx));
        vw_store(x + i, vw_add(a, vw_mul(vw_load(y + i), vw_set(cy))));
    }
    for (; i < n; i++) x[i] = (x[i] * cx) + (y[i] * cy);
}

static void to_f16(uint16_t *h, const float *x, uint32_t n)
{
    uint32_t i = 0;
    for (; i + V_FLOATS <= n; i += V_FLOATS) vw_to_f16(h + i, vw_load(x + i));
    for (; i < n; i++) h[i] = f32_to_f16_inline(x[i]);
}

/* nm_exp() operation by operation; lanes out of range are replaced last. */
static ALWAYS_INLINE vw exp_vw(vw x)
{
    const vw magic = vw_set(0x1.8p23f);
    const vw n =
        vw_sub(vw_add(vw_mul(x, vw_set(0x1.715476p+0f)), magic), magic);
    const vw r = vw_sub(vw_sub(x, vw_mul(n, vw_set(0x1.62e4p-1f))),
                        vw_mul(n, vw_set(0x1.7f7d1cp-20f)));
    vw p = vw_set(1.9875691500e-4f);
#define NEXT(c) p = vw_add(vw_mul(p, r), vw_set(c))
    NEXT(1.3981999507e-3f);
    NEXT(8.3334519073e-3f);
    NEXT(4.1665795894e-2f);
    NEXT(1.6666665459e-1f);
    NEXT(5.0000001201e-1f);
#undef NEXT
    vw y = vw_add(vw_add(vw_mul(p, vw_mul(r, r)), r), vw_set(1.0f));
    y = vw_scale2(y, n);
    y = vw_select(vw_lt(x, vw_set(-87.3f)), vw_set(0), y);
    y = vw_select(vw_lt(vw_set(88.7f), x), vw_set(INFINITY), y);
    return vw_select(vw_nan(x), x, y);
}

static void exp_row(float *w, const float *s, float m, uint32_t n)
{
    uint32_t i = 0;
    for (; i + V_FLOATS <= n; i += V_FLOATS) {
        vw_store(w + i, exp_vw(vw_sub(vw_load(s + i), vw_set(m))));
    }
    for (; i < n; i++) w[i] = nm_exp(s[i] - m);
}

static void silu_mul(float *h, const float *g, const float *u, uint32_t n)
{
    const vw sign = vw_set(-0.0f), one = vw_set(1.0f);
    uint32_t i = 0;
    for (; i + V_FLOATS <= n; i += V_FLOATS) {
        const vw x = vw_load(g + i);
        const vw below = vw_add(one, exp_vw(vw_xor(x, sign)));
        vw_store(h + i, vw_mul(vw_div(x, below), vw_load(u + i)));
    }
    for (; i < n; i++) h[i] = nm_silu(g[i]) * u[i];
}

/* nm_tanh, lane by lane; both branches are computed. */
static ALWAYS_INLINE vw tanh_vw(vw x)
{
    const vw sign = vw_set(-0.0f), one = vw_set(1.0f);
    const vw a = vw_andnot(sign, x), z = vw_mul(x, x);
    vw p = vw_set(-5.70498872745e-3f);
    p = vw_add(vw_mul(p, z), vw_set(2.06390887954e-2f));
    p = vw_sub(vw_mul(p, z), vw_set(5.37397155531e-2f));
    p = vw_add(vw_mul(p, z), vw_set(1.33314422036e-1f));
    p = vw_sub(vw_mul(p, z), vw_set(3.33332819422e-1f));
    const vw near = vw_add(vw_mul(vw_mul(p, z), x), x);
    const vw e = vw_add(exp_vw(vw_add(a, a)), one);
    const vw far = vw_sub(one, vw_div(vw_set(2.0f), e));
    return vw_select(vw_lt(a, vw_set(0.625f)), near,
                     vw_or(vw_andnot(sign, far), vw_and(sign, x)));
}

static ALWAYS_INLINE vw gelu_vw(vw x)
{
    const vw one = vw_set(1.0f), r = vw_round_f16(x);
    const vw cubic = vw_add(one, vw_mul(vw_mul(r, vw_set(0.044715f)), r));
    const vw t = tanh_vw(vw_mul(vw_mul(r, vw_set(0.7978845608f)), cubic));
    vw y = vw_round_f16(vw_mul(vw_mul(vw_set(0.5f), r), vw_add(one, t)));
    y = vw_select(vw_le(x, vw_set(-10.0f)), vw_set(0), y);
    return vw_select(vw_nlt(x, vw_set(10.0f)), x, y);
}

static void gelu_mul(float *h, const float *g, const float *u, uint32_t n)
{
    uint32_t i = 0;
    for (; i + V_FLOATS <= n; i += V_FLOATS) {
        vw_store(h + i, vw_mul(gelu_vw(vw_load(g + i)), vw_load(u + i)));
    }
    for (; i < n; i++) h[i] = nm_gelu(g[i]) * u[i];
}

static void soft_cap(float *x, float cap, uint32_t n)
{
    const vw c = vw_set(cap), inverse = vw_set(1.0f / cap);
    uint32_t i = 0;
    for (; i + V_FLOATS <= n; i += V_FLOATS) {
        const vw t = tanh_vw(vw_mul(vw_load(x + i), inverse));
        vw_store(x + i, vw_mul(t, c));
    }
    for (; i < n; i++) x[i] = nm_soft_cap(x[i], cap);
}

/* Leaves of x * x, four at a time: additions of one form a chain. */
static float squares(const float *x, uint32_t n)
{
    float leaves[NM_LEAVES_MAX];
    const uint32_t whole = n / NM_LEAF;
    uint32_t at = 0;
    for (; at + 4 <= whole; at += 4) {
        const float *p = x + (size_t)at * NM_LEAF;
        f8 lane[4];
        UNROLL
        for (int l = 0; l < 4; l++) lane[l] = f8_zero();
        for (uint32_t i = 0; i < NM_LEAF; i += 8) {
            UNROLL
            for (int l = 0; l < 4; l++) {
                const f8 v = f8_load(p + l * NM_LEAF + i);
                lane[l] = f8_add(lane[l], f8_mul(v, v));
            }
        }
        UNROLL
        for (int l = 0; l < 4; l++) leaves[at + (uint32_t)l] = f8_sum(lane[l]);
    }
    for (uint32_t i = at * NM_LEAF; i < n; i += NM_LEAF) {
        const uint32_t len = n - i < NM_LEAF ? n - i : NM_LEAF;
        leaves[at++] = nm_leaf_f32(x + i, x + i, len);
    }
    return nm_tree_sum(leaves, at);
}

static void rmsnorm(const float *x, const float *w, float eps, uint32_t n,
                    float *y)
{
    const float r = 1.0f / sqrtf(squares(x, n) / (float)n + eps);
    uint32_t i = 0;
    for (; i + V_FLOATS <= n; i += V_FLOATS) {
        const vw v = vw_mul(vw_load(x + i), vw_set(r));
        vw_store(y + i, vw_mul(v, vw_load(w + i)));
    }
    for (; i < n; i++) y[i] = (x[i] * r) * w[i];
}

static float largest(const float *x, uint32_t n, float m)
{
    uint32_t i = 0;
    if (n >= V_FLOATS) {
        vw top = vw_set(m);
        for (; i + V_FLOATS <= n; i += V_FLOATS) {
            top = vw_max(vw_load(x + i), top);
        }
        m = vw_largest(top);
    }
    for (; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static float sum_lanes(const float *x, uint32_t n)
{
    f8 lanes = f8_zero();
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) lanes = f8_add(lanes, f8_load(x + i));
    float lane[8];
    f8_store(lane, lanes);
    for (; i < n; i++) lane[i % 8] += x[i];
    return nm_lanes_sum(lane);
}

static bool all_finite(const float *x, uint32_t n)
{
    const vw sign = vw_set(-0.0f);
    vw odd = vw_set(0); /* x - x is not a number where x is not finite */
    uint32_t i = 0;
    for (; i + V_FLOATS <= n; i += V_FLOATS) {
        const vw v = vw_load(x + i);
        odd = vw_or(odd, vw_andnot(sign, vw_sub(v, v)));
    }
    float rest[V_FLOATS];
    vw_store(rest, odd);
    bool ok = true;
    for (int l = 0; l < V_FLOATS; l++) ok &= rest[l] == rest[l];
    for (; i < n; i++) ok &= fabsf(x[i]) < INFINITY;
    return ok;
}

/* Pairs (x[i], x[i + n]) turned by (c, s) pairs: elementwise. */
static void rope_halves(float *x, const float *table, uint32_t n)
{
    uint32_t i = 0;
#if V_FLOATS == 16
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18,
                                           20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
#endif
    for (; i + V_FLOATS <= n; i += V_FLOATS) {
        const float *t = table + 2 * (size_t)i;
        const vw lo = vw_load(t), hi = vw_load(t + V_FLOATS);
#if V_FLOATS == 16
        const vw c = _mm512_permutex2var_ps(lo, even, hi);
        const vw s = _mm512_permutex2var_ps(lo, odd, hi);
#elif V_FLOATS == 8
        const vw p = _mm256_permute2f128_ps(lo, hi, 0x20);
        const vw q = _mm256_permute2f128_ps(lo, hi, 0x31);
        const vw c = _mm256_shuffle_ps(p, q, 0x88);
        const vw s = _mm256_shuffle_ps(p, q, 0xdd);
#elif defined(__aarch64__)
        const vw c = vuzp1q_f32(lo, hi), s = vuzp2q_f32(lo, hi);
#else
        const vw c = _mm_shuffle_ps(lo, hi, 0x88);
        const vw s = _mm_shuffle_ps(lo, hi, 0xdd);
#endif
        const vw a = vw_load(x + i), b = vw_load(x + n + i);
        vw_store(x + i, vw_sub(vw_mul(a, c), vw_mul(b, s)));
        vw_store(x + n + i, vw_add(vw_mul(a, s), vw_mul(b, c)));
    }
    for (; i < n; i++) {
        const float a = x[i], b = x[i + n];
        const float c = table[2 * i], s = table[2 * i + 1];
        x[i] = (a * c) - (b * s);
        x[i + n] = (a * s) + (b * c);
    }
}

/* Pairs (x[2i], x[2i + 1]): a c - b s below, b c + a s above (whose sum has
 * the same bits in either order). */
static void rope_pairs(float *x, const float *table, uint32_t n)
{
    const uint32_t end = 2 * n;
    uint32_t i = 0;
    for (; i + V_FLOATS <= end; i += V_FLOATS) {
        const vw v = vw_load(x + i), t = vw_load(table + i);
#if V_FLOATS == 16
        const vw c = _mm512_moveldup_ps(t), s = _mm512_movehdup_ps(t);
        const vw cross = vw_mul(_mm512_permute_ps(v, 0xb1), s);
        const vw own = vw_mul(v, c);
        vw_store(x + i, _mm512_mask_sub_ps(_mm512_add_ps(own, cross), 0x5555,
                                           own, cross));
#elif V_FLOATS == 8
        const vw c = _mm256_moveldup_ps(t), s = _mm256_movehdup_ps(t);
        const vw cross = vw_mul(_mm256_permute_ps(v, 0xb1), s);
        vw_store(x + i, _mm256_addsub_ps(vw_mul(v, c), cross));
#elif defined(__aarch64__)
        const vw own = vw_mul(v, vtrn1q_f32(t, t));
        const vw cross = vw_mul(vrev64q_f32(v), vtrn2q_f32(t, t));
        vw_store(x + i, vw_turned(own, cross));
#else
        const vw c = _mm_moveldup_ps(t), s = _mm_movehdup_ps(t);
        const vw cross = vw_mul(_mm_shuffle_ps(v, v, 0xb1), s);
        vw_store(x + i, _mm_addsub_ps(vw_mul(v, c), cross));
#endif
    }
    for (; i < end; i += 2) {
        const float a = x[i], b = x[i + 1], c = table[i], s = table[i + 1];
        x[i] = (a * c) - (b * s);
        x[i + 1] = (a * s) + (b * c);
    }
}

#endif
#endif

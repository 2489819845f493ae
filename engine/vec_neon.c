/* vec_neon.c - the table for 64-bit ARM. */
#include "engine/vec.h"

#ifdef __aarch64__
#include <math.h>
#include <string.h>

#include "common/compiler.h"
#include "engine/quant_f16.h"
#include "engine/simd_neon.h"

/* Dot products and sums side by side: additions of one row form a chain. */
#define ROWS_AT_ONCE 4

/* Eight elements from p[i] on, of which n (1..) exist; the rest is zero. */
static ALWAYS_INLINE f8 load(const void *p, size_t i, uint32_t n, bool f16)
{
    const size_t size = f16 ? sizeof(uint16_t) : sizeof(float);
    const uint8_t *from = (const uint8_t *)p + i * size;
    uint8_t v[8 * sizeof(float)];
    if (UNLIKELY(n < 8)) {
        memset(v, 0, sizeof v);
        memcpy(v, from, n * size);
        from = v;
    }
    return f16 ? f8_of_f16(from) : f8_load(from);
}

/* The missing elements of a last vector are zeros; a lane that started at +0
 * is never -0, so adding their products changes nothing. */
static ALWAYS_INLINE void dots(float *out, const float *q, const void *k,
                               size_t first, size_t stride, int n_rows,
                               uint32_t n, bool f16)
{
    f8 lane[ROWS_AT_ONCE];
    UNROLL
    for (int t = 0; t < n_rows; t++) lane[t] = f8_zero();
    for (uint32_t i = 0; i < n; i += 8) {
        const f8 x = load(q, i, n - i, false);
        UNROLL
        for (int t = 0; t < n_rows; t++) {
            const f8 y = load(k, first + (size_t)t * stride + i, n - i, f16);
            lane[t] = f8_add(lane[t], f8_mul(x, y));
        }
    }
    UNROLL
    for (int t = 0; t < n_rows; t++) out[t] = f8_sum(lane[t]);
}

static ALWAYS_INLINE void dot_rows(float *out, const float *q, const void *k,
                                   size_t stride, uint32_t n_rows, uint32_t n,
                                   bool f16)
{
    uint32_t t = 0;
    for (; t + ROWS_AT_ONCE <= n_rows; t += ROWS_AT_ONCE) {
        dots(out + t, q, k, t * stride, stride, ROWS_AT_ONCE, n, f16);
    }
    for (; t < n_rows; t++) dots(out + t, q, k, t * stride, stride, 1, n, f16);
}

static void dot_rows_f32(float *out, const float *q, const float *k,
                         size_t stride, uint32_t n_rows, uint32_t n)
{
    dot_rows(out, q, k, stride, n_rows, n, false);
}

static void dot_rows_f16(float *out, const float *q, const uint16_t *k,
                         size_t stride, uint32_t n_rows, uint32_t n)
{
    dot_rows(out, q, k, stride, n_rows, n, true);
}

static void dot_rows_q8_0(float *out, const struct act_q8_0 *q,
                          const struct block_q8_0 *k, size_t stride,
                          uint32_t n_rows, uint32_t n)
{
    for (uint32_t t = 0; t < n_rows; t++) {
        const struct block_q8_0 *row = k + t * stride;
        float leaf = -0.0f; /* -0 + t is t, whatever t */
        for (uint32_t b = 0; b < n / 32; b++) {
            /* |y| <= 127: two products stay in int16, -128 included */
            const vp sums = vp_dot(vp_mul(v_load(row[b].qs), v_load(q[b].q)),
                                   v_load(row[b].qs + 16), v_load(q[b].q + 16));
            const int32_t s =
                vaddvq_s32(vpadalq_s16(vpaddlq_s16(sums.low), sums.high));
            leaf += (float)s * (f16_to_f32_inline(row[b].d) * q[b].d);
        }
        out[t] = leaf;
    }
}

static void axpy_rows_q8_0(float *o, const float *w, const struct block_q8_0 *v,
                           size_t stride, uint32_t n_rows, uint32_t n)
{
    for (uint32_t b = 0; b < n / 32; b++, o += 32) {
        f8 acc[4];
        UNROLL
        for (int i = 0; i < 4; i++) acc[i] = f8_load(o + 8 * i);
        for (uint32_t t = 0; t < n_rows; t++) {
            const struct block_q8_0 *block = v + t * stride + b;
            const f8 d = f8_set(f16_to_f32_inline(block->d));
            const f8 wt = f8_set(w[t]);
            UNROLL
            for (int i = 0; i < 4; i++) {
                const int16x8_t q = as_16(v_i8_to_16(block->qs + 8 * i));
                const f8 x = {vcvtq_f32_s32(vmovl_s16(vget_low_s16(q))),
                              vcvtq_f32_s32(vmovl_high_s16(q))};
                acc[i] = f8_add(acc[i], f8_mul(wt, f8_mul(d, x)));
            }
        }
        UNROLL
        for (int i = 0; i < 4; i++) f8_store(o + 8 * i, acc[i]);
    }
}

/* nv vectors of o from d on stay in registers while the rows go by. */
static ALWAYS_INLINE void axpys(float *o, const float *w, const void *v,
                                size_t stride, uint32_t n_rows, uint32_t d,
                                int nv, bool f16)
{
    f8 acc[4];
    UNROLL
    for (int i = 0; i < nv; i++) acc[i] = f8_load(o + d + 8 * i);
    for (uint32_t t = 0; t < n_rows; t++) {
        const f8 wt = f8_set(w[t]);
        UNROLL
        for (int i = 0; i < nv; i++) {
            const f8 x = load(v, t * stride + d + 8 * (size_t)i, 8, f16);
            acc[i] = f8_add(acc[i], f8_mul(wt, x));
        }
    }
    UNROLL
    for (int i = 0; i < nv; i++) f8_store(o + d + 8 * i, acc[i]);
}

static ALWAYS_INLINE void axpy_rows(float *o, const float *w, const void *v,
                                    size_t stride, uint32_t n_rows, uint32_t n,
                                    bool f16)
{
    uint32_t d = 0;
    for (; d + 32 <= n; d += 32) axpys(o, w, v, stride, n_rows, d, 4, f16);
    for (; d + 8 <= n; d += 8) axpys(o, w, v, stride, n_rows, d, 1, f16);
    for (; d < n; d++) {
        for (uint32_t t = 0; t < n_rows; t++) {
            const size_t at = t * stride + d;
            o[d] += w[t] * (f16 ? f16_to_f32_inline(((const uint16_t *)v)[at])
                                : ((const float *)v)[at]);
        }
    }
}

static void axpy_rows_f32(float *o, const float *w, const float *v,
                          size_t stride, uint32_t n_rows, uint32_t n)
{
    axpy_rows(o, w, v, stride, n_rows, n, false);
}

static void axpy_rows_f16(float *o, const float *w, const uint16_t *v,
                          size_t stride, uint32_t n_rows, uint32_t n)
{
    axpy_rows(o, w, v, stride, n_rows, n, true);
}

static void scale(float *o, float c, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(o + i, vmulq_n_f32(vld1q_f32(o + i), c));
    for (; i < n; i++) o[i] *= c;
}

/* 2^e, -126 <= e <= 127. */
static ALWAYS_INLINE vf power_of_two(int32x4_t e)
{
    return vreinterpretq_f32_s32(
        vshlq_n_s32(vaddq_s32(e, vdupq_n_s32(127)), 23));
}

/* p * x + c, two roundings. */
static ALWAYS_INLINE vf horner(vf p, vf x, float c)
{
    return vf_add(vf_mul(p, x), vf_set(c));
}

/* nm_exp() operation by operation; lanes out of range are replaced last. */
static ALWAYS_INLINE vf exp_4(vf x)
{
    const vf magic = vf_set(0x1.8p23f);
    const vf n =
        vf_sub(vf_add(vf_mul(x, vf_set(0x1.715476p+0f)), magic), magic);
    const vf r = vf_sub(vf_sub(x, vf_mul(n, vf_set(0x1.62e4p-1f))),
                        vf_mul(n, vf_set(0x1.7f7d1cp-20f)));
    vf p = vf_set(1.9875691500e-4f);
    p = horner(p, r, 1.3981999507e-3f);
    p = horner(p, r, 8.3334519073e-3f);
    p = horner(p, r, 4.1665795894e-2f);
    p = horner(p, r, 1.6666665459e-1f);
    p = horner(p, r, 5.0000001201e-1f);
    vf y = vf_add(vf_mul(p, vf_mul(r, r)), r);
    y = vf_add(y, vf_set(1.0f));
    const int32x4_t e = vcvtq_s32_f32(n), half = vshrq_n_s32(e, 1);
    y = vf_mul(y, power_of_two(half));
    y = vf_mul(y, power_of_two(vsubq_s32(e, half)));

    y = vbslq_f32(vcltq_f32(x, vf_set(-87.3f)), vf_set(0), y);
    y = vbslq_f32(vcgtq_f32(x, vf_set(88.7f)), vf_set(INFINITY), y);
    return vbslq_f32(vceqq_f32(x, x), y, x); /* NaN is not itself */
}

static void silu_mul(float *h, const float *g, const float *u, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const vf x = vld1q_f32(g + i);
        const vf below = vf_add(vf_set(1.0f), exp_4(vnegq_f32(x)));
        vst1q_f32(h + i, vf_mul(vdivq_f32(x, below), vld1q_f32(u + i)));
    }
    for (; i < n; i++) h[i] = nm_silu(g[i]) * u[i];
}

/* nm_tanh, lane by lane; both branches are computed. */
static ALWAYS_INLINE vf tanh_4(vf x)
{
    const vf one = vf_set(1.0f), a = vabsq_f32(x), z = vf_mul(x, x);
    vf p = vf_set(-5.70498872745e-3f);
    p = horner(p, z, 2.06390887954e-2f);
    p = horner(p, z, -5.37397155531e-2f);
    p = horner(p, z, 1.33314422036e-1f);
    p = horner(p, z, -3.33332819422e-1f);
    const vf near = vf_add(vf_mul(vf_mul(p, z), x), x);
    const vf e = vf_add(exp_4(vf_add(a, a)), one);
    const vf far = vf_sub(one, vdivq_f32(vf_set(2.0f), e));
    const vf with_sign = vbslq_f32(vdupq_n_u32(0x80000000), x, far);
    return vbslq_f32(vcltq_f32(a, vf_set(0.625f)), near, with_sign);
}

static ALWAYS_INLINE vf round_f16(vf x)
{
    return vcvt_f32_f16(vcvt_f16_f32(x));
}

static ALWAYS_INLINE vf gelu_4(vf x)
{
    const vf one = vf_set(1.0f), r = round_f16(x);
    const vf cubic = vf_add(one, vf_mul(vf_mul(r, vf_set(0.044715f)), r));
    const vf t = tanh_4(vf_mul(vf_mul(r, vf_set(0.7978845608f)), cubic));
    vf y = round_f16(vf_mul(vf_mul(vf_set(0.5f), r), vf_add(one, t)));
    y = vbslq_f32(vcleq_f32(x, vf_set(-10.0f)), vf_set(0), y);
    return vbslq_f32(vcltq_f32(x, vf_set(10.0f)), y, x); /* x too if NaN */
}

static void gelu_mul(float *h, const float *g, const float *u, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        vst1q_f32(h + i, vf_mul(gelu_4(vld1q_f32(g + i)), vld1q_f32(u + i)));
    }
    for (; i < n; i++) h[i] = nm_gelu(g[i]) * u[i];
}

static void soft_cap(float *x, float cap, uint32_t n)
{
    const float inverse = 1.0f / cap;
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const vf t = tanh_4(vmulq_n_f32(vld1q_f32(x + i), inverse));
        vst1q_f32(x + i, vmulq_n_f32(t, cap));
    }
    for (; i < n; i++) x[i] = nm_soft_cap(x[i], cap);
}

static void exp_row(float *w, const float *s, float m, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        vst1q_f32(w + i, exp_4(vf_sub(vld1q_f32(s + i), vf_set(m))));
    }
    for (; i < n; i++) w[i] = nm_exp(s[i] - m);
}

const struct vec_ops *vec_ops_neon(void)
{
    static const struct vec_ops ops = {
        .name = "neon",
        .dot_rows_f32 = dot_rows_f32,
        .dot_rows_f16 = dot_rows_f16,
        .dot_rows_q8_0 = dot_rows_q8_0,
        .axpy_rows_f32 = axpy_rows_f32,
        .axpy_rows_f16 = axpy_rows_f16,
        .axpy_rows_q8_0 = axpy_rows_q8_0,
        .scale = scale,
        .silu_mul = silu_mul,
        .gelu_mul = gelu_mul,
        .soft_cap = soft_cap,
        .exp_row = exp_row,
        .act_quantize = act_quantize_neon,
    };
    return &ops;
}
#else
const struct vec_ops *vec_ops_neon(void)
{
    return NULL;
}
#endif

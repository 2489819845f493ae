/* vec_avx2.c - the AVX2 table. */
#include "engine/vec.h"

#ifdef __AVX2__
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "common/compiler.h"
#include "engine/quant_f16.h"

/* Dot products and sums side by side: additions of one row form a chain. */
#define ROWS_AT_ONCE 4

/* Eight elements from p[i] on, of which n (1..8) exist; the rest is zero. */
static ALWAYS_INLINE __m256 load_f32(const float *p, uint32_t n)
{
    if (LIKELY(n >= 8)) return _mm256_loadu_ps(p);
    float v[8] = {0};
    memcpy(v, p, n * sizeof *v);
    return _mm256_loadu_ps(v);
}

static ALWAYS_INLINE __m256 load_f16(const uint16_t *p, uint32_t n)
{
    if (LIKELY(n >= 8)) {
        return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
    }
    uint16_t v[8] = {0};
    memcpy(v, p, n * sizeof *v);
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)v));
}

static ALWAYS_INLINE __m256 load(const void *p, size_t i, uint32_t n, bool f16)
{
    return f16 ? load_f16((const uint16_t *)p + i, n)
               : load_f32((const float *)p + i, n);
}

static ALWAYS_INLINE float lanes_sum(__m256 v)
{
    const __m128 four =
        _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* The missing elements of a last vector are zeros; a lane that started at +0
 * is never -0, so adding their products changes nothing. */
static ALWAYS_INLINE void dots(float *out, const float *q, const void *k,
                               size_t first, size_t stride, int n_rows,
                               uint32_t n, bool f16)
{
    __m256 lane[ROWS_AT_ONCE];
    UNROLL
    for (int t = 0; t < n_rows; t++) lane[t] = _mm256_setzero_ps();
    for (uint32_t i = 0; i < n; i += 8) {
        const __m256 x = load_f32(q + i, n - i);
        UNROLL
        for (int t = 0; t < n_rows; t++) {
            const __m256 y =
                load(k, first + (size_t)t * stride + i, n - i, f16);
            lane[t] = _mm256_add_ps(lane[t], _mm256_mul_ps(x, y));
        }
    }
    UNROLL
    for (int t = 0; t < n_rows; t++) out[t] = lanes_sum(lane[t]);
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
    const __m256i one = _mm256_set1_epi16(1);
    for (uint32_t t = 0; t < n_rows; t++) {
        const struct block_q8_0 *row = k + t * stride;
        float leaf = -0.0f; /* -0 + t is t, whatever t */
        for (uint32_t b = 0; b < n / 32; b++) {
            const __m256i x = _mm256_loadu_si256((const void *)row[b].qs);
            const __m256i y = _mm256_loadu_si256((const void *)q[b].q);
            /* |x|, |y| <= 127: pair sums stay in int16 */
            const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x),
                                                       _mm256_sign_epi8(y, x));
            const __m256i eight = _mm256_madd_epi16(pairs, one);
            __m128i s = _mm_add_epi32(_mm256_castsi256_si128(eight),
                                      _mm256_extracti128_si256(eight, 1));
            s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
            s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
            leaf +=
                (float)_mm_cvtsi128_si32(s) * (_cvtsh_ss(row[b].d) * q[b].d);
        }
        out[t] = leaf;
    }
}

static void axpy_rows_q8_0(float *o, const float *w, const struct block_q8_0 *v,
                           size_t stride, uint32_t n_rows, uint32_t n)
{
    for (uint32_t b = 0; b < n / 32; b++, o += 32) {
        __m256 acc[4];
        UNROLL
        for (int i = 0; i < 4; i++) acc[i] = _mm256_loadu_ps(o + 8 * i);
        for (uint32_t t = 0; t < n_rows; t++) {
            const struct block_q8_0 *block = v + t * stride + b;
            const __m256 d = _mm256_set1_ps(_cvtsh_ss(block->d));
            const __m256 wt = _mm256_set1_ps(w[t]);
            UNROLL
            for (int i = 0; i < 4; i++) {
                const __m256i q = _mm256_cvtepi8_epi32(
                    _mm_loadl_epi64((const void *)(block->qs + 8 * i)));
                const __m256 x = _mm256_mul_ps(d, _mm256_cvtepi32_ps(q));
                acc[i] = _mm256_add_ps(acc[i], _mm256_mul_ps(wt, x));
            }
        }
        UNROLL
        for (int i = 0; i < 4; i++) _mm256_storeu_ps(o + 8 * i, acc[i]);
    }
}

/* nv vectors of o from d on stay in registers while the rows go by. */
static ALWAYS_INLINE void axpys(float *o, const float *w, const void *v,
                                size_t stride, uint32_t n_rows, uint32_t d,
                                int nv, bool f16)
{
    __m256 acc[4];
    UNROLL
    for (int i = 0; i < nv; i++) acc[i] = _mm256_loadu_ps(o + d + 8 * i);
    for (uint32_t t = 0; t < n_rows; t++) {
        const __m256 wt = _mm256_set1_ps(w[t]);
        UNROLL
        for (int i = 0; i < nv; i++) {
            const __m256 x = load(v, t * stride + d + 8 * (size_t)i, 8, f16);
            acc[i] = _mm256_add_ps(acc[i], _mm256_mul_ps(wt, x));
        }
    }
    UNROLL
    for (int i = 0; i < nv; i++) _mm256_storeu_ps(o + d + 8 * i, acc[i]);
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
    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(
            o + i, _mm256_mul_ps(_mm256_loadu_ps(o + i), _mm256_set1_ps(c)));
    }
    for (; i < n; i++) o[i] *= c;
}

/* 2^e, -126 <= e <= 127. */
static ALWAYS_INLINE __m256 power_of_two(__m256i e)
{
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
}

/* nm_exp() operation by operation; lanes out of range are replaced last. */
static ALWAYS_INLINE __m256 exp_8(__m256 x)
{
    const __m256 magic = _mm256_set1_ps(0x1.8p23f);
    const __m256 n = _mm256_sub_ps(
        _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)), magic),
        magic);
    const __m256 r = _mm256_sub_ps(
        _mm256_sub_ps(x, _mm256_mul_ps(n, _mm256_set1_ps(0x1.62e4p-1f))),
        _mm256_mul_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f)));
    __m256 p = _mm256_set1_ps(1.9875691500e-4f);
#define NEXT(c) p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(c))
    NEXT(1.3981999507e-3f);
    NEXT(8.3334519073e-3f);
    NEXT(4.1665795894e-2f);
    NEXT(1.6666665459e-1f);
    NEXT(5.0000001201e-1f);
#undef NEXT
    __m256 y = _mm256_add_ps(_mm256_mul_ps(p, _mm256_mul_ps(r, r)), r);
    y = _mm256_add_ps(y, _mm256_set1_ps(1.0f));
    const __m256i e = _mm256_cvttps_epi32(n), half = _mm256_srai_epi32(e, 1);
    y = _mm256_mul_ps(y, power_of_two(half));
    y = _mm256_mul_ps(y, power_of_two(_mm256_sub_epi32(e, half)));

    const __m256 low = _mm256_cmp_ps(x, _mm256_set1_ps(-87.3f), _CMP_LT_OQ);
    const __m256 high = _mm256_cmp_ps(x, _mm256_set1_ps(88.7f), _CMP_GT_OQ);
    const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    y = _mm256_andnot_ps(low, y);
    y = _mm256_blendv_ps(y, _mm256_set1_ps(INFINITY), high);
    return _mm256_blendv_ps(y, x, nan);
}

static void silu_mul(float *h, const float *g, const float *u, uint32_t n)
{
    const __m256 sign = _mm256_set1_ps(-0.0f), one = _mm256_set1_ps(1.0f);
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 x = _mm256_loadu_ps(g + i);
        const __m256 below = _mm256_add_ps(one, exp_8(_mm256_xor_ps(x, sign)));
        _mm256_storeu_ps(h + i, _mm256_mul_ps(_mm256_div_ps(x, below),
                                              _mm256_loadu_ps(u + i)));
    }
    for (; i < n; i++) h[i] = nm_silu(g[i]) * u[i];
}

/* nm_tanh, lane by lane; both branches are computed. */
static ALWAYS_INLINE __m256 tanh_8(__m256 x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f), one = _mm256_set1_ps(1.0f);
    const __m256 a = _mm256_andnot_ps(sign, x), z = _mm256_mul_ps(x, x);
    __m256 p = _mm256_set1_ps(-5.70498872745e-3f);
    p = _mm256_add_ps(_mm256_mul_ps(p, z), _mm256_set1_ps(2.06390887954e-2f));
    p = _mm256_sub_ps(_mm256_mul_ps(p, z), _mm256_set1_ps(5.37397155531e-2f));
    p = _mm256_add_ps(_mm256_mul_ps(p, z), _mm256_set1_ps(1.33314422036e-1f));
    p = _mm256_sub_ps(_mm256_mul_ps(p, z), _mm256_set1_ps(3.33332819422e-1f));
    const __m256 near = _mm256_add_ps(_mm256_mul_ps(_mm256_mul_ps(p, z), x), x);
    const __m256 e = _mm256_add_ps(exp_8(_mm256_add_ps(a, a)), one);
    const __m256 far =
        _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), e));
    return _mm256_blendv_ps(
        _mm256_or_ps(_mm256_andnot_ps(sign, far), _mm256_and_ps(sign, x)), near,
        _mm256_cmp_ps(a, _mm256_set1_ps(0.625f), _CMP_LT_OQ));
}

static ALWAYS_INLINE __m256 round_f16(__m256 x)
{
    return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

static ALWAYS_INLINE __m256 gelu_8(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1.0f), ten = _mm256_set1_ps(10.0f);
    const __m256 r = round_f16(x);
    const __m256 cubic = _mm256_add_ps(
        one, _mm256_mul_ps(_mm256_mul_ps(r, _mm256_set1_ps(0.044715f)), r));
    const __m256 t = tanh_8(
        _mm256_mul_ps(_mm256_mul_ps(r, _mm256_set1_ps(0.7978845608f)), cubic));
    __m256 y = round_f16(_mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(0.5f), r),
                                       _mm256_add_ps(one, t)));
    y = _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(-10.0f), _CMP_LE_OQ),
                         y);
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(x, ten, _CMP_NLT_UQ));
}

static void gelu_mul(float *h, const float *g, const float *u, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(h + i, _mm256_mul_ps(gelu_8(_mm256_loadu_ps(g + i)),
                                              _mm256_loadu_ps(u + i)));
    }
    for (; i < n; i++) h[i] = nm_gelu(g[i]) * u[i];
}

static void soft_cap(float *x, float cap, uint32_t n)
{
    const __m256 c = _mm256_set1_ps(cap), inverse = _mm256_set1_ps(1.0f / cap);
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 t = tanh_8(_mm256_mul_ps(_mm256_loadu_ps(x + i), inverse));
        _mm256_storeu_ps(x + i, _mm256_mul_ps(t, c));
    }
    for (; i < n; i++) x[i] = nm_soft_cap(x[i], cap);
}

static void exp_row(float *w, const float *s, float m, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(w + i, exp_8(_mm256_sub_ps(_mm256_loadu_ps(s + i),
                                                    _mm256_set1_ps(m))));
    }
    for (; i < n; i++) w[i] = nm_exp(s[i] - m);
}

const struct vec_ops *vec_ops_avx2(void)
{
    static const struct vec_ops ops = {
        .name = "avx2",
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
        .act_quantize = act_quantize_avx2,
    };
    return &ops;
}
#else
const struct vec_ops *vec_ops_avx2(void)
{
    return NULL;
}
#endif

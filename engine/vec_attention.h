/* vec_attention.h - a block of up to VEC_BLOCK positions times some queries;
 * for vec_LEVEL.c.
 *
 * Depends on: vec, vec_functions.  Thread: any.
 *
 * Keys are laid out so that eight lanes of a dot product (NUMERICS 2) fill
 * vectors: a row after the other, or with 512 bits two rows side by side,
 * [16][width / 8][2][8].  q8_0 keys lie with positions side by side, four
 * elements of each: [dim / 4][32][4], so that no sum runs across a vector;
 * their scales follow, [dim / 32][32]. */
#ifndef ENGINE_VEC_ATTENTION_H
#define ENGINE_VEC_ATTENTION_H

#include "engine/vec.h"
#include "engine/vec_functions.h"

#ifdef V_FLOATS
#include <math.h>
#include <string.h>

/* ------------------------------------------------------------ unpacking */

/* Elements [i, i + 8) of a row of dim, zeros beyond. */
static ALWAYS_INLINE f8 row_load(const void *row, uint32_t i, uint32_t dim,
                                 bool f16)
{
    const uint16_t *h = (const uint16_t *)row + i;
    const float *f = (const float *)row + i;
    if (LIKELY(i + 8 <= dim)) return f16 ? f8_of_f16(h) : f8_load(f);
    float v[8] = {0};
    for (uint32_t l = 0; i + l < dim; l++) {
        v[l] = f16 ? f16_to_f32_inline(h[l]) : f[l];
    }
    return f8_load(v);
}

static ALWAYS_INLINE size_t key_at(uint32_t t, uint32_t i, uint32_t width)
{
#if V_FLOATS == 16
    return (size_t)(t / 2) * 2 * width + 2 * (size_t)i + t % 2 * 8;
#else
    return (size_t)t * width + i;
#endif
}

#if V_FLOATS == 16
/* Elements [i, i + 8) of two rows. */
static ALWAYS_INLINE __m512 pair_load(const char *a, const char *b, uint32_t i,
                                      bool f16)
{
    if (f16) {
        const __m128i x = _mm_loadu_si128((const void *)(a + 2 * (size_t)i));
        const __m128i y = _mm_loadu_si128((const void *)(b + 2 * (size_t)i));
        return _mm512_cvtph_ps(
            _mm256_inserti128_si256(_mm256_castsi128_si256(x), y, 1));
    }
    const __m256 x = f8_load(a + 4 * (size_t)i);
    return _mm512_insertf32x8(_mm512_castps256_ps512(x),
                              f8_load(b + 4 * (size_t)i), 1);
}
#endif

static ALWAYS_INLINE void keys(float *to, const void *rows, uint32_t n_rows,
                               uint32_t dim, bool f16)
{
    const uint32_t width = vec_width(dim);
    const size_t row_bytes = dim * (f16 ? sizeof(uint16_t) : sizeof(float));
    const char *row = rows;
    uint32_t t = 0;
#if V_FLOATS == 16
    for (; width == dim && t + 2 <= n_rows; t += 2, row += 2 * row_bytes) {
        float *pair = to + key_at(t, 0, width);
        for (uint32_t i = 0; i < width; i += 8) {
            vw_store(pair + 2 * (size_t)i,
                     pair_load(row, row + row_bytes, i, f16));
        }
    }
#endif
    for (; t < n_rows; t++, row += row_bytes) {
        for (uint32_t i = 0; i < width; i += 8) {
            f8_store(to + key_at(t, i, width), row_load(row, i, dim, f16));
        }
    }
    for (; t % 8 != 0; t++) {
        for (uint32_t i = 0; i < width; i += 8) {
            f8_store(to + key_at(t, i, width), f8_zero());
        }
    }
}

static void keys_f32(void *to, const void *rows, uint32_t n_rows, uint32_t dim)
{
    keys(to, rows, n_rows, dim, false);
}

static void keys_f16(void *to, const void *rows, uint32_t n_rows, uint32_t dim)
{
    keys(to, rows, n_rows, dim, true);
}

#ifndef __aarch64__
typedef __m128i v16;
static ALWAYS_INLINE v16 v16_load(const void *p)
{
    return _mm_loadu_si128(p);
}
static ALWAYS_INLINE void v16_store(void *p, v16 x)
{
    _mm_storeu_si128(p, x);
}
/* Four elements each of four rows, side by side. */
static ALWAYS_INLINE void transpose_4(v16 x[4])
{
    const __m128i a = _mm_unpacklo_epi32(x[0], x[1]);
    const __m128i b = _mm_unpacklo_epi32(x[2], x[3]);
    const __m128i c = _mm_unpackhi_epi32(x[0], x[1]);
    const __m128i d = _mm_unpackhi_epi32(x[2], x[3]);
    x[0] = _mm_unpacklo_epi64(a, b);
    x[1] = _mm_unpackhi_epi64(a, b);
    x[2] = _mm_unpacklo_epi64(c, d);
    x[3] = _mm_unpackhi_epi64(c, d);
}
#endif

static void keys_q8_0(void *to, const void *rows, uint32_t n_rows, uint32_t dim)
{
    const struct block_q8_0 *block = rows;
    const uint32_t n_blocks = dim / 32;
    int8_t *quads = to;
    float *scales = (float *)to + (size_t)dim / 4 * VEC_BLOCK;
    for (uint32_t b = 0; b < n_blocks; b++) {
        uint16_t d[VEC_BLOCK] = {0};
        for (uint32_t t = 0; t < n_rows; t++) d[t] = block[t * n_blocks + b].d;
        for (uint32_t t = 0; t < VEC_BLOCK; t += V_FLOATS) {
            vw_store(scales + b * VEC_BLOCK + t, vw_of_f16(d + t));
        }
        for (uint32_t t = 0; t < n_rows; t += 4) {
            for (uint32_t half = 0; half < 2; half++) {
                v16 x[4];
                UNROLL
                for (uint32_t r = 0; r < 4; r++) {
                    const uint32_t from = t + r < n_rows ? t + r : t;
                    x[r] = v16_load(block[from * n_blocks + b].qs + 16 * half);
                }
                transpose_4(x);
                int8_t *q =
                    quads + 4 * ((8 * (size_t)b + 4 * half) * VEC_BLOCK + t);
                UNROLL
                for (int j = 0; j < 4; j++) {
                    v16_store(q + 4 * VEC_BLOCK * j, x[j]);
                }
            }
        }
    }
}

static ALWAYS_INLINE void values(float *to, const void *rows, uint32_t n_rows,
                                 uint32_t dim, bool f16)
{
    const uint32_t width = vec_width(dim);
    if (LIKELY(width == dim)) {
        const uint32_t n = n_rows * dim;
        for (uint32_t i = 0; i < n; i += V_FLOATS) {
            vw_store(to + i, f16 ? vw_of_f16((const uint16_t *)rows + i)
                                 : vw_load((const float *)rows + i));
        }
        return;
    }
    const size_t row_bytes = dim * (f16 ? sizeof(uint16_t) : sizeof(float));
    for (uint32_t t = 0; t < n_rows; t++, to += width) {
        const char *row = (const char *)rows + t * row_bytes;
        for (uint32_t i = 0; i < width; i += 8) {
            f8_store(to + i, row_load(row, i, dim, f16));
        }
    }
}

static void values_f32(float *to, const void *rows, uint32_t n_rows,
                       uint32_t dim)
{
    values(to, rows, n_rows, dim, false);
}

static void values_f16(float *to, const void *rows, uint32_t n_rows,
                       uint32_t dim)
{
    values(to, rows, n_rows, dim, true);
}

static void values_q8_0(float *to, const void *rows, uint32_t n_rows,
                        uint32_t dim)
{
    const struct block_q8_0 *block = rows;
    const uint32_t n = n_rows * (dim / 32);
    for (uint32_t b = 0; b < n; b++, to += 32) {
        const vw d = vw_set(f16_to_f32_inline(block[b].d));
        UNROLL
        for (int i = 0; i < 32; i += V_FLOATS) {
            vw_store(to + i, vw_mul(d, vw_of_i8(block[b].qs + i)));
        }
    }
}

/* --------------------------------------------------------------- scores */

#if V_FLOATS == 16
#define QUERIES_AT_ONCE 4
#define KEYS_AT_ONCE    8
#else
#define QUERIES_AT_ONCE (V_FLOATS / 4)
#define KEYS_AT_ONCE    4
#endif

#if V_FLOATS == 16
/* nm_lanes_sum() of eight rows, two a vector. */
static ALWAYS_INLINE void store_sums(float *s, const __m512 row[4])
{
    __m512 four[2];
    UNROLL
    for (int i = 0; i < 2; i++) {
        const __m512 a = row[2 * i], b = row[2 * i + 1];
        four[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88),
                                _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    const __m512 two = _mm512_add_ps(_mm512_shuffle_ps(four[0], four[1], 0x44),
                                     _mm512_shuffle_ps(four[0], four[1], 0xee));
    const __m512 one = _mm512_add_ps(two, _mm512_permute_ps(two, 0xb1));
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm256_storeu_ps(s,
                     _mm512_castps512_ps256(_mm512_permutexvar_ps(order, one)));
}
typedef __m512 vd;
static ALWAYS_INLINE vd vd_query(const float *q)
{
    return _mm512_broadcast_f32x8(_mm256_loadu_ps(q));
}
static ALWAYS_INLINE vd vd_key(const float *k, int n, uint32_t i,
                               uint32_t width)
{
    return _mm512_loadu_ps(k + (size_t)n * 2 * width + 2 * (size_t)i);
}
static ALWAYS_INLINE vd vd_zero(void)
{
    return _mm512_setzero_ps();
}
static ALWAYS_INLINE vd vd_add_product(vd sum, vd a, vd b)
{
    return _mm512_add_ps(sum, _mm512_mul_ps(a, b));
}
#else
#ifndef __aarch64__
/* nm_lanes_sum() of four rows. */
static ALWAYS_INLINE void store_sums(float *s, const f8 row[4])
{
    __m128 four[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        four[i] = _mm_add_ps(f8_low(row[i]), f8_high(row[i]));
    }
    const __m128 a = _mm_add_ps(_mm_shuffle_ps(four[0], four[1], 0x44),
                                _mm_shuffle_ps(four[0], four[1], 0xee));
    const __m128 b = _mm_add_ps(_mm_shuffle_ps(four[2], four[3], 0x44),
                                _mm_shuffle_ps(four[2], four[3], 0xee));
    _mm_storeu_ps(
        s, _mm_add_ps(_mm_shuffle_ps(a, b, 0x88), _mm_shuffle_ps(a, b, 0xdd)));
}
#endif
typedef f8 vd;
static ALWAYS_INLINE vd vd_query(const float *q)
{
    return f8_load(q);
}
static ALWAYS_INLINE vd vd_key(const float *k, int n, uint32_t i,
                               uint32_t width)
{
    return f8_load(k + (size_t)n * width + i);
}
static ALWAYS_INLINE vd vd_zero(void)
{
    return f8_zero();
}
static ALWAYS_INLINE vd vd_add_product(vd sum, vd a, vd b)
{
    return f8_add(sum, f8_mul(a, b));
}
#endif

/* KEYS_AT_ONCE scores of nq queries. */
static ALWAYS_INLINE void dots_tile(float *s, const float *q, const float *k,
                                    uint32_t width, int nq)
{
    vd sum[QUERIES_AT_ONCE][4];
    UNROLL
    for (int n = 0; n < nq; n++) {
        UNROLL
        for (int j = 0; j < 4; j++) sum[n][j] = vd_zero();
    }
    for (uint32_t i = 0; i < width; i += 8) {
        vd x[QUERIES_AT_ONCE];
        UNROLL
        for (int n = 0; n < nq; n++) x[n] = vd_query(q + (size_t)n * width + i);
        UNROLL
        for (int j = 0; j < 4; j++) {
            const vd y = vd_key(k, j, i, width);
            UNROLL
            for (int n = 0; n < nq; n++) {
                sum[n][j] = vd_add_product(sum[n][j], x[n], y);
            }
        }
    }
    UNROLL
    for (int n = 0; n < nq; n++) store_sums(s + n * VEC_BLOCK, sum[n]);
}

static void dots(float *s, const float *q, uint32_t nq, const void *k,
                 uint32_t n_rows, uint32_t dim)
{
    const uint32_t width = vec_width(dim);
    for (uint32_t t = 0; t < n_rows; t += KEYS_AT_ONCE) {
        const float *key = (const float *)k + (size_t)t * width;
        uint32_t n = 0;
        for (; n + QUERIES_AT_ONCE <= nq; n += QUERIES_AT_ONCE) {
            dots_tile(s + n * VEC_BLOCK + t, q + (size_t)n * width, key, width,
                      QUERIES_AT_ONCE);
        }
        for (; n < nq; n++) {
            dots_tile(s + n * VEC_BLOCK + t, q + (size_t)n * width, key, width,
                      1);
        }
    }
}

/* Products of bytes for KEYS_Q8 positions. */
#if V_FLOATS == 16
#define KEYS_Q8 16
typedef __m512i vq;
typedef __m512 vqf;
#define VQ(op)    _mm512_##op
#define VQ_LOAD   _mm512_loadu_si512
#define VQ_FLOAT  _mm512_cvtepi32_ps
#define VQ_PS(op) _mm512_##op##_ps
#define VQ_ZERO   _mm512_setzero_si512
#elif defined(__AVX2__)
#define KEYS_Q8   8
typedef __m256i vq;
typedef __m256 vqf;
#define VQ(op)    _mm256_##op
#define VQ_LOAD   _mm256_loadu_si256
#define VQ_FLOAT  _mm256_cvtepi32_ps
#define VQ_PS(op) _mm256_##op##_ps
#define VQ_ZERO   _mm256_setzero_si256
#elif !defined(__aarch64__)
#define KEYS_Q8   4
typedef __m128i vq;
typedef __m128 vqf;
#define VQ(op)    _mm_##op
#define VQ_LOAD   _mm_loadu_si128
#define VQ_FLOAT  _mm_cvtepi32_ps
#define VQ_PS(op) _mm_##op##_ps
#define VQ_ZERO   _mm_setzero_si128
#endif

#ifndef __aarch64__
static ALWAYS_INLINE vq vq_dot(vq sum, vq k, int32_t quad)
{
    const vq q = VQ(set1_epi32)(quad);
#if V_FLOATS == 16
    /* (k + 128) q; the excess goes with the sum of q */
    return _mm512_dpbusd_epi32(sum, _mm512_xor_si512(k, VQ(set1_epi8)(-128)),
                               q);
#else
    /* |k|, |q| <= 127: pair sums stay in int16 */
    const vq pairs = VQ(maddubs_epi16)(VQ(abs_epi8)(k), VQ(sign_epi8)(q, k));
    return VQ(add_epi32)(sum, VQ(madd_epi16)(pairs, VQ(set1_epi16)(1)));
#endif
}

static ALWAYS_INLINE void dots_q8_0_tile(float *s, const struct act_q8_0 *q,
                                         const int8_t *quads,
                                         const float *scales, uint32_t n_blocks)
{
    /* -0 + t is t, whatever t */
    vqf leaf = VQ_PS(set1)(-0.0f);
    for (uint32_t b = 0; b < n_blocks; b++) {
#if V_FLOATS == 16
        vq sum[2] = {VQ(set1_epi32)(-128 * q[b].sum), VQ_ZERO()};
#else
        vq sum[2] = {VQ_ZERO(), VQ_ZERO()};
#endif
        UNROLL
        for (int j = 0; j < 8; j++) {
            int32_t quad;
            memcpy(&quad, q[b].q + 4 * j, sizeof quad);
            const void *k = quads + 4 * VEC_BLOCK * (8 * (size_t)b + (size_t)j);
            sum[j % 2] = vq_dot(sum[j % 2], VQ_LOAD(k), quad);
        }
        const vq all = VQ(add_epi32)(sum[0], sum[1]);
        const vqf d = VQ_PS(mul)(VQ_PS(loadu)(scales + b * VEC_BLOCK),
                                 VQ_PS(set1)(q[b].d));
        leaf = VQ_PS(add)(leaf, VQ_PS(mul)(VQ_FLOAT(all), d));
    }
    VQ_PS(storeu)(s, leaf);
}
#endif

static void dots_q8_0(float *s, const struct act_q8_0 *q, uint32_t nq,
                      const void *k, uint32_t n_rows, uint32_t dim)
{
    const float *scales = (const float *)k + (size_t)dim / 4 * VEC_BLOCK;
    for (uint32_t n = 0; n < nq; n++, s += VEC_BLOCK, q += dim / 32) {
        for (uint32_t t = 0; t < n_rows; t += KEYS_Q8) {
            dots_q8_0_tile(s + t, q, (const int8_t *)k + 4 * (size_t)t,
                           scales + t, dim / 32);
        }
    }
}

/* -------------------------------------------------------------- weights */

/* Sums of four queries at once: each is a chain. */
static ALWAYS_INLINE void add_weights(const float *w, uint32_t n, float *l,
                                      int nq)
{
    float sum[4];
    UNROLL
    for (int i = 0; i < nq; i++) sum[i] = l[i];
    for (uint32_t t = 0; t < n; t++) {
        UNROLL
        for (int i = 0; i < nq; i++) sum[i] += w[i * VEC_BLOCK + (int)t];
    }
    UNROLL
    for (int i = 0; i < nq; i++) l[i] = sum[i];
}

static void softmax(float *w, uint32_t nq, uint32_t n, float factor, float cap,
                    float *m, float *l, float *c)
{
    for (uint32_t i = 0; i < nq; i++) {
        float *s = w + i * (size_t)VEC_BLOCK;
        scale(s, s, factor, n);
        if (cap > 0) soft_cap(s, cap, n);
        const float top = largest(s, n, m[i]);
        exp_row(s, s, top, n);
        c[i] = top == m[i] ? 0 : m[i] - top;
        m[i] = top;
    }
    exp_row(c, c, 0, nq);
    for (uint32_t i = 0; i < nq; i++) l[i] *= c[i];
    uint32_t i = 0;
    for (; i + 4 <= nq; i += 4) {
        add_weights(w + i * (size_t)VEC_BLOCK, n, l + i, 4);
    }
    for (; i < nq; i++) add_weights(w + i * (size_t)VEC_BLOCK, n, l + i, 1);
}

/* --------------------------------------------------------------- values */

/* nv vectors of nq outputs stay in registers while the rows go by. */
static ALWAYS_INLINE void add_values_tile(float *o, const float *c,
                                          const float *w, const float *v,
                                          uint32_t n_rows, uint32_t width,
                                          int nq, int nv)
{
    vw sum[4][4];
    UNROLL
    for (int n = 0; n < nq; n++) {
        UNROLL
        for (int i = 0; i < nv; i++) {
            sum[n][i] = vw_mul(vw_load(o + (size_t)n * width + i * V_FLOATS),
                               vw_set(c[n]));
        }
    }
    for (uint32_t t = 0; t < n_rows; t++, v += width) {
        vw x[4];
        UNROLL
        for (int i = 0; i < nv; i++) x[i] = vw_load(v + i * V_FLOATS);
        UNROLL
        for (int n = 0; n < nq; n++) {
            const vw wt = vw_set(w[n * VEC_BLOCK + (int)t]);
            UNROLL
            for (int i = 0; i < nv; i++) {
                sum[n][i] = vw_add(sum[n][i], vw_mul(wt, x[i]));
            }
        }
    }
    UNROLL
    for (int n = 0; n < nq; n++) {
        UNROLL
        for (int i = 0; i < nv; i++) {
            vw_store(o + (size_t)n * width + i * V_FLOATS, sum[n][i]);
        }
    }
}

static ALWAYS_INLINE void add_values_of(float *o, const float *c,
                                        const float *w, const float *v,
                                        uint32_t n_rows, uint32_t width, int nq)
{
    uint32_t d = 0;
    for (; d + 4 * V_FLOATS <= width; d += 4 * V_FLOATS) {
        add_values_tile(o + d, c, w, v + d, n_rows, width, nq, 4);
    }
    for (; d < width; d += 16) {
        add_values_tile(o + d, c, w, v + d, n_rows, width, nq, 16 / V_FLOATS);
    }
}

static void add_values(float *o, const float *c, const float *w, uint32_t nq,
                       const float *v, uint32_t n_rows, uint32_t dim)
{
    const uint32_t width = vec_width(dim);
    uint32_t n = 0;
#if V_FLOATS == 16
    for (; n + 4 <= nq; n += 4) {
        add_values_of(o + (size_t)n * width, c + n, w + n * VEC_BLOCK, v,
                      n_rows, width, 4);
    }
#endif
    for (; n + 2 <= nq; n += 2) {
        add_values_of(o + (size_t)n * width, c + n, w + n * VEC_BLOCK, v,
                      n_rows, width, 2);
    }
    for (; n < nq; n++) {
        add_values_of(o + (size_t)n * width, c + n, w + n * VEC_BLOCK, v,
                      n_rows, width, 1);
    }
}

#endif
#endif

/* vec_act.h - act_quantize() V_FLOATS values at a time; for vec_LEVEL.c.
 *
 * Depends on: act, vec_width.  Thread: any. */
#ifndef ENGINE_VEC_ACT_H
#define ENGINE_VEC_ACT_H

#include "engine/act.h"
#include "engine/vec_width.h"

#ifdef V_FLOATS
#include <math.h>
#include <string.h>

#ifndef __aarch64__
/* The largest of n magnitudes: as integers they order like the floats, with
 * infinity and NaN on top. */
static ALWAYS_INLINE float largest_magnitude(const float *x, uint32_t n)
{
    __m128i t;
#if V_FLOATS == 16
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i top = _mm512_setzero_si512();
    for (uint32_t i = 0; i < n; i += 16) {
        const __m512i bits = _mm512_loadu_si512(x + i);
        top = _mm512_max_epi32(top, _mm512_and_si512(bits, magnitude));
    }
    const __m256i half = _mm256_max_epi32(_mm512_castsi512_si256(top),
                                          _mm512_extracti32x8_epi32(top, 1));
    t = _mm_max_epi32(_mm256_castsi256_si128(half),
                      _mm256_extracti128_si256(half, 1));
#elif defined(__AVX2__)
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i top = _mm256_setzero_si256();
    for (uint32_t i = 0; i < n; i += 8) {
        const __m256i bits = _mm256_loadu_si256((const void *)(x + i));
        top = _mm256_max_epi32(top, _mm256_and_si256(bits, magnitude));
    }
    t = _mm_max_epi32(_mm256_castsi256_si128(top),
                      _mm256_extracti128_si256(top, 1));
#else
    const __m128i magnitude = _mm_set1_epi32(0x7fffffff);
    __m128i top[2] = {_mm_setzero_si128(), _mm_setzero_si128()};
    for (uint32_t i = 0; i < n; i += 8) {
        UNROLL
        for (int j = 0; j < 2; j++) {
            const __m128i bits = _mm_loadu_si128((const void *)(x + i + 4 * j));
            top[j] = _mm_max_epi32(top[j], _mm_and_si128(bits, magnitude));
        }
    }
    t = _mm_max_epi32(top[0], top[1]);
#endif
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(t));
}

/* 16 values times scale to q: the conversion rounds to nearest, ties to
 * even. */
static ALWAYS_INLINE __m128i round_16(const float *x, vw scale)
{
#if V_FLOATS == 16
    return _mm512_cvtepi32_epi8(
        _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), scale)));
#else
    __m128i v[4];
    UNROLL
    for (int i = 0; i < 16 / V_FLOATS; i++) {
        const vw y = vw_mul(vw_load(x + V_FLOATS * i), scale);
#if V_FLOATS == 8
        const __m256i n = _mm256_cvtps_epi32(y);
        v[2 * i] = _mm256_castsi256_si128(n);
        v[2 * i + 1] = _mm256_extractf128_si256(n, 1);
#else
        v[i] = _mm_cvtps_epi32(y);
#endif
    }
    return _mm_packs_epi16(_mm_packs_epi32(v[0], v[1]),
                           _mm_packs_epi32(v[2], v[3]));
#endif
}

static ALWAYS_INLINE int32_t sum_16(__m128i q)
{
    const __m128i u = _mm_xor_si128(q, _mm_set1_epi8(-128));
    const __m128i two = _mm_sad_epu8(u, _mm_setzero_si128());
    return _mm_cvtsi128_si32(two) + _mm_extract_epi16(two, 4) - 16 * 128;
}

/* 16 values to q; returns their sum. */
static ALWAYS_INLINE int32_t store_16(int8_t *q, const float *x, vw scale)
{
    const __m128i v = round_16(x, scale);
    _mm_storeu_si128((void *)q, v);
    return sum_16(v);
}
#endif

/* n values (a multiple of 16) to q, and each sixteen's sum; returns d. */
static ALWAYS_INLINE float quantize_values(const float *x, uint32_t n,
                                           int8_t *q, int32_t *sum)
{
    const float amax = largest_magnitude(x, n);
    if (UNLIKELY(!(amax >= 0x1p-100f && amax < INFINITY))) {
        memset(q, 0, n);
        for (uint32_t i = 0; i < n / 16; i++) sum[i] = 0;
        return amax < 1.0f ? 0.0f : NAN;
    }
    const vw scale = vw_set(127.0f / amax);
    UNROLL
    for (uint32_t i = 0; i < n / 16; i++) {
        sum[i] = store_16(q + 16 * i, x + 16 * i, scale);
    }
    return amax / 127.0f;
}

static void quantize(enum act_kind kind, const float *x, uint32_t k, void *row)
{
    if (kind == ACT_Q8_0) {
        struct act_q8_0 *b = row;
        for (uint32_t i = 0; i < k / 32; i++, b++) {
            int32_t sum[2];
            b->d = quantize_values(x + 32 * (size_t)i, 32, b->q, sum);
            b->sum = sum[0] + sum[1];
        }
    } else if (kind == ACT_Q8_K) {
        struct act_q8_k *b = row;
        for (uint32_t i = 0; i < k / 256; i++, b++) {
            int32_t sum[16];
            b->d = quantize_values(x + 256 * (size_t)i, 256, b->q, sum);
            for (int j = 0; j < 16; j++) b->sum[j] = (int16_t)sum[j];
        }
    } else {
        act_quantize(kind, x, k, row);
    }
}

#endif
#endif

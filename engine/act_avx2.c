/* act_avx2.c - act_quantize() eight values at a time. */
#include "engine/act.h"

#ifdef __AVX2__
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "common/compiler.h"

/* The largest of n magnitudes: as integers they order like the floats, with
 * infinity and NaN on top. */
static ALWAYS_INLINE float largest(const float *x, uint32_t n)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i top = _mm256_setzero_si256();
    for (uint32_t i = 0; i < n; i += 8) {
        const __m256i bits = _mm256_loadu_si256((const void *)(x + i));
        top = _mm256_max_epi32(top, _mm256_and_si256(bits, magnitude));
    }
    __m128i t = _mm_max_epi32(_mm256_castsi256_si128(top),
                              _mm256_extracti128_si256(top, 1));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(t));
}

/* 32 values to q: the conversion rounds to nearest, ties to even. */
static ALWAYS_INLINE __m256i round_32(const float *x, __m256 scale)
{
    __m256i v[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_cvtps_epi32(
            _mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), scale));
    }
    const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]),
                                              _mm256_packs_epi32(v[2], v[3]));
    return _mm256_permutevar8x32_epi32(
        packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* n values (a multiple of 32) to q; returns d. */
static ALWAYS_INLINE float quantize_block(const float *x, uint32_t n, int8_t *q)
{
    const float amax = largest(x, n);
    if (UNLIKELY(!(amax >= 0x1p-100f && amax < INFINITY))) {
        memset(q, 0, n);
        return amax < 1.0f ? 0.0f : NAN;
    }
    const __m256 scale = _mm256_set1_ps(127.0f / amax);
    for (uint32_t i = 0; i < n; i += 32) {
        _mm256_storeu_si256((void *)(q + i), round_32(x + i, scale));
    }
    return amax / 127.0f;
}

/* q[0] + ... + q[15], q[16] + ... + q[31]. */
static ALWAYS_INLINE void sum_16(const int8_t *q, int32_t sum[2])
{
    const __m256i v = _mm256_xor_si256(_mm256_loadu_si256((const void *)q),
                                       _mm256_set1_epi8(-128));
    const __m256i eight = _mm256_sad_epu8(v, _mm256_setzero_si256());
    const __m256i both =
        _mm256_add_epi32(eight, _mm256_shuffle_epi32(eight, 0x4e));
    sum[0] = _mm256_extract_epi32(both, 0) - 16 * 128;
    sum[1] = _mm256_extract_epi32(both, 4) - 16 * 128;
}

void act_quantize_avx2(enum act_kind kind, const float *x, uint32_t k,
                       void *row)
{
    if (kind == ACT_Q8_0) {
        struct act_q8_0 *b = row;
        for (uint32_t i = 0; i < k / 32; i++, b++) {
            b->d = quantize_block(x + 32 * (size_t)i, 32, b->q);
            int32_t sum[2];
            sum_16(b->q, sum);
            b->sum = sum[0] + sum[1];
        }
    } else if (kind == ACT_Q8_K) {
        struct act_q8_k *b = row;
        for (uint32_t i = 0; i < k / 256; i++, b++) {
            b->d = quantize_block(x + 256 * (size_t)i, 256, b->q);
            for (int j = 0; j < 16; j += 2) {
                int32_t sum[2];
                sum_16(b->q + 16 * j, sum);
                b->sum[j] = (int16_t)sum[0];
                b->sum[j + 1] = (int16_t)sum[1];
            }
        }
    } else {
        act_quantize(kind, x, k, row);
    }
}
#endif

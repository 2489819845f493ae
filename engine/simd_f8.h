/* simd_f8.h - eight floats: the lanes of NUMERICS 2, one vector of 256 bits
 * (AVX) or two of 128 (SSE4.1).
 *
 * Depends on: compiler.  Thread: any.  For files of one instruction set. */
#ifndef ENGINE_SIMD_F8_H
#define ENGINE_SIMD_F8_H

#ifdef __SSE4_1__
#include <immintrin.h>
#include <stdint.h>

#include "common/compiler.h"

/* Four f16, exactly: the magnitude moved into place has an exponent 112 too
 * small, and infinities and NaNs need all exponent bits. */
static ALWAYS_INLINE __m128 four_of_f16(__m128i h16)
{
    const __m128i h = _mm_cvtepu16_epi32(h16);
    const __m128i magnitude = _mm_and_si128(h, _mm_set1_epi32(0x7fff));
    const __m128i top =
        _mm_and_si128(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff)),
                      _mm_set1_epi32(0x7f800000));
    const __m128i sign = _mm_slli_epi32(_mm_xor_si128(h, magnitude), 16);
    const __m128 f = _mm_mul_ps(_mm_castsi128_ps(_mm_slli_epi32(magnitude, 13)),
                                _mm_set1_ps(0x1p112f));
    return _mm_or_ps(f, _mm_castsi128_ps(_mm_or_si128(sign, top)));
}

static ALWAYS_INLINE __m128 four_of_bf16(__m128i h)
{
    return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), h));
}

/* ((0+4)+(2+6)) + ((1+5)+(3+7)) of the sums 0+4, 1+5, 2+6, 3+7. */
static ALWAYS_INLINE float four_sum(__m128 four)
{
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(
        _mm_add_ss(two, _mm_shuffle_ps(two, two, _MM_SHUFFLE(1, 1, 1, 1))));
}

#ifdef __AVX__
typedef __m256 f8;

static ALWAYS_INLINE f8 f8_join(__m128 lo, __m128 hi)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(lo), hi, 1);
}
static ALWAYS_INLINE __m128 f8_low(f8 x)
{
    return _mm256_castps256_ps128(x);
}
static ALWAYS_INLINE __m128 f8_high(f8 x)
{
    return _mm256_extractf128_ps(x, 1);
}
static ALWAYS_INLINE f8 f8_zero(void)
{
    return _mm256_setzero_ps();
}
static ALWAYS_INLINE f8 f8_set(float x)
{
    return _mm256_set1_ps(x);
}
static ALWAYS_INLINE f8 f8_load(const void *p)
{
    return _mm256_loadu_ps(p);
}
static ALWAYS_INLINE void f8_store(float *p, f8 x)
{
    _mm256_storeu_ps(p, x);
}
static ALWAYS_INLINE f8 f8_add(f8 a, f8 b)
{
    return _mm256_add_ps(a, b);
}
static ALWAYS_INLINE f8 f8_sub(f8 a, f8 b)
{
    return _mm256_sub_ps(a, b);
}
static ALWAYS_INLINE f8 f8_mul(f8 a, f8 b)
{
    return _mm256_mul_ps(a, b);
}
static ALWAYS_INLINE f8 f8_div(f8 a, f8 b)
{
    return _mm256_div_ps(a, b);
}
#else
typedef struct {
    __m128 lo, hi;
} f8;

static ALWAYS_INLINE f8 f8_join(__m128 lo, __m128 hi)
{
    return (f8){lo, hi};
}
static ALWAYS_INLINE __m128 f8_low(f8 x)
{
    return x.lo;
}
static ALWAYS_INLINE __m128 f8_high(f8 x)
{
    return x.hi;
}
static ALWAYS_INLINE f8 f8_zero(void)
{
    return (f8){_mm_setzero_ps(), _mm_setzero_ps()};
}
static ALWAYS_INLINE f8 f8_set(float x)
{
    return (f8){_mm_set1_ps(x), _mm_set1_ps(x)};
}
static ALWAYS_INLINE f8 f8_load(const void *p)
{
    const float *f = p;
    return (f8){_mm_loadu_ps(f), _mm_loadu_ps(f + 4)};
}
static ALWAYS_INLINE void f8_store(float *p, f8 x)
{
    _mm_storeu_ps(p, x.lo);
    _mm_storeu_ps(p + 4, x.hi);
}
static ALWAYS_INLINE f8 f8_add(f8 a, f8 b)
{
    return (f8){_mm_add_ps(a.lo, b.lo), _mm_add_ps(a.hi, b.hi)};
}
static ALWAYS_INLINE f8 f8_sub(f8 a, f8 b)
{
    return (f8){_mm_sub_ps(a.lo, b.lo), _mm_sub_ps(a.hi, b.hi)};
}
static ALWAYS_INLINE f8 f8_mul(f8 a, f8 b)
{
    return (f8){_mm_mul_ps(a.lo, b.lo), _mm_mul_ps(a.hi, b.hi)};
}
static ALWAYS_INLINE f8 f8_div(f8 a, f8 b)
{
    return (f8){_mm_div_ps(a.lo, b.lo), _mm_div_ps(a.hi, b.hi)};
}
#endif

/* Eight f16 or bf16, unaligned. */
static ALWAYS_INLINE f8 f8_of_f16(const void *p)
{
    const __m128i h = _mm_loadu_si128(p);
#ifdef __F16C__
    return _mm256_cvtph_ps(h);
#else
    return f8_join(four_of_f16(h), four_of_f16(_mm_srli_si128(h, 8)));
#endif
}
static ALWAYS_INLINE f8 f8_of_bf16(const void *p)
{
#ifdef __AVX2__
    const __m256i x = _mm256_cvtepu16_epi32(_mm_loadu_si128(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
#else
    const __m128i h = _mm_loadu_si128(p);
    return f8_join(four_of_bf16(h), four_of_bf16(_mm_srli_si128(h, 8)));
#endif
}
/* nm_lanes_sum() */
static ALWAYS_INLINE float f8_sum(f8 x)
{
    return four_sum(_mm_add_ps(f8_low(x), f8_high(x)));
}

#endif
#endif

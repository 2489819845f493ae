/* vec_width.h - vectors of V_FLOATS floats for vec_*.h: 4 with SSE4.1 and NEON,
 * 8 with AVX and AVX2, 16 with AVX-512.
 *
 * Depends on: simd_f8, quant_f16.  Thread: any.  For files of one instruction
 * set. */
#ifndef ENGINE_VEC_WIDTH_H
#define ENGINE_VEC_WIDTH_H

#ifdef __aarch64__
#include "engine/vec_neon.h"
#elif defined(__SSE4_1__)
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "common/compiler.h"
#include "engine/quant_f16.h"
#include "engine/simd_f8.h"

/* To the nearest binary16 and back, for what an exponent of 15 can hold.
 * Below 2^-14 the adder rounds to the multiple of 2^-24 that is wanted. */
static ALWAYS_INLINE __m128 four_round_f16(__m128 x)
{
    const __m128 sign = _mm_and_ps(x, _mm_set1_ps(-0.0f));
    const __m128 a = _mm_xor_ps(x, sign), half = _mm_set1_ps(0.5f);
    const __m128 small = _mm_sub_ps(_mm_add_ps(a, half), half);
    __m128i bits = _mm_castps_si128(a);
    const __m128i odd =
        _mm_and_si128(_mm_srli_epi32(bits, 13), _mm_set1_epi32(1));
    bits = _mm_add_epi32(bits, _mm_add_epi32(odd, _mm_set1_epi32(0xfff)));
    bits = _mm_and_si128(bits, _mm_set1_epi32(~0x1fff));
    const __m128 y = _mm_blendv_ps(_mm_castsi128_ps(bits), small,
                                   _mm_cmplt_ps(a, _mm_set1_ps(0x1p-14f)));
    return _mm_or_ps(y, sign);
}

#if defined(__AVX512F__)
#define V_FLOATS           16
typedef __m512 vw;
typedef __mmask16 vw_mask;
#define VW(op)             _mm512_##op##_ps
#define VW_IF(a, b, order) _mm512_cmp_ps_mask(a, b, order)
#define VW_SELECT(m, y, n) _mm512_mask_blend_ps(m, n, y)
#define VW_TRUNCATE(x)     _mm512_castsi512_ps(_mm512_cvttps_epi32(x))
#elif defined(__AVX__)
#define V_FLOATS           8
typedef __m256 vw;
typedef __m256 vw_mask;
#define VW(op)             _mm256_##op##_ps
#define VW_IF(a, b, order) _mm256_cmp_ps(a, b, order)
#define VW_SELECT(m, y, n) _mm256_blendv_ps(n, y, m)
#define VW_TRUNCATE(x)     _mm256_castsi256_ps(_mm256_cvttps_epi32(x))
#else
#define V_FLOATS           4
typedef __m128 vw;
typedef __m128 vw_mask;
#define VW(op)             _mm_##op##_ps
#define VW_SELECT(m, y, n) _mm_blendv_ps(n, y, m)
#define VW_TRUNCATE(x)     _mm_castsi128_ps(_mm_cvttps_epi32(x))
#endif

static ALWAYS_INLINE vw vw_load(const float *p)
{
    return VW(loadu)(p);
}
static ALWAYS_INLINE void vw_store(float *p, vw x)
{
    VW(storeu)(p, x);
}
static ALWAYS_INLINE vw vw_set(float x)
{
    return VW(set1)(x);
}
static ALWAYS_INLINE vw vw_add(vw a, vw b)
{
    return VW(add)(a, b);
}
static ALWAYS_INLINE vw vw_sub(vw a, vw b)
{
    return VW(sub)(a, b);
}
static ALWAYS_INLINE vw vw_mul(vw a, vw b)
{
    return VW(mul)(a, b);
}
static ALWAYS_INLINE vw vw_div(vw a, vw b)
{
    return VW(div)(a, b);
}
static ALWAYS_INLINE vw vw_and(vw a, vw b)
{
    return VW(and)(a, b);
}
static ALWAYS_INLINE vw vw_or(vw a, vw b)
{
    return VW(or)(a, b);
}
static ALWAYS_INLINE vw vw_xor(vw a, vw b)
{
    return VW(xor)(a, b);
}
/* The bits of b that a has not. */
static ALWAYS_INLINE vw vw_andnot(vw a, vw b)
{
    return VW(andnot)(a, b);
}
/* a > b ? a : b, which is b where one is not a number. */
static ALWAYS_INLINE vw vw_max(vw a, vw b)
{
    return VW(max)(a, b);
}

#ifdef VW_IF
static ALWAYS_INLINE vw_mask vw_lt(vw a, vw b)
{
    return VW_IF(a, b, _CMP_LT_OQ);
}
static ALWAYS_INLINE vw_mask vw_le(vw a, vw b)
{
    return VW_IF(a, b, _CMP_LE_OQ);
}
/* Not less: true where one is not a number. */
static ALWAYS_INLINE vw_mask vw_nlt(vw a, vw b)
{
    return VW_IF(a, b, _CMP_NLT_UQ);
}
static ALWAYS_INLINE vw_mask vw_nan(vw a)
{
    return VW_IF(a, a, _CMP_UNORD_Q);
}
#else
static ALWAYS_INLINE vw_mask vw_lt(vw a, vw b)
{
    return _mm_cmplt_ps(a, b);
}
static ALWAYS_INLINE vw_mask vw_le(vw a, vw b)
{
    return _mm_cmple_ps(a, b);
}
/* Not less: true where one is not a number. */
static ALWAYS_INLINE vw_mask vw_nlt(vw a, vw b)
{
    return _mm_cmpnlt_ps(a, b);
}
static ALWAYS_INLINE vw_mask vw_nan(vw a)
{
    return _mm_cmpunord_ps(a, a);
}
#endif
static ALWAYS_INLINE vw vw_select(vw_mask m, vw yes, vw no)
{
    return VW_SELECT(m, yes, no);
}

/* y * 2^n for whole n from -126 to 128 where the result is normal. */
static ALWAYS_INLINE vw vw_scale2(vw y, vw n)
{
#if V_FLOATS == 16
    return _mm512_scalef_ps(y, n);
#else
    /* 2^h for -126 <= h <= 127 has the bits of the number (h + 127) 2^23 */
    const vw half = VW(floor)(vw_mul(n, vw_set(0.5f)));
    const vw unit = vw_set(0x1p23f), bias = vw_set(127.0f);
    const vw a = VW_TRUNCATE(vw_mul(vw_add(half, bias), unit));
    const vw b = VW_TRUNCATE(vw_mul(vw_add(vw_sub(n, half), bias), unit));
    return vw_mul(vw_mul(y, a), b);
#endif
}

/* f16, unaligned. */
static ALWAYS_INLINE vw vw_of_f16(const uint16_t *p)
{
#if V_FLOATS == 16
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
#elif V_FLOATS == 8
    return f8_of_f16(p);
#else
    return four_of_f16(_mm_loadl_epi64((const void *)p));
#endif
}
static ALWAYS_INLINE vw vw_of_i8(const int8_t *p)
{
#if V_FLOATS == 16
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
#elif V_FLOATS == 8
    const __m128i q = _mm_loadl_epi64((const void *)p);
#ifdef __AVX2__
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
#else
    return f8_join(_mm_cvtepi32_ps(_mm_cvtepi8_epi32(q)),
                   _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_srli_si128(q, 4))));
#endif
#else
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(four)));
#endif
}
/* Rounded to binary16, |x| < 65520. */
static ALWAYS_INLINE vw vw_round_f16(vw x)
{
#if V_FLOATS == 16
    return _mm512_cvtph_ps(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#elif V_FLOATS == 8
    return f8_join(four_round_f16(f8_low(x)), four_round_f16(f8_high(x)));
#else
    return four_round_f16(x);
#endif
}
/* To f16 at p. */
static ALWAYS_INLINE void vw_to_f16(uint16_t *p, vw x)
{
#if V_FLOATS == 16
    _mm256_storeu_si256((void *)p,
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#else
    float v[V_FLOATS];
    vw_store(v, x);
    for (int i = 0; i < V_FLOATS; i++) p[i] = f32_to_f16_inline(v[i]);
#endif
}

/* The largest: with vw_max's view of what is not a number, from m on. */
static ALWAYS_INLINE float vw_largest(vw x)
{
#if V_FLOATS == 16
    const __m256 e =
        _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 m = _mm_max_ps(f8_low(e), f8_high(e));
#elif V_FLOATS == 8
    __m128 m = _mm_max_ps(f8_low(x), f8_high(x));
#else
    __m128 m = x;
#endif
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_shuffle_ps(m, m, 1));
    return _mm_cvtss_f32(m);
}

#endif
#endif

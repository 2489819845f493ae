/* simd_128.h - simd.h for SSE4.1 (with SSSE3) and AVX: vectors of 128 bits. */
#ifndef ENGINE_SIMD_128_H
#define ENGINE_SIMD_128_H

#ifdef __SSE4_1__
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "common/compiler.h"
#include "engine/simd_f8.h"

#define V_ROWS 4
typedef __m128i vi;
typedef __m128 vf;

static ALWAYS_INLINE vi v_load(const void *p)
{
    return _mm_loadu_si128(p);
}
static ALWAYS_INLINE void v_store(void *p, vi x)
{
    _mm_storeu_si128(p, x);
}
/* The same sixteen bytes in every 128 bits. */
static ALWAYS_INLINE vi v_lanes(const void *p)
{
    return _mm_loadu_si128(p);
}
/* V_ROWS * 2 bytes, in either half. */
static ALWAYS_INLINE vi v_halves(const void *p)
{
    const __m128i x = _mm_loadl_epi64(p);
    return _mm_unpacklo_epi64(x, x);
}
/* first below last */
static ALWAYS_INLINE vi v_join_halves(vi first, vi last)
{
    return _mm_blend_epi16(first, last, 0xf0);
}
static ALWAYS_INLINE vi v_quad(const int8_t *q)
{
#ifdef __AVX__ /* a load like any other */
    return _mm_castps_si128(_mm_broadcast_ss((const void *)q));
#else
    int32_t v;
    memcpy(&v, q, sizeof v);
    return _mm_set1_epi32(v);
#endif
}
static ALWAYS_INLINE vi v_zero(void)
{
    return _mm_setzero_si128();
}
static ALWAYS_INLINE vi v_set8(int x)
{
    return _mm_set1_epi8((char)x);
}
static ALWAYS_INLINE vi v_set16(int x)
{
    return _mm_set1_epi16((short)x);
}
static ALWAYS_INLINE vi v_set32(int32_t x)
{
    return _mm_set1_epi32(x);
}
static ALWAYS_INLINE vi v_and(vi a, vi b)
{
    return _mm_and_si128(a, b);
}
static ALWAYS_INLINE vi v_or(vi a, vi b)
{
    return _mm_or_si128(a, b);
}
static ALWAYS_INLINE vi v_xor(vi a, vi b)
{
    return _mm_xor_si128(a, b);
}
static ALWAYS_INLINE vi v_add8(vi a, vi b)
{
    return _mm_add_epi8(a, b);
}
static ALWAYS_INLINE vi v_sub8(vi a, vi b)
{
    return _mm_sub_epi8(a, b);
}
static ALWAYS_INLINE vi v_add16(vi a, vi b)
{
    return _mm_add_epi16(a, b);
}
static ALWAYS_INLINE vi v_add32(vi a, vi b)
{
    return _mm_add_epi32(a, b);
}
static ALWAYS_INLINE vi v_sub32(vi a, vi b)
{
    return _mm_sub_epi32(a, b);
}
static ALWAYS_INLINE vi v_left16(vi x, int n)
{
    return _mm_slli_epi16(x, n);
}
static ALWAYS_INLINE vi v_right16(vi x, int n)
{
    return _mm_srli_epi16(x, n);
}
static ALWAYS_INLINE vi v_left32(vi x, int n)
{
    return _mm_slli_epi32(x, n);
}
static ALWAYS_INLINE vi v_shuffle8(vi x, vi order)
{
    return _mm_shuffle_epi8(x, order);
}
static ALWAYS_INLINE vi v_madd16(vi a, vi b)
{
    return _mm_madd_epi16(a, b);
}
/* sum and the sums of int16 pairs */
static ALWAYS_INLINE vi v_add_pairs(vi sum, vi pairs)
{
    return _mm_add_epi32(sum, _mm_madd_epi16(pairs, v_set16(1)));
}
/* Sums of byte products, u unsigned, that become int16 pairs at the end. */
typedef vi vp;
static ALWAYS_INLINE vp vp_zero(void)
{
    return v_zero();
}
static ALWAYS_INLINE vp vp_mul(vi u, vi s)
{
    return _mm_maddubs_epi16(u, s);
}
static ALWAYS_INLINE vp vp_dot(vp sum, vi u, vi s)
{
    return v_add16(sum, _mm_maddubs_epi16(u, s));
}
static ALWAYS_INLINE vi vp_pairs(vp sum)
{
    return sum;
}
/* The int16 pair sums of signed bytes: the sign of a moves to b, which is not
 * -128. */
static ALWAYS_INLINE vi v_madd8(vi a, vi b)
{
    return _mm_maddubs_epi16(_mm_abs_epi8(a), _mm_sign_epi8(b, a));
}
static ALWAYS_INLINE vi v_dot_i16(vi sum, vi a, vi b)
{
    return _mm_add_epi32(sum, _mm_madd_epi16(a, b));
}
static ALWAYS_INLINE vi v_u8_to_16(const void *p)
{
    return _mm_cvtepu8_epi16(_mm_loadl_epi64(p));
}
static ALWAYS_INLINE vi v_i8_to_16(const void *p)
{
    return _mm_cvtepi8_epi16(_mm_loadl_epi64(p));
}
/* V_ROWS bytes to int16, each twice. */
static ALWAYS_INLINE vi v_u8_twice(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    const __m128i x = _mm_cvtsi32_si128(v);
    return _mm_cvtepu8_epi16(_mm_unpacklo_epi8(x, x));
}
static ALWAYS_INLINE vi v_i8_twice(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    const __m128i x = _mm_cvtsi32_si128(v);
    return _mm_cvtepi8_epi16(_mm_unpacklo_epi8(x, x));
}

static ALWAYS_INLINE vf vf_set(float x)
{
    return _mm_set1_ps(x);
}
static ALWAYS_INLINE vf vf_add(vf a, vf b)
{
    return _mm_add_ps(a, b);
}
static ALWAYS_INLINE vf vf_sub(vf a, vf b)
{
    return _mm_sub_ps(a, b);
}
static ALWAYS_INLINE vf vf_mul(vf a, vf b)
{
    return _mm_mul_ps(a, b);
}
static ALWAYS_INLINE vf vf_of_i32(vi x)
{
    return _mm_cvtepi32_ps(x);
}
static ALWAYS_INLINE vf vf_load(const float *p)
{
    return _mm_loadu_ps(p);
}
static ALWAYS_INLINE void vf_store(float *p, vf x)
{
    _mm_storeu_ps(p, x);
}
static ALWAYS_INLINE vf vf_of_f16(const void *p)
{
    return four_of_f16(_mm_loadl_epi64(p));
}

#endif
#endif

/* simd_256.h - simd.h for AVX2, and 256-bit VNNI: vectors of 256 bits. */
#ifndef ENGINE_SIMD_256_H
#define ENGINE_SIMD_256_H

#ifdef __AVX2__
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "common/compiler.h"

#define V_ROWS 8
typedef __m256i vi;
typedef __m256 vf;

static ALWAYS_INLINE vi v_load(const void *p)
{
    return _mm256_loadu_si256(p);
}
static ALWAYS_INLINE void v_store(void *p, vi x)
{
    _mm256_storeu_si256(p, x);
}
/* The same sixteen bytes in every 128 bits. */
static ALWAYS_INLINE vi v_lanes(const void *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(p));
}
/* V_ROWS * 2 bytes, in either half. */
static ALWAYS_INLINE vi v_halves(const void *p)
{
    return v_lanes(p);
}
/* first below last */
static ALWAYS_INLINE vi v_join_halves(vi first, vi last)
{
    return _mm256_blend_epi32(first, last, 0xf0);
}
static ALWAYS_INLINE vi v_quad(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, sizeof v);
    return _mm256_set1_epi32(v);
}
static ALWAYS_INLINE vi v_zero(void)
{
    return _mm256_setzero_si256();
}
static ALWAYS_INLINE vi v_set8(int x)
{
    return _mm256_set1_epi8((char)x);
}
static ALWAYS_INLINE vi v_set16(int x)
{
    return _mm256_set1_epi16((short)x);
}
static ALWAYS_INLINE vi v_set32(int32_t x)
{
    return _mm256_set1_epi32(x);
}
static ALWAYS_INLINE vi v_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}
static ALWAYS_INLINE vi v_or(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}
static ALWAYS_INLINE vi v_add8(vi a, vi b)
{
    return _mm256_add_epi8(a, b);
}
static ALWAYS_INLINE vi v_sub8(vi a, vi b)
{
    return _mm256_sub_epi8(a, b);
}
static ALWAYS_INLINE vi v_add16(vi a, vi b)
{
    return _mm256_add_epi16(a, b);
}
static ALWAYS_INLINE vi v_add32(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}
static ALWAYS_INLINE vi v_sub32(vi a, vi b)
{
    return _mm256_sub_epi32(a, b);
}
static ALWAYS_INLINE vi v_left16(vi x, int n)
{
    return _mm256_slli_epi16(x, n);
}
static ALWAYS_INLINE vi v_right16(vi x, int n)
{
    return _mm256_srli_epi16(x, n);
}
static ALWAYS_INLINE vi v_left32(vi x, int n)
{
    return _mm256_slli_epi32(x, n);
}
static ALWAYS_INLINE vi v_signed_right32(vi x, int n)
{
    return _mm256_srai_epi32(x, n);
}
static ALWAYS_INLINE vi v_shuffle8(vi x, vi order)
{
    return _mm256_shuffle_epi8(x, order);
}
static ALWAYS_INLINE vi v_madd16(vi a, vi b)
{
    return _mm256_madd_epi16(a, b);
}
/* sum and the sums of int16 pairs */
static ALWAYS_INLINE vi v_add_pairs(vi sum, vi pairs)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, v_set16(1)));
}
/* Sums of byte products, u unsigned, that become int16 pairs at the end. */
typedef vi vp;
static ALWAYS_INLINE vp vp_zero(void)
{
    return v_zero();
}
static ALWAYS_INLINE vp vp_mul(vi u, vi s)
{
    return _mm256_maddubs_epi16(u, s);
}
static ALWAYS_INLINE vp vp_dot(vp sum, vi u, vi s)
{
    return v_add16(sum, _mm256_maddubs_epi16(u, s));
}
static ALWAYS_INLINE vi vp_pairs(vp sum)
{
    return sum;
}
/* The int16 pair sums of signed bytes: the sign of a moves to b, which is not
 * -128. */
static ALWAYS_INLINE vi v_madd8(vi a, vi b)
{
    return _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a));
}
static ALWAYS_INLINE vi v_u8_to_16(const void *p)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(p));
}
static ALWAYS_INLINE vi v_i8_to_16(const void *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(p));
}
/* V_ROWS bytes to int16, each twice. */
static ALWAYS_INLINE vi v_u8_twice(const void *p)
{
    const __m256i order = _mm256_setr_epi8(
        0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1, 4, -1, 4, -1, 5,
        -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1);
    return _mm256_shuffle_epi8(_mm256_broadcastq_epi64(_mm_loadl_epi64(p)),
                               order);
}
static ALWAYS_INLINE vi v_i8_twice(const void *p)
{
    const __m128i x = _mm_loadl_epi64(p);
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(x, x));
}
/* V_ROWS bytes to int32. */
static ALWAYS_INLINE vi v_u8_to_32(const void *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
}
static ALWAYS_INLINE vi v_i8_to_32(const void *p)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(p));
}
static ALWAYS_INLINE vi v_mul16(vi a, vi b)
{
    return _mm256_mullo_epi16(a, b);
}
static ALWAYS_INLINE vi v_mul32(vi a, vi b)
{
    return _mm256_mullo_epi32(a, b);
}
static ALWAYS_INLINE vi v_xor(vi a, vi b)
{
    return _mm256_xor_si256(a, b);
}
#if defined(__AVXVNNI__)
#define V_QUADS /* has v_dot_u8() */
static ALWAYS_INLINE vi v_dot_u8(vi sum, vi u, vi s)
{
    return _mm256_dpbusd_avx_epi32(sum, u, s);
}
static ALWAYS_INLINE vi v_dot_i16(vi sum, vi a, vi b)
{
    return _mm256_dpwssd_avx_epi32(sum, a, b);
}
#elif defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define V_QUADS
static ALWAYS_INLINE vi v_dot_u8(vi sum, vi u, vi s)
{
    return _mm256_dpbusd_epi32(sum, u, s);
}
static ALWAYS_INLINE vi v_dot_i16(vi sum, vi a, vi b)
{
    return _mm256_dpwssd_epi32(sum, a, b);
}
#else
static ALWAYS_INLINE vi v_dot_i16(vi sum, vi a, vi b)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
#endif

static ALWAYS_INLINE vf vf_set(float x)
{
    return _mm256_set1_ps(x);
}
static ALWAYS_INLINE vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
static ALWAYS_INLINE vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
static ALWAYS_INLINE vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
static ALWAYS_INLINE vf vf_of_i32(vi x)
{
    return _mm256_cvtepi32_ps(x);
}
static ALWAYS_INLINE vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
static ALWAYS_INLINE void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}
static ALWAYS_INLINE vf vf_of_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

#endif
#endif

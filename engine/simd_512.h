/* simd_512.h - simd.h for AVX-512 VNNI: vectors of 512 bits. */
#ifndef ENGINE_SIMD_512_H
#define ENGINE_SIMD_512_H

#ifdef __AVX512VNNI__
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "common/compiler.h"

#define V_ROWS  16
#define V_QUADS /* has v_dot_u8() */
typedef __m512i vi;
typedef __m512 vf;
#ifdef __clang__ /* the compilers do not agree on what a count is */
typedef unsigned count16;
#else
typedef int count16;
#endif

static ALWAYS_INLINE vi v_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
static ALWAYS_INLINE void v_store(void *p, vi x)
{
    _mm512_storeu_si512(p, x);
}
/* The same sixteen bytes in every 128 bits. */
static ALWAYS_INLINE vi v_lanes(const void *p)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128(p));
}
/* V_ROWS * 2 bytes, in either half. */
static ALWAYS_INLINE vi v_halves(const void *p)
{
    return _mm512_broadcast_i64x4(_mm256_loadu_si256(p));
}
/* first below last */
static ALWAYS_INLINE vi v_join_halves(vi first, vi last)
{
    return _mm512_mask_blend_epi64(0xf0, first, last);
}
static ALWAYS_INLINE vi v_quad(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, sizeof v);
    return _mm512_set1_epi32(v);
}
static ALWAYS_INLINE vi v_zero(void)
{
    return _mm512_setzero_si512();
}
static ALWAYS_INLINE vi v_set8(int x)
{
    return _mm512_set1_epi8((char)x);
}
static ALWAYS_INLINE vi v_set16(int x)
{
    return _mm512_set1_epi16((short)x);
}
static ALWAYS_INLINE vi v_set32(int32_t x)
{
    return _mm512_set1_epi32(x);
}
static ALWAYS_INLINE vi v_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}
static ALWAYS_INLINE vi v_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}
static ALWAYS_INLINE vi v_xor(vi a, vi b)
{
    return _mm512_xor_si512(a, b);
}
static ALWAYS_INLINE vi v_add8(vi a, vi b)
{
    return _mm512_add_epi8(a, b);
}
static ALWAYS_INLINE vi v_sub8(vi a, vi b)
{
    return _mm512_sub_epi8(a, b);
}
static ALWAYS_INLINE vi v_add32(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
static ALWAYS_INLINE vi v_sub32(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}
static ALWAYS_INLINE vi v_left16(vi x, int n)
{
    return _mm512_slli_epi16(x, (count16)n);
}
static ALWAYS_INLINE vi v_right16(vi x, int n)
{
    return _mm512_srli_epi16(x, (count16)n);
}
static ALWAYS_INLINE vi v_left32(vi x, int n)
{
    return _mm512_slli_epi32(x, (unsigned)n);
}
static ALWAYS_INLINE vi v_signed_right32(vi x, int n)
{
    return _mm512_srai_epi32(x, (unsigned)n);
}
static ALWAYS_INLINE vi v_shuffle8(vi x, vi order)
{
    return _mm512_shuffle_epi8(x, order);
}
static ALWAYS_INLINE vi v_u8_to_16(const void *p)
{
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256(p));
}
static ALWAYS_INLINE vi v_i8_to_16(const void *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(p));
}
/* V_ROWS bytes to int32. */
static ALWAYS_INLINE vi v_u8_to_32(const void *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
}
static ALWAYS_INLINE vi v_i8_to_32(const void *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(p));
}
/* V_ROWS bytes to int16, each twice. */
static ALWAYS_INLINE vi v_u8_twice(const void *p)
{
    return _mm512_mullo_epi32(v_u8_to_32(p), _mm512_set1_epi32(0x10001));
}
static ALWAYS_INLINE vi v_mul16(vi a, vi b)
{
    return _mm512_mullo_epi16(a, b);
}
static ALWAYS_INLINE vi v_mul32(vi a, vi b)
{
    return _mm512_mullo_epi32(a, b);
}
static ALWAYS_INLINE vi v_dot_u8(vi sum, vi u, vi s)
{
    return _mm512_dpbusd_epi32(sum, u, s);
}
static ALWAYS_INLINE vi v_dot_i16(vi sum, vi a, vi b)
{
    return _mm512_dpwssd_epi32(sum, a, b);
}

static ALWAYS_INLINE vf vf_set(float x)
{
    return _mm512_set1_ps(x);
}
static ALWAYS_INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
static ALWAYS_INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
static ALWAYS_INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
static ALWAYS_INLINE vf vf_of_i32(vi x)
{
    return _mm512_cvtepi32_ps(x);
}
static ALWAYS_INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static ALWAYS_INLINE void vf_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}
static ALWAYS_INLINE vf vf_of_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

#endif
#endif

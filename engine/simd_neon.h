/* simd_neon.h - simd.h for 64-bit ARM: vectors of 128 bits (ASIMD, which every
 * such processor has), and sdot where the file is compiled for it.
 *
 * Depends on: compiler.  Thread: any.  For files of one instruction set.
 *
 * Products of bytes are signed times signed here: a weight of 0..127 is itself
 * and one with a sign needs no offset (V_OFFSET8). */
#ifndef ENGINE_SIMD_NEON_H
#define ENGINE_SIMD_NEON_H

#ifdef __aarch64__
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "common/compiler.h"

#define V_ROWS    4
#define V_OFFSET8 0
#ifdef __ARM_FEATURE_DOTPROD
#define V_QUADS /* has v_dot_u8() */
#endif
typedef int8x16_t vi;
typedef float32x4_t vf;

/* The other views of a vector. */
static ALWAYS_INLINE int16x8_t as_16(vi x)
{
    return vreinterpretq_s16_s8(x);
}
static ALWAYS_INLINE int32x4_t as_32(vi x)
{
    return vreinterpretq_s32_s8(x);
}
static ALWAYS_INLINE vi of_16(int16x8_t x)
{
    return vreinterpretq_s8_s16(x);
}
static ALWAYS_INLINE vi of_32(int32x4_t x)
{
    return vreinterpretq_s8_s32(x);
}

static ALWAYS_INLINE vi v_load(const void *p)
{
    return vld1q_s8(p);
}
static ALWAYS_INLINE void v_store(void *p, vi x)
{
    vst1q_s8(p, x);
}
/* The same sixteen bytes in every 128 bits. */
static ALWAYS_INLINE vi v_lanes(const void *p)
{
    return vld1q_s8(p);
}
/* V_ROWS * 2 bytes, in either half. */
static ALWAYS_INLINE vi v_halves(const void *p)
{
    const int8x8_t x = vld1_s8(p);
    return vcombine_s8(x, x);
}
/* first below last */
static ALWAYS_INLINE vi v_join_halves(vi first, vi last)
{
    return vcombine_s8(vget_low_s8(first), vget_high_s8(last));
}
static ALWAYS_INLINE vi v_quad(const int8_t *q)
{
    float v; /* for the compiler: not by way of an integer register */
    memcpy(&v, q, sizeof v);
    return vreinterpretq_s8_f32(vdupq_n_f32(v));
}
static ALWAYS_INLINE vi v_zero(void)
{
    return vdupq_n_s8(0);
}
static ALWAYS_INLINE vi v_set8(int x)
{
    return vdupq_n_s8((int8_t)x);
}
static ALWAYS_INLINE vi v_set16(int x)
{
    return of_16(vdupq_n_s16((int16_t)x));
}
static ALWAYS_INLINE vi v_set32(int32_t x)
{
    return of_32(vdupq_n_s32(x));
}
static ALWAYS_INLINE vi v_and(vi a, vi b)
{
    return vandq_s8(a, b);
}
static ALWAYS_INLINE vi v_or(vi a, vi b)
{
    return vorrq_s8(a, b);
}
static ALWAYS_INLINE vi v_xor(vi a, vi b)
{
    return veorq_s8(a, b);
}
static ALWAYS_INLINE vi v_add8(vi a, vi b)
{
    return vaddq_s8(a, b);
}
static ALWAYS_INLINE vi v_sub8(vi a, vi b)
{
    return vsubq_s8(a, b);
}
static ALWAYS_INLINE vi v_add16(vi a, vi b)
{
    return of_16(vaddq_s16(as_16(a), as_16(b)));
}
static ALWAYS_INLINE vi v_add32(vi a, vi b)
{
    return of_32(vaddq_s32(as_32(a), as_32(b)));
}
static ALWAYS_INLINE vi v_sub32(vi a, vi b)
{
    return of_32(vsubq_s32(as_32(a), as_32(b)));
}
/* By a count that need not be a constant, but most often is one after
 * inlining: the compiler's own shift, as the intrinsics take either kind. */
static ALWAYS_INLINE vi v_left16(vi x, int n)
{
    return vreinterpretq_s8_u16(vreinterpretq_u16_s8(x) << n);
}
static ALWAYS_INLINE vi v_right16(vi x, int n)
{
    return vreinterpretq_s8_u16(vreinterpretq_u16_s8(x) >> n);
}
static ALWAYS_INLINE vi v_left32(vi x, int n)
{
    return vreinterpretq_s8_u32(vreinterpretq_u32_s8(x) << n);
}
static ALWAYS_INLINE vi v_signed_right32(vi x, int n)
{
    return of_32(as_32(x) >> n);
}
static ALWAYS_INLINE vi v_shuffle8(vi x, vi order)
{
    return vqtbl1q_s8(x, vreinterpretq_u8_s8(order));
}
static ALWAYS_INLINE vi v_mul16(vi a, vi b)
{
    return of_16(vmulq_s16(as_16(a), as_16(b)));
}
static ALWAYS_INLINE vi v_mul32(vi a, vi b)
{
    return of_32(vmulq_s32(as_32(a), as_32(b)));
}
static ALWAYS_INLINE vi v_madd16(vi a, vi b)
{
    const int16x8_t x = as_16(a), y = as_16(b);
    return of_32(vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)),
                            vmull_high_s16(x, y)));
}
static ALWAYS_INLINE vi v_dot_i16(vi sum, vi a, vi b)
{
    return v_add32(sum, v_madd16(a, b));
}
/* sum and the sums of int16 pairs */
static ALWAYS_INLINE vi v_add_pairs(vi sum, vi pairs)
{
    return of_32(vpadalq_s16(as_32(sum), as_16(pairs)));
}

/* Sums of byte products that become int16 pairs at the end. */
typedef struct {
    int16x8_t low, high;
} vp;

static ALWAYS_INLINE vp vp_zero(void)
{
    return (vp){vdupq_n_s16(0), vdupq_n_s16(0)};
}
static ALWAYS_INLINE vp vp_mul(vi u, vi s)
{
    return (vp){vmull_s8(vget_low_s8(u), vget_low_s8(s)), vmull_high_s8(u, s)};
}
static ALWAYS_INLINE vp vp_dot(vp sum, vi u, vi s)
{
    return (vp){vmlal_s8(sum.low, vget_low_s8(u), vget_low_s8(s)),
                vmlal_high_s8(sum.high, u, s)};
}
static ALWAYS_INLINE vi vp_pairs(vp sum)
{
    return of_16(vpaddq_s16(sum.low, sum.high));
}
/* The int16 pair sums of signed bytes, -128 * -128 twice excluded. */
static ALWAYS_INLINE vi v_madd8(vi a, vi b)
{
    return vp_pairs(vp_mul(a, b));
}
#ifdef __ARM_FEATURE_DOTPROD
/* u is signed too, where it has a sign: V_OFFSET8. */
static ALWAYS_INLINE vi v_dot_u8(vi sum, vi u, vi s)
{
    return of_32(vdotq_s32(as_32(sum), u, s));
}
#endif

static ALWAYS_INLINE vi v_u8_to_16(const void *p)
{
    return vreinterpretq_s8_u16(vmovl_u8(vld1_u8(p)));
}
static ALWAYS_INLINE vi v_i8_to_16(const void *p)
{
    return of_16(vmovl_s8(vld1_s8(p)));
}
/* V_ROWS bytes in the low half, each twice. */
static ALWAYS_INLINE int8x8_t four_twice(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    const int8x8_t x = vreinterpret_s8_s32(vdup_n_s32(v));
    return vzip1_s8(x, x);
}
/* V_ROWS bytes to int16, each twice. */
static ALWAYS_INLINE vi v_u8_twice(const void *p)
{
    const uint8x8_t x = vreinterpret_u8_s8(four_twice(p));
    return vreinterpretq_s8_u16(vmovl_u8(x));
}
static ALWAYS_INLINE vi v_i8_twice(const void *p)
{
    return of_16(vmovl_s8(four_twice(p)));
}
/* V_ROWS bytes to int32. */
static ALWAYS_INLINE vi v_u8_to_32(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    const uint8x8_t x = vreinterpret_u8_s32(vdup_n_s32(v));
    return vreinterpretq_s8_u32(vmovl_u16(vget_low_u16(vmovl_u8(x))));
}
static ALWAYS_INLINE vi v_i8_to_32(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    const int8x8_t x = vreinterpret_s8_s32(vdup_n_s32(v));
    return of_32(vmovl_s16(vget_low_s16(vmovl_s8(x))));
}

static ALWAYS_INLINE vf vf_set(float x)
{
    return vdupq_n_f32(x);
}
static ALWAYS_INLINE vf vf_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}
static ALWAYS_INLINE vf vf_sub(vf a, vf b)
{
    return vsubq_f32(a, b);
}
static ALWAYS_INLINE vf vf_mul(vf a, vf b)
{
    return vmulq_f32(a, b);
}
static ALWAYS_INLINE vf vf_of_i32(vi x)
{
    return vcvtq_f32_s32(as_32(x));
}
static ALWAYS_INLINE vf vf_load(const float *p)
{
    return vld1q_f32(p);
}
static ALWAYS_INLINE void vf_store(float *p, vf x)
{
    vst1q_f32(p, x);
}
static ALWAYS_INLINE vf vf_of_f16(const void *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

/* Eight floats: the lanes of NUMERICS 2. */
typedef struct {
    float32x4_t lo, hi;
} f8;

static ALWAYS_INLINE f8 f8_zero(void)
{
    return (f8){vdupq_n_f32(0), vdupq_n_f32(0)};
}
static ALWAYS_INLINE f8 f8_set(float x)
{
    return (f8){vdupq_n_f32(x), vdupq_n_f32(x)};
}
static ALWAYS_INLINE f8 f8_load(const void *p)
{
    const float *f = p;
    return (f8){vld1q_f32(f), vld1q_f32(f + 4)};
}
static ALWAYS_INLINE void f8_store(float *p, f8 x)
{
    vst1q_f32(p, x.lo);
    vst1q_f32(p + 4, x.hi);
}
static ALWAYS_INLINE f8 f8_add(f8 a, f8 b)
{
    return (f8){vaddq_f32(a.lo, b.lo), vaddq_f32(a.hi, b.hi)};
}
static ALWAYS_INLINE f8 f8_sub(f8 a, f8 b)
{
    return (f8){vsubq_f32(a.lo, b.lo), vsubq_f32(a.hi, b.hi)};
}
static ALWAYS_INLINE f8 f8_mul(f8 a, f8 b)
{
    return (f8){vmulq_f32(a.lo, b.lo), vmulq_f32(a.hi, b.hi)};
}
static ALWAYS_INLINE f8 f8_div(f8 a, f8 b)
{
    return (f8){vdivq_f32(a.lo, b.lo), vdivq_f32(a.hi, b.hi)};
}
/* Eight f16 or bf16, unaligned. */
static ALWAYS_INLINE f8 f8_of_f16(const void *p)
{
    const float16x8_t h = vreinterpretq_f16_u16(vld1q_u16(p));
    return (f8){vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h)};
}
static ALWAYS_INLINE f8 f8_of_bf16(const void *p)
{
    const uint16x8_t h = vld1q_u16(p);
    return (f8){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16)),
                vreinterpretq_f32_u32(vshll_high_n_u16(h, 16))};
}
/* nm_lanes_sum() */
static ALWAYS_INLINE float f8_sum(f8 x)
{
    const float32x4_t four = vaddq_f32(x.lo, x.hi);
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

#endif
#endif

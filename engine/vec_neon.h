/* vec_neon.h - vec_width.h for 64-bit ARM, four floats a vector, and what else
 * the tables of vec_table.h have in intrinsics.
 *
 * Depends on: act, simd_neon, quant_f16.  Thread: any. */
#ifndef ENGINE_VEC_NEON_H
#define ENGINE_VEC_NEON_H

#ifdef __aarch64__
#include <stdint.h>
#include <string.h>

#include "engine/act.h"
#include "engine/quant_f16.h"
#include "engine/simd_neon.h"
#include "engine/vec.h"

#define V_FLOATS 4
typedef float32x4_t vw;
typedef uint32x4_t vw_mask;

static ALWAYS_INLINE uint32x4_t bits_of(vw x)
{
    return vreinterpretq_u32_f32(x);
}
static ALWAYS_INLINE vw of_bits(uint32x4_t x)
{
    return vreinterpretq_f32_u32(x);
}
static ALWAYS_INLINE vw vw_load(const float *p)
{
    return vld1q_f32(p);
}
static ALWAYS_INLINE void vw_store(float *p, vw x)
{
    vst1q_f32(p, x);
}
static ALWAYS_INLINE vw vw_set(float x)
{
    return vdupq_n_f32(x);
}
static ALWAYS_INLINE vw vw_add(vw a, vw b)
{
    return vaddq_f32(a, b);
}
static ALWAYS_INLINE vw vw_sub(vw a, vw b)
{
    return vsubq_f32(a, b);
}
static ALWAYS_INLINE vw vw_mul(vw a, vw b)
{
    return vmulq_f32(a, b);
}
static ALWAYS_INLINE vw vw_div(vw a, vw b)
{
    return vdivq_f32(a, b);
}
static ALWAYS_INLINE vw vw_and(vw a, vw b)
{
    return of_bits(vandq_u32(bits_of(a), bits_of(b)));
}
static ALWAYS_INLINE vw vw_or(vw a, vw b)
{
    return of_bits(vorrq_u32(bits_of(a), bits_of(b)));
}
static ALWAYS_INLINE vw vw_xor(vw a, vw b)
{
    return of_bits(veorq_u32(bits_of(a), bits_of(b)));
}
/* The bits of b that a has not. */
static ALWAYS_INLINE vw vw_andnot(vw a, vw b)
{
    return of_bits(vbicq_u32(bits_of(b), bits_of(a)));
}
static ALWAYS_INLINE vw_mask vw_lt(vw a, vw b)
{
    return vcltq_f32(a, b);
}
static ALWAYS_INLINE vw_mask vw_le(vw a, vw b)
{
    return vcleq_f32(a, b);
}
/* Not less: true where one is not a number. */
static ALWAYS_INLINE vw_mask vw_nlt(vw a, vw b)
{
    return vmvnq_u32(vcltq_f32(a, b));
}
static ALWAYS_INLINE vw_mask vw_nan(vw a)
{
    return vmvnq_u32(vceqq_f32(a, a));
}
static ALWAYS_INLINE vw vw_select(vw_mask m, vw yes, vw no)
{
    return vbslq_f32(m, yes, no);
}
/* a > b ? a : b, which is b where one is not a number. */
static ALWAYS_INLINE vw vw_max(vw a, vw b)
{
    return vw_select(vcgtq_f32(a, b), a, b);
}
/* The largest of numbers; if one is none, not a number. */
static ALWAYS_INLINE float vw_largest(vw x)
{
    return vmaxvq_f32(x);
}
/* 2^e, -126 <= e <= 127. */
static ALWAYS_INLINE vw power_of_two(int32x4_t e)
{
    return vreinterpretq_f32_s32(
        vshlq_n_s32(vaddq_s32(e, vdupq_n_s32(127)), 23));
}
/* y * 2^n for whole n from -126 to 128 where the result is normal. */
static ALWAYS_INLINE vw vw_scale2(vw y, vw n)
{
    const int32x4_t e = vcvtq_s32_f32(n), half = vshrq_n_s32(e, 1);
    return vw_mul(vw_mul(y, power_of_two(half)),
                  power_of_two(vsubq_s32(e, half)));
}
/* f16, unaligned. */
static ALWAYS_INLINE vw vw_of_f16(const uint16_t *p)
{
    return vf_of_f16(p);
}
static ALWAYS_INLINE vw vw_of_i8(const int8_t *p)
{
    return vf_of_i32(v_i8_to_32(p));
}
/* Rounded to binary16. */
static ALWAYS_INLINE vw vw_round_f16(vw x)
{
    return vcvt_f32_f16(vcvt_f16_f32(x));
}
/* To f16 at p. */
static ALWAYS_INLINE void vw_to_f16(uint16_t *p, vw x)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}

/* For rope_pairs: own - cross, own + cross, ... */
static ALWAYS_INLINE vw vw_turned(vw own, vw cross)
{
    const uint32x4_t first = vreinterpretq_u32_u64(vdupq_n_u64(UINT32_MAX));
    return vw_select(first, vw_sub(own, cross), vw_add(own, cross));
}

/* ------------------------------------------------------------ attention */

typedef int32x4_t v16;
static ALWAYS_INLINE v16 v16_load(const int8_t *p)
{
    return as_32(vld1q_s8(p));
}
static ALWAYS_INLINE void v16_store(int8_t *p, v16 x)
{
    vst1q_s8(p, of_32(x));
}
/* Four elements each of four rows, side by side. */
static ALWAYS_INLINE void transpose_4(v16 x[4])
{
    const v16 a = vzip1q_s32(x[0], x[2]), b = vzip1q_s32(x[1], x[3]);
    const v16 c = vzip2q_s32(x[0], x[2]), d = vzip2q_s32(x[1], x[3]);
    x[0] = vzip1q_s32(a, b);
    x[1] = vzip2q_s32(a, b);
    x[2] = vzip1q_s32(c, d);
    x[3] = vzip2q_s32(c, d);
}

/* (0 + 2), (1 + 3) of a, then of b. */
static ALWAYS_INLINE vw fold_two(vw a, vw b)
{
    return vaddq_f32(vcombine_f32(vget_low_f32(a), vget_low_f32(b)),
                     vcombine_f32(vget_high_f32(a), vget_high_f32(b)));
}
/* nm_lanes_sum() of four rows. */
static ALWAYS_INLINE void store_sums(float *s, const f8 row[4])
{
    vw four[4];
    UNROLL
    for (int i = 0; i < 4; i++) four[i] = vaddq_f32(row[i].lo, row[i].hi);
    vst1q_f32(
        s, vpaddq_f32(fold_two(four[0], four[1]), fold_two(four[2], four[3])));
}

/* Products of bytes for KEYS_Q8 positions. */
#define KEYS_Q8 4
static ALWAYS_INLINE void dots_q8_0_tile(float *s, const struct act_q8_0 *q,
                                         const int8_t *quads,
                                         const float *scales, uint32_t n_blocks)
{
    vf leaf = vf_set(-0.0f); /* -0 + t is t, whatever t */
    for (uint32_t b = 0; b < n_blocks; b++) {
        vi sum[2] = {v_zero(), v_zero()};
        UNROLL
        for (int j = 0; j < 8; j++) {
            const vi k =
                v_load(quads + 4 * VEC_BLOCK * (8 * (size_t)b + (size_t)j));
            /* |q| <= 127: pair sums stay in int16 */
            sum[j % 2] =
                v_add_pairs(sum[j % 2], v_madd8(k, v_quad(q[b].q + 4 * j)));
        }
        const vf d = vf_mul(vld1q_f32(scales + b * VEC_BLOCK), vf_set(q[b].d));
        leaf = vf_add(leaf, vf_mul(vf_of_i32(v_add32(sum[0], sum[1])), d));
    }
    vf_store(s, leaf);
}

/* ---------------------------------------------------------- activations */

/* The largest of n magnitudes: as integers they order like the floats, with
 * infinity and NaN on top. */
static ALWAYS_INLINE float largest_magnitude(const float *x, uint32_t n)
{
    const uint32x4_t magnitude = vdupq_n_u32(0x7fffffff);
    uint32x4_t top[2] = {vdupq_n_u32(0), vdupq_n_u32(0)};
    for (uint32_t i = 0; i < n; i += 8) {
        UNROLL
        for (uint32_t j = 0; j < 2; j++) {
            const uint32x4_t bits = bits_of(vld1q_f32(x + i + 4 * j));
            top[j] = vmaxq_u32(top[j], vandq_u32(bits, magnitude));
        }
    }
    const uint32_t t = vmaxvq_u32(vmaxq_u32(top[0], top[1]));
    float amax;
    memcpy(&amax, &t, sizeof amax);
    return amax;
}

/* 16 values times scale to q: the conversion rounds to nearest, ties to even.
 * Returns their sum. */
static ALWAYS_INLINE int32_t store_16(int8_t *q, const float *x, vw scale)
{
    int16x4_t v[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        const vw y = vw_mul(vld1q_f32(x + 4 * i), scale);
        v[i] = vmovn_s32(vcvtnq_s32_f32(y));
    }
    const int8x16_t all = vcombine_s8(vmovn_s16(vcombine_s16(v[0], v[1])),
                                      vmovn_s16(vcombine_s16(v[2], v[3])));
    vst1q_s8(q, all);
    return vaddlvq_s8(all);
}

#endif
#endif

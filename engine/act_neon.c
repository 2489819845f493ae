/* act_neon.c - act_quantize() sixteen values at a time. */
#include "engine/act.h"

#ifdef __aarch64__
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "common/compiler.h"

/* The largest of n magnitudes: as integers they order like the floats, with
 * infinity and NaN on top. */
static ALWAYS_INLINE float largest(const float *x, uint32_t n)
{
    const uint32x4_t magnitude = vdupq_n_u32(0x7fffffff);
    uint32x4_t top = vdupq_n_u32(0);
    for (uint32_t i = 0; i < n; i += 4) {
        const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + i));
        top = vmaxq_u32(top, vandq_u32(bits, magnitude));
    }
    const uint32_t t = vmaxvq_u32(top);
    float amax;
    memcpy(&amax, &t, sizeof amax);
    return amax;
}

/* 16 values to q: the conversion rounds to nearest, ties to even. */
static ALWAYS_INLINE int8x16_t round_16(const float *x, float scale)
{
    int16x4_t v[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        const float32x4_t scaled = vmulq_n_f32(vld1q_f32(x + 4 * i), scale);
        v[i] = vmovn_s32(vcvtnq_s32_f32(scaled));
    }
    return vcombine_s8(vmovn_s16(vcombine_s16(v[0], v[1])),
                       vmovn_s16(vcombine_s16(v[2], v[3])));
}

/* n values (a multiple of 32) to q, the sum of each sixteen to sum[]; returns
 * d. */
static ALWAYS_INLINE float quantize_block(const float *x, uint32_t n, int8_t *q,
                                          int16_t *sum)
{
    const float amax = largest(x, n);
    if (UNLIKELY(!(amax >= 0x1p-100f && amax < INFINITY))) {
        memset(q, 0, n);
        memset(sum, 0, n / 16 * sizeof *sum);
        return amax < 1.0f ? 0.0f : NAN;
    }
    const float scale = 127.0f / amax;
    for (uint32_t i = 0; i < n; i += 16) {
        const int8x16_t v = round_16(x + i, scale);
        vst1q_s8(q + i, v);
        sum[i / 16] = vaddlvq_s8(v);
    }
    return amax / 127.0f;
}

void act_quantize_neon(enum act_kind kind, const float *x, uint32_t k,
                       void *row)
{
    if (kind == ACT_Q8_0) {
        struct act_q8_0 *b = row;
        for (uint32_t i = 0; i < k / 32; i++, b++) {
            int16_t sum[2];
            b->d = quantize_block(x + 32 * (size_t)i, 32, b->q, sum);
            b->sum = sum[0] + sum[1];
        }
    } else if (kind == ACT_Q8_K) {
        struct act_q8_k *b = row;
        for (uint32_t i = 0; i < k / 256; i++, b++) {
            b->d = quantize_block(x + 256 * (size_t)i, 256, b->q, b->sum);
        }
    } else {
        act_quantize(kind, x, k, row);
    }
}
#endif

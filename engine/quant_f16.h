/* quant_f16.h - binary16 conversions for inner loops.
 *
 * Depends on: libc.  Thread: any.  The same bits as the F16C instructions,
 * denormals included. */
#ifndef ENGINE_QUANT_F16_H
#define ENGINE_QUANT_F16_H

#include <stdint.h>
#include <string.h>

/* Exact.  Shifting a binary16 magnitude into binary32 position leaves the
 * exponent 112 too small; multiplying by 2^112 repairs it, denormals too. */
static inline float f16_to_f32_inline(uint16_t h)
{
    uint32_t bits = (uint32_t)(h & 0x7fffu) << 13;
    float f;
    memcpy(&f, &bits, sizeof f);
    f *= 0x1p112f;
    memcpy(&bits, &f, sizeof bits);
    if ((h & 0x7c00u) == 0x7c00u) { /* infinity, or a NaN made quiet */
        bits = 0x7f800000u | (uint32_t)(h & 0x3ffu) << 13;
        if (h & 0x3ffu) bits |= 0x400000u;
    }
    bits |= (uint32_t)(h & 0x8000u) << 16;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Round to nearest even; 65520 and above become infinity. */
static inline uint16_t f32_to_f16_inline(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits >= 0x47800000u) { /* 2^16 and up, infinity, NaN */
        if (bits <= 0x7f800000u) return sign | 0x7c00u;
        return (uint16_t)(sign | 0x7e00u | (bits >> 13 & 0x3ffu));
    }
    if (bits < 0x38800000u) { /* below 2^-14: a multiple of 2^-24 */
        float m;
        memcpy(&m, &bits, sizeof m);
        m += 0.5f; /* ulp of [0.5, 1) is 2^-24: the adder rounds for us */
        memcpy(&bits, &m, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    bits += 0xfffu + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - 0x38000000u) >> 13);
}

#endif

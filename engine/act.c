#include "engine/act.h"

#include <math.h>
#include <string.h>

enum act_kind act_kind_of(enum quant_type type)
{
    switch (type) {
    case QUANT_Q4_0:
    case QUANT_Q4_1:
    case QUANT_Q5_0:
    case QUANT_Q5_1:
    case QUANT_Q8_0:
    case QUANT_IQ4_NL:
        return ACT_Q8_0;
    case QUANT_Q2_K:
    case QUANT_Q3_K:
    case QUANT_Q4_K:
    case QUANT_Q5_K:
    case QUANT_Q6_K:
    case QUANT_IQ4_XS:
        return ACT_Q8_K;
    case QUANT_F32:
    case QUANT_F16:
    case QUANT_BF16:
    case QUANT_TYPE_END:
        break;
    }
    return ACT_F32;
}

size_t act_row_bytes(enum act_kind kind, uint32_t k)
{
    size_t n = 0;
    switch (kind) {
    case ACT_F32:
        n = (size_t)k * sizeof(float);
        break;
    case ACT_Q8_0:
        n = (size_t)(k / 32) * sizeof(struct act_q8_0);
        break;
    case ACT_Q8_K:
        n = (size_t)(k / 256) * sizeof(struct act_q8_k);
        break;
    case ACT_KIND_END:
        break;
    }
    return (n + 63) / 64 * 64;
}

/* Quantize n values; returns d.  Comparing magnitudes as integers puts
 * infinity and NaN on top, whatever the order of comparison. */
static float quantize_block(const float *x, uint32_t n, int8_t *q)
{
    uint32_t top = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffffu;
        top = bits > top ? bits : top;
    }
    float amax;
    memcpy(&amax, &top, sizeof amax);
    if (!(amax >= 0x1p-100f && amax < INFINITY)) {
        memset(q, 0, n);
        return amax < 1.0f ? 0.0f : NAN;
    }
    const float scale = 127.0f / amax;
    for (uint32_t i = 0; i < n; i++) {
        /* adding 1.5 * 2^23 rounds to an integer, ties to even */
        q[i] = (int8_t)(int32_t)((x[i] * scale + 0x1.8p23f) - 0x1.8p23f);
    }
    return amax / 127.0f;
}

void act_quantize(enum act_kind kind, const float *x, uint32_t k, void *row)
{
    if (kind == ACT_F32) {
        memcpy(row, x, (size_t)k * sizeof *x);
        const size_t used = (size_t)k * sizeof *x;
        memset((char *)row + used, 0, act_row_bytes(kind, k) - used);
    } else if (kind == ACT_Q8_0) {
        struct act_q8_0 *b = row;
        for (uint32_t i = 0; i < k / 32; i++, b++) {
            b->d = quantize_block(x + 32 * (size_t)i, 32, b->q);
            int32_t sum = 0;
            for (int j = 0; j < 32; j++) sum += b->q[j];
            b->sum = sum;
        }
    } else {
        struct act_q8_k *b = row;
        for (uint32_t i = 0; i < k / 256; i++, b++) {
            b->d = quantize_block(x + 256 * (size_t)i, 256, b->q);
            for (int j = 0; j < 16; j++) {
                int32_t sum = 0;
                for (int l = 0; l < 16; l++) sum += b->q[16 * j + l];
                b->sum[j] = (int16_t)sum;
            }
        }
    }
}

#include "engine/quant.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/quant_f16.h"

static const struct quant_info infos[QUANT_TYPE_END] = {
    [QUANT_F32] = {"F32", 1, 4, 1, false, 0, 0, 0, 0, 0},
    [QUANT_F16] = {"F16", 1, 2, 1, false, 0, 0, 0, 0, 0},
    [QUANT_BF16] = {"BF16", 1, 2, 1, false, 0, 0, 0, 0, 0},
    [QUANT_Q4_0] = {"Q4_0", 32, sizeof(struct block_q4_0), 32, false, -8, 7, 1,
                    1, 0},
    [QUANT_Q4_1] = {"Q4_1", 32, sizeof(struct block_q4_1), 32, true, 0, 15, 1,
                    1, 1},
    [QUANT_Q5_0] = {"Q5_0", 32, sizeof(struct block_q5_0), 32, false, -16, 15,
                    1, 1, 0},
    [QUANT_Q5_1] = {"Q5_1", 32, sizeof(struct block_q5_1), 32, true, 0, 31, 1,
                    1, 1},
    [QUANT_Q8_0] = {"Q8_0", 32, sizeof(struct block_q8_0), 32, false, -128, 127,
                    1, 1, 0},
    [QUANT_IQ4_NL] = {"IQ4_NL", 32, sizeof(struct block_iq4_nl), 32, false,
                      -127, 113, 1, 1, 0},
    [QUANT_Q2_K] = {"Q2_K", 256, sizeof(struct block_q2_k), 16, true, 0, 3, 0,
                    15, 15},
    [QUANT_Q3_K] = {"Q3_K", 256, sizeof(struct block_q3_k), 16, false, -4, 3,
                    -32, 31, 0},
    [QUANT_Q4_K] = {"Q4_K", 256, sizeof(struct block_q4_k), 32, true, 0, 15, 0,
                    63, 63},
    [QUANT_Q5_K] = {"Q5_K", 256, sizeof(struct block_q5_k), 32, true, 0, 31, 0,
                    63, 63},
    [QUANT_Q6_K] = {"Q6_K", 256, sizeof(struct block_q6_k), 16, false, -32, 31,
                    -128, 127, 0},
    [QUANT_IQ4_XS] = {"IQ4_XS", 256, sizeof(struct block_iq4_xs), 32, false,
                      -127, 113, -32, 31, 0},
};

/* Names of ggml's type numbers, so that a refusal can name what it refuses. */
static const char *const ggml_names[] = {
    "F32",   "F16",   "Q4_0",    "Q4_1",   "Q4_2",    "Q4_3",  "Q5_0",
    "Q5_1",  "Q8_0",  "Q8_1",    "Q2_K",   "Q3_K",    "Q4_K",  "Q5_K",
    "Q6_K",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL",
    "IQ3_S", "IQ2_S", "IQ4_XS",  "I8",     "I16",     "I32",   "I64",
    "F64",   "IQ1_M", "BF16",
};

const struct quant_info *quant_info(uint32_t type)
{
    if (type >= QUANT_TYPE_END || !infos[type].name) return NULL;
    return &infos[type];
}

const char *quant_name(uint32_t type)
{
    if (type < COUNT_OF(ggml_names)) return ggml_names[type];
    static _Thread_local char text[24];
    snprintf(text, sizeof text, "type %u", type);
    return text;
}

bool quant_by_name(const char *name, enum quant_type *out)
{
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        if (infos[t].name && strcasecmp(infos[t].name, name) == 0) {
            *out = (enum quant_type)t;
            return true;
        }
    }
    return false;
}

uint64_t quant_row_bytes(enum quant_type type, uint64_t k)
{
    const struct quant_info *info = quant_info(type);
    if (!info || k % info->block != 0) return 0;
    return k / info->block * info->block_bytes;
}

float f16_to_f32(uint16_t h)
{
    return f16_to_f32_inline(h);
}

uint16_t f32_to_f16(float f)
{
    return f32_to_f16_inline(f);
}

float bf16_to_f32(uint16_t h)
{
    const uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

uint16_t f32_to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40); /* keep a NaN a NaN */
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

void quant_dequantize_row(enum quant_type type, const void *src, float *dst,
                          uint64_t k)
{
    const uint8_t *p = src;
    if (type == QUANT_F32) {
        memcpy(dst, src, k * sizeof *dst);
        return;
    }
    if (type == QUANT_F16 || type == QUANT_BF16) {
        for (uint64_t i = 0; i < k; i++) {
            uint16_t h;
            memcpy(&h, p + 2 * i, sizeof h);
            dst[i] = type == QUANT_F16 ? f16_to_f32_inline(h) : bf16_to_f32(h);
        }
        return;
    }
    const struct quant_info *info = quant_info(type);
    assert(info && "quant_dequantize_row: type checked by the caller");
    for (uint64_t i = 0; i < k / info->block; i++, p += info->block_bytes) {
        struct quant_block b;
        quant_block_read(type, p, &b);
        const float d = f16_to_f32_inline(b.d);
        const float dmin = f16_to_f32_inline(b.dmin);
        const int8_t *q = b.q;
        for (uint32_t j = 0; j < info->block / info->sub; j++) {
            /* without a minimum ml is +0, and x - +0 is x */
            const float dl = d * (float)b.sc[j];
            const float ml = dmin * (float)b.m[j];
            for (uint32_t n = 0; n < info->sub; n++) {
                *dst++ = dl * (float)*q++ - ml;
            }
        }
    }
}

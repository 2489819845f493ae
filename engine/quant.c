#include "engine/quant.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/quant_f16.h"

static const struct quant_info infos[QUANT_TYPE_END] = {
    [QUANT_F32] = {"F32", 1, 4},
    [QUANT_F16] = {"F16", 1, 2},
    [QUANT_BF16] = {"BF16", 1, 2},
    [QUANT_Q4_0] = {"Q4_0", 32, sizeof(struct block_q4_0)},
    [QUANT_Q4_1] = {"Q4_1", 32, sizeof(struct block_q4_1)},
    [QUANT_Q8_0] = {"Q8_0", 32, sizeof(struct block_q8_0)},
    [QUANT_Q4_K] = {"Q4_K", 256, sizeof(struct block_q4_k)},
    [QUANT_Q6_K] = {"Q6_K", 256, sizeof(struct block_q6_k)},
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

void quant_q4_k_scales(const uint8_t packed[12], uint8_t sc[8], uint8_t m[8])
{
    for (int j = 0; j < 4; j++) {
        sc[j] = packed[j] & 63;
        m[j] = packed[j + 4] & 63;
        sc[j + 4] = (uint8_t)((packed[j + 8] & 15) | (packed[j] >> 6) << 4);
        m[j + 4] = (uint8_t)((packed[j + 8] >> 4) | (packed[j + 4] >> 6) << 4);
    }
}

/* ------------------------------------------------------- dequantize */

static void dequantize_q4_0(const struct block_q4_0 *b, float *y)
{
    const float d = f16_to_f32_inline(b->d);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b->qs[i] & 15) - 8);
        y[i + 16] = d * (float)((b->qs[i] >> 4) - 8);
    }
}

static void dequantize_q4_1(const struct block_q4_1 *b, float *y)
{
    const float d = f16_to_f32_inline(b->d);
    const float m = f16_to_f32_inline(b->m);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(b->qs[i] & 15) + m;
        y[i + 16] = d * (float)(b->qs[i] >> 4) + m;
    }
}

static void dequantize_q8_0(const struct block_q8_0 *b, float *y)
{
    const float d = f16_to_f32_inline(b->d);
    for (int i = 0; i < 32; i++) y[i] = d * (float)b->qs[i];
}

static void dequantize_q4_k(const struct block_q4_k *b, float *y)
{
    const float d = f16_to_f32_inline(b->d);
    const float dmin = f16_to_f32_inline(b->dmin);
    uint8_t sc[8], m[8];
    quant_q4_k_scales(b->scales, sc, m);
    for (int j = 0; j < 8; j++) {
        const uint8_t *q = b->qs + 32 * (j / 2);
        const float dl = d * (float)sc[j];
        const float ml = dmin * (float)m[j];
        for (int i = 0; i < 32; i++) {
            const int v = j % 2 ? q[i] >> 4 : q[i] & 15;
            y[32 * j + i] = dl * (float)v - ml;
        }
    }
}

static void dequantize_q6_k(const struct block_q6_k *b, float *y)
{
    const float d = f16_to_f32_inline(b->d);
    for (int n = 0; n < 256; n++) {
        const int h = n / 128, l = n % 32, part = n % 128 / 32;
        const int low = b->ql[64 * h + l + 32 * (part & 1)];
        const int q = (part & 2 ? low >> 4 : low & 15) |
                      (b->qh[32 * h + l] >> 2 * part & 3) << 4;
        const int8_t sc = b->scales[n / 16];
        y[n] = d * (float)sc * (float)(q - 32);
    }
}

void quant_dequantize_row(enum quant_type type, const void *src, float *dst,
                          uint64_t k)
{
    const uint8_t *p = src;
    switch (type) {
    case QUANT_F32:
        memcpy(dst, src, k * sizeof *dst);
        return;
    case QUANT_F16:
    case QUANT_BF16:
        for (uint64_t i = 0; i < k; i++) {
            uint16_t h;
            memcpy(&h, p + 2 * i, sizeof h);
            dst[i] = type == QUANT_F16 ? f16_to_f32_inline(h) : bf16_to_f32(h);
        }
        return;
#define BLOCKS(name, width)                                                    \
    for (uint64_t i = 0; i < k / (width); i++) {                               \
        struct block_##name b;                                                 \
        memcpy(&b, p + i * sizeof b, sizeof b);                                \
        dequantize_##name(&b, dst + (width)*i);                                \
    }                                                                          \
    return
    case QUANT_Q4_0:
        BLOCKS(q4_0, 32);
    case QUANT_Q4_1:
        BLOCKS(q4_1, 32);
    case QUANT_Q8_0:
        BLOCKS(q8_0, 32);
    case QUANT_Q4_K:
        BLOCKS(q4_k, 256);
    case QUANT_Q6_K:
        BLOCKS(q6_k, 256);
#undef BLOCKS
    case QUANT_TYPE_END:
        break;
    }
    assert(false && "quant_dequantize_row: type checked by the caller");
}

/* --------------------------------------------------------- quantize */

static float max_abs(const float *x, int n)
{
    float m = 0;
    for (int i = 0; i < n; i++) m = fmaxf(m, fabsf(x[i]));
    return m;
}

static int clamp_round(float x, int lo, int hi)
{
    const float r = rintf(x);
    if (!(r > (float)lo)) return lo; /* a NaN becomes lo */
    if (r > (float)hi) return hi;
    return (int)r;
}

static void quantize_q8_0(const float *x, struct block_q8_0 *b)
{
    b->d = f32_to_f16(max_abs(x, 32) / 127.0f);
    const float d = f16_to_f32(b->d);
    const float id = d != 0 ? 1.0f / d : 0;
    for (int i = 0; i < 32; i++) {
        b->qs[i] = (int8_t)clamp_round(x[i] * id, -127, 127);
    }
}

static void quantize_q4_0(const float *x, struct block_q4_0 *b)
{
    /* The value of largest magnitude, sign kept, becomes -8. */
    float top = 0;
    for (int i = 0; i < 32; i++) {
        if (fabsf(x[i]) > fabsf(top)) top = x[i];
    }
    b->d = f32_to_f16(top / -8.0f);
    const float d = f16_to_f32(b->d);
    const float id = d != 0 ? 1.0f / d : 0;
    for (int i = 0; i < 16; i++) {
        const int lo = clamp_round(x[i] * id + 8.0f, 0, 15);
        const int hi = clamp_round(x[i + 16] * id + 8.0f, 0, 15);
        b->qs[i] = (uint8_t)(lo | hi << 4);
    }
}

static void range_of(const float *x, int n, float *lo, float *hi)
{
    *lo = *hi = x[0];
    for (int i = 1; i < n; i++) {
        *lo = fminf(*lo, x[i]);
        *hi = fmaxf(*hi, x[i]);
    }
}

static void quantize_q4_1(const float *x, struct block_q4_1 *b)
{
    float lo, hi;
    range_of(x, 32, &lo, &hi);
    b->d = f32_to_f16((hi - lo) / 15.0f);
    b->m = f32_to_f16(lo);
    const float d = f16_to_f32(b->d), m = f16_to_f32(b->m);
    const float id = d != 0 ? 1.0f / d : 0;
    for (int i = 0; i < 16; i++) {
        const int v = clamp_round((x[i] - m) * id, 0, 15);
        const int w = clamp_round((x[i + 16] - m) * id, 0, 15);
        b->qs[i] = (uint8_t)(v | w << 4);
    }
}

static void quantize_q4_k(const float *x, struct block_q4_k *b)
{
    float scale[8], low[8], top_scale = 0, top_low = 0;
    for (int j = 0; j < 8; j++) {
        float lo, hi;
        range_of(x + 32 * j, 32, &lo, &hi);
        low[j] = lo < 0 ? -lo : 0; /* minima are subtracted: never positive */
        scale[j] = (hi + low[j]) / 15.0f;
        if (!(scale[j] > 0)) scale[j] = 0;
        top_scale = fmaxf(top_scale, scale[j]);
        top_low = fmaxf(top_low, low[j]);
    }
    b->d = f32_to_f16(top_scale / 63.0f);
    b->dmin = f32_to_f16(top_low / 63.0f);
    const float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    memset(b->scales, 0, sizeof b->scales);
    memset(b->qs, 0, sizeof b->qs);
    for (int j = 0; j < 8; j++) {
        const int sc = d != 0 ? clamp_round(scale[j] / d, 0, 63) : 0;
        const int m = dmin != 0 ? clamp_round(low[j] / dmin, 0, 63) : 0;
        if (j < 4) {
            b->scales[j] |= (uint8_t)sc;
            b->scales[j + 4] |= (uint8_t)m;
        } else {
            b->scales[j + 4] = (uint8_t)((sc & 15) | (m & 15) << 4);
            b->scales[j - 4] |= (uint8_t)(sc >> 4 << 6);
            b->scales[j] |= (uint8_t)(m >> 4 << 6);
        }
        const float dl = d * (float)sc, ml = dmin * (float)m;
        const float id = dl != 0 ? 1.0f / dl : 0;
        for (int i = 0; i < 32; i++) {
            const int q = clamp_round((x[32 * j + i] + ml) * id, 0, 15);
            b->qs[32 * (j / 2) + i] |= (uint8_t)(q << 4 * (j % 2));
        }
    }
}

static void quantize_q6_k(const float *x, struct block_q6_k *b)
{
    /* The sub-block of largest magnitude gets scale -128, so its top value,
     * sign turned, reaches -32. */
    float scale[16], top = 0;
    for (int j = 0; j < 16; j++) {
        float big = 0;
        for (int i = 0; i < 16; i++) {
            if (fabsf(x[16 * j + i]) > fabsf(big)) big = x[16 * j + i];
        }
        scale[j] = big / -32.0f;
        if (fabsf(scale[j]) > fabsf(top)) top = scale[j];
    }
    b->d = f32_to_f16(top / -128.0f);
    const float d = f16_to_f32(b->d);
    memset(b->ql, 0, sizeof b->ql);
    memset(b->qh, 0, sizeof b->qh);
    for (int j = 0; j < 16; j++) {
        const int sc = d != 0 ? clamp_round(scale[j] / d, -128, 127) : 0;
        b->scales[j] = (int8_t)sc;
        const float dl = d * (float)sc;
        const float id = dl != 0 ? 1.0f / dl : 0;
        for (int i = 0; i < 16; i++) {
            const int n = 16 * j + i;
            const int q = clamp_round(x[n] * id + 32.0f, 0, 63);
            const int h = n / 128, l = n % 32, part = n % 128 / 32;
            uint8_t *low = &b->ql[64 * h + l + 32 * (part & 1)];
            *low |= (uint8_t)((q & 15) << (part & 2 ? 4 : 0));
            b->qh[32 * h + l] |= (uint8_t)((q >> 4) << 2 * part);
        }
    }
}

void quant_quantize_row(enum quant_type type, const float *src, void *dst,
                        uint64_t k)
{
    uint8_t *p = dst;
    switch (type) {
    case QUANT_F32:
        memcpy(dst, src, k * sizeof *src);
        return;
    case QUANT_F16:
    case QUANT_BF16:
        for (uint64_t i = 0; i < k; i++) {
            const uint16_t h =
                type == QUANT_F16 ? f32_to_f16(src[i]) : f32_to_bf16(src[i]);
            memcpy(p + 2 * i, &h, sizeof h);
        }
        return;
#define BLOCKS(name, width)                                                    \
    for (uint64_t i = 0; i < k / (width); i++) {                               \
        struct block_##name b;                                                 \
        quantize_##name(src + (width)*i, &b);                                  \
        memcpy(p + i * sizeof b, &b, sizeof b);                                \
    }                                                                          \
    return
    case QUANT_Q4_0:
        BLOCKS(q4_0, 32);
    case QUANT_Q4_1:
        BLOCKS(q4_1, 32);
    case QUANT_Q8_0:
        BLOCKS(q8_0, 32);
    case QUANT_Q4_K:
        BLOCKS(q4_k, 256);
    case QUANT_Q6_K:
        BLOCKS(q6_k, 256);
#undef BLOCKS
    case QUANT_TYPE_END:
        break;
    }
    assert(false && "quant_quantize_row: type checked by the caller");
}

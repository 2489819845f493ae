/* quant_plain.c - the reference quantizer: plain scales, nearest values.
 *
 * Depends on: quant.  Thread: any; no state. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "engine/quant.h"

static int clamp_round(float x, int lo, int hi)
{
    const float r = rintf(x);
    if (!(r > (float)lo)) return lo; /* a NaN becomes lo */
    if (r > (float)hi) return hi;
    return (int)r;
}

static float inverse(float d)
{
    return d != 0 ? 1.0f / d : 0;
}

/* The value of largest magnitude, its sign kept. */
static float top_of(const float *x, uint32_t n)
{
    float top = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (fabsf(x[i]) > fabsf(top)) top = x[i];
    }
    return top;
}

static void range_of(const float *x, uint32_t n, float *lo, float *hi)
{
    *lo = *hi = x[0];
    for (uint32_t i = 1; i < n; i++) {
        *lo = fminf(*lo, x[i]);
        *hi = fmaxf(*hi, x[i]);
    }
}

/* The entry of the table nearest to x; of two, the lower. */
static int8_t nearest_iq4(float x)
{
    int i = 0;
    while (i < 15 &&
           2 * x > (float)(quant_iq4_values[i] + quant_iq4_values[i + 1])) {
        i++;
    }
    return quant_iq4_values[i];
}

/* n values in steps of 1 / id from zero. */
static void round_all(const struct quant_info *info, bool iq4, const float *x,
                      uint32_t n, float id, int8_t *q)
{
    const int lo = info->q_lo, hi = info->q_hi;
    for (uint32_t i = 0; i < n; i++) {
        if (iq4) {
            q[i] = nearest_iq4(x[i] * id);
        } else {
            /* ties go to even numbers counted from lo */
            q[i] =
                (int8_t)(clamp_round(x[i] * id + (float)-lo, 0, hi - lo) + lo);
        }
    }
}

static void plain_q8_0(const float *x, struct quant_block *b)
{
    b->d = f32_to_f16(fabsf(top_of(x, 32)) / 127.0f);
    const float id = inverse(f16_to_f32(b->d));
    for (int i = 0; i < 32; i++) {
        b->q[i] = (int8_t)clamp_round(x[i] * id, -127, 127);
    }
}

/* The value of largest magnitude becomes the lowest quant: that side has one
 * more. */
static void plain_32(const struct quant_info *info, bool iq4, const float *x,
                     struct quant_block *b)
{
    b->d = f32_to_f16(top_of(x, 32) / (float)info->q_lo);
    round_all(info, iq4, x, 32, inverse(f16_to_f32(b->d)), b->q);
}

static void plain_32_min(const struct quant_info *info, const float *x,
                         struct quant_block *b)
{
    float lo, hi;
    range_of(x, 32, &lo, &hi);
    b->d = f32_to_f16((hi - lo) / (float)info->q_hi);
    b->dmin = f32_to_f16(lo) ^ 0x8000u;
    b->m[0] = 1;
    const float m = -f16_to_f32(b->dmin), id = inverse(f16_to_f32(b->d));
    for (int i = 0; i < 32; i++) {
        b->q[i] = (int8_t)clamp_round((x[i] - m) * id, 0, info->q_hi);
    }
}

static void plain_256_min(const struct quant_info *info, const float *x,
                          struct quant_block *b)
{
    float scale[16], low[16], top_scale = 0, top_low = 0;
    const uint32_t n_sub = 256 / info->sub;
    for (uint32_t j = 0; j < n_sub; j++) {
        float lo, hi;
        range_of(x + info->sub * j, info->sub, &lo, &hi);
        low[j] = lo < 0 ? -lo : 0; /* minima are subtracted: never positive */
        scale[j] = (hi + low[j]) / (float)info->q_hi;
        if (!(scale[j] > 0)) scale[j] = 0;
        top_scale = fmaxf(top_scale, scale[j]);
        top_low = fmaxf(top_low, low[j]);
    }
    b->d = f32_to_f16(top_scale / (float)info->sc_hi);
    b->dmin = f32_to_f16(top_low / (float)info->m_hi);
    const float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    for (uint32_t j = 0; j < n_sub; j++) {
        const int sc = d != 0 ? clamp_round(scale[j] / d, 0, info->sc_hi) : 0;
        const int m = dmin != 0 ? clamp_round(low[j] / dmin, 0, info->m_hi) : 0;
        b->sc[j] = (int8_t)sc;
        b->m[j] = (uint8_t)m;
        const float ml = dmin * (float)m, id = inverse(d * (float)sc);
        for (uint32_t i = 0; i < info->sub; i++) {
            const uint32_t n = info->sub * j + i;
            b->q[n] = (int8_t)clamp_round((x[n] + ml) * id, 0, info->q_hi);
        }
    }
}

/* The sub-block of largest magnitude gets the lowest scale, so its top value,
 * sign turned, reaches the lowest quant. */
static void plain_256(const struct quant_info *info, bool iq4, const float *x,
                      struct quant_block *b)
{
    float scale[16], top = 0;
    const uint32_t n_sub = 256 / info->sub;
    for (uint32_t j = 0; j < n_sub; j++) {
        scale[j] = top_of(x + info->sub * j, info->sub) / (float)info->q_lo;
        if (fabsf(scale[j]) > fabsf(top)) top = scale[j];
    }
    b->d = f32_to_f16(top / (float)info->sc_lo);
    const float d = f16_to_f32(b->d);
    for (uint32_t j = 0; j < n_sub; j++) {
        const int sc =
            d != 0 ? clamp_round(scale[j] / d, info->sc_lo, info->sc_hi) : 0;
        b->sc[j] = (int8_t)sc;
        round_all(info, iq4, x + info->sub * j, info->sub,
                  inverse(d * (float)sc), b->q + info->sub * j);
    }
}

void quant_quantize_row(enum quant_type type, const float *src, void *dst,
                        uint64_t k)
{
    uint8_t *p = dst;
    if (type == QUANT_F32) {
        memcpy(dst, src, k * sizeof *src);
        return;
    }
    if (type == QUANT_F16 || type == QUANT_BF16) {
        for (uint64_t i = 0; i < k; i++) {
            const uint16_t h =
                type == QUANT_F16 ? f32_to_f16(src[i]) : f32_to_bf16(src[i]);
            memcpy(p + 2 * i, &h, sizeof h);
        }
        return;
    }
    const struct quant_info *info = quant_info(type);
    assert(info && "quant_quantize_row: type checked by the caller");
    const bool iq4 = type == QUANT_IQ4_NL || type == QUANT_IQ4_XS;
    for (uint64_t i = 0; i < k / info->block; i++, p += info->block_bytes) {
        const float *x = src + info->block * i;
        struct quant_block b = {.sc = {1}};
        if (type == QUANT_Q8_0) {
            plain_q8_0(x, &b);
        } else if (info->block == 32) {
            if (info->with_min)
                plain_32_min(info, x, &b);
            else
                plain_32(info, iq4, x, &b);
        } else if (info->with_min) {
            plain_256_min(info, x, &b);
        } else {
            plain_256(info, iq4, x, &b);
        }
        quant_block_write(type, &b, p);
    }
}

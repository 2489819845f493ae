/* quant_block.c - where the bits of each block layout are, both ways.
 *
 * Depends on: quant.  Thread: any; no state. */
#include <assert.h>
#include <string.h>

#include "engine/quant.h"

const int8_t quant_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

static uint8_t iq4_index(int8_t value)
{
    uint8_t i = 0;
    while (i < 15 && quant_iq4_values[i] < value) i++;
    return i;
}

/* The nibbles of 16 bytes: q[i] low, q[i + 16] high. */
static void read_nibbles(const uint8_t qs[16], int offset, int8_t q[32])
{
    for (int i = 0; i < 16; i++) {
        q[i] = (int8_t)((qs[i] & 15) - offset);
        q[i + 16] = (int8_t)((qs[i] >> 4) - offset);
    }
}

static void write_nibbles(const int8_t q[32], int offset, uint8_t qs[16])
{
    for (int i = 0; i < 16; i++) {
        qs[i] = (uint8_t)(((q[i] + offset) & 15) | ((q[i + 16] + offset) & 15)
                                                       << 4);
    }
}

static void read_iq4(const uint8_t qs[16], int8_t q[32])
{
    for (int i = 0; i < 16; i++) {
        q[i] = quant_iq4_values[qs[i] & 15];
        q[i + 16] = quant_iq4_values[qs[i] >> 4];
    }
}

static void write_iq4(const int8_t q[32], uint8_t qs[16])
{
    for (int i = 0; i < 16; i++) {
        qs[i] = (uint8_t)(iq4_index(q[i]) | iq4_index(q[i + 16]) << 4);
    }
}

/* Nibbles and a fifth bit: qh[4], then qs[16]. */
static void read_five_bits(const uint8_t *p, int offset, int8_t q[32])
{
    read_nibbles(p + 4, 0, q);
    for (int i = 0; i < 32; i++) {
        const int high = p[i / 8] >> i % 8 & 1;
        q[i] = (int8_t)((q[i] | high << 4) - offset);
    }
}

static void write_five_bits(const int8_t q[32], int offset, uint8_t *p)
{
    write_nibbles(q, offset, p + 4);
    memset(p, 0, 4);
    for (int i = 0; i < 32; i++) {
        p[i / 8] |= (uint8_t)(((q[i] + offset) >> 4 & 1) << i % 8);
    }
}

/* ------------------------------------------------- 32-blocks, as bytes */

/* d, perhaps m, then quants. */
static void read_32(enum quant_type type, const uint8_t *p,
                    struct quant_block *b)
{
    memcpy(&b->d, p, 2);
    b->dmin = 0;
    b->sc[0] = 1;
    b->m[0] = 0;
    p += 2;
    if (type == QUANT_Q4_1 || type == QUANT_Q5_1) {
        memcpy(&b->dmin, p, 2);
        b->dmin ^= 0x8000u;
        b->m[0] = 1;
        p += 2;
    }
    if (type == QUANT_Q8_0) {
        memcpy(b->q, p, 32);
    } else if (type == QUANT_IQ4_NL) {
        read_iq4(p, b->q);
    } else if (type == QUANT_Q5_0 || type == QUANT_Q5_1) {
        read_five_bits(p, type == QUANT_Q5_0 ? 16 : 0, b->q);
    } else {
        read_nibbles(p, type == QUANT_Q4_0 ? 8 : 0, b->q);
    }
}

static void write_32(enum quant_type type, const struct quant_block *b,
                     uint8_t *p)
{
    memcpy(p, &b->d, 2);
    p += 2;
    if (type == QUANT_Q4_1 || type == QUANT_Q5_1) {
        const uint16_t m = b->dmin ^ 0x8000u;
        memcpy(p, &m, 2);
        p += 2;
    }
    if (type == QUANT_Q8_0) {
        memcpy(p, b->q, 32);
    } else if (type == QUANT_IQ4_NL) {
        write_iq4(b->q, p);
    } else if (type == QUANT_Q5_0 || type == QUANT_Q5_1) {
        write_five_bits(b->q, type == QUANT_Q5_0 ? 16 : 0, p);
    } else {
        write_nibbles(b->q, type == QUANT_Q4_0 ? 8 : 0, p);
    }
}

/* ------------------------------------------------------------ Q2_K, Q3_K */

static void read_q2_k(const void *src, struct quant_block *b)
{
    struct block_q2_k x;
    memcpy(&x, src, sizeof x);
    b->d = x.d;
    b->dmin = x.dmin;
    for (int j = 0; j < 16; j++) {
        b->sc[j] = (int8_t)(x.scales[j] & 15);
        b->m[j] = x.scales[j] >> 4;
    }
    for (int n = 0; n < 256; n++) {
        const int byte = n / 128 * 32 + n % 32, part = n % 128 / 32;
        b->q[n] = (int8_t)(x.qs[byte] >> 2 * part & 3);
    }
}

static void write_q2_k(const struct quant_block *b, void *dst)
{
    struct block_q2_k x = {.d = b->d, .dmin = b->dmin};
    for (int j = 0; j < 16; j++) {
        x.scales[j] = (uint8_t)(b->sc[j] | b->m[j] << 4);
    }
    for (int n = 0; n < 256; n++) {
        const int byte = n / 128 * 32 + n % 32, part = n % 128 / 32;
        x.qs[byte] |= (uint8_t)(b->q[n] << 2 * part);
    }
    memcpy(dst, &x, sizeof x);
}

static void read_q3_k(const void *src, struct quant_block *b)
{
    struct block_q3_k x;
    memcpy(&x, src, sizeof x);
    b->d = x.d;
    b->dmin = 0;
    for (int j = 0; j < 16; j++) {
        const int low = x.scales[j % 8] >> j / 8 * 4 & 15;
        const int high = x.scales[8 + j % 4] >> 2 * (j / 4) & 3;
        b->sc[j] = (int8_t)((low | high << 4) - 32);
        b->m[j] = 0;
    }
    for (int n = 0; n < 256; n++) {
        const int byte = n / 128 * 32 + n % 32, part = n % 128 / 32;
        const int low = x.qs[byte] >> 2 * part & 3;
        const int high = x.hmask[n % 32] >> n / 32 & 1;
        b->q[n] = (int8_t)((low | high << 2) - 4);
    }
}

static void write_q3_k(const struct quant_block *b, void *dst)
{
    struct block_q3_k x = {.d = b->d};
    for (int j = 0; j < 16; j++) {
        const int sc = b->sc[j] + 32;
        x.scales[j % 8] |= (uint8_t)((sc & 15) << j / 8 * 4);
        x.scales[8 + j % 4] |= (uint8_t)(sc >> 4 << 2 * (j / 4));
    }
    for (int n = 0; n < 256; n++) {
        const int byte = n / 128 * 32 + n % 32, part = n % 128 / 32;
        const int q = b->q[n] + 4;
        x.qs[byte] |= (uint8_t)((q & 3) << 2 * part);
        x.hmask[n % 32] |= (uint8_t)(q >> 2 << n / 32);
    }
    memcpy(dst, &x, sizeof x);
}

/* ------------------------------------------------------------ Q4_K, Q5_K */

void quant_q4_k_scales(const uint8_t packed[12], uint8_t sc[8], uint8_t m[8])
{
    for (int j = 0; j < 4; j++) {
        sc[j] = packed[j] & 63;
        m[j] = packed[j + 4] & 63;
        sc[j + 4] = (uint8_t)((packed[j + 8] & 15) | (packed[j] >> 6) << 4);
        m[j + 4] = (uint8_t)((packed[j + 8] >> 4) | (packed[j + 4] >> 6) << 4);
    }
}

void quant_q4_k_join_scales(const uint8_t sc[8], const uint8_t m[8],
                            uint8_t packed[12])
{
    for (int j = 0; j < 4; j++) {
        packed[j] = (uint8_t)(sc[j] | sc[j + 4] >> 4 << 6);
        packed[j + 4] = (uint8_t)(m[j] | m[j + 4] >> 4 << 6);
        packed[j + 8] = (uint8_t)((sc[j + 4] & 15) | (m[j + 4] & 15) << 4);
    }
}

/* d, dmin, scales[12], then perhaps qh[32], then qs[128]. */
static void read_q4_q5_k(const uint8_t *p, bool five, struct quant_block *b)
{
    memcpy(&b->d, p, 2);
    memcpy(&b->dmin, p + 2, 2);
    uint8_t sc[8];
    quant_q4_k_scales(p + 4, sc, b->m);
    memcpy(b->sc, sc, 8);
    const uint8_t *qh = p + 16, *qs = five ? p + 48 : p + 16;
    for (int j = 0; j < 8; j++) {
        for (int i = 0; i < 32; i++) {
            const int low = qs[32 * (j / 2) + i] >> 4 * (j % 2) & 15;
            const int high = five ? qh[i] >> j & 1 : 0;
            b->q[32 * j + i] = (int8_t)(low | high << 4);
        }
    }
}

static void write_q4_q5_k(const struct quant_block *b, bool five, uint8_t *p)
{
    memcpy(p, &b->d, 2);
    memcpy(p + 2, &b->dmin, 2);
    uint8_t sc[8];
    memcpy(sc, b->sc, 8);
    quant_q4_k_join_scales(sc, b->m, p + 4);
    uint8_t *qh = p + 16, *qs = five ? p + 48 : p + 16;
    memset(qh, 0, five ? 32 + 128 : 128);
    for (int j = 0; j < 8; j++) {
        for (int i = 0; i < 32; i++) {
            const int q = b->q[32 * j + i];
            qs[32 * (j / 2) + i] |= (uint8_t)((q & 15) << 4 * (j % 2));
            if (five) qh[i] |= (uint8_t)(q >> 4 << j);
        }
    }
}

/* ------------------------------------------------------------------ Q6_K */

static void read_q6_k(const void *src, struct quant_block *b)
{
    struct block_q6_k x;
    memcpy(&x, src, sizeof x);
    b->d = x.d;
    b->dmin = 0;
    memcpy(b->sc, x.scales, 16);
    memset(b->m, 0, sizeof b->m);
    for (int n = 0; n < 256; n++) {
        const int h = n / 128, l = n % 32, part = n % 128 / 32;
        const int low = x.ql[64 * h + l + 32 * (part & 1)];
        const int high = x.qh[32 * h + l] >> 2 * part & 3;
        const int q = (part & 2 ? low >> 4 : low & 15) | high << 4;
        b->q[n] = (int8_t)(q - 32);
    }
}

static void write_q6_k(const struct quant_block *b, void *dst)
{
    struct block_q6_k x = {.d = b->d};
    memcpy(x.scales, b->sc, 16);
    for (int n = 0; n < 256; n++) {
        const int h = n / 128, l = n % 32, part = n % 128 / 32;
        const int q = b->q[n] + 32;
        uint8_t *low = &x.ql[64 * h + l + 32 * (part & 1)];
        *low |= (uint8_t)((q & 15) << (part & 2 ? 4 : 0));
        x.qh[32 * h + l] |= (uint8_t)((q >> 4) << 2 * part);
    }
    memcpy(dst, &x, sizeof x);
}

/* ---------------------------------------------------------------- IQ4_XS */

static void read_iq4_xs(const void *src, struct quant_block *b)
{
    struct block_iq4_xs x;
    memcpy(&x, src, sizeof x);
    b->d = x.d;
    b->dmin = 0;
    for (int j = 0; j < 8; j++) {
        const int low = x.scales_l[j / 2] >> 4 * (j % 2) & 15;
        const int high = x.scales_h >> 2 * j & 3;
        b->sc[j] = (int8_t)((low | high << 4) - 32);
        b->m[j] = 0;
        read_iq4(x.qs + 16 * j, b->q + 32 * j);
    }
}

static void write_iq4_xs(const struct quant_block *b, void *dst)
{
    struct block_iq4_xs x = {.d = b->d};
    for (int j = 0; j < 8; j++) {
        const int sc = b->sc[j] + 32;
        x.scales_l[j / 2] |= (uint8_t)((sc & 15) << 4 * (j % 2));
        x.scales_h |= (uint16_t)(sc >> 4 << 2 * j);
        write_iq4(b->q + 32 * j, x.qs + 16 * j);
    }
    memcpy(dst, &x, sizeof x);
}

/* -------------------------------------------------------------- dispatch */

void quant_block_read(enum quant_type type, const void *src,
                      struct quant_block *b)
{
    switch (type) {
    case QUANT_Q4_0:
    case QUANT_Q4_1:
    case QUANT_Q5_0:
    case QUANT_Q5_1:
    case QUANT_Q8_0:
    case QUANT_IQ4_NL:
        read_32(type, src, b);
        return;
    case QUANT_Q2_K:
        read_q2_k(src, b);
        return;
    case QUANT_Q3_K:
        read_q3_k(src, b);
        return;
    case QUANT_Q4_K:
    case QUANT_Q5_K:
        read_q4_q5_k(src, type == QUANT_Q5_K, b);
        return;
    case QUANT_Q6_K:
        read_q6_k(src, b);
        return;
    case QUANT_IQ4_XS:
        read_iq4_xs(src, b);
        return;
    case QUANT_F32:
    case QUANT_F16:
    case QUANT_BF16:
    case QUANT_TYPE_END:
        break;
    }
    assert(false && "quant_block_read: a type with blocks");
}

void quant_block_write(enum quant_type type, const struct quant_block *b,
                       void *dst)
{
    switch (type) {
    case QUANT_Q4_0:
    case QUANT_Q4_1:
    case QUANT_Q5_0:
    case QUANT_Q5_1:
    case QUANT_Q8_0:
    case QUANT_IQ4_NL:
        write_32(type, b, dst);
        return;
    case QUANT_Q2_K:
        write_q2_k(b, dst);
        return;
    case QUANT_Q3_K:
        write_q3_k(b, dst);
        return;
    case QUANT_Q4_K:
    case QUANT_Q5_K:
        write_q4_q5_k(b, type == QUANT_Q5_K, dst);
        return;
    case QUANT_Q6_K:
        write_q6_k(b, dst);
        return;
    case QUANT_IQ4_XS:
        write_iq4_xs(b, dst);
        return;
    case QUANT_F32:
    case QUANT_F16:
    case QUANT_BF16:
    case QUANT_TYPE_END:
        break;
    }
    assert(false && "quant_block_write: a type with blocks");
}

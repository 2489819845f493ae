/* wide_k.h - the types with blocks of 256, unpacked for wide.h. */
#ifndef ENGINE_WIDE_K_H
#define ENGINE_WIDE_K_H

#include "engine/simd_scales.h"
#include "engine/wide.h"

#ifdef LEVEL

/* Quads that share a sum, before it is scaled: of 32 or of 16 weights, unless
 * it would leave int16 (pairs_*.h have the bounds). */
#ifdef V_QUADS
#define CHAIN_Q4 8
#define CHAIN_Q5 8
#define CHAIN_Q6 4
#else
#define CHAIN_Q4 8
#define CHAIN_Q5 4
#define CHAIN_Q6 2
#endif
#define CHAIN_Q23 4

WIDE_TILES(q4_k, wide_k,
           {.chain = CHAIN_Q4, .sums_32 = true, .float_min = true})
#if CHAIN_Q5 == CHAIN_Q4
#define tiles_wide_q5_k tiles_wide_q4_k
#else
WIDE_TILES(q5_k, wide_k,
           {.chain = CHAIN_Q5, .sums_32 = true, .float_min = true})
#endif
WIDE_TILES(q6_k, wide_k, {.chain = CHAIN_Q6})
#if CHAIN_Q6 == CHAIN_Q23
#define tiles_wide_q3_k tiles_wide_q6_k
#else
WIDE_TILES(q3_k, wide_k, {.chain = CHAIN_Q23})
#endif
WIDE_TILES(q2_k, wide_k, {.chain = CHAIN_Q23, .float_min = true})

/* ---------------------------------------------------------- Q4_K, Q5_K */

/* each: chains in 32 weights. */
static ALWAYS_INLINE void unpack_wide_45(const uint8_t *w, bool five, int each,
                                         struct wide_leaf *leaf)
{
    const vi nibble = v_set8(15), fifth = v_set8(16);
    const uint8_t *qh = w + 16 * V_ROWS;
    const uint8_t *qs = qh + (five ? 32 * V_ROWS : 0);
    struct six_bit_scales s;
    unpack_six_bit_scales(w, &s);
    for (int j = 0; j < 8; j++) {
        const vi scale = v_scales_u8(s.sc + V_ROWS * j);
        for (int e = 0; e < each; e++) leaf->scale[each * j + e] = scale;
    }
    for (int i = 0; i < 4; i++) {
        leaf->min[i] = v_u8_to_16(s.m + 2 * V_ROWS * i);
    }
    leaf->d[0] = vf_of_f16(w);
    leaf->m[0] = vf_of_f16(w + 2 * V_ROWS);
    UNROLL
    for (int i = 0; i < 4; i++) {
        for (int c = 0; c < 8; c++) {
            const vi x = v_load(qs + 4 * V_ROWS * (8 * i + c));
            vi l = v_and(x, nibble);
            vi h = v_and(v_right16(x, 4), nibble);
            if (five) {
                const vi bits = v_right16(v_load(qh + 4 * V_ROWS * c), 2 * i);
                l = v_or(l, v_and(v_left16(bits, 4), fifth));
                h = v_or(h, v_and(v_left16(bits, 3), fifth));
            }
            leaf->quad[16 * i + c] = l;
            leaf->quad[16 * i + 8 + c] = h;
        }
    }
}

static void unpack_wide_q4_k(const struct matmul_job *job, const uint8_t *w,
                             uint32_t l, struct wide_leaf *leaf)
{
    (void)job;
    unpack_wide_45(w + l * (V_ROWS * sizeof(struct block_q4_k)), false,
                   8 / CHAIN_Q4, leaf);
}

static void unpack_wide_q5_k(const struct matmul_job *job, const uint8_t *w,
                             uint32_t l, struct wide_leaf *leaf)
{
    (void)job;
    unpack_wide_45(w + l * (V_ROWS * sizeof(struct block_q5_k)), true,
                   8 / CHAIN_Q5, leaf);
}

/* ---------------------------------------------------------- Q6_K, Q3_K */

/* Scales of 16 weights, int8 [8][row][2], for chains of so many quads, and the
 * offset 2^shift that comes off with them. */
static ALWAYS_INLINE void unpack_wide_scales(const int8_t *scales, int chain,
                                             int shift, struct wide_leaf *leaf)
{
    const int each = 4 / chain;
    for (int i = 0; i < 8; i++) {
        const vi pair = v_i8_to_16(scales + 2 * V_ROWS * i);
        leaf->min[i] = v_left16(pair, shift);
        for (int e = 0; e < each; e++) {
            leaf->scale[each * 2 * i + e] = v_first_scale(pair);
            leaf->scale[each * (2 * i + 1) + e] = v_second_scale(pair);
        }
    }
}

static void unpack_wide_q6_k(const struct matmul_job *job, const uint8_t *w,
                             uint32_t l, struct wide_leaf *leaf)
{
    const uint8_t *d16 = w + job->tree->n_leaves * Q6_BLOCK;
    w += l * Q6_BLOCK;
    leaf->d[0] = vf_of_f16(d16 + l * (2 * V_ROWS));
    unpack_wide_scales((const int8_t *)w, CHAIN_Q6, 5, leaf);
    for (int h = 0; h < 2; h++) {
        for (int c = 0; c < 8; c++) {
            const uint8_t *v = w + 16 * V_ROWS + 4 * V_ROWS * (24 * h + 3 * c);
            const vi ql[2] = {v_load(v), v_load(v + 4 * V_ROWS)};
            const vi qh = v_load(v + 8 * V_ROWS);
            UNROLL
            for (int p = 0; p < 4; p++) {
                leaf->quad[32 * h + 8 * p + c] = q6_part(ql[p % 2], qh, p);
            }
        }
    }
}

/* Two bits of qs, and, where there is hmask, bit 4h + p of it. */
static ALWAYS_INLINE void
unpack_wide_23(const uint8_t *qs, const uint8_t *hmask, struct wide_leaf *leaf)
{
    const vi two = v_set8(3), third = v_set8(4);
    UNROLL
    for (int h = 0; h < 2; h++) {
        for (int c = 0; c < 8; c++) {
            const vi x = v_load(qs + 4 * V_ROWS * (8 * h + c));
            const vi bits = hmask ? v_load(hmask + 4 * V_ROWS * c) : x;
            UNROLL
            for (int p = 0; p < 4; p++) {
                const int at = 4 * h + p;
                vi v = v_and(v_right16(x, 2 * p), two);
                if (hmask) {
                    const vi bit = at < 2 ? v_left16(bits, 2 - at)
                                          : v_right16(bits, at - 2);
                    v = v_or(v, v_and(bit, third));
                }
                leaf->quad[32 * h + 8 * p + c] = v;
            }
        }
    }
}

static void unpack_wide_q3_k(const struct matmul_job *job, const uint8_t *w,
                             uint32_t l, struct wide_leaf *leaf)
{
    const uint8_t *d16 = w + job->tree->n_leaves * Q3_BLOCK;
    w += l * Q3_BLOCK;
    int8_t sc[16 * V_ROWS];
    unpack_q3_scales(w, sc);
    leaf->d[0] = vf_of_f16(d16 + l * (2 * V_ROWS));
    unpack_wide_scales(sc, CHAIN_Q23, 2, leaf);
    unpack_wide_23(w + 44 * V_ROWS, w + 12 * V_ROWS, leaf);
}

static void unpack_wide_q2_k(const struct matmul_job *job, const uint8_t *w,
                             uint32_t l, struct wide_leaf *leaf)
{
    (void)job;
    w += l * (V_ROWS * sizeof(struct block_q2_k));
    uint8_t sc[16 * V_ROWS], m[16 * V_ROWS];
    unpack_q2_scales(w + 4 * V_ROWS, sc, m);
    for (int j = 0; j < 16; j++) {
        leaf->scale[j] = v_scales_u8(sc + V_ROWS * j);
    }
    for (int i = 0; i < 8; i++) leaf->min[i] = v_u8_to_16(m + 2 * V_ROWS * i);
    leaf->d[0] = vf_of_f16(w);
    leaf->m[0] = vf_of_f16(w + 2 * V_ROWS);
    unpack_wide_23(w + 20 * V_ROWS, NULL, leaf);
}

/* ---------------------------------------------------------------- IQ4_XS */

#ifdef V_QUADS
WIDE_TILES(iq4_xs, wide_k, {.chain = 8, .sums_32 = true})

static void unpack_wide_iq4_xs(const struct matmul_job *job, const uint8_t *w,
                               uint32_t l, struct wide_leaf *leaf)
{
    (void)job;
    const vi nibble = v_set8(15), table = iq4_table();
    const vi low = v_set32(0xffff);
    w += l * (V_ROWS * sizeof(struct block_iq4_xs));
    int8_t sc[8 * V_ROWS];
    unpack_iq4_scales(w + 2 * V_ROWS, sc);
    leaf->d[0] = vf_of_f16(w);
    for (int j = 0; j < 8; j++) leaf->scale[j] = v_i8_to_32(sc + V_ROWS * j);
    for (int i = 0; i < 4; i++) {
        const vi pair = v_or(v_and(leaf->scale[2 * i], low),
                             v_left32(leaf->scale[2 * i + 1], 16));
        leaf->min[i] = V_OFFSET8 ? v_left16(pair, 7) : v_zero();
    }
    w += 8 * V_ROWS;
    for (int j = 0; j < 8; j++) {
        for (int c = 0; c < 4; c++) {
            const vi x = v_load(w + 4 * V_ROWS * (4 * j + c));
            leaf->quad[8 * j + c] = v_shuffle8(table, v_and(x, nibble));
            leaf->quad[8 * j + 4 + c] =
                v_shuffle8(table, v_and(v_right16(x, 4), nibble));
        }
    }
}
static const struct wide_type wide_type_iq4_xs = {unpack_wide_iq4_xs,
                                                  tiles_wide_iq4_xs, 0};
#endif

static const struct wide_type wide_type_q2_k = {unpack_wide_q2_k,
                                                tiles_wide_q2_k, 0};
static const struct wide_type wide_type_q3_k = {unpack_wide_q3_k,
                                                tiles_wide_q3_k, 0};
static const struct wide_type wide_type_q4_k = {unpack_wide_q4_k,
                                                tiles_wide_q4_k, 0};
static const struct wide_type wide_type_q5_k = {unpack_wide_q5_k,
                                                tiles_wide_q5_k, 0};
static const struct wide_type wide_type_q6_k = {unpack_wide_q6_k,
                                                tiles_wide_q6_k, 0};

#endif
#endif

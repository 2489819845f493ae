/* wide_32.h - the types with blocks of 32, unpacked for wide.h. */
#ifndef ENGINE_WIDE_32_H
#define ENGINE_WIDE_32_H

#include "engine/wide.h"

#ifdef LEVEL

WIDE_TILES(four, wide_32, {.chain = 8})
WIDE_TILES(four_min, wide_32, {.chain = 8, .float_min = true})
#ifdef V_QUADS
#define tiles_wide_five     tiles_wide_four
#define tiles_wide_five_min tiles_wide_four_min
#else
WIDE_TILES(five, wide_32, {.chain = 4})
WIDE_TILES(five_min, wide_32, {.chain = 4, .float_min = true})
#endif

/* Of a type: constants after inlining. */
struct wide_quants {
    enum quant_type type;
    uint32_t bytes; /* of a block's quants */
    bool with_min;
};

static ALWAYS_INLINE void unpack_wide_block(const uint8_t *w,
                                            enum quant_type type, vi quad[8])
{
    const bool five = type == QUANT_Q5_0 || type == QUANT_Q5_1;
    const vi nibble = v_set8(15), fifth = v_set8(16);
    const vi qh = v_load(w); /* five: their bits (kernels_pack.h) */
    const uint8_t *qs = w + (five ? 4 * V_ROWS : 0);
    UNROLL
    for (int c = 0; c < 4; c++) {
        const vi x = v_load(qs + 4 * V_ROWS * c);
        vi l = v_and(x, nibble);
        vi h = v_and(v_right16(x, 4), nibble);
        if (five) {
            l = v_or(l, v_and(v_left16(qh, 4 - c), fifth));
            h = v_or(h, v_and(v_right16(qh, c), fifth));
        }
        if (type == QUANT_IQ4_NL) {
            l = v_shuffle8(iq4_table(), l);
            h = v_shuffle8(iq4_table(), h);
        }
        quad[c] = l;
        quad[c + 4] = h;
    }
}

static ALWAYS_INLINE void unpack_wide_32(const struct matmul_job *job,
                                         const uint8_t *w, uint32_t l,
                                         struct wide_quants of,
                                         struct wide_leaf *leaf)
{
    const uint32_t scales = 2 * V_ROWS * (of.with_min ? 2 : 1);
    const uint32_t left = job->k / 32 - 8 * l;
    const uint32_t nb = left < 8 ? left : 8;
    w += (size_t)l * 8 * (scales + of.bytes * V_ROWS);
    for (uint32_t b = 0; b < nb; b++) {
        leaf->d[b] = vf_of_f16(w + 2 * V_ROWS * b);
        if (of.with_min) leaf->m[b] = vf_of_f16(w + 2 * V_ROWS * (nb + b));
    }
    w += nb * scales;
    for (uint32_t b = 0; b < nb; b++, w += of.bytes * V_ROWS) {
        vi *quad = leaf->quad + 8 * b;
        if (of.type == QUANT_Q8_0) {
            UNROLL
            for (int c = 0; c < 8; c++) {
                quad[c] = v_xor(v_load(w + 4 * V_ROWS * c), v_set8(-V_OFFSET8));
            }
        } else {
            unpack_wide_block(w, of.type, quad);
        }
    }
}

#define WIDE_32(id, TYPE, bytes, with_min, tiles, offset)                      \
    static void unpack_wide_##id(const struct matmul_job *job,                 \
                                 const uint8_t *w, uint32_t l,                 \
                                 struct wide_leaf *leaf)                       \
    {                                                                          \
        unpack_wide_32(job, w, l, (struct wide_quants){TYPE, bytes, with_min}, \
                       leaf);                                                  \
    }                                                                          \
    static const struct wide_type wide_type_##id = {unpack_wide_##id, tiles,   \
                                                    offset};
WIDE_32(q4_0, QUANT_Q4_0, 16, false, tiles_wide_four, 8)
WIDE_32(q4_1, QUANT_Q4_1, 16, true, tiles_wide_four_min, 0)
WIDE_32(q5_0, QUANT_Q5_0, 20, false, tiles_wide_five, 16)
WIDE_32(q5_1, QUANT_Q5_1, 20, true, tiles_wide_five_min, 0)
#ifdef V_QUADS /* whose sums have no bounds to keep */
WIDE_32(q8_0, QUANT_Q8_0, 32, false, tiles_wide_four, V_OFFSET8)
WIDE_32(iq4_nl, QUANT_IQ4_NL, 16, false, tiles_wide_four, V_OFFSET8)
#endif

#endif
#endif

/* simd_scales.h - the scales of the 256-blocks, out of their packed form
 * (kernels_pack.h), and the leaf that they end in.  For simd kernels alone. */
#ifndef ENGINE_SIMD_SCALES_H
#define ENGINE_SIMD_SCALES_H

#include "engine/simd.h"

#ifdef LEVEL

/* Four bits of low, two of high. */
static ALWAYS_INLINE vi six_bits(vi low, vi high)
{
    return v_or(v_and(low, v_set8(0x0f)), v_and(high, v_set8(0x30)));
}

/* ----------------------------------------------------------- Q4_K, Q5_K */

/* sc[j][row]; m[i][row][2]: sub-blocks 2i and 2i + 1. */
struct six_bit_scales {
    uint8_t sc[8 * V_ROWS], m[8 * V_ROWS];
};

static ALWAYS_INLINE void unpack_six_bit_scales(const uint8_t *w,
                                                struct six_bit_scales *s)
{
    const vi a = v_load(w + 4 * V_ROWS), b = v_load(w + 8 * V_ROWS);
    const vi high = v_load(w + 12 * V_ROWS);
    v_store(s->sc, six_bits(a, v_left16(high, 4)));
    v_store(s->sc + 4 * V_ROWS, six_bits(b, high));
    v_store(s->m, six_bits(v_right16(a, 4), v_left16(high, 2)));
    v_store(s->m + 4 * V_ROWS, six_bits(v_right16(b, 4), v_right16(high, 2)));
}

/* -------------------------------------------------- Q2_K, Q3_K, IQ4_XS */

/* Low nibbles scales sc[16][row], high nibbles minima m[8][row][2]. */
static ALWAYS_INLINE void unpack_q2_scales(const uint8_t *w, uint8_t *sc,
                                           uint8_t *m)
{
    const vi nibble = v_set8(15);
    UNROLL
    for (int i = 0; i < 4; i++) {
        const vi x = v_load(w + 4 * V_ROWS * i);
        v_store(sc + 4 * V_ROWS * i, v_and(x, nibble));
        v_store(m + 4 * V_ROWS * i, v_and(v_right16(x, 4), nibble));
    }
}

/* sc[8][row][2]: low four bits of the first half in low nibbles, of the other
 * in high ones; high two of each quarter in two bits. */
static ALWAYS_INLINE void unpack_q3_scales(const uint8_t *w, int8_t *sc)
{
    const vi high = v_load(w + 8 * V_ROWS);
    UNROLL
    for (int i = 0; i < 4; i++) {
        const vi x = v_load(w + 4 * V_ROWS * (i % 2));
        const vi l = i < 2 ? x : v_right16(x, 4);
        const vi h =
            i < 2 ? v_left16(high, 4 - 2 * i) : v_right16(high, 2 * i - 4);
        v_store(sc + 4 * V_ROWS * i, v_sub8(six_bits(l, h), v_set8(32)));
    }
}

/* sc[j][row]: high two bits of each quarter in two bits of the first half
 * vector, then low nibbles of the first half and high ones of the other. */
static ALWAYS_INLINE void unpack_iq4_scales(const uint8_t *w, int8_t *sc)
{
    const vi h = v_halves(w), low = v_load(w + 2 * V_ROWS);
    const vi first = v_join_halves(v_left16(h, 4), v_left16(h, 2));
    const vi last = v_join_halves(h, v_right16(h, 2));
    const vi offset = v_set8(32);
    v_store(sc, v_sub8(six_bits(low, first), offset));
    v_store(sc + 4 * V_ROWS, v_sub8(six_bits(v_right16(low, 4), last), offset));
}

/* ---------------------------------------------------------- Q3_K, Q6_K */

/* Without d: the f16 of all blocks follow the last block. */
#define Q3_BLOCK (V_ROWS * (sizeof(struct block_q3_k) - 2))
#define Q6_BLOCK (V_ROWS * (sizeof(struct block_q6_k) - 2))

/* Part 0..3 of a half (32 weights each): four bits of ql, two of qh. */
static ALWAYS_INLINE vi q6_part(vi ql, vi qh, int part)
{
    const vi high = part == 0   ? v_left16(qh, 4)
                    : part == 1 ? v_left16(qh, 2)
                    : part == 2 ? qh
                                : v_right16(qh, 2);
    return six_bits(part < 2 ? ql : v_right16(ql, 4), high);
}

/* -------------------------------------------------------------- leaves */

/* The sum over 16 sub-blocks of scale * sum of q.  pairs[i]: int16, of
 * sub-blocks 2i and 2i + 1 side by side. */
static ALWAYS_INLINE vi scaled_sums(const vi pairs[8], const struct act_q8_k *a)
{
    vi sum = v_zero();
    UNROLL
    for (int i = 0; i < 8; i++) {
        sum = v_dot_i16(sum, pairs[i], two_sums(a->sum + 2 * i));
    }
    return sum;
}

/* sum * (d * a) - mins * (dmin * a), w at d and dmin; a[] goes on. */
static ALWAYS_INLINE void leaf_with_min(const uint8_t *w,
                                        const struct act_q8_k **a, int nc,
                                        const vi *sum, const vi *mins,
                                        struct tile_stack *stack,
                                        uint32_t merges)
{
    const vf d = vf_of_f16(w), dmin = vf_of_f16(w + 2 * V_ROWS);
    vf leaf[TILE_COLS];
    UNROLL
    for (int n = 0; n < nc; n++) {
        const vf ad = vf_set(a[n]->d);
        leaf[n] = vf_sub(vf_mul(vf_of_i32(sum[n]), vf_mul(d, ad)),
                         vf_mul(vf_of_i32(mins[n]), vf_mul(dmin, ad)));
        a[n]++;
    }
    stack_push(stack, merges, leaf, nc);
}

/* sum * (d * a), d at d16; a[] goes on. */
static ALWAYS_INLINE void leaf_of_sum(const uint8_t *d16,
                                      const struct act_q8_k **a, int nc,
                                      const vi *sum, struct tile_stack *stack,
                                      uint32_t merges)
{
    const vf d = vf_of_f16(d16);
    vf leaf[TILE_COLS];
    UNROLL
    for (int n = 0; n < nc; n++) {
        leaf[n] = vf_mul(vf_of_i32(sum[n]), vf_mul(d, vf_set(a[n]->d)));
        a[n]++;
    }
    stack_push(stack, merges, leaf, nc);
}

#endif
#endif

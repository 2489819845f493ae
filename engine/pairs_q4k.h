/* pairs_q4k.h - Q4_K, and Q5_K, which is the same with a fifth bit.
 *
 * A nibble times q in pairs is at most 2 * 15 * 127 = 3810, so a sub-block of
 * 32, eight pair sums a row and half, stays in int16 (30,480): one multiply by
 * the six-bit scale for each sub-block.  With five bits half as many stay
 * (4 * 2 * 31 * 127 = 31,496): two multiplies. */
#ifndef ENGINE_PAIRS_Q4K_H
#define ENGINE_PAIRS_Q4K_H

#include "engine/simd_scales.h"
#include "engine/wide_k.h"

#ifdef LEVEL

/* Sub-blocks 2i and 2i + 1, quads [first, first + n_quads) of eight, added to
 * sum[].  five: Q5_K. */
static ALWAYS_INLINE void quads_45(const uint8_t *w,
                                   const struct six_bit_scales *s, int i,
                                   int first, int n_quads,
                                   const struct act_q8_k *const *a, int nc,
                                   bool five, vi *sum)
{
    const vi nibble = v_set8(15), fifth = v_set8(16);
    const uint8_t *qh = w + 16 * V_ROWS;
    const uint8_t *qs = qh + (five ? 32 * V_ROWS : 0);
    vp lo[TILE_COLS], hi[TILE_COLS];
    UNROLL
    for (int n = 0; n < nc; n++) lo[n] = hi[n] = vp_zero();
    UNROLL
    for (int c = first; c < first + n_quads; c++) {
        const vi x = v_load(qs + (8 * i + c) * (4 * V_ROWS));
        vi l = v_and(x, nibble);
        vi h = v_and(v_right16(x, 4), nibble);
        if (five) {
            const vi bits = v_right16(v_load(qh + c * (4 * V_ROWS)), 2 * i);
            l = v_or(l, v_and(v_left16(bits, 4), fifth));
            h = v_or(h, v_and(v_left16(bits, 3), fifth));
        }
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 64 * i + 4 * c;
            lo[n] = vp_dot(lo[n], l, v_quad(q));
            hi[n] = vp_dot(hi[n], h, v_quad(q + 32));
        }
    }
    const vi sl = v_u8_twice(s->sc + 2 * V_ROWS * i);
    const vi sh = v_u8_twice(s->sc + 2 * V_ROWS * i + V_ROWS);
    UNROLL
    for (int n = 0; n < nc; n++) {
        sum[n] = v_add32(sum[n], v_add32(v_madd16(vp_pairs(lo[n]), sl),
                                         v_madd16(vp_pairs(hi[n]), sh)));
    }
}

/* Sub-blocks 2i and 2i + 1, added to sum[] and mins[]. */
static ALWAYS_INLINE void pair_45(const uint8_t *w,
                                  const struct six_bit_scales *s, int i,
                                  const struct act_q8_k *const *a,
                                  int16_t (*sums)[8], int nc, bool five,
                                  vi *sum, vi *mins)
{
    if (five) {
        quads_45(w, s, i, 0, 4, a, nc, true, sum);
        quads_45(w, s, i, 4, 4, a, nc, true, sum);
    } else {
        quads_45(w, s, i, 0, 8, a, nc, false, sum);
    }
    const vi m = v_u8_to_16(s->m + 2 * V_ROWS * i);
    UNROLL
    for (int n = 0; n < nc; n++) {
        mins[n] = v_add32(mins[n], v_madd16(m, two_sums(sums[n] + 2 * i)));
    }
}

static ALWAYS_INLINE void tile_45(const struct matmul_job *job,
                                  const uint8_t *w, uint32_t row, uint32_t col,
                                  int nc, bool five)
{
    const size_t block =
        V_ROWS * (five ? sizeof(struct block_q5_k) : sizeof(struct block_q4_k));
    struct tile_stack stack = {.top = 0};
    const struct act_q8_k *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    for (uint32_t b = 0; b < job->tree->n_leaves; b++, w += block) {
        struct six_bit_scales s;
        unpack_six_bit_scales(w, &s);
        vi sum[TILE_COLS], mins[TILE_COLS];
        int16_t sums[TILE_COLS][8];
        UNROLL
        for (int n = 0; n < nc; n++) {
            sum[n] = mins[n] = v_zero();
            sums_of_32(a[n], sums[n]);
        }
        for (int i = 0; i < 4; i++) {
            pair_45(w, &s, i, a, sums, nc, five, sum, mins);
        }
        leaf_with_min(w, a, nc, sum, mins, &stack, job->tree->merges[b]);
    }
    stack_store(&stack, job, row, col, nc);
}

static ALWAYS_INLINE void tile_q4_k(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    tile_45(job, w, row, col, nc, false);
}

static ALWAYS_INLINE void tile_q5_k(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    tile_45(job, w, row, col, nc, true);
}

KERNEL(QUANT_Q4_K, q4_k, "q4_k", ACT_Q8_K, BLAS_PANEL(q4_k))
KERNEL(QUANT_Q5_K, q5_k, "q5_k", ACT_Q8_K, NULL)

#endif
#endif

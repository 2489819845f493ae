/* pairs_q23k.h - Q2_K and Q3_K.
 *
 * Both have 16 sub-blocks of 16 and two bits of every weight in the same
 * places.  A pair of at most three bits times q is below 2 * 7 * 127 = 1778:
 * a sub-block's four stay in int16.  Q3_K's offset of 4 comes off at the end,
 * through the activations' sums. */
#ifndef ENGINE_PAIRS_Q23K_H
#define ENGINE_PAIRS_Q23K_H

#include "engine/pairs_scales.h"
#include "engine/wide_k.h"

#ifdef LEVEL

#define Q2_BLOCK (V_ROWS * sizeof(struct block_q2_k))

/* Half h, quads 4u .. 4u + 3 of each part: sub-blocks 8h + 2 part + u, added
 * to sum[].  hmask: the third bits, or NULL (Q2_K).  shift: 4h. */
static ALWAYS_INLINE void half_q23(const uint8_t *qs, const uint8_t *hmask,
                                   const vi *sc, int h, int u,
                                   const struct act_q8_k *const *a, int nc,
                                   vi *sum)
{
    const vi two = v_set8(3), third = v_set8(4);
    vp acc[4][TILE_COLS];
    UNROLL
    for (int part = 0; part < 4; part++) {
        UNROLL
        for (int n = 0; n < nc; n++) acc[part][n] = vp_zero();
    }
    for (int c = 4 * u; c < 4 * u + 4; c++) {
        const vi x = v_load(qs + (8 * h + c) * (4 * V_ROWS));
        vi high = v_zero();
        if (hmask) high = v_right16(v_load(hmask + c * (4 * V_ROWS)), 4 * h);
        UNROLL
        for (int part = 0; part < 4; part++) {
            vi v = v_and(v_right16(x, 2 * part), two);
            if (hmask) {
                const vi bit = part < 2 ? v_left16(high, 2 - part)
                                        : v_right16(high, part - 2);
                v = v_or(v, v_and(bit, third));
            }
            UNROLL
            for (int n = 0; n < nc; n++) {
                const int8_t *q = a[n]->q + 128 * h + 32 * part + 4 * c;
                acc[part][n] = vp_dot(acc[part][n], v, v_quad(q));
            }
        }
    }
    UNROLL
    for (int part = 0; part < 4; part++) {
        UNROLL
        for (int n = 0; n < nc; n++) {
            sum[n] = v_add32(sum[n], v_madd16(vp_pairs(acc[part][n]),
                                              sc[8 * h + 2 * part + u]));
        }
    }
}

static ALWAYS_INLINE void block_q23(const uint8_t *qs, const uint8_t *hmask,
                                    const vi *sc,
                                    const struct act_q8_k *const *a, int nc,
                                    vi *sum)
{
    UNROLL
    for (int n = 0; n < nc; n++) sum[n] = v_zero();
    for (int h = 0; h < 2; h++) {
        for (int u = 0; u < 2; u++) half_q23(qs, hmask, sc, h, u, a, nc, sum);
    }
}

/* ------------------------------------------------------------------ Q2_K */

static ALWAYS_INLINE void tile_q2_k(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    struct tile_stack stack = {.top = 0};
    const struct act_q8_k *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    for (uint32_t b = 0; b < job->tree->n_leaves; b++, w += Q2_BLOCK) {
        uint8_t sc[16 * V_ROWS], m[16 * V_ROWS];
        unpack_q2_scales(w + 4 * V_ROWS, sc, m);
        vi twice[16], pairs[8], sum[TILE_COLS], mins[TILE_COLS];
        UNROLL
        for (int j = 0; j < 16; j++) twice[j] = v_u8_twice(sc + V_ROWS * j);
        UNROLL
        for (int i = 0; i < 8; i++) pairs[i] = v_u8_to_16(m + 2 * V_ROWS * i);
        block_q23(w + 20 * V_ROWS, NULL, twice, a, nc, sum);
        UNROLL
        for (int n = 0; n < nc; n++) mins[n] = scaled_sums(pairs, a[n]);
        leaf_with_min(w, a, nc, sum, mins, &stack, job->tree->merges[b]);
    }
    stack_store(&stack, job, row, col, nc);
}

KERNEL(QUANT_Q2_K, q2_k, "q2_k", ACT_Q8_K, NULL)

/* ------------------------------------------------------------------ Q3_K */

static ALWAYS_INLINE void tile_q3_k(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    struct tile_stack stack = {.top = 0};
    const struct act_q8_k *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    const uint8_t *d16 = w + job->tree->n_leaves * Q3_BLOCK;
    for (uint32_t b = 0; b < job->tree->n_leaves;
         b++, w += Q3_BLOCK, d16 += 2 * V_ROWS) {
        struct scales_16 s;
        int8_t sc[16 * V_ROWS];
        unpack_q3_scales(w, sc);
        spread_scales(sc, &s);
        vi sum[TILE_COLS];
        block_q23(w + 44 * V_ROWS, w + 12 * V_ROWS, s.twice, a, nc, sum);
        UNROLL
        for (int n = 0; n < nc; n++) {
            sum[n] = v_sub32(sum[n], v_left32(scaled_sums(s.pairs, a[n]), 2));
        }
        leaf_of_sum(d16, a, nc, sum, &stack, job->tree->merges[b]);
    }
    stack_store(&stack, job, row, col, nc);
}

KERNEL(QUANT_Q3_K, q3_k, "q3_k", ACT_Q8_K, NULL)

#endif
#endif

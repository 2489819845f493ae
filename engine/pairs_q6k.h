/* pairs_q6k.h - Q6_K.
 *
 * Six unsigned bits times q in pairs is at most 2 * 63 * 127 = 16,002: two
 * such sums stay in int16. The offset of 32 comes off at the end, through the
 * activations' sums: sum of sc (w - 32) q = sum of sc w q - 32 sum of sc q. */
#ifndef ENGINE_PAIRS_Q6K_H
#define ENGINE_PAIRS_Q6K_H

#include "engine/pairs_scales.h"
#include "engine/wide_k.h"

#ifdef LEVEL

/* Weights 8c .. 8c + 7 of each part of half h, added to sum[]. */
static ALWAYS_INLINE void eight_q6(const uint8_t *w, const struct scales_16 *s,
                                   int h, int c,
                                   const struct act_q8_k *const *a, int nc,
                                   vi *sum)
{
    const int quad = 4 * V_ROWS;
    const uint8_t *v = w + 16 * V_ROWS + (24 * h + 6 * c) * quad;
    const vi ql[2][2] = {{v_load(v), v_load(v + quad)},
                         {v_load(v + 3 * quad), v_load(v + 4 * quad)}};
    const vi qh[2] = {v_load(v + 2 * quad), v_load(v + 5 * quad)};
    UNROLL
    for (int part = 0; part < 4; part++) {
        const vi x = q6_part(ql[0][part % 2], qh[0], part);
        const vi y = q6_part(ql[1][part % 2], qh[1], part);
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 128 * h + 32 * part + 8 * c;
            const vi t =
                vp_pairs(vp_dot(vp_mul(x, v_quad(q)), y, v_quad(q + 4)));
            sum[n] = v_add32(sum[n],
                             v_madd16(t, s->twice[8 * h + 2 * part + c / 2]));
        }
    }
}

static ALWAYS_INLINE void tile_q6_k(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    struct tile_stack stack = {.top = 0};
    const struct act_q8_k *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    const uint8_t *d16 = w + job->tree->n_leaves * Q6_BLOCK;
    for (uint32_t b = 0; b < job->tree->n_leaves;
         b++, w += Q6_BLOCK, d16 += 2 * V_ROWS) {
        struct scales_16 s;
        spread_scales((const int8_t *)w, &s);
        vi sum[TILE_COLS];
        UNROLL
        for (int n = 0; n < nc; n++) sum[n] = v_zero();
        for (int h = 0; h < 2; h++) {
            for (int c = 0; c < 4; c++) eight_q6(w, &s, h, c, a, nc, sum);
        }
        UNROLL
        for (int n = 0; n < nc; n++) {
            sum[n] = v_sub32(sum[n], v_left32(scaled_sums(s.pairs, a[n]), 5));
        }
        leaf_of_sum(d16, a, nc, sum, &stack, job->tree->merges[b]);
    }
    stack_store(&stack, job, row, col, nc);
}

KERNEL(QUANT_Q6_K, q6_k, "q6_k", ACT_Q8_K, NULL)

#endif
#endif

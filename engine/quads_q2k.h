/* quads_q2k.h - Q2_K: two bits times a scale of four are at most 45, so
 * scaled weights are bytes still, and a block is one chain of sums. */
#ifndef ENGINE_QUADS_Q2K_H
#define ENGINE_QUADS_Q2K_H

#include "engine/simd_scales.h"
#include "engine/wide_k.h"

#ifdef LEVEL

static ALWAYS_INLINE void tile_q2_k(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    const vi two = v_set8(3);
    struct tile_stack stack = {.top = 0};
    const struct act_q8_k *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    for (uint32_t b = 0; b < job->tree->n_leaves;
         b++, w += V_ROWS * sizeof(struct block_q2_k)) {
        uint8_t sc[16 * V_ROWS], m[16 * V_ROWS];
        unpack_q2_scales(w + 4 * V_ROWS, sc, m);
        vi pairs[8], sum[TILE_COLS], mins[TILE_COLS];
        UNROLL
        for (int n = 0; n < nc; n++) sum[n] = v_zero();
        if (nc == 1) prefetch(w, V_ROWS * sizeof(struct block_q2_k));
        UNROLL
        for (int c = 0; c < 16; c++) {
            const vi x = v_load(w + 4 * V_ROWS * (5 + c));
            UNROLL
            for (int part = 0; part < 4; part++) {
                const int j = c / 8 * 8 + 2 * part + c % 8 / 4;
                /* no carry from byte to byte */
                const vi v = v_mul16(v_and(v_right16(x, 2 * part), two),
                                     v_u8_twice(sc + V_ROWS * j));
                UNROLL
                for (int n = 0; n < nc; n++) {
                    const int8_t *q =
                        a[n]->q + 128 * (c / 8) + 32 * part + 4 * (c % 8);
                    sum[n] = v_dot_u8(sum[n], v, v_quad(q));
                }
            }
        }
        UNROLL
        for (int i = 0; i < 8; i++) pairs[i] = v_u8_to_16(m + 2 * V_ROWS * i);
        UNROLL
        for (int n = 0; n < nc; n++) mins[n] = scaled_sums(pairs, a[n]);
        leaf_with_min(w, a, nc, sum, mins, &stack, job->tree->merges[b]);
    }
    stack_store(&stack, job, row, col, nc);
}

KERNEL(QUANT_Q2_K, q2_k, "q2_k", ACT_Q8_K, NULL)

#endif
#endif

/* pairs_q8.h - Q8_0.
 *
 * Pair sums are exact: 2 * 128 * 127 < 2^15, w = -128 included (v_madd8() could
 * not take the sign of q = -128, but |q| <= 127). */
#ifndef ENGINE_PAIRS_Q8_H
#define ENGINE_PAIRS_Q8_H

#include "engine/simd.h"

#ifdef LEVEL

static ALWAYS_INLINE void
block_q8(const uint8_t *w, const struct act_q8_0 *const *a, int nc, vi *sum)
{
    UNROLL
    for (int n = 0; n < nc; n++) sum[n] = v_zero();
    UNROLL
    for (int c = 0; c < 8; c++) {
        const vi x = v_load(w + 4 * V_ROWS * c);
        UNROLL
        for (int n = 0; n < nc; n++) {
            const vi q = v_quad(a[n]->q + 4 * c);
            sum[n] = v_add_pairs(sum[n], v_madd8(x, q));
        }
    }
}

static ALWAYS_INLINE void tile_q8_0(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    struct tile_stack stack = {.top = 0};
    const struct act_q8_0 *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    uint32_t left = job->k / 32;
    for (uint32_t l = 0; l < job->tree->n_leaves; l++) {
        const uint32_t nb = left < 8 ? left : 8;
        left -= nb;
        vf leaf[TILE_COLS]; /* -0 + t is t, whatever t */
        UNROLL
        for (int n = 0; n < nc; n++) leaf[n] = vf_set(-0.0f);
        const uint8_t *d16 = w;
        w += nb * 2 * V_ROWS;
        for (uint32_t b = 0; b < nb; b++, w += 32 * V_ROWS) {
            vi sum[TILE_COLS];
            block_q8(w, a, nc, sum);
            const vf d = vf_of_f16(d16 + 2 * V_ROWS * b);
            UNROLL
            for (int n = 0; n < nc; n++) {
                const vf da = vf_mul(d, vf_set(a[n]->d));
                leaf[n] = vf_add(leaf[n], vf_mul(vf_of_i32(sum[n]), da));
                a[n]++;
            }
        }
        stack_push(&stack, job->tree->merges[l], leaf, nc);
    }
    stack_store(&stack, job, row, col, nc);
}

KERNEL_TILES(QUANT_Q8_0, q8_0, "q8_0", ACT_Q8_0, BLAS_PANEL(q8_0))

#endif
#endif

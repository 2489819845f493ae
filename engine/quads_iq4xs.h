/* quads_iq4xs.h - IQ4_XS: nibbles are looked up in a table. */
#ifndef ENGINE_QUADS_IQ4XS_H
#define ENGINE_QUADS_IQ4XS_H

#include "engine/simd_scales.h"
#include "engine/wide_k.h"

#ifdef LEVEL

/* Sub-block j, its quads at w, added to sum[]. */
static ALWAYS_INLINE void sub_iq4(const uint8_t *w, vi scale, int j,
                                  const struct act_q8_k *const *a, int nc,
                                  vi *sum)
{
    const vi nibble = v_set8(15), table = iq4_table();
    vi acc[TILE_COLS];
    UNROLL
    for (int n = 0; n < nc; n++) {
        acc[n] =
            v_set32(-V_OFFSET8 * (a[n]->sum[2 * j] + a[n]->sum[2 * j + 1]));
    }
    UNROLL
    for (int c = 0; c < 4; c++) {
        const vi x = v_load(w + 4 * V_ROWS * c);
        const vi l = v_shuffle8(table, v_and(x, nibble));
        const vi h = v_shuffle8(table, v_and(v_right16(x, 4), nibble));
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 32 * j + 4 * c;
            acc[n] = v_dot_u8(acc[n], l, v_quad(q));
            acc[n] = v_dot_u8(acc[n], h, v_quad(q + 16));
        }
    }
    UNROLL
    for (int n = 0; n < nc; n++) {
        sum[n] = v_add32(sum[n], v_mul32(acc[n], scale));
    }
}

static ALWAYS_INLINE void tile_iq4_xs(const struct matmul_job *job,
                                      const uint8_t *w, uint32_t row,
                                      uint32_t col, int nc)
{
    struct tile_stack stack = {.top = 0};
    const struct act_q8_k *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    for (uint32_t b = 0; b < job->tree->n_leaves;
         b++, w += V_ROWS * sizeof(struct block_iq4_xs)) {
        int8_t sc[8 * V_ROWS];
        unpack_iq4_scales(w + 2 * V_ROWS, sc);
        vi sum[TILE_COLS];
        UNROLL
        for (int n = 0; n < nc; n++) sum[n] = v_zero();
        if (nc == 1) prefetch(w, V_ROWS * sizeof(struct block_iq4_xs));
        UNROLL
        for (int j = 0; j < 8; j++) {
            sub_iq4(w + (8 + 16 * j) * V_ROWS, v_i8_to_32(sc + V_ROWS * j), j,
                    a, nc, sum);
        }
        leaf_of_sum(w, a, nc, sum, &stack, job->tree->merges[b]);
    }
    stack_store(&stack, job, row, col, nc);
}

KERNEL(QUANT_IQ4_XS, iq4_xs, "iq4_xs", ACT_Q8_K, NULL)

#endif
#endif

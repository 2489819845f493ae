/* pairs_iq4.h - IQ4_NL and IQ4_XS: nibbles are looked up in a table.
 *
 * As in pairs_q8.h: pair sums are at
 * most 2 * 127 * 127 < 2^15 and become int32 at once, with IQ4_XS multiplied
 * by their scale on the way. */
#ifndef ENGINE_PAIRS_IQ4_H
#define ENGINE_PAIRS_IQ4_H

#include "engine/simd_scales.h"

#ifdef LEVEL

/* n_quads quads of nibbles at w, low ones for q, high ones for q + 16, times
 * scale (int16, [row][2]), added to sum[]. */
static ALWAYS_INLINE void block_iq4(const uint8_t *w, vi scale,
                                    const int8_t *const *q, int nc, vi *sum)
{
    const vi nibble = v_set8(15);
    const vi table = v_lanes(quant_iq4_values);
    UNROLL
    for (int c = 0; c < 4; c++) {
        const vi x = v_load(w + 4 * V_ROWS * c);
        const vi l = v_shuffle8(table, v_and(x, nibble));
        const vi h = v_shuffle8(table, v_and(v_right16(x, 4), nibble));
        UNROLL
        for (int n = 0; n < nc; n++) {
            const vi low = v_madd8(l, v_quad(q[n] + 4 * c));
            const vi high = v_madd8(h, v_quad(q[n] + 4 * c + 16));
            sum[n] = v_add32(
                sum[n], v_add32(v_madd16(low, scale), v_madd16(high, scale)));
        }
    }
}

static ALWAYS_INLINE void tile_iq4_nl(const struct matmul_job *job,
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
        for (uint32_t b = 0; b < nb; b++, w += 16 * V_ROWS) {
            vi sum[TILE_COLS];
            const int8_t *q[TILE_COLS];
            UNROLL
            for (int n = 0; n < nc; n++) {
                sum[n] = v_zero();
                q[n] = a[n]->q;
            }
            block_iq4(w, v_set16(1), q, nc, sum);
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

KERNEL_TILES(QUANT_IQ4_NL, iq4_nl, "iq4_nl", ACT_Q8_0, NULL)

/* ---------------------------------------------------------------- IQ4_XS */

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
        for (int j = 0; j < 8; j++) {
            const int8_t *q[TILE_COLS];
            UNROLL
            for (int n = 0; n < nc; n++) q[n] = a[n]->q + 32 * j;
            block_iq4(w + (8 + 16 * j) * V_ROWS, v_i8_twice(sc + V_ROWS * j), q,
                      nc, sum);
        }
        leaf_of_sum(w, a, nc, sum, &stack, job->tree->merges[b]);
    }
    stack_store(&stack, job, row, col, nc);
}

KERNEL_TILES(QUANT_IQ4_XS, iq4_xs, "iq4_xs", ACT_Q8_K, NULL)

#endif
#endif

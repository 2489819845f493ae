/* pairs_q4.h - Q4_0 and Q4_1, Q5_0 and Q5_1.
 *
 * The sum of a block (of half a block, with five bits) stays in int16 as in
 * pairs_q4k.h.  The offsets of Q4_0 and Q5_0 come off through the
 * activations' sum. */
#ifndef ENGINE_PAIRS_Q4_H
#define ENGINE_PAIRS_Q4_H

#include "engine/wide_32.h"

#ifdef LEVEL

/* A type of this file; constants after inlining. */
struct kind_32 {
    bool five, with_min;
};

/* The sums of unsigned quants times q over a block. */
static ALWAYS_INLINE void block_4(const uint8_t *w,
                                  const struct act_q8_0 *const *a, int nc,
                                  bool five, vi *sum)
{
    const vi nibble = v_set8(15), fifth = v_set8(16);
    const vi qh = v_load(w); /* five: their bits (kernels_pack.h) */
    const uint8_t *qs = w + (five ? 4 * V_ROWS : 0);
    vp lo[TILE_COLS], hi[TILE_COLS];
    UNROLL
    for (int n = 0; n < nc; n++) lo[n] = hi[n] = vp_zero();
    UNROLL
    for (int c = 0; c < 4; c++) {
        const vi x = v_load(qs + 4 * V_ROWS * c);
        vi l = v_and(x, nibble);
        vi h = v_and(v_right16(x, 4), nibble);
        if (five) {
            l = v_or(l, v_and(v_left16(qh, 4 - c), fifth));
            h = v_or(h, v_and(v_right16(qh, c), fifth));
        }
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 4 * c;
            lo[n] = vp_dot(lo[n], l, v_quad(q));
            hi[n] = vp_dot(hi[n], h, v_quad(q + 16));
        }
    }
    UNROLL
    for (int n = 0; n < nc; n++) {
        const vi low = vp_pairs(lo[n]), high = vp_pairs(hi[n]);
        sum[n] = five ? v_add_pairs(v_add_pairs(v_zero(), low), high)
                      : v_add_pairs(v_zero(), v_add16(low, high));
    }
}

static ALWAYS_INLINE void tile_4(const struct matmul_job *job, const uint8_t *w,
                                 uint32_t row, uint32_t col, int nc,
                                 struct kind_32 kind)
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
        const uint8_t *d16 = w, *m16 = w + nb * 2 * V_ROWS;
        w += nb * 2 * V_ROWS * (kind.with_min ? 2 : 1);
        for (uint32_t b = 0; b < nb; b++, w += (kind.five ? 20 : 16) * V_ROWS) {
            vi sum[TILE_COLS];
            block_4(w, a, nc, kind.five, sum);
            const vf d = vf_of_f16(d16 + 2 * V_ROWS * b);
            UNROLL
            for (int n = 0; n < nc; n++) {
                const vf ad = vf_set(a[n]->d);
                const vf da = vf_mul(d, ad);
                const vi q = v_set32(a[n]->sum);
                if (!kind.with_min) {
                    sum[n] = v_sub32(sum[n], v_left32(q, kind.five ? 4 : 3));
                }
                vf t = vf_mul(vf_of_i32(sum[n]), da);
                if (kind.with_min) {
                    const vf s = vf_mul(ad, vf_of_i32(q));
                    const vf m = vf_of_f16(m16 + 2 * V_ROWS * b);
                    t = vf_add(t, vf_mul(m, s));
                }
                leaf[n] = vf_add(leaf[n], t);
                a[n]++;
            }
        }
        stack_push(&stack, job->tree->merges[l], leaf, nc);
    }
    stack_store(&stack, job, row, col, nc);
}

#define TILE_4(id, five, with_min)                                             \
    static ALWAYS_INLINE void tile_##id(const struct matmul_job *job,          \
                                        const uint8_t *w, uint32_t row,        \
                                        uint32_t col, int nc)                  \
    {                                                                          \
        tile_4(job, w, row, col, nc, (struct kind_32){five, with_min});        \
    }
TILE_4(q4_0, false, false)
TILE_4(q4_1, false, true)
TILE_4(q5_0, true, false)
TILE_4(q5_1, true, true)

KERNEL(QUANT_Q4_0, q4_0, "q4_0", ACT_Q8_0, NULL)
KERNEL(QUANT_Q4_1, q4_1, "q4_1", ACT_Q8_0, NULL)
KERNEL(QUANT_Q5_0, q5_0, "q5_0", ACT_Q8_0, NULL)
KERNEL(QUANT_Q5_1, q5_1, "q5_1", ACT_Q8_0, NULL)

#endif
#endif

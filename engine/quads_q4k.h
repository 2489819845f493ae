/* quads_q4k.h - Q4_K, and Q5_K, which is the same with a fifth bit. */
#ifndef ENGINE_QUADS_Q4K_H
#define ENGINE_QUADS_Q4K_H

#include "engine/simd_scales.h"
#include "engine/wide_k.h"

#ifdef LEVEL

/* Sub-blocks 2i and 2i + 1, added to sum[].  five: Q5_K. */
static ALWAYS_INLINE void pair_45(const uint8_t *w,
                                  const struct six_bit_scales *s, int i,
                                  const struct act_q8_k *const *a, int nc,
                                  bool five, vi *sum)
{
    const vi nibble = v_set8(15), fifth = v_set8(16);
    const uint8_t *qh = w + 16 * V_ROWS;
    const uint8_t *qs = qh + (five ? 32 * V_ROWS : 0) + 32 * V_ROWS * i;
    vi lo[TILE_COLS], hi[TILE_COLS];
    UNROLL
    for (int n = 0; n < nc; n++) lo[n] = hi[n] = v_zero();
    UNROLL
    for (int c = 0; c < 8; c++) {
        const vi x = v_load(qs + 4 * V_ROWS * c);
        vi l = v_and(x, nibble);
        vi h = v_and(v_right16(x, 4), nibble);
        if (five) {
            const vi bits = v_right16(v_load(qh + 4 * V_ROWS * c), 2 * i);
            l = v_or(l, v_and(v_left16(bits, 4), fifth));
            h = v_or(h, v_and(v_left16(bits, 3), fifth));
        }
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 64 * i + 4 * c;
            lo[n] = v_dot_u8(lo[n], l, v_quad(q));
            hi[n] = v_dot_u8(hi[n], h, v_quad(q + 32));
        }
    }
    const vi sl = v_u8_to_32(s->sc + 2 * V_ROWS * i);
    const vi sh = v_u8_to_32(s->sc + 2 * V_ROWS * i + V_ROWS);
    UNROLL
    for (int n = 0; n < nc; n++) {
        sum[n] =
            v_add32(sum[n], v_add32(v_mul32(lo[n], sl), v_mul32(hi[n], sh)));
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
        UNROLL
        for (int n = 0; n < nc; n++) sum[n] = v_zero();
        if (nc == 1) prefetch(w, block);
        if (five) { /* whose shifts are better constants */
            UNROLL
            for (int i = 0; i < 4; i++) pair_45(w, &s, i, a, nc, true, sum);
        } else {
            for (int i = 0; i < 4; i++) pair_45(w, &s, i, a, nc, false, sum);
        }
        vi m[4];
        UNROLL
        for (int i = 0; i < 4; i++) m[i] = v_u8_to_16(s.m + 2 * V_ROWS * i);
        UNROLL
        for (int n = 0; n < nc; n++) {
            int16_t sums[8];
            sums_of_32(a[n], sums);
            mins[n] = v_zero();
            UNROLL
            for (int i = 0; i < 4; i++) {
                mins[n] = v_dot_i16(mins[n], m[i], two_sums(sums + 2 * i));
            }
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

KERNEL(QUANT_Q4_K, q4_k, "q4_k", ACT_Q8_K, NULL)
KERNEL(QUANT_Q5_K, q5_k, "q5_k", ACT_Q8_K, NULL)

#endif
#endif

/* quads_q6k.h - Q6_K and Q3_K: sixteen scales of sixteen weights.
 *
 * Their offsets, 32 and 4, come off at the end, through the activations'
 * sums: sum of sc (w - 32) q = sum of sc w q - 32 sum of sc q. */
#ifndef ENGINE_QUADS_Q6K_H
#define ENGINE_QUADS_Q6K_H

#include "engine/simd_scales.h"
#include "engine/wide_k.h"

#ifdef LEVEL

/* Scale j to int32, from int8 [8][row][2]. */
static ALWAYS_INLINE vi scale_32(const int8_t *scales, int j)
{
    const vi x = v_i8_to_16(scales + 2 * V_ROWS * (j / 2));
    return v_signed_right32(j % 2 ? x : v_left32(x, 16), 16);
}

/* sum[] += acc[][] * scales j and j + 4. */
static ALWAYS_INLINE void add_scaled(const int8_t *scales, int j,
                                     vi acc[2][TILE_COLS], int nc, vi *sum)
{
    const vi first = scale_32(scales, j), second = scale_32(scales, j + 4);
    UNROLL
    for (int n = 0; n < nc; n++) {
        sum[n] = v_add32(sum[n], v_add32(v_mul32(acc[0][n], first),
                                         v_mul32(acc[1][n], second)));
    }
}

/* Of half h, parts p and p + 2: weights 16u .. 16u + 15 of each, added to
 * sum[].  w: the quad vectors. */
static ALWAYS_INLINE void parts_q6(const uint8_t *w, const int8_t *scales,
                                   int h, int u, int p,
                                   const struct act_q8_k *const *a, int nc,
                                   vi *sum)
{
    vi acc[2][TILE_COLS];
    UNROLL
    for (int n = 0; n < nc; n++) acc[0][n] = acc[1][n] = v_zero();
    UNROLL
    for (int c = 4 * u; c < 4 * u + 4; c++) {
        const uint8_t *v = w + 4 * V_ROWS * (24 * h + 3 * c);
        const vi ql = v_load(v + 4 * V_ROWS * p);
        const vi qh = v_load(v + 4 * V_ROWS * 2);
        const vi x = q6_part(ql, qh, p), y = q6_part(ql, qh, p + 2);
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 128 * h + 32 * p + 4 * c;
            acc[0][n] = v_dot_u8(acc[0][n], x, v_quad(q));
            acc[1][n] = v_dot_u8(acc[1][n], y, v_quad(q + 64));
        }
    }
    add_scaled(scales, 8 * h + 2 * p + u, acc, nc, sum);
}

/* The same of Q3_K. */
static ALWAYS_INLINE void parts_q3(const uint8_t *w, const int8_t *scales,
                                   int h, int u, int p,
                                   const struct act_q8_k *const *a, int nc,
                                   vi *sum)
{
    const vi two = v_set8(3), third = v_set8(4);
    const uint8_t *hmask = w, *qs = w + 32 * V_ROWS;
    vi acc[2][TILE_COLS];
    UNROLL
    for (int n = 0; n < nc; n++) acc[0][n] = acc[1][n] = v_zero();
    UNROLL
    for (int c = 4 * u; c < 4 * u + 4; c++) {
        const vi v = v_load(qs + 4 * V_ROWS * (8 * h + c));
        const vi bits = v_load(hmask + 4 * V_ROWS * c);
        const vi high = v_right16(bits, 4 * h + p);
        const vi x = v_or(v_and(v_right16(v, 2 * p), two),
                          v_and(v_left16(high, 2), third));
        const vi y =
            v_or(v_and(v_right16(v, 2 * p + 4), two), v_and(high, third));
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 128 * h + 32 * p + 4 * c;
            acc[0][n] = v_dot_u8(acc[0][n], x, v_quad(q));
            acc[1][n] = v_dot_u8(acc[1][n], y, v_quad(q + 64));
        }
    }
    add_scaled(scales, 8 * h + 2 * p + u, acc, nc, sum);
}

/* scales: int8 [8][row][2]; offset: 2^shift. */
static ALWAYS_INLINE void sums_16(const int8_t *scales, const uint8_t *w,
                                  const struct act_q8_k *const *a, int nc,
                                  bool three, vi *sum)
{
    UNROLL
    for (int n = 0; n < nc; n++) sum[n] = v_zero();
    for (int h = 0; h < 2; h++) {
        for (int u = 0; u < 2; u++) {
            UNROLL
            for (int p = 0; p < 2; p++) {
                if (three) {
                    parts_q3(w, scales, h, u, p, a, nc, sum);
                } else {
                    parts_q6(w, scales, h, u, p, a, nc, sum);
                }
            }
        }
    }
    vi pairs[8];
    UNROLL
    for (int i = 0; i < 8; i++) pairs[i] = v_i8_to_16(scales + 2 * V_ROWS * i);
    UNROLL
    for (int n = 0; n < nc; n++) {
        sum[n] =
            v_sub32(sum[n], v_left32(scaled_sums(pairs, a[n]), three ? 2 : 5));
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
        vi sum[TILE_COLS];
        if (nc == 1) prefetch(w, Q6_BLOCK);
        sums_16((const int8_t *)w, w + 16 * V_ROWS, a, nc, false, sum);
        leaf_of_sum(d16, a, nc, sum, &stack, job->tree->merges[b]);
    }
    stack_store(&stack, job, row, col, nc);
}

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
        int8_t sc[16 * V_ROWS];
        unpack_q3_scales(w, sc);
        vi sum[TILE_COLS];
        if (nc == 1) prefetch(w, Q3_BLOCK);
        sums_16(sc, w + 12 * V_ROWS, a, nc, true, sum);
        leaf_of_sum(d16, a, nc, sum, &stack, job->tree->merges[b]);
    }
    stack_store(&stack, job, row, col, nc);
}

KERNEL(QUANT_Q6_K, q6_k, "q6_k", ACT_Q8_K, NULL)
KERNEL(QUANT_Q3_K, q3_k, "q3_k", ACT_Q8_K, NULL)

#endif
#endif

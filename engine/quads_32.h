/* quads_32.h - the types with blocks of 32: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and
 * IQ4_NL. */
#ifndef ENGINE_QUADS_32_H
#define ENGINE_QUADS_32_H

#include "engine/wide_32.h"

#ifdef LEVEL

/* A type of this file; constants after inlining. */
struct kind_32 {
    enum quant_type type;
    uint32_t bytes; /* of a block's quants */
    int offset;     /* of the unsigned quants */
    bool with_min;
};

/* The sums of unsigned quants times q over a block, added to sum[]. */
static ALWAYS_INLINE void nibbles_32(const uint8_t *w,
                                     const struct act_q8_0 *const *a, int nc,
                                     enum quant_type type, vi *sum)
{
    const bool five = type == QUANT_Q5_0 || type == QUANT_Q5_1;
    const vi nibble = v_set8(15), fifth = v_set8(16);
    const vi qh = v_load(w); /* five: their bits (kernels_pack.h) */
    const uint8_t *qs = w + (five ? 4 * V_ROWS : 0);
    UNROLL
    for (int c = 0; c < 4; c++) {
        const vi x = v_load(qs + 4 * V_ROWS * c);
        vi l = v_and(x, nibble);
        vi h = v_and(v_right16(x, 4), nibble);
        if (five) {
            l = v_or(l, v_and(v_left16(qh, 4 - c), fifth));
            h = v_or(h, v_and(v_right16(qh, c), fifth));
        }
        if (type == QUANT_IQ4_NL) {
            const vi table = iq4_table();
            l = v_shuffle8(table, l);
            h = v_shuffle8(table, h);
        }
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 4 * c;
            sum[n] = v_dot_u8(sum[n], l, v_quad(q));
            sum[n] = v_dot_u8(sum[n], h, v_quad(q + 16));
        }
    }
}

static ALWAYS_INLINE void
bytes_32(const uint8_t *w, const struct act_q8_0 *const *a, int nc, vi *sum)
{
    UNROLL
    for (int c = 0; c < 8; c++) {
        const vi x = v_xor(v_load(w + 4 * V_ROWS * c), v_set8(-V_OFFSET8));
        UNROLL
        for (int n = 0; n < nc; n++) {
            sum[n] = v_dot_u8(sum[n], x, v_quad(a[n]->q + 4 * c));
        }
    }
}

/* A block at w, its f16 at d16 (and m16), added to leaf[]; a[] goes on. */
static ALWAYS_INLINE void block_32(const uint8_t *w, const uint8_t *d16,
                                   const uint8_t *m16,
                                   const struct act_q8_0 **a, int nc,
                                   struct kind_32 kind, vf *leaf)
{
    vi sum[TILE_COLS];
    UNROLL
    for (int n = 0; n < nc; n++) {
        sum[n] = kind.offset ? v_set32(a[n]->sum * -kind.offset) : v_zero();
    }
    if (kind.type == QUANT_Q8_0) {
        bytes_32(w, a, nc, sum);
    } else {
        nibbles_32(w, a, nc, kind.type, sum);
    }
    const vf d = vf_of_f16(d16);
    UNROLL
    for (int n = 0; n < nc; n++) {
        const vf ad = vf_set(a[n]->d);
        vf t = vf_mul(vf_of_i32(sum[n]), vf_mul(d, ad));
        if (kind.with_min) {
            const vf s = vf_set(a[n]->d * (float)a[n]->sum);
            t = vf_add(t, vf_mul(vf_of_f16(m16), s));
        }
        leaf[n] = vf_add(leaf[n], t);
        a[n]++;
    }
}

static ALWAYS_INLINE void tile_32(const struct matmul_job *job,
                                  const uint8_t *w, uint32_t row, uint32_t col,
                                  int nc, struct kind_32 kind)
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
        for (uint32_t b = 0; b < nb; b++, w += kind.bytes * V_ROWS) {
            if (nc == 1) prefetch(w, kind.bytes * V_ROWS);
            block_32(w, d16 + 2 * V_ROWS * b, m16 + 2 * V_ROWS * b, a, nc, kind,
                     leaf);
        }
        stack_push(&stack, job->tree->merges[l], leaf, nc);
    }
    stack_store(&stack, job, row, col, nc);
}

#define KERNEL_32(TYPE, id, text, bytes, offset, with_min)                     \
    static ALWAYS_INLINE void tile_##id(const struct matmul_job *job,          \
                                        const uint8_t *w, uint32_t row,        \
                                        uint32_t col, int nc)                  \
    {                                                                          \
        tile_32(job, w, row, col, nc,                                          \
                (struct kind_32){TYPE, bytes, offset, with_min});              \
    }                                                                          \
    KERNEL(TYPE, id, text, ACT_Q8_0, NULL)

KERNEL_32(QUANT_Q8_0, q8_0, "q8_0", 32, V_OFFSET8, false)
KERNEL_32(QUANT_Q4_0, q4_0, "q4_0", 16, 8, false)
KERNEL_32(QUANT_Q4_1, q4_1, "q4_1", 16, 0, true)
KERNEL_32(QUANT_Q5_0, q5_0, "q5_0", 20, 16, false)
KERNEL_32(QUANT_Q5_1, q5_1, "q5_1", 20, 0, true)
KERNEL_32(QUANT_IQ4_NL, iq4_nl, "iq4_nl", 16, V_OFFSET8, false)

#endif
#endif

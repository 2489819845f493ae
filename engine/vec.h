/* vec.h - rows of floats: what happens between matrix products.
 *
 * Depends on: kernels (the ISA list), numerics.  Thread: any; no state.
 *
 * Every table gives the same bits: each operation is defined element by
 * element (docs/NUMERICS.md 2, 5, 8), and tests/unit/test_kernels.c compares
 * the tables.  Pointers need only their element's alignment; n and n_rows may
 * be anything, 0 included.  Outputs overlap inputs only where said.  Strides
 * are in elements. */
#ifndef ENGINE_VEC_H
#define ENGINE_VEC_H

#include <stddef.h>
#include <stdint.h>

#include "engine/kernels.h"

struct vec_ops {
    const char *name; /* "ref", "avx2", "neon" */

    /* out[t] = nm_leaf_f32(q, k + t * stride, n) for t < n_rows: one leaf
     * whatever n is (n <= 256 in attention). */
    void (*dot_rows_f32)(float *out, const float *q, const float *k,
                         size_t stride, uint32_t n_rows, uint32_t n);
    /* The same with k in f16, converted exactly. */
    void (*dot_rows_f16)(float *out, const float *q, const uint16_t *k,
                         size_t stride, uint32_t n_rows, uint32_t n);
    /* The leaf of Q8_0 weights (NUMERICS 4) with activations q, n a multiple
     * of 32 up to 256.  Strides count blocks. */
    void (*dot_rows_q8_0)(float *out, const struct act_q8_0 *q,
                          const struct block_q8_0 *k, size_t stride,
                          uint32_t n_rows, uint32_t n);

    /* o[d] = o[d] + (w[t] * v[t * stride + d]), t ascending, for d < n. */
    void (*axpy_rows_f32)(float *o, const float *w, const float *v,
                          size_t stride, uint32_t n_rows, uint32_t n);
    /* The same with v in f16, converted exactly. */
    void (*axpy_rows_f16)(float *o, const float *w, const uint16_t *v,
                          size_t stride, uint32_t n_rows, uint32_t n);

    /* The same with v in q8_0 blocks, d * q (which is exact). */
    void (*axpy_rows_q8_0)(float *o, const float *w, const struct block_q8_0 *v,
                           size_t stride, uint32_t n_rows, uint32_t n);

    /* o[i] = o[i] * c. */
    void (*scale)(float *o, float c, uint32_t n);
    /* h[i] = nm_silu(g[i]) * u[i]; h may be g or u. */
    void (*silu_mul)(float *h, const float *g, const float *u, uint32_t n);
    /* h[i] = nm_gelu(g[i]) * u[i]; h may be g or u. */
    void (*gelu_mul)(float *h, const float *g, const float *u, uint32_t n);
    /* x[i] = nm_soft_cap(x[i], cap). */
    void (*soft_cap)(float *x, float cap, uint32_t n);
    /* w[i] = nm_exp(s[i] - m); w may be s. */
    void (*exp_row)(float *w, const float *s, float m, uint32_t n);

    /* act_quantize() of act.h. */
    void (*act_quantize)(enum act_kind kind, const float *x, uint32_t k,
                         void *row);
};

/* The best table at no more than this ISA; never NULL. */
const struct vec_ops *vec_ops_select(enum isa isa);
/* NULL where not built for this architecture. */
const struct vec_ops *vec_ops_avx2(void);
const struct vec_ops *vec_ops_neon(void);

#endif

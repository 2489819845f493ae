/* vec.h - rows of floats: what happens between matrix products.
 *
 * Depends on: kernels (the ISA list), numerics.  Thread: any; no state.
 *
 * Every table gives the same bits: each operation is defined element by
 * element (docs/NUMERICS.md 2, 3, 5 to 8), and tests/unit/test_vec.c compares
 * the tables.  Pointers need only their element's alignment; n and n_rows may
 * be anything, 0 included.  Outputs overlap inputs only where said.
 *
 * Attention takes a block of up to VEC_BLOCK positions of one key/value head
 * and nq queries at once.  Keys and values are first unpacked from the cache's
 * type, once for all queries; rows of floats are padded with zeros to
 * vec_width(dim). */
#ifndef ENGINE_VEC_H
#define ENGINE_VEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/kernels.h"

#define VEC_BLOCK 32 /* positions */

/* Elements of a padded row. */
static inline uint32_t vec_width(uint32_t dim)
{
    return (dim + 15) / 16 * 16;
}

/* From f32, f16 and q8_0 rows, as enum kv_type counts them. */
enum { VEC_ROW_TYPES = 3 };

struct vec_ops {
    const char *name; /* "ref", "avx2", ... */

    /* n_rows <= VEC_BLOCK rows of dim elements, one after the other, to a
     * layout of this table's own for the dot products: VEC_BLOCK *
     * vec_width(dim) floats at most.  q8_0: dim a multiple of 32. */
    void (*keys[VEC_ROW_TYPES])(void *to, const void *rows, uint32_t n_rows,
                                uint32_t dim);
    /* The same to [n_rows][vec_width(dim)] floats; what is in the padding is
     * not defined. */
    void (*values[VEC_ROW_TYPES])(float *to, const void *rows, uint32_t n_rows,
                                  uint32_t dim);
    /* s[i * VEC_BLOCK + t] = nm_leaf_f32(query i, key t, dim); q:
     * [nq][vec_width(dim)], padded with zeros.  s: [nq][VEC_BLOCK], undefined
     * from n_rows on. */
    void (*dots)(float *s, const float *q, uint32_t nq, const void *keys,
                 uint32_t n_rows, uint32_t dim);
    /* The leaf of Q8_0 weights (NUMERICS 4); q: [nq][dim / 32]. */
    void (*dots_q8_0)(float *s, const struct act_q8_0 *q, uint32_t nq,
                      const void *keys, uint32_t n_rows, uint32_t dim);
    /* Scores of n positions more, w[i * VEC_BLOCK + t], to weights, as
     * NUMERICS 8 has it: w = w * scale, soft-capped where cap > 0; m and l of
     * each query move on, c is what its sum of values has to be multiplied
     * with. */
    void (*softmax)(float *w, uint32_t nq, uint32_t n, float scale, float cap,
                    float *m, float *l, float *c);
    /* o_i = o_i * c_i, then o_i = o_i + (w_i,t * v_t), t ascending; o: [nq]
     * [vec_width(dim)], v: [n_rows] of the same. */
    void (*add_values)(float *o, const float *c, const float *w, uint32_t nq,
                       const float *v, uint32_t n_rows, uint32_t dim);
    /* x[i] = (x[i] * cx) + (y[i] * cy). */
    void (*merge)(float *x, const float *y, float cx, float cy, uint32_t n);

    /* y[i] = x[i] * c; y may be x. */
    void (*scale)(float *y, const float *x, float c, uint32_t n);
    /* x[i] = x[i] + y[i]. */
    void (*add)(float *x, const float *y, uint32_t n);
    /* h[i] = nm_silu(g[i]) * u[i]; h may be g or u. */
    void (*silu_mul)(float *h, const float *g, const float *u, uint32_t n);
    /* h[i] = nm_gelu(g[i]) * u[i]; h may be g or u. */
    void (*gelu_mul)(float *h, const float *g, const float *u, uint32_t n);
    /* x[i] = nm_soft_cap(x[i], cap). */
    void (*soft_cap)(float *x, float cap, uint32_t n);
    /* w[i] = nm_exp(s[i] - m); w may be s. */
    void (*exp_row)(float *w, const float *s, float m, uint32_t n);
    /* nm_rmsnorm(). */
    void (*rmsnorm)(const float *x, const float *w, float eps, uint32_t n,
                    float *y);
    /* Pairs of one head turned (NUMERICS 7): x[i] and x[i + n], or x[2i] and
     * x[2i + 1], for i < n.  table: [n] pairs (cos, sin). */
    void (*rope_halves)(float *x, const float *table, uint32_t n);
    void (*rope_pairs)(float *x, const float *table, uint32_t n);
    /* The largest of m and all x; what is not a number never is, and of zeros
     * either one. */
    float (*largest)(const float *x, uint32_t n, float m);
    /* nm_lanes_sum() of lanes that add x[i] where i is theirs modulo 8. */
    float (*sum_lanes)(const float *x, uint32_t n);
    bool (*all_finite)(const float *x, uint32_t n);
    /* Rounded to f16, ties to even. */
    void (*to_f16)(uint16_t *h, const float *x, uint32_t n);

    /* act_quantize() of act.h. */
    void (*act_quantize)(enum act_kind kind, const float *x, uint32_t k,
                         void *row);
};

/* The best table at no more than this ISA; never NULL. */
const struct vec_ops *vec_ops_select(enum isa isa);
/* One each, whether or not this machine can run it; NULL where not built for
 * this architecture.  f16c is AVX with the conversions of Ivy Bridge. */
const struct vec_ops *vec_ops_ref(void);
const struct vec_ops *vec_ops_sse4(void);
const struct vec_ops *vec_ops_avx(void);
const struct vec_ops *vec_ops_f16c(void);
const struct vec_ops *vec_ops_avx2(void);
const struct vec_ops *vec_ops_neon(void);
const struct vec_ops *vec_ops_avx512vnni(void);

#endif

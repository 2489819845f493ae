/* vec.c - the reference table: one element after the other. */
#include "engine/vec.h"

#include <math.h>
#include <string.h>

#include "engine/cpu.h"
#include "engine/quant_f16.h"

/* ------------------------------------------------------------ attention */

static void rows_f32(void *to, const void *rows, uint32_t n_rows, uint32_t dim)
{
    float *y = to;
    const float *x = rows;
    for (uint32_t t = 0; t < n_rows; t++, x += dim, y += vec_width(dim)) {
        memcpy(y, x, dim * sizeof *y);
        for (uint32_t d = dim; d < vec_width(dim); d++) y[d] = 0;
    }
}

static void rows_f16(void *to, const void *rows, uint32_t n_rows, uint32_t dim)
{
    float *y = to;
    const uint16_t *x = rows;
    for (uint32_t t = 0; t < n_rows; t++, x += dim, y += vec_width(dim)) {
        for (uint32_t d = 0; d < dim; d++) y[d] = f16_to_f32_inline(x[d]);
        for (uint32_t d = dim; d < vec_width(dim); d++) y[d] = 0;
    }
}

static void keys_q8_0(void *to, const void *rows, uint32_t n_rows, uint32_t dim)
{
    memcpy(to, rows, (size_t)n_rows * (dim / 32) * sizeof(struct block_q8_0));
}

static void values_f32(float *to, const void *rows, uint32_t n_rows,
                       uint32_t dim)
{
    rows_f32(to, rows, n_rows, dim);
}

static void values_f16(float *to, const void *rows, uint32_t n_rows,
                       uint32_t dim)
{
    rows_f16(to, rows, n_rows, dim);
}

static void values_q8_0(float *to, const void *rows, uint32_t n_rows,
                        uint32_t dim)
{
    const struct block_q8_0 *block = rows;
    for (uint32_t i = 0; i < n_rows * dim; i++) {
        to[i] = f16_to_f32_inline(block[i / 32].d) *
                (float)block[i / 32].qs[i % 32];
    }
}

static void dots(float *s, const float *q, uint32_t nq, const void *keys,
                 uint32_t n_rows, uint32_t dim)
{
    const size_t width = vec_width(dim);
    for (uint32_t i = 0; i < nq; i++) {
        for (uint32_t t = 0; t < n_rows; t++) {
            s[i * VEC_BLOCK + t] = nm_leaf_f32(
                q + i * width, (const float *)keys + t * width, dim);
        }
    }
}

static float dot_q8_0(const struct act_q8_0 *q, const struct block_q8_0 *k,
                      uint32_t n_blocks)
{
    float leaf = 0;
    for (uint32_t b = 0; b < n_blocks; b++) {
        int32_t sum = 0;
        for (int i = 0; i < 32; i++) sum += k[b].qs[i] * q[b].q[i];
        const float x = (float)sum * (f16_to_f32_inline(k[b].d) * q[b].d);
        leaf = b == 0 ? x : leaf + x;
    }
    return leaf;
}

static void dots_q8_0(float *s, const struct act_q8_0 *q, uint32_t nq,
                      const void *keys, uint32_t n_rows, uint32_t dim)
{
    const uint32_t n = dim / 32;
    for (uint32_t i = 0; i < nq; i++) {
        for (uint32_t t = 0; t < n_rows; t++) {
            s[i * VEC_BLOCK + t] =
                dot_q8_0(q + (size_t)i * n,
                         (const struct block_q8_0 *)keys + (size_t)t * n, n);
        }
    }
}

static void softmax(float *w, uint32_t nq, uint32_t n, float scale, float cap,
                    float *m, float *l, float *c)
{
    for (uint32_t i = 0; i < nq; i++, w += VEC_BLOCK) {
        float top = m[i];
        for (uint32_t t = 0; t < n; t++) {
            w[t] *= scale;
            if (cap > 0) w[t] = nm_soft_cap(w[t], cap);
            top = w[t] > top ? w[t] : top;
        }
        c[i] = top == m[i] ? 1 : nm_exp(m[i] - top);
        m[i] = top;
        l[i] *= c[i];
        for (uint32_t t = 0; t < n; t++) {
            w[t] = nm_exp(w[t] - top);
            l[i] += w[t];
        }
    }
}

static void add_values(float *o, const float *c, const float *w, uint32_t nq,
                       const float *v, uint32_t n_rows, uint32_t dim)
{
    const size_t width = vec_width(dim);
    for (uint32_t i = 0; i < nq; i++, o += width, w += VEC_BLOCK) {
        for (uint32_t d = 0; d < dim; d++) o[d] *= c[i];
        for (uint32_t t = 0; t < n_rows; t++) {
            for (uint32_t d = 0; d < dim; d++) o[d] += w[t] * v[t * width + d];
        }
    }
}

static void merge(float *x, const float *y, float cx, float cy, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) x[i] = (x[i] * cx) + (y[i] * cy);
}

/* ------------------------------------------------------------ functions */

static void scale(float *y, const float *x, float c, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) y[i] = x[i] * c;
}

static void add(float *x, const float *y, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) x[i] += y[i];
}

static void silu_mul(float *h, const float *g, const float *u, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) h[i] = nm_silu(g[i]) * u[i];
}

static void gelu_mul(float *h, const float *g, const float *u, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) h[i] = nm_gelu(g[i]) * u[i];
}

static void soft_cap(float *x, float cap, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) x[i] = nm_soft_cap(x[i], cap);
}

static void exp_row(float *w, const float *s, float m, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) w[i] = nm_exp(s[i] - m);
}

static void turn(float *a, float *b, float c, float s)
{
    const float x = *a, y = *b;
    *a = (x * c) - (y * s);
    *b = (x * s) + (y * c);
}

static void rope_halves(float *x, const float *table, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        turn(&x[i], &x[i + n], table[2 * i], table[2 * i + 1]);
    }
}

static void rope_pairs(float *x, const float *table, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        turn(&x[2 * i], &x[2 * i + 1], table[2 * i], table[2 * i + 1]);
    }
}

static float largest(const float *x, uint32_t n, float m)
{
    for (uint32_t i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static float sum_lanes(const float *x, uint32_t n)
{
    float lane[8] = {0};
    for (uint32_t i = 0; i < n; i++) lane[i % 8] += x[i];
    return nm_lanes_sum(lane);
}

static bool all_finite(const float *x, uint32_t n)
{
    bool ok = true;
    for (uint32_t i = 0; i < n; i++) ok &= fabsf(x[i]) < INFINITY;
    return ok;
}

static void to_f16(uint16_t *h, const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) h[i] = f32_to_f16_inline(x[i]);
}

/* --------------------------------------------------------------- tables */

const struct vec_ops *vec_ops_ref(void)
{
    static const struct vec_ops ops = {
        .name = "ref",
        .keys = {rows_f32, rows_f16, keys_q8_0},
        .values = {values_f32, values_f16, values_q8_0},
        .dots = dots,
        .dots_q8_0 = dots_q8_0,
        .softmax = softmax,
        .add_values = add_values,
        .merge = merge,
        .scale = scale,
        .add = add,
        .silu_mul = silu_mul,
        .gelu_mul = gelu_mul,
        .soft_cap = soft_cap,
        .exp_row = exp_row,
        .rmsnorm = nm_rmsnorm,
        .rope_halves = rope_halves,
        .rope_pairs = rope_pairs,
        .largest = largest,
        .sum_lanes = sum_lanes,
        .all_finite = all_finite,
        .to_f16 = to_f16,
        .act_quantize = act_quantize,
    };
    return &ops;
}

static const struct vec_ops *table_of(enum isa isa)
{
    switch (isa) {
    case ISA_AVX512VNNI:
        return vec_ops_avx512vnni();
    case ISA_AVXVNNI:
    case ISA_AVX2:
        return vec_ops_avx2();
    case ISA_AVX:
        return cpu_has_f16c() ? vec_ops_f16c() : vec_ops_avx();
    case ISA_SSE4:
        return vec_ops_sse4();
    case ISA_NEON:
    case ISA_NEONDOTPROD:
        return vec_ops_neon();
    case ISA_REF:
    case ISA_END:
        break;
    }
    return vec_ops_ref();
}

const struct vec_ops *vec_ops_select(enum isa isa)
{
    const struct vec_ops *table = table_of(isa);
    return table ? table : vec_ops_ref();
}

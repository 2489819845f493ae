/* vec.c - the reference table: one element after the other. */
#include "engine/vec.h"

#include "engine/quant_f16.h"

static void dot_rows_f32(float *out, const float *q, const float *k,
                         size_t stride, uint32_t n_rows, uint32_t n)
{
    for (uint32_t t = 0; t < n_rows; t++) {
        out[t] = nm_leaf_f32(q, k + t * stride, n);
    }
}

static void dot_rows_f16(float *out, const float *q, const uint16_t *k,
                         size_t stride, uint32_t n_rows, uint32_t n)
{
    for (uint32_t t = 0; t < n_rows; t++) {
        const uint16_t *row = k + t * stride;
        float lane[8] = {0};
        for (uint32_t i = 0; i < n; i++) {
            lane[i % 8] += q[i] * f16_to_f32_inline(row[i]);
        }
        out[t] = nm_lanes_sum(lane);
    }
}

static void dot_rows_q8_0(float *out, const struct act_q8_0 *q,
                          const struct block_q8_0 *k, size_t stride,
                          uint32_t n_rows, uint32_t n)
{
    for (uint32_t t = 0; t < n_rows; t++) {
        const struct block_q8_0 *row = k + t * stride;
        float leaf = 0;
        for (uint32_t b = 0; b < n / 32; b++) {
            int32_t sum = 0;
            for (int i = 0; i < 32; i++) sum += row[b].qs[i] * q[b].q[i];
            const float x = (float)sum * (f16_to_f32_inline(row[b].d) * q[b].d);
            leaf = b == 0 ? x : leaf + x;
        }
        out[t] = leaf;
    }
}

static void axpy_rows_f32(float *o, const float *w, const float *v,
                          size_t stride, uint32_t n_rows, uint32_t n)
{
    for (uint32_t t = 0; t < n_rows; t++) {
        for (uint32_t d = 0; d < n; d++) o[d] += w[t] * v[t * stride + d];
    }
}

static void axpy_rows_f16(float *o, const float *w, const uint16_t *v,
                          size_t stride, uint32_t n_rows, uint32_t n)
{
    for (uint32_t t = 0; t < n_rows; t++) {
        for (uint32_t d = 0; d < n; d++) {
            o[d] += w[t] * f16_to_f32_inline(v[t * stride + d]);
        }
    }
}

static void axpy_rows_q8_0(float *o, const float *w, const struct block_q8_0 *v,
                           size_t stride, uint32_t n_rows, uint32_t n)
{
    for (uint32_t t = 0; t < n_rows; t++) {
        const struct block_q8_0 *row = v + t * stride;
        for (uint32_t i = 0; i < n; i++) {
            const float x = f16_to_f32_inline(row[i / 32].d) *
                            (float)row[i / 32].qs[i % 32];
            o[i] += w[t] * x;
        }
    }
}

static void scale(float *o, float c, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) o[i] *= c;
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

static const struct vec_ops ref = {
    .name = "ref",
    .dot_rows_f32 = dot_rows_f32,
    .dot_rows_f16 = dot_rows_f16,
    .dot_rows_q8_0 = dot_rows_q8_0,
    .axpy_rows_f32 = axpy_rows_f32,
    .axpy_rows_f16 = axpy_rows_f16,
    .axpy_rows_q8_0 = axpy_rows_q8_0,
    .scale = scale,
    .silu_mul = silu_mul,
    .gelu_mul = gelu_mul,
    .soft_cap = soft_cap,
    .exp_row = exp_row,
    .act_quantize = act_quantize,
};

const struct vec_ops *vec_ops_select(enum isa isa)
{
    const struct vec_ops *best = NULL;
    if (isa >= ISA_NEON) {
        best = vec_ops_neon();
    } else if (isa >= ISA_AVX2) {
        best = vec_ops_avx2();
    }
    return best ? best : &ref;
}

/* kernels_ref.c - the reference kernels: docs/NUMERICS.md in plain C.
 *
 * Depends on: kernels.  Thread: compute.
 * One function per family of types gives the value of a leaf, from blocks as
 * numbers (quant_block_read); one loop makes dot products of them.  Written to
 * be read and believed, not to be fast: every other kernel is tested against
 * these bit for bit.  Rows stay canonical, one
 * a group. */
#include <string.h>

#include "engine/kernels.h"
#include "engine/kernels_blas.h"
#include "engine/quant_f16.h"

/* Columns that share the reading of a row's blocks. */
#define COLS_AT_ONCE 8

/* A leaf of one row, its bits sorted out: floats, or blocks as numbers. */
union leaf {
    float f32[NM_LEAF];
    struct quant_block b[NM_LEAF / 32]; /* one, or as many as there are */
};

static void leaf_read(enum quant_type type, const uint8_t *w, uint32_t n,
                      union leaf *leaf)
{
    const struct quant_info *info = quant_info(type);
    if (info->block == 1) {
        quant_dequantize_row(type, w, leaf->f32, n);
        return;
    }
    for (uint32_t b = 0; b < n / info->block; b++) {
        quant_block_read(type, w + b * info->block_bytes, &leaf->b[b]);
    }
}

static int32_t dot(const int8_t *w, const int8_t *q, uint32_t n)
{
    int32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += w[i] * q[i];
    return sum;
}

/* n weights in blocks of 32: t_0 + t_1 + ... from the left. */
static float leaf_32(const struct quant_block *b, bool with_min,
                     const struct act_q8_0 *a, uint32_t n)
{
    float leaf = 0;
    for (uint32_t i = 0; i < n / 32; i++, b++, a++) {
        const float s = (float)dot(b->q, a->q, 32);
        float t = s * (f16_to_f32_inline(b->d) * a->d);
        if (with_min) { /* dmin is -m */
            t -= f16_to_f32_inline(b->dmin) * (a->d * (float)a->sum);
        }
        leaf = i == 0 ? t : leaf + t;
    }
    return leaf;
}

/* A block of 256. */
static float leaf_256(const struct quant_block *b,
                      const struct quant_info *info, const struct act_q8_k *a)
{
    int32_t sum = 0, mins = 0;
    for (uint32_t j = 0; j < 256 / info->sub; j++) {
        const uint32_t at = j * info->sub;
        sum += b->sc[j] * dot(b->q + at, a->q + at, info->sub);
        for (uint32_t i = at / 16; info->with_min && i < (at + info->sub) / 16;
             i++) {
            mins += b->m[j] * a->sum[i];
        }
    }
    const float leaf = (float)sum * (f16_to_f32_inline(b->d) * a->d);
    if (!info->with_min) return leaf;
    return leaf - (float)mins * (f16_to_f32_inline(b->dmin) * a->d);
}

/* Leaf l of a row, n weights, with the activations that belong to it. */
static float leaf_value(enum quant_type type, const union leaf *leaf,
                        const void *act, uint32_t l, uint32_t n)
{
    const struct quant_info *info = quant_info(type);
    if (info->block == 1) {
        return nm_leaf_f32(leaf->f32, (const float *)act + l * NM_LEAF, n);
    }
    if (info->block == 32) {
        return leaf_32(leaf->b, info->with_min,
                       (const struct act_q8_0 *)act + l * (NM_LEAF / 32), n);
    }
    return leaf_256(leaf->b, info, (const struct act_q8_k *)act + l);
}

/* ------------------------------------------------------ dot products */

/* One row times columns [first, first + n_cols). */
static void row_times_columns(const struct matmul_job *job,
                              enum quant_type type, uint32_t r, uint32_t first,
                              uint32_t n_cols)
{
    const uint8_t *w = (const uint8_t *)job->w +
                       r * kernel_group_bytes(kernel_ref(type), job->k);
    const size_t leaf_bytes = (size_t)quant_row_bytes(type, NM_LEAF);
    const uint32_t n_leaves = job->tree->n_leaves;
    float leaves[COLS_AT_ONCE][NM_LEAVES_MAX];
    union leaf leaf = {0}; /* for analysers: leaf_read fills what is read */
    for (uint32_t l = 0; l < n_leaves; l++) {
        const uint32_t left = job->k - l * NM_LEAF;
        const uint32_t n = left < NM_LEAF ? left : NM_LEAF;
        leaf_read(type, w + l * leaf_bytes, n, &leaf);
        for (uint32_t c = 0; c < n_cols; c++) {
            const char *act =
                (const char *)job->act + (first + c) * job->act_stride;
            leaves[c][l] = leaf_value(type, &leaf, act, l, n);
        }
    }
    for (uint32_t c = 0; c < n_cols; c++) {
        job->y[(first + c) * job->y_stride + r] =
            nm_tree_sum(leaves[c], n_leaves);
    }
}

static void matmul(const struct matmul_job *job, enum quant_type type)
{
    const uint32_t end =
        job->group_end < job->n_rows ? job->group_end : job->n_rows;
    for (uint32_t r = job->group_first; r < end; r++) {
        for (uint32_t c = 0; c < job->n_cols; c += COLS_AT_ONCE) {
            const uint32_t left = job->n_cols - c;
            row_times_columns(job, type, r, c,
                              left < COLS_AT_ONCE ? left : COLS_AT_ONCE);
        }
    }
}

#define REF_KERNEL(TYPE, name)                                                 \
    static void matmul_##name(const struct matmul_job *job)                    \
    {                                                                          \
        matmul(job, TYPE);                                                     \
    }                                                                          \
    static void pack_##name(void *group, const void *src, size_t src_stride,   \
                            uint32_t n, uint32_t k)                            \
    {                                                                          \
        (void)src_stride; /* a group is one row */                             \
        (void)n;                                                               \
        memcpy(group, src, (size_t)quant_row_bytes(TYPE, k));                  \
    }                                                                          \
    static void unpack_##name(const void *group, uint32_t r, uint32_t k,       \
                              float *dst)                                      \
    {                                                                          \
        (void)r;                                                               \
        quant_dequantize_row(TYPE, group, dst, k);                             \
    }
REF_KERNEL(QUANT_F32, f32)
REF_KERNEL(QUANT_F16, f16)
REF_KERNEL(QUANT_BF16, bf16)
REF_KERNEL(QUANT_Q8_0, q8_0)
REF_KERNEL(QUANT_Q4_0, q4_0)
REF_KERNEL(QUANT_Q4_1, q4_1)
REF_KERNEL(QUANT_Q5_0, q5_0)
REF_KERNEL(QUANT_Q5_1, q5_1)
REF_KERNEL(QUANT_IQ4_NL, iq4_nl)
REF_KERNEL(QUANT_Q2_K, q2_k)
REF_KERNEL(QUANT_Q3_K, q3_k)
REF_KERNEL(QUANT_Q4_K, q4_k)
REF_KERNEL(QUANT_Q5_K, q5_k)
REF_KERNEL(QUANT_Q6_K, q6_k)
REF_KERNEL(QUANT_IQ4_XS, iq4_xs)

#define REF_PANEL(TYPE, id)                                                    \
    static void blas_##id(const struct matmul_job *job)                        \
    {                                                                          \
        matmul_blas(job, TYPE, 1);                                             \
    }
REF_PANEL(QUANT_Q8_0, q8_0)
REF_PANEL(QUANT_Q4_0, q4_0)
REF_PANEL(QUANT_Q4_1, q4_1)
REF_PANEL(QUANT_Q5_0, q5_0)
REF_PANEL(QUANT_Q5_1, q5_1)
REF_PANEL(QUANT_IQ4_NL, iq4_nl)
REF_PANEL(QUANT_Q2_K, q2_k)
REF_PANEL(QUANT_Q3_K, q3_k)
REF_PANEL(QUANT_Q4_K, q4_k)
REF_PANEL(QUANT_Q5_K, q5_k)
REF_PANEL(QUANT_Q6_K, q6_k)
REF_PANEL(QUANT_IQ4_XS, iq4_xs)

#define REF_ROW(TYPE, text, act, id, blas)                                     \
    [TYPE] = {text " ref", TYPE,        ISA_REF,     act, 1,                   \
              pack_##id,   unpack_##id, matmul_##id, blas}
static const struct kernel kernels[QUANT_TYPE_END] = {
    REF_ROW(QUANT_F32, "f32", ACT_F32, f32, NULL),
    REF_ROW(QUANT_F16, "f16", ACT_F32, f16, NULL),
    REF_ROW(QUANT_BF16, "bf16", ACT_F32, bf16, NULL),
    REF_ROW(QUANT_Q8_0, "q8_0", ACT_Q8_0, q8_0, blas_q8_0),
    REF_ROW(QUANT_Q4_0, "q4_0", ACT_Q8_0, q4_0, blas_q4_0),
    REF_ROW(QUANT_Q4_1, "q4_1", ACT_Q8_0, q4_1, blas_q4_1),
    REF_ROW(QUANT_Q5_0, "q5_0", ACT_Q8_0, q5_0, blas_q5_0),
    REF_ROW(QUANT_Q5_1, "q5_1", ACT_Q8_0, q5_1, blas_q5_1),
    REF_ROW(QUANT_IQ4_NL, "iq4_nl", ACT_Q8_0, iq4_nl, blas_iq4_nl),
    REF_ROW(QUANT_Q2_K, "q2_k", ACT_Q8_K, q2_k, blas_q2_k),
    REF_ROW(QUANT_Q3_K, "q3_k", ACT_Q8_K, q3_k, blas_q3_k),
    REF_ROW(QUANT_Q5_K, "q5_k", ACT_Q8_K, q5_k, blas_q5_k),
    REF_ROW(QUANT_IQ4_XS, "iq4_xs", ACT_Q8_K, iq4_xs, blas_iq4_xs),
    REF_ROW(QUANT_Q4_K, "q4_k", ACT_Q8_K, q4_k, blas_q4_k),
    REF_ROW(QUANT_Q6_K, "q6_k", ACT_Q8_K, q6_k, blas_q6_k),
};

const struct kernel *kernel_ref(enum quant_type type)
{
    return quant_info(type) ? &kernels[type] : NULL;
}

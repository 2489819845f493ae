/* kernels_ref.c - the reference kernels: docs/NUMERICS.md in plain C.
 *
 * Depends on: kernels.  Thread: compute.
 * One function per weight type gives the value of a leaf; one loop makes dot
 * products of them.  Written to be read and believed, not to be fast: every
 * other kernel is tested against these bit for bit.  Rows stay canonical, one
 * a group. */
#include <string.h>

#include "engine/kernels.h"
#include "engine/kernels_blas.h"
#include "engine/quant_f16.h"

/* A leaf of n weights from `w` on, with the activations that belong to it. */
typedef float leaf_fn(const uint8_t *w, const void *act, uint32_t n);

static float leaf_f32(const uint8_t *w, const void *act, uint32_t n)
{
    float row[NM_LEAF];
    memcpy(row, w, n * sizeof *row);
    return nm_leaf_f32(row, act, n);
}

static float leaf_f16(const uint8_t *w, const void *act, uint32_t n)
{
    float row[NM_LEAF];
    quant_dequantize_row(QUANT_F16, w, row, n);
    return nm_leaf_f32(row, act, n);
}

static float leaf_bf16(const uint8_t *w, const void *act, uint32_t n)
{
    float row[NM_LEAF];
    quant_dequantize_row(QUANT_BF16, w, row, n);
    return nm_leaf_f32(row, act, n);
}

static float leaf_q8_0(const uint8_t *w, const void *act, uint32_t n)
{
    const struct act_q8_0 *a = act;
    float leaf = 0;
    for (uint32_t b = 0; b < n / 32; b++, a++) {
        struct block_q8_0 block;
        memcpy(&block, w + b * sizeof block, sizeof block);
        int32_t s = 0;
        for (int i = 0; i < 32; i++) s += block.qs[i] * a->q[i];
        const float t = (float)s * (f16_to_f32_inline(block.d) * a->d);
        leaf = b == 0 ? t : leaf + t;
    }
    return leaf;
}

static float leaf_q4_0(const uint8_t *w, const void *act, uint32_t n)
{
    const struct act_q8_0 *a = act;
    float leaf = 0;
    for (uint32_t b = 0; b < n / 32; b++, a++) {
        struct block_q4_0 block;
        memcpy(&block, w + b * sizeof block, sizeof block);
        int32_t s = 0;
        for (int i = 0; i < 16; i++) {
            s += ((block.qs[i] & 15) - 8) * a->q[i];
            s += ((block.qs[i] >> 4) - 8) * a->q[i + 16];
        }
        const float t = (float)s * (f16_to_f32_inline(block.d) * a->d);
        leaf = b == 0 ? t : leaf + t;
    }
    return leaf;
}

static float leaf_q4_1(const uint8_t *w, const void *act, uint32_t n)
{
    const struct act_q8_0 *a = act;
    float leaf = 0;
    for (uint32_t b = 0; b < n / 32; b++, a++) {
        struct block_q4_1 block;
        memcpy(&block, w + b * sizeof block, sizeof block);
        int32_t s = 0;
        for (int i = 0; i < 16; i++) {
            s += (block.qs[i] & 15) * a->q[i];
            s += (block.qs[i] >> 4) * a->q[i + 16];
        }
        const float t = (float)s * (f16_to_f32_inline(block.d) * a->d) +
                        f16_to_f32_inline(block.m) * (a->d * (float)a->sum);
        leaf = b == 0 ? t : leaf + t;
    }
    return leaf;
}

static float leaf_q4_k(const uint8_t *w, const void *act, uint32_t n)
{
    (void)n; /* rows are whole blocks, and a block is a leaf */
    const struct act_q8_k *a = act;
    struct block_q4_k block;
    memcpy(&block, w, sizeof block);
    uint8_t sc[8], m[8];
    quant_q4_k_scales(block.scales, sc, m);
    int32_t sum = 0, mins = 0;
    for (int j = 0; j < 8; j++) {
        const uint8_t *q = block.qs + 32 * (j / 2);
        int32_t s = 0;
        for (int i = 0; i < 32; i++) {
            s += (j % 2 ? q[i] >> 4 : q[i] & 15) * a->q[32 * j + i];
        }
        sum += sc[j] * s;
        mins += m[j] * (a->sum[2 * j] + a->sum[2 * j + 1]);
    }
    return (float)sum * (f16_to_f32_inline(block.d) * a->d) -
           (float)mins * (f16_to_f32_inline(block.dmin) * a->d);
}

static float leaf_q6_k(const uint8_t *w, const void *act, uint32_t n)
{
    (void)n;
    const struct act_q8_k *a = act;
    struct block_q6_k block;
    memcpy(&block, w, sizeof block);
    int32_t sum = 0;
    for (int j = 0; j < 16; j++) {
        /* half h of the block, part of 32 weights, low or high 16 of them */
        const int h = j / 8, part = j % 8 / 2, from = 16 * (j % 2);
        const uint8_t *ql = block.ql + 64 * h + 32 * (part & 1) + from;
        const uint8_t *qh = block.qh + 32 * h + from;
        int32_t s = 0;
        for (int i = 0; i < 16; i++) {
            const int low = part & 2 ? ql[i] >> 4 : ql[i] & 15;
            const int q = low | (qh[i] >> 2 * part & 3) << 4;
            s += (q - 32) * a->q[16 * j + i];
        }
        sum += block.scales[j] * s;
    }
    return (float)sum * (f16_to_f32_inline(block.d) * a->d);
}

/* ------------------------------------------------------ dot products */

static size_t act_leaf_bytes(enum act_kind kind)
{
    switch (kind) {
    case ACT_Q8_0:
        return NM_LEAF / 32 * sizeof(struct act_q8_0);
    case ACT_Q8_K:
        return sizeof(struct act_q8_k);
    case ACT_F32:
    case ACT_KIND_END:
        break;
    }
    return NM_LEAF * sizeof(float);
}

static void matmul(const struct matmul_job *job, enum quant_type type,
                   leaf_fn *leaf)
{
    const size_t group_bytes = kernel_group_bytes(kernel_ref(type), job->k);
    const size_t leaf_bytes = (size_t)quant_row_bytes(type, NM_LEAF);
    const size_t act_bytes = act_leaf_bytes(act_kind_of(type));
    const uint32_t end =
        job->group_end < job->n_rows ? job->group_end : job->n_rows;
    for (uint32_t r = job->group_first; r < end; r++) {
        const uint8_t *w = (const uint8_t *)job->w + r * group_bytes;
        for (uint32_t c = 0; c < job->n_cols; c++) {
            const char *act = (const char *)job->act + c * job->act_stride;
            float leaves[NM_LEAVES_MAX];
            for (uint32_t i = 0; i < job->tree->n_leaves; i++) {
                const uint32_t left = job->k - i * NM_LEAF;
                leaves[i] = leaf(w + i * leaf_bytes, act + i * act_bytes,
                                 left < NM_LEAF ? left : NM_LEAF);
            }
            job->y[c * job->y_stride + r] =
                nm_tree_sum(leaves, job->tree->n_leaves);
        }
    }
}

#define REF_KERNEL(TYPE, name)                                                 \
    static void matmul_##name(const struct matmul_job *job)                    \
    {                                                                          \
        matmul(job, TYPE, leaf_##name);                                        \
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
REF_KERNEL(QUANT_Q4_K, q4_k)
REF_KERNEL(QUANT_Q6_K, q6_k)

#define REF_ROW(TYPE, text, act, id, blas)                                     \
    [TYPE] = {text " ref", TYPE,        ISA_REF,     act, 1,                   \
              pack_##id,   unpack_##id, matmul_##id, blas}
static const struct kernel kernels[QUANT_TYPE_END] = {
    REF_ROW(QUANT_F32, "f32", ACT_F32, f32, NULL),
    REF_ROW(QUANT_F16, "f16", ACT_F32, f16, NULL),
    REF_ROW(QUANT_BF16, "bf16", ACT_F32, bf16, NULL),
    REF_ROW(QUANT_Q8_0, "q8_0", ACT_Q8_0, q8_0, matmul_blas_q8_0_x1),
    REF_ROW(QUANT_Q4_0, "q4_0", ACT_Q8_0, q4_0, NULL),
    REF_ROW(QUANT_Q4_1, "q4_1", ACT_Q8_0, q4_1, NULL),
    REF_ROW(QUANT_Q4_K, "q4_k", ACT_Q8_K, q4_k, matmul_blas_q4_k_x1),
    REF_ROW(QUANT_Q6_K, "q6_k", ACT_Q8_K, q6_k, NULL),
};

const struct kernel *kernel_ref(enum quant_type type)
{
    return quant_info(type) ? &kernels[type] : NULL;
}

/* lanes_float.h - F32, F16 and BF16: the eight lanes of NUMERICS 2.
 *
 * Rows stay canonical, one a group. A leaf is one chain of additions a lane,
 * so four rows and two columns go side by side to fill the adders. */
#ifndef ENGINE_LANES_FLOAT_H
#define ENGINE_LANES_FLOAT_H

#include "engine/simd.h"
#include "engine/simd_f8.h"

#ifdef LEVEL

#define ROWS_AT_ONCE 4
#define COLS_AT_ONCE 2

/* Eight weights from index i on. */
static ALWAYS_INLINE f8 load_eight(const uint8_t *w, uint32_t i,
                                   enum quant_type type)
{
    if (type == QUANT_F32) return f8_load(w + 4 * (size_t)i);
    const uint8_t *half = w + 2 * (size_t)i;
    return type == QUANT_F16 ? f8_of_f16(half) : f8_of_bf16(half);
}

/* nr rows from r on times nc columns from c on. */
static ALWAYS_INLINE void tile_float(const struct matmul_job *job,
                                     size_t row_bytes, uint32_t r, uint32_t c,
                                     int nr, int nc, enum quant_type type)
{
    const uint8_t *w[ROWS_AT_ONCE];
    const float *a[COLS_AT_ONCE];
    for (int i = 0; i < nr; i++) {
        w[i] = (const uint8_t *)job->w + (r + (uint32_t)i) * row_bytes;
    }
    for (int n = 0; n < nc; n++) a[n] = act_of(job, c + (uint32_t)n);

    float stack[NM_DEPTH_MAX][ROWS_AT_ONCE][COLS_AT_ONCE];
    uint32_t top = 0;
    for (uint32_t l = 0; l < job->tree->n_leaves; l++) {
        f8 lane[ROWS_AT_ONCE][COLS_AT_ONCE];
        UNROLL
        for (int i = 0; i < nr; i++) {
            UNROLL
            for (int n = 0; n < nc; n++) lane[i][n] = f8_zero();
        }
        const uint32_t first = l * NM_LEAF, left = job->k - first;
        const uint32_t end = first + (left < NM_LEAF ? left : NM_LEAF);
        for (uint32_t k = first; k < end; k += 8) { /* both are zero-padded */
            UNROLL
            for (int i = 0; i < nr; i++) {
                const f8 x = load_eight(w[i], k, type);
                UNROLL
                for (int n = 0; n < nc; n++) {
                    lane[i][n] =
                        f8_add(lane[i][n], f8_mul(x, f8_load(a[n] + k)));
                }
            }
        }
        const uint32_t merges = job->tree->merges[l];
        UNROLL
        for (int i = 0; i < nr; i++) {
            UNROLL
            for (int n = 0; n < nc; n++) {
                float v = f8_sum(lane[i][n]);
                for (uint32_t m = 1; m <= merges; m++) {
                    /* the tree pops only what was pushed:
                     * NOLINTNEXTLINE(clang-analyzer-core.*) */
                    v = stack[top - m][i][n] + v;
                }
                stack[top - merges][i][n] = v;
            }
        }
        top += 1 - merges;
    }
    for (int n = 0; n < nc; n++) {
        float *y = job->y + (c + (uint32_t)n) * job->y_stride + r;
        /* one value remains: NOLINTNEXTLINE(clang-analyzer-core.*) */
        for (int i = 0; i < nr; i++) y[i] = stack[0][i][n];
    }
}

static ALWAYS_INLINE void matmul_float(const struct matmul_job *job,
                                       const struct kernel *kernel,
                                       enum quant_type type)
{
    const size_t row_bytes = kernel_group_bytes(kernel, job->k);
    const uint32_t end =
        job->group_end < job->n_rows ? job->group_end : job->n_rows;
    uint32_t panel = (uint32_t)(ACT_PANEL_BYTES / job->act_stride);
    panel = panel < COLS_AT_ONCE ? COLS_AT_ONCE
                                 : panel / COLS_AT_ONCE * COLS_AT_ONCE;
    for (uint32_t first = 0; first < job->n_cols; first += panel) {
        const uint32_t left = job->n_cols - first;
        const uint32_t c_end = first + (left < panel ? left : panel);
        uint32_t r = job->group_first;
        for (; r + ROWS_AT_ONCE <= end; r += ROWS_AT_ONCE) {
            uint32_t c = first;
            for (; c + 2 <= c_end; c += 2) {
                tile_float(job, row_bytes, r, c, ROWS_AT_ONCE, 2, type);
            }
            if (c < c_end)
                tile_float(job, row_bytes, r, c, ROWS_AT_ONCE, 1, type);
        }
        for (; r < end; r++) {
            for (uint32_t c = first; c < c_end; c++) {
                tile_float(job, row_bytes, r, c, 1, 1, type);
            }
        }
    }
}

/* A row and zeros up to the group's end: vectors reach over the row's. */
static void pack_float(const struct kernel *kernel, void *group,
                       const void *src, uint32_t n, uint32_t k)
{
    const size_t bytes = n ? (size_t)quant_row_bytes(kernel->type, k) : 0;
    memcpy(group, src, bytes);
    memset((char *)group + bytes, 0, kernel_group_bytes(kernel, k) - bytes);
}

#define FLOAT_KERNEL(TYPE, id, text)                                           \
    static const struct kernel kernel_##id;                                    \
    static void matmul_##id(const struct matmul_job *job)                      \
    {                                                                          \
        matmul_float(job, &kernel_##id, TYPE);                                 \
    }                                                                          \
    static void pack_##id(void *group, const void *src, size_t src_stride,     \
                          uint32_t n, uint32_t k)                              \
    {                                                                          \
        (void)src_stride; /* a group is one row */                             \
        pack_float(&kernel_##id, group, src, n, k);                            \
    }                                                                          \
    static void unpack_##id(const void *group, uint32_t r, uint32_t k,         \
                            float *dst)                                        \
    {                                                                          \
        (void)r;                                                               \
        quant_dequantize_row(TYPE, group, dst, k);                             \
    }                                                                          \
    static const struct kernel kernel_##id = {                                 \
        .name = text " " LEVEL_NAME,                                           \
        .type = (TYPE),                                                        \
        .isa = LEVEL,                                                          \
        .act = ACT_F32,                                                        \
        .rows = 1,                                                             \
        .pack = pack_##id,                                                     \
        .unpack_row = unpack_##id,                                             \
        .matmul = matmul_##id,                                                 \
    };

FLOAT_KERNEL(QUANT_F32, f32, "f32")
FLOAT_KERNEL(QUANT_F16, f16, "f16")
FLOAT_KERNEL(QUANT_BF16, bf16, "bf16")

#endif
#endif

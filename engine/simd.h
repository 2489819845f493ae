/* simd.h - what the vector kernels share; for kernels_LEVEL.c alone.
 *
 * Depends on: kernels, kernels_pack.  Thread: compute.
 *
 * The quantized kernels are written once for every width.  A vector has one
 * element for each of V_ROWS rows, the rows of a group, so a leaf's value is
 * a vector, and the tree's partial sums are vectors on a small stack.  A
 * *tile* is one group times up to TILE_COLS columns over the whole K.
 *
 * A file kernels_LEVEL.c is compiled for its instruction set, says
 *   LEVEL       its enum isa
 *   LEVEL_NAME  as isa_name() has it
 *   LEVEL_BITS  128, 256 or 512
 * and includes the kernels: pairs_*.h multiply bytes to int16 pairs (SSSE3,
 * AVX2, NEON), quads_*.h to int32 quads (VNNI, sdot), lanes_*.h are for
 * floats. */
#ifndef ENGINE_SIMD_H
#define ENGINE_SIMD_H

#include "common/compiler.h"
#include "engine/kernels.h"
#include "engine/kernels_blas.h"
#include "engine/kernels_pack.h"

#ifdef LEVEL
#include <string.h>

#ifdef __aarch64__
#include "engine/simd_neon.h"
#elif LEVEL_BITS == 512
#include "engine/simd_512.h"
#elif LEVEL_BITS == 256
#include "engine/simd_256.h"
#else
#include "engine/simd_128.h"
#endif

/* Columns that share one unpacking of the weights: their accumulators, two
 * for each, leave half the registers for weights. */
#if LEVEL_BITS == 512 || defined(__ARM_FEATURE_DOTPROD)
#define TILE_COLS 8
#else
#define TILE_COLS 4
#endif

/* What weights with a sign get added to be unsigned bytes, if v_dot_u8() needs
 * them so. */
#ifndef V_OFFSET8
#define V_OFFSET8 128
#endif

/* Activations that are gone over for every group; half of the smallest L2. */
#define ACT_PANEL_BYTES (128u * 1024u)

/* One group at w times 1, 2, 4 or 8 columns from col on. */
typedef void tile_fn(const struct matmul_job *job, const uint8_t *w,
                     uint32_t row, uint32_t col);

/* tiles[i]: 2^i columns, up to TILE_COLS. */
static inline void walk_tiles(const struct matmul_job *job, size_t group_bytes,
                              tile_fn *const *tiles)
{
    uint32_t panel = (uint32_t)(ACT_PANEL_BYTES / job->act_stride);
    panel =
        panel < 2 * TILE_COLS ? 2 * TILE_COLS : panel / TILE_COLS * TILE_COLS;
    for (uint32_t first = 0; first < job->n_cols; first += panel) {
        const uint32_t left = job->n_cols - first;
        const uint32_t end = first + (left < panel ? left : panel);
        for (uint32_t g = job->group_first; g < job->group_end; g++) {
            const uint8_t *w = (const uint8_t *)job->w + g * group_bytes;
            uint32_t c = first;
            for (uint32_t i = 0, n = TILE_COLS; n > 0; n /= 2, i++) {
                for (; c + n <= end; c += n) tiles[i](job, w, g * V_ROWS, c);
            }
        }
    }
}

static ALWAYS_INLINE const void *act_of(const struct matmul_job *job,
                                        uint32_t col)
{
    return (const char *)job->act + col * job->act_stride;
}

/* The tree's partial sums of a tile. */
struct tile_stack {
    vf v[NM_DEPTH_MAX][TILE_COLS];
    uint32_t top;
};

/* Push a leaf, merge as the tree says. */
static ALWAYS_INLINE void stack_push(struct tile_stack *s, uint32_t merges,
                                     vf *leaf, int nc)
{
    for (; merges > 0; merges--) {
        s->top--;
        UNROLL
        for (int n = 0; n < nc; n++) {
            leaf[n] = vf_add(s->v[s->top][n], leaf[n]);
        }
    }
    UNROLL
    for (int n = 0; n < nc; n++) s->v[s->top][n] = leaf[n];
    s->top++;
}

/* The whole products of a tile to y. */
static ALWAYS_INLINE void stack_store(const struct tile_stack *s,
                                      const struct matmul_job *job,
                                      uint32_t row, uint32_t col, int nc)
{
    const uint32_t left = job->n_rows - row;
    for (int n = 0; n < nc; n++) {
        float *y = job->y + (col + (uint32_t)n) * job->y_stride + row;
        if (left >= V_ROWS) {
            vf_store(y, s->v[0][n]);
        } else {
            float v[V_ROWS];
            vf_store(v, s->v[0][n]);
            memcpy(y, v, left * sizeof *v);
        }
    }
}

/* The sums of 32 q each: those that a minimum or an offset is multiplied
 * with, two a quad. */
static ALWAYS_INLINE void sums_of_32(const struct act_q8_k *a, int16_t sums[8])
{
#ifdef __aarch64__
    vst1q_s16(sums, vpaddq_s16(vld1q_s16(a->sum), vld1q_s16(a->sum + 8)));
#else
    const __m128i low = _mm_loadu_si128((const void *)a->sum);
    const __m128i high = _mm_loadu_si128((const void *)(a->sum + 8));
    _mm_storeu_si128((void *)sums, _mm_hadd_epi16(low, high));
#endif
}

static ALWAYS_INLINE vi two_sums(const int16_t *sums)
{
    return v_quad((const void *)sums);
}

/* Ask for the n bytes that come PREFETCH_AHEAD after w: where one column pays
 * for all the weights, the next page is not yet on its way. */
#define PREFETCH_AHEAD 4096
static ALWAYS_INLINE void prefetch(const uint8_t *w, size_t n)
{
    for (size_t i = 0; i < n; i += 64) {
        __builtin_prefetch(w + PREFETCH_AHEAD + i);
    }
}

/* What the nibbles of the IQ4 types mean, as v_dot_u8() wants it. */
static ALWAYS_INLINE vi iq4_table(void)
{
    return v_xor(v_lanes(quant_iq4_values), v_set8(-V_OFFSET8));
}

/* The panel through OpenBLAS for this layout, where it may pay. */
#if LEVEL_BITS == 512
#define BLAS_PANEL(id) NULL
#elif LEVEL_BITS == 256
#define BLAS_PANEL(id) matmul_blas_##id##_x8
#else
#define BLAS_PANEL(id) matmul_blas_##id##_x4
#endif

/* The functions of a kernel from its tile_ID(job, w, row, col, nc). */
#define TILE_FN(id, n)                                                         \
    static void tile_##id##_##n(const struct matmul_job *job,                  \
                                const uint8_t *w, uint32_t row, uint32_t col)  \
    {                                                                          \
        tile_##id(job, w, row, col, n);                                        \
    }
#if TILE_COLS == 8
#define TILE_FNS(id)                                                           \
    TILE_FN(id, 1)                                                             \
    TILE_FN(id, 2)                                                             \
    TILE_FN(id, 4)                                                             \
    TILE_FN(id, 8)                                                             \
    static tile_fn *const tiles_##id[] = {tile_##id##_8, tile_##id##_4,        \
                                          tile_##id##_2, tile_##id##_1};
#else
#define TILE_FNS(id)                                                           \
    TILE_FN(id, 1)                                                             \
    TILE_FN(id, 2)                                                             \
    TILE_FN(id, 4)                                                             \
    static tile_fn *const tiles_##id[] = {tile_##id##_4, tile_##id##_2,        \
                                          tile_##id##_1};
#endif

/* With wide_type_ID for many columns (wide.h). */
#define KERNEL(TYPE, id, text, act_kind, blas)                                 \
    TILE_FNS(id)                                                               \
    static const struct kernel kernel_##id;                                    \
    static void matmul_##id(const struct matmul_job *job)                      \
    {                                                                          \
        const size_t bytes = kernel_group_bytes(&kernel_##id, job->k);         \
        if (job->n_cols >= WIDE_FROM)                                          \
            walk_wide(job, bytes, &wide_type_##id);                            \
        else                                                                   \
            walk_tiles(job, bytes, tiles_##id);                                \
    }                                                                          \
    KERNEL_ROW(TYPE, id, text, act_kind, blas)

/* Without. */
#define KERNEL_TILES(TYPE, id, text, act_kind, blas)                           \
    TILE_FNS(id)                                                               \
    static const struct kernel kernel_##id;                                    \
    static void matmul_##id(const struct matmul_job *job)                      \
    {                                                                          \
        walk_tiles(job, kernel_group_bytes(&kernel_##id, job->k), tiles_##id); \
    }                                                                          \
    KERNEL_ROW(TYPE, id, text, act_kind, blas)

#define KERNEL_ROW(TYPE, id, text, act_kind, blas)                             \
    static void pack_##id(void *group, const void *src, size_t src_stride,     \
                          uint32_t n, uint32_t k)                              \
    {                                                                          \
        pack_rows(TYPE, V_ROWS, group, src, src_stride, n, k);                 \
    }                                                                          \
    static void unpack_##id(const void *group, uint32_t r, uint32_t k,         \
                            float *dst)                                        \
    {                                                                          \
        unpack_row(TYPE, V_ROWS, group, r, k, dst);                            \
    }                                                                          \
    static const struct kernel kernel_##id = {                                 \
        .name = text " " LEVEL_NAME,                                           \
        .type = (TYPE),                                                        \
        .isa = LEVEL,                                                          \
        .act = (act_kind),                                                     \
        .rows = V_ROWS,                                                        \
        .pack = pack_##id,                                                     \
        .unpack_row = unpack_##id,                                             \
        .matmul = matmul_##id,                                                 \
        .matmul_blas = (blas),                                                 \
    };

#endif
#endif

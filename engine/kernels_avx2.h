/* kernels_avx2.h - what the AVX2 kernels share; not for other modules.
 *
 * Depends on: kernels, kernels_pack.  Thread: compute.
 *
 * A *tile* is one group of eight rows times TILE_COLS columns over the whole
 * K: eight rows are a vector, so a leaf's value is a vector, and the tree's
 * partial sums are vectors on a small stack. */
#ifndef ENGINE_KERNELS_AVX2_H
#define ENGINE_KERNELS_AVX2_H

#include "common/compiler.h"
#include "engine/kernels.h"
#include "engine/kernels_blas.h"
#include "engine/kernels_pack.h"

/* Rows of a group of the quantized types. */
#define AVX2_ROWS 8

extern const struct kernel kernel_q4_k_avx2, kernel_q6_k_avx2, kernel_q8_0_avx2,
    kernel_q4_0_avx2, kernel_q4_1_avx2, kernel_q5_0_avx2, kernel_q5_1_avx2,
    kernel_iq4_nl_avx2, kernel_q2_k_avx2, kernel_q3_k_avx2, kernel_q5_k_avx2,
    kernel_iq4_xs_avx2, kernel_f32_avx2, kernel_f16_avx2, kernel_bf16_avx2;

#ifdef __AVX2__
#include <immintrin.h>
#include <string.h>

/* Columns that share one unpacking of the weights: their accumulators, two
 * for each, leave half the registers for weights. */
#define TILE_COLS 4

/* Activations that are gone over for every group; half of the smallest L2. */
#define ACT_PANEL_BYTES (128u * 1024u)

/* One group at w times 4, 2 or 1 columns from col on. */
typedef void tile_fn(const struct matmul_job *job, const uint8_t *w,
                     uint32_t row, uint32_t col);

struct tile_fns {
    tile_fn *four, *two, *one;
};

static inline void walk_tiles(const struct matmul_job *job, size_t group_bytes,
                              const struct tile_fns *tiles)
{
    uint32_t panel = (uint32_t)(ACT_PANEL_BYTES / job->act_stride);
    panel =
        panel < 2 * TILE_COLS ? 2 * TILE_COLS : panel / TILE_COLS * TILE_COLS;
    for (uint32_t first = 0; first < job->n_cols; first += panel) {
        const uint32_t left = job->n_cols - first;
        const uint32_t end = first + (left < panel ? left : panel);
        for (uint32_t g = job->group_first; g < job->group_end; g++) {
            const uint8_t *w = (const uint8_t *)job->w + g * group_bytes;
            const uint32_t row = g * AVX2_ROWS;
            uint32_t c = first;
            for (; c + 4 <= end; c += 4) tiles->four(job, w, row, c);
            if (c + 2 <= end) {
                tiles->two(job, w, row, c);
                c += 2;
            }
            if (c < end) tiles->one(job, w, row, c);
        }
    }
}

/* Four bytes of activations, the same for every row. */
static ALWAYS_INLINE __m256i quad(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, sizeof v);
    return _mm256_set1_epi32(v);
}

static ALWAYS_INLINE __m256i load_256(const void *p)
{
    return _mm256_loadu_si256(p);
}

/* Eight f16. */
static ALWAYS_INLINE __m256 load_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

/* Eight bytes to sixteen int16, each twice. */
static ALWAYS_INLINE __m256i twice(const uint8_t *p)
{
    const __m256i order = _mm256_setr_epi8(
        0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1, 4, -1, 4, -1, 5,
        -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1);
    return _mm256_shuffle_epi8(
        _mm256_broadcastq_epi64(_mm_loadl_epi64((const void *)p)), order);
}

/* The scales of 16 sub-blocks of eight rows as int16.  pairs[i]: those of
 * sub-blocks 2i and 2i + 1 side by side; twice[j]: each row's scale of
 * sub-block j twice. */
struct scales_16 {
    __m256i twice[16], pairs[8];
};

/* From int8 [8][row][2]. */
static ALWAYS_INLINE void spread_scales(const int8_t *sc, struct scales_16 *s)
{
    const __m256i even =
        _mm256_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13, 0,
                         1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
    const __m256i odd = _mm256_add_epi8(even, _mm256_set1_epi8(2));
    UNROLL
    for (int i = 0; i < 8; i++) {
        s->pairs[i] =
            _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(sc + 16 * i)));
        s->twice[2 * i] = _mm256_shuffle_epi8(s->pairs[i], even);
        s->twice[2 * i + 1] = _mm256_shuffle_epi8(s->pairs[i], odd);
    }
}

/* The sum over sub-blocks of scale * sum of q. */
static ALWAYS_INLINE __m256i scaled_sums(const __m256i pairs[8],
                                         const struct act_q8_k *a)
{
    __m256i sum = _mm256_setzero_si256();
    UNROLL
    for (int i = 0; i < 8; i++) {
        int32_t two;
        memcpy(&two, a->sum + 2 * i, sizeof two);
        sum = _mm256_add_epi32(
            sum, _mm256_madd_epi16(pairs[i], _mm256_set1_epi32(two)));
    }
    return sum;
}

static ALWAYS_INLINE const void *act_of(const struct matmul_job *job,
                                        uint32_t col)
{
    return (const char *)job->act + col * job->act_stride;
}

/* The tree's partial sums of a tile. */
struct tile_stack {
    __m256 v[NM_DEPTH_MAX][TILE_COLS];
    uint32_t top;
};

/* Push a leaf, merge as the tree says. */
static ALWAYS_INLINE void stack_push(struct tile_stack *s, uint32_t merges,
                                     __m256 *leaf, int nc)
{
    for (; merges > 0; merges--) {
        s->top--;
        UNROLL
        for (int n = 0; n < nc; n++) {
            leaf[n] = _mm256_add_ps(s->v[s->top][n], leaf[n]);
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
        if (left >= AVX2_ROWS) {
            _mm256_storeu_ps(y, s->v[0][n]);
        } else {
            float v[AVX2_ROWS];
            _mm256_storeu_ps(v, s->v[0][n]);
            memcpy(y, v, left * sizeof *v);
        }
    }
}

/* The functions of a kernel from its tile(job, w, row, col, nc). */
#define AVX2_KERNEL(TYPE, id, text, act_kind, blas)                            \
    static void four_##id(const struct matmul_job *job, const uint8_t *w,      \
                          uint32_t row, uint32_t col)                          \
    {                                                                          \
        tile_##id(job, w, row, col, 4);                                        \
    }                                                                          \
    static void two_##id(const struct matmul_job *job, const uint8_t *w,       \
                         uint32_t row, uint32_t col)                           \
    {                                                                          \
        tile_##id(job, w, row, col, 2);                                        \
    }                                                                          \
    static void one_##id(const struct matmul_job *job, const uint8_t *w,       \
                         uint32_t row, uint32_t col)                           \
    {                                                                          \
        tile_##id(job, w, row, col, 1);                                        \
    }                                                                          \
    static void matmul_##id(const struct matmul_job *job)                      \
    {                                                                          \
        static const struct tile_fns fns = {four_##id, two_##id, one_##id};    \
        walk_tiles(job, kernel_group_bytes(&kernel_##id##_avx2, job->k),       \
                   &fns);                                                      \
    }                                                                          \
    static void pack_##id(void *group, const void *src, size_t src_stride,     \
                          uint32_t n, uint32_t k)                              \
    {                                                                          \
        pack_rows(TYPE, AVX2_ROWS, group, src, src_stride, n, k);              \
    }                                                                          \
    static void unpack_##id(const void *group, uint32_t r, uint32_t k,         \
                            float *dst)                                        \
    {                                                                          \
        unpack_row(TYPE, AVX2_ROWS, group, r, k, dst);                         \
    }                                                                          \
    const struct kernel kernel_##id##_avx2 = {                                 \
        .name = text " avx2",                                                  \
        .type = (TYPE),                                                        \
        .isa = ISA_AVX2,                                                       \
        .act = (act_kind),                                                     \
        .rows = AVX2_ROWS,                                                     \
        .pack = pack_##id,                                                     \
        .unpack_row = unpack_##id,                                             \
        .matmul = matmul_##id,                                                 \
        .matmul_blas = (blas),                                                 \
    }

#endif
#endif

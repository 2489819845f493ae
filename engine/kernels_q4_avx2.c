/* kernels_q4_avx2.c - Q4_0 and Q4_1, Q5_0 and Q5_1.
 *
 * The sum of a block (of half a block, with five bits) stays in int16 as in
 * kernels_q4k_avx2.c.  The offsets of Q4_0 and Q5_0 come off through the
 * activations' sum. */
#include "engine/kernels_avx2.h"

#ifdef __AVX2__

/* A type of this file; constants after inlining. */
struct kind {
    bool five, with_min;
};

/* The sums of unsigned quants times q over a block. */
static ALWAYS_INLINE void block(const uint8_t *w,
                                const struct act_q8_0 *const *a, int nc,
                                bool five, __m256i *sum)
{
    const __m256i nibble = _mm256_set1_epi8(15), fifth = _mm256_set1_epi8(16);
    const __m256i qh = load_256(w); /* five: their bits (kernels_pack.h) */
    const uint8_t *qs = w + (five ? 32 : 0);
    __m256i lo[TILE_COLS], hi[TILE_COLS];
    UNROLL
    for (int n = 0; n < nc; n++) lo[n] = hi[n] = _mm256_setzero_si256();
    UNROLL
    for (int c = 0; c < 4; c++) {
        const __m256i x = load_256(qs + 32 * c);
        __m256i l = _mm256_and_si256(x, nibble);
        __m256i h = _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
        if (five) {
            l = _mm256_or_si256(
                l, _mm256_and_si256(_mm256_slli_epi16(qh, 4 - c), fifth));
            h = _mm256_or_si256(
                h, _mm256_and_si256(_mm256_srli_epi16(qh, c), fifth));
        }
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 4 * c;
            lo[n] = _mm256_add_epi16(lo[n], _mm256_maddubs_epi16(l, quad(q)));
            hi[n] =
                _mm256_add_epi16(hi[n], _mm256_maddubs_epi16(h, quad(q + 16)));
        }
    }
    const __m256i one = _mm256_set1_epi16(1);
    UNROLL
    for (int n = 0; n < nc; n++) {
        sum[n] = five ? _mm256_add_epi32(_mm256_madd_epi16(lo[n], one),
                                         _mm256_madd_epi16(hi[n], one))
                      : _mm256_madd_epi16(_mm256_add_epi16(lo[n], hi[n]), one);
    }
}

static ALWAYS_INLINE void tile(const struct matmul_job *job, const uint8_t *w,
                               uint32_t row, uint32_t col, int nc,
                               struct kind kind)
{
    struct tile_stack stack = {.top = 0};
    const struct act_q8_0 *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    uint32_t left = job->k / 32;
    for (uint32_t l = 0; l < job->tree->n_leaves; l++) {
        const uint32_t nb = left < 8 ? left : 8;
        left -= nb;
        __m256 leaf[TILE_COLS]; /* -0 + t is t, whatever t */
        UNROLL
        for (int n = 0; n < nc; n++) leaf[n] = _mm256_set1_ps(-0.0f);
        const uint8_t *d16 = w, *m16 = w + nb * 2 * AVX2_ROWS;
        w += nb * 2 * AVX2_ROWS * (kind.with_min ? 2 : 1);
        for (uint32_t b = 0; b < nb;
             b++, w += (kind.five ? 20 : 16) * AVX2_ROWS) {
            __m256i sum[TILE_COLS];
            block(w, a, nc, kind.five, sum);
            const __m256 d = load_f16(d16 + 2 * AVX2_ROWS * b);
            UNROLL
            for (int n = 0; n < nc; n++) {
                const __m256 ad = _mm256_set1_ps(a[n]->d);
                const __m256 da = _mm256_mul_ps(d, ad);
                const __m256i q = _mm256_set1_epi32(a[n]->sum);
                if (!kind.with_min) {
                    sum[n] = _mm256_sub_epi32(
                        sum[n], _mm256_slli_epi32(q, kind.five ? 4 : 3));
                }
                __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[n]), da);
                if (kind.with_min) {
                    const __m256 s = _mm256_mul_ps(ad, _mm256_cvtepi32_ps(q));
                    const __m256 m = load_f16(m16 + 2 * AVX2_ROWS * b);
                    t = _mm256_add_ps(t, _mm256_mul_ps(m, s));
                }
                leaf[n] = _mm256_add_ps(leaf[n], t);
                a[n]++;
            }
        }
        stack_push(&stack, job->tree->merges[l], leaf, nc);
    }
    stack_store(&stack, job, row, col, nc);
}

#define TILE(id, five, with_min)                                               \
    static ALWAYS_INLINE void tile_##id(const struct matmul_job *job,          \
                                        const uint8_t *w, uint32_t row,        \
                                        uint32_t col, int nc)                  \
    {                                                                          \
        tile(job, w, row, col, nc, (struct kind){five, with_min});             \
    }
TILE(q4_0, false, false)
TILE(q4_1, false, true)
TILE(q5_0, true, false)
TILE(q5_1, true, true)

AVX2_KERNEL(QUANT_Q4_0, q4_0, "q4_0", ACT_Q8_0, NULL);
AVX2_KERNEL(QUANT_Q4_1, q4_1, "q4_1", ACT_Q8_0, NULL);
AVX2_KERNEL(QUANT_Q5_0, q5_0, "q5_0", ACT_Q8_0, NULL);
AVX2_KERNEL(QUANT_Q5_1, q5_1, "q5_1", ACT_Q8_0, NULL);

#endif

/* kernels_q4_avx2.c - Q4_0 and Q4_1.
 *
 * The sum of a block stays in int16 as in kernels_q4k_avx2.c.  Q4_0's offset
 * of 8 comes off through the activations' sum. */
#include "engine/kernels_avx2.h"

#ifdef __AVX2__

/* The sums of nibble * q over a block. */
static ALWAYS_INLINE void
block(const uint8_t *w, const struct act_q8_0 *const *a, int nc, __m256i *sum)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    UNROLL
    for (int n = 0; n < nc; n++) sum[n] = _mm256_setzero_si256();
    UNROLL
    for (int c = 0; c < 4; c++) {
        const __m256i x = load_256(w + 32 * c);
        const __m256i l = _mm256_and_si256(x, nibble);
        const __m256i h = _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 4 * c;
            sum[n] = _mm256_add_epi16(
                sum[n],
                _mm256_add_epi16(_mm256_maddubs_epi16(l, quad(q)),
                                 _mm256_maddubs_epi16(h, quad(q + 16))));
        }
    }
    UNROLL
    for (int n = 0; n < nc; n++) {
        sum[n] = _mm256_madd_epi16(sum[n], _mm256_set1_epi16(1));
    }
}

/* with_min: Q4_1. */
static ALWAYS_INLINE void tile(const struct matmul_job *job, const uint8_t *w,
                               uint32_t row, uint32_t col, int nc,
                               bool with_min)
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
        w += nb * 2 * AVX2_ROWS * (with_min ? 2 : 1);
        for (uint32_t b = 0; b < nb; b++, w += 16 * AVX2_ROWS) {
            __m256i sum[TILE_COLS];
            block(w, a, nc, sum);
            const __m256 d = load_f16(d16 + 2 * AVX2_ROWS * b);
            UNROLL
            for (int n = 0; n < nc; n++) {
                const __m256 ad = _mm256_set1_ps(a[n]->d);
                const __m256 da = _mm256_mul_ps(d, ad);
                const __m256i q = _mm256_set1_epi32(a[n]->sum);
                if (!with_min) {
                    sum[n] = _mm256_sub_epi32(sum[n], _mm256_slli_epi32(q, 3));
                }
                __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[n]), da);
                if (with_min) {
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

static ALWAYS_INLINE void tile_q4_0(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    tile(job, w, row, col, nc, false);
}

static ALWAYS_INLINE void tile_q4_1(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    tile(job, w, row, col, nc, true);
}

AVX2_KERNEL(QUANT_Q4_0, q4_0, "q4_0", ACT_Q8_0, NULL);
AVX2_KERNEL(QUANT_Q4_1, q4_1, "q4_1", ACT_Q8_0, NULL);

#endif

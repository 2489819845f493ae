/* kernels_q8_avx2.c - Q8_0.
 *
 * maddubs wants one unsigned factor: |w| <= 128 is one, with the sign of w
 * moved to q. Its pair sums are exact: 2 * 128 * 127 < 2^15, w = -128
 * included (the sign of q = -128 could not be moved, but |q| <= 127). */
#include "engine/kernels_avx2.h"

#ifdef __AVX2__

static ALWAYS_INLINE void
block(const uint8_t *w, const struct act_q8_0 *const *a, int nc, __m256i *sum)
{
    UNROLL
    for (int n = 0; n < nc; n++) sum[n] = _mm256_setzero_si256();
    UNROLL
    for (int c = 0; c < 8; c++) {
        const __m256i x = load_256(w + 32 * c);
        const __m256i magnitude = _mm256_abs_epi8(x);
        UNROLL
        for (int n = 0; n < nc; n++) {
            const __m256i q = _mm256_sign_epi8(quad(a[n]->q + 4 * c), x);
            sum[n] = _mm256_add_epi32(
                sum[n], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, q),
                                          _mm256_set1_epi16(1)));
        }
    }
}

static ALWAYS_INLINE void tile_q8_0(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
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
        const uint8_t *d16 = w;
        w += nb * 2 * AVX2_ROWS;
        for (uint32_t b = 0; b < nb; b++, w += 32 * AVX2_ROWS) {
            __m256i sum[TILE_COLS];
            block(w, a, nc, sum);
            const __m256 d = load_f16(d16 + 2 * AVX2_ROWS * b);
            UNROLL
            for (int n = 0; n < nc; n++) {
                const __m256 da = _mm256_mul_ps(d, _mm256_set1_ps(a[n]->d));
                leaf[n] = _mm256_add_ps(
                    leaf[n], _mm256_mul_ps(_mm256_cvtepi32_ps(sum[n]), da));
                a[n]++;
            }
        }
        stack_push(&stack, job->tree->merges[l], leaf, nc);
    }
    stack_store(&stack, job, row, col, nc);
}

AVX2_KERNEL(QUANT_Q8_0, q8_0, "q8_0", ACT_Q8_0, matmul_blas_q8_0_x8);

#endif

/* kernels_q6k_avx2.c - Q6_K.
 *
 * Six unsigned bits times q in pairs is at most 2 * 63 * 127 = 16,002: two
 * such sums stay in int16. The offset of 32 comes off at the end, through the
 * activations' sums: sum of sc (w - 32) q = sum of sc w q - 32 sum of sc q. */
#include "engine/kernels_avx2.h"

#ifdef __AVX2__

/* Without d: the f16 of all blocks follow the last block. */
#define BLOCK (AVX2_ROWS * (sizeof(struct block_q6_k) - 2))

/* Part 0..3 of a half (32 weights each): four bits of ql, two of qh. */
static ALWAYS_INLINE __m256i six_bits(__m256i ql, __m256i qh, int part)
{
    const __m256i low = part < 2 ? ql : _mm256_srli_epi16(ql, 4);
    const __m256i high = part == 0   ? _mm256_slli_epi16(qh, 4)
                         : part == 1 ? _mm256_slli_epi16(qh, 2)
                         : part == 2 ? qh
                                     : _mm256_srli_epi16(qh, 2);
    return _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(0x0f)),
                           _mm256_and_si256(high, _mm256_set1_epi8(0x30)));
}

/* Weights 8c .. 8c + 7 of each part of half h, added to sum[]. */
static ALWAYS_INLINE void eight(const uint8_t *w, const struct scales_16 *s,
                                int h, int c, const struct act_q8_k *const *a,
                                int nc, __m256i *sum)
{
    const uint8_t *v = w + 128 + 768 * h + 192 * c;
    const __m256i ql[2][2] = {{load_256(v), load_256(v + 32)},
                              {load_256(v + 96), load_256(v + 128)}};
    const __m256i qh[2] = {load_256(v + 64), load_256(v + 160)};
    UNROLL
    for (int part = 0; part < 4; part++) {
        const __m256i x = six_bits(ql[0][part % 2], qh[0], part);
        const __m256i y = six_bits(ql[1][part % 2], qh[1], part);
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 128 * h + 32 * part + 8 * c;
            const __m256i t =
                _mm256_add_epi16(_mm256_maddubs_epi16(x, quad(q)),
                                 _mm256_maddubs_epi16(y, quad(q + 4)));
            sum[n] = _mm256_add_epi32(
                sum[n],
                _mm256_madd_epi16(t, s->twice[8 * h + 2 * part + c / 2]));
        }
    }
}

static ALWAYS_INLINE void tile_q6_k(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    struct tile_stack stack = {.top = 0};
    const struct act_q8_k *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    const uint8_t *d16 = w + job->tree->n_leaves * BLOCK;
    for (uint32_t b = 0; b < job->tree->n_leaves; b++, w += BLOCK, d16 += 16) {
        struct scales_16 s;
        spread_scales((const int8_t *)w, &s);
        __m256i sum[TILE_COLS];
        UNROLL
        for (int n = 0; n < nc; n++) sum[n] = _mm256_setzero_si256();
        for (int h = 0; h < 2; h++) {
            for (int c = 0; c < 4; c++) eight(w, &s, h, c, a, nc, sum);
        }
        const __m256 d = load_f16(d16);
        __m256 leaf[TILE_COLS];
        UNROLL
        for (int n = 0; n < nc; n++) {
            const __m256i total = _mm256_sub_epi32(
                sum[n], _mm256_slli_epi32(scaled_sums(s.pairs, a[n]), 5));
            leaf[n] = _mm256_mul_ps(_mm256_cvtepi32_ps(total),
                                    _mm256_mul_ps(d, _mm256_set1_ps(a[n]->d)));
            a[n]++;
        }
        stack_push(&stack, job->tree->merges[b], leaf, nc);
    }
    stack_store(&stack, job, row, col, nc);
}

AVX2_KERNEL(QUANT_Q6_K, q6_k, "q6_k", ACT_Q8_K, NULL);

#endif

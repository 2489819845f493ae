/* kernels_q4k_avx2.c - Q4_K, and Q5_K, which is the same with a fifth bit.
 *
 * A nibble times q in pairs is at most 2 * 15 * 127 = 3810, so a sub-block of
 * 32, eight pair sums a row and half, stays in int16 (30,480): one multiply by
 * the six-bit scale for each sub-block.  With five bits half as many stay
 * (4 * 2 * 31 * 127 = 31,496): two multiplies. */
#include "engine/kernels_avx2.h"

#ifdef __AVX2__

/* sc[j][row]; m[i][row][2]: sub-blocks 2i and 2i + 1 (kernels_pack.h). */
struct scales {
    uint8_t sc[8 * AVX2_ROWS], m[8 * AVX2_ROWS];
};

static ALWAYS_INLINE __m256i six_bits(__m256i low, __m256i high)
{
    return _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(0x0f)),
                           _mm256_and_si256(high, _mm256_set1_epi8(0x30)));
}

static ALWAYS_INLINE void unpack_scales(const uint8_t *w, struct scales *s)
{
    const __m256i a = load_256(w + 32), b = load_256(w + 64);
    const __m256i high = load_256(w + 96);
    _mm256_storeu_si256((void *)s->sc, six_bits(a, _mm256_slli_epi16(high, 4)));
    _mm256_storeu_si256((void *)(s->sc + 32), six_bits(b, high));
    _mm256_storeu_si256((void *)s->m, six_bits(_mm256_srli_epi16(a, 4),
                                               _mm256_slli_epi16(high, 2)));
    _mm256_storeu_si256(
        (void *)(s->m + 32),
        six_bits(_mm256_srli_epi16(b, 4), _mm256_srli_epi16(high, 2)));
}

/* Sub-blocks 2i and 2i + 1, quads [first, first + n_quads) of eight, added to
 * sum[].  five: Q5_K. */
static ALWAYS_INLINE void quads(const uint8_t *w, const struct scales *s, int i,
                                int first, int n_quads,
                                const struct act_q8_k *const *a, int nc,
                                bool five, __m256i *sum)
{
    const __m256i nibble = _mm256_set1_epi8(15), fifth = _mm256_set1_epi8(16);
    const __m128i bit = _mm_cvtsi32_si128(2 * i);
    const uint8_t *qs = w + 128 + (five ? 32 * AVX2_ROWS : 0);
    __m256i lo[TILE_COLS], hi[TILE_COLS];
    UNROLL
    for (int n = 0; n < nc; n++) lo[n] = hi[n] = _mm256_setzero_si256();
    UNROLL
    for (int c = first; c < first + n_quads; c++) {
        const __m256i x = load_256(qs + (8 * i + c) * 32);
        __m256i l = _mm256_and_si256(x, nibble);
        __m256i h = _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
        if (five) {
            const __m256i qh =
                _mm256_srl_epi16(load_256(w + 128 + c * 32), bit);
            l = _mm256_or_si256(
                l, _mm256_and_si256(_mm256_slli_epi16(qh, 4), fifth));
            h = _mm256_or_si256(
                h, _mm256_and_si256(_mm256_slli_epi16(qh, 3), fifth));
        }
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 64 * i + 4 * c;
            lo[n] = _mm256_add_epi16(lo[n], _mm256_maddubs_epi16(l, quad(q)));
            hi[n] =
                _mm256_add_epi16(hi[n], _mm256_maddubs_epi16(h, quad(q + 32)));
        }
    }
    const __m256i sl = twice(s->sc + 16 * i), sh = twice(s->sc + 16 * i + 8);
    UNROLL
    for (int n = 0; n < nc; n++) {
        sum[n] = _mm256_add_epi32(
            sum[n], _mm256_add_epi32(_mm256_madd_epi16(lo[n], sl),
                                     _mm256_madd_epi16(hi[n], sh)));
    }
}

/* Sub-blocks 2i and 2i + 1, added to sum[] and mins[]. */
static ALWAYS_INLINE void pair(const uint8_t *w, const struct scales *s, int i,
                               const struct act_q8_k *const *a, int nc,
                               bool five, __m256i *sum, __m256i *mins)
{
    if (five) {
        quads(w, s, i, 0, 4, a, nc, true, sum);
        quads(w, s, i, 4, 4, a, nc, true, sum);
    } else {
        quads(w, s, i, 0, 8, a, nc, false, sum);
    }
    const __m256i m =
        _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(s->m + 16 * i)));
    UNROLL
    for (int n = 0; n < nc; n++) {
        __m128i q = _mm_loadl_epi64((const void *)(a[n]->sum + 4 * i));
        q = _mm_hadd_epi16(q, q);
        mins[n] = _mm256_add_epi32(
            mins[n], _mm256_madd_epi16(m, _mm256_broadcastd_epi32(q)));
    }
}

static ALWAYS_INLINE void tile(const struct matmul_job *job, const uint8_t *w,
                               uint32_t row, uint32_t col, int nc, bool five)
{
    const size_t block = AVX2_ROWS * (five ? sizeof(struct block_q5_k)
                                           : sizeof(struct block_q4_k));
    struct tile_stack stack = {.top = 0};
    const struct act_q8_k *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    for (uint32_t b = 0; b < job->tree->n_leaves; b++, w += block) {
        struct scales s;
        unpack_scales(w, &s);
        __m256i sum[TILE_COLS], mins[TILE_COLS];
        UNROLL
        for (int n = 0; n < nc; n++) sum[n] = mins[n] = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) pair(w, &s, i, a, nc, five, sum, mins);
        const __m256 d = load_f16(w), dmin = load_f16(w + 16);
        __m256 leaf[TILE_COLS];
        UNROLL
        for (int n = 0; n < nc; n++) {
            const __m256 ad = _mm256_set1_ps(a[n]->d);
            leaf[n] = _mm256_sub_ps(
                _mm256_mul_ps(_mm256_cvtepi32_ps(sum[n]), _mm256_mul_ps(d, ad)),
                _mm256_mul_ps(_mm256_cvtepi32_ps(mins[n]),
                              _mm256_mul_ps(dmin, ad)));
            a[n]++;
        }
        stack_push(&stack, job->tree->merges[b], leaf, nc);
    }
    stack_store(&stack, job, row, col, nc);
}

static ALWAYS_INLINE void tile_q4_k(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    tile(job, w, row, col, nc, false);
}

static ALWAYS_INLINE void tile_q5_k(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    tile(job, w, row, col, nc, true);
}

AVX2_KERNEL(QUANT_Q4_K, q4_k, "q4_k", ACT_Q8_K, matmul_blas_q4_k_x8);
AVX2_KERNEL(QUANT_Q5_K, q5_k, "q5_k", ACT_Q8_K, NULL);

#endif

/* kernels_q23k_avx2.c - Q2_K and Q3_K.
 *
 * Both have 16 sub-blocks of 16 and two bits of every weight in the same
 * places.  A pair of at most three bits times q is below 2 * 7 * 127 = 1778:
 * a sub-block's four stay in int16.  Q3_K's offset of 4 comes off at the end,
 * through the activations' sums. */
#include "engine/kernels_avx2.h"

#ifdef __AVX2__

#define Q2_BLOCK (AVX2_ROWS * sizeof(struct block_q2_k))
/* Without d: the f16 of all blocks follow the last block. */
#define Q3_BLOCK (AVX2_ROWS * (sizeof(struct block_q3_k) - 2))

/* Half h, quads 4u .. 4u + 3 of each part: sub-blocks 8h + 2 part + u, added
 * to sum[].  hmask: the third bits, or NULL (Q2_K).  shift: 4h. */
static ALWAYS_INLINE void half(const uint8_t *qs, const uint8_t *hmask,
                               const __m256i *sc, int h, int u,
                               const struct act_q8_k *const *a, int nc,
                               __m256i *sum)
{
    const __m256i two = _mm256_set1_epi8(3), third = _mm256_set1_epi8(4);
    const __m128i high_bit = _mm_cvtsi32_si128(4 * h);
    __m256i acc[4][TILE_COLS];
    UNROLL
    for (int part = 0; part < 4; part++) {
        UNROLL
        for (int n = 0; n < nc; n++) acc[part][n] = _mm256_setzero_si256();
    }
    for (int c = 4 * u; c < 4 * u + 4; c++) {
        const __m256i x = load_256(qs + (8 * h + c) * 32);
        __m256i high = _mm256_setzero_si256();
        if (hmask) high = _mm256_srl_epi16(load_256(hmask + c * 32), high_bit);
        UNROLL
        for (int part = 0; part < 4; part++) {
            __m256i v = _mm256_and_si256(_mm256_srli_epi16(x, 2 * part), two);
            if (hmask) {
                const __m256i bit = part < 2
                                        ? _mm256_slli_epi16(high, 2 - part)
                                        : _mm256_srli_epi16(high, part - 2);
                v = _mm256_or_si256(v, _mm256_and_si256(bit, third));
            }
            UNROLL
            for (int n = 0; n < nc; n++) {
                const int8_t *q = a[n]->q + 128 * h + 32 * part + 4 * c;
                acc[part][n] = _mm256_add_epi16(
                    acc[part][n], _mm256_maddubs_epi16(v, quad(q)));
            }
        }
    }
    UNROLL
    for (int part = 0; part < 4; part++) {
        UNROLL
        for (int n = 0; n < nc; n++) {
            sum[n] = _mm256_add_epi32(
                sum[n],
                _mm256_madd_epi16(acc[part][n], sc[8 * h + 2 * part + u]));
        }
    }
}

static ALWAYS_INLINE void block(const uint8_t *qs, const uint8_t *hmask,
                                const __m256i *sc,
                                const struct act_q8_k *const *a, int nc,
                                __m256i *sum)
{
    UNROLL
    for (int n = 0; n < nc; n++) sum[n] = _mm256_setzero_si256();
    for (int h = 0; h < 2; h++) {
        for (int u = 0; u < 2; u++) half(qs, hmask, sc, h, u, a, nc, sum);
    }
}

/* ------------------------------------------------------------------ Q2_K */

/* Low nibbles scales [16][row], high nibbles minima [8][row][2]. */
static ALWAYS_INLINE void unpack_q2_scales(const uint8_t *w, __m256i sc[16],
                                           __m256i pairs[8])
{
    const __m256i nibble = _mm256_set1_epi8(15);
    uint8_t low[16 * AVX2_ROWS], high[16 * AVX2_ROWS];
    UNROLL
    for (int i = 0; i < 4; i++) {
        const __m256i x = load_256(w + 32 * i);
        _mm256_storeu_si256((void *)(low + 32 * i),
                            _mm256_and_si256(x, nibble));
        _mm256_storeu_si256((void *)(high + 32 * i),
                            _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));
    }
    UNROLL
    for (int j = 0; j < 16; j++) sc[j] = twice(low + 8 * j);
    UNROLL
    for (int i = 0; i < 8; i++) {
        pairs[i] = _mm256_cvtepu8_epi16(
            _mm_loadu_si128((const void *)(high + 16 * i)));
    }
}

static ALWAYS_INLINE void tile_q2_k(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    struct tile_stack stack = {.top = 0};
    const struct act_q8_k *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    for (uint32_t b = 0; b < job->tree->n_leaves; b++, w += Q2_BLOCK) {
        __m256i sc[16], pairs[8], sum[TILE_COLS];
        unpack_q2_scales(w + 4 * AVX2_ROWS, sc, pairs);
        block(w + 20 * AVX2_ROWS, NULL, sc, a, nc, sum);
        const __m256 d = load_f16(w), dmin = load_f16(w + 2 * AVX2_ROWS);
        __m256 leaf[TILE_COLS];
        UNROLL
        for (int n = 0; n < nc; n++) {
            const __m256 ad = _mm256_set1_ps(a[n]->d);
            leaf[n] = _mm256_sub_ps(
                _mm256_mul_ps(_mm256_cvtepi32_ps(sum[n]), _mm256_mul_ps(d, ad)),
                _mm256_mul_ps(_mm256_cvtepi32_ps(scaled_sums(pairs, a[n])),
                              _mm256_mul_ps(dmin, ad)));
            a[n]++;
        }
        stack_push(&stack, job->tree->merges[b], leaf, nc);
    }
    stack_store(&stack, job, row, col, nc);
}

AVX2_KERNEL(QUANT_Q2_K, q2_k, "q2_k", ACT_Q8_K, NULL);

/* ------------------------------------------------------------------ Q3_K */

/* 128 scales: low four bits of the first 64 in low nibbles, of the others in
 * high ones; high two of each 32 in two bits. */
static ALWAYS_INLINE void unpack_q3_scales(const uint8_t *w,
                                           struct scales_16 *s)
{
    const __m256i nibble = _mm256_set1_epi8(15), two = _mm256_set1_epi8(0x30);
    const __m256i high = load_256(w + 8 * AVX2_ROWS);
    int8_t sc[16 * AVX2_ROWS];
    UNROLL
    for (int i = 0; i < 4; i++) {
        const __m256i x = load_256(w + 32 * (i % 2));
        const __m256i l =
            _mm256_and_si256(i < 2 ? x : _mm256_srli_epi16(x, 4), nibble);
        const __m256i h =
            _mm256_and_si256(i < 2 ? _mm256_slli_epi16(high, 4 - 2 * i)
                                   : _mm256_srli_epi16(high, 2 * i - 4),
                             two);
        _mm256_storeu_si256(
            (void *)(sc + 32 * i),
            _mm256_sub_epi8(_mm256_or_si256(l, h), _mm256_set1_epi8(32)));
    }
    spread_scales(sc, s);
}

static ALWAYS_INLINE void tile_q3_k(const struct matmul_job *job,
                                    const uint8_t *w, uint32_t row,
                                    uint32_t col, int nc)
{
    struct tile_stack stack = {.top = 0};
    const struct act_q8_k *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    const uint8_t *d16 = w + job->tree->n_leaves * Q3_BLOCK;
    for (uint32_t b = 0; b < job->tree->n_leaves;
         b++, w += Q3_BLOCK, d16 += 2 * AVX2_ROWS) {
        struct scales_16 s;
        unpack_q3_scales(w, &s);
        __m256i sum[TILE_COLS];
        block(w + 44 * AVX2_ROWS, w + 12 * AVX2_ROWS, s.twice, a, nc, sum);
        const __m256 d = load_f16(d16);
        __m256 leaf[TILE_COLS];
        UNROLL
        for (int n = 0; n < nc; n++) {
            const __m256i total = _mm256_sub_epi32(
                sum[n], _mm256_slli_epi32(scaled_sums(s.pairs, a[n]), 2));
            leaf[n] = _mm256_mul_ps(_mm256_cvtepi32_ps(total),
                                    _mm256_mul_ps(d, _mm256_set1_ps(a[n]->d)));
            a[n]++;
        }
        stack_push(&stack, job->tree->merges[b], leaf, nc);
    }
    stack_store(&stack, job, row, col, nc);
}

AVX2_KERNEL(QUANT_Q3_K, q3_k, "q3_k", ACT_Q8_K, NULL);

#endif

/* kernels_iq4_avx2.c - IQ4_NL and IQ4_XS: nibbles are looked up in a table.
 *
 * As in kernels_q8_avx2.c the sign of the weight moves to q: pair sums are at
 * most 2 * 127 * 127 < 2^15 and become int32 at once, with IQ4_XS multiplied
 * by their scale on the way. */
#include "engine/kernels_avx2.h"

#ifdef __AVX2__

/* n_quads quads of nibbles at w, low ones for q, high ones for q + 16, times
 * scale (int16, [row][2]), added to sum[]. */
static ALWAYS_INLINE void block(const uint8_t *w, __m256i scale,
                                const int8_t *const *q, int nc, __m256i *sum)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i table = _mm256_broadcastsi128_si256(
        _mm_loadu_si128((const void *)quant_iq4_values));
    UNROLL
    for (int c = 0; c < 4; c++) {
        const __m256i x = load_256(w + 32 * c);
        const __m256i l =
            _mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble));
        const __m256i h = _mm256_shuffle_epi8(
            table, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));
        const __m256i abs_l = _mm256_abs_epi8(l), abs_h = _mm256_abs_epi8(h);
        UNROLL
        for (int n = 0; n < nc; n++) {
            const __m256i ql = _mm256_sign_epi8(quad(q[n] + 4 * c), l);
            const __m256i qh = _mm256_sign_epi8(quad(q[n] + 4 * c + 16), h);
            sum[n] = _mm256_add_epi32(
                sum[n],
                _mm256_add_epi32(
                    _mm256_madd_epi16(_mm256_maddubs_epi16(abs_l, ql), scale),
                    _mm256_madd_epi16(_mm256_maddubs_epi16(abs_h, qh), scale)));
        }
    }
}

static ALWAYS_INLINE void tile_iq4_nl(const struct matmul_job *job,
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
        for (uint32_t b = 0; b < nb; b++, w += 16 * AVX2_ROWS) {
            __m256i sum[TILE_COLS];
            const int8_t *q[TILE_COLS];
            UNROLL
            for (int n = 0; n < nc; n++) {
                sum[n] = _mm256_setzero_si256();
                q[n] = a[n]->q;
            }
            block(w, _mm256_set1_epi16(1), q, nc, sum);
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

AVX2_KERNEL(QUANT_IQ4_NL, iq4_nl, "iq4_nl", ACT_Q8_0, NULL);

/* ---------------------------------------------------------------- IQ4_XS */

#define BLOCK (AVX2_ROWS * sizeof(struct block_iq4_xs))

/* 64 scales [j][row]: high two bits of each 16 in two bits of the first 16
 * bytes, then low nibbles of the first 32 and high ones of the others. */
static ALWAYS_INLINE void unpack_scales(const uint8_t *w, int8_t sc[64])
{
    const __m256i nibble = _mm256_set1_epi8(15), two = _mm256_set1_epi8(0x30);
    const __m128i h = _mm_loadu_si128((const void *)w);
    const __m256i low = load_256(w + 2 * AVX2_ROWS);
    const __m256i first =
        _mm256_set_m128i(_mm_slli_epi16(h, 2), _mm_slli_epi16(h, 4));
    const __m256i last = _mm256_set_m128i(_mm_srli_epi16(h, 2), h);
    const __m256i offset = _mm256_set1_epi8(32);
    _mm256_storeu_si256(
        (void *)sc,
        _mm256_sub_epi8(_mm256_or_si256(_mm256_and_si256(low, nibble),
                                        _mm256_and_si256(first, two)),
                        offset));
    _mm256_storeu_si256(
        (void *)(sc + 32),
        _mm256_sub_epi8(
            _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(low, 4), nibble),
                            _mm256_and_si256(last, two)),
            offset));
}

/* Eight int8 to sixteen int16, each twice. */
static ALWAYS_INLINE __m256i signed_twice(const int8_t *p)
{
    const __m128i x = _mm_loadl_epi64((const void *)p);
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(x, x));
}

static ALWAYS_INLINE void tile_iq4_xs(const struct matmul_job *job,
                                      const uint8_t *w, uint32_t row,
                                      uint32_t col, int nc)
{
    struct tile_stack stack = {.top = 0};
    const struct act_q8_k *a[TILE_COLS];
    for (int n = 0; n < nc; n++) a[n] = act_of(job, col + (uint32_t)n);
    for (uint32_t b = 0; b < job->tree->n_leaves; b++, w += BLOCK) {
        int8_t sc[64];
        unpack_scales(w + 2 * AVX2_ROWS, sc);
        __m256i sum[TILE_COLS];
        UNROLL
        for (int n = 0; n < nc; n++) sum[n] = _mm256_setzero_si256();
        for (int j = 0; j < 8; j++) {
            const int8_t *q[TILE_COLS];
            UNROLL
            for (int n = 0; n < nc; n++) q[n] = a[n]->q + 32 * j;
            block(w + (8 + 16 * j) * AVX2_ROWS, signed_twice(sc + 8 * j), q, nc,
                  sum);
        }
        const __m256 d = load_f16(w);
        __m256 leaf[TILE_COLS];
        UNROLL
        for (int n = 0; n < nc; n++) {
            leaf[n] = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[n]),
                                    _mm256_mul_ps(d, _mm256_set1_ps(a[n]->d)));
            a[n]++;
        }
        stack_push(&stack, job->tree->merges[b], leaf, nc);
    }
    stack_store(&stack, job, row, col, nc);
}

AVX2_KERNEL(QUANT_IQ4_XS, iq4_xs, "iq4_xs", ACT_Q8_K, NULL);

#endif

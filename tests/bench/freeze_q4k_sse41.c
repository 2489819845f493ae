/* freeze_q4k_sse41.c - Q4_K, eight rows as two halves of four. */
#include "tests/bench/freeze.h"

#ifdef __SSE4_1__
#include <smmintrin.h>

#define ROWS  8
#define TILE  4
#define BLOCK (ROWS * sizeof(struct block_q4_k))

struct scales {
    uint8_t sc[64], m[64];
};

static ALWAYS_INLINE void unpack_scales(const uint8_t *g, struct scales *s)
{
    const __m128i nib = _mm_set1_epi8(15), top = _mm_set1_epi8(0x30);
    UNROLL
    for (int v = 0; v < 32; v += 16) {
        const __m128i a0 = _mm_loadu_si128((const void *)(g + 32 + v));
        const __m128i a1 = _mm_loadu_si128((const void *)(g + 64 + v));
        const __m128i b = _mm_loadu_si128((const void *)(g + 96 + v));
        _mm_storeu_si128(
            (void *)(s->sc + v),
            _mm_or_si128(_mm_and_si128(a0, nib),
                         _mm_and_si128(_mm_slli_epi16(b, 4), top)));
        _mm_storeu_si128(
            (void *)(s->sc + 32 + v),
            _mm_or_si128(_mm_and_si128(a1, nib), _mm_and_si128(b, top)));
        _mm_storeu_si128(
            (void *)(s->m + v),
            _mm_or_si128(_mm_and_si128(_mm_srli_epi16(a0, 4), nib),
                         _mm_and_si128(_mm_slli_epi16(b, 2), top)));
        _mm_storeu_si128(
            (void *)(s->m + 32 + v),
            _mm_or_si128(_mm_and_si128(_mm_srli_epi16(a1, 4), nib),
                         _mm_and_si128(_mm_srli_epi16(b, 2), top)));
    }
}

/* Sub-blocks 2i and 2i + 1 of four rows, added to sum[] and mins[]. */
static ALWAYS_INLINE void pair(const uint8_t *g, const struct scales *s, int i,
                               int half, const struct act_q8_k *const *a,
                               int nc, __m128i *sum, __m128i *mins)
{
    const __m128i nib = _mm_set1_epi8(15);
    __m128i lo[TILE], hi[TILE];
    UNROLL
    for (int n = 0; n < nc; n++) lo[n] = hi[n] = _mm_setzero_si128();
    for (int c = 0; c < 8; c += 2) {
        const uint8_t *w = g + 128 + (8 * i + c) * 32 + 16 * half;
        __m128i l[2], h[2];
        UNROLL
        for (int v = 0; v < 2; v++) {
            const __m128i x = _mm_loadu_si128((const void *)(w + 32 * v));
            l[v] = _mm_and_si128(x, nib);
            h[v] = _mm_and_si128(_mm_srli_epi16(x, 4), nib);
        }
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 64 * i + 4 * c;
            const __m128i ql = _mm_loadl_epi64((const void *)q);
            const __m128i qh = _mm_loadl_epi64((const void *)(q + 32));
#define MAC(acc, w4, q16, v)                                                   \
    acc = _mm_add_epi16(                                                       \
        acc, _mm_maddubs_epi16((w4)[v], _mm_shuffle_epi32(q16, 0x55 * (v))))
            MAC(lo[n], l, ql, 0);
            MAC(hi[n], h, qh, 0);
            MAC(lo[n], l, ql, 1);
            MAC(hi[n], h, qh, 1);
#undef MAC
        }
    }
    const __m128i twice =
        _mm_setr_epi8(0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1);
    const uint8_t *sc = s->sc + 16 * i + 4 * half;
    const __m128i sl = _mm_shuffle_epi8(_mm_loadu_si32(sc), twice);
    const __m128i sh = _mm_shuffle_epi8(_mm_loadu_si32(sc + 8), twice);
    const __m128i m = _mm_cvtepu8_epi16(
        _mm_loadl_epi64((const void *)(s->m + 16 * i + 8 * half)));
    UNROLL
    for (int n = 0; n < nc; n++) {
        sum[n] =
            _mm_add_epi32(sum[n], _mm_add_epi32(_mm_madd_epi16(lo[n], sl),
                                                _mm_madd_epi16(hi[n], sh)));
        __m128i q = _mm_loadl_epi64((const void *)(a[n]->sum + 4 * i));
        q = _mm_shuffle_epi32(_mm_hadd_epi16(q, q), 0);
        mins[n] = _mm_add_epi32(mins[n], _mm_madd_epi16(m, q));
    }
}

/* Four f16 to f32, exactly: the magnitude moved into place has an exponent
 * 112 too small, and infinities and NaNs need all exponent bits. */
static ALWAYS_INLINE __m128 f16x4(const uint8_t *p)
{
    const __m128i h = _mm_cvtepu16_epi32(_mm_loadl_epi64((const void *)p));
    const __m128i mag = _mm_and_si128(h, _mm_set1_epi32(0x7fff));
    const __m128i top =
        _mm_and_si128(_mm_cmpgt_epi32(mag, _mm_set1_epi32(0x7bff)),
                      _mm_set1_epi32(0x7f800000));
    const __m128i sign = _mm_slli_epi32(_mm_xor_si128(h, mag), 16);
    const __m128 f = _mm_mul_ps(_mm_castsi128_ps(_mm_slli_epi32(mag, 13)),
                                _mm_set1_ps(0x1p112f));
    return _mm_or_ps(f, _mm_castsi128_ps(_mm_or_si128(sign, top)));
}

static ALWAYS_INLINE void tile(const struct matmul_job *job, const uint8_t *g,
                               uint32_t row, uint32_t col, int nc, bool defined)
{
    __m128 stack[NM_DEPTH_MAX][TILE][2], acc[TILE][2];
    UNROLL
    for (int n = 0; n < nc; n++) acc[n][0] = acc[n][1] = _mm_setzero_ps();
    uint32_t top = 0;
    for (uint32_t b = 0; b < job->k / 256; b++, g += BLOCK) {
        const struct act_q8_k *a[TILE];
        UNROLL
        for (int n = 0; n < nc; n++) {
            a[n] = (const struct act_q8_k *)act_of(job, col + (uint32_t)n) + b;
        }
        struct scales s;
        unpack_scales(g, &s);
        UNROLL
        for (int half = 0; half < 2; half++) {
            __m128i sum[TILE], mins[TILE];
            UNROLL
            for (int n = 0; n < nc; n++) sum[n] = mins[n] = _mm_setzero_si128();
            for (int i = 0; i < 4; i++) pair(g, &s, i, half, a, nc, sum, mins);
            const __m128 d = f16x4(g + 8 * half),
                         dmin = f16x4(g + 16 + 8 * half);
            UNROLL
            for (int n = 0; n < nc; n++) {
                const __m128 ad = _mm_set1_ps(a[n]->d);
                const __m128 plus =
                    _mm_mul_ps(_mm_cvtepi32_ps(sum[n]), _mm_mul_ps(d, ad));
                const __m128 minus =
                    _mm_mul_ps(_mm_cvtepi32_ps(mins[n]), _mm_mul_ps(dmin, ad));
                if (defined) {
                    acc[n][half] = _mm_sub_ps(plus, minus);
                } else {
                    acc[n][half] =
                        _mm_sub_ps(_mm_add_ps(acc[n][half], plus), minus);
                }
            }
        }
        if (!defined) continue;
        const uint32_t merges = job->tree->merges[b];
        for (uint32_t m = 1; m <= merges; m++) {
            UNROLL
            for (int n = 0; n < nc; n++) {
                acc[n][0] = _mm_add_ps(stack[top - m][n][0], acc[n][0]);
                acc[n][1] = _mm_add_ps(stack[top - m][n][1], acc[n][1]);
            }
        }
        UNROLL
        for (int n = 0; n < nc; n++) {
            stack[top - merges][n][0] = acc[n][0];
            stack[top - merges][n][1] = acc[n][1];
        }
        top += 1 - merges;
    }
    UNROLL
    for (int n = 0; n < nc; n++) {
        float *y = job->y + (col + (uint32_t)n) * job->y_stride + row;
        _mm_storeu_ps(y, defined ? stack[0][n][0] : acc[n][0]);
        _mm_storeu_ps(y + 4, defined ? stack[0][n][1] : acc[n][1]);
    }
}

static ALWAYS_INLINE void matmul(const struct matmul_job *job, bool defined)
{
    const size_t bytes = job->k / 256 * BLOCK;
    for (uint32_t g = job->group_first; g < job->group_end; g++) {
        const uint8_t *w = (const uint8_t *)job->w + g * bytes;
        uint32_t c = 0;
        for (; c + TILE <= job->n_cols; c += TILE) {
            tile(job, w, g * ROWS, c, TILE, defined);
        }
        for (; c < job->n_cols; c++) tile(job, w, g * ROWS, c, 1, defined);
    }
}

static void run_defined(const struct matmul_job *job)
{
    matmul(job, true);
}

static void run_free(const struct matmul_job *job)
{
    matmul(job, false);
}

static const struct freeze_proto proto = {"q4_k sse4.1", QUANT_Q4_K,  ROWS,
                                          TILE,          run_defined, run_free};
const struct freeze_proto *freeze_q4k_sse41(void)
{
    return &proto;
}
#else
const struct freeze_proto *freeze_q4k_sse41(void)
{
    return NULL;
}
#endif

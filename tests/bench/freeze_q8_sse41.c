/* freeze_q8_sse41.c - Q8_0, eight rows as two halves of four. */
#include "tests/bench/freeze.h"

#ifdef __SSE4_1__
#include <smmintrin.h>

#define ROWS 8
#define TILE 4

/* One block of 32 of four rows.  |w| <= 128 is unsigned, so that q with the
 * sign of w gives exact pair sums: 2 * 128 * 127 < 2^15. */
static ALWAYS_INLINE void
block(const uint8_t *w, const struct act_q8_0 *const *a, int nc, __m128i *sum)
{
    const __m128i ones = _mm_set1_epi16(1);
    UNROLL
    for (int n = 0; n < nc; n++) sum[n] = _mm_setzero_si128();
    UNROLL
    for (int c = 0; c < 8; c += 4) {
        __m128i x[4], u[4];
        UNROLL
        for (int v = 0; v < 4; v++) {
            x[v] = _mm_loadu_si128((const void *)(w + 32 * (c + v)));
            u[v] = _mm_abs_epi8(x[v]);
        }
        UNROLL
        for (int n = 0; n < nc; n++) {
            const __m128i q = _mm_loadu_si128((const void *)(a[n]->q + 4 * c));
#define MAC(v)                                                                 \
    sum[n] = _mm_add_epi32(                                                    \
        sum[n],                                                                \
        _mm_madd_epi16(                                                        \
            _mm_maddubs_epi16(                                                 \
                u[v], _mm_sign_epi8(_mm_shuffle_epi32(q, 0x55 * (v)), x[v])),  \
            ones))
            MAC(0);
            MAC(1);
            MAC(2);
            MAC(3);
#undef MAC
        }
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
    for (uint32_t l = 0; l < job->tree->n_leaves; l++) {
        const uint32_t left = job->k / 32 - 8 * l, nb = left < 8 ? left : 8;
        if (defined) { /* -0 + t is t, whatever t */
            UNROLL
            for (int n = 0; n < nc; n++) {
                acc[n][0] = acc[n][1] = _mm_set1_ps(-0.0f);
            }
        }
        const uint8_t *w = g + (size_t)nb * 2 * ROWS;
        for (uint32_t b = 0; b < nb; b++, w += 32 * ROWS) {
            const struct act_q8_0 *a[TILE];
            UNROLL
            for (int n = 0; n < nc; n++) {
                a[n] = (const struct act_q8_0 *)act_of(job, col + (uint32_t)n) +
                       8 * l + b;
            }
            UNROLL
            for (int half = 0; half < 2; half++) {
                __m128i sum[TILE];
                block(w + 16 * half, a, nc, sum);
                const __m128 d = f16x4(g + 2 * ROWS * b + 8 * (size_t)half);
                UNROLL
                for (int n = 0; n < nc; n++) {
                    acc[n][half] = _mm_add_ps(
                        acc[n][half],
                        _mm_mul_ps(_mm_cvtepi32_ps(sum[n]),
                                   _mm_mul_ps(d, _mm_set1_ps(a[n]->d))));
                }
            }
        }
        g = w;
        if (!defined) continue;
        const uint32_t merges = job->tree->merges[l];
        UNROLL
        for (int n = 0; n < nc; n++) {
            UNROLL
            for (int half = 0; half < 2; half++) {
                __m128 v = acc[n][half];
                for (uint32_t m = 1; m <= merges; m++) {
                    v = _mm_add_ps(stack[top - m][n][half], v);
                }
                stack[top - merges][n][half] = v;
            }
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
    const size_t bytes = job->k / 32 * sizeof(struct block_q8_0) * ROWS;
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

static const struct freeze_proto proto = {"q8_0 sse4.1", QUANT_Q8_0,  ROWS,
                                          TILE,          run_defined, run_free};
const struct freeze_proto *freeze_q8_sse41(void)
{
    return &proto;
}
#else
const struct freeze_proto *freeze_q8_sse41(void)
{
    return NULL;
}
#endif

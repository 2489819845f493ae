/* freeze_q8_vnni.c - Q8_0, sixteen rows, AVX-512 VNNI. */
#include "tests/bench/freeze.h"

#ifdef __AVX512VNNI__
#include <immintrin.h>
#include <string.h>

#define ROWS 16
#define TILE 8

static ALWAYS_INLINE int32_t load_i32(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static ALWAYS_INLINE void tile(const struct matmul_job *job, const uint8_t *g,
                               uint32_t row, uint32_t col, int nc, bool defined)
{
    /* w + 128 is unsigned; the sums start at -128 * (sum of q) */
    const __m512i offset = _mm512_set1_epi8(-128);
    __m512 stack[NM_DEPTH_MAX][TILE], acc[TILE];
    UNROLL
    for (int n = 0; n < nc; n++) acc[n] = _mm512_setzero_ps();
    uint32_t top = 0;
    for (uint32_t l = 0; l < job->tree->n_leaves; l++) {
        const uint32_t left = job->k / 32 - 8 * l, nb = left < 8 ? left : 8;
        if (defined) { /* -0 + t is t, whatever t */
            UNROLL
            for (int n = 0; n < nc; n++) acc[n] = _mm512_set1_ps(-0.0f);
        }
        const uint8_t *w = g + (size_t)nb * 2 * ROWS;
        for (uint32_t b = 0; b < nb; b++, w += 32 * ROWS) {
            const struct act_q8_0 *a[TILE];
            __m512i sum[TILE];
            UNROLL
            for (int n = 0; n < nc; n++) {
                a[n] = (const struct act_q8_0 *)act_of(job, col + (uint32_t)n) +
                       8 * l + b;
                sum[n] = _mm512_set1_epi32(a[n]->sum * -128);
            }
            UNROLL
            for (int c = 0; c < 8; c++) {
                const __m512i x =
                    _mm512_xor_si512(_mm512_loadu_si512(w + 64 * c), offset);
                UNROLL
                for (int n = 0; n < nc; n++) {
                    sum[n] = _mm512_dpbusd_epi32(
                        sum[n], x,
                        _mm512_set1_epi32(load_i32(a[n]->q + 4 * c)));
                }
            }
            const __m512 d = _mm512_cvtph_ps(
                _mm256_loadu_si256((const void *)(g + 2 * ROWS * b)));
            UNROLL
            for (int n = 0; n < nc; n++) {
                const __m512 s = _mm512_cvtepi32_ps(sum[n]);
                const __m512 da = _mm512_mul_ps(d, _mm512_set1_ps(a[n]->d));
                acc[n] = defined ? _mm512_add_ps(acc[n], _mm512_mul_ps(s, da))
                                 : _mm512_fmadd_ps(s, da, acc[n]);
            }
        }
        g = w;
        if (!defined) continue;
        const uint32_t merges = job->tree->merges[l];
        UNROLL
        for (int n = 0; n < nc; n++) {
            __m512 v = acc[n];
            for (uint32_t m = 1; m <= merges; m++) {
                v = _mm512_add_ps(stack[top - m][n], v);
            }
            stack[top - merges][n] = v;
        }
        top += 1 - merges;
    }
    UNROLL
    for (int n = 0; n < nc; n++) {
        _mm512_storeu_ps(job->y + (col + (uint32_t)n) * job->y_stride + row,
                         defined ? stack[0][n] : acc[n]);
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

static const struct freeze_proto proto = {"q8_0 vnni", QUANT_Q8_0,  ROWS,
                                          TILE,        run_defined, run_free};
const struct freeze_proto *freeze_q8_vnni(void)
{
    return &proto;
}
#else
const struct freeze_proto *freeze_q8_vnni(void)
{
    return NULL;
}
#endif

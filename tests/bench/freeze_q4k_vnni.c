/* freeze_q4k_vnni.c - Q4_K, sixteen rows, AVX-512 VNNI. */
#include "tests/bench/freeze.h"

#ifdef __AVX512VNNI__
#include <immintrin.h>
#include <string.h>

#define ROWS  16
#define TILE  8
#define BLOCK (ROWS * sizeof(struct block_q4_k))

struct scales {
    uint8_t sc[128], m[128];
};

static ALWAYS_INLINE void unpack_scales(const uint8_t *g, struct scales *s)
{
    const __m512i nib = _mm512_set1_epi8(15), top = _mm512_set1_epi8(0x30);
    const __m512i a0 = _mm512_loadu_si512(g + 64);
    const __m512i a1 = _mm512_loadu_si512(g + 128);
    const __m512i b = _mm512_loadu_si512(g + 192);
#define SIX(low, high)                                                         \
    _mm512_or_si512(_mm512_and_si512(low, nib), _mm512_and_si512(high, top))
    _mm512_storeu_si512(s->sc, SIX(a0, _mm512_slli_epi16(b, 4)));
    _mm512_storeu_si512(s->sc + 64, SIX(a1, b));
    _mm512_storeu_si512(s->m,
                        SIX(_mm512_srli_epi16(a0, 4), _mm512_slli_epi16(b, 2)));
    _mm512_storeu_si512(s->m + 64,
                        SIX(_mm512_srli_epi16(a1, 4), _mm512_srli_epi16(b, 2)));
#undef SIX
}

static ALWAYS_INLINE int32_t load_i32(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static ALWAYS_INLINE void pair(const uint8_t *g, const struct scales *s, int i,
                               const struct act_q8_k *const *a, int nc,
                               __m512i *sum, __m512i *mins)
{
    const __m512i nib = _mm512_set1_epi8(15);
    __m512i lo[TILE], hi[TILE];
    UNROLL
    for (int n = 0; n < nc; n++) lo[n] = hi[n] = _mm512_setzero_si512();
    UNROLL
    for (int c = 0; c < 8; c++) {
        const __m512i x = _mm512_loadu_si512(g + 256 + (8 * i + c) * 64);
        const __m512i l = _mm512_and_si512(x, nib);
        const __m512i h = _mm512_and_si512(_mm512_srli_epi16(x, 4), nib);
        UNROLL
        for (int n = 0; n < nc; n++) {
            const int8_t *q = a[n]->q + 64 * i + 4 * c;
            lo[n] =
                _mm512_dpbusd_epi32(lo[n], l, _mm512_set1_epi32(load_i32(q)));
            hi[n] = _mm512_dpbusd_epi32(hi[n], h,
                                        _mm512_set1_epi32(load_i32(q + 32)));
        }
    }
    const __m512i sl =
        _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(s->sc + 32 * i)));
    const __m512i sh = _mm512_cvtepu8_epi32(
        _mm_loadu_si128((const void *)(s->sc + 32 * i + 16)));
    const __m512i m =
        _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)(s->m + 32 * i)));
    UNROLL
    for (int n = 0; n < nc; n++) {
        sum[n] = _mm512_add_epi32(
            sum[n], _mm512_add_epi32(_mm512_mullo_epi32(lo[n], sl),
                                     _mm512_mullo_epi32(hi[n], sh)));
        __m128i q = _mm_loadl_epi64((const void *)(a[n]->sum + 4 * i));
        q = _mm_hadd_epi16(q, q);
        mins[n] = _mm512_dpwssd_epi32(mins[n], m, _mm512_broadcastd_epi32(q));
    }
}

static ALWAYS_INLINE __m512 f16x16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

static ALWAYS_INLINE void tile(const struct matmul_job *job, const uint8_t *g,
                               uint32_t row, uint32_t col, int nc, bool defined)
{
    __m512 stack[NM_DEPTH_MAX][TILE], acc[TILE];
    UNROLL
    for (int n = 0; n < nc; n++) acc[n] = _mm512_setzero_ps();
    uint32_t top = 0;
    for (uint32_t b = 0; b < job->k / 256; b++, g += BLOCK) {
        const struct act_q8_k *a[TILE];
        UNROLL
        for (int n = 0; n < nc; n++) {
            a[n] = (const struct act_q8_k *)act_of(job, col + (uint32_t)n) + b;
        }
        struct scales s;
        unpack_scales(g, &s);
        __m512i sum[TILE], mins[TILE];
        UNROLL
        for (int n = 0; n < nc; n++) sum[n] = mins[n] = _mm512_setzero_si512();
        UNROLL
        for (int i = 0; i < 4; i++) pair(g, &s, i, a, nc, sum, mins);
        const __m512 d = f16x16(g), dmin = f16x16(g + 32);
        const uint32_t merges = job->tree->merges[b];
        UNROLL
        for (int n = 0; n < nc; n++) {
            const __m512 ad = _mm512_set1_ps(a[n]->d);
            const __m512 s32 = _mm512_cvtepi32_ps(sum[n]);
            const __m512 m32 = _mm512_cvtepi32_ps(mins[n]);
            const __m512 da = _mm512_mul_ps(d, ad);
            const __m512 ma = _mm512_mul_ps(dmin, ad);
            if (defined) {
                __m512 v = _mm512_sub_ps(_mm512_mul_ps(s32, da),
                                         _mm512_mul_ps(m32, ma));
                for (uint32_t m = 1; m <= merges; m++) {
                    v = _mm512_add_ps(stack[top - m][n], v);
                }
                stack[top - merges][n] = v;
            } else {
                acc[n] = _mm512_fmadd_ps(s32, da, acc[n]);
                acc[n] = _mm512_fnmadd_ps(m32, ma, acc[n]);
            }
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

static const struct freeze_proto proto = {"q4_k vnni", QUANT_Q4_K,  ROWS,
                                          TILE,        run_defined, run_free};
const struct freeze_proto *freeze_q4k_vnni(void)
{
    return &proto;
}
#else
const struct freeze_proto *freeze_q4k_vnni(void)
{
    return NULL;
}
#endif

/* peak_128.h - the loop of peak_sse4.c and peak_avx.c: products of unsigned and
 * signed bytes, four of them added as int16, then widened and added: what
 * weights of four bits allow, and the cheapest that there is. */
#ifndef TESTS_BENCH_PEAK_128_H
#define TESTS_BENCH_PEAK_128_H

#include <stdint.h>
#include <tmmintrin.h>

/* The compiler may not know that nothing changes. */
#define KEEP(v) __asm__ volatile("" : "+x"(v))

static inline uint64_t peak_128(uint64_t n)
{
    __m128i a = _mm_set1_epi8(3), b = _mm_set1_epi8(5);
    const __m128i ones = _mm_set1_epi16(1);
    __m128i sum[4] = {_mm_setzero_si128(), _mm_setzero_si128(),
                      _mm_setzero_si128(), _mm_setzero_si128()};
    for (uint64_t i = 0; i < n; i++) {
        for (int j = 0; j < 4; j++) {
            KEEP(a);
            KEEP(b);
            __m128i p = _mm_maddubs_epi16(a, b);
            for (int k = 0; k < 3; k++) {
                KEEP(a);
                p = _mm_add_epi16(p, _mm_maddubs_epi16(a, b));
            }
            sum[j] = _mm_add_epi32(sum[j], _mm_madd_epi16(p, ones));
        }
    }
    for (int j = 0; j < 4; j++) KEEP(sum[j]);
    return n * 4 * 4 * 16;
}

#endif

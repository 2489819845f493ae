/* peak_128.h - the loop of peak_sse4.c and peak_avx.c: products of unsigned and
 * signed bytes, four of them added as int16, then widened and added: what
 * weights of four bits allow, and the cheapest that there is. */
#ifndef TESTS_BENCH_PEAK_128_H
#define TESTS_BENCH_PEAK_128_H

#include <stdint.h>
#include <tmmintrin.h>

/* The compiler may not know that nothing changes. */
#define KEEP(v) __asm__ volatile("" : "+x"(v))

static inline __m128i four_products(__m128i a, __m128i b)
{
    const __m128i p = _mm_maddubs_epi16(a, b);
    KEEP(a);
    const __m128i q = _mm_maddubs_epi16(a, b);
    KEEP(b);
    const __m128i r = _mm_maddubs_epi16(a, b);
    KEEP(a);
    const __m128i s = _mm_maddubs_epi16(a, b);
    return _mm_add_epi16(_mm_add_epi16(p, q), _mm_add_epi16(r, s));
}

static inline uint64_t peak_128(uint64_t n)
{
    __m128i a = _mm_set1_epi8(3), b = _mm_set1_epi8(5);
    const __m128i ones = _mm_set1_epi16(1);
    __m128i s0 = _mm_setzero_si128(), s1 = s0, s2 = s0, s3 = s0;
    for (uint64_t i = 0; i < n; i++) {
        s0 = _mm_add_epi32(s0, _mm_madd_epi16(four_products(a, b), ones));
        KEEP(a);
        s1 = _mm_add_epi32(s1, _mm_madd_epi16(four_products(a, b), ones));
        KEEP(b);
        s2 = _mm_add_epi32(s2, _mm_madd_epi16(four_products(a, b), ones));
        KEEP(a);
        s3 = _mm_add_epi32(s3, _mm_madd_epi16(four_products(a, b), ones));
        KEEP(b);
    }
    KEEP(s0);
    KEEP(s1);
    KEEP(s2);
    KEEP(s3);
    return n * 4 * 4 * 16;
}

#endif

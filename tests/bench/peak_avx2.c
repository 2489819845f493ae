/* As peak_128.h, twice as wide. */
#include "tests/bench/peak.h"

#if defined(__AVX2__)
#include <immintrin.h>

#define KEEP(v) __asm__ volatile("" : "+x"(v))

static inline __m256i four_products(__m256i a, __m256i b)
{
    const __m256i p = _mm256_maddubs_epi16(a, b);
    KEEP(a);
    const __m256i q = _mm256_maddubs_epi16(a, b);
    KEEP(b);
    const __m256i r = _mm256_maddubs_epi16(a, b);
    KEEP(a);
    const __m256i s = _mm256_maddubs_epi16(a, b);
    return _mm256_add_epi16(_mm256_add_epi16(p, q), _mm256_add_epi16(r, s));
}

uint64_t peak_avx2(uint64_t n)
{
    __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    for (uint64_t i = 0; i < n; i++) {
        s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(four_products(a, b), ones));
        KEEP(a);
        s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(four_products(a, b), ones));
        KEEP(b);
        s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(four_products(a, b), ones));
        KEEP(a);
        s3 = _mm256_add_epi32(s3, _mm256_madd_epi16(four_products(a, b), ones));
        KEEP(b);
    }
    KEEP(s0);
    KEEP(s1);
    KEEP(s2);
    KEEP(s3);
    return n * 4 * 4 * 32;
}
#else
uint64_t peak_avx2(uint64_t n)
{
    (void)n;
    return 0;
}
#endif

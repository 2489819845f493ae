/* As peak_128.h, twice as wide. */
#include "tests/bench/peak.h"

#if defined(__AVX2__)
#include <immintrin.h>

#define KEEP(v) __asm__ volatile("" : "+x"(v))

uint64_t peak_avx2(uint64_t n)
{
    __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(),
                      _mm256_setzero_si256(), _mm256_setzero_si256()};
    for (uint64_t i = 0; i < n; i++) {
        for (int j = 0; j < 4; j++) {
            KEEP(a);
            KEEP(b);
            __m256i p = _mm256_maddubs_epi16(a, b);
            for (int k = 0; k < 3; k++) {
                KEEP(a);
                p = _mm256_add_epi16(p, _mm256_maddubs_epi16(a, b));
            }
            sum[j] = _mm256_add_epi32(sum[j], _mm256_madd_epi16(p, ones));
        }
    }
    for (int j = 0; j < 4; j++) KEEP(sum[j]);
    return n * 4 * 4 * 32;
}
#else
uint64_t peak_avx2(uint64_t n)
{
    (void)n;
    return 0;
}
#endif

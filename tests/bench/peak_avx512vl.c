/* Chains of dpbusd, as many as hide how long one takes. */
#include "tests/bench/peak.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>

#define CHAINS  12
#define KEEP(v) __asm__ volatile("" : "+v"(v))

uint64_t peak_avx512vl(uint64_t n)
{
    const __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
    __m256i sum[CHAINS];
    for (int j = 0; j < CHAINS; j++) sum[j] = _mm256_setzero_si256();
    for (uint64_t i = 0; i < n; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < CHAINS; j++) {
            KEEP(sum[j]);
            sum[j] = _mm256_dpbusd_epi32(sum[j], a, b);
        }
    }
#pragma GCC unroll 12
    for (int j = 0; j < CHAINS; j++) KEEP(sum[j]);
    return n * CHAINS * 32;
}
#else
uint64_t peak_avx512vl(uint64_t n)
{
    (void)n;
    return 0;
}
#endif

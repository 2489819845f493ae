/* Chains of dpbusd, as many as hide how long one takes. */
#include "tests/bench/peak.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>

#define CHAINS  12
#define KEEP(v) __asm__ volatile("" : "+v"(v))

uint64_t peak_avx512vnni(uint64_t n)
{
    const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
    __m512i sum[CHAINS];
    for (int j = 0; j < CHAINS; j++) sum[j] = _mm512_setzero_si512();
    for (uint64_t i = 0; i < n; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < CHAINS; j++) {
            KEEP(sum[j]);
            sum[j] = _mm512_dpbusd_epi32(sum[j], a, b);
        }
    }
#pragma GCC unroll 12
    for (int j = 0; j < CHAINS; j++) KEEP(sum[j]);
    return n * CHAINS * 64;
}
#else
uint64_t peak_avx512vnni(uint64_t n)
{
    (void)n;
    return 0;
}
#endif

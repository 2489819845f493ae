/* Chains of dpbusd, as many as hide how long one takes. */
#include "tests/bench/peak.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>

#define KEEP(v) __asm__ volatile("" : "+v"(v))
#define ADD(s)                                                                 \
    do {                                                                       \
        KEEP(s);                                                               \
        (s) = _mm512_dpbusd_epi32((s), a, b);                                  \
    } while (0)

uint64_t peak_avx512vnni(uint64_t n)
{
    const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0, s4 = s0,
            s5 = s0, s6 = s0, s7 = s0, s8 = s0, s9 = s0, s10 = s0, s11 = s0;
    for (uint64_t i = 0; i < n; i++) {
        ADD(s0);
        ADD(s1);
        ADD(s2);
        ADD(s3);
        ADD(s4);
        ADD(s5);
        ADD(s6);
        ADD(s7);
        ADD(s8);
        ADD(s9);
        ADD(s10);
        ADD(s11);
    }
    KEEP(s0);
    KEEP(s1);
    KEEP(s2);
    KEEP(s3);
    KEEP(s4);
    KEEP(s5);
    KEEP(s6);
    KEEP(s7);
    KEEP(s8);
    KEEP(s9);
    KEEP(s10);
    KEEP(s11);
    return n * 12 * 64;
}
#else
uint64_t peak_avx512vnni(uint64_t n)
{
    (void)n;
    return 0;
}
#endif

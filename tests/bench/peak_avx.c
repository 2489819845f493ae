#include "tests/bench/peak.h"

#if defined(__AVX__)
#include "tests/bench/peak_128.h"

uint64_t peak_avx(uint64_t n)
{
    return peak_128(n);
}
#else
uint64_t peak_avx(uint64_t n)
{
    (void)n;
    return 0;
}
#endif

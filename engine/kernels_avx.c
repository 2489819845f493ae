/* kernels_avx.c - the kernels for AVX: 128-bit integers. */
#include "engine/kernels.h"

#ifdef __AVX__
#define LEVEL      ISA_AVX
#define LEVEL_NAME "avx"
#define LEVEL_BITS 128
#include "engine/pairs.h"

const struct kernel *kernels_avx(enum quant_type type)
{
    return pairs_kernel(type);
}
#else
const struct kernel *kernels_avx(enum quant_type type)
{
    (void)type;
    return NULL;
}
#endif

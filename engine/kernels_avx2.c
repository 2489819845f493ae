/* kernels_avx2.c - the kernels for AVX2. */
#include "engine/kernels.h"

#ifdef __AVX2__
#define LEVEL      ISA_AVX2
#define LEVEL_NAME "avx2"
#define LEVEL_BITS 256
#include "engine/pairs.h"

const struct kernel *kernels_avx2(enum quant_type type)
{
    return pairs_kernel(type);
}
#else
const struct kernel *kernels_avx2(enum quant_type type)
{
    (void)type;
    return NULL;
}
#endif

/* kernels_avx512vnni.c - the kernels for AVX-512 VNNI. */
#include "engine/kernels.h"

#ifdef __AVX512VNNI__
#define LEVEL      ISA_AVX512VNNI
#define LEVEL_NAME "avx512vnni"
#define LEVEL_BITS 512
#include "engine/quads.h"

const struct kernel *kernels_avx512vnni(enum quant_type type)
{
    return quads_kernel(type);
}
#else
const struct kernel *kernels_avx512vnni(enum quant_type type)
{
    (void)type;
    return NULL;
}
#endif

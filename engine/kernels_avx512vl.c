/* kernels_avx512vl.c - the kernels for 256-bit VNNI as AVX-512 VL encodes it.
 */
#include "engine/kernels.h"

#ifdef __AVX512VL__
#define LEVEL      ISA_AVXVNNI
#define LEVEL_NAME "avxvnni"
#define LEVEL_BITS 256
#include "engine/quads.h"

const struct kernel *kernels_avx512vl(enum quant_type type)
{
    return quads_kernel(type);
}
#else
const struct kernel *kernels_avx512vl(enum quant_type type)
{
    (void)type;
    return NULL;
}
#endif

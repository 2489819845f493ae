/* kernels_avxvnni.c - the kernels for AVX2 with AVX-VNNI. */
#include "engine/kernels.h"

#ifdef __AVXVNNI__
#define LEVEL      ISA_AVXVNNI
#define LEVEL_NAME "avxvnni"
#define LEVEL_BITS 256
#include "engine/quads.h"

const struct kernel *kernels_avxvnni(enum quant_type type)
{
    return quads_kernel(type);
}
#else
const struct kernel *kernels_avxvnni(enum quant_type type)
{
    (void)type;
    return NULL;
}
#endif

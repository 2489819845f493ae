/* kernels_neondotprod.c - the kernels for ARM's dot products of bytes. */
#include "engine/kernels.h"

#ifdef __ARM_FEATURE_DOTPROD
#define LEVEL      ISA_NEONDOTPROD
#define LEVEL_NAME "neondotprod"
#define LEVEL_BITS 128
#include "engine/quads.h"

const struct kernel *kernels_neondotprod(enum quant_type type)
{
    return quads_kernel(type);
}
#else
const struct kernel *kernels_neondotprod(enum quant_type type)
{
    (void)type;
    return NULL;
}
#endif

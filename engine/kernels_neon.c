/* kernels_neon.c - the kernels for any 64-bit ARM processor. */
#include "engine/kernels.h"

#ifdef __aarch64__
#define LEVEL      ISA_NEON
#define LEVEL_NAME "neon"
#define LEVEL_BITS 128
#include "engine/pairs.h"

const struct kernel *kernels_neon(enum quant_type type)
{
    return pairs_kernel(type);
}
#else
const struct kernel *kernels_neon(enum quant_type type)
{
    (void)type;
    return NULL;
}
#endif

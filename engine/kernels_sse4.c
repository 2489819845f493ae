/* kernels_sse4.c - the kernels for SSE4.1 with SSSE3. */
#include "engine/kernels.h"

#ifdef __SSE4_1__
#define LEVEL      ISA_SSE4
#define LEVEL_NAME "sse4"
#define LEVEL_BITS 128
#include "engine/pairs.h"

const struct kernel *kernels_sse4(enum quant_type type)
{
    return pairs_kernel(type);
}
#else
const struct kernel *kernels_sse4(enum quant_type type)
{
    (void)type;
    return NULL;
}
#endif

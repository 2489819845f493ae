#include "engine/kernels.h"

size_t kernel_group_bytes(const struct kernel *kernel, uint32_t k)
{
    const size_t row = (size_t)quant_row_bytes(kernel->type, k);
    return (row * kernel->rows + 63) / 64 * 64;
}

const struct kernel *kernel_select(enum quant_type type, enum isa isa)
{
    const struct kernel *best = NULL;
    if (isa >= ISA_AVX2) best = kernels_avx2(type);
    return best ? best : kernel_ref(type);
}

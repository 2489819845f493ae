#include "engine/kernels.h"

#include "engine/cpu.h"

size_t kernel_group_bytes(const struct kernel *kernel, uint32_t k)
{
    const size_t row = (size_t)quant_row_bytes(kernel->type, k);
    return (row * kernel->rows + 63) / 64 * 64;
}

const struct kernel *kernel_select(enum quant_type type, enum isa isa)
{
    const struct kernel *best = NULL;
    if (isa >= ISA_AVX512VNNI) best = kernels_avx512vnni(type);
    if (!best && isa >= ISA_AVXVNNI) {
        best =
            cpu_has_vex_vnni() ? kernels_avxvnni(type) : kernels_avx512vl(type);
    }
    if (!best && isa >= ISA_AVX2) best = kernels_avx2(type);
    if (!best && isa >= ISA_AVX) best = kernels_avx(type);
    if (!best && isa >= ISA_SSE4) best = kernels_sse4(type);
    return best ? best : kernel_ref(type);
}

#include "engine/kernels.h"

#include "engine/cpu.h"

size_t kernel_group_bytes(const struct kernel *kernel, uint32_t k)
{
    const size_t row = (size_t)quant_row_bytes(kernel->type, k);
    return (row * kernel->rows + 63) / 64 * 64;
}

static const struct kernel *select_arm(enum quant_type type, enum isa isa)
{
    const struct kernel *best = NULL;
    if (isa >= ISA_NEONDOTPROD) best = kernels_neondotprod(type);
    return best ? best : kernels_neon(type);
}

static const struct kernel *select_x86(enum quant_type type, enum isa isa)
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
    return best;
}

const struct kernel *kernel_select(enum quant_type type, enum isa isa)
{
    if (isa == ISA_REF) return kernel_ref(type);
    const bool arm = isa >= ISA_NEON;
    const struct kernel *best =
        arm ? select_arm(type, isa) : select_x86(type, isa);
    /* groups of SSE4 and NEON are alike */
    if (!best) {
        best = arm ? select_x86(type, ISA_SSE4) : select_arm(type, ISA_NEON);
    }
    return best ? best : kernel_ref(type);
}

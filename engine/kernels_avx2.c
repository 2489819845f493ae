/* kernels_avx2.c - the table of the AVX2 kernels. */
#include "engine/kernels_avx2.h"

#ifdef __AVX2__
const struct kernel *kernels_avx2(enum quant_type type)
{
    static const struct kernel *const kernels[QUANT_TYPE_END] = {
        [QUANT_F32] = &kernel_f32_avx2,
        [QUANT_F16] = &kernel_f16_avx2,
        [QUANT_BF16] = &kernel_bf16_avx2,
        [QUANT_Q8_0] = &kernel_q8_0_avx2,
        [QUANT_Q4_0] = &kernel_q4_0_avx2,
        [QUANT_Q4_1] = &kernel_q4_1_avx2,
        [QUANT_Q4_K] = &kernel_q4_k_avx2,
        [QUANT_Q6_K] = &kernel_q6_k_avx2,
        [QUANT_Q5_0] = &kernel_q5_0_avx2,
        [QUANT_Q5_1] = &kernel_q5_1_avx2,
        [QUANT_Q2_K] = &kernel_q2_k_avx2,
        [QUANT_Q3_K] = &kernel_q3_k_avx2,
        [QUANT_Q5_K] = &kernel_q5_k_avx2,
        [QUANT_IQ4_NL] = &kernel_iq4_nl_avx2,
        [QUANT_IQ4_XS] = &kernel_iq4_xs_avx2,
    };
    return type < QUANT_TYPE_END ? kernels[type] : NULL;
}
#else
const struct kernel *kernels_avx2(enum quant_type type)
{
    (void)type;
    return NULL;
}
#endif

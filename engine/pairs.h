/* pairs.h - every kernel of a level without VNNI or sdot (simd.h).
 *
 * The products of byte pairs are int16, and as many are added in int16 as
 * surely fit, before they become int32. */
#ifndef ENGINE_PAIRS_H
#define ENGINE_PAIRS_H

#ifdef LEVEL
#include "engine/lanes_float.h"
#include "engine/pairs_iq4.h"
#include "engine/pairs_q23k.h"
#include "engine/pairs_q4.h"
#include "engine/pairs_q4k.h"
#include "engine/pairs_q6k.h"
#include "engine/pairs_q8.h"

static const struct kernel *pairs_kernel(enum quant_type type)
{
    static const struct kernel *const kernels[QUANT_TYPE_END] = {
        [QUANT_F32] = &kernel_f32,       [QUANT_F16] = &kernel_f16,
        [QUANT_BF16] = &kernel_bf16,     [QUANT_Q8_0] = &kernel_q8_0,
        [QUANT_Q4_0] = &kernel_q4_0,     [QUANT_Q4_1] = &kernel_q4_1,
        [QUANT_Q5_0] = &kernel_q5_0,     [QUANT_Q5_1] = &kernel_q5_1,
        [QUANT_Q2_K] = &kernel_q2_k,     [QUANT_Q3_K] = &kernel_q3_k,
        [QUANT_Q4_K] = &kernel_q4_k,     [QUANT_Q5_K] = &kernel_q5_k,
        [QUANT_Q6_K] = &kernel_q6_k,     [QUANT_IQ4_NL] = &kernel_iq4_nl,
        [QUANT_IQ4_XS] = &kernel_iq4_xs,
    };
    return type < QUANT_TYPE_END ? kernels[type] : NULL;
}

#endif
#endif

/* quads.h - the kernels of a level with VNNI or sdot (simd.h).
 *
 * The products of four bytes become int32 at once.  One factor of VNNI is
 * unsigned: weights that are not get an offset (V_OFFSET8), which comes off
 * through the sums of the activations. */
#ifndef ENGINE_QUADS_H
#define ENGINE_QUADS_H

#ifdef LEVEL
#include "engine/quads_32.h"
#include "engine/quads_iq4xs.h"
#include "engine/quads_q2k.h"
#include "engine/quads_q4k.h"
#include "engine/quads_q6k.h"

static const struct kernel *quads_kernel(enum quant_type type)
{
    static const struct kernel *const kernels[QUANT_TYPE_END] = {
        [QUANT_Q8_0] = &kernel_q8_0,     [QUANT_Q4_0] = &kernel_q4_0,
        [QUANT_Q4_1] = &kernel_q4_1,     [QUANT_Q5_0] = &kernel_q5_0,
        [QUANT_Q5_1] = &kernel_q5_1,     [QUANT_Q2_K] = &kernel_q2_k,
        [QUANT_Q3_K] = &kernel_q3_k,     [QUANT_Q4_K] = &kernel_q4_k,
        [QUANT_Q5_K] = &kernel_q5_k,     [QUANT_Q6_K] = &kernel_q6_k,
        [QUANT_IQ4_NL] = &kernel_iq4_nl, [QUANT_IQ4_XS] = &kernel_iq4_xs,
    };
    return type < QUANT_TYPE_END ? kernels[type] : NULL;
}

#endif
#endif

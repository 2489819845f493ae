/* pairs_scales.h - the scales of 16 sub-blocks, for the kernels of pairs. */
#ifndef ENGINE_PAIRS_SCALES_H
#define ENGINE_PAIRS_SCALES_H

#include "engine/simd_scales.h"

#ifdef LEVEL

/* The scales of 16 sub-blocks as int16.  pairs[i]: those of sub-blocks 2i and
 * 2i + 1 side by side; twice[j]: each row's scale of sub-block j twice. */
struct scales_16 {
    vi twice[16], pairs[8];
};

/* From int8 [8][row][2]. */
static ALWAYS_INLINE void spread_scales(const int8_t *sc, struct scales_16 *s)
{
    static const int8_t order[16] = {0, 1, 0, 1, 4,  5,  4,  5,
                                     8, 9, 8, 9, 12, 13, 12, 13};
    const vi even = v_lanes(order), odd = v_add8(even, v_set8(2));
    UNROLL
    for (int i = 0; i < 8; i++) {
        s->pairs[i] = v_i8_to_16(sc + 2 * V_ROWS * i);
        s->twice[2 * i] = v_shuffle8(s->pairs[i], even);
        s->twice[2 * i + 1] = v_shuffle8(s->pairs[i], odd);
    }
}

#endif
#endif

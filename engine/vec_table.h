/* vec_table.h - the table of one instruction set, from the code that is
 * written once for every width.
 *
 * Depends on: vec.  Thread: any.  A file vec_LEVEL.c is compiled for its
 * instruction set, includes this and says VEC_TABLE(level). */
#ifndef ENGINE_VEC_TABLE_H
#define ENGINE_VEC_TABLE_H

#include "engine/vec_act.h"
#include "engine/vec_attention.h"
#include "engine/vec_functions.h"

#define VEC_TABLE(level)                                                       \
    const struct vec_ops *vec_ops_##level(void)                                \
    {                                                                          \
        static const struct vec_ops ops = {                                    \
            .name = #level,                                                    \
            .keys = {keys_f32, keys_f16, keys_q8_0},                           \
            .values = {values_f32, values_f16, values_q8_0},                   \
            .dots = dots,                                                      \
            .dots_q8_0 = dots_q8_0,                                            \
            .softmax = softmax,                                                \
            .add_values = add_values,                                          \
            .merge = merge,                                                    \
            .scale = scale,                                                    \
            .add = add,                                                        \
            .silu_mul = silu_mul,                                              \
            .gelu_mul = gelu_mul,                                              \
            .soft_cap = soft_cap,                                              \
            .exp_row = exp_row,                                                \
            .rmsnorm = rmsnorm,                                                \
            .rope_halves = rope_halves,                                        \
            .rope_pairs = rope_pairs,                                          \
            .largest = largest,                                                \
            .sum_lanes = sum_lanes,                                            \
            .all_finite = all_finite,                                          \
            .to_f16 = to_f16,                                                  \
            .act_quantize = quantize,                                          \
        };                                                                     \
        return &ops;                                                           \
    }

#endif

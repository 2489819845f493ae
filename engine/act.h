/* act.h - activations in the form that a weight type's kernels want.
 *
 * Depends on: numerics.  Thread: any.
 *
 * A vector of k activations becomes a row of act_row_bytes(kind, k) bytes:
 *   ACT_F32   k floats, zero-padded to a multiple of 8
 *   ACT_Q8_0  k / 32 blocks of 32
 *   ACT_Q8_K  k / 256 blocks of 256
 * Rows are 64-byte aligned (act_row_bytes is a multiple of 64). */
#ifndef ENGINE_ACT_H
#define ENGINE_ACT_H

#include <stddef.h>
#include <stdint.h>

#include "engine/quant.h"

enum act_kind { ACT_F32, ACT_Q8_0, ACT_Q8_K, ACT_KIND_END };

/* x = d * q.  sum = q[0] + ... + q[31], for types with a minimum or an
 * offset. */
struct act_q8_0 {
    float d;
    int32_t sum;
    int8_t q[32];
};
_Static_assert(sizeof(struct act_q8_0) == 40, "no padding");

/* x = d * q.  sum[j] = q[16j] + ... + q[16j + 15]. */
struct act_q8_k {
    float d;
    int8_t q[256];
    int16_t sum[16];
};
_Static_assert(sizeof(struct act_q8_k) == 292, "no padding");

/* What the kernels of a weight type take. */
enum act_kind act_kind_of(enum quant_type type);
size_t act_row_bytes(enum act_kind kind, uint32_t k);

/* NUMERICS 3: d = amax / 127, q = rint(x * (127 / amax)), ties to even.
 * amax below 2^-100 gives d = 0, q = 0; a NaN or infinity in the block gives
 * d = NaN, q = 0, so it surfaces in the result.  row: act_row_bytes. */
void act_quantize(enum act_kind kind, const float *x, uint32_t k, void *row);

#endif

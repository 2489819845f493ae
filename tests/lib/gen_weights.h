/* gen_weights.h - the bytes of a generated model's tensors, row by row.
 *
 * Depends on: mem, quant, rng, gen_model.  Thread: its owner's. */
#ifndef TESTS_LIB_GEN_WEIGHTS_H
#define TESTS_LIB_GEN_WEIGHTS_H

#include "tests/lib/gen_model.h"

struct gen_weights;

/* m is borrowed until the free.  ST_NO_MEMORY. */
NODISCARD enum status gen_weights_create(struct gen_weights **out,
                                         const struct gen_model *m,
                                         struct error *err);
void gen_weights_free(struct gen_weights *w); /* NULL allowed */

uint64_t gen_tensor_rows(const struct gen_tensor *t);
uint64_t gen_tensor_bytes(const struct gen_tensor *t);

/* Rows [first, first + n) of a tensor, canonical GGUF bytes, n *
 * quant_row_bytes(t->type, t->ne[0]) of them; rows of a third dimension count
 * on.  ST_NO_MEMORY. */
NODISCARD enum status gen_weights_rows(struct gen_weights *w,
                                       const struct gen_tensor *t,
                                       uint64_t first, uint64_t n, void *dst,
                                       struct error *err);

#endif

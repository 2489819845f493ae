/* moe.h - which experts a token goes to.
 *
 * Depends on: numerics.  Thread: any.  Formula: docs/NUMERICS.md 9. */
#ifndef ENGINE_MOE_H
#define ENGINE_MOE_H

#include <stdbool.h>
#include <stdint.h>

/* The n_used experts of largest logit, ties to the lower index, in ascending
 * index, with their weights. normalised: the weights of the chosen add up to
 * one (Mixtral); else they are shares of all n_expert. */
void moe_select(const float *logits, uint32_t n_expert, uint32_t n_used,
                bool normalised, uint32_t *ids, float *weights);

#endif

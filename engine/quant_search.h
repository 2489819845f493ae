/* quant_search.h - quantizing for files: scales that lose least.
 *
 * Depends on: quant.  Thread: any; no state. */
#ifndef ENGINE_QUANT_SEARCH_H
#define ENGINE_QUANT_SEARCH_H

#include "engine/quant.h"

/* Largest magnitude that every type but F32 and BF16 stores (f16 scales). */
#define QUANT_SEARCH_MAX 65504.0f

/* k weights of one row, all finite and, unless the type is F32 or BF16, up to
 * QUANT_SEARCH_MAX, k a multiple of the type's block.  Minimises the squared
 * error, large weights counting more; floats and Q8_0 are rounded plainly, as
 * quant_quantize_row does.  The same input gives the same bytes anywhere. */
void quant_search_row(enum quant_type type, const float *src, void *dst,
                      uint64_t k);

#endif

/* naive.h - the plainest forward pass of every architecture, in f64.
 *
 * Depends on: mem, gguf, quant.  Thread: its owner's.
 *
 * It shares no arithmetic with the engine and shows no care for speed: a
 * second opinion between the engine and llama.cpp, a way to look inside
 * (router margins), and a way to be wrong on purpose, to show that recorded
 * answers notice.  Weights are dequantized; activations are not quantized,
 * unless one asks for it to see what that does. */
#ifndef TESTS_LIB_NAIVE_H
#define TESTS_LIB_NAIVE_H

#include "engine/gguf.h"

enum naive_mistake {
    NAIVE_RIGHT,
    NAIVE_SWAP_EXPERTS, /* experts 0 and 1 change places, the router not */
    NAIVE_RAW_WEIGHTS,  /* softmax over all experts, not renormalised    */
    NAIVE_TOP_1,        /* only the first expert                         */
    NAIVE_NO_FACTORS,   /* rope_freqs ignored                            */
    NAIVE_HALF_ROPE     /* pairs (i, i + n/2) instead of (2i, 2i + 1)    */
};

/* What becomes of the vector that a quantized matrix is multiplied with. */
enum naive_rounding {
    NAIVE_EXACT,      /* nothing                                          */
    NAIVE_BLOCKS,     /* 8 bits a value, an f32 scale a block (NUMERICS 3) */
    NAIVE_BLOCKS_F16, /* the scale of 32-blocks in f16, as in llama.cpp    */
    NAIVE_ROUNDING_END
};

struct naive;

/* n_ctx: positions to keep.  ST_UNSUPPORTED: unknown types. */
NODISCARD enum status naive_create(struct naive **out, const struct gguf *g,
                                   uint32_t n_ctx, struct error *err);
void naive_free(struct naive *n); /* NULL allowed */

/* From the next naive_eval on; NAIVE_EXACT until then. */
void naive_round(struct naive *n, enum naive_rounding rounding);

uint32_t naive_n_vocab(const struct naive *n);

/* The token at position pos (< n_ctx), after those at 0 .. pos - 1 of earlier
 * calls; a position may be tried again with another token.  logits:
 * [n_vocab].  margin (may be NULL): by how much the router's logit of the
 * last expert chosen leads that of the first not chosen, the least of all
 * layers; 1 for dense models.  token must be below n_vocab. */
void naive_eval(struct naive *n, uint32_t pos, uint32_t token,
                enum naive_mistake mistake, float *logits, double *margin);

#endif

/* sample.h - from the head's candidates to the next token.
 *
 * Depends on: head, rng.  Thread: its owner's.
 *
 * Order: penalties and logit bias (in the head), temperature, top-k, typical,
 * top-p, min-p, draw; each cut works on what the one before left, shares
 * renormalised.  Token n of a request depends on its seed and n alone, so a
 * request can go on on another machine.  The 64 best candidates decide exactly
 * whenever the cuts end within them; otherwise sample_next asks for the row. */
#ifndef ENGINE_SAMPLE_H
#define ENGINE_SAMPLE_H

#include "common/mem.h"
#include "engine/head.h"

#define SAMPLE_LAST_MAX 512 /* tokens that penalties look back on */

struct sample_params {
    float temperature;                 /* 0: greedy */
    uint32_t top_k;                    /* 0: off */
    float top_p, min_p;                /* 1, 0: off */
    float typical_p;                   /* 1: off */
    float repeat, frequency, presence; /* 1, 0, 0: off */
    uint32_t repeat_last_n;            /* tokens the penalties look back on */
    const struct head_adjust *bias;    /* borrowed for the sampler's life */
    uint32_t n_bias;
    uint64_t seed;
};

/* temperature 0.8, top-k 40, top-p 0.95, the rest off. */
struct sample_params sample_defaults(void);
/* ST_USAGE names the parameter that is out of range. */
NODISCARD enum status sample_check(const struct sample_params *p,
                                   struct error *err);

struct sampler;
NODISCARD enum status sampler_create(struct sampler **out,
                                     const struct sample_params *p,
                                     uint32_t n_vocab, struct error *err);
void sampler_free(struct sampler *s); /* NULL allowed */

/* A token that penalties should know: of the prompt, or generated. */
void sampler_accept(struct sampler *s, int32_t id);
/* What the head is to do for token n; pointers valid until sampler_accept. */
struct head_params sampler_head(struct sampler *s, uint64_t n);

/* ST_OK: *id.  ST_NOT_FOUND: the candidates do not decide it; call again with
 * row, the model's n_vocab logits (penalties are applied here again).
 * ST_INVALID: every token is banned. */
NODISCARD enum status sample_next(struct sampler *s, uint64_t n,
                                  const struct head_result *head,
                                  const float *row, int32_t *id,
                                  struct error *err);

#endif

/* session.h - one prompt on its way to an answer: samples and spells tokens.
 *
 * Depends on: sample, tokenizer, pool.h (request), proto/wire (samples).
 * Thread: loop.  Pure: sees neither steps nor sockets. */
#ifndef COORDINATOR_SESSION_H
#define COORDINATOR_SESSION_H

#include "coordinator/pool.h"

struct session;

/* The prompt is copied.  ST_USAGE names a parameter that is out of range. */
NODISCARD enum status session_create(struct session **out,
                                     const struct pool_request *r,
                                     const struct tokenizer *t,
                                     uint32_t n_vocab, struct error *err);
void session_free(struct session *s); /* NULL allowed */

const int32_t *session_prompt(const struct session *s, uint32_t *n);
uint32_t session_n_max(const struct session *s);
uint32_t session_n_generated(const struct session *s);

/* What the head is to do for the next token; the lists are valid until the
 * session is called again. */
void session_sample(struct session *s, struct wire_sample *out);

enum session_next {
    SESSION_GOES_ON, /* with *id as the next row */
    SESSION_STOP,    /* *id ends the answer */
    SESSION_LENGTH,  /* *id was the last one allowed */
    SESSION_AGAIN,   /* the candidates do not decide it: the same row again,
                        whose sample now asks for all logits */
    SESSION_BROKEN   /* err: what came makes no sense, or no memory */
};
/* row: [n_vocab] or NULL.  n_ctx: positions of a sequence.  *text: characters
 * that became certain (those of the answer's end too), valid until the next
 * call. */
enum session_next session_take(struct session *s, const struct head_result *h,
                               const float *row, uint32_t n_ctx, int32_t *id,
                               const char **text, size_t *n_text,
                               struct error *err);

#endif

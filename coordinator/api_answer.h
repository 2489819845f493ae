/* api_answer.h - the JSON of an answer, as /v1/completions and
 * /v1/chat/completions write it, whole and in chunks.
 *
 * Depends on: pool.h (usage), api_text.  Thread: any.
 *
 * An object is answer_head, then answer_choice, what else belongs to the
 * choice, "}]", then answer_usage and answer_timings, "}". */
#ifndef COORDINATOR_API_ANSWER_H
#define COORDINATOR_API_ANSWER_H

#include "coordinator/pool.h"

struct answer_shape {
    const char *id, *model; /* borrowed */
    uint64_t created;       /* Unix seconds */
    bool chat, stream;
};

/* {"id":..., "object":..., "created":..., "model":... */
NODISCARD enum status answer_head(struct buf *b, const struct answer_shape *s);
/* ,"choices":[{...; open for token ids and logits.  reason NULL: not the end.
 */
NODISCARD enum status answer_choice(struct buf *b, const struct answer_shape *s,
                                    const char *text, size_t n,
                                    const char *reason);
/* The first choice of a chat's stream: who speaks. */
NODISCARD enum status answer_role(struct buf *b);
/* ,"token_ids":[...] */
NODISCARD enum status answer_ids(struct buf *b, const int32_t *id, size_t n);
/* ,"logits":"..." in base64 */
NODISCARD enum status answer_logits(struct buf *b, const float *logits,
                                    uint32_t n);
NODISCARD enum status answer_usage(struct buf *b, const struct pool_usage *u);
NODISCARD enum status answer_timings(struct buf *b, const struct pool_usage *u);

#endif

/* perplexity.h - how well a model predicts a text.
 *
 * Depends on: runner.  Thread: its runner's owner. */
#ifndef ENGINE_PERPLEXITY_H
#define ENGINE_PERPLEXITY_H

#include "engine/runner.h"

struct perplexity {
    double nll;      /* sum of -ln p */
    uint64_t scored; /* tokens; nll / scored is the mean, exp() of it the
                        perplexity */
};

/* The text is cut into windows of the context's length; each begins with BOS
 * (as the file says), and every token in it is predicted from those before it.
 * Sequence 0 of the runner must be free, and its shard's outputs_max be
 * rows_max.  progress: as shard_options.progress, in tokens; NULL allowed.
 *
 * ST_USAGE: a context of one position; ST_INVALID: nothing to predict;
 * ST_NUMERIC: a logit is not finite; ST_INTERRUPTED: progress said so. */
NODISCARD enum status
perplexity_score(struct runner *r, const int32_t *text, size_t n,
                 bool (*progress)(void *arg, uint64_t done, uint64_t total),
                 void *arg, struct perplexity *out, struct error *err);

#endif

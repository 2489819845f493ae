/* conform.h - how far our answers are from a recorded distribution.
 *
 * Depends on: oracle, runner.  Thread: its owner's. */
#ifndef TESTS_LIB_CONFORM_H
#define TESTS_LIB_CONFORM_H

#include "engine/runner.h"
#include "tests/lib/oracle.h"

#define CONFORM_TOP_MAX 256 /* tokens of a record's row */

struct conform {
    double mean_kl, max_kl; /* over the positions, nats */
    uint32_t n;             /* positions                */
};

/* KL divergence of our logits [n_vocab] from a record's row: the recorded
 * tokens one by one, all others as one.  That is a lower bound of the whole,
 * and near it: the others have little mass.  INFINITY: the row names a token
 * that we do not have, or a logit is no number. */
double conform_kl(const struct oracle_row *row, const float *logits,
                  uint32_t n_vocab);

/* KL divergence of q from p, both rows of the same tokens in the same order,
 * and what is left. */
double conform_between(const struct oracle_row *p, const struct oracle_row *q);
/* The row of logits [n_vocab] for the tokens of `like`, into out->top [like->n]
 * and out->rest.  False: a token is not ours. */
bool conform_row(struct oracle_row *out, const struct oracle_row *like,
                 const float *logits, uint32_t n_vocab);

/* Changes a model's description before it is loaded. */
typedef void conform_change(struct model *m);

/* Feed a record's tokens to a model, f32 KV cache.  change may be NULL. */
NODISCARD enum status conform_run(struct conform *out, const char *model_path,
                                  uint32_t n_vocab, const struct oracle *o,
                                  conform_change *change, struct error *err);
/* The same, each position's logits to `row`. */
NODISCARD enum status conform_rows(const char *model_path,
                                   const struct oracle *o,
                                   conform_change *change, runner_row_fn *row,
                                   void *arg, struct error *err);

#endif

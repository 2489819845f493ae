/* step.h - one forward pass over any mix of rows, on any shard of a model.
 *
 * Depends on: shard.  Thread: compute, one at a time per shard.
 *
 * A row is one token of one sequence at one position; prefill and decode rows
 * of any sequences mix freely.  A step is a list of operations (embedding,
 * blocks of a layer range, head) run by an executor that can be left and
 * taken up again: where experts of other shards are needed it hands out the
 * parts to compute and does other things meanwhile.
 *
 *   step_begin -> step_run -> DONE: step_x, step_logits
 *                    |  ^
 *                    v  |  DISPATCH: send step_parts away, run on at once
 *                          WAIT: nothing left to do before a part is supplied
 *
 * No memory is allocated between step_begin and DONE.  Each result is
 * the same bits whatever else rides in the step. */
#ifndef ENGINE_STEP_H
#define ENGINE_STEP_H

#include "engine/shard.h"

#define STEP_ROWS_MAX 4096

struct step_row {
    uint64_t seq;
    uint32_t pos;  /* continues the sequence; 0 begins it */
    int32_t token; /* where the shard embeds */
    bool want;     /* logits of this row, where the shard has the head */
};

struct step_input {
    const struct kv_op *ops; /* applied first, in order */
    uint32_t n_ops;
    const struct step_row *rows; /* of a sequence: ascending positions */
    uint32_t n_rows;             /* 0: only the operations */
    const float *x; /* [n_rows][n_embd] from the stage before, unless embed */
    bool embed;
    uint32_t layer_first, layer_end; /* blocks to run; may be empty */
    bool head;
    bool again; /* a later visit of the same step to this shard: its KV
                   operations and positions are there already */
};

/* An expert that this shard does not hold: y = E(x), row by row. */
struct step_part {
    uint32_t layer, expert, n_rows;
    const float *x; /* [n_rows][n_embd] */
    float *y;       /* [n_rows][n_embd], to be filled */
    bool supplied;
};

enum step_state { STEP_DONE, STEP_DISPATCH, STEP_WAIT, STEP_PAUSED };

struct step;

/* Bytes that step_create takes. */
uint64_t step_bytes(const struct model *m, const struct shard_options *o);

/* The shard must outlive the step. */
NODISCARD enum status step_create(struct step **out, struct shard *s,
                                  struct error *err);
void step_free(struct step *st); /* NULL allowed */

/* ST_INVALID: rows or ranges that this shard cannot run (named); ST_FULL: no
 * KV pages; the operations in `ops` then stand, the rows leave no trace.
 * The input's arrays are copied or, for x, read before it returns. */
NODISCARD enum status step_begin(struct step *st, const struct step_input *in,
                                 struct error *err);
enum step_state step_run(struct step *st);
/* The same, but PAUSED before the attention of layer `limit` or a later one:
 * a step must not read keys and values that an earlier step, which waits for
 * parts at a lower layer, has yet to store. */
enum step_state step_run_to(struct step *st, uint32_t limit);
/* The layer that it is at; its keys and values are stored while WAIT. */
uint32_t step_layer(const struct step *st);

/* Parts that wait for others, while DISPATCH or WAIT. */
struct step_part *step_parts(struct step *st, uint32_t *n);
/* Fill part i: y [n_rows][n_embd] is copied.  ST_INVALID: no such part, or
 * supplied before. */
NODISCARD enum status step_supply(struct step *st, uint32_t i, const float *y);

/* Give up a step that waits for a part that will not come.  Its rows stay in
 * the cache until truncated or freed. */
void step_cancel(struct step *st);

/* After DONE: the rows for the next stage, [n_rows][n_embd]. */
const float *step_x(const struct step *st);
/* After DONE with head: the n-th wanted row, [vocab_end - vocab_first]. */
float *step_logits(struct step *st, uint32_t n);

/* Bytes of experts' weights that all its steps have multiplied with: in a step
 * each expert once, however many rows go to it. */
uint64_t step_expert_bytes(const struct step *st);

/* Serve another shard: y = E(x) for n_rows <= rows_max rows. Not between
 * step_begin and DONE of the same struct step.  ST_INVALID if the expert is
 * not here. */
NODISCARD enum status step_expert(struct step *st, uint32_t layer,
                                  uint32_t expert, uint32_t n_rows,
                                  const float *x, float *y, struct error *err);

#endif

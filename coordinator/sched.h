/* sched.h - which rows go into the next step.
 *
 * Depends on: engine/step.h (rows).  Thread: loop.  Pure: now_ns in.
 *
 * Requests queue until their pages (prompt + max_tokens) are free on every
 * stage; a running request never fails for memory.  Several steps are in
 * flight, so that every stage of the pipeline has work: running decodes are
 * spread evenly over the steps in flight, prompts go in chunks, several
 * chunks of one prompt one behind the other.  First come, first served; a
 * decode row never waits for more than the chunk in front of it.
 *
 * Invariants (sched_check):
 *  (1) pages of running requests <= n_pages; sequences <= n_seq_max.
 *  (2) steps in flight <= n_steps; each row in flight belongs to one request.
 *  (3) rows of a sequence go out in ascending positions, a decode row only
 *      after the token before it is known.
 *  (4) every sequence that was started is freed once, in a step or by the
 *      end of the epoch. */
#ifndef COORDINATOR_SCHED_H
#define COORDINATOR_SCHED_H

#include "engine/step.h"

struct sched_config {
    uint32_t n_pages, n_ctx, n_seq_max;
    uint32_t rows_max, outputs_max; /* of a step */
    uint32_t n_steps;               /* in flight */
    uint32_t queue_max;
    uint64_t first_step; /* for sched_create: steps count up from here; 0: 1 */
};

struct sched;
NODISCARD enum status sched_create(struct sched **out,
                                   const struct sched_config *c,
                                   struct error *err);
void sched_free(struct sched *s);

/* request: any unique number; it is also the sequence's id on the workers, so
 * never reused across boots.  The prompt is copied. ST_TOO_LARGE: it can
 * never fit (names tokens and limit); ST_FULL: queue_max requests wait. */
NODISCARD enum status sched_submit(struct sched *s, uint64_t request,
                                   const int32_t *prompt, uint32_t n_prompt,
                                   uint32_t max_tokens, struct error *err);
/* At any time; the sequence is freed on every stage by the next step, rows in
 * flight are ignored when they come.  Unknown: no effect. */
void sched_cancel(struct sched *s, uint64_t request);

struct sched_step {
    uint64_t step; /* counts up from the first of config; never reused */
    const struct kv_op *ops;
    uint32_t n_ops;
    const struct step_row *rows; /* .seq is the request */
    uint32_t n_rows, n_want;
    uint64_t deadline_ns;
};
/* The next step to send, if a credit is free and there is work.  A step with
 * operations only (freeing) has no rows and is sent too.  Pointers valid
 * until the next call.  now_ns + predicted_ns * 10 + 5 s is its deadline;
 * predicted_ns(n_rows) comes from the plan. */
bool sched_next(struct sched *s, uint64_t now_ns,
                uint64_t (*predicted_ns)(void *arg, uint32_t n_rows), void *arg,
                struct sched_step *out);

/* The step's result is there.  For each wanted row of a live request, in
 * order, row(arg, request, i): i counts the wanted rows of the step (those of
 * cancelled requests too). The caller then says sched_token or sched_end. A
 * step that is not in flight (old, twice) is ignored: false. */
bool sched_done(struct sched *s, uint64_t step,
                void (*row)(void *arg, uint64_t request, uint32_t i),
                void *arg);
/* The step will not be done: its requests are over (freed on every stage by
 * the next step); lost is told each of those that still ran, once. */
bool sched_failed(struct sched *s, uint64_t step,
                  void (*lost)(void *arg, uint64_t request), void *arg);
/* From row(): that row once more, in a later step (its position is truncated
 * away first), instead of a token. */
void sched_again(struct sched *s, uint64_t request);
/* The token after that row; the request goes on. */
void sched_token(struct sched *s, uint64_t request, int32_t token);
/* The request is complete: freed on every stage by the next step. */
void sched_end(struct sched *s, uint64_t request);

/* A step over its deadline: its number, or 0. */
uint64_t sched_overdue(const struct sched *s, uint64_t now_ns);
uint64_t sched_deadline(const struct sched *s); /* UINT64_MAX: none */
/* The number that the next step will have. */
uint64_t sched_next_step(const struct sched *s);

/* The epoch ended: every request, running or waiting; then it is empty and
 * can be configured anew. Waiting ones may be submitted again. */
NODISCARD enum status sched_reset(struct sched *s, const struct sched_config *c,
                                  void (*lost)(void *arg, uint64_t request,
                                               bool running),
                                  void *arg, struct error *err);

struct sched_counts {
    uint32_t waiting, running, in_flight, free_pages;
};
struct sched_counts sched_counts(const struct sched *s);
/* Requests in front of it; 0: it runs; UINT32_MAX: unknown. */
uint32_t sched_position(const struct sched *s, uint64_t request);
bool sched_check(const struct sched *s);

#endif

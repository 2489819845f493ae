/* result.h - what a step that ended in logits tells the coordinator.
 *
 * Depends on: engine, proto/wire (the message).  Thread: compute. */
#ifndef WORKER_RESULT_H
#define WORKER_RESULT_H

#include "engine/head.h"
#include "engine/step.h"
#include "proto/wire.h"

/* The best of each row that wants logits, to out->rows [s->n_want], and copies
 * of the rows that were asked for whole: *whole [out->n_whole][head rows] is
 * the caller's (mem_free), also after an error; NULL if none was.  part:
 * scratch.  ST_NUMERIC: a logit is not finite; ST_NO_MEMORY. */
NODISCARD enum status result_scan(struct wire_result *out, struct step *step,
                                  const struct shard *shard,
                                  const struct wire_step *s,
                                  struct head_part *part, float **whole,
                                  size_t *whole_bytes, struct error *err);

#endif

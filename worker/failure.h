/* failure.h - what a worker says in place of what it cannot do.
 *
 * Depends on: proto/wire (the message).  Thread: any; no state. */
#ifndef WORKER_FAILURE_H
#define WORKER_FAILURE_H

#include "proto/wire.h"

/* kind: WIRE_FAILURE or WIRE_STEP_FAILED.  out owns nothing. */
void failure_fill(struct wire_message *out, enum wire_kind kind, uint64_t epoch,
                  uint64_t step, const struct error *err);

/* m could not be written, for the reason in err: its step fails, or, if it
 * belongs to none, what is assigned.  False: m is a failure itself, and
 * nothing is left to say. */
NODISCARD bool failure_instead(struct wire_message *out, uint64_t epoch,
                               const struct wire_message *m,
                               const struct error *err);

#endif

/* trace.h - when each step began and ended here, and what it cost to send on:
 * lines for tests and benches.
 *
 *   NS begin STEP STAGE
 *   NS end STEP STAGE
 *   NS sent STEP STAGE ROWS HEADER_BYTES TENSOR_BYTES    to STAGE, the next
 *
 * NS is this machine's monotonic clock.  Steps without rows leave no line.
 * Depends on: proto/wire.  Thread: compute. */
#ifndef WORKER_TRACE_H
#define WORKER_TRACE_H

#include <stdio.h>

#include "proto/wire.h"

/* f NULL: nothing. */
void trace_step(FILE *f, const char *what, const struct wire_step *s);
/* Of messages, only steps; frames as they are, before encryption. */
void trace_sent(FILE *f, const struct wire_message *m, size_t header_bytes,
                size_t tensor_bytes);

#endif

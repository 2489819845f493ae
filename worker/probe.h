/* probe.h - how fast this machine is, by its own kernels.
 *
 * Depends on: engine, proto/wire (the report).  Thread: compute; a second or
 * so of all its threads. */
#ifndef WORKER_PROBE_H
#define WORKER_PROBE_H

#include "engine/shard.h"
#include "proto/wire.h"

/* Fills read_bytes_per_s and the rates of every weight type; the link's
 * figures stay as they are.  What cannot be measured (no memory) is 0. */
void probe_measure(const struct shard_options *o, struct wire_report *report);

#endif

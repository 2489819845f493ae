/* probe.h - how fast this machine is, by its own kernels.
 *
 * Depends on: engine, proto/wire (the report).  Thread: compute; some 50 ms
 * a type of all its threads. */
#ifndef WORKER_PROBE_H
#define WORKER_PROBE_H

#include "engine/shard.h"
#include "proto/wire.h"

/* Bit t: weight type t. */
_Static_assert(QUANT_TYPE_END <= 32, "a bit a type");
uint32_t probe_types(const struct wire_probe *p);

/* Fills read_bytes_per_s and appends the rates of these types to the report's;
 * the link's figures stay as they are.  What cannot be measured (no memory) is
 * missing, or 0. */
void probe_measure(const struct shard_options *o, uint32_t types,
                   struct wire_report *report);

#endif

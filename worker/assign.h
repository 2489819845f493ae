/* assign.h - an assignment as the engine wants it.
 *
 * Depends on: engine, proto/wire.  Thread: any; no state. */
#ifndef WORKER_ASSIGN_H
#define WORKER_ASSIGN_H

#include "engine/shard.h"
#include "proto/wire.h"

/* What the assignment holds of this model; out->layers is the caller's
 * (mem_free).  ST_INVALID: it is about a model of other layers. */
NODISCARD enum status assign_spec(struct shard_spec *out,
                                  const struct wire_assign *a,
                                  const struct model *m, struct error *err);

/* Who serves an expert that is not here. */
static inline uint32_t assign_expert_node(const struct wire_assign *a,
                                          uint32_t layer, uint32_t expert)
{
    return a->expert_node[(size_t)layer * MODEL_EXPERTS_MAX + expert];
}

#endif

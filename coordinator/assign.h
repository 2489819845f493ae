/* assign.h - a worker's share of a plan, as its Assign says it.
 *
 * Depends on: plan, cluster, proto/wire.  Thread: any; no state. */
#ifndef COORDINATOR_ASSIGN_H
#define COORDINATOR_ASSIGN_H

#include "coordinator/cluster.h"

/* The model as workers get it. */
struct assign_model {
    const void *header; /* gguf_strip_header's bytes */
    size_t header_bytes;
    uint8_t id[KEY_BYTES]; /* their BLAKE2b-256 */
};

/* For the node with this id.  out->kind is WIRE_ASSIGN; lists are its own
 * (wire_message_fini), the header is borrowed.  ST_NOT_FOUND: the node, or
 * one of the plan, is gone; ST_NO_MEMORY. */
NODISCARD enum status assign_make(struct wire_message *out,
                                  const struct plan *p, const struct cluster *c,
                                  const struct assign_model *model,
                                  uint32_t node, uint64_t epoch,
                                  struct error *err);

/* Where others reach it: "" for one on the coordinator's own machine, which is
 * wherever they reach the coordinator. */
const char *assign_host(const struct cluster_node *n);

#endif

/* plan_rig.h - nodes and requests for tests of the planner.
 *
 * Depends on: engine/plan.h, engine_rig.  Thread: the test's. */
#ifndef TESTS_LIB_PLAN_RIG_H
#define TESTS_LIB_PLAN_RIG_H

#include "common/rng.h"
#include "engine/plan.h"
#include "tests/lib/engine_rig.h"

/* Headers only. dense: some layers of mixed types; moe: n_expert of which
 * some are used. */
void plan_rig_model(struct rig *r, uint32_t n_layer, uint32_t n_expert,
                    uint32_t n_expert_used, bool tied);

/* "pc-0", "pc-1"...: memory, gigabytes a second; gigabit, 125 us. */
struct plan_node plan_rig_node(uint32_t id, uint64_t memory, double gbps);

/* 2 threads, reference kernels, 8 rows a step, 4 sequences of 256. */
struct plan_request plan_rig_request(const struct model *m,
                                     const struct plan_node *nodes, uint32_t n);

/* Of the whole model on one node, with that request's options, 1 context and
 * 3 steps. */
struct shard_bytes plan_rig_whole(const struct plan_request *r);
/* The same of a shard with nothing. */
struct shard_bytes plan_rig_empty(const struct plan_request *r);

/* Nodes of different speeds, links and memory; in all about `plenty` times
 * what the model needs, scratch apart. */
void plan_rig_random_nodes(struct rng *rng, const struct model *m,
                           struct plan_node *nodes, uint32_t n, double plenty);

/* The plan as JSON text; the caller's to buf_fini. */
struct buf plan_rig_json(const struct plan *p);

#endif

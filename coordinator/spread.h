/* spread.h - a plan that uses every worker: layers in even shares, and in the
 * last layer of each share the experts dealt out over all.
 *
 * For classrooms and tests, which want to see all PCs at work on a model that
 * one of them could hold.  Depends on: plan.  Thread: any; pure. */
#ifndef COORDINATOR_SPREAD_H
#define COORDINATOR_SPREAD_H

#include "engine/plan.h"

/* Appends the JSON that plan_read_json takes.  Nodes beyond the number of
 * layers hold experts only, or nothing. */
NODISCARD enum status spread_write(struct buf *out, const struct model *m,
                                   const struct plan_node *nodes, uint32_t n);

#endif

/* plan_internal.h - what the planner's files share.
 *
 * Depends on: plan.h.  Thread: any.
 *
 * The model is a row of items: 0 is the embedding, 1 + l is layer l, the last
 * is the head.  A layout says which node each item and each expert is on; a
 * search makes one, a plan file another, and plan_finish turns it into a
 * plan. */
#ifndef ENGINE_PLAN_INTERNAL_H
#define ENGINE_PLAN_INTERNAL_H

#include "engine/plan.h"
#include "engine/step.h"

struct plan_matrix {
    enum quant_type type;
    double bytes, macs; /* of the whole matrix; multiply-adds of one row */
};
#define PLAN_ITEM_MATRICES 8

struct plan_item {
    uint32_t n;
    struct plan_matrix m[PLAN_ITEM_MATRICES];
    double row_bytes; /* read for each row: the KV cache, or the embedding */
    struct plan_matrix expert[EXPERT_DOWN + 1]; /* of one expert */
};

/* A node's speeds, what was not measured filled in. */
struct plan_speed {
    double read_bytes_per_s, link_bytes_per_s, link_latency_s;
    struct plan_rate rates[QUANT_TYPE_END];
};

struct plan_layout {
    uint16_t *item_node;   /* [n_items] */
    uint16_t *expert_node; /* [n_layer][MODEL_EXPERTS_MAX], or PLAN_NONE */
};

struct plan_work {
    struct plan_request req; /* with defaults */
    const struct model *m;
    uint32_t n_items;
    struct plan_item *items;
    struct plan_speed *speeds; /* [n_nodes] */
    double batch_rows;         /* of a step, for throughput */
    double row_bytes;          /* of a row between stages */
    /* memory, by instruction set; zero: no such node */
    uint64_t *item_sum;     /* [ISA_END][n_items + 1] weights and tables of
                               items before i, no cache */
    uint64_t *block_bytes;  /* [ISA_END][n_layer] without experts */
    uint64_t *expert_bytes; /* [ISA_END][n_layer], the largest */
    uint64_t *fixed, *step_bytes; /* [n_nodes] empty shard without scratch;
                                     one step's scratch */
    uint64_t page_layer_bytes;    /* KV page of one layer */
    uint64_t embed_shared;        /* saved where embedding and head meet */
};

/* Checks the request and fills in its defaults. */
NODISCARD enum status plan_work_init(struct plan_work *w,
                                     const struct plan_request *r,
                                     struct error *err);
void plan_work_fini(struct plan_work *w);
/* item_sum of the node's instruction set. */
static inline const uint64_t *plan_item_sum(const struct plan_work *w,
                                            uint32_t node)
{
    return w->item_sum + (size_t)w->req.nodes[node].isa * (w->n_items + 1);
}
/* Pages that one context takes. */
uint32_t plan_context_pages(const struct plan_work *w);
/* Of a cache, whatever its layers: lists and counts. */
uint64_t plan_cache_fixed(const struct plan_work *w, uint32_t n_pages);
/* Bytes of items [first, end), their experts included, with n_pages of cache
 * and n_steps steps (the server's too), as shard_plan counts. */
uint64_t plan_range_bytes(const struct plan_work *w, uint32_t node,
                          uint32_t first, uint32_t end, uint32_t n_pages,
                          uint32_t n_steps);

NODISCARD enum status plan_layout_init(struct plan_layout *l,
                                       const struct plan_work *w,
                                       struct error *err);
void plan_layout_fini(struct plan_layout *l);

/* Costs (plan_cost.c).  rows may be a mean, so any number >= 1. */
NODISCARD enum status plan_cost_init(struct plan_work *w, struct error *err);
/* An item with all its experts on one node. */
double plan_item_s(const struct plan_work *w, uint32_t node, uint32_t item,
                   double rows);
/* A step's way to a node; its share that occupies the link. The first stage
 * gets numbers of tokens: no share. */
double plan_hop_s(const struct plan_work *w, uint32_t node, double rows,
                  bool first);
double plan_transfer_s(const struct plan_work *w, uint32_t node, double rows);

struct plan_run {
    double total_s;   /* of a step through all stages */
    double network_s; /* of it, hops */
    double busiest_s; /* of the node or link that works longest for a step */
    double slowest_s; /* of the slowest stage */
    uint32_t busiest;
    uint32_t n_stages;
};
/* stage_s [n_items] may be NULL; busy_s [n_nodes] too. */
struct plan_run plan_run(const struct plan_work *w, const struct plan_layout *l,
                         double rows, double *stage_s, double *busy_s);
/* Fills in the plan's predictions and its stages' times. */
void plan_predict(struct plan *p, const struct plan_work *w,
                  const struct plan_layout *l);

/* Searches (plan_search.c, plan_spread.c).  ST_FULL: no such layout fits. */
struct plan_score {
    double latency_s, busiest_s;
};
/* Is a better than b under the request's objective? */
bool plan_better(const struct plan_work *w, struct plan_score a,
                 struct plan_score b);
/* The i-th order of nodes worth trying; false past the last. */
bool plan_order(const struct plan_work *w, uint32_t i, uint16_t *order);
/* Whole layers in contiguous ranges. */
NODISCARD enum status plan_search(struct plan_layout *out,
                                  const struct plan_work *w, uint32_t n_pages,
                                  struct error *err);
/* Blocks in contiguous ranges, experts where there is room. */
NODISCARD enum status plan_spread(struct plan_layout *out,
                                  const struct plan_work *w, uint32_t n_pages,
                                  struct error *err);

/* The plan of a layout.  n_pages 0: what remains. */
NODISCARD enum status plan_finish(struct plan *out, const struct plan_work *w,
                                  const struct plan_layout *l, uint32_t n_pages,
                                  struct error *err);
/* What the share takes, all its steps included. */
struct shard_bytes plan_share_bytes(const struct plan *p, const struct model *m,
                                    const struct plan_share *s,
                                    uint32_t n_pages);
/* plan_share.n_steps */
uint32_t plan_node_steps(const struct plan *p, uint32_t node);
/* The node that has the layer's block, or n_nodes. */
uint32_t plan_layer_node(const struct plan *p, uint32_t layer);

/* Bytes for people: the same unit for all numbers of a sentence. */
struct plan_unit {
    double bytes;
    const char *name;
};
struct plan_unit plan_unit(uint64_t largest);

#endif

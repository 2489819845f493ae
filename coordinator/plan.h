/* plan.h - who computes what: model and node reports in, shard map out.
 *
 * Depends on: engine/model.h, engine/shard.h (bytes), common.  Thread: any;
 * pure and deterministic: no clock, no socket, no chance.
 *
 * Contiguous layer ranges, one stage per node, cut by dynamic programming
 * over the measured speeds and memories (uneven ranges are normal); the
 * experts of a layer stay with its block, or go to other nodes where memory
 * demands it or a plan file says so; embedding and head anywhere. Bytes come
 * from shard_plan, the same walk that loads them. */
#ifndef COORDINATOR_PLAN_H
#define COORDINATOR_PLAN_H

#include "common/buf.h"
#include "engine/shard.h"
#include "proto/limits.h"

struct plan_rate {
    double bytes_per_s; /* of weights at batch 1; 0: not measured */
    double macs_per_s;  /* at batch 16 */
};

struct plan_node {
    uint32_t id; /* the cluster's number for it */
    char name[LIMIT_NAME + 1];
    uint64_t memory_bytes; /* that it offers */
    double read_bytes_per_s;
    struct plan_rate rates[QUANT_TYPE_END];  /* by weight type; absent types
                                                are estimated from the others */
    double link_bytes_per_s, link_latency_s; /* to the rest of the LAN */
};

enum plan_objective { PLAN_LATENCY, PLAN_THROUGHPUT, PLAN_MIXED };

struct plan_request {
    const struct model *model;
    const struct plan_node *nodes;
    uint32_t n_nodes;
    enum plan_objective objective;
    uint32_t n_users; /* concurrent streams that throughput is meant for */
    uint32_t n_ctx;   /* 0: the lesser of 4096 and the model's */
    uint32_t n_seq_max, rows_max, outputs_max, n_steps; /* 0: defaults */
    enum kv_type kv_type;
};

/* One visit of every step, in order. */
struct plan_stage {
    uint32_t node; /* index into plan.nodes */
    bool embed, head, again;
    uint32_t layer_first, layer_end;
    double decode_s, prefill_s; /* predicted: one row; rows_max rows */
};

struct plan_share { /* of a node */
    uint32_t id;
    char name[LIMIT_NAME + 1];
    bool used; /* false: left out, it would slow the pool */
    uint64_t memory_bytes;
    struct shard_bytes bytes;
    struct shard_spec spec; /* owned by the plan */
};

struct plan {
    uint32_t n_nodes, n_stages;
    struct plan_share *nodes;  /* [n_nodes] in the request's order */
    struct plan_stage *stages; /* [n_stages] */
    uint32_t n_layer;
    uint16_t *expert_node; /* [n_layer][MODEL_EXPERTS_MAX] index into nodes */
    uint32_t n_ctx, n_seq_max, n_pages, rows_max, outputs_max, n_steps;
    enum kv_type kv_type;
    /* predictions */
    double decode_tokens_per_s;      /* one stream */
    double batch_tokens_per_s;       /* n_users streams in all */
    double prompt_512_s;             /* time to the first token of 512 */
    char bottleneck[LIMIT_TEXT + 1]; /* a sentence that names it */
};

/* ST_NO_MEMORY: "... needs 41.2 GiB; the 5 nodes offer 36.0 GiB: 5.2 GiB are
 * missing".  n_pages becomes what memory remains for after the weights, at
 * most n_seq_max whole contexts; it must hold one whole context. */
NODISCARD enum status plan_make(struct plan *out, const struct plan_request *r,
                                struct error *err);
void plan_fini(struct plan *p);

/* Does it cover the model exactly (each layer's block once, each expert once,
 * one embedding, one head, stages in order), and fit each node's memory? */
NODISCARD enum status plan_check(const struct plan *p, const struct model *m,
                                 struct error *err);

/* The JSON of `potluck plan --json` and `serve --plan`: names the nodes, the
 * layers, experts ("experts": {"3": {"pc-2": [0, 5]}}), options, predictions.
 * Reading: names are matched to the request's nodes; ST_NOT_FOUND names one
 * that has not joined; bytes and predictions are computed anew; unknown keys
 * are an error. */
NODISCARD enum status plan_write_json(const struct plan *p, struct buf *out,
                                      struct error *err);
NODISCARD enum status plan_read_json(struct plan *out,
                                     const struct plan_request *r,
                                     const char *text, size_t n,
                                     struct error *err);

/* A table for people: node, layers, experts, memory, predicted share. */
NODISCARD enum status plan_write_table(const struct plan *p, struct buf *out);

/* --nodes FILE: JSON list of nodes ({"name", "memory": "8G", "read_gbps",
 * "kernels": {...}, "link_mbit", "latency_us"}), for `potluck plan`. The
 * array is the caller's (mem_free). */
NODISCARD enum status plan_read_nodes(struct plan_node **out, uint32_t *n,
                                      const char *text, size_t len,
                                      struct error *err);

#endif

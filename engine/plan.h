/* plan.h - who computes what: model and node reports in, shard map out.
 *
 * Depends on: engine/model.h, engine/shard.h (bytes), common.  Thread: any;
 * pure and deterministic: no clock, no socket, no chance.
 *
 * Contiguous layer ranges, one stage per node, cut by dynamic programming
 * over the measured speeds and memories (uneven ranges are normal); the
 * experts of a layer stay with its block, or go to other nodes where memory
 * demands it or a plan file says so; embedding and head anywhere. Bytes come
 * from shard_plan, the same walk that loads them.
 *
 * It lies in engine because `potluck plan` needs it without a cluster, and the
 * client may not include the coordinator. */
#ifndef ENGINE_PLAN_H
#define ENGINE_PLAN_H

#include "common/buf.h"
#include "engine/shard.h"

#define PLAN_NAME_MAX   63  /* bytes of a node's name */
#define PLAN_TEXT_MAX   255 /* bytes of a sentence */
#define PLAN_NODES_MAX  256
#define PLAN_STAGES_MAX 1024 /* visits of a step */
#define PLAN_STEPS_MAX  1024 /* in flight */
#define PLAN_SEQS_MAX   4096
#define PLAN_JSON_MAX   (16u << 20) /* bytes of a plan or a list of nodes */
#define PLAN_NONE       UINT16_MAX  /* in expert_node: no such expert */

struct plan_rate {
    double bytes_per_s; /* of weights at batch 1; 0: not measured */
    double macs_per_s;  /* at batch 16 */
};

struct plan_node {
    uint32_t id; /* the cluster's number for it */
    char name[PLAN_NAME_MAX + 1];
    uint64_t memory_bytes; /* that it offers */
    enum isa isa;          /* how it packs weights: their bytes depend on it */
    uint32_t n_threads;    /* 0: taken as PLAN_THREADS */
    double read_bytes_per_s;                 /* 0: not measured */
    struct plan_rate rates[QUANT_TYPE_END];  /* by weight type; absent types
                                                are estimated from the others */
    double link_bytes_per_s, link_latency_s; /* to the rest of the LAN; 0: not
                                                measured, gigabit assumed */
};
#define PLAN_THREADS 8

/* The least time of one token; the least time of the busiest node, for a step
 * of n_users / n_nodes rows; the least product of the two. */
enum plan_objective { PLAN_LATENCY, PLAN_THROUGHPUT, PLAN_MIXED };
NODISCARD bool plan_objective_by_name(const char *name,
                                      enum plan_objective *out);

struct plan_request {
    const struct model *model;
    const struct plan_node *nodes;
    uint32_t n_nodes;
    enum plan_objective objective;
    uint32_t n_users; /* concurrent streams that throughput is meant for, and
                         whose contexts fit where memory allows; 0: 1 */
    uint32_t n_ctx;   /* 0: the lesser of 4096 and the model's */
    /* 0: 32 or n_users, 128, as many as sequences, one more than stages */
    uint32_t n_seq_max, rows_max, outputs_max, n_steps;
    enum kv_type kv_type;
};

/* One visit of every step, in order. */
struct plan_stage {
    uint32_t node; /* index into plan.nodes */
    bool embed, head, again;
    uint32_t layer_first, layer_end; /* may be empty */
    /* predicted, from the step's leaving the stage before to its end here:
     * one row; rows_max rows */
    double decode_s, prefill_s;
};

struct plan_share { /* of a node */
    uint32_t id;
    char name[PLAN_NAME_MAX + 1];
    bool used; /* false: left out, it would slow the pool */
    uint64_t memory_bytes;
    enum isa isa;
    uint32_t n_threads;
    uint32_t n_steps; /* struct steps for its stages, to be put into Assign: 2
                         (one computes, one is being filled), 4 where it waits
                         for experts of others, 1 without a stage; at most the
                         plan's n_steps */
    struct shard_bytes bytes; /* scratch and total with these steps and one
                                 more, which serves experts to others */
    struct shard_spec spec;   /* owned by the plan */
};

struct plan {
    uint32_t n_nodes, n_stages;
    struct plan_share *nodes;  /* [n_nodes] in the request's order */
    struct plan_stage *stages; /* [n_stages] */
    uint32_t n_layer;
    uint16_t *expert_node; /* [n_layer][MODEL_EXPERTS_MAX] index into nodes */
    uint32_t n_ctx, n_seq_max, n_pages, rows_max, outputs_max;
    uint32_t n_steps; /* in flight in the whole pool */
    enum kv_type kv_type;
    /* predictions */
    double decode_tokens_per_s; /* one stream */
    double batch_tokens_per_s;  /* n_users streams in all */
    double prompt_512_s;        /* time to the first token of 512 */
    double busiest_s; /* of the node or link that works longest for a step of
                         n_users / n_nodes rows: what throughput minimises */
    char bottleneck[PLAN_TEXT_MAX + 1]; /* a sentence that names it */
};

/* ST_NO_MEMORY: "... needs 41.20 GiB (...); the 5 nodes offer 36.00 GiB: 5.20
 * GiB are missing", or by how much more on each node whole layers would fit.
 * n_pages becomes what memory remains for after the weights, at most n_seq_max
 * whole contexts; it must hold one whole context.  ST_USAGE: the request.
 * Cost: O(nodes * layers) for each of some hundred trials. */
NODISCARD enum status plan_make(struct plan *out, const struct plan_request *r,
                                struct error *err);
void plan_fini(struct plan *p);

/* Does it cover the model exactly (each layer's block once, each expert once,
 * one embedding, one head, stages in order), and fit each node's memory? */
NODISCARD enum status plan_check(const struct plan *p, const struct model *m,
                                 struct error *err);

/* The JSON of `potluck plan --json` and `serve --plan`:
 *   {"layers": [{"node": "pc-1", "first": 0, "end": 12}, ...],  ascending
 *    "embed": "pc-1", "head": "pc-1",  absent: first and last of the layers
 *    "experts": {"3": {"pc-2": [0, 5]}},  those not with their layer's block
 *    "options": {"n_ctx": 4096, ...},  absent: the request's
 *    "nodes": [...], "predicted": {...}}  for people
 * Reading: names are matched to the request's nodes; ST_NOT_FOUND names one
 * that has not joined, ST_NO_MEMORY one that offers too little; bytes and
 * predictions are computed anew; unknown keys are an error (ST_INVALID). */
NODISCARD enum status plan_write_json(const struct plan *p, struct buf *out,
                                      struct error *err);
NODISCARD enum status plan_read_json(struct plan *out,
                                     const struct plan_request *r,
                                     const char *text, size_t n,
                                     struct error *err);

/* A table for people: node, layers, experts, memory, predicted share. */
NODISCARD enum status plan_write_table(const struct plan *p, struct buf *out);

/* --nodes FILE: JSON list of nodes, for `potluck plan`:
 *   {"name": "pc-1", "memory": "8G", "isa": "avx2", "threads": 4,
 *    "read_gbps": 12.5, "link_mbit": 1000, "latency_us": 125,
 *    "kernels": {"Q4_K": {"gbps": 9.5, "gmacs": 40}}}
 * with 10^9 bytes or multiply-adds a second; name and memory are needed.  The
 * array is the caller's (mem_free). */
NODISCARD enum status plan_read_nodes(struct plan_node **out, uint32_t *n,
                                      const char *text, size_t len,
                                      struct error *err);

#endif

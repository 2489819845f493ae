/* pool.h - the pool as the front door sees it: prompts in, tokens out.
 *
 * Depends on: cluster, sched, plan, session, proto/net (through net.c).
 * Thread: loop, all of it; callbacks come on the loop and may call back.
 *
 * The pool queues requests while it has no plan, is loading or changes, and
 * fails those that run when an epoch breaks off, with the sentence that names
 * the worker. */
#ifndef COORDINATOR_POOL_H
#define COORDINATOR_POOL_H

#include "coordinator/cluster.h"
#include "coordinator/sched.h"
#include "engine/sample.h"
#include "engine/tokenizer.h"

struct pool_host; /* the running coordinator */
struct pool_job;

struct pool_request {
    const int32_t *prompt; /* copied */
    uint32_t n_prompt;
    uint32_t max_tokens;
    struct sample_params sample; /* bias copied */
    bool own_text;   /* the answer is a text of its own (a chat's), not the
                        prompt's continuation: no space prefix in front */
    bool whole_rows; /* hand the logits to token() */
};

struct pool_usage {
    uint32_t n_prompt, n_generated;
    uint64_t queued_ns, prompt_ns, decode_ns;
};

struct pool_events {
    /* A token; text: whole UTF-8 sequences that became certain (may be
     * empty). logits: [n_vocab] if asked for, else NULL. */
    void (*token)(void *arg, int32_t id, const char *text, size_t n,
                  const float *logits);
    /* The end: "stop", "length", or NULL with err (a sentence, and what it
     * means: ST_IO a worker was lost, ST_NO_MEMORY, ST_INTERRUPTED...). The
     * job is gone after this call. */
    void (*done)(void *arg, const char *finish_reason,
                 const struct pool_usage *usage, const struct error *err);
    void *arg;
};

/* ST_TOO_LARGE (prompt over the context: names both), ST_FULL (queue),
 * ST_USAGE (parameters). Nothing is called back before it returns. */
NODISCARD enum status pool_submit(struct pool_host *p,
                                  const struct pool_request *r,
                                  const struct pool_events *events,
                                  struct pool_job **out, struct error *err);
/* Frees it on every worker; done() is not called any more. */
void pool_cancel(struct pool_host *p, struct pool_job *job);
/* Requests in front of it; 0: it runs. */
uint32_t pool_position(const struct pool_host *p, const struct pool_job *job);

const struct cluster *pool_cluster(const struct pool_host *p);
const struct tokenizer *pool_tokenizer(const struct pool_host *p);
const char *pool_model_name(const struct pool_host *p); /* for /v1/models */
uint64_t pool_model_created(const struct pool_host *p); /* mtime, seconds */
/* The longest context; 0 before there is a plan. */
uint32_t pool_context(const struct pool_host *p);
bool pool_ready(const struct pool_host *p);
const char *pool_why_not(const struct pool_host *p);
/* /v1/cluster and `potluck status --json`: state, epoch, why, nodes (name,
 * state, layers, experts, memory, speeds, progress), plan and its prediction,
 * queue, wire counters. */
struct json_t;
struct json_t *pool_status_json(const struct pool_host *p);

#endif

/* core.h - the running coordinator without sockets, threads and clock.
 *
 * Depends on: pool.h, cluster, sched, plan, session, proto/wire.  Thread: loop.
 * Messages in by the functions here, messages out through struct core_io: by
 * net.c over sockets, by tests/sim in virtual time.
 *
 *   control in --> cluster --> actions --> control out, plan, serve, stop
 *   data in ----> sched + session --> next steps --> data out
 *   prompts (pool.h) --> sched */
#ifndef COORDINATOR_CORE_H
#define COORDINATOR_CORE_H

#include "coordinator/pool.h"

struct core_config {
    const char *model_name; /* as /v1/models calls it */
    uint64_t model_created; /* of the file, seconds since 1970 */
    const struct model *model;
    const struct tokenizer *tokenizer;
    const void *model_header; /* gguf_strip_header's bytes */
    size_t model_header_bytes;
    struct cluster_config cluster;
    enum plan_objective objective;
    uint32_t n_users, n_ctx; /* 0: as in plan_request */
    enum kv_type kv_type;
    const char *plan_json; /* --plan FILE's text; NULL: the planner decides */
    size_t plan_json_bytes;
    bool spread; /* no plan_json: use every worker, whether it helps or not */
    uint32_t queue_max;     /* waiting prompts; more are refused */
    uint64_t first_request; /* requests count up from here; never reused across
                               boots: take the boot's time in ns */
};

/* A plan to be made, elsewhere, as it may take seconds. */
struct core_plan;

struct core_io {
    uint64_t (*now)(void *arg); /* ns, monotonic */
    /* To this worker over control. Whatever is not ST_OK is as good as lost.
     */
    enum status (*control)(void *arg, const uint8_t key[KEY_BYTES],
                           const struct wire_message *m);
    /* A step to the worker of its first stage, over data. */
    enum status (*step)(void *arg, const struct cluster_node *to,
                        const struct wire_message *m);
    /* Nothing more from or to this key until it says Hello again. */
    void (*drop)(void *arg, const uint8_t key[KEY_BYTES]);
    /* Call core_plan_run(task) on any thread, then core_planned on the loop,
     * or both at once. */
    void (*plan)(void *arg, struct core_plan *task);
    void (*say)(void *arg, const char *line); /* for the log, no newline */
    void *arg;
};

/* What c and io point at is borrowed until core_free. */
NODISCARD enum status core_create(struct pool_host **out,
                                  const struct core_config *c,
                                  const struct core_io *io, struct error *err);
/* Jobs end without a call.  A plan under way must have come back. */
void core_free(struct pool_host *p);

/* A HELLO of an admitted key: admission is the caller's (admit.h). */
void core_hello(struct pool_host *p, const uint8_t key[KEY_BYTES],
                const char *host, const struct wire_hello *h);
/* Any other control message. */
void core_control(struct pool_host *p, const uint8_t key[KEY_BYTES],
                  const struct wire_message *m);
/* RESULT and STEP_FAILED; tensor: frame of m.  Echoes are the caller's. */
void core_data(struct pool_host *p, const uint8_t key[KEY_BYTES],
               const struct wire_message *m, const void *tensor,
               size_t tensor_bytes);
void core_plan_run(struct core_plan *task);
void core_planned(struct pool_host *p, struct core_plan *task); /* takes it */
/* Plans anew, by this text from now on (borrowed); NULL: by the planner. What
 * runs is finished first. */
void core_replan(struct pool_host *p, const char *plan_json, size_t n);
void core_revoke(struct pool_host *p, const uint8_t key[KEY_BYTES]);

/* Heartbeats, leases, deadlines; and when at the latest (ns; io's clock). */
void core_tick(struct pool_host *p);
uint64_t core_deadline(const struct pool_host *p);

/* SIGTERM: running answers go on, nothing new is taken, done when none is
 * left; the second time they are broken off. */
void core_close(struct pool_host *p);
bool core_closed(const struct pool_host *p);

/* May this key use the data and bulk sockets? */
bool core_member(const struct pool_host *p, const uint8_t key[KEY_BYTES]);
/* Every invariant of cluster and sched. */
bool core_check(const struct pool_host *p);

#endif

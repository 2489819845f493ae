/* core_internal.h - what the files of the coordinator's core share.
 *
 * core.c     the pool's life: nodes, epochs, heartbeats, deadlines
 * core_plan.c  who computes what
 * core_jobs.c  prompts: waiting, running, over (pool.h)
 * core_steps.c rows out, results in
 * core_status.c what /v1/cluster says */
#ifndef COORDINATOR_CORE_INTERNAL_H
#define COORDINATOR_CORE_INTERNAL_H

#include "coordinator/assign.h"
#include "coordinator/core.h"
#include "coordinator/session.h"

/* A prompt that nobody could begin on for so long fails. */
#define PARKED_MAX_NS UINT64_C(60000000000)
#define MS_NS         UINT64_C(1000000)

enum job_state {
    JOB_PARKED,    /* there is no plan to run it on */
    JOB_SCHEDULED, /* waits or runs in sched */
    JOB_OVER       /* done() is to be called */
};

struct pool_job {
    struct pool_job *next;
    uint64_t id; /* request and sequence */
    enum job_state state;
    struct session *session;
    struct pool_events events;
    struct pool_usage usage;
    uint64_t submitted_ns, begun_ns, first_ns, last_ns;
    uint64_t parked_ns; /* since when nothing has served it */
    const char *finish; /* over: the reason, or NULL and error */
    struct error error;
};

/* What the Result of a step in flight will bring. */
struct core_flight {
    uint64_t step; /* 0: free */
    uint32_t n_want;
    bool *whole; /* [outputs_max] the row comes whole */
};

struct pool_host {
    struct core_config c;
    struct core_io io;
    struct assign_model model;
    struct cluster *cluster;
    bool served; /* once: prompts wait for the next plan */
    bool closing, acting;
    bool dirty; /* there may be something to send */
    uint64_t beat_ns, beats;
    /* the plan in force (or being loaded) */
    struct plan plan;
    bool has_plan, serving, draining;
    uint64_t planned_ns;         /* when its loading began */
    uint64_t epoch;              /* of serving */
    uint32_t blame;              /* steps lost in a row without a culprit */
    struct sched *sched;         /* NULL: not serving */
    struct core_flight *flights; /* [plan.n_steps] */
    struct wire_stage *stages;   /* [plan.n_stages] */
    struct wire_sample *samples; /* [plan.outputs_max] */
    uint64_t next_step;          /* of the next sched */
    /* prompts, oldest first */
    struct pool_job *jobs;
    uint32_t n_jobs, n_over;
    uint64_t next_job;
    struct {
        uint64_t prompts, tokens, steps, compute_ns;
    } totals;
};

static inline uint64_t core_now(const struct pool_host *p)
{
    return p->io.now(p->io.arg);
}
void core_say(struct pool_host *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Does what cluster wants done. */
void core_act(struct pool_host *p);

/* core_plan.c */
void core_make_plan(struct pool_host *p);
void core_drop_plan(struct pool_host *p);

/* core_jobs.c */
struct pool_job *core_job(const struct pool_host *p, uint64_t id);
void core_job_over(struct pool_host *p, struct pool_job *j, const char *finish,
                   const struct error *err);
/* Calls done() of those that are over. */
void core_finish_jobs(struct pool_host *p);
/* Begins on what is parked; or takes back what waits. */
void core_unpark(struct pool_host *p);
void core_park_waiting(struct pool_host *p);
/* Fails parked prompts: all, or those that wait too long. */
void core_fail_parked(struct pool_host *p, enum status st, const char *why);
void core_expire_parked(struct pool_host *p);
uint64_t core_jobs_deadline(const struct pool_host *p);

/* core_steps.c */
NODISCARD enum status core_begin_serving(struct pool_host *p, uint64_t epoch,
                                         struct error *err);
/* What runs fails with err; what waits is parked. */
void core_end_serving(struct pool_host *p, const struct error *err);
/* Sends what can be sent. */
void core_pump(struct pool_host *p);
void core_step_failed(struct pool_host *p, const struct wire_failure *f,
                      const char *who);
void core_result(struct pool_host *p, const uint8_t key[KEY_BYTES],
                 const struct wire_result *r, const void *tensor);
void core_check_overdue(struct pool_host *p);

#endif

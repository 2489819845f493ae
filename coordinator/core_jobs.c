/* core_jobs.c - prompts, from pool_submit to done(). */
#include <string.h>

#include "coordinator/core_internal.h"

struct pool_job *core_job(const struct pool_host *p, uint64_t id)
{
    struct pool_job *j = p->jobs;
    while (j && j->id != id) j = j->next;
    return j;
}

static void job_free(struct pool_host *p, struct pool_job *j)
{
    struct pool_job **at = &p->jobs;
    while (*at != j) at = &(*at)->next;
    *at = j->next;
    p->n_jobs--;
    session_free(j->session);
    mem_free(j);
}

/* Gives it to the scheduler; what that refuses is over. */
static void schedule(struct pool_host *p, struct pool_job *j)
{
    struct error err;
    uint32_t n;
    const int32_t *prompt = session_prompt(j->session, &n);
    const enum status st = sched_submit(p->sched, j->id, prompt, n,
                                        session_n_max(j->session), &err);
    if (st == ST_OK)
        j->state = JOB_SCHEDULED;
    else
        core_job_over(p, j, NULL, &err);
}

static enum status check_room(const struct pool_host *p, uint32_t n_prompt,
                              struct error *err)
{
    if (p->closing) {
        return error_set(err, ST_INTERRUPTED, "the coordinator stops");
    }
    if (p->n_jobs - p->n_over >= p->c.queue_max) {
        return error_set(err, ST_FULL,
                         "%u prompts are waiting or running already",
                         p->n_jobs - p->n_over);
    }
    if (p->has_plan && n_prompt > p->plan.n_ctx) {
        return error_set(err, ST_TOO_LARGE,
                         "the prompt has %u tokens, the context is %u",
                         n_prompt, p->plan.n_ctx);
    }
    return ST_OK;
}

enum status pool_submit(struct pool_host *p, const struct pool_request *r,
                        const struct pool_events *events, struct pool_job **out,
                        struct error *err)
{
    enum status st = check_room(p, r->n_prompt, err);
    if (st != ST_OK) return st;
    struct pool_job *j = mem_zalloc(sizeof *j);
    if (!j) return error_set(err, ST_NO_MEMORY, "request");
    st = session_create(&j->session, r, p->c.tokenizer, p->c.model->n_vocab,
                        err);
    if (st != ST_OK) {
        mem_free(j);
        return st;
    }
    j->id = p->next_job++;
    j->events = *events;
    j->usage.n_prompt = r->n_prompt;
    j->submitted_ns = j->parked_ns = core_now(p);
    struct pool_job **at = &p->jobs;
    while (*at) at = &(*at)->next;
    *at = j;
    p->n_jobs++;
    p->totals.prompts++;
    if (r->max_tokens == 0) {
        core_job_over(p, j, "length", NULL);
    } else if (p->serving && !p->draining) {
        schedule(p, j);
    }
    /* the next tick sends, for all that came in one turn of the loop */
    p->dirty = true;
    *out = j;
    return ST_OK;
}

void core_job_over(struct pool_host *p, struct pool_job *j, const char *finish,
                   const struct error *err)
{
    if (j->state == JOB_OVER) return;
    j->state = JOB_OVER;
    j->finish = finish;
    if (err) j->error = *err;
    struct pool_usage *u = &j->usage;
    const uint64_t now = core_now(p);
    u->n_generated = session_n_generated(j->session);
    u->queued_ns = (j->begun_ns ? j->begun_ns : now) - j->submitted_ns;
    if (j->first_ns) {
        u->prompt_ns = j->first_ns - j->begun_ns;
        u->decode_ns = j->last_ns - j->first_ns;
    }
    p->n_over++;
}

void core_finish_jobs(struct pool_host *p)
{
    while (p->n_over != 0) {
        struct pool_job *j = p->jobs;
        while (j->state != JOB_OVER) j = j->next;
        const struct pool_events e = j->events;
        const char *finish = j->finish;
        const struct pool_usage usage = j->usage;
        const struct error err = j->error;
        p->n_over--;
        job_free(p, j); /* first: the callback may submit or cancel */
        e.done(e.arg, finish, &usage, finish ? NULL : &err);
    }
}

void pool_cancel(struct pool_host *p, struct pool_job *job)
{
    if (job->state == JOB_OVER) p->n_over--;
    if (job->state == JOB_SCHEDULED && p->sched) {
        sched_cancel(p->sched, job->id);
    }
    job_free(p, job);
    p->dirty = true; /* to free it on the workers */
}

uint32_t pool_position(const struct pool_host *p, const struct pool_job *job)
{
    if (job->state == JOB_SCHEDULED && p->sched) {
        return sched_position(p->sched, job->id);
    }
    uint32_t before = 1;
    for (const struct pool_job *j = p->jobs; j && j != job; j = j->next) {
        before += j->state == JOB_PARKED;
    }
    return job->state == JOB_OVER ? 0 : before;
}

/* ------------------------------------------------------------- parked */

void core_unpark(struct pool_host *p)
{
    for (struct pool_job *j = p->jobs; j; j = j->next) {
        if (j->state == JOB_PARKED) schedule(p, j);
    }
}

void core_park_waiting(struct pool_host *p)
{
    const uint64_t now = core_now(p);
    for (struct pool_job *j = p->jobs; j; j = j->next) {
        /* its time in the queue of a pool that served does not count */
        if (j->state == JOB_PARKED) j->parked_ns = now;
        const uint32_t before =
            j->state == JOB_SCHEDULED ? sched_position(p->sched, j->id) : 0;
        if (before == 0 || before == UINT32_MAX) continue;
        sched_cancel(p->sched, j->id);
        j->state = JOB_PARKED;
        j->parked_ns = now;
    }
}

void core_fail_parked(struct pool_host *p, enum status st, const char *why)
{
    struct error err;
    error_set(&err, st, "%s", why);
    for (struct pool_job *j = p->jobs; j; j = j->next) {
        if (j->state == JOB_PARKED) core_job_over(p, j, NULL, &err);
    }
}

/* What runs is finished first, what loads will begin on them. */
static bool on_its_way(const struct pool_host *p)
{
    const enum pool_state s = cluster_state(p->cluster);
    return s == POOL_STOPPING || s == POOL_LOADING;
}

void core_expire_parked(struct pool_host *p)
{
    const uint64_t now = core_now(p);
    struct error err;
    if (on_its_way(p)) return;
    error_set(&err, ST_IO, "the pool did not begin on it within %u s: %s",
              (unsigned)(PARKED_MAX_NS / UINT64_C(1000000000)),
              cluster_why(p->cluster));
    for (struct pool_job *j = p->jobs; j; j = j->next) {
        if (j->state == JOB_PARKED && now - j->parked_ns > PARKED_MAX_NS) {
            core_job_over(p, j, NULL, &err);
        }
    }
}

uint64_t core_jobs_deadline(const struct pool_host *p)
{
    uint64_t first = UINT64_MAX;
    if (on_its_way(p)) return first;
    for (const struct pool_job *j = p->jobs; j; j = j->next) {
        const uint64_t at = j->parked_ns + PARKED_MAX_NS + 1;
        if (j->state == JOB_PARKED && at < first) first = at;
    }
    return first;
}

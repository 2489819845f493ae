/* core_steps.c - rows out to the first stage, results in from the last. */
#include <stdio.h>
#include <string.h>

#include "coordinator/core_internal.h"

/* A header of LIMIT_HEADER_BYTES holds the samples of so many rows, each with
 * its longest lists: 512 recent tokens of 5 bytes, 512 adjustments of 7. */
#define WANT_MAX 128
/* Over the longest step's deadline: what the scheduler finds, it finds first.
 */
#define PATIENCE_NS UINT64_C(10000000000)

/* ------------------------------------------------------------- serving */

static uint64_t predicted_ns(void *arg, uint32_t n_rows)
{
    const struct pool_host *p = arg;
    const struct plan *plan = &p->plan;
    double s = 0;
    for (uint32_t i = 0; i < plan->n_stages; i++) {
        const double one = plan->stages[i].decode_s,
                     full = plan->stages[i].prefill_s;
        const double more = plan->rows_max > 1 ? (full - one) * (n_rows - 1.0) /
                                                     (plan->rows_max - 1.0)
                                               : 0;
        s += n_rows ? one + (more > 0 ? more : 0) : 0;
    }
    /* those in front of it have to get through as well */
    s *= plan->n_steps;
    return s > 0 && s < 1e6 ? (uint64_t)(s * 1e9) : 0;
}

static bool make_tables(struct pool_host *p)
{
    const struct plan *plan = &p->plan;
    p->flights = mem_zalloc_array(plan->n_steps, sizeof *p->flights);
    p->stages = mem_zalloc_array(plan->n_stages, sizeof *p->stages);
    p->samples = mem_zalloc_array(plan->outputs_max, sizeof *p->samples);
    if (!p->flights || !p->stages || !p->samples) return false;
    for (uint32_t i = 0; i < plan->n_steps; i++) {
        p->flights[i].whole = mem_zalloc(plan->outputs_max);
        if (!p->flights[i].whole) return false;
    }
    for (uint32_t i = 0; i < plan->n_stages; i++) {
        const struct plan_stage *s = &plan->stages[i];
        p->stages[i] = (struct wire_stage){.node = plan->nodes[s->node].id,
                                           .embed = s->embed,
                                           .head = s->head,
                                           .again = s->again,
                                           .layer_first = s->layer_first,
                                           .layer_end = s->layer_end};
    }
    return true;
}

enum status core_begin_serving(struct pool_host *p, uint64_t epoch,
                               struct error *err)
{
    const struct plan *plan = &p->plan;
    const struct sched_config c = {.n_pages = plan->n_pages,
                                   .n_ctx = plan->n_ctx,
                                   .n_seq_max = plan->n_seq_max,
                                   .rows_max = plan->rows_max,
                                   .outputs_max = plan->outputs_max < WANT_MAX
                                                      ? plan->outputs_max
                                                      : WANT_MAX,
                                   .n_steps = plan->n_steps,
                                   .queue_max = UINT32_MAX,
                                   .first_step = p->next_step};
    if (!make_tables(p)) {
        return error_set(err, ST_NO_MEMORY, "tables of %u stages",
                         plan->n_stages);
    }
    const enum status st = sched_create(&p->sched, &c, err);
    if (st != ST_OK) return st;
    p->serving = true;
    p->epoch = epoch;
    /* as sched's deadlines; heartbeats come after a step has ended */
    cluster_patience(p->cluster,
                     10 * predicted_ns(p, plan->rows_max) + PATIENCE_NS);
    return ST_OK;
}

void core_end_serving(struct pool_host *p, const struct error *err)
{
    if (p->sched) {
        core_park_waiting(p);
        p->next_step = sched_next_step(p->sched);
    }
    for (struct pool_job *j = p->jobs; j; j = j->next) {
        if (j->state != JOB_SCHEDULED) continue;
        struct error gone;
        error_set(&gone, ST_IO, "the pool has changed");
        core_job_over(p, j, NULL, err ? err : &gone);
    }
    core_drop_plan(p);
}

/* --------------------------------------------------------------- out */

static struct core_flight *free_flight(struct pool_host *p)
{
    for (uint32_t i = 0; i < p->plan.n_steps; i++) {
        if (p->flights[i].step == 0) return &p->flights[i];
    }
    return NULL;
}

/* The samples of its wanted rows; times of those that begin. */
static void fill_samples(struct pool_host *p, const struct sched_step *s,
                         struct core_flight *f)
{
    f->step = s->step;
    f->n_want = 0;
    for (uint32_t i = 0; i < s->n_rows; i++) {
        if (!s->rows[i].want && s->rows[i].pos != 0) continue;
        struct pool_job *j = core_job(p, s->rows[i].seq);
        if (j && j->begun_ns == 0) j->begun_ns = core_now(p);
        if (!s->rows[i].want) continue;
        struct wire_sample *to = &p->samples[f->n_want];
        if (j) {
            session_sample(j->session, to);
        } else { /* nobody waits for it any more */
            *to = (struct wire_sample){.inv_temp = 1, .repeat = 1};
        }
        f->whole[f->n_want++] = to->whole_row;
    }
}

static enum status send_step(struct pool_host *p, const struct sched_step *s)
{
    struct core_flight *f = free_flight(p);
    if (!f) return ST_FULL;
    fill_samples(p, s, f);
    struct wire_message m = {.kind = WIRE_STEP};
    /* wire_write only reads what it is given */
    m.step = (struct wire_step){
        .epoch = p->epoch,
        .step = s->step,
        .n_stages = p->plan.n_stages,
        .stages = p->stages,
        .n_ops = s->n_ops,
        .ops = (struct kv_op *)(uintptr_t)s->ops,
        .n_rows = s->n_rows,
        .n_want = f->n_want,
        .rows = (struct step_row *)(uintptr_t)s->rows,
        .samples = p->samples,
    };
    const struct cluster_node *to =
        cluster_by_id(p->cluster, p->stages[0].node);
    p->totals.steps++;
    return to ? p->io.step(p->io.arg, to, &m) : ST_NOT_FOUND;
}

void core_pump(struct pool_host *p)
{
    struct sched_step s;
    while (p->serving &&
           sched_next(p->sched, core_now(p), predicted_ns, p, &s)) {
        const enum status st = send_step(p, &s);
        if (st == ST_OK) continue;
        const struct cluster_node *to =
            cluster_by_id(p->cluster, p->stages[0].node);
        if (!to) return; /* its epoch is about to end */
        char why[LIMIT_TEXT + 1];
        snprintf(why, sizeof why, "takes no more steps: %s", status_text(st));
        cluster_overdue(p->cluster, to->id, why, core_now(p));
        return;
    }
}

/* ---------------------------------------------------------------- in */

static struct core_flight *flight_of(struct pool_host *p, uint64_t step)
{
    for (uint32_t i = 0; step != 0 && p->serving && i < p->plan.n_steps; i++) {
        if (p->flights[i].step == step) return &p->flights[i];
    }
    return NULL;
}

struct arrival {
    struct pool_host *p;
    const struct wire_result *result;
    const struct core_flight *flight;
    const float *tensor;
};

static void take_row(void *arg, uint64_t request, uint32_t i)
{
    const struct arrival *a = arg;
    struct pool_host *p = a->p;
    struct pool_job *j = core_job(p, request);
    if (!j) return;
    const float *row = NULL;
    if (a->flight->whole[i]) {
        size_t before = 0;
        for (uint32_t k = 0; k < i; k++) before += a->flight->whole[k];
        row = a->tensor + before * a->result->n_vocab;
    }
    struct error err;
    int32_t id;
    const char *text;
    size_t n;
    const enum session_next next =
        session_take(j->session, &a->result->rows[i], row, p->plan.n_ctx, &id,
                     &text, &n, &err);
    if (next == SESSION_AGAIN) {
        sched_again(p->sched, request);
        return;
    }
    if (next == SESSION_BROKEN) {
        sched_end(p->sched, request);
        core_job_over(p, j, NULL, &err);
        return;
    }
    j->last_ns = core_now(p);
    if (j->first_ns == 0) j->first_ns = j->last_ns;
    p->totals.tokens++;
    if (next == SESSION_GOES_ON) {
        sched_token(p->sched, request, id);
    } else {
        sched_end(p->sched, request);
        core_job_over(p, j, next == SESSION_STOP ? "stop" : "length", NULL);
    }
    /* last: the callback may cancel the job */
    j->events.token(j->events.arg, id, text, n, row);
}

/* What the last stage sent, against what was asked for. */
static bool plausible(const struct pool_host *p, const struct core_flight *f,
                      const struct wire_result *r)
{
    uint32_t whole = 0;
    for (uint32_t i = 0; i < f->n_want; i++) whole += f->whole[i];
    return r->n_want == f->n_want && r->n_whole == whole &&
           (whole == 0 || r->n_vocab == p->c.model->n_vocab);
}

void core_result(struct pool_host *p, const uint8_t key[KEY_BYTES],
                 const struct wire_result *r, const void *tensor)
{
    struct core_flight *f =
        p->serving && r->epoch == p->epoch ? flight_of(p, r->step) : NULL;
    const struct cluster_node *from = cluster_by_key(p->cluster, key);
    if (!f || !from || from->id != p->stages[p->plan.n_stages - 1].node) {
        return; /* late, twice, or not its to send */
    }
    if (!plausible(p, f, r)) {
        cluster_overdue(p->cluster, from->id,
                        "sent a result that does not fit its step",
                        core_now(p));
        return;
    }
    struct arrival a = {.p = p, .result = r, .flight = f, .tensor = tensor};
    p->blame = 0;
    cluster_proved(p->cluster);
    p->totals.compute_ns += r->compute_ns;
    const bool known = sched_done(p->sched, r->step, take_row, &a);
    f->step = 0;
    (void)known;
}

struct failing {
    struct pool_host *p;
    const struct error *err;
};

static void fail_request(void *arg, uint64_t request)
{
    const struct failing *f = arg;
    struct pool_job *j = core_job(f->p, request);
    if (j) core_job_over(f->p, j, NULL, f->err);
}

void core_step_failed(struct pool_host *p, const struct wire_failure *m,
                      const char *who)
{
    struct core_flight *f =
        p->serving && m->epoch == p->epoch ? flight_of(p, m->step) : NULL;
    if (!f) return;
    struct error err;
    error_set(&err,
              m->status < (uint32_t)ST_INTERRUPTED ? (enum status)m->status
                                                   : ST_IO,
              "%s: %s", who, m->text);
    core_say(p, "a step failed at %s", err.text);
    struct failing failing = {p, &err};
    f->step = 0;
    const bool known = sched_failed(p->sched, m->step, fail_request, &failing);
    (void)known;
}

/* Whose step it is that is overdue: who says it computes and gets nowhere;
 * otherwise a message was lost between two of them, and the stages are
 * suspected one after the other, from the last. */
static const struct cluster_node *culprit(struct pool_host *p)
{
    for (uint32_t i = 0; i < p->plan.n_stages; i++) {
        const struct cluster_node *n =
            cluster_by_id(p->cluster, p->stages[i].node);
        if (n && n->busy) return n;
    }
    if (p->plan.n_stages == 0) return NULL;
    const uint32_t at = p->plan.n_stages - 1 - p->blame++ % p->plan.n_stages;
    return cluster_by_id(p->cluster, p->stages[at].node);
}

void core_check_overdue(struct pool_host *p)
{
    if (!p->serving || sched_overdue(p->sched, core_now(p)) == 0) return;
    const struct cluster_node *n = culprit(p);
    if (!n) return;
    cluster_overdue(p->cluster, n->id, "did not finish a step in time",
                    core_now(p));
}

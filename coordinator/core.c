/* core.c - the pool's life: nodes come and go, epochs begin and end. */
#include "coordinator/core_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/hash.h"

void core_say(struct pool_host *p, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    p->io.say(p->io.arg, line);
}

enum status core_create(struct pool_host **out, const struct core_config *c,
                        const struct core_io *io, struct error *err)
{
    struct pool_host *p = mem_zalloc(sizeof *p);
    if (!p) return error_set(err, ST_NO_MEMORY, "the pool's tables");
    p->c = *c;
    p->io = *io;
    p->next_job = c->first_request ? c->first_request : 1;
    p->next_step = c->first_request ? c->first_request : 1;
    p->model.header = c->model_header;
    p->model.header_bytes = c->model_header_bytes;
    hash_of(p->model.id, c->model_header, c->model_header_bytes);
    const enum status st = cluster_create(&p->cluster, &c->cluster, err);
    if (st != ST_OK) {
        core_free(p);
        return st;
    }
    *out = p;
    return ST_OK;
}

void core_free(struct pool_host *p)
{
    if (!p) return;
    while (p->jobs) {
        struct pool_job *j = p->jobs;
        p->jobs = j->next;
        session_free(j->session);
        mem_free(j);
    }
    core_drop_plan(p);
    cluster_free(p->cluster);
    mem_free(p);
}

/* ----------------------------------------------------------- messages */

static void send_failure(struct pool_host *p, const struct cluster_action *a)
{
    struct wire_message m = {.kind = WIRE_REFUSE};
    m.failure.status = (uint32_t)a->status;
    snprintf(m.failure.text, sizeof m.failure.text, "%s", a->text);
    const enum status st = p->io.control(p->io.arg, a->key, &m);
    (void)st; /* it asks again */
}

static void send_welcome(struct pool_host *p, const struct cluster_action *a)
{
    const struct cluster_config *c = &p->c.cluster;
    struct wire_message m = {.kind = WIRE_WELCOME};
    m.welcome = (struct wire_welcome){.protocol = PROTOCOL_MAX,
                                      .coordinator_boot = c->boot,
                                      .node = a->node,
                                      .heartbeat_ms = HEARTBEAT_MS,
                                      .lease_ms = LEASE_MS,
                                      .data_port = c->data_port,
                                      .bulk_port = c->bulk_port};
    const enum status st = p->io.control(p->io.arg, a->key, &m);
    (void)st;
}

static void send_assign(struct pool_host *p, const struct cluster_action *a)
{
    struct wire_message m;
    struct error err;
    enum status st = assign_make(&m, &p->plan, p->cluster, &p->model, a->node,
                                 a->epoch, &err);
    if (st == ST_OK) {
        st = p->io.control(p->io.arg, a->key, &m);
        wire_message_fini(&m);
        if (st != ST_OK) error_set(&err, st, "%s", status_text(st));
    }
    /* a node that never hears of it is found by the stall of its loading */
    if (st != ST_OK) core_say(p, "assigning worker %u: %s", a->node, err.text);
}

static void serve(struct pool_host *p, uint64_t epoch)
{
    struct error err;
    p->draining = false;
    if (core_begin_serving(p, epoch, &err) != ST_OK) {
        core_say(p, "%s", err.text);
        core_fail_parked(p, err.status, err.text);
        return;
    }
    p->served = true;
    core_say(p, "serving %s: %.1f tokens/s predicted for one stream; %s",
             p->c.model_name, p->plan.decode_tokens_per_s, p->plan.bottleneck);
    core_unpark(p);
}

static void stop(struct pool_host *p, const struct cluster_action *a)
{
    struct error err;
    if (a->status == ST_INTERRUPTED && p->serving) {
        core_say(p, "%s: finishing what runs", a->text);
        p->draining = true;
        core_park_waiting(p);
        return;
    }
    error_set(&err, ST_IO, "%s", a->text);
    core_say(p, "%s", a->text);
    core_end_serving(p, &err);
}

static void add_type(struct wire_probe *p, const struct model_matrix *m)
{
    if (!m->tensor) return;
    const uint32_t type = (uint32_t)m->tensor->type;
    for (uint32_t i = 0; i < p->n_types; i++) {
        if (p->types[i] == type) return;
    }
    if (p->n_types < LIMIT_RATES) p->types[p->n_types++] = type;
}

/* Nothing but what this model has needs to be measured. */
static enum status send_probe(struct pool_host *p, const uint8_t *key)
{
    struct wire_message m = {.kind = WIRE_PROBE};
    const struct model *model = p->c.model;
    for (uint32_t i = 0; i < model->n_layer; i++) {
        const struct model_layer *l = &model->layers[i];
        const struct model_matrix *const all[] = {
            &l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down, &l->router};
        for (size_t k = 0; k < COUNT_OF(all); k++) add_type(&m.probe, all[k]);
    }
    add_type(&m.probe, &model->embed);
    add_type(&m.probe, &model->head);
    return p->io.control(p->io.arg, key, &m);
}

static void do_action(struct pool_host *p, const struct cluster_action *a)
{
    switch (a->kind) {
    case CLUSTER_SEND_WELCOME:
        send_welcome(p, a);
        break;
    case CLUSTER_SEND_REFUSE:
        send_failure(p, a);
        break;
    case CLUSTER_SEND_PROBE:
        if (send_probe(p, a->key) != ST_OK) {
            core_say(p, "worker %u cannot be asked for its speed", a->node);
        }
        break;
    case CLUSTER_MAKE_PLAN:
        core_make_plan(p);
        break;
    case CLUSTER_SEND_ASSIGN:
        send_assign(p, a);
        break;
    case CLUSTER_SERVE:
        serve(p, a->epoch);
        break;
    case CLUSTER_STOP:
        stop(p, a);
        break;
    case CLUSTER_DROP:
        p->io.drop(p->io.arg, a->key);
        break;
    }
}

/* Actions make events, which make actions: one loop does them all. */
void core_act(struct pool_host *p)
{
    struct cluster_action a;
    if (p->acting) return;
    p->acting = true;
    do {
        while (cluster_action(p->cluster, &a)) do_action(p, &a);
        p->dirty = false;
        core_pump(p);
        if (p->draining && p->sched) {
            const struct sched_counts n = sched_counts(p->sched);
            if (n.running == 0 && n.in_flight == 0) {
                p->draining = false;
                core_end_serving(p, NULL);
                cluster_stopped(p->cluster, core_now(p));
            }
        }
        core_finish_jobs(p);
    } while (cluster_action_waits(p->cluster) || p->n_over != 0);
    p->acting = false;
}

/* ------------------------------------------------------------- events */

void core_hello(struct pool_host *p, const uint8_t key[KEY_BYTES],
                const char *host, const struct wire_hello *h)
{
    const struct cluster_node *n = cluster_by_key(p->cluster, key);
    const uint32_t before = n ? n->id : 0;
    cluster_hello(p->cluster, key, host, h, core_now(p));
    n = cluster_by_key(p->cluster, key);
    if (n && n->id != before) {
        core_say(p, "%s joined from %s: %u threads, %s, %.1f GiB",
                 n->hello.name, host, h->n_threads, h->isa,
                 (double)h->memory_bytes / 0x1p30);
    }
    core_act(p);
}

void core_control(struct pool_host *p, const uint8_t key[KEY_BYTES],
                  const struct wire_message *m)
{
    cluster_message(p->cluster, key, m, core_now(p));
    core_act(p);
}

void core_data(struct pool_host *p, const uint8_t key[KEY_BYTES],
               const struct wire_message *m, const void *tensor,
               size_t tensor_bytes)
{
    (void)tensor_bytes; /* wire_read has held it against the header */
    const struct cluster_node *n = cluster_by_key(p->cluster, key);
    if (!n) return;
    if (m->kind == WIRE_RESULT)
        core_result(p, key, &m->result, tensor);
    else if (m->kind == WIRE_STEP_FAILED)
        core_step_failed(p, &m->failure, n->hello.name);
    core_act(p);
}

void core_replan(struct pool_host *p, const char *plan_json, size_t n)
{
    p->c.plan_json = plan_json;
    p->c.plan_json_bytes = n;
    cluster_replan(p->cluster, core_now(p));
    core_act(p);
}

void core_revoke(struct pool_host *p, const uint8_t key[KEY_BYTES])
{
    cluster_revoke(p->cluster, key, core_now(p));
    core_act(p);
}

static void beat(struct pool_host *p, uint64_t now)
{
    if (p->beats != 0 && now - p->beat_ns < HEARTBEAT_MS * MS_NS) return;
    p->beat_ns = now;
    p->beats++;
    struct wire_message m = {.kind = WIRE_HEARTBEAT};
    m.heartbeat.n = p->beats;
    m.heartbeat.epoch = cluster_epoch(p->cluster);
    for (uint32_t i = 0; i < cluster_n_nodes(p->cluster); i++) {
        const struct cluster_node *n = cluster_node(p->cluster, i);
        const enum status st = p->io.control(p->io.arg, n->key, &m);
        (void)st; /* silence is what the leases are for */
    }
}

void core_tick(struct pool_host *p)
{
    const uint64_t now = core_now(p);
    beat(p, now);
    cluster_tick(p->cluster, now);
    core_act(p);
    core_check_overdue(p);
    core_expire_parked(p);
    core_act(p);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t core_deadline(const struct pool_host *p)
{
    if (p->n_over != 0 || p->dirty || cluster_action_waits(p->cluster)) {
        return 0;
    }
    uint64_t first = cluster_deadline(p->cluster);
    if (cluster_n_nodes(p->cluster) != 0) {
        first = min_u64(first, p->beat_ns + HEARTBEAT_MS * MS_NS);
    }
    if (p->sched) first = min_u64(first, sched_deadline(p->sched));
    return min_u64(first, core_jobs_deadline(p));
}

void core_close(struct pool_host *p)
{
    struct error err;
    error_set(&err, ST_INTERRUPTED, "the coordinator stops");
    core_fail_parked(p, ST_INTERRUPTED, err.text);
    if (p->closing) {
        core_end_serving(p, &err);
        core_fail_parked(p, ST_INTERRUPTED, err.text);
    } else if (p->sched) {
        core_park_waiting(p);
        core_fail_parked(p, ST_INTERRUPTED, err.text);
    }
    p->closing = true;
    core_act(p);
}

bool core_closed(const struct pool_host *p)
{
    return p->closing && p->n_jobs == 0;
}

bool core_member(const struct pool_host *p, const uint8_t key[KEY_BYTES])
{
    return cluster_by_key(p->cluster, key) != NULL;
}

bool core_check(const struct pool_host *p)
{
    if (!cluster_check(p->cluster)) return false;
    if (p->sched && !sched_check(p->sched)) return false;
    /* what serves is what the cluster believes in, unless it drains */
    if (p->serving && !p->draining &&
        cluster_state(p->cluster) == POOL_SERVING &&
        p->epoch != cluster_epoch(p->cluster)) {
        return false;
    }
    uint32_t n = 0, over = 0;
    for (const struct pool_job *j = p->jobs; j; j = j->next) {
        n++;
        over += j->state == JOB_OVER;
        if (j->state == JOB_SCHEDULED && !p->sched) return false;
    }
    return n == p->n_jobs && over == p->n_over;
}

/* ------------------------------------------------------------ looking */

const struct cluster *pool_cluster(const struct pool_host *p)
{
    return p->cluster;
}

const struct tokenizer *pool_tokenizer(const struct pool_host *p)
{
    return p->c.tokenizer;
}

const char *pool_model_name(const struct pool_host *p)
{
    return p->c.model_name;
}

uint64_t pool_model_created(const struct pool_host *p)
{
    return p->c.model_created;
}

uint32_t pool_context(const struct pool_host *p)
{
    return p->has_plan ? p->plan.n_ctx : 0;
}

bool pool_ready(const struct pool_host *p)
{
    if (p->closing) return false;
    switch (cluster_state(p->cluster)) {
    case POOL_SERVING:
    case POOL_STOPPING:
        return true;
    case POOL_PLANNING:
    case POOL_LOADING:
        return p->served; /* it changes, and goes on */
    case POOL_WAITING:
    case POOL_STARVED:
        return false;
    }
    return false;
}

const char *pool_why_not(const struct pool_host *p)
{
    return p->closing ? "the coordinator stops" : cluster_why(p->cluster);
}

/* A worker's membership and loading: the real link.c, and worker/net.c's way
 * with the messages of the coordinator. */
#include "tests/sim/sim_worker.h"

#include <stdio.h>
#include <string.h>

#include "engine/numerics.h"
#include "worker/assign.h"

#define TICK_MS 500

void sim_key(uint32_t who, uint8_t key[KEY_BYTES])
{
    memset(key, 0x5a, KEY_BYTES);
    key[0] = (uint8_t)who;
}

uint32_t sim_who(const uint8_t key[KEY_BYTES])
{
    return key[0] >= 1 && key[0] < SIM_PROCS ? key[0] : SIM_NOBODY;
}

const uint8_t *sim_worker_key(const struct sim_worker *w)
{
    return w->key;
}

uint64_t sim_worker_busy_ns(const struct sim_worker *w)
{
    return w->busy_ns;
}

static void tell(struct sim_worker *w, const struct wire_message *m)
{
    const enum status st = sim_send(w->s, w->who, 0, SIM_CONTROL, m, NULL, 0);
    (void)st; /* every wait has a deadline */
}

static void send_hello(struct sim_worker *w)
{
    struct wire_message m = {.kind = WIRE_HELLO};
    m.hello = (struct wire_hello){.protocol_min = PROTOCOL_MIN,
                                  .protocol_max = PROTOCOL_MAX,
                                  .numerics_version = NUMERICS_VERSION,
                                  .boot_id = w->boot,
                                  .n_threads = 2,
                                  .memory_bytes = w->memory,
                                  .data_port = 7000 + w->who};
    snprintf(m.hello.name, sizeof m.hello.name, "%s", w->name);
    snprintf(m.hello.isa, sizeof m.hello.isa, "%s", isa_name(ISA_REF));
    tell(w, &m);
}

static void send_heartbeat(struct sim_worker *w)
{
    struct wire_message m = {.kind = WIRE_HEARTBEAT};
    m.heartbeat = (struct wire_heartbeat){.n = ++w->n_beats,
                                          .progress = w->progress,
                                          .busy = w->busy || w->runs,
                                          .epoch = w->epoch};
    tell(w, &m);
}

static void drop_assign(struct sim_worker *w)
{
    exec_clear(w);
    if (w->assigned) {
        struct wire_message m = {.kind = WIRE_ASSIGN, .assign = w->assign};
        wire_message_fini(&m);
    }
    w->assign = (struct wire_assign){0};
    w->assigned = w->loaded = false;
}

static void void_epoch(struct sim_worker *w)
{
    w->epoch = 0;
    drop_assign(w);
    link_assigned(&w->link, false);
}

/* --------------------------------------------------------------- probe */

static void probed(struct sim *s, struct sim_event *e)
{
    struct sim_worker *w = s->workers[e->who];
    struct wire_message m = {.kind = WIRE_REPORT};
    w->probing = false;
    w->probed = true;
    w->report = (struct wire_report){
        .read_bytes_per_s = 1e10 / w->ns_per_row_layer * 1e4,
        .link_bytes_per_s = 1e8,
        .link_latency_s = 1e-4,
        .n_rates = 1,
        .rates = {{QUANT_F32, 1e13 / w->ns_per_row_layer,
                   1e13 / w->ns_per_row_layer}}};
    m.report = w->report;
    tell(w, &m);
}

static void on_probe(struct sim_worker *w)
{
    if (w->link.state != LINK_MEMBER || w->probing) return;
    w->probing = true;
    sim_at(w->s,
           w->s->now + (w->probed ? 1 : sim_between(w->s, 50, 1500) * SIM_MS),
           w->who, probed, NULL, NULL, 0);
}

/* ---------------------------------------------------------------- load */

static void check_assign(struct sim_worker *w)
{
    const struct wire_assign *a = &w->assign;
    const struct model *m = &w->s->model->model;
    struct shard_spec spec;
    struct error err;
    if (assign_spec(&spec, a, m, &err) != ST_OK) {
        sim_fail(w->s, "worker %u: %s", w->who, err.text);
        return;
    }
    const struct shard_options o = {.isa = ISA_REF,
                                    .kv_type = (enum kv_type)a->kv_type,
                                    .n_threads = 2,
                                    .n_ctx = a->n_ctx,
                                    .n_seq_max = a->n_seq_max,
                                    .n_pages = a->n_pages,
                                    .rows_max = a->rows_max,
                                    .outputs_max = a->outputs_max};
    const struct shard_bytes b = shard_plan(m, &spec, &o);
    const uint64_t total = b.total + a->n_steps * b.scratch;
    if (total > w->memory) {
        sim_fail(w->s, "worker %u is to hold %llu bytes and offered %llu",
                 w->who, (unsigned long long)total,
                 (unsigned long long)w->memory);
    }
    if (a->n_seq_max > SIM_SEQS_MAX)
        sim_fail(w->s, "%u sequences", a->n_seq_max);
    mem_free(spec.layers);
}

static void tell_progress(struct sim_worker *w)
{
    struct wire_message m = {.kind = WIRE_PROGRESS};
    m.progress = (struct wire_progress){.epoch = w->epoch,
                                        .done_bytes = w->load_done,
                                        .total_bytes = w->load_total};
    snprintf(m.progress.what, sizeof m.progress.what, "loading");
    tell(w, &m);
}

static void loading(struct sim *s, struct sim_event *e)
{
    struct sim_worker *w = s->workers[e->who];
    if (e->arg != w->epoch || w->loaded) return; /* of another assignment */
    struct wire_message m = {.kind = WIRE_READY};
    if (w->load_done < w->load_total) {
        if (!s->calm && sim_chance(s, w->p_hang_load)) {
            sim_note(s, "%u: load hangs", w->who);
            return;
        }
        w->load_done++;
        tell_progress(w);
        sim_at(s, s->now + sim_between(s, 10, 400) * SIM_MS, w->who, loading,
               NULL, NULL, e->arg);
        return;
    }
    if (!s->calm && sim_chance(s, w->p_fail_load)) {
        sim_note(s, "%u: load of %llu fails", w->who,
                 (unsigned long long)w->epoch);
        m.kind = WIRE_FAILURE;
        m.failure = (struct wire_failure){.epoch = w->epoch, .status = ST_IO};
        snprintf(m.failure.text, sizeof m.failure.text, "the disk burns");
        tell(w, &m);
        return;
    }
    w->loaded = true;
    m.ready = (struct wire_ready){.epoch = w->epoch};
    tell(w, &m);
}

static void on_assign(struct sim_worker *w, struct wire_assign *a)
{
    if (w->link.state != LINK_MEMBER || a->epoch <= w->epoch) return;
    if (w->link.boot == w->last_boot && a->epoch < w->last_epoch) {
        sim_fail(w->s, "worker %u: epoch %llu after %llu", w->who,
                 (unsigned long long)a->epoch,
                 (unsigned long long)w->last_epoch);
    }
    void_epoch(w);
    w->last_boot = w->link.boot;
    w->last_epoch = w->epoch = a->epoch;
    link_assigned(&w->link, true);
    w->assign = *a;
    w->assign.model_header = NULL;
    *a = (struct wire_assign){0};
    w->assigned = true;
    check_assign(w);
    w->load_done = 0;
    w->load_total = sim_between(w->s, 1, 8);
    sim_at(w->s, w->s->now + 10 * SIM_MS, w->who, loading, NULL, NULL,
           w->epoch);
}

/* ------------------------------------------------------------- messages */

static void on_control(struct sim_worker *w, struct wire_message *m)
{
    const uint64_t now = w->s->now;
    if (w->link.state != LINK_JOINING) link_heard(&w->link, now);
    if (m->kind == WIRE_WELCOME) {
        if (link_welcome(&w->link, m->welcome.coordinator_boot, m->welcome.node,
                         m->welcome.heartbeat_ms, m->welcome.lease_ms, now)) {
            void_epoch(w);
        }
    } else if (m->kind == WIRE_REFUSE) {
        if (!link_refused(&w->link, (enum status)m->failure.status, now)) {
            sim_fail(w->s, "worker %u is refused: %s", w->who, m->failure.text);
        }
    } else if (m->kind == WIRE_PROBE) {
        on_probe(w);
    } else if (m->kind == WIRE_ASSIGN) {
        on_assign(w, &m->assign);
    } else if (m->kind == WIRE_HEARTBEAT && w->link.state == LINK_LEAVING &&
               m->heartbeat.epoch > w->epoch) {
        link_assigned(&w->link, false);
    }
}

static bool is_peer(const struct sim_worker *w, uint32_t from, uint32_t node)
{
    for (uint32_t i = 0; i < w->assign.n_peers; i++) {
        const struct wire_peer *p = &w->assign.peers[i];
        if (sim_who(p->key) == from && (node == 0 || p->node == node)) {
            return true;
        }
    }
    return false;
}

void sim_worker_receive(struct sim *s, uint32_t who, uint32_t from,
                        enum sim_socket socket, struct wire_message *m,
                        const void *tensor, size_t tensor_bytes)
{
    struct sim_worker *w = s->workers[who];
    (void)tensor_bytes; /* wire_read has checked it */
    if (socket == SIM_CONTROL) {
        on_control(w, m);
        return;
    }
    /* what is of another epoch may well come from one that is no peer now */
    const uint64_t epoch =
        m->kind == WIRE_STEP ? m->step.epoch : m->exchange.epoch;
    if (epoch != w->epoch || !w->assigned) return;
    const uint32_t node = m->kind == WIRE_STEP ? 0 : m->exchange.node;
    if (!(from == 0 && m->kind == WIRE_STEP) && !is_peer(w, from, node)) {
        sim_fail(s, "worker %u: %s of %u, which is no peer", who,
                 wire_kind_name(m->kind), from);
        return;
    }
    if (m->kind == WIRE_STEP)
        exec_take_step(w, m, tensor);
    else if (m->kind == WIRE_DISPATCH)
        exec_take_dispatch(w, m, tensor);
    else if (m->kind == WIRE_PARTIALS)
        exec_take_partials(w, m, tensor);
}

/* ----------------------------------------------------------------- time */

static void died(struct sim_worker *w)
{
    struct sim *s = w->s;
    s->alive[w->who] = false;
    s->life[w->who]++;
    drop_assign(w);
    w->busy = w->probing = false;
    w->epoch = 0;
    for (uint32_t i = 0; i < SIM_PROCS; i++) sim_break(s, w->who, i);
}

static void tick(struct sim *s, struct sim_event *e)
{
    struct sim_worker *w = s->workers[e->who];
    enum link_action action;
    while ((action = link_next(&w->link, s->now)) != LINK_NOTHING) {
        struct wire_message m = {.kind = WIRE_DRAIN};
        if (action == LINK_SEND_HELLO) send_hello(w);
        if (action == LINK_SEND_HEARTBEAT) send_heartbeat(w);
        if (action == LINK_LOST) void_epoch(w);
        if (action == LINK_SEND_DRAIN) tell(w, &m);
        if (action != LINK_SEND_BYE) continue;
        m.kind = WIRE_BYE;
        tell(w, &m);
        sim_note(s, "%u has left", w->who);
        s->alive[w->who] = false; /* what it has said still travels */
        s->life[w->who]++;
        drop_assign(w);
        w->busy = w->probing = false;
        return;
    }
    uint64_t wait = link_wait_ms(&w->link, s->now);
    if (wait > TICK_MS) wait = TICK_MS;
    sim_at(s, s->now + (wait ? wait : 1) * SIM_MS, w->who, tick, NULL, NULL, 0);
}

void sim_worker_start(struct sim_worker *w)
{
    struct sim *s = w->s;
    s->alive[w->who] = true;
    w->boot = rng_u64(&s->rng) | 1;
    w->epoch = w->last_boot = w->last_epoch = 0;
    w->probed = w->leaving = false;
    link_init(&w->link);
    sim_at(s, s->now, w->who, tick, NULL, NULL, 0);
}

void sim_worker_kill(struct sim_worker *w)
{
    if (!w->s->alive[w->who]) return;
    sim_note(w->s, "%u is killed", w->who);
    died(w);
}

void sim_worker_leave(struct sim_worker *w)
{
    if (!w->s->alive[w->who] || w->leaving) return;
    sim_note(w->s, "%u leaves", w->who);
    w->leaving = true;
    link_leave(&w->link, w->s->now);
}

bool sim_worker_empty(const struct sim_worker *w, uint64_t epoch)
{
    return w->epoch != epoch || (exec_pages(w) == 0 && !w->runs && !w->jobs);
}

struct sim_worker *sim_worker_create(struct sim *s, uint32_t who,
                                     uint64_t memory, double ns_per_row_layer)
{
    struct sim_worker *w = mem_zalloc(sizeof *w);
    if (!w) return NULL;
    w->s = s;
    w->who = who;
    w->memory = memory;
    w->ns_per_row_layer = ns_per_row_layer;
    w->slow = 1;
    sim_key(who, w->key);
    snprintf(w->name, sizeof w->name, "pc-%u", who);
    return w;
}

void sim_worker_free(struct sim_worker *w)
{
    if (!w) return;
    drop_assign(w);
    mem_free(w);
}

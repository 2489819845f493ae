/* The transport: each direction of each connection keeps its order, anything
 * else is chance.  Broken connections lose what flies. */
#include "tests/sim/sim.h"

#include <string.h>

#define NS_PER_BYTE 8 /* gigabit */

static void frame_free(void *p)
{
    struct sim_frame *f = p;
    buf_fini(&f->header);
    mem_free(f->tensor);
    mem_free(f);
}

/* A frame that does not arrive. */
static void lose(struct sim *s, const struct sim_frame *f)
{
    if (f->socket == SIM_DATA && f->epoch > s->gap_epoch) {
        s->gap_epoch = f->epoch;
    }
    s->n_lost++;
}

static struct sim_frame *frame_copy(const struct sim_frame *f)
{
    struct sim_frame *c = mem_zalloc(sizeof *c);
    if (!c) return NULL;
    *c = *f;
    buf_init(&c->header, LIMIT_ASSIGN_BYTES);
    c->tensor = f->tensor_bytes ? mem_alloc(f->tensor_bytes) : NULL;
    if (buf_append(&c->header, f->header.data, f->header.len) != ST_OK ||
        (f->tensor_bytes && !c->tensor)) {
        frame_free(c);
        return NULL;
    }
    if (c->tensor) memcpy(c->tensor, f->tensor, f->tensor_bytes);
    return c;
}

static struct sim_channel *channel_of(struct sim *s, const struct sim_frame *f)
{
    return &s->channels[f->from][f->to][f->socket];
}

static void deliver(struct sim *s, struct sim_event *e)
{
    struct sim_frame *f = e->payload;
    const struct sim_link *l = &s->links[f->from][f->to];
    const bool cut = s->now < l->cut_until;
    if (cut && !l->lossy) {
        sim_again(s, e, l->cut_until);
        return;
    }
    if (cut || f->connection != channel_of(s, f)->connection) {
        lose(s, f);
        frame_free(f);
        return;
    }
    struct wire_message m;
    struct error err;
    if (wire_read(&m, f->header.data, f->header.len, f->tensor, f->tensor_bytes,
                  &err) != ST_OK) {
        sim_fail(s, "%u to %u: %s", f->from, f->to, err.text);
        frame_free(f);
        return;
    }
    s->n_messages++;
    if (m.kind != WIRE_HEARTBEAT && m.kind != WIRE_PROGRESS) {
        /* what is sent over data begins with epoch and step */
        const bool data = f->socket == SIM_DATA;
        sim_note(s, "%u -> %u %s %llu %llu", f->from, f->to,
                 wire_kind_name(m.kind),
                 (unsigned long long)(data ? m.result.epoch : 0),
                 (unsigned long long)(data ? m.result.step : 0));
    }
    if (f->to == 0)
        sim_core_receive(s, f->from, f->socket, &m, f->tensor, f->tensor_bytes);
    else
        sim_worker_receive(s, f->to, f->from, f->socket, &m, f->tensor,
                           f->tensor_bytes);
    wire_message_fini(&m);
    frame_free(f);
}

static uint64_t arrival(struct sim *s, const struct sim_frame *f)
{
    const struct sim_link *l = &s->links[f->from][f->to];
    uint64_t at = s->now + l->latency_ns +
                  NS_PER_BYTE * (f->header.len + f->tensor_bytes);
    if (!s->o.quiet_links) at += sim_between(s, 0, l->latency_ns + 1);
    if (s->o.spikes && !s->calm && sim_chance(s, 0.002)) {
        at += sim_between(s, 0, 1500 * SIM_MS);
    }
    struct sim_channel *c = channel_of(s, f);
    if (at <= c->last_ns) at = c->last_ns + 1;
    c->last_ns = at;
    return at;
}

/* Twice is once too often for a Step, which TCP never brings twice: it is the
 * one message that is not idempotent. */
static bool may_repeat(const struct wire_message *m)
{
    return m->kind != WIRE_STEP;
}

enum status sim_send(struct sim *s, uint32_t from, uint32_t to,
                     enum sim_socket socket, const struct wire_message *m,
                     const void *tensor, size_t tensor_bytes)
{
    const struct sim_link *l = &s->links[from][to];
    struct sim_frame f = {
        .from = from, .to = to, .socket = socket, .tensor_bytes = tensor_bytes};
    struct error err;
    buf_init(&f.header, LIMIT_ASSIGN_BYTES);
    if (wire_write(&f.header, m, &err) != ST_OK) {
        sim_fail(s, "%u to %u: %s", from, to, err.text);
        buf_fini(&f.header);
        return ST_INVALID;
    }
    union {
        const void *in;
        void *out;
    } same = {.in = tensor}; /* copied before anybody writes to it */
    f.tensor = same.out;
    f.connection = channel_of(s, &f)->connection;
    if (socket == SIM_DATA) f.epoch = m->result.epoch;
    enum status st = ST_OK;
    bool lost = !s->alive[to];
    if (s->now < l->cut_until && l->lossy) lost = true;
    if (s->o.losses && !s->calm && sim_chance(s, 0.002)) lost = true;
    if (lost) lose(s, &f);
    if (lost && from == 0 && socket == SIM_CONTROL && sim_chance(s, 0.5)) {
        st = ST_NOT_FOUND; /* the router knows */
    }
    const uint32_t copies = lost ? 0
                                 : 1 + (s->o.duplicates && !s->calm &&
                                        may_repeat(m) && sim_chance(s, 0.01));
    for (uint32_t i = 0; i < copies; i++) {
        struct sim_frame *c = frame_copy(&f);
        if (c) sim_at(s, arrival(s, c), to, deliver, c, frame_free, 0);
    }
    buf_fini(&f.header);
    return st;
}

void sim_break(struct sim *s, uint32_t a, uint32_t b)
{
    for (uint32_t k = 0; k < SIM_SOCKETS; k++) {
        s->channels[a][b][k].connection++;
        s->channels[b][a][k].connection++;
    }
}

void sim_cut(struct sim *s, uint32_t a, uint32_t b, uint64_t until, bool lossy)
{
    /* never sooner: what is held back must not be overtaken */
    if (until < s->links[a][b].cut_until) until = s->links[a][b].cut_until;
    s->links[a][b].cut_until = s->links[b][a].cut_until = until;
    s->links[a][b].lossy = s->links[b][a].lossy = lossy;
}

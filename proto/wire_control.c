/* wire_control.c - fields of the control messages: who joins, what it can
 * do, what it holds, how it is. */
#include <string.h>

#include "proto/wire_internal.h"

enum status wire_get_nothing(struct wire_message *out,
                             const ProtobufCMessage *in,
                             struct wire_frame header, struct error *err)
{
    (void)out, (void)in, (void)header, (void)err;
    return ST_OK;
}

enum status wire_put_nothing(struct wire_sink *k, const struct wire_message *m,
                             struct error *err)
{
    (void)m;
    const Potluck__Nothing p = POTLUCK__NOTHING__INIT;
    return wire_pack(k, &p.base, err);
}

/* -------------------------------------------------------------- hello */

enum status wire_get_hello(struct wire_message *out, const ProtobufCMessage *in,
                           struct wire_frame header, struct error *err)
{
    (void)header;
    const Potluck__Hello *p = (const Potluck__Hello *)in;
    struct wire_hello *h = &out->hello;
    h->protocol_min = p->protocol_min;
    h->protocol_max = p->protocol_max;
    h->numerics_version = p->numerics_version;
    h->boot_id = p->boot_id;
    h->n_threads = p->n_threads;
    h->memory_bytes = p->memory_bytes;
    h->data_port = p->data_port;
    enum status st = wire_get_text(h->name, LIMIT_NAME, "name", p->name, err);
    if (st == ST_OK) {
        st = wire_get_text(h->build, LIMIT_NAME, "build", p->build, err);
    }
    if (st == ST_OK) st = wire_get_text(h->cpu, LIMIT_NAME, "CPU", p->cpu, err);
    if (st == ST_OK) st = wire_get_text(h->isa, LIMIT_NAME, "ISA", p->isa, err);
    if (st == ST_OK) {
        st = wire_get_text(h->token, LIMIT_NAME, "token", p->token, err);
    }
    return st;
}

enum status wire_put_hello(struct wire_sink *k, const struct wire_message *m,
                           struct error *err)
{
    const struct wire_hello *h = &m->hello;
    Potluck__Hello p = POTLUCK__HELLO__INIT;
    p.protocol_min = h->protocol_min;
    p.protocol_max = h->protocol_max;
    p.numerics_version = h->numerics_version;
    p.boot_id = h->boot_id;
    p.name = wire_sink_text(k, h->name, LIMIT_NAME);
    p.build = wire_sink_text(k, h->build, LIMIT_NAME);
    p.cpu = wire_sink_text(k, h->cpu, LIMIT_NAME);
    p.isa = wire_sink_text(k, h->isa, LIMIT_NAME);
    p.token = wire_sink_text(k, h->token, LIMIT_NAME);
    p.n_threads = h->n_threads;
    p.memory_bytes = h->memory_bytes;
    p.data_port = h->data_port;
    return wire_pack(k, &p.base, err);
}

enum status wire_get_welcome(struct wire_message *out,
                             const ProtobufCMessage *in,
                             struct wire_frame header, struct error *err)
{
    (void)header, (void)err;
    const Potluck__Welcome *p = (const Potluck__Welcome *)in;
    out->welcome = (struct wire_welcome){
        .protocol = p->protocol,
        .coordinator_boot = p->coordinator_boot,
        .node = p->node,
        .heartbeat_ms = p->heartbeat_ms,
        .lease_ms = p->lease_ms,
        .data_port = p->data_port,
        .bulk_port = p->bulk_port,
    };
    return ST_OK;
}

enum status wire_put_welcome(struct wire_sink *k, const struct wire_message *m,
                             struct error *err)
{
    const struct wire_welcome *w = &m->welcome;
    Potluck__Welcome p = POTLUCK__WELCOME__INIT;
    p.protocol = w->protocol;
    p.coordinator_boot = w->coordinator_boot;
    p.node = w->node;
    p.heartbeat_ms = w->heartbeat_ms;
    p.lease_ms = w->lease_ms;
    p.data_port = w->data_port;
    p.bulk_port = w->bulk_port;
    return wire_pack(k, &p.base, err);
}

/* ----------------------------------------------------- probe and report */

enum status wire_get_probe(struct wire_message *out, const ProtobufCMessage *in,
                           struct wire_frame header, struct error *err)
{
    (void)header;
    const Potluck__Probe *p = (const Potluck__Probe *)in;
    const enum status st = wire_count("types", p->n_type, LIMIT_RATES, err);
    if (st != ST_OK) return st;
    out->probe.n_types = (uint32_t)p->n_type;
    for (size_t i = 0; i < p->n_type; i++) out->probe.types[i] = p->type[i];
    return ST_OK;
}

enum status wire_put_probe(struct wire_sink *k, const struct wire_message *m,
                           struct error *err)
{
    Potluck__Probe p = POTLUCK__PROBE__INIT;
    COLUMN(k, &p, type, m->probe.n_types);
    if (k->failed) return wire_no_memory(err);
    for (uint32_t i = 0; i < m->probe.n_types; i++) {
        p.type[i] = m->probe.types[i];
    }
    return wire_pack(k, &p.base, err);
}

enum status wire_get_report(struct wire_message *out,
                            const ProtobufCMessage *in,
                            struct wire_frame header, struct error *err)
{
    (void)header;
    const Potluck__Report *p = (const Potluck__Report *)in;
    const size_t n[] = {p->n_rate_type, p->n_rate_bytes_per_s,
                        p->n_rate_macs_per_s};
    enum status st = wire_columns("rates", n, COUNT_OF(n), err);
    if (st == ST_OK) st = wire_count("rates", n[0], LIMIT_RATES, err);
    if (st != ST_OK) return st;
    struct wire_report *r = &out->report;
    r->read_bytes_per_s = p->read_bytes_per_s;
    r->link_bytes_per_s = p->link_bytes_per_s;
    r->link_latency_s = p->link_latency_s;
    r->n_rates = (uint32_t)n[0];
    for (uint32_t i = 0; i < r->n_rates; i++) {
        r->rates[i] = (struct wire_rate){
            p->rate_type[i], p->rate_bytes_per_s[i], p->rate_macs_per_s[i]};
    }
    return ST_OK;
}

enum status wire_put_report(struct wire_sink *k, const struct wire_message *m,
                            struct error *err)
{
    const struct wire_report *r = &m->report;
    Potluck__Report p = POTLUCK__REPORT__INIT;
    COLUMN(k, &p, rate_type, r->n_rates);
    COLUMN(k, &p, rate_bytes_per_s, r->n_rates);
    COLUMN(k, &p, rate_macs_per_s, r->n_rates);
    if (k->failed) return wire_no_memory(err);
    p.read_bytes_per_s = r->read_bytes_per_s;
    p.link_bytes_per_s = r->link_bytes_per_s;
    p.link_latency_s = r->link_latency_s;
    for (uint32_t i = 0; i < r->n_rates; i++) {
        p.rate_type[i] = r->rates[i].type;
        p.rate_bytes_per_s[i] = r->rates[i].bytes_per_s;
        p.rate_macs_per_s[i] = r->rates[i].macs_per_s;
    }
    return wire_pack(k, &p.base, err);
}

/* ------------------------------------------------------------- assign */

static enum status get_layers(struct wire_assign *a, const Potluck__Assign *p,
                              struct error *err)
{
    const size_t n[] = {p->n_block, p->n_expert_bits / EXPERT_WORDS,
                        p->n_expert_node / MODEL_EXPERTS_MAX};
    enum status st = wire_count("layers", n[0], MODEL_LAYERS_MAX, err);
    if (st == ST_OK) st = wire_columns("layers", n, COUNT_OF(n), err);
    if (st == ST_OK && (p->n_expert_bits % EXPERT_WORDS != 0 ||
                        p->n_expert_node % MODEL_EXPERTS_MAX != 0)) {
        st = error_set(err, ST_INVALID, "experts of half a layer");
    }
    if (st != ST_OK) return st;
    bool ok = true;
    a->blocks = wire_array(n[0], sizeof *a->blocks, &ok);
    a->experts = wire_array(p->n_expert_bits, sizeof *a->experts, &ok);
    a->expert_node = wire_array(p->n_expert_node, sizeof *a->expert_node, &ok);
    if (!ok) return wire_no_memory(err);
    a->n_layer = (uint32_t)n[0];
    for (size_t i = 0; i < n[0]; i++) a->blocks[i] = p->block[i] != 0;
    for (size_t i = 0; i < p->n_expert_bits; i++) {
        a->experts[i] = p->expert_bits[i];
    }
    for (size_t i = 0; i < p->n_expert_node; i++) {
        if (p->expert_node[i] > UINT16_MAX) {
            return error_set(err, ST_INVALID,
                             "an expert's node %u is out of range",
                             p->expert_node[i]);
        }
        a->expert_node[i] = (uint16_t)p->expert_node[i];
    }
    return ST_OK;
}

static enum status get_peers(struct wire_assign *a, const Potluck__Assign *p,
                             struct error *err)
{
    enum status st = wire_count("peers", p->n_peer, LIMIT_NODES, err);
    if (st != ST_OK) return st;
    bool ok = true;
    a->peers = wire_array(p->n_peer, sizeof *a->peers, &ok);
    if (!ok) return wire_no_memory(err);
    a->n_peers = (uint32_t)p->n_peer;
    for (uint32_t i = 0; st == ST_OK && i < a->n_peers; i++) {
        struct wire_peer *to = &a->peers[i];
        to->node = p->peer[i]->node;
        to->port = p->peer[i]->port;
        st = wire_get_text(to->host, LIMIT_ADDRESS, "a peer's host",
                           p->peer[i]->host, err);
        if (st == ST_OK) {
            st = wire_get_key(to->key, "a peer's key", p->peer[i]->key, err);
        }
    }
    return st;
}

/* protobuf-c has copied it; the frame has it too, at its very end. */
static enum status get_model_header(struct wire_assign *a,
                                    ProtobufCBinaryData b,
                                    struct wire_frame header, struct error *err)
{
    if (b.len == 0) return ST_OK; /* wire_check has a word for it */
    const uint8_t *at = header.data + (header.bytes - b.len);
    if (memcmp(at, b.data, b.len) != 0) {
        return error_set(err, ST_INVALID,
                         "the model header is not at the end of the frame");
    }
    a->model_header = at;
    a->model_header_bytes = b.len;
    return ST_OK;
}

enum status wire_get_assign(struct wire_message *out,
                            const ProtobufCMessage *in,
                            struct wire_frame header, struct error *err)
{
    const Potluck__Assign *p = (const Potluck__Assign *)in;
    struct wire_assign *a = &out->assign;
    a->epoch = p->epoch;
    a->embed = p->embed != 0;
    a->vocab_first = p->vocab_first;
    a->vocab_end = p->vocab_end;
    a->n_ctx = p->n_ctx;
    a->n_seq_max = p->n_seq_max;
    a->n_pages = p->n_pages;
    a->rows_max = p->rows_max;
    a->outputs_max = p->outputs_max;
    a->kv_type = p->kv_type;
    a->n_steps = p->n_steps;
    enum status st = wire_get_key(a->model_id, "model id", p->model_id, err);
    if (st == ST_OK) st = get_layers(a, p, err);
    if (st == ST_OK) st = get_peers(a, p, err);
    if (st == ST_OK) st = get_model_header(a, p->model_header, header, err);
    return st;
}

static void put_peers(struct wire_sink *k, Potluck__Assign *p,
                      const struct wire_assign *a)
{
    Potluck__Peer *peers = wire_sink_array(k, a->n_peers, sizeof *peers);
    p->n_peer = a->n_peers;
    p->peer = wire_sink_array(k, a->n_peers, sizeof(void *));
    if (k->failed) return;
    for (uint32_t i = 0; i < a->n_peers; i++) {
        const struct wire_peer *from = &a->peers[i];
        potluck__peer__init(&peers[i]);
        peers[i].node = from->node;
        peers[i].host =
            wire_bytes(from->host, strnlen(from->host, LIMIT_ADDRESS));
        peers[i].port = from->port;
        peers[i].key = wire_bytes(from->key, KEY_BYTES);
        p->peer[i] = &peers[i];
    }
}

enum status wire_put_assign(struct wire_sink *k, const struct wire_message *m,
                            struct error *err)
{
    const struct wire_assign *a = &m->assign;
    Potluck__Assign p = POTLUCK__ASSIGN__INIT;
    COLUMN(k, &p, block, a->n_layer);
    COLUMN(k, &p, expert_bits, (size_t)a->n_layer * EXPERT_WORDS);
    COLUMN(k, &p, expert_node, (size_t)a->n_layer * MODEL_EXPERTS_MAX);
    put_peers(k, &p, a);
    if (k->failed) return wire_no_memory(err);
    for (size_t i = 0; i < p.n_block; i++) p.block[i] = a->blocks[i];
    for (size_t i = 0; i < p.n_expert_bits; i++) {
        p.expert_bits[i] = a->experts[i];
    }
    for (size_t i = 0; i < p.n_expert_node; i++) {
        p.expert_node[i] = a->expert_node[i];
    }
    p.epoch = a->epoch;
    p.model_id = wire_bytes(a->model_id, KEY_BYTES);
    p.embed = a->embed;
    p.vocab_first = a->vocab_first;
    p.vocab_end = a->vocab_end;
    p.n_ctx = a->n_ctx;
    p.n_seq_max = a->n_seq_max;
    p.n_pages = a->n_pages;
    p.rows_max = a->rows_max;
    p.outputs_max = a->outputs_max;
    p.kv_type = a->kv_type;
    p.n_steps = a->n_steps;
    p.model_header = wire_bytes(a->model_header, a->model_header_bytes);
    return wire_pack(k, &p.base, err);
}

/* ------------------------------------------------------------- status */

enum status wire_get_heartbeat(struct wire_message *out,
                               const ProtobufCMessage *in,
                               struct wire_frame header, struct error *err)
{
    (void)header, (void)err;
    const Potluck__Heartbeat *p = (const Potluck__Heartbeat *)in;
    out->heartbeat.n = p->n;
    out->heartbeat.progress = p->progress;
    out->heartbeat.busy = p->busy != 0;
    out->heartbeat.epoch = p->epoch;
    return ST_OK;
}

enum status wire_put_heartbeat(struct wire_sink *k,
                               const struct wire_message *m, struct error *err)
{
    Potluck__Heartbeat p = POTLUCK__HEARTBEAT__INIT;
    p.n = m->heartbeat.n;
    p.progress = m->heartbeat.progress;
    p.busy = m->heartbeat.busy;
    p.epoch = m->heartbeat.epoch;
    return wire_pack(k, &p.base, err);
}

enum status wire_get_progress(struct wire_message *out,
                              const ProtobufCMessage *in,
                              struct wire_frame header, struct error *err)
{
    (void)header;
    const Potluck__Progress *p = (const Potluck__Progress *)in;
    out->progress.epoch = p->epoch;
    out->progress.done_bytes = p->done_bytes;
    out->progress.total_bytes = p->total_bytes;
    return wire_get_text(out->progress.what, LIMIT_TEXT, "text", p->what, err);
}

enum status wire_put_progress(struct wire_sink *k, const struct wire_message *m,
                              struct error *err)
{
    Potluck__Progress p = POTLUCK__PROGRESS__INIT;
    p.epoch = m->progress.epoch;
    p.done_bytes = m->progress.done_bytes;
    p.total_bytes = m->progress.total_bytes;
    p.what = wire_sink_text(k, m->progress.what, LIMIT_TEXT);
    return wire_pack(k, &p.base, err);
}

enum status wire_get_ready(struct wire_message *out, const ProtobufCMessage *in,
                           struct wire_frame header, struct error *err)
{
    (void)header, (void)err;
    const Potluck__Ready *p = (const Potluck__Ready *)in;
    out->ready = (struct wire_ready){p->epoch, p->weight_bytes,
                                     p->planned_bytes, p->peak_bytes};
    return ST_OK;
}

enum status wire_put_ready(struct wire_sink *k, const struct wire_message *m,
                           struct error *err)
{
    Potluck__Ready p = POTLUCK__READY__INIT;
    p.epoch = m->ready.epoch;
    p.weight_bytes = m->ready.weight_bytes;
    p.planned_bytes = m->ready.planned_bytes;
    p.peak_bytes = m->ready.peak_bytes;
    return wire_pack(k, &p.base, err);
}

enum status wire_get_failure(struct wire_message *out,
                             const ProtobufCMessage *in,
                             struct wire_frame header, struct error *err)
{
    (void)header;
    const Potluck__Failure *p = (const Potluck__Failure *)in;
    out->failure.epoch = p->epoch;
    out->failure.step = p->step;
    out->failure.status = p->status;
    return wire_get_text(out->failure.text, LIMIT_TEXT, "text", p->text, err);
}

enum status wire_put_failure(struct wire_sink *k, const struct wire_message *m,
                             struct error *err)
{
    Potluck__Failure p = POTLUCK__FAILURE__INIT;
    p.epoch = m->failure.epoch;
    p.step = m->failure.step;
    p.status = m->failure.status;
    p.text = wire_sink_text(k, m->failure.text, LIMIT_TEXT);
    return wire_pack(k, &p.base, err);
}

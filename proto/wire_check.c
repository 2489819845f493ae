/* wire_check.c - what must hold for a message by itself, and for the tensor
 * frame beside it.
 *
 * Readers and writers share it: nobody sends what nobody would take.  What
 * depends on the model, the plan or the receiver's state (is this token in
 * the vocabulary, does this row continue its sequence) is checked where that
 * is known. */
#include <math.h>
#include <string.h>

#include "proto/wire_internal.h"

#define MEMORY_MAX ((uint64_t)1 << 50) /* sums over nodes cannot wrap */
#define RATE_MAX   1e18                /* a second; sums stay finite */
#define LATENCY_S  60.0
#define THREADS    65536u
#define PORT_MAX   65535u
#define LEASE_MAX  600000u

static enum status wrong(struct error *err, const char *what, uint64_t got)
{
    return error_set(err, ST_INVALID, "%s %llu is out of range", what,
                     (unsigned long long)got);
}

static enum status within(const char *what, uint64_t got, uint64_t low,
                          uint64_t high, struct error *err)
{
    return got >= low && got <= high ? ST_OK : wrong(err, what, got);
}

/* NaN is in no range. */
static bool number_within(double v, double low, double high)
{
    return v >= low && v <= high;
}

/* ------------------------------------------------------------ control */

static enum status check_hello(const struct wire_hello *h, struct error *err)
{
    enum status st =
        within("protocol_min", h->protocol_min, 1, UINT32_MAX, err);
    if (st == ST_OK) {
        st = within("protocol_max", h->protocol_max, h->protocol_min,
                    UINT32_MAX, err);
    }
    if (st == ST_OK) {
        st = within("number of threads", h->n_threads, 1, THREADS, err);
    }
    if (st == ST_OK) st = within("memory", h->memory_bytes, 0, MEMORY_MAX, err);
    if (st == ST_OK) st = within("data port", h->data_port, 1, PORT_MAX, err);
    if (st == ST_OK && h->name[0] == '\0') {
        st = error_set(err, ST_INVALID, "the name is empty");
    }
    return st;
}

static enum status check_welcome(const struct wire_welcome *w,
                                 struct error *err)
{
    enum status st = within("protocol", w->protocol, 1, UINT32_MAX, err);
    if (st == ST_OK) {
        st = within("heartbeat", w->heartbeat_ms, 1, LEASE_MAX, err);
    }
    if (st == ST_OK) {
        st = within("lease", w->lease_ms, (uint64_t)w->heartbeat_ms + 1,
                    LEASE_MAX, err);
    }
    if (st == ST_OK) st = within("data port", w->data_port, 0, PORT_MAX, err);
    if (st == ST_OK) st = within("bulk port", w->bulk_port, 0, PORT_MAX, err);
    return st;
}

static enum status check_report(const struct wire_report *r, struct error *err)
{
    const enum status st = wire_count("rates", r->n_rates, LIMIT_RATES, err);
    if (st != ST_OK) return st;
    bool ok = number_within(r->read_bytes_per_s, 0, RATE_MAX) &&
              number_within(r->link_bytes_per_s, 0, RATE_MAX) &&
              number_within(r->link_latency_s, 0, LATENCY_S);
    for (uint32_t i = 0; i < r->n_rates; i++) {
        if (r->rates[i].type >= QUANT_TYPE_END) {
            return wrong(err, "weight type", r->rates[i].type);
        }
        ok = ok && number_within(r->rates[i].bytes_per_s, 0, RATE_MAX) &&
             number_within(r->rates[i].macs_per_s, 0, RATE_MAX);
    }
    if (ok) return ST_OK;
    return error_set(err, ST_INVALID, "a rate or latency is out of range");
}

static enum status check_probe(const struct wire_probe *p, struct error *err)
{
    const enum status st = wire_count("types", p->n_types, LIMIT_RATES, err);
    for (uint32_t i = 0; st == ST_OK && i < p->n_types; i++) {
        if (p->types[i] >= QUANT_TYPE_END) {
            return wrong(err, "weight type", p->types[i]);
        }
    }
    return st;
}

/* It becomes part of a socket's address. */
static bool is_host(const char *s)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789.-_:%[]/@";
    return s[strspn(s, allowed)] == '\0';
}

static enum status check_peers(const struct wire_assign *a, struct error *err)
{
    enum status st = wire_count("peers", a->n_peers, LIMIT_NODES, err);
    for (uint32_t i = 0; st == ST_OK && i < a->n_peers; i++) {
        st = within("peer's port", a->peers[i].port, 1, PORT_MAX, err);
        if (st == ST_OK && !is_host(a->peers[i].host)) {
            st = error_set(err, ST_INVALID, "a peer's host \"%s\" is none",
                           a->peers[i].host);
        }
    }
    return st;
}

static enum status check_assign(const struct wire_assign *a, struct error *err)
{
    const struct {
        const char *what;
        uint64_t got, low, high;
    } range[] = {
        {"number of layers", a->n_layer, 1, MODEL_LAYERS_MAX},
        {"end of the vocabulary range", a->vocab_end, a->vocab_first,
         MODEL_VOCAB_MAX},
        {"n_ctx", a->n_ctx, 1, MODEL_CTX_MAX},
        {"n_seq_max", a->n_seq_max, 1, LIMIT_SEQUENCES},
        {"rows_max", a->rows_max, 1, LIMIT_ROWS},
        {"outputs_max", a->outputs_max, 0, LIMIT_ROWS},
        {"KV type", a->kv_type, KV_F32, KV_TYPE_END - 1},
        {"n_steps", a->n_steps, 1, LIMIT_STEPS},
    };
    for (size_t i = 0; i < COUNT_OF(range); i++) {
        const enum status st = within(range[i].what, range[i].got, range[i].low,
                                      range[i].high, err);
        if (st != ST_OK) return st;
    }
    if (a->model_header_bytes == 0) {
        return error_set(err, ST_INVALID, "the model header is missing");
    }
    for (uint32_t i = 0; i < a->n_layer; i++) {
        if (a->blocks[i] > 1) return wrong(err, "block flag", a->blocks[i]);
    }
    return check_peers(a, err);
}

static enum status check_failure(const struct wire_failure *f,
                                 struct error *err)
{
    return within("status", f->status, ST_OK + 1, ST_INTERRUPTED, err);
}

/* --------------------------------------------------------------- step */

static enum status check_stages(const struct wire_step *s, struct error *err)
{
    enum status st = wire_count("stages", s->n_stages, LIMIT_STAGES, err);
    if (st != ST_OK) return st;
    if (s->stage >= s->n_stages) return wrong(err, "stage", s->stage);
    uint32_t done = 0; /* layers */
    for (uint32_t i = 0; i < s->n_stages; i++) {
        const struct wire_stage *g = &s->stages[i];
        if (g->layer_first > g->layer_end || g->layer_end > MODEL_LAYERS_MAX) {
            return error_set(err, ST_INVALID,
                             "stage %u: layers [%u, %u) are no range", i,
                             g->layer_first, g->layer_end);
        }
        if (g->layer_first < g->layer_end) {
            if (g->layer_first < done) {
                return error_set(err, ST_INVALID,
                                 "stage %u: layer %u comes after layer %u", i,
                                 g->layer_first, done - 1);
            }
            done = g->layer_end;
        }
        if ((g->embed && i > 0) || (g->head && i + 1 < s->n_stages)) {
            return error_set(err, ST_INVALID,
                             "stage %u of %u embeds or has the head", i,
                             s->n_stages);
        }
    }
    return st;
}

static enum status check_ops(const struct wire_step *s, struct error *err)
{
    enum status st = wire_count("KV operations", s->n_ops, LIMIT_KV_OPS, err);
    for (uint32_t i = 0; st == ST_OK && i < s->n_ops; i++) {
        st =
            within("KV operation", s->ops[i].kind, KV_OP_FREE, KV_OP_FORK, err);
        if (st == ST_OK) {
            st = within("length of a KV operation", s->ops[i].n, 0, INT32_MAX,
                        err);
        }
    }
    return st;
}

static enum status check_rows(const struct wire_step *s, struct error *err)
{
    enum status st = wire_count("rows", s->n_rows, LIMIT_ROWS, err);
    if (st != ST_OK) return st;
    if (s->n_rows == 0 && s->n_ops == 0) {
        return error_set(err, ST_INVALID, "neither rows nor KV operations");
    }
    uint32_t n_want = 0;
    for (uint32_t r = 0; r < s->n_rows; r++) {
        n_want += s->rows[r].want;
        if (s->rows[r].pos > INT32_MAX) {
            return wrong(err, "position", s->rows[r].pos);
        }
        if (s->rows[r].token < 0) {
            return error_set(err, ST_INVALID, "row %u: token %d is negative", r,
                             s->rows[r].token);
        }
    }
    if (n_want != s->n_want) {
        return error_set(err, ST_INVALID,
                         "%u rows want logits, but %u samples are there",
                         n_want, s->n_want);
    }
    return ST_OK;
}

static enum status check_sample(const struct wire_sample *p, struct error *err)
{
    enum status st =
        wire_count("recent tokens", p->n_recent, LIMIT_RECENT, err);
    if (st == ST_OK) {
        st = wire_count("adjustments", p->n_adjust, LIMIT_ADJUST, err);
    }
    if (st != ST_OK) return st;
    const double big = (double)INFINITY;
    bool ok = p->inv_temp > 0 && p->inv_temp < INFINITY && p->repeat > 0 &&
              p->repeat < INFINITY && fabs((double)p->frequency) < big &&
              fabs((double)p->presence) < big;
    for (uint32_t i = 0; i < p->n_recent; i++) {
        ok = ok && p->recent[i].id >= 0;
    }
    for (uint32_t i = 0; i < p->n_adjust; i++) {
        /* -infinity bans */
        ok = ok && p->adjust[i].id >= 0 && p->adjust[i].delta < INFINITY;
    }
    if (ok) return ST_OK;
    return error_set(err, ST_INVALID, "a sampling number is out of range");
}

static enum status check_step(const struct wire_step *s, struct error *err)
{
    enum status st = check_stages(s, err);
    if (st == ST_OK) st = check_ops(s, err);
    if (st == ST_OK) st = check_rows(s, err);
    for (uint32_t i = 0; st == ST_OK && i < s->n_want; i++) {
        st = check_sample(&s->samples[i], err);
        if (st != ST_OK) return error_prefix(err, st, "sample %u", i);
    }
    if (st != ST_OK) return st;
    if (s->n_want > 0 && !s->stages[s->n_stages - 1].head) {
        return error_set(err, ST_INVALID,
                         "rows want logits, but no stage has the head");
    }
    const bool embeds = s->stages[s->stage].embed;
    const bool tensor = s->n_rows > 0 && !embeds;
    return within("width", s->width, tensor, embeds ? 0 : MODEL_EMBD_MAX, err);
}

/* ------------------------------------------------------------- result */

/* In the head's order: logit descending, id ascending. */
static bool candidates_in_order(const struct head_result *h)
{
    for (uint32_t i = 0; i < h->n_best; i++) {
        const struct head_candidate *c = &h->best[i];
        if (c->id < 0 || isnan(c->logit) || c->logit == INFINITY ||
            !isfinite(c->raw)) {
            return false;
        }
        if (i > 0 && !(c->logit < c[-1].logit ||
                       (c->logit == c[-1].logit && c->id > c[-1].id))) {
            return false;
        }
    }
    return true;
}

static enum status check_result(const struct wire_result *r, struct error *err)
{
    enum status st = wire_count("rows", r->n_want, LIMIT_ROWS, err);
    for (uint32_t i = 0; st == ST_OK && i < r->n_want; i++) {
        const struct head_result *h = &r->rows[i];
        st = wire_count("candidates", h->n_best, HEAD_BEST, err);
        if (st != ST_OK) break;
        if (!candidates_in_order(h) || h->plain_id < -1 ||
            !isfinite(h->lse_raw) || isnan(h->lse_tempered) ||
            h->lse_tempered == INFINITY) {
            st = error_set(err, ST_INVALID,
                           "row %u: candidates out of order, or numbers out "
                           "of range",
                           i);
        }
    }
    if (st != ST_OK) return st;
    if (r->n_whole > r->n_want) return wrong(err, "whole rows", r->n_whole);
    return within("n_vocab", r->n_vocab, r->n_whole > 0, MODEL_VOCAB_MAX, err);
}

/* ---------------------------------------------------- exchange, bulk */

static enum status check_exchange(const struct wire_exchange *x,
                                  struct error *err)
{
    enum status st = wire_count("parts", x->n_parts, LIMIT_PARTS, err);
    if (st == ST_OK) st = within("parts", x->n_parts, 1, LIMIT_PARTS, err);
    if (st == ST_OK) st = within("width", x->width, 1, MODEL_EMBD_MAX, err);
    for (uint32_t i = 0; st == ST_OK && i < x->n_parts; i++) {
        const struct wire_part *p = &x->parts[i];
        st = within("layer", p->layer, 0, MODEL_LAYERS_MAX - 1, err);
        if (st == ST_OK) {
            st = within("expert", p->expert, 0, MODEL_EXPERTS_MAX - 1, err);
        }
        if (st == ST_OK) {
            st = within("rows of a part", p->n_rows, 1, LIMIT_ROWS, err);
        }
    }
    return st;
}

static enum status check_cells(const struct wire_cells *c, bool manifest,
                               struct error *err)
{
    enum status st = wire_count("cells", c->n, LIMIT_CELLS, err);
    if (st == ST_OK) st = within("cells", c->n, 1, LIMIT_CELLS, err);
    if (st == ST_OK && manifest != (c->hashes != NULL)) {
        st = error_set(err, ST_INVALID,
                       manifest ? "the hashes are missing"
                                : "hashes where none belong");
    }
    if (st == ST_OK && manifest && c->manifest_only) {
        st = error_set(err, ST_INVALID, "a manifest asks for nothing");
    }
    return st;
}

enum status wire_check(const struct wire_message *m, struct error *err)
{
    switch (m->kind) {
    case WIRE_HELLO:
        return check_hello(&m->hello, err);
    case WIRE_PROBE:
        return check_probe(&m->probe, err);
    case WIRE_REPORT:
        return check_report(&m->report, err);
    case WIRE_FAILURE:
    case WIRE_REFUSE:
    case WIRE_STEP_FAILED:
        return check_failure(&m->failure, err);
    case WIRE_WELCOME:
        return check_welcome(&m->welcome, err);
    case WIRE_ASSIGN:
        return check_assign(&m->assign, err);
    case WIRE_STEP:
        return check_step(&m->step, err);
    case WIRE_RESULT:
        return check_result(&m->result, err);
    case WIRE_DISPATCH:
    case WIRE_PARTIALS:
        return check_exchange(&m->exchange, err);
    case WIRE_ECHO:
        return within("reply", m->echo.reply_bytes, 0, LIMIT_CELL_BYTES, err);
    case WIRE_CELLS_WANTED:
        return check_cells(&m->cells, false, err);
    case WIRE_MANIFEST:
        return check_cells(&m->cells, true, err);
    case WIRE_CELL:
        return within("status", m->cell.status, ST_OK, ST_INTERRUPTED, err);
    case WIRE_PROGRESS:
    case WIRE_READY:
    case WIRE_BYE:
    case WIRE_DRAIN:
    case WIRE_HEARTBEAT:
    case WIRE_KIND_END:
        break;
    }
    return ST_OK;
}

/* ------------------------------------------------------------- tensor */

/* The bytes that must be there; counts are within their limits, so this
 * stays below 2^40. */
static uint64_t tensor_wanted(const struct wire_message *m)
{
    uint64_t rows = 0;
    switch ((unsigned)m->kind) {
    case WIRE_STEP:
        return (uint64_t)m->step.n_rows * m->step.width * sizeof(float);
    case WIRE_RESULT:
        return (uint64_t)m->result.n_whole * m->result.n_vocab * sizeof(float);
    case WIRE_DISPATCH:
    case WIRE_PARTIALS:
        for (uint32_t i = 0; i < m->exchange.n_parts; i++) {
            rows += m->exchange.parts[i].n_rows;
        }
        return rows * m->exchange.width * sizeof(float);
    default:
        return 0;
    }
}

enum status wire_check_tensor(const struct wire_message *m, size_t tensor_bytes,
                              struct error *err)
{
    if (tensor_bytes > LIMIT_TENSOR_BYTES) {
        return error_set(err, ST_TOO_LARGE,
                         "a tensor of %zu bytes: at most %u are taken",
                         tensor_bytes, LIMIT_TENSOR_BYTES);
    }
    if (m->kind == WIRE_ECHO) return ST_OK;
    if (m->kind == WIRE_CELL && m->cell.status == ST_OK) {
        return within("bytes of a cell:", tensor_bytes, 1, LIMIT_CELL_BYTES,
                      err);
    }
    const uint64_t wanted = tensor_wanted(m);
    if (tensor_bytes == wanted) return ST_OK;
    return error_set(err, ST_INVALID,
                     "a tensor of %zu bytes, where %llu belong", tensor_bytes,
                     (unsigned long long)wanted);
}

#include "tests/lib/wire_samples.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define LAYERS 3 /* of the ordinary Assign: short golden bytes */
#define LISTS  64

/* Lists that the messages point to; made anew by each call. */
static struct {
    uint8_t header[300];
    uint8_t blocks[MODEL_LAYERS_MAX];
    uint64_t experts[MODEL_LAYERS_MAX * 4];
    uint16_t expert_node[MODEL_LAYERS_MAX * MODEL_EXPERTS_MAX];
    struct wire_peer peers[LIMIT_NODES];
    struct wire_stage stages[LIMIT_STAGES];
    struct kv_op ops[LISTS];
    struct step_row rows[LISTS];
    struct wire_sample samples[LISTS];
    struct head_recent recent[LIMIT_RECENT];
    struct head_adjust adjust[LIMIT_ADJUST];
    struct head_result results[LISTS];
    struct wire_part parts[LIMIT_PARTS];
    struct wire_cell_id ids[LISTS];
    uint8_t hashes[LISTS * KEY_BYTES];
} held;

static void fill(uint8_t *p, size_t n, unsigned from)
{
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(from + i);
}

/* A text of the size wanted; the longest ends in a character of 3 bytes. */
static void text(char *to, size_t max, const char *ordinary,
                 enum wire_sample_size size)
{
    if (size == SAMPLE_ORDINARY) snprintf(to, max + 1, "%s", ordinary);
    if (size != SAMPLE_EXTREME) return;
    memset(to, '~', max);
    memcpy(to + max - 3, "\xe2\x96\x81", 3);
}

static uint64_t number(uint64_t ordinary, enum wire_sample_size size)
{
    return size == SAMPLE_LEAST      ? 0
           : size == SAMPLE_ORDINARY ? ordinary
                                     : UINT64_MAX;
}

static void hello(struct wire_hello *h, enum wire_sample_size size)
{
    const bool extreme = size == SAMPLE_EXTREME;
    h->protocol_min = extreme ? UINT32_MAX : 1;
    h->protocol_max = extreme ? UINT32_MAX : 1;
    h->numerics_version = (uint32_t)number(1, size);
    h->boot_id = number(0x0123456789abcdef, size);
    text(h->name, LIMIT_NAME, "pc-3", size);
    if (size == SAMPLE_LEAST) h->name[0] = 'a';
    text(h->build, LIMIT_NAME, "0.1.0", size);
    text(h->cpu, LIMIT_NAME, "Core i5-3470 \xc2\xb5", size);
    text(h->isa, LIMIT_NAME, "avx", size);
    text(h->token, LIMIT_NAME, "t0ken", size);
    h->n_threads = extreme ? 65536 : size == SAMPLE_ORDINARY ? 4 : 1;
    h->memory_bytes = extreme                   ? (uint64_t)1 << 50
                      : size == SAMPLE_ORDINARY ? 6u << 30
                                                : 0;
    h->data_port = extreme ? 65535 : size == SAMPLE_ORDINARY ? 40123 : 1;
}

static void welcome(struct wire_welcome *w, enum wire_sample_size size)
{
    *w = (struct wire_welcome){1, 0, 0, 1, 2, 0, 0};
    if (size == SAMPLE_LEAST) return;
    w->coordinator_boot = number(0xfedcba9876543210, size);
    w->node = (uint32_t)number(7, size);
    w->heartbeat_ms = size == SAMPLE_EXTREME ? 599999 : HEARTBEAT_MS;
    w->lease_ms = size == SAMPLE_EXTREME ? 600000 : LEASE_MS;
    w->data_port = size == SAMPLE_EXTREME ? 65535 : 7422;
    w->bulk_port = size == SAMPLE_EXTREME ? 65535 : 7423;
}

static void probe(struct wire_probe *p, enum wire_sample_size size)
{
    if (size == SAMPLE_LEAST) return;
    p->n_types = size == SAMPLE_EXTREME ? LIMIT_RATES : 2;
    for (uint32_t i = 0; i < p->n_types; i++) {
        p->types[i] =
            size == SAMPLE_EXTREME ? QUANT_TYPE_END - 1 : i * QUANT_Q4_K;
    }
}

static void report(struct wire_report *r, enum wire_sample_size size)
{
    if (size == SAMPLE_LEAST) return;
    const bool extreme = size == SAMPLE_EXTREME;
    r->read_bytes_per_s = extreme ? 1e18 : 1.25e10;
    r->link_bytes_per_s = extreme ? DBL_MIN : 117e6;
    r->link_latency_s = extreme ? 60 : 0.0002;
    r->n_rates = extreme ? LIMIT_RATES : 2;
    for (uint32_t i = 0; i < r->n_rates; i++) {
        r->rates[i] = (struct wire_rate){
            extreme ? QUANT_TYPE_END - 1 : i * QUANT_Q4_K, 1e9 + i, 1e10 - i};
    }
}

static void assign(struct wire_assign *a, enum wire_sample_size size)
{
    const bool extreme = size == SAMPLE_EXTREME;
    memset(held.blocks, 0, sizeof held.blocks);
    memset(held.experts, 0, sizeof held.experts);
    memset(held.expert_node, 0, sizeof held.expert_node);
    memset(held.peers, 0, sizeof held.peers);
    fill(held.header, sizeof held.header, 'G');
    *a = (struct wire_assign){
        .model_header = held.header,
        .model_header_bytes = 1,
        .n_layer = 1,
        .blocks = held.blocks,
        .experts = held.experts,
        .expert_node = held.expert_node,
        .n_ctx = 1,
        .n_seq_max = 1,
        .rows_max = 1,
        .n_steps = 1,
        .peers = held.peers,
    };
    if (size == SAMPLE_LEAST) return;
    a->epoch = number(3, size);
    fill(a->model_id, KEY_BYTES, 0x40);
    a->model_header_bytes = extreme ? sizeof held.header : 24;
    a->embed = true;
    a->vocab_first = extreme ? MODEL_VOCAB_MAX : 256;
    a->vocab_end = extreme ? MODEL_VOCAB_MAX : 32000;
    a->n_layer = extreme ? MODEL_LAYERS_MAX : LAYERS;
    a->n_ctx = extreme ? MODEL_CTX_MAX : 4096;
    a->n_seq_max = extreme ? LIMIT_SEQUENCES : 16;
    a->n_pages = (uint32_t)number(512, size);
    a->rows_max = extreme ? LIMIT_ROWS : 256;
    a->outputs_max = extreme ? LIMIT_ROWS : 64;
    a->kv_type = KV_F16;
    a->n_steps = extreme ? LIMIT_STEPS : 4;
    for (uint32_t i = 0; i < a->n_layer; i++) {
        held.blocks[i] = extreme || i == 1;
        held.experts[i * 4] = number(0x5a, size);
        held.experts[i * 4 + 3] = number((uint64_t)1 << 63, size);
        for (uint32_t e = 0; e < MODEL_EXPERTS_MAX; e++) {
            held.expert_node[i * MODEL_EXPERTS_MAX + e] =
                extreme ? UINT16_MAX : (uint16_t)(e < 8 ? e % 3 : 0);
        }
    }
    a->n_peers = extreme ? LIMIT_NODES : 2;
    for (uint32_t i = 0; i < a->n_peers; i++) {
        held.peers[i].node = extreme ? UINT32_MAX - i : i + 1;
        held.peers[i].port = extreme ? 65535 : 40000 + i;
        if (extreme) {
            memset(held.peers[i].host, 'h', LIMIT_ADDRESS);
        } else if (i > 0) {
            snprintf(held.peers[i].host, LIMIT_ADDRESS, "192.168.1.%u", i);
        }
        fill(held.peers[i].key, KEY_BYTES, i);
    }
}

static void stages(struct wire_step *s, enum wire_sample_size size)
{
    const bool extreme = size == SAMPLE_EXTREME;
    memset(held.stages, 0, sizeof held.stages);
    s->stages = held.stages;
    s->n_stages = extreme ? LIMIT_STAGES : size == SAMPLE_ORDINARY ? 3 : 1;
    for (uint32_t i = 0; i < s->n_stages; i++) {
        held.stages[i] = (struct wire_stage){
            .node = extreme ? UINT32_MAX : i + 1,
            .embed = i == 0 && size != SAMPLE_LEAST,
            .head = i + 1 == s->n_stages && size != SAMPLE_LEAST,
            .again = i == 2,
            .layer_first = i * 8 < MODEL_LAYERS_MAX ? i * 8 : 0,
            .layer_end = i * 8 < MODEL_LAYERS_MAX ? i * 8 + 8 : 0,
        };
    }
    s->stage = extreme ? s->n_stages - 1 : size == SAMPLE_ORDINARY;
}

static void samples(struct wire_step *s, enum wire_sample_size size)
{
    const bool extreme = size == SAMPLE_EXTREME;
    for (uint32_t i = 0; i < LIMIT_RECENT; i++) {
        held.recent[i] = (struct head_recent){extreme ? INT32_MAX : (int32_t)i,
                                              extreme ? UINT32_MAX : i + 1};
        held.adjust[i] =
            (struct head_adjust){extreme ? INT32_MAX : (int32_t)i + 100,
                                 extreme ? -INFINITY : 0.5F * (float)i};
    }
    s->samples = held.samples;
    for (uint32_t i = 0; i < s->n_want; i++) {
        held.samples[i] = (struct wire_sample){
            .inv_temp = extreme ? FLT_MAX : 1.25F,
            .repeat = extreme ? FLT_TRUE_MIN : 1,
            .frequency = extreme ? -FLT_MAX : 0,
            .presence = extreme ? -0.0F : 0,
            .plain = extreme || i == 0,
            .whole_row = extreme,
            .seed = number(42, size),
            .n = number(17, size),
            /* not every row has any */
            .n_recent = extreme ? i % 2 * LIMIT_RECENT : i * 2,
            .n_adjust = extreme ? i % 2 * LIMIT_ADJUST : 1,
            .recent = held.recent,
            .adjust = held.adjust,
        };
    }
}

static void step(struct wire_step *s, enum wire_sample_size size)
{
    const bool extreme = size == SAMPLE_EXTREME;
    s->epoch = number(3, size);
    s->step = number(1000, size);
    s->compute_ns = number(12345678, size);
    stages(s, size);
    s->n_ops = extreme ? LISTS : size == SAMPLE_ORDINARY ? 3 : 1;
    s->ops = held.ops;
    for (uint32_t i = 0; i < s->n_ops; i++) {
        held.ops[i] =
            (struct kv_op){extreme ? KV_OP_FORK : (enum kv_op_kind)(i % 3),
                           number(8 + i, size), number(20 + i, size),
                           extreme ? INT32_MAX : i * 32};
    }
    s->rows = held.rows;
    s->n_rows = extreme ? LISTS : size == SAMPLE_ORDINARY ? 4 : 0;
    memset(held.rows, 0, sizeof held.rows);
    for (uint32_t r = 0; r < s->n_rows; r++) {
        held.rows[r].seq = number(5 + r, size);
        held.rows[r].pos = extreme ? INT32_MAX : r * 100;
        held.rows[r].token = extreme ? INT32_MAX : (int32_t)(300 * r);
        held.rows[r].want = extreme || r >= 2;
        s->n_want += held.rows[r].want;
    }
    samples(s, size);
    s->width = extreme ? MODEL_EMBD_MAX : size == SAMPLE_ORDINARY ? 64 : 0;
}

static void result(struct wire_result *r, enum wire_sample_size size)
{
    const bool extreme = size == SAMPLE_EXTREME;
    memset(held.results, 0, sizeof held.results);
    r->epoch = number(3, size);
    r->step = number(1000, size);
    r->compute_ns = number(98765432, size);
    r->n_want = extreme ? LISTS : size == SAMPLE_ORDINARY ? 2 : 0;
    r->rows = held.results;
    for (uint32_t i = 0; i < r->n_want; i++) {
        struct head_result *h = &held.results[i];
        h->n_best = extreme ? HEAD_BEST : i * 3;
        h->lse_raw = extreme ? -FLT_MAX : 12.5F;
        h->lse_tempered = extreme ? -INFINITY : 10.25F;
        h->plain_id = extreme ? INT32_MAX : (int32_t)i - 1;
        for (uint32_t j = 0; j < h->n_best; j++) {
            const float logit = extreme && j > 0 ? -INFINITY : 9.5F - (float)j;
            h->best[j] = (struct head_candidate){
                extreme ? INT32_MAX - HEAD_BEST + (int32_t)j : (int32_t)j + 70,
                logit, extreme ? FLT_MAX : logit};
        }
    }
    r->n_whole = extreme ? LISTS : size == SAMPLE_ORDINARY;
    r->n_vocab = extreme ? MODEL_VOCAB_MAX : size == SAMPLE_ORDINARY ? 512 : 0;
}

static void exchange(struct wire_exchange *x, enum wire_sample_size size)
{
    const bool extreme = size == SAMPLE_EXTREME;
    x->epoch = number(3, size);
    x->step = number(1000, size);
    x->node = (uint32_t)number(2, size);
    x->serial = (uint32_t)number(5, size);
    x->n_parts = extreme ? LIMIT_PARTS : size == SAMPLE_ORDINARY ? 2 : 1;
    x->parts = held.parts;
    for (uint32_t i = 0; i < x->n_parts; i++) {
        held.parts[i] =
            extreme ? (struct wire_part){MODEL_LAYERS_MAX - 1,
                                         MODEL_EXPERTS_MAX - 1, LIMIT_ROWS}
                    : (struct wire_part){i, i, i + 1};
    }
    x->width = extreme ? 64 : size == SAMPLE_ORDINARY ? 32 : 1;
}

static void cells(struct wire_cells *c, bool manifest,
                  enum wire_sample_size size)
{
    fill(c->model_id, KEY_BYTES, 0x40);
    fill(held.hashes, sizeof held.hashes, 9);
    c->n = size == SAMPLE_EXTREME ? LISTS : size == SAMPLE_ORDINARY ? 3 : 1;
    c->ids = held.ids;
    c->hashes = manifest ? held.hashes : NULL;
    c->manifest_only = !manifest && size != SAMPLE_LEAST;
    for (uint32_t i = 0; i < c->n; i++) {
        const uint32_t high = i % 3 == 0   ? UINT32_MAX
                              : i % 3 == 1 ? 0
                                           : (uint32_t)INT32_MAX + 1;
        held.ids[i] =
            (struct wire_cell_id){size == SAMPLE_EXTREME ? high : i / 2,
                                  size == SAMPLE_EXTREME ? ~high : i % 2 + 10};
    }
}

static void small(struct wire_message *m, enum wire_sample_size size)
{
    switch ((unsigned)m->kind) {
    case WIRE_PROGRESS:
        m->progress.epoch = number(3, size);
        m->progress.done_bytes = number(1u << 20, size);
        m->progress.total_bytes = number(1u << 30, size);
        text(m->progress.what, LIMIT_TEXT, "loading", size);
        break;
    case WIRE_READY:
        m->ready =
            (struct wire_ready){number(3, size), number(1000000, size),
                                number(2000000, size), number(2500000, size)};
        break;
    case WIRE_FAILURE:
    case WIRE_REFUSE:
    case WIRE_STEP_FAILED:
        m->failure.epoch = number(3, size);
        m->failure.step = number(1000, size);
        m->failure.status = size == SAMPLE_EXTREME ? ST_INTERRUPTED : ST_OK + 1;
        text(m->failure.text, LIMIT_TEXT, "no room on pc-2", size);
        break;
    case WIRE_HEARTBEAT:
        m->heartbeat.n = number(77, size);
        m->heartbeat.progress = number(12, size);
        m->heartbeat.busy = size != SAMPLE_LEAST;
        m->heartbeat.epoch = number(3, size);
        break;
    case WIRE_ECHO:
        m->echo.n = number(4, size);
        m->echo.reply_bytes =
            size == SAMPLE_EXTREME ? LIMIT_CELL_BYTES : (uint32_t)size * 4096;
        break;
    default: /* Bye, Drain */
        break;
    }
}

static size_t tensor(const struct wire_message *m)
{
    size_t rows = 0;
    switch ((unsigned)m->kind) {
    case WIRE_STEP:
        return (size_t)m->step.n_rows * m->step.width * sizeof(float);
    case WIRE_RESULT:
        return (size_t)m->result.n_whole * m->result.n_vocab * sizeof(float);
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

void wire_sample_message(struct wire_message *m, enum wire_kind kind,
                         enum wire_sample_size size, size_t *tensor_bytes)
{
    memset(m, 0, sizeof *m);
    m->kind = kind;
    switch ((unsigned)kind) {
    case WIRE_HELLO:
        hello(&m->hello, size);
        break;
    case WIRE_WELCOME:
        welcome(&m->welcome, size);
        break;
    case WIRE_PROBE:
        probe(&m->probe, size);
        break;
    case WIRE_REPORT:
        report(&m->report, size);
        break;
    case WIRE_ASSIGN:
        assign(&m->assign, size);
        break;
    case WIRE_STEP:
        step(&m->step, size);
        break;
    case WIRE_RESULT:
        result(&m->result, size);
        break;
    case WIRE_DISPATCH:
    case WIRE_PARTIALS:
        exchange(&m->exchange, size);
        break;
    case WIRE_CELLS_WANTED:
    case WIRE_MANIFEST:
        cells(&m->cells, kind == WIRE_MANIFEST, size);
        break;
    case WIRE_CELL:
        fill(m->cell.model_id, KEY_BYTES, 0x40);
        m->cell.id.tensor = (uint32_t)number(200, size);
        m->cell.id.cell = (uint32_t)number(9, size);
        m->cell.status = size == SAMPLE_LEAST ? ST_NOT_FOUND : ST_OK;
        break;
    default:
        small(m, size);
        break;
    }
    *tensor_bytes = tensor(m);
    if (kind == WIRE_CELL && size != SAMPLE_LEAST) {
        *tensor_bytes = size == SAMPLE_EXTREME ? LIMIT_CELL_BYTES : 1u << 20;
    }
    if (kind == WIRE_ECHO) *tensor_bytes = (size_t)size * 12345;
}

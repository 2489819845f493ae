/* plan_cost.c - the cost model: seconds of items, hops, exchanges.
 *
 * A matrix takes the longer of reading its bytes and multiplying its rows, at
 * the speeds that the node's own kernels were measured with.  A step of `rows`
 * tokens that each choose k of E experts reads E * (1 - (1 - k/E)^rows) of
 * them on average.  A hop is the link's latency and 4 bytes for each of the
 * row's elements. */
#include "engine/numerics.h"
#include "engine/plan_internal.h"

#include <stdio.h>
#include <string.h>

/* Positions that a row attends to, on average: a question and some answer. */
#define TYPICAL_CONTEXT 512
/* For what nobody measured: an old dual-channel PC on gigabit Ethernet. */
#define DEFAULT_READ     8e9
#define DEFAULT_LINK     117e6
#define DEFAULT_LATENCY  125e-6
#define MACS_PER_BYTE    4.0 /* kernels at batch 16, against batch 1 */
#define FASTEST_POSSIBLE 1e15

static bool measured(double v)
{
    return v >= 1 && v < FASTEST_POSSIBLE; /* false for a NaN */
}

static double max2(double a, double b)
{
    return a > b ? a : b;
}

/* Types without a figure get the mean of those with one. */
static void fill_rates(struct plan_speed *s, const struct plan_node *n)
{
    double bytes = 0, macs = 0;
    uint32_t n_bytes = 0, n_macs = 0;
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        if (measured(n->rates[t].bytes_per_s)) {
            bytes += n->rates[t].bytes_per_s;
            n_bytes++;
        }
        if (measured(n->rates[t].macs_per_s)) {
            macs += n->rates[t].macs_per_s;
            n_macs++;
        }
    }
    bytes = n_bytes ? bytes / n_bytes : s->read_bytes_per_s;
    macs = n_macs ? macs / n_macs : bytes * MACS_PER_BYTE;
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        const struct plan_rate *r = &n->rates[t];
        s->rates[t].bytes_per_s =
            measured(r->bytes_per_s) ? r->bytes_per_s : bytes;
        s->rates[t].macs_per_s = measured(r->macs_per_s) ? r->macs_per_s : macs;
    }
}

static void fill_speed(struct plan_speed *s, const struct plan_node *n)
{
    double read = n->read_bytes_per_s;
    for (uint32_t t = 0; !measured(read) && t < QUANT_TYPE_END; t++) {
        read = n->rates[t].bytes_per_s;
    }
    s->read_bytes_per_s = measured(read) ? read : DEFAULT_READ;
    s->link_bytes_per_s =
        measured(n->link_bytes_per_s) ? n->link_bytes_per_s : DEFAULT_LINK;
    const bool timed = n->link_latency_s > 0 && n->link_latency_s < 60;
    s->link_latency_s = timed ? n->link_latency_s : DEFAULT_LATENCY;
    fill_rates(s, n);
}

static struct plan_matrix describe(const struct model_matrix *x)
{
    const enum quant_type type = (enum quant_type)x->tensor->type;
    return (struct plan_matrix){
        .type = type,
        .bytes = (double)quant_row_bytes(type, x->k) * x->n_rows,
        .macs = (double)x->k * x->n_rows,
    };
}

static void describe_layer(struct plan_item *item, const struct plan_work *w,
                           uint32_t layer)
{
    const struct model *m = w->m;
    const struct model_layer *l = &m->layers[layer];
    const struct model_matrix *all[PLAN_ITEM_MATRICES] = {
        &l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down, &l->router};
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (all[i]->tensor) item->m[item->n++] = describe(all[i]);
    }
    const uint32_t positions =
        w->req.n_ctx < TYPICAL_CONTEXT ? w->req.n_ctx : TYPICAL_CONTEXT;
    item->row_bytes = (double)w->page_layer_bytes / KV_PAGE * (double)positions;
    for (int p = EXPERT_GATE; m->n_expert && p <= EXPERT_DOWN; p++) {
        const struct model_matrix x =
            model_expert(m, layer, 0, (enum model_expert_part)p);
        item->expert[p] = describe(&x);
    }
}

enum status plan_cost_init(struct plan_work *w, struct error *err)
{
    const struct model *m = w->m;
    w->items = mem_zalloc_array(w->n_items, sizeof *w->items);
    w->speeds = mem_zalloc_array(w->req.n_nodes, sizeof *w->speeds);
    if (!w->items || !w->speeds) return error_set(err, ST_NO_MEMORY, "plan");
    for (uint32_t i = 0; i < w->req.n_nodes; i++) {
        fill_speed(&w->speeds[i], &w->req.nodes[i]);
    }
    const enum quant_type embed = (enum quant_type)m->embed.tensor->type;
    w->items[0].row_bytes = (double)quant_row_bytes(embed, m->n_embd);
    for (uint32_t l = 0; l < m->n_layer; l++) {
        describe_layer(&w->items[l + 1], w, l);
    }
    struct plan_item *head = &w->items[w->n_items - 1];
    head->m[head->n++] = describe(&m->head);
    w->row_bytes = 4.0 * m->n_embd;
    return ST_OK;
}

/* ------------------------------------------------------------- items */

static double matrix_s(const struct plan_speed *s, const struct plan_matrix *m,
                       double copies, double rows)
{
    const struct plan_rate *r = &s->rates[m->type];
    return max2(copies * m->bytes / r->bytes_per_s,
                rows * m->macs / r->macs_per_s);
}

static double block_s(const struct plan_work *w, uint32_t node, uint32_t item,
                      double rows)
{
    const struct plan_speed *s = &w->speeds[node];
    const struct plan_item *it = &w->items[item];
    double sum = rows * it->row_bytes / s->read_bytes_per_s;
    for (uint32_t i = 0; i < it->n; i++) {
        sum += matrix_s(s, &it->m[i], 1, rows);
    }
    return sum;
}

/* The chance that `tries` draws all miss a part of the whole. */
static double missed(double part, double tries)
{
    if (part >= 1) return 0;
    const double log_miss = tries * nm_log64(1 - part);
    return log_miss < -40 ? 0 : nm_exp64(log_miss);
}

/* n of a layer's experts on a node. */
static double experts_s(const struct plan_work *w, uint32_t node, uint32_t item,
                        double rows, uint32_t n)
{
    const double all = w->m->n_expert, used = w->m->n_expert_used;
    const double read = n * (1 - missed(used / all, rows));
    double sum = 0;
    for (int p = EXPERT_GATE; p <= EXPERT_DOWN; p++) {
        sum += matrix_s(&w->speeds[node], &w->items[item].expert[p], read,
                        rows * used * n / all);
    }
    return sum;
}

static bool has_experts(const struct plan_work *w, uint32_t item)
{
    return w->m->n_expert && item > 0 && item + 1 < w->n_items;
}

double plan_item_s(const struct plan_work *w, uint32_t node, uint32_t item,
                   double rows)
{
    double sum = block_s(w, node, item, rows);
    if (has_experts(w, item)) {
        sum += experts_s(w, node, item, rows, w->m->n_expert);
    }
    return sum;
}

double plan_transfer_s(const struct plan_work *w, uint32_t node, double rows)
{
    return rows * w->row_bytes / w->speeds[node].link_bytes_per_s;
}

double plan_hop_s(const struct plan_work *w, uint32_t node, double rows,
                  bool first)
{
    return w->speeds[node].link_latency_s +
           (first ? 0 : plan_transfer_s(w, node, rows));
}

/* --------------------------------------------------------------- run */

/* A layer's experts: all nodes at once, each with its rows' way there and
 * back; the rows share the asking node's link. */
static double exchange_s(const struct plan_work *w, const uint16_t *expert_node,
                         uint32_t home, uint32_t item, double rows,
                         double *busy, double *link)
{
    const uint32_t n_expert = w->m->n_expert;
    uint16_t count[PLAN_NODES_MAX] = {0};
    double longest = 0, sent = 0;
    for (uint32_t e = 0; e < n_expert; e++) count[expert_node[e]]++;
    for (uint32_t node = 0; node < w->req.n_nodes; node++) {
        if (count[node] == 0) continue;
        double t = experts_s(w, node, item, rows, count[node]);
        busy[node] += t;
        if (node != home) {
            const double choices = rows * w->m->n_expert_used;
            const double part = (double)count[node] / n_expert;
            const double asked = 1 - missed(part, choices);
            const double way = plan_transfer_s(w, node, choices * part);
            t += 2 * way + 2 * asked *
                               max2(w->speeds[home].link_latency_s,
                                    w->speeds[node].link_latency_s);
            link[node] += way;
            sent += choices * part;
        }
        longest = max2(longest, t);
    }
    const double way = plan_transfer_s(w, home, sent);
    link[home] += way;
    return max2(longest, 2 * way);
}

struct plan_run plan_run(const struct plan_work *w, const struct plan_layout *l,
                         double rows, double *stage_s, double *busy_s)
{
    struct plan_run run = {0};
    double busy[PLAN_NODES_MAX] = {0}, link[PLAN_NODES_MAX] = {0};
    double stage = 0;
    for (uint32_t i = 0; i < w->n_items; i++) {
        const uint32_t node = l->item_node[i];
        if (i == 0 || node != l->item_node[i - 1]) {
            const double hop = plan_hop_s(w, node, rows, i == 0);
            if (i != 0) {
                link[node] += plan_transfer_s(w, node, rows);
                if (stage_s) stage_s[run.n_stages - 1] = stage;
                run.slowest_s = max2(run.slowest_s, stage);
            }
            stage = hop;
            run.network_s += hop;
            run.total_s += hop;
            run.n_stages++;
        }
        double t = block_s(w, node, i, rows);
        busy[node] += t;
        if (has_experts(w, i)) {
            t += exchange_s(
                w, l->expert_node + (size_t)(i - 1) * MODEL_EXPERTS_MAX, node,
                i, rows, busy, link);
        }
        stage += t;
        run.total_s += t;
    }
    if (stage_s) stage_s[run.n_stages - 1] = stage;
    run.slowest_s = max2(run.slowest_s, stage);
    for (uint32_t n = 0; n < w->req.n_nodes; n++) {
        if (busy_s) busy_s[n] = busy[n];
        const double t = max2(busy[n], link[n]);
        if (t > run.busiest_s) {
            run.busiest_s = t;
            run.busiest = n;
        }
    }
    return run;
}

/* ----------------------------------------------------------- predict */

/* Does this node's time for one row go to its memory or its processor? */
static bool reads_longer(const struct plan_work *w, uint32_t node)
{
    double read = 0, compute = 0;
    for (uint32_t i = 0; i < w->n_items; i++) {
        for (uint32_t j = 0; j < w->items[i].n; j++) {
            const struct plan_matrix *x = &w->items[i].m[j];
            const struct plan_rate *r = &w->speeds[node].rates[x->type];
            read += x->bytes / r->bytes_per_s;
            compute += x->macs / r->macs_per_s;
        }
    }
    return read >= compute;
}

static void say_bottleneck(struct plan *p, const struct plan_work *w,
                           const struct plan_run *one, const double *busy)
{
    uint32_t node = 0;
    for (uint32_t n = 1; n < p->n_nodes; n++) {
        if (busy[n] > busy[node]) node = n;
    }
    if (one->network_s > busy[node]) {
        snprintf(p->bottleneck, sizeof p->bottleneck,
                 "the network: %u hops take %.2f of a token's %.2f ms",
                 one->n_stages, one->network_s * 1e3, one->total_s * 1e3);
        return;
    }
    snprintf(p->bottleneck, sizeof p->bottleneck,
             "%s: %s takes %.2f of a token's %.2f ms", p->nodes[node].name,
             reads_longer(w, node) ? "reading its weights from memory"
                                   : "its processor",
             busy[node] * 1e3, one->total_s * 1e3);
}

void plan_predict(struct plan *p, const struct plan_work *w,
                  const struct plan_layout *l)
{
    double stage_s[MODEL_LAYERS_MAX + 2] = {0}, busy_s[PLAN_NODES_MAX] = {0};
    const struct plan_run one = plan_run(w, l, 1, stage_s, busy_s);
    for (uint32_t i = 0; i < p->n_stages; i++) {
        p->stages[i].decode_s = stage_s[i];
    }
    p->decode_tokens_per_s = 1 / one.total_s;
    p->busiest_s = plan_run(w, l, w->batch_rows, NULL, NULL).busiest_s;
    say_bottleneck(p, w, &one, busy_s);

    plan_run(w, l, p->rows_max, stage_s, NULL);
    for (uint32_t i = 0; i < p->n_stages; i++) {
        p->stages[i].prefill_s = stage_s[i];
    }
    /* chunks of a prompt follow one another through the stages */
    const uint32_t prompt = p->n_ctx < 512 ? p->n_ctx : 512;
    const uint32_t chunk = p->rows_max < prompt ? p->rows_max : prompt;
    const uint32_t n_chunks = (prompt + chunk - 1) / chunk;
    const struct plan_run fill = plan_run(w, l, chunk, NULL, NULL);
    p->prompt_512_s =
        fill.total_s + (n_chunks - 1) * max2(fill.busiest_s, fill.slowest_s);

    /* users in groups, a step each, as many as stages */
    const uint32_t users = w->req.n_users;
    uint32_t groups = users < p->n_stages ? users : p->n_stages;
    if (groups > p->n_steps) groups = p->n_steps;
    const struct plan_run all =
        plan_run(w, l, (double)users / groups, NULL, NULL);
    p->batch_tokens_per_s = users / max2(all.total_s, groups * all.busiest_s);
}

/* plan_check.c - from a layout to a plan, and whether a plan is whole. */
#include <string.h>

#include "engine/plan_internal.h"

/* Steps of a node that waits for nobody, and of one that does. */
#define STEPS_ALONE   2
#define STEPS_WAITING 4

uint32_t plan_layer_node(const struct plan *p, uint32_t layer)
{
    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct plan_stage *s = &p->stages[i];
        if (s->layer_first <= layer && layer < s->layer_end) return s->node;
    }
    return p->n_nodes;
}

uint32_t plan_node_steps(const struct plan *p, uint32_t node)
{
    uint32_t n = 1; /* without a stage it only serves */
    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct plan_stage *s = &p->stages[i];
        if (s->node != node) continue;
        if (n < STEPS_ALONE) n = STEPS_ALONE;
        for (uint32_t l = s->layer_first; l < s->layer_end; l++) {
            const uint16_t *e = p->expert_node + (size_t)l * MODEL_EXPERTS_MAX;
            for (uint32_t j = 0; j < MODEL_EXPERTS_MAX && e[j] != PLAN_NONE;
                 j++) {
                if (e[j] != node) n = STEPS_WAITING;
            }
        }
    }
    return n < p->n_steps ? n : p->n_steps;
}

struct shard_bytes plan_share_bytes(const struct plan *p, const struct model *m,
                                    const struct plan_share *s,
                                    uint32_t n_pages)
{
    const struct shard_options o = {
        .isa = s->isa,
        .kv_type = p->kv_type,
        .n_threads = s->n_threads,
        .n_ctx = p->n_ctx,
        .n_seq_max = p->n_seq_max,
        .n_pages = n_pages,
        .rows_max = p->rows_max,
        .outputs_max = p->outputs_max,
    };
    struct shard_bytes b = shard_plan(m, &s->spec, &o);
    /* shard_plan counts one step; n_steps and the server's are there */
    const uint64_t more = b.scratch * s->n_steps;
    b.scratch += more;
    if (__builtin_add_overflow(b.total, more, &b.total)) b.total = UINT64_MAX;
    return b;
}

/* ------------------------------------------------------------ finish */

static bool is_layer(const struct plan_work *w, uint32_t item)
{
    return item > 0 && item + 1 < w->n_items;
}

/* Neighbouring items on one node are one visit. */
static void make_stages(struct plan *p, const struct plan_work *w,
                        const struct plan_layout *l)
{
    bool seen[PLAN_NODES_MAX] = {false};
    for (uint32_t i = 0; i < w->n_items; i++) {
        const uint32_t node = l->item_node[i];
        const uint32_t layer = is_layer(w, i) ? i - 1 : 0;
        if (i == 0 || node != l->item_node[i - 1]) {
            const uint32_t at = i == 0 ? 0 : i - 1;
            p->stages[p->n_stages++] = (struct plan_stage){.node = node,
                                                           .again = seen[node],
                                                           .layer_first = at,
                                                           .layer_end = at};
            seen[node] = true;
        }
        struct plan_stage *s = &p->stages[p->n_stages - 1];
        s->embed |= i == 0;
        s->head |= i + 1 == w->n_items;
        if (is_layer(w, i)) s->layer_end = layer + 1;
    }
}

static enum status make_shares(struct plan *p, const struct plan_work *w,
                               const struct plan_layout *l, struct error *err)
{
    const struct model *m = w->m;
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const struct plan_node *n = &w->req.nodes[i];
        struct plan_share *s = &p->nodes[i];
        s->id = n->id;
        memcpy(s->name, n->name, sizeof s->name);
        s->memory_bytes = n->memory_bytes;
        s->isa = n->isa;
        s->n_threads = n->n_threads ? n->n_threads : PLAN_THREADS;
        s->spec.layers = mem_zalloc_array(m->n_layer, sizeof *s->spec.layers);
        if (!s->spec.layers) return error_set(err, ST_NO_MEMORY, "shard map");
    }
    for (uint32_t i = 0; i < w->n_items; i++) {
        struct plan_share *s = &p->nodes[l->item_node[i]];
        s->used = true;
        if (i == 0) s->spec.embed = true;
        if (i + 1 == w->n_items) s->spec.vocab_end = m->n_vocab;
        if (!is_layer(w, i)) continue;
        s->spec.layers[i - 1].block = true;
        for (uint32_t e = 0; e < m->n_expert; e++) {
            struct plan_share *x =
                &p->nodes[l->expert_node[(size_t)(i - 1) * MODEL_EXPERTS_MAX +
                                         e]];
            x->used = true;
            x->spec.layers[i - 1].experts[e / 64] |= UINT64_C(1) << e % 64;
        }
    }
    return ST_OK;
}

static enum status too_small(const struct plan_share *s,
                             const struct shard_bytes *b, struct error *err)
{
    const struct plan_unit u = plan_unit(b->total);
    return error_set(
        err, ST_NO_MEMORY,
        "%s would hold %.2f %s (weights %.2f, key/value cache %.2f, scratch "
        "%.2f) but offers %.2f %s: %.2f %s are missing",
        s->name, (double)b->total / u.bytes, u.name,
        (double)b->weights / u.bytes, (double)b->kv / u.bytes,
        (double)b->scratch / u.bytes, (double)s->memory_bytes / u.bytes, u.name,
        (double)(b->total - s->memory_bytes) / u.bytes, u.name);
}

/* Pages that every node with blocks has memory for, if none is asked for. */
static enum status set_pages(struct plan *p, const struct plan_work *w,
                             uint32_t n_pages, struct error *err)
{
    const uint32_t least = n_pages ? n_pages : plan_context_pages(w);
    uint64_t most = (uint64_t)p->n_seq_max * plan_context_pages(w);
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const struct plan_share *s = &p->nodes[i];
        if (!s->used) continue;
        const struct shard_bytes b = plan_share_bytes(p, w->m, s, least);
        if (b.total > s->memory_bytes) return too_small(s, &b, err);
        if (b.kv == 0) continue;
        /* a page's planes and its two counts, as kv_bytes has them */
        const uint64_t page = plan_share_bytes(p, w->m, s, least + 1).kv - b.kv;
        const uint64_t pages = least + (s->memory_bytes - b.total) / page;
        if (pages < most) most = pages;
    }
    p->n_pages = n_pages ? n_pages : (uint32_t)most;
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        struct plan_share *s = &p->nodes[i];
        if (s->used) s->bytes = plan_share_bytes(p, w->m, s, p->n_pages);
    }
    return ST_OK;
}

enum status plan_finish(struct plan *out, const struct plan_work *w,
                        const struct plan_layout *l, uint32_t n_pages,
                        struct error *err)
{
    const struct plan_request *r = &w->req;
    const size_t n_experts = (size_t)w->m->n_layer * MODEL_EXPERTS_MAX;
    struct plan p = {
        .n_nodes = r->n_nodes,
        .n_layer = w->m->n_layer,
        .n_ctx = r->n_ctx,
        .n_seq_max = r->n_seq_max,
        .rows_max = r->rows_max,
        .outputs_max = r->outputs_max,
        .n_steps = r->n_steps,
        .kv_type = r->kv_type,
        .nodes = mem_zalloc_array(r->n_nodes, sizeof *p.nodes),
        .stages = mem_zalloc_array(w->n_items, sizeof *p.stages),
        .expert_node = mem_zalloc_array(n_experts, sizeof *p.expert_node),
    };
    enum status st = ST_OK;
    if (!p.nodes || !p.stages || !p.expert_node) {
        st = error_set(err, ST_NO_MEMORY, "plan");
        goto fail;
    }
    memcpy(p.expert_node, l->expert_node, n_experts * sizeof *p.expert_node);
    make_stages(&p, w, l);
    if (p.n_steps == 0) {
        p.n_steps =
            p.n_stages < PLAN_STEPS_MAX ? p.n_stages + 1 : PLAN_STEPS_MAX;
    }
    st = make_shares(&p, w, l, err);
    if (st != ST_OK) goto fail;
    for (uint32_t i = 0; i < p.n_nodes; i++) {
        p.nodes[i].n_steps = plan_node_steps(&p, i);
    }
    st = set_pages(&p, w, n_pages, err);
    if (st != ST_OK) goto fail;
    plan_predict(&p, w, l);
    st = plan_check(&p, w->m, err);
    if (st != ST_OK) goto fail;
    *out = p;
    return ST_OK;
fail:
    plan_fini(&p);
    return st;
}

/* ------------------------------------------------------------- check */

static enum status check_stages(const struct plan *p, const struct model *m,
                                struct error *err)
{
    bool seen[PLAN_NODES_MAX] = {false};
    uint32_t next = 0;
    if (p->n_stages < 1 || p->n_stages > PLAN_STAGES_MAX) {
        return error_set(err, ST_TOO_LARGE, "%u stages: 1 to %d", p->n_stages,
                         PLAN_STAGES_MAX);
    }
    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct plan_stage *s = &p->stages[i];
        if (s->node >= p->n_nodes) {
            return error_set(err, ST_INVALID, "stage %u is on no node", i);
        }
        if (s->layer_first != next || s->layer_end < next ||
            s->layer_end > m->n_layer) {
            return error_set(err, ST_INVALID,
                             "stage %u has layers %u to %u of %u, after %u", i,
                             s->layer_first, s->layer_end, m->n_layer, next);
        }
        next = s->layer_end;
        if (s->embed != (i == 0) || s->head != (i + 1 == p->n_stages)) {
            return error_set(err, ST_INVALID,
                             "the first stage embeds, the last has the head: "
                             "stage %u of %u",
                             i, p->n_stages);
        }
        if (s->again != seen[s->node]) {
            return error_set(err, ST_INVALID,
                             "stage %u: wrong about coming back to %s", i,
                             p->nodes[s->node].name);
        }
        seen[s->node] = true;
        const struct shard_spec *spec = &p->nodes[s->node].spec;
        if ((s->embed && !spec->embed) ||
            (s->head &&
             (spec->vocab_first != 0 || spec->vocab_end != m->n_vocab))) {
            return error_set(err, ST_INVALID,
                             "%s lacks the embedding or head of its stage",
                             p->nodes[s->node].name);
        }
    }
    if (next == m->n_layer) return ST_OK;
    return error_set(err, ST_INVALID, "layers %u to %u are on no node", next,
                     m->n_layer);
}

/* Each layer's block once, with its stage; each expert once, where the table
 * says. */
static enum status check_layer(const struct plan *p, const struct model *m,
                               uint32_t l, struct error *err)
{
    const uint32_t home = plan_layer_node(p, l);
    const uint16_t *to = p->expert_node + (size_t)l * MODEL_EXPERTS_MAX;
    for (uint32_t n = 0; n < p->n_nodes; n++) {
        const struct plan_share *s = &p->nodes[n];
        if (s->spec.layers[l].block != (n == home)) {
            return error_set(err, ST_INVALID, "layer %u's block and %s", l,
                             s->name);
        }
        for (uint32_t e = 0; e < MODEL_EXPERTS_MAX; e++) {
            const bool here = s->spec.layers[l].experts[e / 64] >> e % 64 & 1;
            if (here != (to[e] == n)) {
                return error_set(err, ST_INVALID, "layer %u, expert %u and %s",
                                 l, e, s->name);
            }
        }
    }
    for (uint32_t e = 0; e < MODEL_EXPERTS_MAX; e++) {
        if ((e < m->n_expert) != (to[e] < p->n_nodes) ||
            (e >= m->n_expert && to[e] != PLAN_NONE)) {
            return error_set(err, ST_INVALID,
                             "layer %u, expert %u is on node %u", l, e, to[e]);
        }
    }
    return ST_OK;
}

static enum status check_options(const struct plan *p, const struct model *m,
                                 struct error *err)
{
    if (p->n_nodes < 1 || p->n_nodes > PLAN_NODES_MAX ||
        p->n_layer != m->n_layer || p->n_ctx < 1 || p->n_ctx > m->n_ctx ||
        p->n_seq_max < 1 || p->n_seq_max > PLAN_SEQS_MAX || p->rows_max < 1 ||
        p->rows_max > STEP_ROWS_MAX || p->outputs_max < 1 ||
        p->outputs_max > p->rows_max || p->n_steps < 1 ||
        p->n_steps > PLAN_STEPS_MAX) {
        return error_set(err, ST_INVALID,
                         "%u layers on %u nodes, context %u, %u sequences, %u "
                         "rows a step, %u outputs, %u steps",
                         p->n_layer, p->n_nodes, p->n_ctx, p->n_seq_max,
                         p->rows_max, p->outputs_max, p->n_steps);
    }
    const uint32_t one = kv_pages(p->n_ctx);
    if (p->n_pages < one || p->n_pages > (uint64_t)one * p->n_seq_max) {
        return error_set(err, ST_INVALID,
                         "%u pages of key/value cache: one context takes %u, "
                         "%u of them are the most",
                         p->n_pages, one, p->n_seq_max);
    }
    return ST_OK;
}

enum status plan_check(const struct plan *p, const struct model *m,
                       struct error *err)
{
    enum status st = check_options(p, m, err);
    if (st == ST_OK) st = check_stages(p, m, err);
    for (uint32_t l = 0; st == ST_OK && l < m->n_layer; l++) {
        st = check_layer(p, m, l, err);
    }
    uint32_t n_embed = 0, n_head = 0;
    for (uint32_t i = 0; st == ST_OK && i < p->n_nodes; i++) {
        const struct plan_share *s = &p->nodes[i];
        n_embed += s->spec.embed;
        n_head += s->spec.vocab_end > s->spec.vocab_first;
        if (!s->used) continue;
        if (s->n_steps != plan_node_steps(p, i)) {
            return error_set(err, ST_INVALID, "%s: %u steps", s->name,
                             s->n_steps);
        }
        const struct shard_bytes b = plan_share_bytes(p, m, s, p->n_pages);
        if (b.total > s->memory_bytes) st = too_small(s, &b, err);
    }
    if (st != ST_OK || (n_embed == 1 && n_head == 1)) return st;
    return error_set(err, ST_INVALID, "%u embeddings, %u heads: one each",
                     n_embed, n_head);
}

/* plan_spread.c - where whole layers do not fit: blocks in contiguous ranges,
 * experts where there is room.
 *
 * Each node gets a part of the model's bytes, by memory or by speed up to its
 * memory; items lie on the line of bytes, and a block goes to the node whose
 * part its middle is in.  Experts stay with their block while that node has
 * room; the others go, layer by layer, to the node with the most room left.
 * Tried for several sets of nodes; the cost model chooses. */
#include <string.h>

#include "engine/plan_internal.h"

/* Node counts tried for an order. */
#define COUNTS_MAX 8
/* Steps that a node may need here: plan_share.n_steps and the server's. */
#define STEPS_HERE 5

struct spread {
    const struct plan_work *w;
    uint32_t n_pages;
    uint64_t room[PLAN_NODES_MAX]; /* beyond an empty shard */
    uint64_t left[PLAN_NODES_MAX]; /* while placing */
    double speed[PLAN_NODES_MAX];  /* the model's bytes a second */
    double part[PLAN_NODES_MAX];   /* bytes meant for it */
    uint64_t total;                /* bytes of all items, cache included */
    struct plan_layout trial, best;
    struct plan_score score;
    bool found;
};

static uint64_t item_bytes(const struct spread *s, uint32_t node, uint32_t item)
{
    const uint64_t *sum = plan_item_sum(s->w, node);
    const bool layer = item > 0 && item + 1 < s->w->n_items;
    return sum[item + 1] - sum[item] +
           (layer ? s->w->page_layer_bytes * s->n_pages : 0);
}

static uint64_t expert_bytes(const struct spread *s, uint32_t node,
                             uint32_t layer)
{
    const struct plan_work *w = s->w;
    const size_t isa = w->req.nodes[node].isa;
    return w->expert_bytes[isa * w->m->n_layer + layer];
}

/* Without its experts, but with the table that finds them. */
static uint64_t block_bytes(const struct spread *s, uint32_t node,
                            uint32_t item)
{
    const struct plan_work *w = s->w;
    if (item == 0 || item + 1 == w->n_items) return item_bytes(s, node, item);
    const size_t isa = w->req.nodes[node].isa;
    return w->block_bytes[isa * w->m->n_layer + item - 1] +
           w->page_layer_bytes * s->n_pages +
           w->m->n_expert * sizeof(struct shard_expert);
}

/* ------------------------------------------------------------- parts */

/* part = min(room, speed * t) with t such that the parts make up the total;
 * by_speed false: in proportion to room. */
static bool share_out(struct spread *s, const uint16_t *order, uint32_t n,
                      bool by_speed)
{
    double rooms = 0, low = 0, high = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double room = (double)s->room[order[i]];
        const double fill = room / s->speed[order[i]];
        rooms += room;
        if (fill > high) high = fill;
    }
    if (rooms < (double)s->total) return false;
    for (uint32_t i = 0; i < n && !by_speed; i++) {
        s->part[order[i]] =
            (double)s->room[order[i]] * ((double)s->total / rooms);
    }
    for (int round = 0; round < 60 && by_speed; round++) {
        const double t = round == 59 ? high : low + (high - low) / 2;
        double sum = 0;
        for (uint32_t i = 0; i < n; i++) {
            const double room = (double)s->room[order[i]];
            const double fast = s->speed[order[i]] * t;
            s->part[order[i]] = fast < room ? fast : room;
            sum += s->part[order[i]];
        }
        if (sum < (double)s->total)
            low = t;
        else
            high = t;
    }
    return true;
}

/* ----------------------------------------------------------- placing */

static bool place_blocks(struct spread *s, const uint16_t *order, uint32_t n)
{
    const struct plan_work *w = s->w;
    double at = 0, end = s->part[order[0]];
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) s->left[order[i]] = s->room[order[i]];
    for (uint32_t item = 0; item < w->n_items; item++) {
        const double bytes = (double)item_bytes(s, order[k], item);
        for (;;) {
            const bool here = at + bytes / 2 <= end || k + 1 == n;
            if (here && block_bytes(s, order[k], item) <= s->left[order[k]]) {
                break;
            }
            if (++k == n) return false;
            end += s->part[order[k]];
        }
        s->trial.item_node[item] = order[k];
        s->left[order[k]] -= block_bytes(s, order[k], item);
        at += bytes;
    }
    return true;
}

static bool place_experts(struct spread *s, const uint16_t *order, uint32_t n)
{
    const struct model *m = s->w->m;
    const uint64_t table = m->n_expert * sizeof(struct shard_expert);
    uint16_t *to = s->trial.expert_node;
    for (uint32_t l = 0; l < m->n_layer; l++) {
        const uint16_t home = s->trial.item_node[l + 1];
        const uint64_t bytes = expert_bytes(s, home, l);
        for (uint32_t e = 0; e < m->n_expert; e++) {
            uint16_t *x = &to[(size_t)l * MODEL_EXPERTS_MAX + e];
            *x = PLAN_NONE;
            if (s->left[home] < bytes) continue;
            s->left[home] -= bytes;
            *x = home;
        }
    }
    for (uint32_t l = 0; l < m->n_layer; l++) {
        for (uint32_t e = 0; e < m->n_expert; e++) {
            uint16_t *x = &to[(size_t)l * MODEL_EXPERTS_MAX + e];
            if (*x != PLAN_NONE) continue;
            uint16_t most = order[0];
            for (uint32_t i = 1; i < n; i++) {
                if (s->left[order[i]] > s->left[most]) most = order[i];
            }
            const uint64_t bytes = expert_bytes(s, most, l) + table;
            if (s->left[most] < bytes) return false;
            s->left[most] -= bytes;
            *x = most;
        }
    }
    return true;
}

static void try_nodes(struct spread *s, const uint16_t *order, uint32_t n,
                      bool by_speed)
{
    if (!share_out(s, order, n, by_speed) || !place_blocks(s, order, n) ||
        !place_experts(s, order, n)) {
        return;
    }
    const struct plan_score score = {
        plan_run(s->w, &s->trial, 1, NULL, NULL).total_s,
        plan_run(s->w, &s->trial, s->w->batch_rows, NULL, NULL).busiest_s};
    if (s->found && !plan_better(s->w, score, s->score)) return;
    s->found = true;
    s->score = score;
    const struct plan_layout t = s->best;
    s->best = s->trial;
    s->trial = t;
}

static void try_order(struct spread *s, const uint16_t *order)
{
    /* nodes with no room at all have no part in this */
    uint16_t useful[PLAN_NODES_MAX] = {0};
    uint32_t n = 0, first = 0;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->w->req.n_nodes; i++) {
        if (s->room[order[i]] == 0) continue;
        useful[n++] = order[i];
        if (sum >= s->total) continue;
        sum += s->room[order[i]];
        first = n;
    }
    if (sum < s->total) return;
    const uint32_t more = n - first;
    const uint32_t tries = more < COUNTS_MAX ? more + 1 : COUNTS_MAX;
    for (uint32_t t = 0; t < tries; t++) {
        const uint32_t count = first + (tries > 1 ? more * t / (tries - 1) : 0);
        try_nodes(s, useful, count, false);
        try_nodes(s, useful, count, true);
    }
}

static void measure(struct spread *s)
{
    const struct plan_work *w = s->w;
    for (uint32_t i = 0; i < w->n_items; i++) s->total += item_bytes(s, 0, i);
    for (uint32_t node = 0; node < w->req.n_nodes; node++) {
        const uint64_t base =
            plan_range_bytes(w, node, 1, 1, s->n_pages, STEPS_HERE) +
            plan_cache_fixed(w, s->n_pages);
        const uint64_t memory = w->req.nodes[node].memory_bytes;
        if (memory > base) s->room[node] = memory - base;
        /* more than everything is of no use, and would unbalance the parts */
        if (s->room[node] > s->total) s->room[node] = s->total;
        double seconds = 0;
        for (uint32_t i = 0; i < w->n_items; i++) {
            seconds += plan_item_s(w, node, i, w->batch_rows);
        }
        s->speed[node] = (double)s->total / seconds;
    }
}

enum status plan_spread(struct plan_layout *out, const struct plan_work *w,
                        uint32_t n_pages, struct error *err)
{
    struct spread *s = mem_zalloc(sizeof *s);
    if (!s) return error_set(err, ST_NO_MEMORY, "plan");
    s->w = w;
    s->n_pages = n_pages;
    enum status st = plan_layout_init(&s->trial, w, err);
    if (st == ST_OK) st = plan_layout_init(&s->best, w, err);
    if (st == ST_OK) {
        measure(s);
        uint16_t order[PLAN_NODES_MAX] = {0};
        for (uint32_t i = 0; plan_order(w, i, order); i++) {
            try_order(s, order);
        }
        if (s->found) {
            *out = s->best;
            s->best = (struct plan_layout){0};
        } else {
            st = error_set(err, ST_FULL, "no placement of experts fits");
        }
    }
    plan_layout_fini(&s->trial);
    plan_layout_fini(&s->best);
    mem_free(s);
    return st;
}

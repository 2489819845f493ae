/* plan_search.c - contiguous ranges of whole layers by dynamic programming.
 *
 * For a given order of nodes, best[l] is the least time of a token through
 * items [0, l) on the nodes so far.  A node's range must fit its memory and
 * keep its time for a batch below a limit; both grow with the range, so the
 * range's earliest start moves only forward, and the least over all starts is
 * the least in a sliding window: O(nodes * items) for a limit.  No limit gives
 * the least latency; bisecting the limit gives the least busy node. */
#include <math.h>
#include <string.h>

#include "engine/plan_internal.h"

/* Orders are tried exhaustively up to this many nodes. */
#define ALL_ORDERS_MAX 6
#define N_HEURISTICS   5
#define NO_LIMIT       ((double)INFINITY)
#define SKIPPED        UINT16_MAX
#define BISECTIONS     40

struct cut { /* ranges end at end[], the first begins at 0 */
    struct plan_score score;
    uint32_t n;
    uint16_t node[PLAN_NODES_MAX], end[PLAN_NODES_MAX];
};

struct search {
    const struct plan_work *w;
    uint32_t n_pages, n_steps;
    uint32_t n;             /* items */
    double *one, *batch;    /* [n_nodes][n + 1] seconds of items [0, i) */
    double *best, *next;    /* [n + 1] */
    double *window_s;       /* [n + 1] the sliding window's values, */
    uint16_t *window_start; /* and their starts */
    uint16_t *from;         /* [n_nodes][n + 1] start of the last range */
};

static void search_fini(struct search *s)
{
    mem_free(s->one);
    mem_free(s->batch);
    mem_free(s->best);
    mem_free(s->next);
    mem_free(s->window_s);
    mem_free(s->window_start);
    mem_free(s->from);
}

static enum status search_init(struct search *s, const struct plan_work *w,
                               uint32_t n_pages, struct error *err)
{
    const size_t row = w->n_items + 1, all = w->req.n_nodes * row;
    *s = (struct search){
        .w = w,
        .n_pages = n_pages,
        .n_steps = w->req.n_steps == 1 ? 2 : 3,
        .n = w->n_items,
        .one = mem_zalloc_array(all, sizeof *s->one),
        .batch = mem_zalloc_array(all, sizeof *s->batch),
        .best = mem_zalloc_array(row, sizeof *s->best),
        .next = mem_zalloc_array(row, sizeof *s->next),
        .window_s = mem_zalloc_array(row, sizeof *s->window_s),
        .window_start = mem_zalloc_array(row, sizeof *s->window_start),
        .from = mem_zalloc_array(all, sizeof *s->from),
    };
    if (!s->one || !s->batch || !s->best || !s->next || !s->window_s ||
        !s->window_start || !s->from) {
        search_fini(s);
        return error_set(err, ST_NO_MEMORY, "plan");
    }
    for (uint32_t node = 0; node < w->req.n_nodes; node++) {
        double *one = s->one + node * row, *batch = s->batch + node * row;
        for (uint32_t i = 0; i < s->n; i++) {
            one[i + 1] = one[i] + plan_item_s(w, node, i, 1);
            batch[i + 1] = batch[i] + plan_item_s(w, node, i, w->batch_rows);
        }
    }
    return ST_OK;
}

/* ---------------------------------------------------------- one order */

static bool range_fits(const struct search *s, uint32_t node, uint32_t first,
                       uint32_t end, double limit_s)
{
    const double *batch = s->batch + (size_t)node * (s->n + 1);
    return batch[end] - batch[first] <= limit_s &&
           plan_range_bytes(s->w, node, first, end, s->n_pages, s->n_steps) <=
               s->w->req.nodes[node].memory_bytes;
}

/* best -> next, with the ranges that may end on this node. */
static void add_node(struct search *s, uint32_t node, double limit_s,
                     uint16_t *from)
{
    const struct plan_work *w = s->w;
    const double *one = s->one + (size_t)node * (s->n + 1);
    const double first_hop = plan_hop_s(w, node, 1, true);
    const double hop = plan_hop_s(w, node, 1, false);
    const bool link_ok = plan_transfer_s(w, node, w->batch_rows) <= limit_s;
    uint32_t low = 0, head = 0, tail = 0;
    s->next[0] = s->best[0];
    from[0] = SKIPPED;
    for (uint32_t end = 1; end <= s->n; end++) {
        s->next[end] = s->best[end];
        from[end] = SKIPPED;
        const uint32_t start = end - 1;
        const double v = s->best[start] - one[start];
        if (start > 0 && link_ok && v < NO_LIMIT) {
            while (tail > head && s->window_s[tail - 1] > v) tail--;
            s->window_s[tail] = v;
            s->window_start[tail++] = (uint16_t)start;
        }
        while (low < end && !range_fits(s, node, low, end, limit_s)) low++;
        while (head < tail && s->window_start[head] < low) head++;
        if (head < tail && s->window_s[head] + one[end] + hop < s->next[end]) {
            s->next[end] = s->window_s[head] + one[end] + hop;
            from[end] = s->window_start[head];
        }
        /* the whole model may be smaller than its parts: a shared matrix */
        const bool alone =
            low == 0 || (end == s->n && range_fits(s, node, 0, end, limit_s));
        if (alone && first_hop + one[end] < s->next[end]) {
            s->next[end] = first_hop + one[end];
            from[end] = 0;
        }
    }
    double *t = s->best;
    s->best = s->next;
    s->next = t;
}

static bool solve(struct search *s, const uint16_t *order, double limit_s,
                  struct cut *out)
{
    const uint32_t n_nodes = s->w->req.n_nodes;
    const size_t row = s->n + 1;
    s->best[0] = 0;
    for (uint32_t i = 1; i <= s->n; i++) s->best[i] = NO_LIMIT;
    for (uint32_t i = 0; i < n_nodes; i++) {
        add_node(s, order[i], limit_s, s->from + i * row);
    }
    if (!(s->best[s->n] < NO_LIMIT)) return false;
    out->score = (struct plan_score){.latency_s = s->best[s->n]};
    out->n = 0;
    uint32_t end = s->n;
    for (uint32_t i = n_nodes; i-- > 0 && end > 0;) {
        const uint32_t start = s->from[i * row + end];
        if (start == SKIPPED) continue;
        const uint32_t node = order[i];
        const double *batch = s->batch + node * row;
        const double busy = batch[end] - batch[start];
        const double link =
            start ? plan_transfer_s(s->w, node, s->w->batch_rows) : 0;
        out->score.busiest_s =
            fmax(out->score.busiest_s, busy > link ? busy : link);
        out->node[out->n] = (uint16_t)node;
        out->end[out->n++] = (uint16_t)end;
        end = start;
    }
    return true;
}

bool plan_better(const struct plan_work *w, struct plan_score a,
                 struct plan_score b)
{
    double x = a.latency_s, y = b.latency_s;
    if (w->req.objective == PLAN_THROUGHPUT) {
        x = a.busiest_s;
        y = b.busiest_s;
    } else if (w->req.objective == PLAN_MIXED) {
        x *= a.busiest_s;
        y *= b.busiest_s;
    }
    /* sums in another order are no better */
    if (x < y * (1 - 1e-9)) return true;
    return x <= y * (1 + 1e-9) && a.latency_s < b.latency_s * (1 - 1e-9);
}

static void keep_better(const struct search *s, struct cut *best,
                        const struct cut *c)
{
    if (best->n == 0 || plan_better(s->w, c->score, best->score)) *best = *c;
}

/* The least limit that this order can meet, below that of `some`: exact where
 * all orders are tried, else to a thousandth. */
static double least_limit(struct search *s, const uint16_t *order,
                          const struct cut *some)
{
    struct cut c;
    const uint32_t n_nodes = s->w->req.n_nodes;
    const double close = n_nodes <= ALL_ORDERS_MAX ? 1e-7 : 1e-3;
    /* no cut is better than all nodes busy all the time */
    double speed = 0, high = some->score.busiest_s;
    for (uint32_t i = 0; i < n_nodes; i++) {
        speed += 1 / s->batch[(size_t)i * (s->n + 1) + s->n];
    }
    double low = 1 / speed;
    for (int i = 0; i < BISECTIONS && high - low > close * high; i++) {
        const double mid = low + (high - low) / 2;
        if (solve(s, order, mid, &c))
            high = c.score.busiest_s;
        else
            low = mid;
    }
    return high * (1 + 1e-9);
}

static void search_order(struct search *s, const uint16_t *order,
                         struct cut *best)
{
    static const double factors[] = {1, 1.1, 1.25, 1.5, 2, 3, 5};
    struct cut c;
    if (!solve(s, order, NO_LIMIT, &c)) return;
    keep_better(s, best, &c);
    if (s->w->req.objective == PLAN_LATENCY) return;
    const bool mixed = s->w->req.objective == PLAN_MIXED;
    /* can this order beat what we have? */
    if (!mixed && !solve(s, order, best->score.busiest_s * (1 + 1e-9), &c)) {
        return;
    }
    const double limit = least_limit(s, order, &c);
    for (size_t i = 0; i < (mixed ? COUNT_OF(factors) : 1); i++) {
        if (solve(s, order, limit * factors[i], &c)) keep_better(s, best, &c);
    }
}

/* ------------------------------------------------------------- orders */

/* The i-th permutation in lexicographic order; false past the last. */
static bool permutation(uint32_t i, uint32_t n, uint16_t *order)
{
    uint32_t n_all = 1;
    for (uint32_t k = 2; k <= n; k++) n_all *= k;
    if (i >= n_all) return false;
    uint16_t left[ALL_ORDERS_MAX];
    for (uint32_t k = 0; k < n; k++) left[k] = (uint16_t)k;
    for (uint32_t k = 0; k < n; k++) {
        n_all /= n - k;
        const uint32_t at = i / n_all;
        i %= n_all;
        order[k] = left[at];
        memmove(&left[at], &left[at + 1], (n - k - at - 1) * sizeof *left);
    }
    return true;
}

bool plan_order(const struct plan_work *w, uint32_t i, uint16_t *order)
{
    const uint32_t n = w->req.n_nodes;
    double key[PLAN_NODES_MAX];
    if (i >= N_HEURISTICS) return false;
    for (uint32_t k = 0; k < n; k++) {
        double speed = 0;
        for (uint32_t item = 0; i < 2 && item < w->n_items; item++) {
            speed += plan_item_s(w, k, item, 1);
        }
        const double memory = (double)w->req.nodes[k].memory_bytes;
        /* fast first, slow first, small first, large first, as given */
        const double keys[N_HEURISTICS] = {speed, -speed, memory, -memory, 0};
        key[k] = keys[i];
    }
    /* stable, so that equal nodes stay as given */
    for (uint32_t k = 0; k < n; k++) {
        uint32_t at = k;
        while (at > 0 && key[order[at - 1]] > key[k]) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = (uint16_t)k;
    }
    return true;
}

enum status plan_search(struct plan_layout *out, const struct plan_work *w,
                        uint32_t n_pages, struct error *err)
{
    struct search s;
    struct cut best = {.n = 0};
    uint16_t order[PLAN_NODES_MAX];
    enum status st = search_init(&s, w, n_pages, err);
    if (st != ST_OK) return st;
    const bool all = w->req.n_nodes <= ALL_ORDERS_MAX;
    for (uint32_t i = 0;
         all ? permutation(i, w->req.n_nodes, order) : plan_order(w, i, order);
         i++) {
        search_order(&s, order, &best);
    }
    search_fini(&s);
    if (best.n == 0) return error_set(err, ST_FULL, "no cut fits");
    struct plan_layout l;
    st = plan_layout_init(&l, w, err);
    if (st != ST_OK) return st;
    /* from the last range to the first */
    for (uint32_t r = 0; r < best.n; r++) {
        const uint32_t first = r + 1 < best.n ? best.end[r + 1] : 0;
        for (uint32_t i = first; i < best.end[r]; i++) {
            l.item_node[i] = best.node[r];
        }
    }
    for (uint32_t i = 0; i < w->m->n_layer; i++) {
        for (uint32_t e = 0; e < w->m->n_expert; e++) {
            l.expert_node[(size_t)i * MODEL_EXPERTS_MAX + e] =
                l.item_node[i + 1];
        }
    }
    *out = l;
    return ST_OK;
}

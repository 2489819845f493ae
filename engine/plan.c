#include "engine/plan.h"

#include <stdio.h>
#include <string.h>

#include "engine/plan_internal.h"

#define DEFAULT_CTX  4096
#define DEFAULT_SEQS 32
#define DEFAULT_ROWS 128

bool plan_objective_by_name(const char *name, enum plan_objective *out)
{
    static const char *const names[] = {[PLAN_LATENCY] = "latency",
                                        [PLAN_THROUGHPUT] = "throughput",
                                        [PLAN_MIXED] = "mixed"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *out = (enum plan_objective)i;
        return true;
    }
    return false;
}

struct plan_unit plan_unit(uint64_t largest)
{
    /* small models would be 0.00 GiB */
    if (largest >= UINT64_C(1) << 30) {
        return (struct plan_unit){0x1p30, "GiB"};
    }
    return (struct plan_unit){0x1p20, "MiB"};
}

/* ----------------------------------------------------------- request */

static uint32_t or_default(uint32_t v, uint32_t other)
{
    return v ? v : other;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void fill_defaults(struct plan_request *r)
{
    r->n_users = or_default(r->n_users, 1);
    r->n_ctx = or_default(r->n_ctx, min_u32(r->model->n_ctx, DEFAULT_CTX));
    if (r->n_seq_max == 0) {
        r->n_seq_max = r->n_users > DEFAULT_SEQS ? r->n_users : DEFAULT_SEQS;
    }
    r->rows_max = or_default(r->rows_max, DEFAULT_ROWS);
    r->outputs_max =
        or_default(r->outputs_max, min_u32(r->n_seq_max, r->rows_max));
}

static enum status check_request(const struct plan_request *r,
                                 struct error *err)
{
    if (r->n_nodes < 1 || r->n_nodes > PLAN_NODES_MAX) {
        return error_set(err, ST_USAGE, "a plan over %u nodes: 1 to %d",
                         r->n_nodes, PLAN_NODES_MAX);
    }
    if (r->n_ctx > r->model->n_ctx) {
        return error_set(err, ST_USAGE,
                         "a context of %u positions: this model allows 1 to %u",
                         r->n_ctx, r->model->n_ctx);
    }
    if (r->n_users > PLAN_SEQS_MAX || r->n_seq_max > PLAN_SEQS_MAX) {
        return error_set(err, ST_USAGE, "%u sequences: 1 to %d",
                         r->n_users > r->n_seq_max ? r->n_users : r->n_seq_max,
                         PLAN_SEQS_MAX);
    }
    if (r->rows_max > STEP_ROWS_MAX || r->outputs_max > r->rows_max ||
        r->n_steps > PLAN_STEPS_MAX) {
        return error_set(err, ST_USAGE,
                         "%u rows a step with %u outputs, %u steps in flight: "
                         "up to %d, as many, %d",
                         r->rows_max, r->outputs_max, r->n_steps, STEP_ROWS_MAX,
                         PLAN_STEPS_MAX);
    }
    if ((unsigned)r->kv_type >= KV_TYPE_END ||
        (unsigned)r->objective > PLAN_MIXED) {
        return error_set(err, ST_USAGE, "key/value type %d, objective %d",
                         (int)r->kv_type, (int)r->objective);
    }
    const enum status st = kv_type_check(r->kv_type, r->model->head_dim, err);
    if (st != ST_OK) return st;
    for (uint32_t i = 0; i < r->n_nodes; i++) {
        const struct plan_node *n = &r->nodes[i];
        if ((unsigned)n->isa < ISA_END && n->n_threads <= POOL_THREADS_MAX &&
            memchr(n->name, 0, sizeof n->name)) {
            continue;
        }
        return error_set(err, ST_USAGE, "node %u: a wrong report", n->id);
    }
    return ST_OK;
}

/* ------------------------------------------------------------ memory */

static struct shard_options options_of(const struct plan_request *r,
                                       enum isa isa, uint32_t n_threads,
                                       uint32_t n_pages)
{
    return (struct shard_options){
        .isa = isa,
        .kv_type = r->kv_type,
        .n_threads = or_default(n_threads, PLAN_THREADS),
        .n_ctx = r->n_ctx,
        .n_seq_max = r->n_seq_max,
        .n_pages = n_pages,
        .rows_max = r->rows_max,
        .outputs_max = r->outputs_max,
    };
}

static void set_experts(struct shard_layer_spec *l, uint32_t n)
{
    for (uint32_t e = 0; e < n; e++) {
        l->experts[e / 64] |= UINT64_C(1) << e % 64;
    }
}

static uint64_t expert_largest(const struct model *m, uint32_t layer,
                               enum isa isa)
{
    uint64_t largest = 0;
    for (uint32_t e = 0; e < m->n_expert; e++) {
        uint64_t bytes = 0;
        for (int p = EXPERT_GATE; p <= EXPERT_DOWN; p++) {
            const struct model_matrix x =
                model_expert(m, layer, e, (enum model_expert_part)p);
            const struct matrix_source src = {x, 0, x.n_rows, false};
            bytes += matrix_bytes(&src, isa);
        }
        if (bytes > largest) largest = bytes;
    }
    return largest;
}

/* What each item adds to a shard of this instruction set: the shard with that
 * item alone, less an empty one. */
static void sum_items(struct plan_work *w, enum isa isa,
                      struct shard_layer_spec *layers)
{
    const struct model *m = w->m;
    uint64_t *sum = w->item_sum + (size_t)isa * (w->n_items + 1);
    uint64_t *experts = w->expert_bytes + (size_t)isa * m->n_layer;
    uint64_t *blocks = w->block_bytes + (size_t)isa * m->n_layer;
    const struct shard_options o = options_of(&w->req, isa, 1, 1);
    struct shard_spec spec = {.layers = layers};
    const struct shard_bytes empty = shard_plan(m, &spec, &o);
    for (uint32_t i = 0; i < w->n_items; i++) {
        const bool layer = i > 0 && i + 1 < w->n_items;
        spec = (struct shard_spec){
            .embed = i == 0,
            .vocab_end = i + 1 == w->n_items ? m->n_vocab : 0,
            .layers = layers,
        };
        if (layer) {
            layers[i - 1].block = true;
            blocks[i - 1] = shard_plan(m, &spec, &o).weights;
            set_experts(&layers[i - 1], m->n_expert);
            experts[i - 1] = expert_largest(m, i - 1, isa);
        }
        const struct shard_bytes one = shard_plan(m, &spec, &o);
        if (layer) layers[i - 1] = (struct shard_layer_spec){0};
        sum[i + 1] = sum[i] + one.weights + one.tables - empty.tables;
    }
    /* the head's matrix serves as the embedding where both are */
    if (m->tied) w->embed_shared = sum[1];
}

static enum status size_up(struct plan_work *w, struct error *err)
{
    const struct plan_request *r = &w->req;
    struct shard_layer_spec *layers =
        mem_zalloc_array(w->m->n_layer, sizeof *layers);
    w->fixed = mem_zalloc_array(r->n_nodes, sizeof *w->fixed);
    w->step_bytes = mem_zalloc_array(r->n_nodes, sizeof *w->step_bytes);
    w->item_sum = mem_zalloc_array((size_t)ISA_END * (w->n_items + 1),
                                   sizeof *w->item_sum);
    w->block_bytes = mem_zalloc_array((size_t)ISA_END * w->m->n_layer,
                                      sizeof *w->block_bytes);
    w->expert_bytes = mem_zalloc_array((size_t)ISA_END * w->m->n_layer,
                                       sizeof *w->expert_bytes);
    if (!layers || !w->fixed || !w->step_bytes || !w->item_sum ||
        !w->block_bytes || !w->expert_bytes) {
        mem_free(layers);
        return error_set(err, ST_NO_MEMORY, "plan");
    }
    const struct kv_shape page = {.n_layers = 1,
                                  .n_head_kv = w->m->n_head_kv,
                                  .head_dim = w->m->head_dim,
                                  .type = r->kv_type};
    w->page_layer_bytes = kv_page_bytes(&page);
    for (uint32_t i = 0; i < r->n_nodes; i++) {
        const struct plan_node *n = &r->nodes[i];
        const struct shard_spec empty = {.layers = layers};
        const struct shard_options o = options_of(r, n->isa, n->n_threads, 1);
        const struct shard_bytes b = shard_plan(w->m, &empty, &o);
        w->fixed[i] = b.total - b.scratch;
        w->step_bytes[i] = b.scratch;
        if (plan_item_sum(w, i)[w->n_items] == 0) sum_items(w, n->isa, layers);
    }
    mem_free(layers);
    return ST_OK;
}

enum status plan_work_init(struct plan_work *w, const struct plan_request *r,
                           struct error *err)
{
    *w = (struct plan_work){.req = *r, .m = r->model};
    fill_defaults(&w->req);
    enum status st = check_request(&w->req, err);
    if (st != ST_OK) return st;
    w->n_items = w->m->n_layer + 2;
    const double per_node = (double)w->req.n_users / w->req.n_nodes;
    w->batch_rows = per_node > 1 ? per_node : 1;
    if (w->batch_rows > w->req.rows_max) w->batch_rows = w->req.rows_max;
    st = size_up(w, err);
    if (st == ST_OK) st = plan_cost_init(w, err);
    if (st != ST_OK) plan_work_fini(w);
    return st;
}

void plan_work_fini(struct plan_work *w)
{
    mem_free(w->item_sum);
    mem_free(w->block_bytes);
    mem_free(w->expert_bytes);
    mem_free(w->items);
    mem_free(w->speeds);
    mem_free(w->fixed);
    mem_free(w->step_bytes);
    *w = (struct plan_work){0};
}

uint32_t plan_context_pages(const struct plan_work *w)
{
    return kv_pages(w->req.n_ctx);
}

uint64_t plan_cache_fixed(const struct plan_work *w, uint32_t n_pages)
{
    const struct kv_shape shape = {.n_layers = 1,
                                   .n_head_kv = w->m->n_head_kv,
                                   .head_dim = w->m->head_dim,
                                   .type = w->req.kv_type,
                                   .n_pages = n_pages,
                                   .n_seq_max = w->req.n_seq_max,
                                   .n_ctx = w->req.n_ctx};
    return kv_bytes(&shape) - w->page_layer_bytes * n_pages;
}

uint64_t plan_range_bytes(const struct plan_work *w, uint32_t node,
                          uint32_t first, uint32_t end, uint32_t n_pages,
                          uint32_t n_steps)
{
    const uint64_t *sum = plan_item_sum(w, node);
    const uint32_t from = first > 1 ? first : 1;
    const uint32_t to = end < w->n_items - 1 ? end : w->n_items - 1;
    uint64_t n =
        w->fixed[node] + n_steps * w->step_bytes[node] + sum[end] - sum[first];
    if (to > from) {
        n += (to - from) * w->page_layer_bytes * n_pages +
             plan_cache_fixed(w, n_pages);
    }
    if (first == 0 && end == w->n_items) n -= w->embed_shared;
    return n;
}

enum status plan_layout_init(struct plan_layout *l, const struct plan_work *w,
                             struct error *err)
{
    const size_t n = (size_t)w->m->n_layer * MODEL_EXPERTS_MAX;
    *l = (struct plan_layout){
        .item_node = mem_zalloc_array(w->n_items, sizeof *l->item_node),
        .expert_node = mem_zalloc_array(n, sizeof *l->expert_node),
    };
    if (!l->item_node || !l->expert_node) {
        plan_layout_fini(l);
        return error_set(err, ST_NO_MEMORY, "plan");
    }
    for (size_t i = 0; i < n; i++) l->expert_node[i] = PLAN_NONE;
    return ST_OK;
}

void plan_layout_fini(struct plan_layout *l)
{
    mem_free(l->item_node);
    mem_free(l->expert_node);
    *l = (struct plan_layout){0};
}

/* -------------------------------------------------------------- make */

/* Bytes that a node offers beyond those of an empty shard. */
static uint64_t room_of(const struct plan_work *w, uint32_t node)
{
    const uint64_t base = w->fixed[node] + 3 * w->step_bytes[node];
    const uint64_t memory = w->req.nodes[node].memory_bytes;
    return memory > base ? memory - base : 0;
}

/* The sum does not suffice: by how much.  ST_OK: it does. */
static enum status refuse_sum(const struct plan_work *w, struct error *err)
{
    const struct plan_request *r = &w->req;
    const uint32_t pages = plan_context_pages(w);
    uint64_t weights = plan_item_sum(w, 0)[w->n_items];
    const uint64_t kv = w->m->n_layer * w->page_layer_bytes * pages;
    uint64_t offered = 0, overhead = 0;
    uint32_t n_useful = 0;
    for (uint32_t i = 0; i < r->n_nodes; i++) {
        const uint64_t room = room_of(w, i);
        if (room == 0) continue;
        n_useful++;
        if (__builtin_add_overflow(offered, r->nodes[i].memory_bytes,
                                   &offered)) {
            return ST_OK;
        }
        overhead += r->nodes[i].memory_bytes - room;
    }
    if (n_useful == 1) weights -= w->embed_shared;
    const uint64_t needs = weights + kv + overhead;
    if (offered >= needs) return ST_OK;
    char small[80] = "";
    if (n_useful < r->n_nodes) {
        snprintf(small, sizeof small,
                 " (%u more are too small for one step's scratch)",
                 r->n_nodes - n_useful);
    }
    const struct plan_unit u = plan_unit(needs);
    return error_set(
        err, ST_NO_MEMORY,
        "the model needs %.2f %s (weights %.2f, a context of %u %.2f, scratch "
        "%.2f); the %u node%s offer%s %.2f %s%s: %.2f %s are missing",
        (double)needs / u.bytes, u.name, (double)weights / u.bytes, r->n_ctx,
        (double)kv / u.bytes, (double)overhead / u.bytes, n_useful,
        n_useful == 1 ? "" : "s", n_useful == 1 ? "s" : "",
        (double)offered / u.bytes, u.name, small,
        (double)(needs - offered) / u.bytes, u.name);
}

/* A layout for the most contexts up to n_users that fit, whole layers if that
 * is possible with one. */
static enum status find_layout(struct plan_layout *out,
                               const struct plan_work *w, struct error *err)
{
    const uint32_t users = min_u32(w->req.n_users, w->req.n_seq_max);
    const int n_ways = w->m->n_expert ? 2 : 1;
    for (int spread = 0; spread < n_ways; spread++) {
        for (uint32_t n = users;; n /= 2) {
            const uint32_t pages = n * plan_context_pages(w);
            const enum status st = spread ? plan_spread(out, w, pages, err)
                                          : plan_search(out, w, pages, err);
            if (st != ST_FULL) return st;
            if (n == 1) break;
        }
    }
    return ST_FULL;
}

/* Is there any layout for one context with `more` bytes on each node? */
static enum status fits_with(const struct plan_work *w, uint64_t more,
                             struct error *err)
{
    struct plan_work one = *w;
    one.req.n_users = 1;
    one.req.objective = PLAN_LATENCY;
    struct plan_node *nodes = mem_zalloc_array(w->req.n_nodes, sizeof *nodes);
    if (!nodes) return error_set(err, ST_NO_MEMORY, "plan");
    for (uint32_t i = 0; i < w->req.n_nodes; i++) {
        nodes[i] = w->req.nodes[i];
        if (__builtin_add_overflow(nodes[i].memory_bytes, more,
                                   &nodes[i].memory_bytes)) {
            nodes[i].memory_bytes = UINT64_MAX;
        }
    }
    one.req.nodes = nodes;
    struct plan_layout l = {0};
    const enum status st = find_layout(&l, &one, err);
    if (st == ST_OK) plan_layout_fini(&l);
    mem_free(nodes);
    return st;
}

/* There is enough in all, but not in the right places. */
static enum status refuse_pieces(const struct plan_work *w, struct error *err)
{
    const uint64_t pages = plan_context_pages(w);
    uint64_t low = 0, high = 1 << 20;
    enum status st;
    while ((st = fits_with(w, high, err)) == ST_FULL && high < UINT64_MAX / 4) {
        low = high;
        high *= 2;
    }
    /* two digits of a MiB or GiB */
    const uint64_t step = high >= UINT64_C(1) << 30 ? 10 << 20 : 10 << 10;
    while (st != ST_NO_MEMORY && high - low > step) {
        const uint64_t mid = low + (high - low) / 2;
        st = fits_with(w, mid, err);
        if (st == ST_OK)
            high = mid;
        else
            low = mid;
    }
    if (st == ST_NO_MEMORY) return st;
    const struct plan_unit u = plan_unit(high);
    const uint64_t needs = plan_item_sum(w, 0)[w->n_items] +
                           w->m->n_layer * w->page_layer_bytes * pages;
    const struct plan_unit v = plan_unit(needs);
    return error_set(
        err, ST_NO_MEMORY,
        "the model needs %.2f %s, which the %u nodes have in all, but %s %s "
        "not fit on them: %.2f %s more on each are missing",
        (double)needs / v.bytes, v.name, w->req.n_nodes,
        w->m->n_expert ? "its layers and experts" : "its whole layers", "do",
        ((double)high + (double)step / 2) / u.bytes, u.name);
}

enum status plan_make(struct plan *out, const struct plan_request *r,
                      struct error *err)
{
    struct plan_work w;
    enum status st = plan_work_init(&w, r, err);
    if (st != ST_OK) return st;
    struct plan_layout l = {0};
    st = find_layout(&l, &w, err);
    if (st == ST_OK) {
        st = plan_finish(out, &w, &l, 0, err);
        plan_layout_fini(&l);
    } else if (st == ST_FULL) {
        st = refuse_sum(&w, err);
        if (st == ST_OK) st = refuse_pieces(&w, err);
    }
    plan_work_fini(&w);
    return st;
}

void plan_fini(struct plan *p)
{
    for (uint32_t i = 0; p->nodes && i < p->n_nodes; i++) {
        mem_free(p->nodes[i].spec.layers);
    }
    mem_free(p->nodes);
    mem_free(p->stages);
    mem_free(p->expert_node);
    *p = (struct plan){0};
}

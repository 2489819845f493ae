#include "engine/shard.h"

#include <string.h>

#include "engine/step.h"

/* One matrix of the walk: from where in the file to where in the shard. */
struct visit {
    struct matrix_source src;
    struct matrix *to;
};
typedef enum status visit_fn(void *arg, const struct visit *v,
                             struct error *err);

static bool spec_expert(const struct shard_spec *spec, uint32_t layer,
                        uint32_t e)
{
    return spec->layers[layer].experts[e / 64] >> e % 64 & 1;
}

static bool spec_any_expert(const struct shard_spec *spec, uint32_t layer)
{
    uint64_t any = 0;
    for (size_t i = 0; i < COUNT_OF(spec->layers[layer].experts); i++) {
        any |= spec->layers[layer].experts[i];
    }
    return any != 0;
}

static bool spec_head(const struct shard_spec *spec)
{
    return spec->vocab_end > spec->vocab_first;
}

/* The embedding is looked up in the head's matrix when that is all here. */
static bool shares_embed(const struct model *m, const struct shard_spec *spec)
{
    return m->tied && spec->vocab_first == 0 && spec->vocab_end == m->n_vocab;
}

static enum status visit_whole(const struct model_matrix *from,
                               struct matrix *to, visit_fn *fn, void *arg,
                               struct error *err)
{
    if (!from->tensor) return ST_OK;
    const struct visit v = {{*from, 0, from->n_rows, false}, to};
    return fn(arg, &v, err);
}

static enum status walk_layer(const struct model *m,
                              const struct shard_spec *spec, uint32_t i,
                              struct shard_layer *l, visit_fn *fn, void *arg,
                              struct error *err)
{
    struct shard_layer none; /* its addresses stand in; nobody looks there */
    const struct model_layer *f = &m->layers[i];
    struct shard_layer *to = l ? l : &none;
    const struct {
        const struct model_matrix *from;
        struct matrix *to;
    } block[] = {
        {&f->q, &to->q},       {&f->k, &to->k},           {&f->v, &to->v},
        {&f->o, &to->o},       {&f->gate, &to->gate},     {&f->up, &to->up},
        {&f->down, &to->down}, {&f->router, &to->router},
    };
    for (size_t j = 0; spec->layers[i].block && j < COUNT_OF(block); j++) {
        const enum status st =
            visit_whole(block[j].from, block[j].to, fn, arg, err);
        if (st != ST_OK) return st;
    }
    for (uint32_t e = 0; e < m->n_expert; e++) {
        if (!spec_expert(spec, i, e)) continue;
        struct shard_expert no_expert;
        struct shard_expert *x = l ? &l->experts[e] : &no_expert;
        struct matrix *const parts[] = {[EXPERT_GATE] = &x->gate,
                                        [EXPERT_UP] = &x->up,
                                        [EXPERT_DOWN] = &x->down};
        for (int p = EXPERT_GATE; p <= EXPERT_DOWN; p++) {
            const struct model_matrix from =
                model_expert(m, i, e, (enum model_expert_part)p);
            const enum status st = visit_whole(&from, parts[p], fn, arg, err);
            if (st != ST_OK) return st;
        }
    }
    return ST_OK;
}

/* Every matrix of the spec, in the order of the computation.  s NULL: only
 * looking, v->to means nothing. */
static enum status walk(const struct model *m, const struct shard_spec *spec,
                        struct shard *s, visit_fn *fn, void *arg,
                        struct error *err)
{
    enum status st = ST_OK;
    if (spec->embed && !shares_embed(m, spec)) {
        const struct visit v = {{m->embed, 0, m->n_vocab, true},
                                s ? &s->embed : NULL};
        st = fn(arg, &v, err);
    }
    for (uint32_t i = 0; st == ST_OK && i < m->n_layer; i++) {
        st = walk_layer(m, spec, i, s ? &s->layers[i] : NULL, fn, arg, err);
    }
    if (st == ST_OK && spec_head(spec)) {
        const struct visit v = {
            {m->head, spec->vocab_first, spec->vocab_end, false},
            s ? &s->head : NULL};
        st = fn(arg, &v, err);
    }
    return st;
}

static enum status check_head(const struct model *m,
                              const struct shard_spec *spec, struct error *err)
{
    if (spec->vocab_end > m->n_vocab || spec->vocab_first > spec->vocab_end ||
        spec->vocab_first % NM_LEAF != 0 ||
        (spec->vocab_end % NM_LEAF != 0 && spec->vocab_end != m->n_vocab)) {
        return error_set(err, ST_INVALID, "head rows %u to %u of %u",
                         spec->vocab_first, spec->vocab_end, m->n_vocab);
    }
    return ST_OK;
}

/* ----------------------------------------------------------- ranges */

struct ranges {
    shard_range_fn *fn;
    void *arg;
};

static enum status whole_range(const struct ranges *r,
                               const struct gguf_tensor *t, struct error *err)
{
    const struct shard_range range = {t, 0, t->n_bytes};
    return r->fn(r->arg, &range, err);
}

static enum status matrix_range(void *arg, const struct visit *v,
                                struct error *err)
{
    const struct ranges *r = arg;
    const struct model_matrix *from = &v->src.from;
    const uint64_t row_bytes =
        quant_row_bytes((enum quant_type)from->tensor->type, from->k);
    const struct shard_range range = {
        from->tensor, from->offset + v->src.first * row_bytes,
        (uint64_t)(v->src.end - v->src.first) * row_bytes};
    return r->fn(r->arg, &range, err);
}

/* The order is load_all's. */
enum status shard_walk(const struct model *m, const struct shard_spec *spec,
                       shard_range_fn *fn, void *arg, struct error *err)
{
    struct ranges r = {fn, arg};
    enum status st = check_head(m, spec, err);
    for (uint32_t i = 0; st == ST_OK && i < m->n_layer; i++) {
        if (!spec->layers[i].block) continue;
        for (int v = 0; st == ST_OK && v < VEC_END; v++) {
            const struct gguf_tensor *t = m->layers[i].vec[v];
            if (t) st = whole_range(&r, t, err);
        }
    }
    if (st == ST_OK && m->rope_freqs) st = whole_range(&r, m->rope_freqs, err);
    if (st == ST_OK && spec_head(spec)) {
        st = whole_range(&r, m->output_norm, err);
    }
    if (st == ST_OK) st = walk(m, spec, NULL, matrix_range, &r, err);
    return st;
}

/* ------------------------------------------------------------- plan */

struct sum {
    enum isa isa;
    uint64_t bytes;
};

static enum status add_bytes(void *arg, const struct visit *v,
                             struct error *err)
{
    (void)err;
    struct sum *sum = arg;
    sum->bytes += matrix_bytes(&v->src, sum->isa);
    return ST_OK;
}

static struct kv_shape kv_shape_of(const struct model *m,
                                   const struct shard_spec *spec,
                                   const struct shard_options *o)
{
    struct kv_shape shape = {
        .n_head_kv = m->n_head_kv,
        .head_dim = m->head_dim,
        .type = o->kv_type,
        .n_pages = o->n_pages,
        .n_seq_max = o->n_seq_max,
        .n_ctx = o->n_ctx,
    };
    for (uint32_t i = 0; i < m->n_layer; i++) {
        shape.n_layers += spec->layers[i].block;
    }
    if (shape.n_pages == 0) shape.n_pages = o->n_seq_max * kv_pages(o->n_ctx);
    return shape;
}

/* Everything but numbers. */
static uint64_t table_bytes(const struct model *m,
                            const struct shard_spec *spec)
{
    uint64_t n = sizeof(struct shard) + pool_bytes() +
                 (uint64_t)m->n_layer * sizeof(struct shard_layer) +
                 (uint64_t)(m->n_rot / 2) * sizeof(double);
    for (uint32_t i = 0; i < m->n_layer; i++) {
        if (spec_any_expert(spec, i)) {
            n += (uint64_t)m->n_expert * sizeof(struct shard_expert);
        }
    }
    return n;
}

/* Of the norms and biases. */
static uint64_t vector_bytes(const struct model *m,
                             const struct shard_spec *spec)
{
    uint64_t n = spec_head(spec) ? m->n_embd : 0;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        if (!spec->layers[i].block) continue;
        for (int v = 0; v < VEC_END; v++) {
            if (!m->layers[i].vec[v]) continue;
            n += model_vector_length(m, (enum model_vector)v);
        }
    }
    return n * sizeof(float);
}

struct shard_bytes shard_plan(const struct model *m,
                              const struct shard_spec *spec,
                              const struct shard_options *o)
{
    struct sum sum = {.isa = o->isa};
    if (walk(m, spec, NULL, add_bytes, &sum, NULL) != ST_OK) sum.bytes = 0;
    const struct kv_shape shape = kv_shape_of(m, spec, o);
    struct shard_bytes b = {
        .weights = sum.bytes + vector_bytes(m, spec),
        .kv = shape.n_layers ? kv_bytes(&shape) : 0,
        .scratch = step_bytes(m, o),
        .tables = table_bytes(m, spec),
    };
    b.total = b.weights + b.tables;
    if (__builtin_add_overflow(b.total, b.kv, &b.total) ||
        __builtin_add_overflow(b.total, b.scratch, &b.total)) {
        b.total = UINT64_MAX;
    }
    return b;
}

enum status shard_spec_whole(struct shard_spec *out, const struct model *m,
                             struct error *err)
{
    struct shard_spec spec = {.embed = true, .vocab_end = m->n_vocab};
    spec.layers = mem_zalloc_array(m->n_layer, sizeof *spec.layers);
    if (!spec.layers) return error_set(err, ST_NO_MEMORY, "shard map");
    for (uint32_t i = 0; i < m->n_layer; i++) {
        spec.layers[i].block = true;
        for (uint32_t e = 0; e < m->n_expert; e++) {
            spec.layers[i].experts[e / 64] |= UINT64_C(1) << e % 64;
        }
    }
    *out = spec;
    return ST_OK;
}

/* ------------------------------------------------------------- load */

struct loading {
    struct shard *s;
    const struct gguf *g;
    uint8_t *next; /* in the slab */
    uint64_t total;
};

static enum status load_matrix(void *arg, const struct visit *v,
                               struct error *err)
{
    struct loading *l = arg;
    const struct shard_options *o = &l->s->options;
    const enum status st = matrix_load(v->to, l->g, &v->src, o->isa, o->blas,
                                       o->fast, l->s->pool, l->next, err);
    if (st != ST_OK) return st;
    l->next += matrix_bytes(&v->src, o->isa);
    l->s->weight_bytes += matrix_bytes(&v->src, o->isa);
    if (o->progress &&
        !o->progress(o->progress_arg, l->s->weight_bytes, l->total)) {
        return error_set(err, ST_INTERRUPTED, "interrupted while loading");
    }
    return ST_OK;
}

static enum status load_vector(float **out, const struct gguf *g,
                               const struct gguf_tensor *t, struct error *err)
{
    float *v = mem_zalloc_array((size_t)t->ne[0], sizeof *v);
    if (!v) return error_set(err, ST_NO_MEMORY, "tensor %s", t->name);
    const enum status st =
        gguf_read(g, t, 0, v, (size_t)t->ne[0] * sizeof *v, err);
    if (st != ST_OK) {
        mem_free(v);
        return st;
    }
    *out = v;
    return ST_OK;
}

/* What each pair turns by from one position to the next: NUMERICS 7. */
static enum status load_rope(struct shard *s, const struct model *m,
                             struct error *err)
{
    const uint32_t n = m->n_rot / 2;
    s->rope_freq = mem_zalloc_array(n, sizeof *s->rope_freq);
    if (!s->rope_freq) return error_set(err, ST_NO_MEMORY, "RoPE table");
    float *factors = NULL;
    if (m->rope_freqs) {
        const enum status st =
            load_vector(&factors, m->gguf, m->rope_freqs, err);
        if (st != ST_OK) return st;
    }
    enum status st = ST_OK;
    for (uint32_t i = 0; i < n; i++) {
        double f = model_rope_freq(m, i);
        if (factors) {
            /* an angle has to stay below 2^20 (nm_sincos64) */
            if (!(factors[i] >= 1.0f && factors[i] <= 0x1p20f)) {
                st = error_set(err, ST_INVALID, "rope_freqs.weight[%u] is %g",
                               i, (double)factors[i]);
                break;
            }
            f /= (double)factors[i];
        }
        s->rope_freq[i] = model_rope_turn(m, i, f);
    }
    mem_free(factors);
    return st;
}

/* A norm or bias: part of the weights, and of their bytes. */
static enum status load_weight_vector(struct shard *s, float **out,
                                      const struct model *m,
                                      const struct gguf_tensor *t,
                                      struct error *err)
{
    const enum status st = load_vector(out, m->gguf, t, err);
    if (st == ST_OK) s->weight_bytes += t->ne[0] * sizeof(float);
    return st;
}

static enum status load_layers(struct shard *s, const struct model *m,
                               const struct shard_spec *spec, struct error *err)
{
    s->layers = mem_zalloc_array(m->n_layer, sizeof *s->layers);
    if (!s->layers) return error_set(err, ST_NO_MEMORY, "layer table");
    uint32_t n_kv = 0;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        struct shard_layer *l = &s->layers[i];
        if (spec_any_expert(spec, i)) {
            l->experts = mem_zalloc_array(m->n_expert, sizeof *l->experts);
            if (!l->experts) {
                return error_set(err, ST_NO_MEMORY, "expert table");
            }
        }
        if (!spec->layers[i].block) continue;
        l->block = true;
        l->kv_layer = n_kv++;
        l->window = m->layers[i].window;
        for (int v = 0; v < VEC_END; v++) {
            const struct gguf_tensor *t = m->layers[i].vec[v];
            if (!t) continue;
            const enum status st = load_weight_vector(s, &l->vec[v], m, t, err);
            if (st != ST_OK) return st;
        }
    }
    return ST_OK;
}

/* Every matrix, in one block: what is large and whole can have huge pages. */
static enum status load_matrices(struct shard *s, const struct model *m,
                                 const struct shard_spec *spec,
                                 const struct shard_bytes *plan,
                                 struct error *err)
{
    struct sum sum = {.isa = s->options.isa};
    enum status st = walk(m, spec, NULL, add_bytes, &sum, err);
    if (st != ST_OK || sum.bytes == 0) return st;
    s->slab = mem_alloc_huge((size_t)sum.bytes);
    if (!s->slab) {
        return error_set(err, ST_NO_MEMORY,
                         "the system does not give %.2f GiB for the weights",
                         (double)sum.bytes / 0x1p30);
    }
    struct loading loading = {s, m->gguf, s->slab, plan->weights};
    return walk(m, spec, s, load_matrix, &loading, err);
}

static enum status load_all(struct shard *s, const struct model *m,
                            const struct shard_spec *spec,
                            const struct shard_bytes *plan, struct error *err)
{
    enum status st = pool_create(&s->pool, s->options.n_threads, err);
    if (st == ST_OK && s->options.affinity) st = pool_pin(s->pool, err);
    if (st == ST_OK) st = load_layers(s, m, spec, err);
    if (st == ST_OK) st = load_rope(s, m, err);
    if (st == ST_OK && spec_head(spec)) {
        st = load_weight_vector(s, &s->output_norm, m, m->output_norm, err);
    }
    if (st == ST_OK) st = load_matrices(s, m, spec, plan, err);
    const struct kv_shape shape = kv_shape_of(m, spec, &s->options);
    if (st == ST_OK && shape.n_layers) st = kv_create(&s->kv, &shape, err);
    return st;
}

static enum status check_options(const struct model *m,
                                 const struct shard_spec *spec,
                                 const struct shard_options *o,
                                 struct error *err)
{
    if (o->n_ctx < 1 || o->n_ctx > m->n_ctx) {
        return error_set(err, ST_USAGE,
                         "a context of %u positions: this model allows 1 to %u",
                         o->n_ctx, m->n_ctx);
    }
    if (o->rows_max < 1 || o->rows_max > STEP_ROWS_MAX || o->n_seq_max < 1 ||
        o->outputs_max < 1 || o->outputs_max > o->rows_max ||
        (uint64_t)o->n_seq_max * kv_pages(o->n_ctx) > UINT32_MAX) {
        return error_set(err, ST_USAGE,
                         "%u rows a step with %u outputs for %u sequences of "
                         "up to %u positions",
                         o->rows_max, o->outputs_max, o->n_seq_max, o->n_ctx);
    }
    if (o->isa >= ISA_END || !cpu_runs(o->isa) ||
        (unsigned)o->kv_type >= KV_TYPE_END) {
        return error_set(err, ST_USAGE,
                         "instruction set %s, key/value type %d: not on this "
                         "processor, or not built",
                         isa_name(o->isa), (int)o->kv_type);
    }
    const enum status st = kv_type_check(o->kv_type, m->head_dim, err);
    if (st != ST_OK) return st;
    return check_head(m, spec, err);
}

static enum status over_limit(const struct shard_bytes *plan, uint64_t limit,
                              struct error *err)
{
    /* small models would be 0.00 GiB */
    const bool gib = plan->total >= UINT64_C(1) << 30;
    const double unit = gib ? 0x1p30 : 0x1p20;
    const char *name = gib ? "GiB" : "MiB";
    return error_set(
        err, ST_NO_MEMORY,
        "needs %.2f %s of memory (weights %.2f, key/value cache "
        "%.2f, scratch %.2f), %.2f %s more than the limit of %.2f "
        "%s; a smaller context needs less",
        (double)plan->total / unit, name, (double)plan->weights / unit,
        (double)plan->kv / unit, (double)plan->scratch / unit,
        (double)(plan->total - limit) / unit, name, (double)limit / unit, name);
}

enum status shard_create(struct shard **out, const struct model *m,
                         const struct shard_spec *spec,
                         const struct shard_options *options, struct error *err)
{
    enum status st = check_options(m, spec, options, err);
    if (st != ST_OK) return st;
    const struct shard_bytes plan = shard_plan(m, spec, options);
    if (options->memory_max != 0 && plan.total > options->memory_max) {
        return over_limit(&plan, options->memory_max, err);
    }
    struct shard *s = mem_zalloc(sizeof *s);
    if (!s) return error_set(err, ST_NO_MEMORY, "shard");
    s->model = *m;
    /* the numbers outlive the file, its parts do not */
    s->model.gguf = NULL;
    s->model.layers = NULL;
    s->model.rope_freqs = s->model.output_norm = NULL;
    s->model.embed = s->model.head = (struct model_matrix){0};
    s->options = *options;
    s->vec = vec_ops_select(options->isa);
    s->has_embed = spec->embed;
    s->vocab_first = spec->vocab_first;
    s->vocab_end = spec->vocab_end;
    st = load_all(s, m, spec, &plan, err);
    if (st != ST_OK) {
        shard_free(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

void shard_free(struct shard *s)
{
    if (!s) return;
    for (uint32_t i = 0; s->layers && i < s->model.n_layer; i++) {
        for (int v = 0; v < VEC_END; v++) mem_free(s->layers[i].vec[v]);
        mem_free(s->layers[i].experts);
    }
    mem_free(s->layers);
    mem_free(s->slab);
    mem_free(s->output_norm);
    mem_free(s->rope_freq);
    kv_free(s->kv);
    pool_free(s->pool);
    mem_free(s);
}

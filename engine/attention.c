#include "engine/attention.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "common/compiler.h"

#define PARTIAL      256  /* positions of a partial: NUMERICS 8 */
#define TILE_QUERIES 32   /* rows times heads of a tile */
#define TILE_FLOATS  2048 /* of its queries: with a block, they stay in L1 */
#define ROUND        64   /* partials whose states are kept at once, at most */
#define CUT_BELOW    4    /* tiles a thread */

_Static_assert(VEC_BLOCK == KV_PAGE, "a page is a block");
_Static_assert((int)KV_F32 == 0 && (int)KV_F16 == 1 && (int)KV_Q8_0 == 2,
               "vec_ops counts the types so");

/* Softmax states of a tile's queries. */
struct states {
    float *m, *l; /* [queries] */
    float *o;     /* [queries][width] */
};

/* What a thread works with: lies in its scratch. */
struct work {
    _Alignas(64) float block[VEC_BLOCK * MODEL_HEAD_DIM_MAX];
    _Alignas(64) float q[TILE_FLOATS];
    _Alignas(64) float part_o[TILE_FLOATS];
    _Alignas(64) float total_o[TILE_FLOATS];
    _Alignas(64) float w[TILE_QUERIES * VEC_BLOCK];
    struct act_q8_0 q8_0[TILE_FLOATS / 32];
    float part_m[TILE_QUERIES], part_l[TILE_QUERIES];
    float total_m[TILE_QUERIES], total_l[TILE_QUERIES];
    float c[TILE_QUERIES];
    uint32_t next; /* position whose page is wanted next */
};
_Static_assert(sizeof(struct work) <= KERNEL_SCRATCH, "fits the scratch");

/* Consecutive rows of one sequence. */
struct rows_run {
    uint32_t first, n;
    uint32_t handle;
};

struct attention {
    const struct shard *s;
    const struct attention_job *job;
    size_t row_bytes; /* of one position of one head in the cache */
    uint32_t dim, width;
    uint32_t group; /* query heads of a key/value head */
    uint32_t heads; /* of them, in one tile */
    uint32_t parts; /* tiles that a group takes */
    struct rows_run *runs;
    uint32_t n_runs;
    /* where tiles are cut: a round of partials from `begin` on */
    uint32_t begin, per_tile;
    uint32_t round;      /* partials of the longest round */
    size_t state_floats; /* of one tile */
    float *states;       /* [tiles][1 + round]: the total, then partials */
    atomic_uint *left;   /* [tiles] partials of the round */
};

/* A tile, and where its data lies. */
struct tile {
    const struct attention *a;
    const struct attention_row *rows;
    uint32_t n_rows, heads, n_queries;
    uint32_t handle, kv_head;
    size_t at; /* of its first row and head in q and out */
};

/* ----------------------------------------------------------- geometry */

static uint32_t queries_max(uint32_t width)
{
    const uint32_t n = TILE_FLOATS / width;
    return n < TILE_QUERIES ? n : TILE_QUERIES;
}

static uint32_t heads_of_tile(uint32_t group, uint32_t width)
{
    const uint32_t n = queries_max(width);
    return group < n ? group : n;
}

static uint32_t first_seen(const struct attention *a, uint32_t pos)
{
    const uint32_t window = a->job->window;
    return window != 0 && pos >= window ? pos - window + 1 : 0;
}

/* Rows ascend: the first sees furthest back, the last furthest on. */
static uint32_t first_partial(const struct tile *t)
{
    return first_seen(t->a, t->rows[0].pos) / PARTIAL;
}

static uint32_t end_partial(const struct tile *t)
{
    return t->rows[t->n_rows - 1].pos / PARTIAL + 1;
}

static uint32_t n_tiles(const struct attention *a)
{
    return a->n_runs * a->s->model.n_head_kv * a->parts;
}

static struct tile tile_of(const struct attention *a, uint32_t i)
{
    const uint32_t part = i % a->parts;
    const uint32_t kv_head = i / a->parts % a->s->model.n_head_kv;
    const struct rows_run *run = &a->runs[i / a->parts / a->s->model.n_head_kv];
    const uint32_t left = a->group - part * a->heads;
    struct tile t = {
        .a = a,
        .rows = a->job->rows + run->first,
        .n_rows = run->n,
        .heads = left < a->heads ? left : a->heads,
        .handle = run->handle,
        .kv_head = kv_head,
        .at = ((size_t)run->first * a->s->model.n_head +
               (size_t)kv_head * a->group + part * a->heads) *
              a->dim,
    };
    t.n_queries = t.n_rows * t.heads;
    return t;
}

/* ----------------------------------------------------------- one tile */

/* Its queries, padded, or quantized as the keys are. */
static void take_queries(const struct tile *t, struct work *w)
{
    const struct attention *a = t->a;
    const size_t row = (size_t)a->s->model.n_head * a->dim;
    for (uint32_t i = 0; i < t->n_queries; i++) {
        const float *q = a->job->q + t->at + i / t->heads * row +
                         (size_t)(i % t->heads) * a->dim;
        if (a->s->options.kv_type == KV_Q8_0) {
            a->s->vec->act_quantize(ACT_Q8_0, q, a->dim,
                                    w->q8_0 + (size_t)i * (a->dim / 32));
            continue;
        }
        float *to = w->q + (size_t)i * a->width;
        memcpy(to, q, a->dim * sizeof *to);
        for (uint32_t d = a->dim; d < a->width; d++) to[d] = 0;
    }
}

/* Rows of a tile that see the same positions of a block. */
struct seen {
    uint32_t first, n; /* rows */
    uint32_t from, to; /* positions of the block */
};

static uint32_t split_block(const struct tile *t, uint32_t from, uint32_t to,
                            struct seen *out)
{
    uint32_t n = 0;
    for (uint32_t r = 0; r < t->n_rows; r++) {
        const uint32_t pos = t->rows[r].pos, low = first_seen(t->a, pos);
        const uint32_t begin = low > from ? low : from;
        const uint32_t end = pos < to ? pos + 1 : to;
        if (begin >= end) continue;
        struct seen *last = n > 0 ? &out[n - 1] : NULL;
        if (last && last->from == begin - from && last->to == end - from &&
            last->first + last->n == r) {
            last->n++;
        } else {
            out[n++] = (struct seen){r, 1, begin - from, end - from};
        }
    }
    return n;
}

/* A quarter of the next page's keys and values to the L2: nothing else would
 * foresee them, and all at once they would hold up what is loaded now. */
static void prefetch(const struct tile *t, const struct work *w,
                     uint32_t quarter)
{
    const struct attention *a = t->a;
    const uint32_t layer = a->job->kv_layer;
    const char *k = kv_k(a->s->kv, t->handle, layer, t->kv_head, w->next);
    const char *v = kv_v(a->s->kv, t->handle, layer, t->kv_head, w->next);
    const size_t n = KV_PAGE / 4 * a->row_bytes;
    for (size_t i = quarter * n; i < (quarter + 1) * n; i += 64) {
        __builtin_prefetch(k + i, 0, 2);
        __builtin_prefetch(v + i, 0, 2);
    }
}

/* From scores to weights, for the positions that each row sees. */
static void weigh(const struct tile *t, struct work *w, struct states *st,
                  const struct seen *seen, uint32_t n_seen)
{
    const struct model *m = &t->a->s->model;
    for (uint32_t i = 0; i < n_seen; i++) {
        const uint32_t q = seen[i].first * t->heads;
        t->a->s->vec->softmax(w->w + q * VEC_BLOCK + seen[i].from,
                              seen[i].n * t->heads, seen[i].to - seen[i].from,
                              m->query_scale, m->attn_softcap, st->m + q,
                              st->l + q, w->c + q);
    }
}

/* Positions [from, to) of one page into the states of a partial. */
static void take_block(const struct tile *t, struct work *w, struct states *st,
                       uint32_t from, uint32_t to)
{
    const struct attention *a = t->a;
    const struct vec_ops *vec = a->s->vec;
    const enum kv_type type = a->s->options.kv_type;
    const uint32_t layer = a->job->kv_layer, n = to - from;
    const size_t skip = from % KV_PAGE * a->row_bytes;
    const char *k = kv_k(a->s->kv, t->handle, layer, t->kv_head, from);
    const char *v = kv_v(a->s->kv, t->handle, layer, t->kv_head, from);
    struct seen seen[TILE_QUERIES];
    const uint32_t n_seen = split_block(t, from, to, seen);
    prefetch(t, w, 0);
    vec->keys[type](w->block, k + skip, n, a->dim);
    prefetch(t, w, 1);
    if (type == KV_Q8_0)
        vec->dots_q8_0(w->w, w->q8_0, t->n_queries, w->block, n, a->dim);
    else
        vec->dots(w->w, w->q, t->n_queries, w->block, n, a->dim);
    weigh(t, w, st, seen, n_seen);
    prefetch(t, w, 2);
    vec->values[type](w->block, v + skip, n, a->dim);
    prefetch(t, w, 3);
    for (uint32_t i = 0; i < n_seen; i++) {
        const uint32_t q = seen[i].first * t->heads;
        vec->add_values(st->o + (size_t)q * a->width, w->c + q,
                        w->w + q * VEC_BLOCK + seen[i].from,
                        seen[i].n * t->heads,
                        w->block + (size_t)seen[i].from * a->width,
                        seen[i].to - seen[i].from, a->dim);
    }
}

/* The states of partial p of every query that has positions in it. */
static void take_partial(const struct tile *t, struct work *w,
                         struct states *st, uint32_t p)
{
    const struct attention *a = t->a;
    const uint32_t low = first_seen(a, t->rows[0].pos);
    const uint32_t last = t->rows[t->n_rows - 1].pos;
    const uint32_t end =
        last < p * PARTIAL + PARTIAL ? last + 1 : p * PARTIAL + PARTIAL;
    for (uint32_t i = 0; i < t->n_queries; i++) {
        st->m[i] = -INFINITY;
        st->l[i] = 0;
    }
    memset(st->o, 0, (size_t)t->n_queries * a->width * sizeof *st->o);
    for (uint32_t at = p * PARTIAL; at < end; at += KV_PAGE) {
        const uint32_t from = at < low ? low : at;
        uint32_t to = at + KV_PAGE;
        if (to > end) to = end;
        if (from >= to) continue;
        w->next = to <= last ? to : from;
        take_block(t, w, st, from, to);
    }
}

/* Merge partial p into the totals; a row's first one is its total. */
static void fold(const struct tile *t, struct states *total,
                 const struct states *part, uint32_t p)
{
    const struct attention *a = t->a;
    for (uint32_t i = 0; i < t->n_queries; i++) {
        const uint32_t pos = t->rows[i / t->heads].pos;
        const uint32_t first = first_seen(a, pos) / PARTIAL;
        if (p < first || p > pos / PARTIAL) continue;
        float *to = total->o + (size_t)i * a->width;
        const float *from = part->o + (size_t)i * a->width;
        if (p == first) {
            total->m[i] = part->m[i];
            total->l[i] = part->l[i];
            memcpy(to, from, a->width * sizeof *to);
            continue;
        }
        const float m1 = total->m[i], m2 = part->m[i], m = m1 > m2 ? m1 : m2;
        const float c1 = nm_exp(m1 - m), c2 = nm_exp(m2 - m);
        total->m[i] = m;
        total->l[i] = (total->l[i] * c1) + (part->l[i] * c2);
        a->s->vec->merge(to, from, c1, c2, a->dim);
    }
}

static void put_out(const struct tile *t, const struct states *total)
{
    const struct attention *a = t->a;
    const size_t row = (size_t)a->s->model.n_head * a->dim;
    for (uint32_t i = 0; i < t->n_queries; i++) {
        float *out = a->job->out + t->at + i / t->heads * row +
                     (size_t)(i % t->heads) * a->dim;
        a->s->vec->scale(out, total->o + (size_t)i * a->width,
                         1.0f / total->l[i], a->dim);
    }
}

static struct work *work_of(const struct attention *a, uint32_t thread)
{
    char *scratch = a->job->scratch;
    return (struct work *)(void *)(scratch + thread * (size_t)KERNEL_SCRATCH);
}

/* The last tiles first: they have the longest way back. */
static void whole_item(void *arg, uint32_t item, uint32_t thread)
{
    const struct attention *a = arg;
    const struct tile t = tile_of(a, n_tiles(a) - 1 - item);
    struct work *w = work_of(a, thread);
    struct states part = {w->part_m, w->part_l, w->part_o};
    struct states total = {w->total_m, w->total_l, w->total_o};
    take_queries(&t, w);
    for (uint32_t p = first_partial(&t); p < end_partial(&t); p++) {
        take_partial(&t, w, &part, p);
        fold(&t, &total, &part, p);
    }
    put_out(&t, &total);
}

/* ---------------------------------------------------------- cut tiles */

static struct states states_at(const struct attention *a, uint32_t tile,
                               uint32_t i)
{
    float *p =
        a->states + (tile * (size_t)(1 + a->round) + i) * a->state_floats;
    return (struct states){p, p + a->heads, p + 2 * (size_t)a->heads};
}

/* Partials of a tile in this round: how many of begin .. begin + per_tile. */
static uint32_t partials_here(const struct tile *t, uint32_t *from)
{
    const struct attention *a = t->a;
    const uint32_t first = first_partial(t), end = end_partial(t);
    const uint32_t low = first > a->begin ? first : a->begin;
    const uint32_t high =
        end < a->begin + a->per_tile ? end : a->begin + a->per_tile;
    *from = low;
    return low < high ? high - low : 0;
}

/* One partial of one tile; who finishes a tile's last one merges them. */
static void cut_item(void *arg, uint32_t item, uint32_t thread)
{
    const struct attention *a = arg;
    const uint32_t i = item % n_tiles(a), p = a->begin + item / n_tiles(a);
    const struct tile t = tile_of(a, i);
    uint32_t from;
    const uint32_t n = partials_here(&t, &from);
    if (p < from || p >= from + n) return;
    struct work *w = work_of(a, thread);
    struct states part = states_at(a, i, 1 + p - a->begin);
    take_queries(&t, w);
    take_partial(&t, w, &part, p);
    if (atomic_fetch_sub(&a->left[i], 1) != 1) return;
    struct states total = states_at(a, i, 0);
    for (uint32_t k = from; k < from + n; k++) {
        part = states_at(a, i, 1 + k - a->begin);
        fold(&t, &total, &part, k);
    }
    if (from + n == end_partial(&t)) put_out(&t, &total);
}

static void run_cut(struct attention *a, uint32_t begin, uint32_t end)
{
    for (a->begin = begin; a->begin < end; a->begin += a->round) {
        a->per_tile = end - a->begin < a->round ? end - a->begin : a->round;
        for (uint32_t i = 0; i < n_tiles(a); i++) {
            const struct tile t = tile_of(a, i);
            uint32_t from;
            atomic_store(&a->left[i], partials_here(&t, &from));
        }
        pool_run(a->s->pool, cut_item, a, n_tiles(a) * a->per_tile);
    }
}

/* ---------------------------------------------------------------- run */

/* Tiles that may be cut: with more, whole ones occupy every thread. */
static uint32_t cut_tiles_max(uint32_t n_threads)
{
    return CUT_BELOW * n_threads;
}

static uint32_t round_of(uint32_t n_ctx)
{
    const uint32_t n = (n_ctx + PARTIAL - 1) / PARTIAL;
    return n < ROUND ? n : ROUND;
}

static size_t state_floats(uint32_t heads, uint32_t width)
{
    return (heads * (2 + (size_t)width) + 15) / 16 * 16;
}

static size_t aligned(size_t n)
{
    return (n + 63) / 64 * 64;
}

uint64_t attention_bytes(const struct model *m, const struct shard_options *o)
{
    const uint32_t width = vec_width(m->head_dim);
    const uint32_t tiles = cut_tiles_max(o->n_threads);
    const size_t state =
        state_floats(heads_of_tile(m->n_head / m->n_head_kv, width), width);
    return aligned(o->rows_max * sizeof(struct rows_run)) +
           aligned(tiles * sizeof(atomic_uint)) +
           (uint64_t)tiles * (1 + round_of(o->n_ctx)) * state * sizeof(float);
}

/* Cut the rows into runs; rows without a sequence give zeros. */
static void find_runs(struct attention *a, uint32_t rows_max)
{
    const struct attention_job *job = a->job;
    const size_t row = (size_t)a->s->model.n_head * a->dim;
    for (uint32_t r = 0; r < job->n_rows; r++) {
        const uint32_t handle = job->rows[r].handle;
        struct rows_run *last = a->n_runs > 0 ? &a->runs[a->n_runs - 1] : NULL;
        if (handle == UINT32_MAX) {
            memset(job->out + r * row, 0, row * sizeof *job->out);
        } else if (last && last->handle == handle && last->n < rows_max &&
                   last->first + last->n == r &&
                   job->rows[r - 1].pos < job->rows[r].pos) {
            last->n++;
        } else {
            a->runs[a->n_runs++] = (struct rows_run){r, 1, handle};
        }
    }
}

void attention_run(const struct shard *s, const struct attention_job *job)
{
    const uint32_t dim = s->model.head_dim, width = vec_width(dim);
    const uint32_t group = s->model.n_head / s->model.n_head_kv;
    const uint32_t heads = heads_of_tile(group, width);
    const uint32_t n_threads = pool_n_threads(s->pool);
    const size_t runs_bytes =
        aligned(s->options.rows_max * sizeof(struct rows_run));
    const size_t left_bytes =
        aligned(cut_tiles_max(n_threads) * sizeof(atomic_uint));
    char *space = job->space;
    struct attention a = {
        .s = s,
        .job = job,
        .row_bytes = kv_row_bytes(s->options.kv_type, dim),
        .dim = dim,
        .width = width,
        .group = group,
        .heads = heads,
        .parts = (group + heads - 1) / heads,
        .runs = (void *)space,
        .round = round_of(s->options.n_ctx),
        .state_floats = state_floats(heads, width),
        .left = (void *)(space + runs_bytes),
        .states = (void *)(space + runs_bytes + left_bytes),
    };
    find_runs(&a, queries_max(width) / heads);
    uint32_t begin = UINT32_MAX, end = 0, longest = 0;
    bool single = true;
    for (uint32_t i = 0; i < a.n_runs; i++) {
        const struct tile t = tile_of(&a, i * s->model.n_head_kv * a.parts);
        const uint32_t from = first_partial(&t), to = end_partial(&t);
        begin = from < begin ? from : begin;
        end = to > end ? to : end;
        longest = to - from > longest ? to - from : longest;
        single &= t.n_rows == 1;
    }
    if (single && longest > 1 && n_threads > 1 &&
        n_tiles(&a) < cut_tiles_max(n_threads)) {
        run_cut(&a, begin, end);
    } else {
        pool_run(s->pool, whole_item, &a, n_tiles(&a));
    }
}

void rope_table(const struct model *m, const double *freq, uint32_t pos,
                float *table)
{
    for (uint32_t i = 0; i < m->n_rot / 2; i++) {
        double sine, cosine;
        nm_sincos64((double)pos * freq[i], &sine, &cosine);
        table[2 * i] = (float)(cosine * m->rope.magnitude);
        table[2 * i + 1] = (float)(sine * m->rope.magnitude);
    }
}

void rope_apply(const struct model *m, const struct vec_ops *vec, float *x,
                uint32_t n_head, const float *table)
{
    for (uint32_t h = 0; h < n_head; h++, x += m->head_dim) {
        if (m->rope.halves)
            vec->rope_halves(x, table, m->n_rot / 2);
        else
            vec->rope_pairs(x, table, m->n_rot / 2);
    }
}

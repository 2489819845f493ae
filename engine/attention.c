#include "engine/attention.h"

#include <math.h>
#include <string.h>

#define PARTIAL       256 /* positions of a partial: NUMERICS 8 */
#define HEADS_AT_ONCE 32  /* query heads whose state fits the scratch */

/* Softmax state of one query head. */
struct state {
    float m, l;
    float o[MODEL_HEAD_DIM_MAX];
};
_Static_assert(2 * HEADS_AT_ONCE * sizeof(struct state) <= KERNEL_SCRATCH,
               "partial and total of each head fit the scratch");

struct attention {
    const struct shard *s;
    const struct attention_row *rows;
    const float *q;
    float *out;
    char *scratch;
    uint32_t kv_layer, window;
    size_t row_bytes; /* of one position of one head in the cache */
};

static void state_clear(struct state *st, uint32_t dim)
{
    st->m = -INFINITY;
    st->l = 0;
    memset(st->o, 0, dim * sizeof *st->o);
}

/* Queries as the keys' type wants them. */
union query {
    const float *f32;
    const struct act_q8_0 *q8_0;
};

/* w[t] = q . k_t of up to 32 positions. */
static void dot_keys(const struct attention *a, float *w, union query q,
                     const void *k, uint32_t n)
{
    const struct vec_ops *vec = a->s->vec;
    const uint32_t dim = a->s->model.head_dim;
    if (a->s->options.kv_type == KV_Q8_0)
        vec->dot_rows_q8_0(w, q.q8_0, k, dim / 32, n, dim);
    else if (a->s->options.kv_type == KV_F16)
        vec->dot_rows_f16(w, q.f32, k, dim, n, dim);
    else
        vec->dot_rows_f32(w, q.f32, k, dim, n, dim);
}

/* o = o + w[t] * v_t of as many. */
static void add_values(const struct attention *a, float *o, const float *w,
                       const void *v, uint32_t n)
{
    const struct vec_ops *vec = a->s->vec;
    const uint32_t dim = a->s->model.head_dim;
    if (a->s->options.kv_type == KV_Q8_0)
        vec->axpy_rows_q8_0(o, w, v, dim / 32, n, dim);
    else if (a->s->options.kv_type == KV_F16)
        vec->axpy_rows_f16(o, w, v, dim, n, dim);
    else
        vec->axpy_rows_f32(o, w, v, dim, n, dim);
}

/* Take up to 32 positions into a partial. */
static void state_add(const struct attention *a, struct state *st,
                      union query q, const void *k, const void *v, uint32_t n)
{
    const struct vec_ops *vec = a->s->vec;
    const uint32_t dim = a->s->model.head_dim;
    float w[KV_PAGE];
    dot_keys(a, w, q, k, n);
    vec->scale(w, a->s->model.query_scale, n);
    if (a->s->model.attn_softcap > 0) {
        vec->soft_cap(w, a->s->model.attn_softcap, n);
    }
    float m = st->m;
    for (uint32_t t = 0; t < n; t++) m = w[t] > m ? w[t] : m;
    vec->exp_row(w, w, m, n);
    if (m != st->m) {
        const float c = nm_exp(st->m - m);
        st->l *= c;
        vec->scale(st->o, c, dim);
        st->m = m;
    }
    for (uint32_t t = 0; t < n; t++) st->l += w[t];
    add_values(a, st->o, w, v, n);
}

static void state_merge(struct state *total, const struct state *part,
                        uint32_t dim)
{
    const float m = total->m > part->m ? total->m : part->m;
    const float c1 = nm_exp(total->m - m), c2 = nm_exp(part->m - m);
    total->m = m;
    total->l = (total->l * c1) + (part->l * c2);
    for (uint32_t d = 0; d < dim; d++) {
        total->o[d] = (total->o[d] * c1) + (part->o[d] * c2);
    }
}

static uint32_t first_seen(const struct attention *a, uint32_t pos)
{
    return a->window != 0 && pos >= a->window ? pos - a->window + 1 : 0;
}

/* Query heads [first, first + n) of one row, all of one key/value head. */
static void attend(const struct attention *a, const struct attention_row *row,
                   uint32_t kv_head, const float *q, float *out, uint32_t n,
                   struct state *total)
{
    const uint32_t dim = a->s->model.head_dim;
    struct state *part = total + HEADS_AT_ONCE;
    struct act_q8_0 blocks[HEADS_AT_ONCE][MODEL_HEAD_DIM_MAX / 32];
    union query query[HEADS_AT_ONCE];
    for (uint32_t h = 0; h < n; h++) {
        query[h].f32 = q + (size_t)h * dim;
        if (a->s->options.kv_type != KV_Q8_0) continue;
        a->s->vec->act_quantize(ACT_Q8_0, query[h].f32, dim, blocks[h]);
        query[h].q8_0 = blocks[h];
    }
    const uint32_t first = first_seen(a, row->pos);
    /* positions of this partial and of the first one, which is the total */
    const uint32_t first_end = first - first % PARTIAL + PARTIAL;
    uint32_t end = 0;
    for (uint32_t at = first; at <= row->pos; at = end) {
        end = at - at % KV_PAGE + KV_PAGE;
        if (end > row->pos) end = row->pos + 1;
        const size_t skip = at % KV_PAGE * a->row_bytes;
        const char *k = kv_k(a->s->kv, row->handle, a->kv_layer, kv_head, at);
        const char *v = kv_v(a->s->kv, row->handle, a->kv_layer, kv_head, at);
        struct state *to = at < first_end ? total : part;
        for (uint32_t h = 0; h < n; h++) {
            if (at == first || at % PARTIAL == 0) {
                if (at > first_end) state_merge(&total[h], &part[h], dim);
                state_clear(&to[h], dim);
            }
            state_add(a, &to[h], query[h], k + skip, v + skip, end - at);
        }
    }
    for (uint32_t h = 0; h < n; h++) {
        if (row->pos >= first_end) state_merge(&total[h], &part[h], dim);
        const float inverse = 1.0f / total[h].l;
        for (uint32_t d = 0; d < dim; d++) {
            out[(size_t)h * dim + d] = total[h].o[d] * inverse;
        }
    }
}

static void attention_item(void *arg, uint32_t item, uint32_t thread)
{
    const struct attention *a = arg;
    const struct model *m = &a->s->model;
    const uint32_t row = item / m->n_head_kv, kv_head = item % m->n_head_kv;
    const uint32_t group = m->n_head / m->n_head_kv;
    const size_t at =
        ((size_t)row * m->n_head + (size_t)kv_head * group) * m->head_dim;
    if (a->rows[row].handle == UINT32_MAX) {
        memset(a->out + at, 0, (size_t)group * m->head_dim * sizeof *a->out);
        return;
    }
    struct state *scratch =
        (struct state *)(void *)(a->scratch + thread * (size_t)KERNEL_SCRATCH);
    for (uint32_t h = 0; h < group; h += HEADS_AT_ONCE) {
        const uint32_t n =
            group - h < HEADS_AT_ONCE ? group - h : HEADS_AT_ONCE;
        const size_t from = at + (size_t)h * m->head_dim;
        attend(a, &a->rows[row], kv_head, a->q + from, a->out + from, n,
               scratch);
    }
}

void attention_run(const struct shard *s, uint32_t kv_layer, uint32_t window,
                   const struct attention_row *rows, uint32_t n_rows,
                   const float *q, float *out, void *scratch)
{
    struct attention a = {
        .s = s,
        .rows = rows,
        .q = q,
        .out = out,
        .scratch = scratch,
        .kv_layer = kv_layer,
        .window = window,
        .row_bytes = kv_row_bytes(s->options.kv_type, s->model.head_dim),
    };
    pool_run(s->pool, attention_item, &a, n_rows * s->model.n_head_kv);
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

void rope_apply(const struct model *m, float *x, uint32_t n_head,
                const float *table)
{
    const uint32_t pairs = m->n_rot / 2;
    const uint32_t next = m->rope.halves ? 1 : 2;    /* pair's first element */
    const uint32_t far = m->rope.halves ? pairs : 1; /* from it to its other */
    for (uint32_t h = 0; h < n_head; h++, x += m->head_dim) {
        for (uint32_t i = 0; i < pairs; i++) {
            float *at = x + (size_t)i * next;
            const float a = at[0], b = at[far];
            const float c = table[2 * i], s = table[2 * i + 1];
            at[0] = (a * c) - (b * s);
            at[far] = (a * s) + (b * c);
        }
    }
}

/* step_layers.c - the operations of a step, over all of its rows. */
#include <string.h>

#include "engine/moe.h"
#include "engine/step_internal.h"

/* --------------------------------------------------- building blocks */

static void add_bias(const struct step *st, float *x, const float *bias,
                     uint32_t width)
{
    if (bias) st->s->vec->add(x, bias, width);
}

/* Which kinds of activations some matrices take: bits. */
static unsigned kinds_of(const struct matrix *const m[], uint32_t n)
{
    unsigned kinds = 0;
    for (uint32_t i = 0; i < n; i++) kinds |= 1u << m[i]->kernel->act;
    return kinds;
}

static void quantize_row(const struct step *st, unsigned kinds, const float *x,
                         uint32_t width, uint32_t r)
{
    for (unsigned kind = 0; kind < ACT_KIND_END; kind++) {
        if (!(kinds & 1u << kind)) continue;
        st->s->vec->act_quantize((enum act_kind)kind, x, width,
                                 st->act[kind] + r * st->act_stride[kind]);
    }
}

struct rows_job {
    struct step *st;
    const float *in, *weight;
    float *const *bias; /* of the layer, NULL: none */
    uint32_t width;
    unsigned kinds;
};

static void quantize_item(void *arg, uint32_t r, uint32_t thread)
{
    (void)thread;
    const struct rows_job *j = arg;
    quantize_row(j->st, j->kinds, j->in + (size_t)r * j->width, j->width, r);
}

static void quantize_rows(struct step *st, const float *x, uint32_t width,
                          unsigned kinds, uint32_t n_rows)
{
    struct rows_job j = {.st = st, .in = x, .width = width, .kinds = kinds};
    pool_run(st->s->pool, quantize_item, &j, n_rows);
}

/* x = x + branch, the branch biased and normed first where the model wants
 * that. */
static void add_branch(const struct step *st, uint32_t r)
{
    const struct shard *s = st->s;
    const uint32_t width = s->model.n_embd;
    float *y = st->normed + (size_t)r * width;
    if (!st->branch.there) return;
    add_bias(st, y, st->branch.bias, width);
    if (st->branch.norm) {
        s->vec->rmsnorm(y, st->branch.norm, s->model.rms_eps, width, y);
    }
    s->vec->add(st->x + (size_t)r * width, y, width);
}

static void branch_item(void *arg, uint32_t r, uint32_t thread)
{
    (void)thread;
    add_branch(arg, r);
}

static void norm_item(void *arg, uint32_t r, uint32_t thread)
{
    (void)thread;
    const struct rows_job *j = arg;
    const struct step *st = j->st;
    const size_t at = (size_t)r * j->width;
    add_branch(st, r);
    st->s->vec->rmsnorm(st->x + at, j->weight, st->s->model.rms_eps, j->width,
                        st->normed + at);
    quantize_row(st, j->kinds, st->normed + at, j->width, r);
}

/* Adds what is to be added to x; norms it into `normed`, which is then ready
 * for matrices that take these kinds. */
static void norm_rows(struct step *st, const float *weight, unsigned kinds)
{
    struct rows_job j = {.st = st,
                         .weight = weight,
                         .width = st->s->model.n_embd,
                         .kinds = kinds};
    pool_run(st->s->pool, norm_item, &j, st->n_rows);
    st->branch.there = false;
}

/* y_i = m_i x for matrices whose input [n_rows] is quantized already. */
static void multiply(struct step *st, const struct matrix *const m[],
                     float *const y[], uint32_t n, uint32_t n_rows)
{
    struct matrix_product products[MATRIX_PRODUCTS_MAX];
    for (uint32_t i = 0; i < n; i++) {
        const enum act_kind kind = m[i]->kernel->act;
        products[i] = (struct matrix_product){
            .m = m[i],
            .act = st->act[kind],
            .act_stride = st->act_stride[kind],
            .y = y[i],
            .y_stride = m[i]->n_rows,
        };
    }
    matrix_mul(st->s->pool, st->scratch, products, n, n_rows);
}

static void activate_item(void *arg, uint32_t r, uint32_t thread)
{
    (void)thread;
    const struct rows_job *j = arg;
    const struct shard *s = j->st->s;
    float *gate = j->st->gate + (size_t)r * j->width;
    float *up = j->st->up + (size_t)r * j->width;
    if (j->bias) {
        add_bias(j->st, gate, j->bias[VEC_GATE_BIAS], j->width);
        add_bias(j->st, up, j->bias[VEC_UP_BIAS], j->width);
    }
    if (s->model.activation == ACTIVATION_GELU)
        s->vec->gelu_mul(gate, gate, up, j->width);
    else
        s->vec->silu_mul(gate, gate, up, j->width);
    quantize_row(j->st, j->kinds, gate, j->width, r);
}

/* y = down (act(gate x) * up x) of x that is quantized already, row by row,
 * without the bias of down.  bias: a layer's vectors, or NULL for an expert. */
static void feed_forward(struct step *st, const struct matrix *gate,
                         const struct matrix *up, const struct matrix *down,
                         float *const *bias, float *y, uint32_t n_rows)
{
    const struct matrix *const first[] = {gate, up};
    float *const to[] = {st->gate, st->up};
    multiply(st, first, to, 2, n_rows);
    const struct matrix *const second[] = {down};
    struct rows_job j = {.st = st,
                         .width = gate->n_rows,
                         .bias = bias,
                         .kinds = kinds_of(second, 1)};
    pool_run(st->s->pool, activate_item, &j, n_rows);
    float *const out[] = {y};
    multiply(st, second, out, 1, n_rows);
}

void step_one_expert(struct step *st, const struct shard_expert *e,
                     const float *x, float *y, uint32_t n_rows)
{
    const struct matrix *const first[] = {&e->gate, &e->up};
    quantize_rows(st, x, e->gate.k, kinds_of(first, 2), n_rows);
    feed_forward(st, &e->gate, &e->up, &e->down, NULL, y, n_rows);
}

/* `normed` is to be added to x. */
static void leave_branch(struct step *st, const float *bias, const float *norm)
{
    st->branch = (struct branch){true, bias, norm};
}

/* -------------------------------------------------------- operations */

static void embed_item(void *arg, uint32_t r, uint32_t thread)
{
    (void)thread;
    const struct step *st = arg;
    const struct shard *s = st->s;
    const struct matrix *m = s->embed.kernel ? &s->embed : &s->head;
    const uint32_t width = s->model.n_embd;
    float *x = st->x + (size_t)r * width;
    matrix_row(m, (uint32_t)st->rows[r].token, x);
    if (s->model.embed_scale != 1.0f) {
        s->vec->scale(x, x, s->model.embed_scale, width);
    }
}

void step_embed(struct step *st)
{
    pool_run(st->s->pool, embed_item, st, st->n_rows);
}

/* Another step may have freed or shortened a sequence since: its rows are
 * computed no further, and above all they store nothing. */
static void find_sequences(struct step *st)
{
    const struct kv *kv = st->s->kv;
    for (uint32_t r = 0; r < st->n_rows; r++) {
        const struct step_row *row = &st->rows[r];
        const bool there = row->pos < kv_length(kv, row->seq);
        st->attention[r] = (struct attention_row){
            there ? kv_find(kv, row->seq) : UINT32_MAX, row->pos};
    }
}

/* norm NULL: none. */
static void norm_heads(const struct shard *s, float *x, uint32_t n_head,
                       const float *norm)
{
    const struct model *m = &s->model;
    for (uint32_t h = 0; norm && h < n_head; h++, x += m->head_dim) {
        s->vec->rmsnorm(x, norm, m->rms_eps, m->head_dim, x);
    }
}

struct heads_job {
    struct step *st;
    const struct shard_layer *l;
};

/* From products to what attention takes: biases, norms, RoPE; keys and values
 * to the cache. */
static void heads_item(void *arg, uint32_t r, uint32_t thread)
{
    (void)thread;
    const struct heads_job *j = arg;
    const struct step *st = j->st;
    const struct shard *s = st->s;
    const struct model *m = &s->model;
    float *const *vec = j->l->vec;
    const uint32_t n_q = m->n_head * m->head_dim;
    const uint32_t n_kv = m->n_head_kv * m->head_dim;
    const float *table = st->rope + (size_t)r * m->n_rot;
    float *q = st->q + (size_t)r * n_q, *k = st->k + (size_t)r * n_kv;
    float *v = st->v + (size_t)r * n_kv;
    add_bias(st, q, vec[VEC_Q_BIAS], n_q);
    add_bias(st, k, vec[VEC_K_BIAS], n_kv);
    add_bias(st, v, vec[VEC_V_BIAS], n_kv);
    norm_heads(s, q, m->n_head, vec[VEC_Q_NORM]);
    norm_heads(s, k, m->n_head_kv, vec[VEC_K_NORM]);
    rope_apply(m, s->vec, q, m->n_head, table);
    rope_apply(m, s->vec, k, m->n_head_kv, table);
    if (st->attention[r].handle == UINT32_MAX) return;
    kv_store(s->kv, s->vec, st->attention[r].handle, j->l->kv_layer,
             st->attention[r].pos, k, v);
}

void step_attention(struct step *st, const struct shard_layer *l)
{
    struct shard *s = st->s;
    const struct model *m = &s->model;
    find_sequences(st);
    const struct matrix *const qkv[] = {&l->q, &l->k, &l->v};
    float *const to[] = {st->q, st->k, st->v};
    norm_rows(st, l->vec[VEC_ATTN_NORM], kinds_of(qkv, 3));
    multiply(st, qkv, to, 3, st->n_rows);
    struct heads_job j = {st, l};
    pool_run(s->pool, heads_item, &j, st->n_rows);
    const struct attention_job attention = {
        .kv_layer = l->kv_layer,
        .window = l->window,
        .rows = st->attention,
        .n_rows = st->n_rows,
        .q = st->q,
        .out = st->mixed,
        .scratch = st->scratch,
        .space = st->attention_space,
    };
    attention_run(s, &attention);
    const struct matrix *const o[] = {&l->o};
    float *const out[] = {st->normed};
    quantize_rows(st, st->mixed, m->n_head * m->head_dim, kinds_of(o, 1),
                  st->n_rows);
    multiply(st, o, out, 1, st->n_rows);
    leave_branch(st, l->vec[VEC_O_BIAS], l->vec[VEC_ATTN_POST_NORM]);
}

void step_add_branch(struct step *st)
{
    pool_run(st->s->pool, branch_item, st, st->n_rows);
    st->branch.there = false;
}

void step_dense(struct step *st, const struct shard_layer *l)
{
    const struct matrix *const first[] = {&l->gate, &l->up};
    norm_rows(st, l->vec[VEC_FFN_NORM], kinds_of(first, 2));
    feed_forward(st, &l->gate, &l->up, &l->down, l->vec, st->normed,
                 st->n_rows);
    leave_branch(st, l->vec[VEC_DOWN_BIAS], l->vec[VEC_FFN_POST_NORM]);
}

/* ------------------------------------------------------------ experts */

static void gather_item(void *arg, uint32_t r, uint32_t thread)
{
    (void)thread;
    const struct step *st = arg;
    const size_t width = st->s->model.n_embd;
    const uint32_t used = st->s->model.n_expert_used;
    for (uint32_t i = r * used; i < (r + 1) * used; i++) {
        memcpy(st->gathered + st->slot[i] * width, st->normed + r * width,
               width * sizeof *st->gathered);
    }
}

/* Sort the rows by expert and copy them together; name the experts that are
 * elsewhere. */
static void gather(struct step *st)
{
    const struct shard *s = st->s;
    const uint32_t used = s->model.n_expert_used, width = s->model.n_embd;
    uint32_t n = 0;
    st->n_groups = st->n_parts = 0;
    for (uint32_t e = 0; e < s->model.n_expert; e++) {
        const uint32_t first = n;
        for (uint32_t i = 0; i < st->n_rows * used; i++) {
            if (st->chosen[i] == e) st->slot[i] = n++;
        }
        if (n == first) continue;
        st->groups[st->n_groups++] = (struct group){e, first, n - first};
        if (shard_has_expert(s, st->layer, e)) continue;
        st->parts[st->n_parts++] = (struct step_part){
            .layer = st->layer,
            .expert = e,
            .n_rows = n - first,
            .x = st->gathered + (size_t)first * width,
            .y = st->expert_out + (size_t)first * width,
        };
    }
    pool_run(s->pool, gather_item, st, st->n_rows);
}

void step_route(struct step *st, const struct shard_layer *l)
{
    const struct model *m = &st->s->model;
    const struct matrix *const router[] = {&l->router};
    float *const to[] = {st->router};
    norm_rows(st, l->vec[VEC_FFN_NORM], kinds_of(router, 1));
    multiply(st, router, to, 1, st->n_rows);
    for (uint32_t r = 0; r < st->n_rows; r++) {
        moe_select(st->router + (size_t)r * m->n_expert, m->n_expert,
                   m->n_expert_used, m->expert_norm,
                   st->chosen + (size_t)r * m->n_expert_used,
                   st->weight + (size_t)r * m->n_expert_used);
    }
    gather(st);
}

void step_local_experts(struct step *st)
{
    const struct shard *s = st->s;
    const size_t width = s->model.n_embd;
    for (uint32_t i = 0; i < st->n_groups; i++) {
        const struct group *g = &st->groups[i];
        if (!shard_has_expert(s, st->layer, g->expert)) continue;
        const struct shard_expert *e = &s->layers[st->layer].experts[g->expert];
        step_one_expert(st, e, st->gathered + g->first * width,
                        st->expert_out + g->first * width, g->n);
        st->expert_bytes +=
            matrix_size(&e->gate) + matrix_size(&e->up) + matrix_size(&e->down);
    }
}

uint64_t step_expert_bytes(const struct step *st)
{
    return st->expert_bytes;
}

/* y = (w_a E_a + w_b E_b) + ..., ascending experts. */
static void combine_item(void *arg, uint32_t r, uint32_t thread)
{
    (void)thread;
    const struct step *st = arg;
    const struct vec_ops *vec = st->s->vec;
    const uint32_t used = st->s->model.n_expert_used;
    const uint32_t width = st->s->model.n_embd;
    float *to = st->normed + (size_t)r * width;
    for (uint32_t i = 0; i < used; i++) {
        const float w = st->weight[r * used + i];
        const float *y =
            st->expert_out + st->slot[r * used + i] * (size_t)width;
        if (i == 0)
            vec->scale(to, y, w, width);
        else
            vec->merge(to, y, 1, w, width);
    }
}

void step_combine(struct step *st, const struct shard_layer *l)
{
    pool_run(st->s->pool, combine_item, st, st->n_rows);
    leave_branch(st, NULL, l->vec[VEC_FFN_POST_NORM]);
}

/* --------------------------------------------------------------- head */

#define LOGITS_AT_ONCE 8192 /* of a row, for one thread */

struct cap_job {
    struct step *st;
    uint32_t parts; /* of a row */
};

static void cap_item(void *arg, uint32_t item, uint32_t thread)
{
    (void)thread;
    const struct cap_job *j = arg;
    const struct shard *s = j->st->s;
    const uint32_t at = item % j->parts * LOGITS_AT_ONCE;
    const uint32_t left = s->head.n_rows - at;
    s->vec->soft_cap(step_logits(j->st, item / j->parts) + at,
                     s->model.final_softcap,
                     left < LOGITS_AT_ONCE ? left : LOGITS_AT_ONCE);
}

static void cap_logits(struct step *st, uint32_t n)
{
    struct cap_job j = {st, (st->s->head.n_rows - 1) / LOGITS_AT_ONCE + 1};
    if (st->s->model.final_softcap > 0) {
        pool_run(st->s->pool, cap_item, &j, n * j.parts);
    }
}

void step_head(struct step *st)
{
    const struct shard *s = st->s;
    const uint32_t width = s->model.n_embd;
    const struct matrix *const head[] = {&s->head};
    float *const to[] = {st->logits};
    uint32_t n = 0;
    for (uint32_t r = 0; r < st->n_rows; r++) {
        if (!st->rows[r].want) continue;
        s->vec->rmsnorm(st->x + (size_t)r * width, s->output_norm,
                        s->model.rms_eps, width,
                        st->normed + (size_t)n++ * width);
    }
    if (n == 0) return;
    quantize_rows(st, st->normed, width, kinds_of(head, 1), n);
    multiply(st, head, to, 1, n);
    cap_logits(st, n);
}

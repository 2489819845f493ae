#include "engine/step.h"

#include <assert.h>
#include <string.h>

#include "engine/attention.h"
#include "engine/moe.h"

enum phase {
    PHASE_IDLE,
    PHASE_EMBED,
    PHASE_ATTENTION,
    PHASE_FFN,
    PHASE_EXPERTS, /* the local ones */
    PHASE_COMBINE, /* when all parts are there */
    PHASE_HEAD,
};

/* Rows of one expert in the gathered arrays. */
struct group {
    uint32_t expert, first, n;
};

struct step {
    struct shard *s;
    char *slab;
    /* the input */
    struct step_row *rows;           /* [rows_max] */
    struct attention_row *attention; /* [rows_max] */
    uint32_t n_rows, n_want;
    bool head;
    uint32_t layer, layer_end;
    enum phase phase;
    /* activations */
    float *x;      /* [rows][n_embd]: the residual stream */
    float *normed; /* [rows][n_embd] */
    float *q;      /* [rows][n_head * head_dim], then the attention's output */
    float *mixed;  /* [rows][n_head * head_dim] */
    float *k, *v;  /* [rows][n_head_kv * head_dim] */
    float *gate, *up;                /* [rows][n_ff] */
    float *rope;                     /* [rows][n_rot] */
    float *logits;                   /* [outputs][n_vocab] */
    char *act[ACT_KIND_END];         /* [rows][act_stride[kind]] */
    size_t act_stride[ACT_KIND_END]; /* of the widest k */
    char *scratch;                   /* [threads][KERNEL_SCRATCH] */
    /* mixture of experts */
    float *router;    /* [rows][n_expert] */
    uint32_t *chosen; /* [rows][n_expert_used], ascending */
    uint32_t *slot;   /* [rows][n_expert_used]: row in the gathered arrays */
    float *weight;    /* [rows][n_expert_used] */
    float *gathered, *expert_out; /* [rows * n_expert_used][n_embd] */
    struct group *groups;         /* [n_expert] */
    struct step_part *parts;      /* [n_expert] */
    uint32_t n_groups, n_parts;
    uint64_t expert_bytes; /* of all steps so far */
};

/* ------------------------------------------------------------ memory */

static uint32_t max3(uint32_t a, uint32_t b, uint32_t c)
{
    const uint32_t ab = a > b ? a : b;
    return ab > c ? ab : c;
}

/* Lay the arrays out one after the other from `base` on (NULL: only count);
 * returns the bytes. */
static uint64_t lay_out(struct step *st, const struct model *m,
                        const struct shard_options *o, char *base)
{
    uint64_t at = 0;
    const uint64_t rows = o->rows_max;
    const uint64_t used = m->n_expert_used;
    const uint64_t n_q = (uint64_t)m->n_head * m->head_dim;
    const uint64_t n_kv = (uint64_t)m->n_head_kv * m->head_dim;
#define PLACE(field, count)                                                    \
    do {                                                                       \
        st->field = (void *)(base ? base + at : NULL);                         \
        at += ((count) * sizeof *st->field + 63) / 64 * 64;                    \
    } while (0)
    PLACE(rows, rows);
    PLACE(attention, rows);
    PLACE(x, rows * m->n_embd);
    PLACE(normed, rows * m->n_embd);
    PLACE(q, rows * n_q);
    PLACE(mixed, rows * n_q);
    PLACE(k, rows * n_kv);
    PLACE(v, rows * n_kv);
    PLACE(gate, rows * m->n_ff);
    PLACE(up, rows * m->n_ff);
    PLACE(rope, rows * m->n_rot);
    PLACE(logits, (uint64_t)o->outputs_max * m->n_vocab);
    const uint32_t k = max3(m->n_embd, m->n_ff, (uint32_t)n_q);
    for (int kind = 0; kind < ACT_KIND_END; kind++) {
        st->act_stride[kind] = act_row_bytes((enum act_kind)kind, k);
        PLACE(act[kind], rows * st->act_stride[kind]);
    }
    PLACE(scratch, (uint64_t)o->n_threads * KERNEL_SCRATCH);
    PLACE(router, rows * m->n_expert);
    PLACE(chosen, rows * used);
    PLACE(slot, rows * used);
    PLACE(weight, rows * used);
    PLACE(gathered, rows * used * m->n_embd);
    PLACE(expert_out, rows * used * m->n_embd);
    PLACE(groups, (uint64_t)m->n_expert);
    PLACE(parts, (uint64_t)m->n_expert);
#undef PLACE
    return at;
}

uint64_t step_bytes(const struct model *m, const struct shard_options *o)
{
    struct step st;
    return lay_out(&st, m, o, NULL) + sizeof st;
}

enum status step_create(struct step **out, struct shard *s, struct error *err)
{
    struct step *st = mem_zalloc(sizeof *st);
    if (!st) return error_set(err, ST_NO_MEMORY, "step");
    const uint64_t bytes = lay_out(st, &s->model, &s->options, NULL);
    st->slab = mem_alloc((size_t)bytes);
    if (!st->slab) {
        mem_free(st);
        return error_set(err, ST_NO_MEMORY,
                         "scratch of a step of %u rows: %llu bytes",
                         s->options.rows_max, (unsigned long long)bytes);
    }
    lay_out(st, &s->model, &s->options, st->slab);
    st->s = s;
    *out = st;
    return ST_OK;
}

void step_free(struct step *st)
{
    if (!st) return;
    mem_free(st->slab);
    mem_free(st);
}

/* ------------------------------------------------------------- begin */

static enum status check_input(const struct step *st,
                               const struct step_input *in, struct error *err)
{
    const struct shard *s = st->s;
    uint32_t n_want = 0;
    if ((in->n_rows < 1 && in->n_ops == 0) ||
        in->n_rows > s->options.rows_max) {
        return error_set(err, ST_INVALID, "a step of %u rows: 1 to %u fit",
                         in->n_rows, s->options.rows_max);
    }
    if (in->layer_first > in->layer_end || in->layer_end > s->model.n_layer) {
        return error_set(err, ST_INVALID, "layers %u to %u of %u",
                         in->layer_first, in->layer_end, s->model.n_layer);
    }
    for (uint32_t l = in->layer_first; l < in->layer_end; l++) {
        if (!s->layers[l].block) {
            return error_set(err, ST_INVALID, "layer %u is not on this shard",
                             l);
        }
    }
    if ((in->embed && !s->has_embed) || (in->head && !s->head.kernel) ||
        (!in->embed && !in->x && in->n_rows != 0)) {
        return error_set(err, ST_INVALID,
                         "embedding, head or input rows are not here");
    }
    for (uint32_t r = 0; r < in->n_rows; r++) {
        const struct step_row *row = &in->rows[r];
        n_want += row->want;
        if (in->embed &&
            (row->token < 0 || (uint32_t)row->token >= s->model.n_vocab)) {
            return error_set(err, ST_INVALID,
                             "token %d is not in the vocabulary of %u",
                             row->token, s->model.n_vocab);
        }
        if (row->pos >= s->options.n_ctx) {
            return error_set(err, ST_INVALID,
                             "position %u is beyond the context of %u",
                             row->pos, s->options.n_ctx);
        }
    }
    if (in->head && n_want > s->options.outputs_max) {
        return error_set(err, ST_INVALID, "%u rows want logits: %u fit", n_want,
                         s->options.outputs_max);
    }
    return ST_OK;
}

/* Room in the cache for every row, or for none. */
static enum status extend_all(struct kv *kv, const struct step_input *in,
                              struct error *err)
{
    for (uint32_t r = 0; r < in->n_rows; r++) {
        const struct step_row *row = &in->rows[r];
        const enum status st = kv_extend(kv, row->seq, row->pos, 1, err);
        if (st == ST_OK) continue;
        while (r-- > 0) kv_retract(kv, in->rows[r].seq, in->rows[r].pos);
        return st;
    }
    return ST_OK;
}

static enum status begin_kv(struct step *st, const struct step_input *in,
                            struct error *err)
{
    struct kv *kv = st->s->kv;
    for (uint32_t i = 0; kv && !in->again && i < in->n_ops; i++) {
        const enum status s = kv_apply(kv, &in->ops[i], err);
        if (s != ST_OK) return s;
    }
    if (!kv) return ST_OK;
    if (!in->again) {
        const enum status s = extend_all(kv, in, err);
        if (s != ST_OK) return s;
    }
    for (uint32_t r = 0; in->again && r < in->n_rows; r++) {
        const struct step_row *row = &in->rows[r];
        if (row->pos >= kv_length(kv, row->seq)) {
            return error_set(err, ST_INVALID,
                             "position %u of sequence %llu is not in the cache",
                             row->pos, (unsigned long long)row->seq);
        }
    }
#ifdef POTLUCK_DEBUG
    assert(kv_check(kv));
#endif
    return ST_OK;
}

static enum phase after_layers(const struct step *st)
{
    return st->head ? PHASE_HEAD : PHASE_IDLE;
}

enum status step_begin(struct step *st, const struct step_input *in,
                       struct error *err)
{
    const struct shard *s = st->s;
    assert(st->phase == PHASE_IDLE);
    enum status status = check_input(st, in, err);
    if (status == ST_OK) status = begin_kv(st, in, err);
    if (status != ST_OK) return status;
    st->n_rows = in->n_rows;
    st->n_want = 0;
    if (in->n_rows == 0) return ST_OK; /* the operations were all */
    memcpy(st->rows, in->rows, in->n_rows * sizeof *st->rows);
    for (uint32_t r = 0; r < in->n_rows; r++) st->n_want += in->rows[r].want;
    if (!in->embed) {
        /* which may be this step's own step_x */
        memmove(st->x, in->x,
                (size_t)in->n_rows * s->model.n_embd * sizeof *st->x);
    }
    st->head = in->head;
    st->layer = in->layer_first;
    st->layer_end = in->layer_end;
    if (in->embed)
        st->phase = PHASE_EMBED;
    else if (st->layer < st->layer_end)
        st->phase = PHASE_ATTENTION;
    else
        st->phase = after_layers(st);
    const uint32_t n_rot = s->model.n_rot;
    for (uint32_t r = 0; st->layer < st->layer_end && r < in->n_rows; r++) {
        rope_table(&s->model, s->rope_freq, in->rows[r].pos,
                   st->rope + (size_t)r * n_rot);
    }
    return ST_OK;
}

/* --------------------------------------------------- building blocks */

struct rows_job {
    struct step *st;
    const float *in, *weight;
    float *out;
    uint32_t width;
    enum act_kind kind;
};

static void norm_item(void *arg, uint32_t r, uint32_t thread)
{
    (void)thread;
    const struct rows_job *j = arg;
    const size_t at = (size_t)r * j->width;
    nm_rmsnorm(j->in + at, j->weight, j->st->s->model.rms_eps, j->width,
               j->out + at);
}

static void norm_rows(struct step *st, const float *in, const float *weight,
                      float *out, uint32_t n_rows)
{
    struct rows_job j = {.st = st,
                         .in = in,
                         .weight = weight,
                         .out = out,
                         .width = st->s->model.n_embd};
    pool_run(st->s->pool, norm_item, &j, n_rows);
}

static void quantize_item(void *arg, uint32_t r, uint32_t thread)
{
    (void)thread;
    const struct rows_job *j = arg;
    j->st->s->vec->act_quantize(j->kind, j->in + (size_t)r * j->width, j->width,
                                j->st->act[j->kind] +
                                    r * j->st->act_stride[j->kind]);
}

/* y_i = m_i x for matrices that share their input [n_rows][k]. */
static void multiply(struct step *st, const float *x,
                     const struct matrix *const m[], float *const y[],
                     uint32_t n, uint32_t n_rows)
{
    bool ready[ACT_KIND_END] = {false};
    struct matrix_product products[MATRIX_PRODUCTS_MAX];
    for (uint32_t i = 0; i < n; i++) {
        const enum act_kind kind = m[i]->kernel->act;
        if (!ready[kind]) {
            struct rows_job j = {
                .st = st, .in = x, .width = m[i]->k, .kind = kind};
            pool_run(st->s->pool, quantize_item, &j, n_rows);
            ready[kind] = true;
        }
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

static void add_rows(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] += y[i];
}

/* bias NULL: none. */
static void add_bias(float *x, const float *bias, uint32_t width,
                     uint32_t n_rows)
{
    for (uint32_t r = 0; bias && r < n_rows; r++) {
        add_rows(x + (size_t)r * width, bias, width);
    }
}

static void activate_item(void *arg, uint32_t r, uint32_t thread)
{
    (void)thread;
    const struct rows_job *j = arg;
    const struct shard *s = j->st->s;
    float *gate = j->st->gate + (size_t)r * j->width;
    const float *up = j->st->up + (size_t)r * j->width;
    if (s->model.activation == ACTIVATION_GELU)
        s->vec->gelu_mul(gate, gate, up, j->width);
    else
        s->vec->silu_mul(gate, gate, up, j->width);
}

/* y = down (act(gate x) * up x), row by row; y may be x.  bias: a layer's
 * vectors, or NULL for an expert. */
static void feed_forward(struct step *st, const struct matrix *gate,
                         const struct matrix *up, const struct matrix *down,
                         float *const *bias, const float *x, float *y,
                         uint32_t n_rows)
{
    const struct matrix *const first[] = {gate, up};
    float *const to[] = {st->gate, st->up};
    multiply(st, x, first, to, 2, n_rows);
    if (bias) {
        add_bias(st->gate, bias[VEC_GATE_BIAS], gate->n_rows, n_rows);
        add_bias(st->up, bias[VEC_UP_BIAS], up->n_rows, n_rows);
    }
    struct rows_job j = {.st = st, .width = gate->n_rows};
    pool_run(st->s->pool, activate_item, &j, n_rows);
    const struct matrix *const second[] = {down};
    float *const out[] = {y};
    multiply(st, st->gate, second, out, 1, n_rows);
    if (bias) add_bias(y, bias[VEC_DOWN_BIAS], down->n_rows, n_rows);
}

/* x += y, y normed first where the model wants that. */
static void add_branch(struct step *st, float *y, const float *post_norm)
{
    if (post_norm) norm_rows(st, y, post_norm, y, st->n_rows);
    add_rows(st->x, y, (size_t)st->n_rows * st->s->model.n_embd);
}

/* -------------------------------------------------------- operations */

static void run_embed(struct step *st)
{
    const struct shard *s = st->s;
    const struct matrix *m = s->embed.kernel ? &s->embed : &s->head;
    const uint32_t width = s->model.n_embd;
    for (uint32_t r = 0; r < st->n_rows; r++) {
        float *x = st->x + (size_t)r * width;
        matrix_row(m, (uint32_t)st->rows[r].token, x);
        if (s->model.embed_scale != 1.0f) {
            s->vec->scale(x, s->model.embed_scale, width);
        }
    }
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
static void norm_heads(const struct model *m, float *x, uint32_t n_head,
                       const float *norm)
{
    for (uint32_t h = 0; norm && h < n_head; h++, x += m->head_dim) {
        nm_rmsnorm(x, norm, m->rms_eps, m->head_dim, x);
    }
}

struct heads_job {
    struct step *st;
    const struct shard_layer *l;
};

/* From products to what attention takes: biases, norms, RoPE. */
static void heads_item(void *arg, uint32_t r, uint32_t thread)
{
    (void)thread;
    const struct heads_job *j = arg;
    const struct step *st = j->st;
    const struct model *m = &st->s->model;
    float *const *vec = j->l->vec;
    const uint32_t n_q = m->n_head * m->head_dim;
    const uint32_t n_kv = m->n_head_kv * m->head_dim;
    const float *table = st->rope + (size_t)r * m->n_rot;
    float *q = st->q + (size_t)r * n_q, *k = st->k + (size_t)r * n_kv;
    add_bias(q, vec[VEC_Q_BIAS], n_q, 1);
    add_bias(k, vec[VEC_K_BIAS], n_kv, 1);
    add_bias(st->v + (size_t)r * n_kv, vec[VEC_V_BIAS], n_kv, 1);
    norm_heads(m, q, m->n_head, vec[VEC_Q_NORM]);
    norm_heads(m, k, m->n_head_kv, vec[VEC_K_NORM]);
    rope_apply(m, q, m->n_head, table);
    rope_apply(m, k, m->n_head_kv, table);
}

static void run_attention(struct step *st, const struct shard_layer *l)
{
    struct shard *s = st->s;
    const struct model *m = &s->model;
    const uint32_t n_kv = m->n_head_kv * m->head_dim;
    find_sequences(st);
    norm_rows(st, st->x, l->vec[VEC_ATTN_NORM], st->normed, st->n_rows);
    const struct matrix *const qkv[] = {&l->q, &l->k, &l->v};
    float *const to[] = {st->q, st->k, st->v};
    multiply(st, st->normed, qkv, to, 3, st->n_rows);
    struct heads_job j = {st, l};
    pool_run(s->pool, heads_item, &j, st->n_rows);
    for (uint32_t r = 0; r < st->n_rows; r++) {
        if (st->attention[r].handle == UINT32_MAX) continue;
        kv_store(s->kv, st->attention[r].handle, l->kv_layer,
                 st->attention[r].pos, st->k + (size_t)r * n_kv,
                 st->v + (size_t)r * n_kv);
    }
    attention_run(s, l->kv_layer, l->window, st->attention, st->n_rows, st->q,
                  st->mixed, st->scratch);
    const struct matrix *const o[] = {&l->o};
    float *const out[] = {st->normed};
    multiply(st, st->mixed, o, out, 1, st->n_rows);
    add_bias(st->normed, l->vec[VEC_O_BIAS], m->n_embd, st->n_rows);
    add_branch(st, st->normed, l->vec[VEC_ATTN_POST_NORM]);
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
            if (st->chosen[i] != e) continue;
            memcpy(st->gathered + (size_t)n * width,
                   st->normed + (size_t)(i / used) * width,
                   width * sizeof *st->gathered);
            st->slot[i] = n++;
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
}

static void route(struct step *st, const struct shard_layer *l)
{
    const struct model *m = &st->s->model;
    const struct matrix *const router[] = {&l->router};
    float *const to[] = {st->router};
    multiply(st, st->normed, router, to, 1, st->n_rows);
    for (uint32_t r = 0; r < st->n_rows; r++) {
        moe_select(st->router + (size_t)r * m->n_expert, m->n_expert,
                   m->n_expert_used, m->expert_norm,
                   st->chosen + (size_t)r * m->n_expert_used,
                   st->weight + (size_t)r * m->n_expert_used);
    }
    gather(st);
}

uint64_t step_expert_bytes(const struct step *st)
{
    return st->expert_bytes;
}

static void run_local_experts(struct step *st)
{
    const struct shard *s = st->s;
    const size_t width = s->model.n_embd;
    for (uint32_t i = 0; i < st->n_groups; i++) {
        const struct group *g = &st->groups[i];
        if (!shard_has_expert(s, st->layer, g->expert)) continue;
        const struct shard_expert *e = &s->layers[st->layer].experts[g->expert];
        feed_forward(st, &e->gate, &e->up, &e->down, NULL,
                     st->gathered + g->first * width,
                     st->expert_out + g->first * width, g->n);
        st->expert_bytes +=
            matrix_size(&e->gate) + matrix_size(&e->up) + matrix_size(&e->down);
    }
}

/* y = (w_a E_a + w_b E_b) + ..., ascending experts; then x = x + y. */
static void combine(struct step *st, const struct shard_layer *l)
{
    const struct model *m = &st->s->model;
    const uint32_t used = m->n_expert_used;
    for (uint32_t r = 0; r < st->n_rows; r++) {
        float *to = st->normed + (size_t)r * m->n_embd;
        const uint32_t *slot = st->slot + (size_t)r * used;
        const float *w = st->weight + (size_t)r * used;
        for (uint32_t d = 0; d < m->n_embd; d++) {
            float y = w[0] * st->expert_out[slot[0] * (size_t)m->n_embd + d];
            for (uint32_t i = 1; i < used; i++) {
                y += w[i] * st->expert_out[slot[i] * (size_t)m->n_embd + d];
            }
            to[d] = y;
        }
    }
    add_branch(st, st->normed, l->vec[VEC_FFN_POST_NORM]);
}

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

static void run_head(struct step *st)
{
    const struct shard *s = st->s;
    const uint32_t width = s->model.n_embd;
    uint32_t n = 0;
    for (uint32_t r = 0; r < st->n_rows; r++) {
        if (!st->rows[r].want) continue;
        nm_rmsnorm(st->x + (size_t)r * width, s->output_norm, s->model.rms_eps,
                   width, st->normed + (size_t)n++ * width);
    }
    if (n == 0) return;
    const struct matrix *const head[] = {&s->head};
    float *const to[] = {st->logits};
    multiply(st, st->normed, head, to, 1, n);
    cap_logits(st, n);
}

static void next_layer(struct step *st)
{
    st->layer++;
    st->phase = st->layer < st->layer_end ? PHASE_ATTENTION : after_layers(st);
}

static bool all_supplied(const struct step *st)
{
    for (uint32_t i = 0; i < st->n_parts; i++) {
        if (!st->parts[i].supplied) return false;
    }
    return true;
}

/* The feed-forward of a layer, up to where others are needed. */
static void run_ffn(struct step *st, const struct shard_layer *l)
{
    norm_rows(st, st->x, l->vec[VEC_FFN_NORM], st->normed, st->n_rows);
    if (st->s->model.n_expert != 0) {
        route(st, l);
        st->phase = PHASE_EXPERTS;
        return;
    }
    feed_forward(st, &l->gate, &l->up, &l->down, l->vec, st->normed, st->normed,
                 st->n_rows);
    add_branch(st, st->normed, l->vec[VEC_FFN_POST_NORM]);
    next_layer(st);
}

static enum step_state advance(struct step *st, uint32_t limit)
{
    while (st->phase != PHASE_IDLE) {
        const struct shard_layer *l = &st->s->layers[st->layer];
        switch (st->phase) {
        case PHASE_EMBED:
            run_embed(st);
            st->phase =
                st->layer < st->layer_end ? PHASE_ATTENTION : after_layers(st);
            break;
        case PHASE_ATTENTION:
            if (st->layer >= limit) return STEP_PAUSED;
            run_attention(st, l);
            st->phase = PHASE_FFN;
            break;
        case PHASE_FFN:
            run_ffn(st, l);
            if (st->phase == PHASE_EXPERTS && st->n_parts) return STEP_DISPATCH;
            break;
        case PHASE_EXPERTS:
            run_local_experts(st);
            st->phase = PHASE_COMBINE;
            break;
        case PHASE_COMBINE:
            if (!all_supplied(st)) return STEP_WAIT;
            st->n_parts = 0;
            combine(st, l);
            next_layer(st);
            break;
        case PHASE_HEAD:
            run_head(st);
            st->phase = PHASE_IDLE;
            break;
        case PHASE_IDLE:
            break;
        }
    }
    return STEP_DONE;
}

enum step_state step_run_to(struct step *st, uint32_t limit)
{
    mem_guard_begin("a step");
    const enum step_state state = advance(st, limit);
    mem_guard_end();
    return state;
}

enum step_state step_run(struct step *st)
{
    return step_run_to(st, UINT32_MAX);
}

uint32_t step_layer(const struct step *st)
{
    return st->layer;
}

/* ----------------------------------------------------------- results */

struct step_part *step_parts(struct step *st, uint32_t *n)
{
    *n = st->n_parts;
    return st->parts;
}

enum status step_supply(struct step *st, uint32_t i, const float *y)
{
    if (i >= st->n_parts || st->parts[i].supplied) return ST_INVALID;
    struct step_part *part = &st->parts[i];
    memcpy(part->y, y, (size_t)part->n_rows * st->s->model.n_embd * sizeof *y);
    part->supplied = true;
    return ST_OK;
}

void step_cancel(struct step *st)
{
    st->phase = PHASE_IDLE;
    st->n_parts = 0;
}

const float *step_x(const struct step *st)
{
    return st->x;
}

float *step_logits(struct step *st, uint32_t n)
{
    return st->logits + (size_t)n * st->s->head.n_rows;
}

enum status step_expert(struct step *st, uint32_t layer, uint32_t expert,
                        uint32_t n_rows, const float *x, float *y,
                        struct error *err)
{
    const struct shard *s = st->s;
    assert(st->phase == PHASE_IDLE);
    if (layer >= s->model.n_layer || expert >= s->model.n_expert ||
        !shard_has_expert(s, layer, expert) || n_rows < 1 ||
        n_rows > s->options.rows_max) {
        return error_set(err, ST_INVALID,
                         "expert %u of layer %u for %u rows is not here",
                         expert, layer, n_rows);
    }
    const struct shard_expert *e = &s->layers[layer].experts[expert];
    feed_forward(st, &e->gate, &e->up, &e->down, NULL, x, y, n_rows);
    return ST_OK;
}

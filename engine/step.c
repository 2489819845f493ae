#include <assert.h>
#include <string.h>

#include "engine/step_internal.h"

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
    PLACE(attention_space, attention_bytes(m, o));
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
    st->branch.there = false;
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

/* ------------------------------------------------------------- execute */

static void next_layer(struct step *st)
{
    st->layer++;
    st->phase = PHASE_ATTENTION;
    if (st->layer < st->layer_end) return;
    step_add_branch(st);
    st->phase = after_layers(st);
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
    if (st->s->model.n_expert != 0) {
        step_route(st, l);
        st->phase = PHASE_EXPERTS;
        return;
    }
    step_dense(st, l);
    next_layer(st);
}

static enum step_state advance(struct step *st, uint32_t limit)
{
    while (st->phase != PHASE_IDLE) {
        const struct shard_layer *l = &st->s->layers[st->layer];
        switch (st->phase) {
        case PHASE_EMBED:
            step_embed(st);
            st->phase =
                st->layer < st->layer_end ? PHASE_ATTENTION : after_layers(st);
            break;
        case PHASE_ATTENTION:
            if (st->layer >= limit) return STEP_PAUSED;
            step_attention(st, l);
            st->phase = PHASE_FFN;
            break;
        case PHASE_FFN:
            run_ffn(st, l);
            if (st->phase == PHASE_EXPERTS && st->n_parts) return STEP_DISPATCH;
            break;
        case PHASE_EXPERTS:
            step_local_experts(st);
            st->phase = PHASE_COMBINE;
            break;
        case PHASE_COMBINE:
            if (!all_supplied(st)) return STEP_WAIT;
            st->n_parts = 0;
            step_combine(st, l);
            next_layer(st);
            break;
        case PHASE_HEAD:
            step_head(st);
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
    step_one_expert(st, &s->layers[layer].experts[expert], x, y, n_rows);
    return ST_OK;
}

/* wire_step.c - fields of Step and Result: rows down the pipeline,
 * candidates back.
 *
 * Everything is a column, so an ordinary row costs at most 56 bytes beside
 * its activations: 8 seq, 5 position, 5 token, 1 want; and where logits are
 * wanted 16 floats' bytes, 8 seed, 10 n, 3 flags and counts. */
#include <string.h>

#include "proto/wire_internal.h"

/* -------------------------------------------------------- reading: step */

static enum status get_stages(struct wire_step *s, const Potluck__Step *p,
                              struct error *err)
{
    const size_t n[] = {p->n_stage_node, p->n_stage_flags,
                        p->n_stage_layer_first, p->n_stage_n_layers};
    enum status st = wire_columns("stages", n, COUNT_OF(n), err);
    if (st == ST_OK) st = wire_count("stages", n[0], LIMIT_STAGES, err);
    if (st != ST_OK) return st;
    bool ok = true;
    s->stages = wire_array(n[0], sizeof *s->stages, &ok);
    if (!ok) return wire_no_memory(err);
    s->n_stages = (uint32_t)n[0];
    for (uint32_t i = 0; i < s->n_stages; i++) {
        const uint32_t flags = p->stage_flags[i];
        const uint32_t first = p->stage_layer_first[i];
        if (flags > (STAGE_EMBED | STAGE_HEAD | STAGE_AGAIN) ||
            p->stage_n_layers[i] > MODEL_LAYERS_MAX ||
            first > MODEL_LAYERS_MAX) {
            return error_set(err, ST_INVALID,
                             "stage %u: flags or layers out of range", i);
        }
        s->stages[i] = (struct wire_stage){
            .node = p->stage_node[i],
            .embed = flags & STAGE_EMBED,
            .head = flags & STAGE_HEAD,
            .again = flags & STAGE_AGAIN,
            .layer_first = first,
            .layer_end = first + p->stage_n_layers[i],
        };
    }
    return ST_OK;
}

static enum status get_ops(struct wire_step *s, const Potluck__Step *p,
                           struct error *err)
{
    const size_t n[] = {p->n_op_kind, p->n_op_seq, p->n_op_source, p->n_op_n};
    enum status st = wire_columns("KV operations", n, COUNT_OF(n), err);
    if (st == ST_OK) st = wire_count("KV operations", n[0], LIMIT_KV_OPS, err);
    if (st != ST_OK) return st;
    bool ok = true;
    s->ops = wire_array(n[0], sizeof *s->ops, &ok);
    if (!ok) return wire_no_memory(err);
    s->n_ops = (uint32_t)n[0];
    for (uint32_t i = 0; i < s->n_ops; i++) {
        if (p->op_kind[i] > KV_OP_FORK) { /* before it becomes an enum */
            return error_set(err, ST_INVALID, "KV operation %u is unknown",
                             p->op_kind[i]);
        }
        s->ops[i].kind = (enum kv_op_kind)p->op_kind[i];
        s->ops[i].seq = p->op_seq[i];
        s->ops[i].source = p->op_source[i];
        s->ops[i].n = p->op_n[i];
    }
    return ST_OK;
}

static enum status get_rows(struct wire_step *s, const Potluck__Step *p,
                            struct error *err)
{
    const size_t n[] = {p->n_row_seq, p->n_row_pos, p->n_row_token,
                        p->n_row_want};
    enum status st = wire_columns("rows", n, COUNT_OF(n), err);
    if (st == ST_OK) st = wire_count("rows", n[0], LIMIT_ROWS, err);
    if (st != ST_OK) return st;
    bool ok = true;
    s->rows = wire_array(n[0], sizeof *s->rows, &ok);
    if (!ok) return wire_no_memory(err);
    s->n_rows = (uint32_t)n[0];
    for (uint32_t r = 0; r < s->n_rows; r++) {
        if (p->row_token[r] > INT32_MAX) {
            return error_set(err, ST_INVALID, "row %u: token %u is too large",
                             r, p->row_token[r]);
        }
        s->rows[r].seq = p->row_seq[r];
        s->rows[r].pos = p->row_pos[r];
        s->rows[r].token = (int32_t)p->row_token[r];
        s->rows[r].want = p->row_want[r] != 0;
    }
    return ST_OK;
}

/* Where the next row's recent tokens and adjustments begin. */
struct lists {
    size_t recent, adjust;
};

static enum status get_lists(struct wire_sample *to, struct lists *at,
                             const Potluck__Step *p, uint32_t n_recent,
                             uint32_t n_adjust, struct error *err)
{
    if (n_recent > p->n_recent_id - at->recent ||
        n_adjust > p->n_adjust_id - at->adjust) {
        return error_set(err, ST_INVALID,
                         "fewer recent tokens or adjustments than the rows "
                         "say");
    }
    enum status st = wire_count("recent tokens", n_recent, LIMIT_RECENT, err);
    if (st == ST_OK) {
        st = wire_count("adjustments", n_adjust, LIMIT_ADJUST, err);
    }
    if (st != ST_OK) return st;
    bool ok = true;
    to->recent = wire_array(n_recent, sizeof *to->recent, &ok);
    to->adjust = wire_array(n_adjust, sizeof *to->adjust, &ok);
    if (!ok) return wire_no_memory(err);
    to->n_recent = n_recent;
    to->n_adjust = n_adjust;
    bool in_range = true;
    for (uint32_t i = 0; i < n_recent; i++, at->recent++) {
        in_range = in_range && p->recent_id[at->recent] <= INT32_MAX;
        to->recent[i].id = (int32_t)p->recent_id[at->recent];
        to->recent[i].count = p->recent_count[at->recent];
    }
    for (uint32_t i = 0; i < n_adjust; i++, at->adjust++) {
        in_range = in_range && p->adjust_id[at->adjust] <= INT32_MAX;
        to->adjust[i].id = (int32_t)p->adjust_id[at->adjust];
        to->adjust[i].delta = p->adjust_delta[at->adjust];
    }
    if (in_range) return ST_OK;
    return error_set(err, ST_INVALID, "a token id is out of range");
}

static enum status get_sample(struct wire_sample *to, struct lists *at,
                              const Potluck__Step *p, uint32_t i,
                              struct error *err)
{
    if (p->sample_flags[i] > (SAMPLE_PLAIN | SAMPLE_WHOLE_ROW)) {
        return error_set(err, ST_INVALID, "sample %u: unknown flags %u", i,
                         p->sample_flags[i]);
    }
    to->inv_temp = p->sample_inv_temp[i];
    to->repeat = p->sample_repeat[i];
    to->frequency = p->sample_frequency[i];
    to->presence = p->sample_presence[i];
    to->plain = p->sample_flags[i] & SAMPLE_PLAIN;
    to->whole_row = p->sample_flags[i] & SAMPLE_WHOLE_ROW;
    to->seed = p->sample_seed[i];
    to->n = p->sample_n[i];
    return get_lists(to, at, p, p->sample_n_recent[i], p->sample_n_adjust[i],
                     err);
}

static enum status get_samples(struct wire_step *s, const Potluck__Step *p,
                               struct error *err)
{
    const size_t n[] = {
        p->n_sample_inv_temp, p->n_sample_repeat,   p->n_sample_frequency,
        p->n_sample_presence, p->n_sample_flags,    p->n_sample_seed,
        p->n_sample_n,        p->n_sample_n_recent, p->n_sample_n_adjust};
    const size_t recent[] = {p->n_recent_id, p->n_recent_count};
    const size_t adjust[] = {p->n_adjust_id, p->n_adjust_delta};
    enum status st = wire_columns("samples", n, COUNT_OF(n), err);
    if (st == ST_OK) st = wire_columns("recent tokens", recent, 2, err);
    if (st == ST_OK) st = wire_columns("adjustments", adjust, 2, err);
    if (st == ST_OK) st = wire_count("samples", n[0], LIMIT_ROWS, err);
    if (st != ST_OK) return st;
    bool ok = true;
    s->samples = wire_array(n[0], sizeof *s->samples, &ok);
    if (!ok) return wire_no_memory(err);
    s->n_want = (uint32_t)n[0];
    struct lists at = {0};
    for (uint32_t i = 0; st == ST_OK && i < s->n_want; i++) {
        st = get_sample(&s->samples[i], &at, p, i, err);
    }
    if (st == ST_OK &&
        (at.recent != p->n_recent_id || at.adjust != p->n_adjust_id)) {
        st = error_set(err, ST_INVALID,
                       "more recent tokens or adjustments than the rows say");
    }
    return st;
}

enum status wire_get_step(struct wire_message *out, const ProtobufCMessage *in,
                          struct wire_frame header, struct error *err)
{
    (void)header;
    const Potluck__Step *p = (const Potluck__Step *)in;
    struct wire_step *s = &out->step;
    s->epoch = p->epoch;
    s->step = p->step;
    s->stage = p->stage;
    s->width = p->width;
    s->compute_ns = p->compute_ns;
    enum status st = get_stages(s, p, err);
    if (st == ST_OK) st = get_rows(s, p, err);
    if (st == ST_OK) st = get_samples(s, p, err);
    if (st == ST_OK) st = get_ops(s, p, err);
    return st;
}

/* -------------------------------------------------------- writing: step */

static void put_stages(struct wire_sink *k, Potluck__Step *p,
                       const struct wire_step *s)
{
    COLUMN(k, p, stage_node, s->n_stages);
    COLUMN(k, p, stage_flags, s->n_stages);
    COLUMN(k, p, stage_layer_first, s->n_stages);
    COLUMN(k, p, stage_n_layers, s->n_stages);
    if (k->failed) return;
    for (uint32_t i = 0; i < s->n_stages; i++) {
        const struct wire_stage *g = &s->stages[i];
        p->stage_node[i] = g->node;
        p->stage_flags[i] = (g->embed ? STAGE_EMBED : 0u) |
                            (g->head ? STAGE_HEAD : 0u) |
                            (g->again ? STAGE_AGAIN : 0u);
        p->stage_layer_first[i] = g->layer_first;
        p->stage_n_layers[i] = g->layer_end - g->layer_first;
    }
}

static void put_ops(struct wire_sink *k, Potluck__Step *p,
                    const struct wire_step *s)
{
    COLUMN(k, p, op_kind, s->n_ops);
    COLUMN(k, p, op_seq, s->n_ops);
    COLUMN(k, p, op_source, s->n_ops);
    COLUMN(k, p, op_n, s->n_ops);
    if (k->failed) return;
    for (uint32_t i = 0; i < s->n_ops; i++) {
        p->op_kind[i] = s->ops[i].kind;
        p->op_seq[i] = s->ops[i].seq;
        p->op_source[i] = s->ops[i].source;
        p->op_n[i] = s->ops[i].n;
    }
}

static void put_rows(struct wire_sink *k, Potluck__Step *p,
                     const struct wire_step *s)
{
    COLUMN(k, p, row_seq, s->n_rows);
    COLUMN(k, p, row_pos, s->n_rows);
    COLUMN(k, p, row_token, s->n_rows);
    COLUMN(k, p, row_want, s->n_rows);
    if (k->failed) return;
    for (uint32_t r = 0; r < s->n_rows; r++) {
        p->row_seq[r] = s->rows[r].seq;
        p->row_pos[r] = s->rows[r].pos;
        p->row_token[r] = (uint32_t)s->rows[r].token;
        p->row_want[r] = s->rows[r].want;
    }
}

static void put_lists(struct wire_sink *k, Potluck__Step *p,
                      const struct wire_step *s)
{
    size_t n_recent = 0, n_adjust = 0;
    for (uint32_t i = 0; i < s->n_want; i++) {
        n_recent += s->samples[i].n_recent;
        n_adjust += s->samples[i].n_adjust;
    }
    COLUMN(k, p, recent_id, n_recent);
    COLUMN(k, p, recent_count, n_recent);
    COLUMN(k, p, adjust_id, n_adjust);
    COLUMN(k, p, adjust_delta, n_adjust);
    if (k->failed) return;
    size_t r = 0, a = 0;
    for (uint32_t i = 0; i < s->n_want; i++) {
        const struct wire_sample *from = &s->samples[i];
        for (uint32_t j = 0; j < from->n_recent; j++, r++) {
            p->recent_id[r] = (uint32_t)from->recent[j].id;
            p->recent_count[r] = from->recent[j].count;
        }
        for (uint32_t j = 0; j < from->n_adjust; j++, a++) {
            p->adjust_id[a] = (uint32_t)from->adjust[j].id;
            p->adjust_delta[a] = from->adjust[j].delta;
        }
    }
}

static void put_samples(struct wire_sink *k, Potluck__Step *p,
                        const struct wire_step *s)
{
    COLUMN(k, p, sample_inv_temp, s->n_want);
    COLUMN(k, p, sample_repeat, s->n_want);
    COLUMN(k, p, sample_frequency, s->n_want);
    COLUMN(k, p, sample_presence, s->n_want);
    COLUMN(k, p, sample_flags, s->n_want);
    COLUMN(k, p, sample_seed, s->n_want);
    COLUMN(k, p, sample_n, s->n_want);
    COLUMN(k, p, sample_n_recent, s->n_want);
    COLUMN(k, p, sample_n_adjust, s->n_want);
    if (k->failed) return;
    for (uint32_t i = 0; i < s->n_want; i++) {
        const struct wire_sample *from = &s->samples[i];
        p->sample_inv_temp[i] = from->inv_temp;
        p->sample_repeat[i] = from->repeat;
        p->sample_frequency[i] = from->frequency;
        p->sample_presence[i] = from->presence;
        p->sample_flags[i] = (from->plain ? SAMPLE_PLAIN : 0u) |
                             (from->whole_row ? SAMPLE_WHOLE_ROW : 0u);
        p->sample_seed[i] = from->seed;
        p->sample_n[i] = from->n;
        p->sample_n_recent[i] = from->n_recent;
        p->sample_n_adjust[i] = from->n_adjust;
    }
    put_lists(k, p, s);
}

enum status wire_put_step(struct wire_sink *k, const struct wire_message *m,
                          struct error *err)
{
    const struct wire_step *s = &m->step;
    Potluck__Step p = POTLUCK__STEP__INIT;
    p.epoch = s->epoch;
    p.step = s->step;
    p.stage = s->stage;
    p.width = s->width;
    p.compute_ns = s->compute_ns;
    put_stages(k, &p, s);
    put_rows(k, &p, s);
    put_samples(k, &p, s);
    put_ops(k, &p, s);
    return wire_pack(k, &p.base, err);
}

/* -------------------------------------------------------------- result */

static enum status get_candidates(struct head_result *to, size_t *at,
                                  const Potluck__Result *p, uint32_t n,
                                  struct error *err)
{
    enum status st = wire_count("candidates", n, HEAD_BEST, err);
    if (st != ST_OK) return st;
    if (n > p->n_best_id - *at) {
        return error_set(err, ST_INVALID, "fewer candidates than the rows say");
    }
    to->n_best = n;
    for (uint32_t i = 0; i < n; i++, (*at)++) {
        if (p->best_id[*at] > INT32_MAX) {
            return error_set(err, ST_INVALID, "a candidate's id is too large");
        }
        to->best[i] = (struct head_candidate){
            (int32_t)p->best_id[*at], p->best_logit[*at], p->best_raw[*at]};
    }
    return ST_OK;
}

enum status wire_get_result(struct wire_message *out,
                            const ProtobufCMessage *in,
                            struct wire_frame header, struct error *err)
{
    (void)header;
    const Potluck__Result *p = (const Potluck__Result *)in;
    const size_t n[] = {p->n_row_n_best, p->n_row_lse_raw,
                        p->n_row_lse_tempered, p->n_row_plain_id};
    const size_t best[] = {p->n_best_id, p->n_best_logit, p->n_best_raw};
    enum status st = wire_columns("rows", n, COUNT_OF(n), err);
    if (st == ST_OK) st = wire_columns("candidates", best, 3, err);
    if (st == ST_OK) st = wire_count("rows", n[0], LIMIT_ROWS, err);
    if (st != ST_OK) return st;
    struct wire_result *r = &out->result;
    bool ok = true;
    r->rows = wire_array(n[0], sizeof *r->rows, &ok);
    if (!ok) return wire_no_memory(err);
    r->epoch = p->epoch;
    r->step = p->step;
    r->n_whole = p->n_whole;
    r->n_vocab = p->n_vocab;
    r->compute_ns = p->compute_ns;
    r->n_want = (uint32_t)n[0];
    size_t at = 0;
    for (uint32_t i = 0; st == ST_OK && i < r->n_want; i++) {
        r->rows[i].lse_raw = p->row_lse_raw[i];
        r->rows[i].lse_tempered = p->row_lse_tempered[i];
        r->rows[i].plain_id = p->row_plain_id[i];
        st = get_candidates(&r->rows[i], &at, p, p->row_n_best[i], err);
    }
    if (st == ST_OK && at != p->n_best_id) {
        st = error_set(err, ST_INVALID, "more candidates than the rows say");
    }
    return st;
}

enum status wire_put_result(struct wire_sink *k, const struct wire_message *m,
                            struct error *err)
{
    const struct wire_result *r = &m->result;
    Potluck__Result p = POTLUCK__RESULT__INIT;
    size_t n_best = 0;
    for (uint32_t i = 0; i < r->n_want; i++) n_best += r->rows[i].n_best;
    COLUMN(k, &p, row_n_best, r->n_want);
    COLUMN(k, &p, row_lse_raw, r->n_want);
    COLUMN(k, &p, row_lse_tempered, r->n_want);
    COLUMN(k, &p, row_plain_id, r->n_want);
    COLUMN(k, &p, best_id, n_best);
    COLUMN(k, &p, best_logit, n_best);
    COLUMN(k, &p, best_raw, n_best);
    if (k->failed) return wire_no_memory(err);
    p.epoch = r->epoch;
    p.step = r->step;
    p.n_whole = r->n_whole;
    p.n_vocab = r->n_vocab;
    p.compute_ns = r->compute_ns;
    size_t at = 0;
    for (uint32_t i = 0; i < r->n_want; i++) {
        const struct head_result *from = &r->rows[i];
        p.row_n_best[i] = from->n_best;
        p.row_lse_raw[i] = from->lse_raw;
        p.row_lse_tempered[i] = from->lse_tempered;
        p.row_plain_id[i] = from->plain_id;
        for (uint32_t j = 0; j < from->n_best; j++, at++) {
            p.best_id[at] = (uint32_t)from->best[j].id;
            p.best_logit[at] = from->best[j].logit;
            p.best_raw[at] = from->best[j].raw;
        }
    }
    return wire_pack(k, &p.base, err);
}

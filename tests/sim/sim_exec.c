/* Steps and experts in virtual time, by the rules of worker/exec.c: requests
 * for our experts first, runs in order of arrival, no run attends to a layer
 * whose keys an earlier one has still to store, and each leaves in its turn.
 * What a real worker would refuse fails the simulation. */
#include "tests/sim/sim_worker.h"

#include <stdio.h>
#include <string.h>

static uint32_t width(const struct sim_worker *w)
{
    return w->s->model->model.n_embd;
}

static void run_free(struct sim_run *r)
{
    wire_message_fini(&r->m);
    mem_free(r->x);
    mem_free(r->y);
    mem_free(r->parts);
    mem_free(r);
}

static void job_free(struct sim_job *j)
{
    wire_message_fini(&j->m);
    mem_free(j->x);
    mem_free(j);
}

static void out_free(struct sim_out *o)
{
    wire_message_fini(&o->m);
    mem_free(o->tensor);
    mem_free(o);
}

static void drop_outs(struct sim_worker *w)
{
    while (w->outs) {
        struct sim_out *o = w->outs;
        w->outs = o->next;
        out_free(o);
    }
}

void exec_clear(struct sim_worker *w)
{
    while (w->runs) {
        struct sim_run *r = w->runs;
        w->runs = r->next;
        run_free(r);
    }
    while (w->jobs) {
        struct sim_job *j = w->jobs;
        w->jobs = j->next;
        job_free(j);
    }
    drop_outs(w);
    w->n_runs = w->n_jobs = 0;
    memset(w->seqs, 0, sizeof w->seqs);
}

/* ------------------------------------------------------------ tensors */

/* A row of the wire is n_embd floats; ours is its first eight bytes. */
static void *rows_out(const struct sim_worker *w, const uint64_t *x, uint32_t n)
{
    const size_t row = width(w) * sizeof(float);
    char *t = mem_zalloc(n * row);
    for (uint32_t i = 0; t && i < n; i++) {
        memcpy(t + i * row, &x[i], sizeof x[i]);
    }
    return t;
}

static uint64_t row_in(const struct sim_worker *w, const void *tensor,
                       uint32_t i)
{
    uint64_t x;
    memcpy(&x, (const char *)tensor + (size_t)i * width(w) * sizeof(float),
           sizeof x);
    return x;
}

/* m and tensor are taken over. */
static void emit(struct sim_worker *w, uint32_t node, uint64_t epoch,
                 struct wire_message m, void *tensor, size_t bytes)
{
    struct sim_out *o = mem_zalloc(sizeof *o);
    if (!o) return;
    *o = (struct sim_out){.node = node,
                          .epoch = epoch,
                          .m = m,
                          .tensor = tensor,
                          .tensor_bytes = bytes};
    struct sim_out **at = &w->outs;
    while (*at) at = &(*at)->next;
    *at = o;
}

static void emit_failed(struct sim_worker *w, const struct wire_step *st,
                        const char *why)
{
    struct wire_message m = {.kind = WIRE_STEP_FAILED};
    m.failure = (struct wire_failure){
        .epoch = st->epoch, .step = st->step, .status = ST_NUMERIC};
    snprintf(m.failure.text, sizeof m.failure.text, "%s: %s", w->name, why);
    emit(w, 0, st->epoch, m, NULL, 0);
}

static void fail_run(struct sim_worker *w, struct sim_run *r, const char *why)
{
    struct sim_run **at = &w->runs;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    w->n_runs--;
    if (r->m.step.epoch > w->s->gap_epoch) {
        w->s->gap_epoch = r->m.step.epoch;
    }
    sim_note(w->s, "%u: step %llu fails: %s", w->who,
             (unsigned long long)r->m.step.step, why);
    emit_failed(w, &r->m.step, why);
    run_free(r);
}

/* ---------------------------------------------------------- sequences */

static struct sim_seq *find_seq(struct sim_worker *w, uint64_t id)
{
    for (uint32_t i = 0; i < SIM_SEQS_MAX; i++) {
        if (w->seqs[i].id == id) return &w->seqs[i];
    }
    return NULL;
}

uint32_t exec_pages(const struct sim_worker *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < SIM_SEQS_MAX; i++) {
        if (w->seqs[i].id) n += kv_pages(w->seqs[i].n);
    }
    return n;
}

static uint32_t n_seqs(const struct sim_worker *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < SIM_SEQS_MAX; i++) n += w->seqs[i].id != 0;
    return n;
}

/* Whether a step before may never have got here. */
static bool may_miss(const struct sim_worker *w)
{
    return w->s->gap_epoch == w->epoch;
}

static void apply_op(struct sim_worker *w, const struct kv_op *op)
{
    struct sim_seq *q = find_seq(w, op->seq);
    if (!q && !may_miss(w)) {
        sim_fail(w->s,
                 "worker %u: KV operation on sequence %llu, which is "
                 "not there",
                 w->who, (unsigned long long)op->seq);
        return;
    }
    if (op->kind == KV_OP_FREE) {
        if (q) *q = (struct sim_seq){0};
    } else if (op->kind == KV_OP_TRUNCATE) {
        if (!q || op->n + 1 != q->n) {
            if (may_miss(w)) return;
            sim_fail(w->s, "worker %u: truncates %llu to %u of %u", w->who,
                     (unsigned long long)op->seq, op->n, q ? q->n : 0);
            return;
        }
        q->n = op->n;
        for (uint32_t l = 0; l < SIM_LAYERS_MAX; l++) {
            if (q->n_layer[l] <= op->n) continue;
            q->n_layer[l] = op->n;
            q->hashes.at[l] = q->before.at[l];
        }
    } else {
        sim_fail(w->s, "worker %u: a fork, which nobody asks for", w->who);
    }
}

/* False: the rows leave no trace, the step fails. */
static bool take_rows(struct sim_worker *w, const struct wire_step *st)
{
    for (uint32_t i = 0; i < st->n_rows; i++) {
        const struct step_row *row = &st->rows[i];
        struct sim_seq *q = find_seq(w, row->seq);
        if (!q && row->pos == 0) {
            q = find_seq(w, 0);
            if (q) *q = (struct sim_seq){.id = row->seq};
        }
        if (q && q->n == row->pos && row->pos < w->assign.n_ctx) {
            q->n++;
            continue;
        }
        if (!may_miss(w)) {
            sim_fail(w->s, "worker %u: sequence %llu goes from %u to %u",
                     w->who, (unsigned long long)row->seq, q ? q->n : 0,
                     row->pos);
        }
        while (i-- > 0) {
            q = find_seq(w, st->rows[i].seq);
            if (q && --q->n == 0) *q = (struct sim_seq){0};
        }
        return false;
    }
    return true;
}

/* ---------------------------------------------------------------- runs */

static const struct wire_stage *stage_of(const struct sim_run *r)
{
    return &r->m.step.stages[r->m.step.stage];
}

/* What step_begin refuses. */
static void check_step(struct sim_worker *w, const struct wire_step *st)
{
    const struct wire_stage *g = &st->stages[st->stage];
    const struct wire_assign *a = &w->assign;
    const char *why = NULL;
    if (!w->loaded) why = "a step before Ready";
    if (g->node != w->link.node) why = "a step of another node";
    if (st->n_rows > a->rows_max) why = "too many rows";
    if (g->head && st->n_want > a->outputs_max) why = "too many outputs";
    if (g->head && a->vocab_first == a->vocab_end) why = "there is no head";
    if (g->embed && !a->embed) why = "there is no embedding";
    if (g->layer_end > a->n_layer) why = "layers that do not exist";
    for (uint32_t l = g->layer_first; !why && l < g->layer_end; l++) {
        if (!a->blocks[l]) why = "a layer that is not here";
    }
    if (why) {
        sim_fail(w->s, "worker %u, step %llu: %s", w->who,
                 (unsigned long long)st->step, why);
    }
}

static bool begin_run(struct sim_worker *w, struct sim_run *r)
{
    const struct wire_step *st = &r->m.step;
    check_step(w, st);
    if (!stage_of(r)->again) {
        for (uint32_t i = 0; i < st->n_ops; i++) apply_op(w, &st->ops[i]);
        if (!take_rows(w, st)) return false;
    }
    if (exec_pages(w) > w->assign.n_pages || n_seqs(w) > w->assign.n_seq_max) {
        sim_fail(w->s, "worker %u: %u pages of %u, %u sequences of %u", w->who,
                 exec_pages(w), w->assign.n_pages, n_seqs(w),
                 w->assign.n_seq_max);
    }
    for (uint32_t i = 0; stage_of(r)->embed && i < st->n_rows; i++) {
        r->x[i] = sim_embed(st->rows[i].token, st->rows[i].pos);
    }
    r->layer = stage_of(r)->layer_first;
    r->state = RUN_READY;
    return true;
}

/* Where r must stop for the runs before it. */
static uint32_t limit_of(const struct sim_worker *w, const struct sim_run *r)
{
    uint32_t limit = UINT32_MAX;
    for (const struct sim_run *p = w->runs; p && p != r; p = p->next) {
        if (p->state != RUN_WAIT && p->state != RUN_READY) continue;
        /* one that waits has stored the keys of its layer, one that was
         * stopped has not */
        const uint32_t at = p->layer + (p->state == RUN_WAIT);
        if (at < stage_of(p)->layer_end && at < limit) limit = at;
    }
    return limit;
}

static bool holds(const struct sim_worker *w, uint32_t layer, uint32_t expert)
{
    return w->assign.experts[4 * layer + expert / 64] >> (expert % 64) & 1;
}

static void dispatch_to(struct sim_worker *w, struct sim_run *r, uint32_t node)
{
    struct wire_message m = {.kind = WIRE_DISPATCH};
    uint64_t rows[2 * LIMIT_PARTS * 4];
    struct wire_part *parts = mem_zalloc_array(LIMIT_PARTS, sizeof *parts);
    uint32_t n = 0, n_parts = 0;
    const uint32_t n_expert = w->s->model->model.n_expert;
    for (uint32_t e = 0; parts && e < n_expert; e++) {
        uint32_t k = 0;
        for (uint32_t i = 0; i < r->n_parts; i++) {
            const struct sim_part *p = &r->parts[i];
            if (p->node != node || p->expert != e) continue;
            rows[n++] = r->x[p->row];
            k++;
        }
        if (k) parts[n_parts++] = (struct wire_part){r->layer, e, k};
    }
    m.exchange = (struct wire_exchange){.epoch = r->m.step.epoch,
                                        .step = r->m.step.step,
                                        .node = w->link.node,
                                        .serial = r->serial,
                                        .n_parts = n_parts,
                                        .parts = parts,
                                        .width = width(w)};
    emit(w, node, m.exchange.epoch, m, rows_out(w, rows, n),
         (size_t)n * width(w) * sizeof(float));
}

/* Rows to the experts of others; true: there are some. */
static bool ask_experts(struct sim_worker *w, struct sim_run *r)
{
    const uint32_t n_expert = w->s->model->model.n_expert;
    r->n_parts = 0;
    for (uint32_t i = 0; i < r->m.step.n_rows; i++) {
        uint32_t chosen[2];
        sim_choose(r->x[i], n_expert, chosen);
        for (uint32_t k = 0; k < 2; k++) {
            if (holds(w, r->layer, chosen[k])) {
                r->y[i][k] = sim_expert(r->x[i], r->layer, chosen[k]);
                continue;
            }
            const uint32_t node =
                w->assign.expert_node[r->layer * MODEL_EXPERTS_MAX + chosen[k]];
            r->parts[r->n_parts++] =
                (struct sim_part){i, k, chosen[k], node, false};
        }
    }
    r->n_waiting = r->n_parts;
    r->serial = (r->m.step.stage << 16) | (r->layer + 1);
    for (uint32_t i = 0; i < r->n_parts; i++) {
        uint32_t j = 0;
        while (r->parts[j].node != r->parts[i].node) j++;
        if (j == i) dispatch_to(w, r, r->parts[i].node);
    }
    return r->n_parts != 0;
}

static void combine(struct sim_run *r)
{
    for (uint32_t i = 0; i < r->m.step.n_rows; i++) {
        r->x[i] = sim_combine(r->x[i], r->y[i]);
    }
    r->layer++;
    r->state = RUN_READY;
}

static void attend(struct sim_worker *w, struct sim_run *r)
{
    for (uint32_t i = 0; i < r->m.step.n_rows; i++) {
        const struct step_row *row = &r->m.step.rows[i];
        struct sim_seq *q = find_seq(w, row->seq);
        if (!q || q->n_layer[r->layer] != row->pos) {
            sim_fail(w->s, "worker %u, layer %u: row %u of %llu comes after %u",
                     w->who, r->layer, row->pos, (unsigned long long)row->seq,
                     q ? q->n_layer[r->layer] : 0);
            return;
        }
        q->n_layer[r->layer]++;
        q->before.at[r->layer] = q->hashes.at[r->layer];
        r->x[i] = sim_attend(&q->hashes.at[r->layer], r->x[i], r->layer);
    }
}

/* As far as it goes; returns row-layers computed. */
static uint64_t advance(struct sim_worker *w, struct sim_run *r)
{
    uint64_t work = 0;
    if (r->state == RUN_WAIT && r->n_waiting == 0) combine(r);
    while (r->state == RUN_READY) {
        if (r->layer >= stage_of(r)->layer_end) {
            r->state = RUN_DONE;
            break;
        }
        if (r->layer >= limit_of(w, r)) break;
        attend(w, r);
        work += r->m.step.n_rows;
        if (w->s->model->model.n_expert == 0)
            r->layer++;
        else if (ask_experts(w, r))
            r->state = RUN_WAIT;
        else
            combine(r);
    }
    w->progress++;
    return work;
}

/* ------------------------------------------------------------- leaving */

static void send_result(struct sim_worker *w, struct sim_run *r)
{
    const struct wire_step *st = &r->m.step;
    const struct model *model = &w->s->model->model;
    struct wire_message m = {.kind = WIRE_RESULT};
    m.result =
        (struct wire_result){.epoch = st->epoch,
                             .step = st->step,
                             .n_want = st->n_want,
                             .n_vocab = model->n_vocab,
                             .compute_ns = st->compute_ns + r->compute_ns};
    uint32_t n_whole = 0;
    for (uint32_t i = 0; i < st->n_want; i++) {
        n_whole += st->samples[i].whole_row;
    }
    float *whole = n_whole ? mem_zalloc_array((size_t)n_whole * model->n_vocab,
                                              sizeof *whole)
                           : NULL;
    m.result.n_whole = n_whole;
    m.result.rows = mem_zalloc_array(st->n_want + 1, sizeof *m.result.rows);
    uint32_t n = 0, at = 0;
    for (uint32_t i = 0; m.result.rows && i < st->n_rows; i++) {
        if (!st->rows[i].want) continue;
        const struct wire_sample *p = &st->samples[n];
        float *row = p->whole_row && whole
                         ? whole + (size_t)at++ * model->n_vocab
                         : NULL;
        sim_head(r->x[i], model, p->inv_temp, p->plain, p->seed, p->n,
                 &m.result.rows[n++], row);
    }
    emit(w, 0, st->epoch, m, whole,
         (size_t)n_whole * model->n_vocab * sizeof *whole);
}

static void finish_run(struct sim_worker *w, struct sim_run *r)
{
    struct wire_step *st = &r->m.step;
    if (!w->s->calm && sim_chance(w->s, w->p_fail_step)) {
        fail_run(w, r, "a number is not finite");
        return;
    }
    w->runs = r->next;
    w->n_runs--;
    if (st->stage + 1 == st->n_stages) {
        send_result(w, r);
    } else {
        struct wire_message m = r->m;
        r->m = (struct wire_message){.kind = WIRE_BYE};
        m.step.stage++;
        m.step.compute_ns += r->compute_ns;
        m.step.width = m.step.n_rows ? width(w) : 0;
        emit(w, m.step.stages[m.step.stage].node, m.step.epoch, m,
             m.step.n_rows ? rows_out(w, r->x, m.step.n_rows) : NULL,
             (size_t)m.step.n_rows * width(w) * sizeof(float));
    }
    run_free(r);
}

static uint64_t serve_experts(struct sim_worker *w)
{
    struct sim_job *j = w->jobs;
    w->jobs = j->next;
    w->n_jobs--;
    struct wire_exchange *x = &j->m.exchange;
    uint32_t at = 0;
    for (uint32_t i = 0; i < x->n_parts; i++) {
        const struct wire_part *p = &x->parts[i];
        if (!holds(w, p->layer, p->expert)) {
            sim_fail(w->s, "worker %u has no expert %u of layer %u", w->who,
                     p->expert, p->layer);
        }
        for (uint32_t k = 0; k < p->n_rows; k++, at++) {
            j->x[at] = sim_expert(j->x[at], p->layer, p->expert);
        }
    }
    const uint32_t node = x->node;
    struct wire_message m = j->m;
    j->m = (struct wire_message){.kind = WIRE_BYE};
    m.kind = WIRE_PARTIALS;
    m.exchange.node = w->link.node;
    const uint64_t work = j->n_rows;
    emit(w, node, m.exchange.epoch, m, rows_out(w, j->x, j->n_rows),
         (size_t)j->n_rows * width(w) * sizeof(float));
    job_free(j);
    w->progress++;
    return work;
}

/* ------------------------------------------------------ compute thread */

static uint32_t who_is(const struct sim_worker *w, uint32_t node)
{
    if (node == 0) return 0;
    if (node == w->link.node) return w->who;
    for (uint32_t i = 0; i < w->assign.n_peers; i++) {
        if (w->assign.peers[i].node == node) {
            return sim_who(w->assign.peers[i].key);
        }
    }
    return SIM_NOBODY;
}

static void deliver_outs(struct sim_worker *w)
{
    while (w->outs) {
        struct sim_out *o = w->outs;
        w->outs = o->next;
        const uint32_t to = who_is(w, o->node);
        if (o->epoch != w->epoch) {
            /* of another time */
        } else if (to == SIM_NOBODY) {
            sim_fail(w->s, "worker %u: node %u is no peer", w->who, o->node);
        } else if (to == w->who) {
            if (o->m.kind == WIRE_STEP) {
                exec_take_step(w, &o->m, o->tensor);
            } else {
                sim_fail(w->s, "worker %u asks itself", w->who);
            }
        } else {
            const enum status st = sim_send(w->s, w->who, to, SIM_DATA, &o->m,
                                            o->tensor, o->tensor_bytes);
            (void)st; /* every wait has a deadline */
        }
        out_free(o);
    }
}

static uint64_t one_job(struct sim_worker *w, bool *any)
{
    *any = true;
    if (w->jobs) return serve_experts(w);
    uint32_t begun = 0;
    for (struct sim_run *r = w->runs; r; r = r->next) {
        if (r->state == RUN_QUEUED) {
            if (begun == w->assign.n_steps) break;
            if (!begin_run(w, r)) {
                fail_run(w, r, "a row that does not continue its sequence");
                return 0;
            }
            return w->s->failed ? 0 : advance(w, r);
        }
        begun++;
        if ((r->state == RUN_WAIT && r->n_waiting == 0) ||
            (r->state == RUN_READY && r->layer < limit_of(w, r))) {
            return advance(w, r);
        }
    }
    *any = false;
    return 0;
}

static void computed(struct sim *s, struct sim_event *e)
{
    struct sim_worker *w = s->workers[e->who];
    w->busy = false;
    deliver_outs(w);
    exec_start(w);
}

void exec_start(struct sim_worker *w)
{
    if (w->busy || !w->loaded || w->s->failed) return;
    bool any;
    const uint64_t work = one_job(w, &any);
    while (w->runs && w->runs->state == RUN_DONE) {
        finish_run(w, w->runs);
        any = true;
    }
    if (!any) return;
    const uint64_t ns =
        (uint64_t)((double)work * w->ns_per_row_layer * w->slow) + 20000;
    if (work) w->busy_ns += ns;
    w->busy = true;
    sim_at(w->s, w->s->now + ns, w->who, computed, NULL, NULL, 0);
}

/* --------------------------------------------------------- messages in */

void exec_take_step(struct sim_worker *w, struct wire_message *m,
                    const void *tensor)
{
    struct sim_run *r = mem_zalloc(sizeof *r);
    if (!r) return;
    const uint32_t n = m->step.n_rows;
    r->m = *m;
    *m = (struct wire_message){.kind = WIRE_BYE};
    r->x = mem_zalloc_array((size_t)n + 1, sizeof *r->x);
    r->y = mem_zalloc_array((size_t)n + 1, sizeof *r->y);
    r->parts = mem_zalloc_array((size_t)2 * n + 1, sizeof *r->parts);
    for (uint32_t i = 0; tensor && i < n; i++) r->x[i] = row_in(w, tensor, i);
    struct sim_run **at = &w->runs;
    while (*at) at = &(*at)->next;
    *at = r;
    if (++w->n_runs > LIMIT_STEPS) sim_fail(w->s, "%u: queue", w->who);
    exec_start(w);
}

void exec_take_dispatch(struct sim_worker *w, struct wire_message *m,
                        const void *tensor)
{
    struct sim_job *j = mem_zalloc(sizeof *j);
    if (!j) return;
    j->m = *m;
    *m = (struct wire_message){.kind = WIRE_BYE};
    for (uint32_t i = 0; i < j->m.exchange.n_parts; i++) {
        j->n_rows += j->m.exchange.parts[i].n_rows;
    }
    j->x = mem_zalloc_array((size_t)j->n_rows + 1, sizeof *j->x);
    for (uint32_t i = 0; i < j->n_rows; i++) j->x[i] = row_in(w, tensor, i);
    struct sim_job **at = &w->jobs;
    while (*at) at = &(*at)->next;
    *at = j;
    if (++w->n_jobs > LIMIT_STEPS) sim_fail(w->s, "%u: queue", w->who);
    exec_start(w);
}

void exec_take_partials(struct sim_worker *w, const struct wire_message *m,
                        const void *tensor)
{
    const struct wire_exchange *x = &m->exchange;
    struct sim_run *r = w->runs;
    while (r && (r->m.step.step != x->step || r->serial != x->serial ||
                 r->state != RUN_WAIT)) {
        r = r->next;
    }
    if (!r) return; /* late: no harm */
    uint32_t at = 0;
    for (uint32_t i = 0; i < x->n_parts; i++) {
        const struct wire_part *p = &x->parts[i];
        for (uint32_t j = 0, k = 0; j < r->n_parts && k < p->n_rows; j++) {
            struct sim_part *q = &r->parts[j];
            if (q->expert != p->expert || q->node != x->node) continue;
            const uint64_t y = row_in(w, tensor, at + k++);
            if (q->supplied) continue;
            q->supplied = true;
            r->n_waiting--;
            r->y[q->row][q->slot] = y;
        }
        at += p->n_rows;
    }
    exec_start(w);
}

#include "worker/exec.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "common/clock.h"
#include "common/ring.h"
#include "worker/assign.h"
#include "worker/failure.h"
#include "worker/probe.h"
#include "worker/result.h"
#include "worker/trace.h"

#define RING_SIZE    1024
#define IDLE_WAIT_MS 200

enum job_kind { JOB_PROBE, JOB_LOAD, JOB_MESSAGE, JOB_STOP };
struct job {
    enum job_kind kind;
    uint32_t types; /* to measure */
    struct exec_load load;
    uint8_t *model_header; /* the load's own copy */
    struct wire_message message;
    float *tensor;
    size_t tensor_bytes;
};

/* A step under way, from its arrival to its leaving. */
struct run {
    struct wire_message message; /* WIRE_STEP */
    struct step *step;           /* one of exec.steps, while it runs */
    enum step_state state;
    bool begun;
    uint32_t serial; /* of its latest dispatch */
    uint64_t compute_ns;
    float *x; /* rows from the stage before; freed once begun */
    struct run *next;
};

struct exec {
    struct exec_options o;
    pthread_t thread;
    struct ring *in, *out;
    atomic_uint_fast64_t epoch, progress;
    atomic_bool busy;
    FILE *trace;
    /* the compute thread's own */
    struct wire_assign assign;
    bool assigned;
    uint32_t self;
    struct shard *shard;
    uint32_t n_steps;
    struct step **steps; /* [n_steps] idle ones; [n_steps] serves experts */
    bool *step_used;
    struct step *server;
    struct head_part *part;
    struct run *first; /* in order of arrival */
};

/* ------------------------------------------------------------ output */

void exec_out_free(struct exec_out *o)
{
    if (!o) return;
    buf_fini(&o->header);
    mem_free(o->tensor);
    mem_free(o);
}

/* m is written, tensor (may be NULL) is taken over.  What cannot be written is
 * told in its place; what finds no room is dropped: the coordinator's deadline
 * finds it. */
static void emit(struct exec *e, uint32_t node, bool control, uint64_t epoch,
                 const struct wire_message *m, float *tensor, size_t bytes)
{
    struct error err = {0};
    struct wire_message instead;
    struct exec_out *o = mem_zalloc(sizeof *o);
    if (!o) {
        mem_free(tensor);
        return;
    }
    *o = (struct exec_out){node, control, epoch, {0}, tensor, bytes};
    buf_init(&o->header, LIMIT_ASSIGN_BYTES);
    if (wire_write(&o->header, m, &err) != ST_OK) {
        exec_out_free(o);
        if (!failure_instead(&instead, epoch, m, &err)) return;
        emit(e, EXEC_TO_COORDINATOR, instead.kind == WIRE_FAILURE, epoch,
             &instead, NULL, 0);
        return;
    }
    const size_t header_bytes = o->header.len; /* once pushed it is gone */
    if (!ring_push(e->out, o)) {
        exec_out_free(o);
    } else {
        e->o.notify(e->o.arg);
        trace_sent(e->trace, m, header_bytes, bytes);
    }
}

static void emit_failure(struct exec *e, enum wire_kind kind, uint64_t epoch,
                         uint64_t step, const struct error *err)
{
    struct wire_message m;
    failure_fill(&m, kind, epoch, step, err);
    emit(e, EXEC_TO_COORDINATOR, kind == WIRE_FAILURE, epoch, &m, NULL, 0);
}

static float *copy_floats(const float *x, size_t bytes)
{
    float *copy = mem_alloc(bytes);
    if (copy) memcpy(copy, x, bytes);
    return copy;
}

/* -------------------------------------------------------------- runs */

static void release_step(struct exec *e, struct run *r)
{
    for (uint32_t i = 0; r->step && i < e->n_steps; i++) {
        if (e->steps[i] == r->step) e->step_used[i] = false;
    }
    r->step = NULL;
}

static void run_free(struct exec *e, struct run *r)
{
    struct run **at = &e->first;
    while (*at && *at != r) at = &(*at)->next;
    if (*at) *at = r->next;
    if (r->step && r->begun && r->state != STEP_DONE) step_cancel(r->step);
    release_step(e, r);
    wire_message_fini(&r->message);
    mem_free(r->x);
    mem_free(r);
}

/* The rows end here; the stages behind still have to do what the step does to
 * their caches: nobody repeats it. */
static void pass_on_ops(struct exec *e, const struct run *r)
{
    struct wire_message m = r->message;
    if (m.step.n_ops == 0 || m.step.stage + 1 == m.step.n_stages) return;
    m.step.stage++;
    m.step.n_rows = m.step.n_want = m.step.width = 0;
    emit(e, m.step.stages[m.step.stage].node, false, m.step.epoch, &m, NULL, 0);
}

static void fail_run(struct exec *e, struct run *r, const struct error *err)
{
    const struct wire_step *s = &r->message.step;
    pass_on_ops(e, r);
    emit_failure(e, WIRE_STEP_FAILED, s->epoch, s->step, err);
    run_free(e, r);
}

/* Where this run must stop: an earlier one that waits at layer l has not
 * stored the keys of the layers above it. */
static uint32_t limit_of(const struct exec *e, const struct run *r)
{
    uint32_t limit = UINT32_MAX;
    for (const struct run *p = e->first; p && p != r; p = p->next) {
        if (!p->begun || p->state == STEP_DONE) continue;
        const struct wire_step *s = &p->message.step;
        const uint32_t at = step_layer(p->step) + 1;
        if (at < s->stages[s->stage].layer_end && at < limit) limit = at;
    }
    return limit;
}

static enum status begin_run(struct exec *e, struct run *r, struct error *err)
{
    const struct wire_step *s = &r->message.step;
    const struct wire_stage *stage = &s->stages[s->stage];
    const struct step_input in = {
        .ops = s->ops,
        .n_ops = s->n_ops,
        .rows = s->rows,
        .n_rows = s->n_rows,
        .x = r->x,
        .embed = stage->embed,
        .layer_first = stage->layer_first,
        .layer_end = stage->layer_end,
        .head = stage->head,
        .again = stage->again,
    };
    const enum status st = step_begin(r->step, &in, err);
    if (st != ST_OK) return st;
    r->begun = true;
    r->state = STEP_PAUSED;
    mem_free(r->x);
    r->x = NULL;
    trace_step(e->trace, "begin", s);
    return ST_OK;
}

/* The parts of one node, as one message with their rows behind each other. */
static enum status dispatch_to(struct exec *e, struct run *r, uint32_t node,
                               struct error *err)
{
    const struct wire_step *s = &r->message.step;
    const size_t width = e->shard->model.n_embd;
    struct wire_part parts[LIMIT_PARTS];
    uint32_t n_parts, n = 0;
    size_t n_rows = 0;
    struct step_part *all = step_parts(r->step, &n_parts);
    for (uint32_t i = 0; i < n_parts && n < LIMIT_PARTS; i++) {
        const struct step_part *p = &all[i];
        if (assign_expert_node(&e->assign, p->layer, p->expert) != node) {
            continue;
        }
        parts[n++] = (struct wire_part){p->layer, p->expert, p->n_rows};
        n_rows += p->n_rows;
    }
    float *rows = mem_alloc(n_rows * width * sizeof *rows);
    if (!rows) return error_set(err, ST_NO_MEMORY, "rows for other experts");
    size_t at = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        const struct step_part *p = &all[i];
        if (assign_expert_node(&e->assign, p->layer, p->expert) != node) {
            continue;
        }
        memcpy(rows + at * width, p->x, p->n_rows * width * sizeof *rows);
        at += p->n_rows;
    }
    struct wire_message m = {.kind = WIRE_DISPATCH};
    m.exchange = (struct wire_exchange){.epoch = s->epoch,
                                        .step = s->step,
                                        .node = e->self,
                                        .serial = r->serial,
                                        .n_parts = n,
                                        .parts = parts,
                                        .width = (uint32_t)width};
    emit(e, node, false, s->epoch, &m, rows, n_rows * width * sizeof *rows);
    return ST_OK;
}

static enum status dispatch(struct exec *e, struct run *r, struct error *err)
{
    /* unique in the step: a step comes to a shard in several stages */
    r->serial = (r->message.step.stage << 16) | (step_layer(r->step) + 1);
    uint32_t n_parts, done[LIMIT_NODES], n_done = 0;
    const struct step_part *parts = step_parts(r->step, &n_parts);
    for (uint32_t i = 0; i < n_parts; i++) {
        const uint32_t node =
            assign_expert_node(&e->assign, parts[i].layer, parts[i].expert);
        uint32_t j = 0;
        while (j < n_done && done[j] != node) j++;
        if (j < n_done || n_done == LIMIT_NODES) continue;
        done[n_done++] = node;
        const enum status st = dispatch_to(e, r, node, err);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

/* -------------------------------------------------------- leaving */

static enum status send_result(struct exec *e, struct run *r, struct error *err)
{
    const struct wire_step *s = &r->message.step;
    struct wire_message m = {.kind = WIRE_RESULT};
    m.result =
        (struct wire_result){.epoch = s->epoch,
                             .step = s->step,
                             .n_want = s->n_want,
                             .n_vocab = e->shard->model.n_vocab,
                             .compute_ns = s->compute_ns + r->compute_ns};
    float *whole = NULL;
    size_t whole_bytes = 0;
    enum status st = ST_OK;
    if (s->n_want != 0) {
        m.result.rows = mem_zalloc_array(s->n_want, sizeof *m.result.rows);
        st = m.result.rows
                 ? result_scan(&m.result, r->step, e->shard, s, e->part, &whole,
                               &whole_bytes, err)
                 : error_set(err, ST_NO_MEMORY, "result of %u rows", s->n_want);
    }
    if (st == ST_OK) {
        emit(e, EXEC_TO_COORDINATOR, false, s->epoch, &m, whole, whole_bytes);
    } else {
        mem_free(whole);
    }
    mem_free(m.result.rows);
    return st;
}

/* On to the next stage: another worker, or this one again. */
static enum status send_on(struct exec *e, struct run *r, struct error *err)
{
    struct wire_message m = r->message;
    m.step.stage++;
    m.step.compute_ns += r->compute_ns;
    const size_t bytes =
        (size_t)m.step.n_rows * e->shard->model.n_embd * sizeof(float);
    float *x = NULL;
    m.step.width = m.step.n_rows ? e->shard->model.n_embd : 0;
    if (bytes != 0) {
        x = copy_floats(step_x(r->step), bytes);
        if (!x) return error_set(err, ST_NO_MEMORY, "rows for the next stage");
    }
    const uint32_t node = m.step.stages[m.step.stage].node;
    emit(e, node, false, m.step.epoch, &m, x, bytes);
    return ST_OK;
}

static void finish_run(struct exec *e, struct run *r)
{
    struct error err = {0};
    const struct wire_step *s = &r->message.step;
    trace_step(e->trace, "end", s);
    const bool last = s->stage + 1 == s->n_stages;
    const enum status st = last ? send_result(e, r, &err) : send_on(e, r, &err);
    if (st != ST_OK)
        fail_run(e, r, &err);
    else
        run_free(e, r);
}

static void advance_run(struct exec *e, struct run *r)
{
    const uint64_t start = clock_now_ns();
    struct error err = {0};
    enum status st = ST_OK;
    while (st == ST_OK) {
        r->state = step_run_to(r->step, limit_of(e, r));
        if (r->state != STEP_DISPATCH) break;
        st = dispatch(e, r, &err);
    }
    r->compute_ns += clock_now_ns() - start;
    atomic_fetch_add(&e->progress, 1);
    if (st != ST_OK) fail_run(e, r, &err);
}

static void advance_each(struct exec *e)
{
    for (struct run *r = e->first, *next; r; r = next) {
        next = r->next;
        if (!r->begun) {
            /* cache operations are applied in the order of arrival */
            for (uint32_t i = 0; i < e->n_steps && !r->step; i++) {
                if (e->step_used[i]) continue;
                e->step_used[i] = true;
                r->step = e->steps[i];
            }
            if (!r->step) break;
            struct error err = {0};
            if (begin_run(e, r, &err) != ST_OK) {
                fail_run(e, r, &err);
                continue;
            }
        }
        if (r->state == STEP_PAUSED || r->state == STEP_WAIT) {
            advance_run(e, r);
        }
    }
}

/* What leaves makes room for runs that found all steps taken. */
static void advance_runs(struct exec *e)
{
    bool left = true;
    while (left) {
        advance_each(e);
        left = false;
        while (e->first && e->first->begun && e->first->state == STEP_DONE) {
            finish_run(e, e->first);
            left = true;
        }
    }
}

/* ------------------------------------------------------- messages */

static void take_step(struct exec *e, struct job *job)
{
    struct error err = {0};
    const struct wire_step *s = &job->message.step;
    const struct wire_stage *stage = &s->stages[s->stage];
    if (!e->shard || stage->node != e->self ||
        (s->width != 0 && s->width != e->shard->model.n_embd) ||
        (stage->head && s->n_want > e->shard->options.outputs_max)) {
        error_set(&err, ST_INVALID, "a step that is not for this worker");
        emit_failure(e, WIRE_STEP_FAILED, s->epoch, s->step, &err);
        return;
    }
    struct run *r = mem_zalloc(sizeof *r);
    if (!r) { /* what it does to the caches is lost: so are they */
        error_set(&err, ST_NO_MEMORY, "step");
        emit_failure(e, WIRE_FAILURE, s->epoch, s->step, &err);
        return;
    }
    r->message = job->message;
    job->message = (struct wire_message){.kind = WIRE_BYE};
    r->x = job->tensor;
    job->tensor = NULL;
    struct run **at = &e->first;
    while (*at) at = &(*at)->next;
    *at = r;
}

/* Our experts for somebody else's rows. */
static void serve_experts(struct exec *e, struct job *job)
{
    const struct wire_exchange *x = &job->message.exchange;
    struct error err = {0};
    if (!e->shard || x->width != e->shard->model.n_embd) return;
    float *y = mem_alloc(job->tensor_bytes);
    enum status st =
        y ? ST_OK : error_set(&err, ST_NO_MEMORY, "rows of experts");
    size_t at = 0;
    for (uint32_t i = 0; st == ST_OK && i < x->n_parts; i++) {
        const struct wire_part *p = &x->parts[i];
        st = step_expert(e->server, p->layer, p->expert, p->n_rows,
                         job->tensor + at, y + at, &err);
        at += (size_t)p->n_rows * x->width;
    }
    atomic_fetch_add(&e->progress, 1);
    if (st != ST_OK) {
        mem_free(y);
        emit_failure(e, WIRE_STEP_FAILED, x->epoch, x->step, &err);
        return;
    }
    struct wire_message m = {.kind = WIRE_PARTIALS, .exchange = *x};
    m.exchange.node = e->self;
    emit(e, x->node, false, x->epoch, &m, y, job->tensor_bytes);
}

static void take_partials(struct exec *e, struct job *job)
{
    const struct wire_exchange *x = &job->message.exchange;
    struct run *r = e->first;
    while (r && (r->message.step.step != x->step || r->serial != x->serial ||
                 r->state != STEP_WAIT)) {
        r = r->next;
    }
    if (!r || x->width != e->shard->model.n_embd) return; /* late: no harm */
    uint32_t n;
    const struct step_part *parts = step_parts(r->step, &n);
    size_t at = 0;
    for (uint32_t i = 0; i < x->n_parts; i++) {
        const struct wire_part *p = &x->parts[i];
        for (uint32_t j = 0; j < n; j++) {
            if (parts[j].layer != p->layer || parts[j].expert != p->expert ||
                parts[j].n_rows != p->n_rows) {
                continue;
            }
            const enum status st = step_supply(r->step, j, job->tensor + at);
            (void)st; /* a second answer changes nothing */
        }
        at += (size_t)p->n_rows * x->width;
    }
}

static void take_message(struct exec *e, struct job *job)
{
    uint64_t epoch = 0;
    if (job->message.kind == WIRE_STEP)
        epoch = job->message.step.epoch;
    else
        epoch = job->message.exchange.epoch;
    if (epoch != atomic_load(&e->epoch)) return; /* of another time */
    if (job->message.kind == WIRE_STEP)
        take_step(e, job);
    else if (job->message.kind == WIRE_DISPATCH)
        serve_experts(e, job);
    else if (job->message.kind == WIRE_PARTIALS)
        take_partials(e, job);
}

/* -------------------------------------------------------------- load */

static void unload(struct exec *e)
{
    while (e->first) run_free(e, e->first);
    for (uint32_t i = 0; e->steps && i < e->n_steps; i++)
        step_free(e->steps[i]);
    step_free(e->server);
    shard_free(e->shard);
    mem_free(e->steps);
    mem_free(e->step_used);
    mem_free(e->part);
    if (e->assigned) {
        struct wire_message m = {.kind = WIRE_ASSIGN, .assign = e->assign};
        wire_message_fini(&m);
    }
    e->steps = NULL;
    e->step_used = NULL;
    e->server = NULL;
    e->shard = NULL;
    e->part = NULL;
    e->n_steps = 0;
    e->assigned = false;
}

/* False, which ends the load, when its epoch is over. */
static bool on_loaded_bytes(void *arg, uint64_t done, uint64_t total)
{
    struct exec *e = arg;
    struct wire_message m = {.kind = WIRE_PROGRESS};
    m.progress = (struct wire_progress){
        .epoch = e->assign.epoch, .done_bytes = done, .total_bytes = total};
    snprintf(m.progress.what, sizeof m.progress.what, "loading");
    atomic_fetch_add(&e->progress, 1);
    emit(e, EXEC_TO_COORDINATOR, true, e->assign.epoch, &m, NULL, 0);
    return atomic_load(&e->epoch) == e->assign.epoch;
}

static struct shard_options options_of(struct exec *e)
{
    const struct wire_assign *a = &e->assign;
    struct shard_options o = e->o.shard;
    o.kv_type = (enum kv_type)a->kv_type;
    o.n_ctx = a->n_ctx;
    o.n_seq_max = a->n_seq_max;
    o.n_pages = a->n_pages;
    o.rows_max = a->rows_max;
    o.outputs_max = a->outputs_max;
    o.progress = on_loaded_bytes;
    o.progress_arg = e;
    return o;
}

static enum status make_steps(struct exec *e, struct error *err)
{
    e->n_steps = e->assign.n_steps;
    e->steps = mem_zalloc_array(e->n_steps, sizeof(struct step *));
    e->step_used = mem_zalloc_array(e->n_steps, sizeof *e->step_used);
    e->part = mem_alloc(sizeof *e->part);
    if (!e->steps || !e->step_used || !e->part) {
        return error_set(err, ST_NO_MEMORY, "steps");
    }
    enum status st = step_create(&e->server, e->shard, err);
    for (uint32_t i = 0; st == ST_OK && i < e->n_steps; i++) {
        st = step_create(&e->steps[i], e->shard, err);
    }
    return st;
}

static enum status load_shard(struct exec *e, const struct exec_load *load,
                              struct error *err)
{
    const struct wire_assign *a = &e->assign;
    struct gguf *gguf = NULL;
    struct model model = {0};
    enum status st =
        gguf_open_header(&gguf, a->model_header, a->model_header_bytes,
                         load->read, load->read_arg, err);
    if (st != ST_OK) return st;
    st = model_describe(&model, gguf, err);
    if (st != ST_OK) {
        gguf_close(gguf);
        return st;
    }
    struct shard_spec spec = {0};
    st = assign_spec(&spec, a, &model, err);
    if (st == ST_OK) {
        const struct shard_options o = options_of(e);
        st = shard_create(&e->shard, &model, &spec, &o, err);
    }
    mem_free(spec.layers);
    model_fini(&model);
    gguf_close(gguf); /* nothing is read from here on */
    return st == ST_OK ? make_steps(e, err) : st;
}

static uint64_t peak_bytes(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (uint64_t)u.ru_maxrss * 1024 : 0;
}

static void load_done(struct job *job)
{
    if (job->load.done) job->load.done(job->load.read_arg);
    job->load.done = NULL;
}

static void load(struct exec *e, struct job *job)
{
    unload(e);
    e->assign = job->load.assign;
    job->load.assign = (struct wire_assign){0};
    e->assigned = true;
    e->self = job->load.self;
    struct error err = {0};
    const uint64_t epoch = e->assign.epoch;
    const enum status st =
        epoch == atomic_load(&e->epoch)
            ? load_shard(e, &job->load, &err)
            : error_set(&err, ST_INTERRUPTED, "another assignment came");
    e->assign.model_header = NULL; /* the job's, as is what read needs */
    load_done(job);
    if (st != ST_OK) {
        unload(e);
        emit_failure(e, WIRE_FAILURE, epoch, 0, &err);
        return;
    }
    struct wire_message m = {.kind = WIRE_READY};
    m.ready = (struct wire_ready){.epoch = epoch,
                                  .weight_bytes = e->shard->weight_bytes,
                                  .peak_bytes = peak_bytes()};
    emit(e, EXEC_TO_COORDINATOR, true, epoch, &m, NULL, 0);
}

/* ------------------------------------------------------------ thread */

static void job_free(struct job *job)
{
    if (job->kind == JOB_MESSAGE) wire_message_fini(&job->message);
    if (job->kind == JOB_LOAD) {
        struct wire_message m = {.kind = WIRE_ASSIGN,
                                 .assign = job->load.assign};
        wire_message_fini(&m);
        load_done(job);
    }
    mem_free(job->model_header);
    mem_free(job->tensor);
    mem_free(job);
}

static void drop_old_runs(struct exec *e)
{
    const uint64_t epoch = atomic_load(&e->epoch);
    for (struct run *r = e->first, *next; r; r = next) {
        next = r->next;
        if (r->message.step.epoch != epoch) run_free(e, r);
    }
}

static void probe(struct exec *e, uint32_t types)
{
    struct wire_message m = {.kind = WIRE_REPORT};
    probe_measure(&e->o.shard, types, &m.report);
    emit(e, EXEC_TO_COORDINATOR, true, 0, &m, NULL, 0);
}

static void *exec_main(void *arg)
{
    struct exec *e = arg;
    for (;;) {
        struct job *job = ring_wait(e->in, IDLE_WAIT_MS);
        drop_old_runs(e);
        if (!job) continue;
        atomic_store(&e->busy, true);
        const enum job_kind kind = job->kind;
        if (kind == JOB_PROBE)
            probe(e, job->types);
        else if (kind == JOB_LOAD)
            load(e, job);
        else if (kind == JOB_MESSAGE)
            take_message(e, job);
        job_free(job);
        if (kind == JOB_STOP) break;
        advance_runs(e);
        atomic_store(&e->busy, e->first != NULL);
    }
    unload(e);
    return NULL;
}

enum status exec_create(struct exec **out, const struct exec_options *o,
                        struct error *err)
{
    struct exec *e = mem_zalloc(sizeof *e);
    if (!e) return error_set(err, ST_NO_MEMORY, "compute thread");
    e->o = *o;
    enum status st = ring_create(&e->in, RING_SIZE);
    if (st == ST_OK) st = ring_create(&e->out, 4 * RING_SIZE);
    if (st != ST_OK) error_set(err, st, "queues of the compute thread");
    if (st == ST_OK && o->trace_path) {
        e->trace = fopen(o->trace_path, "w");
        if (!e->trace) {
            st = error_set(err, ST_IO, "cannot write %s", o->trace_path);
        }
    }
    if (st == ST_OK && pthread_create(&e->thread, NULL, exec_main, e) != 0) {
        st = error_set(err, ST_NO_MEMORY, "the system gives no thread");
    }
    if (st != ST_OK) {
        if (e->trace) fclose(e->trace);
        ring_free(e->in);
        ring_free(e->out);
        mem_free(e);
        return st;
    }
    *out = e;
    return ST_OK;
}

void exec_free(struct exec *e)
{
    if (!e) return;
    struct job *stop = NULL;
    while (!stop) stop = mem_zalloc(sizeof *stop);
    stop->kind = JOB_STOP;
    while (!ring_push_front(e->in, stop)) { /* full of what will be dropped */
        struct job *job = ring_pop(e->in);
        if (job) job_free(job);
    }
    pthread_join(e->thread, NULL);
    void *item;
    while ((item = ring_pop(e->in)) != NULL) job_free(item);
    while ((item = ring_pop(e->out)) != NULL) exec_out_free(item);
    ring_free(e->in);
    ring_free(e->out);
    if (e->trace) fclose(e->trace);
    mem_free(e);
}

static bool submit(struct exec *e, struct job *job, bool front)
{
    const bool ok = front ? ring_push_front(e->in, job) : ring_push(e->in, job);
    if (!ok) mem_free(job);
    return ok;
}

bool exec_probe(struct exec *e, uint32_t types)
{
    struct job *job = mem_zalloc(sizeof *job);
    if (!job) return false;
    job->kind = JOB_PROBE;
    job->types = types;
    return submit(e, job, false);
}

bool exec_load(struct exec *e, struct exec_load *load)
{
    struct job *job = mem_zalloc(sizeof *job);
    if (!job) return false;
    const size_t n = load->assign.model_header_bytes;
    uint8_t *header = mem_alloc(n);
    if (!header) {
        mem_free(job);
        return false;
    }
    memcpy(header, load->assign.model_header, n);
    job->kind = JOB_LOAD;
    job->load = *load;
    job->model_header = header;
    job->load.assign.model_header = header;
    if (!submit(e, job, false)) {
        mem_free(header);
        return false;
    }
    *load = (struct exec_load){0};
    return true;
}

void exec_set_epoch(struct exec *e, uint64_t epoch)
{
    atomic_store(&e->epoch, epoch);
}

bool exec_message(struct exec *e, struct wire_message *m, const void *tensor,
                  size_t tensor_bytes)
{
    struct job *job = mem_zalloc(sizeof *job);
    float *copy = tensor_bytes ? mem_alloc(tensor_bytes) : NULL;
    if (!job || (tensor_bytes && !copy)) {
        mem_free(job);
        mem_free(copy);
        return false;
    }
    if (copy) memcpy(copy, tensor, tensor_bytes);
    job->kind = JOB_MESSAGE;
    job->message = *m;
    job->tensor = copy;
    job->tensor_bytes = tensor_bytes;
    /* others wait for our experts: those go first */
    if (!submit(e, job, m->kind == WIRE_DISPATCH)) {
        mem_free(copy);
        return false;
    }
    *m = (struct wire_message){.kind = WIRE_BYE};
    return true;
}

struct exec_out *exec_take(struct exec *e)
{
    return ring_pop(e->out);
}

uint64_t exec_progress(const struct exec *e, bool *busy)
{
    *busy = atomic_load(&e->busy);
    return atomic_load(&e->progress);
}

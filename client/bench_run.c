/* bench_run.c - what potluck bench measures.
 *
 * prefill: a fresh prompt on an empty cache. decode: steps of some streams at
 * some depth; the positions before them are stored into the cache without
 * being computed, as how long a step takes does not depend on their values.
 * One warm-up of each counts for nothing.
 *
 * Bandwidth is measured before the model is loaded and after it was freed, the
 * better one counts, with a buffer of no more than the model takes: so
 * measuring adds nothing to
 * the memory that the plan promises (tests/golden/test_memory.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/bench.h"
#include "common/clock.h"
#include "common/rng.h"
#include "engine/bandwidth.h"

#define READ_BYTES_MAX (256u << 20) /* past any cache of an ordinary PC */
#define READ_BYTES_MIN (48u << 20)  /* past most, where the model is small */
#define READ_TIMES     15
#define WARM_TOKENS    128 /* a prompt to warm up with, at most */
#define WARM_STEPS     4

/* One level while it is measured. */
struct bench_work {
    struct bench *b;
    struct bench_level *level;
    struct runner r;
    struct rng rng;
    int32_t *prompt;            /* [longest] */
    float *values;              /* of cached rows, [VALUES + one row] */
    uint64_t dense_bytes;       /* weights of a step, experts apart */
    uint32_t n_phases, n_begun; /* for the line of progress */
    struct progress progress;
    char label[64];
    double rates[BENCH_RUNS_MAX];
};

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct bench_rate rate_of(double *v, uint32_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return (struct bench_rate){.median = n % 2 ? v[n / 2]
                                               : (v[n / 2 - 1] + v[n / 2]) / 2,
                               .min = v[0],
                               .max = v[n - 1]};
}

static void begin_phase(struct bench_work *w, const char *what, uint32_t a,
                        uint32_t streams)
{
    progress_end(&w->progress);
    w->n_begun++;
    const int n =
        snprintf(w->label, sizeof w->label, "%s, %u of %u: %s %u",
                 isa_name(w->level->isa), w->n_begun, w->n_phases, what, a);
    if (streams > 1) {
        snprintf(w->label + n, sizeof w->label - (size_t)n, ", %u streams",
                 streams);
    }
    w->progress = (struct progress){.label = w->label, .unit = "tokens"};
}

/* --------------------------------------------------- read bandwidth */

static enum status measure_bandwidth(struct bench *b, uint64_t planned,
                                     struct error *err)
{
    const uint32_t n_threads = b->model.shard.n_threads;
    size_t bytes = READ_BYTES_MAX;
    if (planned < bytes) bytes = (size_t)planned;
    if (bytes < READ_BYTES_MIN) bytes = READ_BYTES_MIN;
    struct pool *pool = NULL;
    enum status st = pool_create(&pool, n_threads, err);
    if (st != ST_OK) return st;
    void *data = mem_alloc(bytes);
    if (!data) {
        st = error_set(err, ST_NO_MEMORY,
                       "no %zu bytes to measure the memory's bandwidth", bytes);
    } else {
        memset(data, 1, bytes);
        const double rate = bandwidth_read(pool, data, bytes, READ_TIMES);
        if (rate > b->read_bandwidth) b->read_bandwidth = rate;
    }
    mem_free(data);
    pool_free(pool);
    return st;
}

/* ----------------------------------------------------------- prefill */

static enum status ignore_row(void *arg, size_t index, float *logits,
                              struct error *err)
{
    (void)arg;
    (void)index;
    (void)logits;
    (void)err;
    return ST_OK;
}

/* Progress of all runs of a phase together. */
struct runs_progress {
    struct progress *p;
    uint64_t before, total;
};

static bool show_run(void *arg, uint64_t done, uint64_t total)
{
    const struct runs_progress *p = arg;
    (void)total; /* of this run */
    return progress_show(p->p, p->before + done, p->total);
}

static enum status prefill(struct bench_work *w, uint32_t n,
                           struct bench_prefill *out, struct error *err)
{
    const uint32_t n_runs = w->b->n_runs;
    struct runs_progress p = {.p = &w->progress, .total = (uint64_t)n * n_runs};
    begin_phase(w, "prompts of", n, 1);
    w->r.progress = show_run;
    w->r.progress_arg = &p;
    enum status st = ST_OK;
    for (uint32_t run = 0; st == ST_OK && run <= n_runs; run++) {
        const uint32_t len = run == 0 && n > WARM_TOKENS ? WARM_TOKENS : n;
        p.before = run == 0 ? 0 : (uint64_t)n * (run - 1);
        const uint64_t start = clock_now_ns();
        st =
            runner_feed(&w->r, 0, w->prompt, len, false, ignore_row, NULL, err);
        const uint64_t ns = clock_now_ns() - start;
        if (run != 0) w->rates[run - 1] = n * 1e9 / (double)ns;
        runner_drop(&w->r, 0);
    }
    w->r.progress = NULL;
    if (st == ST_OK) {
        *out = (struct bench_prefill){n, rate_of(w->rates, n_runs)};
    }
    return st;
}

/* ------------------------------------------------------------ decode */

#define VALUES 61 /* so many different rows, no multiple of a page */

/* `depth` positions of stream seq, as if they had been computed. */
static enum status fill_cache(struct bench_work *w, uint32_t seq,
                              uint32_t depth, struct error *err)
{
    struct kv *kv = w->r.shard->kv;
    if (depth == 0) return ST_OK;
    const enum status st = kv_extend(kv, seq, 0, depth, err);
    if (st != ST_OK) return st;
    const uint32_t handle = kv_find(kv, seq);
    for (uint32_t pos = 0; pos < depth; pos++) {
        for (uint32_t l = 0; l < w->r.model.n_layer; l++) {
            const float *row = w->values + (pos + 7 * l + seq) % VALUES;
            kv_store(kv, w->r.shard->vec, handle, l, pos, row, row);
        }
        if (pos % KV_PAGE == 0 && interrupted()) {
            return error_set(err, ST_INTERRUPTED, "interrupted");
        }
    }
    return ST_OK;
}

static enum status one_step(struct bench_work *w, uint32_t pos,
                            uint32_t streams, struct error *err)
{
    struct step_row rows[STEP_ROWS_MAX];
    for (uint32_t i = 0; i < streams; i++) {
        rows[i] = (struct step_row){
            .seq = i,
            .pos = pos,
            .token = (int32_t)rng_below(&w->rng, w->r.model.n_vocab),
            .want = true};
    }
    const struct step_input in = {.rows = rows,
                                  .n_rows = streams,
                                  .embed = true,
                                  .layer_end = w->r.model.n_layer,
                                  .head = true};
    const enum status st = step_begin(w->r.step, &in, err);
    if (st != ST_OK) return st;
    if (step_run(w->r.step) != STEP_DONE) {
        return error_set(err, ST_INVALID, "the step did not end");
    }
    return ST_OK;
}

/* Back to the depth, for the next run. */
static enum status rewind_streams(struct bench_work *w, uint32_t streams,
                                  uint32_t depth, struct error *err)
{
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < streams; i++) {
        const struct kv_op op = {
            .kind = depth ? KV_OP_TRUNCATE : KV_OP_FREE, .seq = i, .n = depth};
        st = kv_apply(w->r.shard->kv, &op, err);
    }
    return st;
}

/* Bytes of keys and values that one step reads, over n steps from depth on. */
static double kv_step_bytes(const struct bench_work *w, uint32_t depth,
                            uint32_t streams)
{
    const struct model *m = &w->r.model;
    const double row =
        2.0 * m->n_head_kv *
        (double)kv_row_bytes(w->r.shard->options.kv_type, m->head_dim);
    const double length = depth + (w->b->n_steps + 1) / 2.0;
    double positions = 0;
    for (uint32_t l = 0; l < m->n_layer; l++) {
        const uint32_t window = w->r.shard->layers[l].window;
        positions += window != 0 && window < length ? window : length;
    }
    return positions * row * streams;
}

static enum status decode_runs(struct bench_work *w, uint32_t depth,
                               uint32_t streams, struct error *err)
{
    const uint32_t n_runs = w->b->n_runs, n = w->b->n_steps;
    const uint64_t total = (uint64_t)n * streams * n_runs;
    uint64_t done = 0;
    for (uint32_t run = 0; run <= n_runs; run++) {
        const uint32_t steps = run == 0 && n > WARM_STEPS ? WARM_STEPS : n;
        const uint64_t start = clock_now_ns();
        for (uint32_t i = 0; i < steps; i++) {
            const enum status st = one_step(w, depth + i, streams, err);
            if (st != ST_OK) return st;
            if (run != 0) done += streams;
            if (!progress_show(&w->progress, done, total)) {
                return error_set(err, ST_INTERRUPTED, "interrupted");
            }
        }
        const uint64_t ns = clock_now_ns() - start;
        if (run != 0) {
            w->rates[run - 1] = (double)steps * streams * 1e9 / (double)ns;
        }
        const enum status st = rewind_streams(w, streams, depth, err);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

static enum status decode(struct bench_work *w, uint32_t depth,
                          uint32_t streams, struct bench_decode *out,
                          struct error *err)
{
    begin_phase(w, "decode at", depth, streams);
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < streams; i++) {
        st = fill_cache(w, i, depth, err);
    }
    const uint64_t before = step_expert_bytes(w->r.step);
    if (st == ST_OK) st = decode_runs(w, depth, streams, err);
    for (uint32_t i = 0; i < streams; i++) runner_drop(&w->r, i);
    if (st != ST_OK) return st;
    const uint32_t n = w->b->n_steps;
    const uint32_t warm = n > WARM_STEPS ? WARM_STEPS : n;
    const double n_steps = (double)n * w->b->n_runs + warm;
    const double experts =
        (double)(step_expert_bytes(w->r.step) - before) / n_steps;
    *out = (struct bench_decode){
        .depth = depth,
        .streams = streams,
        .rate = rate_of(w->rates, w->b->n_runs),
        .weight_bytes = (double)w->dense_bytes + experts,
        .kv_bytes = kv_step_bytes(w, depth, streams),
    };
    return ST_OK;
}

/* ------------------------------------------------------------ levels */

static uint32_t largest(const struct bench_list *l)
{
    uint32_t max = 0;
    for (uint32_t i = 0; i < l->n; i++) max = l->v[i] > max ? l->v[i] : max;
    return max;
}

/* The contexts that the runs need, and room for all their streams. */
static enum status set_sizes(struct bench *b, struct error *err)
{
    struct shard_options *o = &b->model.shard;
    const uint32_t prompt = largest(&b->prompts), depth = largest(&b->depths);
    const uint32_t streams = largest(&b->streams);
    const uint32_t longest = depth + b->n_steps; /* no overflow: options */
    const uint32_t need = prompt > longest ? prompt : longest;
    if (o->n_ctx == 0) {
        const uint32_t all = streams * kv_pages(longest);
        o->n_ctx = need;
        o->n_pages = all > kv_pages(prompt) ? all : kv_pages(prompt);
    }
    if (o->n_ctx < need) {
        return error_set(err, ST_USAGE,
                         "-p %u, -n %u and a depth of %u need a context of "
                         "%u: --ctx %u is too short",
                         prompt, b->n_steps, depth, need, o->n_ctx);
    }
    o->n_seq_max = streams;
    o->outputs_max = streams;
    if (o->rows_max < streams) o->rows_max = streams;
    return ST_OK;
}

/* The plan, from the file's header: bandwidth is measured before loading. */
static enum status look(struct bench *b, struct shard_bytes *plan,
                        struct error *err)
{
    struct gguf *g = NULL;
    struct model model = {0};
    enum status st = gguf_open(&g, b->path, err);
    if (st != ST_OK) return st;
    st = model_describe(&model, g, err);
    if (st == ST_OK && b->model.shard.n_ctx > model.n_ctx) {
        st = error_set(err, ST_USAGE,
                       "-p %u and -n %u at a depth of %u need a context of "
                       "%u: this model allows %u positions",
                       largest(&b->prompts), b->n_steps, largest(&b->depths),
                       b->model.shard.n_ctx, model.n_ctx);
    }
    if (st == ST_OK) {
        b->active_bytes = model_active_bytes(&model);
        st = runner_plan(plan, &model, &b->model.shard, err);
    }
    model_fini(&model);
    gguf_close(g);
    return st == ST_OK ? ST_OK : error_prefix(err, st, "%s", b->path);
}

/* Experts are counted as they are used. */
static uint64_t dense_bytes(const struct shard *s, uint64_t active)
{
    for (uint32_t i = 0; s->model.n_expert != 0 && i < s->model.n_layer; i++) {
        const struct shard_expert *e = &s->layers[i].experts[0];
        active -= s->model.n_expert_used *
                  (matrix_size(&e->gate) + matrix_size(&e->up) +
                   matrix_size(&e->down));
    }
    return active;
}

static enum status make_input(struct bench_work *w, struct error *err)
{
    const uint32_t n = largest(&w->b->prompts);
    const size_t row = (size_t)w->r.model.n_head_kv * w->r.model.head_dim;
    w->rng = (struct rng){1};
    w->prompt = mem_zalloc_array(n, sizeof *w->prompt);
    w->values = mem_zalloc_array(row + VALUES, sizeof *w->values);
    if (!w->prompt || !w->values) {
        return error_set(err, ST_NO_MEMORY, "prompt");
    }
    for (uint32_t i = 0; i < n; i++) {
        w->prompt[i] = (int32_t)rng_below(&w->rng, w->r.model.n_vocab);
    }
    for (size_t i = 0; i < row + VALUES; i++) {
        w->values[i] = (float)(2 * rng_unit(rng_u64(&w->rng)) - 1);
    }
    return ST_OK;
}

static enum status measure_all(struct bench_work *w, struct error *err)
{
    const struct bench *b = w->b;
    struct bench_level *l = w->level;
    enum status st = make_input(w, err);
    w->n_phases = b->prompts.n + b->depths.n * b->streams.n;
    for (uint32_t i = 0; st == ST_OK && i < b->prompts.n; i++) {
        st = prefill(w, b->prompts.v[i], &l->prefill[i], err);
    }
    for (uint32_t d = 0; st == ST_OK && d < b->depths.n; d++) {
        for (uint32_t i = 0; st == ST_OK && i < b->streams.n; i++) {
            st = decode(w, b->depths.v[d], b->streams.v[i],
                        &l->decode[l->n_decode++], err);
        }
    }
    progress_end(&w->progress);
    mem_free(w->values);
    mem_free(w->prompt);
    return st;
}

static enum status run_level(struct bench *b, struct bench_level *l,
                             struct error *err)
{
    struct shard_options *o = &b->model.shard;
    struct bench_work w = {.b = b, .level = l};
    o->isa = l->isa;
    enum status st = look(b, &l->plan, err);
    if (st != ST_OK) return st;
    const bool fits = o->memory_max == 0 || l->plan.total <= o->memory_max;
    if (b->read_bandwidth == 0 && fits) {
        st = measure_bandwidth(b, l->plan.total, err);
        if (st != ST_OK) return st;
    }
    w.progress = (struct progress){.label = "loading"};
    o->progress = progress_show;
    o->progress_arg = &w.progress;
    const uint64_t start = clock_now_ns();
    st = runner_open(&w.r, b->path, o, false, err);
    progress_end(&w.progress);
    if (st != ST_OK) return st;
    l->load_s = (double)(clock_now_ns() - start) / 1e9;
    l->n_panels = panels_of(w.r.shard, l->panels);
    w.dense_bytes = dense_bytes(w.r.shard, b->active_bytes);
    st = measure_all(&w, err);
    runner_close(&w.r);
    /* once more, as what else a machine does comes and goes */
    return st == ST_OK ? measure_bandwidth(b, l->plan.total, err) : st;
}

static void set_shares(const struct bench *b, struct bench_level *l)
{
    for (uint32_t i = 0; i < l->n_decode; i++) {
        struct bench_decode *d = &l->decode[i];
        d->share = d->rate.median / d->streams *
                   (d->weight_bytes + d->kv_bytes) / b->read_bandwidth;
    }
}

enum status bench_run(struct bench *b, struct error *err)
{
    enum status st = set_sizes(b, err);
    for (uint32_t i = 0; st == ST_OK && i < b->n_isa; i++) {
        b->levels[i] = (struct bench_level){.isa = b->isa[i]};
        st = run_level(b, &b->levels[i], err);
    }
    for (uint32_t i = 0; st == ST_OK && i < b->n_isa; i++) {
        set_shares(b, &b->levels[i]);
    }
    return st;
}

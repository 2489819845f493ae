/* Events in order of time, and a run from the first to the last. */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim_worker.h"

void sim_note(struct sim *s, const char *fmt, ...)
{
    struct sim_note *n = &s->trace[s->n_trace++ % SIM_TRACE];
    va_list ap;
    n->at = s->now;
    va_start(ap, fmt);
    vsnprintf(n->text, sizeof n->text, fmt, ap);
    va_end(ap);
    if (s->verbose) {
        fprintf(stderr, "%12.6f  %s\n", (double)n->at / 1e9, n->text);
    }
}

void sim_fail(struct sim *s, const char *fmt, ...)
{
    if (s->failed) return;
    s->failed = true;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->why, sizeof s->why, fmt, ap);
    va_end(ap);
    sim_note(s, "FAILED: %s", s->why);
}

void sim_report(const struct sim *s)
{
    fprintf(stderr, "seed %llu fails at %.6f s: %s\n",
            (unsigned long long)s->o.seed, (double)s->now / 1e9, s->why);
    const uint64_t first = s->n_trace > SIM_TRACE ? s->n_trace - SIM_TRACE : 0;
    for (uint64_t i = first; i < s->n_trace; i++) {
        const struct sim_note *n = &s->trace[i % SIM_TRACE];
        fprintf(stderr, "%12.6f  %s\n", (double)n->at / 1e9, n->text);
    }
    fprintf(stderr, "again: SEEDS=1 FIRST=%llu make sim\n",
            (unsigned long long)s->o.seed);
}

bool sim_chance(struct sim *s, double p)
{
    return p > 0 && rng_unit(rng_u64(&s->rng)) < p;
}

uint64_t sim_between(struct sim *s, uint64_t lo, uint64_t hi)
{
    return lo + rng_below(&s->rng, hi - lo);
}

/* --------------------------------------------------------------- events */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct sim *s, struct sim_event e)
{
    if (s->n_heap == s->cap_heap) {
        const size_t cap = s->cap_heap ? 2 * s->cap_heap : 256;
        struct sim_event *heap = mem_zalloc_array(cap, sizeof *heap);
        if (!heap) {
            sim_fail(s, "no memory for events");
            return;
        }
        if (s->n_heap) memcpy(heap, s->heap, s->n_heap * sizeof *heap);
        mem_free(s->heap);
        s->heap = heap;
        s->cap_heap = cap;
    }
    size_t i = s->n_heap++;
    while (i > 0 && before(&e, &s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = e;
}

static struct sim_event pop(struct sim *s)
{
    const struct sim_event first = s->heap[0], last = s->heap[--s->n_heap];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= s->n_heap) break;
        if (c + 1 < s->n_heap && before(&s->heap[c + 1], &s->heap[c])) c++;
        if (!before(&s->heap[c], &last)) break;
        s->heap[i] = s->heap[c];
        i = c;
    }
    if (s->n_heap) s->heap[i] = last;
    return first;
}

void sim_at(struct sim *s, uint64_t at, uint32_t who,
            void (*run)(struct sim *, struct sim_event *), void *payload,
            void (*drop)(void *), uint64_t arg)
{
    push(s, (struct sim_event){.at = at,
                               .order = s->order++,
                               .who = who,
                               .life = s->life[who],
                               .run = run,
                               .drop = drop,
                               .payload = payload,
                               .arg = arg});
}

void sim_again(struct sim *s, const struct sim_event *e, uint64_t at)
{
    struct sim_event later = *e; /* its order too: nothing overtakes it */
    later.at = at;
    push(s, later);
}

static void one_event(struct sim *s)
{
    struct sim_event e = pop(s);
    if (e.at > s->now) s->now = e.at;
    if (e.life != s->life[e.who]) { /* that process is gone */
        if (e.drop) e.drop(e.payload);
        return;
    }
    if (e.who < SIM_PROCS && s->now < s->frozen_until[e.who]) {
        sim_again(s, &e, s->frozen_until[e.who]);
        return;
    }
    s->n_events++;
    e.run(s, &e);
}

void sim_run(struct sim *s, uint64_t until)
{
    while (!s->failed && s->n_heap && s->heap[0].at <= until) one_event(s);
    if (!s->failed && s->now < until) s->now = until;
}

bool sim_run_to(struct sim *s, uint64_t until, bool (*done)(struct sim *))
{
    while (!s->failed && !done(s)) {
        if (!s->n_heap || s->heap[0].at > until) return false;
        one_event(s);
    }
    return !s->failed;
}

/* ---------------------------------------------------------------- world */

static void make_links(struct sim *s)
{
    for (uint32_t a = 0; a < SIM_PROCS; a++) {
        for (uint32_t b = 0; b < a; b++) {
            uint64_t ns = 100000;
            if (!s->o.quiet_links) {
                ns = sim_chance(s, 0.1) ? sim_between(s, 1, 40) * SIM_MS
                                        : sim_between(s, 30, 2000) * 1000;
            }
            s->links[a][b].latency_ns = s->links[b][a].latency_ns = ns;
        }
    }
}

/* Bytes of everything and of nothing on one node, with the plan's options. */
static void model_bytes(const struct sim *s, uint64_t *all, uint64_t *none)
{
    const struct model *m = &s->model->model;
    struct shard_layer_spec layers[SIM_LAYERS_MAX] = {{.block = false}};
    const struct shard_spec empty = {.layers = layers};
    struct shard_spec whole;
    const struct shard_options o = {.isa = ISA_REF,
                                    .kv_type = KV_F16,
                                    .n_threads = 2,
                                    .n_ctx = 192,
                                    .n_seq_max = 32,
                                    .n_pages = kv_pages(192) * 2,
                                    .rows_max = 128,
                                    .outputs_max = 32};
    const struct shard_bytes b = shard_plan(m, &empty, &o);
    *none = b.total + 4 * b.scratch;
    *all = *none;
    if (shard_spec_whole(&whole, m, NULL) != ST_OK) return;
    const struct shard_bytes w = shard_plan(m, &whole, &o);
    *all = w.total + 4 * w.scratch;
    mem_free(whole.layers);
}

bool sim_init(struct sim *s, const struct sim_options *o,
              const struct sim_model *m)
{
    *s = (struct sim){.o = *o, .model = m, .rng = {o->seed}, .now = SIM_SECOND};
    uint64_t all, none;
    make_links(s);
    model_bytes(s, &all, &none);
    double share[SIM_PROCS], sum = 0;
    for (uint32_t i = 1; i <= o->n_workers; i++) {
        share[i] = o->quiet_links ? 1 : 0.4 + rng_unit(rng_u64(&s->rng));
        sum += share[i];
    }
    for (uint32_t i = 1; i <= o->n_workers; i++) {
        const double part = o->plenty * share[i] / sum;
        const double speed =
            o->quiet_links ? 1e6 : 1e4 * (1 + (double)sim_between(s, 0, 20));
        s->workers[i] = sim_worker_create(
            s, i, none + (uint64_t)(part * (double)(all - none)), speed);
        if (!s->workers[i]) return false;
    }
    if (!sim_core_start(s)) return false;
    for (uint32_t i = 1; i <= o->n_workers; i++) {
        sim_worker_start(s->workers[i]);
    }
    return true;
}

void sim_fini(struct sim *s)
{
    if (s->core) {
        s->failed = true; /* what comes now is no news */
        sim_core_stop(s);
    }
    while (s->n_heap) {
        struct sim_event e = pop(s);
        if (e.drop) e.drop(e.payload);
    }
    mem_free(s->heap);
    for (uint32_t i = 0; i < SIM_PROCS; i++) sim_worker_free(s->workers[i]);
    sim_requests_free(s);
}

/* ---------------------------------------------------------------- story */

static bool serves(struct sim *s)
{
    return pool_ready(s->core);
}

static bool nothing_open(struct sim *s)
{
    return s->n_open == 0;
}

static bool all_empty(struct sim *s)
{
    for (uint32_t i = 1; i <= s->o.n_workers; i++) {
        if (!sim_worker_empty(s->workers[i], s->epoch)) return false;
    }
    return true;
}

static void ends_within(struct sim *s, uint64_t ns, bool (*done)(struct sim *),
                        const char *what)
{
    if (!sim_run_to(s, s->now + ns, done) && !s->failed) {
        sim_fail(s, "%s within %.0f s: %s", what, (double)ns / 1e9,
                 pool_why_not(s->core));
    }
}

void sim_story(struct sim *s)
{
    sim_clients_start(s);
    sim_faults_start(s);
    sim_run(s, s->now + s->o.chaos_ns);
    if (s->failed) return;
    sim_faults_stop(s);
    /* holds of a minute, loads that hang for one, leases, settling */
    ends_within(s, 300 * SIM_SECOND, serves, "it does not serve again");
    ends_within(s, 300 * SIM_SECOND, nothing_open, "requests do not end");
    /* the last ones back may still change the pool; then nothing does */
    sim_run(s, s->now + 150 * SIM_SECOND);
    ends_within(s, 60 * SIM_SECOND, serves, "it does not serve in the end");
    if (s->failed) return;
    const uint64_t epoch = s->epoch;
    for (int i = 0; i < 12 && !s->failed; i++) {
        sim_submit(s, 1 + (uint32_t)sim_between(s, 0, 60),
                   1 + (uint32_t)sim_between(s, 0, 30), SIM_MUST);
    }
    ends_within(s, 120 * SIM_SECOND, nothing_open, "the last requests hang");
    ends_within(s, 20 * SIM_SECOND, all_empty, "sequences are left");
    /* whatever is in flight in vain would be overdue by then */
    if (!s->failed) sim_run(s, s->now + 60 * SIM_SECOND);
    if (!s->failed && s->epoch != epoch) {
        sim_fail(s, "the pool changes without a reason");
    }
}

/* Prompts, and what their answers must be: every token is checked against the
 * pure function as it comes. */
#include "tests/sim/sim.h"

#include <string.h>

#define PROMPT_MAX 256

struct sim_request {
    struct sim *s;
    struct sim_request *next;
    struct pool_job *job;
    struct sample_params params;
    struct sampler *sampler;
    bool must, whole, open, ended;
    int32_t prompt[PROMPT_MAX];
    uint32_t n_prompt, max_tokens, n_tokens;
    uint32_t number;
    /* the reference: all that was sampled up to now has gone through it */
    struct sim_hashes hashes;
    uint64_t x;
    uint32_t pos;
    bool saw_end;
};

static void feed(struct sim_request *r, int32_t token)
{
    const struct model *m = &r->s->model->model;
    uint64_t x = sim_embed(token, r->pos++);
    for (uint32_t l = 0; l < m->n_layer; l++) {
        x = sim_attend(&r->hashes.at[l], x, l);
        if (m->n_expert == 0) continue;
        uint32_t chosen[2];
        sim_choose(x, m->n_expert, chosen);
        const uint64_t y[2] = {sim_expert(x, l, chosen[0]),
                               sim_expert(x, l, chosen[1])};
        x = sim_combine(x, y);
    }
    r->x = x;
}

static void on_token(void *arg, int32_t id, const char *text, size_t n,
                     const float *logits)
{
    struct sim_request *r = arg;
    struct sim *s = r->s;
    (void)text, (void)n;
    struct head_result head;
    struct error err;
    if (!r->open) sim_fail(s, "request %u: a token after its end", r->number);
    const struct head_params p = sampler_head(r->sampler, r->n_tokens);
    float row[512];
    sim_head(r->x, &s->model->model, p.inv_temp, p.plain, p.seed, p.n, &head,
             row);
    int32_t want = -1;
    if (sample_next(r->sampler, r->n_tokens, &head, row, &want, &err) !=
        ST_OK) {
        sim_fail(s, "request %u: reference: %s", r->number, err.text);
        return;
    }
    if (want != id) {
        sim_fail(s, "request %u (%u of %u tokens): %d, must be %d", r->number,
                 r->n_tokens, r->max_tokens, id, want);
    }
    if (r->saw_end || r->n_tokens >= r->max_tokens) {
        sim_fail(s, "request %u: a token too many", r->number);
    }
    if (r->whole && (!logits || memcmp(logits, row, sizeof row) != 0)) {
        sim_fail(s, "request %u: its logits", r->number);
    }
    r->n_tokens++;
    r->saw_end = tokenizer_is_end(s->model->tokenizer, id);
    sampler_accept(r->sampler, id);
    feed(r, id);
}

static void close_request(struct sim_request *r)
{
    r->open = false;
    r->job = NULL;
    r->s->n_open--;
}

static bool names_worker(const char *text)
{
    return strstr(text, "pc-") != NULL ||
           strstr(text, "the pool did not begin on it") != NULL;
}

static void on_done(void *arg, const char *reason, const struct pool_usage *u,
                    const struct error *err)
{
    struct sim_request *r = arg;
    struct sim *s = r->s;
    if (!r->open || r->ended) {
        sim_fail(s, "request %u ends twice", r->number);
        return;
    }
    r->ended = true;
    close_request(r);
    if (!reason) {
        sim_note(s, "request %u: %s", r->number, err->text);
        s->n_broken++;
        if (r->must) sim_fail(s, "request %u: %s", r->number, err->text);
        if (err->status == ST_IO && !names_worker(err->text)) {
            sim_fail(s, "request %u: names nobody: %s", r->number, err->text);
        }
        return;
    }
    s->n_done++;
    const bool stop = strcmp(reason, "stop") == 0;
    const bool full = r->n_tokens == r->max_tokens ||
                      r->n_prompt + r->n_tokens > pool_context(s->core);
    if (stop ? !r->saw_end : !full) {
        sim_fail(s, "request %u: \"%s\" after %u of %u tokens", r->number,
                 reason, r->n_tokens, r->max_tokens);
    }
    if (u->n_prompt != r->n_prompt || u->n_generated != r->n_tokens) {
        sim_fail(s, "request %u: %u + %u tokens, not %u + %u", r->number,
                 u->n_prompt, u->n_generated, r->n_prompt, r->n_tokens);
    }
    sim_note(s, "request %u: %s", r->number, reason);
}

/* Of the ways to sample, one. */
static void choose_params(struct sim_request *r, bool endless)
{
    r->params = (struct sample_params){.top_p = 1, .typical_p = 1, .repeat = 1};
    r->params.seed = rng_u64(&r->s->rng);
    switch (endless ? 1 : sim_between(r->s, 0, 6)) {
    case 0:
        r->params.temperature = 0.75f;
        r->params.top_k = 5;
        break;
    case 1: /* decided in the head, which never decides to end */
        r->params.temperature = 1;
        break;
    case 2: /* not decided by the candidates: the row is asked for */
        r->params.temperature = 2;
        r->params.top_k = 100;
        break;
    case 3:
        r->whole = true;
        break;
    default:
        break; /* greedy */
    }
}

/* A request with its reference, not submitted yet. */
static struct sim_request *make_request(struct sim *s, uint32_t n_prompt,
                                        uint32_t max_tokens, enum sim_kind kind)
{
    struct sim_request *r = mem_zalloc(sizeof *r);
    struct error err;
    if (!r) return NULL;
    r->s = s;
    r->number = s->n_requests++;
    r->next = s->requests;
    s->requests = r;
    r->must = kind != SIM_MAY;
    r->n_prompt = n_prompt < PROMPT_MAX ? n_prompt : PROMPT_MAX;
    r->max_tokens = max_tokens;
    choose_params(r, kind == SIM_ENDLESS);
    for (uint32_t i = 0; i < r->n_prompt; i++) {
        r->prompt[i] = (int32_t)sim_between(s, 3, 512);
        feed(r, r->prompt[i]);
    }
    if (sampler_create(&r->sampler, &r->params, s->model->model.n_vocab,
                       &err) != ST_OK) {
        sim_fail(s, "reference: %s", err.text);
        return NULL;
    }
    for (uint32_t i = 0; i < r->n_prompt; i++) {
        sampler_accept(r->sampler, r->prompt[i]);
    }
    return r;
}

struct sim_request *sim_submit(struct sim *s, uint32_t n_prompt,
                               uint32_t max_tokens, enum sim_kind kind)
{
    struct sim_request *r = make_request(s, n_prompt, max_tokens, kind);
    struct error err;
    if (!r) return NULL;
    const struct pool_request q = {.prompt = r->prompt,
                                   .n_prompt = r->n_prompt,
                                   .max_tokens = max_tokens,
                                   .sample = r->params,
                                   .whole_rows = r->whole};
    const struct pool_events events = {
        .token = on_token, .done = on_done, .arg = r};
    r->open = true;
    s->n_open++;
    const enum status st =
        s->core ? pool_submit(s->core, &q, &events, &r->job, &err)
                : error_set(&err, ST_IO, "connection refused");
    if (st != ST_OK) {
        close_request(r);
        r->ended = true;
        s->n_refused++;
        const uint32_t n_ctx = s->core ? pool_context(s->core) : 0;
        if (st == ST_TOO_LARGE && (n_ctx == 0 || n_prompt <= n_ctx)) {
            sim_fail(s, "request %u of %u tokens: %s", r->number, n_prompt,
                     err.text);
        }
        if (r->must) sim_fail(s, "request %u: %s", r->number, err.text);
    }
    if (s->core) sim_core_settle(s);
    return r;
}

static void cancel(struct sim *s, struct sim_event *e)
{
    struct sim_request *r = e->payload;
    if (!r->open) return;
    sim_note(s, "request %u is cancelled", r->number);
    struct pool_job *job = r->job;
    close_request(r);
    s->n_cancelled++;
    pool_cancel(s->core, job);
    sim_core_settle(s);
}

static void next_request(struct sim *s, struct sim_event *e)
{
    (void)e;
    if (s->calm) return;
    /* now and then many at once */
    uint64_t n = sim_chance(s, 0.05) ? sim_between(s, 10, 40) : 1;
    while (n-- > 0 && !s->failed) {
        const uint32_t n_prompt = sim_chance(s, 0.05)
                                      ? (uint32_t)sim_between(s, 150, 230)
                                      : (uint32_t)sim_between(s, 1, 40);
        const uint32_t n_max = (uint32_t)sim_between(s, 1, 40);
        struct sim_request *r = sim_submit(s, n_prompt, n_max, SIM_MAY);
        if (r && r->open && sim_chance(s, 0.15)) {
            sim_at(s, s->now + sim_between(s, 0, 3 * SIM_SECOND), SIM_NOBODY,
                   cancel, r, NULL, 0);
        }
    }
    sim_at(s, s->now + sim_between(s, 1, 2 * SIM_SECOND), SIM_NOBODY,
           next_request, NULL, NULL, 0);
}

void sim_clients_start(struct sim *s)
{
    for (uint32_t i = 0; i < s->o.n_clients; i++) {
        sim_at(s, s->now + sim_between(s, 0, 5 * SIM_SECOND), SIM_NOBODY,
               next_request, NULL, NULL, 0);
    }
}

void sim_requests_forget(struct sim *s)
{
    for (struct sim_request *r = s->requests; r; r = r->next) {
        if (!r->open) continue;
        close_request(r);
        s->n_forgotten++;
        if (r->must) sim_fail(s, "request %u is forgotten", r->number);
    }
}

void sim_requests_free(struct sim *s)
{
    while (s->requests) {
        struct sim_request *r = s->requests;
        s->requests = r->next;
        sampler_free(r->sampler);
        mem_free(r);
    }
}

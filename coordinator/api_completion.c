/* api_completion.c - POST /v1/completions, from the prompt to the last byte.
 *
 * Depends on: api_request, pool.h, http.  Thread: loop.
 *
 *   api_completion --pool_submit--> running --on_done, a stop string,
 *     no memory--> finish --> freed
 *   running --on_gone (client left)--> pool_cancel --> freed
 *
 * A stop string ends a job by pool_cancel, after which the pool says nothing
 * more, so for these the times are measured here; the time in the queue then
 * is that of the last tick that found the job waiting. */
#include "coordinator/api_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"

/* Without a byte for so long a stream gets a comment: ticks come every second,
 * so never more than two seconds pass. */
#define SILENCE_NS UINT64_C(900000000)

struct completion {
    struct api *api;
    struct completion *prev, *next;
    struct http_call *call;
    struct pool_job *job; /* NULL: over */
    struct api_request request;
    char id[48];
    uint64_t created;
    struct buf text; /* JSON: all of it; a stream: of this token */
    struct buf out;  /* the event that is being written */
    struct tokens ids;
    uint32_t n_prompt, n_generated;
    uint64_t submitted_ns, waited_ns, first_ns, last_ns; /* clock */
    uint64_t said_ns;
};

/* ------------------------------------------------------------- life */

static void completion_free(struct completion *c)
{
    struct api *a = c->api;
    if (c->prev) c->prev->next = c->next;
    if (c->next) c->next->prev = c->prev;
    if (a->completions == c) a->completions = c->next;
    api_request_fini(&c->request);
    buf_fini(&c->text);
    buf_fini(&c->out);
    tokens_fini(&c->ids);
    mem_free(c);
}

static void cancel(struct completion *c)
{
    struct pool_job *job = c->job;
    c->job = NULL;
    if (job) pool_cancel(c->api->options.pool, job);
}

static void on_gone(void *arg)
{
    struct completion *c = arg;
    cancel(c);
    completion_free(c);
}

static struct completion *completion_create(struct api *a,
                                            struct http_call *call)
{
    struct completion *c = mem_zalloc(sizeof *c);
    if (!c) return NULL;
    c->api = a;
    c->call = call;
    c->created = (uint64_t)time(NULL);
    snprintf(c->id, sizeof c->id, "cmpl-%s-%" PRIu64, a->boot,
             ++a->n_completions);
    buf_init(&c->text, API_ANSWER_MAX);
    buf_init(&c->out, API_ANSWER_MAX);
    c->next = a->completions;
    if (c->next) c->next->prev = c;
    a->completions = c;
    return c;
}

/* ------------------------------------------------------------- parts */

static enum status write_ids(struct buf *b, const int32_t *id, size_t n)
{
    enum status st = buf_append(b, ",\"token_ids\":[", 14);
    for (size_t i = 0; st == ST_OK && i < n; i++)
        st = buf_printf(b, i ? ",%" PRId32 : "%" PRId32, id[i]);
    return st == ST_OK ? buf_append(b, "]", 1) : st;
}

/* {"id":..., "object":..., "created":..., "model":...  */
static enum status write_head(struct completion *c)
{
    const char *model = pool_model_name(c->api->options.pool);
    enum status st = buf_printf(&c->out,
                                "{\"id\":\"%s\",\"object\":\"text_completion\","
                                "\"created\":%" PRIu64 ",\"model\":",
                                c->id, c->created);
    return st == ST_OK ? api_quote(&c->out, model, strlen(model)) : st;
}

/* ,"choices":[{...; what token_ids and logits add follows */
static enum status write_choice(struct completion *c, const char *reason)
{
    enum status st =
        buf_printf(&c->out, ",\"choices\":[{\"index\":0,\"text\":");
    if (st == ST_OK) st = api_quote(&c->out, c->text.data, c->text.len);
    if (st != ST_OK) return st;
    return reason ? buf_printf(&c->out,
                               ",\"logprobs\":null,\"finish_reason\":\"%s\"",
                               reason)
                  : buf_printf(&c->out,
                               ",\"logprobs\":null,\"finish_reason\":null");
}

static enum status write_usage(struct buf *b, const struct pool_usage *u)
{
    return buf_printf(
        b,
        ",\"usage\":{\"prompt_tokens\":%" PRIu32
        ",\"completion_tokens\":%" PRIu32 ",\"total_tokens\":%" PRIu64
        ",\"prompt_tokens_details\":{\"cached_tokens\":0}}",
        u->n_prompt, u->n_generated, (uint64_t)u->n_prompt + u->n_generated);
}

static double per_second(uint64_t n, uint64_t ns)
{
    return ns ? (double)n * 1e9 / (double)ns : 0;
}

/* The first token comes out of the prompt's own steps. */
static enum status write_timings(struct buf *b, const struct pool_usage *u)
{
    const uint32_t n = u->n_generated;
    return buf_printf(b,
                      ",\"timings\":{\"prompt_n\":%" PRIu32
                      ",\"prompt_ms\":%.3f,\"prompt_per_second\":%.3f,"
                      "\"predicted_n\":%" PRIu32
                      ",\"predicted_ms\":%.3f,\"predicted_per_second\":%.3f,"
                      "\"queued_ms\":%.3f}",
                      u->n_prompt, (double)u->prompt_ns / 1e6,
                      n ? per_second(u->n_prompt, u->prompt_ns) : 0, n,
                      (double)u->decode_ns / 1e6,
                      n ? per_second(n - 1, u->decode_ns) : 0,
                      (double)u->queued_ns / 1e6);
}

/* ----------------------------------------------------------- answers */

static void send_out(struct completion *c)
{
    http_send(c->call, c->out.data, c->out.len);
    c->said_ns = clock_now_ns();
    c->out.len = 0;
}

/* The end with an error; frees c. */
static void fail(struct completion *c, enum status status, const char *why)
{
    struct api_error e = api_error_of(status, NULL);
    struct http_call *call = c->call;
    cancel(c);
    e.final = c->n_generated > 0; /* a client that tries again costs it all */
    if (c->request.stream) {
        c->out.len = 0;
        enum status st = buf_append(&c->out, "data: ", 6);
        if (st == ST_OK) st = api_error_json(&c->out, &e, why);
        if (st == ST_OK) st = buf_append(&c->out, "\n\n", 2);
        if (st == ST_OK) send_out(c);
        http_end(call);
    } else {
        api_refuse(call, &e, why);
    }
    completion_free(c);
}

static void fail_no_memory(struct completion *c)
{
    fail(c, ST_NO_MEMORY, "the coordinator is out of memory for the answer");
}

/* c->text holds what is certain; a token's own ids and logits, if any. */
static enum status send_token(struct completion *c, int32_t id,
                              const float *logits)
{
    const struct api_request *r = &c->request;
    enum status st = buf_append(&c->out, "data: ", 6);
    if (st == ST_OK) st = write_head(c);
    if (st == ST_OK) st = write_choice(c, NULL);
    if (st == ST_OK && r->return_token_ids) st = write_ids(&c->out, &id, 1);
    if (st == ST_OK && r->return_logits && logits) {
        const uint32_t n =
            tokenizer_n_vocab(pool_tokenizer(c->api->options.pool));
        st = buf_append(&c->out, ",\"logits\":\"", 11);
        if (st == ST_OK) st = api_base64(&c->out, logits, 4 * (size_t)n);
        if (st == ST_OK) st = buf_append(&c->out, "\"", 1);
    }
    if (st == ST_OK)
        st = buf_printf(&c->out, "}]%s}\n\n",
                        r->include_usage ? ",\"usage\":null" : "");
    if (st != ST_OK) return st;
    send_out(c);
    c->text.len = 0;
    return ST_OK;
}

/* The chunk with the reason, then the usage if it was asked for.  It is null
 * in the former then: clients add up what they find. */
static enum status write_last_chunks(struct completion *c, const char *reason,
                                     const struct pool_usage *u)
{
    const bool usage = c->request.include_usage;
    struct buf *b = &c->out;
    enum status st = buf_append(b, "data: ", 6);
    if (st == ST_OK) st = write_head(c);
    if (st == ST_OK) st = write_choice(c, reason);
    if (st == ST_OK && c->request.return_token_ids) st = write_ids(b, NULL, 0);
    if (st == ST_OK) st = buf_append(b, "}]", 2);
    if (st == ST_OK)
        st = usage ? buf_printf(b, ",\"usage\":null") : write_usage(b, u);
    if (st == ST_OK) st = write_timings(b, u);
    if (st == ST_OK) {
        st = buf_printf(b, ",\"seed\":%" PRId64 "}\n\n",
                        (int64_t)c->request.sample.seed);
    }
    if (st == ST_OK && usage) {
        st = buf_append(b, "data: ", 6);
        if (st == ST_OK) st = write_head(c);
        if (st == ST_OK) st = buf_printf(b, ",\"choices\":[]");
        if (st == ST_OK) st = write_usage(b, u);
        if (st == ST_OK) st = write_timings(b, u);
        if (st == ST_OK) st = buf_append(b, "}\n\n", 3);
    }
    return st == ST_OK ? buf_printf(b, "data: [DONE]\n\n") : st;
}

static enum status write_whole(struct completion *c, const char *reason,
                               const struct pool_usage *u)
{
    struct buf *b = &c->out;
    enum status st = write_head(c);
    if (st == ST_OK) st = write_choice(c, reason);
    if (st == ST_OK && c->request.return_token_ids)
        st = write_ids(b, c->ids.id, c->ids.n);
    if (st == ST_OK) st = buf_append(b, "}]", 2);
    if (st == ST_OK) st = write_usage(b, u);
    if (st == ST_OK) st = write_timings(b, u);
    if (st == ST_OK) {
        st = buf_printf(b, ",\"seed\":%" PRId64 "}\n",
                        (int64_t)c->request.sample.seed);
    }
    return st;
}

/* The regular end; frees c. */
static void finish(struct completion *c, const char *reason,
                   const struct pool_usage *u)
{
    struct http_call *call = c->call;
    enum status st = stops_finish(&c->request.stops, &c->text);
    if (st == ST_OK) {
        st = c->request.stream ? write_last_chunks(c, reason, u)
                               : write_whole(c, reason, u);
    }
    if (st != ST_OK) {
        fail_no_memory(c);
        return;
    }
    if (c->request.stream) {
        send_out(c);
        http_end(call);
    } else {
        const struct http_answer a = {.status = 200,
                                      .type = API_JSON,
                                      .body = c->out.data,
                                      .body_bytes = c->out.len};
        http_answer(call, &a);
    }
    completion_free(c);
}

/* ------------------------------------------------------------ events */

static void on_token(void *arg, int32_t id, const char *text, size_t n,
                     const float *logits)
{
    struct completion *c = arg;
    const struct api_request *r = &c->request;
    c->last_ns = clock_now_ns();
    if (c->n_generated++ == 0) c->first_ns = c->last_ns;
    enum status st = stops_push(&c->request.stops, text, n, &c->text);
    if (st == ST_OK && r->return_token_ids && !r->stream)
        st = tokens_push(&c->ids, id);
    if (st == ST_OK && r->stream &&
        (c->text.len > 0 || r->return_token_ids || r->return_logits)) {
        st = send_token(c, id, logits);
    }
    if (st != ST_OK) {
        fail_no_memory(c);
        return;
    }
    if (!r->stops.hit) return;
    cancel(c);
    const struct pool_usage u = {.n_prompt = c->n_prompt,
                                 .n_generated = c->n_generated,
                                 .queued_ns = c->waited_ns,
                                 .prompt_ns = c->first_ns - c->submitted_ns -
                                              c->waited_ns,
                                 .decode_ns = c->last_ns - c->first_ns};
    finish(c, "stop", &u);
}

static void on_done(void *arg, const char *finish_reason,
                    const struct pool_usage *usage, const struct error *err)
{
    struct completion *c = arg;
    c->job = NULL;
    if (finish_reason)
        finish(c, finish_reason, usage);
    else
        fail(c, err->status, err->text);
}

static enum status write_comment(struct completion *c)
{
    const struct pool_host *p = c->api->options.pool;
    const uint32_t ahead = pool_position(p, c->job);
    if (!pool_ready(p)) {
        /* one line, whatever the sentence holds */
        enum status st = buf_append(&c->out, ": ", 2);
        for (const char *s = pool_why_not(p); st == ST_OK && *s; s++)
            st = buf_append(&c->out, (unsigned char)*s < ' ' ? " " : s, 1);
        return st == ST_OK ? buf_append(&c->out, "\n\n", 2) : st;
    }
    if (ahead > 0) {
        return buf_printf(&c->out, ": waiting, %" PRIu32 " in front\n\n",
                          ahead);
    }
    return buf_printf(&c->out, ": working\n\n");
}

void api_completions_tick(struct api *a)
{
    const uint64_t now = clock_now_ns();
    for (struct completion *c = a->completions; c; c = c->next) {
        if (c->n_generated == 0 && pool_position(a->options.pool, c->job) > 0)
            c->waited_ns = now - c->submitted_ns;
        if (!c->request.stream || now - c->said_ns < SILENCE_NS) continue;
        c->out.len = 0;
        if (write_comment(c) == ST_OK) send_out(c);
        c->out.len = 0;
    }
}

/* ------------------------------------------------------------- begin */

/* The prompt's ids, of the text or as given; the text is forgotten. */
static enum status encode(struct completion *c, struct error *err)
{
    struct api_request *r = &c->request;
    const struct tokenizer *t = pool_tokenizer(c->api->options.pool);
    if (r->text) {
        const struct tokenize_options o = {.bos = tokenizer_add_bos(t)};
        const enum status st =
            tokenizer_encode(t, r->text, r->text_bytes, o, &r->ids, err);
        mem_free(r->text);
        r->text = NULL;
        if (st != ST_OK) return st;
    }
    if (r->ids.n == 0)
        return error_set(err, ST_USAGE, "the prompt has no tokens");
    if (r->ids.n > UINT32_MAX)
        return error_set(err, ST_TOO_LARGE, "the prompt is too long");
    c->n_prompt = (uint32_t)r->ids.n;
    return ST_OK;
}

static void refuse(struct completion *c, enum status st, const char *param,
                   const char *why)
{
    struct api_error e = api_error_of(st, param);
    if (st == ST_TOO_LARGE) {
        e.n_prompt = c->n_prompt;
        e.n_context = pool_context(c->api->options.pool);
    }
    api_refuse(c->call, &e, why);
    completion_free(c);
}

static void submit(struct completion *c)
{
    struct api_request *r = &c->request;
    struct error err = {.text = ""};
    enum status st = encode(c, &err);
    if (st != ST_OK) {
        refuse(c, st, "prompt", err.text);
        return;
    }
    const struct pool_request request = {.prompt = r->ids.id,
                                         .n_prompt = c->n_prompt,
                                         .max_tokens = r->max_tokens,
                                         .sample = r->sample,
                                         .whole_rows = r->return_logits};
    const struct pool_events events = {
        .token = on_token, .done = on_done, .arg = c};
    c->submitted_ns = c->said_ns = clock_now_ns();
    st = pool_submit(c->api->options.pool, &request, &events, &c->job, &err);
    tokens_fini(&r->ids);
    if (st != ST_OK) {
        c->job = NULL;
        refuse(c, st, NULL, err.text);
        return;
    }
    if (!r->stream) {
        http_on_gone(c->call, on_gone, c);
        return;
    }
    /* Headers and a first byte at once: some clients give up without. */
    const struct http_answer a = {.status = 200,
                                  .type = "text/event-stream",
                                  .fields = {{"X-Accel-Buffering", "no"}}};
    if (!http_stream(c->call, &a)) {
        on_gone(c);
        return;
    }
    http_on_gone(c->call, on_gone, c);
    if (write_comment(c) == ST_OK) send_out(c);
    c->out.len = 0;
}

void api_completion(struct api *a, struct http_call *call,
                    const struct http_request *r)
{
    struct pool_host *p = a->options.pool;
    struct error err = {.text = ""};
    const char *param = NULL;
    if (!pool_ready(p)) {
        api_not_ready(a, call);
        return;
    }
    struct completion *c = completion_create(a, call);
    if (!c) {
        const struct api_error e = api_error_of(ST_NO_MEMORY, NULL);
        api_refuse(call, &e, "out of memory for the request");
        return;
    }
    const enum status st =
        api_request_parse(&c->request, r->body, r->body_bytes,
                          tokenizer_n_vocab(pool_tokenizer(p)), &param, &err);
    if (st != ST_OK) {
        refuse(c, st, param, err.text);
        return;
    }
    const char *model = c->request.model;
    if (model && *model && strcmp(model, pool_model_name(p)) != 0) {
        api_no_such_model(call, "model");
        completion_free(c);
        return;
    }
    submit(c);
}

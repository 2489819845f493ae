/* api_completion.c - POST /v1/completions and /v1/chat/completions, from the
 * prompt to the last byte.
 *
 * Depends on: api_request, api_answer, pool.h, http.  Thread: loop.
 *
 *   api_completion --pool_submit--> running --on_done, a stop string,
 *     no memory--> finish --> freed
 *   running --on_gone (client left)--> pool_cancel --> freed
 *
 * A stop string ends a job by pool_cancel, after which the pool says nothing
 * more, so for these the times are measured here; the time in the queue then
 * is that of the last tick that found the job waiting. */
#include "coordinator/api_answer.h"
#include "coordinator/api_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "engine/chat_input.h"

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
    struct answer_shape shape;
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
                                            struct http_call *call, bool chat)
{
    struct completion *c = mem_zalloc(sizeof *c);
    if (!c) return NULL;
    c->api = a;
    c->call = call;
    snprintf(c->id, sizeof c->id, "%scmpl-%s-%" PRIu64, chat ? "chat" : "",
             a->boot, ++a->n_completions);
    c->shape = (struct answer_shape){.id = c->id,
                                     .model = pool_model_name(a->options.pool),
                                     .created = (uint64_t)time(NULL),
                                     .chat = chat};
    buf_init(&c->text, API_ANSWER_MAX);
    buf_init(&c->out, API_ANSWER_MAX);
    c->next = a->completions;
    if (c->next) c->next->prev = c;
    a->completions = c;
    return c;
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

/* "data: {...}" around what the writers below put into the choice. */
static enum status begin_event(struct completion *c, const char *text, size_t n,
                               const char *reason)
{
    enum status st = buf_append(&c->out, "data: ", 6);
    if (st == ST_OK) st = answer_head(&c->out, &c->shape);
    return st == ST_OK ? answer_choice(&c->out, &c->shape, text, n, reason)
                       : st;
}

static enum status end_event(struct completion *c)
{
    return buf_printf(&c->out, "}]%s}\n\n",
                      c->request.include_usage ? ",\"usage\":null" : "");
}

/* c->text holds what is certain; a token's own ids and logits, if any. */
static enum status send_token(struct completion *c, int32_t id,
                              const float *logits)
{
    const struct api_request *r = &c->request;
    enum status st = begin_event(c, c->text.data, c->text.len, NULL);
    if (st == ST_OK && r->return_token_ids) st = answer_ids(&c->out, &id, 1);
    if (st == ST_OK && r->return_logits && logits) {
        const uint32_t n =
            tokenizer_n_vocab(pool_tokenizer(c->api->options.pool));
        st = answer_logits(&c->out, logits, n);
    }
    if (st == ST_OK) st = end_event(c);
    if (st != ST_OK) return st;
    send_out(c);
    c->text.len = 0;
    return ST_OK;
}

/* The chunk with the reason, then the usage if it was asked for.  It is null
 * in the former then: clients add up what they find.  In a chat the text that
 * is left comes before: some clients stop reading at the reason. */
static enum status write_last_chunks(struct completion *c, const char *reason,
                                     const struct pool_usage *u)
{
    const bool usage = c->request.include_usage;
    struct buf *b = &c->out;
    enum status st = ST_OK;
    if (c->shape.chat && c->text.len > 0) {
        st = begin_event(c, c->text.data, c->text.len, NULL);
        if (st == ST_OK) st = end_event(c);
        c->text.len = 0;
    }
    if (st == ST_OK) st = begin_event(c, c->text.data, c->text.len, reason);
    if (st == ST_OK && c->request.return_token_ids) st = answer_ids(b, NULL, 0);
    if (st == ST_OK) st = buf_append(b, "}]", 2);
    if (st == ST_OK)
        st = usage ? buf_printf(b, ",\"usage\":null") : answer_usage(b, u);
    if (st == ST_OK) st = answer_timings(b, u);
    if (st == ST_OK) {
        st = buf_printf(b, ",\"seed\":%" PRId64 "}\n\n",
                        (int64_t)c->request.sample.seed);
    }
    if (st == ST_OK && usage) {
        st = buf_append(b, "data: ", 6);
        if (st == ST_OK) st = answer_head(b, &c->shape);
        if (st == ST_OK) st = buf_printf(b, ",\"choices\":[]");
        if (st == ST_OK) st = answer_usage(b, u);
        if (st == ST_OK) st = answer_timings(b, u);
        if (st == ST_OK) st = buf_append(b, "}\n\n", 3);
    }
    return st == ST_OK ? buf_printf(b, "data: [DONE]\n\n") : st;
}

static enum status write_whole(struct completion *c, const char *reason,
                               const struct pool_usage *u)
{
    struct buf *b = &c->out;
    enum status st = answer_head(b, &c->shape);
    if (st == ST_OK)
        st = answer_choice(b, &c->shape, c->text.data, c->text.len, reason);
    if (st == ST_OK && c->request.return_token_ids)
        st = answer_ids(b, c->ids.id, c->ids.n);
    if (st == ST_OK) st = buf_append(b, "}]", 2);
    if (st == ST_OK) st = answer_usage(b, u);
    if (st == ST_OK) st = answer_timings(b, u);
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
    if (r->messages) {
        const enum status st = chat_ids(c->api->options.chat, t, r->messages,
                                        (int64_t)time(NULL), &r->ids, err);
        json_decref(r->messages);
        r->messages = NULL;
        if (st != ST_OK) return st;
    }
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
        refuse(c, st, c->shape.chat ? "messages" : "prompt", err.text);
        return;
    }
    const struct pool_request request = {.prompt = r->ids.id,
                                         .n_prompt = c->n_prompt,
                                         .max_tokens = r->max_tokens,
                                         .sample = r->sample,
                                         .own_text = c->shape.chat,
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
    if (!c->shape.chat) return;
    enum status role = buf_append(&c->out, "data: ", 6);
    if (role == ST_OK) role = answer_head(&c->out, &c->shape);
    if (role == ST_OK) role = answer_role(&c->out);
    if (role == ST_OK) role = end_event(c);
    if (role == ST_OK) send_out(c);
    c->out.len = 0;
}

/* A client may complete texts instead where there is no template at all. */
static void refuse_chat(struct api *a, struct http_call *call)
{
    const struct error *why = a->options.why_no_chat;
    const bool none = why->status == ST_NOT_FOUND;
    const struct api_error e = {.status = 400,
                                .type = "invalid_request_error",
                                .code = none ? "no_chat_template"
                                             : "unusable_chat_template"};
    api_refuse(call, &e, why->text);
}

void api_completion(struct api *a, struct http_call *call,
                    const struct http_request *r, bool chat)
{
    struct pool_host *p = a->options.pool;
    struct error err = {.text = ""};
    const char *param = NULL;
    if (!pool_ready(p)) {
        api_not_ready(a, call);
        return;
    }
    if (chat && !a->options.chat) {
        refuse_chat(a, call);
        return;
    }
    struct completion *c = completion_create(a, call, chat);
    if (!c) {
        const struct api_error e = api_error_of(ST_NO_MEMORY, NULL);
        api_refuse(call, &e, "out of memory for the request");
        return;
    }
    const enum status st =
        api_request_parse(&c->request, r->body, r->body_bytes, chat,
                          tokenizer_n_vocab(pool_tokenizer(p)), &param, &err);
    c->shape.stream = c->request.stream;
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

/* api.c - routes, errors, and the answers that take no time. */
#include "coordinator/api_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

/* ------------------------------------------------------------ errors */

struct api_error api_error_of(enum status st, const char *param)
{
    const char *bad = "invalid_request_error", *broken = "server_error";
    switch (st) {
    case ST_TOO_LARGE:
        return (struct api_error){.status = 400,
                                  .type = "exceed_context_size_error",
                                  .param = "prompt",
                                  .code = "context_length_exceeded"};
    case ST_FULL:
        return (struct api_error){
            .status = 429, .type = "rate_limit_error", .code = "queue_full"};
    case ST_UNSUPPORTED:
        return (struct api_error){.status = 400,
                                  .type = bad,
                                  .param = param,
                                  .code = "unsupported_parameter"};
    case ST_USAGE:
    case ST_INVALID:
        return (struct api_error){
            .status = 400, .type = bad, .param = param, .code = "invalid"};
    case ST_NOT_FOUND:
        return (struct api_error){
            .status = 404, .type = bad, .param = param, .code = "not_found"};
    case ST_NO_MEMORY:
        return (struct api_error){
            .status = 503, .type = broken, .code = "out_of_memory"};
    case ST_IO:
    case ST_INTERRUPTED:
        return (struct api_error){
            .status = 503, .type = broken, .code = "broken_off"};
    case ST_OK:
    case ST_TRUNCATED:
    case ST_NUMERIC:
        break;
    }
    return (struct api_error){
        .status = 500, .type = broken, .code = "internal_error"};
}

static json_t *text_or_null(const char *s)
{
    return s ? api_string(s, strlen(s)) : json_null();
}

enum status api_error_json(struct buf *b, const struct api_error *e,
                           const char *message)
{
    json_t *o =
        json_pack("{s:o, s:o, s:o, s:o}", "message", text_or_null(message),
                  "type", text_or_null(e->type), "param",
                  text_or_null(e->param), "code", text_or_null(e->code));
    if (o && e->n_prompt) {
        json_object_set_new(o, "n_prompt_tokens", json_integer(e->n_prompt));
        json_object_set_new(o, "n_ctx", json_integer(e->n_context));
    }
    return api_dump(b, o ? json_pack("{s:o}", "error", o) : NULL);
}

static void answer_bytes(struct http_call *c, unsigned status, const char *type,
                         const struct buf *body, struct http_field field)
{
    const struct http_answer a = {.status = status,
                                  .type = type,
                                  .body = body->data,
                                  .body_bytes = body->len,
                                  .fields = {field}};
    http_answer(c, &a);
}

void api_refuse(struct http_call *c, const struct api_error *e,
                const char *message)
{
    struct buf b;
    buf_init(&b, API_ANSWER_MAX);
    struct http_field field = {0};
    if (e->final)
        field = (struct http_field){"X-Should-Retry", "false"};
    else if (e->status == 429 || e->status == 503)
        field = (struct http_field){"Retry-After", API_RETRY_AFTER_S};
    else if (e->status == 401)
        field = (struct http_field){"WWW-Authenticate", "Bearer"};
    else if (e->status == 405)
        field = (struct http_field){"Allow", e->param};
    struct api_error said = *e;
    if (e->status == 405) said.param = NULL;
    enum status st = api_error_json(&b, &said, message);
    if (st == ST_OK) st = buf_append(&b, "\n", 1);
    if (st != ST_OK) b.len = 0; /* the status alone, then */
    answer_bytes(c, e->status, API_JSON, &b, field);
    buf_fini(&b);
}

void api_not_ready(struct api *a, struct http_call *c)
{
    const struct api_error e = {
        .status = 503, .type = "server_error", .code = "not_ready"};
    api_refuse(c, &e, pool_why_not(a->options.pool));
}

void api_reply(struct http_call *c, unsigned status, json_t *value)
{
    struct buf b;
    buf_init(&b, API_ANSWER_MAX);
    enum status st = api_dump(&b, value);
    if (st == ST_OK) st = buf_append(&b, "\n", 1);
    if (st == ST_OK) {
        answer_bytes(c, status, API_JSON, &b, (struct http_field){0});
    } else {
        const struct api_error e = api_error_of(ST_NO_MEMORY, NULL);
        api_refuse(c, &e, "out of memory for the answer");
    }
    buf_fini(&b);
}

/* ----------------------------------------------------------- answers */

static json_t *model_json(const struct api *a)
{
    const struct pool_host *p = a->options.pool;
    const char *name = pool_model_name(p);
    return json_pack("{s:o, s:s, s:I, s:s, s:I}", "id",
                     api_string(name, strlen(name)), "object", "model",
                     "created", (json_int_t)pool_model_created(p), "owned_by",
                     "potluck", "context_length", (json_int_t)pool_context(p));
}

void api_no_such_model(struct http_call *c, const char *param)
{
    const struct api_error e = {.status = 404,
                                .type = "invalid_request_error",
                                .param = param,
                                .code = "model_not_found"};
    api_refuse(c, &e,
               "this pool serves another model; GET /v1/models says "
               "which");
}

static void get_models(struct api *a, struct http_call *c,
                       const struct http_request *r, const char *rest)
{
    (void)r;
    if (*rest == '\0') {
        api_reply(
            c, 200,
            json_pack("{s:s, s:[o]}", "object", "list", "data", model_json(a)));
    } else if (strcmp(rest, pool_model_name(a->options.pool)) == 0) {
        api_reply(c, 200, model_json(a));
    } else {
        api_no_such_model(c, NULL);
    }
}

static void get_health(struct api *a, struct http_call *c,
                       const struct http_request *r, const char *rest)
{
    (void)r, (void)rest;
    if (pool_ready(a->options.pool))
        api_reply(c, 200, json_pack("{s:s}", "status", "ok"));
    else
        api_not_ready(a, c);
}

static void get_cluster(struct api *a, struct http_call *c,
                        const struct http_request *r, const char *rest)
{
    (void)r, (void)rest;
    api_reply(c, 200, pool_status_json(a->options.pool));
}

static void get_root(struct api *a, struct http_call *c,
                     const struct http_request *r, const char *rest)
{
    (void)a, (void)r, (void)rest;
    static char text[] =
        "potluck: several PCs that answer as one language model.\n\n"
        "POST /v1/chat/completions  OpenAI's chat, also streamed\n"
        "POST /v1/completions       OpenAI's completions, also streamed\n"
        "GET  /v1/models            the model\n"
        "GET  /v1/cluster           the machines, as JSON\n"
        "GET  /health               200 once the pool can answer\n";
    const struct buf b = {.data = text, .len = sizeof text - 1};
    answer_bytes(c, 200, "text/plain; charset=utf-8", &b,
                 (struct http_field){0});
}

static void post_completion(struct api *a, struct http_call *c,
                            const struct http_request *r, const char *rest)
{
    (void)rest;
    api_completion(a, c, r, false);
}

static void post_chat(struct api *a, struct http_call *c,
                      const struct http_request *r, const char *rest)
{
    (void)rest;
    api_completion(a, c, r, true);
}

static void on_keys(struct api *a, struct http_call *c,
                    const struct http_request *r, const char *rest)
{
    (void)rest;
    api_keys(a, c, r);
}

/* ------------------------------------------------------------ routes */

/* prefix: whatever follows goes to the handler, after a slash. */
static const struct route {
    const char *path, *method;
    bool prefix;
    void (*handle)(struct api *a, struct http_call *c,
                   const struct http_request *r, const char *rest);
} routes[] = {
    {"/", "GET", false, get_root},
    {"/health", "GET", false, get_health},
    {"/v1/health", "GET", false, get_health},
    {"/v1/models", "GET", true, get_models},
    {"/models", "GET", true, get_models},
    {"/v1/cluster", "GET", false, get_cluster},
    {"/v1/completions", "POST", false, post_completion},
    {"/v1/chat/completions", "POST", false, post_chat},
    {"/chat/completions", "POST", false, post_chat},
    {"/v1/keys", "GET", false, on_keys},
    {"/v1/keys/invite", "POST", false, on_keys},
    {"/v1/keys/approve", "POST", false, on_keys},
    {"/v1/keys/revoke", "POST", false, on_keys},
    {"/v1/keys/add", "POST", false, on_keys},
};

static const struct route *find_route(const char *path, const char **rest)
{
    for (size_t i = 0; i < COUNT_OF(routes); i++) {
        const size_t n = strlen(routes[i].path);
        if (strncmp(path, routes[i].path, n) != 0) continue;
        if (path[n] != '\0' && !(routes[i].prefix && path[n] == '/')) continue;
        *rest = path[n] == '/' ? path + n + 1 : path + n;
        return &routes[i];
    }
    return NULL;
}

static bool is_json(const char *type)
{
    const size_t n = strlen(API_JSON);
    return !type || (strncasecmp(type, API_JSON, n) == 0 &&
                     (type[n] == '\0' || type[n] == ';' || type[n] == ' '));
}

static void on_request(void *arg, struct http_call *c,
                       const struct http_request *r)
{
    struct api_error e = {.type = "invalid_request_error"};
    const char *rest = "";
    const struct route *route = find_route(r->path, &rest);
    if (!route) {
        e.status = 404;
        e.code = "not_found";
        api_refuse(c, &e, "no such path; GET / lists those there are");
    } else if (strcmp(r->method, route->method) != 0) {
        e.status = 405;
        e.code = "method_not_allowed";
        e.param = route->method; /* becomes the Allow header */
        api_refuse(c, &e,
                   *route->method == 'G' ? "this path takes GET only"
                                         : "this path takes POST only");
    } else if (*route->method == 'P' &&
               !is_json(http_header(c, "Content-Type"))) {
        e.status = 415;
        e.code = "unsupported_media_type";
        api_refuse(c, &e,
                   "the body must be JSON, and the request say so: "
                   "Content-Type: application/json");
    } else {
        route->handle(arg, c, r, rest);
    }
}

static void on_tick(void *arg)
{
    api_completions_tick(arg);
}

/* -------------------------------------------------------------- life */

enum status api_create(struct api **out, struct uv_loop_s *loop,
                       const struct api_options *options, struct error *err)
{
    const char *token = options->operator_token ? options->operator_token : "";
    uint64_t boot;
    if (sodium_init() < 0)
        return error_set(err, ST_IO, "libsodium does not start");
    if (strlen(token) >= API_OPERATOR_MAX) {
        return error_set(err, ST_USAGE,
                         "the operator's token is longer than %d bytes",
                         API_OPERATOR_MAX - 1);
    }
    struct api *a = mem_zalloc(sizeof *a);
    if (!a) return error_set(err, ST_NO_MEMORY, "HTTP interface");
    a->options = *options;
    memcpy(a->operator_token, token, strlen(token));
    a->options.operator_token = a->operator_token;
    randombytes_buf(&boot, sizeof boot);
    snprintf(a->boot, sizeof a->boot, "%016" PRIx64, boot);
    struct http_options http = options->http;
    http.address = options->address;
    http.handler = on_request;
    http.tick = on_tick;
    http.arg = a;
    const enum status st = http_create(&a->http, loop, &http, err);
    if (st != ST_OK) {
        mem_free(a);
        return st;
    }
    *out = a;
    return ST_OK;
}

uint32_t api_port(const struct api *a)
{
    return http_port(a->http);
}

void api_close(struct api *a)
{
    if (!a) return;
    http_close(a->http); /* every completion hears that its client is gone */
    sodium_memzero(a->operator_token, sizeof a->operator_token);
    mem_free(a);
}

/* answer.c - /v1/chat/completions or /v1/completions as a stream. Whatever the
 * server sends is checked: types, sizes of rows, the number of tokens. */
#include "client/answer.h"

#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "client/sse.h"
#include "engine/chat_input.h"

struct answer {
    const struct answer_request *request;
    const struct ask *ask;
    struct sse sse;
    struct buf text;
    size_t printed;
    int32_t *tokens;
    size_t n_tokens, cap_tokens;
    FILE *logits;
    void *rows; /* decoded */
    size_t rows_cap;
    size_t row_bytes;         /* of each; 0: none came yet */
    struct ask_result result; /* text, tokens, n_tokens: at the end */
    char finish_reason[32];
    bool chat;        /* of /v1/chat/completions */
    bool no_template; /* which that model has not */
    bool finished, waiting_shown;
    struct error *err;
    enum exit_code code; /* what ended the stream early */
};

static enum exit_code nonsense(struct answer *a, const char *what)
{
    error_set(a->err, ST_INVALID, "the answer of %s is not valid: %s",
              a->request->pool->url, what);
    return EXIT_CODE_FAILURE;
}

/* ------------------------------------------------------------- waiting */

static void hide_waiting(struct answer *a)
{
    if (a->waiting_shown) fputs("\r\033[K", stderr);
    a->waiting_shown = false;
}

static int on_comment(void *arg, const char *text, size_t n)
{
    struct answer *a = arg;
    if (n == 0 || a->text.len != 0 || !isatty(STDERR_FILENO)) return 0;
    char line[80];
    snprintf(line, sizeof line, "%.*s", (int)(n < 79 ? n : 79), text);
    fprintf(stderr, "\r%s\033[K", plain_line(line));
    a->waiting_shown = true;
    return 0;
}

/* -------------------------------------------------------------- tokens */

static enum exit_code keep_token(struct answer *a, json_t *id)
{
    const json_int_t v = json_integer_value(id);
    if (!json_is_integer(id) || v < 0 || v > INT32_MAX) {
        return nonsense(a, "token_ids has something that is no token");
    }
    if (a->n_tokens >= a->ask->n_max) {
        return nonsense(a, "more tokens than were asked for");
    }
    if (a->n_tokens == a->cap_tokens) {
        const size_t cap = a->cap_tokens ? 2 * a->cap_tokens : 256;
        int32_t *more = mem_realloc(a->tokens, cap * sizeof *more);
        if (!more) {
            return exit_code_of(error_set(a->err, ST_NO_MEMORY, "tokens"));
        }
        a->tokens = more;
        a->cap_tokens = cap;
    }
    a->tokens[a->n_tokens++] = (int32_t)v;
    return EXIT_CODE_OK;
}

/* n_rows rows as base64; every row as long as the first one. */
static enum exit_code keep_rows(struct answer *a, json_t *logits, size_t n_rows)
{
    const char *text = json_string_value(logits);
    const size_t n = json_string_length(logits);
    if (!text) return nonsense(a, "the logits of a token are missing");
    const size_t room = n / 4 * 3 + 3;
    if (room > a->rows_cap) {
        void *rows = mem_realloc(a->rows, room);
        if (!rows) {
            return exit_code_of(error_set(a->err, ST_NO_MEMORY, "logits"));
        }
        a->rows = rows;
        a->rows_cap = room;
    }
    size_t got = 0;
    const char *end = NULL;
    if (sodium_base642bin(a->rows, room, text, n, NULL, &got, &end,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        end != text + n) {
        return nonsense(a, "logits are not base64");
    }
    if (a->row_bytes == 0) a->row_bytes = got / n_rows;
    if (got == 0 || got % (n_rows * 4) != 0 || got / n_rows != a->row_bytes) {
        return nonsense(a, "a row of logits has another length");
    }
    /* a row is long, so flushing each costs nothing that matters */
    if (fwrite(a->rows, 1, got, a->logits) == got && fflush(a->logits) == 0) {
        return EXIT_CODE_OK;
    }
    return exit_code_of(error_set(a->err, ST_IO, "%s: %s", a->ask->logits_path,
                                  strerror(errno)));
}

static enum exit_code keep_tokens(struct answer *a, json_t *choice)
{
    json_t *ids = json_object_get(choice, "token_ids");
    const size_t n = json_array_size(ids);
    if (ids && !json_is_null(ids) && !json_is_array(ids)) {
        return nonsense(a, "token_ids is no list");
    }
    for (size_t i = 0; i < n; i++) {
        const enum exit_code code = keep_token(a, json_array_get(ids, i));
        if (code != EXIT_CODE_OK) return code;
    }
    if (!a->logits || n == 0) return EXIT_CODE_OK;
    return keep_rows(a, json_object_get(choice, "logits"), n);
}

static enum exit_code keep_text(struct answer *a, json_t *choice)
{
    json_t *text =
        a->chat ? json_object_get(json_object_get(choice, "delta"), "content")
                : json_object_get(choice, "text");
    const size_t n = json_string_length(text);
    if (text && !json_is_string(text) && !json_is_null(text)) {
        return nonsense(a, "text is no string");
    }
    /* another server, that knows neither token ids nor logits */
    if (n != 0 && a->n_tokens == 0 && (a->ask->json || a->logits)) {
        return nonsense(a, "it has no token_ids, so what answers there is no "
                           "potluck coordinator");
    }
    if (n == 0) return EXIT_CODE_OK;
    enum status st = buf_append(&a->text, json_string_value(text), n);
    if (st != ST_OK) {
        return exit_code_of(error_set(a->err, st, "the answer's text"));
    }
    hide_waiting(a);
    if (a->ask->json) return EXIT_CODE_OK;
    return exit_code_of(ask_print_text(&a->text, &a->printed, a->err));
}

/* -------------------------------------------------------------- events */

/* A number that is there, and not negative. */
static double number(json_t *o, const char *name)
{
    const double v = json_number_value(json_object_get(o, name));
    return v > 0 ? v : 0;
}

static enum exit_code keep_end(struct answer *a, json_t *chunk, json_t *choice)
{
    json_t *reason = json_object_get(choice, "finish_reason");
    json_t *usage = json_object_get(chunk, "usage");
    json_t *timings = json_object_get(chunk, "timings");
    json_t *seed = json_object_get(chunk, "seed");
    struct ask_result *r = &a->result;
    const json_int_t n = json_integer_value(
        json_object_get(usage, "prompt_tokens")); /* 0 if it is none */
    if (n > 0) r->n_prompt = (size_t)n;
    if (json_is_object(timings)) {
        r->prompt_ms = number(timings, "prompt_ms");
        r->prompt_per_second = number(timings, "prompt_per_second");
        r->predicted_ms = number(timings, "predicted_ms");
        r->predicted_per_second = number(timings, "predicted_per_second");
    }
    if (json_integer_value(seed) > 0) {
        r->seed = (uint64_t)json_integer_value(seed);
    }
    if (!reason || json_is_null(reason)) return EXIT_CODE_OK;
    if (!json_is_string(reason) || json_string_length(reason) == 0 ||
        json_string_length(reason) >= sizeof a->finish_reason) {
        return nonsense(a, "finish_reason is no word");
    }
    snprintf(a->finish_reason, sizeof a->finish_reason, "%s",
             json_string_value(reason));
    a->finished = true;
    return EXIT_CODE_OK;
}

static enum exit_code take_chunk(struct answer *a, json_t *chunk)
{
    json_t *error = json_object_get(chunk, "error");
    if (error && !json_is_null(error)) {
        const enum exit_code code = http_error_object(error, 0, a->err);
        return a->n_tokens || a->text.len ? EXIT_CODE_BROKE_OFF : code;
    }
    json_t *choices = json_object_get(chunk, "choices");
    json_t *choice = json_array_get(choices, 0);
    if (!json_is_object(chunk) || (choices && !json_is_array(choices)) ||
        (choice && !json_is_object(choice))) {
        return nonsense(a, "an event is no completion");
    }
    enum exit_code code = EXIT_CODE_OK;
    if (choice && a->finished) code = nonsense(a, "it goes on after its end");
    if (code == EXIT_CODE_OK && choice) code = keep_tokens(a, choice);
    if (code == EXIT_CODE_OK && choice) code = keep_text(a, choice);
    if (code == EXIT_CODE_OK) code = keep_end(a, chunk, choice);
    return code;
}

static int on_data(void *arg, const char *text, size_t n)
{
    struct answer *a = arg;
    if (n == 6 && memcmp(text, "[DONE]", 6) == 0) return 0;
    json_t *chunk = json_loadb(text, n, JSON_ALLOW_NUL, NULL);
    a->code = chunk ? take_chunk(a, chunk) : nonsense(a, "an event is no JSON");
    json_decref(chunk);
    return a->code == EXIT_CODE_OK ? 0 : 1;
}

static enum exit_code on_bytes(void *arg, const char *bytes, size_t n,
                               struct error *err)
{
    struct answer *a = arg;
    (void)err; /* a->err is the same one */
    const int got = sse_push(&a->sse, bytes, n);
    if (got == 0) return EXIT_CODE_OK;
    return got < 0 ? nonsense(a, "an event is too long") : a->code;
}

/* ------------------------------------------------------------- request */

/* The prompt as text, or as messages; NULL: not UTF-8, or no memory. */
static json_t *prompt_json(const struct answer_request *r, bool chat)
{
    const char *text = r->prompt->data ? r->prompt->data : "";
    json_t *messages = NULL;
    if (!chat) return json_stringn(text, r->prompt->len);
    return chat_messages_make(&messages, r->ask->system, text, r->prompt->len,
                              NULL) == ST_OK
               ? messages
               : NULL;
}

static enum status write_request(const struct answer_request *r, bool chat,
                                 struct buf *b, struct error *err)
{
    const struct ask *a = r->ask;
    const struct sample_params *s = &a->sample;
    json_t *prompt = prompt_json(r, chat);
    if (!prompt) {
        return error_set(err, ST_USAGE,
                         "the prompt is not UTF-8, and a pool takes no other "
                         "text");
    }
    json_t *o = json_pack(
        "{s:o, s:I, s:f, s:f, s:I, s:f, s:f, s:f, s:I, s:b, s:b, s:s*}",
        chat ? "messages" : "prompt", prompt, "max_tokens",
        (json_int_t)a->n_max, "temperature", (double)s->temperature, "top_p",
        (double)s->top_p, "top_k", (json_int_t)s->top_k, "min_p",
        (double)s->min_p, "typical_p", (double)s->typical_p, "repeat_penalty",
        (double)s->repeat, "seed", (json_int_t)a->seed, "stream", 1,
        "return_token_ids", 1, "model", r->model);
    if (o && a->logits_path) {
        json_object_set_new(o, "return_logits", json_true());
    }
    enum status st = o ? json_write(b, o) : ST_NO_MEMORY;
    json_decref(o);
    return st == ST_OK ? st : error_set(err, st, "no memory for the request");
}

static bool lacks_template(const struct http_reply *reply)
{
    json_t *body =
        json_loadb(reply->body.data, reply->body.len, JSON_ALLOW_NUL, NULL);
    const char *code = json_string_value(
        json_object_get(json_object_get(body, "error"), "code"));
    const bool lacks = code && strcmp(code, "no_chat_template") == 0;
    json_decref(body);
    return lacks;
}

static enum exit_code stream(struct answer *a, const struct buf *body)
{
    const struct http_request r = {.path = a->chat ? "/v1/chat/completions"
                                                   : "/v1/completions",
                                   .body = body->data,
                                   .n_body = body->len,
                                   .data = on_bytes,
                                   .arg = a,
                                   .silence_s = a->request->silence_s};
    struct http_reply reply;
    enum exit_code code = http_exchange(a->request->pool, &r, &reply, a->err);
    hide_waiting(a);
    if (code == EXIT_CODE_OK) {
        if (reply.status != 200) {
            a->no_template = a->chat && lacks_template(&reply);
            code = http_refusal(a->request->pool, &reply, a->err);
        } else if (!a->finished) {
            code = EXIT_CODE_BROKE_OFF;
            error_set(a->err, ST_IO, "%s closed the answer before its end",
                      a->request->pool->url);
        }
        buf_fini(&reply.body);
    }
    /* all that matters had come */
    if (code == EXIT_CODE_BROKE_OFF && a->finished) code = EXIT_CODE_OK;
    return code;
}

/* What is left to say after the last token. */
static enum exit_code finish(struct answer *a, enum exit_code code)
{
    if (code != EXIT_CODE_OK && code != EXIT_CODE_INTERRUPTED) {
        /* what was said stays; the error gets a line of its own */
        if (a->printed) putchar('\n');
        fflush(stdout);
        return code;
    }
    if (a->logits && fflush(a->logits) != 0) {
        return exit_code_of(error_set(a->err, ST_IO, "%s: %s",
                                      a->ask->logits_path, strerror(errno)));
    }
    if (code == EXIT_CODE_INTERRUPTED) {
        snprintf(a->finish_reason, sizeof a->finish_reason, "interrupted");
    }
    struct ask_result *r = &a->result;
    r->text = &a->text;
    r->tokens = a->tokens;
    r->n_tokens = a->n_tokens;
    r->finish_reason = a->finish_reason;
    struct error broken;
    const enum status st = ask_print_result(a->ask, r, &a->printed, &broken);
    if (st == ST_OK) return code;
    return exit_code_of(error_set(a->err, st, "%s", broken.text));
}

static enum exit_code run(struct answer *a, const struct buf *body)
{
    if (buf_append(&a->text, "", 0) != ST_OK) {
        return exit_code_of(
            error_set(a->err, ST_NO_MEMORY, "the answer's text"));
    }
    const char *path = a->ask->logits_path;
    if (path && !(a->logits = fopen(path, "wb"))) {
        return exit_code_of(
            error_set(a->err, ST_IO, "%s: %s", path, strerror(errno)));
    }
    enum exit_code code = stream(a, body);
    if (!a->no_template) code = finish(a, code);
    if (a->logits && fclose(a->logits) != 0 && code == EXIT_CODE_OK) {
        code = exit_code_of(
            error_set(a->err, ST_IO, "%s: %s", path, strerror(errno)));
    }
    return code;
}

static enum exit_code print(const struct answer_request *r, bool chat,
                            bool *no_template, struct answer_figures *figures,
                            struct error *err)
{
    struct answer a = {.request = r, .ask = r->ask, .chat = chat, .err = err};
    struct buf body;
    a.result.seed = r->ask->seed;
    sse_init(&a.sse);
    a.sse.data = on_data;
    a.sse.comment = on_comment;
    a.sse.arg = &a;
    buf_init(&a.text, TOKENIZER_TEXT_MAX);
    buf_init(&body, 8 * (size_t)PROMPT_MAX); /* escaped: six times as long */
    const enum status st = write_request(r, chat, &body, err);
    const enum exit_code code = st == ST_OK ? run(&a, &body) : exit_code_of(st);
    if (code == EXIT_CODE_OK && figures) {
        *figures = (struct answer_figures){
            .n_prompt = a.result.n_prompt,
            .n_tokens = a.n_tokens,
            .prompt_per_second = a.result.prompt_per_second,
            .predicted_per_second = a.result.predicted_per_second};
    }
    sse_fini(&a.sse);
    buf_fini(&a.text);
    buf_fini(&body);
    mem_free(a.tokens);
    mem_free(a.rows);
    *no_template = a.no_template;
    return code;
}

enum exit_code answer_print(const struct answer_request *r,
                            struct answer_figures *figures, struct error *err)
{
    bool no_template = false;
    const enum exit_code code =
        print(r, !r->ask->raw, &no_template, figures, err);
    if (!no_template || r->ask->system) return code;
    return print(r, false, &no_template, figures, err); /* a base model */
}

/* api_request.c - JSON to a request. */
#include "coordinator/api_request.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <sys/random.h>

#include "engine/chat_input.h"

#define BIAS_MAX (HEAD_ADJUST_MAX - SAMPLE_LAST_MAX)

struct parse {
    struct api_request *r;
    json_t *root;
    uint32_t n_vocab;
    bool chat;
    const char *param;
    struct error *err;
};

#define BAD(p, name, ...)                                                      \
    ((p)->param = (name), error_set((p)->err, ST_INVALID, __VA_ARGS__))

static enum status no_memory(struct parse *p)
{
    return error_set(p->err, ST_NO_MEMORY, "out of memory for the request");
}

/* A member, or NULL if it is absent or null. */
static json_t *member(const json_t *o, const char *name)
{
    json_t *v = json_object_get(o, name);
    return json_is_null(v) ? NULL : v;
}

/* ------------------------------------------------------------ fields */

static enum status read_number(struct parse *p, const char *name, double low,
                               double high, float *out)
{
    const json_t *v = member(p->root, name);
    if (!v) return ST_OK;
    const double x = json_is_number(v) ? json_number_value(v) : (double)NAN;
    if (!(x >= low && x <= high)) {
        return BAD(p, name, "%s must be a number from %g to %g", name, low,
                   high);
    }
    *out = (float)x;
    return ST_OK;
}

static enum status read_integer(struct parse *p, const char *name, int64_t low,
                                int64_t high, int64_t *out)
{
    const json_t *v = member(p->root, name);
    if (!v) return ST_OK;
    /* some clients write 16.0 */
    const double x = json_is_real(v) ? json_real_value(v) : 0;
    const bool whole = x == floor(x) && fabs(x) < 0x1p53;
    const int64_t i = json_is_integer(v) ? json_integer_value(v)
                      : whole            ? (int64_t)x
                                         : 0;
    if (!json_is_number(v) || !whole || i < low || i > high) {
        return BAD(p, name,
                   "%s must be a whole number from %" PRId64 " to %" PRId64,
                   name, low, high);
    }
    *out = i;
    return ST_OK;
}

static enum status read_bool(struct parse *p, const json_t *o, const char *name,
                             bool *out)
{
    const json_t *v = member(o, name);
    if (!v) return ST_OK;
    if (!json_is_boolean(v)) {
        return BAD(p, name, "%s must be true or false", name);
    }
    *out = json_is_true(v);
    return ST_OK;
}

static enum status read_flags(struct parse *p)
{
    struct api_request *r = p->r;
    enum status st = read_bool(p, p->root, "stream", &r->stream);
    if (st == ST_OK)
        st = read_bool(p, p->root, "return_token_ids", &r->return_token_ids);
    if (st == ST_OK)
        st = read_bool(p, p->root, "return_logits", &r->return_logits);
    if (st != ST_OK) return st;
    if (r->return_logits && !r->stream) {
        return BAD(p, "return_logits", "return_logits needs \"stream\": true");
    }
    const json_t *options = member(p->root, "stream_options");
    if (!options) return ST_OK;
    if (!json_is_object(options)) {
        return BAD(p, "stream_options", "stream_options must be an object");
    }
    return read_bool(p, options, "include_usage", &r->include_usage);
}

static enum status read_names(struct parse *p)
{
    const json_t *user = member(p->root, "user");
    if (user && !json_is_string(user))
        return BAD(p, "user", "user must be a string");
    const json_t *model = member(p->root, "model");
    if (!model) return ST_OK;
    if (!json_is_string(model))
        return BAD(p, "model", "model must be a string");
    p->r->model =
        mem_strndup(json_string_value(model), json_string_length(model));
    return p->r->model ? ST_OK : no_memory(p);
}

static enum status read_max_tokens(struct parse *p)
{
    static const char *const names[] = {"max_tokens", "max_completion_tokens",
                                        "n_predict"};
    int64_t n = p->chat ? API_MAX_TOKENS_CHAT : API_MAX_TOKENS;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const enum status st = read_integer(p, names[i], 1, INT32_MAX, &n);
        if (st != ST_OK) return st;
    }
    p->r->max_tokens = (uint32_t)n;
    return ST_OK;
}

static enum status read_seed(struct parse *p)
{
    int64_t seed = -1;
    const enum status st = read_integer(p, "seed", INT64_MIN, INT64_MAX, &seed);
    if (st != ST_OK) return st;
    p->r->sample.seed = (uint64_t)seed;
    if (seed != -1) return ST_OK;
    uint64_t drawn = 0;
    if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn) drawn = 1;
    p->r->sample.seed = drawn >> 11;
    return ST_OK;
}

static enum status read_sampling(struct parse *p)
{
    struct sample_params *s = &p->r->sample;
    const struct {
        const char *name;
        double low, high;
        float *to;
    } numbers[] = {
        {"temperature", 0, 100, &s->temperature},
        {"top_p", 0, 1, &s->top_p},
        {"min_p", 0, 1, &s->min_p},
        {"typical_p", 0, 1, &s->typical_p},
        {"repeat_penalty", 0.01, 100, &s->repeat},
        {"repetition_penalty", 0.01, 100, &s->repeat},
        {"frequency_penalty", -100, 100, &s->frequency},
        {"presence_penalty", -100, 100, &s->presence},
    };
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < COUNT_OF(numbers); i++) {
        st = read_number(p, numbers[i].name, numbers[i].low, numbers[i].high,
                         numbers[i].to);
    }
    if (s->temperature > 0 && s->temperature < 1e-3f && st == ST_OK) {
        return BAD(p, "temperature",
                   "temperature must be 0 (greedy) or at least 0.001");
    }
    int64_t top_k = s->top_k, last_n = s->repeat_last_n;
    if (st == ST_OK) st = read_integer(p, "top_k", -1, INT32_MAX, &top_k);
    if (st == ST_OK)
        st = read_integer(p, "repeat_last_n", -1, SAMPLE_LAST_MAX, &last_n);
    if (st == ST_OK) st = read_seed(p);
    if (st != ST_OK) return st;
    s->top_k = top_k < 0 ? 0 : (uint32_t)top_k; /* -1 turns it off elsewhere */
    s->repeat_last_n = last_n < 0 ? SAMPLE_LAST_MAX : (uint32_t)last_n;
    return ST_OK;
}

static enum status read_bias(struct parse *p)
{
    json_t *v = member(p->root, "logit_bias");
    if (!v) return ST_OK;
    if (!json_is_object(v) || json_object_size(v) > BIAS_MAX) {
        return BAD(p, "logit_bias",
                   "logit_bias must be an object of at most %d token ids, as "
                   "in {\"42\": -100}",
                   BIAS_MAX);
    }
    struct api_request *r = p->r;
    r->bias = mem_zalloc_array(json_object_size(v), sizeof *r->bias);
    if (!r->bias) return no_memory(p);
    const char *key;
    json_t *value;
    json_object_foreach(v, key, value)
    {
        char *end = NULL;
        const bool digits = key[0] >= '0' && key[0] <= '9' && strlen(key) < 10;
        const long id = digits ? strtol(key, &end, 10) : -1;
        const double delta =
            json_is_number(value) ? json_number_value(value) : (double)NAN;
        if (!digits || *end || (key[0] == '0' && key[1]) ||
            (unsigned long)id >= p->n_vocab || !(fabs(delta) <= 100)) {
            return BAD(p, "logit_bias",
                       "logit_bias must have token ids below %" PRIu32
                       " as names and numbers from -100 to 100 as values",
                       p->n_vocab);
        }
        r->bias[r->sample.n_bias++] =
            (struct head_adjust){(int32_t)id, (float)delta};
    }
    r->sample.bias = r->bias;
    return ST_OK;
}

static enum status read_stop(struct parse *p)
{
    const json_t *v = member(p->root, "stop");
    if (!v) return ST_OK;
    const bool list = json_is_array(v);
    const size_t n = list ? json_array_size(v) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *s = list ? json_array_get(v, i) : v;
        if (json_is_string(s) && json_string_length(s) == 0) continue;
        enum status st = ST_USAGE;
        if (json_is_string(s)) {
            st = stops_add(&p->r->stops, json_string_value(s),
                           json_string_length(s));
        }
        if (st == ST_NO_MEMORY) return no_memory(p);
        if (st != ST_OK) {
            return BAD(p, "stop",
                       "stop must be a string or an array of at most %d "
                       "strings of at most %d bytes",
                       STOPS_MAX, STOP_BYTES_MAX);
        }
    }
    return ST_OK;
}

/* ------------------------------------------------------------ prompt */

static enum status read_ids(struct parse *p, const json_t *v)
{
    const size_t n = json_array_size(v);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(v, i);
        const json_int_t x = json_is_integer(id) ? json_integer_value(id) : -1;
        if (x < 0 || x >= (json_int_t)p->n_vocab) {
            return BAD(p, "prompt",
                       "prompt[%zu] must be a token id from 0 to %" PRIu32, i,
                       p->n_vocab - 1);
        }
        if (tokens_push(&p->r->ids, (int32_t)x) != ST_OK) return no_memory(p);
    }
    return ST_OK;
}

static enum status read_messages(struct parse *p)
{
    const json_t *v = member(p->root, "messages");
    p->param = "messages";
    if (!v) return BAD(p, "messages", "messages is missing");
    return chat_messages_read(&p->r->messages, v, p->err);
}

static enum status read_prompt(struct parse *p)
{
    if (p->chat) return read_messages(p);
    const json_t *v = member(p->root, "prompt");
    if (!v) return BAD(p, "prompt", "prompt is missing");
    if (json_is_array(v) && json_array_size(v) > 0 &&
        !json_is_integer(json_array_get(v, 0))) {
        if (json_array_size(v) > 1) {
            return BAD(p, "prompt", "one prompt a request, not %zu",
                       json_array_size(v));
        }
        v = json_array_get(v, 0);
    }
    if (json_is_array(v) && json_array_size(v) > 0) return read_ids(p, v);
    if (!json_is_string(v)) {
        return BAD(p, "prompt",
                   "prompt must be a string or an array of token ids");
    }
    p->r->text = mem_strndup(json_string_value(v), json_string_length(v));
    p->r->text_bytes = json_string_length(v);
    return p->r->text ? ST_OK : no_memory(p);
}

/* --------------------------------------------------- what is not built */

static bool is_neutral(const json_t *v, double number)
{
    if (json_is_number(v)) return json_number_value(v) == number;
    if (json_is_string(v)) return json_string_length(v) == 0;
    if (json_is_array(v)) return json_array_size(v) == 0;
    if (json_is_object(v)) return json_object_size(v) == 0;
    return !json_is_true(v);
}

/* Tools may be offered: agents always do, and an answer in words is one of
 * those that they expect.  To demand a call is another matter. */
static enum status refuse_tools(struct parse *p)
{
    const json_t *choice = member(p->root, "tool_choice");
    const char *word = json_string_value(choice);
    if (!choice ||
        (word && (strcmp(word, "auto") == 0 || strcmp(word, "none") == 0))) {
        return ST_OK;
    }
    p->param = "tool_choice";
    return error_set(p->err, ST_UNSUPPORTED,
                     "tool_choice is not built yet but for \"auto\" and "
                     "\"none\"; leave it out");
}

static enum status refuse_unbuilt(struct parse *p)
{
    /* and the number that changes nothing, if there is one */
    static const struct {
        const char *name;
        double neutral;
    } unbuilt[] = {
        {"n", 1},
        {"best_of", 1},
        {"logprobs", -1}, /* 0 asks for the chosen token's */
        {"top_logprobs", 0},
        {"prompt_logprobs", -1},
        {"n_probs", 0},
        {"echo", 0},
        {"suffix", 0},
        {"grammar", 0},
        {"json_schema", 0},
        {"guided_json", 0},
        {"guided_regex", 0},
        {"guided_choice", 0},
        {"guided_grammar", 0},
        {"structured_outputs", 0},
        {"mirostat", 0},
        {"ignore_eos", 0},
        {"min_tokens", 0},
        {"dynatemp_range", 0},
        {"xtc_probability", 0},
        {"dry_multiplier", 0},
        {"top_n_sigma", -1},
        {"tfs_z", 1},
        {"length_penalty", 1},
        {"use_beam_search", 0},
        {"stop_token_ids", 0},
        {"bad_words", 0},
        {"allowed_token_ids", 0},
        {"truncate_prompt_tokens", 0},
        {"prompt_embeds", 0},
        {"lora", 0},
    };
    for (size_t i = 0; i < COUNT_OF(unbuilt); i++) {
        const json_t *v = member(p->root, unbuilt[i].name);
        if (!v || is_neutral(v, unbuilt[i].neutral)) continue;
        p->param = unbuilt[i].name;
        return error_set(p->err, ST_UNSUPPORTED,
                         "%s is not built yet; leave it out", unbuilt[i].name);
    }
    const json_t *format = member(p->root, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (!format || (type && strcmp(type, "text") == 0)) return ST_OK;
    p->param = "response_format";
    return error_set(p->err, ST_UNSUPPORTED,
                     "response_format is not built yet but for "
                     "{\"type\": \"text\"}; leave it out");
}

/* -------------------------------------------------------------- whole */

json_t *api_parse_object(const char *body, size_t n, struct error *err)
{
    size_t values = 0, nests = 0;
    bool string = false;
    for (size_t i = 0; i < n; i++) {
        const char c = body[i];
        if (string) {
            if (c == '\\') i++;
            if (c == '"') string = false;
        } else {
            string = c == '"';
            values += c == ',';
            nests += c == '[' || c == '{';
        }
    }
    if (values > API_VALUES_MAX || nests > API_NESTS_MAX) {
        error_set(err, ST_INVALID,
                  "the JSON has more than %u values or %u arrays and objects",
                  API_VALUES_MAX, API_NESTS_MAX);
        return NULL;
    }
    json_error_t why;
    json_t *root = json_loadb(body, n, JSON_ALLOW_NUL, &why);
    if (json_is_object(root)) return root;
    const bool memory =
        !root && json_error_code(&why) == json_error_out_of_memory;
    if (memory)
        error_set(err, ST_NO_MEMORY, "out of memory for the request");
    else if (root)
        error_set(err, ST_INVALID, "the body must be a JSON object");
    else /* not what stands there: it may be part of a prompt */
        error_set(err, ST_INVALID, "the body is not JSON: line %d, column %d",
                  why.line, why.column);
    json_decref(root);
    return NULL;
}

enum status api_request_parse(struct api_request *out, const char *body,
                              size_t n, bool chat, uint32_t n_vocab,
                              const char **param, struct error *err)
{
    struct error own;
    struct api_request r = {.sample = sample_defaults()};
    struct parse p = {
        .r = &r, .n_vocab = n_vocab, .chat = chat, .err = err ? err : &own};
    static enum status (*const steps[])(struct parse *) = {
        refuse_unbuilt, refuse_tools, read_flags, read_names, read_max_tokens,
        read_sampling,  read_bias,    read_stop,  read_prompt};
    enum status st = ST_OK;
    p.root = api_parse_object(body, n, p.err);
    if (!p.root) st = p.err->status;
    for (size_t i = 0; st == ST_OK && i < COUNT_OF(steps); i++)
        st = steps[i](&p);
    json_decref(p.root);
    if (st == ST_OK) st = sample_check(&r.sample, p.err);
    *param = p.param;
    if (st != ST_OK) {
        api_request_fini(&r);
        return st;
    }
    *out = r;
    return ST_OK;
}

void api_request_fini(struct api_request *r)
{
    json_decref(r->messages);
    mem_free(r->text);
    tokens_fini(&r->ids);
    mem_free(r->bias);
    mem_free(r->model);
    stops_fini(&r->stops);
    *r = (struct api_request){0};
}

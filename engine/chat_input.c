#include "engine/chat_input.h"

#include <string.h>

static enum status no_memory(struct error *err)
{
    return error_set(err, ST_NO_MEMORY, "out of memory for the messages");
}

static const char *text_of(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}

/* ---------------------------------------------------------------- read */

/* Appends one part's text: a string, or {"type":"text","text":...}. */
static enum status read_part(struct buf *b, const json_t *part, size_t i,
                             struct error *err)
{
    const json_t *text = part;
    if (json_is_object(part)) {
        const char *type = text_of(part, "type");
        if (*type && strcmp(type, "text") != 0 &&
            strcmp(type, "input_text") != 0 && strcmp(type, "refusal") != 0) {
            return error_set(err, ST_INVALID,
                             "messages[%zu] has a part that is no text: this "
                             "model reads text only",
                             i);
        }
        text =
            json_object_get(part, strcmp(type, "refusal") == 0 ? type : "text");
    }
    if (!json_is_string(text)) {
        return error_set(err, ST_INVALID,
                         "messages[%zu]: a part of content has no text", i);
    }
    const enum status st =
        buf_append(b, json_string_value(text), json_string_length(text));
    return st == ST_OK ? st : no_memory(err);
}

/* One string of content, however it is written; a new reference. */
static enum status read_content(json_t **out, json_t *content, size_t i,
                                struct error *err)
{
    if (!content || json_is_null(content)) {
        *out = json_string("");
        return *out ? ST_OK : no_memory(err);
    }
    if (json_is_string(content)) {
        *out = json_incref(content);
        return ST_OK;
    }
    if (!json_is_array(content)) {
        return error_set(err, ST_INVALID,
                         "messages[%zu].content must be a string or an array "
                         "of text parts",
                         i);
    }
    struct buf b;
    buf_init(&b, TOKENIZER_TEXT_MAX);
    enum status st = ST_OK;
    for (size_t k = 0; st == ST_OK && k < json_array_size(content); k++)
        st = read_part(&b, json_array_get(content, k), i, err);
    if (st == ST_OK) {
        *out = json_stringn(b.data ? b.data : "", b.len);
        if (!*out) st = no_memory(err);
    }
    buf_fini(&b);
    return st;
}

static enum status read_message(json_t *to, const json_t *m, size_t i,
                                struct error *err)
{
    static const char *const also[] = {"name", "tool_calls", "tool_call_id"};
    json_t *role = json_object_get(m, "role");
    if (!json_is_string(role) || json_string_length(role) == 0) {
        return error_set(err, ST_INVALID,
                         "messages[%zu] must be an object with a role (system, "
                         "user or assistant) and content",
                         i);
    }
    json_t *content = NULL;
    const enum status st =
        read_content(&content, json_object_get(m, "content"), i, err);
    if (st != ST_OK) return st;
    role = strcmp(json_string_value(role), "developer") == 0
               ? json_string("system")
               : json_incref(role);
    int bad = json_object_set_new(to, "role", role);
    bad |= json_object_set_new(to, "content", content);
    for (size_t k = 0; k < COUNT_OF(also); k++) {
        json_t *v = json_object_get(m, also[k]);
        if (v && !json_is_null(v)) bad |= json_object_set(to, also[k], v);
    }
    return bad ? no_memory(err) : ST_OK;
}

enum status chat_messages_read(json_t **out, const json_t *messages,
                               struct error *err)
{
    const size_t n = json_array_size(messages);
    if (!json_is_array(messages) || n < 1 || n > CHAT_MESSAGES_MAX) {
        return error_set(err, ST_INVALID,
                         "messages must be an array of 1 to %d messages",
                         CHAT_MESSAGES_MAX);
    }
    json_t *list = json_array();
    enum status st = list ? ST_OK : no_memory(err);
    for (size_t i = 0; st == ST_OK && i < n; i++) {
        json_t *m = json_object();
        st = m ? read_message(m, json_array_get(messages, i), i, err)
               : no_memory(err);
        if (st == ST_OK && json_array_append(list, m) != 0) st = no_memory(err);
        json_decref(m);
    }
    if (st != ST_OK) {
        json_decref(list);
        return st;
    }
    *out = list;
    return ST_OK;
}

/* ---------------------------------------------------------------- make */

static json_t *message(const char *role, const char *text, size_t n)
{
    json_t *s = json_stringn(text, n);
    return s ? json_pack("{s:s, s:o}", "role", role, "content", s) : NULL;
}

enum status chat_messages_make(json_t **out, const char *system,
                               const char *user, size_t n_user,
                               struct error *err)
{
    json_t *list = json_array();
    if (!list) return no_memory(err);
    json_t *m = system ? message("system", system, strlen(system)) : NULL;
    int bad = system ? json_array_append_new(list, m) : 0;
    m = message("user", user, n_user);
    bad |= json_array_append_new(list, m);
    if (bad) {
        json_decref(list);
        return error_set(err, ST_USAGE,
                         "the prompt or the system message is not UTF-8");
    }
    *out = list;
    return ST_OK;
}

/* ----------------------------------------------------------------- ids */

/* The same messages, the first one (system) in front of the second (user).
 * NULL: there are no such two, or no memory. */
static json_t *fold_system(json_t *messages)
{
    const json_t *first = json_array_get(messages, 0);
    const json_t *second = json_array_get(messages, 1);
    if (strcmp(text_of(first, "role"), "system") != 0 ||
        strcmp(text_of(second, "role"), "user") != 0) {
        return NULL;
    }
    const json_t *a = json_object_get(first, "content");
    const json_t *b = json_object_get(second, "content");
    struct buf text;
    buf_init(&text, TOKENIZER_TEXT_MAX);
    enum status st =
        buf_append(&text, json_string_value(a), json_string_length(a));
    if (st == ST_OK) st = buf_append(&text, "\n\n", 2);
    if (st == ST_OK)
        st = buf_append(&text, json_string_value(b), json_string_length(b));
    json_t *m = st == ST_OK ? message("user", text.data, text.len) : NULL;
    buf_fini(&text);
    json_t *list = m ? json_copy(messages) : NULL;
    if (!list) {
        json_decref(m);
        return NULL;
    }
    if (json_array_remove(list, 0) != 0 || json_array_set_new(list, 0, m)) {
        json_decref(list);
        return NULL;
    }
    return list;
}

enum status chat_ids(const struct chat *c, const struct tokenizer *t,
                     json_t *messages, int64_t now, struct tokens *out,
                     struct error *err)
{
    struct chat_prompt prompt = {0};
    struct chat_input in = {
        .messages = messages, .add_generation_prompt = true, .now = now};
    enum status st = chat_render(c, &in, &prompt, err);
    if (st == ST_INVALID) {
        in.messages = fold_system(messages);
        /* or the first error stands */
        if (in.messages) st = chat_render(c, &in, &prompt, err);
        json_decref(in.messages);
    }
    if (st == ST_OK) st = chat_encode(t, &prompt, out, err);
    chat_prompt_fini(&prompt);
    return st;
}

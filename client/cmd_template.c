/* cmd_template.c - potluck template: messages as the text a model reads. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/commands.h"
#include "engine/chat.h"

#define MESSAGES_MAX (64u << 20) /* bytes of JSON */

/* Standard input, the JSON itself, or a file of it. */
static enum status read_json(const char *word, const char *what, json_t **out,
                             struct error *err)
{
    struct buf text;
    buf_init(&text, MESSAGES_MAX);
    enum status st;
    if (strcmp(word, "-") == 0) {
        st = read_all_stdin(&text, what, err);
    } else if (word[0] == '[' || word[0] == '{') {
        st = buf_append(&text, word, strlen(word));
        if (st != ST_OK) error_set(err, st, "%s", what);
    } else {
        st = read_all_file(word, &text, err);
    }
    if (st == ST_OK) {
        json_error_t e;
        *out = json_loadb(text.data ? text.data : "", text.len, 0, &e);
        if (!*out) {
            st = error_set(err, ST_INVALID, "%s: line %d: %s", what, e.line,
                           e.text);
        }
    }
    buf_fini(&text);
    return st;
}

/* Unix seconds of the day's beginning, UTC; -1: no such day. */
static int64_t parse_date(const char *text)
{
    struct tm tm = {0};
    const char *end = text;
    int field[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        const char *from = end;
        while (*end >= '0' && *end <= '9' && end - from < 4) {
            field[i] = 10 * field[i] + (*end++ - '0');
        }
        if (end - from != (i ? 2 : 4)) return -1;
        if (*end != (i < 2 ? '-' : '\0')) return -1;
        end++;
    }
    tm.tm_year = field[0] - 1900;
    tm.tm_mon = field[1] - 1;
    tm.tm_mday = field[2];
    const time_t t = timegm(&tm);
    if (tm.tm_mon != field[1] - 1 || tm.tm_mday != field[2] || t < 0) {
        return -1;
    }
    return t;
}

static enum status open_chat(struct chat **out, const char *path,
                             struct error *err)
{
    struct gguf *g;
    enum status st = gguf_open(&g, path, err);
    if (st != ST_OK) return st;
    st = chat_create(out, g, err);
    gguf_close(g);
    return st == ST_OK ? ST_OK : error_prefix(err, st, "%s", path);
}

struct template_words {
    const char *model, *messages, *tools, *date;
    bool no_prompt;
};

/* {"messages": [...], "tools": [...]} gives both; borrowed from json. */
static void take_request(json_t *json, struct chat_input *in)
{
    in->messages = json;
    if (!json_is_object(json)) return;
    in->messages = json_object_get(json, "messages");
    if (!in->tools) in->tools = json_object_get(json, "tools");
}

static enum status run(const struct template_words *w, struct error *err)
{
    struct chat *chat = NULL;
    struct chat_prompt prompt = {0};
    json_t *messages = NULL, *tools = NULL;
    int64_t now = (int64_t)time(NULL);
    if (!w->model) {
        return error_set(err, ST_USAGE, "template needs a model file");
    }
    if (!w->messages) {
        return error_set(err, ST_USAGE, "template needs --json MESSAGES");
    }
    if (w->date && (now = parse_date(w->date)) < 0) {
        return error_set(err, ST_USAGE, "--date %s: not a day as 2024-07-26",
                         w->date);
    }
    enum status st = open_chat(&chat, w->model, err);
    if (st == ST_OK) st = read_json(w->messages, "messages", &messages, err);
    if (st == ST_OK && w->tools) st = read_json(w->tools, "tools", &tools, err);
    if (st == ST_OK) {
        struct chat_input in = {
            .tools = tools, .add_generation_prompt = !w->no_prompt, .now = now};
        take_request(messages, &in);
        st = chat_render(chat, &in, &prompt, err);
    }
    if (st == ST_OK && prompt.text.len) {
        fwrite(prompt.text.data, 1, prompt.text.len, stdout);
    }
    chat_prompt_fini(&prompt);
    chat_free(chat);
    json_decref(messages);
    json_decref(tools);
    return st;
}

int cmd_template(int argc, char **argv)
{
    struct template_words w = {0};
    const struct option table[] = {
        {"--json", 0, OPTION_STRING, &w.messages, "MESSAGES",
         "a JSON file, - for standard input, or JSON itself", 0, 0},
        {"--tools", 0, OPTION_STRING, &w.tools, "TOOLS",
         "the tools on offer, likewise", 0, 0},
        {"--no-generation-prompt", 0, OPTION_FLAG, &w.no_prompt, NULL,
         "do not begin the assistant's answer", 0, 0},
        {"--date", 0, OPTION_STRING, &w.date, "YYYY-MM-DD",
         "the day that the template is told (default: today)", 0, 0},
    };
    const char *words[1];
    size_t n_words;
    int code;
    if (!parse_command(table, COUNT_OF(table),
                       "template MODEL.gguf --json MESSAGES [OPTIONS]", argc,
                       argv, words, 1, &n_words, &code)) {
        return code;
    }
    struct error err;
    w.model = n_words ? words[0] : NULL;
    return run(&w, &err) == ST_OK ? EXIT_CODE_OK : fail(&err);
}

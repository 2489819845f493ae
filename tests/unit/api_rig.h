/* api_rig.h - the HTTP interface on a port of its own, over the fakes: for the
 * files that test it.
 *
 * Depends on: api_fakes, http_client, vocab, cmocka.  Thread: the test's. */
#ifndef TESTS_UNIT_API_RIG_H
#define TESTS_UNIT_API_RIG_H

#include "coordinator/api.h"
#include "tests/lib/http_client.h"
#include "tests/lib/vocab.h"
#include "tests/unit/api_fakes.h"

#define TOKEN "0123456789abcdef"
/* refuses a system message, as many do */
#define TEMPLATE                                                               \
    "{% for m in messages %}{% if m.role == 'system' %}"                       \
    "{{ raise_exception('no system here') }}{% endif %}"                       \
    "<{{ m.role }}>{{ m.content }}{% endfor %}"                                \
    "{% if add_generation_prompt %}<bot>{% endif %}"

/* --------------------------------------------------------------- rig */

static struct http_rig rig;
static struct api *api;
static size_t n_revoked, mem_before;
static struct chat *chat;
static const struct error no_chat = {ST_NOT_FOUND, "no template here"};

static inline enum status make_join(void *arg, const char *tok,
                                    char text[JOIN_TEXT_BYTES],
                                    struct error *err)
{
    (void)arg, (void)err;
    snprintf(text, JOIN_TEXT_BYTES, "potluck://h:1/k?token=%s", tok);
    return ST_OK;
}
static inline void on_revoked(void *arg, const uint8_t key[KEY_BYTES])
{
    (void)arg;
    n_revoked += key[0] == 0x1f;
}

static inline int setup(void **state)
{
    (void)state;
    struct error err = {.text = ""};
    const struct vocab_spec spec = {
        .entry = small_vocab, .n = small_vocab_n, .chat_template = TEMPLATE};
    struct buf file;
    memset(&pool, 0, sizeof pool);
    memset(&admit, 0, sizeof admit);
    n_revoked = 0;
    pool.ready = true;
    pool.why = "";
    http_rig_begin(&rig);
    mem_before = mem_in_use();
    struct gguf *g;
    buf_init(&file, 1u << 20);
    if (vocab_write(&spec, &file, &err) != ST_OK ||
        gguf_open_mem(&g, file.data, file.len, &err) != ST_OK ||
        chat_create(&chat, g, &err) != ST_OK) {
        return -1;
    }
    gguf_close(g);
    buf_fini(&file);
    const struct api_options o = {.address = "127.0.0.1:0",
                                  .chat = *state ? NULL : chat,
                                  .why_no_chat = &no_chat,
                                  .pool = &pool,
                                  .admit = &admit,
                                  .operator_token = TOKEN,
                                  .join = make_join,
                                  .revoked = on_revoked,
                                  .http = {.tick_ms = 100}};
    return vocab_create(&pool.tokenizer, &spec, &err) == ST_OK &&
                   api_create(&api, &rig.loop, &o, &err) == ST_OK
               ? 0
               : -1;
}

static inline int teardown(void **state)
{
    (void)state;
    api_close(api);
    api = NULL;
    tokenizer_free(pool.tokenizer);
    chat_free(chat);
    return http_rig_end(&rig) && mem_in_use() == mem_before ? 0 : -1;
}

static inline struct http_client ask(const char *method, const char *path,
                                     const char *body)
{
    struct http_client c;
    assert_true(http_client_open(&c, api_port(api)));
    assert_true(http_client_ask(&c, method, path, body));
    uv_run(&rig.loop, UV_RUN_NOWAIT);
    return c;
}

static inline bool has_jobs(void *arg)
{
    return pool.n_jobs >= *(size_t *)arg;
}
/* A completion that the pool has; its number. */
static inline size_t begin_at(struct http_client *c, const char *path,
                              const char *body)
{
    size_t want = pool.n_jobs + 1;
    *c = ask("POST", path, body);
    assert_true(http_rig_until(&rig, has_jobs, &want));
    return want - 1;
}

static inline size_t begin(struct http_client *c, const char *body)
{
    return begin_at(c, "/v1/completions", body);
}

static inline bool is_whole(void *arg)
{
    struct http_client *c = arg;
    size_t n;
    bool whole;
    http_client_read(c);
    mem_free(http_client_body(c, &n, &whole));
    return whole || c->eof;
}
/* The whole body; the caller's. */
static inline char *finish(struct http_client *c, int status)
{
    size_t n;
    bool whole;
    assert_true(http_rig_until(&rig, is_whole, c));
    char *body = http_client_body(c, &n, &whole);
    if (http_client_status(c) != status || !whole)
        fail_msg("status %d, not %d: %s", http_client_status(c), status,
                 body ? body : "");
    return body;
}
static inline json_t *finish_json(struct http_client *c, int status)
{
    char *body = finish(c, status);
    assert_true(http_client_has(c, "Content-Type: application/json"));
    json_t *o = json_loads(body, 0, NULL);
    if (!o) fail_msg("not JSON: %s", body);
    mem_free(body);
    http_client_close(c);
    return o;
}
/* "a.0.b" */
static inline json_t *at(json_t *o, const char *path)
{
    char word[64];
    const char *from = path;
    while (*path) {
        const size_t n = strcspn(path, ".");
        snprintf(word, sizeof word, "%.*s", (int)n, path);
        o = json_is_array(o) ? json_array_get(o, (size_t)strtol(word, NULL, 10))
                             : json_object_get(o, word);
        if (!o) fail_msg("no %s", from);
        path += n + (path[n] == '.');
    }
    return o;
}
#define S(o, path) json_string_value(at(o, path))
#define I(o, path) json_integer_value(at(o, path))

static inline void expect_error(struct http_client c, int status,
                                const char *code, const char *param)
{
    json_t *o = finish_json(&c, status);
    assert_true(json_is_string(at(o, "error.message")));
    assert_true(json_is_string(at(o, "error.type")));
    assert_string_equal(S(o, "error.code"), code);
    if (param)
        assert_string_equal(S(o, "error.param"), param);
    else
        assert_true(json_is_null(at(o, "error.param")));
    json_decref(o);
}

/* Events of a stream's body, as JSON; the caller's to json_decref. Comments
 * are left out, but counted; [DONE] must be the last if there is one. */
struct events {
    json_t *list;
    size_t n_comments;
    bool is_done;
};
static inline struct events events_of(char *body)
{
    struct events e = {.list = json_array()};
    for (char *line = body; *line;) {
        char *end = strstr(line, "\n\n");
        assert_non_null(end);
        *end = '\0';
        assert_null(strchr(line, '\n'));
        assert_false(e.is_done);
        if (*line == ':') {
            e.n_comments++;
        } else if (strcmp(line, "data: [DONE]") == 0) {
            e.is_done = true;
        } else {
            assert_memory_equal(line, "data: ", 6);
            json_t *o = json_loads(line + 6, 0, NULL);
            if (!o) fail_msg("not JSON: %s", line);
            json_array_append_new(e.list, o);
        }
        line = end + 2;
    }
    mem_free(body);
    return e;
}

#endif

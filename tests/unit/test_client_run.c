/* potluck run and status against a server that says what it should not: what
 * is printed, how each failure ends, that Ctrl-C hangs up. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tests/lib/cli.h"
#include "tests/lib/fake_http.h"

#define DONE "data: [DONE]\n\n"
#define END                                                                    \
    "data: {\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":"        \
    "\"length\"}],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2},"    \
    "\"timings\":{\"prompt_ms\":2.5,\"prompt_per_second\":1600,"               \
    "\"predicted_ms\":4,\"predicted_per_second\":250},\"seed\":7}\n\n"
#define ONE                                                                    \
    "data: {\"choices\":[{\"index\":0,\"text\":\" one\",\"token_ids\":[11],"   \
    "\"finish_reason\":null}]}\n\n"
#define TWO                                                                    \
    "data: {\"choices\":[{\"index\":0,\"text\":\" two\",\"token_ids\":[12],"   \
    "\"finish_reason\":null}]}\n\n"

static int setup(void **state)
{
    (void)state;
    cli_begin();
    unsetenv("POTLUCK_API_KEY");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cli_end();
    return 0;
}

#define RUN(...)  CLI("run", "--raw", "--host", fake_http_url(), __VA_ARGS__)
#define CHAT(...) CLI("run", "--host", fake_http_url(), __VA_ARGS__)
#define RUN_WITH(with, ...)                                                    \
    CLI_WITH(with, "run", "--raw", "--host", fake_http_url(), __VA_ARGS__)

/* ------------------------------------------------------------- answers */

struct script {
    const char *stream; /* NULL: reply with status and body */
    const char *status, *body;
    size_t piece; /* bytes a packet, about; 0: all */
    struct buf seen;
};

static void play(struct fake_conn *c, void *arg)
{
    struct script *s = arg;
    s->seen.len = 0;
    if (buf_append(&s->seen, c->request.data, c->request.len) != ST_OK) return;
    if (!s->stream) {
        fake_json(c, s->status, s->body);
        return;
    }
    fake_stream(c);
    const size_t n = strlen(s->stream);
    const size_t piece = s->piece ? s->piece : n;
    for (size_t i = 0; i < n; i += piece) {
        fake_send(c, s->stream + i, n - i < piece ? n - i : piece);
    }
}

static void begin(struct script *s)
{
    buf_init(&s->seen, 32u << 20);
    fake_http_start(play, s);
}

static void end(struct script *s)
{
    fake_http_stop();
    buf_fini(&s->seen);
}

static void text_comes_in_pieces_of_any_size(void **state)
{
    (void)state;
    struct script s = {.stream = ": waiting, 3 in front\n\n" ONE TWO END DONE};
    begin(&s);
    for (s.piece = 0; s.piece < 40; s.piece = s.piece * 3 + 1) {
        cli_expect_out(RUN("hi"), 0, " one two\n");
    }
    struct outcome o = RUN("--stats", "hi");
    assert_string_equal(o.out.data, " one two\n");
    assert_string_equal(o.err.data,
                        "prompt: 4 tokens, 1600.0 tokens/s; answer: 2 tokens, "
                        "250.0 tokens/s; length\n");
    outcome_fini(&o);
    /* without its last word, but whole */
    s.stream = ONE TWO END;
    cli_expect_out(RUN("hi"), 0, " one two\n");
    end(&s);
}

static void the_request_has_every_parameter(void **state)
{
    (void)state;
    struct script s = {.stream = ONE TWO END DONE};
    begin(&s);
    struct command with = {
        .input = "context",
        .env = (const char *const[]){"POTLUCK_API_KEY=secret",
                                     "http_proxy=http://127.0.0.1:1", NULL}};
    cli_expect(RUN_WITH(with, "-m", "llama", "-p", "Do", "-n", "9", "--temp",
                        "0.5", "--top-k", "3", "--top-p", "0.25", "--min-p",
                        "0.125", "--typical", "0.75", "--repeat-penalty", "1.5",
                        "--seed", "123456789012"),
               0, "");
    fake_http_stop();
    const char *head = s.seen.data, *body = strstr(head, "\r\n\r\n");
    assert_non_null(strstr(head, "POST /v1/completions HTTP/1.1\r\n"));
    assert_non_null(strstr(head, "Authorization: Bearer secret\r\n"));
    json_t *o = json_loads(body + 4, 0, NULL);
    assert_non_null(o);
    assert_string_equal(string_at(o, "prompt"), "Do\n\ncontext");
    assert_string_equal(string_at(o, "model"), "llama");
    assert_int_equal(number_at(o, "max_tokens"), 9);
    assert_true(number_at(o, "temperature") == 0.5);
    assert_int_equal(number_at(o, "top_k"), 3);
    assert_true(number_at(o, "top_p") == 0.25);
    assert_true(number_at(o, "min_p") == 0.125);
    assert_true(number_at(o, "typical_p") == 0.75);
    assert_true(number_at(o, "repeat_penalty") == 1.5);
    assert_true(number_at(o, "seed") == 123456789012.0);
    assert_true(json_is_true(json_at(o, "stream")));
    assert_true(json_is_true(json_at(o, "return_token_ids")));
    assert_null(json_object_get(o, "return_logits"));
    json_decref(o);
    buf_fini(&s.seen);
}

/* What a pool says whose model has a template, and one whose has none. */
static void play_chat(struct fake_conn *c, void *arg)
{
    struct script *s = arg;
    const bool chat =
        strncmp(c->request.data, "POST /v1/chat/completions ", 26) == 0;
    if (chat) {
        s->seen.len = 0;
        (void)!buf_append(&s->seen, c->request.data, c->request.len);
    }
    if (chat && s->body) {
        fake_json(c, s->status, s->body);
        return;
    }
    fake_stream(c);
    fake_text(c, chat ? s->stream : ONE END DONE);
}

static void a_prompt_is_a_message(void **state)
{
    (void)state;
    struct script s = {
        .stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":"
                  "\"assistant\",\"content\":\"\"}}]}\n\n"
                  "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                  "\"yes\"},\"token_ids\":[11]}]}\n\n"
                  "data: {\"choices\":[{\"index\":0,\"delta\":{},"
                  "\"finish_reason\":\"stop\"}]}\n\n" DONE};
    buf_init(&s.seen, 1u << 20);
    fake_http_start(play_chat, &s);
    cli_expect_out(CHAT("-s", "be kind", "hi"), 0, "yes\n");
    json_t *o = json_loads(strstr(s.seen.data, "\r\n\r\n") + 4, 0, NULL);
    assert_non_null(o);
    json_t *list = json_at(o, "messages");
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(string_at(json_array_get(list, 0), "role"), "system");
    assert_string_equal(string_at(json_array_get(list, 0), "content"),
                        "be kind");
    assert_string_equal(string_at(json_array_get(list, 1), "content"), "hi");
    assert_null(json_object_get(o, "prompt"));
    json_decref(o);
    /* a base model goes on with the text, but cannot take -s */
    s.status = "400 Bad Request";
    s.body = "{\"error\":{\"message\":\"no template\",\"code\":"
             "\"no_chat_template\"}}";
    cli_expect_out(CHAT("hi"), 0, " one\n");
    cli_expect(CHAT("-s", "be kind", "hi"), 5, "no template");
    /* one that is there and cannot be used is not passed over */
    s.body = "{\"error\":{\"message\":\"line 3: what\",\"code\":"
             "\"unusable_chat_template\"}}";
    cli_expect(CHAT("hi"), 5, "line 3: what");
    end(&s);
}

/* One token of local's answer, with its row, as the pool sends it. */
static void append_token(struct buf *b, json_t *id, const char *text,
                         const void *row, size_t n)
{
    const size_t room =
        sodium_base64_encoded_len(n, sodium_base64_VARIANT_ORIGINAL);
    char *row64 = mem_alloc(room);
    sodium_bin2base64(row64, room, row, n, sodium_base64_VARIANT_ORIGINAL);
    json_t *choice = json_pack("{s:[{s:i, s:s, s:[O], s:s, s:n}]}", "choices",
                               "index", 0, "text", text, "token_ids", id,
                               "logits", row64, "finish_reason");
    char *event = json_dumps(choice, 0);
    assert_int_equal(buf_printf(b, "data: %s\n\n", event), ST_OK);
    json_decref(choice);
    mem_free(row64);
    json_malloc_t unused;
    json_free_t give_back;
    json_get_alloc_funcs(&unused, &give_back);
    give_back(event);
}

static void run_prints_what_local_prints(void **state)
{
    (void)state;
    cli_model("small.gguf", "tiny-dense",
              (const char *const[]){"n_layer=1", "n_embd=64", "n_head=2",
                                    "n_head_kv=1", "n_ff=96", "n_vocab=320",
                                    "type=q8_0", NULL});
    const char *want_path = cli_path("want"), *got_path = cli_path("got");
    struct outcome local =
        CLI("local", cli_path("small.gguf"), "--raw", "--json", "--temp", "0",
            "--seed", "5", "-n", "6", "--logits", want_path, "hi");
    assert_int_equal(local.code, 0);
    json_t *o = json_loads(local.out.data, JSON_ALLOW_NUL, NULL);
    struct buf rows = cli_read(want_path), stream;
    json_t *tokens = json_at(o, "tokens");
    const size_t n = json_array_size(tokens), row = rows.len / n;
    assert_int_equal(row, 320 * 4);
    buf_init(&stream, 16u << 20);
    for (size_t i = 0; i < n; i++) {
        append_token(&stream, json_array_get(tokens, i),
                     i == n / 2 ? string_at(o, "text") : "",
                     rows.data + i * row, row);
    }
    json_t *last =
        json_pack("{s:[{s:s, s:O}], s:O, s:{s:O}, s:O}", "choices", "text", "",
                  "finish_reason", json_at(o, "finish_reason"), "timings",
                  json_at(o, "timings"), "usage", "prompt_tokens",
                  json_at(o, "prompt_tokens"), "seed", json_at(o, "seed"));
    assert_int_equal(buf_printf(&stream, "data: "), ST_OK);
    const size_t at = stream.len, room = 65536;
    char *to;
    assert_int_equal(buf_reserve(&stream, room, &to), ST_OK);
    stream.len = at + json_dumpb(last, to, room, 0);
    assert_int_equal(buf_printf(&stream, "\n\n" DONE), ST_OK);
    json_decref(last);

    struct script s = {.stream = stream.data, .piece = 1000};
    begin(&s);
    struct outcome run = RUN("--raw", "--json", "--temp", "0", "--seed", "5",
                             "-n", "6", "--logits", got_path, "hi");
    end(&s);
    assert_int_equal(run.code, 0);
    assert_string_equal(run.out.data, local.out.data);
    struct buf got = cli_read(got_path);
    assert_int_equal(got.len, rows.len);
    assert_memory_equal(got.data, rows.data, rows.len);
    buf_fini(&got);
    buf_fini(&rows);
    buf_fini(&stream);
    json_decref(o);
    outcome_fini(&run);
    outcome_fini(&local);
}

/* ------------------------------------------------------------ failures */

static const struct {
    const char *status, *body;
    int code;
    const char *said;
} replies[] = {
    {"400 Bad Request", "{\"error\":{\"message\":\"stop is odd\"}}", 5,
     "stop is odd"},
    {"401 Unauthorized", "{\"error\":{\"message\":\"which key?\"}}", 5,
     "which key?"},
    {"413 Too Large", "{\"error\":{\"message\":\"too long\"}}", 5, "too long"},
    {"429 Too Many", "{\"error\":{\"message\":\"queue\"}}", 5, "queue"},
    {"503 Unavailable",
     "{\"error\":{\"message\":\"1 of 3 joined\",\"code\":\"not_ready\"}}", 4,
     "1 of 3 joined"},
    {"500 Oh", "{\"error\":{\"message\":\"a bug\"}}", 1, "a bug"},
    {"404 Not Found", "<html>", 5, "HTTP status 404"},
    {"502 Bad Gateway", "", 1, "HTTP status 502"},
    {"302 Found", "{}", 1, "HTTP status 302"},
    {"400 Bad", "{\"error\":\"plain\"}", 5, "plain"},
    {"400 Bad", "{\"error\":{\"message\":[1],\"code\":{}}}", 5, "no reason"},
    {"400 Bad", "{\"error\":{\"message\":\"\\u001b[2J\\nx\"}}", 5, "?[2J?x"},
    {"200 OK", "{\"choices\":[]}", 6, "before its end"},
    {"200 OK", "", 6, "before its end"},
};

static void a_refusal_gives_its_reason_and_exit_code(void **state)
{
    (void)state;
    struct script s = {0};
    begin(&s);
    for (size_t i = 0; i < COUNT_OF(replies); i++) {
        s.status = replies[i].status;
        s.body = replies[i].body;
        cli_expect(RUN("hi"), replies[i].code, replies[i].said);
    }
    end(&s);
}

#define EVENT(json)  "data: " json "\n\n"
#define CHOICE(json) EVENT("{\"choices\":[{" json "}]}")
static const struct {
    const char *stream;
    int code;
    const char *said;
} streams[] = {
    {ONE, 6, "before its end"},
    {ONE EVENT("{\"error\":{\"message\":\"pc-2 is gone\"}}"), 6,
     "pc-2 is gone"},
    {EVENT("{\"error\":{\"message\":\"loading\",\"code\":\"not_ready\"}}"), 4,
     "loading"},
    {ONE EVENT("{\"error\":{\"message\":\"x\",\"code\":\"not_ready\"}}"), 6,
     "x"},
    {ONE EVENT("garbage"), 1, "no JSON"},
    {ONE EVENT("7"), 1, "no JSON"},
    {ONE EVENT("[]"), 1, "no completion"},
    {ONE EVENT("{\"choices\":{}}"), 1, "no completion"},
    {ONE EVENT("{\"choices\":[3]}"), 1, "no completion"},
    {CHOICE("\"text\":7"), 1, "text is no string"},
    {CHOICE("\"text\":\"a\""), 1, "no potluck coordinator"},
    {CHOICE("\"token_ids\":7"), 1, "token_ids is no list"},
    {CHOICE("\"token_ids\":[\"a\"]"), 1, "no token"},
    {CHOICE("\"token_ids\":[-1]"), 1, "no token"},
    {CHOICE("\"token_ids\":[4294967296]"), 1, "no token"},
    {CHOICE("\"token_ids\":[1]"), 1, "missing"},
    {CHOICE("\"token_ids\":[1],\"logits\":7"), 1, "missing"},
    {CHOICE("\"token_ids\":[1],\"logits\":\"!!!!\""), 1, "not base64"},
    {CHOICE("\"token_ids\":[1],\"logits\":\"AAAAAA==x\""), 1, "not base64"},
    {CHOICE("\"token_ids\":[1],\"logits\":\"\""), 1, "another length"},
    {CHOICE("\"token_ids\":[1],\"logits\":\"AAAA\""), 1, "another length"},
    {CHOICE("\"token_ids\":[1],\"logits\":\"AAAAAA==\"")
         CHOICE("\"token_ids\":[1],\"logits\":\"AAAAAAAAAAA=\""),
     1, "another length"},
    {CHOICE("\"token_ids\":[1,2,3,4,5,6,7,8,9,10]"), 1, "more tokens"},
    {CHOICE("\"finish_reason\":7"), 1, "finish_reason"},
    {CHOICE("\"finish_reason\":\"a very long word that is not a reason\""), 1,
     "finish_reason"},
    {CHOICE("\"finish_reason\":\"stop\"") ONE, 1, "after its end"},
};

static void nonsense_in_a_stream_is_told_and_not_believed(void **state)
{
    (void)state;
    struct script s = {0};
    begin(&s);
    for (size_t i = 0; i < COUNT_OF(streams); i++) {
        s.stream = streams[i].stream;
        /* ONE has no logits */
        const bool rows = strncmp(s.stream, ONE, strlen(ONE)) != 0;
        cli_expect(
            rows ? RUN("-n", "9", "--json", "--logits", cli_path("odd"), "hi")
                 : RUN("-n", "9", "hi"),
            streams[i].code, streams[i].said);
    }
    /* what had come stays, on a line of its own */
    s.stream = ONE;
    cli_expect_out(RUN("hi"), 6, " one\n");
    end(&s);
}

/* Raw bytes instead of HTTP. */
static void raw(struct fake_conn *c, void *arg)
{
    const char *bytes = arg;
    if (bytes) fake_text(c, bytes);
}

static void endless(struct fake_conn *c, void *arg)
{
    static char waste[65536];
    memset(waste, arg ? '[' : 'x', sizeof waste);
    if (arg)
        fake_text(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    else
        fake_stream(c);
    for (int i = 0; i < 1024 && !fake_await_close(c, 0); i++) {
        fake_send(c, waste, sizeof waste);
    }
}

static void whoever_listens_there(void **state)
{
    (void)state;
    static char garbage[] = "\x01\x02\x03 garbage\r\n\r\n",
                cut[] = "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" ONE;
    fake_http_start(raw, garbage);
    cli_expect(RUN("hi"), 1, "does not speak HTTP");
    fake_http_stop();
    fake_http_start(raw, NULL); /* closes at once */
    cli_expect(RUN("hi"), 6, "broke off");
    cli_expect(CLI("status", "--host", fake_http_url()), 3, "no pool answers");
    fake_http_stop();
    /* nobody any more */
    cli_expect(RUN("hi"), 3,
               "is `potluck serve` running there? (connection "
               "refused)");
    cli_expect(RUN("--wait", "1", "hi"), 3, "connection refused");
    cli_expect(CLI("run", "--host", "http://no.such.host.invalid", "hi"), 3,
               "no.such.host.invalid");
    fake_http_start(raw, cut);
    cli_expect_out(RUN("hi"), 6, " one\n");
    fake_http_stop();
    fake_http_start(endless, NULL);
    cli_expect(RUN("hi"), 1, "too long");
    fake_http_stop();
    fake_http_start(endless, garbage);
    cli_expect(CLI("status", "--host", fake_http_url()), 1, "longer than");
    fake_http_stop();
}

/* ------------------------------------------------------------- waiting */

static void ready_at_the_third_time(struct fake_conn *c, void *arg)
{
    (void)arg;
    static const char not_yet[] =
        "{\"error\":{\"message\":\"loading\",\"code\":\"not_ready\"}}";
    if (c->index < 2 || c->index == 3) {
        fake_json(c, "503 Service Unavailable", not_yet);
    } else if (strncmp(c->request.data, "GET /health ", 12) == 0) {
        fake_json(c, "200 OK", "{}");
    } else {
        fake_stream(c);
        fake_text(c, ONE END DONE);
    }
}

static void wait_is_until_the_pool_is_ready(void **state)
{
    (void)state;
    fake_http_start(ready_at_the_third_time, NULL);
    /* health twice no, then yes, the prompt too early, health, the prompt */
    cli_expect_out(RUN("--wait", "50", "hi"), 0, " one\n");
    assert_int_equal(fake_http_stop(), 6);
    struct script s = {.status = "503 No",
                       .body = "{\"error\":{\"message\":\"1 of 3\"}}"};
    begin(&s);
    cli_expect(RUN("--wait", "1", "hi"), 4, "1 of 3");
    s.status = "401 No"; /* waiting does not help */
    cli_expect(RUN("--wait", "50", "hi"), 5, "1 of 3");
    end(&s);
}

/* ----------------------------------------------------------- interrupt */

static void one_and_wait(struct fake_conn *c, void *arg)
{
    bool *closed = arg;
    fake_stream(c);
    fake_text(c, "data: {\"choices\":[{\"text\":\" one\",\"token_ids\":[11],"
                 "\"logits\":\"AAAAAA==\"}]}\n\n");
    *closed = fake_await_close(c, 30000);
}

static void ctrl_c_hangs_up(void **state)
{
    (void)state;
    bool closed = false;
    fake_http_start(one_and_wait, &closed);
    struct command stop = {.signal = SIGINT, .signal_after = 1};
    struct outcome o = RUN_WITH(stop, "hi");
    fake_http_stop();
    assert_string_equal(o.out.data, " one\n");
    assert_int_equal(o.code, 130);
    assert_true(closed);
    outcome_fini(&o);
    /* the same with --json, which says what there was; and by SIGTERM */
    closed = false;
    fake_http_start(one_and_wait, &closed);
    struct command term = {
        .signal = SIGTERM, .signal_after = 4, .growing = cli_path("rows")};
    json_t *j = cli_json(
        RUN_WITH(term, "--json", "--logits", cli_path("rows"), "hi"), 130);
    fake_http_stop();
    assert_true(closed);
    assert_string_equal(string_at(j, "text"), " one");
    assert_string_equal(string_at(j, "finish_reason"), "interrupted");
    assert_int_equal(json_array_size(json_at(j, "tokens")), 1);
    json_decref(j);
}

/* ---------------------------------------------------------------- files */

static void files_and_words_that_do_not_do(void **state)
{
    (void)state;
    struct script s = {.stream = ONE TWO END DONE};
    begin(&s);
    struct command in = {.input = "\xff\xfe"};
    cli_expect(RUN_WITH(in, "-n", "3"), 2, "not UTF-8");
    cli_expect(RUN("-s", "be kind", "hi"), 2, "-s needs a chat");
    cli_expect(RUN("--temp", "-1", "hi"), 2, "temperature");
    cli_expect(RUN("--logits", cli_path("no/such/folder"), "hi"), 1,
               "no/such/folder");
    cli_expect(CLI("run", "--host", "ftp://x", "hi"), 2, "wants a URL");
    struct command full = {.output = "/dev/full"};
    cli_expect(RUN_WITH(full, "hi"), 1, "standard output");
    cli_expect(RUN_WITH(full, "--json", "hi"), 1, "standard output");
    end(&s);
}

/* --------------------------------------------------------------- status */

#define CLUSTER                                                                \
    "{\"state\":\"serving\",\"nodes\":[{\"name\":\"pc-1\",\"state\":"          \
    "\"ready\",\"layers\":\"0-3\"}]}"

static void status_as_table_and_json(void **state)
{
    (void)state;
    struct script s = {.status = "200 OK", .body = CLUSTER};
    begin(&s);
    const char *url = fake_http_url();
    struct outcome o = CLI("status", "--host", url);
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.out.data, "pc-1"));
    assert_non_null(strstr(s.seen.data, "GET /v1/cluster "));
    outcome_fini(&o);
    json_t *j = cli_json(CLI("status", "--json", "--host", url), 0);
    json_t *want = json_loads(CLUSTER, 0, NULL);
    assert_true(json_equal(j, want));
    json_decref(want);
    json_decref(j);
    struct command watch = {.signal = SIGINT, .signal_after = 200};
    o = CLI_WITH(watch, "status", "--watch", "--json", "--host", url);
    assert_int_equal(o.code, 130);
    assert_true(o.out.len >= 200);
    outcome_fini(&o);
    s.body = "[1]";
    cli_expect(CLI("status", "--host", url), 1, "no JSON object");
    s.body = "{";
    cli_expect(CLI("status", "--host", url), 1, "no JSON object");
    end(&s);
    cli_expect(CLI("status", "--watch", "--host", url), 3, "no pool answers");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_comes_in_pieces_of_any_size),
        cmocka_unit_test(the_request_has_every_parameter),
        cmocka_unit_test(a_prompt_is_a_message),
        cmocka_unit_test(run_prints_what_local_prints),
        cmocka_unit_test(a_refusal_gives_its_reason_and_exit_code),
        cmocka_unit_test(nonsense_in_a_stream_is_told_and_not_believed),
        cmocka_unit_test(whoever_listens_there),
        cmocka_unit_test(wait_is_until_the_pool_is_ready),
        cmocka_unit_test(ctrl_c_hangs_up),
        cmocka_unit_test(files_and_words_that_do_not_do),
        cmocka_unit_test(status_as_table_and_json),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

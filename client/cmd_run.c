/* cmd_run.c - potluck run: a prompt through a pool. */
#include <string.h>

#include "client/answer.h"
#include "common/clock.h"

struct run {
    struct ask ask;
    struct http_pool pool;
    const char *host, *model;
    uint32_t wait_s;
};

/* A pool that is ready may stop being so before the prompt arrives. */
static enum exit_code ask_pool(struct run *r, const struct buf *prompt,
                               struct error *err)
{
    const struct answer_request request = {.pool = &r->pool,
                                           .ask = &r->ask,
                                           .model = r->model,
                                           .prompt = prompt,
                                           .silence_s = ANSWER_SILENCE_S};
    const uint64_t end = clock_now_ns() + r->wait_s * UINT64_C(1000000000);
    for (;;) {
        const uint64_t now = clock_now_ns();
        const uint32_t left_s =
            now < end ? (uint32_t)((end - now + 999999999u) / 1000000000u) : 0;
        enum exit_code code = EXIT_CODE_OK;
        if (left_s > 0) code = http_await_ready(&r->pool, left_s, err);
        if (code != EXIT_CODE_OK) return code;
        code = answer_print(&request, NULL, err);
        if (code != EXIT_CODE_NOT_READY || left_s == 0) return code;
        if (!pause_ns(200000000)) {
            error_set(err, ST_INTERRUPTED, "interrupted");
            return EXIT_CODE_INTERRUPTED;
        }
    }
}

int cmd_run(int argc, char **argv)
{
    struct error err;
    struct run r = {0};
    ask_defaults(&r.ask);
    const struct option table[] = {
        {"--model", 'm', OPTION_STRING, &r.model, "MODEL",
         "as `potluck status` calls it (default: the one there is)", 0, 0},
        ASK_OPTIONS(&r.ask),
        {"--host", 0, OPTION_STRING, &r.host, "URL",
         "the pool (default POTLUCK_HOST, or " HTTP_HOST_DEFAULT ")", 0, 0},
        {"--wait", 0, OPTION_U32, &r.wait_s, "S",
         "wait so many seconds until the pool is ready (default 0)", 0, 86400},
    };
    const char *word = NULL;
    size_t n_words;
    int code;
    if (!parse_command(table, COUNT_OF(table), "run [OPTIONS] [PROMPT | -]",
                       argc, argv, &word, 1, &n_words, &code)) {
        return code;
    }
    enum status st = ask_finish(&r.ask, &err);
    if (st == ST_OK) st = http_pool_find(&r.pool, r.host, &err);
    if (st != ST_OK) return fail(&err);
    catch_interrupt();
    struct buf prompt;
    buf_init(&prompt, PROMPT_MAX);
    st = ask_read_prompt(&r.ask, n_words ? word : NULL, &prompt, &err);
    enum exit_code got = exit_code_of(st);
    if (st == ST_OK) got = ask_pool(&r, &prompt, &err);
    buf_fini(&prompt);
    return got == EXIT_CODE_OK ? EXIT_CODE_OK : fail_as(got, &err);
}

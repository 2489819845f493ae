#include "client/ask.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* A seed nobody chose; below 2^53 so that JSON readers keep it whole. */
static uint64_t fresh_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) return 1;
    return seed >> 11;
}

void ask_defaults(struct ask *a)
{
    *a = (struct ask){
        .sample = sample_defaults(), .n_max = 256, .seed = fresh_seed()};
}

enum status ask_finish(struct ask *a, struct error *err)
{
    const enum status st = sample_check(&a->sample, err);
    if (st != ST_OK) return st;
    if (a->seed > INT64_MAX) { /* JSON has no larger ones */
        return error_set(err, ST_USAGE, "--seed: at most %lld",
                         (long long)INT64_MAX);
    }
    a->sample.seed = a->seed;
    if (a->system && a->raw) {
        return error_set(err, ST_USAGE,
                         "-s needs a chat, and --raw completes a text");
    }
    return ST_OK;
}

enum status ask_read_prompt(const struct ask *a, const char *word,
                            struct buf *prompt, struct error *err)
{
    const char *instruction = a->instruction ? a->instruction : "";
    const size_t n = strlen(instruction);
    /* with an instruction nobody is made to type */
    const bool use_stdin = word ? strcmp(word, "-") == 0
                                : !a->instruction || !isatty(STDIN_FILENO);
    enum status st = buf_append(prompt, instruction, n);
    if (st == ST_OK && n != 0) st = buf_append(prompt, "\n\n", 2);
    const size_t before = prompt->len;
    if (st == ST_OK && use_stdin) {
        st = read_all_stdin(prompt, "the prompt", err);
        if (st != ST_OK) return st;
    } else if (st == ST_OK && word) {
        st = buf_append(prompt, word, strlen(word));
    }
    if (st != ST_OK) {
        return error_set(err, st, "prompt: over the limit of %u bytes",
                         PROMPT_MAX);
    }
    if (prompt->len == before) { /* no context: the instruction alone */
        prompt->len = n;
        prompt->data[n] = '\0';
    }
    return ST_OK;
}

enum status ask_print_text(const struct buf *text, size_t *printed,
                           struct error *err)
{
    if (text->len <= *printed) return ST_OK;
    fwrite(text->data + *printed, 1, text->len - *printed, stdout);
    if (fflush(stdout) != 0) {
        return error_set(err, ST_IO, "standard output: %s", strerror(errno));
    }
    *printed = text->len;
    return ST_OK;
}

static enum status print_object(const struct ask_result *r, struct error *err)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < r->n_tokens; i++) {
        json_array_append_new(tokens, json_integer(r->tokens[i]));
    }
    return print_json(
        json_pack("{s:o, s:o, s:I, s:{s:f, s:f, s:f, s:f}, s:I, s:s}", "text",
                  json_text(r->text->data, r->text->len), "tokens", tokens,
                  "prompt_tokens", (json_int_t)r->n_prompt, "timings",
                  "prompt_ms", r->prompt_ms, "prompt_per_second",
                  r->prompt_per_second, "predicted_ms", r->predicted_ms,
                  "predicted_per_second", r->predicted_per_second, "seed",
                  (json_int_t)r->seed, "finish_reason", r->finish_reason),
        err);
}

enum status ask_print_result(const struct ask *a, const struct ask_result *r,
                             size_t *printed, struct error *err)
{
    if (a->json) {
        const enum status st = print_object(r, err);
        if (st != ST_OK) return st;
    } else {
        fwrite(r->text->data + *printed, 1, r->text->len - *printed, stdout);
        *printed = r->text->len;
        putchar('\n');
    }
    if (a->stats) {
        fprintf(stderr,
                "prompt: %zu tokens, %.1f tokens/s; answer: %zu tokens, %.1f "
                "tokens/s; %s\n",
                r->n_prompt, r->prompt_per_second, r->n_tokens,
                r->predicted_per_second, r->finish_reason);
    }
    return ST_OK;
}

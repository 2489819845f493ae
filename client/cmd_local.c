/* cmd_local.c - potluck local: a prompt through a model in this process. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "client/commands.h"

#define PROMPT_MAX (16u << 20)

struct local {
    struct model_options model;
    struct sample_params sample;
    const char *instruction, *system, *logits_path;
    uint32_t n_max;
    uint64_t seed;
    bool raw, json, stats;
    /* running */
    struct runner runner;
    struct detokenizer detok;
    struct buf text;
    size_t printed;
    FILE *logits;
    struct progress progress;
};

/* PROMPT, or standard input where it is absent or "-"; with an instruction
 * that is its context, and follows it. */
static enum status read_prompt(const struct local *l, const char *word,
                               struct buf *prompt, struct error *err)
{
    const char *instruction = l->instruction ? l->instruction : "";
    const size_t n = strlen(instruction);
    /* with an instruction nobody is made to type */
    const bool use_stdin = word ? strcmp(word, "-") == 0
                                : !l->instruction || !isatty(STDIN_FILENO);
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

static enum status on_token(void *arg, int32_t id, const float *logits,
                            struct error *err)
{
    struct local *l = arg;
    progress_end(&l->progress);
    if (l->logits && fwrite(logits, sizeof *logits, l->runner.model.n_vocab,
                            l->logits) != l->runner.model.n_vocab) {
        return error_set(err, ST_IO, "%s: %s", l->logits_path, strerror(errno));
    }
    if (!tokenizer_is_end(l->runner.tokenizer, id)) {
        const enum status st = detokenizer_push(&l->detok, id, &l->text);
        if (st != ST_OK) return error_set(err, st, "answer's text");
    }
    if (!l->json && l->text.len > l->printed) {
        fwrite(l->text.data + l->printed, 1, l->text.len - l->printed, stdout);
        if (fflush(stdout) != 0) {
            return error_set(err, ST_IO, "standard output: %s",
                             strerror(errno));
        }
        l->printed = l->text.len;
    }
    if (interrupted()) return error_set(err, ST_INTERRUPTED, "interrupted");
    return ST_OK;
}

static double per_second(size_t n, uint64_t ns)
{
    return ns ? (double)n * 1e9 / (double)ns : 0;
}

/* Nothing was computed, or not to the prompt's end: no speed then. */
static double prompt_per_second(size_t n_prompt, const struct generation *g)
{
    return g->tokens.n ? per_second(n_prompt, g->prompt_ns) : 0;
}

/* The first token comes out of the prompt's own steps. */
static double answer_per_second(const struct generation *g)
{
    return g->tokens.n ? per_second(g->tokens.n - 1, g->decode_ns) : 0;
}

static enum status print_result(const struct local *l, size_t n_prompt,
                                const struct generation *g, const char *reason,
                                struct error *err)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < g->tokens.n; i++) {
        json_array_append_new(tokens, json_integer(g->tokens.id[i]));
    }
    return print_json(
        json_pack("{s:o, s:o, s:I, s:{s:f, s:f, s:f, s:f}, s:I, s:s}", "text",
                  json_text(l->text.data, l->text.len), "tokens", tokens,
                  "prompt_tokens", (json_int_t)n_prompt, "timings", "prompt_ms",
                  (double)g->prompt_ns / 1e6, "prompt_per_second",
                  prompt_per_second(n_prompt, g), "predicted_ms",
                  (double)g->decode_ns / 1e6, "predicted_per_second",
                  answer_per_second(g), "seed", (json_int_t)l->seed,
                  "finish_reason", reason),
        err);
}

static void print_stats(size_t n_prompt, const struct generation *g)
{
    fprintf(stderr,
            "prompt: %zu tokens, %.1f tokens/s; answer: %zu tokens, %.1f "
            "tokens/s; %s\n",
            n_prompt, prompt_per_second(n_prompt, g), g->tokens.n,
            answer_per_second(g), g->finish_reason);
}

/* What is left to say after the last token; st is what generating gave. */
static enum status finish(struct local *l, size_t n_prompt,
                          const struct generation *g, enum status st,
                          struct error *err)
{
    if (st != ST_OK && st != ST_INTERRUPTED) {
        /* what was said stays; the error gets a line of its own */
        if (l->printed) putchar('\n');
        return st;
    }
    if (l->logits && fflush(l->logits) != 0) {
        return error_set(err, ST_IO, "%s: %s", l->logits_path, strerror(errno));
    }
    if (detokenizer_finish(&l->detok, &l->text) != ST_OK) {
        return error_set(err, ST_NO_MEMORY, "answer's text");
    }
    if (l->json) {
        struct error broken;
        const enum status printed =
            print_result(l, n_prompt, g, g->finish_reason, &broken);
        if (printed != ST_OK) return error_set(err, printed, "%s", broken.text);
    } else {
        fwrite(l->text.data + l->printed, 1, l->text.len - l->printed, stdout);
        putchar('\n');
    }
    if (l->stats) print_stats(n_prompt, g);
    return st;
}

static enum status generate(struct local *l, const struct tokens *prompt,
                            struct error *err)
{
    struct sampler *sampler = NULL;
    enum status st =
        sampler_create(&sampler, &l->sample, l->runner.model.n_vocab, err);
    if (st != ST_OK) return st;
    struct generation g = {
        .n_max = l->n_max, .sampler = sampler, .token = on_token, .arg = l};
    detokenizer_init(&l->detok, l->runner.tokenizer, false);
    /* the answer goes on where the prompt ended: keep its first space */
    l->detok.first = false;
    l->progress = (struct progress){.label = "prompt", .unit = "tokens"};
    l->runner.progress = progress_show;
    l->runner.progress_arg = &l->progress;
    st = runner_generate(&l->runner, prompt->id, prompt->n, &g, err);
    progress_end(&l->progress);
    sampler_free(sampler);
    if (st == ST_INTERRUPTED) g.finish_reason = "interrupted";
    st = finish(l, prompt->n, &g, st, err);
    tokens_fini(&g.tokens);
    return st;
}

static enum status refuse_chat(const struct local *l, const char *path,
                               struct error *err)
{
    if (l->system) {
        return error_set(err, ST_UNSUPPORTED,
                         "-s needs chat templates, which are not built yet");
    }
    struct gguf *g;
    const enum status st = gguf_open(&g, path, err);
    if (st != ST_OK) return st;
    struct gguf_str template;
    const bool chat =
        gguf_get_str(g, "tokenizer.chat_template", &template, NULL) == ST_OK;
    gguf_close(g);
    if (!chat || l->raw) return ST_OK;
    return error_set(err, ST_UNSUPPORTED,
                     "%s has a chat template, which is not applied yet: --raw "
                     "completes the text as it is",
                     path);
}

static enum status run(struct local *l, const char *path, const char *word,
                       struct error *err)
{
    struct buf prompt;
    struct tokens ids = {0};
    buf_init(&prompt, PROMPT_MAX);
    /* first, so that nobody types a prompt for a model that is not there */
    enum status st = refuse_chat(l, path, err);
    if (st == ST_OK) st = read_prompt(l, word, &prompt, err);
    if (st == ST_OK) {
        l->progress = (struct progress){.label = "loading"};
        l->model.shard.progress = progress_show;
        l->model.shard.progress_arg = &l->progress;
        st = runner_open(&l->runner, path, &l->model.shard, true, err);
        progress_end(&l->progress);
    }
    if (st == ST_OK) {
        const struct tokenize_options options = {
            .bos = tokenizer_add_bos(l->runner.tokenizer)};
        st = tokenizer_encode(l->runner.tokenizer,
                              prompt.data ? prompt.data : "", prompt.len,
                              options, &ids, err);
    }
    if (st == ST_OK && l->logits_path) {
        l->logits = fopen(l->logits_path, "wb");
        if (!l->logits) {
            st = error_set(err, ST_IO, "%s: %s", l->logits_path,
                           strerror(errno));
        }
    }
    if (st == ST_OK) st = generate(l, &ids, err);
    if (l->logits && fclose(l->logits) != 0 && st == ST_OK) {
        st = error_set(err, ST_IO, "%s: %s", l->logits_path, strerror(errno));
    }
    tokens_fini(&ids);
    runner_close(&l->runner);
    buf_fini(&prompt);
    buf_fini(&l->text);
    return st;
}

/* A seed nobody chose; below 2^53 so that JSON readers keep it whole. */
static uint64_t fresh_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) return 1;
    return seed >> 11;
}

int cmd_local(int argc, char **argv)
{
    struct error err;
    struct local l = {.sample = sample_defaults(), .n_max = 256};
    l.seed = fresh_seed();
    model_options_defaults(&l.model);
    const struct option table[] = {
        {"--instruction", 'p', OPTION_STRING, &l.instruction, "TEXT",
         "an instruction; PROMPT or stdin is its context", 0, 0},
        {"--tokens", 'n', OPTION_U32, &l.n_max, "N",
         "tokens at most (default 256)", 0, MODEL_CTX_MAX},
        {"--temp", 0, OPTION_F32, &l.sample.temperature, "T",
         "temperature (default 0.8); 0: always the likeliest", 0, 0},
        {"--top-k", 0, OPTION_U32, &l.sample.top_k, "K",
         "choose among the K likeliest (default 40); 0: all", 0, UINT32_MAX},
        {"--top-p", 0, OPTION_F32, &l.sample.top_p, "P",
         "... among those that make up P (default 0.95)", 0, 0},
        {"--min-p", 0, OPTION_F32, &l.sample.min_p, "P",
         "... with P of the likeliest one's share (default 0)", 0, 0},
        {"--typical", 0, OPTION_F32, &l.sample.typical_p, "P",
         "locally typical sampling (default 1: off)", 0, 0},
        {"--repeat-penalty", 0, OPTION_F32, &l.sample.repeat, "X",
         "make recent tokens less likely (default 1: off)", 0, 0},
        {"--seed", 0, OPTION_U64, &l.seed, "S",
         "the same seed, the same answer (default: random)", 0, 0},
        {"--system", 's', OPTION_STRING, &l.system, "TEXT",
         "a system message (needs a chat template)", 0, 0},
        {"--raw", 0, OPTION_FLAG, &l.raw, NULL,
         "complete the text as it is: no chat template", 0, 0},
        {"--json", 0, OPTION_FLAG, &l.json, NULL, "print one JSON object", 0,
         0},
        {"--stats", 0, OPTION_FLAG, &l.stats, NULL, "print speeds to stderr", 0,
         0},
        {"--logits", 0, OPTION_STRING, &l.logits_path, "FILE",
         "write the f32 logits of each generated position", 0, 0},
        MODEL_OPTIONS(&l.model),
    };
    const char *words[2];
    size_t n_words;
    int code;
    if (!parse_command(table, COUNT_OF(table),
                       "local MODEL.gguf [OPTIONS] [PROMPT | -]", argc, argv,
                       words, 2, &n_words, &code)) {
        return code;
    }
    enum status st = model_options_finish(&l.model, &err);
    if (st == ST_OK) st = sample_check(&l.sample, &err);
    if (st == ST_OK && n_words == 0) {
        st = error_set(&err, ST_USAGE, "local needs a model file");
    }
    if (st == ST_OK && l.seed > INT64_MAX) {
        st = error_set(&err, ST_USAGE, "--seed: at most %lld",
                       (long long)INT64_MAX); /* JSON has no larger ones */
    }
    if (st != ST_OK) return fail(&err);
    l.sample.seed = l.seed;
    buf_init(&l.text, TOKENIZER_TEXT_MAX);
    catch_interrupt();
    st = run(&l, words[0], n_words == 2 ? words[1] : NULL, &err);
    return st == ST_OK ? EXIT_CODE_OK : fail(&err);
}

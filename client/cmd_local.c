/* cmd_local.c - potluck local: a prompt through a model in this process. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/ask.h"
#include "engine/chat_input.h"

struct local {
    struct model_options model;
    struct ask ask;
    struct chat *chat; /* NULL: the text is completed as it is */
    /* running */
    struct runner runner;
    struct detokenizer detok;
    struct buf text;
    size_t printed;
    FILE *logits;
    struct progress progress;
};

static enum status on_token(void *arg, int32_t id, const float *logits,
                            struct error *err)
{
    struct local *l = arg;
    progress_end(&l->progress);
    if (l->logits && fwrite(logits, sizeof *logits, l->runner.model.n_vocab,
                            l->logits) != l->runner.model.n_vocab) {
        return error_set(err, ST_IO, "%s: %s", l->ask.logits_path,
                         strerror(errno));
    }
    if (!tokenizer_is_end(l->runner.tokenizer, id)) {
        const enum status st = detokenizer_push(&l->detok, id, &l->text);
        if (st != ST_OK) return error_set(err, st, "answer's text");
    }
    if (!l->ask.json) {
        const enum status st = ask_print_text(&l->text, &l->printed, err);
        if (st != ST_OK) return st;
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
        return error_set(err, ST_IO, "%s: %s", l->ask.logits_path,
                         strerror(errno));
    }
    if (detokenizer_finish(&l->detok, &l->text) != ST_OK) {
        return error_set(err, ST_NO_MEMORY, "answer's text");
    }
    const struct ask_result r = {
        .text = &l->text,
        .tokens = g->tokens.id,
        .n_tokens = g->tokens.n,
        .n_prompt = n_prompt,
        .prompt_ms = (double)g->prompt_ns / 1e6,
        .prompt_per_second = prompt_per_second(n_prompt, g),
        .predicted_ms = (double)g->decode_ns / 1e6,
        .predicted_per_second = answer_per_second(g),
        .seed = l->ask.seed,
        .finish_reason = g->finish_reason,
    };
    struct error broken;
    const enum status printed =
        ask_print_result(&l->ask, &r, &l->printed, &broken);
    if (printed != ST_OK) return error_set(err, printed, "%s", broken.text);
    return st;
}

static enum status generate(struct local *l, const struct tokens *prompt,
                            struct error *err)
{
    struct sampler *sampler = NULL;
    enum status st =
        sampler_create(&sampler, &l->ask.sample, l->runner.model.n_vocab, err);
    if (st != ST_OK) return st;
    struct generation g = {
        .n_max = l->ask.n_max, .sampler = sampler, .token = on_token, .arg = l};
    detokenizer_init(&l->detok, l->runner.tokenizer, false);
    /* unless the answer goes on where the prompt ended: then its first space
     * stays */
    l->detok.first = l->chat != NULL;
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

/* The model's template, unless --raw or it has none (a base model). */
static enum status open_chat(struct local *l, const char *path,
                             struct error *err)
{
    if (l->ask.raw) return ST_OK;
    struct gguf *g;
    enum status st = gguf_open(&g, path, err);
    if (st != ST_OK) return st;
    st = chat_create(&l->chat, g, err);
    gguf_close(g);
    if (st == ST_NOT_FOUND && !l->ask.system) return ST_OK;
    return st == ST_OK ? st : error_prefix(err, st, "%s", path);
}

static enum status encode(struct local *l, const struct buf *prompt,
                          struct tokens *ids, struct error *err)
{
    const struct tokenizer *t = l->runner.tokenizer;
    const char *text = prompt->data ? prompt->data : "";
    if (!l->chat) {
        const struct tokenize_options o = {.bos = tokenizer_add_bos(t)};
        return tokenizer_encode(t, text, prompt->len, o, ids, err);
    }
    json_t *messages;
    enum status st =
        chat_messages_make(&messages, l->ask.system, text, prompt->len, err);
    if (st != ST_OK) return st;
    st = chat_ids(l->chat, t, messages, (int64_t)time(NULL), ids, err);
    json_decref(messages);
    return st;
}

static enum status run(struct local *l, const char *path, const char *word,
                       struct error *err)
{
    struct buf prompt;
    struct tokens ids = {0};
    buf_init(&prompt, PROMPT_MAX);
    /* first, so that nobody types a prompt for a model that is not there */
    enum status st = open_chat(l, path, err);
    if (st == ST_OK) st = ask_read_prompt(&l->ask, word, &prompt, err);
    if (st == ST_OK) {
        l->progress = (struct progress){.label = "loading"};
        l->model.shard.progress = progress_show;
        l->model.shard.progress_arg = &l->progress;
        st = runner_open(&l->runner, path, &l->model.shard, true, err);
        progress_end(&l->progress);
    }
    if (st == ST_OK) st = encode(l, &prompt, &ids, err);
    if (st == ST_OK && l->ask.logits_path) {
        l->logits = fopen(l->ask.logits_path, "wb");
        if (!l->logits) {
            st = error_set(err, ST_IO, "%s: %s", l->ask.logits_path,
                           strerror(errno));
        }
    }
    if (st == ST_OK) st = generate(l, &ids, err);
    if (l->logits && fclose(l->logits) != 0 && st == ST_OK) {
        st = error_set(err, ST_IO, "%s: %s", l->ask.logits_path,
                       strerror(errno));
    }
    tokens_fini(&ids);
    runner_close(&l->runner);
    chat_free(l->chat);
    buf_fini(&prompt);
    buf_fini(&l->text);
    return st;
}

int cmd_local(int argc, char **argv)
{
    struct error err;
    struct local l = {0};
    ask_defaults(&l.ask);
    model_options_defaults(&l.model);
    const struct option table[] = {
        ASK_OPTIONS(&l.ask),
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
    if (st == ST_OK) st = ask_finish(&l.ask, &err);
    if (st == ST_OK && n_words == 0) {
        st = error_set(&err, ST_USAGE, "local needs a model file");
    }
    if (st != ST_OK) return fail(&err);
    if (l.model.shard.fast) {
        fputs("potluck: --numerics fast: an answer of an F32, F16 or BF16 "
              "model may differ from the exact one\n",
              stderr);
    }
    buf_init(&l.text, TOKENIZER_TEXT_MAX);
    catch_interrupt();
    st = run(&l, words[0], n_words == 2 ? words[1] : NULL, &err);
    return st == ST_OK ? EXIT_CODE_OK : fail(&err);
}

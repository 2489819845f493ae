/* cmd_perplexity.c - potluck perplexity: how well a model predicts a text.
 *
 * The text is tokenized once and cut into windows of the context's length;
 * each window begins with BOS (as the file says) and every token in it is
 * predicted from those before it. perplexity = exp(mean -log p). */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "client/commands.h"
#include "common/clock.h"

struct scoring {
    struct runner *r;
    const int32_t *window; /* [n] */
    size_t n;
    double nll; /* sum of -log p */
    uint64_t scored, total;
    struct progress progress;
};

static enum status score(void *arg, size_t index, float *logits,
                         struct error *err)
{
    struct scoring *s = arg;
    if (index + 1 >= s->n) return ST_OK;
    const float sum =
        head_log_sum_exp(s->r->shard->vec, logits, s->r->model.n_vocab);
    const double nll = (double)sum - (double)logits[s->window[index + 1]];
    if (!isfinite(nll)) {
        return error_set(err, ST_NUMERIC,
                         "a logit is not a finite number: the model file may "
                         "be damaged");
    }
    s->nll += nll;
    s->scored++;
    if (!progress_show(&s->progress, s->scored, s->total)) {
        return error_set(err, ST_INTERRUPTED, "interrupted");
    }
    return ST_OK;
}

static enum status score_all(struct runner *r, const struct tokens *text,
                             struct scoring *s, struct error *err)
{
    const uint32_t n_ctx = r->shard->options.n_ctx;
    const int32_t bos = tokenizer_bos(r->tokenizer);
    const bool with_bos = tokenizer_add_bos(r->tokenizer) && bos >= 0;
    struct tokens window = {0};
    enum status st = ST_OK;
    *s = (struct scoring){.r = r,
                          .total = text->n,
                          .progress = {.label = "scoring", .unit = "tokens"}};
    for (size_t at = 0; st == ST_OK && at < text->n;) {
        window.n = 0;
        if (with_bos) st = tokens_push(&window, bos);
        while (st == ST_OK && at < text->n && window.n < n_ctx) {
            st = tokens_push(&window, text->id[at++]);
        }
        if (st != ST_OK) {
            st = error_set(err, st, "window of %u tokens", n_ctx);
            break;
        }
        s->window = window.id;
        s->n = window.n;
        st = runner_feed(r, 0, window.id, window.n, true, score, s, err);
        runner_drop(r, 0);
    }
    progress_end(&s->progress);
    tokens_fini(&window);
    return st;
}

static enum status run(const struct model_options *options, const char *model,
                       const char *file, bool json, struct error *err)
{
    struct runner r = {0};
    struct buf text;
    struct tokens ids = {0};
    struct scoring s = {0};
    buf_init(&text, TOKENIZER_TEXT_MAX);
    const uint64_t start = clock_now_ns();
    enum status st = strcmp(file, "-") == 0
                         ? read_all_stdin(&text, "the text", err)
                         : read_all_file(file, &text, err);
    struct progress progress = {.label = "loading"};
    struct shard_options o = options->shard;
    o.progress = progress_show;
    o.progress_arg = &progress;
    if (st == ST_OK) st = runner_open(&r, model, &o, true, err);
    progress_end(&progress);
    if (st == ST_OK && r.shard->options.n_ctx < 2) {
        /* BOS alone would fill every window */
        st = error_set(err, ST_USAGE,
                       "a context of 1 position predicts "
                       "nothing: --ctx 2 or more");
    }
    const struct tokenize_options plain = {0};
    if (st == ST_OK) {
        st = tokenizer_encode(r.tokenizer, text.data ? text.data : "", text.len,
                              plain, &ids, err);
    }
    if (st == ST_OK) st = score_all(&r, &ids, &s, err);
    if (st == ST_OK && s.scored == 0) {
        st = error_set(err, ST_INVALID, "%s: too short to predict anything",
                       file);
    }
    const double mean = s.scored ? s.nll / (double)s.scored : 0;
    const double seconds = (double)(clock_now_ns() - start) / 1e9;
    if (st == ST_OK && json) {
        st = print_json(json_pack("{s:f, s:f, s:I, s:i, s:f}", "perplexity",
                                  exp(mean), "nll_per_token", mean, "tokens",
                                  (json_int_t)s.scored, "n_ctx",
                                  r.shard->options.n_ctx, "seconds", seconds),
                        err);
    } else if (st == ST_OK) {
        printf("perplexity %.4f over %llu tokens (%.4f nats a token), windows "
               "of %u, %.1f s\n",
               exp(mean), (unsigned long long)s.scored, mean,
               r.shard->options.n_ctx, seconds);
    }
    tokens_fini(&ids);
    buf_fini(&text);
    runner_close(&r);
    return st;
}

int cmd_perplexity(int argc, char **argv)
{
    struct error err;
    struct model_options options;
    bool json = false;
    model_options_defaults(&options);
    const struct option table[] = {
        {"--json", 0, OPTION_FLAG, &json, NULL, "print one JSON object", 0, 0},
        MODEL_OPTIONS(&options),
    };
    const char *words[2];
    size_t n_words;
    int code;
    if (!parse_command(table, COUNT_OF(table),
                       "perplexity MODEL.gguf [OPTIONS] FILE", argc, argv,
                       words, 2, &n_words, &code)) {
        return code;
    }
    enum status st = model_options_finish(&options, &err);
    if (st == ST_OK && n_words != 2) {
        st = error_set(&err, ST_USAGE,
                       "perplexity needs a model file and a text file");
    }
    if (st != ST_OK) return fail(&err);
    /* every row wants logits */
    if (options.shard.rows_max > 64) options.shard.rows_max = 64;
    options.shard.outputs_max = options.shard.rows_max;
    catch_interrupt();
    st = run(&options, words[0], words[1], json, &err);
    return st == ST_OK ? EXIT_CODE_OK : fail(&err);
}

/* cmd_perplexity.c - potluck perplexity: how well a model predicts a text. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "client/commands.h"
#include "common/clock.h"
#include "engine/perplexity.h"

static enum status run(const struct model_options *options, const char *model,
                       const char *file, bool special, bool json,
                       struct error *err)
{
    struct runner r = {0};
    struct buf text;
    struct tokens ids = {0};
    struct perplexity s = {0};
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
    const struct tokenize_options how = {.special = special};
    if (st == ST_OK) {
        st = tokenizer_encode(r.tokenizer, text.data ? text.data : "", text.len,
                              how, &ids, err);
    }
    progress = (struct progress){.label = "scoring", .unit = "tokens"};
    if (st == ST_OK) {
        st = perplexity_score(&r, ids.id, ids.n, progress_show, &progress, &s,
                              err);
        progress_end(&progress);
        if (st == ST_INVALID) st = error_prefix(err, st, "%s", file);
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
    bool json = false, special = false;
    model_options_defaults(&options);
    const struct option table[] = {
        {"--json", 0, OPTION_FLAG, &json, NULL, "print one JSON object", 0, 0},
        {"--special", 0, OPTION_FLAG, &special, NULL,
         "text of control tokens in FILE is those tokens", 0, 0},
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
    st = run(&options, words[0], words[1], special, json, &err);
    return st == ST_OK ? EXIT_CODE_OK : fail(&err);
}

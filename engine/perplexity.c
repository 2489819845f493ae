#include "engine/perplexity.h"

#include <math.h>

struct scoring {
    struct runner *r;
    const int32_t *window; /* [n] */
    size_t n;
    struct perplexity sum;
    uint64_t total;
    bool (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
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
    s->sum.nll += nll;
    s->sum.scored++;
    if (s->progress && !s->progress(s->arg, s->sum.scored, s->total))
        return error_set(err, ST_INTERRUPTED, "interrupted");
    return ST_OK;
}

/* Fills the window with BOS and text from *at on. */
static enum status fill(struct tokens *window, const struct runner *r,
                        const int32_t *text, size_t n, size_t *at)
{
    const int32_t bos = tokenizer_bos(r->tokenizer);
    enum status st = ST_OK;
    window->n = 0;
    if (tokenizer_add_bos(r->tokenizer) && bos >= 0)
        st = tokens_push(window, bos);
    while (st == ST_OK && *at < n && window->n < r->shard->options.n_ctx)
        st = tokens_push(window, text[(*at)++]);
    return st;
}

enum status
perplexity_score(struct runner *r, const int32_t *text, size_t n,
                 bool (*progress)(void *arg, uint64_t done, uint64_t total),
                 void *arg, struct perplexity *out, struct error *err)
{
    const uint32_t n_ctx = r->shard->options.n_ctx;
    if (n_ctx < 2) { /* BOS alone would fill every window */
        return error_set(err, ST_USAGE,
                         "a context of 1 position predicts nothing: --ctx 2 "
                         "or more");
    }
    struct scoring s = {.r = r, .total = n, .progress = progress, .arg = arg};
    struct tokens window = {0};
    enum status st = ST_OK;
    for (size_t at = 0; st == ST_OK && at < n;) {
        st = fill(&window, r, text, n, &at);
        if (st != ST_OK) {
            st = error_set(err, st, "window of %u tokens", n_ctx);
            break;
        }
        s.window = window.id;
        s.n = window.n;
        st = runner_feed(r, 0, window.id, window.n, true, score, &s, err);
        runner_drop(r, 0);
    }
    tokens_fini(&window);
    if (st == ST_OK && s.sum.scored == 0)
        st = error_set(err, ST_INVALID, "too short to predict anything");
    if (st == ST_OK) *out = s.sum;
    return st;
}

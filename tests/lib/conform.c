#include "tests/lib/conform.h"

#include <math.h>

#include "common/mem.h"

/* p ln(p / q) - p + q: the sum over everything is the KL divergence, and no
 * term is negative, so that the record's six digits cannot cancel. */
static double term(double ln_p, double ln_q)
{
    const double d = ln_q - ln_p;
    return exp(ln_p) * (expm1(d) - d);
}

static double log_sum_exp(const float *logits, uint32_t n, double max)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += exp((double)logits[i] - max);
    return max + log(sum);
}

double conform_between(const struct oracle_row *p, const struct oracle_row *q)
{
    double kl = term(p->rest, q->rest);
    for (uint32_t i = 0; i < p->n; i++) {
        kl += term(p->top[i].logprob, q->top[i].logprob);
    }
    return isfinite(kl) ? kl : INFINITY;
}

bool conform_row(struct oracle_row *out, const struct oracle_row *like,
                 const float *logits, uint32_t n_vocab)
{
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++) max = fmax(max, (double)logits[i]);
    const double lse = log_sum_exp(logits, n_vocab, max);
    for (uint32_t i = 0; i < like->n; i++) {
        const uint32_t id = like->top[i].id;
        if (id >= n_vocab) return false;
        const double ln = (double)logits[id] - lse;
        out->top[i] = (struct oracle_entry){id, ln};
        sum += exp(ln);
    }
    out->n = like->n;
    /* What is left is above the rounding of the sum: tests ask for it. */
    out->rest = log(1 - sum > 1e-12 ? 1 - sum : 1e-12);
    return true;
}

double conform_kl(const struct oracle_row *row, const float *logits,
                  uint32_t n_vocab)
{
    struct oracle_entry top[CONFORM_TOP_MAX];
    struct oracle_row ours = {.top = top};
    if (row->n > CONFORM_TOP_MAX || !conform_row(&ours, row, logits, n_vocab)) {
        return INFINITY;
    }
    return conform_between(row, &ours);
}

struct measuring {
    const struct oracle *oracle;
    uint32_t n_vocab;
    struct conform *out;
};

static enum status measure_row(void *arg, size_t index, float *logits,
                               struct error *err)
{
    (void)err;
    const struct measuring *m = arg;
    const double kl = conform_kl(&m->oracle->rows[index], logits, m->n_vocab);
    m->out->mean_kl += kl / m->oracle->n_tokens;
    if (!(kl <= m->out->max_kl)) m->out->max_kl = kl;
    m->out->n++;
    return ST_OK;
}

/* As runner_open, with a change between description and loading. */
static enum status open_changed(struct runner *r, const char *path,
                                conform_change *change, struct error *err)
{
    struct shard_options options;
    struct gguf *g = NULL;
    struct model m = {0};
    struct shard_spec spec = {0};
    enum status st = runner_defaults(&options, err);
    if (st != ST_OK) return st;
    options.kv_type = KV_F32;
    options.outputs_max = 32;
    st = gguf_open(&g, path, err);
    if (st != ST_OK) return st;
    st = model_describe(&m, g, err);
    if (st == ST_OK && change) change(&m);
    if (st == ST_OK) st = runner_plan(&r->plan, &m, &options, err);
    if (st == ST_OK) st = shard_spec_whole(&spec, &m, err);
    if (st == ST_OK) st = shard_create(&r->shard, &m, &spec, &options, err);
    if (st == ST_OK) st = step_create(&r->step, r->shard, err);
    if (st == ST_OK) r->model = r->shard->model;
    mem_free(spec.layers);
    model_fini(&m);
    gguf_close(g);
    return st;
}

enum status conform_rows(const char *model_path, const struct oracle *o,
                         conform_change *change, runner_row_fn *row, void *arg,
                         struct error *err)
{
    struct runner r = {0};
    int32_t *tokens = mem_zalloc_array(o->n_tokens, sizeof *tokens);
    if (!tokens) return error_set(err, ST_NO_MEMORY, "%u tokens", o->n_tokens);
    for (uint32_t i = 0; i < o->n_tokens; i++) {
        tokens[i] = (int32_t)o->tokens[i];
    }
    enum status st = open_changed(&r, model_path, change, err);
    if (st == ST_OK) {
        st = runner_feed(&r, 1, tokens, o->n_tokens, true, row, arg, err);
    }
    runner_close(&r);
    mem_free(tokens);
    return st;
}

enum status conform_run(struct conform *out, const char *model_path,
                        uint32_t n_vocab, const struct oracle *o,
                        conform_change *change, struct error *err)
{
    struct conform c = {0};
    struct measuring m = {o, n_vocab, &c};
    const enum status st =
        conform_rows(model_path, o, change, measure_row, &m, err);
    if (st == ST_OK) *out = c;
    return st;
}

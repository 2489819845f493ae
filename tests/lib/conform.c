#include "tests/lib/conform.h"

#include <math.h>

#include "common/mem.h"
#include "engine/runner.h"

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

double conform_kl(const struct oracle_row *row, const float *logits,
                  uint32_t n_vocab)
{
    double max = -INFINITY;
    for (uint32_t i = 0; i < n_vocab; i++) max = fmax(max, (double)logits[i]);
    const double lse = log_sum_exp(logits, n_vocab, max);
    double kl = 0, ours = 0;
    for (uint32_t i = 0; i < row->n; i++) {
        if (row->top[i].id >= n_vocab) return INFINITY;
        const double ln_q = (double)logits[row->top[i].id] - lse;
        ours += exp(ln_q);
        kl += term(row->top[i].logprob, ln_q);
    }
    /* What is left is above the rounding of the sum: tests ask for it. */
    const double rest = 1 - ours > 1e-12 ? 1 - ours : 1e-12;
    kl += term(row->rest, log(rest));
    return isfinite(kl) ? kl : INFINITY;
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

enum status conform_run(struct conform *out, const char *model_path,
                        const struct oracle *o, conform_change *change,
                        struct error *err)
{
    struct runner r = {0};
    struct conform c = {0};
    int32_t *tokens = mem_zalloc_array(o->n_tokens, sizeof *tokens);
    if (!tokens) return error_set(err, ST_NO_MEMORY, "%u tokens", o->n_tokens);
    for (uint32_t i = 0; i < o->n_tokens; i++) {
        tokens[i] = (int32_t)o->tokens[i];
    }
    enum status st = open_changed(&r, model_path, change, err);
    if (st == ST_OK) {
        const struct measuring m = {o, r.model.n_vocab, &c};
        st = runner_feed(&r, 1, tokens, o->n_tokens, true, measure_row,
                         (void *)&m, err);
    }
    runner_close(&r);
    mem_free(tokens);
    if (st == ST_OK) *out = c;
    return st;
}

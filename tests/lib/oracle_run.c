#include "tests/lib/oracle_run.h"

#include "engine/runner.h"

struct comparison {
    const struct oracle *oracle;
    uint32_t n_vocab;
    struct oracle_diff *diff;
};

static enum status compare_row(void *arg, size_t index, float *logits,
                               struct error *err)
{
    (void)err;
    const struct comparison *c = arg;
    oracle_compare(c->oracle, (uint32_t)index, logits, c->n_vocab, c->diff);
    return ST_OK;
}

enum status oracle_run(const char *model_path, const struct oracle *o,
                       struct oracle_diff *d, struct error *err)
{
    struct shard_options options;
    enum status st = runner_defaults(&options, err);
    if (st != ST_OK) return st;
    options.kv_type = KV_F32;
    options.outputs_max = 32;
    struct runner r;
    st = runner_open(&r, model_path, &options, false, err);
    if (st != ST_OK) return st;
    const struct comparison c = {o, r.model.n_vocab, d};
    int32_t *tokens = mem_zalloc_array(o->n_tokens, sizeof *tokens);
    if (!tokens) {
        st = error_set(err, ST_NO_MEMORY, "%u tokens", o->n_tokens);
        goto done;
    }
    for (uint32_t i = 0; i < o->n_tokens; i++) {
        tokens[i] = (int32_t)o->tokens[i];
    }
    st = runner_feed(&r, 1, tokens, o->n_tokens, true, compare_row, (void *)&c,
                     err);
done:
    mem_free(tokens);
    runner_close(&r);
    return st;
}

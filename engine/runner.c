#include "engine/runner.h"

#include <string.h>

#include "common/clock.h"
#include "common/machine.h"

enum status runner_defaults(struct shard_options *o, struct error *err)
{
    enum isa isa;
    const enum status st = cpu_isa_wanted(&isa, err);
    if (st != ST_OK) return st;
    *o = (struct shard_options){
        .isa = isa,
        .kv_type = KV_F16,
        .n_threads = cpu_cores(),
        .n_seq_max = 1,
        .rows_max = 128,
        .outputs_max = 1,
        .memory_max = machine_memory_available(),
    };
    return ST_OK;
}

enum status runner_plan(struct shard_bytes *out, const struct model *m,
                        struct shard_options *o, struct error *err)
{
    if (o->n_ctx == 0) o->n_ctx = m->n_ctx < 4096 ? m->n_ctx : 4096;
    if (o->n_ctx > m->n_ctx) {
        return error_set(err, ST_USAGE,
                         "a context of %u positions: this model allows 1 to %u",
                         o->n_ctx, m->n_ctx);
    }
    struct shard_spec spec;
    const enum status st = shard_spec_whole(&spec, m, err);
    if (st != ST_OK) return st;
    *out = shard_plan(m, &spec, o);
    mem_free(spec.layers);
    return ST_OK;
}

static enum status open_parts(struct runner *r, const struct gguf *g,
                              struct model *model, struct shard_options o,
                              bool with_tokenizer, struct error *err)
{
    enum status st = ST_OK;
    if (with_tokenizer) {
        st = tokenizer_create(&r->tokenizer, g, err);
        if (st != ST_OK) return st;
        if (tokenizer_n_vocab(r->tokenizer) > model->n_vocab) {
            return error_set(err, ST_INVALID,
                             "the tokenizer has %u tokens, the embedding %u",
                             tokenizer_n_vocab(r->tokenizer), model->n_vocab);
        }
    }
    st = runner_plan(&r->plan, model, &o, err);
    if (st != ST_OK) return st;
    struct shard_spec spec;
    st = shard_spec_whole(&spec, model, err);
    if (st != ST_OK) return st;
    st = shard_create(&r->shard, model, &spec, &o, err);
    mem_free(spec.layers);
    if (st == ST_OK) st = step_create(&r->step, r->shard, err);
    if (st == ST_OK) r->model = r->shard->model;
    return st;
}

enum status runner_open(struct runner *out, const char *path,
                        const struct shard_options *o, bool with_tokenizer,
                        struct error *err)
{
    struct runner r = {0};
    struct gguf *g = NULL;
    struct model model = {0};
    enum status st = gguf_open(&g, path, err);
    if (st != ST_OK) return st;
    st = model_describe(&model, g, err);
    if (st == ST_OK) st = open_parts(&r, g, &model, *o, with_tokenizer, err);
    model_fini(&model);
    gguf_close(g);
    if (st != ST_OK) {
        runner_close(&r);
        return error_prefix(err, st, "%s", path);
    }
    *out = r;
    return ST_OK;
}

void runner_close(struct runner *r)
{
    step_free(r->step);
    shard_free(r->shard);
    tokenizer_free(r->tokenizer);
    *r = (struct runner){0};
}

/* One step of n rows from position `first` on; wanted rows to fn. */
static enum status feed_chunk(struct runner *r, uint64_t seq,
                              const int32_t *tokens, uint32_t n, uint32_t first,
                              bool want_all, bool last, size_t index,
                              runner_row_fn *fn, void *arg, struct error *err)
{
    struct step_row rows[STEP_ROWS_MAX];
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = (struct step_row){.seq = seq,
                                    .pos = first + i,
                                    .token = tokens[i],
                                    .want = want_all || (last && i + 1 == n)};
    }
    const struct step_input in = {
        .rows = rows,
        .n_rows = n,
        .embed = true,
        .layer_end = r->model.n_layer,
        .head = true,
    };
    enum status st = step_begin(r->step, &in, err);
    if (st != ST_OK) return st;
    const enum step_state state = step_run(r->step);
    if (state != STEP_DONE) {
        step_cancel(r->step);
        return error_set(err, ST_INVALID, "the shard is not the whole model");
    }
    uint32_t out = 0;
    for (uint32_t i = 0; st == ST_OK && i < n; i++) {
        if (!rows[i].want) continue;
        st = fn(arg, index + i, step_logits(r->step, out++), err);
    }
    return st;
}

enum status runner_feed(struct runner *r, uint64_t seq, const int32_t *tokens,
                        size_t n, bool want_all, runner_row_fn *fn, void *arg,
                        struct error *err)
{
    const struct shard_options *o = &r->shard->options;
    const uint32_t chunk = want_all ? o->outputs_max : o->rows_max;
    for (size_t at = 0; at < n; at += chunk) {
        const uint32_t len = n - at < chunk ? (uint32_t)(n - at) : chunk;
        const uint32_t first = kv_length(r->shard->kv, seq);
        if (r->progress && !r->progress(r->progress_arg, at, n)) {
            return error_set(err, ST_INTERRUPTED, "interrupted");
        }
        const enum status st =
            feed_chunk(r, seq, tokens + at, len, first, want_all, at + len == n,
                       at, fn, arg, err);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

void runner_drop(struct runner *r, uint64_t seq)
{
    const struct kv_op op = {.kind = KV_OP_FREE, .seq = seq};
    const enum status st = kv_apply(r->shard->kv, &op, NULL);
    (void)st; /* freeing cannot fail */
}

/* ---------------------------------------------------------- generate */

struct choosing {
    struct runner *r;
    struct generation *g;
    struct head_part *part;
    int32_t id;
};

/* The token after a row of logits. */
static enum status choose(void *arg, size_t index, float *logits,
                          struct error *err)
{
    (void)index;
    struct choosing *c = arg;
    struct sampler *sampler = c->g->sampler;
    const uint64_t n = c->g->tokens.n;
    const struct head_params params = sampler_head(sampler, n);
    enum status st = head_scan(&params, c->r->shard->vec, logits, 0,
                               c->r->model.n_vocab, c->part, err);
    if (st != ST_OK) return st;
    struct head_result result;
    const struct head_part *const parts[] = {c->part};
    head_finish(parts, 1, &result);
    st = sample_next(sampler, n, &result, NULL, &c->id, err);
    if (st == ST_NOT_FOUND) {
        st = sample_next(sampler, n, &result, logits, &c->id, err);
    }
    if (st != ST_OK) return st;
    if (tokens_push(&c->g->tokens, c->id) != ST_OK) {
        return error_set(err, ST_NO_MEMORY, "list of tokens");
    }
    sampler_accept(sampler, c->id);
    return c->g->token ? c->g->token(c->g->arg, c->id, logits, err) : ST_OK;
}

static enum status generate(struct choosing *c, const int32_t *prompt,
                            size_t n_prompt, struct error *err)
{
    struct generation *g = c->g;
    const uint32_t n_ctx = c->r->shard->options.n_ctx;
    const uint64_t start = clock_now_ns();
    enum status st =
        runner_feed(c->r, 0, prompt, n_prompt, false, choose, c, err);
    g->prompt_ns = clock_now_ns() - start;
    g->finish_reason = "length";
    while (st == ST_OK) {
        if (c->r->tokenizer && tokenizer_is_end(c->r->tokenizer, c->id)) {
            g->finish_reason = "stop";
            break;
        }
        if (g->tokens.n >= g->n_max || n_prompt + g->tokens.n > n_ctx) break;
        const int32_t id = c->id;
        st = runner_feed(c->r, 0, &id, 1, false, choose, c, err);
    }
    g->decode_ns = clock_now_ns() - start - g->prompt_ns;
    return st;
}

enum status runner_generate(struct runner *r, const int32_t *prompt,
                            size_t n_prompt, struct generation *g,
                            struct error *err)
{
    const uint32_t n_ctx = r->shard->options.n_ctx;
    if (n_prompt == 0) {
        return error_set(err, ST_USAGE,
                         "the prompt is empty, and this model puts no token "
                         "in front");
    }
    if (n_prompt > n_ctx) {
        return error_set(err, ST_USAGE,
                         "the prompt has %zu tokens, the context %u positions "
                         "(this model allows up to %u)",
                         n_prompt, n_ctx, r->model.n_ctx);
    }
    if (g->n_max == 0) {
        g->finish_reason = "length";
        return ST_OK;
    }
    struct choosing c = {.r = r, .g = g, .part = mem_alloc(sizeof *c.part)};
    if (!c.part) return error_set(err, ST_NO_MEMORY, "head candidates");
    for (size_t i = 0; i < n_prompt; i++) {
        sampler_accept(g->sampler, prompt[i]);
    }
    const enum status st = generate(&c, prompt, n_prompt, err);
    mem_free(c.part);
    runner_drop(r, 0);
    return st;
}

#include "coordinator/session.h"

#include <string.h>

#define TEXT_MAX (1u << 20) /* of one token, and of what an end lets go */

struct session {
    int32_t *prompt;
    uint32_t n_prompt, n_max, n_generated, n_vocab;
    bool whole_rows; /* the caller wants logits */
    bool whole_now;  /* this token needs the whole row */
    struct head_adjust *bias;
    struct sampler *sampler;
    const struct tokenizer *tokenizer;
    struct detokenizer detok;
    struct buf text;
    /* plain sampling is decided in the head */
    struct head_params head;
};

static enum status check(const struct pool_request *r, uint32_t n_vocab,
                         struct error *err)
{
    if (r->n_prompt == 0) {
        return error_set(err, ST_USAGE,
                         "the prompt is empty, and this model puts no token "
                         "in front");
    }
    for (uint32_t i = 0; i < r->n_prompt; i++) {
        if (r->prompt[i] < 0 || (uint32_t)r->prompt[i] >= n_vocab) {
            return error_set(err, ST_USAGE,
                             "prompt: token %d; the vocabulary has 0 to %u",
                             r->prompt[i], n_vocab - 1);
        }
    }
    if (r->sample.n_bias > LIMIT_ADJUST) {
        return error_set(err, ST_USAGE, "logit_bias: at most %d tokens",
                         LIMIT_ADJUST);
    }
    for (uint32_t i = 0; i < r->sample.n_bias; i++) {
        const struct head_adjust *b = &r->sample.bias[i];
        if (b->id < 0 || (uint32_t)b->id >= n_vocab) {
            return error_set(err, ST_USAGE,
                             "logit_bias: token %d; the vocabulary has 0 to %u",
                             b->id, n_vocab - 1);
        }
    }
    return sample_check(&r->sample, err);
}

static enum status copy_request(struct session *s, const struct pool_request *r)
{
    s->prompt = mem_zalloc_array(r->n_prompt, sizeof *s->prompt);
    if (!s->prompt) return ST_NO_MEMORY;
    memcpy(s->prompt, r->prompt, r->n_prompt * sizeof *s->prompt);
    s->n_prompt = r->n_prompt;
    s->n_max = r->max_tokens;
    s->whole_rows = r->whole_rows;
    if (r->sample.n_bias == 0) return ST_OK;
    s->bias = mem_zalloc_array(r->sample.n_bias, sizeof *s->bias);
    if (!s->bias) return ST_NO_MEMORY;
    memcpy(s->bias, r->sample.bias, r->sample.n_bias * sizeof *s->bias);
    return ST_OK;
}

enum status session_create(struct session **out, const struct pool_request *r,
                           const struct tokenizer *t, uint32_t n_vocab,
                           struct error *err)
{
    enum status st = check(r, n_vocab, err);
    if (st != ST_OK) return st;
    struct session *s = mem_zalloc(sizeof *s);
    if (!s) return error_set(err, ST_NO_MEMORY, "request");
    buf_init(&s->text, TEXT_MAX);
    s->n_vocab = n_vocab;
    s->tokenizer = t;
    st = copy_request(s, r);
    if (st != ST_OK) error_set(err, st, "request of %u tokens", r->n_prompt);
    struct sample_params params = r->sample;
    params.bias = s->bias;
    if (st == ST_OK) st = sampler_create(&s->sampler, &params, n_vocab, err);
    if (st != ST_OK) {
        session_free(s);
        return st;
    }
    for (uint32_t i = 0; i < r->n_prompt; i++) {
        sampler_accept(s->sampler, r->prompt[i]);
    }
    detokenizer_init(&s->detok, t, false);
    /* or the answer goes on where the prompt ended, and keeps its space */
    s->detok.first = r->own_text;
    *out = s;
    return ST_OK;
}

void session_free(struct session *s)
{
    if (!s) return;
    sampler_free(s->sampler);
    buf_fini(&s->text);
    mem_free(s->bias);
    mem_free(s->prompt);
    mem_free(s);
}

const int32_t *session_prompt(const struct session *s, uint32_t *n)
{
    *n = s->n_prompt;
    return s->prompt;
}

uint32_t session_n_max(const struct session *s)
{
    return s->n_max;
}

uint32_t session_n_generated(const struct session *s)
{
    return s->n_generated;
}

void session_sample(struct session *s, struct wire_sample *out)
{
    s->head = sampler_head(s->sampler, s->n_generated);
    const struct head_params *h = &s->head;
    *out = (struct wire_sample){
        .inv_temp = h->inv_temp,
        .repeat = h->repeat,
        .frequency = h->frequency,
        .presence = h->presence,
        .plain = h->plain,
        .whole_row = s->whole_rows || s->whole_now,
        .seed = h->seed,
        .n = h->n,
        .n_recent = h->n_recent,
        .n_adjust = h->n_adjust,
        /* wire_write only reads them */
        .recent = (struct head_recent *)(uintptr_t)h->recent,
        .adjust = (struct head_adjust *)(uintptr_t)h->adjust,
    };
}

/* Ids from another machine index tables here. */
static bool sane(const struct session *s, const struct head_result *h)
{
    if (h->plain_id < -1 || h->plain_id >= (int64_t)s->n_vocab) return false;
    for (uint32_t i = 0; i < h->n_best; i++) {
        const int32_t id = h->best[i].id;
        if (id < 0 || (uint32_t)id >= s->n_vocab) return false;
    }
    return true;
}

enum session_next session_take(struct session *s, const struct head_result *h,
                               const float *row, uint32_t n_ctx, int32_t *id,
                               const char **text, size_t *n_text,
                               struct error *err)
{
    *text = "";
    *n_text = 0;
    if (!sane(s, h)) {
        error_set(err, ST_INVALID, "a result with tokens that do not exist");
        return SESSION_BROKEN;
    }
    enum status st = sample_next(s->sampler, s->n_generated, h, NULL, id, err);
    if (st == ST_NOT_FOUND && !row) {
        s->whole_now = true;
        return SESSION_AGAIN;
    }
    if (st == ST_NOT_FOUND) {
        st = sample_next(s->sampler, s->n_generated, h, row, id, err);
    }
    if (st != ST_OK) return SESSION_BROKEN;
    s->whole_now = false;
    sampler_accept(s->sampler, *id);
    s->n_generated++;
    const bool end = tokenizer_is_end(s->tokenizer, *id);
    const bool full =
        s->n_generated >= s->n_max || s->n_prompt + s->n_generated > n_ctx;
    s->text.len = 0;
    st = end ? ST_OK : detokenizer_push(&s->detok, *id, &s->text);
    if (st == ST_OK && (end || full)) {
        st = detokenizer_finish(&s->detok, &s->text);
    }
    if (st != ST_OK) {
        error_set(err, st, "the answer's text");
        return SESSION_BROKEN;
    }
    if (s->text.len != 0) *text = s->text.data;
    *n_text = s->text.len;
    if (end) return SESSION_STOP;
    return full ? SESSION_LENGTH : SESSION_GOES_ON;
}

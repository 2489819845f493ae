#include "engine/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"

struct choice {
    int32_t id;
    float logit;  /* tempered */
    double share; /* of those still in, not normalised */
};

struct sampler {
    struct sample_params p;
    uint32_t n_vocab;
    int32_t last[SAMPLE_LAST_MAX]; /* ring of accepted tokens */
    uint32_t n_last, next;
    struct head_recent recent[SAMPLE_LAST_MAX];
    struct choice *choices; /* [n_vocab] */
};

struct sample_params sample_defaults(void)
{
    return (struct sample_params){
        .temperature = 0.8f,
        .top_k = 40,
        .top_p = 0.95f,
        .typical_p = 1,
        .repeat = 1,
        .repeat_last_n = 64,
    };
}

enum status sample_check(const struct sample_params *p, struct error *err)
{
    const struct {
        const char *name;
        float value, lo, hi;
    } ranges[] = {
        {"temperature", p->temperature, 0, 100},
        {"top-p", p->top_p, 0, 1},
        {"min-p", p->min_p, 0, 1},
        {"typical-p", p->typical_p, 0, 1},
        {"repeat penalty", p->repeat, 0.01f, 100},
        {"frequency penalty", p->frequency, -100, 100},
        {"presence penalty", p->presence, -100, 100},
    };
    for (size_t i = 0; i < COUNT_OF(ranges); i++) {
        if (ranges[i].value >= ranges[i].lo &&
            ranges[i].value <= ranges[i].hi) {
            continue;
        }
        return error_set(err, ST_USAGE, "%s is %g: must be %g to %g",
                         ranges[i].name, (double)ranges[i].value,
                         (double)ranges[i].lo, (double)ranges[i].hi);
    }
    if (p->temperature > 0 && p->temperature < 1e-3f) {
        return error_set(err, ST_USAGE,
                         "temperature is %g: 0 (greedy) or at least 0.001",
                         (double)p->temperature);
    }
    if (p->repeat_last_n > SAMPLE_LAST_MAX ||
        p->n_bias > HEAD_ADJUST_MAX - SAMPLE_LAST_MAX) {
        return error_set(err, ST_USAGE,
                         "penalties look back on %d tokens at most, and a "
                         "logit bias has %d entries at most",
                         SAMPLE_LAST_MAX, HEAD_ADJUST_MAX - SAMPLE_LAST_MAX);
    }
    for (uint32_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].delta < INFINITY) continue; /* -infinity bans */
        return error_set(err, ST_USAGE, "logit bias of token %d is %g",
                         p->bias[i].id, (double)p->bias[i].delta);
    }
    return ST_OK;
}

enum status sampler_create(struct sampler **out, const struct sample_params *p,
                           uint32_t n_vocab, struct error *err)
{
    const enum status st = sample_check(p, err);
    if (st != ST_OK) return st;
    struct sampler *s = mem_zalloc(sizeof *s);
    struct choice *choices = mem_zalloc_array(n_vocab, sizeof *choices);
    if (!s || !choices) {
        mem_free(s);
        mem_free(choices);
        return error_set(err, ST_NO_MEMORY, "sampler");
    }
    s->p = *p;
    s->n_vocab = n_vocab;
    s->choices = choices;
    *out = s;
    return ST_OK;
}

void sampler_free(struct sampler *s)
{
    if (!s) return;
    mem_free(s->choices);
    mem_free(s);
}

void sampler_accept(struct sampler *s, int32_t id)
{
    const uint32_t size = s->p.repeat_last_n;
    if (size == 0) return;
    s->last[s->next] = id;
    s->next = (s->next + 1) % size;
    if (s->n_last < size) s->n_last++;
}

static bool has_penalties(const struct sample_params *p)
{
    return p->repeat != 1 || p->frequency != 0 || p->presence != 0;
}

static uint32_t count_recent(struct sampler *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_last; i++) {
        uint32_t j = 0;
        while (j < n && s->recent[j].id != s->last[i]) j++;
        if (j == n) s->recent[n++] = (struct head_recent){s->last[i], 0};
        s->recent[j].count++;
    }
    return n;
}

struct head_params sampler_head(struct sampler *s, uint64_t n)
{
    const struct sample_params *p = &s->p;
    return (struct head_params){
        .inv_temp = p->temperature > 0 ? 1.0f / p->temperature : 1,
        .repeat = p->repeat,
        .frequency = p->frequency,
        .presence = p->presence,
        .recent = s->recent,
        .n_recent = has_penalties(p) ? count_recent(s) : 0,
        .adjust = p->bias,
        .n_adjust = p->n_bias,
        .plain = p->temperature > 0 && p->top_k == 0 && p->top_p >= 1 &&
                 p->min_p <= 0 && p->typical_p >= 1,
        .seed = p->seed,
        .n = n,
    };
}

/* ---------------------------------------------------------- the cuts */

static int by_logit(const void *a, const void *b)
{
    const struct choice *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static double shares(struct choice *c, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double d = (double)c[i].logit - (double)c[0].logit;
        c[i].share = d > -700 ? nm_exp64(d) : 0;
        sum += c[i].share;
    }
    return sum;
}

/* Locally typical sampling (Meister et al. 2022, arXiv 2202.00666): keep the
 * tokens whose surprise is nearest the expected one, up to typical_p. */
static uint32_t cut_typical(struct choice *c, uint32_t n, float typical_p)
{
    const double sum = shares(c, n);
    double entropy = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double p = c[i].share / sum;
        if (p > 0) entropy -= p * nm_log64(p);
    }
    /* logits become minus the distance from the entropy, and back */
    const double top = (double)c[0].logit, log_sum = nm_log64(sum);
    for (uint32_t i = 0; i < n; i++) {
        const double surprise = log_sum - ((double)c[i].logit - top);
        c[i].share = (double)c[i].logit;
        c[i].logit = (float)-fabs(surprise - entropy);
    }
    qsort(c, n, sizeof *c, by_logit);
    uint32_t kept = 0;
    double mass = 0;
    while (kept < n && (kept == 0 || mass < (double)typical_p)) {
        const double d = c[kept].share - top;
        mass += d > -700 ? nm_exp64(d) / sum : 0;
        kept++;
    }
    for (uint32_t i = 0; i < kept; i++) c[i].logit = (float)c[i].share;
    qsort(c, kept, sizeof *c, by_logit);
    return kept;
}

/* The smallest set of the most likely whose share reaches top_p of `sum`;
 * n + 1 if these n do not reach it. */
static uint32_t cut_top_p(const struct choice *c, uint32_t n, double sum,
                          float top_p)
{
    double mass = 0;
    for (uint32_t i = 0; i < n; i++) {
        mass += c[i].share;
        if (mass >= (double)top_p * sum) return i + 1;
    }
    return n + 1;
}

static uint32_t cut_min_p(const struct choice *c, uint32_t n, float min_p)
{
    uint32_t kept = 0;
    while (kept < n && c[kept].share >= (double)min_p * c[0].share) kept++;
    return kept;
}

static int32_t draw(const struct sampler *s, uint64_t n, const struct choice *c,
                    uint32_t n_choices)
{
    double sum = 0;
    for (uint32_t i = 0; i < n_choices; i++) sum += c[i].share;
    /* lane past any token id: the Gumbel draws use those */
    const double u = rng_unit(rng_at(s->p.seed, n, UINT64_MAX)) * sum;
    double mass = 0;
    for (uint32_t i = 0; i + 1 < n_choices; i++) {
        mass += c[i].share;
        if (u < mass) return c[i].id;
    }
    return c[n_choices - 1].id;
}

/* All of the vocabulary, penalties applied, best first. */
static uint32_t choices_of_row(struct sampler *s, uint64_t n, const float *row)
{
    const struct head_params p = sampler_head(s, n);
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        s->choices[i] = (struct choice){(int32_t)i, row[i], 0};
    }
    for (uint32_t i = 0; i < p.n_recent; i++) {
        if ((uint32_t)p.recent[i].id >= s->n_vocab) continue;
        float *l = &s->choices[p.recent[i].id].logit;
        *l = *l > 0 ? *l / p.repeat : *l * p.repeat;
        *l -= (float)p.recent[i].count * p.frequency + p.presence;
    }
    for (uint32_t i = 0; i < p.n_adjust; i++) {
        if ((uint32_t)p.adjust[i].id >= s->n_vocab) continue;
        s->choices[p.adjust[i].id].logit += p.adjust[i].delta;
    }
    for (uint32_t i = 0; i < s->n_vocab; i++) s->choices[i].logit *= p.inv_temp;
    qsort(s->choices, s->n_vocab, sizeof *s->choices, by_logit);
    return s->n_vocab;
}

/* Sum of the shares of the whole vocabulary, relative to the best token. */
static double whole_sum(const struct head_result *head)
{
    return nm_exp64((double)head->lse_tempered - (double)head->best[0].logit);
}

enum status sample_next(struct sampler *s, uint64_t n,
                        const struct head_result *head, const float *row,
                        int32_t *id, struct error *err)
{
    const struct sample_params *p = &s->p;
    if (head->n_best == 0 || !(head->best[0].logit > -INFINITY)) {
        return error_set(err, ST_INVALID, "every token is banned");
    }
    if (p->temperature <= 0) {
        *id = head->best[0].id;
        return ST_OK;
    }
    if (sampler_head(s, n).plain) {
        *id = head->plain_id;
        return ST_OK;
    }
    struct choice *c = s->choices;
    uint32_t k = 0;
    if (row) {
        k = choices_of_row(s, n, row);
    } else {
        for (; k < head->n_best; k++) {
            c[k] = (struct choice){head->best[k].id, head->best[k].logit, 0};
        }
    }
    /* is what we have all that there is, or all that top-k leaves? */
    bool whole = k == s->n_vocab;
    if (p->top_k != 0 && p->top_k <= k) {
        k = p->top_k;
        whole = true;
    }
    if (p->typical_p < 1) {
        if (!whole) return ST_NOT_FOUND;
        k = cut_typical(c, k, p->typical_p);
    }
    double sum = shares(c, k);
    const bool cut =
        (p->top_k != 0 && p->top_k < s->n_vocab) || p->typical_p < 1;
    if (p->top_p < 1) {
        /* top-p of what a wider top-k leaves: its sum is not known here */
        if (cut && !whole) return ST_NOT_FOUND;
        /* of the whole vocabulary the head's sum, with the row too: the same
         * set either way, to the last token */
        if (!cut) sum = whole_sum(head);
        const uint32_t kept = cut_top_p(c, k, sum, p->top_p);
        if (kept <= k) {
            k = kept;
            whole = true;
        }
    }
    if (p->min_p > 0) {
        const uint32_t kept = cut_min_p(c, k, p->min_p);
        if (kept < k) whole = true;
        k = kept;
    }
    if (!whole) return ST_NOT_FOUND;
    *id = draw(s, n, c, k);
    return ST_OK;
}

#include "tests/lib/oracle.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

/* ---------------------------------------------------------- loading */

#define TOKENS_MAX 65536u
#define TOP_MAX    4096u
#define RUNS_MAX   256u

static enum status bad(struct error *err, const char *what)
{
    return error_set(err, ST_INVALID, "%s is missing or wrong", what);
}

static enum status read_id(const json_t *j, uint32_t *out, struct error *err)
{
    const json_int_t v = json_is_integer(j) ? json_integer_value(j) : -1;
    if (v < 0 || v > INT32_MAX) return bad(err, "a token id");
    *out = (uint32_t)v;
    return ST_OK;
}

static enum status read_ids(const json_t *list, uint32_t *out,
                            struct error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        enum status st = read_id(json_array_get(list, i), &out[i], err);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

/* Rows are [id, logprob, id, logprob, ...] or [[id, logprob], ...]. */
static enum status read_row(const json_t *list, struct oracle_row *row,
                            struct error *err)
{
    const size_t len = json_array_size(list);
    const bool pairs = json_is_array(json_array_get(list, 0));
    const size_t n = pairs ? len : len / 2;
    if (n == 0 || n > TOP_MAX || (!pairs && len % 2)) return bad(err, "a row");
    row->top = mem_zalloc_array(n, sizeof *row->top);
    if (!row->top) return error_set(err, ST_NO_MEMORY, "a row");
    row->n = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *at = pairs ? json_array_get(list, i) : list;
        const size_t from = pairs ? 0 : 2 * i;
        const json_t *p = json_array_get(at, from + 1);
        if (!json_is_number(p)) return bad(err, "a log-probability");
        row->top[i].logprob = json_number_value(p);
        enum status st =
            read_id(json_array_get(at, from), &row->top[i].id, err);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

static enum status run_init(struct oracle *o, size_t n_tokens,
                            struct error *err)
{
    if (n_tokens == 0 || n_tokens > TOKENS_MAX) return bad(err, "tokens");
    o->tokens = mem_zalloc_array(n_tokens, sizeof *o->tokens);
    o->rows = mem_zalloc_array(n_tokens, sizeof *o->rows);
    o->n_tokens = o->tokens && o->rows ? (uint32_t)n_tokens : 0;
    return o->n_tokens ? ST_OK : error_set(err, ST_NO_MEMORY, "a run");
}

/* Absent: 0. */
static double number_of(const json_t *file, const char *key)
{
    return json_number_value(json_object_get(file, key));
}

static enum status read_recorded(struct oracle *o, const json_t *file,
                                 struct error *err)
{
    const json_t *tokens = json_object_get(file, "tokens");
    const json_t *top = json_object_get(file, "top");
    enum status st = run_init(o, json_array_size(tokens), err);
    if (st == ST_OK) st = read_ids(tokens, o->tokens, err);
    if (st != ST_OK) return st;
    if (json_array_size(top) != o->n_tokens) return bad(err, "top");
    for (uint32_t i = 0; i < o->n_tokens && st == ST_OK; i++) {
        st = read_row(json_array_get(top, i), &o->rows[i], err);
    }
    const json_t *rest = json_object_get(file, "rest");
    if (st != ST_OK || !rest) return st;
    if (json_array_size(rest) != o->n_tokens) return bad(err, "rest");
    for (uint32_t i = 0; i < o->n_tokens; i++) {
        o->rows[i].rest = json_number_value(json_array_get(rest, i));
    }
    return st;
}

/* Step i of a greedy run is the answer after the prompt and i tokens. */
static enum status read_greedy(struct oracle *o, const json_t *run,
                               struct error *err)
{
    const json_t *prompt = json_object_get(run, "prompt_tokens");
    const json_t *tokens = json_object_get(run, "tokens");
    const json_t *steps = json_object_get(run, "logprobs");
    const size_t n_prompt = json_array_size(prompt);
    const size_t n = json_array_size(tokens);
    if (n_prompt == 0 || n == 0 || json_array_size(steps) != n) {
        return bad(err, "prompt_tokens, tokens or logprobs");
    }
    enum status st = run_init(o, n_prompt + n, err);
    if (st == ST_OK) st = read_ids(prompt, o->tokens, err);
    if (st == ST_OK) st = read_ids(tokens, o->tokens + n_prompt, err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        st = read_row(json_object_get(json_array_get(steps, i), "top"),
                      &o->rows[n_prompt - 1 + i], err);
    }
    if (st == ST_OK) o->n_tokens--; /* nothing was asked after the last */
    return st;
}

static enum status read_recipe(struct oracle_file *f, const json_t *file,
                               struct error *err)
{
    const json_t *model = json_object_get(file, "model");
    const char *preset = json_string_value(json_object_get(model, "preset"));
    const json_t *set = json_object_get(model, "set");
    const char *hash = json_string_value(json_object_get(model, "fnv1a"));
    if (!preset || !hash) return bad(err, "model.preset or model.fnv1a");
    char *end;
    f->hash = strtoull(hash, &end, 16);
    if (*end || end == hash) return bad(err, "model.fnv1a");
    snprintf(f->model, sizeof f->model, "%s", preset);
    f->mean_top1 = number_of(file, "mean_top1");
    f->own_kl = number_of(file, "own_kl");
    f->least_margin = number_of(file, "least_margin");
    enum status st = gen_model_preset(&f->recipe, preset, err);
    for (size_t i = 0; i < json_array_size(set) && st == ST_OK; i++) {
        const char *s = json_string_value(json_array_get(set, i));
        st = s ? gen_model_set(&f->recipe, s, err) : bad(err, "model.set");
    }
    return st;
}

static enum status read_file(struct oracle_file *f, const json_t *file,
                             struct error *err)
{
    const json_t *runs = json_object_get(file, "runs");
    const size_t n = runs ? json_array_size(runs) : 1;
    if (n == 0 || n > RUNS_MAX) return bad(err, "runs");
    f->runs = mem_zalloc_array(n, sizeof *f->runs);
    if (!f->runs) return error_set(err, ST_NO_MEMORY, "%zu runs", n);
    f->n_runs = (uint32_t)n;
    if (!runs) {
        enum status st = read_recipe(f, file, err);
        return st == ST_OK ? read_recorded(&f->runs[0], file, err) : st;
    }
    const char *model = json_string_value(json_object_get(file, "model"));
    if (!model) return bad(err, "model");
    snprintf(f->model, sizeof f->model, "%s", model);
    enum status st = ST_OK;
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        st = read_greedy(&f->runs[i], json_array_get(runs, i), err);
    }
    return st;
}

enum status oracle_load(struct oracle_file *out, const char *path,
                        struct error *err)
{
    json_error_t where;
    json_t *file = json_load_file(path, 0, &where);
    if (!file) {
        return error_set(err, where.line < 0 ? ST_IO : ST_INVALID, "%s:%d: %s",
                         path, where.line, where.text);
    }
    struct oracle_file f = {0};
    enum status st = read_file(&f, file, err);
    json_decref(file);
    if (st != ST_OK) {
        oracle_fini(&f);
        return error_prefix(err, st, "%s", path);
    }
    *out = f;
    return ST_OK;
}

void oracle_fini(struct oracle_file *f)
{
    for (uint32_t r = 0; r < f->n_runs; r++) {
        struct oracle *o = &f->runs[r];
        for (uint32_t i = 0; i < o->n_tokens; i++) mem_free(o->rows[i].top);
        mem_free(o->tokens);
        mem_free(o->rows);
    }
    mem_free(f->runs);
    *f = (struct oracle_file){0};
}

/* ------------------------------------------------------- comparison */

static double log_sum_exp(const float *logits, uint32_t n)
{
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) max = fmax(max, (double)logits[i]);
    for (uint32_t i = 0; i < n; i++) sum += exp((double)logits[i] - max);
    return max + log(sum);
}

static uint32_t first_of(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return best;
}

void oracle_compare(const struct oracle *o, uint32_t position,
                    const float *logits, uint32_t n_vocab,
                    struct oracle_diff *d)
{
    if (position >= o->n_tokens || o->rows[position].n == 0) return;
    const struct oracle_row *row = &o->rows[position];
    const double lse = log_sum_exp(logits, n_vocab);
    for (uint32_t i = 0; i < row->n; i++) {
        const uint32_t id = row->top[i].id;
        const double theirs = row->top[i].logprob;
        const double ours = id < n_vocab ? (double)logits[id] - lse : INFINITY;
        double diff = fabs(ours - theirs);
        if (!(diff < INFINITY)) diff = INFINITY; /* a NaN too */
        d->n_entries++;
        d->sum += diff;
        if (!(diff <= d->max)) {
            d->max = diff;
            d->worst_position = position;
            d->worst_id = id;
            d->worst_ours = ours;
            d->worst_theirs = theirs;
        }
    }
    d->n_rows++;
    if (first_of(logits, n_vocab) == row->top[0].id) return;
    d->n_wrong++;
    if (row->n < 2 || row->top[0].logprob - row->top[1].logprob > d->gap) {
        d->n_wrong_clear++;
    }
}

double oracle_diff_mean(const struct oracle_diff *d)
{
    return d->n_entries ? d->sum / d->n_entries : INFINITY;
}

void oracle_diff_print(const struct oracle_diff *d, char *text, size_t n)
{
    snprintf(text, n,
             "%u rows, %u entries: max %.3g (position %u, id %u: ours %.7g, "
             "theirs %.7g), mean %.3g, first token differs %u times (%u clear)",
             d->n_rows, d->n_entries, d->max, d->worst_position, d->worst_id,
             d->worst_ours, d->worst_theirs, oracle_diff_mean(d), d->n_wrong,
             d->n_wrong_clear);
}

#include "engine/head.h"

#include <math.h>
#include <string.h>

#include "common/rng.h"

/* ------------------------------------------------------ log-sum-exp */

static struct head_sum leaf_sum(const struct vec_ops *vec, const float *x,
                                uint32_t n)
{
    float w[NM_LEAF];
    const float m = vec->largest(x, n, x[0]);
    vec->exp_row(w, x, m, n);
    return (struct head_sum){m, vec->sum_lanes(w, n)};
}

static struct head_sum join(struct head_sum a, struct head_sum b)
{
    if (a.s == 0) return b; /* a banned leaf adds nothing */
    if (b.s == 0) return a;
    const float m = a.m > b.m ? a.m : b.m;
    return (struct head_sum){m,
                             (a.s * nm_exp(a.m - m)) + (b.s * nm_exp(b.m - m))};
}

/* The leaves of several parts, as one sequence. */
struct leaves {
    const struct head_part *const *parts;
    bool tempered;
};

static struct head_sum leaf_at(const struct leaves *l, uint32_t i)
{
    uint32_t p = 0;
    while (i >= l->parts[p]->n_leaves) i -= l->parts[p++]->n_leaves;
    return l->tempered ? l->parts[p]->tempered[i] : l->parts[p]->raw[i];
}

static struct head_sum tree(const struct leaves *l, uint32_t first, uint32_t n)
{
    if (n == 1) return leaf_at(l, first);
    const uint32_t mid = (n + 1) / 2;
    const struct head_sum low = tree(l, first, mid);
    return join(low, tree(l, first + mid, n - mid));
}

static struct head_sum row_tree(const struct vec_ops *vec, const float *row,
                                uint32_t n)
{
    if (n <= NM_LEAF) return leaf_sum(vec, row, n);
    const uint32_t leaves = (n + NM_LEAF - 1) / NM_LEAF;
    const uint32_t mid = (leaves + 1) / 2 * NM_LEAF;
    const struct head_sum low = row_tree(vec, row, mid);
    return join(low, row_tree(vec, row + mid, n - mid));
}

float head_log_sum_exp(const struct vec_ops *vec, const float *row, uint32_t n)
{
    const struct head_sum sum = row_tree(vec, row, n);
    return sum.m + nm_log(sum.s);
}

/* -------------------------------------------------------------- best */

static bool goes_before(float logit, int32_t id, const struct head_candidate *c)
{
    return logit > c->logit || (logit == c->logit && id < c->id);
}

static void offer(struct head_candidate *best, uint32_t *n,
                  struct head_candidate c)
{
    if (*n == HEAD_BEST && !goes_before(c.logit, c.id, &best[*n - 1])) return;
    uint32_t i = *n < HEAD_BEST ? (*n)++ : *n - 1;
    for (; i > 0 && goes_before(c.logit, c.id, &best[i - 1]); i--) {
        best[i] = best[i - 1];
    }
    best[i] = c;
}

/* ------------------------------------------------------------- plain */

/* -log(-log u), u in (0, 1). */
static double gumbel(double u)
{
    return -nm_log64(-nm_log64(u));
}

/* Sampling by the Gumbel-max trick (Maddison, Tarlow, Minka 2014): argmax of
 * logit + noise is a draw from softmax(logit). */
static void scan_plain(const struct head_params *p, const float *x,
                       uint32_t first, uint32_t n, struct head_part *out)
{
    for (uint32_t i = 0; i < n; i++) {
        const double u = rng_unit(rng_at(p->seed, p->n, first + i));
        /* gumbel(0.98) < 4: most of the far ones need no logarithm */
        if (out->plain_id >= 0 && u < 0.98 &&
            (double)x[i] + 4.0 < out->plain_value) {
            continue;
        }
        const double value = (double)x[i] + gumbel(u);
        if (out->plain_id < 0 || value > out->plain_value) {
            out->plain_value = value;
            out->plain_id = (int32_t)(first + i);
        }
    }
}

/* -------------------------------------------------------------- scan */

struct saved {
    uint32_t n;
    uint32_t at[HEAD_ADJUST_MAX];
    float raw[HEAD_ADJUST_MAX];
};

static float *touch(struct saved *s, float *row, uint32_t first,
                    uint32_t n_rows, int32_t id)
{
    if (id < 0 || (uint32_t)id < first || (uint32_t)id - first >= n_rows) {
        return NULL;
    }
    const uint32_t at = (uint32_t)id - first;
    s->at[s->n] = at;
    s->raw[s->n++] = row[at];
    return &row[at];
}

static void adjust(const struct head_params *p, float *row, uint32_t first,
                   uint32_t n_rows, struct saved *saved)
{
    for (uint32_t i = 0; i < p->n_recent; i++) {
        float *l = touch(saved, row, first, n_rows, p->recent[i].id);
        if (!l) continue;
        *l = *l > 0 ? *l / p->repeat : *l * p->repeat;
        *l -= (float)p->recent[i].count * p->frequency + p->presence;
    }
    for (uint32_t i = 0; i < p->n_adjust; i++) {
        float *l = touch(saved, row, first, n_rows, p->adjust[i].id);
        if (l) *l += p->adjust[i].delta;
    }
}

static enum status scan_raw(const struct vec_ops *vec, const float *row,
                            struct head_part *out, struct error *err)
{
    for (uint32_t i = 0; i < out->n_leaves; i++) {
        const uint32_t at = i * NM_LEAF, left = out->n_rows - at;
        const uint32_t n = left < NM_LEAF ? left : NM_LEAF;
        /* every logit counts: the leaf's sum does not show a -infinity */
        if (!vec->all_finite(row + at, n)) {
            return error_set(err, ST_NUMERIC,
                             "a logit near token %u is not a finite number: "
                             "the model file may be damaged",
                             out->first + at);
        }
        out->raw[i] = leaf_sum(vec, row + at, n);
    }
    return ST_OK;
}

static float raw_of(const struct saved *saved, uint32_t at, float now)
{
    for (uint32_t i = 0; i < saved->n; i++) {
        if (saved->at[i] == at) return saved->raw[i];
    }
    return now;
}

/* n logits with temperature, x, from row `at` on to the best. */
static void offer_leaf(struct head_part *out, const struct saved *saved,
                       const float *row, const float *x, uint32_t at,
                       uint32_t n)
{
    for (uint32_t j = 0; j < n; j++) {
        if (out->n_best == HEAD_BEST &&
            x[j] <= out->best[HEAD_BEST - 1].logit) {
            continue; /* ids ascend, so a tie loses */
        }
        const struct head_candidate c = {(int32_t)(out->first + at + j), x[j],
                                         raw_of(saved, at + j, row[at + j])};
        offer(out->best, &out->n_best, c);
    }
}

static void scan_leaves(const struct head_params *p, const struct vec_ops *vec,
                        const float *row, const struct saved *saved,
                        struct head_part *out)
{
    const bool as_raw = p->inv_temp == 1.0f && saved->n == 0;
    for (uint32_t i = 0; i < out->n_leaves; i++) {
        const uint32_t at = i * NM_LEAF, left = out->n_rows - at;
        const uint32_t n = left < NM_LEAF ? left : NM_LEAF;
        float x[NM_LEAF];
        vec->scale(x, row + at, p->inv_temp, n);
        out->tempered[i] = as_raw ? out->raw[i] : leaf_sum(vec, x, n);
        /* most leaves have nothing among the best */
        if (out->n_best < HEAD_BEST ||
            !(out->tempered[i].m <= out->best[HEAD_BEST - 1].logit)) {
            offer_leaf(out, saved, row, x, at, n);
        }
        if (!(out->tempered[i].s > 0)) {
            out->tempered[i].s = 0; /* the whole leaf is banned */
        }
        if (p->plain) scan_plain(p, x, out->first + at, n, out);
    }
}

enum status head_scan(const struct head_params *p, const struct vec_ops *vec,
                      float *row, uint32_t first, uint32_t n_rows,
                      struct head_part *out, struct error *err)
{
    if (p->n_recent > HEAD_ADJUST_MAX ||
        p->n_adjust > HEAD_ADJUST_MAX - p->n_recent) {
        return error_set(err, ST_TOO_LARGE,
                         "%u recent tokens and %u adjustments: %d fit",
                         p->n_recent, p->n_adjust, HEAD_ADJUST_MAX);
    }
    out->first = first;
    out->n_rows = n_rows;
    out->n_leaves = (n_rows + NM_LEAF - 1) / NM_LEAF;
    out->n_best = 0;
    out->plain_id = -1;
    const enum status st = scan_raw(vec, row, out, err);
    if (st != ST_OK) return st;
    struct saved saved;
    saved.n = 0; /* the rest of it need not be cleared */
    adjust(p, row, first, n_rows, &saved);
    scan_leaves(p, vec, row, &saved, out);
    while (saved.n-- > 0) row[saved.at[saved.n]] = saved.raw[saved.n];
    return ST_OK;
}

void head_finish(const struct head_part *const *parts, uint32_t n_parts,
                 struct head_result *out)
{
    uint32_t n_leaves = 0;
    double plain = 0;
    out->n_best = 0;
    out->plain_id = -1;
    for (uint32_t i = 0; i < n_parts; i++) {
        const struct head_part *part = parts[i];
        n_leaves += part->n_leaves;
        for (uint32_t j = 0; j < part->n_best; j++) {
            offer(out->best, &out->n_best, part->best[j]);
        }
        if (part->plain_id >= 0 &&
            (out->plain_id < 0 || part->plain_value > plain)) {
            out->plain_id = part->plain_id;
            plain = part->plain_value;
        }
    }
    const struct leaves raw = {parts, false}, tempered = {parts, true};
    struct head_sum sum = tree(&raw, 0, n_leaves);
    out->lse_raw = sum.m + nm_log(sum.s);
    sum = tree(&tempered, 0, n_leaves);
    out->lse_tempered = sum.m + nm_log(sum.s);
}

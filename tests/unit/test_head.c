/* test_head.c - candidates, penalties and log-sum-exp against plain f64; any
 * cut of the vocabulary gives the same bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/head.h"
#include "tests/lib/engine_rig.h"

#define VOCAB_MAX 5001
#define PARTS_MAX 5

static float row[VOCAB_MAX], untouched[VOCAB_MAX];
static struct head_part parts[PARTS_MAX];
static const struct vec_ops *vec;

static void random_row(struct rng *rng, uint32_t n, float gain, bool ties)
{
    for (uint32_t i = 0; i < n; i++) {
        row[i] = gain * rig_normal(rng);
        if (ties) row[i] = floorf(row[i]);
        untouched[i] = row[i];
    }
}

/* Scan in the parts that begin at cuts[i] and put them together. */
static void scan(const struct head_params *p, uint32_t n_vocab,
                 const uint32_t *cuts, uint32_t n_parts,
                 struct head_result *out)
{
    const struct head_part *list[PARTS_MAX];
    memset(parts, 0xee, sizeof parts);
    memset(out, 0, sizeof *out); /* entries past n_best are not written */
    for (uint32_t i = 0; i < n_parts; i++) {
        const uint32_t end = i + 1 < n_parts ? cuts[i + 1] : n_vocab;
        assert_ok(head_scan(p, vec, row + cuts[i], cuts[i], end - cuts[i],
                            &parts[i], &rig_err));
        list[i] = &parts[i];
    }
    assert_memory_equal(row, untouched, n_vocab * sizeof *row);
    head_finish(list, n_parts, out);
}

static void scan_whole(const struct head_params *p, uint32_t n_vocab,
                       struct head_result *out)
{
    static const uint32_t cuts[] = {0};
    scan(p, n_vocab, cuts, 1, out);
}

/* logit' of every token, each operation rounded as head.h describes it. */
static void tempered_row(const struct head_params *p, uint32_t n, float *out)
{
    memcpy(out, untouched, n * sizeof *out);
    for (uint32_t i = 0; i < p->n_recent; i++) {
        const int32_t id = p->recent[i].id;
        if (id < 0 || (uint32_t)id >= n) continue;
        out[id] = out[id] > 0 ? out[id] / p->repeat : out[id] * p->repeat;
        const float minus =
            (float)p->recent[i].count * p->frequency + p->presence;
        out[id] -= minus;
    }
    for (uint32_t i = 0; i < p->n_adjust; i++) {
        const int32_t id = p->adjust[i].id;
        if (id >= 0 && (uint32_t)id < n) out[id] += p->adjust[i].delta;
    }
    for (uint32_t i = 0; i < n; i++) out[i] *= p->inv_temp;
}

static const float *sort_by;
static int best_first(const void *a, const void *b)
{
    const int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (sort_by[i] != sort_by[j]) return sort_by[i] > sort_by[j] ? -1 : 1;
    return i < j ? -1 : i > j;
}

/* A term passes exp (2 ulp) once in its leaf and once a level of the tree
 * (at most 5 here), whose arguments are rounded: u |x - max| of its weight;
 * the sums add 32 + 3 + 2 * 5 roundings, the logarithm and the last sum one
 * each.  Relative errors of the sum are absolute ones of its logarithm. */
static void check_lse(float got, const float *x, uint32_t n)
{
    double max = -INFINITY, sum = 0, spread = 0;
    for (uint32_t i = 0; i < n; i++) max = (double)x[i] > max ? x[i] : max;
    for (uint32_t i = 0; i < n; i++) {
        const double w = exp((double)x[i] - max);
        sum += w;
        if (w > 0) spread += w * (max - (double)x[i]);
    }
    const double want = max + log(sum);
    const double bound = 6 * 0x1p-22 + 50 * 0x1p-24 +
                         0x1p-24 * (spread / sum + 6 * fabs(max)) +
                         2 * 0x1p-24 * (fabs(want) + fabs(log(sum)));
    if (!(fabs((double)got - want) <= bound)) {
        fail_msg("log-sum-exp %.9g, wanted %.9g within %g", (double)got, want,
                 bound);
    }
}

static void check_result(const struct head_params *p, uint32_t n,
                         const struct head_result *r)
{
    static float x[VOCAB_MAX];
    static int32_t order[VOCAB_MAX];
    tempered_row(p, n, x);
    for (uint32_t i = 0; i < n; i++) order[i] = (int32_t)i;
    sort_by = x;
    qsort(order, n, sizeof *order, best_first);
    assert_int_equal(r->n_best, n < HEAD_BEST ? n : HEAD_BEST);
    for (uint32_t i = 0; i < r->n_best; i++) {
        assert_int_equal(r->best[i].id, order[i]);
        assert_true(r->best[i].logit == x[order[i]]);
        assert_true(r->best[i].raw == untouched[order[i]]);
    }
    check_lse(r->lse_raw, untouched, n);
    if (x[order[0]] > -INFINITY) check_lse(r->lse_tempered, x, n);
    if (!p->plain) {
        assert_int_equal(r->plain_id, -1);
        return;
    }
    int32_t id = -1;
    double best = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double u = rng_unit(rng_at(p->seed, p->n, i));
        const double v = (double)x[i] + -nm_log64(-nm_log64(u));
        if (id < 0 || v > best) {
            best = v;
            id = (int32_t)i;
        }
    }
    assert_int_equal(r->plain_id, id);
}

/* docs/NUMERICS.md 10, word for word. */
struct sum {
    float m, s;
};
static struct sum tree_sum(const float *x, uint32_t n)
{
    const uint32_t leaves = (n + 255) / 256;
    if (leaves > 1) {
        const uint32_t low = (leaves - leaves / 2) * 256; /* ceil */
        const struct sum a = tree_sum(x, low), b = tree_sum(x + low, n - low);
        const float m = fmaxf(a.m, b.m);
        const float s_a = a.s * nm_exp(a.m - m), s_b = b.s * nm_exp(b.m - m);
        return (struct sum){m, s_a + s_b};
    }
    float lane[8] = {0}, m = -INFINITY;
    for (uint32_t i = 0; i < n; i++) m = fmaxf(m, x[i]);
    for (uint32_t i = 0; i < n; i++) lane[i % 8] += nm_exp(x[i] - m);
    const float s = ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
                    ((lane[1] + lane[5]) + (lane[3] + lane[7]));
    return (struct sum){m, s};
}

/* One great share among small ones, so that the logarithm hides no
 * rounding of the sums. */
static void test_the_tree(void **state)
{
    (void)state;
    struct rng rng = {27};
    const struct head_params p = {.inv_temp = 1, .repeat = 1};
    for (uint32_t round = 0; round < 120; round++) {
        const uint32_t n = 200 + (uint32_t)rng_below(&rng, VOCAB_MAX - 200);
        struct head_result r;
        random_row(&rng, n, 1, false);
        for (uint32_t i = 0; i < n; i++) row[i] -= 8;
        row[rng_below(&rng, n)] = 0;
        memcpy(untouched, row, sizeof row);
        scan_whole(&p, n, &r);
        const struct sum want = tree_sum(row, n);
        assert_true(r.lse_raw == want.m + nm_log(want.s));
        assert_true(r.lse_tempered == r.lse_raw);
        assert_true(head_log_sum_exp(vec, row, n) == r.lse_raw);
    }
}

static const uint32_t sizes[] = {1, 5, 63, 64, 65, 255, 256, 257, 1000, 5001};

static void test_plain_rows(void **state)
{
    (void)state;
    struct rng rng = {21};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        for (uint32_t round = 0; round < 12; round++) {
            struct head_result r;
            const struct head_params p = {.inv_temp =
                                              round % 3 ? 1.0f / 0.7f : 1,
                                          .repeat = 1,
                                          .plain = round % 2,
                                          .seed = round,
                                          .n = i};
            random_row(&rng, sizes[i], 5, round % 4 == 3);
            scan_whole(&p, sizes[i], &r);
            check_result(&p, sizes[i], &r);
            assert_true(head_log_sum_exp(vec, row, sizes[i]) == r.lse_raw);
            if (round % 3 == 0) assert_true(r.lse_tempered == r.lse_raw);
        }
    }
}

/* Random penalties, biases and bans; some ids twice, some outside. */
struct changes {
    struct head_recent recent[200];
    struct head_adjust adjust[600];
};

static struct head_params random_params(struct rng *rng, struct changes *c,
                                        uint32_t n_vocab)
{
    struct head_params p = {.inv_temp = 1.25f,
                            .repeat = 1.3f,
                            .frequency = 0.25f,
                            .presence = -0.5f,
                            .recent = c->recent,
                            .adjust = c->adjust,
                            .plain = true,
                            .seed = rng_u64(rng),
                            .n = rng_below(rng, 1000)};
    p.n_recent = (uint32_t)rng_below(rng, COUNT_OF(c->recent));
    p.n_adjust = (uint32_t)rng_below(rng, COUNT_OF(c->adjust));
    for (uint32_t i = 0; i < p.n_recent; i++) {
        c->recent[i].id = (int32_t)rng_below(rng, n_vocab + 20) - 10;
        c->recent[i].count = 1 + (uint32_t)rng_below(rng, 5);
    }
    for (uint32_t i = 0; i < p.n_adjust; i++) {
        c->adjust[i].id = (int32_t)rng_below(rng, n_vocab + 20) - 10;
        c->adjust[i].delta =
            rng_below(rng, 3) ? 4 * rig_normal(rng) : -INFINITY;
    }
    return p;
}

static void test_penalties(void **state)
{
    (void)state;
    struct rng rng = {22};
    static struct changes c;
    for (uint32_t round = 0; round < 150; round++) {
        const uint32_t n = sizes[2 + rng_below(&rng, COUNT_OF(sizes) - 2)];
        struct head_result r;
        random_row(&rng, n, 4, round % 5 == 0);
        const struct head_params p = random_params(&rng, &c, n);
        scan_whole(&p, n, &r);
        check_result(&p, n, &r);
    }
}

static void test_any_cut(void **state)
{
    (void)state;
    struct rng rng = {23};
    static struct changes c;
    static const uint32_t vocab[] = {300, 1000, 1024, 2900, 5001};
    for (uint32_t round = 0; round < 200; round++) {
        const uint32_t n = vocab[round % COUNT_OF(vocab)];
        const uint32_t n_leaves = (n + NM_LEAF - 1) / NM_LEAF;
        struct head_result whole, cut;
        random_row(&rng, n, 5, round % 3 == 0);
        const struct head_params p = random_params(&rng, &c, n);
        scan_whole(&p, n, &whole);
        uint32_t cuts[PARTS_MAX] = {0}, n_parts = 1;
        while (n_parts < 1 + round % PARTS_MAX) {
            const uint32_t last = cuts[n_parts - 1] / NM_LEAF;
            const uint32_t left = n_leaves - 1 - last;
            if (left == 0) break;
            cuts[n_parts++] =
                NM_LEAF * (last + 1 + (uint32_t)rng_below(&rng, left));
        }
        scan(&p, n, cuts, n_parts, &cut);
        assert_memory_equal(&cut, &whole, sizeof whole);
    }
}

static void test_bans(void **state)
{
    (void)state;
    static struct head_adjust bans[HEAD_ADJUST_MAX];
    struct rng rng = {24};
    struct head_result whole, cut;
    static const uint32_t cuts[] = {0, 256, 768};
    random_row(&rng, 1000, 5, false);
    for (uint32_t i = 0; i < HEAD_ADJUST_MAX; i++) {
        bans[i] = (struct head_adjust){(int32_t)i, -INFINITY};
    }
    struct head_params p = {
        .inv_temp = 2, .repeat = 1, .adjust = bans, .plain = true, .seed = 1};
    /* the first leaf, the first two, one in the middle, all but one, all */
    static const uint32_t range[][2] = {
        {0, 256}, {0, 512}, {256, 512}, {0, 999}, {0, 1000}};
    for (size_t i = 0; i < COUNT_OF(range); i++) {
        p.adjust = bans + range[i][0];
        p.n_adjust = range[i][1] - range[i][0];
        scan_whole(&p, 1000, &whole);
        check_result(&p, 1000, &whole);
        scan(&p, 1000, cuts, 3, &cut);
        assert_memory_equal(&cut, &whole, sizeof whole);
        const bool all = p.n_adjust == 1000;
        assert_int_equal(all, whole.best[0].logit == -INFINITY);
        assert_int_equal(all, whole.lse_tempered == -INFINITY);
        assert_true(isfinite(whole.lse_raw));
        if (!all) {
            assert_true((uint32_t)whole.plain_id < range[i][0] ||
                        (uint32_t)whole.plain_id >= range[i][1]);
        }
    }
}

static void test_not_finite(void **state)
{
    (void)state;
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    static const uint32_t at[] = {0, 1, 255, 256, 700, 999};
    struct rng rng = {25};
    const struct head_params p = {.inv_temp = 1, .repeat = 1, .plain = true};
    random_row(&rng, 1000, 5, false);
    for (size_t i = 0; i < COUNT_OF(odd) * COUNT_OF(at); i++) {
        const uint32_t where = at[i / COUNT_OF(odd)];
        row[where] = odd[i % COUNT_OF(odd)];
        assert_fails(head_scan(&p, vec, row, 0, 1000, &parts[0], &rig_err),
                     ST_NUMERIC,
                     where < 256   ? "token 0 "
                     : where < 512 ? "token 256 "
                                   : "token ");
        row[where] = untouched[where];
    }
    assert_ok(head_scan(&p, vec, row, 0, 1000, &parts[0], &rig_err));
}

static void test_too_many(void **state)
{
    (void)state;
    static struct head_adjust adjust[HEAD_ADJUST_MAX + 1];
    static struct head_recent recent[HEAD_ADJUST_MAX + 1];
    struct head_params p = {.inv_temp = 1,
                            .repeat = 1,
                            .recent = recent,
                            .adjust = adjust,
                            .n_adjust = HEAD_ADJUST_MAX - 3,
                            .n_recent = 3};
    memset(row, 0, sizeof row);
    assert_ok(head_scan(&p, vec, row, 0, 256, &parts[0], &rig_err));
    static const uint32_t bad[][2] = {{HEAD_ADJUST_MAX - 3, 4},
                                      {HEAD_ADJUST_MAX + 1, 0},
                                      {0, HEAD_ADJUST_MAX + 1},
                                      {UINT32_MAX, 2}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        p.n_adjust = bad[i][0];
        p.n_recent = bad[i][1];
        assert_fails(head_scan(&p, vec, row, 0, 256, &parts[0], &rig_err),
                     ST_TOO_LARGE, "1024 fit");
    }
}

/* Every level of instructions gives the reference's bytes. */
static void test_isa(void **state)
{
    (void)state;
    struct rng rng = {26};
    static struct changes c;
    for (uint32_t round = 0; round < 20; round++) {
        struct head_result want, got;
        random_row(&rng, 5001, 5, false);
        const struct head_params p = random_params(&rng, &c, 5001);
        scan_whole(&p, 5001, &want);
        for (enum isa isa = ISA_REF; isa <= cpu_isa(); isa++) {
            if (!cpu_runs(isa)) continue;
            vec = vec_ops_select(isa);
            scan_whole(&p, 5001, &got);
            assert_memory_equal(&got, &want, sizeof want);
        }
        vec = vec_ops_select(ISA_REF);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_rows), cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_any_cut),    cmocka_unit_test(test_bans),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_isa),        cmocka_unit_test(test_the_tree),
    };
    vec = vec_ops_select(ISA_REF);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

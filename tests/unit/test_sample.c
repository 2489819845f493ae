/* test_sample.c - frequencies against shares computed in f64, draws that
 * depend on seed and number alone, and 64 candidates that decide as the whole
 * row would. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sample.h"
#include "tests/lib/engine_rig.h"

#define VOCAB 400
#define DRAWS 20000

static float row[VOCAB];
static struct head_part part;

static void random_row(uint64_t seed, float gain)
{
    struct rng rng = {seed};
    for (uint32_t i = 0; i < VOCAB; i++) row[i] = gain * rig_normal(&rng);
}

static struct sample_params off(void)
{
    return (struct sample_params){.temperature = 0.9f,
                                  .top_p = 1,
                                  .typical_p = 1,
                                  .repeat = 1,
                                  .repeat_last_n = 64,
                                  .seed = 5};
}

static struct sampler *new_sampler(const struct sample_params *p)
{
    struct sampler *s = NULL;
    assert_ok(sampler_create(&s, p, VOCAB, &rig_err));
    return s;
}

static void scan(struct sampler *s, uint64_t n, struct head_result *out)
{
    const struct head_params p = sampler_head(s, n);
    const struct head_part *const list[] = {&part};
    assert_ok(
        head_scan(&p, vec_ops_select(ISA_REF), row, 0, VOCAB, &part, &rig_err));
    head_finish(list, 1, out);
}

static int32_t next(struct sampler *s, uint64_t n, const struct head_result *r)
{
    int32_t id = -1;
    enum status st = sample_next(s, n, r, NULL, &id, &rig_err);
    if (st == ST_NOT_FOUND) st = sample_next(s, n, r, row, &id, &rig_err);
    assert_ok(st);
    assert_true(id >= 0 && id < VOCAB);
    return id;
}

/* ------------------------------------------------- shares, the long way */

struct entry {
    int32_t id;
    double logit, share, key;
};

static int by_key(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static void normalise(struct entry *e, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += exp(e[i].logit);
    for (uint32_t i = 0; i < n; i++) e[i].share = exp(e[i].logit) / sum;
}

/* The first of e whose shares reach p, at least one. */
static uint32_t reach(const struct entry *e, uint32_t n, double p)
{
    double mass = 0;
    for (uint32_t i = 0; i < n; i++) {
        mass += e[i].share;
        if (mass >= p) return i + 1;
    }
    return n;
}

static void expected_shares(const struct sample_params *p, double share[VOCAB])
{
    struct entry e[VOCAB];
    uint32_t n = VOCAB;
    for (int32_t i = 0; i < VOCAB; i++) {
        const double l = (double)row[i] / (double)p->temperature;
        e[i] = (struct entry){i, l, 0, l};
        share[i] = 0;
    }
    qsort(e, n, sizeof *e, by_key);
    if (p->top_k != 0 && p->top_k < n) n = p->top_k;
    normalise(e, n);
    if (p->typical_p < 1) {
        double entropy = 0;
        for (uint32_t i = 0; i < n; i++) {
            entropy -= e[i].share * log(e[i].share);
        }
        for (uint32_t i = 0; i < n; i++) {
            e[i].key = -fabs(-log(e[i].share) - entropy);
        }
        qsort(e, n, sizeof *e, by_key);
        n = reach(e, n, (double)p->typical_p);
        for (uint32_t i = 0; i < n; i++) e[i].key = e[i].logit;
        qsort(e, n, sizeof *e, by_key);
        normalise(e, n);
    }
    if (p->top_p < 1) n = reach(e, n, (double)p->top_p);
    normalise(e, n);
    while (n > 1 && e[n - 1].share < (double)p->min_p * e[0].share) n--;
    normalise(e, n);
    for (uint32_t i = 0; i < n; i++) share[e[i].id] = e[i].share;
}

/* Pearson's statistic over tokens of at least 5 expected draws, the rest in
 * one bin; about normal around df with variance 2 df.  Five deviations, with
 * a fixed seed. */
static void check_frequencies(const struct sample_params *p)
{
    static uint32_t count[VOCAB];
    double share[VOCAB], chi = 0, rest = 0, rest_count = 0, df = -1;
    struct sampler *s = new_sampler(p);
    struct head_result r;
    memset(count, 0, sizeof count);
    const bool plain = sampler_head(s, 0).plain;
    scan(s, 0, &r);
    for (uint64_t n = 0; n < DRAWS; n++) {
        if (plain) scan(s, n, &r);
        count[next(s, n, &r)]++;
    }
    expected_shares(p, share);
    for (uint32_t i = 0; i < VOCAB; i++) {
        const double want = share[i] * DRAWS;
        if (want == 0) assert_int_equal(count[i], 0);
        if (want < 5) {
            rest += want;
            rest_count += count[i];
            continue;
        }
        chi += (count[i] - want) * (count[i] - want) / want;
        df++;
    }
    if (rest >= 5) {
        chi += (rest_count - rest) * (rest_count - rest) / rest;
        df++;
    }
    assert_true(df >= 3);
    if (!(chi <= df + 5 * sqrt(2 * df))) {
        fail_msg("chi-square %.1f with %.0f degrees of freedom", chi, df);
    }
    sampler_free(s);
}

static void test_frequencies(void **state)
{
    (void)state;
    random_row(31, 2);
    struct sample_params p = off();
    check_frequencies(&p); /* plain: Gumbel */
    p.top_k = 20;
    check_frequencies(&p);
    p.top_k = 200; /* more than the candidates */
    check_frequencies(&p);
    p = off();
    p.top_p = 0.7f;
    check_frequencies(&p);
    p.top_p = 0.98f; /* more than the candidates */
    check_frequencies(&p);
    p = off();
    p.min_p = 0.05f;
    check_frequencies(&p);
    p = off();
    p.typical_p = 0.6f;
    check_frequencies(&p);
    p.top_k = 30;
    check_frequencies(&p);
    p = off();
    p.top_k = 60;
    p.top_p = 0.9f;
    p.min_p = 0.1f;
    p.typical_p = 0.95f;
    p.temperature = 1.3f;
    check_frequencies(&p);
}

/* ------------------------------------------------- candidates or the row */

static struct sample_params random_cuts(struct rng *rng)
{
    static const uint32_t top_k[] = {0,  0,  0,   1,   5,   40,  63, 64,
                                     65, 70, 100, 200, 399, 400, 500};
    static const float top_p[] = {1, 1, 0, 0.3f, 0.8f, 0.9f, 0.95f, 0.999f};
    static const float min_p[] = {0, 0, 0, 0.01f, 0.1f, 0.5f, 1};
    static const float typical[] = {1, 1, 1, 0.2f, 0.9f};
    struct sample_params p = off();
    p.seed = rng_u64(rng);
    p.temperature = 0.3f + (float)rng_below(rng, 5) * 0.4f;
    p.top_k = top_k[rng_below(rng, COUNT_OF(top_k))];
    p.top_p = top_p[rng_below(rng, COUNT_OF(top_p))];
    p.min_p = min_p[rng_below(rng, COUNT_OF(min_p))];
    p.typical_p = typical[rng_below(rng, COUNT_OF(typical))];
    p.repeat = rng_below(rng, 2) ? 1.2f : 1;
    return p;
}

static void test_candidates_decide_as_the_row(void **state)
{
    (void)state;
    struct rng rng = {32};
    uint32_t decided = 0, asked = 0;
    for (uint32_t round = 0; round < 1500; round++) {
        random_row(round, 0.5f + (float)(round % 7));
        if (round % 5 == 0) { /* ties at every boundary */
            for (uint32_t i = 0; i < VOCAB; i++) row[i] = floorf(row[i]);
        }
        const struct sample_params p = random_cuts(&rng);
        struct sampler *s = new_sampler(&p);
        for (int i = 0; i < 30; i++) {
            sampler_accept(s, (int32_t)rng_below(&rng, VOCAB));
        }
        for (uint64_t n = 0; n < 8; n++) {
            struct head_result r;
            scan(s, n, &r);
            int32_t id = -2, of_row = -2;
            const enum status st = sample_next(s, n, &r, NULL, &id, &rig_err);
            assert_ok(sample_next(s, n, &r, row, &of_row, &rig_err));
            if (st == ST_OK) {
                decided++;
                assert_int_equal(id, of_row);
            } else {
                asked++;
                assert_int_equal(st, ST_NOT_FOUND);
                assert_int_equal(id, -2);
            }
        }
        sampler_free(s);
    }
    assert_true(decided > 1500 && asked > 1500);
}

static void test_not_decided(void **state)
{
    (void)state;
    struct head_result r;
    int32_t id;
    const struct {
        uint32_t top_k;
        float top_p, min_p, typical_p;
        enum status want;
    } rows[] = {
        {64, 1, 0, 1, ST_OK},
        {65, 1, 0, 1, ST_NOT_FOUND},
        {0, 0.05f, 0, 1, ST_OK},
        {0, 0.999f, 0, 1, ST_NOT_FOUND},
        {0, 1, 0.9f, 1, ST_OK},
        {0, 1, 0.00001f, 1, ST_NOT_FOUND},
        {0, 1, 0, 0.5f, ST_NOT_FOUND},
        {64, 1, 0, 0.5f, ST_OK},
        {65, 0.05f, 0, 1, ST_NOT_FOUND},
        {65, 1, 0.9f, 1, ST_OK},
    };
    random_row(33, 1);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct sample_params p = off();
        p.top_k = rows[i].top_k;
        p.top_p = rows[i].top_p;
        p.min_p = rows[i].min_p;
        p.typical_p = rows[i].typical_p;
        struct sampler *s = new_sampler(&p);
        scan(s, 0, &r);
        if (sample_next(s, 0, &r, NULL, &id, &rig_err) != rows[i].want) {
            fail_msg("row %zu", i);
        }
        sampler_free(s);
    }
}

/* -------------------------------------------------- seed and number alone */

static void test_depends_on_seed_and_number_alone(void **state)
{
    (void)state;
    random_row(34, 2);
    struct rng rng = {35};
    uint32_t differ = 0;
    for (uint32_t kind = 0; kind < 2; kind++) {
        struct sample_params p = off();
        p.top_k = kind ? 50 : 0;
        int32_t want[200];
        struct sampler *a = new_sampler(&p), *b = new_sampler(&p);
        p.seed++;
        struct sampler *c = new_sampler(&p);
        struct head_result r;
        for (uint32_t n = 0; n < 200; n++) {
            scan(a, n, &r);
            want[n] = next(a, n, &r);
            sampler_accept(a, want[n]);
        }
        for (uint32_t i = 0; i < 400; i++) { /* any order, again and again */
            const uint32_t n = (uint32_t)rng_below(&rng, 200);
            scan(b, n, &r);
            assert_int_equal(next(b, n, &r), want[n]);
            scan(c, n, &r);
            differ += next(c, n, &r) != want[n];
        }
        sampler_free(a);
        sampler_free(b);
        sampler_free(c);
    }
    assert_true(differ > 400);
}

static void test_greedy(void **state)
{
    (void)state;
    random_row(36, 2);
    row[17] = row[300] = 50;
    struct sample_params p = off();
    p.temperature = 0;
    struct sampler *s = new_sampler(&p);
    struct head_result r;
    scan(s, 0, &r);
    for (uint64_t n = 0; n < 10; n++) assert_int_equal(next(s, n, &r), 17);
    sampler_free(s);
}

static void test_bans(void **state)
{
    (void)state;
    static struct head_adjust bias[VOCAB];
    random_row(37, 2);
    for (uint32_t i = 0; i < VOCAB; i++) {
        bias[i] = (struct head_adjust){(int32_t)i, -INFINITY};
    }
    for (uint32_t kind = 0; kind < 5; kind++) {
        struct sample_params p = off();
        p.bias = bias;
        p.n_bias = VOCAB;
        p.temperature = kind == 0 ? 0 : 1;
        p.top_k = kind == 2 ? 40 : 0;
        p.top_p = kind == 3 ? 0.9f : 1;
        p.typical_p = kind == 4 ? 0.9f : 1;
        struct sampler *s = new_sampler(&p);
        struct head_result r;
        int32_t id = -2;
        scan(s, 0, &r);
        assert_fails(sample_next(s, 0, &r, NULL, &id, &rig_err), ST_INVALID,
                     "banned");
        assert_fails(sample_next(s, 0, &r, row, &id, &rig_err), ST_INVALID,
                     "banned");
        assert_int_equal(id, -2);
        sampler_free(s);
        /* all but the last three */
        p.n_bias = VOCAB - 3;
        s = new_sampler(&p);
        for (uint64_t n = 0; n < 300; n++) {
            scan(s, n, &r);
            assert_true(next(s, n, &r) >= VOCAB - 3);
        }
        sampler_free(s);
    }
}

/* ------------------------------------------------------------ the rest */

static void test_recent_tokens(void **state)
{
    (void)state;
    struct sample_params p = off();
    p.repeat = 1.1f;
    p.repeat_last_n = 5;
    struct sampler *s = new_sampler(&p);
    assert_int_equal(sampler_head(s, 0).n_recent, 0);
    static const int32_t ids[] = {9, 1, 2, 1, 3, 2, 1}; /* the last 5 count */
    for (size_t i = 0; i < COUNT_OF(ids); i++) sampler_accept(s, ids[i]);
    const struct head_params h = sampler_head(s, 0);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < h.n_recent; i++) {
        const uint32_t want[] = {0, 2, 2, 1};
        assert_true(h.recent[i].id >= 1 && h.recent[i].id <= 3);
        assert_int_equal(h.recent[i].count, want[h.recent[i].id]);
        seen |= 1u << h.recent[i].id;
    }
    assert_int_equal(seen, 14);
    assert_int_equal(h.n_recent, 3);
    sampler_free(s);
    p.repeat_last_n = 0;
    s = new_sampler(&p);
    sampler_accept(s, 1);
    assert_int_equal(sampler_head(s, 0).n_recent, 0);
    sampler_free(s);
}

static void test_ranges(void **state)
{
    (void)state;
    static const struct head_adjust nan_bias = {3, NAN}, inf = {3, INFINITY};
    struct sample_params p[12];
    const char *word[12];
    for (int i = 0; i < 12; i++) p[i] = off();
    word[0] = "temperature", p[0].temperature = -1;
    word[1] = "temperature", p[1].temperature = NAN;
    word[2] = "0.001", p[2].temperature = 1e-5f;
    word[3] = "top-p", p[3].top_p = 1.5f;
    word[4] = "min-p", p[4].min_p = -0.1f;
    word[5] = "typical", p[5].typical_p = NAN;
    word[6] = "repeat", p[6].repeat = 0;
    word[7] = "frequency", p[7].frequency = INFINITY;
    word[8] = "look back", p[8].repeat_last_n = SAMPLE_LAST_MAX + 1;
    word[9] = "entries", p[9].n_bias = HEAD_ADJUST_MAX - SAMPLE_LAST_MAX + 1;
    word[10] = "token 3", p[10].bias = &nan_bias, p[10].n_bias = 1;
    word[11] = "token 3", p[11].bias = &inf, p[11].n_bias = 1;
    struct sampler *s = NULL;
    for (int i = 0; i < 12; i++) {
        assert_fails(sampler_create(&s, &p[i], VOCAB, &rig_err), ST_USAGE,
                     word[i]);
    }
    assert_null(s);
    const struct sample_params d = sample_defaults();
    assert_ok(sample_check(&d, &rig_err));
    const size_t before = mem_in_use();
    for (long n = 0;; n++) {
        mem_fail_after(n);
        const enum status st = sampler_create(&s, &d, VOCAB, &rig_err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_fails(st, ST_NO_MEMORY, "sampler");
        assert_int_equal(mem_in_use(), before);
    }
    sampler_free(s);
    sampler_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_candidates_decide_as_the_row),
        cmocka_unit_test(test_not_decided),
        cmocka_unit_test(test_depends_on_seed_and_number_alone),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_bans),
        cmocka_unit_test(test_recent_tokens),
        cmocka_unit_test(test_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

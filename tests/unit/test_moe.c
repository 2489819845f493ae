/* test_moe.c - the choice of experts against a sort, their weights against
 * docs/NUMERICS.md 9. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model.h"
#include "engine/moe.h"
#include "engine/numerics.h"
#include "tests/lib/engine_rig.h"

static const float *sort_by;

/* Best first: greater logit, then lower index; NaN last. */
static int best_first(const void *a, const void *b)
{
    const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    const bool i_nan = isnan(sort_by[i]), j_nan = isnan(sort_by[j]);
    if (i_nan != j_nan) return i_nan ? 1 : -1;
    if (!i_nan && sort_by[i] != sort_by[j]) {
        return sort_by[i] > sort_by[j] ? -1 : 1;
    }
    return i < j ? -1 : 1;
}

static int ascending(const void *a, const void *b)
{
    const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    return i < j ? -1 : i > j;
}

static void check(const float *logits, uint32_t n, uint32_t used,
                  bool normalised)
{
    uint32_t order[MODEL_EXPERTS_MAX], ids[MODEL_EXPERTS_MAX];
    float weights[MODEL_EXPERTS_MAX], z[MODEL_EXPERTS_MAX];
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    sort_by = logits;
    qsort(order, n, sizeof *order, best_first);
    const float max = logits[order[0]];
    qsort(order, used, sizeof *order, ascending);
    moe_select(logits, n, used, normalised, ids, weights);
    assert_memory_equal(ids, order, used * sizeof *ids);

    float sum = 0; /* ascending, over the chosen or over all */
    double exact = 0;
    for (uint32_t i = 0; i < (normalised ? used : n); i++) {
        const uint32_t e = normalised ? order[i] : i;
        sum += nm_exp(logits[e] - max);
        exact += exp((double)logits[e] - (double)max);
    }
    for (uint32_t i = 0; i < used; i++) {
        z[i] = nm_exp(logits[order[i]] - max) / sum;
        if (isnan(z[i])) {
            assert_true(isnan(weights[i]));
            continue;
        }
        assert_memory_equal(&weights[i], &z[i], sizeof z[i]);
        /* two ulp of exp twice, n roundings of the sum, the difference's
         * rounding */
        const double want = exp((double)logits[order[i]] - (double)max) / exact;
        assert_true(fabs((double)weights[i] - want) <=
                    (2 * 0x1p-22 + (n + 20) * 0x1p-24) * want + 1e-37);
    }
}

static void test_against_a_sort(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 2, 3, 8, 16, 60, 64, 65, 128, 256};
    struct rng rng = {11};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        const uint32_t n = sizes[i];
        for (uint32_t round = 0; round < 300; round++) {
            float logits[MODEL_EXPERTS_MAX];
            for (uint32_t e = 0; e < n; e++) {
                logits[e] = 3 * rig_normal(&rng);
                /* a third of the rounds has many ties */
                if (round % 3 == 0) logits[e] = floorf(logits[e]);
            }
            const uint32_t used = 1 + (uint32_t)rng_below(&rng, n);
            check(logits, n, used, round % 2);
            check(logits, n, n, round % 2);
        }
    }
}

static void test_all_equal(void **state)
{
    (void)state;
    float logits[8] = {0};
    uint32_t ids[8];
    float weights[8];
    moe_select(logits, 8, 2, true, ids, weights);
    assert_true(ids[0] == 0 && ids[1] == 1);
    assert_true(weights[0] == 0.5f && weights[1] == 0.5f);
    moe_select(logits, 8, 2, false, ids, weights);
    assert_true(weights[0] == 0.125f && weights[1] == 0.125f);
    logits[0] = -0.0f; /* equals +0 */
    moe_select(logits, 8, 1, true, ids, weights);
    assert_true(ids[0] == 0 && weights[0] == 1.0f);
}

/* Whatever the logits, ids are distinct experts in order: hostile weights
 * must not lead outside of arrays. */
static void test_not_finite(void **state)
{
    (void)state;
    struct rng rng = {12};
    static const float odd[] = {NAN, INFINITY, -INFINITY, -NAN, 3e38f, -3e38f};
    for (uint32_t round = 0; round < 2000; round++) {
        const uint32_t n = 1 + (uint32_t)rng_below(&rng, 16);
        const uint32_t used = 1 + (uint32_t)rng_below(&rng, n);
        float logits[16], weights[16];
        uint32_t ids[16], order[16];
        for (uint32_t e = 0; e < n; e++) {
            logits[e] = rng_below(&rng, 2) ? odd[rng_below(&rng, COUNT_OF(odd))]
                                           : rig_normal(&rng);
            order[e] = e;
        }
        moe_select(logits, n, used, round % 2, ids, weights);
        sort_by = logits;
        qsort(order, n, sizeof *order, best_first);
        qsort(order, used, sizeof *order, ascending);
        assert_memory_equal(ids, order, used * sizeof *ids);
    }
    /* one NaN among enough others is not chosen, and shows only where all
     * experts count */
    const float one[4] = {1, NAN, 1, 0};
    uint32_t ids[2];
    float weights[2];
    moe_select(one, 4, 2, true, ids, weights);
    assert_true(ids[0] == 0 && ids[1] == 2 && weights[0] == 0.5f);
    moe_select(one, 4, 2, false, ids, weights);
    assert_true(isnan(weights[0]) && isnan(weights[1]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_sort),
        cmocka_unit_test(test_all_equal),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

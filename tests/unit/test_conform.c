/* test_conform.c - the KL divergence from a record's row. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>

#include "tests/lib/conform.h"

/* p = 1/2, 1/4 and 1/4 for the rest. */
static struct oracle_row row_of(struct oracle_entry top[2])
{
    top[0] = (struct oracle_entry){2, log(0.5)};
    top[1] = (struct oracle_entry){0, log(0.25)};
    return (struct oracle_row){.n = 2, .top = top, .rest = log(0.25)};
}

static void test_equal_is_zero(void **state)
{
    (void)state;
    struct oracle_entry top[2];
    const struct oracle_row row = row_of(top);
    /* logits have no absolute height */
    const float logits[] = {7 + (float)log(0.25), 7 + (float)log(0.125),
                            7 + (float)log(0.5), 7 + (float)log(0.125)};
    assert_true(fabs(conform_kl(&row, logits, 4)) < 1e-12);
}

static void test_known_divergence(void **state)
{
    (void)state;
    struct oracle_entry top[2];
    const struct oracle_row row = row_of(top);
    /* q = 1/4, 1/4 and 1/2 for the rest: 0.5 ln 2 - 0.25 ln 2 */
    const float logits[] = {0, 0, 0, 0};
    assert_true(fabs(conform_kl(&row, logits, 4) - 0.25 * log(2)) < 1e-9);
}

static void test_no_number(void **state)
{
    (void)state;
    struct oracle_entry top[2];
    const struct oracle_row row = row_of(top);
    const float nan_logits[] = {0, NAN, 0, 0}, two[] = {0, 0};
    assert_true(isinf(conform_kl(&row, nan_logits, 4)));
    assert_true(isinf(conform_kl(&row, two, 2))); /* id 2 is not ours */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_is_zero),
        cmocka_unit_test(test_known_divergence),
        cmocka_unit_test(test_no_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

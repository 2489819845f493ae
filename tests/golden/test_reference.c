/* test_reference.c - our answers against llama.cpp's on trained models.
 *
 * The models and the recorded greedy runs are outside test data (ref/ and
 * models/ of POTLUCK_TESTDATA); each run is followed token by token with an
 * f32 KV cache. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>

#include "tests/lib/oracle_run.h"
#include "tests/lib/testdata.h"

/* Bounds on |difference of log-probability|.  F32 differs by rounding, and
 * the records by their five decimals; llama.cpp rounds activations to f16
 * beside F16 weights, and to 8 bits beside quantized ones, with f16 scales
 * where ours are f32.  gap: where the record's first token leads the second
 * by more, ours must be the same. */
struct reference_case {
    const char *name; /* ref/NAME.json */
    double max, mean, gap;
};
static const struct reference_case cases[] = {
    {"stories260K.greedy", 2e-4, 2e-4, 0},
    {"stories260K.greedy300", 2e-4, 2e-4, 0},
    {"stories260K-moe.greedy", 2e-4, 2e-4, 0},
    {"tinystories-656k-f32.greedy", 2e-4, 2e-4, 0},
    {"stories260K-tied-f16.greedy", 0.02, 0.02, 0.02},
    {"tinystories-656k-Q8_0.greedy", 0.5, 0.05, 0.25},
    {"tinystories-656k-Q4_0.greedy", 0.5, 0.05, 0.25},
    {"tinystories-656k-Q4_1.greedy", 0.5, 0.05, 0.25},
};

static void test_follows(void **state)
{
    const struct reference_case *c = *state;
    struct error err;
    struct oracle_file f;
    char path[TESTDATA_PATH_MAX], text[400];
    testdata_path(path, "ref", c->name, ".json");
    if (oracle_load(&f, path, &err) != ST_OK) fail_msg("%s", err.text);
    testdata_path(path, "models", f.model, "");
    struct oracle_diff d = {.gap = c->gap};
    for (uint32_t i = 0; i < f.n_runs; i++) {
        if (oracle_run(path, &f.runs[i], &d, &err) != ST_OK) {
            fail_msg("%s", err.text);
        }
    }
    oracle_fini(&f);
    oracle_diff_print(&d, text, sizeof text);
    print_message("%s: %s\n", c->name, text);
    assert_true(d.n_rows >= 64);
    if (!(d.max <= c->max) || !(oracle_diff_mean(&d) <= c->mean) ||
        d.n_wrong_clear != 0) {
        fail_msg("%s: over max %g, mean %g or gap %g: %s", c->name, c->max,
                 c->mean, c->gap, text);
    }
}

int main(void)
{
    struct CMUnitTest tests[COUNT_OF(cases)];
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        tests[i] = (struct CMUnitTest){.name = cases[i].name,
                                       .test_func = test_follows,
                                       .initial_state = (void *)&cases[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_oracle_file.c - records of answers: reading them, and comparing. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "tests/lib/oracle.h"
#include "tests/lib/temp.h"

static char dir[TEMP_PATH_BYTES];
static char path[TEMP_PATH_BYTES + 16];
static struct error err;

static int make_dir(void **state)
{
    (void)state;
    if (!temp_dir_create(dir, "test_oracle_file")) return -1;
    snprintf(path, sizeof path, "%s/o.json", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return temp_dir_remove(dir) ? 0 : -1;
}

static enum status load(struct oracle_file *f, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return oracle_load(f, path, &err);
}

#define MODEL                                                                  \
    "\"model\":{\"preset\":\"tiny-moe\",\"set\":[\"type=Q4_K\"],"              \
    "\"fnv1a\":\"00ff\"}"
#define GREEDY                                                                 \
    "{\"model\":\"m.gguf\",\"runs\":[{\"prompt_tokens\":[1,5],\"tokens\":[7,"  \
    "8],\"logprobs\":[{\"id\":7,\"top\":[[7,-0.5],[3,-1]]},{\"id\":8,"         \
    "\"top\":[[8,-0.25]]}]}]}"

static void test_recorded(void **state)
{
    (void)state;
    struct oracle_file f;
    assert_int_equal(load(&f, "{" MODEL ",\"tokens\":[1,2],\"top\":[[3,-0.5,4,"
                              "-1],[5,-2]]}"),
                     ST_OK);
    assert_int_equal(f.n_runs, 1);
    assert_int_equal(f.hash, 0xff);
    assert_int_equal(f.recipe.type[GEN_FFN], QUANT_Q4_K);
    assert_int_equal(f.recipe.n_expert, 8);
    const struct oracle *o = &f.runs[0];
    assert_int_equal(o->n_tokens, 2);
    assert_int_equal(o->tokens[1], 2);
    assert_int_equal(o->rows[0].n, 2);
    assert_int_equal(o->rows[0].top[1].id, 4);
    assert_true(o->rows[0].top[1].logprob == -1);
    oracle_fini(&f);
}

static void test_greedy(void **state)
{
    (void)state;
    const size_t before = mem_in_use();
    struct oracle_file f;
    assert_int_equal(load(&f, GREEDY), ST_OK);
    const struct oracle *o = &f.runs[0];
    assert_string_equal(f.model, "m.gguf");
    assert_int_equal(o->n_tokens, 3); /* the last answer is not fed */
    assert_int_equal(o->rows[0].n, 0);
    assert_int_equal(o->rows[1].top[0].id, 7);
    assert_int_equal(o->rows[2].top[0].id, 8);
    oracle_fini(&f);
    assert_int_equal(mem_in_use(), before);
}

static void test_malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{\"runs\":[]}",
        "{\"model\":\"m\",\"runs\":[{}]}",
        "{" MODEL "}",
        "{" MODEL ",\"tokens\":[],\"top\":[]}",
        "{" MODEL ",\"tokens\":[1],\"top\":[]}",
        "{" MODEL ",\"tokens\":[-1],\"top\":[[3,-0.5]]}",
        "{" MODEL ",\"tokens\":[\"1\"],\"top\":[[3,-0.5]]}",
        "{" MODEL ",\"tokens\":[1],\"top\":[[]]}",
        "{" MODEL ",\"tokens\":[1],\"top\":[[3]]}",
        "{" MODEL ",\"tokens\":[1],\"top\":[[3,\"x\"]]}",
        "{" MODEL ",\"tokens\":[1],\"top\":[[99999999999,-1]]}",
        "{\"model\":{\"preset\":\"tiny-moe\"},\"tokens\":[1],\"top\":[[3,-1]]}",
        "{\"model\":{\"preset\":\"tiny-moe\",\"set\":[1],\"fnv1a\":\"0\"},"
        "\"tokens\":[1],\"top\":[[3,-1]]}",
        "{\"model\":{\"preset\":\"tiny-moe\",\"fnv1a\":\"0x\"},\"tokens\":[1],"
        "\"top\":[[3,-1]]}",
    };
    const size_t before = mem_in_use();
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct oracle_file f = {.n_runs = 77};
        const enum status st = load(&f, bad[i]);
        if (st != ST_INVALID) fail_msg("%s: %s", bad[i], status_name(st));
        assert_int_equal(f.n_runs, 77);
        assert_int_equal(mem_in_use(), before);
    }
    struct oracle_file f;
    assert_int_equal(oracle_load(&f, "/nonexistent/x.json", &err), ST_IO);
}

static void test_survives_every_failed_allocation(void **state)
{
    (void)state;
    const size_t before = mem_in_use();
    for (long n = 0;; n++) {
        struct oracle_file f;
        mem_fail_after(n);
        const enum status st = load(&f, GREEDY);
        mem_fail_after(-1);
        if (st == ST_OK) {
            oracle_fini(&f);
            break;
        }
        assert_int_equal(st, ST_NO_MEMORY);
        assert_int_equal(mem_in_use(), before);
    }
}

/* Probabilities 1/2, 1/4, 1/4 of three tokens. */
static struct oracle_diff compare(float a, float b, float c, double gap)
{
    struct oracle_entry top[] = {{0, log(0.5)}, {2, log(0.25)}, {1, log(0.25)}};
    struct oracle_row row = {.n = 3, .top = top};
    uint32_t token = 1;
    const struct oracle o = {1, &token, &row};
    struct oracle_diff d = {.gap = gap};
    const float logits[] = {a, b, c};
    oracle_compare(&o, 0, logits, 3, &d);
    return d;
}

static void test_compare(void **state)
{
    (void)state;
    const float ln2 = 0.693147181f;
    struct oracle_diff d = compare(ln2 + 7, 7, 7, 0);
    assert_int_equal(d.n_rows, 1);
    assert_int_equal(d.n_entries, 3);
    assert_int_equal(d.n_wrong, 0);
    assert_true(d.max < 1e-6); /* f32 of ln 2 + 7 */
    /* All equal: off by ln 3/2 and ln 4/3; the tie goes to the lower id. */
    d = compare(0, 0, 0, 0);
    assert_true(fabs(d.max - log(1.5)) < 1e-12);
    assert_int_equal(d.worst_id, 0);
    assert_true(fabs(oracle_diff_mean(&d) - log(8.0 / 3) / 3) < 1e-12);
    assert_int_equal(d.n_wrong, 0);
    /* Another first token: clear unless the gap forgives it. */
    d = compare(0, 1, 0, 0.5);
    assert_int_equal(d.n_wrong, 1);
    assert_int_equal(d.n_wrong_clear, 1);
    d = compare(0, 1, 0, 0.7);
    assert_int_equal(d.n_wrong_clear, 0);
}

static void test_compare_refuses_what_is_not_finite(void **state)
{
    (void)state;
    struct oracle_diff d = compare(NAN, 0, 0, 0);
    assert_true(isinf(d.max));
    d = compare(INFINITY, 0, 0, 0);
    assert_true(isinf(d.max));
    d = compare(0, 0, -INFINITY, 0);
    assert_true(isinf(d.max));
    assert_true(isinf(oracle_diff_mean(&d)));
    const struct oracle_diff none = {0};
    assert_true(isinf(oracle_diff_mean(&none))); /* nothing compared: no pass */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_survives_every_failed_allocation),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_compare_refuses_what_is_not_finite),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

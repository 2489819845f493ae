/* The template interpreter against what jinja2 with Hugging Face's settings
 * printed (record_jinja.py), and with every allocation failing. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "engine/jinja.h"

struct jinja_case {
    const char *source;
    size_t n_source;
    const char *text; /* NULL: an error */
    size_t n_text;
    const char *words; /* of raise_exception */
};

#include "tests/golden/jinja_cases.h"

#define NOW      1721952000 /* 26 July 2024 */
#define VARS_MAX 16

static json_t *root;

static int setup(void **state)
{
    (void)state;
    root = json_loads(variables, 0, NULL);
    assert_non_null(root);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(root);
    return 0;
}

static size_t all_vars(struct jinja_var var[VARS_MAX])
{
    size_t n = 0;
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value)
    {
        assert_true(n < VARS_MAX);
        var[n++] =
            (struct jinja_var){.name = name, .json = value, .input = true};
    }
    return n;
}

static enum status run(const struct jinja_case *k, struct jinja_output *out,
                       struct error *err)
{
    struct jinja_var var[VARS_MAX];
    struct jinja *t = NULL;
    const size_t n = all_vars(var);
    enum status st = jinja_parse(&t, k->source, k->n_source, err);
    if (st == ST_OK) st = jinja_render(t, var, n, NOW, out, err);
    jinja_free(t);
    return st;
}

static void check(const struct jinja_case *k)
{
    struct jinja_output out = {0};
    struct error err = {0};
    const enum status st = run(k, &out, &err);
    if ((st == ST_OK) != (k->text != NULL)) {
        fail_msg("%s: %s", k->source, st == ST_OK ? "no error" : err.text);
    }
    if (k->text && (out.text.len != k->n_text ||
                    memcmp(out.text.data, k->text, k->n_text) != 0)) {
        fail_msg("%s\nwant %s\ngot  %s", k->source, k->text, out.text.data);
    }
    if (k->words) {
        assert_string_equal(err.text, k->words);
    } else if (!k->text) {
        assert_non_null(strstr(err.text, "chat template, line "));
    }
    /* spans are ascending, disjoint, inside and not empty */
    size_t last = 0;
    for (size_t i = 0; i < out.n_spans; i++) {
        assert_true(i == 0 || out.span[i].begin > last);
        assert_true(out.span[i].end > out.span[i].begin);
        last = out.span[i].end;
    }
    assert_true(last <= out.text.len);
    jinja_output_fini(&out);
}

static void test_as_recorded(void **state)
{
    (void)state;
    const size_t before = mem_in_use();
    for (size_t i = 0; i < COUNT_OF(cases); i++) check(&cases[i]);
    assert_int_equal(mem_in_use(), before);
}

static void test_every_allocation_fails(void **state)
{
    (void)state;
    const size_t before = mem_in_use();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        if (!cases[i].text) continue;
        for (long n = 0;; n++) {
            struct jinja_output out = {0};
            struct error err = {0};
            mem_fail_after(n);
            const enum status st = run(&cases[i], &out, &err);
            mem_fail_after(-1);
            jinja_output_fini(&out);
            assert_int_equal(mem_in_use(), before);
            if (st == ST_OK) break;
            assert_int_equal(st, ST_NO_MEMORY);
            assert_true(err.text[0] != '\0');
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_recorded),
        cmocka_unit_test(test_every_allocation_fails),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

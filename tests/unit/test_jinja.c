/* The template interpreter: which bytes came from input, limits, errors. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "engine/jinja.h"

#define NOW 1721952000 /* 26 July 2024 */

static enum status render(const char *source, size_t n, const json_t *in,
                          struct jinja_output *out, struct error *err)
{
    const struct jinja_var var[] = {
        {.name = "in", .json = in, .input = true},
        {.name = "own", .text = "OWN", .len = 3},
    };
    struct jinja *t = NULL;
    enum status st = jinja_parse(&t, source, n, err);
    if (st == ST_OK) st = jinja_render(t, var, COUNT_OF(var), NOW, out, err);
    jinja_free(t);
    return st;
}

/* The output with each span in «». */
static void show(const struct jinja_output *o, struct buf *b)
{
    size_t span = 0;
    buf_init(b, 1 << 20);
    for (size_t i = 0; i <= o->text.len; i++) {
        if (span < o->n_spans && o->span[span].end == i) {
            assert_int_equal(buf_append(b, "\xc2\xbb", 2), ST_OK);
            span++;
        }
        if (span < o->n_spans && o->span[span].begin == i) {
            assert_int_equal(buf_append(b, "\xc2\xab", 2), ST_OK);
        }
        if (i < o->text.len) {
            assert_int_equal(buf_append(b, o->text.data + i, 1), ST_OK);
        }
    }
}

static const struct {
    const char *source, *shown;
} marks[] = {
    {"<{{ in.s }}>", "<«a<x>b»>"},
    {"{{ own ~ in.s ~ own }}", "OWN«a<x>b»OWN"},
    {"{{ in.s + own }}{{ in.s }}", "«a<x>b»OWN«a<x>b»"},
    {"{{ (own + in.s + own)[2:5] }}", "N«a<»"},
    {"{{ (own + in.s)[::-1] }}", "«b>x<a»NWO"},
    {"{{ (own + in.s)|upper|lower|title }}", "Own«a<X>b»"},
    {"{{ in.s|replace('<', '[') }}", "«a»[«x>b»"},
    {"{{ own|replace('W', in.s) }}", "O«a<x>b»N"},
    {"{{ in.s.split('x')|join('-') }}", "«a<»-«>b»"},
    {"{{ ['-', in.s]|join(in.t) }}", "-« t a<x>b»"},
    {"{{ (' ' + in.t + ' ')|trim }}", "«t»"},
    {"{{ in.t.strip() }}|{{ in.t.lstrip() }}", "«t»|«t »"},
    {"{% set x %}[{{ in.s }}]{% endset %}{{ x }}", "[«a<x>b»]"},
    {"{% macro m(a) %}({{ a }}){% endmacro %}{{ m(in.s)|upper }}", "(«A<X>B»)"},
    {"{% filter upper %}a{{ in.s }}{% endfilter %}", "A«A<X>B»"},
    {"{{ in.s|e }}", "«a&lt;x&gt;b»"},
    {"{{ in|tojson }}",
     "«{\"s\": \"a<x>b\", \"t\": \" t \", \"n\": 5, \"l\": [1, null]}»"},
    {"{{ {'k': in.s, 'l': 1}|tojson }}", "{\"k\": \"«a<x>b»\", \"l\": 1}"},
    {"{{ {'k': in.l}|tojson }}", "{\"k\": «[1, null]»}"},
    {"{{ {'k': in.s} }}", "{'k': '«a<x>b»'}"},
    {"{{ in.n }}{{ in.n + 1 }}{{ in.n|string }}{{ in.s|length }}", "«565»5"},
    {"{{ in.l }}{{ in.l[0] }}", "«[1, None]1»"},
    {"{% for k, v in in.items() %}{{ k }}={{ v }};{% endfor %}",
     "«s»=«a<x>b»;«t»=« t »;«n»=«5»;«l»=«[1, None]»;"},
    {"{% for c in in.s %}{{ c }}.{% endfor %}", "«a».«<».«x».«>».«b»."},
    {"{{ in.s|indent(2, true) }}{{ '%s|' % in.s }}{{ '{}'.format(in.s) }}",
     "  «a<x>ba<x>b»|«a<x>b»"},
    {"{{ in.s|first }}{{ in.s|list|last }}{{ in.s|reverse }}", "«abb>x<a»"},
    {"{{ '12'|int }}{{ in.t|default('x') }}{{ in.q|default('x') }}",
     "12« t »x"},
    {"{{ 'a' if in.s == 'a<x>b' else in.s }}", "a"},
    {"{{ in.s * 2 }}{{ in.nothing }}{{ '' ~ in.t[:0] }}", "«a<x>ba<x>b»"},
    {"{{ ('x' ~ in.s) * 3 }}", "x«a<x>b»x«a<x>b»x«a<x>b»"},
    {"{{ ['b', in.s]|sort|join }}{{ [in.s]|map('upper')|join }}",
     "«a<x>b»b«A<X>B»"},
};

static json_t *input(void)
{
    json_t *in = json_loads("{\"s\": \"a<x>b\", \"t\": \" t \", \"n\": 5, "
                            "\"l\": [1, null]}",
                            0, NULL);
    assert_non_null(in);
    return in;
}

static void test_input_stays_marked(void **state)
{
    (void)state;
    json_t *in = input();
    for (size_t i = 0; i < COUNT_OF(marks); i++) {
        struct jinja_output out = {0};
        struct error err = {0};
        struct buf shown;
        const char *s = marks[i].source;
        if (render(s, strlen(s), in, &out, &err) != ST_OK) {
            fail_msg("%s: %s", s, err.text);
        }
        show(&out, &shown);
        if (strcmp(shown.data ? shown.data : "", marks[i].shown) != 0) {
            fail_msg("%s\nwant %s\ngot  %s", s, marks[i].shown, shown.data);
        }
        buf_fini(&shown);
        jinja_output_fini(&out);
    }
    json_decref(in);
}

/* -------------------------------------------------------------- limits */

static const struct {
    const char *source;
    enum status want;
    const char *says;
} refused[] = {
    {"\n\n{% nosuch %}", ST_UNSUPPORTED, "line 3: the statement"},
    {"a\n{{ 1 | nosuch }}", ST_UNSUPPORTED, "line 2: the filter \"nosuch\""},
    {"{{ 1 is nosuch }}", ST_UNSUPPORTED, "the test \"nosuch\""},
    {"{% for i in x recursive %}{% endfor %}", ST_UNSUPPORTED, "recursive"},
    {"{{ f(*x) }}", ST_UNSUPPORTED, "*arguments"},
    {"{{ 'a' \n ~ }}", ST_INVALID, "line 2: expected an expression"},
    {"\n{% if true %}", ST_INVALID, "line 2: this block has no {% endif %}"},
    {"{% endfor %}", ST_INVALID, "expected nothing more"},
    {"{{ 'abc", ST_INVALID, "no closing '"},
    {"{# abc", ST_INVALID, "a comment"},
    {"{% raw %}abc", ST_INVALID, "{% endraw %}"},
    {"a\n{{ \xff }}", ST_INVALID, "line 2: byte 0xff"},
    {"{{ 9223372036854775808 }}", ST_INVALID, "no number that fits"},
    {"{{ 9223372036854775807 + 1 }}", ST_TOO_LARGE, "64 bits"},
    {"{{ (-9223372036854775807 - 1) // -1 }}", ST_TOO_LARGE, "64 bits"},
    {"{{ 10 ** 100 }}", ST_TOO_LARGE, "64 bits"},
    {"{{ 1 % 0 }}", ST_INVALID, "division by zero"},
    {"{{ nothing.at.all }}", ST_INVALID, "\"nothing\" is undefined"},
    {"{{ raise_exception('a\nb') }}", ST_INVALID, "a b"},
    {"{{ raise_exception('') }}", ST_INVALID, "refuses the messages"},
    {"{{ raise_exception('\\0a') }}", ST_INVALID, "refuses the messages"},
    {"{{ strftime_now('%Q') }}", ST_UNSUPPORTED, "%Q"},
    /* time, memory, stack */
    {"{% for i in range(99999999999) %}{% endfor %}", ST_TOO_LARGE,
     "more than"},
    {"{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}"
     "{% endfor %}",
     ST_TOO_LARGE, "more than"},
    {"{% set s = 'a' * 100000 %}{% for i in range(99999) %}"
     "{% if 'b' in s %}{% endif %}{% endfor %}",
     ST_TOO_LARGE, "steps"},
    {"{{ 'a' * 9999999999 }}", ST_TOO_LARGE, "9999999999 times"},
    {"{{ ('a' * 1000000) * 1000000 }}", ST_TOO_LARGE, "1000000 times"},
    {"{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(99) %}"
     "{% set ns.s = ns.s + ns.s %}{% endfor %}",
     ST_TOO_LARGE, "MiB"},
    {"{% set ns = namespace(l=[1]) %}{% for i in range(99) %}"
     "{% set ns.l = ns.l + ns.l %}{% endfor %}",
     ST_TOO_LARGE, "more than"},
    {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ST_TOO_LARGE, "nested"},
    {"{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", ST_TOO_LARGE,
     "nested"},
    {"{% set l = [] %}{% set x = l.append(l) %}{{ l }}", ST_TOO_LARGE,
     "nested"},
    {"{% set l = [] %}{% set x = l.append(l) %}{{ l|tojson }}", ST_TOO_LARGE,
     "nested"},
    {"{% set l = [] %}{% set x = l.append(l) %}{% set k = [l] %}"
     "{% set x = k.append(k) %}{{ l == k }}",
     ST_OK, NULL},
    {"{% for x in range(1000000) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' }}"
     "{% endfor %}",
     ST_TOO_LARGE, "MiB"},
};

static void test_refusals_name_line_and_thing(void **state)
{
    (void)state;
    const size_t before = mem_in_use();
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct jinja_output out = {0};
        struct error err = {0};
        const char *s = refused[i].source;
        const enum status st = render(s, strlen(s), NULL, &out, &err);
        if (st != refused[i].want ||
            (st != ST_OK && !strstr(err.text, refused[i].says))) {
            fail_msg("%s: %s: %s", s, status_name(st), err.text);
        }
        if (st != ST_OK) assert_null(out.text.data);
        jinja_output_fini(&out);
        assert_int_equal(mem_in_use(), before);
    }
}

/* n times `open`, `middle`, n times `close`: an error or a text, no crash */
static const struct {
    const char *open, *middle, *close;
} nests[] = {
    {"{{ (", "1", ")"},
    {"(", "1", ")"},
    {"[", "1", "]"},
    {"{'a':", "1", "}"},
    {"-", "1", ""},
    {"not ", "1", ""},
    {"", "a", ".b"},
    {"", "'a'", "|upper"},
    {"", "'a'", "~'b'"},
    {"", "'a'", "[0]"},
    {"", "1", " if 1 else 2"},
    {"f(", "1", ")"},
    {"", "1", " is defined"},
};

static void test_deep_nesting_is_an_error(void **state)
{
    (void)state;
    static const size_t n = 20000;
    for (size_t i = 0; i < COUNT_OF(nests); i++) {
        struct buf b;
        struct jinja *t = NULL;
        struct error err = {0};
        buf_init(&b, 1 << 20);
        assert_int_equal(buf_printf(&b, "{{ "), ST_OK);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(buf_printf(&b, "%s", nests[i].open), ST_OK);
        }
        assert_int_equal(buf_printf(&b, "%s", nests[i].middle), ST_OK);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(buf_printf(&b, "%s", nests[i].close), ST_OK);
        }
        assert_int_equal(buf_printf(&b, " }}"), ST_OK);
        assert_int_not_equal(jinja_parse(&t, b.data, b.len, &err), ST_OK);
        assert_non_null(strstr(err.text, "line 1"));
        buf_fini(&b);
    }
    struct buf b;
    struct jinja_output out = {0};
    struct error err = {0};
    buf_init(&b, 1 << 20);
    for (size_t k = 0; k < n; k++) {
        assert_int_equal(buf_printf(&b, "{%% if 1 %%}"), ST_OK);
    }
    assert_int_equal(render(b.data, b.len, NULL, &out, &err), ST_TOO_LARGE);
    buf_fini(&b);
}

static void test_deep_json_is_an_error(void **state)
{
    (void)state;
    json_t *in = json_array();
    for (int i = 0; i < 1000; i++) {
        json_t *outer = json_array();
        json_array_append_new(outer, in);
        in = outer;
    }
    struct jinja_output out = {0};
    struct error err = {0};
    assert_int_equal(render("x", 1, in, &out, &err), ST_TOO_LARGE);
    assert_non_null(strstr(err.text, "nested"));
    json_decref(in);
}

/* 10,000 messages in the manner of Mistral's template: a list that grows by
 * one item each is not copied each time. */
static void test_long_conversations_fit(void **state)
{
    (void)state;
    static const char source[] =
        "{% set ns = namespace(l=[]) %}{% for m in in %}"
        "{% set ns.l = ns.l + [m] %}{% endfor %}"
        "{% for m in ns.l %}{{ m.content }}{% endfor %}";
    json_t *in = json_array();
    for (int i = 0; i < 10000; i++) {
        json_array_append_new(in, json_pack("{s:s}", "content", "0123456789"));
    }
    struct jinja_output out = {0};
    struct error err = {0};
    assert_int_equal(render(source, strlen(source), in, &out, &err), ST_OK);
    assert_int_equal(out.text.len, 100000);
    assert_int_equal(out.n_spans, 1);
    jinja_output_fini(&out);
    json_decref(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_input_stays_marked),
        cmocka_unit_test(test_refusals_name_line_and_thing),
        cmocka_unit_test(test_deep_nesting_is_an_error),
        cmocka_unit_test(test_deep_json_is_an_error),
        cmocka_unit_test(test_long_conversations_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

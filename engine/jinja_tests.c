/* jinja_tests.c - what may stand behind `is`. */
#include "engine/jinja_internal.h"

static bool is_whole(struct ji *c, const char *what, struct ji_value v,
                     int64_t by)
{
    const struct ji_value r = ji_math(c, OP_MOD, v, ji_int(by));
    if (c->st == ST_OK && !ji_is_number(r)) {
        ji_fail(c, ST_INVALID, "%s of %s", what, ji_kind_name(v));
    }
    return c->st == ST_OK && ji_equal(c, r, ji_int(0));
}

static bool has_case(const struct ji_str *s, char first, char last)
{
    bool some = false;
    for (size_t i = 0; i < s->len; i++) {
        const char d = s->data[i];
        if (d >= first && d <= last) some = true;
        if (((d >= 'a' && d <= 'z') || (d >= 'A' && d <= 'Z')) &&
            !(d >= first && d <= last)) {
            return false;
        }
    }
    return some;
}

/* Tests without an argument: 0, 1, or -1 if there is none of the name. */
static int kind_test(struct ji *c, const struct ji_str *name, struct ji_value v)
{
    const struct {
        const char *name;
        bool holds;
    } test[] = {
        {"defined", v.kind != JI_UNDEFINED},
        {"undefined", v.kind == JI_UNDEFINED},
        {"none", v.kind == JI_NONE},
        {"boolean", v.kind == JI_BOOL},
        {"true", v.kind == JI_BOOL && v.b},
        {"false", v.kind == JI_BOOL && !v.b},
        {"integer", v.kind == JI_INT},
        {"float", v.kind == JI_FLOAT},
        {"number", ji_is_number(v)},
        {"string", v.kind == JI_STRING},
        {"mapping", v.kind == JI_DICT},
        /* Jinja's undefined value has a length and items: none */
        {"sequence", v.kind == JI_STRING || v.kind == JI_LIST ||
                         v.kind == JI_DICT || v.kind == JI_UNDEFINED},
        {"iterable", v.kind == JI_STRING || v.kind == JI_LIST ||
                         v.kind == JI_DICT || v.kind == JI_UNDEFINED},
        {"callable", v.kind == JI_MACRO || v.kind == JI_GLOBAL ||
                         v.kind == JI_METHOD || v.kind == JI_UNDEFINED},
        {"escaped", false},
        {"lower", v.kind == JI_STRING && has_case(v.s, 'a', 'z')},
        {"upper", v.kind == JI_STRING && has_case(v.s, 'A', 'Z')},
    };
    for (size_t i = 0; i < COUNT_OF(test); i++) {
        if (ji_str_is(name, test[i].name)) return test[i].holds;
    }
    if (ji_str_is(name, "even")) return is_whole(c, "even", v, 2);
    if (ji_str_is(name, "odd")) {
        return !is_whole(c, "odd", v, 2) && c->st == ST_OK;
    }
    return -1;
}

static const struct {
    const char *name;
    enum ji_op op;
} comparisons[] = {
    {"eq", OP_EQ},          {"equalto", OP_EQ}, {"==", OP_EQ},
    {"ne", OP_NE},          {"!=", OP_NE},      {"lt", OP_LT},
    {"lessthan", OP_LT},    {"<", OP_LT},       {"le", OP_LE},
    {"<=", OP_LE},          {"gt", OP_GT},      {">", OP_GT},
    {"greaterthan", OP_GT}, {"ge", OP_GE},      {">=", OP_GE},
    {"in", OP_IN},
};

static bool compare_test(struct ji *c, enum ji_op op, struct ji_value v,
                         struct ji_value with)
{
    switch ((int)op) {
    case OP_EQ:
        return ji_equal(c, v, with);
    case OP_NE:
        return !ji_equal(c, v, with);
    case OP_IN:
        return ji_contains(c, with, v);
    case OP_LT:
        return ji_compare(c, v, with) < 0;
    case OP_LE:
        return ji_compare(c, v, with) <= 0;
    case OP_GT:
        return ji_compare(c, v, with) > 0;
    default:
        return ji_compare(c, v, with) >= 0;
    }
}

/* The same object, which for what has no identity means equal and alike. */
static bool same(struct ji *c, struct ji_value a, struct ji_value b)
{
    if (a.kind != b.kind) return false;
    if (a.kind == JI_LIST) return a.list == b.list;
    if (a.kind == JI_DICT) return a.dict == b.dict;
    return ji_equal(c, a, b);
}

bool ji_test(struct ji *c, const struct ji_str *name, struct ji_value v,
             const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_tick(c, 1)) return false;
    const int known = kind_test(c, name, v);
    if (known >= 0) return ji_bind(c, "this test", a, "", p) && known;
    for (size_t i = 0; i < COUNT_OF(comparisons); i++) {
        if (!ji_str_is(name, comparisons[i].name)) continue;
        return ji_bind(c, comparisons[i].name, a, "other", p) &&
               compare_test(c, comparisons[i].op, v, p[0]);
    }
    int64_t by;
    if (ji_str_is(name, "divisibleby")) {
        return ji_bind(c, "divisibleby", a, "num", p) &&
               ji_want_int(c, "divisibleby", p[0], &by) &&
               is_whole(c, "divisibleby", v, by);
    }
    if (ji_str_is(name, "sameas")) {
        return ji_bind(c, "sameas", a, "other", p) && same(c, v, p[0]);
    }
    ji_fail(c, ST_UNSUPPORTED, "the test \"%.*s\" is unknown", JI_SHOW(name));
    return false;
}

/* jinja_eval.c - expressions. */
#include <math.h>

#include "engine/jinja_internal.h"

/* --------------------------------------------------------- arithmetic */

static struct ji_value no_math(struct ji *c, struct ji_value a,
                               struct ji_value b)
{
    const struct ji_value u = a.kind == JI_UNDEFINED ? a : b;
    if (u.kind == JI_UNDEFINED && u.s) {
        return ji_fail(c, ST_INVALID, "\"%.*s\" is undefined", JI_SHOW(u.s));
    }
    return ji_fail(c, ST_INVALID, "no such operation on %s and %s",
                   ji_kind_name(a), ji_kind_name(b));
}

static struct ji_value concat(struct ji *c, const struct ji_str *a,
                              const struct ji_str *b)
{
    struct ji_out o = {0};
    if (!a || !b) return ji_undefined(NULL);
    /* nothing to join is common: {% set text = text + "" %} */
    if (a->len == 0) return ji_string(b);
    if (b->len == 0) return ji_string(a);
    o.cap = a->len + b->len;
    o.data = ji_alloc(c, o.cap);
    o.mark = ji_alloc(c, o.cap);
    if (!o.mark || !o.data) return ji_undefined(NULL);
    ji_put_str(c, &o, a);
    ji_put_str(c, &o, b);
    return ji_out_value(c, &o);
}

static struct ji_value add_lists(struct ji *c, struct ji_value a,
                                 struct ji_value b)
{
    if (a.list->tuple != b.list->tuple) return no_math(c, a, b);
    /* the slice of all: a itself must not grow */
    struct ji_value sum = ji_list_slice(c, a, 0, a.list->n);
    sum.input = a.input || b.input;
    const size_t n = b.list->n;
    for (size_t i = 0; i < n && c->st == ST_OK; i++) {
        ji_list_push(c, sum.list, ji_list_at(b.list, i));
    }
    return sum;
}

static struct ji_value repeat(struct ji *c, struct ji_value v, int64_t n)
{
    /* refused at once, not item by item */
    const size_t len = v.kind == JI_STRING ? v.s->len : v.list->n;
    if (len && n > (int64_t)(JINJA_OUTPUT_MAX / len)) {
        return ji_fail(c, ST_TOO_LARGE, "%zu of anything, %lld times", len,
                       (long long)n);
    }
    if (v.kind == JI_STRING) {
        struct ji_out o = {0};
        if (len > 0 && n > 0) ji_put_times(c, &o, v.s, (size_t)n);
        return ji_out_value(c, &o);
    }
    struct ji_value list = ji_list_new(c, 0);
    if (c->st != ST_OK) return list;
    list.input = v.input;
    list.list->tuple = v.list->tuple;
    for (int64_t i = 0; i < n && v.list->n && ji_tick(c, 1); i++) {
        for (size_t k = 0; k < v.list->n && c->st == ST_OK; k++) {
            ji_list_push(c, list.list, ji_list_at(v.list, k));
        }
    }
    return list;
}

static int64_t whole(struct ji_value v)
{
    return v.kind == JI_BOOL ? v.b : v.i;
}

static struct ji_value overflow(struct ji *c)
{
    return ji_fail(c, ST_TOO_LARGE, "an integer of more than 64 bits");
}

static struct ji_value int_divide(struct ji *c, enum ji_op op, int64_t x,
                                  int64_t y)
{
    if (y == 0) return ji_fail(c, ST_INVALID, "division by zero");
    if (op == OP_DIV) return ji_float((double)x / (double)y);
    if (y == -1) { /* INT64_MIN / -1 does not fit */
        if (op == OP_MOD) return ji_int(0);
        return x == INT64_MIN ? overflow(c) : ji_int(-x);
    }
    /* rounded down, as in Python */
    int64_t q = x / y, r = x % y;
    if (r != 0 && (r < 0) != (y < 0)) {
        q--;
        r += y;
    }
    return ji_int(op == OP_MOD ? r : q);
}

static struct ji_value int_power(struct ji *c, int64_t x, int64_t y)
{
    if (y < 0) {
        if (x == 0) return ji_fail(c, ST_INVALID, "division by zero");
        return ji_float(pow((double)x, (double)y));
    }
    int64_t p = 1;
    if (x == 0 || x == 1) return ji_int(y == 0 ? 1 : x);
    if (x == -1) return ji_int(y % 2 ? -1 : 1);
    while (y--) { /* ends by overflow after 63 rounds at most */
        if (__builtin_mul_overflow(p, x, &p)) return overflow(c);
    }
    return ji_int(p);
}

static struct ji_value int_math(struct ji *c, enum ji_op op, int64_t x,
                                int64_t y)
{
    int64_t r = 0;
    bool over = false;
    switch ((int)op) {
    case OP_ADD:
        over = __builtin_add_overflow(x, y, &r);
        break;
    case OP_SUB:
        over = __builtin_sub_overflow(x, y, &r);
        break;
    case OP_MUL:
        over = __builtin_mul_overflow(x, y, &r);
        break;
    case OP_POW:
        return int_power(c, x, y);
    default:
        return int_divide(c, op, x, y);
    }
    return over ? overflow(c) : ji_int(r);
}

static struct ji_value float_math(struct ji *c, enum ji_op op, double x,
                                  double y)
{
    const bool zero = !(y < 0 || y > 0 || y != y);
    if (zero && (op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD)) {
        return ji_fail(c, ST_INVALID, "division by zero");
    }
    switch ((int)op) {
    case OP_ADD:
        return ji_float(x + y);
    case OP_SUB:
        return ji_float(x - y);
    case OP_MUL:
        return ji_float(x * y);
    case OP_DIV:
        return ji_float(x / y);
    case OP_FLOORDIV:
        return ji_float(floor(x / y));
    case OP_MOD: {
        double r = fmod(x, y);
        if ((r < 0 || r > 0) && (r < 0) != (y < 0)) r += y;
        return ji_float(r);
    }
    default:
        return ji_float(pow(x, y));
    }
}

struct ji_value ji_math(struct ji *c, enum ji_op op, struct ji_value a,
                        struct ji_value b)
{
    struct ji_value v;
    if (!ji_tick(c, 1)) return ji_undefined(NULL);
    if (op == OP_CONCAT) return concat(c, ji_to_str(c, a), ji_to_str(c, b));
    if (ji_is_number(a) && ji_is_number(b)) {
        v = a.kind == JI_FLOAT || b.kind == JI_FLOAT
                ? float_math(c, op, ji_number(a), ji_number(b))
                : int_math(c, op, whole(a), whole(b));
        v.input = a.input || b.input;
        return v;
    }
    if (op == OP_ADD && a.kind == b.kind) {
        if (a.kind == JI_STRING) return concat(c, a.s, b.s);
        if (a.kind == JI_LIST) return add_lists(c, a, b);
    }
    if (op == OP_MUL && b.kind == JI_INT &&
        (a.kind == JI_STRING || a.kind == JI_LIST)) {
        return repeat(c, a, b.i);
    }
    if (op == OP_MUL && a.kind == JI_INT &&
        (b.kind == JI_STRING || b.kind == JI_LIST)) {
        return repeat(c, b, a.i);
    }
    if (op == OP_MOD && a.kind == JI_STRING) {
        if (b.kind != JI_LIST || !b.list->tuple) {
            return ji_string(ji_percent(c, a.s, &b, 1));
        }
        const struct ji_value *values =
            b.list->n ? b.list->store->v + b.list->at : NULL;
        return ji_string(ji_percent(c, a.s, values, b.list->n));
    }
    return no_math(c, a, b);
}

/* ---------------------------------------------------- parts of a value */

static struct ji_value undefined_part(struct ji *c, struct ji_value v)
{
    if (v.s) {
        return ji_fail(c, ST_INVALID, "\"%.*s\" is undefined", JI_SHOW(v.s));
    }
    return ji_fail(c, ST_INVALID, "a part of an undefined value");
}

struct ji_value ji_attr(struct ji *c, struct ji_value v,
                        const struct ji_str *name)
{
    if (!name || !ji_tick(c, 1)) return ji_undefined(NULL);
    if (v.kind == JI_UNDEFINED) return undefined_part(c, v);
    /* as in Jinja, methods come before keys */
    const struct ji_value method = ji_find_method(c, v, name);
    if (method.kind != JI_ABSENT) return method;
    if (v.kind == JI_DICT || v.kind == JI_NAMESPACE) {
        const struct ji_value *there = ji_dict_find(c, v.dict, ji_string(name));
        if (there) return *there;
    }
    return ji_undefined(name);
}

static bool at_index(size_t len, int64_t i, size_t *out)
{
    if (i < 0) i += (int64_t)len;
    *out = (size_t)i;
    return i >= 0 && i < (int64_t)len;
}

struct ji_value ji_item(struct ji *c, struct ji_value v, struct ji_value key)
{
    size_t at;
    if (!ji_tick(c, 1)) return ji_undefined(NULL);
    if (v.kind == JI_UNDEFINED) return undefined_part(c, v);
    if (v.kind == JI_DICT) {
        const struct ji_value *there = ji_dict_find(c, v.dict, key);
        if (there) return *there;
    }
    if (v.kind == JI_LIST && (key.kind == JI_INT || key.kind == JI_BOOL)) {
        if (at_index(v.list->n, whole(key), &at)) return ji_list_at(v.list, at);
        return ji_undefined(NULL);
    }
    if (v.kind == JI_STRING && key.kind == JI_INT) {
        if (!ji_tick(c, v.s->len / 16)) return ji_undefined(NULL);
        if (!at_index(ji_count_chars(v.s), key.i, &at)) {
            return ji_undefined(NULL);
        }
        const size_t begin = ji_char_at(v.s, at);
        const size_t n = ji_char_len(v.s->data + begin, v.s->len - begin);
        return ji_string(ji_str_slice(c, v.s, begin, begin + n));
    }
    if (key.kind == JI_STRING) {
        if (v.kind == JI_NAMESPACE) return ji_attr(c, v, key.s);
        const struct ji_value method = ji_find_method(c, v, key.s);
        return method.kind == JI_ABSENT ? ji_undefined(key.s) : method;
    }
    return ji_undefined(NULL);
}

/* A bound of a slice as Python adjusts it, for a step forward or back. */
static int64_t bound(struct ji *c, struct ji_value v, int64_t len, bool back,
                     int64_t missing)
{
    int64_t i;
    if (v.kind == JI_NONE) return missing;
    if (!ji_want_int(c, "a slice", v, &i)) return 0;
    if (i < 0) {
        i += len;
        if (i < 0) return back ? -1 : 0;
    }
    if (i >= len) return back ? len - 1 : len;
    return i;
}

static struct ji_value slice(struct ji *c, struct ji_value v, int64_t start,
                             int64_t stop, int64_t step)
{
    struct ji_value list =
        v.kind == JI_LIST ? v : ji_list_new(c, 0); /* of characters */
    if (v.kind == JI_LIST && step == 1) {
        return ji_list_slice(c, v, (size_t)start,
                             stop > start ? (size_t)(stop - start) : 0);
    }
    if (v.kind == JI_STRING && step == 1) {
        if (stop < start) stop = start;
        return ji_string(ji_str_slice(c, v.s, ji_char_at(v.s, (size_t)start),
                                      ji_char_at(v.s, (size_t)stop)));
    }
    if (v.kind == JI_STRING) list.list = ji_iterate(c, v);
    struct ji_value picked = ji_list_new(c, 0);
    struct ji_out o = {0};
    if (c->st != ST_OK) return picked;
    picked.input = v.input;
    if (v.kind == JI_LIST) picked.list->tuple = v.list->tuple;
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        const struct ji_value item = ji_list_at(list.list, (size_t)i);
        if (v.kind == JI_STRING) {
            ji_put_str(c, &o, item.s);
        } else {
            ji_list_push(c, picked.list, item);
        }
        if (!ji_tick(c, 1) || __builtin_add_overflow(i, step, &i)) break;
    }
    return v.kind == JI_STRING ? ji_out_value(c, &o) : picked;
}

static struct ji_value eval_slice(struct ji *c, const struct ji_node *n)
{
    const struct ji_value v = ji_eval(c, n->a);
    const struct ji_value start = n->b ? ji_eval(c, n->b) : ji_none();
    const struct ji_value stop = n->c ? ji_eval(c, n->c) : ji_none();
    const struct ji_value by = n->d ? ji_eval(c, n->d) : ji_none();
    int64_t step = 1;
    if (c->st != ST_OK) return v;
    if (v.kind == JI_UNDEFINED) return undefined_part(c, v);
    if (v.kind != JI_STRING && v.kind != JI_LIST) {
        return ji_fail(c, ST_INVALID, "%s has no slices", ji_kind_name(v));
    }
    if (by.kind != JI_NONE && !ji_want_int(c, "a slice", by, &step)) return v;
    if (step == 0) return ji_fail(c, ST_INVALID, "a slice of step 0");
    if (v.kind == JI_STRING && !ji_tick(c, v.s->len / 16)) return v;
    const int64_t len =
        (int64_t)(v.kind == JI_LIST ? v.list->n : ji_count_chars(v.s));
    const bool back = step < 0;
    const int64_t first = bound(c, start, len, back, back ? len - 1 : 0);
    const int64_t last = bound(c, stop, len, back, back ? -1 : len);
    return c->st == ST_OK ? slice(c, v, first, last, step) : v;
}

/* ------------------------------------------------------------ by node */

void ji_eval_args(struct ji *c, const struct ji_node *list, struct ji_args *out)
{
    size_t n_pos = 0, n_kw = 0;
    for (const struct ji_node *n = list; n; n = n->next) {
        if (n->type == N_KWARG) {
            n_kw++;
        } else {
            n_pos++;
        }
    }
    *out = (struct ji_args){0};
    /* one more: caller */
    out->pos = ji_array(c, n_pos + 1, sizeof *out->pos);
    out->kw = ji_array(c, n_kw + 1, sizeof *out->kw);
    for (const struct ji_node *n = list; n && c->st == ST_OK; n = n->next) {
        if (n->type == N_KWARG) {
            out->kw[out->n_kw].name = n->name;
            out->kw[out->n_kw++].value = ji_eval(c, n->a);
        } else {
            out->pos[out->n_pos++] = ji_eval(c, n);
        }
    }
}

static struct ji_value eval_name(struct ji *c, const struct ji_node *n)
{
    const struct ji_value *v = ji_scope_find(c, c->scope, n->name);
    if (v) return *v;
    const struct ji_value global = ji_find_global(n->name);
    return global.kind == JI_ABSENT ? ji_undefined(n->name) : global;
}

static struct ji_value eval_list(struct ji *c, const struct ji_node *n)
{
    struct ji_value v = ji_list_new(c, 0);
    if (c->st != ST_OK) return v;
    v.list->tuple = n->op == OP_CONCAT;
    for (const struct ji_node *i = n->a; i && c->st == ST_OK; i = i->next) {
        ji_list_push(c, v.list, ji_eval(c, i));
    }
    return v;
}

static struct ji_value eval_dict(struct ji *c, const struct ji_node *n)
{
    const struct ji_value v = ji_dict_new(c, JI_DICT);
    for (const struct ji_node *i = n->a; i && c->st == ST_OK; i = i->next) {
        const struct ji_value key = ji_eval(c, i->a);
        ji_dict_set(c, v.dict, key, ji_eval(c, i->b));
    }
    return v;
}

static struct ji_value eval_call(struct ji *c, const struct ji_node *n)
{
    struct ji_args args;
    const struct ji_value f = ji_eval(c, n->a);
    ji_eval_args(c, n->b, &args);
    if (c->st == ST_OK) c->line = n->line;
    return ji_call(c, f, &args);
}

static struct ji_value eval_sign(struct ji *c, const struct ji_node *n)
{
    struct ji_value v = ji_eval(c, n->a);
    if (c->st != ST_OK) return v;
    if (!ji_is_number(v)) {
        return ji_fail(c, ST_INVALID, "a sign before %s", ji_kind_name(v));
    }
    if (v.kind == JI_FLOAT) {
        v.f = n->type == N_NEG ? -v.f : v.f;
        return v;
    }
    return ji_math(c, n->type == N_NEG ? OP_SUB : OP_ADD, ji_int(0), v);
}

static bool holds(struct ji *c, enum ji_op op, struct ji_value a,
                  struct ji_value b)
{
    switch ((int)op) {
    case OP_EQ:
        return ji_equal(c, a, b);
    case OP_NE:
        return !ji_equal(c, a, b);
    case OP_IN:
        return ji_contains(c, b, a);
    case OP_NOT_IN:
        return !ji_contains(c, b, a);
    case OP_LT:
        return ji_compare(c, a, b) < 0;
    case OP_LE:
        return ji_compare(c, a, b) <= 0;
    case OP_GT:
        return ji_compare(c, a, b) > 0;
    default:
        return ji_compare(c, a, b) >= 0;
    }
}

static struct ji_value eval_compare(struct ji *c, const struct ji_node *n)
{
    struct ji_value left = ji_eval(c, n->a);
    for (const struct ji_node *o = n->b; o && c->st == ST_OK; o = o->next) {
        const struct ji_value right = ji_eval(c, o->a);
        if (c->st != ST_OK || !holds(c, o->op, left, right)) {
            return ji_bool(false);
        }
        left = right;
    }
    return ji_bool(true);
}

static struct ji_value eval_cond(struct ji *c, const struct ji_node *n)
{
    if (ji_truth(ji_eval(c, n->a))) return ji_eval(c, n->b);
    return n->c ? ji_eval(c, n->c) : ji_undefined(NULL);
}

static struct ji_value eval_node(struct ji *c, const struct ji_node *n)
{
    struct ji_value v;
    struct ji_args args;
    switch ((int)n->type) {
    case N_LITERAL:
        return n->value;
    case N_NAME:
        return eval_name(c, n);
    case N_LIST:
        return eval_list(c, n);
    case N_DICT:
        return eval_dict(c, n);
    case N_ATTR:
        return ji_attr(c, ji_eval(c, n->a), n->name);
    case N_ITEM:
        v = ji_eval(c, n->a);
        return ji_item(c, v, ji_eval(c, n->b));
    case N_SLICE:
        return eval_slice(c, n);
    case N_CALL:
        return eval_call(c, n);
    case N_FILTER:
        v = ji_eval(c, n->a);
        ji_eval_args(c, n->b, &args);
        return c->st == ST_OK ? ji_filter(c, n->name, v, &args) : v;
    case N_TEST:
        v = ji_eval(c, n->a);
        ji_eval_args(c, n->b, &args);
        return ji_bool(c->st == ST_OK && ji_test(c, n->name, v, &args));
    case N_NEG:
    case N_POS:
        return eval_sign(c, n);
    case N_NOT:
        return ji_bool(!ji_truth(ji_eval(c, n->a)));
    case N_MATH:
        v = ji_eval(c, n->a);
        return ji_math(c, n->op, v, ji_eval(c, n->b));
    case N_AND:
        v = ji_eval(c, n->a);
        return ji_truth(v) ? ji_eval(c, n->b) : v;
    case N_OR:
        v = ji_eval(c, n->a);
        return ji_truth(v) ? v : ji_eval(c, n->b);
    case N_COMPARE:
        return eval_compare(c, n);
    case N_COND:
        return eval_cond(c, n);
    default:
        return c->captured; /* N_CAPTURED */
    }
}

struct ji_value ji_eval(struct ji *c, const struct ji_node *n)
{
    struct ji_value v = ji_undefined(NULL);
    if (ji_tick(c, 1) && ji_enter(c)) {
        c->line = n->line;
        v = eval_node(c, n);
        c->line = n->line;
        ji_leave(c);
    }
    return c->st == ST_OK ? v : ji_undefined(NULL);
}

/* jinja_filters_seq.c - filters of lists and mappings. */
#include "engine/jinja_internal.h"

static bool no_args(struct ji *c, const char *what, const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    return ji_bind(c, what, a, "", p);
}

static struct ji_value f_length(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    if (!no_args(c, "length", a)) return v;
    if (v.kind == JI_LIST) return ji_int((int64_t)v.list->n);
    if (v.kind == JI_DICT) return ji_int((int64_t)v.dict->n);
    if (v.kind == JI_UNDEFINED) return ji_int(0);
    if (v.kind != JI_STRING) {
        return ji_fail(c, ST_INVALID, "%s has no length", ji_kind_name(v));
    }
    if (!ji_tick(c, v.s->len / 16)) return v;
    return ji_int((int64_t)ji_count_chars(v.s));
}

static struct ji_value f_list(struct ji *c, struct ji_value v,
                              const struct ji_args *a)
{
    if (!no_args(c, "list", a)) return v;
    const struct ji_list *l = ji_iterate(c, v);
    if (!l) return v;
    struct ji_value copy = ji_list_new(c, l->n);
    for (size_t i = 0; i < l->n && c->st == ST_OK; i++) {
        ji_list_push(c, copy.list, ji_list_at(l, i));
    }
    copy.input = v.input;
    return copy;
}

/* "a.b.0" or an index: that part of the value, undefined if a step fails. */
static struct ji_value attribute(struct ji *c, struct ji_value v,
                                 struct ji_value path)
{
    if (path.kind != JI_STRING) return ji_item(c, v, path);
    const struct ji_str *s = path.s;
    for (size_t from = 0; from <= s->len && c->st == ST_OK;) {
        size_t to = from;
        int64_t index = 0;
        bool digits = true;
        for (; to < s->len && s->data[to] != '.'; to++) {
            digits = digits && s->data[to] >= '0' && s->data[to] <= '9' &&
                     to - from < 9;
            if (digits) index = 10 * index + (s->data[to] - '0');
        }
        const struct ji_str *part = ji_str_slice(c, s, from, to);
        const struct ji_value key =
            digits && to > from ? ji_int(index) : ji_string(part);
        v = ji_item(c, v, key);
        from = to + 1;
    }
    return v;
}

static struct ji_value f_join(struct ji *c, struct ji_value v,
                              const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    struct ji_out o = {0};
    if (!ji_bind(c, "join", a, "|d attribute", p)) return v;
    const struct ji_list *l = ji_iterate(c, v);
    const struct ji_str *between =
        p[0].kind == JI_ABSENT ? NULL : ji_to_str(c, p[0]);
    for (size_t i = 0; c->st == ST_OK && i < l->n; i++) {
        struct ji_value item = ji_list_at(l, i);
        if (p[1].kind != JI_ABSENT) item = attribute(c, item, p[1]);
        if (i) ji_put_str(c, &o, between);
        if (ji_tick(c, 1)) ji_print(c, &o, item);
    }
    return ji_out_value(c, &o);
}

static struct ji_value end_of(struct ji *c, struct ji_value v,
                              const struct ji_args *a, bool last)
{
    if (!no_args(c, last ? "last" : "first", a)) return v;
    const struct ji_list *l = ji_iterate(c, v);
    if (!l || l->n == 0) return ji_undefined(NULL);
    return ji_list_at(l, last ? l->n - 1 : 0);
}
static struct ji_value f_first(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    return end_of(c, v, a, false);
}
static struct ji_value f_last(struct ji *c, struct ji_value v,
                              const struct ji_args *a)
{
    return end_of(c, v, a, true);
}

static struct ji_value f_reverse(struct ji *c, struct ji_value v,
                                 const struct ji_args *a)
{
    struct ji_out o = {0};
    if (!no_args(c, "reverse", a)) return v;
    const struct ji_list *l = ji_iterate(c, v);
    struct ji_value r = ji_list_new(c, l ? l->n : 0);
    r.input = v.input;
    for (size_t i = l ? l->n : 0; i-- > 0 && c->st == ST_OK;) {
        if (v.kind == JI_STRING) {
            ji_put_str(c, &o, ji_list_at(l, i).s);
        } else {
            ji_list_push(c, r.list, ji_list_at(l, i));
        }
    }
    return v.kind == JI_STRING ? ji_out_value(c, &o) : r;
}

struct ji_value ji_pairs(struct ji *c, struct ji_value v)
{
    struct ji_value r = ji_list_new(c, v.dict->n);
    r.input = v.input;
    for (size_t i = 0; i < v.dict->n && c->st == ST_OK; i++) {
        struct ji_value pair = ji_list_new(c, 2);
        if (c->st != ST_OK) break;
        pair.input = v.input;
        pair.list->tuple = true;
        ji_list_push(c, pair.list, v.dict->e[i].key);
        ji_list_push(c, pair.list, v.dict->e[i].value);
        ji_list_push(c, r.list, pair);
    }
    return r;
}

static struct ji_value f_items(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    if (!no_args(c, "items", a)) return v;
    if (v.kind == JI_UNDEFINED) return ji_list_new(c, 0);
    if (v.kind != JI_DICT) {
        return ji_fail(c, ST_INVALID, "items of %s", ji_kind_name(v));
    }
    return ji_pairs(c, v);
}

/* ------------------------------------------------------------- sorting */

/* By which the items are ordered: keys[i] belongs to item[i]. */
struct order {
    struct ji_value *key, *item;
    bool reverse;
};

/* Merge sort, stable; reversed, equal items keep their order, as in Python. */
static void merge_sort(struct ji *c, struct order *o, size_t n)
{
    struct order to = *o;
    to.key = ji_array(c, n, sizeof *to.key);
    to.item = ji_array(c, n, sizeof *to.item);
    for (size_t run = 1; run < n && c->st == ST_OK; run *= 2) {
        for (size_t from = 0; from < n; from += 2 * run) {
            const size_t mid = from + run < n ? from + run : n;
            const size_t end = mid + run < n ? mid + run : n;
            size_t a = from, b = mid;
            for (size_t i = from; i < end && c->st == ST_OK; i++) {
                bool second = a == mid;
                if (a < mid && b < end) {
                    const int diff = ji_compare(c, o->key[a], o->key[b]);
                    second = o->reverse ? diff < 0 : diff > 0;
                }
                const size_t pick = second ? b++ : a++;
                to.key[i] = o->key[pick];
                to.item[i] = o->item[pick];
            }
        }
        const struct order swap = *o;
        *o = to;
        to = swap;
    }
}

/* Text without its case, unless case matters. */
static struct ji_value sort_key(struct ji *c, struct ji_value v,
                                bool case_sensitive)
{
    if (v.kind != JI_STRING || case_sensitive) return v;
    return ji_string(ji_recase(c, v.s, CASE_LOWER));
}

static struct ji_value sorted(struct ji *c, const struct ji_list *l,
                              struct ji_value by, bool case_sensitive,
                              bool reverse)
{
    struct order o = {.reverse = reverse};
    o.key = ji_array(c, l->n, sizeof *o.key);
    o.item = ji_array(c, l->n, sizeof *o.item);
    for (size_t i = 0; i < l->n && c->st == ST_OK; i++) {
        o.item[i] = ji_list_at(l, i);
        const struct ji_value key =
            by.kind == JI_ABSENT ? o.item[i] : attribute(c, o.item[i], by);
        o.key[i] = sort_key(c, key, case_sensitive);
    }
    if (c->st == ST_OK) merge_sort(c, &o, l->n);
    const struct ji_value r = ji_list_new(c, l->n);
    for (size_t i = 0; i < l->n && c->st == ST_OK; i++) {
        ji_list_push(c, r.list, o.item[i]);
    }
    return r;
}

static struct ji_value f_sort(struct ji *c, struct ji_value v,
                              const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "sort", a, "|reverse case_sensitive attribute", p)) {
        return v;
    }
    const struct ji_list *l = ji_iterate(c, v);
    if (!l) return v;
    if (p[2].kind == JI_NONE) p[2].kind = JI_ABSENT;
    return sorted(c, l, p[2], ji_truth(p[1]), ji_truth(p[0]));
}

static struct ji_value f_dictsort(struct ji *c, struct ji_value v,
                                  const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "dictsort", a, "|case_sensitive by reverse", p)) return v;
    if (v.kind != JI_DICT) {
        return ji_fail(c, ST_INVALID, "dictsort of %s", ji_kind_name(v));
    }
    const bool by_value = p[1].kind == JI_STRING && ji_str_is(p[1].s, "value");
    const struct ji_value pairs = ji_pairs(c, v);
    if (c->st != ST_OK) return v;
    return sorted(c, pairs.list, ji_int(by_value), ji_truth(p[0]),
                  ji_truth(p[2]));
}

static struct ji_value f_unique(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "unique", a, "|case_sensitive attribute", p)) return v;
    const struct ji_list *l = ji_iterate(c, v);
    const struct ji_value seen = ji_list_new(c, 0), r = ji_list_new(c, 0);
    for (size_t i = 0; c->st == ST_OK && i < l->n; i++) {
        const struct ji_value item = ji_list_at(l, i);
        struct ji_value key = item;
        if (p[1].kind != JI_ABSENT) key = attribute(c, item, p[1]);
        key = sort_key(c, key, ji_truth(p[0]));
        if (ji_contains(c, seen, key)) continue;
        ji_list_push(c, seen.list, key);
        ji_list_push(c, r.list, item);
    }
    return r;
}

static struct ji_value extreme(struct ji *c, struct ji_value v,
                               const struct ji_args *a, const char *what,
                               int sign)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, what, a, "|case_sensitive attribute", p)) return v;
    const struct ji_list *l = ji_iterate(c, v);
    struct ji_value best = ji_undefined(NULL), best_key = best;
    for (size_t i = 0; c->st == ST_OK && i < l->n; i++) {
        struct ji_value key = ji_list_at(l, i);
        if (p[1].kind != JI_ABSENT) key = attribute(c, key, p[1]);
        key = sort_key(c, key, ji_truth(p[0]));
        if (i && ji_compare(c, key, best_key) * sign <= 0) continue;
        best = ji_list_at(l, i);
        best_key = key;
    }
    return best;
}
static struct ji_value f_max(struct ji *c, struct ji_value v,
                             const struct ji_args *a)
{
    return extreme(c, v, a, "max", 1);
}
static struct ji_value f_min(struct ji *c, struct ji_value v,
                             const struct ji_args *a)
{
    return extreme(c, v, a, "min", -1);
}

static struct ji_value f_sum(struct ji *c, struct ji_value v,
                             const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "sum", a, "|attribute start", p)) return v;
    const struct ji_list *l = ji_iterate(c, v);
    struct ji_value sum = p[1].kind == JI_ABSENT ? ji_int(0) : p[1];
    for (size_t i = 0; c->st == ST_OK && i < l->n; i++) {
        struct ji_value item = ji_list_at(l, i);
        if (p[0].kind != JI_ABSENT) item = attribute(c, item, p[0]);
        sum = ji_math(c, OP_ADD, sum, item);
    }
    return sum;
}

/* ------------------------------------------------------ map and select */

/* The arguments behind the first n. */
static struct ji_args behind(const struct ji_args *a, size_t n)
{
    struct ji_args rest = *a;
    rest.pos += n;
    rest.n_pos -= n;
    return rest;
}

static struct ji_value mapped(struct ji *c, struct ji_value item,
                              const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX] = {{JI_UNDEFINED, false, {false}}};
    if (a->n_pos == 0) {
        if (!ji_bind(c, "map", a, "attribute|default", p)) return item;
        struct ji_value v = attribute(c, item, p[0]);
        if (v.kind == JI_UNDEFINED && p[1].kind != JI_ABSENT) v = p[1];
        return v;
    }
    const struct ji_str *name = ji_want_str(c, "map", a->pos[0]);
    const struct ji_args rest = behind(a, 1);
    return name ? ji_filter(c, name, item, &rest) : item;
}

static struct ji_value f_map(struct ji *c, struct ji_value v,
                             const struct ji_args *a)
{
    const struct ji_list *l = ji_iterate(c, v);
    const struct ji_value r = ji_list_new(c, l ? l->n : 0);
    if (a->n_pos == 0 && a->n_kw == 0) {
        return ji_fail(c, ST_INVALID, "map needs a filter or attribute=");
    }
    for (size_t i = 0; c->st == ST_OK && l && i < l->n; i++) {
        ji_list_push(c, r.list, mapped(c, ji_list_at(l, i), a));
    }
    return r;
}

/* Items for which a test holds (keep) or does not; with_attribute: the test
 * is of the attribute that the first argument names. */
static struct ji_value selected(struct ji *c, struct ji_value v,
                                const struct ji_args *a, bool with_attribute,
                                bool keep)
{
    const struct ji_list *l = ji_iterate(c, v);
    const struct ji_value r = ji_list_new(c, 0);
    if (with_attribute && a->n_pos == 0) {
        return ji_fail(c, ST_INVALID, "selectattr needs an attribute");
    }
    const struct ji_args rest = behind(a, with_attribute);
    for (size_t i = 0; c->st == ST_OK && i < l->n; i++) {
        const struct ji_value item = ji_list_at(l, i);
        struct ji_value of = item;
        bool holds;
        if (with_attribute) of = attribute(c, item, a->pos[0]);
        if (rest.n_pos == 0) {
            holds = ji_truth(of);
        } else {
            const struct ji_str *name = ji_want_str(c, "select", rest.pos[0]);
            const struct ji_args args = behind(&rest, 1);
            holds = name && ji_test(c, name, of, &args);
        }
        if (holds == keep) ji_list_push(c, r.list, item);
    }
    return r;
}
static struct ji_value f_select(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    return selected(c, v, a, false, true);
}
static struct ji_value f_reject(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    return selected(c, v, a, false, false);
}
static struct ji_value f_selectattr(struct ji *c, struct ji_value v,
                                    const struct ji_args *a)
{
    return selected(c, v, a, true, true);
}
static struct ji_value f_rejectattr(struct ji *c, struct ji_value v,
                                    const struct ji_args *a)
{
    return selected(c, v, a, true, false);
}

static struct ji_value f_attr(struct ji *c, struct ji_value v,
                              const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "attr", a, "name", p)) return v;
    if (v.kind == JI_DICT) return ji_undefined(NULL); /* a key is none */
    return ji_attr(c, v, ji_want_str(c, "attr", p[0]));
}

const struct ji_filter ji_filters_seq[] = {
    {"length", f_length},
    {"count", f_length},
    {"list", f_list},
    {"join", f_join},
    {"first", f_first},
    {"last", f_last},
    {"reverse", f_reverse},
    {"items", f_items},
    {"sort", f_sort},
    {"dictsort", f_dictsort},
    {"unique", f_unique},
    {"max", f_max},
    {"min", f_min},
    {"sum", f_sum},
    {"map", f_map},
    {"select", f_select},
    {"reject", f_reject},
    {"selectattr", f_selectattr},
    {"rejectattr", f_rejectattr},
    {"attr", f_attr},
    {NULL, NULL},
};

/* jinja_call.c - calls: arguments, macros, the environment's functions. */
#include <stdio.h>
#include <time.h>

#include "engine/jinja_internal.h"

struct ji_global {
    const char *name;
    struct ji_value (*call)(struct ji *c, const struct ji_args *a);
};

/* ----------------------------------------------------------- arguments */

/* The name at *names, and on to the next; NULL at the end. */
static const char *next_name(const char **names, size_t *len, bool *optional)
{
    while (**names == ' ' || **names == '|') *optional |= *(*names)++ == '|';
    const char *name = *names;
    *len = strcspn(name, " |");
    *names += *len;
    return *len ? name : NULL;
}

bool ji_bind(struct ji *c, const char *what, const struct ji_args *a,
             const char *names, struct ji_value out[JI_PARAMS_MAX])
{
    size_t n = 0, used = 0, len;
    bool optional = false;
    const char *name;
    if (c->st != ST_OK) return false;
    while ((name = next_name(&names, &len, &optional)) && n < JI_PARAMS_MAX) {
        struct ji_value v = {.kind = JI_ABSENT};
        if (n < a->n_pos) v = a->pos[n];
        for (size_t i = 0; i < a->n_kw; i++) {
            if (a->kw[i].name->len != len ||
                memcmp(a->kw[i].name->data, name, len) != 0) {
                continue;
            }
            used++;
            v = a->kw[i].value;
        }
        if (v.kind == JI_ABSENT && !optional) {
            ji_fail(c, ST_INVALID, "%s needs its argument %.*s", what, (int)len,
                    name);
            return false;
        }
        out[n++] = v;
    }
    if (a->n_pos > n || used < a->n_kw) {
        ji_fail(c, ST_INVALID, "%s does not take these arguments", what);
    }
    return c->st == ST_OK;
}

bool ji_want_int(struct ji *c, const char *what, struct ji_value v,
                 int64_t *out)
{
    if (v.kind != JI_INT && v.kind != JI_BOOL) {
        ji_fail(c, ST_INVALID, "%s needs an integer, not %s", what,
                ji_kind_name(v));
        return false;
    }
    *out = v.kind == JI_BOOL ? v.b : v.i;
    return true;
}

const struct ji_str *ji_want_str(struct ji *c, const char *what,
                                 struct ji_value v)
{
    if (v.kind == JI_STRING) return v.s;
    ji_fail(c, ST_INVALID, "%s needs a string, not %s", what, ji_kind_name(v));
    return NULL;
}

/* -------------------------------------------------------------- macros */

static const struct ji_value *find_kwarg(struct ji_args *a,
                                         const struct ji_str *name)
{
    for (size_t i = 0; i < a->n_kw; i++) {
        if (a->kw[i].name && ji_str_eq(a->kw[i].name, name)) {
            a->kw[i].name = NULL; /* used */
            return &a->kw[i].value;
        }
    }
    return NULL;
}

/* Parameters become variables of the new scope, which is the current one. */
static void bind_params(struct ji *c, const struct ji_node *n,
                        struct ji_args *a)
{
    static const struct ji_str caller = {.data = "caller", .len = 6};
    size_t i = 0;
    for (const struct ji_node *p = n->a; p && c->st == ST_OK; p = p->next) {
        const struct ji_value *named = find_kwarg(a, p->name);
        struct ji_value v = ji_undefined(p->name);
        if (i < a->n_pos) {
            if (named)
                ji_fail(c, ST_INVALID, "\"%.*s\" is given twice",
                        JI_SHOW(p->name));
            v = a->pos[i];
        } else if (named) {
            v = *named;
        } else if (p->a) {
            v = ji_eval(c, p->a);
        }
        i++;
        ji_scope_set(c, c->scope, p->name, v);
    }
    const struct ji_value *body = find_kwarg(a, &caller);
    if (body) ji_scope_set(c, c->scope, &caller, *body);
    for (size_t k = 0; k < a->n_kw && c->st == ST_OK; k++) {
        if (!a->kw[k].name) continue;
        ji_fail(c, ST_INVALID, "macro %.*s has no parameter \"%.*s\"",
                JI_SHOW(n->name), JI_SHOW(a->kw[k].name));
    }
    if (c->st == ST_OK && a->n_pos > i) {
        ji_fail(c, ST_INVALID, "macro %.*s takes %zu arguments, not %zu",
                JI_SHOW(n->name), i, a->n_pos);
    }
}

static struct ji_value call_macro(struct ji *c, const struct ji_macro *m,
                                  struct ji_args *a)
{
    struct ji_scope *outer = c->scope;
    struct ji_value v = ji_undefined(NULL);
    if (!ji_enter(c)) return v;
    c->scope = ji_scope_new(c, m->scope);
    bind_params(c, m->node, a);
    if (c->st == ST_OK) v = ji_capture(c, m->node->d);
    c->scope = outer;
    ji_leave(c);
    return v;
}

struct ji_value ji_call(struct ji *c, struct ji_value f, struct ji_args *a)
{
    if (!ji_tick(c, 1)) return ji_undefined(NULL);
    if (f.kind == JI_MACRO) return call_macro(c, f.macro, a);
    if (f.kind == JI_METHOD) return ji_call_method(c, f.bound, a);
    if (f.kind == JI_GLOBAL) return f.global->call(c, a);
    if (f.kind == JI_UNDEFINED && f.s) {
        return ji_fail(c, ST_INVALID, "\"%.*s\" is undefined", JI_SHOW(f.s));
    }
    return ji_fail(c, ST_INVALID, "%s cannot be called", ji_kind_name(f));
}

/* ----------------------------------------------------------- functions */

static void set_kwargs(struct ji *c, struct ji_dict *d, const struct ji_args *a)
{
    for (size_t i = 0; i < a->n_kw && c->st == ST_OK; i++) {
        ji_dict_set(c, d, ji_string(a->kw[i].name), a->kw[i].value);
    }
}

static struct ji_value make_dict(struct ji *c, enum ji_kind kind,
                                 const struct ji_args *a)
{
    const struct ji_value v = ji_dict_new(c, kind);
    if (a->n_pos > 1) return ji_fail(c, ST_INVALID, "more than one mapping");
    if (a->n_pos == 1 && a->pos[0].kind == JI_DICT) {
        const struct ji_dict *from = a->pos[0].dict;
        for (size_t i = 0; i < from->n && c->st == ST_OK; i++) {
            ji_dict_set(c, v.dict, from->e[i].key, from->e[i].value);
        }
    } else if (a->n_pos == 1) {
        const struct ji_list *pairs = ji_iterate(c, a->pos[0]);
        for (size_t i = 0; c->st == ST_OK && i < pairs->n; i++) {
            const struct ji_list *pair = ji_iterate(c, ji_list_at(pairs, i));
            if (c->st == ST_OK && pair->n != 2) {
                return ji_fail(c, ST_INVALID, "dict needs pairs");
            }
            if (c->st == ST_OK) {
                ji_dict_set(c, v.dict, ji_list_at(pair, 0),
                            ji_list_at(pair, 1));
            }
        }
    }
    set_kwargs(c, v.dict, a);
    return v;
}

static struct ji_value global_dict(struct ji *c, const struct ji_args *a)
{
    return make_dict(c, JI_DICT, a);
}
static struct ji_value global_namespace(struct ji *c, const struct ji_args *a)
{
    return make_dict(c, JI_NAMESPACE, a);
}

static struct ji_value global_range(struct ji *c, const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    int64_t first = 0, last = 0, step = 1;
    if (!ji_bind(c, "range", a, "start|stop step", p)) return ji_none();
    if (p[1].kind == JI_ABSENT) {
        if (!ji_want_int(c, "range", p[0], &last)) return ji_none();
    } else if (!ji_want_int(c, "range", p[0], &first) ||
               !ji_want_int(c, "range", p[1], &last)) {
        return ji_none();
    }
    if (p[2].kind != JI_ABSENT && !ji_want_int(c, "range", p[2], &step)) {
        return ji_none();
    }
    if (step == 0) return ji_fail(c, ST_INVALID, "range of step 0");
    const struct ji_value v = ji_list_new(c, 0);
    for (int64_t i = first;
         c->st == ST_OK && (step > 0 ? i < last : i > last);) {
        ji_list_push(c, v.list, ji_int(i));
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    return v;
}

/* The template's own words, as they are. */
static struct ji_value global_raise(struct ji *c, const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "raise_exception", a, "message", p)) return ji_none();
    const struct ji_str *text = ji_to_str(c, p[0]);
    if (!text) return ji_none();
    c->line = 0;
    if (text->len == 0 || !text->data[0]) {
        return ji_fail(c, ST_INVALID, "the chat template refuses the messages");
    }
    const int n = text->len < 239 ? (int)text->len : 239;
    return ji_fail(c, ST_INVALID, "%.*s", n, text->data);
}

/* One conversion, of those that C and Python agree on; 0: another. */
static size_t format_time(char kind, const struct tm *tm, char *text, size_t n)
{
#define ONE(letter, format)                                                    \
    case letter:                                                               \
        return strftime(text, n, format, tm)
    switch (kind) {
        ONE('a', "%a");
        ONE('A', "%A");
        ONE('b', "%b");
        ONE('B', "%B");
        ONE('c', "%a %b %e %H:%M:%S %Y");
        ONE('C', "%C");
        ONE('d', "%d");
        ONE('e', "%e");
        ONE('F', "%Y-%m-%d");
        ONE('h', "%b");
        ONE('H', "%H");
        ONE('I', "%I");
        ONE('j', "%j");
        ONE('m', "%m");
        ONE('M', "%M");
        ONE('p', "%p");
        ONE('R', "%H:%M");
        ONE('S', "%S");
        ONE('T', "%H:%M:%S");
        ONE('u', "%u");
        ONE('w', "%w");
        ONE('Y', "%Y");
        ONE('%', "%%");
    case 'y':
        return (size_t)snprintf(text, n, "%02d", tm->tm_year % 100);
    default:
        return 0;
    }
#undef ONE
}

static struct ji_value global_strftime(struct ji *c, const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX] = {{.kind = JI_ABSENT}};
    struct ji_out o = {0};
    struct tm tm;
    const time_t now = (time_t)c->now;
    if (!ji_bind(c, "strftime_now", a, "format", p)) return ji_none();
    const struct ji_str *f = ji_want_str(c, "strftime_now", p[0]);
    if (!f) return ji_none();
    if (!gmtime_r(&now, &tm)) {
        return ji_fail(c, ST_INVALID, "strftime_now: no such time");
    }
    for (size_t i = 0; i < f->len && c->st == ST_OK; i++) {
        char text[64];
        if (f->data[i] != '%' || i + 1 == f->len) {
            ji_put_slice(c, &o, f, i, i + 1);
            continue;
        }
        const bool mark = ji_str_mark(f, i++);
        const bool bare = f->data[i] == '-' && i + 1 < f->len;
        i += bare; /* "%-d": without the zero in front */
        const size_t n = format_time(f->data[i], &tm, text, sizeof text);
        if (n == 0) {
            return ji_fail(c, ST_UNSUPPORTED, "strftime_now: %%%c", f->data[i]);
        }
        size_t skip = 0;
        while (bare && skip + 1 < n && strchr("0 ", text[skip])) skip++;
        ji_put(c, &o, text + skip, n - skip, mark);
    }
    return ji_out_value(c, &o);
}

static const struct ji_global globals[] = {
    {"namespace", global_namespace},   {"dict", global_dict},
    {"range", global_range},           {"raise_exception", global_raise},
    {"strftime_now", global_strftime},
};

struct ji_value ji_find_global(const struct ji_str *name)
{
    for (size_t i = 0; i < COUNT_OF(globals); i++) {
        if (ji_str_is(name, globals[i].name)) {
            return (struct ji_value){.kind = JI_GLOBAL, .global = &globals[i]};
        }
    }
    return (struct ji_value){.kind = JI_ABSENT};
}

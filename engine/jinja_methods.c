/* jinja_methods.c - methods of strings, mappings, lists and loops. */
#include "engine/jinja_internal.h"

typedef struct ji_value method_fn(struct ji *c, struct ji_value v,
                                  const struct ji_args *a);
struct method {
    const char *name;
    method_fn *call;
};
struct ji_bound {
    const struct method *method;
    struct ji_value v;
};

/* ------------------------------------------------------------- strings */

static struct ji_value stripped(struct ji *c, struct ji_value v,
                                const struct ji_args *a, bool left, bool right)
{
    struct ji_value p[JI_PARAMS_MAX];
    const struct ji_str *chars = NULL;
    if (!ji_bind(c, "strip", a, "|chars", p)) return v;
    if (p[0].kind != JI_ABSENT && p[0].kind != JI_NONE) {
        chars = ji_want_str(c, "strip", p[0]);
    }
    return c->st == ST_OK ? ji_string(ji_strip(c, v.s, chars, left, right)) : v;
}
static struct ji_value s_strip(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    return stripped(c, v, a, true, true);
}
static struct ji_value s_lstrip(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    return stripped(c, v, a, true, false);
}
static struct ji_value s_rstrip(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    return stripped(c, v, a, false, true);
}

static bool at_end(const struct ji_str *s, const struct ji_str *part, bool end)
{
    return part->len <= s->len &&
           (part->len == 0 ||
            memcmp(end ? s->data + (s->len - part->len) : s->data, part->data,
                   part->len) == 0);
}

/* One string, or any of a tuple. */
static struct ji_value begins(struct ji *c, struct ji_value v,
                              const struct ji_args *a, const char *what,
                              bool end)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, what, a, "part", p)) return v;
    if (p[0].kind != JI_LIST || !p[0].list->tuple) {
        const struct ji_str *part = ji_want_str(c, what, p[0]);
        return ji_bool(part && at_end(v.s, part, end));
    }
    for (size_t i = 0; i < p[0].list->n && ji_tick(c, 1); i++) {
        const struct ji_str *part =
            ji_want_str(c, what, ji_list_at(p[0].list, i));
        if (part && at_end(v.s, part, end)) return ji_bool(true);
    }
    return ji_bool(false);
}
static struct ji_value s_startswith(struct ji *c, struct ji_value v,
                                    const struct ji_args *a)
{
    return begins(c, v, a, "startswith", false);
}
static struct ji_value s_endswith(struct ji *c, struct ji_value v,
                                  const struct ji_args *a)
{
    return begins(c, v, a, "endswith", true);
}

static struct ji_value without(struct ji *c, struct ji_value v,
                               const struct ji_args *a, bool end)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "removeprefix", a, "part", p)) return v;
    const struct ji_str *part = ji_want_str(c, "removeprefix", p[0]);
    if (!part || !at_end(v.s, part, end)) return v;
    return ji_string(end ? ji_str_slice(c, v.s, 0, v.s->len - part->len)
                         : ji_str_slice(c, v.s, part->len, v.s->len));
}
static struct ji_value s_removeprefix(struct ji *c, struct ji_value v,
                                      const struct ji_args *a)
{
    return without(c, v, a, false);
}
static struct ji_value s_removesuffix(struct ji *c, struct ji_value v,
                                      const struct ji_args *a)
{
    return without(c, v, a, true);
}

static struct ji_value recased(struct ji *c, struct ji_value v,
                               const struct ji_args *a, enum ji_case how)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "this method", a, "", p)) return v;
    return ji_string(ji_recase(c, v.s, how));
}
static struct ji_value s_lower(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    return recased(c, v, a, CASE_LOWER);
}
static struct ji_value s_upper(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    return recased(c, v, a, CASE_UPPER);
}
static struct ji_value s_title(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    return recased(c, v, a, CASE_TITLE);
}
static struct ji_value s_capitalize(struct ji *c, struct ji_value v,
                                    const struct ji_args *a)
{
    return recased(c, v, a, CASE_CAPITAL);
}

static struct ji_value s_replace(struct ji *c, struct ji_value v,
                                 const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    int64_t count = -1;
    if (!ji_bind(c, "replace", a, "old new|count", p)) return v;
    if (p[2].kind != JI_ABSENT && !ji_want_int(c, "replace", p[2], &count)) {
        return v;
    }
    const struct ji_str *from = ji_want_str(c, "replace", p[0]);
    const struct ji_str *to = ji_want_str(c, "replace", p[1]);
    if (!from || !to) return v;
    return ji_string(ji_replace(c, v.s, from, to, count));
}

static struct ji_value s_join(struct ji *c, struct ji_value v,
                              const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    struct ji_out o = {0};
    if (!ji_bind(c, "join", a, "items", p)) return v;
    const struct ji_list *l = ji_iterate(c, p[0]);
    for (size_t i = 0; c->st == ST_OK && i < l->n; i++) {
        if (i) ji_put_str(c, &o, v.s);
        ji_put_str(c, &o, ji_want_str(c, "join", ji_list_at(l, i)));
    }
    return ji_out_value(c, &o);
}

static void push_slice(struct ji *c, struct ji_value list,
                       const struct ji_str *s, size_t from, size_t to)
{
    ji_list_push(c, list.list, ji_string(ji_str_slice(c, s, from, to)));
}

/* At runs of white space; most < 0: at all. */
static void split_space(struct ji *c, struct ji_value r, const struct ji_str *s,
                        int64_t most)
{
    for (size_t at = 0; at < s->len && c->st == ST_OK;) {
        size_t n = ji_char_len(s->data + at, s->len - at);
        if (ji_is_space(ji_decode(s->data + at, n))) {
            at += n;
            continue;
        }
        const size_t from = at;
        if (most == 0) {
            const struct ji_str *rest = ji_str_slice(c, s, from, s->len);
            if (rest) rest = ji_strip(c, rest, NULL, false, true);
            if (rest) ji_list_push(c, r.list, ji_string(rest));
            return;
        }
        while (at < s->len) {
            n = ji_char_len(s->data + at, s->len - at);
            if (ji_is_space(ji_decode(s->data + at, n))) break;
            at += n;
        }
        push_slice(c, r, s, from, at);
        if (most > 0) most--;
    }
}

static struct ji_value s_split(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    int64_t most = -1;
    if (!ji_bind(c, "split", a, "|sep maxsplit", p)) return v;
    if (p[1].kind != JI_ABSENT && !ji_want_int(c, "split", p[1], &most)) {
        return v;
    }
    const struct ji_value r = ji_list_new(c, 0);
    if (c->st != ST_OK || !ji_tick(c, v.s->len / 16)) return v;
    if (p[0].kind == JI_ABSENT || p[0].kind == JI_NONE) {
        split_space(c, r, v.s, most);
        return r;
    }
    const struct ji_str *sep = ji_want_str(c, "split", p[0]);
    if (!sep) return v;
    if (sep->len == 0) return ji_fail(c, ST_INVALID, "split at nothing");
    size_t from = 0;
    while (c->st == ST_OK && most != 0) {
        const size_t hit = ji_find(c, v.s, from, sep);
        if (hit > v.s->len) break;
        push_slice(c, r, v.s, from, hit);
        from = hit + sep->len;
        if (most > 0) most--;
    }
    if (c->st == ST_OK) push_slice(c, r, v.s, from, v.s->len);
    return r;
}

/* From the right, with a separator. */
static struct ji_value s_rsplit(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    int64_t most = -1;
    if (!ji_bind(c, "rsplit", a, "sep|maxsplit", p)) return v;
    if (p[1].kind != JI_ABSENT && !ji_want_int(c, "rsplit", p[1], &most)) {
        return v;
    }
    const struct ji_str *sep = ji_want_str(c, "rsplit", p[0]);
    if (!sep || sep->len == 0) {
        return ji_fail(c, ST_INVALID, "rsplit at nothing");
    }
    const struct ji_value back = ji_list_new(c, 0), r = ji_list_new(c, 0);
    size_t end = v.s->len;
    for (size_t at = end; c->st == ST_OK && most != 0 && at >= sep->len;) {
        if (!ji_tick(c, 1 + sep->len / 64)) return v;
        at--;
        const size_t from = at + 1 - sep->len;
        if (memcmp(v.s->data + from, sep->data, sep->len) != 0) continue;
        push_slice(c, back, v.s, at + 1, end);
        end = at = from;
        if (most > 0) most--;
    }
    if (c->st == ST_OK) push_slice(c, back, v.s, 0, end);
    for (size_t i = c->st == ST_OK ? back.list->n : 0; i-- > 0;) {
        ji_list_push(c, r.list, ji_list_at(back.list, i));
    }
    return r;
}

static struct ji_value s_splitlines(struct ji *c, struct ji_value v,
                                    const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "splitlines", a, "|keepends", p)) return v;
    const bool keep = ji_truth(p[0]);
    const struct ji_value r = ji_list_new(c, 0);
    for (size_t at = 0; at < v.s->len && c->st == ST_OK;) {
        size_t end = at;
        while (end < v.s->len && v.s->data[end] != '\n' &&
               v.s->data[end] != '\r') {
            end++;
        }
        size_t next = end + (end < v.s->len);
        if (next < v.s->len && v.s->data[end] == '\r' &&
            v.s->data[next] == '\n') {
            next++;
        }
        push_slice(c, r, v.s, at, keep ? next : end);
        if (!ji_tick(c, (next - at) / 16)) break;
        at = next;
    }
    return r;
}

static struct ji_value found(struct ji *c, struct ji_value v,
                             const struct ji_args *a, bool must)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "find", a, "part", p)) return v;
    const struct ji_str *part = ji_want_str(c, "find", p[0]);
    if (!part) return v;
    const size_t hit = ji_find(c, v.s, 0, part);
    if (hit > v.s->len && !must) return ji_int(-1);
    if (hit > v.s->len) return ji_fail(c, ST_INVALID, "index: not found");
    const struct ji_str before = {.data = v.s->data, .len = hit};
    return ji_int((int64_t)ji_count_chars(&before));
}
static struct ji_value s_find(struct ji *c, struct ji_value v,
                              const struct ji_args *a)
{
    return found(c, v, a, false);
}
static struct ji_value s_index(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    return found(c, v, a, true);
}

static struct ji_value s_count(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    int64_t n = 0;
    if (!ji_bind(c, "count", a, "part", p)) return v;
    const struct ji_str *part = ji_want_str(c, "count", p[0]);
    if (!part) return v;
    if (part->len == 0) return ji_int((int64_t)ji_count_chars(v.s) + 1);
    for (size_t at = 0; c->st == ST_OK;) {
        const size_t hit = ji_find(c, v.s, at, part);
        if (hit > v.s->len) break;
        n++;
        at = hit + part->len;
    }
    return ji_int(n);
}

static bool all_of(const struct ji_str *s, bool digits, bool letters)
{
    for (size_t at = 0; at < s->len;) {
        const size_t n = ji_char_len(s->data + at, s->len - at);
        const uint32_t p = ji_decode(s->data + at, n);
        const bool digit = p >= '0' && p <= '9';
        /* letters without case, as in Chinese, are above Latin's marks */
        const bool letter = ji_is_letter(p) || p >= 0x250;
        if (!(digits && digit) && !(letters && letter)) return false;
        at += n;
    }
    return s->len > 0;
}
static struct ji_value s_isdigit(struct ji *c, struct ji_value v,
                                 const struct ji_args *a)
{
    (void)c;
    (void)a;
    return ji_bool(all_of(v.s, true, false));
}
static struct ji_value s_isalpha(struct ji *c, struct ji_value v,
                                 const struct ji_args *a)
{
    (void)c;
    (void)a;
    return ji_bool(all_of(v.s, false, true));
}
static struct ji_value s_isalnum(struct ji *c, struct ji_value v,
                                 const struct ji_args *a)
{
    (void)c;
    (void)a;
    return ji_bool(all_of(v.s, true, true));
}
static struct ji_value s_isspace(struct ji *c, struct ji_value v,
                                 const struct ji_args *a)
{
    (void)a;
    const struct ji_str *rest = ji_strip(c, v.s, NULL, true, true);
    return ji_bool(rest && v.s->len && rest->len == 0);
}

/* {} and {0} and {name}, {{ and }}; no format specifications. */
static struct ji_value s_format(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    const struct ji_str *f = v.s;
    struct ji_out o = {0};
    size_t used = 0;
    for (size_t i = 0; i < f->len && c->st == ST_OK; i++) {
        const char d = f->data[i];
        if (d != '{' && d != '}') {
            ji_put_slice(c, &o, f, i, i + 1);
            continue;
        }
        if (i + 1 < f->len && f->data[i + 1] == d) {
            ji_put_slice(c, &o, f, i, i + 1);
            i++;
            continue;
        }
        const char *close =
            d == '{' ? memchr(f->data + i, '}', f->len - i) : NULL;
        if (!close) return ji_fail(c, ST_INVALID, "format: a single brace");
        const struct ji_str *name =
            ji_str_slice(c, f, i + 1, (size_t)(close - f->data));
        const struct ji_value *value = NULL;
        if (!name) break;
        if (name->len == 0 && used < a->n_pos) value = &a->pos[used++];
        if (name->len == 1 && name->data[0] >= '0' &&
            name->data[0] < '0' + (int)(a->n_pos < 10 ? a->n_pos : 10)) {
            value = &a->pos[name->data[0] - '0'];
        }
        for (size_t k = 0; k < a->n_kw; k++) {
            if (ji_str_eq(a->kw[k].name, name)) value = &a->kw[k].value;
        }
        if (!value) {
            return ji_fail(c, ST_INVALID, "format: no value for {%.*s}",
                           JI_SHOW(name));
        }
        ji_print(c, &o, *value);
        i = (size_t)(close - f->data);
    }
    return ji_out_value(c, &o);
}

/* ------------------------------------------------ mappings, lists, loops */

static struct ji_value column(struct ji *c, struct ji_value v,
                              const struct ji_args *a, bool keys)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "this method", a, "", p)) return v;
    struct ji_value r = ji_list_new(c, v.dict->n);
    r.input = v.input;
    for (size_t i = 0; i < v.dict->n && c->st == ST_OK; i++) {
        ji_list_push(c, r.list, keys ? v.dict->e[i].key : v.dict->e[i].value);
    }
    return r;
}
static struct ji_value d_keys(struct ji *c, struct ji_value v,
                              const struct ji_args *a)
{
    return column(c, v, a, true);
}
static struct ji_value d_values(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    return column(c, v, a, false);
}
static struct ji_value d_items(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    return ji_bind(c, "items", a, "", p) ? ji_pairs(c, v) : v;
}
static struct ji_value d_get(struct ji *c, struct ji_value v,
                             const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "get", a, "key|default", p)) return v;
    const struct ji_value *there = ji_dict_find(c, v.dict, p[0]);
    if (there) return *there;
    return p[1].kind == JI_ABSENT ? ji_none() : p[1];
}
static struct ji_value d_copy(struct ji *c, struct ji_value v,
                              const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "copy", a, "", p)) return v;
    struct ji_value r = ji_dict_new(c, JI_DICT);
    r.input = v.input;
    for (size_t i = 0; i < v.dict->n && c->st == ST_OK; i++) {
        ji_dict_set(c, r.dict, v.dict->e[i].key, v.dict->e[i].value);
    }
    return r;
}

/* Hugging Face's sandbox refuses it; templates made for llama.cpp use it. */
static struct ji_value l_append(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (ji_bind(c, "append", a, "item", p)) ji_list_push(c, v.list, p[0]);
    return ji_none();
}
static struct ji_value l_index(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "index", a, "item", p)) return v;
    for (size_t i = 0; i < v.list->n && ji_tick(c, 1); i++) {
        if (ji_equal(c, ji_list_at(v.list, i), p[0])) {
            return ji_int((int64_t)i);
        }
    }
    return ji_fail(c, ST_INVALID, "index: not found");
}
static struct ji_value l_count(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    int64_t n = 0;
    if (!ji_bind(c, "count", a, "item", p)) return v;
    for (size_t i = 0; i < v.list->n && ji_tick(c, 1); i++) {
        n += ji_equal(c, ji_list_at(v.list, i), p[0]);
    }
    return ji_int(n);
}

static struct ji_value loop_cycle(struct ji *c, struct ji_value v,
                                  const struct ji_args *a)
{
    const struct ji_value *i = ji_dict_find_text(c, v.dict, "index0");
    if (!i || a->n_pos == 0) {
        return ji_fail(c, ST_INVALID, "loop.cycle needs values");
    }
    return a->pos[(size_t)i->i % a->n_pos];
}

/* --------------------------------------------------------------- tables */

static const struct method of_string[] = {
    {"strip", s_strip},
    {"lstrip", s_lstrip},
    {"rstrip", s_rstrip},
    {"startswith", s_startswith},
    {"endswith", s_endswith},
    {"removeprefix", s_removeprefix},
    {"removesuffix", s_removesuffix},
    {"lower", s_lower},
    {"upper", s_upper},
    {"title", s_title},
    {"capitalize", s_capitalize},
    {"replace", s_replace},
    {"join", s_join},
    {"split", s_split},
    {"rsplit", s_rsplit},
    {"splitlines", s_splitlines},
    {"find", s_find},
    {"index", s_index},
    {"count", s_count},
    {"isdigit", s_isdigit},
    {"isalpha", s_isalpha},
    {"isalnum", s_isalnum},
    {"isspace", s_isspace},
    {"format", s_format},
    {NULL, NULL},
};
static const struct method of_dict[] = {
    {"items", d_items}, {"keys", d_keys}, {"values", d_values},
    {"get", d_get},     {"copy", d_copy}, {NULL, NULL},
};
static const struct method of_list[] = {
    {"append", l_append},
    {"index", l_index},
    {"count", l_count},
    {NULL, NULL},
};
static const struct method of_loop[] = {{"cycle", loop_cycle}, {NULL, NULL}};

struct ji_value ji_find_method(struct ji *c, struct ji_value v,
                               const struct ji_str *name)
{
    const struct method *m = NULL;
    if (v.kind == JI_STRING) m = of_string;
    if (v.kind == JI_DICT) m = of_dict;
    if (v.kind == JI_LIST) m = of_list;
    if (v.kind == JI_NAMESPACE && v.dict->loop) m = of_loop;
    for (; m && m->name; m++) {
        if (!ji_str_is(name, m->name)) continue;
        struct ji_bound *b = ji_alloc(c, sizeof *b);
        if (!b) return ji_undefined(NULL);
        *b = (struct ji_bound){.method = m, .v = v};
        return (struct ji_value){.kind = JI_METHOD, .bound = b};
    }
    return (struct ji_value){.kind = JI_ABSENT};
}

struct ji_value ji_call_method(struct ji *c, const struct ji_bound *m,
                               const struct ji_args *a)
{
    return m->method->call(c, m->v, a);
}

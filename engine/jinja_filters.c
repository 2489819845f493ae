/* jinja_filters.c - filters of text and numbers; jinja_filters_seq.c has
 * those of lists and mappings. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "engine/jinja_internal.h"

static struct ji_value none_of(struct ji *c, const char *what,
                               const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    (void)ji_bind(c, what, a, "", p);
    return ji_undefined(NULL);
}

static struct ji_value f_trim(struct ji *c, struct ji_value v,
                              const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "trim", a, "|chars", p)) return v;
    const struct ji_str *chars = NULL;
    if (p[0].kind != JI_ABSENT && p[0].kind != JI_NONE) {
        chars = ji_want_str(c, "trim", p[0]);
    }
    const struct ji_str *s = ji_to_str(c, v);
    return s ? ji_string(ji_strip(c, s, chars, true, true)) : v;
}

static struct ji_value recased(struct ji *c, struct ji_value v,
                               const struct ji_args *a, const char *what,
                               enum ji_case how)
{
    none_of(c, what, a);
    const struct ji_str *s = ji_to_str(c, v);
    return s ? ji_string(ji_recase(c, s, how)) : v;
}
static struct ji_value f_lower(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    return recased(c, v, a, "lower", CASE_LOWER);
}
static struct ji_value f_upper(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    return recased(c, v, a, "upper", CASE_UPPER);
}
static struct ji_value f_capitalize(struct ji *c, struct ji_value v,
                                    const struct ji_args *a)
{
    return recased(c, v, a, "capitalize", CASE_CAPITAL);
}
/* The filter, unlike the method, begins words behind spaces and brackets
 * only: "it's" stays one. */
static struct ji_value f_title(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    none_of(c, "title", a);
    const struct ji_str *s = ji_to_str(c, v);
    struct ji_out o = {0};
    size_t from = 0;
    for (size_t i = 0; s && i <= s->len && c->st == ST_OK; i++) {
        const bool ends = i == s->len || strchr("-({[<", s->data[i]) ||
                          ji_is_space((unsigned char)s->data[i]);
        if (!ends || (i < s->len && !s->data[i])) continue;
        const struct ji_str *word = ji_str_slice(c, s, from, i);
        if (word) ji_put_str(c, &o, ji_recase(c, word, CASE_CAPITAL));
        if (i < s->len) ji_put_slice(c, &o, s, i, i + 1);
        from = i + 1;
    }
    return ji_out_value(c, &o);
}

static struct ji_value f_replace(struct ji *c, struct ji_value v,
                                 const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    int64_t count = -1;
    if (!ji_bind(c, "replace", a, "old new|count", p)) return v;
    if (p[2].kind != JI_ABSENT && p[2].kind != JI_NONE) {
        if (!ji_want_int(c, "replace", p[2], &count)) return v;
    }
    const struct ji_str *s = ji_to_str(c, v), *from = ji_to_str(c, p[0]);
    const struct ji_str *to = ji_to_str(c, p[1]);
    return c->st == ST_OK ? ji_string(ji_replace(c, s, from, to, count)) : v;
}

static struct ji_value f_string(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    none_of(c, "string", a);
    return ji_string(ji_to_str(c, v));
}

static struct ji_value f_escape(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    static const char from[] = "&<>'\"";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    none_of(c, "escape", a);
    const struct ji_str *s = ji_to_str(c, v);
    struct ji_out o = {0};
    for (size_t i = 0; s && i < s->len && c->st == ST_OK; i++) {
        const char *special = s->data[i] ? strchr(from, s->data[i]) : NULL;
        if (special) {
            const char *text = to[special - from];
            ji_put(c, &o, text, strlen(text), ji_str_mark(s, i));
        } else {
            ji_put_slice(c, &o, s, i, i + 1);
        }
    }
    return ji_out_value(c, &o);
}

static struct ji_value f_default(struct ji *c, struct ji_value v,
                                 const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "default", a, "|default_value boolean", p)) return v;
    const bool missing =
        v.kind == JI_UNDEFINED || (ji_truth(p[1]) && !ji_truth(v));
    if (!missing) return v;
    return p[0].kind == JI_ABSENT ? ji_text(c, "") : p[0];
}

static struct ji_value f_tojson(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    struct ji_json_style style = {.indent = -1};
    if (!ji_bind(c, "tojson", a, "|indent ensure_ascii separators sort_keys",
                 p)) {
        return v;
    }
    /* Hugging Face's order: ensure_ascii is first among positional ones */
    if (a->n_pos > 0) {
        style.ascii = ji_truth(p[0]);
        p[0] = a->n_pos > 1 ? a->pos[1] : (struct ji_value){.kind = JI_ABSENT};
        for (size_t i = 0; i < a->n_kw; i++) {
            if (ji_str_is(a->kw[i].name, "indent")) p[0] = a->kw[i].value;
        }
    } else {
        style.ascii = ji_truth(p[1]);
    }
    style.sort_keys = ji_truth(p[3]);
    if (p[0].kind != JI_ABSENT && p[0].kind != JI_NONE) {
        if (!ji_want_int(c, "tojson", p[0], &style.indent)) return v;
        if (style.indent < 0) style.indent = 0;
        if (style.indent > 64) {
            return ji_fail(c, ST_TOO_LARGE, "tojson: indent is over 64");
        }
    }
    if (p[2].kind == JI_LIST && p[2].list->n == 2) {
        style.item_separator =
            ji_want_str(c, "tojson", ji_list_at(p[2].list, 0));
        style.key_separator =
            ji_want_str(c, "tojson", ji_list_at(p[2].list, 1));
    }
    struct ji_out o = {0};
    ji_print_json(c, &o, v, &style);
    return ji_out_value(c, &o);
}

static struct ji_value f_indent(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    if (!ji_bind(c, "indent", a, "|width first blank", p)) return v;
    const struct ji_str *s = ji_to_str(c, v);
    struct ji_value pad = ji_text(c, "    ");
    if (p[0].kind == JI_STRING) {
        pad = p[0];
    } else if (p[0].kind != JI_ABSENT) {
        pad = ji_math(c, OP_MUL, ji_text(c, " "), p[0]);
    }
    struct ji_out o = {0};
    if (c->st != ST_OK || pad.kind != JI_STRING) return v;
    for (size_t i = 0; i < s->len && c->st == ST_OK;) {
        const char *nl = memchr(s->data + i, '\n', s->len - i);
        const size_t end = nl ? (size_t)(nl - s->data) : s->len;
        if (i == 0 ? ji_truth(p[1]) : (end > i || ji_truth(p[2]))) {
            ji_put_str(c, &o, pad.s);
        }
        ji_put_slice(c, &o, s, i, end + (nl != NULL));
        i = end + 1;
    }
    return ji_out_value(c, &o);
}

static struct ji_value f_wordcount(struct ji *c, struct ji_value v,
                                   const struct ji_args *a)
{
    none_of(c, "wordcount", a);
    const struct ji_str *s = ji_to_str(c, v);
    int64_t n = 0;
    bool word = false;
    for (size_t i = 0; s && i < s->len; i++) {
        const bool space = ji_is_space((unsigned char)s->data[i]);
        n += !space && !word;
        word = !space;
    }
    return ji_int(n);
}

static struct ji_value f_format(struct ji *c, struct ji_value v,
                                const struct ji_args *a)
{
    const struct ji_str *s = ji_to_str(c, v);
    if (a->n_kw) return ji_fail(c, ST_UNSUPPORTED, "format: named values");
    return s ? ji_string(ji_percent(c, s, a->pos, a->n_pos)) : v;
}

/* ------------------------------------------------------------- numbers */

/* Text as a number in a buffer: trimmed, without Python's underscores. */
static bool number_text(struct ji *c, struct ji_value v, char text[64])
{
    const struct ji_str *s = ji_strip(c, v.s, NULL, true, true);
    if (!s || s->len == 0 || s->len > 63) return false;
    size_t n = 0;
    for (size_t i = 0; i < s->len; i++) {
        const char d = s->data[i];
        if (d == '_' && i > 0 && i + 1 < s->len && s->data[i - 1] != '_') {
            continue;
        }
        if (!d || !strchr("0123456789+-.eEinfatyINFATYxXabcdABCDoO", d)) {
            return false;
        }
        text[n++] = d;
    }
    text[n] = '\0';
    return true;
}

static bool text_float(struct ji *c, struct ji_value v, double *out)
{
    char text[64], *end;
    if (!number_text(c, v, text) || strpbrk(text, "xX")) return false;
    *out = strtod(text, &end);
    return *end == '\0';
}

static bool float_int(double f, int64_t *out)
{
    const double two_63 = 9223372036854775808.0;
    if (!(f > -two_63 && f < two_63)) return false;
    *out = (int64_t)f;
    return true;
}

static struct ji_value f_int(struct ji *c, struct ji_value v,
                             const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    int64_t base = 10, i = 0;
    double f;
    if (!ji_bind(c, "int", a, "|default base", p)) return v;
    if (p[1].kind != JI_ABSENT && !ji_want_int(c, "int", p[1], &base)) return v;
    if (v.kind == JI_UNDEFINED) return ji_math(c, OP_ADD, v, ji_int(0));
    bool ok = v.kind == JI_INT || v.kind == JI_BOOL;
    if (ok) i = v.kind == JI_INT ? v.i : v.b;
    if (v.kind == JI_FLOAT) ok = float_int(v.f, &i);
    if (v.kind == JI_STRING) {
        char text[64], *end;
        ok =
            (base == 0 || (base >= 2 && base <= 36)) && number_text(c, v, text);
        if (ok) {
            errno = 0;
            i = strtoll(text, &end, (int)base);
            ok = *end == '\0' && errno == 0;
        }
        if (!ok) ok = text_float(c, v, &f) && float_int(f, &i);
    }
    if (!ok) return p[0].kind == JI_ABSENT ? ji_int(0) : p[0];
    struct ji_value r = ji_int(i);
    r.input = v.kind == JI_STRING ? ji_str_has_input(v.s) : v.input;
    return r;
}

static struct ji_value f_float(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    double f = 0;
    if (!ji_bind(c, "float", a, "|default", p)) return v;
    if (v.kind == JI_UNDEFINED) return ji_math(c, OP_ADD, v, ji_int(0));
    bool ok = ji_is_number(v);
    if (ok) f = ji_number(v);
    if (v.kind == JI_STRING) ok = text_float(c, v, &f);
    if (!ok) return p[0].kind == JI_ABSENT ? ji_float(0) : p[0];
    struct ji_value r = ji_float(f);
    r.input = v.kind == JI_STRING ? ji_str_has_input(v.s) : v.input;
    return r;
}

static struct ji_value f_abs(struct ji *c, struct ji_value v,
                             const struct ji_args *a)
{
    none_of(c, "abs", a);
    if (!ji_is_number(v)) {
        return ji_fail(c, ST_INVALID, "abs of %s", ji_kind_name(v));
    }
    if (v.kind == JI_FLOAT) {
        v.f = fabs(v.f);
        return v;
    }
    if (v.kind == JI_INT && v.i >= 0) return v;
    return v.kind == JI_INT ? ji_math(c, OP_SUB, ji_int(0), v) : ji_int(v.b);
}

static struct ji_value f_round(struct ji *c, struct ji_value v,
                               const struct ji_args *a)
{
    struct ji_value p[JI_PARAMS_MAX];
    int64_t digits = 0;
    if (!ji_bind(c, "round", a, "|precision method", p)) return v;
    if (p[0].kind != JI_ABSENT && !ji_want_int(c, "round", p[0], &digits)) {
        return v;
    }
    if (!ji_is_number(v) || digits < -300 || digits > 300) {
        return ji_fail(c, ST_INVALID, "round of %s", ji_kind_name(v));
    }
    const bool up = p[1].kind == JI_STRING && ji_str_is(p[1].s, "ceil");
    const bool down = p[1].kind == JI_STRING && ji_str_is(p[1].s, "floor");
    const double scale = pow(10, (double)digits);
    const double x = ji_number(v) * scale;
    struct ji_value r = ji_float((up     ? ceil(x)
                                  : down ? floor(x)
                                         : nearbyint(x)) /
                                 scale);
    r.input = v.input;
    /* Python leaves an integer one */
    if (!up && !down && v.kind != JI_FLOAT && digits >= 0) return v;
    return r;
}

/* --------------------------------------------------------------- table */

static struct ji_value f_safe(struct ji *c, struct ji_value v,
                              const struct ji_args *a)
{
    return f_string(c, v, a);
}

static const struct ji_filter filters[] = {
    {"trim", f_trim},
    {"lower", f_lower},
    {"upper", f_upper},
    {"capitalize", f_capitalize},
    {"title", f_title},
    {"replace", f_replace},
    {"string", f_string},
    {"safe", f_safe},
    {"escape", f_escape},
    {"e", f_escape},
    {"default", f_default},
    {"d", f_default},
    {"tojson", f_tojson},
    {"indent", f_indent},
    {"wordcount", f_wordcount},
    {"format", f_format},
    {"int", f_int},
    {"float", f_float},
    {"abs", f_abs},
    {"round", f_round},
    {NULL, NULL},
};

struct ji_value ji_filter(struct ji *c, const struct ji_str *name,
                          struct ji_value v, const struct ji_args *a)
{
    const struct ji_filter *const tables[] = {filters, ji_filters_seq};
    if (!ji_tick(c, 1)) return v;
    for (size_t t = 0; t < COUNT_OF(tables); t++) {
        for (const struct ji_filter *f = tables[t]; f->name; f++) {
            if (ji_str_is(name, f->name)) return f->apply(c, v, a);
        }
    }
    return ji_fail(c, ST_UNSUPPORTED, "the filter \"%.*s\" is unknown",
                   JI_SHOW(name));
}

/* jinja_print.c - values as text: Python's str and repr, and json.dumps. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/jinja_internal.h"

static void put_text(struct ji *c, struct ji_out *o, const char *text,
                     bool input)
{
    ji_put(c, o, text, strlen(text), input);
}

/* The shortest digits that read back as the same number, as Python's repr
 * writes them: an exponent below 1e-4 and from 1e16 on. */
static void format_float(double f, char text[48])
{
    char digits[32];
    int exponent = 0;
    for (int n = 1; n <= 17; n++) {
        snprintf(digits, sizeof digits, "%.*e", n - 1, f);
        const double back = strtod(digits, NULL);
        if (back <= f && back >= f) break;
    }
    char *e = strchr(digits, 'e');
    if (e) {
        exponent = (int)strtol(e + 1, NULL, 10);
        *e = '\0';
    }
    if (exponent < -4 || exponent >= 16) {
        snprintf(text, 48, "%se%c%02d", digits, exponent < 0 ? '-' : '+',
                 abs(exponent));
        return;
    }
    const int n_digits =
        (int)strspn(digits + (digits[0] == '-'), "0123456789.");
    const int behind = n_digits - (n_digits > 1) - 1 - exponent;
    snprintf(text, 48, "%.*f", behind > 1 ? behind : 1, f);
}

static void put_number(struct ji *c, struct ji_out *o, struct ji_value v,
                       bool json)
{
    char text[48];
    if (v.kind == JI_INT) {
        snprintf(text, sizeof text, "%lld", (long long)v.i);
    } else if (isnan(v.f)) {
        snprintf(text, sizeof text, json ? "NaN" : "nan");
    } else if (isinf(v.f)) {
        snprintf(text, sizeof text, "%s%s", v.f < 0 ? "-" : "",
                 json ? "Infinity" : "inf");
    } else {
        format_float(v.f, text);
    }
    put_text(c, o, text, v.input);
}

/* Python escapes what has no glyph; of those, the ones that occur. */
static bool is_printable(uint32_t p)
{
    return !(p < 0x20 || (p >= 0x7f && p <= 0xa0) || p == 0xad ||
             (p != 0x20 && ji_is_space(p)) || (p >= 0x200b && p <= 0x200f) ||
             (p >= 0x202a && p <= 0x202e) || (p >= 0x2060 && p <= 0x206f) ||
             (p >= 0xe000 && p <= 0xf8ff) || p == 0xfeff);
}

static void repr_char(uint32_t p, char text[16])
{
    if (p == '\n' || p == '\r' || p == '\t') {
        snprintf(text, 16, "\\%c", p == '\n' ? 'n' : p == '\r' ? 'r' : 't');
    } else if (p < 0x100) {
        snprintf(text, 16, "\\x%02x", p);
    } else {
        snprintf(text, 16, p < 0x10000 ? "\\u%04x" : "\\U%08x", p);
    }
}

static void repr_str(struct ji *c, struct ji_out *o, const struct ji_str *s,
                     bool input)
{
    const bool single = s->len && memchr(s->data, '\'', s->len);
    const bool both = single && memchr(s->data, '"', s->len);
    const char quote = single && !both ? '"' : '\'';
    ji_put(c, o, &quote, 1, input);
    for (size_t at = 0; at < s->len && c->st == ST_OK;) {
        const size_t n = ji_char_len(s->data + at, s->len - at);
        const uint32_t p = ji_decode(s->data + at, n);
        const bool mark = ji_str_mark(s, at);
        char text[16];
        if (p == (unsigned char)quote || p == '\\') {
            ji_put(c, o, "\\", 1, mark);
            ji_put_slice(c, o, s, at, at + n);
        } else if (is_printable(p)) {
            ji_put_slice(c, o, s, at, at + n);
        } else {
            repr_char(p, text);
            put_text(c, o, text, mark);
        }
        at += n;
    }
    ji_put(c, o, &quote, 1, input);
}

static void put_repr(struct ji *c, struct ji_out *o, struct ji_value v,
                     bool input);

static void repr_list(struct ji *c, struct ji_out *o, struct ji_value v)
{
    const bool in = v.input;
    ji_put(c, o, v.list->tuple ? "(" : "[", 1, in);
    for (size_t i = 0; i < v.list->n && c->st == ST_OK; i++) {
        if (i) ji_put(c, o, ", ", 2, in);
        put_repr(c, o, ji_list_at(v.list, i), in);
    }
    if (v.list->tuple && v.list->n == 1) ji_put(c, o, ",", 1, in);
    ji_put(c, o, v.list->tuple ? ")" : "]", 1, in);
}

static void repr_dict(struct ji *c, struct ji_out *o, struct ji_value v)
{
    const bool in = v.input;
    ji_put(c, o, "{", 1, in);
    for (size_t i = 0; i < v.dict->n && c->st == ST_OK; i++) {
        if (i) ji_put(c, o, ", ", 2, in);
        put_repr(c, o, v.dict->e[i].key, in);
        ji_put(c, o, ": ", 2, in);
        put_repr(c, o, v.dict->e[i].value, in);
    }
    ji_put(c, o, "}", 1, in);
}

/* What has no text of its own. */
static void put_opaque(struct ji *c, struct ji_out *o, struct ji_value v)
{
    ji_put(c, o, "<", 1, false);
    put_text(c, o, ji_kind_name(v), false);
    ji_put(c, o, ">", 1, false);
}

/* input: quotes of a string in an input list are marked too */
static void put_repr(struct ji *c, struct ji_out *o, struct ji_value v,
                     bool input)
{
    if (!ji_tick(c, 1) || !ji_enter(c)) return;
    switch (v.kind) {
    case JI_UNDEFINED:
        put_text(c, o, "Undefined", false);
        break;
    case JI_NONE:
        put_text(c, o, "None", v.input);
        break;
    case JI_BOOL:
        put_text(c, o, v.b ? "True" : "False", v.input);
        break;
    case JI_INT:
    case JI_FLOAT:
        put_number(c, o, v, false);
        break;
    case JI_STRING:
        repr_str(c, o, v.s, input);
        break;
    case JI_LIST:
        repr_list(c, o, v);
        break;
    case JI_DICT:
        repr_dict(c, o, v);
        break;
    case JI_ABSENT:
    case JI_NAMESPACE:
    case JI_MACRO:
    case JI_GLOBAL:
    case JI_METHOD:
        put_opaque(c, o, v);
        break;
    }
    ji_leave(c);
}

void ji_print(struct ji *c, struct ji_out *o, struct ji_value v)
{
    if (v.kind == JI_STRING) {
        ji_put_str(c, o, v.s);
    } else if (v.kind != JI_UNDEFINED) {
        put_repr(c, o, v, v.input);
    }
}

const struct ji_str *ji_to_str(struct ji *c, struct ji_value v)
{
    if (v.kind == JI_STRING) return v.s;
    struct ji_out o = {0};
    ji_print(c, &o, v);
    const struct ji_value s = ji_out_value(c, &o);
    return c->st == ST_OK ? s.s : NULL;
}

/* ---------------------------------------------------------------- JSON */

static void json_escape(uint32_t p, char text[16])
{
    static const char from[] = "\b\t\n\f\r", to[] = "btnfr";
    const char *known = p ? strchr(from, (int)p) : NULL;
    if (p == '"' || p == '\\') {
        snprintf(text, 16, "\\%c", (int)p);
    } else if (p < 0x80 && known) {
        snprintf(text, 16, "\\%c", to[known - from]);
    } else if (p < 0x10000) {
        snprintf(text, 16, "\\u%04x", p);
    } else {
        snprintf(text, 16, "\\u%04x\\u%04x", 0xd7c0 + (p >> 10),
                 0xdc00 + (p & 0x3ff));
    }
}

static void json_str(struct ji *c, struct ji_out *o, const struct ji_str *s,
                     const struct ji_json_style *style, bool input)
{
    ji_put(c, o, "\"", 1, input);
    size_t plain = 0; /* up to here it is written */
    for (size_t at = 0; at < s->len && c->st == ST_OK;) {
        const size_t n = ji_char_len(s->data + at, s->len - at);
        const uint32_t p = ji_decode(s->data + at, n);
        if (p < 0x20 || p == '"' || p == '\\' || (style->ascii && p > 0x7e)) {
            char text[16];
            ji_put_slice(c, o, s, plain, at);
            json_escape(p, text);
            put_text(c, o, text, ji_str_mark(s, at));
            plain = at + n;
        }
        at += n;
    }
    if (c->st == ST_OK) ji_put_slice(c, o, s, plain, s->len);
    ji_put(c, o, "\"", 1, input);
}

static void json_value(struct ji *c, struct ji_out *o, struct ji_value v,
                       const struct ji_json_style *style, bool input,
                       int64_t level);

static void json_line(struct ji *c, struct ji_out *o,
                      const struct ji_json_style *style, bool input,
                      int64_t level)
{
    if (style->indent < 0) return;
    ji_put(c, o, "\n", 1, input);
    for (int64_t i = 0; i < level * style->indent && ji_tick(c, 1); i++) {
        ji_put(c, o, " ", 1, input);
    }
}

static void json_comma(struct ji *c, struct ji_out *o,
                       const struct ji_json_style *style, bool input)
{
    if (style->item_separator) {
        ji_put_str(c, o, style->item_separator);
    } else {
        put_text(c, o, style->indent < 0 ? ", " : ",", input);
    }
}

static void json_list(struct ji *c, struct ji_out *o, struct ji_value v,
                      const struct ji_json_style *style, int64_t level)
{
    ji_put(c, o, "[", 1, v.input);
    for (size_t i = 0; i < v.list->n && c->st == ST_OK; i++) {
        if (i) json_comma(c, o, style, v.input);
        json_line(c, o, style, v.input, level + 1);
        json_value(c, o, ji_list_at(v.list, i), style, v.input, level + 1);
    }
    if (v.list->n) json_line(c, o, style, v.input, level);
    ji_put(c, o, "]", 1, v.input);
}

static void json_key(struct ji *c, struct ji_out *o, struct ji_value key,
                     const struct ji_json_style *style, bool input)
{
    if (key.kind == JI_STRING) {
        json_str(c, o, key.s, style, input);
        return;
    }
    ji_put(c, o, "\"", 1, input);
    json_value(c, o, key, style, input, 0);
    ji_put(c, o, "\"", 1, input);
}

/* A copy of the keys in order. */
static struct ji_dict *sorted(struct ji *c, const struct ji_dict *d)
{
    struct ji_dict *s = ji_alloc(c, sizeof *s);
    struct ji_entry *e = ji_array(c, d->n, sizeof *e);
    if (!s || !e) return NULL;
    for (size_t i = 0; i < d->n; i++) {
        size_t to = i;
        for (; to > 0 && ji_compare(c, e[to - 1].key, d->e[i].key) > 0; to--) {
            e[to] = e[to - 1];
        }
        e[to] = d->e[i];
    }
    *s = (struct ji_dict){.e = e, .n = d->n, .cap = d->n};
    return c->st == ST_OK ? s : NULL;
}

static void json_dict(struct ji *c, struct ji_out *o, struct ji_value v,
                      const struct ji_json_style *style, int64_t level)
{
    const struct ji_dict *d = style->sort_keys ? sorted(c, v.dict) : v.dict;
    if (!d) return;
    ji_put(c, o, "{", 1, v.input);
    for (size_t i = 0; i < d->n && c->st == ST_OK; i++) {
        if (i) json_comma(c, o, style, v.input);
        json_line(c, o, style, v.input, level + 1);
        json_key(c, o, d->e[i].key, style, v.input);
        if (style->key_separator) {
            ji_put_str(c, o, style->key_separator);
        } else {
            put_text(c, o, ": ", v.input);
        }
        json_value(c, o, d->e[i].value, style, v.input, level + 1);
    }
    if (d->n) json_line(c, o, style, v.input, level);
    ji_put(c, o, "}", 1, v.input);
}

static void json_value(struct ji *c, struct ji_out *o, struct ji_value v,
                       const struct ji_json_style *style, bool input,
                       int64_t level)
{
    if (!ji_tick(c, 1) || !ji_enter(c)) return;
    switch (v.kind) {
    case JI_NONE:
        put_text(c, o, "null", v.input);
        break;
    case JI_BOOL:
        put_text(c, o, v.b ? "true" : "false", v.input);
        break;
    case JI_INT:
    case JI_FLOAT:
        put_number(c, o, v, true);
        break;
    case JI_STRING:
        json_str(c, o, v.s, style, input);
        break;
    case JI_LIST:
        json_list(c, o, v, style, level);
        break;
    case JI_DICT:
        json_dict(c, o, v, style, level);
        break;
    case JI_UNDEFINED:
    case JI_ABSENT:
    case JI_NAMESPACE:
    case JI_MACRO:
    case JI_GLOBAL:
    case JI_METHOD:
        ji_fail(c, ST_INVALID, "tojson: %s has no JSON", ji_kind_name(v));
        break;
    }
    ji_leave(c);
}

void ji_print_json(struct ji *c, struct ji_out *o, struct ji_value v,
                   const struct ji_json_style *style)
{
    json_value(c, o, v, style, v.input, 0);
}

/* jinja_lex.c - a template's source to tokens; white space control is here. */
#include <errno.h>
#include <stdlib.h>

#include "engine/jinja_internal.h"

struct lexer {
    struct ji *c;
    const char *p, *end;
    struct ji_token *token;
    size_t n, cap;
    uint32_t line;
    bool line_starts; /* the next text begins a line of the source */
};

static struct ji_token *push(struct lexer *x, enum ji_token_type type)
{
    struct ji_token *t =
        ji_grow(x->c, x->token, x->n, &x->cap, sizeof *x->token);
    if (!t) return NULL;
    x->token = t;
    t += x->n++;
    *t = (struct ji_token){.type = type, .line = x->line};
    x->c->line = x->line;
    return t;
}

static bool at(const struct lexer *x, const char *text)
{
    const size_t n = strlen(text);
    return (size_t)(x->end - x->p) >= n && memcmp(x->p, text, n) == 0;
}

static void advance(struct lexer *x, const char *to)
{
    for (; x->p < to; x->p++) x->line += *x->p == '\n';
}

/* Where white space that ends at `to` begins. */
static const char *space_before(const char *from, const char *to)
{
    const char *kept = from;
    for (const char *p = from; p < to;) {
        const size_t n = ji_char_len(p, (size_t)(to - p));
        if (!ji_is_space(ji_decode(p, n))) kept = p + n;
        p += n;
    }
    return kept;
}

static const char *skip_space(const char *p, const char *end)
{
    while (p < end) {
        const size_t n = ji_char_len(p, (size_t)(end - p));
        if (!ji_is_space(ji_decode(p, n))) break;
        p += n;
    }
    return p;
}

/* Text up to `to`, where a tag begins with this sign: '-' strips all white
 * space before it, '+' none, and otherwise a block's own indentation goes. */
static void push_text(struct lexer *x, const char *to, char sign, bool block)
{
    const char *from = x->p, *last = to;
    if (sign == '-') {
        last = space_before(from, to);
    } else if (sign != '+' && block) {
        const char *line = to;
        while (line > from && line[-1] != '\n') line--;
        if ((line > from || x->line_starts) && skip_space(line, to) == to) {
            last = line;
        }
    }
    if (last > from) {
        struct ji_token *t = push(x, T_TEXT);
        if (t) t->text = ji_str_new(x->c, from, (size_t)(last - from), false);
    }
    advance(x, to);
}

/* Behind a tag's end that was written with this sign. */
static void end_tag(struct lexer *x, char sign, bool block)
{
    const char *from = x->p;
    if (sign == '-') {
        advance(x, skip_space(x->p, x->end));
    } else if (sign != '+' && block && x->p < x->end && *x->p == '\n') {
        advance(x, x->p + 1);
    }
    x->line_starts = x->p > from && x->p[-1] == '\n';
}

static const char *find(const char *p, const char *end, const char *what)
{
    const size_t n = strlen(what);
    for (; (size_t)(end - p) >= n; p++) {
        if (memcmp(p, what, n) == 0) return p;
    }
    return NULL;
}

static void lex_comment(struct lexer *x)
{
    const char *close = find(x->p + 2, x->end, "#}");
    if (!close) {
        x->c->line = x->line;
        ji_fail(x->c, ST_INVALID, "a comment {# has no end #}");
        return;
    }
    const char sign = close > x->p + 2 ? close[-1] : 0;
    advance(x, close + 2);
    end_tag(x, sign, true);
}

/* {% NAME %}, with or without signs, at p: the byte behind it, or NULL. */
static const char *bare_block(const char *p, const char *end, const char *name,
                              char *first, char *last)
{
    const size_t n = strlen(name);
    if (end - p < 2 || memcmp(p, "{%", 2) != 0) return NULL;
    p += 2;
    *first = p < end && (*p == '-' || *p == '+') ? *p++ : 0;
    p = skip_space(p, end);
    if ((size_t)(end - p) < n || memcmp(p, name, n) != 0) return NULL;
    p = skip_space(p + n, end);
    *last = p < end && (*p == '-' || *p == '+') ? *p++ : 0;
    if (end - p < 2 || memcmp(p, "%}", 2) != 0) return NULL;
    return p + 2;
}

/* True if a raw block begins here; it is then read to its end. */
static bool lex_raw(struct lexer *x)
{
    char first, last, ignored;
    const char *p = bare_block(x->p, x->end, "raw", &ignored, &last);
    if (!p) return false;
    const uint32_t line = x->line;
    advance(x, p);
    if (last == '-') advance(x, skip_space(x->p, x->end));
    x->line_starts = x->p[-1] == '\n';
    for (p = x->p; p < x->end; p++) {
        const char *behind = bare_block(p, x->end, "endraw", &first, &last);
        if (!behind) continue;
        push_text(x, p, first, true);
        advance(x, behind);
        end_tag(x, last, true);
        return true;
    }
    x->c->line = line;
    ji_fail(x->c, ST_INVALID, "{%% raw %%} has no {%% endraw %%}");
    return true;
}

/* ------------------------------------------------------------ in a tag */

static int hex(char h)
{
    if (h >= '0' && h <= '9') return h - '0';
    if (h >= 'a' && h <= 'f') return h - 'a' + 10;
    if (h >= 'A' && h <= 'F') return h - 'A' + 10;
    return -1;
}

/* The escape at p (behind the backslash): bytes to out, bytes read. */
static size_t unescape(struct ji *c, const char *p, size_t n, char out[4],
                       size_t *n_out)
{
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    const char *simple = *p ? strchr(from, *p) : NULL;
    *n_out = 1;
    if (simple) {
        out[0] = to[simple - from];
        return 1;
    }
    uint32_t point = 0;
    size_t used = 0;
    if (*p == '\n') {
        *n_out = 0;
        return 1;
    }
    if (*p >= '0' && *p <= '7') {
        while (used < 3 && used < n && p[used] >= '0' && p[used] <= '7') {
            point = 8 * point + (uint32_t)(p[used++] - '0');
        }
    } else if (*p == 'x' || *p == 'u' || *p == 'U') {
        const size_t digits = *p == 'x' ? 2 : *p == 'u' ? 4 : 8;
        for (used = 1; used <= digits; used++) {
            const int h = used < n ? hex(p[used]) : -1;
            if (h < 0 || point > 0xfffffff) {
                ji_fail(c, ST_INVALID, "\"\\%c\" needs %zu hex digits", *p,
                        digits);
                return 1;
            }
            point = 16 * point + (uint32_t)h;
        }
        if (point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) {
            ji_fail(c, ST_INVALID, "U+%04X is not a character", point);
            return 1;
        }
    } else { /* as in Python, an unknown escape stands for itself */
        out[0] = '\\';
        return 0;
    }
    *n_out = ji_encode(point, out);
    return used;
}

static void lex_string(struct lexer *x)
{
    struct ji *c = x->c;
    const char quote = *x->p;
    struct ji_token *t = push(x, T_STRING);
    struct ji_out o = {0};
    const char *p = x->p + 1;
    while (p < x->end && *p != quote && c->st == ST_OK) {
        if (*p != '\\' || x->end - p < 2) {
            const char *run = p;
            while (p < x->end && *p != quote && (p == run || *p != '\\')) p++;
            ji_put(c, &o, run, (size_t)(p - run), false);
            continue;
        }
        char bytes[4];
        size_t n;
        p += 1 + unescape(c, p + 1, (size_t)(x->end - p - 1), bytes, &n);
        ji_put(c, &o, bytes, n, false);
    }
    if (p >= x->end) {
        ji_fail(c, ST_INVALID, "a string has no closing %c", quote);
        return;
    }
    if (t) t->text = ji_out_value(c, &o).s;
    advance(x, p + 1);
}

static bool is_digit(char d)
{
    return d >= '0' && d <= '9';
}
static bool is_name_start(char d)
{
    return (d >= 'a' && d <= 'z') || (d >= 'A' && d <= 'Z') || d == '_' ||
           (unsigned char)d >= 0x80;
}

#define NUMBER_MAX 64

static const char *copy_digits(const char *p, const char *end, char *to,
                               size_t *n)
{
    while (p < end &&
           (is_digit(*p) || (*p == '_' && p + 1 < end && is_digit(p[1])))) {
        if (*p != '_' && *n < NUMBER_MAX - 1) to[(*n)++] = *p;
        p++;
    }
    return p;
}

static void lex_number(struct lexer *x)
{
    char text[NUMBER_MAX] = {0};
    size_t n = 0;
    struct ji *c = x->c;
    const char *p = copy_digits(x->p, x->end, text, &n);
    bool is_float = false;
    if (x->end - p >= 2 && *p == '.' && is_digit(p[1])) {
        is_float = true;
        if (n < NUMBER_MAX - 1) text[n++] = '.';
        p = copy_digits(p + 1, x->end, text, &n);
    }
    const char *e = p;
    if (e < x->end && (*e == 'e' || *e == 'E')) {
        e++;
        if (e < x->end && (*e == '+' || *e == '-')) e++;
        if (e < x->end && is_digit(*e)) {
            is_float = true;
            for (; p < e; p++) {
                if (n < NUMBER_MAX - 1) text[n++] = *p;
            }
            p = copy_digits(p, x->end, text, &n);
        }
    }
    struct ji_token *t = push(x, is_float ? T_FLOAT : T_INT);
    if (!t) return;
    errno = 0;
    if (is_float) {
        t->value = ji_float(strtod(text, NULL));
    } else {
        t->value = ji_int(strtoll(text, NULL, 10));
    }
    if (n == NUMBER_MAX - 1 || (errno && !is_float) ||
        (p < x->end && is_name_start(*p))) {
        ji_fail(c, ST_INVALID, "\"%s\" begins no number that fits", text);
    }
    advance(x, p);
}

/* An operator; brackets are counted, since "}}" closes dictionaries too. */
static void lex_operator(struct lexer *x, uint32_t *open)
{
    static const char two[][3] = {"//", "**", "==", "!=", ">=", "<="};
    static const char one[] = "+-/*%~[](){}><=.:|,";
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(two) && !n; i++) {
        if (at(x, two[i])) n = 2;
    }
    if (!n && *x->p && strchr(one, *x->p)) n = 1;
    struct ji_token *t = push(x, T_OP);
    if (!n) {
        ji_fail(x->c, ST_INVALID, "\"%.1s\" has no meaning here", x->p);
        return;
    }
    if (!t) return;
    memcpy(t->op, x->p, n);
    if (strchr("([{", *x->p)) ++*open;
    if (strchr(")]}", *x->p) && *open) --*open;
    x->p += n;
}

/* Behind "{%" or "{{" up to and with its end. */
static void lex_tag(struct lexer *x, bool block)
{
    const char *close = block ? "%}" : "}}";
    const uint32_t line = x->line;
    uint32_t open = 0;
    while (x->c->st == ST_OK) {
        advance(x, skip_space(x->p, x->end));
        if (x->p == x->end) {
            x->c->line = line;
            ji_fail(x->c, ST_INVALID, "%s has no end %s", block ? "{%" : "{{",
                    close);
            return;
        }
        const char sign = *x->p == '-' || (block && *x->p == '+') ? *x->p : 0;
        const char *p = x->p + (sign != 0);
        if (!open && x->end - p >= 2 && memcmp(p, close, 2) == 0) {
            push(x, block ? T_BLOCK_END : T_PRINT_END);
            advance(x, p + 2);
            end_tag(x, sign, block);
            return;
        }
        if (*x->p == '"' || *x->p == '\'') {
            lex_string(x);
        } else if (is_digit(*x->p)) {
            lex_number(x);
        } else if (is_name_start(*x->p)) {
            for (p = x->p; p < x->end && (is_name_start(*p) || is_digit(*p));) {
                p++;
            }
            struct ji_token *t = push(x, T_NAME);
            if (t) {
                t->text = ji_str_new(x->c, x->p, (size_t)(p - x->p), false);
            }
            x->p = p;
        } else {
            lex_operator(x, &open);
        }
    }
}

/* Python's universal newlines become \n, and the last one goes. */
static const struct ji_str *normalise(struct ji *c, const char *source,
                                      size_t n)
{
    char *text = ji_alloc(c, n + 1);
    if (!text) return NULL;
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r') {
            text[len++] = '\n';
            if (i + 1 < n && source[i + 1] == '\n') i++;
        } else {
            text[len++] = source[i];
        }
    }
    if (len && text[len - 1] == '\n') len--;
    return ji_str_new(c, text, len, false);
}

static void lex_text(struct lexer *x)
{
    const char *p = x->p;
    while (p < x->end &&
           !(x->end - p >= 2 && *p == '{' && strchr("{%#", p[1]) && p[1])) {
        p++;
    }
    if (p == x->end) {
        push_text(x, p, '+', false);
        return;
    }
    const char kind = p[1];
    const char sign =
        x->end - p >= 3 && (p[2] == '-' || p[2] == '+') ? p[2] : 0;
    push_text(x, p, sign, kind != '{');
    if (kind == '#') {
        lex_comment(x);
    } else if (kind != '%' || !lex_raw(x)) {
        push(x, kind == '%' ? T_BLOCK_BEGIN : T_PRINT_BEGIN);
        advance(x, x->p + 2 + (sign != 0));
        lex_tag(x, kind == '%');
    }
}

const struct ji_token *ji_lex(struct ji *c, const char *source, size_t n)
{
    const struct ji_str *text = normalise(c, source, n);
    if (!text) return NULL;
    for (size_t i = 0; i < text->len;) {
        const size_t len = ji_char_len(text->data + i, text->len - i);
        c->line += text->data[i] == '\n';
        if (len == 1 && (unsigned char)text->data[i] >= 0x80) {
            ji_fail(c, ST_INVALID, "byte 0x%02x is not UTF-8",
                    (unsigned char)text->data[i]);
            return NULL;
        }
        i += len;
    }
    struct lexer x = {.c = c,
                      .p = text->data,
                      .end = text->data + text->len,
                      .line = 1,
                      .line_starts = true};
    while (x.p < x.end && c->st == ST_OK) lex_text(&x);
    push(&x, T_END);
    return x.token;
}

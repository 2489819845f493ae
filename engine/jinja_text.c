/* jinja_text.c - what filters and methods do to strings, marks included. */
#include "engine/jinja_internal.h"

static bool among(const struct ji_str *chars, const char *p, size_t n)
{
    if (!chars) return ji_is_space(ji_decode(p, n));
    for (size_t at = 0; at < chars->len;) {
        const size_t len = ji_char_len(chars->data + at, chars->len - at);
        if (len == n && memcmp(chars->data + at, p, n) == 0) return true;
        at += len;
    }
    return false;
}

const struct ji_str *ji_strip(struct ji *c, const struct ji_str *s,
                              const struct ji_str *chars, bool left, bool right)
{
    size_t begin = 0, end = 0;
    bool leading = left;
    const size_t cost = chars ? 1 + chars->len / 16 : 1;
    for (size_t at = 0; at < s->len && ji_tick(c, cost * (at % 16 == 0));) {
        const size_t n = ji_char_len(s->data + at, s->len - at);
        const bool strip = among(chars, s->data + at, n);
        if (leading && !strip) {
            begin = at;
            leading = false;
        }
        at += n;
        if (!strip || !right) end = at;
    }
    if (leading || end < begin) begin = end;
    if (leading && !right) begin = end = s->len;
    return ji_str_slice(c, s, begin, end);
}

size_t ji_find(struct ji *c, const struct ji_str *s, size_t from,
               const struct ji_str *what)
{
    const size_t nowhere = s->len + 1;
    if (what->len > s->len - from) return nowhere;
    if (what->len == 0) return from;
    const char *last = s->data + (s->len - what->len), *p = s->data + from;
    while (p <= last) {
        const char *hit = memchr(p, what->data[0], (size_t)(last - p) + 1);
        if (!ji_tick(c, hit ? 1 + (size_t)(hit - p) / 64 + what->len / 64
                            : (size_t)(last - p) / 64)) {
            return nowhere;
        }
        if (!hit) return nowhere;
        if (memcmp(hit, what->data, what->len) == 0) {
            return (size_t)(hit - s->data);
        }
        p = hit + 1;
    }
    return nowhere;
}

/* Python's: an empty `from` stands before each character and at the end. */
const struct ji_str *ji_replace(struct ji *c, const struct ji_str *s,
                                const struct ji_str *from,
                                const struct ji_str *to, int64_t count)
{
    struct ji_out o = {0};
    size_t at = 0;
    while (c->st == ST_OK && count != 0) {
        const size_t hit = ji_find(c, s, at, from);
        if (hit > s->len) break;
        ji_put_slice(c, &o, s, at, hit);
        ji_put_str(c, &o, to);
        if (count > 0) count--;
        at = hit + from->len;
        if (from->len) continue;
        if (at == s->len || !ji_tick(c, 1)) {
            at = s->len;
            break;
        }
        const size_t n = ji_char_len(s->data + at, s->len - at);
        ji_put_slice(c, &o, s, at, at + n);
        at += n;
    }
    if (c->st == ST_OK && at == 0) return s;
    if (c->st == ST_OK) ji_put_slice(c, &o, s, at, s->len);
    return ji_out_value(c, &o).s;
}

/* Simple case pairs of Latin, Greek and Cyrillic letters, which keep their
 * length in UTF-8; other scripts with case are left as they are. */
static uint32_t other_case(uint32_t p, bool upper)
{
    const struct {
        uint32_t first, last, distance; /* of the capitals; to the small */
    } range[] = {{'A', 'Z', 32},     {0xc0, 0xd6, 32},   {0xd8, 0xde, 32},
                 {0x391, 0x3a1, 32}, {0x3a3, 0x3ab, 32}, {0x410, 0x42f, 32},
                 {0x400, 0x40f, 80}};
    for (size_t i = 0; i < COUNT_OF(range); i++) {
        const uint32_t by = range[i].distance;
        if (!upper && p >= range[i].first && p <= range[i].last) return p + by;
        if (upper && p >= range[i].first + by && p <= range[i].last + by) {
            return p - by;
        }
    }
    if (p == (upper ? 0xffu : 0x178u)) return upper ? 0x178 : 0xff;
    /* pairs of neighbours: the even one is the capital */
    if ((p >= 0x100 && p <= 0x12f) || (p >= 0x14a && p <= 0x177) ||
        (p >= 0x460 && p <= 0x481) || (p >= 0x48a && p <= 0x4bf)) {
        return upper ? p & ~1u : p | 1u;
    }
    return p;
}

bool ji_is_letter(uint32_t p)
{
    return other_case(p, true) != p || other_case(p, false) != p;
}

const struct ji_str *ji_recase(struct ji *c, const struct ji_str *s,
                               enum ji_case how)
{
    struct ji_out o = {0};
    bool inside = false; /* of a word */
    if (!ji_tick(c, s->len / 8)) return NULL;
    for (size_t at = 0; at < s->len && c->st == ST_OK;) {
        const size_t n = ji_char_len(s->data + at, s->len - at);
        const bool whole = n > 1 || (unsigned char)s->data[at] < 0x80;
        const uint32_t p = ji_decode(s->data + at, n);
        const bool upper = how == CASE_UPPER || (how != CASE_LOWER && !inside);
        char text[4];
        if (whole && ji_is_letter(p)) {
            const size_t len = ji_encode(other_case(p, upper), text);
            ji_put(c, &o, text, len, ji_str_mark(s, at));
        } else {
            ji_put_slice(c, &o, s, at, at + n);
        }
        inside = how == CASE_CAPITAL || (whole && ji_is_letter(p));
        at += n;
    }
    return ji_out_value(c, &o).s;
}

const struct ji_str *ji_percent(struct ji *c, const struct ji_str *f,
                                const struct ji_value *v, size_t n)
{
    struct ji_out o = {0};
    size_t used = 0;
    for (size_t i = 0; i < f->len && c->st == ST_OK; i++) {
        if (f->data[i] != '%') {
            ji_put_slice(c, &o, f, i, i + 1);
            continue;
        }
        const char kind = ++i < f->len ? f->data[i] : 0;
        if (kind == '%') {
            ji_put_slice(c, &o, f, i, i + 1);
            continue;
        }
        if (kind != 's' && kind != 'd' && kind != 'i') {
            ji_fail(c, ST_UNSUPPORTED, "the conversion %%%c",
                    kind ? kind : ' ');
        } else if (used == n) {
            ji_fail(c, ST_INVALID, "too few values for a format");
        } else if (kind != 's' && v[used].kind != JI_INT) {
            ji_fail(c, ST_INVALID, "%%%c of %s", kind, ji_kind_name(v[used]));
        } else {
            ji_print(c, &o, v[used++]);
        }
    }
    if (c->st == ST_OK && used < n) {
        ji_fail(c, ST_INVALID, "too many values for a format");
    }
    return ji_out_value(c, &o).s;
}

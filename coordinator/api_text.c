/* api_text.c - JSON strings, base64, stop strings. */
#include "coordinator/api_text.h"

#include <string.h>

#include "common/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

static enum status quote_byte(struct buf *b, unsigned char c)
{
    switch (c) {
    case '"':
        return buf_append(b, "\\\"", 2);
    case '\\':
        return buf_append(b, "\\\\", 2);
    case '\n':
        return buf_append(b, "\\n", 2);
    case '\r':
        return buf_append(b, "\\r", 2);
    case '\t':
        return buf_append(b, "\\t", 2);
    default:
        return buf_printf(b, "\\u%04x", c);
    }
}

enum status api_quote(struct buf *b, const char *s, size_t n)
{
    if (n == 0) return buf_append(b, "\"\"", 2);
    enum status st = buf_append(b, "\"", 1);
    size_t plain = 0; /* [plain, i) goes as it is */
    for (size_t i = 0; st == ST_OK && i < n;) {
        const unsigned char c = (unsigned char)s[i];
        int len = utf8_sequence((const unsigned char *)s + i, n - i);
        if (len > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i += (size_t)len;
            continue;
        }
        st = buf_append(b, s + plain, i - plain);
        if (st == ST_OK) {
            st = len > 0 ? quote_byte(b, c)
                         : buf_append(b, REPLACEMENT, strlen(REPLACEMENT));
        }
        plain = ++i;
    }
    if (st == ST_OK) st = buf_append(b, s + plain, n - plain);
    if (st == ST_OK) st = buf_append(b, "\"", 1);
    return st;
}

json_t *api_string(const char *s, size_t n)
{
    struct buf b;
    buf_init(&b, SIZE_MAX / 2);
    json_t *value = NULL;
    if (api_quote(&b, s, n) == ST_OK) {
        value =
            json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    }
    buf_fini(&b);
    return value;
}

enum status api_base64(struct buf *b, const void *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = data;
    const size_t n_out = (n + 2) / 3 * 4;
    char *to;
    const enum status st = buf_reserve(b, n_out, &to);
    if (st != ST_OK) return st;
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const uint32_t v = (uint32_t)p[i] << 16 |
                           (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                           (left > 2 ? p[i + 2] : 0u);
        *to++ = digits[v >> 18];
        *to++ = digits[v >> 12 & 63];
        *to++ = left > 1 ? digits[v >> 6 & 63] : '=';
        *to++ = left > 2 ? digits[v & 63] : '=';
    }
    b->len += n_out;
    b->data[b->len] = '\0';
    return ST_OK;
}

static int append(const char *text, size_t n, void *arg)
{
    return buf_append(arg, text, n) == ST_OK ? 0 : -1;
}

enum status api_dump(struct buf *b, json_t *value)
{
    if (!value) return ST_NO_MEMORY;
    const int rc = json_dump_callback(value, append, b, JSON_COMPACT);
    json_decref(value);
    return rc == 0 ? ST_OK : ST_NO_MEMORY;
}

/* ------------------------------------------------------------- stops */

enum status stops_add(struct stops *s, const char *text, size_t n)
{
    if (n == 0 || n > STOP_BYTES_MAX || s->n_stops == STOPS_MAX)
        return ST_USAGE;
    char *copy = mem_strndup(text, n);
    if (!copy) return ST_NO_MEMORY;
    s->stop[s->n_stops].text = copy;
    s->stop[s->n_stops++].n = n;
    return ST_OK;
}

void stops_fini(struct stops *s)
{
    for (uint32_t i = 0; i < s->n_stops; i++) mem_free(s->stop[i].text);
    buf_fini(&s->held);
    *s = (struct stops){0};
}

/* Where the stop string that ends first begins. */
static bool find_stop(const struct stops *s, size_t *at)
{
    size_t best_end = SIZE_MAX;
    for (uint32_t i = 0; i < s->n_stops; i++) {
        const char *hit =
            memmem(s->held.data, s->held.len, s->stop[i].text, s->stop[i].n);
        if (!hit) continue;
        const size_t start = (size_t)(hit - s->held.data);
        const size_t end = start + s->stop[i].n;
        if (end < best_end || (end == best_end && start < *at)) {
            best_end = end;
            *at = start;
        }
    }
    return best_end != SIZE_MAX;
}

/* The longest end of what is held that begins a stop string. */
static size_t open_end(const struct stops *s)
{
    size_t most = 0;
    for (uint32_t i = 0; i < s->n_stops; i++) {
        size_t n = s->stop[i].n - 1;
        if (n > s->held.len) n = s->held.len;
        while (n > most && memcmp(s->held.data + s->held.len - n,
                                  s->stop[i].text, n) != 0) {
            n--;
        }
        if (n > most) most = n;
    }
    return most;
}

enum status stops_push(struct stops *s, const char *text, size_t n,
                       struct buf *out)
{
    if (s->hit || n == 0) return ST_OK;
    if (s->n_stops == 0) return buf_append(out, text, n);
    if (s->held.max == 0) buf_init(&s->held, SIZE_MAX / 2);
    enum status st = buf_append(&s->held, text, n);
    if (st != ST_OK) return st;
    size_t certain = 0;
    const bool hit = find_stop(s, &certain);
    if (!hit) certain = s->held.len - open_end(s);
    st = buf_append(out, s->held.data, certain);
    if (st != ST_OK) return st;
    s->hit = hit;
    if (hit) certain = s->held.len;
    s->held.len -= certain;
    memmove(s->held.data, s->held.data + certain, s->held.len);
    return ST_OK;
}

enum status stops_finish(struct stops *s, struct buf *out)
{
    if (s->hit || s->held.len == 0) return ST_OK;
    const enum status st = buf_append(out, s->held.data, s->held.len);
    if (st == ST_OK) s->held.len = 0;
    return st;
}

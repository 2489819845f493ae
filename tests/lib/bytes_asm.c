/* bytes_asm.c - see the header for the words. */
#include "tests/lib/bytes_asm.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* v, little-endian as the host. */
static enum status put_number(struct buf *out, const char *kind, size_t n_kind,
                              const char *value)
{
    static const char *const widths[] = {"u8", "u16", "u32", "u64"};
    const uint64_t v = strtoull(value, NULL, 0);
    for (size_t i = 0; i < COUNT_OF(widths); i++) {
        if (strlen(widths[i]) == n_kind &&
            memcmp(widths[i], kind, n_kind) == 0) {
            return buf_append(out, &v, (size_t)1 << i);
        }
    }
    if (n_kind == 3 && memcmp(kind, "f32", 3) == 0) {
        const float f = strtof(value, NULL);
        return buf_append(out, &f, sizeof f);
    }
    if (n_kind == 3 && memcmp(kind, "f64", 3) == 0) {
        const double d = strtod(value, NULL);
        return buf_append(out, &d, sizeof d);
    }
    return ST_INVALID;
}

static enum status put_many(struct buf *out, char c, uint64_t n)
{
    char *to;
    const enum status st = buf_reserve(out, (size_t)n, &to);
    if (st != ST_OK) return st;
    memset(to, c, (size_t)n);
    to[n] = '\0';
    out->len += (size_t)n;
    return ST_OK;
}

static enum status put_text(struct buf *out, bool with_length, const char *text,
                            uint64_t n)
{
    enum status st = ST_OK;
    if (with_length) st = buf_append(out, &n, sizeof n);
    if (st == ST_OK) st = buf_append(out, text, (size_t)n);
    return st;
}

static enum status put_word(struct buf *out, const char *word, size_t n)
{
    const char *colon = memchr(word, ':', n);
    if (!colon) return ST_INVALID;
    const size_t n_kind = (size_t)(colon - word);
    const char *value = colon + 1;
    const size_t n_value = n - n_kind - 1;
    const uint64_t number = strtoull(value, NULL, 0);
    if (n_kind == 3 && memcmp(word, "raw", 3) == 0) {
        return put_text(out, false, value, n_value);
    }
    if (n_kind == 3 && memcmp(word, "pad", 3) == 0) {
        if (number == 0) return ST_INVALID;
        return put_many(out, 0, (number - out->len % number) % number);
    }
    if (n_kind != 1) return put_number(out, word, n_kind, value);
    if (*word == 's') return put_text(out, true, value, n_value);
    if (*word == 'z') return put_many(out, 0, number);
    if (*word == 'a') return put_many(out, 'a', number);
    return ST_INVALID;
}

enum status bytes_asm(struct buf *out, const char *text, struct error *err)
{
    while (*text != '\0') {
        const size_t n = strcspn(text, " ");
        if (n != 0) {
            const enum status st = put_word(out, text, n);
            if (st != ST_OK) {
                return error_set(err, st, "bytes_asm: \"%.*s\"", (int)n, text);
            }
        }
        text += n;
        if (*text == ' ') text++;
    }
    return ST_OK;
}

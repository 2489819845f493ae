#include "common/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *status_name(enum status st)
{
    switch (st) {
#define X(code, text)                                                          \
    case ST_##code:                                                            \
        return #code;
        STATUS_MAP(X)
#undef X
    }
    return "UNKNOWN";
}

const char *status_text(enum status st)
{
    switch (st) {
#define X(code, text)                                                          \
    case ST_##code:                                                            \
        return text;
        STATUS_MAP(X)
#undef X
    }
    return "unknown";
}

/* One line, and nothing a terminal obeys: parts of the text may come from
 * files and peers. */
static void make_printable(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
    }
}

enum status error_set(struct error *err, enum status st, const char *fmt, ...)
{
    if (!err) return st;
    err->status = st;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    make_printable(err->text);
    return st;
}

enum status error_prefix(struct error *err, enum status st, const char *fmt,
                         ...)
{
    if (!err) return st;
    char whole[sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    const int head = vsnprintf(whole, sizeof whole, fmt, ap);
    va_end(ap);
    if (head >= 0 && (size_t)head < sizeof whole) {
        snprintf(whole + head, sizeof whole - (size_t)head, ": %.*s",
                 (int)(sizeof whole - 1 - (size_t)head), err->text);
    }
    memcpy(err->text, whole, sizeof err->text);
    err->text[sizeof err->text - 1] = '\0';
    make_printable(err->text);
    err->status = st;
    return st;
}

#include "common/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_fini(struct buf *b)
{
    mem_free(b->data);
    *b = (struct buf){.max = b->max};
}

enum status buf_reserve(struct buf *b, size_t n, char **out)
{
    if (n > b->max - b->len) return ST_TOO_LARGE;
    const size_t need = b->len + n + 1;
    if (need > b->cap) {
        size_t cap = b->cap < 64 ? 64 : b->cap;
        while (cap < need) {
            if (cap > b->max) {
                cap = need;
                break;
            }
            cap *= 2;
        }
        char *data = mem_realloc(b->data, cap);
        if (!data) return ST_NO_MEMORY;
        b->data = data;
        b->cap = cap;
    }
    *out = b->data + b->len;
    return ST_OK;
}

enum status buf_append(struct buf *b, const void *data, size_t n)
{
    char *to;
    const enum status st = buf_reserve(b, n, &to);
    if (st != ST_OK) return st;
    if (n != 0) memcpy(to, data, n);
    b->len += n;
    b->data[b->len] = '\0';
    return ST_OK;
}

enum status buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *to;
    enum status st = n < 0 ? ST_INVALID : buf_reserve(b, (size_t)n, &to);
    if (st == ST_OK) {
        vsnprintf(to, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return st;
}

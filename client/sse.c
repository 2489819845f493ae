#include "client/sse.h"

#include <string.h>

void sse_init(struct sse *s)
{
    *s = (struct sse){0};
    buf_init(&s->line, SSE_EVENT_MAX);
    buf_init(&s->event, SSE_EVENT_MAX);
}

void sse_fini(struct sse *s)
{
    buf_fini(&s->line);
    buf_fini(&s->event);
}

/* An empty line ends an event. */
static int dispatch(struct sse *s)
{
    const bool any = s->has_data;
    const size_t n = s->event.len;
    s->has_data = false;
    s->event.len = 0;
    if (!any) return 0;
    /* its data is replaced by the next event, not by us */
    return s->data(s->arg, s->event.data, n);
}

static int end_of_line(struct sse *s)
{
    static const char field[] = "data";
    const size_t n_field = sizeof field - 1;
    if (s->line.len == 0) return dispatch(s);
    const char *text = s->line.data;
    size_t n = s->line.len;
    s->line.len = 0;
    if (text[0] == ':') {
        const size_t skip = n > 1 && text[1] == ' ' ? 2 : 1;
        return s->comment(s->arg, text + skip, n - skip);
    }
    if (n < n_field || memcmp(text, field, n_field) != 0) return 0;
    text += n_field;
    n -= n_field;
    if (n > 0 && *text != ':') return 0; /* another field */
    for (int i = 0; i < 2 && n > 0 && *text == ": "[i]; i++) {
        text++;
        n--;
    }
    enum status st = ST_OK;
    if (s->has_data) st = buf_append(&s->event, "\n", 1);
    if (st == ST_OK) st = buf_append(&s->event, text, n);
    s->has_data = true;
    return st == ST_OK ? 0 : -1;
}

int sse_push(struct sse *s, const char *bytes, size_t n)
{
    /* lines end with LF, CR or both */
    while (n > 0) {
        if (s->after_cr && *bytes == '\n') {
            s->after_cr = false;
            bytes++;
            n--;
            continue;
        }
        s->after_cr = false;
        size_t k = 0;
        while (k < n && bytes[k] != '\n' && bytes[k] != '\r') k++;
        if (buf_append(&s->line, bytes, k) != ST_OK) return -1;
        bytes += k;
        n -= k;
        if (n == 0) break;
        s->after_cr = *bytes == '\r';
        bytes++;
        n--;
        const int got = end_of_line(s);
        if (got != 0) return got;
    }
    return 0;
}

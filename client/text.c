/* text.c - JSON to and from bytes of text. */
#include <jansson.h>

#include "client/commands.h"

/* Length of the valid UTF-8 sequence at s, or 0 (RFC 3629, section 4). */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80) return 1;
    size_t len;
    unsigned lo = 0x80, hi = 0xbf;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        len = 2;
    else if (s[0] >= 0xe0 && s[0] <= 0xef)
        len = 3;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        len = 4;
    else
        return 0;
    if (s[0] == 0xe0) lo = 0xa0; /* overlong */
    if (s[0] == 0xed) hi = 0x9f; /* surrogates */
    if (s[0] == 0xf0) lo = 0x90;
    if (s[0] == 0xf4) hi = 0x8f; /* past U+10FFFF */
    if (len > n || s[1] < lo || s[1] > hi) return 0;
    for (size_t i = 2; i < len; i++) {
        if (s[i] < 0x80 || s[i] > 0xbf) return 0;
    }
    return len;
}

struct json_t *json_text(const char *text, size_t n)
{
    struct buf b;
    buf_init(&b, 3 * n + 1);
    enum status st = buf_append(&b, "", 0);
    for (size_t i = 0; st == ST_OK && i < n;) {
        const size_t len = utf8_length((const unsigned char *)text + i, n - i);
        st = len ? buf_append(&b, text + i, len)
                 : buf_append(&b, "\xef\xbf\xbd", 3);
        i += len ? len : 1;
    }
    json_t *json = st == ST_OK ? json_stringn(b.data, b.len) : NULL;
    buf_fini(&b);
    return json;
}

static int append(const char *text, size_t n, void *arg)
{
    return buf_append(arg, text, n) == ST_OK ? 0 : -1;
}

enum status json_write(struct buf *b, const struct json_t *json)
{
    const int got = json_dump_callback(json, append, b, JSON_COMPACT);
    return got == 0 ? ST_OK : ST_NO_MEMORY;
}

/* utf8.h - where a UTF-8 sequence ends, for bytes that may not be UTF-8.
 *
 * Depends on: libc.  Thread: any. */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include <stddef.h>

#define UTF8_LEN_MAX 4

/* Looks at the start of p[0..n), n > 0.
 *   1..4  the length of the well-formed sequence that starts here
 *   0     p[0] starts none, whatever follows
 *   -1    all n bytes begin a sequence that may still become whole
 * Well-formed is table 3-7 of the Unicode Standard: no overlong forms, no
 * surrogates, nothing above U+10FFFF. */
static inline int utf8_sequence(const unsigned char *p, size_t n)
{
    const unsigned char lead = p[0];
    if (lead < 0x80) return 1;
    if (lead < 0xc2 || lead > 0xf4) return 0;
    const size_t len = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

    /* Only the second byte's range depends on the first. */
    unsigned char low = 0x80, high = 0xbf;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
    for (size_t i = 1; i < len; i++) {
        if (i == n) return -1;
        if (p[i] < low || p[i] > high) return 0;
        low = 0x80;
        high = 0xbf;
    }
    return (int)len;
}

#endif

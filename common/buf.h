/* buf.h - a growable byte buffer with a mandatory maximum.
 *
 * Depends on: mem.  Thread: its owner's. */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include "common/mem.h"

struct buf {
    char *data; /* always NUL-terminated after the first append */
    size_t len; /* without the NUL */
    size_t cap;
    size_t max; /* len never exceeds it */
};

void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b);

/* ST_TOO_LARGE over max, ST_NO_MEMORY; the buffer is then unchanged. */
NODISCARD enum status buf_append(struct buf *b, const void *data, size_t n);
NODISCARD enum status buf_printf(struct buf *b, const char *fmt, ...)
    PRINTF_LIKE(2, 3);
/* Make room for n more bytes and return their start; len is not changed. */
NODISCARD enum status buf_reserve(struct buf *b, size_t n, char **out);

#endif

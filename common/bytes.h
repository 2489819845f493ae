/* bytes.h - reading little-endian values from bytes that nobody vouches for.
 *
 * Depends on: libc.  Thread: any.
 * Invariant: pos <= len, so `n > len - pos` cannot wrap. */
#ifndef COMMON_BYTES_H
#define COMMON_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/compiler.h"

struct reader {
    const uint8_t *base;
    size_t len;
    size_t pos;
};

/* Claim n bytes; false and nothing moved if fewer remain. */
NODISCARD static inline bool reader_take(struct reader *r, size_t n,
                                         const uint8_t **out)
{
    if (n > r->len - r->pos) return false;
    *out = r->base + r->pos;
    r->pos += n;
    return true;
}

NODISCARD static inline bool reader_copy(struct reader *r, void *out, size_t n)
{
    const uint8_t *p;
    if (!reader_take(r, n, &p)) return false;
    memcpy(out, p, n);
    return true;
}

NODISCARD static inline bool reader_u8(struct reader *r, uint8_t *v)
{
    return reader_copy(r, v, sizeof *v);
}
NODISCARD static inline bool reader_u16(struct reader *r, uint16_t *v)
{
    return reader_copy(r, v, sizeof *v);
}
NODISCARD static inline bool reader_u32(struct reader *r, uint32_t *v)
{
    return reader_copy(r, v, sizeof *v);
}
NODISCARD static inline bool reader_u64(struct reader *r, uint64_t *v)
{
    return reader_copy(r, v, sizeof *v);
}

#endif

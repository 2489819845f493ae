/* api_text.h - text on its way into answers: JSON strings, base64, stop
 * strings.
 *
 * Depends on: common, jansson.  Thread: any; a struct stops its owner's. */
#ifndef COORDINATOR_API_TEXT_H
#define COORDINATOR_API_TEXT_H

#include <jansson.h>

#include "common/buf.h"

/* Append s as a JSON string with its quotes; bytes that are not UTF-8 become
 * U+FFFD.  On an error *b may hold a part. */
NODISCARD enum status api_quote(struct buf *b, const char *s, size_t n);
/* The same as a value; NULL: no memory. */
json_t *api_string(const char *s, size_t n);
/* RFC 4648, section 4, with padding. */
NODISCARD enum status api_base64(struct buf *b, const void *data, size_t n);
/* A value's text, one line; ST_NO_MEMORY also for value NULL, which is what
 * jansson gives without memory.  Takes the reference. */
NODISCARD enum status api_dump(struct buf *b, json_t *value);

#define STOPS_MAX      16
#define STOP_BYTES_MAX 1024

/* Finds the first of some strings in a text that comes in pieces.  Of several,
 * it is the one that ends first (then the one that begins first), so how the
 * text is cut into pieces makes no difference. */
struct stops {
    struct {
        char *text; /* 1 to STOP_BYTES_MAX bytes, may hold NULs */
        size_t n;
    } stop[STOPS_MAX];
    uint32_t n_stops;
    struct buf held; /* may be the beginning of a stop string */
    bool hit;
};
/* Copies; ST_USAGE: empty, too long or too many. */
NODISCARD enum status stops_add(struct stops *s, const char *text, size_t n);
void stops_fini(struct stops *s);
/* Takes a piece, appends what is certainly in front of any stop string.  After
 * a hit nothing is taken any more. */
NODISCARD enum status stops_push(struct stops *s, const char *text, size_t n,
                                 struct buf *out);
/* The end: what was held. */
NODISCARD enum status stops_finish(struct stops *s, struct buf *out);

#endif

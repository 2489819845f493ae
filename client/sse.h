/* sse.h - events out of a stream of server-sent events (HTML standard,
 * section 9.2), as far as the OpenAI API uses them: data and comments.
 *
 * Depends on: buf.  Thread: its owner's. */
#ifndef CLIENT_SSE_H
#define CLIENT_SSE_H

#include "common/buf.h"

/* A row of logits of the largest vocabulary, in base64, is 5.6 MB. */
#define SSE_EVENT_MAX (16u << 20)

struct sse {
    /* Whatever is not 0 ends sse_push, which returns it. text: NUL-terminated,
     * without line ends for a comment. */
    int (*data)(void *arg, const char *text, size_t n);
    int (*comment)(void *arg, const char *text, size_t n);
    void *arg;
    struct buf line, event;
    bool has_data, after_cr;
};

/* The callbacks and arg are the caller's to set. */
void sse_init(struct sse *s);
void sse_fini(struct sse *s);

/* Bytes cut anywhere.  0, what a callback returned, or -1: a line or event
 * over SSE_EVENT_MAX, or no memory. */
NODISCARD int sse_push(struct sse *s, const char *bytes, size_t n);

#endif

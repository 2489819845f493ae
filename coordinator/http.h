/* http.h - an HTTP/1.1 server on a libuv loop.
 *
 * Depends on: common; libmicrohttpd, libuv.  Thread: loop, all of it;
 * callbacks come on the loop.
 *
 * A request is handed over whole, and then answered once: at once or later, by
 * a body (http_answer) or by a stream that grows (http_stream, http_send,
 * http_end).
 *
 *   handler(call) --http_answer--> over
 *                 --http_stream--> http_send ... --http_end--> over
 *        any of these --client leaves, or reads too slowly--> gone(arg), over
 *
 * After "over" the call must not be touched: gone() is the last one hears of a
 * call that was not answered or ended by oneself.
 *
 * A client that closes its sending half counts as gone: TCP cannot tell it
 * from one that left, and a pool should not compute for nobody.
 *
 * Answered here: OPTIONS (CORS preflight, any path), a body over body_max
 * (413), bodies over the total (503).  Whatever is not HTTP is refused by
 * libmicrohttpd, with a page of its own.  Nothing is logged. */
#ifndef COORDINATOR_HTTP_H
#define COORDINATOR_HTTP_H

#include "common/buf.h"

struct uv_loop_s;
struct http;
struct http_call;

struct http_request {   /* the call's, valid until it is over */
    const char *method; /* HEAD comes as GET, and gets no body */
    const char *path;   /* decoded, without the query */
    const char *peer;   /* numeric address */
    const char *body;   /* a NUL follows */
    size_t body_bytes;
};
typedef void http_handler(void *arg, struct http_call *call,
                          const struct http_request *r);

struct http_options {
    const char *address; /* "HOST:PORT", "[::1]:PORT"; port 0: any free one */
    http_handler *handler;
    void (*tick)(void *arg); /* every tick_ms; may be NULL */
    void *arg;
    /* 0 stands for the value in brackets. */
    uint32_t tick_ms;         /* [1000] */
    uint32_t connections_max; /* [512] further ones wait for accept */
    uint32_t header_max;      /* [32 KiB] request line and headers */
    size_t body_max;          /* [16 MiB] */
    size_t bodies_max;        /* [128 MiB] of all requests together */
    size_t stream_max;        /* [64 MiB] not yet taken by a stream's reader */
    size_t streams_max;       /* [256 MiB] of all streams together */
    /* [60 s] A connection that has sent no whole request so long after it was
     * opened or answered last is closed, be it silent or trickling; so is one
     * that takes nothing of its answer so long. */
    uint32_t request_ms;
};

/* options are copied but for address, which is needed only now.  ST_IO names
 * the address and says why not ("already in use" with the remedy); ST_USAGE:
 * not an address. */
NODISCARD enum status http_create(struct http **out, struct uv_loop_s *loop,
                                  const struct http_options *options,
                                  struct error *err);
/* The port that is listened on. */
uint32_t http_port(const struct http *h);
/* Ends every call (gone() is called for each that is open) and closes; memory
 * is freed by the loop's next turns.  Not from a callback of h; NULL allowed.
 */
void http_close(struct http *h);

/* A header of the request, NULL if absent; valid until the call is over. */
const char *http_header(const struct http_call *c, const char *name);

/* Called when the client is gone. To be set by a handler that does not answer
 * before it returns. */
void http_on_gone(struct http_call *c, void (*gone)(void *arg), void *arg);

#define HTTP_FIELDS_MAX 4
struct http_answer {
    unsigned status;
    const char *type; /* Content-Type */
    const void *body; /* copied */
    size_t body_bytes;
    struct http_field {
        const char *name, *value;
    } fields[HTTP_FIELDS_MAX]; /* further headers; unused: zero */
};
/* The call is over.  Without memory the connection is closed unanswered. */
void http_answer(struct http_call *c, const struct http_answer *a);

/* Begins a stream; body is the first piece.  false: no memory, the call is
 * over (connection closed, gone() not called). */
NODISCARD bool http_stream(struct http_call *c, const struct http_answer *a);
/* Appends; copied.  Over the limits the client counts as gone, which gone()
 * says later. */
void http_send(struct http_call *c, const void *data, size_t n);
/* What was sent is all; the call is over. */
void http_end(struct http_call *c);

struct http_counters {
    uint32_t connections, calls; /* now */
    uint64_t turns;              /* of the server, for finding busy loops */
};
struct http_counters http_counters(const struct http *h);

#endif

/* fake_http.h - an HTTP server that says what a test wants, on a thread.
 *
 * Depends on: buf, pthread, cmocka.  Thread: the test's; the handler runs on
 * the server's own thread, one connection at a time, and must not assert. */
#ifndef TESTS_LIB_FAKE_HTTP_H
#define TESTS_LIB_FAKE_HTTP_H

#include "common/buf.h"

struct fake_conn {
    int fd;
    unsigned index;     /* 0: the first request since the start */
    struct buf request; /* head and body, as they came */
    const char *body;   /* in request */
};

/* What it does with a request; the connection is closed after it. */
typedef void fake_handler(struct fake_conn *c, void *arg);

/* One at a time. Listens on the loopback address, on a port of its own. */
void fake_http_start(fake_handler *handler, void *arg);
/* Waits for the handler that runs. Returns the requests there were. */
unsigned fake_http_stop(void);
/* "http://127.0.0.1:PORT"; the port is nobody's after fake_http_stop. */
const char *fake_http_url(void);

/* What the test wrote before this call, a handler that begins later sees; what
 * a handler wrote that has ended, the test sees after it. cli_run calls it
 * before and after the program. */
void fake_http_turn(void);

/* For handlers. A peer that is gone is no matter. */
void fake_send(struct fake_conn *c, const void *bytes, size_t n);
void fake_text(struct fake_conn *c, const char *text);
/* A whole reply; status as in "200 OK". */
void fake_json(struct fake_conn *c, const char *status, const char *json);
/* The head of a stream of events. */
void fake_stream(struct fake_conn *c);
/* True if the peer closes within ms. */
bool fake_await_close(struct fake_conn *c, unsigned ms);

#endif

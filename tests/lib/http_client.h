/* http_client.h - a loop with an end to every wait, and clients that speak
 * HTTP byte by byte.
 *
 * Depends on: buf; libuv.  Thread: the test's, which is the loop's. */
#ifndef TESTS_LIB_HTTP_CLIENT_H
#define TESTS_LIB_HTTP_CLIENT_H

#include <uv.h>

#include "common/buf.h"

/* No wait is longer; only what hangs takes so long. */
#define HTTP_RIG_DEADLINE_MS 60000

struct http_rig {
    uv_loop_t loop;
    uv_timer_t timer;
};
void http_rig_begin(struct http_rig *rig);
/* Runs what is left; false if something keeps the loop busy. */
NODISCARD bool http_rig_end(struct http_rig *rig);
/* Runs the loop until done(arg), which is asked after every turn and at least
 * every 5 ms; false: the deadline was over. */
NODISCARD bool http_rig_until(struct http_rig *rig, bool (*done)(void *arg),
                              void *arg);
void http_rig_run(struct http_rig *rig, unsigned ms);

struct http_client {
    int fd;
    struct buf in; /* as received */
    bool eof;      /* closed, or reset, by the server */
};
/* Connected; false: it cannot be. */
NODISCARD bool http_client_open(struct http_client *c, uint32_t port);
void http_client_close(struct http_client *c);
/* As much as the socket takes; the number of bytes. */
size_t http_client_write(struct http_client *c, const void *data, size_t n);
/* All of a text, which is short. */
NODISCARD bool http_client_say(struct http_client *c, const char *text);
/* METHOD PATH with a body, if any, as JSON. */
NODISCARD bool http_client_ask(struct http_client *c, const char *method,
                               const char *path, const char *body);
/* Takes what is there. */
void http_client_read(struct http_client *c);

/* Of the first answer in c->in: 0 if its head is not whole yet. */
int http_client_status(const struct http_client *c);
/* The head has this line, or a line that begins so. */
bool http_client_has(const struct http_client *c, const char *field);
/* The body without chunks, as far as it is there, a NUL behind; *whole: there
 * is no more to come. The caller's to mem_free; NULL: not HTTP. */
char *http_client_body(const struct http_client *c, size_t *n, bool *whole);
/* Forget the first answer, which is whole: the next one is pipelined. */
void http_client_next(struct http_client *c);

#endif

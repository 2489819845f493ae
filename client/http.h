/* http.h - HTTP requests to a pool.
 *
 * Depends on: commands (exit codes), libcurl in http.c alone.  Thread: main.
 *
 * Every function here answers with the exit code that the command would end
 * with, as the kinds of failure that a script must tell apart are those of
 * HTTP and not those of enum status; err has the sentence.
 *
 * No proxy is ever used: what is typed stays in the room, whatever http_proxy
 * says.  No redirect is followed. */
#ifndef CLIENT_HTTP_H
#define CLIENT_HTTP_H

#include "client/commands.h"

#define HTTP_HOST_DEFAULT "http://127.0.0.1:7421"
#define HTTP_REPLY_MAX    (16u << 20) /* bytes of a JSON reply */
#define HTTP_CALL_S       30          /* for a reply that is not streamed */
#define HTTP_URL_MAX      512

struct http_pool {
    char url[HTTP_URL_MAX + 1]; /* "http://HOST:PORT", no slash at the end */
    const char *key;            /* Authorization: Bearer; NULL: none */
};

/* From --host, or POTLUCK_HOST, or the default; "HOST:PORT" means http.  The
 * key is POTLUCK_API_KEY's.  ST_USAGE if it is no URL of a host. */
NODISCARD enum status http_pool_find(struct http_pool *out, const char *host,
                                     struct error *err);

struct http_request {
    const char *path; /* "/health" */
    const char *body; /* JSON, for a POST; NULL: a GET */
    size_t n_body;
    /* Takes the body of a 200 as it comes, in pieces of any size; whatever is
     * not EXIT_CODE_OK ends the exchange.  NULL: it goes to reply->body. */
    enum exit_code (*data)(void *arg, const char *bytes, size_t n,
                           struct error *err);
    void *arg;
    uint32_t silence_s; /* nothing for so long is a broken exchange */
    uint32_t total_s;   /* 0: as long as it takes */
};

struct http_reply {
    long status;     /* 200 */
    struct buf body; /* not of a 200 if data was given; the caller's */
};

/* EXIT_CODE_OK: a whole reply, whatever its status.  _UNREACHABLE: nobody
 * answers there.  _BROKE_OFF: ended before the reply did.  _INTERRUPTED: by
 * Ctrl-C; the connection is closed, so that the pool stops working on it.
 * _FAILURE: what answers is no HTTP server, or too much.  Otherwise what data
 * returned.  reply is written (and to be freed) with EXIT_CODE_OK alone. */
NODISCARD enum exit_code http_exchange(const struct http_pool *p,
                                       const struct http_request *r,
                                       struct http_reply *reply,
                                       struct error *err);

/* The exit code and sentence of a reply that is no 2xx. */
enum exit_code http_refusal(const struct http_pool *p,
                            const struct http_reply *reply, struct error *err);

/* The code and sentence of {"error":{"message","code"}}; status: of HTTP, or
 * 0 for one in mid-stream, which is EXIT_CODE_BROKE_OFF. */
struct json_t;
enum exit_code http_error_object(struct json_t *error, long status,
                                 struct error *err);

/* A GET, or a POST of `body` (its reference is taken), answered by an object
 * (the caller's to json_decref). */
NODISCARD enum exit_code http_json(const struct http_pool *p, const char *path,
                                   struct json_t *body, struct json_t **out,
                                   struct error *err);

/* Until /health says 200, for at most wait_s seconds; on a terminal a line
 * says what is waited for.  EXIT_CODE_NOT_READY or _UNREACHABLE after that. */
NODISCARD enum exit_code http_await_ready(const struct http_pool *p,
                                          uint32_t wait_s, struct error *err);

/* Bytes of a stranger, for a line of text: control characters become '?'.
 * Returns text. */
char *plain_line(char *text);

#endif

/* http.c - libmicrohttpd on libuv.
 *
 * Depends on: buf, clock; libmicrohttpd 0.9.75, libuv.  Thread: loop.
 *
 * Waking up.  The daemon has no thread: its epoll descriptor is watched by the
 * loop, and its timeout is a timer of the loop; each wake is one MHD_run.  A
 * call that waits for its handler, or a stream that has nothing to say, is
 * suspended. Without a thread, the daemon is not woken by resuming: we wake it,
 * in the loop's next turn, so that many resumptions cost one.
 *
 * Who is gone.  libmicrohttpd does not watch the socket of a suspended
 * connection.  So we do, for hang-up only (UV_DISCONNECT), with a poll handle
 * of our own on the same descriptor; it ends before libmicrohttpd closes the
 * descriptor (on_completed comes first).  Whoever is to go is cut: the socket
 * is shut down both ways, and the connection resumed; then libmicrohttpd finds
 * it dead, in whatever state it is, and completes the call.  Thus there is one
 * place where calls end: on_completed.
 *
 *   READING --body whole--> HANDED --http_answer--> ANSWERED
 *                                  --http_stream--> STREAMING --http_end-->
 *                                  ENDED
 *   any --on_completed--> freed; gone() from HANDED and STREAMING */
#include "coordinator/http.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>
#include <uv.h>

#include "common/clock.h"

#define TICK_MS         1000
#define CONNECTIONS_MAX 512 /* half of the usual limit of descriptors */
#define HEADER_MAX      (32u << 10)
#define BODY_MAX        ((size_t)16 << 20)
#define BODIES_MAX      ((size_t)128 << 20)
#define STREAM_MAX      ((size_t)64 << 20)
#define STREAMS_MAX     ((size_t)256 << 20)
#define REQUEST_MS      60000
#define BACKLOG         1024
/* A body that is too long is read so far, so that the client gets to read the
 * answer instead of a reset connection. */
#define SWALLOW_MAX ((size_t)64 << 20)
/* A stream's buffer that was larger than this is given back when empty. */
#define KEEP_BYTES ((size_t)64 << 10)

enum phase { READING, HANDED, ANSWERED, STREAMING, ENDED };

struct connection {
    struct http *http;
    struct connection *prev, *next;
    int fd;
    bool busy;         /* a whole request is there, and not yet answered */
    uint64_t since_ns; /* opened, or answered last */
};

struct http_call {
    struct http *http;
    struct http_call *prev, *next;
    struct MHD_Connection *mhd;
    struct connection *connection;
    enum phase phase;
    bool suspended, cut, oversize, crowded, watching;
    char method[16], peer[INET6_ADDRSTRLEN];
    char *path;
    struct buf body;
    uint64_t body_seen;
    void (*gone)(void *arg);
    void *gone_arg;
    struct MHD_Response *response; /* to be queued */
    unsigned status;
    struct buf out; /* of a stream; [out_at, len) is not yet taken */
    size_t out_at;
    uv_poll_t watch;
};

struct http {
    uv_loop_t *loop;
    struct MHD_Daemon *daemon;
    struct http_options options;
    uint32_t port;
    uv_poll_t poll;
    uv_timer_t timer, tick;
    unsigned n_handles;    /* not yet closed, watches too; the last one frees */
    bool closing, resumed; /* resumed: the daemon wants one more turn */
    struct http_call *calls;
    struct connection *connections;
    size_t bodies, streams; /* bytes held */
    struct http_counters counters;
};

static void http_unref(struct http *h)
{
    if (--h->n_handles == 0) mem_free(h);
}

static void on_handle_closed(uv_handle_t *handle)
{
    http_unref(handle->data);
}

/* ------------------------------------------------------------- turns */

static void on_timer(uv_timer_t *timer);

/* The daemon's turn, and when it wants the next one. */
static void turn(struct http *h)
{
    if (h->closing) return;
    h->counters.turns++;
    h->resumed = false;
    MHD_run(h->daemon);
    MHD_UNSIGNED_LONG_LONG ms = 0;
    if (h->resumed)
        uv_timer_start(&h->timer, on_timer, 0, 0);
    else if (MHD_get_timeout(h->daemon, &ms) == MHD_YES)
        uv_timer_start(&h->timer, on_timer, ms, 0);
    else
        uv_timer_stop(&h->timer);
}

static void on_timer(uv_timer_t *timer)
{
    turn(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    turn(poll->data);
}

static void on_tick(uv_timer_t *tick)
{
    struct http *h = tick->data;
    const uint64_t now = clock_now_ns();
    const uint64_t patience = (uint64_t)h->options.request_ms * 1000000;
    for (struct connection *c = h->connections; c; c = c->next) {
        if (!c->busy && now - c->since_ns > patience)
            shutdown(c->fd, SHUT_RDWR);
    }
    if (h->options.tick) h->options.tick(h->options.arg);
}

/* ------------------------------------------------------- connections */

static void on_connection(void *arg, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http *h = arg;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        struct connection *c = *context;
        if (!c) return;
        *context = NULL;
        if (c->prev) c->prev->next = c->next;
        if (c->next) c->next->prev = c->prev;
        if (h->connections == c) h->connections = c->next;
        h->counters.connections--;
        mem_free(c);
        h->resumed = true; /* room: only its next turn accepts again */
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct connection *c = info ? mem_zalloc(sizeof *c) : NULL;
    *context = c;
    if (!c) {
        if (info) shutdown(info->connect_fd, SHUT_RDWR);
        return;
    }
    c->http = h;
    c->fd = info->connect_fd;
    c->since_ns = clock_now_ns();
    c->next = h->connections;
    if (c->next) c->next->prev = c;
    h->connections = c;
    h->counters.connections++;
}

/* ------------------------------------------------------------- calls */

static void resume(struct http_call *c)
{
    if (!c->suspended) return;
    c->suspended = false;
    MHD_resume_connection(c->mhd);
    if (!c->http->resumed && !c->http->closing)
        uv_timer_start(&c->http->timer, on_timer, 0, 0);
    c->http->resumed = true;
}

static void suspend(struct http_call *c)
{
    c->suspended = true;
    MHD_suspend_connection(c->mhd);
}

static void cut(struct http_call *c)
{
    if (c->cut) return;
    c->cut = true;
    if (c->watching) uv_poll_stop(&c->watch);
    shutdown(c->connection->fd, SHUT_RDWR);
    resume(c);
}

static void on_watch(uv_poll_t *watch, int status, int events)
{
    if (status != 0 || (events & UV_DISCONNECT)) cut(watch->data);
}

/* Hang-up is to be noticed while the connection is suspended. */
static bool watch_call(struct http_call *c)
{
    if (c->watching) return true;
    struct http *h = c->http;
    if (uv_poll_init(h->loop, &c->watch, c->connection->fd) != 0) return false;
    c->watch.data = c;
    c->watching = true;
    h->n_handles++;
    return uv_poll_start(&c->watch, UV_DISCONNECT, on_watch) == 0;
}

static void drop_body(struct http_call *c)
{
    c->http->bodies -= c->body.len;
    buf_fini(&c->body);
    buf_init(&c->body, c->http->options.body_max);
}

static void drop_out(struct http_call *c)
{
    c->http->streams -= c->out.len - c->out_at;
    buf_fini(&c->out);
    buf_init(&c->out, SIZE_MAX / 2);
    c->out_at = 0;
}

static void call_free(struct http_call *c)
{
    mem_free(c->path);
    mem_free(c);
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct http_call *c = handle->data;
    struct http *h = c->http;
    call_free(c);
    http_unref(h);
}

static void on_completed(void *arg, struct MHD_Connection *mhd, void **context,
                         enum MHD_RequestTerminationCode code)
{
    (void)arg, (void)mhd, (void)code;
    struct http_call *c = *context;
    if (!c) return;
    *context = NULL;
    struct http *h = c->http;
    const bool open = c->phase == HANDED || c->phase == STREAMING;
    c->cut = true;
    c->suspended = false;
    c->phase = ENDED;
    if (c->response) MHD_destroy_response(c->response);
    c->response = NULL;
    if (open && c->gone) c->gone(c->gone_arg);
    if (c->prev) c->prev->next = c->next;
    if (c->next) c->next->prev = c->prev;
    if (h->calls == c) h->calls = c->next;
    h->counters.calls--;
    c->connection->busy = false;
    c->connection->since_ns = clock_now_ns();
    drop_body(c);
    drop_out(c);
    if (c->watching)
        uv_close((uv_handle_t *)&c->watch, on_watch_closed);
    else
        call_free(c);
}

/* ---------------------------------------------------------- answering */

/* From now on the client may close its sending half. */
static void let_go(struct http_call *c, enum phase phase)
{
    c->phase = phase;
    if (c->watching) uv_poll_stop(&c->watch);
}

static bool add_fields(struct MHD_Response *r, const struct http_answer *a)
{
    bool ok =
        MHD_add_response_header(r, "Access-Control-Allow-Origin", "*") ==
            MHD_YES &&
        MHD_add_response_header(r, "Cache-Control", "no-store") == MHD_YES;
    if (a->type)
        ok &= MHD_add_response_header(r, "Content-Type", a->type) == MHD_YES;
    for (size_t i = 0; i < HTTP_FIELDS_MAX && a->fields[i].name; i++) {
        ok &= MHD_add_response_header(r, a->fields[i].name,
                                      a->fields[i].value) == MHD_YES;
    }
    return ok;
}

/* Without a response there is nothing to queue, and on_access gives up. */
static void set_response(struct http_call *c, struct MHD_Response *r,
                         const struct http_answer *a)
{
    if (r && !add_fields(r, a)) {
        MHD_destroy_response(r);
        r = NULL;
    }
    c->response = r;
    c->status = a->status;
    if (!r) cut(c);
    resume(c);
}

void http_answer(struct http_call *c, const struct http_answer *a)
{
    let_go(c, ANSWERED);
    drop_body(c);
    void *copy = NULL; /* by libmicrohttpd, but not if there are no bytes */
    struct MHD_Response *r = NULL;
    if (a->body_bytes > 0) {
        copy = mem_alloc(a->body_bytes);
        if (copy) {
            memcpy(copy, a->body, a->body_bytes);
            r = MHD_create_response_from_buffer_with_free_callback(
                a->body_bytes, copy, mem_free);
            if (!r) mem_free(copy);
        }
    } else {
        r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    }
    set_response(c, r, a);
}

static ssize_t on_read(void *arg, uint64_t pos, char *to, size_t max)
{
    (void)pos;
    struct http_call *c = arg;
    if (c->cut) return MHD_CONTENT_READER_END_WITH_ERROR;
    const size_t there = c->out.len - c->out_at;
    if (there == 0) {
        if (c->phase == ENDED) return MHD_CONTENT_READER_END_OF_STREAM;
        suspend(c);
        return 0;
    }
    const size_t n = there < max ? there : max;
    memcpy(to, c->out.data + c->out_at, n);
    c->out_at += n;
    c->http->streams -= n;
    if (c->out_at == c->out.len) {
        c->out_at = c->out.len = 0;
        if (c->out.cap > KEEP_BYTES) drop_out(c);
    }
    return (ssize_t)n;
}

bool http_stream(struct http_call *c, const struct http_answer *a)
{
    struct MHD_Response *r = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, 4096, on_read, c, NULL);
    c->phase = STREAMING;
    drop_body(c);
    set_response(c, r, a);
    if (!c->response) {
        c->phase = ANSWERED;
        return false;
    }
    if (a->body_bytes > 0) http_send(c, a->body, a->body_bytes);
    return true;
}

void http_send(struct http_call *c, const void *data, size_t n)
{
    struct http *h = c->http;
    if (c->cut || n == 0) return;
    const size_t there = c->out.len - c->out_at;
    if (n > h->options.stream_max - there ||
        n > h->options.streams_max - h->streams) {
        cut(c);
        return;
    }
    if (c->out_at > 0 && c->out_at >= there) {
        memmove(c->out.data, c->out.data + c->out_at, there);
        c->out.len = there;
        c->out_at = 0;
    }
    if (buf_append(&c->out, data, n) != ST_OK) {
        cut(c);
        return;
    }
    h->streams += n;
    resume(c);
}

void http_end(struct http_call *c)
{
    let_go(c, ENDED);
    resume(c);
}

void http_on_gone(struct http_call *c, void (*gone)(void *arg), void *arg)
{
    c->gone = gone;
    c->gone_arg = arg;
}

const char *http_header(const struct http_call *c, const char *name)
{
    return MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, name);
}

/* ---------------------------------------------------------- requests */

static void refuse(struct http_call *c, unsigned status, const char *type,
                   const char *code, const char *why)
{
    char body[512];
    const int n = snprintf(body, sizeof body,
                           "{\"error\":{\"message\":\"%s\",\"type\":\"%s\","
                           "\"param\":null,\"code\":\"%s\"}}\n",
                           why, type, code);
    const struct http_answer a = {
        .status = status,
        .type = "application/json",
        .body = body,
        .body_bytes = (size_t)n,
        .fields = {{status == 503 ? "Retry-After" : NULL, "5"}}};
    http_answer(c, &a);
}

static void refuse_body(struct http_call *c)
{
    char why[128];
    if (c->crowded) {
        refuse(c, 503, "server_error", "busy",
               "too many large requests at once; try again");
        return;
    }
    snprintf(why, sizeof why,
             "the request's body is over the limit of %zu "
             "bytes",
             c->http->options.body_max);
    refuse(c, 413, "invalid_request_error", "request_too_large", why);
}

/* Any page may ask: there are no cookies, and what is for the operator alone
 * takes a token. */
static void preflight(struct http_call *c)
{
    const char *wants = http_header(c, "Access-Control-Request-Headers");
    const struct http_answer a = {
        .status = 204,
        .fields = {{"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
                   {"Access-Control-Allow-Headers",
                    wants ? wants : "Authorization, Content-Type"},
                   {"Access-Control-Max-Age", "86400"},
                   {"Allow", "GET, HEAD, POST, OPTIONS"}}};
    http_answer(c, &a);
}

static struct http_call *call_create(struct http *h, struct MHD_Connection *mhd,
                                     const char *path, const char *method)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (!info || !info->socket_context) return NULL;
    struct connection *connection = info->socket_context;
    struct http_call *c = mem_zalloc(sizeof *c);
    if (!c) return NULL;
    c->path = mem_strndup(path, strlen(path));
    if (!c->path) {
        mem_free(c);
        return NULL;
    }
    c->http = h;
    c->mhd = mhd;
    c->connection = connection;
    buf_init(&c->body, h->options.body_max);
    buf_init(&c->out, SIZE_MAX / 2);
    snprintf(c->method, sizeof c->method, "%s",
             strcmp(method, "HEAD") == 0 ? "GET" : method);
    info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info && info->client_addr) {
        (void)getnameinfo(info->client_addr,
                          info->client_addr->sa_family == AF_INET6
                              ? sizeof(struct sockaddr_in6)
                              : sizeof(struct sockaddr_in),
                          c->peer, sizeof c->peer, NULL, 0, NI_NUMERICHOST);
    }
    c->next = h->calls;
    if (c->next) c->next->prev = c;
    h->calls = c;
    h->counters.calls++;
    return c;
}

static enum MHD_Result queue(struct http_call *c)
{
    if (c->cut || !c->response) return MHD_NO;
    const enum MHD_Result ok =
        MHD_queue_response(c->mhd, c->status, c->response);
    MHD_destroy_response(c->response);
    c->response = NULL;
    return ok;
}

/* A client that asks before it sends gets its no at once. */
static enum MHD_Result first_look(struct http_call *c)
{
    const char *length = http_header(c, "Content-Length");
    if (!length || !http_header(c, "Expect") ||
        strtoull(length, NULL, 10) <= c->http->options.body_max) {
        return MHD_YES;
    }
    refuse_body(c);
    return queue(c);
}

static enum MHD_Result take_body(struct http_call *c, const char *data,
                                 size_t n)
{
    struct http *h = c->http;
    c->body_seen += n;
    if (c->body_seen > h->options.body_max) {
        c->oversize = true;
        drop_body(c);
        return c->body_seen > h->options.body_max + SWALLOW_MAX ? MHD_NO
                                                                : MHD_YES;
    }
    if (c->crowded) return MHD_YES;
    if (n > h->options.bodies_max - h->bodies ||
        buf_append(&c->body, data, n) != ST_OK) {
        c->crowded = true;
        drop_body(c);
        return MHD_YES;
    }
    h->bodies += n;
    return MHD_YES;
}

static void hand_over(struct http_call *c)
{
    struct http *h = c->http;
    c->phase = HANDED;
    c->connection->busy = true;
    if (c->oversize) c->crowded = false;
    if (c->oversize || c->crowded) {
        refuse_body(c);
    } else if (strcmp(c->method, "OPTIONS") == 0) {
        preflight(c);
    } else {
        const struct http_request r = {.method = c->method,
                                       .path = c->path,
                                       .peer = c->peer,
                                       .body = c->body.len ? c->body.data : "",
                                       .body_bytes = c->body.len};
        h->options.handler(h->options.arg, c, &r);
    }
}

static enum MHD_Result on_access(void *arg, struct MHD_Connection *mhd,
                                 const char *path, const char *method,
                                 const char *version, const char *data,
                                 size_t *data_bytes, void **context)
{
    (void)version;
    struct http_call *c = *context;
    if (!c) {
        c = call_create(arg, mhd, path, method);
        *context = c;
        return c ? first_look(c) : MHD_NO;
    }
    if (*data_bytes > 0) {
        const size_t n = *data_bytes;
        *data_bytes = 0;
        return take_body(c, data, n);
    }
    if (c->cut) return MHD_NO;
    if (c->phase == READING) hand_over(c);
    if ((c->phase == HANDED || c->phase == STREAMING) && !watch_call(c))
        return MHD_NO;
    if (c->phase != HANDED) return queue(c);
    suspend(c);
    return MHD_YES;
}

/* -------------------------------------------------------------- life */

static enum status bad_address(struct error *err, const char *address)
{
    return error_set(err, ST_USAGE,
                     "%s: not an address to listen on; want HOST:PORT as in "
                     "127.0.0.1:7421 or [::1]:7421",
                     address);
}

static enum status resolve(const char *address, struct addrinfo **out,
                           struct error *err)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    const char *from = address;
    if (n >= 2 && from[0] == '[' && from[n - 1] == ']') {
        from++;
        n -= 2;
    } else if (n > 0 && memchr(from, ':', n)) {
        return bad_address(err, address); /* IPv6 without brackets */
    }
    if (n == 0 || n >= sizeof host) return bad_address(err, address);
    memcpy(host, from, n);
    host[n] = '\0';
    char *end;
    errno = 0;
    const unsigned long port = strtoul(colon + 1, &end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *end || errno || port > 65535)
        return bad_address(err, address);
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};
    const int rc = getaddrinfo(host, colon + 1, &hints, out);
    if (rc == 0) return ST_OK;
    return error_set(err, ST_IO, "%s: %s", address, gai_strerror(rc));
}

static enum status listen_on(const char *address, int *out, uint32_t *port,
                             struct error *err)
{
    struct addrinfo *ai = NULL;
    const enum status st = resolve(address, &ai, err);
    if (st != ST_OK) return st;
    const int one = 1;
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } at = {.in6 = {0}};
    socklen_t at_bytes = sizeof at;
    const int fd =
        socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const bool ok =
        fd >= 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 &&
        listen(fd, BACKLOG) == 0 && getsockname(fd, &at.any, &at_bytes) == 0;
    const int why = errno;
    freeaddrinfo(ai);
    if (!ok) {
        if (fd >= 0) close(fd);
        return error_set(err, ST_IO, "HTTP on %s: %s%s", address, strerror(why),
                         why == EADDRINUSE ? "; another program listens there: "
                                             "choose another port with --http"
                                           : "");
    }
    *port = ntohs(at.any.sa_family == AF_INET6 ? at.in6.sin6_port
                                               : at.in4.sin_port);
    *out = fd;
    return ST_OK;
}

static void set_defaults(struct http_options *o)
{
    o->address = NULL;
    if (!o->tick_ms) o->tick_ms = TICK_MS;
    if (!o->connections_max) o->connections_max = CONNECTIONS_MAX;
    if (!o->header_max) o->header_max = HEADER_MAX;
    if (!o->body_max) o->body_max = BODY_MAX;
    if (!o->bodies_max) o->bodies_max = BODIES_MAX;
    if (!o->stream_max) o->stream_max = STREAM_MAX;
    if (!o->streams_max) o->streams_max = STREAMS_MAX;
    if (!o->request_ms) o->request_ms = REQUEST_MS;
}

static struct MHD_Daemon *start(struct http *h, int fd)
{
    const struct http_options *o = &h->options;
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_access, h,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
        o->connections_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)o->header_max, MHD_OPTION_CONNECTION_TIMEOUT,
        o->request_ms / 1000 + 1, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_END);
}

enum status http_create(struct http **out, struct uv_loop_s *loop,
                        const struct http_options *options, struct error *err)
{
    int fd = -1;
    struct http *h = mem_zalloc(sizeof *h);
    if (!h) return error_set(err, ST_NO_MEMORY, "HTTP server");
    h->loop = loop;
    h->options = *options;
    set_defaults(&h->options);
    const enum status st = listen_on(options->address, &fd, &h->port, err);
    if (st != ST_OK) {
        mem_free(h);
        return st;
    }
    h->daemon = start(h, fd);
    const union MHD_DaemonInfo *info =
        h->daemon ? MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD)
                  : NULL;
    if (!info || uv_poll_init(loop, &h->poll, info->epoll_fd) != 0) {
        if (h->daemon)
            MHD_stop_daemon(h->daemon);
        else
            close(fd);
        mem_free(h);
        return error_set(err, ST_IO, "HTTP on %s: the server does not start",
                         options->address);
    }
    uv_timer_init(loop, &h->timer);
    uv_timer_init(loop, &h->tick);
    h->poll.data = h->timer.data = h->tick.data = h;
    h->n_handles = 3;
    uv_poll_start(&h->poll, UV_READABLE, on_poll);
    uv_timer_start(&h->tick, on_tick, h->options.tick_ms, h->options.tick_ms);
    *out = h;
    return ST_OK;
}

uint32_t http_port(const struct http *h)
{
    return h->port;
}

struct http_counters http_counters(const struct http *h)
{
    return h->counters;
}

void http_close(struct http *h)
{
    if (!h || h->closing) return;
    h->closing = true;
    uv_poll_stop(&h->poll);
    for (struct http_call *c = h->calls; c; c = c->next) cut(c);
    MHD_stop_daemon(h->daemon); /* completes every call */
    h->daemon = NULL;
    uv_close((uv_handle_t *)&h->poll, on_handle_closed);
    uv_close((uv_handle_t *)&h->timer, on_handle_closed);
    uv_close((uv_handle_t *)&h->tick, on_handle_closed);
}

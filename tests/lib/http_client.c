#include "tests/lib/http_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_timer(uv_timer_t *timer)
{
    (void)timer;
}

void http_rig_begin(struct http_rig *rig)
{
    if (uv_loop_init(&rig->loop) != 0) abort();
    uv_timer_init(&rig->loop, &rig->timer);
}

static bool closed(void *arg)
{
    return !uv_loop_alive(arg);
}

bool http_rig_end(struct http_rig *rig)
{
    uv_close((uv_handle_t *)&rig->timer, NULL);
    const uint64_t end = uv_hrtime() + 5000000000u;
    while (!closed(&rig->loop) && uv_hrtime() < end)
        uv_run(&rig->loop, UV_RUN_NOWAIT);
    return uv_loop_close(&rig->loop) == 0;
}

bool http_rig_until(struct http_rig *rig, bool (*done)(void *arg), void *arg)
{
    const uint64_t end = uv_hrtime() + (uint64_t)HTTP_RIG_DEADLINE_MS * 1000000;
    uv_timer_start(&rig->timer, on_timer, 5, 5);
    bool is = done(arg);
    while (!is && uv_hrtime() < end) {
        uv_run(&rig->loop, UV_RUN_ONCE);
        is = done(arg);
    }
    uv_timer_stop(&rig->timer);
    return is;
}

static bool later(void *arg)
{
    return uv_hrtime() >= *(uint64_t *)arg;
}

void http_rig_run(struct http_rig *rig, unsigned ms)
{
    uint64_t end = uv_hrtime() + (uint64_t)ms * 1000000;
    if (!http_rig_until(rig, later, &end)) abort();
}

bool http_client_open(struct http_client *c, uint32_t port)
{
    *c = (struct http_client){0};
    buf_init(&c->in, 1u << 30);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) return false;
    return connect(c->fd, (struct sockaddr *)&at, sizeof at) == 0 &&
           fcntl(c->fd, F_SETFL, O_NONBLOCK) == 0;
}

void http_client_close(struct http_client *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    buf_fini(&c->in);
}

size_t http_client_write(struct http_client *c, const void *data, size_t n)
{
    const ssize_t sent = send(c->fd, data, n, MSG_NOSIGNAL);
    return sent > 0 ? (size_t)sent : 0;
}

bool http_client_say(struct http_client *c, const char *text)
{
    return http_client_write(c, text, strlen(text)) == strlen(text);
}

bool http_client_ask(struct http_client *c, const char *method,
                     const char *path, const char *body)
{
    struct buf b;
    buf_init(&b, 1u << 20);
    enum status st =
        buf_printf(&b, "%s %s HTTP/1.1\r\nHost: x\r\n", method, path);
    if (st == ST_OK && body) {
        st = buf_printf(&b,
                        "Content-Type: application/json\r\n"
                        "Content-Length: %zu\r\n",
                        strlen(body));
    }
    if (st == ST_OK) st = buf_printf(&b, "\r\n%s", body ? body : "");
    const bool ok = st == ST_OK && http_client_say(c, b.data);
    buf_fini(&b);
    return ok;
}

void http_client_read(struct http_client *c)
{
    char part[16384];
    while (!c->eof) {
        const ssize_t n = recv(c->fd, part, sizeof part, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) {
            c->eof = true;
            return;
        }
        if (buf_append(&c->in, part, (size_t)n) != ST_OK) abort();
    }
}

/* ----------------------------------------------------------- reading */

static const char *head_end(const struct http_client *c)
{
    const char *end =
        c->in.len ? memmem(c->in.data, c->in.len, "\r\n\r\n", 4) : NULL;
    return end ? end + 4 : NULL;
}

int http_client_status(const struct http_client *c)
{
    if (!head_end(c) || strncmp(c->in.data, "HTTP/1.", 7) != 0) return 0;
    return (int)strtol(c->in.data + 9, NULL, 10);
}

static const char *find_field(const struct http_client *c, const char *field)
{
    const char *end = head_end(c);
    if (!end) return NULL;
    for (const char *at = c->in.data; at < end - 2;) {
        if (strncasecmp(at, field, strlen(field)) == 0) return at;
        at = strstr(at, "\r\n") + 2;
    }
    return NULL;
}

bool http_client_has(const struct http_client *c, const char *field)
{
    return find_field(c, field) != NULL;
}

/* *end: behind the body, if it is whole. */
static char *read_body(const struct http_client *c, size_t *n, bool *whole,
                       const char **end)
{
    const char *at = head_end(c);
    *n = 0;
    *whole = false;
    if (!at) return NULL;
    const char *all = c->in.data + c->in.len;
    char *body = mem_alloc((size_t)(all - at) + 1);
    if (!body) abort();
    const char *length = find_field(c, "Content-Length: ");
    if (!find_field(c, "Transfer-Encoding: chunked")) {
        const size_t there = (size_t)(all - at);
        const size_t want = length ? strtoull(length + 16, NULL, 10) : there;
        *n = there < want ? there : want;
        memcpy(body, at, *n);
        *whole =
            length ? there >= want : c->eof || http_client_status(c) == 204;
        *end = at + *n;
        body[*n] = '\0';
        return body;
    }
    for (;;) {
        const char *line = memmem(at, (size_t)(all - at), "\r\n", 2);
        if (!line) break;
        const size_t size = strtoull(at, NULL, 16);
        at = line + 2;
        if ((size_t)(all - at) < size + 2) break;
        memcpy(body + *n, at, size);
        *n += size;
        at += size + 2;
        *whole = size == 0;
        if (size == 0) break;
    }
    *end = at;
    body[*n] = '\0';
    return body;
}

char *http_client_body(const struct http_client *c, size_t *n, bool *whole)
{
    const char *end;
    return read_body(c, n, whole, &end);
}

void http_client_next(struct http_client *c)
{
    size_t n;
    bool whole;
    const char *end;
    char *body = read_body(c, &n, &whole, &end);
    if (!body || !whole) abort();
    mem_free(body);
    const size_t rest = (size_t)(c->in.data + c->in.len - end);
    memmove(c->in.data, end, rest);
    c->in.len = rest;
    c->in.data[rest] = '\0';
}

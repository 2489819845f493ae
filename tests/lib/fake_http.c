#include "tests/lib/fake_http.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_MAX (64u << 20)

static struct {
    int fd, stop[2];
    pthread_t thread;
    fake_handler *handler;
    void *arg;
    unsigned n;
    char url[64];
} server;

/* Head and as much body as it promises. */
static bool read_request(struct fake_conn *c)
{
    for (;;) {
        char *to;
        if (buf_reserve(&c->request, 65536, &to) != ST_OK) return false;
        const ssize_t n = recv(c->fd, to, 65536, 0);
        if (n <= 0) return false;
        c->request.len += (size_t)n;
        c->request.data[c->request.len] = '\0';
        const char *end = strstr(c->request.data, "\r\n\r\n");
        if (!end) continue;
        const char *length = strstr(c->request.data, "Content-Length: ");
        const size_t want =
            length && length < end ? strtoul(length + 16, NULL, 10) : 0;
        c->body = end + 4;
        if (c->request.len - (size_t)(c->body - c->request.data) >= want) {
            return true;
        }
    }
}

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

void fake_http_turn(void)
{
    pthread_mutex_lock(&turn);
    pthread_mutex_unlock(&turn);
}

static void *serve(void *arg)
{
    (void)arg;
    for (;;) {
        struct pollfd fds[2] = {{server.fd, POLLIN, 0},
                                {server.stop[0], POLLIN, 0}};
        poll(fds, 2, -1);
        if (fds[1].revents) return NULL;
        struct fake_conn c = {.index = server.n};
        c.fd = accept(server.fd, NULL, NULL);
        if (c.fd < 0) continue;
        buf_init(&c.request, REQUEST_MAX);
        if (read_request(&c)) {
            pthread_mutex_lock(&turn);
            server.handler(&c, server.arg);
            server.n++;
            pthread_mutex_unlock(&turn);
        }
        buf_fini(&c.request);
        /* what was sent must arrive before the reset */
        shutdown(c.fd, SHUT_WR);
        fake_await_close(&c, 2000);
        close(c.fd);
    }
}

void fake_http_start(fake_handler *handler, void *arg)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    server.handler = handler;
    server.arg = arg;
    server.n = 0;
    server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server.fd >= 0);
    assert_int_equal(bind(server.fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(server.fd, 16), 0);
    assert_int_equal(getsockname(server.fd, (struct sockaddr *)&a, &n), 0);
    assert_int_equal(pipe2(server.stop, O_CLOEXEC), 0);
    snprintf(server.url, sizeof server.url, "http://127.0.0.1:%u",
             ntohs(a.sin_port));
    assert_int_equal(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

unsigned fake_http_stop(void)
{
    close(server.stop[1]);
    pthread_join(server.thread, NULL);
    close(server.stop[0]);
    close(server.fd);
    return server.n;
}

const char *fake_http_url(void)
{
    return server.url;
}

void fake_send(struct fake_conn *c, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n > 0) {
        const ssize_t k = send(c->fd, p, n, MSG_NOSIGNAL);
        if (k <= 0) return;
        p += k;
        n -= (size_t)k;
    }
}

void fake_text(struct fake_conn *c, const char *text)
{
    fake_send(c, text, strlen(text));
}

void fake_json(struct fake_conn *c, const char *status, const char *json)
{
    char head[256];
    snprintf(head, sizeof head,
             "HTTP/1.1 %s\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\nConnection: close\r\n\r\n",
             status, strlen(json));
    fake_text(c, head);
    fake_text(c, json);
}

void fake_stream(struct fake_conn *c)
{
    fake_text(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                 "Connection: close\r\n\r\n");
}

bool fake_await_close(struct fake_conn *c, unsigned ms)
{
    char waste[4096];
    struct pollfd fd = {c->fd, POLLIN, 0};
    while (poll(&fd, 1, (int)ms) > 0) {
        if (recv(c->fd, waste, sizeof waste, 0) <= 0) return true;
    }
    return false;
}

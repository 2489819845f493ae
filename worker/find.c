#include "worker/find.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"

#define MS_NS UINT64_C(1000000)

static enum status listen_at(int *out, uint16_t port, struct error *err)
{
    const int on = 1;
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr = {htonl(INADDR_ANY)}};
    char text[96];
    const int fd =
        socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* several workers of a machine may look at once */
    if (fd >= 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, (const struct sockaddr *)&at, sizeof at) == 0) {
        *out = fd;
        return ST_OK;
    }
    const int number = errno;
    if (fd >= 0) close(fd);
    return error_set(err, ST_IO,
                     "cannot look for a coordinator on UDP port %u: %s; give "
                     "the join string",
                     port, strerror_r(number, text, sizeof text));
}

/* Into the list, unless it is full or says nothing new; true: a new one. */
static bool take(struct found *out, uint32_t *n, const struct beacon *b,
                 struct in_addr from)
{
    char host[INET_ADDRSTRLEN];
    if (!inet_ntop(AF_INET, &from, host, sizeof host)) return false;
    for (uint32_t i = 0; i < *n; i++) {
        struct join *j = &out[i].join;
        if (memcmp(j->key, b->key, sizeof j->key) != 0) continue;
        if (strncmp(j->host, "127.", 4) == 0 && j->port == b->port) {
            snprintf(j->host, sizeof j->host, "%s", host);
        }
        return false;
    }
    if (*n == FIND_MAX) return false;
    struct found *f = &out[(*n)++];
    *f = (struct found){.join.port = b->port};
    memcpy(f->join.key, b->key, sizeof f->join.key);
    snprintf(f->join.host, sizeof f->join.host, "%s", host);
    memcpy(f->name, b->name, sizeof f->name);
    return true;
}

enum status find_coordinators(struct found out[FIND_MAX], uint32_t *n,
                              uint16_t port, uint32_t wait_ms,
                              uint32_t settle_ms, struct error *err)
{
    struct pollfd p = {.events = POLLIN};
    uint32_t n_found = 0;
    const enum status st = listen_at(&p.fd, port, err);
    if (st != ST_OK) return st;
    uint64_t now = clock_now_ns(), end = now + wait_ms * MS_NS;
    for (; now < end; now = clock_now_ns()) {
        const int ready = poll(&p, 1, (int)((end - now) / MS_NS) + 1);
        if (ready < 0 && errno == EINTR) {
            close(p.fd);
            return error_set(err, ST_INTERRUPTED, "interrupted");
        }
        char data[BEACON_BYTES + 1]; /* one more: too long shows */
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        struct beacon b;
        const ssize_t got = recvfrom(p.fd, data, sizeof data, MSG_DONTWAIT,
                                     (struct sockaddr *)&from, &size);
        if (got <= 0 || size != sizeof from ||
            !beacon_parse(&b, data, (size_t)got)) {
            continue;
        }
        if (!take(out, &n_found, &b, from.sin_addr) || n_found > 1) continue;
        end = clock_now_ns() + settle_ms * MS_NS;
    }
    close(p.fd);
    *n = n_found;
    return ST_OK;
}

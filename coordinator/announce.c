#include "coordinator/announce.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS_NS          UINT64_C(1000000)
#define INTERFACES_MAX 64

void announce_open(struct announce *a, const struct beacon *b,
                   const char *listen, uint16_t to_port)
{
    const int on = 1;
    *a = (struct announce){.fd = -1, .to_port = to_port};
    a->n = beacon_format(a->text, b);
    a->loopback = strncmp(listen, "127.", 4) == 0;
    a->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (a->fd < 0) return;
    if (setsockopt(a->fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) != 0) {
        a->loopback = true;
    }
}

void announce_close(struct announce *a)
{
    if (a->fd >= 0) close(a->fd);
    a->fd = -1;
}

static void send_to(const struct announce *a, struct in_addr to)
{
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(a->to_port), .sin_addr = to};
    (void)sendto(a->fd, a->text, a->n, MSG_DONTWAIT | MSG_NOSIGNAL,
                 (const struct sockaddr *)&at, sizeof at);
}

/* The general broadcast leaves by one interface only. */
static void send_to_interfaces(const struct announce *a)
{
    struct ifaddrs *all = NULL;
    int n = 0;
    if (getifaddrs(&all) != 0) return;
    for (const struct ifaddrs *i = all; i && n < INTERFACES_MAX;
         i = i->ifa_next) {
        struct sockaddr_in at;
        if (!(i->ifa_flags & IFF_BROADCAST) || !(i->ifa_flags & IFF_UP) ||
            !i->ifa_addr || i->ifa_addr->sa_family != AF_INET ||
            !i->ifa_broadaddr) {
            continue;
        }
        memcpy(&at, i->ifa_broadaddr, sizeof at);
        send_to(a, at.sin_addr);
        n++;
    }
    freeifaddrs(all);
}

void beacon_send(struct announce *a, uint64_t now_ns)
{
    if (a->fd < 0 || now_ns < a->next_ns) return;
    a->next_ns = now_ns + BEACON_EVERY_MS * MS_NS;
    send_to(a, (struct in_addr){htonl(INADDR_LOOPBACK)});
    if (a->loopback) return;
    send_to(a, (struct in_addr){htonl(INADDR_BROADCAST)});
    send_to_interfaces(a);
}

uint64_t announce_deadline(const struct announce *a)
{
    return a->fd < 0 ? UINT64_MAX : a->next_ns;
}

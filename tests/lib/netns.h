/* netns.h - a small LAN inside this machine, for tests: hosts that reach each
 * other over shaped links and nothing else.
 *
 * Depends on: cmocka; iproute2 and root.  Thread: the test's.
 *
 *   host 0 --veth-- switch --veth-- host 1    each a network namespace of its
 *                     |                       own, named after this process
 *                   host 2 ...
 *
 * The switch routes, as not every kernel has a bridge; each host has one
 * address and reaches all others through it.  A process of its own removes
 * everything when the test has ended, however it ended. */
#ifndef TESTS_LIB_NETNS_H
#define TESTS_LIB_NETNS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define NETNS_HOSTS 8

struct netns {
    uint32_t n_hosts;
    char name[NETNS_HOSTS + 1][24]; /* the last one is the switch */
    char address[NETNS_HOSTS][24];
    /* in front of a program: "ip netns exec NAME" */
    const char *prefix[NETNS_HOSTS][5];
    int janitor_fd;
    pid_t janitor;
};

/* Without root or iproute2 the running test is skipped and says so; with
 * CI=true it fails. */
void netns_begin(struct netns *n, uint32_t n_hosts);
/* Programs that still run there are killed. */
void netns_end(struct netns *n);

/* Both directions of every link; 0: as fast as it goes. */
void netns_rate(struct netns *n, uint32_t mbit_per_s);
/* The cable of a host. */
void netns_link(struct netns *n, uint32_t host, bool up);
/* Whether these two reach each other; everybody else they still do.  What
 * they send is lost without a word. */
void netns_between(struct netns *n, uint32_t a, uint32_t b, bool open);

/* A second cable, straight from a to b: the switch passes no broadcasts on. */
void netns_neighbours(struct netns *n, uint32_t a, uint32_t b);

#endif

/* announce.h - says on the LAN that this coordinator is there (common/beacon).
 *
 * Depends on: beacon.  Thread: loop; never blocks.
 *
 * Whatever fails is ignored: a machine without a network has nobody to tell,
 * and the join string works all the same. */
#ifndef COORDINATOR_ANNOUNCE_H
#define COORDINATOR_ANNOUNCE_H

#include "common/beacon.h"

struct announce {
    int fd; /* -1: it cannot be */
    bool loopback;
    uint16_t to_port;
    uint64_t next_ns;
    size_t n;
    char text[BEACON_BYTES];
};

/* listen: the host that the control socket is bound to; one that begins with
 * "127." is told on this machine alone. to_port: BEACON_PORT, but in tests. */
void announce_open(struct announce *a, const struct beacon *b,
                   const char *listen, uint16_t to_port);
void announce_close(struct announce *a);

/* Sends it if it is time: to 255.255.255.255, the broadcast address of each
 * interface, and this machine. */
void beacon_send(struct announce *a, uint64_t now_ns);
uint64_t announce_deadline(const struct announce *a); /* UINT64_MAX: none */

#endif

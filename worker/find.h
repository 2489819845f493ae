/* find.h - finds the coordinators of this LAN by their beacons.
 *
 * Depends on: common/beacon, common/join.  Thread: main; it waits. */
#ifndef WORKER_FIND_H
#define WORKER_FIND_H

#include "common/beacon.h"
#include "common/join.h"

#define FIND_MAX       16
#define FIND_WAIT_MS   10000 /* for the first */
#define FIND_SETTLE_MS 3000  /* for others behind it: more than one beacon */

struct found {
    struct join join; /* without a token */
    char name[BEACON_NAME_MAX + 1];
};

/* Listens on this UDP port; at most FIND_MAX coordinators (by key), in the
 * order in which they were heard.  One that is heard both on this machine and
 * over the LAN is where the LAN sees it, as others must reach us there.
 * *n 0: none in wait_ms.  ST_IO: cannot listen; ST_INTERRUPTED. */
NODISCARD enum status find_coordinators(struct found out[FIND_MAX], uint32_t *n,
                                        uint16_t port, uint32_t wait_ms,
                                        uint32_t settle_ms, struct error *err);

#endif

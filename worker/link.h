/* link.h - the worker's side of the control protocol, without sockets.
 *
 * Depends on: proto/limits.  Thread: loop.  Pure: events and now_ns in, the
 * next thing to do out; net.c does it.
 *
 *   JOINING --welcome--> MEMBER --silence(lease), refused as unknown--> JOINING
 *     |  ^ Hello every second, or 3 | heartbeats
 *     |  |                          '--leave--> LEAVING --dismissed, 10 s,
 * leave
 *     '--leave, refused otherwise--> OVER <----------------------- again--' */
#ifndef WORKER_LINK_H
#define WORKER_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

#define LINK_HELLO_MS   1000
#define LINK_PENDING_MS 3000  /* between Hellos while it waits for approval */
#define LINK_LEAVE_MS   80000 /* what runs may take; systemd kills after 90 s */
#define LINK_SILENT_MS  5000  /* without an answer until that is said */
#define LINK_AGAIN_MS   60000 /* ... and said again */

enum link_state { LINK_JOINING, LINK_MEMBER, LINK_LEAVING, LINK_OVER };

enum link_action {
    LINK_NOTHING,
    LINK_SEND_HELLO,
    LINK_SEND_HEARTBEAT,
    LINK_SAY_SILENT, /* nobody answers our Hellos: tell the user */
    LINK_LOST,       /* what is assigned is void: stop it; Hello follows */
    LINK_SEND_DRAIN, /* finish what runs, plan without us */
    LINK_SEND_BYE    /* then stop: nothing follows */
};

struct link {
    enum link_state state;
    uint64_t boot; /* of the coordinator */
    uint32_t node; /* our number there */
    uint32_t heartbeat_ms, lease_ms, hello_ms;
    uint64_t heard_ns, hello_ns, beat_ns, leave_ns;
    uint64_t joining_ns, told_ns; /* the first Hello; LINK_SAY_SILENT */
    bool said_hello, assigned;
    enum link_action pending;
};

void link_init(struct link *l);
/* Any message of the coordinator. */
void link_heard(struct link *l, uint64_t now_ns);
/* True: a new membership (sockets and all else begin anew); false: the answer
 * to a Hello that crossed the first one. Times of 0 are taken as defaults. */
bool link_welcome(struct link *l, uint64_t boot, uint32_t node,
                  uint32_t heartbeat_ms, uint32_t lease_ms, uint64_t now_ns);
/* We have work; or, while leaving, not any more. */
void link_assigned(struct link *l, bool assigned);
/* ST_NOT_FOUND: we are unknown and say Hello again; ST_FULL: so too, but not
 * as soon, as we wait for approval or for a place.  False: anything else is for
 * good, the state OVER. */
bool link_refused(struct link *l, enum status why, uint64_t now_ns);
/* SIGTERM; the second time there is no more waiting. */
void link_leave(struct link *l, uint64_t now_ns);
/* What to do now; until it is LINK_NOTHING. */
enum link_action link_next(struct link *l, uint64_t now_ns);
/* When to call link_next at the latest, in ms from now. */
uint64_t link_wait_ms(const struct link *l, uint64_t now_ns);

#endif

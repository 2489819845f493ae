/* echo.h - how fast the link to the coordinator is, by messages sent back.
 *
 * Depends on: proto/wire.  Thread: loop.  Pure.
 *
 * A few small echoes one after the other give the latency, a large one there
 * and a large one back the rates.  Nothing is ever waited for: the caller
 * gives up when it likes, and what is known by then counts. */
#ifndef WORKER_ECHO_H
#define WORKER_ECHO_H

#include "proto/wire.h"

#define ECHO_SMALL   4
#define ECHO_BYTES   (512u << 10)
#define ECHO_WAIT_MS 1500 /* for all of them */

struct echo {
    uint64_t n;     /* of the one under way; counts up for good */
    uint32_t phase; /* ECHO_SMALL small ones, one there, one back, then done */
    uint64_t sent_ns, start_ns;
    uint64_t rtt_ns, there_ns, back_ns; /* 0: not known */
};

/* What to send first.  *bytes: of any content, as its tensor. */
struct wire_echo echo_begin(struct echo *e, uint64_t now_ns, uint32_t *bytes);
/* A reply came.  True: *next is to be sent; false: it was another's, or all is
 * done (echo_done). */
bool echo_reply(struct echo *e, const struct wire_echo *reply, uint64_t now_ns,
                struct wire_echo *next, uint32_t *bytes);
bool echo_done(const struct echo *e, uint64_t now_ns); /* or it took too long */
/* Fills the link's figures; 0 what is not known. */
void echo_report(const struct echo *e, struct wire_report *r);

#endif

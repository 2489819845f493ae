/* own_worker.h - how the coordinator's machine takes part itself: a worker as
 * any other, started as a child.
 *
 * Depends on: child, store, join.  Thread: loop. */
#ifndef COORDINATOR_OWN_WORKER_H
#define COORDINATOR_OWN_WORKER_H

#include "coordinator/child.h"
#include "coordinator/store.h"
#include "proto/net.h"

struct own_worker {
    const char *threads, *memory; /* as its options; NULL: its defaults */
    const char *listen;           /* host of the control socket, and its port */
    uint32_t port;
    const uint8_t *coordinator_key;
};

/* Its key, made at the first start, so that it is admitted without a token. */
NODISCARD enum status own_worker_key(uint8_t pub[KEY_BYTES], struct store *s,
                                     struct error *err);
/* child_poll starts it. */
NODISCARD enum status own_worker_create(struct child **out,
                                        const struct own_worker *w,
                                        struct store *s,
                                        void (*say)(void *, const char *),
                                        struct error *err);

#endif

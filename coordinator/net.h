/* net.h - the coordinator's sockets and loop, and what goes over them.
 *
 * Depends on: core, admit, bulk, store, child, api, proto; libuv.
 * Thread: loop.
 *
 * Listens on three sockets (docs/PROTOCOL.md), control, data and bulk, and for
 * HTTP; connects to the data socket of each worker that begins a step. */
#ifndef COORDINATOR_NET_H
#define COORDINATOR_NET_H

#include "coordinator/core.h"

#define COORDINATOR_BUILD "0.1"

struct coordinator_options {
    const char *model_path;
    const char *host; /* to listen on */
    uint32_t port;    /* control; data is port + 2, bulk port + 3, or any free
                         ones if these are taken; 0: any */
    const char *http; /* ADDRESS:PORT */
    const char *advertise; /* host in the join string; NULL: found out */
    const char *state_dir; /* NULL: the default */
    const char *plan_path; /* or NULL */
    const char *local_threads, *local_memory; /* for its own worker; or NULL */
    float invite_minutes; /* the token of the join string; 0: it has none */
    uint32_t n_workers;   /* wait for so many before the first plan */
    bool local;           /* this machine's own worker takes part */
    bool spread, beacon;
    enum plan_objective objective;
    uint32_t n_users, n_ctx, queue_max;
    enum kv_type kv_type;
};

/* Serves until SIGTERM or SIGINT (ST_OK; the second one hurries).  Speaks on
 * stderr. */
NODISCARD enum status coordinator_run(const struct coordinator_options *o,
                                      struct error *err);

#endif

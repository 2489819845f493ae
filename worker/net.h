/* net.h - a worker: its sockets, its loop, and what is said over them.
 *
 * Depends on: link, echo, exec, fetch, cache, proto; libuv.  Thread: loop.
 *
 * Five kinds of sockets (docs/PROTOCOL.md): to the coordinator control, data
 * and bulk; one that listens for the coordinator's and the peers' data; one to
 * each peer that we have something for, opened when we do, because a peer
 * admits us only once it has its own assignment. */
#ifndef WORKER_NET_H
#define WORKER_NET_H

#include "common/join.h"
#include "engine/shard.h"

#define WORKER_BUILD "0.1"

struct worker_options {
    struct join join;
    struct shard_options shard; /* isa, blas, threads, memory_max */
    const char *name;
    const char *state_dir;  /* key and coordinator are kept here; exists */
    const char *cache_dir;  /* of cells; NULL: none is kept */
    uint64_t cache_bytes;   /* 0: no limit */
    const char *listen;     /* host of the data socket */
    uint32_t listen_port;   /* 0: any */
    const char *trace_path; /* or NULL */
    bool no_progress;       /* no line of progress, on a terminal either */
};

/* Joins and works until SIGTERM or SIGINT (ST_OK; the second one hurries), or
 * until the coordinator refuses for good: *refused, and its sentence in err.
 * Speaks on stderr. */
NODISCARD enum status worker_run(const struct worker_options *o, bool *refused,
                                 struct error *err);

#endif

/* fetch.h - the bytes of a shard, in cells from the cache or the coordinator.
 *
 * Depends on: cell, cache, hash, proto/wire.  Thread: fetch_read from several
 * threads that load, and blocks; everything else from the loop, and does not.
 *
 *   load:  fetch_read --> in memory? --> in the cache? --> wait
 *   loop:  fetch_request --> CELLS_WANTED ... MANIFEST, CELL --> fetch_take
 *
 * Hashes are asked for ahead of cells, and cells ahead of the readers, in the
 * order in which loading wants them: so many in flight or unread as credits
 * and half of the memory allow; the other half keeps cells of which a part
 * was read.  Readers verify, since hashing would hold up the loop.
 *
 * It has a mutex, as readers wait for one cell each and the first one that
 * comes is of no use to the others. */
#ifndef WORKER_FETCH_H
#define WORKER_FETCH_H

#include "engine/cell.h"
#include "proto/wire.h"
#include "worker/cache.h"

#define FETCH_CREDITS     16
#define FETCH_MEMORY      (32u << 20)
#define FETCH_DEADLINE_MS 30000
#define FETCH_TRIES       3 /* of a cell that comes with another hash */

struct fetch;

struct fetch_options {
    struct cache *cache;  /* or NULL; outlives the fetch */
    uint32_t credits;     /* 0: FETCH_CREDITS */
    size_t memory_max;    /* 0: FETCH_MEMORY; at least one cell is kept */
    uint32_t deadline_ms; /* without anything coming; 0: FETCH_DEADLINE_MS */
    const char *from;     /* who is asked, for errors; copied */
    /* fetch_request may have something; called from any thread, must not call
     * back */
    void (*wake)(void *arg);
    void *arg;
};

/* Lists the cells of this assignment.  ST_INVALID and others as
 * gguf_open_header, model_describe, cell_list.  Held once by the caller. */
NODISCARD enum status fetch_create(struct fetch **out,
                                   const struct wire_assign *a,
                                   const struct fetch_options *o,
                                   struct error *err);
/* The last one to let go frees it: it must be cancelled, or nobody reading. */
void fetch_hold(struct fetch *f);
void fetch_release(struct fetch *f); /* NULL allowed */

/* A gguf_read_fn; arg is the fetch.  ST_IO: nothing has come for the deadline;
 * ST_INVALID: a cell came wrong FETCH_TRIES times; ST_INTERRUPTED: cancelled.
 * An error is every reader's, and stays. */
NODISCARD enum status fetch_read(void *arg, uint32_t tensor, uint64_t from,
                                 void *dst, size_t n, struct error *err);
/* Readers return ST_INTERRUPTED, now and from now on; any thread. */
void fetch_cancel(struct fetch *f);

/* The next CELLS_WANTED to send (out is the caller's, wire_message_fini);
 * false: none now. */
NODISCARD bool fetch_request(struct fetch *f, struct wire_message *out);
/* It could not be sent: ask again. */
void fetch_not_sent(struct fetch *f, const struct wire_message *m);
/* A MANIFEST or CELL; what nobody asked for is ignored.  Copies. */
void fetch_take(struct fetch *f, const struct wire_message *m,
                const void *tensor, size_t n);
/* Now and then: what has not been answered for long is asked again. */
void fetch_tick(struct fetch *f, uint64_t now_ns);

/* Bytes of cells that are or were here, of all. */
void fetch_progress(struct fetch *f, uint64_t *done, uint64_t *total);
/* There are bytes to come yet; NULL: no. */
bool fetch_goes_on(struct fetch *f);
/* Bytes of cells in memory, for tests. */
size_t fetch_memory(struct fetch *f);

#endif

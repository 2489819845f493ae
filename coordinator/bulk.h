/* bulk.h - serves the cells of the model, and their hashes, to the workers.
 *
 * Depends on: manifest, proto/wire.  Thread: loop, but for its own loader
 * threads, which read and hash; the loop never waits for the disk.
 *
 *   loop:   bulk_wanted --> queue of that worker
 *   loader:                 round robin over workers --> read --> finished
 *   loop:   (notify) bulk_take --> send --> bulk_sent, or bulk_untake if full
 *
 * What is finished waits for the loop within a limit.  A worker whose socket is
 * full gets nothing more read, and gives up what it has waiting when another
 * one needs the room: that is read again later.  So a slow worker costs the
 * others neither memory nor their turn.
 *
 * It has a mutex: loaders choose by what the loop has taken and put back. */
#ifndef COORDINATOR_BULK_H
#define COORDINATOR_BULK_H

#include "coordinator/manifest.h"
#include "proto/wire.h"

#define BULK_THREADS      2
#define BULK_THREADS_MAX  8
#define BULK_READY_BYTES  (16u << 20)
#define BULK_CELLS_QUEUED 4096               /* of a worker */
#define BULK_IDS_QUEUED   (2u * LIMIT_CELLS) /* of a worker, with hashes */

struct bulk;

struct bulk_options {
    struct manifest *manifest; /* outlives it */
    uint8_t model_id[KEY_BYTES];
    uint32_t n_threads; /* 0: BULK_THREADS; at most BULK_THREADS_MAX */
    size_t ready_max;   /* 0: BULK_READY_BYTES; exceeded by at most one cell a
                           thread */
    /* there may be something to take; called on a loader thread, until
     * bulk_free has returned */
    void (*notify)(void *arg);
    void *arg;
};

/* A message for the bulk socket, between bulk_take and what ends it. */
struct bulk_out {
    uint8_t key[KEY_BYTES]; /* to whom */
    struct buf header;      /* a whole header frame: CELL or MANIFEST */
    struct buf tensor; /* the cell's bytes; data NULL where there is none */
    /* bulk.c's own */
    struct bulk_out *next;
    struct bulk_worker *worker;
    struct wire_cell_id id; /* of a CELL */
    bool is_cell;           /* and one that was read: it can be read again */
    uint32_t n_hashes;      /* of a MANIFEST */
};

NODISCARD enum status
bulk_create(struct bulk **out, const struct bulk_options *o, struct error *err);
/* Waits for the reads under way.  Whatever was taken must have ended. NULL
 * allowed. */
void bulk_free(struct bulk *b);

/* CELLS_WANTED of a worker.  Each cell becomes a CELL; with manifest_only a few
 * at a time become a MANIFEST.  A cell that there is not, of another model_id,
 * or that cannot be read, becomes a CELL with a status (of another model: only
 * the first one named).  What waits already for that worker is not queued
 * twice.  ST_TOO_LARGE: it has more queued than it may (its own mistake);
 * ST_FULL: LIMIT_NODES workers are being served; ST_NO_MEMORY.  Nothing is
 * queued then: a worker asks again. */
NODISCARD enum status bulk_wanted(struct bulk *b, const uint8_t key[KEY_BYTES],
                                  const struct wire_cells *w,
                                  struct error *err);

/* The next message to send, round robin over workers; NULL: none now.  Each is
 * ended by one of the three that follow. */
struct bulk_out *bulk_take(struct bulk *b);
/* Frees it. */
void bulk_sent(struct bulk *b, struct bulk_out *o);
/* It cannot be sent to anybody; freed as well. */
void bulk_drop(struct bulk *b, struct bulk_out *o);
/* The socket was full: it goes back, and that worker is passed over until
 * bulk_retry. */
void bulk_untake(struct bulk *b, struct bulk_out *o);
/* Now and then (every 20 ms, say) after bulk_untake, and bulk_take behind it,
 * until this says that no worker was passed over. */
bool bulk_retry(struct bulk *b);

/* This worker is gone: what it asked for is dropped. */
void bulk_forget(struct bulk *b, const uint8_t key[KEY_BYTES]);

struct bulk_counts {
    uint64_t cells, cell_bytes; /* sent, in all */
    uint64_t hashes;            /* sent */
    uint64_t refused;           /* cells sent with a status */
    uint64_t reread;            /* cells whose room another worker needed */
    uint64_t queued;            /* ids now */
    size_t ready_bytes; /* finished or being read, and not yet sent, now;
                           with what they cost besides */
};
struct bulk_counts bulk_counts(struct bulk *b);

#endif

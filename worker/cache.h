/* cache.h - cells on this worker's disk, by their hash.
 *
 * Depends on: hash.  Thread: any, several at once; blocks on the disk.
 *
 *   DIR/cells/ab/<62 more hexadecimal digits>    a cell's bytes, nothing else
 *   DIR/cells/tmp-<random>                       one being written
 *
 * Only ever a help: nothing that goes wrong here is an error for the caller.
 * What is read is verified, what cannot be written is said once and left, and
 * a folder that cannot be used at all makes a cache that never has anything.
 * Several workers may share one folder: cells appear whole, by a rename, and
 * one that another worker has removed is a miss. */
#ifndef WORKER_CACHE_H
#define WORKER_CACHE_H

#include "common/mem.h"
#include "proto/hash.h"

struct cache;

/* One line for the log, without a newline; may be NULL.  Called at most once
 * for a cache, from the thread that met the failure. */
typedef void cache_say_fn(void *arg, const char *line);

/* dir is made if it is not there.  limit_bytes: of all cells in it, whoever
 * put them there; over it, those least recently used (put or got, by any
 * worker) go until a sixteenth of it is free; 0: no limit.  Nothing is scanned
 * before the first put.  Workers that share a folder can together be over by a
 * sixteenth each.  ST_NO_MEMORY. */
NODISCARD enum status cache_open(struct cache **out, const char *dir,
                                 uint64_t limit_bytes, cache_say_fn *say,
                                 void *say_arg, struct error *err);
void cache_close(struct cache *c); /* NULL allowed */

/* True: dst has the cell of n bytes with this hash, and it counts as used now.
 * False: it is not here, and dst is undefined.  A cell of another length or
 * with other bytes than its hash says is deleted. */
NODISCARD bool cache_get(struct cache *c, const uint8_t hash[HASH_BYTES],
                         void *dst, size_t n);
/* Is there something of that name and length?  Does not read it. */
NODISCARD bool cache_has(const struct cache *c, const uint8_t hash[HASH_BYTES],
                         size_t n);
/* Keep a copy.  The caller has verified the hash. */
void cache_put(struct cache *c, const uint8_t hash[HASH_BYTES],
               const void *data, size_t n);

struct cache_counters {
    uint64_t hits, misses; /* of cache_get; misses include the damaged */
    uint64_t damaged;
    uint64_t puts, evicted;
    bool read_only; /* a write has failed, or there is no folder */
};
struct cache_counters cache_counters(struct cache *c);

#endif

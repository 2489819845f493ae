/* record.h - what is remembered of a worker beyond its membership.
 *
 * Depends on: proto/limits.  Thread: loop.  Pure.
 *
 * One that fails, or comes and goes, is a new node each time it joins; its key
 * is not. */
#ifndef COORDINATOR_RECORD_H
#define COORDINATOR_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"

#define RECORDS_MAX (2 * LIMIT_NODES)

struct record {
    uint8_t key[KEY_BYTES];
    bool used;
    uint32_t failures; /* each holds it out of plans for longer */
    uint32_t returns;  /* each makes the pool slower to change for it */
    uint64_t held_ns;  /* in no plan until then */
    uint64_t last_ns;  /* of its last trouble */
    char why[LIMIT_TEXT + 1];
};
struct records {
    struct record of[RECORDS_MAX];
};

/* NULL: nothing is held against it. */
struct record *record_find(struct records *r, const uint8_t key[KEY_BYTES]);
/* The same, or a new one, for which the oldest makes room. */
struct record *record_make(struct records *r, const uint8_t key[KEY_BYTES],
                           uint64_t now_ns);
/* It failed: held for 1 s, 2 s, ... 60 s; until when. */
uint64_t record_failure(struct records *r, const uint8_t key[KEY_BYTES],
                        const char *why, uint64_t now_ns);
/* How long it must stay before a pool that serves changes for it: 0, then 2 s,
 * 4 s, ... 60 s. */
uint64_t record_patience(struct records *r, const uint8_t key[KEY_BYTES]);
void record_forget(struct records *r, const uint8_t key[KEY_BYTES]);

#endif

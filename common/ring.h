/* ring.h - a bounded queue of pointers between threads.
 *
 * Depends on: mem.  Thread: any number of writers and readers.  Full means
 * backpressure, never growth. */
#ifndef COMMON_RING_H
#define COMMON_RING_H

#include <stdint.h>

#include "common/mem.h"

struct ring;

NODISCARD enum status ring_create(struct ring **out, uint32_t capacity);
void ring_free(struct ring *r); /* what is in it is the caller's; NULL ok */
/* false: full. */
NODISCARD bool ring_push(struct ring *r, void *item);
/* To the front: for what cannot wait. */
NODISCARD bool ring_push_front(struct ring *r, void *item);
/* NULL: empty. */
void *ring_pop(struct ring *r);
/* Waits for an item; NULL after timeout_ms. */
void *ring_wait(struct ring *r, uint32_t timeout_ms);

#endif

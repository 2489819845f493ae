/* table.h - /v1/cluster as a table for people.
 *
 * Depends on: buf.  Thread: any. */
#ifndef CLIENT_TABLE_H
#define CLIENT_TABLE_H

#include "common/buf.h"

#define TABLE_MAX (4u << 20)

struct json_t;

/* Appends state, a line per PC (layers, experts, memory, speed, what it does),
 * the plan's prediction and the queue.  What is missing or of another type
 * shows as "-"; control characters do not pass. */
NODISCARD enum status table_write(struct buf *b, const struct json_t *cluster);

#endif

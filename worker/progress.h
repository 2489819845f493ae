/* progress.h - how far the fetching of a model is, as a line for people.
 *
 * Depends on: nothing.  Thread: loop.  Pure: now_ns in. */
#ifndef WORKER_PROGRESS_H
#define WORKER_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

struct progress {
    uint64_t start_ns, start_bytes; /* 0: not begun; what the cache had */
};

/* "23.5 of 206.0 MiB, 11.2 MiB/s, 0:17 left"; without rate and time in the
 * first second.  p: zeroed at the beginning. */
void progress_line(struct progress *p, uint64_t now_ns, uint64_t done,
                   uint64_t total, char *out, size_t max);

#endif

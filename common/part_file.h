/* part_file.h - a file that grows beside its place under another name, until
 * it is whole; and what is left of those whose writer was killed.
 *
 * Depends on: status.  Thread: any; all of it blocks on the disk.
 *
 * The name is PATH.part-PID-N, and its writer holds a lock on it (flock) until
 * it is renamed or removed.  One without a lock, whose process is not there
 * either, is nobody's: that is the proof by which the next run removes it.
 * Where locks do not work, or on another machine's process that runs, it
 * stays. */
#ifndef COMMON_PART_FILE_H
#define COMMON_PART_FILE_H

#include <stdint.h>

#include "common/status.h"

/* Made anew, for writing, locked; its name into temp [size].  ST_USAGE: too
 * long a path; ST_FULL; else ST_IO. */
NODISCARD enum status part_file_create(const char *path, char *temp,
                                       size_t size, int *fd, struct error *err);

/* Removes those of `path` that are nobody's; said is called for each with its
 * name and bytes, may be NULL.  What cannot be looked at stays. */
void part_file_sweep(const char *path,
                     void (*said)(void *arg, const char *name, uint64_t bytes),
                     void *arg);

#endif

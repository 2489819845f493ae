/* spawn.h - the two daemons: found, become, or started as children.
 *
 * Depends on: status.  Thread: main (children die with the thread that
 * started them). */
#ifndef CLIENT_SPAWN_H
#define CLIENT_SPAWN_H

#include <sys/types.h>

#include "common/status.h"

#define SPAWN_PATH_BYTES 4096

/* NAME in the folder of this executable, else in PATH.  ST_NOT_FOUND says
 * where it was looked for. */
NODISCARD enum status spawn_find(char path[SPAWN_PATH_BYTES], const char *name,
                                 struct error *err);

/* The first of `places` (relative to the folder of this program; the last is
 * NULL) that can be read.  ST_NOT_FOUND. */
NODISCARD enum status spawn_find_data(char path[SPAWN_PATH_BYTES],
                                      const char *const *places,
                                      struct error *err);

/* Become it, with argv[1..] as they are: signals and exit code are the
 * program's own.  Returns only on failure. */
enum status spawn_become(const char *name, char **argv, struct error *err);

/* Start a child: nothing on standard input, both outputs appended to
 * log_path, a process group of its own (Ctrl-C is the parent's to handle), and
 * SIGKILL when this process dies, however it does. */
NODISCARD enum status spawn_child(pid_t *pid, const char *path,
                                  const char *const *argv, const char *log_path,
                                  struct error *err);

/* True if it has ended; then it is reaped, and `how` says how ("exit status
 * 1", "signal 9"). */
bool spawn_ended(pid_t pid, char how[32]);
/* SIGTERM to all (0: none there), SIGKILL to who still runs 3 s later; all are
 * reaped and set to 0. */
void spawn_end_all(pid_t *pids, size_t n);

#endif

/* child.h - the coordinator's own worker, as a child process.
 *
 * Depends on: mem.  Thread: main (the one that starts it must live as long as
 * the coordinator, as the kernel ends the child with it).  Never blocks, but
 * for child_free.
 *
 *   STARTED --it ends--> BACKOFF (1 s, doubled to 30 s) --> STARTED
 *   either --child_stop: SIGTERM--> STOPPING --deadline: SIGKILL--> STOPPED
 *
 * It is in a process group of its own: Ctrl-C reaches the coordinator alone,
 * which finishes what runs and then tells it. */
#ifndef COORDINATOR_CHILD_H
#define COORDINATOR_CHILD_H

#include <sys/types.h>

#include "common/mem.h"

#define CHILD_BACKOFF_MS     1000
#define CHILD_BACKOFF_MAX_MS 30000 /* after so long a run, it begins anew */
#define CHILD_POLL_MS        500

struct child;

struct child_options {
    const char *program;     /* "potluck-worker": looked for beside this
                                program, then in PATH; with a slash: itself */
    const char *const *args; /* after the name; NULL-terminated; copied */
    const char *join; /* as POTLUCK_JOIN, which no other user sees; copied */
    /* one line for the log, without a newline */
    void (*say)(void *arg, const char *line);
    void *arg;
};

/* ST_NOT_FOUND: no such program, and where it was looked for; ST_NO_MEMORY.
 * The first child_poll starts it. */
NODISCARD enum status child_create(struct child **out,
                                   const struct child_options *o,
                                   struct error *err);
/* Kills what still runs, and waits for that. NULL allowed. */
void child_free(struct child *c);

/* Starts it, sees whether it has ended, hurries it; on SIGCHLD or every
 * CHILD_POLL_MS, and at child_deadline. */
void child_poll(struct child *c, uint64_t now_ns);
uint64_t child_deadline(const struct child *c); /* UINT64_MAX: none */

/* SIGTERM now, SIGKILL after kill_after_ms; the second time the earlier
 * deadline holds.  A worker takes a second SIGTERM as a wish to hurry. */
void child_stop(struct child *c, uint64_t now_ns, uint64_t kill_after_ms);
bool child_stopped(const struct child *c);

pid_t child_pid(const struct child *c); /* 0: it does not run */

#endif

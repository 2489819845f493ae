/* pool_rig.h - a real pool in tests: coordinator and workers as processes on
 * this machine, in a folder of their own.
 *
 * Depends on: cli, run_command, cmocka.  Thread: the test's.  Every wait has a
 * deadline, after which the test fails with what the programs last said. */
#ifndef TESTS_LIB_POOL_RIG_H
#define TESTS_LIB_POOL_RIG_H

#include <sys/types.h>

#include "tests/lib/cli.h"

#define POOL_RIG_WORKERS 40

struct pool_rig {
    char dir[256];
    char http[96];  /* "http://127.0.0.1:PORT"; "" before pool_serve */
    char join[300]; /* what `serve` printed */
    char listen[64], http_address[64]; /* kept for a restart */
    pid_t coordinator;                 /* 0: not running */
    pid_t workers[POOL_RIG_WORKERS];
    /* In front of each program, as in "ip netns exec w1"; NULL: nothing. */
    const char *const *coordinator_prefix;
    const char *const *worker_prefix[POOL_RIG_WORKERS];
    const char *host; /* to listen on; NULL: 127.0.0.1 */
};

void pool_begin(struct pool_rig *r);
/* Ends all programs that still run, and checks that none of those ended by a
 * signal that the test did not send; removes the folder. */
void pool_end(struct pool_rig *r);

/* Starts potluck-coordinator for the model and waits until it listens; more:
 * further arguments, NULL-terminated, or NULL.  Without `--no-local` in more
 * it has none, nor a beacon.  The second time it takes the same ports. */
void pool_serve(struct pool_rig *r, const char *model, const char *const *more);
/* Starts worker i as "pc-<i>", one thread, 1G. */
void pool_join(struct pool_rig *r, uint32_t i, const char *const *more);
void pool_join_all(struct pool_rig *r, uint32_t n);

/* Until /v1/cluster says this state. */
void pool_wait_state(struct pool_rig *r, const char *state);
/* ... and so many nodes. */
void pool_wait_nodes(struct pool_rig *r, uint32_t n, const char *state);
json_t *pool_status(struct pool_rig *r); /* NULL: it does not answer */

/* potluck run against this pool. */
struct outcome pool_run(struct pool_rig *r, const struct command *with,
                        const char *const *args);
#define POOL_RUN(r, ...)                                                       \
    pool_run(r, &(struct command){0}, (const char *const[]){__VA_ARGS__, NULL})
/* The same in the background, standard output into DIR/name. */
pid_t pool_run_async(struct pool_rig *r, const char *name,
                     const char *const *args);
/* Its exit code, or minus the signal. */
int pool_wait_exit(pid_t pid);

/* SIGTERM and wait; SIGKILL and wait. The exit code. */
int pool_stop_worker(struct pool_rig *r, uint32_t i);
void pool_kill_worker(struct pool_rig *r, uint32_t i);
int pool_stop_coordinator(struct pool_rig *r);
void pool_kill_coordinator(struct pool_rig *r);

/* Whether DIR/who.log has these words: who is "coordinator" or "pc-1". */
bool pool_said(struct pool_rig *r, const char *who, const char *words);
void pool_wait_said(struct pool_rig *r, const char *who, const char *words);
/* DIR/name, valid for the next 15 calls. */
const char *pool_path(struct pool_rig *r, const char *name);
/* VmHWM of a process, bytes. */
uint64_t pool_peak_bytes(pid_t pid);

#endif

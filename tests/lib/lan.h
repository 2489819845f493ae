/* lan.h - a real pool in tests: coordinator and workers as processes on
 * this machine, in a folder of their own.
 *
 * Depends on: cli, run_command, cmocka.  Thread: the test's.  Every wait has a
 * deadline, after which the test fails with what the programs last said.
 *
 * LAN_WRAP in the environment stands in front of coordinator and workers, as
 * in "valgrind -q --error-exitcode=99". */
#ifndef TESTS_LIB_LAN_H
#define TESTS_LIB_LAN_H

#include <sys/types.h>

#include "tests/lib/cli.h"

#define LAN_WORKERS 40

struct lan {
    char dir[256];
    char http[96];  /* "http://127.0.0.1:PORT"; "" before lan_serve */
    char join[300]; /* what `serve` printed */
    char listen[64], http_address[64]; /* kept for a restart */
    pid_t coordinator;                 /* 0: not running */
    pid_t workers[LAN_WORKERS];
    /* In front of each program, as in "ip netns exec w1"; NULL: nothing.  The
     * client runs where the coordinator does. */
    const char *const *coordinator_prefix;
    const char *const *worker_prefix[LAN_WORKERS];
    const char *host; /* to listen on; NULL: 127.0.0.1 */
};

void lan_begin(struct lan *r);
/* Ends all programs that still run, and checks that none of those ended by a
 * signal that the test did not send; removes the folder. */
void lan_end(struct lan *r);

/* Starts potluck-coordinator for the model and waits until it listens; more:
 * further arguments, NULL-terminated, or NULL.  Without `--no-local` in more
 * it has none, nor a beacon.  The second time it takes the same ports. */
void lan_serve(struct lan *r, const char *model, const char *const *more);
/* Starts worker i as "pc-<i>", one thread, 1G. */
void lan_join(struct lan *r, uint32_t i, const char *const *more);
void lan_join_all(struct lan *r, uint32_t n);

/* Until /v1/cluster says this state. */
void lan_wait_state(struct lan *r, const char *state);
/* ... and so many nodes. */
void lan_wait_nodes(struct lan *r, uint32_t n, const char *state);
json_t *lan_status(struct lan *r); /* NULL: it does not answer */
/* The plan that `--plan DIR/plan.json` reads, all or nothing: the coordinator
 * may be reading. */
void lan_write_plan(struct lan *r, const json_t *plan);
/* A running coordinator reads it anew (SIGHUP); until it serves by it. */
void lan_replan(struct lan *r, const json_t *plan);
/* Until it serves and pc-<i> holds a part of the model, or none. */
void lan_wait_used(struct lan *r, uint32_t i, bool used);
/* Until no prompt waits or runs, and every page of the key/value cache is
 * free. */
void lan_wait_idle(struct lan *r);

/* potluck run against this pool. */
struct outcome lan_run(struct lan *r, const struct command *with,
                       const char *const *args);
#define LAN_RUN(r, ...)                                                        \
    lan_run(r, &(struct command){0}, (const char *const[]){__VA_ARGS__, NULL})
/* The same in the background, standard output into DIR/name. */
pid_t lan_run_async(struct lan *r, const char *name, const char *const *args);
/* Until DIR/name has n bytes, as of an answer that is under way. */
void lan_wait_bytes(struct lan *r, const char *name, uint64_t n);
/* Its exit code, or minus the signal. */
int lan_wait_exit(pid_t pid);

/* A coordinator that cannot start: exit code 1, and it says so. */
void lan_serve_fails(struct lan *r, const char *said, const char *model,
                     const char *const *more);

/* SIGTERM and wait; SIGKILL and wait. The exit code. */
int lan_stop_worker(struct lan *r, uint32_t i);
void lan_kill_worker(struct lan *r, uint32_t i);
int lan_stop_coordinator(struct lan *r);
void lan_kill_coordinator(struct lan *r);

/* Whether DIR/who.log has these words: who is "coordinator" or "pc-1". */
bool lan_said(struct lan *r, const char *who, const char *words);
void lan_wait_said(struct lan *r, const char *who, const char *words);
/* DIR/name, valid for the next 15 calls. */
const char *lan_path(struct lan *r, const char *name);
/* The TCP ports on which a process listens; how many were written. */
size_t lan_ports(pid_t pid, uint16_t *ports, size_t max);
/* VmHWM of a process, bytes. */
uint64_t lan_peak_bytes(pid_t pid);

#endif

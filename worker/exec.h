/* exec.h - the compute thread of a worker: jobs in, messages out.
 *
 * Depends on: engine, proto/wire, ring.  Thread: created and fed by the loop;
 * sees neither socket nor loop.
 *
 * Several steps may be under way: one that waits for experts of other workers
 * is laid aside, requests for our experts go first, and steps leave in the
 * order in which they came.  A later step never computes the attention of a
 * layer whose keys an earlier one has still to store.
 *
 *   loop --exec_step, exec_exchange, exec_load--> ring --> compute thread
 *   loop <--exec_take (after notify)------------- ring <-- messages to send */
#ifndef WORKER_EXEC_H
#define WORKER_EXEC_H

#include "engine/runner.h"
#include "proto/wire.h"

struct exec;

#define EXEC_TO_COORDINATOR 0 /* node numbers begin at 1 */

/* A message to send.  The receiver of exec_take owns it (exec_out_free). */
struct exec_out {
    uint32_t node;     /* EXEC_TO_COORDINATOR, or whom */
    bool control;      /* over the control socket; else data */
    uint64_t epoch;    /* older than the current one: drop it */
    struct buf header; /* a whole header frame */
    float *tensor;     /* or NULL */
    size_t tensor_bytes;
};
void exec_out_free(struct exec_out *o);

struct exec_options {
    struct shard_options shard; /* isa, blas, threads, memory_max */
    /* something is there to take; called on the compute thread */
    void (*notify)(void *arg);
    void *arg;
    /* as worker/trace.h says */
    const char *trace_path; /* or NULL */
};

NODISCARD enum status
exec_create(struct exec **out, const struct exec_options *o, struct error *err);
/* Ends the thread; a load under way must have been told to give up (its read
 * function fails). */
void exec_free(struct exec *e);

/* Measure these types (worker/probe.h), then send a Report of them. */
NODISCARD bool exec_probe(struct exec *e, uint32_t types);

/* Drop what is held, then hold this.  The model header is copied; read serves
 * tensor bytes (engine/gguf.h gguf_read_fn), from the compute thread and its
 * helpers, until done is called, once, on any thread (may be NULL).  Ends in a
 * Ready or Failure message of that epoch.  self: our node number.  false: the
 * ring is full or memory short; nothing taken, done not called. */
struct exec_load {
    struct wire_assign assign; /* arrays are taken over (wire_message_fini) */
    uint32_t self;
    gguf_read_fn *read;
    void (*done)(void *read_arg);
    void *read_arg;
};
NODISCARD bool exec_load(struct exec *e, struct exec_load *load);
/* Nothing of an older epoch is computed any further. */
void exec_set_epoch(struct exec *e, uint64_t epoch);

/* STEP, DISPATCH, PARTIALS. m is taken over; tensor is copied.  false: the
 * ring is full (more in flight than credits allow): nothing taken. */
NODISCARD bool exec_message(struct exec *e, struct wire_message *m,
                            const void *tensor, size_t tensor_bytes);

/* The next message to send, or NULL. */
struct exec_out *exec_take(struct exec *e);

/* Counts up while the compute thread gets on; busy: it has something to do. */
uint64_t exec_progress(const struct exec *e, bool *busy);

#endif

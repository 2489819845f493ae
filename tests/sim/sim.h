/* sim.h - a whole pool in one process: virtual time, fake transport, seeds.
 *
 * Depends on: coordinator/core.h, worker/link.h, proto/wire.  Thread: one.
 *
 * The coordinator is the real core; workers run the real link.c and a model
 * of exec.c that computes a function of 64 bits in place of a transformer:
 * each layer keeps, for each sequence, a hash of all that it has seen, so that
 * a lost, repeated or misplaced row, KV operation or expert changes every
 * token after it.  sim_ref says what a request's tokens must be whatever the
 * plan and the faults.  Messages go through wire_write and wire_read.
 *
 * Everything that happens is an event with a time; the same seed gives the
 * same run.  Invariants are checked after each event; what breaks one is in
 * sim_failed, with the last events. */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "common/rng.h"
#include "coordinator/core.h"
#include "worker/link.h"

#define SIM_MS          UINT64_C(1000000)
#define SIM_SECOND      UINT64_C(1000000000)
#define SIM_WORKERS_MAX 6
#define SIM_PROCS       (1 + SIM_WORKERS_MAX) /* 0: the coordinator */
#define SIM_NOBODY      SIM_PROCS             /* owner of the world's events */
#define SIM_LAYERS_MAX  12
#define SIM_SEQS_MAX    64
#define SIM_TRACE       80

/* ------------------------------------------------------------- models */

struct sim_model {
    struct gguf *gguf;
    struct model model;
    struct tokenizer *tokenizer;
    struct buf header; /* gguf_strip_header */
};
/* Some layers, experts or none; fails the test if it cannot. */
void sim_model_open(struct sim_model *m, uint32_t n_layer, uint32_t n_expert);
void sim_model_close(struct sim_model *m);

/* The function that stands for the transformer. */
struct sim_hashes {
    uint64_t at[SIM_LAYERS_MAX]; /* of what a layer has seen of a sequence */
};
uint64_t sim_embed(int32_t token, uint32_t pos);
uint64_t sim_attend(uint64_t *hash, uint64_t x, uint32_t layer);
/* Of E experts the two that x chooses, ascending. */
void sim_choose(uint64_t x, uint32_t n_expert, uint32_t out[2]);
uint64_t sim_expert(uint64_t x, uint32_t layer, uint32_t expert);
uint64_t sim_combine(uint64_t x, const uint64_t y[2]);
/* Candidates and the whole row (NULL: not wanted) after x. */
void sim_head(uint64_t x, const struct model *m, float inv_temp, bool plain,
              uint64_t seed, uint64_t n, struct head_result *out, float *row);

/* --------------------------------------------------------------- world */

struct sim;
struct sim_event {
    uint64_t at, order;
    uint32_t who; /* whose event it is: lost if that process has died since */
    uint32_t life;
    void (*run)(struct sim *s, struct sim_event *e);
    void (*drop)(void *payload); /* NULL: payload is not owned */
    void *payload;
    uint64_t arg;
};

enum sim_socket { SIM_CONTROL, SIM_DATA, SIM_SOCKETS };
/* What travels: both frames as they would stand on the wire. */
struct sim_frame {
    uint32_t from, to;
    enum sim_socket socket;
    uint32_t connection; /* lost if it has broken since */
    uint64_t epoch;      /* over data */
    struct buf header;
    void *tensor;
    size_t tensor_bytes;
};

struct sim_link { /* between two processes, both ways */
    uint64_t latency_ns;
    uint64_t cut_until;
    bool lossy; /* the cut breaks connections: what flies is lost */
};
struct sim_channel {  /* one direction of a connection */
    uint64_t last_ns; /* nothing overtakes */
    uint32_t connection;
};

struct sim_options {
    uint64_t seed;
    uint32_t n_workers, n_clients;
    uint64_t chaos_ns; /* faults come until then; 0: none */
    double plenty;     /* memory of all, in models */
    bool duplicates, losses, spikes, restarts;
    const char *plan_json;
    bool quiet_links; /* all latencies 100 us */
};

struct sim_worker;
struct sim_request;

struct sim {
    struct sim_options o;
    const struct sim_model *model;
    struct rng rng;
    uint64_t now, order;
    struct sim_event *heap;
    size_t n_heap, cap_heap;
    /* processes */
    uint32_t life[SIM_PROCS + 1];
    bool alive[SIM_PROCS];
    uint64_t frozen_until[SIM_PROCS];
    struct sim_link links[SIM_PROCS][SIM_PROCS];
    struct sim_channel channels[SIM_PROCS][SIM_PROCS][SIM_SOCKETS];
    /* coordinator */
    struct pool_host *core;
    uint64_t boot, core_tick_ns;
    struct core_plan *planning;
    bool dropped[SIM_PROCS]; /* nothing of it until it says Hello */
    uint32_t steps_flying;
    uint64_t epoch;
    uint64_t gap_epoch; /* of which a step or an answer was lost: what comes
                           behind it may not continue its sequence */
    bool calm;          /* faults are over */
    struct sim_worker *workers[SIM_PROCS]; /* [1..] */
    struct sim_request *requests;
    uint32_t n_requests, n_open, n_done, n_cancelled, n_broken, n_refused,
        n_forgotten;
    uint64_t n_events, n_steps, n_messages, n_lost, n_faults, n_epochs;
    /* what happened last, for a failure's report */
    struct sim_note {
        uint64_t at;
        char text[104];
    } trace[SIM_TRACE];
    uint64_t n_trace;
    bool verbose;
    bool failed;
    char why[512];
};

/* The first failure counts. */
void sim_fail(struct sim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
void sim_note(struct sim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool sim_chance(struct sim *s, double p);
/* Uniform in [lo, hi). */
uint64_t sim_between(struct sim *s, uint64_t lo, uint64_t hi);

void sim_at(struct sim *s, uint64_t at, uint32_t who,
            void (*run)(struct sim *, struct sim_event *), void *payload,
            void (*drop)(void *), uint64_t arg);
/* The event that runs, once more, in its old place among those of that time. */
void sim_again(struct sim *s, const struct sim_event *e, uint64_t at);
bool sim_init(struct sim *s, const struct sim_options *o,
              const struct sim_model *m);
void sim_fini(struct sim *s);
/* Events until `until` or a failure. */
void sim_run(struct sim *s, uint64_t until);
/* Events until done(s), at most until; false: it was not. */
bool sim_run_to(struct sim *s, uint64_t until, bool (*done)(struct sim *));
/* A whole run with faults, then calm: everything must end well. */
void sim_story(struct sim *s);
void sim_report(const struct sim *s);

/* sim_net.c: returns what the sender's socket would say. */
enum status sim_send(struct sim *s, uint32_t from, uint32_t to,
                     enum sim_socket socket, const struct wire_message *m,
                     const void *tensor, size_t tensor_bytes);
void sim_break(struct sim *s, uint32_t a, uint32_t b);
void sim_cut(struct sim *s, uint32_t a, uint32_t b, uint64_t until, bool lossy);
/* sim_core.c, sim_worker.c: what a process does with a message. */
void sim_core_receive(struct sim *s, uint32_t from, enum sim_socket socket,
                      struct wire_message *m, const void *tensor,
                      size_t tensor_bytes);
void sim_worker_receive(struct sim *s, uint32_t who, uint32_t from,
                        enum sim_socket socket, struct wire_message *m,
                        const void *tensor, size_t tensor_bytes);

/* sim_core.c */
bool sim_core_start(struct sim *s);
void sim_core_stop(struct sim *s);
void sim_core_settle(
    struct sim *s); /* after whatever might change a deadline */

/* sim_worker.c */
struct sim_worker *sim_worker_create(struct sim *s, uint32_t who,
                                     uint64_t memory, double ns_per_row_layer);
void sim_worker_free(struct sim_worker *w);
void sim_worker_start(struct sim_worker *w);
void sim_worker_kill(struct sim_worker *w);
void sim_worker_leave(struct sim_worker *w);
const uint8_t *sim_worker_key(const struct sim_worker *w);
uint32_t sim_who(const uint8_t key[KEY_BYTES]); /* SIM_NOBODY: no worker */
void sim_key(uint32_t who, uint8_t key[KEY_BYTES]);
/* No sequence, page or step is left of the epoch that serves. */
bool sim_worker_empty(const struct sim_worker *w, uint64_t epoch);
/* Nanoseconds that it has computed steps. */
uint64_t sim_worker_busy_ns(const struct sim_worker *w);

/* sim_faults.c */
void sim_faults_start(struct sim *s);
void sim_faults_stop(struct sim *s);

/* sim_client.c */
void sim_clients_start(struct sim *s);
enum sim_kind {
    SIM_MAY,    /* break off */
    SIM_MUST,   /* end well */
    SIM_ENDLESS /* and not before max_tokens */
};
/* One request now. */
struct sim_request *sim_submit(struct sim *s, uint32_t n_prompt,
                               uint32_t max_tokens, enum sim_kind kind);
/* The coordinator is gone and took the jobs with it. */
void sim_requests_forget(struct sim *s);
void sim_requests_free(struct sim *s);

#endif

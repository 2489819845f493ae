/* sim_worker.h - what the two halves of a simulated worker share.
 *
 * sim_worker.c  membership, loading (worker/net.c's part)
 * sim_exec.c    steps and experts (worker/exec.c's part) */
#ifndef TESTS_SIM_SIM_WORKER_H
#define TESTS_SIM_SIM_WORKER_H

#include "tests/sim/sim.h"

struct sim_seq {
    uint64_t id;                      /* 0: free */
    uint32_t n;                       /* positions */
    uint32_t n_layer[SIM_LAYERS_MAX]; /* of which a layer has stored so many */
    struct sim_hashes hashes, before; /* before: the last row */
};

struct sim_part { /* a row that waits for an expert of another */
    uint32_t row, slot, expert, node;
    bool supplied;
};

enum run_state { RUN_QUEUED, RUN_READY, RUN_WAIT, RUN_DONE };
struct sim_run {
    struct wire_message m; /* WIRE_STEP */
    uint64_t *x;           /* [n_rows] */
    uint64_t (*y)[2];      /* [n_rows] of the layer's experts */
    enum run_state state;
    uint32_t layer, serial, n_parts, n_waiting;
    struct sim_part *parts; /* [2 * n_rows] */
    uint64_t compute_ns;
    struct sim_run *next;
};

struct sim_job { /* another's rows for our experts */
    struct wire_message m;
    uint64_t *x;
    uint32_t n_rows;
    struct sim_job *next;
};

struct sim_out { /* leaves when the compute thread is done */
    uint32_t node;
    uint64_t epoch;
    struct wire_message m;
    void *tensor;
    size_t tensor_bytes;
    struct sim_out *next;
};

struct sim_worker {
    struct sim *s;
    uint32_t who;
    uint8_t key[KEY_BYTES];
    char name[LIMIT_NAME + 1];
    uint64_t memory;
    double ns_per_row_layer;
    /* faults to come */
    double p_fail_load, p_hang_load, p_fail_step, slow;
    /* membership */
    struct link link;
    uint64_t boot, n_beats, epoch, last_epoch, last_boot;
    bool probing, probed, busy, leaving;
    struct wire_report report;
    /* what it holds */
    bool assigned, loaded;
    struct wire_assign assign;
    uint64_t load_done, load_total;
    struct sim_seq seqs[SIM_SEQS_MAX];
    /* compute thread */
    struct sim_run *runs;
    struct sim_job *jobs;
    struct sim_out *outs;
    uint32_t n_runs, n_jobs;
    uint64_t progress, busy_ns;
};

void exec_start(struct sim_worker *w); /* does what can be done now */
void exec_take_step(struct sim_worker *w, struct wire_message *m,
                    const void *tensor);
void exec_take_dispatch(struct sim_worker *w, struct wire_message *m,
                        const void *tensor);
void exec_take_partials(struct sim_worker *w, const struct wire_message *m,
                        const void *tensor);
void exec_clear(struct sim_worker *w);
uint32_t exec_pages(const struct sim_worker *w);

#endif

/* cluster.h - what the coordinator believes about each worker, and what the
 * pool as a whole is doing.
 *
 * Depends on: engine/plan.h (nodes), proto/wire.h (contents of messages).
 * Thread: loop.  Pure: events and now_ns in, actions out; net.c performs
 * them, tests/sim does so in virtual time.
 *
 *   node:  PENDING --hello admitted--> JOINED --report--> IDLE
 *          IDLE --assigned--> LOADING --ready(epoch)--> READY
 *          any --silence(lease), bye, failure--> gone; a new Hello (other
 *          boot id) begins anew; READY --drain--> DRAINING --replanned--> IDLE
 *   pool:  WAITING --enough nodes reported--> PLANNING --cluster_planned-->
 *          LOADING --all ready--> SERVING
 *          SERVING --new node settled, drain--> STOPPING --cluster_stopped-->
 *          PLANNING; loss of a node in the plan: STOP at once, PLANNING
 *          PLANNING --cluster_plan_refused--> STARVED --node joins--> PLANNING
 *
 * Trouble is remembered by key, beyond the membership.  A node whose load,
 * step or thread failed is held out of plans for 1 s, then 2 s, ... 60 s, and
 * cluster_why says so.  One that comes and goes is used at once where the
 * pool has no plan without it, but while the pool serves it must first stay
 * for settle_ns and, each time it came back, twice as long, up to 60 s: what
 * serves is not stopped for a guest.  A minute in a pool that serves, and both
 * are forgotten.
 *
 * Messages that were lost are said again: Probe to a node that does not
 * report, Assign to one whose heartbeats are of another epoch.
 *
 * Invariants (cluster_check, after every event in debug builds):
 *  (1) SERVING: every node of the plan is READY with the current epoch.
 *  (2) the epoch never decreases, and changes whenever the plan does.
 *  (3) a node is in the plan at most once; a key stands for one node.
 *  (4) nothing is assigned to a node beyond the memory it offered. */
#ifndef COORDINATOR_CLUSTER_H
#define COORDINATOR_CLUSTER_H

#include "engine/plan.h"
#include "proto/wire.h"

/* What comes over the wire fits the planner. */
_Static_assert(LIMIT_NAME == PLAN_NAME_MAX && LIMIT_TEXT == PLAN_TEXT_MAX &&
                   LIMIT_NODES == PLAN_NODES_MAX &&
                   LIMIT_STAGES == PLAN_STAGES_MAX,
               "proto/limits.h and engine/plan.h say the same");

enum node_state {
    NODE_JOINED,
    NODE_IDLE,
    NODE_LOADING,
    NODE_READY,
    NODE_DRAINING,
    NODE_GONE
};
enum pool_state {
    POOL_WAITING,
    POOL_PLANNING,
    POOL_LOADING,
    POOL_SERVING,
    POOL_STOPPING,
    POOL_STARVED
};

struct cluster_node {
    uint32_t id; /* 1 to 65535 (Assign has 16 bits); the next free one after
                    the last, so never soon used again */
    enum node_state state;
    uint8_t key[KEY_BYTES];
    char host[LIMIT_ADDRESS + 1];
    struct wire_hello hello;
    struct wire_report report;
    bool reported;
    uint64_t epoch;              /* it is loading or ready for */
    uint64_t heard_ns, moved_ns; /* last message; loading, or what its compute
                                    thread does, last moved */
    uint64_t asked_ns;           /* last Probe or Assign */
    uint64_t progress;
    bool busy;
    bool offered;              /* the latest plan could have used it */
    uint64_t due_ns;           /* if not: when the pool may change for it */
    uint64_t held_ns;          /* in no plan until then; 0: not held */
    char held[LIMIT_TEXT + 1]; /* why */
    uint64_t done_bytes, total_bytes; /* of loading */
    char what[LIMIT_TEXT + 1];
    struct wire_ready ready;
};

enum cluster_action_kind {
    CLUSTER_SEND_WELCOME, /* node */
    CLUSTER_SEND_REFUSE,  /* key, text, status; then drop the key */
    CLUSTER_SEND_PROBE,   /* node */
    CLUSTER_MAKE_PLAN,    /* over cluster_plan_nodes(); answer with
                             cluster_planned or cluster_plan_refused */
    CLUSTER_SEND_ASSIGN,  /* node: its share of the plan, at epoch */
    CLUSTER_SERVE,        /* the pool answers from now on, at epoch */
    CLUSTER_STOP,         /* epoch ends: fail what runs, with text; `status`
                             ST_INTERRUPTED: it was drained, finish first */
    CLUSTER_DROP,         /* key: close its sockets */
};
struct cluster_action {
    enum cluster_action_kind kind;
    uint32_t node;
    uint64_t epoch;
    uint8_t key[KEY_BYTES];
    enum status status;
    char text[LIMIT_TEXT + 1];
};

struct cluster_config {
    uint64_t boot;
    uint64_t first_epoch; /* epochs count up from here: not those of a boot
                             before, whose messages may still come */
    uint32_t wait_for;    /* --workers N (the coordinator's own not counted) */
    bool local; /* the coordinator's own worker takes part: wait for it too */
    uint8_t local_key[KEY_BYTES];
    uint64_t settle_ns; /* after the last join before planning; 0 in tests */
    uint32_t data_port, bulk_port;
};

struct cluster;
NODISCARD enum status cluster_create(struct cluster **out,
                                     const struct cluster_config *c,
                                     struct error *err);
void cluster_free(struct cluster *c);

/* Events. Each may append actions; take them with cluster_action until none
 * is left.  A Hello of a key that is known but has another boot id is a
 * restart.  ST_UNSUPPORTED refusals name both versions and the remedy. */
void cluster_hello(struct cluster *c, const uint8_t key[KEY_BYTES],
                   const char *host, const struct wire_hello *h,
                   uint64_t now_ns);
/* REPORT, PROGRESS, READY, FAILURE, BYE, DRAIN, HEARTBEAT. Messages of an
 * older epoch are ignored. */
void cluster_message(struct cluster *c, const uint8_t key[KEY_BYTES],
                     const struct wire_message *m, uint64_t now_ns);
/* A step ran over its deadline at this node: it is as good as silent. */
void cluster_overdue(struct cluster *c, uint32_t node, const char *why,
                     uint64_t now_ns);
void cluster_revoke(struct cluster *c, const uint8_t key[KEY_BYTES],
                    uint64_t now_ns);
void cluster_planned(struct cluster *c, const uint32_t *used, uint32_t n_used,
                     uint64_t now_ns);
void cluster_plan_refused(struct cluster *c, const char *why, uint64_t now_ns);
/* After CLUSTER_STOP with ST_INTERRUPTED: what ran is finished. */
void cluster_stopped(struct cluster *c, uint64_t now_ns);
/* The operator wants another plan: what runs is finished first. */
void cluster_replan(struct cluster *c, uint64_t now_ns);
/* A step of the epoch that serves has come through. */
void cluster_proved(struct cluster *c);
/* The longest that a step of this epoch may take, from the plan: a node that
 * is busy and gets nowhere for longer (at least 30 s) is as good as silent. */
void cluster_patience(struct cluster *c, uint64_t step_ns);
/* Leases and deadlines. */
void cluster_tick(struct cluster *c, uint64_t now_ns);
/* When to tick at the latest. */
uint64_t cluster_deadline(const struct cluster *c);

bool cluster_action(struct cluster *c, struct cluster_action *out);
bool cluster_action_waits(const struct cluster *c);

enum pool_state cluster_state(const struct cluster *c);
uint64_t cluster_epoch(const struct cluster *c);
/* Why it is not serving, in words; "" when it is. */
const char *cluster_why(const struct cluster *c);
uint32_t cluster_n_nodes(const struct cluster *c); /* GONE ones not counted */
const struct cluster_node *cluster_node(const struct cluster *c, uint32_t i);
const struct cluster_node *cluster_by_key(const struct cluster *c,
                                          const uint8_t key[KEY_BYTES]);
const struct cluster_node *cluster_by_id(const struct cluster *c, uint32_t id);
/* Nodes that a plan may use now, as the planner wants them; returns how many
 * were written. */
uint32_t cluster_plan_nodes(const struct cluster *c, struct plan_node *out,
                            uint32_t max);
bool cluster_check(const struct cluster *c);

#endif

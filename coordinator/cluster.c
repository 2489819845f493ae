#include "coordinator/cluster.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/record.h"
#include "engine/numerics.h"

#define MS_NS         UINT64_C(1000000)
#define LOAD_STALL_NS (60000 * MS_NS)   /* no byte moved: the node is stuck */
#define STUCK_NS      (30000 * MS_NS)   /* busy, and no progress */
#define PROBE_NS      (10000 * MS_NS)   /* not reported: asked again */
#define ASSIGN_NS     (3000 * MS_NS)    /* of another epoch: assigned again */
#define RETURN_NS     (3000 * MS_NS)    /* after all were lost */
#define FORGIVE_NS    (60000 * MS_NS)   /* of serving */
#define ACTIONS_MAX   (6 * LIMIT_NODES) /* taken after every event */
#define ID_MAX        65535

struct cluster {
    struct cluster_config config;
    enum pool_state state;
    uint64_t epoch;
    uint32_t n_nodes, next_id;
    struct cluster_node nodes[LIMIT_NODES];
    bool in_plan[LIMIT_NODES]; /* of the epoch that loads or serves */
    bool changed;              /* a node came that the plan does not know */
    uint64_t changed_ns;
    bool began;    /* it has planned once: --workers is past */
    bool forgiven; /* those of the epoch that serves */
    bool proved;   /* it has finished a step */
    uint64_t serving_ns, patience_ns;
    struct records records;
    char why[LIMIT_TEXT + 1];
    struct cluster_action actions[ACTIONS_MAX];
    uint32_t first_action, n_actions;
};

enum status cluster_create(struct cluster **out, const struct cluster_config *c,
                           struct error *err)
{
    struct cluster *cl = mem_zalloc(sizeof *cl);
    if (!cl) return error_set(err, ST_NO_MEMORY, "table of nodes");
    cl->config = *c;
    cl->next_id = 1;
    cl->epoch = c->first_epoch;
    cl->patience_ns = STUCK_NS; /* nodes are READY before the pool serves */
    snprintf(cl->why, sizeof cl->why, "waiting for workers to join");
    *out = cl;
    return ST_OK;
}

void cluster_free(struct cluster *c)
{
    mem_free(c);
}

/* A text that was cut to its room may end in half a character, which neither
 * JSON nor the wire takes. */
static void whole_characters(char *text)
{
    size_t n = strlen(text), tail = 0;
    while (tail < n && tail < 3 && ((uint8_t)text[n - 1 - tail] & 0xc0) == 0x80)
        tail++;
    if (tail == n) return;
    const uint8_t lead = (uint8_t)text[n - 1 - tail];
    const size_t want = lead < 0xc0 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    if (lead >= 0xc0 && tail < want) text[n - 1 - tail] = '\0';
}

/* ----------------------------------------------------------- actions */

static struct cluster_action *act(struct cluster *c,
                                  enum cluster_action_kind kind)
{
    assert(c->n_actions < ACTIONS_MAX);
    struct cluster_action *a =
        &c->actions[(c->first_action + c->n_actions++) % ACTIONS_MAX];
    *a = (struct cluster_action){.kind = kind, .epoch = c->epoch};
    return a;
}

bool cluster_action(struct cluster *c, struct cluster_action *out)
{
    if (c->n_actions == 0) return false;
    *out = c->actions[c->first_action];
    c->first_action = (c->first_action + 1) % ACTIONS_MAX;
    c->n_actions--;
    return true;
}

bool cluster_action_waits(const struct cluster *c)
{
    return c->n_actions != 0;
}

static void to_node(struct cluster *c, enum cluster_action_kind kind,
                    const struct cluster_node *n)
{
    struct cluster_action *a = act(c, kind);
    a->node = n->id;
    memcpy(a->key, n->key, KEY_BYTES);
}

static void refuse(struct cluster *c, const uint8_t key[KEY_BYTES],
                   enum status status, const char *fmt, ...) PRINTF_LIKE(4, 5);

static void refuse(struct cluster *c, const uint8_t key[KEY_BYTES],
                   enum status status, const char *fmt, ...)
{
    struct cluster_action *a = act(c, CLUSTER_SEND_REFUSE);
    memcpy(a->key, key, KEY_BYTES);
    a->status = status;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(a->text, sizeof a->text, fmt, ap);
    va_end(ap);
    whole_characters(a->text);
}

/* ------------------------------------------------------------- nodes */

static uint32_t index_by_key(const struct cluster *c, const uint8_t *key)
{
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        if (memcmp(c->nodes[i].key, key, KEY_BYTES) == 0) return i;
    }
    return UINT32_MAX;
}

static uint32_t index_by_id(const struct cluster *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        if (c->nodes[i].id == id) return i;
    }
    return UINT32_MAX;
}

static bool usable(const struct cluster_node *n)
{
    return n->reported && n->state != NODE_DRAINING && n->held_ns == 0;
}

static uint32_t n_usable(const struct cluster *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_nodes; i++) n += usable(&c->nodes[i]);
    return n;
}

/* Whether what --workers asked for is there. */
static bool all_there(const struct cluster *c)
{
    uint32_t remote = 0;
    bool local = !c->config.local;
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        if (!usable(&c->nodes[i])) continue;
        const bool own =
            c->config.local &&
            memcmp(c->nodes[i].key, c->config.local_key, KEY_BYTES) == 0;
        local = local || own;
        remote += !own;
    }
    return local && remote >= c->config.wait_for && n_usable(c) > 0;
}

/* -------------------------------------------------------- the pool's */

static void set_why(struct cluster *c, const char *why)
{
    snprintf(c->why, sizeof c->why, "%s", why);
    whole_characters(c->why);
}

/* Those who are here and may not take part are the reason. */
static void say_held(struct cluster *c)
{
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        const struct cluster_node *n = &c->nodes[i];
        if (n->held_ns == 0) continue;
        char held[121];
        snprintf(held, sizeof held, "%s", n->held);
        whole_characters(held);
        snprintf(c->why, sizeof c->why, "%s %s; held back for a while",
                 n->hello.name, held);
        return;
    }
}

static void start_planning(struct cluster *c)
{
    memset(c->in_plan, 0, sizeof c->in_plan);
    c->changed = false;
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        struct cluster_node *n = &c->nodes[i];
        if (n->state == NODE_LOADING || n->state == NODE_READY) {
            n->state = NODE_IDLE;
        }
    }
    if (n_usable(c) == 0) {
        c->state = POOL_WAITING;
        set_why(c, "waiting for workers to join");
        say_held(c);
        return;
    }
    c->began = true;
    c->state = POOL_PLANNING;
    set_why(c, "planning");
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        c->nodes[i].offered = usable(&c->nodes[i]);
    }
    act(c, CLUSTER_MAKE_PLAN);
}

/* The epoch ends here and now: what runs fails with this sentence. */
static void break_off(struct cluster *c, enum status status, const char *why)
{
    c->epoch++; /* whatever still comes of the old one is late */
    struct cluster_action *a = act(c, CLUSTER_STOP);
    a->status = status;
    snprintf(a->text, sizeof a->text, "%s", why);
    start_planning(c);
}

static bool running(const struct cluster *c)
{
    return c->state == POOL_LOADING || c->state == POOL_SERVING ||
           c->state == POOL_STOPPING;
}

static void remove_node(struct cluster *c, uint32_t i, const char *why)
{
    const bool planned = c->in_plan[i] && running(c);
    char text[LIMIT_TEXT + 1];
    snprintf(text, sizeof text, "%s %s", c->nodes[i].hello.name, why);
    whole_characters(text);
    c->n_nodes--;
    memmove(&c->nodes[i], &c->nodes[i + 1],
            (c->n_nodes - i) * sizeof c->nodes[0]);
    memmove(&c->in_plan[i], &c->in_plan[i + 1],
            (c->n_nodes - i) * sizeof c->in_plan[0]);
    c->in_plan[c->n_nodes] = false;
    if (planned)
        break_off(c, ST_IO, text);
    else if (c->state == POOL_STARVED && n_usable(c) == 0)
        start_planning(c);
}

static void drain(struct cluster *c)
{
    c->changed = false;
    c->state = POOL_STOPPING;
    struct cluster_action *a = act(c, CLUSTER_STOP);
    a->status = ST_INTERRUPTED;
    snprintf(a->text, sizeof a->text, "the pool changes");
    set_why(c, "finishing what runs before the pool changes");
}

/* When what has changed is acted upon; UINT64_MAX: not in this state. */
static uint64_t change_due(const struct cluster *c)
{
    uint64_t due = UINT64_MAX;
    switch (c->state) {
    case POOL_WAITING:
        if (c->changed && n_usable(c) != 0) {
            if (all_there(c))
                due = c->changed_ns + c->config.settle_ns;
            else if (c->began) /* those it had may be about to come back */
                due = c->changed_ns + c->config.settle_ns + RETURN_NS;
        }
        break;
    case POOL_STARVED:
        if (c->changed) due = c->changed_ns + c->config.settle_ns;
        break;
    case POOL_SERVING: /* does a node wait that no plan has considered? */
        for (uint32_t i = 0; i < c->n_nodes; i++) {
            const struct cluster_node *n = &c->nodes[i];
            if (usable(n) && !n->offered && n->due_ns < due) due = n->due_ns;
        }
        break;
    case POOL_PLANNING:
    case POOL_LOADING:
    case POOL_STOPPING:
        break; /* seen when that is done */
    }
    return due;
}

/* Something joined or left: does the pool begin, or begin anew? */
static void reconsider(struct cluster *c, uint64_t now_ns)
{
    if (now_ns < change_due(c)) return;
    if (c->state != POOL_SERVING) {
        start_planning(c);
        return;
    }
    drain(c);
}

/* A node can be used from now on: at once if nothing serves, else in its
 * time. */
static void note_guest(struct cluster *c, struct cluster_node *n,
                       uint64_t now_ns)
{
    n->offered = false;
    n->due_ns =
        now_ns + c->config.settle_ns + record_patience(&c->records, n->key);
    c->changed = true;
    c->changed_ns = now_ns;
    reconsider(c, now_ns);
}

void cluster_replan(struct cluster *c, uint64_t now_ns)
{
    (void)now_ns;
    if (c->state == POOL_SERVING)
        drain(c);
    else if (c->state == POOL_STARVED)
        start_planning(c);
    else if (c->state == POOL_LOADING)
        break_off(c, ST_IO, "another plan is wanted");
}

void cluster_stopped(struct cluster *c, uint64_t now_ns)
{
    (void)now_ns;
    if (c->state != POOL_STOPPING) return;
    c->epoch++;
    start_planning(c);
}

/* ------------------------------------------------------------ events */

static bool versions_agree(struct cluster *c, const uint8_t *key,
                           const struct wire_hello *h)
{
    if (h->protocol_min > PROTOCOL_MAX || h->protocol_max < PROTOCOL_MIN) {
        refuse(c, key, ST_UNSUPPORTED,
               "%s speaks protocol %u to %u, the coordinator %d to %d: install "
               "the same version of potluck on both",
               h->name, h->protocol_min, h->protocol_max, PROTOCOL_MIN,
               PROTOCOL_MAX);
        return false;
    }
    if (h->numerics_version != NUMERICS_VERSION) {
        refuse(c, key, ST_UNSUPPORTED,
               "%s computes by numerics version %u, the coordinator by %d: "
               "install the same version of potluck on both",
               h->name, h->numerics_version, NUMERICS_VERSION);
        return false;
    }
    return true;
}

/* Names are how people and plan files speak of nodes: make them differ. */
static void unique_name(const struct cluster *c, char name[LIMIT_NAME + 1])
{
    char base[LIMIT_NAME - 11]; /* room for a dash and a number */
    snprintf(base, sizeof base, "%.*s", (int)sizeof base - 1, name);
    whole_characters(base);
    for (uint32_t k = 2;; k++) {
        uint32_t i = 0;
        while (i < c->n_nodes && strcmp(c->nodes[i].hello.name, name) != 0) i++;
        if (i == c->n_nodes) return;
        snprintf(name, LIMIT_NAME + 1, "%s-%u", base, k);
    }
}

static uint32_t next_id(struct cluster *c)
{
    uint32_t id;
    do {
        id = c->next_id;
        c->next_id = id == ID_MAX ? 1 : id + 1;
    } while (index_by_id(c, id) != UINT32_MAX);
    return id;
}

void cluster_hello(struct cluster *c, const uint8_t key[KEY_BYTES],
                   const char *host, const struct wire_hello *h,
                   uint64_t now_ns)
{
    if (!versions_agree(c, key, h)) return;
    uint32_t i = index_by_key(c, key);
    if (i != UINT32_MAX && c->nodes[i].hello.boot_id == h->boot_id) {
        c->nodes[i].heard_ns = now_ns; /* our Welcome may be lost: again */
        to_node(c, CLUSTER_SEND_WELCOME, &c->nodes[i]);
        if (!c->nodes[i].reported) {
            to_node(c, CLUSTER_SEND_PROBE, &c->nodes[i]);
        }
        return;
    }
    if (i != UINT32_MAX) {
        record_make(&c->records, key, now_ns)->returns++;
        remove_node(c, i, "was restarted");
    }
    if (c->n_nodes == LIMIT_NODES) {
        refuse(c, key, ST_FULL, "the pool has %d workers already", LIMIT_NODES);
        return;
    }
    struct cluster_node *n = &c->nodes[c->n_nodes];
    *n = (struct cluster_node){.id = next_id(c),
                               .state = NODE_JOINED,
                               .hello = *h,
                               .heard_ns = now_ns,
                               .moved_ns = now_ns,
                               .asked_ns = now_ns};
    memcpy(n->key, key, KEY_BYTES);
    snprintf(n->host, sizeof n->host, "%s", host);
    unique_name(c, n->hello.name);
    c->in_plan[c->n_nodes++] = false;
    const struct record *r = record_find(&c->records, key);
    if (r && r->held_ns > now_ns) {
        n->held_ns = r->held_ns;
        memcpy(n->held, r->why, sizeof n->held);
        if (c->state == POOL_WAITING) say_held(c);
    }
    to_node(c, CLUSTER_SEND_WELCOME, n);
    to_node(c, CLUSTER_SEND_PROBE, n);
}

static void on_ready(struct cluster *c, struct cluster_node *n,
                     const struct wire_ready *r, uint64_t now_ns)
{
    if (n->state != NODE_LOADING || r->epoch != n->epoch) return;
    n->state = NODE_READY;
    n->ready = *r;
    n->moved_ns = now_ns;
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        if (c->in_plan[i] && c->nodes[i].state != NODE_READY) return;
    }
    if (c->state != POOL_LOADING) return;
    c->state = POOL_SERVING;
    c->serving_ns = now_ns;
    c->patience_ns = STUCK_NS;
    c->forgiven = c->proved = false;
    c->why[0] = '\0';
    act(c, CLUSTER_SERVE);
}

static void on_drain(struct cluster *c, uint32_t i)
{
    const bool planned = c->in_plan[i];
    c->nodes[i].state = NODE_DRAINING;
    if (planned && c->state == POOL_SERVING) {
        c->state = POOL_STOPPING;
        struct cluster_action *a = act(c, CLUSTER_STOP);
        a->status = ST_INTERRUPTED;
        snprintf(a->text, sizeof a->text, "%s leaves", c->nodes[i].hello.name);
        set_why(c, a->text);
    } else if (planned && c->state == POOL_LOADING) {
        char text[LIMIT_TEXT + 1];
        snprintf(text, sizeof text, "%s leaves", c->nodes[i].hello.name);
        break_off(c, ST_IO, text);
    }
}

static void on_report(struct cluster *c, struct cluster_node *n,
                      const struct wire_report *r, uint64_t now_ns)
{
    n->report = *r;
    if (n->reported) return;
    n->reported = true;
    if (n->state == NODE_JOINED) n->state = NODE_IDLE;
    if (!usable(n)) return;
    note_guest(c, n, now_ns);
}

/* What a node says it has against what we think it has. */
static void on_heartbeat(struct cluster *c, uint32_t i,
                         const struct wire_heartbeat *h, uint64_t now_ns)
{
    struct cluster_node *n = &c->nodes[i];
    if (h->progress != n->progress || !h->busy) {
        if (n->state == NODE_READY) n->moved_ns = now_ns;
    }
    n->progress = h->progress;
    n->busy = h->busy;
    if (!c->in_plan[i] || !running(c) || h->epoch == n->epoch) return;
    if (n->state == NODE_READY) {
        /* it lost us for longer than its lease, and with us what it held */
        char text[LIMIT_TEXT + 1];
        snprintf(text, sizeof text, "%s had lost the coordinator",
                 n->hello.name);
        break_off(c, ST_IO, text);
    } else if (n->state == NODE_LOADING && now_ns - n->asked_ns > ASSIGN_NS) {
        n->asked_ns = now_ns;
        to_node(c, CLUSTER_SEND_ASSIGN, n);
    }
}

static void on_progress(struct cluster_node *n, const struct wire_progress *p,
                        uint64_t now_ns)
{
    if (p->epoch != n->epoch) return;
    if (p->done_bytes != n->done_bytes || strcmp(p->what, n->what) != 0) {
        n->moved_ns = now_ns;
    }
    n->done_bytes = p->done_bytes;
    n->total_bytes = p->total_bytes;
    snprintf(n->what, sizeof n->what, "%s", p->what);
}

static void give_up(struct cluster *c, uint32_t i, const char *why)
{
    struct cluster_action *a = act(c, CLUSTER_DROP);
    memcpy(a->key, c->nodes[i].key, KEY_BYTES);
    remove_node(c, i, why);
}

/* It did not do what it was told: out of plans for longer each time. */
static void fail_node(struct cluster *c, uint32_t i, const char *why,
                      uint64_t now_ns)
{
    record_failure(&c->records, c->nodes[i].key, why, now_ns);
    give_up(c, i, why);
}

void cluster_message(struct cluster *c, const uint8_t key[KEY_BYTES],
                     const struct wire_message *m, uint64_t now_ns)
{
    const uint32_t i = index_by_key(c, key);
    if (i == UINT32_MAX) {
        /* it was given up while it slept: it may join again */
        if (m->kind != WIRE_BYE) {
            refuse(c, key, ST_NOT_FOUND, "not a member (any more): join again");
        }
        return;
    }
    struct cluster_node *n = &c->nodes[i];
    n->heard_ns = now_ns;
    if (m->kind == WIRE_REPORT) {
        on_report(c, n, &m->report, now_ns);
    } else if (m->kind == WIRE_PROGRESS) {
        on_progress(n, &m->progress, now_ns);
    } else if (m->kind == WIRE_READY) {
        on_ready(c, n, &m->ready, now_ns);
    } else if (m->kind == WIRE_HEARTBEAT) {
        on_heartbeat(c, i, &m->heartbeat, now_ns);
    } else if (m->kind == WIRE_DRAIN) {
        on_drain(c, i);
    } else if (m->kind == WIRE_BYE) {
        record_make(&c->records, key, now_ns)->returns++;
        remove_node(c, i, "left");
    } else if (m->kind == WIRE_FAILURE &&
               (m->failure.epoch == 0 ||
                (m->failure.epoch == n->epoch && n->epoch == c->epoch))) {
        char why[LIMIT_TEXT + 1];
        snprintf(why, sizeof why, "failed: %.200s", m->failure.text);
        whole_characters(why);
        fail_node(c, i, why, now_ns);
    }
}

void cluster_overdue(struct cluster *c, uint32_t node, const char *why,
                     uint64_t now_ns)
{
    const uint32_t i = index_by_id(c, node);
    if (i != UINT32_MAX) fail_node(c, i, why, now_ns);
}

void cluster_revoke(struct cluster *c, const uint8_t key[KEY_BYTES],
                    uint64_t now_ns)
{
    (void)now_ns;
    const uint32_t i = index_by_key(c, key);
    if (i != UINT32_MAX) give_up(c, i, "had its key revoked");
}

void cluster_planned(struct cluster *c, const uint32_t *used, uint32_t n_used,
                     uint64_t now_ns)
{
    if (c->state != POOL_PLANNING) return;
    for (uint32_t u = 0; u < n_used; u++) {
        const uint32_t i = index_by_id(c, used[u]);
        if (i == UINT32_MAX || !usable(&c->nodes[i])) {
            start_planning(c); /* it left while the plan was made */
            return;
        }
    }
    c->epoch++;
    c->state = POOL_LOADING;
    set_why(c, "loading the model");
    for (uint32_t u = 0; u < n_used; u++) {
        const uint32_t i = index_by_id(c, used[u]);
        struct cluster_node *n = &c->nodes[i];
        c->in_plan[i] = true;
        n->state = NODE_LOADING;
        n->epoch = c->epoch;
        n->done_bytes = n->total_bytes = 0;
        n->moved_ns = now_ns;
        n->what[0] = '\0';
        to_node(c, CLUSTER_SEND_ASSIGN, n);
    }
}

void cluster_plan_refused(struct cluster *c, const char *why, uint64_t now_ns)
{
    (void)now_ns;
    if (c->state != POOL_PLANNING) return;
    c->state = POOL_STARVED;
    set_why(c, why);
}

void cluster_proved(struct cluster *c)
{
    c->proved = true;
}

void cluster_patience(struct cluster *c, uint64_t step_ns)
{
    c->patience_ns = step_ns > STUCK_NS ? step_ns : STUCK_NS;
}

enum verdict { NODE_FINE, NODE_SILENT, NODE_STUCK };

/* What this node is at now_ns, and when that can change at the earliest. */
static enum verdict judge(const struct cluster *c, const struct cluster_node *n,
                          uint64_t now_ns, uint64_t *until_ns)
{
    enum verdict v = NODE_FINE;
    *until_ns = n->heard_ns + LEASE_MS * MS_NS;
    if (now_ns > *until_ns) v = NODE_SILENT;
    uint64_t still = UINT64_MAX;
    if (n->state == NODE_LOADING) still = n->moved_ns + LOAD_STALL_NS;
    if (n->state == NODE_READY && n->busy) still = n->moved_ns + c->patience_ns;
    if (v == NODE_FINE && now_ns > still) v = NODE_STUCK;
    if (still < *until_ns) *until_ns = still;
    return v;
}

/* False: it is gone. */
static bool check_node(struct cluster *c, uint32_t i, uint64_t now_ns)
{
    struct cluster_node *n = &c->nodes[i];
    char why[LIMIT_TEXT + 1];
    uint64_t until;
    switch (judge(c, n, now_ns, &until)) {
    case NODE_FINE:
        break;
    case NODE_SILENT:
        snprintf(why, sizeof why, "has been silent for %.1f s",
                 (double)(now_ns - n->heard_ns) / 1e9);
        record_make(&c->records, n->key, now_ns)->returns++;
        give_up(c, i, why);
        return false;
    case NODE_STUCK:
        snprintf(why, sizeof why,
                 n->state == NODE_LOADING
                     ? "has loaded nothing for %.0f s"
                     : "has been busy without progress for %.0f s",
                 (double)(now_ns - n->moved_ns) / 1e9);
        fail_node(c, i, why, now_ns);
        return false;
    }
    if (!n->reported && now_ns - n->asked_ns >= PROBE_NS) {
        n->asked_ns = now_ns; /* the first one is lost, or its answer */
        to_node(c, CLUSTER_SEND_PROBE, n);
    }
    if (n->held_ns != 0 && now_ns >= n->held_ns) {
        n->held_ns = 0;
        if (usable(n)) note_guest(c, n, now_ns);
    }
    return true;
}

/* A minute of serving together is forgiveness, if it was not idle: what fails
 * with every step would be forgiven for ever. */
static void forgive(struct cluster *c, uint64_t now_ns)
{
    if (c->state != POOL_SERVING || c->forgiven || !c->proved ||
        now_ns - c->serving_ns < FORGIVE_NS) {
        return;
    }
    c->forgiven = true;
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        if (c->in_plan[i]) record_forget(&c->records, c->nodes[i].key);
    }
}

void cluster_tick(struct cluster *c, uint64_t now_ns)
{
    for (uint32_t i = 0; i < c->n_nodes;) {
        if (check_node(c, i, now_ns)) i++; /* else the next one is at i now */
    }
    forgive(c, now_ns);
    reconsider(c, now_ns);
}

uint64_t cluster_deadline(const struct cluster *c)
{
    uint64_t first = change_due(c);
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        const struct cluster_node *n = &c->nodes[i];
        uint64_t at;
        (void)judge(c, n, 0, &at);
        at++; /* a lease is a lease */
        if (n->held_ns != 0 && n->held_ns < at) at = n->held_ns;
        if (!n->reported && n->asked_ns + PROBE_NS < at) {
            at = n->asked_ns + PROBE_NS;
        }
        if (at < first) first = at;
    }
    return first;
}

/* ----------------------------------------------------------- looking */

enum pool_state cluster_state(const struct cluster *c)
{
    return c->state;
}

uint64_t cluster_epoch(const struct cluster *c)
{
    return c->epoch;
}

const char *cluster_why(const struct cluster *c)
{
    return c->why;
}

uint32_t cluster_n_nodes(const struct cluster *c)
{
    return c->n_nodes;
}

const struct cluster_node *cluster_node(const struct cluster *c, uint32_t i)
{
    return i < c->n_nodes ? &c->nodes[i] : NULL;
}

const struct cluster_node *cluster_by_key(const struct cluster *c,
                                          const uint8_t key[KEY_BYTES])
{
    return cluster_node(c, index_by_key(c, key));
}

const struct cluster_node *cluster_by_id(const struct cluster *c, uint32_t id)
{
    return cluster_node(c, index_by_id(c, id));
}

uint32_t cluster_plan_nodes(const struct cluster *c, struct plan_node *out,
                            uint32_t max)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_nodes && n < max; i++) {
        const struct cluster_node *node = &c->nodes[i];
        if (!usable(node)) continue;
        struct plan_node *p = &out[n++];
        *p = (struct plan_node){
            .id = node->id,
            .memory_bytes = node->hello.memory_bytes,
            .n_threads = node->hello.n_threads < POOL_THREADS_MAX
                             ? node->hello.n_threads
                             : POOL_THREADS_MAX,
            .read_bytes_per_s = node->report.read_bytes_per_s,
            .link_bytes_per_s = node->report.link_bytes_per_s,
            .link_latency_s = node->report.link_latency_s,
        };
        memcpy(p->name, node->hello.name, sizeof p->name);
        /* a level that this build does not know packs as the widest we have */
        if (!isa_by_name(node->hello.isa, &p->isa)) p->isa = ISA_AVX2;
        for (uint32_t r = 0; r < node->report.n_rates; r++) {
            const struct wire_rate *rate = &node->report.rates[r];
            if (rate->type >= QUANT_TYPE_END) continue;
            p->rates[rate->type] =
                (struct plan_rate){rate->bytes_per_s, rate->macs_per_s};
        }
    }
    return n;
}

bool cluster_check(const struct cluster *c)
{
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        const struct cluster_node *n = &c->nodes[i];
        if (n->epoch > c->epoch) return false;
        if (c->in_plan[i] && running(c) && n->epoch != c->epoch) return false;
        if (c->in_plan[i] && c->state == POOL_SERVING &&
            n->state != NODE_READY) {
            return false;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (memcmp(n->key, c->nodes[j].key, KEY_BYTES) == 0 ||
                n->id == c->nodes[j].id) {
                return false;
            }
        }
    }
    return true;
}

#include "coordinator/cluster.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/numerics.h"

#define MS_NS         UINT64_C(1000000)
#define LOAD_STALL_NS (60000 * MS_NS)   /* no byte moved: the node is stuck */
#define ACTIONS_MAX   (4 * LIMIT_NODES) /* taken after every event */

struct cluster {
    struct cluster_config config;
    enum pool_state state;
    uint64_t epoch;
    uint32_t n_nodes, next_id;
    struct cluster_node nodes[LIMIT_NODES];
    bool in_plan[LIMIT_NODES]; /* of the epoch that loads or serves */
    bool changed;              /* a node came that the plan does not know */
    uint64_t changed_ns;
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
    snprintf(cl->why, sizeof cl->why, "waiting for workers to join");
    *out = cl;
    return ST_OK;
}

void cluster_free(struct cluster *c)
{
    mem_free(c);
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
    return n->reported && n->state != NODE_DRAINING;
}

static uint32_t n_usable(const struct cluster *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_nodes; i++) n += usable(&c->nodes[i]);
    return n;
}

/* Whether what --workers asked for is there. */
static bool enough(const struct cluster *c)
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
        return;
    }
    c->state = POOL_PLANNING;
    set_why(c, "planning");
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

/* Something changed that this state can do something about.  In others it
 * waits for the next state, or for the next worker, not for the time. */
static bool unsettled(const struct cluster *c)
{
    return c->changed &&
           (c->state == POOL_STARVED || c->state == POOL_SERVING ||
            (c->state == POOL_WAITING && enough(c)));
}

/* Something joined or left: does the pool begin, or begin anew? */
static void reconsider(struct cluster *c, uint64_t now_ns)
{
    if (!unsettled(c) || now_ns - c->changed_ns < c->config.settle_ns) return;
    if (c->state == POOL_SERVING)
        drain(c);
    else
        start_planning(c);
}

static void note_change(struct cluster *c, uint64_t now_ns)
{
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
        break_off(c, ST_INTERRUPTED, "another plan is wanted");
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
    char base[LIMIT_NAME + 1];
    memcpy(base, name, sizeof base);
    for (uint32_t k = 2;; k++) {
        uint32_t i = 0;
        while (i < c->n_nodes && strcmp(c->nodes[i].hello.name, name) != 0) i++;
        if (i == c->n_nodes) return;
        snprintf(name, LIMIT_NAME + 1, "%.*s-%u", LIMIT_NAME - 12, base, k);
    }
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
    if (i != UINT32_MAX) remove_node(c, i, "was restarted");
    if (c->n_nodes == LIMIT_NODES) {
        refuse(c, key, ST_FULL, "the pool has %d workers already", LIMIT_NODES);
        return;
    }
    struct cluster_node *n = &c->nodes[c->n_nodes];
    *n = (struct cluster_node){.id = c->next_id++,
                               .state = NODE_JOINED,
                               .hello = *h,
                               .heard_ns = now_ns,
                               .moved_ns = now_ns};
    memcpy(n->key, key, KEY_BYTES);
    snprintf(n->host, sizeof n->host, "%s", host);
    unique_name(c, n->hello.name);
    c->in_plan[c->n_nodes++] = false;
    to_node(c, CLUSTER_SEND_WELCOME, n);
    to_node(c, CLUSTER_SEND_PROBE, n);
}

static void on_ready(struct cluster *c, struct cluster_node *n,
                     const struct wire_ready *r)
{
    if (n->state != NODE_LOADING || r->epoch != n->epoch) return;
    n->state = NODE_READY;
    n->ready = *r;
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        if (c->in_plan[i] && c->nodes[i].state != NODE_READY) return;
    }
    if (c->state != POOL_LOADING) return;
    c->state = POOL_SERVING;
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
        break_off(c, ST_INTERRUPTED, "a worker leaves");
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
        n->report = m->report;
        if (!n->reported) {
            n->reported = true;
            n->state = NODE_IDLE;
            note_change(c, now_ns);
        }
    } else if (m->kind == WIRE_PROGRESS) {
        on_progress(n, &m->progress, now_ns);
    } else if (m->kind == WIRE_READY) {
        on_ready(c, n, &m->ready);
    } else if (m->kind == WIRE_HEARTBEAT) {
        n->progress = m->heartbeat.progress;
        n->busy = m->heartbeat.busy;
    } else if (m->kind == WIRE_DRAIN) {
        on_drain(c, i);
    } else if (m->kind == WIRE_BYE) {
        remove_node(c, i, "left");
    } else if (m->kind == WIRE_FAILURE &&
               (m->failure.epoch == 0 || m->failure.epoch == n->epoch)) {
        char why[LIMIT_TEXT + 1];
        snprintf(why, sizeof why, "failed: %.200s", m->failure.text);
        struct cluster_action *a = act(c, CLUSTER_DROP);
        memcpy(a->key, key, KEY_BYTES);
        remove_node(c, i, why);
    }
}

static void give_up(struct cluster *c, uint32_t i, const char *why)
{
    struct cluster_action *a = act(c, CLUSTER_DROP);
    memcpy(a->key, c->nodes[i].key, KEY_BYTES);
    remove_node(c, i, why);
}

void cluster_overdue(struct cluster *c, uint32_t node, const char *why,
                     uint64_t now_ns)
{
    (void)now_ns;
    const uint32_t i = index_by_id(c, node);
    if (i != UINT32_MAX) give_up(c, i, why);
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

void cluster_tick(struct cluster *c, uint64_t now_ns)
{
    for (uint32_t i = 0; i < c->n_nodes;) {
        const struct cluster_node *n = &c->nodes[i];
        const uint64_t silent = now_ns - n->heard_ns;
        char why[LIMIT_TEXT + 1];
        if (silent > LEASE_MS * MS_NS) {
            snprintf(why, sizeof why, "has been silent for %.1f s",
                     (double)silent / 1e9);
        } else if (n->state == NODE_LOADING &&
                   now_ns - n->moved_ns > LOAD_STALL_NS) {
            snprintf(why, sizeof why, "has loaded nothing for %.0f s",
                     (double)LOAD_STALL_NS / 1e9);
        } else {
            i++;
            continue;
        }
        give_up(c, i, why); /* the next one is at i now */
    }
    reconsider(c, now_ns);
}

uint64_t cluster_deadline(const struct cluster *c)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        const uint64_t at = c->nodes[i].heard_ns + LEASE_MS * MS_NS + 1;
        if (at < first) first = at;
    }
    if (unsettled(c) && c->changed_ns + c->config.settle_ns < first) {
        first = c->changed_ns + c->config.settle_ns;
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

#include "worker/net.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <uv.h>

#include "common/clock.h"
#include "proto/hash.h"
#include "proto/net.h"
#include "worker/cache.h"
#include "worker/echo.h"
#include "worker/exec.h"
#include "worker/failure.h"
#include "worker/fetch.h"
#include "worker/hello.h"
#include "worker/link.h"
#include "worker/peers.h"
#include "worker/post.h"
#include "worker/probe.h"
#include "worker/progress.h"
#include "worker/remember.h"

#define TICK_MS       500
#define BURST         64 /* messages of the compute thread in one turn */
#define LINGER_MS     500
#define CONTROL_QUEUE 256
#define DATA_QUEUE    1024
#define BULK_QUEUE    64

struct worker {
    const struct worker_options *o;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_async_t wake; /* messages of the compute thread, requests for cells */
    uv_signal_t terminate, interrupt;
    struct net *net;
    struct net_socket *control, *data_in, *data_out, *bulk;
    uint32_t data_port;
    struct link link;
    struct echo echo;
    uint64_t boot_id, n_beats;
    struct exec *exec;
    struct cache *cache;
    struct fetch *fetch; /* while loading */
    uint64_t epoch;      /* 0: nothing is assigned */
    struct peers peers;
    struct wire_report report;
    uint32_t wanted, probed; /* weight types to measure, measured (probe.h) */
    bool echoing, probing;
    uint64_t fetched_bytes; /* as last told */
    struct progress progress;
    char coordinator[LIMIT_ADDRESS + 16];
    char waits[LIMIT_TEXT + 1]; /* for what, as it was last told */
    bool line_open;             /* a progress line stands on the terminal */
    bool over, refused;
    struct error error; /* of the refusal */
};

/* ------------------------------------------------------------ telling */

static void say(struct worker *w, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void say(struct worker *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs(w->line_open ? "\r\033[Kpotluck-worker: " : "potluck-worker: ",
          stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    w->line_open = false;
}

static void show_progress(struct worker *w, uint64_t done, uint64_t total)
{
    char line[80];
    if (w->o->no_progress || !isatty(STDERR_FILENO)) return;
    progress_line(&w->progress, clock_now_ns(), done, total, line, sizeof line);
    fprintf(stderr, "\r\033[Kfetching: %s", line);
    w->line_open = true;
}

static void say_cache(void *arg, const char *line)
{
    (void)arg; /* from whatever thread met it: the terminal's line is not its */
    fprintf(stderr, "potluck-worker: %s\n", line);
}

/* ------------------------------------------------------------ sending */

static void tell(struct worker *w, const struct wire_message *m)
{
    post_or_lose(w->control, m);
}

static void tell_failure(struct worker *w, enum wire_kind kind, uint64_t epoch,
                         uint64_t step, const struct error *err)
{
    struct wire_message m;
    failure_fill(&m, kind, epoch, step, err);
    if (kind == WIRE_FAILURE) {
        say(w, "%s", err->text);
        tell(w, &m);
        return;
    }
    post_or_lose(w->data_out, &m);
}

static void send_hello(struct worker *w)
{
    struct wire_message m = {.kind = WIRE_HELLO};
    hello_fill(&m.hello, w->o, w->boot_id, w->data_port);
    tell(w, &m);
}

static void send_heartbeat(struct worker *w)
{
    struct wire_message m = {.kind = WIRE_HEARTBEAT};
    m.heartbeat.n = ++w->n_beats;
    m.heartbeat.progress = exec_progress(w->exec, &m.heartbeat.busy);
    m.heartbeat.epoch = w->epoch;
    tell(w, &m);
}

static void send_report(struct worker *w)
{
    struct wire_message m = {.kind = WIRE_REPORT, .report = w->report};
    tell(w, &m);
    say(w, "measured: memory %.1f GB/s, link %.0f MB/s",
        w->report.read_bytes_per_s / 1e9, w->report.link_bytes_per_s / 1e6);
}

/* What was measured now, beside what was before. */
static void add_report(struct worker *w, const struct wire_report *r)
{
    struct wire_report *all = &w->report;
    const uint32_t room = LIMIT_RATES - all->n_rates;
    const uint32_t n = r->n_rates < room ? r->n_rates : room;
    memcpy(all->rates + all->n_rates, r->rates, n * sizeof *r->rates);
    all->n_rates += n;
    all->read_bytes_per_s = r->read_bytes_per_s;
    echo_report(&w->echo, all);
    w->probed |= w->wanted;
}

/* ----------------------------------------------------------- assigned */

static void drop_fetch(struct worker *w)
{
    if (!w->fetch) return;
    fetch_cancel(w->fetch);
    fetch_release(w->fetch);
    w->fetch = NULL;
}

/* Nothing is assigned any more. */
static void void_epoch(struct worker *w)
{
    w->epoch = 0;
    exec_set_epoch(w->exec, 0);
    drop_fetch(w);
    peers_drop(&w->peers, w->data_in);
    link_assigned(&w->link, false);
}

/* From the compute thread and from readers. */
static void wake_loop(void *arg)
{
    struct worker *w = arg;
    uv_async_send(&w->wake);
}

static void fetch_done(void *arg)
{
    fetch_release(arg);
}

static enum status begin_load(struct worker *w, struct wire_assign *a,
                              struct error *err)
{
    uint8_t id[HASH_BYTES];
    hash_of(id, a->model_header, a->model_header_bytes);
    if (memcmp(id, a->model_id, sizeof id) != 0) {
        return error_set(err, ST_INVALID, "a model header came damaged");
    }
    const struct fetch_options o = {
        .cache = w->cache, .from = w->coordinator, .wake = wake_loop, .arg = w};
    enum status st = peers_take(&w->peers, a, err);
    if (st == ST_OK) st = fetch_create(&w->fetch, a, &o, err);
    if (st != ST_OK) return st;
    struct exec_load load = {.assign = *a,
                             .self = w->link.node,
                             .read = fetch_read,
                             .done = fetch_done,
                             .read_arg = w->fetch};
    fetch_hold(w->fetch);
    if (!exec_load(w->exec, &load)) {
        fetch_release(w->fetch);
        return error_set(err, ST_FULL, "the compute thread takes no more work");
    }
    *a = (struct wire_assign){0}; /* its arrays are the compute thread's */
    return ST_OK;
}

static void on_assign(struct worker *w, struct wire_assign *a)
{
    if (w->link.state != LINK_MEMBER || a->epoch <= w->epoch) return;
    void_epoch(w);
    const uint64_t epoch = w->epoch = a->epoch;
    exec_set_epoch(w->exec, epoch);
    link_assigned(&w->link, true);
    w->fetched_bytes = 0;
    w->progress = (struct progress){0};
    const uint32_t n_of = a->n_layer;
    uint32_t n_layers = 0;
    for (uint32_t i = 0; i < a->n_layer; i++) n_layers += a->blocks[i] != 0;
    struct error err;
    if (begin_load(w, a, &err) != ST_OK) {
        void_epoch(w);
        tell_failure(w, WIRE_FAILURE, epoch, 0, &err);
        return;
    }
    uint64_t done, total;
    fetch_progress(w->fetch, &done, &total);
    say(w, "assigned %u of %u layers, %.1f MiB", n_layers, n_of,
        (double)total / 0x1p20);
    uv_async_send(&w->wake);
}

static void pump_fetch(struct worker *w)
{
    struct wire_message m;
    while (w->fetch && fetch_request(w->fetch, &m)) {
        const enum status st = post(w->bulk, &m, NULL, 0);
        if (st != ST_OK) fetch_not_sent(w->fetch, &m);
        wire_message_fini(&m);
        if (st != ST_OK) return; /* the next tick tries again */
    }
}

static void on_bulk(void *arg, struct net_socket *s,
                    const uint8_t key[KEY_BYTES], const char *host,
                    struct net_frame header, struct net_frame tensor)
{
    (void)s, (void)key, (void)host;
    struct worker *w = arg;
    struct wire_message m;
    struct error err;
    if (wire_read(&m, header.data, header.bytes, tensor.data, tensor.bytes,
                  &err) != ST_OK) {
        say(w, "from the coordinator: %s", err.text);
        return;
    }
    if (w->fetch) fetch_take(w->fetch, &m, tensor.data, tensor.bytes);
    wire_message_fini(&m);
    pump_fetch(w);
}

/* --------------------------------------------------------------- data */

static void begin_probe(struct worker *w)
{
    w->echoing = false;
    w->probing = exec_probe(w->exec, w->wanted & ~w->probed);
    if (!w->probing) say(w, "no memory left to measure with");
}

/* Of what goes out, only echoes come back here. */
static void on_data_out(void *arg, struct net_socket *s,
                        const uint8_t key[KEY_BYTES], const char *host,
                        struct net_frame header, struct net_frame tensor)
{
    (void)s, (void)key, (void)host;
    struct worker *w = arg;
    struct wire_message m;
    if (!w->echoing || wire_read(&m, header.data, header.bytes, tensor.data,
                                 tensor.bytes, NULL) != ST_OK) {
        return;
    }
    const uint64_t now = clock_now_ns();
    struct wire_echo next;
    uint32_t bytes;
    if (m.kind == WIRE_ECHO) {
        if (echo_reply(&w->echo, &m.echo, now, &next, &bytes)) {
            post_echo(w->data_out, next, bytes);
        } else if (echo_done(&w->echo, now)) {
            begin_probe(w);
        }
    }
    wire_message_fini(&m);
}

/* A step or an exchange for the compute thread; m is taken over if it can be,
 * and the step fails if not. */
static void to_exec(struct worker *w, struct wire_message *m,
                    const void *tensor, size_t bytes)
{
    const bool is_step = m->kind == WIRE_STEP;
    const uint64_t epoch = is_step ? m->step.epoch : m->exchange.epoch;
    const uint64_t step = is_step ? m->step.step : m->exchange.step;
    if (epoch != w->epoch || exec_message(w->exec, m, tensor, bytes)) return;
    struct error err;
    error_set(&err, ST_FULL, "%s has more steps than it can queue", w->o->name);
    tell_failure(w, WIRE_STEP_FAILED, epoch, step, &err);
}

/* May this come from there? Nobody speaks for another node. */
static bool allowed(const struct worker *w, const struct wire_message *m,
                    const uint8_t key[KEY_BYTES])
{
    const struct peer *p = peers_by_key(&w->peers, key);
    const bool coordinator = memcmp(key, w->o->join.key, KEY_BYTES) == 0;
    if (m->kind == WIRE_STEP || m->kind == WIRE_ECHO) return coordinator || p;
    if (m->kind != WIRE_DISPATCH && m->kind != WIRE_PARTIALS) return false;
    return p && p->at.node == m->exchange.node;
}

static void on_data_in(void *arg, struct net_socket *s,
                       const uint8_t key[KEY_BYTES], const char *host,
                       struct net_frame header, struct net_frame tensor)
{
    struct worker *w = arg;
    struct wire_message m;
    struct error err;
    enum status st = wire_read(&m, header.data, header.bytes, tensor.data,
                               tensor.bytes, &err);
    if (st == ST_OK && !allowed(w, &m, key)) {
        st = error_set(&err, ST_INVALID, "a message that is not its to send");
        wire_message_fini(&m);
    }
    if (st != ST_OK) {
        say(w, "dropped %s: %s", host, err.text);
        net_drop(s, key);
        return;
    }
    if (m.kind == WIRE_ECHO)
        post_echo_answer(s, key, &m.echo);
    else
        to_exec(w, &m, tensor.data, tensor.bytes);
    wire_message_fini(&m);
}

static bool admit_data(void *arg, struct net_socket *s,
                       const uint8_t key[KEY_BYTES])
{
    (void)s;
    const struct worker *w = arg;
    return memcmp(key, w->o->join.key, KEY_BYTES) == 0 ||
           peers_by_key(&w->peers, key);
}

/* Peers answer over sockets of their own. */
static void on_peer_data(void *arg, struct net_socket *s,
                         const uint8_t key[KEY_BYTES], const char *host,
                         struct net_frame header, struct net_frame tensor)
{
    (void)arg, (void)s, (void)key, (void)host, (void)header, (void)tensor;
}

static struct net_options data_options(struct worker *w, net_receive_fn *f)
{
    return (struct net_options){.name = "data",
                                .message_max = LIMIT_TENSOR_BYTES,
                                .queue_max = DATA_QUEUE,
                                .receive = f,
                                .admit = admit_data,
                                .arg = w};
}

/* ------------------------------------------- from the compute thread */

static struct net_socket *socket_to(struct worker *w, uint32_t node)
{
    if (node == EXEC_TO_COORDINATOR) return w->data_out;
    struct peer *p = peers_by_node(&w->peers, node);
    if (!p || p->socket) return p ? p->socket : NULL;
    const struct net_options o = data_options(w, on_peer_data);
    struct error err;
    const char *host = p->at.host[0] ? p->at.host : w->o->join.host;
    if (net_connect(&p->socket, w->net, host, p->at.port, p->at.key, &o,
                    &err) != ST_OK) {
        say(w, "to worker %u: %s", node, err.text);
        return NULL;
    }
    return p->socket;
}

static void to_self(struct worker *w, const struct exec_out *out)
{
    struct wire_message m;
    if (wire_read(&m, out->header.data, out->header.len, out->tensor,
                  out->tensor_bytes, NULL) != ST_OK) {
        return;
    }
    to_exec(w, &m, out->tensor, out->tensor_bytes);
    wire_message_fini(&m);
}

/* What the control messages of the compute thread mean here. */
static void note_control(struct worker *w, const struct exec_out *out,
                         bool *keep)
{
    struct wire_message m;
    *keep = false;
    if (wire_read(&m, out->header.data, out->header.len, NULL, 0, NULL) !=
        ST_OK) {
        return;
    }
    if (m.kind == WIRE_REPORT) {
        add_report(w, &m.report);
        w->probing = false;
        send_report(w);
        return; /* with the link's figures, in place of the other */
    }
    *keep = m.kind != WIRE_PROGRESS ||
            !fetch_goes_on(w->fetch); /* one measure at once */
    if (m.kind == WIRE_READY) {
        say(w, "ready: %.1f MiB of weights",
            (double)m.ready.weight_bytes / 0x1p20);
        drop_fetch(w);
    } else if (m.kind == WIRE_FAILURE) {
        say(w, "%s", m.failure.text);
        drop_fetch(w);
    }
    wire_message_fini(&m);
}

static void deliver(struct worker *w, const struct exec_out *out)
{
    if (out->epoch != 0 && out->epoch != w->epoch) return; /* another time's */
    bool keep = true;
    if (out->control) note_control(w, out, &keep);
    if (!keep) return;
    if (!out->control && out->node == w->link.node) {
        to_self(w, out);
        return;
    }
    struct net_socket *s = out->control ? w->control : socket_to(w, out->node);
    if (!s) return;
    const enum status st =
        net_send(s, (struct net_frame){out->header.data, out->header.len},
                 (struct net_frame){out->tensor, out->tensor_bytes});
    if (st != ST_OK) {
        say(w, "a message to worker %u is lost: %s", out->node,
            status_text(st));
    }
}

static void on_wake(uv_async_t *handle)
{
    struct worker *w = handle->data;
    struct exec_out *out;
    int n = 0;
    while (n < BURST && (out = exec_take(w->exec)) != NULL) {
        deliver(w, out);
        exec_out_free(out);
        n++;
    }
    if (n == BURST) uv_async_send(&w->wake);
    pump_fetch(w);
}

/* ------------------------------------------------------------ control */

static void connect_coordinator(struct worker *w, const struct wire_welcome *m)
{
    net_close(w->data_out);
    net_close(w->bulk);
    w->data_out = w->bulk = NULL;
    const struct net_options data = data_options(w, on_data_out);
    const struct net_options bulk = {.name = "bulk",
                                     .message_max = LIMIT_ASSIGN_BYTES,
                                     .queue_max = BULK_QUEUE,
                                     .receive = on_bulk,
                                     .arg = w};
    const struct join *j = &w->o->join;
    struct error err;
    enum status st = net_connect(&w->data_out, w->net, j->host, m->data_port,
                                 j->key, &data, &err);
    if (st == ST_OK) {
        st = net_connect(&w->bulk, w->net, j->host, m->bulk_port, j->key, &bulk,
                         &err);
    }
    if (st != ST_OK) tell_failure(w, WIRE_FAILURE, 0, 0, &err);
}

static void on_welcome(struct worker *w, const struct wire_welcome *m)
{
    if (!link_welcome(&w->link, m->coordinator_boot, m->node, m->heartbeat_ms,
                      m->lease_ms, clock_now_ns())) {
        return;
    }
    void_epoch(w);
    w->echoing = false;
    w->waits[0] = '\0';
    connect_coordinator(w, m);
    struct error err;
    if (remember_pool(&w->o->join, w->o->state_dir, &err) != ST_OK) {
        say(w, "%s; the next start needs the join string", err.text);
    }
    say(w, "joined %s as worker %u", w->coordinator, m->node);
}

static void on_refuse(struct worker *w, const struct wire_failure *m)
{
    const bool member = w->link.state == LINK_MEMBER;
    if (link_refused(&w->link, (enum status)m->status, clock_now_ns())) {
        if (member && w->link.state == LINK_JOINING) {
            say(w, "%s does not know us any more", w->coordinator);
        }
        if (m->status == ST_FULL && strcmp(w->waits, m->text) != 0) {
            memcpy(w->waits, m->text, sizeof w->waits);
            say(w, "%s: %s", w->coordinator, m->text); /* once */
        }
        return;
    }
    w->refused = w->over = true;
    error_set(&w->error, (enum status)m->status, "%s refuses: %s",
              w->coordinator, m->text);
    uv_stop(&w->loop);
}

static void on_probe(struct worker *w, const struct wire_probe *p)
{
    uint32_t bytes;
    if (w->link.state != LINK_MEMBER || w->echoing || w->probing) return;
    w->wanted = probe_types(p);
    /* a type that could not be measured is not tried again either */
    if ((w->wanted & ~w->probed) == 0) { /* this machine has not changed */
        send_report(w);
        return;
    }
    w->echoing = true;
    const struct wire_echo first = echo_begin(&w->echo, clock_now_ns(), &bytes);
    post_echo(w->data_out, first, bytes);
}

static void on_control(void *arg, struct net_socket *s,
                       const uint8_t key[KEY_BYTES], const char *host,
                       struct net_frame header, struct net_frame tensor)
{
    (void)s, (void)key, (void)host;
    struct worker *w = arg;
    struct wire_message m;
    struct error err;
    if (w->over) return;
    if (wire_read(&m, header.data, header.bytes, tensor.data, tensor.bytes,
                  &err) != ST_OK) {
        say(w, "from the coordinator: %s", err.text);
        return;
    }
    if (w->link.state != LINK_JOINING) link_heard(&w->link, clock_now_ns());
    if (m.kind == WIRE_WELCOME)
        on_welcome(w, &m.welcome);
    else if (m.kind == WIRE_REFUSE)
        on_refuse(w, &m.failure);
    else if (m.kind == WIRE_PROBE)
        on_probe(w, &m.probe);
    else if (m.kind == WIRE_ASSIGN)
        on_assign(w, &m.assign);
    else if (m.kind == WIRE_HEARTBEAT && w->link.state == LINK_LEAVING &&
             m.heartbeat.epoch > w->epoch)
        link_assigned(&w->link, false); /* they have planned without us */
    wire_message_fini(&m);
}

/* --------------------------------------------------------------- time */

static void act(struct worker *w, enum link_action action)
{
    struct wire_message m = {.kind = WIRE_DRAIN};
    switch (action) {
    case LINK_NOTHING:
        break;
    case LINK_SEND_HELLO:
        send_hello(w);
        break;
    case LINK_SEND_HEARTBEAT:
        send_heartbeat(w);
        break;
    case LINK_SAY_SILENT:
        say(w,
            "no answer from %s: is potluck serve running there, is the join "
            "string its own, was this PC's key revoked? trying on",
            w->coordinator);
        break;
    case LINK_LOST:
        say(w, "lost the coordinator, joining again");
        void_epoch(w);
        break;
    case LINK_SEND_DRAIN:
        say(w, "leaving when what runs is finished; again: at once");
        tell(w, &m);
        break;
    case LINK_SEND_BYE:
        m.kind = WIRE_BYE;
        tell(w, &m);
        say(w, "left");
        w->over = true;
        uv_stop(&w->loop);
        break;
    }
}

static void tell_fetched(struct worker *w, uint64_t now)
{
    struct wire_message m = {.kind = WIRE_PROGRESS};
    if (!w->fetch) return;
    fetch_tick(w->fetch, now);
    pump_fetch(w);
    m.progress.epoch = w->epoch;
    snprintf(m.progress.what, sizeof m.progress.what, "fetching");
    fetch_progress(w->fetch, &m.progress.done_bytes, &m.progress.total_bytes);
    if (m.progress.done_bytes == w->fetched_bytes) return;
    w->fetched_bytes = m.progress.done_bytes;
    tell(w, &m);
    show_progress(w, m.progress.done_bytes, m.progress.total_bytes);
}

static void on_timer(uv_timer_t *handle)
{
    struct worker *w = handle->data;
    const uint64_t now = clock_now_ns();
    enum link_action action;
    while (!w->over && (action = link_next(&w->link, now)) != LINK_NOTHING) {
        act(w, action);
    }
    if (w->over) return;
    if (w->echoing && echo_done(&w->echo, now)) begin_probe(w);
    tell_fetched(w, now);
    uint64_t wait = link_wait_ms(&w->link, now);
    if (wait > TICK_MS) wait = TICK_MS;
    uv_timer_start(&w->timer, on_timer, wait ? wait : 1, 0);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    struct worker *w = handle->data;
    link_leave(&w->link, clock_now_ns());
    uv_timer_start(&w->timer, on_timer, 0, 0);
}

/* --------------------------------------------------------------- life */

static enum status open_sockets(struct worker *w, struct error *err)
{
    char path[4096];
    struct net_key key;
    const struct join *j = &w->o->join;
    snprintf(path, sizeof path, "%s/key", w->o->state_dir);
    enum status st = net_key_load(&key, path, err);
    if (st == ST_OK) st = net_create(&w->net, &w->loop, &key, err);
    memset(&key, 0, sizeof key);
    if (st != ST_OK) return st;
    const struct net_options data = data_options(w, on_data_in);
    const struct net_options control = {.name = "control",
                                        .message_max = LIMIT_ASSIGN_BYTES,
                                        .queue_max = CONTROL_QUEUE,
                                        .receive = on_control,
                                        .arg = w};
    w->data_port = w->o->listen_port;
    st = net_listen(&w->data_in, w->net, w->o->listen, &w->data_port, &data,
                    err);
    if (st != ST_OK) return st;
    return net_connect(&w->control, w->net, j->host, j->port, j->key, &control,
                       err);
}

static enum status open_worker(struct worker *w, struct error *err)
{
    const struct exec_options exec = {.shard = w->o->shard,
                                      .notify = wake_loop,
                                      .arg = w,
                                      .trace_path = w->o->trace_path};
    snprintf(w->coordinator, sizeof w->coordinator, "%s:%u", w->o->join.host,
             w->o->join.port);
    if (getrandom(&w->boot_id, sizeof w->boot_id, 0) !=
        (ssize_t)sizeof w->boot_id) {
        return error_set(err, ST_IO, "no random numbers: %s", strerror(errno));
    }
    enum status st = ST_OK;
    if (w->o->cache_dir) {
        st = cache_open(&w->cache, w->o->cache_dir, w->o->cache_bytes,
                        say_cache, NULL, err);
    }
    if (st == ST_OK) st = exec_create(&w->exec, &exec, err);
    if (st == ST_OK) st = open_sockets(w, err);
    return st;
}

static void on_walk(uv_handle_t *handle, void *arg)
{
    struct worker *w = arg;
    const uv_handle_t *const ours[] = {
        (uv_handle_t *)&w->timer, (uv_handle_t *)&w->wake,
        (uv_handle_t *)&w->terminate, (uv_handle_t *)&w->interrupt};
    for (size_t i = 0; i < COUNT_OF(ours); i++) {
        if (handle == ours[i] && !uv_is_closing(handle)) {
            uv_close(handle, NULL);
        }
    }
}

static void close_worker(struct worker *w)
{
    if (w->exec) {
        exec_set_epoch(w->exec, 0);
        drop_fetch(w);
        exec_free(w->exec);
    }
    drop_fetch(w);
    mem_free(w->peers.list); /* the net closes their sockets */
    cache_close(w->cache);
    net_free(w->net, LINGER_MS);
    uv_walk(&w->loop, on_walk, w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    uv_loop_close(&w->loop);
}

static enum status start_loop(struct worker *w, struct error *err)
{
    if (uv_loop_init(&w->loop) != 0) {
        return error_set(err, ST_NO_MEMORY, "no event loop");
    }
    int rc = uv_timer_init(&w->loop, &w->timer);
    if (rc == 0) rc = uv_async_init(&w->loop, &w->wake, on_wake);
    if (rc == 0) rc = uv_signal_init(&w->loop, &w->terminate);
    if (rc == 0) rc = uv_signal_init(&w->loop, &w->interrupt);
    w->timer.data = w->wake.data = w->terminate.data = w->interrupt.data = w;
    if (rc == 0) rc = uv_signal_start(&w->terminate, on_signal, SIGTERM);
    if (rc == 0) rc = uv_signal_start(&w->interrupt, on_signal, SIGINT);
    if (rc == 0) rc = uv_timer_start(&w->timer, on_timer, 0, 0);
    if (rc == 0) return ST_OK;
    return error_set(err, ST_IO, "event loop: %s", uv_strerror(rc));
}

enum status worker_run(const struct worker_options *o, bool *refused,
                       struct error *err)
{
    struct worker *w = mem_zalloc(sizeof *w);
    *refused = false;
    if (!w) return error_set(err, ST_NO_MEMORY, "no memory");
    w->o = o;
    link_init(&w->link);
    enum status st = start_loop(w, err);
    if (st == ST_OK) st = open_worker(w, err);
    if (st == ST_OK) {
        say(w, "joining %s as \"%s\", %u threads, %.1f GiB", w->coordinator,
            o->name, o->shard.n_threads, (double)o->shard.memory_max / 0x1p30);
        uv_run(&w->loop, UV_RUN_DEFAULT);
    }
    close_worker(w);
    if (st == ST_OK && w->refused) {
        *refused = true;
        st = error_set(err, w->error.status, "%s", w->error.text);
    }
    mem_free(w);
    return st;
}

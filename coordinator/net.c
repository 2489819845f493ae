#include "coordinator/net.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "common/clock.h"
#include "common/join.h"
#include "coordinator/admit.h"
#include "coordinator/announce.h"
#include "coordinator/api.h"
#include "coordinator/bulk.h"
#include "coordinator/feeds.h"
#include "coordinator/home.h"
#include "coordinator/own_worker.h"
#include "coordinator/served.h"

#define CONTROL_QUEUE     4096
#define DATA_QUEUE        4096
#define BULK_QUEUE        4 /* cells in ZeroMQ, for each worker */
#define LINGER_MS         300
#define CHILD_KILL_MS     5000
#define RETRY_MS          20  /* cells for a worker whose socket was full */
#define TICK_MS           500 /* at the latest: the child, the beacon, hashes */
#define SETTLE_MS         2000
#define SETTLE_COUNTED_MS 200 /* --workers says how many there are to be */
#define ECHO_MAX          (8u << 20)

struct coordinator {
    const struct coordinator_options *o;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_prepare_t prepare;
    uv_async_t wake; /* cells are ready */
    uv_signal_t terminate, interrupt, hangup;
    uint32_t n_planning;
    struct store *store;
    struct served served;
    struct admit *admit;
    struct pool_host *pool;
    struct net *net;
    struct net_key key;
    struct net_socket *control, *data, *bulk_socket;
    uint32_t control_port, data_port, bulk_port;
    struct feeds feeds;
    struct bulk *bulk;
    struct api *api;
    struct announce announce;
    struct child *child; /* this machine's own worker, or NULL */
    struct buf scratch, plan_json;
    char host[LIMIT_ADDRESS + 1]; /* in the join string */
    uint8_t local_key[KEY_BYTES];
    bool has_loop, stopping;
    bool over;       /* the pool is not to change any more */
    bool bulk_waits; /* for room in a worker's socket */
};

static void say(void *arg, const char *line)
{
    (void)arg;
    fprintf(stderr, "potluck-coordinator: %s\n", line);
}

/* -------------------------------------------------------------- sending */

static enum status send_to(struct coordinator *c, struct net_socket *s,
                           const uint8_t key[KEY_BYTES],
                           const struct wire_message *m, const void *tensor,
                           size_t n)
{
    c->scratch.len = 0;
    const enum status st = wire_write(&c->scratch, m, NULL);
    if (st != ST_OK) return st;
    return net_send_to(s, key,
                       (struct net_frame){c->scratch.data, c->scratch.len},
                       (struct net_frame){tensor, n});
}

static void refuse(struct coordinator *c, const uint8_t key[KEY_BYTES],
                   const struct error *err)
{
    struct wire_message m = {.kind = WIRE_REFUSE};
    m.failure.status = (uint32_t)err->status;
    snprintf(m.failure.text, sizeof m.failure.text, "%.*s", LIMIT_TEXT,
             err->text);
    const enum status st = send_to(c, c->control, key, &m, NULL, 0);
    (void)st; /* it asks again */
}

/* ------------------------------------------------------- core's outside */

static uint64_t io_now(void *arg)
{
    (void)arg;
    return clock_now_ns();
}

static enum status io_control(void *arg, const uint8_t key[KEY_BYTES],
                              const struct wire_message *m)
{
    struct coordinator *c = arg;
    return send_to(c, c->control, key, m, NULL, 0);
}

static enum status io_step(void *arg, const struct cluster_node *to,
                           const struct wire_message *m)
{
    struct coordinator *c = arg;
    return feeds_send(&c->feeds, to, m, &c->scratch);
}

/* The control connection stays: what was given up may join again over it. */
static void io_drop(void *arg, const uint8_t key[KEY_BYTES])
{
    struct coordinator *c = arg;
    feeds_drop(&c->feeds, key);
    bulk_forget(c->bulk, key);
}

struct planning {
    uv_work_t work;
    struct coordinator *c;
    struct core_plan *task;
};

static void plan_run(uv_work_t *work)
{
    struct planning *p = work->data;
    core_plan_run(p->task);
}

static void plan_done(uv_work_t *work, int status)
{
    (void)status;
    struct planning *p = work->data;
    p->c->n_planning--;
    core_planned(p->c->pool, p->task);
    mem_free(p);
}

static void io_plan(void *arg, struct core_plan *task)
{
    struct coordinator *c = arg;
    struct planning *p = mem_zalloc(sizeof *p);
    if (p) {
        *p = (struct planning){.c = c, .task = task};
        p->work.data = p;
        if (uv_queue_work(&c->loop, &p->work, plan_run, plan_done) == 0) {
            c->n_planning++;
            return;
        }
        mem_free(p);
    }
    core_plan_run(task); /* slower for everyone else, but done */
    core_planned(c->pool, task);
}

/* ------------------------------------------------------------- control */

static bool admit_control(void *arg, struct net_socket *s,
                          const uint8_t key[KEY_BYTES])
{
    (void)s;
    struct coordinator *c = arg;
    return admit_connect(c->admit, key, clock_now_ns());
}

static void on_hello(struct coordinator *c, const uint8_t key[KEY_BYTES],
                     const char *host, const struct wire_hello *h)
{
    struct error err = {.status = ST_OK};
    switch (admit_hello(c->admit, key, h->name, host, h->token, clock_now_ns(),
                        &err)) {
    case ADMIT_YES:
        if (err.status != ST_OK) say(NULL, err.text);
        core_hello(c->pool, key, host, h);
        break;
    case ADMIT_PENDING:
        err.status = ST_FULL; /* "not now": it asks again */
        refuse(c, key, &err);
        break;
    case ADMIT_NO:
        refuse(c, key, &err);
        break;
    }
}

static void on_control(void *arg, struct net_socket *s,
                       const uint8_t key[KEY_BYTES], const char *host,
                       struct net_frame header, struct net_frame tensor)
{
    struct coordinator *c = arg;
    struct wire_message m;
    struct error err;
    if (c->over) return;
    const bool known = admit_enrolled(c->admit, key);
    if (!known && (header.bytes > LIMIT_HELLO_BYTES || tensor.bytes != 0)) {
        net_drop(s, key);
        return;
    }
    if (wire_read(&m, header.data, header.bytes, tensor.data, tensor.bytes,
                  &err) != ST_OK) {
        fprintf(stderr, "potluck-coordinator: dropped %s: %s\n", host,
                err.text);
        net_drop(s, key);
        return;
    }
    if (m.kind == WIRE_HELLO)
        on_hello(c, key, host, &m.hello);
    else if (known)
        core_control(c->pool, key, &m);
    wire_message_fini(&m);
}

/* ------------------------------------------------------- data and bulk */

static bool admit_enrolled_only(void *arg, struct net_socket *s,
                                const uint8_t key[KEY_BYTES])
{
    (void)s;
    const struct coordinator *c = arg;
    return admit_enrolled(c->admit, key);
}

static void answer_echo(struct coordinator *c, const uint8_t key[KEY_BYTES],
                        const struct wire_echo *e)
{
    static const char zeros[ECHO_MAX];
    struct wire_message m = {.kind = WIRE_ECHO, .echo = {.n = e->n}};
    const size_t n = e->reply_bytes < ECHO_MAX ? e->reply_bytes : ECHO_MAX;
    const enum status st = send_to(c, c->data, key, &m, zeros, n);
    (void)st; /* then the link stays unmeasured */
}

/* Reads what a member sent; anything else costs its connection. */
static bool read_member(struct coordinator *c, struct net_socket *s,
                        const uint8_t key[KEY_BYTES], const char *host,
                        struct net_frame header, struct net_frame tensor,
                        struct wire_message *m)
{
    struct error err;
    if (!core_member(c->pool, key)) return false;
    if (wire_read(m, header.data, header.bytes, tensor.data, tensor.bytes,
                  &err) == ST_OK) {
        return true;
    }
    fprintf(stderr, "potluck-coordinator: dropped %s: %s\n", host, err.text);
    net_drop(s, key);
    return false;
}

static void on_data(void *arg, struct net_socket *s,
                    const uint8_t key[KEY_BYTES], const char *host,
                    struct net_frame header, struct net_frame tensor)
{
    struct coordinator *c = arg;
    struct wire_message m;
    if (!read_member(c, s, key, host, header, tensor, &m)) return;
    if (m.kind == WIRE_ECHO)
        answer_echo(c, key, &m.echo);
    else
        core_data(c->pool, key, &m, tensor.data, tensor.bytes);
    wire_message_fini(&m);
}

static void pump_bulk(struct coordinator *c)
{
    struct bulk_out *o;
    while ((o = bulk_take(c->bulk)) != NULL) {
        const enum status st =
            net_send_to(c->bulk_socket, o->key,
                        (struct net_frame){o->header.data, o->header.len},
                        (struct net_frame){o->tensor.data, o->tensor.len});
        if (st == ST_FULL) {
            bulk_untake(c->bulk, o);
            c->bulk_waits = true;
        } else if (st == ST_OK) {
            bulk_sent(c->bulk, o);
        } else {
            bulk_drop(c->bulk, o);
        }
    }
}

static void on_bulk(void *arg, struct net_socket *s,
                    const uint8_t key[KEY_BYTES], const char *host,
                    struct net_frame header, struct net_frame tensor)
{
    struct coordinator *c = arg;
    struct wire_message m;
    if (!read_member(c, s, key, host, header, tensor, &m)) return;
    struct error err;
    if (m.kind == WIRE_CELLS_WANTED &&
        bulk_wanted(c->bulk, key, &m.cells, &err) != ST_OK) {
        fprintf(stderr, "potluck-coordinator: %s asks for too much: %s\n", host,
                err.text); /* it asks again */
    }
    wire_message_fini(&m);
}

static void on_wake(uv_async_t *handle)
{
    pump_bulk(handle->data);
}

static void on_bulk_ready(void *arg)
{
    struct coordinator *c = arg;
    uv_async_send(&c->wake);
}

/* ---------------------------------------------------------------- time */

static void tick(uv_timer_t *handle)
{
    struct coordinator *c = handle->data;
    const uint64_t now = clock_now_ns();
    uint8_t key[KEY_BYTES];
    if (c->over) return;
    core_tick(c->pool);
    while (admit_expired(c->admit, now, key)) net_drop(c->control, key);
    feeds_sweep(&c->feeds, pool_cluster(c->pool));
    if (c->child) child_poll(c->child, now);
    beacon_send(&c->announce, now);
    c->bulk_waits = bulk_retry(c->bulk);
    pump_bulk(c);
    if (c->stopping && core_closed(c->pool)) uv_stop(&c->loop);
}

/* Before the loop sleeps: until when. */
static void on_prepare(uv_prepare_t *handle)
{
    struct coordinator *c = handle->data;
    const uint64_t now = clock_now_ns();
    uint64_t at = core_deadline(c->pool);
    const uint64_t admit = admit_deadline(c->admit);
    const uint64_t child = c->child ? child_deadline(c->child) : UINT64_MAX;
    if (admit < at) at = admit;
    const uint64_t announce = announce_deadline(&c->announce);
    if (child < at) at = child;
    if (announce < at) at = announce;
    uint64_t ms = at <= now ? 0 : (at - now) / UINT64_C(1000000) + 1;
    if (ms > TICK_MS) ms = TICK_MS;
    if (c->bulk_waits && ms > RETRY_MS) ms = RETRY_MS;
    if (c->stopping && core_closed(c->pool)) ms = 0;
    uv_update_time(&c->loop);
    uv_timer_start(&c->timer, tick, ms, 0);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    struct coordinator *c = handle->data;
    say(NULL, c->stopping ? "stopping at once"
                          : "stopping when running answers are finished; "
                            "again: at once");
    c->stopping = true;
    core_close(c->pool);
}

static void on_hangup(uv_signal_t *handle, int number)
{
    (void)number;
    struct coordinator *c = handle->data;
    struct error err;
    if (!c->o->plan_path) {
        say(NULL, "SIGHUP reads the file of --plan again; there is none");
        return;
    }
    c->plan_json.len = 0;
    if (files_read(&c->plan_json, c->o->plan_path, 0, &err) != ST_OK) {
        say(NULL, err.text);
        return;
    }
    core_replan(c->pool, c->plan_json.data, c->plan_json.len);
}

/* ------------------------------------------------------------ operator */

static enum status op_join(void *arg, const char *token,
                           char text[JOIN_TEXT_BYTES], struct error *err)
{
    struct coordinator *c = arg;
    struct join j = {.port = c->control_port};
    if (strlen(token) > JOIN_TOKEN_MAX) {
        return error_set(err, ST_INVALID, "a token of %zu bytes",
                         strlen(token));
    }
    snprintf(j.host, sizeof j.host, "%s", c->host);
    snprintf(j.token, sizeof j.token, "%s", token);
    memcpy(j.key, c->key.pub, KEY_BYTES);
    join_format(text, &j);
    return store_join(c->store, text, err); /* a newer token than the last */
}

static void op_revoked(void *arg, const uint8_t key[KEY_BYTES])
{
    struct coordinator *c = arg;
    struct error err;
    error_set(&err, ST_INVALID,
              "the key of this machine was revoked: `potluck keys approve` at "
              "the coordinator lets it in again");
    refuse(c, key, &err); /* the last that it hears */
    core_revoke(c->pool, key);
    net_drop(c->control, key);
    net_drop(c->data, key);
    net_drop(c->bulk_socket, key);
}

/* ---------------------------------------------------------------- life */

static enum status read_plan(struct coordinator *c, struct error *err)
{
    buf_init(&c->plan_json, PLAN_JSON_MAX);
    if (!c->o->plan_path) return ST_OK;
    return files_read(&c->plan_json, c->o->plan_path, 0, err);
}

static enum status open_core(struct coordinator *c, struct error *err)
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
        return error_set(err, ST_IO, "no random numbers: %s", strerror(errno));
    }
    /* Epochs, steps and sequences count up from a number that no boot before
     * has come to: workers may still have its messages.  Below 2^53, so that
     * readers of JSON keep it whole. */
    const uint64_t first =
        ((uint64_t)time(NULL) & 0xffffffff) << 20 | (random & 0xfffff);
    struct core_config core = {
        .model_name = c->served.name,
        .model_created = c->served.created,
        .model = &c->served.model,
        .tokenizer = c->served.tokenizer,
        .model_header = c->served.header.data,
        .model_header_bytes = c->served.header.len,
        .cluster = {.boot = random | 1,
                    .first_epoch = first,
                    .wait_for = c->o->n_workers,
                    .local = c->o->local,
                    .settle_ns =
                        (c->o->n_workers ? SETTLE_COUNTED_MS : SETTLE_MS) *
                        UINT64_C(1000000),
                    .data_port = c->data_port,
                    .bulk_port = c->bulk_port},
        .objective = c->o->objective,
        .n_users = c->o->n_users,
        .n_ctx = c->o->n_ctx,
        .kv_type = c->o->kv_type,
        .plan_json = c->o->plan_path ? c->plan_json.data : NULL,
        .plan_json_bytes = c->plan_json.len,
        .spread = c->o->spread,
        .queue_max = c->o->queue_max,
        .first_request = first,
    };
    memcpy(core.cluster.local_key, c->local_key, KEY_BYTES);
    const struct core_io io = {.now = io_now,
                               .control = io_control,
                               .step = io_step,
                               .drop = io_drop,
                               .plan = io_plan,
                               .say = say,
                               .arg = c};
    return core_create(&c->pool, &core, &io, err);
}

static enum status listen_on(struct coordinator *c, struct net_socket **s,
                             uint32_t *port, const struct net_options *o,
                             struct error *err)
{
    const uint32_t wanted = *port;
    enum status st = net_listen(s, c->net, c->o->host, port, o, err);
    if (st == ST_OK || wanted == 0) return st;
    *port = 0; /* these two may lie anywhere: Welcome tells */
    return net_listen(s, c->net, c->o->host, port, o, err);
}

static enum status open_sockets(struct coordinator *c, struct error *err)
{
    const struct net_options control = {.name = "control",
                                        .message_max = LIMIT_ASSIGN_BYTES,
                                        .queue_max = CONTROL_QUEUE,
                                        .receive = on_control,
                                        .admit = admit_control,
                                        .arg = c};
    const struct net_options data = {.name = "data",
                                     .message_max = LIMIT_TENSOR_BYTES,
                                     .queue_max = DATA_QUEUE,
                                     .receive = on_data,
                                     .admit = admit_enrolled_only,
                                     .arg = c};
    const struct net_options bulk = {.name = "bulk",
                                     .message_max = LIMIT_ASSIGN_BYTES,
                                     .queue_max = BULK_QUEUE,
                                     .receive = on_bulk,
                                     .admit = admit_enrolled_only,
                                     .arg = c};
    enum status st = net_create(&c->net, &c->loop, &c->key, err);
    if (st != ST_OK) return st;
    c->feeds.net = c->net;
    c->control_port = c->o->port;
    c->data_port = c->o->port && c->o->port < 65000 ? c->o->port + 2 : 0;
    c->bulk_port = c->data_port ? c->data_port + 1 : 0;
    st = net_listen(&c->control, c->net, c->o->host, &c->control_port, &control,
                    err);
    if (st == ST_OK) st = listen_on(c, &c->data, &c->data_port, &data, err);
    if (st == ST_OK) {
        st = listen_on(c, &c->bulk_socket, &c->bulk_port, &bulk, err);
    }
    return st;
}

static enum status open_keys(struct coordinator *c, struct error *err)
{
    char path[FILES_PATH_BYTES];
    if (!store_path(c->store, "key", path)) {
        return error_set(err, ST_USAGE, "--state: the path is too long");
    }
    enum status st = net_key_load(&c->key, path, err);
    if (st == ST_OK && store_path(c->store, "keys", path)) {
        st = admit_create(&c->admit, path, err);
    }
    if (st == ST_OK && c->o->local) {
        st = own_worker_key(c->local_key, c->store, err);
    }
    if (st != ST_OK || !c->o->local) return st;
    return admit_add(c->admit, c->local_key, "local", err);
}

/* -------------------------------------------------------- front door */

static enum status open_api(struct coordinator *c, struct error *err)
{
    char secret[STORE_OPERATOR_BYTES];
    enum status st = store_operator(c->store, secret, err);
    if (st != ST_OK) return st;
    const struct api_options o = {.address = c->o->http,
                                  .pool = c->pool,
                                  .admit = c->admit,
                                  .chat = c->served.chat,
                                  .why_no_chat = &c->served.why_no_chat,
                                  .operator_token = secret,
                                  .join = op_join,
                                  .revoked = op_revoked,
                                  .arg = c};
    st = api_create(&c->api, &c->loop, &o, err);
    memset(secret, 0, sizeof secret);
    return st;
}

/* What people and scripts need to know: addresses, join string. */
static enum status greet(struct coordinator *c, struct error *err)
{
    char listen[128], http[128], token[ADMIT_TOKEN_BYTES];
    char text[JOIN_TEXT_BYTES];
    const char *colon = strrchr(c->o->http, ':');
    const int n = colon ? (int)(colon - c->o->http) : 0;
    home_address(c->host, sizeof c->host, c->o->host);
    if (c->o->advertise) {
        snprintf(c->host, sizeof c->host, "%s", c->o->advertise);
    }
    const float minutes = c->o->invite_minutes;
    enum status st = ST_OK;
    token[0] = '\0';
    if (minutes > 0) {
        st = admit_invite_for(c->admit, (uint64_t)((double)minutes * 60e9),
                              clock_now_ns(), token, err);
    }
    if (st == ST_OK) st = op_join(c, token, text, err);
    if (st != ST_OK) return st;
    snprintf(listen, sizeof listen, "%s:%u", c->o->host, c->control_port);
    snprintf(http, sizeof http, "%.*s:%u", n, c->o->http, api_port(c->api));
    st = store_addresses(c->store, listen, http, err);
    if (st != ST_OK) return st;
    fprintf(stderr,
            "potluck-coordinator: %s: %u layers, %.2f GiB; answers at "
            "http://%s\n",
            c->served.name, c->served.model.n_layer,
            (double)gguf_file_bytes(c->served.gguf) / 0x1p30, http);
    if (minutes > 0) {
        fprintf(stderr, "On each other PC, within the next %g minutes:\n\n",
                (double)minutes);
    } else {
        fputs("On each other PC, and then `potluck keys approve` here:\n\n",
              stderr);
    }
    printf("potluck join '%s'\n", text);
    fflush(stdout);
    fputs("\n", stderr);
    return ST_OK;
}

/* ---------------------------------------------------------------- loop */

static enum status start_loop(struct coordinator *c, struct error *err)
{
    if (uv_loop_init(&c->loop) != 0) {
        return error_set(err, ST_NO_MEMORY, "no event loop");
    }
    c->has_loop = true;
    int rc = uv_timer_init(&c->loop, &c->timer);
    if (rc == 0) rc = uv_prepare_init(&c->loop, &c->prepare);
    if (rc == 0) rc = uv_async_init(&c->loop, &c->wake, on_wake);
    if (rc == 0) rc = uv_signal_init(&c->loop, &c->terminate);
    if (rc == 0) rc = uv_signal_init(&c->loop, &c->interrupt);
    if (rc == 0) rc = uv_signal_init(&c->loop, &c->hangup);
    c->timer.data = c->prepare.data = c->wake.data = c;
    c->terminate.data = c->interrupt.data = c->hangup.data = c;
    if (rc == 0) return ST_OK;
    return error_set(err, ST_IO, "event loop: %s", uv_strerror(rc));
}

static enum status start_events(struct coordinator *c, struct error *err)
{
    int rc = uv_prepare_start(&c->prepare, on_prepare);
    if (rc == 0) rc = uv_signal_start(&c->terminate, on_signal, SIGTERM);
    if (rc == 0) rc = uv_signal_start(&c->interrupt, on_signal, SIGINT);
    if (rc == 0) rc = uv_signal_start(&c->hangup, on_hangup, SIGHUP);
    if (rc == 0) return ST_OK;
    return error_set(err, ST_IO, "event loop: %s", uv_strerror(rc));
}

static enum status open_child(struct coordinator *c, struct error *err)
{
    const struct own_worker w = {.threads = c->o->local_threads,
                                 .memory = c->o->local_memory,
                                 .listen = c->o->host,
                                 .port = c->control_port,
                                 .coordinator_key = c->key.pub};
    return c->o->local ? own_worker_create(&c->child, &w, c->store, say, err)
                       : ST_OK;
}

static void open_announce(struct coordinator *c)
{
    struct beacon b = {.port = c->control_port};
    memcpy(b.key, c->key.pub, KEY_BYTES);
    if (gethostname(b.name, sizeof b.name - 1) != 0) b.name[0] = '\0';
    if (c->o->beacon) announce_open(&c->announce, &b, c->o->host, BEACON_PORT);
}

static enum status open_bulk(struct coordinator *c, struct error *err)
{
    struct bulk_options o = {
        .manifest = c->served.manifest, .notify = on_bulk_ready, .arg = c};
    hash_of(o.model_id, c->served.header.data, c->served.header.len);
    return bulk_create(&c->bulk, &o, err);
}

static enum status open_coordinator(struct coordinator *c, struct error *err)
{
    enum status st = read_plan(c, err);
    if (st == ST_OK) st = store_open(&c->store, c->o->state_dir, err);
    if (st == ST_OK) {
        st = served_open(&c->served, c->o->model_path, store_dir(c->store), say,
                         c, err);
    }
    if (st == ST_OK) st = open_keys(c, err);
    if (st == ST_OK) st = open_sockets(c, err);
    if (st == ST_OK) st = open_bulk(c, err);
    if (st == ST_OK) st = open_core(c, err);
    if (st == ST_OK) st = open_api(c, err);
    if (st == ST_OK) st = open_child(c, err);
    if (st == ST_OK) st = start_events(c, err);
    if (st != ST_OK) return st;
    open_announce(c);
    return greet(c, err);
}

static void stop_handle(uv_handle_t *handle, void *arg)
{
    struct coordinator *c = arg;
    const uv_handle_t *const ours[] = {
        (uv_handle_t *)&c->timer,     (uv_handle_t *)&c->prepare,
        (uv_handle_t *)&c->wake,      (uv_handle_t *)&c->terminate,
        (uv_handle_t *)&c->interrupt, (uv_handle_t *)&c->hangup};
    for (size_t i = 0; i < COUNT_OF(ours); i++) {
        if (handle == ours[i] && !uv_is_closing(handle)) {
            uv_close(handle, NULL);
        }
    }
}

/* The child is told first, so that it leaves while everything else closes. */
static void end_child(struct coordinator *c)
{
    const struct timespec nap = {.tv_nsec = 10 * 1000 * 1000};
    c->over = true;
    if (!c->child) return;
    child_stop(c->child, clock_now_ns(), CHILD_KILL_MS);
    child_stop(c->child, clock_now_ns(), CHILD_KILL_MS); /* no need to wait */
    while (!child_stopped(c->child)) {
        uv_run(&c->loop, UV_RUN_NOWAIT); /* its Bye */
        child_poll(c->child, clock_now_ns());
        nanosleep(&nap, NULL);
    }
}

static void close_coordinator(struct coordinator *c)
{
    struct error err;
    if (!c->has_loop) return; /* nothing else is there either */
    if (c->pool) end_child(c);
    child_free(c->child);
    announce_close(&c->announce);
    api_close(c->api);
    while (c->n_planning != 0) uv_run(&c->loop, UV_RUN_ONCE);
    feeds_close(&c->feeds);
    uv_walk(&c->loop, stop_handle, c);
    net_free(c->net, LINGER_MS);
    uv_run(&c->loop, UV_RUN_DEFAULT);
    core_free(c->pool);
    bulk_free(c->bulk);
    if (c->served.manifest &&
        manifest_save(c->served.manifest, &err) != ST_OK) {
        say(NULL, err.text); /* they are hashed anew the next time */
    }
    served_close(&c->served);
    admit_free(c->admit);
    store_close(c->store);
    buf_fini(&c->scratch);
    buf_fini(&c->plan_json);
    memset(&c->key, 0, sizeof c->key);
    uv_loop_close(&c->loop);
}

enum status coordinator_run(const struct coordinator_options *o,
                            struct error *err)
{
    struct coordinator *c = mem_zalloc(sizeof *c);
    if (!c) return error_set(err, ST_NO_MEMORY, "no memory");
    c->o = o;
    c->announce.fd = -1;
    buf_init(&c->scratch, LIMIT_ASSIGN_BYTES);
    enum status st = start_loop(c, err);
    if (st == ST_OK) st = open_coordinator(c, err);
    if (st == ST_OK) uv_run(&c->loop, UV_RUN_DEFAULT);
    close_coordinator(c);
    mem_free(c);
    return st;
}

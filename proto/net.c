/* net.c - ZeroMQ on libuv.
 *
 * Depends on: net_peers, mem; libzmq 4.3, libuv, libsodium.  Thread: loop;
 * ZeroMQ's one I/O thread stays inside the library.
 *
 * Waking up.  ZMQ_FD says only that something happened since the socket was
 * last looked at, and sending looks at it too.  So a socket is read until it
 * is empty after every wake and, by way of `touched`, in the turn after every
 * send; an idle handle keeps the loop from sleeping while one is touched.  A
 * burst is limited, and the rest waits its turn behind the other sockets.
 *
 * Who is who.  A peer is its CURVE key, which libzmq has verified by the time
 * it asks us (ZAP, RFC 27) and which comes with each message as "User-Id". A
 * routing id a peer may choose, and with it another's messages.  Our ZAP
 * answer therefore carries an "Identity" property: libzmq 4.x takes it in
 * place of the peer's, so every connection has a route that we issued and
 * nobody can guess.  (Should the answer overtake the peer's own property, the
 * peer's stays; our clients choose 128 random bits, so not even then is there
 * anything to guess.)  net_peers.h has the rest.
 *
 * Both ends are ROUTERs.  Unlike a DEALER's, a ROUTER's send tells "full"
 * from "the connection was given up", which libzmq does for good when the
 * other side breaks the protocol: then we connect again.
 *
 * What libzmq cannot bound: the frames of one message that never ends, from
 * an admitted key.  Each is at most message_max; their number has no limit. */
#include "proto/net.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>
#include <uv.h>
#include <zmq.h>

#include "common/clock.h"
#include "proto/net_peers.h"

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define ZAP_FRAMES   9 /* of a CURVE request, routing id and delimiter too */
#define DATA_FRAMES  3 /* route, header, tensor */

/* Of one socket in one turn of the loop, so that none starves the others. */
#define BURST_MESSAGES 64
#define BURST_FRAMES   256
#define BURST_BYTES    (8u << 20)

/* A CURVE message is the frame and 33 bytes (RFC 26: name, nonce, MAC, flags);
 * no handshake command exceeds HANDSHAKE_MAX. */
#define CURVE_BYTES   33
#define HANDSHAKE_MAX 1024

/* Also how soon a refused key is heard again: libzmq closes its connection
 * only when this has run out. */
#define HANDSHAKE_MS     3000
#define RECONNECT_MS     100
#define RECONNECT_MAX_MS 2000
#define CONNECT_MS       3000
#define KEEPALIVE_IDLE_S 10
#define UNANSWERED_MS    15000 /* TCP data without acknowledgement */
#define BACKLOG          (2 * LIMIT_NODES)

/* A client's name for its only peer. */
#define SERVER_ROUTE "s"

enum kind { KIND_ZAP, KIND_SERVER, KIND_CLIENT };

struct net_socket {
    struct net *net;
    struct net_socket *next;
    void *zmq;
    uv_poll_t poll;
    enum kind kind;
    uint32_t id; /* never reused; a server's ZAP domain */
    bool closed, touched;
    char name[24];
    char endpoint[LIMIT_ADDRESS + 16];
    struct net_options options;
    uint8_t server_key[KEY_BYTES]; /* client */
    uint64_t connected_ns;         /* client: when it was last told to */
    struct net_peers *peers;       /* server */
    struct net_counters counters;
    /* The message that is being read; frames too many are only counted. */
    zmq_msg_t frame[ZAP_FRAMES];
    size_t n_frames;
};

struct net {
    uv_loop_t *loop;
    uv_prepare_t prepare;
    uv_idle_t idle;
    void *context;
    struct net_key self;
    struct net_socket *zap, *sockets; /* zap is one of sockets */
    uint32_t n_ids;
    unsigned n_handles; /* not yet closed; the last one frees */
    bool closed;
};

static enum status zmq_failed(struct error *err, const char *name,
                              const char *what)
{
    return error_set(err, ST_IO, "%s: %s: %s", name, what,
                     zmq_strerror(zmq_errno()));
}

/* ------------------------------------------------------------- life */

static void net_unref(struct net *n)
{
    if (--n->n_handles > 0) return;
    sodium_memzero(&n->self, sizeof n->self);
    mem_free(n);
}

static void on_net_closed(uv_handle_t *handle)
{
    net_unref(handle->data);
}

static void socket_free(struct net_socket *s)
{
    const size_t n =
        s->n_frames < COUNT_OF(s->frame) ? s->n_frames : COUNT_OF(s->frame);
    for (size_t i = 0; i < n; i++) zmq_msg_close(&s->frame[i]);
    mem_free(s->peers);
    mem_free(s);
}

/* Only now may the list change: no walk over it is under way. */
static void on_socket_closed(uv_handle_t *handle)
{
    struct net_socket *s = handle->data;
    struct net *n = s->net;
    struct net_socket **at = &n->sockets;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    socket_free(s);
    net_unref(n);
}

static void close_socket(struct net_socket *s, int linger_ms)
{
    if (s->closed) return;
    s->closed = true;
    /* Before ZeroMQ's reaper closes the descriptor. */
    uv_close((uv_handle_t *)&s->poll, on_socket_closed);
    zmq_setsockopt(s->zmq, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    zmq_close(s->zmq);
}

void net_close(struct net_socket *s)
{
    if (s) close_socket(s, 0);
}

static void term(void *context)
{
    while (zmq_ctx_term(context) != 0 && zmq_errno() == EINTR) continue;
}

void net_free(struct net *n, int linger_ms)
{
    if (!n || n->closed) return;
    n->closed = true;
    for (struct net_socket *s = n->sockets; s; s = s->next) {
        close_socket(s, linger_ms);
    }
    uv_close((uv_handle_t *)&n->prepare, on_net_closed);
    uv_close((uv_handle_t *)&n->idle, on_net_closed);
    term(n->context);
}

/* ---------------------------------------------------------- reading */

static void on_idle(uv_idle_t *handle)
{
    (void)handle; /* that it is there keeps the loop awake */
}

static void touch(struct net_socket *s)
{
    if (s->closed) return;
    s->touched = true;
    uv_idle_start(&s->net->idle, on_idle);
}

static struct net_frame frame_of(struct net_socket *s, size_t i)
{
    if (i >= s->n_frames) return (struct net_frame){0};
    return (struct net_frame){zmq_msg_data(&s->frame[i]),
                              zmq_msg_size(&s->frame[i])};
}

static const char *property(const struct net_socket *s, const char *name)
{
    const char *value = zmq_msg_gets(&s->frame[1], name);
    return value ? value : "";
}

/* A whole message of a server or client socket: frame 0 is the route. */
static void deliver(struct net_socket *s)
{
    uint8_t key[KEY_BYTES];
    if (s->kind == KIND_CLIENT) {
        memcpy(key, s->server_key, KEY_BYTES);
    } else {
        const struct net_frame route = frame_of(s, 0);
        if (!net_key_parse(key, property(s, "User-Id")) ||
            !net_peers_heard(s->peers, key, route.data, route.bytes)) {
            return;
        }
    }
    const size_t max = s->options.message_max;
    const struct net_frame header = frame_of(s, 1), tensor = frame_of(s, 2);
    if (s->n_frames > DATA_FRAMES || header.bytes == 0 || header.bytes > max ||
        tensor.bytes > max) {
        net_drop(s, key); /* malformed */
        return;
    }
    s->counters.received_messages++;
    s->counters.received_bytes += header.bytes + tensor.bytes;
    s->options.receive(s->options.arg, s, key, property(s, "Peer-Address"),
                       header, tensor);
}

static bool frame_is(struct net_socket *s, size_t i, const char *text)
{
    const struct net_frame f = frame_of(s, i);
    return f.bytes == strlen(text) && memcmp(f.data, text, f.bytes) == 0;
}

/* The server socket that a ZAP request is about. */
static struct net_socket *zap_subject(struct net_socket *zap)
{
    char domain[16];
    for (struct net_socket *s = zap->net->sockets; s; s = s->next) {
        if (s->kind != KIND_SERVER || s->closed) continue;
        (void)snprintf(domain, sizeof domain, "%" PRIu32, s->id);
        if (frame_is(zap, 4, domain)) return s;
    }
    return NULL;
}

/* ZMTP's metadata: name and value with their lengths, big-endian. */
static size_t write_identity(uint8_t out[16 + NET_ROUTE_BYTES],
                             const uint8_t route[NET_ROUTE_BYTES])
{
    static const char head[] = "\x08Identity\0\0\0";
    const size_t n = sizeof head - 1;
    memcpy(out, head, n);
    out[n] = NET_ROUTE_BYTES;
    memcpy(out + n + 1, route, NET_ROUTE_BYTES);
    return n + 1 + NET_ROUTE_BYTES;
}

/* A ZAP request: route, delimiter, version, request id, domain, address,
 * routing id (ours, not the peer's), mechanism, key.  The answer to a key
 * that may not connect is 300, "not now": the client tries again, so that it
 * connects by itself once admitted; after 400 libzmq's would give up. */
static void zap_answer(struct net_socket *zap)
{
    const struct net_frame key = frame_of(zap, 8);
    struct net_socket *s = zap_subject(zap);
    const bool admitted =
        s && zap->n_frames == ZAP_FRAMES && frame_is(zap, 2, "1.0") &&
        frame_is(zap, 7, "CURVE") && key.bytes == KEY_BYTES &&
        s->options.admit(s->options.arg, s, key.data) && !s->closed;
    if (zap->closed) return;
    char user[2 * KEY_BYTES + 1] = "";
    uint8_t metadata[16 + NET_ROUTE_BYTES];
    size_t n_metadata = 0;
    if (admitted) {
        uint8_t route[NET_ROUTE_BYTES];
        net_peers_issue(s->peers, key.data, route);
        net_key_text(user, key.data);
        n_metadata = write_identity(metadata, route);
    }
    const struct net_frame answer[] = {
        frame_of(zap, 0),
        {"", 0},
        {"1.0", 3},
        frame_of(zap, 3),
        {admitted ? "200" : "300", 3},
        {"", 0},
        {user, strlen(user)},
        {metadata, n_metadata},
    };
    for (size_t i = 0; i < COUNT_OF(answer); i++) {
        const int more = i + 1 < COUNT_OF(answer) ? ZMQ_SNDMORE : 0;
        /* A handshake that has ended meanwhile is no loss. */
        while (zmq_send(zap->zmq, answer[i].data, answer[i].bytes,
                        ZMQ_DONTWAIT | more) < 0 &&
               zmq_errno() == EINTR) {
            continue;
        }
    }
    touch(zap);
}

/* Takes one frame; false if there is none.  *whole: it ended a message. */
static bool take_frame(struct net_socket *s, size_t *bytes, bool *whole)
{
    zmq_msg_t m;
    zmq_msg_init(&m);
    while (zmq_msg_recv(&m, s->zmq, ZMQ_DONTWAIT) < 0) {
        if (zmq_errno() == EINTR) continue;
        zmq_msg_close(&m);
        return false;
    }
    *bytes = zmq_msg_size(&m);
    *whole = !zmq_msg_more(&m);
    const size_t keep = s->kind == KIND_ZAP ? ZAP_FRAMES : DATA_FRAMES;
    if (s->n_frames < keep) {
        zmq_msg_init(&s->frame[s->n_frames]);
        zmq_msg_move(&s->frame[s->n_frames], &m);
    }
    zmq_msg_close(&m);
    s->n_frames++;
    return true;
}

static void forget_message(struct net_socket *s)
{
    const size_t keep = s->kind == KIND_ZAP ? ZAP_FRAMES : DATA_FRAMES;
    for (size_t i = 0; i < s->n_frames && i < keep; i++) {
        zmq_msg_close(&s->frame[i]);
    }
    s->n_frames = 0;
}

/* Reads until the socket is empty, which also empties what ZMQ_FD signals,
 * or the burst is over.  The callbacks may close this socket or the net: both
 * stay in memory until the loop's next closing phase. */
static void pump(struct net_socket *s)
{
    size_t messages = 0, frames = 0, bytes = 0;
    while (!s->closed) {
        if (messages == BURST_MESSAGES || frames == BURST_FRAMES ||
            bytes >= BURST_BYTES) {
            touch(s); /* the rest of the burst */
            return;
        }
        size_t n;
        bool whole;
        if (!take_frame(s, &n, &whole)) return;
        frames++;
        bytes += n;
        if (!whole) continue;
        messages++;
        if (s->kind == KIND_ZAP) {
            zap_answer(s);
        } else {
            deliver(s);
        }
        forget_message(s);
    }
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    touch(handle->data);
}

/* Last before the loop sleeps: one burst of each socket that wants one. */
static void on_prepare(uv_prepare_t *handle)
{
    struct net *n = handle->data;
    bool again = false;
    for (struct net_socket *s = n->sockets; s; s = s->next) {
        if (!s->touched || s->closed) continue;
        s->touched = false;
        pump(s);
    }
    for (struct net_socket *s = n->sockets; s; s = s->next) {
        again = again || (s->touched && !s->closed);
    }
    if (!again && !n->closed) uv_idle_stop(&n->idle);
}

/* --------------------------------------------------------- creating */

/* A socket with its watcher, in the net's list. */
static enum status socket_new(struct net_socket **out, struct net *n,
                              enum kind kind, const char *name,
                              struct error *err)
{
    enum status st;
    struct net_socket *s = mem_zalloc(sizeof *s);
    if (!s) return error_set(err, ST_NO_MEMORY, "%s: no memory", name);
    s->net = n;
    s->kind = kind;
    s->id = ++n->n_ids;
    (void)snprintf(s->name, sizeof s->name, "%s", name);
    if (kind == KIND_SERVER) {
        s->peers = mem_zalloc(sizeof *s->peers);
        if (!s->peers) {
            st = error_set(err, ST_NO_MEMORY, "%s: no memory", name);
            goto fail;
        }
    }
    s->zmq = zmq_socket(n->context, ZMQ_ROUTER);
    if (!s->zmq) {
        st = zmq_failed(err, name, "no socket");
        goto fail;
    }
    int fd;
    size_t fd_bytes = sizeof fd;
    int rc = zmq_getsockopt(s->zmq, ZMQ_FD, &fd, &fd_bytes);
    if (rc == 0) rc = uv_poll_init(n->loop, &s->poll, fd);
    if (rc != 0) {
        st = error_set(err, ST_IO, "%s: cannot watch the socket: %s", name,
                       rc == -1 ? zmq_strerror(zmq_errno()) : uv_strerror(rc));
        goto fail;
    }
    s->poll.data = s;
    s->next = n->sockets;
    n->sockets = s;
    n->n_handles++;
    /* With a valid handle and callback there is nothing to fail. */
    (void)uv_poll_start(&s->poll, UV_READABLE, on_poll);
    *out = s;
    return ST_OK;
fail:
    if (s->zmq) zmq_close(s->zmq);
    socket_free(s);
    return st;
}

enum status net_create(struct net **out, struct uv_loop_s *loop,
                       const struct net_key *self, struct error *err)
{
    if (sodium_init() < 0 || !zmq_has("curve")) {
        return error_set(err, ST_UNSUPPORTED,
                         "this libzmq has no CURVE: install one that has, as "
                         "Debian's and Ubuntu's libzmq5");
    }
    struct net *n = mem_zalloc(sizeof *n);
    if (!n) return error_set(err, ST_NO_MEMORY, "net: no memory");
    n->loop = loop;
    n->self = *self;
    n->context = zmq_ctx_new();
    if (!n->context) {
        mem_free(n);
        return error_set(err, ST_NO_MEMORY, "net: no ZeroMQ context");
    }
    zmq_ctx_set(n->context, ZMQ_IO_THREADS, 1);
    n->n_handles = 2;
    uv_prepare_init(loop, &n->prepare);
    uv_idle_init(loop, &n->idle);
    n->prepare.data = n->idle.data = n;
    uv_prepare_start(&n->prepare, on_prepare);
    /* The sockets keep the loop alive, not this. */
    uv_unref((uv_handle_t *)&n->prepare);

    enum status st = socket_new(&n->zap, n, KIND_ZAP, "zap", err);
    if (st == ST_OK && zmq_bind(n->zap->zmq, ZAP_ENDPOINT) != 0) {
        st = zmq_failed(err, "zap", "cannot bind");
    }
    if (st != ST_OK) {
        net_free(n, 0);
        return st;
    }
    /* Nor does it: it only matters while another socket is open. */
    uv_unref((uv_handle_t *)&n->zap->poll);
    *out = n;
    return ST_OK;
}

static bool set_int(void *zmq, int option, int value)
{
    return zmq_setsockopt(zmq, option, &value, sizeof value) == 0;
}

/* What both kinds have in common. */
static bool set_options(struct net_socket *s)
{
    const struct net_options *o = &s->options;
    const size_t largest =
        o->message_max > HANDSHAKE_MAX ? o->message_max : HANDSHAKE_MAX;
    const int64_t max = (int64_t)(largest + CURVE_BYTES);
    void *z = s->zmq;
    return zmq_setsockopt(z, ZMQ_MAXMSGSIZE, &max, sizeof max) == 0 &&
           zmq_setsockopt(z, ZMQ_CURVE_SECRETKEY, s->net->self.secret,
                          KEY_BYTES) == 0 &&
           set_int(z, ZMQ_LINGER, 0) && set_int(z, ZMQ_IPV6, 0) &&
           set_int(z, ZMQ_SNDHWM, o->queue_max) &&
           set_int(z, ZMQ_RCVHWM, o->queue_max) &&
           set_int(z, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) &&
           set_int(z, ZMQ_HEARTBEAT_IVL, 0) && /* the control plane beats */
           set_int(z, ZMQ_ROUTER_MANDATORY, 1) &&
           set_int(z, ZMQ_ROUTER_HANDOVER, 1) &&
           set_int(z, ZMQ_TCP_KEEPALIVE, 1) &&
           set_int(z, ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S) &&
           set_int(z, ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_IDLE_S / 2) &&
           set_int(z, ZMQ_TCP_KEEPALIVE_CNT, 3) &&
           set_int(z, ZMQ_TCP_MAXRT, UNANSWERED_MS);
}

/* No connection without an answer of ours.  libzmq's header shows this option
 * only with its draft interface, the library takes it in any build; where it
 * does not, a message still lacks "User-Id", and deliver() drops it. */
#define ZAP_ENFORCE_DOMAIN 93

static bool set_server_options(struct net_socket *s)
{
    char domain[16];
    (void)snprintf(domain, sizeof domain, "%" PRIu32, s->id);
    (void)set_int(s->zmq, ZAP_ENFORCE_DOMAIN, 1);
    return set_int(s->zmq, ZMQ_CURVE_SERVER, 1) &&
           set_int(s->zmq, ZMQ_BACKLOG, BACKLOG) &&
           zmq_setsockopt(s->zmq, ZMQ_ZAP_DOMAIN, domain, strlen(domain)) == 0;
}

static bool set_client_options(struct net_socket *s)
{
    uint8_t id[16]; /* a first byte of 0 is ZeroMQ's own */
    randombytes_buf(id, sizeof id);
    id[0] |= 1;
    return zmq_setsockopt(s->zmq, ZMQ_ROUTING_ID, id, sizeof id) == 0 &&
           zmq_setsockopt(s->zmq, ZMQ_CURVE_PUBLICKEY, s->net->self.pub,
                          KEY_BYTES) == 0 &&
           zmq_setsockopt(s->zmq, ZMQ_CURVE_SERVERKEY, s->server_key,
                          KEY_BYTES) == 0 &&
           set_int(s->zmq, ZMQ_IMMEDIATE, 0) && /* queues before it is up */
           set_int(s->zmq, ZMQ_CONNECT_TIMEOUT, CONNECT_MS) &&
           set_int(s->zmq, ZMQ_RECONNECT_IVL, RECONNECT_MS) &&
           set_int(s->zmq, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS);
}

/* Names and IPv4 addresses; ZeroMQ's own syntax (";", "*", "@") stays out. */
static enum status check_address(const char *name, const char *host,
                                 uint32_t port, struct error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    const size_t n = strlen(host);
    if (n == 0 || n > LIMIT_ADDRESS || strspn(host, allowed) != n) {
        return error_set(err, ST_INVALID, "%s: \"%.*s\" is no host", name,
                         LIMIT_ADDRESS, host);
    }
    if (port > UINT16_MAX) {
        return error_set(err, ST_INVALID, "%s: %" PRIu32 " is no port", name,
                         port);
    }
    return ST_OK;
}

static enum status bind_failed(const char *name, const char *host,
                               uint32_t port, struct error *err)
{
    const int e = zmq_errno();
    if (e == EADDRINUSE) {
        return error_set(err, ST_IO,
                         "%s: port %" PRIu32 " is in use on %s: stop the "
                         "program that has it, or choose another port (0: any)",
                         name, port, host);
    }
    if (e == EADDRNOTAVAIL || e == ENODEV || e == EINVAL) {
        return error_set(err, ST_IO,
                         "%s: cannot listen on %s:%" PRIu32 ": not an address "
                         "of this machine; 0.0.0.0 means all of them",
                         name, host, port);
    }
    if (e == EACCES) {
        return error_set(err, ST_IO,
                         "%s: cannot listen on %s:%" PRIu32 ": not allowed; "
                         "choose a port from 1024 on",
                         name, host, port);
    }
    return error_set(err, ST_IO, "%s: cannot listen on %s:%" PRIu32 ": %s",
                     name, host, port, zmq_strerror(e));
}

/* The port a bound socket really has; 0 if that cannot be found out. */
static uint32_t bound_port(void *zmq)
{
    char text[128];
    size_t n = sizeof text;
    if (zmq_getsockopt(zmq, ZMQ_LAST_ENDPOINT, text, &n) != 0) return 0;
    const char *colon = strrchr(text, ':');
    return colon ? (uint32_t)strtoul(colon + 1, NULL, 10) : 0;
}

enum status net_listen(struct net_socket **out, struct net *n, const char *host,
                       uint32_t *port, const struct net_options *o,
                       struct error *err)
{
    assert(o->receive && o->admit);
    enum status st = check_address(o->name, host, *port, err);
    if (st != ST_OK) return st;
    struct net_socket *s;
    st = socket_new(&s, n, KIND_SERVER, o->name, err);
    if (st != ST_OK) return st;
    s->options = *o;
    s->options.name = s->name;
    char number[16] = "*";
    if (*port != 0) (void)snprintf(number, sizeof number, "%" PRIu32, *port);
    (void)snprintf(s->endpoint, sizeof s->endpoint, "tcp://%s:%s", host,
                   number);
    uint32_t bound = 0;
    if (!set_options(s) || !set_server_options(s)) {
        st = zmq_failed(err, o->name, "cannot set up the socket");
    } else if (zmq_bind(s->zmq, s->endpoint) != 0) {
        st = bind_failed(o->name, host, *port, err);
    } else if ((bound = bound_port(s->zmq)) == 0) {
        st = zmq_failed(err, o->name, "cannot find out the port");
    }
    if (st != ST_OK) {
        net_close(s);
        return st;
    }
    *port = bound;
    *out = s;
    return ST_OK;
}

static bool connect_socket(struct net_socket *s)
{
    s->connected_ns = clock_now_ns();
    return zmq_setsockopt(s->zmq, ZMQ_CONNECT_ROUTING_ID, SERVER_ROUTE,
                          strlen(SERVER_ROUTE)) == 0 &&
           zmq_connect(s->zmq, s->endpoint) == 0;
}

enum status net_connect(struct net_socket **out, struct net *n,
                        const char *host, uint32_t port,
                        const uint8_t server_key[KEY_BYTES],
                        const struct net_options *o, struct error *err)
{
    assert(o->receive);
    enum status st = check_address(o->name, host, port, err);
    if (st == ST_OK && port == 0) {
        st = error_set(err, ST_INVALID, "%s: 0 is no port to connect to",
                       o->name);
    }
    if (st != ST_OK) return st;
    struct net_socket *s;
    st = socket_new(&s, n, KIND_CLIENT, o->name, err);
    if (st != ST_OK) return st;
    s->options = *o;
    s->options.name = s->name;
    memcpy(s->server_key, server_key, KEY_BYTES);
    (void)snprintf(s->endpoint, sizeof s->endpoint, "tcp://%s:%" PRIu32, host,
                   port);
    if (!set_options(s) || !set_client_options(s)) {
        st = zmq_failed(err, o->name, "cannot set up the socket");
    } else if (!connect_socket(s)) {
        st = error_set(err, ST_IO, "%s: cannot connect to %s:%" PRIu32 ": %s",
                       o->name, host, port, zmq_strerror(zmq_errno()));
    }
    if (st != ST_OK) {
        net_close(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

/* ---------------------------------------------------------- sending */

/* The route first: it alone can be refused.  Once it is taken, the pipe takes
 * the rest of the message whatever the mark says. */
static enum status send_route(struct net_socket *s, const void *route, size_t n)
{
    while (zmq_send(s->zmq, route, n, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0) {
        const int e = zmq_errno();
        if (e == EINTR) continue;
        if (e == EAGAIN) return ST_FULL;
        return e == EHOSTUNREACH ? ST_NOT_FOUND : ST_IO;
    }
    return ST_OK;
}

static void send_frame(struct net_socket *s, zmq_msg_t *m, struct net_frame f,
                       int more)
{
    if (f.bytes > 0) memcpy(zmq_msg_data(m), f.data, f.bytes);
    while (zmq_msg_send(m, s->zmq, ZMQ_DONTWAIT | more) < 0 &&
           zmq_errno() == EINTR) {
        continue;
    }
    zmq_msg_close(m); /* empty if it was taken */
}

static enum status send_message(struct net_socket *s, const void *route,
                                size_t route_bytes, struct net_frame header,
                                struct net_frame tensor)
{
    const size_t max = s->options.message_max;
    if (header.bytes == 0) return ST_INVALID;
    if (header.bytes > max || tensor.bytes > max) return ST_TOO_LARGE;
    /* Memory before the route, so that no message ends in the middle; the
     * copies after it, so that a full queue costs little. */
    zmq_msg_t h, t;
    if (zmq_msg_init_size(&h, header.bytes) != 0) return ST_NO_MEMORY;
    if (zmq_msg_init_size(&t, tensor.bytes) != 0) {
        zmq_msg_close(&h);
        return ST_NO_MEMORY;
    }
    touch(s); /* sending takes in what ZMQ_FD would have told */
    const enum status st = send_route(s, route, route_bytes);
    if (st != ST_OK) {
        zmq_msg_close(&h);
        zmq_msg_close(&t);
        return st;
    }
    send_frame(s, &h, header, tensor.bytes > 0 ? ZMQ_SNDMORE : 0);
    if (tensor.bytes > 0) {
        send_frame(s, &t, tensor, 0);
    } else {
        zmq_msg_close(&t);
    }
    s->counters.sent_messages++;
    s->counters.sent_bytes += header.bytes + tensor.bytes;
    return ST_OK;
}

enum status net_send_to(struct net_socket *s, const uint8_t key[KEY_BYTES],
                        struct net_frame header, struct net_frame tensor)
{
    assert(s->kind == KIND_SERVER && !s->closed);
    const struct net_peer *p = net_peers_route(s->peers, key);
    if (!p) return ST_NOT_FOUND;
    const enum status st =
        send_message(s, p->route, p->route_bytes, header, tensor);
    if (st == ST_NOT_FOUND) net_peers_gone(s->peers, key);
    return st;
}

enum status net_send(struct net_socket *s, struct net_frame header,
                     struct net_frame tensor)
{
    assert(s->kind == KIND_CLIENT && !s->closed);
    const size_t n = strlen(SERVER_ROUTE);
    const enum status st = send_message(s, SERVER_ROUTE, n, header, tensor);
    if (st != ST_NOT_FOUND) return st;
    /* libzmq gave the connection up. */
    const uint64_t wait_ns = RECONNECT_MAX_MS * UINT64_C(1000000);
    if (clock_now_ns() - s->connected_ns < wait_ns || !connect_socket(s)) {
        return ST_FULL;
    }
    return send_message(s, SERVER_ROUTE, n, header, tensor);
}

void net_drop(struct net_socket *s, const uint8_t key[KEY_BYTES])
{
    if (s->kind == KIND_SERVER) net_peers_drop(s->peers, key);
}

struct net_counters net_counters(const struct net_socket *s)
{
    return s->counters;
}

/* net.h - encrypted message sockets on a libuv loop.
 *
 * Depends on: common, limits; libzmq, libuv.  Thread: loop, all of it.
 *
 * The only file that knows ZeroMQ.  Every socket speaks CURVE.  A server
 * socket binds and knows its peers by their public keys (ZAP); a client
 * socket connects to one server whose key it pins.  Messages are one header
 * frame and at most one tensor frame. Sending never blocks: it queues up to
 * the high-water mark, beyond which it says ST_FULL. */
#ifndef PROTO_NET_H
#define PROTO_NET_H

#include "common/mem.h"
#include "proto/limits.h"

struct uv_loop_s;
struct net; /* one per loop: the ZeroMQ context and the authenticator */
struct net_socket;

struct net_key { /* a CURVE pair */
    uint8_t pub[KEY_BYTES], secret[KEY_BYTES];
};
NODISCARD enum status net_key_make(struct net_key *out, struct error *err);
/* From a file of mode 0600, made if it is not there (its folder must be).
 * ST_INVALID if others may read it or it is damaged. */
NODISCARD enum status net_key_load(struct net_key *out, const char *path,
                                   struct error *err);

NODISCARD enum status net_create(struct net **out, struct uv_loop_s *loop,
                                 const struct net_key *self, struct error *err);
/* Closes every socket, for which it blocks up to linger_ms while what is
 * queued leaves.  As with net_close, any callback may call it, and memory is
 * freed when the loop runs next. NULL is ok. */
void net_free(struct net *n, int linger_ms);

struct net_frame {
    const void *data;
    size_t bytes;
};
/* key: the peer's public key (server sockets), or the server's.  Frames are
 * valid during the call.  host: where a TCP peer is, "" otherwise.  A message
 * of more than two frames, or with an empty header, does not get here: it is a
 * net_drop of its sender. */
typedef void net_receive_fn(void *arg, struct net_socket *s,
                            const uint8_t key[KEY_BYTES], const char *host,
                            struct net_frame header, struct net_frame tensor);
/* true: this key may connect.  Asked at each handshake on a server socket; a
 * key that was refused asks again about every 3 s by itself. */
typedef bool net_admit_fn(void *arg, struct net_socket *s,
                          const uint8_t key[KEY_BYTES]);

struct net_options {
    const char *name;   /* "control", "data", "bulk"; for errors */
    size_t message_max; /* bytes of a frame; larger: disconnected */
    int queue_max;      /* messages per peer and direction */
    net_receive_fn *receive;
    net_admit_fn *admit; /* server sockets, which need it */
    void *arg;
};

/* "0.0.0.0" and port 0: any free one; *port is what it became.  ST_IO names
 * the address and the reason ("port 7420 is in use"); ST_INVALID: host is
 * neither a name nor an IPv4 address, or port none. */
NODISCARD enum status net_listen(struct net_socket **out, struct net *n,
                                 const char *host, uint32_t *port,
                                 const struct net_options *o,
                                 struct error *err);
/* Connects in the background and again whenever the connection breaks (delay
 * 100 ms to 2 s).  What is sent before, or while it is broken, waits in the
 * queue. */
NODISCARD enum status net_connect(struct net_socket **out, struct net *n,
                                  const char *host, uint32_t port,
                                  const uint8_t server_key[KEY_BYTES],
                                  const struct net_options *o,
                                  struct error *err);
/* What is queued is dropped; no callback comes any more, and no call but
 * this may be made.  The port is free a moment later.  NULL is ok. */
void net_close(struct net_socket *s);

/* Server sockets: to the peer with this key, by the connection its last
 * message came from; a later connection of a key supersedes an earlier one
 * with its first message.  ST_NOT_FOUND: not connected, or not heard since;
 * ST_FULL: over its high-water mark; ST_TOO_LARGE: over our own message_max;
 * ST_INVALID: no header; ST_NO_MEMORY.  All or nothing is sent.  tensor may
 * be empty.  Both frames are copied. */
NODISCARD enum status net_send_to(struct net_socket *s,
                                  const uint8_t key[KEY_BYTES],
                                  struct net_frame header,
                                  struct net_frame tensor);
/* Client sockets; the same, without ST_NOT_FOUND. */
NODISCARD enum status net_send(struct net_socket *s, struct net_frame header,
                               struct net_frame tensor);
/* Server sockets: messages of this peer are dropped from now on, until its
 * next handshake is admitted. */
void net_drop(struct net_socket *s, const uint8_t key[KEY_BYTES]);

/* Payload (frames, before CURVE and TCP), for the bench and status. */
struct net_counters {
    uint64_t sent_bytes, sent_messages, received_bytes, received_messages;
};
struct net_counters net_counters(const struct net_socket *s);

/* 64 hexadecimal digits and back. */
void net_key_text(char text[2 * KEY_BYTES + 1], const uint8_t key[KEY_BYTES]);
NODISCARD bool net_key_parse(uint8_t key[KEY_BYTES], const char *text);

#endif

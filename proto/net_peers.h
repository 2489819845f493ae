/* net_peers.h - which connection of a server socket belongs to which key.
 *
 * Depends on: common, limits; libsodium.  Thread: its owner's.
 *
 * ZeroMQ finds a peer by a routing id, which a peer may choose and which
 * therefore proves nothing.  Here every admitted handshake is issued a route
 * of its own that nobody can guess, not even the peer it belongs to; the
 * routes of one key are numbered, so that a later connection supersedes an
 * earlier one and never the other way round.
 *
 * Invariants: a key has at most one entry; seen <= issued; dropped <= issued.
 */
#ifndef PROTO_NET_PEERS_H
#define PROTO_NET_PEERS_H

#include "common/mem.h"
#include "proto/limits.h"

#define NET_ROUTE_BYTES 25 /* what we issue */
#define NET_ROUTE_MAX   32 /* what we remember */
/* Every node twice over, and the keys that wait for enrolment. */
#define NET_PEERS_MAX (2 * LIMIT_NODES + LIMIT_PENDING)

struct net_peer {
    uint8_t key[KEY_BYTES];
    uint8_t route[NET_ROUTE_MAX]; /* of the connection last heard */
    size_t route_bytes;           /* 0: nowhere to send to */
    uint64_t issued, seen, dropped;
    uint64_t used; /* when last heard or admitted, for making room */
};

struct net_peers {
    uint64_t serial, clock; /* last route issued; ticks of `used` */
    size_t n;
    struct net_peer peer[NET_PEERS_MAX];
};

/* Another connection of this key has been admitted.  With every place taken,
 * the key that was silent longest since its handshake loses its own, or, if
 * all have spoken, the one not heard for longest. */
void net_peers_issue(struct net_peers *t, const uint8_t key[KEY_BYTES],
                     uint8_t route[NET_ROUTE_BYTES]);

/* A message came from this key by this route: true if it counts, and answers
 * then go back the same way.  False after a drop, from a connection that a
 * later one has superseded, or from a key that is not in the table. */
NODISCARD bool net_peers_heard(struct net_peers *t,
                               const uint8_t key[KEY_BYTES], const void *route,
                               size_t route_bytes);

/* The way to this key, or NULL; valid until the next call. */
const struct net_peer *net_peers_route(const struct net_peers *t,
                                       const uint8_t key[KEY_BYTES]);

/* Nothing that was issued to this key so far counts any more. */
void net_peers_drop(struct net_peers *t, const uint8_t key[KEY_BYTES]);
/* The connection last heard has gone; others of this key are unharmed. */
void net_peers_gone(struct net_peers *t, const uint8_t key[KEY_BYTES]);

#endif

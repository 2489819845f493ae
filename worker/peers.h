/* peers.h - the other workers of this epoch, and the connections to them.
 *
 * Depends on: proto/net, proto/wire.  Thread: loop. */
#ifndef WORKER_PEERS_H
#define WORKER_PEERS_H

#include "proto/net.h"
#include "proto/wire.h"

struct peer {
    struct wire_peer at;
    struct net_socket *socket; /* NULL until there is something to send */
};

struct peers { /* zero-initialise */
    uint32_t n;
    struct peer *list;
};

/* Those that an assignment names, in place of none. */
NODISCARD enum status peers_take(struct peers *p, const struct wire_assign *a,
                                 struct error *err);
/* Closes what goes to them, and drops what comes from them over `in`. */
void peers_drop(struct peers *p, struct net_socket *in);
struct peer *peers_by_node(const struct peers *p, uint32_t node);
const struct peer *peers_by_key(const struct peers *p,
                                const uint8_t key[KEY_BYTES]);

#endif

/* feeds.h - connections to the data sockets of workers that begin a step.
 *
 * Depends on: cluster, proto/net.  Thread: loop. */
#ifndef COORDINATOR_FEEDS_H
#define COORDINATOR_FEEDS_H

#include "coordinator/cluster.h"
#include "proto/net.h"

struct feeds {
    struct net *net;
    struct feed *first;
};

/* Sends a step there, by a connection that is opened if there is none yet. */
NODISCARD enum status feeds_send(struct feeds *f, const struct cluster_node *to,
                                 const struct wire_message *m,
                                 struct buf *scratch);
/* Closes what goes to this key; or to nodes that the cluster knows no more. */
void feeds_drop(struct feeds *f, const uint8_t key[KEY_BYTES]);
void feeds_sweep(struct feeds *f, const struct cluster *c);
void feeds_close(struct feeds *f);
/* Payload sent over those that are open. */
struct net_counters feeds_counters(const struct feeds *f);

#endif

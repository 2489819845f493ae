#include "proto/net_peers.h"

#include <string.h>

#include <sodium.h>

/* First byte of what we issue.  ZeroMQ's own routing ids start with 0. */
#define ROUTE_MARK 'p'

static struct net_peer *find(struct net_peers *t, const uint8_t *key)
{
    for (size_t i = 0; i < t->n; i++) {
        if (memcmp(t->peer[i].key, key, KEY_BYTES) == 0) return &t->peer[i];
    }
    return NULL;
}

/* Who is in the way least: a flood of fresh keys, each admitted and silent,
 * thus only displaces itself. */
static bool before(const struct net_peer *a, const struct net_peer *b)
{
    const bool a_spoke = a->seen != 0 || a->dropped != 0;
    const bool b_spoke = b->seen != 0 || b->dropped != 0;
    if (a_spoke != b_spoke) return !a_spoke;
    return a->used < b->used;
}

static struct net_peer *place(struct net_peers *t)
{
    if (t->n < NET_PEERS_MAX) return &t->peer[t->n++];
    struct net_peer *out = &t->peer[0];
    for (size_t i = 1; i < t->n; i++) {
        if (before(&t->peer[i], out)) out = &t->peer[i];
    }
    return out;
}

void net_peers_issue(struct net_peers *t, const uint8_t key[KEY_BYTES],
                     uint8_t route[NET_ROUTE_BYTES])
{
    struct net_peer *p = find(t, key);
    if (!p) {
        p = place(t);
        *p = (struct net_peer){0};
        memcpy(p->key, key, KEY_BYTES);
    }
    p->issued = ++t->serial;
    p->used = ++t->clock;
    route[0] = ROUTE_MARK;
    memcpy(route + 1, &p->issued, sizeof p->issued);
    randombytes_buf(route + 1 + sizeof p->issued,
                    NET_ROUTE_BYTES - 1 - sizeof p->issued);
}

/* The number of a route.  One that we did not issue (see net.c on when that
 * may happen) counts as this key's latest; a peer that makes one up can only
 * confuse its own entry. */
static uint64_t serial_of(const struct net_peer *p, const uint8_t *route,
                          size_t route_bytes)
{
    uint64_t n = 0;
    if (route_bytes == NET_ROUTE_BYTES && route[0] == ROUTE_MARK) {
        memcpy(&n, route + 1, sizeof n);
    }
    return n > 0 && n <= p->issued ? n : p->issued;
}

bool net_peers_heard(struct net_peers *t, const uint8_t key[KEY_BYTES],
                     const void *route, size_t route_bytes)
{
    struct net_peer *p = find(t, key);
    if (!p || route_bytes == 0 || route_bytes > NET_ROUTE_MAX) return false;
    const uint64_t n = serial_of(p, route, route_bytes);
    if (n <= p->dropped || n < p->seen) return false;
    p->seen = n;
    p->used = ++t->clock;
    memcpy(p->route, route, route_bytes);
    p->route_bytes = route_bytes;
    return true;
}

const struct net_peer *net_peers_route(const struct net_peers *t,
                                       const uint8_t key[KEY_BYTES])
{
    for (size_t i = 0; i < t->n; i++) {
        const struct net_peer *p = &t->peer[i];
        if (memcmp(p->key, key, KEY_BYTES) == 0) {
            return p->route_bytes > 0 ? p : NULL;
        }
    }
    return NULL;
}

void net_peers_drop(struct net_peers *t, const uint8_t key[KEY_BYTES])
{
    struct net_peer *p = find(t, key);
    if (!p) return;
    p->dropped = p->issued;
    p->route_bytes = 0;
}

void net_peers_gone(struct net_peers *t, const uint8_t key[KEY_BYTES])
{
    struct net_peer *p = find(t, key);
    if (p) p->route_bytes = 0;
}

#include "worker/peers.h"

#include <string.h>

enum status peers_take(struct peers *p, const struct wire_assign *a,
                       struct error *err)
{
    if (a->n_peers == 0) return ST_OK;
    struct peer *list = mem_zalloc_array(a->n_peers, sizeof *list);
    if (!list) return error_set(err, ST_NO_MEMORY, "table of peers");
    for (uint32_t i = 0; i < a->n_peers; i++) list[i].at = a->peers[i];
    *p = (struct peers){.n = a->n_peers, .list = list};
    return ST_OK;
}

void peers_drop(struct peers *p, struct net_socket *in)
{
    for (uint32_t i = 0; i < p->n; i++) {
        net_close(p->list[i].socket);
        net_drop(in, p->list[i].at.key);
    }
    mem_free(p->list);
    *p = (struct peers){0};
}

struct peer *peers_by_node(const struct peers *p, uint32_t node)
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->list[i].at.node == node) return &p->list[i];
    }
    return NULL;
}

const struct peer *peers_by_key(const struct peers *p,
                                const uint8_t key[KEY_BYTES])
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (memcmp(p->list[i].at.key, key, KEY_BYTES) == 0) return &p->list[i];
    }
    return NULL;
}

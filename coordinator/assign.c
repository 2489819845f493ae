#include "coordinator/assign.h"

#include <stdio.h>
#include <string.h>

const char *assign_host(const struct cluster_node *n)
{
    return strncmp(n->host, "127.", 4) == 0 ? "" : n->host;
}

static enum status copy_spec(struct wire_assign *a,
                             const struct shard_spec *spec)
{
    a->embed = spec->embed;
    a->vocab_first = spec->vocab_first;
    a->vocab_end = spec->vocab_end;
    a->blocks = mem_zalloc(a->n_layer);
    a->experts = mem_zalloc_array((size_t)4 * a->n_layer, sizeof *a->experts);
    a->expert_node = mem_zalloc_array((size_t)a->n_layer * MODEL_EXPERTS_MAX,
                                      sizeof *a->expert_node);
    if (!a->blocks || !a->experts || !a->expert_node) return ST_NO_MEMORY;
    for (uint32_t l = 0; l < a->n_layer; l++) {
        a->blocks[l] = spec->layers[l].block;
        memcpy(a->experts + 4 * (size_t)l, spec->layers[l].experts,
               sizeof spec->layers[l].experts);
    }
    return ST_OK;
}

static bool here(const struct shard_spec *spec, uint32_t layer, uint32_t expert)
{
    return spec->layers[layer].experts[expert / 64] >> (expert % 64) & 1;
}

/* Who serves the experts of our layers that are elsewhere. */
static void name_holders(struct wire_assign *a, const struct plan *p,
                         const struct shard_spec *spec)
{
    for (uint32_t l = 0; l < a->n_layer; l++) {
        if (!spec->layers[l].block) continue;
        const size_t at = (size_t)l * MODEL_EXPERTS_MAX;
        for (uint32_t e = 0; e < MODEL_EXPERTS_MAX; e++) {
            const uint16_t holder = p->expert_node[at + e];
            if (holder >= p->n_nodes || here(spec, l, e)) continue;
            a->expert_node[at + e] = (uint16_t)p->nodes[holder].id;
        }
    }
}

static enum status list_peers(struct wire_assign *a, const struct plan *p,
                              const struct cluster *c, uint32_t self,
                              struct error *err)
{
    a->peers = mem_zalloc_array(p->n_nodes, sizeof *a->peers);
    if (!a->peers) return error_set(err, ST_NO_MEMORY, "list of peers");
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const struct plan_share *s = &p->nodes[i];
        if (!s->used || s->id == self) continue;
        const struct cluster_node *n = cluster_by_id(c, s->id);
        if (!n) {
            return error_set(err, ST_NOT_FOUND, "%s has left", s->name);
        }
        struct wire_peer *peer = &a->peers[a->n_peers++];
        *peer = (struct wire_peer){.node = n->id, .port = n->hello.data_port};
        snprintf(peer->host, sizeof peer->host, "%s", assign_host(n));
        memcpy(peer->key, n->key, KEY_BYTES);
    }
    return ST_OK;
}

static const struct plan_share *share_of(const struct plan *p, uint32_t node)
{
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        if (p->nodes[i].id == node && p->nodes[i].used) return &p->nodes[i];
    }
    return NULL;
}

enum status assign_make(struct wire_message *out, const struct plan *p,
                        const struct cluster *c,
                        const struct assign_model *model, uint32_t node,
                        uint64_t epoch, struct error *err)
{
    const struct plan_share *share = share_of(p, node);
    if (!share) return error_set(err, ST_NOT_FOUND, "worker %u has left", node);
    struct wire_message m = {.kind = WIRE_ASSIGN};
    struct wire_assign *a = &m.assign;
    *a = (struct wire_assign){
        .epoch = epoch,
        .model_header = model->header,
        .model_header_bytes = model->header_bytes,
        .n_layer = p->n_layer,
        .n_ctx = p->n_ctx,
        .n_seq_max = p->n_seq_max,
        .n_pages = p->n_pages,
        .rows_max = p->rows_max,
        .outputs_max = p->outputs_max,
        .kv_type = (uint32_t)p->kv_type,
        .n_steps = share->n_steps,
    };
    memcpy(a->model_id, model->id, KEY_BYTES);
    enum status st = copy_spec(a, &share->spec);
    if (st != ST_OK) error_set(err, st, "assignment of %s", share->name);
    if (st == ST_OK) st = list_peers(a, p, c, node, err);
    if (st != ST_OK) {
        wire_message_fini(&m);
        return st;
    }
    name_holders(a, p, &share->spec);
    *out = m;
    return ST_OK;
}

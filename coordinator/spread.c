#include "coordinator/spread.h"

#include <jansson.h>

static int append(const char *text, size_t n, void *arg)
{
    return buf_append(arg, text, n) == ST_OK ? 0 : -1;
}

/* Expert e of a layer goes to node e modulo n; those of `home` stay unsaid. */
static json_t *deal_experts(const struct model *m,
                            const struct plan_node *nodes, uint32_t n,
                            uint32_t home)
{
    json_t *layer = json_object();
    for (uint32_t i = 0; i < n; i++) {
        if (i == home || i >= m->n_expert) continue;
        json_t *list = json_array();
        for (uint32_t e = i; e < m->n_expert; e += n) {
            json_array_append_new(list, json_integer(e));
        }
        json_object_set_new(layer, nodes[i].name, list);
    }
    return layer;
}

enum status spread_write(struct buf *out, const struct model *m,
                         const struct plan_node *nodes, uint32_t n)
{
    const uint32_t n_stages = n < m->n_layer ? n : m->n_layer;
    json_t *layers = json_array(), *experts = json_object();
    for (uint32_t i = 0; i < n_stages; i++) {
        const uint32_t first = (uint32_t)((uint64_t)m->n_layer * i / n_stages);
        const uint32_t end =
            (uint32_t)((uint64_t)m->n_layer * (i + 1) / n_stages);
        json_array_append_new(layers, json_pack("{s:s, s:i, s:i}", "node",
                                                nodes[i].name, "first",
                                                (int)first, "end", (int)end));
        if (m->n_expert == 0 || n == 1) continue;
        char key[16];
        snprintf(key, sizeof key, "%u", end - 1);
        json_object_set_new(experts, key, deal_experts(m, nodes, n, i));
    }
    json_t *root =
        json_pack("{s:o, s:o}", "layers", layers, "experts", experts);
    const bool ok =
        root && json_dump_callback(root, append, out, JSON_COMPACT) == 0;
    json_decref(root);
    return ok ? ST_OK : ST_NO_MEMORY;
}

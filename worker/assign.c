#include "worker/assign.h"

#include <string.h>

_Static_assert(sizeof((struct shard_layer_spec){0}.experts) ==
                   4 * sizeof(uint64_t),
               "as on the wire");

enum status assign_spec(struct shard_spec *out, const struct wire_assign *a,
                        const struct model *m, struct error *err)
{
    if (m->n_layer != a->n_layer) {
        return error_set(err, ST_INVALID,
                         "assignment for %u layers, model of %u", a->n_layer,
                         m->n_layer);
    }
    struct shard_layer_spec *layers =
        mem_zalloc_array(a->n_layer, sizeof *layers);
    if (!layers) return error_set(err, ST_NO_MEMORY, "shard map");
    for (uint32_t i = 0; i < a->n_layer; i++) {
        layers[i].block = a->blocks[i];
        memcpy(layers[i].experts, a->experts + 4 * (size_t)i,
               sizeof layers[i].experts);
    }
    *out = (struct shard_spec){.embed = a->embed,
                               .vocab_first = a->vocab_first,
                               .vocab_end = a->vocab_end,
                               .layers = layers};
    return ST_OK;
}

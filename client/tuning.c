/* tuning.c - which products go through OpenBLAS here, and why. */
#include <jansson.h>

#include "client/commands.h"
#include "engine/gguf.h"
#include "engine/kernels_tune.h"

json_t *json_tuning(enum quant_type type, const struct shard_options *o)
{
    const struct kernel_tuning t =
        kernels_tuning(kernel_select(type, o->isa), o->fast);
    json_t *out = json_pack("{s:b, s:s}", "used", t.why == TUNE_FASTER, "why",
                            tune_why_name(t.why));
    if (out && t.why == TUNE_FASTER) {
        json_object_set_new(out, "from_columns", json_integer(t.from));
    }
    if (out && t.n_cols) {
        json_object_set_new(out, "columns", json_integer(t.n_cols));
        json_object_set_new(out, "kernel_macs_per_s", json_real(t.ours));
        json_object_set_new(out, "openblas_macs_per_s", json_real(t.blas));
    }
    return out;
}

json_t *json_tunings(const struct gguf *g, const struct shard_options *o)
{
    bool there[QUANT_TYPE_END] = {false};
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor(g, i);
        if (t->ne[1] > 1 && quant_info(t->type)) there[t->type] = true;
    }
    json_t *all = json_object();
    for (uint32_t t = 0; all && t < QUANT_TYPE_END; t++) {
        if (!there[t]) continue;
        json_object_set_new(all, quant_name(t),
                            json_tuning((enum quant_type)t, o));
    }
    return all;
}

/* model_keys.h - the numbers of a model, from the metadata of its file.
 *
 * Depends on: gguf, model.  Thread: any.  For model.c. */
#ifndef ENGINE_MODEL_KEYS_H
#define ENGINE_MODEL_KEYS_H

#include "engine/model.h"

enum presence { ABSENT, OPTIONAL, NEEDED };

/* What an architecture says without a key for it. */
struct model_arch {
    const char *name;
    enum presence experts;
    enum presence qkv_bias, other_bias; /* other: o, gate, up, down */
    enum presence qk_norm, post_norm;
    bool rope_halves;
    bool gelu;
    bool embed_scale; /* sqrt(n_embd) */
    /* defaults of Gemma 2; soft-caps of 0 are refused keys elsewhere */
    float attn_softcap, final_softcap;
    uint32_t window;        /* where the file names none */
    uint32_t window_period; /* the last layer of each so many sees all */
    /* block_count of the size whose queries are scaled by n_embd / n_head
     * instead of head_dim; 0: none */
    uint32_t wide_query_layers;
};

/* m->gguf is set, the rest zero; all of m but tensors and n_vocab. ST_NOT_FOUND
 * and others name the key. */
NODISCARD enum status model_read_keys(struct model *m,
                                      const struct model_arch **arch,
                                      struct error *err);

/* Whether layer i looks back no further than the window. */
bool model_is_local(const struct model_arch *arch, uint32_t i);

#endif

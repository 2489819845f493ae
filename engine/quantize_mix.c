/* quantize_mix.c - which tensor gets which type.
 *
 * Depends on: quantize.  Thread: any; no state.
 *
 * The mixes are llama.cpp's (src/llama-quant.cpp, without an importance
 * matrix), so that a file of a name is what people know under it. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/quantize.h"

/* llama.cpp's llama_ftype. */
enum file_type {
    FILE_F32 = 0,
    FILE_F16 = 1,
    FILE_Q4_0 = 2,
    FILE_Q4_1 = 3,
    FILE_Q8_0 = 7,
    FILE_Q5_0 = 8,
    FILE_Q5_1 = 9,
    FILE_Q2_K = 10,
    FILE_Q3_K_S = 11,
    FILE_Q3_K_M = 12,
    FILE_Q3_K_L = 13,
    FILE_Q4_K_S = 14,
    FILE_Q4_K_M = 15,
    FILE_Q5_K_S = 16,
    FILE_Q5_K_M = 17,
    FILE_Q6_K = 18,
    FILE_IQ4_NL = 25,
    FILE_IQ4_XS = 30,
    FILE_BF16 = 32,
};

static const struct quantize_mix mixes[] = {
    {"F32", FILE_F32, QUANT_F32},
    {"F16", FILE_F16, QUANT_F16},
    {"BF16", FILE_BF16, QUANT_BF16},
    {"Q8_0", FILE_Q8_0, QUANT_Q8_0},
    {"Q6_K", FILE_Q6_K, QUANT_Q6_K},
    {"Q5_K_M", FILE_Q5_K_M, QUANT_Q5_K},
    {"Q5_K_S", FILE_Q5_K_S, QUANT_Q5_K},
    {"Q5_1", FILE_Q5_1, QUANT_Q5_1},
    {"Q5_0", FILE_Q5_0, QUANT_Q5_0},
    {"Q4_K_M", FILE_Q4_K_M, QUANT_Q4_K},
    {"Q4_K_S", FILE_Q4_K_S, QUANT_Q4_K},
    {"Q4_1", FILE_Q4_1, QUANT_Q4_1},
    {"Q4_0", FILE_Q4_0, QUANT_Q4_0},
    {"IQ4_NL", FILE_IQ4_NL, QUANT_IQ4_NL},
    {"IQ4_XS", FILE_IQ4_XS, QUANT_IQ4_XS},
    {"Q3_K_L", FILE_Q3_K_L, QUANT_Q3_K},
    {"Q3_K_M", FILE_Q3_K_M, QUANT_Q3_K},
    {"Q3_K_S", FILE_Q3_K_S, QUANT_Q3_K},
    {"Q2_K", FILE_Q2_K, QUANT_Q2_K},
};

const struct quantize_mix *quantize_mix(uint32_t i)
{
    return i < COUNT_OF(mixes) ? &mixes[i] : NULL;
}

const struct quantize_mix *quantize_mix_by_name(const char *name)
{
    static const char *const medium[][2] = {
        {"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};
    for (size_t i = 0; i < COUNT_OF(medium); i++) {
        if (strcasecmp(name, medium[i][0]) == 0) name = medium[i][1];
    }
    for (size_t i = 0; i < COUNT_OF(mixes); i++) {
        if (strcasecmp(name, mixes[i].name) == 0) return &mixes[i];
    }
    return NULL;
}

/* What the choice depends on besides the tensor. */
struct traits {
    uint32_t file_type;
    enum quant_type type; /* of most matrices */
    bool tied;            /* the embedding is the head too */
    bool is_70b;          /* by its depth: 80 layers of llama or qwen2 */
    uint32_t n_layer, n_gqa, n_expert;
};

static uint32_t number_of(const struct gguf *g, const char *key, uint32_t none)
{
    struct gguf_str arch = {NULL, 0};
    char name[128];
    uint32_t v;
    if (gguf_get_str(g, "general.architecture", &arch, NULL) != ST_OK ||
        arch.len + strlen(key) + 2 > sizeof name) {
        return none;
    }
    memcpy(name, arch.data, arch.len);
    name[arch.len] = '.';
    memcpy(name + arch.len + 1, key, strlen(key) + 1);
    return gguf_get_u32(g, name, &v, NULL) == ST_OK ? v : none;
}

static bool is(struct gguf_str s, const char *name)
{
    return s.len == strlen(name) && memcmp(s.data, name, s.len) == 0;
}

static struct traits traits_of(const struct gguf *g,
                               const struct quantize_mix *mix)
{
    struct gguf_str arch = {"", 0};
    const enum status st = gguf_get_str(g, "general.architecture", &arch, NULL);
    const uint32_t n_head = number_of(g, "attention.head_count", 1);
    const uint32_t n_kv = number_of(g, "attention.head_count_kv", n_head);
    const uint32_t n_layer = number_of(g, "block_count", 0);
    return (struct traits){
        .file_type = mix->file_type,
        .type = mix->type,
        .tied = !gguf_find_tensor(g, "output.weight"),
        .is_70b = st == ST_OK && n_layer == 80 &&
                  (is(arch, "llama") || is(arch, "qwen2")),
        .n_layer = n_layer,
        .n_gqa = n_kv ? n_head / n_kv : 1,
        .n_expert = number_of(g, "expert_count", 0),
    };
}

/* N of "blk.N."; 0 elsewhere. */
static uint32_t layer_of(const char *name)
{
    if (strncmp(name, "blk.", 4) != 0) return 0;
    return (uint32_t)strtoul(name + 4, NULL, 10);
}

/* The layers that the _M mixes spend more on: the first and last eighth, and
 * every third between. */
static bool more_bits(uint32_t layer, uint32_t n)
{
    return layer < n / 8 || layer >= 7 * n / 8 ||
           (layer >= n / 8 && (layer - n / 8) % 3 == 2);
}

static enum quant_type attn_v_type(const struct traits *t, uint32_t layer)
{
    enum quant_type type = t->type;
    switch (t->file_type) {
    case FILE_Q2_K:
        type = t->n_gqa >= 4 ? QUANT_Q4_K : QUANT_Q3_K;
        break;
    case FILE_Q3_K_M:
        type = layer < 2 ? QUANT_Q5_K : QUANT_Q4_K;
        break;
    case FILE_Q3_K_L:
        type = QUANT_Q5_K;
        break;
    case FILE_IQ4_NL:
    case FILE_IQ4_XS:
        if (t->n_gqa >= 4) type = QUANT_Q5_K;
        break;
    case FILE_Q4_K_M:
    case FILE_Q5_K_M:
        if (more_bits(layer, t->n_layer)) type = QUANT_Q6_K;
        break;
    case FILE_Q4_K_S:
        if (layer < 4) type = QUANT_Q5_K;
        break;
    default:
        break;
    }
    if (t->is_70b && (type == QUANT_Q3_K || type == QUANT_Q4_K)) {
        type = QUANT_Q5_K;
    }
    return t->n_expert == 8 ? QUANT_Q8_0 : type;
}

static enum quant_type ffn_down_type(const struct traits *t, uint32_t layer)
{
    const bool first_eighth = layer < t->n_layer / 8;
    switch (t->file_type) {
    case FILE_Q2_K:
        return QUANT_Q3_K;
    case FILE_Q3_K_M:
        return layer < t->n_layer / 16 ? QUANT_Q5_K : QUANT_Q4_K;
    case FILE_Q3_K_L:
        return QUANT_Q5_K;
    case FILE_Q4_K_M:
    case FILE_Q5_K_M:
        return more_bits(layer, t->n_layer) ? QUANT_Q6_K : t->type;
    case FILE_Q4_K_S:
    case FILE_IQ4_NL:
    case FILE_IQ4_XS:
        return first_eighth ? QUANT_Q5_K : t->type;
    default:
        return t->type;
    }
}

static enum quant_type attn_output_type(const struct traits *t)
{
    switch (t->file_type) {
    case FILE_Q2_K:
        return t->n_expert == 8 ? QUANT_Q5_K : QUANT_Q3_K;
    case FILE_Q3_K_M:
        return t->n_expert == 8 ? QUANT_Q5_K : QUANT_Q4_K;
    case FILE_Q3_K_L:
        return t->n_expert == 8 ? t->type : QUANT_Q5_K;
    case FILE_Q3_K_S:
    case FILE_Q4_K_S:
    case FILE_Q4_K_M:
    case FILE_IQ4_NL:
    case FILE_IQ4_XS:
        return t->n_expert == 8 ? QUANT_Q5_K : t->type;
    default:
        return t->type;
    }
}

static enum quant_type mixed_type(const struct traits *t,
                                  const struct gguf_tensor *x)
{
    const uint32_t layer = layer_of(x->name);
    if (strcmp(x->name, "output.weight") == 0 ||
        (t->tied && strcmp(x->name, "token_embd.weight") == 0)) {
        if (x->ne[0] % quant_info(t->type)->block != 0) return QUANT_Q8_0;
        return t->type == QUANT_Q8_0 ? QUANT_Q8_0 : QUANT_Q6_K;
    }
    if (strstr(x->name, "attn_v.weight")) return attn_v_type(t, layer);
    if (strstr(x->name, "attn_k.weight")) {
        return t->n_expert == 8 ? QUANT_Q8_0 : t->type;
    }
    if (strstr(x->name, "attn_output.weight")) return attn_output_type(t);
    if (strstr(x->name, "ffn_down")) return ffn_down_type(t, layer);
    return t->type;
}

/* A type whose blocks divide rows of k. */
static enum quant_type fallback(enum quant_type type, uint64_t k)
{
    if (k % quant_info(type)->block == 0) return type;
    if (type == QUANT_Q2_K || type == QUANT_Q3_K) type = QUANT_Q4_0;
    if (type == QUANT_Q4_K) type = QUANT_Q5_0;
    if (type == QUANT_Q5_K) type = QUANT_Q5_1;
    if (type == QUANT_Q6_K) type = QUANT_Q8_0;
    if (type == QUANT_IQ4_XS) type = QUANT_IQ4_NL;
    return k % quant_info(type)->block == 0 ? type : QUANT_F16;
}

/* Matrices, but routers, which are small and decide much, and norms. */
static bool is_quantized(const struct gguf_tensor *x)
{
    const size_t n = strlen(x->name);
    return x->n_dims >= 2 && n >= 6 && strcmp(x->name + n - 6, "weight") == 0 &&
           !strstr(x->name, "_norm.weight") &&
           !strstr(x->name, "ffn_gate_inp.weight");
}

enum status quantize_types(const struct gguf *g,
                           const struct quantize_options *o, uint32_t *types,
                           uint32_t *n_fallback, struct error *err)
{
    uint32_t n = 0;
    const struct traits t = traits_of(g, o->mix);
    const bool plain = o->pure || quant_info(t.type)->block == 1;
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *x = gguf_tensor(g, i);
        const struct quant_info *from = quant_info(x->type);
        if (!from) {
            return error_set(err, ST_UNSUPPORTED,
                             "tensor %s has type %s, which is not known",
                             x->name, quant_name(x->type));
        }
        types[i] = x->type;
        if (!is_quantized(x)) continue;
        const enum quant_type want = plain ? t.type : mixed_type(&t, x);
        types[i] = fallback(want, x->ne[0]);
        n += types[i] != want;
        if (from->block > 1 && types[i] != x->type && !o->requantize) {
            return error_set(err, ST_USAGE,
                             "tensor %s is %s already: quantizing that again "
                             "loses more than quantizing the original; "
                             "--allow-requantize does it",
                             x->name, from->name);
        }
    }
    if (n_fallback) *n_fallback = n;
    return ST_OK;
}

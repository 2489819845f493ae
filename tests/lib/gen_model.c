#include "tests/lib/gen_model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---------------------------------------------------------- presets */

#define ALL(t)                                                                 \
    {                                                                          \
        [GEN_EMBD] = (t), [GEN_HEAD] = (t), [GEN_ATTN] = (t),                  \
        [GEN_ATTN_V] = (t), [GEN_FFN] = (t), [GEN_FFN_DOWN] = (t),             \
        [GEN_NORM] = QUANT_F32                                                 \
    }
#define Q4_K_M                                                                 \
    {                                                                          \
        [GEN_EMBD] = QUANT_Q4_K, [GEN_HEAD] = QUANT_Q6_K,                      \
        [GEN_ATTN] = QUANT_Q4_K, [GEN_ATTN_V] = QUANT_Q4_K,                    \
        [GEN_FFN] = QUANT_Q4_K, [GEN_FFN_DOWN] = QUANT_Q4_K,                   \
        [GEN_NORM] = QUANT_F32                                                 \
    }

static const struct {
    const char *name;
    struct gen_model model;
} presets[] = {
    {"tiny-dense",
     {.n_layer = 4,
      .n_embd = 256,
      .n_head = 8,
      .n_head_kv = 4,
      .head_dim = 32,
      .n_ff = 512,
      .n_vocab = 1000,
      .n_ctx = 512,
      .rope_base = 10000,
      .type = ALL(QUANT_F32)}},
    {"tiny-moe",
     {.n_layer = 6,
      .n_embd = 256,
      .n_head = 8,
      .n_head_kv = 2,
      .head_dim = 32,
      .n_ff = 256,
      .n_expert = 8,
      .n_expert_used = 2,
      .n_vocab = 1000,
      .n_ctx = 512,
      .rope_base = 1000000,
      .type = ALL(QUANT_F32)}},
    {"moe-12",
     {.n_layer = 12,
      .n_embd = 256,
      .n_head = 8,
      .n_head_kv = 2,
      .head_dim = 32,
      .n_ff = 256,
      .n_expert = 8,
      .n_expert_used = 2,
      .n_vocab = 1000,
      .n_ctx = 2048,
      .rope_base = 1000000,
      .more_bits = 1,
      .type = Q4_K_M}},
    {"llama-1b-shape",
     {.n_layer = 16,
      .n_embd = 2048,
      .n_head = 32,
      .n_head_kv = 8,
      .head_dim = 64,
      .n_ff = 8192,
      .n_vocab = 32000,
      .n_ctx = 8192,
      .tied = 1,
      .pool_rows = 512,
      .rope_base = 500000,
      .rope_factor = 32,
      .more_bits = 1,
      .type = Q4_K_M}},
    {"gib",
     {.n_layer = 40,
      .n_embd = 2048,
      .n_head = 16,
      .n_head_kv = 4,
      .head_dim = 128,
      .n_ff = 5632,
      .n_vocab = 32000,
      .n_ctx = 4096,
      .pool_rows = 512,
      .rope_base = 10000,
      .more_bits = 1,
      .type = Q4_K_M}},
    {"mixtral-like-2b",
     {.n_layer = 16,
      .n_embd = 2048,
      .n_head = 32,
      .n_head_kv = 8,
      .head_dim = 64,
      .n_ff = 4096,
      .n_expert = 8,
      .n_expert_used = 2,
      .n_vocab = 32000,
      .n_ctx = 8192,
      .pool_rows = 512,
      .rope_base = 1000000,
      .more_bits = 1,
      .type = Q4_K_M}},
    {"llama-70b-group", /* some layers of it, with a small vocabulary */
     {.n_layer = 4,
      .n_embd = 8192,
      .n_head = 64,
      .n_head_kv = 8,
      .head_dim = 128,
      .n_ff = 28672,
      .n_vocab = 4096,
      .n_ctx = 8192,
      .tied = 1,
      .pool_rows = 512,
      .rope_base = 500000,
      .rope_factor = 8,
      .more_bits = 1,
      .type = Q4_K_M}},
    {"mixtral-8x22b-shape",
     {.n_layer = 56,
      .n_embd = 6144,
      .n_head = 48,
      .n_head_kv = 8,
      .head_dim = 128,
      .n_ff = 16384,
      .n_expert = 8,
      .n_expert_used = 2,
      .n_vocab = 32768,
      .n_ctx = 65536,
      .sparse = 1,
      .rope_base = 1000000,
      .more_bits = 1,
      .type = Q4_K_M}},
    {"llama3-70b-shape",
     {.n_layer = 80,
      .n_embd = 8192,
      .n_head = 64,
      .n_head_kv = 8,
      .head_dim = 128,
      .n_ff = 28672,
      .n_vocab = 128256,
      .n_ctx = 131072,
      .sparse = 1,
      .rope_base = 500000,
      .rope_factor = 8,
      .more_bits = 1,
      .type = Q4_K_M}},
};

const char *gen_model_preset_name(uint32_t i)
{
    return i < COUNT_OF(presets) ? presets[i].name : NULL;
}

enum status gen_model_preset(struct gen_model *out, const char *name,
                             struct error *err)
{
    char names[300] = "";
    size_t len = 0;
    for (size_t i = 0; i < COUNT_OF(presets); i++) {
        if (strcmp(presets[i].name, name) == 0) {
            *out = presets[i].model;
            out->seed = 1;
            out->n_splits = 1;
            /* Measured with llama.cpp: first tokens of 0.3 to 0.8. */
            out->head_gain = out->n_vocab > 4000 ? 6 : 5;
            out->router_gain = 1.5f;
            out->rope_scale = 1;
            out->qk_gain = 1;
            return ST_OK;
        }
        if (len < sizeof names) {
            len += (size_t)snprintf(names + len, sizeof names - len, "%s%s",
                                    i ? ", " : "", presets[i].name);
        }
    }
    return error_set(err, ST_NOT_FOUND, "no preset %s; there are %s", name,
                     names);
}

/* --------------------------------------------------------- settings */

#define FIELD(f, is_float)                                                     \
    {                                                                          \
#f, offsetof(struct gen_model, f), is_float                            \
    }
static const struct {
    const char *name;
    size_t at;
    bool is_float;
} fields[] = {
    FIELD(n_layer, false),    FIELD(n_embd, false),
    FIELD(n_head, false),     FIELD(n_head_kv, false),
    FIELD(head_dim, false),   FIELD(n_ff, false),
    FIELD(n_expert, false),   FIELD(n_expert_used, false),
    FIELD(n_vocab, false),    FIELD(n_ctx, false),
    FIELD(tied, false),       FIELD(n_splits, false),
    FIELD(pool_rows, false),  FIELD(sparse, false),
    FIELD(more_bits, false),  FIELD(rope_base, true),
    FIELD(rope_factor, true), FIELD(head_gain, true),
    FIELD(router_gain, true), FIELD(n_rot, false),
    FIELD(window, false),     FIELD(n_ctx_orig, false),
    FIELD(bias, false),       FIELD(rope_scale, true),
    FIELD(attn_cap, true),    FIELD(final_cap, true),
    FIELD(qk_gain, true),     FIELD(eps, true),
    FIELD(branch_gain, true),
};

static const char *const role_names[] = {
    [GEN_EMBD] = "embd",     [GEN_HEAD] = "head", [GEN_ATTN] = "attn",
    [GEN_ATTN_V] = "attn_v", [GEN_FFN] = "ffn",   [GEN_FFN_DOWN] = "ffn_down",
};

static const char *const arch_names[GEN_ARCH_END] = {[GEN_LLAMA] = "llama",
                                                     [GEN_GEMMA2] = "gemma2",
                                                     [GEN_QWEN2] = "qwen2",
                                                     [GEN_QWEN3] = "qwen3",
                                                     [GEN_QWEN3MOE] =
                                                         "qwen3moe"};
static const char *const scaling_names[] = {[GEN_ROPE_PLAIN] = "plain",
                                            [GEN_ROPE_LINEAR] = "linear",
                                            [GEN_ROPE_YARN] = "yarn"};

const char *gen_arch_name(enum gen_arch arch)
{
    return arch_names[arch];
}

/* The index of a word in a list of n. */
static enum status set_word(uint32_t *out, const char *const *list, size_t n,
                            const char *value, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i], value) != 0) continue;
        *out = (uint32_t)i;
        return ST_OK;
    }
    return error_set(err, ST_INVALID, "%s: no such word", value);
}

static enum status set_types(struct gen_model *m, const char *value,
                             struct error *err)
{
    static const enum quant_type q4_k_m[] = Q4_K_M;
    if (strcasecmp(value, "q4_k_m") == 0) {
        memcpy(m->type, q4_k_m, sizeof m->type);
        m->more_bits = 1;
        return ST_OK;
    }
    enum quant_type type;
    if (!quant_by_name(value, &type)) {
        return error_set(err, ST_INVALID, "type %s is not known", value);
    }
    for (int r = 0; r < GEN_NORM; r++) m->type[r] = type;
    m->more_bits = 0;
    return ST_OK;
}

static enum status set_role(struct gen_model *m, const char *role, size_t n,
                            const char *value, struct error *err)
{
    for (size_t r = 0; r < COUNT_OF(role_names); r++) {
        if (strlen(role_names[r]) != n || memcmp(role_names[r], role, n) != 0) {
            continue;
        }
        if (!quant_by_name(value, &m->type[r])) {
            return error_set(err, ST_INVALID, "type %s is not known", value);
        }
        return ST_OK;
    }
    return error_set(err, ST_INVALID, "type.%.*s: no such role", (int)n, role);
}

static enum status set_number(void *field, bool is_float, const char *setting,
                              const char *value, struct error *err)
{
    char *end;
    errno = 0;
    if (is_float) {
        const float v = strtof(value, &end);
        if (end == value || *end || errno || !(v >= 0)) goto bad;
        memcpy(field, &v, sizeof v);
    } else {
        const unsigned long v = strtoul(value, &end, 10);
        if (end == value || *end || errno || *value == '-' || v > UINT32_MAX) {
            goto bad;
        }
        const uint32_t u = (uint32_t)v;
        memcpy(field, &u, sizeof u);
    }
    return ST_OK;
bad:
    return error_set(err, ST_INVALID, "%s: not a number in range", setting);
}

enum status gen_model_set(struct gen_model *m, const char *setting,
                          struct error *err)
{
    const char *eq = strchr(setting, '=');
    if (!eq) {
        return error_set(err, ST_INVALID, "%s: expected key=value", setting);
    }
    const size_t n = (size_t)(eq - setting);
    if (n == 4 && memcmp(setting, "type", 4) == 0) {
        return set_types(m, eq + 1, err);
    }
    if (n > 5 && memcmp(setting, "type.", 5) == 0) {
        return set_role(m, setting + 5, n - 5, eq + 1, err);
    }
    if (n == 4 && memcmp(setting, "arch", 4) == 0) {
        uint32_t arch = m->arch;
        const enum status st =
            set_word(&arch, arch_names, GEN_ARCH_END, eq + 1, err);
        m->arch = (enum gen_arch)arch;
        return st;
    }
    if (n == 12 && memcmp(setting, "rope_scaling", 12) == 0) {
        uint32_t kind = m->rope_scaling;
        const enum status st = set_word(&kind, scaling_names,
                                        COUNT_OF(scaling_names), eq + 1, err);
        m->rope_scaling = (enum gen_rope_scaling)kind;
        return st;
    }
    if (n == 4 && memcmp(setting, "seed", 4) == 0) {
        char *end;
        errno = 0;
        const uint64_t seed = strtoull(eq + 1, &end, 10);
        if (end == eq + 1 || *end || errno) {
            return error_set(err, ST_INVALID, "%s: not a seed", setting);
        }
        m->seed = seed;
        return ST_OK;
    }
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        if (strlen(fields[i].name) == n &&
            memcmp(fields[i].name, setting, n) == 0) {
            return set_number((char *)m + fields[i].at, fields[i].is_float,
                              setting, eq + 1, err);
        }
    }
    return error_set(err, ST_INVALID, "%s: no such setting", setting);
}

/* ------------------------------------------------------------ check */

#define GEN_LIMIT (1u << 20) /* of any dimension; keeps products in 64 bits */

static enum status check_rows(const struct gen_model *m, struct error *err)
{
    const uint32_t n = gen_model_n_tensors(m);
    for (uint32_t i = 0; i < n; i++) {
        struct gen_tensor t;
        gen_model_tensor(m, i, &t);
        if (quant_row_bytes(t.type, t.ne[0]) == 0) {
            return error_set(err, ST_INVALID,
                             "%s: rows of %" PRIu64 " do not fill blocks of %s",
                             t.name, t.ne[0], quant_name(t.type));
        }
    }
    return ST_OK;
}

enum status gen_model_check(const struct gen_model *m, struct error *err)
{
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        uint32_t v;
        memcpy(&v, (const char *)m + fields[i].at, sizeof v);
        if (!fields[i].is_float && v > GEN_LIMIT) {
            return error_set(err, ST_INVALID, "%s=%u: over %u", fields[i].name,
                             v, GEN_LIMIT);
        }
    }
    if (!m->n_layer || !m->n_embd || !m->n_head || !m->n_head_kv ||
        !m->head_dim || !m->n_ff || !m->n_ctx) {
        return error_set(err, ST_INVALID,
                         "n_layer, n_embd, n_head, n_head_kv, "
                         "head_dim, n_ff, n_ctx: at least 1");
    }
    if (m->n_head % m->n_head_kv != 0) {
        return error_set(err, ST_INVALID,
                         "n_head=%u: no multiple of "
                         "n_head_kv=%u",
                         m->n_head, m->n_head_kv);
    }
    if (m->head_dim % 2 != 0) {
        return error_set(err, ST_INVALID, "head_dim=%u: must be even",
                         m->head_dim);
    }
    if (m->n_rot % 2 != 0 || m->n_rot > m->head_dim) {
        return error_set(err, ST_INVALID, "n_rot=%u of head_dim=%u", m->n_rot,
                         m->head_dim);
    }
    if ((m->arch == GEN_QWEN3MOE && m->n_expert == 0) ||
        (m->arch != GEN_QWEN3MOE && m->arch != GEN_LLAMA && m->n_expert > 0)) {
        return error_set(err, ST_INVALID, "%s with %u experts",
                         arch_names[m->arch], m->n_expert);
    }
    if (m->n_expert_used > m->n_expert ||
        (m->n_expert > 0) != (m->n_expert_used > 0)) {
        return error_set(err, ST_INVALID, "n_expert_used=%u of n_expert=%u",
                         m->n_expert_used, m->n_expert);
    }
    if (m->n_vocab < 320) {
        return error_set(err, ST_INVALID,
                         "n_vocab=%u: at least 320 (three "
                         "control, 256 byte tokens and some letters)",
                         m->n_vocab);
    }
    if (m->n_splits < 1 || m->n_splits > gen_model_n_tensors(m)) {
        return error_set(err, ST_INVALID,
                         "n_splits=%u: 1 to the number of "
                         "tensors, %u",
                         m->n_splits, gen_model_n_tensors(m));
    }
    if (m->type[GEN_NORM] != QUANT_F32 || !(m->rope_base > 1)) {
        return error_set(err, ST_INVALID, "norms are F32, rope_base over 1");
    }
    return check_rows(m, err);
}

/* ---------------------------------------------------------- tensors */

/* Square root by Newton's iteration: +, * and / alone, so the same bits
 * everywhere. */
static double root(double x)
{
    double r = x > 1 ? x : 1;
    for (int i = 0; i < 80; i++) r = 0.5 * (r + x / r);
    return r;
}

/* Each layer's branches add about 1 / sqrt(n_layer) of the residual's size;
 * attention scores get a standard deviation of about 1.4. */
static const double gain_qk = 1.2, gain_v = 1.0, gain_o = 1.5, gain_ff = 1.4,
                    gain_down = 2.0;

/* llama.cpp's llama_tensor_get_type: the first and last eighth of the layers
 * and every third between. */
static bool layer_has_more_bits(const struct gen_model *m, uint32_t layer)
{
    const uint32_t n = m->n_layer, eighth = n / 8;
    return m->more_bits &&
           (layer < eighth || layer >= 7 * n / 8 || (layer - eighth) % 3 == 2);
}

static void matrix(struct gen_tensor *t, const struct gen_model *m,
                   enum gen_role role, uint64_t k, uint64_t rows, double std)
{
    t->role = role;
    t->type = m->type[role];
    t->n_dims = 2;
    t->ne[0] = k;
    t->ne[1] = rows;
    t->ne[2] = 1;
    t->std = std;
    t->mean = 0;
}

static void vector(struct gen_tensor *t, uint64_t n, double mean, double std)
{
    *t = (struct gen_tensor){.role = GEN_NORM,
                             .type = QUANT_F32,
                             .n_dims = 1,
                             .ne = {n, 1, 1},
                             .std = std,
                             .mean = mean};
}

/* Gemma's residual stream begins at sqrt(n_embd) times its embedding; where
 * that is the head too, the branches must drown it (see gen_model_tensor). */
static double post_norm(const struct gen_model *m)
{
    return m->tied ? 8 * (double)m->head_gain : root((double)m->n_embd);
}

/* What the preset's gains are multiplied with. */
static double branch(const struct gen_model *m)
{
    return m->branch_gain > 0 ? (double)m->branch_gain : 1;
}

static void experts(struct gen_tensor *t, const struct gen_model *m)
{
    t->n_dims = 3;
    t->ne[2] = m->n_expert;
}

/* The parts of a layer in file order; not every model has each. */
enum part {
    P_ATTN_NORM,
    P_Q,
    P_Q_BIAS,
    P_K,
    P_K_BIAS,
    P_V,
    P_V_BIAS,
    P_Q_NORM,
    P_K_NORM,
    P_O,
    P_O_BIAS,
    P_ATTN_POST_NORM,
    P_FFN_NORM,
    P_ROUTER,
    P_GATE,
    P_GATE_BIAS,
    P_UP,
    P_UP_BIAS,
    P_DOWN,
    P_DOWN_BIAS,
    P_FFN_POST_NORM,
    P_END
};

static const char *const part_names[P_END] = {
    [P_ATTN_NORM] = "attn_norm.weight",
    [P_Q] = "attn_q.weight",
    [P_Q_BIAS] = "attn_q.bias",
    [P_K] = "attn_k.weight",
    [P_K_BIAS] = "attn_k.bias",
    [P_V] = "attn_v.weight",
    [P_V_BIAS] = "attn_v.bias",
    [P_Q_NORM] = "attn_q_norm.weight",
    [P_K_NORM] = "attn_k_norm.weight",
    [P_O] = "attn_output.weight",
    [P_O_BIAS] = "attn_output.bias",
    [P_ATTN_POST_NORM] = "post_attention_norm.weight",
    [P_FFN_NORM] = "ffn_norm.weight",
    [P_ROUTER] = "ffn_gate_inp.weight",
    [P_GATE] = "ffn_gate.weight",
    [P_GATE_BIAS] = "ffn_gate.bias",
    [P_UP] = "ffn_up.weight",
    [P_UP_BIAS] = "ffn_up.bias",
    [P_DOWN] = "ffn_down.weight",
    [P_DOWN_BIAS] = "ffn_down.bias",
    [P_FFN_POST_NORM] = "post_ffw_norm.weight",
};

static bool has_part(const struct gen_model *m, enum part part)
{
    const bool all_bias = m->arch == GEN_LLAMA && m->bias;
    if (part == P_Q_BIAS || part == P_K_BIAS || part == P_V_BIAS) {
        return all_bias || m->arch == GEN_QWEN2;
    }
    if (part == P_GATE_BIAS || part == P_UP_BIAS || part == P_DOWN_BIAS) {
        return all_bias && m->n_expert == 0;
    }
    if (part == P_O_BIAS) return all_bias;
    if (part == P_Q_NORM || part == P_K_NORM) {
        return m->arch == GEN_QWEN3 || m->arch == GEN_QWEN3MOE;
    }
    if (part == P_ATTN_POST_NORM || part == P_FFN_POST_NORM) {
        return m->arch == GEN_GEMMA2;
    }
    return part != P_ROUTER || m->n_expert > 0;
}

static uint32_t layer_tensors(const struct gen_model *m)
{
    uint32_t n = 0;
    for (int p = 0; p < P_END; p++) n += has_part(m, (enum part)p);
    return n;
}

/* The n-th part that the model has. */
static enum part nth_part(const struct gen_model *m, uint32_t n)
{
    int p = 0;
    while (!has_part(m, (enum part)p) || n-- > 0) p++;
    return (enum part)p;
}

/* "blk.3.ffn_gate_exps.weight" */
static void name_tensor(struct gen_tensor *t, uint32_t layer, enum part part,
                        bool is_expert)
{
    const char *name = part_names[part];
    const size_t stem = (size_t)(strchr(name, '.') - name);
    snprintf(t->name, sizeof t->name, "blk.%u.%.*s%s%s", layer, (int)stem, name,
             is_expert ? "_exps" : "", name + stem);
}

/* False: it is no bias. */
static bool bias_tensor(const struct gen_model *m, enum part part,
                        struct gen_tensor *t)
{
    const double std = 0.3;
    switch ((int)part) {
    case P_Q_BIAS:
        vector(t, (uint64_t)m->n_head * m->head_dim, 0, std);
        return true;
    case P_O_BIAS:
    case P_DOWN_BIAS:
        vector(t, m->n_embd, 0, std);
        return true;
    case P_K_BIAS:
    case P_V_BIAS:
        vector(t, (uint64_t)m->n_head_kv * m->head_dim, 0, std);
        return true;
    case P_GATE_BIAS:
    case P_UP_BIAS:
        vector(t, m->n_ff, 0, std);
        return true;
    default:
        return false;
    }
}

static void layer_tensor(const struct gen_model *m, uint32_t layer,
                         enum part part, struct gen_tensor *t)
{
    const uint64_t n_embd = m->n_embd, n_ff = m->n_ff;
    const uint64_t n_q = (uint64_t)m->n_head * m->head_dim;
    const uint64_t n_kv = (uint64_t)m->n_head_kv * m->head_dim;
    const double in = root((double)n_embd), depth = root(m->n_layer);
    const double qk = gain_qk * (double)m->qk_gain;
    if (bias_tensor(m, part, t)) {
        name_tensor(t, layer, part, false);
        return;
    }
    switch ((int)part) {
    case P_ATTN_NORM:
    case P_FFN_NORM:
        vector(t, n_embd, 1, 0.2);
        break;
    case P_ATTN_POST_NORM:
    case P_FFN_POST_NORM:
        /* of a branch that is normed: what gain_o and gain_down are else */
        vector(t, n_embd, post_norm(m) / depth, 0.2 * post_norm(m) / depth);
        break;
    case P_Q_NORM:
    case P_K_NORM:
        vector(t, m->head_dim, qk, 0.2 * qk);
        break;
    case P_Q:
        matrix(t, m, GEN_ATTN, n_embd, n_q, qk / in);
        break;
    case P_K:
        matrix(t, m, GEN_ATTN, n_embd, n_kv, qk / in);
        break;
    case P_V:
        matrix(t, m, GEN_ATTN_V, n_embd, n_kv, gain_v / in);
        break;
    case P_O:
        matrix(t, m, GEN_ATTN, n_q, n_embd,
               branch(m) * gain_o / (root((double)n_q) * depth));
        break;
    case P_ROUTER:
        matrix(t, m, GEN_NORM, n_embd, m->n_expert,
               (double)m->router_gain / in);
        break;
    case P_GATE:
    case P_UP:
        matrix(t, m, GEN_FFN, n_embd, n_ff, gain_ff / in);
        break;
    case P_DOWN:
        matrix(t, m, GEN_FFN_DOWN, n_ff, n_embd,
               branch(m) * gain_down / (root((double)n_ff) * depth));
        break;
    default:
        break;
    }
    const bool is_expert =
        m->n_expert && (part == P_GATE || part == P_UP || part == P_DOWN);
    if (is_expert) experts(t, m);
    if ((part == P_V || part == P_DOWN) && layer_has_more_bits(m, layer)) {
        t->type = QUANT_Q6_K;
    }
    name_tensor(t, layer, part, is_expert);
}

uint32_t gen_model_n_tensors(const struct gen_model *m)
{
    return 2 + (m->rope_factor > 0 ? 1 : 0) + (m->tied ? 0 : 1) +
           m->n_layer * layer_tensors(m);
}

void gen_model_tensor(const struct gen_model *m, uint32_t i,
                      struct gen_tensor *t)
{
    const double head = (double)m->head_gain / root(m->n_embd);
    *t = (struct gen_tensor){0};
    if (i-- == 0) {
        /* With tied embeddings the rows serve as the head's; the residual
         * branches then outgrow the small embedding, so that a token does not
         * simply predict itself. */
        matrix(t, m, GEN_EMBD, m->n_embd, m->n_vocab, m->tied ? head : 1);
        if (m->tied && m->more_bits) t->type = m->type[GEN_HEAD];
        snprintf(t->name, sizeof t->name, "token_embd.weight");
        return;
    }
    if (m->rope_factor > 0 && i-- == 0) {
        vector(t, (m->n_rot ? m->n_rot : m->head_dim) / 2, 1, 0);
        snprintf(t->name, sizeof t->name, "rope_freqs.weight");
        return;
    }
    const uint32_t per_layer = layer_tensors(m);
    if (i < m->n_layer * per_layer) {
        layer_tensor(m, i / per_layer, nth_part(m, i % per_layer), t);
        return;
    }
    if (i == m->n_layer * per_layer) {
        vector(t, m->n_embd, 1, 0.2);
        snprintf(t->name, sizeof t->name, "output_norm.weight");
        return;
    }
    matrix(t, m, GEN_HEAD, m->n_embd, m->n_vocab, head);
    snprintf(t->name, sizeof t->name, "output.weight");
}

#include "engine/model_keys.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/numerics.h"

static const struct model_arch archs[] = {
    {.name = "llama",
     .experts = OPTIONAL,
     .qkv_bias = OPTIONAL,
     .other_bias = OPTIONAL,
     .window_period = 1},
    {.name = "gemma2",
     .post_norm = NEEDED,
     .rope_halves = true,
     .gelu = true,
     .embed_scale = true,
     .attn_softcap = 50,
     .final_softcap = 30,
     .window = 4096,
     .window_period = 2,
     .wide_query_layers = 46},
    {.name = "qwen2",
     .qkv_bias = NEEDED,
     .rope_halves = true,
     .window_period = 1},
    {.name = "qwen3",
     .qk_norm = NEEDED,
     .rope_halves = true,
     .window_period = 1},
    {.name = "qwen3moe",
     .experts = NEEDED,
     .qk_norm = NEEDED,
     .rope_halves = true,
     .window_period = 1},
};

/* A key of this architecture: "llama." and the rest. */
static const char *key_of(char buf[96], const struct model *m, const char *rest)
{
    snprintf(buf, 96, "%s.%s", m->arch, rest);
    return buf;
}

static enum status get_u32(const struct model *m, const char *rest, uint32_t lo,
                           uint32_t hi, uint32_t *out, struct error *err)
{
    char key[96];
    uint32_t v;
    const enum status st = gguf_get_u32(m->gguf, key_of(key, m, rest), &v, err);
    if (st != ST_OK) return st;
    if (v < lo || v > hi) {
        return error_set(err, ST_INVALID, "%s is %u, but must be %u to %u", key,
                         v, lo, hi);
    }
    *out = v;
    return ST_OK;
}

/* The same, absent allowed: then *out stays. */
static enum status opt_u32(const struct model *m, const char *rest, uint32_t lo,
                           uint32_t hi, uint32_t *out, struct error *err)
{
    const enum status st = get_u32(m, rest, lo, hi, out, err);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

static enum status opt_f32(const struct model *m, const char *rest, float *out,
                           struct error *err)
{
    char key[96];
    float v;
    const enum status st = gguf_get_f32(m->gguf, key_of(key, m, rest), &v, err);
    if (st == ST_NOT_FOUND) return ST_OK;
    if (st != ST_OK) return st;
    if (!isfinite(v))
        return error_set(err, ST_INVALID, "%s is %g", key, (double)v);
    *out = v;
    return ST_OK;
}

/* Keys that change the arithmetic in a way that is not built: only their
 * neutral value is accepted, rather than computing something else. */
static enum status refuse_scales(const struct model *m,
                                 const struct model_arch *arch,
                                 struct error *err)
{
    static const struct {
        const char *rest;
        float neutral;
        bool softcap;
    } scales[] = {
        {"logit_scale", 1, false},
        {"residual_scale", 1, false},
        {"embedding_scale", 1, false},
        {"attention.scale", 0, false},
        {"expert_weights_scale", 1, false},
        {"attention.clamp_kqv", 0, false},
        {"rope.scaling.yarn_log_multiplier", 0, false},
        {"rope.scaling.yarn_attn_factor", 1, false},
        {"attn_logit_softcapping", 0, true},
        {"final_logit_softcapping", 0, true},
    };
    for (size_t i = 0; i < COUNT_OF(scales); i++) {
        if (scales[i].softcap && arch->attn_softcap > 0) continue;
        float v = scales[i].neutral;
        const enum status st = opt_f32(m, scales[i].rest, &v, err);
        if (st != ST_OK) return st;
        if (v != scales[i].neutral) {
            return error_set(err, ST_UNSUPPORTED,
                             "%s.%s = %g is not supported for this "
                             "architecture yet",
                             m->arch, scales[i].rest, (double)v);
        }
    }
    uint32_t gating = 1; /* softmax */
    const enum status st =
        opt_u32(m, "expert_gating_func", 0, UINT32_MAX, &gating, err);
    if (st == ST_OK && gating > 1) {
        return error_set(err, ST_UNSUPPORTED,
                         "%s.expert_gating_func = %u is not supported yet",
                         m->arch, gating);
    }
    return st;
}

/* -------------------------------------------------------------- RoPE */

enum scaling { SCALING_NONE, SCALING_LINEAR, SCALING_YARN };

/* As llama.cpp has it: a factor without a type is a linear one. */
static enum status scaling_type(const struct model *m, enum scaling *out,
                                struct error *err)
{
    static const char *const names[] = {[SCALING_NONE] = "none",
                                        [SCALING_LINEAR] = "linear",
                                        [SCALING_YARN] = "yarn"};
    char key[96];
    struct gguf_str type;
    const enum status st =
        gguf_get_str(m->gguf, key_of(key, m, "rope.scaling.type"), &type, err);
    *out = SCALING_LINEAR;
    if (st != ST_OK) return st == ST_NOT_FOUND ? ST_OK : st;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (type.len == strlen(names[i]) &&
            memcmp(type.data, names[i], type.len) == 0) {
            *out = (enum scaling)i;
            return ST_OK;
        }
    }
    return error_set(err, ST_UNSUPPORTED,
                     "rope scaling \"%.*s\" is not supported yet; \"none\", "
                     "\"linear\" and \"yarn\" are",
                     (int)(type.len < 40 ? type.len : 40), type.data);
}

/* Where the ramp between extrapolated and interpolated pairs begins or ends:
 * the pair that turns `beta` times in n positions (Peng et al. 2023, arXiv
 * 2309.00071, section 3.2). */
static double yarn_pair(const struct model *m, double n, double beta)
{
    const double two_pi = 6.283185307179586;
    return (double)m->n_rot * nm_log64(n / (beta * two_pi)) /
           (2.0 * nm_log64(m->rope.base));
}

static enum status yarn_keys(struct model *m, double factor, struct error *err)
{
    float extend = 1, fast = 32, slow = 1;
    uint32_t n = m->n_ctx;
    enum status st = opt_u32(m, "rope.scaling.original_context_length", 1,
                             MODEL_CTX_MAX, &n, err);
    if (st == ST_OK)
        st = opt_f32(m, "rope.scaling.yarn_ext_factor", &extend, err);
    if (st == ST_OK) st = opt_f32(m, "rope.scaling.yarn_beta_fast", &fast, err);
    if (st == ST_OK) st = opt_f32(m, "rope.scaling.yarn_beta_slow", &slow, err);
    if (st != ST_OK) return st;
    if (!(extend >= 0 && extend <= 1) || !(fast > 0 && fast < 0x1p20f) ||
        !(slow > 0 && slow < 0x1p20f) || !(m->rope.base > 1)) {
        return error_set(err, ST_INVALID,
                         "%s.rope.scaling: YaRN with extension %g, beta %g to "
                         "%g and base %g is not possible",
                         m->arch, (double)extend, (double)fast, (double)slow,
                         m->rope.base);
    }
    m->rope.extend = (double)extend;
    const double low = floor(yarn_pair(m, (double)n, (double)fast));
    const double high = ceil(yarn_pair(m, (double)n, (double)slow));
    m->rope.low = low > 0 ? low : 0;
    m->rope.high = high < (double)m->n_rot - 1 ? high : (double)m->n_rot - 1;
    if (extend > 0) m->rope.magnitude *= 1.0 + 0.1 * nm_log64(factor);
    return ST_OK;
}

static enum status scaling_keys(struct model *m, struct error *err)
{
    enum scaling type;
    float factor = 0, attn = 1;
    enum status st = scaling_type(m, &type, err);
    if (st == ST_OK) st = opt_f32(m, "rope.scaling.factor", &factor, err);
    if (st == ST_OK && factor == 0) { /* older files */
        st = opt_f32(m, "rope.scale_linear", &factor, err);
    }
    if (st == ST_OK) st = opt_f32(m, "rope.scaling.attn_factor", &attn, err);
    if (st != ST_OK) return st;
    if (type == SCALING_NONE || factor == 0) factor = 1;
    if (!(factor >= 1) || !(factor <= 0x1p20f) || !(attn > 0)) {
        return error_set(err, ST_INVALID,
                         "rope scaling factor is %g, attention factor %g",
                         (double)factor, (double)attn);
    }
    m->rope.scale = 1.0 / (double)factor;
    m->rope.magnitude = (double)attn;
    return type == SCALING_YARN ? yarn_keys(m, (double)factor, err) : ST_OK;
}

static enum status rope_keys(struct model *m, const struct model_arch *arch,
                             struct error *err)
{
    m->n_rot = m->head_dim;
    m->rope.halves = arch->rope_halves;
    enum status st =
        opt_u32(m, "rope.dimension_count", 2, m->head_dim, &m->n_rot, err);
    if (st != ST_OK) return st;
    if (m->n_rot % 2 != 0) {
        return error_set(err, ST_INVALID, "%s.rope.dimension_count is odd (%u)",
                         m->arch, m->n_rot);
    }
    float base = 10000;
    st = opt_f32(m, "rope.freq_base", &base, err);
    if (st != ST_OK) return st;
    if (!(base >= 1)) {
        return error_set(err, ST_INVALID, "%s.rope.freq_base is %g", m->arch,
                         (double)base);
    }
    m->rope.base = (double)base;
    return scaling_keys(m, err);
}

double model_rope_freq(const struct model *m, uint32_t i)
{
    return nm_pow64(m->rope.base, -2.0 * (double)i / (double)m->n_rot);
}

double model_rope_turn(const struct model *m, uint32_t i, double f)
{
    const struct model_rope *r = &m->rope;
    const double scaled = f * r->scale;
    if (r->extend == 0) return scaled;
    const double width = r->high - r->low;
    double y = ((double)i - r->low) / (width > 0.001 ? width : 0.001);
    y = y < 0 ? 0 : y > 1 ? 1 : y;
    const double mix = (1.0 - y) * r->extend;
    return (scaled * (1.0 - mix)) + (f * mix);
}

/* --------------------------------------------------------- attention */

static enum status attention_keys(struct model *m, struct error *err)
{
    enum status st;
    m->n_head_kv = m->n_head;
    m->head_dim = m->n_embd / m->n_head;
    uint32_t value_dim = 0;
    if ((st = opt_u32(m, "attention.head_count_kv", 1, m->n_head, &m->n_head_kv,
                      err)) != ST_OK ||
        (st = opt_u32(m, "attention.key_length", 1, MODEL_HEAD_DIM_MAX,
                      &m->head_dim, err)) != ST_OK) {
        return st;
    }
    value_dim = m->head_dim;
    st = opt_u32(m, "attention.value_length", 1, MODEL_HEAD_DIM_MAX, &value_dim,
                 err);
    if (st != ST_OK) return st;
    if (m->head_dim == 0 || m->head_dim > MODEL_HEAD_DIM_MAX ||
        m->head_dim != value_dim || m->n_head % m->n_head_kv != 0 ||
        m->n_head * m->head_dim > NM_LEAF * NM_LEAVES_MAX) {
        return error_set(err, ST_UNSUPPORTED,
                         "attention with %u heads, %u key/value heads, key "
                         "length %u and value length %u is not supported",
                         m->n_head, m->n_head_kv, m->head_dim, value_dim);
    }
    return ST_OK;
}

/* What happens to scores, rows and logits beside products and norms. */
static enum status shaping_keys(struct model *m, const struct model_arch *arch,
                                struct error *err)
{
    m->activation = arch->gelu ? ACTIVATION_GELU : ACTIVATION_SILU;
    m->embed_scale = arch->embed_scale ? sqrtf((float)m->n_embd) : 1.0f;
    const bool wide =
        arch->wide_query_layers != 0 && m->n_layer == arch->wide_query_layers;
    m->query_scale =
        1.0f / sqrtf((float)(wide ? m->n_embd / m->n_head : m->head_dim));
    m->attn_softcap = arch->attn_softcap;
    m->final_softcap = arch->final_softcap;
    m->window = arch->window;
    enum status st = ST_OK;
    if (arch->attn_softcap > 0) {
        st = opt_f32(m, "attn_logit_softcapping", &m->attn_softcap, err);
        if (st != ST_OK) return st;
        st = opt_f32(m, "final_logit_softcapping", &m->final_softcap, err);
        if (st != ST_OK) return st;
    }
    if (!(m->attn_softcap >= 0) || !(m->final_softcap >= 0)) {
        return error_set(
            err, ST_INVALID, "%s: soft-capping at %g and %g is not possible",
            m->arch, (double)m->attn_softcap, (double)m->final_softcap);
    }
    /* a window over all of the context is none */
    st = opt_u32(m, "attention.sliding_window", 0, UINT32_MAX, &m->window, err);
    if (st == ST_OK && m->window >= m->n_ctx) m->window = 0;
    return st;
}

bool model_is_local(const struct model_arch *arch, uint32_t i)
{
    return arch->window_period == 1 ||
           i % arch->window_period < arch->window_period - 1;
}

/* ------------------------------------------------------------ experts */

static enum status expert_keys(struct model *m, const struct model_arch *arch,
                               struct error *err)
{
    m->expert_norm = true; /* Mixtral's and Qwen's way */
    if (arch->experts == ABSENT) return ST_OK;
    enum status st;
    if ((st = opt_u32(m, "expert_count", 0, MODEL_EXPERTS_MAX, &m->n_expert,
                      err)) != ST_OK ||
        (st = opt_u32(m, "expert_used_count", 0, MODEL_EXPERTS_USED_MAX,
                      &m->n_expert_used, err)) != ST_OK) {
        return st;
    }
    if (m->n_expert == 0) m->n_expert_used = 0;
    if ((m->n_expert != 0 || arch->experts == NEEDED) &&
        (m->n_expert_used == 0 || m->n_expert_used > m->n_expert)) {
        return error_set(err, ST_INVALID,
                         "%u experts of which %u are used is not possible",
                         m->n_expert, m->n_expert_used);
    }
    char key[96];
    st = gguf_get_bool(m->gguf, key_of(key, m, "expert_weights_norm"),
                       &m->expert_norm, err);
    if (st != ST_OK && st != ST_NOT_FOUND) return st;
    if (m->n_expert == 0) return ST_OK;
    return opt_u32(m, "expert_feed_forward_length", 1, MODEL_FF_MAX, &m->n_ff,
                   err);
}

/* -------------------------------------------------------------- whole */

static enum status find_arch(struct model *m, const struct model_arch **out,
                             struct error *err)
{
    struct gguf_str name;
    const enum status st =
        gguf_get_str(m->gguf, "general.architecture", &name, err);
    if (st != ST_OK) return st;
    char known[128] = "";
    size_t len = 0;
    for (size_t i = 0; i < COUNT_OF(archs); i++) {
        const size_t n = strlen(archs[i].name);
        if (name.len == n && memcmp(name.data, archs[i].name, n) == 0) {
            memcpy(m->arch, archs[i].name, n);
            *out = &archs[i];
            return ST_OK;
        }
        len += (size_t)snprintf(known + len, sizeof known - len, "%s\"%s\"",
                                i ? ", " : "", archs[i].name);
    }
    return error_set(err, ST_UNSUPPORTED,
                     "architecture \"%.*s\" is not supported yet; %s are",
                     (int)(name.len < 40 ? name.len : 40), name.data, known);
}

enum status model_read_keys(struct model *m, const struct model_arch **arch,
                            struct error *err)
{
    enum status st = find_arch(m, arch, err);
    if (st != ST_OK) return st;
    m->rms_eps = NAN;
    if ((st = get_u32(m, "block_count", 1, MODEL_LAYERS_MAX, &m->n_layer,
                      err)) != ST_OK ||
        (st = get_u32(m, "embedding_length", 1, MODEL_EMBD_MAX, &m->n_embd,
                      err)) != ST_OK ||
        (st = get_u32(m, "feed_forward_length", 1, MODEL_FF_MAX, &m->n_ff,
                      err)) != ST_OK ||
        (st = get_u32(m, "attention.head_count", 1, MODEL_HEADS_MAX, &m->n_head,
                      err)) != ST_OK ||
        (st = get_u32(m, "context_length", 1, MODEL_CTX_MAX, &m->n_ctx, err)) !=
            ST_OK ||
        (st = opt_f32(m, "attention.layer_norm_rms_epsilon", &m->rms_eps,
                      err)) != ST_OK) {
        return st;
    }
    if (!(m->rms_eps >= 0 && m->rms_eps < 1)) {
        return error_set(err, ST_INVALID,
                         "%s.attention.layer_norm_rms_epsilon is missing or "
                         "out of range",
                         m->arch);
    }
    st = attention_keys(m, err);
    if (st == ST_OK) st = expert_keys(m, *arch, err);
    if (st == ST_OK) st = shaping_keys(m, *arch, err);
    if (st == ST_OK) st = refuse_scales(m, *arch, err);
    return st == ST_OK ? rope_keys(m, *arch, err) : st;
}

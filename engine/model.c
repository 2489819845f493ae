#include "engine/model.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/numerics.h"

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
static enum status refuse_scales(const struct model *m, struct error *err)
{
    static const struct {
        const char *rest;
        float neutral;
    } scales[] = {
        {"logit_scale", 1},
        {"residual_scale", 1},
        {"embedding_scale", 1},
        {"attention.scale", 0},
        {"expert_weights_scale", 1},
        {"attention.clamp_kqv", 0},
        {"attn_logit_softcapping", 0},
        {"final_logit_softcapping", 0},
    };
    for (size_t i = 0; i < COUNT_OF(scales); i++) {
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

static enum status rope_keys(struct model *m, struct error *err)
{
    m->n_rot = m->head_dim;
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
    m->rope_base = (double)base;
    m->rope_scale = 1;
    char key[96];
    struct gguf_str type;
    st = gguf_get_str(m->gguf, key_of(key, m, "rope.scaling.type"), &type, err);
    if (st != ST_OK && st != ST_NOT_FOUND) return st;
    const bool linear =
        st == ST_OK && type.len == 6 && memcmp(type.data, "linear", 6) == 0;
    if (st == ST_OK && !linear &&
        !(type.len == 4 && memcmp(type.data, "none", 4) == 0)) {
        return error_set(err, ST_UNSUPPORTED,
                         "rope scaling \"%.*s\" is not supported yet; \"none\" "
                         "and \"linear\" are",
                         (int)(type.len < 40 ? type.len : 40), type.data);
    }
    float factor = 1;
    if (linear)
        st = opt_f32(m, "rope.scaling.factor", &factor, err);
    else
        st = opt_f32(m, "rope.scale_linear", &factor, err); /* older files */
    if (st != ST_OK) return st;
    if (!(factor >= 1)) {
        return error_set(err, ST_INVALID, "rope scaling factor is %g",
                         (double)factor);
    }
    m->rope_scale = 1.0 / (double)factor;
    return ST_OK;
}

static enum status read_keys(struct model *m, struct error *err)
{
    enum status st;
    m->expert_norm = true; /* Mixtral's way; `llama` has no key for it */
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
    if ((st = opt_u32(m, "expert_count", 0, MODEL_EXPERTS_MAX, &m->n_expert,
                      err)) != ST_OK ||
        (st = opt_u32(m, "expert_used_count", 0, MODEL_EXPERTS_USED_MAX,
                      &m->n_expert_used, err)) != ST_OK) {
        return st;
    }
    if (m->n_expert == 0) m->n_expert_used = 0;
    if (m->n_expert != 0 &&
        (m->n_expert_used == 0 || m->n_expert_used > m->n_expert)) {
        return error_set(err, ST_INVALID,
                         "%u experts of which %u are used is not possible",
                         m->n_expert, m->n_expert_used);
    }
    /* Below the window, sliding and full attention are the same. */
    uint32_t window = MODEL_CTX_MAX;
    st = opt_u32(m, "attention.sliding_window", 0, MODEL_CTX_MAX, &window, err);
    if (st != ST_OK) return st;
    if (window != 0 && window < m->n_ctx) m->n_ctx = window;
    if ((st = refuse_scales(m, err)) != ST_OK) return st;
    return rope_keys(m, err);
}

/* ----------------------------------------------------------- tensors */

static enum status find(const struct model *m, const char *name, bool needed,
                        const struct gguf_tensor **out, struct error *err)
{
    *out = gguf_find_tensor(m->gguf, name);
    if (*out || !needed) return ST_OK;
    return error_set(err, ST_INVALID, "tensor %s is missing", name);
}

/* A tensor of these dimensions (ne order: k first; 1 where unused). */
static enum status check_shape(const struct gguf_tensor *t, uint64_t k,
                               uint64_t rows, uint64_t planes,
                               struct error *err)
{
    if (t->ne[0] != k || t->ne[1] != rows || t->ne[2] != planes ||
        t->ne[3] != 1) {
        return error_set(
            err, ST_INVALID,
            "tensor %s is [%llu, %llu, %llu], but the model needs [%llu, %llu, "
            "%llu]",
            t->name, (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
            (unsigned long long)t->ne[2], (unsigned long long)k,
            (unsigned long long)rows, (unsigned long long)planes);
    }
    if (!quant_info(t->type)) {
        return error_set(err, ST_UNSUPPORTED,
                         "tensor %s has weight type %s, which is not supported "
                         "yet",
                         t->name, quant_name(t->type));
    }
    return ST_OK;
}

static enum status vector(const struct model *m, const char *name, bool needed,
                          uint64_t n, const struct gguf_tensor **out,
                          struct error *err)
{
    enum status st = find(m, name, needed, out, err);
    if (st != ST_OK || !*out) return st;
    st = check_shape(*out, n, 1, 1, err);
    if (st != ST_OK) return st;
    if ((*out)->type != QUANT_F32) {
        return error_set(err, ST_UNSUPPORTED, "tensor %s is %s instead of F32",
                         name, quant_name((*out)->type));
    }
    return ST_OK;
}

static enum status matrix(const struct model *m, const char *name, bool needed,
                          uint32_t rows, uint32_t k, struct model_matrix *out,
                          struct error *err)
{
    const struct gguf_tensor *t;
    enum status st = find(m, name, needed, &t, err);
    if (st != ST_OK || !t) return st;
    st = check_shape(t, k, rows, 1, err);
    if (st == ST_OK) *out = (struct model_matrix){t, 0, rows, k};
    return st;
}

static const char *const part_name[] = {[EXPERT_GATE] = "ffn_gate",
                                        [EXPERT_UP] = "ffn_up",
                                        [EXPERT_DOWN] = "ffn_down"};

static uint32_t part_rows(const struct model *m, enum model_expert_part part)
{
    return part == EXPERT_DOWN ? m->n_embd : m->n_ff;
}

static uint32_t part_k(const struct model *m, enum model_expert_part part)
{
    return part == EXPERT_DOWN ? m->n_ff : m->n_embd;
}

static enum status check_experts(const struct model *m, uint32_t layer,
                                 struct error *err)
{
    for (int p = EXPERT_GATE; p <= EXPERT_DOWN; p++) {
        const enum model_expert_part part = (enum model_expert_part)p;
        char name[GGUF_NAME_MAX + 1];
        snprintf(name, sizeof name, "blk.%u.%s_exps.weight", layer,
                 part_name[part]);
        const struct gguf_tensor *t = gguf_find_tensor(m->gguf, name);
        enum status st = ST_OK;
        if (t) {
            st = check_shape(t, part_k(m, part), part_rows(m, part),
                             m->n_expert, err);
        }
        for (uint32_t e = 0; !t && st == ST_OK && e < m->n_expert; e++) {
            snprintf(name, sizeof name, "blk.%u.%s.%u.weight", layer,
                     part_name[part], e);
            const struct gguf_tensor *one;
            st = find(m, name, true, &one, err);
            if (st == ST_OK) {
                st = check_shape(one, part_k(m, part), part_rows(m, part), 1,
                                 err);
            }
        }
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

struct model_matrix model_expert(const struct model *m, uint32_t layer,
                                 uint32_t expert, enum model_expert_part part)
{
    const uint32_t rows = part_rows(m, part), k = part_k(m, part);
    char name[GGUF_NAME_MAX + 1];
    snprintf(name, sizeof name, "blk.%u.%s_exps.weight", layer,
             part_name[part]);
    const struct gguf_tensor *t = gguf_find_tensor(m->gguf, name);
    if (t) {
        const uint64_t bytes =
            rows * quant_row_bytes((enum quant_type)t->type, k);
        return (struct model_matrix){t, expert * bytes, rows, k};
    }
    snprintf(name, sizeof name, "blk.%u.%s.%u.weight", layer, part_name[part],
             expert);
    return (struct model_matrix){gguf_find_tensor(m->gguf, name), 0, rows, k};
}

static enum status read_layer(const struct model *m, uint32_t i,
                              struct model_layer *l, struct error *err)
{
    const uint32_t nq = m->n_head * m->head_dim;
    const uint32_t nkv = m->n_head_kv * m->head_dim;
    const bool moe = m->n_expert != 0;
    const struct {
        const char *name;
        struct model_matrix *to;
        uint32_t rows, k;
        bool needed;
    } want[] = {
        {"attn_q", &l->q, nq, m->n_embd, true},
        {"attn_k", &l->k, nkv, m->n_embd, true},
        {"attn_v", &l->v, nkv, m->n_embd, true},
        {"attn_output", &l->o, m->n_embd, nq, true},
        {"ffn_gate", &l->gate, m->n_ff, m->n_embd, !moe},
        {"ffn_up", &l->up, m->n_ff, m->n_embd, !moe},
        {"ffn_down", &l->down, m->n_embd, m->n_ff, !moe},
        {"ffn_gate_inp", &l->router, m->n_expert, m->n_embd, moe},
    };
    char name[GGUF_NAME_MAX + 1];
    enum status st;
    for (size_t j = 0; j < COUNT_OF(want); j++) {
        if (!want[j].needed) continue;
        snprintf(name, sizeof name, "blk.%u.%s.weight", i, want[j].name);
        st = matrix(m, name, true, want[j].rows, want[j].k, want[j].to, err);
        if (st != ST_OK) return st;
    }
    snprintf(name, sizeof name, "blk.%u.attn_norm.weight", i);
    st = vector(m, name, true, m->n_embd, &l->attn_norm, err);
    if (st != ST_OK) return st;
    snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", i);
    st = vector(m, name, true, m->n_embd, &l->ffn_norm, err);
    if (st != ST_OK) return st;
    return moe ? check_experts(m, i, err) : ST_OK;
}

static bool is_one_of(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, list[i]) == 0) return true;
    }
    return false;
}

/* name after a number below `end` and a dot, NULL if there is none. */
static const char *after_number(const char *name, uint32_t end)
{
    uint32_t v = 0;
    const char *s = name;
    if (*s == '0' && s[1] != '.') return NULL; /* as files spell it */
    for (; *s >= '0' && *s <= '9' && v < end; s++) {
        v = 10 * v + (uint32_t)(*s - '0');
    }
    return s != name && v < end && *s == '.' ? s + 1 : NULL;
}

/* Whether the computation reads this tensor of a layer, name without "blk.N.":
 * no bias, and nothing of a feed-forward of the other kind. */
static bool knows_layer_tensor(const struct model *m, const char *name)
{
    static const char *const all[] = {
        "attn_norm.weight", "ffn_norm.weight", "attn_q.weight",
        "attn_k.weight",    "attn_v.weight",   "attn_output.weight",
        "attn_rot_embd" /* older files: a table that nobody reads */};
    static const char *const dense[] = {"ffn_gate.weight", "ffn_up.weight",
                                        "ffn_down.weight"};
    static const char *const experts[] = {
        "ffn_gate_inp.weight", "ffn_gate_exps.weight", "ffn_up_exps.weight",
        "ffn_down_exps.weight"};
    if (is_one_of(name, all, COUNT_OF(all))) return true;
    if (m->n_expert == 0) return is_one_of(name, dense, COUNT_OF(dense));
    if (is_one_of(name, experts, COUNT_OF(experts))) return true;
    for (int p = EXPERT_GATE; p <= EXPERT_DOWN; p++) { /* ffn_gate.7.weight */
        const size_t n = strlen(part_name[p]);
        if (strncmp(name, part_name[p], n) != 0 || name[n] != '.') continue;
        const char *rest = after_number(name + n + 1, m->n_expert);
        if (rest && strcmp(rest, "weight") == 0) return true;
    }
    return false;
}

/* A tensor that we do not know would mean a computation that we do not do:
 * refuse it by name. */
static enum status refuse_unknown(const struct model *m, struct error *err)
{
    static const char *const whole[] = {"token_embd.weight",
                                        "output_norm.weight", "output.weight",
                                        "rope_freqs.weight"};
    for (uint32_t i = 0; i < gguf_n_tensors(m->gguf); i++) {
        const char *name = gguf_tensor(m->gguf, i)->name;
        const char *rest = strncmp(name, "blk.", 4) == 0
                               ? after_number(name + 4, m->n_layer)
                               : NULL;
        const bool known = rest ? knows_layer_tensor(m, rest)
                                : is_one_of(name, whole, COUNT_OF(whole));
        if (!known) {
            return error_set(err, ST_UNSUPPORTED,
                             "tensor %s is not part of a \"%s\" model as this "
                             "version knows it",
                             name, m->arch);
        }
    }
    return ST_OK;
}

static enum status read_tensors(struct model *m, struct error *err)
{
    const struct gguf_tensor *embed;
    enum status st = find(m, "token_embd.weight", true, &embed, err);
    if (st != ST_OK) return st;
    if (embed->ne[1] > MODEL_VOCAB_MAX) {
        return error_set(err, ST_TOO_LARGE,
                         "a vocabulary of %llu tokens is over the limit of %d",
                         (unsigned long long)embed->ne[1], MODEL_VOCAB_MAX);
    }
    m->n_vocab = (uint32_t)embed->ne[1];
    st = matrix(m, "token_embd.weight", true, m->n_vocab, m->n_embd, &m->embed,
                err);
    if (st != ST_OK) return st;
    st =
        matrix(m, "output.weight", false, m->n_vocab, m->n_embd, &m->head, err);
    if (st != ST_OK) return st;
    m->tied = m->head.tensor == NULL;
    if (m->tied) m->head = m->embed;
    st = vector(m, "output_norm.weight", true, m->n_embd, &m->output_norm, err);
    if (st != ST_OK) return st;
    st = vector(m, "rope_freqs.weight", false, m->n_rot / 2, &m->rope_freqs,
                err);
    if (st != ST_OK) return st;
    m->layers = mem_zalloc_array(m->n_layer, sizeof *m->layers);
    if (!m->layers) {
        return error_set(err, ST_NO_MEMORY, "description of %u layers",
                         m->n_layer);
    }
    for (uint32_t i = 0; i < m->n_layer; i++) {
        st = read_layer(m, i, &m->layers[i], err);
        if (st != ST_OK) return st;
    }
    return refuse_unknown(m, err);
}

enum status model_describe(struct model *out, const struct gguf *g,
                           struct error *err)
{
    struct model m = {.gguf = g};
    struct gguf_str arch, name;
    enum status st = gguf_get_str(g, "general.architecture", &arch, err);
    if (st != ST_OK) return st;
    if (arch.len != 5 || memcmp(arch.data, "llama", 5) != 0) {
        return error_set(
            err, ST_UNSUPPORTED,
            "architecture \"%.*s\" is not supported yet; \"llama\" "
            "is",
            (int)(arch.len < 40 ? arch.len : 40), arch.data);
    }
    memcpy(m.arch, arch.data, arch.len);
    if (gguf_get_str(g, "general.name", &name, NULL) == ST_OK) {
        snprintf(m.name, sizeof m.name, "%.*s",
                 (int)(name.len < sizeof m.name ? name.len : sizeof m.name - 1),
                 name.data);
    }
    st = read_keys(&m, err);
    if (st == ST_OK) st = read_tensors(&m, err);
    if (st != ST_OK) {
        model_fini(&m);
        return st;
    }
    *out = m;
    return ST_OK;
}

void model_fini(struct model *m)
{
    mem_free(m->layers);
    *m = (struct model){0};
}

static uint64_t matrix_bytes(const struct model_matrix *w)
{
    if (!w->tensor) return 0;
    return w->n_rows * quant_row_bytes((enum quant_type)w->tensor->type, w->k);
}

uint64_t model_active_bytes(const struct model *m)
{
    uint64_t n = matrix_bytes(&m->head);
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct model_layer *l = &m->layers[i];
        n += matrix_bytes(&l->q) + matrix_bytes(&l->k) + matrix_bytes(&l->v) +
             matrix_bytes(&l->o) + matrix_bytes(&l->gate) +
             matrix_bytes(&l->up) + matrix_bytes(&l->down) +
             matrix_bytes(&l->router);
        for (int p = EXPERT_GATE; m->n_expert != 0 && p <= EXPERT_DOWN; p++) {
            const struct model_matrix e =
                model_expert(m, i, 0, (enum model_expert_part)p);
            n += m->n_expert_used * matrix_bytes(&e);
        }
    }
    return n;
}

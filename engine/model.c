/* model.c - the tensors of a model: each one there, of the right shape and of
 * a type that we know, and none beside them. */
#include "engine/model.h"

#include <stdio.h>
#include <string.h>

#include "engine/model_keys.h"

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

/* ------------------------------------------------------------ vectors */

/* In file order of the names; the length is one of four. */
static const struct {
    const char *name; /* after "blk.N." */
    enum { LEN_EMBD, LEN_HEAD, LEN_Q, LEN_KV, LEN_FF } len;
} vectors[VEC_END] = {
    [VEC_ATTN_NORM] = {"attn_norm.weight", LEN_EMBD},
    [VEC_FFN_NORM] = {"ffn_norm.weight", LEN_EMBD},
    [VEC_ATTN_POST_NORM] = {"post_attention_norm.weight", LEN_EMBD},
    [VEC_FFN_POST_NORM] = {"post_ffw_norm.weight", LEN_EMBD},
    [VEC_Q_NORM] = {"attn_q_norm.weight", LEN_HEAD},
    [VEC_K_NORM] = {"attn_k_norm.weight", LEN_HEAD},
    [VEC_Q_BIAS] = {"attn_q.bias", LEN_Q},
    [VEC_K_BIAS] = {"attn_k.bias", LEN_KV},
    [VEC_V_BIAS] = {"attn_v.bias", LEN_KV},
    [VEC_O_BIAS] = {"attn_output.bias", LEN_EMBD},
    [VEC_GATE_BIAS] = {"ffn_gate.bias", LEN_FF},
    [VEC_UP_BIAS] = {"ffn_up.bias", LEN_FF},
    [VEC_DOWN_BIAS] = {"ffn_down.bias", LEN_EMBD},
};

uint32_t model_vector_length(const struct model *m, enum model_vector v)
{
    switch (vectors[v].len) {
    case LEN_HEAD:
        return m->head_dim;
    case LEN_Q:
        return m->n_head * m->head_dim;
    case LEN_KV:
        return m->n_head_kv * m->head_dim;
    case LEN_FF:
        return m->n_ff;
    case LEN_EMBD:
    default:
        return m->n_embd;
    }
}

static enum presence vector_presence(const struct model *m,
                                     const struct model_arch *arch,
                                     enum model_vector v)
{
    switch (v) {
    case VEC_ATTN_NORM:
    case VEC_FFN_NORM:
        return NEEDED;
    case VEC_ATTN_POST_NORM:
    case VEC_FFN_POST_NORM:
        return arch->post_norm;
    case VEC_Q_NORM:
    case VEC_K_NORM:
        return arch->qk_norm;
    case VEC_Q_BIAS:
    case VEC_K_BIAS:
    case VEC_V_BIAS:
        return arch->qkv_bias;
    case VEC_O_BIAS:
        return arch->other_bias;
    case VEC_GATE_BIAS:
    case VEC_UP_BIAS:
    case VEC_DOWN_BIAS:
        return m->n_expert == 0 ? arch->other_bias : ABSENT;
    case VEC_END:
    default:
        return ABSENT;
    }
}

static enum status read_vectors(const struct model *m,
                                const struct model_arch *arch, uint32_t i,
                                struct model_layer *l, struct error *err)
{
    for (int j = 0; j < VEC_END; j++) {
        const enum model_vector v = (enum model_vector)j;
        const enum presence p = vector_presence(m, arch, v);
        if (p == ABSENT) continue;
        char name[GGUF_NAME_MAX + 1];
        snprintf(name, sizeof name, "blk.%u.%s", i, vectors[v].name);
        const enum status st = vector(
            m, name, p == NEEDED, model_vector_length(m, v), &l->vec[v], err);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

static enum status read_layer(const struct model *m,
                              const struct model_arch *arch, uint32_t i,
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
    l->window = model_is_local(arch, i) ? m->window : 0;
    st = read_vectors(m, arch, i, l, err);
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
 * no vector of another architecture, and nothing of a feed-forward of the
 * other kind. */
static bool knows_layer_tensor(const struct model *m,
                               const struct model_arch *arch, const char *name)
{
    static const char *const all[] = {
        "attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight",
        "attn_rot_embd" /* older files: a table that nobody reads */};
    static const char *const dense[] = {"ffn_gate.weight", "ffn_up.weight",
                                        "ffn_down.weight"};
    static const char *const experts[] = {
        "ffn_gate_inp.weight", "ffn_gate_exps.weight", "ffn_up_exps.weight",
        "ffn_down_exps.weight"};
    if (is_one_of(name, all, COUNT_OF(all))) return true;
    for (int v = 0; v < VEC_END; v++) {
        if (strcmp(name, vectors[v].name) == 0) {
            return vector_presence(m, arch, (enum model_vector)v) != ABSENT;
        }
    }
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
static enum status refuse_unknown(const struct model *m,
                                  const struct model_arch *arch,
                                  struct error *err)
{
    static const char *const whole[] = {"token_embd.weight",
                                        "output_norm.weight", "output.weight",
                                        "rope_freqs.weight"};
    for (uint32_t i = 0; i < gguf_n_tensors(m->gguf); i++) {
        const char *name = gguf_tensor(m->gguf, i)->name;
        const char *rest = strncmp(name, "blk.", 4) == 0
                               ? after_number(name + 4, m->n_layer)
                               : NULL;
        const bool known = rest ? knows_layer_tensor(m, arch, rest)
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

/* Tokens that the tokenizer does not know could be chosen but not said, those
 * that the embedding lacks not be read. */
static enum status check_vocabulary(const struct model *m, struct error *err)
{
    uint64_t n = m->n_vocab;
    const struct gguf_array *tokens;
    enum status st = gguf_get_array(m->gguf, "tokenizer.ggml.tokens",
                                    GGUF_TYPE_END, &tokens, err);
    if (st == ST_OK) n = gguf_array_len(tokens);
    if (st != ST_OK && st != ST_NOT_FOUND) return st;
    if (n == m->n_vocab) return ST_OK;
    return error_set(err, ST_INVALID,
                     "tokenizer.ggml.tokens has %llu tokens, "
                     "token_embd.weight %u rows",
                     (unsigned long long)n, m->n_vocab);
}

static enum status read_tensors(struct model *m, const struct model_arch *arch,
                                struct error *err)
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
    if (st == ST_OK) st = check_vocabulary(m, err);
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
        st = read_layer(m, arch, i, &m->layers[i], err);
        if (st != ST_OK) return st;
    }
    return refuse_unknown(m, arch, err);
}

enum status model_describe(struct model *out, const struct gguf *g,
                           struct error *err)
{
    struct model m = {.gguf = g};
    const struct model_arch *arch = NULL;
    struct gguf_str name;
    if (gguf_get_str(g, "general.name", &name, NULL) == ST_OK) {
        snprintf(m.name, sizeof m.name, "%.*s",
                 (int)(name.len < sizeof m.name ? name.len : sizeof m.name - 1),
                 name.data);
    }
    enum status st = model_read_keys(&m, &arch, err);
    if (st == ST_OK) st = read_tensors(&m, arch, err);
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
    uint64_t n = matrix_bytes(&m->head) + m->output_norm->n_bytes;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct model_layer *l = &m->layers[i];
        n += matrix_bytes(&l->q) + matrix_bytes(&l->k) + matrix_bytes(&l->v) +
             matrix_bytes(&l->o) + matrix_bytes(&l->gate) +
             matrix_bytes(&l->up) + matrix_bytes(&l->down) +
             matrix_bytes(&l->router);
        for (int v = 0; v < VEC_END; v++) {
            if (l->vec[v]) n += l->vec[v]->n_bytes;
        }
        for (int p = EXPERT_GATE; m->n_expert != 0 && p <= EXPERT_DOWN; p++) {
            const struct model_matrix e =
                model_expert(m, i, 0, (enum model_expert_part)p);
            n += m->n_expert_used * matrix_bytes(&e);
        }
    }
    return n;
}

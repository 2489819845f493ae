#include "tests/lib/naive.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"

#define EXPERTS_MAX 256

struct tensor {
    float *w; /* [rows][k] */
    uint64_t k, rows;
    uint32_t block; /* values that share a scale; 1: not quantized */
};

struct layer {
    struct tensor attn_norm, q, k, v, o, ffn_norm, router, gate, up, down;
    struct tensor q_bias, k_bias, v_bias, o_bias, gate_bias, up_bias, down_bias;
    struct tensor q_norm, k_norm, attn_post, ffn_post;
    uint32_t window;       /* 0: none */
    double *keys, *values; /* [n_ctx][n_head_kv * head_dim] */
};

struct naive {
    uint32_t n_layer, n_embd, n_head, n_head_kv, head_dim, n_ff, n_vocab;
    uint32_t n_expert, n_expert_used, n_ctx;
    char arch[16];
    bool gemma, halves;
    uint32_t n_rot, window, n_ctx_orig;
    bool yarn;
    float eps, rope_base, rope_factor, attn_factor, beta_fast, beta_slow;
    float attn_cap, final_cap;
    double embed_scale, query_scale;
    struct tensor embd, output_norm, head, factors; /* head.w NULL: tied */
    struct layer *layers;
    enum naive_rounding rounding;
    /* one position */
    double *x, *h, *q, *att, *gate, *up, *y, *score, *logits;
    double *rounded; /* as long as the longest factor of a product */
};

/* ---------------------------------------------------------- loading */

struct want {
    struct tensor *to;
    const char *name;
    uint64_t k, rows; /* rows 0: any number */
    bool required;
};

static enum status load(const struct gguf *g, const struct want *want,
                        struct error *err)
{
    const char *const name = want->name;
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    if (!t && !want->required) return ST_OK;
    if (!t) return error_set(err, ST_NOT_FOUND, "no tensor %s", name);
    if (!quant_info(t->type)) {
        return error_set(err, ST_UNSUPPORTED, "%s: type %s", name,
                         quant_name(t->type));
    }
    const uint64_t k = t->ne[0], rows = t->ne[1] * t->ne[2] * t->ne[3];
    if (k == 0 || k != want->k || (want->rows && rows != want->rows)) {
        return error_set(err, ST_INVALID, "%s: wrong shape", name);
    }
    const size_t row_bytes = (size_t)quant_row_bytes(t->type, k);
    float *w = mem_zalloc_array(rows * k, sizeof *w);
    uint8_t *row = mem_alloc(row_bytes);
    enum status st = ST_OK;
    if (!w || !row) st = error_set(err, ST_NO_MEMORY, "%s", name);
    for (uint64_t i = 0; i < rows && st == ST_OK; i++) {
        st = gguf_read(g, t, i * row_bytes, row, row_bytes, err);
        if (st == ST_OK) quant_dequantize_row(t->type, row, w + i * k, k);
    }
    mem_free(row);
    if (st != ST_OK) {
        mem_free(w);
        return st;
    }
    *want->to = (struct tensor){w, k, rows, quant_info(t->type)->block};
    return ST_OK;
}

static enum status load_layer(struct naive *n, const struct gguf *g,
                              uint32_t index, struct error *err)
{
    struct layer *l = &n->layers[index];
    const bool moe = n->n_expert > 0;
    const uint64_t e = n->n_embd, ff = n->n_ff, ne = moe ? n->n_expert : 1;
    const uint64_t q = (uint64_t)n->n_head * n->head_dim;
    const uint64_t kv = (uint64_t)n->n_head_kv * n->head_dim;
    const struct want list[] = {
        {&l->attn_norm, "attn_norm", e, 1, true},
        {&l->q, "attn_q", e, q, true},
        {&l->k, "attn_k", e, kv, true},
        {&l->v, "attn_v", e, kv, true},
        {&l->o, "attn_output", q, e, true},
        {&l->ffn_norm, "ffn_norm", e, 1, true},
        {&l->router, "ffn_gate_inp", e, ne, moe},
        {&l->gate, moe ? "ffn_gate_exps" : "ffn_gate", e, ne * ff, true},
        {&l->up, moe ? "ffn_up_exps" : "ffn_up", e, ne * ff, true},
        {&l->down, moe ? "ffn_down_exps" : "ffn_down", ff, ne * e, true},
        {&l->q_norm, "attn_q_norm", n->head_dim, 1, false},
        {&l->k_norm, "attn_k_norm", n->head_dim, 1, false},
        {&l->attn_post, "post_attention_norm", e, 1, false},
        {&l->ffn_post, "post_ffw_norm", e, 1, false},
        {&l->q_bias, "attn_q.bias", q, 1, false},
        {&l->k_bias, "attn_k.bias", kv, 1, false},
        {&l->v_bias, "attn_v.bias", kv, 1, false},
        {&l->o_bias, "attn_output.bias", e, 1, false},
        {&l->gate_bias, "ffn_gate.bias", ff, 1, false},
        {&l->up_bias, "ffn_up.bias", ff, 1, false},
        {&l->down_bias, "ffn_down.bias", e, 1, false},
    };
    /* Gemma 2: every second layer, the first one included */
    l->window = n->gemma && index % 2 == 1 ? 0 : n->window;
    for (size_t i = 0; i < COUNT_OF(list); i++) {
        char name[64];
        struct want want = list[i];
        snprintf(name, sizeof name, "blk.%u.%s%s", index, want.name,
                 strchr(want.name, '.') ? "" : ".weight");
        want.name = name;
        enum status st = load(g, &want, err);
        if (st != ST_OK) return st;
    }
    const size_t positions = n->n_ctx;
    l->keys = mem_zalloc_array(positions * kv, sizeof(double));
    l->values = mem_zalloc_array(positions * kv, sizeof(double));
    if (!l->keys || !l->values) return error_set(err, ST_NO_MEMORY, "KV");
    return ST_OK;
}

/* "ARCH.rest", absent allowed where not required. */
static enum status u32_key(const struct naive *n, const struct gguf *g,
                           const char *rest, bool required, uint32_t *to,
                           struct error *err)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", n->arch, rest);
    const enum status st = gguf_get_u32(g, key, to, err);
    return st == ST_NOT_FOUND && !required ? ST_OK : st;
}

static enum status f32_key(const struct naive *n, const struct gguf *g,
                           const char *rest, bool required, float *to,
                           struct error *err)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", n->arch, rest);
    const enum status st = gguf_get_f32(g, key, to, err);
    return st == ST_NOT_FOUND && !required ? ST_OK : st;
}

static enum status check_numbers(struct naive *n, struct error *err)
{
    if (!n->n_layer || !n->n_head || !n->n_head_kv || !n->n_ff ||
        n->n_head % n->n_head_kv != 0) {
        return error_set(err, ST_INVALID, "no layers, heads or feed-forward");
    }
    if (!n->head_dim) n->head_dim = n->n_embd / n->n_head;
    if (!n->n_rot) n->n_rot = n->head_dim;
    if (n->head_dim < 2 || n->head_dim % 2 != 0 || n->n_rot > n->head_dim) {
        return error_set(err, ST_INVALID, "heads of %u", n->head_dim);
    }
    if (n->n_expert > EXPERTS_MAX || n->n_expert_used > n->n_expert ||
        (n->n_expert > 0) != (n->n_expert_used > 0)) {
        return error_set(err, ST_INVALID, "%u of %u experts", n->n_expert_used,
                         n->n_expert);
    }
    return ST_OK;
}

/* What the architecture says by itself. */
static enum status read_arch(struct naive *n, const struct gguf *g,
                             struct error *err)
{
    struct gguf_str name;
    const enum status st = gguf_get_str(g, "general.architecture", &name, err);
    if (st != ST_OK) return st;
    snprintf(n->arch, sizeof n->arch, "%.*s", (int)name.len, name.data);
    n->gemma = strcmp(n->arch, "gemma2") == 0;
    n->halves = strcmp(n->arch, "llama") != 0;
    n->rope_base = 10000;
    n->rope_factor = n->attn_factor = 1;
    n->beta_fast = 32;
    n->beta_slow = 1;
    if (n->gemma) {
        n->attn_cap = 50;
        n->final_cap = 30;
        n->window = 4096;
    }
    return ST_OK;
}

static enum status read_keys(struct naive *n, const struct gguf *g,
                             struct error *err)
{
    const struct {
        uint32_t *to;
        const char *key;
        bool required;
    } list[] = {
        {&n->n_layer, "block_count", true},
        {&n->n_embd, "embedding_length", true},
        {&n->n_head, "attention.head_count", true},
        {&n->n_head_kv, "attention.head_count_kv", true},
        {&n->n_ff, "feed_forward_length", true},
        {&n->n_ff, "expert_feed_forward_length", false},
        {&n->head_dim, "attention.key_length", false},
        {&n->n_rot, "rope.dimension_count", false},
        {&n->window, "attention.sliding_window", false},
        {&n->n_ctx_orig, "context_length", true},
        {&n->n_ctx_orig, "rope.scaling.original_context_length", false},
        {&n->n_expert, "expert_count", false},
        {&n->n_expert_used, "expert_used_count", false},
    };
    const struct {
        float *to;
        const char *key;
    } floats[] = {
        {&n->rope_base, "rope.freq_base"},
        {&n->rope_factor, "rope.scaling.factor"},
        {&n->attn_factor, "rope.scaling.attn_factor"},
        {&n->beta_fast, "rope.scaling.yarn_beta_fast"},
        {&n->beta_slow, "rope.scaling.yarn_beta_slow"},
        {&n->attn_cap, "attn_logit_softcapping"},
        {&n->final_cap, "final_logit_softcapping"},
        {&n->eps, "attention.layer_norm_rms_epsilon"},
    };
    enum status st = read_arch(n, g, err);
    for (size_t i = 0; i < COUNT_OF(list) && st == ST_OK; i++) {
        st = u32_key(n, g, list[i].key, list[i].required, list[i].to, err);
    }
    for (size_t i = 0; i < COUNT_OF(floats) && st == ST_OK; i++) {
        st = f32_key(n, g, floats[i].key, false, floats[i].to, err);
    }
    if (st == ST_OK) st = check_numbers(n, err);
    if (st != ST_OK) return st;
    char key[96];
    struct gguf_str type;
    snprintf(key, sizeof key, "%s.rope.scaling.type", n->arch);
    n->yarn = gguf_get_str(g, key, &type, NULL) == ST_OK && type.len == 4 &&
              memcmp(type.data, "yarn", 4) == 0;
    n->embed_scale = n->gemma ? sqrt(n->n_embd) : 1;
    n->query_scale =
        1 / sqrt(n->gemma && n->n_layer == 46 ? (double)(n->n_embd / n->n_head)
                                              : (double)n->head_dim);
    return ST_OK;
}

static enum status load_all(struct naive *n, const struct gguf *g,
                            struct error *err)
{
    const uint64_t e = n->n_embd;
    const struct want whole[] = {
        {&n->embd, "token_embd.weight", e, 0, true},
        {&n->head, "output.weight", e, 0, false},
        {&n->factors, "rope_freqs.weight", n->n_rot / 2, 1, false},
        {&n->output_norm, "output_norm.weight", e, 1, true},
    };
    enum status st = ST_OK;
    for (size_t i = 0; i < COUNT_OF(whole) && st == ST_OK; i++) {
        st = load(g, &whole[i], err);
    }
    if (st == ST_OK && n->head.w && n->head.rows != n->embd.rows) {
        return error_set(err, ST_INVALID, "output.weight: wrong shape");
    }
    for (uint32_t i = 0; i < n->n_layer && st == ST_OK; i++) {
        st = load_layer(n, g, i, err);
    }
    if (st != ST_OK) return st;
    n->n_vocab = (uint32_t)n->embd.rows;
    const size_t n_q = (size_t)n->n_head * n->head_dim;
    const size_t longest = n_q > n->n_embd ? n_q : n->n_embd;
    const struct {
        double **to;
        size_t len;
    } list[] = {{&n->x, n->n_embd},
                {&n->h, n->n_embd},
                {&n->q, n_q},
                {&n->att, n_q},
                {&n->gate, n->n_ff},
                {&n->up, n->n_ff},
                {&n->y, n->n_embd},
                {&n->score, n->n_ctx},
                {&n->logits, n->n_vocab},
                {&n->rounded, longest > n->n_ff ? longest : n->n_ff}};
    for (size_t i = 0; i < COUNT_OF(list); i++) {
        *list[i].to = mem_zalloc_array(list[i].len, sizeof(double));
        if (!*list[i].to) return error_set(err, ST_NO_MEMORY, "vectors");
    }
    return ST_OK;
}

enum status naive_create(struct naive **out, const struct gguf *g,
                         uint32_t n_ctx, struct error *err)
{
    struct naive *n = mem_zalloc(sizeof *n);
    if (!n) return error_set(err, ST_NO_MEMORY, "a naive model");
    n->n_ctx = n_ctx;
    enum status st = read_keys(n, g, err);
    if (st != ST_OK) goto fail;
    n->layers = mem_zalloc_array(n->n_layer, sizeof *n->layers);
    if (!n->layers) {
        st = error_set(err, ST_NO_MEMORY, "%u layers", n->n_layer);
        goto fail;
    }
    st = load_all(n, g, err);
    if (st != ST_OK) goto fail;
    *out = n;
    return ST_OK;
fail:
    naive_free(n);
    return st;
}

void naive_free(struct naive *n)
{
    if (!n) return;
    for (uint32_t i = 0; n->layers && i < n->n_layer; i++) {
        struct layer *l = &n->layers[i];
        void *const all[] = {
            l->attn_norm.w, l->q.w,        l->k.w,         l->v.w,
            l->o.w,         l->ffn_norm.w, l->router.w,    l->gate.w,
            l->up.w,        l->down.w,     l->q_bias.w,    l->k_bias.w,
            l->v_bias.w,    l->o_bias.w,   l->gate_bias.w, l->up_bias.w,
            l->down_bias.w, l->q_norm.w,   l->k_norm.w,    l->attn_post.w,
            l->ffn_post.w,  l->keys,       l->values};
        for (size_t j = 0; j < COUNT_OF(all); j++) mem_free(all[j]);
    }
    void *const all[] = {n->embd.w, n->output_norm.w,
                         n->head.w, n->factors.w,
                         n->layers, n->x,
                         n->h,      n->q,
                         n->att,    n->gate,
                         n->up,     n->y,
                         n->score,  n->rounded,
                         n->logits, n};
    for (size_t j = 0; j < COUNT_OF(all); j++) mem_free(all[j]);
}

void naive_round(struct naive *n, enum naive_rounding rounding)
{
    n->rounding = rounding;
}

uint32_t naive_n_vocab(const struct naive *n)
{
    return n->n_vocab;
}

/* ---------------------------------------------------------- forward */

static double through_f16(double x)
{
    return (double)f16_to_f32(f32_to_f16((float)x));
}

/* NUMERICS 3, in doubles where that is not what makes the difference. */
static void round_blocks(const double *x, uint64_t k, uint32_t block,
                         enum naive_rounding rounding, double *y)
{
    for (uint64_t from = 0; from < k; from += block) {
        const uint64_t end = k - from < block ? k : from + block;
        double amax = 0;
        for (uint64_t i = from; i < end; i++) amax = fmax(amax, fabs(x[i]));
        const double d = amax / 127;
        const double kept = rounding == NAIVE_BLOCKS_F16 && block == 32
                                ? through_f16(d)
                                : (double)(float)d;
        for (uint64_t i = from; i < end; i++) {
            y[i] = d > 0 ? kept * rint(x[i] / d) : 0;
        }
    }
}

/* y = W x for m rows from `first` on. */
static void product(const struct naive *n, const struct tensor *t,
                    uint64_t first, uint64_t m, const double *x, double *y)
{
    if (n->rounding != NAIVE_EXACT && t->block > 1) {
        round_blocks(x, t->k, t->block, n->rounding, n->rounded);
        x = n->rounded;
    }
    for (uint64_t r = 0; r < m; r++) {
        const float *w = t->w + (first + r) * t->k;
        double sum = 0;
        for (uint64_t i = 0; i < t->k; i++) sum += (double)w[i] * x[i];
        y[r] = sum;
    }
}

/* x += b; nothing where there is none. */
static void bias(const struct tensor *b, double *x)
{
    for (uint64_t i = 0; b->w && i < b->k; i++) x[i] += (double)b->w[i];
}

static void rmsnorm(const struct naive *n, const double *x,
                    const struct tensor *w, double *y)
{
    double ss = 0;
    for (uint64_t i = 0; i < w->k; i++) ss += x[i] * x[i];
    const double r = 1 / sqrt(ss / (double)w->k + (double)n->eps);
    for (uint64_t i = 0; i < w->k; i++) y[i] = x[i] * r * (double)w->w[i];
}

/* The pair that turns beta times in the original context. */
static double yarn_pair(const struct naive *n, double beta)
{
    return n->n_rot * log(n->n_ctx_orig / (beta * 2 * acos(-1))) /
           (2 * log((double)n->rope_base));
}

static double angle_of(const struct naive *n, uint32_t i, uint32_t pos,
                       enum naive_mistake mistake)
{
    double angle = pos * pow((double)n->rope_base, -2.0 * i / n->n_rot);
    if (n->factors.w && mistake != NAIVE_NO_FACTORS) {
        angle /= (double)n->factors.w[i];
    }
    const double scaled = angle / (double)n->rope_factor;
    if (!n->yarn) return scaled;
    const double low = fmax(0, floor(yarn_pair(n, (double)n->beta_fast)));
    const double high =
        fmin(n->n_rot - 1, ceil(yarn_pair(n, (double)n->beta_slow)));
    double share = (i - low) / fmax(0.001, high - low);
    share = fmin(1, fmax(0, share));
    return scaled * share + angle * (1 - share);
}

static void rope(const struct naive *n, double *x, uint32_t pos,
                 enum naive_mistake mistake)
{
    const uint32_t d = n->n_rot;
    const bool half = n->halves != (mistake == NAIVE_HALF_ROPE);
    double size = (double)n->attn_factor;
    if (n->yarn) size *= 1 + 0.1 * log((double)n->rope_factor);
    for (uint32_t i = 0; i < d / 2; i++) {
        const double angle = angle_of(n, i, pos, mistake);
        double *const a = &x[half ? i : 2 * i];
        double *const b = &x[half ? i + d / 2 : 2 * i + 1];
        const double c = size * cos(angle), s = size * sin(angle), a0 = *a;
        *a = a0 * c - *b * s;
        *b = a0 * s + *b * c;
    }
}

static double capped(double x, float cap)
{
    return cap > 0 ? (double)cap * tanh(x / (double)cap) : x;
}

static void softmax(double *x, uint32_t n)
{
    double max = x[0], sum = 0;
    for (uint32_t i = 1; i < n; i++) max = fmax(max, x[i]);
    for (uint32_t i = 0; i < n; i++) sum += x[i] = exp(x[i] - max);
    for (uint32_t i = 0; i < n; i++) x[i] /= sum;
}

/* Head h, whose keys and values are those of KV head g. */
static void attend(struct naive *n, const struct layer *l, uint32_t pos,
                   uint32_t h, uint32_t g)
{
    const uint32_t d = n->head_dim, n_kv = n->n_head_kv * d;
    const double *const q = n->q + (size_t)h * d;
    double *const o = n->att + (size_t)h * d;
    const uint32_t first =
        l->window && pos >= l->window ? pos - l->window + 1 : 0;
    for (uint32_t t = first; t <= pos; t++) {
        const double *const k = l->keys + (size_t)t * n_kv + (size_t)g * d;
        double s = 0;
        for (uint32_t i = 0; i < d; i++) s += q[i] * k[i];
        n->score[t] = capped(s * n->query_scale, n->attn_cap);
    }
    softmax(n->score + first, pos + 1 - first);
    memset(o, 0, d * sizeof *o);
    for (uint32_t t = first; t <= pos; t++) {
        const double *const v = l->values + (size_t)t * n_kv + (size_t)g * d;
        for (uint32_t i = 0; i < d; i++) o[i] += n->score[t] * v[i];
    }
}

static void attention(struct naive *n, const struct layer *l, uint32_t pos,
                      enum naive_mistake mistake)
{
    const uint32_t d = n->head_dim, n_kv = n->n_head_kv * d;
    double *const k = l->keys + (size_t)pos * n_kv;
    product(n, &l->q, 0, l->q.rows, n->h, n->q);
    product(n, &l->k, 0, n_kv, n->h, k);
    product(n, &l->v, 0, n_kv, n->h, l->values + (size_t)pos * n_kv);
    bias(&l->q_bias, n->q);
    bias(&l->k_bias, k);
    bias(&l->v_bias, l->values + (size_t)pos * n_kv);
    for (uint32_t h = 0; l->q_norm.w && h < n->n_head; h++) {
        rmsnorm(n, n->q + (size_t)h * d, &l->q_norm, n->q + (size_t)h * d);
    }
    for (uint32_t g = 0; l->k_norm.w && g < n->n_head_kv; g++) {
        rmsnorm(n, k + (size_t)g * d, &l->k_norm, k + (size_t)g * d);
    }
    for (uint32_t g = 0; g < n->n_head_kv; g++) {
        const uint32_t shared = n->n_head / n->n_head_kv;
        rope(n, k + (size_t)g * d, pos, mistake);
        for (uint32_t h = g * shared; h < (g + 1) * shared; h++) {
            rope(n, n->q + (size_t)h * d, pos, mistake);
            attend(n, l, pos, h, g);
        }
    }
    product(n, &l->o, 0, n->n_embd, n->att, n->y);
    bias(&l->o_bias, n->y);
    if (l->attn_post.w) rmsnorm(n, n->y, &l->attn_post, n->y);
    for (uint32_t i = 0; i < n->n_embd; i++) n->x[i] += n->y[i];
}

/* SiLU, or GELU in its tanh form, rounded as llama.cpp's table is. */
static double activation(const struct naive *n, double x)
{
    if (!n->gemma) return x / (1 + exp(-x));
    if (x >= 10) return x;
    if (x <= -10) return 0;
    x = through_f16(x);
    const double inner = sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x);
    return through_f16(0.5 * x * (1 + tanh(inner)));
}

/* x += weight * E(h), E the `index`-th of the layer's experts. */
static void feed_forward(struct naive *n, const struct layer *l, uint32_t index,
                         double weight)
{
    const uint64_t ff = (uint64_t)index * n->n_ff;
    product(n, &l->gate, ff, n->n_ff, n->h, n->gate);
    product(n, &l->up, ff, n->n_ff, n->h, n->up);
    bias(&l->gate_bias, n->gate);
    bias(&l->up_bias, n->up);
    for (uint32_t i = 0; i < n->n_ff; i++) {
        n->gate[i] = activation(n, n->gate[i]) * n->up[i];
    }
    product(n, &l->down, (uint64_t)index * n->n_embd, n->n_embd, n->gate, n->y);
    bias(&l->down_bias, n->y);
    if (l->ffn_post.w) rmsnorm(n, n->y, &l->ffn_post, n->y);
    for (uint32_t i = 0; i < n->n_embd; i++) n->x[i] += weight * n->y[i];
}

/* Returns the margin between the last chosen and the next. */
static double experts(struct naive *n, const struct layer *l,
                      enum naive_mistake mistake)
{
    double p[EXPERTS_MAX], first = 0, sum = 0, last = 0;
    uint32_t chosen[EXPERTS_MAX] = {0};
    product(n, &l->router, 0, n->n_expert, n->h, p);
    softmax(p, n->n_expert);
    double weight[EXPERTS_MAX] = {0};
    for (uint32_t j = 0; j <= n->n_expert_used; j++) {
        uint32_t best = 0;
        for (uint32_t e = 1; e < n->n_expert; e++) {
            if (p[e] > p[best]) best = e;
        }
        if (j == n->n_expert_used) {
            first = p[best]; /* of those not chosen; there is none if all are */
            break;
        }
        chosen[j] = best;
        weight[j] = last = p[best];
        sum += p[best];
        p[best] = -1;
    }
    if (mistake == NAIVE_RAW_WEIGHTS) sum = 1;
    if (mistake == NAIVE_TOP_1) sum = weight[0];
    const uint32_t used = mistake == NAIVE_TOP_1 ? 1 : n->n_expert_used;
    for (uint32_t j = 0; j < used; j++) {
        uint32_t e = chosen[j];
        if (mistake == NAIVE_SWAP_EXPERTS && e < 2) e = 1 - e;
        feed_forward(n, l, e, weight[j] / sum);
    }
    return n->n_expert_used < n->n_expert ? log(last / first) : 1;
}

void naive_eval(struct naive *n, uint32_t pos, uint32_t token,
                enum naive_mistake mistake, float *logits, double *margin)
{
    double least = 1;
    for (uint32_t i = 0; i < n->n_embd; i++) {
        n->x[i] = (double)n->embd.w[(size_t)token * n->n_embd + i];
        n->x[i] *= n->embed_scale;
    }
    for (uint32_t i = 0; i < n->n_layer; i++) {
        const struct layer *l = &n->layers[i];
        rmsnorm(n, n->x, &l->attn_norm, n->h);
        attention(n, l, pos, mistake);
        rmsnorm(n, n->x, &l->ffn_norm, n->h);
        if (n->n_expert) {
            least = fmin(least, experts(n, l, mistake));
        } else {
            feed_forward(n, l, 0, 1);
        }
    }
    rmsnorm(n, n->x, &n->output_norm, n->h);
    const struct tensor *head = n->head.w ? &n->head : &n->embd;
    product(n, head, 0, n->n_vocab, n->h, n->logits);
    for (uint32_t v = 0; v < n->n_vocab; v++) {
        logits[v] = (float)capped(n->logits[v], n->final_cap);
    }
    if (margin) *margin = least;
}

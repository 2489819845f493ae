#include "tests/lib/naive.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"

#define EXPERTS_MAX 256

struct tensor {
    float *w; /* [rows][k] */
    uint64_t k, rows;
};

struct layer {
    struct tensor attn_norm, q, k, v, o, ffn_norm, router, gate, up, down;
    double *keys, *values; /* [n_ctx][n_head_kv * head_dim] */
};

struct naive {
    uint32_t n_layer, n_embd, n_head, n_head_kv, head_dim, n_ff, n_vocab;
    uint32_t n_expert, n_expert_used, n_ctx;
    float eps, rope_base;
    struct tensor embd, output_norm, head, factors; /* head.w NULL: tied */
    struct layer *layers;
    /* one position */
    double *x, *h, *q, *att, *gate, *up, *y, *score;
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
    *want->to = (struct tensor){w, k, rows};
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
    };
    for (size_t i = 0; i < COUNT_OF(list); i++) {
        char name[64];
        struct want want = list[i];
        snprintf(name, sizeof name, "blk.%u.%s.weight", index, want.name);
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

static enum status read_keys(struct naive *n, const struct gguf *g,
                             struct error *err)
{
    const struct {
        uint32_t *to;
        const char *key;
        bool required;
    } list[] = {
        {&n->n_layer, "llama.block_count", true},
        {&n->n_embd, "llama.embedding_length", true},
        {&n->n_head, "llama.attention.head_count", true},
        {&n->n_head_kv, "llama.attention.head_count_kv", true},
        {&n->n_ff, "llama.feed_forward_length", true},
        {&n->head_dim, "llama.attention.key_length", false},
        {&n->n_expert, "llama.expert_count", false},
        {&n->n_expert_used, "llama.expert_used_count", false},
    };
    for (size_t i = 0; i < COUNT_OF(list); i++) {
        enum status st = gguf_get_u32(g, list[i].key, list[i].to, err);
        if (st != ST_OK && (list[i].required || st != ST_NOT_FOUND)) return st;
    }
    if (!n->n_layer || !n->n_head || !n->n_head_kv || !n->n_ff ||
        n->n_head % n->n_head_kv != 0) {
        return error_set(err, ST_INVALID, "no layers, heads or feed-forward");
    }
    if (!n->head_dim) n->head_dim = n->n_embd / n->n_head;
    if (n->head_dim < 2 || n->head_dim % 2 != 0) {
        return error_set(err, ST_INVALID, "heads of %u", n->head_dim);
    }
    if (n->n_expert > EXPERTS_MAX || n->n_expert_used > n->n_expert ||
        (n->n_expert > 0) != (n->n_expert_used > 0)) {
        return error_set(err, ST_INVALID, "%u of %u experts", n->n_expert_used,
                         n->n_expert);
    }
    n->rope_base = 10000;
    enum status st =
        gguf_get_f32(g, "llama.rope.freq_base", &n->rope_base, err);
    if (st != ST_OK && st != ST_NOT_FOUND) return st;
    return gguf_get_f32(g, "llama.attention.layer_norm_rms_epsilon", &n->eps,
                        err);
}

static enum status load_all(struct naive *n, const struct gguf *g,
                            struct error *err)
{
    const uint64_t e = n->n_embd;
    const struct want whole[] = {
        {&n->embd, "token_embd.weight", e, 0, true},
        {&n->head, "output.weight", e, 0, false},
        {&n->factors, "rope_freqs.weight", n->head_dim / 2, 1, false},
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
    const struct {
        double **to;
        size_t len;
    } list[] = {{&n->x, n->n_embd}, {&n->h, n->n_embd},   {&n->q, n_q},
                {&n->att, n_q},     {&n->gate, n->n_ff},  {&n->up, n->n_ff},
                {&n->y, n->n_embd}, {&n->score, n->n_ctx}};
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
        void *const all[] = {l->attn_norm.w, l->q.w,    l->k.w,
                             l->v.w,         l->o.w,    l->ffn_norm.w,
                             l->router.w,    l->gate.w, l->up.w,
                             l->down.w,      l->keys,   l->values};
        for (size_t j = 0; j < COUNT_OF(all); j++) mem_free(all[j]);
    }
    void *const all[] = {n->embd.w, n->output_norm.w,
                         n->head.w, n->factors.w,
                         n->layers, n->x,
                         n->h,      n->q,
                         n->att,    n->gate,
                         n->up,     n->y,
                         n->score,  n};
    for (size_t j = 0; j < COUNT_OF(all); j++) mem_free(all[j]);
}

uint32_t naive_n_vocab(const struct naive *n)
{
    return n->n_vocab;
}

/* ---------------------------------------------------------- forward */

/* y = W x for n rows from `first` on. */
static void product(const struct tensor *t, uint64_t first, uint64_t n,
                    const double *x, double *y)
{
    for (uint64_t r = 0; r < n; r++) {
        const float *w = t->w + (first + r) * t->k;
        double sum = 0;
        for (uint64_t i = 0; i < t->k; i++) sum += (double)w[i] * x[i];
        y[r] = sum;
    }
}

static void rmsnorm(const struct naive *n, const double *x,
                    const struct tensor *w, double *y)
{
    double ss = 0;
    for (uint32_t i = 0; i < n->n_embd; i++) ss += x[i] * x[i];
    const double r = 1 / sqrt(ss / n->n_embd + (double)n->eps);
    for (uint32_t i = 0; i < n->n_embd; i++) y[i] = x[i] * r * (double)w->w[i];
}

static void rope(const struct naive *n, double *x, uint32_t pos,
                 enum naive_mistake mistake)
{
    const uint32_t d = n->head_dim;
    const bool half = mistake == NAIVE_HALF_ROPE;
    for (uint32_t i = 0; i < d / 2; i++) {
        double angle = pos * pow((double)n->rope_base, -2.0 * i / d);
        if (n->factors.w && mistake != NAIVE_NO_FACTORS) {
            angle /= (double)n->factors.w[i];
        }
        double *const a = &x[half ? i : 2 * i];
        double *const b = &x[half ? i + d / 2 : 2 * i + 1];
        const double c = cos(angle), s = sin(angle), a0 = *a;
        *a = a0 * c - *b * s;
        *b = a0 * s + *b * c;
    }
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
    for (uint32_t t = 0; t <= pos; t++) {
        const double *const k = l->keys + (size_t)t * n_kv + (size_t)g * d;
        double s = 0;
        for (uint32_t i = 0; i < d; i++) s += q[i] * k[i];
        n->score[t] = s / sqrt(d);
    }
    softmax(n->score, pos + 1);
    memset(o, 0, d * sizeof *o);
    for (uint32_t t = 0; t <= pos; t++) {
        const double *const v = l->values + (size_t)t * n_kv + (size_t)g * d;
        for (uint32_t i = 0; i < d; i++) o[i] += n->score[t] * v[i];
    }
}

static void attention(struct naive *n, const struct layer *l, uint32_t pos,
                      enum naive_mistake mistake)
{
    const uint32_t d = n->head_dim, n_kv = n->n_head_kv * d;
    double *const k = l->keys + (size_t)pos * n_kv;
    product(&l->q, 0, l->q.rows, n->h, n->q);
    product(&l->k, 0, n_kv, n->h, k);
    product(&l->v, 0, n_kv, n->h, l->values + (size_t)pos * n_kv);
    for (uint32_t g = 0; g < n->n_head_kv; g++) {
        const uint32_t shared = n->n_head / n->n_head_kv;
        rope(n, k + (size_t)g * d, pos, mistake);
        for (uint32_t h = g * shared; h < (g + 1) * shared; h++) {
            rope(n, n->q + (size_t)h * d, pos, mistake);
            attend(n, l, pos, h, g);
        }
    }
    product(&l->o, 0, n->n_embd, n->att, n->y);
    for (uint32_t i = 0; i < n->n_embd; i++) n->x[i] += n->y[i];
}

/* x += weight * E(h), E the `index`-th of the layer's experts. */
static void feed_forward(struct naive *n, const struct layer *l, uint32_t index,
                         double weight)
{
    const uint64_t ff = (uint64_t)index * n->n_ff;
    product(&l->gate, ff, n->n_ff, n->h, n->gate);
    product(&l->up, ff, n->n_ff, n->h, n->up);
    for (uint32_t i = 0; i < n->n_ff; i++) {
        n->gate[i] = n->gate[i] / (1 + exp(-n->gate[i])) * n->up[i];
    }
    product(&l->down, (uint64_t)index * n->n_embd, n->n_embd, n->gate, n->y);
    for (uint32_t i = 0; i < n->n_embd; i++) n->x[i] += weight * n->y[i];
}

/* Returns the margin between the last chosen and the next. */
static double experts(struct naive *n, const struct layer *l,
                      enum naive_mistake mistake)
{
    double p[EXPERTS_MAX], first = 0, sum = 0, last = 0;
    uint32_t chosen[EXPERTS_MAX] = {0};
    product(&l->router, 0, n->n_expert, n->h, p);
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
    return n->n_expert_used < n->n_expert ? last - first : 1;
}

void naive_eval(struct naive *n, uint32_t pos, uint32_t token,
                enum naive_mistake mistake, float *logits, double *margin)
{
    double least = 1;
    for (uint32_t i = 0; i < n->n_embd; i++) {
        n->x[i] = (double)n->embd.w[(size_t)token * n->n_embd + i];
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
    for (uint32_t v = 0; v < n->n_vocab; v++) {
        double logit;
        product(head, v, 1, n->h, &logit);
        logits[v] = (float)logit;
    }
    if (margin) *margin = least;
}

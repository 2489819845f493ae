#include "tests/lib/gen_weights.h"

#include <string.h>

#include "common/mem.h"
#include "common/rng.h"

/* Quantized once, drawn from often: all matrices of one row length, type and
 * scale share a pool. */
struct pool {
    uint64_t k;
    enum quant_type type;
    double std;
    uint8_t *rows;
};

#define POOLS_MAX 16

struct gen_weights {
    const struct gen_model *m;
    uint32_t n_pools;
    struct pool pools[POOLS_MAX];
    float *values; /* one row */
    uint64_t n_values;
};

enum status gen_weights_create(struct gen_weights **out,
                               const struct gen_model *m, struct error *err)
{
    struct gen_weights *w = mem_zalloc(sizeof *w);
    if (!w) return error_set(err, ST_NO_MEMORY, "%zu bytes", sizeof *w);
    w->m = m;
    *out = w;
    return ST_OK;
}

void gen_weights_free(struct gen_weights *w)
{
    if (!w) return;
    for (uint32_t i = 0; i < w->n_pools; i++) mem_free(w->pools[i].rows);
    mem_free(w->values);
    mem_free(w);
}

uint64_t gen_tensor_rows(const struct gen_tensor *t)
{
    return t->ne[1] * t->ne[2];
}

uint64_t gen_tensor_bytes(const struct gen_tensor *t)
{
    return quant_row_bytes(t->type, t->ne[0]) * gen_tensor_rows(t);
}

/* FNV-1a: streams are told apart by the tensor's name, not its place. */
static uint64_t name_hash(const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *name; name++) {
        h = (h ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
    }
    return h;
}

/* Near-normal: the sum of four uniform 16-bit draws, whose variance is
 * (2^32 - 1) / 3; bounded by 3.46 standard deviations. */
static void fill_normal(struct rng *r, double mean, double std, float *x,
                        uint64_t k)
{
    const double scale = std / 37837.227;
    for (uint64_t i = 0; i < k; i++) {
        const uint64_t u = rng_u64(r);
        const int32_t sum = (int32_t)((u & 0xffff) + (u >> 16 & 0xffff) +
                                      (u >> 32 & 0xffff) + (u >> 48)) -
                            2 * 65535;
        x[i] = (float)((double)sum * scale + mean);
    }
}

/* Llama 3's shape without its formula: high frequencies as they are, low ones
 * divided by rope_factor, a straight line between. */
static void fill_rope_freqs(double factor, float *x, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        double t = 2 * (double)i / (double)n - 0.5;
        t = t < 0 ? 0 : t > 1 ? 1 : t;
        x[i] = (float)(1 + (factor - 1) * t);
    }
}

static void one_row(struct gen_weights *w, const struct gen_tensor *t,
                    uint64_t stream, uint64_t row, void *dst)
{
    const uint64_t k = t->ne[0];
    struct rng r = {rng_at(w->m->seed, stream, row)};
    if (strcmp(t->name, "rope_freqs.weight") == 0) {
        fill_rope_freqs((double)w->m->rope_factor, w->values, k);
    } else {
        fill_normal(&r, t->mean, t->std, w->values, k);
    }
    quant_quantize_row(t->type, w->values, dst, k);
}

static enum status reserve_values(struct gen_weights *w, uint64_t k,
                                  struct error *err)
{
    if (k <= w->n_values) return ST_OK;
    float *p = mem_realloc(w->values, k * sizeof *p);
    if (!p) return error_set(err, ST_NO_MEMORY, "a row of weights");
    w->values = p;
    w->n_values = k;
    return ST_OK;
}

/* NULL: not made yet. */
static const struct pool *pool_for(struct gen_weights *w,
                                   const struct gen_tensor *t)
{
    for (uint32_t i = 0; i < w->n_pools; i++) {
        const struct pool *p = &w->pools[i];
        const bool same_std = !(p->std < t->std) && !(p->std > t->std);
        if (p->k == t->ne[0] && p->type == t->type && same_std) return p;
    }
    return NULL;
}

static enum status pool_make(struct gen_weights *w, const struct gen_tensor *t,
                             const struct pool **out, struct error *err)
{
    if (w->n_pools == POOLS_MAX) {
        return error_set(err, ST_FULL, "more than %d kinds of rows", POOLS_MAX);
    }
    const uint64_t row_bytes = quant_row_bytes(t->type, t->ne[0]);
    uint8_t *rows = mem_alloc(row_bytes * w->m->pool_rows);
    if (!rows) return error_set(err, ST_NO_MEMORY, "a pool of rows");
    for (uint32_t i = 0; i < w->m->pool_rows; i++) {
        one_row(w, t, w->n_pools, i, rows + i * row_bytes);
    }
    struct pool *p = &w->pools[w->n_pools++];
    *p = (struct pool){t->ne[0], t->type, t->std, rows};
    *out = p;
    return ST_OK;
}

/* Vocabulary rows stay distinct: equal logits would make every choice a tie. */
static bool uses_pool(const struct gen_model *m, const struct gen_tensor *t)
{
    return m->pool_rows > 0 && t->role != GEN_NORM && t->role != GEN_EMBD &&
           t->role != GEN_HEAD;
}

enum status gen_weights_rows(struct gen_weights *w, const struct gen_tensor *t,
                             uint64_t first, uint64_t n, void *dst,
                             struct error *err)
{
    enum status st = reserve_values(w, t->ne[0], err);
    if (st != ST_OK) return st;
    const uint64_t row_bytes = quant_row_bytes(t->type, t->ne[0]);
    const uint64_t stream = name_hash(t->name);
    uint8_t *to = dst;
    if (!uses_pool(w->m, t)) {
        for (uint64_t i = 0; i < n; i++) {
            one_row(w, t, stream, first + i, to + i * row_bytes);
        }
        return ST_OK;
    }
    const struct pool *pool = pool_for(w, t);
    if (!pool) {
        st = pool_make(w, t, &pool, err);
        if (st != ST_OK) return st;
    }
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t draw = rng_at(w->m->seed, stream, first + i);
        memcpy(to + i * row_bytes,
               pool->rows + draw % w->m->pool_rows * row_bytes, row_bytes);
    }
    return ST_OK;
}

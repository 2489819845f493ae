/* The model's files, and the function that stands for it. */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "tests/lib/engine_rig.h"

void sim_model_open(struct sim_model *m, uint32_t n_layer, uint32_t n_expert)
{
    struct gen_model g;
    struct rig r;
    assert_true(n_layer <= SIM_LAYERS_MAX);
    assert_ok(
        gen_model_preset(&g, n_expert ? "tiny-moe" : "tiny-dense", &rig_err));
    g.n_layer = n_layer;
    g.n_expert = n_expert;
    g.n_expert_used = n_expert ? 2 : 0;
    g.n_vocab = 512;
    g.n_ctx = 256;
    g.sparse = 1;
    rig_open(&r, &g);
    m->gguf = r.gguf;
    m->model = r.model;
    assert_ok(tokenizer_create(&m->tokenizer, r.gguf, &rig_err));
    buf_init(&m->header, GGUF_HEADER_MAX);
    assert_ok(gguf_strip_header(r.gguf, &m->header, &rig_err));
}

void sim_model_close(struct sim_model *m)
{
    tokenizer_free(m->tokenizer);
    buf_fini(&m->header);
    model_fini(&m->model);
    gguf_close(m->gguf);
}

uint64_t sim_embed(int32_t token, uint32_t pos)
{
    return rng_at(1, (uint64_t)token, pos);
}

uint64_t sim_attend(uint64_t *hash, uint64_t x, uint32_t layer)
{
    *hash = rng_at(*hash, x, layer);
    return rng_mix(x ^ *hash);
}

void sim_choose(uint64_t x, uint32_t n_expert, uint32_t out[2])
{
    const uint32_t a = (uint32_t)(x % n_expert);
    const uint32_t b =
        (a + 1 + (uint32_t)((x >> 20) % (n_expert - 1))) % n_expert;
    out[0] = a < b ? a : b;
    out[1] = a < b ? b : a;
}

uint64_t sim_expert(uint64_t x, uint32_t layer, uint32_t expert)
{
    return rng_at(x, layer, UINT64_C(1000) + expert);
}

uint64_t sim_combine(uint64_t x, const uint64_t y[2])
{
    return rng_mix(rng_mix(x ^ y[0]) ^ y[1]);
}

#define N_BEST 16

void sim_head(uint64_t x, const struct model *m, float inv_temp, bool plain,
              uint64_t seed, uint64_t n, struct head_result *out, float *row)
{
    const uint32_t first = 3, span = m->n_vocab - first;
    *out = (struct head_result){.n_best = N_BEST, .plain_id = -1};
    double sum = 0, sum_tempered = 0;
    for (uint32_t i = 0; row && i < m->n_vocab; i++) row[i] = -30;
    for (uint32_t i = 0; i < N_BEST; i++) {
        /* neighbours differ by a prime that does not divide span = 509 */
        const int32_t id = (int32_t)(first + (x % span + 37 * i) % span);
        const float raw = 8 - 0.75f * (float)i;
        out->best[i] = (struct head_candidate){id, raw * inv_temp, raw};
        sum += exp((double)raw);
        sum_tempered += exp((double)raw * (double)inv_temp);
        if (row) row[id] = raw;
    }
    if ((x >> 40) % 24 == 0) { /* an answer ends some time */
        if (row) row[out->best[0].id] = -30;
        out->best[0].id = 2;
        if (row) row[2] = out->best[0].raw;
    }
    out->lse_raw = (float)log(sum);
    out->lse_tempered = (float)log(sum_tempered);
    if (plain) out->plain_id = (int32_t)(first + rng_at(x, seed, n) % span);
}

#include "tests/lib/plan_rig.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

void plan_rig_model(struct rig *r, uint32_t n_layer, uint32_t n_expert,
                    uint32_t n_expert_used, bool tied)
{
    struct gen_model m;
    assert_ok(gen_model_preset(&m, "tiny-dense", &rig_err));
    m.n_layer = n_layer;
    m.n_head_kv = 2;
    m.n_expert = n_expert;
    m.n_expert_used = n_expert_used;
    m.n_ff = 1024;
    m.tied = tied;
    m.sparse = 1;
    m.more_bits = 1;
    for (int i = 0; i < GEN_NORM; i++) m.type[i] = QUANT_Q4_K;
    m.type[GEN_HEAD] = tied ? QUANT_Q4_K : QUANT_Q6_K;
    rig_open(r, &m);
}

struct plan_node plan_rig_node(uint32_t id, uint64_t memory, double gbps)
{
    struct plan_node n = {.id = id,
                          .memory_bytes = memory,
                          .n_threads = 2,
                          .read_bytes_per_s = gbps * 1e9,
                          .link_bytes_per_s = 117e6,
                          .link_latency_s = 125e-6};
    snprintf(n.name, sizeof n.name, "pc-%u", id);
    n.rates[QUANT_Q4_K] = (struct plan_rate){gbps * 1e9, gbps * 5e9};
    return n;
}

struct plan_request plan_rig_request(const struct model *m,
                                     const struct plan_node *nodes, uint32_t n)
{
    return (struct plan_request){.model = m,
                                 .nodes = nodes,
                                 .n_nodes = n,
                                 .n_ctx = 256,
                                 .n_seq_max = 4,
                                 .rows_max = 8,
                                 .kv_type = KV_F16};
}

static struct shard_options options_of(const struct plan_request *r)
{
    return (struct shard_options){.kv_type = r->kv_type,
                                  .n_threads = 2,
                                  .n_ctx = r->n_ctx,
                                  .n_seq_max = r->n_seq_max,
                                  .n_pages = kv_pages(r->n_ctx),
                                  .rows_max = r->rows_max,
                                  .outputs_max = 4};
}

static struct shard_bytes three_steps(struct shard_bytes b)
{
    b.total += 2 * b.scratch;
    b.scratch *= 3;
    return b;
}

struct shard_bytes plan_rig_whole(const struct plan_request *r)
{
    const struct shard_options o = options_of(r);
    struct shard_spec spec;
    assert_ok(shard_spec_whole(&spec, r->model, &rig_err));
    const struct shard_bytes b = shard_plan(r->model, &spec, &o);
    mem_free(spec.layers);
    return three_steps(b);
}

struct shard_bytes plan_rig_empty(const struct plan_request *r)
{
    const struct shard_options o = options_of(r);
    struct shard_layer_spec layers[MODEL_LAYERS_MAX] = {{.block = false}};
    const struct shard_spec spec = {.layers = layers};
    return three_steps(shard_plan(r->model, &spec, &o));
}

void plan_rig_random_nodes(struct rng *rng, const struct model *m,
                           struct plan_node *nodes, uint32_t n, double plenty)
{
    const struct plan_request r = plan_rig_request(m, nodes, n);
    const struct shard_bytes empty = plan_rig_empty(&r);
    const double all = (double)plan_rig_whole(&r).total - (double)empty.total;
    double base = (double)empty.total;
    if (m->n_expert) base += 2.0 / 3 * (double)empty.scratch;
    for (uint32_t i = 0; i < n; i++) {
        const double part = rng_unit(rng_u64(rng)) * 2 * plenty / n;
        const double gbps = 0.5 + (double)rng_below(rng, 40);
        nodes[i] = plan_rig_node(i, (uint64_t)(base + part * all), gbps);
        if (rng_below(rng, 3) == 0) {
            nodes[i].rates[QUANT_Q6_K] =
                (struct plan_rate){gbps * 7e8, gbps * 2e9};
        }
        if (rng_below(rng, 4) == 0) nodes[i].link_bytes_per_s = 11.7e6;
        nodes[i].link_latency_s = 1e-6 * (double)(1 + rng_below(rng, 300));
        if (rng_below(rng, 2) == 0) nodes[i].isa = ISA_AVX2;
        nodes[i].n_threads = 1 + (uint32_t)rng_below(rng, 8);
    }
}

struct buf plan_rig_json(const struct plan *p)
{
    struct buf b;
    buf_init(&b, PLAN_JSON_MAX);
    assert_ok(plan_write_json(p, &b, &rig_err));
    return b;
}

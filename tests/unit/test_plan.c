/* plan_make against brute force, shard_plan and plain sense.  test_plan_check.c
 * has costs and plan_check, test_plan_json.c plan files and lists of nodes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tests/lib/plan_rig.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static uint32_t n_blocks(const struct plan *p, uint32_t node)
{
    uint32_t n = 0;
    for (uint32_t l = 0; l < p->n_layer; l++) {
        n += p->nodes[node].spec.layers[l].block;
    }
    return n;
}

static uint32_t n_used(const struct plan *p)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_nodes; i++) n += p->nodes[i].used;
    return n;
}

/* Layers whose experts are on more than one node. */
static uint32_t n_split(const struct plan *p)
{
    uint32_t n = 0;
    for (uint32_t l = 0; l < p->n_layer; l++) {
        const uint16_t *to = p->expert_node + l * MODEL_EXPERTS_MAX;
        uint32_t e = 1;
        while (to[e] == to[0]) e++;
        n += to[e] != PLAN_NONE;
    }
    return n;
}

static struct shard_bytes bytes_of(const struct plan *p, const struct model *m,
                                   uint32_t node, uint32_t n_pages)
{
    const struct plan_share *s = &p->nodes[node];
    const struct shard_options o = {.isa = s->isa,
                                    .kv_type = p->kv_type,
                                    .n_threads = s->n_threads,
                                    .n_ctx = p->n_ctx,
                                    .n_seq_max = p->n_seq_max,
                                    .n_pages = n_pages,
                                    .rows_max = p->rows_max,
                                    .outputs_max = p->outputs_max};
    return shard_plan(m, &s->spec, &o);
}

/* Everything that holds of any plan. */
static void check_plan(const struct plan *p, const struct model *m)
{
    assert_ok(plan_check(p, m, &rig_err));
    bool more_would_fit = true;
    double total_s = 0;
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const struct plan_share *s = &p->nodes[i];
        if (!s->used) continue;
        const struct shard_bytes b = bytes_of(p, m, i, p->n_pages);
        assert_int_equal(s->bytes.weights, b.weights);
        assert_int_equal(s->bytes.kv, b.kv);
        assert_int_equal(s->bytes.scratch, b.scratch * (s->n_steps + 1));
        assert_int_equal(s->bytes.total, b.total + b.scratch * s->n_steps);
        assert_true(s->bytes.total <= s->memory_bytes);
        const uint64_t kv = bytes_of(p, m, i, p->n_pages + 1).kv;
        if (s->bytes.total - b.kv + kv > s->memory_bytes) {
            more_would_fit = false;
        }
    }
    /* all pages that fit, but no more than can be used */
    const uint32_t one = kv_pages(p->n_ctx);
    assert_true(p->n_pages >= one && p->n_pages <= one * p->n_seq_max);
    assert_true(!more_would_fit || p->n_pages == one * p->n_seq_max);
    for (uint32_t i = 0; i < p->n_stages; i++) {
        assert_true(p->stages[i].decode_s > 0);
        assert_true(p->stages[i].prefill_s > p->stages[i].decode_s);
        total_s += p->stages[i].decode_s;
    }
    assert_true(fabs(total_s * p->decode_tokens_per_s - 1) < 1e-9);
    assert_true(p->batch_tokens_per_s > 0 && p->prompt_512_s > 0);
    assert_true(p->busiest_s > 0 && strlen(p->bottleneck) > 0);
}

/* ------------------------------------------------------------ random */

static void test_any_nodes(void **state)
{
    (void)state;
    uint32_t n_ok = 0, n_refused = 0, n_splits = 0, n_left_out = 0;
    for (uint32_t k = 0; k < 8; k++) {
        struct rng rng = {k};
        struct rig rig;
        const uint32_t n_expert = k % 2 ? 8 + 8 * k : 0;
        const uint32_t n_layer = n_expert ? 1 + k / 2 : 1 + 3 * k;
        plan_rig_model(&rig, n_layer, n_expert, n_expert ? 2 : 0, k > 5);
        for (uint32_t round = 0; round < 40; round++) {
            struct plan_node nodes[12];
            const uint32_t n = 1 + (uint32_t)rng_below(&rng, 12);
            plan_rig_random_nodes(&rng, &rig.model, nodes, n,
                                  0.7 + 2 * rng_unit(rng_u64(&rng)));
            struct plan_request r = plan_rig_request(&rig.model, nodes, n);
            r.objective = (enum plan_objective)(round % 3);
            r.n_users = 1 + (uint32_t)rng_below(&rng, 4);
            struct plan p, again;
            const enum status st = plan_make(&p, &r, &rig_err);
            if (st != ST_OK) {
                assert_int_equal(st, ST_NO_MEMORY);
                assert_non_null(strstr(rig_err.text, "missing"));
                n_refused++;
                continue;
            }
            check_plan(&p, &rig.model);
            assert_ok(plan_make(&again, &r, &rig_err));
            struct buf a = plan_rig_json(&p), b = plan_rig_json(&again);
            assert_string_equal(a.data, b.data);
            buf_fini(&a);
            buf_fini(&b);
            n_ok++;
            n_left_out += n_used(&p) < n;
            if (n_expert) n_splits += n_split(&p) > 0;
            plan_fini(&p);
            plan_fini(&again);
        }
        rig_close(&rig);
    }
    print_message("%u plans, %u refused, %u with split experts, %u leave some "
                  "node out\n",
                  n_ok, n_refused, n_splits, n_left_out);
    assert_true(n_ok > 100 && n_refused > 20);
    assert_true(n_splits > 5 && n_left_out > 20);
}

/* ------------------------------------------------------- brute force */

struct brute {
    const struct plan_request *r;
    uint32_t n_items, n_cuts;
    uint32_t node[66]; /* of each item */
    double latency_s, busiest_s;
};

static const char *name_at(const struct brute *b, uint32_t item)
{
    return b->r->nodes[b->node[item]].name;
}

/* The cut as a plan file, so that nothing of the search is used. */
static void try_cut(struct brute *b)
{
    char text[4096];
    int n = snprintf(text, sizeof text, "{\"embed\":\"%s\",\"head\":\"%s\",%s",
                     name_at(b, 0), name_at(b, b->n_items - 1), "\"layers\":[");
    for (uint32_t l = 0; l + 2 < b->n_items; l++) {
        n += snprintf(text + n, sizeof text - (size_t)n,
                      "%s{\"node\":\"%s\",\"first\":%u,\"end\":%u}",
                      l ? "," : "", name_at(b, l + 1), l, l + 1);
    }
    n += snprintf(text + n, sizeof text - (size_t)n, "]}");
    struct plan p;
    const enum status st = plan_read_json(&p, b->r, text, (size_t)n, &rig_err);
    if (st == ST_NO_MEMORY) return;
    assert_ok(st);
    b->n_cuts++;
    b->latency_s = fmin(b->latency_s, 1 / p.decode_tokens_per_s);
    b->busiest_s = fmin(b->busiest_s, p.busiest_s);
    plan_fini(&p);
}

/* All ways to give items [first, n) to nodes not in `seen`, one range each. */
static void all_cuts(struct brute *b, uint32_t first, uint32_t seen)
{
    if (first == b->n_items) {
        try_cut(b);
        return;
    }
    for (uint32_t node = 0; node < b->r->n_nodes; node++) {
        if (seen >> node & 1) continue;
        for (uint32_t end = first + 1; end <= b->n_items; end++) {
            b->node[end - 1] = node;
            all_cuts(b, end, seen | 1u << node);
        }
    }
}

static void against_brute_force(struct rng *rng, const struct model *m,
                                uint32_t n, uint32_t *n_found)
{
    struct plan_node nodes[4];
    plan_rig_random_nodes(rng, m, nodes, n, 1 + 2 * rng_unit(rng_u64(rng)));
    struct plan_request r = plan_rig_request(m, nodes, n);
    struct brute b = {&r, m->n_layer + 2, 0, {0}, INFINITY, INFINITY};
    all_cuts(&b, 0, 0);
    struct plan p;
    if (b.n_cuts == 0) {
        if (m->n_expert == 0) {
            assert_fails(plan_make(&p, &r, &rig_err), ST_NO_MEMORY, "missing");
        }
        return;
    }
    ++*n_found;
    assert_ok(plan_make(&p, &r, &rig_err));
    const double latency_s = 1 / p.decode_tokens_per_s;
    assert_true(fabs(latency_s / b.latency_s - 1) < 1e-9);
    const double of_latency = latency_s * p.busiest_s;
    plan_fini(&p);
    r.objective = PLAN_THROUGHPUT;
    assert_ok(plan_make(&p, &r, &rig_err));
    assert_true(fabs(p.busiest_s / b.busiest_s - 1) < 1e-6);
    const double of_throughput = p.busiest_s / p.decode_tokens_per_s;
    plan_fini(&p);
    r.objective = PLAN_MIXED;
    assert_ok(plan_make(&p, &r, &rig_err));
    const double mixed = p.busiest_s / p.decode_tokens_per_s;
    assert_true(mixed <= fmin(of_latency, of_throughput) * (1 + 1e-6));
    plan_fini(&p);
}

static void test_no_better_cut(void **state)
{
    (void)state;
    static const struct {
        uint32_t n_layer, n_expert, n_nodes, rounds;
        bool tied;
    } cases[] = {{5, 0, 3, 30, false}, {8, 0, 3, 8, true},
                 {4, 6, 3, 20, false}, {4, 0, 4, 6, false},
                 {8, 0, 2, 30, false}, {2, 0, 3, 30, true},
                 {8, 4, 4, 1, false},  {1, 0, 2, 20, true}};
    uint32_t n_found = 0;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct rng rng = {100 + i};
        struct rig rig;
        plan_rig_model(&rig, cases[i].n_layer, cases[i].n_expert,
                       cases[i].n_expert ? 2 : 0, cases[i].tied);
        for (uint32_t k = 0; k < cases[i].rounds; k++) {
            against_brute_force(&rng, &rig.model, cases[i].n_nodes, &n_found);
        }
        rig_close(&rig);
    }
    print_message("%u cases have a cut\n", n_found);
    assert_true(n_found > 60);
}

/* ------------------------------------------------------- plain sense */

static void test_speed_decides(void **state)
{
    (void)state;
    struct rig rig;
    struct plan p;
    plan_rig_model(&rig, 32, 0, 0, false);
    /* three times as fast: three times the layers */
    struct plan_node nodes[3] = {plan_rig_node(0, 4 * GIB, 0.3),
                                 plan_rig_node(1, 4 * GIB, 0.1)};
    struct plan_request r = plan_rig_request(&rig.model, nodes, 2);
    r.objective = PLAN_THROUGHPUT;
    assert_ok(plan_make(&p, &r, &rig_err));
    check_plan(&p, &rig.model);
    assert_in_range(n_blocks(&p, 0), 23, 25);
    plan_fini(&p);
    /* one fast node that has room for all needs nobody */
    r.objective = PLAN_LATENCY;
    assert_ok(plan_make(&p, &r, &rig_err));
    check_plan(&p, &rig.model);
    assert_int_equal(p.n_stages, 1);
    assert_true(p.nodes[0].used && !p.nodes[1].used);
    assert_true(p.nodes[0].spec.embed && p.stages[0].head);
    plan_fini(&p);
    /* memory forces the fast one to share, and it keeps what it can */
    const uint64_t base = plan_rig_empty(&r).total;
    const uint64_t whole = plan_rig_whole(&r).total - base;
    nodes[0].memory_bytes = base + whole / 2;
    assert_ok(plan_make(&p, &r, &rig_err));
    check_plan(&p, &rig.model);
    assert_in_range(n_blocks(&p, 0), 13, 17);
    plan_fini(&p);
    /* equal but for a third that is a hundred times slower */
    nodes[0] = plan_rig_node(0, 4 * GIB, 0.3);
    nodes[1] = plan_rig_node(1, 4 * GIB, 0.3);
    nodes[2] = plan_rig_node(2, 4 * GIB, 0.003);
    r.n_nodes = 3;
    for (int o = PLAN_LATENCY; o <= PLAN_MIXED; o++) {
        r.objective = (enum plan_objective)o;
        assert_ok(plan_make(&p, &r, &rig_err));
        check_plan(&p, &rig.model);
        assert_false(p.nodes[2].used);
        assert_int_equal(n_used(&p), o == PLAN_LATENCY ? 1 : 2);
        plan_fini(&p);
    }
    /* a link so bad that two are slower than one */
    r.n_nodes = 2;
    nodes[0].link_bytes_per_s = nodes[1].link_bytes_per_s = 10;
    r.objective = PLAN_THROUGHPUT;
    assert_ok(plan_make(&p, &r, &rig_err));
    assert_int_equal(n_used(&p), 1);
    plan_fini(&p);
    /* of two such only the first stage can do without: it gets numbers */
    r.n_nodes = 3;
    nodes[2] = plan_rig_node(2, 4 * GIB, 0.3);
    assert_ok(plan_make(&p, &r, &rig_err));
    check_plan(&p, &rig.model);
    assert_int_equal(n_used(&p), 2);
    assert_int_equal(p.stages[1].node, 2);
    plan_fini(&p);
    rig_close(&rig);
}

static void test_contexts_of_users(void **state)
{
    (void)state;
    struct rig rig;
    struct plan p;
    plan_rig_model(&rig, 16, 0, 0, false);
    /* the fast node alone holds one context, both hold four */
    struct plan_node nodes[2] = {plan_rig_node(0, 0, 10),
                                 plan_rig_node(1, 0, 1)};
    struct plan_request r = plan_rig_request(&rig.model, nodes, 2);
    nodes[0].memory_bytes = nodes[1].memory_bytes =
        plan_rig_whole(&r).total + MIB;
    assert_ok(plan_make(&p, &r, &rig_err));
    check_plan(&p, &rig.model);
    assert_int_equal(n_used(&p), 1);
    plan_fini(&p);
    r.n_users = 4;
    assert_ok(plan_make(&p, &r, &rig_err));
    check_plan(&p, &rig.model);
    assert_int_equal(n_used(&p), 2);
    assert_int_equal(p.n_pages, 4 * kv_pages(r.n_ctx));
    plan_fini(&p);
    rig_close(&rig);
}

static void test_experts_go_elsewhere(void **state)
{
    (void)state;
    struct rig rig;
    struct plan p;
    plan_rig_model(&rig, 3, 64, 4, false);
    struct plan_node nodes[8];
    struct plan_request r = plan_rig_request(&rig.model, nodes, 8);
    for (uint32_t i = 0; i < 8; i++) nodes[i] = plan_rig_node(i, 0, 1 + i);
    const struct shard_bytes empty = plan_rig_empty(&r);
    const uint64_t whole = plan_rig_whole(&r).total - empty.total;
    /* a layer is a third of the model; a node has room for a quarter, and the
     * scratch of five steps */
    for (uint32_t i = 0; i < 8; i++) {
        nodes[i].memory_bytes = empty.total + empty.scratch / 3 * 2 + whole / 4;
    }
    assert_ok(plan_make(&p, &r, &rig_err));
    check_plan(&p, &rig.model);
    assert_int_equal(n_split(&p), 3);
    plan_fini(&p);
    /* layers fit, but four in three nodes only in pieces */
    rig_close(&rig);
    plan_rig_model(&rig, 4, 64, 4, false);
    const uint64_t four = plan_rig_whole(&r).total - empty.total;
    r.n_nodes = 3;
    for (uint32_t i = 0; i < 3; i++) {
        nodes[i].memory_bytes =
            empty.total + empty.scratch / 3 * 2 + four * 10 / 27;
    }
    assert_ok(plan_make(&p, &r, &rig_err));
    check_plan(&p, &rig.model);
    assert_in_range(n_split(&p), 1, 4);
    assert_int_equal(n_used(&p), 3);
    /* experts that need not move do not */
    uint32_t n_home = 0;
    for (uint32_t i = 0; i < p.n_stages; i++) {
        for (uint32_t l = p.stages[i].layer_first; l < p.stages[i].layer_end;
             l++) {
            for (uint32_t e = 0; e < 64; e++) {
                n_home += p.expert_node[l * MODEL_EXPERTS_MAX + e] ==
                          p.stages[i].node;
            }
        }
    }
    assert_true(n_home > 4 * 64 * 2 / 3);
    plan_fini(&p);
    rig_close(&rig);
}

/* ----------------------------------------------------------- refusals */

/* In the last error's sentence. */
static double number_after(const char *words)
{
    const char *at = strstr(rig_err.text, words);
    if (!at) fail_msg("no \"%s\" in: %s", words, rig_err.text);
    return strtod(at + strlen(words), NULL);
}

static void test_the_exact_shortfall(void **state)
{
    (void)state;
    struct rig rig;
    struct plan p;
    plan_rig_model(&rig, 12, 0, 0, false);
    struct plan_node nodes[3];
    struct plan_request r = plan_rig_request(&rig.model, nodes, 3);
    const struct shard_bytes empty = plan_rig_empty(&r);
    const struct shard_bytes whole = plan_rig_whole(&r);
    const uint64_t need = whole.total - empty.total;
    for (uint32_t i = 0; i < 3; i++) {
        nodes[i] = plan_rig_node(i, empty.total + need / 4, 1);
    }
    assert_fails(plan_make(&p, &r, &rig_err), ST_NO_MEMORY, "missing");
    /* in the words of the header, from shard_plan's figures */
    const double needs = number_after("the model needs ");
    const double weights = number_after("MiB (weights ");
    const double offered = number_after("the 3 nodes offer ");
    const double missing = number_after(" MiB: ");
    assert_true(number_after("a context of 256 ") > 0);
    assert_true(number_after("scratch ") > 0);
    assert_non_null(strstr(rig_err.text, " MiB are missing"));
    const double mib = (double)MIB;
    /* the cache's lists count as weights of no node here */
    assert_true(fabs(needs - (double)(need + 3 * empty.total) / mib) < 0.02);
    assert_true(fabs(offered - (double)(3 * nodes[0].memory_bytes) / mib) <
                0.006);
    assert_true(fabs(missing - (needs - offered)) < 0.015);
    assert_true(fabs(weights - (double)whole.weights / mib) < 0.02);
    /* a node that is too small for anything does not count */
    nodes[2].memory_bytes = empty.total / 2;
    assert_fails(plan_make(&p, &r, &rig_err), ST_NO_MEMORY,
                 "the 2 nodes offer");
    assert_non_null(strstr(rig_err.text, "1 more are too small"));
    nodes[1].memory_bytes = 1;
    assert_fails(plan_make(&p, &r, &rig_err), ST_NO_MEMORY,
                 "the 1 node offers");
    rig_close(&rig);
}

static void test_enough_in_pieces(void **state)
{
    (void)state;
    for (uint32_t n_expert = 0; n_expert <= 4; n_expert += 4) {
        struct rig rig;
        struct plan p;
        plan_rig_model(&rig, 3, n_expert, n_expert ? 1 : 0, false);
        struct plan_node nodes[8];
        struct plan_request r = plan_rig_request(&rig.model, nodes, 8);
        const uint64_t base = plan_rig_empty(&r).total;
        const uint64_t whole = plan_rig_whole(&r).total - base;
        for (uint32_t i = 0; i < 8; i++) {
            nodes[i] = plan_rig_node(i, base + whole / 7, 1);
        }
        assert_fails(plan_make(&p, &r, &rig_err), ST_NO_MEMORY,
                     "more on each are missing");
        const double more = number_after("them: ");
        for (uint32_t i = 0; i < 8; i++) {
            nodes[i].memory_bytes += (uint64_t)((more - 0.03) * (double)MIB);
        }
        assert_fails(plan_make(&p, &r, &rig_err), ST_NO_MEMORY, "missing");
        for (uint32_t i = 0; i < 8; i++) {
            nodes[i].memory_bytes += (uint64_t)(0.031 * (double)MIB);
        }
        assert_ok(plan_make(&p, &r, &rig_err));
        check_plan(&p, &rig.model);
        plan_fini(&p);
        rig_close(&rig);
    }
}

static void test_requests_that_are_wrong(void **state)
{
    (void)state;
    struct rig rig;
    struct plan p;
    plan_rig_model(&rig, 2, 0, 0, false);
    struct plan_node node = plan_rig_node(0, GIB, 1);
    const struct plan_request good = plan_rig_request(&rig.model, &node, 1);
    struct plan_request r = good;
    r.n_nodes = 0;
    assert_fails(plan_make(&p, &r, &rig_err), ST_USAGE, "0 nodes");
    r.n_nodes = 257;
    assert_fails(plan_make(&p, &r, &rig_err), ST_USAGE, "257 nodes");
    r = good;
    r.n_ctx = 513;
    assert_fails(plan_make(&p, &r, &rig_err), ST_USAGE, "513");
    r = good;
    r.n_users = 5000;
    assert_fails(plan_make(&p, &r, &rig_err), ST_USAGE, "5000");
    r = good;
    r.rows_max = 4097;
    assert_fails(plan_make(&p, &r, &rig_err), ST_USAGE, "4097");
    r = good;
    r.outputs_max = 9;
    assert_fails(plan_make(&p, &r, &rig_err), ST_USAGE, "9 outputs");
    r = good;
    r.n_steps = 1025;
    assert_fails(plan_make(&p, &r, &rig_err), ST_USAGE, "1025");
    r = good;
    r.kv_type = (enum kv_type)9;
    assert_fails(plan_make(&p, &r, &rig_err), ST_USAGE, "9");
    r = good;
    r.objective = (enum plan_objective)7;
    assert_fails(plan_make(&p, &r, &rig_err), ST_USAGE, "7");
    node.isa = ISA_END;
    assert_fails(plan_make(&p, &good, &rig_err), ST_USAGE, "node 0");
    node = plan_rig_node(0, GIB, 1);
    /* figures that are none are taken as not measured */
    node.read_bytes_per_s = NAN;
    node.rates[QUANT_Q4_K] = (struct plan_rate){-1, INFINITY};
    node.link_bytes_per_s = -5;
    node.link_latency_s = NAN;
    assert_ok(plan_make(&p, &good, &rig_err));
    check_plan(&p, &rig.model);
    plan_fini(&p);
    /* as much memory as there can be */
    node.memory_bytes = UINT64_MAX;
    assert_ok(plan_make(&p, &good, &rig_err));
    plan_fini(&p);
    rig_close(&rig);
}

static void test_plan_survives_every_failed_allocation(void **state)
{
    (void)state;
    struct rig rig;
    plan_rig_model(&rig, 3, 8, 2, false);
    struct plan_node nodes[3];
    struct plan_request r = plan_rig_request(&rig.model, nodes, 3);
    const struct shard_bytes empty = plan_rig_empty(&r);
    const uint64_t whole = plan_rig_whole(&r).total - empty.total;
    for (int round = 0; round < 3; round++) {
        /* whole layers, experts apart, refused */
        static const uint32_t percents[] = {200, 38, 30};
        for (uint32_t i = 0; i < 3; i++) {
            nodes[i] = plan_rig_node(i,
                                     empty.total + empty.scratch / 3 * 2 +
                                         whole / 100 * percents[round],
                                     1);
        }
        struct plan p = {0};
        const size_t before = mem_in_use();
        for (long n = 0;; n++) {
            mem_fail_after(n);
            const enum status st = plan_make(&p, &r, &rig_err);
            mem_fail_after(-1);
            if (st == ST_OK) break;
            assert_int_equal(st, ST_NO_MEMORY);
            assert_null(p.nodes);
            assert_int_equal(mem_in_use(), before);
            if (strstr(rig_err.text, "missing")) break;
        }
        plan_fini(&p);
        assert_int_equal(mem_in_use(), before);
    }
    rig_close(&rig);
}

/* -------------------------------------------------------------- large */

static void plan_large(const char *preset, uint32_t n_layer, uint32_t n_nodes)
{
    struct gen_model m;
    struct rig rig;
    assert_ok(gen_model_preset(&m, preset, &rig_err));
    m.sparse = 1;
    if (n_layer) m.n_layer = n_layer;
    rig_open(&rig, &m);
    struct plan_node *nodes = mem_zalloc_array(n_nodes, sizeof *nodes);
    assert_non_null(nodes);
    struct rng rng = {7};
    for (uint32_t i = 0; i < n_nodes; i++) {
        nodes[i] = plan_rig_node(i, (8 + rng_below(&rng, 9)) * GIB,
                                 8 + (double)rng_below(&rng, 13));
        nodes[i].isa = i % 2 ? ISA_AVX2 : ISA_REF;
        nodes[i].n_threads = 4;
    }
    struct plan_request r = {.model = &rig.model,
                             .nodes = nodes,
                             .n_nodes = n_nodes,
                             .n_users = 30,
                             .kv_type = KV_F16};
    for (int o = PLAN_LATENCY; o <= PLAN_MIXED; o++) {
        r.objective = (enum plan_objective)o;
        struct plan p;
        const uint64_t start = clock_now_ns();
        assert_ok(plan_make(&p, &r, &rig_err));
        const double seconds = (double)(clock_now_ns() - start) / 1e9;
        check_plan(&p, &rig.model);
        print_message("%s, %u layers, %u nodes, objective %d: %.3f s; %u "
                      "used, %.2f tokens/s, %.2f for 30\n",
                      preset, rig.model.n_layer, n_nodes, o, seconds,
                      n_used(&p), p.decode_tokens_per_s, p.batch_tokens_per_s);
        plan_fini(&p);
    }
    mem_free(nodes);
    rig_close(&rig);
}

static void test_real_shapes(void **state)
{
    (void)state;
    plan_large("llama3-70b-shape", 0, 12);
    plan_large("mixtral-8x22b-shape", 0, 12);
    plan_large("tiny-dense", 1024, 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_nodes),
        cmocka_unit_test(test_no_better_cut),
        cmocka_unit_test(test_speed_decides),
        cmocka_unit_test(test_contexts_of_users),
        cmocka_unit_test(test_experts_go_elsewhere),
        cmocka_unit_test(test_the_exact_shortfall),
        cmocka_unit_test(test_enough_in_pieces),
        cmocka_unit_test(test_requests_that_are_wrong),
        cmocka_unit_test(test_plan_survives_every_failed_allocation),
        cmocka_unit_test(test_real_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

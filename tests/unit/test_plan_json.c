/* Plan files and lists of nodes: round trips, any legal cut, and what is
 * refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tests/lib/plan_rig.h"

#define GIB (UINT64_C(1) << 30)

static struct rig dense, moe; /* 4 layers; 2 of 8 experts */

static int setup(void **state)
{
    (void)state;
    plan_rig_model(&dense, 4, 0, 0, true);
    plan_rig_model(&moe, 4, 8, 2, false);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_close(&dense);
    rig_close(&moe);
    return 0;
}

static void assert_same_plan(const struct plan *a, const struct plan *b)
{
    const size_t experts = (size_t)a->n_layer * MODEL_EXPERTS_MAX;
    assert_int_equal(a->n_nodes, b->n_nodes);
    assert_int_equal(a->n_stages, b->n_stages);
    assert_int_equal(a->n_layer, b->n_layer);
    assert_memory_equal(a->expert_node, b->expert_node,
                        experts * sizeof *a->expert_node);
    for (uint32_t i = 0; i < a->n_stages; i++) {
        const struct plan_stage *s = &a->stages[i], *t = &b->stages[i];
        assert_int_equal(s->node, t->node);
        assert_true(s->embed == t->embed && s->head == t->head &&
                    s->again == t->again);
        assert_int_equal(s->layer_first, t->layer_first);
        assert_int_equal(s->layer_end, t->layer_end);
        assert_true(s->decode_s == t->decode_s && s->prefill_s == t->prefill_s);
    }
    for (uint32_t i = 0; i < a->n_nodes; i++) {
        const struct plan_share *s = &a->nodes[i], *t = &b->nodes[i];
        assert_int_equal(s->id, t->id);
        assert_string_equal(s->name, t->name);
        assert_true(s->used == t->used);
        assert_int_equal(s->n_steps, t->n_steps);
        assert_memory_equal(&s->bytes, &t->bytes, sizeof s->bytes);
        assert_memory_equal(s->spec.layers, t->spec.layers,
                            a->n_layer * sizeof *s->spec.layers);
        assert_true(s->spec.embed == t->spec.embed);
        assert_int_equal(s->spec.vocab_end, t->spec.vocab_end);
    }
    assert_int_equal(a->n_ctx, b->n_ctx);
    assert_int_equal(a->n_seq_max, b->n_seq_max);
    assert_int_equal(a->n_pages, b->n_pages);
    assert_int_equal(a->rows_max, b->rows_max);
    assert_int_equal(a->outputs_max, b->outputs_max);
    assert_int_equal(a->n_steps, b->n_steps);
    assert_int_equal(a->kv_type, b->kv_type);
    assert_true(a->decode_tokens_per_s == b->decode_tokens_per_s);
    assert_true(a->batch_tokens_per_s == b->batch_tokens_per_s);
    assert_true(a->prompt_512_s == b->prompt_512_s);
    assert_true(a->busiest_s == b->busiest_s);
    assert_string_equal(a->bottleneck, b->bottleneck);
}

/* Written, read (with defaults where the file must say it all) and written
 * again. */
static void round_trip(const struct plan *p, const struct plan_request *r)
{
    struct buf text = plan_rig_json(p);
    struct plan q;
    const struct plan_request bare = {.model = r->model,
                                      .nodes = r->nodes,
                                      .n_nodes = r->n_nodes,
                                      .n_users = r->n_users};
    assert_ok(plan_read_json(&q, &bare, text.data, text.len, &rig_err));
    assert_same_plan(p, &q);
    struct buf again = plan_rig_json(&q);
    assert_string_equal(text.data, again.data);
    buf_fini(&again);
    buf_fini(&text);
    plan_fini(&q);
}

static void test_round_trip_is_identity(void **state)
{
    (void)state;
    uint32_t n_ok = 0;
    for (uint32_t seed = 0; seed < 80; seed++) {
        struct rng rng = {seed};
        const struct model *m = seed % 2 ? &moe.model : &dense.model;
        struct plan_node nodes[6];
        const uint32_t n = 1 + (uint32_t)rng_below(&rng, 6);
        plan_rig_random_nodes(&rng, m, nodes, n, 2.5);
        struct plan_request r = plan_rig_request(m, nodes, n);
        r.objective = (enum plan_objective)(seed % 3);
        r.kv_type = (enum kv_type)(seed % 4 % KV_TYPE_END);
        r.n_steps = seed % 5;
        struct plan p;
        const enum status st = plan_make(&p, &r, &rig_err);
        if (st == ST_NO_MEMORY) continue;
        assert_ok(st);
        round_trip(&p, &r);
        plan_fini(&p);
        n_ok++;
    }
    assert_true(n_ok > 30);
}

/* --------------------------------------------------------- any legal cut */

struct cut { /* random, of the 4 layers over n nodes */
    uint32_t item_node[6], expert_node[4][8];
};

static int write_cut(char *text, size_t size, const struct cut *c,
                     uint32_t n_expert, uint32_t n_nodes)
{
    int n = snprintf(text, size, "{\"head\":\"pc-%u\",\"embed\":\"pc-%u\",",
                     c->item_node[5], c->item_node[0]);
#define ADD(...) n += snprintf(text + n, size - (size_t)n, __VA_ARGS__)
    ADD("\"experts\":{");
    for (uint32_t l = 0; n_expert && l < 4; l++) {
        ADD("%s\"%u\":{", l ? "," : "", l);
        for (uint32_t node = 0; node < n_nodes; node++) {
            ADD("%s\"pc-%u\":[", node ? "," : "", node);
            const char *comma = "";
            for (uint32_t e = 0; e < n_expert; e++) {
                if (c->expert_node[l][e] != node) continue;
                ADD("%s%u", comma, e);
                comma = ",";
            }
            ADD("]");
        }
        ADD("}");
    }
    ADD("},\"layers\":[");
    for (uint32_t l = 0; l < 4; l++) {
        ADD("%s{\"end\":%u,\"first\":%u,\"node\":\"pc-%u\"}", l ? "," : "",
            l + 1, l, c->item_node[l + 1]);
    }
    ADD("]}");
#undef ADD
    return n;
}

static void check_cut(const struct plan *p, const struct cut *c,
                      uint32_t n_expert)
{
    uint32_t item = 0;
    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct plan_stage *s = &p->stages[i];
        const uint32_t n = s->embed + s->head + s->layer_end - s->layer_first;
        assert_true(n > 0);
        for (uint32_t k = 0; k < n; k++) {
            assert_int_equal(c->item_node[item++], s->node);
        }
    }
    assert_int_equal(item, 6);
    for (uint32_t l = 0; l < 4; l++) {
        for (uint32_t e = 0; e < n_expert; e++) {
            const uint32_t node = c->expert_node[l][e];
            assert_int_equal(p->expert_node[l * MODEL_EXPERTS_MAX + e], node);
            assert_true(p->nodes[node].spec.layers[l].experts[0] >> e & 1);
        }
    }
}

/* Has it a layer with an expert elsewhere? An expert of a layer elsewhere? */
static bool waits(const struct plan *p, uint32_t node)
{
    for (uint32_t l = 0; l < 4; l++) {
        if (!p->nodes[node].spec.layers[l].block) continue;
        if (p->nodes[node].spec.layers[l].experts[0] != 0xff) return true;
    }
    return false;
}
static bool serves(const struct plan *p, uint32_t node)
{
    for (uint32_t l = 0; l < 4; l++) {
        if (p->nodes[node].spec.layers[l].block) continue;
        if (p->nodes[node].spec.layers[l].experts[0] != 0) return true;
    }
    return false;
}

static void test_any_legal_cut(void **state)
{
    (void)state;
    uint32_t n_again = 0, n_crossed = 0;
    for (uint32_t seed = 0; seed < 200; seed++) {
        struct rng rng = {1000 + seed};
        const struct model *m = seed % 2 ? &moe.model : &dense.model;
        const uint32_t n_expert = m->n_expert;
        const uint32_t n = 1 + (uint32_t)rng_below(&rng, 5);
        struct plan_node nodes[5];
        for (uint32_t i = 0; i < n; i++) nodes[i] = plan_rig_node(i, GIB, 1);
        struct cut c;
        for (uint32_t i = 0; i < 6; i++) {
            c.item_node[i] = (uint32_t)rng_below(&rng, n);
        }
        for (uint32_t l = 0; l < 4; l++) {
            for (uint32_t e = 0; e < 8; e++) {
                c.expert_node[l][e] = (uint32_t)rng_below(&rng, n);
            }
        }
        char text[4096];
        const int len = write_cut(text, sizeof text, &c, n_expert, n);
        const struct plan_request r = plan_rig_request(m, nodes, n);
        struct plan p;
        assert_ok(plan_read_json(&p, &r, text, (size_t)len, &rig_err));
        assert_ok(plan_check(&p, m, &rig_err));
        check_cut(&p, &c, n_expert);
        round_trip(&p, &r);
        for (uint32_t i = 0; i < p.n_stages; i++) n_again += p.stages[i].again;
        for (uint32_t i = 0; i < n; i++) {
            n_crossed += n_expert && waits(&p, i) && serves(&p, i);
        }
        plan_fini(&p);
    }
    assert_true(n_again > 50 && n_crossed > 50);
}

static void test_short_plan(void **state)
{
    (void)state;
    struct plan_node nodes[2] = {plan_rig_node(0, GIB, 1),
                                 plan_rig_node(1, GIB, 1)};
    const struct plan_request r = plan_rig_request(&dense.model, nodes, 2);
    static const char text[] =
        "{\"layers\":[{\"node\":\"pc-1\",\"first\":0,\"end\":1},{\"node\":"
        "\"pc-1\",\"first\":1,\"end\":3},{\"node\":\"pc-0\",\"first\":3,"
        "\"end\":4}]}";
    struct plan p;
    assert_ok(plan_read_json(&p, &r, text, sizeof text - 1, &rig_err));
    /* embedding and head where the layers begin and end; one visit a run */
    assert_int_equal(p.n_stages, 2);
    assert_true(p.stages[0].embed && p.stages[0].node == 1);
    assert_true(p.stages[1].head && p.stages[1].node == 0);
    assert_int_equal(p.stages[0].layer_end, 3);
    assert_int_equal(p.n_ctx, r.n_ctx);
    plan_fini(&p);
    /* a node that is too small is named, with the shortfall */
    nodes[1].memory_bytes = GIB >> 12;
    assert_fails(plan_read_json(&p, &r, text, sizeof text - 1, &rig_err),
                 ST_NO_MEMORY, "pc-1 would hold");
    assert_non_null(strstr(rig_err.text, "missing"));
}

/* ------------------------------------------------------------ bad plans */

#define L04  "\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":4}]"
#define E(x) "{" L04 ",\"experts\":" x "}"
#define O(x) "{" L04 ",\"options\":" x "}"

static const struct {
    const char *text;
    enum status want;
    const char *word;
} bad_plans[] = {
    {"", ST_INVALID, "line 1"},
    {"{", ST_INVALID, "line 1"},
    {"[]", ST_INVALID, "not an object"},
    {"3", ST_INVALID, "line 1"},
    {"{\"layers\":[]} x", ST_INVALID, "end of file"},
    {"{}", ST_INVALID, "not a list"},
    {"{" L04 "," L04 "}", ST_INVALID, "duplicate"},
    {"{" L04 ",\"layer\":[]}", ST_INVALID, "\"layer\""},
    {"{\"layers\":{}}", ST_INVALID, "not a list"},
    {"{\"layers\":[]}", ST_INVALID, "end at 0"},
    {"{\"layers\":[7]}", ST_INVALID, "layers[0] is not an object"},
    {"{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":3}]}", ST_INVALID,
     "end at 3"},
    {"{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":5}]}", ST_INVALID,
     "from 1 to 4"},
    {"{\"layers\":[{\"node\":\"pc-0\",\"first\":1,\"end\":4}]}", ST_INVALID,
     "ends at 0"},
    {"{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":0}]}", ST_INVALID,
     "from 1 to 4"},
    {"{\"layers\":[{\"node\":\"pc-0\",\"first\":-1,\"end\":4}]}", ST_INVALID,
     "\"first\""},
    {"{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":4.5}]}", ST_INVALID,
     "\"end\""},
    {"{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":1e99}]}", ST_INVALID,
     "\"end\""},
    {"{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":99999999999999999999}"
     "]}",
     ST_INVALID, "big"},
    {"{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":2},{\"node\":"
     "\"pc-1\",\"first\":1,\"end\":4}]}",
     ST_INVALID, "ends at 2"},
    {"{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":2},{\"node\":"
     "\"pc-1\",\"first\":3,\"end\":4}]}",
     ST_INVALID, "ends at 2"},
    {"{\"layers\":[{\"first\":0,\"end\":4}]}", ST_INVALID, "not the name"},
    {"{\"layers\":[{\"node\":0,\"first\":0,\"end\":4}]}", ST_INVALID,
     "not the name"},
    {"{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":4,\"x\":1}]}",
     ST_INVALID, "\"x\""},
    {"{\"layers\":[{\"node\":\"pc-9\",\"first\":0,\"end\":4}]}", ST_NOT_FOUND,
     "pc-9 has not joined"},
    {"{\"layers\":[{\"node\":\"\",\"first\":0,\"end\":4}]}", ST_NOT_FOUND,
     "has not joined"},
    {"{\"layers\":[{\"node\":\"pc-\\u0000\",\"first\":0,\"end\":4}]}",
     ST_INVALID, "line 1"},
    {"{" L04 ",\"embed\":\"pc-9\"}", ST_NOT_FOUND, "\"embed\": node pc-9"},
    {"{" L04 ",\"embed\":null}", ST_INVALID, "\"embed\" is not the name"},
    {"{" L04 ",\"head\":[\"pc-0\"]}", ST_INVALID, "\"head\" is not the name"},
    {"{" L04 ",\"head\":\"twin\"}", ST_INVALID, "two nodes are named twin"},
    {E("[]"), ST_INVALID, "not an object"},
    {E("{\"4\":{}}"), ST_INVALID, "no layer \"4\""},
    {E("{\"-1\":{}}"), ST_INVALID, "no layer \"-1\""},
    {E("{\"01\":{}}"), ST_INVALID, "no layer \"01\""},
    {E("{\"\":{}}"), ST_INVALID, "no layer \"\""},
    {E("{\"18446744073709551616\":{}}"), ST_INVALID, "no layer"},
    {E("{\"1\":[]}"), ST_INVALID, "not an object"},
    {E("{\"1\":{\"pc-7\":[1]}}"), ST_NOT_FOUND, "pc-7"},
    {E("{\"1\":{\"pc-1\":3}}"), ST_INVALID, "not a list"},
    {E("{\"1\":{\"pc-1\":[8]}}"), ST_INVALID, "0 to 7"},
    {E("{\"1\":{\"pc-1\":[-1]}}"), ST_INVALID, "0 to 7"},
    {E("{\"1\":{\"pc-1\":[\"1\"]}}"), ST_INVALID, "0 to 7"},
    {E("{\"1\":{\"pc-1\":[1,1]}}"), ST_INVALID, "twice"},
    {E("{\"1\":{\"pc-1\":[1],\"pc-0\":[1]}}"), ST_INVALID, "twice"},
    {O("[]"), ST_INVALID, "not an object"},
    {O("{\"n_context\":7}"), ST_INVALID, "n_context"},
    {O("{\"n_ctx\":0}"), ST_INVALID, "n_ctx"},
    {O("{\"n_ctx\":600}"), ST_USAGE, "600"},
    {O("{\"n_ctx\":\"256\"}"), ST_INVALID, "n_ctx"},
    {O("{\"n_seq_max\":4097}"), ST_INVALID, "n_seq_max"},
    {O("{\"rows_max\":5000}"), ST_INVALID, "rows_max"},
    {O("{\"outputs_max\":9}"), ST_USAGE, "9 outputs"},
    {O("{\"n_steps\":1025}"), ST_INVALID, "n_steps"},
    {O("{\"n_pages\":7}"), ST_INVALID, "one context takes 8"},
    {O("{\"n_pages\":33}"), ST_INVALID, "33 pages"},
    {O("{\"n_pages\":4294967295}"), ST_NO_MEMORY, "pc-0 would hold"},
    {O("{\"n_pages\":4294967296}"), ST_INVALID, "n_pages"},
    {O("{\"kv_type\":\"q4_0\"}"), ST_INVALID, "kv_type"},
    {O("{\"kv_type\":1}"), ST_INVALID, "kv_type"},
    {"{" L04 ",\"nodes\":{}}", ST_INVALID, "\"nodes\" is not a list"},
    {"{" L04 ",\"nodes\":[{\"speed\":1}]}", ST_INVALID, "\"speed\""},
    {"{" L04 ",\"predicted\":3}", ST_INVALID, "not an object"},
    {"{" L04 ",\"predicted\":{\"x\":3}}", ST_INVALID, "\"x\""},
    {"{" L04 ",\"embed\":\"\xff\"}", ST_INVALID, "decode"},
};

static void test_bad_plans(void **state)
{
    (void)state;
    struct plan_node nodes[4];
    for (uint32_t i = 0; i < 4; i++) nodes[i] = plan_rig_node(i, GIB, 1);
    snprintf(nodes[2].name, sizeof nodes[2].name, "twin");
    snprintf(nodes[3].name, sizeof nodes[3].name, "twin");
    const struct plan_request r = plan_rig_request(&moe.model, nodes, 4);
    for (size_t i = 0; i < COUNT_OF(bad_plans); i++) {
        const size_t before = mem_in_use();
        struct plan p = {0};
        rig_err.text[0] = '\0';
        const enum status st = plan_read_json(
            &p, &r, bad_plans[i].text, strlen(bad_plans[i].text), &rig_err);
        if (st != bad_plans[i].want || rig_err.status != st ||
            !strstr(rig_err.text, bad_plans[i].word)) {
            fail_msg("%s: %s, %s", bad_plans[i].text, status_name(st),
                     rig_err.text);
        }
        assert_null(p.nodes);
        assert_int_equal(mem_in_use(), before);
    }
    /* the same without experts */
    static const char text[] = E("{\"1\":{\"pc-1\":[0]}}");
    const struct plan_request d = plan_rig_request(&dense.model, nodes, 2);
    struct plan p;
    assert_fails(plan_read_json(&p, &d, text, sizeof text - 1, &rig_err),
                 ST_INVALID, "no layer \"1\" with experts");
    assert_fails(plan_read_json(&p, &d, text, PLAN_JSON_MAX + 1, &rig_err),
                 ST_TOO_LARGE, "at most");
    /* NUL bytes are no end */
    assert_fails(plan_read_json(&p, &d, "{}\0", 3, &rig_err), ST_INVALID,
                 "line 1");
}

static void test_reading_survives_every_failed_allocation(void **state)
{
    (void)state;
    struct plan_node node = plan_rig_node(0, GIB, 1);
    const struct plan_request r = plan_rig_request(&moe.model, &node, 1);
    static const char text[] = "{" L04 "}";
    const size_t before = mem_in_use();
    struct plan p = {0};
    for (long n = 0;; n++) {
        mem_fail_after(n);
        const enum status st =
            plan_read_json(&p, &r, text, sizeof text - 1, &rig_err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_null(p.nodes);
        assert_int_equal(mem_in_use(), before);
    }
    /* writing: the buffer stays as it was */
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(buf_printf(&b, "before"), ST_OK);
    assert_fails(plan_write_json(&p, &b, &rig_err), ST_TOO_LARGE, "limit");
    assert_string_equal(b.data, "before");
    assert_int_equal(plan_write_table(&p, &b), ST_TOO_LARGE);
    assert_string_equal(b.data, "before");
    buf_fini(&b);
    /* a name that JSON cannot hold */
    p.nodes[0].name[0] = (char)0xff;
    buf_init(&b, PLAN_JSON_MAX);
    assert_fails(plan_write_json(&p, &b, &rig_err), ST_INVALID, "UTF-8");
    buf_fini(&b);
    plan_fini(&p);
    assert_int_equal(mem_in_use(), before);
}

/* ---------------------------------------------------------------- nodes */

static void test_nodes(void **state)
{
    (void)state;
    static const char text[] =
        "[{\"name\":\"pc-1\",\"memory\":\"8G\"},"
        "{\"name\":\"Büro\",\"memory\":\"1.5G\",\"isa\":\"ref\",\"threads\":4,"
        "\"read_gbps\":12.5,\"link_mbit\":100,\"latency_us\":80,\"kernels\":"
        "{\"q4_k\":{\"gbps\":9,\"gmacs\":40},\"F16\":{\"gbps\":11}}},"
        "{\"name\":\"c\",\"memory\":4096}]";
    struct plan_node *nodes;
    uint32_t n;
    assert_ok(plan_read_nodes(&nodes, &n, text, sizeof text - 1, &rig_err));
    assert_int_equal(n, 3);
    assert_string_equal(nodes[0].name, "pc-1");
    assert_int_equal(nodes[0].memory_bytes, 8 * GIB);
    assert_true(nodes[0].read_bytes_per_s == 0 && nodes[0].n_threads == 0);
    assert_string_equal(nodes[1].name, "Büro");
    assert_int_equal(nodes[1].memory_bytes, GIB + GIB / 2);
    assert_int_equal(nodes[1].isa, ISA_REF);
    assert_int_equal(nodes[1].n_threads, 4);
    assert_true(nodes[1].read_bytes_per_s == 12.5e9);
    assert_true(nodes[1].link_bytes_per_s == 12.5e6);
    assert_true(nodes[1].rates[QUANT_Q4_K].bytes_per_s == 9e9);
    assert_true(nodes[1].rates[QUANT_Q4_K].macs_per_s == 40e9);
    assert_true(nodes[1].rates[QUANT_F16].bytes_per_s == 11e9);
    assert_int_equal(nodes[2].memory_bytes, 4096);
    assert_int_equal(nodes[2].id, 2);
    mem_free(nodes);
}

#define N(x) "[{\"name\":\"a\",\"memory\":\"8G\"," x "}]"

static void test_bad_nodes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
    } bad[] = {
        {"", "line 1"},
        {"{}", "not a list"},
        {"[]", "not a list"},
        {"[1]", "nodes[0]: it is not an object"},
        {"[{\"name\":\"a\"}]", "\"memory\""},
        {"[{\"memory\":\"8G\"}]", "\"name\""},
        {"[{\"name\":\"\",\"memory\":\"8G\"}]", "\"name\""},
        {"[{\"name\":\"a\\n\",\"memory\":\"8G\"}]", "control"},
        {"[{\"name\":\"0123456789012345678901234567890123456789012345678901234"
         "567890123\",\"memory\":\"8G\"}]",
         "63 bytes"},
        {"[{\"name\":\"a\",\"memory\":\"8X\"}]", "\"memory\""},
        {"[{\"name\":\"a\",\"memory\":\"8GB\"}]", "\"memory\""},
        {"[{\"name\":\"a\",\"memory\":\"1.G\"}]", "\"memory\""},
        {"[{\"name\":\"a\",\"memory\":\"1..5G\"}]", "\"memory\""},
        {"[{\"name\":\"a\",\"memory\":\"-1\"}]", "\"memory\""},
        {"[{\"name\":\"a\",\"memory\":\"\"}]", "\"memory\""},
        {"[{\"name\":\"a\",\"memory\":\"0G\"}]", "\"memory\""},
        {"[{\"name\":\"a\",\"memory\":\"99999999999999T\"}]", "\"memory\""},
        {"[{\"name\":\"a\",\"memory\":0}]", "\"memory\""},
        {"[{\"name\":\"a\",\"memory\":1},{\"name\":\"a\",\"memory\":1}]",
         "nodes[1]: \"a\" is there twice"},
        {N("\"ram\":1"), "\"ram\""},
        {N("\"isa\":\"z80\""), "\"isa\""},
        {N("\"isa\":3"), "\"isa\""},
        {N("\"threads\":0"), "\"threads\""},
        {N("\"threads\":257"), "\"threads\""},
        {N("\"read_gbps\":0"), "\"read_gbps\""},
        {N("\"read_gbps\":\"8\""), "\"read_gbps\""},
        {N("\"link_mbit\":-1"), "\"link_mbit\""},
        {N("\"latency_us\":1e300"), "\"latency_us\""},
        {N("\"kernels\":[]"), "\"kernels\""},
        {N("\"kernels\":{\"Q9\":{}}"), "\"Q9\""},
        {N("\"kernels\":{\"F32\":{\"x\":1}}"), "\"x\""},
        {N("\"kernels\":{\"F32\":{\"gbps\":null}}"), "\"gbps\""},
        {N("\"name\":\"b\""), "duplicate"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct plan_node *nodes = NULL;
        uint32_t n = 77;
        const size_t before = mem_in_use();
        const enum status st = plan_read_nodes(&nodes, &n, bad[i].text,
                                               strlen(bad[i].text), &rig_err);
        if (st != ST_INVALID || !strstr(rig_err.text, bad[i].word)) {
            fail_msg("%s: %s, %s", bad[i].text, status_name(st), rig_err.text);
        }
        assert_true(nodes == NULL && n == 77);
        assert_int_equal(mem_in_use(), before);
    }
    struct plan_node *nodes = NULL;
    uint32_t n;
    static const char good[] = "[{\"name\":\"a\",\"memory\":\"8G\"}]";
    mem_fail_after(0);
    const enum status st =
        plan_read_nodes(&nodes, &n, good, sizeof good - 1, &rig_err);
    mem_fail_after(-1);
    assert_int_equal(st, ST_NO_MEMORY);
}

static void test_table(void **state)
{
    (void)state;
    struct plan_node nodes[3] = {plan_rig_node(0, GIB, 1),
                                 plan_rig_node(1, GIB, 1),
                                 plan_rig_node(2, GIB, 1)};
    const struct plan_request r = plan_rig_request(&moe.model, nodes, 3);
    static const char text[] =
        "{\"layers\":[{\"node\":\"pc-1\",\"first\":0,\"end\":1},{\"node\":"
        "\"pc-0\",\"first\":1,\"end\":3},{\"node\":\"pc-1\",\"first\":3,"
        "\"end\":4}],\"experts\":{\"1\":{\"pc-1\":[3]}}}";
    struct plan p;
    struct buf b;
    assert_ok(plan_read_json(&p, &r, text, sizeof text - 1, &rig_err));
    buf_init(&b, PLAN_JSON_MAX);
    assert_ok(plan_write_table(&p, &b));
    assert_non_null(strstr(b.data, "pc-1  0-0, 3-3                     17 "));
    assert_non_null(strstr(b.data, "pc-0  1-2                          15 "));
    assert_non_null(strstr(b.data, "embedding, head\n"));
    assert_non_null(strstr(b.data, "pc-2  left out"));
    assert_non_null(strstr(b.data, p.bottleneck));
    assert_non_null(strstr(b.data, "4.0 whole contexts of 256"));
    buf_fini(&b);
    plan_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_is_identity),
        cmocka_unit_test(test_any_legal_cut),
        cmocka_unit_test(test_short_plan),
        cmocka_unit_test(test_bad_plans),
        cmocka_unit_test(test_reading_survives_every_failed_allocation),
        cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_bad_nodes),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

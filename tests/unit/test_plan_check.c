/* A plan that is there: its predicted costs against the formulas, and whether
 * plan_check sees what is wrong with it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "tests/lib/plan_rig.h"

#define GIB (UINT64_C(1) << 30)

/* -------------------------------------------------------- cost model */

static double matrix_s(const struct model_matrix *x, double copies, double rows)
{
    if (!x->tensor) return 0;
    const enum quant_type type = (enum quant_type)x->tensor->type;
    const double bytes = (double)quant_row_bytes(type, x->k) * x->n_rows;
    /* 1 GB/s and 5 G multiply-adds a second, whatever the type */
    return fmax(copies * bytes / 1e9, rows * x->k * x->n_rows / 5e9);
}

/* A layer on one node: of E experts, E (1 - (1 - k/E)^rows) are read. */
static double layer_s(const struct model *m, uint32_t l, double rows)
{
    const struct model_layer *y = &m->layers[l];
    const struct model_matrix *all[] = {&y->q,    &y->k,  &y->v,    &y->o,
                                        &y->gate, &y->up, &y->down, &y->router};
    /* keys and values of 256 positions, f16 */
    double sum = rows * 256 * 2 * m->n_head_kv * m->head_dim * 2 / 1e9;
    for (size_t i = 0; i < COUNT_OF(all); i++) sum += matrix_s(all[i], 1, rows);
    const double e = m->n_expert, k = m->n_expert_used;
    for (int p = EXPERT_GATE; e > 0 && p <= EXPERT_DOWN; p++) {
        const struct model_matrix x =
            model_expert(m, l, 0, (enum model_expert_part)p);
        sum += matrix_s(&x, e * (1 - pow(1 - k / e, rows)), rows * k);
    }
    return sum;
}

static void assert_close(double got, double want)
{
    if (!(fabs(got / want - 1) < 1e-9)) fail_msg("%.12g, not %.12g", got, want);
}

static void test_the_cost_model(void **state)
{
    (void)state;
    for (uint32_t n_expert = 0; n_expert <= 8; n_expert += 8) {
        struct rig rig;
        plan_rig_model(&rig, 4, n_expert, n_expert ? 2 : 0, false);
        const struct model *m = &rig.model;
        struct plan_node nodes[2] = {plan_rig_node(0, GIB, 1),
                                     plan_rig_node(1, GIB, 1)};
        const struct plan_request r = plan_rig_request(m, nodes, 2);
        static const char text[] =
            "{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":1},"
            "{\"node\":\"pc-1\",\"first\":1,\"end\":4}]}";
        struct plan p;
        assert_ok(plan_read_json(&p, &r, text, sizeof text - 1, &rig_err));
        const double rows[] = {1, 8};
        for (int i = 0; i < 2; i++) {
            const double b = rows[i];
            const enum quant_type type = (enum quant_type)m->embed.tensor->type;
            /* numbers of tokens weigh nothing; rows are looked up */
            const double first =
                125e-6 + layer_s(m, 0, b) +
                b * (double)quant_row_bytes(type, m->n_embd) / 1e9;
            const double second = 125e-6 + 4 * m->n_embd * b / 117e6 +
                                  layer_s(m, 1, b) + layer_s(m, 2, b) +
                                  layer_s(m, 3, b) + matrix_s(&m->head, 1, b);
            assert_close(i ? p.stages[0].prefill_s : p.stages[0].decode_s,
                         first);
            assert_close(i ? p.stages[1].prefill_s : p.stages[1].decode_s,
                         second);
        }
        plan_fini(&p);
        rig_close(&rig);
    }
}

/* Half of a layer's experts on the other node: both halves at once, and the
 * rows' way there and back. */
static void test_the_cost_of_an_exchange(void **state)
{
    (void)state;
    struct rig rig;
    plan_rig_model(&rig, 4, 8, 2, false);
    const struct model *m = &rig.model;
    struct plan_node nodes[2] = {plan_rig_node(0, GIB, 1),
                                 plan_rig_node(1, GIB, 1)};
    const struct plan_request r = plan_rig_request(m, nodes, 2);
    static const char text[] =
        "{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":4}],"
        "\"experts\":{\"2\":{\"pc-1\":[0,1,2,3]}}}";
    static const char home[] =
        "{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":4}]}";
    struct plan p, q;
    assert_ok(plan_read_json(&p, &r, text, sizeof text - 1, &rig_err));
    assert_ok(plan_read_json(&q, &r, home, sizeof home - 1, &rig_err));
    double experts = 0;
    for (int part = EXPERT_GATE; part <= EXPERT_DOWN; part++) {
        const struct model_matrix x =
            model_expert(m, 2, 0, (enum model_expert_part)part);
        experts += matrix_s(&x, 1, 1);
    }
    /* two of eight are chosen: one of these four on average, and with two
     * draws a quarter of the rows asks for none */
    const double way = 4.0 * m->n_embd / 117e6;
    assert_close(p.stages[0].decode_s - q.stages[0].decode_s,
                 experts + 2 * way + 2 * 0.75 * 125e-6 - 2 * experts);
    plan_fini(&p);
    plan_fini(&q);
    rig_close(&rig);
}

/* -------------------------------------------------------------- check */

/* Six layers on two nodes, an expert of pc-0's on pc-1. */
static const struct model *open_plan(struct plan *p, struct rig *rig)
{
    plan_rig_model(rig, 6, 8, 2, false);
    struct plan_node nodes[2] = {plan_rig_node(0, GIB, 1),
                                 plan_rig_node(1, GIB, 1)};
    const struct plan_request r = plan_rig_request(&rig->model, nodes, 2);
    static const char text[] =
        "{\"layers\":[{\"node\":\"pc-0\",\"first\":0,\"end\":4},{\"node\":"
        "\"pc-1\",\"first\":4,\"end\":6}],\"experts\":{\"1\":{\"pc-1\":[3]}}}";
    assert_ok(plan_read_json(p, &r, text, sizeof text - 1, &rig_err));
    return &rig->model;
}

#define WRONG(what, value, word)                                               \
    do {                                                                       \
        const __typeof__(what) kept = (what);                                  \
        (what) = (value);                                                      \
        assert_fails(plan_check(&p, m, &rig_err), ST_INVALID, (word));         \
        (what) = kept;                                                         \
        assert_ok(plan_check(&p, m, &rig_err));                                \
    } while (0)

static void test_check_of_stages(void **state)
{
    (void)state;
    struct plan p;
    struct rig rig;
    const struct model *m = open_plan(&p, &rig);
    WRONG(p.stages[0].layer_end, 3, "layers 4 to 6");
    WRONG(p.stages[0].layer_end, 5, "layers 4 to 6");
    WRONG(p.stages[1].layer_end, 5, "layers 5 to 6 are on no node");
    WRONG(p.stages[1].layer_end, 7, "layers 4 to 7");
    WRONG(p.stages[1].node, 2, "no node");
    WRONG(p.stages[1].node, 0, "coming back");
    WRONG(p.stages[1].again, true, "coming back");
    WRONG(p.stages[0].embed, false, "first stage embeds");
    WRONG(p.stages[1].head, false, "first stage embeds");
    WRONG(p.n_stages, 1, "first stage embeds");
    plan_fini(&p);
    rig_close(&rig);
}

static void test_check_of_shares(void **state)
{
    (void)state;
    struct plan p;
    struct rig rig;
    const struct model *m = open_plan(&p, &rig);
    WRONG(p.nodes[0].spec.embed, false, "lacks the embedding");
    WRONG(p.nodes[1].spec.vocab_end, 256, "lacks the embedding or head");
    WRONG(p.nodes[1].spec.embed, true, "2 embeddings");
    WRONG(p.nodes[0].spec.vocab_end, 256, "2 heads");
    WRONG(p.nodes[1].spec.layers[4].block, false, "layer 4's block");
    WRONG(p.nodes[1].spec.layers[3].block, true, "layer 3's block");
    WRONG(p.nodes[0].spec.layers[3].experts[0], 0x7f, "layer 3, expert 7");
    WRONG(p.nodes[0].spec.layers[4].experts[3], 1, "layer 4, expert 192");
    WRONG(p.expert_node[3], 1, "layer 0, expert 3");
    WRONG(p.expert_node[3], PLAN_NONE, "layer 0, expert 3");
    WRONG(p.expert_node[8], 0, "layer 0, expert 8");
    WRONG(p.nodes[0].n_steps, 1, "steps");
    WRONG(p.n_pages, 7, "7 pages");
    WRONG(p.n_pages, 33, "33 pages");
    WRONG(p.n_ctx, 0, "context 0");
    WRONG(p.n_layer, 5, "5 layers");
    WRONG(p.rows_max, 0, "0 rows");
    WRONG(p.n_steps, 0, "0 steps");
    const uint64_t memory = p.nodes[1].memory_bytes;
    p.nodes[1].memory_bytes = p.nodes[1].bytes.total - 1;
    assert_fails(plan_check(&p, m, &rig_err), ST_NO_MEMORY, "pc-1");
    p.nodes[1].memory_bytes = p.nodes[1].bytes.total;
    assert_ok(plan_check(&p, m, &rig_err));
    p.nodes[1].memory_bytes = memory;
    /* it waits for an expert */
    assert_int_equal(p.nodes[0].n_steps, 3);
    assert_int_equal(p.nodes[1].n_steps, 2);
    plan_fini(&p);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_cost_model),
        cmocka_unit_test(test_the_cost_of_an_exchange),
        cmocka_unit_test(test_check_of_stages),
        cmocka_unit_test(test_check_of_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

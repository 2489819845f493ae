/* test_spread.c - even plans are plans: every layer and expert once, every
 * node with something to do. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "coordinator/spread.h"
#include "tests/lib/engine_rig.h"

#define NODES 9

static struct plan_node nodes[NODES];

static void check(const struct gen_model *m)
{
    struct rig rig;
    rig_open(&rig, m);
    for (uint32_t n = 1; n <= NODES; n++) {
        struct plan plan;
        struct buf json;
        buf_init(&json, PLAN_JSON_MAX);
        assert_int_equal(spread_write(&json, &rig.model, nodes, n), ST_OK);
        const struct plan_request r = {
            .model = &rig.model, .nodes = nodes, .n_nodes = n};
        assert_ok(plan_read_json(&plan, &r, json.data, json.len, &rig_err));
        assert_ok(plan_check(&plan, &rig.model, &rig_err));
        const uint32_t most = rig.model.n_expert > rig.model.n_layer && n > 1
                                  ? rig.model.n_expert
                                  : rig.model.n_layer;
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(plan.nodes[i].used, i < most);
        }
        plan_fini(&plan);
        buf_fini(&json);
    }
    rig_close(&rig);
}

static void test_every_node_has_something(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[i] = (struct plan_node){.id = i + 1,
                                      .memory_bytes = UINT64_C(1) << 30,
                                      .isa = ISA_REF,
                                      .n_threads = 1,
                                      .read_bytes_per_s = 1e9 * (i + 1)};
        snprintf(nodes[i].name, sizeof nodes[i].name, "pc-%u \"x\"", i);
    }
    const struct gen_model moe = rig_moe(), dense = rig_dense();
    check(&moe);
    check(&dense);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_node_has_something),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

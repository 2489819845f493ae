/* test_probe.c - the measurement says something about every type, in the
 * memory that it may use. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>

#include "worker/probe.h"

#define ALL (probe_types(&(struct wire_probe){0}))

static void check(const struct wire_report *r, uint32_t n)
{
    assert_true(isfinite(r->read_bytes_per_s) && r->read_bytes_per_s > 1e6);
    assert_int_equal(r->n_rates, n);
    for (uint32_t i = 0; i < r->n_rates; i++) {
        const struct wire_rate *rate = &r->rates[i];
        assert_non_null(quant_info(rate->type));
        assert_true(isfinite(rate->bytes_per_s) && rate->bytes_per_s > 1e4);
        assert_true(isfinite(rate->macs_per_s) && rate->macs_per_s > 1e4);
        for (uint32_t j = 0; j < i; j++) {
            assert_int_not_equal(rate->type, r->rates[j].type);
        }
    }
}

static void test_every_type(void **state)
{
    (void)state;
    for (int ref = 0; ref < 2; ref++) {
        const struct shard_options o = {.isa = ref ? ISA_REF : cpu_isa(),
                                        .n_threads = 2,
                                        .memory_max = UINT64_C(1) << 30};
        struct wire_report r = {.link_bytes_per_s = 5, .link_latency_s = 6};
        probe_measure(&o, ALL, &r);
        check(&r, 15);
        assert_true(r.link_bytes_per_s == 5 && r.link_latency_s == 6);
        assert_int_equal(mem_in_use(), 0);
    }
}

static void test_little_memory(void **state)
{
    (void)state;
    const struct shard_options o = {
        .isa = cpu_isa(), .n_threads = 1, .memory_max = 8u << 20};
    struct wire_report r = {0};
    probe_measure(&o, ALL, &r);
    check(&r, 15);
}

/* Those that are asked for, once each, after what was there. */
static void test_some_types(void **state)
{
    (void)state;
    const struct wire_probe p = {.n_types = 4,
                                 .types = {QUANT_Q6_K, 29, QUANT_F32, 14}};
    const struct shard_options o = {
        .isa = cpu_isa(), .n_threads = 1, .memory_max = 8u << 20};
    struct wire_report r = {0};
    assert_int_equal(probe_types(&p), 1u << QUANT_Q6_K | 1u << QUANT_F32);
    probe_measure(&o, probe_types(&p), &r);
    check(&r, 2);
    assert_int_equal(r.rates[0].type, QUANT_F32);
    assert_int_equal(r.rates[1].type, QUANT_Q6_K);
    probe_measure(&o, 1u << QUANT_Q4_K, &r);
    check(&r, 3);
}

/* Without memory it is zero, whichever allocation it is that fails. */
static void test_no_memory(void **state)
{
    (void)state;
    const struct shard_options o = {
        .isa = cpu_isa(), .n_threads = 1, .memory_max = 8u << 20};
    for (long n = 0; n < 8; n++) {
        struct wire_report r = {.read_bytes_per_s = 9};
        mem_fail_after(n);
        probe_measure(&o, ALL, &r);
        mem_fail_after(-1);
        assert_true(r.read_bytes_per_s == 0 || n > 4);
        assert_true(r.n_rates == 0 || n > 4);
        assert_int_equal(mem_in_use(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type),
        cmocka_unit_test(test_little_memory),
        cmocka_unit_test(test_some_types),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Seeded numbers: other machines and later versions draw the same. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/compiler.h"
#include "common/rng.h"

/* SplitMix64's published first outputs for these seeds. */
static void test_stream_is_splitmix64(void **state)
{
    (void)state;
    static const uint64_t zero[] = {UINT64_C(0xe220a8397b1dcdaf),
                                    UINT64_C(0x6e789e6aa1b965f4),
                                    UINT64_C(0x06c45d188009454f)};
    static const uint64_t other[] = {
        UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
        UINT64_C(9817491932198370423), UINT64_C(4593380528125082431),
        UINT64_C(16408922859458223821)};
    struct rng r = {0};
    for (size_t i = 0; i < COUNT_OF(zero); i++) {
        assert_true(rng_u64(&r) == zero[i]);
    }
    r.state = 1234567;
    for (size_t i = 0; i < COUNT_OF(other); i++) {
        assert_true(rng_u64(&r) == other[i]);
    }
}

/* Computed outside of C from the definition in rng.h. */
static void test_counter_form_is_pinned(void **state)
{
    (void)state;
    assert_true(rng_at(0, 0, 0) == UINT64_C(0x20987b1a552bbb8c));
    assert_true(rng_at(1, 0, 0) == UINT64_C(0x73f2337a87d0809e));
    assert_true(rng_at(0, 1, 0) == UINT64_C(0xe225a61c09eb5b13));
    assert_true(rng_at(0, 0, 1) == UINT64_C(0x59ae5cdbacf1eccc));
    assert_true(rng_at(42, 7, 3) == UINT64_C(0x9aebb30b573f36f0));
    assert_true(rng_at(UINT64_MAX, UINT64_MAX, UINT64_MAX) ==
                UINT64_C(0x85d08933fbc44220));
}

static void test_unit_stays_inside_its_open_interval(void **state)
{
    (void)state;
    assert_true(rng_unit(0) == 0x1p-53);
    assert_true(rng_unit(UINT64_MAX) == 1.0 - 0x1p-53);
    assert_true(rng_unit(UINT64_C(1) << 63) == 0.5 + 0x1p-53);
    assert_true(rng_unit(0xfff) == 0x1p-53); /* low bits do not count */
}

static void test_numbers_spread(void **state)
{
    (void)state;
    struct rng r = {.state = 5};
    double sum = 0, squares = 0;
    int count[10] = {0};
    enum { N = 100000 };
    for (int i = 0; i < N; i++) {
        const double u = rng_unit(rng_u64(&r));
        sum += u;
        squares += u * u;
        const uint64_t k = rng_below(&r, 10);
        assert_true(k < 10);
        count[k]++;
    }
    const double mean = sum / N;
    const double variance = squares / N - mean * mean;
    assert_true(mean > 0.495 && mean < 0.505);
    assert_true(variance > 0.082 && variance < 0.085); /* 1/12 */
    for (int k = 0; k < 10; k++) {
        assert_in_range(count[k], N / 10 - N / 100, N / 10 + N / 100);
    }
}

static void test_clock_does_not_go_back(void **state)
{
    (void)state;
    uint64_t last = clock_now_ns();
    assert_true(last > 0);
    for (int i = 0; i < 1000; i++) {
        const uint64_t now = clock_now_ns();
        assert_true(now >= last);
        last = now;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_is_splitmix64),
        cmocka_unit_test(test_counter_form_is_pinned),
        cmocka_unit_test(test_unit_stays_inside_its_open_interval),
        cmocka_unit_test(test_numbers_spread),
        cmocka_unit_test(test_clock_does_not_go_back),
    };
    return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}

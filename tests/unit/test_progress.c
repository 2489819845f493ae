/* test_progress.c - the line that says how far the fetching is. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "worker/progress.h"

#define MIB    (UINT64_C(1) << 20)
#define SECOND UINT64_C(1000000000)

static void expect(struct progress *p, uint64_t now, uint64_t done,
                   const char *line)
{
    char out[80];
    progress_line(p, now, done * MIB, 200 * MIB, out, sizeof out);
    assert_string_equal(out, line);
}

/* What the cache had at the beginning says nothing of the network. */
static void test_rate_and_time_left(void **state)
{
    (void)state;
    struct progress p = {0};
    expect(&p, 5 * SECOND, 50, "50.0 of 200.0 MiB");
    expect(&p, 5 * SECOND + SECOND / 2, 55, "55.0 of 200.0 MiB");
    expect(&p, 7 * SECOND, 52, "52.0 of 200.0 MiB, 1.0 MiB/s, 2:28 left");
    expect(&p, 15 * SECOND, 100, "100.0 of 200.0 MiB, 5.0 MiB/s, 0:20 left");
    expect(&p, 35 * SECOND, 200, "200.0 of 200.0 MiB, 5.0 MiB/s, 0:00 left");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate_and_time_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

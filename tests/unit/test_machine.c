/* test_machine.c - addresses as they are typed; memory and name of this
 * machine. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/machine.h"

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        uint32_t port;
    } good[] = {{"0.0.0.0:7420", "0.0.0.0", 7420},
                {"127.0.0.1", "127.0.0.1", 9},
                {"host:0", "host", 0},
                {"h:65535", "h", 65535}};
    static const char *const bad[] = {
        "",
        ":1",
        "h:",
        "h:65536",
        "h:-1",
        "h: 1",
        "h:+1",
        "h:1x",
        "h:99999999999999999999",
        "a-host-name-of-sixty-four-bytes-is-one-more-than-there-may-be-here:1"};
    char host[MACHINE_HOST_MAX + 1];
    struct error err;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint32_t port = 9;
        assert_int_equal(machine_address(good[i].text, host, &port, &err),
                         ST_OK);
        assert_string_equal(host, good[i].host);
        assert_int_equal(port, good[i].port);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint32_t port = 9;
        assert_int_equal(machine_address(bad[i], host, &port, &err), ST_USAGE);
        assert_int_equal(port, 9);
    }
}

static void test_this_machine(void **state)
{
    (void)state;
    char name[MACHINE_HOST_MAX + 1];
    machine_name(name, "nobody");
    assert_in_range(strlen(name), 1, MACHINE_HOST_MAX);
    assert_true(machine_memory_available() > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

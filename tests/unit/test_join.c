/* test_join.c - join strings: what is taken, what is refused, and why. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/join.h"

#define KEY "000102030405060708090a0b0c0d0e0fF0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
#define HOST_63                                                                \
    "a23456789012345678901234567890123456789012345678901234567890123"

static void test_takes_what_serve_prints(void **state)
{
    (void)state;
    struct join j;
    assert_int_equal(
        join_parse(&j, "potluck://10.0.0.7:7420/" KEY "?token=aB-_9", NULL),
        ST_OK);
    assert_string_equal(j.host, "10.0.0.7");
    assert_int_equal(j.port, 7420);
    assert_string_equal(j.token, "aB-_9");
    for (uint8_t i = 0; i < 16; i++) {
        assert_int_equal(j.key[i], i);
        assert_int_equal(j.key[16 + i], 0xf0 + i);
    }
    assert_int_equal(
        join_parse(&j, " \n\tpotluck://pc-1.school.lan:1/" KEY "\r\n", NULL),
        ST_OK);
    assert_string_equal(j.host, "pc-1.school.lan");
    assert_string_equal(j.token, "");
    assert_int_equal(
        join_parse(&j, "potluck://" HOST_63 ":65535/" KEY "?token=" HOST_63,
                   NULL),
        ST_OK);
}

static void test_comes_back(void **state)
{
    (void)state;
    struct join a = {.port = 65535}, b;
    char text[JOIN_TEXT_BYTES];
    memset(a.host, 'h', JOIN_HOST_MAX);
    memset(a.key, 0xa5, sizeof a.key);
    for (int with = 0; with < 2; with++) {
        memset(a.token, with ? 't' : '\0', JOIN_TOKEN_MAX);
        memset(text, 'x', sizeof text);
        join_format(text, &a);
        assert_int_equal(join_parse(&b, text, NULL), ST_OK);
        assert_memory_equal(&a, &b, sizeof a);
    }
}

static void test_says_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "begin"},
        {"http://h:1/" KEY, "begin"},
        {"potluck:/h:1/" KEY, "begin"},
        {"potluck://:1/" KEY, "host"},
        {"potluck://h;x:1/" KEY, "port"},
        {"potluck://*:1/" KEY, "host"},
        {"potluck://" HOST_63 "x:1/" KEY, "host"},
        {"potluck://h/" KEY, "port"},
        {"potluck://h:/" KEY, "port"},
        {"potluck://h:0/" KEY, "port"},
        {"potluck://h:65536/" KEY, "port"},
        {"potluck://h:000001/" KEY, "port"},
        {"potluck://h:-1/" KEY, "port"},
        {"potluck://h:1", "key"},
        {"potluck://h:1/", "key"},
        {"potluck://h:1/abc", "key"},
        {"potluck://h:1/" KEY "0", "key"},
        {"potluck://h:1/" KEY "?token=", "token"},
        {"potluck://h:1/" KEY "?token=" HOST_63 "x", "token"},
        {"potluck://h:1/" KEY "?token=a&b=c", "follows"},
        {"potluck://h:1/" KEY "?toke=a", "follows"},
        {"potluck://h:1/" KEY " potluck", "follows"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct join j = {.port = 12345};
        struct error err = {0};
        if (join_parse(&j, bad[i].text, &err) != ST_INVALID ||
            !strstr(err.text, bad[i].says) || j.port != 12345) {
            fail_msg("\"%s\": \"%s\"", bad[i].text, err.text);
        }
    }
}

static void test_keeps_the_token_to_itself(void **state)
{
    (void)state;
    struct join j;
    struct error err;
    assert_int_equal(
        join_parse(&j, "potluck://h:1/" KEY "?token=sesame#", &err),
        ST_INVALID);
    assert_null(strstr(err.text, "sesame"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_what_serve_prints),
        cmocka_unit_test(test_comes_back),
        cmocka_unit_test(test_says_what_is_wrong),
        cmocka_unit_test(test_keeps_the_token_to_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

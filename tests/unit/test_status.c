/* Names, sentences and prefixes of errors. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/status.h"

static void test_every_status_has_a_name_and_a_text(void **state)
{
    (void)state;
    static const enum status all[] = {
#define X(code, text) ST_##code,
        STATUS_MAP(X)
#undef X
    };
    assert_int_equal(ST_OK, 0);
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        assert_true(strlen(status_name(all[i])) > 0);
        assert_true(strlen(status_text(all[i])) > 0);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(status_name(all[i]), status_name(all[j]));
            assert_string_not_equal(status_text(all[i]), status_text(all[j]));
        }
    }
    assert_string_equal(status_name(ST_NO_MEMORY), "NO_MEMORY");
    assert_string_equal(status_text(ST_TRUNCATED), "ends too early");
    assert_non_null(status_name((enum status)999));
    assert_non_null(status_text((enum status)999));
}

static void test_set_fills_and_returns(void **state)
{
    (void)state;
    struct error err = {0};
    assert_int_equal(error_set(&err, ST_INVALID, "%s: byte %d", "a.gguf", 7),
                     ST_INVALID);
    assert_int_equal(err.status, ST_INVALID);
    assert_string_equal(err.text, "a.gguf: byte 7");
    assert_int_equal(error_set(NULL, ST_IO, "nobody listens"), ST_IO);
}

static void test_prefix_puts_context_in_front(void **state)
{
    (void)state;
    struct error err;
    error_set(&err, ST_TRUNCATED, "needs 8 bytes");
    assert_int_equal(error_prefix(&err, ST_INVALID, "key %d", 3), ST_INVALID);
    assert_int_equal(err.status, ST_INVALID);
    assert_string_equal(err.text, "key 3: needs 8 bytes");
    assert_int_equal(error_prefix(NULL, ST_FULL, "x"), ST_FULL);
}

static void test_long_sentences_are_cut_and_terminated(void **state)
{
    (void)state;
    struct error err;
    char text[2 * sizeof err.text];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    error_set(&err, ST_INVALID, "%s", text);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    error_prefix(&err, ST_INVALID, "here");
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_memory_equal(err.text, "here: xxx", 9);
    error_prefix(&err, ST_INVALID, "%s", text); /* no room for the rest */
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_has_a_name_and_a_text),
        cmocka_unit_test(test_set_fills_and_returns),
        cmocka_unit_test(test_prefix_puts_context_in_front),
        cmocka_unit_test(test_long_sentences_are_cut_and_terminated),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}

/* The growable buffer and the bounds-checked reader. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/buf.h"
#include "common/bytes.h"

static int teardown(void **state)
{
    (void)state;
    mem_fail_after(-1);
    return mem_in_use() == 0 ? 0 : -1;
}

static void test_append_up_to_the_maximum(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    assert_null(b.data);
    assert_int_equal(buf_append(&b, "", 0), ST_OK);
    assert_string_equal(b.data, "");
    assert_int_equal(buf_append(&b, "abcdef", 6), ST_OK);
    assert_int_equal(buf_append(&b, "12345", 5), ST_TOO_LARGE);
    assert_int_equal(b.len, 6);
    assert_string_equal(b.data, "abcdef");
    assert_int_equal(buf_append(&b, "1234", 4), ST_OK);
    assert_string_equal(b.data, "abcdef1234");
    assert_int_equal(buf_append(&b, "x", 1), ST_TOO_LARGE);
    assert_int_equal(buf_append(&b, "", 0), ST_OK);
    assert_int_equal(buf_append(&b, "x", SIZE_MAX), ST_TOO_LARGE);
    assert_int_equal(b.len, 10);
    buf_fini(&b);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.max, 10); /* usable again */
    assert_int_equal(buf_append(&b, "again", 5), ST_OK);
    assert_string_equal(b.data, "again");
    buf_fini(&b);
}

static void test_growth_keeps_every_byte(void **state)
{
    (void)state;
    enum { N = 5000 };
    struct buf b;
    buf_init(&b, N);
    for (int i = 0; i < N; i++) {
        const char c = (char)(i * 7 + i / 256);
        assert_int_equal(buf_append(&b, &c, 1), ST_OK);
        assert_true(b.len < b.cap);
        assert_int_equal(b.data[b.len], 0);
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(b.data[i], (char)(i * 7 + i / 256));
    }
    buf_fini(&b);
}

static void test_printf_appends_whole_or_nothing(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 12);
    assert_int_equal(buf_printf(&b, "%d-%s", 42, "abc"), ST_OK);
    assert_string_equal(b.data, "42-abc");
    assert_int_equal(buf_printf(&b, "%s", "1234567"), ST_TOO_LARGE);
    assert_string_equal(b.data, "42-abc");
    assert_int_equal(buf_printf(&b, "%s", "123456"), ST_OK);
    assert_string_equal(b.data, "42-abc123456");
    assert_int_equal(b.len, 12);
    buf_fini(&b);
}

static void test_reserve_gives_room_and_moves_nothing(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    assert_int_equal(buf_append(&b, "ab", 2), ST_OK);
    char *to = NULL;
    assert_int_equal(buf_reserve(&b, 998, &to), ST_OK);
    assert_ptr_equal(to, b.data + 2);
    assert_int_equal(b.len, 2);
    memset(to, 'x', 998); /* ASan sees a byte too many */
    to = NULL;
    assert_int_equal(buf_reserve(&b, 999, &to), ST_TOO_LARGE);
    assert_null(to);
    buf_fini(&b);
}

static void test_no_memory_leaves_the_buffer_alone(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1 << 20);
    mem_fail_after(0);
    assert_int_equal(buf_append(&b, "abc", 3), ST_NO_MEMORY);
    assert_null(b.data);
    mem_fail_after(-1);
    assert_int_equal(buf_append(&b, "abc", 3), ST_OK);
    char big[5000];
    memset(big, 'x', sizeof big);
    mem_fail_after(0);
    assert_int_equal(buf_append(&b, big, sizeof big), ST_NO_MEMORY);
    assert_int_equal(buf_printf(&b, "%5000d", 1), ST_NO_MEMORY);
    mem_fail_after(-1);
    assert_int_equal(b.len, 3);
    assert_string_equal(b.data, "abc");
    assert_int_equal(buf_append(&b, big, sizeof big), ST_OK);
    assert_int_equal(b.len, 5003);
    buf_fini(&b);
}

static void test_reader_reads_little_endian_unaligned(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0xff, 0x34, 0x12, 0x78, 0x56,
                                    0x34, 0x12, 0x08, 0x07, 0x06,
                                    0x05, 0x04, 0x03, 0x02, 0x01};
    struct reader r = {.base = bytes, .len = sizeof bytes};
    uint8_t a;
    uint16_t b;
    uint32_t c;
    uint64_t d;
    assert_true(reader_u8(&r, &a));
    assert_true(reader_u16(&r, &b));
    assert_true(reader_u32(&r, &c));
    assert_true(reader_u64(&r, &d));
    assert_int_equal(a, 0xff);
    assert_int_equal(b, 0x1234);
    assert_int_equal(c, 0x12345678);
    assert_true(d == UINT64_C(0x0102030405060708));
    assert_int_equal(r.pos, r.len);
    assert_false(reader_u8(&r, &a));
}

static void test_reader_never_goes_past_the_end(void **state)
{
    (void)state;
    static const uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct reader r = {.base = bytes, .len = 7};
    const uint8_t *p = NULL;
    uint64_t v = 99;
    assert_false(reader_u64(&r, &v));
    assert_int_equal(r.pos, 0);
    assert_int_equal(v, 99);
    assert_true(reader_take(&r, 5, &p));
    assert_ptr_equal(p, bytes);
    p = NULL;
    /* pos + n would wrap: the test must not be written that way */
    assert_false(reader_take(&r, SIZE_MAX, &p));
    assert_false(reader_take(&r, SIZE_MAX - 4, &p));
    assert_false(reader_take(&r, 3, &p));
    assert_null(p);
    assert_int_equal(r.pos, 5);
    assert_true(reader_take(&r, 2, &p));
    assert_ptr_equal(p, bytes + 5);
    assert_true(reader_take(&r, 0, &p));
    assert_int_equal(r.pos, 7);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_teardown(f, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_append_up_to_the_maximum),
        CASE(test_growth_keeps_every_byte),
        CASE(test_printf_appends_whole_or_nothing),
        CASE(test_reserve_gives_room_and_moves_nothing),
        CASE(test_no_memory_leaves_the_buffer_alone),
        CASE(test_reader_reads_little_endian_unaligned),
        CASE(test_reader_never_goes_past_the_end),
    };
#undef CASE
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}

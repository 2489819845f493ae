/* test_gguf_bad.c - files that must be refused, politely and without a crash.
 *
 * With POTLUCK_WRITE_CORPUS=DIR each row of the table is also written to
 * DIR, as a seed for the fuzzer. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/gguf.h"
#include "tests/lib/bytes_asm.h"
#include "tests/lib/corpus.h"
#include "tests/lib/gguf_writer.h"
#include "tests/lib/temp.h"

/* n_tensors and n_keys as text. */
#define START(t, k) "raw:GGUF u32:3 u64:" t " u64:" k " "
#define KEYS(k)     START("0", k)
#define TENSORS(t)  START(t, "0")
/* A good tensor: f32, 4 weights, offset o. */
#define GOOD(name, o) "s:" name " u32:1 u64:4 u32:0 u64:" o " "
#define DATA          "pad:32 z:64"

static const struct row {
    const char *why;
    const char *bytes;
    enum status want;
    const char *word; /* in the error's text */
} rows[] = {
    /* start */
    {"no bytes", "", ST_TRUNCATED, "magic"},
    {"three bytes", "raw:GGU", ST_TRUNCATED, "magic"},
    {"magic", "raw:GGUX u32:3 u64:0 u64:0", ST_INVALID, "not a GGUF"},
    {"ggjt magic", "raw:tjgg u32:3 u64:0 u64:0", ST_UNSUPPORTED, "before"},
    {"no version", "raw:GGUF", ST_TRUNCATED, "version"},
    {"version 0", "raw:GGUF u32:0 u64:0 u64:0", ST_UNSUPPORTED, "version 0"},
    {"version 1", "raw:GGUF u32:1 u32:0 u32:0", ST_UNSUPPORTED, "version 1"},
    {"version 4", "raw:GGUF u32:4 u64:0 u64:0", ST_UNSUPPORTED, "version 4"},
    {"big-endian", "raw:GGUF u32:0x03000000 u64:0 u64:0", ST_UNSUPPORTED,
     "big-endian"},
    {"no key count", "raw:GGUF u32:3 u64:0 u32:0", ST_TRUNCATED,
     "number of keys"},
    {"tensors over the limit", START("65537", "0"), ST_TOO_LARGE, "65536"},
    {"tensors 2^64-1", START("-1", "0"), ST_TOO_LARGE, "tensors"},
    {"keys over the limit", START("0", "65537"), ST_TOO_LARGE, "65536"},
    {"keys 2^63", START("0", "0x8000000000000000"), ST_TOO_LARGE, "keys"},
    {"more keys than bytes", START("0", "1000"), ST_TRUNCATED, "list of keys"},
    {"more tensors than bytes", START("1000", "0"), ST_TRUNCATED,
     "list of tensors"},
    /* keys */
    {"key name past the end", KEYS("1") "u64:100 a:10", ST_TRUNCATED, "name"},
    {"key name 2^64-1", KEYS("1") "u64:-1 a:10", ST_TOO_LARGE, "name"},
    {"key name too long", KEYS("1") "u64:65536 a:65536 u32:0 u8:0",
     ST_TOO_LARGE, "65535"},
    {"empty key", KEYS("1") "u64:0 u32:0 u8:0 z:8", ST_INVALID, "empty"},
    {"NUL in a key", KEYS("1") "u64:3 raw:a u8:0 raw:b u32:0 u8:0", ST_INVALID,
     "control character 0x00"},
    {"newline in a key", KEYS("1") "u64:2 raw:a u8:10 u32:0 u8:0", ST_INVALID,
     "control character 0x0a"},
    {"key twice", KEYS("2") "s:a.b u32:0 u8:1 s:a.b u32:4 u32:1", ST_INVALID,
     "twice"},
    {"key twice, not in a row",
     KEYS("3") "s:k u32:0 u8:1 s:j u32:0 u8:1 s:k u32:0 u8:1", ST_INVALID,
     "\"k\" occurs twice"},
    {"unknown value type", KEYS("1") "s:key u32:13 u64:0", ST_INVALID, "13"},
    {"value type 2^32-1", KEYS("1") "s:key u32:-1 u64:0", ST_INVALID,
     "4294967295"},
    {"value past the end", KEYS("1") "s:key u32:10 u32:0", ST_TRUNCATED,
     "its value"},
    {"bool of 2", KEYS("1") "s:some.flag u32:7 u8:2", ST_INVALID, "bool"},
    {"bool of 255", KEYS("1") "s:some.flag u32:7 u8:255", ST_INVALID,
     "some.flag"},
    {"string past the end", KEYS("1") "s:key u32:8 u64:9 a:8", ST_TRUNCATED,
     "string"},
    {"string of 2^64-1", KEYS("1") "s:key u32:8 u64:-1 a:8", ST_TRUNCATED,
     "string"},
    {"second key past the end", KEYS("2") "s:key u32:8 s:long_enough",
     ST_TRUNCATED, "key 1"},
    /* arrays */
    {"array of arrays", KEYS("1") "s:key u32:9 u32:9 u64:1 u32:0 u64:0",
     ST_UNSUPPORTED, "arrays of arrays"},
    {"array of unknown type", KEYS("1") "s:key u32:9 u32:99 u64:1 z:8",
     ST_INVALID, "99"},
    {"array past the end", KEYS("1") "s:key u32:9 u32:5 u64:3 z:8",
     ST_TRUNCATED, "3 x 4"},
    {"array whose bytes overflow",
     KEYS("1") "s:key u32:9 u32:12 u64:0x2000000000000001 z:8", ST_TRUNCATED,
     "array"},
    {"array of 2^64-1 strings", KEYS("1") "s:key u32:9 u32:8 u64:-1 z:8",
     ST_TRUNCATED, "array of strings"},
    {"more strings than bytes", KEYS("1") "s:key u32:9 u32:8 u64:3 z:16",
     ST_TRUNCATED, "array of strings"},
    {"last string past the end",
     KEYS("1") "s:key u32:9 u32:8 u64:3 s:a s:b u64:2 raw:c", ST_TRUNCATED,
     "element 2"},
    {"array with a bool of 7",
     KEYS("1") "s:key u32:9 u32:7 u64:3 u8:0 u8:1 u8:7", ST_INVALID, "bool"},
    {"array without a length", KEYS("1") "s:key u32:9 u32:7 u32:0",
     ST_TRUNCATED, "length"},
    /* alignment */
    {"alignment 0", KEYS("1") "s:general.alignment u32:4 u32:0", ST_INVALID,
     "power of two"},
    {"alignment 4", KEYS("1") "s:general.alignment u32:4 u32:4", ST_INVALID,
     "power of two"},
    {"alignment 48", KEYS("1") "s:general.alignment u32:4 u32:48", ST_INVALID,
     "alignment 48"},
    {"alignment 2^31", KEYS("1") "s:general.alignment u32:4 u32:0x80000000",
     ST_INVALID, "power of two"},
    {"alignment as a string", KEYS("1") "s:general.alignment u32:8 s:32",
     ST_INVALID, "string"},
    {"alignment below 0", KEYS("1") "s:general.alignment u32:5 u32:-32",
     ST_INVALID, "fit"},
    /* tensors */
    {"tensor name too long",
     TENSORS("1") "u64:65 a:65 u32:1 u64:4 u32:0 u64:0 " DATA, ST_TOO_LARGE,
     "64"},
    {"empty tensor name", TENSORS("1") "u64:0 u32:1 u64:4 u32:0 u64:0 " DATA,
     ST_INVALID, "empty"},
    {"NUL in a tensor name",
     TENSORS("1") "u64:2 raw:a u8:0 u32:1 u64:4 u32:0 u64:0 " DATA, ST_INVALID,
     "control"},
    {"tensor twice", TENSORS("2") GOOD("t", "0") GOOD("t", "32") DATA,
     ST_INVALID, "twice"},
    {"five dimensions",
     TENSORS("1") "s:t u32:5 u64:1 u64:1 u64:1 u64:1 u64:1 u32:0 u64:0 " DATA,
     ST_INVALID, "5 dimensions"},
    {"2^32-1 dimensions", TENSORS("1") "s:t u32:-1 u64:1 u32:0 u64:0 " DATA,
     ST_INVALID, "dimensions"},
    {"a dimension of 0", TENSORS("1") "s:t u32:2 u64:4 u64:0 u32:0 u64:0 " DATA,
     ST_INVALID, "dimension 1 is 0"},
    {"shape overflows",
     TENSORS("1") "s:t u32:3 u64:0x100000000 u64:0x100000000 u64:2 u32:0 "
                  "u64:0 " DATA,
     ST_INVALID, "overflows"},
    {"rows overflow",
     TENSORS("1") "s:t u32:4 u64:1 u64:-1 u64:-1 u64:1 u32:0 u64:0 " DATA,
     ST_INVALID, "overflows"},
    {"bytes overflow",
     TENSORS("1") "s:t u32:1 u64:0x4000000000000001 u32:0 u64:0 " DATA,
     ST_INVALID, "overflows"},
    {"unknown type whose shape overflows",
     TENSORS("1") "s:t u32:2 u64:-1 u64:3 u32:99 u64:0 " DATA, ST_INVALID,
     "overflows"},
    {"half a block", TENSORS("1") "s:t u32:1 u64:48 u32:8 u64:0 " DATA,
     ST_INVALID, "blocks of 32"},
    {"half a big block", TENSORS("1") "s:t u32:1 u64:128 u32:12 u64:0 " DATA,
     ST_INVALID, "Q4_K"},
    {"offset not aligned", TENSORS("1") GOOD("t", "16") DATA, ST_INVALID,
     "alignment 32"},
    {"offset not aligned to 64",
     START("1", "1") "s:general.alignment u32:4 u32:64 " GOOD("t",
                                                              "32") "z:999",
     ST_INVALID, "alignment 64"},
    {"offset past the end", TENSORS("1") GOOD("t", "96") DATA, ST_TRUNCATED,
     "\"t\""},
    {"offset 2^64-32", TENSORS("1") GOOD("t", "-32") DATA, ST_TRUNCATED,
     "do not lie"},
    {"data past the end", TENSORS("1") GOOD("t", "0") "pad:32 z:15",
     ST_TRUNCATED, "do not lie"},
    {"no data section", TENSORS("1") GOOD("t", "0"), ST_TRUNCATED,
     "do not lie"},
    {"unknown type past the end",
     TENSORS("1") "s:t u32:1 u64:4 u32:99 u64:96 " DATA, ST_TRUNCATED, "\"t\""},
    {"tensors overlap",
     TENSORS("2") "s:big u32:1 u64:12 u32:0 u64:0 " GOOD("t", "32") DATA,
     ST_INVALID, "overlaps"},
    {"tensors overlap, in descending order",
     TENSORS("2") GOOD("t", "32") "s:big u32:1 u64:12 u32:0 u64:0 " DATA,
     ST_INVALID, "\"t\" at byte 128 overlaps"},
    {"tensors at one place", TENSORS("2") GOOD("t", "0") GOOD("u", "0") DATA,
     ST_INVALID, "overlaps"},
    {"tensor list cut", TENSORS("2") GOOD("t", "0") "s:uuuuuuuuuu u32:1 u64:4",
     ST_TRUNCATED, "tensor 1"},
    /* sets */
    {"one of a set", KEYS("1") "s:split.count u32:2 u16:3", ST_UNSUPPORTED,
     "file 1 of a set of 3"},
    {"too many splits", KEYS("1") "s:split.count u32:2 u16:1025", ST_TOO_LARGE,
     "1024"},
    {"split number out of range",
     KEYS("2") "s:split.count u32:2 u16:2 s:split.no u32:2 u16:2", ST_INVALID,
     "split.no 2"},
    {"split number as a string", KEYS("1") "s:split.no u32:8 s:one", ST_INVALID,
     "split.no"},
    {"split count below 0", KEYS("1") "s:split.count u32:5 u32:-2", ST_INVALID,
     "split.count"},
};

static struct buf assemble(const char *text)
{
    struct buf b;
    struct error err;
    buf_init(&b, 1 << 20);
    if (bytes_asm(&b, text, &err) != ST_OK) fail_msg("%s", err.text);
    return b;
}

static void test_each_row_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct row *r = &rows[i];
        struct buf b = assemble(r->bytes);
        struct error err = {.text = ""};
        struct gguf *g = NULL;
        const size_t before = mem_in_use();
        const enum status st = gguf_open_mem(&g, b.data, b.len, &err);
        if (st != r->want || !strstr(err.text, r->word)) {
            fail_msg("%s: %s \"%s\"; wanted %s with \"%s\"", r->why,
                     status_name(st), err.text, status_name(r->want), r->word);
        }
        assert_int_equal(err.status, st);
        assert_null(g);
        assert_int_equal(mem_in_use(), before);
        assert_int_equal(gguf_open_mem(&g, b.data, b.len, NULL), r->want);
        assert_true(corpus_seed(r->why, b.data, b.len));
        buf_fini(&b);
    }
}

static enum status read_nothing(void *arg, uint32_t i, uint64_t from, void *dst,
                                size_t n, struct error *err)
{
    (void)arg, (void)i, (void)from, (void)dst, (void)n;
    return error_set(err, ST_IO, "nothing may be read");
}

/* The same as a header without a file: refused too, if only because data
 * follows it. */
static void test_each_row_is_refused_as_header(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buf b = assemble(rows[i].bytes);
        struct error err = {.text = ""};
        struct gguf *g = NULL;
        const size_t before = mem_in_use();
        /* behind no file, a tensor need not lie in it */
        const bool fits = strcmp(rows[i].why, "no data section") == 0;
        const enum status st =
            gguf_open_header(&g, b.data, b.len, read_nothing, NULL, &err);
        if ((st == ST_OK) != fits || st == ST_IO || st == ST_NO_MEMORY) {
            fail_msg("%s: %s \"%s\"", rows[i].why, status_name(st), err.text);
        }
        gguf_close(g);
        assert_int_equal(mem_in_use(), before);
        buf_fini(&b);
    }
}

/* The same through a file: the header arrives in steps there. */
static void test_each_row_is_refused_from_disk(void **state)
{
    (void)state;
    char dir[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES + 16];
    assert_true(temp_dir_create(dir, "test_gguf_bad"));
    snprintf(path, sizeof path, "%s/bad.gguf", dir);
    const int fd = open(path, O_CREAT | O_RDWR, 0600);
    assert_true(fd >= 0);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct row *r = &rows[i];
        struct buf b = assemble(r->bytes);
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, b.data, b.len, 0), b.len);
        struct error err = {.text = ""};
        struct gguf *g = NULL;
        /* A path can look for the rest of a set; here it cannot find it. */
        const bool set = strcmp(r->why, "one of a set") == 0;
        const enum status want = set ? ST_INVALID : r->want;
        const enum status st = gguf_open(&g, path, &err);
        if (st != want || !strstr(err.text, r->word)) {
            fail_msg("%s: %s \"%s\"; wanted %s with \"%s\"", r->why,
                     status_name(st), err.text, status_name(want), r->word);
        }
        assert_non_null(strstr(err.text, "/bad.gguf: "));
        assert_null(g);
        buf_fini(&b);
    }
    close(fd);
    assert_true(temp_dir_remove(dir));
}

/* A valid file with every kind of content, small. */
static struct buf small_valid(void)
{
    static const char *const words[] = {"one", "", "three"};
    static const float scores[] = {0.5f, -1.0f};
    static const uint64_t ne[2] = {32, 2}, row[1] = {4};
    struct gguf_writer *w;
    struct error err;
    struct buf b;
    buf_init(&b, 1 << 16);
    if (gguf_writer_create(&w, 3, &err) != ST_OK) fail_msg("%s", err.text);
    gguf_writer_str(w, "general.architecture", "llama");
    gguf_writer_alignment(w, 64);
    gguf_writer_bool(w, "flag", true);
    gguf_writer_cstrs(w, "words", words, 3);
    gguf_writer_array(w, "scores", GGUF_F32, scores, 2);
    gguf_writer_tensor(w, "blk.0.attn_q.weight", QUANT_Q8_0, 2, ne, NULL);
    gguf_writer_tensor(w, "norm", QUANT_F32, 1, row, NULL);
    if (gguf_writer_save_mem(w, &b, &err) != ST_OK) fail_msg("%s", err.text);
    gguf_writer_free(w);
    return b;
}

static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    struct buf b = small_valid();
    const size_t before = mem_in_use();
    size_t n_opened = 0;
    assert_true(corpus_seed("valid small", b.data, b.len));
    for (size_t n = 0; n <= b.len; n++) {
        struct gguf *g = NULL;
        struct error err;
        /* A block of its own, so that nothing of the rest can be read. */
        char *copy = mem_alloc(n);
        assert_non_null(copy);
        memcpy(copy, b.data, n);
        const enum status st = gguf_open_mem(&g, copy, n, &err);
        mem_free(copy);
        if (st == ST_OK) n_opened++;
        if (st != ST_OK && st != ST_TRUNCATED) {
            fail_msg("first %zu of %zu bytes: %s", n, b.len, err.text);
        }
        gguf_close(g);
        assert_int_equal(mem_in_use(), before);
    }
    /* Only the padding behind the last tensor (4 floats of 64 bytes) may be
     * missing. */
    assert_int_equal(n_opened, 64 - 16 + 1);
    buf_fini(&b);
}

/* Every byte of a valid file set to a few values: no crash, no leak. */
static void test_every_byte_flipped(void **state)
{
    (void)state;
    static const unsigned char masks[] = {0xff, 0x80, 0x01, 0x08};
    struct buf b = small_valid();
    const size_t before = mem_in_use();
    size_t n_refused = 0;
    for (size_t i = 0; i < b.len; i++) {
        for (size_t m = 0; m < COUNT_OF(masks); m++) {
            struct gguf *g = NULL;
            struct error err = {.text = ""};
            b.data[i] = (char)(b.data[i] ^ masks[m]);
            if (gguf_open_mem(&g, b.data, b.len, &err) != ST_OK) {
                n_refused++;
                assert_true(strlen(err.text) > 10);
                assert_null(strchr(err.text, '\n'));
            }
            b.data[i] = (char)(b.data[i] ^ masks[m]);
            gguf_close(g);
            assert_int_equal(mem_in_use(), before);
        }
    }
    assert_true(n_refused > 100);
    buf_fini(&b);
}

static void test_every_allocation_fails_once_in_memory(void **state)
{
    (void)state;
    struct buf b = small_valid();
    const size_t before = mem_in_use();
    struct gguf *g = NULL;
    struct error err;
    long n = 0;
    for (;; n++) {
        mem_fail_after(n);
        const enum status st = gguf_open_mem(&g, b.data, b.len, &err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_non_null(strstr(err.text, "memory"));
        assert_null(g);
        assert_int_equal(mem_in_use(), before);
    }
    assert_true(n >= 8);
    gguf_close(g);
    assert_int_equal(mem_in_use(), before);
    buf_fini(&b);
}

static size_t n_open_files(void)
{
    size_t n = 0;
    for (int fd = 0; fd < 256; fd++) n += fcntl(fd, F_GETFD) != -1;
    return n;
}

/* Through a set of two files, which takes every path of opening. */
static void test_every_allocation_fails_once_on_disk(void **state)
{
    (void)state;
    char dir[TEMP_PATH_BYTES], path[2][TEMP_PATH_BYTES + 32];
    assert_true(temp_dir_create(dir, "test_gguf_bad"));
    for (int i = 0; i < 2; i++) {
        const uint16_t no = (uint16_t)i, count = 2;
        static const uint64_t ne[1] = {4};
        struct gguf_writer *w;
        assert_int_equal(gguf_writer_create(&w, 3, NULL), ST_OK);
        gguf_writer_scalar(w, "split.no", GGUF_U16, &no);
        gguf_writer_scalar(w, "split.count", GGUF_U16, &count);
        gguf_writer_cstrs(w, "words", (const char *[]){"a", "b"}, 2);
        gguf_writer_tensor(w, i ? "b" : "a", QUANT_F32, 1, ne, NULL);
        snprintf(path[i], sizeof path[i], "%s/m-%05d-of-00002.gguf", dir,
                 i + 1);
        assert_int_equal(gguf_writer_save(w, path[i], NULL), ST_OK);
        gguf_writer_free(w);
    }
    const size_t before = mem_in_use(), files = n_open_files();
    struct gguf *g = NULL;
    long n = 0;
    for (;; n++) {
        struct error err;
        mem_fail_after(n);
        const enum status st = gguf_open(&g, path[0], &err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_null(g);
        assert_int_equal(mem_in_use(), before);
        assert_int_equal(n_open_files(), files);
    }
    assert_true(n >= 20);
    assert_int_equal(n_open_files(), files + 2);
    gguf_close(g);
    assert_int_equal(mem_in_use(), before);
    assert_int_equal(n_open_files(), files);
    assert_true(temp_dir_remove(dir));
}

/* Names of hostile length and content stay one short printable sentence. */
static void test_messages_are_clean(void **state)
{
    (void)state;
    struct buf b = assemble(KEYS("1") "u64:600 a:500 u8:0xc3 u8:0x28 u8:0xff "
                                      "a:97 u32:99");
    struct gguf *g = NULL;
    struct error err;
    assert_int_equal(gguf_open_mem(&g, b.data, b.len, &err), ST_INVALID);
    assert_true(strlen(err.text) < 200);
    for (const char *c = err.text; *c; c++) {
        assert_true(*c >= 0x20 && *c < 0x7f);
    }
    assert_non_null(strstr(err.text, "byte"));
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_row_is_refused),
        cmocka_unit_test(test_each_row_is_refused_as_header),
        cmocka_unit_test(test_each_row_is_refused_from_disk),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_every_byte_flipped),
        cmocka_unit_test(test_every_allocation_fails_once_in_memory),
        cmocka_unit_test(test_every_allocation_fails_once_on_disk),
        cmocka_unit_test(test_messages_are_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_gguf_files.c - what only a file system can do: long headers read in
 * steps, huge and shrinking files, sets of files, the writer's streams. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/gguf.h"
#include "tests/lib/bytes_asm.h"
#include "tests/lib/gguf_writer.h"
#include "tests/lib/temp.h"

static char dir[TEMP_PATH_BYTES];
static struct error err;

static void assert_ok(enum status st)
{
    if (st != ST_OK) fail_msg("%s: %s", status_name(st), err.text);
}

static void assert_fails(enum status st, enum status want, const char *word)
{
    if (st != want || !strstr(err.text, word)) {
        fail_msg("%s \"%s\"; wanted %s with \"%s\"", status_name(st), err.text,
                 status_name(want), word);
    }
}

/* In the test's directory; valid until the eighth call after. */
static const char *path_of(const char *name)
{
    static char ring[8][TEMP_PATH_BYTES + 128];
    static unsigned next;
    char *p = ring[next++ % 8];
    snprintf(p, sizeof ring[0], "%s/%s", dir, name);
    return p;
}

static int make_dir(void **state)
{
    (void)state;
    return temp_dir_create(dir, "test_gguf_files") ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return temp_dir_remove(dir) ? 0 : -1;
}

static struct gguf_writer *new_writer(void)
{
    struct gguf_writer *w = NULL;
    assert_ok(gguf_writer_create(&w, 3, &err));
    return w;
}

static void save(struct gguf_writer *w, const char *name)
{
    assert_ok(gguf_writer_save(w, path_of(name), &err));
    gguf_writer_free(w);
}

/* A header of 5 MiB, behind it a tensor. */
static void test_long_header(void **state)
{
    (void)state;
    enum { N = 200000 };
    static struct gguf_str words[N];
    static char text[N][16];
    static float scores[N];
    static const uint64_t ne[1] = {4};
    for (int i = 0; i < N; i++) {
        snprintf(text[i], sizeof text[i], "word%d", i);
        words[i] = (struct gguf_str){text[i], strlen(text[i])};
        scores[i] = (float)-i;
    }
    struct gguf_writer *w = new_writer();
    gguf_writer_strs(w, "words", words, N);
    gguf_writer_array(w, "scores", GGUF_F32, scores, N);
    gguf_writer_str(w, "last", "here");
    gguf_writer_tensor(w, "t", QUANT_F32, 1, ne, scores + 100);
    save(w, "long.gguf");

    const size_t before = mem_in_use();
    struct gguf *g = NULL;
    const struct gguf_array *a;
    struct gguf_str s;
    assert_ok(gguf_open(&g, path_of("long.gguf"), &err));
    assert_ok(gguf_get_array(g, "words", GGUF_STRING, &a, &err));
    for (uint64_t i = 0; i < N; i += 997) {
        s = gguf_array_str(a, i);
        assert_int_equal(s.len, words[i].len);
        assert_memory_equal(s.data, words[i].data, s.len);
    }
    assert_ok(gguf_get_array(g, "scores", GGUF_F32, &a, &err));
    assert_true(gguf_array_f32(a, N - 1) == scores[N - 1]);
    assert_ok(gguf_get_str(g, "last", &s, &err));
    assert_memory_equal(s.data, "here", 4);
    float row[4];
    assert_ok(gguf_read(g, gguf_tensor(g, 0), 0, row, sizeof row, &err));
    assert_memory_equal(row, scores + 100, sizeof row);
    /* What is kept: the header, four bytes a string, little else. */
    assert_true(mem_in_use() - before <
                gguf_file_bytes(g) + 4 * N + (4u << 10));
    gguf_close(g);
    assert_int_equal(mem_in_use(), before);
}

/* 85 GB, of which only the header is real. */
static void test_huge_sparse_file(void **state)
{
    (void)state;
    const off_t n_bytes = 85000000000;
    struct buf b;
    buf_init(&b, 4096);
    assert_ok(bytes_asm(&b,
                        "raw:GGUF u32:3 u64:2 u64:0 "
                        "s:first u32:2 u64:4096 u64:2 u32:0 u64:0 "
                        "s:last u32:2 u64:131072 u64:100000 u32:1 "
                        "u64:50000000000 pad:32",
                        &err));
    const char *path = path_of("huge.gguf");
    const int fd = open(path, O_CREAT | O_RDWR, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, b.data, b.len), b.len);
    assert_int_equal(ftruncate(fd, n_bytes), 0);
    buf_fini(&b);
    struct gguf *g = NULL;
    const size_t before = mem_in_use();
    assert_ok(gguf_open(&g, path, &err));
    assert_int_equal(gguf_file_bytes(g), n_bytes);
    assert_true(mem_in_use() - before < 16384);
    const struct gguf_tensor *t = gguf_find_tensor(g, "last");
    assert_int_equal(t->n_bytes, 26214400000);
    uint64_t word = 1;
    assert_ok(gguf_read(g, t, t->n_bytes - 8, &word, 8, &err));
    assert_int_equal(word, 0);
    gguf_close(g);

    /* A header that never ends stops at the limit, not at the file's end. */
    assert_int_equal(pwrite(fd, "\x01\0\0\0\0\0\0\0", 8, 16), 8); /* 1 key */
    const uint64_t len = 1, huge = UINT64_C(60000000000);
    const uint32_t type = GGUF_STRING;
    assert_int_equal(pwrite(fd, &len, 8, 24), 8);
    assert_int_equal(pwrite(fd, "k", 1, 32), 1);
    assert_int_equal(pwrite(fd, &type, 4, 33), 4);
    assert_int_equal(pwrite(fd, &huge, 8, 37), 8);
    assert_fails(gguf_open(&g, path, &err), ST_TOO_LARGE, "268435456");
    assert_int_equal(mem_in_use(), before);
    close(fd);
    unlink(path);
}

static void test_file_that_shrinks(void **state)
{
    (void)state;
    static const uint64_t ne[2] = {1024, 16};
    struct gguf_writer *w = new_writer();
    gguf_writer_tensor(w, "whole", QUANT_F32, 2, ne, NULL);
    save(w, "shrinks.gguf");
    const char *path = path_of("shrinks.gguf");
    static char bytes[65536];
    struct gguf *g = NULL;
    assert_ok(gguf_open(&g, path, &err));
    const struct gguf_tensor *t = gguf_tensor(g, 0);
    assert_ok(gguf_read(g, t, 0, bytes, sizeof bytes, &err));
    assert_int_equal(truncate(path, (off_t)(t->offset + 1000)), 0);
    assert_ok(gguf_read(g, t, 0, bytes, 1000, &err));
    assert_fails(gguf_read(g, t, 0, bytes, 1001, &err), ST_TRUNCATED, "shrunk");
    assert_non_null(strstr(err.text, "shrinks.gguf"));
    assert_non_null(strstr(err.text, "\"whole\""));
    gguf_close(g);
}

static void test_not_a_file(void **state)
{
    (void)state;
    struct gguf *g = NULL;
    assert_fails(gguf_open(&g, path_of("absent.gguf"), &err), ST_NOT_FOUND,
                 "absent.gguf");
    assert_fails(gguf_open(&g, dir, &err), ST_INVALID, "regular");
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    assert_fails(gguf_open(&g, path_of("fifo"), &err), ST_INVALID, "regular");
    char name[300];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    name[290] = '\n';
    assert_fails(gguf_open(&g, name, &err), ST_IO, "...nnn");
    assert_null(strchr(err.text, '\n'));
    assert_null(g);
}

/* ------------------------------------------------------------- sets */

/* File no of count, with tensors t<no>.0 and t<no>.1 whose values are no. */
static struct gguf_writer *new_part(uint16_t no, uint16_t count, int32_t total)
{
    static const uint64_t ne[1] = {4};
    static float data[4][4];
    char name[32];
    struct gguf_writer *w = new_writer();
    for (int i = 0; i < 4; i++) data[no][i] = no;
    if (no == 0) gguf_writer_str(w, "general.architecture", "llama");
    gguf_writer_scalar(w, "split.no", GGUF_U16, &no);
    gguf_writer_scalar(w, "split.count", GGUF_U16, &count);
    gguf_writer_i32(w, "split.tensors.count", total);
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "t%d.%d", no, i);
        gguf_writer_tensor(w, name, QUANT_F32, 1, ne, data[no]);
    }
    return w;
}

static const char *part_path(const char *base, int no, int count)
{
    char name[64];
    snprintf(name, sizeof name, "%s-%05d-of-%05d.gguf", base, no + 1, count);
    return path_of(name);
}

static void save_set(const char *base, uint16_t count)
{
    for (uint16_t i = 0; i < count; i++) {
        struct gguf_writer *w = new_part(i, count, 2 * count);
        assert_ok(gguf_writer_save(w, part_path(base, i, count), &err));
        gguf_writer_free(w);
    }
}

static void test_sets(void **state)
{
    (void)state;
    for (uint16_t count = 1; count <= 3; count++) {
        struct gguf *g = NULL;
        struct gguf_str s;
        uint64_t n_bytes = 0;
        save_set("set", count);
        assert_ok(gguf_open(&g, part_path("set", 0, count), &err));
        assert_int_equal(gguf_n_splits(g), count);
        assert_int_equal(gguf_n_tensors(g), 2 * count);
        assert_int_equal(gguf_n_keys(g), 4);
        assert_ok(gguf_get_str(g, "general.architecture", &s, &err));
        for (uint32_t i = 0; i < 2u * count; i++) {
            const struct gguf_tensor *t = gguf_tensor(g, i);
            char name[16];
            float v[4] = {9, 9, 9, 9};
            snprintf(name, sizeof name, "t%u.%u", i / 2, i % 2);
            assert_string_equal(t->name, name);
            assert_ptr_equal(gguf_find_tensor(g, name), t);
            assert_int_equal(t->split, i / 2);
            assert_ok(gguf_read(g, t, 0, v, sizeof v, &err));
            assert_true(v[0] == (float)(i / 2) && v[3] == v[0]);
        }
        for (int i = 0; i < count; i++) {
            struct stat st;
            assert_int_equal(stat(part_path("set", i, count), &st), 0);
            n_bytes += (uint64_t)st.st_size;
        }
        assert_int_equal(gguf_file_bytes(g), n_bytes);
        gguf_close(g);
    }
}

static void test_incomplete_sets(void **state)
{
    (void)state;
    struct gguf *g = NULL;
    const size_t before = mem_in_use();
    save_set("bad", 3);
    for (int i = 1; i < 3; i++) {
        assert_fails(gguf_open(&g, part_path("bad", i, 3), &err), ST_INVALID,
                     "open the first, bad-00001-of-00003.gguf");
    }
    assert_int_equal(unlink(part_path("bad", 2, 3)), 0);
    assert_fails(gguf_open(&g, part_path("bad", 0, 3), &err), ST_NOT_FOUND,
                 "bad-00003-of-00003.gguf");
    assert_non_null(strstr(err.text, "missing"));

    /* A part of another set under the right name. */
    struct gguf_writer *w = new_part(1, 3, 6);
    assert_ok(gguf_writer_save(w, part_path("bad", 2, 3), &err));
    assert_fails(gguf_open(&g, part_path("bad", 0, 3), &err), ST_INVALID,
                 "keys say file 2 of 3");
    gguf_writer_free(w);
    w = new_part(2, 3, 7);
    assert_ok(gguf_writer_save(w, part_path("bad", 2, 3), &err));
    assert_fails(gguf_open(&g, part_path("bad", 0, 3), &err), ST_INVALID,
                 "split.tensors.count is 7");
    gguf_writer_free(w);

    /* One that is damaged is named. */
    assert_int_equal(truncate(part_path("bad", 2, 3), 200), 0);
    assert_fails(gguf_open(&g, part_path("bad", 0, 3), &err), ST_TRUNCATED,
                 "bad-00003-of-00003.gguf");

    /* Renamed: where are the others? */
    assert_int_equal(rename(part_path("bad", 0, 3), path_of("renamed.gguf")),
                     0);
    assert_fails(gguf_open(&g, path_of("renamed.gguf"), &err), ST_INVALID,
                 "-00001-of-00003.gguf");
    assert_null(g);
    assert_int_equal(mem_in_use(), before);
}

static void test_sets_that_disagree(void **state)
{
    (void)state;
    struct gguf *g = NULL;
    const size_t before = mem_in_use();
    /* The total is wrong everywhere. */
    for (uint16_t i = 0; i < 2; i++) {
        struct gguf_writer *w = new_part(i, 2, 5);
        assert_ok(gguf_writer_save(w, part_path("sum", i, 2), &err));
        gguf_writer_free(w);
    }
    assert_fails(gguf_open(&g, part_path("sum", 0, 2), &err), ST_INVALID,
                 "count is 5, but its 2 files have 4");
    /* The same tensor in both. */
    static const uint64_t ne[1] = {4};
    for (uint16_t i = 0; i < 2; i++) {
        struct gguf_writer *w = new_part(i, 2, 6);
        gguf_writer_tensor(w, "both", QUANT_F32, 1, ne, NULL);
        assert_ok(gguf_writer_save(w, part_path("dup", i, 2), &err));
        gguf_writer_free(w);
    }
    assert_fails(gguf_open(&g, part_path("dup", 0, 2), &err), ST_INVALID,
                 "\"both\" occurs twice");
    assert_null(g);
    assert_int_equal(mem_in_use(), before);
}

/* ----------------------------------------------------------- writer */

struct fill_ctx {
    uint64_t next; /* row expected */
    uint64_t fail_at;
};

static enum status fill(void *ctx, const char *name, uint64_t first, uint64_t n,
                        void *dst, struct error *e)
{
    struct fill_ctx *c = ctx;
    assert_string_equal(name, "streamed");
    assert_int_equal(first, c->next);
    float *rows = dst;
    for (uint64_t r = 0; r < n; r++) {
        if (first + r == c->fail_at) return error_set(e, ST_NUMERIC, "row");
        for (int i = 0; i < 96; i++) {
            rows[r * 96 + i] = (float)((first + r) * 96) + (float)i;
        }
    }
    c->next += n;
    return ST_OK;
}

static void test_writer_streams(void **state)
{
    (void)state;
    static const uint64_t ne[3] = {96, 1000, 11}, one[1] = {3};
    static const float tail[3] = {1, 2, 3};
    struct fill_ctx c = {.fail_at = UINT64_MAX};
    struct gguf_writer *w = new_writer();
    gguf_writer_tensor_fn(w, "streamed", QUANT_F32, 3, ne, fill, &c);
    gguf_writer_tensor(w, "tail", QUANT_F32, 1, one, tail);
    assert_ok(gguf_writer_save(w, path_of("streamed.gguf"), &err));
    assert_int_equal(c.next, 11000);
    struct gguf *g = NULL;
    assert_ok(gguf_open(&g, path_of("streamed.gguf"), &err));
    assert_int_equal(gguf_file_bytes(g), gguf_writer_bytes(w));
    const struct gguf_tensor *t = gguf_find_tensor(g, "streamed");
    float row[96];
    for (uint64_t r = 0; r < 11000; r += 99) {
        assert_ok(gguf_read(g, t, r * sizeof row, row, sizeof row, &err));
        assert_true(row[95] == (float)(r * 96 + 95));
    }
    assert_ok(gguf_read(g, gguf_find_tensor(g, "tail"), 0, row, 12, &err));
    assert_memory_equal(row, tail, 12);
    gguf_close(g);

    /* A failing source leaves no file, whole or in part. */
    c = (struct fill_ctx){.fail_at = 5000};
    assert_fails(gguf_writer_save(w, path_of("failed.gguf"), &err), ST_NUMERIC,
                 "row");
    assert_int_equal(access(path_of("failed.gguf"), F_OK), -1);
    assert_int_equal(access(path_of("failed.gguf.part"), F_OK), -1);
    gguf_writer_free(w);
}

static void test_writer_keeps_the_first_error(void **state)
{
    (void)state;
    static const uint64_t half[1] = {16};
    struct gguf_writer *w = new_writer();
    gguf_writer_tensor(w, "half", QUANT_Q8_0, 1, half, NULL);
    gguf_writer_u32(w, "later", 1);
    assert_fails(gguf_writer_save(w, path_of("no.gguf"), &err), ST_INVALID,
                 "half");
    assert_int_equal(access(path_of("no.gguf"), F_OK), -1);
    gguf_writer_free(w);
    w = new_writer();
    assert_fails(gguf_writer_save(w, path_of("no/such/dir.gguf"), &err), ST_IO,
                 "dir.gguf");
    gguf_writer_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_long_header),
        cmocka_unit_test(test_huge_sparse_file),
        cmocka_unit_test(test_file_that_shrinks),
        cmocka_unit_test(test_not_a_file),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_incomplete_sets),
        cmocka_unit_test(test_sets_that_disagree),
        cmocka_unit_test(test_writer_streams),
        cmocka_unit_test(test_writer_keeps_the_first_error),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

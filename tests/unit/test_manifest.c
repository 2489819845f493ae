/* test_manifest.c - hashes of cells: computed once, kept, and doubted when
 * anything about the model or the file has changed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/manifest.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/temp.h"

static char dir[TEMP_PATH_BYTES], folder[TEMP_PATH_BYTES + 32];
static char model_path[TEMP_PATH_BYTES + 64], second_path[TEMP_PATH_BYTES + 64];
static struct gguf *g;
static char said[600];
static unsigned n_said;

static void say(void *arg, const char *line)
{
    (void)arg;
    snprintf(said, sizeof said, "%s", line);
    n_said++;
}

static struct gen_model small(void)
{
    struct gen_model m = rig_moe();
    m.n_layer = 2;
    m.n_vocab = 6000; /* a tensor of several cells */
    m.n_splits = 2;
    m.type[GEN_HEAD] = QUANT_F32;
    return m;
}

static int open_all(void **state)
{
    (void)state;
    const struct gen_model m = small();
    if (!temp_dir_create(dir, "test_manifest")) return -1;
    snprintf(folder, sizeof folder, "%s/manifests", dir);
    snprintf(model_path, sizeof model_path, "%s/m-00001-of-00002.gguf", dir);
    snprintf(second_path, sizeof second_path, "%s/m-00002-of-00002.gguf", dir);
    assert_ok(gen_model_write(&m, model_path, &rig_err));
    assert_ok(gguf_open(&g, model_path, &rig_err));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    gguf_close(g);
    temp_dir_remove(folder);
    return temp_dir_remove(dir) && mem_in_use() == 0 ? 0 : -1;
}

/* A test starts without a manifest. */
static int forget(void **state)
{
    (void)state;
    temp_dir_remove(folder);
    said[0] = '\0';
    n_said = 0;
    return 0;
}

static struct manifest *open_manifest(void)
{
    struct manifest *m = NULL;
    assert_ok(manifest_open(&m, g, model_path, dir, say, NULL, &rig_err));
    return m;
}

static uint64_t n_known(struct manifest *m)
{
    uint64_t n_cells, n;
    manifest_counts(m, &n_cells, &n);
    assert_int_equal(n_cells, cell_total(g));
    return n;
}

/* The i-th cell of all. */
static struct cell_id nth(uint64_t i)
{
    struct cell_id id = {0};
    while (i >= cell_grid(gguf_tensor(g, id.tensor)).n) {
        i -= cell_grid(gguf_tensor(g, id.tensor++)).n;
    }
    id.cell = (uint32_t)i;
    return id;
}

/* What a cell's hash must be, from the file. */
static void true_hash(struct cell_id id, uint8_t hash[HASH_BYTES])
{
    const struct gguf_tensor *t = gguf_tensor(g, id.tensor);
    const struct cell_range r = cell_range(t, id.cell);
    char *data = mem_alloc(r.n);
    assert_non_null(data);
    assert_ok(gguf_read(g, t, r.from, data, r.n, &rig_err));
    hash_of(hash, data, r.n);
    mem_free(data);
}

/* The one file in STATE/manifests; asserts that it is one. */
static const char *manifest_file(void)
{
    static char path[sizeof folder + 256];
    unsigned n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        assert_int_equal(strlen(e->d_name), 64 + 4);
        assert_string_equal(e->d_name + 64, ".bin");
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        n++;
    }
    closedir(d);
    assert_int_equal(n, 1);
    return path;
}

/* BLAKE2b-256 of "abc" (RFC 7693's function with 32 bytes of digest). */
static void test_hash(void **state)
{
    (void)state;
    uint8_t hash[HASH_BYTES];
    char text[HASH_TEXT_BYTES];
    hash_of(hash, "abc", 3);
    hash_text(text, hash);
    assert_string_equal(text, "bddd813c634239723171ef3fee98579b"
                              "94964e3bb1cb3e427262c8c068d52319");
    hash_of(hash, NULL, 0);
    hash_text(text, hash);
    assert_string_equal(text, "0e5751c026e543b2e8ab2eb06099daa1"
                              "d1e5df47778f7787faab45cdf12fe3a8");
}

static void test_cells(void **state)
{
    (void)state;
    struct manifest *m = open_manifest();
    struct buf b;
    uint8_t want[HASH_BYTES], hash[HASH_BYTES];
    const uint64_t n = cell_total(g);
    assert_true(n > 30);
    buf_init(&b, CELL_BYTES_MAX);
    for (uint64_t i = 0; i < n; i++) {
        const struct cell_id id = nth(i);
        const struct gguf_tensor *t = gguf_tensor(g, id.tensor);
        const struct cell_range r = cell_range(t, id.cell);
        true_hash(id, want);
        assert_false(manifest_known(m, id, hash));
        if (i % 2) {
            assert_ok(manifest_hash(m, id, hash, &rig_err));
        } else {
            assert_int_equal(buf_append(&b, "?", 1), ST_OK);
            assert_ok(manifest_read_cell(m, id, &b, hash, &rig_err));
            assert_int_equal(b.len, 1 + r.n);
            uint8_t of_bytes[HASH_BYTES];
            hash_of(of_bytes, b.data + 1, r.n);
            assert_memory_equal(of_bytes, want, sizeof want);
            b.len = 0;
        }
        assert_memory_equal(hash, want, sizeof want);
        memset(hash, 0, sizeof hash);
        assert_true(manifest_known(m, id, hash));
        assert_memory_equal(hash, want, sizeof want);
        assert_int_equal(n_known(m), i + 1);
    }
    const struct cell_id none[] = {{0, UINT32_MAX},
                                   {gguf_n_tensors(g), 0},
                                   {UINT32_MAX, UINT32_MAX},
                                   {0, cell_grid(gguf_tensor(g, 0)).n}};
    for (size_t i = 0; i < COUNT_OF(none); i++) {
        assert_fails(manifest_read_cell(m, none[i], &b, hash, &rig_err),
                     ST_NOT_FOUND, "no cell");
        assert_fails(manifest_hash(m, none[i], hash, &rig_err), ST_NOT_FOUND,
                     "no cell");
        assert_false(manifest_known(m, none[i], hash));
    }
    struct buf small_buf;
    buf_init(&small_buf, 5);
    assert_fails(manifest_read_cell(m, nth(0), &small_buf, hash, &rig_err),
                 ST_TOO_LARGE, "bytes");
    assert_int_equal(small_buf.len, 0);
    buf_fini(&small_buf);
    buf_fini(&b);
    manifest_close(m);
    assert_int_equal(n_said, 0);
}

/* Every third cell is known, and in the file. */
static void save_some(void)
{
    struct manifest *m = open_manifest();
    uint8_t hash[HASH_BYTES];
    for (uint64_t i = 0; i < cell_total(g); i += 3) {
        assert_ok(manifest_hash(m, nth(i), hash, &rig_err));
    }
    assert_ok(manifest_save(m, &rig_err));
    manifest_close(m);
}

static void test_kept(void **state)
{
    (void)state;
    uint8_t hash[HASH_BYTES], want[HASH_BYTES];
    save_some();
    struct stat before, after;
    assert_int_equal(stat(manifest_file(), &before), 0);
    struct manifest *m = open_manifest();
    for (uint64_t i = 0; i < cell_total(g); i++) {
        assert_int_equal(manifest_known(m, nth(i), hash), i % 3 == 0);
        if (i % 3) continue;
        true_hash(nth(i), want);
        assert_memory_equal(hash, want, sizeof want);
    }
    /* nothing new: nothing written */
    assert_ok(manifest_save(m, &rig_err));
    assert_int_equal(stat(manifest_file(), &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_ok(manifest_hash(m, nth(1), hash, &rig_err));
    assert_ok(manifest_save(m, &rig_err));
    manifest_close(m);
    m = open_manifest();
    assert_true(manifest_known(m, nth(1), want));
    assert_memory_equal(hash, want, sizeof want);
    assert_int_equal(n_known(m), (cell_total(g) + 2) / 3 + 1);
    manifest_close(m);
    assert_int_equal(n_said, 0);
}

static struct buf read_bytes(const char *path)
{
    struct buf b;
    char chunk[4096];
    buf_init(&b, 1 << 24);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;) {
        assert_int_equal(buf_append(&b, chunk, n), ST_OK);
    }
    fclose(f);
    return b;
}

static void write_bytes(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void assert_ignored(const char *what, const char *word)
{
    n_said = 0;
    struct manifest *m = open_manifest();
    if (n_known(m) != 0 || n_said != 1 || !strstr(said, word)) {
        fail_msg("%s: %u known, said %u: \"%s\", wanted \"%s\"", what,
                 (unsigned)n_known(m), n_said, said, word);
    }
    manifest_close(m);
}

/* Any byte flipped, any length: as good as no file, and said so. */
static void test_damage(void **state)
{
    (void)state;
    save_some();
    const char *path = manifest_file();
    struct buf b = read_bytes(path);
    for (size_t i = 0; i < b.len; i += i < 200 ? 1 : 37) {
        b.data[i] ^= 4;
        write_bytes(path, b.data, b.len);
        assert_ignored("a byte", "checksum");
        b.data[i] ^= 4;
    }
    static const size_t lengths[] = {0, 1, 63, 64, 95, 96, 200};
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        write_bytes(path, b.data, lengths[i]);
        assert_ignored("cut", "damaged");
    }
    assert_int_equal(buf_append(&b, "more", 4), ST_OK);
    write_bytes(path, b.data, b.len);
    assert_ignored("longer", "checksum");
    FILE *f = fopen(path, "wb"); /* a gigabyte of nothing is not read */
    assert_non_null(f);
    assert_int_equal(ftruncate(fileno(f), 1 << 30), 0);
    fclose(f);
    assert_ignored("huge", "too long");
    buf_fini(&b);
    /* it is replaced by the next save */
    save_some();
    n_said = 0;
    struct manifest *m = open_manifest();
    assert_int_equal(n_known(m), (cell_total(g) + 2) / 3);
    assert_int_equal(n_said, 0);
    manifest_close(m);
}

/* Files whose checksum is right, but that lie. */
static void test_lies(void **state)
{
    (void)state;
    save_some();
    const char *path = manifest_file();
    struct buf good = read_bytes(path);
    const uint64_t n = cell_total(g);
    const size_t bits = (n + 63) / 64 * 8, last = 64 + bits - 1;
    assert_true(n % 64 != 0); /* or there are no bits beyond */
    static const struct {
        const char *what;
        size_t at;
        uint8_t flip;
        const char *word;
    } lies[] = {
        {"magic", 0, 1, "something else"},
        {"version", 8, 2, "another version"},
        {"key", 16, 1, "before it changed"},
        {"n_cells", 48, 1, "length"},
        {"n_cells, huge", 55, 0x80, "length"},
        {"n_known", 56, 1, "length"},
        {"n_known, huge", 63, 0x80, "length"},
        {"a bit more", 64, 2, "counts"},
        {"a bit less", 64, 1, "counts"},
        {"a bit moved beyond", 0, 0, "counts"},
    };
    for (size_t i = 0; i < COUNT_OF(lies); i++) {
        struct buf b;
        buf_init(&b, 1 << 24);
        assert_int_equal(buf_append(&b, good.data, good.len), ST_OK);
        b.data[lies[i].at] ^= (char)lies[i].flip;
        if (lies[i].flip == 0) {
            b.data[64] ^= 1;
            b.data[last] ^= (char)0x80;
        }
        hash_of((uint8_t *)b.data + b.len - HASH_BYTES, b.data,
                b.len - HASH_BYTES);
        write_bytes(path, b.data, b.len);
        assert_ignored(lies[i].what, lies[i].word);
        buf_fini(&b);
    }
    buf_fini(&good);
}

static void touch(const char *path, long ns)
{
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, s.st_mtim};
    times[1].tv_nsec = (times[1].tv_nsec + ns) % 1000000000;
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void reopen_model(void)
{
    gguf_close(g);
    assert_ok(gguf_open(&g, model_path, &rig_err));
}

/* Touching any file of the set by a nanosecond makes another model of it. */
static void test_changed_model(void **state)
{
    (void)state;
    const char *const paths[] = {model_path, second_path};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        save_some();
        touch(paths[i], 1);
        reopen_model();
        assert_ignored("touched", "changed");
        save_some(); /* replaces the old one: there is one file still */
        (void)manifest_file();
        touch(paths[i], 999999999);
        reopen_model();
        assert_ignored("touched back", "changed");
    }
    /* longer, at the same time */
    save_some();
    struct stat s;
    assert_int_equal(stat(second_path, &s), 0);
    assert_int_equal(truncate(second_path, s.st_size + 1), 0);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, s.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, second_path, times, 0), 0);
    reopen_model();
    assert_ignored("longer", "changed");
    assert_int_equal(truncate(second_path, s.st_size), 0);
    reopen_model();
}

/* Written to while it is served: no cell of that file any more. */
static void test_changed_while_open(void **state)
{
    (void)state;
    struct manifest *m = open_manifest();
    uint8_t hash[HASH_BYTES];
    struct buf b;
    const uint64_t n = cell_total(g);
    const struct cell_id first = nth(0), last = nth(n - 1);
    assert_int_equal(gguf_tensor(g, first.tensor)->split, 0);
    assert_int_equal(gguf_tensor(g, last.tensor)->split, 1);
    buf_init(&b, CELL_BYTES_MAX);
    assert_ok(manifest_hash(m, last, hash, &rig_err));
    touch(second_path, 1);
    assert_fails(manifest_read_cell(m, last, &b, hash, &rig_err), ST_INVALID,
                 "00002-of-00002.gguf: changed while");
    assert_int_equal(b.len, 0);
    assert_fails(manifest_hash(m, nth(n - 2), hash, &rig_err), ST_INVALID,
                 "changed while");
    assert_ok(manifest_read_cell(m, first, &b, hash, &rig_err));
    buf_fini(&b);
    manifest_close(m);
    reopen_model();
}

/* What cannot be saved is an error in words, and serving goes on. */
static void test_unwritable(void **state)
{
    (void)state;
    char file[TEMP_PATH_BYTES + 32], under[TEMP_PATH_BYTES + 64];
    struct manifest *m = NULL;
    uint8_t hash[HASH_BYTES];
    snprintf(file, sizeof file, "%s/a_file", dir);
    write_bytes(file, "x", 1);
    snprintf(under, sizeof under, "%s/state", file);
    assert_ok(manifest_open(&m, g, model_path, under, say, NULL, &rig_err));
    assert_ok(manifest_hash(m, nth(0), hash, &rig_err));
    assert_fails(manifest_save(m, &rig_err), ST_IO, "cannot be made");
    assert_ok(manifest_hash(m, nth(1), hash, &rig_err));
    manifest_close(m);
    assert_int_equal(unlink(file), 0);
}

struct worker {
    struct manifest *m;
    uint64_t seed;
    uint32_t n_wrong;
};

static void *serve(void *arg)
{
    struct worker *w = arg;
    struct rng rng = {w->seed};
    struct buf b;
    buf_init(&b, CELL_BYTES_MAX);
    for (int i = 0; i < 200; i++) {
        uint8_t hash[HASH_BYTES], of_bytes[HASH_BYTES];
        const struct cell_id id = nth(rng_below(&rng, cell_total(g)));
        b.len = 0;
        if (manifest_read_cell(w->m, id, &b, hash, NULL) != ST_OK) {
            w->n_wrong++;
        } else {
            hash_of(of_bytes, b.data, b.len);
            w->n_wrong += memcmp(hash, of_bytes, sizeof hash) != 0;
        }
        if (i % 50 == 0) w->n_wrong += manifest_save(w->m, NULL) != ST_OK;
    }
    buf_fini(&b);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct manifest *m = open_manifest();
    struct worker w[4];
    pthread_t t[4];
    for (int i = 0; i < 4; i++) {
        w[i] = (struct worker){m, 70 + (uint64_t)i, 0};
        assert_int_equal(pthread_create(&t[i], NULL, serve, &w[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(t[i], NULL), 0);
        assert_int_equal(w[i].n_wrong, 0);
    }
    const uint64_t n = n_known(m);
    assert_ok(manifest_save(m, &rig_err));
    manifest_close(m);
    m = open_manifest();
    assert_int_equal(n_known(m), n);
    assert_int_equal(n_said, 0);
    manifest_close(m);
}

static void test_every_allocation_fails_once(void **state)
{
    (void)state;
    save_some();
    const size_t before = mem_in_use();
    struct manifest *m = NULL;
    long n = 0;
    for (;; n++) {
        mem_fail_after(n);
        const enum status st =
            manifest_open(&m, g, model_path, dir, say, NULL, &rig_err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_fails(st, ST_NO_MEMORY, "memory");
        assert_null(m);
        assert_int_equal(mem_in_use(), before);
    }
    assert_true(n >= 7);
    assert_int_equal(n_known(m), (cell_total(g) + 2) / 3);
    uint8_t hash[HASH_BYTES];
    mem_fail_after(0);
    const enum status st = manifest_hash(m, nth(1), hash, &rig_err);
    mem_fail_after(-1);
    assert_fails(st, ST_NO_MEMORY, "cell");
    assert_ok(manifest_hash(m, nth(1), hash, &rig_err));
    for (n = 0;; n++) {
        mem_fail_after(n);
        const enum status saved = manifest_save(m, &rig_err);
        mem_fail_after(-1);
        if (saved == ST_OK) break;
        assert_fails(saved, ST_NO_MEMORY, "memory");
    }
    assert_true(n >= 4);
    (void)manifest_file(); /* and no temporary one beside it */
    manifest_close(m);
    assert_int_equal(mem_in_use(), before);
    assert_int_equal(n_said, 0);
}

#define TEST(f) cmocka_unit_test_setup(f, forget)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hash),
        TEST(test_cells),
        TEST(test_kept),
        TEST(test_damage),
        TEST(test_lies),
        TEST(test_changed_model),
        TEST(test_changed_while_open),
        TEST(test_unwritable),
        TEST(test_threads),
        TEST(test_every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

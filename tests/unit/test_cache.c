/* test_cache.c - cells on disk: verified, bounded, shared, and never in the
 * way when the disk is full. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/rng.h"
#include "tests/lib/temp.h"
#include "worker/cache.h"

#define CELL 4096

static char dir[TEMP_PATH_BYTES];
static char said[600];
static unsigned n_said;
static struct error err;

static void say(void *arg, const char *line)
{
    (void)arg;
    snprintf(said, sizeof said, "%s", line);
    n_said++;
}

/* Removes a folder with the two levels of folders in it. */
static void remove_tree(const char *path, int depth)
{
    DIR *d = opendir(path);
    if (!d) return;
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        char sub[TEMP_PATH_BYTES + 300];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
        if (unlink(sub) != 0 && depth > 0) remove_tree(sub, depth - 1);
    }
    closedir(d);
    rmdir(path);
}

static int make_dir(void **state)
{
    (void)state;
    said[0] = '\0';
    n_said = 0;
    return temp_dir_create(dir, "test_cache") ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    (void)umount2(dir, MNT_DETACH); /* if the test has failed before its own */
    remove_tree(dir, 4);
    return access(dir, F_OK) != 0 && mem_in_use() == 0 ? 0 : -1;
}

static struct cache *open_cache(const char *path, uint64_t limit)
{
    struct cache *c = NULL;
    if (cache_open(&c, path, limit, say, NULL, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
    return c;
}

/* Cell i: CELL bytes that depend on i, and their hash. */
struct cell {
    uint8_t data[CELL], hash[HASH_BYTES];
};

static struct cell cell_of(uint64_t i)
{
    struct cell c;
    struct rng rng = {i};
    for (size_t k = 0; k < CELL; k += 8) {
        const uint64_t v = rng_u64(&rng);
        memcpy(c.data + k, &v, sizeof v);
    }
    hash_of(c.hash, c.data, CELL);
    return c;
}

static void put(struct cache *c, uint64_t i)
{
    const struct cell x = cell_of(i);
    cache_put(c, x.hash, x.data, CELL);
}

/* Present, and then with the right bytes. */
static bool get(struct cache *c, uint64_t i)
{
    const struct cell x = cell_of(i);
    uint8_t data[CELL];
    if (!cache_get(c, x.hash, data, CELL)) return false;
    assert_memory_equal(data, x.data, CELL);
    return true;
}

static bool has(struct cache *c, uint64_t i)
{
    const struct cell x = cell_of(i);
    return cache_has(c, x.hash, CELL);
}

static void path_of(char path[TEMP_PATH_BYTES + 128], uint64_t i)
{
    const struct cell x = cell_of(i);
    char text[HASH_TEXT_BYTES];
    hash_text(text, x.hash);
    snprintf(path, TEMP_PATH_BYTES + 128, "%s/cells/%.2s/%s", dir, text,
             text + 2);
}

/* Last used so many seconds ago. */
static void age(uint64_t i, long seconds)
{
    char path[TEMP_PATH_BYTES + 128];
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {0}};
    path_of(path, i);
    clock_gettime(CLOCK_REALTIME, &times[1]);
    times[1].tv_sec -= seconds;
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Files in the cells' folders; bytes may be NULL. */
static unsigned n_files(uint64_t *bytes)
{
    char cells[TEMP_PATH_BYTES + 16];
    unsigned n = 0;
    uint64_t sum = 0;
    snprintf(cells, sizeof cells, "%s/cells", dir);
    DIR *d = opendir(cells);
    for (const struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char sub[TEMP_PATH_BYTES + 300];
        if (e->d_name[0] == '.') continue;
        assert_int_equal(strlen(e->d_name), 2); /* and no temporary file */
        snprintf(sub, sizeof sub, "%s/%s", cells, e->d_name);
        DIR *in = opendir(sub);
        for (const struct dirent *f; in && (f = readdir(in)) != NULL;) {
            struct stat s;
            if (f->d_name[0] == '.') continue;
            assert_int_equal(strlen(f->d_name), 62);
            assert_int_equal(fstatat(dirfd(in), f->d_name, &s, 0), 0);
            sum += (uint64_t)s.st_size;
            n++;
        }
        if (in) closedir(in);
    }
    if (d) closedir(d);
    if (bytes) *bytes = sum;
    return n;
}

static void test_put_and_get(void **state)
{
    (void)state;
    char path[TEMP_PATH_BYTES + 128], deep[TEMP_PATH_BYTES + 16];
    struct cache *c = open_cache(dir, 0);
    assert_false(get(c, 1));
    put(c, 1);
    put(c, 2);
    assert_true(get(c, 1));
    assert_true(get(c, 2));
    assert_false(get(c, 3));
    assert_true(has(c, 1));
    assert_false(has(c, 3));
    path_of(path, 1);
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_size, CELL);
    put(c, 1); /* there already */
    const struct cache_counters n = cache_counters(c);
    assert_int_equal(n.hits, 2);
    assert_int_equal(n.misses, 2);
    assert_int_equal(n.puts, 2);
    assert_int_equal(n.evicted + n.damaged, 0);
    assert_false(n.read_only);
    cache_close(c);
    c = open_cache(dir, 0); /* the next session */
    assert_true(get(c, 1));
    cache_close(c);
    snprintf(deep, sizeof deep, "%s/a/b/c", dir);
    c = open_cache(deep, 0);
    put(c, 1);
    assert_true(get(c, 1));
    cache_close(c);
    remove_tree(deep, 3);
    assert_int_equal(n_said, 0);
}

/* Wrong bytes, wrong lengths, not even a file: gone, and a miss. */
static void test_damage(void **state)
{
    (void)state;
    struct cache *c = open_cache(dir, 0);
    char path[TEMP_PATH_BYTES + 128];
    path_of(path, 7);
    for (int kind = 0; kind < 5; kind++) {
        put(c, 7);
        const int fd = open(path, O_RDWR);
        assert_true(fd >= 0);
        uint8_t byte;
        const off_t at = kind == 0 ? 0 : kind == 1 ? CELL - 1 : CELL / 2;
        switch (kind) {
        case 3:
            assert_int_equal(ftruncate(fd, CELL - 1), 0);
            break;
        case 4:
            assert_int_equal(ftruncate(fd, CELL + 1), 0);
            break;
        default:
            assert_int_equal(pread(fd, &byte, 1, at), 1);
            byte ^= 1;
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
        close(fd);
        assert_int_equal(has(c, 7), kind < 3);
        assert_false(get(c, 7));
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(cache_counters(c).damaged, kind + 1);
    }
    put(c, 7);
    assert_true(get(c, 7));
    /* another length than the caller's is another cell to it */
    uint8_t data[2 * CELL];
    const struct cell x = cell_of(7);
    assert_false(cache_get(c, x.hash, data, 2 * CELL));
    /* things that are no files */
    put(c, 8);
    path_of(path, 8);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(has(c, 8));
    assert_false(get(c, 8));
    put(c, 8);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_false(get(c, 8));
    put(c, 8);
    assert_true(get(c, 8));
    assert_int_equal(n_said, 0);
    cache_close(c);
}

/* 16 cells fit; the 17th makes room for itself and a sixteenth. */
static void test_limit_and_order(void **state)
{
    (void)state;
    struct cache *c = open_cache(dir, 16 * CELL);
    for (uint64_t i = 0; i < 16; i++) put(c, i);
    assert_int_equal(n_files(NULL), 16);
    assert_int_equal(cache_counters(c).evicted, 0);
    /* the order of use is not that of putting, nor of names */
    for (uint64_t i = 0; i < 16; i++) age(i, 100 + (long)(i * 7 % 16));
    assert_true(get(c, 13)); /* 13 * 7 % 16 == 11 */
    assert_true(get(c, 9));  /* 15, the oldest */
    put(c, 16);
    assert_int_equal(cache_counters(c).evicted, 1);
    assert_false(has(c, 2)); /* 14 */
    put(c, 17);
    assert_false(has(c, 11)); /* 13 */
    put(c, 18);
    assert_false(has(c, 4)); /* 12 */
    put(c, 19);
    assert_false(has(c, 6)); /* 10; 13 was used */
    assert_int_equal(cache_counters(c).evicted, 4);
    for (uint64_t i = 0; i < 20; i++) {
        const bool gone = i == 2 || i == 11 || i == 4 || i == 6;
        assert_int_equal(get(c, i), !gone);
    }
    cache_close(c);
    assert_int_equal(n_said, 0);
}

/* What this session has put goes last, and only when there is no other way. */
static void test_session_goes_last(void **state)
{
    (void)state;
    uint64_t bytes;
    struct cache *c = open_cache(dir, 0);
    for (uint64_t i = 0; i < 10; i++) put(c, i);
    cache_close(c);
    c = open_cache(dir, 8 * CELL); /* a smaller limit than before */
    assert_int_equal(n_files(NULL), 10);
    for (uint64_t i = 100; i < 108; i++) {
        put(c, i);
        (void)n_files(&bytes);
        assert_true(bytes <= 8 * CELL);
        for (uint64_t k = 100; k <= i; k++) assert_true(has(c, k));
    }
    for (uint64_t i = 0; i < 10; i++) assert_false(has(c, i));
    put(c, 108); /* now its own oldest */
    assert_false(has(c, 100));
    assert_true(has(c, 101) && has(c, 108));
    /* larger than all: not kept, and nothing goes for it */
    static uint8_t large[9 * CELL];
    uint8_t hash[HASH_BYTES];
    hash_of(hash, large, sizeof large);
    cache_put(c, hash, large, sizeof large);
    assert_false(cache_has(c, hash, sizeof large));
    assert_int_equal(n_files(NULL), 8);
    /* exactly all */
    hash_of(hash, large, 8 * CELL);
    cache_put(c, hash, large, 8 * CELL);
    assert_true(cache_has(c, hash, 8 * CELL));
    assert_int_equal(n_files(NULL), 1);
    cache_close(c);
    assert_int_equal(n_said, 0);
}

/* Others fill the folder too: noticed within a sixteenth of the limit. */
static void test_others_in_the_folder(void **state)
{
    (void)state;
    uint64_t bytes;
    struct cache *a = open_cache(dir, 32 * CELL);
    struct cache *b = open_cache(dir, 32 * CELL);
    for (uint64_t i = 0; i < 200; i++) {
        put(i % 3 ? a : b, i);
        (void)n_files(&bytes);
        assert_true(bytes <= (32 + 2 * 3) * CELL);
    }
    for (uint64_t i = 190; i < 200; i++) {
        assert_true(get(i % 3 ? b : a, i));
    }
    cache_close(a);
    cache_close(b);
    assert_int_equal(n_said, 0);
}

/* What a crash has left goes, what another worker is writing stays; files
 * that are none of ours are not touched. */
static void test_strange_files(void **state)
{
    (void)state;
    static const char *const names[] = {"tmp-00ff", "tmp-11ff", "README",
                                        "ab/README", "ab/tmp-1"};
    char path[TEMP_PATH_BYTES + 64];
    struct cache *c = open_cache(dir, 4 * CELL);
    snprintf(path, sizeof path, "%s/cells/ab", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(path, sizeof path, "%s/cells/%s", dir, names[i]);
        const int fd = open(path, O_CREAT | O_WRONLY, 0600);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, 100 * CELL), 0);
        if (i != 1) {
            const struct timespec old[2] = {{1000, 0}, {1000, 0}};
            assert_int_equal(futimens(fd, old), 0);
        }
        close(fd);
    }
    for (uint64_t i = 0; i < 9; i++) put(c, i);
    assert_true(get(c, 8) && get(c, 7));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(path, sizeof path, "%s/cells/%s", dir, names[i]);
        assert_int_equal(access(path, F_OK), i == 0 ? -1 : 0);
        (void)unlink(path);
    }
    cache_close(c);
}

/* ---------------------------------------------------------- full disk */

/* Puts until it fails: said once, the rest is served, nothing is half. */
static void fill(struct cache *c)
{
    uint64_t n = 0;
    while (!cache_counters(c).read_only && n < 200) put(c, n++);
    assert_true(cache_counters(c).read_only);
    assert_int_equal(n_said, 1);
    assert_non_null(strstr(said, "everything else goes on"));
    for (uint64_t i = 300; i < 310; i++) {
        put(c, i);
        assert_false(get(c, i));
    }
    assert_int_equal(n_said, 1);
    assert_int_equal(n_files(NULL), cache_counters(c).puts);
    for (uint64_t i = 0; i + 1 < n; i++) assert_true(get(c, i));
    assert_false(has(c, n - 1));
}

static void test_full_disk(void **state)
{
    (void)state;
    if (mount("tmpfs", dir, "tmpfs", 0, "size=128k") != 0) {
        print_message("no tmpfs here (%s): only the file size limit is "
                      "tested\n",
                      strerror(errno));
        return; /* test_file_size_limit has the same path */
    }
    struct cache *c = open_cache(dir, 0);
    fill(c);
    assert_true(cache_counters(c).puts >= 8);
    assert_non_null(strstr(said, "the disk is full"));
    cache_close(c);
    /* the next session finds the same, and may try again */
    n_said = 0;
    c = open_cache(dir, 0);
    assert_true(get(c, 0));
    put(c, 400);
    assert_int_equal(n_said, 1);
    cache_close(c);
    assert_int_equal(umount(dir), 0);
}

static void test_file_size_limit(void **state)
{
    (void)state;
    struct rlimit was, less;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    struct cache *c = open_cache(dir, 0);
    put(c, 0);
    less = was;
    less.rlim_cur = CELL - 1;
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
    put(c, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    signal(SIGXFSZ, old);
    assert_int_equal(n_said, 1);
    assert_non_null(strstr(said, "File too large"));
    assert_non_null(strstr(said, dir));
    assert_true(get(c, 0));
    assert_false(get(c, 1));
    put(c, 2); /* for the session */
    assert_false(get(c, 2));
    assert_int_equal(n_files(NULL), 1);
    assert_int_equal(n_said, 1);
    cache_close(c);
}

/* A folder that cannot be: a cache that never has anything. */
static void test_no_folder(void **state)
{
    (void)state;
    char file[TEMP_PATH_BYTES + 16], under[TEMP_PATH_BYTES + 32];
    snprintf(file, sizeof file, "%s/file", dir);
    snprintf(under, sizeof under, "%s/file/cache", dir);
    const int fd = open(file, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    struct cache *c = open_cache(under, 0);
    assert_int_equal(n_said, 1);
    assert_non_null(strstr(said, "Not a directory"));
    put(c, 1);
    assert_false(get(c, 1));
    assert_false(has(c, 1));
    assert_true(cache_counters(c).read_only);
    assert_int_equal(n_said, 1);
    cache_close(c);
    c = NULL; /* nor is anything said where nobody listens */
    assert_int_equal(cache_open(&c, under, 0, NULL, NULL, &err), ST_OK);
    put(c, 1);
    cache_close(c);
}

/* The folder removed under a running worker. */
static void test_folder_goes(void **state)
{
    (void)state;
    char cells[TEMP_PATH_BYTES + 16];
    struct cache *c = open_cache(dir, 8 * CELL);
    put(c, 1);
    snprintf(cells, sizeof cells, "%s/cells", dir);
    remove_tree(cells, 2);
    assert_false(get(c, 1));
    put(c, 2);
    assert_false(get(c, 2));
    assert_int_equal(n_said, 1);
    cache_close(c);
}

/* ------------------------------------------------------------ sharing */

/* Gets, and where it misses puts, cells of 0 to 63 in its own order, some of
 * them damaged on the way.  False if a get gave wrong bytes. */
static bool work(struct cache *c, uint64_t seed)
{
    struct rng rng = {seed};
    for (int i = 0; i < 600; i++) {
        const uint64_t id = rng_below(&rng, 64);
        const struct cell x = cell_of(id);
        uint8_t data[CELL];
        if (cache_get(c, x.hash, data, CELL)) {
            if (memcmp(data, x.data, CELL) != 0) return false;
        } else {
            cache_put(c, x.hash, x.data, CELL);
        }
        if (i % 40 == 0) {
            char path[TEMP_PATH_BYTES + 128];
            path_of(path, rng_below(&rng, 64));
            const int fd = open(path, O_WRONLY);
            if (fd >= 0) (void)!pwrite(fd, "damage", 6, 100);
            if (fd >= 0) close(fd);
        }
    }
    return !cache_counters(c).read_only;
}

static void test_two_processes(void **state)
{
    (void)state;
    uint64_t bytes;
    pid_t pids[2];
    for (int i = 0; i < 2; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] != 0) continue;
        struct cache *c = NULL;
        const bool good =
            cache_open(&c, dir, 40 * CELL, NULL, NULL, NULL) == ST_OK &&
            work(c, 900 + (uint64_t)i);
        const struct cache_counters n = cache_counters(c);
        _exit(good && n.hits > 0 && n.puts > 0 && n.evicted > 0 ? 0 : 1);
    }
    for (int i = 0; i < 2; i++) {
        int rc;
        assert_int_equal(waitpid(pids[i], &rc, 0), pids[i]);
        assert_int_equal(rc, 0);
    }
    (void)n_files(&bytes);
    assert_true(bytes <= (40 + 2 * 4) * CELL);
    struct cache *c = open_cache(dir, 40 * CELL);
    unsigned n_present = 0;
    for (uint64_t i = 0; i < 64; i++) n_present += get(c, i);
    assert_true(n_present > 20);
    cache_close(c);
}

struct thread {
    struct cache *c;
    uint64_t seed;
    bool good;
};

static void *run(void *arg)
{
    struct thread *t = arg;
    t->good = work(t->c, t->seed);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct cache *c = open_cache(dir, 40 * CELL);
    struct thread t[3];
    pthread_t id[3];
    for (int i = 0; i < 3; i++) {
        t[i] = (struct thread){c, 500 + (uint64_t)i, false};
        assert_int_equal(pthread_create(&id[i], NULL, run, &t[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(id[i], NULL), 0);
        assert_true(t[i].good);
    }
    assert_true(cache_counters(c).evicted > 0);
    cache_close(c);
    assert_int_equal(n_said, 0);
}

static void test_every_allocation_fails_once(void **state)
{
    (void)state;
    struct cache *c = NULL;
    const size_t before = mem_in_use();
    long n = 0;
    for (;; n++) {
        mem_fail_after(n);
        const enum status st = cache_open(&c, dir, 4 * CELL, say, NULL, &err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_null(c);
        assert_int_equal(mem_in_use(), before);
    }
    assert_int_equal(n, 2);
    for (uint64_t i = 0; i < 4; i++) put(c, i);
    const size_t open = mem_in_use();
    mem_fail_after(0);
    put(c, 4); /* no memory to see what to evict: not kept */
    mem_fail_after(-1);
    assert_int_equal(mem_in_use(), open);
    assert_false(has(c, 4));
    put(c, 4); /* and next time it is */
    assert_true(get(c, 4));
    assert_int_equal(mem_in_use(), open);
    assert_int_equal(n_said, 0);
    cache_close(c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_put_and_get),
        TEST(test_damage),
        TEST(test_limit_and_order),
        TEST(test_session_goes_last),
        TEST(test_others_in_the_folder),
        TEST(test_strange_files),
        TEST(test_full_disk),
        TEST(test_file_size_limit),
        TEST(test_no_folder),
        TEST(test_folder_goes),
        TEST(test_two_processes),
        TEST(test_threads),
        TEST(test_every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

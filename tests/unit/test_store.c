/* test_store.c - the coordinator's folder: made, locked, written all or
 * nothing, tidied up; and common/files below it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coordinator/store.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/temp.h"

static char top[TEMP_PATH_BYTES], state_dir[TEMP_PATH_BYTES + 8];
static char path[FILES_PATH_BYTES];

static int open_dir(void **state)
{
    (void)state;
    if (!temp_dir_create(top, "test_store")) return -1;
    snprintf(state_dir, sizeof state_dir, "%s/a", top);
    return 0;
}

static int close_dir(void **state)
{
    (void)state;
    temp_dir_remove(state_dir);
    return temp_dir_remove(top) && mem_in_use() == 0 ? 0 : -1;
}

static struct store *open_store(void)
{
    struct store *s = NULL;
    assert_ok(store_open(&s, state_dir, &rig_err));
    assert_string_equal(store_dir(s), state_dir);
    return s;
}

/* STATE/name as text; the mode must be this. */
static const char *content(const struct store *s, const char *name, mode_t mode)
{
    static char text[1000];
    struct stat about;
    struct buf b;
    assert_true(store_path(s, name, path));
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, mode);
    buf_init(&b, sizeof text - 1);
    assert_ok(files_read(&b, path, 0, &rig_err));
    snprintf(text, sizeof text, "%s", b.data);
    buf_fini(&b);
    return text;
}

static unsigned n_files(const char *dir)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n - 2;
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    struct stat about;
    struct store *s = open_store(), *second = NULL;
    assert_int_equal(stat(state_dir, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0700);
    assert_fails(store_open(&second, state_dir, &rig_err), ST_FULL, state_dir);
    assert_null(second);
    /* a program that is started meanwhile does not keep the lock */
    const pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sleep", "sleep", "60", (char *)NULL);
        _exit(127);
    }
    assert_true(pid > 0);
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    for (char comm[32] = ""; strcmp(comm, "sleep\n") != 0;) {
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        assert_non_null(fgets(comm, sizeof comm, f));
        fclose(f);
        assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    }
    store_close(s);
    s = open_store();
    store_close(s);
    store_close(NULL);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void test_addresses_are_there_while_it_runs(void **state)
{
    (void)state;
    struct store *s = open_store();
    assert_ok(store_addresses(s, "0.0.0.0:7420", "127.0.0.1:7421", &rig_err));
    json_t *o = json_loads(content(s, "addresses.json", 0644), 0, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "listen")),
                        "0.0.0.0:7420");
    assert_string_equal(json_string_value(json_object_get(o, "http")),
                        "127.0.0.1:7421");
    assert_int_equal(json_integer_value(json_object_get(o, "pid")), getpid());
    assert_int_equal(json_object_size(o), 3);
    json_decref(o);
    assert_fails(store_addresses(s, "\xff:1", "b", &rig_err), ST_INVALID,
                 "not text");
    assert_true(store_path(s, "addresses.json", path));
    store_close(s);
    assert_int_equal(access(path, F_OK), -1);

    /* one that was killed leaves it behind; the next start knows better */
    assert_ok(files_write(path, "{}", 2, 0644, &rig_err));
    s = open_store();
    assert_int_equal(access(path, F_OK), -1);
    store_close(s);
}

static void test_secrets(void **state)
{
    (void)state;
    char secret[STORE_OPERATOR_BYTES], again[STORE_OPERATOR_BYTES];
    struct store *s = open_store();
    assert_ok(store_join(s, "potluck://x:1/00", &rig_err));
    assert_string_equal(content(s, "join", 0600), "potluck://x:1/00\n");
    assert_ok(store_operator(s, secret, &rig_err));
    assert_int_equal(strspn(secret, "0123456789abcdef"), 64);
    assert_memory_equal(content(s, "operator", 0600), secret, 64);
    store_close(s);
    s = open_store();
    assert_ok(store_operator(s, again, &rig_err));
    assert_string_equal(again, secret);

    static const char *const bad[] = {
        "",
        "\n",
        "00\n",
        "g123456789012345678901234567890123456789012345678901234567890123\n",
        "0123456789012345678901234567890123456789012345678901234567890123",
        "0123456789012345678901234567890123456789012345678901234567890123\n\n",
        "0123456789012345678901234567890123456789012345678901234567890123 ",
    };
    assert_true(store_path(s, "operator", path));
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_ok(files_write(path, bad[i], strlen(bad[i]), 0600, &rig_err));
        assert_fails(store_operator(s, again, &rig_err), ST_INVALID, "remove");
    }
    assert_string_equal(again, secret); /* untouched */
    assert_ok(files_write(path, "x", 1, 0640, &rig_err));
    assert_fails(store_operator(s, again, &rig_err), ST_INVALID, "chmod 600");
    assert_int_equal(unlink(path), 0);
    assert_ok(store_operator(s, again, &rig_err));
    assert_string_not_equal(again, secret);
    store_close(s);
}

static void test_all_or_nothing(void **state)
{
    (void)state;
    struct rlimit old, none;
    struct store *s = open_store();
    static char big[100000];
    memset(big, 'b', sizeof big - 1);
    assert_ok(store_write(s, "file", "before", 6, 0600, &rig_err));
    const unsigned n = n_files(state_dir);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    none = old;
    none.rlim_cur = 4096;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    const enum status st =
        store_write(s, "file", big, sizeof big, 0600, &rig_err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_fails(st, ST_IO, "/file cannot be written");
    assert_string_equal(content(s, "file", 0600), "before");
    assert_int_equal(n_files(state_dir), n); /* nothing is left lying about */
    assert_fails(store_write(s, "none/file", "x", 1, 0600, &rig_err), ST_IO,
                 "none/file");
    store_close(s);
}

static void test_where_it_is(void **state)
{
    (void)state;
    struct store *s = NULL;
    char base[sizeof top + 8], want[sizeof top + 64];
    static char long_name[2 * FILES_PATH_BYTES];
    memset(long_name, 'x', sizeof long_name - 1);
    assert_fails(store_open(&s, "", &rig_err), ST_USAGE, "not a path");
    assert_fails(store_open(&s, long_name, &rig_err), ST_USAGE, "too long");
    assert_fails(store_open(&s, "/dev/null", &rig_err), ST_IO, "/dev/null");
    assert_fails(store_open(&s, "/dev/null/x", &rig_err), ST_IO, "/dev/null");
    assert_null(s);
    snprintf(base, sizeof base, "%s/b", top);
    snprintf(want, sizeof want, "%s/potluck/coordinator", base);
    setenv("XDG_STATE_HOME", base, 1);
    assert_ok(store_open(&s, NULL, &rig_err));
    assert_string_equal(store_dir(s), want);
    assert_false(store_path(s, long_name, path));
    assert_string_equal(path, "");
    store_close(s);
    assert_true(temp_dir_remove(want));
    snprintf(want, sizeof want, "%s/potluck", base);
    assert_int_equal(rmdir(want) + rmdir(base), 0);
    setenv("XDG_STATE_HOME", "not/absolute", 1);
    setenv("HOME", top, 1);
    assert_ok(files_xdg(path, "XDG_STATE_HOME", ".s", "/x", "--o", &rig_err));
    snprintf(want, sizeof want, "%s/.s/potluck/x", top);
    assert_string_equal(path, want);
    setenv("HOME", "", 1);
    assert_fails(files_xdg(path, "XDG_STATE_HOME", ".s", "", "--o", &rig_err),
                 ST_USAGE, "--o");
    setenv("HOME", long_name, 1);
    long_name[0] = '/';
    setenv("HOME", long_name, 1);
    assert_fails(files_xdg(path, "XDG_STATE_HOME", ".s", "", "--o", &rig_err),
                 ST_USAGE, "too long");
}

static void test_reading(void **state)
{
    (void)state;
    struct store *s = open_store();
    struct buf b;
    buf_init(&b, 8);
    assert_ok(buf_append(&b, "ab", 2));
    assert_true(store_path(s, "r", path));
    assert_fails(files_read(&b, path, 0, &rig_err), ST_NOT_FOUND, path);
    assert_ok(files_write(path, "1234567", 7, 0600, &rig_err));
    assert_fails(files_read(&b, path, 0, &rig_err), ST_TOO_LARGE, path);
    assert_string_equal(b.data, "ab");
    assert_ok(files_write(path, "123456", 6, 0600, &rig_err));
    assert_ok(files_read(&b, path, 0077, &rig_err));
    assert_string_equal(b.data, "ab123456");
    assert_fails(files_read(&b, state_dir, 0, &rig_err), ST_INVALID, "file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_fails(files_read(&b, path, 0, &rig_err), ST_INVALID, "not a file");
    buf_fini(&b);
    store_close(s);
}

int main(void)
{
    signal(SIGXFSZ, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_addresses_are_there_while_it_runs),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_all_or_nothing),
        cmocka_unit_test(test_where_it_is),
        cmocka_unit_test(test_reading),
    };
    return cmocka_run_group_tests(tests, open_dir, close_dir);
}

/* test_child.c - a child process that is started, dies, is started again, and
 * is told to end; time is made up, processes are real. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/files.h"
#include "coordinator/child.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/temp.h"

#define MS UINT64_C(1000000)

static char dir[TEMP_PATH_BYTES], file[TEMP_PATH_BYTES + 8];
static char said[300];
static unsigned n_said;

static void say(void *arg, const char *line)
{
    (void)arg;
    snprintf(said, sizeof said, "%s", line);
    n_said++;
}

static int open_dir(void **state)
{
    (void)state;
    if (!temp_dir_create(dir, "test_child")) return -1;
    snprintf(file, sizeof file, "%s/out", dir);
    return 0;
}

static int close_dir(void **state)
{
    (void)state;
    return temp_dir_remove(dir) && mem_in_use() == 0 ? 0 : -1;
}

/* A shell that runs this script. */
static struct child *create(const char *script)
{
    struct child *c = NULL;
    const char *const args[] = {"-c", script, "sh", file, NULL};
    const struct child_options o = {.program = "/bin/sh",
                                    .args = args,
                                    .join = "potluck://secret",
                                    .say = say};
    n_said = 0;
    (void)unlink(file);
    assert_ok(child_create(&c, &o, &rig_err));
    return c;
}

static void nap(void)
{
    const struct timespec t = {0, 2000000};
    nanosleep(&t, NULL);
}

static void wait_file(char text[200])
{
    size_t n = 0;
    for (int i = 0; n == 0 || text[n - 1] != '\n'; i++) {
        assert_true(i < 30000);
        nap();
        FILE *f = fopen(file, "r");
        if (!f) continue;
        n = fread(text, 1, 199, f);
        fclose(f);
        text[n] = '\0';
    }
}

/* Polls at this time until it does not run any more. */
static void wait_end(struct child *c, uint64_t now)
{
    for (int i = 0; child_pid(c) != 0; i++) {
        assert_true(i < 30000);
        nap();
        child_poll(c, now);
    }
}

static void test_environment_and_group(void **state)
{
    (void)state;
    char text[200], want[200];
    setenv("POTLUCK_JOIN", "another", 1);
    struct child *c = create("read x; echo $POTLUCK_JOIN $$ \"[$x]\" "
                             "$(tr '\\0' ' ' </proc/$$/cmdline | "
                             "grep -c 's[e]cret') > \"$1\"; exec sleep 1000");
    assert_int_equal(child_pid(c), 0);
    child_poll(c, 0);
    const pid_t pid = child_pid(c);
    wait_file(text);
    snprintf(want, sizeof want, "potluck://secret %d [] 0\n", (int)pid);
    assert_string_equal(text, want);
    assert_int_equal(getpgid(pid), pid);
    assert_string_equal(getenv("POTLUCK_JOIN"), "another");
    assert_int_equal(child_deadline(c), UINT64_MAX);
    child_stop(c, 5 * MS, 1000);
    wait_end(c, 6 * MS);
    assert_true(child_stopped(c));
    assert_int_equal(n_said, 0);
    child_poll(c, 99999 * MS); /* stays stopped */
    assert_int_equal(child_pid(c), 0);
    child_free(c);
}

static void test_started_again_later_and_later(void **state)
{
    (void)state;
    static const unsigned waits_s[] = {1, 2, 4, 8, 16, 30, 30};
    struct child *c = create("exit 3");
    uint64_t now = 0;
    for (size_t i = 0; i < COUNT_OF(waits_s); i++) {
        char words[40];
        child_poll(c, now);
        assert_true(child_pid(c) > 0);
        wait_end(c, now);
        assert_int_equal(n_said, i + 1);
        snprintf(words, sizeof words, "code 3; it is started again in %u s",
                 waits_s[i]);
        assert_non_null(strstr(said, words));
        assert_int_equal(child_deadline(c), now + waits_s[i] * 1000 * MS);
        child_poll(c, child_deadline(c) - 1);
        assert_int_equal(child_pid(c), 0);
        now = child_deadline(c);
    }
    child_poll(c, now); /* one that ran for long begins anew */
    wait_end(c, now + 30000 * MS);
    assert_int_equal(child_deadline(c), now + 31000 * MS);
    child_stop(c, now, 1000); /* while it waits */
    assert_true(child_stopped(c));
    child_free(c);
}

static void test_killed_when_it_does_not_listen(void **state)
{
    (void)state;
    char text[200];
    struct child *c = create("trap '' TERM; echo on > \"$1\"; "
                             "while :; do sleep 0.01; done");
    child_poll(c, 0);
    wait_file(text);
    child_stop(c, 0, 5000);
    assert_int_equal(child_deadline(c), 5000 * MS);
    child_stop(c, 1000 * MS, 2000); /* sooner */
    assert_int_equal(child_deadline(c), 3000 * MS);
    child_stop(c, 1000 * MS, 9000); /* not later */
    assert_int_equal(child_deadline(c), 3000 * MS);
    for (int i = 0; i < 10; i++) {
        nap();
        child_poll(c, 3000 * MS - 1);
        assert_false(child_stopped(c));
    }
    wait_end(c, 3000 * MS);
    assert_true(child_stopped(c));
    child_free(c);
}

static void test_freed_while_it_runs(void **state)
{
    (void)state;
    struct child *c = create("exec sleep 1000");
    child_poll(c, 0);
    const pid_t pid = child_pid(c);
    child_free(c);
    assert_int_equal(kill(pid, 0), -1);
    child_free(NULL);
}

/* A coordinator that is killed takes its worker with it. */
static void test_ends_with_its_parent(void **state)
{
    (void)state;
    char text[200];
    int closed[2];
    assert_int_equal(pipe(closed), 0);
    (void)unlink(file);
    const pid_t parent = fork();
    if (parent == 0) {
        struct child *c = create("echo $$ > \"$1\"; exec sleep 1000");
        child_poll(c, 0);
        wait_file(text);
        raise(SIGKILL);
    }
    close(closed[1]); /* the child alone has it now */
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    assert_int_equal(read(closed[0], text, 1), 0); /* when it is gone */
    close(closed[0]);
}

static void test_not_found(void **state)
{
    (void)state;
    struct child *c = NULL;
    const char *const none[] = {NULL};
    struct child_options o = {
        .program = "no-such-program-of-potluck", .args = none, .join = ""};
    assert_fails(child_create(&c, &o, &rig_err), ST_NOT_FOUND, "beside");
    o.program = "/no/such/program";
    assert_fails(child_create(&c, &o, &rig_err), ST_NOT_FOUND, o.program);
    o.program = "sh"; /* in PATH */
    const size_t before = mem_in_use();
    for (long n = 0; n < 3; n++) {
        mem_fail_after(n);
        const enum status st = child_create(&c, &o, &rig_err);
        mem_fail_after(-1);
        assert_int_equal(st, ST_NO_MEMORY);
        assert_int_equal(mem_in_use(), before);
    }
    assert_null(c);
    assert_ok(child_create(&c, &o, &rig_err));
    child_free(c);
    assert_ok(files_write(file, "not a program\n", 14, 0700, &rig_err));
    o.program = file;
    o.say = say;
    n_said = 0;
    assert_ok(child_create(&c, &o, &rig_err));
    child_poll(c, 0);
    wait_end(c, 0);
    assert_non_null(strstr(said, "could not be started"));
    child_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment_and_group),
        cmocka_unit_test(test_started_again_later_and_later),
        cmocka_unit_test(test_killed_when_it_does_not_listen),
        cmocka_unit_test(test_freed_while_it_runs),
        cmocka_unit_test(test_ends_with_its_parent),
        cmocka_unit_test(test_not_found),
    };
    return cmocka_run_group_tests(tests, open_dir, close_dir);
}

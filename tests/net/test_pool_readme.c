/* test_pool_readme.c - what README tells a person to type, on three PCs with
 * nothing but their own home folders: two commands on the coordinator, one on
 * each worker. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/cli.h"
#include "tests/lib/netns.h"

#define N_HOSTS 3
#define TRIES   1200 /* of 100 ms */

static struct netns net;
static char homes[N_HOSTS][300], folder[200];
static pid_t pids[N_HOSTS];

static void nap(void)
{
    const struct timespec t = {.tv_nsec = 100 * 1000 * 1000};
    nanosleep(&t, NULL);
}

/* `potluck WORDS` in the background on a host; standard output and error into
 * its "log". */
static void start(uint32_t host, const char *const *words)
{
    char program[4096], home[320], log[320];
    const char *argv[16] = {"ip", "netns", "exec", net.name[host]};
    size_t n = 4;
    argv[n++] = built_program(program, "potluck");
    for (size_t i = 0; words[i]; i++) argv[n++] = words[i];
    snprintf(home, sizeof home, "HOME=%s", homes[host]);
    snprintf(log, sizeof log, "%s/log", homes[host]);
    pids[host] = fork();
    assert_true(pids[host] >= 0);
    if (pids[host] > 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int null = open("/dev/null", O_RDONLY);
    if (fd < 0 || null < 0 || dup2(null, 0) < 0 || dup2(fd, 1) < 0 ||
        dup2(fd, 2) < 0) {
        _exit(126);
    }
    const char *const without[] = {"XDG_STATE_HOME", "XDG_CACHE_HOME",
                                   "POTLUCK_HOST", "POTLUCK_JOIN"};
    for (size_t i = 0; i < COUNT_OF(without); i++) unsetenv(without[i]);
    putenv(home);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

static struct outcome run(uint32_t host, const char *const *words)
{
    char home[320];
    snprintf(home, sizeof home, "HOME=%s", homes[host]);
    const char *const env[] = {home, "XDG_STATE_HOME", "POTLUCK_HOST",
                               "POTLUCK_JOIN", NULL};
    return cli_run_in(net.prefix[host], &(struct command){.env = env}, words);
}
#define RUN(host, ...) run(host, (const char *const[]){__VA_ARGS__, NULL})

/* Until the log has a line with this in it; the line. */
static const char *said(uint32_t host, const char *words)
{
    static char line[1000];
    char log[320];
    snprintf(log, sizeof log, "%s/log", homes[host]);
    for (int i = 0; i < TRIES; i++, nap()) {
        FILE *f = fopen(log, "r");
        bool found = false;
        while (f && !found && fgets(line, sizeof line, f)) {
            found = strstr(line, words) && strchr(line, '\n');
        }
        if (f) fclose(f);
        if (found) return line;
    }
    struct buf b = cli_read(log);
    fail_msg("host %u never said \"%s\" but: %s", host, words, b.data);
    return NULL;
}

/* Until `potluck status` has all of these in it. */
static void status_has(const char *a, const char *b, const char *c)
{
    struct outcome o;
    for (int i = 0; i < TRIES; i++, nap()) {
        o = RUN(0, "status");
        if (strstr(o.out.data, a) && strstr(o.out.data, b) &&
            strstr(o.out.data, c)) {
            outcome_fini(&o);
            return;
        }
        if (i + 1 < TRIES) outcome_fini(&o);
    }
    fail_msg("status has not %s, %s and %s: %s%s", a, b, c, o.out.data,
             o.err.data);
}

static void stop(uint32_t host)
{
    int status = 0;
    kill(pids[host], SIGTERM);
    assert_int_equal(waitpid(pids[host], &status, 0), pids[host]);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void make_homes(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.150s/potluck-homes-XXXXXX",
             tmp && *tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(folder));
    for (uint32_t i = 0; i < N_HOSTS; i++) {
        snprintf(homes[i], sizeof homes[i], "%s/%u", folder, i);
        assert_int_equal(mkdir(homes[i], 0700), 0);
    }
}

static void remove_homes(void)
{
    const char *const argv[] = {"rm", "-rf", folder, NULL};
    struct outcome o;
    assert_int_equal(run_command(&o, &(struct command){.argv = argv}, NULL),
                     ST_OK);
    outcome_fini(&o);
}

static void test_as_the_readme_says(void **state)
{
    (void)state;
    netns_begin(&net, N_HOSTS);
    netns_rate(&net, 1000);
    netns_neighbours(&net, 0, 2);
    make_homes();
    cli_begin();
    cli_model("model.gguf", "moe-12", (const char *const[]){NULL});
    struct outcome alone = CLI("local", cli_path("model.gguf"), "--raw",
                               "--temp", "0", "-n", "12", "--", "Once");
    assert_int_equal(alone.code, 0);

    /* the coordinator's first command, and what it prints for the others */
    start(0, (const char *const[]){"serve", cli_path("model.gguf"), "--spread",
                                   NULL});
    char join[400];
    snprintf(join, sizeof join, "%s", said(0, "potluck join '"));
    char *string = strchr(join, '\'') + 1;
    *strchr(string, '\'') = '\0';
    assert_non_null(strstr(string, net.address[0]));

    start(1, (const char *const[]){"join", string, "--name", "lab-1", NULL});
    said(1, "joined");
    /* one without the string: somebody has to say yes */
    start(2, (const char *const[]){"join", "--name", "lab-2", NULL});
    said(2, "approve");
    struct outcome o = RUN(0, "keys", "approve", "lab-2");
    if (o.code != 0) fail_msg("approve: %s", o.err.data);
    outcome_fini(&o);
    said(2, "joined");
    said(2, "ready");
    status_has("pool: serving", "lab-1", "lab-2");

    /* its second one */
    o = RUN(0, "run", "--raw", "--temp", "0", "-n", "12", "--", "Once");
    if (o.code != 0) fail_msg("run: %s", o.err.data);
    assert_string_equal(o.out.data, alone.out.data);
    outcome_fini(&o);
    outcome_fini(&alone);
    for (uint32_t i = N_HOSTS; i-- > 0;) stop(i);
    cli_end();
    remove_homes();
    netns_end(&net);
}

static int teardown(void **state)
{
    (void)state;
    netns_end(&net);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_as_the_readme_says, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

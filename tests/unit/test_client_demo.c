/* potluck serve, join, keys and demo: what they start, send and leave behind.
 * Scripts stand in for the two daemons, a thread of this test for their HTTP
 * server. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/lib/cli.h"
#include "tests/lib/fake_http.h"

#define JOIN                                                                   \
    "potluck://127.0.0.1:7420/"                                                \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef?token=t"

static const char coordinator[] =
    "#!/bin/sh\n"
    "if [ \"$FAKE\" = args ]; then echo \"$@\"; exit 7; fi\n"
    "echo \"$@\" >\"$TMPDIR/seen-coordinator\"\n"
    "echo $$ >>\"$TMPDIR/pids\"\n"
    "while [ \"$1\" != --state ]; do shift; done\n"
    "echo 'words of the coordinator' >&2\n"
    "if [ \"$FAKE\" = no-pool ]; then exit 3; fi\n"
    "mkdir -p \"$2\"\n"
    "echo '" JOIN "' >\"$2/join\"\n"
    "printf '{\"http\":\"%s\"}' \"${FAKE_HTTP#http://}\" >\"$2/new\"\n"
    "mv \"$2/new\" \"$2/addresses.json\"\n"
    "exec sleep 1000\n";

static const char worker[] =
    "#!/bin/sh\n"
    "if [ \"$FAKE\" = args ]; then echo \"$@\"; exit 8; fi\n"
    "echo $$ >>\"$TMPDIR/pids\"\n"
    "echo \"$@\" >>\"$TMPDIR/seen-workers\"\n"
    "echo 'words of a worker' >&2\n"
    "case \"$FAKE $*\" in 'no-worker '*pc-2*) exit 5 ;; esac\n"
    "exec sleep 1000\n";

static void program(const char *name, const void *bytes, size_t n)
{
    cli_write(name, bytes, n);
    assert_int_equal(chmod(cli_path(name), 0700), 0);
}

static int setup(void **state)
{
    (void)state;
    char path[4096];
    cli_begin();
    struct buf self = cli_read(built_program(path, "potluck"));
    program("potluck", self.data, self.len);
    buf_fini(&self);
    cli_write("model", "GGUF", 4);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cli_end();
    return 0;
}

/* The copy of potluck in the test's folder, whose daemons are ours. */
static struct outcome run_copy(const struct command *with,
                               const char *const *args)
{
    char tmp[4200], http[128], fake[64];
    snprintf(tmp, sizeof tmp, "TMPDIR=%s", cli_path("."));
    snprintf(http, sizeof http, "FAKE_HTTP=%s", fake_http_url());
    snprintf(fake, sizeof fake, "FAKE=%s", with->env ? with->env[0] : "");
    const char *const env[] = {tmp, http, fake, "PATH=/usr/bin:/bin", NULL};
    const char *argv[32] = {cli_path("potluck")};
    for (size_t i = 0; args[i]; i++) argv[i + 1] = args[i];
    struct command c = *with;
    c.argv = argv;
    c.env = env;
    struct outcome o;
    struct error err;
    if (run_command(&o, &c, &err) != ST_OK) fail_msg("%s", err.text);
    assert_false(o.timed_out);
    return o;
}
#define COPY_WITH(with, ...)                                                   \
    run_copy(&(with), (const char *const[]){__VA_ARGS__, NULL})
#define COPY(...)  COPY_WITH(((struct command){0}), __VA_ARGS__)
#define FAKE(what) ((struct command){.env = (const char *const[]){what}})

/* -------------------------------------------------------- serve, join */

static void a_daemon_that_is_not_there(void **state)
{
    (void)state;
    cli_expect(COPY("serve", "model"), 1,
               "potluck-coordinator is neither in /");
    cli_expect(COPY("join"), 1, "potluck-worker is neither in /");
    cli_expect(COPY("demo", "--model", cli_path("model")), 1, "is neither in");
    program("potluck-coordinator", coordinator, sizeof coordinator - 1);
    program("potluck-worker", worker, sizeof worker - 1);
}

static void serve_and_join_become_the_daemons(void **state)
{
    (void)state;
    cli_expect_out(COPY_WITH(FAKE("args"), "serve", "m.gguf", "--ctx", "5"), 7,
                   "m.gguf --ctx 5\n");
    cli_expect_out(COPY_WITH(FAKE("args"), "serve", "--help"), 7, "--help\n");
    cli_expect_out(COPY_WITH(FAKE("args"), "join", "-", "a b"), 8, "- a b\n");
    cli_expect_out(COPY_WITH(FAKE("args"), "help", "join"), 8, "--help\n");
}

/* ---------------------------------------------------------------- demo */

struct pool {
    bool hang;
    unsigned processes; /* that must have said their ids before it serves */
    unsigned phase;
    char pids[4096];
};

static struct pool pool_of(unsigned processes, bool hang)
{
    struct pool p = {.hang = hang, .processes = processes};
    snprintf(p.pids, sizeof p.pids, "%s", cli_path("pids"));
    return p;
}

static bool all_there(const struct pool *p)
{
    unsigned lines = 0;
    FILE *f = fopen(p->pids, "r");
    for (int c; f && (c = getc(f)) != EOF;) lines += c == '\n';
    if (f) fclose(f);
    return lines >= p->processes;
}

static void pool(struct fake_conn *c, void *arg)
{
    struct pool *p = arg;
    static const char *const phases[] = {
        "{\"state\":\"waiting\",\"nodes\":[{\"name\":\"pc-1\"}]}",
        "{\"state\":\"planning\",\"nodes\":[]}",
        "{\"state\":\"loading\",\"nodes\":[{\"done_bytes\":1,\"total_bytes\":4}"
        "]}",
        "{\"state\":\"serving\",\"nodes\":[{\"name\":\"pc-1\",\"layers\":"
        "\"0-3\"}]}"};
    if (strncmp(c->request.data, "GET /v1/cluster ", 16) == 0) {
        fake_json(c, "200 OK", phases[p->phase]);
        if (p->phase < 3 && (p->phase != 0 || all_there(p))) p->phase++;
        return;
    }
    fake_stream(c);
    fake_text(c, "data: {\"choices\":[{\"delta\":{\"content\":\" one\"},"
                 "\"token_ids\":[1]}]}\n\n");
    if (p->hang) {
        fake_await_close(c, 30000);
        return;
    }
    fake_text(c, "data: {\"choices\":[{\"finish_reason\":\"length\"}],"
                 "\"usage\":{\"prompt_tokens\":4},\"timings\":{"
                 "\"predicted_per_second\":250}}\n\n");
}

/* Whether this process is still there; init may take its time to bury it. */
static bool alive(long pid)
{
    char path[64], state[256] = "";
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    const size_t n = fread(state, 1, sizeof state - 1, f);
    fclose(f);
    state[n] = '\0';
    const char *end = strrchr(state, ')');
    return end && end[1] == ' ' && end[2] != 'Z' && end[2] != 'X';
}

/* n processes were started (0: as many as got so far), and none is left. */
static void all_gone(size_t n)
{
    struct buf b = cli_read(cli_path("pids"));
    size_t found = 0;
    for (char *at = b.data; *at; found++) {
        char *next;
        const long pid = strtol(at, &next, 10);
        for (int i = 0; i < 500 && alive(pid); i++) {
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        }
        assert_false(alive(pid));
        at = next + (*next == '\n');
    }
    assert_true(n == 0 || found == n);
    buf_fini(&b);
    remove(cli_path("pids"));
    remove(cli_path("seen-coordinator"));
    remove(cli_path("seen-workers"));
}

/* Folders of demos; 0 are left after a good end. */
static size_t folders(char path[4096])
{
    size_t n = 0;
    DIR *d = opendir(cli_path("."));
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strncmp(e->d_name, "potluck-demo-", 13) != 0) continue;
        snprintf(path, 4096, "%s", cli_path(e->d_name));
        n++;
    }
    if (d) closedir(d);
    return n;
}

static void demo_starts_a_pool_and_cleans_up(void **state)
{
    (void)state;
    char path[4096];
    struct pool p = pool_of(3, false);
    fake_http_start(pool, &p);
    struct outcome o = COPY("demo", "--model", cli_path("model"), "--workers",
                            "2", "-n", "3", "hi");
    assert_string_equal(o.out.data, " one\n");
    assert_int_equal(o.code, 0);
    static const char *const said[] = {"starting the coordinator\n",
                                       "joining: 1 of 2\n",
                                       "planning\n",
                                       "loading\n",
                                       "2 workers answer: hi\n",
                                       "250.0 tokens/s",
                                       "0-3"};
    for (size_t i = 0; i < COUNT_OF(said); i++) {
        if (!strstr(o.err.data, said[i])) {
            fail_msg("\"%s\" is not in: %s", said[i], o.err.data);
        }
    }
    outcome_fini(&o);
    fake_http_stop();
    struct buf seen = cli_read(cli_path("seen-coordinator"));
    assert_non_null(strstr(
        seen.data, "/model --listen 127.0.0.1:0 --http "
                   "127.0.0.1:0 --no-local --no-beacon --spread --workers 2 "));
    buf_fini(&seen);
    seen = cli_read(cli_path("seen-workers"));
    assert_non_null(strstr(seen.data, "--name pc-1 --threads 1 --memory "));
    assert_non_null(strstr(seen.data, "--name pc-2 "));
    buf_fini(&seen);
    all_gone(3);
    assert_int_equal(folders(path), 0);
}

static void demo_names_who_has_died(void **state)
{
    (void)state;
    char path[4096];
    struct pool p = pool_of(4, false);
    fake_http_start(pool, &p);
    struct command dead = {.env = (const char *const[]){"no-pool"}};
    struct outcome o = COPY_WITH(dead, "demo", "--model", cli_path("model"));
    assert_non_null(strstr(o.err.data, "words of the coordinator\n"));
    cli_expect(o, 1, "potluck: the coordinator has ended (exit status 3)");
    all_gone(1);
    fake_http_stop();
    /* no server any more: the pool never serves, so the worker ends first */
    dead.env = (const char *const[]){"no-worker"};
    o = COPY_WITH(dead, "demo", "--model", cli_path("model"));
    assert_non_null(strstr(o.err.data, "words of a worker\n"));
    cli_expect(o, 1, "potluck: worker pc-2 has ended (exit status 5)");
    all_gone(0);
    assert_int_equal(folders(path), 0);
}

static void demo_ends_all_however_it_ends(void **state)
{
    (void)state;
    char path[4096];
    struct pool p = pool_of(4, true);
    fake_http_start(pool, &p);
    struct command stop = {.signal = SIGINT, .signal_after = 1};
    struct outcome o = COPY_WITH(stop, "demo", "--model", cli_path("model"));
    cli_expect_out(o, 130, " one\n");
    fake_http_stop();
    all_gone(4);
    assert_int_equal(folders(path), 0);

    /* nobody reads its answer any more */
    p = pool_of(4, false);
    fake_http_start(pool, &p);
    struct command full = {.output = "/dev/full"};
    cli_expect(COPY_WITH(full, "demo", "--model", cli_path("model")), 1,
               "standard output");
    fake_http_stop();
    all_gone(4);
    assert_int_equal(folders(path), 0);

    p = pool_of(4, true);
    fake_http_start(pool, &p);
    stop.signal = SIGKILL;
    o = COPY_WITH(stop, "demo", "--model", cli_path("model"));
    fake_http_stop();
    assert_int_equal(o.code, -SIGKILL);
    outcome_fini(&o);
    all_gone(4);
    assert_int_equal(folders(path), 1); /* that it cannot help */
    const char *const rm[] = {"/bin/rm", "-rf", path, NULL};
    struct error err;
    assert_int_equal(run_command(&o, &(struct command){.argv = rm}, &err),
                     ST_OK);
    outcome_fini(&o);
    assert_int_equal(folders(path), 0);
}

static void demo_without_what_it_needs(void **state)
{
    (void)state;
    cli_expect(COPY("demo"), 1, "potluck-demo.gguf is not with potluck in");
    cli_write("potluck-demo.gguf", "GGUF", 4); /* beside the programs */
    struct pool p = pool_of(4, false);
    fake_http_start(pool, &p);
    cli_expect_out(COPY("demo", "hi"), 0, " one\n");
    fake_http_stop();
    struct buf seen = cli_read(cli_path("seen-coordinator"));
    assert_non_null(strstr(seen.data, "/potluck-demo.gguf --listen "));
    buf_fini(&seen);
    all_gone(4);
    cli_expect(COPY("demo", "--model", "/no/such"), 1, "/no/such: No such");
    cli_expect(COPY("demo", "--workers", "0"), 2, "--workers 0");
}

/* ---------------------------------------------------------------- keys */

static void operator_only(struct fake_conn *c, void *arg)
{
    struct buf *seen = arg;
    seen->len = 0;
    if (buf_append(seen, c->request.data, c->request.len) != ST_OK) return;
    const char *r = c->request.data;
    if (!strstr(r, "Authorization: Bearer 0p3r\r\n"))
        fake_json(c, "401 No", "{\"error\":{\"message\":\"not you\"}}");
    else if (strncmp(r, "GET /v1/keys ", 13) == 0)
        fake_json(c, "200 OK",
                  "{\"keys\":[{\"state\":\"pending\",\"name\":\"pc-\\u001b9\","
                  "\"key\":\"00ff\",\"host\":\"10.0.0.9\"}]}");
    else if (strncmp(r, "POST /v1/keys/invite ", 21) == 0)
        fake_json(c, "200 OK", "{\"join\":\"" JOIN "\",\"minutes\":60}");
    else
        fake_json(c, "200 OK", "{\"name\":\"pc-9\",\"key\":\"00ff\"}");
}

static void keys_speak_with_the_operators_token(void **state)
{
    (void)state;
    struct buf seen;
    char key[65];
    buf_init(&seen, 1u << 20);
    memset(key, 'a', 64);
    key[64] = '\0';
    fake_http_start(operator_only, &seen);
    const char *url = fake_http_url();
    char at[4096];
    snprintf(at, sizeof at, "%s", cli_path("."));
#define KEYS(...) CLI("keys", "--host", url, "--state", at, __VA_ARGS__)
    cli_expect(KEYS("list"), 1, "operator's token");
    cli_write("operator", "other\n", 6);
    cli_expect(KEYS("list"), 5, "not you");
    cli_write("operator", "\n", 1);
    cli_expect(KEYS("list"), 1, "holds no token");
    cli_write("operator", "a\x01\n", 3);
    cli_expect(KEYS("list"), 1, "holds no token");
    cli_write("operator", "0p3r\n", 5);
    cli_expect_out(KEYS("invite"), 0, JOIN "\n");
    struct outcome o = KEYS("list");
    assert_non_null(strstr(o.out.data, "pending"));
    assert_non_null(strstr(o.out.data, "pc-?9"));
    assert_non_null(strstr(o.out.data, "10.0.0.9"));
    outcome_fini(&o);
    json_t *j = cli_json(KEYS("--json", "list"), 0);
    assert_int_equal(json_array_size(json_at(j, "keys")), 1);
    json_decref(j);
    /* without --host: where the pool of that folder listens */
    char addresses[128];
    const int n = snprintf(addresses, sizeof addresses,
                           "{\"http\":\"0.0.0.0%s\"}", strrchr(url, ':'));
    cli_write("addresses.json", addresses, (size_t)n);
    struct command here = {.env = (const char *const[]){"POTLUCK_HOST", NULL}};
    cli_expect_out(CLI_WITH(here, "keys", "invite", "--state", at), 0,
                   JOIN "\n");
    cli_expect_out(KEYS("approve", "pc-9"), 0, "pc-9 may join (key 00ff)\n");
    assert_non_null(strstr(seen.data, "POST /v1/keys/approve "));
    assert_non_null(strstr(seen.data, "{\"who\":\"pc-9\"}"));
    cli_expect_out(KEYS("revoke", "00ff"), 0, "pc-9 is out (key 00ff)\n");
    assert_non_null(strstr(seen.data, "POST /v1/keys/revoke "));
    cli_expect_out(KEYS("add", key, "pc-9"), 0, "pc-9 may join (key 00ff)\n");
    assert_non_null(strstr(seen.data, "\"name\":\"pc-9\""));
    cli_expect(KEYS("add", key), 0, "");
    assert_null(strstr(seen.data, "\"name\""));
    cli_expect(KEYS("add", "123"), 2, "64 hexadecimal digits");
    cli_expect(KEYS("approve"), 2, "wants a name");
    cli_expect(KEYS("list", "x"), 2, "nothing comes after it");
    cli_expect(KEYS("lend"), 2, "invite, list, approve");
    cli_expect(CLI("keys"), 2, "invite, list, approve");
    fake_http_stop();
    cli_expect(KEYS("list"), 3, "no pool answers");
    buf_fini(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_daemon_that_is_not_there),
        cmocka_unit_test(serve_and_join_become_the_daemons),
        cmocka_unit_test(demo_starts_a_pool_and_cleans_up),
        cmocka_unit_test(demo_names_who_has_died),
        cmocka_unit_test(demo_ends_all_however_it_ends),
        cmocka_unit_test(demo_without_what_it_needs),
        cmocka_unit_test(keys_speak_with_the_operators_token),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

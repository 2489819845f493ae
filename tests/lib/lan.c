/* lan.c - see the header. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/lib/lan.h"

#include <dirent.h>
#include <errno.h>
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

#include "common/clock.h"

/* Only what hangs takes so long, under a sanitizer on a busy machine too. */
#define DEADLINE_S 120
#define ARGS_MAX   64

const char *lan_path(struct lan *r, const char *name)
{
    static char paths[16][512];
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", r->dir, name);
    return path;
}

static void nap(void)
{
    const struct timespec t = {.tv_nsec = 20 * 1000 * 1000};
    nanosleep(&t, NULL);
}

static void show_log(struct lan *r, const char *who)
{
    char name[64], line[1000];
    snprintf(name, sizeof name, "%s.log", who);
    FILE *f = fopen(lan_path(r, name), "r");
    while (f && fgets(line, sizeof line, f)) print_message("%s: %s", who, line);
    if (f) fclose(f);
}

static void give_up(struct lan *r, const char *what)
{
    show_log(r, "coordinator");
    for (uint32_t i = 1; i < 8; i++) {
        char who[16];
        snprintf(who, sizeof who, "pc-%u", i);
        show_log(r, who);
    }
    fail_msg("%s did not happen within %d s", what, DEADLINE_S);
}

void lan_begin(struct lan *r)
{
    const char *parent = getenv("TMPDIR");
    *r = (struct lan){0};
    snprintf(r->dir, sizeof r->dir, "%s/pool_XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(r->dir));
}

/* ----------------------------------------------------------- programs */

static pid_t start(struct lan *r, const char *const *argv, const char *log,
                   const char *out)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int fd = open(lan_path(r, log), O_WRONLY | O_CREAT | O_APPEND, 0600);
    const int to =
        out ? open(lan_path(r, out), O_WRONLY | O_CREAT | O_TRUNC, 0600) : fd;
    const int null = open("/dev/null", O_RDONLY);
    if (fd < 0 || to < 0 || null < 0 || dup2(null, 0) < 0 || dup2(to, 1) < 0 ||
        dup2(fd, 2) < 0) {
        _exit(126);
    }
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

struct args {
    const char *v[ARGS_MAX + 1];
    size_t n;
    char wrap[512];
};

static void add(struct args *a, const char *const *more)
{
    for (; more && *more; more++) {
        assert_true(a->n < ARGS_MAX);
        a->v[a->n++] = *more;
    }
}

/* The words of LAN_WRAP, in front of a daemon's. */
static void add_wrap(struct args *a)
{
    const char *wrap = getenv("LAN_WRAP");
    char *save;
    snprintf(a->wrap, sizeof a->wrap, "%s", wrap ? wrap : "");
    for (char *w = strtok_r(a->wrap, " ", &save); w;
         w = strtok_r(NULL, " ", &save)) {
        add(a, (const char *const[]){w, NULL});
    }
}

static int ended(pid_t pid)
{
    int status = 0;
    for (uint64_t end = clock_now_ns() + DEADLINE_S * UINT64_C(1000000000);;) {
        const pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid) break;
        if (clock_now_ns() > end) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            fail_msg("process %d did not end within %d s", (int)pid,
                     DEADLINE_S);
        }
        nap();
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int lan_wait_exit(pid_t pid)
{
    return ended(pid);
}

/* First line of a file, without its newline; false: it is not there yet. */
static bool read_line(const char *path, char *out, size_t max)
{
    FILE *f = fopen(path, "r");
    const bool ok = f && fgets(out, (int)max, f) && strchr(out, '\n');
    if (f) fclose(f);
    if (ok) out[strcspn(out, "\n")] = '\0';
    return ok;
}

static bool take_addresses(struct lan *r)
{
    json_t *j = json_load_file(lan_path(r, "state/addresses.json"), 0, NULL);
    const char *http = json_string_value(json_object_get(j, "http"));
    const char *listen = json_string_value(json_object_get(j, "listen"));
    const json_int_t pid = json_integer_value(json_object_get(j, "pid"));
    const bool ok =
        http && listen && pid == (json_int_t)r->coordinator &&
        read_line(lan_path(r, "state/join"), r->join, sizeof r->join);
    if (ok) {
        snprintf(r->http, sizeof r->http, "http://%s", http);
        snprintf(r->http_address, sizeof r->http_address, "%s", http);
        snprintf(r->listen, sizeof r->listen, "%s", listen);
    }
    json_decref(j);
    return ok;
}

void lan_serve(struct lan *r, const char *model, const char *const *more)
{
    char program[4096], listen[80];
    const char *host = r->host ? r->host : "127.0.0.1";
    snprintf(listen, sizeof listen, "%s:0", host);
    struct args a = {.n = 0};
    add(&a, r->coordinator_prefix);
    add_wrap(&a);
    add(&a,
        (const char *const[]){
            built_program(program, "potluck-coordinator"), model, "--listen",
            r->listen[0] ? r->listen : listen, "--http",
            r->http_address[0] ? r->http_address : "127.0.0.1:0", "--no-local",
            "--no-beacon", "--state", lan_path(r, "state"), NULL});
    add(&a, more);
    r->coordinator = start(r, a.v, "coordinator.log", NULL);
    for (uint64_t end = clock_now_ns() + DEADLINE_S * UINT64_C(1000000000);
         !take_addresses(r); nap()) {
        int status;
        if (waitpid(r->coordinator, &status, WNOHANG) == r->coordinator) {
            r->coordinator = 0;
            give_up(r, "the coordinator's start");
        }
        if (clock_now_ns() > end) give_up(r, "the coordinator's start");
    }
}

void lan_serve_fails(struct lan *r, const char *said, const char *model,
                     const char *const *more)
{
    char program[4096];
    struct args a = {.n = 0};
    add(&a, (const char *const[]){built_program(program, "potluck-coordinator"),
                                  model, "--listen", "127.0.0.1:0", "--http",
                                  "127.0.0.1:0", "--no-local", "--no-beacon",
                                  "--state", lan_path(r, "other-state"), NULL});
    add(&a, more);
    const struct command c = {.argv = a.v};
    struct outcome o;
    assert_int_equal(run_command(&o, &c, NULL), ST_OK);
    assert_false(o.timed_out);
    cli_expect(o, 1, said);
}

void lan_join(struct lan *r, uint32_t i, const char *const *more)
{
    char program[4096], name[16], log[32], dir[32], cache[32];
    assert_true(i < LAN_WORKERS);
    snprintf(name, sizeof name, "pc-%u", i);
    snprintf(log, sizeof log, "pc-%u.log", i);
    snprintf(dir, sizeof dir, "worker-%u", i);
    snprintf(cache, sizeof cache, "cache-%u", i);
    struct args a = {.n = 0};
    add(&a, r->worker_prefix[i]);
    add_wrap(&a);
    add(&a, (const char *const[]){built_program(program, "potluck-worker"),
                                  "--name", name, "--state", lan_path(r, dir),
                                  "--cache", lan_path(r, cache), "--threads",
                                  "1", "--memory", "1G", "--join-file",
                                  lan_path(r, "state/join"), NULL});
    add(&a, more);
    r->workers[i] = start(r, a.v, log, NULL);
}

void lan_join_all(struct lan *r, uint32_t n)
{
    for (uint32_t i = 1; i <= n; i++) lan_join(r, i, NULL);
}

/* -------------------------------------------------------------- status */

json_t *lan_status(struct lan *r)
{
    struct outcome o = cli_run_in(
        r->coordinator_prefix, &(struct command){0},
        (const char *const[]){"status", "--json", "--host", r->http, NULL});
    json_t *j = o.code == 0 ? json_loadb(o.out.data, o.out.len, 0, NULL) : NULL;
    outcome_fini(&o);
    return j;
}

void lan_wait_nodes(struct lan *r, uint32_t n, const char *state)
{
    char what[100];
    snprintf(what, sizeof what, "state \"%s\" with %u nodes", state, n);
    for (uint64_t end = clock_now_ns() + DEADLINE_S * UINT64_C(1000000000);;) {
        json_t *j = lan_status(r);
        const char *is = json_string_value(json_object_get(j, "state"));
        const bool ok = is && strcmp(is, state) == 0 &&
                        (n == UINT32_MAX ||
                         json_array_size(json_object_get(j, "nodes")) == n);
        json_decref(j);
        if (ok) return;
        if (clock_now_ns() > end) give_up(r, what);
        nap();
    }
}

void lan_wait_state(struct lan *r, const char *state)
{
    lan_wait_nodes(r, UINT32_MAX, state);
}

static json_int_t epoch_of(struct lan *r)
{
    json_t *j = lan_status(r);
    const json_int_t epoch = json_integer_value(json_object_get(j, "epoch"));
    json_decref(j);
    return epoch;
}

void lan_write_plan(struct lan *r, const json_t *plan)
{
    const char *to = lan_path(r, "plan.json"), *now = lan_path(r, "new.json");
    assert_int_equal(json_dump_file(plan, now, 0), 0);
    assert_int_equal(rename(now, to), 0);
}

void lan_replan(struct lan *r, const json_t *plan)
{
    const json_int_t before = epoch_of(r);
    lan_write_plan(r, plan);
    kill(r->coordinator, SIGHUP);
    for (uint64_t end = clock_now_ns() + DEADLINE_S * UINT64_C(1000000000);
         epoch_of(r) == before;) {
        if (clock_now_ns() > end) give_up(r, "another plan");
    }
    lan_wait_state(r, "serving");
}

typedef bool status_fn(const json_t *status, const void *arg);

static void wait_status(struct lan *r, status_fn *right, const void *arg,
                        const char *what)
{
    for (uint64_t end = clock_now_ns() + DEADLINE_S * UINT64_C(1000000000);;) {
        json_t *j = lan_status(r);
        const bool ok = j && right(j, arg);
        json_decref(j);
        if (ok) return;
        if (clock_now_ns() > end) give_up(r, what);
        nap();
    }
}

struct use {
    char name[16];
    bool used;
};

static bool is_used_so(const json_t *j, const void *arg)
{
    const struct use *u = arg;
    bool used = false;
    size_t i;
    const json_t *node;
    json_array_foreach(json_object_get(j, "nodes"), i, node)
    {
        const char *name = json_string_value(json_object_get(node, "name"));
        used = used || (name && strcmp(name, u->name) == 0 &&
                        json_object_get(node, "planned_bytes"));
    }
    const char *state = json_string_value(json_object_get(j, "state"));
    return used == u->used && state && strcmp(state, "serving") == 0;
}

void lan_wait_used(struct lan *r, uint32_t i, bool used)
{
    struct use u = {.used = used};
    snprintf(u.name, sizeof u.name, "pc-%u", i);
    char what[64];
    snprintf(what, sizeof what, "%s %s of the model", u.name,
             used ? "with a part" : "without a part");
    wait_status(r, is_used_so, &u, what);
}

static bool is_idle(const json_t *j, const void *arg)
{
    (void)arg;
    const json_t *q = json_object_get(j, "queue");
    const json_t *pages =
        json_object_get(json_object_get(j, "plan"), "n_pages");
    return pages && json_integer_value(json_object_get(q, "running")) == 0 &&
           json_integer_value(json_object_get(q, "waiting")) == 0 &&
           json_equal(json_object_get(q, "free_pages"), pages);
}

void lan_wait_idle(struct lan *r)
{
    wait_status(r, is_idle, NULL, "an idle pool with all its pages free");
}

/* ----------------------------------------------------------------- run */

static void run_args(struct lan *r, struct args *a, const char *const *args)
{
    add(a, (const char *const[]){"run", "--host", r->http, NULL});
    add(a, args);
}

struct outcome lan_run(struct lan *r, const struct command *with,
                       const char *const *args)
{
    struct args a = {.n = 0};
    run_args(r, &a, args);
    return cli_run_in(r->coordinator_prefix, with, a.v);
}

pid_t lan_run_async(struct lan *r, const char *name, const char *const *args)
{
    char program[4096], log[64];
    struct args a = {.n = 0};
    snprintf(log, sizeof log, "%s.err", name);
    add(&a, r->coordinator_prefix);
    add(&a, (const char *const[]){built_program(program, "potluck"), NULL});
    run_args(r, &a, args);
    return start(r, a.v, log, name);
}

void lan_wait_bytes(struct lan *r, const char *name, uint64_t n)
{
    char what[128];
    snprintf(what, sizeof what, "%s of %llu bytes", name,
             (unsigned long long)n);
    for (uint64_t end = clock_now_ns() + DEADLINE_S * UINT64_C(1000000000);;) {
        struct stat s;
        if (stat(lan_path(r, name), &s) == 0 && (uint64_t)s.st_size >= n) {
            return;
        }
        if (clock_now_ns() > end) give_up(r, what);
        nap();
    }
}

/* -------------------------------------------------------------- ending */

static int stop(pid_t *pid, int signal)
{
    if (*pid == 0) return 0;
    kill(*pid, signal);
    const int code = ended(*pid);
    *pid = 0;
    return code;
}

int lan_stop_worker(struct lan *r, uint32_t i)
{
    return stop(&r->workers[i], SIGTERM);
}

void lan_kill_worker(struct lan *r, uint32_t i)
{
    stop(&r->workers[i], SIGKILL);
}

int lan_stop_coordinator(struct lan *r)
{
    return stop(&r->coordinator, SIGTERM);
}

void lan_kill_coordinator(struct lan *r)
{
    stop(&r->coordinator, SIGKILL);
}

/* Whether all workers have ended, within so many naps; *bad: an exit code. */
static bool reap(struct lan *r, uint32_t naps, int *bad)
{
    for (;; naps--) {
        bool all = true;
        for (uint32_t i = 0; i < LAN_WORKERS; i++) {
            int status;
            if (r->workers[i] == 0) continue;
            if (waitpid(r->workers[i], &status, WNOHANG) != r->workers[i]) {
                all = false;
                continue;
            }
            r->workers[i] = 0;
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
            char who[16];
            snprintf(who, sizeof who, "pc-%u", i);
            show_log(r, who);
            *bad = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        }
        if (all || naps == 0) return all;
        nap();
    }
}

static void signal_workers(struct lan *r, int number)
{
    for (uint32_t i = 0; i < LAN_WORKERS; i++) {
        if (r->workers[i] != 0) kill(r->workers[i], number);
    }
}

/* Workers first: what they say last finds the coordinator, so that none
 * lingers for it.  To leave at once takes two signals, which must not arrive
 * as one. */
void lan_end(struct lan *r)
{
    int bad = 0;
    signal_workers(r, SIGCONT);
    signal_workers(r, SIGTERM);
    if (!reap(r, 1, &bad)) signal_workers(r, SIGTERM);
    if (!reap(r, 100, &bad)) signal_workers(r, SIGTERM);
    const int code = lan_stop_coordinator(r);
    if (!reap(r, DEADLINE_S * 50, &bad)) give_up(r, "the end of the workers");
    if (code != 0) show_log(r, "coordinator");
    assert_int_equal(code, 0);
    assert_int_equal(bad, 0);
    const char *const argv[] = {"/bin/rm", "-rf", r->dir, NULL};
    const struct command rm = {.argv = argv};
    struct outcome o;
    assert_int_equal(run_command(&o, &rm, NULL), ST_OK);
    outcome_fini(&o);
}

/* ------------------------------------------------------------- looking */

bool lan_said(struct lan *r, const char *who, const char *words)
{
    char name[64], line[2000];
    bool found = false;
    snprintf(name, sizeof name, "%s.log", who);
    FILE *f = fopen(lan_path(r, name), "r");
    while (f && !found && fgets(line, sizeof line, f)) {
        found = strstr(line, words) != NULL;
    }
    if (f) fclose(f);
    return found;
}

void lan_wait_said(struct lan *r, const char *who, const char *words)
{
    for (uint64_t end = clock_now_ns() + DEADLINE_S * UINT64_C(1000000000);
         !lan_said(r, who, words); nap()) {
        if (clock_now_ns() > end) give_up(r, words);
    }
}

uint64_t lan_peak_bytes(pid_t pid)
{
    char path[64], line[256];
    uint64_t kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "VmHWM:", 6) == 0) kib = strtoull(line + 6, NULL, 10);
    }
    if (f) fclose(f);
    return kib * 1024;
}

/* Of the sockets in /proc/net/tcp, those that listen and are the process's. */
static bool has_socket(pid_t pid, unsigned long inode)
{
    char path[64], name[64], wanted[64], link[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    DIR *d = opendir(path);
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        snprintf(name, sizeof name, "%.50s", e->d_name);
        const ssize_t n = readlinkat(dirfd(d), name, link, sizeof link - 1);
        if (n <= 0) continue;
        link[n] = '\0';
        found = strcmp(link, wanted) == 0;
    }
    if (d) closedir(d);
    return found;
}

size_t lan_ports(pid_t pid, uint16_t *ports, size_t max)
{
    char line[512];
    size_t n = 0;
    FILE *f = fopen("/proc/net/tcp", "r");
    while (f && n < max && fgets(line, sizeof line, f)) {
        /* "sl local:port remote:port state tx:rx tr:when retrans uid timeout
         * inode ..." */
        char *field[10], *save, *end;
        size_t k = 0;
        for (char *w = strtok_r(line, " ", &save); w && k < 10;
             w = strtok_r(NULL, " ", &save)) {
            field[k++] = w;
        }
        if (k < 10 || strcmp(field[3], "0A") != 0) continue; /* listening */
        const char *colon = strchr(field[1], ':');
        const unsigned long port = colon ? strtoul(colon + 1, &end, 16) : 0;
        if (port != 0 && has_socket(pid, strtoul(field[9], &end, 10))) {
            ports[n++] = (uint16_t)port;
        }
    }
    if (f) fclose(f);
    return n;
}

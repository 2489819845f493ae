#include "coordinator/child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS_NS       UINT64_C(1000000)
#define ARGS_MAX    64
#define JOIN_NAME   "POTLUCK_JOIN="
#define NOT_STARTED 127

enum child_state {
    CHILD_RUNNING,
    CHILD_BACKOFF,
    CHILD_STOPPING,
    CHILD_STOPPED
};

struct child {
    struct child_options o;
    char path[PATH_MAX];
    char *argv[ARGS_MAX + 2];
    char *join; /* "POTLUCK_JOIN=..." */
    enum child_state state;
    pid_t pid; /* 0: none */
    uint64_t started_ns, deadline_ns, backoff_ms;
};

static void say(const struct child *c, const char *line)
{
    if (c->o.say) c->o.say(c->o.arg, line);
}

/* -------------------------------------------------------------- create */

static bool is_program(const char *path)
{
    return access(path, X_OK) == 0;
}

static bool beside_us(char path[PATH_MAX], const char *name)
{
    char self[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return false;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash) return false;
    *slash = '\0';
    const int m = snprintf(path, PATH_MAX, "%s/%s", self, name);
    return m > 0 && m < PATH_MAX && is_program(path);
}

static bool in_path(char path[PATH_MAX], const char *name)
{
    const char *at = getenv("PATH");
    while (at && *at) {
        const size_t n = strcspn(at, ":");
        const int m = snprintf(path, PATH_MAX, "%.*s/%s",
                               (int)(n > 4095 ? 4095 : n), at, name);
        if (n > 0 && m > 0 && m < PATH_MAX && is_program(path)) return true;
        at += n + (at[n] == ':');
    }
    return false;
}

static enum status find_program(struct child *c, struct error *err)
{
    const char *name = c->o.program;
    bool found = false;
    if (strchr(name, '/')) {
        found = strlen(name) < sizeof c->path && is_program(name);
        if (found) memcpy(c->path, name, strlen(name) + 1);
    } else {
        found = beside_us(c->path, name) || in_path(c->path, name);
    }
    if (found) return ST_OK;
    return error_set(err, ST_NOT_FOUND,
                     "%.120s is neither beside this program nor in PATH: "
                     "install it, or give --no-local",
                     name);
}

enum status child_create(struct child **out, const struct child_options *o,
                         struct error *err)
{
    struct child *c = mem_zalloc(sizeof *c);
    if (!c) return error_set(err, ST_NO_MEMORY, "a child process");
    c->o = *o;
    c->state = CHILD_BACKOFF;
    c->backoff_ms = CHILD_BACKOFF_MS;
    enum status st = find_program(c, err);
    const size_t join_bytes = sizeof JOIN_NAME + strlen(o->join);
    size_t n = 1;
    if (st == ST_OK) {
        c->argv[0] = mem_strndup(o->program, strlen(o->program));
        c->join = mem_alloc(join_bytes);
        bool whole = c->argv[0] && c->join;
        for (; whole && o->args[n - 1] && n <= ARGS_MAX; n++) {
            c->argv[n] = mem_strndup(o->args[n - 1], strlen(o->args[n - 1]));
            whole = c->argv[n] != NULL;
        }
        if (!whole) {
            st = error_set(err, ST_NO_MEMORY, "a child process");
        } else if (o->args[n - 1]) {
            st = error_set(err, ST_TOO_LARGE, "over %d arguments", ARGS_MAX);
        }
    }
    if (st != ST_OK) {
        child_free(c);
        return st;
    }
    snprintf(c->join, join_bytes, JOIN_NAME "%s", o->join);
    *out = c;
    return ST_OK;
}

void child_free(struct child *c)
{
    if (!c) return;
    if (c->pid > 0) {
        kill(c->pid, SIGKILL);
        while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) continue;
    }
    for (size_t i = 0; c->argv[i]; i++) mem_free(c->argv[i]);
    mem_free(c->join);
    mem_free(c);
}

/* --------------------------------------------------------------- start */

/* Ours, but for the join string; the list alone is the caller's. */
static char **environment(const struct child *c)
{
    size_t n = 0;
    while (environ[n]) n++;
    char **env = mem_zalloc_array(n + 2, sizeof *env);
    if (!env) return NULL;
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        if (strncmp(environ[i], JOIN_NAME, sizeof JOIN_NAME - 1) != 0) {
            env[m++] = environ[i];
        }
    }
    env[m] = c->join;
    return env;
}

/* In the child: only what is allowed between fork and exec, as other threads
 * may have held any lock. */
static void become(const struct child *c, char **env, pid_t parent)
{
    static const int usual[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ};
    sigset_t none;
    setpgid(0, 0);
    for (size_t i = 0; i < COUNT_OF(usual); i++) signal(usual[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    const int null = open("/dev/null", O_RDONLY);
    if (null > 0) {
        dup2(null, STDIN_FILENO);
        close(null);
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() == parent) execve(c->path, c->argv, env);
    _exit(NOT_STARTED);
}

static void back_off(struct child *c, uint64_t now_ns)
{
    c->state = CHILD_BACKOFF;
    c->deadline_ns = now_ns + c->backoff_ms * MS_NS;
    c->backoff_ms *= 2;
    if (c->backoff_ms > CHILD_BACKOFF_MAX_MS) {
        c->backoff_ms = CHILD_BACKOFF_MAX_MS;
    }
}

static void start(struct child *c, uint64_t now_ns)
{
    const pid_t parent = getpid();
    char **env = environment(c);
    const pid_t pid = env ? fork() : -1;
    if (pid == 0) become(c, env, parent);
    mem_free(env);
    if (pid < 0) {
        char line[128];
        snprintf(line, sizeof line,
                 "the worker of this machine cannot be started now; again in "
                 "%" PRIu64 " s",
                 c->backoff_ms / 1000);
        say(c, line);
        back_off(c, now_ns);
        return;
    }
    c->pid = pid;
    c->state = CHILD_RUNNING;
    c->started_ns = now_ns;
}

/* ---------------------------------------------------------------- ends */

static void tell_end(struct child *c, int status)
{
    char how[160], line[300];
    if (WIFSIGNALED(status)) {
        snprintf(how, sizeof how, "was ended by signal %d", WTERMSIG(status));
    } else if (WEXITSTATUS(status) == NOT_STARTED) {
        snprintf(how, sizeof how, "could not be started");
    } else {
        snprintf(how, sizeof how, "ended with code %d", WEXITSTATUS(status));
    }
    snprintf(line, sizeof line,
             "the worker of this machine %s; it is started again in %" PRIu64
             " s",
             how, c->backoff_ms / 1000);
    say(c, line);
}

static void reap(struct child *c, uint64_t now_ns)
{
    int status = 0;
    if (c->pid == 0) return;
    const pid_t got = waitpid(c->pid, &status, WNOHANG);
    if (got == 0 || (got < 0 && errno == EINTR)) return;
    c->pid = 0; /* ended; or, if somebody else waited for it, as good as */
    if (c->state == CHILD_STOPPING) {
        c->state = CHILD_STOPPED;
        return;
    }
    if (now_ns - c->started_ns >= CHILD_BACKOFF_MAX_MS * MS_NS) {
        c->backoff_ms = CHILD_BACKOFF_MS;
    }
    tell_end(c, status);
    back_off(c, now_ns);
}

void child_poll(struct child *c, uint64_t now_ns)
{
    reap(c, now_ns);
    if (c->state == CHILD_BACKOFF && now_ns >= c->deadline_ns) {
        start(c, now_ns);
    } else if (c->state == CHILD_STOPPING && now_ns >= c->deadline_ns) {
        kill(c->pid, SIGKILL);
        c->deadline_ns = UINT64_MAX;
    }
}

uint64_t child_deadline(const struct child *c)
{
    const bool timed = c->state == CHILD_BACKOFF || c->state == CHILD_STOPPING;
    return timed ? c->deadline_ns : UINT64_MAX;
}

void child_stop(struct child *c, uint64_t now_ns, uint64_t kill_after_ms)
{
    const uint64_t end = now_ns + kill_after_ms * MS_NS;
    if (c->state == CHILD_STOPPED) return;
    if (c->pid == 0) {
        c->state = CHILD_STOPPED;
        return;
    }
    kill(c->pid, SIGTERM);
    if (c->state != CHILD_STOPPING || end < c->deadline_ns) {
        c->deadline_ns = end;
    }
    c->state = CHILD_STOPPING;
}

bool child_stopped(const struct child *c)
{
    return c->state == CHILD_STOPPED;
}

pid_t child_pid(const struct child *c)
{
    return c->pid;
}

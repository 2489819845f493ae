#include "tests/lib/run_command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"

#define OUTPUT_MAX (256u << 20)

const char *built_program(char path[4096], const char *name)
{
    char self[4096];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    for (int i = 0; i < 3; i++) { /* the test, its folder, tests */
        char *slash = strrchr(self, '/');
        if (slash) *slash = '\0';
    }
    snprintf(path, 4096, "%.3000s/%.1000s", self, name);
    return path;
}

/* ------------------------------------------------------------- child */

static void child_environment(const char *const *env)
{
    for (; env && *env; env++) {
        char name[64];
        const char *equals = strchr(*env, '=');
        const size_t n = equals ? (size_t)(equals - *env) : strlen(*env);
        snprintf(name, sizeof name, "%.*s", (int)n, *env);
        if (equals)
            setenv(name, equals + 1, 1);
        else
            unsetenv(name);
    }
}

/* Between fork and exec; ends the process. */
NORETURN static void child(const struct command *c, int in, int out, int err)
{
    /* a test that is stopped leaves nothing running */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!c->input) in = open("/dev/null", O_RDONLY);
    if (c->output) out = open(c->output, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (in < 0 || out < 0 || dup2(in, 0) != 0 || dup2(out, 1) != 1 ||
        dup2(err, 2) != 2) {
        _exit(127);
    }
    child_environment(c->env);
    /* execvp does not write to the strings */
    execvp(c->argv[0], (char *const *)(uintptr_t)c->argv);
    _exit(127);
}

/* ------------------------------------------------------------ parent */

struct running {
    const struct command *c;
    struct outcome *o;
    pid_t pid;
    int in, out, err; /* our ends; -1: closed */
    size_t written;
    bool signalled;
    uint64_t deadline_ns;
};

static void close_end(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static void feed(struct running *r)
{
    const struct command *c = r->c;
    const size_t n = c->n_input ? c->n_input : strlen(c->input);
    while (r->written < n) {
        const ssize_t k = write(r->in, c->input + r->written, n - r->written);
        if (k < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (k < 0) break; /* it does not want any more */
        r->written += (size_t)k;
    }
    close_end(&r->in);
}

static enum status drain(int *fd, struct buf *to)
{
    char *at;
    const enum status st = buf_reserve(to, 65536, &at);
    if (st != ST_OK) return st;
    const ssize_t n = read(*fd, at, 65536);
    if (n > 0) to->len += (size_t)n;
    at[n > 0 ? n : 0] = '\0';
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) close_end(fd);
    return ST_OK;
}

static size_t grown(const struct running *r)
{
    struct stat s;
    if (!r->c->growing) return r->o->out.len;
    return stat(r->c->growing, &s) == 0 ? (size_t)s.st_size : 0;
}

static enum status turn(struct running *r)
{
    struct pollfd fds[3] = {
        {r->out, POLLIN, 0}, {r->err, POLLIN, 0}, {r->in, POLLOUT, 0}};
    poll(fds, 3, 20); /* negative numbers are passed over */
    enum status st = ST_OK;
    if (r->in >= 0 && fds[2].revents) feed(r);
    if (fds[0].revents) st = drain(&r->out, &r->o->out);
    if (st == ST_OK && fds[1].revents) st = drain(&r->err, &r->o->err);
    const struct command *c = r->c;
    if (c->signal && !r->signalled && grown(r) >= c->signal_after) {
        kill(r->pid, c->signal);
        r->signalled = true;
    }
    if (c->hang_up_after && r->o->out.len >= c->hang_up_after) {
        close_end(&r->out);
    }
    if (!r->o->timed_out && clock_now_ns() > r->deadline_ns) {
        r->o->timed_out = true;
        kill(r->pid, SIGKILL);
    }
    return st;
}

static enum status start(struct running *r, struct error *err)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1}, errors[2] = {-1, -1};
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 ||
        pipe2(errors, O_CLOEXEC) != 0 || (r->pid = fork()) < 0) {
        const int e = errno;
        for (int i = 0; i < 2; i++) {
            close_end(&in[i]);
            close_end(&out[i]);
            close_end(&errors[i]);
        }
        return error_set(err, ST_IO, "%s: %s", r->c->argv[0], strerror(e));
    }
    if (r->pid == 0) child(r->c, in[0], out[1], errors[1]);
    close(in[0]);
    close(out[1]);
    close(errors[1]);
    r->in = in[1];
    r->out = out[0];
    r->err = errors[0];
    fcntl(r->in, F_SETFL, O_NONBLOCK);
    if (!r->c->input) close_end(&r->in);
    return ST_OK;
}

static void await(struct running *r)
{
    int status = 0;
    struct rusage used = {0};
    while (wait4(r->pid, &status, 0, &used) < 0 && errno == EINTR) continue;
    r->o->code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    r->o->peak_bytes = (uint64_t)used.ru_maxrss * 1024;
}

enum status run_command(struct outcome *out, const struct command *c,
                        struct error *err)
{
    struct outcome o = {0};
    buf_init(&o.out, OUTPUT_MAX);
    buf_init(&o.err, OUTPUT_MAX);
    enum status st = buf_append(&o.out, "", 0);
    if (st == ST_OK) st = buf_append(&o.err, "", 0);
    if (st != ST_OK) {
        outcome_fini(&o);
        return error_set(err, st, "output of %s", c->argv[0]);
    }
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    sigaction(SIGPIPE, &ignore, &before);
    struct running r = {.c = c, .o = &o, .in = -1, .out = -1, .err = -1};
    r.deadline_ns = clock_now_ns() +
                    (c->timeout_s ? c->timeout_s : 60) * UINT64_C(1000000000);
    st = start(&r, err);
    if (st == ST_OK) {
        /* stderr closes last, when the process is gone */
        while (st == ST_OK && (r.out >= 0 || r.err >= 0)) st = turn(&r);
        if (st != ST_OK) {
            kill(r.pid, SIGKILL);
            error_set(err, st, "output of %s", c->argv[0]);
        }
        close_end(&r.in);
        close_end(&r.out);
        close_end(&r.err);
        await(&r);
    }
    sigaction(SIGPIPE, &before, NULL);
    if (st != ST_OK) {
        outcome_fini(&o);
        return st;
    }
    *out = o;
    return ST_OK;
}

void outcome_fini(struct outcome *o)
{
    buf_fini(&o->out);
    buf_fini(&o->err);
}

/* support.c - what the commands share. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/commands.h"
#include "common/clock.h"

int fail_as(enum exit_code code, const struct error *err)
{
    fprintf(stderr, "potluck: %s\n", err->text);
    return (int)code;
}

enum exit_code exit_code_of(enum status st)
{
    if (st == ST_OK) return EXIT_CODE_OK;
    if (st == ST_USAGE) return EXIT_CODE_USAGE;
    if (st == ST_INTERRUPTED) return EXIT_CODE_INTERRUPTED;
    return EXIT_CODE_FAILURE;
}

int fail(const struct error *err)
{
    return fail_as(exit_code_of(err->status), err);
}

void model_options_defaults(struct model_options *m)
{
    *m = (struct model_options){0};
    m->error.status = runner_defaults(&m->shard, &m->error);
}

enum status model_options_finish(struct model_options *m, struct error *err)
{
    static const char *const uses[] = {[BLAS_MEASURED] = "measured",
                                       [BLAS_NEVER] = "never",
                                       [BLAS_ALWAYS] = "always"};
    if (m->error.status != ST_OK) {
        return error_set(err, m->error.status, "%s", m->error.text);
    }
    if (m->kv && !kv_type_by_name(m->kv, &m->shard.kv_type)) {
        return error_set(err, ST_USAGE, "--kv %s: " KV_TYPE_NAMES, m->kv);
    }
    if (m->numerics && strcmp(m->numerics, "fast") == 0) {
        m->shard.fast = true;
    } else if (m->numerics && strcmp(m->numerics, "exact") != 0) {
        return error_set(err, ST_USAGE, "--numerics %s: exact or fast",
                         m->numerics);
    }
    if (!m->blas) return ST_OK;
    for (size_t i = 0; i < COUNT_OF(uses); i++) {
        if (strcmp(m->blas, uses[i]) != 0) continue;
        m->shard.blas = (enum blas_use)i;
        return ST_OK;
    }
    return error_set(err, ST_USAGE, "--blas %s: measured, never or always",
                     m->blas);
}

bool parse_command(const struct option *table, size_t n, const char *usage,
                   int argc, char **argv, const char **positional, size_t max,
                   size_t *n_positional, int *code)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) {
            continue;
        }
        printf("usage: potluck %s\n\n", usage);
        options_help(table, n, stdout);
        *code = EXIT_CODE_OK;
        return false;
    }
    struct error err;
    if (options_parse(table, n, argc, argv, positional, max, n_positional,
                      &err) != ST_OK) {
        *code = fail(&err);
        fprintf(stderr, "usage: potluck %s\n", usage);
        return false;
    }
    return true;
}

static enum status read_fd(int fd, const char *name, struct buf *b,
                           struct error *err)
{
    for (;;) {
        char *to;
        const size_t room = b->max - b->len < 65536 ? b->max - b->len : 65536;
        const enum status st = room ? buf_reserve(b, room, &to) : ST_TOO_LARGE;
        if (st == ST_NO_MEMORY) {
            return error_set(err, st, "%s: no memory for more than %zu bytes",
                             name, b->len);
        }
        if (st != ST_OK) {
            return error_set(err, st, "%s: over the limit of %zu bytes", name,
                             b->max);
        }
        const ssize_t n = read(fd, to, room);
        if (n < 0 && errno == EINTR) {
            if (!interrupted()) continue;
            return error_set(err, ST_INTERRUPTED, "interrupted");
        }
        if (n < 0) {
            return error_set(err, ST_IO, "%s: %s", name, strerror(errno));
        }
        if (n == 0) return ST_OK;
        b->len += (size_t)n;
        b->data[b->len] = '\0';
    }
}

enum status read_all_stdin(struct buf *b, const char *what, struct error *err)
{
    if (isatty(STDIN_FILENO)) {
        fprintf(stderr, "Type %s, then Enter and Ctrl-D.\n", what);
    }
    return read_fd(STDIN_FILENO, "standard input", b, err);
}

enum status read_all_file(const char *path, struct buf *b, struct error *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return error_set(err, ST_IO, "%s: %s", path, strerror(errno));
    const enum status st = read_fd(fd, path, b, err);
    close(fd);
    return st;
}

const char *human_bytes(char text[32], uint64_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)n;
    size_t u = 0;
    while (v >= 1024 && u + 1 < COUNT_OF(units)) {
        v /= 1024;
        u++;
    }
    snprintf(text, 32, u == 0 ? "%.0f %s" : "%.2f %s", v, units[u]);
    return text;
}

static const char *amount(char text[32], const struct progress *p, double n)
{
    if (!p->unit) return human_bytes(text, (uint64_t)n);
    snprintf(text, 32, n < 100 && n != (double)(uint64_t)n ? "%.1f" : "%.0f",
             n);
    return text;
}

bool progress_show(void *arg, uint64_t done, uint64_t total)
{
    struct progress *p = arg;
    const uint64_t now = clock_now_ns();
    if (p->start_ns == 0) p->start_ns = now;
    const double seconds = (double)(now - p->start_ns) / 1e9;
    if (seconds < 2 || now - p->shown_ns < 200000000u || done == 0 ||
        !isatty(STDERR_FILENO)) {
        return !interrupted();
    }
    p->shown_ns = now;
    char a[32], b[32], c[32];
    const double rate = (double)done / seconds;
    fprintf(stderr, "\r%s: %s of %s%s%s, %s/s, %.0f s left\033[K", p->label,
            amount(a, p, (double)done), amount(b, p, (double)total),
            p->unit ? " " : "", p->unit ? p->unit : "", amount(c, p, rate),
            (double)(total - done) / rate);
    return !interrupted();
}

void progress_end(struct progress *p)
{
    if (p->shown_ns != 0) fputs("\r\033[K", stderr);
    p->shown_ns = p->start_ns = 0;
}

static volatile sig_atomic_t got_signal;

static void on_signal(int sig)
{
    (void)sig;
    got_signal = 1;
}

void catch_interrupt(void)
{
    struct sigaction sa = {.sa_handler = on_signal,
                           .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

bool interrupted(void)
{
    return got_signal != 0;
}

bool pause_ns(uint64_t ns)
{
    const uint64_t end = clock_now_ns() + ns;
    for (uint64_t now; !interrupted() && (now = clock_now_ns()) < end;) {
        const uint64_t slice = end - now < 100000000u ? end - now : 100000000u;
        const struct timespec t = {.tv_nsec = (long)slice};
        nanosleep(&t, NULL);
    }
    return !interrupted();
}

enum status print_json(struct json_t *object, struct error *err)
{
    if (!object) return error_set(err, ST_NO_MEMORY, "JSON");
    const bool ok = json_dumpf(object, stdout,
                               JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0 &&
                    putchar('\n') != EOF && fflush(stdout) == 0;
    json_decref(object);
    return ok ? ST_OK
              : error_set(err, ST_IO, "standard output: %s", strerror(errno));
}

/* main.c - potluck-worker, which `potluck join` starts: options in, exit code
 * out. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/files.h"
#include "common/machine.h"
#include "common/options.h"
#include "engine/cpu.h"
#include "engine/numerics.h"
#include "engine/pool.h"
#include "proto/limits.h"
#include "worker/find.h"
#include "worker/net.h"
#include "worker/remember.h"

#define EXIT_USAGE         2
#define EXIT_REFUSED       5
#define CACHE_SIZE_DEFAULT (UINT64_C(64) << 30)
#define MEMORY_PERCENT     80

struct settings {
    struct worker_options o;
    const char *word, *join_file, *name, *cache, *state, *listen, *trace;
    char text[JOIN_TEXT_BYTES + 64]; /* a join string read from somewhere */
    char name_text[LIMIT_NAME + 1], listen_host[LIMIT_ADDRESS + 1];
    char cache_path[FILES_PATH_BYTES], state_path[FILES_PATH_BYTES];
    bool version, no_cache;
};

static int fail(const struct error *err, enum status st, bool refused)
{
    fprintf(stderr, "potluck-worker: %s\n", err->text);
    if (refused) return EXIT_REFUSED;
    return st == ST_USAGE ? EXIT_USAGE : EXIT_FAILURE;
}

/* ----------------------------------------------------------- defaults */

static enum status set_name(struct settings *s, struct error *err)
{
    if (!s->name) {
        machine_name(s->name_text, "worker");
    } else if (s->name[0] == '\0' || strlen(s->name) > LIMIT_NAME) {
        return error_set(err, ST_USAGE, "--name: 1 to %d bytes", LIMIT_NAME);
    } else {
        snprintf(s->name_text, sizeof s->name_text, "%s", s->name);
    }
    s->o.name = s->name_text;
    return ST_OK;
}

/* -------------------------------------------------------- join string */

static enum status read_text(struct settings *s, int fd, const char *what,
                             struct error *err)
{
    size_t n = 0;
    ssize_t got = 1;
    while (got > 0 && n < sizeof s->text - 1 && !memchr(s->text, '\n', n)) {
        got = read(fd, s->text + n, sizeof s->text - 1 - n);
        if (got < 0 && errno == EINTR) {
            got = 1;
        } else if (got < 0) {
            return error_set(err, ST_IO, "%s: %s", what, strerror(errno));
        } else {
            n += (size_t)got;
        }
    }
    s->text[n] = '\0';
    return ST_OK;
}

/* The only coordinator that says on this LAN that it is there. */
static enum status look_around(struct settings *s, struct error *err)
{
    static const char hint[] =
        "give the join string that `potluck serve` prints, as argument, on "
        "standard input (-), by --join-file or in POTLUCK_JOIN";
    struct found all[FIND_MAX];
    uint32_t n = 0;
    fprintf(stderr, "potluck-worker: no join string: looking for a "
                    "coordinator on this network\n");
    const enum status st = find_coordinators(all, &n, BEACON_PORT, FIND_WAIT_MS,
                                             FIND_SETTLE_MS, err);
    if (st != ST_OK) return st;
    for (uint32_t i = 0; i < n; i++) {
        const struct join *j = &all[i].join;
        fprintf(stderr, "potluck-worker: found %s at %s:%u, key ", all[i].name,
                j->host, j->port);
        for (size_t k = 0; k < 8; k++) fprintf(stderr, "%02x", j->key[k]);
        fputc('\n', stderr);
    }
    if (n == 0) {
        return error_set(err, ST_USAGE, "no coordinator is heard here: %s",
                         hint);
    }
    if (n > 1) {
        return error_set(err, ST_USAGE, "%u coordinators are heard here: %s", n,
                         hint);
    }
    s->o.join = all[0].join;
    return ST_OK;
}

/* The argument, the file, the environment, the pool of the last time,
 * or the one of this network. */
static enum status find_join(struct settings *s, struct error *err)
{
    const char *text = s->word;
    enum status st = ST_OK;
    if (s->word && s->join_file) {
        return error_set(err, ST_USAGE, "a join string and --join-file");
    }
    if (s->word && strcmp(s->word, "-") == 0) {
        st = read_text(s, STDIN_FILENO, "standard input", err);
        text = s->text;
    } else if (s->join_file) {
        const int fd = open(s->join_file, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return error_set(err, ST_IO, "%s: %s", s->join_file,
                             strerror(errno));
        }
        st = read_text(s, fd, s->join_file, err);
        close(fd);
        text = s->text;
    } else if (!text) {
        text = getenv("POTLUCK_JOIN");
    }
    if (st != ST_OK) return st;
    if (text) {
        st = join_parse(&s->o.join, text, err);
        return st == ST_INVALID ? ST_USAGE : st;
    }
    st = remember_read(&s->o.join, s->o.state_dir, err);
    if (st != ST_NOT_FOUND) return st;
    return look_around(s, err);
}

static enum status finish(struct settings *s, struct error *err)
{
    enum status st = cpu_isa_wanted(&s->o.shard.isa, err);
    if (st == ST_OK) st = set_name(s, err);
    s->o.listen = s->listen_host;
    if (st == ST_OK) {
        st = machine_address(s->listen, s->listen_host, &s->o.listen_port, err);
        if (st != ST_OK) error_prefix(err, st, "--listen");
    }
    if (st == ST_OK && !s->cache) {
        st = files_xdg(s->cache_path, "XDG_CACHE_HOME", ".cache", "", "--cache",
                       err);
        s->cache = s->cache_path;
    }
    if (st == ST_OK && !s->state) {
        st = files_xdg(s->state_path, "XDG_STATE_HOME", ".local/state",
                       "/worker", "--state", err);
        s->state = s->state_path;
    }
    if (st != ST_OK) return st;
    if (strlen(s->state) > FILES_PATH_BYTES - 64 || s->state[0] == '\0') {
        return error_set(err, ST_USAGE, "--state: not a path");
    }
    s->o.cache_dir = s->no_cache ? NULL : s->cache;
    s->o.state_dir = s->state;
    s->o.trace_path = s->trace;
    if (s->o.shard.n_threads == 0) s->o.shard.n_threads = cpu_cores();
    if (s->o.shard.memory_max == 0) {
        s->o.shard.memory_max =
            machine_memory_available() / 100 * MEMORY_PERCENT;
    }
    if (s->o.shard.memory_max == 0) {
        return error_set(err, ST_USAGE,
                         "how much memory is free is not to be "
                         "found out here: give --memory");
    }
    st = files_make_dir(s->state, err);
    return st == ST_OK ? find_join(s, err) : st;
}

int main(int argc, char **argv)
{
    struct settings s = {.listen = "0.0.0.0"};
    struct error err;
    s.o.shard.blas = BLAS_MEASURED;
    s.o.cache_bytes = CACHE_SIZE_DEFAULT;
    bool help = false;
    const struct option table[] = {
        {"--join-file", 0, OPTION_STRING, &s.join_file, "FILE",
         "read the join string from a file", 0, 0},
        {"--threads", 't', OPTION_U32, &s.o.shard.n_threads, "N",
         "compute threads (default: one per physical core)", 1,
         POOL_THREADS_MAX},
        {"--affinity", 0, OPTION_FLAG, &s.o.shard.affinity, NULL,
         "keep each thread on a core of its own", 0, 0},
        {"--memory", 0, OPTION_SIZE, &s.o.shard.memory_max, "SIZE",
         "memory to offer, as in 6G (default: 80 % of what is free)", 0, 0},
        {"--name", 0, OPTION_STRING, &s.name, "NAME",
         "what the pool calls this PC (default: the host's name)", 0, 0},
        {"--cache", 0, OPTION_STRING, &s.cache, "DIR",
         "keeps pieces of models (default ~/.cache/potluck)", 0, 0},
        {"--cache-size", 0, OPTION_SIZE, &s.o.cache_bytes, "SIZE",
         "limit of the cache (default 64G; 0: none)", 0, 0},
        {"--no-cache", 0, OPTION_FLAG, &s.no_cache, NULL,
         "keep no pieces of models on this machine's disk", 0, 0},
        {"--no-progress", 0, OPTION_FLAG, &s.o.no_progress, NULL,
         "no line of progress on a terminal", 0, 0},
        {"--state", 0, OPTION_STRING, &s.state, "DIR",
         "keeps the key (default ~/.local/state/potluck/worker)", 0, 0},
        {"--listen", 0, OPTION_STRING, &s.listen, "ADDR[:PORT]",
         "for data of the pool (default 0.0.0.0, any port)", 0, 0},
        {"--trace", 0, OPTION_STRING, &s.trace, "FILE",
         "write when each step began and ended", 0, 0},
        {"--help", 'h', OPTION_FLAG, &help, NULL, "this text", 0, 0},
        {"--version", 0, OPTION_FLAG, &s.version, NULL, "versions", 0, 0},
    };
    static const char usage[] =
        "usage: potluck join [STRING | -] [OPTIONS]\n\nLets this PC compute "
        "for "
        "the pool whose join string `potluck serve` has printed; without one "
        "(as argument,\non standard input, in a file or in POTLUCK_JOIN), for "
        "the pool of the last time, or else\nfor the one that is heard on "
        "this network, where it must then be approved.\n\n";
    size_t n_words = 0;
    /* a peer that is gone and a full quota are errors of the call */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    umask(077); /* the key, the pool's address, pieces of models */
    enum status st = options_parse(table, COUNT_OF(table), argc, argv, &s.word,
                                   1, &n_words, &err);
    if (st == ST_OK && (help || s.version)) {
        if (help) {
            fputs(usage, stdout);
            options_help(table, COUNT_OF(table), stdout);
        } else {
            printf("potluck-worker " WORKER_BUILD " (protocol %d, numerics "
                   "%d)\n",
                   PROTOCOL_MAX, NUMERICS_VERSION);
        }
        return EXIT_SUCCESS;
    }
    if (n_words == 0) s.word = NULL;
    if (st == ST_OK) st = finish(&s, &err);
    bool refused = false;
    if (st == ST_OK) st = worker_run(&s.o, &refused, &err);
    return st == ST_OK ? EXIT_SUCCESS : fail(&err, st, refused);
}

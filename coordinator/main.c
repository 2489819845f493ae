/* main.c - potluck-coordinator, which `potluck serve` starts: options in, exit
 * code out. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/machine.h"
#include "common/options.h"
#include "coordinator/net.h"
#include "engine/numerics.h"

#define EXIT_USAGE    2
#define DEFAULT_PORT  7420
#define DEFAULT_USERS 4
#define DEFAULT_QUEUE 1000
#define USERS_MAX     1024
#define INVITE_MAX    525600 /* minutes: a year */

struct settings {
    struct coordinator_options o;
    const char *listen, *objective, *kv;
    char host[LIMIT_ADDRESS + 1];
    bool no_local, no_beacon, help, version;
};

static enum status finish(struct settings *s, size_t n_words, struct error *err)
{
    if (n_words == 0) {
        return error_set(err, ST_USAGE, "serve needs a model file");
    }
    if (s->objective &&
        !plan_objective_by_name(s->objective, &s->o.objective)) {
        return error_set(err, ST_USAGE,
                         "--objective %s: latency, throughput or mixed",
                         s->objective);
    }
    if (s->kv && !kv_type_by_name(s->kv, &s->o.kv_type)) {
        return error_set(err, ST_USAGE, "--kv %s: " KV_TYPE_NAMES, s->kv);
    }
    if (!(s->o.invite_minutes >= 0 && s->o.invite_minutes <= INVITE_MAX)) {
        return error_set(err, ST_USAGE, "--invite: 0 to %d minutes",
                         INVITE_MAX);
    }
    if (s->o.spread && s->o.plan_path) {
        return error_set(err, ST_USAGE, "--spread and --plan: one of them");
    }
    if (s->no_local && s->o.local_memory) {
        return error_set(err, ST_USAGE,
                         "--memory is for this machine's own worker, which "
                         "--no-local leaves out");
    }
    s->o.local = !s->no_local;
    s->o.beacon = !s->no_beacon;
    s->o.host = s->host;
    s->o.port = DEFAULT_PORT;
    const enum status st = machine_address(s->listen, s->host, &s->o.port, err);
    return st == ST_OK ? ST_OK : error_prefix(err, st, "--listen");
}

/* --help or --version */
static void tell(const struct option *table, size_t n, bool help)
{
    static const char usage[] =
        "usage: potluck serve MODEL.gguf [OPTIONS]\n\nStarts a pool for a "
        "model here, and prints the command with which other PCs join it.\n\n";
    if (help) {
        fputs(usage, stdout);
        options_help(table, n, stdout);
    } else {
        printf("potluck-coordinator " COORDINATOR_BUILD
               " (protocol %d, numerics %d)\n",
               PROTOCOL_MAX, NUMERICS_VERSION);
    }
}

int main(int argc, char **argv)
{
    struct settings s = {.listen = "0.0.0.0:7420",
                         .o = {.http = "127.0.0.1:7421",
                               .objective = PLAN_MIXED,
                               .n_users = DEFAULT_USERS,
                               .queue_max = DEFAULT_QUEUE,
                               .kv_type = KV_F16,
                               .invite_minutes = TOKEN_MINUTES}};
    struct error err;
    const struct option table[] = {
        {"--listen", 0, OPTION_STRING, &s.listen, "ADDR[:PORT]",
         "for workers (default 0.0.0.0:7420; also the ports +2 and +3)", 0, 0},
        {"--http", 0, OPTION_STRING, &s.o.http, "ADDR:PORT",
         "for prompts (default 127.0.0.1:7421; port 0: any)", 0, 0},
        {"--advertise", 0, OPTION_STRING, &s.o.advertise, "HOST",
         "this machine's name or address in the join string", 0, 0},
        {"--workers", 0, OPTION_U32, &s.o.n_workers, "N",
         "wait for N workers before planning, this machine's not counted", 0,
         LIMIT_NODES},
        {"--no-local", 0, OPTION_FLAG, &s.no_local, NULL,
         "this machine computes nothing itself", 0, 0},
        {"--threads", 't', OPTION_STRING, &s.o.local_threads, "N",
         "compute threads of this machine's own worker", 0, 0},
        {"--memory", 0, OPTION_STRING, &s.o.local_memory, "SIZE",
         "memory that this machine's own worker offers, as in 6G", 0, 0},
        {"--ctx", 'c', OPTION_U32, &s.o.n_ctx, "N",
         "longest prompt with its answer, in tokens (default: up to 4096)", 1,
         MODEL_CTX_MAX},
        {"--kv", 0, OPTION_STRING, &s.kv, "TYPE",
         "key/value cache: f16 (default), f32 or q8_0", 0, 0},
        {"--users", 0, OPTION_U32, &s.o.n_users, "N",
         "how many write at once, for the plan (default 4)", 1, USERS_MAX},
        {"--objective", 0, OPTION_STRING, &s.objective, "WHAT",
         "plan for latency, throughput or mixed (default)", 0, 0},
        {"--plan", 0, OPTION_STRING, &s.o.plan_path, "FILE",
         "who computes what, as potluck plan --json writes it; SIGHUP: again",
         0, 0},
        {"--spread", 0, OPTION_FLAG, &s.o.spread, NULL,
         "use every worker, even where fewer were faster", 0, 0},
        {"--queue", 0, OPTION_U32, &s.o.queue_max, "N",
         "prompts at once, waiting ones included (default 1000)", 1, 100000},
        {"--invite", 0, OPTION_F32, &s.o.invite_minutes, "MINUTES",
         "how long the join string lets PCs in (default 60; 0: each waits for "
         "potluck keys approve)",
         0, 0},
        {"--no-beacon", 0, OPTION_FLAG, &s.no_beacon, NULL,
         "do not announce this pool on the LAN", 0, 0},
        {"--state", 0, OPTION_STRING, &s.o.state_dir, "DIR",
         "keeps keys and hashes (default ~/.local/state/potluck/coordinator)",
         0, 0},
        {"--help", 'h', OPTION_FLAG, &s.help, NULL, "this text", 0, 0},
        {"--version", 0, OPTION_FLAG, &s.version, NULL, "versions", 0, 0},
    };
    size_t n_words = 0;
    umask(077); /* keys, the join string */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a full quota is an error like any other */
    enum status st = options_parse(table, COUNT_OF(table), argc, argv,
                                   &s.o.model_path, 1, &n_words, &err);
    if (st == ST_OK && (s.help || s.version)) {
        tell(table, COUNT_OF(table), s.help);
        return EXIT_SUCCESS;
    }
    if (st == ST_OK) st = finish(&s, n_words, &err);
    if (st == ST_OK) st = coordinator_run(&s.o, &err);
    if (st == ST_OK) return EXIT_SUCCESS;
    fprintf(stderr, "potluck-coordinator: %s\n", err.text);
    return st == ST_USAGE ? EXIT_USAGE : EXIT_FAILURE;
}

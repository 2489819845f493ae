/* cmd_demo.c - potluck demo: a whole pool on this machine, for one answer.
 *
 * A temporary folder has the state of the coordinator and the workers, and
 * what they say; both go when it is over, however it ends.  The programs listen
 * on the loopback address only. */
#include <errno.h>
#include <ftw.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/answer.h"
#include "client/spawn.h"
#include "client/table.h"
#include "common/clock.h"
#include "common/join.h"
#include "common/machine.h"

#define WORKERS_MAX     32
#define STALL_NS        UINT64_C(60000000000) /* nothing new for so long */
#define POLL_NS         UINT64_C(100000000)
#define DIR_BYTES       512
#define FILE_BYTES      1024
#define LOG_LINES_BYTES 1500
#define TOKENS          64  /* of a model that may be slow */
#define TOKENS_BUNDLED  400 /* its stories end by themselves */
#define PROMPT          "Please tell me a story about a turtle named Pebble."

struct demo {
    const char *model, *prompt;
    char bundled[SPAWN_PATH_BYTES]; /* the model's path, if it is ours */
    uint32_t n_workers, n_tokens;
    char dir[DIR_BYTES]; /* "": not made yet */
    char coordinator[SPAWN_PATH_BYTES], worker[SPAWN_PATH_BYTES];
    struct http_pool pool;
    pid_t pid[1 + WORKERS_MAX]; /* the coordinator's first */
    bool terminal, line_shown;
    /* progress, so that a stall is noticed */
    char said[160];
    uint64_t news, since_ns;
};

/* ------------------------------------------------------------ progress */

static void erase_line(struct demo *d)
{
    if (d->line_shown) fputs("\r\033[K", stderr);
    d->line_shown = false;
}

/* What happens: one line, rewritten on a terminal.  `phase` of it without
 * numbers that change all the time, for logs. */
static void say(struct demo *d, const char *phase, const char *detail)
{
    if (d->terminal) {
        fprintf(stderr, "\r%s%s\033[K", phase, detail);
        d->line_shown = true;
    } else if (strcmp(d->said, phase) != 0) {
        fprintf(stderr, "%s\n", phase);
    }
    snprintf(d->said, sizeof d->said, "%s", phase);
}

/* What the last lines of its log say, after the error itself. */
static void show_log(const struct demo *d, size_t who)
{
    char path[FILE_BYTES], text[LOG_LINES_BYTES + 1];
    snprintf(path, sizeof path, "%s/log-%zu", d->dir, who);
    FILE *f = fopen(path, "rb");
    if (!f) return;
    if (fseek(f, -LOG_LINES_BYTES, SEEK_END) != 0) rewind(f);
    const size_t n = fread(text, 1, LOG_LINES_BYTES, f);
    fclose(f);
    text[n] = '\0';
    if (n == 0) return;
    if (who == 0)
        fputs("its coordinator's last words:\n", stderr);
    else
        fprintf(stderr, "the last words of worker pc-%zu:\n", who);
    char *save;
    for (char *l = strtok_r(text, "\n", &save); l;
         l = strtok_r(NULL, "\n", &save)) {
        fprintf(stderr, "  %s\n", plain_line(l));
    }
}

/* A child that has ended, which none should before we say so. */
static enum exit_code check_children(struct demo *d, struct error *err)
{
    char how[32];
    for (size_t i = 0; i <= d->n_workers; i++) {
        if (d->pid[i] == 0 || !spawn_ended(d->pid[i], how)) continue;
        d->pid[i] = 0;
        erase_line(d);
        show_log(d, i);
        if (i == 0)
            error_set(err, ST_IO, "the coordinator has ended (%s)", how);
        else
            error_set(err, ST_IO, "worker pc-%zu has ended (%s)", i, how);
        return EXIT_CODE_FAILURE;
    }
    return EXIT_CODE_OK;
}

/* Between two looks.  `news` is a number that changes with any progress. */
static enum exit_code wait_turn(struct demo *d, uint64_t news,
                                struct error *err)
{
    const uint64_t now = clock_now_ns();
    if (d->since_ns == 0 || d->news != news) {
        d->news = news;
        d->since_ns = now;
    }
    const enum exit_code code = check_children(d, err);
    if (code != EXIT_CODE_OK) return code;
    if (now - d->since_ns > STALL_NS) {
        erase_line(d);
        show_log(d, 0);
        error_set(err, ST_IO, "nothing has moved for %d s, at: %s",
                  (int)(STALL_NS / 1000000000u), d->said);
        return EXIT_CODE_FAILURE;
    }
    if (pause_ns(POLL_NS)) return EXIT_CODE_OK;
    error_set(err, ST_INTERRUPTED, "interrupted");
    return EXIT_CODE_INTERRUPTED;
}

/* --------------------------------------------------------------- start */

static enum status make_dir(struct demo *d, struct error *err)
{
    const char *tmp = getenv("TMPDIR");
    char dir[DIR_BYTES];
    const int n = snprintf(dir, sizeof dir, "%s/potluck-demo-XXXXXX",
                           tmp && *tmp ? tmp : "/tmp");
    if (n < 0 || n >= (int)sizeof dir) {
        return error_set(err, ST_USAGE, "TMPDIR is too long a path");
    }
    if (!mkdtemp(dir)) {
        return error_set(err, ST_IO, "%s: %s", dir, strerror(errno));
    }
    memcpy(d->dir, dir, sizeof dir);
    return ST_OK;
}

static enum status start_coordinator(struct demo *d, struct error *err)
{
    char log[FILE_BYTES], state[FILE_BYTES], workers[16];
    snprintf(log, sizeof log, "%s/log-0", d->dir);
    snprintf(state, sizeof state, "%s/coordinator", d->dir);
    snprintf(workers, sizeof workers, "%u", d->n_workers);
    /* every worker computes, though one alone would be faster here */
    const char *const argv[] = {
        d->coordinator, d->model,     "--listen",    "127.0.0.1:0", "--http",
        "127.0.0.1:0",  "--no-local", "--no-beacon", "--spread",    "--workers",
        workers,        "--state",    state,         NULL};
    return spawn_child(&d->pid[0], d->coordinator, argv, log, err);
}

static enum status start_worker(struct demo *d, size_t i, uint64_t memory,
                                struct error *err)
{
    char log[FILE_BYTES], state[FILE_BYTES], cache[FILE_BYTES];
    char join[FILE_BYTES], name[32], size[32];
    snprintf(log, sizeof log, "%s/log-%zu", d->dir, i);
    snprintf(state, sizeof state, "%s/pc-%zu", d->dir, i);
    snprintf(cache, sizeof cache, "%s/cache-%zu", d->dir, i);
    snprintf(join, sizeof join, "%s/coordinator/join", d->dir);
    snprintf(name, sizeof name, "pc-%zu", i);
    snprintf(size, sizeof size, "%lluK", (unsigned long long)(memory / 1024));
    const char *const argv[] = {
        d->worker, "--join-file", join,        "--name",  name,  "--threads",
        "1",       "--memory",    size,        "--state", state, "--cache",
        cache,     "--listen",    "127.0.0.1", NULL};
    return spawn_child(&d->pid[i], d->worker, argv, log, err);
}

/* STATE/addresses.json, if it is whole already. */
static bool read_address(struct demo *d)
{
    char path[FILE_BYTES];
    snprintf(path, sizeof path, "%s/coordinator/addresses.json", d->dir);
    json_t *o = json_load_file(path, 0, NULL);
    const char *http = json_string_value(json_object_get(o, "http"));
    const bool ok =
        http && strncmp(http, "127.0.0.1:", 10) == 0 && strlen(http) < 32;
    if (ok) snprintf(d->pool.url, sizeof d->pool.url, "http://%s", http);
    json_decref(o);
    if (!ok) return false;
    struct join join; /* written just before or after */
    char line[FILE_BYTES];
    snprintf(path, sizeof path, "%s/coordinator/join", d->dir);
    FILE *f = fopen(path, "r");
    const bool whole = f && fgets(line, sizeof line, f) &&
                       join_parse(&join, line, NULL) == ST_OK;
    if (f) fclose(f);
    return whole;
}

static enum exit_code start_all(struct demo *d, struct error *err)
{
    enum status st = start_coordinator(d, err);
    if (st != ST_OK) return exit_code_of(st);
    say(d, "starting the coordinator", "");
    while (!read_address(d)) {
        const enum exit_code code = wait_turn(d, 0, err);
        if (code != EXIT_CODE_OK) return code;
    }
    /* a fair share of what is free, and one for the machine itself */
    uint64_t share = machine_memory_available() / (d->n_workers + 1u);
    if (share == 0) share = UINT64_C(1) << 30;
    for (size_t i = 1; i <= d->n_workers && st == ST_OK; i++) {
        st = start_worker(d, i, share, err);
    }
    return exit_code_of(st);
}

/* ------------------------------------------------------------- serving */

static uint64_t mix(uint64_t h, double v)
{
    return (h ^ (uint64_t)(v > 0 && v < 1e18 ? v : 0)) *
           UINT64_C(0x100000001b3);
}

/* Says where the pool is, and mixes all that moves into one number. */
static uint64_t describe(struct demo *d, const json_t *cluster)
{
    const json_t *nodes = json_object_get(cluster, "nodes");
    const char *state = json_string_value(json_object_get(cluster, "state"));
    double done = 0, total = 0;
    uint64_t h = json_array_size(nodes);
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *n = json_array_get(nodes, i);
        const char *s = json_string_value(json_object_get(n, "state"));
        for (; s && *s; s++) h = mix(h, (unsigned char)*s);
        const double bytes =
            json_number_value(json_object_get(n, "done_bytes"));
        done += bytes;
        total += json_number_value(json_object_get(n, "total_bytes"));
        h = mix(h, bytes);
    }
    for (const char *s = state; s && *s; s++) h = mix(h, (unsigned char)*s);
    char phase[160], detail[64] = "";
    snprintf(phase, sizeof phase, "%s", state ? state : "waiting");
    if (!state || strcmp(state, "waiting") == 0) {
        snprintf(phase, sizeof phase, "joining: %zu of %u",
                 json_array_size(nodes), d->n_workers);
    } else if (total > 0) {
        snprintf(detail, sizeof detail, ": %.0f %%", 100 * done / total);
    }
    say(d, plain_line(phase), detail);
    return h;
}

static enum exit_code await_ready(struct demo *d, struct error *err)
{
    for (;;) {
        json_t *cluster = NULL;
        uint64_t news = 1;
        enum exit_code code =
            http_json(&d->pool, "/v1/cluster", NULL, &cluster, err);
        if (code == EXIT_CODE_INTERRUPTED) return code;
        bool serving = false;
        if (code == EXIT_CODE_OK) {
            const char *state =
                json_string_value(json_object_get(cluster, "state"));
            serving = state && strcmp(state, "serving") == 0;
            news = describe(d, cluster);
            json_decref(cluster);
        }
        if (serving) {
            erase_line(d);
            return EXIT_CODE_OK;
        }
        code = wait_turn(d, news, err);
        if (code != EXIT_CODE_OK) return code;
    }
}

/* Who computed what, after the answer. */
static enum exit_code report(const struct demo *d,
                             const struct answer_figures *f, struct error *err)
{
    json_t *cluster;
    const enum exit_code code =
        http_json(&d->pool, "/v1/cluster", NULL, &cluster, err);
    if (code != EXIT_CODE_OK) return code;
    struct buf b;
    buf_init(&b, TABLE_MAX);
    const enum status st = table_write(&b, cluster);
    json_decref(cluster);
    if (st == ST_OK) {
        fprintf(stderr,
                "\nprompt: %zu tokens, %.1f tokens/s; answer: %zu tokens, "
                "%.1f tokens/s\n\n%s",
                f->n_prompt, f->prompt_per_second, f->n_tokens,
                f->predicted_per_second, b.data);
    }
    buf_fini(&b);
    return st == ST_OK ? EXIT_CODE_OK
                       : exit_code_of(error_set(err, st,
                                                "no memory for the "
                                                "table"));
}

static enum exit_code answer(struct demo *d, struct error *err)
{
    struct ask ask;
    ask_defaults(&ask);
    ask.sample.temperature = 0; /* the same answer everywhere */
    ask.n_max = d->n_tokens;
    ask.seed = 1;
    struct buf prompt;
    buf_init(&prompt, PROMPT_MAX);
    if (buf_append(&prompt, d->prompt, strlen(d->prompt)) != ST_OK) {
        return exit_code_of(error_set(err, ST_NO_MEMORY, "the prompt"));
    }
    fprintf(stderr, "%u workers answer: %s\n", d->n_workers, d->prompt);
    const struct answer_request request = {
        .pool = &d->pool,
        .ask = &ask,
        .prompt = &prompt,
        .silence_s = (uint32_t)(STALL_NS / 1000000000u)};
    struct answer_figures figures;
    enum exit_code code = answer_print(&request, &figures, err);
    buf_fini(&prompt);
    if (code == EXIT_CODE_OK) code = report(d, &figures, err);
    if (code == EXIT_CODE_OK || code == EXIT_CODE_INTERRUPTED) return code;
    /* the worker that it lost, if it is one of ours */
    struct error dead;
    if (check_children(d, &dead) == EXIT_CODE_OK) show_log(d, 0);
    return code;
}

/* ----------------------------------------------------------------- end */

static int remove_one(const char *path, const struct stat *s, int type,
                      struct FTW *f)
{
    (void)s;
    (void)type;
    (void)f;
    remove(path); /* what cannot be removed shows at the folder above */
    return 0;
}

static enum exit_code clean_up(struct demo *d, enum exit_code code,
                               struct error *err)
{
    spawn_end_all(d->pid, 1u + d->n_workers);
    if (!d->dir[0]) return code;
    nftw(d->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    if (access(d->dir, F_OK) != 0 || code != EXIT_CODE_OK) return code;
    return exit_code_of(error_set(err, ST_IO, "%s cannot be removed", d->dir));
}

static enum status check(struct demo *d, struct error *err)
{
    /* beside the programs; as `make install` lays it; in the sources */
    static const char *const places[] = {
        "potluck-demo.gguf", "../share/potluck/potluck-demo.gguf",
        "../../deploy/demo/potluck-demo.gguf", NULL};
    if (!d->model) {
        struct error why;
        if (spawn_find_data(d->bundled, places, &why) != ST_OK) {
            return error_set(err, ST_NOT_FOUND,
                             "%s: give a model with --model FILE.gguf",
                             why.text);
        }
        d->model = d->bundled;
    }
    if (d->n_tokens == 0)
        d->n_tokens = d->model == d->bundled ? TOKENS_BUNDLED : TOKENS;
    if (access(d->model, R_OK) != 0) {
        return error_set(err, ST_IO, "%s: %s", d->model, strerror(errno));
    }
    enum status st = spawn_find(d->coordinator, "potluck-coordinator", err);
    if (st == ST_OK) st = spawn_find(d->worker, "potluck-worker", err);
    return st;
}

int cmd_demo(int argc, char **argv)
{
    struct demo d = {.n_workers = 3, .prompt = PROMPT};
    const struct option table[] = {
        {"--model", 0, OPTION_STRING, &d.model, "FILE",
         "a GGUF file (default: the small model that comes with potluck)", 0,
         0},
        {"--workers", 0, OPTION_U32, &d.n_workers, "N",
         "processes that share it (default 3)", 1, WORKERS_MAX},
        {"--tokens", 'n', OPTION_U32, &d.n_tokens, "N",
         "tokens at most (default 400, or 64 with --model)", 1, MODEL_CTX_MAX},
    };
    struct error err;
    const char *word;
    size_t n;
    int over;
    if (!parse_command(table, COUNT_OF(table), "demo [OPTIONS] [PROMPT]", argc,
                       argv, &word, 1, &n, &over)) {
        return over;
    }
    if (n == 1) d.prompt = word;
    d.terminal = isatty(STDERR_FILENO) != 0;
    enum status st = check(&d, &err);
    if (st != ST_OK) return fail(&err);
    catch_interrupt();
    signal(SIGPIPE, SIG_IGN); /* not to end before the folder is gone */
    st = make_dir(&d, &err);
    enum exit_code code = exit_code_of(st);
    if (code == EXIT_CODE_OK) code = start_all(&d, &err);
    if (code == EXIT_CODE_OK) code = await_ready(&d, &err);
    if (code == EXIT_CODE_OK) code = answer(&d, &err);
    erase_line(&d);
    code = clean_up(&d, code, &err);
    return code == EXIT_CODE_OK ? EXIT_CODE_OK : fail_as(code, &err);
}

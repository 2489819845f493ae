/* commands.h - one function per potluck command, and what they share.
 *
 * Depends on: common, engine.  Thread: main. */
#ifndef CLIENT_COMMANDS_H
#define CLIENT_COMMANDS_H

#include "common/buf.h"
#include "common/options.h"
#include "engine/runner.h"

enum exit_code {
    EXIT_CODE_OK = 0,
    EXIT_CODE_FAILURE = 1,
    EXIT_CODE_USAGE = 2,
    EXIT_CODE_UNREACHABLE = 3, /* nobody answers there */
    EXIT_CODE_NOT_READY = 4,   /* the pool has no workers yet, or loads */
    EXIT_CODE_REFUSED = 5,     /* a key, a request that cannot be met */
    EXIT_CODE_BROKE_OFF = 6,   /* in mid-answer */
    EXIT_CODE_INTERRUPTED = 130,
};

/* argv[0] is the command's own name. Each returns an exit code. */
int cmd_local(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_detokenize(int argc, char **argv);
int cmd_template(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_quantize(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_join(int argc, char **argv);
int cmd_keys(int argc, char **argv);
int cmd_demo(int argc, char **argv);

/* Print "potluck: sentence" and return the exit code of its status. */
int fail(const struct error *err);
/* The same with an exit code that its status does not tell. */
int fail_as(enum exit_code code, const struct error *err);
/* The exit code of a status. */
enum exit_code exit_code_of(enum status st);

/* Options that every command with a model takes; call after the defaults. */
struct model_options {
    struct shard_options shard;
    const char *kv;       /* name, or NULL */
    const char *blas;     /* name, or NULL */
    const char *numerics; /* name, or NULL */
    struct error error;   /* of the defaults, for model_options_finish */
};
#define MODEL_OPTIONS(m)                                                       \
    {"--threads", 't',                                                         \
     OPTION_U32,  &(m)->shard.n_threads,                                       \
     "N",         "compute threads (default: one per physical core)",          \
     1,           POOL_THREADS_MAX},                                           \
        {"--affinity",                                                         \
         0,                                                                    \
         OPTION_FLAG,                                                          \
         &(m)->shard.affinity,                                                 \
         NULL,                                                                 \
         "keep each thread on a core of its own",                              \
         0,                                                                    \
         0},                                                                   \
        {"--ctx",    'c',                                                      \
         OPTION_U32, &(m)->shard.n_ctx,                                        \
         "N",        "context, in tokens (default: up to 4096)",               \
         1,          MODEL_CTX_MAX},                                           \
        {"--kv",   0,      OPTION_STRING,                                      \
         &(m)->kv, "TYPE", "key/value cache: f16 (default), f32 or q8_0",      \
         0,        0},                                                         \
        {"--batch",  0,                                                        \
         OPTION_U32, &(m)->shard.rows_max,                                     \
         "N",        "prompt tokens computed together (default 128)",          \
         1,          STEP_ROWS_MAX},                                           \
        {"--memory",  0,                                                       \
         OPTION_SIZE, &(m)->shard.memory_max,                                  \
         "SIZE",      "most to use, as in 6G (default: what is free)",         \
         0,           0},                                                      \
        {"--numerics",                                                         \
         0,                                                                    \
         OPTION_STRING,                                                        \
         &(m)->numerics,                                                       \
         "HOW",                                                                \
         "exact (default), or fast: other bits for floats",                    \
         0,                                                                    \
         0},                                                                   \
    {                                                                          \
        "--blas", 0, OPTION_STRING, &(m)->blas, "WHEN",                        \
            "OpenBLAS panels: measured (default), never, always", 0, 0         \
    }
/* What is wrong with the environment is told by model_options_finish, so that
 * --help works in any. */
void model_options_defaults(struct model_options *m);
NODISCARD enum status model_options_finish(struct model_options *m,
                                           struct error *err);

/* Parse; on --help print usage and the table to stdout. False: the command is
 * over, with *code. */
bool parse_command(const struct option *table, size_t n, const char *usage,
                   int argc, char **argv, const char **positional, size_t max,
                   size_t *n_positional, int *code);

/* All of standard input, or of a file; ST_TOO_LARGE over the buffer's max,
 * ST_INTERRUPTED after catch_interrupt. On a terminal a line on stderr says
 * what is waited for: `what` is to be typed. */
NODISCARD enum status read_all_stdin(struct buf *b, const char *what,
                                     struct error *err);
NODISCARD enum status read_all_file(const char *path, struct buf *b,
                                    struct error *err);

/* "1.25 GiB". text of at least 32 bytes, returned. */
const char *human_bytes(char text[32], uint64_t n);

/* A line on a terminal's stderr for work over two seconds: done, rate, time
 * left. As shard_options.progress and runner.progress; arg is a struct
 * progress. False once interrupted. */
struct progress {
    const char *label;
    const char *unit; /* "tokens"; NULL: bytes */
    uint64_t start_ns, shown_ns;
};
bool progress_show(void *arg, uint64_t done, uint64_t total);
/* Erases the line; the next call begins anew. */
void progress_end(struct progress *p);

/* The first SIGINT or SIGTERM sets a flag instead of ending the process; the
 * second one ends it. */
void catch_interrupt(void);
bool interrupted(void);
/* Sleeps; false once interrupted, at most 100 ms later. */
bool pause_ns(uint64_t ns);

/* A JSON object to stdout, one line. json_t is not named here so that only
 * commands that use it include jansson. */
struct json_t;
enum status print_json(struct json_t *object, struct error *err);
/* Which products of a type go through OpenBLAS on this machine: used, why
 * ("faster", "slower", "no panel", "unusable", "no memory"), and if measured
 * columns, kernel_macs_per_s, openblas_macs_per_s of one thread, from_columns
 * where used. Measures, once in a process: milliseconds a type. */
struct json_t *json_tuning(enum quant_type type, const struct shard_options *o);
/* The same for every type of a file's matrices, by its name. */
struct json_t *json_tunings(const struct gguf *g,
                            const struct shard_options *o);
/* Text as a JSON string: what is not UTF-8 becomes U+FFFD. */
struct json_t *json_text(const char *text, size_t n);

/* Appends it as text, on one line, all digits of its numbers. */
NODISCARD enum status json_write(struct buf *b, const struct json_t *json);

#endif

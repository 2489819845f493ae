/* cli.h - the potluck command in tests: a folder with models, one call a run,
 * one assertion for what it said.
 *
 * Depends on: run_command, gen_model, cmocka.  Thread: the test's. */
#ifndef TESTS_LIB_CLI_H
#define TESTS_LIB_CLI_H

#include <jansson.h>

#include "tests/lib/run_command.h"

/* A temporary folder, made anew; removed with all its files by cli_end. */
void cli_begin(void);
void cli_end(void);

/* DIR/name; valid for the next 15 calls. */
const char *cli_path(const char *name);
/* A generated model DIR/name from a preset and "key=value" settings, which
 * end with NULL. */
void cli_model(const char *name, const char *preset,
               const char *const *settings);
void cli_write(const char *name, const void *data, size_t n);
/* The whole file; the caller's to buf_fini. */
struct buf cli_read(const char *path);

/* Run potluck with arguments; `with` gives the rest of struct command (its
 * argv is not looked at). */
struct outcome cli_run(const struct command *with, const char *const *args);
/* The same with words in front, as in "ip netns exec NAME"; NULL: none. */
struct outcome cli_run_in(const char *const *prefix, const struct command *with,
                          const char *const *args);
#define CLI(...) CLI_WITH(((struct command){0}), __VA_ARGS__)
#define CLI_WITH(with, ...)                                                    \
    cli_run(&(with), (const char *const[]){__VA_ARGS__, NULL})

/* Exit code, and that standard error has `said` in it ("": it is empty).
 * Frees the outcome. */
void cli_expect(struct outcome o, int code, const char *said);
/* The same, and standard output is `out`. */
void cli_expect_out(struct outcome o, int code, const char *out);
/* Exit code `code`, one JSON object and a newline on standard output. Frees
 * the outcome; the object is the caller's to json_decref. */
json_t *cli_json(struct outcome o, int code);

/* Members by path, as in "plan.total_bytes"; a missing one fails the test. */
json_t *json_at(json_t *o, const char *path);
double number_at(json_t *o, const char *path);
const char *string_at(json_t *o, const char *path);

#endif

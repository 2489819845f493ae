/* status.h - what a function that can fail returns, and what it says.
 *
 * Depends on: libc.  Thread: any.
 *
 * A function returns an enum status; the sentence for a person goes into
 * struct error, the last argument, which may be NULL.  Outputs are written
 * only on ST_OK. */
#ifndef COMMON_STATUS_H
#define COMMON_STATUS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/compiler.h"

/*      code          text                                   */
#define STATUS_MAP(X)                                                          \
    X(OK, "ok")                                                                \
    X(INVALID, "not valid")                                                    \
    X(TRUNCATED, "ends too early")                                             \
    X(UNSUPPORTED, "not supported")                                            \
    X(TOO_LARGE, "over a limit")                                               \
    X(NOT_FOUND, "not found")                                                  \
    X(NO_MEMORY, "out of memory")                                              \
    X(FULL, "no room left")                                                    \
    X(IO, "input/output failed")                                               \
    X(NUMERIC, "not a finite number")                                          \
    X(USAGE, "wrong usage")                                                    \
    X(INTERRUPTED, "interrupted")

enum status {
#define X(code, text) ST_##code,
    STATUS_MAP(X)
#undef X
};

struct error {
    enum status status;
    char text[320]; /* one sentence, no newline, names the thing */
};

/* "NO_MEMORY" and the like; for logs and tests. */
const char *status_name(enum status st);
/* A few words for a person. */
const char *status_text(enum status st);

/* Fill *err (unless NULL) and return st, so that a failing function ends in
 * `return error_set(err, ST_INVALID, "...", ...)`. */
enum status error_set(struct error *err, enum status st, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* Put "context: " in front of the sentence that is already there, and return
 * its status. */
enum status error_prefix(struct error *err, enum status st, const char *fmt,
                         ...) PRINTF_LIKE(3, 4);

#endif

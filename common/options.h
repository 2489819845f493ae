/* options.h - the command line: one table per command, help made from it.
 *
 * Depends on: status.  Thread: main. */
#ifndef COMMON_OPTIONS_H
#define COMMON_OPTIONS_H

#include <stdint.h>
#include <stdio.h>

#include "common/status.h"

enum option_kind {
    OPTION_FLAG,   /* bool *            */
    OPTION_STRING, /* const char **     */
    OPTION_U32,    /* uint32_t *, lo..hi */
    OPTION_U64,    /* uint64_t *        */
    OPTION_F32,    /* float *           */
    OPTION_SIZE,   /* uint64_t *, bytes: 512M, 6G */
};

struct option {
    const char *name; /* "--threads" */
    char letter;      /* 't', or 0 */
    enum option_kind kind;
    void *target;
    const char *arg;  /* "N" in the help; NULL for flags */
    const char *help; /* one line; NULL: not listed */
    uint32_t lo, hi;  /* U32 */
};

/* Sets targets from argv[1..]; what is no option goes to positional (room for
 * max, order kept). "--" ends the options; "-" is positional; "--name=value"
 * and "-n5" are taken. ST_USAGE names the word that is wrong. */
NODISCARD enum status options_parse(const struct option *table, size_t n,
                                    int argc, char **argv,
                                    const char **positional, size_t max,
                                    size_t *n_positional, struct error *err);

/* The table as aligned lines. */
void options_help(const struct option *table, size_t n, FILE *to);

#endif

/* run_command.h - run a program as a script would: bytes in, bytes and exit
 * code out, with a deadline.
 *
 * Depends on: common.  Thread: one at a time (SIGPIPE is ignored meanwhile,
 * also in the program that is run). */
#ifndef TESTS_LIB_RUN_COMMAND_H
#define TESTS_LIB_RUN_COMMAND_H

#include "common/buf.h"

/* A program of this test's own variant: build/X/NAME for a test that lies in
 * build/X/tests/FOLDER/.  path of at least 4096 bytes, returned. */
const char *built_program(char path[4096], const char *name);

struct command {
    const char *const *argv; /* NULL-terminated; argv[0] as a path, or a name
                                to look for in PATH */
    const char *input;       /* standard input; NULL: /dev/null */
    size_t n_input;          /* 0: strlen(input) */
    const char *const *env;  /* "NAME=value", "NAME" to unset; may be NULL */
    const char *output;      /* standard output goes to this file */
    const char *growing;     /* a file that the program writes */
    size_t signal_after;     /* bytes of stdout, or of `growing`, until */
    int signal;              /* ... this is sent; 0: none */
    size_t hang_up_after;    /* close stdout's reading end; 0: never */
    unsigned timeout_s;      /* 0: 60; then SIGKILL */
};

struct outcome {
    struct buf out, err; /* data is never NULL */
    int code;            /* exit code, or minus the signal that ended it */
    bool timed_out;
    uint64_t peak_bytes; /* largest resident set (wait4's ru_maxrss) */
};

/* ST_IO: it could not be run at all (exec itself failing is code 127). */
NODISCARD enum status run_command(struct outcome *out, const struct command *c,
                                  struct error *err);
void outcome_fini(struct outcome *o);

#endif

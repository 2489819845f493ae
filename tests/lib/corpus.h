/* corpus.h - a test's inputs as seeds for a fuzzer.
 *
 * Depends on: libc.  Thread: any. */
#ifndef TESTS_LIB_CORPUS_H
#define TESTS_LIB_CORPUS_H

#include <stdbool.h>
#include <stddef.h>

/* Write n bytes to the directory that POTLUCK_WRITE_CORPUS names, under
 * `name` with all but letters, digits and '-' turned to '_'.  Does nothing if
 * the variable is unset.  False if the file cannot be written. */
bool corpus_seed(const char *name, const void *data, size_t n);

#endif

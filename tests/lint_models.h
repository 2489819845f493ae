/* lint_models.h - what clang's analyzer cannot see in other files.
 *
 * Included by `make lint` alone, in front of every file.  error_set and
 * error_prefix return the status they are given, so a path behind
 * `if (st != ST_OK) return` is impossible after them; the allocator behaves
 * like libc's, so leaks and double frees show. */
#ifndef TESTS_LINT_MODELS_H
#define TESTS_LINT_MODELS_H

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/status.h"

#define error_set(err, st, ...)                                                \
    ((void)(error_set)((err), (st), __VA_ARGS__), (st))
#define error_prefix(err, st, ...)                                             \
    ((void)(error_prefix)((err), (st), __VA_ARGS__), (st))
#define mem_alloc(n)                          malloc(n)
#define mem_zalloc(n)                         calloc(1, (n))
#define mem_zalloc_array(n_items, item_bytes) calloc((n_items), (item_bytes))
#define mem_realloc(p, n)                     realloc((p), (n))
#define mem_strndup(s, n)                     strndup((s), (n))
#define mem_free(p)                           free(p)
#endif

/* testdata.h - outside test data, found through POTLUCK_TESTDATA.
 *
 * Depends on: cmocka.
 *
 * The data is not part of the project. Without it a test is skipped and says
 * so; with CI=true it fails, so that a build farm cannot lose it unseen. */
#ifndef TESTS_LIB_TESTDATA_H
#define TESTS_LIB_TESTDATA_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TESTDATA_PATH_MAX 512

/* The folder; skips or fails the running test if there is none. */
static inline const char *testdata_require(void)
{
    const char *dir = getenv("POTLUCK_TESTDATA");
    if (dir && *dir) return dir;
    const char *ci = getenv("CI");
    if (ci && strcmp(ci, "true") == 0) {
        fail_msg("%s", "POTLUCK_TESTDATA is not set");
    }
    print_message("SKIPPED: POTLUCK_TESTDATA is not set\n");
    skip();
    return NULL;
}

/* DIR/folder/name+suffix into path[TESTDATA_PATH_MAX]. */
static inline void testdata_path(char *path, const char *folder,
                                 const char *name, const char *suffix)
{
    const int n = snprintf(path, TESTDATA_PATH_MAX, "%s/%s/%s%s",
                           testdata_require(), folder, name, suffix);
    assert_in_range(n, 1, TESTDATA_PATH_MAX - 1);
}

#endif

/* temp.h - a directory for a test's files.
 *
 * Depends on: libc.  Thread: any. */
#ifndef TESTS_LIB_TEMP_H
#define TESTS_LIB_TEMP_H

#include <stdbool.h>

#define TEMP_PATH_BYTES 256

/* A new directory NAME_?????? in TMPDIR (/tmp if unset); its path in dir.
 * False if it cannot be made. */
bool temp_dir_create(char dir[TEMP_PATH_BYTES], const char *name);
/* Removes the files in it and itself; false if something stays. */
bool temp_dir_remove(const char *dir);

#endif

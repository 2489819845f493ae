/* temp.c - see the header. */
#include "tests/lib/temp.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool temp_dir_create(char dir[TEMP_PATH_BYTES], const char *name)
{
    const char *parent = getenv("TMPDIR");
    const int n = snprintf(dir, TEMP_PATH_BYTES - 6, "%s/%s_",
                           parent ? parent : "/tmp", name);
    if (n < 0 || n >= TEMP_PATH_BYTES - 6) return false;
    memset(dir + n, 'X', 6); /* what mkdtemp replaces */
    dir[n + 6] = '\0';
    return mkdtemp(dir) != NULL;
}

bool temp_dir_remove(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d) return false;
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        (void)unlinkat(dirfd(d), e->d_name, 0); /* fails for . and .. */
    }
    closedir(d);
    return rmdir(dir) == 0;
}

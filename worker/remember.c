#include "worker/remember.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PATH_BYTES 4096

static void path_in(char path[PATH_BYTES], const char *state_dir)
{
    snprintf(path, PATH_BYTES, "%s/coordinator", state_dir);
}

enum status remember_pool(const struct join *j, const char *state_dir,
                          struct error *err)
{
    char path[PATH_BYTES], text[JOIN_TEXT_BYTES];
    struct join known = *j;
    known.token[0] = '\0';
    join_format(text, &known);
    path_in(path, state_dir);
    FILE *f = fopen(path, "w");
    bool ok = f && fprintf(f, "%s\n", text) > 0;
    if (f && fclose(f) != 0) ok = false;
    if (ok) return ST_OK;
    return error_set(err, ST_IO, "%.200s: %s", path, strerror(errno));
}

enum status remember_read(struct join *out, const char *state_dir,
                          struct error *err)
{
    char path[PATH_BYTES], text[JOIN_TEXT_BYTES + 1];
    path_in(path, state_dir);
    FILE *f = fopen(path, "r");
    if (!f) {
        return error_set(err, errno == ENOENT ? ST_NOT_FOUND : ST_IO,
                         "%.200s: %s", path, strerror(errno));
    }
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    const enum status st = join_parse(out, text, err);
    return st == ST_OK ? st : error_prefix(err, st, "%.100s", path);
}

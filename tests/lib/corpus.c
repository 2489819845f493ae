/* corpus.c - see the header. */
#include "tests/lib/corpus.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

bool corpus_seed(const char *name, const void *data, size_t n)
{
    const char *dir = getenv("POTLUCK_WRITE_CORPUS");
    if (!dir) return true;
    char path[512];
    int at = snprintf(path, sizeof path, "%s/", dir);
    if (at < 0) return false;
    for (; *name != '\0' && (size_t)at + 1 < sizeof path; name++) {
        const unsigned char c = (unsigned char)*name;
        path[at++] = isalnum(c) || c == '-' ? (char)c : '_';
    }
    if ((size_t)at >= sizeof path) return false;
    path[at] = '\0';
    FILE *f = fopen(path, "wb");
    if (!f) return false;
    const bool whole = n == 0 || fwrite(data, 1, n, f) == n;
    return fclose(f) == 0 && whole;
}

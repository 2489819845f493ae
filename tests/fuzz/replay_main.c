/* replay_main.c - a main for fuzz targets where there is no fuzzer: runs the
 * target once for each file given, and each regular file of each directory. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <stdbool.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* False if it cannot be read. */
static bool run_file(const char *path, size_t n)
{
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    /* Of exactly n bytes, so that ASan sees a read beyond the end. */
    uint8_t *data = malloc(n == 0 ? 1 : n);
    const bool whole = data && fread(data, 1, n, f) == n;
    fclose(f);
    if (whole) (void)LLVMFuzzerTestOneInput(data, n);
    free(data);
    return whole;
}

/* Files run, or -1. */
static long run_path(const char *dir)
{
    struct stat is;
    if (stat(dir, &is) == 0 && S_ISREG(is.st_mode)) {
        return run_file(dir, (size_t)is.st_size) ? 1 : -1;
    }

    DIR *d = opendir(dir);
    if (!d) return -1;
    long n_run = 0;
    for (const struct dirent *e; n_run >= 0 && (e = readdir(d)) != NULL;) {
        char path[4096];
        struct stat s;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (stat(path, &s) != 0 || !S_ISREG(s.st_mode)) continue;
        if (run_file(path, (size_t)s.st_size)) {
            n_run++;
        } else {
            fprintf(stderr, "replay: cannot read %s\n", path);
            n_run = -1;
        }
    }
    closedir(d);
    return n_run;
}

int main(int argc, char **argv)
{
    long total = 0;
    for (int i = 1; i < argc; i++) {
        const long n = run_path(argv[i]);
        if (n < 0) {
            fprintf(stderr, "replay: cannot run %s\n", argv[i]);
            return 1;
        }
        total += n;
    }
    printf("replay: %ld inputs\n", total);
    return total > 0 ? 0 : 1;
}

/* bench_load.c - how fast a model is read and packed, beside a plain parallel
 * read of the same file.
 *
 *   bench_load MODEL.gguf [THREADS [RUNS]]
 *
 * cold: the file is dropped from the page cache before each run (posix_fadvise;
 * what nobody else maps goes). warm: it is all there. Both print medians; the
 * plain reads go over the same bytes in chunks of 1 MiB: `read` with each
 * thread into one buffer, over and over, `keep` into memory for the whole file,
 * which the system has to clear first, as it has to for a model. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/mem.h"
#include "engine/runner.h"

#define RUNS_MAX 25
#define CHUNK    ((size_t)1 << 20)

struct reading {
    int fd;
    uint64_t n_bytes;
    char *buffers; /* [threads][CHUNK] */
    char *whole;   /* NULL: into the buffers */
    bool failed;
};

static void read_chunk(void *arg, uint32_t item, uint32_t thread)
{
    struct reading *r = arg;
    const uint64_t from = (uint64_t)item * CHUNK;
    uint64_t left = r->n_bytes - from;
    if (left > CHUNK) left = CHUNK;
    char *to = r->whole ? r->whole + from : r->buffers + thread * CHUNK;
    const ssize_t n = pread(r->fd, to, (size_t)left, (off_t)from);
    if (n < 0 || (uint64_t)n != left) r->failed = true;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

static void drop(int fd)
{
    if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) {
        fprintf(stderr, "bench_load: the cache cannot be dropped here\n");
    }
}

/* Seconds. */
static double plain(struct reading *r, struct pool *pool, bool keep)
{
    const uint64_t start = clock_now_ns();
    if (keep) r->whole = mem_alloc((size_t)r->n_bytes);
    r->failed |= keep && !r->whole;
    pool_run(pool, read_chunk, r, (uint32_t)((r->n_bytes + CHUNK - 1) / CHUNK));
    const double s = 1e-9 * (double)(clock_now_ns() - start);
    mem_free(r->whole);
    r->whole = NULL;
    return s;
}

static double load(const char *path, struct shard_options *o, uint64_t *bytes)
{
    struct runner r;
    struct error err;
    const uint64_t start = clock_now_ns();
    if (runner_open(&r, path, o, false, &err) != ST_OK) {
        fprintf(stderr, "bench_load: %s\n", err.text);
        exit(1);
    }
    const double s = 1e-9 * (double)(clock_now_ns() - start);
    *bytes = r.plan.weights;
    runner_close(&r);
    return s;
}

static void compare(const char *path, struct reading *r, struct pool *pool,
                    struct shard_options *o, bool cold, size_t runs)
{
    double read_s[RUNS_MAX], keep_s[RUNS_MAX], load_s[RUNS_MAX];
    uint64_t bytes = 0;
    for (size_t i = 0; i < runs; i++) {
        if (cold) drop(r->fd);
        read_s[i] = plain(r, pool, false);
        if (cold) drop(r->fd);
        keep_s[i] = plain(r, pool, true);
        if (cold) drop(r->fd);
        load_s[i] = load(path, o, &bytes);
    }
    const double read = 1e-6 * (double)r->n_bytes / median(read_s, runs);
    const double keep = 1e-6 * (double)r->n_bytes / median(keep_s, runs);
    const double loaded = 1e-6 * (double)bytes / median(load_s, runs);
    printf("%-4s  MB/s: read %6.0f, keep %6.0f, load %6.0f: %3.0f %% of read, "
           "%3.0f %% of keep; %.3f s\n",
           cold ? "cold" : "warm", read, keep, loaded, 100 * loaded / read,
           100 * loaded / keep, median(load_s, runs));
}

int main(int argc, char **argv)
{
    struct shard_options o;
    struct error err;
    if (argc < 2 || argc > 4 || runner_defaults(&o, &err) != ST_OK) {
        fprintf(stderr, "bench_load MODEL.gguf [THREADS [RUNS]]\n");
        return 2;
    }
    if (argc > 2) o.n_threads = (uint32_t)strtoul(argv[2], NULL, 10);
    size_t runs = argc > 3 ? strtoul(argv[3], NULL, 10) : 5;
    if (runs < 1 || runs > RUNS_MAX) runs = RUNS_MAX;
    o.n_ctx = 32;

    struct reading r = {.fd = open(argv[1], O_RDONLY | O_CLOEXEC)};
    const off_t end = r.fd < 0 ? -1 : lseek(r.fd, 0, SEEK_END);
    struct pool *pool = NULL;
    if (end <= 0 || pool_create(&pool, o.n_threads, &err) != ST_OK ||
        !(r.buffers = mem_zalloc_array(o.n_threads, CHUNK))) {
        fprintf(stderr, "bench_load: %s cannot be read here\n", argv[1]);
        return 1;
    }
    r.n_bytes = (uint64_t)end;
    printf("%s, %s, %u threads, %.0f MB, medians of %zu\n", argv[1],
           isa_name(o.isa), o.n_threads, 1e-6 * (double)end, runs);
    compare(argv[1], &r, pool, &o, false, runs);
    compare(argv[1], &r, pool, &o, true, runs);
    pool_free(pool);
    mem_free(r.buffers);
    close(r.fd);
    return r.failed;
}

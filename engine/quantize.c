/* quantize.c - the writing of a file in other types.
 *
 * Blocks never straddle rows, so a tensor is one run of weights, which goes
 * through in pieces: a batch of pieces is read, converted and put in its place
 * by the pool's threads, then written by the caller.  What a piece becomes
 * depends on nothing else, so neither do the file's bytes. */
#include "engine/quantize.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/part_file.h"
#include "engine/quant_search.h"

#define PIECE             65536u /* weights: whole blocks of every type */
#define PIECES_PER_THREAD 4u
#define PIECE_BYTES       (PIECE * (size_t)4) /* of any type, at most */
#define PATH_BYTES        4096

struct writer {
    const struct gguf *g;
    const struct quantize_options *o;
    struct pool *pool;
    uint32_t *types;
    char *raw;      /* [threads][PIECE_BYTES] */
    float *weights; /* [threads][PIECE] */
    char *batch;    /* [threads * PIECES_PER_THREAD][PIECE_BYTES] */
    int fd;
    const char *out;
    char temp[PATH_BYTES]; /* "": not made, or no longer ours */
    uint64_t done, total;  /* bytes read */

    /* of the batch on its way */
    const struct gguf_tensor *tensor;
    enum quant_type from, to;
    uint64_t first, n_weights; /* weight of piece 0; of the tensor */
    pthread_mutex_t lock;
    enum status status; /* the first failure */
    struct error error;
};

static uint64_t bytes_of(enum quant_type type, uint64_t n)
{
    const struct quant_info *info = quant_info(type);
    return n / info->block * info->block_bytes;
}

/* -------------------------------------------------------------- pieces */

/* Types with f16 inside have its limits. */
static enum status check_weights(const struct writer *w, uint64_t first,
                                 const float *x, uint64_t n, struct error *err)
{
    const bool wide = w->to == QUANT_F32 || w->to == QUANT_BF16;
    const float limit = wide ? FLT_MAX : QUANT_SEARCH_MAX;
    for (uint64_t i = 0; i < n; i++) {
        if (fabsf(x[i]) <= limit) continue; /* a NaN is not */
        const uint64_t k = w->tensor->ne[0];
        const char *why = isfinite(x[i])
                              ? "is over 65504, the most that this type stores"
                              : "is not a finite number: a damaged file";
        return error_set(err, ST_NUMERIC,
                         "tensor %s: weight %llu of row %llu %s",
                         w->tensor->name, (unsigned long long)((first + i) % k),
                         (unsigned long long)((first + i) / k), why);
    }
    return ST_OK;
}

static enum status convert(const struct writer *w, uint32_t piece,
                           uint32_t thread, struct error *err)
{
    const uint64_t first = w->first + (uint64_t)piece * PIECE;
    const uint64_t left = w->n_weights - first, n = left < PIECE ? left : PIECE;
    char *out = w->batch + piece * (size_t)bytes_of(w->to, PIECE);
    char *raw = w->from == w->to ? out : w->raw + (size_t)thread * PIECE_BYTES;
    enum status st = gguf_read(w->g, w->tensor, bytes_of(w->from, first), raw,
                               (size_t)bytes_of(w->from, n), err);
    if (st != ST_OK || w->from == w->to) return st;
    float *x = w->weights + (size_t)thread * PIECE;
    quant_dequantize_row(w->from, raw, x, n);
    st = check_weights(w, first, x, n, err);
    if (st == ST_OK) quant_search_row(w->to, x, out, n);
    return st;
}

static void convert_item(void *arg, uint32_t item, uint32_t thread)
{
    struct writer *w = arg;
    struct error err;
    const enum status st = convert(w, item, thread, &err);
    if (st == ST_OK) return;
    pthread_mutex_lock(&w->lock);
    if (w->status == ST_OK) {
        w->status = st;
        w->error = err;
    }
    pthread_mutex_unlock(&w->lock);
}

/* ------------------------------------------------------------- writing */

static enum status fail_errno(const struct writer *w, int number,
                              struct error *err)
{
    const bool full = number == ENOSPC || number == EDQUOT || number == EFBIG;
    return error_set(err, full ? ST_FULL : ST_IO,
                     "%.180s cannot be written: %s", w->out, strerror(number));
}

static enum status write_all(const struct writer *w, const void *data, size_t n,
                             struct error *err)
{
    const char *p = data;
    while (n > 0) {
        const ssize_t got = write(w->fd, p, n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(w, errno, err);
        p += got;
        n -= (size_t)got;
    }
    return ST_OK;
}

static enum status write_padding(const struct writer *w, uint64_t n_bytes,
                                 struct error *err)
{
    static const char zeros[4096];
    const uint64_t a = gguf_alignment(w->g);
    uint64_t n = (a - n_bytes % a) % a;
    enum status st = ST_OK;
    while (st == ST_OK && n > 0) {
        const size_t now = n < sizeof zeros ? (size_t)n : sizeof zeros;
        st = write_all(w, zeros, now, err);
        n -= now;
    }
    return st;
}

static enum status write_tensor(struct writer *w, uint32_t i, struct error *err)
{
    w->tensor = gguf_tensor(w->g, i);
    w->from = (enum quant_type)w->tensor->type;
    w->to = (enum quant_type)w->types[i];
    const struct quant_info *info = quant_info(w->from);
    w->n_weights = w->tensor->n_bytes / info->block_bytes * info->block;
    const uint64_t most = pool_n_threads(w->pool) * PIECES_PER_THREAD;
    for (w->first = 0; w->first < w->n_weights; w->first += most * PIECE) {
        const uint64_t left = w->n_weights - w->first;
        const uint64_t pieces = (left + PIECE - 1) / PIECE;
        const uint64_t n = left < most * PIECE ? left : most * PIECE;
        if (w->o->progress &&
            !w->o->progress(w->o->progress_arg, w->done, w->total)) {
            return error_set(err, ST_INTERRUPTED, "interrupted");
        }
        pool_run(w->pool, convert_item, w,
                 (uint32_t)(pieces < most ? pieces : most));
        if (w->status != ST_OK) {
            if (err) *err = w->error;
            return w->status;
        }
        const enum status st =
            write_all(w, w->batch, (size_t)bytes_of(w->to, n), err);
        if (st != ST_OK) return st;
        w->done += bytes_of(w->from, n);
    }
    const enum status st = gguf_check_unchanged(w->g, w->tensor, err);
    return st == ST_OK ? write_padding(w, bytes_of(w->to, w->n_weights), err)
                       : st;
}

/* ------------------------------------------------------------ the file */

static enum status check_place(const struct writer *w, struct error *err)
{
    struct stat s;
    if (stat(w->out, &s) != 0) {
        return errno == ENOENT ? ST_OK : fail_errno(w, errno, err);
    }
    if (!S_ISREG(s.st_mode)) {
        return error_set(err, ST_USAGE, "%.180s is there and is no file",
                         w->out);
    }
    if (w->o->force) return ST_OK;
    return error_set(err, ST_USAGE,
                     "%.180s is there already; --force replaces it", w->out);
}

/* The folder of out, for what is asked of a file system. */
static void folder_of(const char *out, char path[PATH_BYTES])
{
    const char *slash = strrchr(out, '/');
    const size_t n = slash ? (size_t)(slash - out) + 1 : 0;
    if (n == 0 || n >= PATH_BYTES) {
        memcpy(path, ".", 2);
        return;
    }
    memcpy(path, out, n);
    path[n] = '\0';
}

static enum status check_room(const struct writer *w, uint64_t n_bytes,
                              struct error *err)
{
    char folder[PATH_BYTES];
    struct statvfs v;
    folder_of(w->out, folder);
    if (statvfs(folder, &v) != 0) return fail_errno(w, errno, err);
    const uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    if (n_bytes <= room) return ST_OK;
    return error_set(err, ST_FULL,
                     "%.180s: %.1f MiB are to be written, but its disk has "
                     "room for %.1f MiB",
                     w->out, (double)n_bytes / 0x1p20, (double)room / 0x1p20);
}

/* Whole, on the disk, readable, and only then under its name. */
static enum status finish(struct writer *w, struct error *err)
{
    if (fsync(w->fd) != 0) return fail_errno(w, errno, err);
    struct gguf *again = NULL;
    enum status st = gguf_open(&again, w->temp, err);
    if (st != ST_OK) return error_prefix(err, st, "what was written");
    gguf_close(again);
    st = check_place(w, err); /* it may have come meanwhile */
    if (st != ST_OK) return st;
    if (rename(w->temp, w->out) != 0) return fail_errno(w, errno, err);
    w->temp[0] = '\0'; /* it was locked until now (part_file.h) */
    return ST_OK;
}

static enum status make_buffers(struct writer *w, struct error *err)
{
    enum status st = pool_create(&w->pool, w->o->n_threads, err);
    if (st != ST_OK) return st;
    const size_t n = pool_n_threads(w->pool);
    w->raw = mem_zalloc(n * PIECE_BYTES);
    w->weights = mem_zalloc_array(n * PIECE, sizeof *w->weights);
    w->batch = mem_zalloc(n * PIECES_PER_THREAD * PIECE_BYTES);
    if (w->raw && w->weights && w->batch) return ST_OK;
    return error_set(err, ST_NO_MEMORY, "buffers for %zu threads", n);
}

static enum status write_file(struct writer *w, const struct buf *header,
                              struct error *err)
{
    enum status st = make_buffers(w, err);
    if (st == ST_OK) {
        st = part_file_create(w->out, w->temp, sizeof w->temp, &w->fd, err);
        if (st != ST_OK) w->temp[0] = '\0';
    }
    if (st == ST_OK) st = write_all(w, header->data, header->len, err);
    for (uint32_t i = 0; st == ST_OK && i < gguf_n_tensors(w->g); i++) {
        st = write_tensor(w, i, err);
    }
    if (st == ST_OK) st = finish(w, err);
    if (w->temp[0]) (void)unlink(w->temp);
    if (w->fd >= 0) (void)close(w->fd);
    mem_free(w->raw);
    mem_free(w->weights);
    mem_free(w->batch);
    pool_free(w->pool);
    return st;
}

/* Types, header, the bytes that will be written. */
static enum status prepare(struct writer *w, struct quantize_result *r,
                           struct buf *header, struct error *err)
{
    const uint32_t n = gguf_n_tensors(w->g);
    w->types = mem_zalloc_array(n, sizeof *w->types);
    if (!w->types) {
        return error_set(err, ST_NO_MEMORY, "types of %u tensors", n);
    }
    enum status st = quantize_types(w->g, w->o, w->types, &r->n_fallback, err);
    const struct gguf_retype to = {.types = w->types,
                                   .file_type = w->o->mix->file_type};
    if (st == ST_OK) st = gguf_retype_header(w->g, &to, header, err);
    if (st != ST_OK) return st;
    r->n_tensors = n;
    r->bytes_in = gguf_file_bytes(w->g);
    r->bytes_out = header->len;
    const uint64_t a = gguf_alignment(w->g);
    for (uint32_t i = 0; i < n; i++) {
        const struct gguf_tensor *t = gguf_tensor(w->g, i);
        const uint64_t bytes = gguf_tensor_bytes(t, w->types[i]);
        r->bytes_out += bytes + (a - bytes % a) % a;
        r->n_converted += w->types[i] != t->type;
        w->total += t->n_bytes;
    }
    return check_room(w, r->bytes_out, err);
}

enum status quantize_file(const char *in, const char *out,
                          const struct quantize_options *o,
                          struct quantize_result *result, struct error *err)
{
    struct gguf *g = NULL;
    struct writer w = {.o = o, .fd = -1, .out = out};
    struct quantize_result r = {0};
    struct buf header;
    enum status st = check_place(&w, err);
    if (st != ST_OK) return st;
    st = gguf_open(&g, in, err);
    if (st != ST_OK) return st;
    part_file_sweep(out, o->swept, o->progress_arg);
    w.g = g;
    buf_init(&header, GGUF_HEADER_MAX);
    pthread_mutex_init(&w.lock, NULL);
    st = prepare(&w, &r, &header, err);
    if (st == ST_OK) st = write_file(&w, &header, err);
    pthread_mutex_destroy(&w.lock);
    buf_fini(&header);
    mem_free(w.types);
    gguf_close(g);
    if (st == ST_OK) *result = r;
    return st;
}

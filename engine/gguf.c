/* gguf.c - opening files and sets of files, and reading tensors from them.
 *
 * A set NAME-00001-of-0000N.gguf (llama.cpp's gguf-split): each file is a
 * GGUF file of its own with keys split.no (from 0), split.count and
 * split.tensors.count (of the whole set); the first has the model's metadata,
 * the tensors are spread over all.  The keys decide what a file is; its name
 * only serves to find the others. */
#include "engine/gguf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/gguf_internal.h"

#define NAME_SHOWN_MAX 96 /* of a path, in messages */

/* What a path is called in messages: without control characters, and if it
 * is long, its end. */
static char *shown_name(const char *path)
{
    const size_t n = strlen(path);
    const bool cut = n > NAME_SHOWN_MAX;
    char text[NAME_SHOWN_MAX + 4];
    const int len = snprintf(text, sizeof text, "%s%s", cut ? "..." : "",
                             cut ? path + n - NAME_SHOWN_MAX : path);
    for (int i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f) text[i] = '?';
    }
    return mem_strndup(text, (size_t)len);
}

static enum status fail_errno(struct error *err, enum status st,
                              const char *name, const char *doing)
{
    char text[96];
    /* GNU's form, as _GNU_SOURCE is defined: it may not use text at all */
    const char *reason = strerror_r(errno, text, sizeof text);
    return error_set(err, st, "%s: %s: %s", name, doing, reason);
}

/* A struct gguf for one file called path, still to be parsed. */
static enum status create_part(struct gguf **out, const char *path,
                               struct error *err)
{
    struct gguf *g = mem_zalloc(sizeof *g);
    if (g) g->files = mem_zalloc(sizeof *g->files);
    if (g && g->files) {
        g->files[0].fd = -1;
        g->n_files = 1;
        g->files[0].name = shown_name(path);
    }
    if (!g || !g->files || !g->files[0].name) {
        gguf_close(g);
        return error_set(err, ST_NO_MEMORY, "no memory left to open a model");
    }
    *out = g;
    return ST_OK;
}

static int64_t mtime_ns(const struct stat *s)
{
    return (int64_t)s->st_mtim.tv_sec * 1000000000 + s->st_mtim.tv_nsec;
}

static enum status open_file(struct gguf_file *f, const char *path,
                             struct error *err)
{
    struct stat s;
    /* NONBLOCK: opening a FIFO must not wait for a writer. */
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd < 0) {
        const bool absent = errno == ENOENT || errno == ENOTDIR;
        return fail_errno(err, absent ? ST_NOT_FOUND : ST_IO, f->name,
                          "cannot be opened");
    }
    if (fstat(f->fd, &s) != 0) {
        return fail_errno(err, ST_IO, f->name, "cannot be examined");
    }
    if (!S_ISREG(s.st_mode)) {
        return error_set(err, ST_INVALID, "%s: not a regular file", f->name);
    }
    f->n_bytes = (uint64_t)s.st_size;
    f->mtime_ns = mtime_ns(&s);
    return ST_OK;
}

/* One file, whether of a set or not. */
static enum status open_part(struct gguf **out, const char *path,
                             struct error *err)
{
    struct gguf *g = NULL;
    enum status st = create_part(&g, path, err);
    if (st != ST_OK) return st;
    st = open_file(&g->files[0], path, err);
    if (st == ST_OK) st = gguf_parse(g, err);
    if (st != ST_OK) {
        gguf_close(g);
        return st;
    }
    *out = g;
    return ST_OK;
}

/* ------------------------------------------------------------- sets */

/* A key that may be absent. */
static enum status optional_u32(const struct gguf *g, const char *key,
                                uint32_t absent, uint32_t *out,
                                struct error *err)
{
    if (!gguf_find_key(g, key)) {
        *out = absent;
        return ST_OK;
    }
    return gguf_get_u32(g, key, out, err);
}

struct split {
    uint32_t no, count;
    uint32_t n_tensors; /* of the whole set; UINT32_MAX: not said */
};

static enum status split_of(const struct gguf *g, struct split *s,
                            struct error *err)
{
    enum status st = optional_u32(g, "split.no", 0, &s->no, err);
    if (st == ST_OK) st = optional_u32(g, "split.count", 1, &s->count, err);
    if (st == ST_OK) {
        st = optional_u32(g, "split.tensors.count", UINT32_MAX, &s->n_tensors,
                          err);
    }
    if (st != ST_OK) return st;
    if (s->count == 0) s->count = 1; /* what gguf-split's merge leaves */
    if (s->count > GGUF_SPLITS_MAX) {
        return error_set(err, ST_TOO_LARGE,
                         "%s: a set of %u files, the limit is %d",
                         g->files[0].name, s->count, GGUF_SPLITS_MAX);
    }
    if (s->no >= s->count) {
        return error_set(err, ST_INVALID,
                         "%s: split.no %u is not below split.count %u",
                         g->files[0].name, s->no, s->count);
    }
    return ST_OK;
}

#define SUFFIX_BYTES 32

static void split_suffix(char text[SUFFIX_BYTES], uint32_t no, uint32_t count)
{
    snprintf(text, SUFFIX_BYTES, "-%05u-of-%05u.gguf", no + 1, count);
}

/* The path of file `no` of the set that path is file s->no of; the caller's.
 * NULL in *out: path is not named so. */
static enum status sibling_path(const char *path, const struct split *s,
                                uint32_t no, char **out, struct error *err)
{
    char mine[SUFFIX_BYTES], other[SUFFIX_BYTES];
    split_suffix(mine, s->no, s->count);
    split_suffix(other, no, s->count);
    const size_t n = strlen(path), tail = strlen(mine);
    *out = NULL;
    if (n < tail || strcmp(path + n - tail, mine) != 0) return ST_OK;
    char *p = mem_strndup(path, n);
    if (!p) {
        return error_set(err, ST_NO_MEMORY, "no memory left to open a model");
    }
    memcpy(p + n - tail, other, tail); /* same length: both below 100000 */
    *out = p;
    return ST_OK;
}

/* *to takes over the tensors and the file of part, which is freed. */
static enum status append_part(struct gguf *to, struct gguf *part,
                               struct error *err)
{
    const uint32_t n_old = to->n_tensors, n_new = part->n_tensors;
    struct gguf_tensor *all = NULL;
    enum status st = ST_OK;
    if (n_new > GGUF_TENSORS_MAX - n_old) {
        st = error_set(err, ST_TOO_LARGE,
                       "%s: with it the set has %u tensors, the limit is %d",
                       part->files[0].name, n_old + n_new, GGUF_TENSORS_MAX);
        goto done;
    }
    all = mem_realloc(to->tensors, (n_old + n_new) * sizeof *all);
    if (!all) {
        st = error_set(err, ST_NO_MEMORY, "%s: no memory left for %u tensors",
                       part->files[0].name, n_old + n_new);
        goto done;
    }
    to->tensors = all;
    for (uint32_t i = 0; i < n_new; i++) {
        all[n_old + i] = part->tensors[i];
        all[n_old + i].split = to->n_files;
    }
    to->n_tensors = n_old + n_new;
    to->files[to->n_files++] = part->files[0]; /* room: open_siblings */
    part->n_files = 0;
done:
    gguf_close(part);
    return st;
}

static enum status open_sibling(struct gguf *g, const char *path,
                                const struct split *s, uint32_t no,
                                struct error *err)
{
    char *other = NULL;
    struct gguf *part = NULL;
    struct split its = {0};
    enum status st = sibling_path(path, s, no, &other, err);
    assert(st != ST_OK || other); /* check_first saw to the name */
    if (st == ST_OK) st = open_part(&part, other, err);
    mem_free(other);
    if (st == ST_NOT_FOUND) {
        return error_prefix(err, st, "file %u of a set of %u is missing",
                            no + 1, s->count);
    }
    if (st != ST_OK) return st;
    st = split_of(part, &its, err);
    if (st == ST_OK && (its.no != no || its.count != s->count)) {
        st = error_set(err, ST_INVALID,
                       "%s: its keys say file %u of %u, its name file %u of "
                       "%u",
                       part->files[0].name, its.no + 1, its.count, no + 1,
                       s->count);
    }
    if (st == ST_OK && its.n_tensors != UINT32_MAX &&
        s->n_tensors != UINT32_MAX && its.n_tensors != s->n_tensors) {
        st = error_set(err, ST_INVALID,
                       "%s: split.tensors.count is %u, but in the first file "
                       "of the set %u",
                       part->files[0].name, its.n_tensors, s->n_tensors);
    }
    if (st != ST_OK) {
        gguf_close(part);
        return st;
    }
    return append_part(g, part, err);
}

/* Is g a file to start from?  Names the one that is. */
static enum status check_first(const struct gguf *g, const char *path,
                               const struct split *s, struct error *err)
{
    char *first = NULL;
    char suffix[SUFFIX_BYTES];
    split_suffix(suffix, s->no, s->count);
    enum status st = sibling_path(path, s, 0, &first, err);
    if (st == ST_OK && !first) {
        st = error_set(err, ST_INVALID,
                       "%s: file %u of a set of %u, but its name does not end "
                       "in %s, so the others cannot be found",
                       g->files[0].name, s->no + 1, s->count, suffix);
    } else if (st == ST_OK && s->no != 0) {
        const char *base = strrchr(first, '/');
        st = error_set(
            err, ST_INVALID, "%s: file %u of a set of %u; open the first, %s",
            g->files[0].name, s->no + 1, s->count, base ? base + 1 : first);
    }
    mem_free(first);
    return st;
}

static enum status open_siblings(struct gguf *g, const char *path,
                                 struct error *err)
{
    struct split s = {0};
    enum status st = split_of(g, &s, err);
    if (st == ST_OK && s.count > 1) st = check_first(g, path, &s, err);
    if (st != ST_OK) return st;
    if (s.count > 1) {
        const size_t n_bytes = s.count * sizeof *g->files;
        struct gguf_file *files = mem_realloc(g->files, n_bytes);
        if (!files) {
            return error_set(err, ST_NO_MEMORY,
                             "%s: no memory left for a set of %u files",
                             g->files[0].name, s.count);
        }
        g->files = files;
    }
    for (uint32_t i = 1; i < s.count; i++) {
        st = open_sibling(g, path, &s, i, err);
        if (st != ST_OK) return st;
    }
    if (s.n_tensors != UINT32_MAX && s.n_tensors != g->n_tensors) {
        return error_set(err, ST_INVALID,
                         "%s: split.tensors.count is %u, but its %u file%s "
                         "%u tensors",
                         g->files[0].name, s.n_tensors, s.count,
                         s.count == 1 ? " has" : "s have", g->n_tensors);
    }
    return ST_OK;
}

/* ------------------------------------------------------------ whole */

enum status gguf_open(struct gguf **out, const char *path, struct error *err)
{
    struct gguf *g = NULL;
    enum status st = open_part(&g, path, err);
    if (st == ST_OK) st = open_siblings(g, path, err);
    if (st == ST_OK) st = gguf_index_tensors(g, err);
    if (st != ST_OK) {
        gguf_close(g);
        return st;
    }
    *out = g;
    return ST_OK;
}

/* A header in memory, with the whole file or with `read` behind it. */
static enum status open_bytes(struct gguf **out, const char *name,
                              const void *data, size_t n, gguf_read_fn *read,
                              void *arg, struct error *err)
{
    struct gguf *g = NULL;
    struct split s = {0};
    enum status st = create_part(&g, name, err);
    if (st != ST_OK) return st;
    g->header = mem_alloc(n);
    if (!g->header) {
        st = error_set(err, ST_NO_MEMORY, "no memory left for %zu bytes", n);
        goto fail;
    }
    if (n != 0) memcpy(g->header, data, n);
    g->header_len = n;
    g->files[0].n_bytes = n;
    g->read = read;
    g->read_arg = arg;
    st = gguf_parse(g, err);
    if (st == ST_OK) st = split_of(g, &s, err);
    if (st == ST_OK && s.count > 1) {
        st = error_set(err, ST_UNSUPPORTED,
                       "%s: file %u of a set of %u; sets are opened by path",
                       g->files[0].name, s.no + 1, s.count);
    }
    if (st == ST_OK) st = gguf_index_tensors(g, err);
    if (st != ST_OK) goto fail;
    *out = g;
    return ST_OK;
fail:
    gguf_close(g);
    return st;
}

enum status gguf_open_mem(struct gguf **out, const void *data, size_t n,
                          struct error *err)
{
    return open_bytes(out, "(memory)", data, n, NULL, NULL, err);
}

enum status gguf_open_header(struct gguf **out, const void *data, size_t n,
                             gguf_read_fn *read, void *arg, struct error *err)
{
    assert(read);
    return open_bytes(out, "(header)", data, n, read, arg, err);
}

void gguf_close(struct gguf *g)
{
    if (!g) return;
    for (uint32_t i = 0; i < g->n_files; i++) {
        if (g->files[i].fd >= 0) close(g->files[i].fd);
        mem_free(g->files[i].name);
    }
    for (uint32_t i = 0; i < g->n_keys; i++) {
        mem_free(g->kvs[i].array.string_at);
    }
    mem_free(g->files);
    mem_free(g->kvs);
    mem_free(g->key_order);
    mem_free(g->tensors);
    mem_free(g->tensor_order);
    mem_free(g->header);
    mem_free(g);
}

uint32_t gguf_version(const struct gguf *g)
{
    return g->version;
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < g->n_files; i++) n += g->files[i].n_bytes;
    return n;
}

uint32_t gguf_n_splits(const struct gguf *g)
{
    return g->n_files;
}

struct gguf_stamp gguf_stamp(const struct gguf *g, uint32_t i)
{
    assert(i < g->n_files);
    const struct gguf_file *f = &g->files[i];
    if (f->fd < 0) return (struct gguf_stamp){0};
    return (struct gguf_stamp){f->n_bytes, f->mtime_ns};
}

enum status gguf_check_unchanged(const struct gguf *g,
                                 const struct gguf_tensor *t, struct error *err)
{
    const struct gguf_file *f = &g->files[t->split];
    struct stat s;
    if (f->fd < 0) return ST_OK;
    if (fstat(f->fd, &s) != 0) {
        return fail_errno(err, ST_IO, f->name, "cannot be examined");
    }
    if ((uint64_t)s.st_size != f->n_bytes || mtime_ns(&s) != f->mtime_ns) {
        return error_set(err, ST_INVALID,
                         "%s: changed while it was in use; start again to use "
                         "the new file",
                         f->name);
    }
    return ST_OK;
}

uint32_t gguf_n_keys(const struct gguf *g)
{
    return g->n_keys;
}

struct gguf_str gguf_key(const struct gguf *g, uint32_t i, enum gguf_type *type)
{
    assert(i < g->n_keys);
    const struct gguf_kv *kv = &g->kvs[i];
    if (type) *type = kv->type;
    return (struct gguf_str){(const char *)g->header + kv->key_at, kv->key_len};
}

uint32_t gguf_n_tensors(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, uint32_t i)
{
    assert(i < g->n_tensors);
    return &g->tensors[i];
}

enum status gguf_pread(const struct gguf_file *f, void *dst, size_t n,
                       uint64_t from, struct error *err)
{
    char *to = dst;
    while (n != 0) {
        const ssize_t got = pread(f->fd, to, n, (off_t)from);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(err, ST_IO, f->name, "cannot be read");
        if (got == 0) {
            return error_set(err, ST_TRUNCATED,
                             "%s: ends at byte %" PRIu64 " or before, %" PRIu64
                             " when it was opened: it has shrunk",
                             f->name, from, f->n_bytes);
        }
        to += got;
        from += (uint64_t)got;
        n -= (size_t)got;
    }
    return ST_OK;
}

enum status gguf_read(const struct gguf *g, const struct gguf_tensor *t,
                      uint64_t from, void *dst, size_t n, struct error *err)
{
    assert(t->split < g->n_files);
    const struct gguf_file *f = &g->files[t->split];
    if (from > t->n_bytes || n > t->n_bytes - from) {
        return error_set(err, ST_INVALID,
                         "%s: %zu bytes at %" PRIu64 " of tensor %s (%s), "
                         "which has %" PRIu64,
                         f->name, n, from,
                         gguf_quote(t->name, strlen(t->name)).text,
                         quant_name(t->type), t->n_bytes);
    }
    enum status st = ST_OK;
    if (g->read) {
        st =
            g->read(g->read_arg, (uint32_t)(t - g->tensors), from, dst, n, err);
    } else if (f->fd >= 0) {
        st = gguf_pread(f, dst, n, t->offset + from, err);
    } else if (n != 0) {
        memcpy(dst, g->header + t->offset + from, n);
    }
    if (st == ST_OK) return ST_OK;
    return error_prefix(err, st, "tensor %s",
                        gguf_quote(t->name, strlen(t->name)).text);
}

/* manifest.c - see the header.
 *
 * STATE/manifests/<BLAKE2b-256 of the path, in hexadecimal>.bin, little-endian:
 *
 *   "potluckm"  u32 version  u32 0
 *   key[32]     BLAKE2b-256 of what the file was: see identity()
 *   u64 n_cells  u64 n_known
 *   u64 bits[ceil(n_cells / 64)]   bit i: cell i is known
 *   hash[n_known][32]              of the known cells, in order
 *   check[32]   BLAKE2b-256 of all before
 *
 * Cells count through the tensors in the order of gguf_tensor. */
#include "coordinator/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/files.h"

enum { CELL_MAX = CELL_BYTES_MAX }; /* clang-tidy: the macros are alike */
_Static_assert(CELL_MAX <= LIMIT_CELL_BYTES, "every cell can be sent");

#define FORMAT_VERSION 1

struct start {
    char magic[8];
    uint32_t version, zero;
    uint8_t key[HASH_BYTES];
    uint64_t n_cells, n_known;
};
_Static_assert(sizeof(struct start) == 64, "no padding");
static const char magic[8] = {'p', 'o', 't', 'l', 'u', 'c', 'k', 'm'};

struct manifest {
    const struct gguf *g;
    char *state_dir, *file; /* file: in its folder "manifests" */
    uint8_t key[HASH_BYTES];
    uint64_t *first; /* [n_tensors] number of the tensor's first cell */
    uint64_t n_cells;
    /* one save at a time, or an older one could replace a newer one's file */
    pthread_mutex_t saving;
    pthread_mutex_t lock; /* of what follows; held for no I/O */
    uint64_t *bits;
    uint8_t (*hashes)[HASH_BYTES]; /* [n_cells] */
    uint64_t n_known, n_saved;
};

static size_t words_of(uint64_t n_cells)
{
    return (size_t)((n_cells + 63) / 64);
}

static bool bit_of(const uint64_t *bits, uint64_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

static enum status fail_memory(struct error *err)
{
    return error_set(err, ST_NO_MEMORY,
                     "no memory left for the model's hashes");
}

/* -------------------------------------------------------------- open */

/* Where it lies, and which file it is: whatever changes the bytes or their
 * grid must change this. */
static enum status identity(struct manifest *m, const char *path,
                            struct error *err)
{
    char whole[PATH_MAX];
    const char *real = realpath(path, whole);
    if (!real) real = path;
    const size_t n_path = strlen(real) + 1;
    struct buf b;
    buf_init(&b, n_path + 64 + 16 * (size_t)GGUF_SPLITS_MAX);
    const uint64_t grid[] = {FORMAT_VERSION, CELL_BYTES, m->n_cells,
                             gguf_n_splits(m->g)};
    enum status st = buf_append(&b, real, n_path);
    if (st == ST_OK) st = buf_append(&b, grid, sizeof grid);
    for (uint32_t i = 0; st == ST_OK && i < gguf_n_splits(m->g); i++) {
        const struct gguf_stamp stamp = gguf_stamp(m->g, i);
        st = buf_append(&b, &stamp, sizeof stamp);
    }
    if (st != ST_OK) {
        buf_fini(&b);
        return fail_memory(err);
    }
    uint8_t name[HASH_BYTES];
    char text[HASH_TEXT_BYTES];
    hash_of(m->key, b.data, b.len);
    hash_of(name, real, n_path);
    hash_text(text, name);
    b.len = 0;
    st = buf_printf(&b, "%s.bin", text);
    if (st != ST_OK) {
        buf_fini(&b);
        return fail_memory(err);
    }
    m->file = b.data; /* a block of mem_alloc */
    return ST_OK;
}

static enum status number_cells(struct manifest *m, struct error *err)
{
    const uint32_t n_tensors = gguf_n_tensors(m->g);
    m->n_cells = cell_total(m->g);
    if (m->n_cells > CELLS_MAX) {
        return error_set(err, ST_TOO_LARGE,
                         "a model of %" PRIu64 " pieces, the limit is %u",
                         m->n_cells, CELLS_MAX);
    }
    m->first = mem_zalloc_array(n_tensors, sizeof *m->first);
    m->bits = mem_zalloc_array(words_of(m->n_cells), sizeof *m->bits);
    m->hashes = mem_zalloc_array((size_t)m->n_cells, sizeof *m->hashes);
    if (!m->first || !m->bits || !m->hashes) return fail_memory(err);
    uint64_t n = 0;
    for (uint32_t i = 0; i < n_tensors; i++) {
        m->first[i] = n;
        n += cell_grid(gguf_tensor(m->g, i)).n;
    }
    return ST_OK;
}

/* The path of our file in STATE/manifests, or of something beside it. */
static char *path_of(const struct manifest *m, const char *suffix)
{
    struct buf b;
    buf_init(&b, PATH_MAX);
    if (buf_printf(&b, "%s/manifests/%s%s", m->state_dir, m->file, suffix) ==
        ST_OK) {
        return b.data;
    }
    buf_fini(&b);
    return NULL;
}

/* NULL: taken over; else why not. */
static const char *take_file(struct manifest *m, const uint8_t *data, size_t n)
{
    struct start s;
    uint8_t check[HASH_BYTES];
    const size_t n_bits = words_of(m->n_cells) * sizeof *m->bits;
    if (n < sizeof s + HASH_BYTES) return "is damaged: it is too short";
    const size_t body = n - HASH_BYTES;
    hash_of(check, data, body);
    if (memcmp(check, data + body, HASH_BYTES) != 0) {
        return "is damaged: its checksum is wrong";
    }
    memcpy(&s, data, sizeof s);
    if (memcmp(s.magic, magic, sizeof magic) != 0) return "is something else";
    if (s.version != FORMAT_VERSION) return "is of another version of potluck";
    if (memcmp(s.key, m->key, sizeof s.key) != 0) {
        return "is of the model as it was before it changed";
    }
    if (s.n_cells != m->n_cells || s.n_known > s.n_cells ||
        body != sizeof s + n_bits + s.n_known * HASH_BYTES) {
        return "is damaged: its length is wrong";
    }
    memcpy(m->bits, data + sizeof s, n_bits);
    const uint8_t *hash = data + sizeof s + n_bits;
    uint64_t n_known = 0;
    for (size_t w = 0; w < words_of(m->n_cells); w++) {
        n_known += (uint64_t)__builtin_popcountll(m->bits[w]);
    }
    const uint64_t tail = m->n_cells % 64;
    const bool beyond =
        tail != 0 && m->bits[words_of(m->n_cells) - 1] >> tail != 0;
    if (n_known != s.n_known || beyond) {
        memset(m->bits, 0, n_bits);
        return "is damaged: its counts are wrong";
    }
    for (uint64_t i = 0; i < m->n_cells; i++) {
        if (!bit_of(m->bits, i)) continue;
        memcpy(m->hashes[i], hash, HASH_BYTES);
        hash += HASH_BYTES;
    }
    m->n_known = m->n_saved = n_known;
    return NULL;
}

/* *data: the whole file, the caller's; NULL if there is none.  Otherwise the
 * result is why it cannot be used. */
static const char *read_file(const char *path, size_t max, uint8_t **data,
                             size_t *n, enum status *st)
{
    struct stat s;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const char *why = NULL;
    *data = NULL;
    if (fd < 0) return errno == ENOENT ? NULL : "cannot be opened";
    if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) {
        why = "is not a file";
    } else if ((uint64_t)s.st_size > max) {
        why = "is damaged: it is too long";
    } else {
        *n = (size_t)s.st_size;
        *data = mem_alloc(*n);
        if (!*data) *st = ST_NO_MEMORY;
    }
    for (size_t at = 0; *data && at < *n;) {
        const ssize_t got = pread(fd, *data + at, *n - at, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            mem_free(*data);
            *data = NULL;
            why = "cannot be read";
        } else {
            at += (size_t)got;
        }
    }
    close(fd);
    return why;
}

/* Whatever is wrong with the file costs only time. */
static enum status load(struct manifest *m, manifest_say_fn *say, void *say_arg,
                        struct error *err)
{
    char *path = path_of(m, "");
    uint8_t *data = NULL;
    size_t n = 0;
    enum status st = ST_OK;
    if (!path) return fail_memory(err);
    const size_t max = sizeof(struct start) +
                       words_of(m->n_cells) * sizeof *m->bits +
                       (size_t)m->n_cells * HASH_BYTES + HASH_BYTES;
    const char *why = read_file(path, max, &data, &n, &st);
    if (data) why = take_file(m, data, n);
    if (why && say) {
        char line[512];
        snprintf(line, sizeof line,
                 "manifest %.300s %s; hashes are computed again", path, why);
        say(say_arg, line);
    }
    mem_free(data);
    mem_free(path);
    return st == ST_OK ? ST_OK : fail_memory(err);
}

enum status manifest_open(struct manifest **out, const struct gguf *g,
                          const char *path, const char *state_dir,
                          manifest_say_fn *say, void *say_arg,
                          struct error *err)
{
    struct manifest *m = mem_zalloc(sizeof *m);
    if (!m) return fail_memory(err);
    m->g = g;
    pthread_mutex_init(&m->saving, NULL);
    pthread_mutex_init(&m->lock, NULL);
    m->state_dir = mem_strndup(state_dir, strlen(state_dir));
    enum status st = m->state_dir ? ST_OK : fail_memory(err);
    if (st == ST_OK) st = number_cells(m, err);
    if (st == ST_OK) st = identity(m, path, err);
    if (st == ST_OK) st = load(m, say, say_arg, err);
    if (st != ST_OK) {
        manifest_close(m);
        return st;
    }
    *out = m;
    return ST_OK;
}

void manifest_close(struct manifest *m)
{
    if (!m) return;
    pthread_mutex_destroy(&m->saving);
    pthread_mutex_destroy(&m->lock);
    mem_free(m->state_dir);
    mem_free(m->file);
    mem_free(m->first);
    mem_free(m->bits);
    mem_free(m->hashes);
    mem_free(m);
}

/* ------------------------------------------------------------- cells */

/* The cell's place, its tensor and its number; ST_NOT_FOUND. */
static enum status find(const struct manifest *m, struct cell_id id,
                        const struct gguf_tensor **t, struct cell_range *range,
                        uint64_t *number, struct error *err)
{
    *range = (struct cell_range){0};
    if (id.tensor < gguf_n_tensors(m->g)) {
        *t = gguf_tensor(m->g, id.tensor);
        *range = cell_range(*t, id.cell);
    }
    if (range->n == 0) {
        return error_set(err, ST_NOT_FOUND,
                         "the model has no cell %u of tensor %u", id.cell,
                         id.tensor);
    }
    *number = m->first[id.tensor] + id.cell;
    return ST_OK;
}

static bool recall(struct manifest *m, uint64_t number, uint8_t *hash)
{
    pthread_mutex_lock(&m->lock);
    const bool known = bit_of(m->bits, number);
    if (known) memcpy(hash, m->hashes[number], HASH_BYTES);
    pthread_mutex_unlock(&m->lock);
    return known;
}

/* Two threads may come with the same cell: they bring the same hash. */
static void remember(struct manifest *m, uint64_t number, const uint8_t *hash)
{
    pthread_mutex_lock(&m->lock);
    if (!bit_of(m->bits, number)) {
        m->bits[number / 64] |= UINT64_C(1) << number % 64;
        memcpy(m->hashes[number], hash, HASH_BYTES);
        m->n_known++;
    }
    pthread_mutex_unlock(&m->lock);
}

enum status manifest_read_cell(struct manifest *m, struct cell_id id,
                               struct buf *out, uint8_t hash[HASH_BYTES],
                               struct error *err)
{
    const struct gguf_tensor *t = NULL;
    struct cell_range range;
    uint64_t number = 0;
    char *to;
    enum status st = find(m, id, &t, &range, &number, err);
    if (st != ST_OK) return st;
    st = buf_reserve(out, range.n, &to);
    if (st != ST_OK) {
        return error_set(err, st, "%zu bytes for a cell of tensor %s", range.n,
                         t->name);
    }
    st = gguf_read(m->g, t, range.from, to, range.n, err);
    /* afterwards: what was read before a change is still as it was */
    if (st == ST_OK) st = gguf_check_unchanged(m->g, t, err);
    if (st != ST_OK) {
        *to = '\0';
        return st;
    }
    if (!recall(m, number, hash)) {
        hash_of(hash, to, range.n);
        remember(m, number, hash);
    }
    out->len += range.n;
    out->data[out->len] = '\0';
    return ST_OK;
}

enum status manifest_hash(struct manifest *m, struct cell_id id,
                          uint8_t hash[HASH_BYTES], struct error *err)
{
    if (manifest_known(m, id, hash)) return ST_OK;
    struct buf b;
    buf_init(&b, CELL_BYTES_MAX);
    const enum status st = manifest_read_cell(m, id, &b, hash, err);
    buf_fini(&b);
    return st;
}

bool manifest_known(struct manifest *m, struct cell_id id,
                    uint8_t hash[HASH_BYTES])
{
    const struct gguf_tensor *t;
    struct cell_range range;
    uint64_t number = 0;
    if (find(m, id, &t, &range, &number, NULL) != ST_OK) return false;
    return recall(m, number, hash);
}

void manifest_counts(struct manifest *m, uint64_t *n_cells, uint64_t *n_known)
{
    pthread_mutex_lock(&m->lock);
    *n_cells = m->n_cells;
    *n_known = m->n_known;
    pthread_mutex_unlock(&m->lock);
}

/* -------------------------------------------------------------- save */

/* The file as bytes, and how many cells it knows. */
static enum status snapshot(struct manifest *m, struct buf *b,
                            uint64_t *n_known)
{
    struct start s = {.version = FORMAT_VERSION, .n_cells = m->n_cells};
    memcpy(s.magic, magic, sizeof magic);
    memcpy(s.key, m->key, sizeof s.key);
    pthread_mutex_lock(&m->lock);
    *n_known = s.n_known = m->n_known;
    enum status st = buf_append(b, &s, sizeof s);
    if (st == ST_OK) {
        st = buf_append(b, m->bits, words_of(m->n_cells) * sizeof *m->bits);
    }
    for (uint64_t i = 0; st == ST_OK && i < m->n_cells; i++) {
        if (bit_of(m->bits, i)) st = buf_append(b, m->hashes[i], HASH_BYTES);
    }
    pthread_mutex_unlock(&m->lock);
    uint8_t check[HASH_BYTES];
    if (st == ST_OK) hash_of(check, b->data, b->len);
    if (st == ST_OK) st = buf_append(b, check, sizeof check);
    return st;
}

static enum status save(struct manifest *m, struct error *err)
{
    struct buf b;
    uint64_t n_known = 0;
    pthread_mutex_lock(&m->lock);
    const bool nothing_new = m->n_known == m->n_saved;
    pthread_mutex_unlock(&m->lock);
    if (nothing_new) return ST_OK;
    char *path = path_of(m, ""), *dir = path_of(m, "");
    buf_init(&b, SIZE_MAX / 2);
    enum status st = ST_OK;
    if (!path || !dir || snapshot(m, &b, &n_known) != ST_OK) {
        st = fail_memory(err);
        goto done;
    }
    *strrchr(dir, '/') = '\0';
    st = files_make_dir(dir, err);
    if (st == ST_OK) st = files_write(path, b.data, b.len, 0600, err);
    if (st != ST_OK) goto done;
    pthread_mutex_lock(&m->lock);
    if (n_known > m->n_saved) m->n_saved = n_known;
    pthread_mutex_unlock(&m->lock);
done:
    buf_fini(&b);
    mem_free(path);
    mem_free(dir);
    return st;
}

enum status manifest_save(struct manifest *m, struct error *err)
{
    pthread_mutex_lock(&m->saving);
    const enum status st = save(m, err);
    pthread_mutex_unlock(&m->saving);
    return st;
}

/* gguf_writer.c - metadata in two buffers, tensors as a list of sources. */
#include "tests/lib/gguf_writer.h"

#include <errno.h>
#include <string.h>

/* Rows are made in pieces of at most this, or one row. */
#define CHUNK_BYTES (1u << 20)

struct source {
    char name[GGUF_NAME_MAX + 1];
    const char *data;
    gguf_fill_fn *fill;
    void *ctx;
    size_t row_bytes, n_rows;
};

struct gguf_writer {
    struct buf keys, infos; /* as they stand in the file */
    struct source *sources;
    uint64_t n_keys, n_tensors;
    uint64_t data_bytes; /* so far, padded */
    uint32_t version, alignment;
    enum status status; /* the first failure */
    struct error error;
};

/* Where bytes go: f, or mem. */
struct sink {
    FILE *f;
    struct buf *mem;
    uint64_t n; /* written so far */
    struct error *err;
};

enum status gguf_writer_create(struct gguf_writer **out, uint32_t version,
                               struct error *err)
{
    struct gguf_writer *w = mem_zalloc(sizeof *w);
    if (!w) return error_set(err, ST_NO_MEMORY, "gguf writer: no memory");
    w->version = version;
    w->alignment = 32;
    buf_init(&w->keys, GGUF_HEADER_MAX);
    buf_init(&w->infos, GGUF_HEADER_MAX);
    *out = w;
    return ST_OK;
}

void gguf_writer_free(struct gguf_writer *w)
{
    if (!w) return;
    buf_fini(&w->keys);
    buf_fini(&w->infos);
    mem_free(w->sources);
    mem_free(w);
}

/* Keep the first failure only. */
static void keep(struct gguf_writer *w, enum status st, const char *what)
{
    if (st == ST_OK || w->status != ST_OK) return;
    w->status =
        error_set(&w->error, st, "gguf writer: %s: %s", what, status_text(st));
}

/* ------------------------------------------------------------- keys */

static void put(struct gguf_writer *w, struct buf *b, const void *data,
                size_t n)
{
    if (w->status != ST_OK) return;
    keep(w, buf_append(b, data, n), "metadata");
}

static void put_u32(struct gguf_writer *w, struct buf *b, uint32_t v)
{
    put(w, b, &v, sizeof v);
}

static void put_u64(struct gguf_writer *w, struct buf *b, uint64_t v)
{
    put(w, b, &v, sizeof v);
}

static void put_str(struct gguf_writer *w, struct buf *b, struct gguf_str s)
{
    put_u64(w, b, s.len);
    put(w, b, s.data, s.len);
}

static struct gguf_str str_of(const char *s)
{
    return (struct gguf_str){s, strlen(s)};
}

static void put_key(struct gguf_writer *w, const char *key, enum gguf_type type)
{
    put_str(w, &w->keys, str_of(key));
    put_u32(w, &w->keys, (uint32_t)type);
    w->n_keys++;
}

/* 0 for strings and arrays. */
static size_t type_bytes(enum gguf_type type)
{
    static const uint8_t n[GGUF_TYPE_END] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
    };
    return n[type];
}

void gguf_writer_scalar(struct gguf_writer *w, const char *key,
                        enum gguf_type type, const void *v)
{
    if (type_bytes(type) == 0) keep(w, ST_INVALID, key);
    put_key(w, key, type);
    put(w, &w->keys, v, type_bytes(type));
}

void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    gguf_writer_scalar(w, key, GGUF_U32, &v);
}

void gguf_writer_i32(struct gguf_writer *w, const char *key, int32_t v)
{
    gguf_writer_scalar(w, key, GGUF_I32, &v);
}

void gguf_writer_f32(struct gguf_writer *w, const char *key, float v)
{
    gguf_writer_scalar(w, key, GGUF_F32, &v);
}

void gguf_writer_bool(struct gguf_writer *w, const char *key, bool v)
{
    const uint8_t byte = v ? 1 : 0;
    gguf_writer_scalar(w, key, GGUF_BOOL, &byte);
}

void gguf_writer_strn(struct gguf_writer *w, const char *key, struct gguf_str v)
{
    put_key(w, key, GGUF_STRING);
    put_str(w, &w->keys, v);
}

void gguf_writer_str(struct gguf_writer *w, const char *key, const char *v)
{
    gguf_writer_strn(w, key, str_of(v));
}

static void put_array_head(struct gguf_writer *w, const char *key,
                           enum gguf_type type, uint64_t n)
{
    put_key(w, key, GGUF_ARRAY);
    put_u32(w, &w->keys, (uint32_t)type);
    put_u64(w, &w->keys, n);
}

void gguf_writer_array(struct gguf_writer *w, const char *key,
                       enum gguf_type type, const void *v, uint64_t n)
{
    size_t n_bytes;
    if (type_bytes(type) == 0 || !size_mul(n, type_bytes(type), &n_bytes)) {
        keep(w, ST_INVALID, key);
        return;
    }
    put_array_head(w, key, type, n);
    put(w, &w->keys, v, n_bytes);
}

void gguf_writer_strs(struct gguf_writer *w, const char *key,
                      const struct gguf_str *v, uint64_t n)
{
    put_array_head(w, key, GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++) put_str(w, &w->keys, v[i]);
}

void gguf_writer_cstrs(struct gguf_writer *w, const char *key,
                       const char *const *v, uint64_t n)
{
    put_array_head(w, key, GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++) put_str(w, &w->keys, str_of(v[i]));
}

void gguf_writer_alignment(struct gguf_writer *w, uint32_t alignment)
{
    if (w->n_tensors != 0 || alignment == 0 ||
        (alignment & (alignment - 1)) != 0) {
        keep(w, ST_INVALID, "alignment");
        return;
    }
    w->alignment = alignment;
    gguf_writer_u32(w, "general.alignment", alignment);
}

/* ---------------------------------------------------------- tensors */

static uint64_t padded(const struct gguf_writer *w, uint64_t n)
{
    return (n + w->alignment - 1) & ~((uint64_t)w->alignment - 1);
}

static bool shape_of(struct source *s, enum quant_type type, uint32_t n_dims,
                     const uint64_t *ne, size_t *n_bytes)
{
    if (!quant_info(type) || n_dims > GGUF_DIMS_MAX) return false;
    s->row_bytes = quant_row_bytes(type, n_dims == 0 ? 1 : ne[0]);
    s->n_rows = 1;
    for (uint32_t i = 1; i < n_dims; i++) {
        if (!size_mul(s->n_rows, ne[i], &s->n_rows)) return false;
    }
    return s->row_bytes != 0 && s->n_rows != 0 &&
           size_mul(s->row_bytes, s->n_rows, n_bytes);
}

static void add_tensor(struct gguf_writer *w, const char *name,
                       enum quant_type type, uint32_t n_dims,
                       const uint64_t *ne, const struct source *what)
{
    struct source s = *what;
    size_t n_bytes;
    if (strlen(name) > GGUF_NAME_MAX ||
        !shape_of(&s, type, n_dims, ne, &n_bytes)) {
        keep(w, ST_INVALID, name);
    }
    if (w->status != ST_OK) return;
    memcpy(s.name, name, strlen(name));
    struct source *grown =
        mem_realloc(w->sources, (w->n_tensors + 1) * sizeof *grown);
    if (!grown) {
        keep(w, ST_NO_MEMORY, name);
        return;
    }
    w->sources = grown;
    w->sources[w->n_tensors++] = s;
    put_str(w, &w->infos, str_of(name));
    put_u32(w, &w->infos, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) put_u64(w, &w->infos, ne[i]);
    put_u32(w, &w->infos, (uint32_t)type);
    put_u64(w, &w->infos, w->data_bytes);
    w->data_bytes += padded(w, n_bytes);
}

void gguf_writer_tensor(struct gguf_writer *w, const char *name,
                        enum quant_type type, uint32_t n_dims,
                        const uint64_t *ne, const void *data)
{
    const struct source s = {.data = data};
    add_tensor(w, name, type, n_dims, ne, &s);
}

void gguf_writer_tensor_fn(struct gguf_writer *w, const char *name,
                           enum quant_type type, uint32_t n_dims,
                           const uint64_t *ne, gguf_fill_fn *fill, void *ctx)
{
    const struct source s = {.fill = fill, .ctx = ctx};
    add_tensor(w, name, type, n_dims, ne, &s);
}

/* ----------------------------------------------------------- saving */

static enum status emit(struct sink *out, const void *data, size_t n)
{
    if (n == 0) return ST_OK;
    out->n += n;
    if (out->mem) {
        const enum status st = buf_append(out->mem, data, n);
        if (st == ST_OK) return st;
        return error_set(out->err, st, "gguf writer: %s", status_text(st));
    }
    if (fwrite(data, 1, n, out->f) == n) return ST_OK;
    return error_set(out->err, ST_IO, "gguf writer: cannot write (errno %d)",
                     errno);
}

static enum status emit_zeros(struct sink *out, uint64_t n)
{
    static const char zeros[4096];
    enum status st = ST_OK;
    while (n != 0 && st == ST_OK) {
        const size_t now = n < sizeof zeros ? (size_t)n : sizeof zeros;
        st = emit(out, zeros, now);
        n -= now;
    }
    return st;
}

static enum status emit_pad(const struct gguf_writer *w, struct sink *out)
{
    return emit_zeros(out, padded(w, out->n) - out->n);
}

static enum status emit_filled(struct sink *out, const struct source *s)
{
    uint64_t n = CHUNK_BYTES / s->row_bytes;
    if (n == 0) n = 1;
    if (n > s->n_rows) n = s->n_rows;
    char *rows = mem_alloc((size_t)(n * s->row_bytes));
    if (!rows) {
        return error_set(out->err, ST_NO_MEMORY, "gguf writer: %s: no memory",
                         s->name);
    }
    enum status st = ST_OK;
    for (uint64_t i = 0; i < s->n_rows && st == ST_OK; i += n) {
        if (n > s->n_rows - i) n = s->n_rows - i;
        st = s->fill(s->ctx, s->name, i, n, rows, out->err);
        if (st == ST_OK) st = emit(out, rows, (size_t)(n * s->row_bytes));
    }
    mem_free(rows);
    return st;
}

static enum status emit_tensor(struct sink *out, const struct source *s)
{
    const uint64_t n_bytes = s->row_bytes * s->n_rows;
    if (s->fill) return emit_filled(out, s);
    if (s->data) return emit(out, s->data, (size_t)n_bytes);
    return emit_zeros(out, n_bytes);
}

struct start {
    char magic[4];
    uint32_t version;
    uint64_t n_tensors, n_keys;
};
_Static_assert(sizeof(struct start) == 24, "no padding");

static enum status emit_all(const struct gguf_writer *w, struct sink *out)
{
    if (w->status != ST_OK) {
        return error_set(out->err, w->status, "%s", w->error.text);
    }
    const struct start start = {
        {'G', 'G', 'U', 'F'}, w->version, w->n_tensors, w->n_keys};
    enum status st = emit(out, &start, sizeof start);
    if (st == ST_OK) st = emit(out, w->keys.data, w->keys.len);
    if (st == ST_OK) st = emit(out, w->infos.data, w->infos.len);
    if (st == ST_OK && w->n_tensors != 0) st = emit_pad(w, out);
    for (uint64_t i = 0; i < w->n_tensors && st == ST_OK; i++) {
        st = emit_tensor(out, &w->sources[i]);
        if (st == ST_OK) st = emit_pad(w, out);
    }
    return st;
}

uint64_t gguf_writer_bytes(const struct gguf_writer *w)
{
    const uint64_t n = sizeof(struct start) + w->keys.len + w->infos.len;
    return w->n_tensors == 0 ? n : padded(w, n) + w->data_bytes;
}

enum status gguf_writer_write(struct gguf_writer *w, FILE *f, struct error *err)
{
    struct sink out = {.f = f, .err = err};
    const enum status st = emit_all(w, &out);
    if (st != ST_OK) return st;
    if (fflush(f) == 0) return ST_OK;
    return error_set(err, ST_IO, "gguf writer: cannot write (errno %d)", errno);
}

enum status gguf_writer_save(struct gguf_writer *w, const char *path,
                             struct error *err)
{
    struct buf part;
    buf_init(&part, 4096);
    enum status st = buf_printf(&part, "%s.part", path);
    FILE *f = NULL;
    if (st == ST_OK) {
        f = fopen(part.data, "wb");
        if (!f) st = ST_IO;
    }
    if (st != ST_OK) {
        buf_fini(&part);
        return error_set(err, st, "%s: cannot be created (errno %d)", path,
                         errno);
    }
    st = gguf_writer_write(w, f, err);
    if (fclose(f) != 0 && st == ST_OK) {
        st = error_set(err, ST_IO, "%s: cannot be written (errno %d)", path,
                       errno);
    }
    if (st == ST_OK && rename(part.data, path) != 0) {
        st = error_set(err, ST_IO, "%s: cannot be renamed to (errno %d)", path,
                       errno);
    }
    if (st != ST_OK) remove(part.data);
    buf_fini(&part);
    return st;
}

enum status gguf_writer_save_mem(struct gguf_writer *w, struct buf *out,
                                 struct error *err)
{
    struct sink to = {.mem = out, .err = err};
    return emit_all(w, &to);
}

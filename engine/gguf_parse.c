/* gguf_parse.c - one file's header into keys and tensors.
 *
 * Layout (ggml's docs/gguf.md), all little-endian:
 *   "GGUF"  u32 version  u64 n_tensors  u64 n_keys
 *   n_keys    x { string key, u32 type, value }
 *   n_tensors x { string name, u32 n_dims, u64 ne[n_dims], u32 type,
 *                 u64 offset from the data section }
 *   padding to the alignment, data section
 * string: u64 length, bytes.  array: u32 type, u64 count, values.
 *
 * The header's length is written nowhere, so it is read in growing steps as
 * the parser asks for more.  Every claim (a count, a length) is compared with
 * the bytes that are left before memory is spent on it. */
#include "engine/gguf_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FIRST_READ (64u << 10)

/* The least that a key (length, one byte, type, one byte) and a tensor
 * (length, one byte, n_dims, type, offset) take in a file. */
#define KEY_BYTES_MIN    14
#define TENSOR_BYTES_MIN 25

#define ALIGNMENT_DEFAULT 32
/* ggml's own floor is the size of a pointer; the ceiling is only there to
 * refuse nonsense: eight times the largest page in use. */
#define ALIGNMENT_MIN 8
#define ALIGNMENT_MAX (16u << 20)

struct parser {
    struct gguf *g;
    const struct gguf_file *file;
    uint64_t end; /* bytes that there are: of the file, or of the header */
    uint64_t pos; /* <= end and <= GGUF_HEADER_MAX */
    struct error *err;
    char item[112];   /* what is being read, for messages */
    uint64_t element; /* of an array, counted from 1; 0: none */
};

static enum status fail(const struct parser *p, enum status st, uint64_t at,
                        const char *fmt, ...) PRINTF_LIKE(4, 5);

/* "FILE: ITEM: what went wrong (byte AT)". */
static enum status fail(const struct parser *p, enum status st, uint64_t at,
                        const char *fmt, ...)
{
    char what[160], element[40] = "";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (p->element != 0) {
        snprintf(element, sizeof element, " element %" PRIu64, p->element - 1);
    }
    return error_set(p->err, st, "%s: %s%s: %s (byte %" PRIu64 ")",
                     p->file->name, p->item, element, what, at);
}

static enum status fail_memory(const struct parser *p)
{
    return fail(p, ST_NO_MEMORY, p->pos, "no memory left to hold it");
}

/* Can n items of at least item_bytes each still follow?  Reads nothing. */
static enum status claim(const struct parser *p, uint64_t n,
                         uint64_t item_bytes, const char *what)
{
    const uint64_t left = p->end - p->pos;
    if (n > left / item_bytes) {
        return fail(p, ST_TRUNCATED, p->pos,
                    "%s needs %" PRIu64 " x %" PRIu64 " bytes or more, but "
                    "the %s ends after %" PRIu64,
                    what, n, item_bytes, p->g->read ? "header" : "file", left);
    }
    if (n > (GGUF_HEADER_MAX - p->pos) / item_bytes) {
        return fail(p, ST_TOO_LARGE, p->pos,
                    "%s takes the header over its limit of %u bytes", what,
                    GGUF_HEADER_MAX);
    }
    return ST_OK;
}

/* Have header[0, want) in memory; claim() has allowed want. */
static enum status load(struct parser *p, size_t want)
{
    struct gguf *g = p->g;
    if (want <= g->header_len) return ST_OK;
    uint64_t len = g->header_len == 0 ? FIRST_READ : 2 * g->header_len;
    if (len < want) len = want;
    if (len > GGUF_HEADER_MAX) len = GGUF_HEADER_MAX;
    if (len > p->end) len = p->end;
    uint8_t *header = mem_realloc(g->header, (size_t)len);
    if (!header) return fail_memory(p);
    g->header = header;
    const size_t have = g->header_len;
    const enum status st =
        gguf_pread(p->file, header + have, (size_t)len - have, have, p->err);
    if (st == ST_OK) g->header_len = (size_t)len;
    return st;
}

/* Claim n bytes and have them in memory; *at is where they start. */
static enum status take(struct parser *p, uint64_t n, const char *what,
                        uint32_t *at)
{
    enum status st = claim(p, n, 1, what);
    if (st == ST_OK) st = load(p, (size_t)(p->pos + n));
    if (st != ST_OK) return st;
    *at = (uint32_t)p->pos;
    p->pos += n;
    return ST_OK;
}

static enum status take_u32(struct parser *p, const char *what, uint32_t *v)
{
    uint32_t at;
    const enum status st = take(p, sizeof *v, what, &at);
    if (st == ST_OK) memcpy(v, p->g->header + at, sizeof *v);
    return st;
}

static enum status take_u64(struct parser *p, const char *what, uint64_t *v)
{
    uint32_t at;
    const enum status st = take(p, sizeof *v, what, &at);
    if (st == ST_OK) memcpy(v, p->g->header + at, sizeof *v);
    return st;
}

/* A key or a tensor's name.  Control characters are refused here, once, so
 * that nobody who prints or compares a name as a C string meets them. */
static enum status take_name(struct parser *p, uint64_t max, uint32_t *at,
                             uint32_t *len)
{
    const uint64_t start = p->pos;
    uint64_t n;
    enum status st = take_u64(p, "the length of its name", &n);
    if (st != ST_OK) return st;
    if (n == 0) return fail(p, ST_INVALID, start, "its name is empty");
    if (n > max) {
        return fail(p, ST_TOO_LARGE, start,
                    "its name is %" PRIu64 " bytes long, the limit is %" PRIu64,
                    n, max);
    }
    st = take(p, n, "its name", at);
    if (st != ST_OK) return st;
    const uint8_t *name = p->g->header + *at;
    for (uint64_t i = 0; i < n; i++) {
        if (name[i] < 0x20 || name[i] == 0x7f) {
            return fail(p, ST_INVALID, *at + i,
                        "its name contains the control character 0x%02x",
                        name[i]);
        }
    }
    *len = (uint32_t)n;
    return ST_OK;
}

/* ------------------------------------------------------------- keys */

static enum status take_type(struct parser *p, const char *what,
                             enum gguf_type *type)
{
    const uint64_t at = p->pos;
    uint32_t v;
    const enum status st = take_u32(p, what, &v);
    if (st != ST_OK) return st;
    if (v >= GGUF_TYPE_END) {
        return fail(p, ST_INVALID, at, "%s is %u, which is not defined", what,
                    v);
    }
    *type = (enum gguf_type)v;
    return ST_OK;
}

static enum status check_bools(const struct parser *p, uint32_t at, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t v = p->g->header[at + i];
        if (v > 1) {
            return fail(p, ST_INVALID, at + i, "a bool is %u, not 0 or 1", v);
        }
    }
    return ST_OK;
}

static enum status take_string(struct parser *p, uint32_t *at)
{
    uint64_t n;
    uint32_t text_at;
    *at = (uint32_t)p->pos;
    enum status st = take_u64(p, "the length of a string", &n);
    if (st == ST_OK) st = take(p, n, "a string", &text_at);
    return st;
}

static enum status take_strings(struct parser *p, struct gguf_array *a)
{
    enum status st = claim(p, a->len, sizeof(uint64_t), "an array of strings");
    if (st != ST_OK || a->len == 0) return st;
    a->string_at = mem_zalloc_array((size_t)a->len, sizeof *a->string_at);
    if (!a->string_at) return fail_memory(p);
    for (uint64_t i = 0; i < a->len && st == ST_OK; i++) {
        p->element = i + 1;
        st = take_string(p, &a->string_at[i]);
    }
    p->element = 0;
    return st;
}

static enum status take_array(struct parser *p, struct gguf_array *a)
{
    const uint64_t start = p->pos;
    enum status st = take_type(p, "the type of the array's elements", &a->type);
    if (st == ST_OK) st = take_u64(p, "the array's length", &a->len);
    if (st != ST_OK) return st;
    a->at = (uint32_t)p->pos;
    if (a->type == GGUF_ARRAY) {
        return fail(p, ST_UNSUPPORTED, start,
                    "arrays of arrays are not supported");
    }
    if (a->type == GGUF_STRING) return take_strings(p, a);
    const size_t item_bytes = gguf_type_bytes(a->type);
    st = claim(p, a->len, item_bytes, "an array");
    if (st == ST_OK) st = take(p, a->len * item_bytes, "an array", &a->at);
    if (st == ST_OK && a->type == GGUF_BOOL) st = check_bools(p, a->at, a->len);
    return st;
}

static enum status take_kv(struct parser *p, uint32_t i)
{
    struct gguf_kv *kv = &p->g->kvs[i];
    snprintf(p->item, sizeof p->item, "key %u", i);
    enum status st = take_name(p, GGUF_KEY_MAX, &kv->key_at, &kv->key_len);
    if (st != ST_OK) return st;
    const struct gguf_quoted name =
        gguf_quote((const char *)p->g->header + kv->key_at, kv->key_len);
    snprintf(p->item, sizeof p->item, "key %u %s", i, name.text);
    st = take_type(p, "the type of its value", &kv->type);
    if (st != ST_OK) return st;
    kv->value_at = (uint32_t)p->pos;
    if (kv->type == GGUF_STRING) return take_string(p, &kv->value_at);
    if (kv->type == GGUF_ARRAY) return take_array(p, &kv->array);
    st = take(p, gguf_type_bytes(kv->type), "its value", &kv->value_at);
    if (st == ST_OK && kv->type == GGUF_BOOL) {
        st = check_bools(p, kv->value_at, 1);
    }
    return st;
}

/* ---------------------------------------------------------- tensors */

/* The size from the shape; *t is complete but for n_bytes. */
static enum status size_tensor(const struct parser *p, struct gguf_tensor *t,
                               uint64_t at)
{
    size_t n_rows = 1, n_weights, row_bytes, n_bytes;
    for (uint32_t i = 1; i < GGUF_DIMS_MAX; i++) {
        if (!size_mul(n_rows, t->ne[i], &n_rows)) {
            return fail(p, ST_INVALID, at, "its shape overflows 64 bits");
        }
    }
    if (!size_mul(n_rows, t->ne[0], &n_weights)) {
        return fail(p, ST_INVALID, at, "its shape overflows 64 bits");
    }
    const struct quant_info *info = quant_info(t->type);
    if (!info) return ST_OK;
    if (t->ne[0] % info->block != 0) {
        return fail(p, ST_INVALID, at,
                    "its rows of %" PRIu64 " weights are not whole blocks of "
                    "%u, as %s wants",
                    t->ne[0], info->block, info->name);
    }
    if (!size_mul(t->ne[0] / info->block, info->block_bytes, &row_bytes) ||
        !size_mul(row_bytes, n_rows, &n_bytes)) {
        return fail(p, ST_INVALID, at, "its size overflows 64 bits");
    }
    t->n_bytes = n_bytes;
    return ST_OK;
}

static enum status take_shape(struct parser *p, struct gguf_tensor *t)
{
    const uint64_t at = p->pos;
    enum status st = take_u32(p, "the number of its dimensions", &t->n_dims);
    if (st != ST_OK) return st;
    if (t->n_dims > GGUF_DIMS_MAX) {
        return fail(p, ST_INVALID, at, "it has %u dimensions, the limit is %d",
                    t->n_dims, GGUF_DIMS_MAX);
    }
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++) t->ne[i] = 1;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        st = take_u64(p, "its shape", &t->ne[i]);
        if (st != ST_OK) return st;
        if (t->ne[i] == 0) {
            return fail(p, ST_INVALID, p->pos - sizeof t->ne[i],
                        "its dimension %u is 0", i);
        }
    }
    return ST_OK;
}

static enum status take_tensor(struct parser *p, uint32_t i)
{
    struct gguf_tensor *t = &p->g->tensors[i];
    snprintf(p->item, sizeof p->item, "tensor %u", i);
    uint32_t name_at, name_len;
    enum status st = take_name(p, GGUF_NAME_MAX, &name_at, &name_len);
    if (st != ST_OK) return st;
    assert(t);
    memcpy(t->name, p->g->header + name_at, name_len); /* t is zeroed */
    snprintf(p->item, sizeof p->item, "tensor %u %s", i,
             gguf_quote(t->name, name_len).text);
    const uint64_t shape_at = p->pos;
    st = take_shape(p, t);
    if (st == ST_OK) st = take_u32(p, "its type", &t->type);
    const uint64_t offset_at = p->pos;
    if (st == ST_OK) st = take_u64(p, "its offset", &t->offset);
    if (st == ST_OK) st = size_tensor(p, t, shape_at);
    if (st != ST_OK) return st;
    if (t->offset % p->g->alignment != 0) {
        return fail(p, ST_INVALID, offset_at,
                    "its offset %" PRIu64 " is not a multiple of the "
                    "alignment %u",
                    t->offset, p->g->alignment);
    }
    return ST_OK;
}

static uint64_t align_up(uint64_t at, uint32_t alignment)
{
    return at + (alignment - at % alignment) % alignment;
}

/* Without a file: tensors lie one after the other, and so no two overlap.
 * g->files[0].n_bytes becomes the end of the last. */
static enum status place_header(struct parser *p)
{
    struct gguf *g = p->g;
    const uint64_t data_at = align_up(p->pos, g->alignment);
    uint64_t end = 0; /* in the data section, <= GGUF_DATA_MAX */
    snprintf(p->item, sizeof p->item, "header");
    if (p->pos != p->end) {
        return fail(p, ST_INVALID, p->pos,
                    "%" PRIu64 " bytes follow the list of tensors",
                    p->end - p->pos);
    }
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        const uint64_t at = align_up(end, g->alignment);
        snprintf(p->item, sizeof p->item, "tensor %u %s", i,
                 gguf_quote(t->name, strlen(t->name)).text);
        if (t->offset != at) {
            return fail(p, ST_INVALID, p->pos,
                        "it is at %" PRIu64 " of the data instead of %" PRIu64
                        ", behind the tensor before",
                        t->offset, at);
        }
        if (t->n_bytes > GGUF_DATA_MAX || at > GGUF_DATA_MAX - t->n_bytes) {
            return fail(p, ST_TOO_LARGE, p->pos,
                        "with its %" PRIu64 " bytes the data is over the limit "
                        "of 2^62",
                        t->n_bytes);
        }
        end = at + t->n_bytes;
        t->offset += data_at;
    }
    g->files[0].n_bytes = data_at + end;
    return ST_OK;
}

/* From offsets in the data section to offsets in the file, which must hold
 * all of every tensor. */
static enum status place_tensors(struct parser *p)
{
    struct gguf *g = p->g;
    const uint64_t end = p->end;
    const uint64_t data_at = align_up(p->pos, g->alignment);
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        if (data_at > end || t->offset > end - data_at ||
            t->n_bytes > end - data_at - t->offset) {
            snprintf(p->item, sizeof p->item, "tensor %u %s", i,
                     gguf_quote(t->name, strlen(t->name)).text);
            return fail(p, ST_TRUNCATED, data_at,
                        "its %" PRIu64 " bytes at %" PRIu64 " of the data do "
                        "not lie in the file of %" PRIu64 " bytes",
                        t->n_bytes, t->offset, end);
        }
        t->offset += data_at;
    }
    return ST_OK;
}

/* ------------------------------------------------------------ whole */

static enum status check_version(const struct parser *p, uint32_t version)
{
    if (version == 2 || version == 3) return ST_OK;
    if (version == 1) {
        return fail(p, ST_UNSUPPORTED, 4,
                    "GGUF version 1 is not supported, only 2 and 3; convert "
                    "the model again");
    }
    if (version != 0 && (version & 0xffff) == 0) {
        return fail(p, ST_UNSUPPORTED, 4,
                    "a big-endian GGUF file; use the little-endian one");
    }
    return fail(p, ST_UNSUPPORTED, 4,
                "GGUF version %u is not supported, only 2 and 3", version);
}

static enum status check_magic(const struct parser *p, const uint8_t magic[4])
{
    static const char old[][5] = {"lmgg", "fmgg", "tjgg", "algg"};
    if (memcmp(magic, "GGUF", 4) == 0) return ST_OK;
    for (size_t i = 0; i < COUNT_OF(old); i++) {
        if (memcmp(magic, old[i], 4) == 0) {
            return fail(p, ST_UNSUPPORTED, 0,
                        "a GGML file from before GGUF; convert the model "
                        "again");
        }
    }
    return fail(p, ST_INVALID, 0,
                "not a GGUF file: it starts with %02x %02x %02x %02x instead "
                "of the magic \"GGUF\"",
                magic[0], magic[1], magic[2], magic[3]);
}

static enum status check_count(const struct parser *p, uint64_t n,
                               uint64_t limit, const char *what)
{
    if (n <= limit) return ST_OK;
    return fail(p, ST_TOO_LARGE, p->pos - sizeof n,
                "%" PRIu64 " %s, the limit is %" PRIu64, n, what, limit);
}

static enum status take_start(struct parser *p)
{
    struct gguf *g = p->g;
    uint32_t at;
    uint64_t n_tensors, n_keys;
    enum status st = take(p, 4, "the magic", &at);
    if (st == ST_OK) st = check_magic(p, g->header + at);
    if (st == ST_OK) st = take_u32(p, "the version", &g->version);
    if (st == ST_OK) st = check_version(p, g->version);
    if (st == ST_OK) st = take_u64(p, "the number of tensors", &n_tensors);
    if (st != ST_OK) return st;
    st = check_count(p, n_tensors, GGUF_TENSORS_MAX, "tensors");
    if (st == ST_OK) st = take_u64(p, "the number of keys", &n_keys);
    if (st != ST_OK) return st;
    st = check_count(p, n_keys, GGUF_KEYS_MAX, "keys");
    if (st == ST_OK) st = claim(p, n_keys, KEY_BYTES_MIN, "the list of keys");
    if (st == ST_OK) {
        st = claim(p, n_tensors, TENSOR_BYTES_MIN, "the list of tensors");
    }
    if (st != ST_OK) return st;
    g->kvs = mem_zalloc_array((size_t)n_keys, sizeof *g->kvs);
    if (!g->kvs) return fail_memory(p);
    g->n_keys = (uint32_t)n_keys;
    g->tensors = mem_zalloc_array((size_t)n_tensors, sizeof *g->tensors);
    if (!g->tensors) return fail_memory(p);
    g->n_tensors = (uint32_t)n_tensors;
    return ST_OK;
}

static enum status find_alignment(struct parser *p)
{
    static const char key[] = "general.alignment";
    struct gguf *g = p->g;
    g->alignment = ALIGNMENT_DEFAULT;
    const struct gguf_kv *kv = gguf_find_key(g, key);
    if (!kv) return ST_OK;
    uint32_t v;
    enum status st = gguf_get_u32(g, key, &v, p->err);
    if (st != ST_OK) return st;
    if (v < ALIGNMENT_MIN || v > ALIGNMENT_MAX || (v & (v - 1)) != 0) {
        snprintf(p->item, sizeof p->item, "key \"%s\"", key);
        return fail(p, ST_INVALID, kv->value_at,
                    "alignment %u is not a power of two from %d to %u", v,
                    ALIGNMENT_MIN, ALIGNMENT_MAX);
    }
    g->alignment = v;
    return ST_OK;
}

/* Give back what the last step of load() read too much, and let the arrays
 * know where they are. A file in memory stays whole. */
static enum status settle(struct parser *p)
{
    struct gguf *g = p->g;
    if (p->file->fd >= 0) {
        uint8_t *header = mem_realloc(g->header, (size_t)p->pos);
        if (!header) return fail_memory(p);
        g->header = header;
        g->header_len = (size_t)p->pos;
    }
    for (uint32_t i = 0; i < g->n_keys; i++) {
        g->kvs[i].array.header = g->header;
    }
    return ST_OK;
}

enum status gguf_parse(struct gguf *g, struct error *err)
{
    struct parser p = {
        .g = g, .file = &g->files[0], .end = g->files[0].n_bytes, .err = err};
    snprintf(p.item, sizeof p.item, "header");
    enum status st = take_start(&p);
    for (uint32_t i = 0; st == ST_OK && i < g->n_keys; i++) {
        st = take_kv(&p, i);
    }
    if (st == ST_OK) st = gguf_index_keys(g, err);
    if (st == ST_OK) st = find_alignment(&p);
    for (uint32_t i = 0; st == ST_OK && i < g->n_tensors; i++) {
        st = take_tensor(&p, i);
    }
    if (st == ST_OK) st = g->read ? place_header(&p) : place_tensors(&p);
    if (st == ST_OK) st = gguf_check_overlaps(g, err);
    if (st == ST_OK) st = settle(&p);
    return st;
}

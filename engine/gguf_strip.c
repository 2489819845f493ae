/* gguf_strip.c - headers made from a file's: for machines that do not have it,
 * and for the same tensors in other types.
 *
 * Keys are copied as they stand (the parser has seen each of their bytes), the
 * tensor directory is written anew.  Nothing of the tokenizer leaves this
 * machine: workers see token ids, and a vocabulary is most of a header. */
#include <inttypes.h>
#include <string.h>

#include "engine/gguf_internal.h"

/* Keys that begin so stay out; ends with NULL. */
static const char *const dropped_for_workers[] = {"tokenizer.", "split.", NULL};
static const char *const dropped_for_types[] = {
    "split.", "general.file_type", "general.quantization_version", NULL};

static bool stays(const struct gguf *g, const struct gguf_kv *kv,
                  const char *const *dropped)
{
    const char *key = (const char *)g->header + kv->key_at;
    for (; *dropped; dropped++) {
        const size_t n = strlen(*dropped);
        if (kv->key_len >= n && memcmp(key, *dropped, n) == 0) return false;
    }
    return true;
}

static enum status put_u32(struct buf *out, uint32_t v)
{
    return buf_append(out, &v, sizeof v);
}

static enum status put_u64(struct buf *out, uint64_t v)
{
    return buf_append(out, &v, sizeof v);
}

static enum status put_start(const struct gguf *g, const char *const *dropped,
                             uint64_t n_keys, struct buf *out)
{
    for (uint32_t i = 0; i < g->n_keys; i++) {
        n_keys += stays(g, &g->kvs[i], dropped);
    }
    enum status st = buf_append(out, "GGUF", 4);
    if (st == ST_OK) st = put_u32(out, 3);
    if (st == ST_OK) st = put_u64(out, g->n_tensors);
    if (st == ST_OK) st = put_u64(out, n_keys);
    return st;
}

static enum status put_keys(const struct gguf *g, const char *const *dropped,
                            struct buf *out)
{
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < g->n_keys; i++) {
        const struct gguf_kv *kv = &g->kvs[i];
        if (!stays(g, kv, dropped)) continue;
        const uint32_t start = gguf_kv_start(kv);
        st = buf_append(out, g->header + start, gguf_kv_end(g, kv) - start);
    }
    return st;
}

static enum status put_u32_key(const char *key, uint32_t v, struct buf *out)
{
    enum status st = put_u64(out, strlen(key));
    if (st == ST_OK) st = buf_append(out, key, strlen(key));
    if (st == ST_OK) st = put_u32(out, GGUF_U32);
    return st == ST_OK ? put_u32(out, v) : st;
}

static enum status put_tensor(const struct gguf_tensor *t, uint32_t type,
                              uint64_t offset, struct buf *out)
{
    const size_t name_len = strlen(t->name);
    enum status st = put_u64(out, name_len);
    if (st == ST_OK) st = buf_append(out, t->name, name_len);
    if (st == ST_OK) st = put_u32(out, t->n_dims);
    for (uint32_t i = 0; st == ST_OK && i < t->n_dims; i++) {
        st = put_u64(out, t->ne[i]);
    }
    if (st == ST_OK) st = put_u32(out, type);
    if (st == ST_OK) st = put_u64(out, offset);
    return st;
}

/* types: NULL: their own. */
static enum status put_tensors(const struct gguf *g, const uint32_t *types,
                               struct buf *out)
{
    uint64_t end = 0; /* of the data so far */
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        const uint32_t type = types ? types[i] : t->type;
        const uint64_t n_bytes = gguf_tensor_bytes(t, type);
        const uint64_t a = g->alignment;
        const uint64_t at = end + (a - end % a) % a;
        if (n_bytes > GGUF_DATA_MAX || at > GGUF_DATA_MAX - n_bytes) {
            return ST_TOO_LARGE;
        }
        st = put_tensor(t, type, at, out);
        end = at + n_bytes;
    }
    return st;
}

uint64_t gguf_tensor_bytes(const struct gguf_tensor *t, uint32_t type)
{
    if (type == t->type || !quant_info(type)) return t->n_bytes;
    /* elements are far below 2^60: the file holds them */
    uint64_t n_rows = 1;
    for (uint32_t i = 1; i < t->n_dims; i++) n_rows *= t->ne[i];
    return n_rows * quant_row_bytes((enum quant_type)type, t->ne[0]);
}

uint32_t gguf_alignment(const struct gguf *g)
{
    return g->alignment;
}

/* What a failed header leaves, and says. */
static enum status give_up(const struct gguf *g, struct buf *out, size_t before,
                           enum status st, struct error *err)
{
    out->len = before;
    if (out->data) out->data[before] = '\0';
    if (st == ST_NO_MEMORY) {
        return error_set(err, st, "%s: no memory left for its header",
                         g->files[0].name);
    }
    return error_set(err, st,
                     "%s: its new header is over %zu bytes, or its tensors are "
                     "over 2^62",
                     g->files[0].name, out->max - before);
}

enum status gguf_strip_header(const struct gguf *g, struct buf *out,
                              struct error *err)
{
    const size_t before = out->len;
    enum status st = put_start(g, dropped_for_workers, 0, out);
    if (st == ST_OK) st = put_keys(g, dropped_for_workers, out);
    if (st == ST_OK) st = put_tensors(g, NULL, out);
    return st == ST_OK ? ST_OK : give_up(g, out, before, st, err);
}

enum status gguf_retype_header(const struct gguf *g,
                               const struct gguf_retype *to, struct buf *out,
                               struct error *err)
{
    const size_t before = out->len;
    enum status st = put_start(g, dropped_for_types, 2, out);
    if (st == ST_OK) st = put_keys(g, dropped_for_types, out);
    if (st == ST_OK) st = put_u32_key("general.file_type", to->file_type, out);
    if (st == ST_OK) {
        st = put_u32_key("general.quantization_version",
                         GGUF_QUANTIZATION_VERSION, out);
    }
    if (st == ST_OK) st = put_tensors(g, to->types, out);
    while (st == ST_OK && (out->len - before) % g->alignment != 0) {
        st = buf_append(out, "", 1);
    }
    return st == ST_OK ? ST_OK : give_up(g, out, before, st, err);
}

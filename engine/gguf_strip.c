/* gguf_strip.c - the header of a model for machines that do not have its file.
 *
 * Keys are copied as they stand (the parser has seen each of their bytes), the
 * tensor directory is written anew.  Nothing of the tokenizer leaves this
 * machine: workers see token ids, and a vocabulary is most of a header. */
#include <inttypes.h>
#include <string.h>

#include "engine/gguf_internal.h"

static bool stays(const struct gguf *g, const struct gguf_kv *kv)
{
    static const char *const dropped[] = {"tokenizer.", "split."};
    const char *key = (const char *)g->header + kv->key_at;
    for (size_t i = 0; i < COUNT_OF(dropped); i++) {
        const size_t n = strlen(dropped[i]);
        if (kv->key_len >= n && memcmp(key, dropped[i], n) == 0) return false;
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

static enum status put_start(const struct gguf *g, struct buf *out)
{
    uint64_t n_keys = 0;
    for (uint32_t i = 0; i < g->n_keys; i++) n_keys += stays(g, &g->kvs[i]);
    enum status st = buf_append(out, "GGUF", 4);
    if (st == ST_OK) st = put_u32(out, 3);
    if (st == ST_OK) st = put_u64(out, g->n_tensors);
    if (st == ST_OK) st = put_u64(out, n_keys);
    return st;
}

static enum status put_keys(const struct gguf *g, struct buf *out)
{
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < g->n_keys; i++) {
        const struct gguf_kv *kv = &g->kvs[i];
        if (!stays(g, kv)) continue;
        const uint32_t start = gguf_kv_start(kv);
        st = buf_append(out, g->header + start, gguf_kv_end(g, kv) - start);
    }
    return st;
}

static enum status put_tensor(const struct gguf_tensor *t, uint64_t offset,
                              struct buf *out)
{
    const size_t name_len = strlen(t->name);
    enum status st = put_u64(out, name_len);
    if (st == ST_OK) st = buf_append(out, t->name, name_len);
    if (st == ST_OK) st = put_u32(out, t->n_dims);
    for (uint32_t i = 0; st == ST_OK && i < t->n_dims; i++) {
        st = put_u64(out, t->ne[i]);
    }
    if (st == ST_OK) st = put_u32(out, t->type);
    if (st == ST_OK) st = put_u64(out, offset);
    return st;
}

static enum status put_tensors(const struct gguf *g, struct buf *out)
{
    uint64_t end = 0; /* of the data so far */
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        const uint64_t a = g->alignment;
        const uint64_t at = end + (a - end % a) % a;
        if (t->n_bytes > GGUF_DATA_MAX || at > GGUF_DATA_MAX - t->n_bytes) {
            return ST_TOO_LARGE;
        }
        st = put_tensor(t, at, out);
        end = at + t->n_bytes;
    }
    return st;
}

enum status gguf_strip_header(const struct gguf *g, struct buf *out,
                              struct error *err)
{
    const size_t before = out->len;
    enum status st = put_start(g, out);
    if (st == ST_OK) st = put_keys(g, out);
    if (st == ST_OK) st = put_tensors(g, out);
    if (st == ST_OK) return ST_OK;
    out->len = before;
    if (out->data) out->data[before] = '\0';
    if (st == ST_NO_MEMORY) {
        return error_set(err, st, "%s: no memory left for its header",
                         g->files[0].name);
    }
    return error_set(err, st,
                     "%s: its header without the vocabulary is over %zu bytes, "
                     "or its tensors are over 2^62",
                     g->files[0].name, out->max - before);
}

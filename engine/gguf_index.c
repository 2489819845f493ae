/* gguf_index.c - keys and tensors in order: by name to find them, by place to
 * see overlaps.
 *
 * Sorted ids and binary search.  Not a hash table, because a file could
 * choose names that collide; not qsort, because its comparison has no context
 * and glibc's calls malloc. */
#include "engine/gguf_internal.h"

#include <inttypes.h>
#include <string.h>

/* < 0, 0, > 0 for items a and b of g. */
typedef int compare_fn(const struct gguf *g, uint32_t a, uint32_t b);

static int compare_bytes(const uint8_t *a, size_t n_a, const uint8_t *b,
                         size_t n_b)
{
    const int c = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return c != 0 ? c : (n_a > n_b) - (n_a < n_b);
}

static int compare_keys(const struct gguf *g, uint32_t a, uint32_t b)
{
    const struct gguf_kv *x = &g->kvs[a], *y = &g->kvs[b];
    return compare_bytes(g->header + x->key_at, x->key_len,
                         g->header + y->key_at, y->key_len);
}

static int compare_names(const struct gguf *g, uint32_t a, uint32_t b)
{
    return strcmp(g->tensors[a].name, g->tensors[b].name);
}

static int compare_places(const struct gguf *g, uint32_t a, uint32_t b)
{
    const uint64_t x = g->tensors[a].offset, y = g->tensors[b].offset;
    return (x > y) - (x < y);
}

/* from[0, mid) and from[mid, n), each sorted, to to[0, n). */
static void merge(const struct gguf *g, compare_fn *compare,
                  const uint32_t *from, uint32_t mid, uint32_t n, uint32_t *to)
{
    uint32_t a = 0, b = mid;
    for (uint32_t i = 0; i < n; i++) {
        const bool left =
            b == n || (a < mid && compare(g, from[a], from[b]) <= 0);
        to[i] = left ? from[a++] : from[b++];
    }
}

/* 0 ... n-1 sorted, stable; the caller's.  NULL: no memory. */
static uint32_t *sorted_ids(const struct gguf *g, compare_fn *compare,
                            uint32_t n)
{
    uint32_t *a = mem_zalloc_array(n, sizeof *a);
    uint32_t *b = mem_zalloc_array(n, sizeof *b);
    if (!a || !b) {
        mem_free(a);
        mem_free(b);
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) a[i] = i;
    for (uint32_t width = 1; width < n; width *= 2) {
        for (uint32_t i = 0; i < n; i += 2 * width) {
            const uint32_t run = n - i < 2 * width ? n - i : 2 * width;
            const uint32_t mid = run < width ? run : width;
            merge(g, compare, a + i, mid, run, b + i);
        }
        uint32_t *t = a;
        a = b;
        b = t;
    }
    mem_free(b);
    return a;
}

static enum status fail_memory(const struct gguf *g, struct error *err)
{
    return error_set(err, ST_NO_MEMORY,
                     "%s: no memory left to index %u keys and %u tensors",
                     g->files[0].name, g->n_keys, g->n_tensors);
}

enum status gguf_index_keys(struct gguf *g, struct error *err)
{
    g->key_order = sorted_ids(g, compare_keys, g->n_keys);
    if (!g->key_order) return fail_memory(g, err);
    for (uint32_t i = 1; i < g->n_keys; i++) {
        const uint32_t a = g->key_order[i - 1], b = g->key_order[i];
        if (compare_keys(g, a, b) != 0) continue;
        const struct gguf_kv *x = &g->kvs[a], *y = &g->kvs[b];
        const char *key = (const char *)g->header + y->key_at;
        return error_set(err, ST_INVALID,
                         "%s: key %s occurs twice (bytes %u and %u)",
                         g->files[0].name, gguf_quote(key, y->key_len).text,
                         x->key_at, y->key_at);
    }
    return ST_OK;
}

enum status gguf_index_tensors(struct gguf *g, struct error *err)
{
    g->tensor_order = sorted_ids(g, compare_names, g->n_tensors);
    if (!g->tensor_order) return fail_memory(g, err);
    for (uint32_t i = 1; i < g->n_tensors; i++) {
        const uint32_t a = g->tensor_order[i - 1], b = g->tensor_order[i];
        if (compare_names(g, a, b) != 0) continue;
        const struct gguf_tensor *x = &g->tensors[a], *y = &g->tensors[b];
        return error_set(
            err, ST_INVALID,
            "%s: tensor %s occurs twice (numbers %u and %u, data "
            "at byte %" PRIu64 " of file %u and byte %" PRIu64 " of file %u)",
            g->files[y->split].name, gguf_quote(y->name, strlen(y->name)).text,
            a, b, x->offset, x->split + 1, y->offset, y->split + 1);
    }
    return ST_OK;
}

enum status gguf_check_overlaps(const struct gguf *g, struct error *err)
{
    uint32_t *order = sorted_ids(g, compare_places, g->n_tensors);
    if (!order) return fail_memory(g, err);
    enum status st = ST_OK;
    /* The one before, of those whose size is known.  None overlapped so far,
     * so it also ends last. */
    const struct gguf_tensor *before = NULL;
    for (uint32_t i = 0; i < g->n_tensors && st == ST_OK; i++) {
        const struct gguf_tensor *t = &g->tensors[order[i]];
        if (before && t->offset - before->offset < before->n_bytes) {
            st = error_set(
                err, ST_INVALID,
                "%s: tensor %s at byte %" PRIu64 " overlaps tensor %s, %" PRIu64
                " bytes at byte %" PRIu64,
                g->files[0].name, gguf_quote(t->name, strlen(t->name)).text,
                t->offset, gguf_quote(before->name, strlen(before->name)).text,
                before->n_bytes, before->offset);
        }
        if (t->n_bytes != 0) before = t;
    }
    mem_free(order);
    return st;
}

const struct gguf_kv *gguf_find_key(const struct gguf *g, const char *key)
{
    const size_t len = strlen(key);
    uint32_t first = 0, end = g->n_keys;
    while (first < end) {
        const uint32_t mid = first + (end - first) / 2;
        const struct gguf_kv *kv = &g->kvs[g->key_order[mid]];
        const int c = compare_bytes((const uint8_t *)key, len,
                                    g->header + kv->key_at, kv->key_len);
        if (c == 0) return kv;
        if (c < 0) {
            end = mid;
        } else {
            first = mid + 1;
        }
    }
    return NULL;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g,
                                           const char *name)
{
    uint32_t first = 0, end = g->n_tensors;
    while (first < end) {
        const uint32_t mid = first + (end - first) / 2;
        const struct gguf_tensor *t = &g->tensors[g->tensor_order[mid]];
        const int c = strcmp(name, t->name);
        if (c == 0) return t;
        if (c < 0) {
            end = mid;
        } else {
            first = mid + 1;
        }
    }
    return NULL;
}

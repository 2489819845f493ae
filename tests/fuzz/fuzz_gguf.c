/* fuzz_gguf.c - any bytes as a GGUF file: open, and use all that it offers.
 *
 * What is read is folded into a sum, so that the sanitizers see every byte
 * that a caller could. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink;

static uint64_t sum_str(struct gguf_str s)
{
    uint64_t sum = s.len;
    for (size_t i = 0; i < s.len; i++) sum += (unsigned char)s.data[i];
    return sum;
}

static uint64_t sum_array(const struct gguf_array *a)
{
    uint64_t sum = 0;
    const enum gguf_type type = gguf_array_type(a);
    for (uint64_t i = 0; i < gguf_array_len(a); i++) {
        if (type == GGUF_STRING) {
            sum += sum_str(gguf_array_str(a, i));
        } else if (type == GGUF_F32 || type == GGUF_F64) {
            sum += gguf_array_f32(a, i) > 0;
        } else {
            sum += (uint32_t)gguf_array_i32(a, i);
        }
    }
    return sum;
}

/* Every getter on every key; exactly those of its type may succeed. */
static uint64_t walk_key(const struct gguf *g, uint32_t i)
{
    enum gguf_type type;
    const struct gguf_str name = gguf_key(g, i, &type);
    char *key = mem_strndup(name.data, name.len);
    if (!key) return 0;
    uint64_t sum = sum_str(name);
    struct error err;
    struct gguf_str s;
    const struct gguf_array *a;
    uint32_t u;
    float f;
    bool b;
    if (gguf_get_u32(g, key, &u, &err) == ST_OK) sum += u;
    if (gguf_get_f32(g, key, &f, &err) == ST_OK) sum += f > 0;
    const bool is_bool = gguf_get_bool(g, key, &b, &err) == ST_OK;
    const bool is_str = gguf_get_str(g, key, &s, &err) == ST_OK;
    const bool is_array =
        gguf_get_array(g, key, GGUF_TYPE_END, &a, &err) == ST_OK;
    if (is_bool != (type == GGUF_BOOL) || is_str != (type == GGUF_STRING) ||
        is_array != (type == GGUF_ARRAY)) {
        abort();
    }
    if (is_str) sum += sum_str(s);
    if (is_array) sum += sum_array(a);
    if (gguf_get_array(g, key, GGUF_I32, &a, &err) == ST_OK) {
        sum += sum_array(a);
    }
    if (gguf_get_array(g, key, GGUF_F32, &a, &err) == ST_OK) {
        sum += sum_array(a);
    }
    mem_free(key);
    return sum;
}

static uint64_t walk_tensor(const struct gguf *g, uint32_t i)
{
    const struct gguf_tensor *t = gguf_tensor(g, i);
    uint64_t sum = t->n_dims;
    char bytes[16];
    if (gguf_find_tensor(g, t->name) != t) abort();
    if (t->offset > gguf_file_bytes(g) ||
        t->n_bytes > gguf_file_bytes(g) - t->offset) {
        abort();
    }
    const size_t n =
        t->n_bytes < sizeof bytes ? (size_t)t->n_bytes : sizeof bytes;
    if (gguf_read(g, t, 0, bytes, n, NULL) != ST_OK) abort();
    for (size_t k = 0; k < n; k++) sum += (unsigned char)bytes[k];
    if (gguf_read(g, t, t->n_bytes - n, bytes, n, NULL) != ST_OK) abort();
    if (gguf_read(g, t, t->n_bytes, bytes, 1, NULL) == ST_OK) abort();
    return sum;
}

static enum status read_nothing(void *arg, uint32_t i, uint64_t from, void *dst,
                                size_t n, struct error *err)
{
    (void)arg, (void)i, (void)from, (void)dst, (void)n;
    return error_set(err, ST_IO, "nothing may be read");
}

/* What opens as a file can be sent as a header, which opens too. */
static void strip(const struct gguf *g)
{
    struct buf b;
    struct gguf *h = NULL;
    buf_init(&b, 64 << 20);
    if (gguf_strip_header(g, &b, NULL) != ST_OK) abort();
    if (gguf_open_header(&h, b.data, b.len, read_nothing, NULL, NULL) !=
        ST_OK) {
        abort();
    }
    if (gguf_n_tensors(h) != gguf_n_tensors(g)) abort();
    gguf_close(h);
    buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t before = mem_in_use();
    struct gguf *g = NULL;
    struct error err = {.text = ""};
    const enum status st = gguf_open_mem(&g, data, size, &err);
    if (st != ST_OK) {
        if (g || err.status != st || strlen(err.text) == 0) abort();
    } else {
        uint64_t sum = gguf_version(g);
        for (uint32_t i = 0; i < gguf_n_keys(g); i++) sum += walk_key(g, i);
        for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
            sum += walk_tensor(g, i);
        }
        sink = sum;
        strip(g);
        gguf_close(g);
    }
    if (mem_in_use() != before) abort();
    return 0;
}

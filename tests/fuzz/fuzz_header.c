/* fuzz_header.c - any bytes as a model's header from another machine: open it,
 * describe the model, lay the grid of cells, strip it again.
 *
 * What must hold: cells cover each tensor without a gap; a header that opens,
 * stripped, opens again, and stripped again is the same; a plan may be absurd
 * in size, but is computed without memory to match. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cell.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink;

/* Fills what it is told to, which the sanitizers watch. */
static enum status fill(void *arg, struct cell_id id, void *dst, size_t n,
                        struct error *err)
{
    (void)arg;
    (void)err;
    if (n > CELL_BYTES_MAX) abort();
    memset(dst, (int)(id.cell & 0xff), n);
    return ST_OK;
}

static void walk_tensor(const struct gguf *g, uint32_t i)
{
    const struct gguf_tensor *t = gguf_tensor(g, i);
    const struct cell_grid grid = cell_grid(t);
    char bytes[40];
    uint64_t end = 0;
    const uint32_t n = grid.n < 64 ? grid.n : 64;
    for (uint32_t c = 0; c < n; c++) {
        const struct cell_range r = cell_range(t, c);
        if (r.n == 0 || r.n > CELL_BYTES_MAX || r.from != end) abort();
        const struct cell_span s = cell_span(t, r.from, r.n);
        if (s.first != c || s.end != c + 1) abort();
        end += r.n;
    }
    if (grid.n != 0) {
        const struct cell_range last = cell_range(t, grid.n - 1);
        if (last.from + last.n != t->n_bytes) abort();
        if (n == grid.n && end != t->n_bytes) abort();
        const size_t some =
            t->n_bytes < sizeof bytes ? (size_t)t->n_bytes : sizeof bytes;
        if (gguf_read(g, t, t->n_bytes - some, bytes, some, NULL) != ST_OK) {
            abort();
        }
        sink += (unsigned char)bytes[0];
    }
    if (cell_range(t, grid.n).n != 0) abort();
    if (gguf_read(g, t, t->n_bytes, bytes, 1, NULL) == ST_OK) abort();
}

static void describe(const struct gguf *g)
{
    struct model m;
    struct shard_spec spec;
    struct cell_list list;
    if (model_describe(&m, g, NULL) != ST_OK) return;
    if (shard_spec_whole(&spec, &m, NULL) == ST_OK) {
        const struct shard_options o = {.isa = ISA_REF,
                                        .n_threads = 1,
                                        .n_ctx = 1,
                                        .n_seq_max = 1,
                                        .rows_max = 1,
                                        .outputs_max = 1};
        sink += shard_plan(&m, &spec, &o).total;
        /* a list of a model that would not fit any machine takes long */
        if (cell_total(g) < 100000 &&
            cell_list(&list, &m, &spec, NULL) == ST_OK) {
            if (list.n > cell_total(g)) abort();
            mem_free(list.ids);
        }
        mem_free(spec.layers);
    }
    model_fini(&m);
}

static void strip_again(const struct gguf *g)
{
    struct buf a, b;
    struct gguf *h = NULL;
    struct cell_source source = {.fetch = fill};
    buf_init(&a, 64 << 20);
    buf_init(&b, 64 << 20);
    if (gguf_strip_header(g, &a, NULL) != ST_OK) abort();
    if (gguf_open_header(&h, a.data, a.len, cell_source_read, &source, NULL) !=
        ST_OK) {
        abort();
    }
    if (gguf_strip_header(h, &b, NULL) != ST_OK) abort();
    if (a.len != b.len || memcmp(a.data, b.data, a.len) != 0) abort();
    gguf_close(h);
    buf_fini(&a);
    buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t before = mem_in_use();
    struct gguf *g = NULL;
    struct error err = {.text = ""};
    struct cell_source source = {.fetch = fill};
    const enum status st =
        gguf_open_header(&g, data, size, cell_source_read, &source, &err);
    if (st != ST_OK) {
        if (g || err.status != st || strlen(err.text) == 0) abort();
    } else {
        source.gguf = g;
        for (uint32_t i = 0; i < gguf_n_tensors(g); i++) walk_tensor(g, i);
        describe(g);
        strip_again(g);
        gguf_close(g);
    }
    if (mem_in_use() != before) abort();
    return 0;
}

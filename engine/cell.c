#include "engine/cell.h"

#include <string.h>

static uint64_t floor_power_of_2(uint64_t v)
{
    return UINT64_C(1) << (63 - __builtin_clzll(v));
}

struct cell_grid cell_grid(const struct gguf_tensor *t)
{
    const struct cell_grid none = {0};
    const struct quant_info *info = quant_info(t->type);
    if (!info || t->n_bytes == 0) return none;
    /* the parser has seen to it that none of this overflows */
    const uint64_t row_bytes = t->ne[0] / info->block * info->block_bytes;
    const uint64_t n_planes = t->ne[2] * t->ne[3];
    if (row_bytes > CELL_BYTES_MAX) return none;
    const uint64_t fit = CELL_BYTES / row_bytes;
    const uint64_t rows = fit == 0 ? 1 : floor_power_of_2(fit);
    const uint64_t per_plane = t->ne[1] / rows + (t->ne[1] % rows != 0);
    if (per_plane > UINT32_MAX / n_planes) return none;
    return (struct cell_grid){
        .plane_bytes = t->ne[1] * row_bytes,
        .cell_bytes = rows * row_bytes,
        .per_plane = (uint32_t)per_plane,
        .n = (uint32_t)(per_plane * n_planes),
    };
}

struct cell_range cell_range(const struct gguf_tensor *t, uint32_t cell)
{
    const struct cell_grid g = cell_grid(t);
    if (cell >= g.n) return (struct cell_range){0};
    const uint64_t in_plane = cell % g.per_plane * g.cell_bytes;
    const uint64_t left = g.plane_bytes - in_plane;
    return (struct cell_range){
        .from = cell / g.per_plane * g.plane_bytes + in_plane,
        .n = (size_t)(left < g.cell_bytes ? left : g.cell_bytes),
    };
}

/* The cell of a byte of a tensor with this grid. */
static uint32_t cell_at(const struct cell_grid *g, uint64_t byte)
{
    const uint64_t plane = byte / g->plane_bytes;
    const uint64_t in_plane = byte % g->plane_bytes;
    return (uint32_t)(plane * g->per_plane + in_plane / g->cell_bytes);
}

struct cell_span cell_span(const struct gguf_tensor *t, uint64_t from,
                           uint64_t n)
{
    const struct cell_grid g = cell_grid(t);
    if (g.n == 0 || n == 0 || from > t->n_bytes || n > t->n_bytes - from) {
        return (struct cell_span){0};
    }
    return (struct cell_span){cell_at(&g, from), cell_at(&g, from + n - 1) + 1};
}

uint64_t cell_total(const struct gguf *g)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        n += cell_grid(gguf_tensor(g, i)).n;
    }
    return n;
}

/* ------------------------------------------------------------- list */

#define UNTOUCHED UINT64_MAX

struct listing {
    const struct gguf *g;
    uint64_t *first;   /* [n_tensors] of its bits in seen; or UNTOUCHED */
    uint64_t n_bits;   /* of the tensors touched so far */
    uint64_t n_wanted; /* cells, those that are wanted twice counted twice */
    uint64_t *seen;
    struct cell_list list;
};

static uint32_t index_of(const struct gguf *g, const struct gguf_tensor *t)
{
    return (uint32_t)(t - gguf_tensor(g, 0)); /* tensors are one array */
}

/* First walk: give each tensor that is read its bits.  What the model does not
 * read is left out, as nobody has checked its size. */
static enum status touch(void *arg, const struct shard_range *r,
                         struct error *err)
{
    struct listing *l = arg;
    const struct cell_grid grid = cell_grid(r->tensor);
    uint64_t *first = &l->first[index_of(l->g, r->tensor)];
    if (grid.n == 0 || r->from > r->tensor->n_bytes ||
        r->n > r->tensor->n_bytes - r->from) {
        return error_set(err, ST_INVALID, "tensor %s has no cells for this",
                         r->tensor->name);
    }
    const struct cell_span span = cell_span(r->tensor, r->from, r->n);
    l->n_wanted += span.end - span.first;
    if (*first == UNTOUCHED) {
        *first = l->n_bits;
        l->n_bits += grid.n;
    }
    if (l->n_bits > CELLS_MAX) {
        return error_set(err, ST_TOO_LARGE,
                         "a model of more than %u pieces of 1 MiB", CELLS_MAX);
    }
    return ST_OK;
}

static enum status list_range(void *arg, const struct shard_range *r,
                              struct error *err)
{
    (void)err;
    struct listing *l = arg;
    const uint32_t tensor = index_of(l->g, r->tensor);
    const struct cell_span span = cell_span(r->tensor, r->from, r->n);
    for (uint32_t c = span.first; c < span.end; c++) {
        const uint64_t bit = l->first[tensor] + c;
        uint64_t *word = &l->seen[bit / 64];
        const uint64_t mask = UINT64_C(1) << bit % 64;
        if (*word & mask) continue;
        *word |= mask;
        l->list.ids[l->list.n++] = (struct cell_id){tensor, c};
        l->list.bytes += cell_range(r->tensor, c).n;
    }
    return ST_OK;
}

enum status cell_list(struct cell_list *out, const struct model *m,
                      const struct shard_spec *spec, struct error *err)
{
    const uint32_t n_tensors = gguf_n_tensors(m->gguf);
    struct listing l = {.g = m->gguf};
    enum status st = ST_OK;
    l.first = mem_zalloc_array(n_tensors, sizeof *l.first);
    if (!l.first) goto no_memory;
    for (uint32_t i = 0; i < n_tensors; i++) l.first[i] = UNTOUCHED;
    st = shard_walk(m, spec, touch, &l, err);
    if (st != ST_OK) goto done;
    l.seen = mem_zalloc_array((size_t)(l.n_bits / 64 + 1), sizeof *l.seen);
    l.list.ids = mem_zalloc_array((size_t)l.n_wanted, sizeof *l.list.ids);
    if (!l.seen || !l.list.ids) goto no_memory;
    st = shard_walk(m, spec, list_range, &l, err);
    goto done;
no_memory:
    st = error_set(err, ST_NO_MEMORY, "no memory left for a list of cells");
done:
    mem_free(l.first);
    mem_free(l.seen);
    if (st == ST_OK) {
        *out = l.list;
    } else {
        mem_free(l.list.ids);
    }
    return st;
}

/* ----------------------------------------------------------- source */

enum status cell_source_read(void *source, uint32_t tensor, uint64_t from,
                             void *dst, size_t n, struct error *err)
{
    const struct cell_source *s = source;
    const struct gguf_tensor *t = gguf_tensor(s->gguf, tensor);
    const struct cell_span span = cell_span(t, from, n);
    char *to = dst, *whole = NULL; /* a cell of which only a part is wanted */
    enum status st = ST_OK;
    if (n != 0 && span.end == 0) {
        return error_set(err, ST_INVALID, "tensor %s has no cells for this",
                         t->name);
    }
    for (uint32_t c = span.first; st == ST_OK && c < span.end; c++) {
        const struct cell_range range = cell_range(t, c);
        const struct cell_id id = {tensor, c};
        const size_t skip = from > range.from ? (size_t)(from - range.from) : 0;
        const size_t left = range.n - skip;
        const size_t take = left < n ? left : n;
        if (take == range.n) {
            st = s->fetch(s->arg, id, to, range.n, err);
        } else {
            if (!whole) whole = mem_alloc(cell_grid(t).cell_bytes);
            if (!whole) {
                return error_set(err, ST_NO_MEMORY,
                                 "no memory left for a cell of tensor %s",
                                 t->name);
            }
            st = s->fetch(s->arg, id, whole, range.n, err);
            if (st == ST_OK) memcpy(to, whole + skip, take);
        }
        to += take;
        from += take;
        n -= take;
    }
    mem_free(whole);
    return st;
}

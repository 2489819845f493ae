/* cell.h - the pieces in which a model's bytes travel and are cached.
 *
 * Depends on: gguf, shard (what a shard reads).  Thread: any; no state.
 *
 * The grid of a tensor follows from its type and shape alone, so that a piece
 * fetched for one plan serves every other.  A cell is a power of two of whole
 * canonical rows, at most about 1 MiB: ranges of rows that start at multiples
 * of 256 (of the head, say) then share no cell with their neighbours unless
 * rows are very short.  Cells count through the rows of the first plane (of the
 * first expert), then of the next; the last of a plane may be shorter, none
 * straddles two.  Rows are not cut along K in this version. */
#ifndef ENGINE_CELL_H
#define ENGINE_CELL_H

#include "engine/shard.h"

#define CELL_BYTES     (1u << 20) /* as much as rows allow, unless one is more */
#define CELL_BYTES_MAX (8u << 20) /* a tensor with longer rows has no cells */
#define CELLS_MAX      (1u << 24) /* of a model: some 8 to 16 TiB */

/* tensor: index as in gguf_tensor, of the file and of its header alike. */
struct cell_id {
    uint32_t tensor, cell;
};

struct cell_grid {
    uint64_t plane_bytes; /* whole rows of one plane */
    uint64_t cell_bytes;  /* of all cells but the last of a plane */
    uint32_t per_plane;
    uint32_t n; /* cells; 0: a type that we do not know, rows over
                   CELL_BYTES_MAX, or more cells than 32 bits count */
};
struct cell_grid cell_grid(const struct gguf_tensor *t);

/* The bytes of a cell in its tensor; n 0: there is no such cell. */
struct cell_range {
    uint64_t from;
    size_t n;
};
struct cell_range cell_range(const struct gguf_tensor *t, uint32_t cell);

/* The cells [first, end) that hold bytes [from, from + n) of the tensor;
 * empty if n is 0, the range is not inside, or there is no grid. */
struct cell_span {
    uint32_t first, end;
};
struct cell_span cell_span(const struct gguf_tensor *t, uint64_t from,
                           uint64_t n);

/* Cells of all tensors. */
uint64_t cell_total(const struct gguf *g);

/* The cells that shard_create will read for this spec, each once, in the order
 * in which it first wants them.  ids: the caller's (mem_free); bytes: of all.
 * ST_INVALID as shard_walk, ST_TOO_LARGE over CELLS_MAX, ST_NO_MEMORY. */
struct cell_list {
    struct cell_id *ids;
    size_t n;
    uint64_t bytes;
};
NODISCARD enum status cell_list(struct cell_list *out, const struct model *m,
                                const struct shard_spec *spec,
                                struct error *err);

/* A model's bytes out of cells: cell_source_read is a gguf_read_fn whose arg is
 * a struct cell_source (set gguf once gguf_open_header has given it).  fetch
 * fills dst with the n bytes of a cell, on the reader's thread: several at
 * once.  It goes straight to where the bytes are wanted, unless only a part of
 * the cell is. */
typedef enum status cell_fetch_fn(void *arg, struct cell_id id, void *dst,
                                  size_t n, struct error *err);
struct cell_source {
    const struct gguf *gguf;
    cell_fetch_fn *fetch;
    void *arg;
};
NODISCARD enum status cell_source_read(void *source, uint32_t tensor,
                                       uint64_t from, void *dst, size_t n,
                                       struct error *err);

#endif

/* manifest.h - the name (BLAKE2b-256) of every cell of the model being served.
 *
 * Depends on: cell, hash, files.  Thread: any, several at once; what reads the
 * model may block on the disk and belongs on a loader thread.
 *
 * Hashing a whole model before the first answer would cost minutes, so a cell
 * is hashed when it is first served, and remembered: in memory, and by
 * manifest_save in STATE/manifests, where the next start finds it as long as
 * path, sizes and times of modification of all files of the model are the
 * same.  A file there that is damaged, or of a model that has changed, is as
 * good as none. */
#ifndef COORDINATOR_MANIFEST_H
#define COORDINATOR_MANIFEST_H

#include "engine/cell.h"
#include "proto/hash.h"

struct manifest;

/* One line for the log, without a newline; may be NULL. */
typedef void manifest_say_fn(void *arg, const char *line);

/* g: opened from path, borrowed until manifest_close.  state_dir is made if it
 * is not there, when there is something to save.  ST_TOO_LARGE: more than
 * CELLS_MAX cells; ST_NO_MEMORY. */
NODISCARD enum status manifest_open(struct manifest **out, const struct gguf *g,
                                    const char *path, const char *state_dir,
                                    manifest_say_fn *say, void *say_arg,
                                    struct error *err);
void manifest_close(struct manifest *m); /* saves nothing; NULL allowed */

/* The canonical bytes of a cell, appended to out, and their hash. ST_NOT_FOUND:
 * no such cell; ST_INVALID: the file has been written to since it was opened;
 * ST_IO, ST_TRUNCATED, ST_TOO_LARGE (out's maximum), ST_NO_MEMORY; out and hash
 * are then unchanged. */
NODISCARD enum status manifest_read_cell(struct manifest *m, struct cell_id id,
                                         struct buf *out,
                                         uint8_t hash[HASH_BYTES],
                                         struct error *err);
/* The hash alone; reads the cell if its hash is not known yet. */
NODISCARD enum status manifest_hash(struct manifest *m, struct cell_id id,
                                    uint8_t hash[HASH_BYTES],
                                    struct error *err);
/* False if that would read the cell.  Never blocks on the disk. */
NODISCARD bool manifest_known(struct manifest *m, struct cell_id id,
                              uint8_t hash[HASH_BYTES]);

/* Cells in all, and of them with a known hash. */
void manifest_counts(struct manifest *m, uint64_t *n_cells, uint64_t *n_known);

/* Writes what is known, all or nothing; does nothing if nothing is new. */
NODISCARD enum status manifest_save(struct manifest *m, struct error *err);

#endif

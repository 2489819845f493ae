/* files.h - the folders and small files in which a daemon keeps its state.
 *
 * Depends on: status, buf.  Thread: any; all of it blocks on the disk.
 *
 * A process whose files may grow over a limit ignores SIGXFSZ, so that a full
 * quota is an error like any other. */
#ifndef COMMON_FILES_H
#define COMMON_FILES_H

#include <sys/types.h>

#include "common/buf.h"

#define FILES_PATH_BYTES 4096

/* $VARIABLE/potluckBELOW, or ~/UNDER_HOME/potluckBELOW where that variable is
 * not an absolute path; below: "" or "/..."; nothing is made.  ST_USAGE: there
 * is no home either, or the path is too long; the sentence names option, which
 * gives the folder otherwise. */
NODISCARD enum status files_xdg(char path[FILES_PATH_BYTES],
                                const char *variable, const char *under_home,
                                const char *below, const char *option,
                                struct error *err);

/* mkdir -p, mode 0700.  ST_IO: names the part that cannot be made, or is no
 * folder; ST_USAGE: empty, or FILES_PATH_BYTES and more. */
NODISCARD enum status files_make_dir(const char *path, struct error *err);

/* All or nothing, also through a power cut: another file of this mode takes
 * the place of path.  ST_IO names the file; whatever was there stays. */
NODISCARD enum status files_write(const char *path, const void *data, size_t n,
                                  mode_t mode, struct error *err);

/* A whole file, appended to out.  ST_NOT_FOUND; ST_INVALID: no regular file,
 * or its mode has one of the bits `refused` (open to others, say); ST_TOO_LARGE
 * (out's maximum), ST_NO_MEMORY, ST_IO; out is then unchanged. */
NODISCARD enum status files_read(struct buf *out, const char *path,
                                 mode_t refused, struct error *err);

#endif

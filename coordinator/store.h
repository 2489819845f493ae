/* store.h - STATE, the folder in which a coordinator keeps what outlives it.
 *
 * Depends on: common/files; jansson.  Thread: main and loop; it blocks on the
 * disk, for small files.
 *
 *     STATE/lock             held while a coordinator runs here
 *     STATE/key              its key pair           (proto/net.h)
 *     STATE/keys             who may join           (admit.h)
 *     STATE/manifests/       hashes of the models   (manifest.h)
 *     STATE/addresses.json   where it listens; there while it runs
 *     STATE/join             the join string        0600
 *     STATE/operator         what lets the operator's own commands in, 0600 */
#ifndef COORDINATOR_STORE_H
#define COORDINATOR_STORE_H

#include "common/files.h"

#define STORE_OPERATOR_BYTES 65 /* 64 hexadecimal digits and NUL */

struct store;

/* dir NULL: $XDG_STATE_HOME/potluck/coordinator, else
 * ~/.local/state/potluck/coordinator.  Made if it is not there (0700).
 * ST_FULL: another coordinator runs on it; ST_USAGE: no such path; ST_IO,
 * ST_NO_MEMORY.  An addresses.json that one left behind which was killed is
 * removed. */
NODISCARD enum status store_open(struct store **out, const char *dir,
                                 struct error *err);
/* Removes addresses.json and lets go of the lock; NULL allowed. */
void store_close(struct store *s);

const char *store_dir(const struct store *s);
/* STATE/name; false, and path "", if that is too long. */
NODISCARD bool store_path(const struct store *s, const char *name,
                          char path[FILES_PATH_BYTES]);
/* STATE/name, all or nothing. */
NODISCARD enum status store_write(struct store *s, const char *name,
                                  const void *data, size_t n, mode_t mode,
                                  struct error *err);

/* {"listen":"HOST:PORT","http":"HOST:PORT","pid":N}; http "" if there is
 * none. ST_INVALID: no UTF-8. */
NODISCARD enum status store_addresses(struct store *s, const char *listen,
                                      const char *http, struct error *err);
/* The join string, as STATE/join. */
NODISCARD enum status store_join(struct store *s, const char *text,
                                 struct error *err);
/* Made at the first start, the same ever after.  ST_INVALID: it is damaged or
 * open to others. */
NODISCARD enum status store_operator(struct store *s,
                                     char secret[STORE_OPERATOR_BYTES],
                                     struct error *err);

#endif

/* remember.h - the pool that this machine was in last, in STATE/coordinator.
 *
 * Depends on: join.  Thread: any.
 *
 * The join string without its token: our own key is known there by then. */
#ifndef WORKER_REMEMBER_H
#define WORKER_REMEMBER_H

#include "common/join.h"

/* ST_IO names the file and the reason. */
NODISCARD enum status remember_pool(const struct join *j, const char *state_dir,
                                    struct error *err);
/* ST_NOT_FOUND: there is none; ST_INVALID: it is damaged. */
NODISCARD enum status remember_read(struct join *out, const char *state_dir,
                                    struct error *err);

#endif

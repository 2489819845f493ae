/* machine.h - small facts about this machine and what is typed about one.
 *
 * Depends on: status.  Thread: any. */
#ifndef COMMON_MACHINE_H
#define COMMON_MACHINE_H

#include <stdint.h>

#include "common/status.h"

#define MACHINE_HOST_MAX 63 /* bytes of a host, of a name */

/* MemAvailable of /proc/meminfo, bytes; 0 if it is not to be found. */
uint64_t machine_memory_available(void);

/* The host's name, cut to MACHINE_HOST_MAX; otherwise if it has none. */
void machine_name(char name[MACHINE_HOST_MAX + 1], const char *otherwise);

/* "HOST" or "HOST:PORT", as --listen takes it; port is left alone where text
 * has none.  ST_USAGE repeats the text. */
NODISCARD enum status machine_address(const char *text,
                                      char host[MACHINE_HOST_MAX + 1],
                                      uint32_t *port, struct error *err);

#endif

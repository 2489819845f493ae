/* home.h - the address at which others on the LAN reach this machine.
 *
 * Depends on: status.  Thread: any. */
#ifndef COORDINATOR_HOME_H
#define COORDINATOR_HOME_H

#include <stddef.h>

/* listen: the address that is bound. If that is any ("0.0.0.0"), the address
 * of the interface with the default route, else of the first that is up, else
 * 127.0.0.1. */
void home_address(char *out, size_t max, const char *listen);

#endif

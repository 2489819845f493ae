/* beacon.h - one datagram by which a coordinator says on its LAN that it is
 * there:
 *
 *     potluck 1 PORT KEY NAME
 *
 * PORT of its control socket (1 to 65535, no leading zero), KEY its public key
 * as 64 lower-case hexadecimal digits, NAME of the host to the end of the
 * datagram: 1 to 63 bytes of printable ASCII, for people.  One space between
 * each, nothing before and behind.  Sent to UDP port BEACON_PORT every
 * BEACON_EVERY_MS; where it comes from is where the coordinator is.
 *
 * Anybody on the LAN can send one: it is a hint, and who joins by it shows the
 * key to the person in front of the machine.
 *
 * Depends on: status.  Thread: any. */
#ifndef COMMON_BEACON_H
#define COMMON_BEACON_H

#include <stdint.h>

#include "common/status.h"

#define BEACON_PORT      7420 /* UDP */
#define BEACON_EVERY_MS  2000
#define BEACON_NAME_MAX  63
#define BEACON_KEY_BYTES 32
#define BEACON_BYTES     160 /* of the longest, with a NUL */

struct beacon {
    uint32_t port;
    uint8_t key[BEACON_KEY_BYTES];
    char name[BEACON_NAME_MAX + 1];
};

/* Its bytes, NUL-terminated; what is not printable ASCII in the name becomes
 * '?', and no name "-".  Returns how many, without the NUL. */
size_t beacon_format(char text[BEACON_BYTES], const struct beacon *b);
/* False: not such a datagram; *out is untouched. */
NODISCARD bool beacon_parse(struct beacon *out, const void *data, size_t n);

#endif

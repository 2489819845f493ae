/* join.h - the string that lets a machine into a pool.
 *
 *     potluck://HOST:PORT/KEY?token=TOKEN
 *
 * HOST is a name or an IPv4 address, KEY the coordinator's public key as 64
 * hexadecimal digits, TOKEN letters, digits, '-' and '_'.  Without a token it
 * serves a machine whose own key the coordinator knows already.
 *
 * Depends on: status.  Thread: any. */
#ifndef COMMON_JOIN_H
#define COMMON_JOIN_H

#include <stdint.h>

#include "common/status.h"

#define JOIN_HOST_MAX   63
#define JOIN_TOKEN_MAX  63
#define JOIN_KEY_BYTES  32
#define JOIN_TEXT_BYTES 256 /* of the longest, with its NUL */

struct join {
    char host[JOIN_HOST_MAX + 1];
    uint32_t port; /* 1 to 65535 */
    uint8_t key[JOIN_KEY_BYTES];
    char token[JOIN_TOKEN_MAX + 1]; /* "": none */
};

/* White space around it is no matter.  ST_INVALID says which part is wrong; it
 * never repeats the token, which is a secret. */
NODISCARD enum status join_parse(struct join *out, const char *text,
                                 struct error *err);
/* What join_parse takes.  j must be as it gives. */
void join_format(char text[JOIN_TEXT_BYTES], const struct join *j);

#endif

/* admit.h - which keys may join: enrolment by token or by approval.
 *
 * Depends on: common, proto/limits, proto/net (keys as text); libsodium.
 * Thread: loop.  Pure but for saving the list (STATE/keys): now_ns in.
 *
 *   unknown key --handshake--> ENROLLING (at most LIMIT_PENDING, one Hello
 *     within ENROL_MS) --Hello with the token of an open invitation--> ENROLLED
 *                      --Hello without a token--> PENDING --approve--> ENROLLED
 *                      --wrong or expired token--> refused
 *   ENROLLED --revoke--> REVOKED: refused until it is added or approved again
 *
 * A pending machine keeps saying Hello; it is forgotten a minute after its last
 * one. Whoever is enrolled re-joins without the string, across restarts; who
 * is revoked stays so, token or not.
 *
 * A list that cannot be saved is no reason to turn a machine away: the change
 * holds until the next start, and the error says so. */
#ifndef COORDINATOR_ADMIT_H
#define COORDINATOR_ADMIT_H

#include "common/mem.h"
#include "proto/limits.h"

#define ADMIT_TOKEN_BYTES 33    /* 32 hexadecimal digits and NUL */
#define ADMIT_KEYS_MAX    4096  /* enrolled and revoked */
#define ADMIT_PENDING_MS  60000 /* after its last Hello */

struct admit;

/* path: STATE/keys, a line "hex name" per key, "!hex name" if it is revoked;
 * read now if it is there, and written anew (mode 0600, all or nothing) with
 * every change; NULL: kept in memory.  ST_INVALID names a damaged line, or a
 * file that others may write to; ST_TOO_LARGE, ST_IO, ST_NO_MEMORY. */
NODISCARD enum status admit_create(struct admit **out, const char *path,
                                   struct error *err);
void admit_free(struct admit *a);

/* Opens an invitation for TOKEN_MINUTES with a fresh token; one that was open
 * keeps its token and is prolonged. */
NODISCARD enum status admit_invite(struct admit *a, uint64_t now_ns,
                                   char token[ADMIT_TOKEN_BYTES],
                                   struct error *err);

/* The same for another time, from now on. */
NODISCARD enum status admit_invite_for(struct admit *a, uint64_t length_ns,
                                       uint64_t now_ns,
                                       char token[ADMIT_TOKEN_BYTES],
                                       struct error *err);

/* At a handshake on the control socket: may it say Hello?  Not when it is
 * revoked, or when LIMIT_PENDING others that are not enrolled are there. */
bool admit_connect(struct admit *a, const uint8_t key[KEY_BYTES],
                   uint64_t now_ns);
/* Only who is enrolled (data and bulk sockets ask core_member as well). */
bool admit_enrolled(const struct admit *a, const uint8_t key[KEY_BYTES]);

enum admit_answer {
    ADMIT_YES,     /* enrolled, perhaps just now; err->status is ST_OK, or why
                      the list could not be saved */
    ADMIT_PENDING, /* err says what the machine should be told: ST_FULL, which
                      to a worker means to stay and to try again */
    ADMIT_NO       /* err: why, and the remedy */
};
/* token: of the Hello, "" if none. Compared in constant time. name: control
 * characters in it become '?'. */
enum admit_answer admit_hello(struct admit *a, const uint8_t key[KEY_BYTES],
                              const char *name, const char *host,
                              const char *token, uint64_t now_ns,
                              struct error *err);

/* For the operator. who: a name, or at least 8 hexadecimal digits that a key
 * begins with, of which all 64 are never taken for a name; ST_NOT_FOUND,
 * ST_INVALID (several: says which), ST_TOO_LARGE (ADMIT_KEYS_MAX). key: out.
 * ST_IO: it is done and key is set, but could not be saved.
 * Approved are pending and revoked machines; one that is enrolled already, or
 * was revoked already, is ST_OK. */
NODISCARD enum status admit_approve(struct admit *a, const char *who,
                                    uint8_t key[KEY_BYTES], struct error *err);
NODISCARD enum status admit_revoke(struct admit *a, const char *who,
                                   uint8_t key[KEY_BYTES], struct error *err);
/* A key given beforehand; one that was revoked is enrolled again. ST_TOO_LARGE,
 * ST_NO_MEMORY; ST_IO as above. */
NODISCARD enum status admit_add(struct admit *a, const uint8_t key[KEY_BYTES],
                                const char *name, struct error *err);

enum admit_state {
    ADMIT_STATE_ENROLLED,
    ADMIT_STATE_PENDING,
    ADMIT_STATE_REVOKED
};
struct admit_entry {
    enum admit_state state;
    uint8_t key[KEY_BYTES];
    char name[LIMIT_NAME + 1], host[LIMIT_ADDRESS + 1];
};
/* In this order: enrolled and revoked as they came, then pending. Valid until
 * the next call that is not const. */
uint32_t admit_count(const struct admit *a);
const struct admit_entry *admit_entry(const struct admit *a, uint32_t i);

/* Enrolling and pending keys whose time is over, one a call: drop their
 * connection. */
bool admit_expired(struct admit *a, uint64_t now_ns, uint8_t key[KEY_BYTES]);
/* When to ask admit_expired at the latest; UINT64_MAX: no need. */
uint64_t admit_deadline(const struct admit *a);

#endif

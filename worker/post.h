/* post.h - messages onto sockets.
 *
 * Depends on: proto/net, proto/wire.  Thread: loop. */
#ifndef WORKER_POST_H
#define WORKER_POST_H

#include "proto/net.h"
#include "proto/wire.h"

/* To a server; as net_send.  ST_NOT_FOUND: s is NULL. */
NODISCARD enum status post(struct net_socket *s, const struct wire_message *m,
                           const void *tensor, size_t bytes);
/* The same where a loss is no matter: every wait has a deadline. */
void post_or_lose(struct net_socket *s, const struct wire_message *m);
/* An echo with so many bytes of tensor. */
void post_echo(struct net_socket *s, struct wire_echo echo, uint32_t bytes);
/* What e asks for, back to its sender. */
void post_echo_answer(struct net_socket *s, const uint8_t key[KEY_BYTES],
                      const struct wire_echo *e);

#endif

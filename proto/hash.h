/* hash.h - BLAKE2b-256, the name of a model and of every piece of one.
 *
 * Depends on: limits; libsodium.  Thread: any. */
#ifndef PROTO_HASH_H
#define PROTO_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

#define HASH_BYTES      KEY_BYTES
#define HASH_TEXT_BYTES (2 * HASH_BYTES + 1)

void hash_of(uint8_t out[HASH_BYTES], const void *data, size_t n);

/* 64 lower-case hexadecimal digits and a NUL. */
void hash_text(char text[HASH_TEXT_BYTES], const uint8_t hash[HASH_BYTES]);

#endif

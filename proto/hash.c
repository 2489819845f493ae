#include "proto/hash.h"

#include <assert.h>
#include <sodium.h>

_Static_assert(HASH_BYTES == crypto_generichash_BYTES, "BLAKE2b-256");

void hash_of(uint8_t out[HASH_BYTES], const void *data, size_t n)
{
    static const uint8_t nothing[1];
    /* chooses the fastest code for this processor; once, from any thread */
    const int usable = sodium_init();
    assert(usable >= 0);
    (void)usable;
    /* fails only for lengths that it does not allow */
    const int done =
        crypto_generichash(out, HASH_BYTES, n ? data : nothing, n, NULL, 0);
    assert(done == 0);
    (void)done;
}

void hash_text(char text[HASH_TEXT_BYTES], const uint8_t hash[HASH_BYTES])
{
    sodium_bin2hex(text, HASH_TEXT_BYTES, hash, HASH_BYTES);
}

/* wire_samples.h - one message of each kind, for the tests of the wire.
 *
 * Depends on: wire.  Thread: one at a time; a message's arrays are static and
 * valid until the next call. */
#ifndef TESTS_LIB_WIRE_SAMPLES_H
#define TESTS_LIB_WIRE_SAMPLES_H

#include "proto/wire.h"

enum wire_sample_size {
    SAMPLE_LEAST,    /* zeros and empty lists, as far as they are allowed */
    SAMPLE_ORDINARY, /* as in a pool of three; recorded as golden bytes */
    SAMPLE_EXTREME,  /* the largest numbers, full texts, long lists */
    SAMPLE_SIZE_END
};

/* *tensor_bytes: of the tensor frame that belongs to it. */
void wire_sample_message(struct wire_message *m, enum wire_kind kind,
                         enum wire_sample_size size, size_t *tensor_bytes);

/* Header frames of the ordinary messages, as protocol 1 was first released
 * with them, in the order of enum wire_kind. */
struct wire_frame_hex {
    const char *kind, *hex;
};
extern const struct wire_frame_hex wire_golden[WIRE_KIND_END];

/* All that a receiver sees is equal (numbers by their bits).  False names
 * the member in *what. */
bool wire_messages_equal(const struct wire_message *a,
                         const struct wire_message *b, const char **what);

#endif

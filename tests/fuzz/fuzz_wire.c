/* fuzz_wire.c - any bytes as the header frame of a message.
 *
 * The first four bytes are the size of the tensor frame (its content is
 * nothing to the reader).  What is taken must be writable, and what is
 * written must be taken again and be written as the same bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"
#include "tests/lib/wire_samples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) abort();
}

static void write_again(const struct wire_message *m, size_t tensor)
{
    struct wire_message again;
    struct buf first, second;
    const char *what;
    buf_init(&first, LIMIT_ASSIGN_BYTES);
    buf_init(&second, LIMIT_ASSIGN_BYTES);
    must(wire_write(&first, m, NULL) == ST_OK);
    must(wire_read(&again, first.data, first.len, NULL, tensor, NULL) == ST_OK);
    must(wire_messages_equal(m, &again, &what));
    must(wire_write(&second, &again, NULL) == ST_OK);
    must(first.len == second.len);
    must(memcmp(first.data, second.data, first.len) == 0);
    wire_message_fini(&again);
    buf_fini(&first);
    buf_fini(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t tensor;
    if (size < sizeof tensor) return 0;
    memcpy(&tensor, data, sizeof tensor);
    const size_t before = mem_in_use();
    struct wire_message m;
    struct error err = {.text = ""};
    const enum status st = wire_read(&m, data + sizeof tensor,
                                     size - sizeof tensor, NULL, tensor, &err);
    if (st == ST_OK) {
        write_again(&m, tensor);
        wire_message_fini(&m);
    } else {
        must(err.status == st && strlen(err.text) > 0);
    }
    must(mem_in_use() == before);
    return 0;
}

/* fuzz_join.c - any text as a join string: what is taken is written and read
 * again as the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/join.h"
#include "common/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct join a, b;
    char again[JOIN_TEXT_BYTES];
    char *text = mem_strndup((const char *)data, size);
    must(text != NULL);
    if (join_parse(&a, text, NULL) == ST_OK) {
        join_format(again, &a);
        must(join_parse(&b, again, NULL) == ST_OK);
        must(memcmp(&a, &b, sizeof a) == 0);
    }
    mem_free(text);
    return 0;
}

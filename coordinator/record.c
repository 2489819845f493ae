#include "coordinator/record.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define SECOND_NS UINT64_C(1000000000)
#define MOST_NS   (60 * SECOND_NS)

struct record *record_find(struct records *r, const uint8_t key[KEY_BYTES])
{
    for (uint32_t i = 0; i < RECORDS_MAX; i++) {
        struct record *at = &r->of[i];
        if (at->used && memcmp(at->key, key, KEY_BYTES) == 0) return at;
    }
    return NULL;
}

struct record *record_make(struct records *r, const uint8_t key[KEY_BYTES],
                           uint64_t now_ns)
{
    struct record *at = record_find(r, key);
    if (!at) {
        at = &r->of[0];
        for (uint32_t i = 1; i < RECORDS_MAX && at->used; i++) {
            struct record *o = &r->of[i];
            if (!o->used || o->last_ns < at->last_ns) at = o;
        }
        *at = (struct record){.used = true};
        memcpy(at->key, key, KEY_BYTES);
    }
    at->last_ns = now_ns;
    return at;
}

/* unit, then twice as long for each time, up to the minute. */
static uint64_t doubled(uint64_t unit, uint32_t times)
{
    uint64_t ns = unit;
    while (times-- > 0 && ns < MOST_NS) ns *= 2;
    return ns < MOST_NS ? ns : MOST_NS;
}

uint64_t record_failure(struct records *r, const uint8_t key[KEY_BYTES],
                        const char *why, uint64_t now_ns)
{
    struct record *at = record_make(r, key, now_ns);
    at->held_ns = now_ns + doubled(SECOND_NS, at->failures++);
    snprintf(at->why, sizeof at->why, "%s", why);
    return at->held_ns;
}

uint64_t record_patience(struct records *r, const uint8_t key[KEY_BYTES])
{
    const struct record *at = record_find(r, key);
    if (!at || at->returns == 0) return 0;
    return doubled(2 * SECOND_NS, at->returns - 1);
}

void record_forget(struct records *r, const uint8_t key[KEY_BYTES])
{
    struct record *at = record_find(r, key);
    if (at) at->used = false;
}

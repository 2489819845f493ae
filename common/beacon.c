#include "common/beacon.h"

#include <stdio.h>
#include <string.h>

#define START      "potluck 1 "
#define KEY_DIGITS (2 * (size_t)BEACON_KEY_BYTES)

static bool is_printable(char c)
{
    return c >= ' ' && c <= '~';
}

size_t beacon_format(char text[BEACON_BYTES], const struct beacon *b)
{
    char key[KEY_DIGITS + 1], name[BEACON_NAME_MAX + 1];
    size_t n = 0;
    for (size_t i = 0; i < BEACON_KEY_BYTES; i++) {
        snprintf(key + 2 * i, 3, "%02x", b->key[i]);
    }
    for (; n < BEACON_NAME_MAX && b->name[n]; n++) {
        name[n] = is_printable(b->name[n]) ? b->name[n] : '?';
    }
    if (n == 0) name[n++] = '-';
    name[n] = '\0';
    return (size_t)snprintf(text, BEACON_BYTES, START "%u %s %s",
                            b->port & UINT16_MAX, key, name);
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The port and the space behind it. */
static bool take_port(uint32_t *port, const char **at, const char *end)
{
    uint32_t v = 0;
    if (*at == end || **at == '0') return false;
    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++) {
        v = v * 10 + (uint32_t)(**at - '0');
        if (v > UINT16_MAX) return false;
    }
    *port = v;
    return v > 0 && *at < end && *(*at)++ == ' ';
}

bool beacon_parse(struct beacon *out, const void *data, size_t n)
{
    struct beacon b = {0};
    const char *at = data;
    const char *const end = at + n;
    if (n >= BEACON_BYTES || n < sizeof START - 1 ||
        memcmp(at, START, sizeof START - 1) != 0) {
        return false;
    }
    at += sizeof START - 1;
    if (!take_port(&b.port, &at, end)) return false;
    if ((size_t)(end - at) < KEY_DIGITS + 2) return false;
    for (size_t i = 0; i < BEACON_KEY_BYTES; i++, at += 2) {
        const int high = digit(at[0]), low = digit(at[1]);
        if (high < 0 || low < 0) return false;
        b.key[i] = (uint8_t)(high << 4 | low);
    }
    if (*at++ != ' ') return false;
    const size_t n_name = (size_t)(end - at);
    if (n_name > BEACON_NAME_MAX) return false;
    for (size_t i = 0; i < n_name; i++) {
        if (!is_printable(at[i])) return false;
        b.name[i] = at[i];
    }
    *out = b;
    return true;
}

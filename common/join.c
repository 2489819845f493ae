#include "common/join.h"

#include <stdio.h>
#include <string.h>

#define SCHEME  "potluck://"
#define QUERY   "?token="
#define SPACES  " \t\r\n"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define EXAMPLE "potluck://HOST:PORT/KEY?token=TOKEN, as `potluck serve` prints"

/* The leading characters of `allowed` at *at, of which there must be 1 to max,
 * to out. */
static bool take(char *out, const char **at, const char *allowed, size_t max)
{
    const size_t n = strspn(*at, allowed);
    if (n == 0 || n > max) return false;
    memcpy(out, *at, n);
    out[n] = '\0';
    *at += n;
    return true;
}

static bool take_text(const char **at, const char *text)
{
    const size_t n = strlen(text);
    if (strncmp(*at, text, n) != 0) return false;
    *at += n;
    return true;
}

static bool take_port(uint32_t *port, const char **at)
{
    char digits[6];
    uint32_t v = 0;
    if (!take(digits, at, "0123456789", 5)) return false;
    for (const char *d = digits; *d; d++) v = v * 10 + (uint32_t)(*d - '0');
    *port = v;
    return v >= 1 && v <= UINT16_MAX;
}

static uint8_t nibble(char c)
{
    return (uint8_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
}

static bool take_key(uint8_t key[JOIN_KEY_BYTES], const char **at)
{
    char digits[2 * JOIN_KEY_BYTES + 1];
    if (!take(digits, at, "0123456789abcdefABCDEF", 2 * JOIN_KEY_BYTES) ||
        strlen(digits) != 2 * JOIN_KEY_BYTES) {
        return false;
    }
    for (size_t i = 0; i < JOIN_KEY_BYTES; i++) {
        key[i] =
            (uint8_t)(nibble(digits[2 * i]) << 4 | nibble(digits[2 * i + 1]));
    }
    return true;
}

enum status join_parse(struct join *out, const char *text, struct error *err)
{
    struct join j = {0};
    const char *at = text + strspn(text, SPACES);
    const char *wrong = NULL;
    if (!take_text(&at, SCHEME))
        wrong = "it does not begin with " SCHEME;
    else if (!take(j.host, &at, LETTERS ".-_", JOIN_HOST_MAX))
        wrong = "no host";
    else if (!take_text(&at, ":") || !take_port(&j.port, &at))
        wrong = "no port from 1 to 65535";
    else if (!take_text(&at, "/") || !take_key(j.key, &at))
        wrong = "no key of 64 hexadecimal digits";
    else if (take_text(&at, QUERY) &&
             !take(j.token, &at, LETTERS "-_", JOIN_TOKEN_MAX))
        wrong = "no token";
    else if (at[strspn(at, SPACES)] != '\0')
        wrong = "something follows it";
    if (wrong) {
        return error_set(err, ST_INVALID, "the join string: %s; it is %s",
                         wrong, EXAMPLE);
    }
    *out = j;
    return ST_OK;
}

void join_format(char text[JOIN_TEXT_BYTES], const struct join *j)
{
    char key[2 * JOIN_KEY_BYTES + 1];
    for (size_t i = 0; i < JOIN_KEY_BYTES; i++) {
        snprintf(key + 2 * i, 3, "%02x", j->key[i]);
    }
    snprintf(text, JOIN_TEXT_BYTES, SCHEME "%s:%u/%s%s%s", j->host, j->port,
             key, j->token[0] ? QUERY : "", j->token);
}

/* api_keys.c - the operator's requests: who may join. */
#include "coordinator/api_internal.h"

#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "common/clock.h"

/* False: refused, and the call is over. */
static bool is_operator(struct api *a, struct http_call *c)
{
    struct api_error e = {.status = 401, .type = "authentication_error"};
    const char *given = http_header(c, "Authorization");
    const size_t n = strlen(a->operator_token);
    if (n == 0) {
        e.status = 403;
        e.code = "no_operator_token";
        api_refuse(c, &e, "this pool has no operator's token");
        return false;
    }
    if (!given || strncasecmp(given, "Bearer ", 7) != 0) {
        e.code = "no_token";
        api_refuse(c, &e,
                   "for the operator: Authorization: Bearer and the token of "
                   "the coordinator's STATE/operator");
        return false;
    }
    given += 7;
    /* its length is no secret */
    if (strlen(given) == n && sodium_memcmp(given, a->operator_token, n) == 0)
        return true;
    e.status = 403;
    e.code = "wrong_token";
    api_refuse(c, &e,
               "not the operator's token; it is in the coordinator's "
               "STATE/operator");
    return false;
}

static json_t *key_json(const uint8_t key[KEY_BYTES])
{
    char hex[2 * KEY_BYTES + 1];
    sodium_bin2hex(hex, sizeof hex, key, KEY_BYTES);
    return json_string(hex);
}

/* The list of keys may fail to be saved: then the change holds until the next
 * start, and the operator is told. */
static bool changed(enum status st)
{
    return st == ST_OK || st == ST_IO;
}

static void reply_changed(struct api *a, struct http_call *c,
                          const uint8_t key[KEY_BYTES], enum status st,
                          const struct error *err)
{
    const char *name = "";
    for (uint32_t i = 0; i < admit_count(a->options.admit); i++) {
        const struct admit_entry *e = admit_entry(a->options.admit, i);
        if (memcmp(e->key, key, KEY_BYTES) == 0) name = e->name;
    }
    json_t *body = json_pack("{s:o, s:o}", "key", key_json(key), "name",
                             api_string(name, strlen(name)));
    if (st != ST_OK) {
        json_object_set_new(body, "warning",
                            api_string(err->text, strlen(err->text)));
    }
    api_reply(c, 200, body);
}

static const char *state_name(enum admit_state s)
{
    switch (s) {
    case ADMIT_STATE_ENROLLED:
        return "enrolled";
    case ADMIT_STATE_PENDING:
        return "pending";
    case ADMIT_STATE_REVOKED:
        return "revoked";
    }
    return "";
}

static void list(struct api *a, struct http_call *c)
{
    json_t *keys = json_array();
    for (uint32_t i = 0; i < admit_count(a->options.admit); i++) {
        const struct admit_entry *e = admit_entry(a->options.admit, i);
        json_array_append_new(
            keys, json_pack("{s:o, s:o, s:o, s:s}", "key", key_json(e->key),
                            "name", api_string(e->name, strlen(e->name)),
                            "host", api_string(e->host, strlen(e->host)),
                            "state", state_name(e->state)));
    }
    api_reply(c, 200, json_pack("{s:o}", "keys", keys));
}

static void refuse(struct http_call *c, enum status st, const char *param,
                   const char *why)
{
    const struct api_error e = api_error_of(st, param);
    api_refuse(c, &e, why);
}

static void invite(struct api *a, struct http_call *c)
{
    char token[ADMIT_TOKEN_BYTES], text[JOIN_TEXT_BYTES];
    struct error err = {.text = ""};
    enum status st =
        admit_invite(a->options.admit, clock_now_ns(), token, &err);
    if (st == ST_OK) st = a->options.join(a->options.arg, token, text, &err);
    if (st != ST_OK) {
        refuse(c, st, NULL, err.text);
        return;
    }
    api_reply(c, 200,
              json_pack("{s:s, s:i}", "join", text, "minutes", TOKEN_MINUTES));
}

static void change(struct api *a, struct http_call *c, const char *verb,
                   const char *who)
{
    uint8_t key[KEY_BYTES];
    struct error err = {.text = ""};
    const bool revoke = strcmp(verb, "revoke") == 0;
    const enum status st =
        revoke ? admit_revoke(a->options.admit, who, key, &err)
               : admit_approve(a->options.admit, who, key, &err);
    if (!changed(st)) {
        refuse(c, st, "who", err.text);
        return;
    }
    if (revoke && a->options.revoked) a->options.revoked(a->options.arg, key);
    reply_changed(a, c, key, st, &err);
}

static void add(struct api *a, struct http_call *c, const char *hex,
                const char *name)
{
    uint8_t key[KEY_BYTES];
    size_t n = 0;
    struct error err = {.text = ""};
    if (strlen(hex) != 2 * KEY_BYTES ||
        sodium_hex2bin(key, sizeof key, hex, strlen(hex), NULL, &n, NULL) !=
            0 ||
        n != KEY_BYTES) {
        refuse(c, ST_INVALID, "key", "key must be 64 hexadecimal digits");
        return;
    }
    const enum status st = admit_add(a->options.admit, key, name, &err);
    if (!changed(st)) {
        refuse(c, st, "name", err.text);
        return;
    }
    reply_changed(a, c, key, st, &err);
}

void api_keys(struct api *a, struct http_call *c, const struct http_request *r)
{
    if (!is_operator(a, c)) return;
    const char *verb = strrchr(r->path, '/') + 1;
    if (strcmp(verb, "keys") == 0) {
        list(a, c);
        return;
    }
    if (strcmp(verb, "invite") == 0 && r->body_bytes == 0) {
        invite(a, c);
        return;
    }
    struct error err = {.text = ""};
    json_t *root = api_parse_object(r->body, r->body_bytes, &err);
    if (!root) {
        refuse(c, err.status, NULL, err.text);
        return;
    }
    const char *who = json_string_value(json_object_get(root, "who"));
    const char *key = json_string_value(json_object_get(root, "key"));
    const char *name = json_string_value(json_object_get(root, "name"));
    if (strcmp(verb, "invite") == 0) {
        invite(a, c);
    } else if (strcmp(verb, "add") == 0) {
        if (key && name)
            add(a, c, key, name);
        else
            refuse(c, ST_INVALID, key ? "name" : "key",
                   "want {\"key\": 64 hexadecimal digits, \"name\": text}");
    } else if (who) {
        change(a, c, verb, who);
    } else {
        refuse(c, ST_INVALID, "who",
               "want {\"who\": a name, or the beginning of a key}");
    }
    json_decref(root);
}

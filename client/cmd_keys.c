/* cmd_keys.c - potluck keys: which PCs may join, for the operator. */
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "client/http.h"

#define TOKEN_MAX  512
#define PATH_BYTES 4096
#define KEY_DIGITS 64

struct keys {
    const char *host, *state;
    bool json;
    struct http_pool pool;
    char address[80]; /* of STATE/addresses.json */
    char token[TOKEN_MAX + 1];
};

/* The folder of `potluck serve`'s own default. */
static enum status state_dir(char path[PATH_BYTES], const char *given,
                             struct error *err)
{
    const char *base = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (given)
        n = snprintf(path, PATH_BYTES, "%s", given);
    else if (base && base[0] == '/')
        n = snprintf(path, PATH_BYTES, "%s/potluck/coordinator", base);
    else if (home && home[0] == '/')
        n = snprintf(path, PATH_BYTES, "%s/.local/state/potluck/coordinator",
                     home);
    if (n > 0 && n < PATH_BYTES - 16) return ST_OK;
    return error_set(err, ST_USAGE,
                     "neither XDG_STATE_HOME nor HOME is set: give --state");
}

/* The pool whose state that is, wherever it listens; --host and POTLUCK_HOST go
 * before it. */
static void find_address(struct keys *k)
{
    char path[PATH_BYTES];
    struct error no_matter;
    if (k->host || getenv("POTLUCK_HOST")) return;
    if (state_dir(path, k->state, &no_matter) != ST_OK) return;
    strncat(path, "/addresses.json", sizeof path - strlen(path) - 1);
    json_t *o = json_load_file(path, 0, NULL);
    const char *http = json_string_value(json_object_get(o, "http"));
    if (http && strlen(http) < 64) {
        const bool any = strncmp(http, "0.0.0.0:", 8) == 0;
        snprintf(k->address, sizeof k->address, "%s%s", any ? "127.0.0.1:" : "",
                 any ? http + 8 : http);
        k->host = k->address;
    }
    json_decref(o);
}

/* STATE/operator: whoever may read it may decide who joins. */
static enum status read_token(struct keys *k, struct error *err)
{
    char path[PATH_BYTES];
    struct buf b;
    enum status st = state_dir(path, k->state, err);
    if (st != ST_OK) return st;
    strncat(path, "/operator", sizeof path - strlen(path) - 1);
    buf_init(&b, TOKEN_MAX);
    st = read_all_file(path, &b, err);
    if (st == ST_IO) {
        error_prefix(err, st,
                     "the operator's token, which `potluck serve` keeps in its "
                     "state folder (--state)");
    }
    if (st == ST_OK) {
        const char *text = b.data ? b.data : "";
        const size_t n = strcspn(text, " \t\r\n");
        for (size_t i = 0; i < n && st == ST_OK; i++) {
            if (text[i] <= 0x20 || text[i] == 0x7f) st = ST_INVALID;
        }
        if (n == 0) st = ST_INVALID;
        if (st == ST_OK)
            snprintf(k->token, sizeof k->token, "%.*s", (int)n, text);
        if (st != ST_OK) error_set(err, st, "%s holds no token", path);
    }
    buf_fini(&b);
    return st;
}

static const char *text(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}

/* A stranger's words to standard output. */
PRINTF_LIKE(1, 2)
static void print_line(const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    puts(plain_line(line));
}

static void print_list(const json_t *reply)
{
    const json_t *list = json_object_get(reply, "keys");
    size_t i;
    const json_t *key;
    if (json_array_size(list) == 0) puts("no PC has a key here yet");
    json_array_foreach(list, i, key)
    {
        print_line("%-10.10s %-20.63s %-20.63s %.64s", text(key, "state"),
                   text(key, "name"), text(key, "host"), text(key, "key"));
    }
}

static void print_reply(const char *verb, const json_t *reply)
{
    if (strcmp(verb, "list") == 0) {
        print_list(reply);
    } else if (strcmp(verb, "invite") == 0) {
        const char *join = text(reply, "join");
        print_line("%s", *join ? join : text(reply, "token"));
        const double minutes =
            json_number_value(json_object_get(reply, "minutes"));
        if (minutes > 0) {
            fprintf(stderr, "good for %.0f minutes and any number of PCs\n",
                    minutes);
        }
    } else {
        const bool out = strcmp(verb, "revoke") == 0;
        const char *name = text(reply, "name");
        print_line("%.100s %s (key %.16s)", *name ? name : "the PC",
                   out ? "is out" : "may join", text(reply, "key"));
        char warning[512];
        snprintf(warning, sizeof warning, "%s", text(reply, "warning"));
        if (*warning) fprintf(stderr, "potluck: %s\n", plain_line(warning));
    }
}

static enum status hex_key(const char *key, struct error *err)
{
    if (strlen(key) == KEY_DIGITS &&
        strspn(key, "0123456789abcdefABCDEF") == KEY_DIGITS) {
        return ST_OK;
    }
    return error_set(err, ST_USAGE, "a key is %d hexadecimal digits",
                     KEY_DIGITS);
}

/* What to send; *body stays NULL for a GET. */
static enum status request(const char *const *word, size_t n, char path[64],
                           json_t **body, struct error *err)
{
    static const struct {
        const char *verb;
        size_t min, max; /* words after it */
    } verbs[] = {{"invite", 0, 0},
                 {"list", 0, 0},
                 {"approve", 1, 1},
                 {"revoke", 1, 1},
                 {"add", 1, 2}};
    for (size_t i = 0; n > 0 && i < COUNT_OF(verbs); i++) {
        if (strcmp(word[0], verbs[i].verb) != 0) continue;
        if (n - 1 < verbs[i].min || n - 1 > verbs[i].max) {
            return error_set(err, ST_USAGE, "keys %s: %s", word[0],
                             verbs[i].max == 0   ? "nothing comes after it"
                             : verbs[i].max == 1 ? "wants a name, or the "
                                                   "beginning of a key"
                                                 : "wants KEY [NAME]");
        }
        snprintf(path, 64, i == 1 ? "/v1/keys" : "/v1/keys/%s", word[0]);
        if (i == 1) return ST_OK;
        if (i == 4 && hex_key(word[1], err) != ST_OK) return ST_USAGE;
        *body = i == 0   ? json_object()
                : i == 4 ? json_pack("{s:s, s:s*}", "key", word[1], "name",
                                     n == 3 ? word[2] : NULL)
                         : json_pack("{s:s}", "who", word[1]);
        if (*body) return ST_OK;
        return error_set(err, ST_USAGE, "keys %s: not a name", word[0]);
    }
    return error_set(err, ST_USAGE,
                     "keys: invite, list, approve, revoke or add?");
}

int cmd_keys(int argc, char **argv)
{
    struct keys k = {0};
    const struct option table[] = {
        {"--state", 0, OPTION_STRING, &k.state, "DIR",
         "the state folder of `potluck serve` (default: its default)", 0, 0},
        {"--host", 0, OPTION_STRING, &k.host, "URL",
         "the pool (default POTLUCK_HOST, or the one of the state folder)", 0,
         0},
        {"--json", 0, OPTION_FLAG, &k.json, NULL, "print one JSON object", 0,
         0},
    };
    static const char usage[] =
        "keys [OPTIONS] COMMAND\n\n"
        "  invite             print a string that lets PCs join for a time\n"
        "  list               who may join, and who asks to\n"
        "  approve WHO        let a PC in that asks; WHO: its name, or how its "
        "key begins\n"
        "  revoke WHO         put it out again\n"
        "  add KEY [NAME]     let a PC in by its key, before it asks";
    const char *word[3];
    size_t n;
    int over;
    char path[64];
    json_t *body = NULL, *reply = NULL;
    struct error err;
    if (!parse_command(table, COUNT_OF(table), usage, argc, argv, word, 3, &n,
                       &over)) {
        return over;
    }
    find_address(&k);
    enum status st = http_pool_find(&k.pool, k.host, &err);
    if (st == ST_OK) st = request(word, n, path, &body, &err);
    if (st == ST_OK) st = read_token(&k, &err);
    if (st != ST_OK) {
        json_decref(body);
        return fail(&err);
    }
    k.pool.key = k.token;
    catch_interrupt();
    const enum exit_code code = http_json(&k.pool, path, body, &reply, &err);
    if (code != EXIT_CODE_OK) return fail_as(code, &err);
    if (k.json) {
        st = print_json(reply, &err); /* takes it */
        return st == ST_OK ? EXIT_CODE_OK : fail(&err);
    }
    print_reply(word[0], reply);
    json_decref(reply);
    return EXIT_CODE_OK;
}

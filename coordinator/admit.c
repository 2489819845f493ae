#include "coordinator/admit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <sodium.h>

#include "common/files.h"
#include "proto/net.h"

#define MS_NS      UINT64_C(1000000)
#define TEXT_BYTES (2 * KEY_BYTES) /* of a key */
#define LINE_BYTES (1 + TEXT_BYTES + 1 + LIMIT_NAME + 1)
#define WHO_MIN    8  /* digits that stand for a key */
#define SHOWN      16 /* digits that are shown of one */

/* Not enrolled, and here: at most until end_ns. */
struct guest {
    struct admit_entry e;
    bool said_hello; /* PENDING; else ENROLLING */
    uint64_t end_ns;
};

struct admit {
    char *path; /* or NULL */
    char token[LIMIT_NAME + 1];
    bool invited;
    uint64_t invited_end_ns;
    struct admit_entry *keys; /* [n_keys] enrolled and revoked */
    uint32_t n_keys, room;
    struct guest guests[LIMIT_PENDING]; /* in order of their coming */
    uint32_t n_guests;
    /* over, and made room for others before admit_expired asked */
    uint8_t gone[LIMIT_PENDING][KEY_BYTES];
    uint32_t n_gone;
};

/* -------------------------------------------------------------- lists */

static struct admit_entry *find_key(const struct admit *a,
                                    const uint8_t key[KEY_BYTES])
{
    for (uint32_t i = 0; i < a->n_keys; i++) {
        if (memcmp(a->keys[i].key, key, KEY_BYTES) == 0) return &a->keys[i];
    }
    return NULL;
}

static struct guest *find_guest(struct admit *a, const uint8_t key[KEY_BYTES])
{
    for (uint32_t i = 0; i < a->n_guests; i++) {
        struct guest *g = &a->guests[i];
        if (memcmp(g->e.key, key, KEY_BYTES) == 0) return g;
    }
    return NULL;
}

static void remove_guest(struct admit *a, struct guest *g)
{
    const size_t i = (size_t)(g - a->guests);
    a->n_guests--;
    memmove(g, g + 1, (a->n_guests - i) * sizeof *g);
}

static void forget_guest(struct admit *a, const uint8_t key[KEY_BYTES])
{
    struct guest *g = find_guest(a, key);
    if (g) remove_guest(a, g);
}

/* Never more than a line of the file holds, and nothing that would end one. */
static void set_text(char *to, size_t size, const char *from)
{
    size_t n = strnlen(from, size - 1);
    /* no half of a character at the end */
    while (n > 0 && from[n] != '\0' && ((uint8_t)from[n] & 0xc0) == 0x80) n--;
    for (size_t i = 0; i < n; i++) {
        const uint8_t c = (uint8_t)from[i];
        to[i] = c < 0x20 || c == 0x7f ? '?' : from[i];
    }
    to[n] = '\0';
}

static void set_name(struct admit_entry *e, const char *name)
{
    set_text(e->name, sizeof e->name, name[0] ? name : "unnamed");
}

/* A new place in the list, or NULL with the reason. */
static struct admit_entry *new_key(struct admit *a, enum status *st,
                                   struct error *err)
{
    if (a->n_keys == ADMIT_KEYS_MAX) {
        *st = error_set(err, ST_TOO_LARGE,
                        "%d machines are known already: remove lines of those "
                        "that are gone from %.120s and start again",
                        ADMIT_KEYS_MAX, a->path ? a->path : "the list");
        return NULL;
    }
    if (a->n_keys == a->room) {
        const uint32_t room = a->room ? 2 * a->room : 16;
        struct admit_entry *keys = mem_realloc(a->keys, room * sizeof *keys);
        if (!keys) {
            *st = error_set(err, ST_NO_MEMORY, "no memory for another key");
            return NULL;
        }
        a->keys = keys;
        a->room = room;
    }
    struct admit_entry *e = &a->keys[a->n_keys++];
    *e = (struct admit_entry){0};
    return e;
}

/* --------------------------------------------------------------- file */

static enum status save(const struct admit *a, struct error *err)
{
    struct buf b;
    if (!a->path) return ST_OK;
    buf_init(&b, (size_t)ADMIT_KEYS_MAX * LINE_BYTES);
    enum status st = buf_append(&b, "", 0);
    for (uint32_t i = 0; st == ST_OK && i < a->n_keys; i++) {
        const struct admit_entry *e = &a->keys[i];
        char key[TEXT_BYTES + 1];
        net_key_text(key, e->key);
        st = buf_printf(&b, "%s%s %s\n",
                        e->state == ADMIT_STATE_REVOKED ? "!" : "", key,
                        e->name);
    }
    if (st != ST_OK) {
        error_set(err, st, "no memory to write the list of keys");
    } else {
        st = files_write(a->path, b.data, b.len, 0600, err);
    }
    buf_fini(&b);
    if (st == ST_OK) return st;
    struct error why = {0};
    if (err) why = *err;
    return error_set(err, ST_IO,
                     "done, but only until the next start, as the list of "
                     "keys could not be saved: %.200s",
                     why.text);
}

static enum status bad_line(const struct admit *a, uint32_t line,
                            const char *why, struct error *err)
{
    return error_set(err, ST_INVALID,
                     "%.160s: line %u %s; put it right or remove it: the "
                     "machine of that line then joins by invitation again",
                     a->path, line, why);
}

/* text: a line without its newline; changed. */
static enum status take_line(struct admit *a, char *text, size_t n,
                             uint32_t line, struct error *err)
{
    struct admit_entry e = {.state = ADMIT_STATE_ENROLLED};
    if (memchr(text, '\0', n)) return bad_line(a, line, "is damaged", err);
    if (n > 0 && text[0] == '!') {
        e.state = ADMIT_STATE_REVOKED;
        text++;
        n--;
    }
    if (n <= TEXT_BYTES || text[TEXT_BYTES] != ' ') {
        return bad_line(a, line, "is not 64 hexadecimal digits and a name",
                        err);
    }
    text[TEXT_BYTES] = '\0';
    if (!net_key_parse(e.key, text)) {
        return bad_line(a, line, "does not begin with 64 hexadecimal digits",
                        err);
    }
    const char *name = text + TEXT_BYTES + 1;
    set_name(&e, name);
    if (strcmp(e.name, name) != 0) {
        return bad_line(a, line, "has no name of 1 to 63 plain characters",
                        err);
    }
    if (find_key(a, e.key)) {
        return bad_line(a, line, "repeats a key that is above", err);
    }
    enum status st = ST_OK;
    struct admit_entry *to = new_key(a, &st, err);
    if (to) *to = e;
    return st;
}

static enum status load(struct admit *a, struct error *err)
{
    struct buf b;
    buf_init(&b, (size_t)ADMIT_KEYS_MAX * LINE_BYTES);
    enum status st = files_read(&b, a->path, S_IWGRP | S_IWOTH, err);
    if (st == ST_NOT_FOUND) st = ST_OK; /* the first start: nothing is read */
    uint32_t line = 0;
    for (size_t at = 0; st == ST_OK && at < b.len;) {
        char *end = memchr(b.data + at, '\n', b.len - at);
        const size_t n = (end ? (size_t)(end - b.data) : b.len) - at;
        b.data[at + n] = '\0'; /* at the end of all, it is one already */
        st = take_line(a, b.data + at, n, ++line, err);
        at += n + 1;
    }
    buf_fini(&b);
    return st;
}

enum status admit_create(struct admit **out, const char *path,
                         struct error *err)
{
    struct admit *a = mem_zalloc(sizeof *a);
    if (!a) return error_set(err, ST_NO_MEMORY, "list of keys");
    enum status st = ST_OK;
    if (path) {
        a->path = mem_strndup(path, strlen(path));
        st = a->path ? load(a, err)
                     : error_set(err, ST_NO_MEMORY, "list of keys");
    }
    if (st != ST_OK) {
        admit_free(a);
        return st;
    }
    *out = a;
    return ST_OK;
}

void admit_free(struct admit *a)
{
    if (!a) return;
    sodium_memzero(a->token, sizeof a->token);
    mem_free(a->path);
    mem_free(a->keys);
    mem_free(a);
}

/* -------------------------------------------------------------- token */

enum status admit_invite(struct admit *a, uint64_t now_ns,
                         char token[ADMIT_TOKEN_BYTES], struct error *err)
{
    return admit_invite_for(a, TOKEN_MINUTES * 60000 * MS_NS, now_ns, token,
                            err);
}

enum status admit_invite_for(struct admit *a, uint64_t length_ns,
                             uint64_t now_ns, char token[ADMIT_TOKEN_BYTES],
                             struct error *err)
{
    _Static_assert(ADMIT_TOKEN_BYTES - 1 <= LIMIT_NAME, "fits a Hello");
    if (!a->invited || now_ns >= a->invited_end_ns) {
        uint8_t random[(ADMIT_TOKEN_BYTES - 1) / 2];
        if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
            char text[96];
            return error_set(err, ST_IO, "no random numbers for a token: %s",
                             strerror_r(errno, text, sizeof text));
        }
        sodium_memzero(a->token, sizeof a->token);
        sodium_bin2hex(a->token, ADMIT_TOKEN_BYTES, random, sizeof random);
        sodium_memzero(random, sizeof random);
    }
    a->invited = true;
    a->invited_end_ns = now_ns + length_ns;
    memcpy(token, a->token, ADMIT_TOKEN_BYTES);
    return ST_OK;
}

/* Neither the time it takes nor the answer tells how far it was right. */
static bool token_is_good(const struct admit *a, const char *token,
                          uint64_t now_ns)
{
    char given[sizeof a->token] = {0};
    memcpy(given, token, strnlen(token, sizeof given - 1));
    const bool same = sodium_memcmp(given, a->token, sizeof given) == 0;
    sodium_memzero(given, sizeof given);
    return same && a->invited && now_ns < a->invited_end_ns;
}

/* ------------------------------------------------------------ arrivals */

/* A place among the guests, if need be of one whose time is over. */
static struct guest *new_guest(struct admit *a, const uint8_t key[KEY_BYTES],
                               uint64_t now_ns)
{
    if (a->n_guests == LIMIT_PENDING) {
        struct guest *oldest = &a->guests[0];
        for (uint32_t i = 1; i < a->n_guests; i++) {
            if (a->guests[i].end_ns < oldest->end_ns) oldest = &a->guests[i];
        }
        if (oldest->end_ns > now_ns || a->n_gone == LIMIT_PENDING) return NULL;
        memcpy(a->gone[a->n_gone++], oldest->e.key, KEY_BYTES);
        remove_guest(a, oldest);
    }
    struct guest *g = &a->guests[a->n_guests++];
    *g = (struct guest){.e.state = ADMIT_STATE_PENDING,
                        .end_ns = now_ns + ENROL_MS * MS_NS};
    memcpy(g->e.key, key, KEY_BYTES);
    /* it is back: its connection is not to be dropped any more */
    for (uint32_t i = 0; i < a->n_gone; i++) {
        if (memcmp(a->gone[i], key, KEY_BYTES) != 0) continue;
        memcpy(a->gone[i], a->gone[--a->n_gone], KEY_BYTES);
        break;
    }
    return g;
}

bool admit_connect(struct admit *a, const uint8_t key[KEY_BYTES],
                   uint64_t now_ns)
{
    const struct admit_entry *e = find_key(a, key);
    if (e) return e->state == ADMIT_STATE_ENROLLED;
    /* connecting again gives no more time */
    return find_guest(a, key) || new_guest(a, key, now_ns);
}

bool admit_enrolled(const struct admit *a, const uint8_t key[KEY_BYTES])
{
    const struct admit_entry *e = find_key(a, key);
    return e && e->state == ADMIT_STATE_ENROLLED;
}

/* Makes the key an enrolled one and saves the list. */
static enum status enrol(struct admit *a, const uint8_t key[KEY_BYTES],
                         const char *name, const char *host, struct error *err)
{
    enum status st = ST_OK;
    struct admit_entry *e = find_key(a, key);
    if (!e) e = new_key(a, &st, err);
    if (!e) return st;
    e->state = ADMIT_STATE_ENROLLED;
    memcpy(e->key, key, KEY_BYTES);
    set_name(e, name);
    set_text(e->host, sizeof e->host, host);
    forget_guest(a, key);
    return save(a, err);
}

static enum admit_answer hello_with_token(struct admit *a,
                                          const uint8_t key[KEY_BYTES],
                                          const char *name, const char *host,
                                          const char *token, uint64_t now_ns,
                                          struct error *err)
{
    if (!token_is_good(a, token, now_ns)) {
        forget_guest(a, key); /* others may need its place */
        error_set(err, ST_INVALID,
                  "the join string's token is wrong or its time is over: run "
                  "`potluck keys invite` at the coordinator for a fresh one");
        return ADMIT_NO;
    }
    const enum status st = enrol(a, key, name, host, err);
    if (st == ST_OK || st == ST_IO) return ADMIT_YES;
    forget_guest(a, key);
    return ADMIT_NO;
}

enum admit_answer admit_hello(struct admit *a, const uint8_t key[KEY_BYTES],
                              const char *name, const char *host,
                              const char *token, uint64_t now_ns,
                              struct error *err)
{
    char text[TEXT_BYTES + 1];
    struct admit_entry *e = find_key(a, key);
    net_key_text(text, key);
    if (err) *err = (struct error){.status = ST_OK};
    if (e && e->state == ADMIT_STATE_REVOKED) {
        error_set(err, ST_INVALID,
                  "the key of this machine was revoked: run `potluck keys "
                  "approve %.*s` at the coordinator to let it in again",
                  SHOWN, text);
        return ADMIT_NO;
    }
    if (e) {
        /* shown anew, saved with the next change: a machine that is enrolled
         * cannot keep the disk busy */
        set_name(e, name);
        set_text(e->host, sizeof e->host, host);
        return ADMIT_YES;
    }
    if (token[0]) {
        return hello_with_token(a, key, name, host, token, now_ns, err);
    }
    struct guest *g = find_guest(a, key);
    if (!g) g = new_guest(a, key, now_ns);
    if (!g) {
        error_set(err, ST_FULL,
                  "%d machines wait for approval already: approve them, or "
                  "join with the string that `potluck serve` prints",
                  LIMIT_PENDING);
        return ADMIT_PENDING;
    }
    g->said_hello = true;
    g->end_ns = now_ns + ADMIT_PENDING_MS * MS_NS;
    set_name(&g->e, name);
    set_text(g->e.host, sizeof g->e.host, host);
    error_set(err, ST_FULL,
              "this machine waits for approval: run `potluck keys approve "
              "%.*s` at the coordinator",
              SHOWN, text);
    return ADMIT_PENDING;
}

/* ------------------------------------------------------------ operator */

static bool is_meant(const struct admit_entry *e, const char *who)
{
    char text[TEXT_BYTES + 1], low[TEXT_BYTES + 1];
    const size_t n = strlen(who);
    if (strcmp(e->name, who) == 0) return true;
    if (n < WHO_MIN || n > TEXT_BYTES) return false;
    for (size_t i = 0; i <= n; i++) {
        low[i] =
            (char)(who[i] >= 'A' && who[i] <= 'F' ? who[i] | 0x20 : who[i]);
    }
    net_key_text(text, e->key);
    return strncmp(text, low, n) == 0;
}

/* Those that are meant, of one state. */
struct found {
    uint32_t n;
    struct admit_entry first, second; /* copies */
};

static void find_state(const struct admit *a, const char *who,
                       enum admit_state state, struct found *f)
{
    for (uint32_t i = 0; i < admit_count(a); i++) {
        const struct admit_entry *e = admit_entry(a, i);
        if (!e || e->state != state || !is_meant(e, who)) continue;
        f->n++;
        if (f->n == 1) f->first = *e;
        if (f->n == 2) f->second = *e;
    }
}

static enum status one_of(const struct found *f, const char *who,
                          struct admit_entry *out, struct error *err)
{
    if (f->n == 0) {
        return error_set(err, ST_NOT_FOUND,
                         "no machine is called \"%.63s\", and no key begins "
                         "so: see `potluck keys list`",
                         who);
    }
    if (f->n > 1) {
        char one[TEXT_BYTES + 1], two[TEXT_BYTES + 1];
        net_key_text(one, f->first.key);
        net_key_text(two, f->second.key);
        return error_set(err, ST_INVALID,
                         "\"%.63s\" may be %u machines: %.*s at %.60s, %.*s at "
                         "%.60s%s; say which by more digits",
                         who, f->n, SHOWN, one,
                         f->first.host[0] ? f->first.host : "-", SHOWN, two,
                         f->second.host[0] ? f->second.host : "-",
                         f->n > 2 ? ", ..." : "");
    }
    *out = f->first;
    return ST_OK;
}

enum status admit_approve(struct admit *a, const char *who,
                          uint8_t key[KEY_BYTES], struct error *err)
{
    struct found f = {0};
    struct admit_entry e;
    find_state(a, who, ADMIT_STATE_PENDING, &f);
    find_state(a, who, ADMIT_STATE_REVOKED, &f);
    if (f.n == 0) find_state(a, who, ADMIT_STATE_ENROLLED, &f);
    enum status st = one_of(&f, who, &e, err);
    if (st != ST_OK) return st;
    if (e.state != ADMIT_STATE_ENROLLED) {
        st = enrol(a, e.key, e.name, e.host, err);
    }
    if (st == ST_OK || st == ST_IO) memcpy(key, e.key, KEY_BYTES);
    return st;
}

enum status admit_revoke(struct admit *a, const char *who,
                         uint8_t key[KEY_BYTES], struct error *err)
{
    struct found f = {0};
    struct admit_entry e;
    find_state(a, who, ADMIT_STATE_ENROLLED, &f);
    find_state(a, who, ADMIT_STATE_PENDING, &f);
    if (f.n == 0) find_state(a, who, ADMIT_STATE_REVOKED, &f);
    enum status st = one_of(&f, who, &e, err);
    if (st != ST_OK) return st;
    if (e.state != ADMIT_STATE_REVOKED) {
        struct admit_entry *to = find_key(a, e.key);
        if (!to) to = new_key(a, &st, err);
        if (!to) return st;
        *to = e;
        to->state = ADMIT_STATE_REVOKED;
        forget_guest(a, e.key);
        st = save(a, err);
    }
    memcpy(key, e.key, KEY_BYTES);
    return st;
}

enum status admit_add(struct admit *a, const uint8_t key[KEY_BYTES],
                      const char *name, struct error *err)
{
    struct admit_entry named;
    const struct admit_entry *e = find_key(a, key);
    set_name(&named, name);
    if (e && e->state == ADMIT_STATE_ENROLLED &&
        strcmp(e->name, named.name) == 0) {
        return ST_OK; /* nothing to save */
    }
    return enrol(a, key, name, e ? e->host : "", err);
}

/* ---------------------------------------------------------------- list */

uint32_t admit_count(const struct admit *a)
{
    uint32_t n = a->n_keys;
    for (uint32_t i = 0; i < a->n_guests; i++) n += a->guests[i].said_hello;
    return n;
}

const struct admit_entry *admit_entry(const struct admit *a, uint32_t i)
{
    if (i < a->n_keys) return &a->keys[i];
    i -= a->n_keys;
    for (uint32_t j = 0; j < a->n_guests; j++) {
        if (a->guests[j].said_hello && i-- == 0) return &a->guests[j].e;
    }
    return NULL;
}

/* ---------------------------------------------------------------- time */

bool admit_expired(struct admit *a, uint64_t now_ns, uint8_t key[KEY_BYTES])
{
    if (a->n_gone > 0) {
        memcpy(key, a->gone[--a->n_gone], KEY_BYTES);
        return true;
    }
    for (uint32_t i = 0; i < a->n_guests; i++) {
        struct guest *g = &a->guests[i];
        if (g->end_ns > now_ns) continue;
        memcpy(key, g->e.key, KEY_BYTES);
        remove_guest(a, g);
        return true;
    }
    return false;
}

uint64_t admit_deadline(const struct admit *a)
{
    uint64_t first = a->n_gone > 0 ? 0 : UINT64_MAX;
    for (uint32_t i = 0; i < a->n_guests; i++) {
        if (a->guests[i].end_ns < first) first = a->guests[i].end_ns;
    }
    return first;
}

#include "coordinator/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#include <sodium.h>

#define ADDRESSES     "addresses.json"
#define ADDRESS_BYTES 1024
#define OPEN_BITS     (S_IRWXG | S_IRWXO)

struct store {
    int lock; /* closed on exec: a child does not keep the folder locked */
    char dir[FILES_PATH_BYTES];
};

const char *store_dir(const struct store *s)
{
    return s->dir;
}

bool store_path(const struct store *s, const char *name,
                char path[FILES_PATH_BYTES])
{
    const int n = snprintf(path, FILES_PATH_BYTES, "%s/%s", s->dir, name);
    if (n > 0 && n < FILES_PATH_BYTES) return true;
    path[0] = '\0';
    return false;
}

/* ---------------------------------------------------------------- life */

static enum status take_lock(struct store *s, struct error *err)
{
    char path[FILES_PATH_BYTES], text[96];
    if (!store_path(s, "lock", path)) {
        return error_set(err, ST_USAGE, "%.100s...: too long for a path",
                         s->dir);
    }
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock < 0) {
        return error_set(err, ST_IO, "%.180s cannot be opened: %s", path,
                         strerror_r(errno, text, sizeof text));
    }
    int rc;
    do {
        rc = flock(s->lock, LOCK_EX | LOCK_NB);
    } while (rc != 0 && errno == EINTR);
    if (rc == 0) return ST_OK;
    if (errno == EWOULDBLOCK) {
        return error_set(err, ST_FULL,
                         "a coordinator runs already with the state in %.150s: "
                         "stop it, or give this one another folder by --state",
                         s->dir);
    }
    return error_set(err, ST_IO, "%.180s cannot be locked: %s", path,
                     strerror_r(errno, text, sizeof text));
}

static void remove_addresses(const struct store *s)
{
    char path[FILES_PATH_BYTES];
    if (store_path(s, ADDRESSES, path)) (void)unlink(path);
}

enum status store_open(struct store **out, const char *dir, struct error *err)
{
    struct store *s = mem_zalloc(sizeof *s);
    if (!s) return error_set(err, ST_NO_MEMORY, "the state folder");
    s->lock = -1;
    enum status st = ST_OK;
    if (!dir) {
        st = files_xdg(s->dir, "XDG_STATE_HOME", ".local/state", "/coordinator",
                       "--state", err);
    } else if (strlen(dir) >= sizeof s->dir) {
        st = error_set(err, ST_USAGE, "--state %.100s...: too long", dir);
    } else {
        memcpy(s->dir, dir, strlen(dir) + 1);
    }
    if (st == ST_OK) st = files_make_dir(s->dir, err);
    if (st == ST_OK) st = take_lock(s, err);
    if (st != ST_OK) {
        if (s->lock >= 0) close(s->lock);
        mem_free(s);
        return st;
    }
    remove_addresses(s);
    *out = s;
    return ST_OK;
}

void store_close(struct store *s)
{
    if (!s) return;
    remove_addresses(s);
    close(s->lock); /* the file stays: removing it would race with the next */
    mem_free(s);
}

/* --------------------------------------------------------------- files */

enum status store_write(struct store *s, const char *name, const void *data,
                        size_t n, mode_t mode, struct error *err)
{
    char path[FILES_PATH_BYTES];
    if (!store_path(s, name, path)) {
        return error_set(err, ST_USAGE, "%.100s...: too long for a path",
                         s->dir);
    }
    return files_write(path, data, n, mode, err);
}

enum status store_addresses(struct store *s, const char *listen,
                            const char *http, struct error *err)
{
    char text[ADDRESS_BYTES];
    json_t *o = json_pack("{s:s, s:s, s:I}", "listen", listen, "http", http,
                          "pid", (json_int_t)getpid());
    if (!o) {
        return error_set(err, ST_INVALID,
                         "an address that is not text: %.60s, %.60s", listen,
                         http);
    }
    const size_t n = json_dumpb(o, text, sizeof text - 1, JSON_COMPACT);
    json_decref(o);
    if (n == 0 || n >= sizeof text) {
        return error_set(err, ST_TOO_LARGE, "addresses of over %d bytes",
                         ADDRESS_BYTES);
    }
    text[n] = '\n';
    return store_write(s, ADDRESSES, text, n + 1, 0644, err);
}

enum status store_join(struct store *s, const char *text, struct error *err)
{
    struct buf b;
    buf_init(&b, 4096);
    enum status st = buf_printf(&b, "%s\n", text);
    if (st == ST_OK) {
        st = store_write(s, "join", b.data, b.len, 0600, err);
    } else {
        error_set(err, st, "the join string: %s", status_text(st));
    }
    if (b.data) sodium_memzero(b.data, b.len);
    buf_fini(&b);
    return st;
}

static enum status make_operator(struct store *s,
                                 char secret[STORE_OPERATOR_BYTES],
                                 struct error *err)
{
    uint8_t random[(STORE_OPERATOR_BYTES - 1) / 2];
    char line[STORE_OPERATOR_BYTES + 1], reason[96];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        return error_set(err, ST_IO, "no random numbers: %s",
                         strerror_r(errno, reason, sizeof reason));
    }
    sodium_bin2hex(line, STORE_OPERATOR_BYTES, random, sizeof random);
    line[STORE_OPERATOR_BYTES - 1] = '\n';
    const enum status st =
        store_write(s, "operator", line, STORE_OPERATOR_BYTES, 0600, err);
    if (st == ST_OK) {
        line[STORE_OPERATOR_BYTES - 1] = '\0';
        memcpy(secret, line, STORE_OPERATOR_BYTES);
    }
    sodium_memzero(random, sizeof random);
    sodium_memzero(line, sizeof line);
    return st;
}

enum status store_operator(struct store *s, char secret[STORE_OPERATOR_BYTES],
                           struct error *err)
{
    char path[FILES_PATH_BYTES];
    struct buf b;
    if (!store_path(s, "operator", path)) {
        return error_set(err, ST_USAGE, "%.100s...: too long for a path",
                         s->dir);
    }
    buf_init(&b, STORE_OPERATOR_BYTES);
    enum status st = files_read(&b, path, OPEN_BITS, err);
    if (st == ST_NOT_FOUND) {
        buf_fini(&b);
        return make_operator(s, secret, err);
    }
    const bool whole = st == ST_OK && b.len == STORE_OPERATOR_BYTES &&
                       b.data[b.len - 1] == '\n' &&
                       strspn(b.data, "0123456789abcdef") == b.len - 1;
    if (whole) {
        memcpy(secret, b.data, STORE_OPERATOR_BYTES - 1);
        secret[STORE_OPERATOR_BYTES - 1] = '\0';
    } else if (st == ST_OK || st == ST_TOO_LARGE) {
        st = error_set(err, ST_INVALID,
                       "%.180s is damaged: remove it to get a new one", path);
    }
    if (b.data) sodium_memzero(b.data, b.len);
    buf_fini(&b);
    return st;
}

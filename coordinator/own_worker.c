#include "coordinator/own_worker.h"

#include <stdio.h>
#include <string.h>

#include "common/join.h"
#include "common/machine.h"

static enum status folder(char path[FILES_PATH_BYTES], struct store *s,
                          const char *name, struct error *err)
{
    if (store_path(s, name, path)) return ST_OK;
    return error_set(err, ST_USAGE, "--state: the path is too long");
}

enum status own_worker_key(uint8_t pub[KEY_BYTES], struct store *s,
                           struct error *err)
{
    char path[FILES_PATH_BYTES];
    struct net_key key;
    enum status st = folder(path, s, "local", err);
    if (st == ST_OK) st = files_make_dir(path, err);
    if (st == ST_OK) st = folder(path, s, "local/key", err);
    if (st == ST_OK) st = net_key_load(&key, path, err);
    if (st != ST_OK) return st;
    memcpy(pub, key.pub, KEY_BYTES);
    memset(&key, 0, sizeof key);
    return ST_OK;
}

enum status own_worker_create(struct child **out, const struct own_worker *w,
                              struct store *s,
                              void (*say)(void *, const char *),
                              struct error *err)
{
    char state[FILES_PATH_BYTES], text[JOIN_TEXT_BYTES], name[LIMIT_NAME + 1];
    struct join j = {.port = w->port};
    const enum status st = folder(state, s, "local", err);
    if (st != ST_OK) return st;
    machine_name(name, "coordinator");
    snprintf(j.host, sizeof j.host, "%s",
             strcmp(w->listen, "0.0.0.0") == 0 ? "127.0.0.1" : w->listen);
    memcpy(j.key, w->coordinator_key, KEY_BYTES);
    join_format(text, &j);
    /* The model lies on this machine anyway: no copies of its pieces. */
    const char *args[16] = {"--name", name,         "--state",
                            state,    "--no-cache", "--no-progress"};
    size_t n = 6;
    if (w->threads) {
        args[n++] = "--threads";
        args[n++] = w->threads;
    }
    if (w->memory) {
        args[n++] = "--memory";
        args[n++] = w->memory;
    }
    const struct child_options o = {
        .program = "potluck-worker", .args = args, .join = text, .say = say};
    return child_create(out, &o, err);
}

#include "coordinator/served.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/limits.h"

/* The file's name; a split model's without its number. */
static void set_name(struct served *s, const char *path)
{
    const char *slash = strrchr(path, '/');
    snprintf(s->name, sizeof s->name, "%s", slash ? slash + 1 : path);
    char *end = strstr(s->name, ".gguf");
    if (end) *end = '\0';
    const size_t n = strlen(s->name);
    static const char shape[] = "-00001-of-00000";
    const size_t cut = sizeof shape - 1;
    if (n > cut && strncmp(s->name + n - cut, shape, 10) == 0) {
        s->name[n - cut] = '\0';
    }
}

static enum status open_parts(struct served *s, const char *path,
                              const char *state_dir, manifest_say_fn *say,
                              void *say_arg, struct error *err)
{
    enum status st = model_describe(&s->model, s->gguf, err);
    if (st == ST_OK) st = tokenizer_create(&s->tokenizer, s->gguf, err);
    if (st != ST_OK) return st;
    if (tokenizer_n_vocab(s->tokenizer) > s->model.n_vocab) {
        return error_set(err, ST_INVALID,
                         "the tokenizer has %u tokens, the embedding %u",
                         tokenizer_n_vocab(s->tokenizer), s->model.n_vocab);
    }
    /* without a template texts can still be completed */
    st = chat_create(&s->chat, s->gguf, &s->why_no_chat);
    if (st == ST_NO_MEMORY) return error_set(err, st, "chat template");
    st = gguf_strip_header(s->gguf, &s->header, err);
    if (st != ST_OK) return st;
    return manifest_open(&s->manifest, s->gguf, path, state_dir, say, say_arg,
                         err);
}

enum status served_open(struct served *out, const char *path,
                        const char *state_dir, manifest_say_fn *say,
                        void *say_arg, struct error *err)
{
    struct served s = {0};
    struct stat file;
    buf_init(&s.header, LIMIT_ASSIGN_BYTES / 2);
    enum status st = gguf_open(&s.gguf, path, err);
    if (st != ST_OK) return st;
    if (stat(path, &file) == 0) s.created = (uint64_t)file.st_mtime;
    set_name(&s, path);
    st = open_parts(&s, path, state_dir, say, say_arg, err);
    if (st != ST_OK) {
        served_close(&s);
        return error_prefix(err, st, "%s", path);
    }
    *out = s;
    return ST_OK;
}

void served_close(struct served *s)
{
    manifest_close(s->manifest);
    buf_fini(&s->header);
    chat_free(s->chat);
    tokenizer_free(s->tokenizer);
    model_fini(&s->model);
    gguf_close(s->gguf);
    *s = (struct served){0};
}

/* served.h - the model being served, opened once: description, tokenizer,
 * header for the workers, names of its cells.
 *
 * Depends on: engine (model, tokenizer, chat), manifest.  Thread: open and
 * close one; between them read-only, but for the manifest, which is any's. */
#ifndef COORDINATOR_SERVED_H
#define COORDINATOR_SERVED_H

#include "coordinator/manifest.h"
#include "engine/chat.h"
#include "engine/model.h"
#include "engine/tokenizer.h"

struct served {
    struct gguf *gguf;
    struct model model;
    struct tokenizer *tokenizer;
    struct chat *chat;        /* NULL: the file has no template we can use, */
    struct error why_no_chat; /* and this is why */
    struct buf header;        /* gguf_strip_header */
    struct manifest *manifest;
    char name[128];   /* the file's, without folder and .gguf */
    uint64_t created; /* seconds since 1970 */
};

/* Errors name the file. */
NODISCARD enum status served_open(struct served *out, const char *path,
                                  const char *state_dir, manifest_say_fn *say,
                                  void *say_arg, struct error *err);
void served_close(struct served *s);

#endif

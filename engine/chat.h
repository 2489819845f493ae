/* chat.h - messages to a prompt, by the model's own chat template.
 *
 * Depends on: gguf, tokenizer, jinja, jansson.  Thread: create and free one;
 * between them read-only, so any.
 *
 * The template is the GGUF's tokenizer.chat_template (Jinja); a file without
 * one may name a format that is built in.  What came from the messages stays
 * marked through the rendering, so that it can never become a control token,
 * whatever it says. */
#ifndef ENGINE_CHAT_H
#define ENGINE_CHAT_H

#include <jansson.h>

#include "engine/gguf.h"
#include "engine/tokenizer.h"

struct chat;

struct chat_prompt {             /* zero-initialise */
    struct buf text;             /* UTF-8, not terminated */
    struct tokenize_span *plain; /* [n_plain]: came from the messages */
    size_t n_plain;
};
void chat_prompt_fini(struct chat_prompt *p);

/* Copies what it needs.  ST_NOT_FOUND: the file has no template and names no
 * format; ST_UNSUPPORTED, ST_INVALID: its template is not one that we can
 * read (err names line and construct). */
NODISCARD enum status chat_create(struct chat **out, const struct gguf *g,
                                  struct error *err);
void chat_free(struct chat *c); /* NULL allowed */

struct chat_input {
    json_t *messages; /* array of {"role", "content", ...}; borrowed */
    json_t *tools;    /* array, or NULL */
    bool add_generation_prompt;
    int64_t now; /* Unix seconds, for strftime_now; UTC */
};

/* The text and its marks into *out (replaced).  ST_INVALID: the messages are
 * not what the template takes (raise_exception's own words, or the shape that
 * is wrong); ST_TOO_LARGE: more steps or output than allowed. */
NODISCARD enum status chat_render(const struct chat *c,
                                  const struct chat_input *in,
                                  struct chat_prompt *out, struct error *err);

/* Appends the prompt's ids: control tokens parsed in the template's own text
 * only; BOS in front as the file says, unless the text begins with it. */
NODISCARD enum status chat_encode(const struct tokenizer *t,
                                  const struct chat_prompt *p,
                                  struct tokens *out, struct error *err);

#endif

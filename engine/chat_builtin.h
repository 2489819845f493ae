/* chat_builtin.h - chat formats for files that bring no template.
 *
 * Depends on: gguf.  Thread: any. */
#ifndef ENGINE_CHAT_BUILTIN_H
#define ENGINE_CHAT_BUILTIN_H

#include "engine/gguf.h"

struct chat_builtin {
    const char *name;   /* as files name it: "chatml"                      */
    const char *token;  /* a vocabulary that has it speaks it; NULL: none  */
    const char *source; /* Jinja                                           */
};

/* NULL: no format of this name. */
const struct chat_builtin *chat_builtin_by_name(struct gguf_str name);
/* By the vocabulary; NULL: it has none of the tokens. */
const struct chat_builtin *chat_builtin_by_vocabulary(const struct gguf *g);
/* "chatml, llama2, ..." for errors; text of at least 128 bytes, returned. */
const char *chat_builtin_names(char text[128]);

#endif

/* answer.h - a prompt to a pool, its answer to standard output as it comes.
 *
 * The prompt is a message, unless ask->raw, or the pool's model has no chat
 * template (a base model): then it is a text to be completed.
 *
 * Depends on: ask, http.  Thread: main.  `run` and `demo` use it. */
#ifndef CLIENT_ANSWER_H
#define CLIENT_ANSWER_H

#include "client/ask.h"
#include "client/http.h"

/* Of a stream that says nothing at all, not even that one is waiting: a long
 * prompt on old PCs takes minutes. */
#define ANSWER_SILENCE_S 900

struct answer_request {
    const struct http_pool *pool;
    const struct ask *ask;
    const char *model; /* NULL: the one there is */
    const struct buf *prompt;
    uint32_t silence_s;
};

/* What may be said of it afterwards. */
struct answer_figures {
    size_t n_prompt, n_tokens;
    double prompt_per_second, predicted_per_second;
};

/* Prints text (or, with ask->json, the object) to standard output and writes
 * ask->logits_path.  EXIT_CODE_USAGE: the prompt is not UTF-8.  _BROKE_OFF,
 * _NOT_READY, _REFUSED, _UNREACHABLE as in http.h; what came before stays
 * printed, with a newline.  _INTERRUPTED: finish_reason is "interrupted".
 * _FAILURE: a file, or nonsense from the server.  figures may be NULL, and is
 * written with EXIT_CODE_OK alone. */
NODISCARD enum exit_code answer_print(const struct answer_request *r,
                                      struct answer_figures *figures,
                                      struct error *err);

#endif

/* api_request.h - the body of POST /v1/completions or /v1/chat/completions,
 * checked.
 *
 * Depends on: api_text, engine/sample, engine/tokenizer, jansson.  Thread: any.
 *
 * Fields nobody knows are ignored, and so are known ones at the value that
 * changes nothing; a known one that would change the answer and is not built
 * is refused by name.  null stands for absent. */
#ifndef COORDINATOR_API_REQUEST_H
#define COORDINATOR_API_REQUEST_H

#include "coordinator/api_text.h"
#include "engine/sample.h"
#include "engine/tokenizer.h"

/* Values in a body: each costs jansson some 50 bytes, however short it is
 * written; and arrays and objects, which cost more. */
#define API_VALUES_MAX 1048576u
#define API_NESTS_MAX  1024u

#define API_MAX_TOKENS 16 /* unless said otherwise: OpenAI's default */
#define API_MAX_TOKENS_CHAT                                                    \
    1024 /* OpenAI has no limit there; a pool of old                           \
            PCs must reserve the cache beforehand */

struct api_request {
    json_t *messages; /* of a chat, as chat_messages_read gives them */
    char *text;       /* NULL: the prompt is ids, or messages */
    size_t text_bytes;
    struct tokens ids; /* each below n_vocab */
    uint32_t max_tokens;
    struct sample_params sample; /* bias: the request's own */
    struct head_adjust *bias;
    struct stops stops;
    char *model; /* NULL: not said; a NUL inside ends it */
    bool stream, include_usage, return_token_ids, return_logits;
};

/* ST_INVALID, ST_USAGE, ST_UNSUPPORTED (not built), ST_NO_MEMORY; *param: the
 * field at fault, static, or NULL.  A seed that is absent, or -1, is drawn, and
 * below 2^53 so that JSON readers keep it whole. */
NODISCARD enum status api_request_parse(struct api_request *out,
                                        const char *body, size_t n, bool chat,
                                        uint32_t n_vocab, const char **param,
                                        struct error *err);
void api_request_fini(struct api_request *r);

/* Bounds API_VALUES_MAX and API_NESTS_MAX before jansson allocates for them;
 * then an object.  NULL: err says why. */
json_t *api_parse_object(const char *body, size_t n, struct error *err);

#endif

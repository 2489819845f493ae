/* api_internal.h - what the api_*.c files share.
 *
 * Depends on: api, api_request.  Thread: loop. */
#ifndef COORDINATOR_API_INTERNAL_H
#define COORDINATOR_API_INTERNAL_H

#include "coordinator/api.h"
#include "coordinator/api_request.h"

#define API_JSON          "application/json"
#define API_OPERATOR_MAX  256
#define API_RETRY_AFTER_S "5"
#define API_ANSWER_MAX    ((size_t)256 << 20)

struct completion;
struct api {
    struct http *http;
    struct api_options options;
    char operator_token[API_OPERATOR_MAX];
    struct completion *completions;
    uint64_t n_completions;
    char boot[17]; /* of completions' ids */
};

struct api_error {
    unsigned status;
    const char *type, *param, *code; /* param, code: may be NULL */
    uint32_t n_prompt, n_context;    /* said unless 0 */
    bool final;                      /* trying again would cost as much again */
};
/* What a status of the pool means to a client. */
struct api_error api_error_of(enum status st, const char *param);

/* {"error":...} appended. */
NODISCARD enum status api_error_json(struct buf *b, const struct api_error *e,
                                     const char *message);
/* The call is over after each of these. e->param of a 405 is the method that
 * is allowed. */
void api_refuse(struct http_call *c, const struct api_error *e,
                const char *message);
void api_no_such_model(struct http_call *c, const char *param);
void api_not_ready(struct api *a, struct http_call *c);
void api_reply(struct http_call *c, unsigned status, json_t *value);

/* chat: the body has messages, and the answer is a message. */
void api_completion(struct api *a, struct http_call *call,
                    const struct http_request *r, bool chat);
/* Comments to streams that are silent. */
void api_completions_tick(struct api *a);

/* /v1/keys and what is below. */
void api_keys(struct api *a, struct http_call *call,
              const struct http_request *r);

#endif

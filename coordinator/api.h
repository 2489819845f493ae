/* api.h - the pool over HTTP: chat, completions, models, state, keys.
 *
 * Depends on: http, pool.h, admit.h, api_request, jansson, libsodium.
 * Thread: loop, all of it.
 *
 *   POST /v1/chat/completions         JSON, or SSE with "stream": true
 *   POST /v1/completions              the same
 *   GET  /v1/models, /v1/models/ID    also without /v1
 *   GET  /health                      200 once the pool can answer, else 503
 *   GET  /v1/cluster                  pool_status_json
 *   GET  /                            what this is
 *   GET  /v1/keys; POST /v1/keys/invite, approve, revoke, add
 *                                     with "Authorization: Bearer TOKEN"
 *
 * Errors are {"error": {"message", "type", "param", "code"}}.  Neither prompts
 * nor answers are kept beyond the request, and none is logged. */
#ifndef COORDINATOR_API_H
#define COORDINATOR_API_H

#include "common/join.h"
#include "coordinator/admit.h"
#include "coordinator/http.h"
#include "coordinator/pool.h"
#include "engine/chat.h"

struct api;
struct api_options {
    const char *address;     /* as http_options.address; needed only now */
    struct pool_host *pool;  /* borrowed until api_close */
    struct admit *admit;     /* the same */
    const struct chat *chat; /* the same; NULL: chats are refused, saying */
    const struct error *why_no_chat; /* this (the same) */
    /* What the operator's routes want; copied. NULL or "": they are closed. */
    const char *operator_token;
    /* The string that lets a machine in with this token. */
    enum status (*join)(void *arg, const char *token,
                        char text[JOIN_TEXT_BYTES], struct error *err);
    /* This key is enrolled no more: drop its node. */
    void (*revoked)(void *arg, const uint8_t key[KEY_BYTES]);
    void *arg;
    struct http_options http; /* limits; zero: usual. The rest is set here */
};

/* Listens from now on.  Errors as http_create's, and ST_NO_MEMORY. */
NODISCARD enum status api_create(struct api **out, struct uv_loop_s *loop,
                                 const struct api_options *options,
                                 struct error *err);
uint32_t api_port(const struct api *a); /* actual, for addresses.json */
/* Cancels what runs and closes, before the pool and admit are freed; the loop
 * needs some more turns for its handles.  NULL allowed. */
void api_close(struct api *a);

#endif

/* chat_input.h - messages as people and clients send them, to token ids.
 *
 * Depends on: chat, tokenizer, jansson.  Thread: any. */
#ifndef ENGINE_CHAT_INPUT_H
#define ENGINE_CHAT_INPUT_H

#include "engine/chat.h"

#define CHAT_MESSAGES_MAX 4096

/* Messages in OpenAI's shape as templates expect them: a new array of objects
 * with "role" and a "content" that is one string, the members "name",
 * "tool_calls" and "tool_call_id" as they came.  Text parts are joined, absent
 * content becomes "", role "developer" becomes "system".  ST_INVALID names the
 * message and what is wrong with it (a part that is no text, for one). */
NODISCARD enum status chat_messages_read(json_t **out, const json_t *messages,
                                         struct error *err);

/* An array of at most two messages; system may be NULL.  ST_USAGE: not
 * UTF-8. */
NODISCARD enum status chat_messages_make(json_t **out, const char *system,
                                         const char *user, size_t n_user,
                                         struct error *err);

/* Appends the ids of the prompt that asks for the next answer.  Many
 * templates refuse a system message (Gemma 2, Mistral's first ones): then it
 * is put in front of the first message of the user, with an empty line between
 * them.  messages is as chat_messages_read gives it; now: Unix seconds. */
NODISCARD enum status chat_ids(const struct chat *c, const struct tokenizer *t,
                               json_t *messages, int64_t now,
                               struct tokens *out, struct error *err);

#endif

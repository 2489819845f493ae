#include "coordinator/api_answer.h"

#include <inttypes.h>
#include <string.h>

#include "coordinator/api_text.h"

enum status answer_head(struct buf *b, const struct answer_shape *s)
{
    const char *object = !s->chat    ? "text_completion"
                         : s->stream ? "chat.completion.chunk"
                                     : "chat.completion";
    const enum status st = buf_printf(
        b,
        "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRIu64 ",\"model\":",
        s->id, object, s->created);
    return st == ST_OK ? api_quote(b, s->model, strlen(s->model)) : st;
}

enum status answer_choice(struct buf *b, const struct answer_shape *s,
                          const char *text, size_t n, const char *reason)
{
    const bool empty = s->chat && s->stream && n == 0; /* "delta":{} */
    enum status st = buf_printf(
        b, ",\"choices\":[{\"index\":0,%s",
        !s->chat    ? "\"text\":"
        : empty     ? "\"delta\":{"
        : s->stream ? "\"delta\":{\"content\":"
                    : "\"message\":{\"role\":\"assistant\",\"content\":");
    if (st == ST_OK && !empty) st = api_quote(b, text, n);
    if (st == ST_OK && s->chat) st = buf_append(b, "}", 1);
    if (st != ST_OK) return st;
    return reason ? buf_printf(b, ",\"logprobs\":null,\"finish_reason\":\"%s\"",
                               reason)
                  : buf_printf(b, ",\"logprobs\":null,\"finish_reason\":null");
}

enum status answer_role(struct buf *b)
{
    return buf_printf(b, ",\"choices\":[{\"index\":0,\"delta\":{\"role\":"
                         "\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                         "\"finish_reason\":null");
}

enum status answer_ids(struct buf *b, const int32_t *id, size_t n)
{
    enum status st = buf_append(b, ",\"token_ids\":[", 14);
    for (size_t i = 0; st == ST_OK && i < n; i++)
        st = buf_printf(b, i ? ",%" PRId32 : "%" PRId32, id[i]);
    return st == ST_OK ? buf_append(b, "]", 1) : st;
}

enum status answer_logits(struct buf *b, const float *logits, uint32_t n)
{
    enum status st = buf_append(b, ",\"logits\":\"", 11);
    if (st == ST_OK) st = api_base64(b, logits, 4 * (size_t)n);
    return st == ST_OK ? buf_append(b, "\"", 1) : st;
}

enum status answer_usage(struct buf *b, const struct pool_usage *u)
{
    return buf_printf(
        b,
        ",\"usage\":{\"prompt_tokens\":%" PRIu32
        ",\"completion_tokens\":%" PRIu32 ",\"total_tokens\":%" PRIu64
        ",\"prompt_tokens_details\":{\"cached_tokens\":0}}",
        u->n_prompt, u->n_generated, (uint64_t)u->n_prompt + u->n_generated);
}

static double per_second(uint64_t n, uint64_t ns)
{
    return ns ? (double)n * 1e9 / (double)ns : 0;
}

/* The first token comes out of the prompt's own steps. */
enum status answer_timings(struct buf *b, const struct pool_usage *u)
{
    const uint32_t n = u->n_generated;
    return buf_printf(b,
                      ",\"timings\":{\"prompt_n\":%" PRIu32
                      ",\"prompt_ms\":%.3f,\"prompt_per_second\":%.3f,"
                      "\"predicted_n\":%" PRIu32
                      ",\"predicted_ms\":%.3f,\"predicted_per_second\":%.3f,"
                      "\"queued_ms\":%.3f}",
                      u->n_prompt, (double)u->prompt_ns / 1e6,
                      n ? per_second(u->n_prompt, u->prompt_ns) : 0, n,
                      (double)u->decode_ns / 1e6,
                      n ? per_second(n - 1, u->decode_ns) : 0,
                      (double)u->queued_ns / 1e6);
}

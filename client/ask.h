/* ask.h - what `local` and `run` have in common: the options of a request, the
 * prompt, the way the answer is printed.
 *
 * Depends on: commands, engine/sample.  Thread: main.
 * One code for both, so that a pool's output can be compared with `local`'s
 * byte for byte. */
#ifndef CLIENT_ASK_H
#define CLIENT_ASK_H

#include "client/commands.h"

#define PROMPT_MAX (16u << 20)

struct ask {
    struct sample_params sample;
    const char *instruction, *system, *logits_path;
    uint32_t n_max;
    uint64_t seed;
    bool raw, json, stats;
};

#define ASK_OPTIONS(a)                                                           \
    {"--instruction",                                                            \
     'p',                                                                        \
     OPTION_STRING,                                                              \
     &(a)->instruction,                                                          \
     "TEXT",                                                                     \
     "an instruction; PROMPT or stdin is its context",                           \
     0,                                                                          \
     0},                                                                         \
        {"--tokens",  'n',          OPTION_U32,                                  \
         &(a)->n_max, "N",          "tokens at most (default 256)",              \
         0,           MODEL_CTX_MAX},                                            \
        {"--temp",   0,                                                          \
         OPTION_F32, &(a)->sample.temperature,                                   \
         "T",        "temperature (default 0.8); 0: always the likeliest",       \
         0,          0},                                                         \
        {"--top-k",  0,                                                          \
         OPTION_U32, &(a)->sample.top_k,                                         \
         "K",        "choose among the K likeliest (default 40); 0: all",        \
         0,          UINT32_MAX},                                                \
        {"--top-p",  0,                                                          \
         OPTION_F32, &(a)->sample.top_p,                                         \
         "P",        "... among those that make up P (default 0.95)",            \
         0,          0},                                                         \
        {"--min-p",  0,                                                          \
         OPTION_F32, &(a)->sample.min_p,                                         \
         "P",        "... with P of the likeliest one's share (default 0)",      \
         0,          0},                                                         \
        {"--typical", 0,                                                         \
         OPTION_F32,  &(a)->sample.typical_p,                                    \
         "P",         "locally typical sampling (default 1: off)",               \
         0,           0},                                                        \
        {"--repeat-penalty",                                                     \
         0,                                                                      \
         OPTION_F32,                                                             \
         &(a)->sample.repeat,                                                    \
         "X",                                                                    \
         "make recent tokens less likely (default 1: off)",                      \
         0,                                                                      \
         0},                                                                     \
        {"--seed",   0,   OPTION_U64,                                            \
         &(a)->seed, "S", "the same seed, the same answer (default: random)",    \
         0,          0},                                                         \
        {"--system",                                                             \
         's',                                                                    \
         OPTION_STRING,                                                          \
         &(a)->system,                                                           \
         "TEXT",                                                                 \
         "a system message, in front of the prompt",                             \
         0,                                                                      \
         0},                                                                     \
        {"--raw",   0,    OPTION_FLAG,                                           \
         &(a)->raw, NULL, "complete the text as it is: no chat template",        \
         0,         0},                                                          \
        {"--json", 0, OPTION_FLAG, &(a)->json, NULL, "print one JSON object",    \
         0,        0},                                                           \
        {"--stats", 0, OPTION_FLAG, &(a)->stats, NULL, "print speeds to stderr", \
         0,         0},                                                          \
    {                                                                            \
        "--logits", 0, OPTION_STRING, &(a)->logits_path, "FILE",                 \
            "write the f32 logits of each generated position", 0, 0              \
    }

void ask_defaults(struct ask *a);
/* After parsing.  ST_USAGE names what is out of range, or -s with --raw. */
NODISCARD enum status ask_finish(struct ask *a, struct error *err);
/* PROMPT, or standard input where word is NULL or "-"; with an instruction
 * that is its context, and follows it.  b: max PROMPT_MAX. */
NODISCARD enum status ask_read_prompt(const struct ask *a, const char *word,
                                      struct buf *b, struct error *err);

/* What there is to say at the end; borrowed. */
struct ask_result {
    const struct buf *text;
    const int32_t *tokens; /* the end token included */
    size_t n_tokens, n_prompt;
    double prompt_ms, prompt_per_second;
    double predicted_ms, predicted_per_second;
    uint64_t seed;
    const char *finish_reason;
};

/* Writes text from *printed on to standard output, and flushes. */
NODISCARD enum status ask_print_text(const struct buf *text, size_t *printed,
                                     struct error *err);
/* The --json object, or the rest of the text and a newline; --stats. */
NODISCARD enum status ask_print_result(const struct ask *a,
                                       const struct ask_result *r,
                                       size_t *printed, struct error *err);

#endif

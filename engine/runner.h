/* runner.h - a whole model in this process: open a file, feed tokens, read
 * logits.  What `potluck local`, `bench` and `perplexity` stand on, and the
 * reference that every pool must equal.
 *
 * Depends on: shard, step, tokenizer.  Thread: its owner's. */
#ifndef ENGINE_RUNNER_H
#define ENGINE_RUNNER_H

#include "engine/sample.h"
#include "engine/step.h"
#include "engine/tokenizer.h"

struct runner {
    struct model model;          /* numbers only, as in struct shard */
    struct tokenizer *tokenizer; /* NULL: not asked for */
    struct shard *shard;
    struct step *step;
    struct shard_bytes plan;
    /* the caller's, set after runner_open, may be NULL: before each step of
     * runner_feed, tokens done of those to feed; false: ST_INTERRUPTED */
    bool (*progress)(void *arg, uint64_t done, uint64_t total);
    void *progress_arg;
};

/* n_ctx 4096 or what the model allows, KV f16, rows 128, every physical
 * core, the best ISA, the memory that is free now; ST_INVALID as
 * cpu_isa_wanted. */
NODISCARD enum status runner_defaults(struct shard_options *o,
                                      struct error *err);

/* The memory that runner_open will take for a model; puts the default into
 * o->n_ctx where it is 0.  ST_USAGE: more context than the model allows. */
NODISCARD enum status runner_plan(struct shard_bytes *out,
                                  const struct model *m,
                                  struct shard_options *o, struct error *err);

/* with_tokenizer false: token ids only, and any tokenizer is accepted.
 * o->n_ctx above what the model allows is an error; 0 takes the lesser of
 * 4096 and the model's. */
NODISCARD enum status runner_open(struct runner *out, const char *path,
                                  const struct shard_options *o,
                                  bool with_tokenizer, struct error *err);
void runner_close(struct runner *r);

/* Called for each wanted row, in order: index among the fed tokens, its
 * logits [n_vocab], valid during the call, restorable changes allowed.
 * A status other than ST_OK ends the feeding. */
typedef enum status runner_row_fn(void *arg, size_t index, float *logits,
                                  struct error *err);

/* Append n tokens to sequence seq, in steps of at most rows_max (and
 * outputs_max).  want_all: every token's logits, else the last one's. */
NODISCARD enum status runner_feed(struct runner *r, uint64_t seq,
                                  const int32_t *tokens, size_t n,
                                  bool want_all, runner_row_fn *fn, void *arg,
                                  struct error *err);
/* Forget a sequence. */
void runner_drop(struct runner *r, uint64_t seq);

struct generation {
    size_t n_max; /* tokens */
    struct sampler *sampler;
    /* per token, before it is fed again: ST_INTERRUPTED ends in peace. logits
     * are the row that it was chosen from. */
    enum status (*token)(void *arg, int32_t id, const float *logits,
                         struct error *err);
    void *arg;
    /* out */
    struct tokens tokens;      /* generated; the caller's to fini */
    const char *finish_reason; /* "stop", "length" */
    uint64_t prompt_ns, decode_ns;
};

/* Complete a prompt on a fresh sequence.  Ends with an end token ("stop"),
 * n_max or a full context ("length").  ST_USAGE: the prompt is empty or longer
 * than the context. */
NODISCARD enum status runner_generate(struct runner *r, const int32_t *prompt,
                                      size_t n_prompt, struct generation *g,
                                      struct error *err);

#endif

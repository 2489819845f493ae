/* engine_rig.h - generated models opened for tests of the engine.
 *
 * Depends on: engine, gen_model, cmocka.  Thread: the test's.
 * A failure in here fails the running test. */
#ifndef TESTS_LIB_ENGINE_RIG_H
#define TESTS_LIB_ENGINE_RIG_H

#include "common/rng.h"
#include "engine/step.h"
#include "tests/lib/gen_model.h"

/* What the last function that failed has said. */
extern struct error rig_err;

#define assert_ok(st) rig_assert_ok((st), __FILE__, __LINE__)
void rig_assert_ok(enum status st, const char *file, int line);
/* The status, and word in rig_err's text. */
#define assert_fails(st, want, word)                                           \
    rig_assert_fails((st), (want), (word), __FILE__, __LINE__)
void rig_assert_fails(enum status st, enum status want, const char *word,
                      const char *file, int line);

/* Uniform in [-1, 1). */
float rig_uniform(struct rng *rng);
/* Roughly normal, variance 1. */
float rig_normal(struct rng *rng);

/* 4 layers of F32, Q8_0, Q4_K and Q6_K, dim 256, 600 tokens; dense, or with 8
 * experts of which 2 are used. */
struct gen_model rig_dense(void);
struct gen_model rig_moe(void);

struct rig {
    struct gguf *gguf;
    struct model model;
};
/* Write the model, open it, remove the files. */
void rig_open(struct rig *r, const struct gen_model *m);
void rig_close(struct rig *r);

/* Reference kernels, one thread, 33 rows a step that may all want logits, 8
 * sequences of the model's whole context. */
struct shard_options rig_options(const struct model *m);
/* All of the model on one shard; the spec is dropped again. */
struct shard *rig_whole(const struct rig *r, const struct shard_options *o);

/* One step of one whole shard; logits of wanted rows, one after the other,
 * to logits. */
void rig_step(struct shard *s, struct step *st, const struct step_row *rows,
              uint32_t n_rows, float *logits);
void rig_op(struct shard *s, enum kv_op_kind kind, uint64_t seq,
            uint64_t source, uint32_t n);

/* Logits after each of n tokens, [n][n_vocab] (mem_free): reference kernels,
 * one thread, a token a step. */
float *rig_reference(const struct rig *r, enum kv_type kv,
                     const int32_t *tokens, uint32_t n);
/* Sequences fed to one shard, in whatever steps, and what each token's logits
 * must be. */
#define RIG_SEQS_MAX 4
struct rig_text {
    uint32_t n_seqs, n_vocab;
    uint32_t n[RIG_SEQS_MAX];
    int32_t *tokens[RIG_SEQS_MAX];
    float *want[RIG_SEQS_MAX]; /* [n][n_vocab] */
};
void rig_text_open(struct rig_text *t, const struct rig *r, enum kv_type kv,
                   uint32_t n_seqs, const uint32_t *n);
void rig_text_close(struct rig_text *t);

/* Rows of the sequences in a random mix: at[i] tokens of sequence i are in
 * the cache (moved on), seq_id[i] is its id. Returns rows, none at the end. */
uint32_t rig_mix(const struct rig_text *t, struct rng *rng,
                 const uint64_t *seq_id, uint32_t *at, uint32_t rows_max,
                 struct step_row *rows);
/* The wanted rows' logits against t->want. */
void rig_assert_rows(const struct rig_text *t, const uint64_t *seq_id,
                     const struct step_row *rows, uint32_t n_rows,
                     const float *logits, const char *what);

/* Bit for bit, else the first difference fails the test. */
void rig_assert_same(const float *got, const float *want, size_t n,
                     const char *what);

#endif

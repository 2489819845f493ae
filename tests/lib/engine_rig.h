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
/* Bit for bit, else the first difference fails the test. */
void rig_assert_same(const float *got, const float *want, size_t n,
                     const char *what);

#endif

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/engine_rig.h"

struct error rig_err;

void rig_assert_ok(enum status st, const char *file, int line)
{
    if (st == ST_OK) return;
    print_error("%s: %s\n", status_name(st), rig_err.text);
    _fail(file, line);
}

void rig_assert_fails(enum status st, enum status want, const char *word,
                      const char *file, int line)
{
    if (st == want && strstr(rig_err.text, word)) return;
    print_error("%s \"%s\"; wanted %s with \"%s\"\n", status_name(st),
                rig_err.text, status_name(want), word);
    _fail(file, line);
}

float rig_uniform(struct rng *rng)
{
    return (float)(2.0 * rng_unit(rng_u64(rng)) - 1.0);
}

float rig_normal(struct rng *rng)
{
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += rig_uniform(rng);
    return sum / 2; /* twelve of variance 1/3 */
}

static struct gen_model mixed_types(const char *preset)
{
    struct gen_model m;
    assert_ok(gen_model_preset(&m, preset, &rig_err));
    m.n_layer = 4;
    m.n_ff = 256;
    m.n_vocab = 600;
    m.n_ctx = 128;
    m.type[GEN_EMBD] = QUANT_Q4_K;
    m.type[GEN_HEAD] = QUANT_Q6_K;
    m.type[GEN_ATTN] = QUANT_Q8_0;
    m.type[GEN_ATTN_V] = QUANT_F32;
    m.type[GEN_FFN] = QUANT_Q4_K;
    m.type[GEN_FFN_DOWN] = QUANT_Q6_K;
    return m;
}

struct gen_model rig_dense(void)
{
    return mixed_types("tiny-dense");
}

struct gen_model rig_moe(void)
{
    return mixed_types("tiny-moe");
}

void rig_open(struct rig *r, const struct gen_model *m)
{
    char dir[] = "/tmp/test_engine_XXXXXX", path[128];
    if (!mkdtemp(dir)) fail_msg("no directory for the model");
    for (uint32_t i = m->n_splits; i > 0; i--) { /* so that path is the first */
        if (m->n_splits == 1)
            snprintf(path, sizeof path, "%s/m.gguf", dir);
        else
            snprintf(path, sizeof path, "%s/m-%05u-of-%05u.gguf", dir, i,
                     m->n_splits);
    }
    assert_ok(gen_model_write(m, path, &rig_err));
    assert_ok(gguf_open(&r->gguf, path, &rig_err));
    for (uint32_t i = 1; m->n_splits > 1 && i <= m->n_splits; i++) {
        snprintf(path, sizeof path, "%s/m-%05u-of-%05u.gguf", dir, i,
                 m->n_splits);
        unlink(path);
    }
    if (m->n_splits == 1) unlink(path);
    rmdir(dir);
    assert_ok(model_describe(&r->model, r->gguf, &rig_err));
}

void rig_close(struct rig *r)
{
    model_fini(&r->model);
    gguf_close(r->gguf);
}

struct shard_options rig_options(const struct model *m)
{
    return (struct shard_options){
        .isa = ISA_REF,
        .blas = BLAS_NEVER,
        .kv_type = KV_F16,
        .n_threads = 1,
        .n_ctx = m->n_ctx,
        .n_seq_max = 8,
        .rows_max = 33,
        .outputs_max = 33,
    };
}

struct shard *rig_whole(const struct rig *r, const struct shard_options *o)
{
    struct shard_spec spec;
    struct shard *s = NULL;
    assert_ok(shard_spec_whole(&spec, &r->model, &rig_err));
    assert_ok(shard_create(&s, &r->model, &spec, o, &rig_err));
    mem_free(spec.layers);
    return s;
}

void rig_step(struct shard *s, struct step *st, const struct step_row *rows,
              uint32_t n_rows, float *logits)
{
    const uint32_t n_layer = s->model.n_layer, n_vocab = s->model.n_vocab;
    uint32_t n = 0;
    const struct step_input in = {.rows = rows,
                                  .n_rows = n_rows,
                                  .embed = true,
                                  .layer_end = n_layer,
                                  .head = true};
    assert_ok(step_begin(st, &in, &rig_err));
    assert_int_equal(step_run(st), STEP_DONE);
    for (uint32_t r = 0; r < n_rows; r++) {
        if (!rows[r].want) continue;
        memcpy(logits + (size_t)n * n_vocab, step_logits(st, n),
               n_vocab * sizeof *logits);
        n++;
    }
}

void rig_op(struct shard *s, enum kv_op_kind kind, uint64_t seq,
            uint64_t source, uint32_t n)
{
    const struct kv_op op = {kind, seq, source, n};
    assert_ok(kv_apply(s->kv, &op, &rig_err));
}

float *rig_reference(const struct rig *r, enum kv_type kv,
                     const int32_t *tokens, uint32_t n)
{
    struct shard_options o = rig_options(&r->model);
    o.kv_type = kv;
    o.n_seq_max = 1;
    struct shard *s = rig_whole(r, &o);
    struct step *st = NULL;
    assert_ok(step_create(&st, s, &rig_err));
    const size_t n_vocab = r->model.n_vocab;
    float *logits = mem_zalloc_array(n * n_vocab, sizeof *logits);
    assert_non_null(logits);
    for (uint32_t i = 0; i < n; i++) {
        const struct step_row row = {0, i, tokens[i], true};
        rig_step(s, st, &row, 1, logits + i * n_vocab);
    }
    step_free(st);
    shard_free(s);
    /* a test against constants would pass anything */
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n * n_vocab; i++) {
        sum += (double)logits[i];
        squares += (double)logits[i] * (double)logits[i];
    }
    const double count = (double)(n * n_vocab), mean = sum / count;
    assert_true(squares / count - mean * mean > 0.1);
    return logits;
}

void rig_text_open(struct rig_text *t, const struct rig *r, enum kv_type kv,
                   uint32_t n_seqs, const uint32_t *n)
{
    struct rng rng = {77};
    assert_true(n_seqs <= RIG_SEQS_MAX);
    *t = (struct rig_text){.n_seqs = n_seqs, .n_vocab = r->model.n_vocab};
    for (uint32_t i = 0; i < n_seqs; i++) {
        t->n[i] = n[i];
        t->tokens[i] = mem_zalloc_array(n[i], sizeof **t->tokens);
        assert_non_null(t->tokens[i]);
        for (uint32_t j = 0; j < n[i]; j++) {
            t->tokens[i][j] = (int32_t)rng_below(&rng, t->n_vocab);
        }
        t->want[i] = rig_reference(r, kv, t->tokens[i], n[i]);
    }
}

void rig_text_close(struct rig_text *t)
{
    for (uint32_t i = 0; i < t->n_seqs; i++) {
        mem_free(t->tokens[i]);
        mem_free(t->want[i]);
    }
}

uint32_t rig_mix(const struct rig_text *t, struct rng *rng,
                 const uint64_t *seq_id, uint32_t *at, uint32_t rows_max,
                 struct step_row *rows)
{
    uint32_t n = 0, left = 0;
    for (uint32_t i = 0; i < t->n_seqs; i++) left += t->n[i] - at[i];
    const uint32_t n_rows = 1 + (uint32_t)rng_below(rng, rows_max);
    while (n < n_rows && n < left) {
        const uint32_t i = (uint32_t)rng_below(rng, t->n_seqs);
        uint32_t run = 1 + (uint32_t)rng_below(rng, 6);
        for (; run > 0 && n < n_rows && at[i] < t->n[i]; run--, at[i]++) {
            rows[n++] = (struct step_row){.seq = seq_id[i],
                                          .pos = at[i],
                                          .token = t->tokens[i][at[i]],
                                          .want = rng_below(rng, 3) != 0};
        }
    }
    return n;
}

void rig_assert_rows(const struct rig_text *t, const uint64_t *seq_id,
                     const struct step_row *rows, uint32_t n_rows,
                     const float *logits, const char *what)
{
    for (uint32_t r = 0; r < n_rows; r++) {
        if (!rows[r].want) continue;
        uint32_t i = 0;
        while (seq_id[i] != rows[r].seq) i++;
        rig_assert_same(logits, t->want[i] + (size_t)rows[r].pos * t->n_vocab,
                        t->n_vocab, what);
        logits += t->n_vocab;
    }
}

void rig_assert_same(const float *got, const float *want, size_t n,
                     const char *what)
{
    if (memcmp(got, want, n * sizeof *got) == 0) return;
    for (size_t i = 0; i < n; i++) {
        if (memcmp(got + i, want + i, sizeof *got) == 0) continue;
        fail_msg("%s: value %zu of %zu is %a, wanted %a", what, i, n,
                 (double)got[i], (double)want[i]);
    }
}

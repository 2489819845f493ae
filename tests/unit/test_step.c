/* test_step.c - the same bits: one shard with the whole model, whatever the
 * kernels, threads, steps, neighbours and pages. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tests/lib/engine_rig.h"

#define N_SEQS 3
static const uint32_t lengths[N_SEQS] = {40, 9, 34};

/* dense, mixture of experts */
static struct rig rigs[2];
static struct rig_text texts[2][KV_TYPE_END]; /* [model][kv type] */
static float *logits;                         /* [33][n_vocab] */

static int open_all(void **state)
{
    (void)state;
    const struct gen_model m[2] = {rig_dense(), rig_moe()};
    for (int i = 0; i < 2; i++) {
        rig_open(&rigs[i], &m[i]);
        for (enum kv_type kv = KV_F32; kv < KV_TYPE_END; kv++) {
            rig_text_open(&texts[i][kv], &rigs[i], kv, N_SEQS, lengths);
        }
    }
    logits = mem_zalloc_array(33 * (size_t)m[0].n_vocab, sizeof *logits);
    return logits ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        for (int kv = 0; kv < KV_TYPE_END; kv++) rig_text_close(&texts[i][kv]);
        rig_close(&rigs[i]);
    }
    mem_free(logits);
    return mem_in_use() == 0 ? 0 : -1;
}

static struct step *new_step(struct shard *s)
{
    struct step *st = NULL;
    assert_ok(step_create(&st, s, &rig_err));
    return st;
}

/* All sequences from their first token on, in random steps. */
static void feed(struct shard *s, struct step *st, const struct rig_text *t,
                 const uint64_t *seq_id, struct rng *rng, const char *what)
{
    uint32_t at[N_SEQS] = {0}, n;
    struct step_row rows[33];
    const uint32_t rows_max = s->options.rows_max;
    while ((n = rig_mix(t, rng, seq_id, at, rows_max, rows)) != 0) {
        rig_step(s, st, rows, n, logits);
        rig_assert_rows(t, seq_id, rows, n, logits, what);
    }
}

static void test_kernels_and_threads(void **state)
{
    (void)state;
    static const uint64_t ids[N_SEQS] = {UINT64_MAX, 5, UINT64_C(5) << 32};
    struct rng rng = {41};
    uint32_t round = 0;
    for (int i = 0; i < 2; i++) {
        for (enum isa isa = ISA_REF; isa <= cpu_isa(); isa++) {
            if (!cpu_runs(isa)) continue;
            /* the reference kernels are slow: once is enough */
            for (enum blas_use blas = isa == ISA_REF ? BLAS_ALWAYS
                                                     : BLAS_MEASURED;
                 blas <= BLAS_ALWAYS; blas++) {
                for (uint32_t n = 0; n < 2; n++) {
                    const uint32_t threads = 1 + round % 4;
                    struct shard_options o = rig_options(&rigs[i].model);
                    char what[80];
                    o.isa = isa;
                    o.blas = blas;
                    o.n_threads = threads;
                    o.kv_type = (enum kv_type)(round++ % KV_TYPE_END);
                    snprintf(what, sizeof what,
                             "model %d, %s, blas %d, %u threads, kv %s", i,
                             isa_name(isa), (int)blas, threads,
                             kv_type_name(o.kv_type));
                    struct shard *s = rig_whole(&rigs[i], &o);
                    struct step *st = new_step(s);
                    feed(s, st, &texts[i][o.kv_type], ids, &rng, what);
                    step_free(st);
                    shard_free(s);
                }
            }
        }
    }
}

/* Prefill in steps of 1 to 33 rows, only the last token wanted or all. */
static void test_every_batch(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct shard_options o = rig_options(&rigs[i].model);
        o.isa = cpu_isa();
        const struct rig_text *t = &texts[i][o.kv_type];
        struct shard *s = rig_whole(&rigs[i], &o);
        struct step *st = new_step(s);
        for (uint32_t size = 1; size <= 33; size += i == 0 ? 1 : 4) {
            struct step_row rows[33];
            for (uint32_t at = 0; at < t->n[2]; at += size) {
                uint32_t n = 0;
                for (; n < size && at + n < t->n[2]; n++) {
                    rows[n] =
                        (struct step_row){size, at + n, t->tokens[2][at + n],
                                          size % 2 || at + n + 1 == t->n[2]};
                }
                const uint64_t ids[] = {0, 0, size};
                rig_step(s, st, rows, n, logits);
                rig_assert_rows(t, ids, rows, n, logits, "a batch size");
            }
            rig_op(s, KV_OP_FREE, size, 0, 0);
        }
        step_free(st);
        shard_free(s);
    }
}

/* A small pool, round after round: pages come back dirty and in any order,
 * and truncated sequences go on. */
static void test_used_pages(void **state)
{
    (void)state;
    struct rng rng = {43};
    for (int i = 0; i < 2; i++) {
        struct shard_options o = rig_options(&rigs[i].model);
        o.kv_type = i == 0 ? KV_F16 : KV_Q8_0;
        o.isa = cpu_isa();
        o.n_pages = 7; /* the three sequences need five */
        const struct rig_text *t = &texts[i][o.kv_type];
        struct shard *s = rig_whole(&rigs[i], &o);
        struct step *st = new_step(s);
        for (uint64_t round = 0; round < 4; round++) {
            const uint64_t ids[N_SEQS] = {round, round + 100, round + 200};
            feed(s, st, t, ids, &rng, "used pages");
            for (uint32_t k = 0; k < N_SEQS; k++) {
                const uint32_t keep = (uint32_t)rng_below(&rng, t->n[k]);
                rig_op(s, KV_OP_TRUNCATE, ids[k], 0, keep);
                struct step_row rows[33];
                uint32_t n = 0;
                for (; n < 33 && keep + n < t->n[k]; n++) {
                    rows[n] = (struct step_row){ids[k], keep + n,
                                                t->tokens[k][keep + n], true};
                }
                rig_step(s, st, rows, n, logits);
                rig_assert_rows(t, ids, rows, n, logits, "truncated");
            }
            for (uint32_t k = 0; k < N_SEQS; k++) {
                rig_op(s, KV_OP_FREE, ids[(k + round) % N_SEQS], 0, 0);
            }
            assert_int_equal(kv_free_pages(s->kv), 7);
        }
        step_free(st);
        shard_free(s);
    }
}

/* Forks inside of a page, whose source goes another way first. */
static void test_forks(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct shard_options o = rig_options(&rigs[i].model);
        o.isa = cpu_isa();
        const struct rig_text *t = &texts[i][o.kv_type];
        struct shard *s = rig_whole(&rigs[i], &o);
        struct step *st = new_step(s);
        static const uint32_t cuts[] = {1, 5, 31, 32, 33, 39};
        for (size_t c = 0; c < COUNT_OF(cuts); c++) {
            const uint64_t ids[] = {1, 0, 0};
            struct step_row rows[33];
            for (uint32_t p = 0; p < 40; p++) {
                rows[0] = (struct step_row){1, p, t->tokens[0][p], false};
                rig_step(s, st, rows, 1, logits);
            }
            /* the fork in the step's own operations, the source's other
             * token in the same step, before the fork's */
            const struct kv_op ops[] = {{KV_OP_FORK, 2, 1, cuts[c]},
                                        {KV_OP_FORK, 3, 2, cuts[c]},
                                        {KV_OP_TRUNCATE, 1, 0, cuts[c]}};
            uint32_t n = 0;
            rows[n++] = (struct step_row){1, cuts[c], 7, false};
            rows[n++] = (struct step_row){3, cuts[c], 8, false};
            for (uint32_t p = cuts[c]; n < 33 && p < 40; p++) {
                rows[n++] = (struct step_row){2, p, t->tokens[0][p], true};
            }
            const struct step_input in = {.ops = ops,
                                          .n_ops = 3,
                                          .rows = rows,
                                          .n_rows = n,
                                          .embed = true,
                                          .layer_end = s->model.n_layer,
                                          .head = true};
            assert_ok(step_begin(st, &in, &rig_err));
            assert_int_equal(step_run(st), STEP_DONE);
            const uint64_t forked[] = {2, 0, 0};
            rig_assert_rows(t, forked, rows, n, step_logits(st, 0), "a fork");
            /* back on the right way, the source is as it was */
            rig_op(s, KV_OP_TRUNCATE, 1, 0, cuts[c]);
            rows[0] =
                (struct step_row){1, cuts[c], t->tokens[0][cuts[c]], true};
            rig_step(s, st, rows, 1, logits);
            rig_assert_rows(t, ids, rows, 1, logits, "the source of a fork");
            for (uint64_t q = 1; q <= 3; q++) rig_op(s, KV_OP_FREE, q, 0, 0);
        }
        step_free(st);
        shard_free(s);
    }
}

/* The layers in several visits of the same struct step, by `again`. */
static void test_visits(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const struct shard_options o = rig_options(&rigs[i].model);
        const struct rig_text *t = &texts[i][o.kv_type];
        struct shard *s = rig_whole(&rigs[i], &o);
        struct step *st = new_step(s);
        struct step_row rows[9];
        for (uint32_t n = 0; n < 9; n++) {
            rows[n] = (struct step_row){1, n, t->tokens[1][n], true};
        }
        struct step_input in = {.rows = rows, .n_rows = 9, .embed = true};
        for (uint32_t l = 0; l <= 5; l++) { /* embedding, layers, head */
            assert_ok(step_begin(st, &in, &rig_err));
            assert_int_equal(step_run(st), STEP_DONE);
            in.embed = false;
            in.again = true;
            in.x = step_x(st);
            in.layer_first = l < 4 ? l : 4;
            in.layer_end = l < 4 ? l + 1 : 4;
            in.head = l == 4;
        }
        const uint64_t ids[] = {0, 1, 0};
        rig_assert_rows(t, ids, rows, 9, step_logits(st, 0), "visits");
        step_free(st);
        shard_free(s);
    }
}

/* Tied embeddings: looked up in the packed head, or on their own. */
static void test_tied(void **state)
{
    (void)state;
    struct gen_model m = rig_dense();
    m.tied = 1;
    m.n_layer = 2;
    struct rig r;
    rig_open(&r, &m);
    const uint32_t n = 12;
    struct rig_text t;
    rig_text_open(&t, &r, KV_F16, 1, &n);
    for (enum isa isa = ISA_REF; isa <= cpu_isa(); isa++) {
        if (!cpu_runs(isa)) continue;
        struct shard_options o = rig_options(&r.model);
        o.isa = isa;
        struct shard *s = rig_whole(&r, &o);
        assert_null(s->embed.kernel);
        struct step *st = new_step(s);
        struct step_row rows[12];
        for (uint32_t p = 0; p < n; p++) {
            rows[p] = (struct step_row){0, p, t.tokens[0][p], true};
        }
        const uint64_t id = 0;
        rig_step(s, st, rows, n, logits);
        rig_assert_rows(&t, &id, rows, n, logits, isa_name(isa));
        step_free(st);
        shard_free(s);
    }
    rig_text_close(&t);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_and_threads),
        cmocka_unit_test(test_every_batch),
        cmocka_unit_test(test_used_pages),
        cmocka_unit_test(test_forks),
        cmocka_unit_test(test_visits),
        cmocka_unit_test(test_tied),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

/* test_step_arch.c - each architecture: near a plain forward pass in f64, and
 * the same bits on any kernels, threads, steps and cuts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/arch_rig.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/naive.h"

#define LAYERS 4
#define N_SEQS 3
#define ROWS   33
/* Some of the models are enough to see a race, and TSan is slow. */
#if defined(__SANITIZE_THREAD__)
#define STRIDE 5
#else
#define STRIDE 1
#endif

/* well beyond the window of 12 and YaRN's 16 positions */
static const uint32_t lengths[N_SEQS] = {40, 9, 34};

static struct rig rigs[ARCH_END];
static struct rig_text texts[ARCH_END];
static float *logits, *expert_y; /* [ROWS][n_vocab], [ROWS][n_embd] */

static int open_all(void **state)
{
    (void)state;
    uint32_t n_vocab = 0, n_embd = 0;
    for (uint32_t i = 0; i < ARCH_END; i++) {
        const struct gen_model m = arch_model(i);
        n_vocab = m.n_vocab;
        n_embd = m.n_embd;
        rig_open(&rigs[i], &m);
        rig_text_open(&texts[i], &rigs[i], KV_F16, N_SEQS, lengths);
    }
    logits = mem_zalloc_array(ROWS * (size_t)n_vocab, sizeof *logits);
    expert_y = mem_zalloc_array(ROWS * (size_t)n_embd, sizeof *expert_y);
    return logits && expert_y ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ARCH_END; i++) {
        rig_text_close(&texts[i]);
        rig_close(&rigs[i]);
    }
    mem_free(logits);
    mem_free(expert_y);
    return mem_in_use() == 0 ? 0 : -1;
}

/* --------------------------------------------------- against f64 */

static double log_sum(const float *x, uint32_t n)
{
    double max = (double)x[0], sum = 0;
    for (uint32_t i = 1; i < n; i++) max = fmax(max, (double)x[i]);
    for (uint32_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
    return max + log(sum);
}

static void test_near_f64(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ARCH_END; i += STRIDE) {
        struct gen_model m = arch_model(i);
        for (int r = 0; r < GEN_ROLE_END; r++) m.type[r] = QUANT_F32;
        struct rig r;
        rig_open(&r, &m);
        const struct rig_text *t = &texts[i];
        float *ours = rig_reference(&r, KV_F32, t->tokens[0], t->n[0]);
        float *theirs = mem_zalloc_array(m.n_vocab, sizeof *theirs);
        struct naive *n = NULL;
        assert_ok(naive_create(&n, r.gguf, t->n[0], &rig_err));
        double worst = 0;
        for (uint32_t p = 0; p < t->n[0]; p++) {
            const float *a = ours + (size_t)p * m.n_vocab;
            naive_eval(n, p, (uint32_t)t->tokens[0][p], NAIVE_RIGHT, theirs,
                       NULL);
            const double shift =
                log_sum(theirs, m.n_vocab) - log_sum(a, m.n_vocab);
            for (uint32_t v = 0; v < m.n_vocab; v++) {
                const double d = (double)a[v] + shift - (double)theirs[v];
                worst = fmax(worst, fabs(d));
            }
        }
        print_message("%s: %.2g\n", arch_name(i), worst);
        /* GELU is rounded to f16, and a rounding may fall the other way */
        assert_true(worst <= (i == ARCH_GEMMA2 ? 0.05 : 1e-4));
        naive_free(n);
        mem_free(theirs);
        mem_free(ours);
        rig_close(&r);
    }
}

/* ------------------------------------------------------- one shard */

static void test_kernels_and_threads(void **state)
{
    (void)state;
    static const uint64_t ids[N_SEQS] = {9, 5, 7};
    struct rng rng = {61};
    for (uint32_t i = 0; i < ARCH_END; i += STRIDE) {
        for (enum isa isa = ISA_REF; isa <= cpu_isa(); isa++) {
            if (!cpu_runs(isa)) continue;
            /* three threads in OpenBLAS at once: not every build bears that */
            for (uint32_t threads = 1; threads <= 3; threads += 2) {
                struct shard_options o = rig_options(&rigs[i].model);
                char what[80];
                o.isa = isa;
                o.blas = threads == 1 ? BLAS_MEASURED : BLAS_ALWAYS;
                o.n_threads = threads;
                snprintf(what, sizeof what, "%s, %s, %u threads", arch_name(i),
                         isa_name(isa), threads);
                struct shard *s = rig_whole(&rigs[i], &o);
                struct step *st = NULL;
                assert_ok(step_create(&st, s, &rig_err));
                uint32_t at[N_SEQS] = {0}, n;
                struct step_row rows[ROWS];
                while ((n = rig_mix(&texts[i], &rng, ids, at, ROWS, rows))) {
                    rig_step(s, st, rows, n, logits);
                    rig_assert_rows(&texts[i], ids, rows, n, logits, what);
                }
                step_free(st);
                shard_free(s);
            }
        }
    }
}

/* ------------------------------------------------------ two shards */

struct node {
    struct shard *s;
    struct step *step, *serve;
};

/* Layers [0, cut) on the first, the rest on the second; experts by their
 * number, embedding and a part of the head on both. */
static void open_node(struct node *node, const struct rig *r, uint32_t which,
                      uint32_t cut)
{
    struct shard_layer_spec layers[LAYERS] = {0};
    struct shard_spec spec = {.embed = which == 0,
                              .vocab_first = which ? 256 : 0,
                              .vocab_end = which ? r->model.n_vocab : 256,
                              .layers = layers};
    for (uint32_t l = 0; l < LAYERS; l++) {
        layers[l].block = (l >= cut) == which;
        for (uint32_t e = 0; e < r->model.n_expert; e++) {
            if (e % 2 == which) {
                layers[l].experts[e / 64] |= UINT64_C(1) << e % 64;
            }
        }
    }
    struct shard_options o = rig_options(&r->model);
    o.isa = which ? cpu_isa() : ISA_REF;
    o.n_threads = 1 + which;
    assert_ok(shard_create(&node->s, &r->model, &spec, &o, &rig_err));
    assert_ok(step_create(&node->step, node->s, &rig_err));
    assert_ok(step_create(&node->serve, node->s, &rig_err));
}

static void run_to_end(struct step *st, struct node *helper)
{
    while (step_run(st) != STEP_DONE) {
        uint32_t n;
        const struct step_part *parts = step_parts(st, &n);
        for (uint32_t i = 0; i < n; i++) {
            if (parts[i].supplied) continue;
            assert_ok(step_expert(helper->serve, parts[i].layer,
                                  parts[i].expert, parts[i].n_rows, parts[i].x,
                                  expert_y, &rig_err));
            assert_int_equal(step_supply(st, i, expert_y), ST_OK);
        }
    }
}

static void two_node_step(struct node nodes[2], const struct model *m,
                          uint32_t cut, const struct step_row *rows, uint32_t n)
{
    struct step_input in = {.rows = rows, .n_rows = n};
    for (uint32_t k = 0; k < 2; k++) {
        in.embed = k == 0;
        in.layer_first = k ? cut : 0;
        in.layer_end = k ? LAYERS : cut;
        assert_ok(step_begin(nodes[k].step, &in, &rig_err));
        run_to_end(nodes[k].step, &nodes[!k]);
        in.x = step_x(nodes[k].step);
    }
    in.layer_first = in.layer_end;
    in.head = in.again = true;
    for (uint32_t k = 0; k < 2; k++) {
        struct shard *s = nodes[k].s;
        struct step *st = nodes[k].serve;
        in.again = s->kv != NULL;
        assert_ok(step_begin(st, &in, &rig_err));
        run_to_end(st, &nodes[!k]);
        uint32_t out = 0;
        for (uint32_t r = 0; r < n; r++) {
            if (!rows[r].want) continue;
            memcpy(logits + out * (size_t)m->n_vocab + s->vocab_first,
                   step_logits(st, out),
                   (s->vocab_end - s->vocab_first) * sizeof *logits);
            out++;
        }
    }
}

static void test_every_cut(void **state)
{
    (void)state;
    static const uint64_t ids[N_SEQS] = {1, 2, 3};
    struct rng rng = {62};
    for (uint32_t i = 0; i < ARCH_END; i += STRIDE) {
        for (uint32_t cut = 0; cut <= LAYERS; cut++) {
            struct node nodes[2];
            for (uint32_t k = 0; k < 2; k++) {
                open_node(&nodes[k], &rigs[i], k, cut);
            }
            uint32_t at[N_SEQS] = {0}, n;
            struct step_row rows[ROWS];
            while ((n = rig_mix(&texts[i], &rng, ids, at, ROWS, rows))) {
                two_node_step(nodes, &rigs[i].model, cut, rows, n);
                rig_assert_rows(&texts[i], ids, rows, n, logits, arch_name(i));
            }
            for (uint32_t k = 0; k < 2; k++) {
                step_free(nodes[k].step);
                step_free(nodes[k].serve);
                shard_free(nodes[k].s);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_near_f64),
        cmocka_unit_test(test_kernels_and_threads),
        cmocka_unit_test(test_every_cut),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

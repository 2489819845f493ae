/* test_exact.c - how far potluck and llama.cpp are from the exact result, and
 * why they differ from each other beside quantized weights.
 *
 * "Exact" is the f64 forward pass of tests/lib/naive.h over the same weights,
 * whose activations are not rounded to 8 bits.  The same pass with activations
 * rounded as ours, and rounded with f16 scales as llama.cpp's, shows what the
 * scales alone do.  CONFORMANCE_EXACT: a file for the numbers of every
 * quantized case of conformance.list, in Markdown. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "tests/lib/conform.h"
#include "tests/lib/conform_list.h"
#include "tests/lib/naive.h"
#include "tests/lib/temp.h"

static struct error err;

static void assert_ok(enum status st)
{
    if (st != ST_OK) fail_msg("%s: %s", status_name(st), err.text);
}

/* Who answers: mean KL divergences are between two of them. */
enum who { LLAMA, OURS, EXACT, BLOCKS, BLOCKS_F16, N_WHO };

struct answers {
    const struct oracle *record;
    uint32_t n_vocab;
    struct oracle_row *rows[N_WHO]; /* [n_tokens]; LLAMA's are the record's */
};

struct distances {
    double between;                 /* ours from llama.cpp's */
    double exact_ours, exact_llama; /* from the exact result */
    double blocks_ours;             /* ours from the pass with scales as ours */
    double f16_llama; /* llama.cpp's from the one with its scales */
};

static void keep(struct answers *a, enum who who, size_t at,
                 const float *logits)
{
    const struct oracle_row *like = &a->record->rows[at];
    struct oracle_row *row = &a->rows[who][at];
    row->top = mem_alloc(like->n * sizeof *row->top);
    assert_non_null(row->top);
    assert_true(conform_row(row, like, logits, a->n_vocab));
}

static enum status keep_ours(void *arg, size_t at, float *logits,
                             struct error *e)
{
    (void)e;
    keep(arg, OURS, at, logits);
    return ST_OK;
}

static void run_naive(struct answers *a, const char *path, enum who who,
                      enum naive_rounding rounding)
{
    struct gguf *g;
    struct naive *n;
    float *logits = mem_alloc(a->n_vocab * sizeof *logits);
    assert_non_null(logits);
    assert_ok(gguf_open(&g, path, &err));
    assert_ok(naive_create(&n, g, a->record->n_tokens, &err));
    naive_round(n, rounding);
    for (uint32_t i = 0; i < a->record->n_tokens; i++) {
        naive_eval(n, i, a->record->tokens[i], NAIVE_RIGHT, logits, NULL);
        keep(a, who, i, logits);
    }
    naive_free(n);
    gguf_close(g);
    mem_free(logits);
}

static double mean(const struct answers *a, enum who p, enum who q)
{
    double sum = 0;
    for (uint32_t i = 0; i < a->record->n_tokens; i++) {
        sum += conform_between(&a->rows[p][i], &a->rows[q][i]);
    }
    return sum / a->record->n_tokens;
}

static void put_row(const char *name, const struct distances *d)
{
    const char *path = getenv("CONFORMANCE_EXACT");
    FILE *out = path ? fopen(path, "a") : NULL;
    print_message("%s: from exact %.2e, llama.cpp %.2e; apart %.2e; from the "
                  "pass that rounds as we do %.2e, llama.cpp from the one that "
                  "rounds as it does %.2e\n",
                  name, d->exact_ours, d->exact_llama, d->between,
                  d->blocks_ours, d->f16_llama);
    if (!out) return;
    fprintf(out, "| %s | %.1e | %.1e | %.1e | %.1e | %.1e |\n", name,
            d->between, d->exact_ours, d->exact_llama, d->blocks_ours,
            d->f16_llama);
    fclose(out);
}

static struct distances one_case(const char *name, const char *path)
{
    struct oracle_file f;
    assert_ok(conform_load(&f, name, path, &err));
    struct answers a = {.record = &f.runs[0], .n_vocab = f.recipe.n_vocab};
    a.rows[LLAMA] = a.record->rows;
    for (int w = OURS; w < N_WHO; w++) {
        a.rows[w] = mem_zalloc_array(a.record->n_tokens, sizeof *a.rows[w]);
        assert_non_null(a.rows[w]);
    }
    assert_ok(conform_rows(path, a.record, NULL, keep_ours, &a, &err));
    run_naive(&a, path, EXACT, NAIVE_EXACT);
    run_naive(&a, path, BLOCKS, NAIVE_BLOCKS);
    run_naive(&a, path, BLOCKS_F16, NAIVE_BLOCKS_F16);
    const struct distances d = {.between = mean(&a, LLAMA, OURS),
                                .exact_ours = mean(&a, EXACT, OURS),
                                .exact_llama = mean(&a, EXACT, LLAMA),
                                .blocks_ours = mean(&a, BLOCKS, OURS),
                                .f16_llama = mean(&a, BLOCKS_F16, LLAMA)};
    put_row(name, &d);
    for (int w = OURS; w < N_WHO; w++) {
        for (uint32_t i = 0; i < a.record->n_tokens; i++) {
            mem_free(a.rows[w][i].top);
        }
        mem_free(a.rows[w]);
    }
    oracle_fini(&f);
    return d;
}

static char dir[TEMP_PATH_BYTES];
static char model_path[TEMP_PATH_BYTES + 16];

static int make_dir(void **state)
{
    (void)state;
    if (!temp_dir_create(dir, "test_exact")) return -1;
    snprintf(model_path, sizeof model_path, "%s/model.gguf", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return temp_dir_remove(dir) ? 0 : -1;
}

/* No rounding differs but that of the scales, so each engine is near its pass,
 * and we are not further from the exact result. */
static void test_scales_are_the_difference(void **state)
{
    (void)state;
    static const char *const names[] = {"llama-q8_0", "llama-q5_0",
                                        "qwen2-q8_0"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const struct distances d = one_case(names[i], model_path);
        assert_true(d.between > 1e-4);
        assert_true(2 * d.blocks_ours < d.between);
        assert_true(2 * d.f16_llama < d.between);
        assert_true(d.exact_ours < 1.25 * d.exact_llama);
    }
}

/* For docs/CONFORMANCE.md. */
static void test_every_quantized_case(void **state)
{
    (void)state;
    struct conform_list list;
    if (!getenv("CONFORMANCE_EXACT")) return;
    assert_true(conform_list_read(&list));
    for (size_t i = 0; i < list.n; i++) {
        const char *type = strrchr(list.cases[i].name, '-') + 1;
        if (type[0] != 'q' && type[0] != 'i') continue;
        (void)one_case(list.cases[i].name, model_path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_quantized_case),
        cmocka_unit_test(test_scales_are_the_difference),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

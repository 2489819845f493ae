/* test_exact.c - how far potluck and llama.cpp are from the exact result, and
 * why they differ from each other beside quantized weights.
 *
 * "Exact" is the f64 forward pass of tests/lib/naive.h over the same weights,
 * whose activations are not rounded to 8 bits.  The same pass with activations
 * rounded as ours, and rounded with f16 scales as llama.cpp's, shows what the
 * scales alone do.  CONFORMANCE_EXACT: a file for the numbers of every
 * quantized case of conformance.list, in Markdown; without it a few cases,
 * which differ most, are looked at. */
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

/* Sums over the cases. */
struct distances {
    double exact_ours, exact_llama;
    double ours_blocks, ours_f16;   /* ours from the f64 pass with ... */
    double llama_blocks, llama_f16; /* llama.cpp's */
    double between;                 /* ours from llama.cpp's */
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
    print_message("%s: from exact: ours %.2e, llama.cpp %.2e; ours from f32 "
                  "scales %.2e, f16 %.2e; llama.cpp from f32 %.2e, f16 %.2e\n",
                  name, d->exact_ours, d->exact_llama, d->ours_blocks,
                  d->ours_f16, d->llama_blocks, d->llama_f16);
    if (!out) return;
    fprintf(out, "| %s | %.1e | %.1e | %.1e | %.1e | %.1e | %.1e | %.1e |\n",
            name, d->between, d->exact_ours, d->exact_llama, d->ours_blocks,
            d->ours_f16, d->llama_blocks, d->llama_f16);
    fclose(out);
}

static void one_case(const char *name, const char *path,
                     struct distances *total)
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
    const struct distances d = {
        .between = mean(&a, LLAMA, OURS),
        .exact_ours = mean(&a, EXACT, OURS),
        .exact_llama = mean(&a, EXACT, LLAMA),
        .ours_blocks = mean(&a, BLOCKS, OURS),
        .ours_f16 = mean(&a, BLOCKS_F16, OURS),
        .llama_blocks = mean(&a, BLOCKS, LLAMA),
        .llama_f16 = mean(&a, BLOCKS_F16, LLAMA),
    };
    put_row(name, &d);
    total->between += d.between;
    total->exact_ours += d.exact_ours;
    total->exact_llama += d.exact_llama;
    total->ours_blocks += d.ours_blocks;
    total->ours_f16 += d.ours_f16;
    total->llama_blocks += d.llama_blocks;
    total->llama_f16 += d.llama_f16;
    for (int w = OURS; w < N_WHO; w++) {
        for (uint32_t i = 0; i < a.record->n_tokens; i++) {
            mem_free(a.rows[w][i].top);
        }
        mem_free(a.rows[w]);
    }
    oracle_fini(&f);
}

static void test_distance_from_exact(void **state)
{
    (void)state;
    static const char *const few[] = {"llama-q8_0", "llama-q4_1", "gemma2-q8_0",
                                      NULL};
    struct conform_list list;
    struct distances total = {0};
    char dir[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES + 16];
    assert_true(temp_dir_create(dir, "test_exact"));
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    assert_true(conform_list_read(&list));
    const bool all = getenv("CONFORMANCE_EXACT") != NULL;
    for (size_t i = 0; all && i < list.n; i++) {
        const char *type = strrchr(list.cases[i].name, '-') + 1;
        if (type[0] != 'q' && type[0] != 'i') continue;
        one_case(list.cases[i].name, path, &total);
    }
    for (size_t i = 0; !all && few[i]; i++) one_case(few[i], path, &total);
    put_row("sum", &total);
    assert_true(temp_dir_remove(dir));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distance_from_exact)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

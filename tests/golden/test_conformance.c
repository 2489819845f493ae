/* test_conformance.c - our distributions against llama.cpp's, for every
 * architecture and every weight type, on generated models.
 *
 * conformance.list has the models, oracle/FAMILY-TYPE.json what llama.cpp
 * answered: tokens, the 64 most probable after each and the mass of the rest
 * (record_conformance.sh).  POTLUCK_CONFORMANCE is another directory of
 * records (`make conformance` makes them anew); CONFORMANCE_TABLE a file for
 * the measured numbers, in Markdown. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/conform.h"
#include "tests/lib/conform_list.h"
#include "tests/lib/temp.h"

#define POSITIONS_MIN 64
#define MARGIN_MIN    0.02 /* of routers; no position is under it */
#define TOP_MIN       64

static struct conform_list list;
static struct error err;
static char dir[TEMP_PATH_BYTES];
static char model_path[TEMP_PATH_BYTES + 16];

static void assert_ok(enum status st)
{
    if (st != ST_OK) fail_msg("%s: %s", status_name(st), err.text);
}

static int make_dir(void **state)
{
    (void)state;
    if (!temp_dir_create(dir, "test_conformance")) return -1;
    snprintf(model_path, sizeof model_path, "%s/model.gguf", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return temp_dir_remove(dir) ? 0 : -1;
}

/* ------------------------------------------------------------- cases */

/* The record, and its model at model_path. */
static struct oracle_file load(const char *name)
{
    struct oracle_file f;
    assert_ok(conform_load(&f, name, model_path, &err));
    return f;
}

static double bound_of(const struct conform_case *c,
                       const struct oracle_file *f)
{
    return fmax(c->floor, 3 * f->own_kl);
}

/* --------------------------------------------------------- comparison */

/* The record is worth comparing with: long, sharp but not certain, complete,
 * and no rounding chooses the experts. */
static void assert_worth(const struct oracle_file *f)
{
    const struct oracle *o = &f->runs[0];
    assert_true(o->n_tokens >= POSITIONS_MIN);
    assert_true(f->mean_top1 >= 0.3 && f->mean_top1 <= 0.8);
    assert_true(f->least_margin > MARGIN_MIN);
    for (uint32_t i = 0; i < o->n_tokens; i++) {
        double sum = exp(o->rows[i].rest);
        assert_true(o->rows[i].n >= TOP_MIN && o->rows[i].rest < 0);
        for (uint32_t j = 0; j < o->rows[i].n; j++) {
            sum += exp(o->rows[i].top[j].logprob);
        }
        assert_true(fabs(sum - 1) < 1e-4);
    }
}

static void put_row(const char *name, const struct oracle_file *f,
                    const struct conform *c, double bound)
{
    const char *path = getenv("CONFORMANCE_TABLE");
    FILE *out = path ? fopen(path, "a") : NULL;
    if (!out) return;
    fprintf(out, "| %s | %u | %.2f | %.1e | %.1e | %.1e | %.1e |\n", name, c->n,
            f->mean_top1, f->own_kl, c->mean_kl, c->max_kl, bound);
    fclose(out);
}

static void test_case(void **state)
{
    const struct conform_case *c = *state;
    struct oracle_file f = load(c->name);
    struct conform got;
    const double bound = bound_of(c, &f);
    assert_worth(&f);
    assert_ok(conform_run(&got, model_path, f.recipe.n_vocab, &f.runs[0], NULL,
                          &err));
    print_message("%s: KL mean %.2e, max %.2e over %u; llama.cpp's own %.2e, "
                  "bound %.1e\n",
                  c->name, got.mean_kl, got.max_kl, got.n, f.own_kl, bound);
    put_row(c->name, &f, &got, bound);
    assert_int_equal(got.n, f.runs[0].n_tokens);
    if (!(got.mean_kl <= bound)) {
        fail_msg("%s: mean KL divergence %.3e is over %.1e", c->name,
                 got.mean_kl, bound);
    }
    oracle_fini(&f);
}

static void test_all_covered(void **state)
{
    (void)state;
    static const char *const families[] = {"llama", "mixtral", "gemma2",
                                           "qwen2", "qwen3",   "qwen3moe"};
    static const char *const types[] = {"f32",  "f16",  "q8_0",
                                        "q4_0", "q4_k", "q6_k"};
    for (size_t i = 0; i < COUNT_OF(families); i++) {
        for (size_t j = 0; j < COUNT_OF(types); j++) {
            if (!conform_list_has(&list, families[i], types[j])) {
                fail_msg("no case %s-%s", families[i], types[j]);
            }
        }
    }
    for (int t = 0; t < QUANT_TYPE_END; t++) {
        const char *name = quant_name((enum quant_type)t);
        char lower[CONFORM_NAME_BYTES] = "";
        if (!name || quant_row_bytes((enum quant_type)t, 256) == 0) continue;
        for (size_t i = 0; name[i] && i + 1 < sizeof lower; i++) {
            lower[i] = (char)tolower((unsigned char)name[i]);
        }
        if (!conform_list_has(&list, "llama", lower))
            fail_msg("no case llama-%s", lower);
    }
}

/* ----------------------------------------------------------- mistakes */

static void rope_base(struct model *m)
{
    m->rope.base *= 1.01;
}
static void rope_pairs(struct model *m)
{
    m->rope.halves = !m->rope.halves;
}
static void rope_plain(struct model *m)
{
    m->rope.scale = 1;
}
static void rope_no_factors(struct model *m)
{
    m->rope_freqs = NULL;
}
static void yarn_linear(struct model *m)
{
    m->rope.extend = 0;
}
static void yarn_magnitude(struct model *m)
{
    m->rope.magnitude = 1;
}
static void eps_twice(struct model *m)
{
    m->rms_eps *= 2;
}
static void attn_cap(struct model *m)
{
    m->attn_softcap *= 1.2f;
}
static void final_cap(struct model *m)
{
    m->final_softcap *= 1.2f;
}
static void router_norm(struct model *m)
{
    m->expert_norm = !m->expert_norm;
}
static void one_expert_less(struct model *m)
{
    m->n_expert_used--;
}
static void embed_scale(struct model *m)
{
    m->embed_scale = 1;
}
static void query_scale(struct model *m)
{
    m->query_scale *= 1.1f;
}

static void activation(struct model *m)
{
    m->activation =
        m->activation == ACTIVATION_GELU ? ACTIVATION_SILU : ACTIVATION_GELU;
}

static void windows(struct model *m, uint32_t add)
{
    for (uint32_t i = 0; i < m->n_layer; i++) {
        if (m->layers[i].window) m->layers[i].window += add;
    }
    m->window += add;
}
static void window_more(struct model *m)
{
    windows(m, 1);
}
static void window_less(struct model *m)
{
    windows(m, UINT32_MAX);
}

static void window_other_layers(struct model *m)
{
    for (uint32_t i = 0; i < m->n_layer; i++) {
        m->layers[i].window = m->layers[i].window ? 0 : m->window;
    }
}

static void without(struct model *m, enum model_vector v)
{
    for (uint32_t i = 0; i < m->n_layer; i++) m->layers[i].vec[v] = NULL;
}
static void no_q_norm(struct model *m)
{
    without(m, VEC_Q_NORM);
}
static void no_k_norm(struct model *m)
{
    without(m, VEC_K_NORM);
}
static void no_q_bias(struct model *m)
{
    without(m, VEC_Q_BIAS);
}
static void no_v_bias(struct model *m)
{
    without(m, VEC_V_BIAS);
}
static void no_o_bias(struct model *m)
{
    without(m, VEC_O_BIAS);
}
static void no_gate_bias(struct model *m)
{
    without(m, VEC_GATE_BIAS);
}
static void no_down_bias(struct model *m)
{
    without(m, VEC_DOWN_BIAS);
}
static void no_attn_post(struct model *m)
{
    without(m, VEC_ATTN_POST_NORM);
}
static void no_ffn_post(struct model *m)
{
    without(m, VEC_FFN_POST_NORM);
}

/* Of each family's F32 case. */
static const struct mistake {
    const char *family, *name;
    conform_change *change;
} mistakes[] = {
    {"llama", "rope base x1.01", rope_base},
    {"llama", "eps x2", eps_twice},
    {"llama", "query scale x1.1", query_scale},
    {"llama", "other rope pairs", rope_pairs},
    {"llama", "no rope factors", rope_no_factors},
    {"llama", "other activation", activation},
    {"mixtral", "rope base x1.01", rope_base},
    {"mixtral", "eps x2", eps_twice},
    {"mixtral", "router not normalised", router_norm},
    {"mixtral", "one expert less", one_expert_less},
    {"biased", "rope not scaled", rope_plain},
    {"biased", "no o bias", no_o_bias},
    {"biased", "no gate bias", no_gate_bias},
    {"biased", "no down bias", no_down_bias},
    {"gemma2", "rope base x1.01", rope_base},
    {"gemma2", "eps x2", eps_twice},
    {"gemma2", "window + 1", window_more},
    {"gemma2", "window - 1", window_less},
    {"gemma2", "windows in the other layers", window_other_layers},
    {"gemma2", "attention soft-cap x1.2", attn_cap},
    {"gemma2", "final soft-cap x1.2", final_cap},
    {"gemma2", "embedding not scaled", embed_scale},
    {"gemma2", "query scale x1.1", query_scale},
    {"gemma2", "other activation", activation},
    {"gemma2", "no norm after attention", no_attn_post},
    {"gemma2", "no norm after the feed-forward", no_ffn_post},
    {"qwen2", "rope base x1.01", rope_base},
    {"qwen2", "eps x2", eps_twice},
    {"qwen2", "no q bias", no_q_bias},
    {"qwen2", "no v bias", no_v_bias},
    {"qwen2", "other rope pairs", rope_pairs},
    {"yarn", "frequencies not mixed", yarn_linear},
    {"yarn", "magnitude 1", yarn_magnitude},
    {"qwen3", "rope base x1.01", rope_base},
    {"qwen3", "eps x2", eps_twice},
    {"qwen3", "no q norm", no_q_norm},
    {"qwen3", "no k norm", no_k_norm},
    {"qwen3moe", "rope base x1.01", rope_base},
    {"qwen3moe", "eps x2", eps_twice},
    {"qwen3moe", "router not normalised", router_norm},
    {"qwen3moe", "one expert less", one_expert_less},
    {"qwen3moe", "no q norm", no_q_norm},
    {"qwen3moe", "no k norm", no_k_norm},
};

static void put_mistake(const struct mistake *m, double kl)
{
    const char *path = getenv("CONFORMANCE_MISTAKES");
    FILE *out = path ? fopen(path, "a") : NULL;
    if (!out) return;
    fprintf(out, "| %s-f32 | %s | %.1e |\n", m->family, m->name, kl);
    fclose(out);
}

/* A bound is worth what exceeds it: ten times, for each mistake. */
static void test_mistakes(void **state)
{
    const char *family = *state;
    char name[CONFORM_NAME_BYTES];
    snprintf(name, sizeof name, "%s-f32", family);
    const struct conform_case c = {.floor = conform_floor("F32")};
    struct oracle_file f = load(name);
    const double bound = bound_of(&c, &f);
    uint32_t n_missed = 0;
    for (size_t i = 0; i < COUNT_OF(mistakes); i++) {
        const struct mistake *m = &mistakes[i];
        struct conform got;
        if (strcmp(m->family, family) != 0) continue;
        assert_ok(conform_run(&got, model_path, f.recipe.n_vocab, &f.runs[0],
                              m->change, &err));
        const bool missed = !(got.mean_kl > 10 * bound);
        print_message("%s, %s: KL mean %.2e%s\n", name, m->name, got.mean_kl,
                      missed ? ": NOT NOTICED" : "");
        put_mistake(m, got.mean_kl);
        n_missed += missed;
    }
    assert_int_equal(n_missed, 0);
    oracle_fini(&f);
}

int main(void)
{
    static const char *const families[] = {"llama",  "mixtral", "biased",
                                           "gemma2", "qwen2",   "yarn",
                                           "qwen3",  "qwen3moe"};
    static struct CMUnitTest tests[CONFORM_CASES_MAX + COUNT_OF(families) + 1];
    static char names[COUNT_OF(families)][CONFORM_NAME_BYTES];
    size_t n = 0;
    if (!conform_list_read(&list)) {
        fprintf(stderr, "conformance.list: cannot be read, or too long\n");
        return 1;
    }
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_all_covered);
    for (size_t i = 0; i < list.n; i++) {
        tests[n++] = (struct CMUnitTest){.name = list.cases[i].name,
                                         .test_func = test_case,
                                         .initial_state = &list.cases[i]};
    }
    for (size_t i = 0; i < COUNT_OF(families); i++) {
        snprintf(names[i], sizeof names[i], "%s mistakes", families[i]);
        tests[n++] = (struct CMUnitTest){.name = names[i],
                                         .test_func = test_mistakes,
                                         .initial_state =
                                             (void *)(uintptr_t)families[i]};
    }
    return _cmocka_run_group_tests("conformance", tests, n, make_dir,
                                   remove_dir);
}

/* test_demo_model.c - the model that comes with potluck: what it says, how
 * well it predicts, and the same from pools of one, two and three machines.
 *
 * It is the only trained mixture of experts that always is there, so wrong
 * rotations, a router that picks the third-best expert, or experts combined
 * in another way, show here as nonsense instead of other noise. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/perplexity.h"
#include "tests/golden/demo_model.h"
#include "tests/lib/cli.h"
#include "tests/lib/lan.h"

#define MODEL   "deploy/demo/potluck-demo.gguf"
#define PROMPTS "deploy/demo/recipe/prompts.json"
#define TEXT    "tests/golden/demo_heldout.txt"

static struct runner runner;

static int setup(void **state)
{
    (void)state;
    struct shard_options o;
    struct error err;
    if (runner_defaults(&o, &err) != ST_OK) return -1;
    o.rows_max = o.outputs_max = 64;
    const enum status st = runner_open(&runner, MODEL, &o, true, &err);
    if (st != ST_OK) print_error("%s\n", err.text);
    cli_begin();
    return st == ST_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    runner_close(&runner);
    cli_end();
    return 0;
}

/* ----------------------------------------------------------- perplexity */

/* Each story on its own, as the model was trained; empty lines part them. */
static void test_perplexity(void **state)
{
    (void)state;
    struct error err;
    struct buf text = cli_read(TEXT);
    const struct tokenize_options plain = {0};
    double nll = 0;
    size_t scored = 0;
    const char *end = text.data + text.len - 1; /* without the last \n */
    for (const char *at = text.data, *next; at < end; at = next + 2) {
        struct tokens ids = {0};
        struct perplexity p;
        for (next = at; next < end && memcmp(next, "\n\n", 2) != 0;) next++;
        assert_int_equal(tokenizer_encode(runner.tokenizer, at,
                                          (size_t)(next - at), plain, &ids,
                                          &err),
                         ST_OK);
        assert_int_equal(
            perplexity_score(&runner, ids.id, ids.n, NULL, NULL, &p, &err),
            ST_OK);
        nll += p.nll;
        scored += p.scored;
        tokens_fini(&ids);
    }
    const double got = exp(nll / (double)scored);
    print_message("perplexity %.5f over %zu tokens; torch on the weights "
                  "before quantization %.4f\n",
                  got, scored, DEMO_PERPLEXITY_TORCH);
    assert_int_equal(scored, DEMO_TOKENS);
    assert_true(fabs(got / DEMO_PERPLEXITY - 1) < 1e-4);
    assert_true(fabs(got / DEMO_PERPLEXITY_TORCH - 1) < 0.005);
    buf_fini(&text);
}

/* ------------------------------------------------------------ questions */

static bool holds_keyword(const char *text, json_t *keywords)
{
    size_t i;
    json_t *k;
    json_array_foreach(keywords, i, k)
    {
        if (strcasestr(text, json_string_value(k))) return true;
    }
    return false;
}

/* Through a pool of three, eight at once: the demonstration, in short. */
static void test_answers(void **state)
{
    (void)state;
    json_t *all = json_load_file(PROMPTS, 0, NULL);
    json_t *asked = json_object_get(all, "questions");
    struct lan lan;
    lan_begin(&lan);
    lan_serve(&lan, MODEL,
              (const char *const[]){"--workers", "3", "--spread", NULL});
    lan_join_all(&lan, 3);
    lan_wait_nodes(&lan, 3, "serving");
    const size_t n = json_array_size(asked);
    size_t right = 0;
    for (size_t i = 0; i < n; i += 4) { /* every fourth: 25 */
        json_t *q = json_array_get(asked, i);
        json_t *o = cli_json(LAN_RUN(&lan, "--json", "--temp", "0", "-n", "60",
                                     "--", string_at(q, "question")),
                             0);
        right +=
            holds_keyword(string_at(o, "text"), json_object_get(q, "keywords"));
        json_decref(o);
    }
    print_message("%zu of %zu answers hold their keyword\n", right,
                  (n + 3) / 4);
    assert_true(10 * right >= 9 * ((n + 3) / 4));
    lan_end(&lan);
    json_decref(all);
}

/* --------------------------------------------------------------- greedy */

static void expect_greedy(struct outcome run, const struct demo_greedy *g)
{
    json_t *o = cli_json(run, 0);
    json_t *ids = json_at(o, "tokens");
    for (size_t i = 0; i < g->n; i++) {
        const int32_t got = (int32_t)json_integer_value(json_array_get(ids, i));
        if (got != g->id[i]) {
            fail_msg("token %zu is %d, not %d: %s", i, got, g->id[i],
                     string_at(o, "text"));
        }
    }
    assert_int_equal(json_array_size(ids), g->n);
    json_decref(o);
}

static void test_greedy_local(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(demo_greedy); i++) {
        const struct demo_greedy *g = &demo_greedy[i];
        expect_greedy(CLI("local", MODEL, "--json", "--temp", "0",
                          g->raw ? "--raw" : "--json", "--", g->prompt),
                      g);
    }
}

static void test_greedy_pools(void **state)
{
    (void)state;
    static const char *const count[] = {"1", "2", "3"};
    for (uint32_t n = 1; n <= 3; n++) {
        struct lan lan;
        lan_begin(&lan);
        lan_serve(
            &lan, MODEL,
            (const char *const[]){"--workers", count[n - 1], "--spread", NULL});
        lan_join_all(&lan, n);
        lan_wait_nodes(&lan, n, "serving");
        for (size_t i = 0; i < COUNT_OF(demo_greedy); i++) {
            const struct demo_greedy *g = &demo_greedy[i];
            expect_greedy(LAN_RUN(&lan, "--json", "--temp", "0",
                                  g->raw ? "--raw" : "--json", "--", g->prompt),
                          g);
        }
        lan_end(&lan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_perplexity),
        cmocka_unit_test(test_greedy_local),
        cmocka_unit_test(test_greedy_pools),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* test_pool.c - the life of a small pool, in one go: join, plan, load, answer
 * several at once, lose and regain a worker politely, stop.  Short, so that it
 * can run under valgrind as well (LAN_WRAP, tests/lib/lan.h). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tests/lib/lan.h"

#define N_PROMPTS 3
static const char *const prompts[N_PROMPTS] = {
    "Once upon a time", "The little dog", "One day Tom went to the park and"};

static char want[N_PROMPTS][512];

static void expect_text(struct outcome o, const char *text)
{
    json_t *j = cli_json(o, 0);
    assert_string_equal(string_at(j, "text"), text);
    json_decref(j);
}

static void ask_locally(const char *model)
{
    for (uint32_t i = 0; i < N_PROMPTS; i++) {
        json_t *j = cli_json(CLI("local", model, "--raw", "--json", "--seed",
                                 "7", "-n", "8", "-t", "1", "--", prompts[i]),
                             0);
        snprintf(want[i], sizeof want[i], "%s", string_at(j, "text"));
        json_decref(j);
    }
}

static void ask(struct lan *lan)
{
    pid_t pid[N_PROMPTS];
    char name[N_PROMPTS][16];
    for (uint32_t i = 0; i < N_PROMPTS; i++) {
        snprintf(name[i], sizeof name[i], "out-%u", i);
        pid[i] = lan_run_async(lan, name[i],
                               (const char *const[]){"--raw", "--json",
                                                     "--seed", "7", "-n", "8",
                                                     "--", prompts[i], NULL});
    }
    for (uint32_t i = 0; i < N_PROMPTS; i++) {
        assert_int_equal(lan_wait_exit(pid[i]), 0);
        json_t *j = json_load_file(lan_path(lan, name[i]), 0, NULL);
        assert_non_null(j);
        assert_string_equal(string_at(j, "text"), want[i]);
        json_decref(j);
    }
}

static void test_life_of_a_pool(void **state)
{
    (void)state;
    struct lan lan;
    char model[512];
    cli_begin();
    lan_begin(&lan);
    cli_model("moe.gguf", "tiny-moe", (const char *const[]){"n_layer=4", NULL});
    snprintf(model, sizeof model, "%s", cli_path("moe.gguf"));
    ask_locally(model);
    lan_serve(&lan, model,
              (const char *const[]){"--workers", "2", "--spread", NULL});
    lan_join_all(&lan, 2);
    lan_wait_nodes(&lan, 2, "serving");
    ask(&lan);
    assert_int_equal(lan_stop_worker(&lan, 1), 0);
    lan_wait_nodes(&lan, 1, "serving");
    ask(&lan);
    lan_join(&lan, 1, NULL); /* without the string it would do as well */
    lan_wait_nodes(&lan, 2, "serving");
    ask(&lan);
    expect_text(LAN_RUN(&lan, "--raw", "--json", "--seed", "7", "-n", "8", "--",
                        prompts[0]),
                want[0]);
    lan_end(&lan);
    cli_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life_of_a_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

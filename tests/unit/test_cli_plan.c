/* potluck plan as a person and a script meet it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "tests/lib/cli.h"

static const char nodes[] =
    "[{\"name\":\"old\",\"memory\":\"64M\",\"read_gbps\":0.002},"
    "{\"name\":\"new\",\"memory\":\"64M\",\"read_gbps\":0.02}]";

static int setup(void **state)
{
    (void)state;
    cli_begin();
    cli_model("moe.gguf", "tiny-moe", (const char *const[]){"sparse=1", NULL});
    cli_write("nodes.json", nodes, sizeof nodes - 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cli_end();
    return 0;
}

#define MOE   cli_path("moe.gguf")
#define NODES cli_path("nodes.json")

static void json_is_a_plan(void **state)
{
    (void)state;
    json_t *o = cli_json(CLI("plan", MOE, "--nodes", NODES, "--json", "--users",
                             "3", "--ctx", "128", "--kv", "f32", "--batch",
                             "32", "--objective", "throughput"),
                         0);
    assert_true(number_at(o, "options.n_ctx") == 128);
    assert_true(number_at(o, "options.rows_max") == 32);
    assert_string_equal(string_at(o, "options.kv_type"), "f32");
    assert_true(number_at(o, "predicted.decode_tokens_per_s") > 0);
    /* the ten times faster PC has nearly all of it */
    uint32_t n_new = 0;
    size_t i;
    json_t *range;
    json_array_foreach(json_at(o, "layers"), i, range)
    {
        if (strcmp(string_at(range, "node"), "new") != 0) continue;
        n_new +=
            (uint32_t)(number_at(range, "end") - number_at(range, "first"));
    }
    assert_in_range(n_new, 5, 6);
    json_decref(o);
}

static void a_table_for_people(void **state)
{
    (void)state;
    struct outcome o = CLI("plan", MOE, "--nodes", NODES);
    assert_non_null(strstr(o.out.data, "old"));
    assert_non_null(strstr(o.out.data, "tokens/s for one"));
    cli_expect(o, 0, "");
}

static void what_is_wrong_is_said(void **state)
{
    (void)state;
    struct outcome help = CLI("plan", "--help");
    for (const char *line = help.out.data; *line; line += strcspn(line, "\n")) {
        line += *line == '\n';
        assert_true(strcspn(line, "\n") <= 80);
    }
    cli_expect(help, 0, "");
    cli_expect(CLI("plan", MOE), 2, "--nodes");
    cli_expect(CLI("plan", "--nodes", NODES), 2, "model file");
    cli_expect(CLI("plan", MOE, "--nodes", cli_path("none.json")), 1,
               "none.json");
    cli_expect(CLI("plan", MOE, "--nodes", MOE), 1, "over the limit");
    cli_expect(CLI("plan", NODES, "--nodes", NODES), 1, "nodes.json");
    cli_expect(CLI("plan", MOE, "--nodes", NODES, "--kv", "x"), 2, "--kv x");
    cli_expect(CLI("plan", MOE, "--nodes", NODES, "--objective", "x"), 2,
               "--objective x");
    cli_expect(CLI("plan", MOE, "--nodes", NODES, "--ctx", "100000"), 2,
               "100000");
    static const char small[] = "[{\"name\":\"old\",\"memory\":\"15M\"}]";
    cli_write("small.json", small, sizeof small - 1);
    struct outcome o = CLI("plan", MOE, "--nodes", cli_path("small.json"));
    assert_int_equal(o.out.len, 0);
    cli_expect(o, 1, "are missing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_a_plan),
        cmocka_unit_test(a_table_for_people),
        cmocka_unit_test(what_is_wrong_is_said),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

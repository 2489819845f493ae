/* potluck bench: what it counts and prints. How fast it is, is no test. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "engine/cpu.h"
#include "tests/lib/cli.h"

static int setup(void **state)
{
    (void)state;
    cli_begin();
    cli_model("small.gguf", "tiny-dense",
              (const char *const[]){"n_layer=1", "n_embd=64", "n_head=2",
                                    "n_head_kv=1", "n_ff=96", "n_vocab=400",
                                    "n_ctx=512", "type=q8_0", NULL});
    cli_model("moe.gguf", "tiny-moe",
              (const char *const[]){"n_layer=2", "type=q8_0", NULL});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cli_end();
    return 0;
}

#define SMALL cli_path("small.gguf")

static void one_of_each(void **state)
{
    (void)state;
    json_t *o = cli_json(CLI("bench", cli_path("moe.gguf"), "--json", "-p33",
                             "-n5", "-b3", "-r2"),
                         0);
    static const char *const positive[] = {"prefill_tokens_per_s",
                                           "decode_tokens_per_s",
                                           "active_bytes",
                                           "read_bytes_per_s",
                                           "decode_bandwidth_share",
                                           "planned_bytes",
                                           "threads"};
    for (size_t i = 0; i < COUNT_OF(positive); i++) {
        if (!(number_at(o, positive[i]) > 0)) fail_msg("%s", positive[i]);
    }
    assert_int_equal(number_at(o, "n_prompt"), 33);
    assert_int_equal(number_at(o, "depth"), 33);
    assert_int_equal(number_at(o, "n_decode"), 5);
    assert_int_equal(number_at(o, "streams"), 3);
    assert_int_equal(number_at(o, "runs"), 2);
    assert_string_equal(string_at(o, "isa"), isa_name(cpu_isa()));
    assert_string_equal(string_at(o, "kv"), "f16");
    assert_string_equal(string_at(o, "numerics"), "exact");
    assert_true(strlen(string_at(o, "cpu")) > 0);
    json_decref(o);
    struct outcome text = CLI("bench", SMALL, "-p4", "-n4", "-r1", "--ctx=20");
    assert_non_null(strstr(text.out.data, "prefill "));
    assert_non_null(strstr(text.out.data, "for a context of 20"));
    cli_expect(text, 0, "");
}

/* The n-th of an array. */
static json_t *item(json_t *o, const char *path, size_t n)
{
    json_t *found = json_array_get(json_at(o, path), n);
    if (!found) fail_msg("%s has no item %zu", path, n);
    return found;
}

static void lists_are_all_measured(void **state)
{
    (void)state;
    struct outcome run =
        CLI("bench", SMALL, "--json", "-p", "3,70", "-n2", "-d", "0,40,100",
            "-b", "1,4", "-r1", "--isa", "ref", "--kv", "f32");
    json_t *o = cli_json(run, 0), *level = item(o, "levels", 0);
    static const int prompts[] = {3, 70}, depths[] = {0, 40, 100};
    assert_string_equal(string_at(level, "isa"), "ref");
    assert_int_equal(json_array_size(json_at(level, "prefill")), 2);
    assert_int_equal(json_array_size(json_at(level, "decode")), 6);
    for (size_t i = 0; i < 2; i++) {
        json_t *p = item(level, "prefill", i);
        assert_int_equal(number_at(p, "n_prompt"), prompts[i]);
        assert_true(number_at(p, "tokens_per_s") > 0);
    }
    for (size_t i = 0; i < 6; i++) {
        json_t *d = item(level, "decode", i);
        const int streams = i % 2 ? 4 : 1;
        assert_int_equal(number_at(d, "depth"), depths[i / 2]);
        assert_int_equal(number_at(d, "streams"), streams);
        assert_true(number_at(d, "tokens_per_s") > 0);
        /* keys and values of one head of 32 f32, two steps */
        const double positions = depths[i / 2] + 1.5;
        assert_true(number_at(d, "kv_bytes_per_step") ==
                    positions * 2 * 32 * 4 * streams);
        assert_true(number_at(d, "weight_bytes_per_step") ==
                    number_at(o, "active_bytes"));
    }
    json_decref(o);
}

/* 8 experts, 2 of them for a token. */
static void experts_are_counted_as_they_are_read(void **state)
{
    (void)state;
    json_t *o = cli_json(CLI("bench", cli_path("moe.gguf"), "--json", "-p1",
                             "-n3", "-b", "1,2,64", "-r1"),
                         0);
    const double expert = 3.0 * 256 * 256 / 32 * 34;
    const double active = number_at(o, "active_bytes"), layers = 2;
    double bytes[3];
    for (size_t i = 0; i < 3; i++) {
        bytes[i] = number_at(item(item(o, "levels", 0), "decode", i),
                             "weight_bytes_per_step");
    }
    assert_true(bytes[0] == active);
    assert_true(bytes[1] >= active && bytes[1] <= active + 2 * layers * expert);
    /* of 64 rows some go to each */
    assert_true(bytes[2] == active + 6 * layers * expert);
    json_decref(o);
}

static void levels_compare(void **state)
{
    (void)state;
    json_t *o = cli_json(
        CLI("bench", SMALL, "--json", "-p2", "-n1", "-r1", "--isa", "all"), 0);
    const size_t n = cpu_isa() == ISA_REF ? 1 : (size_t)cpu_isa();
    assert_int_equal(json_array_size(json_at(o, "levels")), n);
    assert_string_equal(string_at(item(o, "levels", 0), "isa"),
                        isa_name(cpu_isa()));
    json_t *matrices = item(item(o, "levels", 0), "matrices", 0);
    assert_true(number_at(matrices, "matrices") == 8);
    assert_true(strlen(string_at(matrices, "why")) > 0);
    json_decref(o);
    struct command forced = {
        .env = (const char *const[]){"POTLUCK_ISA=ref", NULL}};
    o = cli_json(
        CLI_WITH(forced, "bench", SMALL, "--json", "-p2", "-n1", "-r1"), 0);
    assert_string_equal(string_at(o, "isa"), "ref");
    json_decref(o);
}

static void wrong_usage(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"-p", ""},
        {"-p", "0"},
        {"-p", "1,,2"},
        {"-p", "12x"},
        {"-p", "-3"},
        {"-b", "0"},
        {"-b", "1,2000"},
        {"-d", "1 2"},
        {"-d", "99999999999"},
        {"--isa", "avx3"},
        {"--isa", "ref,"},
        {"--isa", ""},
        {"-d", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        cli_expect(CLI("bench", SMALL, bad[i][0], bad[i][1]), 2, bad[i][0]);
    }
    cli_expect(CLI("bench", SMALL), 2, "allows 512 positions");
    cli_expect(CLI("bench", SMALL, "-p9", "-n9", "-d504"), 2, "of 513");
    cli_expect(CLI("bench", SMALL, "-p9", "-n9", "-c17"), 2, "of 18");
    cli_expect(CLI("bench", SMALL, "-p9", "-n9", "--memory=1K"), 1,
               "more than the limit");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_of_each),
        cmocka_unit_test(lists_are_all_measured),
        cmocka_unit_test(experts_are_counted_as_they_are_read),
        cmocka_unit_test(levels_compare),
        cmocka_unit_test(wrong_usage),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

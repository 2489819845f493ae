/* potluck local as a script meets it: where the prompt comes from, what is
 * printed, that the answer depends on model, prompt and seed alone, and how
 * it ends when something goes wrong. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "engine/cpu.h"
#include "engine/runner.h"
#include "tests/lib/cli.h"

#define N_VOCAB 320

static int setup(void **state)
{
    (void)state;
    cli_begin();
    cli_model("small.gguf", "tiny-dense",
              (const char *const[]){"n_layer=1", "n_embd=64", "n_head=2",
                                    "n_head_kv=1", "n_ff=96", "n_vocab=320",
                                    "n_ctx=100000", "type=q8_0", NULL});
    /* every kind of kernel, and both ways that OpenBLAS may help */
    cli_model("mixed.gguf", "tiny-moe",
              (const char *const[]){"n_layer=2", "n_vocab=600", "type=q4_k_m",
                                    "type.embd=q8_0", "type.attn=q4_0",
                                    "type.ffn_down=q6_k", NULL});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cli_end();
    return 0;
}

#define SMALL  cli_path("small.gguf")
#define MIXED  cli_path("mixed.gguf")
#define LOGITS cli_path("logits")

/* ------------------------------------------------------------ prompt */

/* The prompt as the model sees it, told apart by the tokens it gives. */
static void same_prompt(struct outcome o, const char *text)
{
    struct outcome want = CLI("local", SMALL, "-n5", "--temp=0", "--json",
                              "--logits", cli_path("want"), "--", text);
    struct buf a = cli_read(LOGITS), b = cli_read(cli_path("want"));
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, b.len);
    buf_fini(&a);
    buf_fini(&b);
    json_t *x = cli_json(o, 0), *y = cli_json(want, 0);
    assert_true(json_equal(json_at(x, "tokens"), json_at(y, "tokens")));
    assert_true(
        json_equal(json_at(x, "prompt_tokens"), json_at(y, "prompt_tokens")));
    json_decref(x);
    json_decref(y);
}

#define ASK "local", SMALL, "-n5", "--temp=0", "--json", "--logits", LOGITS

static void where_the_prompt_comes_from(void **state)
{
    (void)state;
    struct command in = {.input = "from stdin\n"}, none = {.input = ""};
    same_prompt(CLI(ASK, "--", "-p"), "-p");
    same_prompt(CLI_WITH(in, ASK, "a word"), "a word");
    same_prompt(CLI_WITH(in, ASK), "from stdin\n");
    same_prompt(CLI_WITH(in, ASK, "-"), "from stdin\n");
    same_prompt(CLI_WITH(in, ASK, "-p", "Do it"), "Do it\n\nfrom stdin\n");
    same_prompt(CLI_WITH(in, ASK, "-p", "Do it", "-"), "Do it\n\nfrom stdin\n");
    same_prompt(CLI_WITH(in, ASK, "-p", "Do it", "this"), "Do it\n\nthis");
    same_prompt(CLI_WITH(none, ASK, "-p", "Do it"), "Do it");
    same_prompt(CLI(ASK, "-p", "Do it", ""), "Do it");
    /* the file puts BOS in front, so an empty prompt is one */
    json_t *o = cli_json(CLI(ASK, ""), 0);
    assert_int_equal(number_at(o, "prompt_tokens"), 1);
    assert_int_equal(json_array_size(json_at(o, "tokens")), 5);
    json_decref(o);
}

static void prompts_that_do_not_fit(void **state)
{
    (void)state;
    /* BOS, the space in front, four bytes */
    struct command in = {.input = "\x01\x02\x03\x04"};
    cli_expect(CLI_WITH(in, "local", SMALL, "--ctx", "5"), 2,
               "the prompt has 6 tokens, the context 5 positions");
    /* a full context still gives the token after it */
    json_t *o =
        cli_json(CLI_WITH(in, "local", SMALL, "--ctx", "6", "--json"), 0);
    assert_int_equal(json_array_size(json_at(o, "tokens")), 1);
    json_decref(o);
    cli_expect(CLI("local", SMALL, "--ctx", "100001", "hi"), 2,
               "allows 1 to 100000");
    cli_expect(CLI("local", SMALL, "--memory", "100K", "hi"), 1,
               "more than the limit of 0.10 MiB");
    /* more than any machine of a test has: said, and nothing is read */
    cli_model("huge.gguf", "mixtral-8x22b-shape",
              (const char *const[]){"n_layer=1000", NULL});
    cli_expect(CLI("local", cli_path("huge.gguf"), "-c", "65536", "hi"), 1,
               "more than the limit of");
    cli_expect(CLI("local", SMALL, "-s", "be kind", "hi"), 1,
               "no chat template");
}

/* ------------------------------------------------------------ answer */

static void json_has_its_shape(void **state)
{
    (void)state;
    json_t *o = cli_json(
        CLI("local", SMALL, "--json", "--seed", "7", "-n", "9", "one two"), 0);
    const size_t n = json_array_size(json_at(o, "tokens"));
    assert_in_range(n, 1, 9);
    assert_true(number_at(o, "prompt_tokens") > 1);
    assert_int_equal(number_at(o, "seed"), 7);
    assert_true(number_at(o, "timings.prompt_ms") > 0);
    assert_true(number_at(o, "timings.prompt_per_second") > 0);
    assert_true(n < 2 || number_at(o, "timings.predicted_ms") > 0);
    assert_true(n < 2 || number_at(o, "timings.predicted_per_second") > 0);
    assert_int_equal(json_object_size(o), 6);
    assert_string_equal(string_at(o, "finish_reason"), "length");
    assert_true(json_is_string(json_at(o, "text")));
    json_decref(o);
    o = cli_json(CLI("local", SMALL, "--json", "-n", "0", "hi"), 0);
    assert_int_equal(json_array_size(json_at(o, "tokens")), 0);
    assert_string_equal(string_at(o, "text"), "");
    assert_string_equal(string_at(o, "finish_reason"), "length");
    assert_true(json_is_integer(json_at(o, "seed"))); /* chosen, and told */
    json_decref(o);
    o = cli_json(CLI("local", SMALL, "--json", "-n", "1", "hi"), 0);
    assert_int_equal(json_array_size(json_at(o, "tokens")), 1);
    json_decref(o);
    cli_expect_out(CLI("local", SMALL, "-n", "0", "hi"), 0, "\n");
    struct outcome stats = CLI("local", SMALL, "-n3", "--stats", "hi");
    assert_non_null(strstr(stats.err.data, "answer: 3 tokens"));
    outcome_fini(&stats);
}

/* Tokens of a random model: often parts of characters, sometimes the end. */
static void any_bytes_and_the_end_token(void **state)
{
    (void)state;
    bool odd = false, stopped = false;
    for (int seed = 0; seed < 40 && !(odd && stopped); seed++) {
        char text[16];
        snprintf(text, sizeof text, "%d", seed);
        json_t *o =
            cli_json(CLI("local", SMALL, "--json", "-n200", "--temp=5",
                         "--top-k=0", "--top-p=1", "--seed", text, "hi"),
                     0);
        json_t *tokens = json_at(o, "tokens");
        const size_t n = json_array_size(tokens);
        const int last = (int)json_integer_value(json_array_get(tokens, n - 1));
        const char *reason = string_at(o, "finish_reason");
        odd = odd || strstr(string_at(o, "text"), "\xef\xbf\xbd") != NULL;
        if (strcmp(reason, "stop") == 0) {
            assert_int_equal(last, 2); /* </s>, which is not in the text */
            assert_null(strstr(string_at(o, "text"), "</s>"));
            stopped = true;
        } else {
            assert_string_equal(reason, "length");
            assert_int_equal(n, 200);
            assert_int_not_equal(last, 2);
        }
        json_decref(o);
    }
    assert_true(odd);
    assert_true(stopped);
}

static void the_seed_decides(void **state)
{
    (void)state;
    struct outcome a = CLI("local", SMALL, "--seed=1", "-n20", "hi");
    assert_true(a.out.len > 1);
    cli_expect_out(CLI("local", SMALL, "--seed", "1", "-n20", "hi"), 0,
                   a.out.data);
    struct outcome b = CLI("local", SMALL, "--seed=2", "-n20", "hi");
    assert_string_not_equal(a.out.data, b.out.data);
    outcome_fini(&b);
    outcome_fini(&a);
}

/* What a run says and computes, to compare with the first run's. */
static void same_answer(struct buf *logits, json_t **tokens, struct outcome o)
{
    json_t *j = cli_json(o, 0);
    json_t *these = json_incref(json_at(j, "tokens"));
    json_decref(j);
    struct buf b = cli_read(LOGITS);
    if (!*tokens) {
        *tokens = these;
        *logits = b;
        return;
    }
    assert_true(json_equal(*tokens, these));
    assert_int_equal(b.len, logits->len);
    assert_memory_equal(b.data, logits->data, b.len);
    buf_fini(&b);
    json_decref(these);
}

#define ANSWER                                                                 \
    "local", MIXED, "--json", "--logits", LOGITS, "-n6", "--seed=5",           \
        "forty short pieces of some text"

static void the_machine_does_not_decide(void **state)
{
    (void)state;
    struct buf logits = {0};
    json_t *tokens = NULL;
    char value[16];
    same_answer(&logits, &tokens, CLI(ANSWER));
    /* one row of f32 for every token, the last one's too */
    assert_int_equal(logits.len, json_array_size(tokens) * 600 * 4);
    for (int t = 1; t <= 4; t++) {
        snprintf(value, sizeof value, "-t%d", t);
        same_answer(&logits, &tokens, CLI(ANSWER, value));
    }
    for (int b = 1; b <= 33; b++) {
        snprintf(value, sizeof value, "%d", b);
        same_answer(&logits, &tokens, CLI(ANSWER, "--batch", value));
    }
    for (enum isa isa = ISA_REF; isa <= cpu_isa(); isa++) {
        if (!cpu_runs(isa)) continue;
        char env[32];
        snprintf(env, sizeof env, "POTLUCK_ISA=%s", isa_name(isa));
        struct command level = {.env = (const char *const[]){env, NULL}};
        same_answer(&logits, &tokens, CLI_WITH(level, ANSWER));
    }
    struct command ref = {.env =
                              (const char *const[]){"POTLUCK_ISA=ref", NULL}};
    same_answer(&logits, &tokens, CLI_WITH(ref, ANSWER, "--batch=9"));
    same_answer(&logits, &tokens, CLI(ANSWER, "--blas", "never"));
    same_answer(&logits, &tokens, CLI(ANSWER, "--blas", "always"));
    same_answer(&logits, &tokens, CLI(ANSWER, "--affinity"));
    same_answer(&logits, &tokens,
                CLI(ANSWER, "--blas", "always", "--numerics", "exact"));
    same_answer(&logits, &tokens, CLI(ANSWER, "--ctx", "60"));
    json_decref(tokens);
    buf_fini(&logits);
    /* while the cache's precision does */
    struct outcome f32 = CLI(ANSWER, "--kv", "f32");
    struct outcome f16 = CLI(ANSWER, "--kv", "f16", "--logits", cli_path("h"));
    struct buf a = cli_read(LOGITS), b = cli_read(cli_path("h"));
    assert_memory_not_equal(a.data, b.data, 600 * 4);
    buf_fini(&a);
    buf_fini(&b);
    cli_expect(f32, 0, "");
    cli_expect(f16, 0, "");
}

/* --------------------------------------------------- when it breaks off */

static void logits_that_cannot_be_written(void **state)
{
    (void)state;
    /* more than stdio's buffer, and less */
    cli_expect(CLI("local", SMALL, "-n9", "--logits", "/dev/full", "hi"), 1,
               "/dev/full: No space left on device");
    struct outcome o =
        CLI("local", SMALL, "-n1", "--json", "--logits", "/dev/full", "hi");
    assert_int_equal(o.out.len, 0); /* no object that says all is well */
    cli_expect(o, 1, "/dev/full: No space left on device");
    cli_expect(CLI("local", SMALL, "-n1", "--logits", cli_path(""), "hi"), 1,
               "Is a directory");
}

/* Long enough to be interrupted on any machine: what was said once is said
 * again, and no end token comes. */
#define REPEAT "local", SMALL, "--temp=0", "--repeat-penalty=0.05", "hi"
#define LONG   REPEAT, "-n90000", "--ctx=100000"

static void interrupted_text_is_whole_lines(void **state)
{
    (void)state;
    struct command stop = {.signal = SIGINT, .signal_after = 1};
    struct outcome o = CLI_WITH(stop, LONG);
    struct outcome all = CLI(REPEAT, "-n5");
    assert_int_equal(all.code, 0);
    const size_t n = all.out.len < o.out.len ? all.out.len : o.out.len;
    assert_in_range(n, 2, SIZE_MAX);
    assert_memory_equal(o.out.data, all.out.data, n - 1);
    assert_int_equal(o.out.data[o.out.len - 1], '\n');
    outcome_fini(&all);
    cli_expect(o, 130, "potluck: interrupted\n");
    stop.signal = SIGTERM;
    cli_expect(CLI_WITH(stop, LONG), 130, "potluck: interrupted\n");
}

static void interrupted_json_is_valid(void **state)
{
    (void)state;
    struct command stop = {
        .signal = SIGINT, .signal_after = 1, .growing = LOGITS};
    remove(LOGITS);
    json_t *o =
        cli_json(CLI_WITH(stop, LONG, "--json", "--logits", LOGITS), 130);
    assert_string_equal(string_at(o, "finish_reason"), "interrupted");
    struct buf logits = cli_read(LOGITS);
    const size_t n = json_array_size(json_at(o, "tokens"));
    assert_true(n > 0);
    assert_int_equal(logits.len, n * N_VOCAB * sizeof(float));
    buf_fini(&logits);
    json_decref(o);
}

static void nobody_reads_the_answer(void **state)
{
    (void)state;
    /* this process ignores SIGPIPE, and potluck must not mind */
    struct command head = {.hang_up_after = 1};
    cli_expect(CLI_WITH(head, LONG), -SIGPIPE, "");
}

static bool give_up(void *arg, uint64_t done, uint64_t total)
{
    unsigned *left = arg;
    assert_true(done <= total);
    return (*left)-- != 0;
}

static void loading_can_be_given_up(void **state)
{
    (void)state;
    struct shard_options o;
    struct error err;
    assert_int_equal(runner_defaults(&o, &err), ST_OK);
    const size_t before = mem_in_use();
    unsigned n = 0;
    o.progress = give_up;
    for (;; n++) {
        unsigned left = n;
        o.progress_arg = &left;
        struct runner r;
        const enum status st = runner_open(&r, MIXED, &o, true, &err);
        if (st == ST_OK) {
            runner_close(&r);
            break;
        }
        assert_int_equal(st, ST_INTERRUPTED);
        assert_int_equal(mem_in_use(), before);
    }
    assert_true(n > 10); /* once a matrix */
    assert_int_equal(mem_in_use(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_the_prompt_comes_from),
        cmocka_unit_test(prompts_that_do_not_fit),
        cmocka_unit_test(json_has_its_shape),
        cmocka_unit_test(any_bytes_and_the_end_token),
        cmocka_unit_test(the_seed_decides),
        cmocka_unit_test(the_machine_does_not_decide),
        cmocka_unit_test(logits_that_cannot_be_written),
        cmocka_unit_test(interrupted_text_is_whole_lines),
        cmocka_unit_test(interrupted_json_is_valid),
        cmocka_unit_test(nobody_reads_the_answer),
        cmocka_unit_test(loading_can_be_given_up),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

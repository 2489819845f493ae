/* potluck as a person and a script meet it: usage, inspect, tokenize,
 * detokenize, perplexity. test_cli_local.c has `local`, test_cli_bench.c
 * `bench`. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/runner.h"
#include "tests/lib/cli.h"
#include "tests/lib/gguf_writer.h"
#include "tests/lib/vocab.h"

#define CTX 64

static const char *const commands[] = {"local",      "inspect",    "tokenize",
                                       "detokenize", "perplexity", "bench"};

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

/* ------------------------------------------------------------- usage */

static void help_is_for_people(void **state)
{
    (void)state;
    cli_expect(CLI("--help"), 0, "");
    cli_expect(CLI("help"), 0, "");
    cli_expect(CLI("--version"), 0, "");
    struct outcome o = CLI("--help");
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        assert_non_null(strstr(o.out.data, commands[i]));
        /* whatever the environment, and the same by two ways */
        struct command with = {
            .env = (const char *const[]){"POTLUCK_ISA=nonsense", NULL}};
        struct outcome a = CLI_WITH(with, commands[i], "--help");
        struct outcome b = CLI("help", commands[i]);
        assert_int_equal(a.code, 0);
        assert_string_equal(a.err.data, "");
        assert_string_equal(a.out.data, b.out.data);
        char usage[64];
        snprintf(usage, sizeof usage, "usage: potluck %s MODEL.gguf",
                 commands[i]);
        assert_non_null(strstr(a.out.data, usage));
        for (const char *p = a.out.data; *p; p += strcspn(p, "\n") + 1) {
            if (strcspn(p, "\n") > 80) fail_msg("over 80 columns: %.120s", p);
        }
        outcome_fini(&a);
        outcome_fini(&b);
    }
    outcome_fini(&o);
}

static void wrong_usage_is_exit_2(void **state)
{
    (void)state;
    cli_expect(cli_run(&(struct command){0}, (const char *const[]){NULL}), 2,
               "usage: potluck COMMAND");
    cli_expect(CLI("nonsense"), 2, "no command \"nonsense\"");
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        cli_expect(CLI(commands[i]), 2, "needs a model file");
        cli_expect(CLI(commands[i], "--nonsense"), 2,
                   "unknown option --nonsense");
        cli_expect(CLI(commands[i], "a", "b", "c"), 2, "unexpected \"");
    }
    cli_expect(CLI("local", SMALL, "-n"), 2, "--tokens needs N");
    cli_expect(CLI("local", SMALL, "-n", "x"), 2, "needs a whole number");
    cli_expect(CLI("local", SMALL, "-n-1"), 2, "needs a whole number");
    cli_expect(CLI("local", SMALL, "--json=1"), 2, "takes no value");
    cli_expect(CLI("local", SMALL, "--temp", "nan"), 2, "needs a number");
    cli_expect(CLI("local", SMALL, "--temp", "-1"), 2, "temperature is -1");
    cli_expect(CLI("local", SMALL, "--memory", "6X"), 2, "needs a size");
    cli_expect(CLI("local", SMALL, "--kv", "q3"), 2, "f32, f16 or q8_0");
    cli_expect(CLI("local", SMALL, "--blas", "no"), 2, "measured, never");
    cli_expect(CLI("local", SMALL, "--numerics", "x"), 2, "exact or fast");
    cli_expect(CLI("local", SMALL, "-t", "0"), 2, "from 1 to");
    cli_expect(CLI("local", SMALL, "--seed", "18446744073709551615"), 2,
               "--seed");
    cli_expect(CLI("local", SMALL, "--seed", "9223372036854775808"), 2,
               "--seed");
    cli_expect(CLI("perplexity", SMALL), 2, "and a text file");
}

static void files_that_are_no_models(void **state)
{
    (void)state;
    struct buf whole = cli_read(SMALL);
    cli_write("truncated.gguf", whole.data, whole.len / 2);
    cli_write("beginning.gguf", whole.data, 1000);
    cli_write("empty.gguf", "", 0);
    cli_write("text.gguf", "this is no model\n", 17);
    buf_fini(&whole);
    const struct {
        const char *name, *says;
    } bad[] = {
        {"none.gguf", "No such file or directory"},
        {".", "not a regular file"},
        {"truncated.gguf", "do not lie in the file"},
        {"beginning.gguf", "the file ends"},
        {"empty.gguf", "the file ends"},
        {"text.gguf", "GGUF"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        for (size_t c = 0; c < COUNT_OF(commands); c++) {
            const char *path = cli_path(bad[i].name);
            struct outcome o = strcmp(commands[c], "inspect") == 0 ||
                                       strcmp(commands[c], "bench") == 0
                                   ? CLI(commands[c], path)
                                   : CLI(commands[c], path, SMALL);
            assert_int_equal(o.out.len, 0);
            assert_non_null(strstr(o.err.data, path));
            cli_expect(o, 1, bad[i].says);
        }
    }
}

static void environment_is_checked(void **state)
{
    (void)state;
    struct command with = {
        .env = (const char *const[]){"POTLUCK_ISA=nonsense", NULL}};
    cli_expect(CLI_WITH(with, "local", SMALL, "-n1", "hi"), 1,
               "POTLUCK_ISA=nonsense");
    cli_expect(CLI_WITH(with, "bench", SMALL), 1, "POTLUCK_ISA=nonsense");
    cli_expect(CLI_WITH(with, "tokenize", SMALL, "hi"), 0, "");
}

static void full_disk_is_an_error(void **state)
{
    (void)state;
    cli_write("text", "hello there\n", 12);
    struct command full = {.output = "/dev/full"};
    const char *const *runs[] = {
        (const char *const[]){"--help", NULL},
        (const char *const[]){"local", "--help", NULL},
        (const char *const[]){"inspect", SMALL, "--tensors", NULL},
        (const char *const[]){"inspect", SMALL, "--json", NULL},
        (const char *const[]){"tokenize", SMALL, "hi", NULL},
        (const char *const[]){"tokenize", SMALL, "hi", "--json", NULL},
        (const char *const[]){"detokenize", SMALL, "300", NULL},
        (const char *const[]){"perplexity", SMALL, cli_path("text"), NULL},
        (const char *const[]){"bench", SMALL, "-p1", "-n1", "-r1", NULL},
        (const char *const[]){"local", SMALL, "-n4", "hi", NULL},
        (const char *const[]){"local", SMALL, "-n4", "hi", "--json", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(runs); i++) {
        cli_expect(cli_run(&full, runs[i]), 1,
                   "standard output: No space left on device");
    }
}

/* ----------------------------------------------------------- inspect */

static void inspect_prints_the_plan(void **state)
{
    (void)state;
    json_t *o = cli_json(CLI("inspect", cli_path("moe.gguf"), "--json",
                             "--tensors", "--ctx", "100", "--kv", "f32"),
                         0);
    assert_string_equal(string_at(o, "model.architecture"), "llama");
    assert_int_equal(number_at(o, "model.n_layer"), 2);
    assert_int_equal(number_at(o, "model.n_expert"), 8);
    assert_int_equal(number_at(o, "plan.n_ctx"), 100);
    assert_string_equal(string_at(o, "plan.kv_type"), "f32");
    assert_true(json_is_true(json_at(o, "tokenizer.supported")));
    const double kv = number_at(o, "plan.kv_bytes");
    /* 4 pages of 32 positions, 2 layers, k and v, 2 heads of 32 */
    assert_true(kv >= 4 * 32 * 2 * 2 * 2 * 32 * 4);
    assert_true(number_at(o, "plan.total_bytes") >=
                kv + number_at(o, "plan.weights_bytes") +
                    number_at(o, "plan.scratch_bytes"));
    assert_int_equal(json_array_size(json_at(o, "tensors")),
                     number_at(o, "n_tensors"));
    double bytes = 0;
    size_t i;
    json_t *t;
    json_array_foreach(json_at(o, "types"), i, t)
    {
        bytes += number_at(t, "bytes");
        assert_true(strlen(string_at(t, "kernel")) > 0);
    }
    assert_true(bytes > 0 && bytes < number_at(o, "bytes"));
    json_decref(o);

    struct outcome text = CLI("inspect", cli_path("moe.gguf"), "--tensors");
    assert_non_null(strstr(text.out.data, "8, 2 used by each token"));
    assert_non_null(strstr(text.out.data, "token_embd.weight"));
    assert_non_null(strstr(text.out.data, "for a context of 512"));
    cli_expect(text, 0, "");
    cli_expect(CLI("inspect", SMALL, "--ctx", "513"), 2, "allows 1 to 512");
}

/* A copy with another tokenizer.ggml.model of five letters. */
static void write_with_tokenizer(const char *name, const char *model)
{
    struct buf b = cli_read(SMALL);
    static const char key[] = "tokenizer.ggml.model";
    char *at = memmem(b.data, b.len, key, strlen(key));
    assert_non_null(at);
    at += strlen(key) + 4 + 8; /* type, length */
    assert_memory_equal(at, "llama", 5);
    memcpy(at, model, 5);
    cli_write(name, b.data, b.len);
    buf_fini(&b);
}

static void tokenizer_that_is_not_built(void **state)
{
    (void)state;
    write_with_tokenizer("other.gguf", "plamo");
    const char *path = cli_path("other.gguf");
    cli_expect(CLI("local", path, "hi"), 1, "\"plamo\"");
    cli_expect(CLI("tokenize", path, "hi"), 1, "\"plamo\"");
    cli_expect(CLI("bench", path, "-p2", "-n2", "-r1"), 0, "");
    json_t *o = cli_json(CLI("inspect", path, "--json"), 0);
    assert_true(json_is_false(json_at(o, "tokenizer.supported")));
    assert_non_null(strstr(string_at(o, "tokenizer.unsupported"), "plamo"));
    assert_true(number_at(o, "plan.total_bytes") > 0);
    json_decref(o);
    write_with_tokenizer("escape.gguf", "\x1b[2J\x07");
    struct outcome text = CLI("inspect", cli_path("escape.gguf"));
    assert_null(strchr(text.out.data, '\x1b'));
    assert_non_null(strstr(text.out.data, "?[2J?"));
    cli_expect(text, 0, "");
}

static void vocabulary_without_a_model(void **state)
{
    (void)state;
    static const char *const pieces[] = {"<unk>", "<s>", "</s>", "\xe2\x96\x81",
                                         "a",     "b",   "ab"};
    static const float scores[] = {0, 0, 0, -1, -2, -3, -0.5f};
    static const int32_t types[] = {2, 3, 3, 1, 1, 1, 1};
    const size_t n = COUNT_OF(pieces);
    struct gguf_writer *w;
    struct error err;
    assert_int_equal(gguf_writer_create(&w, 3, &err), ST_OK);
    gguf_writer_str(w, "general.architecture", "llama");
    gguf_writer_str(w, "tokenizer.ggml.model", "llama");
    gguf_writer_str(w, "tokenizer.chat_template", "{{ messages }}");
    gguf_writer_cstrs(w, "tokenizer.ggml.tokens", pieces, n);
    gguf_writer_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, n);
    gguf_writer_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, n);
    gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 2);
    const char *path = cli_path("vocab.gguf");
    assert_int_equal(gguf_writer_save(w, path, &err), ST_OK);
    gguf_writer_free(w);
    struct outcome text = CLI("inspect", path);
    assert_non_null(strstr(text.out.data, "cannot be computed: "));
    cli_expect(text, 0, "");
    json_t *o = cli_json(CLI("inspect", path, "--json"), 0);
    assert_true(strlen(string_at(o, "unsupported")) > 0);
    assert_null(json_object_get(o, "plan"));
    json_decref(o);
    cli_expect_out(CLI("tokenize", path, "abab"), 0, "3 6 6\n");
    cli_expect_out(CLI("detokenize", path, "1 3 6 6"), 0, "abab\n");
    cli_expect(CLI("local", path, "--raw", "hi"), 1, "vocab.gguf: ");
}

/* ---------------------------------------------------------- tokenize */

/* Byte-level BPE, from a file with nothing but a vocabulary. */
static void byte_level_vocabulary(void **state)
{
    (void)state;
    struct vocab_spec spec = bpe_vocab_spec();
    spec.id_key = "tokenizer.ggml.bos_token_id";
    spec.id = (uint32_t)vocab_id(&spec, "<|x|>");
    struct buf b;
    struct error err;
    buf_init(&b, 1 << 20);
    assert_int_equal(vocab_write(&spec, &b, &err), ST_OK);
    cli_write("bpe.gguf", b.data, b.len);
    buf_fini(&b);
    const char *path = cli_path("bpe.gguf");
    cli_expect_out(CLI("tokenize", path, "--json", "he abc\xff"), 0,
                   "{\"tokens\":[256,266,255],"
                   "\"pieces\":[\"he\",\"\xc4\xa0"
                   "abc\",\"\xc3\xbf\"]}\n");
    const struct command in = {.input = "he abc"};
    cli_expect_out(CLI_WITH(in, "tokenize", path, "-"), 0, "256 266\n");
    char want[64];
    snprintf(want, sizeof want, "%u 256\n", spec.id);
    cli_expect_out(CLI("tokenize", path, "--bos", "he"), 0, want);
    cli_expect_out(CLI("tokenize", path, "--special", "<|x|>he"), 0, want);
    cli_expect_out(CLI("detokenize", path, "[256, 266]"), 0, "he abc\n");
    spec.pre = "llama-next";
    buf_init(&b, 1 << 20);
    assert_int_equal(vocab_write(&spec, &b, &err), ST_OK);
    cli_write("bpe.gguf", b.data, b.len);
    buf_fini(&b);
    cli_expect(CLI("tokenize", path, "he"), 1, "\"llama-next\"");
}

static void tokens_there_and_back(void **state)
{
    (void)state;
    static const char text[] = "Hello, w\xc3\xb6rld  \xe2\x82\xac\n\ttwo";
    struct command in = {.input = text};
    json_t *o = cli_json(CLI("tokenize", SMALL, "--json", text), 0);
    assert_int_equal(json_array_size(json_at(o, "tokens")),
                     json_array_size(json_at(o, "pieces")));
    char ids[512] = "";
    assert_in_range(
        json_dumpb(json_at(o, "tokens"), ids, sizeof ids - 1, JSON_COMPACT), 1,
        sizeof ids - 1);
    json_decref(o);
    /* argument, "-" and absent are one; JSON's list goes back as it came */
    struct outcome a = CLI("tokenize", SMALL, text);
    cli_expect_out(CLI_WITH(in, "tokenize", SMALL, "-"), 0, a.out.data);
    cli_expect_out(CLI_WITH(in, "tokenize", SMALL), 0, a.out.data);
    struct command list = {.input = a.out.data};
    o = cli_json(CLI_WITH(list, "detokenize", SMALL, "--json"), 0);
    assert_string_equal(string_at(o, "text"), text);
    json_decref(o);
    char want[64];
    snprintf(want, sizeof want, "%s\n", text);
    cli_expect_out(CLI("detokenize", SMALL, ids), 0, want);
    cli_expect_out(CLI_WITH(list, "detokenize", SMALL, "-"), 0, want);
    outcome_fini(&a);
    cli_expect_out(CLI("tokenize", SMALL, ""), 0, "\n");
    cli_expect_out(CLI("detokenize", SMALL, ""), 0, "\n");
}

static void control_tokens_on_demand(void **state)
{
    (void)state;
    cli_expect_out(CLI("tokenize", SMALL, "--bos", ""), 0, "1\n");
    cli_expect_out(CLI("tokenize", SMALL, "--special", "</s>"), 0, "2\n");
    struct outcome o = CLI("tokenize", SMALL, "</s>"); /* plain text */
    assert_string_not_equal(o.out.data, "2\n");
    cli_expect(o, 0, "");
    cli_expect_out(CLI("detokenize", SMALL, "1 2"), 0, "\n");
    cli_expect_out(CLI("detokenize", SMALL, "--special", "[1,2]"), 0,
                   "<s></s>\n");
    static const char text[] = "<s>to be</s>";
    o = CLI("tokenize", SMALL, "--special", text);
    cli_expect_out(CLI("detokenize", SMALL, "--special", o.out.data), 0,
                   "<s>to be</s>\n");
    outcome_fini(&o);
    /* bytes that are no UTF-8 are not lost, but not JSON either */
    o = CLI("tokenize", SMALL, "\xff\xc3");
    cli_expect_out(CLI("detokenize", SMALL, o.out.data), 0, "\xff\xc3\n");
    json_t *j = cli_json(CLI("detokenize", SMALL, "--json", o.out.data), 0);
    assert_string_equal(string_at(j, "text"), "\xef\xbf\xbd\xef\xbf\xbd");
    json_decref(j);
    outcome_fini(&o);
}

static void ids_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {"x",
                                      "1 2 x",
                                      "-1",
                                      "1.5",
                                      "2147483648",
                                      "99999999999999999999",
                                      "{\"tokens\":1}"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct outcome o = CLI("detokenize", SMALL, "--", bad[i]);
        assert_int_equal(o.out.len, 0);
        cli_expect(o, 2, "is not a token id");
    }
    cli_expect(CLI("detokenize", SMALL, "1 400"), 1, "vocabulary of 400");
    struct command zero = {.input = "300 \0 301", .n_input = 9};
    cli_expect(CLI_WITH(zero, "detokenize", SMALL), 2, "not a token id");
}

/* -------------------------------------------------------- perplexity */

struct expected {
    const int32_t *window;
    size_t n;
    uint32_t n_vocab;
    double nll;
    uint64_t scored;
};

/* -log p of the next token, in double. */
static enum status score(void *arg, size_t index, float *logits,
                         struct error *err)
{
    (void)err;
    struct expected *e = arg;
    if (index + 1 >= e->n) return ST_OK;
    double max = -INFINITY, sum = 0;
    for (uint32_t v = 0; v < e->n_vocab; v++) max = fmax(max, logits[v]);
    for (uint32_t v = 0; v < e->n_vocab; v++) sum += exp(logits[v] - max);
    e->nll += max + log(sum) - logits[e->window[index + 1]];
    e->scored++;
    return ST_OK;
}

static void perplexity_is_what_the_logits_say(void **state)
{
    (void)state;
    static const char text[] =
        "The pot is on the fire. Everyone brings what they have: an onion, "
        "two carrots, a handful of beans, and at the end there is soup for "
        "all.\nNobody asks who brought the salt; it is in there somewhere.\n";
    cli_write("text", text, strlen(text));
    struct shard_options o;
    struct error err;
    assert_int_equal(runner_defaults(&o, &err), ST_OK);
    o.n_ctx = CTX;
    o.outputs_max = o.rows_max;
    struct runner r;
    assert_int_equal(runner_open(&r, SMALL, &o, true, &err), ST_OK);
    struct tokens ids = {0};
    assert_int_equal(tokenizer_encode(r.tokenizer, text, strlen(text),
                                      (struct tokenize_options){0}, &ids, &err),
                     ST_OK);
    assert_true(ids.n > 2 * CTX); /* several windows */
    struct expected e = {.n_vocab = r.model.n_vocab};
    for (size_t at = 0; at < ids.n; at += CTX - 1) {
        int32_t window[CTX] = {tokenizer_bos(r.tokenizer)};
        const size_t n = ids.n - at < CTX - 1 ? ids.n - at : CTX - 1;
        memcpy(window + 1, ids.id + at, n * sizeof *window);
        e.window = window;
        e.n = n + 1;
        assert_int_equal(runner_feed(&r, 0, window, e.n, true, score, &e, &err),
                         ST_OK);
        runner_drop(&r, 0);
    }
    const double mean = e.nll / (double)e.scored;
    assert_int_equal(e.scored, ids.n);
    tokens_fini(&ids);
    runner_close(&r);

    json_t *j = cli_json(CLI("perplexity", SMALL, cli_path("text"), "--json",
                             "--ctx", "64", "--batch", "7"),
                         0);
    assert_int_equal(number_at(j, "tokens"), e.scored);
    assert_int_equal(number_at(j, "n_ctx"), CTX);
    if (!(fabs(number_at(j, "nll_per_token") - mean) <= 1e-6) ||
        !(fabs(number_at(j, "perplexity") / exp(mean) - 1) <= 1e-6)) {
        fail_msg("perplexity %.9g, wanted %.9g", number_at(j, "perplexity"),
                 exp(mean));
    }
    json_decref(j);
    struct command in = {.input = text};
    struct outcome out = CLI_WITH(in, "perplexity", SMALL, "-", "--ctx", "64");
    assert_non_null(strstr(out.out.data, "perplexity "));
    cli_expect(out, 0, "");
}

static void perplexity_of_nothing(void **state)
{
    (void)state;
    cli_write("empty", "", 0);
    cli_expect(CLI("perplexity", SMALL, cli_path("empty")), 1, "too short");
    cli_expect(CLI("perplexity", SMALL, cli_path("")), 1, "Is a directory");
    cli_expect(CLI("perplexity", SMALL, cli_path("none")), 1, "No such file");
    cli_expect(CLI("perplexity", SMALL, SMALL, "--ctx", "1"), 2, "--ctx 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_is_for_people),
        cmocka_unit_test(wrong_usage_is_exit_2),
        cmocka_unit_test(files_that_are_no_models),
        cmocka_unit_test(environment_is_checked),
        cmocka_unit_test(full_disk_is_an_error),
        cmocka_unit_test(inspect_prints_the_plan),
        cmocka_unit_test(tokenizer_that_is_not_built),
        cmocka_unit_test(vocabulary_without_a_model),
        cmocka_unit_test(byte_level_vocabulary),
        cmocka_unit_test(tokens_there_and_back),
        cmocka_unit_test(control_tokens_on_demand),
        cmocka_unit_test(ids_that_are_none),
        cmocka_unit_test(perplexity_is_what_the_logits_say),
        cmocka_unit_test(perplexity_of_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

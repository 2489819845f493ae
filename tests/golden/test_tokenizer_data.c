/* Ids of real vocabularies against the answers of Google SentencePiece, the
 * models' own Hugging Face tokenizers and llama.cpp (POTLUCK_TESTDATA). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>

#include "engine/tokenizer.h"
#include "tests/lib/testdata.h"

static struct tokenizer *load_vocab(const char *name)
{
    char path[TESTDATA_PATH_MAX];
    testdata_path(path, "vocab", name, ".gguf");
    struct gguf *g;
    struct error err;
    if (gguf_open(&g, path, &err) != ST_OK) fail_msg("%s", err.text);
    struct tokenizer *t;
    const enum status st = tokenizer_create(&t, g, &err);
    gguf_close(g);
    if (st != ST_OK) fail_msg("%s", err.text);
    return t;
}

static void print_ids(const char *what, const int32_t *id, size_t n)
{
    print_message("  %s:", what);
    for (size_t i = 0; i < n; i++) print_message(" %d", (int)id[i]);
    print_message("\n");
}

/* 1 if the text gives these ids. */
static int check_case(const struct tokenizer *t, const char *text, size_t n,
                      const int32_t *want, size_t n_want)
{
    struct tokens got = {0};
    struct error err;
    const struct tokenize_options plain = {0};
    if (tokenizer_encode(t, text, n, plain, &got, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
    const int ok =
        got.n == n_want &&
        (n_want == 0 || memcmp(got.id, want, n_want * sizeof *want) == 0);
    if (!ok) {
        print_message("differs: \"%.*s\"\n", (int)n, text);
        print_ids("want", want, n_want);
        print_ids("got ", got.id, got.n);
    }
    tokens_fini(&got);
    return ok;
}

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s cannot be opened", path);
    char *text = test_calloc(1, 1 << 20);
    const size_t n = fread(text, 1, (1 << 20) - 1, f);
    assert_true(n > 0 && feof(f));
    fclose(f);
    return text;
}

/* NAME.inp and .out: texts between separator lines, one line of ids each. */
static void check_inp(const char *name)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    struct tokenizer *t = load_vocab(name);
    char path[TESTDATA_PATH_MAX];
    testdata_path(path, "tokenizer", name, ".inp");
    char *inp = read_file(path);
    testdata_path(path, "tokenizer", name, ".out");
    char *out = read_file(path);

    int n = 0, passed = 0;
    const char *text = inp, *ids = out;
    for (const char *end; (end = strstr(text, mark)); n++) {
        int32_t want[1024];
        size_t n_want = 0;
        const char *line_end = strchr(ids, '\n');
        assert_non_null(line_end);
        for (;;) {
            while (*ids == ' ') ids++;
            if (ids == line_end) break;
            assert_in_range(n_want, 0, 1023);
            char *after;
            want[n_want++] = (int32_t)strtol(ids, &after, 10);
            assert_true(after > ids);
            ids = after;
        }
        ids = line_end + 1;
        passed += check_case(t, text, (size_t)(end - text), want, n_want);
        text = end + strlen(mark);
    }
    print_message("%s.inp: %d of %d\n", name, passed, n);
    test_free(inp);
    test_free(out);
    tokenizer_free(t);
    assert_int_equal(n, 46);
    assert_int_equal(passed, n);
}

/* NAME.json: [{"text": ..., "ids": [...]}, ...] */
static void check_json(const char *name)
{
    struct tokenizer *t = load_vocab(name);
    char path[TESTDATA_PATH_MAX];
    testdata_path(path, "tokenizer", name, ".json");
    json_error_t json_err;
    json_t *cases = json_load_file(path, JSON_ALLOW_NUL, &json_err);
    if (!cases) fail_msg("%s: %s", path, json_err.text);

    const size_t n = json_array_size(cases);
    size_t passed = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *c = json_array_get(cases, i);
        const json_t *text = json_object_get(c, "text");
        const json_t *ids = json_object_get(c, "ids");
        int32_t want[1024];
        const size_t n_want = json_array_size(ids);
        assert_in_range(n_want, 0, 1024);
        for (size_t k = 0; k < n_want; k++) {
            want[k] = (int32_t)json_integer_value(json_array_get(ids, k));
        }
        passed += (size_t)check_case(t, json_string_value(text),
                                     json_string_length(text), want, n_want);
    }
    print_message("%s.json: %zu of %zu\n", name, passed, n);
    json_decref(cases);
    tokenizer_free(t);
    assert_in_range(n, 60, 100000);
    assert_int_equal(passed, n);
}

static void test_inp(void **state)
{
    testdata_require();
    check_inp(*state);
}

static void test_json(void **state)
{
    testdata_require();
    check_json(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"test_llama2_inp", test_inp, NULL, NULL, (char[]){"llama2"}},
        {"test_gpt_2_inp", test_inp, NULL, NULL, (char[]){"gpt-2"}},
        {"test_llama3_inp", test_inp, NULL, NULL, (char[]){"llama3.1"}},
        {"test_qwen3_inp", test_inp, NULL, NULL, (char[]){"qwen3"}},
        {"test_llama2_json", test_json, NULL, NULL, (char[]){"llama2"}},
        {"test_mistral_v1", test_json, NULL, NULL, (char[]){"mistral-v1"}},
        {"test_mistral_v3", test_json, NULL, NULL, (char[]){"mistral-v3"}},
        {"test_gemma2", test_json, NULL, NULL, (char[]){"gemma2"}},
        {"test_llama3_json", test_json, NULL, NULL, (char[]){"llama3.1"}},
        {"test_qwen3_json", test_json, NULL, NULL, (char[]){"qwen3"}},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

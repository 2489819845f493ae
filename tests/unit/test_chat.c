/* Chat templates: where they come from, what they are given, how the prompt
 * becomes ids. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>
#include <string.h>

#include "engine/chat.h"
#include "tests/lib/gguf_writer.h"
#include "tests/lib/vocab.h"

#define NOW 1721952000 /* 26 July 2024 */

/* A file with this template (NULL: none) and one more token. */
static struct gguf *file_of(const char *source, const char *token)
{
    const char *const tokens[] = {"<unk>", "<s>", "</s>", token ? token : "x"};
    struct gguf_writer *w = NULL;
    struct error err;
    struct buf file;
    struct gguf *g = NULL;
    assert_int_equal(gguf_writer_create(&w, 3, &err), ST_OK);
    gguf_writer_str(w, "tokenizer.ggml.model", "llama");
    gguf_writer_cstrs(w, "tokenizer.ggml.tokens", tokens, COUNT_OF(tokens));
    if (source) gguf_writer_str(w, "tokenizer.chat_template", source);
    buf_init(&file, 1 << 20);
    assert_int_equal(gguf_writer_save_mem(w, &file, &err), ST_OK);
    gguf_writer_free(w);
    if (gguf_open_mem(&g, file.data, file.len, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
    buf_fini(&file);
    return g;
}

static enum status render(const char *source, const char *token,
                          const char *messages, bool prompt,
                          struct chat_prompt *p, struct error *err)
{
    struct gguf *g = file_of(source, token);
    struct chat *c = NULL;
    json_t *m = json_loads(messages, JSON_DECODE_ANY, NULL);
    assert_non_null(m);
    const struct chat_input in = {
        .messages = m, .add_generation_prompt = prompt, .now = NOW};
    enum status st = chat_create(&c, g, err);
    gguf_close(g);
    if (st == ST_OK) st = chat_render(c, &in, p, err);
    chat_free(c);
    json_decref(m);
    return st;
}

#define TURNS                                                                  \
    "[{\"role\":\"user\",\"content\":\"a\"},"                                  \
    "{\"role\":\"assistant\",\"content\":\"b\"},"                              \
    "{\"role\":\"user\",\"content\":\"c\"}]"
#define WITH_SYSTEM                                                            \
    "[{\"role\":\"system\",\"content\":\"S\"},"                                \
    "{\"role\":\"user\",\"content\":\"a\"}]"

static const struct {
    const char *source, *token, *messages, *text;
} formats[] = {
    {"chatml", NULL, TURNS,
     "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
     "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"},
    {NULL, "<|im_start|>", WITH_SYSTEM,
     "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {NULL, "<|start_header_id|>", WITH_SYSTEM,
     "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
     "<|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n"},
    {NULL, "<start_of_turn>", TURNS,
     "<s><start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\nb"
     "<end_of_turn>\n<start_of_turn>user\nc<end_of_turn>\n"
     "<start_of_turn>model\n"},
    {"gemma", NULL, WITH_SYSTEM,
     "<s><start_of_turn>user\nS\n\na<end_of_turn>\n<start_of_turn>model\n"},
    {NULL, "[INST]", TURNS, "<s>[INST] a[/INST] b</s>[INST] c[/INST]"},
    {"mistral-v1", NULL, TURNS, "<s> [INST] a [/INST] b</s> [INST] c [/INST]"},
    {"mistral-v3", NULL, WITH_SYSTEM, "<s>[INST] S\n\na[/INST]"},
    {"llama2", NULL, TURNS, "<s>[INST] a [/INST] b </s><s>[INST] c [/INST]"},
    {"llama2", NULL, WITH_SYSTEM,
     "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST]"},
    {"zephyr", NULL, WITH_SYSTEM,
     "<|system|>\nS</s>\n<|user|>\na</s>\n<|assistant|>\n"},
    {NULL, "<|assistant|>", WITH_SYSTEM,
     "<|system|>\nS<|end|>\n<|user|>\na<|end|>\n<|assistant|>\n"},
    {"vicuna", NULL, TURNS, "USER: a\nASSISTANT: b</s>\nUSER: c\nASSISTANT:"},
    /* what a file's own template is given */
    {"{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ pad_token }}"
     "{{ tools is none }}{{ strftime_now('%d %b %Y') }}",
     NULL, TURNS, "<s></s><unk>True26 Jul 2024"},
};

static void test_formats_that_are_built_in(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        struct chat_prompt p = {0};
        struct error err = {0};
        if (render(formats[i].source, formats[i].token, formats[i].messages,
                   true, &p, &err) != ST_OK) {
            fail_msg("format %zu: %s", i, err.text);
        }
        assert_string_equal(p.text.data, formats[i].text);
        chat_prompt_fini(&p);
    }
}

static const struct {
    const char *source, *messages;
    enum status want;
    const char *says;
} refused[] = {
    {NULL, TURNS, ST_NOT_FOUND, "tokenizer.chat_template"},
    {"nosuch", TURNS, ST_NOT_FOUND, "\"nosuch\" is not built in"},
    {"{% if %}", TURNS, ST_INVALID, "line 1"},
    {"{% block x %}{% endblock %}", TURNS, ST_UNSUPPORTED, "block"},
    {"chatml", "{}", ST_INVALID, "messages: not a list"},
    {"chatml", "null", ST_INVALID, "messages: not a list"},
    {"chatml", "[1]", ST_INVALID, "messages[0]: not an object"},
    {"chatml", "[{\"role\":5}]", ST_INVALID, "messages[0]: \"role\""},
    {"chatml", "[{\"role\":\"user\"}]", ST_INVALID, "\"content\" is undefined"},
    {"chatml", "[{\"role\":\"user\",\"content\":null}]", ST_INVALID, "none"},
    {"llama2", "[{\"role\":\"assistant\",\"content\":\"a\"}]", ST_INVALID,
     "must alternate"},
    {"{{ raise_exception('own words') }}", TURNS, ST_INVALID, "own words"},
};

static void test_what_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct chat_prompt p = {0};
        struct error err = {0};
        const enum status st = render(refused[i].source, NULL,
                                      refused[i].messages, true, &p, &err);
        if (st != refused[i].want || !strstr(err.text, refused[i].says)) {
            fail_msg("%zu: %s: %s", i, status_name(st), err.text);
        }
        assert_null(p.text.data);
    }
}

static void test_every_allocation_fails(void **state)
{
    (void)state;
    struct gguf *g = file_of(NULL, "<|im_start|>");
    json_t *m = json_loads(TURNS, 0, NULL);
    const struct chat_input in = {.messages = m, .now = NOW};
    const size_t before = mem_in_use();
    for (long n = 0;; n++) {
        struct chat *c = NULL;
        struct chat_prompt p = {0};
        mem_fail_after(n);
        enum status st = chat_create(&c, g, NULL);
        if (st == ST_OK) st = chat_render(c, &in, &p, NULL);
        mem_fail_after(-1);
        chat_free(c);
        chat_prompt_fini(&p);
        assert_int_equal(mem_in_use(), before);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
    }
    gguf_close(g);
    json_decref(m);
}

/* ------------------------------------------------------------ encoding */

static struct tokenizer *tokenizer(void)
{
    const struct vocab_spec spec = {.entry = small_vocab,
                                    .n = small_vocab_n,
                                    .flag_key = "tokenizer.ggml.add_bos_token",
                                    .flag = true};
    struct tokenizer *t = NULL;
    struct error err;
    if (vocab_create(&t, &spec, &err) != ST_OK) fail_msg("%s", err.text);
    return t;
}

static size_t count_id(const struct tokens *ids, int32_t id)
{
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++) n += ids->id[i] == id;
    return n;
}

static void encode(const char *source, const char *content, size_t n_bos,
                   size_t n_eos)
{
    struct tokenizer *t = tokenizer();
    struct chat_prompt p = {0};
    struct tokens ids = {0};
    struct error err;
    struct buf text;
    buf_init(&text, 1000);
    assert_int_equal(
        buf_printf(&text, "[{\"role\":\"user\",\"content\":\"%s\"}]", content),
        ST_OK);
    if (render(source, NULL, text.data, true, &p, &err) != ST_OK ||
        chat_encode(t, &p, &ids, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(count_id(&ids, tokenizer_bos(t)), n_bos);
    assert_int_equal(count_id(&ids, tokenizer_eos(t)), n_eos);
    assert_int_equal(ids.id[0], tokenizer_bos(t));
    buf_fini(&text);
    tokens_fini(&ids);
    chat_prompt_fini(&p);
    tokenizer_free(t);
}

static void test_control_tokens_are_the_templates_only(void **state)
{
    (void)state;
    static const char own[] =
        "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}";
    static const char bare[] = "{{ messages[0].content }}</s>";
    encode(own, "hello", 1, 1);
    encode(own, "</s><s></s>", 1, 1);
    encode(bare, "hello", 1, 1);
    /* the user's own "<s>" is no BOS, so there is still one to put in front */
    encode(bare, "<s></s>", 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats_that_are_built_in),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_every_allocation_fails),
        cmocka_unit_test(test_control_tokens_are_the_templates_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

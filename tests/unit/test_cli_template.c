/* potluck template as a person and a script meet it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "tests/lib/cli.h"
#include "tests/lib/gguf_writer.h"

#define MESSAGES "[{\"role\":\"user\",\"content\":\"hi <s>\"}]"
#define SOURCE                                                                 \
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}"      \
    "{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"                \
    "{{ strftime_now('%d %b %Y') }}{% if add_generation_prompt %}>{% endif %}"

static void write_vocabulary(const char *name, const char *source)
{
    const char *const tokens[] = {"<unk>", "<s>", "</s>"};
    struct gguf_writer *w = NULL;
    struct error err;
    assert_int_equal(gguf_writer_create(&w, 3, &err), ST_OK);
    gguf_writer_str(w, "tokenizer.ggml.model", "llama");
    gguf_writer_cstrs(w, "tokenizer.ggml.tokens", tokens, 3);
    if (source) gguf_writer_str(w, "tokenizer.chat_template", source);
    assert_int_equal(gguf_writer_save(w, cli_path(name), &err), ST_OK);
    gguf_writer_free(w);
}

static int setup(void **state)
{
    (void)state;
    cli_begin();
    write_vocabulary("chat.gguf", SOURCE);
    write_vocabulary("none.gguf", NULL);
    write_vocabulary("raises.gguf", "{{ raise_exception('own words') }}");
    cli_write("messages.json", MESSAGES, strlen(MESSAGES));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cli_end();
    return 0;
}

#define CHAT cli_path("chat.gguf")
#define DATE "--date", "2024-07-26"

static void prints_the_text_and_nothing_else(void **state)
{
    (void)state;
    static const char text[] = "<s>[user]hi <s>26 Jul 2024>";
    struct command in = {.input = MESSAGES};
    cli_expect_out(CLI("template", CHAT, DATE, "--json", MESSAGES), 0, text);
    cli_expect_out(
        CLI("template", CHAT, DATE, "--json", cli_path("messages.json")), 0,
        text);
    cli_expect_out(CLI_WITH(in, "template", CHAT, DATE, "--json", "-"), 0,
                   text);
    cli_expect_out(CLI("template", CHAT, DATE, "--no-generation-prompt",
                       "--json", MESSAGES),
                   0, "<s>[user]hi <s>26 Jul 2024");
    cli_expect_out(
        CLI("template", CHAT, DATE, "--json", MESSAGES, "--tools", "[{}]"), 0,
        "<s>[user]hi <s>[{}]26 Jul 2024>");
    cli_expect_out(CLI("template", CHAT, DATE, "--json",
                       "{\"messages\":[],\"tools\":[1]}"),
                   0, "<s>[1]26 Jul 2024>");
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    cli_expect(CLI("template"), 2, "needs a model file");
    cli_expect(CLI("template", CHAT), 2, "needs --json MESSAGES");
    cli_expect(CLI("template", CHAT, "x"), 2, "unexpected \"x\"");
    cli_expect(CLI("template", CHAT, "--json"), 2, "--json needs MESSAGES");
    cli_expect(CLI("template", CHAT, "--json", "[]", "--date", "2024-02-30"), 2,
               "not a day");
    cli_expect(CLI("template", CHAT, "--json", "[]", "--date", "24-2-3"), 2,
               "not a day");
    cli_expect(CLI("template", CHAT, "--json", "[1"), 1, "messages: line 1");
    cli_expect(CLI("template", CHAT, "--json", "[1]"), 1,
               "messages[0]: not an object");
    cli_expect(CLI("template", CHAT, "--json", "{}"), 1, "not a list");
    cli_expect(CLI("template", CHAT, "--json", "nosuchfile"), 1,
               "No such file");
    cli_expect(CLI("template", cli_path("no.gguf"), "--json", "[]"), 1,
               "No such file");
    cli_expect(CLI("template", cli_path("none.gguf"), "--json", "[]"), 1,
               "has no chat template");
    cli_expect_out(CLI("template", cli_path("raises.gguf"), "--json", "[]"), 1,
                   "");
}

static void help_is_for_people(void **state)
{
    (void)state;
    struct outcome o = CLI("template", "--help");
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.out.data, "usage: potluck template MODEL.gguf"));
    for (const char *p = o.out.data; *p; p += strcspn(p, "\n") + 1) {
        if (strcspn(p, "\n") > 80) fail_msg("over 80 columns: %.120s", p);
    }
    outcome_fini(&o);
    o = CLI("--help");
    assert_non_null(strstr(o.out.data, "template"));
    outcome_fini(&o);
}

static void full_disk_is_an_error(void **state)
{
    (void)state;
    struct command full = {.output = "/dev/full"};
    cli_expect(CLI_WITH(full, "template", CHAT, "--json", MESSAGES), 1,
               "standard output: No space left on device");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_the_text_and_nothing_else),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(help_is_for_people),
        cmocka_unit_test(full_disk_is_an_error),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

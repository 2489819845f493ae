/* Chats over HTTP: messages in, the shapes of their answers out. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "coordinator/api_request.h"
#include "tests/unit/api_rig.h"

static void expect_prompt(const struct pool_job *j, const char *text)
{
    struct tokens want = {0};
    struct error err;
    const struct tokenize_options o = {.bos =
                                           tokenizer_add_bos(pool.tokenizer)};
    assert_int_equal(
        tokenizer_encode(pool.tokenizer, text, strlen(text), o, &want, &err),
        ST_OK);
    assert_int_equal(j->request.n_prompt, want.n);
    assert_memory_equal(j->prompt, want.id, want.n * sizeof *want.id);
    tokens_fini(&want);
}

static void test_chat(void **state)
{
    (void)state;
    struct http_client c;
    size_t j = begin_at(
        &c, "/v1/chat/completions",
        "{\"messages\":[{\"role\":\"developer\",\"content\":\"s\"},{\"role\":"
        "\"user\",\"content\":[{\"type\":\"text\",\"text\":\"q</s>\"}]}],"
        "\"tools\":[{\"type\":\"function\"}],\"tool_choice\":\"auto\"}");
    assert_int_equal(pool.job[j].request.max_tokens, API_MAX_TOKENS_CHAT);
    assert_true(pool.job[j].request.own_text);
    /* the system message is folded in; </s> stays what was typed */
    expect_prompt(&pool.job[j], "<user>s\n\nq</s><bot>");
    token(j, 100, "Hey");
    token(j, 2, "");
    end_job(j, "stop", ST_OK, "");
    json_t *o = finish_json(&c, 200);
    assert_string_equal(S(o, "object"), "chat.completion");
    assert_memory_equal(S(o, "id"), "chatcmpl-", 9);
    assert_string_equal(S(o, "choices.0.message.role"), "assistant");
    assert_string_equal(S(o, "choices.0.message.content"), "Hey");
    assert_string_equal(S(o, "choices.0.finish_reason"), "stop");
    assert_int_equal(I(o, "usage.completion_tokens"), 3);
    json_decref(o);

    j = begin_at(&c, "/v1/chat/completions",
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],"
                 "\"stream\":true,\"stop\":\"END\"}");
    token(j, 100, "a E"); /* E is held back to the end */
    token(j, 2, "");
    end_job(j, "stop", ST_OK, "");
    struct events e = events_of(finish(&c, 200));
    http_client_close(&c);
    assert_int_equal(json_array_size(e.list), 4);
    assert_string_equal(S(e.list, "0.object"), "chat.completion.chunk");
    assert_string_equal(S(e.list, "0.choices.0.delta.role"), "assistant");
    assert_string_equal(S(e.list, "1.choices.0.delta.content"), "a ");
    assert_string_equal(S(e.list, "2.choices.0.delta.content"), "E");
    assert_true(json_is_null(at(e.list, "2.choices.0.finish_reason")));
    assert_int_equal(json_object_size(at(e.list, "3.choices.0.delta")), 0);
    assert_string_equal(S(e.list, "3.choices.0.finish_reason"), "stop");
    assert_true(e.is_done);
    json_decref(e.list);
}

static void test_chat_refusals(void **state)
{
    (void)state;
    static const char path[] = "/v1/chat/completions";
    expect_error(ask("POST", path, "{}"), 400, "invalid", "messages");
    expect_error(ask("POST", path, "{\"messages\":[7]}"), 400, "invalid",
                 "messages");
    expect_error(ask("POST", path,
                     "{\"messages\":[{\"role\":\"system\",\"content\":"
                     "\"s\"}]}"),
                 400, "invalid", "messages");
    expect_error(ask("POST", path,
                     "{\"messages\":[{\"role\":\"user\",\"content\":"
                     "\"s\"}],\"tool_choice\":\"required\"}"),
                 400, "unsupported_parameter", "tool_choice");
}

static void test_chat_without_a_template(void **state)
{
    (void)state;
    expect_error(ask("POST", "/v1/chat/completions", "{\"messages\":[]}"), 400,
                 "no_chat_template", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_chat, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chat_refusals, setup, teardown),
        cmocka_unit_test_prestate_setup_teardown(test_chat_without_a_template,
                                                 setup, teardown,
                                                 (void *)(uintptr_t)1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_pool_long.c - 32K positions: a local layer, a global one and YaRN, on a
 * pool of two and of three, the same bytes as one process. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "tests/lib/lan.h"

/* Sanitized programs are slow: fewer positions will do. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define POSITIONS 3000
#else
#define POSITIONS 32768
#endif

static char prompt[POSITIONS]; /* a letter is a token; one is <s>, one room */

static void make_prompt(void)
{
    /* no two letters that a vocabulary of bytes would merge */
    static const char text[] = "qzxjkvwq0zq9xz8jx7kz6vq";
    for (size_t i = 0; i + 16 < sizeof prompt; i++) {
        prompt[i] = text[(i * 7 + i / 91) % (sizeof text - 1)];
    }
}

static void ask(struct lan *lan, struct buf *want)
{
    const struct command with = {.input = prompt, .timeout_s = 300};
    cli_expect(lan_run(lan, &with,
                       (const char *const[]){"--raw", "--temp", "0", "-n", "4",
                                             "--wait", "60", "--logits",
                                             cli_path("got"), "-", NULL}),
               0, "");
    struct buf got = cli_read(cli_path("got"));
    assert_int_equal(got.len, want->len);
    assert_memory_equal(got.data, want->data, got.len);
    buf_fini(&got);
}

static void test_32k(void **state)
{
    (void)state;
    struct lan lan;
    char ctx[16];
    snprintf(ctx, sizeof ctx, "%u", POSITIONS);
    make_prompt();
    cli_begin();
    cli_model("long.gguf", "tiny-dense",
              (const char *const[]){"arch=gemma2", "tied=1", "n_layer=3",
                                    "n_embd=128", "n_head=1", "n_head_kv=1",
                                    "head_dim=32", "n_ff=128", "n_vocab=600",
                                    "n_ctx=131072", "window=1024",
                                    "rope_scaling=yarn", "rope_scale=4",
                                    "n_ctx_orig=8192", "type=f16", NULL});
    const struct command with = {.input = prompt, .timeout_s = 300};
    json_t *j = cli_json(CLI_WITH(with, "local", cli_path("long.gguf"), "--raw",
                                  "--json", "--temp", "0", "-n", "4", "-c", ctx,
                                  "--logits", cli_path("want"), "-"),
                         0);
    const json_int_t n =
        json_integer_value(json_object_get(j, "prompt_tokens"));
    print_message("%lld positions\n", (long long)n);
    assert_in_range(n, POSITIONS * 9 / 10, POSITIONS);
    json_decref(j);
    struct buf want = cli_read(cli_path("want"));
    for (uint32_t workers = 2; workers <= 3; workers++) {
        lan_begin(&lan);
        lan_serve(&lan, cli_path("long.gguf"),
                  (const char *const[]){"--workers", workers == 2 ? "2" : "3",
                                        "--spread", "--ctx", ctx, NULL});
        lan_join_all(&lan, workers);
        lan_wait_state(&lan, "serving");
        ask(&lan, &want);
        lan_end(&lan);
    }
    buf_fini(&want);
    cli_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_32k)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_pool_links.c - cables: cut in mid-answer, to the coordinator and
 * between two workers only, and mended again. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/lib/lan.h"
#include "tests/lib/netns.h"

#define N_TOKENS   "16"
#define N_HOSTS    3
#define EXIT_BROKE 6
#define LOST_MAX   6

static struct netns net;
static struct lan pool;
static struct buf want;

static void open_pool(void)
{
    netns_begin(&net, N_HOSTS);
    cli_begin();
    lan_begin(&pool);
    cli_model("moe.gguf", "moe-12", (const char *const[]){NULL});
    cli_expect(CLI("local", cli_path("moe.gguf"), "--raw", "--temp", "0", "-n",
                   N_TOKENS, "-t", "1", "--logits", cli_path("want"), "--",
                   "once"),
               0, "");
    want = cli_read(cli_path("want"));
    pool.coordinator_prefix = net.prefix[0];
    pool.host = net.address[0];
    lan_serve(&pool, cli_path("moe.gguf"),
              (const char *const[]){"--workers", "2", "--spread", NULL});
    for (uint32_t i = 1; i < N_HOSTS; i++) {
        pool.worker_prefix[i] = net.prefix[i];
        lan_join(&pool, i, NULL);
    }
    lan_wait_nodes(&pool, 2, "serving");
}

static void close_pool(void)
{
    buf_fini(&want);
    lan_end(&pool);
    cli_end();
    netns_end(&net);
}

/* Whether the next prompt is answered, as by one process; if not, the error
 * names a worker. */
static bool answered(void)
{
    struct outcome o = LAN_RUN(&pool, "--raw", "--temp", "0", "-n", N_TOKENS,
                               "--logits", cli_path("got"), "--", "once");
    if (o.code != 0) {
        assert_non_null(strstr(o.err.data, "pc-"));
        outcome_fini(&o);
        return false;
    }
    outcome_fini(&o);
    struct buf got = cli_read(cli_path("got"));
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.data, want.data, want.len);
    buf_fini(&got);
    return true;
}

static long out_bytes(void)
{
    FILE *f = fopen(lan_path(&pool, "long"), "r");
    if (!f) return 0; /* not yet */
    fseek(f, 0, SEEK_END);
    const long n = ftell(f);
    fclose(f);
    return n;
}

/* An answer that is under way: some of its text is there. */
static pid_t begin_answer(void)
{
    const struct timespec nap = {.tv_nsec = 5 * 1000 * 1000};
    const pid_t pid = lan_run_async(
        &pool, "long",
        (const char *const[]){"--raw", "--temp", "0", "-n", "1500", "--",
                              "a story that takes a while", NULL});
    while (out_bytes() < 20) nanosleep(&nap, NULL);
    return pid;
}

/* It ends in an error, and the error names a worker. */
static void breaks_off(pid_t pid, const char *words)
{
    assert_int_equal(lan_wait_exit(pid), EXIT_BROKE);
    struct buf said = cli_read(lan_path(&pool, "long.err"));
    if (!strstr(said.data, words)) {
        fail_msg("not \"%s\" but: %s", words, said.data);
    }
    buf_fini(&said);
}

/* ------------------------------------------------------------- tests */

/* A worker's cable: it is silent, the others go on; then it is back. */
static void test_cut_from_coordinator(void **state)
{
    (void)state;
    open_pool();
    const pid_t pid = begin_answer();
    netns_link(&net, 2, false);
    breaks_off(pid, "pc-2 has been silent");
    lan_wait_nodes(&pool, 1, "serving");
    assert_true(answered());
    lan_wait_said(&pool, "pc-2", "lost the coordinator");
    netns_link(&net, 2, true);
    lan_wait_nodes(&pool, 2, "serving");
    assert_true(answered());
    close_pool();
}

/* Both still reach the coordinator, but not each other: steps get lost, and
 * nobody is silent.  Who lost one is held back, for longer each time, so that
 * the other answers alone. */
static void test_cut_between_workers(void **state)
{
    (void)state;
    open_pool();
    const pid_t pid = begin_answer();
    netns_between(&net, 1, 2, false);
    /* the one of them, or the other that waits for its experts */
    breaks_off(pid, "did not finish a step in time");
    uint32_t lost = 0;
    while (!answered()) assert_true(++lost < LOST_MAX);
    print_message("%u more prompts were lost while the cable was cut\n", lost);
    netns_between(&net, 1, 2, true);
    lan_wait_said(&pool, "coordinator", "planning over 2 workers");
    for (lost = 0; !answered();) assert_true(++lost < 2);
    close_pool();
}

static int teardown(void **state)
{
    (void)state;
    netns_end(&net);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_cut_from_coordinator, teardown),
        cmocka_unit_test_teardown(test_cut_between_workers, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

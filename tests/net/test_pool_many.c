/* test_pool_many.c - 32 workers join, plan, answer and leave in one run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/lan.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define N_WORKERS 8
#else
#define N_WORKERS 32
#endif
#define N_TOKENS "16"

static struct lan pool;

/* User and system time of a process, in seconds. */
static double cpu_s(pid_t pid)
{
    char path[64], line[1024] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    const char *at = strrchr(line, ')'); /* field 2; 14 and 15 are wanted */
    assert_non_null(at);
    for (int field = 2; field < 14; field++) {
        at = strchr(at + 1, ' ');
        assert_non_null(at);
    }
    char *end;
    const double user = strtod(at, &end);
    return (user + strtod(end, NULL)) / (double)sysconf(_SC_CLK_TCK);
}

/* So many nodes have a stage. */
static void check_stages(uint32_t n)
{
    json_t *j = lan_status(&pool);
    assert_non_null(j);
    assert_int_equal(json_array_size(json_at(j, "plan.stages")), n);
    json_decref(j);
}

static void answers_as_one(const struct buf *want)
{
    cli_expect(LAN_RUN(&pool, "--raw", "--temp", "0", "-n", N_TOKENS,
                       "--logits", cli_path("got"), "--", "once"),
               0, "");
    struct buf got = cli_read(cli_path("got"));
    assert_int_equal(got.len, want->len);
    assert_memory_equal(got.data, want->data, want->len);
    buf_fini(&got);
}

static void test_many_workers(void **state)
{
    (void)state;
    char n[16];
    snprintf(n, sizeof n, "%d", N_WORKERS);
    cli_begin();
    lan_begin(&pool);
    cli_model("deep.gguf", "tiny-dense",
              (const char *const[]){"n_layer=32", "n_embd=128", "n_head=4",
                                    "n_head_kv=2", "n_ff=256", NULL});
    cli_expect(CLI("local", cli_path("deep.gguf"), "--raw", "--temp", "0", "-n",
                   N_TOKENS, "-t", "1", "--logits", cli_path("want"), "--",
                   "once"),
               0, "");
    struct buf want = cli_read(cli_path("want"));
    lan_serve(&pool, cli_path("deep.gguf"),
              (const char *const[]){"--workers", n, "--spread", NULL});
    const uint64_t before = lan_peak_bytes(pool.coordinator);
    lan_join_all(&pool, N_WORKERS);
    lan_wait_nodes(&pool, N_WORKERS, "serving");
    const double joined_s = cpu_s(pool.coordinator);
    check_stages(N_WORKERS);
    answers_as_one(&want);
    const uint64_t after = lan_peak_bytes(pool.coordinator);
    print_message("coordinator of %d workers: %.2f s of CPU until it served, "
                  "%.2f s with an answer; %.1f MiB, %.0f KiB per worker\n",
                  N_WORKERS, joined_s, cpu_s(pool.coordinator),
                  (double)after / 0x1p20,
                  (double)(after - before) / 1024 / N_WORKERS);
    for (uint32_t i = 1; i <= N_WORKERS; i++) {
        assert_int_equal(lan_stop_worker(&pool, i), 0);
    }
    lan_wait_nodes(&pool, 0, "waiting");
    print_message("%.2f s when all had left\n", cpu_s(pool.coordinator));
    buf_fini(&want);
    lan_end(&pool);
    cli_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_workers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

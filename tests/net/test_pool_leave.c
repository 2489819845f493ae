/* test_pool_leave.c - ends that are meant: SIGTERM, Ctrl-C, a restart; and
 * more prompts than there is room for. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"
#include "tests/lib/fault_rig.h"

#define MEDIUM  (FAULT_SLOW ? "100" : "400") /* tokens; takes a while */
#define N_AHEAD 6

static struct fault_rig rig;

static void begin(uint32_t n)
{
    fault_begin(&rig);
    fault_serve(&rig, n, (const char *const[]){"--spread", NULL});
}

static void test_coordinator_killed_and_restarted(void **state)
{
    (void)state;
    begin(2);
    const pid_t answer = fault_long(&rig);
    lan_kill_coordinator(&rig.lan);
    fault_broke_off(&rig, answer, "broke off");
    cli_expect(LAN_RUN(&rig.lan, "--raw", "A"), 3, "potluck: ");
    /* The workers are given nothing new: they come by themselves. */
    lan_serve(&rig.lan, rig.model,
              (const char *const[]){"--workers", "2", "--spread", "--ctx",
                                    FAULT_CTX, "--invite", "0", NULL});
    lan_wait_nodes(&rig.lan, 2, "serving");
    assert_true(lan_said(&rig.lan, "pc-1", "lost the coordinator"));
    fault_answers(&rig, "0");
    fault_end(&rig);
}

static void test_coordinator_terminated(void **state)
{
    (void)state;
    begin(2);
    pid_t answer = fault_medium(&rig, "medium", MEDIUM);
    assert_int_equal(lan_stop_coordinator(&rig.lan), 0);
    fault_finished(&rig, answer, "medium", MEDIUM);
    /* and twice: at once */
    lan_serve(&rig.lan, rig.model,
              (const char *const[]){"--workers", "2", "--spread", "--ctx",
                                    FAULT_CTX, NULL});
    lan_wait_nodes(&rig.lan, 2, "serving");
    answer = fault_long(&rig);
    kill(rig.lan.coordinator, SIGTERM);
    sleep(1); /* two at the same time would be one */
    assert_int_equal(lan_stop_coordinator(&rig.lan), 0);
    fault_broke_off(&rig, answer, "the coordinator stops");
    assert_true(lan_said(&rig.lan, "coordinator", "stopping at once"));
    fault_end(&rig);
}

static void test_worker_terminated(void **state)
{
    (void)state;
    begin(3);
    const pid_t answer = fault_medium(&rig, "medium", MEDIUM);
    assert_int_equal(lan_stop_worker(&rig.lan, 2), 0);
    assert_true(lan_said(&rig.lan, "pc-2", "left"));
    fault_finished(&rig, answer, "medium", MEDIUM);
    lan_wait_nodes(&rig.lan, 2, "serving");
    fault_answers(&rig, "0");
    lan_join(&rig.lan, 2, NULL);
    lan_wait_used(&rig.lan, 2, true);
    fault_answers(&rig, "0");
    fault_end(&rig);
}

/* ------------------------------------------------------- room for prompts */

/* Eight pages of the cache, 256 tokens, which is one context. */
static void begin_small(const char *n_ctx)
{
    char plan[512];
    snprintf(plan, sizeof plan,
             "{\"layers\":[{\"node\":\"pc-1\",\"first\":0,\"end\":2},"
             "{\"node\":\"pc-2\",\"first\":2,\"end\":4}],\"embed\":\"pc-1\","
             "\"head\":\"pc-2\",\"options\":{\"n_ctx\":%s,\"n_seq_max\":4,"
             "\"n_pages\":8}}",
             n_ctx);
    fault_begin(&rig);
    cli_write("plan.json", plan, strlen(plan));
    lan_serve(&rig.lan, rig.model,
              (const char *const[]){"--workers", "2", "--plan",
                                    cli_path("plan.json"), NULL});
    lan_join_all(&rig.lan, 2);
    lan_wait_state(&rig.lan, "serving");
}

/* Another SIGINT to whatever still runs. */
static void test_interrupted_prompts_free_their_pages(void **state)
{
    (void)state;
    char logits[64];
    begin_small("256");
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(logits, sizeof logits, "cut-%u", i);
        const pid_t pid = lan_run_async(
            &rig.lan, "interrupted",
            (const char *const[]){"--raw", "--temp", "0", "-n", "240",
                                  "--logits", lan_path(&rig.lan, logits), "--",
                                  "Once upon a time", NULL});
        lan_wait_bytes(&rig.lan, logits, 4000);
        kill(pid, i == 2 ? SIGKILL : SIGINT);
        const int code = lan_wait_exit(pid);
        /* it may just have come to its end */
        if (code != 0) assert_int_equal(code, i == 2 ? -SIGKILL : 130);
        lan_wait_idle(&rig.lan);
    }
    /* 240 and the prompt's are all eight pages, on every worker */
    const pid_t all = fault_medium(&rig, "all", "240");
    fault_finished(&rig, all, "all", "240");
    lan_wait_idle(&rig.lan);
    fault_end(&rig);
}

/* Each needs half of the cache; six of them three times of it. */
static void test_three_times_the_room(void **state)
{
    (void)state;
    char name[N_AHEAD][16];
    pid_t pid[N_AHEAD];
    begin_small("128");
    for (uint32_t i = 0; i < N_AHEAD; i++) {
        snprintf(name[i], sizeof name[i], "out-%u", i);
        char logits[512];
        snprintf(logits, sizeof logits, "%s/%s", rig.lan.dir, name[i]);
        pid[i] =
            lan_run_async(&rig.lan, "output",
                          (const char *const[]){"--raw", "--temp", "0", "-n",
                                                "110", "--logits", logits, "--",
                                                "Once upon a time", NULL});
    }
    for (uint32_t i = 0; i < N_AHEAD; i++) {
        fault_finished(&rig, pid[i], name[i], "110");
    }
    lan_wait_idle(&rig.lan);
    /* what can never fit is refused, at once and in words */
    struct buf b;
    buf_init(&b, 1u << 20);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(buf_append(&b, "Tom and Anna ", 13), ST_OK);
    }
    cli_expect(LAN_RUN(&rig.lan, "--raw", "--", b.data), 5,
               "tokens, the context is 128");
    buf_fini(&b);
    fault_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coordinator_killed_and_restarted),
        cmocka_unit_test(test_coordinator_terminated),
        cmocka_unit_test(test_worker_terminated),
        cmocka_unit_test(test_interrupted_prompts_free_their_pages),
        cmocka_unit_test(test_three_times_the_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

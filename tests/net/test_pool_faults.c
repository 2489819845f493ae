/* test_pool_faults.c - workers that die or stop: in mid-answer, by each of the
 * roles they can have, while they load and while they measure. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/fault_rig.h"

#define FIRST 1 /* embedding and first stage */
#define LAST  2 /* last stage and head */
#define SIDE  3 /* experts of every layer, and nothing else */

static const char plan[] =
    "{\"layers\":[{\"node\":\"pc-1\",\"first\":0,\"end\":2},"
    "{\"node\":\"pc-2\",\"first\":2,\"end\":4}],\"embed\":\"pc-1\","
    "\"head\":\"pc-2\",\"experts\":{\"0\":{\"pc-3\":[0,1,2,3]},"
    "\"1\":{\"pc-3\":[4,5,6,7]},\"2\":{\"pc-3\":[1,3,5,7]},"
    "\"3\":{\"pc-3\":[0,2,4,6]}}}";

/* The same roles for the model that comes with potluck. */
static const char demo_plan[] =
    "{\"layers\":[{\"node\":\"pc-1\",\"first\":0,\"end\":3},"
    "{\"node\":\"pc-2\",\"first\":3,\"end\":6}],\"embed\":\"pc-1\","
    "\"head\":\"pc-2\",\"experts\":{\"0\":{\"pc-3\":[0,1,2,3]},"
    "\"1\":{\"pc-3\":[4,5,6,7]},\"2\":{\"pc-3\":[1,3,5,7]},"
    "\"3\":{\"pc-3\":[0,2,4,6]},\"4\":{\"pc-3\":[2,3,4,5]},"
    "\"5\":{\"pc-3\":[0,1,6,7]}}}";

static struct fault_rig rig;

static void begin_roles(bool demo)
{
    if (demo)
        fault_begin_demo(&rig);
    else
        fault_begin(&rig);
    const char *roles = demo ? demo_plan : plan;
    cli_write("plan.json", roles, strlen(roles));
    fault_serve(&rig, 3,
                (const char *const[]){"--plan", cli_path("plan.json"), NULL});
}

static void each_role(bool stop)
{
    for (uint32_t role = FIRST; role <= SIDE; role++) {
        char who[16];
        snprintf(who, sizeof who, "pc-%u ", role);
        fault_answers(&rig, "0");
        const pid_t answer = fault_long(&rig);
        if (stop)
            kill(rig.lan.workers[role], SIGSTOP);
        else
            lan_kill_worker(&rig.lan, role);
        fault_broke_off(&rig, answer, who);
        fault_answers(&rig, "0"); /* by the survivors */
        lan_wait_used(&rig.lan, role, false);
        if (stop)
            kill(rig.lan.workers[role], SIGCONT);
        else
            lan_join(&rig.lan, role, NULL);
        lan_wait_used(&rig.lan, role, true);
        fault_answers(&rig, "0");
    }
    assert_true(lan_said(&rig.lan, "coordinator", "has been silent for"));
}

static void test_killed_in_mid_answer(void **state)
{
    (void)state;
    begin_roles(false);
    each_role(false);
    fault_end(&rig);
}

/* A trained model in mid-story; the pool, whole again, tells it to its end as
 * `local` does. */
static void test_killed_in_mid_story(void **state)
{
    (void)state;
    begin_roles(true);
    each_role(false);
    fault_finished(&rig, fault_medium(&rig, "story", rig.n_most), "story",
                   rig.n_most);
    struct buf b = cli_read(lan_path(&rig.lan, "story.out"));
    assert_non_null(strstr(b.data, "Rusty"));
    buf_fini(&b);
    fault_end(&rig);
}

/* It joins again by itself. */
static void test_stopped_in_mid_answer(void **state)
{
    (void)state;
    begin_roles(false);
    each_role(true);
    fault_end(&rig);
}

/* pc-2 dies while it measures, and is stopped while it is planned for. */
static void test_gone_before_it_serves(void **state)
{
    (void)state;
    fault_begin(&rig);
    lan_serve(&rig.lan, rig.model,
              (const char *const[]){"--workers", "2", "--spread", "--ctx",
                                    FAULT_CTX, NULL});
    lan_join(&rig.lan, 2, NULL);
    lan_wait_said(&rig.lan, "pc-2", "joined ");
    lan_kill_worker(&rig.lan, 2);
    lan_join(&rig.lan, 1, NULL);
    lan_join(&rig.lan, 3, NULL);
    lan_wait_said(&rig.lan, "pc-1", "measured");
    lan_join(&rig.lan, 2, NULL);
    lan_wait_said(&rig.lan, "pc-2", "measured");
    kill(rig.lan.workers[2], SIGSTOP);
    fault_answers(&rig, "100");
    lan_wait_used(&rig.lan, 2, false);
    kill(rig.lan.workers[2], SIGCONT);
    lan_wait_used(&rig.lan, 2, true);
    fault_answers(&rig, "0");
    fault_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_in_mid_answer),
        cmocka_unit_test(test_killed_in_mid_story),
        cmocka_unit_test(test_stopped_in_mid_answer),
        cmocka_unit_test(test_gone_before_it_serves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

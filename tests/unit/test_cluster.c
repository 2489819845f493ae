/* Membership, leases and epochs: the life of a pool told event by event, and
 * random events against the invariants. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "common/rng.h"
#include "coordinator/cluster.h"
#include "engine/numerics.h"

#define MS UINT64_C(1000000)

static void key_of(uint8_t key[KEY_BYTES], uint32_t n)
{
    memset(key, 0, KEY_BYTES);
    memcpy(key, &n, sizeof n);
}

static struct wire_hello hello_of(uint32_t n, uint64_t boot)
{
    struct wire_hello h = {.protocol_min = 1,
                           .protocol_max = 1,
                           .numerics_version = NUMERICS_VERSION,
                           .boot_id = boot,
                           .memory_bytes = UINT64_C(8) << 30};
    snprintf(h.name, sizeof h.name, "pc-%u", n);
    return h;
}

static struct cluster *make(uint32_t wait_for)
{
    const struct cluster_config config = {.boot = 1, .wait_for = wait_for};
    struct cluster *c;
    struct error err;
    assert_int_equal(cluster_create(&c, &config, &err), ST_OK);
    return c;
}

static void hello(struct cluster *c, uint32_t n, uint64_t boot, uint64_t now)
{
    uint8_t key[KEY_BYTES];
    key_of(key, n);
    const struct wire_hello h = hello_of(n, boot);
    cluster_hello(c, key, "10.0.0.1", &h, now);
}

static void say(struct cluster *c, uint32_t n, struct wire_message m,
                uint64_t now)
{
    uint8_t key[KEY_BYTES];
    key_of(key, n);
    cluster_message(c, key, &m, now);
    assert_true(cluster_check(c));
}

/* It lives, and knows the epoch. */
static void beat(struct cluster *c, uint32_t n, uint64_t progress, bool busy,
                 uint64_t now)
{
    struct wire_message m = {.kind = WIRE_HEARTBEAT};
    m.heartbeat.progress = progress;
    m.heartbeat.busy = busy;
    m.heartbeat.epoch = cluster_epoch(c);
    say(c, n, m, now);
}

static void report(struct cluster *c, uint32_t n, uint64_t now)
{
    say(c, n, (struct wire_message){.kind = WIRE_REPORT}, now);
}

static void ready(struct cluster *c, uint32_t n, uint64_t epoch, uint64_t now)
{
    struct wire_message m = {.kind = WIRE_READY};
    m.ready.epoch = epoch;
    say(c, n, m, now);
}

/* The next action must be of this kind. */
static struct cluster_action expect(struct cluster *c,
                                    enum cluster_action_kind kind)
{
    struct cluster_action a;
    assert_true(cluster_action(c, &a));
    assert_int_equal(a.kind, kind);
    return a;
}

static void expect_none(struct cluster *c)
{
    struct cluster_action a;
    assert_false(cluster_action(c, &a));
}

static void join(struct cluster *c, uint32_t n, uint64_t now)
{
    hello(c, n, 1, now);
    expect(c, CLUSTER_SEND_WELCOME);
    expect(c, CLUSTER_SEND_PROBE);
    report(c, n, now);
}

/* Nodes 1..n serve, with ids 1..n. */
static struct cluster *serving(uint32_t n)
{
    struct cluster *c = make(n);
    uint32_t used[LIMIT_NODES];
    for (uint32_t i = 1; i <= n; i++) {
        expect_none(c);
        join(c, i, 0);
        used[i - 1] = i;
    }
    expect(c, CLUSTER_MAKE_PLAN);
    assert_int_equal(cluster_state(c), POOL_PLANNING);
    cluster_planned(c, used, n, 0);
    for (uint32_t i = 1; i <= n; i++) {
        assert_int_equal(expect(c, CLUSTER_SEND_ASSIGN).node, i);
    }
    for (uint32_t i = 1; i <= n; i++) {
        assert_int_equal(cluster_state(c), POOL_LOADING);
        ready(c, i, cluster_epoch(c), 0);
    }
    expect(c, CLUSTER_SERVE);
    assert_int_equal(cluster_state(c), POOL_SERVING);
    assert_string_equal(cluster_why(c), "");
    expect_none(c);
    return c;
}

static void test_from_joining_to_serving(void **state)
{
    (void)state;
    struct cluster *c = serving(3);
    assert_int_equal(cluster_epoch(c), 1);
    struct plan_node nodes[4];
    assert_int_equal(cluster_plan_nodes(c, nodes, 4), 3);
    assert_string_equal(nodes[1].name, "pc-2");
    cluster_free(c);
}

/* Only the next worker can change that; waking up for it would be a loop. */
static void test_missing_workers_need_no_clock(void **state)
{
    (void)state;
    struct cluster *c = make(2);
    join(c, 1, 5 * MS);
    cluster_tick(c, 5 * MS);
    expect_none(c);
    assert_true(cluster_deadline(c) > 5 * MS);
    cluster_free(c);
}

static void test_silence_ends_the_epoch_by_name(void **state)
{
    (void)state;
    struct cluster *c = serving(3);
    for (uint32_t i = 1; i <= 3; i++) {
        if (i == 2) continue;
        beat(c, i, 0, false, 2999 * MS);
    }
    cluster_tick(c, 3000 * MS);
    expect_none(c); /* a lease is a lease */
    assert_true(cluster_deadline(c) <= 3000 * MS + 1);
    cluster_tick(c, 3001 * MS);
    expect(c, CLUSTER_DROP);
    const struct cluster_action stop = expect(c, CLUSTER_STOP);
    assert_int_equal(stop.status, ST_IO);
    assert_non_null(strstr(stop.text, "pc-2"));
    expect(c, CLUSTER_MAKE_PLAN);
    assert_int_equal(cluster_n_nodes(c), 2);
    const uint32_t used[] = {1, 3};
    cluster_planned(c, used, 2, 3001 * MS);
    expect(c, CLUSTER_SEND_ASSIGN);
    expect(c, CLUSTER_SEND_ASSIGN);
    ready(c, 1, 1, 3001 * MS); /* of the epoch before: ignored */
    ready(c, 3, cluster_epoch(c), 3001 * MS);
    assert_int_equal(cluster_state(c), POOL_LOADING);
    ready(c, 1, cluster_epoch(c), 3001 * MS);
    expect(c, CLUSTER_SERVE);
    /* the silent one wakes up: it may join again */
    say(c, 2, (struct wire_message){.kind = WIRE_HEARTBEAT}, 3500 * MS);
    assert_int_equal(expect(c, CLUSTER_SEND_REFUSE).status, ST_NOT_FOUND);
    cluster_free(c);
}

static void test_new_worker_is_used_after_what_runs(void **state)
{
    (void)state;
    struct cluster *c = serving(2);
    join(c, 9, 10);
    assert_int_equal(expect(c, CLUSTER_STOP).status, ST_INTERRUPTED);
    assert_int_equal(cluster_state(c), POOL_STOPPING);
    expect_none(c);
    cluster_stopped(c, 20);
    expect(c, CLUSTER_MAKE_PLAN);
    assert_int_equal(cluster_epoch(c), 2);
    struct plan_node nodes[4];
    assert_int_equal(cluster_plan_nodes(c, nodes, 4), 3);
    cluster_free(c);
}

static void test_drained_worker_is_planned_away(void **state)
{
    (void)state;
    struct cluster *c = serving(2);
    say(c, 1, (struct wire_message){.kind = WIRE_DRAIN}, 10);
    const struct cluster_action stop = expect(c, CLUSTER_STOP);
    assert_int_equal(stop.status, ST_INTERRUPTED);
    assert_non_null(strstr(stop.text, "pc-1"));
    cluster_stopped(c, 20);
    expect(c, CLUSTER_MAKE_PLAN);
    struct plan_node nodes[4];
    assert_int_equal(cluster_plan_nodes(c, nodes, 4), 1);
    assert_string_equal(nodes[0].name, "pc-2");
    say(c, 1, (struct wire_message){.kind = WIRE_BYE}, 30);
    expect_none(c);
    cluster_free(c);
}

static void test_refused_plan_waits_for_a_node(void **state)
{
    (void)state;
    struct cluster *c = make(1);
    join(c, 1, 0);
    expect(c, CLUSTER_MAKE_PLAN);
    cluster_plan_refused(c, "3.0 GiB are missing", 0);
    assert_int_equal(cluster_state(c), POOL_STARVED);
    assert_string_equal(cluster_why(c), "3.0 GiB are missing");
    cluster_tick(c, 10);
    expect_none(c);
    join(c, 2, 20);
    expect(c, CLUSTER_MAKE_PLAN);
    cluster_free(c);
}

static void test_node_that_left_while_planning(void **state)
{
    (void)state;
    struct cluster *c = make(2);
    join(c, 1, 0);
    join(c, 2, 0);
    expect(c, CLUSTER_MAKE_PLAN);
    say(c, 2, (struct wire_message){.kind = WIRE_BYE}, 1);
    const uint32_t used[] = {1, 2};
    cluster_planned(c, used, 2, 2);
    expect(c, CLUSTER_MAKE_PLAN); /* again, without it */
    expect_none(c);
    cluster_free(c);
}

static void test_versions(void **state)
{
    (void)state;
    struct cluster *c = make(1);
    uint8_t key[KEY_BYTES];
    key_of(key, 1);
    struct wire_hello h = hello_of(1, 1);
    h.numerics_version = NUMERICS_VERSION + 1;
    cluster_hello(c, key, "", &h, 0);
    struct cluster_action a = expect(c, CLUSTER_SEND_REFUSE);
    assert_int_equal(a.status, ST_UNSUPPORTED);
    assert_non_null(strstr(a.text, "numerics version"));
    assert_non_null(strstr(a.text, "install the same version"));
    h = hello_of(1, 1);
    h.protocol_min = h.protocol_max = PROTOCOL_MAX + 1;
    cluster_hello(c, key, "", &h, 0);
    assert_int_equal(expect(c, CLUSTER_SEND_REFUSE).status, ST_UNSUPPORTED);
    assert_int_equal(cluster_n_nodes(c), 0);
    cluster_free(c);
}

static void test_restart_and_repeated_hello(void **state)
{
    (void)state;
    struct cluster *c = serving(2);
    hello(c, 1, 1, 5); /* its Welcome was lost: nothing else changes */
    expect(c, CLUSTER_SEND_WELCOME);
    expect_none(c);
    assert_int_equal(cluster_state(c), POOL_SERVING);
    hello(c, 1, 2, 6); /* another boot: what it held is gone */
    const struct cluster_action stop = expect(c, CLUSTER_STOP);
    assert_non_null(strstr(stop.text, "restarted"));
    expect(c, CLUSTER_MAKE_PLAN);
    expect(c, CLUSTER_SEND_WELCOME);
    expect(c, CLUSTER_SEND_PROBE);
    assert_int_equal(cluster_n_nodes(c), 2);
    cluster_free(c);
}

static void test_failure_stall_and_overdue(void **state)
{
    (void)state;
    struct cluster *c = serving(3);
    struct wire_message m = {.kind = WIRE_FAILURE};
    m.failure.epoch = cluster_epoch(c) + 7; /* not this one: no matter */
    say(c, 1, m, 1);
    expect_none(c);
    m.failure.epoch = cluster_epoch(c);
    snprintf(m.failure.text, sizeof m.failure.text, "the disk burns");
    say(c, 1, m, 1);
    expect(c, CLUSTER_DROP);
    const struct cluster_action stop = expect(c, CLUSTER_STOP);
    assert_non_null(strstr(stop.text, "pc-1"));
    assert_non_null(strstr(stop.text, "the disk burns"));
    expect(c, CLUSTER_MAKE_PLAN);
    const uint32_t used[] = {2, 3};
    cluster_planned(c, used, 2, 2);
    expect(c, CLUSTER_SEND_ASSIGN);
    expect(c, CLUSTER_SEND_ASSIGN);
    for (uint64_t t = 0; t <= 62000; t += 500) { /* alive, but stuck */
        beat(c, 2, 0, true, t * MS);
        struct wire_message p = {.kind = WIRE_PROGRESS};
        p.progress.epoch = cluster_epoch(c);
        p.progress.done_bytes = t;
        say(c, 3, p, t * MS);
        cluster_tick(c, t * MS);
        if (cluster_n_nodes(c) == 1) break;
    }
    expect(c, CLUSTER_DROP);
    assert_non_null(strstr(expect(c, CLUSTER_STOP).text, "pc-2"));
    expect(c, CLUSTER_MAKE_PLAN);
    const uint32_t one[] = {3};
    cluster_planned(c, one, 1, 0);
    expect(c, CLUSTER_SEND_ASSIGN);
    cluster_overdue(c, 3, "did not answer a step in time", 1);
    expect(c, CLUSTER_DROP);
    assert_non_null(strstr(expect(c, CLUSTER_STOP).text, "in time"));
    expect_none(c);
    assert_int_equal(cluster_state(c), POOL_WAITING);
    cluster_free(c);
}

static void drop_actions(struct cluster *c)
{
    struct cluster_action a;
    while (cluster_action(c, &a)) continue;
}

static void rejoin(struct cluster *c, uint32_t n, uint64_t boot, uint64_t now)
{
    hello(c, n, boot, now);
    report(c, n, now);
}

/* Fails to load again and again: tried after 1 s, 2 s, 4 s ... 60 s. */
static void test_failing_load_is_held_back(void **state)
{
    (void)state;
    struct cluster *c = make(1);
    uint64_t now = 0;
    const uint64_t holds[] = {1, 2, 4, 8, 16, 32, 60, 60};
    join(c, 1, 0);
    for (size_t i = 0; i < COUNT_OF(holds); i++) {
        const uint32_t used[] = {cluster_node(c, 0)->id};
        expect(c, CLUSTER_MAKE_PLAN);
        cluster_planned(c, used, 1, now);
        expect(c, CLUSTER_SEND_ASSIGN);
        struct wire_message m = {.kind = WIRE_FAILURE};
        m.failure.epoch = cluster_epoch(c);
        snprintf(m.failure.text, sizeof m.failure.text, "the disk burns");
        say(c, 1, m, now);
        expect(c, CLUSTER_DROP);
        expect(c, CLUSTER_STOP);
        expect_none(c);
        rejoin(c, 1, 2 + i, now);
        assert_non_null(strstr(cluster_why(c), "the disk burns"));
        drop_actions(c);
        const uint64_t end = now + holds[i] * 1000 * MS;
        assert_true(cluster_node(c, 0)->held_ns == end);
        struct plan_node nodes[1];
        for (; now < end; now += 500 * MS) {
            beat(c, 1, 0, false, now);
            cluster_tick(c, now);
            expect_none(c);
            assert_int_equal(cluster_plan_nodes(c, nodes, 1), 0);
            assert_true(cluster_deadline(c) > now);
        }
        beat(c, 1, 0, false, end);
        cluster_tick(c, end);
        assert_int_equal(cluster_plan_nodes(c, nodes, 1), 1);
    }
    cluster_free(c);
}

/* Served for a minute after a failure: is the next one the first again? */
static uint64_t hold_after_a_minute(bool worked)
{
    struct cluster *c = serving(1);
    uint64_t now = 0;
    for (uint32_t i = 0; i < 2; i++) {
        cluster_overdue(c, cluster_node(c, 0)->id, "hangs", now);
        drop_actions(c);
        rejoin(c, 1, 20 + i, now);
        const uint64_t held = cluster_node(c, 0)->held_ns - now;
        if (i == 1) {
            cluster_free(c);
            return held;
        }
        const uint32_t used[] = {cluster_node(c, 0)->id};
        for (const uint64_t end = now + held; now <= end; now += 500 * MS) {
            beat(c, 1, 0, false, now);
            cluster_tick(c, now);
        }
        drop_actions(c);
        cluster_planned(c, used, 1, now);
        drop_actions(c);
        ready(c, 1, cluster_epoch(c), now);
        assert_int_equal(cluster_state(c), POOL_SERVING);
        if (worked) cluster_proved(c);
        for (uint32_t k = 0; k < 130; k++, now += 500 * MS) {
            beat(c, 1, 0, false, now);
            cluster_tick(c, now);
        }
    }
    return 0;
}

static void test_an_idle_minute_forgives_nothing(void **state)
{
    (void)state;
    assert_int_equal(hold_after_a_minute(true), 1000 * MS);
    assert_int_equal(hold_after_a_minute(false), 2000 * MS);
}

/* Others serve; this one comes and goes. */
static void test_guest_must_stay_longer_each_time(void **state)
{
    (void)state;
    struct cluster *c = serving(1);
    uint64_t now = 0;
    const uint64_t waits[] = {0, 2, 4, 8, 16, 32, 60, 60};
    for (size_t i = 0; i + 1 < COUNT_OF(waits); i++) {
        rejoin(c, 9, 10 + i, now);
        if (i == 0) { /* the first time it is welcome at once */
            expect(c, CLUSTER_SEND_WELCOME);
            expect(c, CLUSTER_SEND_PROBE);
            assert_int_equal(expect(c, CLUSTER_STOP).status, ST_INTERRUPTED);
            cluster_stopped(c, now);
            expect(c, CLUSTER_MAKE_PLAN);
            const uint32_t used[] = {1};
            cluster_planned(c, used, 1, now);
            ready(c, 1, cluster_epoch(c), now);
        }
        drop_actions(c);
        const uint64_t due = now + waits[i] * 1000 * MS;
        for (; i != 0 && now + 500 * MS < due; now += 500 * MS) {
            beat(c, 1, 0, false, now);
            beat(c, 9, 0, false, now);
            cluster_tick(c, now);
            expect_none(c);
            assert_true(cluster_deadline(c) > now);
        }
        say(c, 9, (struct wire_message){.kind = WIRE_BYE}, now);
        expect_none(c);
    }
    rejoin(c, 9, 99, now);
    drop_actions(c);
    for (uint64_t end = now + 60000 * MS; now <= end; now += 500 * MS) {
        beat(c, 1, 0, false, now);
        beat(c, 9, 0, false, now);
        cluster_tick(c, now);
    }
    assert_int_equal(expect(c, CLUSTER_STOP).status, ST_INTERRUPTED);
    cluster_free(c);
}

static void test_what_was_lost_is_said_again(void **state)
{
    (void)state;
    struct cluster *c = make(1);
    hello(c, 1, 1, 0);
    drop_actions(c);
    uint64_t now = 0;
    for (; now < 10000 * MS; now += 500 * MS) {
        beat(c, 1, 0, false, now);
        cluster_tick(c, now);
        expect_none(c);
    }
    beat(c, 1, 0, false, now);
    cluster_tick(c, now);
    expect(c, CLUSTER_SEND_PROBE);
    report(c, 1, now);
    expect(c, CLUSTER_MAKE_PLAN);
    const uint32_t used[] = {1};
    cluster_planned(c, used, 1, now);
    expect(c, CLUSTER_SEND_ASSIGN);
    struct wire_message old = {.kind = WIRE_HEARTBEAT};
    say(c, 1, old, now + 1000 * MS); /* it may still be on its way */
    expect_none(c);
    say(c, 1, old, now + 3001 * MS);
    expect(c, CLUSTER_SEND_ASSIGN);
    say(c, 1, old, now + 3500 * MS);
    expect_none(c);
    ready(c, 1, cluster_epoch(c), now + 4000 * MS);
    expect(c, CLUSTER_SERVE);
    beat(c, 1, 0, false, now + 4500 * MS);
    expect_none(c);
    say(c, 1, old, now + 5000 * MS); /* it has lost its assignment */
    const struct cluster_action stop = expect(c, CLUSTER_STOP);
    assert_int_equal(stop.status, ST_IO);
    assert_non_null(strstr(stop.text, "pc-1"));
    expect(c, CLUSTER_MAKE_PLAN);
    cluster_free(c);
}

static void test_busy_without_progress_is_stuck(void **state)
{
    (void)state;
    struct cluster *c = serving(2);
    cluster_patience(c, 40000 * MS);
    for (uint64_t t = 500; t <= 40500; t += 500) {
        beat(c, 1, 7, true, t * MS);
        beat(c, 2, t, true, t * MS);
        cluster_tick(c, t * MS);
        assert_true(cluster_deadline(c) > t * MS);
        expect_none(c); /* 40 s from its first busy heartbeat on */
    }
    beat(c, 2, 1, true, 40501 * MS);
    cluster_tick(c, 40501 * MS);
    expect(c, CLUSTER_DROP);
    const struct cluster_action stop = expect(c, CLUSTER_STOP);
    assert_non_null(strstr(stop.text, "pc-1"));
    assert_non_null(strstr(stop.text, "without progress"));
    cluster_free(c);
}

/* The heartbeat before Ready said "busy", with the load; until the pool serves
 * for the first time, no plan has said how long a step may take. */
static void test_ready_and_busy_while_others_load(void **state)
{
    (void)state;
    struct cluster *c = make(2);
    const uint32_t used[] = {1, 2};
    join(c, 1, 0);
    join(c, 2, 0);
    expect(c, CLUSTER_MAKE_PLAN);
    cluster_planned(c, used, 2, 0);
    expect(c, CLUSTER_SEND_ASSIGN);
    expect(c, CLUSTER_SEND_ASSIGN);
    beat(c, 1, 7, true, 500 * MS);
    ready(c, 1, cluster_epoch(c), 600 * MS);
    beat(c, 2, 7, true, 700 * MS);
    cluster_tick(c, 900 * MS);
    expect_none(c);
    ready(c, 2, cluster_epoch(c), 1000 * MS);
    expect(c, CLUSTER_SERVE);
    cluster_free(c);
}

/* A node that leaves before it was measured; late words of an epoch that is
 * over. */
static void test_odd_times(void **state)
{
    (void)state;
    struct cluster *c = make(1);
    struct plan_node nodes[2];
    hello(c, 1, 1, 0);
    drop_actions(c);
    say(c, 1, (struct wire_message){.kind = WIRE_DRAIN}, 1);
    report(c, 1, 2);
    expect_none(c);
    assert_int_equal(cluster_plan_nodes(c, nodes, 2), 0);
    cluster_free(c);
    c = serving(3);
    say(c, 3, (struct wire_message){.kind = WIRE_BYE}, 10);
    drop_actions(c);
    struct wire_message late = {.kind = WIRE_FAILURE};
    late.failure.epoch = 1;
    say(c, 1, late, 11);
    expect_none(c);
    assert_int_equal(cluster_n_nodes(c), 2);
    cluster_free(c);
}

/* What is said of a failure is cut between characters: 2 bytes each here. */
static void test_texts_end_in_whole_characters(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 2; shift++) {
        struct cluster *c = serving(2);
        struct wire_message m = {.kind = WIRE_FAILURE};
        m.failure.epoch = cluster_epoch(c);
        char *text = m.failure.text;
        memset(text, 'x', shift);
        for (size_t i = shift; i + 2 <= LIMIT_TEXT; i += 2) {
            memcpy(text + i, "\xc3\xa9", 2);
        }
        say(c, 1, m, 1);
        expect(c, CLUSTER_DROP);
        const struct cluster_action a = expect(c, CLUSTER_STOP);
        const char *stop = a.text;
        const size_t n = strlen(stop);
        assert_int_equal((uint8_t)stop[n - 2], 0xc3);
        assert_int_equal((uint8_t)stop[n - 1], 0xa9);
        cluster_free(c);
    }
}

static void test_names_differ(void **state)
{
    (void)state;
    struct cluster *c = make(1);
    uint8_t key[KEY_BYTES];
    for (uint32_t i = 1; i <= 3; i++) {
        struct wire_hello h = hello_of(7, 1);
        key_of(key, i);
        cluster_hello(c, key, "", &h, 0);
    }
    assert_string_equal(cluster_node(c, 0)->hello.name, "pc-7");
    assert_string_equal(cluster_node(c, 1)->hello.name, "pc-7-2");
    assert_string_equal(cluster_node(c, 2)->hello.name, "pc-7-3");
    cluster_free(c);
}

/* Any order of any events: the invariants hold, the epoch never falls, and
 * nothing is assigned but by a plan. */
static void test_random_events(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct rng rng = {seed};
        struct cluster *c = make((uint32_t)rng_below(&rng, 4));
        uint64_t now = 0, epoch = 0;
        uint64_t boots[9] = {0};
        for (int event = 0; event < 400; event++) {
            now += rng_below(&rng, 400) * MS;
            const uint32_t n = 1 + (uint32_t)rng_below(&rng, 8);
            struct wire_message m = {.kind = WIRE_HEARTBEAT};
            switch (rng_below(&rng, 12)) {
            case 0:
                boots[n] += rng_below(&rng, 2);
                hello(c, n, boots[n], now);
                break;
            case 1:
            case 2:
                report(c, n, now);
                break;
            case 3:
            case 4:
            case 5:
                ready(c, n, cluster_epoch(c) - rng_below(&rng, 2), now);
                break;
            case 6:
                m.kind = rng_below(&rng, 4) ? WIRE_HEARTBEAT : WIRE_DRAIN;
                say(c, n, m, now);
                break;
            case 7:
                m.kind = rng_below(&rng, 2) ? WIRE_BYE : WIRE_FAILURE;
                m.failure.epoch = cluster_epoch(c);
                say(c, n, m, now);
                break;
            case 8:
                cluster_tick(c, now);
                break;
            default:
                for (uint32_t k = 1; k <= 8; k++) say(c, k, m, now);
                break;
            }
            struct cluster_action a;
            while (cluster_action(c, &a)) {
                if (a.kind == CLUSTER_MAKE_PLAN) {
                    struct plan_node nodes[16];
                    uint32_t used[16];
                    const uint32_t k = cluster_plan_nodes(c, nodes, 16);
                    for (uint32_t i = 0; i < k; i++) used[i] = nodes[i].id;
                    if (k && rng_below(&rng, 5)) {
                        cluster_planned(c, used, k, now);
                    } else {
                        cluster_plan_refused(c, "no", now);
                    }
                } else if (a.kind == CLUSTER_STOP &&
                           a.status == ST_INTERRUPTED && rng_below(&rng, 2)) {
                    cluster_stopped(c, now);
                }
                assert_true(cluster_check(c));
            }
            if (!cluster_check(c) || cluster_epoch(c) < epoch) {
                fail_msg("seed %llu, event %d", (unsigned long long)seed,
                         event);
            }
            epoch = cluster_epoch(c);
        }
        cluster_free(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_joining_to_serving),
        cmocka_unit_test(test_missing_workers_need_no_clock),
        cmocka_unit_test(test_silence_ends_the_epoch_by_name),
        cmocka_unit_test(test_new_worker_is_used_after_what_runs),
        cmocka_unit_test(test_drained_worker_is_planned_away),
        cmocka_unit_test(test_refused_plan_waits_for_a_node),
        cmocka_unit_test(test_node_that_left_while_planning),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_restart_and_repeated_hello),
        cmocka_unit_test(test_failure_stall_and_overdue),
        cmocka_unit_test(test_failing_load_is_held_back),
        cmocka_unit_test(test_an_idle_minute_forgives_nothing),
        cmocka_unit_test(test_guest_must_stay_longer_each_time),
        cmocka_unit_test(test_what_was_lost_is_said_again),
        cmocka_unit_test(test_busy_without_progress_is_stuck),
        cmocka_unit_test(test_ready_and_busy_while_others_load),
        cmocka_unit_test(test_odd_times),
        cmocka_unit_test(test_texts_end_in_whole_characters),
        cmocka_unit_test(test_names_differ),
        cmocka_unit_test(test_random_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_link.c - joining, beating, losing, leaving, in virtual time; and the
 * measurement of the link. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "worker/echo.h"
#include "worker/link.h"

#define MS UINT64_C(1000000)

/* Times of the action within `ms` from *now on, called as often as it says. */
static uint32_t run(struct link *l, uint64_t *now, uint64_t ms,
                    enum link_action counted)
{
    uint32_t n = 0;
    const uint64_t end = *now + ms * MS;
    for (;;) {
        for (enum link_action a; (a = link_next(l, *now)) != LINK_NOTHING;) {
            n += a == counted;
        }
        const uint64_t wait = link_wait_ms(l, *now);
        assert_true(wait > 0); /* else the loop would spin */
        if (*now + wait * MS >= end) break;
        *now += wait * MS;
    }
    *now = end;
    return n;
}

static void join_pool(struct link *l, uint64_t *now)
{
    link_init(l);
    assert_int_equal(link_next(l, *now), LINK_SEND_HELLO);
    assert_true(link_welcome(l, 7, 3, 100, 1000, *now));
    assert_int_equal(l->state, LINK_MEMBER);
}

static void test_hello_every_second(void **state)
{
    (void)state;
    struct link l;
    uint64_t now = 5 * MS;
    link_init(&l);
    assert_int_equal(run(&l, &now, 9500, LINK_SEND_HELLO), 10);
    assert_true(link_welcome(&l, 7, 3, 100, 1000, now));
    assert_false(link_welcome(&l, 7, 3, 100, 1000, now)); /* crossed */
    assert_int_equal(run(&l, &now, 900, LINK_SEND_HELLO), 0);
    assert_true(link_welcome(&l, 8, 3, 100, 1000, now)); /* restarted */
    assert_true(link_welcome(&l, 8, 4, 100, 1000, now)); /* we were given up */
}

static void test_silence_is_said_rarely(void **state)
{
    (void)state;
    struct link l;
    uint64_t now = 5 * MS;
    link_init(&l);
    assert_int_equal(run(&l, &now, 4900, LINK_SAY_SILENT), 0);
    assert_int_equal(run(&l, &now, 1500, LINK_SAY_SILENT), 1);
    assert_int_equal(run(&l, &now, 58000, LINK_SAY_SILENT), 0);
    assert_int_equal(run(&l, &now, 30000, LINK_SAY_SILENT), 1);
    assert_true(link_refused(&l, ST_FULL, now)); /* an answer, at last */
    assert_int_equal(run(&l, &now, 4500, LINK_SAY_SILENT), 0);
    assert_int_equal(run(&l, &now, 4500, LINK_SAY_SILENT), 1);
    assert_true(link_welcome(&l, 7, 3, 100, 1000, now));
    assert_int_equal(run(&l, &now, 5500, LINK_SAY_SILENT), 0); /* lost first */
    assert_int_equal(run(&l, &now, 2500, LINK_SAY_SILENT), 1);
}

static void test_beats_until_it_is_lost(void **state)
{
    (void)state;
    struct link l;
    uint64_t now = 0;
    join_pool(&l, &now);
    for (int i = 0; i < 10; i++) {
        link_heard(&l, now);
        assert_in_range(run(&l, &now, 900, LINK_SEND_HEARTBEAT), 8, 9);
        assert_int_equal(l.state, LINK_MEMBER);
    }
    link_heard(&l, now);
    assert_int_equal(run(&l, &now, 990, LINK_LOST), 0);
    assert_int_equal(run(&l, &now, 20, LINK_LOST), 1);
    assert_int_equal(l.state, LINK_JOINING);
    assert_int_equal(run(&l, &now, 2500, LINK_SEND_HELLO), 2);
    assert_true(link_welcome(&l, 7, 3, 100, 1000, now));
}

static void test_refusals(void **state)
{
    (void)state;
    struct link l;
    uint64_t now = 0;
    join_pool(&l, &now);
    assert_true(link_refused(&l, ST_NOT_FOUND, now));
    assert_int_equal(link_next(&l, now), LINK_LOST);
    assert_int_equal(link_next(&l, now), LINK_SEND_HELLO);
    /* the next one crosses our Hello: no second storm of them */
    assert_true(link_refused(&l, ST_NOT_FOUND, now));
    assert_int_equal(link_next(&l, now), LINK_NOTHING);
    assert_false(link_refused(&l, ST_UNSUPPORTED, now));
    assert_int_equal(l.state, LINK_OVER);
    assert_int_equal(link_next(&l, now), LINK_NOTHING);
}

static void test_waiting_for_approval(void **state)
{
    (void)state;
    struct link l;
    uint64_t now = 0;
    link_init(&l);
    assert_int_equal(link_next(&l, now), LINK_SEND_HELLO);
    for (int i = 0; i < 20; i++) { /* each Hello gets the same answer */
        assert_true(link_refused(&l, ST_FULL, now));
        assert_int_equal(l.state, LINK_JOINING);
        assert_int_equal(run(&l, &now, 2999, LINK_SEND_HELLO), 0);
        now += MS;
        assert_int_equal(link_next(&l, now), LINK_SEND_HELLO);
    }
    assert_true(link_welcome(&l, 7, 3, 100, 1000, now)); /* approved */
    assert_int_equal(run(&l, &now, 2000, LINK_LOST), 1);
    assert_int_equal(run(&l, &now, 3000, LINK_SEND_HELLO), 3); /* as ever */
    join_pool(&l, &now);
    assert_true(link_refused(&l, ST_FULL, now)); /* a member no more */
    assert_int_equal(link_next(&l, now), LINK_LOST);
    assert_int_equal(link_next(&l, now), LINK_SEND_HELLO);
    assert_int_equal(run(&l, &now, 2999, LINK_SEND_HELLO), 0);
    assert_true(link_refused(&l, ST_NOT_FOUND, now));
    assert_int_equal(link_next(&l, now), LINK_SEND_HELLO);
    assert_false(link_refused(&l, ST_INVALID, now));
    assert_int_equal(l.state, LINK_OVER);
}

static void test_leaving(void **state)
{
    (void)state;
    struct link l;
    uint64_t now = 0;
    link_init(&l);
    link_leave(&l, now); /* never in */
    assert_int_equal(link_next(&l, now), LINK_SEND_BYE);
    join_pool(&l, &now);
    link_leave(&l, now); /* idle */
    assert_int_equal(link_next(&l, now), LINK_SEND_BYE);
    assert_int_equal(l.state, LINK_OVER);
    join_pool(&l, &now);
    link_assigned(&l, true);
    link_leave(&l, now);
    assert_int_equal(link_next(&l, now), LINK_SEND_DRAIN);
    assert_int_equal(run(&l, &now, 900, LINK_SEND_BYE), 0);
    link_assigned(&l, false); /* replanned */
    assert_int_equal(link_next(&l, now), LINK_SEND_BYE);
    join_pool(&l, &now);
    link_assigned(&l, true);
    link_leave(&l, now);
    link_leave(&l, now); /* in a hurry */
    assert_int_equal(link_next(&l, now), LINK_SEND_BYE);
}

static void test_leaving_ends_without_an_answer(void **state)
{
    (void)state;
    struct link l;
    uint64_t now = 0;
    join_pool(&l, &now);
    link_assigned(&l, true);
    link_leave(&l, now);
    uint32_t byes = 0;
    for (int i = 0; i < LINK_LEAVE_MS / 500; i++) { /* heard all the time */
        link_heard(&l, now);
        byes += run(&l, &now, 490, LINK_SEND_BYE);
    }
    assert_int_equal(byes, 0);
    for (int i = 0; i < 10 && byes == 0; i++) {
        link_heard(&l, now);
        byes += run(&l, &now, 490, LINK_SEND_BYE);
    }
    assert_int_equal(byes, 1);
    join_pool(&l, &now);
    link_assigned(&l, true);
    link_leave(&l, now);
    assert_int_equal(run(&l, &now, 1100, LINK_SEND_BYE), 1); /* silence */
}

static void test_echo_finds_latency_and_rate(void **state)
{
    (void)state;
    struct echo e = {0};
    struct wire_report r = {0};
    uint32_t bytes, n = 1;
    uint64_t now = 1000;
    struct wire_echo m = echo_begin(&e, now, &bytes);
    for (;; n++) {
        assert_false(echo_done(&e, now));
        /* 2 ms there and back, 10 MB/s there and 20 MB/s back */
        now += 2 * MS + bytes * UINT64_C(100) + m.reply_bytes * UINT64_C(50);
        struct wire_echo old = {.n = m.n + 100}, reply = {.n = m.n};
        assert_false(echo_reply(&e, &old, now, &m, &bytes));
        if (!echo_reply(&e, &reply, now, &m, &bytes)) break;
        assert_true(m.n == reply.n + 1);
    }
    assert_int_equal(n, ECHO_SMALL + 2);
    assert_true(echo_done(&e, now));
    echo_report(&e, &r);
    assert_true(r.link_latency_s > 0.0009 && r.link_latency_s < 0.0011);
    assert_true(r.link_bytes_per_s > 9.9e6 && r.link_bytes_per_s < 10.1e6);
}

static void test_echo_without_answers(void **state)
{
    (void)state;
    struct echo e = {0};
    struct wire_report r = {.link_bytes_per_s = 1, .link_latency_s = 1};
    uint32_t bytes;
    const struct wire_echo m = echo_begin(&e, 0, &bytes);
    assert_int_equal(m.reply_bytes + bytes, 0);
    assert_false(echo_done(&e, ECHO_WAIT_MS * MS));
    assert_true(echo_done(&e, ECHO_WAIT_MS * MS + 1));
    echo_report(&e, &r);
    assert_true(r.link_bytes_per_s == 0 && r.link_latency_s == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_every_second),
        cmocka_unit_test(test_silence_is_said_rarely),
        cmocka_unit_test(test_beats_until_it_is_lost),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_waiting_for_approval),
        cmocka_unit_test(test_leaving),
        cmocka_unit_test(test_leaving_ends_without_an_answer),
        cmocka_unit_test(test_echo_finds_latency_and_rate),
        cmocka_unit_test(test_echo_without_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

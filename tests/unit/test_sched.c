/* The scheduler: hand-made cases, an exact simulation of a pipeline, and
 * random events against the invariants. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "common/rng.h"
#include "coordinator/sched.h"

#define MS UINT64_C(1000000)

static uint64_t no_time(void *arg, uint32_t n_rows)
{
    (void)arg;
    (void)n_rows;
    return 0;
}

static struct sched *make(const struct sched_config *c)
{
    struct sched *s;
    struct error err;
    assert_int_equal(sched_create(&s, c, &err), ST_OK);
    return s;
}

static const struct sched_config small = {
    .n_pages = 8,
    .n_ctx = 128,
    .n_seq_max = 4,
    .rows_max = 16,
    .outputs_max = 4,
    .n_steps = 2,
    .queue_max = 3,
};

static void submit(struct sched *s, uint64_t id, uint32_t n_prompt,
                   uint32_t max)
{
    int32_t prompt[256];
    for (uint32_t i = 0; i < n_prompt; i++) prompt[i] = (int32_t)(1000 + i);
    struct error err;
    assert_int_equal(sched_submit(s, id, prompt, n_prompt, max, &err), ST_OK);
    assert_true(sched_check(s));
}

struct seen {
    uint64_t request[64];
    uint32_t index[64], n;
};

static void see(void *arg, uint64_t request, uint32_t i)
{
    struct seen *seen = arg;
    seen->request[seen->n] = request;
    seen->index[seen->n++] = i;
}

static void test_prompt_in_chunks_then_tokens(void **state)
{
    (void)state;
    struct sched *s = make(&small);
    struct sched_step st;
    submit(s, 7, 20, 10);
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_int_equal(st.step, 1);
    assert_int_equal(st.n_rows, 16);
    assert_int_equal(st.n_want, 0);
    for (uint32_t i = 0; i < 16; i++) {
        assert_int_equal(st.rows[i].pos, i);
        assert_int_equal(st.rows[i].token, 1000 + i);
        assert_int_equal(st.rows[i].seq, 7);
    }
    /* the second chunk goes out behind the first one */
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_int_equal(st.n_rows, 4);
    assert_int_equal(st.n_want, 1);
    assert_true(st.rows[3].want);
    assert_false(sched_next(s, 0, no_time, NULL, &st)); /* no credit */
    struct seen seen = {0};
    assert_true(sched_done(s, 1, see, &seen));
    assert_int_equal(seen.n, 0);
    assert_false(sched_next(s, 0, no_time, NULL, &st)); /* no token yet */
    assert_true(sched_done(s, 2, see, &seen));
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.request[0], 7);
    assert_false(sched_done(s, 2, see, &seen)); /* twice: ignored */
    sched_token(s, 7, 42);
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_int_equal(st.n_rows, 1);
    assert_int_equal(st.rows[0].pos, 20);
    assert_int_equal(st.rows[0].token, 42);
    assert_true(st.rows[0].want);
    assert_true(sched_done(s, 3, see, &seen));
    sched_end(s, 7);
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_int_equal(st.n_rows, 0);
    assert_int_equal(st.n_ops, 1);
    assert_int_equal(st.ops[0].kind, KV_OP_FREE);
    assert_int_equal(st.ops[0].seq, 7);
    assert_int_equal(sched_counts(s).free_pages, 8);
    assert_true(sched_done(s, 4, see, &seen));
    assert_false(sched_next(s, 0, no_time, NULL, &st));
    assert_true(sched_check(s));
    sched_free(s);
}

static void test_cancel_in_flight_frees_after_the_result(void **state)
{
    (void)state;
    struct sched *s = make(&small);
    struct sched_step st;
    submit(s, 1, 4, 10);
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    sched_cancel(s, 1);
    /* its rows still fly: a worker must not free under them */
    assert_false(sched_next(s, 0, no_time, NULL, &st));
    struct seen seen = {0};
    assert_true(sched_done(s, 1, see, &seen));
    assert_int_equal(seen.n, 0); /* nobody wants the row any more */
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_int_equal(st.n_ops, 1);
    sched_cancel(s, 99);
    sched_token(s, 1, 5);
    assert_true(sched_check(s));
    sched_free(s);
}

static void test_admission_by_pages_in_order(void **state)
{
    (void)state;
    struct sched *s = make(&small);
    struct sched_step st;
    struct error err;
    submit(s, 1, 10, 118); /* 4 pages */
    submit(s, 2, 10, 118); /* 4 pages */
    submit(s, 3, 10, 118);
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_int_equal(sched_counts(s).running, 2);
    assert_int_equal(sched_counts(s).free_pages, 0);
    assert_int_equal(sched_position(s, 1), 0);
    assert_int_equal(sched_position(s, 3), 1);
    submit(s, 4, 1, 1); /* would fit, but does not overtake */
    submit(s, 5, 1, 1);
    const int32_t one = 1;
    assert_int_equal(sched_submit(s, 6, &one, 1, 1, &err), ST_FULL);
    assert_int_equal(sched_position(s, 4), 2);
    assert_int_equal(sched_position(s, 77), UINT32_MAX);
    int32_t long_prompt[200] = {0};
    assert_int_equal(sched_submit(s, 8, long_prompt, 129, 1, &err),
                     ST_TOO_LARGE);
    assert_non_null(strstr(err.text, "129"));
    assert_non_null(strstr(err.text, "128"));
    struct seen seen = {0};
    sched_end(s, 1);
    assert_true(sched_done(s, st.step, see, &seen));
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_int_equal(sched_position(s, 3), 0);
    assert_true(sched_check(s));
    sched_free(s);
}

static void test_deadlines(void **state)
{
    (void)state;
    struct sched *s = make(&small);
    struct sched_step st;
    assert_true(sched_deadline(s) == UINT64_MAX);
    submit(s, 1, 4, 1);
    assert_true(sched_next(s, 1000, no_time, NULL, &st));
    assert_int_equal(st.deadline_ns, 1000 + 5000 * MS);
    assert_int_equal(sched_deadline(s), st.deadline_ns);
    assert_int_equal(sched_overdue(s, st.deadline_ns), 0);
    assert_int_equal(sched_overdue(s, st.deadline_ns + 1), st.step);
    sched_free(s);
}

static void count(void *arg, uint64_t request)
{
    (void)request;
    ++*(uint32_t *)arg;
}

/* A step that frees fails at some stage: those behind it must hear of the
 * operation all the same. */
static void test_failed_step_frees_again(void **state)
{
    (void)state;
    struct sched *s = make(&small);
    struct sched_step st;
    struct seen seen = {0};
    uint32_t n_lost = 0;
    submit(s, 1, 4, 1);
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_true(sched_done(s, st.step, see, &seen));
    sched_end(s, 1);
    submit(s, 2, 4, 1);
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_int_equal(st.n_ops, 1);
    assert_int_equal(st.n_rows, 4);
    assert_true(sched_failed(s, st.step, count, &n_lost));
    assert_false(sched_failed(s, st.step, count, &n_lost));
    assert_int_equal(n_lost, 1);
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_int_equal(st.n_ops, 2);
    assert_int_equal(st.ops[0].seq + st.ops[1].seq, 3);
    assert_true(sched_done(s, st.step, see, &seen));
    assert_false(sched_next(s, 0, no_time, NULL, &st));
    assert_int_equal(sched_counts(s).free_pages, small.n_pages);
    assert_true(sched_check(s));
    sched_free(s);
}

/* The Result of a chunk is lost, that of the next one asks for its row once
 * more. */
static void test_again_while_a_chunk_is_lost(void **state)
{
    (void)state;
    struct sched *s = make(&small);
    struct sched_step st;
    struct seen seen = {0};
    submit(s, 7, 20, 10);
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_true(sched_done(s, st.step, see, &seen));
    assert_int_equal(seen.n, 1);
    sched_again(s, 7);
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_int_equal(st.n_ops, 1);
    assert_int_equal(st.ops[0].kind, KV_OP_TRUNCATE);
    assert_int_equal(st.ops[0].n, 19);
    assert_int_equal(st.n_rows, 1);
    assert_int_equal(st.rows[0].pos, 19);
    assert_true(sched_check(s));
    sched_free(s);
}

/* With several stages a prompt is cut up, so that each has something to do. */
static void test_prompt_is_spread_over_stages(void **state)
{
    (void)state;
    const struct sched_config c = {.n_pages = 64,
                                   .n_ctx = 1024,
                                   .n_seq_max = 8,
                                   .rows_max = 128,
                                   .outputs_max = 8,
                                   .n_steps = 5,
                                   .queue_max = 8};
    struct sched *s = make(&c);
    struct sched_step st;
    submit(s, 1, 128, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(sched_next(s, 0, no_time, NULL, &st));
        assert_int_equal(st.n_rows, 32);
    }
    sched_free(s);
}

/* Decodes take turns where not all fit into a step. */
static void test_decodes_take_turns(void **state)
{
    (void)state;
    struct sched_config c = small;
    c.queue_max = 4;
    struct sched *s = make(&c);
    struct sched_step st;
    uint32_t n[5] = {0};
    for (uint64_t id = 1; id <= 4; id++) submit(s, id, 2, 60);
    for (uint32_t i = 0; i < 40; i++) {
        struct seen seen = {0};
        assert_true(sched_next(s, 0, no_time, NULL, &st));
        assert_true(sched_done(s, st.step, see, &seen));
        for (uint32_t k = 0; k < seen.n; k++) {
            n[seen.request[k]]++;
            sched_token(s, seen.request[k], 5);
        }
    }
    for (uint32_t id = 1; id <= 4; id++) {
        assert_in_range(n[id], n[1] - 1, n[1] + 1);
    }
    sched_free(s);
}

/* Thousands may wait: what a step costs depends on those that run. */
static void test_two_thousand_wait(void **state)
{
    (void)state;
    struct sched_config c = small;
    c.queue_max = 4000;
    struct sched *s = make(&c);
    struct sched_step st;
    for (uint64_t id = 1; id <= 2000; id++) submit(s, id, 4, 4);
    uint32_t over = 0;
    while (over < 2000) {
        struct seen seen = {0};
        assert_true(sched_next(s, 0, no_time, NULL, &st));
        assert_true(sched_done(s, st.step, see, &seen));
        for (uint32_t i = 0; i < seen.n; i++) {
            /* in the order of their coming, but for those side by side */
            assert_true(seen.request[i] <= over + c.n_seq_max + 1);
            sched_end(s, seen.request[i]);
            over++;
        }
    }
    sched_free(s);
}

static void lose(void *arg, uint64_t request, bool running)
{
    struct seen *seen = arg;
    seen->request[seen->n] = request;
    seen->index[seen->n++] = running;
}

static void test_reset_loses_all_and_steps_never_repeat(void **state)
{
    (void)state;
    struct sched *s = make(&small);
    struct sched_step st;
    struct error err;
    submit(s, 1, 4, 124);
    submit(s, 2, 4, 124);
    submit(s, 3, 4, 124);
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    const uint64_t old = st.step;
    struct seen lost = {0};
    assert_int_equal(sched_reset(s, &small, lose, &lost, &err), ST_OK);
    assert_int_equal(lost.n, 3);
    assert_int_equal(lost.index[0], 1);
    assert_int_equal(lost.index[2], 0);
    assert_false(sched_done(s, old, see, &lost)); /* late */
    submit(s, 4, 4, 1);
    assert_true(sched_next(s, 0, no_time, NULL, &st));
    assert_true(st.step > old);
    assert_true(sched_check(s));
    sched_free(s);
}

/* A pipeline of equal stages in virtual time: a step takes one unit in each
 * stage, stages are FIFO.  Returns the smallest share of busy time. */
static double pipeline(uint32_t n_stages, uint32_t n_requests,
                       uint32_t n_tokens)
{
    struct sched_config c = {.n_pages = 1024,
                             .n_ctx = 1024,
                             .n_seq_max = 64,
                             .rows_max = 64,
                             .outputs_max = 64,
                             .n_steps = n_stages,
                             .queue_max = 64};
    struct sched *s = make(&c);
    for (uint32_t i = 0; i < n_requests; i++) submit(s, i + 1, 8, n_tokens);
    uint32_t made[64] = {0}, over = 0;
    uint64_t stage_free[8] = {0}, busy[8] = {0}, now = 0, end = 0;
    struct flying {
        uint64_t step, at;
    } fly[8] = {0};
    while (over < n_requests) {
        struct sched_step st;
        while (sched_next(s, now, no_time, NULL, &st)) {
            uint64_t t = now;
            for (uint32_t g = 0; g < n_stages; g++) {
                if (stage_free[g] > t) t = stage_free[g];
                t += MS;
                stage_free[g] = t;
                busy[g] += st.n_rows ? MS : 0;
            }
            uint32_t i = 0;
            while (fly[i].step) i++;
            fly[i] = (struct flying){st.step, t};
        }
        uint32_t first = UINT32_MAX;
        for (uint32_t i = 0; i < 8; i++) {
            if (fly[i].step &&
                (first == UINT32_MAX || fly[i].at < fly[first].at)) {
                first = i;
            }
        }
        assert_int_not_equal(first, UINT32_MAX); /* nothing flies: stuck */
        now = fly[first].at;
        end = now;
        struct seen seen = {0};
        assert_true(sched_done(s, fly[first].step, see, &seen));
        fly[first].step = 0;
        for (uint32_t i = 0; i < seen.n; i++) {
            const uint64_t id = seen.request[i];
            if (++made[id] == n_tokens) {
                sched_end(s, id);
                over++;
            } else {
                sched_token(s, id, 1);
            }
        }
        assert_true(sched_check(s));
    }
    sched_free(s);
    double least = 1;
    for (uint32_t g = 0; g < n_stages; g++) {
        const double share = (double)busy[g] / (double)end;
        if (share < least) least = share;
    }
    return least;
}

static void test_equal_stages_are_busy(void **state)
{
    (void)state;
    const double two = pipeline(2, 4, 100), four = pipeline(4, 8, 100);
    print_message("busy: 2 stages, 4 prompts %.3f; 4 stages, 8 prompts %.3f\n",
                  two, four);
    assert_true(two >= 0.9);
    assert_true(four >= 0.9);
    assert_true(pipeline(2, 1, 100) < 0.6); /* one prompt cannot fill two */
}

/* Random submits, cancels, results and ends; each row that goes out must
 * continue its sequence, and every started sequence is freed exactly once. */
static void test_random_events(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct rng rng = {seed};
        const struct sched_config c = {
            .n_pages = 4 + (uint32_t)rng_below(&rng, 20),
            .n_ctx = 96,
            .n_seq_max = 1 + (uint32_t)rng_below(&rng, 6),
            .rows_max = 4 + (uint32_t)rng_below(&rng, 30),
            .outputs_max = 4,
            .n_steps = 1 + (uint32_t)rng_below(&rng, 4),
            .queue_max = 32};
        struct sched *s = make(&c);
        uint64_t steps[8] = {0}, next = 1;
        uint32_t sent[512] = {0}, freed[512] = {0};
        for (int event = 0; event < 600; event++) {
            const uint64_t what = rng_below(&rng, 10);
            if (what < 2 && next < 500) {
                int32_t prompt[64] = {0};
                struct error err;
                const enum status st = sched_submit(
                    s, next, prompt, 1 + (uint32_t)rng_below(&rng, 60),
                    (uint32_t)rng_below(&rng, 30), &err);
                assert_true(st == ST_OK || st == ST_FULL);
                next += st == ST_OK;
            } else if (what == 2) {
                sched_cancel(s, rng_below(&rng, next));
            } else if (what < 7) {
                struct sched_step st;
                if (sched_next(s, 0, no_time, NULL, &st)) {
                    assert_true(st.n_rows <= c.rows_max);
                    assert_true(st.n_want <= c.outputs_max);
                    for (uint32_t i = 0; i < st.n_ops; i++) {
                        assert_int_equal(freed[st.ops[i].seq]++, 0);
                    }
                    for (uint32_t i = 0; i < st.n_rows; i++) {
                        const struct step_row *r = &st.rows[i];
                        assert_int_equal(freed[r->seq], 0);
                        assert_int_equal(sent[r->seq]++, r->pos);
                    }
                    uint32_t k = 0;
                    while (steps[k]) k++;
                    assert_true(k < c.n_steps);
                    steps[k] = st.step;
                }
            } else {
                uint32_t k = (uint32_t)rng_below(&rng, c.n_steps);
                struct seen seen = {0};
                if (steps[k]) {
                    assert_true(sched_done(s, steps[k], see, &seen));
                }
                steps[k] = 0;
                for (uint32_t i = 0; i < seen.n; i++) {
                    if (rng_below(&rng, 8) == 0)
                        sched_end(s, seen.request[i]);
                    else
                        sched_token(s, seen.request[i], 3);
                }
            }
            if (!sched_check(s)) {
                fail_msg("seed %llu, event %d", (unsigned long long)seed,
                         event);
            }
        }
        sched_free(s);
    }
}

static void test_every_allocation_failed(void **state)
{
    (void)state;
    const size_t before = mem_in_use();
    for (long n = 0;; n++) {
        struct sched *s = NULL;
        struct error err;
        const int32_t prompt = 1;
        mem_fail_after(n);
        enum status st = sched_create(&s, &small, &err);
        if (st == ST_OK) st = sched_submit(s, 1, &prompt, 1, 4, &err);
        mem_fail_after(-1);
        if (st != ST_OK) assert_int_equal(st, ST_NO_MEMORY);
        sched_free(s);
        assert_int_equal(mem_in_use(), before);
        if (st == ST_OK) break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompt_in_chunks_then_tokens),
        cmocka_unit_test(test_cancel_in_flight_frees_after_the_result),
        cmocka_unit_test(test_admission_by_pages_in_order),
        cmocka_unit_test(test_failed_step_frees_again),
        cmocka_unit_test(test_again_while_a_chunk_is_lost),
        cmocka_unit_test(test_prompt_is_spread_over_stages),
        cmocka_unit_test(test_decodes_take_turns),
        cmocka_unit_test(test_two_thousand_wait),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_reset_loses_all_and_steps_never_repeat),
        cmocka_unit_test(test_equal_stages_are_busy),
        cmocka_unit_test(test_random_events),
        cmocka_unit_test(test_every_allocation_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

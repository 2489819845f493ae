/* The pool in one process, under faults: seeds 1 to SEEDS (200), from FIRST.
 *
 *   SEEDS=10000 FIRST=1 make sim      SEEDS=1 FIRST=77 VERBOSE=1 make sim */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#if defined(__SANITIZE_THREAD__)
#define SEEDS 20 /* one thread: nothing to find, and slow */
#else
#define SEEDS 200
#endif

static struct sim_model dense, moe;

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static struct sim_options options_of(uint64_t seed)
{
    struct rng r = {rng_mix(seed)};
    struct sim_options o = {.seed = seed};
    o.n_workers = 1 + (uint32_t)rng_below(&r, 5);
    o.n_clients = 1 + (uint32_t)rng_below(&r, 3);
    o.chaos_ns = (20 + rng_below(&r, 40)) * SIM_SECOND;
    o.plenty = 1.2 + 0.15 * o.n_workers + 2 * rng_unit(rng_u64(&r));
    o.duplicates = rng_below(&r, 3) == 0;
    o.losses = rng_below(&r, 3) == 0;
    o.spikes = rng_below(&r, 3) == 0;
    o.restarts = rng_below(&r, 3) == 0;
    return o;
}

struct totals {
    uint64_t events, steps, messages, faults, epochs, requests, done, broken,
        virtual_ns;
};

static bool run_seed(uint64_t seed, struct totals *t)
{
    static struct sim s;
    const struct sim_options o = options_of(seed);
    const size_t before = mem_in_use();
    bool ok = sim_init(&s, &o, seed % 2 ? &dense : &moe);
    s.verbose = getenv("VERBOSE") != NULL;
    if (ok) sim_story(&s);
    ok = ok && !s.failed;
    if (!ok) sim_report(&s);
    t->events += s.n_events;
    t->steps += s.n_steps;
    t->messages += s.n_messages;
    t->faults += s.n_faults;
    t->epochs += s.n_epochs;
    t->requests += s.n_requests;
    t->done += s.n_done;
    t->broken += s.n_broken;
    t->virtual_ns += s.now;
    sim_fini(&s);
    if (ok && mem_in_use() != before) {
        fprintf(stderr, "seed %llu: %zu bytes leak\n", (unsigned long long)seed,
                mem_in_use() - before);
        ok = false;
    }
    return ok;
}

static void test_seeds(void **state)
{
    (void)state;
    const uint64_t first = number("FIRST", 1), n = number("SEEDS", SEEDS);
    uint64_t bad = 0;
    struct totals t = {0};
    for (uint64_t seed = first; seed < first + n && bad < 3; seed++) {
        bad += !run_seed(seed, &t);
    }
    print_message("%llu seeds: %.1f virtual hours, %llu events, %llu messages, "
                  "%llu steps, %llu faults, %llu epochs, %llu requests of "
                  "which %llu done and %llu broken off\n",
                  (unsigned long long)n, (double)t.virtual_ns / 3600e9,
                  (unsigned long long)t.events, (unsigned long long)t.messages,
                  (unsigned long long)t.steps, (unsigned long long)t.faults,
                  (unsigned long long)t.epochs, (unsigned long long)t.requests,
                  (unsigned long long)t.done, (unsigned long long)t.broken);
    assert_int_equal(bad, 0);
}

static void test_same_seed_same_run(void **state)
{
    (void)state;
    struct totals a = {0}, b = {0};
    assert_true(run_seed(7, &a));
    assert_true(run_seed(7, &b));
    assert_memory_equal(&a, &b, sizeof a);
}

static bool serves(struct sim *s)
{
    return pool_ready(s->core);
}

static bool over(struct sim *s)
{
    return s->n_open == 0;
}

/* Two workers with half of the layers each, four prompts: neither waits. */
static void test_equal_stages_are_busy(void **state)
{
    (void)state;
    static struct sim s;
    const struct sim_options o = {
        .seed = 1,
        .n_workers = 2,
        .plenty = 6,
        .quiet_links = true,
        .plan_json = "{\"layers\": [{\"node\": \"pc-1\", \"first\": 0, "
                     "\"end\": 3}, {\"node\": \"pc-2\", \"first\": 3, "
                     "\"end\": 6}]}"};
    assert_true(sim_init(&s, &o, &dense));
    s.verbose = getenv("VERBOSE") != NULL;
    assert_true(sim_run_to(&s, 60 * SIM_SECOND, serves));
    uint64_t busy[2];
    for (uint32_t i = 0; i < 2; i++) {
        busy[i] = sim_worker_busy_ns(s.workers[i + 1]);
    }
    const uint64_t begin = s.now;
    for (int i = 0; i < 4; i++) sim_submit(&s, 16, 150, SIM_ENDLESS);
    assert_true(sim_run_to(&s, s.now + 100 * SIM_SECOND, over));
    const double t = (double)(s.now - begin);
    for (uint32_t i = 0; i < 2; i++) {
        const double share =
            (double)(sim_worker_busy_ns(s.workers[i + 1]) - busy[i]) / t;
        print_message("stage %u is busy for %.3f of the time\n", i, share);
        assert_true(share >= 0.9);
    }
    assert_false(s.failed);
    sim_fini(&s);
}

static int open_models(void **state)
{
    (void)state;
    sim_model_open(&dense, 6, 0);
    sim_model_open(&moe, 6, 4);
    return 0;
}

static int close_models(void **state)
{
    (void)state;
    sim_model_close(&dense);
    sim_model_close(&moe);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_stages_are_busy),
        cmocka_unit_test(test_same_seed_same_run),
        cmocka_unit_test(test_seeds),
    };
    return cmocka_run_group_tests(tests, open_models, close_models);
}

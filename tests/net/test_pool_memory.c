/* test_pool_memory.c - a worker takes no more memory than was planned: while
 * it fetches and loads, and with its key/value cache full. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "engine/kv.h"
#include "tests/lib/lan.h"

#define SLACK   (64u << 20)
#define CONTEXT "1024"
#define LENGTH  "60" /* the first still goes on when the last has begun */
#define WORDS   480  /* of a prompt, two tokens each */
#define MANY    10   /* prompts: more than the cache holds at once */

/* The sanitizers keep what is freed, and a shadow of everything. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEASURES false
#else
#define MEASURES true
#endif

static struct lan pool;

static uint64_t planned_bytes(uint32_t *n_pages, uint64_t *weights,
                              uint64_t *kv)
{
    json_t *j = lan_status(&pool);
    assert_non_null(j);
    json_t *node = json_array_get(json_at(j, "nodes"), 0);
    const uint64_t planned = (uint64_t)number_at(node, "planned_bytes");
    *weights = (uint64_t)number_at(node, "weight_bytes");
    *kv = (uint64_t)number_at(node, "kv_bytes");
    *n_pages = (uint32_t)number_at(j, "plan.n_pages");
    json_decref(j);
    return planned;
}

static uint64_t check_peak(const char *when, uint64_t planned)
{
    const uint64_t peak = lan_peak_bytes(pool.workers[1]);
    print_message("%s: peak %.1f MiB, planned %.1f MiB\n", when,
                  (double)peak / 0x1p20, (double)planned / 0x1p20);
    assert_true(peak <= planned + SLACK);
    return peak;
}

static void test_load_and_full_cache(void **state)
{
    (void)state;
    static char prompt[WORDS * 3];
    char name[32];
    pid_t pid[MANY];
    if (!MEASURES) {
        print_message("sanitizers take memory of their own: not measured\n");
        return;
    }
    for (size_t i = 0; i < WORDS; i++) memcpy(prompt + 3 * i, "ab ", 3);
    prompt[sizeof prompt - 1] = '\0';
    cli_begin();
    lan_begin(&pool);
    /* much to load and to remember, little to compute */
    cli_model("big.gguf", "gib",
              (const char *const[]){"n_layer=3", "n_embd=1024", "n_head=8",
                                    "n_head_kv=8", "n_ff=512", "n_vocab=160000",
                                    NULL});
    lan_serve(&pool, cli_path("big.gguf"),
              (const char *const[]){"--workers", "1", "--ctx", CONTEXT, "--kv",
                                    "f32", NULL});
    lan_join(&pool, 1, (const char *const[]){"--memory", "480M", NULL});
    lan_wait_state(&pool, "serving");
    uint32_t n_pages;
    uint64_t weights, kv;
    const uint64_t planned = planned_bytes(&n_pages, &weights, &kv);
    print_message("%.1f MiB of weights, %u pages\n", (double)weights / 0x1p20,
                  n_pages);
    assert_true(weights > (100u << 20));
    assert_true(planned <= (480u << 20));
    assert_true(n_pages < MANY * (2 * WORDS / KV_PAGE));
    check_peak("loaded", planned);
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "out-%u", i);
        pid[i] = lan_run_async(
            &pool, name,
            (const char *const[]){"--raw", "-n", LENGTH, "--", prompt, NULL});
    }
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(lan_wait_exit(pid[i]), 0);
    }
    /* it has been full, or nearly */
    assert_true(check_peak("cache full", planned) > weights + kv / 4 * 3);
    lan_end(&pool);
    cli_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_and_full_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

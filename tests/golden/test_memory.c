/* What `potluck inspect` says a run will take is what it takes: peak memory
 * with a full key/value cache, of a model of more than 1 GiB that is made
 * here, stays below the plan plus 64 MiB (program, libraries, tokenizer, the
 * buffers that files are read through). Loading is part of each run, so its
 * peak is in it too.
 *
 * The model is wide where memory goes (cache, experts) and narrow where time
 * goes. Under a sanitizer, whose own memory is many times the program's, the
 * same runs are made with a small model and nothing is measured. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "tests/lib/cli.h"

#define GIB     (UINT64_C(1) << 30)
#define ALLOWED (64.0 * 1048576)
#define CTX     "320"
#define N_CTX   "n_ctx=320"

#if defined(__has_feature)
#define HAS(x) __has_feature(x)
#else
#define HAS(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||           \
    HAS(address_sanitizer) || HAS(thread_sanitizer)
static const bool measured = false;
#else
static const bool measured = true;
#endif

static bool made; /* big.gguf */

static int setup(void **state)
{
    (void)state;
    cli_begin();
    struct statvfs disk;
    if (measured && (statvfs(cli_path(""), &disk) != 0 ||
                     (uint64_t)disk.f_bavail * disk.f_frsize < 3 * GIB)) {
        return 0;
    }
    static const char *const large[] = {"n_layer=16",
                                        "head_dim=256",
                                        "n_head=16",
                                        "n_head_kv=16",
                                        "n_ff=2048",
                                        "n_expert=44",
                                        "n_expert_used=2",
                                        N_CTX,
                                        "pool_rows=512",
                                        "type=q8_0",
                                        NULL};
    static const char *const small[] = {"n_layer=2", N_CTX, NULL};
    cli_model("big.gguf", "tiny-moe", measured ? large : small);
    made = true;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cli_end();
    return 0;
}

static void need_model(void)
{
    if (made) return;
    print_message("skip: less than 3 GiB free for a model of 1.2 GiB\n");
    skip();
}

#define BIG cli_path("big.gguf")

/* Bytes of the plan for a context and a cache type. */
static double plan_of(const char *ctx, const char *kv, const char *member)
{
    json_t *o =
        cli_json(CLI("inspect", BIG, "--json", "--ctx", ctx, "--kv", kv), 0);
    const double bytes = number_at(o, member);
    if (measured) assert_true(number_at(o, "bytes") > (double)GIB);
    json_decref(o);
    return bytes;
}

static void compare(const char *what, double peak, double plan)
{
    print_message("%s: peak %.1f MiB, plan %.1f MiB\n", what, peak / 0x1p20,
                  plan / 0x1p20);
    if (!measured) return;
    /* far below would mean that the run did not use what it was given */
    if (peak > plan + ALLOWED || peak < 0.95 * plan) {
        fail_msg("%s: peak of %.1f MiB, but the plan is %.1f MiB", what,
                 peak / 0x1p20, plan / 0x1p20);
    }
}

/* A prompt that fills the context; the peak of the run. */
static double fill(const char *kv)
{
    /* a zero byte is a token, and BOS and a space come in front */
    static const char zeros[318];
    struct command in = {
        .input = zeros, .n_input = sizeof zeros, .timeout_s = 250};
    struct outcome o =
        CLI_WITH(in, "local", BIG, "--json", "-n1", "--ctx", CTX, "--kv", kv);
    const double peak = (double)o.peak_bytes;
    json_t *j = cli_json(o, 0);
    char n[16];
    snprintf(n, sizeof n, "%.0f", number_at(j, "prompt_tokens"));
    assert_string_equal(n, CTX);
    json_decref(j);
    return peak;
}

static void a_full_cache_stays_in_the_plan(void **state)
{
    (void)state;
    need_model();
    const double f16 = fill("f16"), f32 = fill("f32");
    compare("local, f16 cache", f16, plan_of(CTX, "f16", "plan.total_bytes"));
    compare("local, f32 cache", f32, plan_of(CTX, "f32", "plan.total_bytes"));
    const double more = plan_of(CTX, "f32", "plan.kv_bytes") -
                        plan_of(CTX, "f16", "plan.kv_bytes");
    if (measured && !(f32 - f16 > 0.9 * more && f32 - f16 < 1.1 * more)) {
        fail_msg("f32 instead of f16 takes %.1f MiB more, by the plan %.1f",
                 (f32 - f16) / 0x1p20, more / 0x1p20);
    }
}

static void measuring_adds_nothing(void **state)
{
    (void)state;
    need_model();
    struct command slow = {.timeout_s = 250};
    struct outcome o =
        CLI_WITH(slow, "bench", BIG, "--json", "-p63", "-n1", "-r1");
    const double peak = (double)o.peak_bytes;
    json_t *j = cli_json(o, 0);
    const double plan = plan_of("64", "f16", "plan.total_bytes");
    assert_true(number_at(j, "planned_bytes") == plan);
    json_decref(j);
    compare("bench", peak, plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_cache_stays_in_the_plan),
        cmocka_unit_test(measuring_adds_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

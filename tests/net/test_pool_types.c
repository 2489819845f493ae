/* test_pool_types.c - every architecture in every weight type, and every type
 * of the key/value cache, through real pools of two and of three: the same
 * bytes of logits as one process.
 *
 * A model is one pool: three workers join, a plan uses two of them, the next
 * all three.  Experts are dealt out to both or all, so that rows of every
 * type cross machines inside a layer too. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "engine/quant.h"
#include "tests/lib/lan.h"

#define N_LAYERS 3 /* of every model: one each in the pool of three */
#define N_TOKENS "4"
#define WORKERS  3

/* Sanitized programs are slow, and what a type is to them the tests of the
 * kernels show: a sample that meets every architecture and cache. */
#if defined(__SANITIZE_THREAD__)
#define STRIDE 17
#elif defined(__SANITIZE_ADDRESS__)
#define STRIDE 11
#else
#define STRIDE 1
#endif

static const struct arch {
    const char *name, *preset, *settings[10];
    uint32_t n_expert;
} archs[] = {
    {"llama", "tiny-dense", {"rope_factor=8", NULL}, 0},
    {"mixtral", "tiny-moe", {"n_expert=4", NULL}, 4},
    {"gemma2",
     "tiny-dense",
     {"arch=gemma2", "head_dim=64", "n_head=4", "n_head_kv=2", "tied=1",
      "window=12", "qk_gain=3", NULL},
     0},
    {"qwen2", "tiny-dense", {"arch=qwen2", NULL}, 0},
    {"qwen3", "tiny-dense", {"arch=qwen3", "head_dim=64", NULL}, 0},
    {"qwen3moe",
     "tiny-moe",
     {"arch=qwen3moe", "n_expert=16", "n_expert_used=4", NULL},
     16},
};

static const char *const caches[] = {"f16", "q8_0", "f32"};

/* More than the window of 12; the pieces of it are mostly bytes. */
static const char prompt[] = "Once upon a time in the school's cellar";

/* Layers [0, 2) and [2, 3) on two, one each on three; expert e of layer l on
 * worker (e + l) % n. */
static json_t *plan_for(uint32_t n, uint32_t n_expert)
{
    json_t *layers = json_array(), *experts = json_object();
    for (uint32_t l = 0; l < N_LAYERS; l++) {
        const uint32_t home = n == 2 ? l / 2 : l;
        json_t *layer = json_object();
        for (uint32_t i = 0; i < n && n_expert > 0; i++) {
            char name[16];
            json_t *list = json_array();
            for (uint32_t e = 0; e < n_expert; e++) {
                if ((e + l) % n != i) continue;
                json_array_append_new(list, json_integer(e));
            }
            snprintf(name, sizeof name, "pc-%u", i + 1);
            if (i != home) json_object_set(layer, name, list);
            json_decref(list);
        }
        char key[16];
        snprintf(key, sizeof key, "%u", l);
        if (n_expert > 0) json_object_set(experts, key, layer);
        json_decref(layer);
        if (n == 2 && l == 1) continue;
        json_array_append_new(
            layers, json_pack("{s:o, s:i, s:i}", "node",
                              json_sprintf("pc-%u", home + 1), "first", (int)l,
                              "end", (int)(n == 2 && l == 0 ? 2 : l + 1)));
    }
    return json_pack("{s:o, s:o}", "layers", layers, "experts", experts);
}

static void make_model(const struct arch *a, const char *type)
{
    const char *settings[16];
    char type_setting[32];
    size_t n = 0;
    snprintf(type_setting, sizeof type_setting, "type=%s", type);
    for (; a->settings[n]; n++) settings[n] = a->settings[n];
    settings[n++] = "n_layer=3";
    settings[n++] = "n_ff=256";
    settings[n++] = "n_vocab=320";
    settings[n++] = type_setting;
    settings[n] = NULL;
    cli_model("model.gguf", a->preset, settings);
}

static void ask(struct lan *lan, const struct buf *want)
{
    cli_expect(LAN_RUN(lan, "--raw", "--temp", "0", "-n", N_TOKENS, "--logits",
                       cli_path("got"), "--", prompt),
               0, "");
    struct buf got = cli_read(cli_path("got"));
    assert_int_equal(got.len, want->len);
    assert_memory_equal(got.data, want->data, got.len);
    buf_fini(&got);
}

static void one_model(const struct arch *a, const char *type, const char *kv)
{
    struct lan lan;
    print_message("%s %s, cache %s\n", a->name, type, kv);
    make_model(a, type);
    cli_expect(CLI("local", cli_path("model.gguf"), "--raw", "--temp", "0",
                   "-n", N_TOKENS, "-t", "1", "--kv", kv, "--logits",
                   cli_path("want"), "--", prompt),
               0, "");
    struct buf want = cli_read(cli_path("want"));
    assert_true(want.len > 0);
    json_t *two = plan_for(2, a->n_expert), *three = plan_for(3, a->n_expert);
    lan_begin(&lan);
    lan_write_plan(&lan, two);
    lan_serve(&lan, cli_path("model.gguf"),
              (const char *const[]){"--workers", "3", "--kv", kv, "--plan",
                                    lan_path(&lan, "plan.json"), NULL});
    lan_join_all(&lan, WORKERS);
    lan_wait_state(&lan, "serving");
    ask(&lan, &want);
    lan_replan(&lan, three);
    ask(&lan, &want);
    lan_end(&lan);
    json_decref(two);
    json_decref(three);
    buf_fini(&want);
}

static bool is_weight_type(int t)
{
    return quant_name((enum quant_type)t) != NULL &&
           quant_row_bytes((enum quant_type)t, 256) != 0;
}

static void test_architecture(void **state)
{
    const uint32_t i = (uint32_t)(uintptr_t)*state;
    uint32_t n_types = 0;
    cli_begin();
    for (int t = 0; t < QUANT_TYPE_END; t++) {
        if (!is_weight_type(t)) continue;
        /* every type meets every cache in another architecture */
        const uint32_t k = n_types++ * (uint32_t)COUNT_OF(archs) + i;
        if (k % STRIDE != 0) continue;
        one_model(&archs[i], quant_name((enum quant_type)t),
                  caches[(n_types + i) % COUNT_OF(caches)]);
    }
    assert_int_equal(n_types, 15);
    cli_end();
}

int main(void)
{
    struct CMUnitTest tests[COUNT_OF(archs)];
    for (size_t i = 0; i < COUNT_OF(archs); i++) {
        tests[i] = (struct CMUnitTest){.name = archs[i].name,
                                       .test_func = test_architecture,
                                       .initial_state = (void *)i};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

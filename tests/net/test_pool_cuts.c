/* test_pool_cuts.c - a pool gives the same bytes as one process, however the
 * model is cut: real processes, real sockets, another plan by SIGHUP. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/rng.h"
#include "tests/lib/gen_model.h"
#include "tests/lib/lan.h"
#include "tests/lib/temp.h"
#include "tests/lib/testdata.h"

#define N_PROMPTS 8
#define N_TOKENS  "6"
#define N_LAYERS  12 /* of the generated mixture of experts */
#define DEMO      "deploy/demo/potluck-demo.gguf" /* a trained one */
#define N_DEMO    6
#define N_EXPERTS 8
#define SEEDED    50 /* cuts for five workers */
#define NODES_MAX 5

/* Sanitized programs are slow: a sample of the cuts will do. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 9
#else
#define STRIDE 1
#endif

static const char *const prompts[N_PROMPTS] = {
    "Once upon a time",
    "Lily",
    "The old computers in the school's cellar had been asleep for years, until "
    "one day a girl named",
    "One day, a little dog",
    "Tom and Anna went to the park. They saw a big tree and",
    "A",
    "There was a red ball. It rolled down the hill, over the bridge and into",
    "She said:",
};

struct pool {
    struct lan rig;
    char model[512];
    uint32_t n_layer, n_workers;
    struct buf want[N_PROMPTS]; /* logits of `local` */
};

/* ------------------------------------------------------------ the rig */

/* model NULL: a generated mixture of experts. */
static void open_pool(struct pool *p, const char *model, uint32_t n_layer,
                      uint32_t n_workers)
{
    *p = (struct pool){.n_layer = n_layer, .n_workers = n_workers};
    cli_begin();
    lan_begin(&p->rig);
    if (!model) {
        cli_model("moe.gguf", "moe-12", (const char *const[]){NULL});
        model = cli_path("moe.gguf");
    }
    snprintf(p->model, sizeof p->model, "%s", model);
    for (uint32_t i = 0; i < N_PROMPTS; i++) {
        cli_expect(CLI("local", p->model, "--raw", "--temp", "0", "-n",
                       N_TOKENS, "-t", "1", "--logits", cli_path("want"), "--",
                       prompts[i]),
                   0, "");
        p->want[i] = cli_read(cli_path("want"));
        assert_true(p->want[i].len > 0);
    }
}

static void close_pool(struct pool *p)
{
    for (uint32_t i = 0; i < N_PROMPTS; i++) buf_fini(&p->want[i]);
    lan_end(&p->rig);
    cli_end();
}

/* ----------------------------------------------------------- the plans */

struct cut {
    uint32_t end[NODES_MAX]; /* of the layers of pc-1, pc-2, ... */
    int embed, head;         /* node from 1 on; 0: not said */
    bool experts;            /* dealt out by chance */
    bool crossed;            /* 2 workers: each has the other's experts */
};

static json_t *name_of(uint32_t node)
{
    return json_sprintf("pc-%u", node);
}

static json_t *layer_experts(const struct cut *c, struct rng *rng, uint32_t n,
                             uint32_t home)
{
    json_t *layer = json_object();
    for (uint32_t e = 0; e < N_EXPERTS; e++) {
        uint32_t to = 1 + (uint32_t)rng_below(rng, n);
        if (c->crossed) to = 3 - home;
        if (to == home) continue;
        char name[16];
        snprintf(name, sizeof name, "pc-%u", to);
        json_t *list = json_object_get(layer, name);
        if (!list) {
            list = json_array();
            json_object_set_new(layer, name, list);
        }
        json_array_append_new(list, json_integer(e));
    }
    return layer;
}

static json_t *plan_of(struct pool *p, const struct cut *c, struct rng *rng)
{
    json_t *layers = json_array(), *experts = json_object();
    for (uint32_t i = 0, first = 0; i < p->n_workers; i++) {
        if (c->end[i] == first) continue; /* no layers there */
        json_array_append_new(
            layers, json_pack("{s:o, s:i, s:i}", "node", name_of(i + 1),
                              "first", (int)first, "end", (int)c->end[i]));
        for (uint32_t l = first; l < c->end[i]; l++) {
            if (!c->experts && !c->crossed) continue;
            char key[16];
            snprintf(key, sizeof key, "%u", l);
            json_object_set_new(experts, key,
                                layer_experts(c, rng, p->n_workers, i + 1));
        }
        first = c->end[i];
    }
    json_t *plan =
        json_pack("{s:o, s:o}", "layers", layers, "experts", experts);
    if (c->embed) {
        json_object_set_new(plan, "embed", name_of((uint32_t)c->embed));
    }
    if (c->head) json_object_set_new(plan, "head", name_of((uint32_t)c->head));
    return plan;
}

static void apply(struct pool *p, const struct cut *c, struct rng *rng)
{
    json_t *plan = plan_of(p, c, rng);
    if (p->rig.coordinator == 0) {
        lan_write_plan(&p->rig, plan);
        char n[16];
        snprintf(n, sizeof n, "%u", p->n_workers);
        lan_serve(&p->rig, p->model,
                  (const char *const[]){"--workers", n, "--plan",
                                        lan_path(&p->rig, "plan.json"), NULL});
        lan_join_all(&p->rig, p->n_workers);
        lan_wait_state(&p->rig, "serving");
    } else {
        lan_replan(&p->rig, plan);
    }
    json_decref(plan);
}

/* ------------------------------------------------------------ the proof */

static void same_bytes(struct pool *p, uint32_t prompt, const char *got)
{
    struct buf b = cli_read(got);
    assert_int_equal(b.len, p->want[prompt].len);
    assert_memory_equal(b.data, p->want[prompt].data, b.len);
    buf_fini(&b);
}

static void one_prompt(struct pool *p, uint32_t i)
{
    cli_expect(LAN_RUN(&p->rig, "--raw", "--temp", "0", "-n", N_TOKENS,
                       "--logits", cli_path("got"), "--", prompts[i]),
               0, "");
    same_bytes(p, i, cli_path("got"));
}

static void all_at_once(struct pool *p)
{
    pid_t pid[N_PROMPTS];
    char name[N_PROMPTS][32], logits[N_PROMPTS][512];
    for (uint32_t i = 0; i < N_PROMPTS; i++) {
        snprintf(name[i], sizeof name[i], "out-%u", i);
        snprintf(logits[i], sizeof logits[i], "%s/logits-%u", p->rig.dir, i);
        pid[i] =
            lan_run_async(&p->rig, name[i],
                          (const char *const[]){"--raw", "--temp", "0", "-n",
                                                N_TOKENS, "--logits", logits[i],
                                                "--", prompts[i], NULL});
    }
    for (uint32_t i = 0; i < N_PROMPTS; i++) {
        assert_int_equal(lan_wait_exit(pid[i]), 0);
        same_bytes(p, i, logits[i]);
    }
}

/* All ways to cut n_layer into contiguous ranges for 2 or 3 workers. */
static void every_cut(struct pool *p)
{
    struct rng rng = {.state = 7};
    uint32_t n = 0;
    const uint32_t last = p->n_workers == 3 ? p->n_layer : 2;
    for (uint32_t a = 1; a < p->n_layer; a++) {
        for (uint32_t b = p->n_workers == 3 ? a + 1 : 1; b < last; b++, n++) {
            if (n % STRIDE != 0) continue;
            struct cut c = {.end = {a, b, p->n_layer}};
            if (p->n_workers == 2) c.end[1] = p->n_layer;
            apply(p, &c, &rng);
            one_prompt(p, n % N_PROMPTS);
        }
    }
    all_at_once(p);
}

/* ------------------------------------------------------------- tests */

static void open_stories(struct pool *p, uint32_t n_workers)
{
    char path[TESTDATA_PATH_MAX];
    testdata_path(path, "models", "stories260K", ".gguf");
    open_pool(p, path, 5, n_workers);
}

static void open_moe(struct pool *p, uint32_t n_workers)
{
    open_pool(p, NULL, N_LAYERS, n_workers);
}

static void open_demo(struct pool *p, uint32_t n_workers)
{
    open_pool(p, DEMO, N_DEMO, n_workers);
}

/* Each architecture; prompts are longer than the windows. */
static const struct {
    const char *preset, *settings[10];
} archs[] = {
    {"tiny-dense",
     {"arch=gemma2", "tied=1", "head_dim=64", "window=12", "qk_gain=3",
      "type=q4_k_m", NULL}},
    {"tiny-dense", {"arch=qwen2", "type=q8_0", NULL}},
    {"tiny-dense", {"arch=qwen3", "head_dim=64", "type=f16", NULL}},
    {"tiny-moe",
     {"arch=qwen3moe", "n_layer=4", "n_expert=64", "n_expert_used=8",
      "type=q4_0", NULL}},
    {"tiny-dense",
     {"arch=qwen2", "rope_scaling=yarn", "rope_scale=4", "n_ctx_orig=16",
      "n_rot=16", NULL}},
    {"tiny-dense",
     {"bias=1", "window=20", "rope_scaling=linear", "rope_scale=2", NULL}},
};

/* In a pool of three: a cut for two of them, then all cuts for all. */
static void one_architecture(struct pool *p)
{
    struct rng rng = {.state = 8};
    const uint32_t n = p->n_layer;
    apply(p, &(struct cut){.end = {n / 2, n, n}}, &rng);
    one_prompt(p, 2);
    every_cut(p);
}

static void test_architectures(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(archs); i += STRIDE) {
        char dir[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES + 16];
        struct error err;
        struct gen_model m;
        struct pool p;
        assert_true(temp_dir_create(dir, "test_pool_cuts"));
        snprintf(path, sizeof path, "%s/arch.gguf", dir);
        assert_int_equal(gen_model_preset(&m, archs[i].preset, &err), ST_OK);
        for (uint32_t k = 0; archs[i].settings[k]; k++) {
            assert_int_equal(gen_model_set(&m, archs[i].settings[k], &err),
                             ST_OK);
        }
        assert_int_equal(gen_model_write(&m, path, &err), ST_OK);
        open_pool(&p, path, m.n_layer, 3);
        one_architecture(&p);
        close_pool(&p);
        assert_true(temp_dir_remove(dir));
    }
}

static void test_one_worker(void **state)
{
    (void)state;
    struct pool p;
    struct rng rng = {.state = 1};
    open_stories(&p, 1);
    apply(&p, &(struct cut){.end = {5}}, &rng);
    for (uint32_t i = 0; i < N_PROMPTS; i++) one_prompt(&p, i);
    all_at_once(&p);
    close_pool(&p);
    open_moe(&p, 1);
    apply(&p, &(struct cut){.end = {N_LAYERS}}, &rng);
    all_at_once(&p);
    close_pool(&p);
}

static void test_two_workers(void **state)
{
    (void)state;
    struct pool p;
    open_stories(&p, 2);
    every_cut(&p);
    close_pool(&p);
    open_moe(&p, 2);
    every_cut(&p);
    close_pool(&p);
    open_demo(&p, 2);
    every_cut(&p);
    close_pool(&p);
}

static void test_three_workers(void **state)
{
    (void)state;
    struct pool p;
    open_stories(&p, 3);
    every_cut(&p);
    close_pool(&p);
    open_moe(&p, 3);
    every_cut(&p);
    close_pool(&p);
    open_demo(&p, 3);
    every_cut(&p);
    close_pool(&p);
}

/* Each holds the other's experts: every layer of each waits for the other. */
static void test_crossed_experts(void **state)
{
    (void)state;
    struct pool p;
    struct rng rng = {.state = 3};
    open_moe(&p, 2);
    apply(&p, &(struct cut){.end = {6, N_LAYERS}, .crossed = true}, &rng);
    for (uint32_t i = 0; i < N_PROMPTS; i += STRIDE) one_prompt(&p, i);
    all_at_once(&p);
    close_pool(&p);
    open_demo(&p, 2);
    apply(&p, &(struct cut){.end = {2, N_DEMO}, .crossed = true}, &rng);
    all_at_once(&p);
    close_pool(&p);
}

/* Seeded: uneven and empty ranges, embedding and head anywhere, the experts
 * of each layer dealt out. */
static void test_five_workers(void **state)
{
    (void)state;
    struct pool p;
    struct rng rng = {.state = 5};
    open_moe(&p, 5);
    for (uint32_t k = 0; k < SEEDED; k += STRIDE) {
        struct cut c = {.embed = (int)rng_below(&rng, 6),
                        .head = (int)rng_below(&rng, 6),
                        .experts = rng_below(&rng, 3) != 0};
        c.end[4] = N_LAYERS;
        for (uint32_t i = 0; i < 4; i++) {
            c.end[i] = (uint32_t)rng_below(&rng, N_LAYERS + 1);
        }
        for (uint32_t i = 0; i < 4; i++) { /* ascending */
            for (uint32_t j = i + 1; j < 4; j++) {
                if (c.end[j] >= c.end[i]) continue;
                const uint32_t t = c.end[i];
                c.end[i] = c.end[j];
                c.end[j] = t;
            }
        }
        apply(&p, &c, &rng);
        if (k % 10 == 0)
            all_at_once(&p);
        else
            one_prompt(&p, k % N_PROMPTS);
    }
    close_pool(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_worker),
        cmocka_unit_test(test_two_workers),
        cmocka_unit_test(test_three_workers),
        cmocka_unit_test(test_crossed_experts),
        cmocka_unit_test(test_five_workers),
        cmocka_unit_test(test_architectures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

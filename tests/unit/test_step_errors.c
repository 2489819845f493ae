/* test_step_errors.c - shards and steps that cannot be: named, without a
 * trace; and the bytes of those that can, exactly as planned. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/arch_rig.h"
#include "tests/lib/engine_rig.h"

#define LAYERS 2

static struct rig dense, moe, tied;

static int open_all(void **state)
{
    (void)state;
    struct gen_model m = rig_dense();
    m.n_layer = LAYERS;
    rig_open(&dense, &m);
    m.tied = 1;
    rig_open(&tied, &m);
    m = rig_moe();
    m.n_layer = LAYERS;
    rig_open(&moe, &m);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    rig_close(&dense);
    rig_close(&moe);
    rig_close(&tied);
    return mem_in_use() == 0 ? 0 : -1;
}

/* ---------------------------------------------------- steps that fail */

struct trace { /* all that a step could leave */
    uint32_t length[6], n_sequences, n_free;
    const void *page[2]; /* the second page of sequences 1 and 2 */
    size_t in_use;
};

static void look(const struct shard *s, struct trace *t)
{
    memset(t, 0, sizeof *t);
    for (uint32_t i = 0; i < 6; i++) t->length[i] = kv_length(s->kv, i);
    for (uint32_t i = 0; i < 2; i++) {
        if (t->length[i + 1] <= 32) continue;
        t->page[i] = kv_k(s->kv, kv_find(s->kv, i + 1), 0, 0, 32);
    }
    t->n_sequences = kv_n_sequences(s->kv);
    t->n_free = kv_free_pages(s->kv);
    t->in_use = mem_in_use();
    assert_true(kv_check(s->kv));
}

static void refused(struct shard *s, struct step *st,
                    const struct step_input *in, enum status want,
                    const char *word)
{
    struct trace before, after;
    look(s, &before);
    assert_fails(step_begin(st, in, &rig_err), want, word);
    look(s, &after);
    assert_memory_equal(&after, &before, sizeof before);
}

/* The sequences 1 and 2 of 40 positions that share a page, 3 of none. */
static void fill(struct shard *s, struct step *st)
{
    float *logits = mem_alloc(8 * 600 * sizeof *logits);
    assert_non_null(logits);
    for (uint32_t p = 0; p < 40; p++) {
        const struct step_row row = {1, p, (int32_t)p, false};
        rig_step(s, st, &row, 1, logits);
    }
    rig_op(s, KV_OP_FORK, 2, 1, 40);
    rig_op(s, KV_OP_FORK, 3, 1, 1);
    rig_op(s, KV_OP_TRUNCATE, 3, 0, 0);
    mem_free(logits);
}

static void test_invalid_inputs(void **state)
{
    (void)state;
    struct shard_options o = rig_options(&dense.model);
    o.outputs_max = 2;
    o.n_ctx = 64;
    struct shard *s = rig_whole(&dense, &o);
    struct step *st = NULL;
    assert_ok(step_create(&st, s, &rig_err));
    fill(s, st);
    struct step_row rows[34], good[4] = {{1, 40, 5, true},
                                         {4, 0, 6, false},
                                         {2, 40, 7, false},
                                         {1, 41, 8, true}};
    const struct step_input ok = {.rows = rows,
                                  .n_rows = 4,
                                  .embed = true,
                                  .layer_end = LAYERS,
                                  .head = true};
#define REFUSED(change, word)                                                  \
    do {                                                                       \
        struct step_input in = ok;                                             \
        memcpy(rows, good, sizeof good);                                       \
        change;                                                                \
        refused(s, st, &in, ST_INVALID, word);                                 \
    } while (0)
    REFUSED(in.n_rows = 0, "step of 0 rows");
    REFUSED(in.n_rows = 34, "step of 34 rows");
    REFUSED(in.layer_first = 2; in.layer_end = 1, "layers 2 to 1");
    REFUSED(in.layer_end = LAYERS + 1, "layers 0 to 3 of 2");
    REFUSED(in.layer_end = UINT32_MAX, "layers");
    REFUSED(in.embed = false, "not here");
    REFUSED(rows[2].token = -1, "token -1");
    REFUSED(rows[2].token = 600, "token 600");
    REFUSED(rows[1].pos = 64, "position 64");
    REFUSED(rows[1].pos = UINT32_MAX, "position");
    REFUSED(rows[1].want = true, "3 rows want logits: 2 fit");
    REFUSED(rows[3].pos = 42, "sequence 1"); /* a gap */
    REFUSED(rows[3].pos = 40, "sequence 1"); /* twice */
    REFUSED(rows[3].pos = 39, "sequence 1"); /* behind */
    REFUSED(rows[3].seq = 9, "sequence 9");  /* not begun at 0 */
    REFUSED(rows[3].seq = 3, "sequence 3");  /* of length 0 */
    REFUSED(in.again = true, "position 40 of sequence 1 is not in the cache");
#undef REFUSED
    /* and then it works, with what reference runs would say */
    int32_t tokens[42];
    for (int32_t i = 0; i < 40; i++) tokens[i] = i;
    tokens[40] = 5;
    tokens[41] = 8;
    float *want = rig_reference(&dense, o.kv_type, tokens, 42);
    float *got = mem_alloc(2 * 600 * sizeof *got);
    assert_non_null(got);
    memcpy(rows, good, sizeof good);
    rig_step(s, st, rows, 4, got);
    rig_assert_same(got, want + 40 * 600, 2 * 600, "after refusals");
    mem_free(want);
    mem_free(got);
    step_free(st);
    shard_free(s);
}

/* The pool or the sequences run out at each row of the step in turn. */
static void test_full(void **state)
{
    (void)state;
    for (uint32_t n_pages = 2; n_pages <= 6; n_pages++) {
        struct shard_options o = rig_options(&dense.model);
        o.n_pages = n_pages;
        struct shard *s = rig_whole(&dense, &o);
        struct step *st = NULL;
        assert_ok(step_create(&st, s, &rig_err));
        fill(s, st); /* takes two pages */
        /* a copy, a page for 3 and for 4, no second copy, a page for 5 */
        const struct step_row rows[] = {{2, 40, 1, false}, {3, 0, 1, false},
                                        {4, 0, 1, false},  {1, 40, 1, false},
                                        {2, 41, 1, false}, {5, 0, 1, false}};
        const struct step_input in = {.rows = rows,
                                      .n_rows = 6,
                                      .embed = true,
                                      .layer_end = LAYERS,
                                      .head = true};
        if (n_pages < 6) {
            refused(s, st, &in, ST_FULL, "1 pages needed, 0 free");
        } else {
            assert_ok(step_begin(st, &in, &rig_err));
            assert_int_equal(step_run(st), STEP_DONE);
            assert_int_equal(kv_free_pages(s->kv), 0);
        }
        step_free(st);
        shard_free(s);
    }
    struct shard_options o = rig_options(&dense.model);
    o.n_seq_max = 4;
    struct shard *s = rig_whole(&dense, &o);
    struct step *st = NULL;
    assert_ok(step_create(&st, s, &rig_err));
    fill(s, st);
    const struct step_row rows[] = {{4, 0, 1, false}, {5, 0, 1, false}};
    const struct step_input in = {
        .rows = rows, .n_rows = 2, .embed = true, .layer_end = LAYERS};
    refused(s, st, &in, ST_FULL, "all 4 sequences are in use");
    step_free(st);
    shard_free(s);
}

/* Operations before a failing one stand, as step.h says. */
static void test_failing_operations(void **state)
{
    (void)state;
    const struct shard_options o = rig_options(&dense.model);
    struct shard *s = rig_whole(&dense, &o);
    struct step *st = NULL;
    assert_ok(step_create(&st, s, &rig_err));
    fill(s, st);
    const struct step_row row = {1, 40, 1, false};
    const struct kv_op ops[] = {{KV_OP_TRUNCATE, 2, 0, 35},
                                {KV_OP_FORK, 4, 77, 1},
                                {KV_OP_FREE, 1, 0, 0}};
    const struct step_input in = {.ops = ops,
                                  .n_ops = 3,
                                  .rows = &row,
                                  .n_rows = 1,
                                  .embed = true,
                                  .layer_end = LAYERS};
    assert_fails(step_begin(st, &in, &rig_err), ST_NOT_FOUND, "sequence 77");
    assert_int_equal(kv_length(s->kv, 2), 35);
    assert_int_equal(kv_length(s->kv, 1), 40);
    step_free(st);
    shard_free(s);
}

/* A shard of layer 1 with one expert of it. */
static void test_what_is_not_here(void **state)
{
    (void)state;
    struct shard_layer_spec layers[LAYERS] = {[1] = {true, {1u << 3}}};
    const struct shard_spec spec = {.layers = layers};
    const struct shard_options o = rig_options(&moe.model);
    struct shard *s = NULL;
    struct step *st = NULL;
    assert_ok(shard_create(&s, &moe.model, &spec, &o, &rig_err));
    assert_ok(step_create(&st, s, &rig_err));
    static float x[33 * 256], y[33 * 256];
    const struct step_row row = {1, 0, 1, true};
    struct step_input in = {.rows = &row, .n_rows = 1, .x = x};
    in.layer_end = 1;
    refused(s, st, &in, ST_INVALID, "layer 0 is not on this shard");
    in.layer_first = 1, in.layer_end = 2, in.embed = true;
    refused(s, st, &in, ST_INVALID, "not here");
    in.embed = false, in.head = true;
    refused(s, st, &in, ST_INVALID, "not here");
    static const uint32_t bad[][3] = {
        {1, 2, 1}, {0, 3, 1},  {1, 8, 1},          {2, 3, 1},
        {1, 3, 0}, {1, 3, 34}, {1, UINT32_MAX, 1}, {UINT32_MAX, 3, 1}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_fails(
            step_expert(st, bad[i][0], bad[i][1], bad[i][2], x, y, &rig_err),
            ST_INVALID, "is not here");
    }
    assert_ok(step_expert(st, 1, 3, 33, x, y, &rig_err));
    in.head = false;
    assert_ok(step_begin(st, &in, &rig_err));
    step_cancel(st);
    step_free(st);
    shard_free(s);
}

/* ------------------------------------------------------------- bytes */

static uint64_t last_done, last_total;
static bool on_progress(void *arg, uint64_t done, uint64_t total)
{
    assert_true(done >= last_done && done <= total);
    last_done = done;
    last_total = total;
    const uint64_t *stop_at = arg; /* NULL: never */
    return !stop_at || done < *stop_at;
}

static void check_plan(const struct rig *r, const struct shard_spec *spec)
{
    for (enum isa isa = ISA_REF; isa <= cpu_isa(); isa++) {
        if (!cpu_runs(isa)) continue;
        struct shard_options o = rig_options(&r->model);
        o.isa = isa;
        o.n_threads = 2;
        o.n_pages = isa == ISA_REF ? 0 : 5;
        o.kv_type = isa == ISA_REF ? KV_F32 : KV_F16;
        o.blas = isa == ISA_REF ? BLAS_NEVER : BLAS_MEASURED;
        o.progress = on_progress;
        last_done = last_total = 0;
        const struct shard_bytes plan = shard_plan(&r->model, spec, &o);
        assert_int_equal(plan.total,
                         plan.weights + plan.kv + plan.scratch + plan.tables);
        struct shard *s = NULL;
        struct step *st = NULL;
        const size_t before = mem_in_use();
        o.memory_max = plan.total;
        assert_ok(shard_create(&s, &r->model, spec, &o, &rig_err));
        assert_int_equal(mem_in_use() - before,
                         plan.weights + plan.kv + plan.tables);
        assert_int_equal(s->weight_bytes, plan.weights);
        if (last_total) assert_int_equal(last_done, last_total);
        const size_t loaded = mem_in_use();
        kv_free(s->kv);
        assert_int_equal(loaded - mem_in_use(), plan.kv);
        s->kv = NULL;
        const size_t without = mem_in_use();
        assert_ok(step_create(&st, s, &rig_err));
        assert_int_equal(mem_in_use() - without, plan.scratch);
        step_free(st);
        shard_free(s);
        assert_int_equal(mem_in_use(), before);
        o.memory_max = plan.total - 1;
        assert_fails(shard_create(&s, &r->model, spec, &o, &rig_err),
                     ST_NO_MEMORY, "more than the limit");
        assert_int_equal(mem_in_use(), before);
    }
}

static void test_plan_of_each_arch(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ARCH_END; i++) {
        const struct gen_model m = arch_model(i);
        struct rig r;
        struct shard_spec spec;
        rig_open(&r, &m);
        assert_ok(shard_spec_whole(&spec, &r.model, &rig_err));
        check_plan(&r, &spec);
        spec.layers[1].block = spec.layers[2].block = false;
        check_plan(&r, &spec);
        mem_free(spec.layers);
        rig_close(&r);
    }
}

static void test_plan_is_exact(void **state)
{
    (void)state;
    const struct rig *const rigs[] = {&dense, &moe, &tied};
    for (size_t i = 0; i < COUNT_OF(rigs); i++) {
        struct shard_spec spec;
        assert_ok(shard_spec_whole(&spec, &rigs[i]->model, &rig_err));
        check_plan(rigs[i], &spec);
        spec.vocab_end = 512; /* the embedding on its own, if tied */
        check_plan(rigs[i], &spec);
        spec.embed = false;
        spec.vocab_first = spec.vocab_end = 0;
        spec.layers[0].block = false;
        spec.layers[0].experts[0] &= 0x81;
        spec.layers[1].experts[0] = 0;
        check_plan(rigs[i], &spec);
        spec.layers[1].block = false; /* experts or nothing */
        check_plan(rigs[i], &spec);
        spec.embed = true;
        check_plan(rigs[i], &spec);
        spec.embed = false;
        spec.vocab_first = 256;
        spec.vocab_end = 600;
        check_plan(rigs[i], &spec);
        mem_free(spec.layers);
    }
}

static void test_failed_allocations(void **state)
{
    (void)state;
    struct shard_options o = rig_options(&moe.model);
    o.n_threads = 2;
    struct shard_spec spec;
    assert_ok(shard_spec_whole(&spec, &moe.model, &rig_err));
    const size_t before = mem_in_use();
    struct shard *s = NULL;
    struct step *st = NULL;
    long n = 0;
    for (;; n++) {
        mem_fail_after(n);
        enum status status = shard_create(&s, &moe.model, &spec, &o, &rig_err);
        if (status == ST_OK) status = step_create(&st, s, &rig_err);
        mem_fail_after(-1);
        if (status == ST_OK) break;
        assert_int_equal(status, ST_NO_MEMORY);
        assert_true(strlen(rig_err.text) > 0);
        shard_free(s);
        s = NULL;
        assert_int_equal(mem_in_use(), before);
    }
    assert_true(n > 50);
    step_free(st);
    shard_free(s);
    mem_fail_after(0);
    struct shard_spec none;
    const enum status status = shard_spec_whole(&none, &moe.model, &rig_err);
    mem_fail_after(-1);
    assert_int_equal(status, ST_NO_MEMORY);
    mem_free(spec.layers);
}

static void test_interrupted_loading(void **state)
{
    (void)state;
    struct shard_spec spec;
    struct shard *s = NULL;
    assert_ok(shard_spec_whole(&spec, &moe.model, &rig_err));
    const size_t before = mem_in_use();
    uint64_t stop_at = 300000;
    struct shard_options o = rig_options(&moe.model);
    o.progress = on_progress;
    o.progress_arg = &stop_at;
    last_done = 0;
    assert_fails(shard_create(&s, &moe.model, &spec, &o, &rig_err),
                 ST_INTERRUPTED, "interrupted");
    assert_true(last_done >= stop_at && last_done < last_total);
    assert_null(s);
    assert_int_equal(mem_in_use(), before);
    mem_free(spec.layers);
}

static void test_options(void **state)
{
    (void)state;
    struct shard_spec spec;
    struct shard *s = NULL;
    assert_ok(shard_spec_whole(&spec, &dense.model, &rig_err));
    const size_t before = mem_in_use();
#define REFUSED(change, status, word)                                          \
    do {                                                                       \
        struct shard_options o = rig_options(&dense.model);                    \
        struct shard_spec sp = spec;                                           \
        change;                                                                \
        assert_fails(shard_create(&s, &dense.model, &sp, &o, &rig_err),        \
                     status, word);                                            \
        assert_int_equal(mem_in_use(), before);                                \
    } while (0)
    REFUSED(o.n_ctx = 0, ST_USAGE, "context of 0");
    REFUSED(o.n_ctx = 129, ST_USAGE, "allows 1 to 128");
    REFUSED(o.rows_max = 0, ST_USAGE, "0 rows");
    REFUSED(o.rows_max = STEP_ROWS_MAX + 1, ST_USAGE, "4097 rows");
    REFUSED(o.outputs_max = 0, ST_USAGE, "0 outputs");
    REFUSED(o.outputs_max = 34, ST_USAGE, "34 outputs");
    REFUSED(o.n_seq_max = 0, ST_USAGE, "0 sequences");
    REFUSED(o.n_seq_max = UINT32_MAX, ST_USAGE, "sequences");
    REFUSED(o.n_threads = 0, ST_USAGE, "0 threads");
    REFUSED(o.n_threads = 257, ST_USAGE, "257 threads");
    REFUSED(o.isa = ISA_END, ST_USAGE, "instruction set");
    REFUSED(o.kv_type = (enum kv_type)9, ST_USAGE, "key/value type 9");
    REFUSED(o.n_pages = UINT32_MAX, ST_NO_MEMORY, "key/value cache");
    REFUSED(o.memory_max = 1000, ST_NO_MEMORY, "more than the limit");
    REFUSED(sp.vocab_end = 601, ST_INVALID, "head rows 0 to 601");
    REFUSED(sp.vocab_end = 300, ST_INVALID, "head rows 0 to 300");
    REFUSED(sp.vocab_first = 100, ST_INVALID, "head rows 100 to 600");
    REFUSED(sp.vocab_first = 512; sp.vocab_end = 256, ST_INVALID, "head rows");
#undef REFUSED
    assert_null(s);
    mem_free(spec.layers);
}

/* ------------------------------------------------------------- guard */

static void allocating_silu(float *h, const float *g, const float *u,
                            uint32_t n)
{
    (void)g, (void)u, (void)n;
    void *p = mem_alloc(8);
    h[0] = p ? 1.0f : 0.0f;
    mem_free(p);
}

/* A child runs fn; it must abort, and say `word`. */
static void must_abort(void (*fn)(void), const char *word)
{
    int pipes[2];
    char text[512] = "";
    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(pipes[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    close(pipes[1]);
    size_t n = 0;
    for (ssize_t got;
         n < sizeof text - 1 &&
         (got = read(pipes[0], text + n, sizeof text - 1 - n)) > 0;) {
        n += (size_t)got;
    }
    close(pipes[0]);
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT);
    if (!strstr(text, word)) fail_msg("it said: %s", text);
}

static void allocate_in_a_phase(void)
{
    mem_guard_begin("the phase");
    mem_free(mem_alloc(8));
    mem_guard_end();
}

static struct shard *guarded;
static struct step *guarded_step;

static void allocate_in_a_step(void)
{
    static struct vec_ops vec;
    vec = *guarded->vec;
    vec.silu_mul = allocating_silu;
    guarded->vec = &vec;
    const struct step_row row = {0, 0, 1, false};
    const struct step_input in = {
        .rows = &row, .n_rows = 1, .embed = true, .layer_end = LAYERS};
    if (step_begin(guarded_step, &in, NULL) == ST_OK) step_run(guarded_step);
}

static void test_the_guard_bites(void **state)
{
    (void)state;
    must_abort(allocate_in_a_phase, "8 bytes allocated during the phase");
    const struct shard_options o = rig_options(&dense.model);
    guarded = rig_whole(&dense, &o);
    assert_ok(step_create(&guarded_step, guarded, &rig_err));
    must_abort(allocate_in_a_step, "8 bytes allocated during a step");
    /* after a step this thread may allocate again */
    float *logits = mem_alloc(600 * sizeof *logits);
    const struct step_row row = {0, 0, 1, false};
    rig_step(guarded, guarded_step, &row, 1, logits);
    mem_free(mem_alloc(8));
    mem_free(logits);
    step_free(guarded_step);
    shard_free(guarded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_invalid_inputs),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_failing_operations),
        cmocka_unit_test(test_what_is_not_here),
        cmocka_unit_test(test_plan_is_exact),
        cmocka_unit_test(test_plan_of_each_arch),
        cmocka_unit_test(test_failed_allocations),
        cmocka_unit_test(test_interrupted_loading),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_the_guard_bites),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

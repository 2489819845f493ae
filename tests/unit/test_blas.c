/* test_blas.c - whichever OpenBLAS is installed, its own threads stay out of
 * ours: none is started by our products, none that it has started computes,
 * and the bits are the reference's. Run with LD_LIBRARY_PATH for the variants
 * (tests/blas_variants.sh); the environment asks each for four threads. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <cblas.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/compiler.h"
#include "engine/kernels_blas.h"
#include "engine/kernels_tune.h"
#include "engine/pool.h"
#include "tests/lib/engine_rig.h"

#define THREADS 3
#define ITEMS   24
#ifdef __SANITIZE_THREAD__ /* sees a race the first time, slowly */
#define ROUNDS 2
#else
#define ROUNDS 50
#endif
#define ROWS  96
#define COLS  96
#define K     1024
#define TASKS 64

struct task {
    long id;
    unsigned long long ran_ns;
};

static size_t tasks(struct task *out)
{
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    size_t n = 0;
    struct dirent *e;
    while ((e = readdir(d)) && n < TASKS) {
        char path[300], text[64] = "";
        if (e->d_name[0] == '.') continue;
        out[n] = (struct task){.id = strtol(e->d_name, NULL, 10)};
        snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", e->d_name);
        FILE *f = fopen(path, "r");
        if (f && fgets(text, sizeof text, f)) {
            out[n].ran_ns = strtoull(text, NULL, 10);
        }
        if (f) fclose(f);
        n++;
    }
    closedir(d);
    return n;
}

struct products {
    struct matmul_job job;
    void (*matmul)(const struct matmul_job *);
    float *y, *scratch; /* for each item, each thread */
};

/* Threads that are not ours: there before the pool was. */
static struct task foreign[TASKS];
static size_t n_foreign;

static void product(void *arg, uint32_t item, uint32_t thread)
{
    struct products *p = arg;
    struct matmul_job job = p->job;
    job.y = p->y + (size_t)item * ROWS * COLS;
    job.scratch = p->scratch + (size_t)thread * KERNEL_SCRATCH / sizeof(float);
    p->matmul(&job);
}

static void *get(size_t n)
{
    void *p = mem_zalloc(n);
    assert_non_null(p);
    return p;
}

/* Every item is the same product: all give the reference's bits, or if it is a
 * float product all the same. */
static void check_bits(const struct products *p, const float *want)
{
    const size_t bytes = ROWS * COLS * sizeof *want;
    for (uint32_t i = 0; i < ITEMS; i++) {
        assert_memory_equal(p->y + (size_t)i * ROWS * COLS, want ? want : p->y,
                            bytes);
    }
}

static void check_tasks(void)
{
#ifdef __SANITIZE_THREAD__ /* which has a thread of its own */
    return;
#endif
    struct task now[TASKS];
    const size_t n = tasks(now);
    assert_int_equal(n, n_foreign + THREADS);
    for (size_t i = 0; i < n; i++) {
        for (size_t f = 0; f < n_foreign; f++) {
            if (foreign[f].id != now[i].id) continue;
            if (foreign[f].ran_ns != now[i].ran_ns) {
                fail_msg("a thread of OpenBLAS computed for %llu ns",
                         now[i].ran_ns - foreign[f].ran_ns);
            }
        }
    }
}

static void run(struct pool *pool, enum quant_type type, bool fast)
{
    const struct kernel *kernel = kernel_ref(type);
    struct rng rng = {.state = type + 1};
    struct nm_tree tree;
    nm_tree_init(&tree, K);
    static float x[K], want[ROWS * COLS];
    const size_t group = kernel_group_bytes(kernel, K);
    const size_t stride = act_row_bytes(kernel->act, K);
    uint8_t *w = get(ROWS * group), *act = get(COLS * stride);
    for (uint32_t r = 0; r < ROWS + COLS; r++) {
        for (uint32_t i = 0; i < K; i++) {
            x[i] = (float)(rng_unit(rng_u64(&rng)) - 0.5);
        }
        if (r < ROWS) {
            quant_quantize_row(type, x, w + r * group, K);
        } else {
            act_quantize(kernel->act, x, K, act + (r - ROWS) * stride);
        }
    }
    struct products p = {
        .job = {.w = w,
                .act = act,
                .y = want,
                .tree = &tree,
                .act_stride = stride,
                .y_stride = ROWS,
                .k = K,
                .n_rows = ROWS,
                .group_end = ROWS,
                .n_cols = COLS},
        .matmul = fast ? kernels_blas_float(type) : kernel->matmul_blas,
        .y = get(sizeof want * ITEMS),
        .scratch = get((size_t)THREADS * KERNEL_SCRATCH),
    };
    kernel->matmul(&p.job);
    for (int i = 0; i < ROUNDS; i++) {
        pool_run(pool, product, &p, ITEMS);
        check_bits(&p, fast ? NULL : want);
    }
    check_tasks();
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        /* a thousand products of numbers below a half */
        assert_true(want[i] - p.y[i] < 1e-2f && p.y[i] - want[i] < 1e-2f);
    }
    mem_free(p.scratch);
    mem_free(p.y);
    mem_free(act);
    mem_free(w);
}

static void test_threads(void **state)
{
    (void)state;
    struct pool *pool = NULL;
    print_message("OpenBLAS: %s\n", openblas_get_config());
    assert_true(kernels_blas_usable());
    /* threads that it started with the program spin a little, then sleep */
    usleep(300000);
    struct task all[TASKS];
    const size_t n = tasks(all);
    for (size_t i = 0; i < n; i++) {
        if (all[i].id != (long)getpid()) foreign[n_foreign++] = all[i];
    }
    assert_ok(pool_create(&pool, THREADS, &rig_err));
    run(pool, QUANT_Q4_K, false);
    run(pool, QUANT_Q8_0, false);
    run(pool, QUANT_Q6_K, false);
    run(pool, QUANT_F32, true);
    run(pool, QUANT_F16, true);
    run(pool, QUANT_BF16, true);
    pool_free(pool);
}

/* Exact unless asked: the float product belongs to --numerics fast alone. */
static void test_tuning(void **state)
{
    (void)state;
    const struct kernel *f16 = kernel_ref(QUANT_F16);
    struct kernel_tuning t = kernels_tuning(f16, false);
    assert_int_equal(t.why, TUNE_NO_PANEL);
    assert_int_equal(t.from, UINT32_MAX);
    t = kernels_tuning(f16, true);
    assert_true(t.why == TUNE_FASTER || t.why == TUNE_SLOWER);
    assert_int_equal(t.from != UINT32_MAX, t.why == TUNE_FASTER);
    assert_true(t.n_cols > 0 && t.ours > 0 && t.blas > 0);
    assert_int_equal(kernels_tuning(f16, false).why, TUNE_NO_PANEL);
    const struct kernel_tuning again = kernels_tuning(f16, true);
    assert_true(again.ours == t.ours && again.blas == t.blas);
    assert_null(kernels_blas_float(QUANT_Q8_0));
}

int main(int argc, char **argv)
{
    (void)argc;
    if (!getenv("POTLUCK_TEST_BLAS")) {
        /* before the library is loaded */
        setenv("POTLUCK_TEST_BLAS", "1", 1);
        setenv("OPENBLAS_NUM_THREADS", "4", 1);
        setenv("OMP_NUM_THREADS", "4", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_tuning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

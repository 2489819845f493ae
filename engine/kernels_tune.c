#include "engine/kernels_tune.h"

#include <pthread.h>
#include <time.h>

#include "common/mem.h"
#include "engine/kernels_blas.h"

/* Enough rows for whole panels, and K enough to be out of the start-up. */
#define TUNE_K    512u
#define TUNE_ROWS 64u
#define TUNE_COLS 128u
#define TUNE_GAIN 1.15

const char *tune_why_name(enum tune_why why)
{
    static const char *const names[] = {
        [TUNE_NO_PANEL] = "no panel",   [TUNE_UNUSABLE] = "unusable",
        [TUNE_NO_MEMORY] = "no memory", [TUNE_SLOWER] = "slower",
        [TUNE_FASTER] = "faster",
    };
    return names[why];
}

/* The fastest of four runs, in CPU seconds: other programs do not count. The
 * first is slow (OpenBLAS allocates, caches are cold), so there are two even
 * if one takes a millisecond. */
static double fastest(matmul_fn *matmul, const struct matmul_job *job)
{
    double best = 1e9;
    for (int i = 0; i < 4 && (i < 2 || best < 1e-3); i++) {
        struct timespec a, b;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
        matmul(job);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
        const double t = (double)(b.tv_sec - a.tv_sec) +
                         1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        best = t < best ? t : best;
    }
    return best > 0 ? best : 1e-9;
}

/* Downwards while it pays: from that many columns on it does. */
static void compare(struct kernel_tuning *t, matmul_fn *panel,
                    struct matmul_job *job)
{
    t->why = TUNE_SLOWER;
    for (job->n_cols = TUNE_COLS; job->n_cols >= 8; job->n_cols /= 2) {
        const double ours = fastest(t->kernel->matmul, job);
        const double blas = fastest(panel, job);
        if (job->n_cols == TUNE_COLS) {
            const double macs = (double)TUNE_COLS * TUNE_ROWS * TUNE_K;
            t->n_cols = TUNE_COLS;
            t->ours = macs / ours;
            t->blas = macs / blas;
        }
        if (ours < TUNE_GAIN * blas) return;
        t->why = TUNE_FASTER;
        t->from = job->n_cols;
    }
}

/* Weights and activations are all zero: these kernels take the same time
 * whatever the values are. */
static void measure(struct kernel_tuning *t, matmul_fn *panel)
{
    const struct kernel *kernel = t->kernel;
    const uint32_t groups = TUNE_ROWS / kernel->rows;
    struct nm_tree tree;
    nm_tree_init(&tree, TUNE_K);
    struct matmul_job job = {
        .tree = &tree,
        .act_stride = act_row_bytes(kernel->act, TUNE_K),
        .y_stride = TUNE_ROWS,
        .k = TUNE_K,
        .n_rows = TUNE_ROWS,
        .group_end = groups,
    };
    void *w = mem_zalloc_array(groups, kernel_group_bytes(kernel, TUNE_K));
    void *act = mem_zalloc_array(TUNE_COLS, job.act_stride);
    void *scratch = mem_zalloc(KERNEL_SCRATCH);
    job.y = mem_zalloc_array(TUNE_COLS * TUNE_ROWS, sizeof(float));
    job.w = w;
    job.act = act;
    job.scratch = scratch;
    t->why = TUNE_NO_MEMORY;
    if (w && act && scratch && job.y) compare(t, panel, &job);
    mem_free(job.y);
    mem_free(scratch);
    mem_free(act);
    mem_free(w);
}

struct kernel_tuning kernels_tuning(const struct kernel *kernel, bool fast)
{
    /* several shards may be loaded at once, on threads of their own */
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct kernel_tuning known[QUANT_TYPE_END][ISA_END];
    matmul_fn *panel = kernel->matmul_blas;
    if (!panel && fast) panel = kernels_blas_float(kernel->type);
    struct kernel_tuning t = {.kernel = kernel, .from = UINT32_MAX};
    if (!panel) return t;
    t.why = TUNE_UNUSABLE;
    if (!kernels_blas_usable()) return t;
    pthread_mutex_lock(&lock);
    struct kernel_tuning *k = &known[kernel->type][kernel->isa];
    if (!k->kernel) {
        measure(&t, panel);
        /* with more memory it may be known another time */
        if (t.why != TUNE_NO_MEMORY) *k = t;
    } else {
        t = *k;
    }
    pthread_mutex_unlock(&lock);
    return t;
}

uint32_t kernels_tune(const struct kernel *kernel, bool fast)
{
    return kernels_tuning(kernel, fast).from;
}

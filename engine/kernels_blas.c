/* kernels_blas.c - panels of 64 rows times up to 96 columns, leaf by leaf.
 *
 * For every leaf the weights become floats with their integer scales folded
 * in, [rows][256], the activations floats, [cols][256]; sgemm multiplies them
 * in parts of K = 128 (Q4_K: at most 128 * 945 * 127 < 2^24) or 32 (Q8_0), and
 * the f16 scales follow as the definition says.  Each part has an output of
 * its own: adding onto C inside sgemm could round between. */
#include "engine/kernels_blas.h"

#include <cblas.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "common/mem.h"
#include "engine/kernels_pack.h"
#include "engine/quant_f16.h"

#define ROWS 64
#define COLS 96

/* What a leaf needs besides the panels. */
struct scales {
    float d[NM_LEAF / 32][ROWS]; /* Q4_K: d[0] */
    float dmin[ROWS];
    float min[8][ROWS]; /* six-bit minima, as floats */
};

struct work {
    float w[ROWS][NM_LEAF];
    float act[COLS][NM_LEAF];
    float product[2][COLS][ROWS];
    float stack[NM_DEPTH_MAX][COLS][ROWS];
};
_Static_assert(sizeof(struct work) <= KERNEL_SCRATCH, "fits the scratch");

/* Rows and columns of one pass. */
struct pass {
    const struct matmul_job *job;
    enum quant_type type;
    uint32_t group_rows; /* of the layout */
    size_t group_bytes;
    uint32_t row, n_rows, col, n_cols;
    struct work *work;
    struct scales scales;
};

/* ------------------------------------------------------------- panels */

/* Row r of the pass, weights of leaf l as integers with scales folded in. */
static void expand_row(struct pass *p, uint32_t r, uint32_t l)
{
    struct scales *s = &p->scales;
    const uint32_t row = p->row + r, n_blocks = p->job->k / 32;
    const uint8_t *group =
        (const uint8_t *)p->job->w + row / p->group_rows * p->group_bytes;
    float *w = p->work->w[r];
    if (p->type == QUANT_Q4_K) {
        struct block_q4_k block;
        packed_block(p->type, p->group_rows, group, row % p->group_rows, l,
                     n_blocks / 8, &block);
        uint8_t sc[8], m[8];
        quant_q4_k_scales(block.scales, sc, m);
        for (int j = 0; j < 8; j += 2) {
            const uint8_t *q = block.qs + 16 * j;
            const int low = sc[j], high = sc[j + 1];
            for (int i = 0; i < 32; i++) {
                w[32 * j + i] = (float)(low * (q[i] & 15));
                w[32 * j + 32 + i] = (float)(high * (q[i] >> 4));
            }
        }
        for (int j = 0; j < 8; j++) s->min[j][r] = (float)m[j];
        s->d[0][r] = f16_to_f32_inline(block.d);
        s->dmin[r] = f16_to_f32_inline(block.dmin);
    } else {
        for (uint32_t b = 8 * l, j = 0; b < n_blocks && j < 8; b++, j++) {
            struct block_q8_0 block;
            packed_block(p->type, p->group_rows, group, row % p->group_rows, b,
                         n_blocks, &block);
            float *x = w + 32 * (size_t)j;
            for (int i = 0; i < 32; i++) x[i] = (float)block.qs[i];
            s->d[j][r] = f16_to_f32_inline(block.d);
        }
    }
}

static const void *act_of(const struct pass *p, uint32_t c)
{
    return (const char *)p->job->act + (p->col + c) * p->job->act_stride;
}

static void expand_act(const struct pass *p, uint32_t c, uint32_t l)
{
    float *x = p->work->act[c];
    if (p->type == QUANT_Q4_K) {
        const struct act_q8_k *a = (const struct act_q8_k *)act_of(p, c) + l;
        for (int i = 0; i < 256; i++) x[i] = (float)a->q[i];
    } else {
        const struct act_q8_0 *a =
            (const struct act_q8_0 *)act_of(p, c) + 8 * l;
        const uint32_t left = p->job->k / 32 - 8 * l;
        for (uint32_t b = 0; b < left && b < 8; b++) {
            for (int i = 0; i < 32; i++) x[i] = (float)a[b].q[i];
            x += 32;
        }
    }
}

/* A build without threads (Debian's serial one) was compiled without locks
 * too: two threads in it share a buffer, and products come out wrong. */
bool kernels_blas_concurrent(void)
{
    return openblas_get_parallel() != OPENBLAS_SEQUENTIAL;
}

/* The products of weights [from, from + n) of the leaf.  Why a mutex here: the
 * library's state is the process's, whoever calls. */
static void multiply(const struct pass *p, uint32_t from, uint32_t n,
                     float product[COLS][ROWS])
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    const bool alone = !kernels_blas_concurrent();
    if (alone) pthread_mutex_lock(&one_at_a_time);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)p->n_cols,
                (blasint)p->n_rows, (blasint)n, 1.0f, p->work->act[0] + from,
                NM_LEAF, p->work->w[0] + from, NM_LEAF, 0.0f, product[0], ROWS);
    if (alone) pthread_mutex_unlock(&one_at_a_time);
}

/* ------------------------------------------------------------- leaves */

/* Loops over rows go over all ROWS, present or not: a constant count becomes
 * vectors, and rows that do not exist are not stored. */

static void add_rows(float *restrict a, const float *restrict b)
{
    for (int r = 0; r < ROWS; r++) a[r] += b[r];
}

/* a[r] += x[r] * factor */
static void add_scaled(float *restrict a, const float *restrict x, float factor)
{
    for (int r = 0; r < ROWS; r++) a[r] += x[r] * factor;
}

/* out[r] = x[r] * (d[r] * a) */
static void scale_rows(float *restrict out, const float *restrict x,
                       const float *restrict d, float a)
{
    for (int r = 0; r < ROWS; r++) out[r] = x[r] * (d[r] * a);
}

static void leaf_q4_k(const struct pass *p, uint32_t l, float leaf[COLS][ROWS])
{
    const struct scales *s = &p->scales;
    float(*one)[ROWS] = p->work->product[0], (*two)[ROWS] = p->work->product[1];
    multiply(p, 0, 128, one);
    multiply(p, 128, 128, two);
    for (uint32_t c = 0; c < p->n_cols; c++) {
        const struct act_q8_k *a = (const struct act_q8_k *)act_of(p, c) + l;
        float mins[ROWS] = {0}; /* sums of integers below 2^24: exact */
        for (int j = 0; j < 8; j++) {
            add_scaled(mins, s->min[j],
                       (float)(a->sum[2 * j] + a->sum[2 * j + 1]));
        }
        add_rows(one[c], two[c]);
        scale_rows(leaf[c], one[c], s->d[0], a->d);
        float minus[ROWS];
        scale_rows(minus, mins, s->dmin, -a->d); /* x - y is x + -y */
        add_rows(leaf[c], minus);
    }
}

static void leaf_q8_0(const struct pass *p, uint32_t l, float leaf[COLS][ROWS])
{
    float(*product)[ROWS] = p->work->product[0];
    const uint32_t left = p->job->k / 32 - 8 * l;
    for (uint32_t b = 0; b < left && b < 8; b++) {
        multiply(p, 32 * b, 32, product);
        const float *d = p->scales.d[b];
        for (uint32_t c = 0; c < p->n_cols; c++) {
            const struct act_q8_0 *a =
                (const struct act_q8_0 *)act_of(p, c) + 8 * l + b;
            if (b == 0) {
                scale_rows(leaf[c], product[c], d, a->d);
            } else {
                float t[ROWS];
                scale_rows(t, product[c], d, a->d);
                add_rows(leaf[c], t);
            }
        }
    }
}

static void run_pass(struct pass *p)
{
    const struct matmul_job *job = p->job;
    struct work *work = p->work;
    uint32_t top = 0;
    for (uint32_t l = 0; l < job->tree->n_leaves; l++) {
        for (uint32_t r = 0; r < p->n_rows; r++) expand_row(p, r, l);
        for (uint32_t c = 0; c < p->n_cols; c++) expand_act(p, c, l);
        if (p->type == QUANT_Q4_K) {
            leaf_q4_k(p, l, work->stack[top]);
        } else {
            leaf_q8_0(p, l, work->stack[top]);
        }
        for (uint32_t m = job->tree->merges[l]; m > 0; m--, top--) {
            for (uint32_t c = 0; c < p->n_cols; c++) {
                add_rows(work->stack[top - 1][c], work->stack[top][c]);
            }
        }
        top++;
    }
    for (uint32_t c = 0; c < p->n_cols; c++) {
        memcpy(job->y + (p->col + c) * job->y_stride + p->row,
               work->stack[0][c], p->n_rows * sizeof(float));
    }
}

static void run(const struct matmul_job *job, enum quant_type type,
                uint32_t group_rows)
{
    struct pass p = {
        .job = job,
        .type = type,
        .group_rows = group_rows,
        .group_bytes =
            ((size_t)quant_row_bytes(type, job->k) * group_rows + 63) / 64 * 64,
        .work = job->scratch,
    };
    const uint64_t rows = (uint64_t)job->group_end * group_rows;
    const uint32_t end = rows < job->n_rows ? (uint32_t)rows : job->n_rows;
    for (p.col = 0; p.col < job->n_cols; p.col += COLS) {
        const uint32_t left = job->n_cols - p.col;
        p.n_cols = left < COLS ? left : COLS;
        for (p.row = job->group_first * group_rows; p.row < end;
             p.row += ROWS) {
            p.n_rows = end - p.row < ROWS ? end - p.row : ROWS;
            run_pass(&p);
        }
    }
}

void matmul_blas_q4_k_x1(const struct matmul_job *job)
{
    run(job, QUANT_Q4_K, 1);
}

void matmul_blas_q4_k_x4(const struct matmul_job *job)
{
    run(job, QUANT_Q4_K, 4);
}

void matmul_blas_q4_k_x8(const struct matmul_job *job)
{
    run(job, QUANT_Q4_K, 8);
}

void matmul_blas_q8_0_x1(const struct matmul_job *job)
{
    run(job, QUANT_Q8_0, 1);
}

void matmul_blas_q8_0_x4(const struct matmul_job *job)
{
    run(job, QUANT_Q8_0, 4);
}

void matmul_blas_q8_0_x8(const struct matmul_job *job)
{
    run(job, QUANT_Q8_0, 8);
}

/* ------------------------------------------------------------- tuning */

bool kernels_blas_usable(void)
{
    const int parallel = openblas_get_parallel();
    if (parallel == OPENBLAS_THREAD) openblas_set_num_threads(1);
    return parallel != OPENBLAS_OPENMP;
}

/* Enough rows for whole panels, and K enough to be out of the start-up. */
#define TUNE_K    512u
#define TUNE_ROWS 64u
#define TUNE_COLS 128u
#define TUNE_GAIN 1.15

/* The fastest of three runs, in CPU seconds: other programs do not count.  One
 * run is enough if it takes a millisecond. */
static double fastest(void (*matmul)(const struct matmul_job *),
                      const struct matmul_job *job)
{
    double best = 1e9;
    for (int i = 0; i < 3 && (i == 0 || best < 1e-3); i++) {
        struct timespec a, b;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
        matmul(job);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
        const double t = (double)(b.tv_sec - a.tv_sec) +
                         1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        best = t < best ? t : best;
    }
    return best;
}

/* Weights and activations are all zero: these kernels take the same time
 * whatever the values are. */
static uint32_t measure(const struct kernel *kernel)
{
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
    uint32_t from = UINT32_MAX;
    if (w && act && scratch && job.y) {
        /* downwards while it pays: from that many on it does */
        for (job.n_cols = TUNE_COLS; job.n_cols >= 8; job.n_cols /= 2) {
            const double ours = fastest(kernel->matmul, &job);
            const double blas = fastest(kernel->matmul_blas, &job);
            if (ours < TUNE_GAIN * blas) break;
            from = job.n_cols;
        }
    }
    mem_free(job.y);
    mem_free(scratch);
    mem_free(act);
    mem_free(w);
    return from;
}

uint32_t kernels_tune(const struct kernel *kernel)
{
    /* 0: not measured yet; two threads at once measure the same twice */
    static _Atomic uint32_t known[QUANT_TYPE_END][ISA_END];
    if (!kernel->matmul_blas || !kernels_blas_usable()) return UINT32_MAX;
    _Atomic uint32_t *from = &known[kernel->type][kernel->isa];
    uint32_t value = atomic_load(from);
    if (value == 0) {
        value = measure(kernel);
        atomic_store(from, value);
    }
    return value;
}

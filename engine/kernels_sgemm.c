/* kernels_sgemm.c - OpenBLAS itself: its threads, and float products.
 *
 * Debian has it serial, with threads (pthread) and with OpenMP. Threads are
 * kept from working by openblas_set_num_threads(1), for the whole process; the
 * OpenMP build asks omp_get_max_threads() at each product, which is a setting
 * of the calling thread, so each thread sets its own. Nothing here names
 * OpenMP at link time: the symbol is there if that build is.
 *
 * The serial build has no lock around its list of buffers (Debian makes it
 * without USE_LOCKING): two threads that call it at once may get the same one,
 * and wrong products (tests/unit/test_blas.c saw it in four runs of five). So
 * there one thread multiplies at a time, while the others make floats. */
#include <cblas.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "engine/kernels_blas.h"
#include "engine/quant_f16.h"

void omp_set_num_threads(int n) __attribute__((weak));

bool kernels_blas_usable(void)
{
    static atomic_bool set;
    const int parallel = openblas_get_parallel();
    if (parallel == OPENBLAS_OPENMP) return omp_set_num_threads != NULL;
    if (parallel == OPENBLAS_THREAD && !atomic_exchange(&set, true)) {
        openblas_set_num_threads(1);
    }
    return true;
}

static pthread_mutex_t serial = PTHREAD_MUTEX_INITIALIZER;

void kernels_sgemm(const struct sgemm *g)
{
    static _Thread_local bool set;
    const int parallel = openblas_get_parallel();
    if (parallel == OPENBLAS_OPENMP && !set && omp_set_num_threads) {
        omp_set_num_threads(1);
        set = true;
    }
    if (parallel == OPENBLAS_SEQUENTIAL) pthread_mutex_lock(&serial);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)g->n_cols,
                (blasint)g->n_rows, (blasint)g->k, 1.0f, g->act,
                (blasint)g->act_stride, g->w, (blasint)g->w_stride,
                g->add ? 1.0f : 0.0f, g->y, (blasint)g->y_stride);
    if (parallel == OPENBLAS_SEQUENTIAL) pthread_mutex_unlock(&serial);
}

/* ------------------------------------------------------ float products */

#define ROWS 64u
#define K    1024u /* of a panel of weights as floats */
_Static_assert(sizeof(float) * ROWS * K <= KERNEL_SCRATCH, "fits the scratch");

/* n weights of a row from k on. */
static void expand(enum quant_type type, const uint8_t *row, uint32_t k,
                   float *w, uint32_t n)
{
    quant_dequantize_row(type, row + quant_row_bytes(type, k), w, n);
}

static void matmul(const struct matmul_job *job, enum quant_type type)
{
    const size_t row_bytes =
        ((size_t)quant_row_bytes(type, job->k) + 63) / 64 * 64;
    const uint32_t end =
        job->group_end < job->n_rows ? job->group_end : job->n_rows;
    float *w = job->scratch;
    for (uint32_t r = job->group_first; r < end; r += ROWS) {
        const uint32_t n_rows = end - r < ROWS ? end - r : ROWS;
        for (uint32_t k = 0; k < job->k; k += K) {
            const uint32_t n = job->k - k < K ? job->k - k : K;
            for (uint32_t i = 0; i < n_rows; i++) {
                expand(type, (const uint8_t *)job->w + (r + i) * row_bytes, k,
                       w + (size_t)i * K, n);
            }
            const struct sgemm g = {
                .act = (const float *)job->act + k,
                .w = w,
                .y = job->y + r,
                .act_stride = job->act_stride / sizeof(float),
                .w_stride = K,
                .y_stride = job->y_stride,
                .n_cols = job->n_cols,
                .n_rows = n_rows,
                .k = n,
                .add = k != 0,
            };
            kernels_sgemm(&g);
        }
    }
}

static void matmul_f32(const struct matmul_job *job)
{
    matmul(job, QUANT_F32);
}

static void matmul_f16(const struct matmul_job *job)
{
    matmul(job, QUANT_F16);
}

static void matmul_bf16(const struct matmul_job *job)
{
    matmul(job, QUANT_BF16);
}

matmul_fn *kernels_blas_float(enum quant_type type)
{
    if (type == QUANT_F32) return matmul_f32;
    if (type == QUANT_F16) return matmul_f16;
    return type == QUANT_BF16 ? matmul_bf16 : NULL;
}

/* kernels_blas.h - exact matrix products through OpenBLAS, and whether they
 * pay.
 *
 * Depends on: kernels, kernels_pack, OpenBLAS.  Thread: as said below.
 *
 * sgemm over integer-valued panels is exact while every partial sum stays
 * below 2^24, so it gives the bits of the integer kernels in any order of
 * summation (docs/NUMERICS.md 4).  Cost: each weight and activation becomes a
 * float first, which only many columns pay back. */
#ifndef ENGINE_KERNELS_BLAS_H
#define ENGINE_KERNELS_BLAS_H

#include "engine/kernels.h"

/* Groups of so many rows of any quantized type: 1 (canonical), 4, 8 or 16. */
void matmul_blas(const struct matmul_job *job, enum quant_type type,
                 uint32_t group_rows);
/* For the table entries; they need kernels_blas_usable(). */
void matmul_blas_q4_k_x4(const struct matmul_job *job);
void matmul_blas_q4_k_x8(const struct matmul_job *job);
void matmul_blas_q8_0_x4(const struct matmul_job *job);
void matmul_blas_q8_0_x8(const struct matmul_job *job);

/* Not exact: a float product of canonical F32, F16 or BF16 rows, in whatever
 * order OpenBLAS likes, for --numerics fast.  NULL for other types. */
typedef void matmul_fn(const struct matmul_job *job);
matmul_fn *kernels_blas_float(enum quant_type type);

/* Keeps OpenBLAS from starting threads of its own, or from using those it has
 * started.  False if it cannot be kept from it: then its products are right
 * but fight with our pool for the cores.  Any thread. */
bool kernels_blas_usable(void);
/* y[c][r] = (add ? y[c][r] : 0) + sum of act[c][i] w[r][i], i < k; strides in
 * floats. On the calling thread alone, whichever OpenBLAS there is. Any
 * thread. */
struct sgemm {
    const float *act, *w;
    float *y;
    size_t act_stride, w_stride, y_stride;
    uint32_t n_cols, n_rows, k;
    bool add;
};
void kernels_sgemm(const struct sgemm *g);

#endif

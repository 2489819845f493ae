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

/* One for each layout: canonical rows, groups of four and
 * of eight.  For the table
 * entries; they need kernels_blas_usable(). */
void matmul_blas_q4_k_x1(const struct matmul_job *job);
void matmul_blas_q4_k_x4(const struct matmul_job *job);
void matmul_blas_q4_k_x8(const struct matmul_job *job);
void matmul_blas_q8_0_x1(const struct matmul_job *job);
void matmul_blas_q8_0_x4(const struct matmul_job *job);
void matmul_blas_q8_0_x8(const struct matmul_job *job);

/* Keeps OpenBLAS from starting threads of its own.  False if it cannot be
 * kept from it (the OpenMP build counts threads per calling thread): then its
 * products are right but fight with our pool for the cores.  Any thread. */
bool kernels_blas_usable(void);

/* Whether threads may multiply at once; where not, matmul_blas makes them take
 * turns, which one thread does not notice and several do.  Any thread. */
bool kernels_blas_concurrent(void);

/* From how many columns on matmul_blas is at least 1.15 times as fast as
 * matmul on this machine; UINT32_MAX: never.  Measured once for each kernel,
 * in a few milliseconds, by the calling thread; remembered.  Any thread. */
uint32_t kernels_tune(const struct kernel *kernel);

#endif

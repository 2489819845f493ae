/* kernels_tune.h - whether products through OpenBLAS pay on this machine.
 *
 * Depends on: kernels, kernels_blas.  Thread: any; the caller measures.
 *
 * Each kernel is measured once in a process, in a few milliseconds, when a
 * matrix of its type is loaded first. */
#ifndef ENGINE_KERNELS_TUNE_H
#define ENGINE_KERNELS_TUNE_H

#include "engine/kernels.h"

enum tune_why {
    TUNE_NO_PANEL, /* the kernel has none */
    TUNE_UNUSABLE, /* OpenBLAS would use threads of its own */
    TUNE_NO_MEMORY,
    TUNE_SLOWER, /* less than 1.15 times as fast */
    TUNE_FASTER,
};

struct kernel_tuning {
    const struct kernel *kernel;
    enum tune_why why;
    uint32_t from;     /* columns from which the panel is used; UINT32_MAX */
    uint32_t n_cols;   /* what follows was measured with so many; or 0 */
    double ours, blas; /* multiply-adds a second of one thread */
};

/* From how many columns on the panel is at least 1.15 times as fast as the
 * kernel; UINT32_MAX: never.  fast: the float product, for --numerics fast. */
uint32_t kernels_tune(const struct kernel *kernel, bool fast);
/* The same with what it rests on. */
struct kernel_tuning kernels_tuning(const struct kernel *kernel, bool fast);
/* A word for it: "no panel", "unusable", "no memory", "slower", "faster". */
const char *tune_why_name(enum tune_why why);

#endif

/* kernels.h - matrix products: weights of any type times activations.
 *
 * Depends on: quant, act, numerics.  Thread: compute; kernels hold no state.
 *
 * A kernel belongs to one (weight type, ISA).  It says how it wants the rows
 * packed; the bytes are never more than the GGUF's own, up to whole groups.
 * Every kernel gives the bits of the reference kernel (kernels_ref.c), for
 * every batch size and every way of cutting rows; tests/unit/test_kernels.c
 * holds them to it. */
#ifndef ENGINE_KERNELS_H
#define ENGINE_KERNELS_H

#include "engine/act.h"
#include "engine/numerics.h"
#include "engine/quant.h"

/* Levels, ascending in what they ask for: a processor that has one can run
 * all below it of its architecture, which the kernels of each level may count
 * on.  Levels of all architectures are known everywhere, as a coordinator
 * plans for machines of any. */
enum isa {
    ISA_REF,         /* any processor */
    ISA_SSE4,        /* SSE4.1, SSSE3 */
    ISA_AVX,         /* AVX, whose integers have 128 bits */
    ISA_AVX2,        /* AVX2, F16C */
    ISA_AVXVNNI,     /* and 256-bit VNNI, in either encoding */
    ISA_AVX512VNNI,  /* and AVX-512 F, BW, DQ, VL, VNNI */
    ISA_NEON,        /* any 64-bit ARM processor */
    ISA_NEONDOTPROD, /* and dot products of bytes (ARMv8.2 and newer) */
    ISA_END
};

/* Columns are activation vectors ("rows" of a step); outputs are weight rows.
 *   y[c * y_stride + r] = dot(w row r, act column c)
 * for r in [group_first * rows, min(group_end * rows, n_rows)), c in
 * [0, n_cols).  Nothing else of y is written. */
struct matmul_job {
    const void *w;   /* packed; 64-byte aligned                  */
    const void *act; /* [n_cols][act_stride bytes]               */
    float *y;
    const struct nm_tree *tree; /* of k                               */
    void *scratch;     /* this thread's, KERNEL_SCRATCH bytes, 64-aligned */
    size_t act_stride; /* bytes, multiple of 64                    */
    size_t y_stride;   /* floats                                   */
    uint32_t k;        /* a multiple of the type's block           */
    uint32_t n_rows;   /* of the whole matrix                      */
    uint32_t group_first, group_end;
    uint32_t n_cols;
};

/* Enough for a dequantized row panel and its products. */
#define KERNEL_SCRATCH (512u * 1024u)

struct kernel {
    const char *name; /* "q4_k avx2" */
    enum quant_type type;
    enum isa isa;
    enum act_kind act;
    uint32_t rows; /* per group */
    /* n (<= rows) canonical rows of k weights, src_stride bytes apart, into
     * one group of kernel_group_bytes; missing rows become zeros. */
    void (*pack)(void *group, const void *src, size_t src_stride, uint32_t n,
                 uint32_t k);
    /* Row r (< rows) of a packed group to f32, as quant_dequantize_row would:
     * for embeddings that share their matrix with the head. */
    void (*unpack_row)(const void *group, uint32_t r, uint32_t k, float *dst);
    void (*matmul)(const struct matmul_job *job);
    /* The same product through OpenBLAS panels, exact; NULL if there is none.
     * Worth it only for many columns, where measured: kernels_tune(). */
    void (*matmul_blas)(const struct matmul_job *job);
};

/* Bytes of a packed group: rows * quant_row_bytes, rounded up to 64. */
size_t kernel_group_bytes(const struct kernel *kernel, uint32_t k);

/* The reference kernel of a type: canonical rows, one a group.  Never NULL
 * for a type that quant_info() knows. */
const struct kernel *kernel_ref(enum quant_type type);
/* The best kernel for the type at no more than this ISA.  For a level of
 * another architecture, one of this build with groups of as many rows, or
 * else of fewer: for its sizes. */
const struct kernel *kernel_select(enum quant_type type, enum isa isa);

/* What each file offers: NULL where it has none, or was not built for this
 * architecture. */
const struct kernel *kernels_sse4(enum quant_type type);
const struct kernel *kernels_avx(enum quant_type type);
const struct kernel *kernels_avx2(enum quant_type type);
/* The same code in two encodings: VEX (AVX-VNNI) and EVEX (AVX-512 VL). */
const struct kernel *kernels_avxvnni(enum quant_type type);
const struct kernel *kernels_avx512vl(enum quant_type type);
const struct kernel *kernels_avx512vnni(enum quant_type type);
const struct kernel *kernels_neon(enum quant_type type);
const struct kernel *kernels_neondotprod(enum quant_type type);

#endif

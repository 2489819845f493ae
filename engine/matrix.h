/* matrix.h - a weight matrix in memory, packed for this processor.
 *
 * Depends on: kernels, model, pool.  Thread: load and free one; matrix_mul
 * from the compute thread (it uses the pool).
 *
 * Packed bytes are the file's own, up to whole groups of rows. */
#ifndef ENGINE_MATRIX_H
#define ENGINE_MATRIX_H

#include "engine/kernels.h"
#include "engine/model.h"
#include "engine/pool.h"

struct matrix {
    const struct kernel *kernel; /* NULL: no matrix here */
    uint8_t *data;               /* whoever loaded it owns this */
    uint32_t n_rows, k;
    uint32_t n_groups;
    size_t group_bytes;
    uint32_t blas_from; /* columns from which the BLAS panel is faster */
    void (*matmul_blas)(const struct matmul_job *job); /* that panel; or NULL */
    struct nm_tree tree;
};

/* When the panel through OpenBLAS is used: the same bits either way. */
enum blas_use { BLAS_MEASURED, BLAS_NEVER, BLAS_ALWAYS };

/* Rows [first, end) of a matrix in the file. canonical: rows as in the file,
 * for a table that is only looked up (an embedding that is not the head). */
struct matrix_source {
    struct model_matrix from;
    uint32_t first, end;
    bool canonical;
};

/* Bytes that matrix_load fills; a multiple of 64. */
uint64_t matrix_bytes(const struct matrix_source *src, enum isa isa);

/* fast: F32, F16 and BF16 may go through OpenBLAS too, which changes bits.
 * Reads and packs on all threads of the pool, into data: matrix_bytes, aligned
 * to 64, the caller's, to stay while the matrix is in use.  May block on the
 * disk.  ST_NO_MEMORY, ST_IO, ST_TRUNCATED; *out is then untouched. */
NODISCARD enum status matrix_load(struct matrix *out, const struct gguf *g,
                                  const struct matrix_source *src, enum isa isa,
                                  enum blas_use blas, bool fast,
                                  struct pool *pool, void *data,
                                  struct error *err);

/* Bytes that a product reads; 0 where there is no matrix. */
static inline uint64_t matrix_size(const struct matrix *m)
{
    return m->kernel ? (uint64_t)m->n_groups * m->group_bytes : 0;
}

/* Row r to f32, [k]. */
void matrix_row(const struct matrix *m, uint32_t r, float *dst);

/* Products that share their activations run in one parallel region. */
struct matrix_product {
    const struct matrix *m;
    const void *act; /* [n_cols][act_stride] of m->kernel->act */
    size_t act_stride;
    float *y; /* [n_cols][y_stride] */
    size_t y_stride;
};
#define MATRIX_PRODUCTS_MAX 4

/* scratch: [threads of the pool] x KERNEL_SCRATCH bytes.  n_cols >= 1. */
void matrix_mul(struct pool *pool, void *scratch,
                const struct matrix_product *products, uint32_t n_products,
                uint32_t n_cols);

#endif

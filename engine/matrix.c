#include "engine/matrix.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "engine/kernels_blas.h"

/* Bytes a thread reads at once: enough for the disk, little for the cache. */
#define READ_CHUNK (1u << 20)

static const struct kernel *kernel_for(const struct matrix_source *src,
                                       enum isa isa)
{
    const enum quant_type type = (enum quant_type)src->from.tensor->type;
    return src->canonical ? kernel_ref(type) : kernel_select(type, isa);
}

static uint32_t groups_of(const struct matrix_source *src,
                          const struct kernel *kernel)
{
    return (src->end - src->first + kernel->rows - 1) / kernel->rows;
}

uint64_t matrix_bytes(const struct matrix_source *src, enum isa isa)
{
    const struct kernel *kernel = kernel_for(src, isa);
    return (uint64_t)groups_of(src, kernel) *
           kernel_group_bytes(kernel, src->from.k);
}

/* -------------------------------------------------------------- load */

struct load {
    const struct gguf *g;
    const struct matrix_source *src;
    struct matrix *m;
    size_t row_bytes;
    uint32_t groups_per_item;
    char *staging; /* [threads][staging_bytes] */
    size_t staging_bytes;
    pthread_mutex_t lock;
    enum status status; /* the first failure */
    struct error error;
};

static void load_item(void *arg, uint32_t item, uint32_t thread)
{
    struct load *load = arg;
    struct matrix *m = load->m;
    const uint32_t per_group = m->kernel->rows;
    char *staging = load->staging + thread * load->staging_bytes;
    const uint32_t first = item * load->groups_per_item * per_group;
    uint32_t n = load->groups_per_item * per_group;
    if (n > m->n_rows - first) n = m->n_rows - first;
    const uint64_t from =
        load->src->from.offset +
        (uint64_t)(load->src->first + first) * load->row_bytes;
    struct error err;
    const enum status st = gguf_read(load->g, load->src->from.tensor, from,
                                     staging, n * load->row_bytes, &err);
    if (st != ST_OK) {
        pthread_mutex_lock(&load->lock);
        if (load->status == ST_OK) {
            load->status = st;
            load->error = err;
        }
        pthread_mutex_unlock(&load->lock);
        return;
    }
    for (uint32_t r = 0; r < n; r += per_group) {
        uint8_t *group =
            m->data + (size_t)((first + r) / per_group) * m->group_bytes;
        m->kernel->pack(group, staging + r * load->row_bytes, load->row_bytes,
                        n - r < per_group ? n - r : per_group, m->k);
    }
}

static uint32_t floor_power_of_2(size_t v) /* 1 <= v < 2^32 */
{
    return 1u << (31 - __builtin_clz((uint32_t)v));
}

/* Enough for every thread, but no more than READ_CHUNK and as large as cells of
 * cell.h allow: reads are whole cells or do not straddle two, so that where
 * there is no file each is verified once, or at most once for each thread. */
static uint32_t groups_per_read(uint32_t n_groups, size_t group_bytes,
                                uint32_t n_threads)
{
    const uint32_t share = (n_groups + n_threads - 1) / n_threads;
    const uint32_t cell = floor_power_of_2(
        group_bytes < READ_CHUNK ? READ_CHUNK / group_bytes : 1);
    if (share >= cell) return cell;
    return n_groups <= cell ? share : floor_power_of_2(share);
}

static enum status read_all(struct load *load, struct pool *pool,
                            struct error *err)
{
    struct matrix *m = load->m;
    const size_t group = load->row_bytes * m->kernel->rows;
    const uint32_t n_threads = pool_n_threads(pool);
    load->groups_per_item = groups_per_read(m->n_groups, group, n_threads);
    load->staging_bytes = load->groups_per_item * group;
    load->staging = mem_zalloc_array(n_threads, load->staging_bytes);
    if (!load->staging) {
        return error_set(err, ST_NO_MEMORY, "buffers to read tensor %s",
                         load->src->from.tensor->name);
    }
    pthread_mutex_init(&load->lock, NULL);
    pool_run(pool, load_item, load,
             (m->n_groups + load->groups_per_item - 1) / load->groups_per_item);
    pthread_mutex_destroy(&load->lock);
    mem_free(load->staging);
    if (load->status != ST_OK && err) *err = load->error;
    return load->status;
}

enum status matrix_load(struct matrix *out, const struct gguf *g,
                        const struct matrix_source *src, enum isa isa,
                        enum blas_use blas, struct pool *pool,
                        struct error *err)
{
    struct matrix m = {
        .kernel = kernel_for(src, isa),
        .n_rows = src->end - src->first,
        .k = src->from.k,
        .blas_from = UINT32_MAX,
    };
    m.n_groups = groups_of(src, m.kernel);
    m.group_bytes = kernel_group_bytes(m.kernel, m.k);
    nm_tree_init(&m.tree, m.k);
    /* what was measured for one thread holds for several that need not wait */
    if (blas == BLAS_MEASURED && !src->canonical &&
        (pool_n_threads(pool) == 1 || kernels_blas_concurrent())) {
        m.blas_from = kernels_tune(m.kernel);
    }
    if (blas == BLAS_ALWAYS && m.kernel->matmul_blas && kernels_blas_usable()) {
        m.blas_from = 1;
    }
    size_t bytes;
    if (size_mul(m.n_groups, m.group_bytes, &bytes)) m.data = mem_alloc(bytes);
    if (!m.data) {
        return error_set(
            err, ST_NO_MEMORY, "tensor %s: %llu bytes are not to be had",
            src->from.tensor->name, (unsigned long long)matrix_bytes(src, isa));
    }
    struct load load = {
        .g = g,
        .src = src,
        .m = &m,
        .row_bytes = (size_t)quant_row_bytes(m.kernel->type, m.k),
    };
    const enum status st = read_all(&load, pool, err);
    if (st != ST_OK) {
        mem_free(m.data);
        return st;
    }
    *out = m;
    return ST_OK;
}

void matrix_fini(struct matrix *m)
{
    mem_free(m->data);
    *m = (struct matrix){0};
}

void matrix_row(const struct matrix *m, uint32_t r, float *dst)
{
    const uint32_t rows = m->kernel->rows;
    m->kernel->unpack_row(m->data + (size_t)(r / rows) * m->group_bytes,
                          r % rows, m->k, dst);
}

/* ---------------------------------------------------------- multiply */

struct mul {
    const struct matrix_product *products;
    uint32_t n_cols;
    uint32_t n_products;
    uint32_t groups_per_item[MATRIX_PRODUCTS_MAX];
    uint32_t first_item[MATRIX_PRODUCTS_MAX + 1];
    char *scratch;
};

static void mul_item(void *arg, uint32_t item, uint32_t thread)
{
    const struct mul *mul = arg;
    uint32_t i = 0;
    while (item >= mul->first_item[i + 1]) i++;
    const struct matrix_product *p = &mul->products[i];
    const struct matrix *m = p->m;
    const uint32_t first =
        (item - mul->first_item[i]) * mul->groups_per_item[i];
    uint32_t end = first + mul->groups_per_item[i];
    if (end > m->n_groups) end = m->n_groups;
    const struct matmul_job job = {
        .w = m->data,
        .act = p->act,
        .y = p->y,
        .tree = &m->tree,
        .scratch = mul->scratch + thread * (size_t)KERNEL_SCRATCH,
        .act_stride = p->act_stride,
        .y_stride = p->y_stride,
        .k = m->k,
        .n_rows = m->n_rows,
        .group_first = first,
        .group_end = end,
        .n_cols = mul->n_cols,
    };
    if (mul->n_cols >= m->blas_from)
        m->kernel->matmul_blas(&job);
    else
        m->kernel->matmul(&job);
}

void matrix_mul(struct pool *pool, void *scratch,
                const struct matrix_product *products, uint32_t n_products,
                uint32_t n_cols)
{
    assert(n_products >= 1 && n_products <= MATRIX_PRODUCTS_MAX);
    struct mul mul = {.products = products,
                      .n_cols = n_cols,
                      .n_products = n_products,
                      .scratch = scratch};
    /* Eight items a thread even out unequal cores; one thread wants none. */
    const uint32_t n_threads = pool_n_threads(pool);
    const uint32_t pieces = n_threads == 1 ? 1 : 8 * n_threads;
    for (uint32_t i = 0; i < n_products; i++) {
        const uint32_t groups = products[i].m->n_groups;
        const uint32_t per = (groups + pieces - 1) / pieces;
        mul.groups_per_item[i] = per;
        mul.first_item[i + 1] = mul.first_item[i] + (groups + per - 1) / per;
    }
    pool_run(pool, mul_item, &mul, mul.first_item[n_products]);
}

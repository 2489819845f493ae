#include "worker/probe.h"

#include <string.h>

#include "common/clock.h"
#include "common/rng.h"
#include "engine/bandwidth.h"

#define PROBE_BYTES  (48u << 20) /* past most caches */
#define SLICE_BYTES  (4u << 20)  /* of weights, between looks at the clock */
#define PROBE_K      4096
#define PROBE_COLS   16
#define BATCH_1_NS   UINT64_C(30000000)
#define BATCH_16_NS  UINT64_C(10000000)
#define READ_TIMES   5
#define MEMORY_SHARE 4 /* of a machine that offers little, this part */

struct probe {
    const struct shard_options *o;
    struct pool *pool;
    const struct vec_ops *vec;
    uint8_t *data; /* [bytes] weights */
    size_t bytes;
    float *x;  /* [PROBE_COLS][PROBE_K] */
    char *act; /* [PROBE_COLS][widest row] */
    char *scratch;
    float *y; /* [PROBE_COLS][rows that fit in data] */
    size_t y_rows;
};

/* Fill the buffer with packed groups of this kernel's type: one made of
 * quantized noise, and copies of it. */
static bool fill(struct probe *p, const struct kernel *kernel)
{
    const size_t group = kernel_group_bytes(kernel, PROBE_K);
    const size_t row = (size_t)quant_row_bytes(kernel->type, PROBE_K);
    char *rows = mem_zalloc_array(kernel->rows, row);
    if (!rows || group > p->bytes) {
        mem_free(rows);
        return false;
    }
    for (uint32_t r = 0; r < kernel->rows; r++) {
        quant_quantize_row(kernel->type, p->x + (r % PROBE_COLS) * PROBE_K,
                           rows + r * row, PROBE_K);
    }
    kernel->pack(p->data, rows, row, kernel->rows, PROBE_K);
    mem_free(rows);
    for (size_t at = group; at + group <= p->bytes; at += group) {
        memcpy(p->data + at, p->data, group);
    }
    return true;
}

static void multiply(struct probe *p, const struct kernel *kernel, size_t from,
                     size_t bytes, uint32_t n_cols)
{
    struct matrix m = {.kernel = kernel,
                       .data = p->data + from,
                       .k = PROBE_K,
                       .blas_from = UINT32_MAX};
    m.group_bytes = kernel_group_bytes(kernel, PROBE_K);
    m.n_groups = (uint32_t)(bytes / m.group_bytes);
    if (m.n_groups == 0) m.n_groups = 1;
    if (m.n_groups > p->y_rows / kernel->rows) {
        m.n_groups = (uint32_t)(p->y_rows / kernel->rows);
    }
    m.n_rows = m.n_groups * kernel->rows;
    nm_tree_init(&m.tree, PROBE_K);
    const struct matrix_product product = {
        .m = &m,
        .act = p->act,
        .act_stride = act_row_bytes(kernel->act, PROBE_K),
        .y = p->y,
        .y_stride = p->y_rows,
    };
    matrix_mul(p->pool, p->scratch, &product, 1, n_cols);
}

/* Bytes of weights a second for one column: through the whole buffer, slice
 * after slice, or as far as time allows. */
static double stream_rate(struct probe *p, const struct kernel *kernel)
{
    const size_t group = kernel_group_bytes(kernel, PROBE_K);
    const size_t slice =
        SLICE_BYTES < p->bytes ? SLICE_BYTES / group * group : group;
    size_t done = 0, at = 0;
    multiply(p, kernel, 0, group, 1); /* wakes the threads */
    const uint64_t start = clock_now_ns();
    uint64_t now = start;
    while (now - start < BATCH_1_NS) {
        if (at + slice > p->bytes) at = 0;
        multiply(p, kernel, at, slice, 1);
        at += slice;
        done += slice;
        now = clock_now_ns();
    }
    return (double)done * 1e9 / (double)(now - start);
}

/* Multiply-adds a second for many columns: twice the weights, until it takes
 * long enough to be believed. */
static double compute_rate(struct probe *p, const struct kernel *kernel)
{
    const size_t group = kernel_group_bytes(kernel, PROBE_K);
    for (size_t n = pool_n_threads(p->pool);; n *= 2) {
        const uint64_t start = clock_now_ns();
        multiply(p, kernel, 0, n * group, PROBE_COLS);
        const uint64_t ns = clock_now_ns() - start;
        const bool last =
            2 * n * kernel->rows > p->y_rows || 2 * n * group > p->bytes;
        if (ns < BATCH_16_NS && !last) continue;
        return (double)(n * kernel->rows) * PROBE_K * PROBE_COLS * 1e9 /
               (double)(ns ? ns : 1);
    }
}

static void measure_type(struct probe *p, enum quant_type type,
                         struct wire_report *report)
{
    const struct kernel *kernel = kernel_select(type, p->o->isa);
    struct wire_rate *rate = &report->rates[report->n_rates];
    if (!fill(p, kernel)) return;
    for (uint32_t c = 0; c < PROBE_COLS; c++) {
        p->vec->act_quantize(kernel->act, p->x + c * PROBE_K, PROBE_K,
                             p->act + c * act_row_bytes(kernel->act, PROBE_K));
    }
    *rate = (struct wire_rate){.type = (uint32_t)type,
                               .bytes_per_s = stream_rate(p, kernel),
                               .macs_per_s = compute_rate(p, kernel)};
    report->n_rates++;
}

static bool make_buffers(struct probe *p)
{
    size_t widest = 0;
    for (int kind = 0; kind < ACT_KIND_END; kind++) {
        const size_t n = act_row_bytes((enum act_kind)kind, PROBE_K);
        if (n > widest) widest = n;
    }
    p->y_rows = 16384;
    p->data = mem_alloc(p->bytes);
    p->x = mem_zalloc_array(PROBE_COLS * PROBE_K, sizeof *p->x);
    p->act = mem_zalloc_array(PROBE_COLS, widest);
    p->y = mem_zalloc_array(PROBE_COLS * p->y_rows, sizeof *p->y);
    p->scratch = mem_zalloc_array(p->o->n_threads, KERNEL_SCRATCH);
    return p->data && p->x && p->act && p->y && p->scratch;
}

uint32_t probe_types(const struct wire_probe *p)
{
    uint32_t types = 0;
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        bool wanted = p->n_types == 0;
        for (uint32_t i = 0; i < p->n_types; i++) {
            wanted = wanted || p->types[i] == t;
        }
        if (wanted && quant_info((enum quant_type)t)) types |= 1u << t;
    }
    return types;
}

void probe_measure(const struct shard_options *o, uint32_t types,
                   struct wire_report *report)
{
    struct probe p = {.o = o, .bytes = PROBE_BYTES};
    struct rng rng = {1};
    report->read_bytes_per_s = 0;
    if (o->memory_max != 0 && o->memory_max / MEMORY_SHARE < p.bytes) {
        p.bytes = (size_t)(o->memory_max / MEMORY_SHARE) / 64 * 64;
    }
    if (pool_create(&p.pool, o->n_threads, NULL) == ST_OK && make_buffers(&p)) {
        p.vec = vec_ops_select(o->isa);
        for (size_t i = 0; i < PROBE_COLS * PROBE_K; i++) {
            p.x[i] = (float)(2 * rng_unit(rng_u64(&rng)) - 1);
        }
        memset(p.data, 1, p.bytes);
        report->read_bytes_per_s =
            bandwidth_read(p.pool, p.data, p.bytes, READ_TIMES);
        for (uint32_t t = 0;
             t < QUANT_TYPE_END && report->n_rates < LIMIT_RATES; t++) {
            if (types >> t & 1) measure_type(&p, (enum quant_type)t, report);
        }
    }
    mem_free(p.data);
    mem_free(p.x);
    mem_free(p.act);
    mem_free(p.y);
    mem_free(p.scratch);
    pool_free(p.pool);
}

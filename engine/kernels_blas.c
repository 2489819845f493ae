/* kernels_blas.c - panels of 64 rows times up to 96 columns, leaf by leaf.
 *
 * For every leaf the weights become floats with their integer scales folded
 * in, [rows][256], the activations floats, [cols][256]; sgemm multiplies them
 * in parts of so many k that no sum reaches 2^24 (part_of()), and the f16
 * scales follow as the definition says.  Each part has an output of its own:
 * adding onto C inside sgemm could round between. */
#include "engine/kernels_blas.h"

#include <string.h>

#include "engine/kernels_pack.h"
#include "engine/quant_f16.h"

#define ROWS 64
#define COLS 96

/* What a leaf needs besides the panels. */
struct scales {
    float d[NM_LEAF / 32][ROWS]; /* blocks of 256: d[0], dmin[0] */
    float dmin[NM_LEAF / 32][ROWS];
    float min[16][ROWS]; /* of each 16 weights (Q4_K: 32), as floats */
};

struct work {
    float w[ROWS][NM_LEAF];
    float act[COLS][NM_LEAF];
    float product[2][COLS][ROWS];
    float stack[NM_DEPTH_MAX][COLS][ROWS];
    int32_t sum[COLS][ROWS];
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

/* The number of weights whose products with activations surely stay below
 * 2^24, scales folded in: times 127 the largest |sc q| is, by type,
 *   Q2_K 15 * 3   Q3_K 32 * 4   Q5_K 63 * 31   Q6_K 128 * 32   IQ4_XS 32 * 127
 */
static uint32_t part_of(enum quant_type type)
{
    if (type == QUANT_Q2_K || type == QUANT_Q3_K) return 256;
    if (type == QUANT_Q4_K) return 128; /* 63 * 15 */
    return type == QUANT_Q5_K ? 64 : 32;
}

static void expand_q4_k(struct pass *p, uint32_t r, const uint8_t *bytes)
{
    struct scales *s = &p->scales;
    float *w = p->work->w[r];
    struct block_q4_k block;
    memcpy(&block, bytes, sizeof block);
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
    s->dmin[0][r] = f16_to_f32_inline(block.dmin);
}

/* Block j of the leaf, any type. */
static void expand_block(struct pass *p, uint32_t r, uint32_t j,
                         const uint8_t *bytes)
{
    const struct quant_info *info = quant_info(p->type);
    struct scales *s = &p->scales;
    float *w = p->work->w[r] + 32 * (size_t)j;
    struct quant_block block;
    quant_block_read(p->type, bytes, &block);
    s->d[j][r] = f16_to_f32_inline(block.d);
    if (info->with_min) s->dmin[j][r] = f16_to_f32_inline(block.dmin);
    if (info->block == 32) {
        for (int i = 0; i < 32; i++) w[i] = (float)block.q[i];
        return;
    }
    for (uint32_t i = 0; i < 16; i++) { /* sixteen weights share scales */
        const int sc = block.sc[16 * i / info->sub];
        for (uint32_t n = 16 * i; n < 16 * i + 16; n++) {
            w[n] = (float)(sc * block.q[n]);
        }
        if (info->with_min) s->min[i][r] = (float)block.m[16 * i / info->sub];
    }
}

/* Row r of the pass, weights of leaf l as integers with scales folded in. */
static void expand_row(struct pass *p, uint32_t r, uint32_t l)
{
    const uint32_t block = quant_info(p->type)->block;
    const uint32_t row = p->row + r, n_blocks = p->job->k / block;
    const uint32_t per_leaf = NM_LEAF / block;
    const uint8_t *group =
        (const uint8_t *)p->job->w + row / p->group_rows * p->group_bytes;
    for (uint32_t b = per_leaf * l, j = 0; b < n_blocks && j < per_leaf;
         b++, j++) {
        uint8_t bytes[256];
        packed_block(p->type, p->group_rows, group, row % p->group_rows, b,
                     n_blocks, bytes);
        if (p->type == QUANT_Q4_K) {
            expand_q4_k(p, r, bytes);
        } else {
            expand_block(p, r, j, bytes);
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
    if (quant_info(p->type)->block == NM_LEAF) {
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

/* The products of weights [from, from + n) of the leaf. */
static void multiply(const struct pass *p, uint32_t from, uint32_t n,
                     float product[COLS][ROWS])
{
    const struct sgemm g = {
        .act = p->work->act[0] + from,
        .w = p->work->w[0] + from,
        .y = product[0],
        .act_stride = NM_LEAF,
        .w_stride = NM_LEAF,
        .y_stride = ROWS,
        .n_cols = p->n_cols,
        .n_rows = p->n_rows,
        .k = n,
    };
    kernels_sgemm(&g);
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
        scale_rows(minus, mins, s->dmin[0], -a->d); /* x - y is x + -y */
        add_rows(leaf[c], minus);
    }
}

/* The other blocks of 256: parts add up as integers. */
static void leaf_256(const struct pass *p, uint32_t l, float leaf[COLS][ROWS])
{
    const struct scales *s = &p->scales;
    float(*product)[ROWS] = p->work->product[0];
    int32_t(*sum)[ROWS] = p->work->sum;
    const uint32_t n = part_of(p->type);
    for (uint32_t from = 0; from < NM_LEAF; from += n) {
        multiply(p, from, n, product);
        for (uint32_t c = 0; c < p->n_cols; c++) {
            for (int r = 0; r < ROWS; r++) {
                const int32_t before = from ? sum[c][r] : 0;
                sum[c][r] = before + (int32_t)product[c][r];
            }
        }
    }
    for (uint32_t c = 0; c < p->n_cols; c++) {
        const struct act_q8_k *a = (const struct act_q8_k *)act_of(p, c) + l;
        float total[ROWS];
        for (int r = 0; r < ROWS; r++) total[r] = (float)sum[c][r];
        scale_rows(leaf[c], total, s->d[0], a->d);
        if (!quant_info(p->type)->with_min) continue;
        float mins[ROWS] = {0}, minus[ROWS];
        for (int j = 0; j < 16; j++) {
            add_scaled(mins, s->min[j], (float)a->sum[j]);
        }
        scale_rows(minus, mins, s->dmin[0], -a->d);
        add_rows(leaf[c], minus);
    }
}

static void leaf_32(const struct pass *p, uint32_t l, float leaf[COLS][ROWS])
{
    float(*product)[ROWS] = p->work->product[0];
    const bool with_min = quant_info(p->type)->with_min;
    const uint32_t left = p->job->k / 32 - 8 * l;
    for (uint32_t b = 0; b < left && b < 8; b++) {
        multiply(p, 32 * b, 32, product);
        for (uint32_t c = 0; c < p->n_cols; c++) {
            const struct act_q8_0 *a =
                (const struct act_q8_0 *)act_of(p, c) + 8 * l + b;
            float t[ROWS];
            scale_rows(t, product[c], p->scales.d[b], a->d);
            if (with_min) {
                add_scaled(t, p->scales.dmin[b], -(a->d * (float)a->sum));
            }
            if (b == 0) {
                memcpy(leaf[c], t, sizeof t);
            } else {
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
        } else if (quant_info(p->type)->block == NM_LEAF) {
            leaf_256(p, l, work->stack[top]);
        } else {
            leaf_32(p, l, work->stack[top]);
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

void matmul_blas(const struct matmul_job *job, enum quant_type type,
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

void matmul_blas_q4_k_x4(const struct matmul_job *job)
{
    matmul_blas(job, QUANT_Q4_K, 4);
}

void matmul_blas_q4_k_x8(const struct matmul_job *job)
{
    matmul_blas(job, QUANT_Q4_K, 8);
}

void matmul_blas_q8_0_x4(const struct matmul_job *job)
{
    matmul_blas(job, QUANT_Q8_0, 4);
}

void matmul_blas_q8_0_x8(const struct matmul_job *job)
{
    matmul_blas(job, QUANT_Q8_0, 8);
}

/* wide.h - products with many columns (simd.h).
 *
 * A tile of simd.h unpacks the weights again for every few columns.  With many
 * columns it pays to unpack them once: a leaf of WIDE_GROUPS groups becomes
 * bytes, one quad vector for every four k, with its scales as the inner loop
 * wants them.  All columns meet it there, in the first cache, and one
 * broadcast of four activations serves the rows of all the groups.
 *
 * What a column has summed up so far, the tree's stack, waits in the thread's
 * scratch behind the leaf.  Unpacked, the types of a kind are alike, so the
 * loops exist once for each kind:
 *
 *   wide_k    256-blocks: integer scales, one for `chain` quads; minima that
 *             are taken off as integers (offsets) or as floats
 *   wide_32   32-blocks: float scales, perhaps float minima
 *
 * Both are the expressions of NUMERICS 4, as the tiles are. */
#ifndef ENGINE_WIDE_H
#define ENGINE_WIDE_H

#include "engine/simd.h"

#ifdef LEVEL

#define WIDE_GROUPS 2
/* Columns of a tile: accumulators and sums of all groups in registers where
 * there are 32, accumulators alone where there are 16. */
#if LEVEL_BITS == 512 || defined(__aarch64__)
#define WIDE_COLS 6
#else
#define WIDE_COLS 4
#endif
/* Columns from which unpacking once is worth its stores. */
#define WIDE_FROM (3 * TILE_COLS)

#define WIDE_SCALES 32 /* at most, of a leaf: one for two quads */

/* A leaf of one group. */
struct wide_leaf {
    vi quad[64];           /* unsigned weights of k = 4i .. 4i + 3, [row][4] */
    vi scale[WIDE_SCALES]; /* wide_k: as v_add_scaled() takes them */
    vi min[8]; /* wide_k: int16 [row][2], what a sum is multiplied with */
    vf d[8];   /* wide_k: d[0] */
    vf m[8];   /* wide_k: m[0] is dmin */
};

/* A walk over all leaves of WIDE_GROUPS groups for some columns. */
struct wide {
    const struct matmul_job *job;
    struct wide_leaf *leaf; /* [WIDE_GROUPS] */
    float *stack;           /* [level][n_cols][WIDE_GROUPS][V_ROWS] */
    uint32_t first, n_cols; /* columns of this walk */
    uint32_t row;           /* the first of the first group */
    uint32_t l, top;        /* leaf, and partial sums so far */
    int offset;             /* wide_32: of the unsigned weights */
};

/* Leaf x->l of the group at w. */
typedef void wide_unpack_fn(const struct matmul_job *job, const uint8_t *w,
                            uint32_t l, struct wide_leaf *leaf);
/* The leaf times 1 .. WIDE_COLS columns from col on. */
typedef void wide_tile_fn(const struct wide *x, uint32_t col);

static ALWAYS_INLINE float *wide_level(const struct wide *x, uint32_t level,
                                       uint32_t col)
{
    const size_t cols = (size_t)level * x->n_cols + (col - x->first);
    return x->stack + cols * (WIDE_GROUPS * V_ROWS);
}

/* Column col's leaf values onto the stack, or, the last, to y. */
static ALWAYS_INLINE void wide_push(const struct wide *x, uint32_t col,
                                    vf leaf[WIDE_GROUPS])
{
    const struct matmul_job *job = x->job;
    const uint32_t merges = job->tree->merges[x->l];
    for (uint32_t m = 1; m <= merges; m++) {
        const float *below = wide_level(x, x->top - m, col);
        UNROLL
        for (int g = 0; g < WIDE_GROUPS; g++) {
            leaf[g] = vf_add(vf_load(below + g * V_ROWS), leaf[g]);
        }
    }
    float *to = wide_level(x, x->top - merges, col);
    UNROLL
    for (int g = 0; g < WIDE_GROUPS; g++) vf_store(to + g * V_ROWS, leaf[g]);
}

/* ------------------------------------------------------- sums of products */

/* With VNNI a chain of quads is summed up in int32, else in int16, where what
 * each kind's chain may add fits. */
#ifdef V_QUADS
typedef vi wide_sum;
static ALWAYS_INLINE wide_sum wide_zero(void)
{
    return v_zero();
}
static ALWAYS_INLINE wide_sum v_dot_chain(wide_sum acc, vi w, vi q)
{
    return v_dot_u8(acc, w, q);
}
static ALWAYS_INLINE vi v_add_scaled(vi sum, vi acc, vi scale)
{
    return v_add32(sum, v_mul32(acc, scale));
}
/* As v_add_scaled() wants them: from V_ROWS bytes, and from int16 [row][2]. */
static ALWAYS_INLINE vi v_scales_u8(const uint8_t *p)
{
    return v_u8_to_32(p);
}
static ALWAYS_INLINE vi v_first_scale(vi pairs)
{
    return v_signed_right32(v_left32(pairs, 16), 16);
}
static ALWAYS_INLINE vi v_second_scale(vi pairs)
{
    return v_signed_right32(pairs, 16);
}
#else
typedef vp wide_sum;
static ALWAYS_INLINE wide_sum wide_zero(void)
{
    return vp_zero();
}
static ALWAYS_INLINE wide_sum v_dot_chain(wide_sum acc, vi w, vi q)
{
    return vp_dot(acc, w, q);
}
static ALWAYS_INLINE vi v_add_scaled(vi sum, wide_sum acc, vi scale)
{
    return v_add32(sum, v_madd16(vp_pairs(acc), scale));
}
static ALWAYS_INLINE vi v_scales_u8(const uint8_t *p)
{
    return v_u8_twice(p);
}
static ALWAYS_INLINE vi v_first_scale(vi pairs)
{
    static const int8_t order[16] = {0, 1, 0, 1, 4,  5,  4,  5,
                                     8, 9, 8, 9, 12, 13, 12, 13};
    return v_shuffle8(pairs, v_lanes(order));
}
static ALWAYS_INLINE vi v_second_scale(vi pairs)
{
    static const int8_t order[16] = {2,  3,  2,  3,  6,  7,  6,  7,
                                     10, 11, 10, 11, 14, 15, 14, 15};
    return v_shuffle8(pairs, v_lanes(order));
}
#endif

/* `chain` quads from quad i on, of nc columns whose q begin at q[n], added to
 * acc[][]. */
static ALWAYS_INLINE void wide_chain(const struct wide_leaf *w, int i,
                                     const int8_t *const *q, int nc, int chain,
                                     wide_sum acc[WIDE_COLS][WIDE_GROUPS])
{
    UNROLL
    for (int c = 0; c < chain; c++) {
        UNROLL
        for (int n = 0; n < nc; n++) {
            const vi four = v_quad(q[n] + 4 * (i + c));
            UNROLL
            for (int g = 0; g < WIDE_GROUPS; g++) {
                acc[n][g] = v_dot_chain(acc[n][g], w[g].quad[i + c], four);
            }
        }
    }
}

static ALWAYS_INLINE void wide_fill(vi sum[WIDE_COLS][WIDE_GROUPS], int n, vi x)
{
    UNROLL
    for (int g = 0; g < WIDE_GROUPS; g++) sum[n][g] = x;
}

static ALWAYS_INLINE void wide_clear(wide_sum acc[WIDE_COLS][WIDE_GROUPS],
                                     int nc)
{
    UNROLL
    for (int n = 0; n < nc; n++) {
        UNROLL
        for (int g = 0; g < WIDE_GROUPS; g++) acc[n][g] = wide_zero();
    }
}

/* ------------------------------------------------------------ 256-blocks */

/* Constants after inlining. */
struct wide_kind {
    int chain;      /* quads that have one scale, and stay in one sum */
    bool sums_32;   /* minima belong to 32 weights, not to 16 */
    bool float_min; /* d * sum - dmin * mins, not d * (sum - mins) */
};

static ALWAYS_INLINE void wide_k_leaf(const struct wide *x, uint32_t col,
                                      const struct act_q8_k *a,
                                      struct wide_kind kind,
                                      const vi sum[WIDE_GROUPS])
{
    int16_t sums[8];
    if (kind.sums_32) sums_of_32(a, sums);
    const int16_t *s = kind.sums_32 ? sums : a->sum;
    const vf ad = vf_set(a->d);
    vf leaf[WIDE_GROUPS];
    UNROLL
    for (int g = 0; g < WIDE_GROUPS; g++) {
        const struct wide_leaf *w = x->leaf + g;
        vi mins = v_zero();
        const int n_pairs = kind.sums_32 ? 4 : 8;
        for (int i = 0; i < n_pairs; i++) {
            mins = v_dot_i16(mins, w->min[i], two_sums(s + 2 * i));
        }
        const vf da = vf_mul(w->d[0], ad);
        if (kind.float_min) {
            leaf[g] = vf_sub(vf_mul(vf_of_i32(sum[g]), da),
                             vf_mul(vf_of_i32(mins), vf_mul(w->m[0], ad)));
        } else {
            leaf[g] = vf_mul(vf_of_i32(v_sub32(sum[g], mins)), da);
        }
    }
    wide_push(x, col, leaf);
}

static ALWAYS_INLINE void wide_k(const struct wide *x, uint32_t col, int nc,
                                 struct wide_kind kind)
{
    const struct act_q8_k *a[WIDE_COLS];
    const int8_t *q[WIDE_COLS];
    const struct wide_leaf *w = x->leaf;
    vi sum[WIDE_COLS][WIDE_GROUPS];
    UNROLL
    for (int n = 0; n < nc; n++) {
        a[n] = act_of(x->job, col + (uint32_t)n);
        a[n] += x->l;
        q[n] = a[n]->q;
        wide_fill(sum, n, v_zero());
    }
    for (int j = 0; j < 64 / kind.chain; j++) {
        wide_sum acc[WIDE_COLS][WIDE_GROUPS];
        wide_clear(acc, nc);
        wide_chain(w, kind.chain * j, q, nc, kind.chain, acc);
        UNROLL
        for (int n = 0; n < nc; n++) {
            UNROLL
            for (int g = 0; g < WIDE_GROUPS; g++) {
                sum[n][g] = v_add_scaled(sum[n][g], acc[n][g], w[g].scale[j]);
            }
        }
    }
    UNROLL
    for (int n = 0; n < nc; n++) {
        wide_k_leaf(x, col + (uint32_t)n, a[n], kind, sum[n]);
    }
}

/* ------------------------------------------------------------- 32-blocks */

/* The int32 sums of block b. */
static ALWAYS_INLINE void wide_32_sums(const struct wide *x, int b,
                                       const struct act_q8_0 *const *a, int nc,
                                       int chain,
                                       vi sum[WIDE_COLS][WIDE_GROUPS])
{
    const int8_t *q[WIDE_COLS];
    UNROLL
    for (int n = 0; n < nc; n++) q[n] = a[n]->q - 32 * b;
#ifdef V_QUADS
    (void)chain;
    UNROLL
    for (int n = 0; n < nc; n++) {
        wide_fill(sum, n, v_set32(-x->offset * a[n]->sum));
    }
    wide_chain(x->leaf, 8 * b, q, nc, 8, sum);
#else
    UNROLL
    for (int n = 0; n < nc; n++) {
        wide_fill(sum, n, v_set32(-x->offset * a[n]->sum));
    }
    UNROLL
    for (int c = 0; c < 8; c += chain) {
        wide_sum acc[WIDE_COLS][WIDE_GROUPS];
        wide_clear(acc, nc);
        wide_chain(x->leaf, 8 * b + c, q, nc, chain, acc);
        UNROLL
        for (int n = 0; n < nc; n++) {
            UNROLL
            for (int g = 0; g < WIDE_GROUPS; g++) {
                sum[n][g] = v_add_scaled(sum[n][g], acc[n][g], v_set16(1));
            }
        }
    }
#endif
}

static ALWAYS_INLINE void wide_32(const struct wide *x, uint32_t col, int nc,
                                  struct wide_kind kind)
{
    const struct act_q8_0 *a[WIDE_COLS];
    const struct wide_leaf *w = x->leaf;
    vf leaf[WIDE_COLS][WIDE_GROUPS]; /* -0 + t is t, whatever t */
    UNROLL
    for (int n = 0; n < nc; n++) {
        a[n] = act_of(x->job, col + (uint32_t)n);
        a[n] += 8 * x->l;
        UNROLL
        for (int g = 0; g < WIDE_GROUPS; g++) leaf[n][g] = vf_set(-0.0f);
    }
    const int left = (int)(x->job->k / 32 - 8 * x->l);
    const int nb = left < 8 ? left : 8;
    for (int b = 0; b < nb; b++) {
        vi sum[WIDE_COLS][WIDE_GROUPS];
        wide_32_sums(x, b, a, nc, kind.chain, sum);
        UNROLL
        for (int n = 0; n < nc; n++) {
            const vf ad = vf_set(a[n]->d);
            const vf s = vf_set(a[n]->d * (float)a[n]->sum);
            UNROLL
            for (int g = 0; g < WIDE_GROUPS; g++) {
                vf t = vf_mul(vf_of_i32(sum[n][g]), vf_mul(w[g].d[b], ad));
                if (kind.float_min) t = vf_add(t, vf_mul(w[g].m[b], s));
                leaf[n][g] = vf_add(leaf[n][g], t);
            }
            a[n]++;
        }
    }
    UNROLL
    for (int n = 0; n < nc; n++) wide_push(x, col + (uint32_t)n, leaf[n]);
}

/* ----------------------------------------------------------------- walk */

/* The tiles of a kind: tiles_wide_ID[n] has n columns. */
#define WIDE_TILE(id, body, kind, n)                                           \
    static void wide_##id##_##n(const struct wide *x, uint32_t col)            \
    {                                                                          \
        body(x, col, n, kind);                                                 \
    }
#if WIDE_COLS == 6
#define WIDE_TILES(id, body, ...)                                              \
    static const struct wide_kind kind_wide_##id = __VA_ARGS__;                \
    WIDE_TILE(id, body, kind_wide_##id, 1)                                     \
    WIDE_TILE(id, body, kind_wide_##id, 2)                                     \
    WIDE_TILE(id, body, kind_wide_##id, 3)                                     \
    WIDE_TILE(id, body, kind_wide_##id, 4)                                     \
    WIDE_TILE(id, body, kind_wide_##id, 5)                                     \
    WIDE_TILE(id, body, kind_wide_##id, 6)                                     \
    static wide_tile_fn *const tiles_wide_##id[] = {                           \
        NULL,          wide_##id##_1, wide_##id##_2, wide_##id##_3,            \
        wide_##id##_4, wide_##id##_5, wide_##id##_6};
#else
#define WIDE_TILES(id, body, ...)                                              \
    static const struct wide_kind kind_wide_##id = __VA_ARGS__;                \
    WIDE_TILE(id, body, kind_wide_##id, 1)                                     \
    WIDE_TILE(id, body, kind_wide_##id, 2)                                     \
    WIDE_TILE(id, body, kind_wide_##id, 3)                                     \
    WIDE_TILE(id, body, kind_wide_##id, 4)                                     \
    static wide_tile_fn *const tiles_wide_##id[] = {                           \
        NULL, wide_##id##_1, wide_##id##_2, wide_##id##_3, wide_##id##_4};
#endif

/* How a type goes: its leaves unpacked, its kind's tiles. */
struct wide_type {
    wide_unpack_fn *unpack;
    wide_tile_fn *const *tiles;
    int offset;
};

/* What is unpacked next comes while the columns meet this leaf. */
static ALWAYS_INLINE void wide_prefetch(const uint8_t *w, size_t n)
{
    for (size_t i = 0; i < n; i += 64) {
        __builtin_prefetch(w + i);
    }
}

static void wide_leaves(struct wide *x, const struct wide_type *type,
                        const uint8_t *w, size_t group_bytes, int n_groups)
{
    const size_t leaf_bytes = group_bytes / x->job->tree->n_leaves;
    x->top = 0;
    for (x->l = 0; x->l < x->job->tree->n_leaves; x->l++) {
        for (int g = 0; g < n_groups; g++) {
            const uint8_t *from = w + (size_t)g * group_bytes;
            wide_prefetch(from + (x->l + 1) * leaf_bytes, leaf_bytes);
            type->unpack(x->job, from, x->l, x->leaf + g);
        }
        uint32_t c = 0;
        for (; c + WIDE_COLS <= x->n_cols; c += WIDE_COLS) {
            type->tiles[WIDE_COLS](x, x->first + c);
        }
        if (c < x->n_cols) type->tiles[x->n_cols - c](x, x->first + c);
        x->top += 1 - x->job->tree->merges[x->l];
    }
}

/* Rows of n_groups groups from x->row on, out of the stack. */
static void wide_store(const struct wide *x, int n_groups)
{
    const struct matmul_job *job = x->job;
    const uint32_t left = job->n_rows - x->row;
    const uint32_t rows = (uint32_t)n_groups * V_ROWS;
    for (uint32_t c = 0; c < x->n_cols; c++) {
        memcpy(job->y + (x->first + c) * job->y_stride + x->row,
               wide_level(x, 0, x->first + c),
               (left < rows ? left : rows) * sizeof(float));
    }
}

/* Partial sums alive at once, NUMERICS 1. */
static uint32_t wide_levels(const struct nm_tree *tree)
{
    uint32_t most = 0, top = 0;
    for (uint32_t l = 0; l < tree->n_leaves; l++) {
        top += 1 - tree->merges[l];
        if (top > most) most = top;
    }
    return most;
}

static void walk_wide(const struct matmul_job *job, size_t group_bytes,
                      const struct wide_type *type)
{
    struct wide x = {.job = job, .leaf = job->scratch, .offset = type->offset};
    const size_t leaf_bytes = WIDE_GROUPS * sizeof(struct wide_leaf);
    x.stack = (float *)(void *)((char *)job->scratch + leaf_bytes);
    const size_t column =
        wide_levels(job->tree) * WIDE_GROUPS * V_ROWS * sizeof(float);
    const uint32_t most = (uint32_t)((KERNEL_SCRATCH - leaf_bytes) / column);
    for (x.first = 0; x.first < job->n_cols; x.first += x.n_cols) {
        const uint32_t left = job->n_cols - x.first;
        x.n_cols = left < most ? left : most / WIDE_COLS * WIDE_COLS;
        for (uint32_t g = job->group_first; g < job->group_end;
             g += WIDE_GROUPS) {
            /* an odd last one: the other half of the leaf is stale */
            const int n = job->group_end - g < WIDE_GROUPS
                              ? (int)(job->group_end - g)
                              : WIDE_GROUPS;
            x.row = g * V_ROWS;
            wide_leaves(&x, type, (const uint8_t *)job->w + g * group_bytes,
                        group_bytes, n);
            wide_store(&x, n);
        }
    }
}

#endif
#endif

/* kernels_pack.c - between canonical rows and row-interleaved groups.
 *
 * One walk per family, in both directions: `out` says whether the group is
 * read or written, so that packing and unpacking cannot disagree. */
#include "engine/kernels_pack.h"

#include <stdbool.h>
#include <string.h>

#include "engine/numerics.h"

/* Where one row's bytes stand in a group. */
struct place {
    uint8_t *group;
    uint32_t rows, r;
    bool out; /* from the group to the canonical block */
};

static void move(const struct place *at, size_t offset, void *canonical,
                 size_t n)
{
    if (at->out) {
        memcpy(canonical, at->group + offset, n);
    } else {
        memcpy(at->group + offset, canonical, n);
    }
}

/* n bytes as quad vectors that start at offset, `step` vectors apart. */
static void move_quads(const struct place *at, size_t offset, uint8_t *bytes,
                       uint32_t n, uint32_t step)
{
    const size_t vector = 4 * (size_t)at->rows;
    for (uint32_t c = 0; c < n / 4; c++) {
        move(at, offset + c * step * vector + 4 * (size_t)at->r, bytes + 4 * c,
             4);
    }
}

/* ------------------------------------------------ blocks of 32 weights */

/* Bits 16h + 4c + b of x to 8b + 4h + c, and back. */
static void turn_fifth_bits(uint8_t x[4], bool out)
{
    uint8_t y[4] = {0};
    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t to = i % 4 * 8 + i / 16 * 4 + i % 16 / 4;
        const uint32_t a = out ? to : i, b = out ? i : to;
        y[b / 8] |= (uint8_t)((x[a / 8] >> a % 8 & 1) << b % 8);
    }
    memcpy(x, y, sizeof y);
}

/* All have their one or two f16 first, then bytes of quants. */
static void move_block_32(const struct place *at, enum quant_type type,
                          uint32_t b, uint32_t n_blocks, uint8_t *canonical)
{
    const uint32_t per_leaf = NM_LEAF / 32;
    const uint32_t leaf = b / per_leaf, in_leaf = b % per_leaf;
    const uint32_t left = n_blocks - leaf * per_leaf;
    const uint32_t nb = left < per_leaf ? left : per_leaf;
    const size_t block_bytes = quant_info(type)->block_bytes;
    const bool five = type == QUANT_Q5_0 || type == QUANT_Q5_1;
    const size_t scales = quant_info(type)->with_min ? 2 : 1;
    const size_t quants = block_bytes - 2 * scales;
    const size_t rows = at->rows;

    size_t offset = (size_t)leaf * per_leaf * block_bytes * rows;
    for (size_t i = 0; i < scales; i++) {
        move(at, offset + 2 * (in_leaf * rows + at->r), canonical + 2 * i, 2);
        offset += 2 * nb * rows;
    }
    uint8_t *bytes = canonical + 2 * scales;
    if (five && !at->out) turn_fifth_bits(bytes, false);
    move_quads(at, offset + in_leaf * quants * rows, bytes, (uint32_t)quants,
               1);
    if (five && at->out) turn_fifth_bits(bytes, true);
}

/* ---------------------------------------------------------- Q4_K, Q5_K */

/* The six-bit number at a place: four bits in a nibble of low[], two in
 * high[].  shift: 0 for sc, 4 for m. */
static void move_six_bits(const struct place *at, uint8_t *low, uint32_t p,
                          uint32_t shift, uint8_t *value)
{
    const uint32_t half = 4 * at->rows;
    uint8_t *high = low + 8 * (size_t)at->rows + p % half;
    const uint32_t high_shift = (p < half ? 0u : 4u) + shift / 2;
    if (at->out) {
        *value =
            (uint8_t)((low[p] >> shift & 15) | (*high >> high_shift & 3) << 4);
    } else {
        low[p] =
            (uint8_t)((low[p] & ~(15u << shift)) | (*value & 15u) << shift);
        *high = (uint8_t)((*high & ~(3u << high_shift)) |
                          (uint32_t)(*value >> 4) << high_shift);
    }
}

/* A canonical block: d, dmin, scales[12], quants (qh and qs, or qs). */
static void move_q4_q5_k(const struct place *at, uint32_t b, size_t bytes,
                         uint8_t *block)
{
    const size_t rows = at->rows;
    const size_t offset = b * bytes * rows;
    move(at, offset + 2 * at->r, block, 2);
    move(at, offset + 2 * rows + 2 * at->r, block + 2, 2);

    uint8_t sc[8] = {0}, m[8] = {0};
    if (!at->out) quant_q4_k_scales(block + 4, sc, m);
    uint8_t *low = at->group + offset + 4 * rows;
    for (uint32_t j = 0; j < 8; j++) {
        move_six_bits(at, low, j * at->rows + at->r, 0, sc + j);
        move_six_bits(at, low, j / 2 * 2 * at->rows + 2 * at->r + j % 2, 4,
                      m + j);
    }
    if (at->out) quant_q4_k_join_scales(sc, m, block + 4);
    move_quads(at, offset + 16 * rows, block + 16, (uint32_t)bytes - 16, 1);
}

/* ------------------------------------------------- Q2_K, Q3_K, IQ4_XS */

/* n bits of a byte, between a value and a place in the group. */
static void move_bits(const struct place *at, uint8_t *byte, uint32_t shift,
                      uint32_t n, uint32_t value_shift, uint8_t *value)
{
    const uint32_t mask = (1u << n) - 1;
    if (at->out) {
        *value |= (uint8_t)(((uint32_t)*byte >> shift & mask) << value_shift);
    } else {
        *byte = (uint8_t)(((uint32_t)*byte & ~(mask << shift)) |
                          ((uint32_t)*value >> value_shift & mask) << shift);
    }
}

static void move_q2_k(const struct place *at, uint32_t b,
                      struct block_q2_k *block)
{
    const uint32_t rows = at->rows;
    const size_t offset = (size_t)b * sizeof *block * rows;
    move(at, offset + 2 * at->r, &block->d, 2);
    move(at, offset + 2 * rows + 2 * at->r, &block->dmin, 2);
    uint8_t *scales = at->group + offset + 4 * rows;
    if (at->out) memset(block->scales, 0, sizeof block->scales);
    for (uint32_t j = 0; j < 16; j++) {
        const uint32_t single = j * rows + at->r;
        const uint32_t paired = j / 2 * 2 * rows + 2 * at->r + j % 2;
        uint8_t sc = block->scales[j] & 15, m = block->scales[j] >> 4;
        move_bits(at, scales + single, 0, 4, 0, &sc);
        move_bits(at, scales + paired, 4, 4, 0, &m);
        block->scales[j] = (uint8_t)(sc | m << 4);
    }
    move_quads(at, offset + 20 * rows, block->qs, 64, 1);
}

/* The six-bit scale of place p: four bits at low[p % n_low], two at
 * high[p % n_high], ascending. */
static void move_split_scale(const struct place *at, uint8_t *low,
                             uint32_t n_low, uint8_t *high, uint32_t n_high,
                             uint32_t p, uint8_t *sc)
{
    move_bits(at, low + p % n_low, 4 * (p / n_low), 4, 0, sc);
    move_bits(at, high + p % n_high, 2 * (p / n_high), 2, 4, sc);
}

/* Scale j as its layout has it, 0..63, in a zeroed or whole block. */
static void move_q3_k(const struct place *at, uint32_t b, uint32_t n_blocks,
                      struct block_q3_k *block)
{
    const uint32_t rows = at->rows;
    const size_t bytes = sizeof *block - 2; /* without d */
    const size_t offset = b * bytes * rows;
    const struct place in = {.out = false}, out = {.out = true};
    move(at, n_blocks * bytes * rows + 2 * (b * (size_t)rows + at->r),
         &block->d, 2);
    uint8_t *low = at->group + offset, *high = low + 8 * (size_t)rows;
    if (at->out) memset(block->scales, 0, sizeof block->scales);
    for (uint32_t j = 0; j < 16; j++) {
        uint8_t *four = block->scales + j % 8, *two = block->scales + 8 + j % 4;
        uint8_t sc = 0;
        if (!at->out) {
            move_bits(&out, four, 4 * (j / 8), 4, 0, &sc);
            move_bits(&out, two, 2 * (j / 4), 2, 4, &sc);
        }
        move_split_scale(at, low, 8 * rows, high, 4 * rows,
                         j / 2 * 2 * rows + 2 * at->r + j % 2, &sc);
        if (at->out) {
            move_bits(&in, four, 4 * (j / 8), 4, 0, &sc);
            move_bits(&in, two, 2 * (j / 4), 2, 4, &sc);
        }
    }
    move_quads(at, offset + 12 * rows, block->hmask, 32, 1);
    move_quads(at, offset + 44 * rows, block->qs, 64, 1);
}

static void move_iq4_xs(const struct place *at, uint32_t b,
                        struct block_iq4_xs *block)
{
    const uint32_t rows = at->rows;
    const size_t offset = (size_t)b * sizeof *block * rows;
    move(at, offset + 2 * at->r, &block->d, 2);
    uint8_t *high = at->group + offset + 2 * rows, *low = high + 2 * rows;
    uint32_t scales_h = at->out ? 0 : block->scales_h;
    if (at->out) memset(block->scales_l, 0, sizeof block->scales_l);
    for (uint32_t j = 0; j < 8; j++) {
        uint8_t *four = block->scales_l + j / 2;
        uint8_t sc = 0;
        if (!at->out) {
            sc = (uint8_t)((*four >> 4 * (j % 2) & 15) | (scales_h >> 2 * j & 3)
                                                             << 4);
        }
        move_split_scale(at, low, 4 * rows, high, 2 * rows, j * rows + at->r,
                         &sc);
        if (at->out) {
            *four |= (uint8_t)((sc & 15) << 4 * (j % 2));
            scales_h |= (uint32_t)(sc >> 4) << 2 * j;
        }
    }
    block->scales_h = (uint16_t)scales_h;
    move_quads(at, offset + 8 * rows, block->qs, 128, 1);
}

/* ---------------------------------------------------------------- Q6_K */

static void move_q6_k(const struct place *at, uint32_t b, uint32_t n_blocks,
                      struct block_q6_k *block)
{
    const size_t rows = at->rows;
    const size_t bytes = sizeof *block - 2; /* without d */
    const size_t offset = b * bytes * rows;
    move(at, n_blocks * bytes * rows + 2 * (b * rows + at->r), &block->d, 2);
    for (size_t j = 0; j < 16; j++) {
        move(at, offset + (j / 2 * rows + at->r) * 2 + j % 2, block->scales + j,
             1);
    }
    for (size_t h = 0; h < 2; h++) {
        const size_t quads = offset + (16 + 96 * h) * rows;
        move_quads(at, quads, block->ql + 64 * h, 32, 3);
        move_quads(at, quads + 4 * rows, block->ql + 64 * h + 32, 32, 3);
        move_quads(at, quads + 8 * rows, block->qh + 32 * h, 32, 3);
    }
}

/* -------------------------------------------------------------- common */

static void move_block(const struct place *at, enum quant_type type, uint32_t b,
                       uint32_t n_blocks, void *block)
{
    if (type == QUANT_Q4_K || type == QUANT_Q5_K) {
        move_q4_q5_k(at, b, quant_info(type)->block_bytes, block);
    } else if (type == QUANT_Q2_K) {
        move_q2_k(at, b, block);
    } else if (type == QUANT_Q3_K) {
        move_q3_k(at, b, n_blocks, block);
    } else if (type == QUANT_IQ4_XS) {
        move_iq4_xs(at, b, block);
    } else if (type == QUANT_Q6_K) {
        move_q6_k(at, b, n_blocks, block);
    } else {
        move_block_32(at, type, b, n_blocks, block);
    }
}

/* Any of the blocks, aligned. */
union any_block {
    struct block_q6_k q6_k;
    uint8_t bytes[210];
};

void pack_rows(enum quant_type type, uint32_t rows, void *group,
               const void *src, size_t src_stride, uint32_t n, uint32_t k)
{
    const struct quant_info *info = quant_info(type);
    const uint32_t n_blocks = k / info->block;
    if (n == rows && pack_rows_fast(type, rows, group, src, src_stride, k)) {
        return;
    }
    if (n < rows) memset(group, 0, (size_t)quant_row_bytes(type, k) * rows);
    for (uint32_t r = 0; r < n; r++) {
        const struct place at = {.group = group, .rows = rows, .r = r};
        const uint8_t *row = (const uint8_t *)src + r * src_stride;
        for (uint32_t b = 0; b < n_blocks; b++) {
            union any_block block;
            memcpy(&block, row + (size_t)b * info->block_bytes,
                   info->block_bytes);
            move_block(&at, type, b, n_blocks, &block);
        }
    }
}

void packed_block(enum quant_type type, uint32_t rows, const void *group,
                  uint32_t r, uint32_t b, uint32_t n_blocks, void *block)
{
    if (rows == 1) {
        const size_t bytes = quant_info(type)->block_bytes;
        memcpy(block, (const uint8_t *)group + b * bytes, bytes);
        return;
    }
    const struct place at = {.group = (uint8_t *)(uintptr_t)group,
                             .rows = rows,
                             .r = r,
                             .out = true};
    move_block(&at, type, b, n_blocks, block);
}

void unpack_row(enum quant_type type, uint32_t rows, const void *group,
                uint32_t r, uint32_t k, float *dst)
{
    const struct quant_info *info = quant_info(type);
    const uint32_t n_blocks = k / info->block;
    for (uint32_t b = 0; b < n_blocks; b++) {
        union any_block block;
        packed_block(type, rows, group, r, b, n_blocks, &block);
        quant_dequantize_row(type, &block, dst + (size_t)b * info->block,
                             info->block);
    }
}

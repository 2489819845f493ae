/* kernels_pack.h - row-interleaved weight layouts, shared by the kernels of
 * every instruction set.
 *
 * Depends on: quant.  Thread: any.
 *
 * A group holds R rows (4, 8 or 16) so that one vector has the same k of every
 * row: accumulators need no horizontal sums, and one broadcast activation
 * serves R rows.  A *quad vector* is R * 4 bytes: four consecutive bytes of
 * row 0, then of row 1, ...  Bytes are never more than the canonical rows',
 * and every quad vector starts at a multiple of its own size, except in a last
 * leaf shorter than 256 weights.
 *
 * 32-blocks, per leaf of nb (8, in the last leaf perhaps fewer) blocks:
 *     f16 d[nb][R]      Q4_1, Q5_1: then f16 m[nb][R]
 *     quad vectors, in ascending byte of the block (8 a block, or 4 where
 *     they are nibbles: low nibbles k = 4c.., high ones k = 16 + 4c..)
 *     Q5_0, Q5_1: one more before them, the fifth bits: byte b has at bit
 *     4h + c that of k = 16h + 4c + b, so that a shift by c brings a quad's
 * Q4_K, per block:
 *     f16 d[R], dmin[R]
 *     u8 low[8R]    low nibbles: sc & 15; high nibbles: m & 15
 *     u8 high[4R]   bits 0-1 sc >> 4 and 2-3 m >> 4 of place p, bits 4-5 and
 *                   6-7 the same of place p + 4R
 *     32 quad vectors, in ascending byte of qs
 *     where place p of sc is (j, row) = (p / R, p % R), and place p of m is
 *     (j, row) = (p / 2R * 2 + p % 2, p % 2R / 2): minima come in pairs
 * Q5_K, per block: as Q4_K, with 8 quad vectors of qh before those of qs
 * Q2_K, per block:
 *     f16 d[R], dmin[R]
 *     u8 scales[16R]  low nibbles: sc of place p = j R + row; high nibbles: m
 *                     of place p = j / 2 * 2R + row * 2 + j % 2, in pairs
 *     16 quad vectors, in ascending byte of qs
 * Q3_K, all blocks first, then all f16 d[block][R]; per block:
 *     u8 low[8R], high[4R]  four and two bits of sc: of place p at low[p % 8R]
 *                     and high[p % 4R], ascending from bit 0; places in pairs
 *     8 quad vectors of hmask, 16 of qs
 * IQ4_XS, per block:
 *     f16 d[R]
 *     u8 high[2R]     two bits of sc of place p = j R + row at high[p % 2R]
 *     u8 low[4R]      four bits at low[p % 4R], ascending from bit 0
 *     32 quad vectors, in ascending byte of qs
 * Q6_K, all blocks first, then all f16 d[block][R]; per block:
 *     i8 scales[8][R][2]: sub-blocks 2i and 2i + 1 side by side
 *     per half h and c = 0 .. 7 three quad vectors: ql[64h + 4c ..],
 *     ql[64h + 32 + 4c ..], qh[32h + 4c ..] */
#ifndef ENGINE_KERNELS_PACK_H
#define ENGINE_KERNELS_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/quant.h"

/* n (<= rows) canonical rows of k weights of the type, src_stride bytes apart,
 * into a group; missing rows become zeros.  rows: 4, 8 or 16. */
void pack_rows(enum quant_type type, uint32_t rows, void *group,
               const void *src, size_t src_stride, uint32_t n, uint32_t k);
/* The same for a group without missing rows, many times as fast: Q8_0, Q4_0,
 * Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, IQ4_NL.  False, and nothing is done, for
 * the others.  pack_rows() calls it. */
bool pack_rows_fast(enum quant_type type, uint32_t rows, void *group,
                    const void *src, size_t src_stride, uint32_t k);
/* Row r of a group as quant_dequantize_row() gives it. */
void unpack_row(enum quant_type type, uint32_t rows, const void *group,
                uint32_t r, uint32_t k, float *dst);
/* Block b of row r, canonical; the block must have room for the type's.  Also
 * takes rows == 1: a canonical row. */
void packed_block(enum quant_type type, uint32_t rows, const void *group,
                  uint32_t r, uint32_t b, uint32_t n_blocks, void *block);

#endif

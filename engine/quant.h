/* quant.h - block layouts of the GGUF weight types, and their reference
 * quantizers and dequantizers.
 *
 * Depends on: common.  Thread: any.
 *
 * The layouts are ggml's (files in the wild fix them); each is a struct with
 * its size asserted, and tests/golden holds recorded vectors beside them.
 * Whatever its layout, a block of any type is the numbers of a struct
 * quant_block, which is what reference kernels and quantizers work on:
 * quant_block.c alone knows where the bits are. */
#ifndef ENGINE_QUANT_H
#define ENGINE_QUANT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

/* Values are GGUF's tensor type numbers. */
enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_Q4_0 = 2,
    QUANT_Q4_1 = 3,
    QUANT_Q5_0 = 6,
    QUANT_Q5_1 = 7,
    QUANT_Q8_0 = 8,
    QUANT_Q2_K = 10,
    QUANT_Q3_K = 11,
    QUANT_Q4_K = 12,
    QUANT_Q5_K = 13,
    QUANT_Q6_K = 14,
    QUANT_IQ4_NL = 20,
    QUANT_IQ4_XS = 23,
    QUANT_BF16 = 30,
    QUANT_TYPE_END = 31
};

/* w = d * (q - 8); q[i] and q[i + 16] are the low and high nibble of qs[i]. */
struct block_q4_0 {
    uint16_t d; /* f16 */
    uint8_t qs[16];
};
_Static_assert(sizeof(struct block_q4_0) == 18, "ggml block_q4_0");

/* w = d * q + m; nibbles as in q4_0. */
struct block_q4_1 {
    uint16_t d, m; /* f16 */
    uint8_t qs[16];
};
_Static_assert(sizeof(struct block_q4_1) == 20, "ggml block_q4_1");

/* w = d * (q - 16); low four bits as in q4_0, bit i of qh (little-endian) is
 * the fifth of weight i. */
struct block_q5_0 {
    uint16_t d; /* f16 */
    uint8_t qh[4];
    uint8_t qs[16];
};
_Static_assert(sizeof(struct block_q5_0) == 22, "ggml block_q5_0");

/* w = d * q + m; bits as in q5_0. */
struct block_q5_1 {
    uint16_t d, m; /* f16 */
    uint8_t qh[4];
    uint8_t qs[16];
};
_Static_assert(sizeof(struct block_q5_1) == 24, "ggml block_q5_1");

/* w = d * q. */
struct block_q8_0 {
    uint16_t d; /* f16 */
    int8_t qs[32];
};
_Static_assert(sizeof(struct block_q8_0) == 34, "ggml block_q8_0");

/* w = d * quant_iq4_values[q]; nibbles as in q4_0. */
struct block_iq4_nl {
    uint16_t d; /* f16 */
    uint8_t qs[16];
};
_Static_assert(sizeof(struct block_iq4_nl) == 18, "ggml block_iq4_nl");

/* 256 weights in 16 sub-blocks of 16: w = (d * sc_j) * q - (dmin * m_j), q two
 * bits; scales[j] = sc_j | m_j << 4.  Weight 128h + 32p + l is at bits 2p of
 * qs[32h + l]. */
struct block_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d, dmin; /* f16 */
};
_Static_assert(sizeof(struct block_q2_k) == 84, "ggml block_q2_K");

/* 256 weights in 16 sub-blocks of 16: w = (d * (sc_j - 32)) * (q - 4), q three
 * bits.  The low two of weight 128h + 32p + l are at bits 2p of qs[32h + l],
 * the third is bit 4h + p of hmask[l].  sc_j is six bits: four in nibble j / 8
 * of scales[j % 8], two at bits 2 (j / 4) of scales[8 + j % 4]. */
struct block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d; /* f16 */
};
_Static_assert(sizeof(struct block_q3_k) == 110, "ggml block_q3_K");

/* 256 weights in 8 sub-blocks of 32: w = (d * sc_j) * q - (dmin * m_j).
 * Sub-blocks 2i and 2i + 1 are the low and high nibbles of qs[32i..32i+31].
 * scales packs 8 six-bit sc and 8 six-bit m: quant_q4_k_scales() unpacks. */
struct block_q4_k {
    uint16_t d, dmin; /* f16 */
    uint8_t scales[12];
    uint8_t qs[128];
};
_Static_assert(sizeof(struct block_q4_k) == 144, "ggml block_q4_K");

/* As q4_k with a fifth bit: bit j of qh[l] for weight l of sub-block j. */
struct block_q5_k {
    uint16_t d, dmin; /* f16 */
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};
_Static_assert(sizeof(struct block_q5_k) == 176, "ggml block_q5_K");

/* 256 weights in 16 sub-blocks of 16: w = (d * sc_j) * (q - 32), q six bits.
 * For each half h of 128 weights and l in 0..31, with ql = &ql[64h],
 * qh = qh[32h + l]:
 *   weight 128h + l      = ql[l]      & 15 | (qh      & 3) << 4
 *   weight 128h + l + 32 = ql[l + 32] & 15 | (qh >> 2 & 3) << 4
 *   weight 128h + l + 64 = ql[l]      >> 4 | (qh >> 4 & 3) << 4
 *   weight 128h + l + 96 = ql[l + 32] >> 4 | (qh >> 6 & 3) << 4  */
struct block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d; /* f16 */
};
_Static_assert(sizeof(struct block_q6_k) == 210, "ggml block_q6_K");

/* 256 weights in 8 sub-blocks of 32: w = (d * (sc_j - 32)) *
 * quant_iq4_values[q].  Sub-block j has its nibbles in qs[16j .. 16j + 15], as
 * q4_0 has. sc_j is six bits: four in nibble j % 2 of scales_l[j / 2], two at
 * bits 2j of scales_h. */
struct block_iq4_xs {
    uint16_t d; /* f16 */
    uint16_t scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
};
_Static_assert(sizeof(struct block_iq4_xs) == 136, "ggml block_iq4_xs");

/* What the nibbles of the IQ4 types mean, ascending. */
extern const int8_t quant_iq4_values[16];

struct quant_info {
    const char *name; /* "Q4_K"; NULL: a type we do not know */
    uint32_t block;   /* weights per block */
    uint32_t block_bytes;
    uint32_t sub;               /* weights that share a scale (and a minimum) */
    bool with_min;              /* dmin and m mean something */
    int16_t q_lo, q_hi;         /* of quant_block.q */
    int16_t sc_lo, sc_hi, m_hi; /* of its sc and m; 256-blocks only */
};

/* A block of any type but the float ones, as numbers:
 *     w_i = (d * sc_j) * q_i - (dmin * m_j),  j = i / sub
 * q, sc and m with the offsets of the layout already taken off, q of the IQ4
 * types looked up.  32-blocks have sc = 1, and m = 1 if they have a minimum,
 * whose sign dmin turns. */
struct quant_block {
    uint16_t d, dmin; /* f16 */
    int8_t sc[16];
    uint8_t m[16];
    int8_t q[256];
};

/* Between bytes (unaligned) and numbers; exact both ways.  Numbers must be in
 * the ranges that quant_info gives (IQ4: in the table). */
void quant_block_read(enum quant_type type, const void *src,
                      struct quant_block *b);
void quant_block_write(enum quant_type type, const struct quant_block *b,
                       void *dst);

/* NULL if the type is unknown or not built. */
const struct quant_info *quant_info(uint32_t type);
/* A name for messages, known to us or not ("IQ3_S", "type 99"). */
const char *quant_name(uint32_t type);
/* By name, any case; false if there is none. */
NODISCARD bool quant_by_name(const char *name, enum quant_type *out);
/* Bytes of a row of k weights; 0 if k is not a multiple of the block. */
uint64_t quant_row_bytes(enum quant_type type, uint64_t k);

/* k weights of one row to f32; exact arithmetic as the struct comments say,
 * each product and sum rounded once to f32.  src may be unaligned. */
void quant_dequantize_row(enum quant_type type, const void *src, float *dst,
                          uint64_t k);
/* The reference quantizer: round to nearest, plain scales (largest magnitude,
 * or minimum and maximum).  k must be a multiple of the block.  Tests use it;
 * files are made by quantize.h, which looks for better scales. */
void quant_quantize_row(enum quant_type type, const float *src, void *dst,
                        uint64_t k);

/* The eight six-bit scales and minima of a q4_k or q5_k block. */
void quant_q4_k_scales(const uint8_t packed[12], uint8_t sc[8], uint8_t m[8]);
/* And back: six bits each. */
void quant_q4_k_join_scales(const uint8_t sc[8], const uint8_t m[8],
                            uint8_t packed[12]);

/* IEEE binary16; to f16 rounds to nearest even, overflows to infinity. */
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);
/* bfloat16; to bf16 rounds to nearest even. */
float bf16_to_f32(uint16_t h);
uint16_t f32_to_bf16(float f);

#endif

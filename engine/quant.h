/* quant.h - block layouts of the GGUF weight types, and their reference
 * quantizers and dequantizers.
 *
 * Depends on: common.  Thread: any.
 *
 * The layouts are ggml's (files in the wild fix them); each is a struct with
 * its size asserted, and tests/golden holds recorded vectors beside them. */
#ifndef ENGINE_QUANT_H
#define ENGINE_QUANT_H

#include <stdint.h>

#include "common/status.h"

/* Values are GGUF's tensor type numbers. */
enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_Q4_0 = 2,
    QUANT_Q4_1 = 3,
    QUANT_Q8_0 = 8,
    QUANT_Q4_K = 12,
    QUANT_Q6_K = 14,
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

/* w = d * q. */
struct block_q8_0 {
    uint16_t d; /* f16 */
    int8_t qs[32];
};
_Static_assert(sizeof(struct block_q8_0) == 34, "ggml block_q8_0");

/* 256 weights in 8 sub-blocks of 32: w = (d * sc_j) * q - (dmin * m_j).
 * Sub-blocks 2i and 2i + 1 are the low and high nibbles of qs[32i..32i+31].
 * scales packs 8 six-bit sc and 8 six-bit m: quant_q4_k_scales() unpacks. */
struct block_q4_k {
    uint16_t d, dmin; /* f16 */
    uint8_t scales[12];
    uint8_t qs[128];
};
_Static_assert(sizeof(struct block_q4_k) == 144, "ggml block_q4_K");

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

struct quant_info {
    const char *name; /* "Q4_K"; NULL: a type we do not know */
    uint32_t block;   /* weights per block */
    uint32_t block_bytes;
};

/* NULL if the type is unknown or not built. */
const struct quant_info *quant_info(uint32_t type);
/* A name for messages, known to us or not ("Q5_K", "type 99"). */
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
 * or minimum and maximum).  k must be a multiple of the block. */
void quant_quantize_row(enum quant_type type, const float *src, void *dst,
                        uint64_t k);

/* The eight six-bit scales and minima of a q4_k block. */
void quant_q4_k_scales(const uint8_t packed[12], uint8_t sc[8], uint8_t m[8]);

/* IEEE binary16; to f16 rounds to nearest even, overflows to infinity. */
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);
/* bfloat16; to bf16 rounds to nearest even. */
float bf16_to_f32(uint16_t h);
uint16_t f32_to_bf16(float f);

#endif

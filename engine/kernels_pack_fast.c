/* kernels_pack_fast.c - whole groups of the types that most files have, a
 * block of every row at a time and words instead of bytes.
 *
 * What matters is the transposition of R rows of four-byte words; scales are
 * placed through 64-bit words. kernels_pack.c says what the bytes must be, and
 * tests/unit/test_pack.c compares the two. Everything here is baseline code:
 * reading the file and the first touch of its memory cost more. */
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "common/compiler.h"
#include "engine/kernels_pack.h"
#include "engine/numerics.h"

#define ROWS_MAX 16

/* One block of each row: where it stands, and what goes where. */
struct rows {
    const uint8_t *src; /* the block of row 0 */
    size_t stride;      /* from row to row */
    uint32_t n;         /* a constant, once inlined */
};

static ALWAYS_INLINE const uint8_t *row(const struct rows *from, uint32_t r)
{
    return from->src + r * from->stride;
}

static ALWAYS_INLINE uint32_t load_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Four words of each of four rows to four quarters of quad vectors, which are
 * `step` bytes apart. */
static ALWAYS_INLINE void turn_4x4(uint8_t *dst, size_t step,
                                   const uint8_t *src, size_t stride)
{
#if defined(__SSE2__)
    __m128i x[4], y[4];
    for (int i = 0; i < 4; i++) {
        x[i] = _mm_loadu_si128((const void *)(src + (size_t)i * stride));
    }
    y[0] = _mm_unpacklo_epi32(x[0], x[1]);
    y[1] = _mm_unpacklo_epi32(x[2], x[3]);
    y[2] = _mm_unpackhi_epi32(x[0], x[1]);
    y[3] = _mm_unpackhi_epi32(x[2], x[3]);
    _mm_storeu_si128((void *)dst, _mm_unpacklo_epi64(y[0], y[1]));
    _mm_storeu_si128((void *)(dst + step), _mm_unpackhi_epi64(y[0], y[1]));
    _mm_storeu_si128((void *)(dst + 2 * step), _mm_unpacklo_epi64(y[2], y[3]));
    _mm_storeu_si128((void *)(dst + 3 * step), _mm_unpackhi_epi64(y[2], y[3]));
#else
    for (size_t c = 0; c < 4; c++) {
        for (size_t i = 0; i < 4; i++) {
            memcpy(dst + c * step + 4 * i, src + i * stride + 4 * c, 4);
        }
    }
#endif
}

/* n bytes (a multiple of 16) at `at` of each block as quad vectors, each
 * `step` vectors behind the one before. */
static ALWAYS_INLINE void turn_quads(uint8_t *dst, const struct rows *from,
                                     size_t at, uint32_t n, uint32_t step)
{
    const size_t vector = 4 * (size_t)from->n;
    for (uint32_t c = 0; c < n; c += 16) {
        UNROLL
        for (uint32_t r = 0; r < from->n; r += 4) {
            turn_4x4(dst + c / 4 * step * vector + 4 * (size_t)r, step * vector,
                     row(from, r) + at + c, from->stride);
        }
    }
}

/* n two-byte words at `at` of each block to [n][rows]. */
static ALWAYS_INLINE void turn_words(uint8_t *dst, const struct rows *from,
                                     size_t at, uint32_t n)
{
    UNROLL
    for (uint32_t r = 0; r < from->n; r++) {
        const uint8_t *src = row(from, r) + at;
        for (uint32_t i = 0; i < n; i++) {
            memcpy(dst + 2 * ((size_t)i * from->n + r), src + 2 * i, 2);
        }
    }
}

/* ------------------------------------------------ blocks of 32 weights */

/* Bits 4j + b of x to 8b + j: of eight places of four bits, four of eight. */
static ALWAYS_INLINE uint32_t turn_fifth_bits(uint32_t x)
{
    uint32_t out = 0;
    UNROLL
    for (uint32_t b = 0; b < 4; b++) {
        uint32_t y = x >> b & 0x11111111;
        y = (y | y >> 3) & 0x03030303;
        y = (y | y >> 6) & 0x000f000f;
        out |= ((y | y >> 12) & 0xff) << 8 * b;
    }
    return out;
}

/* n_scales f16, perhaps fifth bits, then quants bytes of the rest. */
static ALWAYS_INLINE void pack_32(struct rows from, uint8_t *group, uint32_t k,
                                  uint32_t n_scales, bool five,
                                  uint32_t n_quants)
{
    const uint32_t n_blocks = k / 32, per_leaf = NM_LEAF / 32;
    const size_t rows = from.n;
    const size_t front = 2 * (size_t)n_scales, fifths = five ? 4 : 0;
    for (uint32_t first = 0; first < n_blocks; first += per_leaf) {
        const uint32_t left = n_blocks - first;
        const uint32_t nb = left < per_leaf ? left : per_leaf;
        uint8_t *quads = group + front * nb * rows;
        for (uint32_t b = 0; b < nb; b++) {
            for (uint32_t i = 0; i < n_scales; i++) {
                turn_words(group + 2 * (i * nb + b) * rows, &from, 2 * i, 1);
            }
            for (uint32_t r = 0; five && r < from.n; r++) {
                const uint32_t bits =
                    turn_fifth_bits(load_u32(row(&from, r) + front));
                memcpy(quads + 4 * (size_t)r, &bits, 4);
            }
            turn_quads(quads + fifths * rows, &from, front + fifths, n_quants,
                       1);
            quads += (fifths + n_quants) * rows;
            from.src += front + fifths + n_quants;
        }
        group = quads;
    }
}

/* ---------------------------------------------------------- Q4_K, Q5_K */

#define EACH(byte) ((uint64_t)(byte)*UINT64_C(0x0101010101010101))

/* The eight six-bit scales of a block, and its minima, a byte each: as
 * quant_q4_k_scales(), four at a time. */
static ALWAYS_INLINE void six_bits(const uint8_t *scales, uint32_t sc[2],
                                   uint32_t m[2])
{
    const uint32_t a = load_u32(scales), b = load_u32(scales + 4);
    const uint32_t c = load_u32(scales + 8);
    sc[0] = a & 0x3f3f3f3f;
    m[0] = b & 0x3f3f3f3f;
    sc[1] = (c & 0x0f0f0f0f) | (a >> 6 & 0x03030303) << 4;
    m[1] = (c >> 4 & 0x0f0f0f0f) | (b >> 6 & 0x03030303) << 4;
}

/* low[8R] and high[4R] of kernels_pack.h. */
static ALWAYS_INLINE void pack_six_bits(uint8_t *low, const struct rows *from)
{
    uint64_t sc[ROWS_MAX], m[ROWS_MAX]; /* places p = 8i .. 8i + 7 */
    const size_t rows = from->n;
    UNROLL
    for (uint32_t r = 0; r < from->n; r++) {
        uint32_t s[2], x[2];
        six_bits(row(from, r) + 4, s, x);
        for (uint32_t j = 0; j < 8; j++) {
            ((uint8_t *)sc)[j * rows + r] = (uint8_t)(s[j / 4] >> j % 4 * 8);
        }
        for (uint32_t j = 0; j < 4; j++) { /* in pairs */
            const uint16_t pair = (uint16_t)(x[j / 2] >> j % 2 * 16);
            memcpy((uint8_t *)m + 2 * (j * rows + r), &pair, 2);
        }
    }
    UNROLL
    for (uint32_t i = 0; i < from->n; i++) {
        const uint64_t both = (sc[i] & EACH(15)) | (m[i] & EACH(15)) << 4;
        memcpy(low + 8 * (size_t)i, &both, 8);
    }
    UNROLL
    for (uint32_t i = 0; i < from->n / 2; i++) {
        const uint32_t j = i + from->n / 2;
        const uint64_t four =
            (sc[i] >> 4 & EACH(3)) | (m[i] >> 4 & EACH(3)) << 2 |
            (sc[j] >> 4 & EACH(3)) << 4 | (m[j] >> 4 & EACH(3)) << 6;
        memcpy(low + 8 * rows + 8 * (size_t)i, &four, 8);
    }
}

static ALWAYS_INLINE void pack_q4_q5_k(struct rows from, uint8_t *group,
                                       uint32_t k, uint32_t block_bytes)
{
    const size_t rows = from.n;
    for (uint32_t b = 0; b < k / 256; b++) {
        turn_words(group, &from, 0, 2);
        pack_six_bits(group + 4 * rows, &from);
        turn_quads(group + 16 * rows, &from, 16, block_bytes - 16, 1);
        group += block_bytes * rows;
        from.src += block_bytes;
    }
}

/* ---------------------------------------------------------------- Q6_K */

static ALWAYS_INLINE void pack_q6_k(struct rows from, uint8_t *group,
                                    uint32_t k)
{
    const size_t rows = from.n, bytes = sizeof(struct block_q6_k);
    uint8_t *d = group + k / 256 * (bytes - 2) * rows;
    for (uint32_t b = 0; b < k / 256; b++) {
        turn_words(d, &from, offsetof(struct block_q6_k, d), 1);
        turn_words(group, &from, offsetof(struct block_q6_k, scales), 8);
        for (size_t h = 0; h < 2; h++) {
            uint8_t *quads = group + (16 + 96 * h) * rows;
            const size_t ql = offsetof(struct block_q6_k, ql) + 64 * h;
            const size_t qh = offsetof(struct block_q6_k, qh) + 32 * h;
            turn_quads(quads, &from, ql, 32, 3);
            turn_quads(quads + 4 * rows, &from, ql + 32, 32, 3);
            turn_quads(quads + 8 * rows, &from, qh, 32, 3);
        }
        d += 2 * rows;
        group += (bytes - 2) * rows;
        from.src += bytes;
    }
}

/* -------------------------------------------------------------- common */

static ALWAYS_INLINE bool pack(enum quant_type type, struct rows from,
                               uint8_t *group, uint32_t k)
{
    switch ((int)type) {
    case QUANT_Q8_0:
        pack_32(from, group, k, 1, false, 32);
        return true;
    case QUANT_Q4_0:
    case QUANT_IQ4_NL:
        pack_32(from, group, k, 1, false, 16);
        return true;
    case QUANT_Q4_1:
        pack_32(from, group, k, 2, false, 16);
        return true;
    case QUANT_Q5_0:
        pack_32(from, group, k, 1, true, 16);
        return true;
    case QUANT_Q5_1:
        pack_32(from, group, k, 2, true, 16);
        return true;
    case QUANT_Q4_K:
        pack_q4_q5_k(from, group, k, sizeof(struct block_q4_k));
        return true;
    case QUANT_Q5_K:
        pack_q4_q5_k(from, group, k, sizeof(struct block_q5_k));
        return true;
    case QUANT_Q6_K:
        pack_q6_k(from, group, k);
        return true;
    default:
        return false;
    }
}

bool pack_rows_fast(enum quant_type type, uint32_t rows, void *group,
                    const void *src, size_t src_stride, uint32_t k)
{
    struct rows from = {.src = src, .stride = src_stride};
    switch (rows) {
    case 4:
        from.n = 4;
        return pack(type, from, group, k);
    case 8:
        from.n = 8;
        return pack(type, from, group, k);
    case 16:
        from.n = 16;
        return pack(type, from, group, k);
    default:
        return false;
    }
}

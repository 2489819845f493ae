/* f16 and bf16 conversions, the table of types, and the quantizers' error
 * bounds.  What blocks mean, bit for bit, is in test_quant_vectors.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <string.h>

#include "common/rng.h"
#include "engine/quant.h"

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static bool f16_is_nan(uint32_t h)
{
    return (h & 0x7c00) == 0x7c00 && (h & 0x3ff) != 0;
}

/* The value by definition: sign, exponent, fraction. */
static double f16_value(uint32_t h)
{
    const int e = h >> 10 & 31, m = h & 0x3ff;
    const double v = e == 31  ? INFINITY
                     : e == 0 ? ldexp(m, -24)
                              : ldexp(1024 + m, e - 25);
    return h & 0x8000 ? -v : v;
}

static void test_f16_to_f32_is_exact_for_every_value(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = f16_to_f32((uint16_t)h);
        if (f16_is_nan(h)) {
            assert_true(isnan(f));
            assert_int_equal(bits_of(f) >> 31, h >> 15);
            assert_true(f16_is_nan(f32_to_f16(f)));
            continue;
        }
        const float want = (float)f16_value(h);
        if (bits_of(f) != bits_of(want)) {
            fail_msg("f16 %04x: got %a, want %a", h, (double)f, (double)want);
        }
        if (f32_to_f16(f) != h) {
            fail_msg("f16 %04x comes back as %04x", h, f32_to_f16(f));
        }
    }
}

static void test_f32_to_f16_rounds_to_nearest_even(void **state)
{
    (void)state;
    /* Between each finite value and the next (past the last: infinity). */
    for (uint32_t h = 0; h < 0x7c00; h++) {
        const double low = f16_value(h);
        const double high = h + 1 == 0x7c00 ? 65536 : f16_value(h + 1);
        const float mid = (float)((low + high) / 2); /* exact */
        const float below = nextafterf(mid, 0), above = nextafterf(mid, 1e9f);
        const uint32_t even = h & 1 ? h + 1 : h;
        const uint32_t got[6] = {f32_to_f16(below), f32_to_f16(mid),
                                 f32_to_f16(above), f32_to_f16(-below),
                                 f32_to_f16(-mid),  f32_to_f16(-above)};
        const uint32_t want[6] = {h,          even,          h + 1,
                                  h | 0x8000, even | 0x8000, (h + 1) | 0x8000};
        for (int i = 0; i < 6; i++) {
            if (got[i] != want[i]) {
                fail_msg("around %a, case %d: got %04x, want %04x", (double)mid,
                         i, got[i], want[i]);
            }
        }
    }
    assert_int_equal(f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(f32_to_f16(FLT_MAX), 0x7c00);
    assert_int_equal(f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(f32_to_f16(0x1p-25f), 0); /* a tie; 0 is even */
    assert_int_equal(f32_to_f16(-0.0f), 0x8000);
    assert_int_equal(f32_to_f16(FLT_TRUE_MIN), 0);
    /* A NaN whose payload is in the low bits alone stays one. */
    assert_true(f16_is_nan(f32_to_f16(float_of(0x7f800001))));
    assert_true(f16_is_nan(f32_to_f16(float_of(0xffffffff))));
}

static void test_bf16_keeps_the_upper_half_and_rounds(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = bf16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(f), h << 16);
        if (isnan(f)) {
            assert_true(isnan(bf16_to_f32(f32_to_bf16(f))));
            continue;
        }
        assert_int_equal(f32_to_bf16(f), h);
        if (isinf(f)) continue;
        const uint32_t even = h & 1 ? h + 1 : h;
        assert_int_equal(f32_to_bf16(float_of(h << 16 | 0x7fff)), h);
        assert_int_equal(f32_to_bf16(float_of(h << 16 | 0x8000)), even);
        assert_int_equal(f32_to_bf16(float_of(h << 16 | 0x8001)), h + 1);
    }
    assert_int_equal(f32_to_bf16(FLT_MAX), 0x7f80);
    assert_true(isnan(bf16_to_f32(f32_to_bf16(float_of(0x7f800001)))));
    assert_true(isnan(bf16_to_f32(f32_to_bf16(float_of(0xffffffff)))));
}

static const struct {
    enum quant_type type;
    uint32_t number; /* in files */
    const char *name;
    uint32_t block, block_bytes;
} types[] = {
    {QUANT_F32, 0, "F32", 1, 4},
    {QUANT_F16, 1, "F16", 1, 2},
    {QUANT_BF16, 30, "BF16", 1, 2},
    {QUANT_Q4_0, 2, "Q4_0", 32, 18},
    {QUANT_Q4_1, 3, "Q4_1", 32, 20},
    {QUANT_Q5_0, 6, "Q5_0", 32, 22},
    {QUANT_Q5_1, 7, "Q5_1", 32, 24},
    {QUANT_Q8_0, 8, "Q8_0", 32, 34},
    {QUANT_IQ4_NL, 20, "IQ4_NL", 32, 18},
    {QUANT_Q2_K, 10, "Q2_K", 256, 84},
    {QUANT_Q3_K, 11, "Q3_K", 256, 110},
    {QUANT_Q4_K, 12, "Q4_K", 256, 144},
    {QUANT_Q5_K, 13, "Q5_K", 256, 176},
    {QUANT_Q6_K, 14, "Q6_K", 256, 210},
    {QUANT_IQ4_XS, 23, "IQ4_XS", 256, 136},
};

static void test_types_are_those_of_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        assert_int_equal(types[i].type, types[i].number);
        const struct quant_info *info = quant_info(types[i].number);
        assert_non_null(info);
        assert_string_equal(info->name, types[i].name);
        assert_string_equal(quant_name(types[i].number), types[i].name);
        assert_int_equal(info->block, types[i].block);
        assert_int_equal(info->block_bytes, types[i].block_bytes);
        assert_int_equal(quant_row_bytes(types[i].type, 4096),
                         4096 / types[i].block * types[i].block_bytes);
        if (info->block > 1) {
            assert_int_equal(quant_row_bytes(types[i].type, 4096 + 1), 0);
            assert_int_equal(quant_row_bytes(types[i].type, info->block / 2),
                             0);
        }
    }
    assert_null(quant_info(QUANT_TYPE_END));
    assert_null(quant_info(UINT32_MAX));
    assert_null(quant_info(4)); /* a number that ggml gave up */
    /* Types we do not know still have names to refuse them by. */
    assert_string_equal(quant_name(9), "Q8_1");
    assert_string_equal(quant_name(29), "IQ1_M");
    assert_string_equal(quant_name(4711), "type 4711");
}

static void test_types_are_found_by_name_in_any_case(void **state)
{
    (void)state;
    enum quant_type t = QUANT_F32;
    assert_true(quant_by_name("q4_k", &t));
    assert_int_equal(t, QUANT_Q4_K);
    assert_true(quant_by_name("Bf16", &t));
    assert_int_equal(t, QUANT_BF16);
    assert_false(quant_by_name("Q4", &t));
    assert_false(quant_by_name("", &t));
    assert_false(quant_by_name("Q4_KX", &t));
    assert_int_equal(t, QUANT_BF16); /* untouched */
}

/* Where the fields of each block lie in a file. */
static void test_block_layouts(void **state)
{
    (void)state;
    assert_int_equal(offsetof(struct block_q4_0, d), 0);
    assert_int_equal(offsetof(struct block_q4_0, qs), 2);
    assert_int_equal(offsetof(struct block_q4_1, m), 2);
    assert_int_equal(offsetof(struct block_q4_1, qs), 4);
    assert_int_equal(offsetof(struct block_q8_0, qs), 2);
    assert_int_equal(offsetof(struct block_q4_k, d), 0);
    assert_int_equal(offsetof(struct block_q4_k, dmin), 2);
    assert_int_equal(offsetof(struct block_q4_k, scales), 4);
    assert_int_equal(offsetof(struct block_q4_k, qs), 16);
    assert_int_equal(offsetof(struct block_q5_0, qh), 2);
    assert_int_equal(offsetof(struct block_q5_0, qs), 6);
    assert_int_equal(offsetof(struct block_q5_1, qh), 4);
    assert_int_equal(offsetof(struct block_q5_1, qs), 8);
    assert_int_equal(offsetof(struct block_iq4_nl, qs), 2);
    assert_int_equal(offsetof(struct block_q2_k, qs), 16);
    assert_int_equal(offsetof(struct block_q2_k, d), 80);
    assert_int_equal(offsetof(struct block_q2_k, dmin), 82);
    assert_int_equal(offsetof(struct block_q3_k, qs), 32);
    assert_int_equal(offsetof(struct block_q3_k, scales), 96);
    assert_int_equal(offsetof(struct block_q3_k, d), 108);
    assert_int_equal(offsetof(struct block_q5_k, scales), 4);
    assert_int_equal(offsetof(struct block_q5_k, qh), 16);
    assert_int_equal(offsetof(struct block_q5_k, qs), 48);
    assert_int_equal(offsetof(struct block_iq4_xs, scales_h), 2);
    assert_int_equal(offsetof(struct block_iq4_xs, scales_l), 4);
    assert_int_equal(offsetof(struct block_iq4_xs, qs), 8);
    assert_int_equal(offsetof(struct block_q6_k, ql), 0);
    assert_int_equal(offsetof(struct block_q6_k, qh), 128);
    assert_int_equal(offsetof(struct block_q6_k, scales), 192);
    assert_int_equal(offsetof(struct block_q6_k, d), 208);
}

static void test_q4_k_scales_unpack(void **state)
{
    (void)state;
    struct rng r = {.state = 1};
    for (int round = 0; round < 1000; round++) {
        /* Pack sixteen six-bit numbers by the layout, then unpack. */
        uint8_t want_sc[8], want_m[8], sc[8], m[8], packed[12] = {0};
        for (int j = 0; j < 8; j++) {
            want_sc[j] = rng_u64(&r) & 63;
            want_m[j] = rng_u64(&r) & 63;
        }
        for (int j = 0; j < 4; j++) {
            packed[j] = (uint8_t)(want_sc[j] | (want_sc[j + 4] & 48) << 2);
            packed[j + 4] = (uint8_t)(want_m[j] | (want_m[j + 4] & 48) << 2);
            packed[j + 8] =
                (uint8_t)((want_sc[j + 4] & 15) | (want_m[j + 4] & 15) << 4);
        }
        quant_q4_k_scales(packed, sc, m);
        assert_memory_equal(sc, want_sc, 8);
        assert_memory_equal(m, want_m, 8);
    }
}

/* Every block of bytes is a block of numbers in the type's ranges, and comes
 * back bit for bit. */
static void test_blocks_and_numbers(void **state)
{
    (void)state;
    struct rng r = {.state = 5};
    uint32_t n_types = 0;
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        const struct quant_info *info = quant_info(types[t].number);
        if (info->block == 1) continue;
        n_types++;
        for (int round = 0; round < 300; round++) {
            uint8_t bytes[256], back[256];
            for (uint32_t i = 0; i < info->block_bytes; i++) {
                bytes[i] = (uint8_t)rng_u64(&r);
            }
            struct quant_block b;
            quant_block_read(types[t].type, bytes, &b);
            for (uint32_t i = 0; i < info->block; i++) {
                assert_in_range(b.q[i] + 128, info->q_lo + 128,
                                info->q_hi + 128);
            }
            for (uint32_t j = 0; j < info->block / info->sub; j++) {
                assert_in_range(b.sc[j] + 128, info->sc_lo + 128,
                                info->sc_hi + 128);
                assert_in_range(b.m[j], 0, info->m_hi);
            }
            memset(back, 0xee, sizeof back);
            quant_block_write(types[t].type, &b, back);
            assert_memory_equal(back, bytes, info->block_bytes);
        }
    }
    assert_int_equal(n_types, 12);
}

/* ------------------------------------------------- what quantizers lose */

/* The values that the i-th weight of a quantized row can take: from low to
 * high (either sign of step), at most step apart. */
struct grid {
    double step, low, high;
};

static struct grid grid_of(enum quant_type type, const uint8_t *row, uint32_t i)
{
    const struct quant_info *info = quant_info(type);
    const uint32_t at = i % info->block, j = at / info->sub;
    struct quant_block b;
    quant_block_read(type, row + i / info->block * info->block_bytes, &b);
    double step = (double)f16_to_f32(b.d) * b.sc[j];
    const double base = -(double)f16_to_f32(b.dmin) * b.m[j];
    const double q_lo = type == QUANT_Q8_0 ? -127 : info->q_lo;
    const double low = base + step * q_lo, high = base + step * info->q_hi;
    /* the widest gap of the table: 89 to 113 */
    if (type == QUANT_IQ4_NL || type == QUANT_IQ4_XS) step *= 24;
    return (struct grid){fabs(step), fmin(low, high), fmax(low, high)};
}

static float draw(struct rng *r, int shape)
{
    const double u = 2 * rng_unit(rng_u64(r)) - 1;
    switch (shape) {
    case 0:
        return (float)u;
    case 1: /* a few large among many small ones */
        return (float)(u * u * u * u * u * 30);
    case 2: /* one sign */
        return (float)(3 + u);
    case 3: /* the other */
        return (float)((u - 1.5) * 0.1);
    default: /* so small that f16 scales become denormal */
        return (float)((u - 1.5) * 1e-3);
    }
}

/* Every weight lands on the grid point nearest to it: |error| is at most half
 * a step inside the block's range, and the distance to the range outside. */
static void test_quantized_weights_are_nearest_grid_points(void **state)
{
    (void)state;
    enum { K = 512 };
    static const enum quant_type lossy[] = {
        QUANT_Q8_0, QUANT_Q4_0, QUANT_Q4_1,   QUANT_Q5_0,
        QUANT_Q5_1, QUANT_Q2_K, QUANT_Q3_K,   QUANT_Q4_K,
        QUANT_Q5_K, QUANT_Q6_K, QUANT_IQ4_NL, QUANT_IQ4_XS};
    struct rng r = {.state = 7};
    float x[K], y[K];
    uint8_t row[K * 4];
    for (size_t t = 0; t < COUNT_OF(lossy); t++) {
        for (int round = 0; round < 200; round++) {
            for (int i = 0; i < K; i++) x[i] = draw(&r, round % 5);
            quant_quantize_row(lossy[t], x, row, K);
            quant_dequantize_row(lossy[t], row, y, K);
            for (uint32_t i = 0; i < K; i++) {
                const struct grid g = grid_of(lossy[t], row, i);
                const double v = (double)x[i];
                const double outside = fmax(0, fmax(g.low - v, v - g.high));
                /* f32 rounding on the way: a few units of the largest. */
                const double slack =
                    0x1p-21 * (fabs(v) + fabs(g.low) + fabs(g.high));
                const double bound = fmax(g.step / 2, outside) + slack;
                if (!(fabs((double)y[i] - v) <= bound)) {
                    fail_msg("%s round %d weight %u: %a became %a, step %a",
                             quant_name(lossy[t]), round, i, v, (double)y[i],
                             g.step);
                }
            }
        }
    }
}

/* The range itself is good.  Outside it may lie: of 32-blocks, less than half a
 * step (f16 rounding of the scale), or one step where 4 bits have one value
 * less on one side (IQ4: 113 instead of 127, 0.6 of its widest gap); of
 * sub-blocks, what rounding their scales leaves: for Q4_K and Q5_K 1/63 of the
 * largest weight for the scale and 1/126 for the minimum, for Q2_K 1/15 and
 * 1/30 of what the top sub-block has, for Q6_K 1/256 and the missing value of
 * 32, for Q3_K 1/64 and the missing value of 4, for IQ4_XS 1/64 and 14 of
 * 127. */
static void test_block_ranges_cover_their_weights(void **state)
{
    (void)state;
    enum { K = 512 };
    static const struct {
        enum quant_type type;
        double steps;   /* outside, of this weight's own step     */
        double percent; /* outside, of the largest of the row     */
    } rule[] = {
        {QUANT_Q8_0, 0.5, 0.1}, {QUANT_Q4_0, 1.01, 13}, {QUANT_Q4_1, 0.5, 1},
        {QUANT_Q5_0, 1.01, 7},  {QUANT_Q5_1, 0.5, 1},   {QUANT_IQ4_NL, 0.6, 12},
        {QUANT_Q2_K, 99, 10.5}, {QUANT_Q3_K, 99, 27},   {QUANT_Q4_K, 99, 2.5},
        {QUANT_Q5_K, 99, 2.5},  {QUANT_Q6_K, 99, 3.7},  {QUANT_IQ4_XS, 99, 14},
    };
    struct rng r = {.state = 11};
    float x[K], y[K];
    uint8_t row[K * 4];
    for (size_t t = 0; t < COUNT_OF(rule); t++) {
        for (int round = 0; round < 200; round++) {
            double top = 0, energy = 0;
            for (int i = 0; i < K; i++) {
                x[i] = draw(&r, round % 4);
                top = fmax(top, fabs((double)x[i]));
                energy += (double)x[i] * (double)x[i];
            }
            assert_true(energy > 0);
            quant_quantize_row(rule[t].type, x, row, K);
            quant_dequantize_row(rule[t].type, row, y, K);
            for (uint32_t i = 0; i < K; i++) {
                const struct grid g = grid_of(rule[t].type, row, i);
                const double v = (double)x[i];
                const double outside = fmax(0, fmax(g.low - v, v - g.high));
                if (!(outside <= rule[t].steps * g.step) ||
                    !(outside <= rule[t].percent / 100 * top)) {
                    fail_msg("%s round %d weight %u: %a outside [%a, %a]",
                             quant_name(rule[t].type), round, i, v, g.low,
                             g.high);
                }
            }
        }
    }
}

static void test_float_types_convert_each_weight(void **state)
{
    (void)state;
    enum { K = 257 };
    struct rng r = {.state = 3};
    float x[K], y[K];
    uint8_t row[K * 4 + 1];
    for (int i = 0; i < K; i++) x[i] = draw(&r, 1);
    /* One byte off: rows in a file need not be aligned. */
    quant_quantize_row(QUANT_F32, x, row + 1, K);
    quant_dequantize_row(QUANT_F32, row + 1, y, K);
    assert_memory_equal(x, y, sizeof x);
    quant_quantize_row(QUANT_F16, x, row + 1, K);
    quant_dequantize_row(QUANT_F16, row + 1, y, K);
    for (int i = 0; i < K; i++) {
        assert_true(bits_of(y[i]) == bits_of(f16_to_f32(f32_to_f16(x[i]))));
    }
    quant_quantize_row(QUANT_BF16, x, row + 1, K);
    quant_dequantize_row(QUANT_BF16, row + 1, y, K);
    for (int i = 0; i < K; i++) {
        assert_true(bits_of(y[i]) == bits_of(bf16_to_f32(f32_to_bf16(x[i]))));
    }
}

/* Zeros give zeros; whatever else the caller brings gives some block, with no
 * undefined conversion on the way (UBSan watches). */
static void test_zeros_and_hostile_values(void **state)
{
    (void)state;
    enum { K = 256 };
    static const float hostile[] = {NAN,     INFINITY,     -INFINITY,
                                    FLT_MAX, FLT_TRUE_MIN, -FLT_MAX,
                                    1e-30f,  70000.0f};
    float x[K], y[K];
    uint8_t row[K * 4];
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        memset(x, 0, sizeof x);
        memset(row, 0xee, sizeof row);
        quant_quantize_row(types[t].type, x, row, K);
        quant_dequantize_row(types[t].type, row, y, K);
        for (int i = 0; i < K; i++) assert_true(y[i] == 0);
        for (size_t h = 0; h < COUNT_OF(hostile); h++) {
            for (int i = 0; i < K; i++) x[i] = i % 3 ? hostile[h] : 0.5f;
            quant_quantize_row(types[t].type, x, row, K);
            quant_dequantize_row(types[t].type, row, y, K);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_to_f32_is_exact_for_every_value),
        cmocka_unit_test(test_f32_to_f16_rounds_to_nearest_even),
        cmocka_unit_test(test_bf16_keeps_the_upper_half_and_rounds),
        cmocka_unit_test(test_types_are_those_of_files),
        cmocka_unit_test(test_types_are_found_by_name_in_any_case),
        cmocka_unit_test(test_block_layouts),
        cmocka_unit_test(test_q4_k_scales_unpack),
        cmocka_unit_test(test_blocks_and_numbers),
        cmocka_unit_test(test_quantized_weights_are_nearest_grid_points),
        cmocka_unit_test(test_block_ranges_cover_their_weights),
        cmocka_unit_test(test_float_types_convert_each_weight),
        cmocka_unit_test(test_zeros_and_hostile_values),
    };
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}

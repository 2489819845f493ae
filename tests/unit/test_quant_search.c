/* test_quant_search.c - the quantizers for files against the plain ones. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <string.h>

#include "common/compiler.h"
#include "common/rng.h"
#include "engine/quant_search.h"

enum { K = 4096 };

static float x[K], y[K];
static uint8_t row[K * 4], other[K * 4];

static const enum quant_type searched[] = {
    QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1,   QUANT_Q2_K,  QUANT_Q3_K,
    QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K, QUANT_IQ4_NL, QUANT_IQ4_XS};

/* Shapes of weights: normal, with a few large, one sign, lines, all alike. */
static void draw(int shape)
{
    struct rng r = {.state = 31 + (uint64_t)shape};
    for (int i = 0; i < K; i++) {
        double u = 0;
        for (int j = 0; j < 8; j++) u += rng_unit(rng_u64(&r)) - 0.5;
        if (shape == 1 && i % 37 == 0) u *= 6;
        if (shape == 2) u = fabs(u) + 0.2;
        if (shape == 3) u = i % 32 - 10;
        if (shape == 4) u = -0.25;
        x[i] = (float)(u * 0.02);
    }
}

/* Root of the share of squares that is lost. */
static double loss(enum quant_type type, const uint8_t *bytes)
{
    double squares = 0, lost = 0;
    quant_dequantize_row(type, bytes, y, K);
    for (int i = 0; i < K; i++) {
        const double e = (double)x[i] - (double)y[i];
        squares += (double)x[i] * (double)x[i];
        lost += e * e;
    }
    return sqrt(lost / squares);
}

/* The least that the search must gain over plain rounding of a normal
 * distribution; on the other shapes it must not lose much: what counts more
 * there than here are the large weights. */
static void test_better_than_plain(void **state)
{
    (void)state;
    for (size_t t = 0; t < COUNT_OF(searched); t++) {
        for (int shape = 0; shape < 5; shape++) {
            draw(shape);
            quant_quantize_row(searched[t], x, row, K);
            quant_search_row(searched[t], x, other, K);
            const double plain = loss(searched[t], row);
            const double found = loss(searched[t], other);
            const double bound =
                shape == 0 ? 0.97 * plain : 1.05 * plain + 0.001;
            if (!(found <= bound)) {
                fail_msg("%s, shape %d: %g lost, plainly %g",
                         quant_name(searched[t]), shape, found, plain);
            }
        }
    }
}

/* More bits lose less. */
static void test_monotone(void **state)
{
    (void)state;
    static const enum quant_type falling[][5] = {
        {QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K},
        {QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_0, QUANT_Q5_0, QUANT_Q8_0},
        {QUANT_Q3_K, QUANT_IQ4_XS, QUANT_IQ4_NL, QUANT_Q5_1, QUANT_F16}};
    for (int shape = 0; shape < 3; shape++) {
        draw(shape);
        for (size_t s = 0; s < COUNT_OF(falling); s++) {
            double before = 1;
            for (size_t t = 0; t < COUNT_OF(falling[s]); t++) {
                quant_search_row(falling[s][t], x, row, K);
                const double now = loss(falling[s][t], row);
                if (!(now < 1.02 * before)) {
                    fail_msg("%s loses %g, the type before it %g (shape %d)",
                             quant_name(falling[s][t]), now, before, shape);
                }
                before = now;
            }
        }
    }
}

/* Zeros stay, whatever is finite gives finite weights of its size, and a block
 * does not depend on its neighbours. */
static void test_extremes(void **state)
{
    (void)state;
    static const float extreme[] = {
        0, QUANT_SEARCH_MAX, -QUANT_SEARCH_MAX, FLT_TRUE_MIN, -1e-38f, 1e-7f};
    for (size_t t = 0; t < COUNT_OF(searched); t++) {
        for (size_t e = 0; e < COUNT_OF(extreme); e++) {
            for (int alike = 0; alike < 2; alike++) {
                for (int i = 0; i < K; i++) {
                    x[i] = alike || i % 5 == 0 ? extreme[e] : 0;
                }
                quant_search_row(searched[t], x, row, K);
                quant_dequantize_row(searched[t], row, y, K);
                for (int i = 0; i < K; i++) {
                    const float most = 1.2f * fabsf(extreme[e]) + 1e-6f;
                    assert_true(fabsf(y[i]) <= most);
                    assert_true(extreme[e] != 0 || y[i] == 0);
                }
            }
        }
        draw(1);
        const size_t bytes = (size_t)quant_row_bytes(searched[t], 256);
        quant_search_row(searched[t], x, row, K);
        for (int i = 0; i < K / 256; i++) {
            quant_search_row(searched[t], x + 256 * i, other, 256);
            assert_memory_equal(other, row + i * bytes, bytes);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_better_than_plain),
        cmocka_unit_test(test_monotone),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests_name("quant search", tests, NULL, NULL);
}

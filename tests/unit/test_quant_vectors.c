/* Blocks of every weight type against recorded values, bit for bit. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "tests/golden/quant_vectors.h"

static void check_rows(const struct quant_vector *v, const uint8_t *bytes)
{
    float y[512];
    assert_true(v->k <= COUNT_OF(y));
    const uint64_t row_bytes = quant_row_bytes(v->type, v->k);
    for (uint32_t row = 0; row < v->n_rows; row++) {
        memset(y, 0xff, sizeof y);
        quant_dequantize_row(v->type, bytes + row * row_bytes, y, v->k);
        for (uint32_t i = 0; i < v->k; i++) {
            uint32_t got;
            memcpy(&got, &y[i], sizeof got);
            const uint32_t want = v->f32[row * v->k + i];
            if (got != want) {
                fail_msg("%s row %u weight %u: got %08x, want %08x",
                         quant_name(v->type), row, i, got, want);
            }
        }
    }
}

static void test_recorded_rows(void **state)
{
    (void)state;
    uint32_t seen = 0;
    for (size_t t = 0; t < COUNT_OF(quant_vectors); t++) {
        const struct quant_vector *v = &quant_vectors[t];
        assert_int_equal(v->n_bytes,
                         v->n_rows * quant_row_bytes(v->type, v->k));
        check_rows(v, v->bytes);
        /* Rows in a file need not be aligned. */
        uint8_t shifted[1024];
        assert_true(v->n_bytes < sizeof shifted);
        memcpy(shifted + 1, v->bytes, v->n_bytes);
        check_rows(v, shifted + 1);
        seen |= UINT32_C(1) << v->type;
    }
    /* Every type of the engine but F32 has its vectors. */
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        if (!quant_info(t) || t == QUANT_F32) continue;
        if (!(seen >> t & 1)) fail_msg("no vectors for %s", quant_name(t));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_rows),
    };
    return cmocka_run_group_tests_name("quant vectors", tests, NULL, NULL);
}

/* test_pack.c - rows come out of a group as they went in, for each type, group
 * size and K: what packs whole groups (kernels_pack_fast.c) and what packs
 * groups with missing rows (kernels_pack.c) put every bit where packed_block()
 * looks for it, and nothing behind the group. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/compiler.h"
#include "common/rng.h"
#include "engine/kernels_pack.h"
#include "engine/quant.h"

#define ROWS_MAX 16
#define K_MAX    1280
#define GAP      24 /* between rows: only the stride may be used */
#define CANARY   0x5a

static const enum quant_type types[] = {
    QUANT_Q8_0, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0,   QUANT_Q5_1,   QUANT_Q2_K,
    QUANT_Q3_K, QUANT_Q4_K, QUANT_Q5_K, QUANT_IQ4_NL, QUANT_IQ4_XS, QUANT_Q6_K};

static uint8_t src[ROWS_MAX * (2 * K_MAX + GAP)];
static _Alignas(64) uint8_t group[ROWS_MAX * 2 * K_MAX + 64];

static void check(enum quant_type type, uint32_t rows, uint32_t n, uint32_t k)
{
    const struct quant_info *info = quant_info(type);
    const size_t row_bytes = (size_t)quant_row_bytes(type, k);
    const size_t stride = row_bytes + GAP, bytes = row_bytes * rows;
    const uint32_t n_blocks = k / info->block;
    struct rng rng = {.state = type * 1000003u + rows * 101u + n + k};
    for (size_t i = 0; i < sizeof src; i++) src[i] = (uint8_t)rng_u64(&rng);
    memset(group, CANARY, sizeof group);
    pack_rows(type, rows, group, src, stride, n, k);
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t b = 0; b < n_blocks; b++) {
            static const uint8_t zeros[256];
            uint8_t block[256];
            packed_block(type, rows, group, r, b, n_blocks, block);
            const uint8_t *want =
                r < n ? src + r * stride + b * info->block_bytes : zeros;
            if (memcmp(block, want, info->block_bytes) == 0) continue;
            fail_msg("%s, %u of %u rows, k %u: block %u of row %u",
                     quant_name(type), n, rows, k, b, r);
        }
    }
    for (size_t i = bytes; i < sizeof group; i++) {
        if (group[i] != CANARY) {
            fail_msg("%s, %u of %u rows, k %u: wrote at %zu of %zu",
                     quant_name(type), n, rows, k, i, bytes);
        }
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    static const uint32_t ks[] = {32, 96, 256, 416, 512, K_MAX};
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        for (uint32_t rows = 4; rows <= ROWS_MAX; rows *= 2) {
            for (size_t i = 0; i < COUNT_OF(ks); i++) {
                if (ks[i] % quant_info(types[t])->block != 0) continue;
                check(types[t], rows, rows, ks[i]);
                check(types[t], rows, rows - 1, ks[i]);
                check(types[t], rows, 1, ks[i]);
            }
        }
    }
}

/* The types that most files have are packed the fast way. */
static void test_fast(void **state)
{
    (void)state;
    static const enum quant_type hot[] = {QUANT_Q8_0, QUANT_Q4_0, QUANT_Q4_K,
                                          QUANT_Q5_K, QUANT_Q6_K};
    for (size_t t = 0; t < COUNT_OF(hot); t++) {
        const size_t stride = (size_t)quant_row_bytes(hot[t], 256);
        for (uint32_t rows = 4; rows <= ROWS_MAX; rows *= 2) {
            assert_true(pack_rows_fast(hot[t], rows, group, src, stride, 256));
        }
        assert_false(pack_rows_fast(hot[t], 5, group, src, stride, 256));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* arch_rig.h - one small model of each architecture and of each option that
 * changes the arithmetic.
 *
 * Depends on: gen_model.  Thread: any. */
#ifndef TESTS_LIB_ARCH_RIG_H
#define TESTS_LIB_ARCH_RIG_H

#include "tests/lib/gen_model.h"

enum {
    ARCH_GEMMA2,
    ARCH_QWEN2,
    ARCH_QWEN3,
    ARCH_QWEN3MOE,
    ARCH_YARN,       /* qwen2, YaRN by 4 from 16 positions */
    ARCH_WINDOW_ALL, /* llama, a window in every layer, biases everywhere */
    ARCH_END
};
#define ARCH_WINDOW 12 /* of gemma2 and ARCH_WINDOW_ALL */

const char *arch_name(uint32_t arch);
/* Types mixed, dim 256, 600 tokens, up to 128 positions; n_layer 4. */
struct gen_model arch_model(uint32_t arch);

#endif

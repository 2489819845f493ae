/* freeze.h - prototypes that price the numerics' definition.
 *
 * Each prototype is one source with two orders of f32 accumulation: `defined`
 * follows docs/NUMERICS.md bit for bit; `free_order` adds every block to one
 * accumulator a row, fused where the instruction set can.  Everything else,
 * the integer work above all, is the same code. */
#ifndef TESTS_BENCH_FREEZE_H
#define TESTS_BENCH_FREEZE_H

#include "common/compiler.h"
#include "engine/kernels.h"
#include "engine/kernels_pack.h"

struct freeze_proto {
    const char *name;
    enum quant_type type;
    uint32_t rows; /* a group */
    uint32_t tile; /* columns at a time */
    void (*defined)(const struct matmul_job *job);
    void (*free_order)(const struct matmul_job *job);
};

static inline const void *act_of(const struct matmul_job *job, uint32_t col)
{
    return (const char *)job->act + col * job->act_stride;
}

/* NULL where the file was not built for its instruction set. */
const struct freeze_proto *freeze_q4k_sse41(void);
const struct freeze_proto *freeze_q8_sse41(void);
const struct freeze_proto *freeze_q4k_vnni(void);
const struct freeze_proto *freeze_q8_vnni(void);

#endif

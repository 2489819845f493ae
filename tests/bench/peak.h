/* peak.h - how many multiply-adds of bytes one thread can do at a level, with
 * everything in registers: what no kernel can exceed.
 *
 * Depends on: nothing.  Thread: any. */
#ifndef TESTS_BENCH_PEAK_H
#define TESTS_BENCH_PEAK_H

#include <stdint.h>

/* Runs n rounds; returns the multiply-adds done, 0 where the file was not built
 * for the level. */
typedef uint64_t peak_fn(uint64_t n);
peak_fn peak_sse4, peak_avx, peak_avx2;
/* 256 bits, in either encoding; 512 bits */
peak_fn peak_avxvnni, peak_avx512vl, peak_avx512vnni;

#endif

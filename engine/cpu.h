/* cpu.h - what this processor can do, found at run time.
 *
 * Depends on: kernels (the ISA list).  Thread: any. */
#ifndef ENGINE_CPU_H
#define ENGINE_CPU_H

#include "engine/kernels.h"

/* "ref", "sse4", "avx", "avx2", "avxvnni", "avx512vnni", "neon",
 * "neondotprod": what POTLUCK_ISA takes. */
const char *isa_name(enum isa isa);
/* False if there is none of that name. */
NODISCARD bool isa_by_name(const char *name, enum isa *out);

/* The best level of this processor (and of what the kernel lets us use). */
enum isa cpu_isa(void);
/* Is the level one of this processor's? */
bool cpu_runs(enum isa isa);
/* Has AVX-VNNI, rather than the same instructions through AVX-512. */
bool cpu_has_vex_vnni(void);
/* Converts to and from f16, as every level from AVX2 on does. */
bool cpu_has_f16c(void);
/* POTLUCK_ISA if set, else cpu_isa().  ST_INVALID for an unknown name,
 * ST_UNSUPPORTED for one that this processor lacks. */
NODISCARD enum status cpu_isa_wanted(enum isa *out, struct error *err);

/* Physical cores this process may use: its affinity mask, hyper-threads
 * counted once, and no more than the CPU time that its control groups give it
 * (half a core and more counts as one); at least 1. */
unsigned cpu_cores(void);
/* Hyper-threads of the affinity mask; at least 1. */
unsigned cpu_threads(void);
/* One hyper-thread of each physical core of the mask, ascending, at most max
 * (>= 1); how many, at least 1. */
unsigned cpu_core_list(unsigned *cpus, unsigned max);
/* Cores' worth of CPU time by a control group's cpu.max ("QUOTA PERIOD", of
 * version 2); 0: no limit, or not understood. */
double cpu_quota(const char *text);
/* "AMD EPYC ..." or "unknown"; text of at least 64 bytes. */
void cpu_model_name(char *text, size_t n);

#endif

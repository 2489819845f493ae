#include "engine/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static const char *const isa_names[ISA_END] = {
    [ISA_REF] = "ref",         [ISA_SSE4] = "sse4",
    [ISA_AVX] = "avx",         [ISA_AVX2] = "avx2",
    [ISA_AVXVNNI] = "avxvnni", [ISA_AVX512VNNI] = "avx512vnni",
    [ISA_NEON] = "neon",       [ISA_NEONDOTPROD] = "neondotprod",
};

const char *isa_name(enum isa isa)
{
    return isa < ISA_END ? isa_names[isa] : "unknown";
}

bool isa_by_name(const char *name, enum isa *out)
{
    for (int i = 0; i < ISA_END; i++) {
        if (strcmp(name, isa_names[i]) != 0) continue;
        *out = (enum isa)i;
        return true;
    }
    return false;
}

bool cpu_has_vex_vnni(void)
{
#if defined(__x86_64__)
    unsigned a = 0, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 1u << 4);
#else
    return false;
#endif
}

bool cpu_has_f16c(void)
{
#if defined(__x86_64__)
    unsigned a, b, c = 0, d;
    __builtin_cpu_init(); /* its instructions want what AVX wants */
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) &&
           __builtin_cpu_supports("avx");
#else
    return false;
#endif
}

enum isa cpu_isa(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init(); /* asks XGETBV too: only what the kernel saves */
    if (!__builtin_cpu_supports("sse4.1") || !__builtin_cpu_supports("ssse3")) {
        return ISA_REF;
    }
    if (!__builtin_cpu_supports("avx")) return ISA_SSE4;
    if (!__builtin_cpu_supports("avx2") || !cpu_has_f16c()) return ISA_AVX;
    if (__builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni")) {
        return ISA_AVX512VNNI;
    }
    return cpu_has_vex_vnni() ? ISA_AVXVNNI : ISA_AVX2;
#elif defined(__aarch64__)
    const unsigned long has = getauxval(AT_HWCAP);
    if (!(has & HWCAP_ASIMD)) return ISA_REF;
    return has & HWCAP_ASIMDDP ? ISA_NEONDOTPROD : ISA_NEON;
#else
    return ISA_REF;
#endif
}

bool cpu_runs(enum isa isa)
{
    const enum isa best = cpu_isa();
    const bool same_family =
        isa == ISA_REF || best < ISA_NEON || isa >= ISA_NEON;
    return isa <= best && same_family;
}

enum status cpu_isa_wanted(enum isa *out, struct error *err)
{
    const char *name = getenv("POTLUCK_ISA");
    const enum isa best = cpu_isa();
    if (!name || !*name) {
        *out = best;
        return ST_OK;
    }
    for (int i = 0; i < ISA_END; i++) {
        if (strcmp(name, isa_names[i]) != 0) continue;
        if (!cpu_runs((enum isa)i)) {
            return error_set(err, ST_UNSUPPORTED,
                             "POTLUCK_ISA=%s: this processor's best level is "
                             "%s",
                             name, isa_names[best]);
        }
        *out = (enum isa)i;
        return ST_OK;
    }
    return error_set(err, ST_INVALID,
                     "POTLUCK_ISA=%s is not a level; there are ref, sse4, avx, "
                     "avx2, avxvnni, avx512vnni, neon and neondotprod",
                     name);
}

/* The first hyper-thread that shares a core with cpu, or cpu itself. */
static size_t first_sibling(size_t cpu)
{
    char path[96];
    snprintf(path, sizeof path,
             "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list",
             cpu);
    FILE *f = fopen(path, "r");
    if (!f) return cpu;
    char line[32];
    size_t first = cpu;
    if (fgets(line, sizeof line, f)) {
        char *end;
        const unsigned long v = strtoul(line, &end, 10);
        if (end != line && v < cpu) first = v;
    }
    fclose(f);
    return first;
}

unsigned cpu_core_list(unsigned *cpus, unsigned max)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    unsigned n = 0;
    if (sched_getaffinity(0, sizeof set, &set) != 0) CPU_SET(0, &set);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE && n < max; cpu++) {
        if (!CPU_ISSET(cpu, &set)) continue;
        const size_t first = first_sibling(cpu);
        /* a sibling that we may not run on does not hide this one */
        if (first == cpu || !CPU_ISSET(first, &set)) cpus[n++] = cpu;
    }
    if (n == 0) cpus[n++] = 0;
    return n;
}

unsigned cpu_threads(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    const int n = CPU_COUNT(&set);
    return n > 0 ? (unsigned)n : 1;
}

double cpu_quota(const char *text)
{
    char *end;
    const double quota = strtod(text, &end); /* "max": none */
    if (end == text || !(quota > 0)) return 0;
    const double period = strtod(end, NULL);
    return period > 0 ? quota / period : 0;
}

/* The least of our control group's limits and those above it; 0: none. */
static double group_quota(void)
{
    char line[512], path[640], text[64];
    FILE *f = fopen("/proc/self/cgroup", "r");
    if (!f) return 0;
    const bool found = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    /* version 2 has one line, "0::/GROUP" */
    if (!found || strncmp(line, "0::/", 4) != 0) return 0;
    char *group = line + 3;
    group[strcspn(group, "\n")] = '\0';
    double least = 0;
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
        f = fopen(path, "r");
        if (f) {
            const double quota =
                fgets(text, sizeof text, f) ? cpu_quota(text) : 0;
            if (quota > 0 && (least == 0 || quota < least)) least = quota;
            fclose(f);
        }
        char *slash = strrchr(group, '/');
        if (!slash) return least;
        *slash = '\0';
    }
}

unsigned cpu_cores(void)
{
    unsigned cpus[CPU_SETSIZE];
    const unsigned n = cpu_core_list(cpus, CPU_SETSIZE);
    const double quota = group_quota();
    if (!(quota > 0) || quota >= n) return n;
    const unsigned whole = (unsigned)(quota + 0.5);
    return whole > 0 ? whole : 1;
}

void cpu_model_name(char *text, size_t n)
{
    snprintf(text, n, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, "model name", 10) != 0) continue;
        const char *value = strchr(line, ':');
        if (!value) break;
        value += strspn(value, ": \t");
        snprintf(text, n, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    fclose(f);
}

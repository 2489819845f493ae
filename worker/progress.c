#include "worker/progress.h"

#include <stdio.h>

#define SECOND_NS 1e9

void progress_line(struct progress *p, uint64_t now_ns, uint64_t done,
                   uint64_t total, char *out, size_t max)
{
    if (p->start_ns == 0) *p = (struct progress){now_ns, done};
    const double s = (double)(now_ns - p->start_ns) / SECOND_NS;
    const double got = (double)(done - p->start_bytes);
    const int n = snprintf(out, max, "%.1f of %.1f MiB", (double)done / 0x1p20,
                           (double)total / 0x1p20);
    if (s < 1 || got <= 0 || n < 0 || (size_t)n >= max) return;
    const double left = (double)(total - done) * s / got;
    const unsigned long whole = left < 1e8 ? (unsigned long)(left + 0.5) : 0;
    snprintf(out + n, max - (size_t)n, ", %.1f MiB/s, %lu:%02lu left",
             got / s / 0x1p20, whole / 60, whole % 60);
}

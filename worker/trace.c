#include "worker/trace.h"

#include <inttypes.h>

#include "common/clock.h"

void trace_step(FILE *f, const char *what, const struct wire_step *s)
{
    if (!f || s->n_rows == 0) return;
    fprintf(f, "%" PRIu64 " %s %" PRIu64 " %u\n", clock_now_ns(), what, s->step,
            s->stage);
    fflush(f);
}

void trace_sent(FILE *f, const struct wire_message *m, size_t header_bytes,
                size_t tensor_bytes)
{
    if (!f || m->kind != WIRE_STEP || m->step.n_rows == 0) return;
    fprintf(f, "%" PRIu64 " sent %" PRIu64 " %u %u %zu %zu\n", clock_now_ns(),
            m->step.step, m->step.stage, m->step.n_rows, header_bytes,
            tensor_bytes);
    fflush(f);
}

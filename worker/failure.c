#include "worker/failure.h"

#include <stdio.h>

void failure_fill(struct wire_message *out, enum wire_kind kind, uint64_t epoch,
                  uint64_t step, const struct error *err)
{
    *out = (struct wire_message){.kind = kind};
    out->failure = (struct wire_failure){
        .epoch = epoch, .step = step, .status = (uint32_t)err->status};
    snprintf(out->failure.text, sizeof out->failure.text, "%.*s", LIMIT_TEXT,
             err->text);
}

bool failure_instead(struct wire_message *out, uint64_t epoch,
                     const struct wire_message *m, const struct error *err)
{
    uint64_t step = 0;
    struct error why = *err;
    if (m->kind == WIRE_FAILURE || m->kind == WIRE_STEP_FAILED) return false;
    if (m->kind == WIRE_STEP) step = m->step.step;
    if (m->kind == WIRE_RESULT) step = m->result.step;
    if (m->kind == WIRE_DISPATCH || m->kind == WIRE_PARTIALS) {
        step = m->exchange.step;
    }
    error_prefix(&why, err->status, "what was to be sent is refused here: %s",
                 wire_kind_name(m->kind));
    failure_fill(out, step ? WIRE_STEP_FAILED : WIRE_FAILURE, epoch, step,
                 &why);
    return true;
}

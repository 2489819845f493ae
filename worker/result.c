#include "worker/result.h"

#include <string.h>

enum status result_scan(struct wire_result *out, struct step *step,
                        const struct shard *shard, const struct wire_step *s,
                        struct head_part *part, float **whole,
                        size_t *whole_bytes, struct error *err)
{
    const size_t row_bytes = shard->head.n_rows * sizeof(float);
    uint32_t n_whole = 0;
    for (uint32_t i = 0; i < s->n_want; i++) n_whole += s->samples[i].whole_row;
    if (n_whole != 0) {
        *whole = mem_alloc(n_whole * row_bytes);
        if (!*whole) return error_set(err, ST_NO_MEMORY, "rows of logits");
    }
    *whole_bytes = n_whole * row_bytes;
    out->n_whole = n_whole;
    n_whole = 0;
    for (uint32_t i = 0; i < s->n_want; i++) {
        const struct wire_sample *w = &s->samples[i];
        const struct head_params p = {.inv_temp = w->inv_temp,
                                      .repeat = w->repeat,
                                      .frequency = w->frequency,
                                      .presence = w->presence,
                                      .recent = w->recent,
                                      .n_recent = w->n_recent,
                                      .adjust = w->adjust,
                                      .n_adjust = w->n_adjust,
                                      .plain = w->plain,
                                      .seed = w->seed,
                                      .n = w->n};
        float *row = step_logits(step, i);
        const enum status st =
            head_scan(&p, shard->vec, row, shard->vocab_first,
                      shard->head.n_rows, part, err);
        if (st != ST_OK) return st;
        const struct head_part *const parts[] = {part};
        head_finish(parts, 1, &out->rows[i]);
        if (!w->whole_row) continue;
        memcpy((char *)*whole + n_whole++ * row_bytes, row, row_bytes);
    }
    return ST_OK;
}

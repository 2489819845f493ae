#include <string.h>

#include "tests/lib/wire_samples.h"

/* Lists are compared as bytes where a struct has no padding, else member by
 * member. */
static bool bytes_equal(const void *a, const void *b, size_t n)
{
    return n == 0 || memcmp(a, b, n) == 0;
}

static bool f32_equal(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static const char *assigns(const struct wire_assign *a,
                           const struct wire_assign *b)
{
    if (a->epoch != b->epoch || a->embed != b->embed ||
        a->vocab_first != b->vocab_first || a->vocab_end != b->vocab_end ||
        a->n_ctx != b->n_ctx || a->n_seq_max != b->n_seq_max ||
        a->n_pages != b->n_pages || a->rows_max != b->rows_max ||
        a->outputs_max != b->outputs_max || a->kv_type != b->kv_type ||
        a->n_steps != b->n_steps ||
        memcmp(a->model_id, b->model_id, KEY_BYTES) != 0) {
        return "a number of Assign";
    }
    const size_t n = a->n_layer;
    if (n != b->n_layer || !bytes_equal(a->blocks, b->blocks, n) ||
        !bytes_equal(a->experts, b->experts, n * 4 * sizeof *a->experts) ||
        !bytes_equal(a->expert_node, b->expert_node,
                     n * MODEL_EXPERTS_MAX * sizeof *a->expert_node)) {
        return "a layer of Assign";
    }
    if (a->model_header_bytes != b->model_header_bytes ||
        !bytes_equal(a->model_header, b->model_header, a->model_header_bytes)) {
        return "the model header";
    }
    if (a->n_peers != b->n_peers ||
        !bytes_equal(a->peers, b->peers, a->n_peers * sizeof *a->peers)) {
        return "peers";
    }
    return NULL;
}

static bool samples_equal(const struct wire_sample *a,
                          const struct wire_sample *b)
{
    return f32_equal(a->inv_temp, b->inv_temp) &&
           f32_equal(a->repeat, b->repeat) &&
           f32_equal(a->frequency, b->frequency) &&
           f32_equal(a->presence, b->presence) && a->plain == b->plain &&
           a->whole_row == b->whole_row && a->seed == b->seed && a->n == b->n &&
           a->n_recent == b->n_recent && a->n_adjust == b->n_adjust &&
           bytes_equal(a->recent, b->recent, a->n_recent * sizeof *a->recent) &&
           bytes_equal(a->adjust, b->adjust, a->n_adjust * sizeof *a->adjust);
}

static const char *step_lists(const struct wire_step *a,
                              const struct wire_step *b)
{
    for (uint32_t i = 0; i < a->n_stages; i++) {
        const struct wire_stage *x = &a->stages[i], *y = &b->stages[i];
        if (x->node != y->node || x->embed != y->embed || x->head != y->head ||
            x->again != y->again || x->layer_first != y->layer_first ||
            x->layer_end != y->layer_end) {
            return "a stage";
        }
    }
    for (uint32_t i = 0; i < a->n_ops; i++) {
        const struct kv_op *x = &a->ops[i], *y = &b->ops[i];
        if (x->kind != y->kind || x->seq != y->seq || x->source != y->source ||
            x->n != y->n) {
            return "a KV operation";
        }
    }
    for (uint32_t i = 0; i < a->n_rows; i++) {
        const struct step_row *x = &a->rows[i], *y = &b->rows[i];
        if (x->seq != y->seq || x->pos != y->pos || x->token != y->token ||
            x->want != y->want) {
            return "a row";
        }
    }
    for (uint32_t i = 0; i < a->n_want; i++) {
        if (!samples_equal(&a->samples[i], &b->samples[i])) return "a sample";
    }
    return NULL;
}

static const char *steps(const struct wire_step *a, const struct wire_step *b)
{
    if (a->epoch != b->epoch || a->step != b->step || a->stage != b->stage ||
        a->width != b->width || a->compute_ns != b->compute_ns ||
        a->n_stages != b->n_stages || a->n_ops != b->n_ops ||
        a->n_rows != b->n_rows || a->n_want != b->n_want) {
        return "a number of Step";
    }
    return step_lists(a, b);
}

static const char *results(const struct wire_result *a,
                           const struct wire_result *b)
{
    if (a->epoch != b->epoch || a->step != b->step || a->n_want != b->n_want ||
        a->n_whole != b->n_whole || a->n_vocab != b->n_vocab ||
        a->compute_ns != b->compute_ns) {
        return "a number of Result";
    }
    /* no padding, and unused candidates are zero on both sides */
    return bytes_equal(a->rows, b->rows, a->n_want * sizeof *a->rows)
               ? NULL
               : "a row of Result";
}

static const char *exchanges(const struct wire_exchange *a,
                             const struct wire_exchange *b)
{
    if (a->epoch != b->epoch || a->step != b->step || a->node != b->node ||
        a->serial != b->serial || a->width != b->width ||
        a->n_parts != b->n_parts) {
        return "a number of an exchange";
    }
    return bytes_equal(a->parts, b->parts, a->n_parts * sizeof *a->parts)
               ? NULL
               : "a part";
}

static const char *cells(const struct wire_cells *a, const struct wire_cells *b)
{
    if (a->n != b->n || a->manifest_only != b->manifest_only ||
        memcmp(a->model_id, b->model_id, KEY_BYTES) != 0) {
        return "a number of cells";
    }
    if (!bytes_equal(a->ids, b->ids, a->n * sizeof *a->ids)) return "a cell id";
    if (!a->hashes != !b->hashes) return "whether there are hashes";
    return !a->hashes ||
                   bytes_equal(a->hashes, b->hashes, (size_t)a->n * KEY_BYTES)
               ? NULL
               : "a hash";
}

static const char *difference(const struct wire_message *a,
                              const struct wire_message *b)
{
    if (a->kind != b->kind) return "the kind";
    switch ((unsigned)a->kind) {
    case WIRE_ASSIGN:
        return assigns(&a->assign, &b->assign);
    case WIRE_STEP:
        return steps(&a->step, &b->step);
    case WIRE_RESULT:
        return results(&a->result, &b->result);
    case WIRE_DISPATCH:
    case WIRE_PARTIALS:
        return exchanges(&a->exchange, &b->exchange);
    case WIRE_CELLS_WANTED:
    case WIRE_MANIFEST:
        return cells(&a->cells, &b->cells);
    default:
        /* Flat: both were zeroed before they were filled. */
        return bytes_equal(a, b, sizeof *a) ? NULL : "a member";
    }
}

bool wire_messages_equal(const struct wire_message *a,
                         const struct wire_message *b, const char **what)
{
    *what = difference(a, b);
    return *what == NULL;
}

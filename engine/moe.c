#include "engine/moe.h"

#include "engine/numerics.h"

/* Whether expert a goes before expert b; a NaN goes last. */
static bool before(const float *logits, uint32_t a, uint32_t b)
{
    if (logits[a] > logits[b]) return true;
    if (logits[a] < logits[b]) return false;
    const bool a_nan = logits[a] != logits[a], b_nan = logits[b] != logits[b];
    return a_nan == b_nan ? a < b : b_nan;
}

void moe_select(const float *logits, uint32_t n_expert, uint32_t n_used,
                bool normalised, uint32_t *ids, float *weights)
{
    uint32_t n = 0; /* ids[0..n): the best so far, best first */
    for (uint32_t e = 0; e < n_expert; e++) {
        if (n == n_used && !before(logits, e, ids[n - 1])) continue;
        uint32_t i = n < n_used ? n++ : n - 1;
        for (; i > 0 && before(logits, e, ids[i - 1]); i--) {
            ids[i] = ids[i - 1];
        }
        ids[i] = e;
    }
    const float max = logits[ids[0]];
    for (uint32_t i = 1; i < n; i++) { /* ascending index */
        const uint32_t e = ids[i];
        uint32_t j = i;
        for (; j > 0 && ids[j - 1] > e; j--) ids[j] = ids[j - 1];
        ids[j] = e;
    }
    float sum = 0;
    if (!normalised) {
        for (uint32_t e = 0; e < n_expert; e++) sum += nm_exp(logits[e] - max);
    }
    for (uint32_t i = 0; i < n; i++) {
        weights[i] = nm_exp(logits[ids[i]] - max);
        if (normalised) sum += weights[i];
    }
    for (uint32_t i = 0; i < n; i++) weights[i] = weights[i] / sum;
}

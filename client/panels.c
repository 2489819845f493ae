#include "client/panels.h"

#include <stdlib.h>

#include "engine/kernels_tune.h"

static void add(struct panel *out, uint32_t *n, const struct matrix *m)
{
    if (!m->kernel) return;
    uint32_t i = 0;
    while (i < *n && out[i].kernel != m->kernel) i++;
    if (i == PANELS_MAX) return;
    if (i == *n) {
        out[(*n)++] = (struct panel){.kernel = m->kernel, .from = m->blas_from};
    }
    out[i].n_matrices++;
    out[i].bytes += matrix_size(m);
}

static int by_bytes(const void *a, const void *b)
{
    const struct panel *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static const char *reason(const struct panel *p, const struct shard_options *o)
{
    const struct kernel_tuning t = kernels_tuning(p->kernel, o->fast);
    if (t.why == TUNE_NO_PANEL) return "there is no panel for this type";
    if (o->blas == BLAS_NEVER) return "--blas never";
    if (t.why == TUNE_UNUSABLE) return "this OpenBLAS has threads of its own";
    if (o->blas == BLAS_ALWAYS) return "--blas always";
    if (t.why == TUNE_NO_MEMORY) return "no memory to measure it";
    return t.why == TUNE_FASTER ? "measured: the panel is faster"
                                : "measured: the integer kernel is faster";
}

uint32_t panels_of(const struct shard *s, struct panel out[PANELS_MAX])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->model.n_layer; i++) {
        const struct shard_layer *l = &s->layers[i];
        const struct matrix *const all[] = {
            &l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down, &l->router};
        for (size_t m = 0; m < COUNT_OF(all); m++) add(out, &n, all[m]);
        for (uint32_t e = 0; l->experts && e < s->model.n_expert; e++) {
            add(out, &n, &l->experts[e].gate);
            add(out, &n, &l->experts[e].up);
            add(out, &n, &l->experts[e].down);
        }
    }
    add(out, &n, &s->head);
    for (uint32_t i = 0; i < n; i++) {
        out[i].why = reason(&out[i], &s->options);
    }
    qsort(out, n, sizeof *out, by_bytes);
    return n;
}

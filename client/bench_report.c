/* bench_report.c - what potluck bench prints. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/bench.h"

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* -------------------------------------------------------------- JSON */

static json_t *rate_json(const struct bench_rate *r)
{
    return json_pack("{s:f, s:f, s:f}", "tokens_per_s", r->median,
                     "tokens_per_s_min", r->min, "tokens_per_s_max", r->max);
}

static json_t *prefill_json(const struct bench *b, const struct bench_level *l)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < b->prompts.n; i++) {
        json_t *o = rate_json(&l->prefill[i].rate);
        json_object_set_new(o, "n_prompt", json_integer(b->prompts.v[i]));
        json_array_append_new(all, o);
    }
    return all;
}

static json_t *decode_json(const struct bench *b, const struct bench_level *l)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < l->n_decode; i++) {
        const struct bench_decode *d = &l->decode[i];
        json_t *o = rate_json(&d->rate);
        json_t *more = json_pack("{s:i, s:i, s:i, s:f, s:f, s:f}", "depth",
                                 d->depth, "streams", d->streams, "n_decode",
                                 b->n_steps, "weight_bytes_per_step",
                                 d->weight_bytes, "kv_bytes_per_step",
                                 d->kv_bytes, "bandwidth_share", d->share);
        json_object_update(o, more);
        json_decref(more);
        json_array_append_new(all, o);
    }
    return all;
}

static json_t *panels_json(const struct bench *b, const struct bench_level *l)
{
    struct shard_options o = b->model.shard;
    o.isa = l->isa;
    json_t *all = json_array();
    for (uint32_t i = 0; i < l->n_panels; i++) {
        const struct panel *p = &l->panels[i];
        json_array_append_new(
            all, json_pack("{s:s, s:i, s:I, s:o, s:s, s:o*}", "kernel",
                           p->kernel->name, "matrices", p->n_matrices, "bytes",
                           (json_int_t)p->bytes, "blas_from",
                           p->from == UINT32_MAX ? json_null()
                                                 : json_integer(p->from),
                           "why", p->why, "openblas",
                           json_tuning(p->kernel->type, &o)));
    }
    return all;
}

static json_t *levels_json(const struct bench *b)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < b->n_isa; i++) {
        const struct bench_level *l = &b->levels[i];
        json_array_append_new(
            all, json_pack("{s:s, s:f, s:I, s:o, s:o, s:o}", "isa",
                           isa_name(l->isa), "load_s", l->load_s,
                           "planned_bytes", (json_int_t)l->plan.total,
                           "prefill", prefill_json(b, l), "decode",
                           decode_json(b, l), "matrices", panels_json(b, l)));
    }
    return all;
}

static const char *numerics_name(const struct shard_options *o)
{
    return o->fast ? "fast" : "exact";
}

enum status bench_print_json(const struct bench *b, struct error *err)
{
    const struct bench_level *l = &b->levels[0];
    const struct bench_decode *d = &l->decode[0];
    const struct shard_options *o = &b->model.shard;
    char cpu[64];
    cpu_model_name(cpu, sizeof cpu);
    json_t *all = json_pack(
        "{s:o, s:s, s:s, s:i, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:f, "
        "s:f, s:I, s:f, s:f, s:I}",
        "model", json_text(b->path, strlen(b->path)), "cpu", cpu, "isa",
        isa_name(l->isa), "threads", o->n_threads, "kv",
        kv_type_name(o->kv_type), "numerics", numerics_name(o),
        "numerics_version", NUMERICS_VERSION, "n_prompt", b->prompts.v[0],
        "n_decode", b->n_steps, "depth", d->depth, "streams", d->streams,
        "runs", b->n_runs, "prefill_tokens_per_s", l->prefill[0].rate.median,
        "decode_tokens_per_s", d->rate.median, "active_bytes",
        (json_int_t)b->active_bytes, "read_bytes_per_s", b->read_bandwidth,
        "decode_bandwidth_share", d->share, "planned_bytes",
        (json_int_t)l->plan.total);
    if (all) json_object_set_new(all, "levels", levels_json(b));
    return print_json(all, err);
}

/* ------------------------------------------------------------- table */

static void print_panels(const struct bench_level *l)
{
    char a[32];
    puts("matrices          count       bytes   OpenBLAS panel");
    for (uint32_t i = 0; i < l->n_panels; i++) {
        const struct panel *p = &l->panels[i];
        printf("%-16s %6u  %10s   ", p->kernel->name, p->n_matrices,
               human_bytes(a, p->bytes));
        if (p->from == UINT32_MAX) {
            printf("never: %s\n", p->why);
        } else {
            printf("from %u columns on: %s\n", p->from, p->why);
        }
    }
}

static void print_level(const struct bench *b, const struct bench_level *l)
{
    char a[32], c[32];
    printf("\n%s: loaded in %.2f s, %s planned for a context of %u\n\n",
           isa_name(l->isa), l->load_s, human_bytes(a, l->plan.total),
           b->model.shard.n_ctx);
    puts("prefill           tokens/s   lowest - highest    seconds");
    for (uint32_t i = 0; i < b->prompts.n; i++) {
        const struct bench_prefill *p = &l->prefill[i];
        printf("%7u tokens    %9.2f  %8.2f - %-8.2f %9.2f\n", p->n_prompt,
               p->rate.median, p->rate.min, p->rate.max,
               p->n_prompt / p->rate.median);
    }
    puts("decode            tokens/s   lowest - highest   of each    bytes a "
         "step    GB/s  of reading");
    for (uint32_t i = 0; i < l->n_decode; i++) {
        const struct bench_decode *d = &l->decode[i];
        const double bytes = d->weight_bytes + d->kv_bytes;
        printf("%4u at %-7u   %9.2f  %8.2f - %-8.2f %8.2f  %12s  %6.2f  %6.0f "
               "%%\n",
               d->streams, d->depth, d->rate.median, d->rate.min, d->rate.max,
               d->rate.median / d->streams, human_bytes(c, (uint64_t)bytes),
               d->rate.median / d->streams * bytes / 1e9, 100 * d->share);
    }
    print_panels(l);
}

void bench_print_table(const struct bench *b)
{
    const struct shard_options *o = &b->model.shard;
    char cpu[64], a[32];
    cpu_model_name(cpu, sizeof cpu);
    printf("%s: %s of weights for a token\n", base_name(b->path),
           human_bytes(a, b->active_bytes));
    printf("%s, %u thread%s, memory read at %.2f GB/s\n", cpu, o->n_threads,
           o->n_threads == 1 ? "" : "s", b->read_bandwidth / 1e9);
    printf("KV cache %s, numerics %s (version %d), median of %u run%s\n",
           kv_type_name(o->kv_type), numerics_name(o), NUMERICS_VERSION,
           b->n_runs, b->n_runs == 1 ? "" : "s");
    for (uint32_t i = 0; i < b->n_isa; i++) print_level(b, &b->levels[i]);
}

/* cmd_bench.c - potluck bench: prompt and answer speed of this machine.
 *
 * prefill: tokens/s of a fresh prompt of -p tokens; decode: tokens/s over -n
 * steps of -b streams, each after a prompt. Medians of -r runs. Beside them
 * the read bandwidth of the memory, measured here, and the share of it that
 * decode's weight reads make up.
 *
 * Bandwidth is measured before the model is loaded, with a buffer of no more
 * than the model will take, given back before: so measuring adds nothing to
 * the memory that the plan promises (tests/golden/test_memory.c). */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/commands.h"
#include "common/clock.h"
#include "common/rng.h"
#include "engine/bandwidth.h"

#define RUNS_MAX       100
#define READ_BYTES_MAX (256u << 20) /* past any cache of an ordinary PC */
#define READ_BYTES_MIN (48u << 20)  /* past most, where the model is small */
#define READ_TIMES     7

struct bench {
    struct model_options model;
    uint32_t n_prompt, n_decode, n_streams, n_runs;
    bool json;
    struct runner r;
    double prefill[RUNS_MAX + 1], decode[RUNS_MAX + 1]; /* tokens/s */
    double read_bandwidth;                              /* bytes/s */
    uint64_t active_bytes;
    struct progress progress;
    char label[32];
};

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, uint32_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* --------------------------------------------------- read bandwidth */

static enum status measure_bandwidth(struct bench *b, uint64_t planned,
                                     struct error *err)
{
    const uint32_t n_threads = b->model.shard.n_threads;
    size_t bytes = READ_BYTES_MAX;
    if (planned < bytes) bytes = (size_t)planned;
    if (bytes < READ_BYTES_MIN) bytes = READ_BYTES_MIN;
    struct pool *pool = NULL;
    enum status st = pool_create(&pool, n_threads, err);
    if (st != ST_OK) return st;
    void *data = mem_alloc(bytes);
    if (!data) {
        st = error_set(err, ST_NO_MEMORY,
                       "no %zu bytes to measure the memory's bandwidth", bytes);
    } else {
        memset(data, 1, bytes);
        b->read_bandwidth = bandwidth_read(pool, data, bytes, READ_TIMES);
    }
    mem_free(data);
    pool_free(pool);
    return st;
}

/* -------------------------------------------------------------- runs */

static enum status ignore_row(void *arg, size_t index, float *logits,
                              struct error *err)
{
    (void)arg;
    (void)index;
    (void)logits;
    (void)err;
    return ST_OK;
}

static enum status decode_steps(struct bench *b, struct rng *rng,
                                uint32_t length, struct error *err)
{
    struct step_row rows[STEP_ROWS_MAX];
    for (uint32_t n = 0; n < b->n_decode; n++) {
        for (uint32_t i = 0; i < b->n_streams; i++) {
            rows[i] = (struct step_row){
                .seq = i,
                .pos = length + n,
                .token = (int32_t)rng_below(rng, b->r.model.n_vocab),
                .want = true};
        }
        const struct step_input in = {.rows = rows,
                                      .n_rows = b->n_streams,
                                      .embed = true,
                                      .layer_end = b->r.model.n_layer,
                                      .head = true};
        const enum status st = step_begin(b->r.step, &in, err);
        if (st != ST_OK) return st;
        if (step_run(b->r.step) != STEP_DONE) {
            return error_set(err, ST_INVALID, "the step did not end");
        }
        if (!progress_show(&b->progress, n + 1, b->n_decode)) {
            return error_set(err, ST_INTERRUPTED, "interrupted");
        }
    }
    return ST_OK;
}

static void begin_phase(struct bench *b, uint32_t run, const char *phase)
{
    progress_end(&b->progress);
    if (run == 0) {
        snprintf(b->label, sizeof b->label, "warm-up, %s", phase);
    } else {
        snprintf(b->label, sizeof b->label, "run %u of %u, %s", run, b->n_runs,
                 phase);
    }
    b->progress = (struct progress){.label = b->label, .unit = "tokens"};
}

/* run 0 warms up and counts for nothing. */
static enum status one_run(struct bench *b, uint32_t run, struct error *err)
{
    struct rng rng = {run};
    const size_t n = b->n_prompt;
    int32_t *prompt = mem_zalloc_array(n, sizeof *prompt);
    if (!prompt) return error_set(err, ST_NO_MEMORY, "prompt");
    for (size_t i = 0; i < n; i++) {
        prompt[i] = (int32_t)rng_below(&rng, b->r.model.n_vocab);
    }
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < b->n_streams; i++) {
        begin_phase(b, run, "prompt");
        const uint64_t start = clock_now_ns();
        st = runner_feed(&b->r, i, prompt, n, false, ignore_row, NULL, err);
        if (i == 0) {
            b->prefill[run] =
                (double)n * 1e9 / (double)(clock_now_ns() - start);
        }
    }
    begin_phase(b, run, "answer");
    const uint64_t start = clock_now_ns();
    if (st == ST_OK) st = decode_steps(b, &rng, b->n_prompt, err);
    b->decode[run] = (double)b->n_decode * b->n_streams * 1e9 /
                     (double)(clock_now_ns() - start);
    progress_end(&b->progress);
    for (uint32_t i = 0; i < b->n_streams; i++) runner_drop(&b->r, i);
    mem_free(prompt);
    return st;
}

static enum status print_figures(struct bench *b, const char *path,
                                 struct error *err)
{
    const double prefill = median(b->prefill + 1, b->n_runs);
    const double decode = median(b->decode + 1, b->n_runs);
    const struct shard_options *o = &b->r.shard->options;
    /* each step reads the active weights once; with several streams a
     * mixture of experts reads more, which is not counted */
    const double share =
        decode / b->n_streams * (double)b->active_bytes / b->read_bandwidth;
    char cpu[64];
    cpu_model_name(cpu, sizeof cpu);
    if (b->json) {
        return print_json(
            json_pack("{s:o, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:I, "
                      "s:f, s:f, s:I}",
                      "model", json_text(path, strlen(path)), "cpu", cpu, "isa",
                      isa_name(o->isa), "threads", o->n_threads, "n_prompt",
                      b->n_prompt, "n_decode", b->n_decode, "streams",
                      b->n_streams, "runs", b->n_runs, "prefill_tokens_per_s",
                      prefill, "decode_tokens_per_s", decode, "active_bytes",
                      (json_int_t)b->active_bytes, "read_bytes_per_s",
                      b->read_bandwidth, "decode_bandwidth_share", share,
                      "planned_bytes", (json_int_t)b->r.plan.total),
            err);
    }
    char a[32], c[32];
    const double steps = decode / b->n_streams; /* a second */
    printf("%s, %s, %u thread%s, median of %u run%s\n", cpu, isa_name(o->isa),
           o->n_threads, o->n_threads == 1 ? "" : "s", b->n_runs,
           b->n_runs == 1 ? "" : "s");
    printf("prompt (prefill)  %9.2f tokens/s: %u tokens in %.2f s\n", prefill,
           b->n_prompt, b->n_prompt / prefill);
    if (b->n_streams == 1) {
        printf("answer (decode)   %9.2f tokens/s: %u tokens in %.2f s\n",
               decode, b->n_decode, b->n_decode / decode);
    } else {
        printf("answer (decode)   %9.2f tokens/s: %u streams of %.2f each\n",
               decode, b->n_streams, steps);
    }
    printf("weights           %9.2f GB/s: %s at every step, %.0f %% of what "
           "memory gives\n",
           steps * (double)b->active_bytes / 1e9,
           human_bytes(a, b->active_bytes), 100 * share);
    printf("memory            %9.2f GB/s read; %s planned for a context of "
           "%u\n",
           b->read_bandwidth / 1e9, human_bytes(c, b->r.plan.total), o->n_ctx);
    return ST_OK;
}

/* The plan, from the file's header: bandwidth is measured before loading. */
static enum status look(struct bench *b, const char *path,
                        struct shard_bytes *plan, struct error *err)
{
    struct gguf *g = NULL;
    struct model model = {0};
    enum status st = gguf_open(&g, path, err);
    if (st != ST_OK) return st;
    st = model_describe(&model, g, err);
    if (st == ST_OK && b->model.shard.n_ctx > model.n_ctx) {
        st = error_set(err, ST_USAGE,
                       "-p %u and -n %u in a context of %u: this model allows "
                       "%u positions",
                       b->n_prompt, b->n_decode, b->model.shard.n_ctx,
                       model.n_ctx);
    }
    if (st == ST_OK) {
        b->active_bytes = model_active_bytes(&model);
        st = runner_plan(plan, &model, &b->model.shard, err);
    }
    model_fini(&model);
    gguf_close(g);
    return st == ST_OK ? ST_OK : error_prefix(err, st, "%s", path);
}

static enum status run(struct bench *b, const char *path, struct error *err)
{
    struct shard_options *o = &b->model.shard;
    struct shard_bytes plan;
    b->progress = (struct progress){.label = "loading"};
    if (o->n_ctx == 0) o->n_ctx = b->n_prompt + b->n_decode;
    if (o->n_ctx < b->n_prompt + b->n_decode) {
        return error_set(err, ST_USAGE,
                         "-p %u and -n %u need a context of %u: --ctx %u is "
                         "too short",
                         b->n_prompt, b->n_decode, b->n_prompt + b->n_decode,
                         o->n_ctx);
    }
    o->n_seq_max = b->n_streams;
    o->outputs_max = b->n_streams;
    if (o->rows_max < b->n_streams) o->rows_max = b->n_streams;
    o->progress = progress_show;
    o->progress_arg = &b->progress;
    enum status st = look(b, path, &plan, err);
    if (st == ST_OK && (o->memory_max == 0 || plan.total <= o->memory_max)) {
        st = measure_bandwidth(b, plan.total, err);
    }
    if (st == ST_OK) st = runner_open(&b->r, path, o, false, err);
    progress_end(&b->progress);
    b->r.progress = progress_show;
    b->r.progress_arg = &b->progress;
    for (uint32_t i = 0; st == ST_OK && i <= b->n_runs; i++) {
        st = one_run(b, i, err);
    }
    if (st == ST_OK) st = print_figures(b, path, err);
    runner_close(&b->r);
    return st;
}

int cmd_bench(int argc, char **argv)
{
    struct error err;
    struct bench b = {
        .n_prompt = 512, .n_decode = 64, .n_streams = 1, .n_runs = 5};
    model_options_defaults(&b.model);
    const struct option table[] = {
        {"--prompt", 'p', OPTION_U32, &b.n_prompt, "N",
         "prompt tokens (default 512)", 1, MODEL_CTX_MAX / 2},
        {"--tokens", 'n', OPTION_U32, &b.n_decode, "N",
         "tokens to decode (default 64)", 1, MODEL_CTX_MAX / 2},
        {"--streams", 'b', OPTION_U32, &b.n_streams, "N",
         "sequences decoded together (default 1)", 1, 1024},
        {"--runs", 'r', OPTION_U32, &b.n_runs, "N", "runs (default 5)", 1,
         RUNS_MAX},
        {"--json", 0, OPTION_FLAG, &b.json, NULL, "print one JSON object", 0,
         0},
        MODEL_OPTIONS(&b.model),
    };
    const char *words[1];
    size_t n_words;
    int code;
    if (!parse_command(table, COUNT_OF(table), "bench MODEL.gguf [OPTIONS]",
                       argc, argv, words, 1, &n_words, &code)) {
        return code;
    }
    enum status st = model_options_finish(&b.model, &err);
    if (st == ST_OK && n_words == 0) {
        st = error_set(&err, ST_USAGE, "bench needs a model file");
    }
    if (st != ST_OK) return fail(&err);
    catch_interrupt();
    st = run(&b, words[0], &err);
    return st == ST_OK ? EXIT_CODE_OK : fail(&err);
}

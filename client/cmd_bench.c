/* cmd_bench.c - potluck bench: prompt and answer speed of this machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/bench.h"

#define DEPTH_MAX (MODEL_CTX_MAX / 2)

enum status bench_list_parse(struct bench_list *l, const char *option,
                             uint32_t lo, uint32_t hi, struct error *err)
{
    const char *at = l->text;
    l->n = 0;
    for (;;) {
        char *end;
        const bool digit = *at >= '0' && *at <= '9';
        const unsigned long v = digit ? strtoul(at, &end, 10) : 0;
        if (!digit || (*end != ',' && *end != '\0') || v < lo || v > hi) {
            return error_set(err, ST_USAGE,
                             "%s %s: numbers from %u to %u, separated by "
                             "commas",
                             option, l->text, lo, hi);
        }
        if (l->n == BENCH_LIST_MAX) {
            return error_set(err, ST_USAGE, "%s: more than %d numbers", option,
                             BENCH_LIST_MAX);
        }
        l->v[l->n++] = (uint32_t)v;
        if (*end == '\0') return ST_OK;
        at = end + 1;
    }
}

static enum status add_isa(struct bench *b, const char *word, struct error *err)
{
    enum isa isa;
    if (!isa_by_name(word, &isa)) {
        return error_set(err, ST_USAGE,
                         "--isa %s is not a level; there are ref, sse4, avx, "
                         "avx2, avxvnni and avx512vnni",
                         word);
    }
    if (isa > cpu_isa()) {
        return error_set(err, ST_UNSUPPORTED,
                         "--isa %s: this processor's best level is %s", word,
                         isa_name(cpu_isa()));
    }
    for (uint32_t i = 0; i < b->n_isa; i++) {
        if (b->isa[i] == isa) return ST_OK;
    }
    b->isa[b->n_isa++] = isa;
    return ST_OK;
}

enum status bench_isas_parse(struct bench *b, struct error *err)
{
    b->n_isa = 0;
    if (!b->isas) {
        b->isa[b->n_isa++] = b->model.shard.isa;
        return ST_OK;
    }
    if (strcmp(b->isas, "all") == 0) {
        for (int i = (int)cpu_isa(); i > ISA_REF; i--) {
            b->isa[b->n_isa++] = (enum isa)i;
        }
        if (b->n_isa == 0) b->isa[b->n_isa++] = ISA_REF;
        return ST_OK;
    }
    const char *at = b->isas;
    for (;;) {
        char word[32];
        const size_t n = strcspn(at, ",");
        snprintf(word, sizeof word, "%.*s", (int)n, at);
        const enum status st = add_isa(b, word, err);
        if (st != ST_OK) return st;
        if (at[n] == '\0') return ST_OK;
        at += n + 1;
    }
}

static enum status parse_lists(struct bench *b, struct error *err)
{
    enum status st =
        bench_list_parse(&b->prompts, "-p", 1, MODEL_CTX_MAX / 2, err);
    if (st == ST_OK) st = bench_list_parse(&b->streams, "-b", 1, 1024, err);
    if (st != ST_OK) return st;
    if (b->depths.text) {
        st = bench_list_parse(&b->depths, "-d", 0, DEPTH_MAX, err);
    } else {
        b->depths = b->prompts; /* an answer follows its prompt */
    }
    return st == ST_OK ? bench_isas_parse(b, err) : st;
}

static void explain(void)
{
    puts(
        "\n"
        "LIST is numbers separated by commas: every length, and every depth "
        "with every\n"
        "number of streams, is measured. The share of reading is of what a "
        "plain loop of\n"
        "all threads reads from memory, measured here; a step reads the "
        "weights (of a\n"
        "mixture of experts: those chosen) and the keys and values before it.\n"
        "\n"
        "--json prints one object: model, cpu, isa, threads, kv, numerics,\n"
        "numerics_version, runs, read_bytes_per_s, active_bytes (weights for "
        "one token);\n"
        "of the first of each list n_prompt, depth, n_decode, streams, "
        "planned_bytes,\n"
        "prefill_tokens_per_s, decode_tokens_per_s, decode_bandwidth_share; "
        "and levels,\n"
        "for each ISA: isa, load_s, planned_bytes, and three arrays:\n"
        "  prefill   n_prompt, tokens_per_s (median), tokens_per_s_min, "
        "tokens_per_s_max\n"
        "  decode    depth, streams, n_decode, tokens_per_s (of all streams) "
        "and its\n"
        "            _min, _max, weight_bytes_per_step, kv_bytes_per_step,\n"
        "            bandwidth_share\n"
        "  matrices  kernel, matrices (how many), bytes, blas_from (columns "
        "from which\n"
        "            the OpenBLAS panel is used, or null), why, openblas (as "
        "measured)");
}

static enum status run(struct bench *b, struct error *err)
{
    enum status st = model_options_finish(&b->model, err);
    if (st == ST_OK && !b->path) {
        st = error_set(err, ST_USAGE, "bench needs a model file");
    }
    if (st == ST_OK) st = parse_lists(b, err);
    if (st != ST_OK) return st;
    catch_interrupt();
    st = bench_run(b, err);
    if (st == ST_OK && b->json) return bench_print_json(b, err);
    if (st == ST_OK) bench_print_table(b);
    return st;
}

int cmd_bench(int argc, char **argv)
{
    struct bench *b = mem_zalloc(sizeof *b);
    struct error err;
    if (!b) {
        error_set(&err, ST_NO_MEMORY, "bench");
        return fail(&err);
    }
    b->prompts.text = "512";
    b->streams.text = "1";
    b->n_steps = 64;
    b->n_runs = 5;
    model_options_defaults(&b->model);
    const struct option table[] = {
        {"--prompt", 'p', OPTION_STRING, &b->prompts.text, "LIST",
         "prompt tokens (default 512)", 0, 0},
        {"--tokens", 'n', OPTION_U32, &b->n_steps, "N",
         "tokens to decode (default 64)", 1, MODEL_CTX_MAX / 2},
        {"--depth", 'd', OPTION_STRING, &b->depths.text, "LIST",
         "positions before them (default: as -p)", 0, 0},
        {"--streams", 'b', OPTION_STRING, &b->streams.text, "LIST",
         "sequences decoded together (default 1)", 0, 0},
        {"--isa", 0, OPTION_STRING, &b->isas, "LIST",
         "instruction sets, or all (default: the best)", 0, 0},
        {"--runs", 'r', OPTION_U32, &b->n_runs, "N", "runs (default 5)", 1,
         BENCH_RUNS_MAX},
        {"--json", 0, OPTION_FLAG, &b->json, NULL, "print one JSON object", 0,
         0},
        MODEL_OPTIONS(&b->model),
    };
    size_t n_words;
    int code;
    if (parse_command(table, COUNT_OF(table), "bench MODEL.gguf [OPTIONS]",
                      argc, argv, &b->path, 1, &n_words, &code)) {
        code = run(b, &err) == ST_OK ? EXIT_CODE_OK : fail(&err);
    } else if (code == EXIT_CODE_OK) {
        explain();
    }
    mem_free(b);
    return code;
}

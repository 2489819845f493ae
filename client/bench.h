/* bench.h - potluck bench in parts: what is asked for, runs, figures.
 *
 * Depends on: commands, runner.  Thread: main.
 *
 * A level is one ISA: the model loaded for it, then every prompt length, then
 * every depth with every number of streams. */
#ifndef CLIENT_BENCH_H
#define CLIENT_BENCH_H

#include "client/commands.h"
#include "client/panels.h"

#define BENCH_LIST_MAX 16
#define BENCH_RUNS_MAX 100

/* "128,512,2048" */
struct bench_list {
    const char *text;
    uint32_t v[BENCH_LIST_MAX];
    uint32_t n;
};

/* Of the runs that count. */
struct bench_rate {
    double median, min, max; /* tokens/s */
};

struct bench_prefill {
    uint32_t n_prompt;
    struct bench_rate rate;
};

struct bench_decode {
    uint32_t depth, streams;       /* positions that are there; sequences */
    struct bench_rate rate;        /* of all streams together */
    double weight_bytes, kv_bytes; /* read at a step, on average */
    double share;                  /* of the read bandwidth, by both */
};

struct bench_level {
    enum isa isa;
    struct shard_bytes plan;
    double load_s;
    struct bench_prefill prefill[BENCH_LIST_MAX];
    struct bench_decode decode[BENCH_LIST_MAX * BENCH_LIST_MAX];
    uint32_t n_decode;
    struct panel panels[PANELS_MAX];
    uint32_t n_panels;
};

struct bench {
    struct model_options model;
    struct bench_list prompts, depths, streams;
    const char *isas; /* names, or "all"; NULL: the one in use */
    enum isa isa[ISA_END];
    uint32_t n_isa;
    uint32_t n_steps; /* decode: tokens of each stream */
    uint32_t n_runs;
    bool json;
    const char *path;
    double read_bandwidth; /* bytes/s */
    uint64_t active_bytes; /* of the weights, for one token */
    struct bench_level levels[ISA_END];
};

/* Text to numbers in [lo, hi].  ST_USAGE names the option and the word. */
NODISCARD enum status bench_list_parse(struct bench_list *l, const char *option,
                                       uint32_t lo, uint32_t hi,
                                       struct error *err);
/* b->isas to b->isa.  ST_USAGE: no such level; ST_UNSUPPORTED: not on this
 * processor. */
NODISCARD enum status bench_isas_parse(struct bench *b, struct error *err);

/* Measures all; fills read_bandwidth, active_bytes and levels. */
NODISCARD enum status bench_run(struct bench *b, struct error *err);

/* To standard output. */
NODISCARD enum status bench_print_json(const struct bench *b,
                                       struct error *err);
void bench_print_table(const struct bench *b);

#endif

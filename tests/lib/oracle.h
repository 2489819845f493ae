/* oracle.h - recorded answers of llama.cpp, and how far ours are from them.
 *
 * Depends on: mem, gen_model, jansson.  Thread: its owner's.
 *
 * Two kinds of file:
 *   tests/golden/oracle/NAME.json, made by record_oracle.mjs: for a generated
 *     model (its recipe is in the file) the most probable tokens after each
 *     of a list of tokens;
 *   ref/NAME.greedy.json of the outside test data: greedy runs with the ten
 *     most probable tokens of each step. */
#ifndef TESTS_LIB_ORACLE_H
#define TESTS_LIB_ORACLE_H

#include "tests/lib/gen_model.h"

struct oracle_entry {
    uint32_t id;
    double logprob;
};

struct oracle_row {
    uint32_t n;               /* 0: nothing recorded at this position */
    struct oracle_entry *top; /* most probable first */
    double rest;              /* ln of the other tokens' mass; 0: not said */
};

/* One teacher-forced run: rows[i] is the answer after tokens[0 .. i]. */
struct oracle {
    uint32_t n_tokens;
    uint32_t *tokens;
    struct oracle_row *rows;
};

struct oracle_file {
    uint32_t n_runs;
    struct oracle *runs;
    char model[128];         /* greedy: the file's name; else the preset  */
    struct gen_model recipe; /* n_layer 0 for greedy files                */
    uint64_t hash;           /* gen_file_hash of the generated model      */
    /* of conformance records; 0 where the file does not say */
    double mean_top1;    /* mean probability of the first token           */
    double own_kl;       /* mean KL divergence of llama.cpp's batch 1 from
                            its batch 512, which is what is recorded      */
    double least_margin; /* ln p of the last expert chosen over that of the
                            next, the least of any position and layer     */
};

/* Either kind.  ST_IO, ST_INVALID (names what is missing), ST_NO_MEMORY. */
NODISCARD enum status oracle_load(struct oracle_file *out, const char *path,
                                  struct error *err);
void oracle_fini(struct oracle_file *f);

/* Filled by oracle_compare, row after row; zero-initialise, then set gap. */
struct oracle_diff {
    double gap; /* first tokens must agree where the oracle's first and
                   second differ by more than this in log-probability */
    uint32_t n_rows, n_entries;
    uint32_t n_wrong;       /* rows whose first token differs        */
    uint32_t n_wrong_clear; /* of those, rows with a gap over `gap`   */
    double max, sum;        /* |difference of log-probability|; max is
                               infinite after a logit that is not finite */
    uint32_t worst_position, worst_id;
    double worst_ours, worst_theirs;
};

/* Our logits after tokens[position] against the recorded row; log-softmax in
 * double over all n_vocab.  A row without a record changes nothing. */
void oracle_compare(const struct oracle *o, uint32_t position,
                    const float *logits, uint32_t n_vocab,
                    struct oracle_diff *d);
double oracle_diff_mean(const struct oracle_diff *d);

/* One line: "48 rows, 768 entries: max 1.2e-05 (position 3, id 17: ours ...,
 * theirs ...), mean 2.1e-06, first token differs 0 times (0 clear)". */
void oracle_diff_print(const struct oracle_diff *d, char *text, size_t n);

#endif

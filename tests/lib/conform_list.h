/* conform_list.h - the cases of tests/golden/conformance.list: models, and
 * what llama.cpp answered.
 *
 * Depends on: oracle, gen_model.  Thread: its owner's. */
#ifndef TESTS_LIB_CONFORM_LIST_H
#define TESTS_LIB_CONFORM_LIST_H

#include "tests/lib/oracle.h"

#define CONFORM_CASES_MAX  80
#define CONFORM_NAME_BYTES 48

struct conform_case {
    char name[CONFORM_NAME_BYTES]; /* family-type, lower case */
    double floor;                  /* of the bound on the mean KL divergence */
};

struct conform_list {
    struct conform_case cases[CONFORM_CASES_MAX];
    size_t n;
};

/* Rounding alone for F32.  Beside F16 weights llama.cpp rounds activations
 * to f16; beside BF16 to bf16, whose 8 bits are as coarse as a quantized
 * activation's, so BF16 is counted there. */
double conform_floor(const char *type);

/* Reads conformance.list; the tests run in the source tree.  False: it cannot
 * be read, or is too long. */
bool conform_list_read(struct conform_list *out);
bool conform_list_has(const struct conform_list *l, const char *family,
                      const char *type);

/* The record of a case, its model written to model_path; ST_INVALID if that is
 * not the model that was recorded.  Records: POTLUCK_CONFORMANCE, or
 * tests/golden/oracle. */
NODISCARD enum status conform_load(struct oracle_file *out, const char *name,
                                   const char *model_path, struct error *err);

#endif

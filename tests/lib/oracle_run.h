/* oracle_run.h - run a model along a recorded run and compare every row.
 *
 * Depends on: runner, oracle.  Thread: its owner's. */
#ifndef TESTS_LIB_ORACLE_RUN_H
#define TESTS_LIB_ORACLE_RUN_H

#include "tests/lib/oracle.h"

/* Teacher-forced, KV cache f32, in steps of 32 tokens (so that most
 * attention reads what earlier steps cached); *d accumulates. */
NODISCARD enum status oracle_run(const char *model_path, const struct oracle *o,
                                 struct oracle_diff *d, struct error *err);

#endif

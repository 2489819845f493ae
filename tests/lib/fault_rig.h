/* fault_rig.h - a pool to be ill-treated, and what it must still do.
 *
 * Depends on: lan, cmocka.  Thread: the test's. */
#ifndef TESTS_LIB_FAULT_RIG_H
#define TESTS_LIB_FAULT_RIG_H

#include "tests/lib/lan.h"

#define FAULT_LAYERS  4 /* of the generated mixture of experts */
#define FAULT_EXPERTS 8
#define FAULT_CTX     "4200"

/* Sanitized programs are slow. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAULT_SLOW 1
#else
#define FAULT_SLOW 0
#endif

/* The model that comes with potluck: trained, so its router and its words are
 * no noise. */
#define FAULT_DEMO "deploy/demo/potluck-demo.gguf"

struct fault_rig {
    struct lan lan;
    char model[512];
    const char *prompt, *ctx;
    const char *n_short, *n_most; /* tokens of a short and a long answer */
    size_t row_bytes;             /* of logits */
    struct buf logits;            /* of `local`, for the short answer */
    uint32_t n_long;              /* long answers begun */
};

/* A generated mixture of experts that never ends an answer. */
void fault_begin(struct fault_rig *p);
/* FAULT_DEMO begins a story; a long answer is the whole of it, and takes half
 * a second or more. */
void fault_begin_demo(struct fault_rig *p);
void fault_end(struct fault_rig *p);
/* Coordinator for n workers, and the workers; until it serves. */
void fault_serve(struct fault_rig *p, uint32_t n, const char *const *more);

/* A short prompt is answered, with the bytes of `local`.  wait: seconds that
 * it may wait for a pool that is not ready, "0" for none. */
void fault_answers(struct fault_rig *p, const char *wait);
/* A long answer in the background, of which the first rows have come. */
pid_t fault_long(struct fault_rig *p);
/* It ended with exit code 6 and these words. */
void fault_broke_off(struct fault_rig *p, pid_t pid, const char *said);
/* The same of n tokens, to be finished: logits in DIR/name. */
pid_t fault_medium(struct fault_rig *p, const char *name, const char *n);
void fault_finished(struct fault_rig *p, pid_t pid, const char *name,
                    const char *n);

#endif

/* pick_tokens - token ids along which a model's routing is unambiguous.
 *
 * Rounding differs between implementations; where two experts are nearly as
 * probable, it decides which one is used, and answers part ways for no fault
 * of either.  So recorded answers run along random tokens for which every
 * layer's margin is over a bound. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "tests/lib/naive.h"

#define TRIES 5000

static void usage(FILE *f)
{
    fputs("pick_tokens MODEL.gguf [N] [SEED] [MARGIN]\n\n"
          "Prints N (48) random token ids, the first <s> (1) if possible, such "
          "that at each\nposition and in each layer the router's logit of the "
          "last expert chosen leads the\nnext one's by more than MARGIN (0.05)."
          "  The least lead found goes to stderr.\n",
          f);
}

static int pick(struct naive *n, uint32_t count, uint64_t seed, double bound)
{
    struct rng r = {seed};
    float *logits = mem_zalloc_array(naive_n_vocab(n), sizeof *logits);
    if (!logits) return 1;
    double least = 1;
    uint32_t pos;
    for (pos = 0; pos < count; pos++) {
        double margin = 0;
        uint32_t id = 0;
        for (uint32_t tries = 0; tries < TRIES && margin <= bound; tries++) {
            id = pos + tries == 0
                     ? 1
                     : 3 + (uint32_t)rng_below(&r, naive_n_vocab(n) - 3);
            naive_eval(n, pos, id, NAIVE_RIGHT, logits, &margin);
        }
        if (margin <= bound) break; /* this model routes too narrowly */
        if (margin < least) least = margin;
        printf("%s%u", pos ? "," : "", id);
    }
    printf("\n");
    fprintf(stderr, "least margin %.4f\n", least);
    mem_free(logits);
    return pos == count ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 5 || strcmp(argv[1], "--help") == 0) {
        usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    const uint32_t count = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 48;
    const uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    const double bound = argc > 4 ? strtod(argv[4], NULL) : 0.05;
    struct error err;
    struct gguf *g = NULL;
    struct naive *n = NULL;
    int rc = 1;
    if (gguf_open(&g, argv[1], &err) != ST_OK ||
        naive_create(&n, g, count, &err) != ST_OK) {
        fprintf(stderr, "pick_tokens: %s\n", err.text);
    } else {
        rc = pick(n, count, seed, bound);
    }
    naive_free(n);
    gguf_close(g);
    return rc;
}

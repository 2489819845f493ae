/* make_model - write a seeded random model as a GGUF file. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/gen_model.h"

static void usage(FILE *f)
{
    fputs("make_model --preset NAME [--seed N] [--type T] [--set KEY=VALUE]... "
          "OUT.gguf\n\n"
          "Writes a random model of architecture llama: the same bytes for the "
          "same\narguments on every machine.\n\n"
          "  --preset NAME    one of",
          f);
    const char *name;
    for (uint32_t i = 0; (name = gen_model_preset_name(i)); i++) {
        fprintf(f, "%s %s", i ? "," : "", name);
    }
    fputs("\n"
          "  --seed N         default 1\n"
          "  --type T         all matrices: F32, F16, BF16, Q8_0, Q4_0, Q4_1, "
          "Q5_0, Q5_1,\n"
          "                   Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, "
          "or q4_k_m (Q4_K, with part of attn_v and "
          "ffn_down and the head Q6_K)\n"
          "  --set KEY=VALUE  n_layer, n_embd, n_head, n_head_kv, head_dim, "
          "n_ff, n_expert,\n"
          "                   n_expert_used, n_vocab, n_ctx, tied, n_splits, "
          "pool_rows, sparse,\n"
          "                   more_bits, rope_base, rope_factor, head_gain, "
          "router_gain,\n"
          "                   type.embd, .head, .attn, .attn_v, .ffn, "
          ".ffn_down\n"
          "With n_splits=N OUT ends in -00001-of-0000N.gguf.  Otherwise prints "
          "FNV-1a of the\nfile's bytes, unless it is sparse.\n",
          f);
}

static int fail(const struct error *err)
{
    fprintf(stderr, "make_model: %s\n", err->text);
    return 1;
}

static enum status apply(struct gen_model *m, const char *option,
                         const char *value, struct error *err)
{
    char setting[256];
    if (strcmp(option, "--preset") == 0) {
        return gen_model_preset(m, value, err);
    }
    if (m->n_layer == 0) {
        return error_set(err, ST_USAGE, "--preset NAME comes first");
    }
    if (strcmp(option, "--set") == 0) return gen_model_set(m, value, err);
    if (strcmp(option, "--seed") == 0 || strcmp(option, "--type") == 0) {
        snprintf(setting, sizeof setting, "%s=%s", option + 2, value);
        return gen_model_set(m, setting, err);
    }
    return error_set(err, ST_USAGE, "%s: no such option (see --help)", option);
}

int main(int argc, char **argv)
{
    struct gen_model m = {0};
    struct error err;
    const char *out = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            usage(stdout);
            return 0;
        }
        if (argv[i][0] != '-') {
            out = argv[i];
        } else if (i + 1 == argc) {
            usage(stderr);
            return 2;
        } else if (apply(&m, argv[i], argv[i + 1], &err) != ST_OK) {
            return fail(&err);
        } else {
            i++;
        }
    }
    if (!out || m.n_layer == 0) {
        usage(stderr);
        return 2;
    }
    uint64_t hash;
    if (gen_model_write(&m, out, &err) != ST_OK) return fail(&err);
    if (m.sparse || m.n_splits > 1) return 0;
    if (gen_file_hash(out, &hash, &err) != ST_OK) return fail(&err);
    printf("%016" PRIx64 "\n", hash);
    return 0;
}

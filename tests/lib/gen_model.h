/* gen_model.h - seeded random models of every architecture, as GGUF files.
 *
 * Depends on: common, quant, gguf_writer.  Thread: any.
 *
 * The same description gives the same bytes on every machine: weights come
 * from integer draws of common/rng.h, and every float on the way to the file
 * is one of +, -, *, / or a conversion, each rounded once; libm has no say.
 * A matrix's values depend on the seed, its name and the row alone, so that
 * models which differ in one property share all other weights.
 *
 * Weights are scaled so that the function is worth comparing: residual
 * branches shrink with the depth, attention and router are neither flat nor
 * one-hot, and the head is sharp enough for a clear first token. */
#ifndef TESTS_LIB_GEN_MODEL_H
#define TESTS_LIB_GEN_MODEL_H

#include <stdint.h>

#include "common/status.h"
#include "engine/quant.h"

/* Matrices that real files may give types of their own. */
enum gen_role {
    GEN_EMBD,     /* token_embd                          */
    GEN_HEAD,     /* output                              */
    GEN_ATTN,     /* attn_q, attn_k, attn_output         */
    GEN_ATTN_V,   /* attn_v                              */
    GEN_FFN,      /* ffn_gate, ffn_up and their _exps    */
    GEN_FFN_DOWN, /* ffn_down and its _exps              */
    GEN_NORM,     /* norms, router, rope_freqs: F32 only */
    GEN_ROLE_END
};

enum gen_arch {
    GEN_LLAMA,
    GEN_GEMMA2,
    GEN_QWEN2,
    GEN_QWEN3,
    GEN_QWEN3MOE,
    GEN_ARCH_END
};
enum gen_rope_scaling { GEN_ROPE_PLAIN, GEN_ROPE_LINEAR, GEN_ROPE_YARN };

struct gen_model {
    uint64_t seed;
    uint32_t n_layer, n_embd, n_head, n_head_kv, head_dim, n_ff;
    uint32_t n_expert, n_expert_used; /* 0, 0: dense                      */
    uint32_t n_vocab, n_ctx;
    enum gen_arch arch;
    enum gen_rope_scaling rope_scaling;
    uint32_t n_rot;      /* rotated elements of a head; 0: all            */
    uint32_t window;     /* sliding; 0: the file does not say             */
    uint32_t n_ctx_orig; /* of YaRN; 0: the file does not say             */
    uint32_t bias;       /* 1: biases of all products, where optional     */
    uint32_t tied;       /* 1: no output.weight                          */
    uint32_t n_splits;   /* files; 1: a single one                       */
    uint32_t pool_rows;  /* layer matrices draw their rows from so many
                            quantized once; 0: every row its own         */
    uint32_t sparse;     /* 1: header only, the data is a hole of zeros  */
    uint32_t more_bits;  /* 1: attn_v and ffn_down of the layers that
                            llama.cpp's q4_k_m favours become Q6_K       */
    float rope_base;
    float eps;         /* of the norms; 0: 1e-5                        */
    float branch_gain; /* what layers add to the residual; 0: 1           */
    float rope_factor; /* rope_freqs rise from 1 to it; 0: none        */
    float head_gain;   /* standard deviation of the logits             */
    float router_gain; /* standard deviation of the router's logits    */
    float rope_scale;  /* factor of rope_scaling                       */
    float attn_cap, final_cap; /* soft-caps; 0: the file does not say  */
    float qk_gain; /* times the standard deviation of attn_q, _k   */
    enum quant_type type[GEN_ROLE_END];
};

struct gen_tensor {
    char name[64];
    enum gen_role role;
    enum quant_type type;
    uint32_t n_dims;
    uint64_t ne[3]; /* ne[0] is the row length; unused: 1 */
    double std;     /* of the values                      */
    double mean;
};

/* tiny-dense, tiny-moe, ...; ST_NOT_FOUND names those that exist. */
NODISCARD enum status gen_model_preset(struct gen_model *out, const char *name,
                                       struct error *err);
/* The i-th preset's name, NULL past the last. */
const char *gen_model_preset_name(uint32_t i);
/* "key=value": a field above by name, "arch=gemma2", "rope_scaling=yarn",
 * "type=q4_k_m" for all matrices, or "type.ROLE=..." with ROLE embd, head,
 * attn, attn_v, ffn, ffn_down. */
NODISCARD enum status gen_model_set(struct gen_model *m, const char *setting,
                                    struct error *err);

/* ST_INVALID if no such model can exist, naming the fields. */
NODISCARD enum status gen_model_check(const struct gen_model *m,
                                      struct error *err);

/* "llama", ...: general.architecture. */
const char *gen_arch_name(enum gen_arch arch);

/* Tensors in file order, of a model that gen_model_check accepts. */
uint32_t gen_model_n_tensors(const struct gen_model *m);
void gen_model_tensor(const struct gen_model *m, uint32_t i,
                      struct gen_tensor *out);

/* One file at path, or for n_splits > 1 the set whose first file is path,
 * which must then end in -00001-of-0000N.gguf.  Checks m first. */
NODISCARD enum status gen_model_write(const struct gen_model *m,
                                      const char *path, struct error *err);

/* FNV-1a of a file's bytes, 64 bits: to see that it is the one recorded. */
NODISCARD enum status gen_file_hash(const char *path, uint64_t *out,
                                    struct error *err);

#endif

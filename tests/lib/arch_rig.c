#include "tests/lib/arch_rig.h"

#include <stdlib.h>

static const char *const names[ARCH_END] = {
    [ARCH_GEMMA2] = "gemma2",
    [ARCH_QWEN2] = "qwen2",
    [ARCH_QWEN3] = "qwen3",
    [ARCH_QWEN3MOE] = "qwen3moe",
    [ARCH_YARN] = "qwen2 with YaRN, partly rotated",
    [ARCH_WINDOW_ALL] = "llama with windows and biases",
};

const char *arch_name(uint32_t arch)
{
    return names[arch];
}

static struct gen_model small(const char *preset)
{
    struct gen_model m;
    if (gen_model_preset(&m, preset, NULL) != ST_OK) abort();
    m.n_layer = 4;
    m.n_ff = 256;
    m.n_vocab = 600;
    m.n_ctx = 128;
    m.type[GEN_EMBD] = QUANT_Q4_K;
    m.type[GEN_HEAD] = QUANT_Q6_K;
    m.type[GEN_ATTN] = QUANT_Q8_0;
    m.type[GEN_ATTN_V] = QUANT_F32;
    m.type[GEN_FFN] = QUANT_Q4_K;
    m.type[GEN_FFN_DOWN] = QUANT_Q6_K;
    return m;
}

struct gen_model arch_model(uint32_t arch)
{
    struct gen_model m =
        small(arch == ARCH_QWEN3MOE ? "tiny-moe" : "tiny-dense");
    switch (arch) {
    case ARCH_GEMMA2:
        m.arch = GEN_GEMMA2;
        m.head_dim = 256;
        m.n_head = 2;
        m.n_head_kv = 1;
        m.tied = 1;
        m.window = ARCH_WINDOW;
        m.qk_gain = 4; /* scores that the soft-cap bends */
        break;
    case ARCH_QWEN2:
        m.arch = GEN_QWEN2;
        break;
    case ARCH_QWEN3:
        m.arch = GEN_QWEN3;
        m.head_dim = 64;
        break;
    case ARCH_QWEN3MOE:
        m.arch = GEN_QWEN3MOE;
        m.n_expert = 64;
        m.n_expert_used = 8;
        break;
    case ARCH_YARN:
        m.arch = GEN_QWEN2;
        m.rope_scaling = GEN_ROPE_YARN;
        m.rope_scale = 4;
        m.n_ctx_orig = 16;
        m.n_rot = 24;
        m.rope_factor = 2;
        break;
    case ARCH_WINDOW_ALL:
    default:
        m.window = ARCH_WINDOW;
        m.bias = 1;
        m.rope_scaling = GEN_ROPE_LINEAR;
        m.rope_scale = 2;
        break;
    }
    return m;
}

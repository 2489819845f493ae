/* test_model.c - what a file must say to be a model: a table of files with
 * one thing wrong, and forms of a file that mean the same. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/engine_rig.h"
#include "tests/lib/gguf_writer.h"

/* A small good file: 2 layers, dim 64, 4 heads of 16 on 2, 40 tokens. */
enum { EMBD = 64, HEADS = 4, KV = 2, DIM = 16, FF = 32, VOCAB = 40, CTX = 64 };
enum { LAYERS = 2, EXPERTS = 4 };

enum what {
    NOTHING,
    DROP_KEY,
    U32,    /* the key gets this value, or is added */
    F32,    /* value.f */
    STR,    /* text */
    TOKENS, /* value.u of them */
    DROP_TENSOR,
    SHAPE,      /* value.ne */
    TYPE,       /* value.u, a type that the writer knows */
    RAW_TYPE,   /* value.u, any */
    ADD_TENSOR, /* of value.ne */
};

struct change {
    enum what what;
    const char *name;
    struct {
        uint32_t u;
        float f;
        const char *text;
        uint64_t ne[3];
    } value;
};

static bool hits(const struct change *c, const char *name, bool key)
{
    if (!c->name || strcmp(c->name, name) != 0) return false;
    return key ? c->what >= DROP_KEY && c->what <= TOKENS : c->what > TOKENS;
}

static void put_u32(struct gguf_writer *w, const struct change *c,
                    const char *key, uint32_t v)
{
    if (!hits(c, key, true)) gguf_writer_u32(w, key, v);
}

static void put_tensor(struct gguf_writer *w, const struct change *c,
                       const char *name, uint64_t k, uint64_t rows,
                       uint64_t planes)
{
    uint64_t ne[3] = {k, rows, planes};
    enum quant_type type = QUANT_F32;
    if (hits(c, name, false)) {
        if (c->what == DROP_TENSOR) return;
        if (c->what == SHAPE) memcpy(ne, c->value.ne, sizeof ne);
        if (c->what == TYPE) type = (enum quant_type)c->value.u;
    }
    const uint32_t n_dims = ne[2] > 1 ? 3 : ne[1] > 1 ? 2 : 1;
    gguf_writer_tensor(w, name, type, n_dims, ne, NULL);
}

static void put_keys(struct gguf_writer *w, const struct change *c,
                     uint32_t n_expert)
{
    static const char eps[] = "llama.attention.layer_norm_rms_epsilon";
    if (!hits(c, "general.architecture", true)) {
        gguf_writer_str(w, "general.architecture", "llama");
    }
    put_u32(w, c, "llama.block_count", LAYERS);
    put_u32(w, c, "llama.embedding_length", EMBD);
    put_u32(w, c, "llama.feed_forward_length", FF);
    put_u32(w, c, "llama.attention.head_count", HEADS);
    put_u32(w, c, "llama.attention.head_count_kv", KV);
    put_u32(w, c, "llama.context_length", CTX);
    put_u32(w, c, "llama.rope.dimension_count", DIM);
    if (!hits(c, eps, true)) gguf_writer_f32(w, eps, 1e-5f);
    if (n_expert) {
        put_u32(w, c, "llama.expert_count", n_expert);
        put_u32(w, c, "llama.expert_used_count", 2);
    }
    if (c->what == U32) gguf_writer_u32(w, c->name, c->value.u);
    if (c->what == F32) gguf_writer_f32(w, c->name, c->value.f);
    if (c->what == STR) gguf_writer_str(w, c->name, c->value.text);
    if (c->what == TOKENS) {
        struct gguf_str tokens[VOCAB + 1];
        for (int i = 0; i <= VOCAB; i++) tokens[i] = (struct gguf_str){"a", 1};
        gguf_writer_strs(w, c->name, tokens, c->value.u);
    }
}

static void put_layer(struct gguf_writer *w, const struct change *c, uint32_t l,
                      bool moe)
{
    const struct {
        const char *name;
        uint64_t k, rows, planes;
    } t[] = {
        {"attn_norm", EMBD, 1, 1},
        {"ffn_norm", EMBD, 1, 1},
        {"attn_q", EMBD, HEADS * DIM, 1},
        {"attn_k", EMBD, KV * DIM, 1},
        {"attn_v", EMBD, KV * DIM, 1},
        {"attn_output", HEADS * DIM, EMBD, 1},
        {moe ? "ffn_gate_exps" : "ffn_gate", EMBD, FF, moe ? EXPERTS : 1},
        {moe ? "ffn_up_exps" : "ffn_up", EMBD, FF, moe ? EXPERTS : 1},
        {moe ? "ffn_down_exps" : "ffn_down", FF, EMBD, moe ? EXPERTS : 1},
        {"ffn_gate_inp", EMBD, EXPERTS, 1},
    };
    for (size_t i = 0; i < COUNT_OF(t) - !moe; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.%s.weight", l, t[i].name);
        put_tensor(w, c, name, t[i].k, t[i].rows, t[i].planes);
    }
}

/* In the header of a saved file: the type of the tensor. */
static void patch_type(struct buf *b, const char *name, uint32_t type)
{
    const size_t len = strlen(name);
    for (size_t i = 0; i + len + 4 < b->len; i++) {
        if (memcmp(b->data + i, name, len) != 0) continue;
        uint32_t n_dims;
        memcpy(&n_dims, b->data + i + len, sizeof n_dims);
        memcpy(b->data + i + len + 4 + 8 * (size_t)n_dims, &type, sizeof type);
        return;
    }
    fail_msg("no tensor %s", name);
}

static struct gguf *make_file(const struct change *c, bool moe)
{
    struct gguf_writer *w = NULL;
    struct gguf *g = NULL;
    struct buf b = {.max = 1u << 26};
    assert_ok(gguf_writer_create(&w, 3, &rig_err));
    put_keys(w, c, moe ? EXPERTS : 0);
    put_tensor(w, c, "token_embd.weight", EMBD, VOCAB, 1);
    put_tensor(w, c, "output_norm.weight", EMBD, 1, 1);
    put_tensor(w, c, "output.weight", EMBD, VOCAB, 1);
    for (uint32_t l = 0; l < LAYERS; l++) put_layer(w, c, l, moe);
    if (c->what == ADD_TENSOR) {
        const uint64_t *ne = c->value.ne;
        put_tensor(w, &(struct change){0}, c->name, ne[0], ne[1], ne[2]);
    }
    assert_ok(gguf_writer_save_mem(w, &b, &rig_err));
    gguf_writer_free(w);
    if (c->what == RAW_TYPE) patch_type(&b, c->name, c->value.u);
    assert_ok(gguf_open_mem(&g, b.data, b.len, &rig_err));
    buf_fini(&b);
    return g;
}

/* -------------------------------------------------------------- table */

#define L "llama."
#define A "llama.attention."
static const struct {
    struct change change;
    bool moe;
    enum status want;
    const char *word;
} bad[] = {
    /* keys that must be there */
    {{DROP_KEY, "general.architecture", {0}}, 0, ST_NOT_FOUND, "architecture"},
    {{DROP_KEY, L "block_count", {0}}, 0, ST_NOT_FOUND, "block_count"},
    {{DROP_KEY, L "embedding_length", {0}},
     0,
     ST_NOT_FOUND,
     "embedding_length"},
    {{DROP_KEY, L "feed_forward_length", {0}}, 0, ST_NOT_FOUND, "feed_forward"},
    {{DROP_KEY, A "head_count", {0}}, 0, ST_NOT_FOUND, "head_count"},
    {{DROP_KEY, L "context_length", {0}}, 0, ST_NOT_FOUND, "context_length"},
    {{DROP_KEY, A "layer_norm_rms_epsilon", {0}}, 0, ST_INVALID, "rms_epsilon"},
    {{DROP_KEY, L "expert_used_count", {0}},
     1,
     ST_INVALID,
     "4 experts of which 0"},
    /* that make no sense */
    {{STR, "general.architecture", {.text = "gpt2"}},
     0,
     ST_UNSUPPORTED,
     "architecture \"gpt2\""},
    {{STR, "general.architecture", {.text = "a\033[2J\n"}},
     0,
     ST_UNSUPPORTED,
     "\"a?[2J?\""},
    {{U32, "general.architecture", {.u = 7}}, 0, ST_INVALID, "architecture"},
    {{U32, L "block_count", {.u = 0}}, 0, ST_INVALID, "block_count is 0"},
    {{U32, L "block_count", {.u = 1025}}, 0, ST_INVALID, "1 to 1024"},
    {{U32, L "embedding_length", {.u = 65537}}, 0, ST_INVALID, "embedding_len"},
    {{U32, L "feed_forward_length", {.u = 131073}}, 0, ST_INVALID, "131072"},
    {{U32, A "head_count", {.u = 0}}, 0, ST_INVALID, "head_count is 0"},
    {{U32, A "head_count", {.u = 128}}, 0, ST_UNSUPPORTED, "128 heads"},
    {{U32, A "head_count_kv", {.u = 3}}, 0, ST_UNSUPPORTED, "3 key/value"},
    {{U32, A "head_count_kv", {.u = 5}}, 0, ST_INVALID, "head_count_kv is 5"},
    {{U32, A "head_count_kv", {.u = 0}}, 0, ST_INVALID, "head_count_kv is 0"},
    {{U32, A "key_length", {.u = 257}}, 0, ST_INVALID, "key_length"},
    {{U32, A "value_length", {.u = 8}}, 0, ST_UNSUPPORTED, "value length 8"},
    {{U32, L "context_length", {.u = 1048577}}, 0, ST_INVALID, "context_len"},
    {{F32, A "layer_norm_rms_epsilon", {.f = -1}}, 0, ST_INVALID, "epsilon"},
    {{F32, A "layer_norm_rms_epsilon", {.f = NAN}}, 0, ST_INVALID, "epsilon"},
    {{STR, A "layer_norm_rms_epsilon", {.text = "1"}}, 0, ST_INVALID, "eps"},
    {{U32, L "rope.dimension_count", {.u = 7}}, 0, ST_INVALID, "odd (7)"},
    {{U32, L "rope.dimension_count", {.u = 18}}, 0, ST_INVALID, "2 to 16"},
    {{F32, L "rope.freq_base", {.f = 0.5f}}, 0, ST_INVALID, "freq_base"},
    {{F32, L "rope.freq_base", {.f = INFINITY}}, 0, ST_INVALID, "freq_base"},
    {{U32, L "expert_count", {.u = 257}}, 1, ST_INVALID, "expert_count"},
    {{U32, L "expert_used_count", {.u = 5}}, 1, ST_INVALID, "which 5"},
    {{U32, L "expert_used_count", {.u = 33}}, 1, ST_INVALID, "used_count"},
    /* that ask for what is not built */
    {{STR, L "rope.scaling.type", {.text = "longrope"}},
     0,
     ST_UNSUPPORTED,
     "rope scaling \"longrope\""},
    {{STR, L "rope.scaling.type", {.text = "yarm"}}, 0, ST_UNSUPPORTED, "yarm"},
    {{F32, L "rope.scaling.factor", {.f = 0.5f}}, 0, ST_INVALID, "is 0.5"},
    {{F32, L "rope.scaling.factor", {.f = 1e30f}}, 0, ST_INVALID, "is 1e+30"},
    {{F32, L "rope.scaling.attn_factor", {.f = -1}},
     0,
     ST_INVALID,
     "is 1, att"},
    {{F32, L "rope.scaling.yarn_log_multiplier", {.f = 0.1f}},
     0,
     ST_UNSUPPORTED,
     "yarn_log_multiplier"},
    {{F32, L "attn_logit_softcapping", {.f = 50}},
     0,
     ST_UNSUPPORTED,
     "attn_logit_softcapping = 50"},
    {{F32, L "final_logit_softcapping", {.f = 30}},
     0,
     ST_UNSUPPORTED,
     "final_logit_softcapping"},
    {{STR, A "sliding_window", {.text = "all"}}, 0, ST_INVALID, "sliding"},
    {{STR, L "expert_weights_norm", {.text = "no"}}, 1, ST_INVALID, "s_norm"},
    {{TOKENS, "tokenizer.ggml.tokens", {.u = VOCAB + 1}},
     0,
     ST_INVALID,
     "has 41 tokens, token_embd.weight 40 rows"},
    {{TOKENS, "tokenizer.ggml.tokens", {.u = VOCAB - 1}},
     0,
     ST_INVALID,
     "has 39 tokens"},
    {{ADD_TENSOR, "blk.0.attn_k.bias", {.ne = {EMBD, 1, 1}}},
     0,
     ST_INVALID,
     "blk.0.attn_k.bias is [64, 1, 1], but the model needs [32"},
    {{ADD_TENSOR, "blk.0.ffn_up.bias", {.ne = {FF, 1, 1}}},
     1,
     ST_UNSUPPORTED,
     "blk.0.ffn_up.bias"},
    {{F32, L "rope.scale_linear", {.f = 0.5f}}, 0, ST_INVALID, "factor is 0.5"},
    {{F32, L "logit_scale", {.f = 0.25f}}, 0, ST_UNSUPPORTED, "logit_scale"},
    {{F32, A "clamp_kqv", {.f = 8}}, 0, ST_UNSUPPORTED, "clamp_kqv"},
    {{U32, L "expert_gating_func", {.u = 2}}, 1, ST_UNSUPPORTED, "gating"},
    /* tensors that must be there */
    {{DROP_TENSOR, "token_embd.weight", {0}},
     0,
     ST_INVALID,
     "token_embd.weight is"},
    {{DROP_TENSOR, "output_norm.weight", {0}},
     0,
     ST_INVALID,
     "output_norm.weight"},
    {{DROP_TENSOR, "blk.1.attn_k.weight", {0}}, 0, ST_INVALID, "blk.1.attn_k"},
    {{DROP_TENSOR, "blk.0.attn_norm.weight", {0}}, 0, ST_INVALID, "attn_norm"},
    {{DROP_TENSOR, "blk.1.ffn_norm.weight", {0}},
     0,
     ST_INVALID,
     "blk.1.ffn_norm"},
    {{DROP_TENSOR, "blk.1.ffn_down.weight", {0}},
     0,
     ST_INVALID,
     "blk.1.ffn_down"},
    {{DROP_TENSOR, "blk.1.ffn_gate_inp.weight", {0}},
     1,
     ST_INVALID,
     "gate_inp"},
    {{DROP_TENSOR, "blk.1.ffn_up_exps.weight", {0}},
     1,
     ST_INVALID,
     "blk.1.ffn_up.0.weight is missing"},
    {{U32, L "block_count", {.u = 3}}, 0, ST_INVALID, "blk.2."},
    /* of other shapes */
    {{SHAPE, "token_embd.weight", {.ne = {EMBD + 32, VOCAB, 1}}},
     0,
     ST_INVALID,
     "token_embd.weight is [96, 40, 1]"},
    {{SHAPE, "output.weight", {.ne = {EMBD, VOCAB + 1, 1}}},
     0,
     ST_INVALID,
     "output.weight is [64, 41, 1]"},
    {{SHAPE, "output_norm.weight", {.ne = {EMBD - 1, 1, 1}}},
     0,
     ST_INVALID,
     "output_norm.weight"},
    {{SHAPE, "blk.0.attn_q.weight", {.ne = {EMBD, EMBD, 2}}},
     0,
     ST_INVALID,
     "attn_q.weight is [64, 64, 2]"},
    {{SHAPE, "blk.1.attn_v.weight", {.ne = {EMBD, 16, 1}}},
     0,
     ST_INVALID,
     "needs [64, 32, 1]"},
    {{SHAPE, "blk.1.ffn_down.weight", {.ne = {EMBD, FF, 1}}},
     0,
     ST_INVALID,
     "blk.1.ffn_down.weight"},
    {{SHAPE, "blk.0.ffn_up_exps.weight", {.ne = {EMBD, FF, 3}}},
     1,
     ST_INVALID,
     "ffn_up_exps.weight is [64, 32, 3]"},
    {{SHAPE, "blk.0.ffn_gate_inp.weight", {.ne = {EMBD, 5, 1}}},
     1,
     ST_INVALID,
     "ffn_gate_inp"},
    {{ADD_TENSOR, "rope_freqs.weight", {.ne = {7, 1, 1}}},
     0,
     ST_INVALID,
     "rope_freqs.weight is [7, 1, 1]"},
    /* of other types */
    {{TYPE, "output_norm.weight", {.u = QUANT_F16}},
     0,
     ST_UNSUPPORTED,
     "output_norm.weight is F16"},
    {{RAW_TYPE, "blk.0.attn_q.weight", {.u = 21}}, 0, ST_UNSUPPORTED, "IQ3_S"},
    {{RAW_TYPE, "blk.0.ffn_up_exps.weight", {.u = 16}},
     1,
     ST_UNSUPPORTED,
     "blk.0.ffn_up_exps.weight has weight type IQ2_XXS"},
    {{RAW_TYPE, "output.weight", {.u = 99}}, 0, ST_UNSUPPORTED, "type 99"},
    /* that nobody would read */
    {{ADD_TENSOR, "blk.0.post_ffw_norm.weight", {.ne = {EMBD, 1, 1}}},
     0,
     ST_UNSUPPORTED,
     "blk.0.post_ffw_norm.weight"},
    {{ADD_TENSOR, "output.bias", {.ne = {VOCAB, 1, 1}}},
     0,
     ST_UNSUPPORTED,
     "output.bias"},
    {{ADD_TENSOR, "blk.1.attn_q_norm.weight", {.ne = {DIM, 1, 1}}},
     0,
     ST_UNSUPPORTED,
     "attn_q_norm"},
    {{ADD_TENSOR, "blk.2.attn_q.weight", {.ne = {EMBD, EMBD, 1}}},
     0,
     ST_UNSUPPORTED,
     "blk.2.attn_q.weight"},
    {{ADD_TENSOR, "blk.01.attn_q.weight", {.ne = {EMBD, EMBD, 1}}},
     0,
     ST_UNSUPPORTED,
     "blk.01.attn_q.weight"},
    {{ADD_TENSOR, "blk.0.ffn_up_exps.weight", {.ne = {EMBD, FF, 4}}},
     0,
     ST_UNSUPPORTED,
     "ffn_up_exps"},
    {{ADD_TENSOR, "blk.0.ffn_up.weight", {.ne = {EMBD, FF, 1}}},
     1,
     ST_UNSUPPORTED,
     "blk.0.ffn_up.weight"},
    {{ADD_TENSOR, "blk.0.ffn_up.4.weight", {.ne = {EMBD, FF, 1}}},
     1,
     ST_UNSUPPORTED,
     "blk.0.ffn_up.4.weight"},
    {{ADD_TENSOR, "mm.0.weight", {.ne = {EMBD, 1, 1}}},
     0,
     ST_UNSUPPORTED,
     "mm.0.weight"},
};

static void test_bad_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct gguf *g = make_file(&bad[i].change, bad[i].moe);
        const size_t before = mem_in_use();
        struct model m = {.n_layer = 1234};
        const enum status st = model_describe(&m, g, &rig_err);
        if (st != bad[i].want || !strstr(rig_err.text, bad[i].word)) {
            fail_msg("row %zu (%s): %s \"%s\"", i, bad[i].change.name,
                     status_name(st), st == ST_OK ? "" : rig_err.text);
        }
        assert_int_equal(m.n_layer, 1234); /* written only on success */
        assert_int_equal(mem_in_use(), before);
        gguf_close(g);
    }
}

/* 1024 heads of 256 would be a row of 262,144: more leaves than a tree has. */
static void test_too_wide(void **state)
{
    (void)state;
    struct gguf_writer *w = NULL;
    struct gguf *g = NULL;
    struct buf b = {.max = 1u << 26};
    struct model m;
    assert_ok(gguf_writer_create(&w, 3, &rig_err));
    const struct change c = {U32, A "head_count", {.u = 1024}};
    put_keys(w, &c, 0);
    gguf_writer_u32(w, A "key_length", 256);
    gguf_writer_u32(w, A "value_length", 256);
    const uint64_t one[2] = {EMBD, VOCAB};
    gguf_writer_tensor(w, "token_embd.weight", QUANT_F32, 2, one, NULL);
    assert_ok(gguf_writer_save_mem(w, &b, &rig_err));
    gguf_writer_free(w);
    assert_ok(gguf_open_mem(&g, b.data, b.len, &rig_err));
    buf_fini(&b);
    assert_fails(model_describe(&m, g, &rig_err), ST_UNSUPPORTED, "1024 heads");
    gguf_close(g);
}

static void test_good_files(void **state)
{
    (void)state;
    const struct change same[] = {
        {NOTHING, NULL, {0}},
        {DROP_KEY, L "rope.dimension_count", {0}},
        {U32, A "key_length", {.u = DIM}},
        {STR, L "rope.scaling.type", {.text = "none"}},
        {F32, L "logit_scale", {.f = 1}},
        {F32, L "rope.scaling.factor", {.f = 0}},
        {U32, A "sliding_window", {.u = CTX}},
        {TOKENS, "tokenizer.ggml.tokens", {.u = VOCAB}},
        {ADD_TENSOR, "blk.1.attn_output.bias", {.ne = {EMBD, 1, 1}}},
        {U32, L "expert_gating_func", {.u = 1}},
        {ADD_TENSOR, "blk.1.attn_rot_embd", {.ne = {8, 1, 1}}},
        {ADD_TENSOR, "rope_freqs.weight", {.ne = {DIM / 2, 1, 1}}},
        {TYPE, "blk.0.attn_q.weight", {.u = QUANT_Q8_0}},
        {TYPE, "token_embd.weight", {.u = QUANT_BF16}},
    };
    for (size_t i = 0; i < 2 * COUNT_OF(same); i++) {
        struct gguf *g = make_file(&same[i / 2], i % 2);
        struct model m;
        assert_ok(model_describe(&m, g, &rig_err));
        assert_true(m.n_layer == LAYERS && m.n_embd == EMBD && m.n_ff == FF &&
                    m.n_head == HEADS && m.n_head_kv == KV &&
                    m.head_dim == DIM && m.n_rot == DIM && m.n_ctx == CTX &&
                    m.n_vocab == VOCAB && !m.tied && m.rope.scale == 1 &&
                    m.rope.magnitude == 1 && m.rope.extend == 0 &&
                    !m.rope.halves && m.window == 0 && m.embed_scale == 1 &&
                    m.query_scale == 0.25f && m.attn_softcap == 0 &&
                    m.final_softcap == 0 && m.activation == ACTIVATION_SILU);
        assert_int_equal(m.n_expert, i % 2 ? EXPERTS : 0);
        assert_int_equal(m.n_expert_used, i % 2 ? 2 : 0);
        assert_int_equal(m.layers[1].down.tensor == NULL, i % 2);
        model_fini(&m);
        gguf_close(g);
    }
}

static void test_meanings(void **state)
{
    (void)state;
    struct model m;
    const struct change tied = {DROP_TENSOR, "output.weight", {0}};
    struct gguf *g = make_file(&tied, false);
    assert_ok(model_describe(&m, g, &rig_err));
    assert_true(m.tied && m.head.tensor == m.embed.tensor);
    model_fini(&m);
    gguf_close(g);
    const struct change window = {U32, A "sliding_window", {.u = 48}};
    g = make_file(&window, false);
    assert_ok(model_describe(&m, g, &rig_err));
    assert_int_equal(m.n_ctx, CTX);
    assert_true(m.window == 48 && m.layers[0].window == 48 &&
                m.layers[1].window == 48);
    model_fini(&m);
    gguf_close(g);
    const struct change linear = {F32, L "rope.scale_linear", {.f = 4}};
    g = make_file(&linear, false);
    assert_ok(model_describe(&m, g, &rig_err));
    assert_true(m.rope.scale == 0.25 && m.rope.base == 10000);
    model_fini(&m);
    gguf_close(g);
    const struct change heads = {DROP_KEY, A "head_count_kv", {0}};
    g = make_file(&heads, false); /* then as many as heads: k is too small */
    assert_fails(model_describe(&m, g, &rig_err), ST_INVALID, "attn_k.weight");
    gguf_close(g);
    g = make_file(&(struct change){NOTHING, NULL, {0}}, true);
    mem_fail_after(0);
    const enum status st = model_describe(&m, g, &rig_err);
    mem_fail_after(-1);
    assert_int_equal(st, ST_NO_MEMORY);
    gguf_close(g);
}

/* ----------------------------------------- forms of the same model */

static const int32_t tokens[] = {5, 99, 17, 256, 3, 17, 599, 1};

/* The file again, its 3-D expert tensors taken apart. */
static struct gguf *older_layout(const struct rig *r)
{
    struct gguf_writer *w = NULL;
    struct gguf *g = NULL;
    struct buf b = {.max = 1u << 26};
    void *data[128];
    const uint32_t n = gguf_n_tensors(r->gguf);
    assert_true(n <= COUNT_OF(data));
    assert_ok(gguf_writer_create(&w, 3, &rig_err));
    gguf_writer_str(w, "general.architecture", "llama");
    const struct model *m = &r->model;
    gguf_writer_u32(w, L "block_count", m->n_layer);
    gguf_writer_u32(w, L "embedding_length", m->n_embd);
    gguf_writer_u32(w, L "feed_forward_length", m->n_ff);
    gguf_writer_u32(w, A "head_count", m->n_head);
    gguf_writer_u32(w, A "head_count_kv", m->n_head_kv);
    gguf_writer_u32(w, L "context_length", m->n_ctx);
    gguf_writer_f32(w, A "layer_norm_rms_epsilon", m->rms_eps);
    gguf_writer_f32(w, L "rope.freq_base", (float)m->rope.base);
    gguf_writer_u32(w, L "expert_count", m->n_expert);
    gguf_writer_u32(w, L "expert_used_count", m->n_expert_used);
    for (uint32_t i = 0; i < n; i++) {
        const struct gguf_tensor *t = gguf_tensor(r->gguf, i);
        data[i] = mem_alloc((size_t)t->n_bytes);
        assert_non_null(data[i]);
        assert_ok(
            gguf_read(r->gguf, t, 0, data[i], (size_t)t->n_bytes, &rig_err));
        const enum quant_type type = (enum quant_type)t->type;
        if (t->ne[2] == 1) {
            gguf_writer_tensor(w, t->name, type, t->n_dims, t->ne, data[i]);
            continue;
        }
        const size_t stem = (size_t)(strstr(t->name, "_exps") - t->name);
        for (uint32_t e = m->n_expert; e-- > 0;) { /* any order */
            char name[64];
            snprintf(name, sizeof name, "%.*s.%u.weight", (int)stem, t->name,
                     e);
            gguf_writer_tensor(w, name, type, 2, t->ne,
                               (const char *)data[i] +
                                   e * (t->n_bytes / m->n_expert));
        }
    }
    assert_ok(gguf_writer_save_mem(w, &b, &rig_err));
    gguf_writer_free(w);
    assert_ok(gguf_open_mem(&g, b.data, b.len, &rig_err));
    buf_fini(&b);
    for (uint32_t i = 0; i < n; i++) mem_free(data[i]);
    return g;
}

static void test_older_expert_layout(void **state)
{
    (void)state;
    struct gen_model gm = rig_moe();
    gm.n_layer = 2;
    struct rig merged, apart;
    rig_open(&merged, &gm);
    apart.gguf = older_layout(&merged);
    assert_ok(model_describe(&apart.model, apart.gguf, &rig_err));
    assert_true(gguf_n_tensors(apart.gguf) ==
                gguf_n_tensors(merged.gguf) + 2 * 3 * 7);
    assert_int_equal(model_active_bytes(&apart.model),
                     model_active_bytes(&merged.model));
    float *a = rig_reference(&merged, KV_F16, tokens, COUNT_OF(tokens));
    float *b = rig_reference(&apart, KV_F16, tokens, COUNT_OF(tokens));
    rig_assert_same(b, a, COUNT_OF(tokens) * (size_t)gm.n_vocab, "layout");
    mem_free(a);
    mem_free(b);
    rig_close(&merged);
    rig_close(&apart);
}

static void test_splits(void **state)
{
    (void)state;
    struct gen_model gm = rig_moe();
    gm.n_layer = 2;
    struct rig whole, split;
    rig_open(&whole, &gm);
    gm.n_splits = 4;
    rig_open(&split, &gm);
    assert_int_equal(gguf_n_splits(split.gguf), 4);
    float *a = rig_reference(&whole, KV_F16, tokens, COUNT_OF(tokens));
    float *b = rig_reference(&split, KV_F16, tokens, COUNT_OF(tokens));
    rig_assert_same(b, a, COUNT_OF(tokens) * (size_t)gm.n_vocab, "splits");
    mem_free(a);
    mem_free(b);
    rig_close(&whole);
    rig_close(&split);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_too_wide),
        cmocka_unit_test(test_good_files),
        cmocka_unit_test(test_meanings),
        cmocka_unit_test(test_older_expert_layout),
        cmocka_unit_test(test_splits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

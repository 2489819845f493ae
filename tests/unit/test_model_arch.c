/* test_model_arch.c - what each architecture says of itself, and which of its
 * tensors and keys cannot be left out. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/arch_rig.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/temp.h"

/* The file of a model, byte for byte; the caller's (buf_fini). */
static struct buf file_of(const struct gen_model *m)
{
    char dir[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES + 16];
    struct buf b = {.max = 1u << 26};
    assert_true(temp_dir_create(dir, "test_model_arch"));
    snprintf(path, sizeof path, "%s/m.gguf", dir);
    assert_ok(gen_model_write(m, path, &rig_err));
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) {
        assert_int_equal(buf_append(&b, part, n), ST_OK);
    }
    fclose(f);
    assert_true(temp_dir_remove(dir));
    return b;
}

static struct rig open_arch(uint32_t i)
{
    const struct gen_model m = arch_model(i);
    struct rig r;
    rig_open(&r, &m);
    return r;
}

static bool has(const struct model *m, enum model_vector v)
{
    for (uint32_t i = 1; i < m->n_layer; i++) { /* all layers are alike */
        assert_int_equal(!m->layers[i].vec[v], !m->layers[0].vec[v]);
    }
    return m->layers[0].vec[v] != NULL;
}

static void test_gemma2(void **state)
{
    (void)state;
    struct rig r = open_arch(ARCH_GEMMA2);
    const struct model *m = &r.model;
    assert_string_equal(m->arch, "gemma2");
    assert_true(m->tied && m->rope.halves && m->activation == ACTIVATION_GELU);
    assert_true(m->head_dim == 256 && m->n_embd / m->n_head != 256);
    assert_true(m->embed_scale == sqrtf((float)m->n_embd));
    assert_true(m->query_scale == 1.0f / 16);
    assert_true(m->attn_softcap == 50 && m->final_softcap == 30);
    assert_int_equal(m->window, ARCH_WINDOW);
    for (uint32_t i = 0; i < m->n_layer; i++) { /* the first one is local */
        assert_int_equal(m->layers[i].window, i % 2 ? 0 : ARCH_WINDOW);
    }
    assert_true(has(m, VEC_ATTN_POST_NORM) && has(m, VEC_FFN_POST_NORM));
    assert_true(!has(m, VEC_Q_NORM) && !has(m, VEC_Q_BIAS));
    rig_close(&r);
    /* what the file does not say */
    struct gen_model g = arch_model(ARCH_GEMMA2);
    g.window = 0;
    g.attn_cap = g.final_cap = 7;
    g.n_ctx = 8192;
    rig_open(&r, &g);
    assert_true(r.model.window == 4096 && r.model.layers[0].window == 4096);
    assert_true(r.model.attn_softcap == 7 && r.model.final_softcap == 7);
    rig_close(&r);
    g.n_ctx = 4096; /* all of the context: no window */
    g.n_layer = 46; /* the 27B's query scale */
    rig_open(&r, &g);
    assert_true(r.model.window == 0 && r.model.layers[0].window == 0);
    assert_true(r.model.query_scale ==
                1.0f / sqrtf((float)(g.n_embd / g.n_head)));
    rig_close(&r);
}

static void test_qwen(void **state)
{
    (void)state;
    struct rig r = open_arch(ARCH_QWEN2);
    const struct model *m = &r.model;
    assert_true(m->rope.halves && m->activation == ACTIVATION_SILU);
    assert_true(has(m, VEC_Q_BIAS) && has(m, VEC_K_BIAS) && has(m, VEC_V_BIAS));
    assert_true(!has(m, VEC_O_BIAS) && !has(m, VEC_Q_NORM));
    assert_true(m->embed_scale == 1 && m->attn_softcap == 0);
    rig_close(&r);
    r = open_arch(ARCH_QWEN3);
    assert_true(m->rope.halves && has(m, VEC_Q_NORM) && has(m, VEC_K_NORM));
    assert_true(!has(m, VEC_Q_BIAS) && m->head_dim * m->n_head != m->n_embd);
    rig_close(&r);
    r = open_arch(ARCH_QWEN3MOE);
    assert_true(m->n_expert == 64 && m->n_expert_used == 8 && m->expert_norm);
    assert_true(has(m, VEC_Q_NORM) && m->layers[0].router.n_rows == 64);
    assert_int_equal(model_expert(m, 1, 63, EXPERT_UP).n_rows, m->n_ff);
    rig_close(&r);
}

/* Peng et al., with the numbers of Qwen 2.5: 32,768 positions times 4, base
 * 10^6, heads of 128: pairs below 26 as they are, pairs from 58 on scaled.
 * (128 ln(32768 / (32 tau)) / (2 ln 10^6) = 23.6; 39.6 for one turn.) */
static void test_yarn(void **state)
{
    (void)state;
    struct gen_model g = arch_model(ARCH_YARN);
    g.n_embd = 512;
    g.n_head = 4;
    g.n_head_kv = 1;
    g.head_dim = 128;
    g.n_rot = 0;
    g.rope_base = 1e6f;
    g.rope_scale = 4;
    g.n_ctx_orig = 32768;
    struct rig r;
    rig_open(&r, &g);
    const struct model *m = &r.model;
    assert_true(m->rope.extend == 1 && m->rope.scale == 0.25);
    assert_true(m->rope.low == 23 && m->rope.high == 40);
    assert_true(fabs(m->rope.magnitude - (1 + 0.1 * log(4))) < 1e-12);
    assert_true(model_rope_turn(m, 0, 1) == 1);
    assert_true(model_rope_turn(m, 23, 1) == 1);
    const double y = 3.0 / 17.0; /* of pair 26 between 23 and 40 */
    assert_true(fabs(model_rope_turn(m, 26, 2) - 2 * (1 - y + y / 4)) < 1e-12);
    assert_true(model_rope_turn(m, 40, 1) == 0.25);
    assert_true(model_rope_turn(m, 63, 1) == 0.25);
    rig_close(&r);
}

/* Replaced in the header, same length, first place only. */
static const struct {
    uint32_t arch;
    const char *from, *to;
    enum status want;
    const char *word;
} bad[] = {
    {ARCH_GEMMA2, "blk.1.post_attention_norm.weight",
     "blk.1.post_attention_norm.weighs", ST_INVALID,
     "blk.1.post_attention_norm.weight is missing"},
    {ARCH_GEMMA2, "blk.0.post_ffw_norm.weight", "blk.0.post_ffw_norm.weighs",
     ST_INVALID, "blk.0.post_ffw_norm.weight is missing"},
    {ARCH_GEMMA2, "general.architecture\x08\0\0\0\x06\0\0\0\0\0\0\0gemma2",
     "general.architecture\x08\0\0\0\x06\0\0\0\0\0\0\0gemma7", ST_UNSUPPORTED,
     "architecture \"gemma7\" is not supported yet; \"llama\", \"gemma2\", "
     "\"qwen2\", \"qwen3\", \"qwen3moe\" are"},
    {ARCH_QWEN2, "blk.1.attn_k.bias", "blk.1.attn_k.bial", ST_INVALID,
     "blk.1.attn_k.bias is missing"},
    {ARCH_QWEN3, "blk.0.attn_q_norm.weight", "blk.0.attn_q_norm.weighs",
     ST_INVALID, "blk.0.attn_q_norm.weight is missing"},
    {ARCH_QWEN3MOE, "blk.1.ffn_gate_inp.weight", "blk.1.ffn_gate_inp.weighs",
     ST_INVALID, "blk.1.ffn_gate_inp.weight is missing"},
    {ARCH_QWEN3MOE, "qwen3moe.expert_count", "qwen3moe.expert_counf",
     ST_INVALID, "0 experts of which 0"},
    {ARCH_QWEN3MOE, "qwen3moe.expert_used_count\4\0\0\0\x08\0\0\0",
     "qwen3moe.expert_used_count\4\0\0\0\x41\0\0\0", ST_INVALID,
     "expert_used_count is 65"},
    {ARCH_QWEN3, "blk.0.attn_q_norm.weight\1\0\0\0\x40",
     "blk.0.attn_q_norm.weight\1\0\0\0\x3f", ST_INVALID,
     "blk.0.attn_q_norm.weight is [63"},
    {ARCH_QWEN2, "blk.0.attn_v.bias\1\0\0\0\x80",
     "blk.0.attn_v.bias\1\0\0\0\x7f", ST_INVALID, "blk.0.attn_v.bias is [127"},
};

static size_t pattern_length(uint32_t i)
{
    /* up to the last byte that the two have different */
    size_t n = strlen(bad[i].from);
    for (size_t j = 0; j < 64; j++) {
        if (bad[i].from[j] != bad[i].to[j]) return j + 1;
    }
    return n;
}

static void test_refused(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < COUNT_OF(bad); i++) {
        const struct gen_model gm = arch_model(bad[i].arch);
        struct buf b = file_of(&gm);
        const size_t n = pattern_length(i);
        size_t at = 0;
        while (at + n <= b.len && memcmp(b.data + at, bad[i].from, n) != 0)
            at++;
        assert_true(at + n <= b.len);
        memcpy(b.data + at, bad[i].to, n);
        struct gguf *g = NULL;
        assert_ok(gguf_open_mem(&g, b.data, b.len, &rig_err));
        const size_t before = mem_in_use();
        struct model m;
        const enum status st = model_describe(&m, g, &rig_err);
        if (st != bad[i].want || !strstr(rig_err.text, bad[i].word)) {
            fail_msg("row %u: %s \"%s\"", i, status_name(st),
                     st == ST_OK ? "" : rig_err.text);
        }
        assert_int_equal(mem_in_use(), before);
        gguf_close(g);
        buf_fini(&b);
    }
}

/* Weights, as shard_plan counts them, and what a token reads. */
static void test_bytes(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ARCH_END; i++) {
        struct rig r = open_arch(i);
        uint64_t all = 0;
        for (uint32_t t = 0; t < gguf_n_tensors(r.gguf); t++) {
            const struct gguf_tensor *x = gguf_tensor(r.gguf, t);
            if (strcmp(x->name, "rope_freqs.weight") != 0) all += x->n_bytes;
        }
        const struct model *m = &r.model;
        uint64_t idle = 0; /* experts that are not used */
        for (int p = 0; m->n_expert && p <= EXPERT_DOWN; p++) {
            const struct model_matrix e =
                model_expert(m, 0, 0, (enum model_expert_part)p);
            idle += quant_row_bytes((enum quant_type)e.tensor->type, e.k) *
                    e.n_rows * m->n_layer * (m->n_expert - m->n_expert_used);
        }
        if (!m->tied) idle += m->embed.tensor->n_bytes;
        assert_int_equal(model_active_bytes(m), all - idle);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemma2), cmocka_unit_test(test_qwen),
        cmocka_unit_test(test_yarn),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

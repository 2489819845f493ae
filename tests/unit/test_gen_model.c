/* test_gen_model.c - the generator: same bytes everywhere, and the files that
 * llama.cpp's loader expects. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"
#include "engine/gguf.h"
#include "engine/model.h"
#include "tests/lib/gen_model.h"
#include "tests/lib/gen_vocab.h"
#include "tests/lib/temp.h"

static char dir[TEMP_PATH_BYTES];
static char path[TEMP_PATH_BYTES + 16];
static struct error err;

static void assert_ok(enum status st)
{
    if (st != ST_OK) fail_msg("%s: %s", status_name(st), err.text);
}

static int make_dir(void **state)
{
    (void)state;
    if (!temp_dir_create(dir, "test_gen_model")) return -1;
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return temp_dir_remove(dir) ? 0 : -1;
}

static struct gen_model preset(const char *name)
{
    struct gen_model m;
    assert_ok(gen_model_preset(&m, name, &err));
    return m;
}

static void set(struct gen_model *m, const char *setting)
{
    assert_ok(gen_model_set(m, setting, &err));
}

static struct gguf *write_and_open(const struct gen_model *m)
{
    struct gguf *g = NULL;
    assert_ok(gen_model_write(m, path, &err));
    assert_ok(gguf_open(&g, path, &err));
    return g;
}

static void assert_tensor(const struct gguf *g, const char *name,
                          enum quant_type type, uint32_t n_dims, uint64_t ne0,
                          uint64_t ne1, uint64_t ne2)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    if (!t) {
        fail_msg("no %s", name);
        return;
    }
    if (t->type != type || t->n_dims != n_dims || t->ne[0] != ne0 ||
        t->ne[1] != ne1 || t->ne[2] != ne2) {
        fail_msg("%s: %s %u [%u %u %u]", name, quant_name(t->type), t->n_dims,
                 (unsigned)t->ne[0], (unsigned)t->ne[1], (unsigned)t->ne[2]);
    }
}

static void assert_u32(const struct gguf *g, const char *key, uint32_t want)
{
    uint32_t v;
    assert_ok(gguf_get_u32(g, key, &v, &err));
    if (v != want) fail_msg("%s is %u, not %u", key, v, want);
}

/* Recorded: another compiler or machine, and a careless change, show here. */
static void test_same_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *preset, *type;
        uint64_t hash;
    } want[] = {
        {"tiny-dense", "type=F32", UINT64_C(0x0dd417229bece0be)},
        {"tiny-dense", "type=q4_k_m", UINT64_C(0xf9d4f9f96cefb2d3)},
        {"tiny-dense", "type=Q4_1", UINT64_C(0xd4d93e2292082d63)},
        {"tiny-moe", "type=Q8_0", UINT64_C(0x2c6d4ac7855a9371)},
    };
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        struct gen_model m = preset(want[i].preset);
        set(&m, want[i].type);
        set(&m, "n_layer=2");
        uint64_t hash, other;
        assert_ok(gen_model_write(&m, path, &err));
        assert_ok(gen_file_hash(path, &hash, &err));
        if (hash != want[i].hash) {
            fail_msg("%s %s: 0x%016llx", want[i].preset, want[i].type,
                     (unsigned long long)hash);
        }
        set(&m, "seed=2");
        assert_ok(gen_model_write(&m, path, &err));
        assert_ok(gen_file_hash(path, &other, &err));
        assert_true(hash != other);
    }
}

static void test_dense_file(void **state)
{
    (void)state;
    struct gen_model m = preset("tiny-dense");
    set(&m, "head_dim=64");
    set(&m, "rope_factor=8");
    set(&m, "type.attn_v=Q8_0");
    struct gguf *g = write_and_open(&m);
    assert_int_equal(gguf_n_tensors(g), 4 + 4 * 9);
    assert_tensor(g, "token_embd.weight", QUANT_F32, 2, 256, 1000, 1);
    assert_tensor(g, "output.weight", QUANT_F32, 2, 256, 1000, 1);
    assert_tensor(g, "output_norm.weight", QUANT_F32, 1, 256, 1, 1);
    assert_tensor(g, "rope_freqs.weight", QUANT_F32, 1, 32, 1, 1);
    assert_tensor(g, "blk.3.attn_norm.weight", QUANT_F32, 1, 256, 1, 1);
    assert_tensor(g, "blk.3.ffn_norm.weight", QUANT_F32, 1, 256, 1, 1);
    assert_tensor(g, "blk.3.attn_q.weight", QUANT_F32, 2, 256, 512, 1);
    assert_tensor(g, "blk.3.attn_k.weight", QUANT_F32, 2, 256, 256, 1);
    assert_tensor(g, "blk.3.attn_v.weight", QUANT_Q8_0, 2, 256, 256, 1);
    assert_tensor(g, "blk.3.attn_output.weight", QUANT_F32, 2, 512, 256, 1);
    assert_tensor(g, "blk.3.ffn_gate.weight", QUANT_F32, 2, 256, 512, 1);
    assert_tensor(g, "blk.3.ffn_up.weight", QUANT_F32, 2, 256, 512, 1);
    assert_tensor(g, "blk.3.ffn_down.weight", QUANT_F32, 2, 512, 256, 1);
    assert_u32(g, "llama.attention.key_length", 64);
    assert_u32(g, "llama.attention.value_length", 64);
    assert_u32(g, "llama.rope.dimension_count", 64);
    assert_u32(g, "llama.block_count", 4);
    struct model described;
    assert_ok(model_describe(&described, g, &err));
    assert_false(described.tied);
    assert_non_null(described.rope_freqs);
    model_fini(&described);
    gguf_close(g);

    set(&m, "tied=1");
    g = write_and_open(&m);
    assert_null(gguf_find_tensor(g, "output.weight"));
    assert_int_equal(gguf_n_tensors(g), 3 + 4 * 9);
    gguf_close(g);
}

static void test_moe_file(void **state)
{
    (void)state;
    struct gen_model m = preset("tiny-moe");
    set(&m, "type=q4_k_m");
    struct gguf *g = write_and_open(&m);
    assert_int_equal(gguf_n_tensors(g), 3 + 6 * 10);
    assert_tensor(g, "blk.0.ffn_gate_inp.weight", QUANT_F32, 2, 256, 8, 1);
    assert_tensor(g, "blk.0.ffn_gate_exps.weight", QUANT_Q4_K, 3, 256, 256, 8);
    assert_tensor(g, "blk.0.ffn_up_exps.weight", QUANT_Q4_K, 3, 256, 256, 8);
    assert_tensor(g, "blk.0.ffn_down_exps.weight", QUANT_Q4_K, 3, 256, 256, 8);
    /* Of six layers 2 and, as the last eighth, 5 get more bits. */
    assert_tensor(g, "blk.2.ffn_down_exps.weight", QUANT_Q6_K, 3, 256, 256, 8);
    assert_tensor(g, "blk.2.attn_v.weight", QUANT_Q6_K, 2, 256, 64, 1);
    assert_tensor(g, "blk.5.attn_v.weight", QUANT_Q6_K, 2, 256, 64, 1);
    assert_tensor(g, "output.weight", QUANT_Q6_K, 2, 256, 1000, 1);
    assert_tensor(g, "token_embd.weight", QUANT_Q4_K, 2, 256, 1000, 1);
    assert_null(gguf_find_tensor(g, "blk.0.ffn_gate.weight"));
    assert_u32(g, "llama.expert_count", 8);
    assert_u32(g, "llama.expert_used_count", 2);
    assert_u32(g, "general.file_type", 15);
    gguf_close(g);
}

/* No two experts alike, and the values are what the scale promises. */
static void test_values(void **state)
{
    (void)state;
    const struct gen_model m = preset("tiny-moe");
    struct gguf *g = write_and_open(&m);
    const struct gguf_tensor *t =
        gguf_find_tensor(g, "blk.1.ffn_up_exps.weight");
    assert_non_null(t);
    enum { N = 256 * 256 };
    float *w = mem_zalloc_array(N, sizeof *w);
    float *first = mem_zalloc_array(N, sizeof *first);
    assert_non_null(w);
    assert_non_null(first);
    for (uint64_t e = 0; e < 8; e++) {
        assert_ok(gguf_read(g, t, e * N * sizeof *w, w, N * sizeof *w, &err));
        double sum = 0, squares = 0, cross = 0;
        for (int i = 0; i < N; i++) {
            sum += (double)w[i];
            squares += (double)w[i] * (double)w[i];
            cross += (double)w[i] * (double)first[i];
        }
        /* std 1.4 / 16; five standard errors of 65,536 draws */
        const double std = 1.4 / 16, error = 5 * std / 256;
        assert_true(fabs(sum / N) < error);
        assert_true(fabs(sqrt(squares / N) - std) < error);
        assert_true(fabs(cross / N) < error * std);
        if (e == 0) memcpy(first, w, N * sizeof *w);
    }
    mem_free(w);
    mem_free(first);
    gguf_close(g);
}

static void test_splits(void **state)
{
    (void)state;
    struct gen_model m = preset("tiny-dense");
    char whole[sizeof path], part[3][sizeof path + 64];
    snprintf(whole, sizeof whole, "%s/whole.gguf", dir);
    assert_ok(gen_model_write(&m, whole, &err));
    set(&m, "n_splits=3");
    assert_int_equal(gen_model_write(&m, path, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "-00001-of-00003.gguf"));
    for (int i = 0; i < 3; i++) {
        snprintf(part[i], sizeof part[i], "%s/s-%05d-of-00003.gguf", dir,
                 i + 1);
    }
    assert_ok(gen_model_write(&m, part[0], &err));
    struct gguf *a, *b;
    assert_ok(gguf_open(&a, whole, &err));
    assert_ok(gguf_open(&b, part[0], &err));
    assert_int_equal(gguf_n_splits(b), 3);
    assert_int_equal(gguf_n_tensors(a), gguf_n_tensors(b));
    for (uint32_t i = 0; i < gguf_n_tensors(a); i++) {
        const struct gguf_tensor *t = gguf_tensor(a, i);
        const struct gguf_tensor *u = gguf_find_tensor(b, t->name);
        assert_non_null(u);
        assert_int_equal(t->n_bytes, u->n_bytes);
        char *x = mem_alloc(t->n_bytes), *y = mem_alloc(t->n_bytes);
        assert_non_null(x);
        assert_non_null(y);
        assert_ok(gguf_read(a, t, 0, x, t->n_bytes, &err));
        assert_ok(gguf_read(b, u, 0, y, u->n_bytes, &err));
        assert_memory_equal(x, y, t->n_bytes);
        mem_free(x);
        mem_free(y);
    }
    gguf_close(a);
    gguf_close(b);
    for (int i = 0; i < 3; i++) assert_int_equal(unlink(part[i]), 0);
    assert_int_equal(unlink(whole), 0);
}

/* A Mixtral 8x22B in 724 KiB of disk. */
static void test_sparse(void **state)
{
    (void)state;
    const struct gen_model m = preset("mixtral-8x22b-shape");
    struct gguf *g = write_and_open(&m);
    assert_true(gguf_file_bytes(g) > UINT64_C(79) << 30);
    assert_tensor(g, "blk.55.ffn_up_exps.weight", QUANT_Q4_K, 3, 6144, 16384,
                  8);
    struct model described;
    assert_ok(model_describe(&described, g, &err));
    assert_int_equal(described.n_layer, 56);
    model_fini(&described);
    gguf_close(g);
}

static void test_presets_are_valid(void **state)
{
    (void)state;
    uint32_t n = 0;
    for (const char *name; (name = gen_model_preset_name(n)); n++) {
        const struct gen_model m = preset(name);
        assert_ok(gen_model_check(&m, &err));
    }
    assert_int_equal(n, 9);
    struct gen_model m;
    assert_int_equal(gen_model_preset(&m, "huge", &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "tiny-moe"));
}

static void test_bad_settings(void **state)
{
    (void)state;
    static const struct {
        const char *setting, *names;
    } syntax[] = {
        {"n_layer", "key=value"},  {"n_layer=", "n_layer="},
        {"n_layer=x", "n_layer"},  {"n_layer=-1", "n_layer"},
        {"layers=3", "no such"},   {"type=Q9", "Q9"},
        {"type.norm=F16", "norm"}, {"type.embd=Q9", "Q9"},
        {"seed=x", "seed"},        {"rope_base=nan", "rope_base"},
    };
    static const struct {
        const char *setting, *names;
    } shape[] = {
        {"n_layer=0", "n_layer"},        {"n_head_kv=3", "n_head_kv"},
        {"head_dim=31", "head_dim"},     {"n_expert=2", "n_expert"},
        {"n_expert_used=9", "n_expert"}, {"n_vocab=300", "n_vocab"},
        {"n_embd=4000000", "n_embd"},    {"n_splits=0", "n_splits"},
        {"n_splits=1000", "n_splits"},   {"type=Q4_K", "blk.0.ffn_down"},
        {"rope_base=0", "rope_base"},
    };
    struct gen_model m = preset("tiny-dense");
    for (size_t i = 0; i < COUNT_OF(syntax); i++) {
        const struct gen_model before = m;
        assert_int_equal(gen_model_set(&m, syntax[i].setting, &err),
                         ST_INVALID);
        assert_non_null(strstr(err.text, syntax[i].names));
        assert_memory_equal(&m, &before, sizeof m);
    }
    for (size_t i = 0; i < COUNT_OF(shape); i++) {
        m = preset("tiny-dense");
        set(&m, "n_ff=288"); /* no multiple of 256 */
        set(&m, shape[i].setting);
        assert_int_equal(gen_model_check(&m, &err), ST_INVALID);
        if (!strstr(err.text, shape[i].names)) {
            fail_msg("%s: %s", shape[i].setting, err.text);
        }
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Pieces differ, and a long one is two shorter, better ones joined: so the
 * merges of SentencePiece reach it. */
static void test_vocabulary(void **state)
{
    (void)state;
    enum { N = 40000 };
    struct gen_piece *p = mem_zalloc_array(N, sizeof *p);
    const char **sorted = mem_zalloc_array(N, sizeof *sorted);
    assert_non_null(p);
    assert_non_null(sorted);
    for (uint32_t i = 0; i < N; i++) {
        gen_vocab_piece(i, &p[i]);
        sorted[i] = p[i].text;
    }
    assert_string_equal(p[1].text, "<s>");
    assert_string_equal(p[3 + 10].text, "<0x0A>");
    assert_string_equal(p[259].text, "\xe2\x96\x81");
    qsort(sorted, N, sizeof *sorted, by_text);
    for (uint32_t i = 1; i < N; i++) {
        assert_string_not_equal(sorted[i - 1], sorted[i]);
    }
    for (uint32_t i = 259; i < N; i++) {
        const char *text = p[i].text;
        const size_t n = strlen(text);
        bool reached = (n == 1 || (unsigned char)text[0] >= 0xc0) && n <= 3;
        for (size_t cut = 1; cut < n && !reached; cut++) {
            char left[GEN_VOCAB_PIECE];
            snprintf(left, sizeof left, "%.*s", (int)cut, text);
            const char *l = left, *r = text + cut;
            const char **at = bsearch(&l, sorted, N, sizeof *sorted, by_text);
            const char **to = bsearch(&r, sorted, N, sizeof *sorted, by_text);
            reached = at && to && *at < text && *to < text;
        }
        if (!reached) fail_msg("piece %u, %s, cannot be reached", i, text);
    }
    mem_free(p);
    mem_free(sorted);
}

static void test_survives_every_failed_allocation(void **state)
{
    (void)state;
    struct gen_model m = preset("tiny-dense");
    set(&m, "n_layer=1");
    set(&m, "pool_rows=4");
    const size_t before = mem_in_use();
    for (long n = 0;; n++) {
        mem_fail_after(n);
        const enum status st = gen_model_write(&m, path, &err);
        mem_fail_after(-1);
        assert_int_equal(mem_in_use(), before);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_dense_file),
        cmocka_unit_test(test_moe_file),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_splits),
        cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_presets_are_valid),
        cmocka_unit_test(test_bad_settings),
        cmocka_unit_test(test_vocabulary),
        cmocka_unit_test(test_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

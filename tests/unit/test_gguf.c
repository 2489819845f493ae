/* test_gguf.c - valid files: keys of every type, arrays, tensors; and what
 * real files say.
 *
 * With POTLUCK_WRITE_CORPUS=DIR the small ones are also written to DIR. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"
#include "tests/lib/bytes_asm.h"
#include "tests/lib/corpus.h"
#include "tests/lib/gguf_writer.h"

static void assert_ok(enum status st, const struct error *err)
{
    if (st != ST_OK) fail_msg("%s: %s", status_name(st), err->text);
}

static void assert_str(struct gguf_str s, const char *want)
{
    assert_int_equal(s.len, strlen(want));
    assert_memory_equal(s.data, want, s.len);
}

static struct gguf_writer *new_writer(uint32_t version)
{
    struct gguf_writer *w = NULL;
    struct error err;
    assert_ok(gguf_writer_create(&w, version, &err), &err);
    return w;
}

/* What is open in these tests, the fuzzer starts from too. */
static void add_seed(const struct buf *b)
{
    static unsigned n;
    char name[32];
    snprintf(name, sizeof name, "valid %u", n++);
    if (b->len < 4096) assert_true(corpus_seed(name, b->data, b->len));
}

/* Open what the writer has, and free the writer. */
static struct gguf *reopen(struct gguf_writer *w)
{
    struct gguf *g = NULL;
    struct error err;
    struct buf b;
    buf_init(&b, 1 << 26);
    assert_ok(gguf_writer_save_mem(w, &b, &err), &err);
    assert_int_equal(b.len, gguf_writer_bytes(w));
    assert_ok(gguf_open_mem(&g, b.data, b.len, &err), &err);
    gguf_writer_free(w);
    add_seed(&b);
    buf_fini(&b);
    return g;
}

static struct gguf *open_asm(const char *text)
{
    struct gguf *g = NULL;
    struct error err;
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_ok(bytes_asm(&b, text, &err), &err);
    assert_ok(gguf_open_mem(&g, b.data, b.len, &err), &err);
    add_seed(&b);
    buf_fini(&b);
    return g;
}

static void test_empty_file(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct gguf *g = reopen(new_writer(version));
        uint32_t v = 7;
        assert_int_equal(gguf_version(g), version);
        assert_int_equal(gguf_n_keys(g), 0);
        assert_int_equal(gguf_n_tensors(g), 0);
        assert_int_equal(gguf_n_splits(g), 1);
        assert_int_equal(gguf_file_bytes(g), 24);
        assert_null(gguf_find_tensor(g, "x"));
        assert_int_equal(gguf_get_u32(g, "x", &v, NULL), ST_NOT_FOUND);
        assert_int_equal(v, 7);
        gguf_close(g);
    }
    gguf_close(NULL);
}

/* The bytes as the specification writes them, not as our writer does. */
static void test_handwritten_file(void **state)
{
    (void)state;
    struct gguf *g = open_asm(
        "raw:GGUF u32:3 u64:2 u64:3 "
        "s:general.architecture u32:8 s:llama "
        "s:llama.block_count u32:4 u32:22 "
        "s:general.alignment u32:4 u32:16 "
        "s:b.weight u32:2 u64:2 u64:3 u32:0 u64:32 "
        "s:a.weight u32:1 u64:5 u32:1 u64:16 "
        "pad:16 z:16 u16:0x3c00 z:14 f32:1 f32:2 f32:3 f32:4 f32:5 f32:6.5");
    struct gguf_str s;
    struct error err;
    uint32_t v;
    float f;
    assert_ok(gguf_get_str(g, "general.architecture", &s, &err), &err);
    assert_str(s, "llama");
    assert_ok(gguf_get_u32(g, "llama.block_count", &v, &err), &err);
    assert_int_equal(v, 22);
    assert_int_equal(gguf_n_tensors(g), 2);
    const struct gguf_tensor *b = gguf_tensor(g, 0);
    assert_ptr_equal(b, gguf_find_tensor(g, "b.weight"));
    assert_string_equal(b->name, "b.weight");
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->ne[0], 2);
    assert_int_equal(b->ne[1], 3);
    assert_int_equal(b->ne[2], 1);
    assert_int_equal(b->ne[3], 1);
    assert_int_equal(b->n_bytes, 24);
    assert_int_equal(b->offset % 16, 0);
    assert_ok(gguf_read(g, b, 20, &f, sizeof f, &err), &err);
    assert_true(f == 6.5f);
    const struct gguf_tensor *a = gguf_find_tensor(g, "a.weight");
    uint16_t half;
    assert_int_equal(a->n_bytes, 10);
    assert_ok(gguf_read(g, a, 0, &half, sizeof half, &err), &err);
    assert_int_equal(half, 0x3c00);
    gguf_close(g);
}

static void test_u32(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        enum status want;
        uint32_t v;
    } rows[] = {
        {"u32:0 u8:255", ST_OK, 255},
        {"u32:1 u8:127", ST_OK, 127},
        {"u32:1 u8:-1", ST_INVALID, 0},
        {"u32:2 u16:65535", ST_OK, 65535},
        {"u32:3 u16:32767", ST_OK, 32767},
        {"u32:3 u16:-2", ST_INVALID, 0},
        {"u32:4 u32:4294967295", ST_OK, 4294967295u},
        {"u32:5 u32:2147483647", ST_OK, 2147483647},
        {"u32:5 u32:-1", ST_INVALID, 0},
        {"u32:10 u64:4294967295", ST_OK, 4294967295u},
        {"u32:10 u64:4294967296", ST_INVALID, 0},
        {"u32:10 u64:-1", ST_INVALID, 0},
        {"u32:11 u64:12", ST_OK, 12},
        {"u32:11 u64:-12", ST_INVALID, 0},
        {"u32:11 u64:0x7fffffffffffffff", ST_INVALID, 0},
        {"u32:6 f32:1", ST_INVALID, 0},
        {"u32:7 u8:1", ST_INVALID, 0},
        {"u32:8 s:1", ST_INVALID, 0},
        {"u32:9 u32:4 u64:1 u32:1", ST_INVALID, 0},
        {"u32:12 f64:1", ST_INVALID, 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[128];
        struct error err = {.text = ""};
        uint32_t v = 4711;
        snprintf(text, sizeof text, "raw:GGUF u32:3 u64:0 u64:1 s:some.key %s",
                 rows[i].value);
        struct gguf *g = open_asm(text);
        const enum status st = gguf_get_u32(g, "some.key", &v, &err);
        if (st != rows[i].want) fail_msg("%s: %s", rows[i].value, err.text);
        assert_int_equal(v, st == ST_OK ? rows[i].v : 4711);
        if (st != ST_OK) {
            assert_non_null(strstr(err.text, "some.key"));
            assert_non_null(strstr(err.text, "byte 4")); /* 44: the value */
        }
        gguf_close(g);
    }
}

static void test_floats_bools_strings(void **state)
{
    (void)state;
    struct gguf_writer *w = new_writer(3);
    const double wide[] = {0.25, 1e300, HUGE_VAL};
    gguf_writer_f32(w, "f", 1e-5f);
    gguf_writer_scalar(w, "d", GGUF_F64, &wide[0]);
    gguf_writer_scalar(w, "d.big", GGUF_F64, &wide[1]);
    gguf_writer_scalar(w, "d.inf", GGUF_F64, &wide[2]);
    gguf_writer_bool(w, "yes", true);
    gguf_writer_bool(w, "no", false);
    gguf_writer_strn(w, "s", (struct gguf_str){"a\0\n\xff", 4});
    gguf_writer_str(w, "s.empty", "");
    gguf_writer_i32(w, "i", -5);
    struct gguf *g = reopen(w);
    struct error err;
    float f = 9;
    bool b = false;
    struct gguf_str s = {"kept", 4};

    assert_ok(gguf_get_f32(g, "f", &f, &err), &err);
    assert_true(f == 1e-5f);
    assert_ok(gguf_get_f32(g, "d", &f, &err), &err);
    assert_true(f == 0.25f);
    assert_int_equal(gguf_get_f32(g, "d.big", &f, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "fit"));
    assert_int_equal(gguf_get_f32(g, "i", &f, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "i32"));
    assert_true(f == 0.25f);
    assert_ok(gguf_get_f32(g, "d.inf", &f, &err), &err);
    assert_true(isinf(f));
    assert_int_equal(gguf_get_f32(g, "g", &f, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "\"g\""));

    assert_ok(gguf_get_bool(g, "yes", &b, &err), &err);
    assert_true(b);
    assert_int_equal(gguf_get_bool(g, "i", &b, &err), ST_INVALID);
    assert_int_equal(gguf_get_bool(g, "ye", &b, &err), ST_NOT_FOUND);
    assert_int_equal(gguf_get_bool(g, "yess", &b, &err), ST_NOT_FOUND);
    assert_true(b);
    assert_ok(gguf_get_bool(g, "no", &b, &err), &err);
    assert_false(b);

    assert_int_equal(gguf_get_str(g, "yes", &s, &err), ST_INVALID);
    assert_int_equal(gguf_get_str(g, "", &s, &err), ST_NOT_FOUND);
    assert_str(s, "kept");
    assert_ok(gguf_get_str(g, "s", &s, &err), &err);
    assert_int_equal(s.len, 4);
    assert_memory_equal(s.data, "a\0\n\xff", 4);
    assert_ok(gguf_get_str(g, "s.empty", &s, &err), &err);
    assert_int_equal(s.len, 0);
    gguf_close(g);
}

static void test_arrays(void **state)
{
    (void)state;
    static const char *const words[] = {"", "\xe2\x96\x81the", "x"};
    static const float f32[] = {0, -2.5f};
    static const double f64[] = {0.5, -1e99, 1e99};
    static const int32_t i32[] = {-1, 2147483647, -2147483647 - 1};
    static const uint64_t u64[] = {1, 3000000000u};
    static const uint16_t u16[] = {65535};
    static const uint8_t flags[] = {1, 0, 1};
    struct gguf_writer *w = new_writer(2);
    gguf_writer_cstrs(w, "words", words, 3);
    gguf_writer_cstrs(w, "none", words, 0);
    gguf_writer_array(w, "f32", GGUF_F32, f32, 2);
    gguf_writer_array(w, "f64", GGUF_F64, f64, 3);
    gguf_writer_array(w, "i32", GGUF_I32, i32, 3);
    gguf_writer_array(w, "u64", GGUF_U64, u64, 2);
    gguf_writer_array(w, "u16", GGUF_U16, u16, 1);
    gguf_writer_array(w, "flags", GGUF_BOOL, flags, 3);
    gguf_writer_u32(w, "scalar", 1);
    struct gguf *g = reopen(w);
    const struct gguf_array *a = NULL;
    struct error err;

    assert_ok(gguf_get_array(g, "words", GGUF_STRING, &a, &err), &err);
    assert_int_equal(gguf_array_len(a), 3);
    assert_int_equal(gguf_array_type(a), GGUF_STRING);
    for (uint64_t i = 3; i-- > 0;) assert_str(gguf_array_str(a, i), words[i]);
    assert_ok(gguf_get_array(g, "none", GGUF_STRING, &a, &err), &err);
    assert_int_equal(gguf_array_len(a), 0);
    assert_ok(gguf_get_array(g, "f32", GGUF_F32, &a, &err), &err);
    assert_true(gguf_array_f32(a, 1) == -2.5f);
    assert_ok(gguf_get_array(g, "i32", GGUF_I32, &a, &err), &err);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(gguf_array_i32(a, i), i32[i]);
    }
    assert_ok(gguf_get_array(g, "u16", GGUF_I32, &a, &err), &err);
    assert_int_equal(gguf_array_i32(a, 0), 65535);
    assert_ok(gguf_get_array(g, "flags", GGUF_BOOL, &a, &err), &err);
    assert_int_equal(gguf_array_i32(a, 0), 1);
    assert_int_equal(gguf_array_i32(a, 1), 0);

    const struct gguf_array *kept = a;
    assert_int_equal(gguf_get_array(g, "u64", GGUF_I32, &a, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "fit"));
    assert_int_equal(gguf_get_array(g, "f64", GGUF_F32, &a, &err), ST_INVALID);
    assert_int_equal(gguf_get_array(g, "flags", GGUF_I32, &a, &err),
                     ST_INVALID);
    assert_int_equal(gguf_get_array(g, "none", GGUF_I32, &a, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "array of string"));
    assert_int_equal(gguf_get_array(g, "words", GGUF_F32, &a, &err),
                     ST_INVALID);
    assert_int_equal(gguf_get_array(g, "f32", GGUF_STRING, &a, &err),
                     ST_INVALID);
    assert_int_equal(gguf_get_array(g, "scalar", GGUF_I32, &a, &err),
                     ST_INVALID);
    assert_int_equal(gguf_get_array(g, "gone", GGUF_I32, &a, &err),
                     ST_NOT_FOUND);
    assert_ptr_equal(a, kept);

    /* Asked for as they are, they give the nearest value. */
    assert_ok(gguf_get_array(g, "u64", GGUF_TYPE_END, &a, &err), &err);
    assert_int_equal(gguf_array_i32(a, 1), INT32_MAX);
    assert_ok(gguf_get_array(g, "f64", GGUF_F64, &a, &err), &err);
    assert_true(gguf_array_f32(a, 0) == 0.5f);
    assert_true(isinf(gguf_array_f32(a, 1)) && gguf_array_f32(a, 1) < 0);
    assert_true(isinf(gguf_array_f32(a, 2)) && gguf_array_f32(a, 2) > 0);
    gguf_close(g);
}

static void test_keys_in_file_order(void **state)
{
    (void)state;
    struct gguf_writer *w = new_writer(3);
    char key[32];
    enum { N = 3000 };
    for (uint32_t i = 0; i < N; i++) {
        snprintf(key, sizeof key, "k.%u", i * 7919 % N);
        gguf_writer_u32(w, key, i);
    }
    struct gguf *g = reopen(w);
    assert_int_equal(gguf_n_keys(g), N);
    for (uint32_t i = 0; i < N; i++) {
        enum gguf_type type;
        struct error err;
        uint32_t v;
        snprintf(key, sizeof key, "k.%u", i * 7919 % N);
        assert_str(gguf_key(g, i, &type), key);
        assert_int_equal(type, GGUF_U32);
        assert_ok(gguf_get_u32(g, key, &v, &err), &err);
        assert_int_equal(v, i);
    }
    gguf_close(g);
}

static void test_tensors_of_every_type(void **state)
{
    (void)state;
    struct gguf_writer *w = new_writer(3);
    static const uint64_t ne[3] = {512, 3, 2};
    uint32_t n = 0;
    gguf_writer_alignment(w, 4096);
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        if (!quant_info(t)) continue;
        gguf_writer_tensor(w, quant_name(t), (enum quant_type)t, 3, ne, NULL);
        n++;
    }
    struct gguf *g = reopen(w);
    assert_int_equal(gguf_n_tensors(g), n);
    assert_true(n >= 8);
    uint64_t end = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct gguf_tensor *t = gguf_tensor(g, i);
        assert_ptr_equal(t, gguf_find_tensor(g, quant_name(t->type)));
        assert_int_equal(t->n_bytes,
                         6 * quant_row_bytes((enum quant_type)t->type, 512));
        assert_int_equal(t->offset % 4096, 0);
        assert_true(t->offset >= end);
        end = t->offset + t->n_bytes;
    }
    assert_null(gguf_find_tensor(g, "F3"));
    assert_null(gguf_find_tensor(g, ""));
    assert_null(gguf_find_tensor(g, "zzz"));
    gguf_close(g);
}

static void test_unknown_type_is_listed(void **state)
{
    (void)state;
    struct gguf *g = open_asm("raw:GGUF u32:3 u64:2 u64:0 "
                              "s:strange u32:1 u64:7 u32:99 u64:0 "
                              "s:plain u32:0 u32:0 u64:0 pad:32 f32:3");
    const struct gguf_tensor *t = gguf_find_tensor(g, "strange");
    struct error err;
    float f = 1;
    assert_int_equal(t->type, 99);
    assert_int_equal(t->n_bytes, 0);
    assert_int_equal(t->ne[0], 7);
    assert_int_equal(gguf_read(g, t, 0, &f, 4, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "type 99"));
    t = gguf_find_tensor(g, "plain");
    assert_int_equal(t->n_dims, 0);
    assert_int_equal(t->n_bytes, 4);
    assert_ok(gguf_read(g, t, 0, &f, 4, &err), &err);
    assert_true(f == 3.0f);
    gguf_close(g);
}

static void test_read_stays_inside(void **state)
{
    (void)state;
    struct gguf_writer *w = new_writer(3);
    static const uint64_t ne[1] = {8};
    static const float data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    gguf_writer_tensor(w, "a", QUANT_F32, 1, ne, data);
    gguf_writer_tensor(w, "b", QUANT_F32, 1, ne, data);
    struct gguf *g = reopen(w);
    const struct gguf_tensor *t = gguf_find_tensor(g, "a");
    float got[9] = {0};
    struct error err;
    assert_ok(gguf_read(g, t, 0, got, 32, &err), &err);
    assert_memory_equal(got, data, 32);
    assert_ok(gguf_read(g, t, 28, got, 4, &err), &err);
    assert_true(got[0] == 8);
    assert_ok(gguf_read(g, t, 32, NULL, 0, &err), &err);
    assert_int_equal(gguf_read(g, t, 0, got, 33, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "\"a\""));
    assert_int_equal(gguf_read(g, t, 29, got, 4, &err), ST_INVALID);
    assert_int_equal(gguf_read(g, t, 33, got, 0, &err), ST_INVALID);
    assert_int_equal(gguf_read(g, t, UINT64_MAX, got, 4, &err), ST_INVALID);
    assert_int_equal(gguf_read(g, t, 4, got, SIZE_MAX, &err), ST_INVALID);
    gguf_close(g);
}

/* Outside data: real models and vocabularies. */
static const struct {
    const char *file, *arch;
    uint32_t n_tensors, n_vocab;
    const char *tensor;
} real[] = {
    {"models/stories260K.gguf", "llama", 48, 512, "blk.4.ffn_down.weight"},
    {"models/stories260K-tied-f16.gguf", "llama", 47, 512, "token_embd.weight"},
    {"models/stories260K-moe.gguf", "llama", 0, 512,
     "blk.0.ffn_gate_inp.weight"},
    {"models/tinystories-656k-f32.gguf", "llama", 20, 2048,
     "output_norm.weight"},
    {"models/tinystories-656k-Q8_0.gguf", "llama", 20, 2048,
     "blk.1.attn_q.weight"},
    {"models/tinystories-656k-Q4_0.gguf", "llama", 20, 2048,
     "blk.1.attn_q.weight"},
    {"models/tinystories-656k-Q4_1.gguf", "llama", 20, 2048,
     "blk.1.attn_q.weight"},
    {"vocab/llama2.gguf", "llama", 0, 32000, NULL},
    {"vocab/llama3.1.gguf", "llama", 0, 128256, NULL},
    {"vocab/mistral-v1.gguf", "llama", 0, 32000, NULL},
    {"vocab/mistral-v3.gguf", "llama", 0, 32768, NULL},
    {"vocab/gemma2.gguf", "gemma2", 0, 256000, NULL},
    {"vocab/qwen3.gguf", "qwen3", 0, 151936, NULL},
    {"vocab/gpt-2.gguf", "gpt2", 0, 50257, NULL},
};

static void check_real(const char *dir, size_t i)
{
    char path[512];
    struct gguf *g = NULL;
    struct error err;
    struct gguf_str s;
    const struct gguf_array *a;
    snprintf(path, sizeof path, "%s/%s", dir, real[i].file);
    assert_ok(gguf_open(&g, path, &err), &err);
    assert_ok(gguf_get_str(g, "general.architecture", &s, &err), &err);
    assert_str(s, real[i].arch);
    assert_ok(gguf_get_array(g, "tokenizer.ggml.tokens", GGUF_STRING, &a, &err),
              &err);
    if (gguf_array_len(a) != real[i].n_vocab) {
        fail_msg("%s: %llu tokens", path,
                 (unsigned long long)gguf_array_len(a));
    }
    size_t n_chars = 0;
    for (uint64_t k = 0; k < gguf_array_len(a); k++) {
        n_chars += gguf_array_str(a, k).len;
    }
    assert_true(n_chars > gguf_array_len(a));
    assert_ok(
        gguf_get_array(g, "tokenizer.ggml.token_type", GGUF_I32, &a, &err),
        &err);
    assert_int_equal(gguf_array_len(a), real[i].n_vocab);
    if (real[i].n_tensors != 0 && gguf_n_tensors(g) != real[i].n_tensors) {
        fail_msg("%s: %u tensors", path, gguf_n_tensors(g));
    }
    if (real[i].tensor) {
        const struct gguf_tensor *t = gguf_find_tensor(g, real[i].tensor);
        assert_non_null(t);
        char *bytes = mem_zalloc(t->n_bytes), *zeros = mem_zalloc(t->n_bytes);
        assert_true(bytes && zeros);
        assert_ok(gguf_read(g, t, 0, bytes, t->n_bytes, &err), &err);
        assert_memory_not_equal(bytes, zeros, t->n_bytes);
        mem_free(bytes);
        mem_free(zeros);
    } else {
        assert_int_equal(gguf_n_tensors(g), 0);
    }
    gguf_close(g);
}

static void test_real_files(void **state)
{
    (void)state;
    const char *dir = getenv("POTLUCK_TESTDATA");
    if (!dir) {
        const char *ci = getenv("CI");
        if (ci && strcmp(ci, "true") == 0) fail_msg("POTLUCK_TESTDATA unset");
        print_message("SKIP real GGUF files: POTLUCK_TESTDATA is not set\n");
        skip();
    }
    for (size_t i = 0; i < COUNT_OF(real); i++) check_real(dir, i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_file),
        cmocka_unit_test(test_handwritten_file),
        cmocka_unit_test(test_u32),
        cmocka_unit_test(test_floats_bools_strings),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_keys_in_file_order),
        cmocka_unit_test(test_tensors_of_every_type),
        cmocka_unit_test(test_unknown_type_is_listed),
        cmocka_unit_test(test_read_stays_inside),
        cmocka_unit_test(test_real_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

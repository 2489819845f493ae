/* test_gguf_strip.c - headers for machines that do not have the file.
 *
 * With POTLUCK_WRITE_CORPUS=DIR the headers are also written to DIR. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tests/lib/bytes_asm.h"
#include "tests/lib/corpus.h"
#include "tests/lib/arch_rig.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/testdata.h"

/* What a gguf_read_fn was asked for. */
struct asked {
    uint32_t n, tensor;
    uint64_t from;
    size_t bytes;
    enum status answer;
};

static enum status serve(void *arg, uint32_t i, uint64_t from, void *dst,
                         size_t n, struct error *err)
{
    struct asked *a = arg;
    *a = (struct asked){a->n + 1, i, from, n, a->answer};
    if (a->answer != ST_OK) return error_set(err, a->answer, "the line is cut");
    memset(dst, 0x5a, n);
    return ST_OK;
}

static struct buf strip(const struct gguf *g)
{
    struct buf b;
    buf_init(&b, 16 << 20);
    assert_ok(gguf_strip_header(g, &b, &rig_err));
    return b;
}

static struct gguf *open_bytes(const struct buf *b, struct asked *a)
{
    struct gguf *g = NULL;
    assert_ok(gguf_open_header(&g, b->data, b->len, serve, a, &rig_err));
    return g;
}

static struct buf assemble(const char *text)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_ok(bytes_asm(&b, text, &rig_err));
    return b;
}

/* Byte for byte: every kind of value that is kept, every key that is not. */
static void test_bytes(void **state)
{
    (void)state;
#define KEPT                                                                   \
    "s:general.architecture u32:8 s:llama s:general.alignment u32:4 u32:64 "   \
    "s:a.u8 u32:0 u8:7 s:a.f64 u32:12 f64:0.5 s:a.flag u32:7 u8:1 "            \
    "s:a.none u32:9 u32:8 u64:0 s:a.words u32:9 u32:8 u64:3 s:x s: s:yz "      \
    "s:a.shorts u32:9 u32:3 u64:3 u16:1 u16:2 u16:3 s:tokenizer u32:0 u8:1 "   \
    "s:splits u32:0 u8:2 "
    struct buf from =
        assemble("raw:GGUF u32:2 u64:3 u64:16 "
                 "s:tokenizer.ggml.model u32:8 s:gpt2 " KEPT
                 "s:tokenizer.ggml.tokens u32:9 u32:8 u64:2 s:a s:b "
                 "s:tokenizer.chat_template u32:8 s:x s:split.no u32:2 u16:0 "
                 "s:split.count u32:2 u16:1 "
                 "s:split.tensors.count u32:5 u32:3 "
                 "s:last u32:2 u64:32 u64:2 u32:8 u64:192 "
                 "s:odd u32:1 u64:4 u32:99 u64:128 "
                 "s:first u32:1 u64:4 u32:0 u64:0 pad:64 z:320");
    struct buf want = assemble("raw:GGUF u32:3 u64:3 u64:10 " KEPT
                               "s:last u32:2 u64:32 u64:2 u32:8 u64:0 "
                               "s:odd u32:1 u64:4 u32:99 u64:128 "
                               "s:first u32:1 u64:4 u32:0 u64:128");
    struct gguf *g = NULL;
    assert_ok(gguf_open_mem(&g, from.data, from.len, &rig_err));
    struct buf b = strip(g);
    assert_int_equal(b.len, want.len);
    assert_memory_equal(b.data, want.data, b.len);
    assert_true(corpus_seed("every kind", b.data, b.len));

    /* appended; on an error all stays as it was */
    struct buf room;
    buf_init(&room, 3 + b.len);
    assert_int_equal(buf_append(&room, "abc", 3), ST_OK);
    assert_ok(gguf_strip_header(g, &room, &rig_err));
    assert_int_equal(room.len, 3 + b.len);
    assert_memory_equal(room.data + 3, b.data, b.len);
    for (size_t max = 3; max < 3 + b.len; max++) {
        room.len = 3;
        room.max = max;
        assert_fails(gguf_strip_header(g, &room, &rig_err), ST_TOO_LARGE,
                     "header");
        assert_int_equal(room.len, 3);
        assert_string_equal(room.data, "abc");
    }
    buf_fini(&room);
    gguf_close(g);

    struct asked a = {0};
    g = open_bytes(&b, &a);
    struct buf again = strip(g);
    assert_int_equal(again.len, b.len);
    assert_memory_equal(again.data, b.data, b.len);
    assert_int_equal(gguf_n_keys(g), 10);
    uint32_t v;
    assert_int_equal(gguf_get_u32(g, "a.u8", &v, NULL), ST_OK);
    assert_int_equal(v, 7);
    gguf_close(g);
    buf_fini(&from);
    buf_fini(&want);
    buf_fini(&b);
    buf_fini(&again);
}

static void assert_same_models(const struct model *a, const struct model *b)
{
    assert_string_equal(a->arch, b->arch);
    assert_string_equal(a->name, b->name);
    const uint32_t x[] = {a->n_layer,  a->n_embd, a->n_head,   a->n_head_kv,
                          a->head_dim, a->n_ff,   a->n_expert, a->n_expert_used,
                          a->n_vocab,  a->n_ctx,  a->n_rot,    a->tied};
    const uint32_t y[] = {b->n_layer,  b->n_embd, b->n_head,   b->n_head_kv,
                          b->head_dim, b->n_ff,   b->n_expert, b->n_expert_used,
                          b->n_vocab,  b->n_ctx,  b->n_rot,    b->tied};
    assert_memory_equal(x, y, sizeof x);
    assert_true(a->rms_eps == b->rms_eps && a->rope.base == b->rope.base &&
                a->rope.scale == b->rope.scale &&
                a->rope.halves == b->rope.halves &&
                a->rope.low == b->rope.low && a->rope.high == b->rope.high &&
                a->rope.extend == b->rope.extend &&
                a->rope.magnitude == b->rope.magnitude);
    assert_true(a->activation == b->activation &&
                a->embed_scale == b->embed_scale &&
                a->query_scale == b->query_scale &&
                a->attn_softcap == b->attn_softcap &&
                a->final_softcap == b->final_softcap && a->window == b->window);
    for (uint32_t i = 0; i < a->n_layer; i++) {
        const struct model_layer *p = &a->layers[i], *q = &b->layers[i];
        assert_int_equal(p->window, q->window);
        for (int v = 0; v < VEC_END; v++) {
            assert_int_equal(!p->vec[v], !q->vec[v]);
        }
    }
}

static void assert_same_tensors(const struct gguf *a, const struct gguf *b)
{
    assert_int_equal(gguf_n_tensors(a), gguf_n_tensors(b));
    for (uint32_t i = 0; i < gguf_n_tensors(a); i++) {
        const struct gguf_tensor *x = gguf_tensor(a, i), *y = gguf_tensor(b, i);
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->type, y->type);
        assert_int_equal(x->n_dims, y->n_dims);
        assert_memory_equal(x->ne, y->ne, sizeof x->ne);
        assert_int_equal(x->n_bytes, y->n_bytes);
        assert_int_equal(y->split, 0);
    }
}

/* The same header from one file and from sets of files; the same model. */
static void test_splits_do_not_show(void **state)
{
    (void)state;
    struct gen_model kinds[2 + ARCH_END] = {rig_dense(), rig_moe()};
    for (uint32_t i = 0; i < ARCH_END; i++) kinds[2 + i] = arch_model(i);
    static const uint32_t n_splits[] = {1, 2, 7};
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        struct buf one = {0};
        for (size_t i = 0; i < COUNT_OF(n_splits); i++) {
            struct gen_model m = kinds[k];
            struct rig r;
            struct asked a = {0};
            struct model described;
            m.n_splits = n_splits[i];
            rig_open(&r, &m);
            assert_int_equal(gguf_n_splits(r.gguf), n_splits[i]);
            struct buf b = strip(r.gguf);
            if (i == 0) one = b;
            assert_int_equal(b.len, one.len);
            assert_memory_equal(b.data, one.data, b.len);
            struct gguf *g = open_bytes(&b, &a);
            assert_same_tensors(r.gguf, g);
            assert_int_equal(gguf_n_splits(g), 1);
            /* as large as one file without the vocabulary would be */
            uint64_t data = 0;
            for (uint32_t t = 0; t < gguf_n_tensors(g); t++) {
                data += gguf_tensor(g, t)->n_bytes;
            }
            assert_in_range(gguf_file_bytes(g), b.len + data,
                            b.len + data + 32ul * (gguf_n_tensors(g) + 1));
            assert_ok(model_describe(&described, g, &rig_err));
            assert_same_models(&described, &r.model);
            model_fini(&described);
            gguf_close(g);
            rig_close(&r);
            if (i != 0) buf_fini(&b);
        }
        buf_fini(&one);
    }
}

static void test_read(void **state)
{
    (void)state;
    struct buf b = assemble("raw:GGUF u32:3 u64:2 u64:0 "
                            "s:a u32:1 u64:4 u32:0 u64:0 "
                            "s:b u32:2 u64:32 u64:3 u32:8 u64:32");
    struct asked a = {0};
    struct gguf *g = open_bytes(&b, &a);
    const struct gguf_tensor *t = gguf_find_tensor(g, "b");
    unsigned char dst[102];
    assert_ok(gguf_read(g, t, 1, dst, 101, &rig_err));
    assert_int_equal(a.n, 1);
    assert_int_equal(a.tensor, 1);
    assert_int_equal(a.from, 1);
    assert_int_equal(a.bytes, 101);
    assert_int_equal(dst[0], 0x5a);
    assert_int_equal(dst[100], 0x5a);
    /* outside the tensor nobody is asked */
    assert_fails(gguf_read(g, t, 1, dst, 102, &rig_err), ST_INVALID, "\"b\"");
    assert_fails(gguf_read(g, t, 103, dst, 0, &rig_err), ST_INVALID, "103");
    assert_int_equal(a.n, 1);
    a.answer = ST_IO;
    assert_fails(gguf_read(g, t, 0, dst, 1, &rig_err), ST_IO,
                 "tensor \"b\": the line is cut");
    const struct gguf_stamp stamp = gguf_stamp(g, 0);
    assert_int_equal(stamp.n_bytes, 0);
    assert_int_equal(stamp.mtime_ns, 0);
    assert_int_equal(gguf_check_unchanged(g, t, NULL), ST_OK);
    gguf_close(g);
    buf_fini(&b);
}

#define T(name, dims, type, offset)                                            \
    "s:" name " " dims " u32:" type " u64:" offset " "
#define F4           "u32:1 u64:4"
#define HEADER(t, k) "raw:GGUF u32:3 u64:" t " u64:" k " "

static const struct row {
    const char *why;
    const char *bytes;
    enum status want;
    const char *word;
} rows[] = {
    {"no bytes", "", ST_TRUNCATED, "(header): "},
    {"magic", "raw:GGUX u32:3 u64:0 u64:0", ST_INVALID, "not a GGUF"},
    {"more tensors than bytes", HEADER("1000", "0"), ST_TRUNCATED,
     "the header ends"},
    {"tensors over the limit", HEADER("65537", "0"), ST_TOO_LARGE, "65536"},
    {"keys 2^63", HEADER("0", "0x8000000000000000"), ST_TOO_LARGE, "keys"},
    {"array past the end", HEADER("0", "1") "s:k u32:9 u32:5 u64:-1 z:8",
     ST_TRUNCATED, "array"},
    {"one of a set", HEADER("0", "1") "s:split.count u32:2 u16:3",
     ST_UNSUPPORTED, "set of 3"},
    {"padding behind", HEADER("1", "0") T("t", F4, "0", "0") "pad:32",
     ST_INVALID, "follow the list"},
    {"data behind", HEADER("1", "0") T("t", F4, "0", "0") "pad:32 z:16",
     ST_INVALID, "follow the list"},
    {"no tensors, a byte behind", HEADER("0", "0") "u8:0", ST_INVALID,
     "1 bytes follow"},
    {"first not at 0", HEADER("1", "0") T("t", F4, "0", "32"), ST_INVALID,
     "at 32 of the data instead of 0"},
    {"a gap", HEADER("2", "0") T("t", F4, "0", "0") T("u", F4, "0", "64"),
     ST_INVALID, "instead of 32"},
    {"at one place", HEADER("2", "0") T("t", F4, "0", "0") T("u", F4, "0", "0"),
     ST_INVALID, "instead of 32"},
    {"in another order",
     HEADER("2", "0") T("t", F4, "0", "32") T("u", F4, "0", "0"), ST_INVALID,
     "\"t\""},
    {"not aligned", HEADER("2", "0") T("t", F4, "0", "0") T("u", F4, "0", "16"),
     ST_INVALID, "alignment"},
    {"twice", HEADER("2", "0") T("t", F4, "0", "0") T("t", F4, "0", "32"),
     ST_INVALID, "twice"},
    {"one of 2^63 bytes",
     HEADER("1", "0") T("t", "u32:1 u64:0x2000000000000000", "0", "0"),
     ST_TOO_LARGE, "2^62"},
    {"two that make 2^62 and a bit",
     HEADER("2", "0") T("t", "u32:1 u64:0x1000000000000000", "0", "0")
         T("u", F4, "0", "0x4000000000000000"),
     ST_TOO_LARGE, "\"u\""},
    {"shape overflows", HEADER("1", "0") T("t", "u32:2 u64:-1 u64:3", "0", "0"),
     ST_INVALID, "overflows"},
};

static void test_hostile_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct row *r = &rows[i];
        struct buf b = assemble(r->bytes);
        struct asked a = {0};
        struct gguf *g = NULL;
        const size_t before = mem_in_use();
        const enum status st =
            gguf_open_header(&g, b.data, b.len, serve, &a, &rig_err);
        if (st != r->want || !strstr(rig_err.text, r->word)) {
            fail_msg("%s: %s \"%s\"; wanted %s with \"%s\"", r->why,
                     status_name(st), rig_err.text, status_name(r->want),
                     r->word);
        }
        assert_null(g);
        assert_int_equal(mem_in_use(), before);
        assert_int_equal(a.n, 0);
        assert_true(corpus_seed(r->why, b.data, b.len));
        buf_fini(&b);
    }
}

/* What lies within 2^62 opens, and nobody allocates for it. */
static void test_huge_tensors_cost_nothing(void **state)
{
    (void)state;
    struct buf b = assemble(
        HEADER("2", "0") T("t", "u32:2 u64:0x40000000 u64:0x20000000", "0", "0")
            T("u", "u32:1 u64:-1", "99", "0x2000000000000000"));
    struct asked a = {0};
    const size_t before = mem_in_use();
    struct gguf *g = open_bytes(&b, &a);
    assert_true(mem_in_use() - before < 4096);
    unsigned char last;
    const struct gguf_tensor *t = gguf_tensor(g, 0);
    assert_ok(gguf_read(g, t, t->n_bytes - 1, &last, 1, &rig_err));
    assert_true(corpus_seed("huge", b.data, b.len));
    gguf_close(g);
    buf_fini(&b);
}

/* A small header of a mixture of experts, whole. */
static struct buf small_header(void)
{
    struct gen_model m = rig_moe();
    struct rig r;
    m.n_layer = 1;
    m.n_expert = 2;
    m.n_expert_used = 1;
    m.rope_factor = 2;
    rig_open(&r, &m);
    struct buf b = strip(r.gguf);
    rig_close(&r);
    assert_true(corpus_seed("model", b.data, b.len));
    return b;
}

static void test_every_prefix_and_byte(void **state)
{
    (void)state;
    static const unsigned char masks[] = {0xff, 0x80, 0x01, 0x08};
    struct buf b = small_header();
    struct asked a = {0};
    const size_t before = mem_in_use();
    struct gguf *g = NULL;
    for (size_t n = 0; n < b.len; n++) {
        char *copy = mem_alloc(n); /* nothing behind it can be read */
        assert_non_null(copy);
        memcpy(copy, b.data, n);
        assert_int_equal(gguf_open_header(&g, copy, n, serve, &a, &rig_err),
                         ST_TRUNCATED);
        mem_free(copy);
    }
    size_t n_refused = 0, n_described = 0;
    for (size_t i = 0; i < b.len * COUNT_OF(masks); i++) {
        char *byte = &b.data[i / COUNT_OF(masks)];
        const char was = *byte;
        *byte = (char)(was ^ masks[i % COUNT_OF(masks)]);
        struct model m;
        if (gguf_open_header(&g, b.data, b.len, serve, &a, &rig_err) != ST_OK) {
            n_refused++;
        } else {
            if (model_describe(&m, g, &rig_err) == ST_OK) {
                n_described++;
                model_fini(&m);
            }
            gguf_close(g);
        }
        *byte = was;
        assert_int_equal(mem_in_use(), before);
    }
    assert_true(n_refused > 1000);
    assert_true(n_described > 10); /* a name's letters, a float */
    buf_fini(&b);
}

static void test_every_allocation_fails_once(void **state)
{
    (void)state;
    struct buf b = small_header(), out;
    struct asked a = {0};
    const size_t before = mem_in_use();
    struct gguf *g = NULL;
    long n = 0, n_strip = 0;
    for (;; n++) {
        mem_fail_after(n);
        const enum status st =
            gguf_open_header(&g, b.data, b.len, serve, &a, &rig_err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_null(g);
        assert_int_equal(mem_in_use(), before);
    }
    assert_true(n >= 6);
    for (;; n_strip++) {
        buf_init(&out, 1 << 20);
        mem_fail_after(n_strip);
        const enum status st = gguf_strip_header(g, &out, &rig_err);
        mem_fail_after(-1);
        assert_int_equal(out.len, st == ST_OK ? b.len : 0);
        buf_fini(&out);
        if (st == ST_OK) break;
        assert_fails(st, ST_NO_MEMORY, "memory");
    }
    assert_true(n_strip >= 2);
    gguf_close(g);
    assert_int_equal(mem_in_use(), before);
    buf_fini(&b);
}

/* Vocabularies are megabytes, and none of them stays. */
static void test_real_vocabularies(void **state)
{
    (void)state;
    static const char *const names[] = {"llama2", "llama3.1", "gemma2"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char path[TESTDATA_PATH_MAX];
        struct gguf *g = NULL;
        testdata_path(path, "vocab", names[i], ".gguf");
        assert_ok(gguf_open(&g, path, &rig_err));
        struct buf b = strip(g);
        assert_true(gguf_file_bytes(g) > 500000);
        assert_true(b.len > 100 && b.len < 4096);
        gguf_close(g);
        buf_fini(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_splits_do_not_show),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_huge_tensors_cost_nothing),
        cmocka_unit_test(test_every_prefix_and_byte),
        cmocka_unit_test(test_every_allocation_fails_once),
        cmocka_unit_test(test_real_vocabularies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

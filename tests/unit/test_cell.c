/* test_cell.c - the grid of cells: every byte in exactly one, and a list of
 * just those that a shard reads. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "engine/cell.h"
#include "tests/lib/engine_rig.h"

static struct gguf_tensor tensor_of(uint32_t type, uint64_t k, uint64_t rows,
                                    uint64_t planes, uint64_t cubes)
{
    struct gguf_tensor t = {
        .name = "t", .type = type, .n_dims = 4, .ne = {k, rows, planes, cubes}};
    if (quant_info(type)) {
        t.n_bytes =
            quant_row_bytes((enum quant_type)type, k) * rows * planes * cubes;
    }
    return t;
}

/* The grid is part of the protocol and of what lies in caches: these numbers
 * stay. */
static void test_known_grids(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint32_t type;
        uint64_t k, rows, planes;
        uint32_t n_cells, cell_rows;
    } known[] = {
        {"a norm", QUANT_F32, 4096, 1, 1, 1, 64},
        {"Llama 3 70B, ffn_up", QUANT_Q4_K, 8192, 28672, 1, 28672 / 128, 128},
        {"Llama 3 70B, ffn_down", QUANT_Q6_K, 28672, 8192, 1, 8192 / 32, 32},
        {"Llama 3 70B, head", QUANT_Q6_K, 8192, 128256, 1, 128256 / 128, 128},
        {"Mixtral 8x22B, up", QUANT_Q4_K, 6144, 16384, 8, 8 * 64, 256},
        {"Mixtral 8x22B, router", QUANT_F32, 6144, 8, 1, 1, 32},
        {"rows of 1 MiB", QUANT_F32, 262144, 3, 2, 6, 1},
        {"rows a little over half", QUANT_F32, 131073, 5, 1, 5, 1},
        {"rows of 8 MiB", QUANT_F32, 2097152, 2, 1, 2, 1},
        {"rows of 8 MiB and 4 bytes", QUANT_F32, 2097153, 2, 1, 0, 0},
        {"a type that we do not know", 99, 256, 256, 1, 0, 0},
        {"2^32 - 1 cells", QUANT_F32, 1, 1, UINT32_MAX, UINT32_MAX, 262144},
        {"2^32 cells", QUANT_F32, 1, 1, UINT64_C(1) << 32, 0, 0},
        {"2^62 rows", QUANT_F32, 1, UINT64_C(1) << 59, 1, 0, 0},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        const struct gguf_tensor t = tensor_of(
            known[i].type, known[i].k, known[i].rows, known[i].planes, 1);
        const struct cell_grid g = cell_grid(&t);
        const uint64_t row_bytes =
            g.n ? t.n_bytes / (t.ne[1] * t.ne[2] * t.ne[3]) : 0;
        if (g.n != known[i].n_cells ||
            g.cell_bytes != known[i].cell_rows * row_bytes) {
            fail_msg("%s: %u cells of %llu bytes", known[i].what, g.n,
                     (unsigned long long)g.cell_bytes);
        }
        assert_int_equal(cell_range(&t, g.n).n, 0);
        assert_int_equal(cell_range(&t, UINT32_MAX).n, 0);
        assert_int_equal(cell_span(&t, 0, 0).end, 0);
        assert_int_equal(cell_span(&t, t.n_bytes, 1).end, 0);
        assert_int_equal(cell_span(&t, 1, t.n_bytes).end, 0);
        assert_int_equal(cell_span(&t, UINT64_MAX, 2).end, 0);
    }
}

static struct gguf_tensor random_tensor(struct rng *rng)
{
    static const enum quant_type types[] = {QUANT_F32,  QUANT_F16,  QUANT_Q4_0,
                                            QUANT_Q8_0, QUANT_Q4_K, QUANT_Q6_K};
    const enum quant_type type = types[rng_below(rng, COUNT_OF(types))];
    const uint64_t k = quant_info(type)->block *
                       (1 + rng_below(rng, 1 + rng_below(rng, 4000)));
    return tensor_of(type, k, 1 + rng_below(rng, 1 + rng_below(rng, 3000)),
                     1 + rng_below(rng, 5), 1 + rng_below(rng, 2));
}

/* Each byte lies in exactly one cell; cells are whole rows of one plane. */
static void test_every_byte_once(void **state)
{
    (void)state;
    struct rng rng = {3};
    uint32_t n_long = 0, n_short = 0;
    for (int round = 0; round < 2000; round++) {
        const struct gguf_tensor t = random_tensor(&rng);
        const struct cell_grid g = cell_grid(&t);
        const uint64_t row = quant_row_bytes((enum quant_type)t.type, t.ne[0]);
        const uint64_t plane = row * t.ne[1];
        const uint64_t rows = g.cell_bytes / row;
        uint64_t end = 0;
        assert_true(g.n > 0);
        assert_int_equal(g.cell_bytes % row, 0);
        assert_int_equal(rows & (rows - 1), 0);
        assert_true(rows == 1 || g.cell_bytes <= CELL_BYTES);
        assert_true(2 * g.cell_bytes > CELL_BYTES); /* nor needlessly small */
        for (uint32_t c = 0; c < g.n; c++) {
            const struct cell_range r = cell_range(&t, c);
            assert_int_equal(r.from, end);
            assert_true(r.n > 0 && r.n <= g.cell_bytes && r.n % row == 0);
            assert_int_equal(r.from / plane, (r.from + r.n - 1) / plane);
            n_short += r.n < g.cell_bytes && r.from % plane != 0;
            n_long += r.n == g.cell_bytes;
            end = r.from + r.n;
        }
        assert_int_equal(end, t.n_bytes);
    }
    assert_true(n_long > 1000 && n_short > 1000);
}

/* A span is the cells that share a byte with the range, no other. */
static void test_spans(void **state)
{
    (void)state;
    struct rng rng = {4};
    uint64_t n_many = 0;
    for (int round = 0; round < 5000; round++) {
        const struct gguf_tensor t = random_tensor(&rng);
        const uint64_t from = rng_below(&rng, t.n_bytes);
        const uint64_t n = 1 + rng_below(&rng, t.n_bytes - from);
        const struct cell_span s = cell_span(&t, from, n);
        assert_true(s.first < s.end);
        const struct cell_range a = cell_range(&t, s.first);
        const struct cell_range z = cell_range(&t, s.end - 1);
        assert_true(a.from <= from && from < a.from + a.n);
        assert_true(z.from < from + n && from + n <= z.from + z.n);
        n_many += s.end - s.first > 2;
        /* a cell's own range is that cell, one byte more the next too */
        const struct cell_span same = cell_span(&t, a.from, a.n);
        assert_int_equal(same.first, s.first);
        assert_int_equal(same.end, s.first + 1);
        if (a.from + a.n < t.n_bytes) {
            assert_int_equal(cell_span(&t, a.from, a.n + 1).end, s.first + 2);
        }
    }
    assert_true(n_many > 1000);
}

/* ------------------------------------------------------------- list */

/* Matrices of several cells, down to one short one. */
static struct gen_model big(const char *what)
{
    struct gen_model m = strstr(what, "moe") || strcmp(what, "tied") == 0
                             ? rig_moe()
                             : rig_dense();
    m.n_layer = 3;
    m.n_ff = 2560;
    m.n_vocab = 5000;
    m.rope_factor = 4;
    if (m.n_expert) m.n_expert = 4;
    m.type[GEN_FFN] = QUANT_Q8_0; /* 680 KiB a plane */
    m.type[GEN_EMBD] = m.type[GEN_HEAD] = QUANT_Q8_0;
    m.type[GEN_FFN_DOWN] = QUANT_F32; /* 2.5 MiB a plane */
    m.tied = strcmp(what, "tied") == 0 || strcmp(what, "gemma2") == 0;
    if (strcmp(what, "gemma2") == 0) m.arch = GEN_GEMMA2;
    if (strcmp(what, "qwen3moe") == 0) m.arch = GEN_QWEN3MOE;
    m.bias = strcmp(what, "biases") == 0;
    return m;
}

static struct shard_spec random_spec(const struct model *m, struct rng *rng,
                                     struct shard_layer_spec *layers)
{
    struct shard_spec s = {.embed = rng_below(rng, 2), .layers = layers};
    for (uint32_t i = 0; i < m->n_layer; i++) {
        layers[i] = (struct shard_layer_spec){.block = rng_below(rng, 2)};
        if (m->n_expert) {
            const uint64_t some = rng_u64(rng); /* a quarter of them */
            layers[i].experts[0] =
                some & rng_u64(rng) & ((1u << m->n_expert) - 1);
        }
    }
    s.vocab_first = 256 * (uint32_t)rng_below(rng, m->n_vocab / 256);
    s.vocab_end = rng_below(rng, 2) ? m->n_vocab : s.vocab_first + 256;
    if (rng_below(rng, 3) == 0) s.vocab_first = 0;
    if (rng_below(rng, 3) == 0) s.vocab_end = s.vocab_first;
    return s;
}

/* Serves the file, and notes the cells it is asked for, in order. */
struct noting {
    const struct gguf *file, *header;
    struct cell_id *ids;
    uint32_t n;
    uint8_t *seen[64]; /* by tensor */
};

static enum status note(void *arg, uint32_t i, uint64_t from, void *dst,
                        size_t n, struct error *err)
{
    struct noting *x = arg;
    const struct gguf_tensor *t = gguf_tensor(x->header, i);
    const struct cell_span s = cell_span(t, from, n);
    assert_true(s.end > s.first && i < COUNT_OF(x->seen));
    for (uint32_t c = s.first; c < s.end; c++) {
        if (x->seen[i][c]) continue;
        x->seen[i][c] = 1;
        x->ids[x->n++] = (struct cell_id){i, c};
    }
    return gguf_read(x->file, gguf_tensor(x->file, i), from, dst, n, err);
}

static void check_list(struct noting *x, const struct model *m,
                       const struct shard_spec *spec)
{
    struct shard_options o = rig_options(m);
    struct shard *s = NULL;
    struct cell_list list;
    uint64_t bytes = 0;
    x->n = 0;
    for (uint32_t i = 0; i < gguf_n_tensors(x->header); i++) {
        memset(x->seen[i], 0, cell_grid(gguf_tensor(x->header, i)).n);
    }
    assert_ok(cell_list(&list, m, spec, &rig_err));
    assert_ok(shard_create(&s, m, spec, &o, &rig_err));
    shard_free(s);
    assert_int_equal(list.n, x->n);
    for (uint32_t i = 0; i < x->n; i++) {
        const struct cell_id a = list.ids[i], b = x->ids[i];
        if (a.tensor != b.tensor || a.cell != b.cell) {
            fail_msg("cell %u is %u of tensor %u, but read was %u of %u", i,
                     a.cell, a.tensor, b.cell, b.tensor);
        }
        bytes += cell_range(gguf_tensor(x->header, a.tensor), a.cell).n;
    }
    assert_int_equal(list.bytes, bytes);
    mem_free(list.ids);
}

static void test_list_is_what_is_read(void **state)
{
    (void)state;
    static const char *const kinds[] = {"dense",  "moe",      "tied",
                                        "gemma2", "qwen3moe", "biases"};
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        const struct gen_model gm = big(kinds[k]);
        struct rng rng = {50 + k};
        struct rig r;
        struct buf b;
        struct noting x = {0};
        struct gguf *g = NULL;
        struct model m;
        struct shard_spec spec;
        struct shard_layer_spec layers[3];
        rig_open(&r, &gm);
        buf_init(&b, 1 << 20);
        assert_ok(gguf_strip_header(r.gguf, &b, &rig_err));
        assert_ok(gguf_open_header(&g, b.data, b.len, note, &x, &rig_err));
        x.file = r.gguf;
        x.header = g;
        x.ids = mem_zalloc_array((size_t)cell_total(g), sizeof *x.ids);
        assert_non_null(x.ids);
        for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
            x.seen[i] = mem_zalloc(cell_grid(gguf_tensor(g, i)).n);
            assert_non_null(x.seen[i]);
        }
        assert_ok(model_describe(&m, g, &rig_err));
        assert_ok(shard_spec_whole(&spec, &m, &rig_err));
        check_list(&x, &m, &spec);
        assert_int_equal(x.n, cell_total(g)); /* all, each once */
        mem_free(spec.layers);
        for (int round = 0; round < 20; round++) {
            spec = random_spec(&m, &rng, layers);
            check_list(&x, &m, &spec);
        }
        model_fini(&m);
        gguf_close(g);
        for (size_t i = 0; i < COUNT_OF(x.seen); i++) mem_free(x.seen[i]);
        mem_free(x.ids);
        buf_fini(&b);
        rig_close(&r);
    }
}

/* Two experts of one tensor share no cell; a part of a plane is not all. */
static void test_experts_are_apart(void **state)
{
    (void)state;
    const struct gen_model gm = big("moe");
    struct rig r;
    struct cell_list one, two, both;
    struct shard_layer_spec layers[3] = {0};
    const struct shard_spec spec = {.layers = layers};
    rig_open(&r, &gm);
    layers[1].experts[0] = 1u << 2;
    assert_ok(cell_list(&one, &r.model, &spec, &rig_err));
    layers[1].experts[0] = 1u << 3;
    assert_ok(cell_list(&two, &r.model, &spec, &rig_err));
    layers[1].experts[0] = 3u << 2;
    assert_ok(cell_list(&both, &r.model, &spec, &rig_err));
    /* and the RoPE factors, which everybody has */
    const struct gguf_tensor *rope = r.model.rope_freqs;
    assert_int_equal(one.bytes + two.bytes, both.bytes + rope->n_bytes);
    assert_int_equal(one.n + two.n, both.n + 1);
    const struct model_matrix up = model_expert(&r.model, 1, 2, EXPERT_UP);
    const struct model_matrix down = model_expert(&r.model, 1, 2, EXPERT_DOWN);
    assert_int_equal(one.bytes,
                     rope->n_bytes +
                         2 * up.n_rows * quant_row_bytes(QUANT_Q8_0, up.k) +
                         down.n_rows * quant_row_bytes(QUANT_F32, down.k));
    mem_free(one.ids);
    mem_free(two.ids);
    mem_free(both.ids);
    rig_close(&r);
}

static void test_refusals(void **state)
{
    (void)state;
    const struct gen_model gm = big("moe");
    struct rig r;
    struct cell_list list = {0};
    struct shard_spec spec;
    rig_open(&r, &gm);
    assert_ok(shard_spec_whole(&spec, &r.model, &rig_err));
    spec.vocab_end++;
    assert_fails(cell_list(&list, &r.model, &spec, &rig_err), ST_INVALID,
                 "head rows 0 to 5001 of 5000");
    spec.vocab_end = 0;
    spec.vocab_first = 256;
    assert_fails(cell_list(&list, &r.model, &spec, &rig_err), ST_INVALID,
                 "head rows");
    spec.vocab_first = 0;
    const size_t before = mem_in_use();
    long n = 0;
    for (;; n++) {
        mem_fail_after(n);
        const enum status st = cell_list(&list, &r.model, &spec, &rig_err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_fails(st, ST_NO_MEMORY, "memory");
        assert_null(list.ids);
        assert_int_equal(mem_in_use(), before);
    }
    assert_int_equal(n, 3);
    mem_free(list.ids);
    mem_free(spec.layers);
    rig_close(&r);
}

/* ----------------------------------------------------------- source */

struct serving {
    const struct gguf *g;
    uint32_t n; /* cells given */
    uint32_t fail_at;
};

static enum status serve(void *arg, struct cell_id id, void *dst, size_t n,
                         struct error *err)
{
    struct serving *s = arg;
    const struct gguf_tensor *t = gguf_tensor(s->g, id.tensor);
    const struct cell_range r = cell_range(t, id.cell);
    assert_int_equal(r.n, n);
    if (s->n++ == s->fail_at) return error_set(err, ST_IO, "gone");
    return gguf_read(s->g, t, r.from, dst, n, err);
}

/* Any range of any tensor, out of cells: the file's bytes, and not one more. */
static void test_source(void **state)
{
    (void)state;
    const struct gen_model gm = big("moe");
    struct rng rng = {8};
    struct rig r;
    rig_open(&r, &gm);
    struct serving s = {.g = r.gguf, .fail_at = UINT32_MAX};
    struct cell_source source = {r.gguf, serve, &s};
    const size_t before = mem_in_use();
    for (int round = 0; round < 300; round++) {
        const uint32_t i = (uint32_t)rng_below(&rng, gguf_n_tensors(r.gguf));
        const struct gguf_tensor *t = gguf_tensor(r.gguf, i);
        const uint64_t from = rng_below(&rng, t->n_bytes);
        const size_t n =
            1 + (size_t)rng_below(&rng, round % 2 && t->n_bytes - from > 5000
                                            ? 5000
                                            : t->n_bytes - from);
        char *want = mem_alloc(n), *got = mem_alloc(n + 1);
        assert_non_null(want);
        assert_non_null(got);
        got[n] = 'x';
        assert_ok(gguf_read(r.gguf, t, from, want, n, &rig_err));
        s.n = 0;
        assert_ok(cell_source_read(&source, i, from, got, n, &rig_err));
        assert_memory_equal(got, want, n);
        assert_int_equal(got[n], 'x');
        const struct cell_span span = cell_span(t, from, n);
        assert_int_equal(s.n, span.end - span.first);
        s.n = 0;
        s.fail_at = (uint32_t)rng_below(&rng, span.end - span.first);
        assert_fails(cell_source_read(&source, i, from, got, n, &rig_err),
                     ST_IO, "gone");
        assert_int_equal(s.n, s.fail_at + 1);
        s.fail_at = UINT32_MAX;
        mem_free(want);
        mem_free(got);
    }
    char byte;
    mem_fail_after(0);
    const enum status st = cell_source_read(&source, 0, 1, &byte, 1, &rig_err);
    mem_fail_after(-1);
    assert_fails(st, ST_NO_MEMORY, "tensor");
    assert_int_equal(mem_in_use(), before);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_grids),
        cmocka_unit_test(test_every_byte_once),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_list_is_what_is_read),
        cmocka_unit_test(test_experts_are_apart),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_attention.c - attention over the cache against the textbook softmax in
 * f64; RoPE against libm. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "engine/attention.h"
#include "tests/lib/engine_rig.h"

#define CTX      704
#define HEADS_KV 2
#define U        0x1p-24 /* of an f32 rounding */

static const uint32_t positions[] = {0,   1,   7,   30,  31,  32,  33,
                                     63,  64,  100, 254, 255, 256, 257,
                                     288, 511, 512, 543, 640, 699};

/* A shard with nothing but a cache: one layer (of two), a sequence of n. */
struct bench {
    struct shard s;
    char *scratch, *space;
    uint32_t dim, n, window;
    float *k, *v; /* [n][HEADS_KV][dim], as stored */
};

/* 32 values as a q8_0 cache gives them back: by the definition, in double. */
static void through_q8_0(float *x)
{
    float top = 0;
    for (int i = 0; i < 32; i++) top = fmaxf(top, fabsf(x[i]));
    const double d = (double)f16_to_f32(f32_to_f16((float)((double)top / 127)));
    for (int i = 0; i < 32; i++) {
        const double q = rint((double)x[i] * (double)(127.0f / top));
        x[i] = (float)(q * d);
    }
}

/* 32 values of a query as such a cache's keys meet them: scale in f32. */
static void through_act(float *x)
{
    float top = 0;
    for (int i = 0; i < 32; i++) top = fmaxf(top, fabsf(x[i]));
    for (int i = 0; i < 32; i++) {
        x[i] = rintf(x[i] * (127.0f / top)) * (top / 127.0f);
    }
}

static void open_bench(struct bench *b, uint32_t dim, uint32_t group,
                       enum kv_type type, uint32_t n, uint32_t n_threads,
                       uint64_t seed)
{
    *b = (struct bench){.dim = dim, .n = n};
    b->s.model.n_head_kv = HEADS_KV;
    b->s.model.n_head = HEADS_KV * group;
    b->s.model.head_dim = dim;
    b->s.model.query_scale = 1.0f / sqrtf((float)dim);
    b->s.options.kv_type = type;
    b->s.vec = vec_ops_select(ISA_REF);
    assert_ok(pool_create(&b->s.pool, n_threads, &rig_err));
    const struct kv_shape shape = {.n_layers = 2,
                                   .n_head_kv = HEADS_KV,
                                   .head_dim = dim,
                                   .type = type,
                                   .n_pages = 2 * CTX / KV_PAGE,
                                   .n_seq_max = 8,
                                   .n_ctx = CTX};
    assert_ok(kv_create(&b->s.kv, &shape, &rig_err));
    b->s.options.n_threads = n_threads;
    b->s.options.n_ctx = CTX;
    b->s.options.rows_max = COUNT_OF(positions) + 1;
    b->scratch = mem_alloc(n_threads * (size_t)KERNEL_SCRATCH);
    b->space = mem_alloc(attention_bytes(&b->s.model, &b->s.options));
    const size_t values = (size_t)n * HEADS_KV * dim;
    b->k = mem_alloc(values * sizeof *b->k);
    b->v = mem_alloc(values * sizeof *b->v);
    assert_true(b->scratch && b->space && b->k && b->v);
    struct rng rng = {seed};
    for (size_t i = 0; i < values; i++) {
        b->k[i] = 2 * rig_uniform(&rng);
        b->v[i] = rig_uniform(&rng) + 0.5f;
        if (type == KV_F16) {
            b->k[i] = f16_to_f32(f32_to_f16(b->k[i]));
            b->v[i] = f16_to_f32(f32_to_f16(b->v[i]));
        }
    }
    for (size_t i = 0; type == KV_Q8_0 && i < values; i += 32) {
        /* so that storing them changes them little more */
        through_q8_0(b->k + i);
        through_q8_0(b->v + i);
    }
}

static void close_bench(struct bench *b)
{
    kv_free(b->s.kv);
    pool_free(b->s.pool);
    mem_free(b->scratch);
    mem_free(b->space);
    mem_free(b->k);
    mem_free(b->v);
}

static void run(struct bench *b, const struct attention_row *rows,
                uint32_t n_rows, const float *q, float *out)
{
    const struct attention_job job = {.kv_layer = 1,
                                      .window = b->window,
                                      .rows = rows,
                                      .n_rows = n_rows,
                                      .q = q,
                                      .out = out,
                                      .scratch = b->scratch,
                                      .space = b->space};
    attention_run(&b->s, &job);
}

/* Positions 0..n of the data under this id, in layer 1. */
static void fill(struct bench *b, uint64_t seq)
{
    assert_ok(kv_extend(b->s.kv, seq, 0, b->n, &rig_err));
    const uint32_t handle = kv_find(b->s.kv, seq);
    for (uint32_t p = 0; p < b->n; p++) {
        const size_t at = (size_t)p * HEADS_KV * b->dim;
        kv_store(b->s.kv, b->s.vec, handle, 1, p, b->k + at, b->v + at);
    }
}

/* Errors of the computed scores shift the exponents by delta; the sums add
 * n + 32 roundings to w and w * v alike; a weight passes nm_exp (2 ulp) once
 * itself and, rescaled, once a block of its partial and once a merge: at most
 * 8 + 3 times. */
static void check_head(const struct bench *b, const float *q, uint32_t kv_head,
                       uint32_t pos, const float *out)
{
    double s[CTX], m = -INFINITY, delta = 0, l = 0;
    const double scale = (double)b->s.model.query_scale;
    const double cap = (double)b->s.model.attn_softcap;
    const uint32_t first =
        b->window && pos >= b->window ? pos - b->window + 1 : 0;
    for (uint32_t t = first; t <= pos; t++) {
        const float *k = b->k + ((size_t)t * HEADS_KV + kv_head) * b->dim;
        double mass = 0;
        s[t] = 0;
        for (uint32_t d = 0; d < b->dim; d++) {
            s[t] += (double)q[d] * (double)k[d];
            mass += fabs((double)q[d] * (double)k[d]);
        }
        s[t] *= scale;
        if (cap > 0) s[t] = cap * tanh(s[t] / cap);
        m = s[t] > m ? s[t] : m;
        const double e = (b->dim / 8 + 8) * U * mass * scale;
        delta = e > delta ? e : delta;
        /* soft-capping: 2^-21 of the score, see test_numerics */
        if (cap > 0) delta += 8 * U * fabs(s[t]);
    }
    for (uint32_t t = first; t <= pos; t++) {
        delta = U * fabs(s[t] - m) > delta ? U * fabs(s[t] - m) : delta;
        l += exp(s[t] - m);
    }
    const double relative =
        4 * delta + 2 * 12 * 0x1p-22 + 2 * (pos + 33 + 12) * U;
    for (uint32_t d = 0; d < b->dim; d++) {
        double o = 0, mass = 0;
        for (uint32_t t = first; t <= pos; t++) {
            const double v =
                (double)b->v[((size_t)t * HEADS_KV + kv_head) * b->dim + d];
            o += exp(s[t] - m) * v / l;
            mass += exp(s[t] - m) * fabs(v) / l;
        }
        if (!(fabs((double)out[d] - o) <= relative * mass)) {
            fail_msg("dim %u pos %u element %u: %a, wanted %a within %g",
                     b->dim, pos, d, (double)out[d], o, relative * mass);
        }
    }
}

/* A row at each position up to the sequence's length; returns how many. */
static uint32_t make_rows(const struct bench *b, uint32_t handle,
                          struct attention_row *rows)
{
    uint32_t n = 0;
    for (size_t i = 0; i < COUNT_OF(positions); i++) {
        if (positions[i] >= b->n) continue;
        rows[n++] = (struct attention_row){handle, positions[i]};
    }
    return n;
}

static void check_window(uint32_t dim, uint32_t group, enum kv_type type,
                         uint32_t n, uint32_t window, float cap)
{
    struct bench b;
    open_bench(&b, dim, group, type, n, 1, dim + group);
    b.window = window;
    b.s.model.attn_softcap = cap;
    fill(&b, 7);
    struct attention_row rows[COUNT_OF(positions) + 1];
    uint32_t n_rows = make_rows(&b, kv_find(b.s.kv, 7), rows);
    rows[n_rows++] = (struct attention_row){UINT32_MAX, 3};
    const size_t width = (size_t)b.s.model.n_head * dim;
    float *q = mem_alloc(n_rows * width * sizeof *q);
    float *out = mem_alloc(n_rows * width * sizeof *out);
    float *other = mem_alloc(n_rows * width * sizeof *other);
    assert_true(q && out && other);
    struct rng rng = {99};
    for (size_t i = 0; i < n_rows * width; i++) q[i] = 2 * rig_uniform(&rng);
    memset(out, 0xff, n_rows * width * sizeof *out);
    run(&b, rows, n_rows, q, out);
    memcpy(other, q, n_rows * width * sizeof *q);
    for (size_t i = 0; type == KV_Q8_0 && i < n_rows * width; i += 32) {
        through_act(other + i);
    }
    for (uint32_t r = 0; r + 1 < n_rows; r++) {
        for (uint32_t h = 0; h < b.s.model.n_head; h++) {
            const size_t at = r * width + (size_t)h * dim;
            check_head(&b, other + at, h / group, rows[r].pos, out + at);
        }
    }
    for (size_t i = 0; i < width; i++) { /* no sequence: zeros */
        assert_true(out[(n_rows - 1) * width + i] == 0);
    }
    for (enum isa isa = ISA_REF; isa <= cpu_isa(); isa++) {
        if (!cpu_runs(isa)) continue;
        b.s.vec = vec_ops_select(isa);
        memset(other, 0xff, n_rows * width * sizeof *other);
        run(&b, rows, n_rows, q, other);
        rig_assert_same(other, out, n_rows * width, isa_name(isa));
    }
    mem_free(q);
    mem_free(out);
    mem_free(other);
    close_bench(&b);
}

static void check_shape(uint32_t dim, uint32_t group, enum kv_type type,
                        uint32_t n)
{
    check_window(dim, group, type, n, 0, 0);
}

static void test_windows(void **state)
{
    (void)state;
    static const uint32_t windows[] = {1,   2,   31,  32,  33,  100,
                                       255, 256, 257, 480, 699, 700};
    for (size_t i = 0; i < COUNT_OF(windows); i++) {
        check_window(32, 2, i % 2 ? KV_F16 : KV_F32, 700, windows[i], 0);
    }
    check_window(64, 4, KV_F16, 700, 40, 50);
    check_window(256, 2, KV_F32, 300, 130, 0.5f);
    check_window(64, 1, KV_F32, 300, 0, 2);
}

static void test_textbook_f32(void **state)
{
    (void)state;
    static const uint32_t dims[] = {32, 64, 96, 128, 256};
    for (size_t i = 0; i < COUNT_OF(dims); i++) {
        check_shape(dims[i], 1, KV_F32, 700);
        check_shape(dims[i], 4, KV_F32, dims[i] == 64 ? 700 : 300);
        check_shape(dims[i], 8, KV_F32, 65);
    }
    check_shape(32, 48, KV_F32, 290);
    check_shape(256, 48, KV_F32, 34);
}

static void test_textbook_f16(void **state)
{
    (void)state;
    check_shape(32, 8, KV_F16, 290);
    check_shape(64, 4, KV_F16, 700);
    check_shape(96, 1, KV_F16, 700);
    check_shape(128, 1, KV_F16, 700);
    check_shape(128, 48, KV_F16, 65);
    check_shape(256, 1, KV_F16, 300);
}

static void test_textbook_q8_0(void **state)
{
    (void)state;
    check_shape(32, 8, KV_Q8_0, 290);
    check_shape(64, 4, KV_Q8_0, 700);
    check_shape(96, 1, KV_Q8_0, 700);
    check_shape(128, 48, KV_Q8_0, 65);
    check_shape(256, 1, KV_Q8_0, 300);
}

/* The same sequence in pages that lie in order, in pages that others have
 * used and freed out of order, and in a fork's; alone and among other rows;
 * on one thread and on three. */
static void same_bits(enum kv_type type)
{
    enum { DIM = 64, GROUP = 4, N = 600 };
    struct bench b;
    struct attention_row rows[COUNT_OF(positions)];
    const size_t width = HEADS_KV * GROUP * DIM;
    float *q = mem_alloc(COUNT_OF(positions) * width * sizeof *q);
    float *want = mem_alloc(COUNT_OF(positions) * width * sizeof *want);
    float *got = mem_alloc(COUNT_OF(positions) * width * sizeof *got);
    assert_true(q && want && got);
    struct rng rng = {5};
    for (size_t i = 0; i < COUNT_OF(positions) * width; i++) {
        q[i] = 2 * rig_uniform(&rng);
    }
    for (uint32_t variant = 0; variant < 8; variant++) {
        open_bench(&b, DIM, GROUP, type, N, variant % 2 ? 3 : 1, 17);
        for (uint64_t s = 100; s < 106 && variant >= 2; s++) {
            assert_ok(kv_extend(b.s.kv, s, 0, 200, &rig_err));
        }
        for (uint64_t s = 0; s < 6 && variant >= 2; s++) {
            const struct kv_op op = {.kind = KV_OP_FREE,
                                     .seq = 100 + (s * variant + 1) % 6};
            assert_ok(kv_apply(b.s.kv, &op, &rig_err));
        }
        for (uint64_t s = 100; s < 106; s++) {
            const struct kv_op op = {.kind = KV_OP_FREE, .seq = s};
            assert_ok(kv_apply(b.s.kv, &op, &rig_err));
        }
        fill(&b, 7);
        uint64_t seq = 7;
        if (variant >= 6) {
            const struct kv_op fork = {KV_OP_FORK, 8, 7, N};
            assert_ok(kv_apply(b.s.kv, &fork, &rig_err));
            seq = 8;
        }
        const uint32_t n = make_rows(&b, kv_find(b.s.kv, seq), rows);
        if (variant < 4) {
            run(&b, rows, n, q, variant ? got : want);
        } else {
            for (uint32_t r = n; r-- > 0;) { /* one by one, backwards */
                run(&b, rows + r, 1, q + r * width, got + r * width);
            }
        }
        if (variant) rig_assert_same(got, want, n * width, "page order");
        close_bench(&b);
    }
    mem_free(q);
    mem_free(want);
    mem_free(got);
}

static void test_same_bits(void **state)
{
    (void)state;
    same_bits(KV_F32);
    same_bits(KV_F16);
    same_bits(KV_Q8_0);
}

/* One row each of sequences of several lengths, on threads enough that their
 * tiles are cut into partials, and more partials than are kept at once: as
 * each alone on one thread. */
static void check_cut(uint32_t group, uint32_t window, enum kv_type type)
{
    enum { DIM = 64, N = 700, ROWS = 4 };
    static const uint32_t at[ROWS] = {699, 40, 511, 256};
    struct bench b[2];
    const size_t width = HEADS_KV * (size_t)group * DIM;
    float *q = mem_alloc(ROWS * width * sizeof *q);
    float *want = mem_alloc(ROWS * width * sizeof *want);
    float *got = mem_alloc(ROWS * width * sizeof *got);
    assert_true(q && want && got);
    struct rng rng = {6};
    for (size_t i = 0; i < ROWS * width; i++) q[i] = 2 * rig_uniform(&rng);
    for (int cut = 0; cut < 2; cut++) {
        open_bench(&b[cut], DIM, group, type, N, cut ? 8 : 1, 23);
        b[cut].window = window;
        fill(&b[cut], 7);
        struct attention_row rows[ROWS];
        for (uint32_t r = 0; r < ROWS; r++) {
            const struct kv_op fork = {KV_OP_FORK, 20 + r, 7, at[r] + 1};
            assert_ok(kv_apply(b[cut].s.kv, &fork, &rig_err));
        }
        for (uint32_t r = 0; r < ROWS; r++) {
            rows[r] =
                (struct attention_row){kv_find(b[cut].s.kv, 20 + r), at[r]};
            if (!cut) run(&b[0], rows + r, 1, q + r * width, want + r * width);
        }
        if (cut) {
            run(&b[1], rows, ROWS, q, got);
            rig_assert_same(got, want, ROWS * width, "cut");
            /* a context of two partials keeps no more of them */
            b[1].s.options.n_ctx = 512;
            memset(got, 0xff, ROWS * width * sizeof *got);
            run(&b[1], rows, ROWS, q, got);
            rig_assert_same(got, want, ROWS * width, "cut in rounds");
        }
        close_bench(&b[cut]);
    }
    mem_free(q);
    mem_free(want);
    mem_free(got);
}

static void test_cut(void **state)
{
    (void)state;
    check_cut(4, 0, KV_F16);
    check_cut(1, 0, KV_F32);
    check_cut(2, 300, KV_Q8_0);
    check_cut(2, 100, KV_F32);
}

/* halves: pairs (i, i + n / 2); size: YaRN's factor. */
static void check_rope(bool halves, double size)
{
    static const uint32_t at[] = {0, 1, 2, 31, 1000, 4095, 131071, 1048575};
    enum { DIM = 128, ROT = 96, HEADS = 3 };
    const struct model m = {.head_dim = DIM,
                            .n_rot = ROT,
                            .rope = {.halves = halves, .magnitude = size}};
    double freq[ROT / 2];
    for (uint32_t i = 0; i < ROT / 2; i++) {
        freq[i] = pow(500000.0, -2.0 * i / ROT) / (i > 20 ? 8 : 1);
    }
    struct rng rng = {8};
    for (size_t p = 0; p < COUNT_OF(at); p++) {
        float table[ROT], x[HEADS * DIM], before[HEADS * DIM];
        rope_table(&m, freq, at[p], table);
        for (uint32_t i = 0; i < HEADS * DIM; i++) {
            before[i] = x[i] = rig_normal(&rng);
        }
        rope_apply(&m, vec_ops_ref(), x, HEADS, table);
        for (uint32_t h = 0; h < HEADS; h++) {
            for (uint32_t d = 0; d < DIM; d++) {
                const float *was = before + (size_t)h * DIM;
                const float is = x[h * DIM + d];
                if (d >= ROT) { /* the rest of a head stays */
                    assert_true(is == was[d]);
                    continue;
                }
                const uint32_t pair = halves ? d % (ROT / 2) : d / 2;
                const bool second = halves ? d >= ROT / 2 : d % 2;
                const double angle = (double)at[p] * freq[pair];
                const double c = size * cos(angle), s = size * sin(angle);
                assert_true(fabs((double)table[2 * pair + second] -
                                 (second ? s : c)) <= size * U + 0x1p-40);
                const double a = (double)was[halves ? pair : 2 * pair];
                const double b =
                    (double)was[halves ? pair + ROT / 2 : 2 * pair + 1];
                const double want = second ? a * s + b * c : a * c - b * s;
                assert_true(fabs((double)is - want) <=
                            4 * size * U * (fabs(a) + fabs(b)));
            }
        }
    }
}

static void test_rope(void **state)
{
    (void)state;
    check_rope(false, 1);
    check_rope(true, 1);
    check_rope(true, 1.2079);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_textbook_f32),
        cmocka_unit_test(test_textbook_f16),
        cmocka_unit_test(test_textbook_q8_0),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_rope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

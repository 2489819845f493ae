/* test_kv.c - the paged cache against a model that keeps whole copies.
 *
 * In the model a position is a number drawn when it was stored, from which
 * its keys and values follow, and a page is a number too: sharing, copies and
 * the count of pages in use are predicted without looking at the cache. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "engine/kv.h"
#include "tests/lib/engine_rig.h"

#define LAYERS  3
#define HEADS   2
#define DIM     32
#define PAGES   14
#define SEQS    5
#define CTX     150
#define IDS     7
#define MAX_PGS ((CTX + KV_PAGE - 1) / KV_PAGE)

struct naive {
    bool used;
    uint32_t n;
    uint64_t stamp[CTX];
    uint64_t page[MAX_PGS];
};

/* Ids differ in the upper half, in the lower, and are extreme. */
static const uint64_t ids[IDS] = {
    0,          1,          UINT64_C(1) << 32, (UINT64_C(1) << 32) + 1,
    UINT64_MAX, UINT32_MAX, UINT64_MAX - 1};

static struct naive model[IDS];
static uint64_t next_stamp, next_page;
static struct rng rng;

static struct kv_shape shape_of(enum kv_type type)
{
    return (struct kv_shape){.n_layers = LAYERS,
                             .n_head_kv = HEADS,
                             .head_dim = DIM,
                             .type = type,
                             .n_pages = PAGES,
                             .n_seq_max = SEQS,
                             .n_ctx = CTX};
}

static struct kv *new_kv(enum kv_type type)
{
    const struct kv_shape shape = shape_of(type);
    struct kv *kv = NULL;
    assert_ok(kv_create(&kv, &shape, &rig_err));
    memset(model, 0, sizeof model);
    return kv;
}

/* Element d of a head; plane 0: keys. */
static float value(uint64_t stamp, uint32_t layer, uint32_t plane,
                   uint32_t head, uint32_t d)
{
    const uint64_t lane = ((layer * 2 + plane) * HEADS + head) * DIM + d;
    return (float)(100.0 * rng_unit(rng_at(stamp, 1, lane)) - 50.0);
}

static void store(struct kv *kv, uint64_t id, uint32_t pos, uint64_t stamp)
{
    float k[HEADS][DIM], v[HEADS][DIM];
    for (uint32_t l = 0; l < LAYERS; l++) {
        for (uint32_t h = 0; h < HEADS; h++) {
            for (uint32_t d = 0; d < DIM; d++) {
                k[h][d] = value(stamp, l, 0, h, d);
                v[h][d] = value(stamp, l, 1, h, d);
            }
        }
        kv_store(kv, vec_ops_ref(), kv_find(kv, id), l, pos, k[0], v[0]);
    }
}

/* A row of one block: docs/NUMERICS.md 3, its scale as f16. */
static bool block_is(const struct block_q8_0 *b, const float want[DIM])
{
    float top = 0;
    for (int d = 0; d < DIM; d++) top = fmaxf(top, fabsf(want[d]));
    if (b->d != f32_to_f16(top / 127.0f)) return false;
    for (int d = 0; d < DIM; d++) {
        if (b->qs[d] != (int)rintf(want[d] * (127.0f / top))) return false;
    }
    return true;
}

static bool row_is(const void *head_page, uint32_t pos, enum kv_type type,
                   uint64_t stamp, uint32_t layer, uint32_t plane,
                   uint32_t head)
{
    if (type == KV_Q8_0) {
        float want[DIM];
        for (uint32_t d = 0; d < DIM; d++) {
            want[d] = value(stamp, layer, plane, head, d);
        }
        return block_is((const struct block_q8_0 *)head_page + pos % KV_PAGE,
                        want);
    }
    for (uint32_t d = 0; d < DIM; d++) {
        const size_t at = (size_t)(pos % KV_PAGE) * DIM + d;
        const float want = value(stamp, layer, plane, head, d);
        if (type == KV_F32) {
            if (((const float *)head_page)[at] != want) return false;
        } else if (((const uint16_t *)head_page)[at] != f32_to_f16(want)) {
            return false;
        }
    }
    return true;
}

static void check_contents(const struct kv *kv, enum kv_type type, uint32_t s)
{
    const struct naive *m = &model[s];
    const uint32_t handle = kv_find(kv, ids[s]);
    for (uint32_t pos = 0; pos < m->n; pos++) {
        for (uint32_t i = 0; i < LAYERS * HEADS; i++) {
            const uint32_t l = i / HEADS, h = i % HEADS;
            if (!row_is(kv_k(kv, handle, l, h, pos), pos, type, m->stamp[pos],
                        l, 0, h) ||
                !row_is(kv_v(kv, handle, l, h, pos), pos, type, m->stamp[pos],
                        l, 1, h)) {
                fail_msg("sequence %u position %u layer %u head %u", s, pos, l,
                         h);
            }
        }
    }
}

/* Pages of the model in use, each counted once. */
static uint32_t naive_pages(void)
{
    uint64_t seen[IDS * MAX_PGS];
    uint32_t n = 0;
    for (uint32_t s = 0; s < IDS; s++) {
        for (uint32_t p = 0; model[s].used && p < kv_pages(model[s].n); p++) {
            uint32_t i = 0;
            while (i < n && seen[i] != model[s].page[p]) i++;
            if (i == n) seen[n++] = model[s].page[p];
        }
    }
    return n;
}

/* Sequences share memory exactly where the model shares a page. */
static void check_sharing(const struct kv *kv)
{
    for (uint32_t a = 0; a < IDS; a++) {
        for (uint32_t b = a + 1; b < IDS; b++) {
            if (!model[a].used || !model[b].used) continue;
            const uint32_t n =
                model[a].n < model[b].n ? model[a].n : model[b].n;
            for (uint32_t p = 0; p < kv_pages(n); p++) {
                const void *at_a =
                    kv_k(kv, kv_find(kv, ids[a]), 0, 0, p * KV_PAGE);
                const void *at_b =
                    kv_k(kv, kv_find(kv, ids[b]), 0, 0, p * KV_PAGE);
                assert_int_equal(at_a == at_b,
                                 model[a].page[p] == model[b].page[p]);
            }
        }
    }
}

static void check_all(const struct kv *kv, enum kv_type type, bool contents)
{
    uint32_t n = 0;
    assert_true(kv_check(kv));
    for (uint32_t s = 0; s < IDS; s++) {
        assert_int_equal(kv_length(kv, ids[s]), model[s].n);
        assert_int_equal(kv_find(kv, ids[s]) != UINT32_MAX, model[s].used);
        n += model[s].used;
        if (contents) check_contents(kv, type, s);
    }
    assert_int_equal(kv_n_sequences(kv), n);
    assert_int_equal(kv_free_pages(kv), PAGES - naive_pages());
    check_sharing(kv);
}

static uint32_t naive_sequences(void)
{
    uint32_t n = 0;
    for (uint32_t s = 0; s < IDS; s++) n += model[s].used;
    return n;
}

static bool shared_elsewhere(uint32_t s, uint64_t page)
{
    for (uint32_t o = 0; o < IDS; o++) {
        for (uint32_t p = 0;
             o != s && model[o].used && p < kv_pages(model[o].n); p++) {
            if (model[o].page[p] == page) return true;
        }
    }
    return false;
}

/* What kv_extend is to do; done to the model if it is ST_OK. */
static enum status naive_extend(uint32_t s, uint32_t first, uint32_t n)
{
    struct naive *m = &model[s];
    if (n == 0 || first != m->n || n > CTX - m->n) return ST_INVALID;
    if (!m->used && naive_sequences() == SEQS) return ST_FULL;
    const uint32_t have = kv_pages(m->n), want = kv_pages(m->n + n);
    const bool copy =
        m->n % KV_PAGE != 0 && shared_elsewhere(s, m->page[have - 1]);
    if (want - have + copy > PAGES - naive_pages()) return ST_FULL;
    if (copy) m->page[have - 1] = ++next_page;
    for (uint32_t p = have; p < want; p++) m->page[p] = ++next_page;
    m->used = true;
    m->n += n;
    return ST_OK;
}

static void random_extend(struct kv *kv)
{
    const uint32_t s = (uint32_t)rng_below(&rng, IDS);
    const uint32_t n = (uint32_t)rng_below(&rng, rng_below(&rng, 8) ? 20 : 160);
    const uint32_t first =
        rng_below(&rng, 10) ? model[s].n : (uint32_t)rng_below(&rng, CTX + 10);
    const struct naive before = model[s];
    const enum status want = naive_extend(s, first, n);
    assert_int_equal(kv_extend(kv, ids[s], first, n, &rig_err), want);
    if (want != ST_OK) return;
    if (rng_below(&rng, 6) == 0) {
        /* the model's own way back is a copy */
        kv_retract(kv, ids[s], first);
        model[s] = before;
        return;
    }
    for (uint32_t pos = first; pos < first + n; pos++) {
        model[s].stamp[pos] = ++next_stamp;
        store(kv, ids[s], pos, next_stamp);
    }
}

static void random_truncate(struct kv *kv)
{
    const uint32_t s = (uint32_t)rng_below(&rng, IDS);
    struct naive *m = &model[s];
    const uint32_t n = (uint32_t)rng_below(&rng, m->n + 2);
    const struct kv_op op = {KV_OP_TRUNCATE, ids[s], 0, n};
    enum status want = ST_OK;
    if (!m->used)
        want = ST_NOT_FOUND;
    else if (n > m->n)
        want = ST_INVALID;
    else
        m->n = n;
    assert_int_equal(kv_apply(kv, &op, &rig_err), want);
}

static void random_fork(struct kv *kv)
{
    const uint32_t s = (uint32_t)rng_below(&rng, IDS);
    const uint32_t from = (uint32_t)rng_below(&rng, IDS);
    struct naive *m = &model[s];
    const uint32_t n = (uint32_t)rng_below(&rng, model[from].n + 2);
    const struct kv_op op = {KV_OP_FORK, ids[s], ids[from], n};
    enum status want = ST_OK;
    if (!model[from].used) {
        want = ST_NOT_FOUND;
    } else if (m->used || n == 0 || n > model[from].n) {
        want = ST_INVALID;
    } else if (naive_sequences() == SEQS) {
        want = ST_FULL;
    } else {
        *m = model[from];
        m->n = n;
    }
    assert_int_equal(kv_apply(kv, &op, &rig_err), want);
}

static void random_free(struct kv *kv)
{
    const uint32_t s = (uint32_t)rng_below(&rng, IDS);
    const struct kv_op op = {.kind = KV_OP_FREE, .seq = ids[s]};
    assert_int_equal(kv_apply(kv, &op, &rig_err), ST_OK);
    model[s].used = false;
    model[s].n = 0;
}

static void random_operations(enum kv_type type, uint64_t seed)
{
    const size_t before = mem_in_use();
    struct kv *kv = new_kv(type);
    rng.state = seed;
    uint32_t full = 0;
    for (uint32_t i = 0; i < 6000; i++) {
        const uint64_t what = rng_below(&rng, 12);
        if (what < 6)
            random_extend(kv);
        else if (what < 8)
            random_truncate(kv);
        else if (what < 11)
            random_fork(kv);
        else
            random_free(kv);
        check_all(kv, type, i % 16 == 0);
        full += kv_free_pages(kv) == 0;
    }
    assert_true(full > 10); /* the pool did run out */
    kv_free(kv);
    assert_int_equal(mem_in_use(), before);
}

static void test_random_operations_f32(void **state)
{
    (void)state;
    random_operations(KV_F32, 1);
}

static void test_random_operations_f16(void **state)
{
    (void)state;
    random_operations(KV_F16, 2);
}

static void test_random_operations_q8_0(void **state)
{
    (void)state;
    random_operations(KV_Q8_0, 3);
}

/* Half a block is no block; a number that is none stays none. */
static void test_q8_0_limits(void **state)
{
    (void)state;
    struct kv_shape shape = shape_of(KV_Q8_0);
    shape.head_dim = 48;
    struct kv *kv = NULL;
    assert_int_equal(kv_create(&kv, &shape, &rig_err), ST_USAGE);
    assert_non_null(strstr(rig_err.text, "heads have 48"));
    assert_null(kv);
    assert_ok(kv_type_check(KV_F16, 48, &rig_err));
    assert_ok(kv_type_check(KV_Q8_0, 96, &rig_err));

    kv = new_kv(KV_Q8_0);
    assert_ok(kv_extend(kv, 1, 0, 1, &rig_err));
    float k[HEADS][DIM] = {{0}}, v[HEADS][DIM] = {{0}};
    k[0][7] = NAN;
    v[1][3] = INFINITY;
    kv_store(kv, vec_ops_ref(), kv_find(kv, 1), 0, 0, k[0], v[0]);
    const struct block_q8_0 *b = kv_k(kv, kv_find(kv, 1), 0, 0, 0);
    assert_true(isnan(f16_to_f32(b->d)));
    b = kv_k(kv, kv_find(kv, 1), 0, 1, 0);
    assert_true(b->d == 0 && b->qs[0] == 0);
    b = kv_v(kv, kv_find(kv, 1), 0, 1, 0);
    assert_true(isnan(f16_to_f32(b->d)));
    kv_free(kv);
}

/* Many rows of several sequences begun, then all taken back in reverse. */
static void test_retract(void **state)
{
    (void)state;
    struct kv *kv = new_kv(KV_F32);
    rng.state = 3;
    for (uint32_t round = 0; round < 300; round++) {
        for (uint32_t i = 0; i < 5; i++) {
            random_fork(kv);
            random_extend(kv);
            random_truncate(kv);
        }
        if (round % 5 == 0) random_free(kv);
        struct naive before[IDS];
        memcpy(before, model, sizeof before);
        uint32_t row_seq[60], row_pos[60], n = 0;
        for (uint32_t i = 0; i < 60; i++) {
            const uint32_t s = (uint32_t)rng_below(&rng, IDS);
            const uint32_t pos = model[s].n;
            const enum status want = naive_extend(s, pos, 1);
            assert_int_equal(kv_extend(kv, ids[s], pos, 1, &rig_err), want);
            if (want != ST_OK) break;
            row_seq[n] = s;
            row_pos[n++] = pos;
        }
        check_all(kv, KV_F32, false);
        while (n-- > 0) kv_retract(kv, ids[row_seq[n]], row_pos[n]);
        memcpy(model, before, sizeof model);
        check_all(kv, KV_F32, true);
    }
    kv_free(kv);
}

static void test_bytes(void **state)
{
    (void)state;
    for (enum kv_type type = KV_F32; type < KV_TYPE_END; type++) {
        static const uint32_t row[] = {4 * DIM, 2 * DIM, DIM / 32 * 34};
        const struct kv_shape shape = shape_of(type);
        const size_t before = mem_in_use();
        struct kv *kv = new_kv(type);
        assert_int_equal(mem_in_use() - before, kv_bytes(&shape));
        assert_int_equal(kv_page_bytes(&shape),
                         2 * LAYERS * HEADS * KV_PAGE * row[type]);
        kv_free(kv);
    }
    struct kv_shape huge = shape_of(KV_F32);
    huge.n_layers = 1024;
    huge.n_head_kv = 1024;
    huge.head_dim = 256;
    huge.n_pages = UINT32_MAX;
    assert_true(kv_bytes(&huge) == UINT64_MAX);
    assert_int_equal(kv_pages(0), 0);
    assert_int_equal(kv_pages(1), 1);
    assert_int_equal(kv_pages(32), 1);
    assert_int_equal(kv_pages(33), 2);
    assert_int_equal(kv_pages(UINT32_MAX), 1u << 27);
}

static void test_failed_allocations(void **state)
{
    (void)state;
    const struct kv_shape shape = shape_of(KV_F16);
    const size_t before = mem_in_use();
    struct kv *kv = NULL;
    long n = 0;
    for (;; n++) {
        mem_fail_after(n);
        const enum status st = kv_create(&kv, &shape, &rig_err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_null(kv);
        assert_int_equal(mem_in_use(), before);
    }
    assert_true(n >= 2);
    kv_free(kv);
    kv_free(NULL);
}

static void test_type_names(void **state)
{
    (void)state;
    enum kv_type type = KV_F32;
    assert_true(kv_type_by_name("F16", &type));
    assert_int_equal(type, KV_F16);
    assert_true(kv_type_by_name("f32", &type));
    assert_int_equal(type, KV_F32);
    assert_true(kv_type_by_name("Q8_0", &type));
    assert_int_equal(type, KV_Q8_0);
    assert_false(kv_type_by_name("q8", &type));
    assert_false(kv_type_by_name("", &type));
    assert_int_equal(type, KV_Q8_0); /* untouched */
    assert_string_equal(kv_type_name(KV_F16), "f16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations_f32),
        cmocka_unit_test(test_random_operations_f16),
        cmocka_unit_test(test_random_operations_q8_0),
        cmocka_unit_test(test_q8_0_limits),
        cmocka_unit_test(test_retract),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_failed_allocations),
        cmocka_unit_test(test_type_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_fetch.c - readers in threads, the other side by hand: bytes, order,
 * bounds, damage, silence, cancelling, and the cache. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "proto/hash.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/run_command.h"
#include "worker/fetch.h"

#define N_READERS 3

static struct rig rig;
static struct buf header;

static int open_all(void **state)
{
    (void)state;
    struct gen_model m = rig_moe();
    rig_open(&rig, &m);
    buf_init(&header, LIMIT_ASSIGN_BYTES);
    assert_ok(gguf_strip_header(rig.gguf, &header, &rig_err));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    buf_fini(&header);
    rig_close(&rig);
    return mem_in_use() == 0 ? 0 : -1;
}

/* The fetch, its readers and what the coordinator does. */
struct side {
    struct fetch *fetch;
    struct cache *cache;
    pthread_t thread[N_READERS];
    atomic_uint next, n_ended; /* tensor; readers */
    enum status status[N_READERS];
    struct error error[N_READERS];
    uint32_t n_hashes, n_cells, most_cells; /* asked for; in one message */
    uint64_t cell_bytes;
    size_t most_memory;
    uint32_t n_damaged, n_short; /* cells to come wrong */
    bool no_hashes, no_cells, backwards, lose;
};

static void no_wake(void *arg)
{
    (void)arg;
}

static void open_side(struct side *s, const struct fetch_options *with)
{
    struct fetch_options o = *with;
    uint32_t n_layer = rig.model.n_layer;
    struct wire_message m = {.kind = WIRE_ASSIGN};
    struct wire_assign *a = &m.assign;
    *a = (struct wire_assign){.embed = true,
                              .vocab_end = rig.model.n_vocab,
                              .n_layer = n_layer,
                              .model_header = (uint8_t *)header.data,
                              .model_header_bytes = header.len};
    a->blocks = mem_zalloc(n_layer);
    a->experts = mem_zalloc_array((size_t)4 * n_layer, sizeof *a->experts);
    assert_true(a->blocks && a->experts);
    for (uint32_t l = 0; l < n_layer; l++) {
        a->blocks[l] = 1;
        a->experts[4 * l] = (UINT64_C(1) << rig.model.n_expert) - 1;
    }
    memset(a->model_id, 7, sizeof a->model_id);
    o.from = "the other side";
    o.wake = no_wake;
    assert_ok(fetch_create(&s->fetch, a, &o, &rig_err));
    wire_message_fini(&m);
}

/* ----------------------------------------------------------- readers */

/* All bytes of a tensor in unequal pieces, against the file. */
static enum status read_tensor(struct side *s, uint32_t i, uint64_t seed,
                               struct error *err)
{
    const struct gguf_tensor *t = gguf_tensor(rig.gguf, i);
    struct rng rng = {seed};
    char *want = mem_alloc(t->n_bytes), *got = mem_alloc(t->n_bytes);
    enum status st = want && got ? ST_OK : ST_NO_MEMORY;
    if (st == ST_OK) st = gguf_read(rig.gguf, t, 0, want, t->n_bytes, err);
    for (uint64_t at = 0, n; st == ST_OK && at < t->n_bytes; at += n) {
        n = 1 + rng_below(&rng, 300000);
        if (n > t->n_bytes - at) n = t->n_bytes - at;
        st = fetch_read(s->fetch, i, at, got + at, n, err);
    }
    if (st == ST_OK && memcmp(want, got, t->n_bytes) != 0) {
        st = error_set(err, ST_INVALID, "other bytes in %s", t->name);
    }
    mem_free(want);
    mem_free(got);
    return st;
}

struct reader {
    struct side *s;
    uint32_t i;
};

static void *read_all(void *arg)
{
    struct reader *r = arg;
    struct side *s = r->s;
    const uint32_t n = gguf_n_tensors(rig.gguf);
    enum status st = ST_OK;
    for (uint32_t i; st == ST_OK && (i = atomic_fetch_add(&s->next, 1)) < n;) {
        st = read_tensor(s, s->backwards ? n - 1 - i : i, i, &s->error[r->i]);
    }
    s->status[r->i] = st;
    atomic_fetch_add(&s->n_ended, 1);
    mem_free(r);
    return NULL;
}

static void start_readers(struct side *s)
{
    atomic_store(&s->next, 0);
    atomic_store(&s->n_ended, 0);
    for (uint32_t i = 0; i < N_READERS; i++) {
        struct reader *r = mem_alloc(sizeof *r);
        assert_non_null(r);
        *r = (struct reader){s, i};
        assert_int_equal(pthread_create(&s->thread[i], NULL, read_all, r), 0);
    }
}

static void join_readers(struct side *s, enum status want)
{
    for (uint32_t i = 0; i < N_READERS; i++) pthread_join(s->thread[i], NULL);
    for (uint32_t i = 0; i < N_READERS; i++) {
        if (s->status[i] == want) continue;
        fail_msg("reader %u: %s, \"%s\"", i, status_name(s->status[i]),
                 s->error[i].text);
    }
}

/* ---------------------------------------------------- the coordinator */

static void answer_hashes(struct side *s, const struct wire_message *q)
{
    struct wire_message m = {.kind = WIRE_MANIFEST, .cells = q->cells};
    m.cells.hashes = mem_zalloc_array(q->cells.n, HASH_BYTES);
    for (uint32_t i = 0; i < q->cells.n; i++) {
        const struct gguf_tensor *t =
            gguf_tensor(rig.gguf, q->cells.ids[i].tensor);
        const struct cell_range r = cell_range(t, q->cells.ids[i].cell);
        char *data = mem_alloc(r.n);
        assert_ok(gguf_read(rig.gguf, t, r.from, data, r.n, &rig_err));
        hash_of(m.cells.hashes + (size_t)i * HASH_BYTES, data, r.n);
        mem_free(data);
    }
    fetch_take(s->fetch, &m, NULL, 0);
    mem_free(m.cells.hashes);
}

static void answer_cell(struct side *s, const struct wire_message *q,
                        struct wire_cell_id id)
{
    struct wire_message m = {.kind = WIRE_CELL};
    const struct gguf_tensor *t = gguf_tensor(rig.gguf, id.tensor);
    const struct cell_range r = cell_range(t, id.cell);
    char *data = mem_alloc(r.n);
    size_t n = r.n;
    assert_ok(gguf_read(rig.gguf, t, r.from, data, r.n, &rig_err));
    memcpy(m.cell.model_id, q->cells.model_id, KEY_BYTES);
    m.cell.id = id;
    if (s->n_damaged > 0) {
        s->n_damaged--;
        data[r.n - 1] ^= 1;
    } else if (s->n_short > 0) {
        s->n_short--;
        n--;
    }
    fetch_take(s->fetch, &m, data, n);
    s->cell_bytes += n;
    mem_free(data);
}

/* One request and its answer; false: nothing was wanted. */
static bool serve_one(struct side *s)
{
    struct wire_message q;
    const size_t memory = fetch_memory(s->fetch);
    if (memory > s->most_memory) s->most_memory = memory;
    if (!fetch_request(s->fetch, &q)) return false;
    assert_int_equal(q.kind, WIRE_CELLS_WANTED);
    if (s->lose) {
        s->lose = false;
        fetch_not_sent(s->fetch, &q);
    } else if (q.cells.manifest_only) {
        s->n_hashes += q.cells.n;
        if (!s->no_hashes) answer_hashes(s, &q);
    } else {
        s->n_cells += q.cells.n;
        if (q.cells.n > s->most_cells) s->most_cells = q.cells.n;
        for (uint32_t i = 0; i < q.cells.n && !s->no_cells; i++) {
            answer_cell(s, &q, q.cells.ids[i]);
        }
    }
    wire_message_fini(&q);
    return true;
}

static void serve_until_ended(struct side *s)
{
    while (atomic_load(&s->n_ended) < N_READERS) {
        if (!serve_one(s)) usleep(100);
    }
}

static void close_side(struct side *s)
{
    fetch_release(s->fetch);
}

static void run_whole(struct side *s, const struct fetch_options *o)
{
    uint64_t done, total;
    open_side(s, o);
    start_readers(s);
    serve_until_ended(s);
    join_readers(s, ST_OK);
    fetch_progress(s->fetch, &done, &total);
    assert_int_equal(done, total);
    assert_true(total > 1000000);
    close_side(s);
}

/* --------------------------------------------------------------- tests */

static void test_gives_the_model(void **state)
{
    (void)state;
    struct side s = {.lose = true};
    run_whole(&s, &(struct fetch_options){0});
    assert_true(s.n_hashes > 10);
    assert_true(s.most_memory <= FETCH_MEMORY);
}

/* In another order than was announced, in little memory. */
static void test_any_order_in_little_memory(void **state)
{
    (void)state;
    struct side s = {.backwards = true};
    run_whole(&s, &(struct fetch_options){.memory_max = 200000, .credits = 2});
    /* what is urgent may come on top: a cell for each reader */
    assert_true(s.most_memory < 200000 + (2 + 2 * N_READERS) * CELL_BYTES);
    assert_true(s.most_cells <= 2 + N_READERS);
}

static void test_damaged_cells_are_asked_for_again(void **state)
{
    (void)state;
    struct side s = {.n_damaged = 2, .n_short = 1};
    run_whole(&s, &(struct fetch_options){0});
    assert_int_equal(s.n_cells, s.n_hashes + 3);
    struct side bad = {.n_damaged = UINT32_MAX};
    open_side(&bad, &(struct fetch_options){0});
    start_readers(&bad);
    serve_until_ended(&bad);
    join_readers(&bad, ST_INVALID);
    assert_non_null(strstr(bad.error[0].text, "the other side"));
    close_side(&bad);
}

static void test_silence_ends_it(void **state)
{
    (void)state;
    for (int hashes = 0; hashes < 2; hashes++) {
        struct side s = {.no_hashes = hashes == 0, .no_cells = true};
        open_side(&s, &(struct fetch_options){.deadline_ms = 50});
        start_readers(&s);
        serve_until_ended(&s);
        join_readers(&s, ST_IO);
        assert_non_null(strstr(s.error[0].text, "the other side"));
        struct error err;
        char byte; /* and stays */
        assert_int_equal(fetch_read(s.fetch, 0, 0, &byte, 1, &err), ST_IO);
        close_side(&s);
    }
}

static void test_a_lost_answer_is_asked_for_again(void **state)
{
    (void)state;
    struct side s = {.no_cells = true};
    open_side(&s, &(struct fetch_options){0});
    start_readers(&s);
    while (s.n_cells == 0) {
        if (!serve_one(&s)) usleep(100);
    }
    s.no_cells = false;
    const uint64_t second = 1000000000;
    fetch_tick(s.fetch, clock_now_ns() + second); /* too early */
    const uint32_t before = s.n_cells;
    while (serve_one(&s)) continue;
    fetch_tick(s.fetch, clock_now_ns() + 6 * second);
    serve_until_ended(&s);
    join_readers(&s, ST_OK);
    assert_true(s.n_cells > before);
    close_side(&s);
}

static void test_cancelling_frees_the_readers(void **state)
{
    (void)state;
    struct side s = {.no_cells = true};
    open_side(&s, &(struct fetch_options){0});
    fetch_hold(s.fetch);
    start_readers(&s);
    while (s.n_cells == 0) {
        if (!serve_one(&s)) usleep(100);
    }
    fetch_cancel(s.fetch);
    join_readers(&s, ST_INTERRUPTED);
    struct wire_message q;
    assert_false(fetch_request(s.fetch, &q));
    fetch_release(s.fetch);
    close_side(&s);
}

static void test_the_coordinator_cannot_read(void **state)
{
    (void)state;
    struct side s = {.no_cells = true};
    struct wire_message q;
    open_side(&s, &(struct fetch_options){0});
    start_readers(&s);
    do {
        while (!fetch_request(s.fetch, &q)) usleep(100);
        if (q.cells.manifest_only) answer_hashes(&s, &q);
        if (q.cells.manifest_only) wire_message_fini(&q);
    } while (q.cells.n == 0);
    struct wire_message m = {.kind = WIRE_CELL};
    memcpy(m.cell.model_id, q.cells.model_id, KEY_BYTES);
    m.cell.id = q.cells.ids[0];
    m.cell.status = ST_IO;
    /* of another model, of a cell nobody asked for: no matter */
    m.cell.model_id[0] ^= 1;
    fetch_take(s.fetch, &m, NULL, 0);
    m.cell.model_id[0] ^= 1;
    m.cell.id.tensor = UINT32_MAX;
    fetch_take(s.fetch, &m, NULL, 0);
    assert_int_equal(atomic_load(&s.n_ended), 0);
    m.cell.id = q.cells.ids[0];
    fetch_take(s.fetch, &m, NULL, 0);
    join_readers(&s, ST_IO);
    assert_non_null(strstr(s.error[0].text, "cannot read"));
    wire_message_fini(&q);
    close_side(&s);
}

static void shell(const char *script, const char *dir)
{
    const char *const argv[] = {"/bin/sh", "-c", script, "-", dir, NULL};
    const struct command c = {.argv = argv};
    struct outcome o;
    assert_ok(run_command(&o, &c, &rig_err));
    assert_int_equal(o.code, 0);
    outcome_fini(&o);
}

static void test_the_cache_saves_the_network(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_fetch_XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct cache *cache = NULL;
    assert_ok(cache_open(&cache, dir, 0, NULL, NULL, &rig_err));
    const struct fetch_options o = {.cache = cache};
    struct side first = {0}, second = {0}, third = {0};
    run_whole(&first, &o);
    assert_true(first.n_cells > 0);
    run_whole(&second, &o);
    assert_int_equal(second.n_cells, 0);
    assert_true(second.n_hashes > 0);
    /* all cells of the disk damaged: as good as none */
    shell("find \"$1\" -type f | while read -r f; do echo x >>\"$f\"; done",
          dir);
    run_whole(&third, &o);
    assert_int_equal(third.n_cells, first.n_cells);
    cache_close(cache);
    shell("rm -rf \"$1\"", dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gives_the_model),
        cmocka_unit_test(test_any_order_in_little_memory),
        cmocka_unit_test(test_damaged_cells_are_asked_for_again),
        cmocka_unit_test(test_silence_ends_it),
        cmocka_unit_test(test_a_lost_answer_is_asked_for_again),
        cmocka_unit_test(test_cancelling_frees_the_readers),
        cmocka_unit_test(test_the_coordinator_cannot_read),
        cmocka_unit_test(test_the_cache_saves_the_network),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

/* test_bulk.c - cells and hashes for several workers, of which some are slow,
 * gone, or ask for what there is not. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "coordinator/bulk.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/temp.h"

#define N_BIG 5 /* whole cells of the head, CELL_BYTES each */

static char dir[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES + 16];
static struct gguf *g;
static struct manifest *manifest;
static struct bulk *bulk;
static sem_t noticed;
static uint32_t head; /* the tensor with big cells */
static struct wire_cell_id *all;
static uint32_t n_all;

static void notify(void *arg)
{
    (void)arg;
    sem_post(&noticed);
}

static int open_model(void **state)
{
    (void)state;
    struct gen_model m = rig_moe();
    m.n_layer = 2;
    m.n_vocab = 6000;
    m.type[GEN_HEAD] = QUANT_F32;
    if (!temp_dir_create(dir, "test_bulk")) return -1;
    snprintf(path, sizeof path, "%s/m.gguf", dir);
    assert_ok(gen_model_write(&m, path, &rig_err));
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    return temp_dir_remove(dir) && mem_in_use() == 0 ? 0 : -1;
}

static void open_bulk(size_t ready_max, uint32_t n_threads)
{
    struct bulk_options o = {
        .ready_max = ready_max, .n_threads = n_threads, .notify = notify};
    memset(o.model_id, 7, KEY_BYTES);
    assert_int_equal(sem_init(&noticed, 0, 0), 0);
    assert_ok(gguf_open(&g, path, &rig_err));
    assert_ok(manifest_open(&manifest, g, path, dir, NULL, NULL, &rig_err));
    o.manifest = manifest;
    n_all = 0;
    all = mem_zalloc_array((size_t)cell_total(g), sizeof *all);
    assert_non_null(all);
    for (uint32_t t = 0; t < gguf_n_tensors(g); t++) {
        const struct cell_grid grid = cell_grid(gguf_tensor(g, t));
        if (strcmp(gguf_tensor(g, t)->name, "output.weight") == 0) head = t;
        for (uint32_t c = 0; c < grid.n; c++) {
            all[n_all++] = (struct wire_cell_id){t, c};
        }
    }
    assert_int_equal(cell_range(gguf_tensor(g, head), N_BIG - 1).n, CELL_BYTES);
    assert_ok(bulk_create(&bulk, &o, &rig_err));
}

static void close_bulk(void)
{
    bulk_free(bulk);
    manifest_close(manifest);
    gguf_close(g);
    mem_free(all);
    sem_destroy(&noticed);
}

static const uint8_t *key_of(uint8_t worker)
{
    static uint8_t keys[256][KEY_BYTES];
    memset(keys[worker], worker, KEY_BYTES);
    return keys[worker];
}

static enum status want(uint8_t worker, uint8_t model, struct wire_cell_id *ids,
                        uint32_t n, bool hashes)
{
    struct wire_cells c = {.n = n, .ids = ids, .manifest_only = hashes};
    memset(c.model_id, model, KEY_BYTES);
    return bulk_wanted(bulk, key_of(worker), &c, &rig_err);
}

/* The first n big cells. */
static void want_big(uint8_t worker, uint32_t n)
{
    struct wire_cell_id ids[N_BIG];
    for (uint32_t i = 0; i < n; i++) ids[i] = (struct wire_cell_id){head, i};
    assert_ok(want(worker, 7, ids, n, false));
}

/* The next message, read; it must be for this worker unless that is 0. */
static struct bulk_out *next(uint8_t worker, struct wire_message *m)
{
    struct bulk_out *o;
    while (!(o = bulk_take(bulk))) {
        struct timespec end;
        clock_gettime(CLOCK_REALTIME, &end);
        end.tv_sec += 60;
        if (sem_timedwait(&noticed, &end) != 0) fail_msg("nothing comes");
    }
    if (worker) assert_memory_equal(o->key, key_of(worker), KEY_BYTES);
    assert_ok(wire_read(m, o->header.data, o->header.len, o->tensor.data,
                        o->tensor.len, &rig_err));
    return o;
}

/* The bytes of a good cell are the file's. */
static void check_cell(const struct wire_message *m, const struct bulk_out *o)
{
    assert_int_equal(m->kind, WIRE_CELL);
    assert_int_equal(m->cell.status, ST_OK);
    assert_int_equal(m->cell.model_id[0], 7);
    const struct gguf_tensor *t = gguf_tensor(g, m->cell.id.tensor);
    const struct cell_range r = cell_range(t, m->cell.id.cell);
    assert_int_equal(o->tensor.len, r.n);
    char *data = mem_alloc(r.n);
    assert_non_null(data);
    assert_ok(gguf_read(g, t, r.from, data, r.n, &rig_err));
    assert_memory_equal(o->tensor.data, data, r.n);
    mem_free(data);
}

/* Takes and ends one; returns whose it was. */
static uint8_t send_next(void)
{
    struct wire_message m;
    struct bulk_out *o = next(0, &m);
    const uint8_t worker = o->key[0];
    check_cell(&m, o);
    bulk_sent(bulk, o);
    return worker;
}

static uint32_t index_of(struct wire_cell_id id)
{
    uint32_t i = 0;
    while (all[i].tensor != id.tensor || all[i].cell != id.cell) i++;
    return i;
}

static void test_all_cells_and_hashes(void **state)
{
    (void)state;
    struct wire_message m;
    open_bulk(0, 2);
    uint8_t *seen = mem_zalloc(n_all);
    uint8_t hash[HASH_BYTES];
    uint32_t n = 0, n_messages = 0;
    assert_non_null(seen);
    assert_ok(want(1, 7, all, n_all, true));
    while (n < n_all) {
        struct bulk_out *o = next(1, &m);
        assert_int_equal(m.kind, WIRE_MANIFEST);
        assert_int_equal(m.cells.model_id[5], 7);
        assert_int_equal(o->tensor.len, 0);
        assert_true(m.cells.n <= 8); /* nothing is known: answers come soon */
        for (uint32_t i = 0; i < m.cells.n; i++) {
            seen[index_of(m.cells.ids[i])]++;
            assert_ok(manifest_hash(
                manifest,
                (struct cell_id){m.cells.ids[i].tensor, m.cells.ids[i].cell},
                hash, &rig_err));
            assert_memory_equal(m.cells.hashes + (size_t)i * HASH_BYTES, hash,
                                HASH_BYTES);
        }
        n += m.cells.n;
        n_messages++;
        wire_message_fini(&m);
        bulk_sent(bulk, o);
    }
    for (uint32_t i = 0; i < n_all; i++) assert_int_equal(seen[i], 1);
    assert_true(n_messages >= n_all / 8);
    assert_ok(want(1, 7, all, n_all, true)); /* known: at once */
    struct bulk_out *o = next(1, &m);
    assert_int_equal(m.cells.n, n_all);
    wire_message_fini(&m);
    bulk_sent(bulk, o);

    memset(seen, 0, n_all);
    assert_ok(want(1, 7, all, n_all, false));
    uint64_t bytes = 0;
    for (n = 0; n < n_all; n++) {
        o = next(1, &m);
        check_cell(&m, o);
        seen[index_of(m.cell.id)]++;
        bytes += o->tensor.len;
        bulk_sent(bulk, o);
    }
    for (uint32_t i = 0; i < n_all; i++) assert_int_equal(seen[i], 1);
    assert_null(bulk_take(bulk));
    const struct bulk_counts c = bulk_counts(bulk);
    assert_int_equal(c.cells, n_all);
    assert_int_equal(c.cell_bytes, bytes);
    assert_int_equal(c.hashes, 2 * n_all);
    assert_int_equal(c.refused + c.reread + c.queued, 0);
    mem_free(seen);
    close_bulk();
}

static void expect_refused(uint8_t model, enum status status,
                           struct wire_cell_id id)
{
    struct wire_message m;
    struct bulk_out *o = next(1, &m);
    assert_int_equal(m.kind, WIRE_CELL);
    assert_int_equal(m.cell.status, status);
    assert_int_equal(m.cell.model_id[31], model);
    assert_int_equal(m.cell.id.tensor, id.tensor);
    assert_int_equal(m.cell.id.cell, id.cell);
    assert_int_equal(o->tensor.len, 0);
    bulk_sent(bulk, o);
}

static void test_what_there_is_not(void **state)
{
    (void)state;
    struct wire_message m;
    open_bulk(0, 1);
    struct wire_cell_id ids[3] = {
        {head, 0}, {head, UINT32_MAX}, {UINT32_MAX, 0}};
    assert_ok(want(1, 8, ids, 3, false)); /* another model */
    expect_refused(8, ST_NOT_FOUND, ids[0]);
    assert_ok(want(1, 8, ids, 3, true));
    expect_refused(8, ST_NOT_FOUND, ids[0]);
    assert_ok(want(1, 7, ids + 1, 2, false));
    expect_refused(7, ST_NOT_FOUND, ids[1]);
    expect_refused(7, ST_NOT_FOUND, ids[2]);
    assert_ok(want(1, 7, ids, 3, true)); /* one good hash, two not */
    struct bulk_out *o = next(1, &m);
    assert_int_equal(m.kind, WIRE_MANIFEST);
    assert_int_equal(m.cells.n, 1);
    wire_message_fini(&m);
    bulk_sent(bulk, o);
    expect_refused(7, ST_NOT_FOUND, ids[1]);
    expect_refused(7, ST_NOT_FOUND, ids[2]);
    assert_int_equal(bulk_counts(bulk).refused, 6);
    assert_int_equal(bulk_counts(bulk).hashes, 1);

    /* somebody writes to the file */
    const struct timespec times[2] = {{1, 0}, {1, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_ok(want(1, 7, ids, 1, false));
    expect_refused(7, ST_INVALID, ids[0]);
    close_bulk();
}

static void test_turns(void **state)
{
    (void)state;
    open_bulk(4u << 20, 2); /* one big cell waits for each */
    want_big(1, N_BIG);
    assert_int_equal(send_next(), 1);
    want_big(2, 1);
    unsigned before = 0;
    while (send_next() != 2) before++;
    assert_true(before <= 3);
    for (unsigned i = before + 1; i < N_BIG; i++) {
        assert_int_equal(send_next(), 1);
    }
    assert_null(bulk_take(bulk));
    close_bulk();
}

static void test_a_full_socket(void **state)
{
    (void)state;
    struct wire_message m;
    open_bulk(4u << 20, 2);
    want_big(1, N_BIG);
    struct bulk_out *o = next(1, &m);
    const struct wire_cell_id first = m.cell.id;
    bulk_untake(bulk, o);
    want_big(2, N_BIG);
    for (unsigned i = 0; i < N_BIG; i++) { /* as if 1 were not there */
        assert_int_equal(send_next(), 2);
        assert_true(bulk_counts(bulk).ready_bytes <=
                    (4u << 20) + 2 * CELL_BYTES);
    }
    assert_null(bulk_take(bulk));
    assert_true(bulk_retry(bulk));
    o = next(1, &m); /* the same, first */
    assert_int_equal(m.cell.id.cell, first.cell);
    check_cell(&m, o);
    bulk_sent(bulk, o);
    assert_false(bulk_retry(bulk));
    for (unsigned i = 1; i < N_BIG; i++) assert_int_equal(send_next(), 1);
    assert_int_equal(bulk_counts(bulk).cells, 2 * N_BIG);
    close_bulk();
}

static void test_slow_ones_give_up_their_room(void **state)
{
    (void)state;
    struct wire_message m;
    open_bulk(4u << 20, 2);
    for (uint8_t w = 1; w <= 4; w++) { /* fill all of it */
        want_big(w, 2);
        bulk_untake(bulk, next(w, &m));
    }
    want_big(5, N_BIG);
    for (unsigned i = 0; i < N_BIG; i++) {
        assert_int_equal(send_next(), 5);
        assert_true(bulk_counts(bulk).ready_bytes <=
                    (4u << 20) + 2 * CELL_BYTES);
    }
    assert_true(bulk_counts(bulk).reread > 0);
    unsigned got[5] = {0};
    for (unsigned i = 0; i < 8;) { /* and get everything in the end */
        (void)bulk_retry(bulk);
        got[send_next()]++;
        i++;
    }
    for (uint8_t w = 1; w <= 4; w++) assert_int_equal(got[w], 2);
    assert_null(bulk_take(bulk));
    close_bulk();
}

static void test_asked_twice(void **state)
{
    (void)state;
    struct wire_message m;
    open_bulk(4u << 20, 1);
    want_big(1, 1);
    struct bulk_out *o = next(1, &m);
    bulk_untake(bulk, o);
    for (int i = 0; i < 100; i++) want_big(1, N_BIG);
    (void)bulk_retry(bulk);
    for (unsigned i = 0; i < N_BIG; i++) assert_int_equal(send_next(), 1);
    assert_null(bulk_take(bulk));
    assert_int_equal(bulk_counts(bulk).queued, 0);
    want_big(1, 1); /* sent and asked for again is another matter */
    assert_int_equal(send_next(), 1);
    close_bulk();
}

static void test_gone(void **state)
{
    (void)state;
    struct wire_message m;
    open_bulk(4u << 20, 2);
    for (int i = 0; i < 50; i++) {
        want_big(1, N_BIG);
        want_big(2, 1);
        if (i % 2) bulk_forget(bulk, key_of(1)); /* perhaps while it reads */
        struct bulk_out *o = next(0, &m);
        bulk_forget(bulk, key_of(1));
        bulk_forget(bulk, key_of(2));
        if (i % 3 == 0)
            bulk_untake(bulk, o);
        else if (i % 3 == 1)
            bulk_sent(bulk, o);
        else
            bulk_drop(bulk, o);
        assert_null(bulk_take(bulk));
        assert_int_equal(bulk_counts(bulk).queued, 0);
        assert_false(bulk_retry(bulk));
    }
    bulk_forget(bulk, key_of(9)); /* never seen */
    want_big(1, N_BIG);           /* freed with work left */
    close_bulk();
}

static void test_limits(void **state)
{
    (void)state;
    struct wire_message m;
    open_bulk(4u << 20, 1);
    struct wire_cell_id *ids = mem_zalloc_array(LIMIT_CELLS, sizeof *ids);
    assert_non_null(ids);
    for (uint32_t i = 0; i < LIMIT_CELLS; i++) {
        ids[i] = (struct wire_cell_id){head, i};
    }
    assert_fails(want(1, 7, ids, BULK_CELLS_QUEUED + 1, false), ST_TOO_LARGE,
                 "4097 more");
    want_big(1, 1); /* the loader waits behind it */
    bulk_untake(bulk, next(1, &m));
    assert_ok(want(1, 7, ids + 10, BULK_CELLS_QUEUED, false));
    assert_fails(want(1, 7, ids, BULK_CELLS_QUEUED, false), ST_TOO_LARGE,
                 "cells");
    assert_ok(want(1, 7, ids, LIMIT_CELLS, true));
    assert_fails(want(1, 7, ids, LIMIT_CELLS, true), ST_TOO_LARGE, "524288");
    assert_ok(want(2, 7, ids, LIMIT_CELLS, true)); /* another one's own */
    for (int i = 3; i <= 255; i++) want_big((uint8_t)i, 1);
    want_big(0, 1);
    struct wire_cells c = {.n = 1, .ids = ids};
    uint8_t other[KEY_BYTES] = {1, 2, 3};
    assert_fails(bulk_wanted(bulk, other, &c, &rig_err), ST_FULL, "256");
    bulk_forget(bulk, key_of(17));
    assert_ok(bulk_wanted(bulk, other, &c, &rig_err));
    mem_free(ids);
    close_bulk();
}

static void test_no_memory(void **state)
{
    (void)state;
    open_bulk(0, 1);
    struct wire_cell_id id = {head, 0};
    for (long n = 0; n < 2; n++) {
        mem_fail_after(n);
        const enum status st = want(1, 7, &id, 1, false);
        mem_fail_after(-1);
        assert_int_equal(st, ST_NO_MEMORY);
    }
    want_big(1, 1);
    assert_int_equal(send_next(), 1);
    close_bulk();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_cells_and_hashes),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_a_full_socket),
        cmocka_unit_test(test_slow_ones_give_up_their_room),
        cmocka_unit_test(test_asked_twice),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_what_there_is_not), /* changes the file */
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}

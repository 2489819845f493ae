/* test_wire.c - every kind there and back, recorded bytes, what a step costs
 * on the wire, failed allocations, cut frames.
 *
 * With POTLUCK_WRITE_CORPUS=DIR the messages become seeds of the fuzzer: four
 * bytes of tensor size, then the header frame. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "proto/wire.h"
#include "tests/lib/corpus.h"
#include "tests/lib/wire_samples.h"

static void assert_ok(enum status st, const struct error *err)
{
    if (st != ST_OK) fail_msg("%s: %s", status_name(st), err->text);
}

static void write_ok(struct buf *out, const struct wire_message *m)
{
    struct error err = {.text = ""};
    buf_init(out, LIMIT_ASSIGN_BYTES);
    assert_ok(wire_write(out, m, &err), &err);
}

/* In a block of its own size, so that a read past the end shows. */
static enum status read_copy(struct wire_message *out, const void *header,
                             size_t n, size_t tensor_bytes, struct error *err,
                             void **copy)
{
    *copy = mem_alloc(n);
    assert_non_null(*copy);
    memcpy(*copy, header, n);
    return wire_read(out, *copy, n, NULL, tensor_bytes, err);
}

static void assert_reads_as(const void *header, size_t n, size_t tensor_bytes,
                            const struct wire_message *want)
{
    struct wire_message got;
    struct error err = {.text = ""};
    const char *what;
    void *copy;
    assert_ok(read_copy(&got, header, n, tensor_bytes, &err, &copy), &err);
    if (!wire_messages_equal(&got, want, &what)) {
        fail_msg("%s: %s differs", wire_kind_name(want->kind), what);
    }
    wire_message_fini(&got);
    mem_free(copy);
}

static void add_seed(const struct buf *b, enum wire_kind kind, int size,
                     size_t tensor_bytes)
{
    char name[64];
    const uint32_t tensor = (uint32_t)tensor_bytes;
    struct buf seed;
    if (b->len > 4096) return;
    buf_init(&seed, b->len + sizeof tensor);
    snprintf(name, sizeof name, "%s %d", wire_kind_name(kind), size);
    assert_int_equal(buf_append(&seed, &tensor, sizeof tensor), ST_OK);
    assert_int_equal(buf_append(&seed, b->data, b->len), ST_OK);
    assert_true(corpus_seed(name, seed.data, seed.len));
    buf_fini(&seed);
}

static void test_every_kind_comes_back(void **state)
{
    (void)state;
    const size_t before = mem_in_use();
    for (int k = 0; k < WIRE_KIND_END; k++) {
        for (int size = 0; size < SAMPLE_SIZE_END; size++) {
            struct wire_message m;
            struct buf b;
            size_t tensor;
            wire_sample_message(&m, (enum wire_kind)k,
                                (enum wire_sample_size)size, &tensor);
            write_ok(&b, &m);
            add_seed(&b, m.kind, size, tensor);
            assert_reads_as(b.data, b.len, tensor, &m);
            buf_fini(&b);
        }
    }
    assert_int_equal(mem_in_use(), before);
}

static void test_messages_are_appended(void **state)
{
    (void)state;
    struct wire_message m;
    struct buf b;
    size_t tensor;
    wire_sample_message(&m, WIRE_HEARTBEAT, SAMPLE_ORDINARY, &tensor);
    write_ok(&b, &m);
    const size_t n = b.len;
    assert_int_equal(wire_write(&b, &m, NULL), ST_OK);
    assert_int_equal(b.len, 2 * n);
    assert_memory_equal(b.data, b.data + n, n);
    b.max = b.len + n - 1;
    assert_int_equal(wire_write(&b, &m, NULL), ST_TOO_LARGE);
    assert_int_equal(b.len, 2 * n);
    buf_fini(&b);
}

/* ------------------------------------------------------------- golden */

static size_t from_hex(uint8_t *out, const char *hex)
{
    static const char digits[] = "0123456789abcdef";
    const size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        const char *high = strchr(digits, hex[2 * i]);
        const char *low = strchr(digits, hex[2 * i + 1]);
        assert_true(high && low);
        out[i] = (uint8_t)((high - digits) << 4 | (low - digits));
    }
    return n;
}

/* Frames of the first release: they decode for ever, and as long as no field
 * is added they are what we send. */
static void test_recorded_frames(void **state)
{
    (void)state;
    for (int k = 0; k < WIRE_KIND_END; k++) {
        struct wire_message m;
        struct buf b;
        size_t tensor;
        uint8_t old[2048];
        assert_true(strlen(wire_golden[k].hex) / 2 <= sizeof old);
        const size_t n = from_hex(old, wire_golden[k].hex);
        assert_string_equal(wire_golden[k].kind,
                            wire_kind_name((enum wire_kind)k));
        wire_sample_message(&m, (enum wire_kind)k, SAMPLE_ORDINARY, &tensor);
        assert_reads_as(old, n, tensor, &m);
        write_ok(&b, &m);
        assert_int_equal(b.len, n);
        assert_memory_equal(b.data, old, n);
        buf_fini(&b);
    }
}

/* A newer sender of the same protocol may add fields. */
static void test_unknown_fields_are_ignored(void **state)
{
    (void)state;
    struct wire_message m;
    struct buf b;
    size_t tensor;
    wire_sample_message(&m, WIRE_READY, SAMPLE_ORDINARY, &tensor);
    write_ok(&b, &m);
    static const uint8_t more[] = {0xa0, 0x06, 0x05, 0xaa, 0x06, 1, 'x'};
    assert_int_equal(buf_append(&b, more, sizeof more), ST_OK);
    b.data[2] = (char)(b.data[2] + (char)sizeof more); /* the length */
    assert_reads_as(b.data, b.len, 0, &m);
    buf_fini(&b);
}

/* --------------------------------------------------------------- cost */

#define COST_ROWS   512
#define COST_STAGES 16

static struct wire_stage cost_stages[COST_STAGES];
static struct step_row cost_rows[COST_ROWS];
static struct wire_sample cost_samples[COST_ROWS];

/* A step between two stages of a pool that has run for a long time. */
static struct wire_message cost_step(uint32_t n_rows, uint32_t n_stages,
                                     uint32_t width)
{
    for (uint32_t i = 0; i < n_stages; i++) {
        cost_stages[i] = (struct wire_stage){.node = 900 + i,
                                             .embed = i == 0,
                                             .head = i + 1 == n_stages,
                                             .layer_first = 8 * i,
                                             .layer_end = 8 * i + 8};
    }
    for (uint32_t r = 0; r < n_rows; r++) {
        cost_rows[r] = (struct step_row){.seq = UINT64_MAX - r,
                                         .pos = 1u << 20,
                                         .token = 1 << 20,
                                         .want = true};
        cost_samples[r] = (struct wire_sample){.inv_temp = 1.25F,
                                               .repeat = 1,
                                               .plain = true,
                                               .seed = UINT64_MAX,
                                               .n = 1u << 20};
    }
    struct wire_message m;
    memset(&m, 0, sizeof m);
    m.kind = WIRE_STEP;
    m.step = (struct wire_step){
        .epoch = 1u << 20,
        .step = UINT64_MAX,
        .stage = n_stages - 1,
        .n_stages = n_stages,
        .stages = cost_stages,
        .n_rows = n_rows,
        .n_want = n_rows,
        .rows = cost_rows,
        .samples = cost_samples,
        .width = width,
        .compute_ns = (uint64_t)60 * 1000000000,
    };
    return m;
}

static void test_a_hop_costs_little(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1, 2, 16, 17, 256, COST_ROWS};
    static const uint32_t stages[] = {2, 3, 5, COST_STAGES};
    const uint32_t d = 4096;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        for (size_t s = 0; s < COUNT_OF(stages); s++) {
            const struct wire_message m = cost_step(rows[r], stages[s], d);
            struct buf b;
            write_ok(&b, &m);
            const size_t tensor = (size_t)4 * d * rows[r];
            assert_reads_as(b.data, b.len, tensor, &m);
            print_message("%3u rows, %2u stages: %5zu bytes beside the "
                          "activations, of at most %5u\n",
                          rows[r], stages[s], b.len, 64 * rows[r] + 200);
            assert_true(b.len + tensor <= (4 * (size_t)d + 64) * rows[r] + 200);
            buf_fini(&b);
        }
    }
}

/* ------------------------------------------------------ bad luck, cuts */

static void test_every_failed_allocation(void **state)
{
    (void)state;
    for (int k = 0; k < WIRE_KIND_END; k++) {
        struct wire_message m, got;
        struct buf b;
        size_t tensor;
        const size_t before = mem_in_use();
        wire_sample_message(&m, (enum wire_kind)k, SAMPLE_ORDINARY, &tensor);
        buf_init(&b, LIMIT_ASSIGN_BYTES);
        enum status st = ST_NO_MEMORY;
        for (long n = 0; st != ST_OK; n++) {
            mem_fail_after(n);
            st = wire_write(&b, &m, NULL);
            mem_fail_after(-1);
            if (st == ST_OK) break;
            assert_int_equal(st, ST_NO_MEMORY);
            assert_int_equal(b.len, 0);
            assert_int_equal(mem_in_use(), before);
        }
        const size_t written = mem_in_use();
        memset(&got, 0x5a, sizeof got);
        st = ST_NO_MEMORY;
        for (long n = 0; st != ST_OK; n++) {
            mem_fail_after(n);
            st = wire_read(&got, b.data, b.len, NULL, tensor, NULL);
            mem_fail_after(-1);
            if (st == ST_OK) break;
            assert_int_equal(st, ST_NO_MEMORY);
            assert_int_equal(got.kind, 0x5a5a5a5a);
            assert_int_equal(mem_in_use(), written);
        }
        wire_message_fini(&got);
        buf_fini(&b);
        assert_int_equal(mem_in_use(), before);
    }
}

/* The frame as it was cut, and with a length that hides the cut. */
static void try_cut(const struct buf *b, size_t lead, size_t n, size_t tensor)
{
    struct wire_message got;
    struct error err = {.text = ""};
    void *copy;
    assert_int_not_equal(read_copy(&got, b->data, n, tensor, &err, &copy),
                         ST_OK);
    assert_true(strlen(err.text) > 0);
    mem_free(copy);
    if (n < lead) return;

    uint8_t frame[2 + 5 + 2048];
    size_t at = 0;
    for (size_t i = 0; i < lead && (i == 0 || b->data[i - 1] & 0x80); i++) {
        frame[at++] = (uint8_t)b->data[i];
    }
    const size_t body = n - lead;
    assert_true(body <= 2048);
    for (size_t v = body; v >= 0x80; v >>= 7) frame[at++] = (v & 0x7f) | 0x80;
    frame[at++] =
        (uint8_t)(body < 128 ? body : body >> (body < 16384 ? 7 : 14));
    memcpy(frame + at, b->data + lead, body);
    const enum status st =
        read_copy(&got, frame, at + body, tensor, &err, &copy);
    if (st == ST_OK) wire_message_fini(&got);
    mem_free(copy);
}

static void test_cut_at_each_byte(void **state)
{
    (void)state;
    const size_t before = mem_in_use();
    for (int k = 0; k < WIRE_KIND_END; k++) {
        struct wire_message m;
        struct buf b;
        size_t tensor, lead = 0;
        wire_sample_message(&m, (enum wire_kind)k, SAMPLE_ORDINARY, &tensor);
        write_ok(&b, &m);
        while (b.data[lead++] & 0x80) continue; /* the tag */
        while (b.data[lead++] & 0x80) continue; /* the length */
        for (size_t n = 0; n < b.len; n++) try_cut(&b, lead, n, tensor);
        buf_fini(&b);
    }
    assert_int_equal(mem_in_use(), before);
}

/* ------------------------------------------------------------ writing */

static void test_a_text_never_keeps_a_message_back(void **state)
{
    (void)state;
    struct wire_message m, got;
    struct buf b;
    struct error err = {.text = ""};
    memset(&m, 0, sizeof m);
    m.kind = WIRE_FAILURE;
    m.failure.status = ST_IO;
    memcpy(m.failure.text, "a\nb\xff\xc2\x85\x7f \xc3\xa9", 10);
    write_ok(&b, &m);
    assert_ok(wire_read(&got, b.data, b.len, NULL, 0, &err), &err);
    assert_string_equal(got.failure.text, "a?b???? \xc3\xa9");
    buf_fini(&b);

    /* a sentence that was cut in the middle of a character */
    memset(m.failure.text, 'x', LIMIT_TEXT);
    m.failure.text[LIMIT_TEXT - 1] = '\xc3';
    write_ok(&b, &m);
    assert_ok(wire_read(&got, b.data, b.len, NULL, 0, &err), &err);
    assert_int_equal(got.failure.text[LIMIT_TEXT - 1], '?');
    assert_int_equal(strlen(got.failure.text), LIMIT_TEXT);
    buf_fini(&b);
}

static void test_what_nobody_would_take_is_not_written(void **state)
{
    (void)state;
    struct wire_message m;
    struct buf b;
    struct error err;
    size_t tensor;
    buf_init(&b, LIMIT_ASSIGN_BYTES);
    wire_sample_message(&m, WIRE_STEP, SAMPLE_ORDINARY, &tensor);
    m.step.n_want--;
    assert_int_equal(wire_write(&b, &m, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "Step: 2 rows want logits"));
    wire_sample_message(&m, WIRE_ECHO, SAMPLE_ORDINARY, &tensor);
    m.echo.reply_bytes = LIMIT_CELL_BYTES + 1;
    assert_int_equal(wire_write(&b, &m, &err), ST_INVALID);
    m.kind = WIRE_KIND_END;
    assert_int_equal(wire_write(&b, &m, &err), ST_UNSUPPORTED);
    assert_string_equal(wire_kind_name(WIRE_KIND_END), "unknown");

    /* within every count, but over a header's bytes */
    static struct step_row rows[LIMIT_ROWS];
    static struct wire_sample samples[LIMIT_ROWS];
    wire_sample_message(&m, WIRE_STEP, SAMPLE_EXTREME, &tensor);
    for (uint32_t i = 0; i < LIMIT_ROWS; i++) {
        rows[i] = m.step.rows[1];
        samples[i] = m.step.samples[1];
    }
    m.step.n_rows = m.step.n_want = LIMIT_ROWS;
    m.step.rows = rows;
    m.step.samples = samples;
    assert_int_equal(wire_write(&b, &m, &err), ST_TOO_LARGE);
    assert_int_equal(b.len, 0);
    buf_fini(&b);
}

/* The largest list of cells is asked for, and answered, in one message. */
static void test_as_many_cells_as_there_may_be(void **state)
{
    (void)state;
    struct wire_message m;
    struct buf b;
    size_t tensor;
    wire_sample_message(&m, WIRE_CELLS_WANTED, SAMPLE_ORDINARY, &tensor);
    struct wire_cell_id *ids = mem_zalloc_array(LIMIT_CELLS, sizeof *ids);
    uint8_t *hashes = mem_zalloc_array(LIMIT_CELLS, KEY_BYTES);
    assert_true(ids && hashes);
    for (uint32_t i = 0; i < LIMIT_CELLS; i++) {
        ids[i] = (struct wire_cell_id){i / 300, i % 300};
    }
    m.cells.n = LIMIT_CELLS;
    m.cells.ids = ids;
    write_ok(&b, &m);
    assert_reads_as(b.data, b.len, 0, &m);
    buf_fini(&b);
    m.kind = WIRE_MANIFEST;
    m.cells.hashes = hashes;
    m.cells.manifest_only = false;
    write_ok(&b, &m);
    assert_reads_as(b.data, b.len, 0, &m);
    buf_fini(&b);
    mem_free(ids);
    mem_free(hashes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_comes_back),
        cmocka_unit_test(test_messages_are_appended),
        cmocka_unit_test(test_recorded_frames),
        cmocka_unit_test(test_unknown_fields_are_ignored),
        cmocka_unit_test(test_a_hop_costs_little),
        cmocka_unit_test(test_every_failed_allocation),
        cmocka_unit_test(test_cut_at_each_byte),
        cmocka_unit_test(test_a_text_never_keeps_a_message_back),
        cmocka_unit_test(test_what_nobody_would_take_is_not_written),
        cmocka_unit_test(test_as_many_cells_as_there_may_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_exec.c - compute threads wired together by hand: three of them hold a
 * mixture of experts, each with experts that another one needs, and answer
 * with the bits of one shard that holds it all. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/lib/engine_rig.h"
#include "worker/exec.h"

#define LAYERS      4
#define NODES       3
#define ROWS        33
#define OUTPUTS     8
#define N_SEQS      3
#define DEADLINE_NS UINT64_C(120000000000)

static const uint32_t lengths[N_SEQS] = {14, 9, 20};
static struct rig rig;
static struct rig_text text;
static struct buf header;

struct pool_rig {
    struct exec *exec[NODES];
    uint64_t epoch, step;
    uint32_t n_ready, n_failed, n_step_failed, n_results, n_done;
    uint32_t n_dispatched, n_reports;
    atomic_uint n_released;
    bool hold_partials; /* PARTIALS are kept back, as if lost */
    bool twice;         /* every PARTIALS comes twice */
    bool read_fails;
    uint32_t n_steps; /* at each node */
    float inv_temp;   /* of the next steps; 0: 1 */
    struct kv_op *op; /* rides in the next steps; or NULL */
    struct wire_message failure;
    /* of the steps in flight, by step id */
    struct want {
        uint64_t step;
        uint32_t seq, pos;
    } want[64];
    uint32_t n_want;
};

static int open_all(void **state)
{
    (void)state;
    struct gen_model m = rig_moe();
    m.n_layer = LAYERS;
    rig_open(&rig, &m);
    rig_text_open(&text, &rig, KV_F16, N_SEQS, lengths);
    buf_init(&header, LIMIT_ASSIGN_BYTES);
    assert_ok(gguf_strip_header(rig.gguf, &header, &rig_err));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    buf_fini(&header);
    rig_text_close(&text);
    rig_close(&rig);
    return mem_in_use() == 0 ? 0 : -1;
}

static enum status read_model(void *arg, uint32_t i, uint64_t from, void *dst,
                              size_t n, struct error *err)
{
    const struct pool_rig *p = arg;
    if (p->read_fails) return error_set(err, ST_IO, "the cable was cut");
    return gguf_read(rig.gguf, gguf_tensor(rig.gguf, i), from, dst, n, err);
}

static void no_notice(void *arg)
{
    (void)arg;
}

static void count_release(void *arg)
{
    struct pool_rig *p = arg;
    atomic_fetch_add(&p->n_released, 1);
}

/* Node n + 1 has layers n and (the first) the last one; the experts of a layer
 * go round. */
static uint32_t block_of(uint32_t layer)
{
    return layer % NODES;
}

static uint32_t expert_of(uint32_t layer, uint32_t expert)
{
    return (layer + expert) % NODES;
}

static struct wire_assign assignment(uint32_t n, uint64_t epoch,
                                     uint32_t n_steps)
{
    struct wire_assign a = {.epoch = epoch,
                            .model_header = (uint8_t *)header.data,
                            .model_header_bytes = header.len,
                            .embed = n == 0,
                            .vocab_end = n == NODES - 1 ? text.n_vocab : 0,
                            .n_layer = LAYERS,
                            .n_ctx = rig.model.n_ctx,
                            .n_seq_max = 8,
                            .rows_max = ROWS,
                            .outputs_max = OUTPUTS,
                            .kv_type = KV_F16,
                            .n_steps = n_steps};
    a.blocks = mem_zalloc(LAYERS);
    a.experts = mem_zalloc_array((size_t)4 * LAYERS, sizeof *a.experts);
    a.expert_node = mem_zalloc_array((size_t)LAYERS * MODEL_EXPERTS_MAX,
                                     sizeof *a.expert_node);
    assert_true(a.blocks && a.experts && a.expert_node);
    for (uint32_t l = 0; l < LAYERS; l++) {
        a.blocks[l] = block_of(l) == n;
        for (uint32_t e = 0; e < rig.model.n_expert; e++) {
            if (expert_of(l, e) == n) a.experts[4 * l] |= UINT64_C(1) << e;
            a.expert_node[l * MODEL_EXPERTS_MAX + e] =
                (uint16_t)(expert_of(l, e) + 1);
        }
    }
    return a;
}

static void send_load(struct pool_rig *p, uint32_t n)
{
    struct exec_load load = {.assign = assignment(n, p->epoch, p->n_steps),
                             .self = n + 1,
                             .read = read_model,
                             .done = count_release,
                             .read_arg = p};
    exec_set_epoch(p->exec[n], p->epoch);
    assert_true(exec_load(p->exec[n], &load));
    assert_null(load.assign.blocks);
}

/* ------------------------------------------------------------ messages */

static void check_result(struct pool_rig *p, const struct wire_result *r,
                         const float *row, size_t bytes)
{
    p->n_results++;
    for (uint32_t i = 0; i < p->n_want; i++) {
        const struct want *w = &p->want[i];
        if (w->step != r->step) continue;
        assert_int_equal(r->n_want, 1);
        assert_int_equal(r->n_whole, 1);
        assert_int_equal(bytes, text.n_vocab * sizeof *row);
        const float *want = text.want[w->seq] + (size_t)w->pos * text.n_vocab;
        rig_assert_same(row, want, text.n_vocab, "logits of a pool");
        uint32_t best = 0;
        for (uint32_t v = 1; v < text.n_vocab; v++) {
            if (want[v] > want[best]) best = v;
        }
        assert_int_equal(r->rows[0].best[0].id, best);
        p->n_done++;
        return;
    }
    assert_int_equal(r->n_want, 0);
}

static void to_coordinator(struct pool_rig *p, const struct exec_out *o)
{
    struct wire_message m;
    assert_ok(wire_read(&m, o->header.data, o->header.len, o->tensor,
                        o->tensor_bytes, &rig_err));
    if (m.kind == WIRE_RESULT)
        check_result(p, &m.result, o->tensor, o->tensor_bytes);
    else if (m.kind == WIRE_READY)
        p->n_ready++;
    else if (m.kind == WIRE_REPORT)
        p->n_reports++;
    else if (m.kind == WIRE_FAILURE || m.kind == WIRE_STEP_FAILED)
        p->failure = m;
    p->n_failed += m.kind == WIRE_FAILURE;
    p->n_step_failed += m.kind == WIRE_STEP_FAILED;
    wire_message_fini(&m);
}

static void give(struct exec *e, const struct exec_out *o)
{
    struct wire_message m;
    assert_ok(wire_read(&m, o->header.data, o->header.len, o->tensor,
                        o->tensor_bytes, &rig_err));
    assert_true(exec_message(e, &m, o->tensor, o->tensor_bytes));
    wire_message_fini(&m);
}

static void forward(struct pool_rig *p, const struct exec_out *o)
{
    struct wire_message m;
    assert_in_range(o->node, 1, NODES);
    assert_ok(wire_read(&m, o->header.data, o->header.len, o->tensor,
                        o->tensor_bytes, &rig_err));
    const enum wire_kind kind = m.kind;
    wire_message_fini(&m);
    p->n_dispatched += kind == WIRE_DISPATCH;
    if (kind == WIRE_PARTIALS && p->hold_partials) return;
    give(p->exec[o->node - 1], o);
    if (kind == WIRE_PARTIALS && p->twice) give(p->exec[o->node - 1], o);
}

/* Carries messages until *count is n. */
static void carry_until(struct pool_rig *p, const uint32_t *count, uint32_t n)
{
    const uint64_t start = clock_now_ns();
    while (*count < n) {
        bool any = false;
        for (uint32_t i = 0; i < NODES; i++) {
            struct exec_out *o = p->exec[i] ? exec_take(p->exec[i]) : NULL;
            if (!o) continue;
            any = true;
            if (o->epoch == p->epoch || o->epoch == 0) {
                if (o->node == EXEC_TO_COORDINATOR)
                    to_coordinator(p, o);
                else
                    forward(p, o);
            }
            exec_out_free(o);
        }
        if (!any) usleep(200);
        if (clock_now_ns() - start > DEADLINE_NS) {
            fail_msg("nothing comes: %u of %u; %s", *count, n,
                     p->failure.failure.text);
        }
    }
}

/* ---------------------------------------------------------- steps */

/* The whole way of a step: embedding, one visit a layer, head. */
static void fill_stages(struct wire_step *s, struct wire_stage *stages)
{
    uint32_t seen = 0;
    for (uint32_t l = 0; l < LAYERS; l++) {
        const uint32_t n = block_of(l);
        stages[l] = (struct wire_stage){.node = n + 1,
                                        .embed = l == 0,
                                        .again = (seen >> n & 1) != 0,
                                        .layer_first = l,
                                        .layer_end = l + 1};
        seen |= 1u << n;
    }
    stages[LAYERS] = (struct wire_stage){.node = NODES,
                                         .head = true,
                                         .again = true,
                                         .layer_first = LAYERS,
                                         .layer_end = LAYERS};
    s->stages = stages;
    s->n_stages = LAYERS + 1;
}

/* Positions [from, to) of a sequence; the last one wants its logits. */
static void send_rows(struct pool_rig *p, uint64_t epoch, uint32_t seq,
                      uint32_t from, uint32_t to)
{
    struct wire_stage stages[LAYERS + 1];
    struct step_row rows[ROWS];
    struct wire_sample sample = {.inv_temp = 1, .repeat = 1, .whole_row = true};
    struct wire_message m = {.kind = WIRE_STEP};
    if (p->inv_temp > 0) sample.inv_temp = p->inv_temp;
    m.step = (struct wire_step){.epoch = epoch,
                                .step = ++p->step,
                                .n_rows = to - from,
                                .n_want = 1,
                                .rows = rows,
                                .ops = p->op,
                                .n_ops = p->op != NULL,
                                .samples = &sample};
    fill_stages(&m.step, stages);
    for (uint32_t i = from; i < to; i++) {
        rows[i - from] = (struct step_row){.seq = 100 + seq,
                                           .pos = i,
                                           .token = text.tokens[seq][i],
                                           .want = i + 1 == to};
    }
    if (epoch == p->epoch) {
        p->want[p->n_want++] = (struct want){p->step, seq, to - 1};
    }
    /* as it would come from a socket */
    struct exec_out o = {.node = 1};
    buf_init(&o.header, LIMIT_HEADER_BYTES);
    assert_ok(wire_write(&o.header, &m, &rig_err));
    give(p->exec[0], &o);
    buf_fini(&o.header);
}

/* Every sequence in steps of one to six rows, all sequences in flight. */
static void feed_all(struct pool_rig *p)
{
    uint32_t at[N_SEQS] = {0}, left = 1;
    struct rng rng = {p->epoch};
    while (left != 0) {
        p->n_want = 0;
        const uint32_t done = p->n_done;
        left = 0;
        for (uint32_t round = 0; round < 2; round++) {
            for (uint32_t i = 0; i < N_SEQS; i++) {
                uint32_t end = at[i] + 1 + (uint32_t)rng_below(&rng, 6);
                if (end > text.n[i]) end = text.n[i];
                if (at[i] == end) continue;
                send_rows(p, p->epoch, i, at[i], end);
                at[i] = end;
                left++;
            }
        }
        carry_until(p, &p->n_done, done + left);
    }
}

static struct exec *open_exec(uint32_t n_threads)
{
    struct exec *e = NULL;
    const struct exec_options o = {
        .shard = {.isa = cpu_isa(), .blas = BLAS_NEVER, .n_threads = n_threads},
        .notify = no_notice};
    assert_ok(exec_create(&e, &o, &rig_err));
    return e;
}

static void open_pool(struct pool_rig *p, uint32_t n_steps)
{
    *p = (struct pool_rig){.epoch = 1, .n_steps = n_steps};
    for (uint32_t n = 0; n < NODES; n++) {
        p->exec[n] = open_exec(1 + n % 2);
        send_load(p, n);
    }
    carry_until(p, &p->n_ready, NODES);
    assert_int_equal(p->n_failed, 0);
    assert_int_equal(atomic_load(&p->n_released), NODES);
}

static void close_pool(struct pool_rig *p)
{
    for (uint32_t n = 0; n < NODES; n++) exec_free(p->exec[n]);
}

/* ----------------------------------------------------------- the tests */

static void test_same_bits_as_one_shard(void **state)
{
    (void)state;
    struct pool_rig p;
    open_pool(&p, 3);
    feed_all(&p);
    assert_int_equal(p.n_step_failed, 0);
    assert_true(p.n_dispatched > 20); /* experts did go from node to node */
    /* the same once more under another epoch, all loaded anew */
    p.epoch = 2;
    p.n_ready = 0;
    for (uint32_t n = 0; n < NODES; n++) send_load(&p, n);
    carry_until(&p, &p.n_ready, NODES);
    feed_all(&p);
    assert_int_equal(p.n_step_failed, 0);
    close_pool(&p);
}

static void test_answers_may_come_twice(void **state)
{
    (void)state;
    struct pool_rig p;
    open_pool(&p, 3);
    p.twice = true;
    feed_all(&p);
    assert_int_equal(p.n_step_failed, 0);
    close_pool(&p);
}

/* More in flight than fit: those that wait are taken up when one leaves, even
 * if nothing else comes. */
static void test_more_steps_than_fit(void **state)
{
    (void)state;
    struct pool_rig p;
    open_pool(&p, 1);
    feed_all(&p);
    assert_int_equal(p.n_step_failed, 0);
    close_pool(&p);
}

static void test_an_old_epoch_is_ignored(void **state)
{
    (void)state;
    struct pool_rig p;
    open_pool(&p, 3);
    send_rows(&p, 7, 0, 0, 4); /* of a time that is not ours */
    feed_all(&p);              /* would fail if that had left anything */
    assert_int_equal(p.n_results, p.n_done);
    assert_int_equal(p.n_step_failed, 0);
    close_pool(&p);
}

static void test_a_step_that_cannot_run_fails(void **state)
{
    (void)state;
    struct pool_rig p;
    open_pool(&p, 3);
    send_rows(&p, p.epoch, 0, 3, 5); /* positions 0 to 2 are not there */
    carry_until(&p, &p.n_step_failed, 1);
    assert_int_equal(p.failure.kind, WIRE_STEP_FAILED);
    assert_int_equal(p.failure.failure.epoch, p.epoch);
    assert_int_equal(p.failure.failure.step, p.step);
    assert_true(p.failure.failure.text[0] != '\0');
    feed_all(&p);
    close_pool(&p);
}

/* Logits that such a temperature makes infinite do not go over the wire. */
static void test_what_cannot_be_written_fails(void **state)
{
    (void)state;
    struct pool_rig p;
    open_pool(&p, 2);
    p.inv_temp = 3e38f;
    send_rows(&p, p.epoch, 0, 0, 3);
    p.n_want--;
    carry_until(&p, &p.n_step_failed, 1);
    assert_int_equal(p.failure.failure.step, p.step);
    assert_int_equal(p.failure.failure.epoch, p.epoch);
    assert_int_equal(p.failure.failure.status, ST_INVALID);
    assert_non_null(strstr(p.failure.failure.text, "numbers out of range"));
    assert_int_equal(p.n_results, 0);
    close_pool(&p);
}

/* The stages behind the one that fails free what the step frees. */
static void test_what_a_failed_step_frees_is_freed(void **state)
{
    (void)state;
    struct pool_rig p;
    struct kv_op op = {.kind = KV_OP_FREE, .seq = 100};
    open_pool(&p, 3);
    send_rows(&p, p.epoch, 0, 0, 4);
    carry_until(&p, &p.n_done, 1);
    p.op = &op;
    const uint32_t results = p.n_results;
    send_rows(&p, p.epoch, 1, 3, 5); /* positions 0 to 2 are not there */
    p.n_want--;
    carry_until(&p, &p.n_step_failed, 1);
    carry_until(&p, &p.n_results, results + 1);
    p.op = NULL;
    feed_all(&p); /* begins with position 0 again, at every stage */
    close_pool(&p);
}

/* Steps wait for experts for ever; nothing of them is left when the epoch or
 * the thread ends. */
static void test_ends_in_mid_step(void **state)
{
    (void)state;
    struct pool_rig p;
    open_pool(&p, 3);
    p.hold_partials = true;
    for (uint32_t i = 0; i < N_SEQS; i++) send_rows(&p, p.epoch, i, 0, 5);
    carry_until(&p, &p.n_dispatched, 2);
    p.hold_partials = false;
    p.epoch = 2;
    p.n_ready = p.n_want = 0;
    for (uint32_t n = 0; n < NODES; n++) send_load(&p, n);
    carry_until(&p, &p.n_ready, NODES);
    feed_all(&p);
    p.hold_partials = true;
    const uint32_t before = p.n_dispatched;
    p.epoch = 3;
    p.n_ready = p.n_want = 0;
    for (uint32_t n = 0; n < NODES; n++) send_load(&p, n);
    carry_until(&p, &p.n_ready, NODES);
    for (uint32_t i = 0; i < N_SEQS; i++) send_rows(&p, p.epoch, i, 0, 5);
    carry_until(&p, &p.n_dispatched, before + 2);
    close_pool(&p);
}

static void test_a_load_that_fails_says_why(void **state)
{
    (void)state;
    struct pool_rig p = {.epoch = 4, .read_fails = true, .n_steps = 1};
    p.exec[0] = open_exec(1);
    send_load(&p, 0);
    carry_until(&p, &p.n_failed, 1);
    assert_int_equal(p.failure.failure.epoch, 4);
    assert_int_equal(p.failure.failure.status, ST_IO);
    assert_non_null(strstr(p.failure.failure.text, "the cable was cut"));
    assert_int_equal(atomic_load(&p.n_released), 1);
    p.read_fails = false;
    p.epoch = 5;
    send_load(&p, 0);
    carry_until(&p, &p.n_ready, 1);
    exec_free(p.exec[0]);
    assert_int_equal(atomic_load(&p.n_released), 2);
}

/* What never ran gives back what it holds, too. */
static void test_free_before_anything_ran(void **state)
{
    (void)state;
    struct pool_rig p = {.epoch = 1, .n_steps = 1};
    p.exec[0] = open_exec(1);
    for (int i = 0; i < 5; i++) send_load(&p, 0);
    exec_free(p.exec[0]);
    assert_int_equal(atomic_load(&p.n_released), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits_as_one_shard),
        cmocka_unit_test(test_answers_may_come_twice),
        cmocka_unit_test(test_more_steps_than_fit),
        cmocka_unit_test(test_an_old_epoch_is_ignored),
        cmocka_unit_test(test_a_step_that_cannot_run_fails),
        cmocka_unit_test(test_what_cannot_be_written_fails),
        cmocka_unit_test(test_what_a_failed_step_frees_is_freed),
        cmocka_unit_test(test_ends_in_mid_step),
        cmocka_unit_test(test_a_load_that_fails_says_why),
        cmocka_unit_test(test_free_before_anything_ran),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

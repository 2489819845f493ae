/* test_worker.c - the program potluck-worker against a coordinator made of
 * bare sockets: it joins, measures, fetches, computes, comes back, leaves. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/join.h"
#include "engine/cell.h"
#include "engine/numerics.h"
#include "proto/hash.h"
#include "proto/wire.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/net_rig.h"
#include "tests/lib/run_command.h"

#define N_TOKENS 12

/* What the worker did, as the coordinator saw it. */
struct seen {
    uint32_t hellos, reports, beats, readies, failures, drains, byes;
    uint32_t manifests, cells_wanted, results, progress;
    struct wire_hello hello;
    struct wire_report report;
    struct wire_failure failure;
    struct wire_ready ready;
};

struct coordinator {
    struct net_rig net;
    struct net_socket *control, *data, *bulk, *to_worker;
    uint32_t control_port, data_port, bulk_port;
    char dir[256];
    pid_t pid;
    int exit_code; /* -1 while it runs */
    uint8_t key[KEY_BYTES];
    struct seen seen;
    uint32_t n_damaged; /* cells to come with a wrong byte */
    bool no_cells;      /* asked for and not sent */
    float *logits;      /* of the last result */
    uint64_t beats;
    const uint32_t *count; /* what is waited for */
    uint32_t want;
};

static struct rig rig;
static struct rig_text text;
static struct buf header;
static const uint32_t lengths[1] = {N_TOKENS};

static int open_all(void **state)
{
    (void)state;
    struct gen_model m = rig_moe();
    rig_open(&rig, &m);
    rig_text_open(&text, &rig, KV_F16, 1, lengths);
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

/* ------------------------------------------------------------- sending */

static void send_on(struct coordinator *c, struct net_socket *s,
                    const struct wire_message *m, const void *tensor, size_t n)
{
    struct buf b;
    buf_init(&b, LIMIT_ASSIGN_BYTES);
    assert_ok(wire_write(&b, m, &rig_err));
    const struct net_frame h = {b.data, b.len}, t = {tensor, n};
    assert_int_equal(s == c->to_worker ? net_send(s, h, t)
                                       : net_send_to(s, c->key, h, t),
                     ST_OK);
    buf_fini(&b);
}

static void send_control(struct coordinator *c, enum wire_kind kind)
{
    const struct wire_message m = {.kind = kind};
    send_on(c, c->control, &m, NULL, 0);
}

static void send_beat(struct coordinator *c, uint64_t epoch)
{
    struct wire_message m = {.kind = WIRE_HEARTBEAT};
    m.heartbeat.n = ++c->beats;
    m.heartbeat.epoch = epoch;
    send_on(c, c->control, &m, NULL, 0);
}

static void send_welcome(struct coordinator *c, uint64_t boot, uint32_t node,
                         uint32_t lease_ms)
{
    struct wire_message m = {.kind = WIRE_WELCOME};
    m.welcome = (struct wire_welcome){.protocol = 1,
                                      .coordinator_boot = boot,
                                      .node = node,
                                      .heartbeat_ms = 50,
                                      .lease_ms = lease_ms,
                                      .data_port = c->data_port,
                                      .bulk_port = c->bulk_port};
    send_on(c, c->control, &m, NULL, 0);
}

/* All of the model. */
static void send_assign(struct coordinator *c, uint64_t epoch)
{
    struct wire_message m = {.kind = WIRE_ASSIGN};
    struct wire_assign *a = &m.assign;
    *a = (struct wire_assign){.epoch = epoch,
                              .model_header = (uint8_t *)header.data,
                              .model_header_bytes = header.len,
                              .embed = true,
                              .vocab_end = text.n_vocab,
                              .n_layer = rig.model.n_layer,
                              .n_ctx = rig.model.n_ctx,
                              .n_seq_max = 4,
                              .rows_max = 33,
                              .outputs_max = 4,
                              .kv_type = KV_F16,
                              .n_steps = 2};
    hash_of(a->model_id, header.data, header.len);
    a->blocks = mem_zalloc(a->n_layer);
    a->experts = mem_zalloc_array((size_t)4 * a->n_layer, sizeof *a->experts);
    a->expert_node = mem_zalloc_array((size_t)a->n_layer * MODEL_EXPERTS_MAX,
                                      sizeof *a->expert_node);
    assert_true(a->blocks && a->experts && a->expert_node);
    for (uint32_t l = 0; l < a->n_layer; l++) {
        a->blocks[l] = 1;
        a->experts[4 * l] = (UINT64_C(1) << rig.model.n_expert) - 1;
    }
    send_on(c, c->control, &m, NULL, 0);
    wire_message_fini(&m);
}

static void send_step(struct coordinator *c, uint64_t epoch, uint32_t node)
{
    struct wire_stage stage = {.node = node,
                               .embed = true,
                               .head = true,
                               .layer_end = rig.model.n_layer};
    struct step_row rows[N_TOKENS];
    struct wire_sample sample = {.inv_temp = 1, .repeat = 1, .whole_row = true};
    struct wire_message m = {.kind = WIRE_STEP};
    m.step = (struct wire_step){.epoch = epoch,
                                .step = 1,
                                .stages = &stage,
                                .n_stages = 1,
                                .rows = rows,
                                .n_rows = N_TOKENS,
                                .samples = &sample,
                                .n_want = 1};
    for (uint32_t i = 0; i < N_TOKENS; i++) {
        rows[i] = (struct step_row){.seq = 9,
                                    .pos = i,
                                    .token = text.tokens[0][i],
                                    .want = i + 1 == N_TOKENS};
    }
    send_on(c, c->to_worker, &m, NULL, 0);
}

/* ----------------------------------------------------------- receiving */

static void read_cell(struct wire_cell_id id, struct buf *out)
{
    char *to;
    const struct gguf_tensor *t = gguf_tensor(rig.gguf, id.tensor);
    assert_non_null(t);
    const struct cell_range r = cell_range(t, id.cell);
    assert_true(r.n > 0);
    out->len = 0;
    assert_int_equal(buf_reserve(out, r.n, &to), ST_OK);
    assert_ok(gguf_read(rig.gguf, t, r.from, to, r.n, &rig_err));
    out->len = r.n;
}

static void send_manifest(struct coordinator *c, const struct wire_cells *w)
{
    struct wire_message m = {.kind = WIRE_MANIFEST};
    struct buf b;
    buf_init(&b, CELL_BYTES_MAX);
    memcpy(m.cells.model_id, w->model_id, KEY_BYTES);
    m.cells.n = w->n;
    m.cells.ids = w->ids;
    m.cells.hashes = mem_zalloc_array(w->n, HASH_BYTES);
    for (uint32_t i = 0; i < w->n; i++) {
        read_cell(w->ids[i], &b);
        hash_of(m.cells.hashes + (size_t)i * HASH_BYTES, b.data, b.len);
    }
    send_on(c, c->bulk, &m, NULL, 0);
    mem_free(m.cells.hashes);
    buf_fini(&b);
}

static void send_cells(struct coordinator *c, const struct wire_cells *w)
{
    struct buf b;
    buf_init(&b, CELL_BYTES_MAX);
    for (uint32_t i = 0; i < w->n && !c->no_cells; i++) {
        struct wire_message m = {.kind = WIRE_CELL};
        memcpy(m.cell.model_id, w->model_id, KEY_BYTES);
        m.cell.id = w->ids[i];
        read_cell(w->ids[i], &b);
        if (c->n_damaged > 0) {
            c->n_damaged--;
            b.data[b.len / 2] ^= 1;
        }
        send_on(c, c->bulk, &m, b.data, b.len);
    }
    buf_fini(&b);
}

static void note_control(struct coordinator *c, const struct wire_message *m)
{
    struct seen *s = &c->seen;
    s->hellos += m->kind == WIRE_HELLO;
    s->reports += m->kind == WIRE_REPORT;
    s->beats += m->kind == WIRE_HEARTBEAT;
    s->readies += m->kind == WIRE_READY;
    s->failures += m->kind == WIRE_FAILURE;
    s->drains += m->kind == WIRE_DRAIN;
    s->byes += m->kind == WIRE_BYE;
    s->progress += m->kind == WIRE_PROGRESS;
    if (m->kind == WIRE_HELLO) s->hello = m->hello;
    if (m->kind == WIRE_REPORT) s->report = m->report;
    if (m->kind == WIRE_FAILURE) s->failure = m->failure;
    if (m->kind == WIRE_READY) s->ready = m->ready;
}

static void receive(void *arg, struct net_socket *s,
                    const uint8_t key[KEY_BYTES], const char *host,
                    struct net_frame h, struct net_frame t)
{
    struct coordinator *c = arg;
    struct wire_message m;
    assert_ok(wire_read(&m, h.data, h.bytes, t.data, t.bytes, &rig_err));
    assert_string_equal(host, s == c->to_worker ? "" : "127.0.0.1");
    if (s == c->control) {
        memcpy(c->key, key, KEY_BYTES);
        note_control(c, &m);
    } else if (m.kind == WIRE_CELLS_WANTED) {
        c->seen.manifests += m.cells.manifest_only;
        c->seen.cells_wanted += m.cells.manifest_only ? 0 : m.cells.n;
        if (m.cells.manifest_only)
            send_manifest(c, &m.cells);
        else
            send_cells(c, &m.cells);
    } else if (m.kind == WIRE_ECHO) {
        struct wire_message reply = {.kind = WIRE_ECHO,
                                     .echo = {.n = m.echo.n}};
        void *tensor = mem_zalloc(m.echo.reply_bytes);
        send_on(c, s, &reply, tensor, m.echo.reply_bytes);
        mem_free(tensor);
    } else if (m.kind == WIRE_RESULT) {
        assert_int_equal(t.bytes, text.n_vocab * sizeof(float));
        memcpy(c->logits, t.data, t.bytes);
        c->seen.results++;
    }
    wire_message_fini(&m);
}

static bool admit(void *arg, struct net_socket *s, const uint8_t key[KEY_BYTES])
{
    (void)arg, (void)s, (void)key;
    return true;
}

static struct net_options options(struct coordinator *c)
{
    return (struct net_options){.name = "test",
                                .message_max = LIMIT_TENSOR_BYTES,
                                .queue_max = 1000,
                                .receive = receive,
                                .admit = admit,
                                .arg = c};
}

static bool reached(void *arg)
{
    struct coordinator *c = arg;
    return *c->count >= c->want;
}

static void wait_for(struct coordinator *c, const uint32_t *count,
                     uint32_t want)
{
    c->count = count;
    c->want = want;
    if (!net_rig_until(&c->net, reached, c)) {
        fail_msg("it did not come: %s", c->seen.failure.text);
    }
}

/* -------------------------------------------------------------- program */

static void start(struct coordinator *c, const char *const *more)
{
    char program[4096], join_text[JOIN_TEXT_BYTES];
    char cache[300], state[300], errors[300];
    struct join j = {.host = "127.0.0.1", .port = c->control_port};
    memcpy(j.key, c->net.server_key.pub, KEY_BYTES);
    snprintf(j.token, sizeof j.token, "let-me-in");
    join_format(join_text, &j);
    built_program(program, "potluck-worker");
    snprintf(cache, sizeof cache, "%s/cache", c->dir);
    snprintf(state, sizeof state, "%s/state", c->dir);
    snprintf(errors, sizeof errors, "%s/stderr", c->dir);
    const char *argv[16] = {program, "--state",  state,    "--cache",
                            cache,   "--name",   "old-pc", "--threads",
                            "2",     "--memory", "1G"};
    size_t n = 11;
    for (; more && *more; more++) argv[n++] = *more;
    c->exit_code = -1;
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid > 0) return;
    setenv("POTLUCK_JOIN", join_text, 1);
    if (!freopen(errors, "a", stderr)) _exit(126);
    execv(program, (char *const *)argv);
    _exit(127);
}

static bool ended(void *arg)
{
    struct coordinator *c = arg;
    int status;
    if (waitpid(c->pid, &status, WNOHANG) != c->pid) return false;
    c->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
    return true;
}

static void expect_exit(struct coordinator *c, int code)
{
    assert_true(net_rig_until(&c->net, ended, c));
    assert_int_equal(c->exit_code, code);
}

static bool said(struct coordinator *c, const char *words)
{
    char path[300], line[1000];
    bool found = false;
    snprintf(path, sizeof path, "%s/stderr", c->dir);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        found = found || strstr(line, words) != NULL;
    }
    if (f) fclose(f);
    return found;
}

static void begin(struct coordinator *c)
{
    *c = (struct coordinator){.exit_code = -1};
    snprintf(c->dir, sizeof c->dir, "/tmp/test_worker_XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    c->logits = mem_zalloc_array(text.n_vocab, sizeof *c->logits);
    net_rig_begin(&c->net);
    const struct net_options o = options(c);
    struct net_socket **to[] = {&c->control, &c->data, &c->bulk};
    uint32_t *ports[] = {&c->control_port, &c->data_port, &c->bulk_port};
    for (size_t i = 0; i < COUNT_OF(to); i++) {
        assert_ok(net_listen(to[i], c->net.server, "127.0.0.1", ports[i], &o,
                             &rig_err));
    }
}

static void end(struct coordinator *c)
{
    if (c->exit_code < 0) {
        kill(c->pid, SIGKILL);
        waitpid(c->pid, NULL, 0);
    }
    assert_true(net_rig_end(&c->net));
    mem_free(c->logits);
    const char *const argv[] = {"/bin/rm", "-rf", c->dir, NULL};
    const struct command remove = {.argv = argv};
    struct outcome o;
    assert_ok(run_command(&o, &remove, &rig_err));
    assert_int_equal(o.code, 0);
    outcome_fini(&o);
}

static void join_and_report(struct coordinator *c)
{
    wait_for(c, &c->seen.hellos, 1);
    send_welcome(c, 77, 5, 60000);
    send_control(c, WIRE_PROBE);
    wait_for(c, &c->seen.reports, 1);
}

static void connect_data(struct coordinator *c)
{
    const struct net_options o = options(c);
    assert_ok(net_connect(&c->to_worker, c->net.server, "127.0.0.1",
                          c->seen.hello.data_port, c->key, &o, &rig_err));
}

/* --------------------------------------------------------------- tests */

static void test_joins_and_reports(void **state)
{
    (void)state;
    struct coordinator c;
    begin(&c);
    start(&c, NULL);
    join_and_report(&c);
    const struct wire_hello *h = &c.seen.hello;
    assert_string_equal(h->name, "old-pc");
    assert_string_equal(h->token, "let-me-in");
    assert_int_equal(h->numerics_version, NUMERICS_VERSION);
    assert_int_equal(h->n_threads, 2);
    assert_int_equal(h->memory_bytes, 1u << 30);
    const struct wire_report *r = &c.seen.report;
    assert_true(r->read_bytes_per_s > 1e6);
    assert_true(r->link_bytes_per_s > 1e5 && r->link_latency_s > 0);
    assert_true(r->n_rates >= 8);
    wait_for(&c, &c.seen.beats, 3);
    end(&c);
}

/* Only what is asked for, and none twice. */
static void test_measures_what_is_asked(void **state)
{
    (void)state;
    struct coordinator c;
    struct wire_message probe = {.kind = WIRE_PROBE};
    begin(&c);
    start(&c, NULL);
    wait_for(&c, &c.seen.hellos, 1);
    send_welcome(&c, 77, 5, 60000);
    probe.probe = (struct wire_probe){.n_types = 1, .types = {QUANT_Q4_K}};
    send_on(&c, c.control, &probe, NULL, 0);
    wait_for(&c, &c.seen.reports, 1);
    assert_int_equal(c.seen.report.n_rates, 1);
    const double first = c.seen.report.rates[0].bytes_per_s;
    probe.probe =
        (struct wire_probe){.n_types = 2, .types = {QUANT_F32, QUANT_Q4_K}};
    send_on(&c, c.control, &probe, NULL, 0);
    wait_for(&c, &c.seen.reports, 2);
    assert_int_equal(c.seen.report.n_rates, 2);
    assert_int_equal(c.seen.report.rates[0].type, QUANT_Q4_K);
    assert_true(c.seen.report.rates[0].bytes_per_s == first);
    assert_int_equal(c.seen.report.rates[1].type, QUANT_F32);
    end(&c);
}

static void test_loads_computes_comes_back_and_leaves(void **state)
{
    (void)state;
    struct coordinator c;
    begin(&c);
    start(&c, NULL);
    join_and_report(&c);
    c.n_damaged = 2; /* asked for again */
    send_assign(&c, 1);
    wait_for(&c, &c.seen.readies, 1);
    assert_int_equal(c.seen.failures, 0);
    assert_int_equal(c.seen.ready.epoch, 1);
    assert_true(c.seen.cells_wanted > 10 && c.seen.manifests > 0);
    connect_data(&c);
    send_step(&c, 1, 5);
    wait_for(&c, &c.seen.results, 1);
    const float *want = text.want[0] + (size_t)(N_TOKENS - 1) * text.n_vocab;
    rig_assert_same(c.logits, want, text.n_vocab, "logits over sockets");

    /* another coordinator's boot: all anew, but for cells and rates */
    send_welcome(&c, 78, 6, 60000);
    send_control(&c, WIRE_PROBE);
    wait_for(&c, &c.seen.reports, 2);
    const uint32_t fetched = c.seen.cells_wanted;
    send_assign(&c, 1);
    wait_for(&c, &c.seen.readies, 2);
    assert_int_equal(c.seen.cells_wanted, fetched);
    memset(c.logits, 0, text.n_vocab * sizeof *c.logits);
    send_step(&c, 1, 6);
    wait_for(&c, &c.seen.results, 2);
    rig_assert_same(c.logits, want, text.n_vocab, "logits of a second boot");

    kill(c.pid, SIGTERM);
    wait_for(&c, &c.seen.drains, 1);
    assert_int_equal(c.seen.byes, 0);
    send_beat(&c, 2); /* the pool has gone on without it */
    wait_for(&c, &c.seen.byes, 1);
    expect_exit(&c, 0);
    end(&c);
}

static void test_says_hello_again_after_silence(void **state)
{
    (void)state;
    struct coordinator c;
    begin(&c);
    start(&c, NULL);
    wait_for(&c, &c.seen.hellos, 1);
    send_welcome(&c, 77, 5, 400);
    c.no_cells = true;
    send_assign(&c, 1);
    wait_for(&c, &c.seen.cells_wanted, 1);
    const uint64_t boot = c.seen.hello.boot_id;
    c.seen.hellos = 0;
    wait_for(&c, &c.seen.hellos, 1); /* in mid-load */
    assert_int_equal(c.seen.hello.boot_id, boot);
    assert_true(said(&c, "lost the coordinator, joining again"));
    c.no_cells = false;
    send_welcome(&c, 77, 6, 60000);
    send_assign(&c, 2);
    wait_for(&c, &c.seen.readies, 1);
    assert_int_equal(c.seen.ready.epoch, 2);
    assert_int_equal(c.seen.failures, 0);
    /* not known any more */
    c.seen.hellos = 0;
    struct wire_message m = {.kind = WIRE_REFUSE};
    m.failure.status = ST_NOT_FOUND;
    snprintf(m.failure.text, sizeof m.failure.text, "not a member");
    send_on(&c, c.control, &m, NULL, 0);
    wait_for(&c, &c.seen.hellos, 1);
    end(&c);
}

static void test_a_new_assignment_ends_the_one_before(void **state)
{
    (void)state;
    struct coordinator c;
    begin(&c);
    start(&c, NULL);
    join_and_report(&c);
    c.no_cells = true;
    send_assign(&c, 3);
    wait_for(&c, &c.seen.cells_wanted, 1);
    c.no_cells = false;
    send_assign(&c, 4);
    wait_for(&c, &c.seen.readies, 1);
    assert_int_equal(c.seen.ready.epoch, 4);
    assert_int_equal(c.seen.failures, 0);
    send_assign(&c, 2); /* late */
    kill(c.pid, SIGTERM);
    wait_for(&c, &c.seen.drains, 1);
    kill(c.pid, SIGTERM); /* no more waiting */
    wait_for(&c, &c.seen.byes, 1);
    expect_exit(&c, 0);
    assert_int_equal(c.seen.readies, 1);
    end(&c);
}

static void test_a_damaged_model_is_told(void **state)
{
    (void)state;
    struct coordinator c;
    begin(&c);
    start(&c, NULL);
    join_and_report(&c);
    c.n_damaged = 1000000;
    send_assign(&c, 1);
    wait_for(&c, &c.seen.failures, 1);
    assert_int_equal(c.seen.failure.status, ST_INVALID);
    assert_non_null(strstr(c.seen.failure.text, "damaged"));
    c.n_damaged = 0;
    send_assign(&c, 2);
    wait_for(&c, &c.seen.readies, 1);
    end(&c);
}

static void test_what_is_refused_ends(void **state)
{
    (void)state;
    struct coordinator c;
    begin(&c);
    start(&c, NULL);
    wait_for(&c, &c.seen.hellos, 1);
    struct wire_message m = {.kind = WIRE_REFUSE};
    m.failure.status = ST_INVALID;
    snprintf(m.failure.text, sizeof m.failure.text, "the token has expired");
    send_on(&c, c.control, &m, NULL, 0);
    expect_exit(&c, 5);
    assert_true(said(&c, "the token has expired"));
    end(&c);
}

static void test_bytes_that_are_no_message(void **state)
{
    (void)state;
    struct coordinator c;
    begin(&c);
    start(&c, NULL);
    join_and_report(&c);
    connect_data(&c);
    const struct net_frame junk = {"\xff\xff\xffjunk", 7};
    assert_int_equal(net_send_to(c.control, c.key, junk, junk), ST_OK);
    assert_int_equal(net_send(c.to_worker, junk, junk), ST_OK);
    assert_int_equal(net_send_to(c.data, c.key, junk, junk), ST_OK);
    send_assign(&c, 1);
    wait_for(&c, &c.seen.readies, 1);
    end(&c);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_joins_and_reports),
        cmocka_unit_test(test_measures_what_is_asked),
        cmocka_unit_test(test_loads_computes_comes_back_and_leaves),
        cmocka_unit_test(test_says_hello_again_after_silence),
        cmocka_unit_test(test_a_new_assignment_ends_the_one_before),
        cmocka_unit_test(test_a_damaged_model_is_told),
        cmocka_unit_test(test_what_is_refused_ends),
        cmocka_unit_test(test_bytes_that_are_no_message),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

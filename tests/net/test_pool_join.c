/* test_pool_join.c - who may join and who not, and what each is told; what a
 * coordinator cannot start with; too little memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/join.h"
#include "engine/numerics.h"
#include "proto/wire.h"
#include "tests/lib/fault_rig.h"
#include "tests/lib/net_rig.h"

static struct fault_rig rig;

/* DIR/name with the pool's join string, changed in one way. */
static const char *other_string(const char *name, bool key, bool token,
                                bool port)
{
    struct join j;
    struct error err;
    char text[JOIN_TEXT_BYTES];
    const char *scheme = strstr(rig.lan.join, "potluck://");
    assert_non_null(scheme);
    assert_int_equal(join_parse(&j, scheme, &err), ST_OK);
    if (key) j.key[5] ^= 1;
    if (token) j.token[3] = j.token[3] == 'a' ? 'b' : 'a';
    if (port) j.port = 1;
    join_format(text, &j);
    const char *path = lan_path(&rig.lan, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "%s\n", text);
    assert_int_equal(fclose(f), 0);
    return path;
}

/* Worker i ends by itself, with this exit code and these words. */
static void ends(uint32_t i, int code, const char *said)
{
    char who[16];
    snprintf(who, sizeof who, "pc-%u", i);
    lan_wait_said(&rig.lan, who, said);
    assert_int_equal(lan_wait_exit(rig.lan.workers[i]), code);
    rig.lan.workers[i] = 0;
}

static void join_by(uint32_t i, const char *path)
{
    lan_join(&rig.lan, i, (const char *const[]){"--join-file", path, NULL});
}

static void test_wrong_strings(void **state)
{
    (void)state;
    fault_begin(&rig);
    fault_serve(&rig, 1, NULL);
    join_by(2, other_string("token", false, true, false));
    join_by(3, other_string("key", true, false, false));
    join_by(4, other_string("port", false, false, true));
    ends(2, 5,
         "the join string's token is wrong or its time is over: run "
         "`potluck keys invite`");
    lan_wait_said(&rig.lan, "pc-3", "no answer from 127.0.0.1:");
    lan_wait_said(&rig.lan, "pc-4",
                  "no answer from 127.0.0.1:1: is potluck serve running there");
    fault_answers(&rig, "0");
    assert_int_equal(lan_stop_worker(&rig.lan, 3), 0);
    assert_int_equal(lan_stop_worker(&rig.lan, 4), 0);
    /* a token of 6 ms; who is enrolled needs none */
    assert_int_equal(lan_stop_coordinator(&rig.lan), 0);
    lan_serve(&rig.lan, rig.model,
              (const char *const[]){"--workers", "1", "--ctx", FAULT_CTX,
                                    "--invite", "0.0001", NULL});
    lan_wait_state(&rig.lan, "serving");
    lan_join(&rig.lan, 5, NULL);
    ends(5, 5, "its time is over");
    lan_wait_nodes(&rig.lan, 1, "serving");
    fault_answers(&rig, "0");
    fault_end(&rig);
}

/* --------------------------------------------------------------- keys */

static void keys(const char *verb, const char *who, const char *said)
{
    struct outcome o =
        CLI("keys", "--state", lan_path(&rig.lan, "state"), verb, who);
    if (o.code != 0 || !strstr(o.out.data, said)) {
        fail_msg("keys %s: %d: %s%s", verb, o.code, o.out.data, o.err.data);
    }
    outcome_fini(&o);
}

static void test_approval_and_revocation(void **state)
{
    (void)state;
    fault_begin(&rig);
    lan_serve(&rig.lan, rig.model,
              (const char *const[]){"--workers", "2", "--spread", "--ctx",
                                    FAULT_CTX, "--invite", "0", NULL});
    assert_null(strstr(rig.lan.join, "token"));
    lan_join_all(&rig.lan, 2);
    for (uint32_t i = 1; i <= 2; i++) {
        char who[16], line[64];
        snprintf(who, sizeof who, "pc-%u", i);
        snprintf(line, sizeof line, "pending    %s", who);
        lan_wait_said(&rig.lan, who,
                      "waits for approval: run `potluck keys approve");
        keys("list", NULL, line);
    }
    cli_expect(LAN_RUN(&rig.lan, "--raw", "A"), 4, "waiting for workers");
    keys("approve", "pc-1", "may join");
    keys("approve", "pc-2", "may join");
    lan_wait_nodes(&rig.lan, 2, "serving");
    fault_answers(&rig, "0");
    const pid_t answer = fault_long(&rig);
    keys("revoke", "pc-2", "is out");
    fault_broke_off(&rig, answer, "pc-2 had its key revoked");
    ends(2, 5, "the key of this machine was revoked");
    fault_answers(&rig, "0");
    lan_wait_nodes(&rig.lan, 1, "serving");
    keys("list", NULL, "revoked    pc-2");
    lan_join(&rig.lan, 2, NULL);
    lan_wait_said(&rig.lan, "pc-2", "was this PC's key revoked?");
    keys("approve", "pc-2", "may join");
    lan_wait_used(&rig.lan, 2, true);
    fault_answers(&rig, "0");
    fault_end(&rig);
}

/* ----------------------------------------------------------- versions */

static void say_hello(struct net_socket *s, const struct join *j)
{
    struct wire_message m = {.kind = WIRE_HELLO};
    struct buf b;
    buf_init(&b, LIMIT_HELLO_BYTES);
    m.hello = (struct wire_hello){.protocol_min = PROTOCOL_MIN,
                                  .protocol_max = PROTOCOL_MAX,
                                  .numerics_version = NUMERICS_VERSION + 1,
                                  .boot_id = 1,
                                  .n_threads = 1,
                                  .memory_bytes = 1u << 30,
                                  .data_port = 1};
    snprintf(m.hello.name, sizeof m.hello.name, "newer");
    snprintf(m.hello.token, sizeof m.hello.token, "%s", j->token);
    assert_int_equal(wire_write(&b, &m, NULL), ST_OK);
    assert_int_equal(
        net_send(s, (struct net_frame){b.data, b.len}, net_rig_none), ST_OK);
    buf_fini(&b);
}

static void test_other_numerics(void **state)
{
    (void)state;
    struct net_rig net;
    struct net_inbox in = {.want = 1};
    struct net_socket *s;
    struct join j;
    struct error err;
    struct wire_message m;
    char both[64];
    fault_begin(&rig);
    fault_serve(&rig, 1, NULL);
    const char *scheme = strstr(rig.lan.join, "potluck://");
    assert_non_null(scheme);
    assert_int_equal(join_parse(&j, scheme, &err), ST_OK);
    net_rig_begin(&net);
    const struct net_options o = net_rig_options(&in);
    assert_int_equal(
        net_connect(&s, net.client, "127.0.0.1", j.port, j.key, &o, &err),
        ST_OK);
    say_hello(s, &j);
    assert_true(net_rig_until(&net, net_inbox_full, &in));
    assert_int_equal(wire_read(&m, in.message[0].header,
                               in.message[0].header_bytes, NULL, 0, &err),
                     ST_OK);
    assert_int_equal(m.kind, WIRE_REFUSE);
    assert_int_equal(m.failure.status, ST_UNSUPPORTED);
    snprintf(both, sizeof both,
             "newer computes by numerics version %d, the "
             "coordinator by %d",
             NUMERICS_VERSION + 1, NUMERICS_VERSION);
    assert_non_null(strstr(m.failure.text, both));
    assert_non_null(strstr(m.failure.text, "install the same version"));
    wire_message_fini(&m);
    net_inbox_fini(&in);
    assert_true(net_rig_end(&net));
    lan_wait_nodes(&rig.lan, 1, "serving");
    fault_answers(&rig, "0");
    fault_end(&rig);
}

/* ----------------------------------------------------- what is lacking */

/* Files of 8 KiB at most, as with a disk that is full but for them. */
static const char *const small_files[] = {
    "/bin/sh", "-c", "ulimit -f 16; exec \"$0\" \"$@\"", NULL};

static void test_no_room_for_the_cache(void **state)
{
    (void)state;
    static const char said[] = "nothing more is kept there";
    fault_begin(&rig);
    rig.lan.worker_prefix[1] = small_files;
    lan_serve(&rig.lan, rig.model,
              (const char *const[]){"--workers", "2", "--spread", "--ctx",
                                    FAULT_CTX, NULL});
    lan_join(&rig.lan, 1, NULL);
    lan_join(&rig.lan, 2,
             (const char *const[]){"--cache", "/proc/no/such", NULL});
    lan_wait_state(&rig.lan, "serving");
    fault_answers(&rig, "0");
    for (uint32_t i = 1; i <= 2; i++) {
        char log[16];
        snprintf(log, sizeof log, "pc-%u.log", i);
        struct buf b = cli_read(lan_path(&rig.lan, log));
        const char *first = strstr(b.data, said);
        assert_non_null(first);
        assert_null(strstr(first + 1, said)); /* once */
        buf_fini(&b);
    }
    fault_end(&rig);
}

static void test_starts_that_fail(void **state)
{
    (void)state;
    fault_begin(&rig);
    lan_serve(&rig.lan, rig.model, NULL);
    struct lan *r = &rig.lan;
    lan_serve_fails(r, "No such file", "/no/such/model.gguf", NULL);
    cli_write("no.gguf", "GGUFGGUFGGUF", 12);
    lan_serve_fails(r, "no.gguf", cli_path("no.gguf"), NULL);
    cli_write("text.gguf", "a letter to a friend", 20);
    lan_serve_fails(r, "not a GGUF file", cli_path("text.gguf"), NULL);
    lan_serve_fails(r, "is in use", rig.model,
                    (const char *const[]){"--listen", r->listen, NULL});
    lan_serve_fails(r, "in use", rig.model,
                    (const char *const[]){"--http", r->http_address, NULL});
    lan_serve_fails(
        r, "a coordinator runs already with the state in", rig.model,
        (const char *const[]){"--state", lan_path(r, "state"), NULL});
    lan_join(r, 1, NULL); /* all of that has not disturbed it */
    fault_answers(&rig, "100");
    fault_end(&rig);
}

/* Two of these PCs hold the model, and one does not. */
static void test_survivors_without_memory(void **state)
{
    (void)state;
    static const char *const memory[] = {"--memory", "120M", NULL};
    fault_begin(&rig);
    cli_model("big.gguf", "moe-12",
              (const char *const[]){"n_layer=8", "n_ff=4096", "pool_rows=64",
                                    "seed=2", NULL});
    lan_serve(&rig.lan, cli_path("big.gguf"),
              (const char *const[]){"--workers", "2", "--ctx", "512", NULL});
    lan_join(&rig.lan, 1, memory);
    lan_join(&rig.lan, 2, memory);
    lan_wait_state(&rig.lan, "serving");
    struct outcome first =
        LAN_RUN(&rig.lan, "--raw", "--temp", "0", "-n", "5", "--json", "A");
    assert_int_equal(first.code, 0);
    lan_kill_worker(&rig.lan, 2);
    lan_wait_state(&rig.lan, "starved");
    cli_expect(LAN_RUN(&rig.lan, "--raw", "A"), 4, " MiB are missing");
    lan_join(&rig.lan, 2, memory);
    lan_wait_state(&rig.lan, "serving");
    struct outcome again =
        LAN_RUN(&rig.lan, "--raw", "--temp", "0", "-n", "5", "--json", "A");
    json_t *a = cli_json(first, 0), *b = cli_json(again, 0);
    assert_true(json_equal(json_at(a, "tokens"), json_at(b, "tokens")));
    json_decref(a);
    json_decref(b);
    fault_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_strings),
        cmocka_unit_test(test_approval_and_revocation),
        cmocka_unit_test(test_other_numerics),
        cmocka_unit_test(test_no_room_for_the_cache),
        cmocka_unit_test(test_starts_that_fail),
        cmocka_unit_test(test_survivors_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* fault_rig.c - see the header. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/lib/fault_rig.h"

#include <stdio.h>
#include <string.h>

static void begin(struct fault_rig *p)
{
    cli_expect(CLI("local", p->model, "--raw", "--temp", "0", "-n", p->n_short,
                   "-t", "1", "--logits", cli_path("want"), "--", p->prompt),
               0, "");
    p->logits = cli_read(cli_path("want"));
    assert_true(p->logits.len > 0 && p->logits.len % p->row_bytes == 0);
}

void fault_begin(struct fault_rig *p)
{
    *p = (struct fault_rig){.prompt = "Once upon a time",
                            .ctx = FAULT_CTX,
                            .n_short = "5",
                            .n_most = "4000",
                            .row_bytes = 1000 * sizeof(float)};
    cli_begin();
    lan_begin(&p->lan);
    cli_model(
        "moe.gguf", "moe-12",
        (const char *const[]){"n_layer=4", "n_ctx=32768", "seed=2", NULL});
    snprintf(p->model, sizeof p->model, "%s", cli_path("moe.gguf"));
    begin(p);
    assert_int_equal(p->logits.len, 5 * p->row_bytes);
}

void fault_begin_demo(struct fault_rig *p)
{
    *p = (struct fault_rig){
        .prompt = "Once upon a time there was a clever fox named Rusty.",
        .ctx = "512",
        .n_short = "60",
        .n_most = "450",
        .row_bytes = 3072 * sizeof(float)};
    cli_begin();
    lan_begin(&p->lan);
    snprintf(p->model, sizeof p->model, "%s", FAULT_DEMO);
    begin(p);
}

void fault_end(struct fault_rig *p)
{
    buf_fini(&p->logits);
    lan_end(&p->lan);
    cli_end();
}

void fault_serve(struct fault_rig *p, uint32_t n, const char *const *more)
{
    char number[16];
    const char *args[40] = {"--workers", number,    "--ctx",
                            p->ctx,      "--users", "2"};
    size_t k = 6;
    snprintf(number, sizeof number, "%u", n);
    for (; more && *more; more++) args[k++] = *more;
    lan_serve(&p->lan, p->model, args);
    lan_join_all(&p->lan, n);
    lan_wait_state(&p->lan, "serving");
}

void fault_answers(struct fault_rig *p, const char *wait)
{
    cli_expect(LAN_RUN(&p->lan, "--raw", "--temp", "0", "-n", p->n_short,
                       "--wait", wait, "--logits", cli_path("got"), "--",
                       p->prompt),
               0, "");
    struct buf b = cli_read(cli_path("got"));
    assert_int_equal(b.len, p->logits.len);
    assert_memory_equal(b.data, p->logits.data, b.len);
    buf_fini(&b);
}

pid_t fault_long(struct fault_rig *p)
{
    char rows[32];
    snprintf(rows, sizeof rows, "rows-%u", ++p->n_long);
    const pid_t pid =
        lan_run_async(&p->lan, "long",
                      (const char *const[]){
                          "--raw", "--temp", "0", "-n", p->n_most, "--logits",
                          lan_path(&p->lan, rows), "--", p->prompt, NULL});
    lan_wait_bytes(&p->lan, rows, 2 * p->row_bytes);
    return pid;
}

/* The log of the last one stands behind those of the earlier ones. */
void fault_broke_off(struct fault_rig *p, pid_t pid, const char *said)
{
    assert_int_equal(lan_wait_exit(pid), 6);
    struct buf b = cli_read(lan_path(&p->lan, "long.err"));
    if (b.len > 0) b.data[b.len - 1] = '\0';
    const char *last = strrchr(b.data, '\n');
    if (!strstr(last ? last : b.data, said)) {
        fail_msg("wanted \"%s\" in: %s", said, b.data);
    }
    buf_fini(&b);
}

pid_t fault_medium(struct fault_rig *p, const char *name, const char *n)
{
    char out[64];
    snprintf(out, sizeof out, "%s.out", name);
    const pid_t pid = lan_run_async(
        &p->lan, out,
        (const char *const[]){"--raw", "--temp", "0", "-n", n, "--logits",
                              lan_path(&p->lan, name), "--", p->prompt, NULL});
    lan_wait_bytes(&p->lan, name, p->row_bytes);
    return pid;
}

void fault_finished(struct fault_rig *p, pid_t pid, const char *name,
                    const char *n)
{
    struct outcome o =
        CLI("local", p->model, "--raw", "--temp", "0", "-n", n, "-t", "1",
            "--logits", cli_path("whole"), "--", p->prompt);
    assert_int_equal(o.code, 0);
    outcome_fini(&o);
    assert_int_equal(lan_wait_exit(pid), 0);
    struct buf got = cli_read(lan_path(&p->lan, name));
    struct buf want = cli_read(cli_path("whole"));
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.data, want.data, want.len);
    buf_fini(&got);
    buf_fini(&want);
}

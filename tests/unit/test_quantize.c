/* test_quantize.c - potluck quantize: mixes, refusals, and that a run that
 * does not end well leaves nothing. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/mem.h"
#include "engine/quantize.h"
#include "tests/lib/cli.h"

static int setup(void **state)
{
    (void)state;
    cli_begin();
    cli_model("dense.gguf", "tiny-dense",
              (const char *const[]){"n_layer=1", "n_vocab=325", NULL});
    /* one expert more or less changes a mix: eight are Mixtral's */
    cli_model("moe.gguf", "tiny-moe",
              (const char *const[]){"n_vocab=600", NULL});
    cli_model("deep.gguf", "tiny-dense",
              (const char *const[]){"n_layer=16", "n_vocab=600", "n_ff=256",
                                    "n_head_kv=2", NULL});
    cli_model("narrow.gguf", "tiny-dense",
              (const char *const[]){"n_layer=1", "n_vocab=600", "n_embd=96",
                                    "n_head=3", "n_head_kv=1", "tied=1", NULL});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cli_end();
    return 0;
}

#define DENSE cli_path("dense.gguf")
#define OUT   cli_path("out.gguf")

static uint32_t n_files(void)
{
    uint32_t n = 0;
    DIR *d = opendir(cli_path(""));
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) n++;
    closedir(d);
    return n;
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

static struct gguf *open_model(const char *path)
{
    struct gguf *g = NULL;
    struct error err;
    if (gguf_open(&g, path, &err) != ST_OK) fail_msg("%s", err.text);
    return g;
}

static uint32_t number(const struct gguf *g, const char *key)
{
    uint32_t v = 0;
    assert_int_equal(gguf_get_u32(g, key, &v, NULL), ST_OK);
    return v;
}

/* --------------------------------------------------------------- every type */

static bool key_begins(struct gguf_str key, const char *with)
{
    const size_t n = strlen(with);
    return key.len >= n && memcmp(key.data, with, n) == 0;
}

/* Keys that stay are there with their values, as far as their order goes. */
static void check_keys(const struct gguf *in, const struct gguf *out)
{
    uint32_t o = 0;
    for (uint32_t i = 0; i < gguf_n_keys(in); i++) {
        const struct gguf_str key = gguf_key(in, i, NULL);
        if (key_begins(key, "split.") || key_begins(key, "general.file_type") ||
            key_begins(key, "general.quantization_version")) {
            continue;
        }
        const struct gguf_str same = gguf_key(out, o++, NULL);
        assert_int_equal(key.len, same.len);
        assert_memory_equal(key.data, same.data, key.len);
    }
    assert_int_equal(gguf_n_keys(out), o + 2);
}

static void check_perplexity(const char *path)
{
    struct command in = {.input = "the quick brown fox jumps over a lazy dog"};
    json_t *o = cli_json(
        CLI_WITH(in, "perplexity", path, "-", "--json", "--kv", "q8_0"), 0);
    assert_true(number_at(o, "perplexity") > 1);
    json_decref(o);
}

/* The rows of one matrix: what rounding a normal distribution to so many
 * levels costs, searched scales included (plain ones cost up to a quarter
 * more). */
static void check_error(const struct gguf *in, const char *path,
                        enum quant_type type)
{
    enum { K = 256 };
    const char *name = "blk.0.ffn_gate.weight";
    struct gguf *out = open_model(path);
    const struct gguf_tensor *a = gguf_find_tensor(in, name);
    const struct gguf_tensor *b = gguf_find_tensor(out, name);
    assert_true(a->ne[0] == K && b->type == (uint32_t)type);
    const size_t row = (size_t)quant_row_bytes(type, K);
    double squares = 0, lost = 0;
    for (uint64_t r = 0; r < a->ne[1]; r++) {
        float x[K], y[K];
        uint8_t bytes[K * 4];
        struct error err;
        assert_int_equal(gguf_read(in, a, r * sizeof x, x, sizeof x, &err), 0);
        assert_int_equal(gguf_read(out, b, r * row, bytes, row, &err), 0);
        quant_dequantize_row(type, bytes, y, K);
        for (int i = 0; i < K; i++) {
            const double e = (double)x[i] - (double)y[i];
            squares += (double)x[i] * (double)x[i];
            lost += e * e;
        }
    }
    gguf_close(out);
    const struct quant_info *info = quant_info(type);
    const bool iq4 = type == QUANT_IQ4_NL || type == QUANT_IQ4_XS;
    const double levels = iq4 ? 16 : info->q_hi - info->q_lo + 1;
    const double bound = info->block == 1 ? 0.002 : 1.33 / levels;
    const double error = sqrt(lost / squares);
    if (!(error <= bound)) {
        fail_msg("%s loses %g of its weights, over %g", quant_name(type), error,
                 bound);
    }
}

/* The same bytes from one thread and from three; weights are close to what
 * they were; the model computes. */
static void every_type(void **state)
{
    (void)state;
    struct gguf *in = open_model(DENSE);
    uint64_t before = UINT64_MAX;
    const struct quantize_mix *mix;
    for (uint32_t i = 0; (mix = quantize_mix(i)); i++) {
        const char *threads[] = {"-t1", "-t3"};
        struct buf first = {0};
        for (int t = 0; t < 2; t++) {
            cli_expect(
                CLI("quantize", DENSE, OUT, mix->name, threads[t], "--force"),
                0, mix->name);
            struct buf b = cli_read(OUT);
            if (t == 0) {
                first = b;
                continue;
            }
            assert_int_equal(b.len, first.len);
            assert_memory_equal(b.data, first.data, b.len);
            buf_fini(&b);
        }
        buf_fini(&first);
        struct gguf *out = open_model(OUT);
        assert_int_equal(number(out, "general.file_type"), mix->file_type);
        assert_int_equal(number(out, "general.quantization_version"), 2);
        check_keys(in, out);
        assert_int_equal(gguf_n_tensors(out), gguf_n_tensors(in));
        const struct gguf_tensor *up =
            gguf_find_tensor(out, "blk.0.ffn_up.weight");
        assert_non_null(up);
        assert_int_equal(up->type, mix->type);
        if (gguf_file_bytes(out) > before && mix->type != QUANT_BF16 &&
            mix->type != QUANT_Q5_1 && mix->type != QUANT_Q5_0 &&
            mix->type != QUANT_IQ4_NL && mix->type != QUANT_Q4_1) {
            fail_msg("%s is larger than the type before it", mix->name);
        }
        before = gguf_file_bytes(out);
        gguf_close(out);
        check_error(in, OUT, mix->type);
        check_perplexity(OUT);
        cli_expect(
            CLI("local", OUT, "-n2", "--raw", "--temp", "0", "--json", "a"), 0,
            "");
    }
    gguf_close(in);
    assert_int_equal(unlink(OUT), 0);
}

/* ------------------------------------------------------------------- mixes */

static const struct {
    const char *model, *mix, *tensor;
    enum quant_type want;
} layout[] = {
    /* 16 layers: an eighth is 2 */
    {"deep", "Q4_K_M", "blk.0.ffn_down.weight", QUANT_Q6_K},
    {"deep", "Q4_K_M", "blk.1.attn_v.weight", QUANT_Q6_K},
    {"deep", "Q4_K_M", "blk.2.ffn_down.weight", QUANT_Q4_K},
    {"deep", "Q4_K_M", "blk.3.attn_v.weight", QUANT_Q4_K},
    {"deep", "Q4_K_M", "blk.4.ffn_down.weight", QUANT_Q6_K},
    {"deep", "Q4_K_M", "blk.13.attn_v.weight", QUANT_Q6_K},
    {"deep", "Q4_K_M", "blk.14.attn_v.weight", QUANT_Q6_K},
    {"deep", "Q4_K_M", "blk.12.ffn_down.weight", QUANT_Q4_K},
    {"deep", "Q4_K_M", "blk.0.attn_q.weight", QUANT_Q4_K},
    {"deep", "Q4_K_M", "output.weight", QUANT_Q6_K},
    {"deep", "Q4_K_M", "token_embd.weight", QUANT_Q4_K},
    {"deep", "Q4_K_M", "blk.0.attn_norm.weight", QUANT_F32},
    {"deep", "q4_k", "blk.0.ffn_down.weight", QUANT_Q6_K},
    {"deep", "Q4_K_S", "blk.1.ffn_down.weight", QUANT_Q5_K},
    {"deep", "Q4_K_S", "blk.2.ffn_down.weight", QUANT_Q4_K},
    {"deep", "Q4_K_S", "blk.3.attn_v.weight", QUANT_Q5_K},
    {"deep", "Q4_K_S", "blk.4.attn_v.weight", QUANT_Q4_K},
    {"deep", "Q5_K_M", "blk.0.ffn_down.weight", QUANT_Q6_K},
    {"deep", "Q5_K_M", "blk.2.ffn_down.weight", QUANT_Q5_K},
    {"deep", "Q5_K_S", "blk.0.ffn_down.weight", QUANT_Q5_K},
    {"deep", "Q3_K_S", "blk.0.ffn_down.weight", QUANT_Q3_K},
    {"deep", "Q3_K_M", "blk.0.ffn_down.weight", QUANT_Q5_K},
    {"deep", "Q3_K_M", "blk.1.ffn_down.weight", QUANT_Q4_K},
    {"deep", "Q3_K_M", "blk.1.attn_v.weight", QUANT_Q5_K},
    {"deep", "Q3_K_M", "blk.2.attn_v.weight", QUANT_Q4_K},
    {"deep", "Q3_K_M", "blk.0.attn_output.weight", QUANT_Q4_K},
    {"deep", "Q3_K_L", "blk.9.ffn_down.weight", QUANT_Q5_K},
    {"deep", "Q3_K_L", "blk.9.attn_v.weight", QUANT_Q5_K},
    {"deep", "Q3_K_L", "blk.9.attn_output.weight", QUANT_Q5_K},
    {"deep", "Q3_K_L", "blk.9.attn_k.weight", QUANT_Q3_K},
    {"deep", "Q2_K", "blk.0.attn_v.weight", QUANT_Q4_K},  /* 4 heads share */
    {"dense", "Q2_K", "blk.0.attn_v.weight", QUANT_Q3_K}, /* 2 do */
    {"deep", "Q2_K", "blk.0.ffn_down.weight", QUANT_Q3_K},
    {"deep", "Q2_K", "blk.0.attn_output.weight", QUANT_Q3_K},
    {"deep", "Q2_K", "blk.0.ffn_gate.weight", QUANT_Q2_K},
    {"deep", "IQ4_XS", "blk.0.attn_v.weight", QUANT_Q5_K},
    {"dense", "IQ4_XS", "blk.0.attn_v.weight", QUANT_IQ4_XS},
    {"deep", "IQ4_NL", "blk.1.ffn_down.weight", QUANT_Q5_K},
    {"deep", "IQ4_NL", "blk.2.ffn_down.weight", QUANT_IQ4_NL},
    {"deep", "Q4_0", "output.weight", QUANT_Q6_K},
    {"deep", "Q8_0", "output.weight", QUANT_Q8_0},
    {"deep", "F16", "output.weight", QUANT_F16},
    {"moe", "Q4_K_M", "blk.0.attn_k.weight", QUANT_Q8_0},
    {"moe", "Q4_K_M", "blk.0.attn_v.weight", QUANT_Q8_0},
    {"moe", "Q4_K_M", "blk.0.attn_output.weight", QUANT_Q5_K},
    {"moe", "Q3_K_L", "blk.0.attn_output.weight", QUANT_Q3_K},
    {"moe", "Q4_K_M", "blk.0.ffn_gate_inp.weight", QUANT_F32},
    {"moe", "Q4_K_M", "blk.0.ffn_up_exps.weight", QUANT_Q4_K},
    {"moe", "Q4_K_M", "blk.2.ffn_down_exps.weight", QUANT_Q6_K},
    {"moe", "Q4_K_M", "blk.1.ffn_down_exps.weight", QUANT_Q4_K},
    /* rows of 96; of 512 where the feed-forward goes down */
    {"narrow", "Q4_K_M", "blk.0.attn_q.weight", QUANT_Q5_0},
    {"narrow", "Q5_K_S", "blk.0.attn_q.weight", QUANT_Q5_1},
    {"narrow", "Q6_K", "blk.0.attn_q.weight", QUANT_Q8_0},
    {"narrow", "Q3_K_S", "blk.0.attn_q.weight", QUANT_Q4_0},
    {"narrow", "Q2_K", "blk.0.ffn_up.weight", QUANT_Q4_0},
    {"narrow", "IQ4_XS", "blk.0.attn_q.weight", QUANT_IQ4_NL},
    {"narrow", "Q3_K_S", "blk.0.ffn_down.weight", QUANT_Q3_K},
    {"narrow", "Q4_K_M", "token_embd.weight", QUANT_Q8_0}, /* the head too */
    {"narrow", "Q4_0", "token_embd.weight", QUANT_Q8_0},
};

static void mixes_are_the_usual_ones(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(layout); i++) {
        char name[32];
        snprintf(name, sizeof name, "%s.gguf", layout[i].model);
        struct gguf *g = open_model(cli_path(name));
        uint32_t types[400];
        struct error err;
        assert_in_range(gguf_n_tensors(g), 1, COUNT_OF(types));
        const struct quantize_options o = {
            .mix = quantize_mix_by_name(layout[i].mix)};
        assert_non_null(o.mix);
        assert_int_equal(quantize_types(g, &o, types, NULL, &err), ST_OK);
        bool seen = false;
        for (uint32_t t = 0; t < gguf_n_tensors(g); t++) {
            if (strcmp(gguf_tensor(g, t)->name, layout[i].tensor) != 0) {
                continue;
            }
            seen = true;
            if (types[t] != layout[i].want) {
                fail_msg("%s of %s in %s is %s, not %s", layout[i].tensor,
                         layout[i].model, layout[i].mix, quant_name(types[t]),
                         quant_name(layout[i].want));
            }
        }
        assert_true(seen);
        gguf_close(g);
    }
    assert_null(quantize_mix_by_name("Q4"));
}

/* --pure, split inputs, a matrix that no block divides. */
static void other_ways_in(void **state)
{
    (void)state;
    cli_expect(CLI("quantize", DENSE, OUT, "Q4_K_M", "--pure"), 0, "Q4_K_M");
    struct gguf *g = open_model(OUT);
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor(g, i);
        assert_int_equal(t->type, t->n_dims > 1 ? QUANT_Q4_K : QUANT_F32);
    }
    gguf_close(g);
    cli_model(
        "set-00001-of-00003.gguf", "tiny-dense",
        (const char *const[]){"n_layer=1", "n_vocab=325", "n_splits=3", NULL});
    cli_expect(CLI("quantize", cli_path("set-00001-of-00003.gguf"),
                   cli_path("joined.gguf"), "Q5_K_S"),
               0, "Q5_K_S");
    cli_expect(CLI("quantize", DENSE, OUT, "Q5_K_S", "--force"), 0, "Q5_K_S");
    struct buf a = cli_read(OUT), b = cli_read(cli_path("joined.gguf"));
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    buf_fini(&a);
    buf_fini(&b);
    assert_int_equal(unlink(OUT), 0);
}

/* ---------------------------------------------------------------- refusals */

/* The first weight of a matrix of the file becomes x. */
static void spoil(const char *name, const char *tensor, float x)
{
    struct buf b = cli_read(DENSE);
    struct gguf *g = open_model(DENSE);
    const struct gguf_tensor *t = gguf_find_tensor(g, tensor);
    assert_non_null(t);
    memcpy(b.data + t->offset + 4 * (t->ne[0] + 3), &x, sizeof x);
    cli_write(name, b.data, b.len);
    gguf_close(g);
    buf_fini(&b);
}

static void refusals(void **state)
{
    (void)state;
    spoil("nan.gguf", "blk.0.ffn_up.weight", NAN);
    spoil("large.gguf", "blk.0.ffn_up.weight", 70000.0f);
    spoil("norm.gguf", "blk.0.attn_norm.weight", 1.0f);
    struct buf b = cli_read(DENSE);
    cli_write("short.gguf", b.data, b.len - 4096);
    buf_fini(&b);
    cli_write("there", "precious", 8);
    const uint32_t before = n_files();

    cli_expect(CLI("quantize", DENSE, OUT), 2, "needs a model file");
    cli_expect(CLI("quantize", DENSE, OUT, "Q4"), 2,
               "type Q4 is not among F32");
    cli_expect(CLI("quantize", DENSE, OUT, "IQ2_XS"), 2, "IQ4_XS");
    cli_expect(CLI("quantize", DENSE, cli_path("there"), "Q4_0"), 2, "--force");
    cli_expect(CLI("quantize", DENSE, DENSE, "Q4_0"), 2, "is there already");
    cli_expect(CLI("quantize", DENSE, cli_path(""), "Q4_0", "--force"), 2,
               "is no file");
    cli_expect(CLI("quantize", cli_path("none.gguf"), OUT, "Q4_0"), 1,
               "none.gguf");
    cli_expect(CLI("quantize", DENSE, cli_path("no/out.gguf"), "Q4_0"), 1,
               "No such file");
    cli_expect(CLI("quantize", cli_path("short.gguf"), OUT, "Q4_0"), 1,
               "short.gguf");
    cli_expect(CLI("quantize", cli_path("nan.gguf"), OUT, "Q4_K_M"), 1,
               "blk.0.ffn_up.weight: weight 3 of row 1 is not a finite");
    cli_expect(CLI("quantize", cli_path("large.gguf"), OUT, "F16"), 1,
               "weight 3 of row 1 is over 65504");
    assert_false(is_there(OUT));
    assert_int_equal(n_files(), before);
    struct buf precious = cli_read(cli_path("there"));
    assert_int_equal(precious.len, 8);
    buf_fini(&precious);

    /* what is wide enough takes it, and --force replaces */
    cli_expect(CLI("quantize", cli_path("large.gguf"), cli_path("there"),
                   "BF16", "--force"),
               0, "BF16");
    cli_expect(CLI("quantize", cli_path("there"), OUT, "F32"), 0, "F32");
    assert_int_equal(n_files(), before + 1);
    assert_int_equal(unlink(OUT), 0);
}

static void twice_only_if_asked(void **state)
{
    (void)state;
    const char *q8 = cli_path("q8.gguf");
    cli_expect(CLI("quantize", DENSE, q8, "Q8_0"), 0, "Q8_0");
    cli_expect(CLI("quantize", q8, OUT, "Q4_K_M"), 2, "--allow-requantize");
    assert_false(is_there(OUT));
    cli_expect(CLI("quantize", q8, OUT, "Q4_K_M", "--allow-requantize"), 0,
               "Q4_K_M");
    cli_expect(CLI("quantize", q8, OUT, "Q8_0", "--force"), 0, "0 of");
    struct buf a = cli_read(OUT), b = cli_read(q8);
    assert_int_equal(a.len, b.len); /* copied, byte for byte */
    assert_memory_equal(a.data, b.data, a.len);
    buf_fini(&a);
    buf_fini(&b);
    assert_int_equal(unlink(OUT), 0);
}

/* ------------------------------------------------------- what stops half-way
 */

struct stop {
    uint32_t calls, after;
};

static bool stop_later(void *arg, uint64_t done, uint64_t total)
{
    struct stop *s = arg;
    assert_true(done <= total);
    return s->calls++ < s->after;
}

static void interrupted_leaves_nothing(void **state)
{
    (void)state;
    const uint32_t before = n_files();
    const size_t bytes = mem_in_use();
    struct error err;
    struct quantize_result r;
    struct stop s = {0};
    struct quantize_options o = {.mix = quantize_mix_by_name("Q4_0"),
                                 .n_threads = 2,
                                 .progress = stop_later,
                                 .progress_arg = &s};
    for (s.after = 0; s.after < 100; s.after += 3) {
        s.calls = 0;
        const enum status st = quantize_file(DENSE, OUT, &o, &r, &err);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_INTERRUPTED);
        assert_int_equal(n_files(), before);
        assert_int_equal(mem_in_use(), bytes);
    }
    assert_in_range(s.after, 9, 99);
    assert_int_equal(unlink(OUT), 0);
    /* and by the signal: 17 GB of holes take longer than that anywhere */
    cli_model("big.gguf", "tiny-dense",
              (const char *const[]){"n_layer=32", "n_embd=2048", "n_ff=8192",
                                    "n_head=16", "head_dim=128", "sparse=1",
                                    NULL});
    const struct command plain = {0};
    struct outcome out =
        cli_run_in((const char *const[]){"timeout", "--preserve-status",
                                         "-sINT", "0.4", NULL},
                   &plain,
                   (const char *const[]){"quantize", cli_path("big.gguf"), OUT,
                                         "Q2_K", NULL});
    cli_expect(out, 130, "interrupted");
    assert_int_equal(unlink(cli_path("big.gguf")), 0);
    assert_int_equal(n_files(), before);
}

static void make_part(const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "out.gguf.part-%s", suffix);
    cli_write(name, "half", 4);
}

/* What SIGKILL leaves, the next run takes away, and nothing else: no file of a
 * process that lives, that has a lock, or that has another name. */
static void killed_is_cleaned_up_later(void **state)
{
    (void)state;
    const uint32_t before = n_files();
    cli_model("big.gguf", "tiny-dense",
              (const char *const[]){"n_layer=32", "n_embd=2048", "n_ff=8192",
                                    "n_head=16", "head_dim=128", "sparse=1",
                                    NULL});
    struct outcome out = cli_run_in(
        (const char *const[]){"timeout", "--foreground", "-sKILL", "0.4", NULL},
        &(struct command){0},
        (const char *const[]){"quantize", cli_path("big.gguf"), OUT, "Q2_K",
                              NULL});
    assert_int_not_equal(out.code, 0);
    outcome_fini(&out);
    assert_int_equal(unlink(cli_path("big.gguf")), 0);
    assert_int_equal(n_files(), before + 1);

    char mine[32];
    snprintf(mine, sizeof mine, "%ld-0", (long)getpid());
    const char *const stay[] = {mine, "999999999-1", "999999999-2x",
                                "999999999", "-3"};
    for (size_t i = 0; i < COUNT_OF(stay); i++) make_part(stay[i]);
    make_part("999999999-0"); /* no such process can be */
    const int fd = open(cli_path("out.gguf.part-999999999-1"), O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    cli_expect(CLI("quantize", DENSE, OUT, "Q8_0"), 0,
               "out.gguf.part-999999999-0: 4 B that a killed run had left");
    assert_int_equal(n_files(), before + 1 + COUNT_OF(stay));
    close(fd);
    cli_expect(CLI("quantize", DENSE, OUT, "Q8_0", "--force"), 0,
               "999999999-1: 4 B that a killed run had left: removed");
    assert_int_equal(n_files(), before + COUNT_OF(stay));
    for (size_t i = 0; i < COUNT_OF(stay); i++) {
        char name[64];
        snprintf(name, sizeof name, "out.gguf.part-%s", stay[i]);
        if (i != 1) assert_int_equal(unlink(cli_path(name)), 0);
    }
    assert_int_equal(unlink(OUT), 0);
}

static void full_disk_leaves_nothing(void **state)
{
    (void)state;
    const uint32_t before = n_files();
    struct error err;
    struct quantize_result r;
    const struct quantize_options o = {.mix = quantize_mix_by_name("Q8_0"),
                                       .n_threads = 1};
    struct rlimit old, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    static const rlim_t limits[] = {0, 4096, 300000, 500000};
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        limit = old;
        limit.rlim_cur = limits[i];
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        const enum status st = quantize_file(DENSE, OUT, &o, &r, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(st, ST_FULL);
        assert_non_null(strstr(err.text, "out.gguf cannot be written"));
        assert_int_equal(n_files(), before);
    }
    signal(SIGXFSZ, handler);
    /* more than any disk has room for is said beforehand */
    cli_model(
        "huge.gguf", "llama3-70b-shape",
        (const char *const[]){"sparse=1", "n_layer=1000", "type=F16", NULL});
    cli_expect(CLI("quantize", cli_path("huge.gguf"), OUT, "F32"), 1,
               "has room for");
    assert_int_equal(unlink(cli_path("huge.gguf")), 0);
    assert_int_equal(n_files(), before);
}

static void every_failed_allocation(void **state)
{
    (void)state;
    const uint32_t before = n_files();
    const size_t bytes = mem_in_use();
    struct error err;
    struct quantize_result r;
    const struct quantize_options o = {.mix = quantize_mix_by_name("Q4_0"),
                                       .n_threads = 2};
    for (long n = 0;; n++) {
        mem_fail_after(n);
        const enum status st =
            quantize_file(cli_path("narrow.gguf"), OUT, &o, &r, &err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_int_equal(n_files(), before);
        assert_int_equal(mem_in_use(), bytes);
        assert_true(n < 1000);
    }
    assert_int_equal(unlink(OUT), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type),
        cmocka_unit_test(mixes_are_the_usual_ones),
        cmocka_unit_test(other_ways_in),
        cmocka_unit_test(refusals),
        cmocka_unit_test(twice_only_if_asked),
        cmocka_unit_test(interrupted_leaves_nothing),
        cmocka_unit_test(killed_is_cleaned_up_later),
        cmocka_unit_test(full_disk_leaves_nothing),
        cmocka_unit_test(every_failed_allocation),
    };
    return cmocka_run_group_tests_name("quantize", tests, setup, teardown);
}

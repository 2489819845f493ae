/* potluck plan as a person and a script meet it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model.h"
#include "tests/lib/cli.h"

static const char nodes[] =
    "[{\"name\":\"old\",\"memory\":\"64M\",\"read_gbps\":0.002},"
    "{\"name\":\"new\",\"memory\":\"64M\",\"read_gbps\":0.02}]";

static int setup(void **state)
{
    (void)state;
    cli_begin();
    cli_model("moe.gguf", "tiny-moe", (const char *const[]){"sparse=1", NULL});
    cli_write("nodes.json", nodes, sizeof nodes - 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cli_end();
    return 0;
}

#define MOE   cli_path("moe.gguf")
#define NODES cli_path("nodes.json")

static void json_is_a_plan(void **state)
{
    (void)state;
    json_t *o = cli_json(CLI("plan", MOE, "--nodes", NODES, "--json", "--users",
                             "3", "--ctx", "128", "--kv", "f32", "--batch",
                             "32", "--objective", "throughput"),
                         0);
    assert_true(number_at(o, "options.n_ctx") == 128);
    assert_true(number_at(o, "options.rows_max") == 32);
    assert_string_equal(string_at(o, "options.kv_type"), "f32");
    assert_true(number_at(o, "predicted.decode_tokens_per_s") > 0);
    /* the ten times faster PC has nearly all of it */
    uint32_t n_new = 0;
    size_t i;
    json_t *range;
    json_array_foreach(json_at(o, "layers"), i, range)
    {
        if (strcmp(string_at(range, "node"), "new") != 0) continue;
        n_new +=
            (uint32_t)(number_at(range, "end") - number_at(range, "first"));
    }
    assert_in_range(n_new, 5, 6);
    json_decref(o);
}

static void a_table_for_people(void **state)
{
    (void)state;
    struct outcome o = CLI("plan", MOE, "--nodes", NODES);
    assert_non_null(strstr(o.out.data, "old"));
    assert_non_null(strstr(o.out.data, "tokens/s for one"));
    cli_expect(o, 0, "");
}

static void what_is_wrong_is_said(void **state)
{
    (void)state;
    struct outcome help = CLI("plan", "--help");
    for (const char *line = help.out.data; *line; line += strcspn(line, "\n")) {
        line += *line == '\n';
        assert_true(strcspn(line, "\n") <= 80);
    }
    cli_expect(help, 0, "");
    cli_expect(CLI("plan", MOE), 2, "--nodes");
    cli_expect(CLI("plan", "--nodes", NODES), 2, "model file");
    cli_expect(CLI("plan", MOE, "--nodes", cli_path("none.json")), 1,
               "none.json");
    cli_expect(CLI("plan", MOE, "--nodes", MOE), 1, "over the limit");
    cli_expect(CLI("plan", NODES, "--nodes", NODES), 1, "nodes.json");
    cli_expect(CLI("plan", MOE, "--nodes", NODES, "--kv", "x"), 2, "--kv x");
    cli_expect(CLI("plan", MOE, "--nodes", NODES, "--objective", "x"), 2,
               "--objective x");
    cli_expect(CLI("plan", MOE, "--nodes", NODES, "--ctx", "100000"), 2,
               "100000");
    static const char small[] = "[{\"name\":\"old\",\"memory\":\"15M\"}]";
    cli_write("small.json", small, sizeof small - 1);
    struct outcome o = CLI("plan", MOE, "--nodes", cli_path("small.json"));
    assert_int_equal(o.out.len, 0);
    cli_expect(o, 1, "are missing");
}

/* Bytes that this process has read from files so far. */
static uint64_t bytes_read(void)
{
    FILE *f = fopen("/proc/self/io", "r");
    if (!f) return 0; /* a kernel without task accounting */
    uint64_t n = 0;
    char line[64];
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, "rchar: ", 7) == 0) n = strtoull(line + 7, NULL, 10);
    }
    fclose(f);
    return n;
}

static void opens_by_its_header(const char *path, uint64_t bytes)
{
    struct gguf *g;
    struct model m;
    struct error err;
    const uint64_t before = bytes_read();
    if (gguf_open(&g, path, &err) != ST_OK) fail_msg("%s", err.text);
    assert_true(gguf_file_bytes(g) > bytes);
    if (model_describe(&m, g, &err) != ST_OK) fail_msg("%s", err.text);
    model_fini(&m);
    gguf_close(g);
    assert_in_range(bytes_read() - before, 0, 64 << 20);
}

/* The two largest models that the pool is for, as files with their true
 * header and a hole in place of the weights, over a room of twelve PCs. */
static void models_of_80_gb(void **state)
{
    (void)state;
    static const char *const gib[] = {"8G",  "8G",  "8G",  "8G",  "10G", "10G",
                                      "12G", "12G", "12G", "16G", "16G", "16G"};
    static const struct {
        const char *preset;
        double min_bytes;
        size_t n_layer;
        const char *splits; /* the first file's name with them */
    } row[] = {
        {"mixtral-8x22b-shape", 85e9, 56, "mixtral-00001-of-00005.gguf"},
        {"llama3-70b-shape", 42e9, 80, "llama-00001-of-00005.gguf"},
    };
    char text[2048] = "[";
    for (size_t i = 0; i < COUNT_OF(gib); i++) {
        const size_t n = strlen(text);
        snprintf(text + n, sizeof text - n,
                 "%s{\"name\":\"pc%zu\",\"memory\":\"%s\",\"read_gbps\":%d}",
                 i ? "," : "", i, gib[i], i < 6 ? 12 : 20);
    }
    const size_t n_text = strlen(text);
    text[n_text] = ']';
    cli_write("room.json", text, n_text + 1);
    static const char few[] = "[{\"name\":\"a\",\"memory\":\"16G\"},"
                              "{\"name\":\"b\",\"memory\":\"16G\"}]";
    cli_write("few.json", few, strlen(few));
    const char *const room = cli_path("room.json");
    for (size_t i = 0; i < 2 * COUNT_OF(row); i++) {
        const bool split = i % 2;
        const char *preset = row[i / 2].preset;
        const char *name = split ? row[i / 2].splits : "whole.gguf";
        cli_model(name, preset,
                  (const char *const[]){
                      "sparse=1", split ? "n_splits=5" : "n_splits=1", NULL});
        const char *path = cli_path(name);
        opens_by_its_header(path, (uint64_t)row[i / 2].min_bytes);
        json_t *o = cli_json(CLI("inspect", path, "--json"), 0);
        assert_true(number_at(o, "plan.total_bytes") > row[i / 2].min_bytes);
        json_decref(o);
        o = cli_json(CLI("plan", path, "--nodes", room, "--json"), 0);
        assert_true(number_at(o, "predicted.decode_tokens_per_s") > 0);
        size_t k, n_layers = 0;
        json_t *range;
        json_array_foreach(json_at(o, "layers"), k, range)
        {
            n_layers +=
                (size_t)(number_at(range, "end") - number_at(range, "first"));
        }
        assert_int_equal(n_layers, row[i / 2].n_layer);
        json_decref(o);
        struct outcome no = CLI("plan", path, "--nodes", cli_path("few.json"));
        assert_int_equal(no.out.len, 0);
        cli_expect(no, 1, "are missing");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_a_plan),
        cmocka_unit_test(a_table_for_people),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(models_of_80_gb),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

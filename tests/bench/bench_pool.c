/* bench_pool.c - what a second worker brings: tokens a second of two workers
 * of one thread against one, with the same number of rows in each step, on
 * loopback and over links of 1 Gbit/s; and what a hop costs on the wire, as
 * payload of frames, before encryption and TCP.  Prints tables; asserts no
 * speed.
 *
 *   bench_pool [LAYERS]    of a model of some 25 MiB a layer; default 8 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tests/lib/lan.h"
#include "tests/lib/netns.h"

#define STREAMS_MAX 32
#define N_STEPS     4 /* in flight: 1, 2, 8 rows each */
#define N_TOKENS    48

/* Of one row, steps are bound by memory, which all workers of one machine
 * share; of eight, by computing. */
static const uint32_t streams[] = {4, 8, STREAMS_MAX};
#define N_STREAMS COUNT_OF(streams)

static struct netns net;
static struct lan pool;
static uint32_t n_layer = 8;

static void write_plan(uint32_t n_workers)
{
    char text[500];
    const uint32_t half = n_layer / 2;
    const int n =
        n_workers == 1
            ? snprintf(text, sizeof text,
                       "{\"layers\":[{\"node\":\"pc-1\",\"first\":0,\"end\":%u}"
                       "],\"options\":{\"n_steps\":%d}}",
                       n_layer, N_STEPS)
            : snprintf(text, sizeof text,
                       "{\"layers\":[{\"node\":\"pc-1\",\"first\":0,\"end\":%u}"
                       ",{\"node\":\"pc-2\",\"first\":%u,\"end\":%u}],"
                       "\"options\":{\"n_steps\":%d}}",
                       half, half, n_layer, N_STEPS);
    cli_write("plan.json", text, (size_t)n);
}

static double total(const char *path)
{
    json_t *j = lan_status(&pool);
    const double v = number_at(j, path);
    json_decref(j);
    return v;
}

/* Tokens a second of so many streams together; *rows: of a step. */
static double measure(uint32_t n_streams, double *rows)
{
    char name[32], tokens[16];
    pid_t pid[STREAMS_MAX];
    snprintf(tokens, sizeof tokens, "%d", N_TOKENS);
    const double steps = total("totals.steps"), had = total("totals.tokens");
    const uint64_t start = clock_now_ns();
    for (uint32_t i = 0; i < n_streams; i++) {
        snprintf(name, sizeof name, "out-%u", i);
        pid[i] =
            lan_run_async(&pool, name,
                          (const char *const[]){"--raw", "--temp", "0", "-n",
                                                tokens, "--", "Once", NULL});
    }
    for (uint32_t i = 0; i < n_streams; i++) {
        assert_int_equal(lan_wait_exit(pid[i]), 0);
    }
    const double s = (double)(clock_now_ns() - start) / 1e9;
    const double made = total("totals.tokens") - had;
    *rows = made / (total("totals.steps") - steps);
    return made / s;
}

/* What the first stage has sent on: "NS sent STEP STAGE ROWS HEADER TENSOR". */
struct wire {
    uint64_t messages, rows, header, tensor, steps;
};
static void read_trace(struct wire *w, const char *path)
{
    char line[200];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        char *at = strstr(line, " end ");
        w->steps += at != NULL;
        at = strstr(line, " sent ");
        if (!at) continue;
        uint64_t v[5];
        at += strlen(" sent ");
        for (int i = 0; i < 5; i++) v[i] = strtoull(at, &at, 10);
        w->messages++;
        w->rows += v[2];
        w->header += v[3];
        w->tensor += v[4];
    }
    fclose(f);
}

static void print_wire(const struct wire *w)
{
    const double rows = (double)w->rows, m = (double)w->messages;
    const double width = (double)w->tensor / rows / sizeof(float);
    printf("\nwire, a hop: d = %.0f; %.1f bytes a row (tensor %.1f, header "
           "%.1f), of which 4d + 64 + 200 a message allow %.1f; %.2f rows a "
           "message, %.2f messages a step\n",
           width, (double)(w->tensor + w->header) / rows,
           (double)w->tensor / rows, (double)w->header / rows,
           4 * width + 64 + 200 * m / rows, rows / m, m / (double)w->steps);
}

static struct wire wire_cost; /* of two workers on loopback */

static void one_pool(const char *link, uint32_t n_workers, double *speed,
                     double *rows)
{
    char n[8];
    const bool shaped = link[0] != 'l';
    snprintf(n, sizeof n, "%u", n_workers);
    lan_begin(&pool);
    write_plan(n_workers);
    if (shaped) {
        pool.coordinator_prefix = net.prefix[0];
        pool.host = net.address[0];
        for (uint32_t i = 1; i <= n_workers; i++) {
            pool.worker_prefix[i] = net.prefix[i];
        }
    }
    lan_serve(&pool, cli_path("model.gguf"),
              (const char *const[]){"--workers", n, "--ctx", "256", "--plan",
                                    cli_path("plan.json"), NULL});
    for (uint32_t i = 1; i <= n_workers; i++) {
        lan_join(&pool, i,
                 i == 1 ? (const char *const[]){"--trace",
                                                lan_path(&pool, "trace"), NULL}
                        : NULL);
    }
    lan_wait_state(&pool, "serving");
    for (size_t k = 0; k < N_STREAMS; k++) {
        speed[k] = measure(streams[k], &rows[k]);
    }
    if (n_workers == 2 && !shaped) {
        struct wire w = {0};
        read_trace(&w, lan_path(&pool, "trace"));
        wire_cost = w;
    }
    lan_end(&pool);
}

static void compare(const char *link)
{
    double one[N_STREAMS], two[N_STREAMS], r1[N_STREAMS], r2[N_STREAMS];
    one_pool(link, 1, one, r1);
    one_pool(link, 2, two, r2);
    for (size_t k = 0; k < N_STREAMS; k++) {
        printf("%-10s %8u %11.1f %6.1f %12.1f %6.1f %8.2f\n", link, streams[k],
               one[k], r1[k], two[k], r2[k], two[k] / one[k]);
    }
    fflush(stdout);
}

static void bench(void **state)
{
    (void)state;
    char layers[32];
    snprintf(layers, sizeof layers, "n_layer=%u", n_layer);
    cli_begin();
    cli_model("model.gguf", "gib",
              (const char *const[]){layers, "n_vocab=4000", NULL});
    printf("%-10s %8s %11s %6s %12s %6s %8s\n", "link", "streams", "one: tok/s",
           "rows", "two: tok/s", "rows", "speed-up");
    compare("loopback");
    netns_begin(&net, 3);
    netns_rate(&net, 1000);
    compare("1 Gbit/s");
    netns_end(&net);
    print_wire(&wire_cost);
    cli_end();
}

static int teardown(void **state)
{
    (void)state;
    netns_end(&net);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1) n_layer = (uint32_t)strtoul(argv[1], NULL, 10);
    if (n_layer < 2) n_layer = 2;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(bench, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

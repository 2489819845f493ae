/* cmd_status.c - potluck status: what a pool does. */
#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "client/http.h"
#include "client/table.h"

#define REDRAW_NS UINT64_C(1000000000)

struct status_options {
    const char *host;
    bool json, watch;
};

static enum status print_table(const json_t *cluster, bool redraw,
                               struct error *err)
{
    struct buf b;
    buf_init(&b, TABLE_MAX);
    enum status st = redraw ? buf_printf(&b, "\033[H\033[J") : ST_OK;
    if (st == ST_OK) st = table_write(&b, cluster);
    if (st != ST_OK) {
        error_set(err, st, "no memory for the table");
    } else if (fwrite(b.data, 1, b.len, stdout) != b.len ||
               fflush(stdout) != 0) {
        st = error_set(err, ST_IO, "standard output: %s", strerror(errno));
    }
    buf_fini(&b);
    return st;
}

static enum exit_code show(const struct status_options *o,
                           const struct http_pool *pool, bool redraw,
                           struct error *err)
{
    json_t *cluster;
    const enum exit_code code =
        http_json(pool, "/v1/cluster", NULL, &cluster, err);
    if (code != EXIT_CODE_OK) return code;
    if (o->json) return exit_code_of(print_json(cluster, err)); /* takes it */
    const enum status st = print_table(cluster, redraw, err);
    json_decref(cluster);
    return exit_code_of(st);
}

int cmd_status(int argc, char **argv)
{
    struct status_options o = {0};
    const struct option table[] = {
        {"--json", 0, OPTION_FLAG, &o.json, NULL,
         "print /v1/cluster as one JSON object", 0, 0},
        {"--watch", 0, OPTION_FLAG, &o.watch, NULL,
         "every second anew, until Ctrl-C", 0, 0},
        {"--host", 0, OPTION_STRING, &o.host, "URL",
         "the pool (default POTLUCK_HOST, or " HTTP_HOST_DEFAULT ")", 0, 0},
    };
    struct error err;
    struct http_pool pool;
    const char *none[1];
    size_t n;
    int over;
    if (!parse_command(table, COUNT_OF(table), "status [OPTIONS]", argc, argv,
                       none, 0, &n, &over)) {
        return over;
    }
    if (http_pool_find(&pool, o.host, &err) != ST_OK) return fail(&err);
    catch_interrupt();
    const bool redraw = o.watch && !o.json && isatty(STDOUT_FILENO);
    enum exit_code code;
    do {
        code = show(&o, &pool, redraw, &err);
        if (code != EXIT_CODE_OK) return fail_as(code, &err);
    } while (o.watch && pause_ns(REDRAW_NS));
    return o.watch ? EXIT_CODE_INTERRUPTED : EXIT_CODE_OK;
}

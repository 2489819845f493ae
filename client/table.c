#include "client/table.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/commands.h"
#include "client/http.h"
#include "common/utf8.h"

#define COLUMNS   9
#define CELL_MAX  96
#define NODES_MAX 1024

struct row {
    char cell[COLUMNS][CELL_MAX];
};

static const char *const heads[COLUMNS] = {"NAME",   "STATE", "LAYERS",
                                           "MEMORY", "CPU",   "READ",
                                           "LINK",   "STEP",  "DOING"};

static const char *text(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}

static double number(const json_t *o, const char *name)
{
    const double v = json_number_value(json_object_get(o, name));
    return v > 0 && v < 1e18 ? v : 0;
}

static bool yes(const json_t *o, const char *name)
{
    return json_is_true(json_object_get(o, name));
}

PRINTF_LIKE(2, 3)
static void put(char cell[CELL_MAX], const char *fmt, ...)
{
    const size_t n = strlen(cell);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cell + n, CELL_MAX - n, fmt, ap);
    va_end(ap);
}

/* Columns that fill a terminal's cell each: code points, roughly. */
static size_t width(const char *s)
{
    size_t n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

/* A name that was cut within a character loses the rest of it. */
static void whole_characters(char *cell)
{
    const size_t n = strlen(cell);
    for (size_t i = 0; i < n;) {
        const int k = utf8_sequence((const unsigned char *)cell + i, n - i);
        if (k < 0) cell[i] = '\0';
        if (k < 0) return;
        i += k ? (size_t)k : 1;
    }
}

static void layers(char cell[CELL_MAX], const json_t *node)
{
    put(cell, "%.40s", text(node, "layers"));
    if (yes(node, "embed")) put(cell, "%sembedding", *cell ? " + " : "");
    if (yes(node, "head")) put(cell, "%shead", *cell ? " + " : "");
    const double experts = number(node, "experts");
    if (experts > 0) {
        put(cell, "%s%.0f experts", *cell ? " + " : "", experts);
    }
}

static void memory(char cell[CELL_MAX], const json_t *node)
{
    char a[32];
    const double used = number(node, "planned_bytes");
    const double all = number(node, "memory_bytes");
    if (used > 0) put(cell, "%s", human_bytes(a, (uint64_t)used));
    if (all > 0) {
        put(cell, "%s%s", used > 0 ? " of " : "",
            human_bytes(a, (uint64_t)all));
    }
}

static void doing(char cell[CELL_MAX], const json_t *node)
{
    const double done = number(node, "done_bytes");
    const double total = number(node, "total_bytes");
    put(cell, "%.60s", text(node, "what"));
    if (total > 0 && done < total) {
        put(cell, "%s%.0f %%", *cell ? " " : "", 100 * done / total);
        const double s = number(node, "loading_s");
        if (s >= 1 && done > 0) {
            const double left = (total - done) * s / done;
            char a[32];
            put(cell, ", %s/s", human_bytes(a, (uint64_t)(done / s)));
            if (left < 1e6) {
                put(cell, ", %u:%02u left", (unsigned)left / 60,
                    (unsigned)left % 60);
            }
        }
    }
    if (*cell == '\0' && yes(node, "busy")) put(cell, "computing");
}

/* The stage of the plan that this node is. */
static const json_t *stage_of(const json_t *cluster, const json_t *node)
{
    const json_t *stages =
        json_object_get(json_object_get(cluster, "plan"), "stages");
    size_t i;
    const json_t *s;
    json_array_foreach(stages, i, s)
    {
        const char *who = text(s, "node");
        if (*who && (strcmp(who, text(node, "name")) == 0 ||
                     strcmp(who, text(node, "id")) == 0)) {
            return s;
        }
    }
    return NULL;
}

static void fill(struct row *r, const json_t *cluster, const json_t *node)
{
    char a[32];
    const double read = number(node, "read_bytes_per_s");
    const double link = number(node, "link_bytes_per_s");
    const double latency = number(node, "link_latency_s");
    const double step = number(stage_of(cluster, node), "decode_ms");
    put(r->cell[0], "%.40s", text(node, "name"));
    if (!r->cell[0][0]) put(r->cell[0], "%.16s", text(node, "id"));
    put(r->cell[1], "%.40s", text(node, "state"));
    layers(r->cell[2], node);
    memory(r->cell[3], node);
    if (number(node, "threads") > 0) {
        put(r->cell[4], "%.0f x %.20s", number(node, "threads"),
            text(node, "isa"));
    }
    if (read > 0) put(r->cell[5], "%s/s", human_bytes(a, (uint64_t)read));
    if (link > 0) {
        put(r->cell[6], "%.0f Mbit/s, %.1f ms", link * 8 / 1e6, latency * 1e3);
    }
    if (step > 0) put(r->cell[7], "%.1f ms", step);
    doing(r->cell[8], node);
    for (size_t c = 0; c < COLUMNS; c++) {
        whole_characters(plain_line(r->cell[c]));
        if (r->cell[c][0] == '\0') put(r->cell[c], "-");
    }
}

static enum status write_row(struct buf *b, const struct row *r,
                             const size_t w[COLUMNS])
{
    enum status st = ST_OK;
    for (size_t c = 0; c < COLUMNS && st == ST_OK; c++) {
        const int pad = (int)(w[c] - width(r->cell[c]));
        const bool last = c + 1 == COLUMNS;
        st = buf_printf(b, "%s%*s", r->cell[c], last ? 0 : pad + 2, "");
    }
    return st == ST_OK ? buf_append(b, "\n", 1) : st;
}

static enum status write_nodes(struct buf *b, const json_t *cluster)
{
    const json_t *nodes = json_object_get(cluster, "nodes");
    const size_t all = json_array_size(nodes);
    const size_t n = all < NODES_MAX ? all : NODES_MAX;
    if (n == 0) return buf_printf(b, "no PC has joined\n");
    struct row *rows = mem_zalloc_array(n + 1, sizeof *rows);
    if (!rows) return ST_NO_MEMORY;
    size_t w[COLUMNS] = {0};
    for (size_t i = 0; i <= n; i++) {
        for (size_t c = 0; i == 0 && c < COLUMNS; c++) {
            put(rows[0].cell[c], "%s", heads[c]);
        }
        if (i > 0) fill(&rows[i], cluster, json_array_get(nodes, i - 1));
        for (size_t c = 0; c < COLUMNS; c++) {
            const size_t k = width(rows[i].cell[c]);
            if (k > w[c]) w[c] = k;
        }
    }
    enum status st = ST_OK;
    for (size_t i = 0; i <= n && st == ST_OK; i++) {
        st = write_row(b, &rows[i], w);
    }
    mem_free(rows);
    return st;
}

/* A string of the server in a line of ours. */
static enum status write_text(struct buf *b, const char *before, const char *s,
                              const char *after)
{
    char line[320];
    if (!*s) return ST_OK;
    snprintf(line, sizeof line, "%s", s);
    whole_characters(plain_line(line));
    return buf_printf(b, "%s%s%s", before, line, after);
}

static enum status write_top(struct buf *b, const json_t *cluster)
{
    const char *state = text(cluster, "state");
    enum status st = write_text(b, "pool: ", *state ? state : "-", "");
    if (st == ST_OK) st = write_text(b, " (", text(cluster, "why"), ")");
    if (st == ST_OK) st = write_text(b, "; model ", text(cluster, "model"), "");
    const double ctx = number(cluster, "n_ctx");
    if (st == ST_OK && ctx > 0) st = buf_printf(b, "; context %.0f", ctx);
    return st == ST_OK ? buf_append(b, "\n", 1) : st;
}

static enum status write_plan(struct buf *b, const json_t *plan)
{
    const double one = number(plan, "decode_tokens_per_s");
    const double many = number(plan, "batch_tokens_per_s");
    const double first = number(plan, "prompt_512_s");
    enum status st = ST_OK;
    if (one > 0) {
        st = buf_printf(b, "predicted: %.1f tokens/s for one", one);
        if (st == ST_OK && many > 0) {
            st = buf_printf(b, ", %.1f for many", many);
        }
        if (st == ST_OK && first > 0) {
            st = buf_printf(b, ", %.1f s for a prompt of 512", first);
        }
        if (st == ST_OK) st = buf_append(b, "\n", 1);
    }
    if (st != ST_OK) return st;
    return write_text(b, "bottleneck: ", text(plan, "bottleneck"), "\n");
}

enum status table_write(struct buf *b, const struct json_t *cluster)
{
    enum status st = write_top(b, cluster);
    if (st == ST_OK) st = write_nodes(b, cluster);
    if (st == ST_OK) st = write_plan(b, json_object_get(cluster, "plan"));
    const json_t *queue = json_object_get(cluster, "queue");
    const json_t *totals = json_object_get(cluster, "totals");
    if (st == ST_OK && json_is_object(queue)) {
        st = buf_printf(b, "queue: %.0f running, %.0f waiting\n",
                        number(queue, "running"), number(queue, "waiting"));
    }
    if (st == ST_OK && json_is_object(totals)) {
        st = buf_printf(b, "answered: %.0f prompts, %.0f tokens\n",
                        number(totals, "prompts"), number(totals, "tokens"));
    }
    return st;
}

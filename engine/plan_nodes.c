/* plan_nodes.c - the list of nodes that `potluck plan` is given, and the table
 * that it prints. */
#include <stdio.h>
#include <string.h>

#include "engine/plan_internal.h"
#include "engine/plan_json.h"

/* ------------------------------------------------------------- nodes */

/* "8G", "512M", "0.5T", or a number of bytes. */
static bool parse_size(const json_t *v, uint64_t *out)
{
    if (json_is_integer(v)) {
        if (json_integer_value(v) < 1) return false;
        *out = (uint64_t)json_integer_value(v);
        return true;
    }
    const char *s = json_string_value(v);
    if (!s || s[0] < '0' || s[0] > '9') return false;
    double n = 0, digit = 1;
    size_t i = 0;
    for (; s[i] >= '0' && s[i] <= '9'; i++) n = n * 10 + (s[i] - '0');
    if (s[i] == '.' && s[i + 1] >= '0' && s[i + 1] <= '9') {
        for (i++; s[i] >= '0' && s[i] <= '9'; i++) {
            digit /= 10;
            n += digit * (s[i] - '0');
        }
    }
    static const char units[] = "KMGT";
    const char *unit = s[i] ? strchr(units, s[i]) : NULL;
    if (unit) {
        for (const char *u = units; u <= unit; u++) n *= 1024;
        i++;
    }
    if (s[i] != '\0' || !(n >= 1) || !(n < 0x1p63)) return false;
    *out = (uint64_t)n;
    return true;
}

/* A number above 0 times `unit`, if the key is there. */
static enum status read_rate(const json_t *o, const char *key, double unit,
                             double *out, struct error *err)
{
    const json_t *v = json_object_get(o, key);
    if (!v) return ST_OK;
    const double n = json_number_value(v);
    if (!json_is_number(v) || !(n > 0) || !(n < 1e9)) {
        return error_set(err, ST_INVALID, "\"%s\" is not a number above 0",
                         key);
    }
    *out = n * unit;
    return ST_OK;
}

static enum status read_kernels(struct plan_node *to, json_t *kernels,
                                struct error *err)
{
    static const char *const keys[] = {"gbps", "gmacs"};
    const char *name;
    json_t *o;
    if (!json_is_object(kernels)) {
        return error_set(err, ST_INVALID, "\"kernels\" is not an object");
    }
    json_object_foreach(kernels, name, o)
    {
        enum quant_type type;
        if (!quant_by_name(name, &type)) {
            return error_set(err, ST_INVALID,
                             "\"kernels\": no weight type \"%.20s\" is known",
                             name);
        }
        struct plan_rate *r = &to->rates[type];
        enum status st =
            plan_json_keys(o, "\"kernels\"", keys, COUNT_OF(keys), err);
        if (st == ST_OK) st = read_rate(o, "gbps", 1e9, &r->bytes_per_s, err);
        if (st == ST_OK) st = read_rate(o, "gmacs", 1e9, &r->macs_per_s, err);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

static enum status read_node(struct plan_node *to, const json_t *o,
                             struct error *err)
{
    static const char *const keys[] = {"name",       "memory",    "isa",
                                       "threads",    "read_gbps", "link_mbit",
                                       "latency_us", "kernels"};
    enum status st = plan_json_keys(o, "it", keys, COUNT_OF(keys), err);
    if (st != ST_OK) return st;
    const json_t *name = json_object_get(o, "name");
    const json_t *isa = json_object_get(o, "isa");
    const json_t *threads = json_object_get(o, "threads");
    json_t *kernels = json_object_get(o, "kernels");
    const size_t n = json_string_length(name);
    if (n < 1 || n > PLAN_NAME_MAX) {
        return error_set(err, ST_INVALID,
                         "\"name\" is not a text of 1 to %d bytes",
                         PLAN_NAME_MAX);
    }
    memcpy(to->name, json_string_value(name), n);
    for (size_t i = 0; i < n; i++) { /* it is printed */
        const unsigned char c = (unsigned char)to->name[i];
        if (c < 0x20 || c == 0x7f) {
            return error_set(err, ST_INVALID,
                             "\"name\" has a control character");
        }
    }
    if (!parse_size(json_object_get(o, "memory"), &to->memory_bytes)) {
        return error_set(err, ST_INVALID,
                         "\"memory\" is not a size, as \"8G\"");
    }
    to->isa = ISA_AVX2;
    if (isa && (!json_is_string(isa) ||
                !isa_by_name(json_string_value(isa), &to->isa))) {
        return error_set(err, ST_INVALID, "\"isa\" is not known");
    }
    if (threads) {
        st = plan_json_u32(threads, "\"threads\"", 1, POOL_THREADS_MAX,
                           &to->n_threads, err);
    }
    if (st == ST_OK) {
        st = read_rate(o, "read_gbps", 1e9, &to->read_bytes_per_s, err);
    }
    if (st == ST_OK) {
        st = read_rate(o, "link_mbit", 1e6 / 8, &to->link_bytes_per_s, err);
    }
    if (st == ST_OK) {
        st = read_rate(o, "latency_us", 1e-6, &to->link_latency_s, err);
    }
    if (st == ST_OK && kernels) st = read_kernels(to, kernels, err);
    return st;
}

enum status plan_read_nodes(struct plan_node **out, uint32_t *n,
                            const char *text, size_t len, struct error *err)
{
    json_t *root = plan_json_parse(text, len, "nodes", err);
    if (!root) return len > PLAN_JSON_MAX ? ST_TOO_LARGE : ST_INVALID;
    const size_t count = json_array_size(root);
    if (!json_is_array(root) || count < 1 || count > PLAN_NODES_MAX) {
        json_decref(root);
        return error_set(err, ST_INVALID, "nodes: not a list of 1 to %d nodes",
                         PLAN_NODES_MAX);
    }
    struct plan_node *nodes = mem_zalloc_array(count, sizeof *nodes);
    if (!nodes) {
        json_decref(root);
        return error_set(err, ST_NO_MEMORY, "nodes");
    }
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < count; i++) {
        nodes[i].id = (uint32_t)i;
        st = read_node(&nodes[i], json_array_get(root, i), err);
        for (size_t j = 0; st == ST_OK && j < i; j++) {
            if (strcmp(nodes[i].name, nodes[j].name) == 0) {
                st = error_set(err, ST_INVALID, "\"%s\" is there twice",
                               nodes[i].name);
            }
        }
        if (st != ST_OK) error_prefix(err, st, "nodes[%zu]", i);
    }
    json_decref(root);
    if (st != ST_OK) {
        mem_free(nodes);
        return st;
    }
    *out = nodes;
    *n = (uint32_t)count;
    return ST_OK;
}

/* ------------------------------------------------------------- table */

/* "0-9, 12-13"; what does not fit ends in "...". */
static void layers_text(const struct plan *p, uint32_t node, char text[32])
{
    size_t n = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct plan_stage *s = &p->stages[i];
        if (s->node != node || s->layer_end == s->layer_first) continue;
        char range[32];
        const int len = snprintf(range, sizeof range, "%s%u-%u", n ? ", " : "",
                                 s->layer_first, s->layer_end - 1);
        const bool fits = n + (size_t)len < 28;
        n += (size_t)snprintf(text + n, 32 - n, "%s", fits ? range : "...");
        if (!fits) break;
    }
    if (n == 0) snprintf(text, 32, "-");
}

static uint32_t count_experts(const struct plan *p, uint32_t node)
{
    const size_t all = (size_t)p->n_layer * MODEL_EXPERTS_MAX;
    uint32_t n = 0;
    for (size_t i = 0; i < all; i++) n += p->expert_node[i] == node;
    return n;
}

static enum status write_row(const struct plan *p, uint32_t i, int width,
                             struct buf *out)
{
    const struct plan_share *s = &p->nodes[i];
    if (!s->used) {
        return buf_printf(out, "%-*s  left out: it would not help\n", width,
                          s->name);
    }
    char layers[32], experts[16] = "";
    double time_s = 0;
    for (uint32_t k = 0; k < p->n_stages; k++) {
        if (p->stages[k].node == i) time_s += p->stages[k].decode_s;
    }
    layers_text(p, i, layers);
    if (p->expert_node[0] != PLAN_NONE) {
        snprintf(experts, sizeof experts, "%u", count_experts(p, i));
    }
    const struct plan_unit u = plan_unit(s->memory_bytes);
    const char *ends = "";
    if (s->spec.embed) ends = "  embedding";
    if (s->spec.vocab_end) ends = "  head";
    if (s->spec.embed && s->spec.vocab_end) ends = "  embedding, head";
    return buf_printf(
        out, "%-*s  %-28s %-9s %7.2f of %7.2f %s  %8.2f ms  %3.0f %%%s\n",
        width, s->name, layers, experts, (double)s->bytes.total / u.bytes,
        (double)s->memory_bytes / u.bytes, u.name, time_s * 1e3,
        100 * time_s * p->decode_tokens_per_s, ends);
}

enum status plan_write_table(const struct plan *p, struct buf *out)
{
    const size_t before = out->len;
    int width = 4;
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const int n = (int)strlen(p->nodes[i].name);
        if (n > width) width = n;
    }
    enum status st =
        buf_printf(out, "%-*s  %-28s %-9s %-22s  %s\n", width, "node", "layers",
                   p->expert_node[0] != PLAN_NONE ? "experts" : "", "memory",
                   "of a token's time");
    for (uint32_t i = 0; st == ST_OK && i < p->n_nodes; i++) {
        st = write_row(p, i, width, out);
    }
    const uint32_t one = kv_pages(p->n_ctx);
    if (st == ST_OK) {
        st = buf_printf(
            out,
            "\n%.2f tokens/s for one, %.2f tokens/s for all; first token of a "
            "prompt of 512 after %.2f s\nslowest: %s\nroom for %u positions, "
            "that is %.1f whole contexts of %u\n",
            p->decode_tokens_per_s, p->batch_tokens_per_s, p->prompt_512_s,
            p->bottleneck, p->n_pages * KV_PAGE,
            (double)p->n_pages / (double)one, p->n_ctx);
    }
    if (st != ST_OK && out->data) {
        out->len = before;
        out->data[before] = '\0';
    }
    return st;
}

/* plan_json.c - a plan as the JSON that `serve --plan` reads, and back. */
#include "engine/plan_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/plan_internal.h"

/* ------------------------------------------------------------- write */

static json_t *json_bytes(uint64_t n)
{
    return json_integer(n < INT64_MAX ? (json_int_t)n : INT64_MAX);
}

static json_t *write_layers(const struct plan *p)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct plan_stage *s = &p->stages[i];
        if (s->layer_end == s->layer_first) continue;
        json_array_append_new(
            list, json_pack("{s:s, s:i, s:i}", "node", p->nodes[s->node].name,
                            "first", s->layer_first, "end", s->layer_end));
    }
    return list;
}

static json_t *write_experts(const struct plan *p)
{
    json_t *experts = json_object();
    for (uint32_t l = 0; l < p->n_layer; l++) {
        const uint16_t *to = p->expert_node + (size_t)l * MODEL_EXPERTS_MAX;
        const uint32_t home = plan_layer_node(p, l);
        json_t *layer = NULL;
        for (uint32_t e = 0; e < MODEL_EXPERTS_MAX && to[e] < p->n_nodes; e++) {
            if (to[e] == home) continue;
            if (!layer) layer = json_object();
            const char *name = p->nodes[to[e]].name;
            json_t *list = json_object_get(layer, name);
            if (!list) {
                list = json_array();
                if (json_object_set_new(layer, name, list) != 0) list = NULL;
            }
            json_array_append_new(list, json_integer(e));
        }
        char key[16];
        snprintf(key, sizeof key, "%u", l);
        if (layer) json_object_set_new(experts, key, layer);
    }
    return experts;
}

static json_t *write_nodes(const struct plan *p)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const struct plan_share *s = &p->nodes[i];
        json_array_append_new(
            list, json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o}", "name",
                            s->name, "used", s->used, "memory_bytes",
                            json_bytes(s->memory_bytes), "total_bytes",
                            json_bytes(s->bytes.total), "weights_bytes",
                            json_bytes(s->bytes.weights), "kv_bytes",
                            json_bytes(s->bytes.kv), "scratch_bytes",
                            json_bytes(s->bytes.scratch)));
    }
    return list;
}

static json_t *write_predicted(const struct plan *p)
{
    json_t *stages = json_array();
    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct plan_stage *s = &p->stages[i];
        json_array_append_new(stages, json_pack("{s:s, s:f, s:f}", "node",
                                                p->nodes[s->node].name,
                                                "decode_s", s->decode_s,
                                                "prefill_s", s->prefill_s));
    }
    return json_pack("{s:f, s:f, s:f, s:f, s:s, s:o}", "decode_tokens_per_s",
                     p->decode_tokens_per_s, "batch_tokens_per_s",
                     p->batch_tokens_per_s, "prompt_512_s", p->prompt_512_s,
                     "busiest_s", p->busiest_s, "bottleneck", p->bottleneck,
                     "stages", stages);
}

static int append(const char *text, size_t n, void *arg)
{
    return buf_append(arg, text, n) == ST_OK ? 0 : -1;
}

enum status plan_write_json(const struct plan *p, struct buf *out,
                            struct error *err)
{
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        json_t *name = json_string(p->nodes[i].name);
        if (!name) {
            return error_set(err, ST_INVALID,
                             "node %u has a name that is not UTF-8",
                             p->nodes[i].id);
        }
        json_decref(name);
    }
    json_t *options =
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:s}", "n_ctx", p->n_ctx,
                  "n_seq_max", p->n_seq_max, "n_pages", p->n_pages, "rows_max",
                  p->rows_max, "outputs_max", p->outputs_max, "n_steps",
                  p->n_steps, "kv_type", kv_type_name(p->kv_type));
    json_t *root = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "embed",
                             p->nodes[p->stages[0].node].name, "head",
                             p->nodes[p->stages[p->n_stages - 1].node].name,
                             "layers", write_layers(p), "experts",
                             write_experts(p), "options", options, "nodes",
                             write_nodes(p), "predicted", write_predicted(p));
    const size_t before = out->len;
    const bool ok =
        root &&
        json_dump_callback(root, append, out,
                           JSON_INDENT(1) | JSON_REAL_PRECISION(9)) == 0 &&
        buf_append(out, "\n", 1) == ST_OK;
    const bool made = root != NULL;
    json_decref(root);
    if (ok) return ST_OK;
    if (out->data) {
        out->len = before;
        out->data[before] = '\0';
    }
    return error_set(
        err, made ? ST_TOO_LARGE : ST_NO_MEMORY, "the plan's JSON: %s",
        made ? "over the buffer's limit, or no memory" : "no memory");
}

/* -------------------------------------------------------------- read */

json_t *plan_json_parse(const char *text, size_t n, const char *what,
                        struct error *err)
{
    if (n > PLAN_JSON_MAX) {
        error_set(err, ST_TOO_LARGE, "%s: %zu bytes, at most %u", what, n,
                  PLAN_JSON_MAX);
        return NULL;
    }
    json_error_t e;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    for (char *c = e.text; !root && *c; c++) { /* it quotes the file */
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    }
    if (!root) {
        error_set(err, ST_INVALID, "%s: line %d, column %d: %s", what, e.line,
                  e.column, e.text);
    }
    return root;
}

enum status plan_json_keys(const json_t *o, const char *what,
                           const char *const *keys, size_t n, struct error *err)
{
    if (!json_is_object(o)) {
        return error_set(err, ST_INVALID, "%s is not an object", what);
    }
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v)
    {
        size_t i = 0;
        while (i < n && strcmp(key, keys[i]) != 0) i++;
        if (i == n) {
            return error_set(err, ST_INVALID, "%s: no key \"%.40s\" is known",
                             what, key);
        }
    }
    return ST_OK;
}

enum status plan_json_u32(const json_t *v, const char *what, uint32_t low,
                          uint32_t high, uint32_t *out, struct error *err)
{
    const json_int_t n = json_integer_value(v);
    if (!json_is_integer(v) || n < (json_int_t)low || n > (json_int_t)high) {
        return error_set(err, ST_INVALID,
                         "%s is not a whole number from %u to %u", what, low,
                         high);
    }
    *out = (uint32_t)n;
    return ST_OK;
}

struct reading {
    struct plan_work *w;
    struct plan_layout *l;
    uint32_t n_pages;
};

static enum status find_name(const struct plan_request *r, const char *name,
                             const char *what, uint16_t *out, struct error *err)
{
    uint32_t found = r->n_nodes;
    for (uint32_t i = 0; i < r->n_nodes; i++) {
        if (strcmp(r->nodes[i].name, name) != 0) continue;
        if (found < r->n_nodes) {
            return error_set(err, ST_INVALID,
                             "%s: two nodes are named %.63s; give one another "
                             "name (join --name)",
                             what, name);
        }
        found = i;
    }
    if (found == r->n_nodes) {
        return error_set(err, ST_NOT_FOUND, "%s: node %.63s has not joined",
                         what, name);
    }
    *out = (uint16_t)found;
    return ST_OK;
}

static enum status read_name(const struct plan_request *r, const json_t *v,
                             const char *what, uint16_t *out, struct error *err)
{
    if (!json_is_string(v)) {
        return error_set(err, ST_INVALID, "%s is not the name of a node", what);
    }
    return find_name(r, json_string_value(v), what, out, err);
}

static enum status read_layers(struct reading *rd, const json_t *list,
                               struct error *err)
{
    static const char *const keys[] = {"node", "first", "end"};
    const uint32_t n_layer = rd->w->m->n_layer;
    uint32_t next = 0;
    if (!json_is_array(list)) {
        return error_set(err, ST_INVALID, "\"layers\" is not a list");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i);
        char what[48];
        uint32_t first = 0, end = 0;
        uint16_t node = 0;
        snprintf(what, sizeof what, "layers[%zu]", i);
        enum status st = plan_json_keys(o, what, keys, COUNT_OF(keys), err);
        if (st == ST_OK) {
            st = read_name(&rd->w->req, json_object_get(o, "node"), what, &node,
                           err);
        }
        if (st == ST_OK) {
            st = plan_json_u32(json_object_get(o, "first"),
                               "\"first\" of a range of layers", 0, n_layer,
                               &first, err);
        }
        if (st == ST_OK) {
            st = plan_json_u32(json_object_get(o, "end"),
                               "\"end\" of a range of layers", 1, n_layer, &end,
                               err);
        }
        if (st != ST_OK) return st;
        if (first != next || end <= first) {
            return error_set(err, ST_INVALID,
                             "%s has layers %u to %u; the one before ends at "
                             "%u",
                             what, first, end, next);
        }
        for (uint32_t l = first; l < end; l++) rd->l->item_node[l + 1] = node;
        next = end;
    }
    if (next == n_layer) return ST_OK;
    return error_set(err, ST_INVALID,
                     "\"layers\" end at %u, but the model has %u", next,
                     n_layer);
}

static enum status read_expert_list(struct reading *rd, uint32_t layer,
                                    uint16_t node, const json_t *list,
                                    bool *placed, struct error *err)
{
    if (!json_is_array(list)) {
        return error_set(err, ST_INVALID,
                         "experts of layer %u: not a list of numbers", layer);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        uint32_t e = 0;
        const enum status st =
            plan_json_u32(json_array_get(list, i), "an expert", 0,
                          rd->w->m->n_expert - 1, &e, err);
        if (st != ST_OK) return st;
        if (placed[e]) {
            return error_set(err, ST_INVALID,
                             "layer %u: expert %u is there twice", layer, e);
        }
        placed[e] = true;
        rd->l->expert_node[(size_t)layer * MODEL_EXPERTS_MAX + e] = node;
    }
    return ST_OK;
}

static enum status read_experts(struct reading *rd, json_t *experts,
                                struct error *err)
{
    if (!json_is_object(experts)) {
        return error_set(err, ST_INVALID, "\"experts\" is not an object");
    }
    const char *key, *name;
    json_t *layer, *list;
    json_object_foreach(experts, key, layer)
    {
        char *end;
        const unsigned long l = strtoul(key, &end, 10);
        /* digits only, and no 007: two keys would mean one layer */
        char again[24];
        snprintf(again, sizeof again, "%lu", l);
        if (strcmp(again, key) != 0 || l >= rd->w->m->n_layer ||
            rd->w->m->n_expert == 0) {
            return error_set(err, ST_INVALID,
                             "\"experts\": the model has no layer \"%.20s\" "
                             "with experts",
                             key);
        }
        if (!json_is_object(layer)) {
            return error_set(err, ST_INVALID,
                             "experts of layer %lu: not an object", l);
        }
        bool placed[MODEL_EXPERTS_MAX] = {false};
        json_object_foreach(layer, name, list)
        {
            uint16_t node;
            enum status st =
                find_name(&rd->w->req, name, "\"experts\"", &node, err);
            if (st == ST_OK) {
                st = read_expert_list(rd, (uint32_t)l, node, list, placed, err);
            }
            if (st != ST_OK) return st;
        }
    }
    return ST_OK;
}

static enum status read_options(struct plan_request *r, uint32_t *n_pages,
                                const json_t *o, struct error *err)
{
    struct {
        const char *key;
        uint32_t *to;
        uint32_t high;
    } const numbers[] = {
        {"n_ctx", &r->n_ctx, MODEL_CTX_MAX},
        {"n_seq_max", &r->n_seq_max, PLAN_SEQS_MAX},
        {"rows_max", &r->rows_max, STEP_ROWS_MAX},
        {"outputs_max", &r->outputs_max, STEP_ROWS_MAX},
        {"n_steps", &r->n_steps, PLAN_STEPS_MAX},
        {"n_pages", n_pages, UINT32_MAX},
    };
    const char *keys[COUNT_OF(numbers) + 1] = {"kv_type"};
    for (size_t i = 0; i < COUNT_OF(numbers); i++) keys[i + 1] = numbers[i].key;
    enum status st =
        plan_json_keys(o, "\"options\"", keys, COUNT_OF(keys), err);
    for (size_t i = 0; st == ST_OK && i < COUNT_OF(numbers); i++) {
        const json_t *v = json_object_get(o, numbers[i].key);
        if (v) {
            st = plan_json_u32(v, numbers[i].key, 1, numbers[i].high,
                               numbers[i].to, err);
        }
    }
    const json_t *kv = json_object_get(o, "kv_type");
    if (st != ST_OK || !kv) return st;
    const char *name = json_string_value(kv);
    if (!name || !kv_type_by_name(name, &r->kv_type)) {
        return error_set(err, ST_INVALID, "\"kv_type\": " KV_TYPE_NAMES);
    }
    return ST_OK;
}

/* What is for people is not used, but a wrong key in it is still wrong. */
static enum status look_over(const json_t *root, struct error *err)
{
    static const char *const node[] = {
        "name",          "used",     "memory_bytes", "total_bytes",
        "weights_bytes", "kv_bytes", "scratch_bytes"};
    static const char *const predicted[] = {
        "decode_tokens_per_s", "batch_tokens_per_s", "prompt_512_s",
        "busiest_s",           "bottleneck",         "stages"};
    const json_t *nodes = json_object_get(root, "nodes");
    const json_t *p = json_object_get(root, "predicted");
    if (nodes && !json_is_array(nodes)) {
        return error_set(err, ST_INVALID, "\"nodes\" is not a list");
    }
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const enum status st = plan_json_keys(
            json_array_get(nodes, i), "\"nodes\"", node, COUNT_OF(node), err);
        if (st != ST_OK) return st;
    }
    if (!p) return ST_OK;
    return plan_json_keys(p, "\"predicted\"", predicted, COUNT_OF(predicted),
                          err);
}

static enum status read_layout(struct reading *rd, const json_t *root,
                               struct error *err)
{
    const struct model *m = rd->w->m;
    uint16_t *item_node = rd->l->item_node;
    const json_t *embed = json_object_get(root, "embed");
    const json_t *head = json_object_get(root, "head");
    json_t *experts = json_object_get(root, "experts");
    enum status st = read_layers(rd, json_object_get(root, "layers"), err);
    if (st != ST_OK) return st;
    item_node[0] = item_node[1];
    item_node[m->n_layer + 1] = item_node[m->n_layer];
    for (uint32_t l = 0; l < m->n_layer; l++) {
        for (uint32_t e = 0; e < m->n_expert; e++) {
            rd->l->expert_node[(size_t)l * MODEL_EXPERTS_MAX + e] =
                item_node[l + 1];
        }
    }
    if (embed) {
        st = read_name(&rd->w->req, embed, "\"embed\"", &item_node[0], err);
    }
    if (st == ST_OK && head) {
        st = read_name(&rd->w->req, head, "\"head\"",
                       &item_node[m->n_layer + 1], err);
    }
    if (st == ST_OK && experts) st = read_experts(rd, experts, err);
    return st;
}

enum status plan_read_json(struct plan *out, const struct plan_request *r,
                           const char *text, size_t n, struct error *err)
{
    static const char *const keys[] = {
        "embed", "head", "layers", "experts", "options", "nodes", "predicted"};
    json_t *root = plan_json_parse(text, n, "plan", err);
    if (!root) return n > PLAN_JSON_MAX ? ST_TOO_LARGE : ST_INVALID;
    struct plan_request req = *r;
    struct plan_work w = {0};
    struct plan_layout l = {0};
    struct reading rd = {&w, &l, 0};
    const json_t *options = json_object_get(root, "options");
    enum status st = plan_json_keys(root, "plan", keys, COUNT_OF(keys), err);
    if (st == ST_OK && options) {
        st = read_options(&req, &rd.n_pages, options, err);
    }
    if (st == ST_OK) st = look_over(root, err);
    if (st == ST_OK) st = plan_work_init(&w, &req, err);
    if (st == ST_OK) st = plan_layout_init(&l, &w, err);
    if (st == ST_OK) st = read_layout(&rd, root, err);
    if (st == ST_OK) st = plan_finish(out, &w, &l, rd.n_pages, err);
    plan_layout_fini(&l);
    plan_work_fini(&w);
    json_decref(root);
    return st == ST_OK ? st : error_prefix(err, st, "plan");
}

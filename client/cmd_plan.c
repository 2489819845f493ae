/* cmd_plan.c - potluck plan: who would compute what, without a cluster. */
#include <stdio.h>

#include "client/commands.h"
#include "engine/plan.h"

struct planning {
    const char *model, *nodes, *objective, *kv;
    bool json;
    struct plan_request request;
};

static enum status write_out(const struct buf *b, struct error *err)
{
    if (fwrite(b->data, 1, b->len, stdout) == b->len && fflush(stdout) == 0) {
        return ST_OK;
    }
    return error_set(err, ST_IO, "standard output: not all could be written");
}

static enum status make_and_print(const struct planning *p,
                                  const struct plan_request *r,
                                  struct error *err)
{
    struct plan plan = {0};
    struct buf out;
    buf_init(&out, PLAN_JSON_MAX);
    enum status st = plan_make(&plan, r, err);
    if (st == ST_OK && p->json) st = plan_write_json(&plan, &out, err);
    if (st == ST_OK && !p->json) {
        st = plan_write_table(&plan, &out);
        if (st != ST_OK) error_set(err, st, "plan: no memory for its table");
    }
    if (st == ST_OK) st = write_out(&out, err);
    plan_fini(&plan);
    buf_fini(&out);
    return st;
}

static enum status plan_for(struct planning *p, struct error *err)
{
    struct gguf *g = NULL;
    struct model model = {0};
    struct plan_node *nodes = NULL;
    struct buf text;
    buf_init(&text, PLAN_JSON_MAX);
    enum status st = read_all_file(p->nodes, &text, err);
    if (st == ST_OK) {
        st = plan_read_nodes(&nodes, &p->request.n_nodes,
                             text.data ? text.data : "", text.len, err);
        if (st != ST_OK) error_prefix(err, st, "%s", p->nodes);
    }
    if (st == ST_OK) st = gguf_open(&g, p->model, err);
    if (st == ST_OK) {
        st = model_describe(&model, g, err);
        if (st != ST_OK) error_prefix(err, st, "%s", p->model);
    }
    if (st == ST_OK) {
        struct plan_request r = p->request;
        r.model = &model;
        r.nodes = nodes;
        st = make_and_print(p, &r, err);
    }
    model_fini(&model);
    gguf_close(g);
    mem_free(nodes);
    buf_fini(&text);
    return st;
}

int cmd_plan(int argc, char **argv)
{
    struct error err;
    struct planning p = {
        .request = {.objective = PLAN_MIXED, .kv_type = KV_F16, .n_users = 1}};
    const struct option table[] = {
        {"--nodes", 0, OPTION_STRING, &p.nodes, "FILE",
         "the PCs: [{\"name\": \"pc-1\", \"memory\": \"8G\"}]", 0, 0},
        {"--json", 0, OPTION_FLAG, &p.json, NULL,
         "print what serve --plan reads", 0, 0},
        {"--objective", 0, OPTION_STRING, &p.objective, "WHAT",
         "latency, throughput or mixed (default)", 0, 0},
        {"--users", 'u', OPTION_U32, &p.request.n_users, "N",
         "people who use it at once (default 1)", 1, PLAN_SEQS_MAX},
        {"--ctx", 'c', OPTION_U32, &p.request.n_ctx, "N",
         "context, in tokens (default: up to 4096)", 1, MODEL_CTX_MAX},
        {"--kv", 0, OPTION_STRING, &p.kv, "TYPE",
         "key/value cache: f16 (default), f32 or q8_0", 0, 0},
        {"--batch", 0, OPTION_U32, &p.request.rows_max, "N",
         "prompt tokens computed together (default 128)", 1, STEP_ROWS_MAX},
    };
    const char *words[1];
    size_t n_words;
    int code;
    if (!parse_command(table, COUNT_OF(table),
                       "plan MODEL.gguf --nodes FILE [OPTIONS]", argc, argv,
                       words, 1, &n_words, &code)) {
        return code;
    }
    enum status st = ST_OK;
    if (n_words == 0 || !p.nodes) {
        st = error_set(&err, ST_USAGE,
                       "plan needs a model file and --nodes FILE");
    } else if (p.objective &&
               !plan_objective_by_name(p.objective, &p.request.objective)) {
        st = error_set(&err, ST_USAGE,
                       "--objective %s: latency, throughput or mixed",
                       p.objective);
    } else if (p.kv && !kv_type_by_name(p.kv, &p.request.kv_type)) {
        st = error_set(&err, ST_USAGE, "--kv %s: " KV_TYPE_NAMES, p.kv);
    }
    if (st == ST_OK) {
        p.model = words[0];
        st = plan_for(&p, &err);
    }
    return st == ST_OK ? EXIT_CODE_OK : fail(&err);
}

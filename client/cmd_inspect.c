/* cmd_inspect.c - potluck inspect: what a model file holds, what it needs. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "client/commands.h"

struct inspection {
    const char *path;
    struct gguf *g;
    struct model model;
    bool described;
    struct error why_not;   /* if not described */
    struct error tokenizer; /* status ST_OK: it can be used */
    struct gguf_str tokenizer_name;
    struct model_options options;
    struct shard_bytes plan;
    uint64_t type_bytes[QUANT_TYPE_END];
    uint32_t type_tensors[QUANT_TYPE_END];
    uint32_t unknown_tensors;
};

static void count_types(struct inspection *in)
{
    for (uint32_t i = 0; i < gguf_n_tensors(in->g); i++) {
        const struct gguf_tensor *t = gguf_tensor(in->g, i);
        if (!quant_info(t->type)) {
            in->unknown_tensors++;
            continue;
        }
        in->type_bytes[t->type] += t->n_bytes;
        in->type_tensors[t->type]++;
    }
}

static void look_at_tokenizer(struct inspection *in)
{
    struct tokenizer *t = NULL;
    in->tokenizer.status = tokenizer_create(&t, in->g, &in->tokenizer);
    tokenizer_free(t);
    if (gguf_get_str(in->g, "tokenizer.ggml.model", &in->tokenizer_name,
                     NULL) != ST_OK) {
        in->tokenizer_name = (struct gguf_str){"none", 4};
    }
}

static enum status inspect(struct inspection *in, struct error *err)
{
    enum status st = gguf_open(&in->g, in->path, err);
    if (st != ST_OK) return st;
    count_types(in);
    look_at_tokenizer(in);
    in->described = model_describe(&in->model, in->g, &in->why_not) == ST_OK;
    if (!in->described) return ST_OK;
    return runner_plan(&in->plan, &in->model, &in->options.shard, err);
}

/* ------------------------------------------------------------- print */

/* Names come from the file: no control characters for the terminal. */
static const char *printable(char text[96], const char *s, size_t n)
{
    if (n > 95) n = 95;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];
        text[i] = s[i];
        if (c < 0x20 || c == 0x7f) text[i] = '?';
    }
    text[n] = '\0';
    return text;
}

static void print_model(const struct inspection *in)
{
    const struct model *m = &in->model;
    char name[96];
    printf("model:      %s%s%s\n", m->arch, m->name[0] ? ", " : "",
           printable(name, m->name, strlen(m->name)));
    printf("layers:     %u of width %u, feed-forward %u\n", m->n_layer,
           m->n_embd, m->n_ff);
    printf("attention:  %u heads of %u, %u key/value heads\n", m->n_head,
           m->head_dim, m->n_head_kv);
    if (m->n_expert != 0) {
        printf("experts:    %u, %u used by each token\n", m->n_expert,
               m->n_expert_used);
    }
    printf("vocabulary: %u tokens%s\n", m->n_vocab,
           m->tied ? ", head shared with the embedding" : "");
    printf("context:    up to %u positions, RoPE base %g%s", m->n_ctx,
           m->rope.base, m->rope_freqs ? ", with factors" : "");
    if (m->rope.scale != 1) {
        printf(", %s scaling by %g", m->rope.extend > 0 ? "YaRN" : "linear",
               1 / m->rope.scale);
    }
    if (m->n_rot != m->head_dim) printf(", %u of a head turn", m->n_rot);
    printf("\n");
    if (m->window != 0) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < m->n_layer; i++) n += m->layers[i].window != 0;
        printf("window:     %u positions in %u layers\n", m->window, n);
    }
    if (m->attn_softcap > 0 || m->final_softcap > 0) {
        printf("soft-cap:   attention %g, logits %g\n", (double)m->attn_softcap,
               (double)m->final_softcap);
    }
}

static void print_plan(const struct inspection *in)
{
    const struct shard_options *o = &in->options.shard;
    char a[32], b[32], c[32], d[32];
    printf("memory:     %s for a context of %u (weights %s, key/value cache "
           "%s in %s, scratch %s)\n",
           human_bytes(a, in->plan.total), o->n_ctx,
           human_bytes(b, in->plan.weights), human_bytes(c, in->plan.kv),
           kv_type_name(o->kv_type), human_bytes(d, in->plan.scratch));
    printf("reads:      %s of weights for a token\n",
           human_bytes(a, model_active_bytes(&in->model)));
}

static void print_tensors(const struct inspection *in)
{
    for (uint32_t i = 0; i < gguf_n_tensors(in->g); i++) {
        const struct gguf_tensor *t = gguf_tensor(in->g, i);
        char size[32], dims[96], name[96];
        int n = 0;
        for (uint32_t d = 0; d < t->n_dims && n < 80; d++) {
            n += snprintf(dims + n, sizeof dims - (size_t)n, "%s%llu",
                          d ? " x " : "", (unsigned long long)t->ne[d]);
        }
        printf("%-40s %-6s %-24s %s\n",
               printable(name, t->name, strlen(t->name)), quant_name(t->type),
               n ? dims : "scalar", human_bytes(size, t->n_bytes));
    }
}

static void print_text(const struct inspection *in, bool tensors)
{
    char text[32], name[96];
    printf("file:       %s, GGUF v%u, %s%s\n", in->path, gguf_version(in->g),
           human_bytes(text, gguf_file_bytes(in->g)),
           gguf_n_splits(in->g) > 1 ? ", split" : "");
    if (in->described)
        print_model(in);
    else
        printf("model:      cannot be computed: %s\n", in->why_not.text);
    printf("tokenizer:  %s%s%s\n",
           printable(name, in->tokenizer_name.data, in->tokenizer_name.len),
           in->tokenizer.status == ST_OK ? "" : ": ",
           in->tokenizer.status == ST_OK ? "" : in->tokenizer.text);
    if (in->described) print_plan(in);
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        if (in->type_tensors[t] == 0) continue;
        printf("weights:    %u tensors in %s, %s, kernel %s\n",
               in->type_tensors[t], quant_name(t),
               human_bytes(text, in->type_bytes[t]),
               kernel_select((enum quant_type)t, in->options.shard.isa)->name);
    }
    if (in->unknown_tensors) {
        printf("weights:    %u tensors in types that are not supported yet\n",
               in->unknown_tensors);
    }
    if (tensors) print_tensors(in);
}

/* -------------------------------------------------------------- JSON */

static json_t *json_model(const struct inspection *in)
{
    const struct model *m = &in->model;
    return json_pack(
        "{s:s, s:o, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, "
        "s:b, s:I, s:i, s:f, s:f, s:f, s:b}",
        "architecture", m->arch, "name", json_text(m->name, strlen(m->name)),
        "n_layer", m->n_layer, "n_embd", m->n_embd, "n_head", m->n_head,
        "n_head_kv", m->n_head_kv, "head_dim", m->head_dim, "n_ff", m->n_ff,
        "n_expert", m->n_expert, "n_expert_used", m->n_expert_used, "n_vocab",
        m->n_vocab, "n_ctx", m->n_ctx, "rope_freq_base", m->rope.base, "tied",
        m->tied, "active_bytes", (json_int_t)model_active_bytes(m),
        "sliding_window", m->window, "attn_softcap", (double)m->attn_softcap,
        "final_softcap", (double)m->final_softcap, "rope_scaling_factor",
        1 / m->rope.scale, "yarn", m->rope.extend > 0);
}

static json_t *json_plan(const struct inspection *in)
{
    const struct shard_options *o = &in->options.shard;
    return json_pack("{s:i, s:s, s:I, s:I, s:I, s:I}", "n_ctx", o->n_ctx,
                     "kv_type", kv_type_name(o->kv_type), "weights_bytes",
                     (json_int_t)in->plan.weights, "kv_bytes",
                     (json_int_t)in->plan.kv, "scratch_bytes",
                     (json_int_t)in->plan.scratch, "total_bytes",
                     (json_int_t)in->plan.total);
}

static json_t *json_types(const struct inspection *in)
{
    json_t *types = json_array();
    for (uint32_t t = 0; t < QUANT_TYPE_END; t++) {
        if (in->type_tensors[t] == 0) continue;
        json_array_append_new(
            types,
            json_pack(
                "{s:s, s:i, s:I, s:s, s:o}", "type", quant_name(t), "tensors",
                in->type_tensors[t], "bytes", (json_int_t)in->type_bytes[t],
                "kernel",
                kernel_select((enum quant_type)t, in->options.shard.isa)->name,
                "openblas",
                json_tuning((enum quant_type)t, &in->options.shard)));
    }
    return types;
}

static json_t *json_tensors(const struct inspection *in)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < gguf_n_tensors(in->g); i++) {
        const struct gguf_tensor *t = gguf_tensor(in->g, i);
        json_t *shape = json_array();
        for (uint32_t d = 0; d < t->n_dims; d++) {
            json_array_append_new(shape, json_integer((json_int_t)t->ne[d]));
        }
        json_array_append_new(
            list, json_pack("{s:o, s:s, s:o, s:I}", "name",
                            json_text(t->name, strlen(t->name)), "type",
                            quant_name(t->type), "shape", shape, "bytes",
                            (json_int_t)t->n_bytes));
    }
    return list;
}

static enum status print_as_json(const struct inspection *in, bool tensors,
                                 struct error *err)
{
    json_t *o = json_pack(
        "{s:o, s:i, s:i, s:i, s:I, s:o, s:{s:o, s:b}}", "file",
        json_text(in->path, strlen(in->path)), "gguf_version",
        gguf_version(in->g), "splits", gguf_n_splits(in->g), "n_tensors",
        gguf_n_tensors(in->g), "bytes", (json_int_t)gguf_file_bytes(in->g),
        "types", json_types(in), "tokenizer", "model",
        json_text(in->tokenizer_name.data, in->tokenizer_name.len), "supported",
        in->tokenizer.status == ST_OK);
    if (o && in->tokenizer.status != ST_OK) {
        json_object_set_new(
            json_object_get(o, "tokenizer"), "unsupported",
            json_text(in->tokenizer.text, strlen(in->tokenizer.text)));
    }
    if (o && in->described) {
        json_object_set_new(o, "model", json_model(in));
        json_object_set_new(o, "plan", json_plan(in));
    } else if (o) {
        json_object_set_new(
            o, "unsupported",
            json_text(in->why_not.text, strlen(in->why_not.text)));
    }
    if (o && tensors) json_object_set_new(o, "tensors", json_tensors(in));
    return print_json(o, err);
}

int cmd_inspect(int argc, char **argv)
{
    struct error err;
    struct inspection in = {0};
    bool json = false, tensors = false;
    model_options_defaults(&in.options);
    const struct option table[] = {
        {"--json", 0, OPTION_FLAG, &json, NULL, "print one JSON object", 0, 0},
        {"--tensors", 0, OPTION_FLAG, &tensors, NULL, "list the tensors", 0, 0},
        MODEL_OPTIONS(&in.options),
    };
    const char *words[1];
    size_t n_words;
    int code;
    if (!parse_command(table, COUNT_OF(table), "inspect MODEL.gguf [OPTIONS]",
                       argc, argv, words, 1, &n_words, &code)) {
        return code;
    }
    enum status st = model_options_finish(&in.options, &err);
    if (st == ST_OK && n_words == 0) {
        st = error_set(&err, ST_USAGE, "inspect needs a model file");
    }
    if (st == ST_OK) {
        in.path = words[0];
        st = inspect(&in, &err);
    }
    if (st == ST_OK && json)
        st = print_as_json(&in, tensors, &err);
    else if (st == ST_OK)
        print_text(&in, tensors);
    model_fini(&in.model);
    gguf_close(in.g);
    return st == ST_OK ? EXIT_CODE_OK : fail(&err);
}

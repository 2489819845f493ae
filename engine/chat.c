/* chat.c - messages to a prompt, by the model's own chat template. */
#include "engine/chat.h"

#include <string.h>

#include "engine/chat_builtin.h"
#include "engine/jinja.h"

/* What a chat template may be instead of a template: a format's name. */
#define NAME_MAX_BYTES 32

enum { PIECE_BOS, PIECE_EOS, PIECE_UNKNOWN, PIECE_PADDING, PIECE_COUNT };

/* SentencePiece files may leave the first three to convention. */
static const struct {
    const char *key, *name;
    int64_t spm;
} special[PIECE_COUNT] = {
    {"tokenizer.ggml.bos_token_id", "bos_token", 1},
    {"tokenizer.ggml.eos_token_id", "eos_token", 2},
    {"tokenizer.ggml.unknown_token_id", "unk_token", 0},
    {"tokenizer.ggml.padding_token_id", "pad_token", -1},
};

struct chat {
    struct jinja *template;
    struct buf piece[PIECE_COUNT]; /* empty where the file has none */
};

void chat_prompt_fini(struct chat_prompt *p)
{
    buf_fini(&p->text);
    mem_free(p->plain);
    *p = (struct chat_prompt){0};
}

void chat_free(struct chat *c)
{
    if (!c) return;
    for (size_t i = 0; i < PIECE_COUNT; i++) buf_fini(&c->piece[i]);
    jinja_free(c->template);
    mem_free(c);
}

/* ------------------------------------------------------------ the file */

static enum status copy_pieces(struct chat *c, const struct gguf *g,
                               struct error *err)
{
    const struct gguf_array *tokens;
    struct gguf_str model = {NULL, 0};
    enum status st =
        gguf_get_array(g, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, err);
    if (st == ST_NOT_FOUND) return ST_OK;
    if (st != ST_OK) return st;
    st = gguf_get_str(g, "tokenizer.ggml.model", &model, err);
    if (st != ST_OK && st != ST_NOT_FOUND) return st;
    const bool spm = model.len == 5 && memcmp(model.data, "llama", 5) == 0;
    for (size_t i = 0; i < PIECE_COUNT; i++) {
        uint32_t id;
        buf_init(&c->piece[i], JINJA_SOURCE_MAX);
        st = gguf_get_u32(g, special[i].key, &id, err);
        /* nothing else reads the padding token: -1 means none */
        if (st != ST_OK && (st == ST_NOT_FOUND || i == PIECE_PADDING)) {
            if (!spm || special[i].spm < 0) continue;
            id = (uint32_t)special[i].spm;
            if (id >= gguf_array_len(tokens)) continue;
        } else if (st != ST_OK) {
            return st;
        }
        if (id >= gguf_array_len(tokens)) {
            return error_set(
                err, ST_INVALID, "%s is %u, but there are %llu tokens",
                special[i].key, id, (unsigned long long)gguf_array_len(tokens));
        }
        const struct gguf_str piece = gguf_array_str(tokens, id);
        st = buf_append(&c->piece[i], piece.data, piece.len);
        if (st != ST_OK) return error_set(err, st, "%s", special[i].name);
    }
    return ST_OK;
}

static bool is_name(struct gguf_str s)
{
    return s.len <= NAME_MAX_BYTES && !memchr(s.data, '{', s.len);
}

/* The template's source: the file's, or that of a format built in. */
static enum status find_source(const struct gguf *g, struct gguf_str *out,
                               struct error *err)
{
    char names[128];
    const struct chat_builtin *format;
    enum status st = gguf_get_str(g, "tokenizer.chat_template", out, err);
    if (st == ST_NOT_FOUND || (st == ST_OK && out->len == 0)) {
        format = chat_builtin_by_vocabulary(g);
        if (!format) {
            return error_set(err, ST_NOT_FOUND,
                             "the file has no chat template "
                             "(tokenizer.chat_template), and its vocabulary "
                             "is of no chat format that is built in");
        }
    } else if (st != ST_OK || !is_name(*out)) {
        return st;
    } else {
        format = chat_builtin_by_name(*out);
        if (!format) {
            return error_set(err, ST_NOT_FOUND,
                             "the chat format \"%.*s\" is not built in; "
                             "these are: %s",
                             (int)out->len, out->data,
                             chat_builtin_names(names));
        }
    }
    *out = (struct gguf_str){format->source, strlen(format->source)};
    return ST_OK;
}

enum status chat_create(struct chat **out, const struct gguf *g,
                        struct error *err)
{
    struct gguf_str source;
    enum status st = find_source(g, &source, err);
    if (st != ST_OK) return st;
    struct chat *c = mem_zalloc(sizeof *c);
    if (!c) return error_set(err, ST_NO_MEMORY, "chat template");
    st = jinja_parse(&c->template, source.data, source.len, err);
    if (st == ST_OK) st = copy_pieces(c, g, err);
    if (st != ST_OK) {
        chat_free(c);
        return st;
    }
    *out = c;
    return ST_OK;
}

/* ----------------------------------------------------------- rendering */

static enum status check_input(const struct chat_input *in, struct error *err)
{
    size_t i;
    const json_t *message;
    if (!json_is_array(in->messages)) {
        return error_set(err, ST_INVALID, "messages: not a list");
    }
    json_array_foreach(in->messages, i, message)
    {
        if (!json_is_object(message)) {
            return error_set(err, ST_INVALID, "messages[%zu]: not an object",
                             i);
        }
        if (!json_is_string(json_object_get(message, "role"))) {
            return error_set(err, ST_INVALID,
                             "messages[%zu]: \"role\" is not a string", i);
        }
    }
    if (in->tools && !json_is_array(in->tools) && !json_is_null(in->tools)) {
        return error_set(err, ST_INVALID, "tools: not a list");
    }
    return ST_OK;
}

/* The other module's spans are of the same shape, but not of the same type:
 * neither knows the other. */
static enum status take(struct chat_prompt *out, struct jinja_output *made,
                        struct error *err)
{
    struct chat_prompt p = {.text = made->text, .n_plain = made->n_spans};
    if (made->n_spans) {
        p.plain = mem_zalloc_array(made->n_spans, sizeof *p.plain);
        if (!p.plain) {
            return error_set(err, ST_NO_MEMORY, "the prompt: %zu spans",
                             made->n_spans);
        }
    }
    for (size_t i = 0; i < made->n_spans; i++) {
        p.plain[i].begin = made->span[i].begin;
        p.plain[i].end = made->span[i].end;
    }
    made->text = (struct buf){0};
    chat_prompt_fini(out);
    *out = p;
    return ST_OK;
}

enum status chat_render(const struct chat *c, const struct chat_input *in,
                        struct chat_prompt *out, struct error *err)
{
    struct jinja_var var[3 + PIECE_COUNT] = {
        {.name = "messages", .json = in->messages, .input = true},
        {.name = "tools", .json = in->tools, .input = true},
        {.name = "add_generation_prompt"},
    };
    enum status st = check_input(in, err);
    if (st != ST_OK) return st;
    var[2].json = in->add_generation_prompt ? json_true() : json_false();
    for (size_t i = 0; i < PIECE_COUNT; i++) {
        const struct buf *piece = &c->piece[i];
        var[3 + i] = (struct jinja_var){.name = special[i].name,
                                        .text = piece->data ? piece->data : "",
                                        .len = piece->len};
    }
    struct jinja_output made = {0};
    st = jinja_render(c->template, var, COUNT_OF(var), in->now, &made, err);
    if (st == ST_OK) st = take(out, &made, err);
    jinja_output_fini(&made);
    return st;
}

/* ------------------------------------------------------------ encoding */

/* Whether the template itself has begun the text with this piece. */
static bool begins_with(const struct chat_prompt *p, struct gguf_str piece)
{
    return piece.len > 0 && p->text.len >= piece.len &&
           memcmp(p->text.data, piece.data, piece.len) == 0 &&
           (p->n_plain == 0 || p->plain[0].begin >= piece.len);
}

enum status chat_encode(const struct tokenizer *t, const struct chat_prompt *p,
                        struct tokens *out, struct error *err)
{
    const size_t before = out->n;
    const int32_t bos = tokenizer_bos(t);
    const struct tokenize_options options = {
        .special = true, .plain = p->plain, .n_plain = p->n_plain};
    enum status st = ST_OK;
    if (tokenizer_add_bos(t) && bos >= 0 &&
        !begins_with(p, tokenizer_piece(t, bos))) {
        st = tokens_push(out, bos);
        if (st != ST_OK) return error_set(err, st, "the prompt's tokens");
    }
    st = tokenizer_encode(t, p->text.data ? p->text.data : "", p->text.len,
                          options, out, err);
    if (st != ST_OK) out->n = before;
    return st;
}

/* cmd_tokenize.c - potluck tokenize, potluck detokenize. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/commands.h"

static enum status open_tokenizer(struct tokenizer **out, const char *path,
                                  struct error *err)
{
    struct gguf *g;
    enum status st = gguf_open(&g, path, err);
    if (st != ST_OK) return st;
    st = tokenizer_create(out, g, err);
    gguf_close(g);
    return st == ST_OK ? ST_OK : error_prefix(err, st, "%s", path);
}

/* The word, or standard input where it is absent or "-". */
static enum status read_text(const char *word, const char *what, struct buf *b,
                             struct error *err)
{
    buf_init(b, TOKENIZER_TEXT_MAX);
    if (!word || strcmp(word, "-") == 0) return read_all_stdin(b, what, err);
    const enum status st = buf_append(b, word, strlen(word));
    return st == ST_OK ? ST_OK : error_set(err, st, "text");
}

static enum status print_tokens(const struct tokenizer *t,
                                const struct tokens *ids, bool json,
                                struct error *err)
{
    if (!json) {
        for (size_t i = 0; i < ids->n; i++) {
            printf("%s%d", i ? " " : "", ids->id[i]);
        }
        putchar('\n');
        return ST_OK;
    }
    json_t *list = json_array(), *pieces = json_array();
    for (size_t i = 0; i < ids->n; i++) {
        const struct gguf_str piece = tokenizer_piece(t, ids->id[i]);
        json_array_append_new(list, json_integer(ids->id[i]));
        json_array_append_new(pieces, json_text(piece.data, piece.len));
    }
    return print_json(json_pack("{s:o, s:o}", "tokens", list, "pieces", pieces),
                      err);
}

int cmd_tokenize(int argc, char **argv)
{
    bool json = false;
    struct tokenize_options options = {0};
    const struct option table[] = {
        {"--json", 0, OPTION_FLAG, &json, NULL,
         "print {\"tokens\":[...],\"pieces\":[...]}", 0, 0},
        {"--special", 0, OPTION_FLAG, &options.special, NULL,
         "text of control tokens becomes those tokens", 0, 0},
        {"--bos", 0, OPTION_FLAG, &options.bos, NULL,
         "put the beginning-of-text token in front", 0, 0},
    };
    const char *words[2];
    size_t n_words;
    int code;
    if (!parse_command(table, COUNT_OF(table),
                       "tokenize MODEL.gguf [OPTIONS] [TEXT | -]", argc, argv,
                       words, 2, &n_words, &code)) {
        return code;
    }
    struct error err;
    struct tokenizer *t = NULL;
    struct tokens ids = {0};
    struct buf text = {0};
    enum status st = ST_OK;
    if (n_words == 0) {
        st = error_set(&err, ST_USAGE, "tokenize needs a model file");
    }
    if (st == ST_OK) st = open_tokenizer(&t, words[0], &err);
    if (st == ST_OK)
        st = read_text(n_words == 2 ? words[1] : NULL, "the text", &text, &err);
    if (st == ST_OK) {
        st = tokenizer_encode(t, text.data ? text.data : "", text.len, options,
                              &ids, &err);
    }
    if (st == ST_OK) st = print_tokens(t, &ids, json, &err);
    tokens_fini(&ids);
    buf_fini(&text);
    tokenizer_free(t);
    return st == ST_OK ? EXIT_CODE_OK : fail(&err);
}

/* Ids separated by white space or commas; brackets are passed over, so that
 * the JSON list goes in as it came out. */
static enum status parse_ids(const struct buf *list, struct tokens *ids,
                             struct error *err)
{
    static const char between[] = " \t\r\n,[]";
    const char *text = list->data ? list->data : "";
    if (strlen(text) != list->len) {
        return error_set(err, ST_USAGE, "a zero byte is not a token id");
    }
    for (const char *p = text + strspn(text, between); *p;
         p += strspn(p, between)) {
        char *end;
        const long v = strtol(p, &end, 10);
        if (end == p || v < 0 || v > INT32_MAX) {
            return error_set(err, ST_USAGE, "\"%.20s\" is not a token id", p);
        }
        const enum status st = tokens_push(ids, (int32_t)v);
        if (st != ST_OK) return error_set(err, st, "token list");
        p = end;
    }
    return ST_OK;
}

static enum status decode(const struct tokenizer *t, const struct tokens *ids,
                          bool special, struct buf *out, struct error *err)
{
    struct detokenizer d;
    detokenizer_init(&d, t, special);
    buf_init(out, TOKENIZER_TEXT_MAX);
    for (size_t i = 0; i < ids->n; i++) {
        const enum status st = detokenizer_push(&d, ids->id[i], out);
        if (st == ST_INVALID) {
            return error_set(err, st, "token %d is not in the vocabulary of %u",
                             ids->id[i], tokenizer_n_vocab(t));
        }
        if (st != ST_OK) return error_set(err, st, "text");
    }
    const enum status st = detokenizer_finish(&d, out);
    return st == ST_OK ? ST_OK : error_set(err, st, "text");
}

int cmd_detokenize(int argc, char **argv)
{
    bool special = false, json = false;
    const struct option table[] = {
        {"--json", 0, OPTION_FLAG, &json, NULL, "print {\"text\":...}", 0, 0},
        {"--special", 0, OPTION_FLAG, &special, NULL,
         "print control tokens as their text", 0, 0},
    };
    const char *words[2];
    size_t n_words;
    int code;
    if (!parse_command(table, COUNT_OF(table),
                       "detokenize MODEL.gguf [OPTIONS] [\"ID ID ...\" | -]",
                       argc, argv, words, 2, &n_words, &code)) {
        return code;
    }
    struct error err;
    struct tokenizer *t = NULL;
    struct tokens ids = {0};
    struct buf list = {0}, text = {0};
    enum status st = ST_OK;
    if (n_words == 0) {
        st = error_set(&err, ST_USAGE, "detokenize needs a model file");
    }
    if (st == ST_OK) st = open_tokenizer(&t, words[0], &err);
    if (st == ST_OK)
        st =
            read_text(n_words == 2 ? words[1] : NULL, "token ids", &list, &err);
    if (st == ST_OK) st = parse_ids(&list, &ids, &err);
    if (st == ST_OK) st = decode(t, &ids, special, &text, &err);
    if (st == ST_OK && json) {
        st = print_json(
            json_pack("{s:o}", "text",
                      json_text(text.data ? text.data : "", text.len)),
            &err);
    } else if (st == ST_OK) {
        fwrite(text.data ? text.data : "", 1, text.len, stdout);
        putchar('\n');
    }
    tokens_fini(&ids);
    buf_fini(&list);
    buf_fini(&text);
    tokenizer_free(t);
    return st == ST_OK ? EXIT_CODE_OK : fail(&err);
}

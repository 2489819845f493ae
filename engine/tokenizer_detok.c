/* tokenizer_detok.c - ids to text, one by one.
 *
 * Depends on: common.  Thread: the detokenizer's owner.
 *
 * Pieces become bytes; bytes pass a gate that holds back at most the first
 * three of a sequence that may still become UTF-8. Each push runs twice over
 * its few bytes, once to count and once to write, so that a failure changes
 * nothing. */
#include "engine/tokenizer_internal.h"

#include <string.h>

#include "common/utf8.h"

_Static_assert(sizeof((struct detokenizer *)0)->held == UTF8_LEN_MAX,
               "a sequence fits");

/* What a push works on: copied in, copied back on success. */
struct gate {
    unsigned char held[UTF8_LEN_MAX];
    uint8_t n_held;
    char *to; /* NULL: count only */
    size_t n; /* bytes let through */
};

static void let_through(struct gate *g, size_t n)
{
    if (g->to) memcpy(g->to + g->n, g->held, n);
    g->n += n;
    g->n_held = (uint8_t)(g->n_held - n);
    memmove(g->held, g->held + n, g->n_held);
}

static void gate_byte(struct gate *g, unsigned char byte)
{
    g->held[g->n_held++] = byte;
    while (g->n_held > 0) {
        const int len = utf8_sequence(g->held, g->n_held);
        if (len < 0) return;
        let_through(g, len > 0 ? (size_t)len : 1);
    }
}

static void gate_text(struct gate *g, const char *p, size_t n, bool marks)
{
    for (size_t i = 0; i < n;) {
        if (marks && n - i >= SPACE_MARK_LEN &&
            memcmp(p + i, SPACE_MARK, SPACE_MARK_LEN) == 0) {
            gate_byte(g, ' ');
            i += SPACE_MARK_LEN;
        } else {
            gate_byte(g, (unsigned char)p[i++]);
        }
    }
}

/* Bytes of p that stand for one space at its start; 0: there is none. */
static size_t leading_space(const char *p, size_t n)
{
    if (n > 0 && p[0] == ' ') return 1;
    if (n >= SPACE_MARK_LEN && memcmp(p, SPACE_MARK, SPACE_MARK_LEN) == 0) {
        return SPACE_MARK_LEN;
    }
    return 0;
}

/* Sends the id's text through the gate; whether the next piece is a first. */
static bool gate_id(struct gate *g, const struct detokenizer *d, int32_t id)
{
    const struct tokenizer *t = d->t;
    struct gguf_str s = tokenizer_piece(t, id);
    const enum token_kind kind = (enum token_kind)t->kind[id];
    if (kind == TOKEN_CONTROL) {
        if (!d->special) return d->first;
        gate_text(g, s.data, s.len, false);
        return true;
    }
    if (kind == TOKEN_UNKNOWN) {
        if (d->special) gate_text(g, s.data, s.len, false);
        return false;
    }
    unsigned char byte;
    if (kind == TOKEN_BYTE) {
        byte = (unsigned char)token_byte(s); /* checked when created */
        s = (struct gguf_str){(const char *)&byte, 1};
    }
    char plain[PIECE_BYTES_MAX];
    if (t->is_bpe && kind != TOKEN_BYTE && kind != TOKEN_USER_DEFINED) {
        const size_t n = bpe_to_plain(s, plain);
        if (n != SIZE_MAX) s = (struct gguf_str){plain, n};
    }
    if (d->first && t->add_space_prefix) {
        const size_t skip = leading_space(s.data, s.len);
        s.data += skip;
        s.len -= skip;
    }
    gate_text(g, s.data, s.len, kind != TOKEN_BYTE && !t->is_bpe);
    return false;
}

void detokenizer_init(struct detokenizer *d, const struct tokenizer *t,
                      bool special)
{
    *d = (struct detokenizer){.t = t, .first = true, .special = special};
}

enum status detokenizer_push(struct detokenizer *d, int32_t id, struct buf *out)
{
    if (id < 0 || (uint32_t)id >= d->t->n_vocab) return ST_INVALID;
    struct gate g = {.n_held = d->n_held};
    memcpy(g.held, d->held, sizeof g.held);
    gate_id(&g, d, id);

    char *to;
    const enum status st = buf_reserve(out, g.n, &to);
    if (st != ST_OK) return st;
    g = (struct gate){.n_held = d->n_held, .to = to};
    memcpy(g.held, d->held, sizeof g.held);
    d->first = gate_id(&g, d, id);
    to[g.n] = '\0';
    out->len += g.n;
    memcpy(d->held, g.held, sizeof d->held);
    d->n_held = g.n_held;
    return ST_OK;
}

enum status detokenizer_finish(struct detokenizer *d, struct buf *out)
{
    const enum status st = buf_append(out, d->held, d->n_held);
    if (st == ST_OK) d->n_held = 0;
    return st;
}

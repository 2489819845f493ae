/* tokenizer_spm.c - SentencePiece's byte-pair encoding: text to ids.
 *
 * Depends on: common.  Thread: any; all state is the call's own.
 *
 * The algorithm is that of SentencePiece's BPE model (Kudo and Richardson
 * 2018, arXiv:1808.06226, section 3.1): a text starts as a chain of
 * characters; again and again the neighbours whose joined text is the piece
 * with the best score become one symbol, the leftmost on a tie, until no
 * neighbours join. A heap holds the candidates; one that a merge has
 * overtaken is recognised when it is taken out.
 *
 * The text is first cut wherever no merge can cross: at user-defined tokens,
 * at invalid bytes, and between characters that no piece holds next to each
 * other. The cuts do not change the result, and keep chain and heap about as
 * long as a word instead of as long as the text. */
#include "engine/tokenizer_internal.h"

#include <assert.h>
#include <string.h>

#include "common/utf8.h"

#define NONE UINT32_MAX

struct symbol {
    uint32_t start, len; /* in plain text; len 0: merged into another */
    uint32_t prev, next; /* NONE at the ends */
    int32_t id;          /* -1: not in the vocabulary */
};

struct candidate {
    float score;
    uint32_t left; /* symbol; the other is its next */
    uint32_t len;  /* of both when found; differs later: overtaken */
    int32_t id;    /* the piece they make */
};

struct spm {
    const struct tokenizer *t;
    const char *plain;
    struct tokens *out;
    size_t out_start;

    struct symbol *symbol; /* of the segment at hand */
    uint32_t n_symbol, cap_symbol;
    struct candidate *heap; /* [2 * cap_symbol] */
    uint32_t n_heap;
    /* [n_vocab] for unused pieces: the length of the left part they were last
     * made of; NULL if the vocabulary has none. */
    uint32_t *split;
};

/* ---- heap, best first -------------------------------------------------- */

static bool is_better(const struct candidate *a, const struct candidate *b)
{
    return a->score > b->score || (a->score == b->score && a->left < b->left);
}

/* There is room: n symbols have n - 1 pairs, and each of at most n - 1 merges
 * takes one candidate out and puts at most two in. */
static void heap_push(struct spm *s, struct candidate c)
{
    uint32_t i = s->n_heap++;
    while (i > 0) {
        const uint32_t parent = (i - 1) / 2;
        if (!is_better(&c, &s->heap[parent])) break;
        s->heap[i] = s->heap[parent];
        i = parent;
    }
    s->heap[i] = c;
}

static struct candidate heap_pop(struct spm *s)
{
    const struct candidate best = s->heap[0];
    const struct candidate c = s->heap[--s->n_heap];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= s->n_heap) break;
        if (child + 1 < s->n_heap &&
            is_better(&s->heap[child + 1], &s->heap[child])) {
            child++;
        }
        if (!is_better(&s->heap[child], &c)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = c;
    return best;
}

/* ---- ids --------------------------------------------------------------- */

/* Text that is no piece: its bytes, or the unknown token; a run of unknown
 * characters gives one, as in SentencePiece. */
static enum status put_unknown(struct spm *s, const char *p, size_t n)
{
    const struct tokenizer *t = s->t;
    bool has_bytes = true;
    for (size_t i = 0; i < n; i++) {
        if (t->byte_id[(unsigned char)p[i]] < 0) has_bytes = false;
    }
    if (!has_bytes) {
        const struct tokens *out = s->out;
        if (out->n > s->out_start && out->id[out->n - 1] == t->unknown) {
            return ST_OK;
        }
        return tokens_push(s->out, t->unknown);
    }
    for (size_t i = 0; i < n; i++) {
        const enum status st =
            tokens_push(s->out, t->byte_id[(unsigned char)p[i]]);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

/* One symbol of a finished chain. An unused piece may be passed through on
 * the way to a larger one but not put out: it falls apart again into what it
 * was made of. Depth is bounded by PIECE_BYTES_MAX, as each part is shorter. */
static enum status put_piece(struct spm *s, const char *p, size_t n, int32_t id)
{
    while (id >= 0 && s->t->kind[id] == TOKEN_UNUSED) {
        assert(s->split); /* there is one where a piece is unused */
        const size_t left = s->split[id];
        if (left == 0) return tokens_push(s->out, id); /* one character */
        const enum status st = put_piece(s, p, left, vocab_find(s->t, p, left));
        if (st != ST_OK) return st;
        p += left;
        n -= left;
        id = vocab_find(s->t, p, n);
    }
    return id >= 0 ? tokens_push(s->out, id) : put_unknown(s, p, n);
}

/* ---- one segment ------------------------------------------------------- */

static void find_candidate(struct spm *s, uint32_t left)
{
    const struct symbol *a = &s->symbol[left];
    if (a->next == NONE) return;
    const uint32_t len = a->len + s->symbol[a->next].len;
    const int32_t id = vocab_find(s->t, s->plain + a->start, len);
    if (id < 0) return;
    if (s->t->kind[id] == TOKEN_UNUSED) s->split[id] = a->len;
    heap_push(s, (struct candidate){s->t->score[id], left, len, id});
}

static void merge_symbols(struct spm *s)
{
    s->n_heap = 0;
    for (uint32_t i = 0; i + 1 < s->n_symbol; i++) find_candidate(s, i);
    while (s->n_heap > 0) {
        const struct candidate c = heap_pop(s);
        struct symbol *a = &s->symbol[c.left];
        /* Symbols only grow or vanish, so an equal sum means that both are as
         * they were. */
        if (a->len == 0 || a->next == NONE) continue;
        struct symbol *b = &s->symbol[a->next];
        if (a->len + b->len != c.len) continue;
        a->len = c.len;
        a->id = c.id;
        a->next = b->next;
        b->len = 0;
        if (a->next != NONE) s->symbol[a->next].prev = c.left;
        if (a->prev != NONE) find_candidate(s, a->prev);
        find_candidate(s, c.left);
    }
}

static enum status flush_segment(struct spm *s)
{
    if (s->n_symbol == 0) return ST_OK;
    s->symbol[s->n_symbol - 1].next = NONE;
    merge_symbols(s);
    for (uint32_t i = 0; i != NONE; i = s->symbol[i].next) {
        const struct symbol *a = &s->symbol[i];
        const enum status st = put_piece(s, s->plain + a->start, a->len, a->id);
        if (st != ST_OK) return st;
    }
    s->n_symbol = 0;
    return ST_OK;
}

static enum status grow_segment(struct spm *s)
{
    const uint32_t cap = s->cap_symbol == 0 ? 64 : 2 * s->cap_symbol;
    struct symbol *symbol = mem_realloc(s->symbol, cap * sizeof *symbol);
    if (!symbol) return ST_NO_MEMORY;
    s->symbol = symbol;
    /* Nothing in it lives from one segment to the next. */
    mem_free(s->heap);
    s->heap = mem_alloc((size_t)cap * 2 * sizeof *s->heap);
    s->cap_symbol = cap;
    return s->heap ? ST_OK : ST_NO_MEMORY;
}

static enum status add_symbol(struct spm *s, uint32_t start, uint32_t len)
{
    if (s->n_symbol > 0) {
        const struct symbol *last = &s->symbol[s->n_symbol - 1];
        if (!vocab_may_join(s->t, s->plain + last->start, last->len,
                            s->plain + start, len)) {
            const enum status st = flush_segment(s);
            if (st != ST_OK) return st;
        }
    }
    if (s->n_symbol == s->cap_symbol) {
        const enum status st = grow_segment(s);
        if (st != ST_OK) return st;
    }
    const uint32_t i = s->n_symbol++;
    s->symbol[i] = (struct symbol){
        .start = start,
        .len = len,
        .prev = i == 0 ? NONE : i - 1,
        .next = i + 1,
        .id = vocab_find(s->t, s->plain + start, len),
    };
    return ST_OK;
}

/* ---- the whole text ---------------------------------------------------- */

static enum status encode_plain(struct spm *s, uint32_t n)
{
    enum status st = ST_OK;
    for (uint32_t at = 0; at < n && st == ST_OK;) {
        const char *p = s->plain + at;
        int32_t id;
        const size_t user = matcher_longest(&s->t->user, p, n - at, &id);
        if (user > 0) {
            st = flush_segment(s);
            if (st == ST_OK) st = tokens_push(s->out, id);
            at += (uint32_t)user;
            continue;
        }
        const int len = utf8_sequence((const unsigned char *)p, n - at);
        if (len > 0) {
            st = add_symbol(s, at, (uint32_t)len);
            at += (uint32_t)len;
        } else {
            st = flush_segment(s);
            if (st == ST_OK) st = put_unknown(s, p, 1);
            at++;
        }
    }
    return st == ST_OK ? flush_segment(s) : st;
}

enum status spm_encode(const struct tokenizer *t, const char *text, size_t n,
                       struct tokens *out)
{
    char *plain = mem_alloc(n + 1);
    if (!plain) return ST_NO_MEMORY;
    size_t len = 0;
    if (t->add_space_prefix) plain[len++] = ' ';
    len += vocab_to_plain(text, n, plain + len);

    struct spm s = {.t = t, .plain = plain, .out = out, .out_start = out->n};
    enum status st = ST_OK;
    if (t->has_unused) {
        s.split = mem_zalloc_array(t->n_vocab, sizeof *s.split);
        if (!s.split) st = ST_NO_MEMORY;
    }
    if (st == ST_OK) st = encode_plain(&s, (uint32_t)len);
    mem_free(s.split);
    mem_free(s.heap);
    mem_free(s.symbol);
    mem_free(plain);
    return st;
}

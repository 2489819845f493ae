/* tokenizer_bpe.c - byte-level byte-pair encoding: text to ids.
 *
 * Depends on: common, tokenizer_pre.  Thread: any; all state is the call's own.
 *
 * The algorithm is that of GPT-2 (Radford et al. 2019, section 2.2): the
 * pre-tokenizer cuts the text into pieces; a piece starts as a chain of bytes;
 * again and again the two neighbours that stand first in the list of merges
 * become one token, the leftmost on a tie, until no neighbours are in it.
 *
 * Vocabulary and merges are stored with a visible character for each byte:
 * the printable ones of Latin-1 for themselves, the 68 others from U+0100 on.
 */
#include "engine/tokenizer_internal.h"

#include <string.h>

#include "common/rng.h"
#include "common/utf8.h"

#define NONE       UINT32_MAX
#define DEAD       (-1) /* the id of a symbol that was merged into another */
#define RANK_BITS  22
#define RANK_MASK  ((1u << RANK_BITS) - 1)
#define MERGES_MAX (RANK_MASK - 1)

/* ---- characters for bytes ---------------------------------------------- */

static bool is_itself(unsigned byte)
{
    return (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
}

/* The byte that a character stands for, -1 if for none. */
static int byte_of(unsigned c)
{
    if (c < 0x100) return is_itself(c) ? (int)c : -1;
    /* The others, in order: 0 to 0x20, 0x7f to 0xa0, 0xad. */
    c -= 0x100;
    if (c <= 0x20) return (int)c;
    if (c <= 0x42) return (int)(c - 0x21 + 0x7f);
    return c == 0x43 ? 0xad : -1;
}

size_t bpe_to_plain(struct gguf_str piece, char *plain)
{
    size_t n = 0;
    for (size_t i = 0; i < piece.len;) {
        unsigned c = (unsigned char)piece.data[i++];
        if (c >= 0x80) {
            /* None is longer than two bytes. */
            if (c < 0xc2 || c > 0xc5 || i == piece.len) return SIZE_MAX;
            const unsigned low = (unsigned char)piece.data[i++];
            if ((low & 0xc0) != 0x80) return SIZE_MAX;
            c = (c & 0x1f) << 6 | (low & 0x3f);
        }
        const int byte = byte_of(c);
        if (byte < 0) return SIZE_MAX;
        plain[n++] = (char)byte;
    }
    return n;
}

/* ---- merges ------------------------------------------------------------ */

static uint64_t hash_pair(int32_t left, int32_t right)
{
    return rng_mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right);
}

/* The slot of a pair, or the empty one where it belongs; NULL after
 * PROBES_MAX of them. */
static uint32_t *find_slot(const struct tokenizer *t, int32_t left,
                           int32_t right)
{
    const uint64_t hash = hash_pair(left, right);
    const uint32_t tag = (uint32_t)(hash >> (32 + RANK_BITS)) << RANK_BITS;
    uint32_t i = (uint32_t)hash & t->merge_mask;
    for (int probes = 0; probes < PROBES_MAX; probes++) {
        const uint32_t v = t->merge_slot[i];
        if (v == 0) return &t->merge_slot[i];
        if ((v & ~RANK_MASK) == tag) {
            const struct merge *m = &t->merge[(v & RANK_MASK) - 1];
            if (m->left == left && m->right == right) return &t->merge_slot[i];
        }
        i = (i + 1) & t->merge_mask;
    }
    return NULL;
}

/* The place of a pair in the list of merges, NONE if it is not there. */
static uint32_t find_rank(const struct tokenizer *t, int32_t left,
                          int32_t right)
{
    const uint32_t *slot = find_slot(t, left, right);
    return slot && *slot != 0 ? (*slot & RANK_MASK) - 1 : NONE;
}

static bool is_control(const struct tokenizer *t, struct gguf_str s)
{
    int32_t id;
    return s.len > 0 &&
           matcher_longest(&t->control, s.data, s.len, &id) == s.len;
}

/* "LEFT RIGHT" to ids; ST_NOT_FOUND: it needs a control token, which text
 * must not become, so it is passed over. */
static enum status read_merge(const struct tokenizer *t, uint64_t index,
                              struct gguf_str s, struct merge *m,
                              struct error *err)
{
    const char *space = memchr(s.data, ' ', s.len);
    if (!space || s.len > 2 * PIECE_BYTES_MAX + 1) {
        return error_set(err, ST_INVALID,
                         "tokenizer.ggml.merges: entry %llu is not two tokens "
                         "with a space between them",
                         (unsigned long long)index);
    }
    const struct gguf_str left = {s.data, (size_t)(space - s.data)};
    const struct gguf_str right = {space + 1, s.len - left.len - 1};
    char plain[2 * PIECE_BYTES_MAX + 2];
    const size_t n_left = bpe_to_plain(left, plain);
    size_t n_right = SIZE_MAX;
    if (n_left != SIZE_MAX) n_right = bpe_to_plain(right, plain + n_left);
    if (n_right != SIZE_MAX && n_left > 0 && n_right > 0) {
        m->left = vocab_find(t, plain, n_left);
        m->right = vocab_find(t, plain + n_left, n_right);
        m->made = vocab_find(t, plain, n_left + n_right);
        if (m->left >= 0 && m->right >= 0 && m->made >= 0) return ST_OK;
    }
    memcpy(plain, left.data, left.len);
    memcpy(plain + left.len, right.data, right.len);
    const struct gguf_str both = {plain, left.len + right.len};
    if (is_control(t, left) || is_control(t, right) || is_control(t, both)) {
        return ST_NOT_FOUND;
    }
    return error_set(err, ST_INVALID,
                     "tokenizer.ggml.merges: entry %llu joins or makes tokens "
                     "that the vocabulary does not have",
                     (unsigned long long)index);
}

enum status bpe_read_merges(struct tokenizer *t, const struct gguf *g,
                            struct error *err)
{
    const struct gguf_array *merges;
    enum status st =
        gguf_get_array(g, "tokenizer.ggml.merges", GGUF_STRING, &merges, err);
    if (st != ST_OK) return st;
    const uint64_t n = gguf_array_len(merges);
    if (n > MERGES_MAX) {
        return error_set(err, ST_TOO_LARGE,
                         "tokenizer.ggml.merges has %llu entries, the limit "
                         "is %u",
                         (unsigned long long)n, MERGES_MAX);
    }
    const uint32_t n_slots = vocab_table_size((uint32_t)n);
    t->merge_mask = n_slots - 1;
    t->merge_slot = mem_zalloc_array(n_slots, sizeof *t->merge_slot);
    t->merge = mem_zalloc_array(n, sizeof *t->merge);
    if (!t->merge_slot || !t->merge) {
        return error_set(err, ST_NO_MEMORY, "%llu merges",
                         (unsigned long long)n);
    }
    for (uint64_t i = 0; i < n; i++) {
        struct merge *m = &t->merge[t->n_merges];
        st = read_merge(t, i, gguf_array_str(merges, i), m, err);
        if (st == ST_NOT_FOUND) continue;
        if (st != ST_OK) return st;
        uint32_t *slot = find_slot(t, m->left, m->right);
        if (!slot) {
            return error_set(err, ST_INVALID,
                             "tokenizer.ggml.merges: entry %llu collides with "
                             "%d others; the file is damaged or malicious",
                             (unsigned long long)i, PROBES_MAX);
        }
        if (*slot != 0) continue; /* of two that are equal the first counts */
        const uint64_t hash = hash_pair(m->left, m->right);
        *slot = (uint32_t)(hash >> (32 + RANK_BITS)) << RANK_BITS |
                (t->n_merges + 1);
        t->n_merges++;
    }
    return ST_OK;
}

void bpe_fini(struct tokenizer *t)
{
    pre_free(t->pre);
    mem_free(t->merge);
    mem_free(t->merge_slot);
}

/* ---- one piece --------------------------------------------------------- */

struct symbol {
    int32_t id;          /* DEAD: merged into another */
    uint32_t prev, next; /* NONE at the ends */
};

struct bpe {
    const struct tokenizer *t;
    struct tokens *out;
    bool whole; /* a piece that is a token is not merged */

    struct symbol *symbol; /* of the piece at hand */
    /* Candidates, least first: rank << 32 | left symbol. One that a merge has
     * overtaken is recognised when it is taken out, as its two symbols are no
     * longer the two tokens of its merge. */
    uint64_t *heap; /* [2 * cap] */
    uint32_t cap, n_heap;
};

/* There is room: n symbols have n - 1 pairs, and each of at most n - 1 merges
 * takes one candidate out and puts at most two in. */
static void heap_push(struct bpe *b, uint64_t c)
{
    uint32_t i = b->n_heap++;
    while (i > 0) {
        const uint32_t parent = (i - 1) / 2;
        if (c >= b->heap[parent]) break;
        b->heap[i] = b->heap[parent];
        i = parent;
    }
    b->heap[i] = c;
}

static uint64_t heap_pop(struct bpe *b)
{
    const uint64_t best = b->heap[0];
    const uint64_t c = b->heap[--b->n_heap];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= b->n_heap) break;
        if (child + 1 < b->n_heap && b->heap[child + 1] < b->heap[child]) {
            child++;
        }
        if (b->heap[child] >= c) break;
        b->heap[i] = b->heap[child];
        i = child;
    }
    b->heap[i] = c;
    return best;
}

static void find_candidate(struct bpe *b, uint32_t left)
{
    const struct symbol *s = &b->symbol[left];
    if (s->next == NONE) return;
    const uint32_t rank = find_rank(b->t, s->id, b->symbol[s->next].id);
    if (rank != NONE) heap_push(b, (uint64_t)rank << 32 | left);
}

static void merge_symbols(struct bpe *b, uint32_t n)
{
    b->n_heap = 0;
    for (uint32_t i = 0; i + 1 < n; i++) find_candidate(b, i);
    while (b->n_heap > 0) {
        const uint64_t c = heap_pop(b);
        const struct merge *m = &b->t->merge[c >> 32];
        struct symbol *left = &b->symbol[(uint32_t)c];
        if (left->id != m->left || left->next == NONE) continue;
        struct symbol *right = &b->symbol[left->next];
        if (right->id != m->right) continue;
        left->id = m->made;
        right->id = DEAD;
        left->next = right->next;
        if (left->next != NONE) b->symbol[left->next].prev = (uint32_t)c;
        if (left->prev != NONE) find_candidate(b, left->prev);
        find_candidate(b, (uint32_t)c);
    }
}

static enum status grow(struct bpe *b, size_t n)
{
    uint32_t cap = b->cap == 0 ? 64 : b->cap;
    while (cap < n) cap *= 2; /* n stays below 2^28 */
    /* Nothing in them lives from one piece to the next. */
    mem_free(b->symbol);
    mem_free(b->heap);
    b->symbol = mem_alloc(cap * sizeof *b->symbol);
    b->heap = mem_alloc((size_t)cap * 2 * sizeof *b->heap);
    b->cap = b->symbol && b->heap ? cap : 0;
    return b->cap ? ST_OK : ST_NO_MEMORY;
}

/* A pre_piece_fn. */
static enum status encode_piece(void *context, const char *piece, size_t n)
{
    struct bpe *b = context;
    const struct tokenizer *t = b->t;
    const unsigned char *p = (const unsigned char *)piece;
    if (b->whole) {
        const int32_t id = vocab_find(t, piece, n);
        if (id >= 0 && t->kind[id] != TOKEN_UNUSED) {
            return tokens_push(b->out, id);
        }
    }
    if (n > b->cap) {
        const enum status st = grow(b, n);
        if (st != ST_OK) return st;
    }
    const uint32_t count = (uint32_t)n;
    for (uint32_t i = 0; i < count; i++) {
        /* A vocabulary that lacks a byte has an unknown token. */
        const int32_t id = t->byte_id[p[i]];
        b->symbol[i] = (struct symbol){
            .id = id >= 0 ? id : t->unknown,
            .prev = i == 0 ? NONE : i - 1,
            .next = i + 1 == count ? NONE : i + 1,
        };
    }
    merge_symbols(b, count);
    for (uint32_t i = 0; i != NONE; i = b->symbol[i].next) {
        const enum status st = tokens_push(b->out, b->symbol[i].id);
        if (st != ST_OK) return st;
    }
    return ST_OK;
}

/* ---- the whole text ---------------------------------------------------- */

/* Valid UTF-8 of one stretch between user-defined tokens. */
static enum status encode_valid(struct bpe *b, struct pre_work *work,
                                const char *text, size_t n)
{
    if (n == 0) return ST_OK;
    if (!pre_facts(b->t->pre).nfc) {
        return pre_split(work, text, n, encode_piece, b);
    }
    struct buf normal;
    /* No character becomes more than three times as long (UAX 15, 9). */
    buf_init(&normal, 3 * n);
    enum status st = pre_normalize(text, n, &normal);
    if (st == ST_OK) {
        st = pre_split(work, normal.data, normal.len, encode_piece, b);
    }
    buf_fini(&normal);
    return st;
}

/* The models know text only. Bytes that are none make pieces of their own, so
 * that they come back as they were. */
static enum status encode_stretch(struct bpe *b, struct pre_work *work,
                                  const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t done = 0;
    for (size_t i = 0; i < n;) {
        const int len = utf8_sequence(p + i, n - i);
        if (len > 0) {
            i += (size_t)len;
            continue;
        }
        const size_t bad = i++;
        while (i < n && utf8_sequence(p + i, n - i) <= 0) i++;
        enum status st = encode_valid(b, work, text + done, bad - done);
        if (st == ST_OK) st = encode_piece(b, text + bad, i - bad);
        if (st != ST_OK) return st;
        done = i;
    }
    return encode_valid(b, work, text + done, n - done);
}

static enum status encode_text(struct bpe *b, struct pre_work *work,
                               const char *text, size_t n)
{
    size_t start = 0;
    for (size_t at = 0; at < n;) {
        int32_t id;
        const size_t len = matcher_longest(&b->t->user, text + at, n - at, &id);
        if (len == 0) {
            at++;
            continue;
        }
        enum status st = encode_stretch(b, work, text + start, at - start);
        if (st == ST_OK) st = tokens_push(b->out, id);
        if (st != ST_OK) return st;
        at += len;
        start = at;
    }
    return encode_stretch(b, work, text + start, n - start);
}

enum status bpe_encode(const struct tokenizer *t, const char *text, size_t n,
                       struct tokens *out)
{
    struct pre_work *work;
    enum status st = pre_work_create(&work, t->pre);
    if (st != ST_OK) return st;
    char *prefixed = NULL;
    if (t->add_space_prefix) {
        prefixed = mem_alloc(n + 1);
        if (prefixed) {
            prefixed[0] = ' ';
            memcpy(prefixed + 1, text, n);
            text = prefixed;
            n++;
        } else {
            st = ST_NO_MEMORY;
        }
    }
    struct bpe b = {
        .t = t, .out = out, .whole = pre_facts(t->pre).ignore_merges};
    if (st == ST_OK) st = encode_text(&b, work, text, n);
    mem_free(b.symbol);
    mem_free(b.heap);
    mem_free(prefixed);
    pre_work_free(work);
    return st;
}

/* tokenizer_vocab.c - finding pieces of the vocabulary in text.
 *
 * Depends on: common.  Thread: vocab_index one, the rest any.
 *
 * Three structures, built once: a hash table from plain text to id, a bit set
 * of character pairs, and two sorted lists for the pieces that are matched in
 * running text. All sizes are bounded by TOKENIZER_VOCAB_MAX and
 * PIECE_BYTES_MAX, which the caller has checked. */
#include "engine/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "common/utf8.h"

#define ID_BITS 21
#define ID_MASK ((1u << ID_BITS) - 1)
_Static_assert(TOKENIZER_VOCAB_MAX <= ID_MASK, "id + 1 fits its bits");

static uint32_t pow2_at_least(uint32_t n)
{
    uint32_t p = 64;
    while (p < n) p *= 2;
    return p;
}

/* A table that is at most half full has runs of about 70 slots at the longest
 * for a million keys (Knuth 6.4 gives the distribution), well below
 * PROBES_MAX; a file that needs more was made to collide. */
uint32_t vocab_table_size(uint32_t n)
{
    return pow2_at_least(2 * n);
}

/* ---- the hash table ---------------------------------------------------- */

static uint64_t hash_bytes(const char *p, size_t n)
{
    uint64_t h = n;
    while (n >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = rng_mix(h ^ w) + w;
        p += 8;
        n -= 8;
    }
    uint64_t rest = 0;
    memcpy(&rest, p, n);
    return rng_mix(h ^ rest) + rest;
}

size_t vocab_to_plain(const char *text, size_t n, char *plain)
{
    size_t len = 0;
    for (size_t i = 0; i < n;) {
        if (text[i] == SPACE_MARK[0] && n - i >= SPACE_MARK_LEN &&
            memcmp(text + i, SPACE_MARK, SPACE_MARK_LEN) == 0) {
            plain[len++] = ' ';
            i += SPACE_MARK_LEN;
        } else {
            plain[len++] = text[i++];
        }
    }
    return len;
}

static struct gguf_str piece_of(const struct tokenizer *t, uint32_t id)
{
    return (struct gguf_str){t->arena + t->offset[id],
                             t->offset[id + 1] - t->offset[id]};
}

/* The text that a piece stands for, into plain[PIECE_BYTES_MAX]; SIZE_MAX: no
 * text can. */
static size_t plain_of(const struct tokenizer *t, uint32_t id, char *plain)
{
    const struct gguf_str s = piece_of(t, id);
    if (!t->is_bpe) return vocab_to_plain(s.data, s.len, plain);
    /* User-defined tokens are stored as they are typed. */
    if (t->kind[id] != TOKEN_USER_DEFINED) return bpe_to_plain(s, plain);
    memcpy(plain, s.data, s.len);
    return s.len;
}

static bool piece_is(const struct tokenizer *t, uint32_t id, const char *plain,
                     size_t len)
{
    const struct gguf_str s = piece_of(t, id);
    if (t->is_bpe) {
        char mine[PIECE_BYTES_MAX];
        return plain_of(t, id, mine) == len && memcmp(mine, plain, len) == 0;
    }
    size_t at = 0;
    for (size_t i = 0; i < s.len; at++) {
        if (at == len) return false;
        if (s.len - i >= SPACE_MARK_LEN &&
            memcmp(s.data + i, SPACE_MARK, SPACE_MARK_LEN) == 0) {
            if (plain[at] != ' ') return false;
            i += SPACE_MARK_LEN;
        } else {
            if (plain[at] != s.data[i]) return false;
            i++;
        }
    }
    return at == len;
}

/* The slot that holds the text, or the empty one where it belongs; NULL after
 * PROBES_MAX of them. */
static uint32_t *find_slot(const struct tokenizer *t, const char *plain,
                           size_t len, uint64_t hash)
{
    const uint32_t tag = (uint32_t)(hash >> (32 + ID_BITS)) << ID_BITS;
    uint32_t i = (uint32_t)hash & t->slot_mask;
    for (int probes = 0; probes < PROBES_MAX; probes++) {
        const uint32_t v = t->slot[i];
        if (v == 0) return &t->slot[i];
        if ((v & ~ID_MASK) == tag &&
            piece_is(t, (v & ID_MASK) - 1, plain, len)) {
            return &t->slot[i];
        }
        i = (i + 1) & t->slot_mask;
    }
    return NULL;
}

int32_t vocab_find(const struct tokenizer *t, const char *plain, size_t len)
{
    if (len > PIECE_BYTES_MAX) return -1;
    const uint32_t *slot = find_slot(t, plain, len, hash_bytes(plain, len));
    return slot && *slot != 0 ? (int32_t)(*slot & ID_MASK) - 1 : -1;
}

/* ---- the set of pairs -------------------------------------------------- */

static uint32_t pair_bit(const struct tokenizer *t, const char *a, size_t len_a,
                         const char *b, size_t len_b)
{
    uint32_t first = 0, second = 0;
    memcpy(&first, a, len_a);
    memcpy(&second, b, len_b);
    return (uint32_t)rng_mix((uint64_t)first << 32 | second) & t->pair_mask;
}

bool vocab_may_join(const struct tokenizer *t, const char *a, size_t len_a,
                    const char *b, size_t len_b)
{
    const uint32_t bit = pair_bit(t, a, len_a, b, len_b);
    return t->pair_bits[bit / 64] >> (bit % 64) & 1;
}

/* False: not UTF-8, so that no text can be merged into it. */
static bool add_pairs(struct tokenizer *t, const char *plain, size_t len)
{
    size_t before = 0;
    for (size_t i = 0; i < len;) {
        const int n = utf8_sequence((const unsigned char *)plain + i, len - i);
        if (n <= 0) return false;
        if (i > 0) {
            const uint32_t bit =
                pair_bit(t, plain + i - before, before, plain + i, (size_t)n);
            t->pair_bits[bit / 64] |= UINT64_C(1) << (bit % 64);
        }
        before = (size_t)n;
        i += before;
    }
    return true;
}

/* Merging produces normal pieces, and unused ones on the way to them. Text
 * never becomes a control, unknown or byte token by its spelling, and
 * user-defined pieces are found by their own matcher. */
static bool is_mergeable(const struct tokenizer *t, uint32_t id)
{
    const struct gguf_str s = piece_of(t, id);
    /* Runs of spaces are often both: user-defined, and steps of a merge. */
    if (t->is_bpe && t->kind[id] == TOKEN_USER_DEFINED) return s.len > 0;
    if (t->kind[id] != TOKEN_NORMAL && t->kind[id] != TOKEN_UNUSED) {
        return false;
    }
    /* An ordinary space cannot occur once the text's are marked. */
    return s.len > 0 && memchr(s.data, ' ', s.len) == NULL;
}

static enum status index_mergeable(struct tokenizer *t, struct error *err)
{
    const uint32_t n_slots = vocab_table_size(t->n_vocab);
    t->slot_mask = n_slots - 1;
    t->slot = mem_zalloc_array(n_slots, sizeof *t->slot);
    /* 16 bits a piece: pieces share most of their pairs, so the set stays
     * sparse enough to tell most of the others. */
    const uint32_t n_bits = pow2_at_least(16 * t->n_vocab);
    t->pair_mask = n_bits - 1;
    if (!t->is_bpe) {
        t->pair_bits = mem_zalloc_array(n_bits / 64, sizeof *t->pair_bits);
    }
    if (!t->slot || (!t->is_bpe && !t->pair_bits)) {
        return error_set(err, ST_NO_MEMORY, "vocabulary index of %u tokens",
                         t->n_vocab);
    }
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        if (!is_mergeable(t, id)) continue;
        char plain[PIECE_BYTES_MAX];
        const size_t len = plain_of(t, id, plain);
        if (len == SIZE_MAX) continue;
        if (!t->is_bpe && !add_pairs(t, plain, len)) continue;
        const uint64_t hash = hash_bytes(plain, len);
        uint32_t *slot = find_slot(t, plain, len, hash);
        if (!slot) {
            return error_set(err, ST_INVALID,
                             "tokenizer.ggml.tokens: token %u collides with "
                             "%d others; the file is damaged or malicious",
                             id, PROBES_MAX);
        }
        /* Of two tokens with one text the first is found. */
        if (*slot != 0) continue;
        *slot = (uint32_t)(hash >> (32 + ID_BITS)) << ID_BITS | (id + 1);
    }
    return ST_OK;
}

/* ---- longest match ----------------------------------------------------- */

static int compare_entries(const void *pa, const void *pb)
{
    const struct matcher_entry *a = pa, *b = pb;
    const int c = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);
    if (c != 0) return c;
    if (a->len != b->len) return a->len < b->len ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* The entries of one kind; plain ones if the text they meet is plain. */
static enum status matcher_init(struct matcher *m, const struct tokenizer *t,
                                enum token_kind kind, bool plain,
                                struct error *err)
{
    size_t n = 0, bytes = 0;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        if (t->kind[id] != kind) continue;
        n++;
        bytes += piece_of(t, id).len;
    }
    if (bytes == 0) return ST_OK;
    m->arena = mem_alloc(bytes);
    m->entry = mem_zalloc_array(n, sizeof *m->entry);
    if (!m->arena || !m->entry) {
        return error_set(err, ST_NO_MEMORY, "index of %zu special tokens", n);
    }
    char *to = m->arena;
    n = 0;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        const struct gguf_str s = piece_of(t, id);
        if (t->kind[id] != kind || s.len == 0) continue;
        size_t len = s.len;
        if (plain) {
            len = vocab_to_plain(s.data, s.len, to);
        } else {
            memcpy(to, s.data, len);
        }
        m->entry[n++] = (struct matcher_entry){to, (uint32_t)len, (int32_t)id};
        to += len;
    }
    qsort(m->entry, n, sizeof *m->entry, compare_entries);

    for (size_t i = 0; i < n; i++) { /* of equal texts the first id stays */
        if (m->n > 0) {
            const struct matcher_entry *last = &m->entry[m->n - 1];
            if (last->len == m->entry[i].len &&
                memcmp(last->text, m->entry[i].text, last->len) == 0) {
                continue;
            }
        }
        m->entry[m->n++] = m->entry[i];
    }
    for (uint32_t i = 0, b = 0; b < 256; b++) {
        while (i < m->n && (unsigned char)m->entry[i].text[0] <= b) i++;
        m->first[b + 1] = i;
    }
    return ST_OK;
}

/* The first of entry[low..high), which share `depth` bytes and are longer,
 * whose next byte is at least b. */
static uint32_t lower_bound(const struct matcher *m, uint32_t low,
                            uint32_t high, size_t depth, unsigned b)
{
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if ((unsigned char)m->entry[middle].text[depth] < b) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

size_t matcher_longest(const struct matcher *m, const char *text, size_t n,
                       int32_t *id)
{
    unsigned b = (unsigned char)text[0];
    uint32_t low = m->first[b], high = m->first[b + 1];
    size_t best = 0;
    for (size_t depth = 1; low < high; depth++) {
        if (m->entry[low].len == depth) { /* the shortest sorts first */
            best = depth;
            *id = m->entry[low].id;
            low++;
        }
        if (depth == n) break;
        b = (unsigned char)text[depth];
        low = lower_bound(m, low, high, depth, b);
        high = lower_bound(m, low, high, depth, b + 1);
    }
    return best;
}

/* ---- all together ------------------------------------------------------ */

enum status vocab_index(struct tokenizer *t, struct error *err)
{
    enum status st = index_mergeable(t, err);
    if (st == ST_OK) {
        st = matcher_init(&t->user, t, TOKEN_USER_DEFINED, !t->is_bpe, err);
    }
    if (st == ST_OK) {
        st = matcher_init(&t->control, t, TOKEN_CONTROL, false, err);
    }
    return st;
}

void vocab_fini(struct tokenizer *t)
{
    mem_free(t->slot);
    mem_free(t->pair_bits);
    mem_free(t->user.arena);
    mem_free(t->user.entry);
    mem_free(t->control.arena);
    mem_free(t->control.entry);
}

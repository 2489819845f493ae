/* tokenizer_internal.h - the vocabulary as the tokenizer's own files see it.
 *
 * tokenizer.c        reads and checks the file, answers questions
 * tokenizer_vocab.c  finds pieces: hash table, longest match
 * tokenizer_spm.c    text to ids
 * tokenizer_detok.c  ids to text
 *
 * Depends on: common, tokenizer.h.  Thread: as tokenizer.h says.
 *
 * "Plain" text in these files has an ordinary space where SentencePiece
 * writes U+2581. Both mean the same to the vocabulary, and one byte in place
 * of three keeps a 64 MiB text from growing. */
#ifndef ENGINE_TOKENIZER_INTERNAL_H
#define ENGINE_TOKENIZER_INTERNAL_H

#include "engine/tokenizer.h"

/* U+2581 LOWER ONE EIGHTH BLOCK, SentencePiece's visible space. */
#define SPACE_MARK     "\xe2\x96\x81"
#define SPACE_MARK_LEN 3

/* Bytes of one piece. SentencePiece itself stops at 16 characters, added
 * tokens are seldom longer than 50 bytes. The limit bounds the cost of one
 * lookup, and so makes a text's cost linear in its length. */
#define PIECE_BYTES_MAX 1024

/* Ids that end a generation: the file's own and those known by name. */
#define END_IDS_MAX 24

/* Pieces that are looked for in running text, the longest at a place first:
 * a sorted list that is narrowed byte by byte. */
struct matcher_entry {
    const char *text; /* in struct matcher's arena */
    uint32_t len;
    int32_t id;
};
struct matcher {
    char *arena;
    struct matcher_entry *entry;
    uint32_t n;
    uint32_t first[257]; /* entry[first[b]..first[b + 1]) begin with byte b */
};

struct tokenizer {
    uint32_t n_vocab;

    char *arena;      /* every piece as stored, end to end  */
    uint32_t *offset; /* [n_vocab + 1] into the arena       */
    float *score;     /* [n_vocab]                          */
    uint8_t *kind;    /* [n_vocab] enum token_kind          */

    /* Open addressing over the pieces that merging may produce. A slot is 0
     * or (hash tag << 21 | id + 1): the tag spares most misses a look at the
     * arena. */
    uint32_t *slot;
    uint32_t slot_mask;

    /* A set of neighbouring character pairs inside those pieces, with false
     * positives. Where a text's pair is not in it no merge can cross, so the
     * text may be cut there without changing the result. */
    uint64_t *pair_bits;
    uint32_t pair_mask; /* in bits */

    struct matcher user;    /* user-defined pieces, plain        */
    struct matcher control; /* control tokens, as stored         */

    int32_t byte_id[256]; /* -1: the vocabulary lacks it */
    bool has_all_bytes;
    bool has_unused;

    int32_t bos, eos, unknown; /* -1: none */
    bool add_bos, add_eos, add_space_prefix;

    int32_t end[END_IDS_MAX];
    uint32_t n_end;
};

/* tokenizer_vocab.c; all need arena, offset, score and kind filled. */
NODISCARD enum status vocab_index(struct tokenizer *t, struct error *err);
void vocab_fini(struct tokenizer *t);
/* The id that merging gives this plain text, -1 if none; any length. */
int32_t vocab_find(const struct tokenizer *t, const char *plain, size_t len);
/* False: no piece holds characters a and b next to each other. */
bool vocab_may_join(const struct tokenizer *t, const char *a, size_t len_a,
                    const char *b, size_t len_b);
/* Copies text[0..n) to plain[0..n), U+2581 becoming a space; the length. */
size_t vocab_to_plain(const char *text, size_t n, char *plain);
/* The longest entry that text[0..n), n > 0, begins with: its length and *id,
 * or 0. */
size_t matcher_longest(const struct matcher *m, const char *text, size_t n,
                       int32_t *id);

/* tokenizer.c: the byte that "<0x0A>" stands for, -1 if it is not so spelt. */
int token_byte(struct gguf_str piece);

/* tokenizer_spm.c: ids of text that holds no control tokens any more, n > 0.
 * On failure *out may have grown. */
NODISCARD enum status spm_encode(const struct tokenizer *t, const char *text,
                                 size_t n, struct tokens *out);

#endif

/* tokenizer_internal.h - the vocabulary as the tokenizer's own files see it.
 *
 * tokenizer.c        reads and checks the file, answers questions
 * tokenizer_vocab.c  finds pieces: hash table, longest match
 * tokenizer_spm.c    text to ids, SentencePiece
 * tokenizer_bpe.c    text to ids, byte-level BPE; its merges
 * tokenizer_pre.c    how byte-level BPE cuts text before it merges
 * tokenizer_detok.c  ids to text
 *
 * Depends on: common, tokenizer.h.  Thread: as tokenizer.h says.
 *
 * "Plain" text in these files is what a piece stands for. SentencePiece
 * writes U+2581 for a space; to the vocabulary both mean the same, and one
 * byte in place of three keeps a 64 MiB text from growing. Byte-level BPE
 * writes each byte as a visible character; plain text is those bytes. */
#ifndef ENGINE_TOKENIZER_INTERNAL_H
#define ENGINE_TOKENIZER_INTERNAL_H

#include "engine/tokenizer.h"
#include "engine/tokenizer_pre.h"

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

/* Two tokens that byte-level BPE joins, and what they make. */
struct merge {
    int32_t left, right, made;
};

struct tokenizer {
    uint32_t n_vocab;
    bool is_bpe; /* byte-level BPE; else SentencePiece */

    char *arena;      /* every piece as stored, end to end  */
    uint32_t *offset; /* [n_vocab + 1] into the arena       */
    float *score;     /* [n_vocab]; NULL: byte-level BPE     */
    uint8_t *kind;    /* [n_vocab] enum token_kind          */

    /* Open addressing over the pieces that merging may produce. A slot is 0
     * or (hash tag << 21 | id + 1): the tag spares most misses a look at the
     * arena. */
    uint32_t *slot;
    uint32_t slot_mask;

    /* A set of neighbouring character pairs inside those pieces, with false
     * positives. Where a text's pair is not in it no merge can cross, so the
     * text may be cut there without changing the result. NULL: byte-level
     * BPE. */
    uint64_t *pair_bits;
    uint32_t pair_mask; /* in bits */

    /* Byte-level BPE only: merges, best first, and open addressing over them
     * by their two tokens; a slot is 0 or (hash tag << 22 | index + 1). */
    struct merge *merge;
    uint32_t n_merges;
    uint32_t *merge_slot;
    uint32_t merge_mask;
    struct pre *pre;

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
/* SentencePiece: copies text[0..n) to plain[0..n), U+2581 becoming a space;
 * the length. */
size_t vocab_to_plain(const char *text, size_t n, char *plain);
/* The longest entry that text[0..n), n > 0, begins with: its length and *id,
 * or 0. */
size_t matcher_longest(const struct matcher *m, const char *text, size_t n,
                       int32_t *id);

/* Collisions in an open-addressing table before the file is called hostile. */
#define PROBES_MAX 512
uint32_t vocab_table_size(uint32_t n); /* a power of two, 2 n or more */

/* tokenizer.c: the byte that "<0x0A>" stands for, -1 if it is not so spelt. */
int token_byte(struct gguf_str piece);

/* tokenizer_spm.c: ids of text that holds no control tokens any more, n > 0.
 * On failure *out may have grown. */
NODISCARD enum status spm_encode(const struct tokenizer *t, const char *text,
                                 size_t n, struct tokens *out);

/* tokenizer_bpe.c: the bytes of a piece as stored into plain[0..len of it);
 * how many, or SIZE_MAX: it is not written in the characters for bytes. */
size_t bpe_to_plain(struct gguf_str piece, char *plain);
/* The same as spm_encode. */
NODISCARD enum status bpe_encode(const struct tokenizer *t, const char *text,
                                 size_t n, struct tokens *out);
/* The merges of the file; needs the index of the vocabulary. */
NODISCARD enum status bpe_read_merges(struct tokenizer *t, const struct gguf *g,
                                      struct error *err);
void bpe_fini(struct tokenizer *t);

#endif

/* tokenizer.h - bytes to token ids and back, as the GGUF's vocabulary says.
 *
 * Depends on: common, gguf.  Thread: create and free one; between them
 * read-only, so any (a struct detokenizer belongs to its owner).
 *
 * SentencePiece ("llama") and byte-level BPE ("gpt2") with the
 * pre-tokenizers of tokenizer_pre.c. */
#ifndef ENGINE_TOKENIZER_H
#define ENGINE_TOKENIZER_H

#include "common/buf.h"
#include "engine/gguf.h"

#define TOKENIZER_VOCAB_MAX 1048576u
#define TOKENIZER_TEXT_MAX  (64u << 20) /* bytes in one call */

enum token_kind { /* the file's numbers (tokenizer.ggml.token_type) */
                  TOKEN_UNDEFINED,
                  TOKEN_NORMAL,
                  TOKEN_UNKNOWN,
                  TOKEN_CONTROL,
                  TOKEN_USER_DEFINED,
                  TOKEN_UNUSED,
                  TOKEN_BYTE
};

struct tokenizer;

struct tokens { /* growable list of ids; zero-initialise */
    int32_t *id;
    size_t n, cap;
};
void tokens_fini(struct tokens *t);
NODISCARD enum status tokens_push(struct tokens *t, int32_t id);

/* Copies what it needs; g may be closed afterwards.  ST_UNSUPPORTED names a
 * tokenizer or pre-tokenizer that is not built. */
NODISCARD enum status tokenizer_create(struct tokenizer **out,
                                       const struct gguf *g, struct error *err);
void tokenizer_free(struct tokenizer *t); /* NULL allowed */

uint32_t tokenizer_n_vocab(const struct tokenizer *t);
int32_t tokenizer_bos(const struct tokenizer *t); /* -1: none */
int32_t tokenizer_eos(const struct tokenizer *t); /* -1: none */
/* Whether text gets a BOS in front, as the file says. */
bool tokenizer_add_bos(const struct tokenizer *t);
bool tokenizer_add_eos(const struct tokenizer *t);
/* Ends a generation: EOS, EOT, EOM as the file says, and the tokens that are
 * known by name to end a turn (<end_of_turn>, <|im_end|>, ...).  All of them
 * are control tokens, whatever kind the file gives them. */
bool tokenizer_is_end(const struct tokenizer *t, int32_t id);
enum token_kind tokenizer_kind(const struct tokenizer *t, int32_t id);

struct tokenize_span { /* bytes [begin, end) of the text */
    size_t begin, end;
};

struct tokenize_options {
    bool bos;     /* put BOS (and, if the file says so, EOS) around the text */
    bool special; /* text of control tokens becomes those tokens; without it
                     user text can never become a control token */
    /* With special: bytes that no control token may contain one of, in
     * ascending order and disjoint: what users typed into a template.  They
     * change nothing else: a word across a border is one word.  Borrowed. */
    const struct tokenize_span *plain;
    size_t n_plain;
};

/* Appends to *out, or leaves it as it was.  Any bytes are accepted: what is
 * not valid UTF-8 goes through byte tokens (or the unknown token, in a
 * vocabulary without them).  User-defined tokens are matched always, the
 * longest first.  To SentencePiece, U+2581 in the text is a space, as it has
 * no other way to write one; text for Qwen and a few others is first brought
 * to Unicode's normalization form C, as by the models' own tokenizers.
 *
 * The space prefix comes in front of the text and, with special, again in
 * front of the text after each control token, as in llama.cpp; not after a
 * user-defined token, as in SentencePiece.
 *
 * ST_TOO_LARGE over TOKENIZER_TEXT_MAX, ST_NO_MEMORY.  Cost O(n log n).
 * Scratch memory: n bytes, and 50 to 100 for each character of the longest
 * stretch that merges may cross; commonly a word, at worst the whole text. */
NODISCARD enum status tokenizer_encode(const struct tokenizer *t,
                                       const char *text, size_t n,
                                       struct tokenize_options options,
                                       struct tokens *out, struct error *err);

/* The piece as stored ("\xe2\x96\x81the", "<0x0A>"), for listings. */
struct gguf_str tokenizer_piece(const struct tokenizer *t, int32_t id);

/* Streaming: give ids one by one, receive text in whole UTF-8 sequences.
 * The space that encode puts in front (add_space_prefix) is taken off the
 * first piece and, with special, off each piece that follows a control
 * token, so that decode(encode(x)) = x for the same special, but for what
 * encode itself changes.  To continue a text, clear `first` after init.
 * Without special, control tokens and the unknown token print nothing. */
struct detokenizer {
    const struct tokenizer *t;
    bool first;            /* the next piece loses its space prefix      */
    bool special;          /* print control and unknown tokens' text      */
    unsigned char held[4]; /* bytes of a sequence that is not whole yet  */
    uint8_t n_held;
};
void detokenizer_init(struct detokenizer *d, const struct tokenizer *t,
                      bool special);
/* Appends the bytes that are certain now.  id outside the vocabulary:
 * ST_INVALID.  Bytes that can never become UTF-8 are passed on as they are as
 * soon as that is known. */
NODISCARD enum status detokenizer_push(struct detokenizer *d, int32_t id,
                                       struct buf *out);
/* The end: what is still held is appended as it is. */
NODISCARD enum status detokenizer_finish(struct detokenizer *d,
                                         struct buf *out);

#endif

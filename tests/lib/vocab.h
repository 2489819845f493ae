/* vocab.h - small vocabularies for the tests of the tokenizer.
 *
 * Depends on: gguf_writer, tokenizer.  Thread: its owner's. */
#ifndef TESTS_LIB_VOCAB_H
#define TESTS_LIB_VOCAB_H

#include "engine/tokenizer.h"
#include "tests/lib/gguf_writer.h"

struct vocab_entry {
    const char *text;
    float score;
    int32_t kind;
};

/* A vocabulary to write; zero fields mean the usual. */
struct vocab_spec {
    const struct vocab_entry *entry;
    uint32_t n;
    const char *model, *pre;   /* "llama", none                         */
    const char *chat_template; /* none */
    const char *skip;          /* leave this key out                    */
    const char *wrong;         /* write a U8 in place of this key       */
    uint32_t n_scores_less, n_kinds_less;
    const char *id_key; /* and one more key with this value      */
    uint32_t id;
    const char *flag_key; /* and one with this                     */
    bool flag;
    const char *const *merge; /* [n_merges]; NULL: no such key         */
    uint32_t n_merges;
};

/* In the order of Llama 2: unknown, <s>, </s>, 256 bytes, then pieces. */
extern const struct vocab_entry small_vocab[];
extern const uint32_t small_vocab_n;
#define SMALL_BYTE(b) (3 + (b))

/* Byte-level BPE with pre-tokenizer llama-bpe: 256 bytes, ids as their values,
 * then the tokens of its merges, and others of every kind. */
struct vocab_spec bpe_vocab_spec(void);

/* The id of the first entry with this text, or -1. */
int32_t vocab_id(const struct vocab_spec *spec, const char *text);
NODISCARD enum status vocab_write(const struct vocab_spec *spec,
                                  struct buf *out, struct error *err);
NODISCARD enum status vocab_create(struct tokenizer **out,
                                   const struct vocab_spec *spec,
                                   struct error *err);

#endif

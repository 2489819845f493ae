/* gen_vocab.h - the vocabulary of a generated model: SentencePiece, any size.
 *
 * Depends on: libc.  Thread: any.
 *
 * <unk>, <s>, </s>, the 256 byte tokens, then "\xe2\x96\x81" (the space),
 * letters, digits, marks, and syllables from short to long.  Every longer
 * piece is two shorter ones joined, and ranks below both, so that the merges
 * of SentencePiece reach it: text becomes syllables, anything else bytes. */
#ifndef TESTS_LIB_GEN_VOCAB_H
#define TESTS_LIB_GEN_VOCAB_H

#include <stdint.h>

#define GEN_VOCAB_MAX   1048576u
#define GEN_VOCAB_PIECE 32u /* bytes of a piece, NUL included */

struct gen_piece {
    char text[GEN_VOCAB_PIECE];
    float score;
    int32_t kind; /* tokenizer.ggml.token_type: 1 normal, 2 unknown, 3
                     control, 6 byte */
};

/* Token id of the vocabulary, id below GEN_VOCAB_MAX; a smaller vocabulary
 * is the beginning of a larger one. */
void gen_vocab_piece(uint32_t id, struct gen_piece *out);

#endif

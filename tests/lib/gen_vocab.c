#include "tests/lib/gen_vocab.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/compiler.h"

#define SPACE "\xe2\x96\x81"

static const char vowels[] = "aeiou";
static const char consonants[] = "bcdfghjklmnprstvwxyz";
#define N_V  (sizeof vowels - 1)
#define N_C  (sizeof consonants - 1)
#define N_CV (N_C * N_V)

static const char *const singles[] = {
    SPACE, "e", "t", "a", "o", "i", "n", "s",  "r",        "h",        "l",
    "d",   "u", "c", "m", "f", "y", "w", "g",  "p",        "b",        "v",
    "k",   "x", "q", "j", "z", "A", "B", "C",  "D",        "E",        "F",
    "G",   "H", "I", "J", "K", "L", "M", "N",  "O",        "P",        "Q",
    "R",   "S", "T", "U", "V", "W", "X", "Y",  "Z",        "0",        "1",
    "2",   "3", "4", "5", "6", "7", "8", "9",  ".",        ",",        "!",
    "?",   "'", "-", ":", ";", "(", ")", "\"", "\xc3\xa9", "\xc3\xbc",
};

/* A group is all strings of its pattern, counted with the last place
 * fastest: c a consonant, v a vowel, _ the space. */
static const char *const groups[] = {
    "cv",   "_c",   "_v",    "_cv",    "vc",      "cvc",
    "_cvc", "cvcv", "_cvcv", "cvcvcv", "_cvcvcv",
};

static uint64_t places(char c)
{
    return c == 'c' ? N_C : c == 'v' ? N_V : 1;
}

static uint64_t group_size(const char *pattern)
{
    uint64_t n = 1;
    for (const char *p = pattern; *p; p++) n *= places(*p);
    return n;
}

/* The index-th string of a pattern. */
static void spell(const char *pattern, uint64_t index, char *out)
{
    uint64_t below = group_size(pattern);
    for (const char *p = pattern; *p; p++) {
        below /= places(*p);
        const uint64_t digit = index / below;
        index %= below;
        if (*p == '_') {
            memcpy(out, SPACE, sizeof SPACE - 1);
            out += sizeof SPACE - 1;
        } else {
            *out++ = *p == 'c' ? consonants[digit] : vowels[digit];
        }
    }
    *out = '\0';
}

void gen_vocab_piece(uint32_t id, struct gen_piece *out)
{
    static const char *const control[] = {"<unk>", "<s>", "</s>"};
    *out = (struct gen_piece){.kind = 1};
    if (id < 3) {
        snprintf(out->text, sizeof out->text, "%s", control[id]);
        out->kind = id == 0 ? 2 : 3;
        return;
    }
    if (id < 3 + 256) {
        snprintf(out->text, sizeof out->text, "<0x%02X>", id - 3);
        out->kind = 6;
        return;
    }
    uint64_t i = id - (3 + 256);
    out->score = -(float)i; /* exact: ids stay below 2^24 */
    if (i < COUNT_OF(singles)) {
        snprintf(out->text, sizeof out->text, "%s", singles[i]);
        return;
    }
    i -= COUNT_OF(singles);
    for (size_t g = 0; g < COUNT_OF(groups); g++) {
        const uint64_t n = group_size(groups[g]);
        if (i < n) {
            spell(groups[g], i, out->text);
            return;
        }
        i -= n;
    }
    /* 2.1 million before this: over GEN_VOCAB_MAX. */
    snprintf(out->text, sizeof out->text, "<extra %u>", id);
}

#include <string.h>

#include "tests/lib/vocab.h"

#define G "\xc4\xa0" /* U+0120: a space */

/* Best first. "b c" stands before "a b", though "a b" begins first in "abc";
 * "a a" ties with itself. */
static const char *const merges[] = {
    "h e",
    "l l",
    "he ll",
    "b c",
    "a bc",
    "a b",
    "ab c", /* never used: "b c" is better than "a b" */
    "c ab",
    "a a",
    "aa aa",
    "\xc4\xa0 a",
    "\xc4\xa0\x61 bc",
    "\xc4\xa0 \xc4\xa0",
    "\xc4\xa0\xc4\xa0 \xc4\xa0\xc4\xa0",
    "1 2",
    "12 3",
    "\xc3\x83 \xc2\xa9",         /* e acute: bytes c3 a9 */
    "\xc3\xa6 \xc4\xb9",         /* the first two of sun: e6 97 */
    "\xc3\xa6\xc4\xb9 \xc2\xa5", /* sun */
    "\xc4\x8a \xc4\x8a",         /* two newlines */
    "< s",
    "<s >", /* would make a control token */
    "t h",
    "th i",
    "thi nk", /* "n k" is no merge: not reached */
};

static const struct vocab_entry others[] = {
    {"he", 0, TOKEN_NORMAL},
    {"ll", 0, TOKEN_NORMAL},
    {"hell", 0, TOKEN_NORMAL},
    {"bc", 0, TOKEN_NORMAL},
    {"abc", 0, TOKEN_NORMAL},
    {"ab", 0, TOKEN_NORMAL},
    {"cab", 0, TOKEN_NORMAL},
    {"aa", 0, TOKEN_NORMAL},
    {"aaaa", 0, TOKEN_NORMAL},
    {G "a", 0, TOKEN_NORMAL},
    {G "abc", 0, TOKEN_NORMAL},
    {"  ", 0, TOKEN_USER_DEFINED}, /* a step of the next, as it is typed */
    {G G G G, 0, TOKEN_NORMAL},
    {"12", 0, TOKEN_NORMAL},
    {"123", 0, TOKEN_NORMAL},
    {"\xc3\x83\xc2\xa9", 0, TOKEN_NORMAL},
    {"\xc3\xa6\xc4\xb9", 0, TOKEN_NORMAL},
    {"\xc3\xa6\xc4\xb9\xc2\xa5", 0, TOKEN_NORMAL},
    {"\xc4\x8a\xc4\x8a", 0, TOKEN_NORMAL},
    {"<s", 0, TOKEN_NORMAL},
    {"<s>", 0, TOKEN_CONTROL},
    {"th", 0, TOKEN_NORMAL},
    {"thi", 0, TOKEN_NORMAL},
    {"nk", 0, TOKEN_NORMAL},
    {"think", 0, TOKEN_NORMAL},
    {"whole", 0, TOKEN_NORMAL}, /* no merge makes it */
    {"[PAD]", 0, TOKEN_UNUSED},
    {"PAD", 0, TOKEN_UNUSED},
    {"<t>", 0, TOKEN_USER_DEFINED},
    {"<t>x", 0, TOKEN_USER_DEFINED},
    {"a b", 0, TOKEN_USER_DEFINED},
    {"<|x|>", 0, TOKEN_CONTROL},
    {"<|x|>y", 0, TOKEN_CONTROL},
    {"<|im_end|>", 0, TOKEN_USER_DEFINED},
    {"<|eot_id|>", 0, TOKEN_CONTROL},
    {"<0x41>", 0, TOKEN_BYTE},
    {"\xe6\x97\xa5", 0, TOKEN_NORMAL}, /* not in the characters for bytes */
    {"he", 0, TOKEN_NORMAL},           /* a second one, never found */
    {"", 0, TOKEN_NORMAL},
};

struct vocab_spec bpe_vocab_spec(void)
{
    static char spelt[256][3];
    static struct vocab_entry entry[256 + COUNT_OF(others)];
    unsigned next = 0x100; /* for bytes that cannot be seen */
    for (unsigned b = 0; b < 256; b++) {
        const bool seen = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad);
        const unsigned c = seen ? b : next++;
        if (c < 0x80) {
            spelt[b][0] = (char)c;
            spelt[b][1] = '\0';
        } else {
            spelt[b][0] = (char)(0xc0 | c >> 6);
            spelt[b][1] = (char)(0x80 | (c & 0x3f));
            spelt[b][2] = '\0';
        }
        entry[b] = (struct vocab_entry){spelt[b], 0, TOKEN_NORMAL};
    }
    memcpy(entry + 256, others, sizeof others);
    return (struct vocab_spec){.entry = entry,
                               .n = COUNT_OF(entry),
                               .model = "gpt2",
                               .pre = "llama-bpe",
                               .merge = merges,
                               .n_merges = COUNT_OF(merges)};
}

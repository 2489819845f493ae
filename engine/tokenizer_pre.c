/* tokenizer_pre.c - the pre-tokenizers by name, as regular expressions.
 *
 * Depends on: common, PCRE2, utf8proc.  Thread: as tokenizer_pre.h says.
 *
 * The expressions are facts of the models: each stands in the tokenizer.json
 * that the model was published with, or in llama.cpp's list of those. Here
 * they are written so that PCRE2's interpreter walks each text in linear time
 * (no machine code at run time: hardened systems forbid it). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/tokenizer_pre.h"

#include <pcre2.h>
#include <string.h>
#include <utf8proc.h>

/* White_Space of the Unicode Character Database, for use inside a class;
 * PCRE2's own \s takes in U+180E too. */
#define WS "\\p{Z}\\t-\\r\\x{85}"

/* Spaces before a word leave one of them to the word. */
#define SPACES "[" WS "]+(?![^" WS "])|[" WS "]+"

#define CONTRACTIONS "'s|'t|'re|'ve|'m|'ll|'d"

/* GPT-2's, published with its encoder. */
#define GPT2                                                                   \
    CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" SPACES

/* cl100k of OpenAI and its many children, which differ in their digits. */
#define CL100K(digits)                                                         \
    "(?i:" CONTRACTIONS ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" WS   \
    "\\p{L}\\p{N}]+[\\r\\n]*|[" WS "]*[\\r\\n]+|" SPACES

/* o200k and Tekken: words begin with capitals; `tail` may follow a word. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K(digits, tail)                                                    \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" tail                          \
    "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" tail "|" digits "| ?[^" WS   \
    "\\p{L}\\p{N}]+[\\r\\n/]*|[" WS "]*[\\r\\n]+|" SPACES

/* The cased letters that the first DeepSeek models list one by one. */
#define DEEPSEEK_LETTERS                                                       \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}"              \
    "\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}"                      \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}"       \
    "\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}"              \
    "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}"                      \
    "\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}"                \
    "\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}"                \
    "\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}"                \
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"                \
    "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}"        \
    "\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}"       \
    "\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}"                \
    "\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}"       \
    "\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}"        \
    "\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}"        \
    "\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}"        \
    "\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}"       \
    "\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"       \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}"                \
    "\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}"                \
    "\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}"            \
    "\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"          \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"
#define DEEPSEEK_CJK                                                           \
    "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
/* What is left of `\s+$`: it would try each of n spaces anew. */
#define LAST_SPACES "(?<![" WS "])[" WS "]++\\z"

#define PASSES_MAX 6
#define NAMES_MAX  5

struct form {
    const char *name[NAMES_MAX];
    const char *pass[PASSES_MAX];
    struct pre_facts facts;
};

static const struct form forms[] = {
    {{"llama-bpe", "llama3", "llama-v3", "falcon3"},
     {CL100K("\\p{N}{1,3}")},
     {.ignore_merges = true, .add_bos = true}},
    {{"qwen2", "deepseek-r1-qwen"}, {CL100K("\\p{N}")}, {.nfc = true}},
    {{"gpt-2", "mpt", "phi-2"}, {GPT2}, {0}},
    {{"olmo"}, {GPT2}, {.nfc = true}},
    {{"default"},
     {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"},
     {0}},
    {{"smaug-bpe", "dbrx"}, {CL100K("\\p{N}{1,3}")}, {0}},
    {{"starcoder", "refact", "smollm", "minerva-7b"}, {"\\p{N}", GPT2}, {0}},
    {{"command-r"}, {"\\p{N}", GPT2}, {.nfc = true}},
    {{"falcon"}, {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"}, {0}},
    {{"seed-coder"},
     {"(?i:" CONTRACTIONS ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
      "| ?[^" WS "\\p{L}\\p{N}\\r\\n]+|[" WS "]*[\\r\\n]+|" SPACES},
     {0}},
    {{"tekken"},
     {O200K("\\p{N}", "")},
     {.ignore_merges = true, .add_bos = true}},
    {{"gpt-4o", "llama4"},
     {O200K("\\p{N}{1,3}", "(?i:" CONTRACTIONS ")?")},
     {0}},
    {{"deepseek-llm"},
     {"[\\r\\n]", "[" WS "]?[" DEEPSEEK_LETTERS "]+",
      "[" WS "]?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}"
      "\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
      LAST_SPACES, DEEPSEEK_CJK, "\\p{N}+"},
     {0}},
    {{"deepseek-coder"},
     {"[\\r\\n]", "[" WS "]?\\p{L}+", "[" WS "]?\\p{P}+", DEEPSEEK_CJK,
      "\\p{N}"},
     {0}},
    {{"deepseek-v3"},
     {"\\p{N}{1,3}",
      "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}"
      "\\x{30a0}-\\x{30ff}]+",
      "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
      "| ?[\\p{P}\\p{S}]+[\\r\\n]*|[" WS "]*[\\r\\n]+|" SPACES},
     {0}},
};

struct pre {
    const struct form *form;
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_code *code[PASSES_MAX];
    size_t n_passes;
};

struct pre_work {
    const struct pre *pre;
    pcre2_match_data *match[PASSES_MAX];
};

/* What a pass hands on. */
struct splitter {
    struct pre_work *work;
    pre_piece_fn *fn;
    void *context;
};

static void *regex_alloc(size_t n, void *unused)
{
    (void)unused;
    return mem_alloc(n);
}

static void regex_free(void *p, void *unused)
{
    (void)unused;
    mem_free(p);
}

static const struct form *find_form(const char *name, size_t n)
{
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        for (size_t k = 0; k < NAMES_MAX && forms[i].name[k]; k++) {
            const char *known = forms[i].name[k];
            if (strlen(known) == n && memcmp(known, name, n) == 0) {
                return &forms[i];
            }
        }
    }
    return NULL;
}

static enum status compile(struct pre *p, struct error *err)
{
    pcre2_compile_context *how = pcre2_compile_context_create(p->memory);
    if (!how) return error_set(err, ST_NO_MEMORY, "pre-tokenizer");
    enum status st = ST_OK;
    while (st == ST_OK && p->n_passes < PASSES_MAX &&
           p->form->pass[p->n_passes]) {
        int code;
        size_t at;
        const char *regex = p->form->pass[p->n_passes];
        pcre2_code *made =
            pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_UTF,
                          &code, &at, how);
        if (made) {
            p->code[p->n_passes++] = made;
        } else if (code == PCRE2_ERROR_HEAP_FAILED) {
            st = error_set(err, ST_NO_MEMORY, "pre-tokenizer");
        } else {
            st = error_set(err, ST_UNSUPPORTED,
                           "the PCRE2 library does not take pre-tokenizer "
                           "\"%s\", pass %zu (its error %d at %zu); install "
                           "PCRE2 10.39 or newer",
                           p->form->name[0], p->n_passes + 1, code, at);
        }
    }
    pcre2_compile_context_free(how);
    return st;
}

enum status pre_create(struct pre **out, const char *name, size_t n,
                       struct error *err)
{
    const struct form *form = find_form(name, n);
    if (!form) return ST_NOT_FOUND;
    struct pre *p = mem_zalloc(sizeof *p);
    if (!p) return error_set(err, ST_NO_MEMORY, "pre-tokenizer");
    p->form = form;
    p->memory = pcre2_general_context_create(regex_alloc, regex_free, NULL);
    if (p->memory) p->limits = pcre2_match_context_create(p->memory);
    enum status st = p->limits ? compile(p, err)
                               : error_set(err, ST_NO_MEMORY, "pre-tokenizer");
    if (st != ST_OK) {
        pre_free(p);
        return st;
    }
    /* Steps are counted per match, and 64 MiB of spaces are one match. */
    pcre2_set_match_limit(p->limits, UINT32_MAX);
    *out = p;
    return ST_OK;
}

void pre_free(struct pre *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->n_passes; i++) pcre2_code_free(p->code[i]);
    pcre2_match_context_free(p->limits);
    pcre2_general_context_free(p->memory);
    mem_free(p);
}

struct pre_facts pre_facts(const struct pre *p)
{
    return p->form->facts;
}

enum status pre_work_create(struct pre_work **out, const struct pre *p)
{
    struct pre_work *w = mem_zalloc(sizeof *w);
    if (!w) return ST_NO_MEMORY;
    w->pre = p;
    for (size_t i = 0; i < p->n_passes; i++) {
        w->match[i] = pcre2_match_data_create(1, p->memory);
        if (!w->match[i]) {
            pre_work_free(w);
            return ST_NO_MEMORY;
        }
    }
    *out = w;
    return ST_OK;
}

void pre_work_free(struct pre_work *w)
{
    if (!w) return;
    for (size_t i = 0; i < w->pre->n_passes; i++) {
        pcre2_match_data_free(w->match[i]);
    }
    mem_free(w);
}

/* Recursion: one level for each pass. */
static enum status run_pass(struct splitter *s, size_t pass, const char *text,
                            size_t n)
{
    if (n == 0) return ST_OK;
    const struct pre *p = s->work->pre;
    if (pass == p->n_passes) return s->fn(s->context, text, n);
    pcre2_match_data *match = s->work->match[pass];
    size_t at = 0;
    while (at < n) {
        const int rc = pcre2_match(p->code[pass], (PCRE2_SPTR)text, n, at,
                                   PCRE2_NO_UTF_CHECK, match, p->limits);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc < 0) return ST_NO_MEMORY; /* heap frames: nothing else fails */
        const size_t begin = pcre2_get_ovector_pointer(match)[0];
        const size_t end = pcre2_get_ovector_pointer(match)[1];
        enum status st = run_pass(s, pass + 1, text + at, begin - at);
        if (st == ST_OK) st = run_pass(s, pass + 1, text + begin, end - begin);
        if (st != ST_OK) return st;
        at = end;
    }
    return run_pass(s, pass + 1, text + at, n - at);
}

enum status pre_split(struct pre_work *w, const char *text, size_t n,
                      pre_piece_fn *fn, void *context)
{
    struct splitter s = {.work = w, .fn = fn, .context = context};
    return run_pass(&s, 0, text, n);
}

/* ---- normalization ----------------------------------------------------- */

static enum status normalize_stretch(const char *text, size_t n,
                                     struct buf *out)
{
    const utf8proc_option_t form = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_uint8_t *from = (const utf8proc_uint8_t *)text;
    const utf8proc_ssize_t count =
        utf8proc_decompose(from, (utf8proc_ssize_t)n, NULL, 0, form);
    if (count < 0) return buf_append(out, text, n);
    /* The library wants room for one byte more. */
    utf8proc_int32_t *code = mem_zalloc_array((size_t)count + 1, sizeof *code);
    if (!code) return ST_NO_MEMORY;
    utf8proc_ssize_t len =
        utf8proc_decompose(from, (utf8proc_ssize_t)n, code, count, form);
    if (len == count) len = utf8proc_reencode(code, count, form);
    const enum status st = len >= 0 ? buf_append(out, code, (size_t)len)
                                    : buf_append(out, text, n);
    mem_free(code);
    return st;
}

/* Whether text may be cut in front of p without changing its normal form:
 * a letter that composes with nothing before it. The vowels and finals of
 * Hangul do, and newer scripts above U+FFFF may. */
static bool is_boundary(const unsigned char *p, size_t n)
{
    utf8proc_int32_t c;
    if (utf8proc_iterate(p, (utf8proc_ssize_t)n, &c) <= 0) return false;
    if (c > 0xffff || (c >= 0x1160 && c <= 0x11ff)) return false;
    const utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

/* Nothing in front of an ASCII character changes with it, and a character
 * below U+0300 only with what follows. So the text is cut in front of ASCII
 * characters, and only stretches with higher ones are looked at.
 *
 * A long stretch is cut at a letter, or anywhere in the end: sorting marks
 * costs the square of their number, and Unicode's own limit for text that is
 * meant to be read is 30 in a row (UAX 15, stream-safe format). */
#define STRETCH_LONG 512
#define STRETCH_MAX  1024

enum status pre_normalize(const char *text, size_t n, struct buf *out)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t done = 0, start = 0; /* start: of the stretch that `i` is in */
    bool high = false;
    for (size_t i = 0; i <= n; i++) {
        const size_t len = i - start;
        const bool cut = i == n || p[i] < 0x80 ||
                         (len >= STRETCH_LONG && p[i] >= 0xc0 &&
                          (len >= STRETCH_MAX || is_boundary(p + i, n - i)));
        if (cut) {
            if (high) {
                enum status st = buf_append(out, text + done, start - done);
                if (st == ST_OK) st = normalize_stretch(text + start, len, out);
                if (st != ST_OK) return st;
                done = i;
            }
            start = i;
            high = false;
        }
        high |= i < n && p[i] >= 0xcc; /* leads U+0300 or more */
    }
    return buf_append(out, text + done, n - done);
}

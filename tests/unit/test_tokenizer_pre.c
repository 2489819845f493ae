/* Pre-tokenizers: where each cuts; normalization form C. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/rng.h"
#include "engine/tokenizer_pre.h"

/* Contractions, both kinds of white space, digits, capitals, punctuation and
 * symbols, line ends, other scripts. */
static const char sample[] =
    "It's I'LLy\t xY  12345 ABCdef=+`!?\n\n \xc3\xa9\xe6\x97\xa5\xe3\x80\x82"
    "\xd9\xa3 \xc2\xa0";

static struct pre *create(const char *name)
{
    struct pre *p = NULL;
    struct error err;
    const enum status st = pre_create(&p, name, strlen(name), &err);
    if (st != ST_OK) fail_msg("%s: %s", name, status_name(st));
    return p;
}

static enum status put(void *context, const char *piece, size_t n)
{
    struct buf *b = context;
    const enum status st = buf_append(b, piece, n);
    return st == ST_OK ? buf_append(b, "|", 1) : st;
}

static void test_cuts(void **state)
{
    (void)state;
    static const struct {
        const char *name, *want;
    } row[] = {
        {"llama-bpe", "It|'s| I|'LL|y|\t| xY| | |123|45| ABCdef|=+`!?\n\n| "
                      "\xc3\xa9\xe6\x97\xa5|\xe3\x80\x82|\xd9\xa3| \xc2\xa0|"},
        {"qwen2", "It|'s| I|'LL|y|\t| xY| | |1|2|3|4|5| ABCdef|=+`!?\n\n| "
                  "\xc3\xa9\xe6\x97\xa5|\xe3\x80\x82|\xd9\xa3| \xc2\xa0|"},
        {"gpt-2", "It|'s| I|'|LLy|\t| xY| | 12345| ABCdef|=+`!?|\n\n| "
                  "\xc3\xa9\xe6\x97\xa5|\xe3\x80\x82|\xd9\xa3| \xc2\xa0|"},
        {"default", "It|'|s| I|'|LLy|\t| xY| | |123|45| ABCdef|=+|`|!?|\n\n| "
                    "\xc3\xa9\xe6\x97\xa5|\xe3\x80\x82|\xd9\xa3| \xc2\xa0|"},
        {"smollm", "It|'s| I|'|LLy|\t| xY|  |1|2|3|4|5| ABCdef|=+`!?|\n\n| "
                   "\xc3\xa9\xe6\x97\xa5|\xe3\x80\x82|\xd9\xa3| \xc2\xa0|"},
        {"falcon", "It|'|s| I|'|LLy|\t| xY| | |123|45| ABCdef|=+`!?|\n\n| "
                   "\xc3\xa9\xe6\x97\xa5|\xe3\x80\x82|\xd9\xa3| \xc2\xa0|"},
        {"tekken", "It|'s| I|'LLy|\t| x|Y| | |1|2|3|4|5| ABCdef|=+`!?\n\n| "
                   "\xc3\xa9\xe6\x97\xa5|\xe3\x80\x82|\xd9\xa3| \xc2\xa0|"},
        {"gpt-4o", "It's| I'LL|y|\t| x|Y| | |123|45| ABCdef|=+`!?\n\n| "
                   "\xc3\xa9\xe6\x97\xa5|\xe3\x80\x82|\xd9\xa3| \xc2\xa0|"},
        {"seed-coder",
         "It|'s| I|'LL|y|\t| xY| | |1|2|3|4|5| ABCdef|=+`!?|\n\n| "
         "\xc3\xa9\xe6\x97\xa5|\xe3\x80\x82|\xd9\xa3| \xc2\xa0|"},
        {"deepseek-llm",
         "It|'|s| I|'|LLy|\t| xY|  |12345| ABCdef|=+`!?|\n|\n| "
         "\xc3\xa9|\xe6\x97\xa5|\xe3\x80\x82|\xd9\xa3| \xc2\xa0|"},
        {"deepseek-coder",
         "It|'|s| I|'|LLy|\t| xY|  |1|2|3|4|5| ABCdef|=+`|!?|\n|\n| "
         "\xc3\xa9|\xe6\x97\xa5|\xe3\x80\x82|\xd9\xa3| \xc2\xa0|"},
        {"deepseek-v3",
         "It|'s| I|'LLy|\t| xY|  |123|45| ABCdef|=+`!?\n\n| "
         "\xc3\xa9|\xe6\x97\xa5|\xe3\x80\x82|\xd9\xa3| \xc2\xa0|"},
    };
    for (size_t i = 0; i < COUNT_OF(row); i++) {
        struct pre *p = create(row[i].name);
        struct pre_work *w;
        struct buf line;
        buf_init(&line, 1024);
        assert_int_equal(pre_work_create(&w, p), ST_OK);
        assert_int_equal(pre_split(w, sample, strlen(sample), put, &line),
                         ST_OK);
        if (strcmp(line.data, row[i].want) != 0) {
            fail_msg("%s: got %s, want %s", row[i].name, line.data,
                     row[i].want);
        }
        /* nothing in, nothing out */
        line.len = 0;
        assert_int_equal(pre_split(w, "", 0, put, &line), ST_OK);
        assert_int_equal(line.len, 0);
        buf_fini(&line);
        pre_work_free(w);
        pre_free(p);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const char *const unknown[] = {"", "llama-bp", "llama-bpe2", "gpt"};
    struct pre *p = NULL;
    for (size_t i = 0; i < COUNT_OF(unknown); i++) {
        assert_int_equal(pre_create(&p, unknown[i], strlen(unknown[i]), NULL),
                         ST_NOT_FOUND);
        assert_null(p);
    }
    p = create("llama3");
    assert_true(pre_facts(p).ignore_merges && pre_facts(p).add_bos);
    assert_false(pre_facts(p).nfc);
    pre_free(p);
    p = create("qwen2");
    assert_true(pre_facts(p).nfc);
    assert_false(pre_facts(p).ignore_merges || pre_facts(p).add_bos);
    pre_free(p);
}

/* The first failure ends the work and is what the caller gets. */
static enum status fail_third(void *context, const char *piece, size_t n)
{
    (void)piece;
    (void)n;
    int *calls = context;
    return ++*calls == 3 ? ST_FULL : ST_OK;
}

static void test_stops(void **state)
{
    (void)state;
    struct pre *p = create("default");
    struct pre_work *w;
    int calls = 0;
    assert_int_equal(pre_work_create(&w, p), ST_OK);
    assert_int_equal(pre_split(w, sample, strlen(sample), fail_third, &calls),
                     ST_FULL);
    assert_int_equal(calls, 3);
    pre_work_free(w);
    pre_free(p);
}

/* Long runs that a careless expression would walk again and again. Nothing
 * is timed; squares of these would not end. */
static enum status count(void *context, const char *piece, size_t n)
{
    (void)piece;
    *(size_t *)context += n;
    return ST_OK;
}

static void test_long_runs(void **state)
{
    (void)state;
    static const char *const name[] = {
        "llama-bpe",    "gpt-2",          "default",     "tekken",    "gpt-4o",
        "deepseek-llm", "deepseek-coder", "deepseek-v3", "seed-coder"};
    static const char *const run[] = {" ",  "\t",   "A",        "a",   "1", "!",
                                      "\n", "\r\n", "\xcc\x81", " \n", "'"};
    const size_t n = 1 << 17;
    char *text = mem_alloc(n + 1);
    assert_non_null(text);
    for (size_t i = 0; i < COUNT_OF(name); i++) {
        struct pre *p = create(name[i]);
        struct pre_work *w;
        assert_int_equal(pre_work_create(&w, p), ST_OK);
        for (size_t k = 0; k < COUNT_OF(run); k++) {
            const size_t len = strlen(run[k]);
            for (size_t at = 0; at < n; at++) text[at] = run[k][at % len];
            text[n] = 'x';
            size_t total = 0;
            assert_int_equal(pre_split(w, text, n + 1, count, &total), ST_OK);
            assert_int_equal(total, n + 1);
        }
        pre_work_free(w);
        pre_free(p);
    }
    mem_free(text);
}

static void test_failed_allocations(void **state)
{
    (void)state;
    const size_t before = mem_in_use();
    struct pre *p = NULL;
    struct pre_work *w = NULL;
    long n = 0;
    for (;; n++) {
        mem_fail_after(n);
        enum status st = pre_create(&p, "deepseek-llm", 12, NULL);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_null(p);
        assert_int_equal(mem_in_use(), before);
    }
    assert_in_range(n, 8, 200);
    const size_t made = mem_in_use();
    for (n = 0;; n++) {
        mem_fail_after(n);
        enum status st = pre_work_create(&w, p);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_null(w);
        assert_int_equal(mem_in_use(), made);
    }
    assert_in_range(n, 7, 50);
    pre_work_free(w);
    pre_free(p);
    assert_int_equal(mem_in_use(), before);
}

/* ---- normalization ----------------------------------------------------- */

static void expect_normal(const char *text, size_t n, const char *want,
                          size_t n_want)
{
    struct buf out;
    buf_init(&out, 3 * n);
    assert_int_equal(pre_normalize(text, n, &out), ST_OK);
    if (out.len != n_want ||
        (n_want > 0 && memcmp(out.data, want, n_want) != 0)) {
        fail_msg("\"%.*s\" became \"%s\"", (int)n, text, out.data);
    }
    buf_fini(&out);
}

static void test_normalize(void **state)
{
    (void)state;
    static const char *const row[][2] = {
        {"", ""},
        {"plain text", "plain text"},
        {"e\xcc\x81", "\xc3\xa9"},
        {"ae\xcc\x81z e\xcc\x81", "a\xc3\xa9z \xc3\xa9"},
        {"\xc3\xa9", "\xc3\xa9"},
        /* marks are sorted: dot below (ccc 220) before acute (230) */
        {"e\xcc\x81\xcc\xa3", "\xe1\xba\xb9\xcc\x81"},
        /* Hangul: lead, vowel, tail */
        {"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"},
        /* one character that is written otherwise; one that must not compose */
        {"\xe2\x84\xab", "\xc3\x85"},
        {"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"},
        /* three times as long */
        {"\xef\xac\xac", "\xd7\xa9\xd6\xbc\xd7\x81"},
    };
    for (size_t i = 0; i < COUNT_OF(row); i++) {
        expect_normal(row[i][0], strlen(row[i][0]), row[i][1],
                      strlen(row[i][1]));
    }
    /* Long stretches are cut where nothing changes. */
    static char text[9 * 4000], want[9 * 4000];
    size_t n = 0, n_want = 0;
    for (int i = 0; i < 4000; i++) {
        memcpy(text + n, "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", 9);
        memcpy(want + n_want, "\xed\x95\x9c", 3);
        n += 9;
        n_want += 3;
    }
    expect_normal(text, n, want, n_want);
    memcpy(text, "\xd0\xb0", 2); /* so that no mark stands at 4 n */
    memcpy(want, "\xd0\xb0", 2);
    n = n_want = 2;
    for (int i = 0; i < 4000; i++) {
        memcpy(text + n, "\xd0\xb8\xcc\x86", 4);
        memcpy(want + n_want, "\xd0\xb9", 2);
        n += 4;
        n_want += 2;
    }
    expect_normal(text, n, want, n_want);
}

/* More marks than any text has: the cost stays bounded, nothing is lost. */
static void test_many_marks(void **state)
{
    (void)state;
    const size_t n = 1 << 20;
    char *text = mem_alloc(n);
    assert_non_null(text);
    struct rng r = {3};
    size_t marks = 0;
    for (size_t i = 0; i < n; i += 2) {
        memcpy(text + i, rng_below(&r, 2) ? "\xcc\x81" : "\xcc\xa3", 2);
        marks += text[i + 1] == '\x81';
    }
    struct buf out;
    buf_init(&out, 3 * n);
    assert_int_equal(pre_normalize(text, n, &out), ST_OK);
    assert_int_equal(out.len, n);
    for (size_t i = 0; i < n; i += 2) marks -= out.data[i + 1] == '\x81';
    assert_int_equal(marks, 0);
    buf_fini(&out);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_long_runs),
        cmocka_unit_test(test_failed_allocations),
        cmocka_unit_test(test_normalize),
        cmocka_unit_test(test_many_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

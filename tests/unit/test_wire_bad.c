/* test_wire_bad.c - frames that nobody may take: the ordinary message of a
 * kind with fields changed, and frames that are no message at all.
 *
 * A line of the table names the fields to replace:
 *   F=N       a number
 *   F:N,N     a packed list of numbers (nothing: an empty list)
 *   F/N,N     of 8-byte integers       F~X,X  of floats     F^X,X  of doubles
 *   F#HEX     bytes                    F*N    N letters 'a'
 *   F-        the field is left out    F+N    N copies of the field
 * With POTLUCK_WRITE_CORPUS=DIR they become seeds of the fuzzer too. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"
#include "tests/lib/corpus.h"
#include "tests/lib/wire_samples.h"

#define SAME SIZE_MAX /* the tensor that belongs to the ordinary message */
#define ID   "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"

/* --------------------------------------------------- fields of a body */

static void put_byte(struct buf *b, unsigned v)
{
    const uint8_t byte = (uint8_t)v;
    assert_int_equal(buf_append(b, &byte, 1), ST_OK);
}

static void put_varint(struct buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) put_byte(b, (unsigned)(v | 0x80) & 0xff);
    put_byte(b, (unsigned)v);
}

static uint64_t take_varint(const struct buf *b, size_t *at)
{
    uint64_t v = 0;
    for (unsigned shift = 0;; shift += 7) {
        const uint8_t byte = (uint8_t)b->data[(*at)++];
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return v;
    }
}

/* The end of the field at `at`, and its number. */
static size_t field_end(const struct buf *b, size_t at, unsigned *number)
{
    const uint64_t tag = take_varint(b, &at);
    *number = (unsigned)(tag >> 3);
    if ((tag & 7) == 0) {
        take_varint(b, &at);
    } else if ((tag & 7) == 1) {
        at += 8;
    } else if ((tag & 7) == 2) {
        const uint64_t n = take_varint(b, &at);
        at += n;
    } else {
        at += 4;
    }
    assert_true(at <= b->len);
    return at;
}

static void put_one(struct buf *b, char type, const char **text)
{
    char *end = NULL;
    if (type == ':') put_varint(b, strtoull(*text, &end, 0));
    if (type == '/') {
        const uint64_t v = strtoull(*text, &end, 0);
        assert_int_equal(buf_append(b, &v, sizeof v), ST_OK);
    }
    if (type == '~') {
        const float v = strtof(*text, &end);
        assert_int_equal(buf_append(b, &v, sizeof v), ST_OK);
    }
    if (type == '^') {
        const double v = strtod(*text, &end);
        assert_int_equal(buf_append(b, &v, sizeof v), ST_OK);
    }
    assert_non_null(end);
    *text = end;
}

static void put_hex(struct buf *b, const char **text)
{
    for (unsigned v; **text && **text != ' '; *text += 2) {
        const char digits[3] = {(*text)[0], (*text)[1], '\0'};
        v = (unsigned)strtoul(digits, NULL, 16);
        put_byte(b, v);
    }
}

/* One value behind F, as bytes of a field; *text moves behind it. */
static void put_field(struct buf *out, unsigned number, char type,
                      const char **text)
{
    char *end;
    if (type == '=') {
        put_varint(out, number << 3);
        put_varint(out, strtoull(*text, &end, 0));
        *text = end;
        return;
    }
    struct buf v;
    buf_init(&v, 1 << 24);
    if (type == '*') {
        for (uint64_t n = strtoull(*text, &end, 0); n > 0; n--) {
            put_byte(&v, 'a');
        }
        *text = end;
    } else if (type == '#') {
        put_hex(&v, text);
    } else {
        while (**text && **text != ' ') {
            put_one(&v, type, text);
            if (**text == ',') (*text)++;
        }
    }
    put_varint(out, number << 3 | 2);
    put_varint(out, v.len);
    assert_int_equal(buf_append(out, v.data ? v.data : "", v.len), ST_OK);
    buf_fini(&v);
}

/* Fields below, the new one (or copies of the old), fields above. */
static void edit(struct buf *body, unsigned number, char type,
                 const char **text)
{
    struct buf out;
    unsigned f;
    buf_init(&out, 1 << 25);
    uint64_t copies = 0;
    char *end;
    if (type == '+') {
        copies = strtoull(*text, &end, 0);
        *text = end;
    }
    bool done = type == '+' || type == '-';
    for (size_t at = 0, next; at < body->len; at = next) {
        next = field_end(body, at, &f);
        if (f > number && !done) {
            put_field(&out, number, type, text);
            done = true;
        }
        uint64_t n = f == number ? copies : 1;
        for (; n > 0; n--) {
            assert_int_equal(buf_append(&out, body->data + at, next - at),
                             ST_OK);
        }
    }
    if (!done) put_field(&out, number, type, text);
    buf_fini(body);
    *body = out;
}

/* The ordinary message of a kind, edited, in its envelope. */
static void edited(struct buf *frame, enum wire_kind kind, const char *edits,
                   size_t *tensor)
{
    struct wire_message m;
    struct buf whole, body;
    size_t ordinary, at = 0;
    wire_sample_message(&m, kind, SAMPLE_ORDINARY, &ordinary);
    if (*tensor == SAME) *tensor = ordinary;
    buf_init(&whole, 1 << 20);
    buf_init(&body, 1 << 25);
    buf_init(frame, 1 << 25);
    assert_int_equal(wire_write(&whole, &m, NULL), ST_OK);
    const uint64_t tag = take_varint(&whole, &at);
    take_varint(&whole, &at);
    assert_int_equal(buf_append(&body, whole.data + at, whole.len - at), ST_OK);
    for (const char *p = edits; *p; p += *p == ' ') {
        char *end;
        const unsigned number = (unsigned)strtoul(p, &end, 10);
        const char type = *end;
        p = end + 1;
        edit(&body, number, type, &p);
    }
    put_varint(frame, tag);
    put_varint(frame, body.len);
    assert_int_equal(buf_append(frame, body.data ? body.data : "", body.len),
                     ST_OK);
    buf_fini(&whole);
    buf_fini(&body);
}

/* -------------------------------------------------------------- table */

/* clang-format off */
static const struct bad {
    enum wire_kind kind;
    const char *edits;
    size_t tensor;
    enum status status;
    const char *word; /* of the sentence */
} bad[] = {
    { WIRE_HELLO, "1=0", SAME, ST_INVALID, "protocol_min 0" },
    { WIRE_HELLO, "1=3 2=2", SAME, ST_INVALID, "protocol_max" },
    { WIRE_HELLO, "5-", SAME, ST_INVALID, "name is empty" },
    { WIRE_HELLO, "5*64", SAME, ST_TOO_LARGE, "name of 64" },
    { WIRE_HELLO, "5#c0af", SAME, ST_INVALID, "name is not plain" },
    { WIRE_HELLO, "5#61e296", SAME, ST_INVALID, "at byte 1" },
    { WIRE_HELLO, "5#1b5b324a", SAME, ST_INVALID, "name is not plain" },
    { WIRE_HELLO, "5#6100", SAME, ST_INVALID, "name is not plain" },
    { WIRE_HELLO, "5#617f", SAME, ST_INVALID, "name is not plain" },
    { WIRE_HELLO, "5#c285", SAME, ST_INVALID, "name is not plain" },
    { WIRE_HELLO, "6#0a", SAME, ST_INVALID, "build" },
    { WIRE_HELLO, "7#ff", SAME, ST_INVALID, "CPU" },
    { WIRE_HELLO, "8#eda080", SAME, ST_INVALID, "ISA" },
    { WIRE_HELLO, "9*64", SAME, ST_TOO_LARGE, "token" },
    { WIRE_HELLO, "10=0", SAME, ST_INVALID, "threads 0" },
    { WIRE_HELLO, "10=65537", SAME, ST_INVALID, "threads" },
    { WIRE_HELLO, "11=0xffffffffffffffff", SAME, ST_INVALID, "memory" },
    { WIRE_HELLO, "12=0", SAME, ST_INVALID, "data port 0" },
    { WIRE_HELLO, "12=65536", SAME, ST_INVALID, "data port" },
    { WIRE_HELLO, "30*4096", SAME, ST_TOO_LARGE, "at most 4096" },
    { WIRE_HELLO, "", 4, ST_INVALID, "tensor of 4 bytes" },
    { WIRE_WELCOME, "1=0", SAME, ST_INVALID, "protocol" },
    { WIRE_WELCOME, "4=0", SAME, ST_INVALID, "heartbeat" },
    { WIRE_WELCOME, "5=500", SAME, ST_INVALID, "lease" },
    { WIRE_WELCOME, "5=600001", SAME, ST_INVALID, "lease" },
    { WIRE_WELCOME, "6=65536", SAME, ST_INVALID, "data port" },
    { WIRE_WELCOME, "7=65536", SAME, ST_INVALID, "bulk port" },
    { WIRE_PROBE, "1:31", SAME, ST_INVALID, "weight type 31" },
    { WIRE_PROBE, "1*33", SAME, ST_TOO_LARGE, "32" },
    { WIRE_REPORT, "4:0", SAME, ST_INVALID, "columns of rates" },
    { WIRE_REPORT, "4:0,31", SAME, ST_INVALID, "weight type 31" },
    { WIRE_REPORT, "5^nan,1", SAME, ST_INVALID, "rate" },
    { WIRE_REPORT, "6^1,-1", SAME, ST_INVALID, "rate" },
    { WIRE_REPORT, "6^inf,1", SAME, ST_INVALID, "rate" },
    { WIRE_REPORT, "3-  4:0", SAME, ST_INVALID, "rates" },
    { WIRE_PROGRESS, "4*256", SAME, ST_TOO_LARGE, "text of 256" },
    { WIRE_PROGRESS, "4#610d62", SAME, ST_INVALID, "at byte 1" },
    { WIRE_READY, "", 1, ST_INVALID, "where 0 belong" },
    { WIRE_FAILURE, "3=0", SAME, ST_INVALID, "status 0" },
    { WIRE_FAILURE, "3=12", SAME, ST_INVALID, "status 12" },
    { WIRE_REFUSE, "4*256", SAME, ST_TOO_LARGE, "text" },
    { WIRE_STEP_FAILED, "4#0a", SAME, ST_INVALID, "text" },
    { WIRE_STEP_FAILED, "9*1048576", SAME, ST_TOO_LARGE, "at most 1048576" },
    { WIRE_BYE, "", 8, ST_INVALID, "tensor" },
    { WIRE_HEARTBEAT, "", 8, ST_INVALID, "tensor" },
    { WIRE_ASSIGN, "2-", SAME, ST_INVALID, "model id of 0" },
    { WIRE_ASSIGN, "2*31", SAME, ST_INVALID, "model id of 31" },
    { WIRE_ASSIGN, "4=32001", SAME, ST_INVALID, "vocabulary" },
    { WIRE_ASSIGN, "5=1048577", SAME, ST_INVALID, "vocabulary" },
    { WIRE_ASSIGN, "6=0", SAME, ST_INVALID, "n_ctx" },
    { WIRE_ASSIGN, "6=1048577", SAME, ST_INVALID, "n_ctx" },
    { WIRE_ASSIGN, "7=0", SAME, ST_INVALID, "n_seq_max" },
    { WIRE_ASSIGN, "9=4097", SAME, ST_INVALID, "rows_max" },
    { WIRE_ASSIGN, "10=4097", SAME, ST_INVALID, "outputs_max" },
    { WIRE_ASSIGN, "11=3", SAME, ST_INVALID, "KV type" },
    { WIRE_ASSIGN, "12=0", SAME, ST_INVALID, "n_steps" },
    { WIRE_ASSIGN, "13- 14- 15-", SAME, ST_INVALID, "number of layers" },
    { WIRE_ASSIGN, "13:0,1", SAME, ST_INVALID, "columns of layers" },
    { WIRE_ASSIGN, "14/0,0,0,0,0,0,0,0,0,0,0,0,0", SAME, ST_INVALID, "half" },
    { WIRE_ASSIGN, "13+342", SAME, ST_TOO_LARGE, "1026 layers" },
    { WIRE_ASSIGN, "13:0 14/0,0,0,0 15*255", SAME, ST_INVALID, "layers" },
    { WIRE_ASSIGN, "13- 14- 15*255", SAME, ST_INVALID, "half" },
    { WIRE_ASSIGN, "16+129", SAME, ST_TOO_LARGE, "258 peers" },
    { WIRE_ASSIGN, "16#18002220" ID, SAME, ST_INVALID, "port 0" },
    { WIRE_ASSIGN, "16#180512016122" "1f" "4041", SAME, ST_INVALID, "protobuf" },
    { WIRE_ASSIGN, "16#18052203404142", SAME, ST_INVALID, "peer's key of 3" },
    { WIRE_ASSIGN, "16#1805120361206222" "20" ID, SAME, ST_INVALID, "host" },
    { WIRE_ASSIGN, "16#18051202610a22" "20" ID, SAME, ST_INVALID, "host" },
    { WIRE_ASSIGN, "20-", SAME, ST_INVALID, "model header is missing" },
    { WIRE_ASSIGN, "21=5", SAME, ST_INVALID, "end of the frame" },
    { WIRE_ASSIGN, "20*16777216", SAME, ST_TOO_LARGE, "at most 16777216" },
    { WIRE_STEP, "3=3", SAME, ST_INVALID, "stage 3" },
    { WIRE_STEP, "6- 7- 8- 9-", SAME, ST_INVALID, "stage 1" },
    { WIRE_STEP, "6:1,2", SAME, ST_INVALID, "columns of stages" },
    { WIRE_STEP, "6+342 7+342 8+342 9+342", SAME, ST_TOO_LARGE, "1026 stages" },
    { WIRE_STEP, "7:1,0,8", SAME, ST_INVALID, "flags" },
    { WIRE_STEP, "7:1,1,2", SAME, ST_INVALID, "stage 1 of 3 embeds" },
    { WIRE_STEP, "7:1,2,2", SAME, ST_INVALID, "has the head" },
    { WIRE_STEP, "7:1,0,0", SAME, ST_INVALID, "no stage has the head" },
    { WIRE_STEP, "8:0,7,16", SAME, ST_INVALID, "layer 7 comes after layer 7" },
    { WIRE_STEP, "9:8,8,1024", SAME, ST_INVALID, "no range" },
    { WIRE_STEP, "9:8,8,4294967295", SAME, ST_INVALID, "out of range" },
    { WIRE_STEP, "8:0,8,4294967295", SAME, ST_INVALID, "out of range" },
    { WIRE_STEP, "4-", SAME, ST_INVALID, "width 0" },
    { WIRE_STEP, "4=65537", SAME, ST_INVALID, "width" },
    { WIRE_STEP, "3=0", SAME, ST_INVALID, "width 64" },
    { WIRE_STEP, "3=0 4-", SAME, ST_INVALID, "where 0 belong" },
    { WIRE_STEP, "", 1020, ST_INVALID, "where 1024 belong" },
    { WIRE_STEP, "", 1025, ST_INVALID, "where 1024 belong" },
    { WIRE_STEP, "", 0, ST_INVALID, "where 1024 belong" },
    { WIRE_STEP, "", (size_t)1 << 40, ST_TOO_LARGE, "tensor of 1099511627776" },
    { WIRE_STEP, "10/1", SAME, ST_INVALID, "columns of rows" },
    { WIRE_STEP, "11:0,100,200,0x80000000", SAME, ST_INVALID, "position" },
    { WIRE_STEP, "12:0,0,0,0x80000000", SAME, ST_INVALID, "row 3: token" },
    { WIRE_STEP, "13:0,0,0,1", SAME, ST_INVALID, "1 rows want" },
    { WIRE_STEP, "13:1,0,1,1", SAME, ST_INVALID, "3 rows want" },
    { WIRE_STEP, "10+1025 11+1025 12+1025 13+1025", SAME, ST_TOO_LARGE, "4100 rows" },
    { WIRE_STEP, "10- 11- 12- 13- 14- 15- 16- 17- 18- 19- 20- 21- 22- 23- 24- 25- 26- 27- 28- 29- 30-", 0, ST_INVALID, "neither" },
    { WIRE_STEP, "14~1", SAME, ST_INVALID, "columns of samples" },
    { WIRE_STEP, "14~0,1", SAME, ST_INVALID, "sampling" },
    { WIRE_STEP, "14~1,nan", SAME, ST_INVALID, "sample 1" },
    { WIRE_STEP, "14~1,inf", SAME, ST_INVALID, "sampling" },
    { WIRE_STEP, "17~-1,1", SAME, ST_INVALID, "sampling" },
    { WIRE_STEP, "18~nan,1", SAME, ST_INVALID, "sampling" },
    { WIRE_STEP, "19~1,-inf", SAME, ST_INVALID, "sampling" },
    { WIRE_STEP, "20:0,4", SAME, ST_INVALID, "unknown flags 4" },
    { WIRE_STEP, "21:0,3", SAME, ST_INVALID, "fewer recent" },
    { WIRE_STEP, "21:1,2", SAME, ST_INVALID, "fewer recent" },
    { WIRE_STEP, "21:0,1", SAME, ST_INVALID, "more recent" },
    { WIRE_STEP, "21:1,4294967295", SAME, ST_INVALID, "fewer recent" },
    { WIRE_STEP, "22:1,2", SAME, ST_INVALID, "fewer" },
    { WIRE_STEP, "21:0,514 23+257 24+257", SAME, ST_TOO_LARGE, "recent tokens" },
    { WIRE_STEP, "22:0,514 25+257 26+257", SAME, ST_TOO_LARGE, "adjustments" },
    { WIRE_STEP, "23:1,0x80000000", SAME, ST_INVALID, "token id" },
    { WIRE_STEP, "25:1,0x80000000", SAME, ST_INVALID, "token id" },
    { WIRE_STEP, "24:1", SAME, ST_INVALID, "columns of recent" },
    { WIRE_STEP, "26~1,inf", SAME, ST_INVALID, "sampling" },
    { WIRE_STEP, "26~nan,1", SAME, ST_INVALID, "sampling" },
    { WIRE_STEP, "27:0,1,3", SAME, ST_INVALID, "KV operation 3" },
    { WIRE_STEP, "28/1", SAME, ST_INVALID, "columns of KV" },
    { WIRE_STEP, "30:0,0,0x80000000", SAME, ST_INVALID, "KV operation" },
    { WIRE_STEP, "27+1366 28+1366 29+1366 30+1366", SAME, ST_TOO_LARGE, "4098 KV" },
    { WIRE_RESULT, "6:0", SAME, ST_INVALID, "columns of rows" },
    { WIRE_RESULT, "6:0,65", SAME, ST_TOO_LARGE, "65 candidates" },
    { WIRE_RESULT, "6:0,4", SAME, ST_INVALID, "fewer candidates" },
    { WIRE_RESULT, "6:0,2", SAME, ST_INVALID, "more candidates" },
    { WIRE_RESULT, "7~nan,1", SAME, ST_INVALID, "row 0" },
    { WIRE_RESULT, "7~1,-inf", SAME, ST_INVALID, "row 1" },
    { WIRE_RESULT, "8~inf,1", SAME, ST_INVALID, "row 0" },
    { WIRE_RESULT, "9:3,1", SAME, ST_INVALID, "row 0" },
    { WIRE_RESULT, "10*12 11~1,2,3", SAME, ST_INVALID, "row 1: candidates" },
    { WIRE_RESULT, "10#4600000046000000470000f0", SAME, ST_INVALID, "id is too" },
    { WIRE_RESULT, "11~2,2,2 10*12", SAME, ST_INVALID, "row 1: candidates" },
    { WIRE_RESULT, "11~inf,2,1", SAME, ST_INVALID, "row 1" },
    { WIRE_RESULT, "11~nan,2,1", SAME, ST_INVALID, "row 1" },
    { WIRE_RESULT, "11~3,nan,1", SAME, ST_INVALID, "row 1" },
    { WIRE_RESULT, "12~3,inf,1", SAME, ST_INVALID, "row 1" },
    { WIRE_RESULT, "12~3,1", SAME, ST_INVALID, "columns of candidates" },
    { WIRE_RESULT, "3=3", SAME, ST_INVALID, "whole rows 3" },
    { WIRE_RESULT, "3=2", SAME, ST_INVALID, "where 4096 belong" },
    { WIRE_RESULT, "3-", SAME, ST_INVALID, "where 0 belong" },
    { WIRE_RESULT, "4-", SAME, ST_INVALID, "n_vocab 0" },
    { WIRE_RESULT, "4=1048577", SAME, ST_INVALID, "n_vocab" },
    { WIRE_RESULT, "6*4097 7*16388 8*16388 9*4097", SAME, ST_TOO_LARGE, "4097 rows" },
    { WIRE_DISPATCH, "6- 7- 8-", SAME, ST_INVALID, "parts 0" },
    { WIRE_DISPATCH, "6:0", SAME, ST_INVALID, "columns of parts" },
    { WIRE_DISPATCH, "6:0,1024", SAME, ST_INVALID, "layer 1024" },
    { WIRE_DISPATCH, "7:0,256", SAME, ST_INVALID, "expert 256" },
    { WIRE_DISPATCH, "8:0,3", SAME, ST_INVALID, "rows of a part" },
    { WIRE_DISPATCH, "8:1,4097", SAME, ST_INVALID, "rows of a part" },
    { WIRE_DISPATCH, "8:1,1", SAME, ST_INVALID, "where 256 belong" },
    { WIRE_PARTIALS, "5=0", SAME, ST_INVALID, "width" },
    { WIRE_PARTIALS, "5=31", SAME, ST_INVALID, "where 372 belong" },
    { WIRE_PARTIALS, "6+129 7+129 8+129", SAME, ST_TOO_LARGE, "258 parts" },
    { WIRE_ECHO, "2=8388609", SAME, ST_INVALID, "reply" },
    { WIRE_ECHO, "", (256u << 20) + 1, ST_TOO_LARGE, "tensor" },
    { WIRE_CELLS_WANTED, "1*33", SAME, ST_INVALID, "model id of 33" },
    { WIRE_CELLS_WANTED, "3:0", SAME, ST_INVALID, "columns of cells" },
    { WIRE_CELLS_WANTED, "3- 4-", SAME, ST_INVALID, "cells 0" },
    { WIRE_CELLS_WANTED, "3*262145 4*262145", SAME, ST_TOO_LARGE, "262145 cells" },
    { WIRE_CELLS_WANTED, "5*96", SAME, ST_INVALID, "none belong" },
    { WIRE_MANIFEST, "5-", SAME, ST_INVALID, "hashes are missing" },
    { WIRE_MANIFEST, "5*95", SAME, ST_INVALID, "95 bytes of hashes" },
    { WIRE_MANIFEST, "2=1", SAME, ST_INVALID, "asks for nothing" },
    { WIRE_CELL, "4=12", SAME, ST_INVALID, "status 12" },
    { WIRE_CELL, "4=5", SAME, ST_INVALID, "where 0 belong" },
    { WIRE_CELL, "", 0, ST_INVALID, "bytes of a cell: 0" },
    { WIRE_CELL, "", (8u << 20) + 1, ST_INVALID, "bytes of a cell" },
    { WIRE_CELL, "1-", SAME, ST_INVALID, "model id" },
};
/* clang-format on */

static void refuse(const char *name, const struct buf *frame, size_t tensor,
                   enum status want, const char *word)
{
    struct wire_message m;
    struct error err = {.text = ""};
    const size_t before = mem_in_use();
    memset(&m, 0x5a, sizeof m);
    void *copy = mem_alloc(frame->len); /* a read past its end shows */
    assert_non_null(copy);
    if (frame->len > 0) memcpy(copy, frame->data, frame->len);
    const enum status st = wire_read(&m, copy, frame->len, NULL, tensor, &err);
    mem_free(copy);
    if (st != want || !strstr(err.text, word)) {
        fail_msg("%s: %s \"%s\", not %s with \"%s\"", name, status_name(st),
                 err.text, status_name(want), word);
    }
    assert_int_equal(m.kind, 0x5a5a5a5a);
    assert_int_equal(mem_in_use(), before);
}

static void test_malformed_fields(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct buf frame;
        size_t tensor = bad[i].tensor;
        char name[160];
        edited(&frame, bad[i].kind, bad[i].edits, &tensor);
        snprintf(name, sizeof name, "%s %s", wire_kind_name(bad[i].kind),
                 bad[i].edits);
        refuse(name, &frame, tensor, bad[i].status, bad[i].word);
        if (frame.len <= 2048) {
            const uint32_t size = (uint32_t)tensor;
            struct buf seed;
            buf_init(&seed, 4096);
            name[60] = '\0';
            assert_int_equal(buf_append(&seed, &size, sizeof size), ST_OK);
            assert_int_equal(buf_append(&seed, frame.data, frame.len), ST_OK);
            assert_true(corpus_seed(name, seed.data, seed.len));
            buf_fini(&seed);
        }
        buf_fini(&frame);
    }
}

/* The editor itself changes nothing where nothing is to be changed. */
static void test_unedited_messages_are_taken(void **state)
{
    (void)state;
    for (int k = 0; k < WIRE_KIND_END; k++) {
        struct wire_message m;
        struct buf frame;
        struct error err = {.text = ""};
        size_t tensor = SAME;
        edited(&frame, (enum wire_kind)k, "500-", &tensor);
        if (wire_read(&m, frame.data, frame.len, NULL, tensor, &err) != ST_OK) {
            fail_msg("%s", err.text);
        }
        wire_message_fini(&m);
        buf_fini(&frame);
    }
}

static void test_frames_that_are_no_envelope(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        enum status status;
        const char *word;
    } frames[] = {
        {"", ST_INVALID, "not a message"},
        {"0a", ST_INVALID, "not a message"},
        {"08", ST_INVALID, "not a message"},
        {"0801", ST_INVALID, "not a message"},
        {"09", ST_INVALID, "not a message"},
        {"80", ST_INVALID, "not a message"},
        {"8080808080808080808001", ST_INVALID, "not a message"},
        {"ffffffff7f00", ST_INVALID, "not a message"},
        {"0200", ST_UNSUPPORTED, "unknown kind 0"},
        {"6200", ST_UNSUPPORTED, "unknown kind 12"},
        {"fa0100", ST_UNSUPPORTED, "newer potluck"},
        {"5201", ST_INVALID, "says 1 bytes, but 0"},
        {"520100ff", ST_INVALID, "says 1 bytes, but 2"},
        {"52ffffffff0f", ST_INVALID, "says 4294967295 bytes"},
        {"52ffffffffff01", ST_INVALID, "not a message"},
        {"5204080152020801", ST_INVALID, "says 4 bytes, but 6"},
        {"520108", ST_INVALID, "protobuf"},
        {"5202080f0801", ST_INVALID, "says 2"},
        {"52020a05", ST_INVALID, "protobuf"},
        {"52020f01", ST_INVALID, "protobuf"},
        {"474554202f20485454502f312e310d0a", ST_INVALID, "not a message"},
    };
    for (size_t i = 0; i < COUNT_OF(frames); i++) {
        struct buf frame;
        const char *hex = frames[i].hex;
        buf_init(&frame, 64);
        put_hex(&frame, &hex);
        refuse(frames[i].hex, &frame, 0, frames[i].status, frames[i].word);
        buf_fini(&frame);
    }
}

/* Half a million unknown fields of two bytes would take 40 MB to unpack. */
static void test_unpacking_has_its_limit(void **state)
{
    (void)state;
    struct buf frame;
    const size_t n = LIMIT_HEADER_BYTES - 8;
    buf_init(&frame, LIMIT_HEADER_BYTES);
    put_varint(&frame, 10 << 3 | 2);
    put_varint(&frame, n);
    for (size_t i = 0; i < n; i += 2) {
        put_byte(&frame, 15 << 3);
        put_byte(&frame, 1);
    }
    refuse("unknown fields", &frame, 0, ST_TOO_LARGE, "far more memory");
    buf_fini(&frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed_fields),
        cmocka_unit_test(test_unedited_messages_are_taken),
        cmocka_unit_test(test_frames_that_are_no_envelope),
        cmocka_unit_test(test_unpacking_has_its_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

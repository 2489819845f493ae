/* fuzz_http.c - any bytes as the body of POST /v1/completions.
 *
 * What is accepted must be within every limit; its prompt, cut into pieces,
 * must come out of its stop strings as it does in one piece, and as JSON. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/api_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_VOCAB 1000

static void must(bool ok)
{
    if (!ok) abort();
}

/* The text through the stop strings, in pieces of n bytes. */
static void push(struct stops *s, const char *text, size_t bytes, size_t n,
                 struct buf *out)
{
    s->hit = false;
    s->held.len = 0;
    for (size_t at = 0; at < bytes; at += n) {
        const size_t piece = bytes - at < n ? bytes - at : n;
        must(stops_push(s, text + at, piece, out) == ST_OK);
    }
    must(stops_finish(s, out) == ST_OK);
}

static void try_text(struct api_request *r)
{
    struct buf whole, pieces, json;
    buf_init(&whole, SIZE_MAX / 2);
    buf_init(&pieces, SIZE_MAX / 2);
    buf_init(&json, SIZE_MAX / 2);
    push(&r->stops, r->text, r->text_bytes, r->text_bytes + 1, &whole);
    const bool hit = r->stops.hit;
    push(&r->stops, r->text, r->text_bytes, 1 + r->text_bytes % 5, &pieces);
    must(hit == r->stops.hit && whole.len == pieces.len);
    must(whole.len == 0 || memcmp(whole.data, pieces.data, whole.len) == 0);
    must(hit || whole.len == r->text_bytes);
    must(api_quote(&json, whole.data, whole.len) == ST_OK);
    json_t *value =
        json_loadb(json.data, json.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    must(json_is_string(value));
    /* it came out of JSON, so it is UTF-8; a stop string cuts no sequence */
    must(json_string_length(value) == whole.len);
    json_decref(value);
    buf_fini(&whole);
    buf_fini(&pieces);
    buf_fini(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t before = mem_in_use();
    struct api_request r;
    const char *param = NULL;
    struct error err = {.text = ""};
    const enum status st = api_request_parse(&r, (const char *)data, size,
                                             false, N_VOCAB, &param, &err);
    if (st != ST_OK) {
        must(err.status == st && err.text[0] != '\0');
    } else {
        must(r.max_tokens > 0 && (r.text || r.ids.n > 0));
        must(sample_check(&r.sample, NULL) == ST_OK);
        must(!r.return_logits || r.stream);
        for (size_t i = 0; i < r.ids.n; i++)
            must(r.ids.id[i] >= 0 && r.ids.id[i] < N_VOCAB);
        for (uint32_t i = 0; i < r.sample.n_bias; i++)
            must(r.bias[i].id >= 0 && r.bias[i].id < N_VOCAB);
        if (r.text) try_text(&r);
        api_request_fini(&r);
    }
    struct buf any;
    buf_init(&any, SIZE_MAX / 2);
    must(api_quote(&any, (const char *)data, size) == ST_OK);
    must(api_base64(&any, data, size) == ST_OK);
    buf_fini(&any);
    must(mem_in_use() == before);
    return 0;
}

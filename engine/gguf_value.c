/* gguf_value.c - typed access to the values of keys.
 *
 * gguf_parse has checked that every value lies in the header; what is left to
 * check here is its type and whether a number fits. */
#include "engine/gguf_internal.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t n_bytes;
} types[GGUF_TYPE_END] = {
    [GGUF_U8] = {"u8", 1},         [GGUF_I8] = {"i8", 1},
    [GGUF_U16] = {"u16", 2},       [GGUF_I16] = {"i16", 2},
    [GGUF_U32] = {"u32", 4},       [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},       [GGUF_BOOL] = {"bool", 1},
    [GGUF_STRING] = {"string", 0}, [GGUF_ARRAY] = {"array", 0},
    [GGUF_U64] = {"u64", 8},       [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

size_t gguf_type_bytes(enum gguf_type type)
{
    return types[type].n_bytes;
}

const char *gguf_type_name(enum gguf_type type)
{
    return types[type].name;
}

struct gguf_quoted gguf_quote(const char *s, size_t n)
{
    struct gguf_quoted q;
    const size_t room = sizeof q.text - sizeof "\"...\"";
    const size_t kept = n < room ? n : room;
    size_t at = 0;
    q.text[at++] = '"';
    for (size_t i = 0; i < kept; i++) {
        const bool printable = s[i] >= 0x20 && s[i] < 0x7f;
        q.text[at++] = printable ? s[i] : '?';
    }
    const char *tail = kept < n ? "...\"" : "\"";
    memcpy(q.text + at, tail, strlen(tail) + 1);
    return q;
}

/* The integer at p; false if type is none.  A u64 above INT64_MAX becomes
 * INT64_MAX: what callers accept is far smaller. */
static bool integer_at(const uint8_t *p, enum gguf_type type, int64_t *out)
{
    uint64_t bits = 0;
    memcpy(&bits, p, types[type].n_bytes);
    switch (type) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
        *out = (int64_t)bits;
        return true;
    case GGUF_U64:
        *out = bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
        return true;
    case GGUF_I8:
        *out = (int8_t)bits;
        return true;
    case GGUF_I16:
        *out = (int16_t)bits;
        return true;
    case GGUF_I32:
        *out = (int32_t)bits;
        return true;
    case GGUF_I64:
        *out = (int64_t)bits;
        return true;
    case GGUF_F32:
    case GGUF_BOOL:
    case GGUF_STRING:
    case GGUF_ARRAY:
    case GGUF_F64:
    case GGUF_TYPE_END:
        break;
    }
    return false;
}

enum fit { FIT, FIT_TYPE, FIT_RANGE }; /* or what is wrong */

static enum fit i32_at(const uint8_t *p, enum gguf_type type, int32_t *out)
{
    int64_t v;
    if (!integer_at(p, type, &v)) return FIT_TYPE;
    if (v < INT32_MIN || v > INT32_MAX) return FIT_RANGE;
    *out = (int32_t)v;
    return FIT;
}

static enum fit u32_at(const uint8_t *p, enum gguf_type type, uint32_t *out)
{
    int64_t v;
    if (!integer_at(p, type, &v)) return FIT_TYPE;
    if (v < 0 || v > UINT32_MAX) return FIT_RANGE;
    *out = (uint32_t)v;
    return FIT;
}

/* Infinities and NaN pass; a finite f64 that is none as f32 does not. */
static enum fit f32_at(const uint8_t *p, enum gguf_type type, float *out)
{
    if (type == GGUF_F32) {
        memcpy(out, p, sizeof *out);
        return FIT;
    }
    if (type != GGUF_F64) return FIT_TYPE;
    double v;
    memcpy(&v, p, sizeof v);
    if (isfinite(v) && fabs(v) > (double)FLT_MAX) return FIT_RANGE;
    *out = (float)v;
    return FIT;
}

static enum status find(const struct gguf *g, const char *key,
                        const struct gguf_kv **out, struct error *err)
{
    *out = gguf_find_key(g, key);
    if (*out) return ST_OK;
    return error_set(err, ST_NOT_FOUND, "%s: there is no key \"%s\"",
                     g->files[0].name, key);
}

static enum status fail_type(const struct gguf *g, const struct gguf_kv *kv,
                             const char *key, const char *want,
                             struct error *err)
{
    const bool is_array = kv->type == GGUF_ARRAY;
    return error_set(err, ST_INVALID,
                     "%s: key \"%s\" is of type %s%s, not %s (byte %u)",
                     g->files[0].name, key, is_array ? "array of " : "",
                     gguf_type_name(is_array ? kv->array.type : kv->type), want,
                     kv->value_at);
}

static enum status fail_fit(enum fit fit, const struct gguf *g,
                            const struct gguf_kv *kv, const char *key,
                            const char *want, struct error *err)
{
    if (fit == FIT) return ST_OK;
    if (fit == FIT_TYPE) return fail_type(g, kv, key, want, err);
    return error_set(err, ST_INVALID,
                     "%s: key \"%s\": the value does not fit %s (byte %u)",
                     g->files[0].name, key, want, kv->value_at);
}

enum status gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out,
                         struct error *err)
{
    const struct gguf_kv *kv;
    const enum status st = find(g, key, &kv, err);
    if (st != ST_OK) return st;
    const enum fit fit = u32_at(g->header + kv->value_at, kv->type, out);
    return fail_fit(fit, g, kv, key, "an unsigned 32-bit integer", err);
}

enum status gguf_get_f32(const struct gguf *g, const char *key, float *out,
                         struct error *err)
{
    const struct gguf_kv *kv;
    const enum status st = find(g, key, &kv, err);
    if (st != ST_OK) return st;
    const enum fit fit = f32_at(g->header + kv->value_at, kv->type, out);
    return fail_fit(fit, g, kv, key, "a 32-bit float", err);
}

enum status gguf_get_bool(const struct gguf *g, const char *key, bool *out,
                          struct error *err)
{
    const struct gguf_kv *kv;
    const enum status st = find(g, key, &kv, err);
    if (st != ST_OK) return st;
    if (kv->type != GGUF_BOOL) return fail_type(g, kv, key, "a bool", err);
    *out = g->header[kv->value_at] != 0;
    return ST_OK;
}

/* A u64 length and that many bytes. */
static struct gguf_str string_at(const uint8_t *p)
{
    uint64_t len;
    memcpy(&len, p, sizeof len);
    return (struct gguf_str){(const char *)p + sizeof len, (size_t)len};
}

enum status gguf_get_str(const struct gguf *g, const char *key,
                         struct gguf_str *out, struct error *err)
{
    const struct gguf_kv *kv;
    const enum status st = find(g, key, &kv, err);
    if (st != ST_OK) return st;
    if (kv->type != GGUF_STRING) return fail_type(g, kv, key, "a string", err);
    *out = string_at(g->header + kv->value_at);
    return ST_OK;
}

static uint32_t string_end(const struct gguf *g, uint32_t at)
{
    return (uint32_t)(at + sizeof(uint64_t) + string_at(g->header + at).len);
}

uint32_t gguf_kv_start(const struct gguf_kv *kv)
{
    return kv->key_at - (uint32_t)sizeof(uint64_t);
}

uint32_t gguf_kv_end(const struct gguf *g, const struct gguf_kv *kv)
{
    const struct gguf_array *a = &kv->array;
    if (kv->type == GGUF_STRING) return string_end(g, kv->value_at);
    if (kv->type != GGUF_ARRAY) {
        return kv->value_at + (uint32_t)types[kv->type].n_bytes;
    }
    if (a->type == GGUF_STRING) {
        return a->len == 0 ? a->at : string_end(g, a->string_at[a->len - 1]);
    }
    return (uint32_t)(a->at + a->len * types[a->type].n_bytes);
}

static const uint8_t *element_at(const struct gguf_array *a, uint64_t i)
{
    return a->header + a->at + i * types[a->type].n_bytes;
}

static bool is_integer(enum gguf_type type)
{
    int64_t v;
    static const uint8_t zero[8];
    return integer_at(zero, type, &v);
}

/* Does every element fit `want`? */
static enum fit array_fits(const struct gguf_array *a, enum gguf_type want)
{
    int32_t n;
    float f;
    if (want == a->type || want == GGUF_TYPE_END) return FIT;
    const bool to_i32 = want == GGUF_I32 && is_integer(a->type);
    const bool to_f32 = want == GGUF_F32 && a->type == GGUF_F64;
    if (!to_i32 && !to_f32) return FIT_TYPE;
    enum fit fit = FIT;
    for (uint64_t i = 0; i < a->len && fit == FIT; i++) {
        const uint8_t *p = element_at(a, i);
        fit = to_i32 ? i32_at(p, a->type, &n) : f32_at(p, a->type, &f);
    }
    return fit;
}

enum status gguf_get_array(const struct gguf *g, const char *key,
                           enum gguf_type want, const struct gguf_array **out,
                           struct error *err)
{
    const struct gguf_kv *kv;
    const enum status st = find(g, key, &kv, err);
    if (st != ST_OK) return st;
    const bool any = want == GGUF_TYPE_END;
    char text[32];
    snprintf(text, sizeof text, "an array%s%s", any ? "" : " of ",
             any ? "" : gguf_type_name(want));
    if (kv->type != GGUF_ARRAY) return fail_type(g, kv, key, text, err);
    const enum fit fit = array_fits(&kv->array, want);
    if (fit != FIT) return fail_fit(fit, g, kv, key, text, err);
    *out = &kv->array;
    return ST_OK;
}

enum gguf_type gguf_array_type(const struct gguf_array *a)
{
    return a->type;
}

uint64_t gguf_array_len(const struct gguf_array *a)
{
    return a->len;
}

struct gguf_str gguf_array_str(const struct gguf_array *a, uint64_t i)
{
    assert(a->type == GGUF_STRING && i < a->len);
    return string_at(a->header + a->string_at[i]);
}

float gguf_array_f32(const struct gguf_array *a, uint64_t i)
{
    assert((a->type == GGUF_F32 || a->type == GGUF_F64) && i < a->len);
    const uint8_t *p = element_at(a, i);
    float v;
    if (f32_at(p, a->type, &v) == FIT) return v;
    double wide;
    memcpy(&wide, p, sizeof wide);
    return wide < 0 ? -INFINITY : INFINITY;
}

int32_t gguf_array_i32(const struct gguf_array *a, uint64_t i)
{
    assert((a->type == GGUF_BOOL || is_integer(a->type)) && i < a->len);
    const uint8_t *p = element_at(a, i);
    int64_t v = *p; /* a bool */
    if (a->type != GGUF_BOOL) (void)integer_at(p, a->type, &v);
    if (v > INT32_MAX) return INT32_MAX;
    return v < INT32_MIN ? INT32_MIN : (int32_t)v;
}

/* wire.c - the envelope: which kind, how large, how much memory; and the
 * small readers and writers of fields.
 *
 * The envelope's single field is read by hand: its number gives the kind, and
 * with it the limit, before protobuf-c sees a byte.  protobuf-c then unpacks
 * the body with memory in proportion to its length, because it allocates for
 * every member and every unknown field it meets. */
#include "proto/wire.h"

#include <string.h>

#include "common/bytes.h"
#include "common/utf8.h"
#include "proto/wire_internal.h"

static const struct wire_codec codecs[WIRE_KIND_END] = {
    [WIRE_HELLO] = {"Hello", 16, LIMIT_HELLO_BYTES, &potluck__hello__descriptor,
                    wire_get_hello, wire_put_hello},
    [WIRE_REPORT] = {"Report", 20, LIMIT_HEADER_BYTES,
                     &potluck__report__descriptor, wire_get_report,
                     wire_put_report},
    [WIRE_PROGRESS] = {"Progress", 11, LIMIT_HEADER_BYTES,
                       &potluck__progress__descriptor, wire_get_progress,
                       wire_put_progress},
    [WIRE_READY] = {"Ready", 22, LIMIT_HEADER_BYTES,
                    &potluck__ready__descriptor, wire_get_ready,
                    wire_put_ready},
    [WIRE_FAILURE] = {"Failure", 23, LIMIT_HEADER_BYTES,
                      &potluck__failure__descriptor, wire_get_failure,
                      wire_put_failure},
    [WIRE_BYE] = {"Bye", 25, LIMIT_HEADER_BYTES, &potluck__nothing__descriptor,
                  wire_get_nothing, wire_put_nothing},
    [WIRE_DRAIN] = {"Drain", 24, LIMIT_HEADER_BYTES,
                    &potluck__nothing__descriptor, wire_get_nothing,
                    wire_put_nothing},
    [WIRE_WELCOME] = {"Welcome", 17, LIMIT_HEADER_BYTES,
                      &potluck__welcome__descriptor, wire_get_welcome,
                      wire_put_welcome},
    [WIRE_REFUSE] = {"Refuse", 18, LIMIT_HEADER_BYTES,
                     &potluck__failure__descriptor, wire_get_failure,
                     wire_put_failure},
    [WIRE_PROBE] = {"Probe", 19, LIMIT_HEADER_BYTES,
                    &potluck__probe__descriptor, wire_get_probe,
                    wire_put_probe},
    [WIRE_ASSIGN] = {"Assign", 21, LIMIT_ASSIGN_BYTES,
                     &potluck__assign__descriptor, wire_get_assign,
                     wire_put_assign},
    [WIRE_HEARTBEAT] = {"Heartbeat", 10, LIMIT_HEADER_BYTES,
                        &potluck__heartbeat__descriptor, wire_get_heartbeat,
                        wire_put_heartbeat},
    [WIRE_STEP] = {"Step", 1, LIMIT_HEADER_BYTES, &potluck__step__descriptor,
                   wire_get_step, wire_put_step},
    [WIRE_RESULT] = {"Result", 2, LIMIT_RESULT_BYTES,
                     &potluck__result__descriptor, wire_get_result,
                     wire_put_result},
    [WIRE_DISPATCH] = {"Dispatch", 3, LIMIT_HEADER_BYTES,
                       &potluck__exchange__descriptor, wire_get_exchange,
                       wire_put_exchange},
    [WIRE_PARTIALS] = {"Partials", 4, LIMIT_HEADER_BYTES,
                       &potluck__exchange__descriptor, wire_get_exchange,
                       wire_put_exchange},
    [WIRE_STEP_FAILED] = {"StepFailed", 5, LIMIT_HEADER_BYTES,
                          &potluck__failure__descriptor, wire_get_failure,
                          wire_put_failure},
    [WIRE_ECHO] = {"Echo", 6, LIMIT_HEADER_BYTES, &potluck__echo__descriptor,
                   wire_get_echo, wire_put_echo},
    [WIRE_CELLS_WANTED] = {"CellsWanted", 7, LIMIT_HEADER_BYTES,
                           &potluck__cells__descriptor, wire_get_cells,
                           wire_put_cells},
    [WIRE_CELL] = {"Cell", 8, LIMIT_HEADER_BYTES, &potluck__cell__descriptor,
                   wire_get_cell, wire_put_cell},
    [WIRE_MANIFEST] = {"Manifest", 9, LIMIT_ASSIGN_BYTES,
                       &potluck__cells__descriptor, wire_get_cells,
                       wire_put_cells},
};

const char *wire_kind_name(enum wire_kind kind)
{
    return (unsigned)kind < WIRE_KIND_END ? codecs[kind].name : "unknown";
}

/* ------------------------------------------------------------- memory */

/* Columns of numbers take up to eight bytes for one on the wire, a peer of
 * an Assign some six for one; what takes more is made to. */
#define UNPACK_BASE   ((size_t)64 << 10)
#define UNPACK_FACTOR 8

struct allowance {
    size_t left;
    bool spent, no_memory;
};

static void *allowance_alloc(void *arg, size_t n)
{
    struct allowance *a = arg;
    if (a->left < MEM_ALIGN || n > a->left - MEM_ALIGN) {
        a->spent = true;
        return NULL;
    }
    void *p = mem_alloc(n);
    if (p) {
        a->left -= n + MEM_ALIGN;
    } else {
        a->no_memory = true;
    }
    return p;
}

static void allowance_free(void *arg, void *p)
{
    (void)arg;
    mem_free(p);
}

enum status wire_no_memory(struct error *err)
{
    return error_set(err, ST_NO_MEMORY, "no memory for a message");
}

void *wire_array(size_t n, size_t item_bytes, bool *ok)
{
    if (n == 0) return NULL;
    void *p = mem_zalloc_array(n, item_bytes);
    if (!p) *ok = false;
    return p;
}

/* ------------------------------------------------------------- fields */

enum status wire_count(const char *what, size_t n, size_t max,
                       struct error *err)
{
    if (n <= max) return ST_OK;
    return error_set(err, ST_TOO_LARGE, "%zu %s: at most %zu are taken", n,
                     what, max);
}

enum status wire_columns(const char *what, const size_t *n, size_t k,
                         struct error *err)
{
    for (size_t i = 1; i < k; i++) {
        if (n[i] != n[0]) {
            return error_set(err, ST_INVALID,
                             "columns of %s of different lengths, %zu and %zu",
                             what, n[0], n[i]);
        }
    }
    return ST_OK;
}

/* Bytes of the character that starts here, 0 if a text must not have it: not
 * UTF-8, or a control character (C0, DEL, C1), which a terminal would obey. */
static size_t plain_character(const uint8_t *p, size_t n)
{
    const int len = utf8_sequence(p, n);
    if (len <= 0 || p[0] < 0x20 || p[0] == 0x7f) return 0;
    if (p[0] == 0xc2 && p[1] < 0xa0) return 0;
    return (size_t)len;
}

enum status wire_get_text(char *to, size_t max, const char *what,
                          ProtobufCBinaryData b, struct error *err)
{
    if (b.len > max) {
        return error_set(err, ST_TOO_LARGE, "%s of %zu bytes: at most %zu",
                         what, b.len, max);
    }
    for (size_t i = 0; i < b.len;) {
        const size_t len = plain_character(b.data + i, b.len - i);
        if (len == 0) {
            return error_set(err, ST_INVALID,
                             "%s is not plain UTF-8 text at byte %zu", what, i);
        }
        i += len;
    }
    if (b.len > 0) memcpy(to, b.data, b.len);
    return ST_OK;
}

enum status wire_get_key(uint8_t to[KEY_BYTES], const char *what,
                         ProtobufCBinaryData b, struct error *err)
{
    if (b.len != KEY_BYTES) {
        return error_set(err, ST_INVALID, "%s of %zu bytes, not %d", what,
                         b.len, KEY_BYTES);
    }
    memcpy(to, b.data, KEY_BYTES);
    return ST_OK;
}

/* ------------------------------------------------------------ reading */

/* A varint of at most 32 bits. */
static bool take_varint(struct reader *r, uint32_t *out)
{
    uint64_t v = 0;
    uint8_t byte;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        if (!reader_u8(r, &byte)) return false;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            if (v > UINT32_MAX) return false;
            *out = (uint32_t)v;
            return true;
        }
    }
    return false;
}

/* The kind, and r at its body, which is the rest of the frame. */
static enum status open_envelope(struct reader *r, enum wire_kind *kind,
                                 struct error *err)
{
    uint32_t tag, length;
    if (!take_varint(r, &tag) || (tag & 7) != 2 || !take_varint(r, &length)) {
        return error_set(err, ST_INVALID, "not a message of potluck's");
    }
    uint32_t k = 0;
    while (k < WIRE_KIND_END && codecs[k].field != tag >> 3) k++;
    if (k == WIRE_KIND_END) {
        return error_set(err, ST_UNSUPPORTED,
                         "a message of unknown kind %u: does the sender run a "
                         "newer potluck?",
                         tag >> 3);
    }
    if (r->len > codecs[k].header_max) {
        return error_set(err, ST_TOO_LARGE,
                         "%s of %zu bytes: at most %zu are taken",
                         codecs[k].name, r->len, codecs[k].header_max);
    }
    if (length != r->len - r->pos) {
        return error_set(err, ST_INVALID, "%s says %u bytes, but %zu are there",
                         codecs[k].name, length, r->len - r->pos);
    }
    *kind = (enum wire_kind)k;
    return ST_OK;
}

static enum status read_body(struct wire_message *m, struct reader r,
                             size_t tensor_bytes, struct error *err)
{
    const struct wire_codec *codec = &codecs[m->kind];
    struct allowance allowance = {.left = UNPACK_BASE + r.len * UNPACK_FACTOR};
    ProtobufCAllocator allocator = {allowance_alloc, allowance_free,
                                    &allowance};
    ProtobufCMessage *in = protobuf_c_message_unpack(
        codec->type, &allocator, r.len - r.pos, r.base + r.pos);
    if (!in) {
        if (allowance.no_memory) return wire_no_memory(err);
        if (allowance.spent) {
            return error_set(err, ST_TOO_LARGE,
                             "%zu bytes that would take far more memory",
                             r.len);
        }
        return error_set(err, ST_INVALID, "not a whole protobuf message");
    }
    const struct wire_frame header = {r.base, r.len};
    enum status st = codec->get(m, in, header, err);
    if (st == ST_OK) st = wire_check(m, err);
    if (st == ST_OK) st = wire_check_tensor(m, tensor_bytes, err);
    protobuf_c_message_free_unpacked(in, &allocator);
    return st;
}

enum status wire_read(struct wire_message *out, const void *header,
                      size_t header_bytes, const void *tensor,
                      size_t tensor_bytes, struct error *err)
{
    (void)tensor; /* only its size is anything to us */
    struct reader r = {.base = header, .len = header_bytes};
    struct wire_message m;
    memset(&m, 0, sizeof m);
    enum status st = open_envelope(&r, &m.kind, err);
    if (st != ST_OK) return st;
    st = read_body(&m, r, tensor_bytes, err);
    if (st != ST_OK) {
        wire_message_fini(&m);
        return error_prefix(err, st, "%s", codecs[m.kind].name);
    }
    *out = m;
    return ST_OK;
}

static void step_fini(struct wire_step *s)
{
    for (uint32_t i = 0; s->samples && i < s->n_want; i++) {
        mem_free(s->samples[i].recent);
        mem_free(s->samples[i].adjust);
    }
    mem_free(s->samples);
    mem_free(s->stages);
    mem_free(s->ops);
    mem_free(s->rows);
    *s = (struct wire_step){0};
}

static void assign_fini(struct wire_assign *a)
{
    mem_free(a->blocks);
    mem_free(a->experts);
    mem_free(a->expert_node);
    mem_free(a->peers);
    *a = (struct wire_assign){0};
}

void wire_message_fini(struct wire_message *m)
{
    const enum wire_kind kind = m->kind;
    if (kind == WIRE_STEP) {
        step_fini(&m->step);
    } else if (kind == WIRE_ASSIGN) {
        assign_fini(&m->assign);
    } else if (kind == WIRE_RESULT) {
        mem_free(m->result.rows);
        m->result = (struct wire_result){0};
    } else if (kind == WIRE_DISPATCH || kind == WIRE_PARTIALS) {
        mem_free(m->exchange.parts);
        m->exchange = (struct wire_exchange){0};
    } else if (kind == WIRE_CELLS_WANTED || kind == WIRE_MANIFEST) {
        mem_free(m->cells.ids);
        mem_free(m->cells.hashes);
        m->cells = (struct wire_cells){0};
    }
}

/* ------------------------------------------------------------ writing */

void *wire_sink_array(struct wire_sink *k, size_t n, size_t item_bytes)
{
    if (n == 0) return NULL;
    void *p =
        k->n_blocks < SINK_BLOCKS ? mem_zalloc_array(n, item_bytes) : NULL;
    if (p) {
        k->block[k->n_blocks++] = p;
    } else {
        k->failed = true;
    }
    return p;
}

ProtobufCBinaryData wire_sink_text(struct wire_sink *k, const char *s,
                                   size_t max)
{
    const size_t n = strnlen(s, max);
    uint8_t *to = wire_sink_array(k, n, 1);
    if (!to) return (ProtobufCBinaryData){0, NULL};
    memcpy(to, s, n);
    for (size_t i = 0; i < n;) {
        const size_t len = plain_character(to + i, n - i);
        if (len == 0) to[i] = '?';
        i += len == 0 ? 1 : len;
    }
    return (ProtobufCBinaryData){n, to};
}

ProtobufCBinaryData wire_bytes(const void *data, size_t n)
{
    /* packing only reads; the generated type knows no const */
    return (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)data};
}

static uint8_t *put_varint(uint8_t *p, size_t v)
{
    for (; v >= 0x80; v >>= 7) *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

enum status wire_pack(struct wire_sink *k, const ProtobufCMessage *p,
                      struct error *err)
{
    if (k->failed) return wire_no_memory(err);
    const size_t body = protobuf_c_message_get_packed_size(p);
    uint8_t lead[16];
    uint8_t *end = put_varint(lead, k->codec->field << 3 | 2);
    end = put_varint(end, body);
    const size_t n_lead = (size_t)(end - lead);
    if (body > k->codec->header_max - n_lead) {
        return error_set(err, ST_TOO_LARGE, "%zu bytes: at most %zu are taken",
                         body + n_lead, k->codec->header_max);
    }
    char *to;
    const enum status st = buf_reserve(k->out, n_lead + body, &to);
    if (st == ST_NO_MEMORY) return wire_no_memory(err);
    if (st != ST_OK) {
        return error_set(err, st, "%zu bytes are over the buffer's %zu",
                         body + n_lead, k->out->max);
    }
    memcpy(to, lead, n_lead);
    protobuf_c_message_pack(p, (uint8_t *)to + n_lead);
    k->out->len += n_lead + body;
    k->out->data[k->out->len] = '\0';
    return ST_OK;
}

enum status wire_write(struct buf *out, const struct wire_message *m,
                       struct error *err)
{
    if ((unsigned)m->kind >= WIRE_KIND_END) {
        return error_set(err, ST_UNSUPPORTED, "a message of unknown kind %u",
                         (unsigned)m->kind);
    }
    struct wire_sink sink = {.out = out, .codec = &codecs[m->kind]};
    enum status st = wire_check(m, err);
    if (st == ST_OK) st = sink.codec->put(&sink, m, err);
    while (sink.n_blocks > 0) mem_free(sink.block[--sink.n_blocks]);
    if (st != ST_OK) return error_prefix(err, st, "%s", sink.codec->name);
    return ST_OK;
}

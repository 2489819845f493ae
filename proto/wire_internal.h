/* wire_internal.h - what the files of the wire share: generated types, the
 * table of kinds, and small readers and writers of fields.
 *
 * Depends on: wire.h, protobuf-c.  Thread: any; no state. */
#ifndef PROTO_WIRE_INTERNAL_H
#define PROTO_WIRE_INTERNAL_H

#include "proto/potluck.pb-c.h"
#include "proto/wire.h"

enum { STAGE_EMBED = 1, STAGE_HEAD = 2, STAGE_AGAIN = 4 };
enum { SAMPLE_PLAIN = 1, SAMPLE_WHOLE_ROW = 2 };

#define EXPERT_WORDS (MODEL_EXPERTS_MAX / 64) /* of a layer's bit set */

/* ----------------------------------------------------------- checking */

/* Everything that holds for a message by itself, whoever made it; readers
 * and writers share it, so that nobody sends what nobody would take. */
NODISCARD enum status wire_check(const struct wire_message *m,
                                 struct error *err);
/* And what the tensor frame beside it must be. */
NODISCARD enum status wire_check_tensor(const struct wire_message *m,
                                        size_t tensor_bytes, struct error *err);

/* ------------------------------------------------------------ reading */

struct wire_frame {
    const uint8_t *data;
    size_t bytes;
};

/* ST_TOO_LARGE if n > max. */
NODISCARD enum status wire_count(const char *what, size_t n, size_t max,
                                 struct error *err);
/* The k columns of one list must be of one length. */
NODISCARD enum status wire_columns(const char *what, const size_t *n, size_t k,
                                   struct error *err);
/* Well-formed UTF-8 of at most max bytes without control characters, to
 * to[max + 1] (zeroed). */
NODISCARD enum status wire_get_text(char *to, size_t max, const char *what,
                                    ProtobufCBinaryData b, struct error *err);
NODISCARD enum status wire_get_key(uint8_t to[KEY_BYTES], const char *what,
                                   ProtobufCBinaryData b, struct error *err);
/* Zeroed; NULL if n is 0; *ok becomes false without memory. */
NODISCARD void *wire_array(size_t n, size_t item_bytes, bool *ok);
NODISCARD enum status wire_no_memory(struct error *err);

/* ------------------------------------------------------------ writing */

#define SINK_BLOCKS 32 /* a Step has 25 columns */

/* Where a message goes, and the columns it is made of meanwhile. */
struct wire_sink {
    struct buf *out;
    const struct wire_codec *codec;
    void *block[SINK_BLOCKS];
    uint32_t n_blocks;
    bool failed; /* no memory for one of them */
};

/* n items that live until the message is written; NULL if n is 0 or memory
 * is short (then failed, which the writer must look at before it fills). */
NODISCARD void *wire_sink_array(struct wire_sink *k, size_t n,
                                size_t item_bytes);
#define COLUMN(sink, message, column, n)                                       \
    ((message)->n_##column = (n), (message)->column = wire_sink_array(         \
                                      (sink), (n), sizeof *(message)->column))

/* At most max bytes of s, NUL-terminated; what a reader would refuse becomes
 * '?', so that a text never keeps a message from being sent. */
ProtobufCBinaryData wire_sink_text(struct wire_sink *k, const char *s,
                                   size_t max);
/* Borrowed. */
ProtobufCBinaryData wire_bytes(const void *data, size_t n);
/* The envelope around p, appended to the sink's buffer. */
NODISCARD enum status wire_pack(struct wire_sink *k, const ProtobufCMessage *p,
                                struct error *err);

/* -------------------------------------------------------------- kinds */

/* From the generated type of the codec.  header: the whole frame.  out: kind
 * is set, the rest zero; what it owns after an error wire_message_fini
 * frees.  Counts are checked here, the rest by wire_check afterwards. */
typedef enum status wire_get_fn(struct wire_message *out,
                                const ProtobufCMessage *in,
                                struct wire_frame header, struct error *err);
/* Ends in wire_pack. */
typedef enum status wire_put_fn(struct wire_sink *k,
                                const struct wire_message *m,
                                struct error *err);

struct wire_codec {
    const char *name;
    uint32_t field; /* of the Envelope */
    size_t header_max;
    const ProtobufCMessageDescriptor *type;
    wire_get_fn *get;
    wire_put_fn *put;
};

/* wire_control.c */
wire_get_fn wire_get_nothing, wire_get_hello, wire_get_welcome, wire_get_probe,
    wire_get_report, wire_get_assign, wire_get_heartbeat, wire_get_progress,
    wire_get_ready, wire_get_failure;
wire_put_fn wire_put_nothing, wire_put_hello, wire_put_welcome, wire_put_probe,
    wire_put_report, wire_put_assign, wire_put_heartbeat, wire_put_progress,
    wire_put_ready, wire_put_failure;
/* wire_step.c */
wire_get_fn wire_get_step, wire_get_result;
wire_put_fn wire_put_step, wire_put_result;
/* wire_data.c */
wire_get_fn wire_get_exchange, wire_get_echo, wire_get_cells, wire_get_cell;
wire_put_fn wire_put_exchange, wire_put_echo, wire_put_cells, wire_put_cell;

#endif

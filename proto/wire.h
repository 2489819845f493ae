/* wire.h - messages: frames to checked structs and back.
 *
 * Depends on: common, limits, engine/head.h and engine/step.h (types only).
 * Thread: any; no state.
 *
 * A message is one header frame (protobuf, proto/potluck.proto) and, where
 * said, one tensor frame of raw little-endian numbers.  Reading never trusts:
 * each length and count meets limits.h before memory is taken, numbers are
 * checked against each other and against the tensor frame's size, and what
 * is returned is our own struct, whole or not at all.  Generated types stay
 * in wire*.c.  docs/PROTOCOL.md is the normative text. */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include "common/buf.h"
#include "engine/head.h"
#include "engine/step.h"
#include "proto/limits.h"

enum wire_kind {
    /* control: worker -> coordinator */
    WIRE_HELLO,
    WIRE_REPORT,
    WIRE_PROGRESS,
    WIRE_READY,
    WIRE_FAILURE,
    WIRE_BYE,
    WIRE_DRAIN,
    /* control: coordinator -> worker */
    WIRE_WELCOME,
    WIRE_REFUSE,
    WIRE_PROBE,
    WIRE_ASSIGN,
    /* control: both ways */
    WIRE_HEARTBEAT,
    /* data */
    WIRE_STEP,     /* + tensor [n_rows][width], unless the receiver embeds */
    WIRE_RESULT,   /* + tensor: whole rows of logits, where asked for */
    WIRE_DISPATCH, /* + tensor [sum of n_rows][width] */
    WIRE_PARTIALS, /* + tensor, the same shape */
    WIRE_STEP_FAILED,
    WIRE_ECHO, /* link probe; + tensor of any size */
    /* bulk */
    WIRE_CELLS_WANTED, /* worker -> coordinator */
    WIRE_CELL,         /* + tensor: the cell's bytes */
    WIRE_MANIFEST,     /* coordinator -> worker: hashes of cells */
    WIRE_KIND_END
};

struct wire_hello {
    uint32_t protocol_min, protocol_max;
    uint32_t numerics_version;
    uint64_t boot_id; /* of this process */
    char name[LIMIT_NAME + 1];
    char build[LIMIT_NAME + 1];
    char cpu[LIMIT_NAME + 1];
    char isa[LIMIT_NAME + 1];
    char token[LIMIT_NAME + 1]; /* only to enrol; "" else */
    uint32_t n_threads;
    uint64_t memory_bytes; /* that it offers */
    uint32_t data_port;
};

struct wire_welcome {
    uint32_t protocol;
    uint64_t coordinator_boot;
    uint32_t node; /* its number in this coordinator's boot */
    uint32_t heartbeat_ms, lease_ms;
    uint32_t data_port, bulk_port; /* of the coordinator */
};

/* Which weight types to measure, enum quant_type; none: all that there are. */
struct wire_probe {
    uint32_t n_types;
    uint32_t types[LIMIT_RATES];
};

/* A rate measured by our own kernels: bytes of weights a second at batch 1,
 * and multiply-adds a second at batch 16. */
struct wire_rate {
    uint32_t type; /* enum quant_type */
    double bytes_per_s, macs_per_s;
};
struct wire_report {
    double read_bytes_per_s; /* all threads */
    double link_bytes_per_s; /* to and from the coordinator; 0: not measured */
    double link_latency_s;
    uint32_t n_rates;
    struct wire_rate rates[LIMIT_RATES];
};

struct wire_peer {
    uint32_t node;
    char host[LIMIT_ADDRESS + 1]; /* "": where the coordinator is reached */
    uint32_t port;
    uint8_t key[KEY_BYTES];
};

/* What a worker holds, and where the others are. */
struct wire_assign {
    uint64_t epoch;
    uint8_t model_id[KEY_BYTES]; /* BLAKE2b-256 of model_header */
    const uint8_t *model_header; /* GGUF header without vocabulary; borrowed */
    size_t model_header_bytes;
    bool embed;
    uint32_t vocab_first, vocab_end;
    uint32_t n_layer;
    uint8_t *blocks;       /* [n_layer] 0 or 1 */
    uint64_t *experts;     /* [n_layer][4] bit sets: held here */
    uint16_t *expert_node; /* [n_layer][256] who serves it, where it is not
                              here and the layer's block is */
    uint32_t n_ctx, n_seq_max, n_pages, rows_max, outputs_max;
    uint32_t kv_type; /* enum kv_type */
    uint32_t n_steps; /* steps in flight at this worker */
    uint32_t n_peers;
    struct wire_peer *peers;
};

struct wire_heartbeat {
    uint64_t n;        /* counts up */
    uint64_t progress; /* of the compute thread; 0 from the coordinator */
    bool busy;         /* it has work: progress must move */
    uint64_t epoch;
};

struct wire_progress {
    uint64_t epoch, done_bytes, total_bytes;
    char what[LIMIT_TEXT + 1]; /* "fetching", "loading", "probing" */
};

struct wire_ready {
    uint64_t epoch, weight_bytes, planned_bytes, peak_bytes; /* VmHWM */
};

struct wire_failure { /* FAILURE, REFUSE, STEP_FAILED */
    uint64_t epoch, step;
    uint32_t status; /* enum status */
    char text[LIMIT_TEXT + 1];
};

/* One visit of a step: who runs what, in order.  The receiver runs stage
 * `stage` and sends the step on to the node of the next one; after the last,
 * the Result goes to the coordinator. */
struct wire_stage {
    uint32_t node;
    bool embed, head, again;
    uint32_t layer_first, layer_end;
};

struct wire_sample { /* of a row that wants logits: struct head_params */
    float inv_temp, repeat, frequency, presence;
    bool plain, whole_row; /* whole_row: send the logits themselves too */
    uint64_t seed, n;
    uint32_t n_recent, n_adjust;
    struct head_recent *recent;
    struct head_adjust *adjust;
};

struct wire_step {
    uint64_t epoch, step;
    uint32_t stage, n_stages;
    struct wire_stage *stages;
    uint32_t n_ops;
    struct kv_op *ops;
    uint32_t n_rows, n_want;
    struct step_row *rows;
    struct wire_sample *samples; /* [n_want], in the rows' order */
    uint32_t width;              /* n_embd of the tensor; 0: no tensor */
    uint64_t compute_ns;         /* of the stages so far: durations, no clock is
                                    compared between machines */
};

struct wire_result {
    uint64_t epoch, step;
    uint32_t n_want;
    struct head_result *rows;  /* [n_want] */
    uint32_t n_whole, n_vocab; /* tensor [n_whole][n_vocab] */
    uint64_t compute_ns;
};

struct wire_part {
    uint32_t layer, expert, n_rows;
};
/* Dispatch and Partials: the parts' rows one after the other in the tensor. */
struct wire_exchange {
    uint64_t epoch, step;
    uint32_t node;   /* who asked */
    uint32_t serial; /* of the exchange within the step; answers repeat it */
    uint32_t n_parts;
    struct wire_part *parts;
    uint32_t width;
};

struct wire_cell_id {
    uint32_t tensor, cell; /* tensor: index in the model header */
};
struct wire_cells { /* CELLS_WANTED, MANIFEST */
    uint8_t model_id[KEY_BYTES];
    uint32_t n;
    struct wire_cell_id *ids;
    uint8_t *hashes;    /* MANIFEST: [n][32]; NULL in CELLS_WANTED */
    bool manifest_only; /* CELLS_WANTED: send the hashes, not the cells */
};
struct wire_cell {
    uint8_t model_id[KEY_BYTES];
    struct wire_cell_id id;
    uint32_t status; /* enum status: if not ST_OK there is no tensor */
};

struct wire_echo {
    uint64_t n;
    uint32_t reply_bytes; /* tensor bytes wanted back; 0 in the reply */
};

/* kind says which member holds. wire_message_fini frees what the member owns
 * (each list is a mem_alloc of its own, samples' lists too); model_header
 * points into the frame and is valid as long as the caller keeps that. */
struct wire_message {
    enum wire_kind kind;
    union {
        struct wire_hello hello;
        struct wire_probe probe;
        struct wire_report report;
        struct wire_progress progress;
        struct wire_ready ready;
        struct wire_failure failure;
        struct wire_welcome welcome;
        struct wire_assign assign;
        struct wire_heartbeat heartbeat;
        struct wire_step step;
        struct wire_result result;
        struct wire_exchange exchange;
        struct wire_cells cells;
        struct wire_cell cell;
        struct wire_echo echo;
    };
};

/* header, tensor: the frames (tensor NULL, 0 where there is none).
 * ST_INVALID, ST_TOO_LARGE, ST_UNSUPPORTED (unknown kind), ST_NO_MEMORY; the
 * sentence says what is wrong, for a log. */
NODISCARD enum status wire_read(struct wire_message *out, const void *header,
                                size_t header_bytes, const void *tensor,
                                size_t tensor_bytes, struct error *err);
void wire_message_fini(struct wire_message *m);

/* Appends the header frame to out.  BYE and DRAIN have no member.
 * ST_INVALID, ST_TOO_LARGE: a reader would refuse it (the same checks);
 * ST_NO_MEMORY; nothing is appended then.  What a reader would not take in a
 * text (control characters, half a character) becomes '?', so that it never
 * keeps a message back. */
NODISCARD enum status wire_write(struct buf *out, const struct wire_message *m,
                                 struct error *err);

const char *wire_kind_name(enum wire_kind kind);

#endif

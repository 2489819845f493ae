/* kv.h - the key/value cache of one shard: pages of 32 positions.
 *
 * Depends on: common, quant, vec.  Thread: compute, from create to free; no
 * locks.
 *
 * A sequence is a list of pages; a page holds 32 positions of every layer of
 * the shard. Pages may be shared by sequences (fork) and are copied when one
 * of them writes.  Nothing computed depends on which page a position is in.
 *
 * Invariants (kv_check, after every operation in debug builds):
 *  (1) a page is free, or its count is the number of lists it stands in;
 *  (2) a sequence of n positions has exactly ceil(n / 32) pages;
 *  (3) free pages + used pages = all pages. */
#ifndef ENGINE_KV_H
#define ENGINE_KV_H

#include <stdint.h>

#include "common/mem.h"
#include "engine/vec.h"

#define KV_PAGE 32 /* positions */

/* KV_Q8_0: a row of one head is head_dim / 32 blocks of quant.h's q8_0,
 * quantized as activations are, with d rounded to f16 (NUMERICS 8). */
enum kv_type { KV_F32, KV_F16, KV_Q8_0, KV_TYPE_END };

/* For messages: the names that kv_type_by_name takes. */
#define KV_TYPE_NAMES "f32, f16 or q8_0"

struct kv_shape {
    uint32_t n_layers; /* held by this shard */
    uint32_t n_head_kv;
    uint32_t head_dim;
    enum kv_type type;
    uint32_t n_pages;   /* of KV_PAGE positions, for all sequences */
    uint32_t n_seq_max; /* sequences alive at once */
    uint32_t n_ctx;     /* the longest sequence */
};

struct kv;

const char *kv_type_name(enum kv_type type);
NODISCARD bool kv_type_by_name(const char *name, enum kv_type *out);

/* ST_USAGE, by name, if heads of this size cannot be stored so: q8_0 wants
 * whole blocks of 32. */
NODISCARD enum status kv_type_check(enum kv_type type, uint32_t head_dim,
                                    struct error *err);
/* Bytes of one position of one head. */
size_t kv_row_bytes(enum kv_type type, uint32_t head_dim);

/* Bytes of one page: 2 * layers * heads * 32 * kv_row_bytes. */
uint64_t kv_page_bytes(const struct kv_shape *shape);
/* Bytes kv_create takes, all of them; the planner calls this too.  UINT64_MAX
 * on overflow. */
uint64_t kv_bytes(const struct kv_shape *shape);
/* Pages that n positions need. */
static inline uint32_t kv_pages(uint32_t n_positions)
{
    return n_positions / KV_PAGE + (n_positions % KV_PAGE != 0);
}

/* ST_USAGE as kv_type_check, ST_NO_MEMORY. */
NODISCARD enum status kv_create(struct kv **out, const struct kv_shape *shape,
                                struct error *err);
void kv_free(struct kv *kv); /* NULL allowed */

enum kv_op_kind { KV_OP_FREE, KV_OP_TRUNCATE, KV_OP_FORK };
struct kv_op {
    enum kv_op_kind kind;
    uint64_t seq;
    uint64_t source; /* KV_OP_FORK: seq becomes the first n of source */
    uint32_t n;      /* positions that remain (TRUNCATE) or are taken (FORK) */
};

/* FREE of an unknown sequence is no error (it may never have got here).
 * ST_NOT_FOUND, ST_INVALID (n beyond the sequence, seq exists), ST_FULL (too
 * many sequences): nothing changed. */
NODISCARD enum status kv_apply(struct kv *kv, const struct kv_op *op,
                               struct error *err);

/* Positions of a sequence; 0 if there is none. */
uint32_t kv_length(const struct kv *kv, uint64_t seq);
uint32_t kv_free_pages(const struct kv *kv);
uint32_t kv_n_sequences(const struct kv *kv);

/* Make room for positions [first, first + n) of seq, n >= 1, which must
 * continue it (first = its length; 0 begins it).  A shared last page is
 * copied.  ST_FULL: no pages or no sequence left; ST_INVALID: not a
 * continuation, or over n_ctx.
 * On error nothing changed. */
NODISCARD enum status kv_extend(struct kv *kv, uint64_t seq, uint32_t first,
                                uint32_t n, struct error *err);

/* Take back kv_extend(kv, seq, first, n), which succeeded and after which there
 * were only other kv_extends, each taken back since.  Everything is then as
 * before it: pages, sharing, whether the sequence is there. */
void kv_retract(struct kv *kv, uint64_t seq, uint32_t first);

/* A handle for the loops of one step: valid until the next kv_apply or
 * kv_extend.  UINT32_MAX: no such sequence. */
uint32_t kv_find(const struct kv *kv, uint64_t seq);

/* Store one row: k, v [n_head_kv][head_dim] of position pos, which kv_extend
 * made room for. layer counts the shard's own layers from 0.  Different rows
 * may be stored by different threads at once. */
void kv_store(const struct kv *kv, const struct vec_ops *vec, uint32_t handle,
              uint32_t layer, uint32_t pos, const float *k, const float *v);

/* 32 rows of one head: [32][kv_row_bytes], row i for position
 * (pos - pos % 32) + i. */
const void *kv_k(const struct kv *kv, uint32_t handle, uint32_t layer,
                 uint32_t head, uint32_t pos);
const void *kv_v(const struct kv *kv, uint32_t handle, uint32_t layer,
                 uint32_t head, uint32_t pos);

/* Checks the invariants; false names a bug of ours. */
bool kv_check(const struct kv *kv);

#endif

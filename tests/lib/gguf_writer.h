/* gguf_writer.h - write GGUF files, for tests and generators of models.
 *
 * Depends on: common, gguf (type numbers), quant (sizes).
 * Thread: its owner's.
 *
 *   struct gguf_writer *w;
 *   if (gguf_writer_create(&w, 3, &err) != ST_OK) ...
 *   gguf_writer_str(w, "general.architecture", "llama");
 *   gguf_writer_u32(w, "llama.block_count", 2);
 *   gguf_writer_tensor(w, "output.weight", QUANT_F32, 2, ne, data);
 *   st = gguf_writer_save(w, "model.gguf", &err);
 *   gguf_writer_free(w);
 *
 * Adding returns nothing: the first failure (memory, a wrong shape) is kept,
 * later calls do nothing, and saving reports it.  Nothing checks that keys
 * and names differ: malformed files are wanted too.
 *
 * Metadata is kept in memory; tensors' data is not: it is borrowed, or made
 * a few rows at a time while the file is written, so that a model may be
 * larger than memory. */
#ifndef TESTS_LIB_GGUF_WRITER_H
#define TESTS_LIB_GGUF_WRITER_H

#include <stdio.h>

#include "common/buf.h"
#include "engine/gguf.h"

struct gguf_writer;

/* version 2 or 3 (they differ in nothing else). */
NODISCARD enum status gguf_writer_create(struct gguf_writer **out,
                                         uint32_t version, struct error *err);
void gguf_writer_free(struct gguf_writer *w); /* NULL allowed */

/* Data section and tensors start at multiples of this power of two (32 until
 * set); also writes the key general.alignment.  Call it at most once, before
 * the first tensor. */
void gguf_writer_alignment(struct gguf_writer *w, uint32_t alignment);

/* Keys, written in the order of the calls.  Everything is copied. */
void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_writer_i32(struct gguf_writer *w, const char *key, int32_t v);
void gguf_writer_f32(struct gguf_writer *w, const char *key, float v);
void gguf_writer_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_writer_str(struct gguf_writer *w, const char *key, const char *v);
void gguf_writer_strn(struct gguf_writer *w, const char *key,
                      struct gguf_str v);
/* Any type of fixed size; v points to a value of it. */
void gguf_writer_scalar(struct gguf_writer *w, const char *key,
                        enum gguf_type type, const void *v);

/* v: n elements of that type (bool: one byte each); NULL only if n is 0. */
void gguf_writer_array(struct gguf_writer *w, const char *key,
                       enum gguf_type type, const void *v, uint64_t n);
void gguf_writer_strs(struct gguf_writer *w, const char *key,
                      const struct gguf_str *v, uint64_t n);
void gguf_writer_cstrs(struct gguf_writer *w, const char *key,
                       const char *const *v, uint64_t n);

/* Add a tensor of a type that quant_info() knows; ne[0] is the row length.
 * data: the canonical rows (quant_row_bytes each), borrowed until the last
 * save; NULL: zeros. */
void gguf_writer_tensor(struct gguf_writer *w, const char *name,
                        enum quant_type type, uint32_t n_dims,
                        const uint64_t *ne, const void *data);

/* Write rows [first, first + n) of a tensor to dst, in canonical form.  Called
 * with ascending `first`, once for each row and save.  A status other than
 * ST_OK ends the save, which returns it. */
typedef enum status gguf_fill_fn(void *ctx, const char *name, uint64_t first,
                                 uint64_t n, void *dst, struct error *err);
/* The same with rows on demand; ctx is borrowed until the last save. */
void gguf_writer_tensor_fn(struct gguf_writer *w, const char *name,
                           enum quant_type type, uint32_t n_dims,
                           const uint64_t *ne, gguf_fill_fn *fill, void *ctx);

/* Bytes of the whole file. */
uint64_t gguf_writer_bytes(const struct gguf_writer *w);

/* To the file's current position, which must be its start (it is padded
 * from there); sequential, so a pipe will do.  Any number of saves is
 * allowed.  ST_IO; what has been written then stays. */
NODISCARD enum status gguf_writer_write(struct gguf_writer *w, FILE *f,
                                        struct error *err);
/* The same to PATH.part, renamed to path when whole; removed on an error. */
NODISCARD enum status gguf_writer_save(struct gguf_writer *w, const char *path,
                                       struct error *err);
/* Appended to an empty buffer. */
NODISCARD enum status gguf_writer_save_mem(struct gguf_writer *w,
                                           struct buf *out, struct error *err);

#endif

/* gguf.h - GGUF v2/v3 files: metadata and tensor directory, single or split.
 *
 * Depends on: common, quant (type names and sizes).
 * Thread: open and close one; between them read-only, gguf_read from any.
 *
 * The file is not trusted: every count meets a limit before anything is
 * allocated, every offset is checked against the file's size, and an error
 * names the file, the thing and the byte offset.  Nothing is mapped: only the
 * header is kept in memory, tensor bytes are read on demand with pread. */
#ifndef ENGINE_GGUF_H
#define ENGINE_GGUF_H

#include "common/buf.h"
#include "engine/quant.h"

#define GGUF_DIMS_MAX    4
#define GGUF_NAME_MAX    64           /* ggml's own limit for tensor names */
#define GGUF_KEY_MAX     65535        /* the specification's limit         */
#define GGUF_HEADER_MAX  (256u << 20) /* a 256k vocabulary needs ~15 MiB   */
#define GGUF_TENSORS_MAX 65536
#define GGUF_KEYS_MAX    65536
#define GGUF_SPLITS_MAX  1024
#define GGUF_DATA_MAX    (UINT64_C(1) << 62) /* tensors of one header */

enum gguf_type { /* the file's numbers */
                 GGUF_U8,
                 GGUF_I8,
                 GGUF_U16,
                 GGUF_I16,
                 GGUF_U32,
                 GGUF_I32,
                 GGUF_F32,
                 GGUF_BOOL,
                 GGUF_STRING,
                 GGUF_ARRAY,
                 GGUF_U64,
                 GGUF_I64,
                 GGUF_F64,
                 GGUF_TYPE_END
};

struct gguf;

/* Not NUL-terminated; borrowed from the struct gguf. */
struct gguf_str {
    const char *data;
    size_t len;
};

struct gguf_tensor {
    char name[GGUF_NAME_MAX + 1];
    uint32_t type; /* enum quant_type, or one that quant_info() lacks */
    uint32_t n_dims;
    uint64_t ne[GGUF_DIMS_MAX]; /* ne[0] is the row length (k); unused: 1  */
    uint64_t offset;  /* absolute, in its file (or as if there was one) */
    uint64_t n_bytes; /* 0 when the type is unknown                     */
    uint32_t split;   /* which file of the set                          */
};

/* path: a single file, or the first of a set NAME-00001-of-0000N.gguf, whose
 * others are found beside it.  ST_INVALID, ST_TRUNCATED, ST_UNSUPPORTED
 * (version, byte order), ST_TOO_LARGE (a limit above), ST_NOT_FOUND (the file
 * or another of its set, which err names), ST_IO, ST_NO_MEMORY.
 * Tensors of unknown types are listed, not refused: only use refuses them. */
NODISCARD enum status gguf_open(struct gguf **out, const char *path,
                                struct error *err);
/* The same for a single file already in memory (copied); for tests and
 * fuzzing.  A file that says it is one of a set: ST_UNSUPPORTED. */
NODISCARD enum status gguf_open_mem(struct gguf **out, const void *data,
                                    size_t n, struct error *err);
void gguf_close(struct gguf *g); /* NULL allowed */

/* ------------------------------------------------- without the file */

/* What a machine without the file needs to know of it: a GGUF v3 header with
 * the keys in file order, but for tokenizer.* and split.*, and the tensors of
 * all files in the order of gguf_tensor, at the offsets that one file would
 * have.  The same model gives the same bytes, however it is split, and tensor i
 * here is tensor i there.  Appended to out, which stays as it was on an error.
 * ST_TOO_LARGE: over out's maximum, or over GGUF_DATA_MAX. */
NODISCARD enum status gguf_strip_header(const struct gguf *g, struct buf *out,
                                        struct error *err);

/* What replaces what a header says when its tensors get other types. */
struct gguf_retype {
    const uint32_t *types; /* [gguf_n_tensors], all known; rows divide */
    uint32_t file_type;    /* general.file_type: llama.cpp's number */
};
#define GGUF_QUANTIZATION_VERSION 2 /* of the block layouts in quant.h */

/* The header of one GGUF v3 file with the same keys (but split.*, and
 * general.file_type and general.quantization_version as they now are) and the
 * same tensors in the same order, one after the other from the end of the
 * header on, each at the file's alignment. Appended to out with the padding
 * that follows it; as gguf_strip_header else. */
NODISCARD enum status gguf_retype_header(const struct gguf *g,
                                         const struct gguf_retype *to,
                                         struct buf *out, struct error *err);
uint32_t gguf_alignment(const struct gguf *g);
/* Bytes of the tensor if it had this type; its own if that is not known. */
uint64_t gguf_tensor_bytes(const struct gguf_tensor *t, uint32_t type);

/* n bytes from byte `from` on of tensor i to dst; the range lies in the
 * tensor.  Called by gguf_read, on its thread: from several at once. */
typedef enum status gguf_read_fn(void *arg, uint32_t i, uint64_t from,
                                 void *dst, size_t n, struct error *err);

/* Opens what gguf_strip_header wrote (data is copied); tensors' bytes come
 * from read.  The bytes are trusted no more than a file's: instead of lying in
 * a file, tensors must lie one after the other, as in what was written, and
 * nothing may follow the directory; ST_INVALID if not. */
NODISCARD enum status gguf_open_header(struct gguf **out, const void *data,
                                       size_t n, gguf_read_fn *read, void *arg,
                                       struct error *err);

uint32_t gguf_version(const struct gguf *g);
uint64_t gguf_file_bytes(const struct gguf *g); /* all splits */
uint32_t gguf_n_splits(const struct gguf *g);

/* What a file was when it was opened: enough to know it again. */
struct gguf_stamp {
    uint64_t n_bytes;
    int64_t mtime_ns; /* of the file system's clock */
};
/* i < gguf_n_splits; all zero where there is no file. */
struct gguf_stamp gguf_stamp(const struct gguf *g, uint32_t i);
/* ST_INVALID: the file that tensor t lies in has been written to since. */
NODISCARD enum status gguf_check_unchanged(const struct gguf *g,
                                           const struct gguf_tensor *t,
                                           struct error *err);

/* Keys in file order (the first file's); i < n.  The name is borrowed and
 * free of control characters, as are tensors' names; values of strings may
 * hold any bytes.  type may be NULL. */
uint32_t gguf_n_keys(const struct gguf *g);
struct gguf_str gguf_key(const struct gguf *g, uint32_t i,
                         enum gguf_type *type);

/* ST_NOT_FOUND: no such key (err says so).  ST_INVALID: another type or, for
 * integers, a value that does not fit.  Integers of any width are accepted
 * where they fit; get_f32 accepts F32 and F64. */
NODISCARD enum status gguf_get_u32(const struct gguf *g, const char *key,
                                   uint32_t *out, struct error *err);
NODISCARD enum status gguf_get_f32(const struct gguf *g, const char *key,
                                   float *out, struct error *err);
NODISCARD enum status gguf_get_bool(const struct gguf *g, const char *key,
                                    bool *out, struct error *err);
NODISCARD enum status gguf_get_str(const struct gguf *g, const char *key,
                                   struct gguf_str *out, struct error *err);

/* An array's element type and length, and access in O(1).  want GGUF_I32
 * accepts every type of integer if all elements fit, GGUF_F32 also F64 on that
 * condition (both O(n)); GGUF_TYPE_END accepts any array; all others, that
 * type only.  Arrays of arrays do not pass gguf_open. */
struct gguf_array;
NODISCARD enum status gguf_get_array(const struct gguf *g, const char *key,
                                     enum gguf_type want,
                                     const struct gguf_array **out,
                                     struct error *err);
enum gguf_type gguf_array_type(const struct gguf_array *a);
uint64_t gguf_array_len(const struct gguf_array *a);
/* i < len, and the type is: STRING; F32 or F64; BOOL or an integer.  Anything
 * else is the caller's mistake and ends the program.  Elements that do not
 * fit (possible only if want was neither GGUF_I32 nor GGUF_F32) become the
 * nearest value that does. */
struct gguf_str gguf_array_str(const struct gguf_array *a, uint64_t i);
float gguf_array_f32(const struct gguf_array *a, uint64_t i);
int32_t gguf_array_i32(const struct gguf_array *a, uint64_t i);

/* In file order, file after file; i < n.  Borrowed. */
uint32_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, uint32_t i);
/* NULL if there is none; O(log n) or better. */
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g,
                                           const char *name);

/* n bytes of the tensor from byte `from` on.  ST_INVALID outside the tensor
 * (of an unknown type: anywhere), ST_TRUNCATED if the file has shrunk since it
 * was opened, ST_IO, or what a gguf_read_fn says; dst is then undefined.  May
 * block on the disk or, behind a gguf_read_fn, on the network. */
NODISCARD enum status gguf_read(const struct gguf *g,
                                const struct gguf_tensor *t, uint64_t from,
                                void *dst, size_t n, struct error *err);

#endif

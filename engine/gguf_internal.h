/* gguf_internal.h - what the gguf*.c files share.
 *
 * Depends on: gguf.  Included by those files only.
 *
 * While a header is parsed its buffer grows and moves, so everything in it is
 * remembered as an offset; GGUF_HEADER_MAX keeps offsets within 32 bits. */
#ifndef ENGINE_GGUF_INTERNAL_H
#define ENGINE_GGUF_INTERNAL_H

#include "engine/gguf.h"

_Static_assert(GGUF_HEADER_MAX <= UINT32_MAX, "header offsets are 32 bits");

struct gguf_array {
    const uint8_t *header; /* set once the header no longer moves          */
    uint32_t *string_at;   /* strings: each one's length field; owned      */
    uint64_t len;
    enum gguf_type type; /* of an element                                  */
    uint32_t at;         /* first element                                  */
};

struct gguf_kv {
    struct gguf_array array; /* all zero unless type is GGUF_ARRAY */
    enum gguf_type type;
    uint32_t key_at, key_len;
    uint32_t value_at;
};

/* One file of a set. */
struct gguf_file {
    char *name; /* as given, shortened and made printable for messages */
    uint64_t n_bytes;
    int64_t mtime_ns; /* 0 without an fd */
    int fd; /* -1: the header buffer is the whole file, or there is none */
};

/* Invariants after gguf_parse:
 * (1) every offset in kvs and arrays lies in header[0, header_len);
 * (2) key_order and tensor_order sort by name, without duplicates;
 * (3) every tensor of a known type lies in its file, and no two overlap. */
struct gguf {
    uint8_t *header;
    size_t header_len; /* bytes read so far */
    uint32_t version;
    uint32_t alignment;
    struct gguf_kv *kvs;
    uint32_t *key_order;
    uint32_t n_keys;
    uint32_t n_tensors;
    struct gguf_tensor *tensors;
    uint32_t *tensor_order; /* built by gguf_index_tensors */
    struct gguf_file *files;
    uint32_t n_files;
    gguf_read_fn *read; /* NULL: from the files */
    void *read_arg;
};

/* Parse the header of g->files[0], all else of g being zero (header and
 * header_len are set if it is in memory, read if nothing is behind it: then
 * files[0].n_bytes becomes what the file would have).  On an error g is
 * half-built and still fit for gguf_close. */
NODISCARD enum status gguf_parse(struct gguf *g, struct error *err);

/* Sort the keys, or the tensors, by name; ST_INVALID if two share one. */
NODISCARD enum status gguf_index_keys(struct gguf *g, struct error *err);
NODISCARD enum status gguf_index_tensors(struct gguf *g, struct error *err);
/* ST_INVALID if two tensors of one file share a byte. */
NODISCARD enum status gguf_check_overlaps(const struct gguf *g,
                                          struct error *err);
/* NULL if there is none. Needs the index. */
const struct gguf_kv *gguf_find_key(const struct gguf *g, const char *key);

/* [from, from + n) of the file; ST_TRUNCATED at its end, ST_IO. */
NODISCARD enum status gguf_pread(const struct gguf_file *f, void *dst, size_t n,
                                 uint64_t from, struct error *err);

/* Where the bytes of a key start and end in the header. */
uint32_t gguf_kv_start(const struct gguf_kv *kv);
uint32_t gguf_kv_end(const struct gguf *g, const struct gguf_kv *kv);

/* Bytes of a value of fixed size; 0 for strings and arrays. */
size_t gguf_type_bytes(enum gguf_type type);
const char *gguf_type_name(enum gguf_type type);

/* A name from a file in quotes, fit for a message: printable ASCII, cut. */
struct gguf_quoted {
    char text[72];
};
struct gguf_quoted gguf_quote(const char *s, size_t n);

#endif

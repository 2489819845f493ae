/* quantize.h - a model file in smaller types: which tensor gets which, and the
 * writing of it.
 *
 * Depends on: gguf, quant_search, pool.  Thread: the caller's; it uses the
 * pool's.
 *
 * Streaming: a few MiB of rows are in memory at a time, whatever the file's
 * size.  The same input gives the same bytes, however many threads work. */
#ifndef ENGINE_QUANTIZE_H
#define ENGINE_QUANTIZE_H

#include "engine/gguf.h"
#include "engine/pool.h"

/* A file type by its usual name: what most matrices become, and llama.cpp's
 * number for the mix. */
struct quantize_mix {
    const char *name; /* "Q4_K_M" */
    uint32_t file_type;
    enum quant_type type;
};

/* By name, any case; Q3_K, Q4_K and Q5_K are their _M mixes.  NULL: none. */
const struct quantize_mix *quantize_mix_by_name(const char *name);
/* i from 0; NULL past the last. */
const struct quantize_mix *quantize_mix(uint32_t i);

struct quantize_options {
    const struct quantize_mix *mix;
    bool pure;       /* the mix's main type for every matrix */
    bool requantize; /* convert tensors that are quantized already */
    bool force;      /* replace a file that is there */
    uint32_t n_threads;
    /* false: stop, ST_INTERRUPTED.  done of total: bytes read. */
    bool (*progress)(void *arg, uint64_t done, uint64_t total);
    /* may be NULL: what a killed run left beside out, removed now */
    void (*swept)(void *arg, const char *name, uint64_t bytes);
    void *progress_arg; /* of both */
};

/* The type of each tensor, [gguf_n_tensors], as llama.cpp lays the mixes out
 * (without an importance matrix).  Everything but matrices, and routers and
 * norms, stays as it is; rows that the type's blocks do not divide get a
 * fallback type of 32-blocks, or F16 (n_fallback counts these; may be NULL).
 * ST_UNSUPPORTED names a tensor whose
 * type is not known; ST_USAGE, without requantize, one quantized already. */
NODISCARD enum status quantize_types(const struct gguf *g,
                                     const struct quantize_options *o,
                                     uint32_t *types, uint32_t *n_fallback,
                                     struct error *err);

struct quantize_result {
    uint64_t bytes_in, bytes_out; /* whole files */
    uint32_t n_tensors, n_converted, n_fallback;
};

/* in: a file or the first of a set; out: one file, written beside its place
 * under another name and renamed when it is whole.  On any error out is as it
 * was and nothing is left beside it; what a killed process has left there
 * before is removed first (common/part_file.h).
 * ST_USAGE: out is there (and no force), or is no regular file; ST_FULL: the
 * disk has not enough room, or has none left; ST_NUMERIC: a weight is not
 * finite or too large for the type; ST_INTERRUPTED, ST_NO_MEMORY, ST_IO, and
 * what gguf_open and quantize_types say.  Blocks on the disk.  A process with
 * a limit on file sizes ignores SIGXFSZ. */
NODISCARD enum status quantize_file(const char *in, const char *out,
                                    const struct quantize_options *o,
                                    struct quantize_result *result,
                                    struct error *err);

#endif

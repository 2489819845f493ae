/* tokenizer_pre.h - how byte-level BPE cuts a text before it merges.
 *
 * Depends on: common.  Thread: create and free one; between them read-only,
 * so any.
 *
 * A pre-tokenizer is a list of regular expressions, known by the name that
 * the file gives (tokenizer.ggml.pre).  Each cuts what the ones before left:
 * a match is a piece of its own, and so is what lies between two. */
#ifndef ENGINE_TOKENIZER_PRE_H
#define ENGINE_TOKENIZER_PRE_H

#include "common/buf.h"

struct pre;

struct pre_facts {      /* what else the name tells about a model */
    bool ignore_merges; /* a piece that is a token is not merged */
    bool add_bos;       /* unless the file says otherwise */
    bool nfc;           /* text is normalized to NFC first */
};

/* name: n bytes.  ST_NOT_FOUND: no such pre-tokenizer (err untouched). */
NODISCARD enum status pre_create(struct pre **out, const char *name, size_t n,
                                 struct error *err);
void pre_free(struct pre *p); /* NULL allowed */
struct pre_facts pre_facts(const struct pre *p);

typedef enum status pre_piece_fn(void *context, const char *piece, size_t n);

/* What one caller needs while it splits; reusable, not shared. */
struct pre_work;
NODISCARD enum status pre_work_create(struct pre_work **out,
                                      const struct pre *p);
void pre_work_free(struct pre_work *w); /* NULL allowed */

/* Calls fn for each piece of the text in order, which together are the text;
 * stops at the first status that is not ST_OK and returns it.  text: valid
 * UTF-8.  Cost O(n). */
NODISCARD enum status pre_split(struct pre_work *w, const char *text, size_t n,
                                pre_piece_fn *fn, void *context);

/* Appends the text in normalization form C to *out.  text: valid UTF-8. */
NODISCARD enum status pre_normalize(const char *text, size_t n,
                                    struct buf *out);

#endif

/* jinja.h - the subset of Jinja 2 that chat templates are written in.
 *
 * Depends on: common, jansson.  Thread: parse and free one; between them
 * read-only, so any.
 *
 * Behaves as Hugging Face's environment does: trim_blocks, lstrip_blocks, the
 * loopcontrols extension, {% generation %}, an undefined value that prints as
 * nothing and whose attributes are errors, tojson without ASCII escapes.
 * There is no autoescape, so `safe` and `escape` give ordinary strings.
 *
 * Every byte of every string knows whether it came from an input variable, and
 * keeps knowing it through filters, slices and concatenation; the rendering
 * tells which of its bytes did.  Neither template nor messages are trusted:
 * nesting, steps, memory and output have limits. */
#ifndef ENGINE_JINJA_H
#define ENGINE_JINJA_H

#include <jansson.h>

#include "common/buf.h"

#define JINJA_SOURCE_MAX (1u << 20) /* bytes of a template */
#define JINJA_NEST_MAX   100        /* blocks, expressions, JSON, macros */
/* Of one parse or rendering. A conversation of 10,000 messages takes some
 * 2 million steps in the longest of common templates. */
#define JINJA_MEMORY_MAX (256u << 20)
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION /* clang says so to libFuzzer  \
                                                 */
#define JINJA_STEPS_MAX 300000u /* more of the same finds nothing */
#else
#define JINJA_STEPS_MAX 20000000u
#endif
#define JINJA_OUTPUT_MAX (32u << 20)

struct jinja;

/* source need not outlive the call.  ST_INVALID: not a template (err names
 * line and construct); ST_UNSUPPORTED: Jinja, but a statement that is not in
 * our subset; ST_TOO_LARGE, ST_NO_MEMORY. */
NODISCARD enum status jinja_parse(struct jinja **out, const char *source,
                                  size_t n, struct error *err);
void jinja_free(struct jinja *t); /* NULL allowed */

/* A variable that the template sees: text if that is not NULL, else json
 * (NULL: none).  Borrowed for the call. */
struct jinja_var {
    const char *name;
    const char *text;
    size_t len;
    const json_t *json;
    bool input; /* every string and key of it is marked */
};

/* Bytes [begin, end) of the output that came from input variables. */
struct jinja_span {
    size_t begin, end;
};
struct jinja_output { /* zero-initialise */
    struct buf text;
    struct jinja_span *span; /* ascending, disjoint, not empty */
    size_t n_spans;
};
void jinja_output_fini(struct jinja_output *o);

/* *out is replaced, or left as it was.  ST_INVALID: the template raised (err
 * is its own message) or computed what cannot be computed (err names the
 * line); ST_UNSUPPORTED: a filter, test or method that is not in our subset;
 * ST_TOO_LARGE: a limit above; ST_NO_MEMORY.  now: Unix seconds, for
 * strftime_now, in UTC. */
NODISCARD enum status jinja_render(const struct jinja *t,
                                   const struct jinja_var *var, size_t n_vars,
                                   int64_t now, struct jinja_output *out,
                                   struct error *err);

#endif

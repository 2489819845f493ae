/* jinja_internal.h - the interpreter of jinja.h as its own files see it.
 *
 * jinja.c          entry points, arena, errors
 * jinja_lex.c      source to tokens
 * jinja_expr.c     tokens to expressions
 * jinja_parse.c    tokens to statements
 * jinja_value.c    strings with marks, lists, dictionaries, comparison
 * jinja_text.c     strings stripped, replaced, recased
 * jinja_print.c    values as text: str, repr, tojson
 * jinja_eval.c     expressions
 * jinja_exec.c     statements
 * jinja_call.c     arguments, macros, global functions
 * jinja_filters.c, jinja_filters_seq.c, jinja_tests.c, jinja_methods.c
 *
 * Depends on: common, jinja.h.  Thread: a struct ji belongs to its call.
 *
 * Errors stick: the first failure is kept in struct ji, later ones change
 * nothing, and functions that have failed return an undefined value or NULL.
 * Whoever loops looks at ji->st.  Memory is an arena that dies with the call,
 * so nothing is freed one by one. */
#ifndef ENGINE_JINJA_INTERNAL_H
#define ENGINE_JINJA_INTERNAL_H

#include <string.h>

#include "engine/jinja.h"

/* ------------------------------------------------------------ values */

enum ji_kind {
    JI_UNDEFINED,
    JI_ABSENT, /* an argument that was not given; no template sees one */
    JI_NONE,
    JI_BOOL,
    JI_INT,
    JI_FLOAT,
    JI_STRING,
    JI_LIST, /* tuples and ranges too */
    JI_DICT,
    JI_NAMESPACE,
    JI_MACRO,
    JI_GLOBAL, /* a function of the environment */
    JI_METHOD  /* bound to its value */
};

/* Immutable. mark: a byte for each of data, 1 where it came from input; NULL:
 * all are as `input` says. */
struct ji_str {
    const char *data, *mark;
    size_t len;
    bool input;
};

struct ji_value {
    enum ji_kind kind;
    bool input; /* what is printed of it, beyond its strings, is marked */
    union {
        bool b;
        int64_t i;
        double f;
        const struct ji_str *s; /* JI_UNDEFINED: its name, or NULL */
        struct ji_list *list;
        struct ji_dict *dict;
        const struct ji_macro *macro;
        const struct ji_global *global;
        const struct ji_bound *bound;
    };
};

/* A stretch of a store. Appending to the last stretch of a store writes behind
 * it, so that `list = list + [x]` in a loop does not copy all of the list. */
struct ji_store {
    struct ji_value *v;
    size_t used, cap;
};
struct ji_list {
    struct ji_store *store;
    size_t at, n;
    bool tuple;
};

struct ji_entry {
    struct ji_value key, value;
};
struct ji_dict {
    struct ji_entry *e;
    size_t n, cap;
    bool loop; /* a namespace that is a loop's own */
};

struct ji_kwarg {
    const struct ji_str *name;
    struct ji_value value;
};
struct ji_args {
    struct ji_value *pos;
    struct ji_kwarg *kw;
    size_t n_pos, n_kw;
};

/* ------------------------------------------------------------ syntax */

enum ji_type {
    /* expressions: a, b, c, d are operands */
    N_LITERAL,
    N_NAME,
    N_LIST, /* a: items; op 1: a tuple */
    N_DICT, /* a: N_PAIRs of a: b */
    N_PAIR,
    N_ATTR,   /* a.name */
    N_ITEM,   /* a[b] */
    N_SLICE,  /* a[b:c:d] */
    N_CALL,   /* a(list b) */
    N_KWARG,  /* name=a, among arguments */
    N_FILTER, /* a | name(list b) */
    N_TEST,   /* a is name(list b) */
    N_NEG,
    N_POS,
    N_NOT,
    N_MATH, /* a op b */
    N_AND,
    N_OR,
    N_COMPARE,  /* a, list b of N_OPERANDs */
    N_OPERAND,  /* op a */
    N_COND,     /* b if a else c */
    N_CAPTURED, /* what the block around has printed */
    /* statements */
    N_TEXT,
    N_PRINT,        /* a */
    N_IF,           /* a: N_BRANCHes */
    N_BRANCH,       /* if a (NULL: else) then list b */
    N_FOR,          /* target a in b if c: list d, else list e */
    N_SET,          /* target a = b */
    N_SET_BLOCK,    /* target a = b of what list d prints */
    N_MACRO,        /* name, parameters a, list d */
    N_PARAM,        /* name, default a or NULL */
    N_CALL_BLOCK,   /* call b with parameters a and list d as caller */
    N_FILTER_BLOCK, /* b of what list d prints */
    N_WITH,         /* N_SETs a around list d */
    N_SCOPE,        /* list d */
    N_BREAK,
    N_CONTINUE
};

enum ji_op { /* of N_MATH and N_OPERAND */
             OP_NONE,
             OP_ADD,
             OP_SUB,
             OP_MUL,
             OP_DIV,
             OP_FLOORDIV,
             OP_MOD,
             OP_POW,
             OP_CONCAT,
             OP_EQ,
             OP_NE,
             OP_LT,
             OP_LE,
             OP_GT,
             OP_GE,
             OP_IN,
             OP_NOT_IN
};

struct ji_node {
    enum ji_type type;
    enum ji_op op;
    uint32_t line;
    uint32_t depth; /* of the tree below */
    struct ji_node *a, *b, *c, *d, *e;
    struct ji_node *next; /* in a list */
    const struct ji_str *name;
    struct ji_value value; /* N_LITERAL, N_TEXT */
};

enum ji_token_type {
    T_END,
    T_TEXT,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_PRINT_BEGIN,
    T_PRINT_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_OP
};
struct ji_token {
    enum ji_token_type type;
    uint32_t line;
    char op[3];                /* T_OP, terminated */
    const struct ji_str *text; /* T_TEXT, T_NAME, T_STRING */
    struct ji_value value;     /* T_INT, T_FLOAT */
};

/* ------------------------------------------------------ the interpreter */

struct ji_block {
    struct ji_block *next;
    size_t used, cap;
};
struct ji_arena {
    struct ji_block *first;
    size_t total;
};

struct ji_var {
    const struct ji_str *name;
    struct ji_value value;
};
struct ji_scope {
    struct ji_scope *parent;
    struct ji_var *var;
    size_t n, cap;
};

struct ji_macro {
    const struct ji_node *node; /* N_MACRO or N_CALL_BLOCK */
    struct ji_scope *scope;     /* where it was defined */
};

/* Bytes and marks that grow; what is added to a failed one is lost. */
struct ji_out {
    char *data, *mark;
    size_t len, cap;
};

struct ji {
    struct ji_arena arena;
    enum status st;
    struct error *err;
    uint32_t line; /* of what is being read or computed */
    uint32_t nest, nest_max;
    uint32_t steps;
    int64_t now;
    /* parsing */
    const struct ji_token *token;
    uint32_t n_loops; /* around the statement, for break and continue */
    /* rendering */
    struct ji_scope *scope;
    struct ji_out *out;
    struct ji_value captured;
};

struct jinja {
    struct ji_arena arena;
    const struct ji_node *body;
};

/* jinja.c */
/* Zeroed; NULL and a sticky error when memory is short or over the limit. */
void *ji_alloc(struct ji *c, size_t n);
void *ji_array(struct ji *c, size_t n, size_t item_bytes);
/* Room for one more item: a copy twice as large when *cap is reached. */
void *ji_grow(struct ji *c, void *items, size_t n, size_t *cap,
              size_t item_bytes);
/* "chat template, line N: ..."; an undefined value, for `return`. */
struct ji_value ji_fail(struct ji *c, enum status st, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* Counts n steps; false (and a sticky error) over the limit or after one. */
bool ji_tick(struct ji *c, size_t n);
/* One level deeper, and back; false over the limit, and nothing to leave. */
bool ji_enter(struct ji *c);
void ji_leave(struct ji *c);
/* For "%.*s" in errors: at most 60 bytes of s, control characters aside. */
#define JI_SHOW(s) (int)((s)->len < 60 ? (s)->len : 60), (s)->data

/* jinja_lex.c, jinja_expr.c, jinja_parse.c */
const struct ji_token *ji_lex(struct ji *c, const char *source, size_t n);
bool ji_is_op(const struct ji *c, const char *op);
bool ji_is_name(const struct ji *c, const char *name);
bool ji_skip_op(struct ji *c, const char *op);
bool ji_skip_name(struct ji *c, const char *name);
void ji_expect_op(struct ji *c, const char *op);
const struct ji_str *ji_expect_name(struct ji *c);
struct ji_value ji_unexpected(struct ji *c, const char *wanted);
struct ji_node *ji_node(struct ji *c, enum ji_type type);
/* parent is at least as deep as child (may be NULL) and one. */
void ji_deepen(struct ji *c, struct ji_node *parent,
               const struct ji_node *child);
/* list of siblings: where the next is to be put */
struct ji_list_end {
    struct ji_node *first, *last;
};
void ji_append_node(struct ji_list_end *l, struct ji_node *n);
struct ji_node *ji_parse_expr(struct ji *c);
struct ji_node *ji_parse_expr_no_if(struct ji *c);
/* One expression, or several with commas between: a tuple. */
struct ji_node *ji_parse_tuple(struct ji *c, bool with_if);
/* a, (b, c) or ns.attribute */
struct ji_node *ji_parse_target(struct ji *c, bool attributes);
struct ji_node *ji_parse_filters(struct ji *c, struct ji_node *of);
struct ji_node *ji_parse_body(struct ji *c);

/* jinja_value.c */
struct ji_value ji_none(void);
struct ji_value ji_bool(bool b);
struct ji_value ji_int(int64_t i);
struct ji_value ji_float(double f);
struct ji_value ji_string(const struct ji_str *s);
struct ji_value ji_undefined(const struct ji_str *name);
/* Unmarked; literal is not copied. */
struct ji_value ji_text(struct ji *c, const char *literal);
const struct ji_str *ji_str_new(struct ji *c, const char *data, size_t len,
                                bool input);
const struct ji_str *ji_str_slice(struct ji *c, const struct ji_str *s,
                                  size_t begin, size_t end);
bool ji_str_is(const struct ji_str *s, const char *text);
bool ji_str_eq(const struct ji_str *a, const struct ji_str *b);
bool ji_str_mark(const struct ji_str *s, size_t i);
bool ji_str_has_input(const struct ji_str *s); /* any byte of it */
void ji_put(struct ji *c, struct ji_out *o, const char *data, size_t n,
            bool input);
void ji_put_slice(struct ji *c, struct ji_out *o, const struct ji_str *s,
                  size_t begin, size_t end);
void ji_put_str(struct ji *c, struct ji_out *o, const struct ji_str *s);
/* The same so many times; s->len * times is at most JINJA_OUTPUT_MAX. */
void ji_put_times(struct ji *c, struct ji_out *o, const struct ji_str *s,
                  size_t times);
struct ji_value ji_out_value(struct ji *c, const struct ji_out *o);
struct ji_value ji_list_new(struct ji *c, size_t room);
void ji_list_push(struct ji *c, struct ji_list *l, struct ji_value v);
struct ji_value ji_list_at(const struct ji_list *l, size_t i);
struct ji_value ji_list_slice(struct ji *c, struct ji_value v, size_t at,
                              size_t n);
struct ji_value ji_dict_new(struct ji *c, enum ji_kind kind);
struct ji_value *ji_dict_find(struct ji *c, struct ji_dict *d,
                              struct ji_value key);
struct ji_value *ji_dict_find_text(struct ji *c, struct ji_dict *d,
                                   const char *key);
void ji_dict_set(struct ji *c, struct ji_dict *d, struct ji_value key,
                 struct ji_value value);
bool ji_truth(struct ji_value v);
bool ji_is_number(struct ji_value v); /* bool too, as in Python */
double ji_number(struct ji_value v);
bool ji_equal(struct ji *c, struct ji_value a, struct ji_value b);
/* <0, 0, >0; what cannot be ordered fails. */
int ji_compare(struct ji *c, struct ji_value a, struct ji_value b);
bool ji_contains(struct ji *c, struct ji_value in, struct ji_value what);
/* A list of what `for` would go over; of a list, itself. */
struct ji_list *ji_iterate(struct ji *c, struct ji_value v);
/* Python's names of types, for errors. */
const char *ji_kind_name(struct ji_value v);
struct ji_value ji_from_json(struct ji *c, const json_t *json, bool input);
/* Characters: bytes that are no UTF-8 count one each. */
size_t ji_char_len(const char *p, size_t n);
size_t ji_count_chars(const struct ji_str *s);
/* The byte at which character i begins (len at or behind the end). */
size_t ji_char_at(const struct ji_str *s, size_t i);
uint32_t ji_decode(const char *p, size_t n); /* n: ji_char_len */
size_t ji_encode(uint32_t point, char out[4]);
bool ji_is_space(uint32_t point);

/* jinja_print.c */
const struct ji_str *ji_to_str(struct ji *c, struct ji_value v);
void ji_print(struct ji *c, struct ji_out *o, struct ji_value v);
struct ji_json_style {
    int64_t indent; /* negative: one line */
    const struct ji_str *item_separator, *key_separator; /* NULL: usual */
    bool ascii, sort_keys;
};
void ji_print_json(struct ji *c, struct ji_out *o, struct ji_value v,
                   const struct ji_json_style *style);

/* jinja_text.c */
const struct ji_str *ji_strip(struct ji *c, const struct ji_str *s,
                              const struct ji_str *chars, bool left,
                              bool right);
const struct ji_str *ji_replace(struct ji *c, const struct ji_str *s,
                                const struct ji_str *from,
                                const struct ji_str *to, int64_t count);
enum ji_case { CASE_LOWER, CASE_UPPER, CASE_TITLE, CASE_CAPITAL };
const struct ji_str *ji_recase(struct ji *c, const struct ji_str *s,
                               enum ji_case how);
/* Python's "..." % args, of %s %r %d %i %f %% */
const struct ji_str *ji_percent(struct ji *c, const struct ji_str *format,
                                const struct ji_value *v, size_t n);
/* Where `what` begins in s from byte `from` on; s->len + 1: nowhere. */
size_t ji_find(struct ji *c, const struct ji_str *s, size_t from,
               const struct ji_str *what);
bool ji_is_letter(uint32_t point); /* one with case */

/* jinja_eval.c */
struct ji_value ji_eval(struct ji *c, const struct ji_node *n);
struct ji_value ji_math(struct ji *c, enum ji_op op, struct ji_value a,
                        struct ji_value b);
/* v.name and v[key] as a template writes them */
struct ji_value ji_attr(struct ji *c, struct ji_value v,
                        const struct ji_str *name);
struct ji_value ji_item(struct ji *c, struct ji_value v, struct ji_value key);
void ji_eval_args(struct ji *c, const struct ji_node *list,
                  struct ji_args *out);

/* jinja_exec.c */
enum ji_flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };
enum ji_flow ji_exec(struct ji *c, const struct ji_node *list);
struct ji_value ji_capture(struct ji *c, const struct ji_node *list);
struct ji_scope *ji_scope_new(struct ji *c, struct ji_scope *parent);
void ji_scope_set(struct ji *c, struct ji_scope *s, const struct ji_str *name,
                  struct ji_value v);
struct ji_value *ji_scope_find(struct ji *c, struct ji_scope *s,
                               const struct ji_str *name);

/* jinja_call.c */
struct ji_value ji_call(struct ji *c, struct ji_value f, struct ji_args *a);
struct ji_value ji_find_global(const struct ji_str *name);
/* Arguments by position or name into out[]: names separated by spaces, those
 * behind a '|' may be left out (JI_ABSENT). False: failed, naming `what`. */
#define JI_PARAMS_MAX 6
bool ji_bind(struct ji *c, const char *what, const struct ji_args *a,
             const char *names, struct ji_value out[JI_PARAMS_MAX]);
bool ji_want_int(struct ji *c, const char *what, struct ji_value v,
                 int64_t *out);
const struct ji_str *ji_want_str(struct ji *c, const char *what,
                                 struct ji_value v);

/* jinja_filters.c, jinja_filters_seq.c, jinja_tests.c, jinja_methods.c */
typedef struct ji_value ji_filter_fn(struct ji *c, struct ji_value v,
                                     const struct ji_args *a);
struct ji_filter {
    const char *name;
    ji_filter_fn *apply;
};
extern const struct ji_filter ji_filters_seq[]; /* ends with NULL */
/* A list of the mapping's (key, value) tuples. */
struct ji_value ji_pairs(struct ji *c, struct ji_value v);
struct ji_value ji_filter(struct ji *c, const struct ji_str *name,
                          struct ji_value v, const struct ji_args *a);
bool ji_test(struct ji *c, const struct ji_str *name, struct ji_value v,
             const struct ji_args *a);
/* The method bound to v; absent if v has none of this name. */
struct ji_value ji_find_method(struct ji *c, struct ji_value v,
                               const struct ji_str *name);
struct ji_value ji_call_method(struct ji *c, const struct ji_bound *m,
                               const struct ji_args *a);
#endif

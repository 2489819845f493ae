/* jinja_expr.c - tokens to expressions, by precedence from weak to strong:
 * if-else, or, and, not, comparison, + -, ~, * / // %, **, sign, and then
 * what stands behind an operand: .name [key] (call) |filter is test. */
#include "engine/jinja_internal.h"

bool ji_is_op(const struct ji *c, const char *op)
{
    return c->st == ST_OK && c->token->type == T_OP &&
           strcmp(c->token->op, op) == 0;
}

bool ji_is_name(const struct ji *c, const char *name)
{
    return c->st == ST_OK && c->token->type == T_NAME &&
           ji_str_is(c->token->text, name);
}

static void next(struct ji *c)
{
    if (c->st == ST_OK && c->token->type != T_END) c->token++;
    if (c->st == ST_OK) c->line = c->token->line;
}

bool ji_skip_op(struct ji *c, const char *op)
{
    const bool is = ji_is_op(c, op);
    if (is) next(c);
    return is;
}

bool ji_skip_name(struct ji *c, const char *name)
{
    const bool is = ji_is_name(c, name);
    if (is) next(c);
    return is;
}

struct ji_value ji_unexpected(struct ji *c, const char *wanted)
{
    if (c->st != ST_OK) return ji_undefined(NULL);
    const struct ji_token *t = c->token;
    c->line = t->line;
    switch (t->type) {
    case T_OP:
        return ji_fail(c, ST_INVALID, "expected %s, found \"%s\"", wanted,
                       t->op);
    case T_NAME:
    case T_STRING:
        return ji_fail(c, ST_INVALID, "expected %s, found \"%.*s\"", wanted,
                       JI_SHOW(t->text));
    case T_INT:
    case T_FLOAT:
        return ji_fail(c, ST_INVALID, "expected %s, found a number", wanted);
    case T_END:
        return ji_fail(c, ST_INVALID, "expected %s, found the end", wanted);
    case T_BLOCK_BEGIN:
    case T_BLOCK_END:
    case T_PRINT_BEGIN:
    case T_PRINT_END:
    case T_TEXT:
        break;
    }
    return ji_fail(c, ST_INVALID, "expected %s, found the tag's end", wanted);
}

void ji_expect_op(struct ji *c, const char *op)
{
    char wanted[8] = {'"', op[0], op[1] ? op[1] : '"', op[1] ? '"' : 0};
    if (!ji_skip_op(c, op)) ji_unexpected(c, wanted);
}

const struct ji_str *ji_expect_name(struct ji *c)
{
    if (c->st == ST_OK && c->token->type == T_NAME) {
        const struct ji_str *name = c->token->text;
        next(c);
        return name;
    }
    ji_unexpected(c, "a name");
    return NULL;
}

struct ji_node *ji_node(struct ji *c, enum ji_type type)
{
    struct ji_node *n = ji_alloc(c, sizeof *n);
    if (!n) return NULL;
    n->type = type;
    n->line = c->line;
    return n;
}

void ji_deepen(struct ji *c, struct ji_node *parent,
               const struct ji_node *child)
{
    if (!parent || !child || child->depth < parent->depth) return;
    parent->depth = child->depth + 1;
    /* what is computed node by node is as deep in calls */
    if (parent->depth > JINJA_NEST_MAX) {
        ji_fail(c, ST_TOO_LARGE, "nested more than %d deep", JINJA_NEST_MAX);
    }
}

void ji_append_node(struct ji_list_end *l, struct ji_node *n)
{
    if (!n) return;
    if (l->last) {
        l->last->next = n;
    } else {
        l->first = n;
    }
    l->last = n;
}

/* A node over a and b; NULL after an error. */
static struct ji_node *over(struct ji *c, enum ji_type type, enum ji_op op,
                            struct ji_node *a, struct ji_node *b)
{
    struct ji_node *n = ji_node(c, type);
    if (!n) return NULL;
    n->op = op;
    n->a = a;
    n->b = b;
    ji_deepen(c, n, a);
    ji_deepen(c, n, b);
    return n;
}

static struct ji_node *literal(struct ji *c, struct ji_value v)
{
    struct ji_node *n = ji_node(c, N_LITERAL);
    if (n) n->value = v;
    return n;
}

/* ------------------------------------------------------------ operands */

static struct ji_node *parse_list(struct ji *c)
{
    struct ji_node *n = ji_node(c, N_LIST);
    struct ji_list_end items = {0};
    next(c);
    while (c->st == ST_OK && !ji_is_op(c, "]")) {
        struct ji_node *item = ji_parse_expr(c);
        ji_append_node(&items, item);
        ji_deepen(c, n, item);
        if (!ji_skip_op(c, ",")) break;
    }
    ji_expect_op(c, "]");
    if (n) n->a = items.first;
    return n;
}

static struct ji_node *parse_dict(struct ji *c)
{
    struct ji_node *n = ji_node(c, N_DICT);
    struct ji_list_end items = {0};
    next(c);
    while (c->st == ST_OK && !ji_is_op(c, "}")) {
        struct ji_node *key = ji_parse_expr(c);
        ji_expect_op(c, ":");
        struct ji_node *pair = over(c, N_PAIR, OP_NONE, key, ji_parse_expr(c));
        ji_append_node(&items, pair);
        ji_deepen(c, n, pair);
        if (!ji_skip_op(c, ",")) break;
    }
    ji_expect_op(c, "}");
    if (n) n->a = items.first;
    return n;
}

static struct ji_node *parse_strings(struct ji *c)
{
    struct ji_out o = {0};
    while (c->st == ST_OK && c->token->type == T_STRING) {
        ji_put_str(c, &o, c->token->text);
        next(c);
    }
    return literal(c, ji_out_value(c, &o));
}

static struct ji_node *parse_name(struct ji *c)
{
    static const struct {
        const char *name;
        struct ji_value v;
    } constant[] = {
        {"true", {.kind = JI_BOOL, .b = true}},
        {"True", {.kind = JI_BOOL, .b = true}},
        {"false", {.kind = JI_BOOL}},
        {"False", {.kind = JI_BOOL}},
        {"none", {.kind = JI_NONE}},
        {"None", {.kind = JI_NONE}},
    };
    for (size_t i = 0; i < COUNT_OF(constant); i++) {
        if (ji_skip_name(c, constant[i].name)) {
            return literal(c, constant[i].v);
        }
    }
    struct ji_node *n = ji_node(c, N_NAME);
    const struct ji_str *name = ji_expect_name(c);
    if (n) n->name = name;
    return n;
}

static struct ji_node *parse_primary(struct ji *c)
{
    if (c->st != ST_OK) return NULL;
    const struct ji_token *t = c->token;
    if (t->type == T_NAME) return parse_name(c);
    if (t->type == T_STRING) return parse_strings(c);
    if (t->type == T_INT || t->type == T_FLOAT) {
        next(c);
        return literal(c, t->value);
    }
    if (ji_is_op(c, "[")) return parse_list(c);
    if (ji_is_op(c, "{")) return parse_dict(c);
    if (!ji_skip_op(c, "(")) {
        ji_unexpected(c, "an expression");
        return NULL;
    }
    struct ji_node *n;
    if (ji_is_op(c, ")")) {
        n = ji_node(c, N_LIST);
        if (n) n->op = OP_CONCAT; /* the empty tuple */
    } else {
        n = ji_parse_tuple(c, true);
    }
    ji_expect_op(c, ")");
    return n;
}

/* ------------------------------------------------ behind an operand */

/* In parentheses, from "(" to ")"; *n gets their depth. */
static struct ji_node *parse_args(struct ji *c, struct ji_node *of)
{
    struct ji_list_end args = {0};
    bool named = false;
    ji_expect_op(c, "(");
    while (c->st == ST_OK && !ji_is_op(c, ")")) {
        struct ji_node *arg;
        if (ji_is_op(c, "*") || ji_is_op(c, "**")) {
            ji_fail(c, ST_UNSUPPORTED, "*arguments are not supported");
            return NULL;
        }
        if (c->token->type == T_NAME && c->token[1].type == T_OP &&
            strcmp(c->token[1].op, "=") == 0) {
            arg = ji_node(c, N_KWARG);
            const struct ji_str *name = ji_expect_name(c);
            next(c);
            struct ji_node *value = ji_parse_expr(c);
            if (arg) {
                arg->name = name;
                arg->a = value;
            }
            ji_deepen(c, arg, value);
            named = true;
        } else if (named) {
            ji_unexpected(c, "name=value");
            return NULL;
        } else {
            arg = ji_parse_expr(c);
        }
        ji_append_node(&args, arg);
        ji_deepen(c, of, arg);
        if (!ji_skip_op(c, ",")) break;
    }
    ji_expect_op(c, ")");
    return args.first;
}

static struct ji_node *parse_call(struct ji *c, struct ji_node *of)
{
    struct ji_node *n = over(c, N_CALL, OP_NONE, of, NULL);
    struct ji_node *args = parse_args(c, n);
    if (n) n->b = args;
    return n;
}

static bool slice_part_ends(const struct ji *c)
{
    return c->st != ST_OK || ji_is_op(c, ":") || ji_is_op(c, "]");
}

static struct ji_node *parse_subscript(struct ji *c, struct ji_node *of)
{
    struct ji_node *n = over(c, N_ITEM, OP_NONE, of, NULL);
    struct ji_node *part[3] = {NULL, NULL, NULL};
    size_t colons = 0;
    next(c);
    for (;;) {
        if (!slice_part_ends(c)) part[colons] = ji_parse_expr(c);
        if (colons == 2 || !ji_skip_op(c, ":")) break;
        colons++;
    }
    if (c->st == ST_OK && !colons && !part[0]) ji_unexpected(c, "a key");
    if (ji_is_op(c, ",")) {
        ji_fail(c, ST_UNSUPPORTED, "more than one key in []");
    }
    ji_expect_op(c, "]");
    if (!n) return NULL;
    if (colons) n->type = N_SLICE;
    n->b = part[0];
    n->c = part[1];
    n->d = part[2];
    for (size_t i = 0; i < 3; i++) ji_deepen(c, n, part[i]);
    return n;
}

static struct ji_node *parse_postfix(struct ji *c, struct ji_node *n)
{
    while (c->st == ST_OK) {
        if (ji_is_op(c, "[")) {
            n = parse_subscript(c, n);
        } else if (ji_is_op(c, "(")) {
            n = parse_call(c, n);
        } else if (ji_skip_op(c, ".")) {
            if (c->token->type == T_INT) {
                n = over(c, N_ITEM, OP_NONE, n, literal(c, c->token->value));
                next(c);
                continue;
            }
            n = over(c, N_ATTR, OP_NONE, n, NULL);
            const struct ji_str *name = ji_expect_name(c);
            if (n) n->name = name;
        } else {
            break;
        }
    }
    return n;
}

/* A name with dots, as Jinja allows for filters and tests. */
static const struct ji_str *parse_dotted(struct ji *c)
{
    const struct ji_str *name = ji_expect_name(c);
    if (ji_is_op(c, ".")) {
        ji_fail(c, ST_UNSUPPORTED, "a dot behind the name \"%.*s\"",
                JI_SHOW(name));
    }
    return name;
}

static struct ji_node *parse_test(struct ji *c, struct ji_node *of)
{
    next(c);
    const bool negated = ji_skip_name(c, "not");
    struct ji_node *n = over(c, N_TEST, OP_NONE, of, NULL);
    const struct ji_str *name = parse_dotted(c);
    if (!n || c->st != ST_OK) return NULL;
    n->name = name;
    const enum ji_token_type type = c->token->type;
    if (ji_is_op(c, "(")) {
        struct ji_node *args = parse_args(c, n);
        n->b = args;
    } else if (type == T_STRING || type == T_INT || type == T_FLOAT ||
               ji_is_op(c, "[") || ji_is_op(c, "{") ||
               (type == T_NAME && !ji_is_name(c, "else") &&
                !ji_is_name(c, "or") && !ji_is_name(c, "and"))) {
        if (ji_is_name(c, "is")) ji_unexpected(c, "no second test");
        n->b = parse_postfix(c, parse_primary(c));
        ji_deepen(c, n, n->b);
    }
    return negated ? over(c, N_NOT, OP_NONE, n, NULL) : n;
}

static struct ji_node *parse_filter(struct ji *c, struct ji_node *of)
{
    struct ji_node *n = over(c, N_FILTER, OP_NONE, of, NULL);
    const struct ji_str *name = parse_dotted(c);
    if (n) n->name = name;
    if (ji_is_op(c, "(")) {
        struct ji_node *args = parse_args(c, n);
        if (n) n->b = args;
    }
    return n;
}

struct ji_node *ji_parse_filters(struct ji *c, struct ji_node *of)
{
    do {
        of = parse_filter(c, of);
    } while (ji_skip_op(c, "|"));
    return of;
}

static struct ji_node *parse_unary(struct ji *c, bool with_filter)
{
    struct ji_node *n;
    if (!ji_enter(c)) return NULL;
    if (ji_skip_op(c, "-")) {
        n = over(c, N_NEG, OP_NONE, parse_unary(c, false), NULL);
    } else if (ji_skip_op(c, "+")) {
        n = over(c, N_POS, OP_NONE, parse_unary(c, false), NULL);
    } else {
        n = parse_primary(c);
    }
    n = parse_postfix(c, n);
    while (with_filter && c->st == ST_OK) {
        if (ji_skip_op(c, "|")) {
            n = parse_filter(c, n);
        } else if (ji_is_name(c, "is")) {
            n = parse_test(c, n);
        } else if (ji_is_op(c, "(")) {
            n = parse_call(c, n);
        } else {
            break;
        }
    }
    ji_leave(c);
    return n;
}

/* ----------------------------------------------------------- operators */

struct binary {
    const char *text;
    enum ji_op op;
};

static enum ji_op skip_binary(struct ji *c, const struct binary *table)
{
    for (; table->text; table++) {
        if (ji_skip_op(c, table->text)) return table->op;
    }
    return OP_NONE;
}

/* level 0: + -, 1: ~, 2: * / // %, 3: ** */
static struct ji_node *parse_math(struct ji *c, int level)
{
    static const struct binary table[4][5] = {
        {{"+", OP_ADD}, {"-", OP_SUB}},
        {{"~", OP_CONCAT}},
        {{"*", OP_MUL}, {"/", OP_DIV}, {"//", OP_FLOORDIV}, {"%", OP_MOD}},
        {{"**", OP_POW}},
    };
    if (level == 4) return parse_unary(c, true);
    struct ji_node *left = parse_math(c, level + 1);
    enum ji_op op;
    while ((op = skip_binary(c, table[level])) != OP_NONE) {
        left = over(c, N_MATH, op, left, parse_math(c, level + 1));
    }
    return left;
}

static enum ji_op skip_comparison(struct ji *c)
{
    static const struct binary table[] = {
        {"==", OP_EQ}, {"!=", OP_NE}, {">", OP_GT},   {">=", OP_GE},
        {"<", OP_LT},  {"<=", OP_LE}, {NULL, OP_NONE}};
    if (ji_skip_name(c, "in")) return OP_IN;
    if (ji_is_name(c, "not") && c->token[1].type == T_NAME &&
        ji_str_is(c->token[1].text, "in")) {
        next(c);
        next(c);
        return OP_NOT_IN;
    }
    return skip_binary(c, table);
}

static struct ji_node *parse_compare(struct ji *c)
{
    struct ji_node *left = parse_math(c, 0);
    enum ji_op op = skip_comparison(c);
    if (op == OP_NONE) return left;
    struct ji_node *n = over(c, N_COMPARE, OP_NONE, left, NULL);
    struct ji_list_end operands = {0};
    for (; op != OP_NONE && c->st == ST_OK; op = skip_comparison(c)) {
        struct ji_node *o = over(c, N_OPERAND, op, parse_math(c, 0), NULL);
        ji_append_node(&operands, o);
        ji_deepen(c, n, o);
    }
    if (n) n->b = operands.first;
    return n;
}

static struct ji_node *parse_not(struct ji *c)
{
    size_t n_not = 0;
    while (ji_skip_name(c, "not")) n_not++;
    struct ji_node *n = parse_compare(c);
    while (n_not-- && c->st == ST_OK) n = over(c, N_NOT, OP_NONE, n, NULL);
    return n;
}

static struct ji_node *parse_and(struct ji *c)
{
    struct ji_node *left = parse_not(c);
    while (ji_skip_name(c, "and")) {
        left = over(c, N_AND, OP_NONE, left, parse_not(c));
    }
    return left;
}

struct ji_node *ji_parse_expr_no_if(struct ji *c)
{
    struct ji_node *left = parse_and(c);
    while (ji_skip_name(c, "or")) {
        left = over(c, N_OR, OP_NONE, left, parse_and(c));
    }
    return left;
}

struct ji_node *ji_parse_expr(struct ji *c)
{
    struct ji_node *n = ji_parse_expr_no_if(c);
    while (ji_skip_name(c, "if")) {
        struct ji_node *cond = ji_parse_expr_no_if(c);
        n = over(c, N_COND, OP_NONE, cond, n);
        if (!ji_skip_name(c, "else")) continue;
        if (!ji_enter(c)) return NULL;
        struct ji_node *other = ji_parse_expr(c);
        ji_leave(c);
        if (n) n->c = other;
        ji_deepen(c, n, other);
    }
    return n;
}

struct ji_node *ji_parse_tuple(struct ji *c, bool with_if)
{
    struct ji_node *first = with_if ? ji_parse_expr(c) : ji_parse_expr_no_if(c);
    if (!ji_is_op(c, ",")) return first;
    struct ji_node *n = ji_node(c, N_LIST);
    struct ji_list_end items = {0};
    ji_append_node(&items, first);
    ji_deepen(c, n, first);
    while (ji_skip_op(c, ",")) {
        if (ji_is_op(c, ")") || c->token->type == T_PRINT_END ||
            c->token->type == T_BLOCK_END) {
            break;
        }
        struct ji_node *item =
            with_if ? ji_parse_expr(c) : ji_parse_expr_no_if(c);
        ji_append_node(&items, item);
        ji_deepen(c, n, item);
    }
    if (n) {
        n->a = items.first;
        n->op = OP_CONCAT; /* marks a tuple */
    }
    return n;
}

/* ------------------------------------------------------------- targets */

static struct ji_node *parse_one_target(struct ji *c, bool attributes)
{
    if (ji_skip_op(c, "(")) {
        if (!ji_enter(c)) return NULL;
        struct ji_node *n = ji_parse_target(c, false);
        ji_leave(c);
        ji_expect_op(c, ")");
        return n;
    }
    struct ji_node *n = ji_node(c, N_NAME);
    const struct ji_str *name = ji_expect_name(c);
    static const char *const fixed[] = {"true",  "True", "false",
                                        "False", "none", "None"};
    for (size_t i = 0; i < COUNT_OF(fixed) && c->st == ST_OK; i++) {
        if (ji_str_is(name, fixed[i])) {
            ji_fail(c, ST_INVALID, "\"%s\" cannot be set", fixed[i]);
        }
    }
    if (!n) return NULL;
    n->name = name;
    if (!attributes || !ji_skip_op(c, ".")) return n;
    struct ji_node *attr = over(c, N_ATTR, OP_NONE, n, NULL);
    name = ji_expect_name(c);
    if (attr) attr->name = name;
    return attr;
}

struct ji_node *ji_parse_target(struct ji *c, bool attributes)
{
    struct ji_node *first = parse_one_target(c, attributes);
    if (!ji_is_op(c, ",")) return first;
    struct ji_node *n = ji_node(c, N_LIST);
    struct ji_list_end items = {0};
    ji_append_node(&items, first);
    ji_deepen(c, n, first);
    while (ji_skip_op(c, ",")) {
        if (c->st == ST_OK && c->token->type != T_NAME && !ji_is_op(c, "(")) {
            break;
        }
        struct ji_node *item = parse_one_target(c, attributes);
        ji_append_node(&items, item);
        ji_deepen(c, n, item);
    }
    if (n) n->a = items.first;
    return n;
}

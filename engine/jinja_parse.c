/* jinja_parse.c - tokens to statements. */
#include "engine/jinja_internal.h"

/* Statements end at "{% NAME", which is left to the caller to look at. */

static bool at_block(const struct ji *c, const char *name)
{
    return c->st == ST_OK && c->token->type == T_BLOCK_BEGIN &&
           c->token[1].type == T_NAME && ji_str_is(c->token[1].text, name);
}

static void skip_token(struct ji *c, enum ji_token_type type,
                       const char *wanted)
{
    if (c->st != ST_OK) return;
    if (c->token->type != type) {
        ji_unexpected(c, wanted);
        return;
    }
    c->token++;
    c->line = c->token->line;
}

static void end_tag(struct ji *c)
{
    skip_token(c, T_BLOCK_END, "%}");
}

/* {% NAME %} that closes a block opened in this line. */
static void close_block(struct ji *c, const char *name, uint32_t opened)
{
    if (c->st != ST_OK) return;
    if (!at_block(c, name)) {
        c->line = opened;
        ji_fail(c, ST_INVALID, "this block has no {%% %s %%} of its own", name);
        return;
    }
    c->token += 2;
    c->line = c->token->line;
    /* {% endmacro NAME %} */
    if (strcmp(name, "endmacro") == 0 && c->token->type == T_NAME) c->token++;
    end_tag(c);
}

/* The body and its closing tag. */
static struct ji_node *parse_block(struct ji *c, struct ji_node *of,
                                   const char *end)
{
    end_tag(c);
    struct ji_node *body = ji_parse_body(c);
    if (of) close_block(c, end, of->line);
    return body;
}

static struct ji_node *parse_if(struct ji *c)
{
    struct ji_node *n = ji_node(c, N_IF);
    struct ji_list_end branches = {0};
    for (bool last = false; c->st == ST_OK;) {
        struct ji_node *branch = ji_node(c, N_BRANCH);
        struct ji_node *cond = last ? NULL : ji_parse_tuple(c, true);
        end_tag(c);
        struct ji_node *body = ji_parse_body(c);
        if (c->st != ST_OK) return NULL;
        branch->a = cond;
        branch->b = body;
        ji_append_node(&branches, branch);
        if (last || (!at_block(c, "elif") && !at_block(c, "else"))) break;
        last = at_block(c, "else");
        c->token += 2;
        c->line = c->token->line;
    }
    if (!n) return NULL;
    close_block(c, "endif", n->line);
    n->a = branches.first;
    return n;
}

static struct ji_node *parse_for(struct ji *c)
{
    struct ji_node *n = ji_node(c, N_FOR);
    struct ji_node *target = ji_parse_target(c, false);
    if (!ji_skip_name(c, "in")) ji_unexpected(c, "in");
    struct ji_node *over = ji_parse_tuple(c, false);
    struct ji_node *filter = ji_skip_name(c, "if") ? ji_parse_expr(c) : NULL;
    if (ji_is_name(c, "recursive")) {
        ji_fail(c, ST_UNSUPPORTED, "recursive loops are not supported");
    }
    end_tag(c);
    c->n_loops++;
    struct ji_node *body = ji_parse_body(c);
    c->n_loops--;
    struct ji_node *other = NULL;
    if (at_block(c, "else")) {
        c->token += 2;
        end_tag(c);
        other = ji_parse_body(c);
    }
    if (!n) return NULL;
    close_block(c, "endfor", n->line);
    n->a = target;
    n->b = over;
    n->c = filter;
    n->d = body;
    n->e = other;
    return n;
}

static struct ji_node *parse_set(struct ji *c)
{
    struct ji_node *n = ji_node(c, N_SET);
    struct ji_node *target = ji_parse_target(c, true);
    if (!n) return NULL;
    n->a = target;
    if (ji_skip_op(c, "=")) {
        n->b = ji_parse_tuple(c, true);
        end_tag(c);
        return n;
    }
    n->type = N_SET_BLOCK;
    n->b = ji_node(c, N_CAPTURED);
    if (ji_skip_op(c, "|")) n->b = ji_parse_filters(c, n->b);
    n->d = parse_block(c, n, "endset");
    return n;
}

/* (a, b=1): a list of N_PARAM */
static struct ji_node *parse_params(struct ji *c)
{
    struct ji_list_end params = {0};
    bool defaults = false;
    ji_expect_op(c, "(");
    while (c->st == ST_OK && !ji_is_op(c, ")")) {
        struct ji_node *p = ji_node(c, N_PARAM);
        const struct ji_str *name = ji_expect_name(c);
        if (!p) return NULL;
        p->name = name;
        if (ji_skip_op(c, "=")) {
            p->a = ji_parse_expr(c);
            defaults = true;
        } else if (defaults) {
            ji_fail(c, ST_INVALID,
                    "a parameter without default after one with");
        }
        ji_append_node(&params, p);
        if (!ji_skip_op(c, ",")) break;
    }
    ji_expect_op(c, ")");
    return params.first;
}

/* No break or continue reaches out of what is called or captured. */
static struct ji_node *parse_outside_loops(struct ji *c, struct ji_node *of,
                                           const char *end)
{
    const uint32_t loops = c->n_loops;
    c->n_loops = 0;
    struct ji_node *body = parse_block(c, of, end);
    c->n_loops = loops;
    return body;
}

static struct ji_node *parse_macro(struct ji *c)
{
    struct ji_node *n = ji_node(c, N_MACRO);
    const struct ji_str *name = ji_expect_name(c);
    struct ji_node *params = parse_params(c);
    if (!n) return NULL;
    n->name = name;
    n->a = params;
    n->d = parse_outside_loops(c, n, "endmacro");
    return n;
}

static struct ji_node *parse_call_block(struct ji *c)
{
    struct ji_node *n = ji_node(c, N_CALL_BLOCK);
    struct ji_node *params = ji_is_op(c, "(") ? parse_params(c) : NULL;
    struct ji_node *call = ji_parse_expr(c);
    if (!n || !call) return NULL;
    if (call->type != N_CALL) {
        ji_fail(c, ST_INVALID, "{%% call %%} needs a call");
    }
    n->a = params;
    n->b = call;
    n->name = ji_str_new(c, "caller", 6, false);
    n->d = parse_outside_loops(c, n, "endcall");
    return n;
}

static struct ji_node *parse_filter_block(struct ji *c)
{
    struct ji_node *n = ji_node(c, N_FILTER_BLOCK);
    struct ji_node *chain = ji_parse_filters(c, ji_node(c, N_CAPTURED));
    if (!n) return NULL;
    n->b = chain;
    n->d = parse_block(c, n, "endfilter");
    return n;
}

static struct ji_node *parse_with(struct ji *c)
{
    struct ji_node *n = ji_node(c, N_WITH);
    struct ji_list_end sets = {0};
    while (c->st == ST_OK && c->token->type != T_BLOCK_END) {
        struct ji_node *set = ji_node(c, N_SET);
        struct ji_node *target = ji_parse_target(c, false);
        ji_expect_op(c, "=");
        struct ji_node *value = ji_parse_expr(c);
        if (!set) return NULL;
        set->a = target;
        set->b = value;
        ji_append_node(&sets, set);
        if (!ji_skip_op(c, ",")) break;
    }
    if (!n) return NULL;
    n->a = sets.first;
    n->d = parse_block(c, n, "endwith");
    return n;
}

/* Marks what the assistant said, for training; prints as if it were not
 * there, in a scope of its own. */
static struct ji_node *parse_generation(struct ji *c)
{
    struct ji_node *n = ji_node(c, N_SCOPE);
    struct ji_node *body = parse_block(c, n, "endgeneration");
    if (n) n->d = body;
    return n;
}

static struct ji_node *parse_jump(struct ji *c, enum ji_type type)
{
    if (!c->n_loops) {
        ji_fail(c, ST_INVALID, "break and continue stand only in a loop");
    }
    struct ji_node *n = ji_node(c, type);
    end_tag(c);
    return n;
}

static struct ji_node *parse_break(struct ji *c)
{
    return parse_jump(c, N_BREAK);
}
static struct ji_node *parse_continue(struct ji *c)
{
    return parse_jump(c, N_CONTINUE);
}

static const struct {
    const char *name;
    struct ji_node *(*parse)(struct ji *c);
} statements[] = {
    {"if", parse_if},           {"for", parse_for},
    {"set", parse_set},         {"macro", parse_macro},
    {"call", parse_call_block}, {"filter", parse_filter_block},
    {"with", parse_with},       {"generation", parse_generation},
    {"break", parse_break},     {"continue", parse_continue},
};

/* Names that end a body; which one fits is for the caller to say. */
static bool ends_body(const struct ji *c)
{
    static const char *const names[] = {"elif", "else"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (at_block(c, names[i])) return true;
    }
    const struct ji_token *t = c->token + 1;
    return t->type == T_NAME && t->text->len > 3 &&
           memcmp(t->text->data, "end", 3) == 0;
}

static struct ji_node *parse_statement(struct ji *c)
{
    skip_token(c, T_BLOCK_BEGIN, "{%");
    const struct ji_str *name = ji_expect_name(c);
    for (size_t i = 0; i < COUNT_OF(statements) && c->st == ST_OK; i++) {
        if (ji_str_is(name, statements[i].name)) return statements[i].parse(c);
    }
    if (name) {
        ji_fail(c, ST_UNSUPPORTED, "the statement {%% %.*s %%} is unknown",
                JI_SHOW(name));
    }
    return NULL;
}

static struct ji_node *parse_text(struct ji *c)
{
    struct ji_node *n = ji_node(c, N_TEXT);
    if (n) n->value = ji_string(c->token->text);
    skip_token(c, T_TEXT, "text");
    return n;
}

static struct ji_node *parse_print(struct ji *c)
{
    skip_token(c, T_PRINT_BEGIN, "{{");
    struct ji_node *n = ji_node(c, N_PRINT);
    struct ji_node *e = ji_parse_tuple(c, true);
    if (n) n->a = e;
    skip_token(c, T_PRINT_END, "}}");
    return n;
}

struct ji_node *ji_parse_body(struct ji *c)
{
    struct ji_list_end body = {0};
    if (!ji_enter(c)) return NULL;
    while (c->st == ST_OK && c->token->type != T_END) {
        c->line = c->token->line;
        struct ji_node *n;
        if (c->token->type == T_TEXT) {
            n = parse_text(c);
        } else if (c->token->type == T_PRINT_BEGIN) {
            n = parse_print(c);
        } else if (ends_body(c)) {
            break;
        } else {
            n = parse_statement(c);
        }
        ji_append_node(&body, n);
    }
    ji_leave(c);
    return body.first;
}

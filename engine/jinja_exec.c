/* jinja_exec.c - statements, and the scopes that they make: a loop's body,
 * a macro's, what is captured; an if has none. */
#include "engine/jinja_internal.h"

/* -------------------------------------------------------------- scopes */

struct ji_scope *ji_scope_new(struct ji *c, struct ji_scope *parent)
{
    struct ji_scope *s = ji_alloc(c, sizeof *s);
    if (s) s->parent = parent;
    return s;
}

static struct ji_value *find_here(struct ji *c, struct ji_scope *s,
                                  const struct ji_str *name)
{
    if (!ji_tick(c, s->n / 8)) return NULL;
    for (size_t i = 0; i < s->n; i++) {
        if (ji_str_eq(s->var[i].name, name)) return &s->var[i].value;
    }
    return NULL;
}

struct ji_value *ji_scope_find(struct ji *c, struct ji_scope *s,
                               const struct ji_str *name)
{
    for (; s; s = s->parent) {
        struct ji_value *v = find_here(c, s, name);
        if (v || c->st != ST_OK) return v;
    }
    return NULL;
}

void ji_scope_set(struct ji *c, struct ji_scope *s, const struct ji_str *name,
                  struct ji_value v)
{
    if (c->st != ST_OK || !s) return;
    struct ji_value *there = find_here(c, s, name);
    if (c->st != ST_OK) return;
    if (there) {
        *there = v;
        return;
    }
    struct ji_var *var = ji_grow(c, s->var, s->n, &s->cap, sizeof *s->var);
    if (!var) return;
    s->var = var;
    var[s->n++] = (struct ji_var){name, v};
}

/* Runs list in a scope of its own. */
static enum ji_flow exec_inside(struct ji *c, const struct ji_node *list)
{
    struct ji_scope *outer = c->scope;
    c->scope = ji_scope_new(c, outer);
    const enum ji_flow flow = c->scope ? ji_exec(c, list) : FLOW_NEXT;
    c->scope = outer;
    return flow;
}

struct ji_value ji_capture(struct ji *c, const struct ji_node *list)
{
    struct ji_out text = {0}, *outer = c->out;
    c->out = &text;
    (void)exec_inside(c, list);
    c->out = outer;
    return ji_out_value(c, &text);
}

/* ---------------------------------------------------------- assignment */

static void assign(struct ji *c, const struct ji_node *target,
                   struct ji_value v);

static void unpack(struct ji *c, const struct ji_node *target,
                   struct ji_value v)
{
    const struct ji_list *l = ji_iterate(c, v);
    size_t n = 0;
    for (const struct ji_node *t = target->a; t; t = t->next) n++;
    if (c->st != ST_OK) return;
    if (l->n != n) {
        ji_fail(c, ST_INVALID, "%zu values for %zu names", l->n, n);
        return;
    }
    n = 0;
    for (const struct ji_node *t = target->a; t; t = t->next) {
        assign(c, t, ji_list_at(l, n++));
    }
}

static void assign(struct ji *c, const struct ji_node *target,
                   struct ji_value v)
{
    if (c->st != ST_OK) return;
    if (target->type == N_NAME) {
        ji_scope_set(c, c->scope, target->name, v);
    } else if (target->type == N_LIST) {
        unpack(c, target, v);
    } else {
        const struct ji_value ns = ji_eval(c, target->a);
        if (c->st == ST_OK && (ns.kind != JI_NAMESPACE || ns.dict->loop)) {
            ji_fail(c, ST_INVALID, "only a namespace()'s attributes are set");
        }
        if (c->st == ST_OK) {
            ji_dict_set(c, ns.dict, ji_string(target->name), v);
        }
    }
}

/* --------------------------------------------------------------- loops */

enum {
    L_INDEX,
    L_INDEX0,
    L_REVINDEX,
    L_REVINDEX0,
    L_FIRST,
    L_LAST,
    L_LENGTH,
    L_PREVIOUS,
    L_NEXT,
    L_DEPTH,
    L_DEPTH0,
    L_COUNT
};

static struct ji_value loop_new(struct ji *c)
{
    static const char *const names[L_COUNT] = {
        "index",  "index0",   "revindex", "revindex0", "first", "last",
        "length", "previtem", "nextitem", "depth",     "depth0"};
    const struct ji_value loop = ji_dict_new(c, JI_NAMESPACE);
    for (size_t i = 0; i < L_COUNT; i++) {
        const struct ji_value name = ji_text(c, names[i]);
        if (c->st == ST_OK) ji_dict_set(c, loop.dict, name, ji_int(1));
    }
    if (c->st != ST_OK) return loop;
    loop.dict->loop = true;
    loop.dict->e[L_DEPTH0].value = ji_int(0);
    return loop;
}

static void loop_at(struct ji_value loop, const struct ji_list *l, size_t i)
{
    const struct ji_value none = ji_undefined(NULL);
    struct ji_entry *e = loop.dict->e;
    e[L_INDEX].value = ji_int((int64_t)i + 1);
    e[L_INDEX0].value = ji_int((int64_t)i);
    e[L_REVINDEX].value = ji_int((int64_t)(l->n - i));
    e[L_REVINDEX0].value = ji_int((int64_t)(l->n - i) - 1);
    e[L_FIRST].value = ji_bool(i == 0);
    e[L_LAST].value = ji_bool(i + 1 == l->n);
    e[L_LENGTH].value = ji_int((int64_t)l->n);
    e[L_PREVIOUS].value = i ? ji_list_at(l, i - 1) : none;
    e[L_NEXT].value = i + 1 < l->n ? ji_list_at(l, i + 1) : none;
}

/* The items for which the condition holds. */
static struct ji_list *filtered(struct ji *c, const struct ji_node *n,
                                const struct ji_list *all)
{
    const struct ji_value kept = ji_list_new(c, 0);
    struct ji_scope *outer = c->scope;
    for (size_t i = 0; i < all->n && c->st == ST_OK; i++) {
        c->scope = ji_scope_new(c, outer);
        assign(c, n->a, ji_list_at(all, i));
        if (c->st == ST_OK && ji_truth(ji_eval(c, n->c))) {
            ji_list_push(c, kept.list, ji_list_at(all, i));
        }
    }
    c->scope = outer;
    return c->st == ST_OK ? kept.list : NULL;
}

static void exec_for(struct ji *c, const struct ji_node *n)
{
    const struct ji_list *l = ji_iterate(c, ji_eval(c, n->b));
    if (c->st == ST_OK && n->c) l = filtered(c, n, l);
    if (c->st != ST_OK) return;
    if (l->n == 0) {
        (void)exec_inside(c, n->e);
        return;
    }
    const struct ji_list all = *l; /* the body may append to it */
    const struct ji_value loop = loop_new(c);
    const struct ji_value name = ji_text(c, "loop");
    struct ji_scope *outer = c->scope;
    for (size_t i = 0; i < all.n && ji_tick(c, 1); i++) {
        c->scope = ji_scope_new(c, outer);
        loop_at(loop, &all, i);
        ji_scope_set(c, c->scope, name.s, loop);
        assign(c, n->a, ji_list_at(&all, i));
        if (c->st == ST_OK && ji_exec(c, n->d) == FLOW_BREAK) break;
    }
    c->scope = outer;
}

/* ------------------------------------------------------------ the rest */

static enum ji_flow exec_if(struct ji *c, const struct ji_node *n)
{
    for (const struct ji_node *b = n->a; b && c->st == ST_OK; b = b->next) {
        if (!b->a || ji_truth(ji_eval(c, b->a))) {
            return c->st == ST_OK ? ji_exec(c, b->b) : FLOW_NEXT;
        }
    }
    return FLOW_NEXT;
}

static struct ji_value macro_new(struct ji *c, const struct ji_node *n)
{
    struct ji_macro *m = ji_alloc(c, sizeof *m);
    if (!m) return ji_undefined(NULL);
    *m = (struct ji_macro){.node = n, .scope = c->scope};
    return (struct ji_value){.kind = JI_MACRO, .macro = m};
}

static void exec_call_block(struct ji *c, const struct ji_node *n)
{
    struct ji_args args;
    const struct ji_value f = ji_eval(c, n->b->a);
    ji_eval_args(c, n->b->b, &args);
    if (c->st != ST_OK) return;
    args.kw[args.n_kw].name = n->name; /* room was left for one more */
    args.kw[args.n_kw++].value = macro_new(c, n);
    const struct ji_value v = ji_call(c, f, &args);
    if (c->st == ST_OK) ji_print(c, c->out, v);
}

/* The value of n->b, in which N_CAPTURED is what n->d prints. */
static struct ji_value filtered_text(struct ji *c, const struct ji_node *n)
{
    const struct ji_value text = ji_capture(c, n->d);
    const struct ji_value outer = c->captured;
    c->captured = text;
    const struct ji_value v =
        c->st == ST_OK ? ji_eval(c, n->b) : ji_undefined(NULL);
    c->captured = outer;
    return v;
}

static enum ji_flow exec_with(struct ji *c, const struct ji_node *n)
{
    struct ji_scope *outer = c->scope, *inner = ji_scope_new(c, outer);
    /* all values are computed outside */
    for (const struct ji_node *s = n->a; s && c->st == ST_OK; s = s->next) {
        const struct ji_value v = ji_eval(c, s->b);
        c->scope = inner;
        assign(c, s->a, v);
        c->scope = outer;
    }
    c->scope = inner;
    const enum ji_flow flow = c->st == ST_OK ? ji_exec(c, n->d) : FLOW_NEXT;
    c->scope = outer;
    return flow;
}

static enum ji_flow exec_one(struct ji *c, const struct ji_node *n)
{
    struct ji_value v;
    switch ((int)n->type) {
    case N_TEXT:
        ji_put_str(c, c->out, n->value.s);
        break;
    case N_PRINT:
        v = ji_eval(c, n->a);
        if (c->st == ST_OK) ji_print(c, c->out, v);
        break;
    case N_IF:
        return exec_if(c, n);
    case N_FOR:
        exec_for(c, n);
        break;
    case N_SET:
        assign(c, n->a, ji_eval(c, n->b));
        break;
    case N_SET_BLOCK:
        assign(c, n->a, filtered_text(c, n));
        break;
    case N_MACRO:
        ji_scope_set(c, c->scope, n->name, macro_new(c, n));
        break;
    case N_CALL_BLOCK:
        exec_call_block(c, n);
        break;
    case N_FILTER_BLOCK:
        v = filtered_text(c, n);
        if (c->st == ST_OK) ji_print(c, c->out, v);
        break;
    case N_WITH:
        return exec_with(c, n);
    case N_SCOPE:
        return exec_inside(c, n->d);
    case N_BREAK:
        return FLOW_BREAK;
    case N_CONTINUE:
        return FLOW_CONTINUE;
    default:
        break;
    }
    return FLOW_NEXT;
}

enum ji_flow ji_exec(struct ji *c, const struct ji_node *list)
{
    enum ji_flow flow = FLOW_NEXT;
    if (!ji_enter(c)) return flow;
    for (const struct ji_node *n = list; n && flow == FLOW_NEXT; n = n->next) {
        if (!ji_tick(c, 1)) break;
        c->line = n->line;
        flow = exec_one(c, n);
    }
    ji_leave(c);
    return flow;
}

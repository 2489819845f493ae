/* jinja.c - entry points of the template interpreter, its arena, its errors. */
#include "engine/jinja.h"

#include <stdarg.h>
#include <stdio.h>

#include "engine/jinja_internal.h"

/* The first block is small, as most templates are; later ones double. */
#define BLOCK_FIRST 8192
#define BLOCK_LAST  ((size_t)4 << 20)
#define ALIGN       16

/* Expressions, blocks and macros in each other at any moment: a few deep
 * macros, and some 600 bytes of stack for each level. */
#define RENDER_NEST_MAX (4 * JINJA_NEST_MAX)

_Static_assert(sizeof(struct ji_block) % ALIGN == 8, "header: three words");

static void arena_fini(struct ji_arena *a)
{
    while (a->first) {
        struct ji_block *next = a->first->next;
        mem_free(a->first);
        a->first = next;
    }
    a->total = 0;
}

/* Data begins at a multiple of ALIGN behind the header. */
static size_t header_bytes(void)
{
    return (sizeof(struct ji_block) + ALIGN - 1) / ALIGN * ALIGN;
}

void *ji_alloc(struct ji *c, size_t n)
{
    if (c->st != ST_OK) return NULL;
    struct ji_arena *a = &c->arena;
    if (n > JINJA_MEMORY_MAX - a->total) {
        ji_fail(c, ST_TOO_LARGE, "more than %u MiB of memory would be needed",
                JINJA_MEMORY_MAX >> 20);
        return NULL;
    }
    n = (n + ALIGN - 1) / ALIGN * ALIGN;
    struct ji_block *b = a->first;
    if (!b || n > b->cap - b->used) {
        size_t cap = b ? 2 * b->cap : BLOCK_FIRST;
        if (cap > BLOCK_LAST) cap = BLOCK_LAST;
        if (cap < n) cap = n;
        b = mem_alloc(header_bytes() + cap);
        if (!b) {
            ji_fail(c, ST_NO_MEMORY, "no memory for %zu bytes", cap);
            return NULL;
        }
        *b = (struct ji_block){.next = a->first, .cap = cap};
        a->first = b;
    }
    char *p = (char *)b + header_bytes() + b->used;
    b->used += n;
    a->total += n;
    memset(p, 0, n);
    return p;
}

void *ji_array(struct ji *c, size_t n, size_t item_bytes)
{
    size_t bytes;
    if (!size_mul(n, item_bytes, &bytes)) bytes = SIZE_MAX;
    return ji_alloc(c, bytes);
}

void *ji_grow(struct ji *c, void *items, size_t n, size_t *cap,
              size_t item_bytes)
{
    if (n < *cap) return c->st == ST_OK ? items : NULL;
    const size_t wider = *cap ? 2 * *cap : 4;
    void *p = ji_array(c, wider, item_bytes);
    if (!p) return NULL;
    if (n) memcpy(p, items, n * item_bytes);
    *cap = wider;
    return p;
}

struct ji_value ji_fail(struct ji *c, enum status st, const char *fmt, ...)
{
    if (c->st != ST_OK) return ji_undefined(NULL);
    c->st = st;
    char text[240];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    /* templates' and messages' words may have lines */
    for (char *p = text; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f) *p = ' ';
    }
    if (c->line) {
        error_set(c->err, st, "chat template, line %u: %s", c->line, text);
    } else {
        error_set(c->err, st, "%s", text);
    }
    return ji_undefined(NULL);
}

bool ji_tick(struct ji *c, size_t n)
{
    if (c->st != ST_OK) return false;
    if (n >= JINJA_STEPS_MAX - c->steps) {
        ji_fail(c, ST_TOO_LARGE, "more than %u steps", JINJA_STEPS_MAX);
        return false;
    }
    c->steps += (uint32_t)n;
    return true;
}

bool ji_enter(struct ji *c)
{
    if (c->st == ST_OK && c->nest >= c->nest_max) {
        ji_fail(c, ST_TOO_LARGE, "nested more than %u deep", c->nest_max);
    }
    if (c->st != ST_OK) return false;
    c->nest++;
    return true;
}

void ji_leave(struct ji *c)
{
    c->nest--;
}

/* ------------------------------------------------------- entry points */

enum status jinja_parse(struct jinja **out, const char *source, size_t n,
                        struct error *err)
{
    if (n > JINJA_SOURCE_MAX) {
        return error_set(err, ST_TOO_LARGE,
                         "chat template: %zu bytes, limit %u", n,
                         JINJA_SOURCE_MAX);
    }
    struct ji c = {.err = err, .line = 1, .nest_max = JINJA_NEST_MAX};
    c.token = ji_lex(&c, source, n);
    struct ji_node *body = c.st == ST_OK ? ji_parse_body(&c) : NULL;
    if (c.st == ST_OK && c.token->type != T_END) {
        ji_unexpected(&c, "nothing more");
    }
    struct jinja *t = c.st == ST_OK ? mem_zalloc(sizeof *t) : NULL;
    if (c.st == ST_OK && !t) {
        c.line = 0;
        ji_fail(&c, ST_NO_MEMORY, "chat template: %zu bytes", sizeof *t);
    }
    if (c.st != ST_OK || !t) {
        arena_fini(&c.arena);
        return c.st;
    }
    t->arena = c.arena;
    t->body = body;
    *out = t;
    return ST_OK;
}

void jinja_free(struct jinja *t)
{
    if (!t) return;
    arena_fini(&t->arena);
    mem_free(t);
}

void jinja_output_fini(struct jinja_output *o)
{
    buf_fini(&o->text);
    mem_free(o->span);
    *o = (struct jinja_output){0};
}

static size_t count_spans(const struct ji_out *o)
{
    size_t n = 0;
    for (size_t i = 0; i < o->len; i++) {
        n += o->mark[i] && (i == 0 || !o->mark[i - 1]);
    }
    return n;
}

static enum status publish(const struct ji_out *o, struct jinja_output *out,
                           struct error *err)
{
    struct jinja_output made = {0};
    buf_init(&made.text, JINJA_OUTPUT_MAX);
    enum status st = buf_append(&made.text, o->data ? o->data : "", o->len);
    const size_t n = count_spans(o);
    if (st == ST_OK && n) {
        made.span = mem_zalloc_array(n, sizeof *made.span);
        if (!made.span) st = ST_NO_MEMORY;
    }
    if (st != ST_OK) {
        jinja_output_fini(&made);
        return error_set(err, st, "chat template: the text has %zu bytes",
                         o->len);
    }
    for (size_t i = 0; n && i < o->len; i++) {
        if (!o->mark[i]) continue;
        if (i == 0 || !o->mark[i - 1]) made.span[made.n_spans++].begin = i;
        made.span[made.n_spans - 1].end = i + 1;
    }
    jinja_output_fini(out);
    *out = made;
    return ST_OK;
}

enum status jinja_render(const struct jinja *t, const struct jinja_var *var,
                         size_t n_vars, int64_t now, struct jinja_output *out,
                         struct error *err)
{
    struct ji_out text = {0};
    struct ji c = {
        .err = err, .now = now, .out = &text, .nest_max = RENDER_NEST_MAX};
    c.scope = ji_scope_new(&c, NULL);
    for (size_t i = 0; i < n_vars && c.st == ST_OK; i++) {
        const struct ji_value v =
            var[i].text ? ji_string(ji_str_new(&c, var[i].text, var[i].len,
                                               var[i].input))
                        : ji_from_json(&c, var[i].json, var[i].input);
        ji_scope_set(&c, c.scope,
                     ji_str_new(&c, var[i].name, strlen(var[i].name), false),
                     v);
    }
    /* the template's own names come after the caller's, and hide them */
    c.scope = ji_scope_new(&c, c.scope);
    if (c.st == ST_OK) ji_exec(&c, t->body);
    enum status st = c.st;
    if (st == ST_OK) st = publish(&text, out, err);
    arena_fini(&c.arena);
    return st;
}

/* jinja_value.c - values: strings with marks, lists, dictionaries, order. */
#include "common/utf8.h"
#include "engine/jinja_internal.h"

struct ji_value ji_none(void)
{
    return (struct ji_value){.kind = JI_NONE};
}
struct ji_value ji_bool(bool b)
{
    return (struct ji_value){.kind = JI_BOOL, .b = b};
}
struct ji_value ji_int(int64_t i)
{
    return (struct ji_value){.kind = JI_INT, .i = i};
}
struct ji_value ji_float(double f)
{
    return (struct ji_value){.kind = JI_FLOAT, .f = f};
}
struct ji_value ji_undefined(const struct ji_str *name)
{
    return (struct ji_value){.kind = JI_UNDEFINED, .s = name};
}
struct ji_value ji_string(const struct ji_str *s)
{
    if (!s) return ji_undefined(NULL);
    return (struct ji_value){.kind = JI_STRING, .s = s};
}
struct ji_value ji_text(struct ji *c, const char *literal)
{
    return ji_string(ji_str_new(c, literal, strlen(literal), false));
}

/* ------------------------------------------------------------- strings */

const struct ji_str *ji_str_new(struct ji *c, const char *data, size_t len,
                                bool input)
{
    struct ji_str *s = ji_alloc(c, sizeof *s);
    if (s) *s = (struct ji_str){.data = data, .len = len, .input = input};
    return s;
}

const struct ji_str *ji_str_slice(struct ji *c, const struct ji_str *s,
                                  size_t begin, size_t end)
{
    if (begin == 0 && end == s->len) return s;
    struct ji_str *slice = ji_alloc(c, sizeof *slice);
    if (!slice) return NULL;
    *slice = (struct ji_str){.data = s->data + begin,
                             .mark = s->mark ? s->mark + begin : NULL,
                             .len = end - begin,
                             .input = s->input};
    return slice;
}

bool ji_str_is(const struct ji_str *s, const char *text)
{
    const size_t n = strlen(text);
    return s->len == n && (n == 0 || memcmp(s->data, text, n) == 0);
}

bool ji_str_eq(const struct ji_str *a, const struct ji_str *b)
{
    return a->len == b->len &&
           (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

bool ji_str_mark(const struct ji_str *s, size_t i)
{
    return s->mark ? s->mark[i] : s->input;
}

bool ji_str_has_input(const struct ji_str *s)
{
    return s->mark ? s->len && memchr(s->mark, 1, s->len) : s->input;
}

static bool out_room(struct ji *c, struct ji_out *o, size_t n)
{
    if (!ji_tick(c, n / 64)) return false;
    if (n > JINJA_OUTPUT_MAX - o->len) {
        ji_fail(c, ST_TOO_LARGE, "a text of more than %u MiB",
                JINJA_OUTPUT_MAX >> 20);
        return false;
    }
    if (n <= o->cap - o->len) return true;
    size_t cap = o->cap ? 2 * o->cap : 32;
    if (cap < o->len + n) cap = o->len + n;
    char *data = ji_alloc(c, cap), *mark = ji_alloc(c, cap);
    if (!data || !mark) return false;
    if (o->len) {
        memcpy(data, o->data, o->len);
        memcpy(mark, o->mark, o->len);
    }
    o->data = data;
    o->mark = mark;
    o->cap = cap;
    return true;
}

void ji_put(struct ji *c, struct ji_out *o, const char *data, size_t n,
            bool input)
{
    if (n == 0 || !out_room(c, o, n)) return;
    memcpy(o->data + o->len, data, n);
    memset(o->mark + o->len, input, n);
    o->len += n;
}

void ji_put_slice(struct ji *c, struct ji_out *o, const struct ji_str *s,
                  size_t begin, size_t end)
{
    const size_t n = end - begin;
    if (n == 0 || !out_room(c, o, n)) return;
    memcpy(o->data + o->len, s->data + begin, n);
    if (s->mark) {
        memcpy(o->mark + o->len, s->mark + begin, n);
    } else {
        memset(o->mark + o->len, s->input, n);
    }
    o->len += n;
}

void ji_put_str(struct ji *c, struct ji_out *o, const struct ji_str *s)
{
    if (s) ji_put_slice(c, o, s, 0, s->len);
}

void ji_put_times(struct ji *c, struct ji_out *o, const struct ji_str *s,
                  size_t times)
{
    const size_t from = o->len, all = s->len * times;
    if (all == 0 || !out_room(c, o, all)) return;
    ji_put_str(c, o, s);
    /* what is there once more, until it is enough */
    while (c->st == ST_OK && o->len - from < all) {
        const size_t done = o->len - from;
        const size_t n = done < all - done ? done : all - done;
        memcpy(o->data + o->len, o->data + from, n);
        memcpy(o->mark + o->len, o->mark + from, n);
        o->len += n;
    }
}

struct ji_value ji_out_value(struct ji *c, const struct ji_out *o)
{
    struct ji_str *s = ji_alloc(c, sizeof *s);
    if (!s) return ji_undefined(NULL);
    *s = (struct ji_str){
        .data = o->data ? o->data : "", .mark = o->mark, .len = o->len};
    return ji_string(s);
}

/* ---------------------------------------------------------- characters */

size_t ji_char_len(const char *p, size_t n)
{
    const int len = utf8_sequence((const unsigned char *)p, n);
    return len > 0 ? (size_t)len : 1;
}

uint32_t ji_decode(const char *p, size_t n)
{
    const unsigned char *u = (const unsigned char *)p;
    if (n == 1) return u[0];
    uint32_t point = u[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) point = point << 6 | (u[i] & 0x3f);
    return point;
}

size_t ji_encode(uint32_t point, char out[4])
{
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    const size_t n = point < 0x80      ? 1
                     : point < 0x800   ? 2
                     : point < 0x10000 ? 3
                                       : 4;
    if (n == 1) {
        out[0] = (char)point;
        return 1;
    }
    for (size_t i = n; i-- > 1; point >>= 6) {
        out[i] = (char)(0x80 | (point & 0x3f));
    }
    out[0] = (char)(lead[n] | point);
    return n;
}

/* What Python's str.isspace says. */
bool ji_is_space(uint32_t p)
{
    return (p >= 9 && p <= 13) || (p >= 0x1c && p <= 0x20) || p == 0x85 ||
           p == 0xa0 || p == 0x1680 || (p >= 0x2000 && p <= 0x200a) ||
           p == 0x2028 || p == 0x2029 || p == 0x202f || p == 0x205f ||
           p == 0x3000;
}

size_t ji_char_at(const struct ji_str *s, size_t i)
{
    size_t at = 0;
    while (i-- && at < s->len) at += ji_char_len(s->data + at, s->len - at);
    return at;
}

size_t ji_count_chars(const struct ji_str *s)
{
    size_t n = 0;
    for (size_t at = 0; at < s->len; n++) {
        at += ji_char_len(s->data + at, s->len - at);
    }
    return n;
}

/* --------------------------------------------------- lists, dictionaries */

struct ji_value ji_list_new(struct ji *c, size_t room)
{
    struct ji_list *l = ji_alloc(c, sizeof *l);
    struct ji_store *s = ji_alloc(c, sizeof *s);
    if (!l || !s) return ji_undefined(NULL);
    if (room) {
        s->v = ji_array(c, room, sizeof *s->v);
        if (!s->v) return ji_undefined(NULL);
        s->cap = room;
    }
    l->store = s;
    return (struct ji_value){.kind = JI_LIST, .list = l};
}

void ji_list_push(struct ji *c, struct ji_list *l, struct ji_value v)
{
    if (!l || !ji_tick(c, 1)) return;
    struct ji_store *s = l->store;
    if (l->at + l->n != s->used) { /* somebody else's items follow ours */
        if (!ji_tick(c, l->n / 8)) return;
        struct ji_store *own = ji_alloc(c, sizeof *own);
        if (!own) return;
        own->v = ji_array(c, 2 * l->n + 4, sizeof *own->v);
        if (!own->v) return;
        memcpy(own->v, s->v + l->at, l->n * sizeof *own->v);
        own->cap = 2 * l->n + 4;
        own->used = l->n;
        l->store = s = own;
        l->at = 0;
    }
    struct ji_value *items = ji_grow(c, s->v, s->used, &s->cap, sizeof *s->v);
    if (!items) return;
    s->v = items;
    s->v[s->used++] = v;
    l->n++;
}

struct ji_value ji_list_at(const struct ji_list *l, size_t i)
{
    return l->store->v[l->at + i];
}

struct ji_value ji_list_slice(struct ji *c, struct ji_value v, size_t at,
                              size_t n)
{
    struct ji_list *l = ji_alloc(c, sizeof *l);
    if (!l) return ji_undefined(NULL);
    *l = *v.list;
    l->at += at;
    l->n = n;
    v.list = l;
    return v;
}

struct ji_value ji_dict_new(struct ji *c, enum ji_kind kind)
{
    struct ji_dict *d = ji_alloc(c, sizeof *d);
    if (!d) return ji_undefined(NULL);
    return (struct ji_value){.kind = kind, .dict = d};
}

struct ji_value *ji_dict_find(struct ji *c, struct ji_dict *d,
                              struct ji_value key)
{
    if (!d || !ji_tick(c, d->n / 8)) return NULL;
    for (size_t i = 0; i < d->n; i++) {
        if (ji_equal(c, d->e[i].key, key)) return &d->e[i].value;
    }
    return NULL;
}

struct ji_value *ji_dict_find_text(struct ji *c, struct ji_dict *d,
                                   const char *key)
{
    const struct ji_str s = {.data = key, .len = strlen(key)};
    return ji_dict_find(c, d, ji_string(&s));
}

void ji_dict_set(struct ji *c, struct ji_dict *d, struct ji_value key,
                 struct ji_value value)
{
    if (key.kind == JI_LIST || key.kind == JI_DICT) {
        ji_fail(c, ST_INVALID, "%s cannot be a key", ji_kind_name(key));
    }
    struct ji_value *there = ji_dict_find(c, d, key);
    if (c->st != ST_OK) return;
    if (there) {
        *there = value;
        return;
    }
    struct ji_entry *e = ji_grow(c, d->e, d->n, &d->cap, sizeof *d->e);
    if (!e) return;
    d->e = e;
    d->e[d->n++] = (struct ji_entry){key, value};
}

/* --------------------------------------------------------------- order */

const char *ji_kind_name(struct ji_value v)
{
    static const char *const names[] = {
        [JI_UNDEFINED] = "an undefined value",
        [JI_ABSENT] = "nothing",
        [JI_NONE] = "none",
        [JI_BOOL] = "a boolean",
        [JI_INT] = "an integer",
        [JI_FLOAT] = "a float",
        [JI_STRING] = "a string",
        [JI_LIST] = "a list",
        [JI_DICT] = "a mapping",
        [JI_NAMESPACE] = "a namespace",
        [JI_MACRO] = "a macro",
        [JI_GLOBAL] = "a function",
        [JI_METHOD] = "a method",
    };
    return names[v.kind];
}

bool ji_truth(struct ji_value v)
{
    switch (v.kind) {
    case JI_UNDEFINED:
    case JI_ABSENT:
    case JI_NONE:
        return false;
    case JI_BOOL:
        return v.b;
    case JI_INT:
        return v.i != 0;
    case JI_FLOAT:
        return v.f < 0 || v.f > 0 || v.f != v.f;
    case JI_STRING:
        return v.s->len > 0;
    case JI_LIST:
        return v.list->n > 0;
    case JI_DICT:
        return v.dict->n > 0;
    case JI_NAMESPACE:
    case JI_MACRO:
    case JI_GLOBAL:
    case JI_METHOD:
        break;
    }
    return true;
}

bool ji_is_number(struct ji_value v)
{
    return v.kind == JI_BOOL || v.kind == JI_INT || v.kind == JI_FLOAT;
}

double ji_number(struct ji_value v)
{
    if (v.kind == JI_FLOAT) return v.f;
    return v.kind == JI_BOOL ? (double)v.b : (double)v.i;
}

static int64_t whole(struct ji_value v)
{
    return v.kind == JI_BOOL ? v.b : v.i;
}

static bool equal_dicts(struct ji *c, struct ji_dict *a, struct ji_dict *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        const struct ji_value *other = ji_dict_find(c, b, a->e[i].key);
        if (!other || !ji_equal(c, a->e[i].value, *other)) return false;
    }
    return true;
}

static bool equal_lists(struct ji *c, const struct ji_list *a,
                        const struct ji_list *b)
{
    if (a->n != b->n || a->tuple != b->tuple) return false;
    for (size_t i = 0; i < a->n; i++) {
        if (!ji_equal(c, ji_list_at(a, i), ji_list_at(b, i))) return false;
    }
    return true;
}

static bool equal_deep(struct ji *c, struct ji_value a, struct ji_value b)
{
    bool equal = false;
    if (ji_tick(c, 1) && ji_enter(c)) {
        equal = a.kind == JI_LIST ? equal_lists(c, a.list, b.list)
                                  : equal_dicts(c, a.dict, b.dict);
        ji_leave(c);
    }
    return equal;
}

bool ji_equal(struct ji *c, struct ji_value a, struct ji_value b)
{
    if (ji_is_number(a) && ji_is_number(b)) {
        if (a.kind == JI_FLOAT || b.kind == JI_FLOAT) {
            const double x = ji_number(a), y = ji_number(b);
            return x <= y && x >= y;
        }
        return whole(a) == whole(b);
    }
    if (a.kind != b.kind) return false;
    switch (a.kind) {
    case JI_STRING:
        return ji_tick(c, a.s->len / 64) && ji_str_eq(a.s, b.s);
    case JI_LIST:
    case JI_DICT:
        return equal_deep(c, a, b);
    case JI_NAMESPACE:
        return a.dict == b.dict;
    case JI_MACRO:
        return a.macro == b.macro;
    case JI_GLOBAL:
        return a.global == b.global;
    case JI_METHOD:
        return a.bound == b.bound;
    case JI_UNDEFINED:
    case JI_ABSENT:
    case JI_NONE:
    case JI_BOOL:
    case JI_INT:
    case JI_FLOAT:
        break;
    }
    return true;
}

static int compare_str(const struct ji_str *a, const struct ji_str *b)
{
    const size_t n = a->len < b->len ? a->len : b->len;
    const int diff = n ? memcmp(a->data, b->data, n) : 0;
    return diff ? diff : (a->len > b->len) - (a->len < b->len);
}

static int compare_lists(struct ji *c, const struct ji_list *a,
                         const struct ji_list *b)
{
    int diff = 0;
    if (!ji_enter(c)) return 0;
    for (size_t i = 0; i < a->n && i < b->n && !diff && c->st == ST_OK; i++) {
        if (!ji_equal(c, ji_list_at(a, i), ji_list_at(b, i))) {
            diff = ji_compare(c, ji_list_at(a, i), ji_list_at(b, i));
            break;
        }
    }
    ji_leave(c);
    return diff ? diff : (a->n > b->n) - (a->n < b->n);
}

int ji_compare(struct ji *c, struct ji_value a, struct ji_value b)
{
    if (!ji_tick(c, 1)) return 0;
    if (ji_is_number(a) && ji_is_number(b)) {
        if (a.kind == JI_FLOAT || b.kind == JI_FLOAT) {
            const double x = ji_number(a), y = ji_number(b);
            return (x > y) - (x < y);
        }
        return (whole(a) > whole(b)) - (whole(a) < whole(b));
    }
    if (a.kind == JI_STRING && b.kind == JI_STRING) {
        return ji_tick(c, a.s->len / 64) ? compare_str(a.s, b.s) : 0;
    }
    if (a.kind == JI_LIST && b.kind == JI_LIST) {
        return compare_lists(c, a.list, b.list);
    }
    ji_fail(c, ST_INVALID, "%s and %s have no order", ji_kind_name(a),
            ji_kind_name(b));
    return 0;
}

static bool contains_text(struct ji *c, const struct ji_str *in,
                          const struct ji_str *what)
{
    if (what->len == 0) return true;
    if (what->len > in->len || !ji_tick(c, in->len / 16)) return false;
    const char *p = in->data, *last = in->data + (in->len - what->len);
    while (p <= last) {
        p = memchr(p, what->data[0], (size_t)(last - p) + 1);
        if (!p || !ji_tick(c, what->len / 64)) return false;
        if (memcmp(p, what->data, what->len) == 0) return true;
        p++;
    }
    return false;
}

bool ji_contains(struct ji *c, struct ji_value in, struct ji_value what)
{
    if (in.kind == JI_STRING && what.kind == JI_STRING) {
        return contains_text(c, in.s, what.s);
    }
    if (in.kind == JI_DICT) return ji_dict_find(c, in.dict, what) != NULL;
    if (in.kind == JI_LIST) {
        if (!ji_tick(c, in.list->n / 8)) return false;
        for (size_t i = 0; i < in.list->n && c->st == ST_OK; i++) {
            if (ji_equal(c, ji_list_at(in.list, i), what)) return true;
        }
        return false;
    }
    if (in.kind == JI_UNDEFINED) return false;
    ji_fail(c, ST_INVALID, "%s is not in %s: that holds nothing",
            ji_kind_name(what), ji_kind_name(in));
    return false;
}

/* ------------------------------------------------------- going over one */

static void push_chars(struct ji *c, struct ji_list *l, const struct ji_str *s)
{
    for (size_t at = 0; at < s->len && c->st == ST_OK;) {
        const size_t n = ji_char_len(s->data + at, s->len - at);
        ji_list_push(c, l, ji_string(ji_str_slice(c, s, at, at + n)));
        at += n;
    }
}

struct ji_list *ji_iterate(struct ji *c, struct ji_value v)
{
    if (v.kind == JI_LIST) return v.list;
    if (v.kind != JI_STRING && v.kind != JI_DICT && v.kind != JI_UNDEFINED) {
        ji_fail(c, ST_INVALID, "%s cannot be gone over", ji_kind_name(v));
        return NULL;
    }
    const struct ji_value list =
        ji_list_new(c, v.kind == JI_DICT ? v.dict->n : 0);
    if (c->st != ST_OK) return NULL;
    if (v.kind == JI_STRING) push_chars(c, list.list, v.s);
    for (size_t i = 0; v.kind == JI_DICT && i < v.dict->n; i++) {
        ji_list_push(c, list.list, v.dict->e[i].key);
    }
    return c->st == ST_OK ? list.list : NULL;
}

/* ---------------------------------------------------------------- JSON */

static struct ji_value json_text(struct ji *c, const char *s, size_t n,
                                 bool input)
{
    return ji_string(ji_str_new(c, s, n, input));
}

static struct ji_value from_object(struct ji *c, const json_t *json, bool input)
{
    struct ji_value v = ji_dict_new(c, JI_DICT);
    /* jansson's iterators take a pointer that they do not write through */
    union {
        const json_t *in;
        json_t *out;
    } o = {json};
    if (c->st != ST_OK) return v;
    const size_t n = json_object_size(json);
    v.dict->e = ji_array(c, n, sizeof *v.dict->e);
    v.dict->cap = n;
    for (void *i = json_object_iter(o.out);
         i && c->st == ST_OK && ji_tick(c, 1);
         i = json_object_iter_next(o.out, i)) {
        const char *key = json_object_iter_key(i);
        const struct ji_value k = json_text(c, key, strlen(key), input);
        const struct ji_value item =
            ji_from_json(c, json_object_iter_value(i), input);
        /* keys of one object differ */
        if (c->st == ST_OK && v.dict->n < n) {
            v.dict->e[v.dict->n++] = (struct ji_entry){k, item};
        }
    }
    return v;
}

struct ji_value ji_from_json(struct ji *c, const json_t *json, bool input)
{
    struct ji_value v = ji_none();
    if (!ji_enter(c)) return v;
    if (json_is_string(json)) {
        v = json_text(c, json_string_value(json), json_string_length(json),
                      input);
    } else if (json_is_integer(json)) {
        v = ji_int(json_integer_value(json));
    } else if (json_is_real(json)) {
        v = ji_float(json_real_value(json));
    } else if (json_is_boolean(json)) {
        v = ji_bool(json_is_true(json));
    } else if (json_is_array(json)) {
        const size_t n = json_array_size(json);
        v = ji_list_new(c, n);
        for (size_t i = 0; i < n && c->st == ST_OK; i++) {
            ji_list_push(c, v.list,
                         ji_from_json(c, json_array_get(json, i), input));
        }
    } else if (json_is_object(json)) {
        v = from_object(c, json, input);
    }
    v.input = input;
    ji_leave(c);
    return v;
}

#include "engine/kv.h"

#include <assert.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/act.h"
#include "engine/quant_f16.h"

#define NOWHERE UINT32_MAX

struct sequence {
    uint64_t id;
    uint32_t n_pos;
    bool used;
    bool begun; /* by kv_extend, and not touched by kv_apply since */
    /* for kv_retract: the extension at this position copied that page */
    uint32_t copied_at, copied_from;
};

struct kv {
    struct kv_shape shape;
    char *data;         /* [n_pages][n_layers][2][n_head_kv][32][row] */
    size_t row_bytes;   /* of one head */
    size_t head_bytes;  /* 32 positions of one head */
    size_t plane_bytes; /* K or V of one layer */
    size_t page_bytes;
    uint32_t *count; /* [n_pages] lists a page stands in */
    uint32_t *free;  /* stack of free pages */
    uint32_t n_free;
    uint32_t list_len;     /* pages of the longest sequence */
    uint32_t *lists;       /* [n_seq_max][list_len] */
    struct sequence *seqs; /* [n_seq_max] */
};

static const char *const type_names[KV_TYPE_END] = {
    [KV_F32] = "f32", [KV_F16] = "f16", [KV_Q8_0] = "q8_0"};

const char *kv_type_name(enum kv_type type)
{
    return type_names[type];
}

bool kv_type_by_name(const char *name, enum kv_type *out)
{
    for (size_t i = 0; i < COUNT_OF(type_names); i++) {
        if (strcasecmp(name, type_names[i]) == 0) {
            *out = (enum kv_type)i;
            return true;
        }
    }
    return false;
}

enum status kv_type_check(enum kv_type type, uint32_t head_dim,
                          struct error *err)
{
    if (type != KV_Q8_0 || head_dim % 32 == 0) return ST_OK;
    return error_set(err, ST_USAGE,
                     "--kv q8_0 stores blocks of 32, but the model's heads "
                     "have %u elements: --kv f16",
                     head_dim);
}

size_t kv_row_bytes(enum kv_type type, uint32_t head_dim)
{
    if (type == KV_Q8_0) {
        return (size_t)(head_dim / 32) * sizeof(struct block_q8_0);
    }
    return head_dim * (type == KV_F32 ? sizeof(float) : sizeof(uint16_t));
}

uint64_t kv_page_bytes(const struct kv_shape *s)
{
    /* limits of model.h keep this far below 2^64 */
    return (uint64_t)2 * s->n_layers * s->n_head_kv * KV_PAGE *
           kv_row_bytes(s->type, s->head_dim);
}

uint64_t kv_bytes(const struct kv_shape *s)
{
    size_t pages, lists;
    if (!size_mul(kv_page_bytes(s), s->n_pages, &pages) ||
        !size_mul((size_t)s->n_seq_max * sizeof(uint32_t), kv_pages(s->n_ctx),
                  &lists) ||
        !size_add(pages, lists, &pages) ||
        !size_add(pages, (size_t)s->n_pages * 2 * sizeof(uint32_t), &pages) ||
        !size_add(pages, s->n_seq_max * sizeof(struct sequence), &pages) ||
        !size_add(pages, sizeof(struct kv), &pages)) {
        return UINT64_MAX;
    }
    return pages;
}

/* Blocks of one head are far apart, and each would miss the TLB: the whole
 * pages of [p, p + n) as huge ones, where the system has them. */
static void want_huge_pages(char *p, size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t skip = (page - (uintptr_t)p % page) % page;
    if (n < skip + page) return;
    /* only a wish */
    (void)madvise(p + skip, (n - skip) / page * page, MADV_HUGEPAGE);
}

enum status kv_create(struct kv **out, const struct kv_shape *shape,
                      struct error *err)
{
    const enum status st = kv_type_check(shape->type, shape->head_dim, err);
    if (st != ST_OK) return st;
    struct kv *kv = mem_zalloc(sizeof *kv);
    if (!kv) return error_set(err, ST_NO_MEMORY, "key/value cache");
    kv->shape = *shape;
    kv->row_bytes = kv_row_bytes(shape->type, shape->head_dim);
    kv->head_bytes = KV_PAGE * kv->row_bytes;
    kv->plane_bytes = shape->n_head_kv * kv->head_bytes;
    kv->page_bytes = (size_t)kv_page_bytes(shape);
    kv->list_len = kv_pages(shape->n_ctx);
    size_t bytes;
    if (size_mul(kv->page_bytes, shape->n_pages, &bytes)) {
        kv->data = mem_alloc(bytes);
        if (kv->data) want_huge_pages(kv->data, bytes);
    }
    /* the tables are zeroed, so touched: not for a pool that is not to be had
     */
    if (!kv->data ||
        !(kv->count = mem_zalloc_array(shape->n_pages, sizeof *kv->count)) ||
        !(kv->free = mem_zalloc_array(shape->n_pages, sizeof *kv->free)) ||
        !(kv->seqs = mem_zalloc_array(shape->n_seq_max, sizeof *kv->seqs)) ||
        !(kv->lists = mem_zalloc_array((size_t)shape->n_seq_max * kv->list_len,
                                       sizeof *kv->lists))) {
        kv_free(kv);
        return error_set(err, ST_NO_MEMORY,
                         "key/value cache of %u pages: %llu bytes are not to "
                         "be had; a smaller --ctx needs less",
                         shape->n_pages, (unsigned long long)kv_bytes(shape));
    }
    /* lowest page on top of the stack */
    for (uint32_t i = 0; i < shape->n_pages; i++) {
        kv->free[i] = shape->n_pages - 1 - i;
    }
    kv->n_free = shape->n_pages;
    *out = kv;
    return ST_OK;
}

void kv_free(struct kv *kv)
{
    if (!kv) return;
    mem_free(kv->data);
    mem_free(kv->count);
    mem_free(kv->free);
    mem_free(kv->seqs);
    mem_free(kv->lists);
    mem_free(kv);
}

uint32_t kv_find(const struct kv *kv, uint64_t seq)
{
    for (uint32_t i = 0; i < kv->shape.n_seq_max; i++) {
        if (kv->seqs[i].used && kv->seqs[i].id == seq) return i;
    }
    return UINT32_MAX;
}

static uint32_t unused_slot(const struct kv *kv)
{
    for (uint32_t i = 0; i < kv->shape.n_seq_max; i++) {
        if (!kv->seqs[i].used) return i;
    }
    return UINT32_MAX;
}

static uint32_t *list_of(const struct kv *kv, uint32_t handle)
{
    return kv->lists + (size_t)handle * kv->list_len;
}

uint32_t kv_length(const struct kv *kv, uint64_t seq)
{
    const uint32_t i = kv_find(kv, seq);
    return i == UINT32_MAX ? 0 : kv->seqs[i].n_pos;
}

uint32_t kv_free_pages(const struct kv *kv)
{
    return kv->n_free;
}

uint32_t kv_n_sequences(const struct kv *kv)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < kv->shape.n_seq_max; i++) n += kv->seqs[i].used;
    return n;
}

static uint32_t take_page(struct kv *kv)
{
    const uint32_t page = kv->free[--kv->n_free];
    kv->count[page] = 1;
    return page;
}

static void drop_page(struct kv *kv, uint32_t page)
{
    if (--kv->count[page] == 0) kv->free[kv->n_free++] = page;
}

/* Keep the first n positions. */
static void shorten(struct kv *kv, uint32_t handle, uint32_t n)
{
    struct sequence *s = &kv->seqs[handle];
    uint32_t *list = list_of(kv, handle);
    for (uint32_t i = kv_pages(n); i < kv_pages(s->n_pos); i++) {
        drop_page(kv, list[i]);
    }
    s->n_pos = n;
}

static enum status fork_sequence(struct kv *kv, const struct kv_op *op,
                                 struct error *err)
{
    const uint32_t from = kv_find(kv, op->source);
    if (from == UINT32_MAX) {
        return error_set(err, ST_NOT_FOUND, "fork: no sequence %llu",
                         (unsigned long long)op->source);
    }
    if (kv_find(kv, op->seq) != UINT32_MAX || op->n == 0 ||
        op->n > kv->seqs[from].n_pos) {
        return error_set(err, ST_INVALID,
                         "fork of %u positions of sequence %llu (which has "
                         "%u) into %llu",
                         op->n, (unsigned long long)op->source,
                         kv->seqs[from].n_pos, (unsigned long long)op->seq);
    }
    const uint32_t to = unused_slot(kv);
    if (to == UINT32_MAX) {
        return error_set(err, ST_FULL, "all %u sequences are in use",
                         kv->shape.n_seq_max);
    }
    kv->seqs[to] = (struct sequence){
        .id = op->seq, .n_pos = op->n, .used = true, .copied_at = NOWHERE};
    for (uint32_t i = 0; i < kv_pages(op->n); i++) {
        const uint32_t page = list_of(kv, from)[i];
        list_of(kv, to)[i] = page;
        kv->count[page]++;
    }
    return ST_OK;
}

enum status kv_apply(struct kv *kv, const struct kv_op *op, struct error *err)
{
    if (op->kind == KV_OP_FORK) return fork_sequence(kv, op, err);
    const uint32_t i = kv_find(kv, op->seq);
    if (op->kind == KV_OP_FREE) {
        if (i == UINT32_MAX) return ST_OK;
        shorten(kv, i, 0);
        kv->seqs[i].used = false;
        return ST_OK;
    }
    if (i == UINT32_MAX) {
        return error_set(err, ST_NOT_FOUND, "truncate: no sequence %llu",
                         (unsigned long long)op->seq);
    }
    if (op->n > kv->seqs[i].n_pos) {
        return error_set(err, ST_INVALID,
                         "truncate sequence %llu to %u: it has %u positions",
                         (unsigned long long)op->seq, op->n, kv->seqs[i].n_pos);
    }
    shorten(kv, i, op->n);
    kv->seqs[i].begun = false;
    return ST_OK;
}

enum status kv_extend(struct kv *kv, uint64_t seq, uint32_t first, uint32_t n,
                      struct error *err)
{
    uint32_t i = kv_find(kv, seq);
    const uint32_t length = i == UINT32_MAX ? 0 : kv->seqs[i].n_pos;
    if (n == 0 || first != length || n > kv->shape.n_ctx - length) {
        return error_set(err, ST_INVALID,
                         "positions %u to %u of sequence %llu: it has %u, and "
                         "the limit is %u",
                         first, first + n, (unsigned long long)seq, length,
                         kv->shape.n_ctx);
    }
    const bool begin = i == UINT32_MAX;
    if (begin) i = unused_slot(kv);
    if (i == UINT32_MAX) {
        return error_set(err, ST_FULL, "all %u sequences are in use",
                         kv->shape.n_seq_max);
    }
    uint32_t *list = list_of(kv, i);
    const uint32_t have = kv_pages(length), want = kv_pages(length + n);
    const bool copy = length % KV_PAGE != 0 && kv->count[list[have - 1]] > 1;
    if (want - have + copy > kv->n_free) {
        return error_set(err, ST_FULL,
                         "key/value cache: %u pages needed, %u free",
                         want - have + copy, kv->n_free);
    }
    if (begin) {
        kv->seqs[i] = (struct sequence){
            .id = seq, .used = true, .begun = true, .copied_at = NOWHERE};
    }
    if (kv->seqs[i].copied_at == length) kv->seqs[i].copied_at = NOWHERE;
    if (copy) {
        const uint32_t shared = list[have - 1];
        kv->seqs[i].copied_at = length;
        kv->seqs[i].copied_from = shared;
        list[have - 1] = take_page(kv);
        memcpy(kv->data + list[have - 1] * kv->page_bytes,
               kv->data + shared * kv->page_bytes, kv->page_bytes);
        drop_page(kv, shared);
    }
    for (uint32_t p = have; p < want; p++) list[p] = take_page(kv);
    kv->seqs[i].n_pos = length + n;
    return ST_OK;
}

void kv_retract(struct kv *kv, uint64_t seq, uint32_t first)
{
    const uint32_t i = kv_find(kv, seq);
    assert(i != UINT32_MAX && first <= kv->seqs[i].n_pos);
    struct sequence *s = &kv->seqs[i];
    shorten(kv, i, first);
    if (s->copied_at == first) { /* nothing was stored in the copy */
        uint32_t *last = &list_of(kv, i)[kv_pages(first) - 1];
        drop_page(kv, *last);
        *last = s->copied_from;
        kv->count[*last]++;
        s->copied_at = NOWHERE;
    }
    if (first == 0 && s->begun) s->used = false;
}

static size_t offset_of(const struct kv *kv, uint32_t handle, uint32_t layer,
                        uint32_t plane, uint32_t head, uint32_t pos)
{
    const uint32_t page = list_of(kv, handle)[pos / KV_PAGE];
    return page * kv->page_bytes +
           (2 * (size_t)layer + plane) * kv->plane_bytes +
           head * kv->head_bytes;
}

static void store_head(const struct kv *kv, const struct vec_ops *vec, char *to,
                       const float *x)
{
    const uint32_t dim = kv->shape.head_dim;
    if (kv->shape.type == KV_F32) {
        memcpy(to, x, dim * sizeof *x);
        return;
    }
    if (kv->shape.type == KV_Q8_0) {
        for (uint32_t i = 0; i < dim / 32; i++) {
            struct act_q8_0 a;
            vec->act_quantize(ACT_Q8_0, x + 32 * (size_t)i, 32, &a);
            struct block_q8_0 b = {.d = f32_to_f16_inline(a.d)};
            memcpy(b.qs, a.q, sizeof b.qs);
            memcpy(to + i * sizeof b, &b, sizeof b);
        }
        return;
    }
    vec->to_f16((uint16_t *)(void *)to, x, dim);
}

void kv_store(const struct kv *kv, const struct vec_ops *vec, uint32_t handle,
              uint32_t layer, uint32_t pos, const float *k, const float *v)
{
    const size_t row = pos % KV_PAGE * kv->row_bytes;
    for (uint32_t h = 0; h < kv->shape.n_head_kv; h++) {
        const size_t at = h * (size_t)kv->shape.head_dim;
        char *to = kv->data + offset_of(kv, handle, layer, 0, h, pos) + row;
        store_head(kv, vec, to, k + at);
        store_head(kv, vec, to + kv->plane_bytes, v + at);
    }
}

const void *kv_k(const struct kv *kv, uint32_t handle, uint32_t layer,
                 uint32_t head, uint32_t pos)
{
    return kv->data + offset_of(kv, handle, layer, 0, head, pos);
}

const void *kv_v(const struct kv *kv, uint32_t handle, uint32_t layer,
                 uint32_t head, uint32_t pos)
{
    return kv->data + offset_of(kv, handle, layer, 1, head, pos);
}

bool kv_check(const struct kv *kv)
{
    uint32_t used = 0, listed = 0, counted = 0;
    for (uint32_t p = 0; p < kv->shape.n_pages; p++) {
        used += kv->count[p] != 0;
        counted += kv->count[p];
    }
    for (uint32_t i = 0; i < kv->shape.n_seq_max; i++) {
        if (!kv->seqs[i].used) continue;
        const uint32_t n = kv_pages(kv->seqs[i].n_pos);
        listed += n;
        for (uint32_t p = 0; p < n; p++) {
            const uint32_t page = list_of(kv, i)[p];
            if (page >= kv->shape.n_pages || kv->count[page] == 0) return false;
        }
    }
    for (uint32_t i = 0; i < kv->n_free; i++) {
        if (kv->count[kv->free[i]] != 0) return false;
    }
    return counted == listed && used + kv->n_free == kv->shape.n_pages;
}
